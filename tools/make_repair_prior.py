"""Make the prior of volscen.repair: a library of simulated surfaces, compressed, and the intervals calibrated with it.

    python tools/make_repair_prior.py [--out FILE] [--surfaces 40000] [--calibration 2400] [--intervals-only]

writes python/volscen/data/repair_prior.safetensors. The same arguments give the same library; what linear algebra
rounds may differ in the last digits between machines. It takes about ten minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from volscen import _repair
from volscen._files import write_safetensors
from volscen._repair import _prior
from volscen._repair._analogue import Analogues
from volscen._repair._base import Observations, Predictor, quote_noise
from volscen._repair._free import project_surfaces
from volscen._repair._gated import Gated
from volscen._repair._global import GaussianProcess
from volscen._repair._intervals import Calibration, calibrate
from volscen._repair._linear import make_linear
from volscen._repair._pipeline import widened_misfit
from volscen._repair._prior import Prior, compress, quantise, restore, width
from volscen._repair._slices import make_essvi, make_slices
from volscen.sources.simulate import simulate_smiles
from volscen.surface._spline import SplineBasis

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: A week to three years. Strikes reach 1.6 times the root of time, and less beyond a month: as far as prices of the
#: calmest surfaces still differ from zero.
TAU = np.array([7 / 365, 0.03, 0.045, 0.06, 0.08, 0.115, 0.16, 0.21, 0.28, 0.36, 0.46, 0.58, 0.72, 0.88, 1.06, 1.27])
TAU = np.append(TAU, [1.5, 1.75, 2.05, 2.45, 3.0])
HALF = np.array([0.047, 0.093, 0.144, 0.198, 0.256, 0.318, 0.388, 0.466, 0.551, 0.645, 0.746, 0.854, 0.979, 1.118])
HALF = np.append(HALF, [1.274, 1.429, 1.6])
U = np.concatenate([-HALF[::-1], [0.0], HALF])

SHARES = {"ssvi": 0.45, "sabr": 0.20, "svi": 0.15, "merton": 0.08, "heston": 0.12}
COMPONENTS, FINE = 56, 10

#: Grids on which intervals are calibrated, and by how many surfaces in twelve.
GRIDS = (
    (np.linspace(0.08, 2.0, 13), np.linspace(-0.45, 0.45, 17), 6),
    (np.array([30, 60, 91, 122, 152, 182, 273, 365]) / 365, np.log(np.linspace(0.7, 1.3, 10)), 3),
    (np.array([14, 30, 60, 91, 182]) / 365, np.linspace(-0.2, 0.15, 11), 3),
)


def draw_surfaces(n: int, seed: int, shares: Mapping[str, float] = SHARES) -> FloatArray:
    """ln(volatility) at the nodes of n surfaces in a fixed order of families, shape (n, J, I)."""
    parts = [_family(name, round(n * share), seed + i) for i, (name, share) in enumerate(shares.items())]
    return np.concatenate(parts)


def _family(name: str, n: int, seed: int) -> FloatArray:
    root = np.sqrt(TAU)
    w = np.empty((n, TAU.size, U.size))
    for j, years in enumerate(TAU):
        k = U * width(root[j : j + 1])
        # Strikes differ from time to time, so each time is drawn by itself: a draw is the same surface on any grid.
        drawn = simulate_smiles(n, families={name: 1.0}, tau=[years], log_moneyness=k, seed=seed)
        w[:, j] = drawn.total_variance.isel(tau=0).values
        if j:
            before = U * width(root[j - 1 : j])
            shared = (k >= before[0]) & (k <= before[-1])
            w[:, j, shared] = np.maximum(w[:, j, shared], w[:, j - 1] @ SplineBasis.over(before).at(k[shared]).T)
    return np.asarray(np.log(w / TAU[:, None]) / 2)


def core() -> FloatArray:
    """Weight of an error at each node: where quotes are."""
    k = np.abs(U) * width(np.sqrt(TAU))[:, None]
    return np.where((k < 0.55) & ((TAU > 0.05) & (TAU < 2.5))[:, None], 1.0, 0.05)


def masks(n: int, shape: tuple[int, int], sparse: bool, rng: np.random.Generator) -> BoolArray:
    """Random patterns of quotes: about half of the points with a ragged wing, or a fifth with whole regions empty."""
    rows, columns = shape
    middle, out = columns // 2, np.zeros((n, rows, columns), dtype=bool)
    for mask in out:
        low, high = (0.15, 0.26) if sparse else (0.36, 0.52)
        mask[:] = rng.random(shape) < rng.uniform(low, high)
        empty = rng.integers(columns // 4, columns // 2) if sparse else rng.integers(1, columns // 4 + 1)
        side = slice(0, empty) if rng.random() < 0.5 else slice(-empty, None)
        if sparse:
            mask[:, side] = False
            if rng.random() < 0.6:
                mask[: rng.integers(1, rows // 3 + 1)] = False
            if rng.random() < 0.45:
                mask[-rng.integers(1, rows // 3 + 1) :] = False
            mask[rng.random(rows) < 0.6, middle] = True
            mask[rng.integers(0, rows, 8), rng.integers(0, columns, 8)] = True
        else:
            mask[:, middle - 1 : middle + 2] |= rng.random((rows, 3)) < 0.7
            if rng.random() < 0.5:
                mask[rng.choice(rows, rng.integers(1, rows // 2 + 1), replace=False), side] = False
    return out


def calibrations(prior: Prior, n: int, seed: int) -> dict[str, Calibration]:
    """Intervals of every method, from surfaces of other seeds than the library's."""
    plain = GaussianProcess(prior)
    methods: dict[str, Predictor] = {
        "default": Gated(prior),
        "analogues": Analogues(prior),
        "global": plain,
        "linear": make_linear(),
        "svi": make_slices(),
        "essvi": make_essvi(),
    }
    rng = np.random.default_rng(seed)
    scores: dict[str, list[tuple[FloatArray, ...]]] = {name: [] for name in methods}
    for part, (tau, k, share) in enumerate(GRIDS):
        count = n * share // 12
        w = simulate_smiles(count, tau=tau, log_moneyness=k, seed=seed + part).total_variance.values
        truth = np.sqrt(w / tau[:, None]).reshape(count, -1)
        years, strikes = np.repeat(tau, k.size), np.tile(k, tau.size)
        error = quote_noise(years, strikes)
        for sparse in (False, True):
            rows = slice(0, count // 2) if sparse else slice(count // 2, None)
            vol = truth[rows]
            mask = masks(len(vol), (tau.size, k.size), sparse, rng).reshape(len(vol), -1)
            quoted = np.where(mask, vol + error * rng.standard_normal(vol.shape), np.nan)
            level = np.where(mask, quoted, 0.2)
            observed = Observations(years, strikes, (tau.size, k.size), np.log(quoted), error / level)
            usual = plain.predict(observed)
            for name, method in methods.items():
                found = method.predict(observed)
                sd = np.where(np.isnan(found.sd), usual.sd, found.sd)
                misfit = widened_misfit(usual.misfit if found.misfit is None else found.misfit, mask.sum(axis=1))
                shape = (len(vol), tau.size, k.size)
                mean = np.exp(found.mean).reshape(shape)
                free = project_surfaces(mean, mean * sd.reshape(shape), tau, np.exp(k), "density").implied_vol
                wrong = np.log(vol / free.reshape(vol.shape))
                scores[name].append((wrong, sd, misfit, ~mask))
                print(name, tau.size, "sparse" if sparse else "regular", rmse(wrong, vol, mask), flush=True)
    return {name: _pooled(parts) for name, parts in scores.items()}


def rmse(wrong: FloatArray, vol: FloatArray, mask: BoolArray) -> float:
    """Mean over surfaces of the root mean square error in vol where there was no quote."""
    error = np.where(mask, 0, vol * (1 - np.exp(-wrong))) ** 2
    return float(np.mean(np.sqrt(error.sum(axis=1) / (~mask).sum(axis=1))))


def _pooled(parts: list[tuple[FloatArray, ...]]) -> Calibration:
    return calibrate([wrong for wrong, *_ in parts], *([p[i] for p in parts] for i in (1, 2, 3)))


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path(_repair.__file__).parents[1] / "data" / "repair_prior.safetensors"
    )
    parser.add_argument("--surfaces", type=int, default=40_000)
    parser.add_argument("--calibration", type=int, default=2_400)
    parser.add_argument("--intervals-only", action="store_true", help="keep the library of the file that there is")
    arguments = parser.parse_args()
    if arguments.intervals_only:
        arrays = {name: values for name, values in load_file(arguments.out).items() if "/" not in name}
    else:
        prior = compress(draw_surfaces(arguments.surfaces, seed=1), np.sqrt(TAU), U, COMPONENTS, core())
        arrays = quantise(prior, FINE)
    for name, found in calibrations(restore(arrays), arguments.calibration, seed=1_000).items():
        arrays[f"intervals/{name}/log_sd"] = found.log_sd
        arrays[f"intervals/{name}/width"] = found.width
        arrays[f"intervals/{name}/unusual"] = np.array([found.unusual])
    about = {
        "version": _prior.VERSION,
        "surfaces": arguments.surfaces,
        "calibration": arguments.calibration,
        "shares": SHARES,
    }
    write_safetensors(arguments.out, arrays, json.dumps(about))
    print(arguments.out, arguments.out.stat().st_size)


if __name__ == "__main__":
    main()

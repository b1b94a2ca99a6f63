"""A library of smiles: a random mixture of families, drawn in blocks that are keyed by the seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._array import float_array, increasing_positive
from volscen._cache import load_cached, store_cached
from volscen._numbers import bounded_number, whole_number
from volscen._tenors import to_years
from volscen.errors import InputError
from volscen.sources._smile_families import FAMILIES

__all__ = ["LOG_MONEYNESS", "TAU", "simulate_smiles"]

FloatArray = npt.NDArray[np.float64]

#: Default grid: 13 times to expiry from 29 days to two years, 17 strikes from 64 to 157% of the forward.
TAU = np.linspace(0.08, 2.0, 13)
LOG_MONEYNESS = np.linspace(-0.45, 0.45, 17)

_TIMES = (0.99 / 365, 30.0)
_BLOCK = 256
#: Of the sequence of surfaces that a seed gives: to be raised with any change of it, so that no old cache is read.
_REVISION = 2
_FEATURES = 24
#: Below this share of surfaces kept, dropping those with arbitrage is refused.
_FEWEST = 0.02


class _Plan(NamedTuple):
    seed: int
    shares: tuple[float, ...]
    tau: FloatArray
    log_moneyness: FloatArray
    perturb: float
    drop: bool

    def key(self) -> dict[str, Any]:
        """What determines the surfaces, for the cache."""
        plan = self._asdict() | {"tau": self.tau.tolist(), "log_moneyness": self.log_moneyness.tolist()}
        return plan | {"shares": list(self.shares), "families": list(FAMILIES), "revision": _REVISION}


def simulate_smiles(
    n: int,
    *,
    families: Mapping[str, float] | None = None,
    tau: npt.ArrayLike | None = None,
    log_moneyness: npt.ArrayLike | None = None,
    perturb: float = 0.65,
    arbitrage: Literal["keep", "drop"] = "keep",
    first: int = 0,
    seed: int | np.random.Generator | None = None,
    cache: bool = False,
) -> xr.Dataset:
    """Draw random volatility surfaces from a mixture of families of smiles.

    Parameters
    ----------
    n : int
        Number of surfaces, at least 1.
    families : dict of str to float or None
        Share of each family, in any unit; those left out have none. None gives 45% SSVI (``ssvi``), 20% SABR
        (``sabr``), 15% raw SVI (``svi``), 8% Merton's jump diffusion (``merton``) and 12% Heston (``heston``).
    tau : array_like or None
        Times to expiry in years, or tenors such as "3M", increasing, from a day to 30 years; 13 from 0.08 to 2 by
        default.
    log_moneyness : array_like or None
        k = ln(K/F), increasing; 17 from -0.45 to 0.45 by default.
    perturb : float
        Share of the surfaces whose vols are multiplied by a random smooth function, from 0 to 1: its logarithm is
        Gaussian with a standard deviation of 0.5 to 5% and lengths of 0.25 to 1.2 in the root of time, 0.25 to 1 in k.
    arbitrage : {"keep", "drop"}
        Whether to leave out surfaces whose discrete Durrleman function is negative somewhere on the grid.
    first : int
        Number of surfaces of the sequence to skip: pieces put together are the bits of one call.
    seed : int, numpy.random.Generator or None
        The same seed gives the same sequence of surfaces, of which every n is a prefix.
    cache : bool
        Whether to keep the surfaces on disk, and read them from there if they are: in the folder that the environment
        variable ``VOLSCEN_CACHE`` names, or the user's own for caches. Needs an integer seed and ``first`` 0.

    Returns
    -------
    xarray.Dataset
        ``total_variance(surface, tau, log_moneyness)`` in float64, w = vol^2 tau; ``durrleman(surface)``, the least of
        the discrete Durrleman function at interior strikes; coordinate ``family(surface)``. The attribute
        ``arbitrage_share`` is the share of these surfaces with a negative one.

    Raises
    ------
    InputError
        If an argument is out of its range, or the grid reaches where some price is below the smallest number.

    Notes
    -----
    Ranges are those that equity indices, single stocks and currency pairs show: ``docs/repair.md`` lists them. Total
    variance is made nondecreasing in tau by a running maximum, which few surfaces need. Of the families SABR, SVI and
    wide SSVI can have butterfly arbitrage, and any perturbed one; Merton's and Heston's own surfaces have none.

    Examples
    --------
    >>> from volscen.sources.simulate import simulate_smiles
    >>> smiles = simulate_smiles(4, families={"ssvi": 1, "merton": 1}, seed=1)
    >>> dict(smiles.sizes), smiles.family.values.tolist()
    ({'surface': 4, 'tau': 13, 'log_moneyness': 17}, ['merton', 'merton', 'ssvi', 'merton'])
    """
    count = whole_number("n", n)
    skipped = whole_number("first", first, least=0)
    plan = _Plan(
        _seed(seed),
        _shares(families),
        *_grid(tau, log_moneyness),
        bounded_number("perturb", perturb, 0, 1, ends="[]"),
        _drop(arbitrage),
    )
    if cache and (skipped or not isinstance(seed, (int, np.integer))):
        raise InputError("cache needs an integer seed and first=0: other surfaces have no name to be kept under")
    found = load_cached("smiles", plan.key()) if cache else None
    if found is None or len(found["label"]) < count:
        found = _surfaces(plan, skipped, skipped + count)
        if cache:
            store_cached("smiles", plan.key(), found)
    label, w, least = (found[name][:count] for name in ("label", "total_variance", "durrleman"))
    return _dataset(plan, label, w, least)


def _surfaces(plan: _Plan, start: int, stop: int) -> dict[str, npt.NDArray[Any]]:
    """Surfaces start to stop of the sequence."""
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    # Without dropping, blocks before the first one wanted need not be drawn.
    block = 0 if plan.drop else start // _BLOCK
    have = begin = block * _BLOCK
    while have < stop:
        label, w, least = _draw_block(plan, block)
        block += 1
        if plan.drop:
            free = least >= 0
            label, w, least = label[free], w[free], least[free]
        have += len(label)
        if have - begin < _FEWEST * block * _BLOCK:
            raise InputError(
                f"arbitrage='drop' keeps fewer than {100 * _FEWEST:g}% of these surfaces; lower perturb, choose other "
                "families or a coarser grid"
            )
        parts.append((label, w, least))
    label, w, least = (np.concatenate(column)[start - begin : stop - begin] for column in zip(*parts, strict=True))
    return {"label": label, "total_variance": w, "durrleman": least}


def _draw_block(plan: _Plan, block: int) -> tuple[npt.NDArray[np.int8], FloatArray, FloatArray]:
    """Draw labels (n,), total variances (n, J, I) and least Durrleman functions (n,) of a block."""
    rng = np.random.default_rng(np.random.SeedSequence([plan.seed, block]))
    label = rng.choice(len(plan.shares), _BLOCK, p=plan.shares).astype(np.int8)
    w = np.empty((_BLOCK, plan.tau.size, plan.log_moneyness.size))
    for number, family in enumerate(FAMILIES.values()):
        own = label == number
        # Each family has its own stream: what one draws moves no other.
        (stream,) = rng.spawn(1)
        if own.any():
            w[own] = family.draw(stream, int(own.sum()), plan.tau, plan.log_moneyness)
    chosen = rng.random(_BLOCK) < plan.perturb
    w *= np.exp(2 * np.where(chosen[:, None, None], _field(rng, plan), 0.0))
    w = np.maximum.accumulate(w, axis=1)
    return label, w, least_durrleman(w, plan.log_moneyness)


def _field(rng: np.random.Generator, plan: _Plan) -> FloatArray:
    """Smooth Gaussian fields in (root of time, k), (n, J, I), by random Fourier features (Rahimi and Recht 2007)."""
    n = _BLOCK

    def log_uniform(low: float, high: float) -> FloatArray:
        return np.asarray(np.exp(rng.uniform(np.log(low), np.log(high), (n, 1))))

    size, length_time, length_k = log_uniform(0.005, 0.05), log_uniform(0.25, 1.2), log_uniform(0.25, 1.0)
    frequency = rng.standard_normal((2, n, _FEATURES))
    phase = rng.uniform(0, 2 * np.pi, (n, _FEATURES))
    along = (frequency[0] / length_time)[..., None] * np.sqrt(plan.tau) + phase[..., None]
    across = (frequency[1] / length_k)[..., None] * plan.log_moneyness
    # cos(x + y), summed over features
    field = np.einsum("nfj,nfi->nji", np.cos(along), np.cos(across))
    field -= np.einsum("nfj,nfi->nji", np.sin(along), np.sin(across))
    return np.asarray(field * (size * np.sqrt(2 / _FEATURES))[..., None])


def least_durrleman(w: FloatArray, k: FloatArray) -> FloatArray:
    """Least discrete Durrleman function of surfaces (..., J, I) at interior strikes; infinite if there are none."""
    if k.size < 3:
        return np.full(w.shape[:-2], np.inf)
    left, right = np.diff(k)[:-1], np.diff(k)[1:]
    middle = w[..., 1:-1]
    before, after = (middle - w[..., :-2]) / left, (w[..., 2:] - middle) / right
    first = (right * before + left * after) / (left + right)
    second = 2 * (after - before) / (left + right)
    g = (1 - k[1:-1] * first / (2 * middle)) ** 2 - first**2 / 4 * (1 / middle + 0.25) + second / 2
    return np.asarray(g.min(axis=(-2, -1)))


def _dataset(plan: _Plan, label: npt.NDArray[Any], w: FloatArray, least: FloatArray) -> xr.Dataset:
    dims = ("surface", "tau", "log_moneyness")
    share = float((least < 0).mean())
    return xr.Dataset(
        {
            "total_variance": (dims, w, {"long_name": "total implied variance, vol^2 tau", "units": "1"}),
            "durrleman": (
                "surface",
                least,
                {"long_name": "least discrete Durrleman function at interior strikes", "units": "1"},
            ),
        },
        coords={
            "tau": ("tau", plan.tau, {"long_name": "time to expiry", "units": "year"}),
            "log_moneyness": (
                "log_moneyness",
                plan.log_moneyness,
                {"long_name": "logarithm of strike over forward, ln(K/F)", "units": "1"},
            ),
            "family": ("surface", np.array(list(FAMILIES))[label], {"long_name": "family of smiles"}),
        },
        attrs={
            "title": "SIMULATED surfaces of total implied variance",
            "source": f"simulated: mixture of {', '.join(_named(plan.shares))}, seed {plan.seed}",
            "perturbed_share": plan.perturb,
            "arbitrage_share": share,
        },
    )


def _named(shares: tuple[float, ...]) -> list[str]:
    return [f"{100 * share:.3g}% {name}" for name, share in zip(FAMILIES, shares, strict=True) if share > 0]


def _drop(arbitrage: Any) -> bool:
    if not isinstance(arbitrage, str) or arbitrage not in ("keep", "drop"):
        raise InputError(f"arbitrage must be 'keep' or 'drop', not {arbitrage!r}")
    return arbitrage == "drop"


def _seed(seed: Any) -> int:
    if seed is None or isinstance(seed, np.random.Generator):
        return int(np.random.default_rng(seed).integers(2**63))
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**63:
        raise InputError(f"seed must be an integer from 0 to 2^63 - 1, a numpy Generator or None, not {seed!r}")
    return int(seed)


def _shares(families: Any) -> tuple[float, ...]:
    if families is None:
        return tuple(family.share for family in FAMILIES.values())
    known = ", ".join(FAMILIES)
    if not isinstance(families, Mapping) or not families:
        raise InputError(f"families must map names to shares, not be {families!r}; there are {known}")
    unknown = [name for name in families if name not in FAMILIES]
    if unknown:
        raise InputError(f"families has no {unknown[0]!r}; there are {known}")
    shares = np.array([float_array("families", families.get(name, 0.0)) for name in FAMILIES])
    if shares.ndim != 1 or not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise InputError(f"families must have shares that are finite, zero or more, one above zero: {dict(families)}")
    return tuple((shares / shares.sum()).tolist())


def _grid(tau: npt.ArrayLike | None, log_moneyness: npt.ArrayLike | None) -> tuple[FloatArray, FloatArray]:
    years = increasing_positive("tau", to_years("tau", TAU if tau is None else tau))
    if not (_TIMES[0] <= years[0] and years[-1] <= _TIMES[1]):
        raise InputError("tau must lie between a day (1/365) and 30 years: beyond, these smiles mean nothing")
    k = np.ascontiguousarray(float_array("log_moneyness", LOG_MONEYNESS if log_moneyness is None else log_moneyness))
    if k.ndim != 1 or k.size == 0 or not (np.isfinite(k).all() and (np.diff(k) > 0).all()):
        raise InputError("log_moneyness must have one dimension and be finite and strictly increasing")
    return years, k

"""Surfaces to repair: a published 2 x 2 test drawn afresh, and smiles that are in nobody's library.

FOR EVALUATION ONLY. Nothing here may be used to train, tune or calibrate anything in the package, whose library of
smiles (`volscen.sources.simulate.simulate_smiles`) knows neither the event smiles nor the regimes below. The 2 x 2 is
the article "Deep Learning for Volatility Surface Repair", written anew from its description.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volscen import black
from volscen.sources._smiles import LOG_MONEYNESS as K
from volscen.sources._smiles import TAU

__all__ = ["MASKS", "SMILES", "TAU", "Cell", "K", "draw_cell", "masks", "noise_sd", "observe", "stale"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Rng = np.random.Generator

_J, _I = TAU.size, K.size


@dataclass(frozen=True)
class Cell:
    """Surfaces (n, J, I) on the grid of 13 x 17: truth, what is observed, and observations (NaN elsewhere)."""

    name: str
    truth: FloatArray
    mask: BoolArray
    observed: FloatArray

    def head(self, n: int) -> Cell:
        """The first n surfaces."""
        return Cell(self.name, self.truth[:n], self.mask[:n], self.observed[:n])


def noise_sd() -> FloatArray:
    """Standard deviation of a quoted vol, (J, I): 18 basis points, more in the wings and for short times."""
    wings = 1 + 1.5 * np.abs(K) / np.abs(K).max()
    front = 1 + 0.6 * (TAU.max() - TAU) / np.ptp(TAU)
    return np.asarray(0.0018 * wings * front[:, None])


def observe(truth: FloatArray, mask: BoolArray, rng: Rng) -> FloatArray:
    """Noisy vols where the mask is true, NaN elsewhere."""
    noisy = np.clip(truth + noise_sd() * rng.standard_normal(truth.shape), 0.03, 2.0)
    return np.where(mask, noisy, np.nan)


def shifted_ssvi(rng: Rng, n: int) -> FloatArray:
    """Vols of SSVI surfaces of wide ranges, 45% with a bump of variance around one maturity."""
    s = TAU / TAU.max()
    theta0, slope, curve = rng.uniform([0.006, 0.012, -0.015], [0.045, 0.095, 0.020], (n, 3)).T
    rho, eta, gamma = rng.uniform([-0.88, 0.35, 0.08], [-0.05, 2.10, 0.78], (n, 3)).T
    theta = theta0[:, None] + slope[:, None] * s + curve[:, None] * s**2
    theta = np.maximum.accumulate(np.maximum(theta, 0.004), axis=1)[..., None]
    r = rho[:, None, None]
    z = eta[:, None, None] * theta ** -gamma[:, None, None] * K
    w = theta / 2 * (1 + r * z + np.sqrt((z + r) ** 2 + 1 - r**2))
    centre = rng.integers(2, _J - 2, n)[:, None]
    size = rng.uniform(0.0015, 0.0045, n) * (rng.random(n) < 0.45)
    bump = size[:, None] * np.exp(-0.5 * ((np.arange(_J) - centre) / 0.8) ** 2)
    w += bump[..., None] * (1 + 0.4 * np.tanh(4 * K))
    return np.asarray(np.sqrt(np.maximum(w, 1e-4) / TAU[:, None]))


def event_smiles(rng: Rng, n: int) -> FloatArray:
    """Vols quadratic in k with a cubic wing, noisy by maturity; 75% with an event: a bump and kinks."""
    base, decay, long = rng.uniform([0.13, 0.03, 0.05], [0.29, 0.12, 0.13], (n, 3)).T[..., None]
    skew, fade, convex, wing = rng.uniform([-0.52, 0.1, 0.25, -0.12], [-0.10, 1.2, 0.95, 0.18], (n, 4)).T[..., None]
    money = long + base * np.exp(-4 * decay * TAU) + 0.002 * rng.standard_normal((n, _J))
    slope = skew * np.exp(-fade * TAU) + 0.025 * rng.standard_normal((n, _J))
    bend = convex / np.sqrt(TAU + 0.3) + 0.03 * rng.standard_normal((n, _J))
    happens = (rng.random(n) < 0.75)[:, None]
    away = np.arange(_J) - rng.integers(1, _J - 2, n)[:, None]
    money = money + happens * rng.uniform(0.015, 0.055, n)[:, None] * np.exp(-0.5 * (away / 0.65) ** 2)
    height = happens * (np.abs(away) <= 1) * rng.uniform(0.010, 0.030, (n, _J))
    tent = np.maximum(0, 1 - np.abs(K - rng.uniform(-0.12, 0.12, (n, _J, 1))) / 0.12)
    vol = money[..., None] + slope[..., None] * K + bend[..., None] * K**2
    vol += wing[..., None] * np.maximum(K, 0) ** 3 + height[..., None] * tent
    w = np.clip(vol, 0.04, 1.2) ** 2 * TAU[:, None]
    return np.asarray(np.sqrt(np.maximum(np.maximum.accumulate(w, axis=1), 1e-4) / TAU[:, None]))


def regimes(rng: Rng, n: int) -> FloatArray:
    """Vols of mixtures of two or three lognormal laws, after a first jump: no static arbitrage, two humps at times.

    A verdict is due at once, after which the price is a martingale with the regime's own term structure of variance.
    """
    count = 3
    share = rng.dirichlet([4.0, 2.0, 1.0], n)
    share[:, 2] *= rng.random(n) < 0.5
    share /= share.sum(axis=1, keepdims=True)
    jump = np.exp(rng.normal([0.02, -0.08, 0.0], [0.05, 0.08, 0.12], (n, count)))
    jump /= (share * jump).sum(axis=1, keepdims=True)
    start, end = (np.exp(rng.normal(np.log(0.22), 0.4, (n, count))) ** 2 for _ in range(2))
    speed = np.exp(rng.uniform(np.log(0.5), np.log(5), (n, count)))[..., None]
    relax = -np.expm1(-speed * TAU) / speed
    width = np.sqrt(end[..., None] * (TAU - relax) + start[..., None] * relax)
    call = K >= 0
    value = np.zeros((n, _J, _I))
    for i in range(count):
        forward = jump[:, i, None, None]
        value += share[:, i, None, None] * black.price(forward, np.exp(K), 1.0, width[:, i, :, None], call)
    vol, status = black.implied_vol(value, 1.0, np.exp(K), TAU[:, None], call)
    assert (status == black.ImpliedVolStatus.OK).all()
    return np.asarray(vol)


def regular(rng: Rng) -> BoolArray:
    """Observe half of the grid: scattered quotes, a denser middle, some stripes, at times a wing deleted."""
    middle = _I // 2
    seen = rng.random((_J, _I)) < rng.uniform(0.34, 0.46)
    seen[:, middle - 1 : middle + 2] |= rng.random((_J, 3)) < 0.74
    for row in rng.choice(_J, rng.integers(1, 4), replace=False):
        seen[row, rng.choice(_I, rng.integers(4, 8), replace=False)] = True
    for column in rng.choice(_I, rng.integers(1, 3), replace=False):
        seen[rng.choice(_J, rng.integers(4, 9), replace=False), column] = True
    if rng.random() < 0.55:
        lower = rng.random() < 0.5
        wing = np.arange(rng.integers(2, 5)) if lower else np.arange(rng.integers(_I - 5, _I - 2), _I)
        seen[np.ix_(rng.choice(_J, rng.integers(3, 8), replace=False), wing)] = False
    return seen


def adversarial(rng: Rng) -> BoolArray:
    """Observe less than a fifth: a wing gone, often the first or last maturities, a thin middle, a few anchors."""
    middle = _I // 2
    seen = rng.random((_J, _I)) < rng.uniform(0.16, 0.25)
    seen[:, middle] |= rng.random(_J) < rng.uniform(0.55, 0.82)
    for column in rng.choice(middle + np.array([-2, -1, 1, 2]), rng.integers(1, 3), replace=False):
        seen[rng.choice(_J, rng.integers(3, 7), replace=False), column] = True
    if rng.random() < 0.5:
        seen[:, : rng.integers(4, 7)] = False
    else:
        seen[:, rng.integers(_I - 7, _I - 4) :] = False
    if rng.random() < 0.65:
        seen[: rng.integers(2, 5)] = False
    if rng.random() < 0.45:
        seen[rng.integers(_J - 5, _J - 2) :] = False
    for _ in range(rng.integers(6, 12)):
        seen[rng.integers(_J), rng.integers(_I)] = True
    seen[:, middle] |= rng.random(_J) < 0.35
    return seen


SMILES = {"ssvi": shifted_ssvi, "event": event_smiles, "regimes": regimes}
MASKS = {"regular": regular, "adversarial": adversarial}


def masks(kind: str, n: int, rng: Rng) -> BoolArray:
    """Masks (n, J, I) of one regime, each with 18 quotes at least."""
    out = np.stack([MASKS[kind](rng) for _ in range(n)])
    for seen in out:
        if seen.sum() < 18:
            seen.ravel()[rng.choice(seen.size, 18, replace=False)] = True
    return out


def draw_cell(smiles: str | FloatArray, kind: str, n: int, seed: int, name: str = "") -> Cell:
    """Draw a cell: a family of :data:`SMILES`, or vols given (n, J, I), under one regime of masks."""
    rng = np.random.default_rng([seed, len(kind)])
    truth = SMILES[smiles](rng, n) if isinstance(smiles, str) else smiles[:n]
    seen = masks(kind, len(truth), rng)
    return Cell(name or f"{smiles} {kind}", truth, seen, observe(truth, seen, rng))


def stale(cell: Cell, rng: Rng, share: float = 0.08) -> tuple[Cell, BoolArray]:
    """The cell with some quotes moved by 50 to 110 basis points of vol either way, and which they are."""
    moved = np.zeros(cell.mask.shape, dtype=bool)
    for own, seen in zip(moved, cell.mask, strict=True):
        at = np.flatnonzero(seen)
        own.ravel()[rng.choice(at, max(1, int(share * at.size)), replace=False)] = True
    shift = rng.choice([-1.0, 1.0], moved.shape) * rng.uniform(0.005, 0.011, moved.shape)
    observed = np.maximum(cell.observed + np.where(moved, shift, 0), 0.03)
    return Cell(cell.name, cell.truth, cell.mask, observed), moved

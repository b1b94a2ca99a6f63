"""Sequential quadratic programming: the nearest surface without arbitrage on its grid, Durrleman's g positive too.

Everything is in s = sigma sqrt(tau), in which distance is quadratic and calendar order linear. Conditions on prices
and on g are linearised; each programme is solved by clarabel within a trust region.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen import arbitrage, black
from volscen._projection import ProjectionStatus
from volscen.surface._derivatives import durrleman_on_grid
from volscen.surface._judge import durrleman

__all__ = ["LEAST_G", "is_free", "project_with_density", "smallest_g"]

FloatArray = npt.NDArray[np.float64]

#: Durrleman's g that projected surfaces have at least, at inner grid points.
LEAST_G = 2e-4

#: What programmes aim at, so that rounding does not spoil what is promised.
_AIM_G = 1.02 * LEAST_G

_MAX_PROGRAMMES = 60
_FIRST_RADIUS, _LEAST_RADIUS = 0.5, 1e-7
#: Relative change of s, or of the objective, at which a surface has come to rest.
_AT_REST = 1e-7
_TOP_VARIANCE = 36.0


def smallest_g(implied_vol: npt.NDArray[Any], tau: FloatArray, moneyness: FloatArray) -> FloatArray:
    """Smallest g at inner points of surfaces (n, J, I); infinity where there is no inner point."""
    if moneyness.size < 3:
        return np.full(len(implied_vol), np.inf)
    w = implied_vol.astype(np.float64) ** 2 * tau[:, None]
    g, _ = durrleman_on_grid(np.log(moneyness), w)
    return np.asarray(g[..., 1:-1].min(axis=(1, 2)))


def is_free(implied_vol: npt.NDArray[Any], tau: FloatArray, moneyness: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether surfaces (n, J, I) are free of static arbitrage on the grid and have g of at least LEAST_G."""
    _, status = arbitrage.project(implied_vol, tau, moneyness)
    return np.asarray((status == ProjectionStatus.FREE) & (smallest_g(implied_vol, tau, moneyness) >= LEAST_G))


@dataclass(frozen=True)
class _Lines:
    """Linearised conditions at some s: value + matrix d >= 0, each row in units of s."""

    value: FloatArray
    entries: FloatArray
    slack: FloatArray


class _Grid:
    """Conditions on surfaces of one grid; sparse, with one pattern for all."""

    def __init__(self, tau: FloatArray, moneyness: FloatArray) -> None:
        self.tau, self.moneyness = tau, moneyness
        self.k = np.log(moneyness)
        self.rows, self.columns = tau.size, moneyness.size
        self.cells = self.rows * self.columns

    @cached_property
    def stencils(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Weights (I - 2, 3) of the first and second derivative in k, and of the convexity in K/F."""
        left, right = np.diff(self.k)[:-1], np.diff(self.k)[1:]
        both = left + right
        first = np.stack([-right / (left * both), (right - left) / (left * right), left / (right * both)], axis=1)
        second = 2 * np.stack([1 / (left * both), -1 / (left * right), 1 / (right * both)], axis=1)
        a, b = 1 / np.diff(self.moneyness)[:-1], 1 / np.diff(self.moneyness)[1:]
        return first, second, np.stack([a, -a - b, b], axis=1)

    @cached_property
    def pattern(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
        """Row and column of every entry, and the number of rows: convexity, g, both ends, calendar."""
        cell = np.arange(self.cells).reshape(self.rows, self.columns)
        three = np.stack([cell[:, :-2], cell[:, 1:-1], cell[:, 2:]], axis=-1).reshape(-1, 3)
        ends = np.concatenate([cell[:, :2], cell[:, -2:]])
        if self.columns == 1:
            ends = np.empty((0, 2), dtype=np.int64)
        later = np.stack([cell[:-1].ravel(), cell[1:].ravel()], axis=1)
        groups = [three, three, ends, later]
        count = np.cumsum([0, *(len(group) for group in groups)])
        row = [np.repeat(np.arange(n, n + len(g)), g.shape[1]) for n, g in zip(count[:-1], groups, strict=True)]
        return np.concatenate(row), np.concatenate([g.ravel() for g in groups]), int(count[-1])

    @cached_property
    def _intrinsic(self) -> FloatArray:
        """Slope of the intrinsic value of calls between strikes."""
        m = self.moneyness
        slope = np.diff(np.maximum(1 - m, 0)) / np.diff(m)
        slope[m[1:] <= 1] = -1.0
        return slope

    def linearise(self, s: FloatArray, rounding: float) -> _Lines:
        """Conditions and their derivatives at s (J, I); ``slack`` is what rounding of s may take from each."""
        first, second, convex = self.stencils
        m = self.moneyness
        calls = np.broadcast_to(m >= 1, s.shape)
        v, dv = black.price(1.0, m, 1.0, s, calls), black.vega(1.0, m, 1.0, s)
        windows = [np.stack([x[:, :-2], x[:, 1:-1], x[:, 2:]], axis=-1) for x in (s, v, dv)]
        s3, v3, dv3 = windows
        convexity = (convex * v3).sum(axis=-1) + np.diff(self._intrinsic)
        w3 = s3**2
        w, k = w3[..., 1], self.k[1:-1]
        w1, w2 = (first * w3).sum(axis=-1), (second * w3).sum(axis=-1)
        a = 1 - k * w1 / (2 * w)
        g = durrleman(k, w, w1, w2)
        by_first = -a * k / w - w1 / 2 * (1 / w + 0.25)
        by_level = a * k * w1 / w**2 + w1**2 / (4 * w**2)
        slope_g = by_first[..., None] * first + second / 2
        slope_g[..., 1] += by_level
        step = np.diff(m)
        if self.columns > 1:
            ends = np.concatenate(
                [
                    (v[:, 1] - v[:, 0]) / step[0] + 1 + self._intrinsic[0],
                    (v[:, -2] - v[:, -1]) / step[-1] - self._intrinsic[-1],
                ]
            )
            ends_by = np.concatenate([dv[:, :2] * [-1, 1] / step[0], dv[:, -2:] * [1, -1] / step[-1]])
        else:
            ends, ends_by = np.empty(0), np.empty((0, 2))
        later = np.diff(s, axis=0).ravel()
        value = np.concatenate([convexity.ravel(), (g - _AIM_G).ravel(), ends, later])
        groups = [
            (convex * dv3).reshape(-1, 3),
            (slope_g * 2 * s3).reshape(-1, 3),
            ends_by,
            np.broadcast_to([-1.0, 1.0], (later.size, 2)),
        ]
        scale = np.concatenate([np.abs(group).max(axis=1, initial=0.0) for group in groups])
        scale = np.where(scale > 1e-250, scale, 1.0)
        entries = np.concatenate([group.ravel() for group in groups])
        row, column, count = self.pattern
        entries = entries / scale[row]
        slack = rounding * np.bincount(row, np.abs(entries) * s.ravel()[column], minlength=count)
        return _Lines(value / scale, entries, np.asarray(slack, dtype=np.float64))


def project_with_density(
    implied_vol: FloatArray,
    tau: FloatArray,
    moneyness: FloatArray,
    *,
    single: bool,
    vega_floor: float,
    weight: FloatArray | None = None,
) -> tuple[npt.NDArray[Any], ProjectionStatus]:
    """Nearest surface to one that is not free, and what became of it.

    Parameters
    ----------
    implied_vol : ndarray, shape (J, I)
        Positive.
    tau, moneyness : ndarray
    single : bool
        Whether the result will be held in single precision.
    vega_floor : float
        As for :func:`volscen.arbitrage.project`.
    weight : ndarray, shape (J, I), optional
        Positive, of the squared change of every volatility; squared vegas, floored, when omitted.
    """
    grid = _Grid(tau, moneyness)
    root = np.sqrt(tau)[:, None]
    if weight is None:
        vega = black.vega(1.0, moneyness, tau[:, None], implied_vol)
        weight = np.maximum(vega, vega_floor * vega.max()) ** 2
    weight = weight / root**2
    weight = weight / weight.max()
    target = implied_vol * root
    start, _ = arbitrage.project(implied_vol, tau, moneyness, vega_floor=vega_floor)
    kind = np.float32 if single else np.float64
    s = np.where(np.isfinite(start), start, implied_vol) * root
    rounding = 1.5e-7 if single else 1e-14
    for _ in range(4):
        s, rested = _minimise(grid, target, weight, s, rounding)
        found = (s / root).astype(kind)
        mended, status = arbitrage.project(found, tau, moneyness, vega_floor=vega_floor)
        if status <= ProjectionStatus.NOT_CONVERGED and smallest_g(mended[None], tau, moneyness)[0] >= LEAST_G:
            return mended, ProjectionStatus.PROJECTED if rested else ProjectionStatus.NOT_CONVERGED
        rounding *= 10
    return _towards_flat(s / root, tau, moneyness, kind), ProjectionStatus.NOT_CONVERGED


def _minimise(
    grid: _Grid, target: FloatArray, weight: FloatArray, s: FloatArray, rounding: float
) -> tuple[FloatArray, bool]:
    """Sequential quadratic programming from s; whether it came to rest."""
    price = np.zeros(grid.pattern[2])
    radius = _FIRST_RADIUS
    lines = grid.linearise(s, rounding)
    for _ in range(_MAX_PROGRAMMES):
        step, dual = _programme(grid, lines, weight, target, s, radius)
        price = np.maximum(2 * dual, price / 2)
        moved = s + step
        ahead = grid.linearise(moved, rounding)

        def merit(at: FloatArray, value: FloatArray, price: FloatArray = price) -> float:
            return float(0.5 * (weight * (at - target) ** 2).sum() + (price * np.maximum(-value, 0)).sum())

        here = merit(s, lines.value - lines.slack)
        row, column, count = grid.pattern
        linear = lines.value + np.bincount(row, lines.entries * step.ravel()[column], minlength=count)
        hoped = here - merit(moved, linear - lines.slack)
        gained = here - merit(moved, ahead.value - ahead.slack)
        size = float(np.abs(step / s).max())
        if gained >= 0.1 * hoped or hoped <= 1e-12 * here + 1e-22:
            s, lines = moved, ahead
            if size <= _AT_REST or hoped <= 1e-9 * here:
                return s, True
            radius = max(radius, 2 * size) if gained > 0.7 * hoped else radius
        else:
            radius = 0.3 * min(radius, size)
            if radius < _LEAST_RADIUS:
                return s, False
    return s, False


def _programme(
    grid: _Grid, lines: _Lines, weight: FloatArray, target: FloatArray, s: FloatArray, radius: float
) -> tuple[FloatArray, FloatArray]:
    """Step that minimises the distance under the linearised conditions, and their multipliers.

    Conditions that no step meets are relaxed together, by a share that costs more than any distance.
    """
    import clarabel
    from scipy import sparse

    n, (row, column, count) = grid.cells, grid.pattern
    size = s.ravel()
    room = lines.value - lines.slack
    short = np.maximum(-room, 0.0)
    # Unknowns: the step in units of s, and the share by which broken conditions stay broken.
    broken, each = np.flatnonzero(short > 0), np.arange(n)
    entries = np.concatenate([-lines.entries * size[column], -short[broken], np.ones(n), -np.ones(n), [1.0, -1.0]])
    at_row = np.concatenate([row, broken, count + each, count + n + each, count + 2 * n + np.arange(2)])
    at_column = np.concatenate([column, np.full(broken.size, n), each, each, [n, n]])
    matrix = sparse.csc_matrix((entries, (at_row, at_column)), shape=(count + 2 * n + 2, n + 1))
    bound = np.concatenate([room, np.full(2 * n, radius), [1.0, 0.0]])
    curve = weight.ravel() * size**2
    unit = curve.max()
    pull = weight.ravel() * (size - target.ravel()) * size
    options = clarabel.DefaultSettings()
    options.verbose = False
    options.direct_solve_method = "qdldl"  # one thread: the same bits on every machine's number of cores
    options.tol_gap_abs = options.tol_gap_rel = 1e-10
    options.tol_feas = 1e-12
    solution = clarabel.DefaultSolver(
        sparse.diags_array([*(curve / unit), 0.0], format="csc"),
        np.append(pull / unit, 1e3),
        matrix,
        bound,
        [clarabel.NonnegativeConeT(bound.size)],
        options,
    ).solve()
    step = np.asarray(solution.x)[:n]
    dual = np.asarray(solution.z)[:count] * unit
    return np.asarray((step * size).reshape(s.shape)), np.maximum(dual, 0.0)


def _towards_flat(
    implied_vol: FloatArray, tau: FloatArray, moneyness: FloatArray, kind: type[np.floating[Any]]
) -> npt.NDArray[Any]:
    """Free surface on the way from a flat one in moneyness, which is always free, to the one given."""
    # Prices no longer tell total variances apart that are much above the limit.
    level = np.minimum(np.maximum.accumulate((implied_vol**2).mean(axis=1) * tau), _TOP_VARIANCE)
    level = level * (1 + 1e-6) ** np.arange(tau.size)
    flat = np.sqrt(level / tau)[:, None] * np.ones(moneyness.size)
    best: npt.NDArray[Any] = flat.astype(kind)
    low, high = 0.0, 1.0
    for _ in range(30):
        share = (low + high) / 2
        trial = ((1 - share) * flat + share * implied_vol).astype(kind)
        if is_free(trial[None], tau, moneyness)[0]:
            best, low = trial, share
        else:
            high = share
    return best

"""The nearest surface without static arbitrage by sequential quadratic programming with clarabel, in plain prices.

An oracle for tests and benchmarks: conditions are linearised in prices, from the surface given and with no
restoration of feasibility, under an exact penalty; only the problem is shared with the kernel.
"""

from __future__ import annotations

from typing import Any

import clarabel
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import ndtr

Array = NDArray[np.float64]


def values(s: Array, moneyness: Array) -> tuple[Array, Array]:
    """Out-of-the-money values per unit of forward at s = sigma sqrt(tau), and their derivatives."""
    k = np.abs(np.log(moneyness))
    d1 = -k / s + s / 2
    lo = np.minimum(1, moneyness)
    return lo * (ndtr(d1) - np.exp(k) * ndtr(d1 - s)), lo * np.exp(-d1 * d1 / 2) / np.sqrt(2 * np.pi)


def vega(vol: Array, tau: Array, moneyness: Array, floor: float) -> Array:
    root = np.sqrt(tau)[:, np.newaxis]
    size = values(vol * root, moneyness)[1] * root
    return np.maximum(size, floor * size.max())


def objective(
    vol: Array, start: Array, tau: Array, moneyness: Array, floor: float = 1e-3, *, each: bool = False
) -> Any:
    """Sum of vega^2 times squared changes of vol; with `each` its terms."""
    terms = (vega(start, tau, moneyness, floor) * (vol - start)) ** 2
    return terms if each else float(terms.sum())


def slopes_and_kinks(rows: int, moneyness: Array) -> tuple[Array, Array]:
    """G and h of the conditions G v >= h along moneyness: first slope, convexity, last slope."""
    n = moneyness.size
    step = 1 / np.diff(moneyness)
    slope = np.zeros((n - 1, n))
    slope[np.arange(n - 1), np.arange(n - 1)], slope[np.arange(n - 1), np.arange(1, n)] = -step, step
    intrinsic = slope @ np.maximum(1 - moneyness, 0)
    one = np.vstack([slope[:1], np.diff(slope, axis=0), -slope[-1:]])
    bound = np.r_[-1 - intrinsic[0], -np.diff(intrinsic), intrinsic[-1]]
    bound[np.abs(bound) < 1e-13] = 0
    return np.kron(np.eye(rows), one), np.tile(bound, rows)


def sequential_clarabel(
    start: Array, tau: Array, moneyness: Array, floor: float = 1e-3, *, iterations: int = 60, tolerance: float = 1e-9
) -> Array:
    """Minimise the objective; raises where a programme is not solved."""
    root = np.sqrt(tau)[:, np.newaxis]
    weight = ((vega(start, tau, moneyness, floor) / root) ** 2).ravel()
    weight /= weight.max()
    s0 = (start * root).ravel()
    m, cells, columns = np.tile(moneyness, tau.size), start.size, moneyness.size
    g, h = slopes_and_kinks(tau.size, moneyness) if columns > 1 else (np.zeros((0, cells)), np.zeros(0))
    calendar = (np.eye(cells, k=columns) - np.eye(cells))[: cells - columns]
    options = clarabel.DefaultSettings()
    options.verbose = False
    options.tol_gap_abs, options.tol_gap_rel, options.tol_feas = 1e-14, 1e-10, 1e-12
    s, multiplier = s0.copy(), np.zeros(h.size)
    for _ in range(iterations):
        v, slope = values(s, m)
        bend = slope * (np.log(m) ** 2 / s**3 - s / 4)
        hessian = np.maximum(weight - (g.T @ multiplier) * bend, 0.2 * weight)
        conditions = np.vstack([g * slope, calendar])
        room = np.r_[g @ v - h, calendar @ s]
        scale = np.abs(conditions).max(axis=1)
        solution = clarabel.DefaultSolver(
            sparse.csc_matrix(np.diag(hessian)),
            weight * (s - s0),
            sparse.csc_matrix(-conditions / scale[:, np.newaxis]),
            room / scale,
            [clarabel.NonnegativeConeT(room.size)],
            options,
        ).solve()
        if "Solved" not in str(solution.status):
            raise RuntimeError(f"clarabel: {solution.status}")
        step, dual = np.array(solution.x), np.array(solution.z) / scale
        multiplier = dual[: h.size]

        def merit(x: Array, dual: Array = dual) -> float:
            shortfall = np.maximum(-np.r_[g @ values(x, m)[0] - h, calendar @ x], 0)
            return float(0.5 * (weight * (x - s0) ** 2).sum() + ((2 * dual + 1e-12) * shortfall).sum())

        length, here = min(1.0, 0.5 / np.abs(step / s).max()), merit(s)
        while length > 1e-4 and merit(s + length * step) > here * (1 + 1e-9) + 1e-18:
            length /= 2
        s = s + length * step
        if np.abs(step / s).max() < tolerance:
            break
    return s.reshape(start.shape) / root

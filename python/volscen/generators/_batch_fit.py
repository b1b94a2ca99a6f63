"""Many small least-squares problems at once: Levenberg-Marquardt with bounds, one damping for each problem."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["fit_batch"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

_FIRST_DAMPING, _LAST_DAMPING = 1e-2, 1e8


def fit_batch(
    evaluate: Callable[[FloatArray, IntArray], tuple[FloatArray, FloatArray]],
    start: FloatArray,
    low: FloatArray,
    high: FloatArray,
    *,
    max_iterations: int = 40,
    tolerance: float = 1e-7,
) -> FloatArray:
    """Minimise the sum of squares of each problem within bounds.

    Parameters
    ----------
    evaluate : callable
        From parameters (b, P) and the problems' rows (b,) to residuals (b, M) and their derivatives (b, M, P).
    start : ndarray, shape (n, P)
    low, high : ndarray, shape (P,)
        Parameters stay within them, ends included.
    max_iterations : int
        Steps tried at most, refused ones included.
    tolerance : float
        A problem is done when an accepted step lowers its sum of squares by less than this share.

    Returns
    -------
    ndarray, shape (n, P)
        The best parameters found. Each depends on its own problem only, up to rounding.
    """
    x = np.clip(start, low, high)
    rows = np.arange(len(x))
    residual, slope = evaluate(x, rows)
    cost = np.einsum("bm,bm->b", residual, residual)
    damping = np.full(len(x), _FIRST_DAMPING)
    active = rows
    for _ in range(max_iterations):
        step = _step(x[active], residual[active], slope[active], damping[active], low, high)
        tried = np.clip(x[active] + step, low, high)
        new_residual, new_slope = evaluate(tried, active)
        new_cost = np.einsum("bm,bm->b", new_residual, new_residual)
        better = new_cost < cost[active]  # false for a cost that is not a number
        small = better & (cost[active] - new_cost <= tolerance * cost[active])
        taken = active[better]
        x[taken], residual[taken], slope[taken] = tried[better], new_residual[better], new_slope[better]
        cost[taken] = new_cost[better]
        damping[active] *= np.where(better, 0.2, 8.0)
        still = ~small & (damping[active] < _LAST_DAMPING) & np.any(step != 0, axis=1)
        active = active[still]
        if active.size == 0:
            break
    return x


def _step(
    x: FloatArray, residual: FloatArray, slope: FloatArray, damping: FloatArray, low: FloatArray, high: FloatArray
) -> FloatArray:
    """Damped Gauss-Newton steps (b, P); parameters at a bound that they would cross stand still."""
    gradient = np.einsum("bmp,bm->bp", slope, residual)
    curvature = np.einsum("bmp,bmq->bpq", slope, slope)
    held = ((x <= low) & (gradient > 0)) | ((x >= high) & (gradient < 0))
    free = ~held
    curvature = curvature * (free[:, :, None] & free[:, None, :])
    size = curvature.shape[1]
    diagonal = np.einsum("bpp->bp", curvature)
    # A parameter without any effect, or held, gets a diagonal of its own.
    added = damping[:, None] * diagonal + np.where(diagonal > 0, 1e-14, 1.0)
    curvature = curvature + added[:, :, None] * np.eye(size)
    return np.asarray(-np.linalg.solve(curvature, (gradient * free)[..., None])[..., 0])

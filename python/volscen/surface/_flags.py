"""The origin of cells that are read off other cells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen.surface._interpolate import EDGE_RTOL
from volscen.surface._points import EXTRAPOLATED, INTERPOLATED

__all__ = ["carry_flags"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


def carry_flags(
    flags: npt.NDArray[np.integer] | None,
    grid_tau: FloatArray,
    grid_k: FloatArray,
    tau: FloatArray,
    k: FloatArray,
) -> npt.NDArray[np.int8]:
    """Flags of points from those of the grid points they are interpolated between.

    A point on a grid point has its flag. One between grid points is interpolated, or extrapolated where one of them
    is; one outside the grid is extrapolated. Without flags, every point of the grid counts as interpolated.

    Parameters
    ----------
    flags : ndarray, shape (n or 1, J, I), or None
    grid_tau, grid_k : ndarray, shapes (J,), (I,)
        Times, and log-moneyness.
    tau : ndarray, shape (J2,)
    k : ndarray, shape (n or 1, J2, I2)

    Returns
    -------
    ndarray of int8, shape (n or 1, J2, I2)
    """
    low, high, off_tau = _neighbours(grid_tau, tau, EDGE_RTOL * tau)
    left, right, off_k = _neighbours(grid_k, k, np.full(k.shape, EDGE_RTOL))
    low, high, off_tau = low[None, :, None], high[None, :, None], off_tau[None, :, None]
    outside = off_tau | off_k
    if flags is None:
        return np.where(outside, EXTRAPOLATED, INTERPOLATED).astype(np.int8)
    n = np.arange(flags.shape[0])[:, None, None]
    corners = [flags[n, row, column] for row in (low, high) for column in (left, right)]
    worst = np.maximum.reduce(corners)
    between = np.where(worst == EXTRAPOLATED, EXTRAPOLATED, INTERPOLATED)
    on_point = (low == high) & (left == right)
    return np.where(outside, EXTRAPOLATED, np.where(on_point, corners[0], between)).astype(np.int8)


def _neighbours(grid: FloatArray, at: FloatArray, near: FloatArray) -> tuple[IntArray, IntArray, npt.NDArray[np.bool_]]:
    """Grid points below and above (the same one where a point lies on it), and whether it lies outside."""
    last = grid.size - 1
    above = np.clip(np.searchsorted(grid, at - near), 0, last)
    below = np.where(np.abs(grid[above] - at) <= near, above, np.maximum(above - 1, 0))
    return below, above, (at < grid[0] - near) | (at > grid[-1] + near)

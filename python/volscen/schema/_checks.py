"""Checks of what datasets are made of: grids and weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.errors import InputError

__all__ = ["GRID_RTOL", "check_grid", "check_same_grid", "check_weights"]

#: Relative tolerance within which two grid coordinates are the same point.
GRID_RTOL = 1e-6


#: Years of a surface's last maturity, and lowest moneyness: beyond these a grid is in days, per cent or currency.
_LONGEST, _HIGHEST = 50.0, 10.0


def check_grid(values: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    """Return a grid coordinate as float64 after checking it.

    Raises
    ------
    InputError
        If it is not one-dimensional, positive, finite and strictly increasing.
    """
    if np.ma.is_masked(values):
        raise InputError(f"{name} is a masked array with masked elements; drop them first")
    grid = np.asarray(values, dtype=np.float64)
    if grid.ndim != 1 or grid.size == 0:
        raise InputError(f"{name} must be a non-empty one-dimensional array, not shape {grid.shape}")
    if not np.all(np.isfinite(grid)) or np.any(grid <= 0):
        raise InputError(f"{name} must hold positive finite numbers; drop the others")
    if np.any(np.diff(grid) <= 0):
        raise InputError(f"{name} must be strictly increasing; sort it and drop duplicates")
    if name.endswith("tau") and grid[-1] > _LONGEST:
        raise InputError(
            f"{name} is in years, and {grid[-1]:g} looks like days: divide by 365, or give tenors such as "
            f"'{grid[-1]:.0f}D'"
        )
    if name.endswith("moneyness") and not name.endswith("log_moneyness") and grid[0] > _HIGHEST:
        raise InputError(
            f"{name} is the strike over the forward, 1 at the money, and the grid begins at {grid[0]:g}: "
            "divide per cent by 100, strikes by the forward"
        )
    return grid


def check_same_grid(tau: npt.ArrayLike, moneyness: npt.ArrayLike, like: xr.Dataset, what: str) -> None:
    """Raise :class:`InputError` unless ``like`` lies on the grid (tau, moneyness)."""
    for name, values in (("tau", tau), ("moneyness", moneyness)):
        own, other = np.asarray(values, dtype=np.float64), np.asarray(like[name].values, dtype=np.float64)
        if own.shape != other.shape or not np.allclose(own, other, rtol=GRID_RTOL, atol=0):
            raise InputError(
                f"{name} of the history ({other.size} points from {other[0]:.4g} to {other[-1]:.4g}) differs from "
                f"{what}'s ({own.size} points from {own[0]:.4g} to {own[-1]:.4g}); "
                "rebuild the history on that grid or refit"
            )


def check_weights(weight: npt.ArrayLike, n: int | None = None, *, atol: float = 1e-6) -> npt.NDArray[np.float64]:
    """Return scenario weights as float64 after checking them; the one place where weights are judged.

    Parameters
    ----------
    weight : array_like, shape (..., n)
        Finite, non-negative, summing to 1 over the last axis.
    n : int, optional
        Length that the last axis must have.
    atol : float
        How far from 1 a sum may lie.

    Raises
    ------
    InputError
        If the shape is wrong, a weight is negative or not finite, or a sum differs from 1.
    """
    try:
        w = np.asarray(weight, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("weight must be an array of numbers") from None
    if w.ndim == 0 or (n is not None and w.shape[-1] != n):
        raise InputError(f"weight must have {n} entries on its last axis, not shape {w.shape}")
    if not np.all(np.isfinite(w)) or np.any(w < 0):
        raise InputError("weight must be finite and non-negative")
    total = w.sum(axis=-1)
    if np.any(np.abs(total - 1) > atol):
        raise InputError(f"weight must sum to 1 (a sum is {np.ravel(total)[0]:.9g}); divide by the sum")
    return w

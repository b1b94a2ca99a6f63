"""One check of a series for all diagnostics."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

__all__ = ["series"]

FloatArray = npt.NDArray[np.float64]


def series(name: str, values: npt.ArrayLike, least: int) -> FloatArray:
    """A finite series of at least ``least`` values that is not constant."""
    try:
        x = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a series of numbers") from None
    if x.ndim != 1 or x.size < least:
        raise InputError(f"{name} must be one series of at least {least} values, not of shape {x.shape}")
    if not np.all(np.isfinite(x)):
        raise InputError(f"{name} holds {int((~np.isfinite(x)).sum())} values that are not finite; drop or fill them")
    if np.ptp(x) <= 1e-14 * np.abs(x).max():
        raise InputError(f"{name} is constant")
    return x

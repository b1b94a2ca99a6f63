"""Isotonic regression of many short sequences at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["isotonic"]

FloatArray = npt.NDArray[np.float64]


def isotonic(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Closest non-decreasing sequence along the first axis, in weighted least squares.

    Parameters
    ----------
    values : ndarray, shape (E, n)
        One sequence per column.
    weight : ndarray, shape (E, n)
        Positive.

    Notes
    -----
    The min-max formula of isotonic regression (Robertson, Wright and Dykstra, 1988): at j, the largest over i
    <= j of the smallest over l >= j of the weighted mean of i..l.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.surface._isotonic import isotonic
    >>> isotonic(np.array([[1.0], [3.0], [2.0]]), np.array([[1.0], [1.0], [3.0]])).ravel().tolist()
    [1.0, 2.25, 2.25]
    """
    # Columns in order already stay bit for bit; the formula would round them.
    mixed = np.flatnonzero(np.any(values[1:] < values[:-1], axis=0))
    if not mixed.size:
        return values
    some, weight = values[:, mixed], weight[:, mixed]
    start = np.zeros((1, mixed.size))
    sums = np.concatenate([start, np.cumsum(weight * some, axis=0)])
    totals = np.concatenate([start, np.cumsum(weight, axis=0)])
    out = np.full(some.shape, -np.inf)
    for i in range(len(values)):
        means = (sums[i + 1 :] - sums[i]) / (totals[i + 1 :] - totals[i])
        from_i = np.minimum.accumulate(means[::-1], axis=0)[::-1]  # smallest over l >= j, for j = i..n-1
        np.maximum(out[i:], from_i, out=out[i:])
    found = values.copy()
    found[:, mixed] = np.maximum.accumulate(out, axis=0)
    return found

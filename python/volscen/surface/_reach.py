"""Where the points of a grid lie beside the quotes: how far beyond them, and in which cells there are some."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from volscen.surface._smoothers import FittedSurface

__all__ = ["beyond_strikes", "cells_with_quotes"]

FloatArray = npt.NDArray[np.float64]


def beyond_strikes(
    fitted: FittedSurface,
    tau: FloatArray,
    k: FloatArray,
    quote_tau: FloatArray,
    quote_k: FloatArray,
    expiries: FloatArray,
) -> FloatArray:
    """How far each grid point lies beyond the strikes of the expiries around it, in standard deviations."""
    starts = np.searchsorted(quote_tau, expiries)  # quotes are sorted by expiry
    low, high = np.minimum.reduceat(quote_k, starts), np.maximum.reduceat(quote_k, starts)
    deviation = fitted.implied_vol(expiries, np.zeros(1)) * np.sqrt(expiries)
    right = np.clip(np.searchsorted(expiries, tau), 0, len(expiries) - 1)
    left = np.where((tau < expiries[right]) & (right > 0), right - 1, right)
    # A point is between strikes only if both expiries around it bracket it; how far beyond is a weighted
    # mean.
    gap = expiries[right] - expiries[left]
    share = np.divide(tau - expiries[left], gap, out=np.zeros(tau.shape), where=gap > 0)[:, None]

    def excess(e: npt.NDArray[np.intp]) -> FloatArray:
        outside = np.maximum(np.maximum(low[e][:, None] - k, k - high[e][:, None]), 0)
        return np.asarray(outside / deviation[e][:, None])

    return (1 - share) * excess(left) + share * excess(right)


def cells_with_quotes(
    tau: FloatArray, k: FloatArray, quote_tau: FloatArray, quote_k: FloatArray
) -> npt.NDArray[np.bool_]:
    """Cells, bounded half-way to the neighbouring grid points, that hold a quote."""
    found = np.zeros((tau.size, k.shape[1]), dtype=bool)
    rows = np.searchsorted(_edges(tau), quote_tau, side="right") - 1
    for j in np.unique(rows[(rows >= 0) & (rows < tau.size)]):
        columns = np.searchsorted(_edges(k[j if len(k) > 1 else 0]), quote_k[rows == j], side="right") - 1
        found[j, columns[(columns >= 0) & (columns < k.shape[1])]] = True
    return found


def _edges(points: FloatArray) -> FloatArray:
    middle = (points[1:] + points[:-1]) / 2
    if not middle.size:  # a single point has no neighbours: a cell of 5% either way
        width = 0.05 * max(abs(points[0]), 1.0)
        return np.array([points[0] - width, points[0] + width])
    first, last = 2 * points[0] - middle[0], 2 * points[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]])

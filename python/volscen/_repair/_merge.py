"""Many quotes of one surface to fewer: the cost of a Gaussian law rises with the cube of their number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from volscen._repair._base import Observations

__all__ = ["MOST_QUOTES", "merge_quotes"]

FloatArray = npt.NDArray[np.float64]

#: Quotes of a surface that are used one by one.
MOST_QUOTES = 700


def merge_quotes(observed: Observations) -> Observations:
    """Observations with neighbouring quotes of one time merged, where there are more than :data:`MOST_QUOTES`.

    Quotes of one time are merged by strike, most where they are densest; a merged quote lies at the mean of their
    places and values, weighted by inverse variance. The quotes themselves remain as points that are not observed, and
    the merged ones follow the points there are. Surfaces with fewer quotes are returned as they are.
    """
    mask = observed.mask
    if len(mask) != 1 or mask.sum() <= MOST_QUOTES:
        return observed
    at = np.flatnonzero(mask[0])
    tau, k = observed.tau[at], observed.log_moneyness[at]
    order = np.lexsort((k, tau))
    at, tau, k = at[order], tau[order], k[order]
    _, row, count = np.unique(tau, return_inverse=True, return_counts=True)
    # One limit for all times: sparse ones keep all of theirs.
    wanted = np.minimum(count, np.maximum(1, _shares(count, MOST_QUOTES)))
    rank = np.arange(at.size) - np.concatenate([[0], np.cumsum(count)[:-1]])[row]
    cell = (rank * wanted[row]) // count[row] + np.concatenate([[0], np.cumsum(wanted)[:-1]])[row]
    weight = 1 / observed.noise[0, at] ** 2
    total = np.bincount(cell, weight)

    def mean(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(cell, weight * values) / total)

    blank = np.full((1, observed.tau.size), np.nan)
    return replace(
        observed,
        tau=np.append(observed.tau, mean(tau)),
        log_moneyness=np.append(observed.log_moneyness, mean(k)),
        log_vol=np.append(blank, mean(observed.log_vol[0, at])[None], axis=1),
        noise=np.append(observed.noise, np.sqrt(1 / total)[None], axis=1),
    )


def _shares(count: npt.NDArray[np.intp], most: int) -> npt.NDArray[np.intp]:
    """Whole numbers that add up to no more than ``most``: each its count, or one limit common to all."""
    low, high = 1, int(count.max())
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(count, middle).sum() <= most else (low, middle - 1)
    return np.asarray(np.minimum(count, low))

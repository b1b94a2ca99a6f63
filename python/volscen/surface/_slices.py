"""Slices of total variance joined over time: linear at fixed K/F, and never decreasing."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

__all__ = ["MIN_FORWARD_VARIANCE", "SlicedSurface"]

FloatArray = npt.NDArray[np.float64]

#: Least growth of total variance per year (a forward volatility of 0.1%). Strictly positive, so that slices
#: lifted onto one another do not fall below one another by rounding.
MIN_FORWARD_VARIANCE = 1e-6


class SlicedSurface(ABC):
    """A smooth slice per expiry, each lifted to the one before it where they cross.

    Attributes
    ----------
    tau : ndarray, shape (E,)
        Times to expiry of the slices, increasing.
    """

    tau: FloatArray

    @abstractmethod
    def own_terms(self, log_moneyness: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Total variance, slope and second derivative in log-moneyness of each slice by itself: shapes (E, n)."""

    def own_variance(self, log_moneyness: FloatArray) -> FloatArray:
        """The first of :meth:`own_terms` alone, where that is cheaper."""
        return self.own_terms(log_moneyness)[0]

    def slices(self, log_moneyness: FloatArray) -> FloatArray:
        """Total variance at each slice, increasing over them: shape (E, n)."""
        return self._lifted(self.own_variance(log_moneyness))

    def _lifted(self, w: FloatArray) -> FloatArray:
        if np.any(w <= 0):
            raise InputError(
                "a slice has no positive variance at some strike; fit 'svi' with butterfly=True, 'cubic' with more "
                "smoothing"
            )
        growth = MIN_FORWARD_VARIANCE * self.tau[:, None]
        return np.asarray(np.maximum.accumulate(w - growth, axis=0) + growth)

    def implied_vol(self, tau: FloatArray, log_moneyness: FloatArray) -> FloatArray:
        """Volatility at points: total variance linear in tau, flat volatility beyond the end slices."""
        tau, k = np.broadcast_arrays(tau, log_moneyness)
        points, column = np.unique(k, return_inverse=True)
        return np.asarray(np.sqrt(self._between(self.slices(points), tau, column.reshape(k.shape)) / tau))

    def variance_terms(self, tau: FloatArray, log_moneyness: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Total variance and its first two derivatives in log-moneyness at points.

        Where slices are lifted they are the derivatives of the slice lifted to; at the very crossing the slope jumps
        upwards, which no second derivative shows and no arbitrage follows from.
        """
        tau, k = np.broadcast_arrays(tau, log_moneyness)
        points, column = np.unique(k, return_inverse=True)
        column = column.reshape(k.shape)
        w, slope, bend = self.own_terms(points)
        lifted = self._lifted(w)
        growth = MIN_FORWARD_VARIANCE * self.tau[:, None]
        rows = np.arange(self.tau.size)[:, None]
        highest = np.maximum.accumulate(np.where(w - growth >= lifted - growth, rows, 0), axis=0)
        slope, bend = (np.take_along_axis(term, highest, axis=0) for term in (slope, bend))
        at = [self._between(term, tau, column) for term in (lifted, slope, bend)]
        return at[0], at[1], at[2]

    def _between(self, values: FloatArray, tau: FloatArray, column: npt.NDArray[np.intp]) -> FloatArray:
        """Values (E, n) of slices at times: linear in tau, proportional to it beyond the ends."""
        right = np.clip(np.searchsorted(self.tau, tau), 0, len(self.tau) - 1)
        left = np.maximum(right - 1, 0)
        gap = self.tau[right] - self.tau[left]
        share = np.divide(tau - self.tau[left], gap, out=np.ones(tau.shape), where=gap > 0)
        inside = values[left, column] + np.clip(share, 0, 1) * (values[right, column] - values[left, column])
        first, last = self.tau[0], self.tau[-1]
        scale = np.where(tau < first, tau / first, np.where(tau > last, tau / last, 1.0))
        return np.asarray(np.where(tau < first, values[0, column], inside) * scale)

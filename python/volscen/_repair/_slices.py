"""One raw-SVI slice per time quoted, and eSSVI through all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volscen import ssvi, svi
from volscen._repair._base import Observations, Prediction
from volscen.surface._ssvi import SSVISurface
from volscen.surface._svi import SVISurface

__all__ = ["Slices", "make_essvi", "make_slices"]

FloatArray = npt.NDArray[np.float64]
Fit = Callable[[FloatArray, FloatArray, FloatArray, FloatArray], SVISurface | SSVISurface]

#: Quotes that a time needs for a raw-SVI slice of its own, if any has as many.
_ENOUGH = 5


@dataclass(frozen=True)
class Slices:
    """Slices fitted by least squares of the volatilities, weighted by the inverse variances of their errors."""

    fit: Fit

    def predict(self, observed: Observations) -> Prediction:
        """Predict; there is no standard deviation."""
        mean = np.stack([self._surface(observed, i) for i in range(len(observed.log_vol))])
        return Prediction(mean, np.full(mean.shape, np.nan))

    def _surface(self, observed: Observations, i: int) -> FloatArray:
        at = np.flatnonzero(~np.isnan(observed.log_vol[i]))
        tau, k = observed.tau[at], observed.log_moneyness[at]
        vol = np.exp(observed.log_vol[i, at])
        times, row = np.unique(tau, return_inverse=True)
        order = np.lexsort((k, row))
        row = row[order]
        count = np.bincount(row)
        column = np.arange(row.size) - np.repeat(np.cumsum(count) - count, count)
        shape = (times.size, int(count.max()))
        strikes, variance, weight = np.zeros(shape), np.ones(shape), np.zeros(shape)
        strikes[row, column], variance[row, column] = k[order], (vol**2 * tau)[order]
        # Errors of total variance are 2 sigma tau times those of volatility, which are sigma times those of its log.
        error = 2 * variance[row, column] * observed.noise[i, at][order]
        weight[row, column] = (error.min() / error) ** 2
        fitted = self.fit(times, strikes, variance, weight)
        return np.log(fitted.implied_vol(observed.tau, observed.log_moneyness))


def _fit_svi(tau: FloatArray, k: FloatArray, w: FloatArray, weight: FloatArray) -> SVISurface:
    count = (weight > 0).sum(axis=1)
    used = count >= min(_ENOUGH, int(count.max()))
    return SVISurface(tau[used], svi.fit(k[used], w[used], weight[used]).parameters)


def _fit_essvi(tau: FloatArray, k: FloatArray, w: FloatArray, weight: FloatArray) -> SSVISurface:
    return SSVISurface(tau, ssvi.fit(k, w, weight, model="essvi").parameters)


def make_slices() -> Slices:
    """Predictor of raw-SVI slices, joined over time as the smoother "svi" joins them."""
    return Slices(_fit_svi)


def make_essvi() -> Slices:
    """Predictor of eSSVI surfaces."""
    return Slices(_fit_essvi)

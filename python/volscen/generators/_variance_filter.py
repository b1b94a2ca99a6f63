"""Variance of the next day from the days before: exponentially weighted or GARCH(1,1), many series at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen.errors import FitError, MissingExtraError

__all__ = [
    "CAP",
    "FILTER_WINDOW",
    "FLOOR",
    "bounded_variance",
    "ewma_coefficients",
    "filter_variance",
    "fit_garch",
    "next_variance",
]

FloatArray = npt.NDArray[np.float64]

#: Days the filter looks back from a starting state; it begins at the variance of the sample. At a decay of 0.94
#: the part of that beginning left after them is 2e-7.
FILTER_WINDOW = 252

#: Variances stay within these multiples of the sample's: a series that stood still for weeks must not divide by
#: nothing, nor must one absurd day make the next a hundred times as wild.
FLOOR, CAP = 1e-4, 100.0


def ewma_coefficients(n_series: int, decay: float) -> FloatArray:
    """Coefficients (omega, alpha, beta) of exponentially weighted variances: (series, 3)."""
    return np.tile([0.0, 1 - decay, decay], (n_series, 1))


def bounded_variance(v: FloatArray, variance: FloatArray) -> FloatArray:
    """Variances v (..., series) within bounds around the sample's (series,)."""
    return np.asarray(np.clip(v, FLOOR * variance, CAP * variance))


def next_variance(x: FloatArray, v: FloatArray, variance: FloatArray, coefficients: FloatArray) -> FloatArray:
    """Variance of the next day: omega + alpha x^2 + beta v, within the bounds."""
    omega, alpha, beta = coefficients.T
    return bounded_variance(omega + alpha * x**2 + beta * v, variance)


def filter_variance(x: FloatArray, variance: FloatArray, coefficients: FloatArray) -> FloatArray:
    """Variance of each day given the days before, begun at the sample's, one row more than x: (T + 1, series)."""
    from scipy.signal import lfilter  # here: it brings scipy.stats, which workers that draw can do without

    out = np.empty((x.shape[0] + 1, x.shape[1]))
    out[0] = variance
    for i, (omega, alpha, beta) in enumerate(coefficients):
        news = omega + alpha * x[:, i] ** 2
        out[1:, i] = lfilter([1.0], [1.0, -beta], news, zi=[beta * variance[i]])[0]
    return bounded_variance(out, variance)


def fit_garch(x: FloatArray, variance: FloatArray) -> FloatArray:
    """Coefficients (omega, alpha, beta) of every series by Gaussian quasi maximum likelihood: (series, 3)."""
    try:
        from arch import arch_model
    except ImportError:
        raise MissingExtraError("a GARCH filter ('garch')", "garch") from None
    out = np.empty((x.shape[1], 3))
    for i, sd in enumerate(np.sqrt(variance)):
        # At unit variance the optimiser needs no rescaling of its own.
        model = arch_model(x[:, i] / sd, mean="Zero", vol="GARCH", p=1, q=1, rescale=False)
        omega, alpha, beta = model.fit(disp="off", show_warning=False).params.to_numpy()
        if not (np.isfinite([omega, alpha, beta]).all() and min(omega, alpha, beta) >= 0 and alpha + beta < 1.0001):
            raise FitError(f"GARCH(1,1) of series {i} could not be fitted; use 'ewma'")
        out[i] = omega * variance[i], alpha, beta
    return out

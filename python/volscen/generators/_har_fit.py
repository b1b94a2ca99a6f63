"""Penalised estimates for the HAR generator: mean by ridge, log scale by Student-t likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from volscen.errors import FitError

__all__ = ["NU", "Law", "OnRaw", "fit_mean_and_scale", "join", "on_raw", "ridge", "scale_objective", "standardise"]

FloatArray = npt.NDArray[np.float64]

#: Degrees of freedom: heavy enough that one crash does not decide a coefficient.
NU = 5.0
# Standard deviations of the priors that the penalties amount to: one day ahead nearly all of the mean is noise.
_MEAN_PRIOR, _SCALE_PRIOR = 0.04, 0.3
_ROUNDS = 2
# Inputs beyond so many standard deviations count as that many.
_CLIP = 4.0


def ridge(x: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
    """Minimise sum w (y - x b)^2 + |b|^2 / 0.04^2 with a free intercept in column 0."""
    penalty = np.diag(np.r_[0.0, np.full(x.shape[1] - 1, _MEAN_PRIOR**-2)])
    xw = x * weight[:, None]
    return np.asarray(np.linalg.solve(xw.T @ x + penalty, xw.T @ y))


def scale_objective(b: FloatArray, v: FloatArray, error: FloatArray, weight: FloatArray) -> tuple[float, FloatArray]:
    """Penalised Student-t minus log likelihood of errors with log scale v b, and its gradient in b.

    sum w [log s + (nu + 1)/2 log(1 + x^2/(nu - 2))] + |b|^2/(2 0.3^2), x = error / s, intercept in column 0 free.
    """
    penalty = np.r_[0.0, np.full(v.shape[1] - 1, _SCALE_PRIOR**-2)]
    log_scale = v @ b
    # L-BFGS may try absurd steps; the cut keeps them finite and therefore refused.
    x2 = error**2 * np.exp(-2 * np.clip(log_scale, -50, 50))
    value = weight @ (log_scale + 0.5 * (NU + 1) * np.log1p(x2 / (NU - 2))) + 0.5 * np.sum(penalty * b**2)
    slope = weight * (1 - (NU + 1) * x2 / (NU - 2 + x2))
    return float(value), v.T @ slope + penalty * b


def _fit_scale(v: FloatArray, error: FloatArray, weight: FloatArray, start: FloatArray) -> FloatArray:
    solution = minimize(scale_objective, start, args=(v, error, weight), jac=True, method="L-BFGS-B")
    if not np.all(np.isfinite(solution.x)):
        raise FitError("the scale of a factor could not be fitted; look for constant or infinite series")
    return np.asarray(solution.x)


def fit_mean_and_scale(
    mean_x: FloatArray, scale_x: FloatArray, y: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and log-scale coefficients of one factor, in turn, twice.

    Parameters
    ----------
    mean_x, scale_x : ndarray, shapes (n, p), (n, q)
        Standardised inputs, a constant in column 0.
    y : ndarray, shape (n,)
        The factor.
    weight : ndarray, shape (n,)
        Of the days, 1 for the last.

    Returns
    -------
    mean_coef, scale_coef : ndarray, shapes (p,), (q,)

    Notes
    -----
    From the second round on days enter the mean by the weights of the Student-t likelihood,
    1 / (s^2 (nu - 2 + x^2)), brought to the sum of ``weight``.
    """
    w = weight
    b = np.zeros(scale_x.shape[1])
    b[0] = np.log(max(float(y.std()), 1e-8))
    for _ in range(_ROUNDS):
        a = ridge(mean_x, y, w)
        error = y - mean_x @ a
        b = _fit_scale(scale_x, error, weight, b)
        s2 = np.exp(2 * (scale_x @ b))
        w = weight / (s2 * (NU - 2) + error**2)
        w *= weight.sum() / w.sum()
    return a, b


@dataclass(frozen=True)
class Law:
    """Conditional mean and scale of every factor, linear and log-linear in clipped standardised inputs.

    Attributes
    ----------
    mean_range, scale_range : ndarray, shapes (4, p), (4, q)
        Mean, standard deviation, smallest and largest of each raw input where fitted.
    mean_coef, scale_coef : ndarray, shapes (1 + p, f), (1 + q, f)
        Constant first.
    log_scale_bounds : ndarray, shape (2, f)
        Smallest and largest log scale where fitted; no scale goes beyond.
    """

    mean_range: FloatArray
    mean_coef: FloatArray
    scale_range: FloatArray
    scale_coef: FloatArray
    log_scale_bounds: FloatArray

    @classmethod
    def fit(
        cls, mean_raw: FloatArray, shared: FloatArray, own: FloatArray, y: FloatArray, half_lives: tuple[float, ...]
    ) -> Self:
        """Fit every factor once for each half-life of the days' weights, and average the coefficients.

        Means and log scales are linear in them, so that this averages the forecasts.

        Parameters
        ----------
        mean_raw : ndarray, shape (n, p)
        shared, own : ndarray, shapes (n, q), (n, 3, f)
            Inputs of all scales, and of the scale of each factor.
        y : ndarray, shape (n, f)
            Factors of the day after.
        half_lives : tuple of float
            In days; infinity weighs all days equally.
        """
        n, f = y.shape
        scale_raw = join(shared, own)
        mean_range, scale_range = _range(mean_raw), _range(scale_raw)
        mean_x, scale_x = standardise(mean_raw, mean_range), standardise(scale_raw, scale_range)
        age = np.arange(n - 1, -1, -1.0)
        mean_coef, scale_coef = np.zeros((mean_x.shape[1], f)), np.zeros((scale_x.shape[1], f))
        q = 1 + shared.shape[1]
        for j in range(f):
            columns = np.r_[np.arange(q), q + j + f * np.arange(own.shape[1])]
            for half_life in half_lives:
                a, b = fit_mean_and_scale(mean_x, scale_x[:, columns], y[:, j], 0.5 ** (age / half_life))
                mean_coef[:, j] += a / len(half_lives)
                scale_coef[columns, j] += b / len(half_lives)
        log_scale = scale_x @ scale_coef
        bounds = np.stack([log_scale.min(axis=0), log_scale.max(axis=0)])
        return cls(mean_range, mean_coef, scale_range, scale_coef, bounds)

    def moments(self, mean_raw: FloatArray, scale_raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean and scale of every factor: (n, f) each."""
        # Each input may lie in its range and their combination still be unseen: the scale is bounded too.
        log_scale = np.clip(standardise(scale_raw, self.scale_range) @ self.scale_coef, *self.log_scale_bounds)
        return standardise(mean_raw, self.mean_range) @ self.mean_coef, np.exp(log_scale)

    def lost(self, mean_raw: FloatArray, scale_raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        """What clipping takes away: of the mean, in scales, and of the log scale; (n, f) each."""
        mean, scale = self.moments(mean_raw, scale_raw)
        free_mean = _free(mean_raw, self.mean_range) @ self.mean_coef
        free_log_scale = _free(scale_raw, self.scale_range) @ self.scale_coef
        return (free_mean - mean) / scale, free_log_scale - np.log(scale)


def join(shared: FloatArray, own: FloatArray) -> FloatArray:
    """Inputs of all scales side by side: (n, q + 3 f)."""
    return np.hstack([shared, own.reshape(own.shape[0], -1)])


def _range(raw: FloatArray) -> FloatArray:
    return np.stack([raw.mean(axis=0), raw.std(axis=0), raw.min(axis=0), raw.max(axis=0)])


def standardise(raw: FloatArray, of: FloatArray) -> FloatArray:
    """Inputs clipped to the range they had and to 4 standard deviations, standardised, after a constant."""
    _, _, low, high = of
    return np.clip(_free(np.clip(raw, low, high), of), -_CLIP, _CLIP)


@dataclass(frozen=True)
class OnRaw:
    """Coefficients on raw inputs cut to one range, the same as those on clipped standardised ones.

    Attributes
    ----------
    constant : ndarray, shape (f,)
    slope : ndarray, shape (p, f)
    low, high : ndarray, shape (p,)
    """

    constant: FloatArray
    slope: FloatArray
    low: FloatArray
    high: FloatArray

    def of(self, raw: FloatArray, which: npt.NDArray[np.bool_]) -> FloatArray:
        """What some of the inputs, raw (n, which), add up to: (n, f)."""
        return np.asarray(np.clip(raw, self.low[which], self.high[which]) @ self.slope[which])


def on_raw(coef: FloatArray, of: FloatArray) -> OnRaw:
    """What ``standardise(raw, of) @ coef`` is on the raw inputs: two cuts in a row are one."""
    centre, width, low, high = of
    slope = coef[1:] / _width(width)[:, None]
    low, high = np.maximum(low, centre - _CLIP * width), np.minimum(high, centre + _CLIP * width)
    return OnRaw(coef[0] - centre @ slope, slope, low, high)


def _width(width: FloatArray) -> FloatArray:
    # An input that never moved (no gap of two days in the sample) has no width and enters as zero.
    return np.where(width > 1e-12, width, np.inf)


def _free(raw: FloatArray, of: FloatArray) -> FloatArray:
    """Inputs standardised without being clipped, after a constant."""
    centre, width, _, _ = of
    x = (raw - centre) / _width(width)
    return np.hstack([np.ones((raw.shape[0], 1)), x])

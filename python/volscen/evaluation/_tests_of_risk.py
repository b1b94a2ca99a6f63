"""Backtests of value at risk and expected shortfall, and the joint score of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy
from scipy.stats import chi2, gamma

from volscen.errors import InputError

__all__ = ["christoffersen", "fissler_ziegel", "kupiec", "z2_p_value", "z2_statistic"]

FloatArray = npt.NDArray[np.float64]


def kupiec(violation: npt.ArrayLike, alpha: npt.ArrayLike) -> FloatArray:
    """p-values of the test that violations come at the rate alpha.

    Parameters
    ----------
    violation : array_like of bool, shape (T, ...)
        Whether the loss exceeded value at risk, by day.
    alpha : array_like
        Nominal rates in (0, 1), broadcast against the trailing axes.

    Returns
    -------
    ndarray, shape (...)

    Raises
    ------
    InputError
        If there is no day or a rate is out of range.

    Notes
    -----
    Kupiec (1995): -2 log likelihood ratio against chi-square with one degree of freedom.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.evaluation import kupiec
    >>> days = np.zeros(250, dtype=bool)
    >>> days[:6] = True
    >>> round(float(kupiec(days, 0.01)), 4)
    0.0594
    """
    return np.asarray(chi2.sf(_coverage_ratio(*_hits(violation, alpha)), 1))


def christoffersen(violation: npt.ArrayLike, alpha: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """p-values of the tests of independent violations, and of independence and rate together.

    Parameters
    ----------
    violation : array_like of bool, shape (T, ...)
        By day, at least two days.
    alpha : array_like
        Nominal rates in (0, 1), broadcast against the trailing axes.

    Returns
    -------
    independence, conditional_coverage : ndarray, shape (...)

    Raises
    ------
    InputError
        If there are fewer than two days or a rate is out of range.

    Notes
    -----
    Christoffersen (1998): a first-order Markov chain against independence; with the rate, chi-square of two degrees of
    freedom.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.evaluation import christoffersen
    >>> clustered = np.zeros(200, dtype=bool)
    >>> clustered[50:60] = True
    >>> independence, both = christoffersen(clustered, 0.05)
    >>> bool(independence < 1e-6)
    True
    """
    hit, level = _hits(violation, alpha)
    if len(hit) < 2:
        raise InputError("violation needs at least two days to judge independence")
    before, after = hit[:-1], hit[1:]
    n01, n11 = (~before & after).sum(axis=0), (before & after).sum(axis=0)
    n00, n10 = (~before & ~after).sum(axis=0), (before & ~after).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # a row without days has no rate and no likelihood
        rate = (n01 + n11) / (n00 + n01 + n10 + n11)
        calm, stormy = np.nan_to_num(n01 / (n00 + n01)), np.nan_to_num(n11 / (n10 + n11))
    same = xlogy(n01 + n11, rate) + xlogy(n00 + n10, 1 - rate)
    own = xlogy(n01, calm) + xlogy(n00, 1 - calm) + xlogy(n11, stormy) + xlogy(n10, 1 - stormy)
    ratio = np.maximum(-2 * (same - own), 0)
    return np.asarray(chi2.sf(ratio, 1)), np.asarray(chi2.sf(ratio + _coverage_ratio(hit, level), 2))


def z2_statistic(profit: FloatArray, quantile: FloatArray, shortfall: FloatArray, alpha: npt.ArrayLike) -> FloatArray:
    """Z2 of Acerbi and Szekely (2014): 0 is right, negative understates risk.

    Profits (T, ...), forecast quantiles and shortfalls of them as profits (T, ...), over days: mean of
    x 1{x <= VaR} / (alpha (-ES)) + 1.
    """
    term = np.where(profit <= quantile, profit, 0.0) / (np.asarray(alpha) * -shortfall)
    return np.asarray(term.mean(axis=0) + 1)


def z2_p_value(statistic: FloatArray, moment: FloatArray) -> FloatArray:
    """Probability of a Z2 as low as found if every day's forecast were right.

    ``moment`` (T, 3, ...): mean, variance and third central moment of each day's term under its forecast. Days are
    independent given the forecasts, so their cumulants add; the sum of rare losses is close to a shifted gamma law
    with the same three moments (Pearson type III).
    """
    days = len(moment)
    mean, variance, third = (moment[:, i].sum(axis=0) / days ** (i + 1) for i in range(3))
    loss, usual = 1 - statistic, -mean
    with np.errstate(invalid="ignore", divide="ignore"):  # without variance there is nothing to compare with
        skewness = np.maximum(-third / variance**1.5, 1e-6)
        spread = np.sqrt(variance) * skewness / 2
        shape = 4 / skewness**2
        p = gamma.sf((loss - usual) / spread + shape, shape)
    # Without a loss nothing can be lower.
    return np.asarray(np.where(loss <= 0, 1.0, np.where(variance > 0, p, (loss <= usual).astype(float))))


def fissler_ziegel(
    profit: npt.ArrayLike, quantile: npt.ArrayLike, shortfall: npt.ArrayLike, alpha: npt.ArrayLike
) -> FloatArray:
    """Joint score of value at risk and expected shortfall; lower is better.

    Parameters
    ----------
    profit : array_like
        What was made, gains positive.
    quantile, shortfall : array_like
        Forecast alpha-quantile of the profit and mean below it, as profits; the shortfall negative.
    alpha : array_like
        Tail probability in (0, 1).

    Returns
    -------
    ndarray
        -1{x <= v} (v - x) / (alpha e) + v / e + log(-e) - 1, of the broadcast shape.

    Raises
    ------
    InputError
        If a shortfall is not negative: the score has no value there.

    Notes
    -----
    Fissler and Ziegel (2016); the zero-homogeneous member of Patton, Ziegel and Chen (2019).

    Examples
    --------
    >>> from volscen.evaluation import fissler_ziegel
    >>> float(fissler_ziegel(0.5, -1.0, -1.0, 0.05))  # no violation: v/e + log(-e) - 1
    0.0
    """
    x, v, e, a = np.broadcast_arrays(*(np.asarray(z, dtype=np.float64) for z in (profit, quantile, shortfall, alpha)))
    if not np.all(e < 0):
        raise InputError("shortfall must be negative (a loss, as a profit); the score has no value elsewhere")
    return np.asarray(np.where(x <= v, (x - v) / (a * e), 0.0) + v / e + np.log(-e) - 1)


def _hits(violation: npt.ArrayLike, alpha: npt.ArrayLike) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    hit = np.asarray(violation)
    if hit.dtype.kind != "b" or hit.ndim == 0 or hit.shape[0] == 0:
        raise InputError("violation must be an array of True and False, days on the first axis")
    level = np.asarray(alpha, dtype=np.float64)
    if not np.all((level > 0) & (level < 1)):
        raise InputError("alpha must lie in (0, 1)")
    try:
        return hit, np.broadcast_to(level, hit.shape[1:])
    except ValueError:
        raise InputError(f"alpha of shape {level.shape} does not fit violations of shape {hit.shape}") from None


def _coverage_ratio(hit: npt.NDArray[np.bool_], level: FloatArray) -> Any:
    n1 = hit.sum(axis=0)
    n0 = len(hit) - n1
    found = n1 / len(hit)
    nominal = xlogy(n1, level) + xlogy(n0, 1 - level)
    return np.maximum(-2 * (nominal - xlogy(n1, found) - xlogy(n0, 1 - found)), 0)

"""Judging volatility forecasts: losses, and whether the direction was known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from volscen.errors import InputError

__all__ = ["Direction", "direction", "pesaran_timmermann", "qlike", "theil_u"]

FloatArray = npt.NDArray[np.float64]


def _series(least: int, **named: npt.ArrayLike) -> list[FloatArray]:
    arrays = [np.asarray(values, dtype=np.float64) for values in named.values()]
    names = ", ".join(named)
    if any(one.ndim != 1 or one.shape != arrays[0].shape for one in arrays) or arrays[0].size < least:
        raise InputError(f"{names} must be series of the same dates, at least {least}")
    if not all(np.isfinite(one).all() for one in arrays):
        raise InputError(f"{names} must be finite; drop the dates that are not in all")
    return arrays


def qlike(forecast: npt.ArrayLike, proxy: npt.ArrayLike) -> FloatArray:
    """Quasi-likelihood loss of variance forecasts, date by date; lower is better.

    Parameters
    ----------
    forecast : array_like, shape (T,)
        Variances (not volatilities), positive.
    proxy : array_like, shape (T,)
        Unbiased proxy of the variance that came, of the same horizon and unit: a squared return, a realised variance;
        positive.

    Returns
    -------
    ndarray, shape (T,)
        h - log h - 1 with h = proxy / forecast; 0 where they are equal.

    Raises
    ------
    InputError
        If the series do not fit or a variance is not positive.

    Notes
    -----
    Patton (2011): with the squared error the loss that ranks forecasts by an unbiased proxy as by the truth. Drop or
    floor squared returns of zero: no loss is defined there.

    Examples
    --------
    >>> from volscen.evaluation import qlike
    >>> qlike([0.04, 0.04], [0.04, 0.08]).round(4).tolist()
    [0.0, 0.3069]
    """
    predicted, found = _series(1, forecast=forecast, proxy=proxy)
    if np.any(predicted <= 0) or np.any(found <= 0):
        raise InputError("forecast and proxy must be positive variances; floor or drop the others")
    ratio = found / predicted
    return np.asarray(ratio - np.log(ratio) - 1)


def theil_u(forecast: npt.ArrayLike, actual: npt.ArrayLike, previous: npt.ArrayLike) -> float:
    """Root mean square error over that of the forecast of no change; below 1 is better than it.

    Parameters
    ----------
    forecast, actual, previous : array_like, shape (T,)
        Predicted, what came, and what was last known.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If the series do not fit or nothing ever changed.

    Examples
    --------
    >>> from volscen.evaluation import theil_u
    >>> theil_u([2.0, 2.0], [2.0, 3.0], [1.0, 2.0])
    0.7071067811865476
    """
    predicted, found, before = _series(1, forecast=forecast, actual=actual, previous=previous)
    unchanged = np.mean((before - found) ** 2)
    if unchanged == 0:
        raise InputError("actual never differs from previous; no change is a perfect forecast of it")
    return float(np.sqrt(np.mean((predicted - found) ** 2) / unchanged))


class Direction(NamedTuple):
    """What :func:`direction` found.

    Attributes
    ----------
    accuracy : float
        Share of dates whose direction was forecast.
    mean_reversion : float
        The same of the rule "up when below the median of the past, down when above": the bar.
    statistic, p_value : float
        Of Pesaran and Timmermann's test.
    days : int
        Dates judged; those without a change, or on which the rule is silent, are not.
    """

    accuracy: float
    mean_reversion: float
    statistic: float
    p_value: float
    days: int


def direction(forecast: npt.ArrayLike, actual: npt.ArrayLike, previous: npt.ArrayLike) -> Direction:
    """Judge forecasts of the direction of volatility against the rule that it reverts.

    Parameters
    ----------
    forecast, actual, previous : array_like, shape (T,)
        Predicted, what came, and what was last known, in the order of dates; at least 20.

    Returns
    -------
    Direction

    Raises
    ------
    InputError
        If the series do not fit or fewer than 20 dates can be judged.

    Notes
    -----
    Half is the wrong bar: where volatility reverts, the rule alone is right far more often, on independent draws
    three times in four. Its median is of ``previous`` up to each date, so that nothing later enters.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.evaluation import direction
    >>> vol = np.random.default_rng(0).lognormal(size=2001)
    >>> found = direction(np.full(2000, np.median(vol)), vol[1:], vol[:-1])
    >>> round(found.mean_reversion, 2)
    0.75
    """
    predicted, found, before = _series(20, forecast=forecast, actual=actual, previous=previous)
    past = np.array([np.median(before[: t + 1]) for t in range(before.size)])
    up, said, rule = np.sign(found - before), np.sign(predicted - before), np.sign(past - before)
    judged = (up != 0) & (rule != 0)
    if judged.sum() < 20:
        raise InputError(f"only {int(judged.sum())} dates have a change and a rule; at least 20 are needed")
    up, said, rule = up[judged] > 0, said[judged], rule[judged] > 0
    statistic, p_value = pesaran_timmermann(said > 0, up)
    return Direction(
        float(np.mean((said > 0) == up)), float(np.mean(rule == up)), statistic, p_value, int(judged.sum())
    )


def pesaran_timmermann(forecast_up: npt.ArrayLike, actual_up: npt.ArrayLike) -> tuple[float, float]:
    """Test whether directions were forecast better than by chance.

    Parameters
    ----------
    forecast_up, actual_up : array_like of bool, shape (T,)

    Returns
    -------
    statistic, p_value : float
        Standard normal without skill, large with it; the p-value is one-sided. (0, 0.5) where a series always says
        the same: there is nothing to test then.

    Raises
    ------
    InputError
        If the series are not of the same dates, or not True and False.

    Notes
    -----
    Pesaran and Timmermann (1992).

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.evaluation import pesaran_timmermann
    >>> up = np.array([True, False] * 20)
    >>> round(pesaran_timmermann(up, up)[0], 2)
    6.41
    """
    said, up = np.asarray(forecast_up), np.asarray(actual_up)
    if said.dtype.kind != "b" or up.dtype.kind != "b" or said.ndim != 1 or said.shape != up.shape or said.size < 2:
        raise InputError("forecast_up and actual_up must be True and False on the same dates, at least 2")
    n = said.size
    right, p, q = np.mean(said == up), np.mean(up), np.mean(said)
    by_chance = p * q + (1 - p) * (1 - q)
    own = by_chance * (1 - by_chance) / n
    chance = (
        (2 * p - 1) ** 2 * q * (1 - q) / n + (2 * q - 1) ** 2 * p * (1 - p) / n + 4 * p * q * (1 - p) * (1 - q) / n**2
    )
    if own - chance <= 1e-15:
        return 0.0, 0.5
    statistic = float((right - by_chance) / np.sqrt(own - chance))
    return statistic, float(norm.sf(statistic))

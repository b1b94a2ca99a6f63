"""Correlations with their errors, and whether one stays constant over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2, norm

from volscen.errors import InputError
from volscen.schema import check_weights

__all__ = ["ConstantCorrelation", "constant_correlation", "correlation_interval", "fisher_z"]

FloatArray = npt.NDArray[np.float64]

#: Least sample sizes for which the standard errors exist.
_LEAST = {"pearson": 3, "spearman": 3, "kendall": 4}


def correlation_interval(
    correlation: npt.ArrayLike,
    n: npt.ArrayLike,
    *,
    level: float = 0.95,
    kind: Literal["pearson", "spearman", "kendall"] = "pearson",
) -> tuple[FloatArray, FloatArray]:
    """Confidence interval of a correlation coefficient by Fisher's z.

    Parameters
    ----------
    correlation : array_like
        Sample correlations, strictly between -1 and 1.
    n : array_like
        Sample sizes, above 3 (above 4 for Kendall); an effective sample size will do.
    level : float
        In (0, 1).
    kind : {"pearson", "spearman", "kendall"}
        Of the coefficient.

    Returns
    -------
    low, high : ndarray
        tanh(atanh(r) -/+ q se), with q the normal quantile and se^2 = 1/(n - 3), (1 + r^2/2)/(n - 3) and .437/(n - 4).

    Raises
    ------
    InputError
        If an argument is out of range.

    Notes
    -----
    Bonett and Wright (2000), "Sample size requirements for estimating Pearson, Kendall and Spearman correlations"; for
    Pearson that is Fisher's interval. It is right for normal pairs; with heavier tails correlations vary more
    (:func:`fisher_z`). Kendall's error holds for correlations up to .8 in size, Spearman's up to .95.

    Examples
    --------
    >>> from volscen.evaluation import correlation_interval
    >>> low, high = correlation_interval(-0.8, 250)
    >>> round(float(low), 3), round(float(high), 3)
    (-0.841, -0.75)
    """
    r, size = np.asarray(correlation, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if kind not in _LEAST:
        raise InputError(f"kind must be one of {', '.join(_LEAST)}, not {kind!r}")
    _check_correlation(r)
    if not (np.isfinite(size).all() and np.all(size > _LEAST[kind])):
        raise InputError(f"n must be above {_LEAST[kind]}; pass the number of pairs behind each correlation")
    _check_level(level)
    factor = {"pearson": np.ones_like(r), "spearman": 1 + r**2 / 2, "kendall": np.full_like(r, 0.437)}[kind]
    variance = factor / (size - _LEAST[kind])
    half = norm.ppf((1 + level) / 2) * np.sqrt(variance)
    z = np.arctanh(r)
    return np.asarray(np.tanh(z - half)), np.asarray(np.tanh(z + half))


def fisher_z(x: npt.ArrayLike, y: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> tuple[float, float, float]:
    """Weighted Pearson correlation, its Fisher z and the standard error of z, whatever the law of the pairs.

    Parameters
    ----------
    x, y : array_like, shape (n,)
        At least four pairs.
    weight : array_like, shape (n,), optional
        Summing to 1; equal when omitted.

    Returns
    -------
    correlation, z, standard_error : float
        The error is that of independent pairs: sqrt(sum w_i^2 f_i^2) / (1 - r^2), with f the influence of a pair on r,
        f = u v - r (u^2 + v^2)/2 for the standardised pair (u, v). For normal pairs it is 1/sqrt(n) in large samples.

    Raises
    ------
    InputError
        If shapes do not fit, a number is not finite, or a series does not move.

    Notes
    -----
    Delta method on sample moments (Steiger and Hakstian 1982): returns and vol moves have heavier tails than the
    normal, and 1/sqrt(n - 3) understates what their correlations vary by.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.evaluation import fisher_z
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal(10_000)
    >>> r, z, error = fisher_z(x, x + rng.standard_normal(10_000))
    >>> round(r, 2), round(error * 100, 1)
    (0.7, 1.0)
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or a.size < 4 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError(f"x and y must be finite and of one length, at least 4; they have shapes {a.shape}, {b.shape}")
    w = np.full(a.size, 1 / a.size) if weight is None else check_weights(weight, a.size)
    u, v = a - w @ a, b - w @ b
    scale_u, scale_v = np.sqrt(w @ u**2), np.sqrt(w @ v**2)
    if scale_u <= 1e-12 * (1 + np.abs(a).max()) or scale_v <= 1e-12 * (1 + np.abs(b).max()):
        raise InputError("x or y does not move; a correlation needs both to")
    u, v = u / scale_u, v / scale_v
    r = float(np.clip(w @ (u * v), -1 + 1e-15, 1 - 1e-15))
    influence = u * v - r * (u**2 + v**2) / 2
    error = float(np.sqrt(w**2 @ influence**2) / (1 - r * r))
    return r, float(np.arctanh(r)), error


@dataclass(frozen=True)
class ConstantCorrelation:
    """Result of :func:`constant_correlation`.

    Attributes
    ----------
    correlation : float
        Mean of the correlations.
    low, high : float
        Interval in which each day's correlation lies with probability ``level`` if the true one is constant at the
        mean; by the median of the days' standard errors.
    share_outside : float
        Share of days outside their own interval.
    statistic : float
        Sum of squared differences of Fisher's z from their precision-weighted mean, in standard errors.
    p_value : float
        Chi-square with T - 1 degrees of freedom; small where the correlation varies.
    days : int
    """

    correlation: float
    low: float
    high: float
    share_outside: float
    statistic: float
    p_value: float
    days: int


def constant_correlation(
    correlation: npt.ArrayLike,
    *,
    n: npt.ArrayLike | None = None,
    standard_error: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> ConstantCorrelation:
    """Test whether the correlation that a generator draws with is the same every day.

    Parameters
    ----------
    correlation : array_like, shape (T,)
        Of each day's scenarios, at least two days.
    n : array_like, optional
        Number of scenarios of each day (their effective number, where they have weights); the error of Fisher's z is
        then 1/sqrt(n - 3), right for normal pairs. One of ``n`` and ``standard_error`` is needed.
    standard_error : array_like, optional
        Of Fisher's z, such as :func:`fisher_z` gives.
    level : float
        Of the intervals, in (0, 1).

    Returns
    -------
    ConstantCorrelation

    Raises
    ------
    InputError
        If an argument is out of range, or both or neither of ``n`` and ``standard_error`` are given.

    Notes
    -----
    The interval around the mean is what Vuletic and Cont (2024) draw, after Bonett and Wright (2000); the statistic is
    the test of homogeneity of Hedges and Olkin (1985). Days must be drawn independently. Over many days errors that
    are a few percent too small are seen too: look at a generator whose correlation is constant by construction, such
    as historical simulation, beside it.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.evaluation import constant_correlation
    >>> rng = np.random.default_rng(0)
    >>> z = np.arctanh(-0.7) + rng.standard_normal(250) / np.sqrt(997)
    >>> constant_correlation(np.tanh(z), n=1000).p_value > 0.01
    True
    >>> drift = np.linspace(-0.2, 0.2, 250)
    >>> constant_correlation(np.tanh(z + drift), n=1000).p_value < 1e-6
    True
    """
    r = np.asarray(correlation, dtype=np.float64)
    if r.ndim != 1 or r.size < 2:
        raise InputError(f"correlation must be one number a day, of at least two days, not of shape {r.shape}")
    _check_correlation(r)
    _check_level(level)
    if (n is None) == (standard_error is None):
        raise InputError("give n or standard_error, one of the two")
    if n is not None:
        size = np.asarray(n, dtype=np.float64)
        if size.shape not in ((), r.shape) or not np.all(size > 3) or not np.isfinite(size).all():
            raise InputError("n must be above 3, one number or one for each day")
        error = np.broadcast_to(1 / np.sqrt(size - 3), r.shape)
    else:
        given = np.asarray(standard_error, dtype=np.float64)
        if given.shape not in ((), r.shape) or not np.all((given > 0) & np.isfinite(given)):
            raise InputError("standard_error must be positive, one number or one for each day")
        error = np.broadcast_to(given, r.shape)
    z, precision = np.arctanh(r), 1 / error**2
    centre = float(precision @ z / precision.sum())
    statistic = float(precision @ (z - centre) ** 2)
    mean = float(r.mean())
    quantile = float(norm.ppf((1 + level) / 2))
    half, middle = quantile * float(np.median(error)), float(np.arctanh(mean))
    outside = np.abs(z - middle) > quantile * error
    return ConstantCorrelation(
        mean, float(np.tanh(middle - half)), float(np.tanh(middle + half)), float(outside.mean()), statistic,
        float(chi2.sf(statistic, r.size - 1)), int(r.size),
    )  # fmt: skip


def _check_correlation(r: FloatArray) -> None:
    if not np.all(np.abs(r) < 1):
        raise InputError("correlation must lie strictly between -1 and 1")


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"level must lie in (0, 1), not {level!r}")

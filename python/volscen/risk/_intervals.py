"""How well a number of scenarios knows a risk measure: confidence intervals."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, ndtri

from volscen._numbers import bounded_number, whole_number
from volscen._statistics import quantile
from volscen.errors import InputError
from volscen.risk._checks import random_generator
from volscen.risk._measures import check, expected_shortfall, one_level, value_at_risk

__all__ = ["Interval", "confidence_interval"]

FloatArray = npt.NDArray[np.float64]

#: Bootstrap samples drawn at once; bounds the memory, never changes a draw.
_SAMPLES = 50


class Interval(NamedTuple):
    """A risk measure and the limits between which it lies.

    Attributes
    ----------
    estimate, low, high : float
        Losses positive, in the unit of the profits.
    """

    estimate: float
    low: float
    high: float


def confidence_interval(
    values: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    measure: Literal["value_at_risk", "expected_shortfall"] = "value_at_risk",
    alpha: float = 0.05,
    level: float = 0.95,
    method: Literal["analytic", "bootstrap"] = "analytic",
    resamples: int = 1000,
    seed: int | np.random.Generator | None = 0,
) -> Interval:
    """Confidence interval of a risk measure for the finite number of scenarios.

    Parameters
    ----------
    values : array_like, shape (n,)
        Profit and loss per scenario, gains positive.
    weight : array_like, shape (n,), optional
        Non-negative, summing to 1; equal weights when omitted.
    measure : {"value_at_risk", "expected_shortfall"}
        What is estimated.
    alpha : float
        Tail probability in (0, 1).
    level : float
        Confidence level of the interval, two-sided, in (0, 1).
    method : {"analytic", "bootstrap"}
        See Notes.
    resamples : int
        Samples of the bootstrap, at least 100.
    seed : int, numpy.random.Generator or None
        Of the bootstrap.

    Returns
    -------
    Interval
        ``estimate``, ``low``, ``high``.

    Raises
    ------
    InputError
        If ``values`` hold NaN, weights do not sum to 1, a number is out of range; or, for equal weights, there are too
        few scenarios for the interval of the value at risk to have two ends.

    Notes
    -----
    It speaks of the sampling error only: that other scenarios of the same generator would be drawn. Scenarios are
    taken as independent draws, weights as a function of them (self-normalised importance sampling).

    Value at risk, analytic: with equal weights the order statistics whose ranks enclose the quantile with at least the
    confidence asked for, by the binomial law, free of any assumption on the profits (David and Nagaraja 2003, section
    7.1). With weights the quantiles at alpha -+ z se with se^2 = sum w_j^2 (1{x_j <= q} - alpha)^2 (Woodruff 1952).
    Expected shortfall, analytic: estimate -+ z se with se^2 = sum w_j^2 ((q - x_j)+ / alpha - q - ES)^2 (delta method).
    Bootstrap: scenarios are drawn with replacement, each with its weight, which are rescaled to sum to 1; the interval
    is that of the percentiles.

    Examples
    --------
    >>> import numpy as np, volscen
    >>> profit = np.random.default_rng(0).normal(size=2000)
    >>> found = volscen.risk.confidence_interval(profit, alpha=0.05)
    >>> found.low < 1.645 < found.high  # the true value at risk
    True
    """
    x, w, _ = check(values, weight, alpha)
    tail = one_level(alpha)
    if x.ndim != 1:
        raise InputError(f"values must be one-dimensional, not shape {x.shape}")
    if tail == 1:
        raise InputError("alpha must lie in (0, 1)")
    level = bounded_number("level", level, 0, 1)
    functions = {"value_at_risk": value_at_risk, "expected_shortfall": expected_shortfall}
    if measure not in functions:
        raise InputError(f"measure must be 'value_at_risk' or 'expected_shortfall', not {measure!r}")
    estimate = float(functions[measure](x, w, alpha=tail))
    if method == "bootstrap":
        low, high = _bootstrap(x, w, measure, tail, level, resamples, seed)
    elif method != "analytic":
        raise InputError(f"method must be 'analytic' or 'bootstrap', not {method!r}")
    elif measure == "expected_shortfall":
        edge = -float(value_at_risk(x, w, alpha=tail))
        influence = np.maximum(edge - x, 0) / tail - edge - estimate
        error = float(ndtri((1 + level) / 2) * np.sqrt(np.square(w) @ np.square(influence)))
        low, high = estimate - error, estimate + error
    elif np.ptp(w) <= 1e-12 * w.max():
        low, high = _order_statistics(x, tail, level)
    else:
        edge = quantile(x, w, [tail])[0]
        error = ndtri((1 + level) / 2) * np.sqrt(np.square(w) @ np.square((x <= edge) - tail))
        high, low = -quantile(x, w, np.clip([tail - error, tail + error], 0, 1))
    return Interval(estimate, float(low), float(high))


def _order_statistics(x: FloatArray, alpha: float, level: float) -> tuple[float, float]:
    """Losses at two ranks r < s: P(r <= number below the quantile < s) by the binomial law is at least the level."""
    n = x.size
    below = bdtr(np.arange(n).astype(np.float64), n, alpha)  # P(count <= 0), ..., P(count <= n - 1)
    outside = (1 - level) / 2
    first = int(np.searchsorted(below, outside, side="right"))  # the largest r with P(count <= r - 1) <= outside
    last = (
        int(np.searchsorted(below, 1 - outside, side="left")) + 1
    )  # the smallest s with P(count <= s - 1) >= 1 - outside
    if first < 1 or last > n:
        raise InputError(
            f"{n} scenarios are too few to enclose the {alpha:g} quantile with confidence {level:g}; draw more, "
            "or lower level"
        )
    ordered = np.sort(x)
    return -ordered[last - 1], -ordered[first - 1]


def _bootstrap(
    x: FloatArray,
    w: FloatArray,
    measure: str,
    alpha: float,
    level: float,
    resamples: int,
    seed: int | np.random.Generator | None,
) -> tuple[float, float]:
    resamples = whole_number("resamples", resamples, least=100)
    rng = random_generator(seed)
    order = np.argsort(x, kind="stable")
    ordered, mass = x[order], w[order]
    found = np.empty(resamples)
    for start in range(0, resamples, _SAMPLES):
        size = min(_SAMPLES, resamples - start)
        drawn = rng.multinomial(x.size, np.full(x.size, 1 / x.size), size=size) * mass
        to = np.cumsum(drawn, axis=1)
        if np.any(to[:, -1] == 0):
            raise InputError("too few scenarios have weight for a bootstrap: a sample had none; use method='analytic'")
        drawn, to = drawn / to[:, -1:], to / to[:, -1:]
        if measure == "value_at_risk":
            found[start : start + size] = -ordered[np.minimum((to < alpha - 1e-12).sum(axis=1), x.size - 1)]
        else:
            part = np.clip(alpha - (to - drawn), 0, drawn)
            found[start : start + size] = -(part @ ordered) / alpha
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

"""Backtests of risk forecasts: tests of expected shortfall by simulation, and the supervisors' traffic light."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

from volscen._numbers import whole_number
from volscen.errors import InputError
from volscen.evaluation._tests_of_risk import christoffersen, fissler_ziegel, kupiec
from volscen.risk._checks import floats, random_generator
from volscen.risk._measures import check, expected_shortfall, one_level, value_at_risk

__all__ = [
    "AcerbiSzekely",
    "TrafficLight",
    "acerbi_szekely",
    "christoffersen",
    "fissler_ziegel",
    "kupiec",
    "traffic_light",
]

FloatArray = npt.NDArray[np.float64]

#: Cumulative probabilities at which the yellow and the red zone begin.
_YELLOW, _RED = 0.95, 0.9999

#: Additions to the multiplier 3 for 5 to 9 violations in 250 days at 1%, and 1 in the red zone (Basel Committee 1996).
_ADDITIONS = {5: 0.40, 6: 0.50, 7: 0.65, 8: 0.75, 9: 0.85}


class AcerbiSzekely(NamedTuple):
    """Result of :func:`acerbi_szekely`.

    Attributes
    ----------
    z1 : float
        Mean of x/(-ES) over the days of violation, plus 1: expected 0, negative where losses beyond the value at risk
        are larger than forecast. 0 without violations.
    z2 : float
        Sum of x/(-ES) over the days of violation, divided by the number of days times alpha, plus 1: expected 0,
        negative where violations are more frequent or larger.
    p_value1, p_value2 : float
        Probability of a statistic as low, or lower, if every forecast were right, by simulation.
    violations : int
        Days on which the loss reached the value at risk.
    """

    z1: float
    z2: float
    p_value1: float
    p_value2: float
    violations: int


class TrafficLight(NamedTuple):
    """Result of :func:`traffic_light`.

    Attributes
    ----------
    zone : {"green", "yellow", "red"}
        Red from a cumulative probability of 99.99%, yellow from 95%.
    violations, days : int
        Counted.
    cumulative_probability : float
        Of so many violations or fewer, if the rate is alpha.
    addition : float or None
        To the multiplier of 3, for 250 days at 1%; None for other tests, to which the table does not apply.
    """

    zone: Literal["green", "yellow", "red"]
    violations: int
    days: int
    cumulative_probability: float
    addition: float | None


def acerbi_szekely(
    profit: npt.ArrayLike,
    scenarios: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    alpha: float = 0.025,
    n_simulations: int = 2000,
    seed: int | np.random.Generator | None = 0,
) -> AcerbiSzekely:
    """Test forecasts of expected shortfall against what happened.

    Parameters
    ----------
    profit : array_like, shape (T,)
        What was made on each day, gains positive.
    scenarios : array_like, shape (T, n)
        Profit and loss on the scenarios that were forecast for each day.
    weight : array_like, shape (n,) or (T, n), optional
        Of the scenarios, summing to 1 per day; equal when omitted.
    alpha : float
        Tail probability in (0, 1].
    n_simulations : int
        Histories drawn from the forecasts, at least 100.
    seed : int, numpy.random.Generator or None
        Of the simulation.

    Returns
    -------
    AcerbiSzekely
        ``z1``, ``z2``, ``p_value1``, ``p_value2``, ``violations``.

    Raises
    ------
    InputError
        If shapes do not fit, a number is not finite or out of range, or a day's expected shortfall is no loss, which
        leaves the statistics without meaning.

    Notes
    -----
    Acerbi and Szekely (2014), "Back-testing expected shortfall", tests 1 and 2. Days are drawn independently, each from
    its own forecast. A p-value is (1 + number of simulated statistics at most the one found) / (1 + n_simulations), so
    that it is never zero. With discrete scenarios a day's value at risk itself counts as a violation, in what happened
    and in the simulation alike.

    Examples
    --------
    >>> import numpy as np, volscen
    >>> rng = np.random.default_rng(0)
    >>> found = volscen.risk.acerbi_szekely(2 * rng.normal(size=250), rng.normal(size=(250, 1000)))
    >>> found.p_value2 < 0.01  # twice the forecast's risk
    True
    """
    level = one_level(alpha)
    x, table = floats("profit", profit), floats("scenarios", scenarios)
    if x.ndim != 1 or not x.size or not np.all(np.isfinite(x)):
        raise InputError("profit must be a list of finite numbers, one a day")
    if table.ndim != 2 or table.shape[0] != x.size or not table.shape[1]:
        raise InputError(f"scenarios must have the axes (day, scenario) with {x.size} days, not shape {table.shape}")
    n_simulations = whole_number("n_simulations", n_simulations, least=100)
    weights = None if weight is None else floats("weight", weight)
    if weights is not None and weights.shape not in (table.shape, table.shape[1:]):
        raise InputError(f"weight must have shape {table.shape} or {table.shape[1:]}, not {weights.shape}")
    rng = random_generator(seed)
    found = np.zeros(2)
    simulated = np.zeros((2, n_simulations))
    for day in range(x.size):
        own = weights if weights is None or weights.ndim == 1 else weights[day]
        values, w, _ = check(table[day], own, level)
        quantile = -float(value_at_risk(values, w, alpha=level))
        shortfall = float(expected_shortfall(values, w, alpha=level))
        if not shortfall > 0:
            raise InputError(f"the forecast of day {day} expects no loss in its tail; Z1 and Z2 have no meaning there")
        to = np.cumsum(w)
        drawn = np.minimum(np.searchsorted(to, rng.random(n_simulations) * to[-1], side="right"), w.size - 1)
        found += _hit(x[day : day + 1], quantile, shortfall)[:, 0]
        simulated += _hit(values[drawn], quantile, shortfall)
    z, null = _statistics(found[:, None], x.size * level)[:, 0], _statistics(simulated, x.size * level)
    # A statistic found again, up to rounding, is as low.
    p = (1 + np.count_nonzero(null <= z[:, None] + 1e-12, axis=1)) / (1 + n_simulations)
    return AcerbiSzekely(float(z[0]), float(z[1]), float(p[0]), float(p[1]), int(found[0]))


def traffic_light(violation: npt.ArrayLike, *, alpha: float = 0.01) -> TrafficLight:
    """Zone of the Basel Committee's traffic light for a series of violations of the value at risk.

    Parameters
    ----------
    violation : array_like of bool, shape (T,)
        Whether the loss exceeded value at risk, by day.
    alpha : float
        Tail probability in (0, 1).

    Returns
    -------
    TrafficLight
        ``zone``, ``violations``, ``days``, ``cumulative_probability``, ``addition``.

    Raises
    ------
    InputError
        If there is no day, entries are not True or False, or alpha is out of range.

    Notes
    -----
    Basel Committee on Banking Supervision (1996), "Supervisory framework for the use of backtesting": at 250 days and
    1%, green to 4 violations, yellow from 5, red from 10.

    Examples
    --------
    >>> import numpy as np, volscen
    >>> days = np.zeros(250, dtype=bool)
    >>> days[:6] = True
    >>> light = volscen.risk.traffic_light(days)
    >>> light.zone, light.addition, round(light.cumulative_probability, 4)
    ('yellow', 0.5, 0.9863)
    """
    hit = np.asarray(violation)
    if hit.dtype.kind != "b" or hit.ndim != 1 or not hit.size:
        raise InputError("violation must be a list of True and False, one a day")
    level = one_level(alpha)
    if level == 1:
        raise InputError("alpha must lie in (0, 1)")
    count, days = int(hit.sum()), hit.size
    probability = float(bdtr(count, days, level))
    zone: Literal["green", "yellow", "red"] = (
        "red" if probability >= _RED else "yellow" if probability >= _YELLOW else "green"
    )
    addition = None
    if days == 250 and level == 0.01:
        addition = {"green": 0.0, "red": 1.0}.get(zone, _ADDITIONS.get(count, 0.0))
    return TrafficLight(zone, count, days, probability, addition)


def _hit(x: FloatArray, quantile: float, shortfall: float) -> FloatArray:
    """Whether each profit violates, and by how much of the expected shortfall."""
    hit = x <= quantile
    return np.stack([hit.astype(np.float64), np.where(hit, x / shortfall, 0.0)])


def _statistics(sums: FloatArray, expected: float) -> FloatArray:
    """Z1 and Z2 from the sums of :func:`_hit` over days."""
    count, ratio = sums
    z1 = np.where(count > 0, ratio / np.maximum(count, 1) + 1, 0.0)
    return np.stack([z1, ratio / expected + 1])

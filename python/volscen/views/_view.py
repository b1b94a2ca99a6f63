"""Statistics of quantities and the bounds they must keep: the views themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from volscen._numbers import bounded_number, finite_number
from volscen.errors import InputError
from volscen.views._quantities import (
    Quantity,
    arbitrage_penalty,
    as_quantity,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "View",
    "compare",
    "correlation",
    "expected_shortfall",
    "mean",
    "mean_penalty",
    "probability",
    "quantile",
    "std",
    "value_at_risk",
    "variance",
]


@dataclass(frozen=True)
class View:
    """A statistic of one or two quantities and the bounds it must keep; made by the functions of this module.

    Attributes
    ----------
    statistic : str
        Which statistic.
    quantities : tuple of Quantity
        What of.
    lower, upper : float
        Bounds; equal for an equality, infinite where there is none. NaN of ``mean_penalty``: today's penalty.
    level : float
        Of quantiles and tail measures.
    confidence : float
        In (0, 1]; see :func:`volscen.entropy_pool`.
    """

    statistic: str
    quantities: tuple[Quantity, ...]
    lower: float
    upper: float
    level: float = np.nan
    confidence: float = 1.0

    @property
    def name(self) -> str:
        """The statistic without its bounds, such as ``std(atm_vol(0.25))``."""
        level = "" if np.isnan(self.level) else f", {self.level:g}"
        return f"{self.statistic}({', '.join(q.label for q in self.quantities)}{level})"

    def __str__(self) -> str:
        if np.isnan(self.upper):
            return f"{self.name} <= today's"
        if self.lower == self.upper:
            return f"{self.name} = {self.lower:.6g}"
        low = "" if self.lower == -np.inf else f"{self.lower:.6g} <= "
        high = "" if self.upper == np.inf else f" <= {self.upper:.6g}"
        return f"{low}{self.name}{high}"


def _view(
    statistic: str,
    quantities: Sequence[object],
    equals: float | None,
    at_least: float | None,
    at_most: float | None,
    confidence: float,
    *,
    level: float = np.nan,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> View:
    if (equals is None) == (at_least is None and at_most is None):
        raise InputError(f"views.{statistic} needs either equals=, or at_least= and/or at_most=")
    if equals is not None:
        lower = upper = finite_number("equals", equals)
    else:
        lower = -np.inf if at_least is None else finite_number("at_least", at_least)
        upper = np.inf if at_most is None else finite_number("at_most", at_most)
    if lower > upper:
        raise InputError(f"at_least {lower:g} of views.{statistic} exceeds at_most {upper:g}")
    if upper <= within[0] or lower >= within[1]:
        raise InputError(
            f"views.{statistic} lies between {within[0]:g} and {within[1]:g}, both excluded; a bound of "
            f"{upper if upper <= within[0] else lower:g} cannot be met"
        )
    share = bounded_number("confidence", confidence, 0, 1, ends="(]")
    return View(statistic, tuple(as_quantity(q) for q in quantities), lower, upper, level, share)


def mean(
    quantity: object,
    *,
    equals: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    confidence: float = 1.0,
) -> View:
    """Bound the expectation of a quantity.

    Parameters
    ----------
    quantity : Quantity, str, Portfolio, array_like, xarray.DataArray or callable
        A quantity of this module; the name of a variable over scenarios (its last step); a portfolio (its
        :func:`profit`); an array of one number per scenario, or of shape (as_of, scenario); or a function from the
        dataset of one date to such an array.
    equals, at_least, at_most : float
        Either the first, or one or both of the others, in the unit of the quantity.
    confidence : float
        In (0, 1].

    Raises
    ------
    InputError
        If bounds are missing, contradictory or no numbers.

    Examples
    --------
    >>> from volscen import views
    >>> str(views.mean(views.atm_vol(0.25), at_least=0.2, at_most=0.25))
    '0.2 <= mean(atm_vol(0.25)) <= 0.25'
    """
    return _view("mean", (quantity,), equals, at_least, at_most, confidence)


def std(
    quantity: object,
    *,
    equals: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    confidence: float = 1.0,
) -> View:
    """Bound the standard deviation of a quantity over the scenarios; nothing is annualised."""
    return _view("std", (quantity,), equals, at_least, at_most, confidence, within=(0, np.inf))


def variance(
    quantity: object,
    *,
    equals: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    confidence: float = 1.0,
) -> View:
    """Bound the variance of a quantity."""
    return _view("variance", (quantity,), equals, at_least, at_most, confidence, within=(0, np.inf))


def correlation(
    first: object,
    second: object,
    *,
    equals: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    confidence: float = 1.0,
) -> View:
    """Bound the linear correlation of two quantities."""
    return _view("correlation", (first, second), equals, at_least, at_most, confidence, within=(-1, 1))


def probability(
    event: object,
    *,
    equals: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    confidence: float = 1.0,
) -> View:
    """Bound the probability of an event: a quantity that is 1 (or True) where it happens and 0 elsewhere.

    Examples
    --------
    >>> from volscen import views
    >>> crash = views.probability(lambda ds: ds.log_return.min("step") < -0.03, at_least=0.05)
    >>> str(crash)
    '0.05 <= probability(<lambda>)'
    """
    return _view("probability", (event,), equals, at_least, at_most, confidence)


def quantile(
    quantity: object,
    level: float,
    *,
    equals: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    confidence: float = 1.0,
) -> View:
    """Bound a quantile, as :func:`volscen.weighted_quantile` takes it.

    Parameters
    ----------
    quantity : Quantity, str, array_like, xarray.DataArray or callable
        As in :func:`mean`.
    level : float
        In (0, 1).
    equals, at_least, at_most : float
        ``equals=v`` makes the quantile the largest scenario not above v.
    confidence : float
        In (0, 1].

    Examples
    --------
    >>> from volscen import views
    >>> str(views.quantile("log_return", 0.05, at_most=-0.02))
    'quantile(log_return, 0.05) <= -0.02'
    """
    return _view(
        "quantile", (quantity,), equals, at_least, at_most, confidence, level=bounded_number("level", level, 0, 1)
    )


def value_at_risk(
    profit: object,
    alpha: float,
    *,
    equals: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    confidence: float = 1.0,
) -> View:
    """Bound the value at risk of profits: minus their alpha-quantile, a loss, positive where money is lost."""
    return _view(
        "value_at_risk", (profit,), equals, at_least, at_most, confidence, level=bounded_number("alpha", alpha, 0, 1)
    )


def expected_shortfall(
    profit: object,
    alpha: float,
    *,
    equals: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    confidence: float = 1.0,
) -> View:
    """Bound the expected shortfall of profits, as :func:`volscen.risk.expected_shortfall` takes it.

    Parameters
    ----------
    profit : Quantity, str, array_like, xarray.DataArray or callable
        Profit and loss, gains positive.
    alpha : float
        Tail probability in (0, 1).
    equals, at_least, at_most : float
        Losses, positive.
    confidence : float
        In (0, 1].

    Examples
    --------
    >>> import volscen
    >>> from volscen import views
    >>> cube = volscen.generate(n_scenarios=5000, seed=1)
    >>> stressed = volscen.entropy_pool(cube, [views.expected_shortfall("log_return", 0.05, equals=0.02)])
    >>> float(volscen.risk.expected_shortfall(cube.log_return[:, 0], stressed.weight, alpha=0.05).round(8))
    0.02
    """
    return _view(
        "expected_shortfall",
        (profit,),
        equals,
        at_least,
        at_most,
        confidence,
        level=bounded_number("alpha", alpha, 0, 1),
    )


def mean_penalty(*, at_most: float | None = None, confidence: float = 1.0) -> View:
    """Bound the expected static-arbitrage penalty of a path.

    Parameters
    ----------
    at_most : float, optional
        Default: today's, the penalty of the starting surface times the number of steps, since a path's penalty is
        the sum over its steps.
    confidence : float
        In (0, 1].

    Examples
    --------
    >>> from volscen import views
    >>> str(views.mean_penalty())
    "mean_penalty(arbitrage_penalty()) <= today's"
    """
    view = _view("mean_penalty", (arbitrage_penalty(),), None, None, 0.0 if at_most is None else at_most, confidence)
    if view.upper < 0:
        raise InputError(f"at_most of views.mean_penalty must not be negative, not {at_most!r}")
    return view if at_most is not None else replace(view, upper=np.nan)


def compare(ds: xr.Dataset, pooled: xr.Dataset, views: Sequence[View]) -> pd.DataFrame:
    """Each view's statistic before and after.

    Parameters
    ----------
    ds, pooled : xarray.Dataset
        The same scenarios under two sets of weights, one date.
    views : sequence of View
        What to look at; their bounds need not be those that were pooled.

    Returns
    -------
    pandas.DataFrame
        Indexed by the statistic, with columns ``at_least``, ``at_most``, ``before``, ``after`` and ``met`` (after).

    Examples
    --------
    >>> import volscen
    >>> from volscen import views
    >>> cube = volscen.generate(n_scenarios=2000, seed=1)
    >>> belief = [views.std("log_return", equals=0.009)]
    >>> table = volscen.views.compare(cube, volscen.entropy_pool(cube, belief), belief)
    >>> table.met.all() and round(float(table.after.iloc[0]), 8)
    0.009
    """
    from volscen.views._beliefs import compare_views

    return compare_views(ds, pooled, views)

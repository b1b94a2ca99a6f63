"""Views on the law of the scenarios, for :func:`volscen.entropy_pool`: what is believed, in the words of the desk.

A view is a statistic (:func:`mean`, :func:`std`, :func:`variance`, :func:`correlation`, :func:`quantile`,
:func:`probability`, :func:`value_at_risk`, :func:`expected_shortfall`, :func:`mean_penalty`) of a quantity
(:func:`log_return`, :func:`atm_vol`, :func:`skew`, :func:`profit`, ..., or any array), and what it equals or may not
pass.

>>> import volscen
>>> from volscen import views
>>> cube = volscen.generate(n_scenarios=5000, horizon=5, seed=1)
>>> pooled = volscen.entropy_pool(cube, [
...     views.mean(views.atm_vol(0.25), equals=0.15),
...     views.std(views.total_log_return(), at_least=0.02),
... ])
>>> round(float((pooled.weight * views.atm_vol(0.25).values(cube)).sum()), 6)
0.15
"""

from __future__ import annotations

from volscen.views._quantities import (
    Quantity,
    arbitrage_penalty,
    array,
    atm_vol,
    implied_vol,
    log_return,
    profit,
    skew,
    term_slope,
    total_log_return,
    vix,
)
from volscen.views._view import (
    View,
    compare,
    correlation,
    expected_shortfall,
    mean,
    mean_penalty,
    probability,
    quantile,
    std,
    value_at_risk,
    variance,
)

__all__ = [
    "Quantity",
    "View",
    "arbitrage_penalty",
    "array",
    "atm_vol",
    "compare",
    "correlation",
    "expected_shortfall",
    "implied_vol",
    "log_return",
    "mean",
    "mean_penalty",
    "probability",
    "profit",
    "quantile",
    "skew",
    "std",
    "term_slope",
    "total_log_return",
    "value_at_risk",
    "variance",
    "vix",
]

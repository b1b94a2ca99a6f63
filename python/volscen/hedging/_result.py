"""The dataset that a hedge returns: ratios, what trading them costs, and what they leave."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from volscen import risk
from volscen.hedging._base import HedgeSolution, Trading
from volscen.hedging._problem import Valued
from volscen.portfolio._revalue import contract_coordinates

__all__ = ["result"]

_DESIGN = {
    "condition_number": "condition of the standardised changes",
    "effective_rank": "effective rank of the standardised changes",
}


def result(valued: Valued, solution: HedgeSolution, trading: Trading) -> xr.Dataset:
    """Assemble the dataset, without its attributes."""
    problem = valued.problem
    book, traded, w = problem.book, problem.traded, problem.weight
    ratio = solution.ratio
    tracking = problem.portfolio_change - problem.instrument_change @ ratio
    mean = float(w @ tracking)
    error = tracking - solution.constant
    trade = ratio - trading.current
    cost = trading.cost * np.abs(trade)
    tails = np.asarray(risk.LEVELS)
    by_instrument: dict[str, tuple[Any, str, str | None]] = {
        "ratio": (ratio, "units that replicate the portfolio", "1"),
        "selected": (solution.selected, "used by the hedge", None),
        "value0": (traded.value, "value of one unit at the start", "currency"),
        "delta": (traded.delta, "value per unit of spot", "1"),
        "vega": (traded.vega, "value per 1.00 of volatility", "currency"),
        "trade": (trade, "units to trade from the current holding", "1"),
        "trade_cost": (cost, "cost of the trade", "currency"),
    }
    scalars = {
        "constant": (solution.constant, "intercept of the regression", "currency"),
        "r_squared": (1 - float(w @ np.square(error)) / valued.variance, "share of the variance hedged", "1"),
        "residual_mean": (mean, "mean tracking error", "currency"),
        "residual_std": (
            np.sqrt(w @ np.square(tracking - mean)),
            "standard deviation of the tracking error",
            "currency",
        ),
        "portfolio_value0": (book.total("value"), "value of the portfolio at the start", "currency"),
        "portfolio_delta": (book.total("delta"), "portfolio value per unit of spot", "1"),
        "portfolio_vega": (book.total("vega"), "portfolio value per 1.00 of volatility", "currency"),
        "net_delta": (book.total("delta") - ratio @ traded.delta, "delta that the hedge leaves", "1"),
        "net_vega": (book.total("vega") - ratio @ traded.vega, "vega that the hedge leaves", "currency"),
        "cost": (cost.sum(), "cost of all trades", "currency"),
        "turnover": (np.abs(trade) @ np.abs(traded.value), "value of all trades", "currency"),
        **{name: (solution.design[name], text, "1") for name, text in _DESIGN.items() if name in solution.design},
    }
    measures = {
        "residual_var": (risk.value_at_risk(tracking, w, alpha=tails), "value at risk of the tracking error"),
        "residual_es": (risk.expected_shortfall(tracking, w, alpha=tails), "expected shortfall of the tracking error"),
    }
    out = xr.Dataset(
        {
            **{name: ("instrument", value, _units(text, unit)) for name, (value, text, unit) in by_instrument.items()},
            **{name: ((), value, _units(text, unit)) for name, (value, text, unit) in scalars.items()},
            **{
                name: ("tail", value, _units(f"{text}, losses positive", "currency"))
                for name, (value, text) in measures.items()
            },
            "tracking_error": ("scenario", tracking, _units("portfolio less hedge, change in value", "currency")),
            "weight": ("scenario", w, _units("scenario weight, summing to 1", "1")),
        },
        coords={
            "tail": ("tail", tails, _units("tail probability", "1")),
            **contract_coordinates(valued.contracts),
            "extrapolated": (
                "instrument",
                valued.extrapolated,
                _units("off the surface's grid at the start or on the step", None),
            ),
            "extrapolated_weight": (
                "instrument",
                valued.extrapolated_weight,
                _units("weight of the scenarios valued off the surface's grid, 1 where the start is", "1"),
            ),
        },
    )
    if valued.start.as_of is not None:
        out = out.assign_coords(as_of=valued.start.as_of.astype("datetime64[ns]"))
    return out


def _units(long_name: str, units: str | None) -> dict[str, str]:
    return {"long_name": long_name} | ({} if units is None else {"units": units})

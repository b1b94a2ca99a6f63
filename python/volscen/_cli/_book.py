"""A book on scenarios in figures and in words: risk measures, contributions, profit and loss under stress."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from volscen import risk
from volscen._elapsed import step_position
from volscen._numbers import amount
from volscen._report_text import sole_text
from volscen.errors import ScenarioWarning
from volscen.portfolio import pnl
from volscen.risk._measures import sole_share

if TYPE_CHECKING:
    import pandas as pd

    from volscen.portfolio import Portfolio

__all__ = ["book_risk", "book_text", "stress_figures", "stress_text"]

#: Positions shown in text.
_SHOWN = 12


def book_risk(
    cube: xr.Dataset, portfolio: Portfolio, *, alpha: Sequence[float], step: int | None = None
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Risk measures of a book by tail probability, and contributions of its positions at the last of them."""
    import pandas as pd

    profit = pnl(cube, portfolio)
    position = step_position(cube, step)
    total, weight = profit["total"].isel(step=position).values, np.asarray(profit["weight"].values)
    tails = [
        {
            "alpha": float(level),
            "value_at_risk": float(risk.value_at_risk(total, weight, alpha=level)),
            "expected_shortfall": float(risk.expected_shortfall(total, weight, alpha=level)),
            "sole_share": sole_share(total, weight, alpha=float(level)),
        }
        for level in alpha
    ]
    for one in tails:
        if (text := sole_text(one["sole_share"], one["alpha"])) is not None:
            warnings.warn(text, ScenarioWarning, stacklevel=2)
    found = risk.contributions(profit, alpha=float(alpha[-1]), step=step)
    lines = pd.DataFrame(
        {
            "position": [str(line) for line in profit["line"].values],
            "group": [str(one) for one in profit["group"].values],
            "quantity": profit["quantity"].values,
            "value": profit["value0"].values,
            "component_var": found["component_var"].values,
            "component_es": found["component_es"].values,
            "extrapolated": profit["extrapolated"].values.astype(bool),
        }
    )
    mean = float(weight @ total)
    figures = {
        "as_of": cube["as_of"].values,
        "step": int(cube["step"].values[position]),
        "n_scenarios": int(total.size),
        "ess": float(1 / np.square(weight).sum()),
        "value": float(profit["value0"].sum()),
        "mean": mean,
        "std": float(np.sqrt(weight @ np.square(total - mean))),
        "tails": tails,
        "contributions_alpha": float(alpha[-1]),
        "positions": lines.to_dict("records"),
    }
    return figures, lines


def book_text(figures: Mapping[str, Any]) -> str:
    """The figures of :func:`book_risk` as a table."""
    day = np.datetime_as_string(figures["as_of"], unit="D")
    lines = [
        f"book of {len(figures['positions'])} position(s), value {amount(figures['value'])}, as of {day}, over "
        f"{figures['step']} trading day(s), {figures['ess']:,.0f} effective scenarios",
        f"  profit: mean {amount(figures['mean'])}, standard deviation {amount(figures['std'])}",
        f"  {'loss':<12}{'VaR':>14}{'ES':>14}",
    ]
    for one in figures["tails"]:
        name = f"{100 * (1 - one['alpha']):.4g}%"
        lines.append(f"  {name:<12}{amount(one['value_at_risk']):>14}{amount(one['expected_shortfall']):>14}")
    lines.append(
        f"  contributions at {100 * (1 - figures['contributions_alpha']):.4g}%{'quantity':>26}{'VaR':>12}{'ES':>12}"
    )
    ordered = sorted(figures["positions"], key=lambda one: -abs(one["component_es"]))
    for one in ordered[:_SHOWN]:
        star = " *" if one["extrapolated"] else ""
        lines.append(
            f"    {one['position']:<33}{one['quantity']:>12,.6g}{amount(one['component_var']):>12}"
            f"{amount(one['component_es']):>12}{star}"
        )
    if len(ordered) > _SHOWN:
        lines.append(f"    and {len(ordered) - _SHOWN} more, with smaller ones")
    if any(one["extrapolated"] for one in ordered):
        lines.append("  * lies off the surface's grid in some scenarios, where volatility is flat")
    return "\n".join(lines)


def stress_figures(stressed: xr.Dataset, portfolio: Portfolio) -> dict[str, Any]:
    """Profit and loss of a book on each stress scenario, at its last step."""
    profit = pnl(stressed, portfolio, lines=False)
    last = stressed.isel(step=-1)
    penalty = (
        last["arbitrage_penalty"].values if "arbitrage_penalty" in last else np.full(last.sizes["scenario"], np.nan)
    )
    spot = last["spot"].values / float(stressed["spot0"]) - 1
    level = last["implied_vol"].mean(("tau", "moneyness")).values - float(stressed["implied_vol0"].mean())
    rows = zip(stressed["name"].values, spot, level, profit["total"].isel(step=-1).values, penalty, strict=True)
    return {
        "value": float(profit["value0"].sum()),
        "scenarios": [
            {
                "name": str(name),
                "spot_return": float(move),
                "mean_vol_change": float(vol),
                "profit": float(gain),
                "arbitrage_penalty": float(phi),
            }
            for name, move, vol, gain, phi in rows
        ],
    }


def stress_text(figures: Mapping[str, Any]) -> str:
    """The figures of :func:`stress_figures` as a table."""
    lines = [
        f"book worth {amount(figures['value'])} under stress",
        f"  {'scenario':<36}{'spot':>9}{'vols':>9}{'profit':>14}{'penalty':>11}",
    ]
    for one in figures["scenarios"]:
        vol, phi = f"{100 * one['mean_vol_change']:+.2f}", f"{one['arbitrage_penalty']:.3g}"
        lines.append(f"  {one['name']:<36}{one['spot_return']:>+9.2%}{vol:>9}{amount(one['profit']):>14}{phi:>11}")
    return "\n".join(lines)

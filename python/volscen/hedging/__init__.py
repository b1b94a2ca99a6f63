"""Hedge ratios of option portfolios from scenarios, and backtests of them.

Adding a method means adding a file here and a line to the registry.
"""

from __future__ import annotations

from volscen._pictures._hedge import hedge_ratios as plot
from volscen.hedging._backtest_plan import Costs, HedgeArm, HedgeInstruments, OpenPosition, RolledPosition
from volscen.hedging._backtest_result import backtest_table
from volscen.hedging._base import HedgeWarning
from volscen.hedging._hedge import hedge
from volscen.hedging._registry import REGISTRY, method_function
from volscen.hedging._stability import stability

__all__ = [
    "REGISTRY",
    "Costs",
    "HedgeArm",
    "HedgeInstruments",
    "HedgeWarning",
    "OpenPosition",
    "RolledPosition",
    "backtest_table",
    "hedge",
    "method_function",
    "plot",
    "stability",
]

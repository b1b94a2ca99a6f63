"""Hedge ratios of option portfolios from scenarios.

Adding a method means adding a file here and a line to the registry.
"""

from __future__ import annotations

from volscen.hedging._base import HedgeWarning
from volscen.hedging._figure import plot
from volscen.hedging._hedge import hedge
from volscen.hedging._registry import REGISTRY, method_function
from volscen.hedging._stability import stability

__all__ = ["REGISTRY", "HedgeWarning", "hedge", "method_function", "plot", "stability"]

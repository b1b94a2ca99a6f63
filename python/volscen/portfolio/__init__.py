"""Portfolios of options and their underlying, and their revaluation on scenarios."""

from __future__ import annotations

from volscen.portfolio._contracts import resolve
from volscen.portfolio._instruments import Cash, Forward, Instrument, Option, Underlying, VarianceSwap, VixPayoff
from volscen.portfolio._portfolio import Portfolio, instruments_from_table
from volscen.portfolio._profit import explain, pnl
from volscen.portfolio._revalue import RevaluationWarning, revalue

__all__ = [
    "Cash",
    "Forward",
    "Instrument",
    "Option",
    "Portfolio",
    "RevaluationWarning",
    "Underlying",
    "VarianceSwap",
    "VixPayoff",
    "explain",
    "instruments_from_table",
    "pnl",
    "resolve",
    "revalue",
]

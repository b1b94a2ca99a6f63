"""Hedges from sensitivities: Black delta, and delta with one option against parallel moves of volatility."""

from __future__ import annotations

import numpy as np

from volscen.errors import InputError
from volscen.hedging._base import Alpha, HedgeProblem, HedgeSolution, no_alpha

__all__ = ["delta", "delta_vega"]

#: Vega of the hedging option, relative to spot, below which it hedges no volatility.
_NO_VEGA = 1e-10


def delta(problem: HedgeProblem, alpha: Alpha) -> HedgeSolution:
    """Hold the portfolio's Black delta in the underlying; other instruments stay unused."""
    no_alpha(alpha, "delta")
    underlying = problem.underlying()
    ratio = np.zeros(len(problem.labels))
    ratio[underlying] = problem.portfolio_delta
    return HedgeSolution(ratio, selected=problem.is_underlying.copy())


def delta_vega(problem: HedgeProblem, alpha: Alpha) -> HedgeSolution:
    """Match the portfolio's vega with one option, then its delta with the underlying."""
    no_alpha(alpha, "delta-vega")
    underlying = problem.underlying()
    options = np.flatnonzero(~problem.is_underlying)
    if options.size != 1:
        raise InputError(
            f"instruments must hold exactly one option beside the underlying for method='delta-vega', not "
            f"{options.size}; choose one"
        )
    option = int(options[0])
    if problem.vega[option] <= _NO_VEGA * problem.value_scale:
        raise InputError(
            f"{problem.labels[option]} has no vega ({problem.vega[option]:.3g}), so it cannot hedge "
            "volatility; choose an option nearer the money"
        )
    ratio = np.zeros(len(problem.labels))
    ratio[option] = problem.portfolio_vega / problem.vega[option]
    ratio[underlying] = problem.portfolio_delta - ratio[option] * problem.delta[option]
    return HedgeSolution(ratio, selected=np.ones(len(problem.labels), dtype=bool))

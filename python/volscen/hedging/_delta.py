"""Hedges with the underlying alone: Black delta and minimum-variance delta."""

from __future__ import annotations

import numpy as np

from volscen.hedging._base import HedgeOptions, HedgeProblem, HedgeSolution
from volscen.hedging._sensitivities import finish
from volscen.hedging._slopes import problem_slopes

__all__ = ["delta", "minimum_variance_delta"]


def delta(problem: HedgeProblem, options: HedgeOptions) -> HedgeSolution:
    """Hold the portfolio's Black delta in the underlying; other instruments stay unused."""
    return finish(problem, options, np.zeros(len(problem.labels)), problem.book.delta, problem.traded.delta)


def minimum_variance_delta(problem: HedgeProblem, options: HedgeOptions) -> HedgeSolution:
    """Hold delta + vega x d sigma/dS, each contract with its own slope; other instruments stay unused.

    Hull and White (2017), "Optimal delta hedging for options", J. Banking and Finance 82.
    """
    book, traded = problem_slopes(problem, options.vol_slope)
    return finish(
        problem,
        options,
        np.zeros(len(problem.labels)),
        problem.book.delta + problem.book.vega * book,
        problem.traded.delta + problem.traded.vega * traded,
    )

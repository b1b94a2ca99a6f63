"""Least squares with a ridge as large as the noise of the quotes.

Scenarios of a generator are clean and nearly of low rank: least squares finds large offsetting positions that gain
nothing out of sample. Traded prices carry errors of about half their spread, and a position phi_i earns phi_i times
that of its instrument. Errors independent of each other and of the scenarios add (noise_i phi_i)^2 to the variance:

    minimise  sum_j w_j e_j^2 + sum_i (noise_i phi_i)^2.
"""

from __future__ import annotations

import numpy as np

from volscen.hedging._base import HedgeOptions, HedgeProblem, HedgeSolution
from volscen.hedging._moments import Moments
from volscen.hedging._regression import design_diagnostics, nearly_dependent, refuse_dependent, solution, solve
from volscen.hedging._trading import constrained, scaled

__all__ = ["ridge"]


def ridge(problem: HedgeProblem, options: HedgeOptions) -> HedgeSolution:
    """Regress the portfolio's changes on those of all instruments, each with the noise of its quote."""
    n = len(problem.labels)
    data = Moments.of(problem, few=True)
    doubts = []
    if data.effective < n + 1:
        doubts = [
            f"the weights leave {data.effective:.1f} effective scenarios (ESS) for {n} instruments and a constant; the "
            "ridge has a solution all the same, but the R-squared flatters"
        ]
    columns = np.arange(n)
    noisy = data.with_noise(options.noise)
    design = noisy.design(columns)
    coefficients, s, vt = solve(design)
    refuse_dependent(problem, columns, s, vt)  # copies of one another that have no noise of their own
    doubts += nearly_dependent(n, float(s[0] / s[-1]), "raise noise or use fewer instruments")
    if not options.trading.is_free:
        coefficients = constrained(design, scaled(options.trading, noisy.x_scale, columns, data.y_scale))
    clean = np.sqrt(np.maximum(np.linalg.eigvalsh(data.gram[:-1, :-1])[::-1], 0))
    return solution(problem, noisy, columns, coefficients, options, design=design_diagnostics(clean), doubts=doubts)

"""Hedge ratios of least expected shortfall, by linear programming.

Rockafellar and Uryasev (2000), "Optimization of conditional value-at-risk", J. Risk 2: with L_j the loss of being long
the portfolio and short the hedge in scenario j, expected shortfall at tail probability p is

    min over c of  c + 1/p sum_j w_j (L_j - c)+,

and so its least value over the ratios is a linear programme, costs and limits included. What is solved is the dual,
which has a row for each instrument rather than for each scenario: among the reweightings q of the scenarios, at most
1/p times their weight, find the one under which the portfolio does worst while no instrument, net of costs, earns
anything. The ratios are its multipliers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volscen.errors import FitError, InputError
from volscen.hedging._base import HedgeOptions, HedgeProblem, HedgeSolution, Trading
from volscen.hedging._moments import Moments
from volscen.hedging._regression import design_diagnostics, nearly_dependent, refuse_dependent, solution, solve
from volscen.hedging._trading import in_lots, scaled

__all__ = ["minimum_expected_shortfall"]

FloatArray = npt.NDArray[np.float64]

#: Effective scenarios in the tail for each instrument below which ratios are warned about.
TAIL_SCENARIOS = 5


def minimum_expected_shortfall(problem: HedgeProblem, options: HedgeOptions) -> HedgeSolution:
    """Minimise the expected shortfall of the tracking error, about its mean unless told otherwise."""
    n = len(problem.labels)
    columns = np.arange(n)
    data = Moments.of(problem)
    _, s, vt = solve(data.design(columns))
    refuse_dependent(problem, columns, s, vt)
    design = design_diagnostics(s)
    doubts = [*_few_in_tail(data, options.tail, n), *nearly_dependent(n, design["condition_number"])]
    used = problem.weight > 0
    x, y = problem.instrument_change[used], problem.portfolio_change[used]
    if options.centre:
        x, y = x - data.x_mean, y - data.y_mean
    weight = problem.weight[used] / problem.weight[used].sum()
    trading = scaled(options.trading, data.x_scale, columns, data.y_scale)
    work = _Programme(x / data.x_scale, y / data.y_scale, weight, options.tail, trading)
    ratio = in_lots(work.solve, trading) if trading.has_lots else work.solve(trading.lower, trading.upper)[0]
    found = solution(problem, data, columns, ratio, options, design=design)
    return HedgeSolution(found.ratio, found.selected, design=design, doubts=doubts)


def _few_in_tail(data: Moments, tail: float, n: int) -> list[str]:
    if data.effective * tail >= TAIL_SCENARIOS * n * (1 - 1e-9):
        return []
    return [
        f"{data.effective * tail:.1f} effective scenarios (ESS) in the tail are few for {n} instruments, so their "
        f"ratios are uncertain and the expected shortfall flatters; use at least {TAIL_SCENARIOS} for each, a larger "
        "tail or fewer instruments"
    ]


@dataclass(frozen=True)
class _Programme:
    x: FloatArray
    y: FloatArray
    weight: FloatArray
    tail: float
    trading: Trading

    def solve(self, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, float]:
        """Standardised ratios within limits, and the shortfall plus weighted cost there."""
        from scipy.optimize import linprog
        from scipy.sparse import csr_array, hstack, identity, vstack

        held = lower == upper
        y = self.y - self.x[:, held] @ lower[held]
        x = self.x[:, ~held]
        n = x.shape[1]
        price = self.trading.cost_weight * self.trading.cost
        fixed_price = float(price[held] @ np.abs(lower[held] - self.trading.current[held]))
        if n == 0:
            return lower.copy(), self._shortfall(y) + fixed_price
        current, price = self.trading.current[~held], price[~held]
        low, high = lower[~held], upper[~held]
        below, above = np.flatnonzero(np.isfinite(low)), np.flatnonzero(np.isfinite(high))
        eye = identity(n, format="csr")
        # Columns: reweighting q, price of trading d, multipliers of the upper and of the lower limits.
        rows = hstack([csr_array(x.T), eye, eye[:, above], -eye[:, below]], format="csr")
        total = csr_array(np.concatenate([np.ones(y.size), np.zeros(rows.shape[1] - y.size)])[None])
        objective = np.concatenate([y, current, high[above], -low[below]])
        bounds = np.zeros((objective.size, 2))
        bounds[: y.size, 1] = self.weight / self.tail
        bounds[y.size : y.size + n, 0], bounds[y.size : y.size + n, 1] = -price, price
        bounds[y.size + n :, 1] = np.inf
        found = linprog(  # type: ignore[call-overload]
            objective,
            A_eq=vstack([rows, total], format="csr"),
            b_eq=np.append(np.zeros(n), 1.0),
            bounds=bounds,
            method="highs",
        )
        if found.status == 2:
            raise InputError(
                "expected shortfall has no least value: some combination of the instruments gains in every reweighting "
                "of the scenarios; leave centre=True, or set lower and upper"
            )
        if found.status != 0:
            raise FitError(f"the linear programme of method='min-es' was not solved: {found.message}")
        z = lower.copy()
        z[~held] = np.clip(found.eqlin.marginals[:n], low, high)
        return z, float(-found.fun) + fixed_price

    def _shortfall(self, profit: FloatArray) -> float:
        from volscen.risk import expected_shortfall

        return float(expected_shortfall(profit, self.weight, alpha=self.tail))

"""Hedge ratios by weighted least squares over scenarios, with an unpenalised intercept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

from volscen.errors import InputError
from volscen.hedging._base import HedgeOptions, HedgeProblem, HedgeSolution
from volscen.hedging._moments import RANK_TOLERANCE, Design, Moments
from volscen.hedging._trading import constrained, scaled

__all__ = [
    "CONDITION_WARNING",
    "design_diagnostics",
    "few_scenarios",
    "least_squares",
    "nearly_dependent",
    "refuse_dependent",
    "regression",
    "solution",
    "solve",
]

FloatArray = npt.NDArray[np.float64]
Columns = npt.NDArray[np.intp]

#: Condition number above which ratios are warned about. Errors of quotes are amplified by up to this factor.
#: Among options on S&P 500 surfaces ratios stay below about 5 up to here and run to dozens above.
CONDITION_WARNING = 300.0

#: Effective scenarios for each instrument below which ratios are warned about: their in-sample fit flatters then.
SCENARIOS_PER_INSTRUMENT = 5


def regression(problem: HedgeProblem, options: HedgeOptions) -> HedgeSolution:
    """Regress the portfolio's changes on those of all instruments."""
    return least_squares(problem, Moments.of(problem), np.arange(len(problem.labels)), options)


def solve(design: Design) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Least squares of a design: coefficients, singular values, right vectors (none where no value is small)."""
    if design.singular is not None:
        coefficients = solve_triangular(design.root, design.target, check_finite=False)
        return np.asarray(coefficients), design.singular, np.empty((0, design.target.size))
    u, s, vt = np.linalg.svd(design.root)
    kept = s > RANK_TOLERANCE * s[0]
    projected = (u.T @ design.target)[kept] / s[kept]
    return vt[kept].T @ projected, s, vt


def least_squares(
    problem: HedgeProblem,
    data: Moments,
    columns: Columns,
    options: HedgeOptions,
    *,
    alpha: float | None = None,
) -> HedgeSolution:
    """Weighted least squares on the chosen instruments; refuses a set that is linearly dependent."""
    design = data.design(columns)
    coefficients, s, vt = solve(design)
    others = "method='ridge' or method='lasso'" if alpha is None else "method='ridge'"
    refuse_dependent(problem, columns, s, vt, others)
    doubts = [*few_scenarios(data, columns.size), *nearly_dependent(columns.size, float(s[0] / s[-1]))]
    if not options.trading.is_free:
        coefficients = constrained(design, scaled(options.trading, data.x_scale, columns, data.y_scale))
    return solution(
        problem, data, columns, coefficients, options, alpha=alpha, design=design_diagnostics(s), doubts=doubts
    )


def few_scenarios(data: Moments, n: int) -> list[str]:
    """Doubts about n ratios from few effective scenarios."""
    if data.effective >= SCENARIOS_PER_INSTRUMENT * n * (1 - 1e-9):
        return []
    return [
        f"{data.effective:.1f} effective scenarios are few for {n} instruments, so their ratios are uncertain and the "
        f"R-squared flatters; use at least {SCENARIOS_PER_INSTRUMENT} for each instrument"
    ]


def nearly_dependent(
    n: int, condition: float, remedy: str = "use method='ridge', method='lasso' or fewer instruments"
) -> list[str]:
    """Doubts about n ratios of instruments that are nearly of low rank."""
    if condition <= CONDITION_WARNING:
        return []
    return [
        f"the {n} instruments move nearly together (condition number {condition:.0f}), so their ratios are large "
        f"and unstable; {remedy}"
    ]


def refuse_dependent(
    problem: HedgeProblem,
    columns: Columns,
    singular: FloatArray,
    vectors: FloatArray,
    others: str = "method='ridge' or method='lasso'",
) -> None:
    """Name the instruments which combinations that never move are made of."""
    null = singular <= RANK_TOLERANCE * singular[0]
    if not null.any():
        return
    involved = (np.abs(vectors[null]) > 0.05).any(axis=0)
    names = ", ".join(problem.labels[i] for i in columns[involved])
    raise InputError(
        f"these instruments are linearly dependent over the scenarios: {names}; drop one of them or use {others}"
    )


def design_diagnostics(singular: FloatArray) -> dict[str, float]:
    """Condition number, and effective rank exp(H(s / sum s)) (Roy and Vetterli 2007, "The effective rank")."""
    share = singular / singular.sum()
    share = share[share > 0]
    smallest = float(singular[-1])
    return {
        "condition_number": float(singular[0]) / smallest if smallest > 0 else np.inf,
        "effective_rank": float(np.exp(-(share @ np.log(share)))),
    }


def solution(
    problem: HedgeProblem,
    data: Moments,
    columns: Columns,
    coefficients: FloatArray,
    options: HedgeOptions,
    *,
    design: dict[str, float],
    alpha: float | None = None,
    doubts: list[str] | None = None,
) -> HedgeSolution:
    """Ratios in units of the instruments, from standardised ones."""
    ratio = np.zeros(len(problem.labels))
    ratio[columns] = coefficients * (data.y_scale / data.x_scale[columns])
    trading = options.trading
    # Back at a bound, at a holding or at a whole lot exactly, where scaling left roundings.
    lots = trading.lot_size > 0
    ratio[lots] = np.round(ratio[lots] / trading.lot_size[lots]) * trading.lot_size[lots]
    for mark in (trading.current, trading.lower, trading.upper) if not trading.is_free else ():
        near = np.isfinite(mark) & (np.abs(ratio - mark) <= 1e-12 * np.abs(mark))
        ratio[near] = mark[near]
    selected = np.zeros(len(problem.labels), dtype=bool)
    selected[columns] = True
    constant = data.y_mean - float(data.x_mean @ ratio)
    return HedgeSolution(ratio, selected, constant=constant, alpha=alpha, design=design, doubts=doubts or [])

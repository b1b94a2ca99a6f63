"""Hedge ratios by weighted least squares over scenarios, with an unpenalised intercept.

Everything is computed from the triangular factor of sqrt(w) [1, X, y], where the instruments' changes X and
the portfolio's change y are centred and scaled first: the factor holds all that least squares on any subset
of instruments needs, and, unlike a Gram matrix, does not square the condition number.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError
from volscen.hedging._base import Alpha, HedgeProblem, HedgeSolution, HedgeWarning, no_alpha

__all__ = ["CONDITION_WARNING", "RANK_TOLERANCE", "Standardised", "least_squares", "regression", "triangle"]

FloatArray = npt.NDArray[np.float64]

#: Singular values of the standardised changes below this share of the largest count as zero.
RANK_TOLERANCE = 1e-8

#: Condition number above which ratios are warned about. Errors of quotes are amplified by up to this factor.
#: Among options on S&P 500 surfaces ratios stay below about 5 up to here and run to dozens above.
CONDITION_WARNING = 300.0

#: Effective scenarios for each instrument below which ratios are warned about: their in-sample fit flatters then.
SCENARIOS_PER_INSTRUMENT = 5

#: A standard deviation below this share of the spot price is rounding, not a move.
_NO_MOVE = 1e-12


def regression(problem: HedgeProblem, alpha: Alpha) -> HedgeSolution:
    """Regress the portfolio's changes on those of all instruments."""
    no_alpha(alpha, "regression")
    data = Standardised.of(problem)
    return least_squares(problem, data, triangle(data), np.arange(len(problem.labels)))


@dataclass(frozen=True)
class Standardised:
    """Scenarios that have weight, with changes centred and scaled by weighted mean and standard deviation."""

    x: FloatArray
    y: FloatArray
    root_weight: FloatArray
    x_mean: FloatArray
    x_scale: FloatArray
    y_mean: float
    y_scale: float

    @classmethod
    def of(cls, problem: HedgeProblem) -> Standardised:
        """Standardise a problem after checking that it can be solved."""
        n = len(problem.labels)
        used = problem.weight > 0
        weight = problem.weight[used] / problem.weight.sum()
        effective = 1 / float(weight @ weight)
        if effective < n + 1:
            raise InputError(
                f"the weights leave {effective:.1f} effective scenarios (ESS) for {n} instruments and a "
                "constant; use more scenarios, milder weights or fewer instruments"
            )
        x, y = problem.instrument_change[used], problem.portfolio_change[used]
        x_mean, y_mean = weight @ x, float(weight @ y)
        x, y = x - x_mean, y - y_mean
        x_scale, y_scale = np.sqrt(weight @ (x * x)), float(np.sqrt(weight @ (y * y)))
        still = [problem.labels[i] for i in np.flatnonzero(x_scale <= _NO_MOVE * problem.value_scale)]
        if still:
            raise InputError(f"these instruments are worth the same in every scenario: {', '.join(still)}; drop them")
        return cls(x / x_scale, y / y_scale, np.sqrt(weight), x_mean, x_scale, y_mean, y_scale)


def triangle(data: Standardised, rows: slice = slice(None)) -> FloatArray:
    """Triangular factor of sqrt(w) [1, X, y] over some scenarios, (n + 2, n + 2) or fewer rows.

    Leaving out its first row and column eliminates the intercept exactly.
    """
    root = data.root_weight[rows]
    x = data.x[rows]
    scaled = np.empty((root.size, x.shape[1] + 2))
    scaled[:, 0] = root
    np.multiply(x, root[:, None], out=scaled[:, 1:-1])
    scaled[:, -1] = data.y[rows] * root
    return np.asarray(np.linalg.qr(scaled, mode="r"))


def combine(factors: Sequence[FloatArray]) -> FloatArray:
    """Triangular factor of the scenarios of several factors together."""
    return np.asarray(np.linalg.qr(np.vstack(factors), mode="r"))


def solve(factor: FloatArray, columns: npt.NDArray[np.intp]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Least squares on some columns of a centred factor: coefficients, singular values, right vectors."""
    u, s, vt = np.linalg.svd(factor[:, columns], full_matrices=False)
    kept = s > RANK_TOLERANCE * s[0]
    projected = (u.T @ factor[:, -1])[kept] / s[kept]
    return vt[kept].T @ projected, s, vt


def least_squares(
    problem: HedgeProblem,
    data: Standardised,
    factor: FloatArray,
    columns: npt.NDArray[np.intp],
    *,
    alpha: float | None = None,
) -> HedgeSolution:
    """Weighted least squares on the chosen instruments; refuses a set that is linearly dependent."""
    coefficients, s, vt = solve(factor[1:, 1:], columns)
    null = s <= RANK_TOLERANCE * s[0]
    if null.any():
        involved = (np.abs(vt[null]) > 0.05).any(axis=0)
        names = ", ".join(problem.labels[i] for i in columns[involved])
        raise InputError(
            f"these instruments are linearly dependent over the scenarios: {names}; drop one of them or use "
            "method='lasso'"
        )
    effective = 1 / float(np.square(data.root_weight) @ np.square(data.root_weight))
    if effective < SCENARIOS_PER_INSTRUMENT * columns.size * (1 - 1e-9):
        warnings.warn(
            f"{effective:.1f} effective scenarios are few for {columns.size} instruments, so their ratios are "
            f"uncertain and the R-squared flatters; use at least {SCENARIOS_PER_INSTRUMENT} for each instrument",
            HedgeWarning,
            stacklevel=4,
        )
    condition = float(s[0] / s[-1])
    if condition > CONDITION_WARNING:
        warnings.warn(
            f"the {columns.size} instruments move nearly together (condition number {condition:.0f}), so "
            "their ratios are large and unstable; use fewer instruments or method='lasso'",
            HedgeWarning,
            stacklevel=4,
        )
    ratio = np.zeros(len(problem.labels))
    ratio[columns] = coefficients * data.y_scale / data.x_scale[columns]
    selected = np.zeros(len(problem.labels), dtype=bool)
    selected[columns] = True
    constant = data.y_mean - float(data.x_mean @ ratio)
    return HedgeSolution(ratio, selected, constant=constant, alpha=alpha, condition_number=condition)

"""LASSO selects the hedging instruments, least squares refits their ratios (LASSO-OLS).

Instruments and portfolio are standardised by their weighted standard deviations, so that the penalty has no
unit: with b the standardised ratios it is

    1/2 sum_j w_j (y_j - sum_i b_i x_ij)^2 + alpha sum_i |b_i|,

the intercept is free, alpha = 0 keeps every instrument and alpha = 1 drops them all, whatever the currency or
the size of the portfolio.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from volscen.errors import FitError, InputError
from volscen.hedging._base import Alpha, HedgeProblem, HedgeSolution
from volscen.hedging._regression import RANK_TOLERANCE, Standardised, combine, least_squares, solve, triangle

__all__ = ["GRID", "lasso"]

FloatArray = npt.NDArray[np.float64]
Support = npt.NDArray[np.intp]

#: The penalties 0, .1, ..., 1 of Vuletic and Cont (2024), section 5.5, for a portfolio whose changes have a
#: standard deviation of 10 price units. The paper states neither the unit nor the size of its portfolio; per
#: standard deviation, as everything is here, even its .1 would cost a tenth of the hedge.
GRID = np.linspace(0, 1, 11) / 10

#: Share of the portfolio's variance that ``alpha="grid"`` gives up for fewer instruments.
R_SQUARED_LOSS = 1e-3

#: Folds, and penalties per path from the largest useful one down to this share of it, of ``alpha="cv"``.
FOLDS = 5
PATH_SIZE = 50
PATH_END = 1e-3

#: Standardised coefficients below this are rounding. Optimality conditions, and the duality gap, may be missed by
#: this much of the portfolio's variance: far less than any penalty in use, and as far as nearly dependent
#: instruments let either algorithm come.
_ZERO = 1e-12
_OPTIMAL = 1e-6


def lasso(problem: HedgeProblem, alpha: Alpha) -> HedgeSolution:
    """Select instruments at a penalty given, by the paper's grid, or by cross-validation; then refit."""
    data = Standardised.of(problem)
    if not (alpha is None or isinstance(alpha, str)):
        alpha = _penalty(alpha)
    if alpha is None or alpha == "cv":
        if data.y.size < 2 * FOLDS:
            raise InputError(
                f"alpha='cv' needs at least {2 * FOLDS} scenarios that have weight, not {data.y.size}; give alpha "
                "as a number or 'grid'"
            )
        folds = [triangle(data, slice(fold, None, FOLDS)) for fold in range(FOLDS)]
        factor = combine(folds)
        chosen = _by_cross_validation(folds, _largest(factor))
    else:
        factor = triangle(data)
        chosen = _by_grid(factor[1:, 1:]) if alpha == "grid" else _penalty(alpha)
    columns = supports(factor[1:, 1:], np.array([chosen]))[0]
    if columns.size == 0:
        raise InputError(f"alpha={chosen:.4g} selects no instrument; choose it below {_largest(factor):.4g}")
    return least_squares(problem, data, factor, columns, alpha=chosen)


def _largest(factor: FloatArray) -> float:
    """Penalty from which on no instrument is kept."""
    return float(np.abs(factor[1:, 1:-1].T @ factor[1:, -1]).max())


def supports(factor: FloatArray, alphas: FloatArray) -> list[Support]:
    """Instruments that LASSO keeps at each penalty, from a centred triangular factor."""
    x, y = factor[:, :-1], factor[:, -1]
    out = [np.arange(x.shape[1])] * alphas.size  # no penalty keeps everything
    penalised = np.flatnonzero(alphas > 0)
    if penalised.size:
        coefficients = _path(x.T @ x, x.T @ y, alphas[penalised])
        for column, position in enumerate(penalised):
            out[position] = np.flatnonzero(np.abs(coefficients[:, column]) > _ZERO)
    return out


def _path(gram: FloatArray, xy: FloatArray, alphas: FloatArray) -> FloatArray:
    """Coefficients (n, A) of LASSO from the standardised Gram matrix, exact between the knots of its path."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lars_path_gram, lasso_path

    with warnings.catch_warnings():
        # Warned about where instruments are dependent; what comes out is checked, which is worth more.
        warnings.simplefilter("ignore", ConvergenceWarning)
        knots, _, path = lars_path_gram(
            xy.copy(), gram.copy(), n_samples=1, method="lasso", alpha_min=float(alphas.min())
        )
    coefficients = np.array([np.interp(alphas, knots[::-1], row[::-1]) for row in path])
    if _is_optimal(gram, xy, alphas, coefficients):
        return coefficients
    # Least angle regression loses its way among instruments that are exactly dependent; coordinate descent
    # does not, though it can be slow. It takes data, not only their products: a root of the Gram matrix.
    values, vectors = np.linalg.eigh(gram)
    root = np.sqrt(np.maximum(values, 0))
    x = root[:, None] * vectors.T
    y = np.divide(vectors.T @ xy, root, out=np.zeros_like(root), where=root > _ZERO * root[-1])
    scale = np.sqrt(x.shape[0])  # scikit-learn divides the squared error by the number of rows
    order = np.argsort(-alphas, kind="stable")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            _, path, _ = lasso_path(
                np.asfortranarray(scale * x), scale * y, alphas=alphas[order], tol=_OPTIMAL, max_iter=100_000
            )
        except ConvergenceWarning:
            raise FitError(
                "LASSO did not converge on these instruments, which move nearly together; give a larger alpha "
                "or fewer instruments"
            ) from None
    coefficients[:, order] = path
    return coefficients


def _is_optimal(gram: FloatArray, xy: FloatArray, alphas: FloatArray, coefficients: FloatArray) -> bool:
    """Karush-Kuhn-Tucker conditions: |g| <= alpha, and g = alpha sign(b) where b is not zero."""
    gradient = xy[:, None] - gram @ coefficients
    outside = np.abs(gradient).max(axis=0) - alphas
    unequal = alphas * np.abs(coefficients).sum(axis=0) - (gradient * coefficients).sum(axis=0)
    return bool(np.all(outside <= _OPTIMAL) and np.all(np.abs(unequal) <= _OPTIMAL))


def _penalty(alpha: Alpha) -> float:
    try:
        value = float(alpha)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = np.nan
    if not 0 <= value < np.inf:
        raise InputError(f"alpha must be a non-negative number, 'grid' or 'cv', not {alpha!r}")
    return value


def _by_grid(factor: FloatArray) -> float:
    """Largest penalty of the paper's grid whose refit keeps the in-sample R-squared, within R_SQUARED_LOSS.

    The paper reads alpha off the in-sample R-squared and mean squared error without stating a rule; both fall
    and rise together, so this is its plainest reading.
    """
    r_squared = np.full(GRID.size, -np.inf)
    for i, columns in enumerate(supports(factor, GRID)):
        if columns.size == 0:
            continue
        coefficients, s, _ = solve(factor, columns)
        if s[-1] > RANK_TOLERANCE * s[0]:  # a dependent set has no ratios of its own
            r_squared[i] = 1 - _squared_error(factor, columns, coefficients) / float(factor[:, -1] @ factor[:, -1])
    if not np.any(np.isfinite(r_squared)):
        raise InputError(
            "no alpha of the grid selects a linearly independent set of instruments; drop some of them or "
            "use alpha='cv'"
        )
    return float(GRID[np.flatnonzero(r_squared >= r_squared.max() - R_SQUARED_LOSS)[-1]])


def _by_cross_validation(factors: list[FloatArray], largest: float) -> float:
    """Largest penalty whose refit predicts left-out scenarios within one standard error of the best.

    Breiman, Friedman, Olshen and Stone (1984), the one-standard-error rule; every FOLDS-th scenario is left
    out.
    """
    alphas = largest * np.geomspace(1, PATH_END, PATH_SIZE + 1)[1:]
    error = left_out_errors(factors, alphas)
    mass = np.array([factor[0, 0] ** 2 for factor in factors])  # a factor's first entry is the root of its weight
    total = error.sum(axis=0)
    best = int(np.argmin(total))
    standard_error = float((error[:, best] / mass).std(ddof=1)) / np.sqrt(len(factors))
    return float(alphas[np.flatnonzero(total <= total[best] + standard_error)[0]])


def left_out_errors(factors: list[FloatArray], alphas: FloatArray) -> FloatArray:
    """Weighted squared error on each fold (F, A) of LASSO-OLS fitted on the other folds."""
    error = np.empty((len(factors), alphas.size))
    for fold, left_out in enumerate(factors):
        training = combine([factor for other, factor in enumerate(factors) if other != fold])
        known: dict[bytes, float] = {}
        for i, columns in enumerate(supports(training[1:, 1:], alphas)):
            key = columns.tobytes()
            if key not in known:
                coefficients = solve(training[1:, 1:], columns)[0] if columns.size else np.empty(0)
                # The first row of the factor is the intercept's equation.
                row = training[0, 1:]
                intercept = (row[-1] - row[columns] @ coefficients) / training[0, 0]
                fitted = left_out[:, 1 + columns] @ coefficients + left_out[:, 0] * intercept
                known[key] = float(np.square(left_out[:, -1] - fitted).sum())
            error[fold, i] = known[key]
    return error


def _squared_error(factor: FloatArray, columns: Support, coefficients: FloatArray) -> float:
    residual = factor[:, -1] - factor[:, columns] @ coefficients
    return float(residual @ residual)

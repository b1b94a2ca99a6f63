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
from volscen.hedging._base import Alpha, HedgeOptions, HedgeProblem, HedgeSolution, Trading
from volscen.hedging._moments import Moments
from volscen.hedging._quadratic import Kinks, minimise
from volscen.hedging._regression import least_squares
from volscen.hedging._trading import scaled

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

#: Eigenvalues of the moments of a selection below this share of the largest: no refit can be judged by them.
_DEPENDENT = 1e-12

#: Standardised noise that decides between copies of one instrument.
_TIE = 1e-6


def lasso(problem: HedgeProblem, options: HedgeOptions) -> HedgeSolution:
    """Select instruments at a penalty given, by the paper's grid, or by cross-validation; then refit."""
    data = Moments.of(problem)
    alpha = options.alpha
    if not (alpha is None or isinstance(alpha, str)):
        alpha = _penalty(alpha)
    if alpha is None or alpha == "cv":
        if data.rows.shape[0] < 2 * FOLDS:
            raise InputError(
                f"alpha='cv' needs at least {2 * FOLDS} scenarios that have weight, not {data.rows.shape[0]}; give "
                "alpha as a number or 'grid'"
            )
        chosen = _by_cross_validation(data.folds(FOLDS), _largest(data.gram))
    else:
        chosen = _by_grid(data.gram) if alpha == "grid" else _penalty(alpha)
    columns = supports(data.gram, np.array([chosen]))[0]
    if columns.size == 0:
        raise InputError(f"alpha={chosen:.4g} selects no instrument; choose it below {_largest(data.gram):.4g}")
    if options.trading.costs_matter or options.trading.is_limited:
        columns = _affordable(data, columns, options.trading, chosen)
        if columns.size == 0:  # nothing held, and nothing worth its cost
            nothing = np.zeros(len(problem.labels))
            return HedgeSolution(nothing, selected=nothing > 0, constant=data.y_mean, alpha=chosen)
    return least_squares(problem, data, columns, options, alpha=chosen)


def _affordable(data: Moments, free: Support, trading: Trading, alpha: float) -> Support:
    """Instruments that LASSO keeps when trades cost and holdings are limited.

    The penalty and the cost are paid together,

        1/2 sum_j w_j e_j^2 + alpha sum_i |b_i| + s sum_i c_i |b_i - b0_i|,

    with s the risk that the hedge without costs leaves: the slope at which risk and its square, halved, trade. Without
    costs and limits these are the instruments that LASSO selects; where nothing is worth a trade, those held.
    """
    columns = np.arange(data.x_scale.size)
    own = scaled(trading, data.x_scale, columns, data.y_scale)
    # Instruments may be copies of one another; a ridge far below any penalty makes the answer one.
    design = data.with_noise(_TIE * data.x_scale).design(columns)
    left = data.design(free)
    kinks = Kinks.of(
        own.lower,
        own.upper,
        (np.zeros(columns.size), np.full(columns.size, alpha)),
        (own.current, np.sqrt(left.rest) * own.cost_weight * own.cost),
    )
    z = minimise(design.root, design.target, kinks, np.clip(own.current, own.lower, own.upper)).z
    return np.flatnonzero(np.abs(z) > _ZERO)


def _largest(gram: FloatArray) -> float:
    """Penalty from which on no instrument is kept."""
    return float(np.abs(gram[:-1, -1]).max())


def supports(gram: FloatArray, alphas: FloatArray) -> list[Support]:
    """Instruments that LASSO keeps at each penalty, from the moments of instruments and, last, the portfolio."""
    n = gram.shape[0] - 1
    out = [np.arange(n)] * alphas.size  # no penalty keeps everything
    penalised = np.flatnonzero(alphas > 0)
    if penalised.size:
        coefficients = _path(gram[:-1, :-1], gram[:-1, -1], alphas[penalised])
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


def _by_grid(gram: FloatArray) -> float:
    """Largest penalty of the paper's grid whose refit keeps the in-sample R-squared, within R_SQUARED_LOSS.

    The paper reads alpha off the in-sample R-squared and mean squared error without stating a rule; both fall
    and rise together, so this is its plainest reading.
    """
    r_squared = np.full(GRID.size, -np.inf)
    for i, columns in enumerate(supports(gram, GRID)):
        if columns.size == 0:
            continue
        coefficients, independent = _refit(gram, columns)
        if independent:  # a dependent set has no ratios of its own
            r_squared[i] = coefficients @ gram[columns, -1] / gram[-1, -1]
    if not np.any(np.isfinite(r_squared)):
        raise InputError(
            "no alpha of the grid selects a linearly independent set of instruments; drop some of them or "
            "use alpha='cv'"
        )
    return float(GRID[np.flatnonzero(r_squared >= r_squared.max() - R_SQUARED_LOSS)[-1]])


def _refit(gram: FloatArray, columns: Support) -> tuple[FloatArray, bool]:
    """Least squares on some instruments, the shortest where they are dependent, and whether they are not."""
    values, vectors = np.linalg.eigh(gram[np.ix_(columns, columns)])
    kept = values > _DEPENDENT * values[-1]
    projected = vectors[:, kept].T @ gram[columns, -1]
    return np.asarray(vectors[:, kept] @ (projected / values[kept])), bool(kept.all())


def _by_cross_validation(folds: list[FloatArray], largest: float) -> float:
    """Largest penalty whose refit predicts left-out scenarios within one standard error of the best.

    Breiman, Friedman, Olshen and Stone (1984), the one-standard-error rule; every FOLDS-th scenario is left
    out.
    """
    alphas = largest * np.geomspace(1, PATH_END, PATH_SIZE + 1)[1:]
    error = left_out_errors(folds, alphas)
    mass = np.array([fold[0, 0] for fold in folds])
    total = error.sum(axis=0)
    best = int(np.argmin(total))
    standard_error = float((error[:, best] / mass).std(ddof=1)) / np.sqrt(len(folds))
    return float(alphas[np.flatnonzero(total <= total[best] + standard_error)[0]])


def left_out_errors(folds: list[FloatArray], alphas: FloatArray) -> FloatArray:
    """Weighted squared error on each fold (F, A) of LASSO-OLS fitted on the other folds.

    The moments of the scenarios that are fitted on are those of all less those left out.
    """
    error = np.empty((len(folds), alphas.size))
    whole = np.sum(folds, axis=0)
    for number, left_out in enumerate(folds):
        training = whole - left_out
        mean = training[0, 1:] / training[0, 0]
        centred = training[1:, 1:] - training[0, 0] * mean[:, None] * mean
        known: dict[bytes, float] = {}
        for i, columns in enumerate(supports(centred, alphas)):
            key = columns.tobytes()
            if key not in known:
                coefficients = _refit(centred, columns)[0] if columns.size else np.empty(0)
                # Error of each scenario: (y - a - b x) = v . (1, x, y) with a the training's intercept.
                v = np.zeros(left_out.shape[0])
                v[0] = -(mean[-1] - mean[columns] @ coefficients)
                v[1 + columns] = -coefficients
                v[-1] = 1.0
                known[key] = max(float(v @ left_out @ v), 0.0)
            error[number, i] = known[key]
    return error

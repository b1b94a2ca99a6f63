"""Minimum relative entropy under linear constraints: the dual Newton method, and what to say when nothing fits.

Weights that minimise KL(w | p) subject to lower <= A w <= upper form an exponential family, w_i proportional to
p_i exp(theta . a_i); theta minimises the convex function log sum_i p_i exp(theta . a_i) - theta . b, one sign of
theta_j for each one-sided bound (Meucci 2008, "Fully flexible views: theory and practice", appendix A).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Infeasible", "Tilt", "attainable", "conflict", "divergence", "tilt"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_MAX_ITERATIONS = 200

#: Residual, in standard deviations under the prior, at which a constraint counts as met by the solver.
_RESIDUAL = 1e-11

#: Residual that rounding may leave where rows are badly scaled; larger ones are no solution.
_ROUNDING = 1e-8

#: Ridges tried in turn, in units of the trace of the Hessian: a larger one is a shorter, safer step.
_RIDGES = (1e-13, 1e-9, 1e-5, 1e-1)
_LAST_RIDGES = (1e-3, 1.0, 1e3, 1e6)


class Infeasible(Exception):
    """No weights on the prior's support meet the constraints, or only such at its very edge."""


@dataclass(frozen=True)
class Tilt:
    """Solution of one problem.

    Attributes
    ----------
    weight : ndarray, shape (n,)
        Zero where the prior is zero.
    multiplier : ndarray, shape (m,)
        theta of each row of A, in the units of that row; zero where the constraint does not bind.
    iterations : int
        Newton steps taken.
    """

    weight: FloatArray
    multiplier: FloatArray
    iterations: int


def divergence(weight: FloatArray, prior: FloatArray) -> float:
    """Relative entropy KL(weight | prior) = sum w ln(w/p), in nats; 0 ln 0 = 0.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.views._linear import divergence
    >>> round(divergence(np.array([1.0, 0.0]), np.array([0.5, 0.5])), 4)
    0.6931
    """
    some = weight > 0
    return max(float(np.sum(weight[some] * np.log(weight[some] / prior[some]))), 0.0)


def tilt(
    prior: FloatArray, rows: FloatArray, lower: FloatArray, upper: FloatArray, *, start: FloatArray | None = None
) -> Tilt:
    """Minimise KL(w | prior) subject to lower <= rows @ w <= upper and sum w = 1, w >= 0.

    Parameters
    ----------
    prior : ndarray, shape (n,)
        Non-negative, summing to 1.
    rows : ndarray, shape (m, n)
        Finite.
    lower, upper : ndarray, shape (m,)
        Bounds; equal for an equality, infinite where there is none.
    start : ndarray, shape (m,), optional
        Multipliers to start from.

    Raises
    ------
    Infeasible
        If the dual has no minimum.

    Notes
    -----
    Projected Newton steps with the exact Hessian, the weighted covariance of the rows (Bertsekas 1982, "Projected
    Newton methods for optimization problems with simple constraints"). Rows are centred and scaled first.
    A two-sided bound is two dual variables, of which one at most differs from zero.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.views._linear import tilt
    >>> x = np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])  # a die with mean 4.5 (Jaynes 1957)
    >>> tilt(np.full(6, 1 / 6), x, np.array([4.5]), np.array([4.5])).weight.round(4)
    array([0.0544, 0.0788, 0.1142, 0.1654, 0.2398, 0.3475])
    """
    support = prior > 0
    p, a = (prior, rows) if support.all() else (prior[support], rows[:, support])
    centre = a @ p
    z = a - centre[:, None]
    scale = np.sqrt(np.einsum("ij,ij,j->i", z, z, p))
    magnitude = np.maximum(a.max(axis=1), -a.min(axis=1))
    constant = scale <= 1e-13 * magnitude
    slack = 1e-12 * np.maximum(magnitude, 1e-300)
    if np.any(constant & ((centre < lower - slack) | (centre > upper + slack))):
        raise Infeasible
    # One dual variable per side; an equality is one variable without a sign.
    index, sign, target = [], [], []
    for j in np.flatnonzero(~constant):
        sides = [(0, lower[j])] if lower[j] == upper[j] else [(1, lower[j]), (-1, upper[j])]
        for side, bound in sides:
            if np.isfinite(bound):
                index.append(j)
                sign.append(side)
                target.append(bound)
    kept, signs = np.array(index, dtype=np.int64), np.array(sign)
    if np.array_equal(kept, np.arange(rows.shape[0])):
        z /= scale[:, None]
    else:
        z = z[kept] / scale[kept, None]
    t = (np.array(target) - centre[kept]) / scale[kept]
    theta = np.zeros(kept.size)
    if start is not None:
        theta = start[kept] * scale[kept]
        theta[theta * signs < 0] = 0.0
    w, theta, iterations = _newton(np.log(p), z, t, signs, theta)
    weight = np.zeros(prior.size)
    weight[support] = w
    multiplier = np.zeros(rows.shape[0])
    np.add.at(multiplier, kept, theta / scale[kept])
    return Tilt(weight, multiplier, iterations)


def _evaluate(log_p: FloatArray, z: FloatArray, t: FloatArray, theta: FloatArray) -> tuple[float, FloatArray]:
    """Dual value and the weights at theta."""
    w = theta @ z
    w += log_p
    top = w.max()
    w -= top
    np.exp(w, out=w)
    total = w.sum()
    w /= total
    return float(top + np.log(total) - theta @ t), w


def _newton(
    log_p: FloatArray, z: FloatArray, t: FloatArray, sign: npt.NDArray[np.int64], theta: FloatArray
) -> tuple[FloatArray, FloatArray, int]:
    # Weak duality: minus the dual value never exceeds KL, and KL never exceeds the largest -ln p.
    bottom = float(log_p.min()) - 1e-6
    value, w = _evaluate(log_p, z, t, theta)
    for iteration in range(_MAX_ITERATIONS):
        mean = z @ w
        free, residual = _residual(mean - t, theta, sign)
        if residual <= _RESIDUAL:
            return w, theta, iteration
        if value < bottom:
            raise Infeasible
        hessian = _covariance(z, w, mean)
        trace = float(np.trace(hessian))
        # Where all weight sits on few scenarios there is hardly any curvature, and the prior's, 1, takes its place.
        for ridge in (*(share * trace for share in _RIDGES), *_LAST_RIDGES):
            step = _step(hessian, mean - t, theta, sign, free, ridge + 1e-300)
            found = _search(log_p, z, t, sign, theta, step, value, mean - t, residual)
            if found is not None:
                break
        else:
            if residual <= _ROUNDING:
                return w, theta, iteration
            raise Infeasible
        theta, value, w = found
    raise Infeasible


def _covariance(z: FloatArray, w: FloatArray, mean: FloatArray) -> FloatArray:
    """Weighted covariance of the rows, by the quick formula unless it cancels."""
    second = (z * w) @ z.T
    out = second - np.outer(mean, mean)
    if np.any(np.diagonal(out) < 1e-6 * np.diagonal(second)):
        centred = z - mean[:, None]
        out = (centred * w) @ centred.T
    return np.asarray(out)


def _step(
    hessian: FloatArray,
    gradient: FloatArray,
    theta: FloatArray,
    sign: npt.NDArray[np.int64],
    free: BoolArray,
    ridge: float,
) -> FloatArray:
    """Newton step of the free variables that leaves none on the wrong side of its bound."""
    # The ridge keeps views that repeat one another solvable, and turns ones that contradict each other into a
    # direction of unbounded descent.
    regular = hessian + ridge * np.eye(theta.size)
    step, moving = np.zeros_like(theta), free.copy()
    while moving.any():
        pull = gradient + regular[:, ~moving] @ step[~moving]
        step[moving] = -np.linalg.solve(regular[np.ix_(moving, moving)], pull[moving])
        crossing = moving & ((theta + step) * sign < 0)
        if not crossing.any():
            break
        # Those that would cross stop at their bounds, and the others are solved for again.
        step[crossing] = -theta[crossing]
        moving &= ~crossing
    return step


def _search(
    log_p: FloatArray,
    z: FloatArray,
    t: FloatArray,
    sign: npt.NDArray[np.int64],
    theta: FloatArray,
    step: FloatArray,
    value: float,
    gradient: FloatArray,
    residual: float,
) -> tuple[FloatArray, float, FloatArray] | None:
    """Next multipliers, value and weights along a step; None if it leads nowhere."""
    slope = float(gradient @ step)
    # So near the minimum differences of the value are rounding, and the residual is the judge.
    near = abs(slope) < 1e-9
    if slope >= 0 and not near:
        return None
    length = 1.0
    while length > 1e-10:
        trial = theta + length * step
        new_value, new_w = _evaluate(log_p, z, t, trial)
        if near:
            if _residual(z @ new_w - t, trial, sign)[1] < residual:
                return trial, new_value, new_w
        elif new_value <= value + 1e-4 * length * slope:
            return trial, new_value, new_w
        length *= 0.5
    return None


def _residual(gradient: FloatArray, theta: FloatArray, sign: npt.NDArray[np.int64]) -> tuple[BoolArray, float]:
    """Variables that may move (one at its bound stays there while descent would push it out), and their residual."""
    free = (sign == 0) | (theta * sign > 0) | (gradient * sign < 0)
    return free, float(np.max(np.abs(gradient[free]), initial=0.0))


# --------------------------------------------------------------------------- when there is no solution
def attainable(
    prior: FloatArray, row: FloatArray, rows: FloatArray, lower: FloatArray, upper: FloatArray
) -> tuple[float, float] | None:
    """Smallest and largest ``row @ w`` under lower <= rows @ w <= upper, over all weights on the prior's support.

    None if no weights meet the constraints. Linear programmes by HiGHS.
    """
    low = _programme(prior, row, rows, lower, upper)
    high = _programme(prior, -row, rows, lower, upper)
    return None if low is None or high is None else (low, -high)


def conflict(
    prior: FloatArray, rows: FloatArray, lower: FloatArray, upper: FloatArray, groups: Sequence[Sequence[int]]
) -> list[int]:
    """Groups of rows that cannot hold together and of which each is needed for that; empty if all can hold.

    Notes
    -----
    QuickXplain (Junker 2004): halves are tried against each other, so that few of many groups cost few programmes.
    """
    nothing = np.zeros(prior.size)

    def feasible(chosen: Sequence[int]) -> bool:
        members = [row for g in chosen for row in groups[g]]
        return _programme(prior, nothing, rows[members], lower[members], upper[members]) is not None

    def needed(background: list[int], grown: bool, candidates: list[int]) -> list[int]:
        if grown and not feasible(background):
            return []
        if len(candidates) == 1:
            return candidates
        half = len(candidates) // 2
        first, second = candidates[:half], candidates[half:]
        of_second = needed(background + first, True, second)
        of_first = needed(background + of_second, bool(of_second), first)
        return of_first + of_second

    everything = list(range(len(groups)))
    return [] if feasible(everything) else sorted(needed([], False, everything))


def _programme(
    prior: FloatArray, cost: FloatArray, rows: FloatArray, lower: FloatArray, upper: FloatArray
) -> float | None:
    """Minimum of ``cost @ w``; None if infeasible."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    support = prior > 0
    a = rows[:, support]
    # HiGHS's tolerances are absolute: rows and cost come to it in units of their spread.
    shift, unit = a.mean(axis=1), np.maximum(np.ptp(a, axis=1), 1e-300)
    n = int(support.sum())
    constraints = [LinearConstraint(np.ones((1, n)), 1, 1)]
    if a.shape[0]:
        constraints.append(
            LinearConstraint((a - shift[:, None]) / unit[:, None], (lower - shift) / unit, (upper - shift) / unit)
        )
    c = cost[support]
    spread = float(np.ptp(c)) or 1.0
    result = milp((c - c.mean()) / spread, bounds=Bounds(0, 1), constraints=constraints)
    return float(result.fun * spread + c.mean()) if result.status == 0 else None

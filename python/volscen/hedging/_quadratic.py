"""Least squares under costs and limits, solved exactly by an active-set method.

The problem is to minimise 1/2 |root z - target|^2 + sum_i h_i(z_i), where every h_i is convex and piecewise linear: a
cost |z_i - z0_i| bends at the holding, a LASSO penalty at 0, and a limit is a slope without bound. Such problems have
few solutions that are not at a bend; coordinate descent crawls where instruments move nearly together, whereas here
every step solves the free ones at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

from volscen.errors import FitError

__all__ = ["Kinks", "Optimum", "minimise"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

#: Optimality conditions may be missed by this much, in units of the standardised portfolio's variance.
_OPTIMAL = 1e-11

#: A number this close to a bend, relatively, is at it.
_AT_BEND = 1e-13


@dataclass(frozen=True)
class Kinks:
    """Piecewise linear functions of k numbers.

    ``bends`` (k, p) increase along each row, padded with infinity; ``slopes`` (k, p + 1) hold before, between and after
    them and do not decrease; infinite slopes are limits.
    """

    bends: FloatArray
    slopes: FloatArray

    @classmethod
    def of(
        cls,
        lower: FloatArray,
        upper: FloatArray,
        *terms: tuple[FloatArray, FloatArray],
    ) -> Kinks:
        """Limits, and terms (centre, cost) that add cost_i |z_i - centre_i|."""
        rows = []
        for i in range(lower.size):
            points = sorted({float(c[i]) for c, cost in terms if cost[i] > 0 and lower[i] < c[i] < upper[i]})
            bends = [b for b in [lower[i], *points, upper[i]] if np.isfinite(b)]
            if lower[i] == upper[i]:
                bends = [lower[i]]
            middles = [-np.inf, *bends, np.inf]
            slopes = []
            for left, right in pairwise(middles):
                inside = lower[i] < right and left < upper[i] and lower[i] < upper[i]
                if not inside:
                    slopes.append(-np.inf if right <= lower[i] else np.inf)
                    continue
                slopes.append(sum(cost[i] if left >= c[i] else -cost[i] for c, cost in terms if cost[i] > 0))
            rows.append((bends, slopes))
        width = max(1, *(len(bends) for bends, _ in rows))
        bends_ = np.full((lower.size, width), np.inf)
        slopes_ = np.zeros((lower.size, width + 1))
        for i, (bends, slopes) in enumerate(rows):
            bends_[i, : len(bends)] = bends
            slopes_[i, : len(slopes)] = slopes
            slopes_[i, len(slopes) :] = slopes[-1]
        return cls(bends_, slopes_)


@dataclass(frozen=True)
class Optimum:
    """Solution, which of the numbers lie between bends, and the slopes that hold there."""

    z: FloatArray
    free: IntArray
    slope: FloatArray


def minimise(root: FloatArray, target: FloatArray, kinks: Kinks, start: FloatArray) -> Optimum:
    """Minimise 1/2 |root z - target|^2 + h(z) from a start within the limits.

    Numbers at a bend stay there as long as the gradient lies between the slopes on either side; those that should leave
    are released together, less those that would go the wrong way; then the free ones are solved and a line search
    walks towards the solution past every bend beyond which it still descends. The objective falls at every step, so no
    set of free numbers comes twice.
    """
    k = start.size
    z = start.copy()
    rows = np.arange(k)
    segment = (kinks.bends < z[:, None] - _AT_BEND * (1 + np.abs(z[:, None]))).sum(axis=1)
    width = kinks.bends.shape[1]
    nearest = kinks.bends[rows, np.minimum(segment, width - 1)]
    fixed = np.abs(nearest - z) <= _AT_BEND * (1 + np.abs(z))
    z[fixed] = nearest[fixed]
    for _ in range(100 + 20 * k):
        solved = _solve_free(root, target, kinks, z, segment, fixed)
        if np.abs(solved - z).max(initial=0) <= _AT_BEND * (1 + np.abs(z).max(initial=0)):
            z = solved
            push = -root.T @ (root @ z - target)  # what the slopes must balance
            right = push - kinks.slopes[rows, np.minimum(segment + 1, width)]
            left = kinks.slopes[rows, segment] - push
            leaving = np.where(fixed, np.maximum(left, right), -np.inf)
            candidates = leaving > _OPTIMAL * (1 + np.abs(push))
            if not candidates.any():
                free = np.flatnonzero(~fixed)
                return Optimum(z, free, kinks.slopes[free, segment[free]])
            up = right > left
            released, solved = _release(root, target, kinks, z, segment, fixed, candidates, up, leaving)
            if not released.any():  # nothing gained but roundings
                free = np.flatnonzero(~fixed)
                return Optimum(z, free, kinks.slopes[free, segment[free]])
        z = _walk(root, target, kinks, z, solved, segment, fixed)
    raise FitError("ratios under these costs and limits did not converge; drop instruments that move nearly together")


def _solve_free(
    root: FloatArray, target: FloatArray, kinks: Kinks, z: FloatArray, segment: IntArray, fixed: npt.NDArray[np.bool_]
) -> FloatArray:
    """Best values of the free numbers on their segments, were there no bends."""
    free = np.flatnonzero(~fixed)
    out = z.copy()
    if free.size:
        at = np.flatnonzero(fixed)
        rhs = target - root[:, at] @ z[at]
        factor = np.asarray(np.linalg.qr(np.column_stack([root[:, free], rhs]), mode="r"))
        upper, projected = factor[: free.size, : free.size], factor[: free.size, free.size]
        slope = kinks.slopes[free, segment[free]]
        shift = solve_triangular(upper, slope, trans="T", check_finite=False) if slope.any() else 0.0
        out[free] = solve_triangular(upper, projected - shift, check_finite=False)
    return out


def _release(
    root: FloatArray,
    target: FloatArray,
    kinks: Kinks,
    z: FloatArray,
    segment: IntArray,
    fixed: npt.NDArray[np.bool_],
    candidates: npt.NDArray[np.bool_],
    up: npt.NDArray[np.bool_],
    leaving: FloatArray,
) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    """Set candidates free, in place, such that each moves the way it is pushed; the last resort is the most pushed."""
    while True:
        fixed[candidates] = False
        segment[candidates & up] += 1
        solved = _solve_free(root, target, kinks, z, segment, fixed)
        wrong = candidates & (np.where(up, solved - z, z - solved) <= 0)
        if not wrong.any():
            return candidates, solved
        fixed[candidates] = True
        segment[candidates & up] -= 1
        left = candidates & ~wrong
        if not left.any():
            most = np.zeros_like(candidates)
            most[int(np.argmax(np.where(candidates, leaving, -np.inf)))] = True
            if np.array_equal(most, candidates):
                return np.zeros_like(candidates), z
            left = most
        candidates = left


def _walk(
    root: FloatArray,
    target: FloatArray,
    kinks: Kinks,
    z: FloatArray,
    solved: FloatArray,
    segment: IntArray,
    fixed: npt.NDArray[np.bool_],
) -> FloatArray:
    """Go from z towards ``solved`` as far as the objective falls; segments and fixed numbers change in place."""
    direction = solved - z
    events: list[tuple[float, int, int]] = []
    for i in map(int, np.flatnonzero(~fixed & (direction != 0))):
        up, down = range(int(segment[i]), kinks.bends.shape[1]), range(int(segment[i]) - 1, -1, -1)
        for bend in up if direction[i] > 0 else down:
            at = (kinks.bends[i, bend] - z[i]) / direction[i]
            if at > 1:
                break
            events.append((max(float(at), 0.0), i, bend))
    if not events:
        return solved
    events.sort()
    moved = root @ direction
    free = ~fixed
    slope = float((root @ z - target) @ moved + kinks.slopes[free, segment[free]] @ direction[free])
    curvature = float(moved @ moved)
    for at, i, bend in events:
        if slope + at * curvature >= 0:  # the lowest point lies before this bend
            return np.asarray(z + min(max(-slope / curvature, 0.0), 1.0) * direction)
        jump = kinks.slopes[i, bend + 1] - kinks.slopes[i, bend]
        if not np.isfinite(jump) or slope + at * curvature + abs(direction[i]) * jump >= 0:  # or at it
            out = z + at * direction
            out[i] = kinks.bends[i, bend]
            fixed[i] = True
            segment[i] = bend
            return np.asarray(out)
        slope += abs(direction[i]) * jump
        segment[i] += 1 if direction[i] > 0 else -1
    return np.asarray(z + min(-slope / curvature, 1.0) * direction)

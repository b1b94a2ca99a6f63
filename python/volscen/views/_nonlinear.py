"""Entropy pooling of views that are not all linear in the weights.

Standard deviations, correlations and expected shortfalls are not linear in the weights. Given a few parameters of the
law (a mean, two moments each, a value at risk) each is a linear expression that has the statistic's own value and
gradient when the parameters are those of the weights. So parameters are fixed, the linear problem is solved, the
parameters of its solution are taken, and so on; at the fixed point the views hold exactly and the conditions of Karush,
Kuhn and Tucker of the problem as stated are met. Parameters start in stages: expectations and tails first, second
moments at the means found, correlations at the moments found (Vorobets 2021, "Sequential entropy pooling heuristics").
Where the iteration does not settle, the parameters are held by constraints of their own, which makes the views exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError
from volscen.views._beliefs import TOLERANCE, Belief, Row, moments
from volscen.views._linear import Infeasible, attainable, conflict, divergence, tilt

__all__ = ["pool"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Rounds after which parameters that still move are held.
_PATIENCE = 60

#: Movement of the parameters, in standard deviations, at which they have settled.
_SETTLED = 1e-9

#: A scenario of less weight is left out: views that only it could meet are met by accident.
_NOTHING = 1e-18

#: Values at risk that are tried around the one found.
_CLIMB = 12

#: Rounds that the extrapolation of the parameters remembers.
_MEMORY = 5


class _Stuck(Exception):
    """A linear problem has no solution; why is found out only when it is asked, by linear programmes."""

    def __init__(self, explanation: Callable[[], InputError]) -> None:
        super().__init__()
        self.explanation = explanation


def pool(prior: FloatArray, beliefs: Sequence[Belief]) -> FloatArray:
    """Weights closest to the prior in relative entropy under which all beliefs hold.

    Parameters
    ----------
    prior : ndarray, shape (n,)
        Non-negative, summing to 1; a scenario without weight (below 1e-18) gets none.
    beliefs : sequence of Belief
        Of the same scenarios.

    Raises
    ------
    InputError
        If the beliefs cannot hold together; it names those that conflict and what can be attained.
    """
    support = prior > _NOTHING
    if not support.all():  # what has no weight is not there
        inside = pool(
            prior[support] / prior[support].sum(), [replace(b, x=b.x[support], y=b.y[support]) for b in beliefs]
        )
        out = np.zeros_like(prior)
        out[support] = inside
        return out
    for b in beliefs:
        for x, q in zip((b.x, b.y) if b.stage else (), b.view.quantities, strict=False):
            if moments(x, prior)[1] <= 1e-13 * np.max(np.abs(x)):
                raise InputError(f"view {b.view}: {q.label} is the same in all scenarios that have weight")
        if b.view.statistic == "expected_shortfall":
            _check_shortfall(b)
    try:
        w = _from_stages(prior, beliefs)
    except _Stuck as stuck:
        w = _by_degrees(prior, beliefs, stuck)
    worst = max(beliefs, key=lambda b: b.excess(w, prior))
    if worst.excess(w, prior) > TOLERANCE:
        raise InputError(
            f"view {worst.view} is not met: it stands at {worst.value(w):.6g}; bring it nearer to what the scenarios "
            "say, or leave a view out"
        )
    return w


def _from_stages(prior: FloatArray, beliefs: Sequence[Belief]) -> FloatArray:
    w = prior
    for stage in sorted({b.stage for b in beliefs}):
        active = [b for b in beliefs if b.stage <= stage]
        w, _ = _solve(prior, active, [b.parameters(w) for b in active], None)
    return _settle(prior, beliefs, w) if any(b.parameters(w) for b in beliefs) else w


def _by_degrees(prior: FloatArray, beliefs: Sequence[Belief], stuck: _Stuck) -> FloatArray:
    """Move the bounds of what is not linear from where it stands to where it should be, as far as each step goes.

    A linearisation far from its solution may be infeasible where the views are not.
    """
    linear = [b for b in beliefs if b.is_linear]
    if len(linear) == len(beliefs):
        raise stuck.explanation()
    try:
        w = _solve(prior, linear, [[] for _ in linear], None)[0]
    except _Stuck:
        raise stuck.explanation() from None
    start = [b.value(w) for b in beliefs]
    reached, step = 0.0, 0.25
    while reached < 1:
        share = min(reached + step, 1.0)
        part = [
            b
            if b.is_linear
            else replace(
                b,
                lower=v + share * (b.lower - v) if b.lower > v else b.lower,
                upper=v + share * (b.upper - v) if b.upper < v else b.upper,
            )
            for b, v in zip(beliefs, start, strict=True)
        ]
        try:
            w = _settle(prior, part, w)
        except _Stuck:
            step *= 0.5
            if step < 1 / 64:
                raise stuck.explanation() from None
            continue
        reached = share
    return w


def _check_shortfall(belief: Belief) -> None:
    low, high = (float(f(0.0 - belief.x)) for f in (np.min, np.max))
    if belief.lower > high or belief.upper < low:
        raise InputError(
            f"view {belief.view} cannot hold on these scenarios; {belief.view.name} can lie between {low:.6g} and "
            f"{high:.6g}"
        )


def _settle(prior: FloatArray, beliefs: Sequence[Belief], w: FloatArray) -> FloatArray:
    """Fixed point of the parameters; values at risk that leap between scenarios are held where the prior is nearest."""
    psi, found = _iterate(prior, beliefs, _parameters(beliefs, w), hold=False)
    if found is not None:
        return found
    psi, found = _iterate(prior, beliefs, psi, hold=True)
    if found is None:  # moments that do not settle are held as well
        return _solve(prior, beliefs, _split(beliefs, psi), None, hold="all")[0]
    for place in np.flatnonzero(_tails(prior, beliefs)):
        psi, found = _climb(prior, beliefs, psi, found, int(place))
    return found


def _tails(prior: FloatArray, beliefs: Sequence[Belief]) -> BoolArray:
    """Which parameters are values at risk."""
    return np.array([b.view.statistic == "expected_shortfall" for b in beliefs for _ in b.parameters(prior)])


def _iterate(
    prior: FloatArray, beliefs: Sequence[Belief], psi: FloatArray, *, hold: bool
) -> tuple[FloatArray, FloatArray | None]:
    """Anderson's extrapolation of moments, damped steps of values at risk, or these held.

    Returns the parameters that moved least, and the weights where none moves any more.
    """
    unit = np.array([u for b in beliefs for u in _units(b, prior)])
    tail = _tails(prior, beliefs)
    damping, last = np.ones(unit.size), np.zeros(unit.size)
    multipliers: FloatArray | None = None
    past: list[tuple[FloatArray, FloatArray]] = []
    best = (np.inf, psi)
    for _ in range(_PATIENCE):
        try:
            w, multipliers = _solve(prior, beliefs, _split(beliefs, psi), multipliers, hold="tails" if hold else "none")
        except _Stuck:
            if not past:
                raise
            # The step went too far.
            psi, multipliers, past = past[-1][0] + 0.1 * past[-1][1], None, []
            damping[tail] *= 0.25
            continue
        found = _parameters(beliefs, w)
        movement = np.where(tail & hold, 0.0, found - psi)
        size = np.abs(movement) / unit
        if np.all(size <= _SETTLED):
            return psi, w
        # A value at risk moves from scenario to scenario and may leap to and fro for ever.
        damping[tail & (movement * last < 0)] *= 0.5
        caught = tail & (damping <= 1 / 32)
        if float(size.max()) < best[0]:
            best = (float(size.max()), np.where(tail & (not hold), found, psi))
        if np.all(caught | (size <= _SETTLED)):
            return np.where(tail, found, psi), None
        last = movement
        past = [*past[-_MEMORY:], (psi, movement)]
        psi = np.where(tail, psi + damping * movement, _anderson(past, unit, ~tail))
    return best[1], None


def _climb(
    prior: FloatArray, beliefs: Sequence[Belief], psi: FloatArray, w: FloatArray, place: int
) -> tuple[FloatArray, FloatArray]:
    """Move one value at risk from scenario to scenario, in growing and shrinking steps, to the least divergence."""
    owner = [b for b in beliefs for _ in b.parameters(prior)][place]
    losses = np.unique(0.0 - owner.x)
    at, step, least = int(np.searchsorted(losses, psi[place])), 1, divergence(w, prior)
    turned = False
    for _ in range(_CLIMB):
        trial = psi.copy()
        trial[place] = losses[min(max(at + step, 0), losses.size - 1)]
        try:
            moved, new = _iterate(prior, beliefs, trial, hold=True)
        except _Stuck:
            new = None
        if new is not None and divergence(new, prior) < least:
            psi, w, least, at = moved, new, divergence(new, prior), at + step
            step *= 2
            turned = True  # downhill is this way
        elif abs(step) > 1:
            step = int(np.sign(step)) * (abs(step) // 4 or 1)
        elif not turned:
            step, turned = -step, True
        else:
            break
    return psi, w


def _anderson(past: list[tuple[FloatArray, FloatArray]], unit: FloatArray, moved: BoolArray) -> FloatArray:
    """Next point from the last ones and their movements (Anderson 1965, type II), of the parameters moved."""
    psi, movement = past[-1]
    out = psi + 0.5 * movement
    if len(past) > 1 and moved.any():
        u = unit[moved]
        points = np.stack([(psi - p)[moved] / u for p, _ in past[:-1]], axis=1)
        moves = np.stack([(movement - m)[moved] / u for _, m in past[:-1]], axis=1)
        gamma = np.linalg.lstsq(moves, movement[moved] / u, rcond=1e-10)[0]
        step = movement[moved] / u - (points + moves) @ gamma
        # Beyond half a standard deviation the extrapolation is not to be trusted.
        out[moved] = psi[moved] + u * step * min(1.0, 0.5 / max(float(np.max(np.abs(step))), 1e-300))
    return out


def _parameters(beliefs: Sequence[Belief], w: FloatArray) -> FloatArray:
    return np.array([value for b in beliefs for value in b.parameters(w)])


def _units(belief: Belief, prior: FloatArray) -> list[float]:
    """Standard deviation, under the prior, of what each parameter is of."""
    x, y = moments(belief.x, prior)[1], moments(belief.y, prior)[1]
    return [x, x, y, y][: len(belief.parameters(prior))]


def _split(beliefs: Sequence[Belief], psi: FloatArray) -> list[list[float]]:
    counts = np.cumsum([len(b.parameters(np.full(b.x.size, 1 / b.x.size))) for b in beliefs])
    return [list(part) for part in np.split(psi, counts[:-1])]


def _solve(
    prior: FloatArray,
    beliefs: Sequence[Belief],
    parameters: Sequence[Sequence[float]],
    start: FloatArray | None,
    *,
    hold: Literal["none", "tails", "all"] = "none",
) -> tuple[FloatArray, FloatArray]:
    groups: list[range] = []
    rows: list[Row] = []
    for belief, own in zip(beliefs, parameters, strict=True):
        held = hold == "all" or (hold == "tails" and belief.view.statistic == "expected_shortfall")
        new = belief.rows(own, hold=held)
        groups.append(range(len(rows), len(rows) + len(new)))
        rows += new
    if not rows:  # bounds that every law keeps
        return prior, np.empty(0)
    matrix = np.stack([row for row, _, _ in rows])
    lower, upper = np.array([low for _, low, _ in rows]), np.array([high for _, _, high in rows])
    try:
        solution = tilt(prior, matrix, lower, upper, start=start)
    except Infeasible:
        raise _Stuck(lambda: _explain(prior, beliefs, matrix, lower, upper, groups)) from None
    return solution.weight, solution.multiplier


def _explain(
    prior: FloatArray,
    beliefs: Sequence[Belief],
    rows: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    groups: Sequence[range],
) -> InputError:
    """Say which views conflict and what each could be given the others."""
    guilty = conflict(prior, rows, lower, upper, groups)
    if not guilty:
        return InputError(
            "views can be met only at the edge of what the scenarios hold, by a handful of them: "
            + "; ".join(str(b.view) for b in beliefs)
            + "; move them inwards or draw more scenarios"
        )
    ranges = []
    for g in guilty:
        others = [row for other in guilty if other != g for row in groups[other]]
        text = _range(prior, beliefs[g], rows, lower, upper, groups[g], others)
        if text:
            ranges.append(text)
    if len(guilty) == 1:
        head = f"view {beliefs[guilty[0]].view} cannot hold on these scenarios"
    elif all(beliefs[g].is_linear for g in guilty):
        head = "views that cannot hold together: " + "; ".join(str(beliefs[g].view) for g in guilty)
    else:  # a linearisation is no proof
        head = "no weights were found under which these hold together: " + "; ".join(
            str(beliefs[g].view) for g in guilty
        )
    return InputError(head + "".join(f"; {text}" for text in ranges))


def _range(
    prior: FloatArray,
    belief: Belief,
    rows: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    own: range,
    others: list[int],
) -> str:
    kind = belief.view.statistic
    if kind == "expected_shortfall" and not others:
        return f"{belief.view.name} can lie between {np.min(0.0 - belief.x):.6g} and {np.max(0.0 - belief.x):.6g}"
    if kind in ("correlation", "expected_shortfall"):  # the row is the value only where they agree
        return ""
    first = next((j for j in own), None)
    found = attainable(prior, rows[first], rows[others], lower[others], upper[others]) if first is not None else None
    if found is None:
        return ""
    dust = 1e-9 * float(np.ptp(rows[own[0]]))
    low, high = (0.0 if abs(end) <= dust else end for end in found)
    given = " given the other(s)" if others else ""
    if kind in ("quantile", "value_at_risk"):
        bound = belief.upper if np.isfinite(belief.upper) else belief.lower
        value = bound if kind == "quantile" else -bound
        need = belief.view.level
        return (
            f"P({belief.view.quantities[0].label} <= {value:.6g}) can lie between {low:.4g} and {high:.4g}{given}, "
            f"{need:g} is needed"
        )
    if kind == "std":
        low, high = np.sqrt(max(low, 0.0)), np.sqrt(max(high, 0.0))
    about = ", about the mean it has," if kind in ("std", "variance") else ""
    return f"{belief.view.name} can lie{about} between {low:.6g} and {high:.6g}{given}"

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

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import arbitrage, risk
from volscen._entropy_pooling import Infeasible, attainable, conflict, tilt
from volscen._statistics import quantile
from volscen.errors import InputError
from volscen.views import View

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TOLERANCE", "Belief", "beliefs_of", "compare_views", "pool"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
#: One linear constraint: row, lower bound, upper bound.
Row = tuple[FloatArray, float, float]

#: How far a statistic may end from its bound, in the quantity's standard deviations (correlations: as they are).
TOLERANCE = 1e-7

#: Strictness of bounds on probabilities, so that a quantile taken afterwards falls on the right side.
_MARGIN = 1e-9

#: Rounds after which parameters that still move are held.
_PATIENCE = 60

#: Movement of the parameters, in standard deviations, at which they have settled.
_SETTLED = 1e-9

#: Rounds that the extrapolation of the parameters remembers.
_MEMORY = 5

_STAGE = {"variance": 1, "std": 1, "correlation": 2}


@dataclass(frozen=True)
class Belief:
    """A view whose quantities have been computed for the scenarios of one date."""

    view: View
    x: FloatArray
    y: FloatArray
    lower: float
    upper: float

    @property
    def stage(self) -> int:
        """When it enters: 0 at once, 1 with the second moments, 2 with the correlations."""
        return _STAGE.get(self.view.statistic, 0)

    def value(self, w: FloatArray) -> float:
        """The statistic under weights."""
        kind, level = self.view.statistic, self.view.level
        if kind == "quantile":
            return float(quantile(self.x, w, [level])[0])
        if kind == "value_at_risk":
            return float(risk.value_at_risk(self.x, w, alpha=level))
        if kind == "expected_shortfall":
            return float(risk.expected_shortfall(self.x, w, alpha=level))
        if kind in ("variance", "std"):
            deviation: float = _moments(self.x, w)[1]
            return deviation if kind == "std" else deviation * deviation
        if kind == "correlation":
            (mx, sx), (my, sy) = _moments(self.x, w), _moments(self.y, w)
            return float(w @ ((self.x - mx) * (self.y - my))) / (sx * sy)
        return float(w @ self.x)

    def parameters(self, w: FloatArray) -> list[float]:
        """What the linear expression needs to know of the law; empty where the statistic is linear as it is."""
        kind = self.view.statistic
        if kind in ("variance", "std"):
            return [_moments(self.x, w)[0]]
        if kind == "correlation":
            return [*_moments(self.x, w), *_moments(self.y, w)]
        if kind == "expected_shortfall":
            return [float(risk.value_at_risk(self.x, w, alpha=self.view.level))]
        return []

    def rows(self, parameters: Sequence[float], *, hold: bool = False) -> list[Row]:
        """Linear constraints that keep the statistic within bounds where ``parameters`` are those of the solution.

        With ``hold`` further ones see to that.
        """
        kind, level, lower, upper = self.view.statistic, self.view.level, self.lower, self.upper
        if kind == "quantile":
            return _quantile_rows(self.x, level, lower, upper)
        if kind == "value_at_risk":
            return _quantile_rows(self.x, level, -upper, -lower)
        if kind == "expected_shortfall":
            return _shortfall_rows(self.x, parameters[0], level, lower, upper, hold=hold)
        if kind in ("variance", "std"):
            power, mean = (1 if kind == "variance" else 2), parameters[0]
            low = -np.inf if lower <= 0 else lower**power
            rows: list[Row] = [(np.square(self.x - mean), low, upper**power)]
            return [*rows, (self.x, mean, mean)] if hold else rows
        if kind == "correlation":
            return _correlation_rows(self.x, self.y, parameters, lower, upper, hold=hold)
        return [(self.x, lower, upper)]

    def excess(self, w: FloatArray, prior: FloatArray) -> float:
        """By how much the statistic breaks its bounds, in units of :data:`TOLERANCE`'s scale."""
        kind = self.view.statistic
        if kind in ("quantile", "value_at_risk"):
            return max((max(low - row @ w, row @ w - high) for row, low, high in self.rows(())), default=0.0)
        value = self.value(w)
        spread = _moments(self.x, prior)[1]
        scale = {"variance": spread * spread, "correlation": 1.0, "probability": 1.0}.get(kind, spread)
        floor = 1e-9 * max(abs(value), 1e-300)
        return float(max(self.lower - value, value - self.upper, 0.0) / max(scale, floor))


def _moments(x: FloatArray, w: FloatArray) -> tuple[float, float]:
    mean = float(w @ x)
    return mean, math.sqrt(float(w @ np.square(x - mean)))


def _correlation_rows(
    x: FloatArray, y: FloatArray, parameters: Sequence[float], lower: float, upper: float, *, hold: bool
) -> list[Row]:
    mx, sx, my, sy = parameters
    zx, zy = (x - mx) / sx, (y - my) / sy
    product, squares = zx * zy, (zx * zx + zy * zy) / 2
    # E(zx zy) - r E(zx^2 + zy^2)/2 is nought where the correlation is r, and has the gradient of the correlation.
    if lower == upper:
        rows: list[Row] = [(product - lower * squares, 0.0, 0.0)]
    else:
        sides = ((lower, 0.0, np.inf), (upper, -np.inf, 0.0))
        rows = [(product - r * squares, low, high) for r, low, high in sides if abs(r) < 1]
    if hold:
        rows += [(zx, 0.0, 0.0), (zy, 0.0, 0.0), (zx * zx, 1.0, 1.0), (zy * zy, 1.0, 1.0)]
    return rows


def _quantile_rows(x: FloatArray, level: float, lower: float, upper: float) -> list[Row]:
    if lower == upper:
        return [((x <= upper).astype(np.float64), level, level)]
    rows: list[Row] = []
    if np.isfinite(upper):
        rows.append(((x <= upper).astype(np.float64), level + _MARGIN, np.inf))
    if np.isfinite(lower):
        rows.append(((x < lower).astype(np.float64), -np.inf, level - _MARGIN))
    return rows


def _shortfall_rows(x: FloatArray, t: float, alpha: float, lower: float, upper: float, *, hold: bool) -> list[Row]:
    # ES = min over t of t + E(loss - t)+ / alpha, attained at the value at risk (Rockafellar and Uryasev 2000).
    rows: list[Row] = [(t + np.maximum(-x - t, 0.0) / alpha, lower, upper)]
    if hold:  # t stays the value at risk: Meucci, Ardia and Keel (2011)
        rows.append(((-x > t).astype(np.float64), -np.inf, alpha))
        rows.append(((-x >= t).astype(np.float64), alpha, np.inf))
    return rows


def beliefs_of(ds: xr.Dataset, row: int, views: Sequence[View]) -> list[Belief]:
    """Views with their quantities computed on the scenarios of one date."""
    beliefs = []
    for view in views:
        try:
            arrays = [q.values(ds, row) for q in view.quantities]
        except InputError as error:
            raise InputError(f"view {view}: {error}") from None
        if view.statistic == "probability" and not np.all((arrays[0] == 0) | (arrays[0] == 1)):
            raise InputError(f"view {view}: an event must be 0 or 1 (False or True) on every scenario")
        upper = todays_penalty(ds) if np.isnan(view.upper) else view.upper
        beliefs.append(Belief(view, arrays[0], arrays[-1], view.lower, upper))
    return beliefs


def todays_penalty(ds: xr.Dataset) -> float:
    """Penalty of a path that stayed at the starting surface."""
    surface = ds["implied_vol0"].transpose("tau", "moneyness").values.astype(np.float64)
    one = float(arbitrage.penalty(surface, ds["tau"].values, ds["moneyness"].values))
    return one * int(ds.sizes["step"])


def pool(prior: FloatArray, beliefs: Sequence[Belief]) -> FloatArray:
    """Weights closest to the prior in relative entropy under which all beliefs hold.

    Parameters
    ----------
    prior : ndarray, shape (n,)
        Non-negative, summing to 1; a scenario without weight gets none.
    beliefs : sequence of Belief
        Of the same scenarios.

    Raises
    ------
    InputError
        If the beliefs cannot hold together; it names those that conflict and what can be attained.
    """
    for b in beliefs:
        for x, q in zip((b.x, b.y) if b.stage else (), b.view.quantities, strict=False):
            if _moments(x, prior)[1] <= 1e-13 * np.max(np.abs(x)):
                raise InputError(f"view {b.view}: {q.label} is the same in all scenarios that have weight")
        if b.view.statistic == "expected_shortfall":
            _check_shortfall(b, prior)
    w = prior
    for stage in sorted({b.stage for b in beliefs}):
        active = [b for b in beliefs if b.stage <= stage]
        w, _ = _solve(prior, active, [b.parameters(w) for b in active], None)
    if all(not b.parameters(w) for b in beliefs):
        return w
    w = _settle(prior, beliefs, w)
    worst = max(beliefs, key=lambda b: b.excess(w, prior))
    if worst.excess(w, prior) > TOLERANCE:
        raise InputError(
            f"view {worst.view} is not met: it stands at {worst.value(w):.6g}; bring it nearer to what the scenarios "
            "say, or leave a view out"
        )
    return w


def _check_shortfall(belief: Belief, prior: FloatArray) -> None:
    low, high = (float(f(-belief.x[prior > 0])) for f in (np.min, np.max))
    if belief.lower >= high or belief.upper <= low:
        raise InputError(
            f"view {belief.view} cannot hold on these scenarios; {belief.view.name} can lie between {low:.6g} and "
            f"{high:.6g}"
        )


def _settle(prior: FloatArray, beliefs: Sequence[Belief], w: FloatArray) -> FloatArray:
    """Fixed point of the parameters: Anderson's extrapolation of moments, damped steps of values at risk.

    What has not settled in the end is held where it moved least.
    """
    unit = np.array([u for b in beliefs for u in _units(b, prior)])
    tail = np.array([b.view.statistic == "expected_shortfall" for b in beliefs for _ in b.parameters(prior)])
    psi, damping, last = _parameters(beliefs, w), np.ones(unit.size), np.zeros(unit.size)
    multipliers: FloatArray | None = None
    past: list[tuple[FloatArray, FloatArray]] = []
    best = (np.inf, psi)
    for _ in range(_PATIENCE):
        try:
            w, multipliers = _solve(prior, beliefs, _split(beliefs, psi), multipliers)
        except InputError:
            if not past:
                raise
            # The step went too far.
            psi, multipliers, past = past[-1][0] + 0.1 * past[-1][1], None, []
            damping[tail] *= 0.25
            continue
        found = _parameters(beliefs, w)
        movement = found - psi
        size = np.abs(movement) / unit
        if np.all(size <= _SETTLED):
            return w
        # A value at risk moves from scenario to scenario and may leap to and fro for ever.
        damping[tail & (movement * last < 0)] *= 0.5
        caught = tail & ((damping <= 1 / 32) | (size <= _SETTLED))
        if float(size.max()) < best[0]:
            best = (float(size.max()), np.where(tail, found, psi))
        if np.all(caught | (size <= _SETTLED)):
            best = (0.0, np.where(tail, found, psi))
            break
        last = movement
        past = [*past[-_MEMORY:], (psi, movement)]
        psi = np.where(tail, psi + damping * movement, _anderson(past, unit, ~tail))
    return _solve(prior, beliefs, _split(beliefs, best[1]), None, hold=True)[0]


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
    x, y = _moments(belief.x, prior)[1], _moments(belief.y, prior)[1]
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
    hold: bool = False,
) -> tuple[FloatArray, FloatArray]:
    groups: list[range] = []
    rows: list[Row] = []
    for belief, own in zip(beliefs, parameters, strict=True):
        new = belief.rows(own, hold=hold)
        groups.append(range(len(rows), len(rows) + len(new)))
        rows += new
    if not rows:  # bounds that every law keeps
        return prior, np.empty(0)
    matrix = np.stack([row for row, _, _ in rows])
    lower, upper = np.array([low for _, low, _ in rows]), np.array([high for _, _, high in rows])
    try:
        solution = tilt(prior, matrix, lower, upper, start=start)
    except Infeasible:
        raise _explain(prior, beliefs, matrix, lower, upper, groups) from None
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
    else:
        head = "views that cannot hold together: " + "; ".join(str(beliefs[g].view) for g in guilty)
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
    if kind == "correlation":  # its row is not its value
        return ""
    first = next((j for j in own), None)
    found = attainable(prior, rows[first], rows[others], lower[others], upper[others]) if first is not None else None
    if found is None:
        return ""
    low, high = found[0] + 0.0, found[1] + 0.0  # no minus nought
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


def compare_views(ds: xr.Dataset, pooled: xr.Dataset, views: Sequence[View]) -> pd.DataFrame:
    """Table of :func:`volscen.views.compare`."""
    import pandas as pd

    if "as_of" in ds.dims or "as_of" in pooled.dims:
        raise InputError("views.compare takes scenarios of one date; choose one with ds.sel(as_of=...)")
    if ds.sizes["scenario"] != pooled.sizes["scenario"]:
        raise InputError("ds and pooled must hold the same scenarios")
    before, after = (np.asarray(d["weight"].values, dtype=np.float64) for d in (ds, pooled))
    beliefs = beliefs_of(ds, 0, views)
    lines = [
        {
            "at_least": belief.lower,
            "at_most": belief.upper,
            "before": belief.value(before),
            "after": belief.value(after),
            "met": belief.excess(after, before) <= 10 * TOLERANCE,
        }
        for belief in beliefs
    ]
    return pd.DataFrame(lines, index=[belief.view.name for belief in beliefs])

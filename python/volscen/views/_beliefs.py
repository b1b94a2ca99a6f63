"""Views in numbers: statistics of the scenarios of one date, and the linear constraints that stand for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import arbitrage, risk
from volscen._statistics import quantile
from volscen.errors import InputError
from volscen.views import View

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TOLERANCE", "Belief", "Row", "beliefs_of", "compare_views", "moments"]

FloatArray = npt.NDArray[np.float64]
#: One linear constraint: row, lower bound, upper bound.
Row = tuple[FloatArray, float, float]

#: How far a statistic may end from its bound, in the quantity's standard deviations (correlations: as they are).
TOLERANCE = 1e-7

#: Strictness of bounds on probabilities, so that a quantile taken afterwards falls on the right side.
_MARGIN = 1e-9

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

    @property
    def is_linear(self) -> bool:
        """Whether it is linear in the weights as it is."""
        return self.stage == 0 and self.view.statistic != "expected_shortfall"

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
            deviation: float = moments(self.x, w)[1]
            return deviation if kind == "std" else deviation * deviation
        if kind == "correlation":
            (mx, sx), (my, sy) = moments(self.x, w), moments(self.y, w)
            return float(w @ ((self.x - mx) * (self.y - my))) / (sx * sy)
        return float(w @ self.x)

    def parameters(self, w: FloatArray) -> list[float]:
        """What the linear expression needs to know of the law; empty where the statistic is linear as it is."""
        kind = self.view.statistic
        if kind in ("variance", "std"):
            return [moments(self.x, w)[0]]
        if kind == "correlation":
            return [*moments(self.x, w), *moments(self.y, w)]
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
            return float(max((max(low - row @ w, row @ w - high) for row, low, high in self.rows(())), default=0.0))
        value = self.value(w)
        spread = moments(self.x, prior)[1]
        scale = {"variance": spread * spread, "correlation": 1.0, "probability": 1.0}.get(kind, spread)
        floor = 1e-6 * max(abs(value), 1e-300)  # of what hardly varies, rounding is all there is
        return float(max(self.lower - value, value - self.upper, 0.0) / max(scale, floor))


def moments(x: FloatArray, w: FloatArray) -> tuple[float, float]:
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
    if lower == upper:  # the largest scenario not above it
        lower = upper = float(np.max(x, where=x <= upper, initial=-np.inf))
        if upper == -np.inf:
            return [(np.zeros(x.size), level, np.inf)]
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
    known: dict[int, FloatArray] = {}  # a book is valued once, however many views are about it
    for view in views:
        try:
            for q in view.quantities:
                if id(q) not in known:
                    known[id(q)] = q.values(ds, row)
            arrays = [known[id(q)] for q in view.quantities]
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

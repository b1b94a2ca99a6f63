"""What the residual network trains on: residuals of laws that had not seen the days they are judged on.

The base is refitted to growing parts of the sample, in the factors of the whole. A day's residual is of the last
refit before it, and so are the residuals drawn in its place, of the days before it: nothing of a day enters what
is said of it. In the first part, which precedes the first refit's end, residuals are in sample, and are inflated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.errors import InputError
from volscen.generators._residual_net_base import Base, Days, Past, Step

__all__ = ["Inputs", "Table", "raw_inputs", "tables"]

FloatArray = npt.NDArray[np.float64]

#: Share of the sample that the first refit is made on, and least number of days.
_FIRST_SHARE, _LEAST = 0.3, 100

#: Standardised inputs beyond this count as this.
_CLIP = 4.0


@dataclass(frozen=True)
class Inputs:
    """How the network's inputs are standardised: mean, standard deviation, and the range they are clipped to.

    Attributes
    ----------
    range : ndarray, shape (4, p)
        Mean, standard deviation, smallest and largest raw input of the training days.
    """

    range: FloatArray

    @classmethod
    def of(cls, raw: FloatArray) -> Inputs:
        """From the training days, (n, p)."""
        return cls(np.stack([raw.mean(axis=0), raw.std(axis=0), raw.min(axis=0), raw.max(axis=0)]))

    def standardised(self, raw: FloatArray) -> FloatArray:
        """Inputs clipped and standardised: (n, p)."""
        centre, width, low, high = self.range
        x = (np.clip(raw, low, high) - centre) / np.where(width > 1e-12, width, 1.0)
        return np.asarray(np.clip(x, -_CLIP, _CLIP))

    def is_outside(self, raw: FloatArray) -> bool:
        """Whether any input of any row is clipped to the training range."""
        _, _, low, high = self.range
        slack = 1e-6 * (1 + np.abs(raw))
        return bool(np.any((raw < low - slack) | (raw > high + slack)))


@dataclass(frozen=True)
class Table:
    """Days to train on or to validate on.

    Attributes
    ----------
    x : ndarray, shape (n, p)
        Standardised inputs.
    weight : ndarray, shape (n, f)
        What a unit of each residual moves, in standard deviations: of the return, and of the cells together.
    target : ndarray, shape (n, f)
        Residual of the day.
    rest : ndarray, shape (n,)
        Squared length of what the factors leave out of the day.
    rest_scale : ndarray, shape (n,)
        What the squared lengths of the pool are multiplied by on the day.
    first, length : ndarray of int, shape (n,)
        Rows of ``pool`` that may be drawn in its place: residuals of the days before it.
    pool : ndarray, shape (m, f)
    pool_rest : ndarray, shape (m,)
        Squared lengths.
    surface, scale, outside : ndarray, shape (n, cells), (n, f), (m, cells)
        Where surfaces are wanted: the log vols that residuals of 0 would make, what a residual is multiplied by, and
        what the factors leave out of the days of the pool.
    """

    x: FloatArray
    weight: FloatArray
    target: FloatArray
    rest: FloatArray
    rest_scale: FloatArray
    first: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    pool: FloatArray
    pool_rest: FloatArray
    surface: FloatArray | None = None
    scale: FloatArray | None = None
    outside: FloatArray | None = None


def raw_inputs(now: Step) -> FloatArray:
    """Inputs before they are standardised: level scores, last factors, means and log scales of the next, (n, p)."""
    return np.column_stack([now.level, now.last, now.mean, np.log(now.scale)])


def tables(
    base: Base,
    history: xr.Dataset,
    validation_days: int | float,
    refits: int,
    residual_days: int,
    *,
    surfaces: bool = False,
) -> tuple[Inputs, Table, Table]:
    """Lay out the training days and the validation days after them.

    Parameters
    ----------
    base : Base
        Fitted on ``history``.
    history : xarray.Dataset
    validation_days : int or float
        Last days held out: their number, or their share when below 1.
    refits : int
        Number of growing samples that the law is refitted on for the training days.
    residual_days : int
        Residuals are drawn from the last so many days before.
    surfaces : bool
        Lay out what surfaces are decoded from too.

    Raises
    ------
    InputError
        If too few days remain.
    """
    days = base.days(history)
    n = len(days.factor)
    held = round(validation_days * n) if validation_days < 1 else int(validation_days)
    last = n - held
    first_cut = max(_LEAST, round(_FIRST_SHARE * last))
    if held < 2 or last - first_cut < 2 * refits:
        raise InputError(
            f"history of {history.sizes['date']} dates leaves {max(last - first_cut, 0)} days to train and {held} to "
            f"validate on; give a longer one, or change validation_days or refits"
        )
    cuts = np.linspace(first_cut, last, refits + 1).round().astype(int)[:-1]
    stops = [*cuts[1:], last]
    raw, parts = [], []
    start = _LEAST // 2
    for cut, stop in zip(cuts, stops, strict=True):
        x, part = _part(base, days, base.past(days, int(cut), int(stop)), start, residual_days, surfaces)
        raw.append(x)
        parts.append(part)
        start = int(stop)
    held_raw, held_out = _part(base, days, base.past(days, last, n), last, residual_days, surfaces)
    inputs = Inputs.of(np.concatenate(raw))
    return inputs, _joined(parts, raw, inputs), _joined([held_out], [held_raw], inputs)


def _part(
    base: Base, days: Days, past: Past, start: int, residual_days: int, surfaces: bool
) -> tuple[FloatArray, dict[str, Any]]:
    """Raw inputs and the rest of the table for the days from ``start`` to where ``past`` ends."""
    stop = len(past.error)
    pool = past.error * np.where(np.arange(stop) < past.cut, past.inflation, 1.0)[:, None]
    rows = np.arange(start, stop)
    first = np.maximum(rows - residual_days, 0)
    raw = raw_inputs(Step(past.mean[rows], past.scale[rows], days.level[rows], days.last[rows], None))
    part = {
        "weight": past.scale[rows] * base.unit,
        "target": pool[rows],
        "rest": days.rest[rows] ** 2,
        "rest_scale": past.rest_scale[rows] ** 2,
        "first": first,
        "length": rows - first,
        "pool": pool,
        "pool_rest": (days.rest[:stop] / past.rest_scale) ** 2,
    }
    if surfaces:
        part |= {
            "surface": days.surface[rows] + past.mean[rows] @ base.decoder[0],
            "scale": past.scale[rows],
            "outside": days.outside[:stop] / past.rest_scale[:, None],
        }
    return raw, part


def _joined(parts: list[dict[str, Any]], raw: list[FloatArray], inputs: Inputs) -> Table:
    offset = np.cumsum([0, *(len(part["pool"]) for part in parts[:-1])])
    shifted = [part | {"first": part["first"] + o} for part, o in zip(parts, offset, strict=True)]
    whole = {name: np.concatenate([part[name] for part in shifted]) for name in parts[0]}
    return Table(x=inputs.standardised(np.concatenate(raw)), **whole)

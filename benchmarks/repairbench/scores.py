"""Scores of repaired surfaces against the truth."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import xarray as xr
from sklearn.metrics import roc_auc_score

import volscen
from repairbench.cells import TAU, Cell, K, noise_sd, stale
from volscen import black, svi
from volscen._repair._base import Observations, Prediction, Predictor

__all__ = ["Repaired", "Score", "by_verb", "observations", "predict", "score", "table"]

FloatArray = npt.NDArray[np.float64]
#: Half-widths of 80% and 95% intervals of a Gaussian law, in standard deviations.
_HALF = {80: 1.28155, 95: 1.95996}
_STALE_SEED = 401


@dataclass
class Repaired:
    """What a method makes of a cell: vols, their standard deviation, intervals, quotes' scores of staleness, time."""

    vol: FloatArray
    sd: FloatArray
    seconds: float
    #: Ends of intervals of 80 and 95%, where a method states its own.
    interval: dict[int, tuple[FloatArray, FloatArray]] = field(default_factory=dict)


@dataclass
class Score:
    """Figures of one method on one cell."""

    rmse: float
    error: float
    calendar: float
    durrleman: float
    butterfly: float
    cover80: float
    cover95: float
    correlation: float
    auc: float
    refitted: float
    milliseconds: float
    #: Of the verb: median misfit, and share of surfaces flagged as out of distribution.
    misfit: float = np.nan
    alarm: float = np.nan


def observations(cell: Cell) -> Observations:
    """The cell as the package's predictors take it."""
    n = len(cell.truth)
    points = np.stack(np.meshgrid(TAU, K, indexing="ij")).reshape(2, -1)
    log_vol = np.log(cell.observed).reshape(n, -1)
    level = np.exp(np.nanmean(log_vol, axis=1))[:, None]
    noise = noise_sd().ravel() / np.where(np.isnan(log_vol), level, np.exp(log_vol))
    return Observations(points[0], points[1], (TAU.size, K.size), log_vol, noise)


def predict(predictor: Predictor, cell: Cell) -> tuple[Repaired, Prediction]:
    """Vols and their standard deviations by a predictor, with the processor time a surface takes."""
    observed = observations(cell)
    predictor.predict(observed.part(slice(0, 1)))
    start = time.process_time()
    found = predictor.predict(observed)
    seconds = (time.process_time() - start) / len(cell.truth)
    vol = np.exp(found.mean).reshape(cell.truth.shape)
    return Repaired(vol, found.sd.reshape(cell.truth.shape) * vol, seconds), found


def by_verb(cell: Cell, method: str = "default", *, stale_quotes: bool = True) -> Score:
    """Figures of what :func:`volscen.repair` gives, with the area under the curve for stale quotes if asked for."""

    def call(observed: FloatArray) -> xr.Dataset:
        return volscen.repair(observed, tau=TAU, moneyness=np.exp(K), noise=noise_sd(), method=method)

    start = time.process_time()
    whole = call(cell.observed)
    seconds = (time.process_time() - start) / len(cell.truth)
    ends = {
        round(100 * level): (whole["lower"].sel(level=level).values, whole["upper"].sel(level=level).values)
        for level in (0.8, 0.95)
    }
    repaired = Repaired(whole["implied_vol"].values, whole["implied_vol_sd"].values, seconds, ends)
    area = np.nan
    if stale_quotes:
        moved, which = stale(cell, np.random.default_rng(_STALE_SEED))
        value = call(moved.observed)["stale_score"].values
        area = float(roc_auc_score(which[cell.mask], value[cell.mask]))
    alarm = float(((whole["surface_flag"].values & 2) > 0).mean())
    return replace(score(repaired, cell, area), misfit=float(np.nanmedian(whole["misfit"])), alarm=alarm)


def rmse(vol: FloatArray, cell: Cell) -> FloatArray:
    """RMSE in vol of each surface where nothing is observed."""
    hidden = ~cell.mask
    square = np.where(hidden, (vol - cell.truth) ** 2, 0).sum(axis=(1, 2))
    return np.asarray(np.sqrt(square / hidden.sum(axis=(1, 2))))


def violations(vol: FloatArray) -> tuple[float, float, float]:
    """Shares of edges in time along which total variance falls, and of inner points with g < 0 or prices not convex."""
    w = vol**2 * TAU[:, None]
    step = K[1] - K[0]
    middle, first = w[..., 1:-1], (w[..., 2:] - w[..., :-2]) / (2 * step)
    second = (w[..., 2:] - 2 * middle + w[..., :-2]) / step**2
    g = (1 - K[1:-1] * first / (2 * middle)) ** 2 - first**2 / 4 * (1 / middle + 0.25) + second / 2
    put = black.price(1.0, np.exp(K), TAU[:, None], vol, False)
    slope = np.diff(put) / np.diff(np.exp(K))
    return (
        float((np.diff(w, axis=1) < -1e-8).mean()),
        float((g < -1e-6).mean()),
        float((np.diff(slope) < -1e-10).mean()),
    )


def staleness(cell: Cell, found: Prediction) -> FloatArray:
    """How stale each quote looks: its leave-one-out |z|, or without one its distance in total variance."""
    if found.z is not None:
        return np.abs(found.z).reshape(cell.truth.shape)
    vol = np.exp(found.mean).reshape(cell.truth.shape)
    return np.asarray(np.abs(cell.observed**2 - vol**2) * TAU[:, None])


def auc(predictor: Predictor, cell: Cell) -> float:
    """Area under the curve of that score, all quotes of the cell pooled, 8% of them moved."""
    moved, which = stale(cell, np.random.default_rng(_STALE_SEED))
    value = staleness(moved, predictor.predict(observations(moved)))
    return float(roc_auc_score(which[cell.mask], value[cell.mask]))


def score(found: Repaired, cell: Cell, stale_auc: float) -> Score:
    """All figures of a method on a cell."""
    errors = rmse(found.vol, cell)
    hidden = ~cell.mask
    miss = np.abs(found.vol - cell.truth)[hidden]
    sd = found.sd[hidden]
    known = bool(np.isfinite(sd).all())
    ends = found.interval or {level: (found.vol - h * found.sd, found.vol + h * found.sd) for level, h in _HALF.items()}
    cover = {80: np.nan, 95: np.nan}
    if known:
        for level, (low, high) in ends.items():
            cover[level] = float(((low <= cell.truth) & (cell.truth <= high))[hidden].mean())
    w = found.vol**2 * TAU[:, None]
    refit = svi.total_variance(svi.fit(K, w).parameters, K)
    refit = np.sqrt(np.maximum.accumulate(np.maximum(refit, 1e-5), axis=1) / TAU[:, None])
    return Score(
        float(errors.mean()),
        float(errors.std(ddof=1) / np.sqrt(len(errors))),
        *violations(found.vol),
        cover[80],
        cover[95],
        float(np.corrcoef(miss, sd)[0, 1]) if known else np.nan,
        stale_auc,
        float(rmse(refit, cell).mean()),
        1e3 * found.seconds,
    )


def table(rows: dict[tuple[str, str], Score]) -> str:
    """Markdown table, one row per cell and method."""
    head = (
        "| cell | method | RMSE | s.e. | calendar % | g<0 % | butterfly % | 80% | 95% | corr. | AUC | after SVI | ms |"
    )
    lines = [head, "|" + "---|" * (head.count("|") - 1)]

    def text(value: float, form: str) -> str:
        return "-" if np.isnan(value) else format(value, form)

    for (cell, method), s in rows.items():
        shares = " | ".join(text(100 * x, ".2f") for x in (s.calendar, s.durrleman, s.butterfly))
        covers = " | ".join(text(x, ".2f") for x in (s.cover80, s.cover95, s.correlation, s.auc))
        lines.append(
            f"| {cell} | {method} | {s.rmse:.4f} | {s.error:.4f} | {shares} | {covers} | {text(s.refitted, '.4f')} | "
            f"{text(s.milliseconds, '.2f')} |"
        )
    return "\n".join(lines)

"""From quotes at some points to surfaces, intervals and scores, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen._repair._base import Observations, Prediction, load_predictor
from volscen._repair._free import project_surfaces
from volscen._repair._gaussian import leave_one_out
from volscen._repair._inputs import Batch, relative_noise
from volscen._repair._intervals import Calibration
from volscen._repair._merge import MOST_QUOTES, merge_quotes
from volscen._repair._prior import packaged_calibrations, packaged_prior

__all__ = ["Options", "Repaired", "repair_batch"]

FloatArray = npt.NDArray[np.float64]

#: At-the-money levels of the library; surfaces beyond are scaled to its middle, by powers of the root of two.
_LEVELS, _MIDDLE = (0.07, 0.8), 0.22

#: Leave-one-out differences beyond this many of a surface's own typical one are mistakes, and trusted that much less.
_MISTAKE = 4.0

#: Rounds of doubting quotes.
_PASSES = 4

#: As many quotes as are assumed to have a misfit of 1, beside those there are.
_ASSUMED = 3


@dataclass(frozen=True)
class Options:
    """What is asked for, beside the surfaces."""

    method: str
    levels: tuple[float, ...]
    conditions: str
    robust: bool


@dataclass(frozen=True)
class Repaired:
    """Surfaces (n, J, I) of one batch, intervals (L, n, J, I), and figures of surfaces (n,) and quotes (n, P)."""

    implied_vol: FloatArray
    sd: FloatArray
    lower: FloatArray
    upper: FloatArray
    misfit: FloatArray
    unusual: npt.NDArray[np.bool_]
    rescaled: npt.NDArray[np.bool_]
    status: npt.NDArray[np.int8]
    least_g: FloatArray
    change: FloatArray
    inside: npt.NDArray[np.bool_]
    quotes_inside: npt.NDArray[np.bool_]
    at_quotes: FloatArray
    stale_score: FloatArray


def repair_batch(batch: Batch, tau: FloatArray, moneyness: FloatArray, on_grid: bool, options: Options) -> Repaired:
    """Repair surfaces observed at the same points."""
    scale = _scale(batch)
    noise = relative_noise(batch, scale)
    parts: list[tuple[npt.NDArray[np.intp], Repaired]] = []
    for one in np.unique(scale):
        rows = np.flatnonzero(scale == one)
        own = replace(batch, rows=rows, vol=batch.vol[rows], noise=noise[rows])
        parts.append((rows, _repair_scaled(own, float(one), tau, moneyness, on_grid, options)))
    if len(parts) == 1:
        return parts[0][1]
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    joined: dict[str, Any] = {}
    for name in Repaired.__dataclass_fields__:
        axis = 1 if name in ("lower", "upper") else 0
        joined[name] = np.concatenate([getattr(part, name) for _, part in parts], axis=axis).take(order, axis=axis)
    return Repaired(**joined)


def _scale(batch: Batch) -> FloatArray:
    """Level of every surface over that of the library's: 1 for those within its range."""
    log_vol = np.log(batch.vol)
    away = np.where(np.isnan(log_vol), np.inf, np.abs(batch.k) / np.sqrt(batch.tau))
    near = away <= np.nanmedian(np.where(np.isinf(away), np.nan, away), axis=1)[:, None]
    level = np.exp(np.nanmedian(np.where(near, log_vol, np.nan), axis=1))
    steps = np.round(2 * np.log2(level / _MIDDLE))
    return np.where((level >= _LEVELS[0]) & (level <= _LEVELS[1]), 1.0, 2.0 ** (steps / 2))


def _repair_scaled(
    batch: Batch, scale: float, tau: FloatArray, moneyness: FloatArray, on_grid: bool, options: Options
) -> Repaired:
    """Repair surfaces of one level; ``batch.noise`` is relative."""
    assert batch.noise is not None
    k = np.log(moneyness)
    shape = (len(batch.vol), tau.size, k.size)
    cells = tau.size * k.size
    grid_tau, grid_k = np.repeat(tau, k.size), np.tile(k, tau.size)
    log_vol = np.log(batch.vol / scale)
    if on_grid:
        observed = Observations(grid_tau, grid_k / scale, shape[1:], log_vol, batch.noise)
        at = slice(0, cells)
    else:
        all_tau, all_k = np.append(grid_tau, batch.tau), np.append(grid_k, batch.k) / scale
        blank = np.full((shape[0], cells), np.nan)
        observed = Observations(
            all_tau,
            all_k,
            shape[1:],
            np.concatenate([blank, log_vol], axis=1),
            np.concatenate([np.ones(blank.shape), batch.noise], axis=1),
        )
        at = slice(cells, cells + batch.tau.size)
    found, z = _predict(observed, at, options)
    quoted = ~np.isnan(batch.vol)
    misfit = widened_misfit(_misfit(found), observed.mask.sum(axis=1))
    vol = scale * np.exp(found.mean[:, :cells]).reshape(shape)
    sd = found.sd[:, :cells].reshape(shape)
    free = project_surfaces(vol, vol * sd, tau, moneyness, options.conditions)
    calibration = packaged_calibrations().get(options.method)
    half = np.stack([_half_width(calibration, sd, misfit, level) for level in options.levels])
    unusual = np.zeros(len(misfit), dtype=bool)
    if calibration is not None:
        unusual = calibration.is_unusual(misfit, quoted.sum(axis=1))
    inside = packaged_prior().at(observed.tau, observed.log_moneyness).inside
    return Repaired(
        implied_vol=free.implied_vol,
        sd=free.implied_vol * sd,
        lower=free.implied_vol * np.exp(-half),
        upper=free.implied_vol * np.exp(half),
        misfit=misfit,
        unusual=unusual,
        rescaled=np.full(len(vol), scale != 1),
        status=free.status,
        least_g=free.least_g,
        change=free.implied_vol - vol,
        inside=np.broadcast_to(inside[:cells].reshape(shape[1:]), shape),
        quotes_inside=np.asarray((inside[at] | ~quoted).all(axis=1)),
        at_quotes=scale * np.exp(found.mean[:, at]),
        stale_score=z,
    )


def widened_misfit(misfit: FloatArray, n_quotes: npt.NDArray[np.intp]) -> FloatArray:
    """Misfit drawn towards 1, as a few quotes tell little."""
    return np.asarray(np.sqrt((n_quotes * misfit**2 + _ASSUMED) / (n_quotes + _ASSUMED)))


def _half_width(calibration: Calibration | None, sd: FloatArray, misfit: FloatArray, level: float) -> FloatArray:
    if calibration is not None:
        return calibration.half_width(sd, misfit, level)
    from scipy.special import ndtri

    return np.asarray(sd * float(ndtri(0.5 + level / 2)))


def _predict(observed: Observations, at: slice, options: Options) -> tuple[Prediction, FloatArray]:
    """Prediction at all points, and the leave-one-out score of the quotes."""
    if len(observed.log_vol) > 1 and int(observed.mask.sum(axis=1).max()) > MOST_QUOTES:
        pieces = [_predict(observed.part(slice(i, i + 1)), at, options) for i in range(len(observed.log_vol))]
        points = observed.tau.size
        whole = Prediction(
            np.concatenate([found.mean[:, :points] for found, _ in pieces]),
            np.concatenate([found.sd[:, :points] for found, _ in pieces]),
            misfit=np.concatenate([_misfit(found) for found, _ in pieces]),
        )
        return whole, np.concatenate([z for _, z in pieces])
    merged = merge_quotes(observed)
    found = _whole(merged, options.method)
    z = _scores(observed, merged, found, at)
    if not options.robust:
        return found, z
    points = observed.tau.size
    mean, sd, misfit = found.mean[:, :points], found.sd[:, :points], _misfit(found)
    noise, rows, doubted_at, now = observed.noise.copy(), np.arange(len(z)), np.zeros(z.shape, dtype=bool), z.copy()
    # A gross mistake bends what the others say of each other: with it gone, the next may show.
    for _ in range(_PASSES):
        typical = np.maximum(1.4826 * np.nanmedian(np.abs(now[rows]), axis=1), 1.0)[:, None]
        far = np.abs(now[rows]) / typical
        wrong = np.nanmax(far, axis=1) > _MISTAKE
        if not wrong.any():
            break
        rows, far = rows[wrong], far[wrong]
        doubted_at[rows] |= far > _MISTAKE
        part = noise[rows]
        part[:, at] *= np.where(far > _MISTAKE, far, 1.0)
        noise[rows] = part
        doubted = replace(observed, noise=noise).part(rows)
        merged = merge_quotes(doubted)
        again = _whole(merged, options.method)
        mean[rows], sd[rows], misfit[rows] = again.mean[:, :points], again.sd[:, :points], _misfit(again)
        now[rows] = _scores(doubted, merged, again, at)
    return Prediction(mean, sd, found.z, misfit), np.where(doubted_at, z, now)


def _misfit(found: Prediction) -> FloatArray:
    assert found.misfit is not None
    return found.misfit


def _whole(observed: Observations, method: str) -> Prediction:
    """Prediction with all that a method may leave out taken from the Gaussian law of the whole library."""
    found = load_predictor(method).predict(observed)
    if found.z is not None and found.misfit is not None and not np.isnan(found.sd).any():
        return found
    usual = load_predictor("global").predict(observed)
    sd = np.where(np.isnan(found.sd), usual.sd, found.sd)
    return Prediction(
        found.mean,
        sd,
        usual.z if found.z is None else found.z,
        usual.misfit if found.misfit is None else found.misfit,
    )


def _scores(observed: Observations, merged: Observations, found: Prediction, at: slice) -> FloatArray:
    assert found.z is not None
    if merged is observed:
        return found.z[:, at].copy()
    # Quotes that were merged: each is taken out of the law that holds it.
    return leave_one_out(found.mean[:, at], found.sd[:, at] ** 2, observed.log_vol[:, at], observed.noise[:, at] ** 2)

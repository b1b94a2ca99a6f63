"""Histories as the VAE-LSTM sees them: of one asset or several, on one calendar, in rolling units, with masks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen.errors import FileFormatError, InputError
from volscen.generators._vae_lstm_features import Points, history_features
from volscen.generators._vae_lstm_options import FRAME_DAYS

__all__ = ["REACH", "Panel", "Units", "frame_of", "lay_out", "own_arrays", "read_assets", "surfaces"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Standardised inputs beyond this are held.
REACH = 10.0
#: Least number of days seen among the last 60 for a rolling mean and deviation.
_FEWEST = 15
#: Days that an asset must share with the others.
_COMMON = 50
#: Share of a cell's usual deviation that a rolling one counts for at least, lest a calm month make a giant of a move.
_FLOOR = 0.3


@dataclass(frozen=True)
class Units:
    """Units of one asset, from its training days.

    Attributes
    ----------
    sd_floor : ndarray, shape (cells,)
        Least rolling deviation of a log vol.
    feature_mean, feature_sd : ndarray, shape (features,)
    return_sd : float
        Of the annualised return.
    """

    sd_floor: FloatArray
    feature_mean: FloatArray
    feature_sd: FloatArray
    return_sd: float

    def features(self, raw: FloatArray) -> FloatArray:
        """Standardised features, held within reach."""
        return np.clip((raw - self.feature_mean) / self.feature_sd, -REACH, REACH)


@dataclass(frozen=True)
class Panel:
    """One asset on the calendar of all; days it was not seen on hold the last surface known.

    Attributes
    ----------
    tau, moneyness : ndarray
    logs : ndarray, shape (T, cells)
        Log vols.
    seen : ndarray of bool, shape (T,)
        Days with a surface of their own.
    log_return : ndarray, shape (T,)
        Annualised, 0 where not known.
    mean, sd : ndarray, shape (T, cells)
        Of the log vols seen in the 60 days up to each.
    features : ndarray, shape (T, features)
        Not standardised.
    active : ndarray of bool, shape (T,)
        Days with a rolling mean and deviation.
    stale : ndarray, shape (T,)
        Days since a surface was seen.
    """

    tau: FloatArray
    moneyness: FloatArray
    logs: FloatArray
    seen: BoolArray
    log_return: FloatArray
    mean: FloatArray
    sd: FloatArray
    features: FloatArray
    active: BoolArray
    stale: FloatArray

    def units(self, n_train: int) -> Units:
        """Units from the first ``n_train`` days of the calendar."""
        rows = np.flatnonzero((self.active & self.seen)[:n_train])
        raw = self.features[rows]
        known = self.log_return[:n_train][self.seen[:n_train]]
        return Units(
            np.maximum(_FLOOR * np.median(self.sd[rows], axis=0), 1e-4),
            raw.mean(axis=0),
            np.maximum(raw.std(axis=0), 1e-6),
            max(float(known[1:].std()), 1e-8),
        )


def frame_of(logs: FloatArray, sd_floor: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean and deviation (n, cells) of the last 60 log surfaces (n, 60, cells); root mean square deviation (n,)."""
    mean = logs.mean(axis=1)
    sd = np.sqrt(np.mean(np.square(logs - mean[:, None]), axis=1))
    sd = np.maximum(sd, sd_floor)
    return mean, sd, np.sqrt(np.mean(sd**2, axis=-1))


def read_assets(histories: Any) -> dict[str, xr.Dataset]:
    """Histories by asset, of a mapping, or of a dataset with a dimension ``asset`` or without.

    Raises
    ------
    InputError
        If one is no history of whole surfaces, frequencies differ, or an asset shares too few days with the others.
    """
    if isinstance(histories, xr.Dataset):
        schema.validate(histories)
        if "asset" not in histories.dims:
            return {"asset": histories}
        parts = {
            name: part.drop_vars([str(key) for key, coord in part.coords.items() if not coord.dims])
            for name, part in schema.split_assets(histories).items()
        }
        return {name: schema.validate(part, schema=schema.HISTORY) for name, part in parts.items()}
    if not isinstance(histories, Mapping) or not histories:
        raise InputError("histories must map names of assets to their histories, or have the dimension 'asset'")
    for name, history in histories.items():
        if not isinstance(name, str) or not name:
            raise InputError(f"histories must bear names that are texts, not {name!r}")
        try:
            schema.validate(history, schema=schema.HISTORY)
        except (InputError, FileFormatError) as error:
            raise type(error)(f"{name}: {error}") from None
        if "asset" in history.dims:
            raise InputError(f"{name} holds several assets; choose one with history.sel(asset=...)")
    years = {name: float(history.attrs["periods_per_year"]) for name, history in histories.items()}
    if len(set(years.values())) > 1:
        raise InputError(f"periods_per_year differ ({years}); bring the histories to one frequency")
    days = {name: history["date"].values.astype("datetime64[D]") for name, history in histories.items()}
    for name, own in days.items():
        others = [other for key, other in days.items() if key != name]
        if others:
            shared = int(np.isin(own, np.concatenate(others)).sum())
            if shared < _COMMON:
                raise InputError(
                    f"{name} shares {shared} dates with the other assets and {_COMMON} are needed: give histories of "
                    "one period, or fit it alone"
                )
    return dict(histories)


def lay_out(history: xr.Dataset, dates: npt.NDArray[np.datetime64] | None = None) -> Panel:
    """One asset on a calendar (its own dates when omitted), which must hold all of its dates."""
    own = history["date"].values.astype("datetime64[D]")
    dates = own if dates is None else dates
    at = np.searchsorted(dates, own)
    if own.size == 0 or at[-1] >= dates.size or not np.array_equal(dates[at], own):
        raise InputError("dates must hold every date of the histories")
    vol = history["implied_vol"].transpose("date", "tau", "moneyness").values.astype(np.float64)
    known = np.log(vol).reshape(own.size, -1)
    log_return = np.zeros(dates.size)
    annual = math.sqrt(float(history.attrs["periods_per_year"]))
    log_return[at] = np.r_[0.0, annual * history["log_return"].values[1:].astype(np.float64)]
    seen = np.zeros(dates.size, dtype=bool)
    seen[at] = True
    last = np.maximum.accumulate(np.where(seen, np.arange(dates.size), -1))
    row = np.searchsorted(at, np.maximum(last, at[0]))
    logs = known[row]
    mean, sd, count = _rolling(logs, seen)
    tau, moneyness = (history[name].values.astype(np.float64) for name in ("tau", "moneyness"))
    stale = np.where(last >= 0, np.arange(dates.size) - last, 0)
    return Panel(
        tau, moneyness, logs, seen, log_return, mean, sd,
        history_features(logs, log_return, Points.of(tau, moneyness)),
        (count >= _FEWEST) & (np.arange(dates.size) >= at[0] + FRAME_DAYS - 1) & (stale < FRAME_DAYS),
        stale.astype(np.float64),
    )  # fmt: skip


def _rolling(logs: FloatArray, seen: BoolArray) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """Mean and deviation of what was seen in the 60 days up to each, and how many days that is."""
    n = len(logs)
    mean, sd = np.zeros_like(logs), np.ones_like(logs)
    count = np.convolve(seen, np.ones(FRAME_DAYS, dtype=np.int64))[:n].astype(np.int64)
    for t in range(n):
        rows = slice(max(0, t + 1 - FRAME_DAYS), t + 1)
        part = logs[rows][seen[rows]]
        if len(part):
            mean[t] = part.mean(axis=0)
            sd[t] = np.sqrt(np.mean(np.square(part - mean[t]), axis=0))
    return mean, sd, count


def surfaces(
    log_vol: FloatArray,
    history: xr.Dataset,
    rows: npt.NDArray[np.intp],
    horizons: tuple[int, ...],
    days: npt.NDArray[np.datetime64] | None = None,
) -> xr.DataArray:
    """Vols of log vols (n, horizon, cells), with their coordinates."""
    dates = history["date"].values[rows] if days is None else days[rows].astype("datetime64[ns]")
    shape = (len(rows), len(horizons), history.sizes["tau"], history.sizes["moneyness"])
    return xr.DataArray(
        np.exp(log_vol).reshape(shape),
        dims=("date", "horizon", "tau", "moneyness"),
        coords={"date": dates, "horizon": list(horizons), "tau": history["tau"], "moneyness": history["moneyness"]},
        name="implied_vol",
        attrs={"long_name": "forecast of the implied volatility", "units": "1"},
    )


def own_arrays(history: xr.Dataset) -> tuple[FloatArray, FloatArray]:
    """Log surfaces (T, cells) and annualised returns (T,), the first of which counts as none."""
    vol = history["implied_vol"].transpose("date", "tau", "moneyness").values.astype(np.float64)
    annual = math.sqrt(float(history.attrs["periods_per_year"]))
    return np.log(vol).reshape(len(vol), -1), annual * np.r_[0.0, history["log_return"].values[1:].astype(np.float64)]

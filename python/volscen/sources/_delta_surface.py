"""Volatilities by maturity and delta, read as surfaces by moneyness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.interpolate import PchipInterpolator
from scipy.special import ndtri

from volscen._dates import to_day
from volscen.errors import InputError
from volscen.history import make_history
from volscen.surface._build import EXTRAPOLATED, INTERPOLATED, check_limits, read_grid

__all__ = ["prices_by_day", "surfaces_from_deltas"]

FloatArray = npt.NDArray[np.float64]

#: A grid time this close to the first or last maturity, relatively, counts as on it: 1/12 of a year is 30.4 days.
_EDGE = 1e-9


def surfaces_from_deltas(
    points: dict[str, npt.NDArray[Any]],
    *,
    tau: npt.ArrayLike,
    moneyness: npt.ArrayLike,
    spot: Mapping[Any, float] | None,
    max_extrapolation: float,
    calendar: str,
    reasons: Mapping[str, str],
    name: str,
    origin: str = "OptionMetrics IvyDB standardised surface",
) -> tuple[xr.Dataset, pd.Series[int]]:
    """Make a history of points; see :func:`volscen.sources.read_optionmetrics_surface`.

    Parameters
    ----------
    points : dict
        Arrays of one length: ``date`` (datetime64[D]), ``days``, ``delta`` (per cent or decimal), ``impl_volatility``,
        ``strike`` (NaN where unknown), ``is_put``.
    """
    tau, moneyness = read_grid(tau, "tau"), read_grid(moneyness, "moneyness")
    check_limits(max_extrapolation, 1.0)
    counts = dict.fromkeys(reasons, 0)
    table = _placed(points, counts)
    if not len(table):
        raise InputError(f"{name}: no usable point ({', '.join(f'{r} {n}' for r, n in counts.items() if n)})")
    prices = None if spot is None else prices_by_day(spot)
    k = np.log(moneyness)
    kept: list[tuple[np.datetime64, FloatArray, npt.NDArray[np.int64], FloatArray | None, float]] = []
    for day, of_day in table.groupby("date", sort=True):
        date = np.datetime64(day, "D")  # type: ignore[call-overload]
        found = [_slice(float(rows["days"].iloc[0]), rows, k) for _, rows in of_day.groupby("days", sort=True)]
        slices = [one for one in found if one is not None]
        if len(slices) < len(found):
            counts["too_few_points"] += 1
            continue
        surface = _on_grid(slices, tau, max_extrapolation)
        if surface is None:
            counts["out_of_reach"] += 1
            continue
        vol, quality, forward = surface
        price = slices[0][3] if prices is None else prices.get(date, np.nan)
        if not (np.isfinite(price) and price > 0):
            counts["no_price"] += 1
            continue
        kept.append((date, vol, quality, forward if np.isfinite(forward).all() else None, price))
    dropped = pd.Series(counts, name="rows", dtype="int64").rename_axis("reason")
    if not kept:
        raise InputError(
            f"{name}: not one day gives a surface ({', '.join(f'{r} {n}' for r, n in counts.items() if n)})"
        )
    forwards = [one[3] for one in kept]
    history = make_history(
        np.array([one[0] for one in kept]),
        tau,
        moneyness,
        np.stack([one[1] for one in kept]),
        spot=np.array([one[4] for one in kept]),
        forward=None if any(f is None for f in forwards) else np.stack([f for f in forwards if f is not None]),
        quality=np.stack([one[2] for one in kept]),
        title="Implied-volatility surfaces from standardised deltas",
        source=f"{name}: {origin}",
        calendar=calendar,
    )
    history.attrs["spot_source"] = "given" if prices is not None else "forward of the shortest maturity"
    return history, dropped


def prices_by_day(spot: Mapping[Any, float]) -> dict[np.datetime64, float]:
    """Prices by day; the keys in any form of a date."""
    return {to_day(day, "spot"): float(price) for day, price in dict(spot).items()}


def _placed(points: dict[str, npt.NDArray[Any]], counts: dict[str, int]) -> pd.DataFrame:
    """Sound points with their ln(K/F), calls and puts of one delta averaged."""
    delta = np.abs(points["delta"])
    if np.nanmax(delta, initial=0.0) > 1:
        delta = delta / 100
    call_delta = np.where(points["is_put"], 1 - delta, delta)
    vol, days = points["impl_volatility"], points["days"]
    sound = ~np.isnat(points["date"]) & (days > 0) & (vol > 0) & np.isfinite(vol) & (call_delta > 0) & (call_delta < 1)
    counts["missing_value"] = int(np.count_nonzero(~sound))
    table = pd.DataFrame(
        {
            "date": points["date"][sound].astype("datetime64[s]"),
            "days": days[sound],
            "delta": call_delta[sound].round(9),
            "vol": vol[sound],
            "strike": points["strike"][sound],
        }
    )
    table = table.groupby(["date", "days", "delta"], as_index=False).mean()
    sd = table["vol"] * np.sqrt(table["days"] / 365)
    table["k"] = sd**2 / 2 - ndtri(table["delta"].to_numpy()) * sd
    return table


_Slice = tuple[float, FloatArray, npt.NDArray[np.float64], float]


def _slice(days: float, rows: pd.DataFrame, k: FloatArray) -> _Slice | None:
    """Maturity, volatility at k, distance of k beyond the points in standard deviations, and the forward."""
    rows = rows.sort_values("k").drop_duplicates("k")
    if len(rows) < 3:
        return None
    place, vol = rows["k"].to_numpy(), rows["vol"].to_numpy()
    inside = np.clip(k, place[0], place[-1])
    at_money = float(np.interp(0.0, place, vol))
    beyond = np.abs(k - inside) / (at_money * np.sqrt(days / 365))
    forwards = (rows["strike"] / np.exp(rows["k"])).to_numpy()
    known = forwards[np.isfinite(forwards)]
    return days / 365, PchipInterpolator(place, vol)(inside), beyond, float(np.median(known)) if known.size else np.nan


def _on_grid(
    slices: list[_Slice], tau: FloatArray, max_extrapolation: float
) -> tuple[FloatArray, npt.NDArray[np.int64], FloatArray] | None:
    """Volatilities, quality and forwards at the grid times; None where these lie beyond the maturities."""
    times = np.array([one[0] for one in slices])
    if tau[0] < times[0] * (1 - _EDGE) or tau[-1] > times[-1] * (1 + _EDGE):
        return None
    variance = np.stack([one[1] ** 2 * one[0] for one in slices])
    after = np.clip(np.searchsorted(times, tau * (1 - _EDGE)), 1 if len(times) > 1 else 0, len(times) - 1)
    before = np.maximum(after - 1, 0)
    span = np.where(after > before, times[after] - times[before], 1.0)
    share = np.clip((tau - times[before]) / span, 0, 1)[:, None]
    total = (1 - share) * variance[before] + share * variance[after]
    distance = np.stack([one[2] for one in slices])
    beyond = np.maximum(np.where(share < 1, distance[before], 0), np.where(share > 0, distance[after], 0))
    if beyond.max() > max_extrapolation:
        return None
    log_forward = np.log([one[3] for one in slices])
    forward = np.exp((1 - share[:, 0]) * log_forward[before] + share[:, 0] * log_forward[after])
    quality = np.where(beyond > 0, EXTRAPOLATED, INTERPOLATED).astype(np.int64)
    return np.sqrt(total / tau[:, None]), quality, forward

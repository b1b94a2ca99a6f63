"""Implied volatilities by tenor and delta, a row per day and a column per point, as data terminals export them."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from volscen._tenors import to_years
from volscen.errors import HistoryWarning, InputError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["read_delta_surface"]

_TENOR = re.compile(r"\d+[DWMY](?:\d+[DWM])*")
_POINT = re.compile(r"(\d+(?:\.\d+)?)(?:D|DELTA)?([PC])|([PC])(\d+(?:\.\d+)?)D?|(ATM|DNS|DN)")

#: Quotes of differences, of which a surface has to be put together first.
_DIFFERENCES = re.compile(r"(?:RR|BF|FLY)\d+|\d+D?(?:RR|BF|FLY|R|B)")

#: Volatilities whose median is beyond this are in per cent.
_PER_CENT = 3.0
#: Those that were scaled to less were decimals before: half a point is what the quietest pegged currencies have.
_SCALED_TWICE = 0.005

#: Why points and days are not used.
_REASONS = {
    "missing_value": "a volatility is absent or not positive",
    "too_few_points": "days with a maturity of fewer than three points",
    "out_of_reach": "days whose points do not reach the grid",
    "no_price": "days without a price of the underlying",
}


def read_delta_surface(
    source: str | Path | pd.DataFrame,
    *,
    tau: npt.ArrayLike,
    moneyness: npt.ArrayLike,
    spot: str,
    date: str = "date",
    scale: float = 1.0,
    date_format: str | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    max_extrapolation: float = 1.0,
    calendar: str = "unspecified",
) -> tuple[xr.Dataset, pd.Series[int]]:
    """Read volatilities by tenor and delta, a row per day, as a history by moneyness.

    Parameters
    ----------
    source : path or data frame
        As for :func:`read_table`. Columns named by tenor and point in either order: ``1M 25DP``, ``25C_3M``,
        ``1Y ATM``; the delta of a put or call in per cent, ``ATM`` the delta-neutral one. Others are left out.
    tau : array_like, shape (J,)
        Times to expiry in years, or tenors, increasing, within the table's.
    moneyness : array_like, shape (I,)
        K/F, increasing.
    spot, date : str
        Columns of the price of the underlying and of the date.
    scale : float
        Factor of the volatilities: 0.01 where they are in per cent.
    date_format, separator, decimal : str, optional
        As for :func:`read_table`.
    max_extrapolation : float
        How far a grid strike may lie beyond a maturity's deltas, in standard deviations (at-the-money volatility times
        the root of tau); volatility is flat there and ``quality`` says so.
    calendar : str
        Recorded in the history.

    Returns
    -------
    history : xarray.Dataset
        Following ``volscen/history/1``; rates are unknown, so that forwards are the spot.
    dropped : pandas.Series
        Points and days not used, by reason.

    Raises
    ------
    InputError, FileFormatError
        If the table cannot be read, no column is named by tenor and delta, volatilities are in another unit, a date
        is there twice, or not one day gives a surface.

    Notes
    -----
    Deltas are forward deltas without premium: a call's is N(d1), a put's N(d1) - 1. A point of call delta d lies at
    ln(K/F) = sigma^2 tau / 2 - N^-1(d) sigma sqrt(tau), the delta-neutral one at d = 1/2. Spot deltas differ by the
    discount factor of the dividend yield. Between points volatility is a monotone cubic in ln(K/F), between
    maturities total variance is linear in tau.

    Examples
    --------
    >>> import pandas as pd
    >>> from volscen.sources import read_delta_surface
    >>> table = pd.DataFrame({"Date": ["2024-01-02", "2024-01-03"], "PX_LAST": [4700.0, 4650.0]}).assign(
    ...     **{f"{tenor} {point}": 20.0 for tenor in ("1M", "3M") for point in ("25DP", "ATM", "25DC")})
    >>> history, dropped = read_delta_surface(
    ...     table, tau=["1M", "2M"], moneyness=[0.97, 1.0, 1.03], spot="PX_LAST", date="Date", scale=0.01)
    >>> history.implied_vol.values.round(6).tolist()[0]
    [[0.2, 0.2, 0.2], [0.2, 0.2, 0.2]]
    """
    from volscen._numbers import positive_number
    from volscen._quote_dates import read_days
    from volscen.sources._delta_surface import surfaces_from_deltas
    from volscen.sources.table import load_frame, read_dates

    frame, name = load_frame(source, separator=separator, decimal=decimal)
    factor = positive_number("scale", scale)
    for argument, column in (("spot", spot), ("date", date)):
        if column not in frame:
            held = ", ".join(map(str, frame.columns[:8])) + (", ..." if frame.shape[1] > 8 else "")
            raise InputError(f"{name}: {argument}={column!r} is no column of the table, which has {held}")
    if (twice := frame.columns[frame.columns.duplicated()]).size:
        raise InputError(f"{name}: column {twice[0]!r} is there twice; drop one")
    points = _points(frame, name)
    try:
        days = read_days(read_dates(frame[[date]].set_axis(["date"], axis=1), date_format, None)["date"], "date")
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    held_days, times = np.unique(days[~np.isnat(days)], return_counts=True)
    if np.any(times > 1):
        raise InputError(f"{name}: {held_days[times > 1][0]} is there twice; keep one row a day")
    vols = np.stack([_numbers(frame[column]) for column in points], axis=1) * factor
    middle = float(np.nanmedian(vols)) if np.isfinite(vols).any() else np.nan
    if middle > _PER_CENT:
        raise InputError(f"{name}: volatilities are {middle:g} in the middle; if they are in per cent, give scale=0.01")
    if factor < 1 and 0 < middle < _SCALED_TWICE:
        raise InputError(
            f"{name}: volatilities are {middle:g} in the middle, once scaled; if they are decimals, leave scale out"
        )
    price, known = _numbers(frame[spot]), ~np.isnat(days)
    history, dropped = surfaces_from_deltas(
        {
            "date": np.repeat(days, len(points)),
            "days": np.tile([365 * years for years, _ in points.values()], len(days)),
            "delta": np.tile([delta for _, delta in points.values()], len(days)),
            "impl_volatility": vols.ravel(),
            "strike": np.full(vols.size, np.nan),
            "is_put": np.zeros(vols.size, dtype=bool),
        },
        tau=tau,
        moneyness=moneyness,
        spot=dict(zip(days[known].tolist(), price[known].tolist(), strict=True)),
        max_extrapolation=max_extrapolation,
        calendar=calendar,
        reasons=_REASONS,
        name=name,
        origin="implied volatilities by tenor and delta",
    )
    if 2 * history.sizes["date"] < held_days.size:
        lost = ", ".join(f"{reason} {count}" for reason, count in dropped[dropped > 0].items())
        warnings.warn(
            f"{name}: {history.sizes['date']} of {held_days.size} days are kept ({lost}); where the grid is out of "
            "reach of the deltas, take moneyness nearer to 1 or, for flat wings, a larger max_extrapolation",
            HistoryWarning,
            stacklevel=2,
        )
    return history, dropped


def _points(frame: pd.DataFrame, name: str) -> dict[Any, tuple[float, float]]:
    """Years and call delta of the columns that are named by them."""
    points = {column: point for column in frame.columns if (point := _point(str(column))) is not None}
    if not points:
        odd = next((c for c in frame.columns if any(map(_DIFFERENCES.fullmatch, _words(str(c))))), None)
        raise InputError(
            f"{name}: no column is named by tenor and delta, such as '1M 25DP' or '3M ATM'"
            + (f"; {odd!r} seems to be a difference of volatilities: form those of puts and calls" if odd else "")
        )
    seen: dict[tuple[float, float], Any] = {}
    for column, point in points.items():
        if point in seen:
            raise InputError(f"{name}: columns {seen[point]!r} and {column!r} are the same tenor and delta; drop one")
        seen[point] = column
    return points


def _words(column: str) -> list[str]:
    return [word for word in re.split(r"[\s_/-]+", column.upper()) if word]


def _point(column: str) -> tuple[float, float] | None:
    """Years and call delta that a column's name says; None where it says no point."""
    words = _words(column)
    if len(words) == 1 and (both := re.fullmatch(r"(\d+[DWMY])(.+)", words[0])) is not None:
        words = [both[1], both[2]]
    tenors = [word for word in words if _TENOR.fullmatch(word)]
    found = [one for word in words if (one := _POINT.fullmatch(word)) is not None]
    if len(tenors) != 1 or len(found) != 1:
        return None
    digits, wing, wing_before, digits_after, middle = found[0].groups()
    if middle:
        return float(to_years("tenor", tenors[0])), 0.5
    delta = float(digits or digits_after) / 100
    if not 0 < delta < 1:
        return None
    return float(to_years("tenor", tenors[0])), round(delta if (wing or wing_before) == "C" else 1 - delta, 9)


def _numbers(column: pd.Series[Any]) -> npt.NDArray[np.float64]:
    import pandas as pd

    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)

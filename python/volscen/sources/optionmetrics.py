"""OptionMetrics IvyDB: the file of option prices, and the file of standardised volatility surfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    import pandas as pd
    import xarray as xr

__all__ = ["read_optionmetrics", "read_optionmetrics_surface"]

#: What IvyDB writes where it has no number.
_MISSING = -99.99

#: Strikes are stored times this.
_STRIKE_SCALE = 1000.0

OPTION_REASONS: dict[str, str] = {
    "error_record": "IvyDB marks the record as erroneous (ss_flag E)",
    "weekend_expiry": "it expires on a weekend, when no option does",
}

SURFACE_REASONS: dict[str, str] = {
    "missing_value": "days, delta or impl_volatility is absent or out of range",
    "too_few_points": "a maturity of the day has fewer than three points",
    "out_of_reach": "the grid lies outside the day's maturities or too far beyond its deltas",
    "no_price": "the price of the underlying on the day is not given, or its forward is unknown",
}

_CARRIED = ("open_interest", "impl_volatility", "delta", "gamma", "vega", "theta", "optionid", "secid", "cfadj")


def read_optionmetrics(
    source: str | Path | pd.DataFrame,
    *,
    underlying: str | int | None = None,
    spot: Mapping[Any, float] | None = None,
    keep: Collection[str] = (),
) -> tuple[pd.DataFrame, pd.Series[int]]:
    """Read option prices of OptionMetrics IvyDB.

    Parameters
    ----------
    source : path or data frame
        CSV or Parquet file, or pandas or polars frame, with the columns ``date``, ``exdate``, ``cp_flag``,
        ``strike_price`` (times 1,000), ``best_bid``, ``best_offer``; understood where present: ``secid``, ``ticker``,
        ``am_settlement``, ``ss_flag``, ``exercise_style``, ``volume``, ``open_interest``, ``impl_volatility``,
        ``delta``. Upper or lower case.
    underlying : str or int, optional
        Keep one ticker or, for a number, one secid.
    spot : mapping of date to float, optional
        Closing price of the underlying by day, such as a pandas Series.
    keep : sequence of str
        Filters of :func:`volscen.quotes.check_quotes` to switch off, of "zero_bid" and "crossed".

    Returns
    -------
    quotes : pandas.DataFrame
        See :func:`volscen.quotes.check_quotes`; ``adjusted`` from ``ss_flag``, ``exercise`` from
        ``exercise_style``, ``quote_time`` and ``expiry_time`` where ``am_settlement`` says which it is.
    dropped : pandas.Series
        Rows not used, by reason; ``len(quotes) + dropped.sum()`` is the number of rows of that underlying.

    Raises
    ------
    InputError
        If a column is missing, the underlying is unknown, or not one row is usable.
    FileFormatError
        If the file is missing or unreadable.

    Notes
    -----
    Quotes are as of the close. Expiry dates that fall on a Saturday, as they did until February 2015, become the
    Friday before. -99.99 is no number. Without ``am_settlement``, times to expiry are whole days.

    Examples
    --------
    >>> import pandas as pd
    >>> from volscen.sources import read_optionmetrics
    >>> rows = pd.DataFrame({
    ...     "secid": 108105, "date": 20200102, "exdate": 20200221, "cp_flag": ["C", "P"], "strike_price": 3250000,
    ...     "best_bid": [60.0, 52.0], "best_offer": [61.0, 52.5], "am_settlement": 1})
    >>> quotes, dropped = read_optionmetrics(rows)
    >>> quotes[["strike", "option_type", "price"]].values.tolist()
    [[3250.0, 'C', 60.5], [3250.0, 'P', 52.25]]
    >>> str(quotes["expiry_time"][0])  # settled at the opening
    '2020-02-21 14:30:00'
    """
    import pandas as pd

    from volscen.sources._delta_surface import prices_by_day
    from volscen.sources._finish import finish
    from volscen.sources._opra import closing_instants, last_trading_days, settlement_instants

    table, name = _load(source)
    _need(
        table,
        ("date", "exdate", "cp_flag", "strike_price", "best_bid", "best_offer"),
        name,
        "a file of option prices (opprcd)",
    )
    table = _one_underlying(table, underlying, name)
    counts = dict.fromkeys(OPTION_REASONS, 0)
    if "ss_flag" in table:
        wrong = table["ss_flag"].astype(str).str.strip().str.upper() == "E"
        counts["error_record"] = int(wrong.sum())
        table = table[~wrong]
    days, expiries = (_days(table[column], column, name) for column in ("date", "exdate"))
    known = ~(np.isnat(days) | np.isnat(expiries))
    traded, real = last_trading_days(np.where(known, expiries, np.datetime64("2020-01-06")), days)
    real |= ~known  # the tidy check counts those
    counts["weekend_expiry"] = int(np.count_nonzero(~real))
    table, days, known = table[real], days[real], known[real]
    expiries, traded = expiries[real], traded[real]
    out: dict[str, Any] = {
        "date": days.astype("datetime64[s]"),
        "expiry": np.where(known, traded, expiries).astype("datetime64[s]"),
        "option_type": table["cp_flag"].to_numpy(),
        "strike": _numbers(table["strike_price"]) / _STRIKE_SCALE,
        "bid": _numbers(table["best_bid"]),
        "ask": _numbers(table["best_offer"]),
    }
    for column in ("ticker", "secid"):
        if column in table:
            out["underlying"] = table[column].astype(str).to_numpy()
            break
    if "am_settlement" in table:
        at_open = _numbers(table["am_settlement"])
        if not np.isin(at_open, (0.0, 1.0)).all():
            raise InputError(f"{name}: column am_settlement must hold 0 or 1 in every row")
        day = np.where(known, days, np.datetime64("2020-01-06"))
        out["quote_time"] = np.where(known, closing_instants(day), np.datetime64("NaT", "D"))
        out["expiry_time"] = np.where(known, settlement_instants(traded, at_open == 1), np.datetime64("NaT", "D"))
    if "ss_flag" in table:
        out["adjusted"] = (table["ss_flag"].astype(str).str.strip().str.rstrip(".0") != "").to_numpy()
    if "exercise_style" in table:
        out["exercise"] = table["exercise_style"].to_numpy()
    if spot is not None:
        prices = prices_by_day(spot)
        out["spot"] = [prices.get(day, np.nan) for day in days]
    for column in ("volume", *_CARRIED):
        if column in table and column not in out:
            out[column] = _numbers(table[column])
    return finish(pd.DataFrame(out), counts, name, keep)


def read_optionmetrics_surface(
    source: str | Path | pd.DataFrame,
    *,
    tau: npt.ArrayLike,
    moneyness: npt.ArrayLike,
    underlying: str | int | None = None,
    spot: Mapping[Any, float] | None = None,
    max_extrapolation: float = 1.0,
    calendar: str = "XNYS",
) -> tuple[xr.Dataset, pd.Series[int]]:
    """Read standardised surfaces of OptionMetrics IvyDB as a history.

    Parameters
    ----------
    source : path or data frame
        As for :func:`read_optionmetrics`, with the columns ``date``, ``days``, ``delta``, ``impl_volatility``,
        ``cp_flag``; ``impl_strike`` gives the forwards.
    tau : array_like, shape (J,)
        Times to expiry in years, increasing, within the file's maturities.
    moneyness : array_like, shape (I,)
        K/F, increasing.
    underlying : str or int, optional
        Keep one ticker or secid.
    spot : mapping of date to float, optional
        Price of the underlying by day; when omitted, the forward of the shortest maturity, which needs
        ``impl_strike``.
    max_extrapolation : float
        How far a grid strike may lie beyond a maturity's deltas, in standard deviations (at-the-money volatility times
        the root of tau); volatility is flat there and ``quality`` says so.
    calendar : str
        Recorded in the history.

    Returns
    -------
    history : xarray.Dataset
        Following ``volscen/history/1``.
    dropped : pandas.Series
        Points and days not used, by reason.

    Raises
    ------
    InputError, FileFormatError
        As for :func:`read_optionmetrics`, and where there is neither ``spot`` nor ``impl_strike``.

    Notes
    -----
    A point of delta d (of a call; a put's plus one) lies at ln(K/F) = sigma^2 tau / 2 - N^-1(d) sigma sqrt(tau).
    IvyDB's delta has the dividend yield in it, which is left out here: at 2% a year and one year, an at-the-money point
    moves by 5% of a standard deviation. The forward of a maturity is the median of ``impl_strike`` over K/F. Between
    deltas volatility is a monotone cubic in ln(K/F), calls and puts of one place averaged; between maturities total
    variance is linear in tau.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from volscen.sources import read_optionmetrics_surface
    >>> points = pd.MultiIndex.from_product(
    ...     [[20200102, 20200103], [30, 91], [20, 35, 50, 65, 80]], names=["date", "days", "delta"])
    >>> surface = points.to_frame(index=False).assign(impl_volatility=0.2, cp_flag="C")
    >>> history, dropped = read_optionmetrics_surface(
    ...     surface, tau=[0.1, 0.2], moneyness=[0.97, 1.0, 1.03], spot={20200102: 100.0, 20200103: 101.0})
    >>> history.implied_vol.values.round(6).tolist()[0]
    [[0.2, 0.2, 0.2], [0.2, 0.2, 0.2]]
    """
    from volscen.sources._delta_surface import surfaces_from_deltas

    table, name = _load(source)
    _need(
        table,
        ("date", "days", "delta", "impl_volatility", "cp_flag"),
        name,
        "a file of standardised surfaces (vsurfd)",
    )
    table = _one_underlying(table, underlying, name)
    if spot is None and "impl_strike" not in table:
        raise InputError(f"{name}: has no impl_strike, so forwards are unknown; give the prices with spot=")
    points = {
        "date": _days(table["date"], "date", name),
        **{column: _numbers(table[column]) for column in ("days", "delta", "impl_volatility")},
        "strike": _numbers(table["impl_strike"]) if "impl_strike" in table else np.full(len(table), np.nan),
        "is_put": table["cp_flag"].astype(str).str.strip().str.upper().str[0].to_numpy() == "P",
    }
    return surfaces_from_deltas(
        points,
        tau=tau,
        moneyness=moneyness,
        spot=spot,
        max_extrapolation=max_extrapolation,
        calendar=calendar,
        reasons=SURFACE_REASONS,
        name=name,
    )


def _load(source: Any) -> tuple[pd.DataFrame, str]:
    from volscen.sources.table import load_frame

    frame, name = load_frame(source)
    return frame.rename(columns={column: str(column).lower() for column in frame.columns}), name


def _need(table: pd.DataFrame, columns: tuple[str, ...], name: str, what: str) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        held = ", ".join(map(str, table.columns)) or "none"
        raise InputError(f"{name}: {what} has the column {', '.join(missing)}, which this one lacks; it has {held}")
    if not len(table):
        raise InputError(f"{name}: holds no row")


def _one_underlying(table: pd.DataFrame, underlying: str | int | None, name: str) -> pd.DataFrame:
    if underlying is not None:
        column = "ticker" if isinstance(underlying, str) else "secid"
        if column not in table:
            raise InputError(f"{name}: has no column {column} to find {underlying!r} in")
        mine = table[column].astype(str).str.strip() == str(underlying)
        if not mine.any():
            raise InputError(f"{name}: no row of {column} {underlying!r}")
        table = table[mine]
    return table.reset_index(drop=True)


def _days(column: pd.Series[Any], name: str, file: str) -> npt.NDArray[np.datetime64]:
    from volscen._quote_dates import read_days

    try:
        return read_days(column, name)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def _numbers(column: pd.Series[Any]) -> npt.NDArray[np.float64]:
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isclose(values, _MISSING, rtol=0, atol=1e-9), np.nan, values)

"""The history of surfaces and returns, and what is known of it at one date.

Row ``t`` is known at the close of ``date[t]``. :func:`state_at` is the only place where generators meet the
calendar: it hands out rows up to and including ``as_of`` and nothing later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._dates import to_day, to_days
from volscen._tenors import to_years
from volscen.errors import InputError

__all__ = ["State", "make_history", "realised_vol", "state_at"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class State:
    """What is known at the close of one date.

    Attributes
    ----------
    as_of : numpy.datetime64
        The date, the last one known.
    log_return : ndarray, shape (R,)
        The last R one-day log returns, oldest first; the last entry is the return into ``as_of``.
    log_iv : ndarray, shape (S, tau, moneyness)
        Natural logarithm of the last S surfaces, oldest first; the last entry is the surface of ``as_of``.
    spot : float
        Price of the underlying at ``as_of``.
    forward, discount_factor : ndarray, shape (tau,)
        Of ``as_of``; spot and 1 where the history has none.
    """

    as_of: np.datetime64
    log_return: FloatArray
    log_iv: FloatArray
    spot: float
    forward: FloatArray
    discount_factor: FloatArray


def make_history(
    date: npt.ArrayLike,
    tau: npt.ArrayLike,
    moneyness: npt.ArrayLike,
    implied_vol: npt.ArrayLike,
    *,
    spot: npt.ArrayLike,
    forward: npt.ArrayLike | None = None,
    discount_factor: npt.ArrayLike | None = None,
    quality: npt.ArrayLike | None = None,
    title: str = "History of implied-volatility surfaces",
    source: str = "user arrays",
    calendar: str = "unspecified",
    periods_per_year: float = 252,
) -> xr.Dataset:
    """Assemble and validate a history dataset from arrays.

    Parameters
    ----------
    date : array_like of datetime64 or str, shape (T,)
        Strictly increasing.
    tau : array_like, shape (J,)
        Times to expiry in years, or tenors such as "3M"; strictly increasing.
    moneyness : array_like, shape (I,)
        K/F, strictly increasing; for volatilities by delta there is :func:`volscen.sources.read_delta_surface`.
    implied_vol : array_like, shape (T, J, I)
        Positive, finite.
    spot : array_like, shape (T,)
        Price of the underlying; log returns are taken between neighbouring dates.
    forward, discount_factor : array_like, shape (T, J), optional
        Where known.
    quality : array_like of int, shape (T, J, I), optional
        0 observed, 1 interpolated, 2 extrapolated.
    title, source, calendar : str
        Recorded as attributes; ``calendar`` is the exchange calendar's code.
    periods_per_year : float
        Number of dates a year, for annualising.

    Returns
    -------
    xarray.Dataset
        Following the schema ``volscen/history/1``.

    Raises
    ------
    FileFormatError
        If the assembled dataset breaks the schema; every problem is listed.

    Examples
    --------
    >>> import numpy as np, volscen
    >>> h = volscen.make_history(
    ...     np.array(["2024-01-02", "2024-01-03"], "datetime64[D]"), [0.25, 0.5], [0.9, 1.0, 1.1],
    ...     np.full((2, 2, 3), 0.2), spot=[100.0, 101.0])
    >>> round(float(h.log_return[1]), 6)
    0.00995
    """
    spot = np.asarray(spot, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):  # bad prices are named by validate() below
        log_return = np.r_[np.nan, np.log(spot[1:] / spot[:-1])]
    variables = {
        "implied_vol": (("date", "tau", "moneyness"), np.asarray(implied_vol, dtype=np.float64)),
        "spot": (("date",), spot),
        "log_return": (("date",), log_return),
    }
    for name, values, dims in (
        ("forward", forward, ("date", "tau")),
        ("discount_factor", discount_factor, ("date", "tau")),
    ):
        if values is not None:
            variables[name] = (dims, np.asarray(values, dtype=np.float64))
    if quality is not None:
        variables["quality"] = (("date", "tau", "moneyness"), np.asarray(quality, dtype=np.int8))
    try:
        ds = xr.Dataset(
            variables,
            coords={
                "date": to_days(date, "date"),
                "tau": np.asarray(to_years("tau", tau), dtype=np.float64),
                "moneyness": np.asarray(moneyness, dtype=np.float64),
            },
            attrs=schema.base_attributes(
                schema.HISTORY,
                title=title,
                source=source,
                calendar=calendar,
                periods_per_year=periods_per_year,
            ),
        )
    except ValueError as error:
        raise InputError(f"date, tau, moneyness, implied_vol and spot do not fit together: {error}") from None
    return schema.validate(schema.arrange(ds))


def realised_vol(history: xr.Dataset, *, window: int = 21) -> xr.DataArray:
    """Realised volatility of the log returns up to and including each date.

    Parameters
    ----------
    history : xarray.Dataset
        Following ``volscen/history/1``, of one or several assets.
    window : int
        Number of returns, at least 1.

    Returns
    -------
    xarray.DataArray
        ``sqrt(periods_per_year / window * sum of squared log returns)``, as a decimal; NaN where fewer returns are
        known. No mean is taken off: over a month it is noise.

    Raises
    ------
    InputError
        If ``window`` is no whole number, or the history has fewer returns.

    Notes
    -----
    Vuletic and Cont (2024), section 3: gamma with 252 and 21.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> vol = volscen.realised_vol(history)
    >>> int(vol.isnull().sum()), bool(((vol > 0.05) & (vol < 1)).sum() > 100)
    (21, True)
    """
    schema.validate(history)
    n_returns = history.sizes["date"] - 1
    if isinstance(window, bool) or not isinstance(window, int | np.integer) or not 1 <= window <= n_returns:
        raise InputError(f"window must be a whole number from 1 to the {n_returns} returns held, not {window!r}")
    squared = history["log_return"].values[..., 1:] ** 2
    sums = np.lib.stride_tricks.sliding_window_view(squared, int(window), axis=-1).sum(axis=-1)
    out = history["log_return"].copy(data=np.full(history["log_return"].shape, np.nan))
    out.values[..., window:] = np.sqrt(float(history.attrs["periods_per_year"]) / window * sums)
    out.attrs = {"long_name": f"realised volatility of {window} log returns, annualised", "units": "1"}
    return out.rename("realised_vol")


def check_daily(history: xr.Dataset, what: str) -> None:
    """Refuse a history with several rows on one day; ``what`` is what needs one a day."""
    days = history["date"].values.astype("datetime64[D]")
    if np.any(days[1:] == days[:-1]):
        day, hour = days[1:][days[1:] == days[:-1]][0], int(history["date"].dt.hour.values[-1])
        raise InputError(
            f"{what} takes one row a day, and the history holds several on {day}; keep one, "
            f"such as volscen.select_dates(history, history.date.dt.hour == {hour}).assign_attrs(periods_per_year=252)"
        )


def position(history: xr.Dataset, as_of: Any, name: str = "as_of") -> int:
    """Row of ``as_of`` in the history (the last of that day); an error names the nearest date when it is absent."""
    dates = history["date"].values.astype("datetime64[D]")
    wanted = to_day(as_of, name)
    row = int(np.searchsorted(dates, wanted, side="right")) - 1
    if row >= 0 and dates[row] == wanted:
        return row
    nearest = dates[np.argmin(np.abs(dates - wanted))]
    raise InputError(
        f"{name} {wanted} is not in the history ({dates[0]} to {dates[-1]}); the nearest date it holds is {nearest}"
    )


def state_at(history: xr.Dataset, as_of: Any, *, n_returns: int = 1, n_surfaces: int = 1) -> State:
    """Collect what is known at the close of ``as_of``.

    Parameters
    ----------
    history : xarray.Dataset
        Following ``volscen/history/1``.
    as_of : datetime64, str or datetime.date
        A date of the history.
    n_returns, n_surfaces : int
        How many of the last returns and surfaces to collect.

    Raises
    ------
    InputError
        If ``as_of`` is not a date of the history, or too few dates precede it.
    """
    row = position(history, as_of)
    needed = max(n_returns, n_surfaces - 1)
    today = history["date"].values[row].astype("datetime64[D]")
    if row < needed:
        raise InputError(
            f"the history holds {row} dates before as_of {today}, the generator needs {needed}; choose a later "
            "as_of or a longer history"
        )
    last = history.isel(date=row)
    spot = float(last["spot"])
    n_tau = history.sizes["tau"]
    return State(
        as_of=today,
        log_return=history["log_return"].values[row + 1 - n_returns : row + 1].astype(np.float64),
        log_iv=np.log(history["implied_vol"].values[row + 1 - n_surfaces : row + 1].astype(np.float64)),
        spot=spot,
        forward=last["forward"].values if "forward" in history else np.full(n_tau, spot),
        discount_factor=last["discount_factor"].values if "discount_factor" in history else np.ones(n_tau),
    )

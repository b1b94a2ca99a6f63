"""Series from outside a history (macro figures, scores of news, regimes) as known on each of its dates."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from volscen import schema
from volscen._numbers import whole_number
from volscen.errors import InputError

__all__ = ["VARIABLE", "Scaling", "add_exogenous", "check_columns", "exogenous_values", "known_on"]

FloatArray = npt.NDArray[np.float64]

#: Variable of a history, over date and column, that forecasters read.
VARIABLE = "exogenous"
#: Standardised values beyond this are held: nothing is known of what lies further out than the days fitted on.
_REACH = 5.0
#: A series may end this many times its longest gap before the history does.
_STALE = 2


def add_exogenous(
    history: xr.Dataset, exogenous: pd.DataFrame | pd.Series | xr.Dataset | xr.DataArray, *, lag: int = 1
) -> xr.Dataset:
    """Add series from outside to a history, on each date the last values that were known.

    Parameters
    ----------
    history : xarray.Dataset
        Following ``volscen/history/1``, of one asset.
    exogenous : DataFrame, Series, Dataset or DataArray
        Numbers by date: an index of dates, or the dimension ``date``, both increasing; columns or variables. The dates
        are those of publication, not the month or quarter that a figure is of; figures that are revised later must be
        as first published. Dates may be rarer than the history's, such as a month's.
    lag : int
        Rows of the history between a value's date and the first close that knows it. 1 for what comes after the close,
        or at a time unknown; 0 only for what is certainly known at the close of its date.

    Returns
    -------
    xarray.Dataset
        The history with ``exogenous(date, column)``, which the forecasters ``har``, ``var``, ``lstm`` and ``ae_lstm``
        take as further inputs.

    Raises
    ------
    InputError
        If a column holds NaN or infinite values or no numbers, dates do not increase, no value is known on the first
        dates of the history, or the series end long before it does.

    Examples
    --------
    >>> import pandas as pd, volscen
    >>> from volscen.evaluation import forecast
    >>> history = volscen.datasets.sample_history()
    >>> months = pd.date_range("2017-12-31", "2024-09-30", freq="ME")
    >>> rate = pd.DataFrame({"rate": range(len(months))}, index=months)
    >>> forecast.add_exogenous(history, rate).exogenous.dims
    ('date', 'column')
    """
    schema.validate(history, schema=schema.HISTORY)
    if "asset" in history.dims:
        raise InputError("history holds several assets; choose one with history.sel(asset=...)")
    if VARIABLE in history:
        raise InputError("history holds exogenous series already; give all columns at once")
    known = known_on(history["date"].values, exogenous, lag)
    return history.assign(
        {
            VARIABLE: (
                ("date", "column"),
                known.to_numpy(),
                {"long_name": "series from outside, as known on the date", "units": "1", "lag": int(lag)},
            )
        }
    ).assign_coords(column=list(known.columns))


def known_on(dates: npt.NDArray[np.datetime64], exogenous: Any, lag: int) -> pd.DataFrame:
    """The last values known at each of a history's dates; see :func:`add_exogenous`."""
    back = whole_number("lag", lag, least=0)
    table = _table(exogenous)
    stamped = table.index.to_numpy().astype("datetime64[ns]")
    days = dates.astype("datetime64[ns]")
    # The first rows have no rows before them: weekdays stand in for these.
    before = np.busday_offset(days[0].astype("datetime64[D]"), np.arange(-back, 0), roll="backward")
    cutoff = np.concatenate([before.astype("datetime64[ns]"), days])[: days.size]
    known = np.searchsorted(stamped, cutoff, side="right") - 1
    if known[0] < 0:
        rows = np.flatnonzero(known >= 0)
        remedy = f"; begin it earlier, or the history later: from {days[rows[0]]:.10} on" if rows.size else ""
        raise InputError(f"exogenous holds no value that was known on {days[0]:.10}{remedy}")
    longest = np.diff(stamped).max() if stamped.size > 1 else np.timedelta64(0, "D")
    bound = max(_STALE * longest, np.timedelta64(7, "D"))
    if days[-1] - stamped[-1] > bound:
        raise InputError(
            f"exogenous ends on {stamped[-1]:.10}, long before the history ({days[-1]:.10}); extend it, or end the "
            "history earlier"
        )
    return pd.DataFrame(
        table.to_numpy(dtype=np.float64)[known], index=days, columns=[str(name) for name in table.columns]
    )


def exogenous_values(history: xr.Dataset) -> FloatArray:
    """The series of a history, (dates, columns); without columns where it holds none."""
    if VARIABLE not in history:
        return np.empty((history.sizes["date"], 0))
    return np.asarray(history[VARIABLE].transpose("date", "column").values, dtype=np.float64)


class Scaling:
    """Means and deviations of the days fitted on; what is further out is held."""

    def __init__(self, values: FloatArray) -> None:
        self.mean = values.mean(axis=0)
        sd = values.std(axis=0)
        # A column that never moved while fitted on says nothing when it moves later.
        still = sd <= 1e-12 * np.maximum(np.abs(self.mean), 1)
        self.sd = np.where(still, np.inf, sd)

    def __call__(self, values: FloatArray) -> FloatArray:
        """Standardised values."""
        if values.shape[1] != self.mean.size:
            raise InputError(
                f"history holds {values.shape[1]} exogenous columns; the forecaster was fitted with {self.mean.size}"
            )
        return np.asarray(np.clip((values - self.mean) / self.sd, -_REACH, _REACH))


def check_columns(name: str, n_columns: int, n: int) -> None:
    """Refuse more columns than the days can bear."""
    if 10 * n_columns > n:
        raise InputError(
            f"exogenous: {n_columns} columns are too many for the {n} days that forecaster {name!r} is fitted on; "
            f"keep at most {n // 10}"
        )


def _table(exogenous: Any) -> pd.DataFrame:
    if isinstance(exogenous, xr.DataArray):
        exogenous = exogenous.to_dataset(name=exogenous.name or "exogenous") if exogenous.ndim == 1 else exogenous
    if isinstance(exogenous, xr.DataArray):
        if exogenous.ndim != 2 or "date" not in exogenous.dims:
            raise InputError(f"exogenous must have the dimension date and at most one other, not {exogenous.dims}")
        other = next(dim for dim in exogenous.dims if dim != "date")
        labels = exogenous[other].values if other in exogenous.coords else range(exogenous.sizes[other])
        exogenous = pd.DataFrame(
            exogenous.transpose("date", other).values, index=exogenous.get_index("date"), columns=list(labels)
        )
    if isinstance(exogenous, xr.Dataset):
        odd = [str(name) for name, one in exogenous.data_vars.items() if one.dims != ("date",)]
        if odd or "date" not in exogenous.coords:
            raise InputError(f"exogenous must hold variables over date alone; {', '.join(odd) or 'date'} differs")
        index = exogenous.get_index("date")
        exogenous = pd.DataFrame({str(name): one.values for name, one in exogenous.data_vars.items()}, index=index)
    if isinstance(exogenous, pd.Series):
        exogenous = exogenous.to_frame(str(exogenous.name or "exogenous"))
    if not isinstance(exogenous, pd.DataFrame):
        raise InputError(f"exogenous must be a DataFrame, a Series, a Dataset or a DataArray, not {exogenous!r}")
    table = exogenous
    if not isinstance(table.index, pd.DatetimeIndex):
        raise InputError(
            "exogenous must be indexed by date; set it with table.set_index('date') and pandas.to_datetime"
        )
    if table.index.tz is not None:
        raise InputError("exogenous has a time zone; take it off with table.tz_localize(None)")
    if not len(table) or not len(table.columns):
        raise InputError("exogenous holds no values")
    if table.columns.has_duplicates:
        raise InputError("exogenous holds a column twice; rename one")
    if table.index.hasnans or not (table.index.is_monotonic_increasing and table.index.is_unique):
        raise InputError("exogenous must have strictly increasing dates; sort it and drop duplicates")
    for name in table.columns:
        try:
            values = table[name].to_numpy(dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(f"exogenous: column {name!r} holds what is not a number") from None
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise InputError(
                f"exogenous: column {name!r} holds {bad.size} values that are NaN or infinite, the first on "
                f"{table.index[bad[0]]:%Y-%m-%d}; drop or fill them (columns published on different dates can be "
                "forward-filled before they are joined)"
            )
    return table

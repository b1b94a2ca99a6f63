"""Histories on fewer dates, and several underlyings on the dates that they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._dates import to_days
from volscen.errors import FileFormatError, InputError

__all__ = ["align_histories", "select_dates"]

#: Attributes of one build, which several histories together do not have.
_OF_ONE_BUILD = ("build_settings", "last_day", "days_dropped", "dropped_days", "fit_rmse_vol_points")


def select_dates(history: xr.Dataset, dates: npt.ArrayLike) -> xr.Dataset:
    """Keep some dates of a history, with the log returns between them.

    Parameters
    ----------
    history : xarray.Dataset
        Following ``volscen/history/1``, of one or several assets.
    dates : array_like of datetime64, str or bool
        Dates of the history (with their times of day, where it has such), in order; or a mask over its dates.

    Returns
    -------
    xarray.Dataset
        ``log_return`` is the sum of the returns since the previous date kept, NaN on the first, and ``jump_flag``
        the largest since then. ``periods_per_year`` stays: set it where the dates are rarer than before, as
        ``select_dates(...).assign_attrs(periods_per_year=52)``.

    Raises
    ------
    InputError
        If no date is left, or one is not in the history.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> weekly = volscen.select_dates(history, history.date[::5]).assign_attrs(periods_per_year=52)
    >>> bool(abs(weekly.log_return[1] - history.log_return[1:6].sum()) < 1e-15)
    True
    """
    schema.validate(history)
    held = history["date"].values.astype("datetime64[ns]")
    mask = np.asarray(dates)
    if mask.dtype == bool:
        if mask.shape != held.shape:
            raise InputError(f"dates, as a mask, must have shape {held.shape}, not {mask.shape}")
        rows = np.flatnonzero(mask)
    else:
        wanted = to_days(np.asarray(dates), "dates")
        if np.any(wanted[1:] <= wanted[:-1]):
            raise InputError("dates must be strictly increasing; sort them and drop duplicates")
        rows = np.minimum(np.searchsorted(held, wanted), held.size - 1)
        if np.any(held[rows] != wanted):
            raise InputError(f"the history does not hold {wanted[held[rows] != wanted][0]}; leave that date out")
    if not rows.size:
        raise InputError("dates keeps no date of the history")
    out = history.isel(date=rows)
    axis = history["log_return"].get_axis_num("date")
    since = rows[:-1] + 1
    for name, gather in (("log_return", np.add), ("jump_flag", np.maximum)):
        if name not in history:
            continue
        # Copies that are put back: the values of a chunked variable are computed anew each time they are asked for.
        values = out[name].values.copy()
        if since.size:
            values[..., 1:] = gather.reduceat(history[name].values[..., : rows[-1] + 1], since, axis=axis)
        if name == "log_return":
            values[..., 0] = np.nan
        elif rows[0] != 0:
            values[..., 0] = 0
        out[name] = out[name].copy(data=values)
    return schema.validate(out)


def align_histories(histories: Mapping[str, xr.Dataset], *, join: Literal["inner", "exact"] = "inner") -> xr.Dataset:
    """Put the histories of several underlyings beside each other, on the dates that all have.

    Parameters
    ----------
    histories : mapping of str to xarray.Dataset
        By the name that each asset is to bear; of the same grid and ``periods_per_year``.
    join : {"inner", "exact"}
        The dates that all have, with log returns between these; or only what has the same dates everywhere.

    Returns
    -------
    xarray.Dataset
        Following ``volscen/history/1`` with ``asset`` as the first dimension, of the variables that all have.
        The coordinate ``days_lost(asset)`` counts the dates of an asset that another one lacks.
        ``calendar(asset)`` names the exchange calendar of each.
        ``.sel(asset="...")`` gives back a history of one asset, as every verb but this takes it.

    Raises
    ------
    InputError
        If grids or ``periods_per_year`` differ, fewer than two dates are shared, or, for "exact", dates differ.

    Notes
    -----
    No date is filled: a surface of yesterday beside one of today would be a comovement of its own making. Returns
    across dates that are lost are sums. Closing times are those of each market: prices of Shanghai and New York on one
    date are more than half a day apart.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> both = volscen.align_histories({"A": history, "B": history.isel(date=slice(10, None))})
    >>> both.implied_vol.dims, both.days_lost.values.tolist()
    (('asset', 'date', 'tau', 'moneyness'), [10, 0])
    >>> volscen.validate(both.sel(asset="A"), schema="volscen/history/1").sizes["date"] == history.sizes["date"] - 10
    True
    """
    if not isinstance(histories, Mapping) or len(histories) < 2:
        raise InputError("histories must map the names of two assets or more to their histories")
    if join not in ("inner", "exact"):
        raise InputError(f"join must be 'inner' or 'exact', not {join!r}; no date is ever filled")
    names = list(histories)
    for name, history in histories.items():
        if not isinstance(name, str) or not name:
            raise InputError(f"histories must bear names that are texts, not {name!r}")
        _check_one(name, history, names[0], histories[names[0]])
    dates = [histories[name]["date"].values.astype("datetime64[ns]") for name in names]
    common = dates[0]
    for more in dates[1:]:
        common = np.intersect1d(common, more)
    lost = [int(own.size - common.size) for own in dates]
    told = ", ".join(f"{name} {count}" for name, count in zip(names, lost, strict=True))
    if join == "exact" and any(lost):
        raise InputError(f"the dates differ (lost by {told}); take join='inner'")
    if common.size < 2:
        raise InputError(f"the histories share {common.size} dates, and returns need two; give periods that overlap")
    parts = [select_dates(histories[name], common) for name in names]
    shared = [str(name) for name in parts[0].data_vars if all(name in part for part in parts)]
    first = parts[0]
    out = xr.Dataset(
        {
            name: (("asset", *first[name].dims), np.stack([part[name].values for part in parts]), first[name].attrs)
            for name in shared
        },
        coords={
            "asset": names,
            "date": first["date"],
            "tau": first["tau"],
            "moneyness": first["moneyness"],
            "calendar": schema.calendar_coordinate(histories),
            "days_lost": ("asset", np.array(lost, dtype=np.int64)),
        },
        attrs=schema.base_attributes(
            schema.HISTORY,
            title=f"Implied-volatility surfaces of {', '.join(names)}",
            source=_each(histories, "source"),
            calendar=_each(histories, "calendar"),
            periods_per_year=float(first.attrs["periods_per_year"]),
        ),
    )
    own = [name for name in first.attrs if name not in out.attrs and name not in _OF_ONE_BUILD]
    out.attrs.update({name: _each(histories, str(name)) for name in own if all(name in p.attrs for p in parts)})
    if any(part.attrs.get("return_source") == "forward" for part in parts):
        out.attrs["return_source"] = "forward"
    return schema.validate(schema.arrange(out))


def _check_one(name: str, history: xr.Dataset, first: str, other: xr.Dataset) -> None:
    try:
        schema.validate(history, schema=schema.HISTORY)
        schema.check_same_grid(other["tau"].values, other["moneyness"].values, history, first)
    except (InputError, FileFormatError) as error:
        raise type(error)(f"{name}: {error}") from None
    mine, theirs = (float(ds.attrs["periods_per_year"]) for ds in (history, other))
    if mine != theirs:
        raise InputError(f"{name} has {mine:g} periods_per_year and {first} {theirs:g}; bring them to one frequency")


def _each(histories: Mapping[str, xr.Dataset], attribute: str) -> Any:
    """What all say, or what each says."""
    values = {name: history.attrs[attribute] for name, history in histories.items()}
    if len({str(value) for value in values.values()}) == 1:
        return next(iter(values.values()))
    return "; ".join(f"{name}: {value}" for name, value in values.items())

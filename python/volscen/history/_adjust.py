"""What the user knows of a corporate action that the quotes did not tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from volscen import schema
from volscen._numbers import finite_number, positive_number
from volscen.errors import InputError
from volscen.history._history import position

__all__ = ["adjust_return", "adjusted_row"]


def adjust_return(history: xr.Dataset, date: Any, *, split: float = 1.0, dividend: float = 0.0) -> xr.Dataset:
    """Take a split or a dividend out of the return into a date, or declare that return sound.

    Parameters
    ----------
    history : xarray.Dataset
        Following ``volscen/history/1``, of one asset.
    date : str, datetime64 or datetime.date
        The first day on which the price is without it. Of several rows that day it is the one suspected, else the
        first, into which the night's return goes.
    split : float
        New shares for one old: 3 for three for one, 0.1 for one for ten.
    dividend : float
        Currency per new share, at least 0.

    Returns
    -------
    xarray.Dataset
        A copy whose ``log_return`` of that date is larger by ln(split) + ln(1 + dividend / spot), with ``jump_flag`` 1;
        with neither a split nor a dividend the same return, with ``jump_flag`` 0. Spots stay as quoted.

    Raises
    ------
    InputError
        If the date is not in the history, its first or free of an event already, or a number is none.

    Examples
    --------
    >>> import volscen
    >>> past = volscen.make_history(
    ...     ["2024-02-09", "2024-02-12"], [0.25], [0.9, 1.0, 1.1], [[[0.2, 0.2, 0.2]]] * 2, spot=[300.0, 101.0])
    >>> round(float(volscen.adjust_return(past, "2024-02-12", split=3).log_return[1]), 5)
    0.00995
    """
    schema.validate(history, schema=schema.HISTORY)
    if "asset" in history.dims:
        raise InputError("adjust_return takes one underlying; select it with .sel(asset=...) before")
    split, dividend = positive_number("split", split), finite_number("dividend", dividend)
    if dividend < 0:
        raise InputError(f"dividend must be at least 0, not {dividend!r}")
    row = adjusted_row(history, date)
    if row == 0:
        raise InputError("date is the first of the history, into which there is no return")
    if "jump_flag" in history and int(history["jump_flag"].values[row]) == 1:
        raise InputError(
            f"the return into {np.datetime_as_string(history['date'].values[row], 'D')} is free of a "
            "corporate action already (jump_flag 1)"
        )
    out = history.copy(deep=True)
    event = split != 1 or dividend != 0
    # Copies that are put back: the values of a chunked variable are computed anew each time they are asked for.
    log_return = history["log_return"].values.copy()
    log_return[row] += np.log(split) + np.log1p(dividend / history["spot"].values[row])
    out["log_return"] = history["log_return"].copy(data=log_return)
    if "jump_flag" in out:
        flag = history["jump_flag"].values.copy()
        flag[row] = int(event)
        out["jump_flag"] = history["jump_flag"].copy(data=flag)
    elif event:
        out["jump_flag"] = (("date",), (np.arange(out.sizes["date"]) == row).astype(np.int8))
    return schema.validate(schema.annotate(out))


def adjusted_row(history: xr.Dataset, date: Any) -> int:
    """Row of a day: of several, the first that is suspected of an event, else the first."""
    days = history["date"].values.astype("datetime64[D]")
    rows = np.flatnonzero(days == days[position(history, date, "date")])
    suspected = rows[history["jump_flag"].values[rows] == 2] if "jump_flag" in history else rows[:0]
    return int(suspected[0] if suspected.size else rows[0])

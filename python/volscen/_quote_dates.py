"""Days of columns, in the forms that tables of quotes bring: datetimes, ISO 8601 text, numbers such as 20240131."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from volscen.errors import InputError

__all__ = ["read_days"]

_FULL_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]|$)|\d{8}(T|$)")
_NUMBERS_AND_SLASHES = re.compile(r"(\d{1,2})[/.-](\d{1,2})[/.-]\d{4}\b")


def read_days(column: pd.Series[Any], name: str, *, one_time_a_day: bool = False) -> npt.NDArray[np.datetime64]:
    """Days of a column as datetime64[D], NaT where unreadable; in the forms that ``check_quotes`` takes.

    Parameters
    ----------
    column : pandas.Series
    name : str
        What errors call the column.
    one_time_a_day : bool
        Refuse several times of day on one date.

    Raises
    ------
    InputError
        If it bears a time zone, holds no readable date at all, or several times of a day where there may be one.
    """
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        raise _time_zone_error(column, name)
    if pd.api.types.is_numeric_dtype(column.dtype):
        stamps = _from_numbers(column, name)
    elif pd.api.types.is_datetime64_dtype(column.dtype):
        stamps = column
    else:
        try:
            codes, labels = pd.factorize(column.astype(object))  # absent values get the code -1
            texts = [_full_date(label) for label in labels]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # pandas before 3: mixed time zones, refused below
                known_days = pd.to_datetime(pd.Series([*texts, None], dtype=object), errors="coerce", format="ISO8601")
            stamps = known_days.iloc[codes]
        except (ValueError, TypeError) as error:
            if "time zone" in str(error) or "timezone" in str(error) or "tz-aware" in str(error):
                raise _time_zone_error(column, name) from None
            raise InputError(f"column {name} cannot be read as dates: {error}") from None
        if not pd.api.types.is_datetime64_dtype(stamps.dtype):
            raise _time_zone_error(column, name)
        if len(column) and stamps.isna().all() and not column.isna().all():
            raise _unreadable(column, name)
    values = stamps.to_numpy().astype("datetime64[ns]")
    days = values.astype("datetime64[D]")
    if one_time_a_day:
        known = ~np.isnat(values)
        timed = np.unique(values[known])
        day_of = timed.astype("datetime64[D]")
        if np.any(day_of[1:] == day_of[:-1]):
            day = day_of[1:][day_of[1:] == day_of[:-1]][0]
            raise InputError(f"column {name} holds several times of day on {day}; keep one snapshot a day")
    return days


def _full_date(label: Any) -> Any:
    """Text of a date as pandas reads it; nothing where it is no full date, of which pandas would make one."""
    if isinstance(label, int | np.integer | float) and not isinstance(label, bool):
        label = f"{label:.0f}"
    if isinstance(label, str):
        return label.strip() if _FULL_DATE.match(label.strip()) else None
    return label


def _from_numbers(column: pd.Series[Any], name: str) -> pd.Series[Any]:
    if column.dtype == bool:
        raise InputError(f"column {name} holds True and False where dates are needed")
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.isfinite(values)
    if np.any((values[known] < 19000101) | (values[known] > 22001231)):
        raise InputError(f"column {name} holds numbers that are no dates of the form 20240131; convert them first")
    text = pd.Series(np.where(known, values, 0).astype(np.int64).astype(str))
    return pd.to_datetime(text, format="%Y%m%d", errors="coerce")


def _unreadable(column: pd.Series[Any], name: str) -> InputError:
    """What the dates look like, and the format that reads them, where the column settles the order of day and month."""
    texts = column.dropna().astype(str).str.strip()
    example = texts.iloc[0]
    parts = texts.str.extract(_NUMBERS_AND_SLASHES).dropna().astype(int)
    if len(parts) < len(texts):
        hint = "name their form on reading, such as date_format='%d-%b-%Y' for 31-Jan-2024"
    else:
        mark = next(sign for sign in example if not sign.isdigit())
        forms = {"day": mark.join(("%d", "%m", "%Y")), "month": mark.join(("%m", "%d", "%Y"))}
        forms = {order: form + _clock(example) for order, form in forms.items()}
        first = "day" if (parts[0] > 12).any() else "month" if (parts[1] > 12).any() else ""
        if first:
            hint = f"as the {first} comes first in these, read them with date_format='{forms[first]}'"
        else:
            hint = f"read them with date_format='{forms['day']}' or '{forms['month']}': no row tells which"
    return InputError(
        f"column {name} holds no readable date (such as {example!r}); write them as 2024-01-31, or {hint} "
        "(volscen.sources.read_table; --read date_format=... on the command line)"
    )


def _clock(text: str) -> str:
    """Form of the time of day and the zone after a date, as far as they can be told."""
    found = re.fullmatch(r"\S+?([T ])\d{1,2}:\d{2}(:\d{2})?(\.\d+)?( ?)([Zz]|[+-]\d{2}:?\d{2})?", text)
    if found is None:
        return ""
    mark, seconds, fraction, space, zone = found.groups()
    return f"{mark}%H:%M{':%S' if seconds else ''}{'.%f' if fraction else ''}{space + '%z' if zone else ''}"


def _time_zone_error(column: pd.Series[Any], name: str) -> InputError:
    remedy = "read_table(..., timezone='America/New_York'), --read timezone=America/New_York on the command line"
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        held = column.dropna()
        if len(held) and bool((held == held.dt.normalize()).all()):  # in another zone they would be another day's
            remedy = f"quotes['{name}'].dt.tz_localize(None), as every row is at midnight"
    return InputError(f"column {name} bears a time zone; state the exchange's own dates, for example with {remedy}")

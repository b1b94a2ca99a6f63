"""Dates as users write them, read in one place: days without a time zone, or an error that says what to do."""

from __future__ import annotations

import datetime
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

__all__ = ["to_day", "to_days"]

_TEXT = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?|\d{8}")


def to_day(value: Any, name: str) -> np.datetime64:
    """Read one calendar day.

    Parameters
    ----------
    value : str, int, date, datetime, datetime64 or Timestamp
        ``"2024-01-31"`` or 20240131, or a date or time without a time zone.
    name : str
        Argument that errors name.

    Returns
    -------
    numpy.datetime64
        In days.

    Raises
    ------
    InputError
        If it is no full date, or bears a time zone: converting one could move it to another day.

    Examples
    --------
    >>> from volscen._dates import to_day
    >>> to_day("2024-01-31", "as_of") == to_day(20240131, "as_of")
    np.True_
    """
    if getattr(value, "ndim", None) == 0 and hasattr(value, "values"):
        value = value.values  # an xarray scalar
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if getattr(value, "tzinfo", None) is not None:
        raise InputError(
            f"{name} bears a time zone ({value}); give the exchange's own date, for instance "
            "pandas.Timestamp(...).tz_convert('America/New_York').tz_localize(None)"
        )
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        value = str(value)
    try:
        if isinstance(value, str):
            text = value.strip()
            if not _TEXT.fullmatch(text):
                raise ValueError
            # fromisoformat refuses impossible days; a time after the date must be readable too.
            stamp = datetime.datetime.fromisoformat(text)
            if stamp.tzinfo is None:
                day = np.datetime64(stamp.date(), "D")
            else:
                return to_day(stamp, name)  # which refuses it by name
        elif isinstance(value, np.datetime64):
            day = value.astype("datetime64[D]")
        elif isinstance(value, datetime.datetime):  # a Timestamp and NaT among them
            day = np.datetime64(value.date(), "D")
        elif isinstance(value, datetime.date):
            day = np.datetime64(value, "D")
        else:
            raise ValueError
    except InputError:
        raise
    except (ValueError, TypeError):
        raise InputError(f"{name} must be a date such as '2020-03-16', not {value!r}") from None
    if np.isnat(day):
        raise InputError(f"{name} must be a date, not NaT")
    return day


def to_days(values: npt.ArrayLike, name: str) -> npt.NDArray[np.datetime64]:
    """Read a one-dimensional collection of dates; see :func:`to_day`. Times of day in datetimes are kept."""
    if getattr(getattr(values, "dtype", None), "tz", None) is not None:
        raise InputError(
            f"{name} bears a time zone; give the exchange's own dates, for instance "
            f"{name}.tz_convert('America/New_York').tz_localize(None)"
        )
    array = np.asarray(values)
    if array.ndim != 1:
        raise InputError(f"{name} must be one-dimensional, not of shape {array.shape}")
    if np.issubdtype(array.dtype, np.datetime64):
        if np.any(np.isnat(array)):
            raise InputError(f"{name} holds NaT; drop those rows")
        return array.astype("datetime64[ns]")
    return np.array([to_day(value, name) for value in array.tolist()], dtype="datetime64[ns]")

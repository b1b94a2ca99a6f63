"""Times to expiry by name: "1W", "3M", "18M"."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

__all__ = ["from_days", "to_years"]

_TENOR = re.compile(r"(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?", re.IGNORECASE)


def to_years(name: str, value: Any) -> Any:
    """Replace tenors by years; what holds none is returned as it is, for the caller to check.

    Parameters
    ----------
    name : str
        Of the argument, for messages.
    value : array_like of float or str
        Years, or tenors: whole numbers of Y, M, W and D, in that order and in any case, such as "3M", "1Y6M"; or an
        array of timedelta64.

    Returns
    -------
    array_like
        Years: a day is 1/365, a week 7/365, a month 1/12 and a year 1.

    Raises
    ------
    InputError
        If a text is no tenor.

    Notes
    -----
    A month is a twelfth of a year (30.4 days) rather than a month of the calendar, so that a grid is the same on
    every date and 12M is 1Y.

    Examples
    --------
    >>> from volscen._tenors import to_years
    >>> to_years("tau", "18M"), to_years("tau", ["1M", 0.25])
    (1.5, array([0.08333333, 0.25      ]))
    """
    if isinstance(value, str):
        return _years(name, value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "m":
        return value / np.timedelta64(365, "D")
    if isinstance(value, np.ndarray) and value.dtype.kind not in "OUT":
        return value
    if isinstance(value, list | tuple) or hasattr(value, "__array__"):
        entries = list(value) if np.ndim(np.asarray(value, dtype=object)) == 1 else []
        if any(isinstance(entry, str) for entry in entries):
            try:
                return np.array([_years(name, e) if isinstance(e, str) else float(e) for e in entries])
            except TypeError:
                raise InputError(f"{name} must hold numbers of years or tenors, not {value!r}") from None
    return value


def from_days(name: str, text: str) -> npt.NDArray[np.float64]:
    """Years of a text such as "7,30,3M": plain numbers are calendar days.

    Raises
    ------
    InputError
        If a part is neither a number nor a tenor.
    """
    years: list[float] = []
    for part in text.split(","):
        try:
            years.append(float(part) / 365)
        except ValueError:
            try:
                years.append(_years(name, part))
            except InputError:
                raise InputError(
                    f"{name} must be numbers of days, or tenors such as 3M, separated by commas, not {text!r}"
                ) from None
    return np.array(years)


def _years(name: str, text: str) -> float:
    match = _TENOR.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise InputError(
            f"{name} must be numbers of years, or tenors such as '1D', '2W', '3M', '1Y' or '1Y6M'; {text!r} is neither"
        )
    y, m, w, d = (int(group or 0) for group in match.groups())
    return (12 * y + m) / 12 + (7 * w + d) / 365

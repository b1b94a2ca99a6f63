"""Sessions of an exchange as they were scheduled, and what the date of a session says about the day."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError, MissingExtraError

__all__ = ["N_CALENDAR", "Days", "calendar_features", "next_session", "past_sessions", "sessions"]

FloatArray = npt.NDArray[np.float64]
Days = npt.NDArray[np.datetime64]

N_CALENDAR = 13
_PERIOD = ("1960-01-01", "2099-12-31")


@lru_cache(maxsize=8)
def sessions(code: str) -> np.busdaycalendar:
    """Scheduled sessions of an exchange.

    Parameters
    ----------
    code : str
        Exchange calendar of the package ``exchange_calendars`` such as "XNYS"; "weekdays" or "unspecified" for
        Monday to Friday without holidays.

    Notes
    -----
    Closures that nobody expected the day before (11 September 2001, days of mourning) stay sessions: knowing
    them would be looking ahead. Calendars that the package keeps as plain lists, without rules, (XSHG among
    them) do not tell the two apart: there every listed closure counts.

    Raises
    ------
    InputError
        If the calendar is unknown.
    MissingExtraError
        If the package is needed and not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.generators._har_calendar import next_session, sessions
    >>> friday = np.array(["2015-07-03"], dtype="datetime64[D]")
    >>> next_session(friday, sessions("weekdays"))
    array(['2015-07-06'], dtype='datetime64[D]')
    """
    if code in ("weekdays", "unspecified"):
        return np.busdaycalendar("1111100")
    try:
        import exchange_calendars
    except ImportError:
        raise MissingExtraError(f"the exchange calendar {code!r}", "calendars") from None
    try:
        with warnings.catch_warnings():
            # Deprecations between that package and pandas are no business of our callers.
            warnings.simplefilter("ignore")
            found = exchange_calendars.get_calendar(code)
            rules, listed = found.regular_holidays, found.adhoc_holidays
            closed = listed if rules is None else rules.holidays(*_PERIOD)
    except exchange_calendars.errors.InvalidCalendarName:
        raise InputError(
            f"history.attrs['calendar'] is {code!r}, no calendar of exchange_calendars; set a code such as 'XNYS', "
            "or 'weekdays'"
        ) from None
    return np.busdaycalendar(found.weekmask, [np.datetime64(day, "D") for day in closed])


def next_session(day: Days, calendar: np.busdaycalendar) -> Days:
    """First scheduled session after each day."""
    return np.asarray(np.busday_offset(day + np.timedelta64(1, "D"), 0, roll="forward", busdaycal=calendar))


def past_sessions(as_of: np.datetime64, n: int, calendar: np.busdaycalendar) -> Days:
    """The last n scheduled sessions up to ``as_of``, which itself is the last whatever the calendar says."""
    earlier = np.busday_offset(as_of, np.arange(1 - n, 0), roll="forward", busdaycal=calendar)
    return np.append(earlier, as_of).astype("datetime64[D]")


def calendar_features(known: Days, target: Days) -> FloatArray:
    """What the date of the next session says, before it comes: (n, 13).

    Parameters
    ----------
    known : ndarray of datetime64[D], shape (n,)
        Last day known.
    target : ndarray of datetime64[D], shape (n,)
        The scheduled session after it.

    Returns
    -------
    ndarray, shape (n, 13)
        Of the target date: Monday, Tuesday, Wednesday, Thursday; logarithm of the gap in days, gap of 4 and
        more, gap of 2; first Friday of the month, third Friday, the Monday after the third Friday; 20 to 31
        December; sine and cosine of the day of the year.
    """
    weekday = (target.astype(np.int64) + 3) % 7  # 1 January 1970 was a Thursday; Monday is 0
    gap = (target - known).astype(np.int64)
    month = target.astype("datetime64[M]")
    day = (target - month.astype("datetime64[D]")).astype(np.int64) + 1
    december = month.astype(np.int64) % 12 == 11
    of_year = (target - target.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
    angle = 2 * np.pi * of_year / 365.25
    return np.column_stack(
        [
            *(weekday == d for d in range(4)),
            np.log(gap),
            gap >= 4,
            gap == 2,
            (weekday == 4) & (day <= 7),
            (weekday == 4) & (day >= 15) & (day <= 21),
            (weekday == 0) & (day >= 18) & (day <= 24),
            december & (day >= 20),
            np.sin(angle),
            np.cos(angle),
        ]
    ).astype(np.float64)

"""Sessions of an exchange as they were scheduled, and what the date of a session says about the day."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

__all__ = ["N_CALENDAR", "N_SCALE_CALENDAR", "Days", "calendar_features", "next_session", "past_sessions", "sessions"]

FloatArray = npt.NDArray[np.float64]
Days = npt.NDArray[np.datetime64]

#: Features of a date; those of the scale come first.
N_CALENDAR, N_SCALE_CALENDAR = 23, 15
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
    import exchange_calendars  # slow to load, and only real exchanges need it
    from exchange_calendars.errors import InvalidCalendarName

    try:
        with warnings.catch_warnings():
            # Deprecations between that package and pandas are no business of our callers.
            warnings.simplefilter("ignore")
            found = exchange_calendars.get_calendar(code)
            rules, listed = found.regular_holidays, found.adhoc_holidays
            closed = listed if rules is None else rules.holidays(*_PERIOD)
    except InvalidCalendarName:
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


def calendar_features(known: Days, calendar: np.busdaycalendar, target: Days | None = None) -> FloatArray:
    """What the date of the next session says, before it comes: (n, 23).

    Parameters
    ----------
    known : ndarray of datetime64[D], shape (n,)
        Last day known.
    calendar : numpy.busdaycalendar
        Scheduled sessions.
    target : ndarray of datetime64[D], shape (n,), optional
        The session after it; the next scheduled one when omitted.

    Returns
    -------
    ndarray, shape (n, 23)
        Of the target date, for scales and means: Monday, Tuesday, Wednesday, Thursday; logarithm of the gap in days,
        gap of 4 and more, gap of 2; first Friday of the month, third Friday, the Monday after the third Friday; 20 to
        31 December; sine and cosine of the day of the year; fourth Wednesday of the month, the Thursday after it. For
        means only: first and last session of the month, first and last of the quarter; sines and cosines of the day of
        the month, once and twice around.
    """
    if target is None:
        target = next_session(known, calendar)
    weekday = (target.astype(np.int64) + 3) % 7  # 1 January 1970 was a Thursday; Monday is 0
    gap = (target - known).astype(np.int64)
    month = target.astype("datetime64[M]")
    day = (target - month.astype("datetime64[D]")).astype(np.int64) + 1
    number = month.astype(np.int64) % 12
    of_year = (target - target.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
    year_angle, month_angle = 2 * np.pi * of_year / 365.25, 2 * np.pi * day / 30.4
    first = known.astype("datetime64[M]") != month
    last = next_session(target, calendar).astype("datetime64[M]") != month
    return np.column_stack(
        [
            *(weekday == d for d in range(4)),
            np.log(gap),
            gap >= 4,
            gap == 2,
            (weekday == 4) & (day <= 7),
            (weekday == 4) & (day >= 15) & (day <= 21),
            (weekday == 0) & (day >= 18) & (day <= 24),
            (number == 11) & (day >= 20),
            np.sin(year_angle),
            np.cos(year_angle),
            (weekday == 2) & (day >= 22) & (day <= 28),
            (weekday == 3) & (day >= 23) & (day <= 29),
            first,
            last,
            first & (number % 3 == 0),
            last & (number % 3 == 2),
            *(wave(k * month_angle) for k in (1, 2) for wave in (np.sin, np.cos)),
        ]
    ).astype(np.float64)

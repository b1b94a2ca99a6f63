"""Sessions of an exchange as they were scheduled."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

__all__ = ["Days", "next_session", "past_sessions", "sessions"]

Days = npt.NDArray[np.datetime64]

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
    >>> from volscen._sessions import next_session, sessions
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
            f"the attribute calendar is {code!r}, none of exchange_calendars; set a code such as 'XNYS', or 'weekdays'"
        ) from None
    return np.busdaycalendar(found.weekmask, [np.datetime64(day, "D") for day in closed])


def next_session(day: Days, calendar: np.busdaycalendar) -> Days:
    """First scheduled session after each day."""
    return np.asarray(np.busday_offset(day + np.timedelta64(1, "D"), 0, roll="forward", busdaycal=calendar))


def past_sessions(as_of: np.datetime64, n: int, calendar: np.busdaycalendar) -> Days:
    """The last n scheduled sessions up to ``as_of``, which itself is the last whatever the calendar says."""
    earlier = np.busday_offset(as_of, np.arange(1 - n, 0), roll="forward", busdaycal=calendar)
    return np.append(earlier, as_of).astype("datetime64[D]")

"""What the date of a session says about the day."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen._sessions import Days, next_session

__all__ = ["N_CALENDAR", "N_SCALE_CALENDAR", "calendar_features"]

FloatArray = npt.NDArray[np.float64]

#: Features of a date; those of the scale come first.
N_CALENDAR, N_SCALE_CALENDAR = 23, 15


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

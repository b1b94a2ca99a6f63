"""Durations and times of day of a recording."""

from __future__ import annotations

import re
import time

import numpy as np

from volscen.errors import InputError
from volscen.sources._opra import NEW_YORK, closing_times, to_utc

__all__ = ["REPLAY_NS", "end_of", "now", "seconds_of", "start_of", "to_instant", "today"]

#: Databento replays no more than 24 hours; a minute less, as the request takes a while.
REPLAY_NS = (24 * 60 - 1) * 60 * 10**9

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h)")
_SECONDS = {"s": 1, "min": 60, "h": 3600}
_WALL = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_AFTER_CLOSE = re.compile(r"close(?:\s*\+\s*(\d+)\s*min)?")


def now() -> int:
    """Nanoseconds UTC."""
    return time.time_ns()


def to_instant(time_ns: int) -> np.datetime64:
    """The same in UTC, to the second."""
    return np.datetime64(time_ns // 10**9, "s")


def seconds_of(given: object, name: str) -> float:
    """Seconds of a duration such as ``"30min"``, or of a number."""
    text = given.strip().lower() if isinstance(given, str) else ""
    if match := _DURATION.fullmatch(text):
        return float(match[1]) * _SECONDS[match[2]]
    if isinstance(given, int | float) and not isinstance(given, bool) and np.isfinite(given) and given >= 0:
        return float(given)
    raise InputError(f"{name} must be seconds, or like '30min', '2h' or '90s', not {given!r}")


def today(started: int) -> np.datetime64:
    """Date in New York at an instant (ns UTC)."""
    import pandas as pd

    here = pd.Timestamp(started, tz="UTC").tz_convert(NEW_YORK)
    return np.datetime64(here.strftime("%Y-%m-%d"), "D")


def _wall(minutes: int, started: int) -> int:
    """Nanoseconds UTC of minutes after midnight in New York, today."""
    wall = today(started).astype("datetime64[m]") + np.timedelta64(minutes, "m")
    return int(to_utc(np.array([wall]))[0].astype(np.int64))


def end_of(until: object, started: int) -> int | None:
    """When to stop, in nanoseconds UTC; None for never."""
    if until is None:
        return None
    text = until.strip().lower() if isinstance(until, str) else ""
    if match := _WALL.fullmatch(text):
        minutes = 60 * int(match[1]) + int(match[2])
    elif match := _AFTER_CLOSE.fullmatch(text):
        close = closing_times(np.array([today(started)]))[0]
        minutes = int(close / np.timedelta64(1, "m")) + int(match[1] or 0)
    else:
        raise InputError(f"until must be a time of day in New York such as '15:46', or 'close+1min', not {until!r}")
    if (end := _wall(minutes, started)) <= started:
        raise InputError(f"until {until} is over in New York; give a later time, or a duration")
    return end


def start_of(replay: object, started: int) -> int | None:
    """Since when quotes are asked for, in nanoseconds UTC; None for from now on."""
    if replay is None:
        return None
    if replay == "open":
        return min(_wall(9 * 60 + 30, started), started)
    seconds = seconds_of(replay, "replay")
    if not 0 < seconds <= 24 * 3600:
        raise InputError("replay must be at most 24h, which is as far back as Databento goes")
    return max(started - round(seconds * 1e9), started - REPLAY_NS)

"""Snapshots of a stream of quotes: the last record of every contract at chosen instants, in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from volscen.errors import FileFormatError, InputError
from volscen.sources._dbn import DAY_NS, UNDEFINED_PRICE, DbnFile
from volscen.sources._live_file import LiveFile
from volscen.sources._opra import closing_times, to_utc

__all__ = ["SNAPSHOT_REASONS", "Schedule", "Snapshots"]

IntArray = npt.NDArray[np.int64]

#: Why a record is not used.
SNAPSHOT_REASONS: dict[str, str] = {
    "not_consolidated": "it is the quote of one exchange, not of the consolidated feed",
    "unknown_contract": "its instrument is no option that can be used, or not one of the roots asked for",
    "between_snapshots": "a later record of the contract precedes the next snapshot, or no snapshot follows",
    "doubtful_book": "the feed marks its book as possibly incorrect",
}

#: Number of the consolidated quote among the publishers of OPRA.
_CONSOLIDATED = 30

#: Flag of a record whose book may be incorrect.
_MAYBE_BAD_BOOK = 1 << 2

_WALL = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_BEFORE_CLOSE = re.compile(r"close(?:\s*-\s*(\d+)\s*min)?")
_STEP = re.compile(r"(\d+)\s*min")

_OPEN = 9 * 60 + 30
#: Index and fund options trade a quarter of an hour beyond the close of shares.
_AFTER_CLOSE = 15


class Schedule:
    """Instants of the snapshots of a day.

    Parameters
    ----------
    times : str or sequence of str
        ``"15:45"`` (New York), ``"close"``, ``"close-15min"`` (before the close, which is early on half-days), or a
        step such as ``"30min"`` (every 30 minutes after the opening, up to the close), or ``"last"`` (of the last
        record of the day).

    Attributes
    ----------
    last : bool
        Whether the day's last record is asked for: the last of its :meth:`instants` is then a bound on it.
    """

    def __init__(self, times: str | Sequence[str]) -> None:
        texts = [times] if isinstance(times, str) else list(times)
        if not texts:
            raise InputError("times is empty; give a time of day such as '15:45', 'close-15min' or '30min'")
        self._wall: list[int] = []
        self._before_close: list[int] = []
        self._steps: list[int] = []
        self.last = False
        for text in texts:
            clean = text.strip().lower() if isinstance(text, str) else ""
            if match := _WALL.fullmatch(clean):
                self._wall.append(60 * int(match[1]) + int(match[2]))
            elif match := _BEFORE_CLOSE.fullmatch(clean):
                self._before_close.append(int(match[1] or 0))
            elif (match := _STEP.fullmatch(clean)) and int(match[1]) > 0:
                self._steps.append(int(match[1]))
            elif clean == "last":
                self.last = True
            else:
                raise InputError(
                    f"times must be a time of day in New York such as '15:45', 'close-15min', a step such as "
                    f"'30min', or 'last', not {text!r}"
                )

    def instants(self, day: int) -> IntArray:
        """Snapshots of a day (days since 1970) in nanoseconds UTC, increasing; none after the day's last trade."""
        date = np.array([day]).astype("datetime64[D]")
        close = int(closing_times(date)[0] / np.timedelta64(1, "m"))
        minutes = {*self._wall, *(close - before for before in self._before_close)}
        for step in self._steps:
            minutes.update(range(_OPEN + step, close + 1, step))
        held = sorted(minute for minute in minutes if _OPEN <= minute <= close + _AFTER_CLOSE)
        if self.last:
            held.append(close + _AFTER_CLOSE)
        return self._at(date, held)

    def opening(self, day: int) -> int:
        """Opening of a day (days since 1970) in nanoseconds UTC."""
        return int(self._at(np.array([day]).astype("datetime64[D]"), [_OPEN])[0])

    @staticmethod
    def _at(date: npt.NDArray[np.datetime64], minutes: list[int]) -> IntArray:
        return to_utc(date.astype("datetime64[m]") + np.array(minutes, dtype="timedelta64[m]")).astype(np.int64)


@dataclass
class _Day:
    """State of a day: the latest record of every contract."""

    number: int
    rows: IntArray
    index: pd.Index[int]
    instants: IntArray
    done: int = 0
    ended: int = 0
    seen: npt.NDArray[np.bool_] = field(init=False)
    fresh: npt.NDArray[np.bool_] = field(init=False)
    latest: dict[str, IntArray] = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.rows)
        self.seen, self.fresh = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        self.latest = {name: np.zeros(n, dtype=np.int64) for name in _KEPT}


#: Fields of a record kept, and the columns made of them.
_KEPT = {
    "ts_recv": "ts_recv",
    "flags": "flags",
    "bid_px_00": "bid",
    "ask_px_00": "ask",
    "bid_sz_00": "bid_size",
    "ask_sz_00": "ask_size",
}


class Snapshots:
    """Collects snapshots from files of quotes, one file after the other.

    Parameters
    ----------
    schedule : Schedule
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._tables: list[pd.DataFrame] = []
        self.records = 0
        self.carried = 0
        self.days_without: list[str] = []
        self.counts = dict.fromkeys(SNAPSHOT_REASONS, 0)

    def read(self, file: DbnFile | LiveFile, contracts: pd.DataFrame) -> None:
        """Take the snapshots of one file.

        Parameters
        ----------
        file : DbnFile or LiveFile
            Of a schema with a consolidated quote, ordered by time; a live session's may be out of order, and counts as
            it came in: a record that is late changes no snapshot before it came.
        contracts : pandas.DataFrame
            Contracts that can be used, with ``instrument_id``, ``start`` and ``end``.
        """
        first, end = (contracts[name].to_numpy().astype("datetime64[D]").astype(np.int64) for name in ("start", "end"))
        number = contracts["instrument_id"].to_numpy()
        venues = file.schema == "mbp-1"  # the only schema taken that has quotes of single exchanges too
        day_number, day, last = -1, None, 0
        for block in file.blocks():
            self.records += len(block)
            time = block["ts_recv"].astype(np.int64)
            if isinstance(file, LiveFile):
                time = np.maximum(time, last)
            elif np.any(time[1:] < time[:-1]) or time[0] < last:
                raise FileFormatError(f"{file.path}: its records are not in the order of time; fetch it again")
            last = int(time[-1])
            which = time // DAY_NS
            days, starts = np.unique(which, return_index=True)
            for this, begin, stop in zip(days.tolist(), starts, np.append(starts[1:], len(block)), strict=True):
                if this != day_number or day is None:
                    if day is not None:
                        self._finish(day, contracts)
                    valid = np.flatnonzero((first <= this) & (this < end))
                    day_number, day = this, self._begin(this, valid, number, file)
                self._add(day, block[begin:stop], time[begin:stop], contracts, venues)
        if day is not None:
            self._finish(day, contracts)

    def table(self) -> pd.DataFrame | None:
        """All rows so far, one per contract and snapshot; None where there is none."""
        return pd.concat(self._tables, ignore_index=True) if self._tables else None

    def _begin(self, number: int, valid: IntArray, instrument: IntArray, file: DbnFile | LiveFile) -> _Day:
        index = pd.Index(instrument[valid])
        if not index.is_unique:
            again = index[index.duplicated()][0]
            raise FileFormatError(
                f"{file.path}: instrument {again} stands for two contracts on {np.datetime64(number, 'D')}; "
                "give the day's definitions once"
            )
        instants = self._schedule.instants(number)
        covered = file.covered(instants)
        if self._schedule.last:
            covered[-1] = True  # it is moved to the last record
        return _Day(number, valid, index, instants[covered])

    def _add(
        self,
        day: _Day,
        records: npt.NDArray[np.void],
        time: IntArray,
        contracts: pd.DataFrame,
        venues: bool,
    ) -> None:
        slot = day.index.get_indexer(pd.Index(records["instrument_id"].astype(np.int64)))
        if venues:
            foreign = records["publisher_id"] != _CONSOLIDATED
            self.counts["not_consolidated"] += int(np.count_nonzero(foreign))
            self.counts["unknown_contract"] += int(np.count_nonzero((slot < 0) & ~foreign))
            slot = np.where(foreign, -1, slot)
        else:
            self.counts["unknown_contract"] += int(np.count_nonzero(slot < 0))
        ends = np.searchsorted(time, day.instants[day.done :], side="right")
        begin = 0
        for stop in (*ends.tolist(), len(records)):
            if stop > begin:
                self._update(day, records[begin:stop], slot[begin:stop])
                begin = stop
            if stop == len(records):
                break  # records of the next block may still precede this snapshot
            self._take(day, contracts)
        # A snapshot is taken by the first record after it, or at the end of the day.
        day.ended = int(time[-1])

    def _update(self, day: _Day, records: npt.NDArray[np.void], slot: npt.NDArray[np.intp]) -> None:
        known = slot >= 0
        self.counts["between_snapshots"] += int(np.count_nonzero(known))
        # Only the last record of each contract matters: the first one of each in reverse order.
        position = np.full(len(day.rows), -1)
        position[slot[known]] = np.flatnonzero(known)  # of equal indices the last assignment stays
        touched = np.flatnonzero(position >= 0)
        chosen = records[position[touched]]
        # Numbers change hands overnight: what a live session sends late is of no use on the day after.
        earliest = np.maximum(day.latest["ts_recv"][touched], day.number * DAY_NS)
        late = chosen["ts_recv"].astype(np.int64) < earliest
        touched, chosen = touched[~late], chosen[~late]
        for name, values in day.latest.items():
            values[touched] = chosen[name].astype(np.int64)
        day.seen[touched] = True
        day.fresh[touched] = True

    def _take(self, day: _Day, contracts: pd.DataFrame) -> None:
        instant = day.instants[day.done]
        day.done += 1
        fresh = int(np.count_nonzero(day.fresh))
        self.counts["between_snapshots"] -= fresh
        self.carried += int(np.count_nonzero(day.seen)) - fresh
        day.fresh[:] = False
        slots = np.flatnonzero(day.seen)
        if not len(slots):
            return
        table = contracts.iloc[day.rows[slots]].drop(columns=["instrument_id", "start", "end", "reason"])
        table = table.reset_index(drop=True)
        values = {column: day.latest[name][slots] for name, column in _KEPT.items()}
        for side in ("bid", "ask"):
            given = values[side] != UNDEFINED_PRICE
            table[side] = np.where(given, values[side] / 1e9, np.nan)
            table[f"{side}_size"] = values[f"{side}_size"]
        table["age"] = (instant - values["ts_recv"]) / 1e9
        table["quote_time"] = np.full(len(table), instant).astype("datetime64[ns]")
        table["date"] = table["quote_time"].dt.normalize()
        doubtful = (values["flags"] & _MAYBE_BAD_BOOK) != 0
        self.counts["doubtful_book"] += int(np.count_nonzero(doubtful))
        self._tables.append(table[~doubtful])

    def _finish(self, day: _Day, contracts: pd.DataFrame) -> None:
        while day.done < len(day.instants):
            if self._schedule.last and day.done == len(day.instants) - 1:
                instant = day.ended
                if instant < self._schedule.opening(day.number) or instant in day.instants[:-1]:
                    day.instants = day.instants[:-1]
                    break
                day.instants[-1] = instant
            self._take(day, contracts)
        if not len(day.instants):
            self.days_without.append(str(np.datetime64(day.number, "D")))

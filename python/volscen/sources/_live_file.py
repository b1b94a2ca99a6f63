"""Files of live sessions of the consolidated feed: records of several schemas in one stream, symbols among them.

Such files may end anywhere, as a recording may be stopped or still go on: an incomplete record at the end is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from volscen.errors import FileFormatError
from volscen.sources._dbn import BLOCK_RECORDS, DAY_NS, LIVE, Header, chunks, layout, read_header, rebuffered
from volscen.sources._opra import RootRule
from volscen.sources._opra_contracts import defined_contracts, describe

__all__ = ["QUOTE_KINDS", "LiveFile", "open_live"]

Records = npt.NDArray[np.void]

#: Kinds of records that are used, by their number; all quotes have one layout.
QUOTE_KINDS = {177: "cmbp-1", 192: "cbbo-1s", 193: "cbbo-1m", 194: "tcbbo"}
_DEFINITION, _MAPPING, _SYSTEM = 19, 22, 23

#: Others, for counting.
_OTHERS = {0: "trades", 1: "mbp-1", 21: "error", 24: "statistics", 18: "status", **{32 + i: "ohlcv" for i in range(5)}}

_MINUTE_NS = 60 * 10**9
_DAY_MINUTES = DAY_NS // _MINUTE_NS

#: Minutes without any record, heartbeats included, that tell of a recording at rest: heartbeats come every 30 seconds.
_GAP_MINUTES = 3

_TIME = np.dtype(np.uint64)
_UNDEFINED_TIME = np.iinfo(np.uint64).max

#: Length (in words of four bytes) and kind stand first in every record; no record is shorter than its own header.
_SHORTEST = 16


@dataclass
class LiveFile:
    """A file of a live session.

    Attributes
    ----------
    path : Path
    metadata : databento_dbn.Metadata
    other_records : dict
        Number of the records that are neither quotes nor say what instruments are, by kind.
    last_quote : int
        Time of the latest quote (ns UTC); 0 where there is none.
    """

    path: Path
    metadata: Any
    other_records: dict[str, int]
    schema: str
    _header: Header
    _mappings: pd.DataFrame
    _definitions: list[Records]
    _minutes: npt.NDArray[np.int64]
    _last: int
    last_quote: int
    _days: npt.NDArray[np.int64] = field(repr=False)

    def blocks(self) -> Iterator[Records]:
        """Yield the quotes of the consolidated feed, in order of time within each block."""
        for parts in _parts(self.path, self._header):
            if "quotes" in parts:
                quotes = parts["quotes"]
                time = quotes["ts_recv"]
                yield quotes if np.all(time[1:] >= time[:-1]) else quotes[np.argsort(time, kind="stable")]

    def covered(self, instants: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether the session was being recorded at instants (ns UTC)."""
        minute = instants // _MINUTE_NS
        n = np.searchsorted(self._minutes, minute, side="right")  # of the minutes with a record up to then
        held = np.pad(self._minutes, 1)
        before, after = held[n], held[np.minimum(n + 1, len(held) - 1)]
        between = (n < len(self._minutes)) & ((before == minute) | (after - before <= _GAP_MINUTES))
        at_end = (n == len(self._minutes)) & (instants <= self._last + _MINUTE_NS)
        return np.asarray((n > 0) & (between | at_end))

    def contracts(self, rules: Mapping[str, RootRule] | None = None) -> pd.DataFrame:
        """Contracts by the definitions of the session, and where those lack one by its symbol mappings.

        Raises
        ------
        FileFormatError
            If there are quotes, and nothing says of what.
        """
        defined = defined_contracts(self._definitions, rules)
        mapped = self._mapped(rules)
        tables = [table for table in (defined, mapped) if table is not None]
        if not tables:
            raise FileFormatError(
                f"{self.path}: nothing in it maps an instrument to a symbol; record from the beginning of a session, "
                "or give the day's definitions with definitions="
            )
        if defined is not None and mapped is not None:
            key = ["instrument_id", "start"]
            again = pd.MultiIndex.from_frame(mapped[key]).isin(pd.MultiIndex.from_frame(defined[key]))
            tables = [defined, mapped[~again]]
        table = pd.concat(tables, ignore_index=True)
        table.attrs["assumed_roots"] = sorted({root for one in tables for root in one.attrs["assumed_roots"]})
        return table

    def _mapped(self, rules: Mapping[str, RootRule] | None) -> pd.DataFrame | None:
        """One row per instrument and day of quotes, by the last mapping that holds on it."""
        rows = []
        for day in self._days.tolist():
            held = self._mappings[(self._mappings["start"] <= day) & (day < self._mappings["end"])]
            held = held.sort_values("start", kind="stable").drop_duplicates("instrument_id", keep="last")
            rows.append(held.assign(day=day))
        table = pd.concat(rows) if rows else self._mappings[:0].assign(day=0)
        if not len(table):
            return None
        number = table["day"].to_numpy(dtype=np.int64)
        day, next_day = number.astype("datetime64[D]"), (number + 1).astype("datetime64[D]")
        symbol = table["symbol"].to_numpy(dtype="U71")
        return describe(table["instrument_id"].to_numpy(dtype=np.int64), symbol, day, next_day, rules)


def open_live(path: Path, header: Header | None = None) -> LiveFile:
    """Open a file of a live session and look through it for all that is no quote.

    Raises
    ------
    MissingExtraError
        Without the decoder.
    FileFormatError
        If it is no such file, or damaged.
    """
    header = read_header(path) if header is None else header
    counts: Counter[str] = Counter()
    mappings, definitions, minutes, days = [], [], [], []
    last = last_quote = 0
    for parts in _parts(path, header):
        for name, part in parts.items():
            if name == "quotes":
                time = part["ts_recv"].astype(np.int64)
                found = _distinct(time // _MINUTE_NS)
                minutes.append(found)
                days.append(np.unique(found // _DAY_MINUTES))
                last_quote = max(last_quote, int(time.max()))
            elif name == "definition":
                definitions.append(part)
            elif name == "symbol-mapping":
                mappings.append(_mapping_rows(part, header.metadata.start))
            elif name == "system":
                time = part[part != _UNDEFINED_TIME].astype(np.int64)
                minutes.append(_distinct(time // _MINUTE_NS))
                last = max(last, int(time.max(initial=0)))
            else:
                counts[name] += len(part)
    last = max(last, last_quote)
    empty = pd.DataFrame({"instrument_id": [], "symbol": [], "start": [], "end": []})
    return LiveFile(
        path,
        header.metadata,
        dict(counts),
        LIVE,
        header,
        pd.concat(mappings, ignore_index=True) if mappings else empty,
        definitions,
        _joined(minutes),
        last,
        last_quote,
        _joined(days),
    )


def _distinct(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Distinct values of an array in which equal ones mostly stand together."""
    return np.unique(values[np.flatnonzero(np.diff(values, prepend=values[:1] - 1))])


def _joined(parts: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    return np.unique(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int64)


def _mapping_rows(records: Records, session: int) -> pd.DataFrame:
    """Symbols of instruments, and the days (since 1970; the end is exclusive) on which they hold."""
    start, sent, end = (records[name].astype(np.uint64) for name in ("start_ts", "ts_event", "end_ts"))
    begun = np.where(sent == _UNDEFINED_TIME, np.uint64(session), sent)
    begun = np.where((start == _UNDEFINED_TIME) | (start == 0), begun, np.minimum(start, begun))
    final = np.where((end == _UNDEFINED_TIME) | (end == 0), np.uint64(1 << 62), end)
    return pd.DataFrame(
        {
            "instrument_id": records["instrument_id"].astype(np.int64),
            "symbol": np.char.decode(np.ascontiguousarray(records["stype_out_symbol"]), "ascii", "replace"),
            "start": (begun // np.uint64(DAY_NS)).astype(np.int64),
            "end": -(-final.astype(np.int64) // DAY_NS),
        }
    )


def _parts(path: Path, header: Header) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Yield the records block by block, put together by kind; of kinds that are not used, the times alone."""
    schemas = {"quotes": "cbbo-1m", "definition": "definition", "symbol-mapping": "symbol-mapping"}
    dtypes = {name: layout(schema, header.version, header.metadata.ts_out) for name, schema in schemas.items()}
    names = {**dict.fromkeys(QUOTE_KINDS, "quotes"), _DEFINITION: "definition", _MAPPING: "symbol-mapping"}
    rest = b""
    for data in rebuffered(chunks(path, whole=False), header.offset, BLOCK_RECORDS * dtypes["quotes"].itemsize):
        data = rest + data
        found: dict[str, list[memoryview]] = {}
        used = 0
        for begin, size, count, kind in _runs(data, path):
            used = begin + size * count
            name = names.get(kind)
            if name is None:
                raw = np.frombuffer(data, np.uint8, size * count, begin).reshape(count, size)
                name = "system" if kind == _SYSTEM else _OTHERS.get(kind, "unknown")
                found.setdefault(name, []).append(memoryview(raw[:, 8:16].tobytes()))
            elif size != dtypes[name].itemsize:
                raise FileFormatError(f"{path}: a record of kind {kind} is {size} bytes long; the file is damaged")
            else:
                found.setdefault(name, []).append(memoryview(data)[begin:used])
        rest = data[used:]
        yield {name: np.frombuffer(b"".join(parts), dtypes.get(name, _TIME)) for name, parts in found.items()}


def _runs(data: bytes, path: Path) -> Iterator[tuple[int, int, int, int]]:
    """Yield where runs of records of one kind begin, the size of a record, how many there are, and the kind."""
    raw = np.frombuffer(data, np.uint8)
    begin, end = 0, len(raw)
    while begin + 2 <= end:
        length, kind = int(raw[begin]), int(raw[begin + 1])
        size = 4 * length
        if size < _SHORTEST:
            raise FileFormatError(f"{path}: a record is said to be {size} bytes long; the file is damaged")
        most = (end - begin) // size
        if not most:
            return
        count, look = 1, 32
        while count < most:  # most runs are long, some are of one: look ahead twice as far each time
            stop = min(count + look, most)
            ahead = raw[begin + count * size : begin + stop * size].reshape(stop - count, size)
            same = (ahead[:, 0] == length) & (ahead[:, 1] == kind)
            if not same.all():
                count += int(np.argmin(same))
                break
            count, look = stop, 2 * look
        yield begin, size, count, kind
        begin += size * count

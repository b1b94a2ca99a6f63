"""Synthetic files of the consolidated option feed, written with Databento's own encoder."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import databento_dbn as dbn
import numpy as np
import zstandard

NEW_YORK = ZoneInfo("America/New_York")
UNDEFINED = dbn.UNDEF_PRICE


def instant(day: str, wall: str) -> int:
    """Nanoseconds UTC of a wall-clock time in New York, from the standard library."""
    stamp = datetime.datetime.fromisoformat(f"{day} {wall}").replace(tzinfo=NEW_YORK)
    return int(stamp.timestamp()) * 10**9


def osi(root: str, expiry: str, kind: str, strike: float) -> str:
    return f"{root:<6}{expiry.replace('-', '')[2:]}{kind}{round(strike * 1000):08d}"


class _Interval:
    def __init__(self, start: str, end: str, number: int) -> None:
        self.start_date = datetime.date.fromisoformat(start)
        self.end_date = datetime.date.fromisoformat(end)
        self.symbol = str(number)


class _Mapping:
    def __init__(self, symbol: str, intervals: list[_Interval]) -> None:
        self.raw_symbol = symbol
        self.intervals = intervals


def header(
    schema: dbn.Schema | None,
    day: str,
    mappings: Sequence[tuple[str, list[tuple[str, str, int]]]] = (),
    dataset: str = "OPRA.PILLAR",
    days: int = 1,
) -> bytes:
    start = datetime.date.fromisoformat(day)
    midnight = int(datetime.datetime(start.year, start.month, start.day, tzinfo=datetime.UTC).timestamp()) * 10**9
    return dbn.Metadata(
        dataset=dataset,
        schema=schema,
        stype_in=dbn.SType.PARENT,
        stype_out=dbn.SType.INSTRUMENT_ID,
        start=midnight,
        end=midnight + days * 86_400 * 10**9,
        symbols=["SPY.OPT"],
        mappings=[_Mapping(symbol, [_Interval(*one) for one in intervals]) for symbol, intervals in mappings],
        version=3,
    ).encode()


def price(value: float | None) -> int:
    return UNDEFINED if value is None else round(value * 1e9)


def cbbo(number: int, time: int, bid: float | None, ask: float | None, flags: int = 130) -> bytes:
    return bytes(
        dbn.CBBOMsg(
            rtype=dbn.RType.CBBO_1M,
            publisher_id=30,
            instrument_id=number,
            ts_event=time,
            price=UNDEFINED,
            size=0,
            side=dbn.Side.NONE,
            ts_recv=time,
            flags=flags,
            levels=dbn.ConsolidatedBidAskPair(
                bid_px=price(bid), ask_px=price(ask), bid_sz=3, ask_sz=4, bid_pb=30, ask_pb=30
            ),
        )
    )


def cmbp(number: int, time: int, bid: float, ask: float) -> bytes:
    return bytes(
        dbn.CMBP1Msg(
            rtype=dbn.RType.CMBP_1,
            publisher_id=30,
            instrument_id=number,
            ts_event=time,
            price=UNDEFINED,
            size=0,
            action=dbn.Action.ADD,
            side=dbn.Side.NONE,
            ts_recv=time,
            flags=130,
            levels=dbn.ConsolidatedBidAskPair(
                bid_px=price(bid), ask_px=price(ask), bid_sz=3, ask_sz=4, bid_pb=30, ask_pb=30
            ),
        )
    )


def mbp(number: int, time: int, bid: float, ask: float, publisher: int) -> bytes:
    return bytes(
        dbn.MBP1Msg(
            publisher_id=publisher,
            instrument_id=number,
            ts_event=time,
            price=UNDEFINED,
            size=0,
            action=dbn.Action.ADD,
            side=dbn.Side.NONE,
            depth=0,
            ts_recv=time,
            ts_in_delta=0,
            sequence=0,
            flags=130,
            levels=dbn.BidAskPair(bid_px=price(bid), ask_px=price(ask), bid_sz=3, ask_sz=4, bid_ct=1, ask_ct=1),
        )
    )


def definition(number: int, symbol: str, expiry: str, kind: str, strike: float, time: int, **other: Any) -> bytes:
    day = datetime.datetime.fromisoformat(expiry).replace(tzinfo=datetime.UTC)
    classes = {"C": dbn.InstrumentClass.CALL, "P": dbn.InstrumentClass.PUT, "K": dbn.InstrumentClass.STOCK}
    fields: dict[str, Any] = {
        "publisher_id": 30,
        "instrument_id": number,
        "ts_event": time,
        "ts_recv": time,
        "min_price_increment": UNDEFINED,
        "display_factor": UNDEFINED,
        "raw_symbol": symbol,
        "group": "",
        "exchange": "OPRA",
        "asset": "",
        "security_type": "OPT",
        "instrument_class": classes[kind],
        "match_algorithm": dbn.MatchAlgorithm.UNDEFINED,
        "security_update_action": dbn.SecurityUpdateAction.ADD,
        "strike_price": price(strike),
        "expiration": int(day.timestamp()) * 10**9,
        **other,
    }
    return bytes(dbn.InstrumentDefMsg(**fields))


def open_interest(number: int, time: int, quantity: int, publisher: int = 30, stat: int = 9) -> bytes:
    return bytes(
        dbn.StatMsg(
            publisher_id=publisher,
            instrument_id=number,
            ts_event=time,
            ts_recv=time,
            ts_ref=dbn.UNDEF_TIMESTAMP,
            price=UNDEFINED,
            quantity=quantity,
            stat_type=dbn.StatType.from_int(stat),
        )
    )


def write(path: Path, *parts: bytes) -> Path:
    """Write a file, compressed where its name says so."""
    data = b"".join(parts)
    path.write_bytes(zstandard.compress(data) if path.suffix == ".zst" else data)
    return path


def bulk_cbbo(number: np.ndarray, time: np.ndarray, bid: np.ndarray, ask: np.ndarray) -> bytes:
    """Many records at once."""
    records = np.zeros(len(number), dtype=dbn.CBBOMsg._dtypes)
    records["length"], records["rtype"], records["publisher_id"] = 20, 193, 30
    records["instrument_id"], records["ts_event"], records["ts_recv"] = number, time, time
    records["price"], records["side"], records["flags"] = UNDEFINED, b"N", 130
    records["bid_px_00"], records["ask_px_00"] = np.rint(bid * 1e9), np.rint(ask * 1e9)
    return records.tobytes()

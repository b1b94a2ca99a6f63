"""Rows a second through the streaming reader of consolidated option quotes, and the memory it takes.

    python benchmarks/sources.py [--contracts 12000] [--minutes 200]

Writes a synthetic day of cbbo-1m in Databento's format (every contract, every minute), plain and zstd, and reads
half-hourly snapshots from it. Beside it, the same job the plain way: the whole file to an array, then to pandas, then
the last row of each contract before each snapshot. Both give the same table, which is checked.
"""

from __future__ import annotations

import argparse
import datetime
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

import pagetables
from volscen.sources import read_databento

DAY = datetime.date(2024, 1, 19)
MIDNIGHT = int(datetime.datetime(2024, 1, 19, tzinfo=datetime.UTC).timestamp()) * 10**9
OPEN = MIDNIGHT + (14 * 60 + 30) * 60 * 10**9

#: Of the page's table.
HEADER = ["reader", "seconds", "million records a second", "memory"]


class Interval:
    """What the encoder asks of an interval of a symbol mapping."""

    def __init__(self, number: int) -> None:
        self.start_date, self.end_date, self.symbol = DAY, DAY + datetime.timedelta(1), str(number)


class Mapping:
    """What the encoder asks of a symbol mapping."""

    def __init__(self, symbol: str, number: int) -> None:
        self.raw_symbol, self.intervals = symbol, [Interval(number)]


def write_day(path: Path, n_contracts: int, n_minutes: int) -> int:
    """Write the day, plain and compressed; returns the number of records."""
    import databento_dbn as dbn
    import zstandard

    rng = np.random.default_rng(0)
    strikes = 2000 + 5 * np.arange(n_contracts // 24 + 1)
    fridays = [DAY + datetime.timedelta(7 * week) for week in range(1, 13)]
    symbols = [
        f"SPXW  {friday:%y%m%d}{kind}{1000 * strike:08d}" for friday in fridays for strike in strikes for kind in "CP"
    ][:n_contracts]
    numbers = rng.permutation(10**6)[: len(symbols)] + 5 * 10**8
    head = dbn.Metadata(
        dataset="OPRA.PILLAR",
        schema=dbn.Schema.CBBO_1M,
        stype_in=dbn.SType.PARENT,
        stype_out=dbn.SType.INSTRUMENT_ID,
        start=MIDNIGHT,
        end=MIDNIGHT + 86_400 * 10**9,
        symbols=["SPXW.OPT"],
        mappings=[Mapping(symbol, number) for symbol, number in zip(symbols, numbers.tolist(), strict=True)],
        version=3,
    ).encode()
    middle = rng.uniform(1, 200, len(symbols)).round(1)
    compress = zstandard.ZstdCompressor(level=1).compressobj()
    with path.open("wb") as plain, path.with_suffix(".dbn.zst").open("wb") as packed:
        plain.write(head)
        packed.write(compress.compress(head))
        for minute in range(1, n_minutes + 1):
            records = np.zeros(len(symbols), dtype=dbn.CBBOMsg._dtypes)
            records["length"], records["rtype"], records["publisher_id"] = 20, 193, 30
            records["instrument_id"] = rng.permutation(numbers)
            records["ts_event"] = records["ts_recv"] = OPEN + minute * 60 * 10**9
            records["price"], records["side"], records["flags"] = dbn.UNDEF_PRICE, b"N", 130
            half = rng.integers(1, 10, len(symbols)) / 20
            records["bid_px_00"] = np.rint((middle + rng.integers(-5, 6, len(symbols)) / 20 + 1 - half) * 1e9)
            records["ask_px_00"] = records["bid_px_00"] + np.rint(2e9 * half).astype(np.int64)
            plain.write(records.tobytes())
            packed.write(compress.compress(records.tobytes()))
        packed.write(compress.flush())
    return len(symbols) * n_minutes


def plain_way(path: Path) -> pd.DataFrame:
    """Whole file in memory, then pandas."""
    import databento_dbn as dbn

    data = path.read_bytes()
    offset = 8 + int.from_bytes(data[4:8], "little")
    records = np.frombuffer(data, dtype=dbn.CBBOMsg._dtypes, offset=offset)
    frame = pd.DataFrame({name: records[name] for name in ("instrument_id", "ts_recv", "bid_px_00", "ask_px_00")})
    rows = []
    for instant in OPEN + np.arange(1, 14) * 1800 * 10**9:
        before = frame[frame["ts_recv"] <= instant].groupby("instrument_id").last()
        rows.append(before.assign(quote_time=np.datetime64(int(instant), "ns")))
    return pd.concat(rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--contracts", type=int, default=12_000)
    parser.add_argument("--minutes", type=int, default=200)
    pagetables.add_options(parser)
    arguments = parser.parse_args()
    pages = pagetables.Pages(
        arguments, {"speed": [HEADER]}, kind="timing", minutes=1, needs=["databento-dbn", "zstandard"]
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "opra.dbn")
        n = write_day(path, arguments.contracts, arguments.minutes)
        size = path.stat().st_size / 1e6
        print(f"{n:,} records of {arguments.contracts:,} contracts, {size:.0f} MB plain; 13 half-hourly snapshots")
        floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        for file in (path, path.with_suffix(".dbn.zst")):
            wall = []
            for _ in range(3):
                started = time.perf_counter()
                quotes, dropped = read_databento(file, times="30min")
                wall.append(time.perf_counter() - started)
            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - floor
            count = f"{len(quotes):,} quotes, {dropped.attrs['records']:,} records"
            label = f"`read_databento`, {'zstd' if file.suffix == '.zst' else 'plain'}"
            rows.append([label, f"{min(wall):.1f}", f"{n / min(wall) / 1e6:.1f}", f"{used:.0f} MB"])
            print(
                f"read_databento, {file.name:12s} {min(wall):6.2f} s  {n / min(wall) / 1e6:5.2f} million rows/s, "
                f"{used:.0f} MB above the start ({count})"
            )
        started = time.perf_counter()
        whole = plain_way(path)
        wall_plain = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - floor
        rate = n / wall_plain / 1e6
        print(f"whole file, pandas             {wall_plain:6.2f} s  {rate:5.2f} million rows/s, {used:.0f} MB")
        rows.append(["the whole file, pandas", f"{wall_plain:.1f}", f"{rate:.1f}", f"{used:.0f} MB"])
        np.testing.assert_allclose(quotes["bid"].sum(), whole["bid_px_00"].sum() / 1e9, rtol=1e-12)
        np.testing.assert_allclose(quotes["ask"].sum(), whole["ask_px_00"].sum() / 1e9, rtol=1e-12)
        assert len(quotes) == len(whole)
    pages.add("speed", pagetables.table(HEADER, rows))
    pages.write()


if __name__ == "__main__":
    main()

"""Files of live sessions: schemas mixed in one stream, symbols among the records, ends anywhere."""

from __future__ import annotations

import itertools
from pathlib import Path

import databento_dbn as dbn
import numpy as np
import pandas as pd
import pytest
import zstandard

import live_gateway as live
import opra_files as opra
from volscen.errors import FileFormatError, InputError
from volscen.sources import _dbn, _live_file, read_databento, read_opra_contracts

DAY, NEXT = "2024-01-19", "2024-01-22"
CALL = opra.osi("SPXW", "2024-02-16", "C", 4800.0)
PUT = opra.osi("SPXW", "2024-02-16", "P", 4800.0)
MONTHLY = opra.osi("SPX", "2024-02-16", "C", 4800.0)


def at(wall: str, day: str = DAY) -> int:
    return opra.instant(day, wall)


def symbols(day: str = DAY, *pairs: tuple[str, int]) -> bytes:
    given = pairs or ((CALL, 7), (PUT, 8), (MONTHLY, 9))
    return b"".join(live.mapping(number, symbol, at("09:35", day)) for symbol, number in given)


def ticking(first: str, last: str, day: str = DAY) -> bytes:
    return b"".join(live.heartbeat(time) for time in range(at(first, day), at(last, day) + 1, 30 * 10**9))


@pytest.mark.parametrize("kind", ["plain", "zstd", "frames", "blocks"])
def test_equals_one_schema_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    rng = np.random.default_rng(5)
    n = 1500
    names = [opra.osi("SPXW", "2024-02-16", "CP"[i % 2], 4000 + 5 * (i // 2)) for i in range(40)]
    number = rng.choice(np.arange(1000, 1041), n)  # the last one is unknown
    time = at("09:36") + np.sort(rng.integers(0, 6 * 3600, n)) * 10**9
    bid = rng.integers(1, 500, n) / 10
    body = opra.bulk_cbbo(number, time, bid, bid + 0.3)
    mapping = [(name, [(DAY, "2024-01-20", 1000 + i)]) for i, name in enumerate(names)]
    reference = opra.write(tmp_path / "a.dbn", opra.header(dbn.Schema.CBBO_1M, DAY, mapping), body)

    parts = [symbols(DAY, *((name, 1000 + i) for i, name in enumerate(names)))]
    for i in range(n):
        parts.append(body[80 * i : 80 * (i + 1)])
        if rng.random() < 0.2:
            other = [live.heartbeat(int(time[i])), symbols(DAY, (names[3], 1003))]
            other.append(opra.definition(1005, names[5], "2024-02-16", "P", 4010.0, int(time[i])))
            parts.append(other[rng.integers(3)])
    stream = b"".join([*parts, ticking("15:36", "16:00")])
    if kind == "frames":
        cuts = [0, *np.sort(rng.integers(0, len(stream), 30)).tolist(), len(stream)]
        frames = [zstandard.compress(stream[a:b]) for a, b in itertools.pairwise(cuts)]
        path = tmp_path / "live.dbn.zst"
        path.write_bytes(zstandard.compress(live.live_header()) + b"".join(frames))
    else:
        path = opra.write(tmp_path / ("live.dbn.zst" if kind == "zstd" else "live.dbn"), live.live_header(), stream)
    if kind == "blocks":
        monkeypatch.setattr(_live_file, "BLOCK_RECORDS", 7)
        monkeypatch.setattr(_dbn, "_READ", 13)

    columns = ["quote_time", "symbol", "bid", "ask", "age", "strike", "expiry_time", "option_type", "multiplier"]
    keys = ["quote_time", "symbol"]
    expected, dropped = read_databento(reference, times=["30min", "15:37"])
    got, counted = read_databento(path, times=["30min", "15:37"])
    pd.testing.assert_frame_equal(
        got[columns].sort_values(keys, ignore_index=True), expected[columns].sort_values(keys, ignore_index=True)
    )
    assert counted.to_dict() == dropped.to_dict()
    assert counted.attrs["records"] == n


def test_two_kinds_of_quotes_and_what_is_none(tmp_path: Path) -> None:
    path = opra.write(
        tmp_path / "live.dbn",
        live.live_header(),
        symbols(),
        ticking("09:36", "15:45"),
        opra.cbbo(7, at("15:40"), 60.0, 61.0),
        opra.cmbp(7, at("15:44"), 62.0, 63.0),
        opra.cmbp(8, at("15:44"), 50.0, 51.0),
        opra.open_interest(8, at("15:44"), 5),
        opra.mbp(8, at("15:44"), 1.0, 2.0, 30),
        live.refused(at("15:44"), "Something", dbn.ErrorCode.INTERNAL_ERROR),
    )
    quotes, dropped = read_databento(path)
    assert sorted(quotes[["symbol", "bid"]].values.tolist()) == [[CALL, 62.0], [PUT, 50.0]]
    assert dropped.attrs["records"] == 3
    assert dropped.attrs["other_records"] == {"statistics": 1, "mbp-1": 1, "error": 1}


def test_definitions_of_the_session_come_before_its_symbols(tmp_path: Path) -> None:
    path = opra.write(
        tmp_path / "live.dbn",
        live.live_header(),
        symbols(),
        opra.definition(7, CALL, "2024-02-16", "C", 4800.0, at("06:30"), contract_multiplier=10),
        opra.definition(8, PUT, "2024-02-16", "P", 4805.0, at("06:30", "2024-01-18")),  # yesterday's
        opra.cbbo(7, at("15:44"), 60.0, 61.0),
        opra.cbbo(8, at("15:44"), 50.0, 51.0),
        ticking("15:44", "15:45"),
    )
    quotes, _ = read_databento(path)
    held = quotes.set_index("symbol")[["strike", "multiplier"]]
    assert held.loc[CALL].tolist() == [4800.0, 10.0]
    assert held.loc[PUT].tolist() == [4800.0, 100.0]
    contracts = read_opra_contracts(path).set_index("instrument_id")
    assert contracts.loc[9, "symbol"] == MONTHLY
    given = opra.write(
        tmp_path / "d.dbn",
        opra.header(dbn.Schema.DEFINITION, DAY),
        opra.definition(7, CALL, "2024-02-16", "C", 4800.0, at("06:30"), contract_multiplier=50),
    )
    quotes, dropped = read_databento(path, definitions=given)
    assert quotes["multiplier"].tolist() == [50.0]
    assert dropped["unknown_contract"] == 1


def test_numbers_change_hands_overnight(tmp_path: Path) -> None:
    path = opra.write(
        tmp_path / "live.dbn",
        live.live_header(at("09:30")),
        symbols(DAY, (CALL, 7), (PUT, 8)),
        opra.cbbo(7, at("15:44"), 60.0, 61.0),
        ticking("15:44", "15:45"),
        symbols(NEXT, (CALL, 8), (PUT, 7)),
        opra.cbbo(7, at("15:44", NEXT), 50.0, 51.0),
        ticking("15:44", "15:45", NEXT),
    )
    quotes, _ = read_databento(path)
    assert quotes[["date", "symbol", "bid"]].astype(str).values.tolist() == [[DAY, CALL, "60.0"], [NEXT, PUT, "50.0"]]


def test_of_two_symbols_of_a_day_the_later_holds(tmp_path: Path) -> None:
    again = live.mapping(7, PUT, at("12:00"))
    until = bytes(  # holds to the end of the day before
        dbn.SymbolMappingMsg(
            30, 8, at("09:35"), dbn.SType.PARENT, "SPX.OPT", dbn.SType.RAW_SYMBOL, PUT, 1, at("19:00", "2024-01-18")
        )
    )
    body = (symbols(DAY, (CALL, 7)), again, until, opra.cbbo(7, at("15:44"), 6.0, 6.1), opra.cbbo(8, at("15:45"), 1, 2))
    quotes, dropped = read_databento(opra.write(tmp_path / "live.dbn", live.live_header(), *body))
    assert quotes["symbol"].tolist() == [PUT]
    assert dropped["unknown_contract"] == 1


def test_no_snapshot_of_what_was_not_recorded(tmp_path: Path) -> None:
    path = opra.write(
        tmp_path / "live.dbn",
        live.live_header(),
        symbols(),
        ticking("10:10", "11:00"),
        opra.cbbo(7, at("10:50"), 60.0, 61.0),
        ticking("11:04", "11:05"),
        ticking("12:20", "13:32"),
        opra.cbbo(7, at("13:31"), 70.0, 71.0),
    )
    quotes, dropped = read_databento(path, times=["30min", "11:02", "12:18", "13:33", "13:34"])
    times = quotes["quote_time"].dt.tz_localize("UTC").dt.tz_convert("America/New_York").dt.strftime("%H:%M")
    # 10:30 saw no quote yet; 11:02 lies in a gap of four minutes, 11:30 to 12:18 in a long one; 13:33 is a minute after
    # the end.
    assert dict(zip(times, quotes["bid"], strict=True)) == {
        "11:00": 60.0,
        "12:30": 60.0,
        "13:00": 60.0,
        "13:30": 60.0,
        "13:33": 70.0,
    }
    assert len(quotes) + dropped.sum() == dropped.attrs["records"] + dropped.attrs["carried"]


def test_the_last_record(tmp_path: Path) -> None:
    live_path = opra.write(
        tmp_path / "live.dbn",
        live.live_header(),
        symbols(),
        opra.cbbo(8, at("13:59"), 50.0, 51.0),
        ticking("13:59", "14:06"),
        opra.cbbo(7, at("14:07"), 60.0, 61.0),
        ticking("14:07", "14:09"),
    )
    quotes, _ = read_databento(live_path, times="last")
    assert set(quotes["quote_time"]) == {pd.Timestamp("2024-01-19 19:07")}
    assert dict(zip(quotes["symbol"], quotes["age"], strict=True)) == {CALL: 0.0, PUT: 480.0}
    both, _ = read_databento(live_path, times=["last", "14:00"])
    assert set(both["quote_time"]) == {pd.Timestamp("2024-01-19 19:00"), pd.Timestamp("2024-01-19 19:07")}

    mapping = [(CALL, [(DAY, "2024-01-20", 7)]), (PUT, [(DAY, "2024-01-20", 8)])]
    head = opra.header(dbn.Schema.CBBO_1M, DAY, mapping)
    late = opra.write(
        tmp_path / "a.dbn",
        head,
        opra.cbbo(7, at("16:10"), 60.0, 61.0),
        opra.cbbo(8, at("16:20"), 50.0, 51.0),  # after the last trade
    )
    quotes, dropped = read_databento(late, times="last")
    assert quotes[["symbol", "age"]].values.tolist() == [[CALL, 300.0]]
    assert dropped["between_snapshots"] == 1
    early = opra.write(tmp_path / "b.dbn", head, opra.cbbo(7, at("09:10"), 60.0, 61.0))
    with pytest.raises(InputError, match="no quote at the times asked for"):
        read_databento(early, times="last")


def test_what_comes_late_changes_nothing_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_live_file, "BLOCK_RECORDS", 1)  # a block a record: the order is that of the stream
    path = opra.write(
        tmp_path / "live.dbn",
        live.live_header(),
        symbols(),
        opra.cbbo(7, at("10:00"), 60.0, 61.0),
        opra.cbbo(7, at("10:31"), 70.0, 71.0),
        opra.cbbo(7, at("10:29"), 65.0, 66.0),  # came after 10:31, and is older than what is known
        opra.cbbo(8, at("10:29"), 50.0, 51.0),  # the first of its contract, known from 10:31 on
        opra.cbbo(9, at("15:00", "2024-01-18"), 1.0, 2.0),  # yesterday's: another contract's number, perhaps
        ticking("10:00", "11:00"),
    )
    quotes, _ = read_databento(path, times=["10:30", "11:00"])
    assert quotes[["quote_time", "symbol", "bid", "age"]].astype(str).values.tolist() == [
        ["2024-01-19 15:30:00", CALL, "60.0", "1800.0"],
        ["2024-01-19 16:00:00", CALL, "70.0", "1740.0"],
        ["2024-01-19 16:00:00", PUT, "50.0", "1860.0"],
    ]


@pytest.mark.parametrize("suffix", [".dbn", ".dbn.zst"])
def test_a_file_may_end_anywhere(tmp_path: Path, suffix: str) -> None:
    header, body = live.live_header(), symbols() + opra.cbbo(7, at("15:40"), 60.0, 61.0)
    body += opra.cbbo(8, at("15:44"), 50.0, 51.0) + ticking("15:44", "15:45")
    whole = tmp_path / f"whole{suffix}"
    opra.write(whole, header, body)
    data = whole.read_bytes()
    path = tmp_path / f"cut{suffix}"
    counts = set()
    for end in [*range(0, len(data), 41), len(data) - 1]:
        path.write_bytes(data[:end])
        try:
            quotes, dropped = read_databento(path, times=["15:44", "15:45"])
        except (FileFormatError, InputError):
            counts.add(0)
            continue
        assert quotes["bid"].isin([60.0, 50.0]).all()
        counts.add(len(quotes))
        assert len(quotes) + dropped.sum() == dropped.attrs["records"] + dropped.attrs["carried"]
    if suffix == ".dbn":
        assert counts == {0, 4}  # an instant within a minute of the end is covered
        path.write_bytes(header + body[: 3 * 176 + 80 + 37])  # in the middle of the second quote
    else:
        frames = [zstandard.compress(part) for part in (header + body[: 3 * 176 + 80], body[3 * 176 + 80 :])]
        path.write_bytes(frames[0] + frames[1][:-3])
    assert read_databento(path, times="last")[0]["symbol"].tolist() == [CALL]


def test_send_times_at_the_end_of_every_record(tmp_path: Path) -> None:
    def sent(record: bytes) -> bytes:
        return bytes([record[0] + 2]) + record[1:] + (at("15:44")).to_bytes(8, "little")

    path = opra.write(
        tmp_path / "live.dbn",
        live.live_header(ts_out=True),
        sent(live.mapping(7, CALL, at("09:35"))),
        sent(opra.definition(7, CALL, "2024-02-16", "C", 4800.0, at("09:35"), contract_multiplier=10)),
        sent(opra.cbbo(7, at("15:44"), 60.0, 61.0)),
        sent(live.heartbeat(at("15:45"))),
    )
    quotes, _ = read_databento(path)
    assert quotes[["symbol", "bid", "multiplier"]].values.tolist() == [[CALL, 60.0, 10.0]]


def test_short_symbols_of_the_first_encoding(tmp_path: Path) -> None:
    old = bytes(
        dbn.SymbolMappingMsgV1(
            publisher_id=30,
            instrument_id=7,
            ts_event=at("09:35"),
            stype_in_symbol="SPX.OPT",
            stype_out_symbol=CALL,
            start_ts=dbn.UNDEF_TIMESTAMP,
            end_ts=dbn.UNDEF_TIMESTAMP,
        )
    )
    body = (old, opra.cbbo(7, at("15:44"), 60.0, 61.0), opra.cbbo(7, at("15:45"), 61.0, 62.0))
    quotes, _ = read_databento(opra.write(tmp_path / "live.dbn", live.live_header(version=1), *body))
    assert quotes[["symbol", "bid"]].values.tolist() == [[CALL, 61.0]]


def test_damage_is_one_clear_error(tmp_path: Path) -> None:
    quote = opra.cbbo(7, at("15:44"), 60.0, 61.0)
    for name, body, message in [
        ("short", bytes([1]) + quote[1:], "a record is said to be 4 bytes long"),
        ("long", bytes([22]) + quote[1:] + bytes(8), "a record of kind 193 is 88 bytes long"),
        ("unmapped", quote, "nothing in it maps an instrument to a symbol"),
    ]:
        path = opra.write(tmp_path / f"{name}.dbn", live.live_header(), b"" if name == "unmapped" else symbols(), body)
        with pytest.raises(FileFormatError, match=message) as caught:
            read_databento(path)
        assert path.name in str(caught.value)
    foreign = opra.write(tmp_path / "g.dbn", live.live_header(dataset="GLBX.MDP3"), quote)
    with pytest.raises(FileFormatError, match="is of the dataset GLBX"):
        read_databento(foreign)


def test_a_folder_of_everything(tmp_path: Path) -> None:
    mapping = [(CALL, [(DAY, "2024-01-20", 7)]), (PUT, [(DAY, "2024-01-20", 8)])]
    opra.write(
        tmp_path / "a.cbbo-1m.dbn.zst",
        opra.header(dbn.Schema.CBBO_1M, DAY, mapping),
        opra.cbbo(7, at("15:44"), 60.0, 61.0),
    )
    opra.write(
        tmp_path / "a.definition.dbn.zst",
        opra.header(dbn.Schema.DEFINITION, DAY),
        opra.definition(7, CALL, "2024-02-16", "C", 4800.0, at("06:30"), contract_multiplier=10),
    )
    opra.write(
        tmp_path / "a.statistics.dbn.zst",
        opra.header(dbn.Schema.STATISTICS, DAY, mapping),
        opra.open_interest(7, at("06:30"), 321),
    )
    opra.write(
        tmp_path / "b.live.dbn.zst",
        live.live_header(),
        symbols(NEXT, (PUT, 7)),
        opra.cbbo(7, at("15:44", NEXT), 50.0, 51.0),
        ticking("15:44", "15:45", NEXT),
    )
    quotes, _ = read_databento(tmp_path)
    assert quotes["symbol"].tolist() == [CALL, PUT]
    assert quotes["multiplier"].tolist() == [10.0, 100.0]
    assert quotes["open_interest"].tolist()[0] == 321
    (tmp_path / "a.cbbo-1m.dbn.zst").unlink()
    (tmp_path / "b.live.dbn.zst").unlink()
    with pytest.raises(FileFormatError, match="holds definition; reading quotes needs"):
        read_databento(tmp_path)

from __future__ import annotations

import datetime
import sys
import warnings
from pathlib import Path

import databento_dbn as dbn
import numpy as np
import pandas as pd
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import opra_files as opra
import volscen
from chain_makers import black_price
from volscen.errors import FileFormatError, InputError, MissingExtraError
from volscen.sources import ROOT_RULES, RootRule, _dbn, read_databento, read_opra_contracts
from volscen.sources._opra import closing_times, osi_parts, settlement_instants, to_utc

DAY = "2024-01-19"
CALL = opra.osi("SPXW", "2024-02-16", "C", 4800.0)
PUT = opra.osi("SPXW", "2024-02-16", "P", 4800.0)
MONTHLY = opra.osi("SPX", "2024-02-16", "C", 4800.0)
NEXT = "2024-01-20"


def one_day(*pairs: tuple[str, int]) -> list[tuple[str, list[tuple[str, str, int]]]]:
    return [(symbol, [(DAY, NEXT, number)]) for symbol, number in pairs]


THREE = one_day((CALL, 7), (PUT, 8), (MONTHLY, 9))


def minute(wall: str) -> int:
    return opra.instant(DAY, wall)


def small(path: Path, **arguments: object) -> Path:
    """Three contracts, quotes around two snapshots."""
    return opra.write(
        path,
        opra.header(dbn.Schema.CBBO_1M, DAY, THREE),
        opra.cbbo(7, minute("09:31"), None, None),
        opra.cbbo(8, minute("09:31"), 50.0, 52.0),
        opra.cbbo(7, minute("10:00"), 60.0, 61.0),
        opra.cbbo(99, minute("10:00"), 1.0, 2.0),
        opra.cbbo(7, minute("10:01"), 64.0, 65.0),
        opra.cbbo(9, minute("15:45"), 55.0, 57.0),
        opra.cbbo(7, minute("15:46"), 90.0, 91.0),
    )


def test_snapshots_hold_the_last_quote_at_or_before(tmp_path: Path) -> None:
    quotes, dropped = read_databento(small(tmp_path / "a.dbn"), times=["10:00", "15:45"])
    values = quotes[["quote_time", "symbol", "bid", "ask", "age"]].to_numpy().tolist()
    first, second = pd.Timestamp("2024-01-19 15:00"), pd.Timestamp("2024-01-19 20:45")
    assert sorted(values) == sorted(
        [
            [first, CALL, 60.0, 61.0, 0.0],
            [first, PUT, 50.0, 52.0, 29 * 60.0],
            [second, MONTHLY, 55.0, 57.0, 0.0],
            [second, CALL, 64.0, 65.0, (5 * 60 + 44) * 60.0],
            [second, PUT, 50.0, 52.0, (6 * 60 + 14) * 60.0],
        ]
    )
    # The first row of the call was overtaken, its last one follows every snapshot; one instrument is unknown.
    assert dropped[dropped > 0].to_dict() == {"between_snapshots": 2, "unknown_contract": 1}
    assert (dropped.attrs["records"], dropped.attrs["carried"]) == (7, 1)
    assert len(quotes) + dropped.sum() == 8


def test_columns_of_the_tidy_table(tmp_path: Path) -> None:
    quotes, dropped = read_databento(small(tmp_path / "a.dbn.zst"))
    assert set(quotes["quote_time"]) == {pd.Timestamp("2024-01-19 20:45")}
    assert set(quotes["date"]) == {pd.Timestamp(DAY)}
    monthly = quotes[quotes["root"] == "SPX"].iloc[0]
    weekly = quotes[quotes["symbol"] == CALL].iloc[0]
    assert monthly["expiry_time"] == pd.Timestamp("2024-02-16 14:30")  # settled at the opening
    assert weekly["expiry_time"] == pd.Timestamp("2024-02-16 21:00")
    assert (monthly["underlying"], weekly["underlying"]) == ("SPX", "SPX")
    assert set(quotes["exercise"]) == {"European"}
    assert set(quotes["multiplier"]) == {100.0}
    assert (weekly["bid_size"], weekly["ask_size"]) == (3, 4)
    assert weekly["price"] == 64.5
    assert dropped.attrs["assumed_roots"] == []


def test_two_contracts_of_one_date_and_strike_that_settle_apart_are_both_kept(tmp_path: Path) -> None:
    quotes, dropped = read_databento(small(tmp_path / "a.dbn"))
    calls = quotes[quotes["option_type"] == "C"]
    assert calls["strike"].tolist() == [4800.0, 4800.0]
    assert dropped["duplicate"] == 0


@pytest.mark.parametrize("kind", ["plain", "zstd", "frames", "blocks"])
def test_against_pandas_on_random_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    rng = np.random.default_rng(3)
    n = 3000
    symbols = [opra.osi("SPXW", "2024-02-16", "CP"[i % 2], 4000 + 5 * (i // 2)) for i in range(40)]
    number = rng.choice(np.arange(1000, 1041), n)  # the last one is unknown
    seconds = np.sort(rng.integers(0, 7 * 3600, n))
    time = minute("09:15") + seconds * 10**9
    bid = rng.integers(1, 500, n) / 10
    ask = (np.rint(10 * bid) + rng.integers(0, 9, n)) / 10
    head = opra.header(dbn.Schema.CBBO_1M, DAY, one_day(*((s, 1000 + i) for i, s in enumerate(symbols))))
    body = opra.bulk_cbbo(number, time, bid, ask)
    if kind == "frames":
        path = tmp_path / "a.dbn.zst"
        path.write_bytes(zstandard.compress(head) + zstandard.compress(body[:4001]) + zstandard.compress(body[4001:]))
    else:
        path = opra.write(tmp_path / ("a.dbn" if kind == "plain" else "a.dbn.zst"), head, body)
    if kind == "blocks":
        monkeypatch.setattr(_dbn, "BLOCK_RECORDS", 7)
        monkeypatch.setattr(_dbn, "_READ", 11)
    quotes, dropped = read_databento(path, times="30min")

    records = pd.DataFrame({"number": number, "time": time, "bid": bid, "ask": ask})
    records = records[records["number"] < 1040]
    expected, used = [], set()
    for step in range(1, 14):
        snapshot = minute("09:30") + step * 1800 * 10**9
        held = records[records["time"] <= snapshot].drop_duplicates("number", keep="last")
        used |= set(held.index)
        for row in held.itertuples():
            expected.append((snapshot, symbols[row.number - 1000], row.bid, row.ask, (snapshot - row.time) / 1e9))
    got = list(
        zip(
            quotes["quote_time"].astype("datetime64[ns]").astype(np.int64),
            quotes["symbol"],
            quotes["bid"],
            quotes["ask"],
            quotes["age"],
            strict=True,
        )
    )
    assert sorted(got) == sorted(expected)
    assert dropped["unknown_contract"] == n - len(records)
    assert dropped["between_snapshots"] == len(records) - len(used)
    assert len(quotes) + dropped.sum() == dropped.attrs["records"] + dropped.attrs["carried"]
    assert dropped.attrs["records"] == n


def test_expiries_are_exact_in_the_chain(tmp_path: Path) -> None:
    forward, vol = 4850.0, 0.14
    tau = {
        "SPX": (27 * 24 + 17.75) / 8760,  # 19 January 15:45 to 16 February 09:30
        "SPXW": (28 * 24 + 0.25) / 8760,  # the same to 16:00
    }
    pairs, records = [], []
    for root in tau:
        for strike in np.arange(4500.0, 5201.0, 50.0):
            for kind in "CP":
                number = len(pairs) + 1
                pairs.append((opra.osi(root, "2024-02-16", kind, strike), number))
                middle = black_price(forward, strike, tau[root], vol, kind == "C", 0.996)
                records.append(opra.cbbo(number, minute("15:44"), middle - 0.01, middle + 0.01))
    path = opra.write(tmp_path / "a.dbn.zst", opra.header(dbn.Schema.CBBO_1M, DAY, one_day(*pairs)), b"".join(records))
    quotes, _ = read_databento(path)
    chain = volscen.Chain(quotes)
    np.testing.assert_allclose(chain.forwards["tau"], [tau["SPX"], tau["SPXW"]], rtol=1e-13)
    np.testing.assert_allclose(chain.forwards["forward"], forward, rtol=1e-8)
    np.testing.assert_allclose(chain.quotes["implied_vol"], vol, rtol=1e-6)
    # By dates alone the day that ends at the opening counts in full.
    by_dates = volscen.Chain(quotes[quotes["root"] == "SPX"].drop(columns=["quote_time", "expiry_time"]))
    assert abs(by_dates.quotes["implied_vol"].mean() / vol - 1) > 0.004


def test_a_chain_takes_one_snapshot(tmp_path: Path) -> None:
    quotes, _ = read_databento(small(tmp_path / "a.dbn"), times=["10:00", "15:45"])
    with pytest.raises(InputError, match=r"hold 2 snapshots; keep one a day, such as quotes\[quotes\['quote_time'\]"):
        volscen.Chain(quotes)


def test_definitions_say_what_instruments_are(tmp_path: Path) -> None:
    morning = minute("06:30")
    folder = tmp_path / "definitions"
    folder.mkdir()
    opra.write(
        folder / "d.dbn.zst",
        opra.header(dbn.Schema.DEFINITION, DAY),
        opra.definition(7, CALL, "2024-02-16", "C", 4799.0, morning),
        opra.definition(7, CALL, "2024-02-16", "C", 4800.0, morning + 1, contract_multiplier=10),
        opra.definition(8, PUT, "2024-02-16", "P", 4800.0, morning + 2),
        opra.definition(9, "SPX", "2024-02-16", "K", 4800.0, morning + 3),
    )
    quotes, dropped = read_databento(small(tmp_path / "a.dbn"), definitions=folder)
    assert quotes[["symbol", "strike", "multiplier"]].to_numpy().tolist() == [
        [CALL, 4800.0, 10.0],
        [PUT, 4800.0, 100.0],
    ]
    assert dropped["unknown_contract"] == 2  # the stock, and the one that nothing mentions
    assert dropped.attrs["contracts"] == {"not_an_option": 1}


def test_numbers_change_hands_overnight(tmp_path: Path) -> None:
    friday, monday = DAY, "2024-01-22"
    mappings = [
        (CALL, [(friday, monday, 7), (monday, "2024-01-23", 8)]),
        (PUT, [(friday, monday, 8), (monday, "2024-01-23", 7)]),
    ]
    path = opra.write(
        tmp_path / "a.dbn",
        opra.header(dbn.Schema.CBBO_1M, friday, mappings, days=4),
        opra.cbbo(7, opra.instant(friday, "15:40"), 60.0, 61.0),
        opra.cbbo(8, opra.instant(friday, "15:40"), 50.0, 51.0),
        opra.cbbo(7, opra.instant(monday, "15:40"), 40.0, 41.0),
    )
    quotes, _ = read_databento(path)
    # Nothing is carried over the night: Monday has the one quote sent on Monday.
    assert quotes[["date", "symbol", "bid"]].to_numpy().tolist() == [
        [pd.Timestamp(friday), CALL, 60.0],
        [pd.Timestamp(friday), PUT, 50.0],
        [pd.Timestamp(monday), PUT, 40.0],
    ]


def test_open_interest_is_joined_by_day_and_symbol(tmp_path: Path) -> None:
    statistics = opra.write(
        tmp_path / "s.dbn.zst",
        opra.header(dbn.Schema.STATISTICS, DAY, THREE),
        opra.open_interest(7, minute("06:30"), 123, publisher=20),
        opra.open_interest(7, minute("06:30"), 123, publisher=21),
        opra.open_interest(8, minute("06:30"), 9, stat=6),  # not an open interest
    )
    quotes, _ = read_databento(small(tmp_path / "a.dbn"), statistics=statistics)
    held = dict(zip(quotes["symbol"], quotes["open_interest"], strict=True))
    assert held[CALL] == 123
    assert np.isnan(held[PUT])


def test_quotes_of_single_exchanges_are_left_out(tmp_path: Path) -> None:
    path = opra.write(
        tmp_path / "a.dbn",
        opra.header(dbn.Schema.MBP_1, DAY, THREE),
        opra.mbp(7, minute("15:00"), 60.0, 61.0, publisher=30),
        opra.mbp(7, minute("15:01"), 59.0, 69.0, publisher=24),
    )
    quotes, dropped = read_databento(path)
    assert quotes["bid"].tolist() == [60.0]
    assert dropped["not_consolidated"] == 1
    updates = opra.write(
        tmp_path / "b.dbn",
        opra.header(dbn.Schema.CMBP_1, DAY, THREE),
        opra.cmbp(7, minute("15:00") + 17, 60.0, 61.0),
        opra.cmbp(7, minute("15:45"), 62.0, 63.0),
        opra.cmbp(7, minute("15:45") + 1, 64.0, 65.0),
    )
    quotes, _ = read_databento(updates)
    assert quotes["bid"].tolist() == [62.0]


def test_rows_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    saturday = opra.osi("SPXW", "2024-02-17", "C", 4800.0)
    pairs = [(CALL, 1), (PUT, 2), (MONTHLY, 3), (saturday, 4), ("NOT A SYMBOL", 5), (opra.osi("SPXW", DAY, "C", 1), 6)]
    time = minute("15:00")
    path = opra.write(
        tmp_path / "a.dbn",
        opra.header(dbn.Schema.CBBO_1M, DAY, one_day(*pairs)),
        opra.cbbo(1, time, 60.0, 61.0),
        opra.cbbo(2, time, 0.0, 61.0),
        opra.cbbo(3, time, 60.0, 61.0, flags=130 | 4),
        opra.cbbo(4, time, 60.0, 61.0),
        opra.cbbo(5, time, 60.0, 61.0),
        opra.cbbo(6, time, None, 61.0),
    )
    quotes, dropped = read_databento(path)
    assert quotes["symbol"].tolist() == [CALL]
    assert dropped[dropped > 0].to_dict() == {
        "unknown_contract": 2,
        "doubtful_book": 1,
        "missing_price": 1,
        "zero_bid": 1,
    }
    assert dropped.attrs["contracts"] == {"unknown_symbol": 1, "weekend_expiry": 1}


def test_an_option_lives_until_its_own_instant(tmp_path: Path) -> None:
    today = [(opra.osi("SPXW", DAY, "C", 4800.0), 1), (opra.osi("SPX", DAY, "C", 4800.0), 2)]
    path = opra.write(
        tmp_path / "a.dbn",
        opra.header(dbn.Schema.CBBO_1M, DAY, one_day(*today)),
        opra.cbbo(1, minute("15:00"), 60.0, 61.0),
        opra.cbbo(2, minute("15:00"), 60.0, 61.0),
    )
    quotes, dropped = read_databento(path)
    assert quotes["root"].tolist() == ["SPXW"]
    assert dropped["expired"] == 1


def test_single_names_altered_contracts_and_own_rules(tmp_path: Path) -> None:
    pairs = [(opra.osi(root, "2024-02-16", "C", 150.0), i) for i, root in enumerate(("AAPL", "AAPL1", "ZZX"))]
    path = opra.write(
        tmp_path / "a.dbn",
        opra.header(dbn.Schema.CBBO_1M, DAY, one_day(*pairs)),
        *(opra.cbbo(i, minute("15:00"), 6.0, 6.1) for i in range(3)),
    )
    own = RootRule("ZZ index", "European", "AM", 10)
    quotes, dropped = read_databento(path, rules={"ZZX": own})
    by_root = quotes.set_index("root")
    assert by_root["adjusted"].to_dict() == {"AAPL": False, "AAPL1": True, "ZZX": False}
    assert by_root["exercise"].to_dict() == {"AAPL": "American", "AAPL1": "American", "ZZX": "European"}
    assert by_root["underlying"].to_dict() == {"AAPL": "AAPL", "AAPL1": "AAPL", "ZZX": "ZZ index"}
    assert by_root.loc["ZZX", "multiplier"] == 10
    assert by_root.loc["ZZX", "expiry_time"] == pd.Timestamp("2024-02-16 14:30")
    assert dropped.attrs["assumed_roots"] == ["AAPL", "AAPL1"]
    only, _ = read_databento(path, roots="AAPL")
    assert only["root"].tolist() == ["AAPL"]
    with pytest.raises(InputError, match=r"no root of \['SPY'\] among AAPL, AAPL1, ZZX"):
        read_databento(path, roots=["SPY"])
    for bad, message in [([], "empty"), (["spy"], "'spy'")]:
        with pytest.raises(InputError, match=message):
            read_databento(path, roots=bad)
    with pytest.raises(InputError, match="maps to str"):
        read_databento(path, rules={"ZZX": "European"})  # type: ignore[dict-item]
    for wrong in ({"exercise": "Bermudan"}, {"settlement": "noon"}, {"multiplier": 0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            RootRule(**{"underlying": "X", "exercise": "European", "settlement": "PM", **wrong})  # type: ignore[arg-type]


def test_half_days_close_early(tmp_path: Path) -> None:
    day, after = "2024-07-03", "2024-07-04"
    weekly = opra.osi("SPXW", day, "C", 5500.0)
    later = opra.osi("SPXW", "2024-07-19", "C", 5500.0)
    mappings = [(weekly, [(day, after, 1)]), (later, [(day, after, 2)])]
    path = opra.write(
        tmp_path / "a.dbn",
        opra.header(dbn.Schema.CBBO_1M, day, mappings),
        *(opra.cbbo(i, opra.instant(day, "12:40"), 6.0, 6.2) for i in (1, 2)),
    )
    quotes, _ = read_databento(path)
    assert quotes["quote_time"].unique() == [np.datetime64("2024-07-03T16:45")]
    assert quotes["expiry_time"].tolist() == [pd.Timestamp("2024-07-03 17:00"), pd.Timestamp("2024-07-19 20:00")]
    with pytest.raises(InputError, match="no quote at the times asked for among 2 records"):
        read_databento(path, times="15:45")


def test_a_morning_says_nothing_about_the_afternoon(tmp_path: Path) -> None:
    start = minute("00:00")
    head = dbn.Metadata(
        dataset="OPRA.PILLAR",
        schema=dbn.Schema.CBBO_1M,
        stype_in=dbn.SType.PARENT,
        stype_out=dbn.SType.INSTRUMENT_ID,
        start=start,
        end=minute("12:00"),
        symbols=["SPX.OPT"],
        mappings=[opra._Mapping(CALL, [opra._Interval(DAY, NEXT, 7)])],
        version=3,
    ).encode()
    path = opra.write(tmp_path / "a.dbn", head, opra.cbbo(7, minute("11:00"), 6.0, 6.2))
    quotes, _ = read_databento(path, times="30min")
    assert quotes["quote_time"].max() == pd.Timestamp("2024-01-19 17:00")  # noon
    with pytest.raises(InputError, match="no quote at the times asked for"):
        read_databento(path)


def test_several_files_and_folders(tmp_path: Path) -> None:
    a = small(tmp_path / "a.dbn")
    monday = "2024-01-22"
    opra.write(
        tmp_path / "b.dbn.zst",
        opra.header(dbn.Schema.CBBO_1M, monday, [(CALL, [(monday, "2024-01-23", 7)])]),
        opra.cbbo(7, opra.instant(monday, "15:40"), 60.0, 61.0),
    )
    both, _ = read_databento(tmp_path)
    listed, _ = read_databento([a, tmp_path / "b.dbn.zst"])
    pd.testing.assert_frame_equal(both, listed)
    assert both["date"].nunique() == 2
    twice, dropped = read_databento([a, a])
    assert dropped["duplicate"] == len(twice)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"holds no \.dbn"):
        read_databento(tmp_path / "none")
    with pytest.raises(InputError, match="source names no file"):
        read_databento([])
    with pytest.raises(InputError, match="source must be a path or several, not int"):
        read_databento([3])  # type: ignore[list-item]


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    good = small(folder / "good.dbn.zst").read_bytes()
    plain = small(folder / "good.dbn").read_bytes()
    header = opra.header(dbn.Schema.CBBO_1M, DAY, THREE)
    late, early = opra.cbbo(7, minute("15:00"), 1.0, 2.0), opra.cbbo(7, minute("14:00"), 1.0, 2.0)

    def put(name: str, data: bytes) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return {
        "truncated zstd": (put("t.dbn.zst", good[:-5]), "the zstd stream ends early: the file is truncated"),
        "damaged zstd": (put("d.dbn.zst", good[:6] + b"\xff" * 30 + good[36:]), "damaged zstd stream"),
        "truncated": (put("t.dbn", plain[:-5]), "ends in the middle of a record"),
        "header": (put("h.dbn", plain[:100]), "ends in the middle of its header"),
        "short": (put("s.dbn", b"DB"), "too short"),
        "length": (put("l.dbn", plain[:4] + b"\xff\xff\xff\xff" + plain[8:]), "header is damaged"),
        "undecodable": (put("u.dbn", plain[:8] + b"\xff" * 200 + plain[208:]), "."),
        "foreign": (put("f.dbn", b"PK\x03\x04" + bytes(100)), "no DBN file; give one written by databento"),
        "schema": (
            opra.write(folder / "o.dbn", opra.header(dbn.Schema.OHLCV_1D, DAY, THREE)),
            "holds ohlcv-1d; reading quotes needs cbbo-1m, cbbo-1s, cmbp-1, tcbbo or mbp-1",
        ),
        "definition": (opra.write(folder / "x.dbn", opra.header(dbn.Schema.DEFINITION, DAY)), "holds definition"),
        "empty": (opra.write(folder / "m.dbn", opra.header(None, DAY)), "nothing in it maps an instrument to a symbol"),
        "dataset": (
            opra.write(folder / "g.dbn", opra.header(dbn.Schema.CBBO_1M, DAY, THREE, dataset="GLBX.MDP3")),
            "is of the dataset GLBX.MDP3; options are read from OPRA.PILLAR only",
        ),
        "order": (opra.write(folder / "r.dbn", header, late, early), "not in the order of time"),
        "kind": (
            opra.write(
                folder / "k.dbn", header, late, opra.definition(7, CALL, "2024-02-16", "C", 1.0, minute("16:00"))[:480]
            ),
            "holds records that are not of its schema cbbo-1m",
        ),
        "unmapped": (
            opra.write(folder / "n.dbn", opra.header(dbn.Schema.CBBO_1M, DAY), late),
            "maps no instrument to a symbol; give the day's definitions with definitions=",
        ),
        "absent": (folder / "absent.dbn", "no such file"),
        "twice": (
            opra.write(folder / "2.dbn", opra.header(dbn.Schema.CBBO_1M, DAY, one_day((CALL, 7), (PUT, 7))), late),
            "instrument 7 stands for two contracts on 2024-01-19",
        ),
    }


def test_bad_files_are_one_clear_error(tmp_path: Path) -> None:
    for name, (path, message) in bad_files(tmp_path).items():
        with pytest.raises(FileFormatError, match=message) as caught:
            read_databento(path)
        assert path.name in str(caught.value), name
    with pytest.raises(FileFormatError, match="definitions= needs definition"):
        read_databento(small(tmp_path / "a.dbn"), definitions=small(tmp_path / "b.dbn"))
    with pytest.raises(
        FileFormatError, match="holds the mixed schemas of a live session; definitions= needs definition"
    ):
        read_databento(small(tmp_path / "a.dbn"), definitions=opra.write(tmp_path / "live.dbn", opra.header(None, DAY)))
    with pytest.raises(FileFormatError, match="statistics= needs statistics"):
        read_databento(small(tmp_path / "a.dbn"), statistics=small(tmp_path / "b.dbn"))


@pytest.mark.parametrize("times", ["noon", "25:00", "0min", [], ["10:00", 3], "close+5min", ""])
def test_times_that_mean_nothing(tmp_path: Path, times: object) -> None:
    with pytest.raises(InputError, match="times"):
        read_databento(small(tmp_path / "a.dbn"), times=times)  # type: ignore[arg-type]


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small(tmp_path / "a.dbn")
    monkeypatch.setitem(sys.modules, "databento_dbn", None)
    with pytest.raises(MissingExtraError, match=r"volscen\[databento\]"):
        read_databento(path)


def test_reading_needs_no_client(tmp_path: Path) -> None:
    import subprocess

    path = small(tmp_path / "a.dbn")
    code = (
        "import sys; from volscen.sources import read_databento\n"
        f"read_databento({str(path)!r}); print('databento' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip() == "False"


def test_contracts_equal_what_databento_reads(tmp_path: Path) -> None:
    from databento import DBNStore

    path = small(tmp_path / "a.dbn.zst")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = DBNStore.from_file(path).to_df()
    theirs = {(row.instrument_id, row.symbol) for row in frame.itertuples() if isinstance(row.symbol, str)}
    ours = read_opra_contracts(path)
    assert theirs == set(zip(ours["instrument_id"], ours["symbol"], strict=True))
    assert ours["reason"].tolist() == ["", "", ""]


def test_symbols_are_taken_apart() -> None:
    bad = [
        "SPY",
        "SP Y  240119C00150500",
        "spy   240119C00150500",
        "SPY   240230C00150500",
        "SPY   241301C00150500",
        "SPY   240119X00150500",
        " SPY  240119C00150500",
        "SPY   240119C001505000",
        "AAPL77240119C00150500",
        "1     240119C00150500",
        "SPY   2401a9C00150500",
        "",
    ]
    parts = osi_parts([*bad, "BRKB  240119P00350500"])
    assert parts.ok.tolist() == [False] * len(bad) + [True]
    assert (parts.root[-1], parts.option_type[-1], parts.strike[-1]) == ("BRKB", "P", 350.5)
    assert str(parts.expiry[-1]) == "2024-01-19"


def test_saturdays_of_old_listings_are_the_friday_before(tmp_path: Path) -> None:
    day, after = "2014-06-06", "2014-06-07"
    symbol = opra.osi("AAPL", "2015-01-17", "C", 100.0)
    path = opra.write(
        tmp_path / "a.dbn",
        opra.header(dbn.Schema.CBBO_1M, day, [(symbol, [(day, after, 1)])]),
        opra.cbbo(1, opra.instant(day, "15:40"), 6.0, 6.2),
    )
    quotes, _ = read_databento(path)
    assert quotes["expiry"].tolist() == [pd.Timestamp("2015-01-16")]
    assert quotes["expiry_time"].tolist() == [pd.Timestamp("2015-01-16 21:00")]


def test_half_days_against_the_exchange_calendar() -> None:
    calendars = pytest.importorskip("exchange_calendars")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about what the calendars do inside
        calendar = calendars.get_calendar("XNYS", start="2013-01-01", end="2026-12-31")
        closes, opens = (side.dt.tz_localize(None).to_numpy() for side in (calendar.closes, calendar.opens))
    sessions = calendar.sessions.to_numpy().astype("datetime64[D]")
    half = sessions[closing_times(sessions) == np.timedelta64(13 * 60, "m")]
    assert half.tolist() == calendar.early_closes.to_numpy().astype("datetime64[D]").tolist()
    got = settlement_instants(sessions, np.zeros(len(sessions), dtype=bool))
    np.testing.assert_array_equal(got, closes)
    np.testing.assert_array_equal(settlement_instants(sessions, np.ones(len(sessions), dtype=bool)), opens)


def test_new_york_times() -> None:
    wall = np.array(["2024-03-08T16:00", "2024-03-11T16:00"], dtype="datetime64[m]")  # the clocks changed between
    assert to_utc(wall).astype("datetime64[m]").astype(str).tolist() == ["2024-03-08T21:00", "2024-03-11T20:00"]


def test_rules_of_index_roots() -> None:
    """As the exchanges' contract specifications state them."""
    at_open = {"SPX", "NDX", "RUT", "RUI", "DJX", "VIX", "VIXW"}
    at_close = {"SPXW", "XSP", "NDXP", "XND", "RUTW", "MRUT", "XEO", "OEX"}
    assert {root for root, rule in ROOT_RULES.items() if rule.settlement == "AM"} == at_open
    assert {root for root, rule in ROOT_RULES.items() if rule.settlement == "PM"} == at_close
    assert {root for root, rule in ROOT_RULES.items() if rule.exercise == "American"} == {"OEX"}
    assert {rule.multiplier for rule in ROOT_RULES.values()} == {100.0}
    assert {root: ROOT_RULES[root].underlying for root in ("SPXW", "NDXP", "RUTW", "VIXW")} == {
        "SPXW": "SPX",
        "NDXP": "NDX",
        "RUTW": "RUT",
        "VIXW": "VIX",
    }


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[A-Z]{1,5}[0-9]?", fullmatch=True),
            st.dates(datetime.date(2000, 1, 1), datetime.date(2099, 12, 31)),
            st.sampled_from("CP"),
            st.integers(0, 99_999_999),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_every_symbol_is_read_back(contracts: list[tuple[str, datetime.date, str, int]]) -> None:
    parts = osi_parts([f"{root:<6}{day:%y%m%d}{kind}{mills:08d}" for root, day, kind, mills in contracts])
    assert parts.ok.all()
    read = zip(parts.root.tolist(), parts.expiry.tolist(), parts.option_type.tolist(), parts.strike, strict=True)
    assert list(read) == [(root, day, kind, mills / 1000) for root, day, kind, mills in contracts]


def test_quotes_at_trades(tmp_path: Path) -> None:
    path = opra.write(
        tmp_path / "a.dbn",
        opra.header(dbn.Schema.TCBBO, DAY, THREE),
        opra.cmbp(7, minute("15:00"), 60.0, 61.0),
        opra.cmbp(8, minute("15:01"), 50.0, 52.0),
    )
    quotes, _ = read_databento(path)
    assert quotes["bid"].tolist() == [60.0, 50.0]

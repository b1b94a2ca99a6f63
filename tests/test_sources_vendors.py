"""OptionMetrics, LEAN and Deribit files, and tables in other units."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars
import pytest
from scipy.stats import norm

import volscen
from chain_makers import black_price, svi_vol
from volscen import schema
from volscen.errors import FileFormatError, InputError
from volscen.sources import (
    read_deribit,
    read_lean,
    read_optionmetrics,
    read_optionmetrics_surface,
    read_table,
)

STRIKES = np.arange(2600.0, 3401.0, 50.0)


# -------------------------------------------------------------------------------------------- OptionMetrics
def ivydb(**columns: Any) -> pd.DataFrame:
    """A chain on 2020-01-02 with 3,000 as its forward, settled at the opening of 2020-02-21."""
    tau = (49 * 24 + 17.5) / 8760  # 16:00 to 09:30
    is_call = np.tile([True, False], STRIKES.size)
    strike = np.repeat(STRIKES, 2)
    middle = black_price(3000.0, strike, tau, 0.15, is_call, 0.998)
    table = pd.DataFrame(
        {
            "secid": 108105,
            "date": 20200102,
            "exdate": 20200221,
            "cp_flag": np.where(is_call, "C", "P"),
            "strike_price": (1000 * strike).astype(int),
            "best_bid": middle - 0.005,
            "best_offer": middle + 0.005,
            "volume": 5,
            "open_interest": 7,
            "impl_volatility": 0.15,
            "delta": -99.99,
            "am_settlement": 1,
            "ss_flag": "0",
            "exercise_style": "E",
        }
    )
    return table.assign(**columns)


def test_ivydb_gives_the_volatility_back() -> None:
    quotes, dropped = read_optionmetrics(ivydb())
    assert dropped.sum() == 0
    assert set(quotes["underlying"]) == {"108105"}
    assert set(quotes["exercise"]) == {"European"}
    assert not quotes["adjusted"].any()
    assert quotes["delta"].isna().all()
    assert quotes["open_interest"].tolist() == [7.0] * len(quotes)
    chain = volscen.Chain(quotes)
    np.testing.assert_allclose(chain.quotes["implied_vol"], 0.15, rtol=1e-6)
    np.testing.assert_allclose(chain.forwards["tau"], (49 * 24 + 17.5) / 8760, rtol=1e-13)
    whole_days = volscen.Chain(read_optionmetrics(ivydb().drop(columns="am_settlement"))[0])
    assert whole_days.forwards["tau"].tolist() == [50 / 365]


@pytest.mark.parametrize("kind", ["csv", "upper", "parquet", "polars", "lazy"])
def test_ivydb_in_other_wrappings(tmp_path: Path, kind: str) -> None:
    expected, _ = read_optionmetrics(ivydb())
    table = ivydb(date="2020-01-02", exdate="2020-02-21")
    source: Any = tmp_path / f"prices.{'parquet' if kind == 'parquet' else 'csv'}"
    if kind == "csv":
        table.to_csv(source, index=False)
    elif kind == "upper":
        table.rename(columns=str.upper).to_csv(source, index=False)
    elif kind == "parquet":
        table.to_parquet(source)
    else:
        source = polars.from_pandas(table)
        source = source.lazy() if kind == "lazy" else source
    quotes, _ = read_optionmetrics(source)
    pd.testing.assert_frame_equal(quotes, expected)


def test_ivydb_rows_that_cannot_be_used() -> None:
    n = 2 * STRIKES.size
    flags = ["E", "1", *["0"] * (n - 2)]
    exdate = [20200221, 20200221, 20200222, *[20200221] * (n - 3)]
    bid = ivydb()["best_bid"].to_numpy().copy()
    bid[3] = -99.99
    quotes, dropped = read_optionmetrics(ivydb(ss_flag=flags, exdate=exdate, best_bid=bid))
    assert dropped[dropped > 0].to_dict() == {"error_record": 1, "weekend_expiry": 1, "missing_price": 1}
    assert quotes["adjusted"].sum() == 1
    old, _ = read_optionmetrics(ivydb(date=20100104, exdate=20100220))  # a Saturday, as they then were
    assert set(old["expiry"]) == {pd.Timestamp("2010-02-19")}
    assert set(old["expiry_time"]) == {pd.Timestamp("2010-02-19 14:30")}


def test_ivydb_underlyings_and_spot() -> None:
    both = pd.concat([ivydb(ticker="SPX"), ivydb(ticker="NDX", secid=102480)])
    quotes, _ = read_optionmetrics(both, underlying="NDX", spot=pd.Series({pd.Timestamp("2020-01-02"): 2999.0}))
    assert set(quotes["underlying"]) == {"NDX"}
    assert set(quotes["spot"]) == {2999.0}
    assert len(read_optionmetrics(both, underlying=108105)[0]) == len(quotes)
    for underlying, message in [("RUT", "no row of ticker 'RUT'"), (5, "no row of secid 5")]:
        with pytest.raises(InputError, match=message):
            read_optionmetrics(both, underlying=underlying)
    with pytest.raises(InputError, match="no column ticker"):
        read_optionmetrics(ivydb(), underlying="SPX")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": ["best_bid", "exdate"]}, r"option prices \(opprcd\) has the column exdate, best_bid, which this one"),
        ({"am_settlement": 2}, "am_settlement must hold 0 or 1"),
        ({"date": 1577923200}, "column date holds numbers that are no dates"),
        ({"date": pd.Timestamp("2020-01-02", tz="UTC")}, "column date bears a time zone"),
        ({"exercise_style": "B"}, "exercise must hold European or American"),
        ({"cp_flag": 1}, "no usable row among 34 .unknown_option_type 34"),
    ],
)
def test_ivydb_bad_input_names_file_and_column(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    table = ivydb().drop(columns=change.pop("drop", [])).assign(**change)
    path = tmp_path / "prices.parquet"
    table.to_parquet(path)
    with pytest.raises(InputError, match=message) as caught:
        read_optionmetrics(path)
    assert "prices.parquet" in str(caught.value)
    with pytest.raises(InputError, match="holds no row"):
        read_optionmetrics(ivydb().iloc[:0])


def deltas(
    vol: Any, days: tuple[int, ...] = (30, 60, 182), dates: tuple[int, ...] = (20200102, 20200103)
) -> pd.DataFrame:
    """Standardised surface of a volatility of (ln(K/F), tau), by iteration from strikes to deltas; F = 3000 + days."""
    rows = []
    for date in dates:
        for n in days:
            tau = n / 365
            for delta in (*range(10, 91, 5), *range(-90, -9, 5)):
                call = delta / 100 if delta > 0 else 1 + delta / 100
                k = 0.0
                for _ in range(40):
                    sd = float(vol(k, tau)) * np.sqrt(tau)
                    k = sd**2 / 2 - norm.ppf(call) * sd
                rows.append((date, n, delta, float(vol(k, tau)), (3000 + n) * np.exp(k), "C" if delta > 0 else "P"))
    return pd.DataFrame(rows, columns=["date", "days", "delta", "impl_volatility", "impl_strike", "cp_flag"])


def test_standardised_surface_becomes_a_history() -> None:
    tau, moneyness = [30 / 365, 0.1, 0.25, 182 / 365], [0.95, 1.0, 1.03]
    history, dropped = read_optionmetrics_surface(deltas(svi_vol), tau=tau, moneyness=moneyness)
    schema.validate(history, schema=schema.HISTORY)
    assert dropped.sum() == 0
    # The smile's variance grows in proportion to tau, so that interpolation over maturities is exact.
    expected = svi_vol(np.log(moneyness), 1.0)
    np.testing.assert_allclose(history["implied_vol"].values, np.broadcast_to(expected, (2, 4, 3)), atol=2e-5)
    np.testing.assert_allclose(history["forward"].values[0, [0, 3]], [3030, 3182], rtol=1e-9)
    np.testing.assert_allclose(history["spot"].values, 3030, rtol=1e-9)
    assert np.all(history["quality"] == 1)


def test_decimal_deltas_and_calls_alone_say_the_same() -> None:
    table = deltas(svi_vol)
    grid: dict[str, Any] = {"tau": [0.1, 0.25], "moneyness": [0.95, 1.0, 1.03]}
    expected = read_optionmetrics_surface(table, **grid)[0]["implied_vol"].values
    decimal = read_optionmetrics_surface(table.assign(delta=table["delta"] / 100), **grid)[0]
    np.testing.assert_allclose(decimal["implied_vol"].values, expected, rtol=1e-12)
    calls = read_optionmetrics_surface(table[table["cp_flag"] == "C"], **grid)[0]
    np.testing.assert_allclose(calls["implied_vol"].values, expected, rtol=1e-9)


def test_surfaces_that_do_not_reach_are_dropped_and_flagged() -> None:
    table = deltas(svi_vol)
    table = table[~((table["date"] == 20200103) & (table["days"] == 182))]
    spot = {"2020-01-02": 2990.0, "2020-01-03": 3000.0}
    history, dropped = read_optionmetrics_surface(table, tau=[0.1, 0.3], moneyness=[0.9, 1.0], spot=spot)
    assert dropped[dropped > 0].to_dict() == {"out_of_reach": 1}
    assert history["spot"].values.tolist() == [2990.0]
    assert history["quality"].values[0].tolist() == [[2, 1], [1, 1]]
    lowest = svi_vol(np.log(0.9), 1.0)
    assert history["implied_vol"].values[0, 0, 0] < lowest  # flat beyond the last delta
    with pytest.raises(InputError, match=r"not one day gives a surface \(out_of_reach 2"):
        read_optionmetrics_surface(table, tau=[0.1], moneyness=[0.5, 1.0], spot=spot)
    with pytest.raises(InputError, match="no_price 2"):
        read_optionmetrics_surface(table, tau=[0.1], moneyness=[1.0], spot={"2021-01-04": 1.0})
    with pytest.raises(InputError, match="too_few_points 2"):
        read_optionmetrics_surface(table[table["delta"].isin([50, 45])], tau=[0.1], moneyness=[1.0])
    broken = table.assign(impl_volatility=np.where(table["delta"] == 50, -99.99, table["impl_volatility"]))
    _, dropped = read_optionmetrics_surface(broken, tau=[0.1], moneyness=[1.0])
    assert dropped["missing_value"] == (table["delta"] == 50).sum()
    with pytest.raises(InputError, match="has no impl_strike, so forwards are unknown; give the prices with spot="):
        read_optionmetrics_surface(table.drop(columns="impl_strike"), tau=[0.1], moneyness=[1.0])
    with pytest.raises(InputError, match=r"standardised surfaces \(vsurfd\) has the column days"):
        read_optionmetrics_surface(ivydb(), tau=[0.1], moneyness=[1.0])


# ---------------------------------------------------------------------------------------------------- LEAN
def archive(path: Path, entries: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, text in entries.items():
            file.writestr(name, text)
    return path


DAILY_ROW = "20151223 00:00,2500,2500,500,1000,156,7500,7500,7000,7000,154"


def test_daily_archive(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "goog_2015_quote_american.zip",
        {
            "goog_quote_american_call_9550000_20160219.csv": f"{DAILY_ROW}\n{DAILY_ROW.replace('1223', '1224')}",
            "goog_quote_american_put_5000000_20160116.csv": "20151223 00:00,,,,,0,5000,5500,5000,5500,52",
            "goog_quote_american_put_5050000_20160115.csv": "20151223 00:00,,,,,0,,,,,0",
        },
    )
    quotes, dropped = read_lean(path)
    assert dropped[dropped > 0].to_dict() == {"weekend_expiry": 1, "no_quote_yet": 1}
    assert dropped.attrs["rows"] == len(quotes) + dropped.sum()
    assert (
        quotes[["underlying", "exercise", "strike", "bid", "ask", "bid_size", "ask_size"]].to_numpy().tolist()
        == [["GOOG", "American", 955.0, 0.1, 0.7, 156, 154]] * 2
    )
    # Christmas Eve is a half-day.
    assert quotes["quote_time"].tolist() == [pd.Timestamp("2015-12-23 21:00"), pd.Timestamp("2015-12-24 18:00")]
    assert set(quotes["expiry_time"]) == {pd.Timestamp("2016-02-19 21:00")}
    one_sided = archive(
        tmp_path / "one.zip",
        {
            "goog_quote_american_call_9550000_20160219.csv": DAILY_ROW,
            "goog_quote_american_put_5000000_20160115.csv": "20151223 00:00,,,,,0,5000,5500,5000,5500,52",
        },
    )
    assert read_lean(one_sided)[1]["zero_bid"] == 1


def test_minute_archive(tmp_path: Path) -> None:
    def row(minute: int, bid: int) -> str:
        return f"{minute * 60_000},1,1,1,{bid},5,2,2,2,{bid + 1000},6"

    name = "20210106_spx_minute_quote_european_call_37000000_20210115.csv"
    path = archive(
        tmp_path / "20210106_quote_european.zip",
        {name: "\n".join(row(m, b) for m, b in ((570, 10_000), (599, 20_000), (600, 30_000), (944, 40_000)))},
    )
    quotes, dropped = read_lean(path, times=["10:00", "close-15min"])
    # The minute that begins at 09:59 ends by 10:00, the one that begins then does not.
    assert quotes["bid"].tolist() == [2.0, 4.0]
    assert quotes["age"].tolist() == [0.0, 0.0]
    assert quotes["quote_time"].tolist() == [pd.Timestamp("2021-01-06 15:00"), pd.Timestamp("2021-01-06 20:45")]
    assert set(quotes["expiry_time"]) == {pd.Timestamp("2021-01-15 14:30")}
    assert dropped[dropped > 0].to_dict() == {"after_snapshot": 2}
    with pytest.raises(InputError, match="no quote at the times asked for"):
        read_lean(path, times="09:30")


SNAPSHOT = """#expiry,strike,right,open,high,low,close,volume,open_interest,implied_volatility
,,,747.93,748.77,747.86,748.40,106129,,
20151231,450,C,300.05,301.15,296.75,298.30,3,11,1.74
20151231,450,P,0.05,0.05,0.05,0.05,0,,1.74
"""


def test_snapshot(tmp_path: Path) -> None:
    folder = tmp_path / "goog"
    folder.mkdir()
    flat = tmp_path / "option__usa__universes__goog__20151224.csv"
    for path in (folder / "20151224.csv", flat):
        path.write_text(SNAPSHOT)
        quotes, dropped = read_lean(path)
        assert dropped.sum() == 0
        assert quotes[["date", "underlying", "strike", "price", "spot", "volume", "exercise"]].to_numpy().tolist() == [
            [pd.Timestamp("2015-12-24"), "GOOG", 450.0, 298.3, 748.4, 3.0, "American"],
            [pd.Timestamp("2015-12-24"), "GOOG", 450.0, 0.05, 748.4, 0.0, "American"],
        ]


def test_lean_bad_files(tmp_path: Path) -> None:
    whole = archive(tmp_path / "whole.zip", {"goog_quote_american_call_9550000_20160219.csv": DAILY_ROW})
    (tmp_path / "torn.zip").write_bytes(whole.read_bytes()[:60])
    (tmp_path / "20151224.csv").write_text("a,b\n1,2\n")
    (tmp_path / "chain.csv").write_text(SNAPSHOT)
    minute = "20210106_spx_minute_quote_european_call_37000000_20210115.csv"
    cases = {
        "absent.zip": "no such file",
        "torn.zip": "not a readable zip archive",
        "20151224.csv": "has the column expiry, strike, right, close, which this one lacks",
        "chain.csv": "the name of a chain snapshot is its date",
        "19990101.csv": "no such file",
        archive(tmp_path / "equity.zip", {"spy.csv": "x"}).name: "entry 'spy.csv' holds no daily or minute quotes",
        archive(tmp_path / "none.zip", {}).name: "the archive is empty",
        archive(
            tmp_path / "short.zip", {"goog_quote_american_call_1_20160219.csv": "20151223 00:00,1,2"}
        ).name: "11 fields",
        archive(tmp_path / "date.zip", {"goog_quote_american_call_1_20160219.csv": "2" + DAILY_ROW}).name: "is no date",
        archive(tmp_path / "time.zip", {minute: "x" + DAILY_ROW}).name: "is no time of a minute",
        archive(
            tmp_path / "mix.zip", {minute: DAILY_ROW, "goog_quote_american_call_1_20160219.csv": DAILY_ROW}
        ).name: "mixes daily and minute",
    }
    for name, message in cases.items():
        with pytest.raises(FileFormatError, match=message) as caught:
            read_lean(tmp_path / name)
        assert name in str(caught.value)
    with pytest.raises(InputError, match="source mixes archives"):
        read_lean([whole, tmp_path / "chain.csv"])
    with pytest.raises(InputError, match="names no file"):
        read_lean([])


# ------------------------------------------------------------------------------------------------- Deribit
FORWARD = {"27SEP24": 62_000.0, "27DEC24": 64_500.0}
TAKEN = pd.Timestamp("2024-07-02 12:00")


def coin_answer(vol: float = 0.6) -> dict[str, Any]:
    """Book summaries of inverse options, priced by the textbook in dollars and divided by the forward."""
    rows: list[dict[str, Any]] = []
    for name, forward in FORWARD.items():
        expiry = pd.Timestamp(f"2024-{'09' if 'SEP' in name else '12'}-27 08:00")
        tau = (expiry - TAKEN) / pd.Timedelta(days=365)
        for strike in range(40_000, 90_001, 5_000):
            for kind in "CP":
                coins = black_price(forward, strike, tau, vol, kind == "C") / forward
                rows.append(
                    {
                        "instrument_name": f"BTC-{name}-{strike}-{kind}",
                        "bid_price": coins - 5e-8,
                        "ask_price": coins + 5e-8,
                        "mark_iv": 100 * vol,
                        "underlying_price": forward,
                        "estimated_delivery_price": 61_000.0,
                        "open_interest": 10.5,
                        "volume": 2.0,
                        "creation_timestamp": TAKEN.value // 10**6 - 5,
                    }
                )
    return {"jsonrpc": "2.0", "result": rows, "usOut": TAKEN.value // 10**3}


def test_inverse_options_give_deribits_volatility(tmp_path: Path) -> None:
    path = tmp_path / "book.json"
    path.write_text(json.dumps(coin_answer()))
    quotes, dropped = read_deribit(path)
    assert dropped.sum() == 0
    assert dropped.attrs["rows"] == 44
    assert set(quotes["quote_time"]) == {TAKEN}
    assert set(quotes["expiry_time"]) == {pd.Timestamp("2024-09-27 08:00"), pd.Timestamp("2024-12-27 08:00")}
    chain = volscen.Chain(quotes)
    np.testing.assert_allclose(chain.forwards["forward"], list(FORWARD.values()), rtol=1e-6)
    np.testing.assert_allclose(chain.forwards["discount_factor"], 1.0, atol=1e-6)
    np.testing.assert_allclose(chain.quotes["implied_vol"], 0.6, rtol=1e-5)
    assert (chain.spot, chain.spot_source) == (61_000.0, "quotes")
    assert chain.underlying == "BTC"


def test_deribit_rows_that_cannot_be_used() -> None:
    answer = coin_answer()
    first = answer["result"][0]
    answer["result"] += [
        {**first, "instrument_name": "BTC-PERPETUAL"},
        {**first, "instrument_name": "BTC-31SEP24-60000-C"},
        {**first, "instrument_name": "BTC-27XXX24-60000-C"},
        {**first, "instrument_name": "ETH-27SEP24-3000-C"},
        {**first, "instrument_name": "BTC-27SEP24-61000-C", "underlying_price": None},
        {**first, "instrument_name": "BTC-27SEP24-61000-P", "bid_price": None},
        {**first, "instrument_name": "BTC-27SEP24-62000-P", "ask_price": None},
        {**first, "instrument_name": "BTC-1JUL24-62000-P"},
    ]
    quotes, dropped = read_deribit(answer, currency="BTC")
    assert dropped[dropped > 0].to_dict() == {
        "not_an_option": 3,
        "other_currency": 1,
        "no_underlying_price": 1,
        "missing_price": 1,
        "zero_bid": 1,
        "expired": 1,
    }
    assert len(quotes) + dropped.sum() == dropped.attrs["rows"] == 52
    kept, loose = read_deribit(answer, currency="BTC", keep=["zero_bid"])
    assert (len(kept), loose["zero_bid"]) == (len(quotes) + 1, 0)
    with pytest.raises(InputError, match="holds options on BTC, ETH; choose one with currency="):
        read_deribit(answer)
    with pytest.raises(InputError, match="holds no option on 'SOL'; it has BTC, ETH"):
        read_deribit(answer, currency="SOL")


def test_options_paid_in_dollars_and_tickers() -> None:
    ticker = {
        "result": {
            "instrument_name": "XRP_USDC-27SEP24-0d625-P",
            "best_bid_price": 0.011,
            "best_ask_price": 0.013,
            "underlying_price": 0.6,
            "index_price": 0.59,
            "timestamp": TAKEN.value // 10**6,
        }
    }
    quotes, _ = read_deribit([ticker])
    assert quotes[["underlying", "strike", "option_type", "bid", "ask", "spot"]].to_numpy().tolist() == [
        ["XRP", 0.625, "P", 0.011, 0.013, 0.59]
    ]
    assert quotes["quote_time"].tolist() == [TAKEN]
    assert quotes["bid_coin"].isna().all()
    at = read_deribit([ticker], quote_time="2024-07-01T14:00+02:00")[0]
    assert at["quote_time"].tolist() == [pd.Timestamp("2024-07-01 12:00")]


def test_deribit_bad_answers(tmp_path: Path) -> None:
    text = json.dumps(coin_answer())
    (tmp_path / "torn.json").write_text(text[: len(text) // 2])
    (tmp_path / "error.json").write_text(json.dumps({"error": {"code": 11050, "message": "bad_request"}}))
    (tmp_path / "other.json").write_text(json.dumps({"result": [{"name": "x"}]}))
    (tmp_path / "numbers.json").write_text("[1, 2]")
    for name, message in [
        ("torn.json", "no JSON, or truncated"),
        ("error.json", "is an error that Deribit answered: .*bad_request"),
        ("other.json", "a row has no instrument_name"),
        ("numbers.json", "a row has no instrument_name"),
        ("absent.json", "no such file"),
    ]:
        with pytest.raises(FileFormatError, match=message) as caught:
            read_deribit(tmp_path / name)
        assert name in str(caught.value)
    timeless = [{key: value for key, value in row.items() if "time" not in key} for row in coin_answer()["result"]]
    with pytest.raises(InputError, match="say when it was taken with quote_time="):
        read_deribit(timeless)
    assert len(read_deribit(timeless, quote_time=TAKEN)[0]) == 44
    for wrong in ("noon", None.__class__, pd.NaT):
        with pytest.raises(InputError, match="quote_time must be an instant"):
            read_deribit(timeless, quote_time=wrong)
    with pytest.raises(InputError, match=r"no usable row among 0 \(the snapshot is empty"):
        read_deribit({"result": [], "usOut": 1})
    with pytest.raises(InputError, match="source must be a path, a dict or a list, not int"):
        read_deribit(3)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- tables
def test_units_and_polars() -> None:
    table = pd.DataFrame(
        {"date": 20240102, "expiry": 20240315, "strike": [1000000], "option_type": "C", "price": [40000]}
    )
    quotes, _ = read_table(polars.from_pandas(table), scale={"strike": 1e-4, "price": 1e-4})
    assert quotes[["strike", "price"]].to_numpy().tolist() == [[100.0, 4.0]]
    for scale, message in [
        ({"volume": 2.0}, "scale names 'volume'; it may name strike"),
        ({"bid": 2.0}, "scale names bid, which the table lacks"),
        ({"price": 0}, "scale of price must be a positive number, not 0"),
        ({"price": float("inf")}, "scale of price must be a positive number"),
        ({"price": "x"}, "scale of price must be a positive number"),
    ]:
        with pytest.raises(InputError, match=message):
            read_table(table, scale=scale)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "reader"), [("a.dbn.zst", "read_databento"), ("a.zip", "read_lean"), ("a.json", "read_deribit")]
)
def test_other_kinds_name_their_reader(tmp_path: Path, name: str, reader: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(FileFormatError, match=f"for this one there is {reader}"):
        read_table(tmp_path / name)

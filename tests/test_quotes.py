from __future__ import annotations

import datetime
import decimal
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volscen.errors import InputError
from volscen.quotes import REASONS, check_quotes, instants_of, rows_of_day


def table(**columns: object) -> pd.DataFrame:
    """Three sound rows; columns given replace or add."""
    base: dict[str, object] = {
        "date": ["2024-01-02"] * 3,
        "expiry": ["2024-03-15"] * 3,
        "strike": [100.0, 100.0, 105.0],
        "option_type": ["C", "P", "C"],
        "price": [4.0, 3.0, 2.0],
    }
    base.update(columns)
    return pd.DataFrame(base)


def reasons(dropped: pd.Series) -> dict[str, int]:
    return {str(k): int(v) for k, v in dropped.items() if v}


def test_sound_rows_all_stay_in_tidy_form() -> None:
    clean, dropped = check_quotes(table(option_type=[" call", "Put", "c"], strike=[105, 100, 100]))
    assert reasons(dropped) == {}
    assert list(dropped.index) == list(REASONS)
    assert clean["strike"].tolist() == [100.0, 100.0, 105.0]
    assert clean["option_type"].tolist() == ["C", "P", "C"]
    assert clean["date"].unique().tolist() == [pd.Timestamp("2024-01-02")]
    assert clean["strike"].dtype == np.float64


def test_price_is_the_middle_of_bid_and_ask() -> None:
    quotes = table(bid=[3.9, 2.8, 2.0], ask=[4.1, 3.0, 2.0])  # the last is locked: sound
    clean, dropped = check_quotes(quotes)
    np.testing.assert_allclose(clean["price"], [4.0, 2.9, 2.0], rtol=1e-15)
    assert dropped.sum() == 0


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"date": ["2024-01-02", None, "2024-01-02"]}, "missing_date"),
        ({"expiry": ["2024-03-15", "soon", "2024-03-15"]}, "missing_expiry"),
        ({"option_type": ["C", "X", "C"]}, "unknown_option_type"),
        ({"option_type": ["C", None, "C"]}, "unknown_option_type"),
        ({"strike": [100.0, math.nan, 105.0]}, "missing_strike"),
        ({"strike": [100.0, math.inf, 105.0]}, "missing_strike"),
        ({"strike": ["100", "n/a", "105"]}, "missing_strike"),
        ({"strike": [100.0, 0.0, 105.0]}, "nonpositive_strike"),
        ({"strike": [100.0, -5.0, 105.0]}, "nonpositive_strike"),
        ({"price": [4.0, math.nan, 2.0]}, "missing_price"),
        ({"price": [4.0, math.inf, 2.0]}, "missing_price"),
        ({"bid": [1.0, math.nan, 1.0], "ask": [2.0] * 3}, "missing_price"),
        ({"price": [4.0, -1.0, 2.0]}, "negative_price"),
        ({"bid": [1.0, -1.0, 1.0], "ask": [2.0] * 3}, "negative_price"),
        ({"bid": [1.0, 0.0, 1.0], "ask": [2.0] * 3}, "zero_bid"),
        ({"price": [4.0, 0.0, 2.0]}, "zero_price"),
        ({"bid": [1.0, 2.5, 1.0], "ask": [2.0] * 3}, "crossed"),
        ({"expiry": ["2024-03-15", "2024-01-02", "2024-03-15"]}, "expired"),
        ({"expiry": ["2024-03-15", "2023-12-15", "2024-03-15"]}, "expired"),
        ({"option_type": ["C", "call", "C"]}, "duplicate"),
    ],
)
def test_each_bad_row_is_dropped_for_its_reason(columns: dict[str, object], reason: str) -> None:
    clean, dropped = check_quotes(table(**columns))
    assert reasons(dropped) == {reason: 1}
    assert len(clean) == 2


def test_the_median_of_duplicate_prices_stays() -> None:
    same = {"option_type": ["C"] * 3, "strike": [100.0] * 3}
    clean, dropped = check_quotes(table(price=[9.0, 1.0, 2.0], **same))
    assert clean["price"].tolist() == [2.0]
    assert reasons(dropped) == {"duplicate": 2}
    clean, _ = check_quotes(table(price=[9.0, 1.0, 0.0], **same))  # the row without a price has no say
    assert clean["price"].tolist() == [1.0]


def test_the_narrowest_of_duplicate_markets_stays() -> None:
    quotes = table(option_type=["C"] * 3, strike=[100.0] * 3, bid=[1.0, 1.5, 0.5], ask=[2.0, 2.0, 2.0])
    clean, dropped = check_quotes(quotes)
    assert clean[["bid", "ask"]].values.tolist() == [[1.5, 2.0]]
    assert reasons(dropped) == {"duplicate": 2}


@settings(max_examples=100, deadline=None)
@pytest.mark.filterwarnings("ignore:.* repeated rows contradict:UserWarning")
@given(st.data())
def test_the_order_of_rows_does_not_matter(data: st.DataObject) -> None:
    """Many duplicates that contradict one another in every column that is used."""
    few = st.integers(1, 3).map(float)
    rows = data.draw(
        st.lists(st.tuples(few, st.sampled_from("CP"), few, few, few | st.just(math.nan), few), min_size=1, max_size=12)
    )
    quotes = pd.DataFrame(rows, columns=["strike", "option_type", "bid", "ask", "spot", "volume"])
    quotes = quotes.assign(date="2024-01-02", expiry="2024-03-15")
    if data.draw(st.booleans()):
        quotes = quotes.rename(columns={"bid": "price"}).drop(columns="ask")
    shuffled = quotes.iloc[data.draw(st.permutations(range(len(quotes))))]
    clean, dropped = check_quotes(quotes)
    again, counts = check_quotes(shuffled)
    pd.testing.assert_frame_equal(again, clean)
    pd.testing.assert_series_equal(counts, dropped)


@pytest.mark.parametrize("partial", ["2024", "2024-01", "202401", "2024-W01"])
def test_a_year_or_a_month_is_no_date(partial: str) -> None:
    _, dropped = check_quotes(table(expiry=["2024-03-15", partial, "2024-03-15"]))
    assert reasons(dropped) == {"missing_expiry": 1}
    with pytest.raises(InputError, match="expiry holds no readable date"):
        check_quotes(table(expiry=[partial] * 3))


def test_integers_among_other_objects_are_dates() -> None:
    expiry = pd.Series([20240315, "2024-03-15", datetime.date(2024, 3, 15)], dtype=object)
    clean, _ = check_quotes(table(expiry=expiry))
    assert clean["expiry"].unique().tolist() == [pd.Timestamp("2024-03-15")]
    _, dropped = check_quotes(table(expiry=pd.Series([20240315.0, math.inf, 5], dtype=object)))
    assert reasons(dropped) == {"missing_expiry": 2}


def test_a_contract_repeated_after_a_bad_row_is_no_duplicate() -> None:
    clean, dropped = check_quotes(table(option_type=["C", "C", "P"], price=[0.0, 3.0, 2.0]))
    assert reasons(dropped) == {"zero_price": 1}
    assert clean["price"].tolist() == [3.0, 2.0]


def test_adjusted_and_other_underlyings_are_other_contracts() -> None:
    assert check_quotes(table(option_type=["C"] * 3, strike=[100.0] * 3, underlying=list("abc")))[1].sum() == 0
    both, dropped = check_quotes(table(option_type=["C"] * 3, adjusted=[True, False, False]))
    assert dropped.sum() == 0
    assert both["adjusted"].tolist() == [False, True, False]  # the standard contract first


NUMBERS = st.sampled_from([math.nan, math.inf, -1.0, 0.0, 1.0, 2.0, 3.0])
DATES = st.sampled_from(["2024-01-01", "2024-01-02", "2024-01-03", "junk", None])
ROWS = st.lists(
    st.tuples(DATES, DATES, NUMBERS, st.sampled_from(["C", "put", "x", None]), NUMBERS, NUMBERS), max_size=12
)


def judge(row: tuple, seen: set) -> str | None:
    """One row at a time, in plain Python: an independent reading of the rules."""
    date, expiry, strike, kind, bid, ask = row
    if date in ("junk", None):
        return "missing_date"
    if expiry in ("junk", None):
        return "missing_expiry"
    if kind not in ("C", "put"):
        return "unknown_option_type"
    if not math.isfinite(strike):
        return "missing_strike"
    if strike <= 0:
        return "nonpositive_strike"
    if not (math.isfinite(bid) and math.isfinite(ask)):
        return "missing_price"
    if bid < 0 or ask < 0:
        return "negative_price"
    if bid == 0:
        return "zero_bid"
    if bid > ask:
        return "crossed"
    if expiry <= date:
        return "expired"
    if (date, expiry, strike, kind) in seen:
        return "duplicate"
    seen.add((date, expiry, strike, kind))
    return None


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_every_row_is_kept_or_counted_once(rows: list[tuple]) -> None:
    # A first row that is sound, so that no column is without any date.
    rows = [("2024-01-01", "2024-01-03", 9.0, "C", 1.0, 2.0), *rows]
    quotes = pd.DataFrame(rows, columns=["date", "expiry", "strike", "option_type", "bid", "ask"])
    before = quotes.copy(deep=True)
    clean, dropped = check_quotes(quotes)
    pd.testing.assert_frame_equal(quotes, before)
    assert len(clean) + dropped.sum() == len(quotes)
    expected = dict.fromkeys(REASONS, 0)
    seen: set = set()
    for row in rows:
        reason = judge(row, seen)
        if reason:
            expected[reason] += 1
    assert dropped.to_dict() == expected
    assert np.isfinite(clean[["strike", "price", "bid", "ask"]].to_numpy()).all()
    again, none = check_quotes(clean)
    pd.testing.assert_frame_equal(again, clean)
    assert none.sum() == 0


@pytest.mark.parametrize(
    "dates",
    [
        [20240102] * 3,
        ["20240102"] * 3,
        ["2024-01-02T00:00:00"] * 3,
        [datetime.date(2024, 1, 2)] * 3,
        [datetime.datetime(2024, 1, 2, 16)] * 3,
        np.array(["2024-01-02"] * 3, "datetime64[us]"),
        pd.Categorical(["2024-01-02"] * 3),
    ],
    ids=["integer", "digits", "iso", "date", "time", "datetime64", "category"],
)
def test_dates_in_many_forms(dates: object) -> None:
    clean, dropped = check_quotes(table(date=dates))
    assert dropped.sum() == 0
    assert clean["date"].unique().tolist() == [pd.Timestamp("2024-01-02")]


def test_decimals_and_text_are_numbers() -> None:
    clean, _ = check_quotes(table(strike=[decimal.Decimal("99.5"), "100", 105]))
    assert clean["strike"].tolist() == [99.5, 100.0, 105.0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"date": pd.to_datetime(["2024-01-02"] * 3).tz_localize("UTC")}, "date bears a time zone"),
        ({"expiry": ["2024-03-15T00:00:00+01:00"] * 3}, "expiry bears a time zone"),
        ({"expiry": ["2024-03-15T00:00:00+01:00", "2024-03-15", "2024-03-15"]}, "expiry bears a time zone"),
        ({"date": ["31/01/2024"] * 3}, "date holds no readable date"),
        ({"date": [19800.0] * 3}, "date holds numbers that are no dates"),
        ({"date": ["2024-01-02T10:00", "2024-01-02T11:00", "2024-01-03"]}, "several times of day on 2024-01-02"),
        ({"strike": [True] * 3}, "strike holds True and False"),
        ({"adjusted": [0, 1, 2]}, "adjusted must hold True or False"),
    ],
)
def test_columns_that_mean_something_else_are_refused(columns: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_quotes(table(**columns))


@pytest.mark.parametrize("name", ["date", "expiry", "strike", "option_type", "price"])
def test_a_missing_column_is_named(name: str) -> None:
    with pytest.raises(InputError, match=f"lack the column {name}.*which are: "):
        check_quotes(table().drop(columns=name))


def test_not_a_table() -> None:
    with pytest.raises(InputError, match="must be a pandas DataFrame, not dict"):
        check_quotes({})  # type: ignore[arg-type]
    doubled = pd.concat([table(), table()[["strike"]]], axis=1)
    with pytest.raises(InputError, match="'strike' twice"):
        check_quotes(doubled)


def test_an_empty_table_is_no_error() -> None:
    clean, dropped = check_quotes(table().head(0))
    assert len(clean) == 0
    assert dropped.sum() == 0


def test_rows_of_day() -> None:
    quotes = table(date=["2024-01-02", "2024-01-03", "junk"])
    rows, day = rows_of_day(quotes, "2024-01-03")
    assert len(rows) == 1
    assert day == np.datetime64("2024-01-03")
    assert len(rows_of_day(table())[0]) == 3
    with pytest.raises(InputError, match="hold 2 dates; say which"):
        rows_of_day(quotes)
    with pytest.raises(InputError, match="chain of 2024-01-04 is empty"):
        rows_of_day(quotes, "2024-01-04")
    with pytest.raises(InputError, match="must be a date such as"):
        rows_of_day(quotes, "yesterday-ish")
    for wrong, message in (
        (pd.NaT, "not NaT"),
        ("2024", "must be a date such as"),
        (19725, "must be a date such as"),
        (pd.Timestamp("2024-01-02", tz="UTC"), "date bears a time zone"),
    ):
        with pytest.raises(InputError, match=message):
            rows_of_day(quotes, wrong)
    assert rows_of_day(quotes, 20240103)[1] == day
    with pytest.raises(InputError, match="no row with a date"):
        rows_of_day(table().head(0))


def timed(**columns: object) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "date": ["2024-01-02"] * 4,
            "expiry": ["2024-01-03", "2024-01-03", "2024-01-02", "2024-01-05"],
            "strike": [100.0] * 4,
            "option_type": ["C"] * 4,
            "price": [1.0] * 4,
            "quote_time": ["2024-01-02T20:45"] * 4,
            "expiry_time": ["2024-01-03T14:30", "2024-01-03T16:00-05:00", "2024-01-02T21:00", "2024-01-05T21:00"],
        }
    )
    return table.assign(**columns)


def test_instants_tell_contracts_of_one_date_apart() -> None:
    clean, dropped = check_quotes(timed())
    assert dropped.sum() == 0
    expected = ["2024-01-02T21:00", "2024-01-03T14:30", "2024-01-03T21:00", "2024-01-05T21:00"]
    np.testing.assert_array_equal(clean["expiry_time"].to_numpy(), np.array(expected, dtype="datetime64[ns]"))
    forms = ["2024-01-03 16:00:00-0500", "2024-01-03T21:00Z", "2024-01-03T21:00", "2024-01-04T06:00:00.000+09"]
    found = instants_of(pd.Series([*forms, None, "soon", pd.Timestamp("2024-01-03T21:00Z")], index=[0] * 7))
    np.testing.assert_array_equal(found[[0, 1, 2, 3, 6]], np.datetime64("2024-01-03T21:00", "ns"))
    assert np.isnat(found[4:6]).all()
    zoned = pd.to_datetime(timed()["quote_time"]).dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
    pd.testing.assert_frame_equal(check_quotes(timed(quote_time=zoned))[0], clean)


def test_instants_are_judged() -> None:
    late = timed(quote_time="2024-01-03T14:30")
    assert check_quotes(late)[1][lambda n: n > 0].to_dict() == {"expired": 2}
    absent = timed(expiry_time=[None, "soon", "2024-01-12T21:00", "2024-01-05T21:00"])
    assert check_quotes(absent)[1][lambda n: n > 0].to_dict() == {"unsound_time": 3}
    with pytest.raises(InputError, match="hold expiry_time and no quote_time"):
        check_quotes(timed().drop(columns="quote_time"))
    with pytest.raises(InputError, match="column quote_time holds numbers; convert them"):
        check_quotes(timed(quote_time=1704228300))


def test_exercise_styles() -> None:
    clean, _ = check_quotes(timed(exercise=["e", "European", "AMERICAN", "a"]))
    assert sorted(clean["exercise"]) == ["American", "American", "European", "European"]
    for wrong in (["e", "e", "e", "Bermudan"], ["e", "e", "e", None]):
        with pytest.raises(InputError, match="column exercise must hold European or American in every row"):
            check_quotes(timed(exercise=wrong))

"""Tables as vendors write them: other dates, other signs, several classes in one file."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from volscen.errors import InputError
from volscen.quotes import check_quotes
from volscen.sources import read_table


def _table(days: tuple[str, ...] = ("2024-01-31", "2024-02-01")) -> pd.DataFrame:
    strike, kind = np.repeat(np.arange(90.0, 111.0, 5.0), 2), np.tile(["C", "P"], 5)
    price = np.where(kind == "C", np.maximum(100 - strike, 0), np.maximum(strike - 100, 0)) + 3.25
    one = pd.DataFrame(
        {"expiry": "2024-06-21", "strike": strike, "option_type": kind, "bid": price - 0.1, "ask": price}
    )
    return pd.concat([one.assign(date=day) for day in days], ignore_index=True)


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%b-%Y", "%y%m%d"])
def test_a_named_form_of_dates_is_read(form: str) -> None:
    plain = read_table(_table())[0]
    written = _table().assign(**{name: pd.to_datetime(_table()[name]).dt.strftime(form) for name in ("date", "expiry")})
    pd.testing.assert_frame_equal(read_table(written, date_format=form)[0], plain)


def test_a_form_leaves_columns_of_datetimes_and_iso_texts_alone() -> None:
    plain = read_table(_table())[0]
    mixed = _table().assign(date=lambda t: pd.to_datetime(t["date"]).dt.strftime("%d/%m/%Y"))
    pd.testing.assert_frame_equal(read_table(mixed, date_format="%d/%m/%Y")[0], plain)
    stamped = mixed.assign(expiry=pd.to_datetime(mixed["expiry"]))
    pd.testing.assert_frame_equal(read_table(stamped, date_format="%d/%m/%Y")[0], plain)


def test_rows_of_another_form_are_counted() -> None:
    table = _table()
    table["date"] = pd.to_datetime(table["date"]).dt.strftime("%d/%m/%Y")
    table.loc[0, "date"] = "1 Feb 2024"
    kept, dropped = read_table(table, date_format="%d/%m/%Y")
    assert dropped["missing_date"] == 1
    assert len(kept) == len(table) - 1


@pytest.mark.parametrize("wrong", [3, "iso", ""])
def test_what_is_no_form_is_refused(wrong: object) -> None:
    with pytest.raises(InputError, match="date_format must be a form"):
        read_table(_table(), date_format=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("texts", "advice"),
    [
        (("31/01/2024", "01/02/2024"), "day comes first in these, read them with date_format='%d/%m/%Y'"),
        (("01/31/2024", "02/01/2024"), "month comes first in these, read them with date_format='%m/%d/%Y'"),
        (("01.02.2024", "02.02.2024"), "'%d.%m.%Y' or '%m.%d.%Y': no row tells which"),
        (("31-Jan-2024", "01-Feb-2024"), "name their form on reading"),
    ],
)
def test_the_error_names_the_form_that_the_rows_settle(texts: tuple[str, str], advice: str) -> None:
    with pytest.raises(InputError) as error:
        read_table(_table(texts))
    assert advice in str(error.value)


def test_midnights_of_a_zone_stay_on_their_day() -> None:
    """Moved to another zone they would all be the day before."""
    table = _table().assign(date=lambda t: pd.to_datetime(t["date"]).dt.tz_localize("UTC"))
    with pytest.raises(InputError, match="every row is at midnight") as error:
        check_quotes(table)
    assert "tz_convert" not in str(error.value)
    table["date"] += pd.Timedelta(hours=21)
    with pytest.raises(InputError, match="timezone='America/New_York'"):
        check_quotes(table)


def test_signs_of_a_csv_file(tmp_path: Path) -> None:
    plain = read_table(_table())[0]
    path = tmp_path / "quotes.csv"
    _table().to_csv(path, index=False, sep=";", decimal=",")
    with pytest.raises(InputError, match=r"read it with separator=';', and decimal=','"):
        read_table(path)
    pd.testing.assert_frame_equal(read_table(path, separator=";", decimal=",")[0], plain)
    _table().assign(strike=lambda t: t["strike"].map("1,{:06.2f}".format)).to_csv(path, index=False)
    with pytest.raises(InputError, match="thousands="):
        read_table(path)
    assert read_table(path, thousands=",")[0]["strike"].min() == 1090.0
    with pytest.raises(InputError, match="separator is for CSV files alone"):
        read_table(_table(), separator=";")
    with pytest.raises(InputError, match="decimal must be one character"):
        read_table(path, decimal="")


def _two_classes(factor: float, root: bool = True) -> pd.DataFrame:
    other = _table()
    other[["bid", "ask"]] *= factor
    both = pd.concat([_table().assign(root="SPX"), other.assign(root="SPXW")])
    return both if root else both.drop(columns="root")


def test_classes_in_one_table_that_contradict_one_another() -> None:
    with pytest.warns(UserWarning, match=r"20 of 20 repeated rows contradict .*column root \(SPX, SPXW\)") as caught:
        _, dropped = check_quotes(_two_classes(1.2))
    assert dropped["duplicate"] == 20
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="several roots, several times of day"):
        check_quotes(_two_classes(1.2, root=False))
    prices = _two_classes(1.2).assign(price=lambda t: t["ask"]).drop(columns=["bid", "ask"])
    with pytest.warns(UserWarning, match="20 of 20"):
        check_quotes(prices)


def test_rows_given_twice_raise_no_doubt() -> None:
    """Nor do few that disagree: single slips are counted, and the better row stays."""
    twice = _two_classes(1.0)
    slip = pd.concat([_table(), _table().assign(ask=lambda t: t["ask"] * np.where(t.index < 4, 2.0, 1.0))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_quotes(twice)[1]["duplicate"] == 20
        assert check_quotes(twice.assign(price=twice["ask"]).drop(columns=["bid", "ask"]))[1]["duplicate"] == 20
        assert check_quotes(slip)[1]["duplicate"] == 20

"""Assembling histories and reading states from them."""

from __future__ import annotations

import datetime
import warnings

import numpy as np
import pytest

import volscen
from volscen.errors import FileFormatError, HistoryWarning, InputError
from volscen.history._history import position, state_at

DATES = np.array(["2024-01-02", "2024-01-03", "2024-01-05"], "datetime64[D]")


def make(**changes):
    arguments = {
        "date": DATES,
        "tau": [0.25, 0.5],
        "moneyness": [0.9, 1.0, 1.1],
        "implied_vol": np.linspace(0.1, 0.3, 18).reshape(3, 2, 3),
        "spot": [100.0, 102.0, 99.0],
    } | changes
    return volscen.make_history(**arguments)


def test_returns_lead_into_their_date():
    history = make()
    assert np.isnan(history.log_return[0])
    np.testing.assert_allclose(history.log_return[1:], np.log([1.02, 99 / 102]), rtol=2e-14)


def test_state_holds_what_is_known_at_as_of():
    history = make(forward=np.full((3, 2), 101.0), discount_factor=np.full((3, 2), 0.99))
    for as_of in ("2024-01-03", np.datetime64("2024-01-03"), datetime.date(2024, 1, 3)):
        state = state_at(history, as_of, n_returns=1, n_surfaces=2)
        np.testing.assert_array_equal(state.log_return, history.log_return.values[1:2])
        np.testing.assert_array_equal(state.log_iv, np.log(history.implied_vol.values[:2]))
        assert state.spot == 102.0
        assert state.forward.tolist() == [101.0, 101.0]
        assert state.discount_factor.tolist() == [0.99, 0.99]


def test_too_few_dates_before_as_of():
    with pytest.raises(InputError, match="holds 1 dates before as_of 2024-01-03, the generator needs 2"):
        state_at(make(), "2024-01-03", n_returns=2)


def test_absent_date_names_the_nearest():
    with pytest.raises(InputError, match="nearest date it holds is 2024-01-05"):
        position(make(), "2024-02-01")
    with pytest.raises(InputError, match="NaT"):
        position(make(), np.datetime64("NaT", "D"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"date": DATES[[0, 1, 1]]}, "date must be strictly increasing"),
        ({"date": DATES[[1, 0, 2]]}, "date must be strictly increasing"),
        ({"tau": [0.5, 0.25]}, "tau must be strictly increasing"),
        ({"moneyness": [0.9, 1.0, 1.0]}, "moneyness must be strictly increasing"),
        ({"moneyness": [-0.9, 1.0, 1.1]}, "moneyness must hold positive"),
        ({"tau": [0.25, np.nan]}, "tau must hold positive"),
        ({"implied_vol": np.full((3, 2, 3), np.nan)}, "implied_vol holds NaN"),
        ({"implied_vol": np.zeros((3, 2, 3))}, "not positive"),
        ({"spot": [100.0, -1.0, 99.0]}, "spot"),
        ({"spot": [100.0, np.nan, 99.0]}, "spot"),
    ],
)
def test_bad_histories(changes, message):
    with pytest.raises(FileFormatError, match=message):
        make(**changes)


def test_shapes_that_do_not_fit():
    with pytest.raises(InputError, match="do not fit"):
        make(spot=[1.0, 2.0])


def test_a_subset_of_dates_is_no_history():
    """Weekly rows with daily returns would teach a generator nonsense."""
    history = volscen.datasets.sample_history()
    with pytest.raises(FileFormatError, match="return between neighbouring dates"):
        volscen.validate(history.isel(date=slice(None, None, 5)))
    volscen.validate(history.isel(date=slice(100, 200)))


def test_several_rows_of_one_day():
    stamps = np.array(["2024-01-02T10:00", "2024-01-02T15:00", "2024-01-03T10:00"], "datetime64[ns]")
    history = make(date=stamps)
    assert position(history, "2024-01-02") == 1  # the last of the day


@pytest.mark.parametrize(
    ("attribute", "value"), [("periods_per_year", -5.0), ("periods_per_year", np.nan), ("periods_per_year", "x")]
)
def test_attributes_that_are_no_sensible_numbers(attribute, value):
    history = make()
    history.attrs[attribute] = value
    with pytest.raises(FileFormatError, match=attribute):
        volscen.validate(history)


def test_empty_and_texts():
    history = make()
    with pytest.raises(FileFormatError, match="empty"):
        volscen.validate(history.isel(date=slice(0, 0)))
    with pytest.raises(FileFormatError, match="must hold numbers"):
        volscen.validate(history.assign(spot=history.spot.astype(str)))
    with pytest.raises(InputError, match=r"xarray\.Dataset"):
        volscen.validate(None)


def test_volatilities_in_per_cent_are_refused():
    history = volscen.datasets.sample_history()
    with pytest.raises(FileFormatError, match="is it given in per cent"):
        volscen.validate(history.assign(implied_vol=100 * history.implied_vol))
    one_day = history.implied_vol.copy()
    one_day[5] *= 100
    with pytest.raises(FileFormatError, match="divide by 100"):
        volscen.validate(history.assign(implied_vol=one_day))
    wing = history.implied_vol.copy()
    wing[5, 0, 0] = 5.5
    volscen.validate(history.assign(implied_vol=wing))


def test_dates_dropped_by_hand_are_noticed():
    history = volscen.datasets.sample_history()
    keep = np.ones(history.sizes["date"], dtype=bool)
    keep[[100, 700, 701]] = False
    after = str(history.date.values[101].astype("datetime64[D]"))
    with pytest.warns(UserWarning, match=rf"2 date\(s\), the first {after}.*select_dates"):
        volscen.validate(history.isel(date=keep))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        volscen.validate(volscen.select_dates(history, keep))
        volscen.validate(history.isel(date=slice(50, 60)))
        # A dividend parts returns from spots where no date is missing, and rows of every week skip none.
        volscen.validate(history.assign(log_return=history.log_return + 0.005 * (history.spot == history.spot[40])))
        weekly = volscen.select_dates(history, history.date[::5])
        volscen.validate(weekly.assign(log_return=weekly.log_return + 0.005 * (weekly.spot == weekly.spot[40])))
    forwards = history.isel(date=keep).assign_attrs(return_source="forward")
    moved = np.abs(history.log_return.values[[100, 700]]).max()
    assert moved < 0.02  # within what the basis of a nearest expiry does when it rolls
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        volscen.validate(forwards)
    jump = forwards.assign(spot=forwards.spot * np.where(np.arange(keep.sum()) < 100, 1, 1.05))
    with pytest.warns(UserWarning, match=r"1 date\(s\)"):
        volscen.validate(jump)


def test_a_missing_sunday_is_one_where_there_are_any():
    days = np.arange("2024-01-01", "2024-02-20", dtype="datetime64[D]").astype("datetime64[ns]")
    spot = 100 * np.exp(0.02 * np.random.default_rng(0).standard_normal(days.size).cumsum())
    ds = volscen.make_history(
        days, [0.1, 0.5], [0.9, 1.0, 1.1], np.full((days.size, 2, 3), 0.3), spot=spot, calendar="24/7"
    )
    with pytest.warns(UserWarning, match="2024-01-08"):
        volscen.validate(ds.isel(date=np.arange(days.size) != 6))


def test_dates_dropped_by_hand_are_said_once_a_line() -> None:
    history = volscen.datasets.sample_history()
    holed = history.isel(date=np.r_[0:700, 703 : history.sizes["date"]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        volscen.fit(holed, "bootstrap")  # validates more than once
    assert [(one.category, one.filename) for one in caught] == [(HistoryWarning, __file__)]

"""Dates as users write them."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import volscen
from volscen._dates import to_day, to_days
from volscen.errors import InputError

DAY = np.datetime64("2024-01-31", "D")


@pytest.mark.parametrize(
    "value",
    [
        "2024-01-31",
        "20240131",
        20240131,
        np.int64(20240131),
        "2024-01-31T15:00",
        datetime.date(2024, 1, 31),
        datetime.datetime(2024, 1, 31, 23, 59),
        pd.Timestamp("2024-01-31 15:00"),
        np.datetime64("2024-01-31T10:00", "ns"),
        np.array("2024-01-31", "datetime64[D]"),
        xr.DataArray(np.datetime64("2024-01-31", "ns")),
    ],
)
def test_forms_of_one_day(value):
    assert to_day(value, "as_of") == DAY
    assert to_day(value, "as_of").dtype == DAY.dtype


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("2024", "must be a date"),
        ("2024-01", "must be a date"),
        ("2024-02-30", "must be a date"),
        (20240199, "must be a date"),
        (19753, "must be a date"),  # days since 1970
        (1.5, "must be a date"),
        (True, "must be a date"),
        (None, "must be a date"),
        (pd.NaT, "must be a date|NaT"),
        (np.datetime64("NaT", "D"), "NaT"),
        (pd.Timestamp("2024-06-04", tz="Asia/Shanghai"), "time zone"),
        ("2024-06-04T10:00+02:00", "time zone"),
        (datetime.datetime(2024, 6, 4, tzinfo=datetime.UTC), "time zone"),
    ],
)
def test_what_is_no_day(value, message):
    with pytest.raises(InputError, match=message):
        to_day(value, "as_of")


def test_collections():
    expected = np.array(["2024-01-31", "2024-02-01"], "datetime64[ns]")
    for form in (
        ["2024-01-31", "2024-02-01"],
        [20240131, 20240201],
        pd.DatetimeIndex(expected),
        pd.Series(["2024-01-31", "2024-02-01"]),
        expected.astype("datetime64[D]"),
    ):
        np.testing.assert_array_equal(to_days(form, "date"), expected)
    with pytest.raises(InputError, match="time zone"):
        to_days(pd.DatetimeIndex(expected, tz="Asia/Tokyo"), "date")
    with pytest.raises(InputError, match="NaT"):
        to_days(np.array(["2024-01-31", "NaT"], "datetime64[D]"), "date")
    with pytest.raises(InputError, match="one-dimensional"):
        to_days([["2024-01-31"]], "date")


def test_as_of_never_moves_to_another_day():
    history = volscen.datasets.sample_history()
    with pytest.raises(InputError, match="time zone"):
        volscen.generate(None, history, as_of=pd.Timestamp("2024-06-04", tz="Asia/Shanghai"), n_scenarios=5)
    cube = volscen.generate(None, history, as_of=20240604, n_scenarios=5, seed=1)
    assert cube.as_of.values == np.datetime64("2024-06-04")

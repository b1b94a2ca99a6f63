"""Histories with a row per snapshot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import volscen
from chain_makers import black_price
from volscen.errors import InputError

GRID = {"tau": np.array([45, 60]) / 365, "moneyness": [0.95, 1.0, 1.05], "progress": False}
YEAR = np.timedelta64(365, "D")
TIMES = pd.to_datetime(["2024-01-02 15:00", "2024-01-02 18:00", "2024-01-02 21:00", "2024-01-03 15:00"])
LEVELS = (100.0, 101.0, 100.5, 102.0)


def quotes() -> pd.DataFrame:
    tables = []
    for time, level in zip(TIMES, LEVELS, strict=True):
        for expiry in pd.to_datetime(["2024-02-16 21:00", "2024-03-15 20:00"]):
            tau = (expiry - time) / YEAR
            strike, is_call = np.repeat(np.arange(80.0, 121, 2.5), 2), np.tile([True, False], 17)
            tables.append(
                pd.DataFrame(
                    {
                        "date": time.normalize(),
                        "quote_time": time,
                        "expiry": expiry.normalize(),
                        "expiry_time": expiry,
                        "strike": strike,
                        "option_type": np.where(is_call, "C", "P"),
                        "price": black_price(level, strike, tau, 0.2, is_call),
                    }
                )
            )
    return pd.concat(tables)


@pytest.fixture(scope="module")
def built() -> tuple[xr.Dataset, pd.DataFrame]:
    table = quotes().sample(frac=1, random_state=1)
    return volscen.build_history(table, intraday=True, periods_per_year=3 * 252, **GRID)


def test_a_row_per_snapshot(built: tuple[xr.Dataset, pd.DataFrame]) -> None:
    history, report = built
    assert pd.DatetimeIndex(history["date"].values).tolist() == TIMES.tolist()
    assert pd.DatetimeIndex(report.index).tolist() == TIMES.tolist()
    np.testing.assert_allclose(history["implied_vol"], 0.2, atol=1e-7)  # times to expiry are exact
    np.testing.assert_allclose(history["log_return"][1:], np.diff(np.log(LEVELS)), rtol=1e-6)
    assert history.attrs["periods_per_year"] == 756
    vol = volscen.realised_vol(history, window=3)
    assert float(vol[-1]) == pytest.approx(np.sqrt(252 * np.sum(np.diff(np.log(LEVELS)) ** 2)), rel=1e-6)
    assert volscen.summarise_report(report).startswith("4 snapshots, 2024-01-02T15:00 to 2024-01-03T15:00")


@pytest.mark.parametrize("name", ["h.nc", "h.zarr"])
def test_snapshots_added_and_read_back(name: str, built: tuple[xr.Dataset, pd.DataFrame], tmp_path: Path) -> None:
    table = quotes()
    first, _ = volscen.build_history(
        table[table["quote_time"] < TIMES[2]], intraday=True, periods_per_year=756, resume=tmp_path / "r", **GRID
    )
    volscen.write(first, tmp_path / name)
    longer, report = volscen.update_history(tmp_path / name, table, progress=False, resume=tmp_path / "r")
    xr.testing.assert_equal(longer, built[0])
    xr.testing.assert_equal(volscen.read(tmp_path / name), built[0])
    assert report.attrs["days_skipped"] == 2


def test_a_day_of_several_rows_becomes_one(built: tuple[xr.Dataset, pd.DataFrame]) -> None:
    history, _ = built
    daily = volscen.select_dates(history, [False, False, True, True]).assign_attrs(periods_per_year=252)
    assert float(daily["log_return"][1]) == pytest.approx(np.log(102 / 100.5), rel=1e-6)


def test_what_snapshots_need() -> None:
    table = quotes()
    for change, options, message in [
        (table, {}, "2024-01-02 hold 3 snapshots; keep one a day, or give intraday=True and periods_per_year"),
        (table, {"intraday": True}, "needs periods_per_year"),
        (table, {"intraday": "yes", "periods_per_year": 756}, "intraday must be True or False"),
        (
            table.assign(date=table["date"] + pd.Timedelta(days=1)),
            {"intraday": True, "periods_per_year": 756},
            "were taken at 2024-01-02T15:00, which is another day; state quote_time",
        ),
    ]:
        with pytest.raises(InputError, match=message):
            volscen.build_history(change, **options, **GRID)
    with (
        pytest.warns(UserWarning, match=r"contradict .* several times of day"),  # one row of each contract stays
        pytest.raises(InputError, match="needs quotes with quote_time and expiry_time"),
    ):
        volscen.build_history(
            table.drop(columns=["quote_time", "expiry_time"]), intraday=True, periods_per_year=756, **GRID
        )
    broken = table.copy()
    broken.iloc[:5, broken.columns.get_loc("quote_time")] = pd.NaT
    _, report = volscen.build_history(broken, intraday=True, periods_per_year=756, **GRID)
    assert report.attrs["rows_without_date"] == 5


def test_verbs_that_count_days_take_one_row_a_day() -> None:
    rng = np.random.default_rng(0)
    dates = np.datetime64("2023-01-02T10:00", "ns") + np.arange(500) * np.timedelta64(12, "h")
    history = volscen.make_history(
        dates,
        [0.1, 0.2],
        [0.9, 1.1],
        rng.uniform(0.1, 0.3, (500, 2, 2)),
        spot=rng.uniform(90, 110, 500),
        calendar="XNYS",
    )
    for verb in (
        lambda: volscen.fit(history, "har", n_components=2),
        lambda: volscen.evaluate({"b": "bootstrap"}, history, first="2023-02-02", last="2023-02-03"),
    ):
        with pytest.raises(InputError, match=r"takes one row a day.*several on 2023-01-02.*date\.dt\.hour == 22"):
            verb()

"""Dates taken out of a history, several assets on common dates, realised volatility."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import volscen
from volscen.errors import FileFormatError, InputError
from volscen.schema import HISTORY

TAU, MONEYNESS = [0.25, 0.5], [0.9, 1.0, 1.1]


def make(dates: list[str], seed: int = 0, **changes) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    n = len(dates)
    arguments = {
        "date": np.array(dates, "datetime64[ns]"),
        "tau": TAU,
        "moneyness": MONEYNESS,
        "implied_vol": rng.uniform(0.1, 0.3, (n, 2, 3)),
        "spot": 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n))),
        "forward": np.full((n, 2), 101.0),
        "discount_factor": np.full((n, 2), 0.99),
    } | changes
    return volscen.make_history(**arguments)


WEEK = ["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05", "2024-01-08"]
OTHER = ["2024-01-02", "2024-01-04", "2024-01-05", "2024-01-08", "2024-01-09"]


def test_returns_span_the_dates_that_are_taken_out():
    history = make(WEEK).assign(jump_flag=("date", np.array([0, 2, 0, 1, 0], dtype=np.int8)))
    kept = volscen.select_dates(history, WEEK[:1] + WEEK[2:])
    volscen.validate(kept, schema=HISTORY)
    r = history.log_return.values
    np.testing.assert_array_equal(kept.log_return[1:], [r[1] + r[2], r[3], r[4]])
    np.testing.assert_allclose(kept.log_return[1:], np.diff(np.log(kept.spot)), rtol=1e-12)
    assert kept.jump_flag.values.tolist() == [0, 2, 1, 0]
    np.testing.assert_array_equal(history.log_return, r)  # the argument is left alone
    last = volscen.select_dates(history, [False, False, False, True, True])
    assert np.isnan(last.log_return[0])
    assert last.jump_flag.values.tolist() == [0, 0]
    assert last.log_return[1] == r[4]


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        (WEEK[::-1], "strictly increasing"),
        (["2024-01-06"], "does not hold 2024-01-06"),
        (["2025-01-06"], "does not hold 2025-01-06"),
        ([True], "as a mask, must have shape"),
        ([False] * 5, "keeps no date"),
        ([], "keeps no date"),
        (["x"], "must be a date"),
    ],
)
def test_dates_that_cannot_be_taken(dates, message):
    with pytest.raises(InputError, match=message):
        volscen.select_dates(make(WEEK), dates)


def test_assets_on_their_common_dates():
    a, b = make(WEEK), make(OTHER, seed=1)
    both = volscen.align_histories({"A": a, "B": b})
    volscen.validate(both)
    assert both.implied_vol.dims == ("asset", "date", "tau", "moneyness")
    assert both.days_lost.values.tolist() == [1, 1]
    assert np.datetime_as_string(both.date, unit="D").tolist() == OTHER[:4]
    for name, own in (("A", a), ("B", b)):
        one = both.sel(asset=name)
        volscen.validate(one, schema=HISTORY)
        xr.testing.assert_equal(
            one.drop_vars(["asset", "calendar", "days_lost"]),
            volscen.select_dates(own, np.array(OTHER[:4], "datetime64[D]")),
        )
    assert both.attrs["source"] == "user arrays"


def test_a_selected_asset_goes_through_the_verbs():
    history = volscen.datasets.sample_history()
    both = volscen.align_histories({"A": history, "B": history.isel(date=slice(3, None))})
    cubes = [
        volscen.generate(volscen.fit(h, "bootstrap"), h, n_scenarios=10, seed=1)
        for h in (both.sel(asset="B"), history.isel(date=slice(3, None)))
    ]
    np.testing.assert_array_equal(*(cube.implied_vol for cube in cubes))


def test_names_of_each_where_they_differ():
    a, b = make(WEEK, calendar="XNYS"), make(WEEK, seed=1, calendar="XSHG")
    both = volscen.align_histories({"A": a, "B": b.drop_vars("forward")}, join="exact")
    assert both.attrs["calendar"] == "A: XNYS; B: XSHG"
    assert "forward" not in both
    assert "discount_factor" in both
    assert both.days_lost.values.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("histories", "options", "message"),
    [
        ({"A": make(WEEK)}, {}, "two assets or more"),
        ([make(WEEK)] * 2, {}, "must map the names"),
        ({"A": make(WEEK), "": make(WEEK)}, {}, "texts"),
        ({"A": make(WEEK), "B": make(OTHER)}, {"join": "exact"}, "lost by A 1, B 1"),
        ({"A": make(WEEK), "B": make(OTHER)}, {"join": "outer"}, "no date is ever filled"),
        ({"A": make(WEEK[:2]), "B": make(WEEK[1:])}, {}, "share 1 dates"),
        ({"A": make(WEEK), "B": make(WEEK, tau=[0.25, 0.6])}, {}, "B: tau of the history .* differs from A's"),
        ({"A": make(WEEK), "B": make(WEEK, periods_per_year=52)}, {}, "B has 52 periods_per_year and A 252"),
        ({"A": make(WEEK), "B": 1}, {}, r"B: an xarray\.Dataset"),
    ],
)
def test_what_cannot_be_aligned(histories, options, message):
    with pytest.raises(InputError, match=message):
        volscen.align_histories(histories, **options)


def test_verbs_of_one_asset_refuse_several():
    both = volscen.align_histories({"A": make(WEEK), "B": make(OTHER, seed=1)})
    for verb in (
        lambda: volscen.fit(both, "pca"),
        lambda: volscen.generate(None, both),
        lambda: volscen.update_history(both, None),
        lambda: volscen.align_histories({"C": both, "D": both}),
        lambda: volscen.evaluate({"b": "bootstrap"}, both, first="2024-01-05", last="2024-01-08"),
    ):
        with pytest.raises(InputError, match=r"holds 2 assets \(A, B\) and one is needed.*sel\(asset='A'\)"):
            verb()


@pytest.mark.parametrize("name", ["h.nc", "h.zarr"])
def test_several_assets_on_disk(name: str, tmp_path: Path):
    both = volscen.align_histories({"A": make(WEEK), "BCD": make(OTHER, seed=1)})
    again = volscen.read(volscen.write(both, tmp_path / name))
    xr.testing.assert_equal(again, both)
    assert again.asset.values.tolist() == ["A", "BCD"]


def test_histories_of_several_assets_are_judged():
    both = volscen.align_histories({"A": make(WEEK), "B": make(OTHER, seed=1)})
    for broken, message in [
        (both.assign_coords(asset=["A", "A"]), "without duplicates"),
        (both.drop_vars("asset"), "coordinate asset"),
        (both.assign_coords(asset=[1, 2]), "coordinate asset"),
        (both.assign(spot=both.spot.isel(asset=0, drop=True)), "spot has dimensions"),
        (both.transpose("date", "asset", ...), "has dimensions"),
        (both.assign(log_return=both.log_return.where(both.asset != "B")), "log_return holds NaN"),
        (both.assign(log_return=both.log_return * xr.where(both.asset == "B", 2, 1)), "neighbouring dates"),
    ]:
        with pytest.raises(FileFormatError, match=message):
            volscen.validate(broken)


def test_realised_volatility_by_hand():
    r = np.array([0.01, -0.02, 0.03, 0.0])
    history = make(WEEK, spot=100 * np.exp(np.cumsum([0, *r])))
    np.testing.assert_allclose(
        volscen.realised_vol(history, window=2),
        [np.nan, np.nan, *np.sqrt(126 * np.array([0.0005, 0.0013, 0.0009]))],
        rtol=1e-12,
    )
    weekly = history.assign_attrs(periods_per_year=52)
    assert float(volscen.realised_vol(weekly, window=4)[-1]) == pytest.approx(np.sqrt(13 * 0.0014))
    both = volscen.align_histories({"A": history, "B": make(WEEK, seed=1)})
    xr.testing.assert_equal(
        volscen.realised_vol(both, window=2).sel(asset="A", drop=True), volscen.realised_vol(history, window=2)
    )
    for window in (0, 5, 1.5, True, "x"):
        with pytest.raises(InputError, match="window must be a whole number from 1 to the 4 returns"):
            volscen.realised_vol(history, window=window)


def test_a_subset_of_returns_of_forwards_is_found_out():
    """Their noise is allowed for, days left out are not."""
    history = volscen.datasets.sample_history().isel(date=slice(200)).assign_attrs(return_source="forward")
    noise = np.random.default_rng(0).normal(0, 0.001, 200)
    history["log_return"] = history["log_return"] + noise
    volscen.validate(history)
    for step in (2, 5):
        with pytest.raises(FileFormatError, match=r"take a subset of the dates with volscen\.select_dates"):
            volscen.validate(history.isel(date=slice(None, None, step)))
        volscen.validate(volscen.select_dates(history, history["date"][::step]))

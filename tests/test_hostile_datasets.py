"""Datasets that users alter by hand: chosen dates, added variables, other labels, holes."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import volscen
from volscen import views
from volscen._figures import scenario_figures
from volscen.errors import FileFormatError, InputError

BOOK = volscen.Portfolio.straddle(moneyness=1.0, tau=0.25)


@pytest.fixture(scope="module")
def history():
    return volscen.datasets.sample_history()


@pytest.fixture(scope="module")
def two(history):
    """Two dates of which the second alone has unequal weights."""
    model = volscen.fit(history.isel(date=slice(0, 900)), "bootstrap")
    dates = list(history.date.values[[1000, 1200]])
    cube = volscen.generate(model, history, as_of=dates, n_scenarios=300, horizon=3, seed=1, beta=0.0)
    tilted = np.linspace(1, 9, 300)
    weight = np.stack([np.full(300, 1 / 300), tilted / tilted.sum()])
    out = cube.assign(weight=(("as_of", "scenario"), weight, cube.weight.attrs))
    return out.assign_attrs(beta=[11.0, 22.0], ess_fraction=volscen.effective_sample_size(weight) / 300)


@pytest.fixture(scope="module")
def cube():
    return volscen.generate(n_scenarios=200, horizon=2, seed=3)


class TestOneOfSeveralDates:
    """xarray leaves attributes whole: those of the first date were read as of the one chosen."""

    def test_its_effective_sample_size_is_its_own(self, two):
        tilted = np.linspace(1, 9, 300)
        own = tilted.sum() ** 2 / np.sum(tilted**2) / 300
        (found,) = scenario_figures(two.isel(as_of=1))["dates"]
        assert found["ess_fraction"] == pytest.approx(own, rel=1e-12)
        assert f"effective sample size      {own:.1%}" in volscen.report_text(two.isel(as_of=1), BOOK)

    def test_beta_is_not_that_of_another_date(self, two, tmp_path):
        assert "(beta" not in volscen.report_text(two.isel(as_of=1))
        assert scenario_figures(two.isel(as_of=1))["dates"][0]["beta"] is None
        page = volscen.report(two.isel(as_of=1), path=tmp_path / "r.html").read_text()
        assert "beta of the arbitrage weights" not in page
        again = volscen.reweight(two.isel(as_of=1), beta=5.0)
        assert "(beta 5)" in volscen.report_text(again)
        assert "beta of the arbitrage weights" in volscen.report(again, path=tmp_path / "r.html").read_text()

    def test_of_all_dates_nothing_is_lost(self, two):
        text = volscen.report_text(two)
        assert "(beta 11)" in text
        assert "(beta 22)" in text

    def test_views_and_resampling(self, two):
        pooled = volscen.entropy_pool(two, views.mean(views.total_log_return(), equals=0.0))
        assert "nats" in volscen.report_text(pooled)
        text = volscen.report_text(pooled.isel(as_of=1))
        assert "views" in text
        assert "nats" not in text
        drawn = volscen.resample(two, 100, seed=1)
        assert "different scenarios" in volscen.report_text(drawn)
        assert "from 300 scenarios" in volscen.report_text(drawn.isel(as_of=0))

    def test_cubes_put_side_by_side(self, cube):
        later = cube.assign_coords(as_of=cube.as_of + np.timedelta64(7, "D"))
        both = xr.concat([cube, later], "as_of")
        assert volscen.report_text(both).count("effective sample size") == 2


class TestLabels:
    @pytest.mark.parametrize("steps", [[1.5, 2.5], [5, 5], [2, 1], [0, 1], [-1, 3], ["a", "b"]])
    def test_steps_are_trading_days_ahead(self, cube, steps):
        with pytest.raises(FileFormatError, match="coordinate step must hold trading days ahead"):
            volscen.portfolio.pnl(cube.assign_coords(step=steps), BOOK)

    def test_steps_may_be_left_out(self, cube):
        far = cube.isel(step=[1])
        assert "over 2 trading day(s)" in volscen.report_text(far)
        assert ", 2 day(s)" in volscen.report_text(far, BOOK)

    @pytest.mark.parametrize("day", ["2024-01-01", 20240101, np.datetime64("NaT", "ns")])
    def test_the_date_is_one(self, cube, day):
        with pytest.raises(FileFormatError, match="as_of must be a datetime64 date"):
            volscen.risk.summary(cube.assign_coords(as_of=day))

    def test_day_counts_other_than_the_one_known(self, cube):
        with pytest.raises(FileFormatError, match="day_count must be 'ACT/365'"):
            volscen.portfolio.pnl(cube.assign_attrs(day_count="BUS/252"), BOOK)

    def test_scenarios_may_have_names(self, cube):
        named = cube.assign_coords(scenario=[f"s{i}" for i in range(200)])
        worst = int(np.argmin(volscen.portfolio.pnl(cube, BOOK, lines=False).total.values[:, -1]))
        assert f"worst scenario s{worst}:" in volscen.report_text(named, BOOK)


def test_variables_of_other_dimensions_survive_resampling(cube):
    more = cube.assign(factor=(("scenario", "kind"), np.arange(400.0).reshape(200, 2)))
    drawn = volscen.resample(more, 50, seed=1)
    np.testing.assert_array_equal(drawn.factor, more.factor.values[drawn.source_scenario.values])


def test_big_endian_surfaces_are_exported(cube, tmp_path):
    flat = volscen.reweight(cube, beta=0.0)
    swapped = flat.assign(implied_vol=flat.implied_vol.astype(">f4"), spot=flat.spot.astype(">f8"))
    for strikes in ("sticky", "forward"):
        frames = [
            pd.read_csv(volscen.export_ore(ds, tmp_path / "s.csv", name="X", strikes=strikes)) for ds in (flat, swapped)
        ]
        pd.testing.assert_frame_equal(*frames)


@pytest.mark.parametrize("name", ["forward0", "discount_factor0", "spot0"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_regridding_in_time_needs_a_whole_curve(cube, name, value):
    values = np.array(cube[name].values, dtype=float)
    values.reshape(-1)[0] = value
    broken = cube.assign({name: (cube[name].dims, values)})
    with pytest.raises(InputError, match=f"{name} must be positive and finite"):
        volscen.surface.regrid(broken, tau=[0.1, 0.5])


def test_weights_of_several_assets_are_refused_by_quantiles(cube):
    with pytest.raises(InputError, match="one number a scenario"):
        volscen.weighted_quantile(cube.expand_dims(asset=["A", "B"]), "log_return", [0.5])


@pytest.fixture(scope="module")
def projected(cube):
    noise = np.exp(0.05 * np.random.default_rng(0).normal(size=cube.implied_vol.shape)).astype(np.float32)
    out = volscen.project_arbitrage(cube.isel(step=[0]).assign(implied_vol=(cube.implied_vol * noise)[:, :1]))
    assert (out.attrs["projected"], float(out.arbitrage_penalty.max())) == (1, 0.0)
    return out


class TestProjectedNoMore:
    """Other surfaces in the place of those projected: they are not free of arbitrage, and must not say so."""

    def test_after_regridding(self, projected):
        out = volscen.surface.regrid(projected, tau=np.linspace(0.09, 0.9, 9), moneyness=np.linspace(0.85, 1.2, 15))
        assert float(out.arbitrage_penalty.max()) > 0.01
        assert out.attrs["projected"] == 0
        assert "projection" not in out.attrs
        assert not {"projection_status", "durrleman_g_min", "projection_change_rms"} & set(out.data_vars)
        assert "arbitrage_penalty_raw" in out  # weights go by it
        volscen.validate(out)

    def test_but_not_on_the_same_grid(self, projected):
        out = volscen.surface.regrid(projected, tau=projected.tau.values, moneyness=projected.moneyness.values)
        assert out.attrs["projected"] == 1
        assert "projection_status" in out

    def test_after_recalibration(self, projected):
        n = 1 + projected.sizes["tau"] * projected.sizes["moneyness"]
        width = np.exp(0.2 * np.random.default_rng(1).normal(size=n))
        bend = volscen.Recalibration(projected.tau.values, projected.moneyness.values, np.zeros(n), width, 100)
        out = volscen.recalibrate(projected, bend)
        assert float(out.arbitrage_penalty.max()) > 0.01
        assert out.attrs["projected"] == 0
        assert not {"projection_status", "arbitrage_penalty_raw"} & set(out.data_vars)
        assert "projected surfaces" not in volscen.report_text(out)


@pytest.mark.parametrize("name", [None, ["har"], 3])
def test_generators_have_names(history, name):
    with pytest.raises(InputError, match="unknown generator"):
        volscen.fit(history, name)


@pytest.mark.parametrize("value", [2.5, 5.0, np.float64(3), "5"])
def test_whole_numbers_of_generators(history, value):
    with pytest.raises(InputError, match="'n_components' of generator 'har' must be a whole number, such as 5"):
        volscen.fit(history, "har", n_components=value)


def test_one_half_life_is_a_list_of_one(history):
    with pytest.raises(InputError, match="half_lives"):
        volscen.fit(history, "har", half_lives=500)


def test_dimensions_in_another_order_are_told_how_to_be_put_right(cube, two):
    for ds, names in (
        (cube, "'scenario', 'step', 'tau', 'moneyness'"),
        (two, "'as_of', 'scenario', 'step', 'tau', 'moneyness'"),
    ):
        turned = ds.transpose("moneyness", "tau", ...)
        with pytest.raises(FileFormatError, match=re.escape(f"ds.transpose({names}, ...)")):
            volscen.risk.summary(turned)
        order = [name.strip("' ") for name in names.split(",")]
        xr.testing.assert_identical(volscen.risk.summary(turned.transpose(*order, ...)), volscen.risk.summary(ds))

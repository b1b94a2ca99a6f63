"""Resampling by weights: counts, unbiasedness, seeds, provenance."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import volscen
from scenario_toys import make_scenarios
from volscen._resample import METHODS, draw
from volscen.errors import InputError


def weighted(n=300, seed=0, as_of="2024-01-10"):
    weight = np.random.default_rng(seed).dirichlet(np.full(n, 0.5))
    weight[::7] = 0
    return make_scenarios(n, steps=2, seed=seed, weight=weight / weight.sum(), as_of=as_of)


@given(st.integers(0, 2**32 - 1), st.integers(1, 80), st.integers(1, 500), st.sampled_from(METHODS))
def test_counts(seed, size, n, method):
    rng = np.random.default_rng(seed)
    weight = rng.dirichlet(np.full(size, 0.3))
    weight[rng.random(size) < 0.2] = 0
    if weight.sum() == 0:
        weight[-1] = 1
    weight /= weight.sum()
    index = draw(weight, n, rng, method)
    count = np.bincount(index, minlength=size)
    assert count.sum() == n
    assert np.all(np.diff(index) >= 0)
    assert np.all(count[weight == 0] == 0)
    if method == "systematic":
        assert np.all(np.abs(count - n * weight) < 1 + 1e-9)
    if method == "stratified":
        assert np.all(np.abs(count - n * weight) < 2 + 1e-9)


def test_the_edges_of_the_unit_interval():
    class Constant:
        def __init__(self, value):
            self.value = value

        def random(self, *_):
            return self.value

    weight = np.array([0.0, 0.5, 0.5, 0.0])
    np.testing.assert_array_equal(draw(weight, 2, Constant(0.0)), [1, 2])
    np.testing.assert_array_equal(draw(weight, 2, Constant(np.nextafter(1, 0))), [1, 2])
    np.testing.assert_array_equal(draw(np.full(10, 0.1), 10, Constant(0.5)), np.arange(10))


@pytest.mark.parametrize("method", METHODS)
def test_unbiased(method):
    rng = np.random.default_rng(0)
    weight = np.array([0.013, 0.2, 0.0, 0.337, 0.45])
    n, runs = 7, 20_000
    count = sum(np.bincount(draw(weight, n, rng, method), minlength=5) for _ in range(runs)) / runs
    # Standard error at most that of independent draws.
    error = np.sqrt(n * weight * (1 - weight) / runs)
    assert np.all(np.abs(count - n * weight) <= 4.5 * error)


def test_systematic_is_the_least_noisy():
    rng = np.random.default_rng(0)
    weight = rng.dirichlet(np.ones(200))
    x = rng.standard_normal(200)
    spread = {m: np.std([x[draw(weight, 200, rng, m)].mean() for _ in range(400)]) for m in METHODS}
    assert spread["systematic"] < spread["multinomial"] / 2
    assert spread["stratified"] < spread["multinomial"] / 1.5


@pytest.mark.parametrize("method", METHODS)
def test_a_cube_keeps_its_scenarios_whole(method):
    ds = weighted()
    out = volscen.resample(ds, 500, seed=3, method=method)
    assert out.sizes["scenario"] == 500
    np.testing.assert_array_equal(out.scenario, np.arange(500))
    for name in ("implied_vol", "log_return", "spot", "arbitrage_penalty"):
        np.testing.assert_array_equal(out[name], ds[name].values[out.source_scenario.values])
    np.testing.assert_array_equal(out.weight, 1 / 500)
    assert out.attrs["resampled"] == method
    assert out.attrs["resampled_from"] == 300
    assert out.attrs["resampled_ess_fraction"] == pytest.approx(ds.attrs["ess_fraction"])
    assert out.attrs["distinct_scenarios"] == np.unique(out.source_scenario).size
    assert out.attrs["beta"] == 0
    assert out.attrs["ess_fraction"] == 1
    volscen.validate(out)
    assert volscen.resample(ds, 500, seed=3, method=method).identical(out)
    assert not volscen.resample(ds, 500, seed=4, method=method).equals(out)


def test_equal_weights_come_back_as_they_were():
    ds = make_scenarios(100, seed=1)
    out = volscen.resample(ds)
    np.testing.assert_array_equal(out.source_scenario, np.arange(100))
    twice = volscen.resample(volscen.resample(weighted(), 50, seed=1), 20, seed=2)
    np.testing.assert_array_equal(twice.log_return, weighted().log_return.values[twice.source_scenario.values])


def test_dates_are_drawn_on_their_own(tmp_path):
    days = ["2024-01-10", "2024-01-11", "2024-01-12"]
    parts = [weighted(seed=i, as_of=day) for i, day in enumerate(days)]
    axis = xr.DataArray([p.as_of.values for p in parts], dims="as_of", name="as_of")
    many = xr.concat([p.drop_vars("as_of") for p in parts], dim=axis, coords="minimal", data_vars="all")
    many.attrs |= {"beta": np.zeros(3), "ess_fraction": np.array([p.attrs["ess_fraction"] for p in parts])}
    out = volscen.resample(volscen.validate(many), 200, seed=5)
    assert out.source_scenario.dims == ("as_of", "scenario")
    for row, part in enumerate(parts):
        one = volscen.resample(part, 200, seed=5)
        np.testing.assert_array_equal(out.source_scenario[row], one.source_scenario)
        np.testing.assert_array_equal(out.implied_vol[row], one.implied_vol)
    assert out.spot0.dims == ("as_of",)
    again = volscen.read(volscen.write(out, tmp_path / "equal.nc"))
    np.testing.assert_array_equal(again.source_scenario, out.source_scenario)


def test_a_lazy_cube_stays_lazy():
    history = volscen.datasets.sample_history()
    model = volscen.fit(history, "bootstrap")
    lazy = volscen.generate(model, history, n_scenarios=1200, seed=1, chunks=512)
    out = volscen.resample(lazy, 100, seed=1)
    assert out.implied_vol.chunks is not None
    plain = volscen.resample(volscen.generate(model, history, n_scenarios=1200, seed=1), 100, seed=1)
    np.testing.assert_array_equal(out.implied_vol, plain.implied_vol)
    volscen.validate(out.compute())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be"),
        ({"n": 2.5}, "n must be"),
        ({"n": True}, "n must be"),
        ({"method": "best"}, "method must be one of"),
        ({"seed": -1}, "seed must be"),
        ({"seed": "one"}, "seed must be"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(InputError, match=message):
        volscen.resample(weighted(), **options)
    with pytest.raises(InputError, match="ds must be"):
        volscen.resample([1, 2])

"""Priors of historical simulation: source dates, age, likeness of the state."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import volscen
from volscen import priors
from volscen.errors import InputError


@pytest.fixture(scope="module")
def history():
    return volscen.datasets.sample_history()


@pytest.fixture(scope="module")
def cube(history):
    model = volscen.fit(history.isel(date=slice(None, 1200)), "bootstrap")
    made = volscen.generate(model, history, as_of=history.date.values[1250], n_scenarios=3000, horizon=2, seed=1)
    return priors.source_dates(made, history)


def test_source_dates_are_the_days_of_the_returns(cube, history):
    assert cube.source_date.dims == ("scenario", "step")
    past = history.log_return.sel(date=cube.source_date)
    np.testing.assert_array_equal(past, cube.log_return)
    row = np.searchsorted(history.date.values, cube.source_date.values[:, 0])
    move = np.log(history.implied_vol.values[row] / history.implied_vol.values[row - 1])
    np.testing.assert_allclose(np.log(cube.implied_vol[:, 0] / cube.implied_vol0), move, atol=1e-6)


def test_days_of_equal_returns_are_told_apart_by_their_surfaces():
    rng = np.random.default_rng(0)
    n = 30
    spot = np.full(n, 100.0)
    spot[10:] = 101.0  # all returns but one are nought
    iv = 0.2 * np.exp(np.cumsum(0.02 * rng.standard_normal((n, 2, 3)), axis=0))
    date = np.datetime64("2024-01-01") + np.arange(n)
    flat = volscen.make_history(date, [0.1, 0.5], [0.9, 1.0, 1.1], iv, spot=spot)
    made = volscen.generate(volscen.fit(flat, "bootstrap"), flat, n_scenarios=200, horizon=3, seed=1)
    found = priors.source_dates(made, flat)
    row = np.searchsorted(flat.date.values, found.source_date.values)
    surfaces = np.concatenate([np.broadcast_to(made.implied_vol0, (200, 1, 2, 3)), made.implied_vol], axis=1)
    np.testing.assert_allclose(np.diff(np.log(surfaces), axis=1), np.log(iv[row] / iv[row - 1]), atol=1e-6)


def test_other_generators_have_no_source_dates(history):
    for model in (None, volscen.fit(history, "fhs")):
        made = volscen.generate(model, history if model else None, n_scenarios=50, seed=1)
        with pytest.raises(InputError, match="historical simulation"):
            priors.source_dates(made, history)


def test_decay_halves(cube):
    weight = priors.time_decay(cube, half_life=100)
    age = (cube.as_of - cube.source_date).values / np.timedelta64(1, "D")
    expected = 0.5 ** (age.sum(axis=1) / 100)
    np.testing.assert_allclose(weight, expected / expected.sum(), rtol=1e-12)
    near_equal = priors.time_decay(cube, half_life=1e12)
    np.testing.assert_allclose(near_equal, 1 / 3000, rtol=1e-6)


def test_a_short_half_life_does_not_underflow(cube):
    weight = priors.time_decay(cube, half_life=0.01)
    assert np.isfinite(weight).all()
    assert weight.sum() == pytest.approx(1)


def test_similarity_follows_its_formula(cube, history):
    weight = priors.similarity(cube, history, bandwidth=0.7)
    today = 1250
    atm = np.log(history.implied_vol.values[:, 0]) @ _at_the_money(history.moneyness.values)
    r = history.log_return.values
    rv = np.full(r.size, np.nan)
    for t in range(21, r.size):
        rv[t] = np.log(np.sqrt(252 * np.mean(r[t - 20 : t + 1] ** 2)))
    state = np.stack([np.log(_linear(history)), rv], axis=1)
    assert atm.shape == (r.size,)
    scale = np.nanstd(state[: today + 1], axis=0)
    row = np.searchsorted(history.date.values, cube.source_date.values)
    squares = (((state[row - 1] - state[today]) / (0.7 * scale)) ** 2).sum(axis=-1).sum(axis=-1)
    expected = np.where(np.isnan(squares), 0, np.exp(-squares / 2))
    np.testing.assert_allclose(weight, expected / expected.sum(), rtol=1e-6, atol=1e-15)


def _at_the_money(m):
    return np.isclose(m, m[np.argmin(np.abs(m - 1))]) * 1.0


def _linear(history):
    """At-the-money vol of the first tenor, linear in log-moneyness by hand."""
    k = np.log(history.moneyness.values)
    return np.array([np.interp(0.0, k, iv) for iv in history.implied_vol.values[:, 0]])


def test_the_future_is_not_looked_at(cube, history):
    changed = history.copy(deep=True)
    changed["implied_vol"][1251:] *= 3
    np.testing.assert_array_equal(priors.similarity(cube, changed), priors.similarity(cube, history))


def test_days_like_today_gain(cube, history):
    state = priors.market_state(history)
    weight = priors.similarity(cube, history, bandwidth=0.3)
    row = np.searchsorted(history.date.values, cube.source_date.values) - 1
    distance = np.abs(state.values[row, 0] - state.values[1250, 0]).mean(axis=1)
    known = np.isfinite(state.values[row]).all(axis=(1, 2))
    assert weight.values[known] @ distance[known] < 0.6 * distance[known].mean()
    assert np.all(weight.values[~known] == 0)


def test_weights_go_to_the_verbs(cube, history):
    both = priors.combine(priors.similarity(cube, history), priors.time_decay(cube, half_life=2000))
    a, b = priors.similarity(cube, history).values, priors.time_decay(cube, half_life=2000).values
    np.testing.assert_allclose(both, a * b / (a * b).sum(), rtol=1e-9)
    np.testing.assert_allclose(volscen.reweight(cube, beta=0.0, prior=both).weight, both, rtol=1e-9)
    x = cube.log_return.values[:, 0]
    pooled = volscen.entropy_pool(
        cube, volscen.views.mean(x, equals=float(both.values @ x) - 1e-4), prior=both, ess_floor=0
    )
    assert pooled.weight.values @ x == pytest.approx(float(both.values @ x) - 1e-4, abs=1e-9)


def test_several_dates(history):
    days = history.date.values[[1200, 1300]]
    model = volscen.fit(history.isel(date=slice(None, 1201)), "bootstrap")
    many = priors.source_dates(volscen.generate(model, history, as_of=days, n_scenarios=400, seed=1), history)
    for weigh in (lambda d: priors.time_decay(d, half_life=300), lambda d: priors.similarity(d, history)):
        rows = weigh(many)
        assert rows.dims == ("as_of", "scenario")
        for i in range(2):
            one = volscen.generate(model, history, as_of=days[i], n_scenarios=400, seed=1)
            np.testing.assert_allclose(rows[i], weigh(priors.source_dates(one, history)), rtol=1e-12)
    assert volscen.reweight(many, prior=priors.time_decay(many, half_life=300)).weight.dims == ("as_of", "scenario")


def test_source_dates_are_written(cube, tmp_path):
    again = volscen.read(volscen.write(cube, tmp_path / "cube.nc"))
    np.testing.assert_array_equal(again.source_date, cube.source_date)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c, h: priors.time_decay(c.drop_vars("source_date"), 10), "source_dates"),
        (lambda c, h: priors.time_decay(c, 0), "half_life"),
        (lambda c, h: priors.time_decay(c, np.nan), "half_life"),
        (lambda c, h: priors.time_decay(c.assign_coords(as_of=c.as_of - np.timedelta64(3000, "D")), 10), "after as_of"),
        (lambda c, h: priors.similarity(c, h, bandwidth=-1), "bandwidth"),
        (lambda c, h: priors.similarity(c, h, state=np.ones(3)), "state must be"),
        (lambda c, h: priors.similarity(c, h, state=priors.market_state(h)[5:]), "dates of the history"),
        (lambda c, h: priors.similarity(c, h, state=0 * priors.market_state(h)), "same on all days|not known"),
        (lambda c, h: priors.similarity(c, h.isel(date=slice(None, 1000))), "does not hold as_of"),
        (lambda c, h: priors.market_state(h, window=1), "window"),
        (lambda c, h: priors.market_state(h, tau=-1), "tau"),
        (lambda c, h: priors.market_state(h, tau="soon"), "tenors such as"),
        (lambda c, h: priors.combine(), "combine"),
        (lambda c, h: priors.combine(xr.DataArray([1.0], dims="scenario"), c.weight), "same scenarios"),
        (
            lambda c, h: priors.combine(
                xr.DataArray([1.0, 0], dims="scenario"), xr.DataArray([0, 1.0], dims="scenario")
            ),
            "no scenario has any weight",
        ),
    ],
)
def test_bad_arguments(cube, history, call, message):
    with pytest.raises(InputError, match=message):
        call(cube, history)

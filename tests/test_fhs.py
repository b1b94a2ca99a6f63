"""Filtered historical simulation against recursions written out by hand, and the law it promises."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

import volscen
from volscen.errors import FileFormatError, FitError, InputError, MissingExtraError
from volscen.generators._fhs import FilteredHistorical
from volscen.history import make_history, state_at
from volscen.sources.simulate import simulate_market


@pytest.fixture(scope="module")
def history():
    return simulate_market("A", 500, seed=3)


@pytest.fixture(scope="module")
def model(history):
    return volscen.fit(history.isel(date=slice(0, 400)), "fhs")


def at(history, row):
    return state_at(history, history.date.values[row], n_returns=252, n_surfaces=253)


def moves_of(history):
    log_iv = np.log(history.implied_vol.values).reshape(history.sizes["date"], -1)
    return np.column_stack([history.log_return.values[1:], np.diff(log_iv, axis=0)])


def garch_market(n, seed, *, alpha=0.1, beta=0.85):
    """Return and one vol factor, each GARCH(1,1) with its own shocks; the true variances besides."""
    rng = np.random.default_rng(seed)
    shock = rng.standard_normal((n, 2))
    v, x, variance = np.array([1e-4, 4e-4]), np.zeros((n, 2)), np.zeros((n + 1, 2))
    mean = v.copy()
    for t in range(n):
        variance[t] = v
        x[t] = np.sqrt(v) * shock[t]
        v = (1 - alpha - beta) * mean + alpha * x[t] ** 2 + beta * v
    variance[n] = v
    tau, moneyness = np.array([0.1, 0.5]), np.array([0.9, 1.0, 1.1])
    noise = 1e-3 * rng.standard_normal((n, 6))
    log_iv = np.log(0.2) + np.cumsum(x[:, 1:] + noise, axis=0)
    start = np.full((1, 6), np.log(0.2))
    date = np.datetime64("2000-01-03") + np.arange(n + 1)
    surfaces = np.exp(np.vstack([start, log_iv])).reshape(-1, 2, 3)
    spot = 100 * np.exp(np.r_[0, np.cumsum(x[:, 0])])
    return make_history(date, tau, moneyness, surfaces, spot=spot, calendar="weekdays"), variance


def test_variance_by_hand():
    model = FilteredHistorical(decay=0.5)
    model.variance_ = np.array([4.0])
    model.coefficients_ = np.array([[0.0, 0.5, 0.5]])
    # 4, then 0.5 * 2^2 + 0.5 * 4 = 4, then 0.5 * 0 + 0.5 * 4 = 2, then 0.5 * 9 + 0.5 * 2 = 5.5
    np.testing.assert_allclose(model._filter(np.array([[2.0], [0.0], [3.0]])), [[4.0], [4.0], [2.0], [5.5]])
    model.coefficients_ = np.array([[1.0, 0.25, 0.5]])
    # 4, then 1 + 1 + 2 = 4, then 1 + 0 + 2 = 3
    np.testing.assert_allclose(model._filter(np.array([[2.0], [0.0]])), [[4.0], [4.0], [3.0]])


def test_variance_stays_within_bounds():
    model = FilteredHistorical()
    model.variance_ = np.array([1.0])
    model.coefficients_ = np.array([[0.0, 0.06, 0.94]])
    assert model._filter(np.zeros((1000, 1)))[-1] == 1e-4
    assert model._filter(np.full((50, 1), 1e3))[-1] == 100


def test_draws_are_past_days_at_todays_scale(model, history):
    log_return, implied_vol = model.sample(at(history, 450), 300, 1, np.random.default_rng(0))
    x = moves_of(history)
    # the recursion written out, from the variance of the training sample
    v = np.mean(x[:399] ** 2, axis=0)
    variance = [v]
    for day in x:
        v = 0.94 * v + 0.06 * day**2
        variance.append(v)
    z = (x / np.sqrt(variance[:-1]))[60:399]
    drawn = np.column_stack([log_return, np.log(implied_vol[:, 0]).reshape(300, -1)])
    drawn[:, 1:] -= np.log(history.implied_vol.values[450]).ravel()
    scaled = z * np.sqrt(variance[450])
    nearest = np.argmin(np.abs(drawn[:, None, 0] - scaled[None, :, 0]), axis=1)
    # one day for all series, at the scale filtered up to the state; 1e-6 is float32 storage
    np.testing.assert_allclose(drawn, scaled[nearest], rtol=1e-5, atol=1e-8)
    assert len(np.unique(nearest)) > 100


def test_second_step_is_scaled_by_the_first(model, history):
    state = at(history, 450)
    log_return, implied_vol = model.sample(state, 200, 2, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    _, day = rng.integers(len(model.residual_), size=200), rng.integers(len(model.residual_), size=200)
    first = np.column_stack(
        [log_return[:, 0], np.log(implied_vol[:, 0] / history.implied_vol.values[450]).reshape(200, -1)]
    )
    v = 0.94 * model._starting_variance(state) + 0.06 * first**2
    np.testing.assert_allclose(log_return[:, 1], np.sqrt(v[:, 0]) * model.residual_[day, 0], rtol=1e-6)
    second = np.log(implied_vol[:, 1] / implied_vol[:, 0]).reshape(200, -1)
    np.testing.assert_allclose(second, np.sqrt(v[:, 1:]) * model.residual_[day, 1:], rtol=1e-6, atol=1e-9)


def paths_and_variances(model, state, n, horizon, seed):
    """Draws of every series, and the variance that each was drawn with, read off from the pool."""
    log_return, implied_vol = model.sample(state, n, horizon, np.random.default_rng(seed))
    log_iv = np.log(implied_vol).reshape(n, horizon, -1)
    start = np.broadcast_to(state.log_iv[-1].reshape(1, 1, -1), (n, 1, log_iv.shape[2]))
    x = np.concatenate([log_return[..., None], np.diff(np.concatenate([start, log_iv], axis=1), axis=1)], axis=2)
    rng = np.random.default_rng(seed)
    residual = np.stack([model.residual_[rng.integers(len(model.residual_), size=n)] for _ in range(horizon)], axis=1)
    return x, (x / residual.astype(np.float64)) ** 2


def test_paths_stay_within_the_variances_of_the_sample(model, history):
    """The recursion written out with its bound; the bound is the largest variance after the first 60 days."""
    seen, v = [], np.mean(moves_of(history)[:399] ** 2, axis=0)
    for day in moves_of(history)[:399]:
        v = 0.94 * v + 0.06 * day**2
        seen.append(v)
    largest = np.max(seen[59:], axis=0)
    np.testing.assert_allclose(model.largest_, largest, rtol=1e-10)
    state = at(history, 450)
    x, variance = paths_and_variances(model, state, 300, 60, 7)
    v = np.broadcast_to(model._starting_variance(state), x[:, 0].shape)
    assert np.all(v < largest)
    met = np.zeros(300, dtype=bool)
    for step in range(60):
        np.testing.assert_allclose(variance[:, step], v, rtol=1e-5)
        v = np.minimum(0.94 * v + 0.06 * x[:, step] ** 2, largest)
        met |= np.any(v == largest, axis=1)
    assert met.mean() > 0.02  # the bound is met, and not by a single path


def test_a_state_wilder_than_the_sample_is_flagged_and_grows_no_wilder(model, history):
    wild = history.copy(deep=True)
    wild.log_return[450] = 0.2
    state = at(wild, 450)
    start = model._starting_variance(state)
    assert model.largest_[0] < start[0] < 100 * model.variance_[0]
    assert model.is_outside(state)
    _, variance = paths_and_variances(model, state, 200, 30, 8)
    np.testing.assert_allclose(variance[:, 0, 0], start[0], rtol=1e-5)  # today is as wild as it is
    assert variance[:, :, 0].max() <= start[0] * (1 + 1e-5)
    assert (variance[:, 1, 0] > start[0] * (1 - 1e-5)).any()


def test_update_renews_the_pool_only(model, history):
    again = volscen.fit(history.isel(date=slice(0, 400)), "fhs", residual_days=100)
    coefficients, variance, largest = (x.copy() for x in (again.coefficients_, again.variance_, again.largest_))
    again.update(history)
    np.testing.assert_array_equal(again.coefficients_, coefficients)
    np.testing.assert_array_equal(again.variance_, variance)
    np.testing.assert_array_equal(again.largest_, largest)
    assert again.residual_.shape == (100, 81)
    last = (moves_of(history) / np.sqrt(again._filter(moves_of(history))[:-1]))[-1]
    np.testing.assert_allclose(again.residual_[-1], last, rtol=1e-6)


def test_spread_follows_the_true_volatility():
    """On a GARCH market the drawn spread must track the known one; historical simulation's is constant.

    Over seeds 0 to 9 the correlation of log spreads was 0.87 to 0.91, and 0.26 to 0.54 with the volatility of 30
    days before: the bar lies well between.
    """
    history, variance = garch_market(2500, seed=1)
    model = volscen.fit(history.isel(date=slice(0, 2000)), "fhs")
    rows = range(2000, 2500, 10)
    drawn = [model.sample(at(history, row), 2000, 1, np.random.default_rng(row))[0].std() for row in rows]
    true = [np.sqrt(variance[row, 0]) for row in rows]
    assert np.corrcoef(np.log(drawn), np.log(true))[0, 1] > 0.75


def test_garch_recovers_known_coefficients():
    """Over seeds 0 to 9 alpha was off by at most 0.027 and beta by 0.061; the bars are half as wide again or more."""
    pytest.importorskip("arch")
    history, variance = garch_market(4000, seed=2)
    model = volscen.fit(history, "fhs", scale="garch")
    _, alpha, beta = model.coefficients_[0]
    assert abs(alpha - 0.1) < 0.056
    assert abs(beta - 0.85) < 0.088
    # so the variance of the day after the sample is close to the true one: within 6% over those seeds
    v = model._starting_variance(at(history, 4000))[0]
    assert abs(np.log(v / variance[4000, 0])) < 0.25


def test_garch_without_its_package(history, monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name == "arch":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match=r"volscen\[garch\]"):
        volscen.fit(history, "fhs", scale="garch")


def test_flags_a_state_beyond_the_bounds(model, history):
    assert not model.is_outside(at(history, 450))
    wild = history.copy(deep=True)
    wild.log_return[450] = 1.0
    assert model.is_outside(at(wild, 450))


def test_constant_series_are_refused(history):
    flat = history.copy(deep=True)
    flat.implied_vol[:, 0, 0] = 0.2
    with pytest.raises(FitError, match="never changes"):
        volscen.fit(flat, "fhs")


@pytest.mark.parametrize("options", [{"scale": "figarch"}, {"decay": 1.0}, {"decay": 0.0}, {"residual_days": 10}])
def test_options(options):
    with pytest.raises(InputError, match=next(iter(options))):
        FilteredHistorical(**options)


def test_file_with_parts_that_do_not_fit_together(model, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "residual_", model.residual_[:, :-1])
    path = model.save(tmp_path / "m.safetensors")
    with pytest.raises(FileFormatError, match="inconsistent"):
        volscen.load(path)

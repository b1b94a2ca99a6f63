"""Plainer and richer relatives of the scaled PCA-VAR: what each changes, against the same thing written out."""

from __future__ import annotations

import builtins
import copy

import numpy as np
import pytest

import volscen
from test_fhs import garch_market
from volscen.errors import FileFormatError, FitError, InputError, MissingExtraError
from volscen.generators._factor_paths import windows
from volscen.generators._pca import ScaledPCA
from volscen.history import state_at
from volscen.sources.simulate import simulate_market


@pytest.fixture(scope="module")
def history():
    return simulate_market("A", 500, seed=11)


def at(history, model, row):
    return state_at(history, history.date.values[row], n_returns=model.n_returns, n_surfaces=model.n_surfaces)


def moves(model, state, n, seed=0):
    """One step's return and log-vol increments: (n, 1 + cells)."""
    r, iv = model.sample(state, n, 1, np.random.default_rng(seed))
    return np.column_stack([r, np.log(iv[:, 0] / np.exp(state.log_iv[-1])).reshape(n, -1)])


def test_first_step_by_hand(history):
    """The whole law of one step, from the model's arrays and nothing else of its code."""
    model = volscen.fit(history, "pca", residual_days=200)
    a = model.arrays()
    state = at(history, model, 480)
    log_iv = state.log_iv.reshape(2, -1)
    r = np.sqrt(252) * state.log_return
    level = ((log_iv[1] - a["cell_mean"]) / a["cell_sd"]) @ a["components"]
    last = ((log_iv[1] - log_iv[0]) / a["cell_sd"]) @ a["components"]
    realised = [0.5 * np.log((r[-5:] ** 2).mean()), 0.5 * np.log((r[-21:] ** 2).mean())]
    raw = np.clip(np.r_[level, r[-1], last, realised], a["feature_low"], a["feature_high"])
    x = (raw - a["feature_mean"]) / a["feature_sd"]
    mean = np.r_[1, x[:11]] @ a["mean_coef"]
    scale = np.exp(np.clip(np.r_[1, x[:5], x[11:]] @ a["scale_coef"], a["log_scale_low"], a["log_scale_high"]))
    day = np.random.default_rng(4).integers(200, size=30)
    z = (mean + scale * a["residual"][day]) * a["factor_sd"]
    increment = a["cell_sd"] * (z[:, 1:] @ a["components"].T + a["rest"][day])
    expected = np.column_stack([z[:, 0] / np.sqrt(252), increment])
    np.testing.assert_allclose(moves(model, state, 30, seed=4), expected, rtol=1e-9, atol=1e-12)


def test_second_step_goes_on_from_the_first(history):
    model = volscen.fit(history, "pca")
    state = at(history, model, 480)
    r, iv = model.sample(state, 40, 2, np.random.default_rng(6))
    rng = np.random.default_rng(6)
    _, day = rng.integers(len(model.residual_), size=40), rng.integers(len(model.residual_), size=40)
    log_iv = np.log(iv).reshape(40, 2, -1)
    start = np.broadcast_to(state.log_iv[-1].ravel(), (40, 80))
    returns = np.column_stack([np.broadcast_to(state.log_return[1:], (40, 20)), r[:, 0]])
    mean, scale = model._moments(returns, np.stack([start, log_iv[:, 0]], axis=1))
    factors = (mean + scale * model.residual_[day]) * model.factor_sd_
    np.testing.assert_allclose(r[:, 1], factors[:, 0] / np.sqrt(252), rtol=1e-8)
    increment = model.cell_sd_ * (factors[:, 1:] @ model.components_.T + model.rest_[day])
    np.testing.assert_allclose(log_iv[:, 1] - log_iv[:, 0], increment, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("residuals", ["gaussian", "t"])
def test_normal_and_student_residuals_have_the_moments_of_the_days(history, residuals):
    every_day = volscen.fit(history, "pca")
    state = at(history, every_day, 480)
    _, outcomes = every_day._start(state)  # where each day of the pool leads
    pool = np.column_stack([outcomes.log_return, np.log(outcomes.implied_vol) - state.log_iv[-1].ravel()])
    model = volscen.fit(history, "pca", residuals=residuals)
    x = moves(model, state, 40_000)
    sd = pool.std(axis=0, ddof=1)
    np.testing.assert_allclose((x.mean(axis=0) - pool.mean(axis=0)) / sd, 0, atol=0.025)
    np.testing.assert_allclose(np.cov(x.T) / np.outer(sd, sd), np.cov(pool.T) / np.outer(sd, sd), atol=0.06)
    kurtosis = (((x - x.mean(axis=0)) / x.std(axis=0)) ** 4).mean(axis=0)
    if residuals == "gaussian":
        assert np.abs(kurtosis - 3).max() < 0.3
    else:
        assert kurtosis.min() > 4.5  # 9 in the limit, from below in a sample


def test_constant_scale_does_not_see_the_state():
    """In market A the vol-of-vol grows with the level; a constant scale must not, the default must."""
    long = simulate_market("A", 2500, seed=5)
    level = long.implied_vol.values[100:, 0].mean(axis=1)
    rows = 100 + int(np.argmin(level)), 100 + int(np.argmax(level))
    ratio = {}
    for scale in ("constant", "log-linear"):
        model = volscen.fit(long, "pca", scale=scale)
        calm, stormy = (moves(model, at(long, model, row), 2000)[:, 1:].std(axis=0) for row in rows)
        ratio[scale] = np.median(stormy / calm)
    assert ratio["constant"] == pytest.approx(1, abs=1e-9)
    assert ratio["log-linear"] > 1.5


def test_constant_scale_is_the_students_t_scale_of_the_errors():
    rng = np.random.default_rng(1)
    from volscen.generators._factor_fit import fit_log_scale

    error = 0.3 * np.sqrt(3 / 5) * rng.standard_t(5, 40_000)
    assert np.exp(fit_log_scale(np.ones((40_000, 1)), error)[0]) == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize("filter", ["ewma", "garch"])
def test_filter_by_hand(history, filter):
    if filter == "garch":
        pytest.importorskip("arch")
    model = volscen.fit(history, "pca", filter=filter, residual_days=150)
    assert model.residual_.shape == (150, 6)
    unfiltered = volscen.fit(history, "pca", residual_days=450)
    shock = unfiltered.residual_  # divided by the log-linear scale only
    if filter == "ewma":
        np.testing.assert_allclose(model.filter_coef_, np.tile([0, 0.06, 0.94], (6, 1)))

    def variances(days):
        v = model.shock_variance_.copy()
        out = [v]
        for e in days:
            v = model.filter_coef_[:, 0] + model.filter_coef_[:, 1] * e**2 + model.filter_coef_[:, 2] * v
            out.append(v)
        return np.array(out)

    # the pool: filtered from 252 days before its first
    v = variances(shock[-402:])
    np.testing.assert_allclose(model.residual_, shock[-150:] / np.sqrt(v[252:-1]), rtol=1e-9)
    # today's variance: from the last 252 shocks
    state = at(history, model, 499)
    path, outcomes = model._start(state)
    today = variances(shock[-252:])[-1]
    np.testing.assert_allclose(path.variance[0], today, rtol=1e-9)
    np.testing.assert_allclose(outcomes.shock, np.sqrt(today) * model.residual_, rtol=1e-9)
    # and tomorrow's of each path
    drawn = outcomes.take(np.array([3, 7]))
    onwards = model._onwards(path, drawn)
    omega, alpha, beta = model.filter_coef_.T
    np.testing.assert_allclose(onwards.variance, omega + alpha * drawn.shock**2 + beta * today, rtol=1e-9)


def test_filtered_variance_at_its_bounds_is_flagged(history, monkeypatch):
    model = volscen.fit(history, "pca", filter="ewma")
    state = at(history, model, 400)
    for bound in ("feature_low_", "feature_high_"):
        wide = -np.inf if bound == "feature_low_" else np.inf
        monkeypatch.setattr(model, bound, np.full_like(getattr(model, bound), wide))
    # without bounds on the features nothing but the variance can be outside
    assert not model.is_outside(state)
    monkeypatch.setattr(model, "shock_variance_", 1e-9 * model.shock_variance_)
    model._forget()
    assert model.is_outside(state)


@pytest.mark.parametrize("name", ["pca", "sabr"])
def test_a_failed_fit_leaves_the_model_as_it_was(history, name):
    model = volscen.fit(history.isel(date=slice(0, 250)), name)
    before = {key: value.copy() for key, value in model.arrays().items()}
    flat = history.isel(date=slice(100, 300), moneyness=slice(2, 8)).copy(deep=True)
    flat.implied_vol[:] = 0.2
    with pytest.raises(FitError, match=r"never changes|stays at one value"):
        model.fit(flat)
    assert model.moneyness_.size == 10
    for key, value in model.arrays().items():
        np.testing.assert_array_equal(value, before[key])
    assert moves(model, at(history, model, 240), 5).shape == (5, 81)


def test_update_takes_short_histories(history):
    model = volscen.fit(history, "pca")
    model.update(history.isel(date=slice(-72, None)))
    assert model.residual_.shape == (50, 6)
    with pytest.raises(InputError, match="needs at least 71"):
        model.update(history.isel(date=slice(-70, None)))


def test_filter_follows_the_true_volatility():
    """As for filtered historical simulation: the drawn spread tracks the known one of a GARCH market."""
    history, variance = garch_market(2500, seed=1)
    model = volscen.fit(history.isel(date=slice(0, 2000)), "pca", n_components=1, scale="constant", filter="ewma")
    rows = range(2000, 2500, 10)
    drawn = [moves(model, at(history, model, row), 2000)[:, 0].std() for row in rows]
    assert np.corrcoef(np.log(drawn), 0.5 * np.log([variance[row, 0] for row in rows]))[0, 1] > 0.75


def test_filter_without_its_package(history, monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name == "arch":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match=r"volscen\[garch\]"):
        volscen.fit(history, "pca", filter="garch")


@pytest.mark.parametrize(
    "options",
    [
        {"filter": "ewma"},
        {"scale": "constant", "residuals": "gaussian"},
        {"scale": "constant", "residuals": "t", "filter": "ewma"},
    ],
)
def test_variants_are_saved_and_loaded(history, options, tmp_path):
    model = volscen.fit(history, "pca", **options)
    again = volscen.load(model.save(tmp_path / "m.safetensors"))
    assert again.parameters() == model.parameters()
    state = at(history, model, 480)
    for a, b in zip(*(m.sample(state, 20, 3, np.random.default_rng(0)) for m in (model, again)), strict=True):
        np.testing.assert_array_equal(a, b)
    first = [m.sample(state, 20, 1, np.random.default_rng(0)) for m in (model, again)]
    np.testing.assert_array_equal(first[0][1][:, 0], model.sample(state, 20, 3, np.random.default_rng(0))[1][:, 0])


def test_file_without_the_filter_it_names(history, tmp_path, monkeypatch):
    model = volscen.fit(history, "pca")
    monkeypatch.setattr(model, "filter", "ewma")
    monkeypatch.setattr(model, "arrays", lambda: volscen.fit(history, "pca").arrays())
    with pytest.raises(FileFormatError, match="incomplete"):
        volscen.load(model.save(tmp_path / "m.safetensors"))


def test_what_is_kept_of_a_state_is_forgotten_by_an_update(history):
    model = volscen.fit(history, "pca")
    state = at(history, model, 480)
    before = moves(model, state, 50)
    np.testing.assert_array_equal(moves(model, state, 50), before)
    model.update(history.isel(date=slice(50, 450)))
    fresh = copy.deepcopy(model)
    assert fresh._kept == []
    assert not np.array_equal(moves(model, state, 50), before)
    np.testing.assert_array_equal(moves(model, state, 50), moves(fresh, state, 50))


def test_windows_of_a_state_that_holds_fewer_surfaces():
    log_return, coordinate = np.arange(30.0), np.arange(24.0, 31.0)[:, None]  # the last 7 of 31 rows
    returns, surfaces = windows(log_return, coordinate)
    assert returns[:, -1].tolist() == [24.0, 25.0, 26.0, 27.0, 28.0]  # targets are returns 25 to 29
    assert surfaces[:, :, 0].tolist() == [[t, t + 1] for t in (24.0, 25.0, 26.0, 27.0, 28.0)]


@pytest.mark.parametrize(
    "options",
    [{"scale": "garch"}, {"filter": "garch11"}, {"residuals": "normal"}, {"decay": 1.0}, {"decay": 0.0}],
)
def test_options(options):
    with pytest.raises(InputError, match=next(iter(options))):
        ScaledPCA(**options)

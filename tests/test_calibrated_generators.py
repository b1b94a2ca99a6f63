"""SABR and Heston as generators: what moves, what is carried on, what is bounded, what is calibrated once."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import volscen
from volscen.errors import FitError, InputError
from volscen.generators._heston import Heston
from volscen.generators._sabr import SABR
from volscen.history import state_at
from volscen.sources.simulate import simulate_market

OPTIONS = {"sabr": {"residual_days": 100}, "heston": {"n_components": 3, "residual_days": 80}}


@pytest.fixture(scope="module")
def histories():
    return {"sabr": simulate_market("sabr", 200, seed=4), "heston": simulate_market("heston", 130, seed=4)}


@pytest.fixture(scope="module")
def models(histories):
    return {name: volscen.fit(history, name, **OPTIONS[name]) for name, history in histories.items()}


def at(history, row=-1):
    return state_at(history, history.date.values[row], n_returns=21, n_surfaces=2)


@pytest.mark.parametrize("name", OPTIONS)
def test_one_step_by_hand(name, models, histories):
    """Surfaces are the model's at moved parameters times the remainder, reverting and with the day's innovation."""
    model, state = models[name], at(histories[name])
    log_return, implied_vol = model.sample(state, 30, 1, np.random.default_rng(2))
    day = np.random.default_rng(2).integers(len(model.residual_), size=30)
    a = model.arrays()
    width = a["cell_sd"].size
    log_iv = state.log_iv.reshape(2, -1)
    parameters = model._calibrate(log_iv)
    remainder = log_iv[1] - model._log_surface(parameters)[1]
    mean, scale = model._moments(state.log_return[None], parameters[None])
    z = (mean + scale * a["residual"][day]) * a["factor_sd"]
    moved = parameters[1] + a["cell_sd"] * (z[:, 1:] @ a["components"].T + a["rest"][day, :width])
    low, high = model._limits()
    expected = model._log_surface(np.clip(moved, low, high))
    expected = expected + a["remainder_mean"] + a["remainder_persistence"] * (remainder - a["remainder_mean"])
    expected = expected + a["rest"][day, width:]
    np.testing.assert_allclose(log_return[:, 0], z[:, 0] / np.sqrt(252), rtol=1e-6)
    np.testing.assert_allclose(np.log(implied_vol[:, 0]).reshape(30, -1), expected, atol=1e-6)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_day_that_did_not_move_gives_todays_surface(name, models, histories, monkeypatch):
    """Without factors, innovations and reversion the scenarios are today's surface, remainder and all."""
    model, state = models[name], at(histories[name])
    for attribute in ("residual_", "rest_", "mean_coef_"):
        monkeypatch.setattr(model, attribute, np.zeros_like(getattr(model, attribute)))
    monkeypatch.setattr(model, "remainder_persistence_", np.ones_like(model.remainder_persistence_))
    model._forget()
    _, implied_vol = model.sample(state, 3, 4, np.random.default_rng(0))
    np.testing.assert_allclose(implied_vol, np.broadcast_to(np.exp(state.log_iv[-1]), implied_vol.shape), rtol=1e-9)
    model._forget()


@pytest.mark.parametrize("name", OPTIONS)
def test_yesterdays_moves_come_back(name, models, histories):
    """The pool holds what leads from each day's calibrated surface to the next day's, exactly."""
    model, history = models[name], histories[name]
    a, state = model.arrays(), at(history, -2)
    width = a["cell_sd"].size
    path, _ = model._start(state)
    moves = model._move(path, a["residual"][-1:], a["rest"][-1:])
    assert moves.log_return[0] == pytest.approx(float(history.log_return[-1]), rel=1e-6)
    np.testing.assert_allclose(moves.implied_vol[0], history.implied_vol.values[-1].ravel(), rtol=2e-5)
    assert a["rest"].shape == (OPTIONS[name]["residual_days"], width + history.implied_vol[0].size)


def test_remainder_reverts_as_fitted():
    """Persistence and mean of an autoregression that is known."""
    rng = np.random.default_rng(0)
    x = np.zeros((4000, 3))
    for t in range(1, 4000):
        x[t] = np.array([0.5, 0.9, 1.02 - 0.03]) * x[t - 1] + 0.01 * rng.standard_normal(3)
    model = SABR()
    from volscen.generators._factor_paths import Series

    series = Series(np.zeros(3999), np.zeros((4000, 3)), x + 0.05)
    model._fit_remainder(series)
    np.testing.assert_allclose(model.remainder_persistence_, [0.5, 0.9, 0.99], atol=0.03)
    np.testing.assert_allclose(model.remainder_mean_, x.mean(axis=0) + 0.05)
    innovation = model._remainder_innovation(series.remainder)
    np.testing.assert_allclose(innovation.std(axis=0), 0.01, rtol=0.05)
    np.testing.assert_allclose(model._next_remainder(series.remainder[:-1], innovation), series.remainder[1:])
    model._fit_remainder(Series(np.zeros(99), np.zeros((100, 1)), np.arange(100.0)[:, None] ** 2))
    assert model.remainder_persistence_[0] <= 0.999


def test_sabr_market_gives_its_state_back(models, histories):
    history = histories["sabr"]
    found = models["sabr"].calibrate(history.implied_vol)
    state = history.state.values
    # the market's noise of vols is about 0.1%; every maturity sees the same parameters
    np.testing.assert_allclose(np.log(found.alpha).mean("tau"), state[:, 0], atol=0.01)
    np.testing.assert_allclose(np.arctanh(found.rho).mean("tau"), state[:, 1], atol=0.05)
    assert abs(float(found.nu.mean()) - 0.9) < 0.03
    assert found.implied_vol.dims == history.implied_vol.dims
    assert float(abs(np.log(found.implied_vol / history.implied_vol)).max()) < 0.02


def test_heston_market_gives_its_variance_back(models, histories):
    history = histories["heston"].isel(date=slice(-40, None))
    found = models["heston"].calibrate(history.implied_vol)
    variance = history.state.values[:, 0]
    assert np.corrcoef(np.log(found.v0), np.log(variance))[0, 1] > 0.98
    np.testing.assert_allclose(found.v0, variance, rtol=0.15)
    np.testing.assert_allclose(found.rho, -0.7, atol=0.1)
    assert set(found.coords) >= {"date"}
    assert found.kappa.dims == ("date",)


def test_kappa_is_the_histories_own_and_held(models, histories):
    """The market's kappa is 3; a model that holds another finds days whose kappa stays near that."""
    model, history = models["heston"], histories["heston"]
    assert float(model.arrays()["kappa"][0]) == pytest.approx(3, rel=0.3)
    found = model.calibrate(history.implied_vol)
    np.testing.assert_allclose(np.log(found.kappa / model.kappa_[0]), 0, atol=0.2)
    free = model._grid.fit(np.log(history.implied_vol.values[-40:]).reshape(40, -1))
    assert np.diff(free[:, 2]).std() > 3 * float(np.log(found.kappa).diff("date").std())


@pytest.mark.parametrize("name", OPTIONS)
def test_each_surface_is_calibrated_once(name, models, histories, monkeypatch, tmp_path):
    history = histories[name]
    path = models[name].save(tmp_path / "m.safetensors")
    model = volscen.load(path)
    counted = []
    original = type(model)._calibrate

    def counting(self, log_iv):
        counted.append(len(log_iv))
        return original(self, log_iv)

    monkeypatch.setattr(type(model), "_calibrate", counting)
    model.sample(at(history), 5, 1, np.random.default_rng(0))
    assert counted == []  # a loaded model knows its days
    model.calibrate(history.implied_vol[-3:])
    assert counted == []
    other = history.implied_vol[-3:].copy(deep=True)
    other[1] *= 1.1
    model.calibrate(other)
    assert counted == [1]


@pytest.mark.parametrize("name", OPTIONS)
def test_wild_surfaces_stay_positive_and_are_flagged(name, models, histories):
    history = histories[name].isel(date=slice(-30, None))
    assert not models[name].is_outside(at(histories[name], -20))
    for factor in (12.0, 0.05):
        wild = history.copy(deep=True)
        wild.implied_vol[-1] *= factor
        model = models[name]
        assert model.is_outside(at(wild))
        log_return, implied_vol = model.sample(at(wild), 20, 3, np.random.default_rng(0))
        assert np.isfinite(log_return).all()
        assert np.isfinite(implied_vol).all()
        assert (implied_vol > 0).all()
    flat = history.copy(deep=True)
    flat.implied_vol[-1] = 0.2
    implied_vol = models[name].sample(at(flat), 20, 2, np.random.default_rng(0))[1]
    assert np.isfinite(implied_vol).all()
    assert (implied_vol > 0).all()


@pytest.mark.parametrize("name", OPTIONS)
def test_parameters_at_a_limit_are_flagged_by_themselves(name, models, histories, monkeypatch):
    model = models[name]
    monkeypatch.setattr(model, "feature_low_", np.full_like(model.feature_low_, -np.inf))
    monkeypatch.setattr(model, "feature_high_", np.full_like(model.feature_high_, np.inf))
    wild = histories[name].isel(date=slice(-30, None)).copy(deep=True)
    assert not model.is_outside(at(wild))
    wild.implied_vol[-1] *= 30.0
    assert model.is_outside(at(wild))


def test_parameters_never_leave_their_limits(models, histories, monkeypatch):
    model = models["heston"]
    monkeypatch.setattr(model, "factor_sd_", 200 * model.factor_sd_)
    model._forget()
    _path, outcomes = model._start(at(histories["heston"]))
    low, high = model._limits()
    assert np.all((outcomes.coordinate >= low) & (outcomes.coordinate <= high))
    assert np.any(outcomes.coordinate == high)
    assert np.isfinite(outcomes.implied_vol).all()
    model._forget()


def test_calibrate_refuses(models, histories):
    surfaces = histories["sabr"].implied_vol
    with pytest.raises(FitError, match="before calibrate"):
        Heston().calibrate(surfaces)
    model = models["sabr"]
    with pytest.raises(InputError, match="tau"):
        model.calibrate(surfaces.isel(tau=slice(1, None)))
    with pytest.raises(InputError, match="last dimensions"):
        model.calibrate(surfaces.transpose("tau", "moneyness", "date"))
    with pytest.raises(InputError, match="last dimensions"):
        model.calibrate(surfaces.values)
    with pytest.raises(InputError, match="not positive"):
        model.calibrate(surfaces.where(surfaces.tau < 0.5))
    one = model.calibrate(surfaces[-1])
    assert one.alpha.dims == ("tau",)
    assert isinstance(one, xr.Dataset)


@pytest.mark.parametrize(("name", "count"), [("sabr", 25), ("heston", 6)])
def test_more_components_than_parameters(histories, name, count):
    with pytest.raises(InputError, match="parameters"):
        volscen.fit(histories[name], name, n_components=count)


@pytest.mark.parametrize("beta", [-0.1, 1.1, np.nan])
def test_beta(beta):
    with pytest.raises(InputError, match="beta"):
        SABR(beta=beta)


@pytest.mark.parametrize(
    ("name", "factor", "words"),
    [("sabr", 4, "nu at 30 days stays at its upper limit 6.97"), ("heston", 4, "theta stays at its upper limit 4;")],
)
def test_a_parameter_that_stays_at_its_limit_is_named(histories, name, factor, words):
    history = simulate_market("A", 160, seed=4)
    with pytest.raises(FitError, match=words):
        volscen.fit(history.assign(implied_vol=history.implied_vol * factor), name, **OPTIONS[name])

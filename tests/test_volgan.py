"""VolGAN: what it learns from, sampling, model files, bad input."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr

import volscen
from volscen.errors import FileFormatError, FitError, InputError
from volscen.generators._volgan import VolGAN
from volscen.generators._volgan_data import condition, smoothness, targets_and_conditions, training_data
from volscen.generators._volgan_network import for_sampling, forward
from volscen.history import State, make_history, state_at
from volscen.sources.simulate import SSVIMarket, simulate_market

TAU, MONEYNESS = (0.1, 0.5), (0.9, 1.0, 1.15)
FAST = {"epochs": 3, "matching_epochs": 1, "progress": False}


@pytest.fixture(scope="module")
def history():
    return simulate_market(SSVIMarket(TAU, MONEYNESS, 0.01), 200, seed=5)


@pytest.fixture(scope="module")
def model(history):
    return VolGAN(**FAST, seed=1).fit(history.isel(date=slice(0, 150)))


# ------------------------------------------------------------------------------- targets and conditions
def test_rows_by_hand(history):
    target, known = targets_and_conditions(history)
    r = history.log_return.values
    g = np.log(history.implied_vol.values)
    assert target.shape == (200 - 22, 7)
    assert known.shape == (200 - 22, 9)
    for row, t in ((0, 22), (100, 122), (177, 199)):
        np.testing.assert_allclose(target[row, 0], np.sqrt(252) * r[t], rtol=1e-14)
        np.testing.assert_allclose(target[row, 1:], (g[t] - g[t - 1]).ravel(), rtol=1e-12)
        np.testing.assert_allclose(known[row, :2], np.sqrt(252) * r[[t - 1, t - 2]], rtol=1e-14)
        squares = sum(r[t - lag] ** 2 for lag in range(1, 22))
        np.testing.assert_allclose(known[row, 2], np.sqrt(252 / 21 * squares), rtol=1e-13)
        np.testing.assert_array_equal(known[row, 3:], g[t - 1].ravel())


def test_no_look_ahead(history):
    """What happens on day t reaches the target of day t and no condition before that of day t + 1."""
    t = 100
    altered = history.copy(deep=True)
    altered.log_return[t] = 0.2
    altered.implied_vol[t] *= 2
    target, known = targets_and_conditions(history)
    target2, known2 = targets_and_conditions(altered)
    changed = np.flatnonzero((known != known2).any(axis=1)) + 22
    assert changed.min() == t + 1
    assert changed.max() == t + 21  # the last realised volatility that holds the return of day t
    assert set(np.flatnonzero((target != target2).any(axis=1)) + 22) == {t, t + 1}


def test_training_and_sampling_build_the_same_condition(history):
    _, known = targets_and_conditions(history)
    for t in (21, 90, 198):
        state = state_at(history, history.date.values[t], n_returns=21)
        np.testing.assert_allclose(
            condition(state.log_return[None], state.log_iv.reshape(1, -1), 252)[0], known[t - 21], rtol=1e-13
        )


def test_annualised_by_the_periods_of_the_history(history):
    half_hourly = history.assign_attrs(periods_per_year=252.0 * 13)
    target, known = targets_and_conditions(history)
    target2, known2 = targets_and_conditions(half_hourly)
    np.testing.assert_allclose(target2[:, 0], np.sqrt(13) * target[:, 0], rtol=1e-13)
    np.testing.assert_allclose(known2[:, :3], np.sqrt(13) * known[:, :3], rtol=1e-13)
    np.testing.assert_array_equal(target2[:, 1:], target[:, 1:])


def test_smoothness_penalties_by_hand():
    tau, moneyness = np.array([0.1, 0.4, 1.0]), np.array([0.8, 1.0, 1.1, 1.4])
    g = np.random.default_rng(0).standard_normal((3, 4))
    along_m, along_tau = smoothness(tau, moneyness)
    by_hand = sum(
        (g[j, i + 1] - g[j, i]) ** 2 / (moneyness[i + 1] - moneyness[i]) ** 2 for j in range(3) for i in range(3)
    )
    np.testing.assert_allclose(np.sum((along_m @ g.ravel()) ** 2), by_hand, rtol=1e-13)
    by_hand = sum((g[j + 1, i] - g[j, i]) ** 2 / (tau[j + 1] - tau[j]) ** 2 for j in range(2) for i in range(4))
    np.testing.assert_allclose(np.sum((along_tau @ g.ravel()) ** 2), by_hand, rtol=1e-13)
    assert along_m.shape == (9, 12)
    assert along_tau.shape == (8, 12)


@pytest.mark.real
def test_agrees_with_the_authors_code_where_it_follows_the_paper(market_data):
    """Their targets and conditions, but for the realised volatility, which ends one day early in their code."""
    with np.load(market_data / "parity" / "volgan_public_code.npz") as file:
        log_return, log_iv = file["log_return"], file["log_iv_moneyness_fastest"]
        theirs_target, theirs = file["target"], file["condition"]
        tau, moneyness = file["tau"], file["m"]
    date = np.datetime64("2000-01-03") + np.arange(log_return.size)
    spot = 100 * np.exp(np.cumsum(log_return))
    surfaces = np.exp(log_iv).reshape(-1, tau.size, moneyness.size)
    target, known = targets_and_conditions(make_history(date, tau, moneyness, surfaces, spot=spot))
    n = len(theirs)  # they leave out the last day
    assert n == len(target) - 1
    np.testing.assert_allclose(target[:n], theirs_target, atol=2e-6)
    np.testing.assert_allclose(np.delete(known[:n], 2, axis=1), np.delete(theirs, 2, axis=1), atol=2e-6)
    np.testing.assert_allclose(known[: n - 1, 2], theirs[1:, 2], atol=1e-6)


def test_held_out_days_are_the_last(history):
    data = training_data(history, 20, 10)
    target, known = targets_and_conditions(history)
    np.testing.assert_array_equal(data.target, target[:-20])
    np.testing.assert_array_equal(data.validation_condition, known[-20:])
    np.testing.assert_allclose(data.validation_scale[0], 1 / target[:-20].std(axis=0), rtol=1e-14)
    np.testing.assert_allclose(data.outcome, target[-20:] / target[:-20].std(axis=0), rtol=1e-13)
    assert len(training_data(history, 0.1, 10).outcome) == 18  # of 178
    assert len(training_data(history, 0, 10).outcome) == 0
    assert len(training_data(history.isel(date=slice(0, 33)), 0.01, 10).outcome) == 1


# ----------------------------------------------------------------------------------------------- sampling
def test_network_equals_torch():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(9, 16),
        torch.nn.Softplus(),
        torch.nn.Linear(16, 32),
        torch.nn.Softplus(),
        torch.nn.Linear(32, 7),
    ).double()
    layers = [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in net if isinstance(m, torch.nn.Linear)]
    x = 10 * torch.randn(50, 9, dtype=torch.float64)
    np.testing.assert_allclose(forward(for_sampling(layers), x.numpy()), net(x).detach().numpy(), rtol=0, atol=1e-12)


def test_one_step_by_hand(model, history):
    """Noise first, then the condition; the return is de-annualised and the surface moves from the last one."""
    state = state_at(history, history.date.values[160], n_returns=21)
    log_return, implied_vol = model.sample(state, 5, 1, np.random.default_rng(3))
    z = np.random.default_rng(3).standard_normal((5, 32))
    r, g = state.log_return, state.log_iv[-1].ravel()
    known = np.r_[np.sqrt(252) * r[-1], np.sqrt(252) * r[-2], np.sqrt(252 / 21 * np.sum(r**2)), g]
    x = np.column_stack([z, np.tile(known, (5, 1))])
    arrays = model.arrays()
    for i in (1, 2):
        x = np.logaddexp(0, x @ arrays[f"generator.weight{i}"].T.astype(float) + arrays[f"generator.bias{i}"])
    move = x @ arrays["generator.weight3"].T.astype(float) + arrays["generator.bias3"]
    np.testing.assert_allclose(log_return[:, 0], move[:, 0] / np.sqrt(252), atol=1e-13)
    np.testing.assert_allclose(implied_vol[:, 0].reshape(5, -1), np.exp(g + move[:, 1:]), rtol=1e-12)


class _Replay:
    """Stands in for a random generator: hands out noise drawn before."""

    def __init__(self, noise):
        self.noise = noise

    def standard_normal(self, shape):
        return self.noise.reshape(shape)


def test_simulated_surface_and_return_are_the_next_state(model, history):
    """Step 2 is one step from the state that step 1 made; with another surface or return it is another."""
    state = state_at(history, history.date.values[160], n_returns=21)
    log_return, implied_vol = model.sample(state, 4, 2, np.random.default_rng(8))
    rng = np.random.default_rng(8)
    rng.standard_normal((4, 32))  # spent on step 1
    bits = rng.bit_generator.state

    def step2(returns, surface):
        rng.bit_generator.state = bits
        past = np.column_stack([np.tile(state.log_return[1:], (4, 1)), returns])
        return model._step(past, np.log(surface).reshape(4, 1, -1), rng)

    one_by_one = [
        model._step(
            np.r_[state.log_return[1:], log_return[path, 0]][None],
            np.log(implied_vol[path, 0]).reshape(1, 1, -1),
            _Replay(np.random.default_rng(8).standard_normal((8, 32))[4 + path]),
        )
        for path in range(4)
    ]
    np.testing.assert_allclose([r[0] for r, _ in one_by_one], log_return[:, 1], rtol=1e-9)
    np.testing.assert_allclose(np.exp([g[0] for _, g in one_by_one]), implied_vol[:, 1].reshape(4, -1), rtol=1e-9)

    r2, g2 = step2(log_return[:, 0], implied_vol[:, 0])
    np.testing.assert_allclose(r2, log_return[:, 1], rtol=1e-9)
    np.testing.assert_allclose(np.exp(g2), implied_vol[:, 1].reshape(4, -1), rtol=1e-9)
    assert (step2(log_return[:, 0], implied_vol[:, 0] * 1.01)[0] != r2).all()
    assert (step2(log_return[:, 0] + 0.01, implied_vol[:, 0])[0] != r2).all()


def test_paths_that_explode_raise_instead_of_overflowing(model, history):
    state = state_at(history, history.date.values[160], n_returns=21)
    wild = State(state.as_of, state.log_return * 1e6, state.log_iv, 100.0, state.forward, state.discount_factor)
    with pytest.raises(FitError, match="range of floating-point numbers"):
        model.sample(wild, 10, 1, np.random.default_rng(0))


def test_outside_means_outside_the_training_days(model, history):
    """The days trained on are inside; a return, a realised volatility or a cell beyond them is outside."""
    last_trained = round(0.9 * (150 - 22)) + 21  # the rest of the 150 days was held out
    for t in range(21, last_trained, 7):
        assert not model.is_outside(state_at(history, history.date.values[t], n_returns=21))
    state = state_at(history, history.date.values[100], n_returns=21)

    def moved(**changes):
        return model.is_outside(State(**{**state.__dict__, **changes}))

    assert not moved()
    spike = state.log_return.copy()
    spike[-1] = 0.5
    assert moved(log_return=spike)
    calm = np.full(21, 1e-9)
    assert moved(log_return=calm)  # each return is ordinary, their realised volatility is not
    cell = state.log_iv.copy()
    cell[0, 1, 2] += 3
    assert moved(log_iv=cell)


# -------------------------------------------------------------------------------------------- model files
def test_saved_model_samples_without_torch(model, history, tmp_path):
    model.save(tmp_path / "m.safetensors")
    state = state_at(history, history.date.values[160], n_returns=21)
    np.savez(tmp_path / "state.npz", r=state.log_return, g=state.log_iv)
    code = """if True:
        import sys, numpy as np, volscen
        from volscen.history import State
        model = volscen.load("m.safetensors")
        with np.load("state.npz") as f:
            state = State(np.datetime64("2000-01-03"), f["r"], f["g"], 100.0, np.ones(2), np.ones(2))
        r, iv = model.sample(state, 7, 2, np.random.default_rng(0))
        assert "torch" not in sys.modules, "torch was imported"
        np.savez("drawn.npz", r=r, iv=iv)"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    r, iv = model.sample(state, 7, 2, np.random.default_rng(0))
    with np.load(tmp_path / "drawn.npz") as drawn:
        np.testing.assert_array_equal(drawn["r"], r)
        np.testing.assert_array_equal(drawn["iv"], iv)


def test_fitted_attributes_survive_saving(model, tmp_path):
    loaded = volscen.load(model.save(tmp_path / "m.safetensors"))
    assert isinstance(loaded, VolGAN)
    assert loaded.alpha_ == model.alpha_
    assert loaded.epoch_ == model.epoch_
    assert loaded.training_curve_.shape == (3, 4)
    np.testing.assert_array_equal(loaded.validation_curve_, model.validation_curve_)
    assert loaded.options == model.options
    state = State(np.datetime64("2000-01-03"), np.full(21, 0.5), np.zeros((1, 2, 3)), 1.0, np.ones(2), np.ones(2))
    assert loaded.is_outside(state)


@pytest.mark.parametrize("damage", [lambda w: w[:-1], lambda w: w * np.nan])
def test_inconsistent_weights_are_refused(model, tmp_path, damage, monkeypatch):
    arrays = model.arrays()
    arrays["generator.weight2"] = damage(arrays["generator.weight2"])
    monkeypatch.setattr(model, "arrays", lambda: arrays)
    path = model.save(tmp_path / "m.safetensors")
    with pytest.raises(FileFormatError, match=r"generator\.weight2"):
        volscen.load(path)


# ---------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"mode": "code"}, "mode must be one of paper, reference, improved, not 'code'"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"epochs": 2.5}, "epochs"),
        ({"batch_size": True}, "batch_size"),
        ({"learning_rate": -1e-4}, "learning_rate must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate must be finite"),
        ({"hidden": (16,)}, "hidden must be 2 layer widths such as"),
        ({"hidden": (16, 0)}, r"hidden\[1\]"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"seed": None}, "seed"),
        ({"validation_days": -1}, "validation_days"),
        ({"validation_days": 2.5}, "validation_days"),
        ({"validation_scenarios": 1}, "validation_scenarios"),
        ({"keep": "first"}, "keep must be 'best' or 'last'"),
        ({"keep": "best", "validation_days": 0}, "needs validation days"),
        ({"progress": "yes"}, "progress"),
        ({"discriminator_rate": 0}, "discriminator_rate must be positive"),
        ({"discriminator_decay": -1}, r"discriminator_decay must be at least 0"),
        ({"averaging": 1}, r"averaging must lie in \[0, 1\)"),
        ({"n_components": 0}, "n_components"),
        ({"patience": 0}, "patience"),
        ({"patience": 3, "validation_days": 0}, "patience needs validation days"),
    ],
)
def test_options_are_checked(options, match):
    with pytest.raises(InputError, match=match):
        VolGAN(**options)


def test_history_too_short(history):
    with pytest.raises(InputError, match="needs at least 32"):
        VolGAN(**FAST).fit(history.isel(date=slice(0, 31)))
    with pytest.raises(InputError, match="validation_days = 170"):
        VolGAN(**FAST, validation_days=170).fit(history)
    VolGAN(**FAST, validation_days=1).fit(history.isel(date=slice(0, 33)))


def test_a_cell_that_never_moves_is_refused(history):
    frozen = history.copy(deep=True)
    frozen.implied_vol[:, 0, 1] = 0.2
    with pytest.raises(InputError, match="1 cells of the surface never moves"):
        VolGAN(**FAST).fit(frozen)
    frozen = history.copy(deep=True)
    frozen.log_return[1:] = 0.001
    frozen["spot"] = 100 * np.exp(0.001 * xr.ones_like(frozen.spot).cumsum("date"))
    with pytest.raises(InputError, match="the return never moves"):
        VolGAN(**FAST).fit(frozen)


def test_failed_fit_leaves_the_generator_as_it_was(history):
    model = VolGAN(**(FAST | {"learning_rate": 1e38}))
    with pytest.raises(FitError, match=r"diverged|gradient-norm matching"):
        model.fit(history)
    assert not model.is_fitted


def test_update_changes_nothing(model, history):
    before = {k: v.copy() for k, v in model.arrays().items()}
    period, fingerprint = model.period_, model.fingerprint_
    assert model.update(history) is model
    for key, value in model.arrays().items():
        np.testing.assert_array_equal(value, before[key])
    assert (model.period_, model.fingerprint_) == (period, fingerprint)
    with pytest.raises(InputError, match="13104 periods a year, the model was fitted with 252"):
        model.update(history.assign_attrs(periods_per_year=252.0 * 52))
    with pytest.raises(FitError, match="not been fitted"):
        VolGAN().update(history)


@pytest.mark.parametrize("cut", [{"tau": [0]}, {"moneyness": [1]}])
def test_a_grid_with_one_tau_or_one_moneyness(history, cut):
    """There is nothing to be smooth along, so that penalty has weight 0."""
    model = VolGAN(**FAST).fit(history.isel(cut))
    assert model.alpha_[1 if "tau" in cut else 0] == 0
    assert model.alpha_[0 if "tau" in cut else 1] > 0

"""The residual network: what it trains on, its score, the identity, the map written out, bases, checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from scoringrules import es_ensemble

import volscen
from volscen import arbitrage
from volscen.errors import FileFormatError, InputError
from volscen.generators._neural_training import unflatten
from volscen.generators._residual_net import ResidualNet, _layers, choose
from volscen.generators._residual_net_base import BASES
from volscen.generators._residual_net_data import Inputs, Table, tables
from volscen.generators._residual_net_training import Decoder, ResidualTask, energy_score, reshape
from volscen.history import state_at
from volscen.sources.simulate import simulate_market

SMALL = {"epochs": 2, "refits": 2, "members": 2, "batch_size": 64, "draws": 4, "validate_every": 1, "progress": False}


@pytest.fixture(scope="module")
def history():
    return simulate_market("A", 520, seed=7)


@pytest.fixture(scope="module")
def model(history):
    return volscen.fit(history.isel(date=slice(0, 500)), "residual_net", **SMALL)


def at(model, history, row=510):
    return state_at(history, history.date.values[row], n_returns=model.n_returns, n_surfaces=model.n_surfaces)


def with_share(model, share, flat=None):
    """The model as it would be with another share and parameters."""
    arrays = model.arrays() | {"chosen": np.array([share, 0.0, 1.0])}
    if flat is not None:
        arrays["network"] = flat
    other = ResidualNet(**model.parameters())
    other.tau_, other.moneyness_ = model.tau_, model.moneyness_
    other._restore(arrays)
    for name in ("period_", "calendar_", "periods_per_year_", "fingerprint_"):
        for each in (other, other.base_):
            setattr(each, name, getattr(model, name))
    return other


# ----------------------------------------------------------------------------------------------- the score
def test_energy_score_against_scoringrules():
    rng = np.random.default_rng(0)
    draws, outcome = rng.standard_normal((3, 9, 4)), rng.standard_normal((3, 4))
    # What the factors leave out lies along an axis of its own for every draw, and for the outcome.
    rest, outcome_rest = rng.uniform(0.1, 2, (3, 9)), rng.uniform(0.1, 2, 3)
    whole = np.concatenate([draws, np.sqrt(rest)[..., None] * np.eye(9), np.zeros((3, 9, 1))], axis=2)
    target = np.concatenate([outcome, np.zeros((3, 9)), np.sqrt(outcome_rest)[:, None]], axis=1)
    found = energy_score(*(torch.from_numpy(a) for a in (draws - outcome[:, None], rest, outcome_rest)))
    np.testing.assert_allclose(found, es_ensemble(target, whole, estimator="fair"), rtol=1e-10)


def test_the_network_begins_as_the_identity_and_its_map_is_as_written():
    rng = np.random.default_rng(1)
    x, e = rng.standard_normal((2, 3, 5)), 3 * rng.standard_normal((2, 3, 4, 2))
    widths = (7, 6, 4)
    size = 7 * 6 + 6 + 6 * 4 + 4
    flat = 0.3 * rng.standard_normal((2, size))
    found = reshape(unflatten(torch.from_numpy(flat), widths), torch.from_numpy(x), torch.from_numpy(e)).numpy()
    for member in range(2):
        w1, b1 = flat[member, :42].reshape(7, 6), flat[member, 42:48]
        w2, b2 = flat[member, 48:72].reshape(6, 4), flat[member, 72:]
        for day in range(3):
            for draw in range(4):
                own = e[member, day, draw]
                heads = np.tanh(np.tanh(np.r_[x[member, day], np.clip(own, -4, 4)] @ w1 + b1) @ w2 + b2)
                expected = own * np.exp(heads[:2] / 2) + heads[2:]
                np.testing.assert_allclose(found[member, day, draw], expected, rtol=1e-10)
    flat[:, 48:] = 0
    same = reshape(unflatten(torch.from_numpy(flat), widths), torch.from_numpy(x), torch.from_numpy(e))
    np.testing.assert_array_equal(same.numpy(), e)


def test_training_learns_a_known_shift_and_width():
    """Outcomes twice as wide as the pool says, and shifted where x is positive: the network finds both."""
    rng = np.random.default_rng(2)
    n = 1500
    x = rng.standard_normal((n, 1))
    pool = rng.standard_normal((n, 1))
    target = 1.5 * rng.standard_normal((n, 1)) + 0.7 * np.sign(x)
    zero, one = np.zeros(n), np.ones(n)
    table = Table(x, np.ones((n, 1)), target, zero, one, np.zeros(n, np.int64), np.full(n, n), pool, zero)
    task = ResidualTask(table, table, hidden=(16,), members=1, batch_size=64, draws=8, validation_scenarios=20, seed=0)
    from volscen.generators._neural_training import Plan, initial, run

    done = run(task, Plan(15, 5, 1e-2, 0.0, 0.9, None), initial(task, 0), None)
    assert done.best_score < 0.93 * done.scores[0, 1]
    layers = unflatten(torch.from_numpy(done.best), task.widths)
    e = torch.linspace(-2, 2, 41)[None, None, :, None]
    z = [reshape(layers, torch.tensor([[[v]]]), e)[0, 0, :, 0] for v in (-1.0, 1.0)]
    assert z[0].mean() == pytest.approx(-0.7, abs=0.25)
    assert z[1].mean() == pytest.approx(0.7, abs=0.25)
    assert float(z[0].std() / e.std()) > 1.25


# --------------------------------------------------------------------------------------------- its training days
@pytest.mark.parametrize("name", BASES)
def test_no_day_enters_what_is_said_of_it(history, name):
    """What is known at a day, and what is drawn in its place, is as if history had ended with the day's own move."""
    base = BASES[name](volscen.fit(history, name))
    days = base.days(history)
    n = len(days.factor)
    whole = base.past(days, 200, n)
    changed = history.copy(deep=True)
    changed.implied_vol[-100:] *= 1.3
    other_days = base.days(changed)  # the factors stay those of the base
    other = base.past(other_days, 200, n)
    np.testing.assert_array_equal(whole.error[: n - 100], other.error[: n - 100])
    np.testing.assert_array_equal(whole.mean[: n - 99], other.mean[: n - 99])
    assert not np.array_equal(whole.error[n - 100 :], other.error[n - 100 :])
    _, train, held = tables(base, history, 60, 3, 100)
    first = base.past(days, max(100, round(0.3 * (n - 60))), n)
    np.testing.assert_allclose(train.pool[:50], first.inflation * first.error[:50])
    np.testing.assert_allclose(train.target[0], first.inflation * first.error[50])
    np.testing.assert_allclose(train.weight[0], first.scale[50] * np.r_[1, base.model.factor_sd_[1:]])
    assert len(held.x) == 60
    assert train.length.max() == held.length.max() == 100
    row = len(held.x) - 1
    drawn = held.pool[held.first[row] : held.first[row] + held.length[row]]
    np.testing.assert_array_equal(drawn[-1], held.target[row - 1])  # of the day before at the latest
    for table in (train, held):  # what follows the last row that may be drawn is the day itself
        np.testing.assert_array_equal(table.pool[table.first + table.length], table.target)


@pytest.mark.parametrize("name", BASES)
def test_residuals_of_a_law_fitted_to_all_days_are_those_of_the_base(history, name):
    """With the cut at the end the refitted law is the base's own, and so are its residuals: no formula differs."""
    fitted = volscen.fit(history, name)
    base = BASES[name](fitted)
    days = base.days(history)
    past = base.past(days, len(days.factor), len(days.factor))
    pool, rest = base.pool
    np.testing.assert_allclose(past.error[-len(pool) :] * past.inflation, pool, rtol=1e-8, atol=1e-8)
    lengths = days.rest / past.rest_scale
    np.testing.assert_allclose(lengths[-len(rest) :], np.linalg.norm(rest, axis=1), rtol=1e-4)


@pytest.mark.parametrize("name", BASES)
def test_paths_of_the_base_step_by_step(history, name):
    """Steps taken through the adapter are the base's own paths, three steps long."""
    fitted = volscen.fit(history.isel(date=slice(0, 500)), name)
    base = BASES[name](fitted)
    state = state_at(history, history.date.values[510], n_returns=fitted.n_returns, n_surfaces=fitted.n_surfaces)
    log_return, implied_vol = fitted.sample(state, 30, 3, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    residual, rest = base.pool
    step = base.start(state)
    for t in range(3):
        day = rng.integers(len(residual), size=30)
        r, iv, moved = base.move(step, residual[day], rest[day])
        np.testing.assert_allclose(r, log_return[:, t], rtol=1e-10)
        np.testing.assert_allclose(iv.reshape(30, 8, 10), implied_vol[:, t], rtol=1e-10)
        step = base.after(moved)


def test_inputs_are_clipped():
    inputs = Inputs.of(np.array([[0.0, 1.0], [2.0, 1.0]]))
    np.testing.assert_array_equal(inputs.standardised(np.array([[9.0, 5.0]])), [[1.0, 0.0]])
    assert inputs.is_outside(np.array([[9.0, 1.0]]))
    assert not inputs.is_outside(np.array([[2.0, 1.0]]))


# ---------------------------------------------------------------------------------------------- the penalty
def penalised(base, history, weight):
    _, train, held = tables(base, history, 60, 2, 100, surfaces=True)
    decoder = Decoder(weight, *base.decoder, history.tau.values, history.moneyness.values)
    task = ResidualTask(
        train, held, hidden=(8,), members=1, batch_size=64, draws=4, validation_scenarios=20, seed=0, decoder=decoder
    )
    return held, decoder, task


@pytest.fixture(scope="module")
def crossing(history):
    """The market with maturities that move against one another, so that calendar spreads are violated."""
    made = history.copy(deep=True)
    up = np.where(np.arange(history.sizes["tau"]) % 2, 1, -1)
    made["implied_vol"] *= np.exp(0.04 * np.random.default_rng(8).standard_normal((520, 1, 1)) * up[:, None])
    return made


@pytest.mark.parametrize("name", BASES)
def test_a_days_own_residual_decodes_to_its_surface(crossing, name):
    held, decoder, task = penalised(BASES[name](volscen.fit(crossing, name)), crossing, 1.0)
    rows = torch.arange(len(held.x))
    own = torch.from_numpy(held.first + held.length)  # the row of the pool that follows those that may be drawn
    found = decoder.penalty(task._held, rows, own[:, None], task._held["target"][:, None])
    expected = arbitrage.penalty(crossing.implied_vol.values[-60:], decoder.tau, decoder.moneyness)
    assert (expected > 1e-3).sum() > 10
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-5)


def test_a_penalty_lowers_the_penalty(crossing):
    from volscen.generators._neural_training import Plan, initial, run

    base = BASES["pca"](volscen.fit(crossing, "pca"))

    def mean_penalty(weight):
        _, decoder, task = penalised(base, crossing, weight)
        done = run(task, Plan(8, 4, 1e-2, 0.0, 0.9, None), initial(task, 0), None)
        drawn = task._draws_held(torch.from_numpy(done.average), (1.0,))
        return float(torch.cat([decoder.penalty(task._held, *each) for each in drawn]).mean())

    assert mean_penalty(300.0) < 0.8 * mean_penalty(1e-12)


def test_without_a_penalty_nothing_changes(crossing):
    base = BASES["pca"](volscen.fit(crossing, "pca"))
    plain, wide = (tables(base, crossing, 60, 2, 100, surfaces=s)[1] for s in (False, True))
    for name in ("x", "weight", "target", "rest", "pool", "pool_rest"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(wide, name))
    assert plain.surface is None
    none, tiny = (
        ResidualNet("pca", **SMALL, penalty=penalty).fit(crossing).arrays()["network"] for penalty in (0.0, 1e-30)
    )
    np.testing.assert_array_equal(none, tiny)
    assert not np.array_equal(none, ResidualNet("pca", **SMALL, penalty=1e4).fit(crossing).arrays()["network"])


# ------------------------------------------------------------------------------------------------- the model
def test_share_zero_is_the_base_bit_for_bit(model, history):
    state = at(model, history)
    ours = with_share(model, 0.0).sample(state, 50, 2, np.random.default_rng(3))
    bases = model.base_.sample(state, 50, 2, np.random.default_rng(3))
    for a, b in zip(ours, bases, strict=True):
        np.testing.assert_array_equal(a, b)


def test_zero_parameters_draw_as_the_base_whatever_the_share(model, history):
    state = at(model, history)
    still = with_share(model, 1.0, np.zeros_like(model.arrays()["network"]))
    for a, b in zip(
        still.sample(state, 50, 2, np.random.default_rng(3)),
        model.base_.sample(state, 50, 2, np.random.default_rng(3)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_sampled_residuals_are_those_of_the_training_map(model, history):
    """NumPy and torch say the same, the mean over the members; and a half share touches half of the scenarios."""
    rng = np.random.default_rng(4)
    flat = (0.2 * rng.standard_normal(model.arrays()["network"].shape)).astype(np.float32)
    other = with_share(model, 1.0, flat)
    base = BASES["har"](other.base_)
    step, e = base.start(at(model, history)), rng.standard_normal((20, 6))
    x = torch.from_numpy(other._inputs.standardised(np.hstack([step.level, step.last, step.mean, np.log(step.scale)])))
    layers = unflatten(torch.from_numpy(flat).double(), other._widths())
    expected = reshape(layers, x.expand(2, 1, -1), torch.from_numpy(e).expand(2, 1, 20, 6)).mean(dim=0)[0]
    np.testing.assert_allclose(other._reshape(x.numpy(), e), expected.numpy(), rtol=1e-6, atol=1e-8)
    drawn = {
        share: with_share(model, share, flat).sample(at(model, history), 2000, 1, np.random.default_rng(6))[0]
        for share in (0.0, 0.5, 1.0)
    }
    half = drawn[0.5][:, 0] == drawn[1.0][:, 0]
    assert half.mean() == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(drawn[0.5][~half], drawn[0.0][~half], rtol=1e-9)


def test_the_share_is_zero_unless_it_gains_a_standard_error():
    base = np.array([2.0, 2.0, 2.0, 2.0])
    gains = np.array([0.4, -0.2, 0.3, 0.1])  # mean .15, standard error .1323
    daily = np.stack([base, base - 0.2 * gains, base - gains])
    assert choose(daily) == 2
    daily[2] -= np.array([0.0, -0.02, 0.02, -0.12])  # the mean falls to .12, the standard error rises to .1454
    assert choose(daily) == 0
    daily[1:] = 2.1
    assert choose(daily) == 0


def test_what_training_says_of_itself(model):
    assert model.share_ in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert 0 <= model.gain_ < 0.5
    assert (model.share_ == 0) == (model.gain_ == 0)
    assert model.curve_.epochs == 2
    assert model.curve_.scores["energy_score"].shape == (2,)


def test_an_interrupted_training_goes_on_to_the_same_bits(history, tmp_path):
    train = history.isel(date=slice(0, 500))
    model = ResidualNet("pca", **SMALL).fit(train)
    path = tmp_path / "run.safetensors"
    from volscen.generators import _residual_net_training as module

    calls, whole = [], module.ResidualTask.loss

    def stopping(self, flat, rng):
        calls.append(1)
        if len(calls) > self.batches + 1:
            raise KeyboardInterrupt
        return whole(self, flat, rng)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.ResidualTask, "loss", stopping)
        with pytest.raises(KeyboardInterrupt):
            ResidualNet("pca", **SMALL, checkpoint=path).fit(train)
    resumed = ResidualNet("pca", **SMALL, checkpoint=path).fit(train)
    for name, values in model.arrays().items():
        np.testing.assert_array_equal(resumed.arrays()[name], values, err_msg=name)
    np.testing.assert_array_equal(resumed.curve_.losses["energy_score_loss"], model.curve_.losses["energy_score_loss"])
    with pytest.raises(InputError, match="seed 0 there, 3 here"):
        ResidualNet("pca", **SMALL, checkpoint=path, seed=3).fit(train)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(FileFormatError, match="not a readable checkpoint"):
        ResidualNet("pca", **SMALL, checkpoint=path).fit(train)


def test_seeds_differ_and_update_is_the_bases(history, model):
    other = volscen.fit(history.isel(date=slice(0, 500)), "residual_net", **SMALL, seed=1)
    assert not np.array_equal(other.arrays()["network"], model.arrays()["network"])
    before = other.arrays()["network"].copy()
    other.update(history)
    np.testing.assert_array_equal(other.arrays()["network"], before)
    alone = volscen.fit(history.isel(date=slice(0, 500)), "har").update(history)
    np.testing.assert_array_equal(other.arrays()["base.residual"], alone.arrays()["residual"])


def test_files_that_do_not_fit_are_refused(model, tmp_path):
    from safetensors import safe_open

    path = model.save(tmp_path / "m.safetensors")
    good = load_file(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    for name, wrong in (
        ("network", good["network"][:, :-1]),
        ("input_range", good["input_range"][:, 1:]),
        ("chosen", np.array([0.3, 0.0, 1.0])),
    ):
        save_file({**good, name: np.ascontiguousarray(wrong)}, path, metadata=metadata)
        with pytest.raises(FileFormatError):
            volscen.load(path)
    assert len(_layers(model.arrays()["network"], model._widths())) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"base": "fhs"}, "base must be one of har, pca"),
        ({"members": 0}, "members"),
        ({"draws": 1}, "draws"),
        ({"hidden": ()}, "hidden"),
        ({"hidden": "32"}, "hidden"),
        ({"epochs": 0}, "epochs"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"averaging": 1.0}, "averaging"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"validation_days": 0}, "validation_days"),
        ({"validation_days": 10.5}, "validation_days"),
        ({"penalty": -1}, "penalty"),
        ({"penalty": float("nan")}, "penalty"),
        ({"patience": 0}, "patience"),
        ({"progress": "loud"}, "progress"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(InputError, match=words):
        ResidualNet(**options)


def test_too_few_days_are_refused(history):
    with pytest.raises(InputError, match="validation_days or refits"):
        ResidualNet("pca", **(SMALL | {"refits": 300})).fit(history)

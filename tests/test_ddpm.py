"""The diffusion generator: schedules, steps back, a law that it must learn, sampling, checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import volscen
from volscen.errors import FileFormatError, InputError
from volscen.generators._ddpm import Diffusion
from volscen.generators._ddpm_process import EMBEDDING, denoise, layers_of, reverse, schedule, time_embedding, visited
from volscen.generators._ddpm_training import DiffusionTask
from volscen.generators._neural_training import Plan, initial, run
from volscen.generators._volgan_data import TrainingData
from volscen.history import state_at
from volscen.sources.simulate import simulate_market

SMALL = {"epochs": 2, "hidden": (8,), "diffusion_steps": 8, "validate_every": 1, "progress": False}


@pytest.fixture(scope="module")
def history():
    return simulate_market("A", 320, seed=9)


@pytest.fixture(scope="module")
def model(history):
    return volscen.fit(history.isel(date=slice(0, 300)), "ddpm", **SMALL)


def test_schedules_against_the_papers():
    """The linear one of 1,000 steps runs from 1e-4 to 0.02 (Ho et al. 2020); cosine by its formula (Nichol 2021)."""
    linear = schedule("linear", 1000)
    beta = 1 - linear[1:] / linear[:-1]
    np.testing.assert_allclose(beta[[0, -1]], [1e-4, 0.02], rtol=1e-9)
    np.testing.assert_allclose(np.diff(beta), (0.02 - 1e-4) / 999, rtol=1e-6)
    cosine = schedule("cosine", 100)
    value = np.cos((np.arange(101) / 100 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(cosine[:99], (value / value[0])[:99], rtol=1e-9)
    for signal in (linear, cosine):
        assert signal[0] == 1
        assert np.all(np.diff(signal) < 0)
        assert 0 < signal[-1] < 1e-4
    assert visited(10, 10).tolist() == list(range(10, -1, -1))
    assert visited(50, 4).tolist() == [50, 38, 25, 12, 0]
    assert time_embedding(np.array([0.0, 0.3])).shape == (2, EMBEDDING)


def test_a_step_back_is_the_posterior_of_the_diffusion():
    """Mean and variance of x_{t-1} given x_t and x_0 by Bayes' rule for Gaussians, worked out from beta."""
    signal = schedule("linear", 40)
    rng = np.random.default_rng(0)
    for t in (2, 17, 40):
        now, then = signal[t], signal[t - 1]
        alpha = now / then
        precision = alpha / (1 - alpha) + 1 / (1 - then)
        x, clean = rng.standard_normal((2, 5, 3))
        mean = (np.sqrt(alpha) / (1 - alpha) * x + np.sqrt(then) / (1 - then) * clean) / precision
        np.testing.assert_allclose(reverse(x, clean, now, then, 1.0, np.zeros((5, 3))), mean, rtol=1e-8)
        noisy = reverse(x, clean, now, then, 1.0, np.ones((5, 3)))
        np.testing.assert_allclose(noisy - mean, precision**-0.5, rtol=1e-8)
        # Without noise it goes along the line through the clean value: the share of noise falls.
        straight = reverse(x, clean, now, then, 0.0, np.ones((5, 3)))
        np.testing.assert_allclose(
            (straight - np.sqrt(then) * clean) / np.sqrt(1 - then), (x - np.sqrt(now) * clean) / np.sqrt(1 - now)
        )


@pytest.mark.parametrize(("eta", "steps"), [(1.0, 30), (0.0, 15)])
def test_it_learns_a_conditional_law_with_two_modes(eta, steps):
    """y = c + 1 or c - 1, each with noise .2: modes, their place and their width come out."""
    rng = np.random.default_rng(1)
    n = 4000
    c = rng.uniform(-1, 1, (n, 1))
    y = c + rng.choice([-1.0, 1.0], (n, 1)) + 0.2 * rng.standard_normal((n, 1))
    nothing = np.zeros((0, 1))
    data = TrainingData(
        y[:-100], c[:-100], c[-100:], y[-100:], np.ones((100, 1)), nothing, nothing, np.eye(1), np.zeros((1, 1))
    )
    task = DiffusionTask(
        data, hidden=(48, 48), batch_size=256, diffusion="cosine", steps=30, sampling_steps=steps, eta=eta,
        validation_scenarios=20, seed=0,
    )  # fmt: skip
    done = run(task, Plan(80, 80, 1e-2, 0.0, 0.95, None), initial(task, 0), None)
    layers = layers_of(done.best[0], task.widths)
    for at in (-0.5, 0.5):
        drawn = denoise(layers, np.array([[at]]), 2000, task.signal, steps, eta, task.bounds, np.random.default_rng(2))
        z = (task.centre + task.width * drawn)[:, 0]
        upper = z > at
        assert upper.mean() == pytest.approx(0.5, abs=0.12)
        assert z[upper].mean() == pytest.approx(at + 1, abs=0.15)
        assert z[~upper].mean() == pytest.approx(at - 1, abs=0.15)
        assert z[upper].std() == pytest.approx(0.2, abs=0.12)


def test_torch_and_numpy_evaluate_the_same_network(history):
    """The loss by hand: the velocity that sampling reads off is the one that training scores."""
    from volscen.generators._volgan_factors import Factors

    _, data = Factors.fit(history, 2, 30, 10)
    task = DiffusionTask(
        data, hidden=(5,), batch_size=7, diffusion="cosine", steps=4, sampling_steps=4, eta=1.0,
        validation_scenarios=3, seed=1,
    )  # fmt: skip
    flat = 0.3 * torch.randn(task.start().shape, generator=torch.Generator().manual_seed(3))
    found = float(task.loss(flat, torch.Generator().manual_seed(4))[0])
    rng = torch.Generator().manual_seed(4)
    target = (data.target - data.target.mean(axis=0)) / data.target.std(axis=0)
    rows = torch.randint(len(target), (7,), generator=rng).numpy()
    t = torch.randint(1, 5, (7,), generator=rng).numpy()
    noise = torch.randn((7, 3), generator=rng).numpy()
    a = schedule("cosine", 4)[t][:, None]
    (w1, b1), (w2, b2) = layers_of(flat.numpy()[0], task.widths)
    noisy = np.sqrt(a) * target[rows] + np.sqrt(1 - a) * noise
    hidden = np.hstack([noisy, time_embedding(t / 4), data.condition[rows]]) @ w1 + b1
    velocity = (hidden / (1 + np.exp(-hidden))) @ w2 + b2
    expected = np.mean((velocity - (np.sqrt(a) * noise - np.sqrt(1 - a) * target[rows])) ** 2)
    assert found == pytest.approx(expected, rel=1e-4)


def test_draws_stay_in_the_range_of_the_training_days_and_follow_the_scale(model, history):
    state = state_at(history, history.date.values[310], n_returns=model.n_returns, n_surfaces=model.n_surfaces)
    log_return, implied_vol = model.sample(state, 500, 2, np.random.default_rng(0))
    assert np.isfinite(log_return).all()
    assert (implied_vol > 0).all()
    f = model._factors
    scale = f._scale(f._start(state)[2])[0, 0] * f.factor_sd[0] / f.annualise
    centre, width, low, high = model.arrays()["target"][:, 0]
    assert np.all(log_return[:, 0] >= scale * (centre + width * low) - 1e-12)
    assert np.all(log_return[:, 0] <= scale * (centre + width * high) + 1e-12)


def test_an_interrupted_training_goes_on_to_the_same_bits(history, model, tmp_path):
    train = history.isel(date=slice(0, 300))
    path = tmp_path / "run.safetensors"
    whole = DiffusionTask.loss
    calls = []

    def stopping(self, flat, rng):
        calls.append(1)
        if len(calls) > self.batches:
            raise KeyboardInterrupt
        return whole(self, flat, rng)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DiffusionTask, "loss", stopping)
        with pytest.raises(KeyboardInterrupt):
            Diffusion(**SMALL, checkpoint=path).fit(train)
    resumed = Diffusion(**SMALL, checkpoint=path).fit(train)
    for name, values in model.arrays().items():
        np.testing.assert_array_equal(resumed.arrays()[name], values, err_msg=name)
    with pytest.raises(InputError, match="belongs to another run"):
        Diffusion(**SMALL, checkpoint=path, eta=0.5).fit(train)
    path.write_text("junk")
    with pytest.raises(FileFormatError, match="not a readable checkpoint"):
        Diffusion(**SMALL, checkpoint=path).fit(train)


def test_patience_stops_early_and_update_renews_the_pool(history, model):
    short = volscen.fit(history, "ddpm", **(SMALL | {"epochs": 40, "learning_rate": 1e-9, "patience": 2}))
    assert short.curve_.epochs < 40
    before = model.arrays()
    other = volscen.fit(history.isel(date=slice(0, 300)), "ddpm", **SMALL)
    other.update(history)
    np.testing.assert_array_equal(other.arrays()["network"], before["network"])
    assert not np.array_equal(other.arrays()["factors.rest"], before["factors.rest"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"diffusion": "square"}, "diffusion"),
        ({"diffusion_steps": 1}, "diffusion_steps"),
        ({"sampling_steps": 51}, "sampling_steps is 51, more than the 50"),
        ({"eta": 1.5}, "eta"),
        ({"eta": -0.1}, "eta"),
        ({"hidden": (0,)}, r"hidden\[0\]"),
        ({"n_components": 0}, "n_components"),
        ({"progress": 2}, "progress"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(InputError, match=words):
        Diffusion(**options)


def test_more_components_than_cells_are_refused(history):
    cells = history.sizes["tau"] * history.sizes["moneyness"]
    with pytest.raises(InputError, match=f"n_components is {cells + 1} but the grid has only {cells} cells"):
        volscen.fit(history, "ddpm", n_components=cells + 1)

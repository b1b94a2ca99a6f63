"""The world model: networks against torch, resumed training, the law of a step, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import volscen
from volscen.errors import FileFormatError, FitError, InputError
from volscen.generators import _world_training as training
from volscen.generators._move_scale import borne_out
from volscen.generators._world import WorldModel
from volscen.generators._world_law import FILTER
from volscen.generators._world_numpy import Recurrence, VisionNet
from volscen.generators._world_raster import Screen
from volscen.generators._world_torch import Dynamics, RasterVAE
from volscen.history import state_at
from volscen.sources.simulate import simulate_market

SMALL = {"raster_size": 16, "channels": (4, 6, 8), "latent_dim": 4, "hidden": 8, "progress": False}


@pytest.fixture(scope="module")
def history():
    return simulate_market("A", 320, seed=11)


@pytest.fixture(scope="module")
def model(history):
    return WorldModel(epochs=5, dynamics_epochs=3, learning_rate=3e-3, **SMALL).fit(history)


def state(model, history, row=-1):
    date = history.date.values[row]
    return state_at(history, date, n_returns=model.n_returns, n_surfaces=model.n_surfaces)


# ------------------------------------------------------------------------------------------------ networks
@pytest.mark.parametrize("linear", [False, True])
def test_numpy_networks_are_those_of_torch(linear):
    rng = np.random.default_rng(0)
    loadings = torch.from_numpy(rng.normal(size=(5, 24 * 24)).astype("f4")) if linear else None
    net = RasterVAE(24, (3, 5, 7), 5, loadings)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(scale=0.2, size=parameter.shape).astype("f4")))
        net.decode(net.encode(torch.randn(8, 1, 24, 24))[0])  # moves the batch norms' averages
    net.eval()
    pictures = rng.normal(size=(11, 24, 24)).astype("f4")
    with torch.no_grad():
        mean, log_variance = (a.numpy() for a in net.encode(torch.from_numpy(pictures)[:, None]))
        drawn = net.decode(torch.from_numpy(mean)).numpy().reshape(11, -1)
    same = VisionNet.from_arrays({k: v.numpy() for k, v in net.state_dict().items()}, 24, 5)
    found = same.encode(pictures)
    np.testing.assert_allclose(found[0], mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[1], log_variance, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(same.decode(mean), drawn, rtol=1e-4, atol=2e-4)
    matrix = rng.normal(size=(24 * 24, 6)).astype("f4")
    np.testing.assert_allclose(same.decode(mean, same.reader(matrix)), drawn @ matrix, rtol=1e-3, atol=5e-3)


def test_numpy_recurrence_is_that_of_torch():
    rng = np.random.default_rng(1)
    net = Dynamics(3, 4)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(size=parameter.shape).astype("f4")))
    window = rng.normal(size=(6, 5, 3))
    same = Recurrence.from_arrays({k: v.numpy() for k, v in net.state_dict().items()}, 3, 4)
    np.testing.assert_allclose(same(window), net(torch.from_numpy(window).float()).detach().numpy(), atol=1e-5)


def test_networks_have_the_published_shape():
    net = RasterVAE(64, (32, 64, 128), 32)
    down = [layer for layer in net.encoder if isinstance(layer, torch.nn.Conv2d)]
    up = [layer for layer in net.decoder if isinstance(layer, torch.nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in down] == [32, 64, 128]
    assert [layer.out_channels for layer in up] == [64, 32, 1]
    assert {(*layer.kernel_size, *layer.stride, *layer.padding) for layer in [*down, *up]} == {(4, 4, 2, 2, 1, 1)}
    assert net.encoder[-1].in_features == 8192
    assert net.encode(torch.zeros(2, 1, 64, 64))[0].shape == (2, 32)


def test_objective_by_hand():
    """Two latents at mean (0, 2) and variance (1, e): divergences 0, for which free bits count, and (4 + e - 2) / 2."""
    net = RasterVAE(16, (2, 2, 2), 2)
    head = net.encoder[-1]
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([0.0, 2.0, 0.0, 1.0]))
    pictures = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        objective, error, divergence = (a.item() for a in net.loss(pictures, torch.zeros(4, 2), 0.5, 0.3))
        again = (net.decode(net.encode(pictures)[0]) - pictures).square().mean().item()
    second = 0.5 * (4 + np.e - 2)
    assert divergence == pytest.approx(second, rel=1e-6)
    assert objective - error == pytest.approx(0.5 * (0.3 + second) / 256, rel=1e-4)
    assert error == pytest.approx(again, rel=1e-5)


# ------------------------------------------------------------------------------------------------- rasters
def test_pictures_are_the_library_s_rasters(history):
    values = history.implied_vol.values
    screen = Screen.fit(values, history.tau.values, history.moneyness.values, 64, 100)
    raster = volscen.surface.raster(history.isel(date=slice(0, 3)))
    np.testing.assert_allclose(screen.paint(values[:3]), raster.implied_vol.values, rtol=1e-12)
    np.testing.assert_allclose(screen.axes[0], raster.tau.values)
    train = np.log(screen.paint(values[:100]))
    standard = screen.standardised(values[:100])
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(standard.std(axis=0), 1, atol=1e-4)
    np.testing.assert_allclose(screen.vol(standard)[7], np.exp(train[7]), rtol=1e-5)


def test_reading_off_is_exact_for_surfaces_linear_in_the_pixel_axes(history):
    tau, k = np.sqrt(history.tau.values), np.log(history.moneyness.values)
    log_vol = -1.5 + 0.3 * tau[:, None] - 0.8 * k
    screen = Screen.fit(history.implied_vol.values, history.tau.values, history.moneyness.values, 32, 200)
    pixel_tau, pixel_m = screen.axes
    picture = (-1.5 + 0.3 * np.sqrt(pixel_tau)[:, None] - 0.8 * np.log(pixel_m) - screen.mean) / screen.sd
    matrix, offset = screen.read_off()
    np.testing.assert_allclose(picture.ravel() @ matrix + offset, log_vol.ravel(), atol=2e-5)


# ------------------------------------------------------------------------------------------------ training
def test_training_learns_and_keeps_the_best_epoch_after_the_warm_up(model):
    assert model.vision_curve_.shape == (5, 4)
    assert model.vision_curve_[-1, 1] < 0.8 * model.vision_curve_[0, 1]
    late = model.vision_curve_[3:, 3]  # 5 epochs with half of them warm-up
    assert model.epochs_kept_[0] == 4 + int(np.argmin(late))
    assert model.epochs_kept_[1] == 1 + int(np.argmin(model.dynamics_curve_[:, 1]))


@pytest.mark.parametrize("stop_at", [("vision", 2), ("dynamics", 1)])
def test_interrupted_training_goes_on_to_the_same_bits(model, history, tmp_path, monkeypatch, stop_at):
    options = {"epochs": 5, "dynamics_epochs": 3, "learning_rate": 3e-3, **SMALL}
    path = tmp_path / "run.safetensors"
    real = training._judge

    def interrupted(job, last, epoch, *rest):
        if (job.stage, last.epoch) == stop_at:
            raise KeyboardInterrupt
        return real(job, last, epoch, *rest)

    monkeypatch.setattr(training, "_judge", interrupted)
    with pytest.raises(KeyboardInterrupt):
        WorldModel(checkpoint=path, **options).fit(history)
    monkeypatch.setattr(training, "_judge", real)
    torch.manual_seed(5)  # whatever else runs must not matter
    again = WorldModel(checkpoint=path, **options).fit(history)
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array, err_msg=name)
    before = path.stat().st_mtime_ns
    WorldModel(checkpoint=path, **options).fit(history)  # nothing left to train
    assert path.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="another run"):
        WorldModel(checkpoint=path, **{**options, "seed": 1}).fit(history)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FileFormatError, match="checkpoint"):
        WorldModel(checkpoint=path, **options).fit(history)


def test_training_leaves_torch_s_random_numbers_and_threads_alone(history):
    torch.manual_seed(3)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    WorldModel(epochs=1, dynamics_epochs=1, **SMALL).fit(history)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_divergence_is_an_error(history):
    with pytest.raises(FitError, match=r"diverged|finite"):
        WorldModel(epochs=3, dynamics_epochs=1, beta=1e38, warmup=0.0, free_bits=1e38, **SMALL).fit(history)


def test_principal_components_start_the_decoder(history):
    """At a learning rate of nothing, the pictures are those of four components."""
    model = WorldModel(decoder="pca+conv", epochs=1, dynamics_epochs=1, **{**SMALL, "learning_rate": 1e-12}).fit(
        history
    )
    values = history.implied_vol.values
    pictures = model._screen.standardised(values)
    mean, _ = model._vision.encode(pictures)
    n_train = 320 - 32
    train = pictures[:n_train].reshape(n_train, -1).astype(float)
    vectors = np.linalg.svd(train, full_matrices=False)[2][:4]
    flat = pictures.reshape(320, -1)
    np.testing.assert_allclose(model._vision.decode(mean), flat @ vectors.T @ vectors, atol=2e-3)
    np.testing.assert_allclose(np.mean(mean[:n_train] ** 2, axis=0), 1, rtol=1e-3)


# ---------------------------------------------------------------------------------------------- the law
def test_examples_line_up(model, history):
    """A row's window ends on the day before its target, in dates, returns and latents."""
    law = model._law
    series = model._series(history.implied_vol.values, np.nan_to_num(history.log_return.values), 252.0)
    windows, target, _ = law.examples(series, 10, direct=True)
    assert len(windows) == 320 - 11
    moves, mean = law.known_moves(series, None, 10, False)
    assert len(moves) == 320 - 1 - FILTER
    day = 200  # the target's date
    row = day - 11
    expected = (series.latent[day] - law.latent_mean) / law.latent_sd
    np.testing.assert_allclose(target[row, 1:], np.clip(expected, law.input_low[1:], law.input_high[1:]))
    raw = np.sqrt(252) * float(history.log_return[day - 1]) / law.move_sd[0]
    assert windows[row, -1, 0] == pytest.approx(np.clip(raw, law.input_low[0], law.input_high[0]))
    step = (series.latent[day] - series.latent[day - 1]) / law.move_sd[1:]
    np.testing.assert_allclose(moves[day - 1 - FILTER, 1:], step)
    back = -law.reversion * (series.latent[day - 1] - law.latent_mean) / law.move_sd[1:]
    np.testing.assert_allclose(mean[day - 1 - FILTER, 1:], back)


def test_a_past_day_with_its_own_residual_gives_the_day_that_followed(model, history):
    """What was taken apart goes together again: mean, scale, residual, decoder and remainder."""
    law = model._law
    day = 300
    past = history.isel(date=slice(0, day))
    start = model._state_series(state(model, past))
    path = law.start(start, 1, 10)
    series = model._series(history.implied_vol.values, np.nan_to_num(history.log_return.values), 252.0)
    pool_day = np.array([len(law.residual) - (320 - day)])

    class OneDay:
        def integers(self, n, size):
            return pool_day

    window = path.window
    annual, drawn = law.step(path, window, model._recurrence, OneDay(), False)
    law.arrive(path, window, annual, drawn)
    assert annual[0] / np.sqrt(252) == pytest.approx(float(history.log_return[day]), abs=1e-6)
    np.testing.assert_allclose(path.latent[0], series.latent[day], atol=1e-4)
    found = np.exp(model._decode(path.latent) + path.rest)[0]
    np.testing.assert_allclose(found, history.implied_vol.values[day].ravel(), rtol=2e-5)


def test_scenarios_start_at_today_s_surface(model, history):
    """Without moves and shocks, what is left is today's surface drawn a little towards what the decoder knows."""
    from dataclasses import replace

    quiet = WorldModel(**SMALL)
    quiet.__dict__.update(model.__dict__)
    law = model._law
    zeros = {"residual": 0 * law.residual, "rest_shock": 0 * law.rest_shock}
    still = {"rest_memory": np.ones_like(law.rest_memory), "reversion": 0 * law.reversion, "shrink": np.zeros(2)}
    quiet._law = replace(law, **zeros, **still)
    today = state(model, history)
    log_return, vol = quiet.sample(today, 3, 2, np.random.default_rng(0))
    np.testing.assert_allclose(vol, np.broadcast_to(np.exp(today.log_iv[-1]), vol.shape), rtol=2e-5)
    assert not log_return.any()


def test_one_day_is_the_first_step_of_a_longer_run(model, history):
    short = model.sample(state(model, history), 16, 1, np.random.default_rng(4))
    long = model.sample(state(model, history), 16, 4, np.random.default_rng(4))
    np.testing.assert_array_equal(short[0][:, 0], long[0][:, 0])
    np.testing.assert_array_equal(short[1][:, 0], long[1][:, 0])


def test_residuals_are_standardised(model):
    """On the days fitted on, residuals have a spread of about one and no scale of their own."""
    assert np.sqrt(np.mean(model._law.residual**2)) == pytest.approx(1.0, abs=0.15)


def test_posterior_noise_enters_the_window_only(model, history):
    today = model._state_series(state(model, history))
    path = model._law.start(today, 400, 10)
    blurred = model._law.blur(path, today, np.random.default_rng(0)) - path.window
    assert not blurred[:, :, 0].any()
    expected = today.latent_sd[-10:] / model._law.latent_sd
    np.testing.assert_allclose(blurred[:, :, 1:].std(axis=0), expected, rtol=0.2)


def test_update_renews_the_pool(model, history):
    other = WorldModel(**SMALL)
    other.__dict__.update(model.__dict__)
    part = history.isel(date=slice(0, 250))
    other.update(part)
    assert len(other._law.residual) == 250 - 1 - FILTER
    np.testing.assert_allclose(other._law.residual, model._law.residual[: 250 - 1 - FILTER], atol=1e-3)


# ------------------------------------------------------------------------------------------------ bad input
def test_an_unseen_state_is_flagged(model, history):
    assert not model.is_outside(state(model, history, 200))
    wild = history.copy(deep=True)
    wild.implied_vol[-1] *= 4
    assert model.is_outside(state(model, wild))


@pytest.mark.parametrize(
    "options",
    [
        {"raster_size": 20}, {"raster_size": 8}, {"channels": (1, 2)}, {"channels": "abc"}, {"beta": -1.0},
        {"beta": float("nan")}, {"latent_dim": 0}, {"latent_dim": True}, {"decoder": "pca"}, {"dynamics": "none"},
        {"scale": "garch"}, {"warmup": 1.5}, {"posterior_noise": 1}, {"residual_days": 10}, {"validation_days": 1.5},
        {"validation_days": -1}, {"learning_rate": 0.0}, {"num_threads": 0}, {"checkpoint_every": 0},
        {"dynamics_learning_rate": 2.0}, {"progress": "yes"}, {"device": 3}, {"seed": -1},
    ],
)  # fmt: skip
def test_options_are_named(options):
    with pytest.raises(InputError, match=next(iter(options))):
        WorldModel(**options)


def test_too_few_days_for_the_window(history):
    with pytest.raises(InputError, match="dates"):
        WorldModel(window=100, **SMALL).fit(history.isel(date=slice(0, 150)))
    with pytest.raises(InputError, match="validation_days"):
        WorldModel(validation_days=200, **SMALL).fit(history)


def test_a_grid_without_extent(history):
    with pytest.raises(InputError, match="at least two"):
        WorldModel(**SMALL).fit(history.isel(tau=[2]))


def test_holes_are_to_be_repaired_first(model, history):
    values = history.implied_vol.values[:3].copy()
    values[1, 2, 3] = np.nan
    with pytest.raises(InputError, match=r"surface 1.*repair"):
        model._screen.paint(values)
    holed = history.copy(deep=True)
    holed.implied_vol[4, 2, 3] = np.nan
    with pytest.raises(FileFormatError, match=r"NaN.*volscen\.repair"):
        volscen.fit(holed, "world", **SMALL)


def test_unknown_device(history):
    for device in ("tpu", "cuda:99", "cuda:x", ""):
        with pytest.raises(InputError, match="device"):
            WorldModel(device=device, **SMALL).fit(history)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_on_a_gpu_gives_nearly_the_same(model, history):
    options = {"epochs": 5, "dynamics_epochs": 3, "learning_rate": 3e-3, **SMALL}
    there = WorldModel(device="cuda", **options).fit(history)
    np.testing.assert_allclose(there.vision_curve_[0], model.vision_curve_[0], rtol=0.05)


def test_training_curve_and_a_fit_that_fails(model, history):
    curve = volscen.training_curve(model)
    np.testing.assert_array_equal(curve.squared_error, model.vision_curve_[:, 1])
    np.testing.assert_array_equal(curve.validation_error, model.vision_curve_[:, 3])
    assert curve.attrs["kept_epoch"] == model.epochs_kept_[0]
    assert "validation_error" not in volscen.training_curve(
        WorldModel(epochs=1, dynamics_epochs=1, validation_days=0, **SMALL).fit(history)
    )
    before = model.sample(state(model, history), 4, 1, np.random.default_rng(0))
    with pytest.raises(InputError):
        model.fit(history.isel(date=slice(0, 30)))
    np.testing.assert_array_equal(before[1], model.sample(state(model, history), 4, 1, np.random.default_rng(0))[1])


def test_the_network_is_believed_less_the_error_of_its_slope():
    said = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    came = np.array([[0.5, 3.0], [1.0, 1.5], [0.5, 1.0]])
    slope = 5 / 7  # sizes 1, 4, 2; agreements 1/2, 3, 3/2
    error2 = ((0.5 - slope) ** 2 + (3 - 4 * slope) ** 2 + (1.5 - 2 * slope) ** 2) / 49
    assert borne_out(said, came) == pytest.approx(slope * (1 - error2 / slope**2))
    assert borne_out(said, 10 * said) == 1.0
    assert borne_out(said, -said) == 0.0
    assert borne_out(0 * said, came) == 0.0
    noise = np.random.default_rng(0).normal(size=(2, 50, 3))
    assert borne_out(noise[0], noise[1]) < 0.3


def test_drawn_moves_carry_the_variances_on(model, history):
    law, series = model._law, model._state_series(state(model, history))
    path = law.start(series, 50, 10)
    moves = law._moves(series)[-FILTER:]
    weight = 0.5 ** (np.arange(FILTER)[::-1] / 5.0)
    np.testing.assert_allclose(path.variance[0, 0], weight @ moves**2 / weight.sum())
    before, latent = path.variance.copy(), path.latent.copy()
    annual, _ = law.step(path, path.window, model._recurrence, np.random.default_rng(0), False)
    move = np.column_stack([annual, path.latent - latent]) / law.move_sd
    for i, half_life in enumerate((5, 20)):
        keep = 0.5 ** (1 / half_life)
        np.testing.assert_allclose(path.variance[:, i], keep * before[:, i] + (1 - keep) * move**2, rtol=1e-6)


@pytest.mark.parametrize("scale", ["ewma", "none"])
def test_plain_scales(history, scale):
    model = WorldModel(epochs=1, dynamics_epochs=1, scale=scale, **SMALL).fit(history)
    law = model._law
    series = model._series(history.implied_vol.values, np.nan_to_num(history.log_return.values), 252.0)
    own, shared = law._scale_features(series)
    expected = np.exp(own[:, 1]) if scale == "ewma" else np.ones_like(own[:, 1])
    np.testing.assert_allclose(law.scale(own, shared), expected, rtol=1e-8)


def test_direct_dynamics_foresee_the_next_latents(history):
    model = WorldModel(epochs=1, dynamics_epochs=1, dynamics="direct", **SMALL).fit(history)
    law, series = model._law, model._state_series(state(model, history))
    path = law.start(series, 1, 10)
    said = model._recurrence(path.window)
    annual, _ = law.step(path, path.window, model._recurrence, None, True)
    np.testing.assert_allclose(path.latent, law.latent_mean + law.latent_sd * said[:, 1:])
    assert annual[0] == pytest.approx(law.move_sd[0] * said[0, 0])

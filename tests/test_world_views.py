"""What a world model sees, foresees and believes of stresses; its pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest

import volscen
from volscen.errors import InputError
from volscen.generators._world import WorldModel
from volscen.history import state_at
from volscen.sources.simulate import simulate_market
from volscen.world import structural_similarity
from volscen.world._stress import _functional, _likeliest, half_life

SMALL = {"raster_size": 16, "channels": (4, 6, 8), "latent_dim": 4, "hidden": 8, "progress": False}


@pytest.fixture(scope="module")
def history():
    return simulate_market("A", 320, seed=11)


@pytest.fixture(scope="module")
def model(history):
    options = {"decoder": "pca+conv", "epochs": 3, "dynamics_epochs": 2, **SMALL}
    return WorldModel(**options).fit(history.isel(date=slice(0, 260)))


# ------------------------------------------------------------------------------------------------ figures
def test_similarity_of_constants_and_of_itself():
    a, b, c1 = 0.3, 0.5, (0.01 * 0.8) ** 2
    found = structural_similarity(np.full((2, 12, 15), a), np.full((2, 12, 15), b), data_range=0.8)
    np.testing.assert_allclose(found, (2 * a * b + c1) / (a * a + b * b + c1), rtol=1e-12)
    picture = np.random.default_rng(0).random((20, 20))
    assert structural_similarity(picture, picture, data_range=1.0) == pytest.approx(1, abs=1e-12)


def test_similarity_is_scikit_image_s():
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(1)
    a = rng.random((3, 32, 24))
    b = a + 0.2 * rng.normal(size=a.shape)
    expected = [
        metrics.structural_similarity(
            x, y, data_range=1.3, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(structural_similarity(a, b, data_range=1.3), expected, rtol=1e-10)


def test_similarity_by_its_definition():
    """One window, by hand: Gaussian weights of 11 x 11 pixels."""
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 11, 11))
    one = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weight = np.outer(one, one) / one.sum() ** 2
    mean_a, mean_b = np.sum(weight * a), np.sum(weight * b)
    spread = [np.sum(weight * x * y) - p * q for x, y, p, q in
              ((a, a, mean_a, mean_a), (b, b, mean_b, mean_b), (a, b, mean_a, mean_b))]  # fmt: skip
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * mean_a * mean_b + c1) * (2 * spread[2] + c2)
    expected /= (mean_a**2 + mean_b**2 + c1) * (spread[0] + spread[1] + c2)
    assert structural_similarity(a, b, data_range=1.0) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("a", "b", "data_range"),
    [
        (np.zeros((12, 12)), np.zeros((12, 13)), 1.0),
        (np.zeros((10, 12)), np.zeros((10, 12)), 1.0),
        (np.full((12, 12), np.nan), np.zeros((12, 12)), 1.0),
        (np.zeros((12, 12)), np.zeros((12, 12)), 0.0),
    ],
)
def test_similarity_of_bad_pictures(a, b, data_range):
    with pytest.raises(InputError):
        structural_similarity(a, b, data_range=data_range)


def test_latents(model, history):
    found = volscen.world.latents(model, history)
    mean, log_variance = model.encode(history.implied_vol.values)
    np.testing.assert_array_equal(found.latent_mean, mean)
    np.testing.assert_allclose(np.log(found.latent_sd**2), log_variance, atol=1e-9)
    kl = np.mean([0.5 * (m**2 + np.exp(v) - 1 - v) for m, v in zip(mean, log_variance, strict=True)], axis=0)
    np.testing.assert_allclose(found.divergence, kl)
    assert found.attrs["active_share"] == 1.0
    eigenvalues = np.linalg.eigvalsh(np.cov(mean.T))
    dimension = eigenvalues.sum() ** 2 / np.sum(eigenvalues**2)
    assert found.attrs["effective_dimension"] == pytest.approx(dimension)
    np.testing.assert_allclose(np.var(found.principal.values, axis=0, ddof=1), eigenvalues[::-1][:2])
    np.testing.assert_array_equal(
        found.atm_vol, history.implied_vol.values[:, 4, np.argmin(abs(history.moneyness.values - 1))]
    )


def test_reconstruction_starts_near_principal_components(model, history):
    first = history.date.values[260]
    found = volscen.world.reconstruction_figures(model, history, first=first)
    assert 0.9 < found["ssim"] <= 1
    assert 0.9 < found["ssim_pca"] <= 1
    seen = volscen.world.reconstruct(model, history.isel(date=slice(260, None)))
    assert found["mse"] == pytest.approx(1e4 * float(((seen.raster - seen.reconstruction) ** 2).mean()))
    np.testing.assert_allclose(
        seen.raster, volscen.surface.raster(history.isel(date=slice(260, None)), 16).implied_vol, rtol=1e-12
    )
    with pytest.raises(InputError, match="fitted on"):
        volscen.world.reconstruction_figures(model, history, first=history.date.values[100])


def test_dynamics_of_a_known_forecast(model, history):
    """Errors are those of the mean moves, by hand."""
    first = history.date.values[270]
    found = volscen.world.dynamics_figures(
        model, history, first=first, rival=volscen.fit(history.isel(date=slice(0, 260)), "bootstrap")
    )
    latent = model.encode(history.implied_vol.values)[0]
    law = model.law
    came = np.diff(latent, axis=0)[269:]
    back = -law.reversion * (latent[269:-1] - law.latent_mean)
    assert found.loc[("latent", "ar1"), "mse"] == pytest.approx(np.mean((came - back) ** 2))
    assert found.loc[("latent", "ar1"), "ratio"] == pytest.approx(np.mean((came - back) ** 2) / np.mean(came**2))
    assert found.loc[("surface", "bootstrap"), "ratio"] == pytest.approx(1, abs=0.05)
    series = model.series_of(history)
    mean = model.known_moves(series)[1]
    ahead = latent[269:-1] + mean[-50:, 1:] * law.move_sd[1:]
    rest = law.rest_mean + law.rest_memory * (series.rest[269:-1] - law.rest_mean)
    surface = model.decode_grid(ahead) + rest
    truth = np.log(history.implied_vol.values[270:]).reshape(50, -1)
    assert found.loc[("surface", "world"), "mse"] == pytest.approx(np.mean((truth - surface) ** 2))
    assert list(found.columns) == ["mse", "ratio", "t", "p_value"]


# ------------------------------------------------------------------------------------------------ stresses
def test_half_life_by_hand():
    assert half_life(0.5 ** (np.arange(30) / 7.0)) == pytest.approx(7, abs=1e-9)
    assert half_life(-np.array([4.0, 3.0, 1.0])) == pytest.approx(1.5)
    assert half_life(np.array([1.0, 0.9, 0.8])) == math.inf
    assert half_life(np.array([1.0, -0.2])) == pytest.approx(0.5 / 1.2)


def test_calm_starts_at_today_and_the_shock_at_the_worst_day(model, history):
    found = volscen.world.stress(model, history, factor=1.0, steps=20)
    today = history.implied_vol.values[-1]
    np.testing.assert_allclose(found.implied_vol.isel(scenario=0, step=0), today, rtol=2e-5)
    log_level = np.log(history.implied_vol.values[:234]).mean(axis=(1, 2))
    assert model.worst_day_ == str(history.date.values[np.argmax(log_level)].astype("datetime64[D]"))
    worst = history.implied_vol.values[np.argmax(log_level)]
    # the same latents; only what they leave out differs
    np.testing.assert_allclose(found.implied_vol.isel(scenario=1, step=0), worst, rtol=0.1)
    assert not found.decoder_outside.any()
    assert found.attrs["half_life_steps"] > 1
    assert not found.log_return.values[:, 0].any()
    volscen.validate(found)


def test_a_fivefold_worst_day_is_flagged_and_calms_down(model, history):
    found = volscen.world.stress(model, history, steps=50)
    level = np.log(found.implied_vol).mean(["tau", "moneyness"])
    assert bool(found.decoder_outside[1, 0])
    assert not found.decoder_outside[0].any()
    gap = (level[1] - level[0]).values
    assert gap[0] > 0.5
    assert gap[-1] < 0.9 * gap[0]
    assert found.name.values.tolist() == ["calm", "worst_day x 5"]


@pytest.mark.parametrize("direction", ["level", "skew", "term"])
def test_directions_raise_what_they_are_named_after(model, history, direction):
    up, down = (volscen.world.stress(model, history, direction=direction, factor=f, steps=2) for f in (1.0, -1.0))

    def figure(ds):
        log_vol = np.log(ds.implied_vol.isel(step=0))
        return {
            "level": log_vol.mean(["tau", "moneyness"]),
            "skew": (log_vol.isel(moneyness=0) - log_vol.isel(moneyness=-1)).mean("tau"),
            "term": (log_vol.isel(tau=0) - log_vol.isel(tau=-1)).sel(moneyness=1, method="nearest"),
        }[direction].values

    assert figure(up)[1] > figure(up)[0] > figure(down)[1]
    # of all moves of one standard deviation by the covariance of days, it is the one that raises it most
    today = model.encode(history.implied_vol.values[-1:])[0][0]
    moves = model.law.residual[:, 1:] * model.law.move_sd[1:]
    covariance = moves.T @ moves / len(moves)
    chosen = _likeliest(model, today, direction)
    assert chosen @ np.linalg.solve(covariance, chosen) == pytest.approx(1, rel=1e-6)
    root, weight = np.linalg.cholesky(covariance), _functional(model, direction)
    unit = np.random.default_rng(0).normal(size=(200, 4))
    others = (root @ (unit / np.linalg.norm(unit, axis=1, keepdims=True)).T).T
    small = 0.01
    rise = (model.decode_grid(today + small * np.vstack([chosen, others])) - model.decode_grid(today[None])) @ weight
    assert rise[0] > 0.999 * rise[1:].max()


def test_drawn_stresses(model, history):
    found = volscen.world.stress(model, history, steps=5, n_paths=8, seed=3, log_return=-0.1, factor=1.0)
    assert found.sizes["scenario"] == 16
    np.testing.assert_allclose(found.log_return[8:, 0], -0.1)
    assert (found.implied_vol.isel(step=-1).std("scenario") > 0).all()
    again = volscen.world.stress(model, history, steps=5, n_paths=8, seed=3, log_return=-0.1, factor=1.0)
    np.testing.assert_array_equal(found.implied_vol, again.implied_vol)


def test_rescaling_is_the_same_market_in_other_units(model, history, tmp_path):
    """An asset of four times the vols and returns has four times the scenarios, the paths of latents being the same."""
    wild = volscen.make_history(
        history.date.values, history.tau.values, history.moneyness.values, 4 * history.implied_vol.values,
        spot=history.spot.values[0] * (history.spot.values / history.spot.values[0]) ** 4, calendar="weekdays",
    )  # fmt: skip
    other = model.rescaled(4)

    def draw(generator, data):
        date = data.date.values[-1]
        now = state_at(data, date, n_returns=generator.n_returns, n_surfaces=generator.n_surfaces)
        return generator.sample(now, 16, 2, np.random.default_rng(0))

    plain, scaled = draw(model, history), draw(other, wild)
    np.testing.assert_allclose(scaled[0], 4 * plain[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(scaled[1], 4 * plain[1], rtol=1e-3)
    loaded = volscen.load(other.save(tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(draw(loaded, wild)[1], scaled[1])
    crash = volscen.world.stress(model, wild, steps=3, rescale=4)
    same = volscen.world.stress(model, history, steps=3)
    np.testing.assert_allclose(crash.implied_vol, 4 * same.implied_vol, rtol=2e-3)
    with pytest.raises(InputError, match="factor"):
        model.rescaled(0)
    assert model.rescale_ == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"direction": "up"}, {"factor": math.nan}, {"factor": True}, {"steps": 0}, {"n_paths": 0}, {"seed": -1},
        {"log_return": math.inf}, {"rescale": -1.0}, {"factor": 1e5},
    ],
)  # fmt: skip
def test_bad_stresses(model, history, wrong):
    with pytest.raises(InputError):
        volscen.world.stress(model, history, **wrong)


def test_stress_of_what_is_no_world_model(history):
    with pytest.raises(InputError, match="world"):
        volscen.world.stress(WorldModel(**SMALL), history)
    with pytest.raises(InputError, match="world"):
        volscen.world.latents(volscen.fit(history, "bootstrap"), history)


# ------------------------------------------------------------------------------------------------ pictures
def test_pictures(model, history, tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure = volscen.plot.reconstruction(volscen.world.reconstruct(model, history), n=3)
    assert len(figure.axes) == 7
    seen = volscen.world.latents(model, history)
    ax = volscen.plot.latent_path(seen)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), seen.principal.values)
    np.testing.assert_allclose(ax.collections[0].get_array(), seen.atm_vol)
    crash = volscen.world.stress(model, history, steps=2)
    path = volscen.plot.animate_stress(crash, tmp_path / "crash.gif")
    from PIL import Image

    with Image.open(path) as movie:
        assert movie.format == "GIF"
        assert movie.n_frames == 3
    assert [p.name for p in tmp_path.iterdir()] == ["crash.gif"]
    with pytest.raises(InputError, match="gif"):
        volscen.plot.animate_stress(crash, tmp_path / "crash.mp4")
    for wrong in (history, None):
        with pytest.raises(InputError, match=r"volscen\.world"):
            volscen.plot.latent_path(wrong)
    plt.close("all")

"""Checks that every registered generator must pass, then what is particular to each."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import volscen
from volscen.errors import FileFormatError, FitError, HistoryWarning, InputError
from volscen.generators import REGISTRY, generator_class
from volscen.generators._factor_fit import ridge
from volscen.generators._factor_paths import windows
from volscen.generators._pca import ScaledPCA
from volscen.history import state_at
from volscen.sources.simulate import MARKETS, simulate_market

# Small enough to train in a second; its quality is not judged here.
OPTIONS = {
    "ddpm": {"epochs": 2, "hidden": (8,), "diffusion_steps": 10, "validate_every": 2},
    "heston": {"n_components": 3},
    "residual_net": {"base": "pca", "epochs": 2, "refits": 2, "batch_size": 64, "members": 1, "draws": 4},
    "vae_lstm": {
        "latent_dim": 3,
        "hidden": (8,),
        "lstm_hidden": (8,),
        "heads": 2,
        "window": 5,
        "vae_epochs": 1,
        "epochs": 1,
        "horizons": (1, 5),
    },
    "volgan": {"epochs": 3, "seed": 1},
    "world": {"raster_size": 16, "channels": (4, 4, 8), "latent_dim": 4, "epochs": 2, "dynamics_epochs": 2},
}
# Days fitted on, where calibrating them takes time.
DAYS = {"heston": 120}


@pytest.fixture(scope="module")
def history():
    return simulate_market("A", 500, seed=11)


@pytest.fixture(scope="module")
def fitted(history):
    return {name: volscen.fit(training(history, name), name, **OPTIONS.get(name, {})) for name in REGISTRY}


def training(history, name):
    return history.isel(date=slice(450 - DAYS.get(name, 450), 450))


def draw(model, history, row=460, n=64, horizon=1, seed=0):
    state = state_at(history, history.date.values[row], n_returns=model.n_returns, n_surfaces=model.n_surfaces)
    return model.sample(state, n, horizon, np.random.default_rng(seed))


@pytest.mark.parametrize("name", REGISTRY)
class TestEveryGenerator:
    def test_registered_under_its_own_name(self, name):
        assert generator_class(name).name == name

    def test_sample_shapes_and_values(self, name, fitted, history):
        log_return, implied_vol = draw(fitted[name], history, n=32, horizon=3)
        assert log_return.shape == (32, 3)
        assert implied_vol.shape == (32, 3, 8, 10)
        assert np.isfinite(log_return).all()
        assert (implied_vol > 0).all()
        assert log_return.std() > 0
        assert (implied_vol.std(axis=0) > 0).all()

    def test_same_rng_same_bits(self, name, fitted, history):
        for a, b in zip(draw(fitted[name], history), draw(fitted[name], history), strict=True):
            np.testing.assert_array_equal(a, b)
        assert not np.array_equal(draw(fitted[name], history)[0], draw(fitted[name], history, seed=1)[0])

    def test_fit_is_reproducible(self, name, fitted, history):
        again = volscen.fit(training(history, name), name, **OPTIONS.get(name, {}))
        for key, value in fitted[name].arrays().items():
            np.testing.assert_array_equal(again.arrays()[key], value)

    def test_save_and_load_give_the_same_draws(self, name, fitted, history, tmp_path):
        path = fitted[name].save(tmp_path / "model.safetensors")
        loaded = volscen.load(path)
        assert loaded.parameters() == fitted[name].parameters()
        assert loaded.fingerprint_ == fitted[name].fingerprint_
        first = str(training(history, name).date.values[0].astype("datetime64[D]"))
        assert loaded.period_ == (first, fitted[name].period_[1])
        for a, b in zip(draw(fitted[name], history), draw(loaded, history), strict=True):
            np.testing.assert_array_equal(a, b)
        assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]

    def test_nothing_after_the_last_training_day_enters(self, name, fitted, history):
        changed = history.copy(deep=True)
        changed.implied_vol[450:] *= 3
        changed.log_return[450:] *= 5
        again = volscen.fit(training(changed, name), name, **OPTIONS.get(name, {}))
        for key, value in fitted[name].arrays().items():
            np.testing.assert_array_equal(again.arrays()[key], value)

    def test_the_state_ends_at_as_of(self, name, fitted, history):
        """Changing the next day changes nothing; changing the as-of surface changes the draws."""
        model = fitted[name]
        later = history.copy(deep=True)
        later.implied_vol[461:] *= 1.5
        later.log_return[461:] = 0.3
        for a, b in zip(draw(model, history), draw(model, later), strict=True):
            np.testing.assert_array_equal(a, b)
        today = history.copy(deep=True)
        today.implied_vol[460] *= 1.01
        assert not np.array_equal(draw(model, history)[1], draw(model, today)[1])

    def test_unfitted_cannot_be_saved(self, name, tmp_path):
        with pytest.raises(FitError, match="not been fitted"):
            generator_class(name)().save(tmp_path / "m.safetensors")
        assert list(tmp_path.iterdir()) == []

    def test_short_history_is_refused(self, name, history):
        with pytest.raises(InputError, match="dates"):
            volscen.fit(history.isel(date=slice(0, 2)), name, **OPTIONS.get(name, {}))

    def test_update_refuses_another_grid(self, name, fitted, history):
        with pytest.raises(InputError, match="tau"):
            fitted[name].update(history.isel(tau=slice(1, None)))

    def test_update_needs_a_fit(self, name, history):
        with pytest.raises(FitError, match="before update"):
            generator_class(name)().update(history)

    def test_refitting_on_another_grid(self, name, history):
        model = volscen.fit(training(history, name), name, **OPTIONS.get(name, {}))
        assert model.fit(training(history, name).isel(tau=slice(2, None))).tau_.size == 6

    def test_missing_array_in_file(self, name, fitted, tmp_path):
        path = fitted[name].save(tmp_path / "m.safetensors")
        arrays = load_file(path)
        dropped = sorted(set(arrays) - {"tau", "moneyness"})[0]
        del arrays[dropped]
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
        save_file(arrays, path, metadata=metadata)
        with pytest.raises(FileFormatError, match="incomplete"):
            volscen.load(path)


# -------------------------------------------------------------------------------------------- model files
def test_truncated_model_file(fitted, tmp_path):
    path = fitted["pca"].save(tmp_path / "m.safetensors")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(FileFormatError, match="not a readable"):
        volscen.load(path)


def test_foreign_files(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_text("hello")
    with pytest.raises(FileFormatError):
        volscen.load(path)
    save_file({"a": np.ones(3)}, path)
    with pytest.raises(FileFormatError, match="not a volscen generator"):
        volscen.load(path)
    save_file({"a": np.ones(3)}, path, metadata={"volscen": json.dumps({"format": "volscen/generator/1"})})
    with pytest.raises(FileFormatError, match="unknown generator"):
        volscen.load(path)
    with pytest.raises(FileFormatError, match="no such"):
        volscen.load(tmp_path / "absent.safetensors")


def test_other_formats_are_named(tmp_path):
    """A file of a later version names the version that wrote it; a checkpoint says what it is for."""
    path = tmp_path / "m.safetensors"
    for header, words in (
        (
            {"format": "volscen/generator/2", "volscen_version": "7.1"},
            r"format volscen/generator/2, written by volscen 7\.1",
        ),
        ({"format": "volscen/volgan-checkpoint/2"}, "holds a training that was stopped"),
        ({"format": "volscen/other/1"}, "holds volscen/other/1"),
        ({"format": 3}, "not a volscen generator"),
    ):
        save_file({"a": np.ones(3)}, path, metadata={"volscen": json.dumps(header)})
        with pytest.raises(FileFormatError, match=words):
            volscen.load(path)


@pytest.mark.parametrize("header", ['{"format": "volscen/generator/1", "generator": []}', "[" * 100_000, "[]", "3", ""])
def test_hostile_headers(tmp_path, header):
    path = tmp_path / "m.safetensors"
    save_file({"a": np.ones(3)}, path, metadata={"volscen": header})
    with pytest.raises(FileFormatError):
        volscen.load(path)


@pytest.mark.parametrize("name", ["bootstrap", "pca", "volgan"])
def test_arrays_of_the_wrong_shape_or_not_finite_are_refused_on_loading(fitted, tmp_path, name):
    path = fitted[name].save(tmp_path / "m.safetensors")
    good = load_file(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    for key in sorted(set(good) - {"epoch"}):
        nothing = np.full(good[key].shape, np.nan)
        for wrong in (good[key][:0], np.repeat(good[key][None], 3, axis=0), nothing):
            save_file({**good, key: np.ascontiguousarray(wrong)}, path, metadata=metadata)
            with pytest.raises(FileFormatError):
                volscen.load(path)


def test_unknown_name_and_option(history):
    with pytest.raises(InputError, match="unknown generator 'arima'"):
        volscen.fit(history, "arima")
    with pytest.raises(InputError, match="generator 'pca' has no option 'colour'"):
        volscen.fit(history, "pca", colour="red")


# ---------------------------------------------------------------------------------------------- bootstrap
def test_bootstrap_draws_days_that_were(fitted, history):
    log_return, implied_vol = draw(fitted["bootstrap"], history, n=200)
    past_returns = history.log_return.values[1:450]
    log_iv = np.log(history.implied_vol.values)
    increments = np.diff(log_iv, axis=0)[:449]
    day = np.argmin(np.abs(log_return - past_returns[None]), axis=1)
    np.testing.assert_array_equal(log_return[:, 0], past_returns[day])
    # the surface moves as on the very day of the return: dependence is kept
    np.testing.assert_allclose(np.log(implied_vol[:, 0]) - log_iv[460], increments[day], atol=1e-12)


def test_bootstrap_window_and_update(history):
    model = volscen.fit(history, "bootstrap", window=100)
    np.testing.assert_array_equal(model.arrays()["log_return"], history.log_return.values[-100:])
    model.update(history.isel(date=slice(0, 300)))
    np.testing.assert_array_equal(model.arrays()["log_return"], history.log_return.values[200:300])
    with pytest.raises(InputError, match="needs at least 601"):
        volscen.fit(history, "bootstrap", window=600)


# ---------------------------------------------------------------------------------------------------- pca
def test_windows_end_the_day_before_the_target():
    log_return, log_iv = np.arange(30.0), np.arange(31.0)[:, None]  # return t leads into surface t + 1
    returns, surfaces = windows(log_return, log_iv)
    assert returns[0].tolist() == list(range(21))  # target: return 21, into surface 22
    assert surfaces[0].ravel().tolist() == [20.0, 21.0]
    assert returns[-1, -1] == 28.0  # the last target is return 29
    assert surfaces[-1].ravel().tolist() == [28.0, 29.0]


def test_ridge_against_the_normal_equations_with_heavy_weight():
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(50), rng.standard_normal((50, 2))])
    y, w = rng.standard_normal(50), rng.uniform(0.5, 2, 50)
    penalty = 1 / 0.04**2
    # the same as ordinary least squares with two made-up observations
    stacked = np.vstack([x * np.sqrt(w / w.mean())[:, None], np.eye(3)[1:] * np.sqrt(penalty)])
    expected = np.linalg.lstsq(stacked, np.r_[y * np.sqrt(w / w.mean()), 0, 0], rcond=None)[0]
    np.testing.assert_allclose(ridge(x, y, w), expected, rtol=1e-10)


def test_pca_scale_follows_the_state():
    """In market A the vol-of-vol grows with the level: draws must be wider on a stormy day."""
    long = simulate_market("A", 2500, seed=5)
    model = volscen.fit(long, "pca")
    level = long.implied_vol.values[100:, 0].mean(axis=1)
    calm, stormy = 100 + int(np.argmin(level)), 100 + int(np.argmax(level))
    spread = [np.log(draw(model, long, row=row, n=4000)[1][:, 0, 0, 5]).std() for row in (calm, stormy)]
    assert spread[1] > 1.5 * spread[0]


def test_pca_comes_close_to_the_oracle_on_a_market_with_a_known_law():
    """Energy-score skill on market A between historical simulation (0) and the true law (1).

    Over seeds 1 to 8 this skill was 0.85 to 0.99; 0.6 leaves room for other platforms and still fails for a
    model without state-dependent scale.
    """
    from volscen.evaluation import energy_score

    market, n_train = MARKETS["A"], 3001
    history = simulate_market(market, n_train + 250, seed=1)
    train = history.isel(date=slice(0, n_train))
    models = {
        "bootstrap": volscen.fit(train, "bootstrap"),
        "pca": volscen.fit(train, "pca", residual_days=3000),
    }
    log_iv = np.log(history.implied_vol.values).reshape(history.sizes["date"], -1)
    moves = np.column_stack([np.sqrt(252) * history.log_return.values[1:], np.diff(log_iv, axis=0)])
    sd = moves[: n_train - 1].std(axis=0)
    rng = np.random.default_rng(0)
    scores = {"bootstrap": [], "pca": [], "oracle": []}
    for row in range(n_train, n_train + 249, 2):
        for name, days in scores.items():
            if name == "oracle":
                r, iv = market.sample(history.state.values[row], 400, rng)
            else:
                r, iv = draw(models[name], history, row=row, n=400, seed=row)
                r, iv = r[:, 0], iv[:, 0]
            x = np.column_stack([np.sqrt(252) * r, np.log(iv).reshape(400, -1) - log_iv[row]])
            days.append(energy_score(x / sd, moves[row] / sd))
    mean = {name: np.mean(days) for name, days in scores.items()}
    skill = (mean["bootstrap"] - mean["pca"]) / (mean["bootstrap"] - mean["oracle"])
    assert 0.6 < skill < 1.1


def test_pca_flags_and_clips_an_unseen_state(fitted, history):
    model = fitted["pca"]
    inside = state_at(history, history.date.values[300], n_returns=21, n_surfaces=2)
    assert not model.is_outside(inside)
    wild = history.copy(deep=True)
    wild.implied_vol[300] *= 4
    outside = state_at(wild, history.date.values[300], n_returns=21, n_surfaces=2)
    assert model.is_outside(outside)
    log_return, _ = model.sample(outside, 500, 1, np.random.default_rng(0))
    assert np.abs(log_return).max() < 0.5


def test_pca_refuses_constant_series(history):
    flat = history.copy(deep=True)
    flat.implied_vol[:, 0, 0] = 0.2
    with pytest.raises(FitError, match="never changes"):
        volscen.fit(flat, "pca")


def test_pca_refuses_more_components_than_the_data_span(history):
    parallel = history.copy(deep=True)
    shift = np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, 500)))
    parallel["implied_vol"] = (history.implied_vol.dims, history.implied_vol.values[0] * shift[:, None, None])
    with pytest.raises(FitError, match="n_components"):
        volscen.fit(parallel, "pca")


@pytest.mark.parametrize("options", [{"n_components": 0}, {"residual_days": 10}])
def test_pca_options(options):
    with pytest.raises(InputError):
        ScaledPCA(**options)


def filled_in(history, first, n):
    """The history with n dates filled in from the one before, as feeds do that are dead."""
    vol, spot = history.implied_vol.values.copy(), history.spot.values.copy()
    vol[first : first + n], spot[first : first + n] = vol[first - 1], spot[first - 1]
    return volscen.make_history(history.date.values, history.tau.values, history.moneyness.values, vol, spot=spot)


@pytest.mark.parametrize("name", ["har", "pca", "fhs", "heston", "vae_lstm", "world", "ddpm"])
def test_days_filled_in_are_refused_by_what_scales_days(history, name):
    """HAR came out with log returns of -98 and vols of 220,000 after forty such days, and said nothing."""
    filled = filled_in(history, 200, 10)
    first, last = filled.date.values[[200, 209]].astype("datetime64[D]")
    with pytest.raises(FitError, match=rf"10 dates in a row \({first} to {last}\).*select_dates"):
        volscen.fit(filled, name, **OPTIONS.get(name, {}))


def test_the_remedy_for_days_filled_in_works(history):
    filled = filled_in(history, 200, 40)
    kept = volscen.select_dates(filled, np.delete(filled.date.values, np.s_[200:240]))
    with pytest.warns(HistoryWarning, match="59 days"):
        model = volscen.fit(kept, "har")
    cube = volscen.generate(model, kept, n_scenarios=500, horizon=5, seed=1)
    assert np.abs(cube.log_return.values).max() < 0.3
    assert cube.implied_vol.values.max() < 3


def test_an_update_with_a_dead_feed_is_refused(fitted, history):
    with pytest.raises(FitError, match="12 dates in a row"):
        copy.deepcopy(fitted["har"]).update(filled_in(history, 488, 12))


def test_few_days_filled_in_and_a_frozen_surface(history):
    volscen.fit(filled_in(history, 200, 9), "pca")
    vol = history.implied_vol.values.copy()
    vol[300:312] = vol[299]
    frozen = history.assign(implied_vol=(history.implied_vol.dims, vol))
    with pytest.raises(FitError, match="the surface does not move on 12 dates"):
        volscen.fit(frozen, "pca")
    volscen.fit(frozen, "bootstrap")


@pytest.mark.parametrize("name", ["har", "pca", "fhs", "bootstrap"])
def test_a_grid_of_one_cell(history, name):
    one = history.isel(tau=[2], moneyness=[4])
    options = {"n_components": 1} if name in ("har", "pca") else {}
    cube = volscen.generate(volscen.fit(one, name, **options), one, n_scenarios=50, horizon=3, seed=1)
    assert cube.implied_vol.shape == (50, 3, 1, 1)


@pytest.mark.parametrize("name", ["har", "pca", "ddpm"])
def test_too_many_components_are_told_how_many_there_may_be(history, name):
    with pytest.raises(InputError, match=r"give fewer, such as n_components=4$"):
        volscen.fit(history.isel(tau=[0, 4], moneyness=[2, 6]), name)


def test_a_return_that_is_constant_up_to_rounding_never_changes(history):
    spot = 100 * 1.0005 ** np.arange(history.sizes["date"])
    steady = volscen.make_history(
        history.date.values, history.tau.values, history.moneyness.values, history.implied_vol.values, spot=spot
    )
    for name in ("har", "pca"):
        with pytest.raises(FitError, match="never changes"):
            volscen.fit(steady, name)

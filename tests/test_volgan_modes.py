"""VolGAN's other two modes: as the authors' code trains it, and improved."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import volscen
from volscen.errors import FileFormatError, FitError, InputError
from volscen.generators._volgan import VolGAN
from volscen.generators._volgan_data import targets_and_conditions
from volscen.generators._volgan_factors import FILTER_WINDOW, Factors
from volscen.generators._volgan_kernel import pack
from volscen.generators._volgan_network import for_sampling, forward
from volscen.generators._volgan_options import make_options
from volscen.generators._volgan_reference import ReferenceTraining, reference_data, reference_penalties
from volscen.generators._volgan_training import Training
from volscen.history import State, make_history, state_at
from volscen.sources.simulate import SSVIMarket, simulate_market

TAU, MONEYNESS = (0.1, 0.3, 0.5), (0.9, 1.0, 1.15)
FAST = {"epochs": 4, "matching_epochs": 1, "progress": False, "validate_every": 2, "validation_scenarios": 20}


@pytest.fixture(scope="module")
def history():
    return simulate_market(SSVIMarket(TAU, MONEYNESS, 0.01), 420, seed=5)


@pytest.fixture(scope="module")
def improved(history):
    return VolGAN("improved", **FAST, n_components=3, seed=1).fit(history.isel(date=slice(0, 300)))


def same_model(a, b):
    keys = a.arrays().keys()
    for name in ("training_curve_", "validation_curve_"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    return keys == b.arrays().keys() and all(np.array_equal(a.arrays()[k], b.arrays()[k]) for k in keys)


# ---------------------------------------------------------------------------------------- the public code
def test_reference_rows_by_hand(history):
    """The realised volatility is a day older than the returns beside it; the last day is left out."""
    data = reference_data(history, 0, 10, 100)
    r, g = history.log_return.values, np.log(history.implied_vol.values).reshape(420, -1)
    assert len(data.target) == 420 - 23 - 1
    for row in (0, 100, 395):
        t = 23 + row
        np.testing.assert_allclose(data.target[row, 0], np.sqrt(252) * r[t], rtol=1e-14)
        np.testing.assert_allclose(data.target[row, 1:], g[t] - g[t - 1], rtol=1e-10)
        np.testing.assert_allclose(data.condition[row, :2], np.sqrt(252) * r[[t - 1, t - 2]], rtol=1e-14)
        np.testing.assert_allclose(
            data.condition[row, 2], np.sqrt(252 / 21 * np.sum(r[t - 22 : t - 1] ** 2)), rtol=1e-13
        )
        np.testing.assert_array_equal(data.condition[row, 3:], g[t - 1])


def test_reference_penalties_by_hand():
    tau, moneyness = np.array([0.1, 0.4, 1.0]), np.array([0.8, 1.0])
    in_m, in_tau = reference_penalties(tau, moneyness)
    g = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])  # moneyness runs fastest
    np.testing.assert_allclose(in_m @ g, np.array([3, 6, 12, 24]) / 0.2)
    # Neighbours in the flat order; steps of tau .3, .6 and then a 0 in turn.
    np.testing.assert_allclose(in_tau @ g, [1 / 0.3, 2 / 0.6, 0, 8 / 0.3, 16 / 0.6])


def test_reference_refuses_what_the_public_code_fails_on(history):
    with pytest.raises(InputError, match="396 training days, a multiple of batch_size 99"):
        VolGAN("reference", **FAST, batch_size=99).fit(history)
    with pytest.raises(InputError, match="at least two tau and two moneyness"):
        VolGAN("reference", **FAST).fit(history.isel(tau=[0]))


def test_reference_goes_on_from_where_matching_ends(history):
    options = make_options(**VolGAN("reference", **FAST).parameters())
    training = ReferenceTraining(reference_data(history, 0, 10, 100), options)
    start = training.snapshot
    training._weigh_penalties()
    assert np.abs(training.snapshot.generator - start.generator).max() > 1e-4
    assert not training.snapshot.generator_square.any()
    assert training.snapshot.alpha[0] > 0


def test_reference_matching_is_of_volatilities(history):
    """Autograd on |D exp g|^2, in double precision, gives the norm that matching divides by."""
    options = make_options(**VolGAN("reference", **FAST).parameters())
    pair = ReferenceTraining(reference_data(history, 0, 10, 100), options)._pair
    pair.start_epoch(torch.arange(pair.n), torch.randn(2, pair.n, 32, generator=torch.Generator().manual_seed(2)))
    batch = pair.batches[0]
    pair.forward_generator(batch)
    d = torch.from_numpy(reference_penalties(np.array(TAU), np.array(MONEYNESS))[0]).float()
    move = batch.move.clone().requires_grad_()
    loss = ((batch.past + move).exp() @ d.T).square().sum() / batch.size
    (expected,) = torch.autograd.grad(loss, move)
    slope = pair.slope_of_penalty(batch, 2 * d.T @ d, of_vol=True)
    torch.testing.assert_close(slope[:, 1:], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.real
def test_reference_mode_is_the_authors_code(market_data):
    """Rows, initial parameters, shuffles and noise of a seed, and the parameters after three epochs."""
    with np.load(market_data / "parity" / "volgan_public_code.npz") as file:
        theirs = {key: file[key] for key in file}
    # Their code knows the return into the first surface; a history gets it from a day before that.
    r = np.r_[np.nan, theirs["log_return"]]
    surfaces = np.exp(theirs["log_iv_moneyness_fastest"])[np.r_[0, : len(r) - 1]]
    history = make_history(
        np.datetime64("2000-01-03") + np.arange(r.size),
        theirs["tau"],
        theirs["m"],
        surfaces.reshape(r.size, theirs["tau"].size, -1),
        spot=100 * np.exp(np.cumsum(np.nan_to_num(r))),
    )
    model = VolGAN("reference", epochs=3, seed=7, progress=False)
    data = reference_data(history, 0, 10, 100)
    np.testing.assert_allclose(data.target, theirs["target"], atol=2e-6)
    np.testing.assert_allclose(data.condition, theirs["condition"], atol=2e-6)

    training = ReferenceTraining(data, model.options)
    training._match = lambda: (1e-3, 2e-3)  # the fixture's weights; its epochs are those after matching
    pair = training._pair

    def flat(name, when):
        layers = [f"{name}_{when}.linear{i}" for i in (1, 2, 3)]
        return pack(
            [
                (torch.from_numpy(theirs[f"{key}.weight"]), torch.from_numpy(theirs[f"{key}.bias"]))
                for key in layers
                if f"{key}.weight" in theirs
            ]
        )

    for name, network in (("generator", pair.generator), ("discriminator", pair.discriminator)):
        torch.testing.assert_close(network.flat, flat(name, "before"), rtol=1e-6, atol=1e-8)
    training.run(progress=False)
    for name, network in (("generator", pair.generator), ("discriminator", pair.discriminator)):
        difference = (network.flat - flat(name, "after")).abs()
        assert (flat(name, "before") - flat(name, "after")).abs().median() > 1e-3
        assert difference.median() < 1e-6
        assert difference.quantile(0.99) < 2e-5


# ----------------------------------------------------------------------------------------------- improved
def filtered(factor):
    """Variance of each row given the rows before it, by the definition."""
    out = [np.ones(factor.shape[1])]
    for row in factor:
        out.append(0.94 * out[-1] + 0.06 * row**2)
    return np.array(out)


def test_improved_rows_by_hand(history):
    """Moves in factors, their scales and what is known, from the definitions; nothing of the held-out days is used."""
    factors, data = Factors.fit(history, 2, 40, 10)
    r, g = history.log_return.values, np.log(history.implied_vol.values).reshape(420, -1)
    assert len(data.outcome) == 40
    n = len(data.target)
    trained = slice(0, 60 + n)  # moves into days 1 .. 60 + n
    increments = np.diff(g, axis=0)
    sd = increments[trained].std(axis=0)
    np.testing.assert_allclose(factors.cell_sd, sd, rtol=1e-12)
    _, _, axes = np.linalg.svd((increments[trained] / sd) - (increments[trained] / sd).mean(axis=0))
    for k in (0, 1):
        assert abs(axes[k] @ factors.components[:, k]) == pytest.approx(1, abs=1e-9)
    scores = increments / sd @ factors.components
    factor = np.column_stack([r[1:] / r[1 : 61 + n].std(), scores / scores[trained].std(axis=0)])
    scale = np.sqrt(filtered(factor))
    rows = np.arange(60, 60 + n)  # of the moves
    np.testing.assert_allclose(data.target, (factor / scale[:-1])[rows], rtol=1e-9)
    level = (g - g[: 60 + n].mean(axis=0)) / sd @ factors.components
    realised = np.sqrt(252 / 21) * np.array([np.sqrt(np.sum(r[t - 20 : t + 1] ** 2)) for t in range(60, 60 + n)])
    known = np.column_stack([
        np.sqrt(252) * r[60 : 60 + n], np.sqrt(252) * r[59 : 59 + n], np.log(realised), level[60 : 60 + n],
        np.log(scale[60 : 60 + n]),
    ])  # fmt: skip
    np.testing.assert_allclose(data.condition, (known - known.mean(axis=0)) / known.std(axis=0), rtol=1e-7, atol=1e-9)
    # The components, with what they leave out, make the whole move again.
    whole = (data.target * scale[:-1][rows]) @ data.components + data.rest
    cells = increments[rows] / sd
    np.testing.assert_allclose(whole[:, 1:], cells, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(whole[:, 0], r[1:][rows] / r[1 : 61 + n].std(), rtol=1e-9)
    np.testing.assert_allclose(data.outcome[:, 0], (r[1:] / r[1 : 61 + n].std())[60 + n :], rtol=1e-12)


def test_improved_rows_do_not_look_ahead(history):
    t = 250
    altered = history.copy(deep=True)
    altered.log_return[t] = 0.2
    altered.implied_vol[t] *= 2
    factors, _ = Factors.fit(history.isel(date=slice(0, 200)), 3, 0, 10)
    before, after = factors.moves(history), factors.moves(altered)
    assert before.day[(before.condition != after.condition).any(axis=1)].min() == t + 1
    assert before.day[(before.scale != after.scale).any(axis=1)].min() == t + 1
    assert before.day[(before.factor != after.factor).any(axis=1)].tolist() == [t, t + 1]


def test_training_and_sampling_know_the_same(improved, history):
    moves = improved._factors.moves(history)
    for t in (150, 290, 400):
        state = state_at(history, history.date.values[t - 1], n_returns=FILTER_WINDOW, n_surfaces=FILTER_WINDOW + 1)
        returns, level, variance = improved._factors._start(state)
        scale = improved._factors._scale(variance)
        row = np.flatnonzero(moves.day == t)
        # The filter of a state begins at 1 a fixed number of days ago: what is left of that is 4e-4.
        np.testing.assert_allclose(scale, moves.scale[row], rtol=2e-3)
        known = improved._factors.raw_condition(returns, level, scale)
        np.testing.assert_allclose(known, moves.condition[row], atol=2e-3)


def test_improved_paths_by_hand(improved, history):
    """Two steps from the definitions: what the first draws is known, and in the scales, at the second."""
    f, n = improved._factors, 6
    state = state_at(history, history.date.values[350], n_returns=FILTER_WINDOW, n_surfaces=FILTER_WINDOW + 1)
    log_return, implied_vol = improved.sample(state, n, 2, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    past = state.log_iv.reshape(FILTER_WINDOW + 1, -1)
    scores = np.diff(past, axis=0) / f.cell_sd @ f.components
    moves = np.column_stack([np.sqrt(252) * state.log_return, scores]) / f.factor_sd
    variance = np.tile(filtered(moves)[-1], (n, 1))
    returns, level = np.tile(state.log_return[-21:], (n, 1)), np.tile(past[-1], (n, 1))
    layers = improved._networks["generator"]
    for step in (0, 1):
        scale = np.exp(np.clip(0.5 * np.log(variance), *f.log_scale_range))
        realised = np.sqrt(252 / 21 * np.sum(returns**2, axis=1))
        known = np.column_stack([
            np.sqrt(252) * returns[:, -1], np.sqrt(252) * returns[:, -2], np.log(realised),
            (level - f.cell_mean) / f.cell_sd @ f.components, np.log(scale),
        ])  # fmt: skip
        known = np.clip((known - f.condition_mean) / f.condition_sd, *f.condition_range)
        x = np.column_stack([rng.standard_normal((n, 32)), known])
        for weight, bias in layers[:-1]:
            x = np.logaddexp(0, x @ weight.T.astype(float) + bias)
        factor = scale * (x @ layers[-1][0].T.astype(float) + layers[-1][1])
        rest = f.rest[rng.integers(len(f.rest), size=n)]
        r = factor[:, 0] * f.factor_sd[0] / np.sqrt(252)
        level = level + f.cell_sd * ((factor[:, 1:] * f.factor_sd[1:]) @ f.components.T + rest)
        np.testing.assert_allclose(log_return[:, step], r, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(implied_vol[:, step].reshape(n, -1), np.exp(level), rtol=1e-9)
        variance = 0.94 * variance + 0.06 * factor**2
        returns = np.column_stack([returns[:, 1:], r])


def test_improved_averages_the_generator(history):
    """What is kept is the running average of the parameters along the way."""
    _, data = Factors.fit(history, 3, 0, 10)
    options = make_options(**VolGAN("improved", **FAST, validation_days=0, averaging=0.9).parameters())
    training = Training(data, options)
    seen = []
    train_batch = training._pair.train_batch

    def watched(batch):
        train_batch(batch)
        seen.append(training._pair.generator.flat.clone())

    training._pair.train_batch = watched
    average = training._pair.generator.flat.clone()
    training.run(progress=False)
    for flat in seen:
        average = 0.9 * average + 0.1 * flat
    np.testing.assert_allclose(training.snapshot.average, average.numpy(), rtol=1e-4, atol=1e-6)
    assert np.abs(training.snapshot.average - training.snapshot.generator).max() > 1e-4


def test_the_discriminator_learns_at_its_own_rate_and_decays(history):
    _, data = Factors.fit(history, 3, 0, 10)

    def first_step(**options):
        given = VolGAN("improved", **FAST, validation_days=0, **options).parameters()
        training = Training(data, make_options(**given))
        start = training._pair.discriminator.flat.clone()
        training._rows.lay_out()
        with torch.no_grad():
            training._pair.step_discriminator(training._pair.batches[0])
        return start, training._pair.discriminator.flat

    start, slow = first_step(discriminator_rate=1.0, discriminator_decay=0.0)
    _, fast = first_step(discriminator_rate=4.0, discriminator_decay=0.0)
    _, decayed = first_step(discriminator_rate=4.0, discriminator_decay=0.3)
    torch.testing.assert_close(fast - start, 4 * (slow - start), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(decayed, fast * (1 - 0.3 * 4e-4), rtol=1e-6, atol=0)


def test_early_stopping(history):
    """Training ends when the score has not improved for as many evaluations as patience allows."""
    options = {**FAST, "epochs": 40, "validate_every": 1, "learning_rate": 0.05, "seed": 2}
    full = VolGAN("improved", **options).fit(history)
    scores = full.validation_curve_[:, 1]
    stopped = VolGAN("improved", **options, patience=1).fit(history)
    best, expected = 0, 40
    for epoch in range(1, 41):
        if scores[epoch - 1] < scores[best - 1] or best == 0:
            best = epoch
        if epoch - best >= 1:
            expected = epoch
            break
    assert expected < 40
    assert len(stopped.training_curve_) == expected
    np.testing.assert_array_equal(stopped.validation_curve_[:, 1], scores[:expected])
    assert stopped.epoch_ == best


@pytest.mark.parametrize("mode", ["reference", "improved"])
def test_interrupted_training_ends_at_the_same_bits(history, tmp_path, mode):
    path = tmp_path / "run.ckpt"
    whole = VolGAN(mode, **FAST, seed=3).fit(history)
    VolGAN(mode, **{**FAST, "epochs": 2}, seed=3, checkpoint=path).fit(history)
    assert same_model(VolGAN(mode, **FAST, seed=3, checkpoint=path).fit(history), whole)
    with pytest.raises(InputError, match=r"averaging 0\.\d+ there, 0\.5 here|averaging 0\.0 there"):
        VolGAN(mode, **FAST, seed=3, averaging=0.5, checkpoint=path).fit(history)


def test_improved_model_survives_saving(improved, history, tmp_path):
    loaded = volscen.load(improved.save(tmp_path / "m.safetensors"))
    assert loaded.options == improved.options
    assert same_model(loaded, improved)
    state = state_at(history, history.date.values[350], n_returns=loaded.n_returns, n_surfaces=loaded.n_surfaces)
    for a, b in zip(
        loaded.sample(state, 3, 2, np.random.default_rng(1)),
        improved.sample(state, 3, 2, np.random.default_rng(1)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    cube = volscen.generate(loaded, history, n_scenarios=50, seed=1)
    assert np.isfinite(cube.implied_vol.values).all()


def test_damaged_factors_are_refused(improved, tmp_path, monkeypatch):
    arrays = improved.arrays()
    arrays["factors.cell_sd"] = arrays["factors.cell_sd"][:-1]
    monkeypatch.setattr(improved, "arrays", lambda: arrays)
    path = improved.save(tmp_path / "m.safetensors")
    with pytest.raises(FileFormatError, match=r"factors\.cell_sd"):
        volscen.load(path)


def test_update_renews_what_the_components_leave_out(history):
    model = VolGAN("improved", **FAST, n_components=3, seed=1).fit(history.isel(date=slice(0, 300)))
    before = {name: values.copy() for name, values in model.arrays().items()}
    model.update(history)
    changed = {name for name, values in model.arrays().items() if not np.array_equal(values, before[name])}
    assert changed == {"factors.rest"}
    np.testing.assert_array_equal(model._factors.rest, model._factors.moves(history).rest[-1000:])


def test_improved_flags_and_clips_what_it_never_saw(improved, history):
    state = state_at(history, history.date.values[280], n_returns=FILTER_WINDOW, n_surfaces=FILTER_WINDOW + 1)

    def moved(**changes):
        return State(**{**state.__dict__, **changes})

    trained = [
        state_at(history, history.date.values[t], n_returns=FILTER_WINDOW, n_surfaces=FILTER_WINDOW + 1)
        for t in range(150, 270, 10)
    ]
    assert not any(improved.is_outside(s) for s in trained)
    crash = state.log_return.copy()
    crash[-1] = -0.6
    assert improved.is_outside(moved(log_return=crash))
    high = moved(log_iv=state.log_iv + 30)
    assert improved.is_outside(high)
    # Twice as far outside is the same condition: only the level that moves start from differs.
    r1, v1 = improved.sample(high, 4, 1, np.random.default_rng(0))
    r2, v2 = improved.sample(moved(log_iv=state.log_iv + 60), 4, 1, np.random.default_rng(0))
    np.testing.assert_allclose(r1, r2, rtol=1e-9)
    np.testing.assert_allclose(np.log(v2) - np.log(v1), 30, rtol=1e-9)


# ------------------------------------------------------------------------------------------- discriminator
def test_discriminator_score_by_hand(history):
    model = VolGAN(**FAST, seed=1).fit(history.isel(date=slice(0, 300)))
    score = model.discriminator_score(history)
    target, known = targets_and_conditions(history)
    layers = for_sampling(model._networks["discriminator"])
    logit = forward(layers, np.column_stack([known, target]))[:, 0]
    np.testing.assert_allclose(score.values, 1 / (1 + np.exp(-logit)), rtol=1e-12)
    np.testing.assert_array_equal(score.date.values, history.date.values[22:])
    stale = VolGAN("reference", **FAST, seed=1).fit(history).discriminator_score(history)
    np.testing.assert_array_equal(stale.date.values, history.date.values[23:])


def test_discriminator_finds_a_day_unlike_the_others():
    """After training, the score of a crash is farther from a half than those of 99 in 100 other days."""
    history = simulate_market(SSVIMarket(TAU, MONEYNESS, 0.01), 600, seed=6)
    model = VolGAN("improved", epochs=150, n_components=3, validation_days=0, progress=False).fit(
        history.isel(date=slice(0, 500))
    )
    crash = history.copy(deep=True)
    crash.log_return[550] = -0.15
    crash.implied_vol[550] *= 1.6
    distance = abs(model.discriminator_score(crash) - 0.5)
    day = float(distance.sel(date=history.date.values[550]))
    assert day > float(distance[:-60].quantile(0.99))
    assert day > 0.45


def test_discriminator_score_needs_a_fitted_model_and_its_grid(improved, history):
    with pytest.raises(FitError, match="not been fitted"):
        VolGAN().discriminator_score(history)
    with pytest.raises(InputError, match="moneyness"):
        improved.discriminator_score(history.isel(moneyness=[0, 1]))


def test_more_components_than_cells_are_refused(history):
    with pytest.raises(InputError, match=r"n_components 10 .*9 cells.*n_components=9"):
        VolGAN("improved", **FAST, n_components=10).fit(history)

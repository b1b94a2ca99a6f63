"""Several assets together: dependence, margins, keyed numbers, files."""

from __future__ import annotations

from inspect import signature

import numpy as np
import pytest
from safetensors.numpy import load_file

import volscen
from joint_markets import log_moves, realised_moves, two_markets
from volscen.errors import FileFormatError, InputError
from volscen.evaluation import diebold_mariano, energy_score
from volscen.generators._coupling import Dependence, common_rows, draws_of, normal_scores
from volscen.generators._joint import JointGenerator
from volscen.history import state_at
from volscen.sources.simulate import simulate_market

N_TRAIN, N_TEST, SHARE = 1500, 50, 0.8


@pytest.fixture(scope="module")
def histories():
    return two_markets(N_TRAIN + N_TEST + 1, SHARE, seed=1)


@pytest.fixture(scope="module")
def train(histories):
    return {name: history.isel(date=slice(0, N_TRAIN)) for name, history in histories.items()}


@pytest.fixture(scope="module")
def joint(train):
    return volscen.fit_joint(train, "pca")


@pytest.fixture(scope="module")
def ranks(train):
    return volscen.fit_joint(train, {"first": "pca", "second": "fhs"}, coupling="ranks")


def cross(cubes):
    moves = [log_moves(cube) for cube in cubes.values()]
    return np.corrcoef(np.hstack(moves).T)[:3, 3:]


# ------------------------------------------------------------------------------------------- dependence
def test_dates_keep_the_dependence_of_the_data(joint, train):
    """Shocks have correlation 0.8 component by component; cross correlations are 0.8 times those within."""
    cubes = volscen.generate_joint(joint, train, n_scenarios=8192, seed=1)
    # of the common days of the pool, standard error below 0.03 of each
    realised = np.array(
        [np.r_[realised_moves(train["first"], t), realised_moves(train["second"], t)] for t in range(499, N_TRAIN - 1)]
    )
    data = np.corrcoef(realised.T)[:3, 3:]
    assert np.abs(data - SHARE * np.corrcoef(realised.T)[:3, :3]).max() < 0.25  # their states differ
    assert np.abs(cross(cubes) - data).max() < 0.1


def test_every_step_is_coupled_by_dates(joint, train):
    cubes = volscen.generate_joint(joint, train, n_scenarios=4096, horizon=4, seed=1, reweight=None)
    a, b = (cube.log_return.values for cube in cubes.values())
    correlation = np.corrcoef(np.hstack([a, b]).T)[:4, 4:]
    assert np.all(np.abs(np.diag(correlation) - SHARE) < 0.12)
    assert np.abs(correlation - np.diag(np.diag(correlation))).max() < 0.08


@pytest.mark.parametrize("kind", ["bootstrap", "fhs", "har"])
def test_the_same_past_days_are_drawn(train, kind):
    """An asset beside itself moves with itself, though one was fitted on less: only scales differ."""
    one = train["first"]
    pair = {"A": one, "B": one.isel(date=slice(300, None))}
    cubes = volscen.generate_joint(volscen.fit_joint(pair, kind), pair, n_scenarios=1024, seed=1, reweight=None)
    assert np.corrcoef(*(cube.log_return.values[:, 0] for cube in cubes.values()))[0, 1] > 0.99


def test_ranks_keep_the_dependence_of_the_data(ranks, train):
    for horizon in (1, 5):
        cubes = volscen.generate_joint(ranks, train, n_scenarios=2048, horizon=horizon, seed=1)
        found = cross(cubes)
        # Matching 1,024 scenarios in three dimensions loses a few per cent.
        assert 0.62 < found[0, 0] < 0.85
        assert 0.55 < found[1, 1] < 0.85
        assert -0.78 < found[0, 1] < -0.4


def test_scenarios_are_matched_with_days_like_them(ranks, train):
    """Both assets matched with opposite days would look coupled as well."""
    name, history = "first", train["first"]
    model = ranks.models[name]
    state = state_at(history, history.date.values[-1], n_returns=model.n_returns, n_surfaces=model.n_surfaces)
    log_return, implied_vol = model.sample(state, 1024, 1, np.random.default_rng(0))
    chosen = np.random.default_rng(1).permutation(ranks.days_)[:1024]
    order = ranks.dependence_.order(name, state, log_return, implied_vol, chosen)
    assert sorted(order) == list(range(1024))
    days = ranks.dependence_.scores[name][chosen]
    assert np.corrcoef(log_return[order, 0], days[:, 0])[0, 1] > 0.9
    level = np.log(implied_vol[order, 0]).mean(axis=(1, 2))
    assert np.corrcoef(level, days[:, 1])[0, 1] > 0.9


def test_coupling_beats_independence_by_the_energy_score(joint, histories, train):
    """Joint vector of six moves. With a share of 0.6 and 200 days t was -4.7 and -6.8 on two histories."""
    alone = JointGenerator(joint.models, "none", joint.lag)
    both = histories.values()
    realised = np.array([np.hstack([realised_moves(h, t) for h in both]) for t in range(N_TRAIN + N_TEST)])
    sd = realised[:N_TRAIN].std(axis=0)
    dates = histories["first"].date.values
    scores = {}
    for name, model in (("joint", joint), ("alone", alone)):
        scores[name] = []
        for t in range(N_TRAIN, N_TRAIN + N_TEST):
            cubes = volscen.generate_joint(
                model, histories, as_of=dates[t], n_scenarios=256, seed=3, reweight=None, num_threads=1
            )
            draws = np.hstack([log_moves(cube) for cube in cubes.values()])
            scores[name].append(energy_score(draws / sd, realised[t] / sd))
    found = diebold_mariano(scores["joint"], scores["alone"])
    assert found.t < -2.5  # -3.6 here
    assert found.mean_difference < -0.005 * np.mean(scores["alone"])


# ---------------------------------------------------------------------------------------------- margins
def test_margins_are_those_of_each_generator(ranks, joint, train):
    cubes = volscen.generate_joint(ranks, train, n_scenarios=2048, horizon=2, seed=5, reweight=None)
    for name, cube in cubes.items():
        alone = volscen.generate(
            ranks.models[name], train[name], n_scenarios=2048, horizon=2, seed=cube.attrs["seed"], reweight=None
        )
        if name == "first":
            np.testing.assert_array_equal(cube.implied_vol, alone.implied_vol)
        for block in (slice(0, 1024), slice(1024, 2048)):  # whole paths, in another order
            a, b = (np.lexsort(c.log_return.values[block].T) for c in (cube, alone))
            np.testing.assert_array_equal(cube.implied_vol.values[block][a], alone.implied_vol.values[block][b])
    cubes = volscen.generate_joint(joint, train, n_scenarios=100, seed=5, reweight=None)
    for name, cube in cubes.items():
        alone = volscen.generate(joint.models[name], train[name], n_scenarios=100, seed=5, reweight=None)
        np.testing.assert_array_equal(cube.implied_vol, alone.implied_vol)


def test_weights_are_common_and_of_the_summed_penalty():
    pair = {name: simulate_market("B", 200, seed=seed) for name, seed in (("A", 1), ("B", 2))}
    model = volscen.fit_joint(pair, "bootstrap")
    cubes = volscen.generate_joint(model, pair, n_scenarios=1000, horizon=2, seed=1, beta=30.0)
    first, second = cubes.values()
    np.testing.assert_array_equal(first.weight, second.weight)
    parts = [cube.arbitrage_penalty.sum("step").values for cube in cubes.values()]
    assert all(part.std() > 0 for part in parts)
    tilted = np.exp(-30.0 * (sum(parts) - sum(parts).min()))
    np.testing.assert_allclose(first.weight, tilted / tilted.sum(), rtol=1e-9)
    assert first.attrs["beta"] == second.attrs["beta"] == 30.0
    for cube in cubes.values():
        volscen.validate(cube, schema="volscen/scenarios/1")


def test_books_add_up_scenario_by_scenario(joint, train):
    cubes = volscen.generate_joint(joint, train, n_scenarios=4096, seed=1)
    book = [volscen.Underlying()]
    total = sum(
        volscen.portfolio.pnl(cube, book, lines=False).total.values[:, 0] / float(cube.spot0) for cube in cubes.values()
    )
    weight = cubes["first"].weight.values
    spread = np.sqrt(weight @ (total - weight @ total) ** 2)
    parts = [np.expm1(cube.log_return.values[:, 0]) for cube in cubes.values()]
    var = [weight @ (p - weight @ p) ** 2 for p in parts]
    # two positions of correlation 0.8
    expected = np.sqrt(var[0] + var[1] + 2 * SHARE * np.sqrt(var[0] * var[1]))
    assert abs(spread / expected - 1) < 0.05


# -------------------------------------------------------------------------------------------- numbers
def test_bits_do_not_depend_on_threads_or_number(ranks, joint, train):
    for model in (ranks, joint):
        whole = volscen.generate_joint(model, train, n_scenarios=1500, seed=1, num_threads=2)
        fewer = volscen.generate_joint(model, train, n_scenarios=600, seed=1, num_threads=1)
        for name in train:
            np.testing.assert_array_equal(fewer[name].implied_vol, whole[name].implied_vol[:600])
            np.testing.assert_array_equal(fewer[name].log_return, whole[name].log_return[:600])


def test_saved_in_one_file_and_loaded(ranks, joint, train, tmp_path):
    for model in (ranks, joint):
        path = model.save(tmp_path / "joint.safetensors")
        again = volscen.load_joint(path)
        assert (again.coupling, again.days_, again.lag) == (model.coupling, model.days_, model.lag)
        a, b = (volscen.generate_joint(m, train, n_scenarios=50, seed=1) for m in (model, again))
        for name in train:
            np.testing.assert_array_equal(a[name].implied_vol, b[name].implied_vol)
        with pytest.raises(FileFormatError, match="load_joint"):
            volscen.load(path)
    keys = set(load_file(path))
    assert {"asset0/residual", "asset1/tau"} <= keys
    alone = joint.models["first"].save(tmp_path / "one.safetensors")
    with pytest.raises(FileFormatError, match=r"volscen\.load"):
        volscen.load_joint(alone)
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileFormatError):
        volscen.load_joint(tmp_path / "cut.safetensors")


def test_update_takes_recent_days(train, histories):
    model = volscen.fit_joint(train, "bootstrap", options={name: {"window": 300} for name in train})
    assert model.days_ == 300
    model.update(histories)
    for name, history in histories.items():
        np.testing.assert_array_equal(model.models[name].log_return_, history.log_return.values[-300:])
    with pytest.raises(InputError, match="each of first, second"):
        model.update({"first": histories["first"]})


# ------------------------------------------------------------------------------------------ calendars
def days(*texts):
    return np.array(texts, dtype="datetime64[D]")


def test_rows_of_common_days():
    a = days("2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05", "2024-01-08", "2024-02-01")
    b = days("2024-01-03", "2024-01-05", "2024-01-08", "2024-01-09", "2024-02-01", "2024-02-02")
    rows = common_rows({"a": a, "b": b}, {"a": 0, "b": 0}, 1)
    assert a[rows["a"]].tolist() == b[rows["b"]].tolist()
    assert rows["a"].tolist() == [1, 3, 4, 5]
    # b's next day: 01-02 -> 03, 01-03 and 01-04 -> 05 (the later one), 01-05 -> 08, 01-08 -> 09, 02-01 -> 02-02
    rows = common_rows({"a": a, "b": b}, {"a": 0, "b": 1}, 1)
    assert rows["a"].tolist() == [0, 2, 3, 4, 5]
    assert rows["b"].tolist() == [0, 1, 2, 3, 5]
    far = common_rows({"a": a, "b": days("2024-01-20", "2024-02-02")}, {"a": 0, "b": 1}, 1)
    assert far["a"].tolist() == [4, 5]  # 12 days after 8 January
    with pytest.raises(InputError, match="share 4 days"):
        common_rows({"a": a, "b": b}, {"a": 0, "b": 0}, 50)


def test_missing_dates_do_not_break_the_dependence(train):
    """Other holidays on each side: residuals still meet on their own dates."""
    rng = np.random.default_rng(0)
    gaps = {
        name: volscen.select_dates(h, np.r_[True, rng.random(N_TRAIN - 2) > 0.06, True]) for name, h in train.items()
    }
    model = volscen.fit_joint(gaps, "fhs")
    assert 1100 < model.days_ < 1350
    scores = Dependence.of(gaps, model.lag, 50).scores
    assert np.corrcoef(scores["first"][:, 0], scores["second"][:, 0])[0, 1] > 0.5
    found = []
    for fitted, given in ((model, gaps), (volscen.fit_joint(train, "fhs"), train)):
        cubes = volscen.generate_joint(fitted, given, n_scenarios=8192, seed=1)
        found.append(np.corrcoef(*(c.log_return.values[:, 0] for c in cubes.values()))[0, 1])
    # One day in eight now spans two days on one side only.
    assert found[1] - 0.2 < found[0] < found[1] + 0.05
    assert found[0] > 0.5


def test_a_lag_couples_the_next_day(train):
    """The second market shifted a day later: its next day goes with the first's day."""
    second = train["second"]
    late = volscen.make_history(
        second.date.values[1:],
        second.tau,
        second.moneyness,
        second.implied_vol.values[:-1],
        spot=second.spot.values[:-1],
        calendar="weekdays",
    )
    pair = {"first": train["first"].isel(date=slice(1, None)), "second": late}
    found = {}
    for lag in (0, 1):
        model = volscen.fit_joint(pair, "bootstrap", lag={"second": lag})
        cubes = volscen.generate_joint(model, pair, n_scenarios=8192, seed=1)
        found[lag] = np.corrcoef(*(c.log_return.values[:, 0] for c in cubes.values()))[0, 1]
    assert abs(found[0]) < 0.12
    assert abs(found[1] - SHARE) < 0.12


def test_starting_dates(joint, train):
    dates = train["first"].date.values
    each = {"first": dates[1200], "second": dates[1201]}
    cubes = volscen.generate_joint(joint, train, as_of=each, n_scenarios=5, seed=1)
    assert [str(c.as_of.values)[:10] for c in cubes.values()] == [str(d)[:10] for d in dates[1200:1202]]
    cubes = volscen.generate_joint(joint, train, as_of=each, n_scenarios=1024, seed=1)
    assert cross(cubes)[0, 0] > 0.5  # the same days are drawn, though the dates differ
    closed = {"first": train["first"], "second": volscen.select_dates(train["second"], np.arange(N_TRAIN) != 1300)}
    cubes = volscen.generate_joint(joint, closed, as_of=dates[1300], n_scenarios=5, seed=1)
    assert cubes["second"].as_of.values == dates[1299].astype("datetime64[ns]")
    short = {"first": train["first"], "second": train["second"].isel(date=slice(0, 1400))}
    with pytest.raises(InputError, match="end on different dates"):
        volscen.generate_joint(joint, short, n_scenarios=5)
    with pytest.raises(InputError, match="week up to"):
        volscen.generate_joint(joint, short, as_of=dates[-1], n_scenarios=5)
    with pytest.raises(InputError, match="one after the other"):
        volscen.generate_joint(joint, train, as_of=dates[-2:], n_scenarios=5)
    with pytest.raises(InputError, match="map each of"):
        volscen.generate_joint(joint, train, as_of={"first": dates[-1]}, n_scenarios=5)


# ------------------------------------------------------------------------------------ one dataset, refusals
def test_assets_of_one_grid_are_stacked_and_taken_apart(tmp_path):
    history = volscen.datasets.sample_history()
    pair = volscen.align_histories({"A": history, "B": history.isel(date=slice(100, None))})
    model = volscen.fit_joint(pair, "bootstrap")
    cubes = volscen.generate_joint(model, pair, n_scenarios=64, horizon=2, seed=1)
    both = volscen.stack_assets(cubes)
    assert both.weight.dims == ("scenario",)
    again = volscen.read(volscen.write(both, tmp_path / "both.nc"))
    for name, cube in cubes.items():
        one = again.sel(asset=name)
        volscen.validate(one, schema="volscen/scenarios/1")
        np.testing.assert_array_equal(one.implied_vol, cube.implied_vol)
        assert one.as_of.values == cube.as_of.values
        assert float(volscen.weighted_mean(one, "spot")[0]) == pytest.approx(
            float(volscen.weighted_mean(cube, "spot")[0]), rel=1e-12
        )
    with pytest.raises(InputError, match=r"choose it with ds\.sel"):
        volscen.entropy_pool(both, [volscen.views.mean("log_return", equals=0.0)])
    with pytest.raises(InputError, match="drawn together"):
        volscen.stack_assets({"A": cubes["A"], "B": cubes["B"].isel(step=slice(0, 1))})
    with pytest.raises(InputError, match="two assets"):
        volscen.stack_assets({"A": cubes["A"]})
    again = volscen.stack_assets({name: both.sel(asset=name) for name in "AB"})
    np.testing.assert_array_equal(again["spot"], both["spot"])


def test_only_cubes_drawn_together_are_stacked():
    history = volscen.datasets.sample_history()
    pair = {"A": history, "B": history}
    alone = volscen.generate(history=history, n_scenarios=8, reweight=None, seed=1)
    with pytest.raises(InputError, match="A was not drawn together"):
        volscen.stack_assets({"A": alone, "B": alone})
    for coupling in ("dates", "ranks"):
        model = volscen.fit_joint(pair, "pca", coupling=coupling)
        one, other = (volscen.generate_joint(model, pair, n_scenarios=8, reweight=None, seed=s) for s in (1, 2))
        assert volscen.stack_assets(one).sizes["asset"] == 2
        with pytest.raises(InputError, match="B was not drawn together"):
            volscen.stack_assets({"A": one["A"], "B": alone})
        with pytest.raises(InputError, match="B was drawn with another seed than A"):
            volscen.stack_assets({"A": one["A"], "B": other["B"]})
        with pytest.raises(InputError, match="C is none of the assets"):
            volscen.stack_assets({"A": one["A"], "C": one["B"]})


def test_other_grids_are_not_stacked(joint, train):
    with pytest.raises(InputError, match=r"second: (tau|moneyness) "):
        volscen.stack_assets(volscen.generate_joint(joint, train, n_scenarios=5, seed=1))


def test_what_cannot_be_coupled_is_refused(train):
    one = train["first"]
    with pytest.raises(InputError, match="take coupling='ranks'"):
        volscen.fit_joint(train, "pca", options={"second": {"residuals": "gaussian"}})
    with pytest.raises(InputError, match="all in the same way; second"):
        volscen.fit_joint(train, "bootstrap", options={"first": {"half_life": 100}, "second": {"half_life": 50}})
    same = {name: {"half_life": 100} for name in train}
    assert volscen.fit_joint(train, "bootstrap", options=same).days_ == N_TRAIN - 1
    with pytest.raises(InputError, match="two assets"):
        volscen.fit_joint({"first": one})
    with pytest.raises(InputError, match="align_histories"):
        volscen.fit_joint(one)
    with pytest.raises(InputError, match="coupling must be"):
        volscen.fit_joint(train, coupling="copula")
    with pytest.raises(InputError, match="lag of first"):
        volscen.fit_joint(train, lag={"first": 2})
    with pytest.raises(InputError, match="lag is 1 for all"):
        volscen.fit_joint(train, lag={"first": 1, "second": 1})
    with pytest.raises(InputError, match="none of the assets"):
        volscen.fit_joint(train, lag={"third": 1})
    with pytest.raises(InputError, match="generator must be"):
        volscen.fit_joint(train, {"first": "pca"})
    with pytest.raises(InputError, match="second: unknown generator"):
        volscen.fit_joint(train, {"first": "pca", "second": "nope"})
    with pytest.raises(InputError, match="options must be"):
        volscen.fit_joint(train, options={"third": {}})
    with pytest.raises(InputError, match="share 0 days"):
        volscen.fit_joint({"A": one.isel(date=slice(0, 700)), "B": one.isel(date=slice(800, None))}, "bootstrap")
    with pytest.raises(InputError, match="one frequency"):
        volscen.fit_joint({"A": one, "B": one.assign_attrs(periods_per_year=52.0)})
    with pytest.raises(InputError, match="fit_joint returns"):
        volscen.generate_joint("model", train)


def test_the_record_of_draws_knows_days_from_noise(joint, train):
    model, history = joint.models["first"], train["first"]
    state = state_at(history, history.date.values[-1], n_returns=model.n_returns, n_surfaces=model.n_surfaces)
    record = draws_of(model, state)
    assert record
    assert np.all(np.array(record) < joint.days_)
    noisy = volscen.fit(history, "pca", residuals="gaussian")
    assert draws_of(noisy, state) is None


def test_normal_scores():
    np.testing.assert_allclose(
        normal_scores(np.array([[3.0], [1.0], [2.0]])).ravel(), [0.967422, -0.967422, 0.0], atol=1e-6
    )


def test_the_default_generator_is_that_of_one_asset():
    one, several = (signature(verb).parameters["generator"].default for verb in (volscen.fit, volscen.fit_joint))
    assert one == several == "har"

"""The simulated market of many names: its law against its parameters, alone and jointly, and the oracle."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import volscen
from volscen.errors import InputError
from volscen.evaluation import JointOracle, Oracle
from volscen.history import state_at
from volscen.sources.simulate import Name, NamesMarket, SimulatedNames, names_market, simulate_names

LAW = names_market(6, 2)


@pytest.fixture(scope="module")
def names() -> SimulatedNames:
    return simulate_names(420, law=LAW, seed=5)


def test_same_seed_same_histories_and_a_longer_one_continues_it(names: SimulatedNames) -> None:
    again = simulate_names(420, law=LAW, seed=5)
    xr.testing.assert_equal(again.aligned, names.aligned)
    for name, history in names.histories.items():
        xr.testing.assert_equal(again.histories[name], history)
    longer = simulate_names(450, law=LAW, seed=5).aligned
    np.testing.assert_array_equal(longer.state[:, :420], names.aligned.state)
    assert not np.array_equal(simulate_names(420, law=LAW, seed=6).aligned.state, names.aligned.state)


def test_what_is_seen_is_part_of_what_happened(names: SimulatedNames) -> None:
    volscen.validate(names.aligned)
    assert names.aligned.title.startswith("SIMULATED")
    assert names.sparse == ["N05", "N06"]
    late, gaps = names.histories["N05"], names.histories["N06"]
    assert late.sizes["date"] == 84  # listed when 80% of 420 days are over
    assert late.date.values[0] == names.aligned.date.values[336]
    assert 420 * 0.3 - 40 < gaps.sizes["date"] < 420 * 0.3 + 40
    assert names.histories["N01"].sizes["date"] == 420
    for name, history in names.histories.items():
        volscen.validate(history)
        whole = names.aligned.sel(asset=name)
        there = whole.sel(date=history.date)
        np.testing.assert_array_equal(history.implied_vol, there.implied_vol)
        np.testing.assert_array_equal(history.state, there.state)
        # A return across a gap is the sum of the days in it.
        total = float(whole.log_return.sel(date=slice(history.date[0], history.date[-1]))[1:].sum())
        assert float(history.log_return[1:].sum()) == pytest.approx(total, abs=1e-12)


def test_surfaces_are_ssvi_and_free_of_arbitrage_without_noise(names: SimulatedNames) -> None:
    tau, moneyness = np.array(LAW.tau), np.array(LAW.moneyness)
    for i, name in enumerate(LAW.labels):
        clean = LAW.one(name).surface(names.aligned.state.values[i])
        assert volscen.arbitrage.penalty(clean, tau, moneyness).max() < 1e-9
        off = np.log(names.aligned.implied_vol.values[i] / clean)
        assert off.std() == pytest.approx(0.006 if name in names.sparse else 0.002, rel=0.05)
    # At the money w = theta = tau (long + (short - long) (1 - e^{-2.5 tau}) / (2.5 tau)), by hand for one state.
    one = NamesMarket((Name("x", (-2.0, -0.5, -0.4), (0.8, 0.9, 0.7), 0.5, (0.02, 0.05, 0.02)),), (0.25,), (0.9, 1.0))
    state = np.array([[np.log(0.045) + 0.3, np.log(0.03 / 0.045) - 0.2, -0.9, 0.1, 0.05, 0.0]])
    long = np.exp(-2.0 + 0.8 * 0.3 + 0.1)
    short = long * np.exp(-0.5 + 0.9 * -0.2 + 0.05)
    theta = 0.25 * long + (short - long) * (1 - np.exp(-0.625)) / 2.5
    assert one.one("x").surface(state)[0, 0, 1] == pytest.approx(np.sqrt(theta / 0.25), rel=1e-13)


def _moves(before: np.ndarray, log_return: np.ndarray, after: np.ndarray, law: NamesMarket) -> np.ndarray:
    """Moves of return, level, term and skew, (n, names, 4): each name's own are read off its state by hand."""
    mean = np.array([np.log(0.045), np.log(0.03 / 0.045), -0.9])
    beta = np.array([name.beta for name in law.names])
    factors = [beta * (x[..., :3] - mean) + x[..., 3:] for x in (before, after)]
    return np.concatenate([log_return[..., None], factors[1] - factors[0]], axis=-1)


def test_one_day_moments_are_what_the_parameters_say() -> None:
    """Correlations across names are loading_i loading_j of the returns, and the stated covariance of all moves."""
    n = 60_000
    state = LAW.initial_state
    state[:, 0] += 0.4  # away from the mean, so that growth of vol-of-vol and reversion are seen
    state[2, 3:] = 0.3, -0.2, 0.1
    r, after = LAW.step(np.broadcast_to(state, (n, *state.shape)), np.random.default_rng(0))
    moves = _moves(state[None], r, after, LAW)
    flat = moves.reshape(n, -1)
    found, stated = np.cov(flat.T), LAW.covariance(state).reshape(24, 24)
    sd = np.sqrt(np.diag(stated))
    # Kurtosis of Student-t with five degrees of freedom is 9: the error of a sample correlation is below .01.
    np.testing.assert_allclose(found / np.outer(sd, sd), stated / np.outer(sd, sd), atol=0.05)
    correlation = np.corrcoef(r.T)
    loading = np.array([name.loading for name in LAW.names])
    np.testing.assert_allclose(correlation[0, 1:], loading[0] * loading[1:], atol=0.02)
    # The first name by hand: volatility of the return, and of the level from the market's .03 and its own.
    name = LAW.names[0]
    log_long = name.mean[0] + name.beta[0] * 0.4
    vol = 0.85 * np.exp((log_long + name.mean[1]) / 2) / np.sqrt(252)
    assert sd[0] == pytest.approx(vol, rel=1e-12)
    market, own = np.exp(0.5 * 0.4), np.exp(0.5 * name.beta[0] * 0.4)
    level = np.hypot(name.beta[0] * 0.03 * market, name.own_size[0] * own)
    assert sd[1] == pytest.approx(level, rel=1e-12)
    # Leverage: -.7 through the market and -.35 through the name itself.
    through = vol * name.loading * name.beta[0] * 0.03 * market * -0.7
    itself = vol * np.sqrt(1 - name.loading**2) * name.own_size[0] * own * -0.35
    assert stated[0, 1] == pytest.approx(through + itself, rel=1e-12)
    # Means: a day's drift, and reversion of the market's level at .008 and of the third name's own term at .05.
    assert r[:, 0].mean() == pytest.approx(0.0002, abs=5 * vol / np.sqrt(n))
    assert (after[:, 0, 0] - state[0, 0]).mean() == pytest.approx(-0.008 * 0.4, abs=5 * 0.03 * market / np.sqrt(n))
    assert (after[:, 2, 4] - state[2, 4]).mean() == pytest.approx(0.05 * 0.2, abs=5 * 0.1 / np.sqrt(n))
    # Tails: kurtosis of a Student-t has no finite error here, but a normal law would show 3.
    assert np.mean(((r[:, 0] - r[:, 0].mean()) / r[:, 0].std()) ** 4) > 4.5


def test_names_drawn_alone_with_one_seed_have_the_joint_law() -> None:
    state = LAW.initial_state
    alone = []
    for label in LAW.labels[:2]:
        market, rng = LAW.one(label), np.random.default_rng(3)
        alone.append(market.sample(state[0], 20_000, rng))
    r = np.stack([one[0] for one in alone])
    atm = np.stack([np.log(one[1][:, 0, 5]) for one in alone])
    assert np.corrcoef(r)[0, 1] == pytest.approx(LAW.names[0].loading * LAW.names[1].loading, abs=0.03)
    joint_r, joint_vol = LAW.sample(state, 20_000, np.random.default_rng(4))
    joint_atm = np.log(joint_vol[:, :, 0, 5])
    found, expected = np.corrcoef(np.r_[r, atm]), np.corrcoef(np.c_[joint_r[:, :2], joint_atm[:, :2]].T)
    np.testing.assert_allclose(found, expected, atol=0.05)
    # The noise of the surfaces is each name's own.
    markets = [LAW.one(label) for label in LAW.labels[:2]]
    same = np.repeat(state[:1], 50, axis=0)
    off = [np.log(one.observe(same, np.random.default_rng(3)) / one.surface(same)).ravel() for one in markets]
    assert abs(np.corrcoef(*off)[0, 1]) < 0.08  # 4,000 values


def test_the_joint_oracle_is_calibrated_and_a_wrong_law_is_not(names: SimulatedNames) -> None:
    """Probability integral transforms of each name, and of sums and differences across names, are uniform."""
    law = LAW.labels[:3]
    history = names.aligned.sel(asset=list(law))
    oracle = JointOracle(LAW, history).models
    # A loading of the other sign leaves a name's margin and spoils its sum with others.
    other = dataclasses.replace(LAW.names[0], loading=-LAW.names[0].loading)
    first = JointOracle(NamesMarket((other, *LAW.names[1:]), LAW.tau, LAW.moneyness), history).models[law[0]]
    ranks: dict[str, list[list[float]]] = {"oracle": [], "wrong": []}
    for row in range(20, 419, 2):
        after = history.isel(date=row + 1)
        for kind, models in (("oracle", oracle), ("wrong", oracle | {law[0]: first})):
            drawn = []
            for name in law:
                state = state_at(history.sel(asset=name), history.date.values[row], n_returns=1, n_surfaces=1)
                drawn.append(models[name].sample(state, 200, 1, np.random.default_rng(row)))
            r = np.stack([one[0][:, 0] for one in drawn], axis=1)
            v = np.stack([np.log(one[1][:, 0, 0, 5]) for one in drawn], axis=1)
            true_r, true_v = after.log_return.values, np.log(after.implied_vol.values[:, 0, 5])
            pairs = (
                (r[:, 0], true_r[0]), (v[:, 1], true_v[1]), (r.sum(axis=1), true_r.sum()),
                (v[:, 0] - v[:, 2], true_v[0] - true_v[2]), (r[:, 0] - r[:, 1], true_r[0] - true_r[1]),
            )  # fmt: skip
            ranks[kind].append([np.mean(x < y) for x, y in pairs])
    found = {kind: np.array(rows) for kind, rows in ranks.items()}
    n = len(found["oracle"])
    grid = (np.arange(n) + 0.5) / n

    def distance(pit: np.ndarray) -> float:
        return float(np.abs(np.sort(pit) - grid).max())

    limit = 1.63 / np.sqrt(n) + 0.01  # Kolmogorov at 1%, and the grid of 200 scenarios
    assert all(distance(found["oracle"][:, j]) < limit for j in range(5))
    coverage = np.mean(np.abs(found["oracle"] - 0.5) < 0.45, axis=0)
    np.testing.assert_allclose(coverage, 0.9, atol=4 * np.sqrt(0.09 / n))
    assert distance(found["wrong"][:, 0]) < limit
    assert np.mean(np.abs(found["wrong"][:, 2] - 0.5) < 0.45) < coverage[2] - 0.05


@pytest.mark.filterwarnings("ignore:the history has no date between:volscen.errors.HistoryWarning")  # thinly quoted
def test_oracles_of_names_work_with_every_verb(names: SimulatedNames) -> None:
    history = names.histories["N06"]
    cube = volscen.generate(Oracle(LAW.one("N06")).fit(history), history, n_scenarios=50, horizon=2, seed=1)
    volscen.validate(cube)
    joint = JointOracle(LAW, names.aligned.isel(date=slice(0, 300)))
    with pytest.raises(InputError, match="true state"):
        volscen.generate_joint(joint, names.aligned, n_scenarios=10, seed=1)
    cubes = volscen.generate_joint(joint.update(names.aligned), names.aligned, n_scenarios=10, seed=1)
    assert volscen.stack_assets(cubes).implied_vol.shape == (6, 10, 1, 8, 10)


def test_bad_input_names_the_argument(names: SimulatedNames, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="n_sparse"):
        names_market(3, 4)
    with pytest.raises(InputError, match="n_names"):
        names_market(1)
    with pytest.raises(InputError, match="n_days"):
        simulate_names(1)
    with pytest.raises(InputError, match="leave name N05"):
        simulate_names(100, law=LAW, seed=1)
    with pytest.raises(InputError, match="law must be a NamesMarket"):
        simulate_names(100, law="A")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="each label once"):
        NamesMarket((LAW.names[0],) * 2, LAW.tau, LAW.moneyness)
    with pytest.raises(InputError, match="loading"):
        dataclasses.replace(LAW.names[0], loading=1.0)
    with pytest.raises(InputError, match="finite"):
        dataclasses.replace(LAW.names[0], noise=float("nan"))
    with pytest.raises(InputError, match="kept"):
        dataclasses.replace(LAW.names[0], kept=0.0)
    with pytest.raises(InputError, match="none of N01"):
        LAW.one("N99")
    with pytest.raises(InputError, match="state must be finite"):
        LAW.sample(np.zeros((2, 6)), 3, np.random.default_rng(0))
    with pytest.raises(InputError, match="names of the market"):
        JointOracle(names_market(2, 0), names.aligned)
    with pytest.raises(InputError, match="cannot be saved"):
        JointOracle(LAW, names.aligned).save(tmp_path / "x")

"""Policies and their accounts against hand-kept books, closed forms and markets with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

import volscen
from volscen import agent
from volscen.agent._market import OBSERVATIONS
from volscen.errors import FileFormatError, InputError


@pytest.fixture(scope="module")
def history() -> xr.Dataset:
    return volscen.datasets.sample_history().isel(date=slice(0, 400))


@pytest.fixture(scope="module")
def signal(history: xr.Dataset) -> agent.RiskSignal:
    return agent.RiskSignal.fit(history)


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    return volscen.generate(n_scenarios=300, horizon=8, seed=3)


def put(spot: np.ndarray, strike: np.ndarray, tau: np.ndarray, vol: np.ndarray) -> np.ndarray:
    d1 = np.log(spot / strike) / (vol * np.sqrt(tau)) + vol * np.sqrt(tau) / 2
    return strike * norm.cdf(vol * np.sqrt(tau) - d1) - spot * norm.cdf(-d1)


def flat_history(vol: np.ndarray, spot: np.ndarray) -> xr.Dataset:
    date = np.datetime64("2020-01-06") + np.arange(len(spot)) * np.timedelta64(1, "D")
    surfaces = np.broadcast_to(vol[:, None, None], (len(spot), 3, 3)).copy()
    # A signal needs something to vary along every component.
    surfaces *= 1 + 1e-9 * np.random.default_rng(0).normal(size=surfaces.shape)
    return volscen.make_history(
        date.astype("datetime64[ns]"), [0.1, 0.5, 1.0], [0.8, 1.0, 1.2], surfaces, spot=spot,
        calendar="weekdays", periods_per_year=365, source="hand-made",
    )  # fmt: skip


def one(history: xr.Dataset) -> agent.RiskSignal:
    return agent.RiskSignal.fit(history, n_components=1)


def test_put_is_repriced_rolled_and_charged_by_hand() -> None:
    spot = np.array([100.0, 90.0, 93.0, 99.0, 97.0])
    vol = np.array([0.2, 0.35, 0.3, 0.25, 0.5])
    h = flat_history(vol, spot)
    market = agent.option_market(
        h, one(h), moneyness=0.9, tau=0.25, roll_every=2, half_spread_vol=0.004, half_spread_share=0.01, index_cost=0.0
    )
    assert market.listed.values.tolist() == [True, False, True, False]
    left = 0.25 - np.array([0.0, 1.0, 2.0]) / 365
    for start in (0, 2):
        s, v = spot[start : start + 3], vol[start : start + 3]
        k = 0.9 * spot[start]
        price = put(s, k, left, v)
        vega = (put(s, k, left, v + 1e-5) - put(s, k, left, v - 1e-5)) / 2e-5
        half = np.maximum(0.004, 0.01 * v) * vega
        np.testing.assert_allclose(market.hedge_gain[0, start : start + 2], np.diff(price) / s[:-1], rtol=2e-6)
        np.testing.assert_allclose(market.entry_cost[0, start : start + 2], (half / s)[:2], rtol=2e-6)
        ends = slice(start + 1, min(start + 3, 4))
        np.testing.assert_allclose(market.exit_cost[0, ends], (half / s)[1 : 1 + ends.stop - ends.start], rtol=2e-6)
    np.testing.assert_allclose(market.atm_vol[0], vol[:-1], rtol=1e-6)
    np.testing.assert_allclose(market.log_return[0], [0, *np.log(spot[1:-1] / spot[:-2])], atol=1e-14)
    variance = [0.2**2]
    for r in np.log(spot[1:-1] / spot[:-2]):
        variance.append(0.94 * variance[-1] + 0.06 * 365 * r * r)
    np.testing.assert_allclose(market.realised_vol[0], np.sqrt(variance), rtol=1e-6)


class Alternate(agent.Policy):
    """Any positions, fixed in advance."""

    def __init__(self, exposure: np.ndarray, hedge: np.ndarray) -> None:
        self.plan = list(zip(exposure, hedge, strict=True))[::-1]

    def decide(self, seen: dict[str, np.ndarray], hedged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        exposure, hedge = self.plan.pop()
        return np.full_like(hedged, exposure), np.full_like(hedged, hedge)


def test_more_hedges_than_there_is_to_lose_must_be_asked_for(history: xr.Dataset, signal: agent.RiskSignal) -> None:
    market = agent.option_market(history.isel(date=slice(0, 10)), signal)
    n = market.sizes["time"]
    for exposure, hedge, wanted in ((1.0, 3.0, "3"), (0.5, -2.5, "1.25"), (2.0, 1.5, "1.5")):
        policy = {"x": Alternate(np.full(n, exposure), np.full(n, hedge))}
        with pytest.raises(InputError, match=rf"'x' wants {wanted} hedges.*max_hedge={int(np.ceil(float(wanted)))}"):
            agent.simulate(market, policy)
    agent.simulate(market, {"x": Alternate(np.full(n, 1.0), np.full(n, 3.0))}, max_hedge=3)
    agent.simulate(market, {"x": Alternate(np.full(n, 0.1), np.full(n, 10.0))})
    agent.simulate(market, {"x": Alternate(np.full(n, 2.0), np.full(n, 1.0))})
    for wrong in (-1, np.nan, "1", True):
        with pytest.raises(InputError, match="max_hedge"):
            agent.simulate(market, {"x": agent.BuyAndHold()}, max_hedge=wrong)


def test_account_equals_one_kept_in_units_and_cash(history: xr.Dataset, signal: agent.RiskSignal) -> None:
    market = agent.option_market(history.isel(date=slice(0, 60)), signal, roll_every=7, index_cost=0.001)
    n = market.sizes["time"]
    rng = np.random.default_rng(5)
    exposure, hedge = rng.uniform(0.2, 1.1, n), rng.integers(0, 3, n) / 2.0
    result = agent.simulate(market, {"x": Alternate(exposure, hedge)})
    m = {name: market[name].values[0] for name in ("index_gain", "hedge_gain", "entry_cost", "exit_cost")}
    spot = np.concatenate([[1.0], np.cumprod(1 + m["index_gain"])])
    cash, units, puts, wealth = 1.0, 0.0, 0.0, 1.0
    put_value = 0.0  # of the position, at mid; only its changes matter to wealth
    for t in range(n):
        wanted_units = exposure[t] * wealth / spot[t]
        wanted_puts = hedge[t] * wanted_units
        cost = abs(wanted_units - units) * spot[t] * 0.001
        if market.listed.values[t]:
            cost += spot[t] * (puts * m["exit_cost"][t] + wanted_puts * m["entry_cost"][t])
        else:
            cost += spot[t] * abs(wanted_puts - puts) * m["entry_cost"][t]
        cash -= (wanted_units - units) * spot[t] + cost
        units, puts = wanted_units, wanted_puts
        put_value += puts * m["hedge_gain"][t] * spot[t]
        wealth = cash + units * spot[t + 1] + put_value
        np.testing.assert_allclose(result.wealth.values[0, 0, t], wealth, rtol=1e-12)


def test_holding_is_the_index_and_simplified_hedge_is_the_articles(cube: xr.Dataset, signal: agent.RiskSignal) -> None:
    market = agent.simplified_market(cube, signal)
    result = agent.simulate(market, {"hold": agent.BuyAndHold(), "always": agent.AlwaysHedged()})
    np.testing.assert_allclose(result.wealth.sel(policy="hold")[:, -1], cube.spot[:, -1] / cube.spot0, rtol=1e-12)
    r = cube.log_return.values
    by_hand = np.prod(np.exp(r) - 0.002 + 0.05 * (r < 0), axis=1)
    np.testing.assert_allclose(result.wealth.sel(policy="always")[:, -1], by_hand, rtol=1e-12)


def test_signal_is_mean_absolute_standardised_component(history: xr.Dataset) -> None:
    flat = np.log(history.implied_vol.values).reshape(history.sizes["date"], -1)
    centred = flat - flat.mean(axis=0)
    values, axes = np.linalg.eigh(np.cov(centred.T, bias=True))
    z = centred @ axes[:, ::-1][:, :3] / np.sqrt(values[::-1][:3])
    found = agent.RiskSignal.fit(history, n_components=3)(history.implied_vol)
    np.testing.assert_allclose(found, np.abs(z).mean(axis=1), rtol=1e-6)
    own = agent.RiskSignal.fit(history, encoder=lambda s: np.log(s).mean(axis=(1, 2))[:, None])
    level = flat.mean(axis=1)
    np.testing.assert_allclose(own(history.implied_vol), np.abs(level - level.mean()) / level.std(), rtol=1e-9)


def test_rules_by_hand() -> None:
    def seen(risk: float, change: float, vol: float = 0.3) -> dict[str, np.ndarray]:
        given = {name: np.zeros(1) for name in OBSERVATIONS}
        return given | {"risk": np.array([risk]), "risk_change": np.array([change]), "realised_vol": np.array([vol])}

    velocity = agent.RiskVelocity(engage=0.03, release=0.2)
    held, found = np.zeros(1), []
    for risk, change in [(0.1, 0.02), (0.3, 0.2), (0.25, -0.05), (0.2, -0.05), (0.15, 0.04), (0.3, 0.01)]:
        held = velocity.decide(seen(risk, change), held)[1]
        found.append(int(held[0]))
    assert found == [0, 1, 1, 0, 1, 1]
    assert [int(agent.RiskLevel(0.5).decide(seen(r, 0), held)[1][0]) for r in (0.4, 0.5, 0.6)] == [0, 0, 1]
    target = agent.VolatilityTarget(0.15, greatest=1.5)
    assert target.decide(seen(0, 0, 0.3), held)[0][0] == pytest.approx(0.5)
    assert target.decide(seen(0, 0, 0.01), held)[0][0] == 1.5
    past = np.arange(101.0) ** 2
    assert agent.RiskVelocity.calibrate(past, engage=1.0, release=0.5) == agent.RiskVelocity(199.0, 2500.0)
    assert agent.RiskLevel.calibrate(past, quantile=0.5).level == 2500.0


def test_what_comes_later_changes_no_decision(history: xr.Dataset, signal: agent.RiskSignal) -> None:
    late = history.isel(date=slice(100, 160))
    changed = late.copy(deep=True)
    changed["implied_vol"][40:] *= 1.7
    changed["log_return"][40:] -= 0.03
    changed["spot"][:] = float(late.spot[0]) * np.exp(
        np.concatenate([[0], np.cumsum(changed["log_return"].values[1:])])
    )
    rules = {
        "velocity": agent.RiskVelocity.calibrate(signal(history.implied_vol[:100]).values),
        "target": agent.VolatilityTarget(0.1),
    }
    one, other = (agent.simulate(agent.option_market(h, signal), rules) for h in (late, changed))
    for name in ("exposure", "hedge"):
        np.testing.assert_array_equal(one[name][..., :40], other[name][..., :40])
    assert not np.array_equal(one.exposure, other.exposure)


def market_with(gain: np.ndarray, hedge: np.ndarray, cost: float = 0.0) -> xr.Dataset:
    dims = ("path", "time")
    rng = np.random.default_rng(2)
    seen = {name: (dims, rng.normal(size=gain.shape)) for name in OBSERVATIONS}
    same = np.full_like(gain, cost)
    return xr.Dataset(
        {"index_gain": (dims, gain), "hedge_gain": (dims, hedge), "entry_cost": (dims, same), "exit_cost": (dims, same),
         "listed": ("time", np.zeros(gain.shape[1], bool)),
         "weight": ("path", np.full(len(gain), 1 / len(gain)))} | seen,
        attrs={"market": "option", "index_cost": 0.0, "periods_per_year": 252.0},
    )  # fmt: skip


def test_learned_policy_finds_the_known_best_hedge() -> None:
    gain = np.random.default_rng(1).normal(0, 0.02, (400, 6))
    for hedge, best in ((-0.5 * gain - 0.001, None), (np.full_like(gain, -0.01), 0.0), (-0.9 * gain, 1.0)):
        market = market_with(gain, hedge)
        policy = agent.LearnedPolicy.fit(market, iterations=60, learning_rate=0.1, seed=1)
        found = float(agent.simulate(market, {"p": policy}).hedge.mean())
        assert policy.objective[-1] < policy.objective[0]
        if best is not None:
            assert abs(found - best) < 0.08
    # With trading costs beyond any gain it trades less than without.
    free, dear = (
        agent.simulate(m, {"p": agent.LearnedPolicy.fit(m, iterations=60, learning_rate=0.1)}).hedge
        for m in (market_with(gain, -0.9 * gain), market_with(gain, -0.9 * gain, cost=0.3))
    )
    assert float(abs(dear.diff("time")).mean() + dear[..., 0].mean()) < 0.3 < float(free[..., 0].mean())


def test_learned_policy_reads_its_observations() -> None:
    """Falls are announced by one observation: hedging pays on those steps only, and only there it hedges."""
    rng = np.random.default_rng(7)
    warned = rng.random((500, 5)) < 0.3
    gain = np.where(warned, -0.03, 0.01) + rng.normal(0, 0.002, warned.shape)
    market = market_with(gain, np.where(warned, 0.03, -0.01))
    market["risk"] = (("path", "time"), warned * 1.0)
    hedge = agent.simulate(market, {"p": agent.LearnedPolicy.fit(market, iterations=150, learning_rate=0.05)}).hedge
    assert float(hedge.values[0][warned].mean()) > 0.9
    assert float(hedge.values[0][~warned].mean()) < 0.1


def test_weights_enter_training_and_summary(cube: xr.Dataset, signal: agent.RiskSignal) -> None:
    market = agent.option_market(cube, signal)
    down = (cube.log_return.sum("step") < 0).values
    tilted = market.assign(weight=("path", np.where(down, 1.0, 1e-12) / np.where(down, 1.0, 1e-12).sum()))
    fitted = [agent.LearnedPolicy.fit(m, iterations=25) for m in (market, tilted)]
    assert fitted[0].objective[0] != fitted[1].objective[0]
    assert not np.allclose(fitted[0].mean, fitted[1].mean)
    hold = {"hold": agent.BuyAndHold()}
    median = [agent.summarise(agent.simulate(m, hold), quantiles=[0.5]).total_return.item() for m in (market, tilted)]
    r = np.expm1(cube.log_return.sum("step").values)
    assert median[1] == pytest.approx(np.median(r[down]) - 0.0001, abs=3e-4)
    assert median[1] < 0 < median[0] + 0.01


def test_learning_is_reproducible_and_survives_saving(cube: xr.Dataset, signal: agent.RiskSignal, tmp_path) -> None:  # type: ignore[no-untyped-def]
    import torch

    from volscen.agent._learned import _log_wealth, _network

    market = agent.option_market(cube, signal)
    a, b, c = (agent.LearnedPolicy.fit(market, iterations=4, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(a.objective, b.objective)
    assert not np.array_equal(a.objective, c.objective)
    loaded = agent.LearnedPolicy.load(a.save(tmp_path / "policy.safetensors"))
    one, other = (agent.simulate(market, {"p": p}) for p in (a, loaded))
    np.testing.assert_array_equal(one.wealth, other.wealth)
    assert loaded.settings == a.settings
    # NumPy's evaluation is torch's: wealth after no training at all.
    start = agent.LearnedPolicy.fit(market, iterations=1, learning_rate=1e-300, seed=9)
    seen = np.stack([market[name].values for name in OBSERVATIONS], axis=-1)
    inputs = torch.from_numpy(np.clip((seen - start.mean) / start.sd, -4, 4))
    gains = {k: torch.from_numpy(market[k].values) for k in ("index_gain", "hedge_gain", "entry_cost", "exit_cost")}
    with torch.no_grad():
        wealth = _log_wealth(_network(9, 16, 9), inputs, gains, market.listed.values, market.attrs["index_cost"])
    found = np.log(agent.simulate(market, {"p": start}).wealth.values[0, :, -1])
    np.testing.assert_allclose(found, wealth.numpy(), atol=1e-13)
    (tmp_path / "no.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(FileFormatError, match="cannot read a policy"):
        agent.LearnedPolicy.load(tmp_path / "no.safetensors")


def test_summary_by_hand(history: xr.Dataset, signal: agent.RiskSignal) -> None:
    growth = np.array([1.1, 0.5, 1.2, 0.9, 1.3])
    h = flat_history(np.full(6, 0.2) + 0.01 * np.arange(6), 100 * np.concatenate([[1], np.cumprod(growth)]))
    market = agent.simplified_market(h, one(h), premium=0.01, payoff=0.0)
    result = agent.simulate(market, {"hold": agent.BuyAndHold(), "always": agent.AlwaysHedged()})
    table = agent.summarise(result, quantiles=[0.5]).squeeze("quantile")
    hold = table.sel(policy="hold")
    assert float(hold.total_return) == pytest.approx(np.prod(growth) - 1)
    assert float(hold.worst_fall) == pytest.approx(0.5)
    assert float(hold.worst_step) == pytest.approx(-0.5)
    assert float(hold.mean_loss_5) == pytest.approx(0.5)
    assert float(hold.annual_vol) == pytest.approx(growth.std() * np.sqrt(365))
    assert float(hold.sharpe) == pytest.approx((growth.mean() - 1) / growth.std() * np.sqrt(365))
    assert table.share_hedged.values.tolist() == [0, 1]
    first = {"start": ("2020-01-06", "2020-01-07")}
    part = agent.summarise(result, periods=first).sel(policy="hold", period="start")
    assert float(part.total_return) == pytest.approx(1.1 * 0.5 - 1)
    windows = agent.summarise(result, window=2, every=1, quantiles=[0.0, 1.0]).sel(policy="hold")
    np.testing.assert_allclose(windows.total_return, [1.1 * 0.5 - 1, 0.9 * 1.3 - 1])


def test_pooled_markets_share_the_weight(cube: xr.Dataset, signal: agent.RiskSignal) -> None:
    a, b = (agent.option_market(c, signal) for c in (cube, cube.isel(scenario=slice(0, 100)).pipe(volscen.reweight)))
    pooled = agent.pool_markets([a, b])
    assert pooled.sizes["path"] == 400
    assert float(pooled.weight[:300].sum()) == pytest.approx(0.5)
    assert float(pooled.weight.sum()) == pytest.approx(1)
    np.testing.assert_array_equal(pooled.hedge_gain[300:], b.hedge_gain)
    with pytest.raises(InputError, match="same number of steps"):
        agent.pool_markets([a, agent.option_market(cube, signal, index_cost=0.5)])


def test_bad_input_names_the_argument(history: xr.Dataset, cube: xr.Dataset, signal: agent.RiskSignal) -> None:
    with pytest.raises(InputError, match="ends before the next listing"):
        agent.option_market(history, signal, tau=0.02)
    with pytest.raises(InputError, match="half_spread_vol"):
        agent.option_market(history, signal, half_spread_vol=np.nan)
    with pytest.raises(InputError, match="roll_every"):
        agent.option_market(history, signal, roll_every=0)
    with pytest.raises(InputError, match="every step from the first"):
        agent.option_market(cube.isel(step=[0, 2]), signal)
    with pytest.raises(InputError, match="grid"):
        agent.option_market(history.isel(tau=slice(1, None)), signal)
    with pytest.raises(InputError, match="n_components"):
        agent.RiskSignal.fit(history, n_components=1000)
    with pytest.raises(InputError, match="encoder must return"):
        agent.RiskSignal.fit(history, encoder=lambda s: np.full((len(s), 2), np.nan))
    market = agent.option_market(cube, signal)
    with pytest.raises(InputError, match="policies holds none"):
        agent.simulate(market, {})
    with pytest.raises(InputError, match="market lacks"):
        agent.simulate(market.drop_vars("risk"), {"hold": agent.BuyAndHold()})
    with pytest.raises(InputError, match="loses all its wealth"):
        agent.simulate(market, {"x": Alternate(np.full(8, 1e6), np.zeros(8))})
    with pytest.raises(InputError, match="alpha must lie"):
        agent.LearnedPolicy.fit(market, alpha=0.0)
    with pytest.raises(InputError, match="too few for a worst"):
        agent.LearnedPolicy.fit(market, alpha=0.0001)
    with pytest.raises(InputError, match="strike over spot"):
        agent.option_market(history, signal, moneyness=95)
    with pytest.raises(InputError, match="RiskSignal"):
        agent.option_market(history, None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be a DataArray"):
        signal(history.implied_vol.values)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="mapping of names to policies"):
        agent.simulate(market, [agent.BuyAndHold()])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="mapping of names to policies"):
        agent.simulate(market, {"a": agent.BuyAndHold})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="decimal"):
        agent.VolatilityTarget(12)
    with pytest.raises(InputError, match="finite number"):
        agent.VolatilityTarget("x")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="measure"):
        agent.VolatilityTarget(measure="vix")
    result = agent.simulate(market, {"hold": agent.BuyAndHold()})
    with pytest.raises(InputError, match="scenarios have no dates"):
        agent.summarise(result, periods=agent.PERIODS)
    with pytest.raises(InputError, match="a distribution already"):
        agent.summarise(result, window=2)

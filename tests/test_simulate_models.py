"""Simulated markets of the textbook models: prices against QuantLib, laws against their moments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import QuantLib as ql
from scipy.stats import poisson

import volscen
from volscen.errors import InputError
from volscen.sources.simulate import MARKETS, simulate_market

MODELS = ("heston", "bates", "merton", "sabr")


@pytest.fixture
def quantlib():
    today = ql.Date(2, 1, 2020)
    ql.Settings.instance().evaluationDate = today
    curve = ql.YieldTermStructureHandle(ql.FlatForward(today, 0.0, ql.Actual365Fixed()))
    return today, curve, ql.QuoteHandle(ql.SimpleQuote(1.0))


def quantlib_vol(engine, today, days, m):
    """Implied vol of the out-of-the-money option."""
    kind = ql.Option.Call if m > 1 else ql.Option.Put
    option = ql.EuropeanOption(ql.PlainVanillaPayoff(kind, m), ql.EuropeanExercise(today + days))
    option.setPricingEngine(engine)
    deviation = ql.blackFormulaImpliedStdDev(kind, m, 1.0, option.NPV(), 1.0, 0.0, 0.05, 1e-14, 500)
    return deviation / np.sqrt(days / 365)


@pytest.mark.parametrize("variance", [0.0085, 0.04, 0.2])
@pytest.mark.parametrize("name", ["heston", "bates"])
def test_surfaces_agree_with_quantlib(name, variance, quantlib):
    today, curve, spot = quantlib
    law = MARKETS[name]
    own = law.surface(np.array([[variance]]))[0]
    terms = (curve, curve, spot, variance, law.reversion, law.mean, law.vol_of_variance, law.correlation)
    if name == "heston":
        engine = ql.AnalyticHestonEngine(ql.HestonModel(ql.HestonProcess(*terms)), 192)
    else:
        jumps = (law.intensity, law.jump_mean, law.jump_deviation)
        engine = ql.BatesEngine(ql.BatesModel(ql.BatesProcess(*terms, *jumps)), 192)
    found = [[quantlib_vol(engine, today, round(365 * t), m) for m in law.moneyness] for t in law.tau]
    np.testing.assert_allclose(own, found, atol=2e-5)


@pytest.mark.parametrize("log_variance", [-4.5, -3.9, -3.2])
def test_merton_agrees_with_his_series(log_variance):
    """Merton (1976), equation (19): Black-Scholes prices given the number of jumps."""
    law = MARKETS["merton"]
    growth = np.exp(law.jump_mean + 0.5 * law.jump_deviation**2)
    own = law.surface(np.array([[log_variance]]))[0]
    for j, t in enumerate(law.tau):
        for i, m in enumerate(law.moneyness):
            kind = ql.Option.Call if m > 1 else ql.Option.Put
            value = 0.0
            for n in range(40):
                rate = -law.intensity * (growth - 1) + n * np.log(growth) / t
                deviation = np.sqrt(np.exp(log_variance) * t + n * law.jump_deviation**2)
                black = ql.blackFormula(kind, m, float(np.exp(rate * t)), float(deviation), float(np.exp(-rate * t)))
                value += poisson.pmf(n, law.intensity * growth * t) * black
            deviation = ql.blackFormulaImpliedStdDev(kind, m, 1.0, value, 1.0, 0.0, 0.05, 1e-14, 500)
            assert own[j, i] == pytest.approx(deviation / np.sqrt(t), abs=2e-6)


def test_sabr_agrees_with_quantlib():
    law = replace(MARKETS["sabr"], moneyness=(0.8, 0.95, 1.0, 1.07, 1.3))
    own = law.surface(np.array([[np.log(0.25), -0.4]]))[0]
    rho = float(np.tanh(-0.4))
    found = [[ql.sabrVolatility(m, 1.0, t, 0.25, 1.0, law.vol_of_vol, rho) for m in law.moneyness] for t in law.tau]
    np.testing.assert_allclose(own, found, rtol=1e-10)


def test_moments_of_the_next_day():
    """200,000 draws from one state; bounds of five standard errors."""
    n, dt = 200_000, 1 / 252
    for name in ("heston", "bates"):
        law = MARKETS[name]
        v = 0.06
        r, after = law.step(np.full((n, 1), v), np.random.default_rng(0))
        decay = np.exp(-law.reversion * dt)
        mean = law.mean + (v - law.mean) * decay
        assert after.mean() == pytest.approx(mean, abs=5 * after.std() / np.sqrt(n))
        xi2 = law.vol_of_variance**2 / law.reversion
        variance = v * xi2 * (decay - decay**2) + law.mean * xi2 / 2 * (1 - decay) ** 2
        assert after.std() == pytest.approx(np.sqrt(variance), rel=5 / np.sqrt(n))
        # the price is a martingale, and a day's variance is diffusion plus jumps
        assert np.exp(r).mean() == pytest.approx(1, abs=5 * r.std() / np.sqrt(n))
        jump = law.intensity * (law.jump_mean**2 + law.jump_deviation**2)
        assert r.var() == pytest.approx((v + jump) * dt, rel=0.15 if jump else 0.02)
    assert np.corrcoef(*(x.ravel() for x in MARKETS["heston"].step(np.full((n, 1), 0.06), np.random.default_rng(1))))[
        0, 1
    ] == pytest.approx(-0.7, abs=0.02)
    for name, sd in (("merton", 0.07), ("sabr", 0.045)):
        law = MARKETS[name]
        state = np.tile(law.initial_state, (n, 1))
        r, after = law.step(state, np.random.default_rng(2))
        assert after[:, 0].mean() == pytest.approx(law.initial_state[0], abs=5 * sd / np.sqrt(n))
        assert after[:, 0].std() == pytest.approx(sd, rel=0.02)
        assert np.exp(r).mean() == pytest.approx(1, abs=5 * r.std() / np.sqrt(n))


@pytest.mark.parametrize("name", MODELS)
def test_histories_and_oracles(name):
    history = simulate_market(name, 60, seed=1)
    volscen.validate(history)
    assert "SIMULATED" in history.title
    assert MARKETS[name].description in history.source
    oracle = volscen.evaluation.Oracle(name).fit(history)
    cube = volscen.generate(oracle, history, n_scenarios=50, horizon=2, seed=1)
    assert cube.sizes["step"] == 2
    # where nothing is noisy the models' surfaces carry no static arbitrage
    clean = MARKETS[name].surface(history.state.values)
    assert volscen.arbitrage.penalty(clean, history.tau.values, history.moneyness.values).max() < 1e-9


def test_a_grid_too_wide_for_its_maturity_is_refused():
    law = replace(MARKETS["heston"], moneyness=(1.0, 1.6), tau=(7 / 365,), name="wide")
    with pytest.raises(InputError, match=r"market wide: options at 7 days and K/F 1\.6"):
        law.surface(np.array([[0.04]]))

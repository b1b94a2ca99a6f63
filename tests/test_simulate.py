"""The simulated markets."""

from __future__ import annotations

import numpy as np
import pytest

import volscen
from volscen.errors import InputError
from volscen.sources.simulate import MARKETS, SSVIMarket, simulate_market


def test_same_seed_same_history_and_a_longer_one_continues_it():
    a, b = simulate_market("A", 60, seed=3), simulate_market("A", 60, seed=3)
    np.testing.assert_array_equal(a.implied_vol, b.implied_vol)
    np.testing.assert_array_equal(simulate_market("A", 80, seed=3).state[:60], a.state)
    assert not np.array_equal(simulate_market("A", 60, seed=4).log_return, a.log_return)


@pytest.mark.parametrize("name", MARKETS)
def test_histories_follow_the_schema_and_say_they_are_simulated(name):
    history = simulate_market(name, 10, seed=1)
    volscen.validate(history)
    assert history.title.startswith("SIMULATED")


def test_the_surface_is_ssvi_and_free_of_arbitrage_without_noise():
    clean = SSVIMarket(MARKETS["A"].tau, MARKETS["A"].moneyness, 0.0)
    history = simulate_market(clean, 300, seed=2)
    penalty = volscen.arbitrage.penalty(history.implied_vol.values, history.tau.values, history.moneyness.values)
    assert penalty.max() < 1e-9
    # at the money w = theta (1 + sqrt(1 - rho^2 + rho^2)) / 2 = theta, and theta by hand for the first day
    market = SSVIMarket((0.25,), (1.0,), 0.0)
    v0, v_inf, tau = 0.035, 0.045, 0.25
    theta = tau * (v_inf + (v0 - v_inf) * (1 - np.exp(-2.5 * tau)) / (2.5 * tau))
    np.testing.assert_allclose(market.surface(np.array([market.initial_state])), np.sqrt(theta / tau), rtol=1e-14)


def test_one_day_moments_of_the_true_law():
    """Return sd .85 e^{x/2}/sqrt(252), correlation of return and x shocks -.78 (n = 200,000: 5 sd bounds)."""
    market = MARKETS["A"]
    start = np.tile(market.initial_state, (200_000, 1))
    r, after = market.step(start, np.random.default_rng(0))
    sd = 0.85 * np.sqrt(0.035) / np.sqrt(252)
    # Student-t with 5 degrees of freedom has kurtosis 9: sd of the sample sd is sd sqrt(8 / n) / 2
    assert r.std() == pytest.approx(sd, abs=5 * sd * np.sqrt(8 / 200_000) / 2)
    assert np.corrcoef(r, after[:, 0])[0, 1] == pytest.approx(-0.78, abs=0.01)
    assert r.mean() == pytest.approx(0.0002, abs=5 * sd / np.sqrt(200_000))


def test_the_oracle_draws_around_the_true_state():
    history = simulate_market("A", 5, seed=1)
    r, iv = MARKETS["A"].sample(history.state.values[-1], 5000, np.random.default_rng(0))
    assert r.shape == (5000,)
    assert iv.shape == (5000, 8, 10)
    np.testing.assert_allclose(np.log(iv).mean(axis=0), np.log(history.implied_vol[-1]), atol=0.02)


def test_bad_arguments():
    with pytest.raises(InputError, match="market"):
        simulate_market("Z", 10)
    with pytest.raises(InputError, match="n_days"):
        simulate_market("A", 1)


def test_sample_history_is_simulated_and_the_default_was_fitted_on_it():
    history = volscen.datasets.sample_history()
    assert history.sizes["date"] == 1500
    assert "simulated" in history.source
    from volscen.schema import fingerprint

    assert volscen.datasets.default_generator().fingerprint_ == fingerprint(history)

"""Arbitrage weights: formula, effective sample size, extremes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import volscen
from volscen._reweight import BETA_MAX, arbitrage_weights, largest_beta
from volscen.errors import InputError


def test_weights_by_hand():
    # beta = ln 2: weights 1 : 1/2 : 1/4
    weight, beta = arbitrage_weights([0.0, 1.0, 2.0], np.log(2))
    np.testing.assert_allclose(weight, np.array([4, 2, 1]) / 7, rtol=1e-15)
    assert beta == np.log(2)


def test_zero_beta_gives_equal_weights():
    weight, _ = arbitrage_weights([0.0, 3.0, 1e6, 5.0], 0.0)
    np.testing.assert_array_equal(weight, 0.25)


def test_ess_by_hand():
    np.testing.assert_allclose(volscen.effective_sample_size([0.5, 0.25, 0.25]), 1 / 0.375)


penalties = arrays(np.float64, st.integers(2, 60), elements=st.floats(0, 1e6))


@given(penalties)
@settings(deadline=None)
def test_auto_keeps_the_floor_and_is_the_largest(phi):
    weight, beta = arbitrage_weights(phi, "auto", ess_floor=0.5)
    fraction = volscen.effective_sample_size(weight) / phi.size
    assert np.isfinite(weight).all()
    assert fraction >= 0.5 - 1e-6
    assert 0 <= beta <= BETA_MAX
    if beta < BETA_MAX * (1 - 1e-6):
        stronger, _ = arbitrage_weights(phi, min(beta * 1.001 + 1e-300, BETA_MAX))
        assert volscen.effective_sample_size(stronger) / phi.size <= 0.5 + 1e-6


@given(penalties, st.floats(0, 1e4))
def test_weights_sum_to_one_and_fall_with_the_penalty(phi, beta):
    weight, _ = arbitrage_weights(phi, beta)
    assert abs(weight.sum() - 1) < 1e-12
    order = np.argsort(phi)
    assert np.all(np.diff(weight[order]) <= 1e-15)


def test_auto_lowers_the_mean_penalty_strictly():
    phi = np.random.default_rng(1).exponential(0.01, 5000)
    weight, beta = arbitrage_weights(phi)
    assert weight @ phi < phi.mean() * 0.8
    assert 0 < beta < BETA_MAX
    np.testing.assert_allclose(volscen.effective_sample_size(weight) / phi.size, 0.5, rtol=1e-6)


def test_an_exponential_law_has_a_known_answer():
    # Phi ~ Exp(rate 1): the tilted density is Exp(1 + b), ESS/N = (1 + 2 b) / (1 + b)^2; .5 at b = 1 + sqrt 2.
    n = 200_000
    phi = -np.log1p(-(np.arange(n) + 0.5) / n)
    assert largest_beta(phi, 0.5) == pytest.approx(1 + np.sqrt(2), rel=1e-3)


def test_paper_beta_follows_its_reading():
    phi = np.array([0.0, 0.001, 0.002, 0.01])
    at_500 = np.exp(-500 * phi) / np.exp(-500 * phi).sum()
    weight, beta = arbitrage_weights(phi, "paper")
    assert beta == pytest.approx(500 / at_500.max())
    np.testing.assert_allclose(weight, np.exp(-beta * phi) / np.exp(-beta * phi).sum(), rtol=1e-12)


@pytest.mark.parametrize("beta", ["huge", -1.0, np.nan, np.inf, True, None])
def test_bad_beta(beta):
    with pytest.raises(InputError, match="beta"):
        arbitrage_weights([0.0, 1.0], beta)


@pytest.mark.parametrize("phi", [[], [np.nan, 1.0], [-1.0, 0.0], [[1.0]]])
def test_bad_penalties(phi):
    with pytest.raises(InputError, match="penalty"):
        arbitrage_weights(phi)


def test_bad_floor():
    with pytest.raises(InputError, match="ess_floor"):
        arbitrage_weights([0.0, 1.0], ess_floor=0.0)


def test_reweight_a_dataset_leaves_the_original_alone():
    cube = volscen.generate(n_scenarios=500, horizon=2, seed=1)
    rng = np.random.default_rng(0)
    cube["arbitrage_penalty"] = (("scenario", "step"), rng.exponential(0.01, (500, 2)))
    before = cube.weight.values.copy()
    again = volscen.reweight(cube, beta=50.0)
    np.testing.assert_array_equal(cube.weight, before)
    path = cube.arbitrage_penalty.values.sum(axis=1)  # the penalty of a path is the sum over its steps
    np.testing.assert_allclose(again.weight, np.exp(-50 * path) / np.exp(-50 * path).sum(), rtol=1e-12)
    assert again.attrs["beta"] == 50.0
    np.testing.assert_allclose(again.attrs["ess_fraction"], 1 / (500 * (again.weight.values**2).sum()))
    assert "beta_note" in volscen.reweight(cube, beta="paper").attrs
    assert "beta_note" not in volscen.reweight(volscen.reweight(cube, beta="paper"), beta=1.0).attrs


def test_reweight_needs_penalties():
    cube = volscen.generate(n_scenarios=10, seed=1)
    with pytest.raises(InputError, match="arbitrage_penalty"):
        volscen.reweight(cube.drop_vars("arbitrage_penalty"))


def test_a_nan_penalty_is_refused_not_weighted_up():
    cube = volscen.generate(n_scenarios=20, horizon=2, seed=1)
    cube["arbitrage_penalty"][3, 1] = np.nan
    with pytest.raises(InputError, match="finite"):
        volscen.reweight(cube, beta=10.0)


def test_numpy_numbers_are_numbers():
    for beta in (np.int64(4), np.float32(4)):
        assert arbitrage_weights([0.0, 1.0], beta)[1] == 4.0

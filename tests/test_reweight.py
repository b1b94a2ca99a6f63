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
    n = 50_000
    phi = -np.log1p(-(np.arange(n) + 0.5) / n)
    assert largest_beta(phi, 0.5) == pytest.approx(1 + np.sqrt(2), rel=1e-3)


def test_paper_beta_follows_its_reading():
    phi = np.array([0.0, 0.001, 0.002, 0.01])
    at_500 = np.exp(-500 * phi) / np.exp(-500 * phi).sum()
    weight, beta = arbitrage_weights(phi, "paper")
    assert beta == pytest.approx(500 / at_500.max())
    np.testing.assert_allclose(weight, np.exp(-beta * phi) / np.exp(-beta * phi).sum(), rtol=1e-12)


@pytest.mark.parametrize("beta", ["huge", -1.0, np.nan, np.inf, True, None, np.array([1.0, 2.0]), [1.0]])
def test_bad_beta(beta):
    with pytest.raises(InputError, match="beta"):
        arbitrage_weights([0.0, 1.0], beta)


@pytest.mark.parametrize("phi", [[], [np.nan, 1.0], [-1.0, 0.0], [[1.0]]])
def test_bad_penalties(phi):
    with pytest.raises(InputError, match="penalty"):
        arbitrage_weights(phi)


def test_bad_floor():
    for floor in (0.0, 1.1, np.nan, True, "half"):
        with pytest.raises(InputError, match="ess_floor"):
            arbitrage_weights([0.0, 1.0], ess_floor=floor)


@pytest.mark.filterwarnings("ignore:the weights leave")
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


# ------------------------------------------------------------------------------- the other criterion; priors
def test_the_limit_of_relative_entropy_is_reached():
    phi = np.random.default_rng(1).exponential(0.01, 5000)
    for kappa in (0.05, 0.3, 1.0):
        weight, beta = arbitrage_weights(phi, kl_limit=kappa)
        assert np.log(5000) + np.sum(weight * np.log(weight)) == pytest.approx(kappa, rel=1e-8)
        assert 0 < beta < BETA_MAX
    assert arbitrage_weights(phi, kl_limit=0.0)[1] < 1e-4
    assert arbitrage_weights(phi, kl_limit=50.0)[1] == BETA_MAX


def test_the_entropy_limit_of_an_exponential_law_has_a_known_answer():
    # Phi ~ Exp(1) tilted to Exp(1 + b): KL = ln(1 + b) + 1/(1 + b) - 1; b = 1 gives ln 2 - 1/2.
    n = 50_000
    phi = -np.log1p(-(np.arange(n) + 0.5) / n)
    assert largest_beta(phi, kl_limit=np.log(2) - 0.5) == pytest.approx(1, rel=1e-3)


@given(penalties, st.integers(0, 2**32 - 1))
def test_a_prior_keeps_its_zeros_and_its_floor(phi, seed):
    rng = np.random.default_rng(seed)
    prior = rng.dirichlet(np.ones(phi.size))
    prior[rng.random(phi.size) < 0.2] = 0
    if prior.sum() == 0:
        prior[0] = 1
    prior /= prior.sum()
    weight, _ = arbitrage_weights(phi, prior=prior)
    assert np.isfinite(weight).all()
    assert abs(weight.sum() - 1) < 1e-12
    assert np.all(weight[prior == 0] == 0)
    some = prior > 0
    assert 1 / np.sum(weight[some] ** 2 / prior[some]) >= 0.5 - 1e-6
    assert weight @ phi <= prior @ phi * (1 + 1e-12)
    if np.ptp(phi[some]) > 1e-3 * max(phi.max(), 1e-6):
        assert weight @ phi < prior @ phi


def bearing(n=400, steps=2):
    cube = volscen.generate(n_scenarios=n, horizon=steps, seed=1)
    rng = np.random.default_rng(0)
    cube["arbitrage_penalty"] = (("scenario", "step"), rng.exponential(0.01, (n, steps)))
    return cube


def test_weights_multiply():
    cube = bearing()
    twice = volscen.reweight(volscen.reweight(cube, beta=30.0), beta=20.0, prior="current")
    np.testing.assert_allclose(twice.weight, volscen.reweight(cube, beta=50.0).weight, rtol=1e-12)
    replaced = volscen.reweight(volscen.reweight(cube, beta=30.0), beta=20.0)
    np.testing.assert_allclose(replaced.weight, volscen.reweight(cube, beta=20.0).weight, rtol=1e-12)
    prior = np.random.default_rng(1).dirichlet(np.ones(400))
    np.testing.assert_allclose(volscen.reweight(cube, beta=0.0, prior=prior).weight, prior, rtol=1e-12)
    path = cube.arbitrage_penalty.values.sum(axis=1)
    expected = prior * np.exp(-20 * path)
    given = volscen.reweight(cube, beta=20.0, prior=prior)
    np.testing.assert_allclose(given.weight, expected / expected.sum(), rtol=1e-12)
    assert given.attrs["weight_prior"] == "given"
    assert "weight_prior" not in volscen.reweight(given, beta=1.0).attrs


@pytest.mark.filterwarnings("ignore:the weights leave")
def test_huge_penalties_give_no_nan():
    cube = bearing()
    cube["arbitrage_penalty"] = 1e8 * cube.arbitrage_penalty  # up to some 1e6 a step
    for options in ({}, {"beta": 1e4}, {"beta": "paper"}, {"kl_limit": 0.5}, {"prior": "current"}):
        again = volscen.reweight(cube, **options)
        assert np.isfinite(again.weight).all()
        assert again.weight.values @ cube.arbitrage_penalty.values.sum(axis=1) < 1e8


@pytest.mark.parametrize("kl_limit", [-1, np.nan, np.inf, "much", True])
def test_bad_limit(kl_limit):
    with pytest.raises(InputError, match="kl_limit"):
        arbitrage_weights([0.0, 1.0], kl_limit=kl_limit)


def test_a_limit_and_a_beta_exclude_each_other():
    with pytest.raises(InputError, match="leave beta='auto'"):
        arbitrage_weights([0.0, 1.0], 3.0, kl_limit=1.0)

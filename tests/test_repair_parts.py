"""The parts of repair, each against an independent computation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from repair_makers import TAU, K, observations, simulated, small_prior
from volscen._repair import _analogue, _gaussian, _prior
from volscen._repair._analogue import Analogues, _weights
from volscen._repair._base import REGISTRY, Observations, load_predictor
from volscen._repair._gated import Gated
from volscen._repair._gaussian import condition, leave_one_out
from volscen._repair._global import GaussianProcess
from volscen._repair._intervals import LEVELS, Calibration, calibrate, scale_of
from volscen._repair._merge import merge_quotes
from volscen._repair._prior import quantise, restore, width

RNG = np.random.default_rng(3)
POINTS = 12
AT = np.array([1, 3, 4, 7, 10])


@pytest.fixture(scope="module")
def place():
    rng = np.random.default_rng(5)
    return small_prior().at(rng.uniform(0.06, 1.8, POINTS), rng.uniform(-0.25, 0.25, POINTS))


def covariance(place, moments, fine, broad):
    """Prior covariance from its definition, point by point."""
    out = place.basis.T @ moments @ place.basis
    for i in range(POINTS):
        for j in range(POINTS):
            x, y = place.root_tau[i] - place.root_tau[j], place.k[i] - place.k[j]
            wings = [(1 + slope * abs(place.k[i])) * (1 + slope * abs(place.k[j])) for slope in (1 / 0.45, 2 / 0.45)]
            short = np.exp(-(x**2) / (2 * 0.12**2) - y**2 / (2 * 0.12**2)) + np.exp(-(x**2) / (2 * 0.06**2))
            out[i, j] += fine**2 * wings[0] * short
            out[i, j] += broad**2 * wings[1] * np.exp(-(x**2) / 2 - y**2 / (2 * 0.4**2))
    return out


def test_the_conditional_law_is_the_mixture_of_textbook_ones(place):
    y = place.mean[AT] + np.array([0.02, -0.05, 0.01, 0.08, -0.02])
    noise = np.array([1e-4, 4e-4, 1e-4, 9e-4, 1e-4])
    law = condition(place, place.mean, place.moments, AT, y, noise)
    weights, means, variances, scores = [], [], [], []
    for fine, broad in _prior.ROUGHNESS:
        c = covariance(place, place.moments, fine, broad)
        own = c[np.ix_(AT, AT)] + np.diag(noise)
        weights.append(multivariate_normal(place.mean[AT], own).pdf(y))
        means.append(place.mean + c[:, AT] @ np.linalg.solve(own, y - place.mean[AT]))
        variances.append(np.diag(c - c[:, AT] @ np.linalg.solve(own, c[AT])))
        z = []
        for i in range(AT.size):  # leave each quote out, and predict it
            rest = np.delete(np.arange(AT.size), i)
            gain = np.linalg.solve(own[np.ix_(rest, rest)], own[rest, i])
            z.append(
                (y[i] - place.mean[AT[i]] - gain @ (y - place.mean[AT])[rest])
                / np.sqrt(own[i, i] - gain @ own[rest, i])
            )
        scores.append(z)
    share = np.array(weights) / np.sum(weights)
    share = np.where(share < 0.01 * share.max(), 0, share)
    share /= share.sum()
    mean = share @ np.array(means)
    variance = share @ (np.array(variances) + (np.array(means) - mean) ** 2)
    np.testing.assert_allclose(law.mean, mean, rtol=0, atol=1e-10)
    np.testing.assert_allclose(law.variance, variance, rtol=1e-7)
    np.testing.assert_allclose(law.z, share @ np.array(scores), rtol=1e-7)
    assert law.misfit == pytest.approx(np.sqrt(np.mean(np.square(scores[_prior.REFERENCE]))), rel=1e-9)


def test_leave_one_out_from_the_law_after_all_quotes(place):
    c = covariance(place, place.moments, 0.006, 0.0)[np.ix_(AT, AT)]
    noise, y = RNG.uniform(1e-4, 1e-3, AT.size), RNG.standard_normal(AT.size) * 0.1
    own = c + np.diag(noise)
    after = c @ np.linalg.solve(own, y)
    left = np.diag(c - c @ np.linalg.solve(own, c))
    inverse = np.linalg.inv(own)
    np.testing.assert_allclose(leave_one_out(after, left, y, noise), inverse @ y / np.sqrt(np.diag(inverse)), rtol=1e-6)


def test_costs_of_members_are_ridge_residuals(place):
    prior = small_prior()
    here = prior.at(place.root_tau**2, place.k)
    y = np.full((2, POINTS), np.nan)
    y[0, AT], y[1, AT[:3]] = here.mean[AT] + 0.3, here.mean[AT[:3]] + [0.1, -0.2, 0.3]
    noise = np.full(y.shape, 0.02)
    near = Analogues(prior)
    cost = near._compare(observations(y, noise, here.root_tau**2, here.k), here)
    w = 1 / (0.02**2 + _analogue.CLOSENESS**2)
    for i, at in enumerate((AT, AT[:3])):
        members = np.array([0, 17, 59])
        exact, shift = near._exact(members, y[i], noise[i], here)
        np.testing.assert_allclose(np.diff(cost[i, members]), np.diff(exact), rtol=1e-3, atol=1e-3)
        for place_in, member in enumerate(members):
            r = y[i, at] - here.mean[at] - prior.scores[member] @ here.basis[:-1, at]
            d = w * r.sum() / (w * at.size + 1 / _prior.LEVEL_SD**2)
            assert shift[place_in] == pytest.approx(d, rel=1e-9)
            assert exact[place_in] == pytest.approx((w * (r - d) ** 2).sum() + d**2 / _prior.LEVEL_SD**2, rel=1e-9)


@given(scale=st.floats(1e-3, 1e4), worth=st.floats(5, 50), seed=st.integers(0, 99))
def test_weights_are_worth_what_they_must_be_at_the_smallest_temperature(scale, worth, seed):
    excess = np.random.default_rng(seed).exponential(scale, 100)
    excess -= excess.min()
    weight = _weights(excess, worth)
    assert weight.sum() == pytest.approx(1)
    assert 1 / (weight @ weight) >= worth * (1 - 1e-9)
    plain = np.exp(-excess / 2)
    if plain.sum() ** 2 / (plain @ plain) >= worth:
        np.testing.assert_allclose(weight, plain / plain.sum())
    else:
        assert 1 / (weight @ weight) == pytest.approx(worth, rel=1e-3)


def test_the_prior_at_its_nodes_and_beyond_them():
    prior = small_prior(components=35)
    tau, k = prior.root_tau[2] ** 2, prior.u[1] * width(prior.root_tau[2:3])[0]
    place = prior.at(np.array([tau, 4.0, tau]), np.array([k, 0.1, 5.0]))
    node = 2 * prior.u.size + 1
    assert place.mean[0] == pytest.approx(prior.mean[node])
    np.testing.assert_allclose(place.basis[:-1, 0], prior.basis[:, node], atol=1e-12)
    assert place.inside.tolist() == [True, False, False]
    own, _, _ = place.variances(place.moments)
    end = prior.at(np.array([2.0]), np.array([0.1])).variances(place.moments)[0]
    assert own[1] > end[0] + 0.3  # (2 - sqrt 2)^2
    # All components together are the surfaces.
    whole = prior.mean + prior.scores @ prior.basis
    np.testing.assert_allclose(
        np.cov(whole, rowvar=False).trace(), np.trace(prior.basis.T @ prior.moments @ prior.basis), rtol=1e-4
    )


def test_packing_a_prior_keeps_it():
    prior = small_prior()
    found = restore(quantise(prior, 2))
    unit = np.abs(prior.scores).max(axis=0) / np.where(np.arange(5) < 2, 32767, 127)
    assert np.all(np.abs(found.scores - prior.scores) <= 0.51 * unit)
    np.testing.assert_allclose(found.moments, prior.moments, rtol=1e-6, atol=1e-9)


def test_width_is_smooth_and_grows():
    x = np.linspace(0.05, 2, 400)
    step = np.diff(width(x))
    assert np.all(step > 0)
    assert np.abs(np.diff(step)).max() < 0.1 * step.max()
    assert width(np.array([0.1]))[0] == pytest.approx(0.1)


def test_quotes_at_one_place_merge_without_loss():
    prior = small_prior()
    rng = np.random.default_rng(8)
    tau, k = np.repeat([0.2, 0.7, 1.4], 300), np.tile(np.repeat(np.linspace(-0.2, 0.2, 30), 10), 3)
    y, noise = -1.5 + 0.05 * rng.standard_normal(900), rng.uniform(0.01, 0.05, 900)
    blank = np.full(2, np.nan)
    many = Observations(
        np.append([0.3, 1.0], tau),
        np.append([0.1, -0.1], k),
        (2, 1),
        np.append(blank, y)[None],
        np.append([1, 1], noise)[None],
    )
    fewer = merge_quotes(many)
    assert fewer.mask.sum() <= 700
    assert not fewer.mask[0, : many.tau.size].any()
    found, plain = (GaussianProcess(prior).predict(o) for o in (fewer, many))
    # Neighbours of ten equal places are merged first by rank, hence never across places by more than one step.
    np.testing.assert_allclose(found.mean[0, :2], plain.mean[0, :2], atol=2e-4)
    np.testing.assert_allclose(found.sd[0, :2], plain.sd[0, :2], rtol=0.02)
    assert merge_quotes(many.part(slice(0, 1))).mask.sum() == fewer.mask.sum()


def test_a_block_of_surfaces_gives_the_bits_of_each_alone():
    _, quotes, error = simulated(5, 0.3, seed=4)
    tau, k = np.repeat(TAU, K.size), np.tile(K, TAU.size)
    log_vol = np.log(quotes.reshape(5, -1))
    whole = Observations(tau, k, (13, 17), log_vol, (error / 0.2).reshape(5, -1))
    predictor = load_predictor("default")
    together = predictor.predict(whole)
    for i in (0, 4):
        alone = predictor.predict(whole.part(slice(i, i + 1)))
        np.testing.assert_array_equal(alone.mean[0], together.mean[i])
        np.testing.assert_array_equal(alone.sd[0], together.sd[i])


def test_the_gate_follows_the_analogues_where_they_fit():
    prior = small_prior(200)
    rng = np.random.default_rng(2)
    tau, k = rng.uniform(0.06, 1.8, 40), rng.uniform(-0.2, 0.2, 40)
    place = prior.at(tau, k)
    y = place.mean + prior.scores[3] @ place.basis[:-1] + 0.002 * rng.standard_normal(40)
    usual = observations(np.where(np.arange(40) < 30, y, np.nan), np.full(40, 0.01), tau, k)
    rough = observations(
        np.where(np.arange(40) < 30, y + 0.1 * rng.standard_normal(40), np.nan), np.full(40, 0.01), tau, k
    )
    a, b = GaussianProcess(prior), Analogues(prior)
    for observed, near, far in ((usual, b, a), (rough, a, b)):
        mean = Gated(prior).predict(observed).mean
        assert np.abs(mean - near.predict(observed).mean).max() <= np.abs(mean - far.predict(observed).mean).max()
    assert Gated(prior).predict(rough).misfit[0] > 2 > 1.2 > Gated(prior).predict(usual).misfit[0]


def test_calibrated_widths_hold_what_they_say():
    rng = np.random.default_rng(1)
    sd = np.exp(rng.uniform(-5, -2, (400, 50)))
    misfit = rng.uniform(0.5, 1.5, 400)
    error = 1.7 * scale_of(sd, misfit) * rng.standard_normal(sd.shape)
    found = calibrate([error], [sd], [misfit], [rng.random(sd.shape) < 0.5])
    for level in (0.8, 0.87, 0.95):
        inside = np.abs(error) <= found.half_width(sd, misfit, level)
        assert inside.mean() == pytest.approx(level, abs=0.012)
    assert found.width.shape == (8, LEVELS.size)
    assert np.all(np.diff(found.width, axis=1) > 0)


def test_intervals_widen_with_the_misfit():
    flat = Calibration(np.array([-3.0, -1.0]), np.ones((2, LEVELS.size)) * LEVELS, 1.0)
    sd = np.full((3, 2), 0.1)
    half = flat.half_width(sd, np.array([0.2, 1.0, 2.0]), 0.8)
    np.testing.assert_allclose(half[:, 0], 0.1 * 0.8 * np.array([0.7, 1, 2]))
    assert flat.is_unusual(np.array([1.05, 1.2]), np.array([100, 100])).tolist() == [False, True]


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - {"cnn", "vae"}))
@settings(max_examples=5)
@given(data=st.data())
def test_every_predictor_answers_any_quotes(name, data):
    n = data.draw(st.integers(1, 12))
    row = data.draw(st.lists(st.integers(0, TAU.size * K.size - 1), min_size=n, max_size=n, unique=True))
    vol = data.draw(st.lists(st.floats(0.05, 1.5), min_size=n, max_size=n))
    tau, k = np.repeat(TAU, K.size), np.tile(K, TAU.size)
    log_vol = np.full((1, tau.size), np.nan)
    log_vol[0, row] = np.log(vol)
    found = load_predictor(name).predict(Observations(tau, k, (13, 17), log_vol, np.full(log_vol.shape, 0.01)))
    assert np.all(np.isfinite(found.mean))
    assert np.all(found.sd[~np.isnan(found.sd)] > 0)


def test_a_law_is_not_changed_by_the_order_of_its_quotes(place):
    y, noise = place.mean[AT] + 0.1, np.full(AT.size, 1e-3)
    one = condition(place, place.mean, place.moments, AT, y, noise)
    other = _gaussian.condition(place, place.mean, place.moments, AT[::-1], y[::-1], noise[::-1])
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-12)
    np.testing.assert_allclose(one.z, other.z[::-1], rtol=1e-9)

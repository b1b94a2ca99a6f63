"""SSVI and eSSVI surfaces: recovery, optimality against scipy, freedom from static arbitrage shown independently."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from scipy.special import ndtr

from twins import PRECISE as mp
from volscen import ssvi, svi
from volscen.errors import InputError

TAU = np.array([7, 14, 30, 60, 91, 122, 152, 182, 273, 365, 547, 730]) / 365
FAR = np.sinh(np.linspace(-14, 14, 1401))  # to 6e5 either way


def variance(parameters, k):
    """Total variance as Hendriks and Martini print it, of one slice."""
    theta, rho, psi = parameters
    phi = psi / theta
    return theta / 2 * (1 + rho * phi * k + np.sqrt((phi * k + rho) ** 2 + 1 - rho**2))


def durrleman(parameters, x):
    """Durrleman's function of one slice at k = x theta / psi, from analytic derivatives."""
    theta, rho, psi = parameters
    root = np.sqrt((x + rho) ** 2 + 1 - rho**2)
    sum_ = 1 + rho * x
    n = np.where(sum_ > 0, sum_ + root, (1 - rho**2) * x**2 / np.where(sum_ > 0, 1, root - sum_)) / 2
    n1, n2 = (rho + (x + rho) / root) / 2, (1 - rho**2) / root**3 / 2
    w, w1, w2 = theta * n, psi * n1, psi**2 / theta * n2
    return (1 - x * n1 / (2 * n)) ** 2 - w1**2 / 4 * (1 / w + 0.25) + w2 / 2


def assert_free(parameters):
    """No static arbitrage in surfaces (..., maturity, 3): not in a slice, not between two, not in the wings."""
    table = np.asarray(parameters).reshape(-1, *np.shape(parameters)[-2:])
    for surface in table:
        surface = surface[np.isfinite(surface[:, 0])]
        theta, rho, psi = surface.T
        assert (theta > 0).all()
        assert (psi > 0).all()
        assert (np.abs(rho) < 1).all()
        assert (psi * (1 + np.abs(rho)) < 4).all()  # Lee's bound: slopes below 2
        for slice_ in surface:
            assert durrleman(slice_, FAR).min() >= 0
        k = np.unique(np.concatenate([FAR, *(FAR[::7] * t / p for t, _, p in surface)]))
        w = ssvi.total_variance(surface, k)
        assert (w > 0).all()
        assert (np.diff(w, axis=0) > 0).all()
        for side in (1, -1):
            assert (np.diff(psi * (1 + side * rho)) >= 0).all()


def surfaces(count, seed, n=25, noise=0.0015):
    """Strikes, variances and weights of noisy surfaces near eSSVI, some of them with crossing slices."""
    rng = np.random.default_rng(seed)
    k, w = np.empty((2, count, TAU.size, n))
    for i in range(count):
        vol, slope = rng.uniform(0.1, 0.4), rng.uniform(-0.3, 0.5)
        theta = (vol * (1 + slope * (1 - np.exp(-TAU)))) ** 2 * TAU * (1 + 0.02 * rng.normal(size=TAU.size))
        theta = np.maximum.accumulate(theta)
        eta, gamma = rng.uniform(0.3, 1.6), rng.uniform(0.3, 0.55)
        rho = np.clip(rng.uniform(-0.85, 0.1) + 0.05 * np.cumsum(rng.normal(size=TAU.size)), -0.95, 0.6)
        psi = eta * (theta / (1 + theta)) ** (1 - gamma) * theta.mean() ** (gamma - 0.5)
        psi *= np.exp(0.05 * rng.normal(size=TAU.size))
        k[i] = np.sort(rng.uniform(-3, 2, (TAU.size, n)), axis=1) * np.sqrt(theta)[:, None]
        true = np.array([variance(p, strikes) for p, strikes in zip(np.stack([theta, rho, psi], 1), k[i], strict=True)])
        w[i] = np.maximum(np.sqrt(true / TAU[:, None]) + noise * rng.normal(size=(TAU.size, n)), 0.02) ** 2
        w[i] *= TAU[:, None]
    return k, w, 1 / (4 * w * TAU[:, None])


def unfold(x):
    """The set of arbitrage-free eSSVI surfaces from a box (A. Mingone 2022), with the butterfly bound of the fit.

    x holds ln(theta - least theta), rho and the place of psi in its range for each slice.
    """
    out = np.empty((x.size // 3, 3))
    for i, (growth, rho, place) in enumerate(x.reshape(-1, 3)):
        r = np.array([rho, -rho])
        intercept = np.polyval([-10.128, 23.08, -28.75, 19.797], r)

        def most(theta, r=r, intercept=intercept):
            bound = theta * intercept / (1 + theta * (intercept * (1 + r) ** 2 / 16 - (1 + r) / 4))
            return min(np.sqrt(bound).min(), 3.999 / (1 + np.abs(r).max()))

        if i == 0:
            theta, low = np.exp(growth), 0.0
            high = most(theta)
        else:
            before, rho_before, psi_before = out[i - 1]
            ratio = max((1 + rho_before) / (1 + rho), (1 - rho_before) / (1 - rho))
            theta, low = ratio * before + np.exp(growth), ratio * psi_before
            high = max(min(psi_before / before * theta, most(theta)), low)
        out[i] = theta, rho, low + place * (high - low)
    return out


def scipy_rmse(k, w, weight, starts):
    """Best of several starts of scipy's trust-region solver on that box."""
    lower, upper = np.tile([-25.0, -0.9998, 1e-6], len(k)), np.tile([3.0, 0.9998, 1 - 1e-6], len(k))

    def residual(x):
        fitted = np.array([variance(p, strikes) for p, strikes in zip(unfold(x), k, strict=True)])
        return (np.sqrt(weight) * (fitted - w)).ravel()

    level = np.array([np.interp(0.0, *pair) for pair in zip(k, w, strict=True)])
    growth = np.log(np.maximum(np.diff(level, prepend=0.0), 0.02 * level))
    best = np.inf
    for rho, place in starts:
        x = np.stack([growth, np.full(len(k), rho), np.full(len(k), place)], axis=1)
        result = least_squares(residual, x.ravel(), bounds=(lower, upper), max_nfev=60, xtol=1e-10, ftol=1e-10)
        best = min(best, np.sqrt(np.mean(result.fun**2)))
    return best


def weighted_rmse(fit, k, w, weight):
    return np.sqrt((weight * (ssvi.total_variance(fit.parameters, k) - w) ** 2).mean(axis=(-2, -1)))


def test_as_good_as_scipy_on_the_same_set():
    k, w, weight = (a[:, ::3] for a in surfaces(30, seed=1))
    fit = ssvi.fit(k, w, weight)
    assert (fit.status == ssvi.SSVIStatus.OK).all()
    ours = weighted_rmse(fit, k, w, weight)
    reference = np.array([scipy_rmse(*one, ((-0.3, 0.5), (0.2, 0.2))) for one in zip(k, w, weight, strict=True)])
    assert (ours <= 1.01 * reference).all()
    assert (ours <= 1.0001 * reference).mean() >= 0.9
    assert (ours >= 0.999 * reference).mean() >= 0.6  # scipy finds it too
    assert_free(fit.parameters)


def test_a_surface_that_may_cross_is_fitted_as_scipy_does():
    k, w, weight = (a[:, [0, 4, 9]] for a in surfaces(4, seed=8))
    w = w[:, [1, 0, 2]] * np.array([0.6, 1.0, 0.9])[:, None]  # the dearer month first
    weight = 1 / w**2
    fit = ssvi.fit(k, w, weight)
    assert_free(fit.parameters)
    ours = weighted_rmse(fit, k, w, weight)
    starts = [(rho, place) for rho in (-0.5, 0.0, 0.3) for place in (0.1, 0.5, 0.9)]
    reference = np.array([scipy_rmse(*one, starts) for one in zip(k, w, weight, strict=True)])
    assert (ours > 0.02).all()  # there is something to give up
    assert (ours <= 1.0001 * reference).all()
    assert (ours >= 0.98 * reference).all()


def test_exact_surfaces_are_recovered():
    truth = np.array([[0.002, -0.7, 0.035], [0.008, -0.6, 0.08], [0.03, -0.55, 0.16], [0.09, -0.5, 0.3]])
    k = np.linspace(-0.5, 0.4, 17)
    w = np.array([variance(p, k) for p in truth])
    fit = ssvi.fit(k, w, 1 / w**2)
    assert (fit.status == ssvi.SSVIStatus.OK).all()
    np.testing.assert_allclose(fit.parameters, truth, rtol=1e-6)
    assert (fit.rmse < 1e-9).all()
    assert np.isnan(fit.power_law).all()


def test_ssvi_recovers_its_power_law():
    theta, rho, eta, gamma = np.array([0.003, 0.01, 0.04, 0.05, 0.2]), -0.45, 1.1, 0.35
    psi = eta * (theta / (1 + theta)) ** (1 - gamma)
    k = np.linspace(-0.6, 0.5, 15)
    w = np.array([variance((t, rho, p), k) for t, p in zip(theta, psi, strict=True)])
    fit = ssvi.fit(k, w, 1 / w**2, model="ssvi")
    np.testing.assert_allclose(fit.parameters, np.stack([theta, np.full(5, rho), psi], axis=1), rtol=1e-6)
    np.testing.assert_allclose(fit.power_law, [eta, gamma], rtol=1e-6)
    # One rho and one law, whatever the quotes: then eSSVI is closer.
    k, w, weight = surfaces(6, seed=3)
    one, own = (ssvi.fit(k, w, weight, model=model) for model in ("ssvi", "essvi"))
    assert_free(one.parameters)
    theta, rho, psi = np.moveaxis(one.parameters, -1, 0)
    assert (np.ptp(rho, axis=1) == 0).all()
    law = one.power_law[:, 0, None] * (theta / (1 + theta)) ** (1 - one.power_law[:, 1, None])
    np.testing.assert_allclose(psi, law, rtol=1e-12)
    assert (weighted_rmse(own, k, w, weight) < weighted_rmse(one, k, w, weight)).all()


def test_ssvi_is_as_good_as_scipy():
    k, w, weight = (a[:, ::3] for a in surfaces(12, seed=4))
    fit = ssvi.fit(k, w, weight, model="ssvi")
    for i in range(12):
        level = np.array([np.interp(0.0, *pair) for pair in zip(k[i], w[i], strict=True)])

        def residual(x, i=i):
            theta, (rho, eta, gamma) = np.exp(x[:-3]), x[-3:]
            psi = eta * (theta / (1 + theta)) ** (1 - gamma)
            fitted = [variance((t, rho, p), s) for t, p, s in zip(theta, psi, k[i], strict=True)]
            return (np.sqrt(weight[i]) * (np.array(fitted) - w[i])).ravel()

        best = np.inf
        for start in ([-0.3, 1.0, 0.5], [-0.7, 0.5, 0.3]):
            result = least_squares(
                residual,
                [*np.log(level), *start],
                bounds=([-20] * 4 + [-0.9998, 1e-3, 0.01], [3] * 4 + [0.9998, 9, 0.99]),
            )
            best = min(best, np.sqrt(np.mean(result.fun**2)))
        assert weighted_rmse(fit, k, w, weight)[i] <= 1.0001 * best


def test_flat_slices_that_cross_meet_at_the_isotonic_regression():
    k = np.linspace(-0.2, 0.2, 9)
    w = np.array([0.01, 0.04, 0.03, 0.05])[:, None] * np.ones(9)
    fit = ssvi.fit(k, w, np.array([1.0, 1.0, 3.0, 1.0])[:, None])
    np.testing.assert_allclose(fit.parameters[:, 0], [0.01, 0.0325, 0.0325, 0.05], rtol=3e-4)
    np.testing.assert_allclose(fit.rmse, [0, 0.0075, 0.0025, 0], atol=2e-6)
    assert_free(fit.parameters)


@pytest.mark.parametrize("rho", [0.0, -0.3, 0.6, -0.9, 0.99])
@pytest.mark.parametrize("theta", [1e-5, 0.01, 0.3, 3.0])
def test_the_steepest_smile_is_nearly_the_steepest_there_is(rho, theta):
    """Quotes far too steep are met by a slice at the edge of what Durrleman's condition allows."""
    psi = np.linspace(0.2, 1, 2001) * min(5 * np.sqrt(theta), 4 / (1 + abs(rho)))
    free = np.array([durrleman((theta, rho, p), FAR[::3]).min() >= 0 for p in psi])
    steepest = psi[free][-1]
    k = np.linspace(-1, 1, 21) * theta / steepest
    fit = ssvi.fit(k[None], variance((theta, rho, 1.02 * steepest), k)[None])
    assert_free(fit.parameters)
    assert 0.93 * steepest < fit.parameters[0, 2] < 1.05 * steepest
    gentle = ssvi.fit(k[None], variance((theta, rho, 0.9 * steepest), k)[None])
    np.testing.assert_allclose(gentle.parameters[0], [theta, rho, 0.9 * steepest], rtol=1e-5, atol=1e-6)


def test_no_call_spread_butterfly_or_calendar_pays():
    """In prices, on a fine grid, of surfaces fitted to quotes that cross."""
    k, w, weight = surfaces(5, seed=5)
    w = w * np.exp(0.3 * np.random.default_rng(0).normal(size=(5, TAU.size, 1)))
    strikes = np.exp(np.linspace(-1.2, 1.2, 400))
    for model in ("essvi", "ssvi"):
        fit = ssvi.fit(k, w, weight, model=model)
        assert_free(fit.parameters)
        s = np.sqrt(ssvi.total_variance(fit.parameters, np.log(strikes)))
        d1 = -np.log(strikes) / s + s / 2
        call = ndtr(d1) - strikes * ndtr(d1 - s)
        slope = np.diff(call) / np.diff(strikes)
        assert (slope >= -1 - 1e-9).all()
        assert (slope <= 1e-12).all()
        assert (np.diff(slope) >= -1e-12).all()
        assert (np.diff(call, axis=1) >= -1e-15).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.sampled_from([1, 2, 3, 7, 20]), st.integers(0, 2**32 - 1))
def test_absurd_quotes_still_give_surfaces_free_of_arbitrage(maturities, n, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (maturities, n))
    shapes = [np.exp(rng.normal(0, 1, x.shape)), 1 + 3 * np.abs(x), 4 - 3 * np.abs(x), np.exp(4 * x), np.ones_like(x)]
    w = 10 ** rng.uniform(-7, 1.2) * shapes[rng.integers(5)] * 10 ** rng.uniform(-1, 1, (maturities, 1))
    k = rng.choice([0, 0.5, -2]) + 10 ** rng.uniform(-3, 0.7) * x
    for model in ("essvi", "ssvi"):
        fit = ssvi.fit(k, w, 10 ** rng.uniform(-3, 3, x.shape), model=model)
        assert np.isfinite(fit.parameters).all()
        assert np.isfinite(fit.rmse).all()
        assert_free(fit.parameters)


def test_rmse_is_the_weighted_error_of_each_slice():
    k, w, weight = (a[0] for a in surfaces(1, seed=2))
    fit = ssvi.fit(k, w, weight)
    residual = np.array([variance(p, strikes) for p, strikes in zip(fit.parameters, k, strict=True)]) - w
    np.testing.assert_allclose(fit.rmse, np.sqrt(np.average(residual**2, weights=weight, axis=1)), rtol=1e-9)


def test_weights_enter_the_fit():
    k, w, _ = (a[0, :3, :13] for a in surfaces(1, seed=6, noise=0.01))
    repeats = np.arange(13) % 3 + 1
    many = ssvi.fit(np.repeat(k, repeats, axis=1), np.repeat(w, repeats, axis=1))
    weighted = ssvi.fit(k, w, repeats)
    np.testing.assert_allclose(weighted.parameters, many.parameters, rtol=1e-5)
    np.testing.assert_allclose(ssvi.fit(k, w, 7.0 * repeats).parameters, weighted.parameters, rtol=1e-9)
    assert np.abs(ssvi.fit(k, w).parameters / weighted.parameters - 1).max() > 1e-3
    # All the weight on one maturity: that one is fitted as if alone.
    alone = ssvi.fit(k[1:2], w[1:2])
    heavy = ssvi.fit(k, w, np.array([1e-9, 1.0, 1e-9])[:, None])
    np.testing.assert_allclose(heavy.parameters[1], alone.parameters[0], rtol=1e-4)


@pytest.mark.parametrize("model", ["essvi", "ssvi"])
def test_padding_order_batch_and_threads_change_nothing(model):
    k, w, weight = surfaces(9, seed=7)
    batch = ssvi.fit(k, w, weight, model=model)
    threaded = ssvi.fit(k, w, weight, model=model, num_threads=3)
    cube = ssvi.fit(k.reshape(3, 3, 12, 25), w.reshape(3, 3, 12, 25), weight.reshape(3, 3, 12, 25), model=model)
    assert cube.parameters.shape == (3, 3, 12, 3)
    assert cube.rmse.shape == cube.status.shape == (3, 3, 12)
    assert cube.power_law.shape == (3, 3, 2)
    for other in (threaded, cube):
        np.testing.assert_array_equal(other.parameters.reshape(batch.parameters.shape), batch.parameters)
        np.testing.assert_array_equal(other.rmse.reshape(batch.rmse.shape), batch.rmse)
    pad = np.full((12, 9), np.nan)
    for i in range(3):
        padded = [np.concatenate([a[i], pad], axis=1) for a in (k, w)]
        fit = ssvi.fit(*padded, np.concatenate([weight[i], np.zeros((12, 9))], axis=1), model=model)
        np.testing.assert_array_equal(fit.parameters, batch.parameters[i])
    shuffled = ssvi.fit(k[0, :, ::-1], w[0, :, ::-1], weight[0, :, ::-1], model=model)
    np.testing.assert_allclose(shuffled.parameters, batch.parameters[0], rtol=1e-6)


def test_slices_of_few_strikes_are_drawn_to_the_others():
    truth = np.array([[0.01, -0.5, 0.12], [0.02, -0.5, 0.17], [0.04, -0.5, 0.24]])
    k = np.linspace(-0.4, 0.3, 9)
    w = np.array([variance(p, k) for p in truth])
    full = ssvi.fit(k, w, 1 / w**2).parameters
    weight = 1 / w**2
    weight[1, [0, 1, 2, 3, 4, 5, 7, 8]] = 0
    one = ssvi.fit(k, w, weight)
    assert one.status.tolist() == [0, 1, 0]
    assert one.rmse[1] < 1e-6
    p, q = (np.mean([full[i, 2] * (1 + s * full[i, 1]) / np.sqrt(full[i, 0]) for i in (0, 2)]) for s in (1, -1))
    theta, rho, psi = one.parameters[1]
    np.testing.assert_allclose([psi * (1 + rho), psi * (1 - rho)] / np.sqrt(theta), [p, q], rtol=1e-3)
    np.testing.assert_allclose(one.parameters[[0, 2]], full[[0, 2]], rtol=1e-4)
    # Copies of a strike are no new strike; a third strike determines the slice.
    copies = ssvi.fit(np.repeat(k[None], 3, 0)[:, [2, 2, 2, 6]], w[:, [2, 2, 2, 6]])
    assert (copies.status == ssvi.SSVIStatus.REDUCED).all()
    weight[1, [1, 4]] = weight[1, 6]
    three = ssvi.fit(k, w, weight)
    assert (three.status == ssvi.SSVIStatus.OK).all()
    np.testing.assert_allclose(three.parameters, truth, rtol=1e-4)
    # SSVI needs one slice of three strikes.
    law = ssvi.fit(k, w, np.where(np.arange(3)[:, None] == 0, 1.0, k == k[4]), model="ssvi")
    assert (law.status == ssvi.SSVIStatus.OK).all()
    assert (ssvi.fit(k[:2], w[:, :2], model="ssvi").status == ssvi.SSVIStatus.REDUCED).all()


def test_one_quote_a_slice_gives_flat_slices():
    fit = ssvi.fit([[0.1], [-0.2]], [[0.02], [0.05]])
    assert fit.status.tolist() == [1, 1]
    np.testing.assert_allclose(
        ssvi.total_variance(fit.parameters, np.linspace(-0.3, 0.3, 7)).T, [[0.02, 0.05]] * 7, rtol=1e-2
    )
    np.testing.assert_allclose(fit.rmse, 0, atol=1e-5)


def test_a_maturity_without_quotes_is_left_out():
    k, w, weight = (a[0] for a in surfaces(1, seed=9))
    weight[[0, 4, 11]] = 0
    w[4] = np.nan
    for model in ("essvi", "ssvi"):
        fit = ssvi.fit(k, w, weight, model=model)
        assert fit.status.tolist() == [2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 2]
        rest = np.delete(np.arange(12), [0, 4, 11])
        alone = ssvi.fit(k[rest], w[rest], weight[rest], model=model)
        np.testing.assert_array_equal(fit.parameters[rest], alone.parameters)
        assert np.isnan(fit.parameters[[0, 4, 11]]).all()
        assert np.isnan(fit.rmse[[0, 4, 11]]).all()
    none = ssvi.fit(k, w, 0.0)
    assert (none.status == ssvi.SSVIStatus.NO_DATA).all()
    assert np.isnan(none.parameters).all()
    for shape in ((0, 3, 5), (2, 0, 5), (2, 3, 0)):
        fit = ssvi.fit(np.ones(shape), np.ones(shape))
        assert fit.parameters.shape == (*shape[:2], 3)
        assert (fit.status == ssvi.SSVIStatus.NO_DATA).all()


def test_the_ends_of_the_allowed_ranges_give_numbers():
    x = np.linspace(-1, 1, 9)
    shape = (1 + 0.3 * x + 0.5 * x**2) * np.array([[1.0], [1.3]])
    for half in (1e-12, 1e-6, 1.0, 999.0):
        for level in (2e-30, 1e-10, 1.0, 3e5):
            for weight in (5e-324, 1e-200, 1.0, 1e308):
                for model in ("essvi", "ssvi"):
                    fit = ssvi.fit(half * x, level * shape, weight, model=model)
                    assert np.isfinite(fit.parameters).all()
                    assert (fit.rmse <= level).all()


def test_values_match_the_formula_and_raw_svi():
    rng = np.random.default_rng(5)
    columns = rng.uniform(0.01, 0.3, (2, 6)), rng.uniform(-0.9, 0.9, (2, 6)), rng.uniform(0.05, 0.8, (2, 6))
    table = np.stack(columns, axis=-1)
    k, tau = np.linspace(-0.5, 0.5, 9), rng.uniform(0.1, 2, (2, 6))
    w, vol, g, raw = (
        ssvi.total_variance(table, k),
        ssvi.implied_vol(table, k, tau),
        ssvi.durrleman_g(table, k),
        ssvi.to_svi(table),
    )
    assert w.shape == (2, 6, 9)
    for i in np.ndindex(2, 6):
        np.testing.assert_allclose(w[i], variance(table[i], k), rtol=1e-13)
        np.testing.assert_allclose(vol[i] ** 2 * tau[i], w[i], rtol=1e-14)
        np.testing.assert_allclose(svi.total_variance(raw[i], k), w[i], rtol=1e-12)
        np.testing.assert_allclose(g[i], durrleman(table[i], k * table[i][2] / table[i][0]), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ssvi.total_variance(table[i], 0.0), table[i][0], rtol=1e-15)
    # Far out on the side where the slice is nearly zero the printed formula has lost its digits.
    theta, rho, psi, far = (mp.mpf(x) for x in (0.04, -0.9999999, 1.2, 1e4))
    z = theta + rho * psi * far
    exact = (z + mp.sqrt(z**2 + (1 - rho**2) * (psi * far) ** 2)) / 2
    np.testing.assert_allclose(ssvi.total_variance([0.04, -0.9999999, 1.2], 1e4), float(exact), rtol=1e-14)


def test_between_and_beyond_maturities():
    k, w, weight = surfaces(6, seed=11)
    fit = ssvi.fit(k, w, weight)
    assert fit.parameters.shape == (6, 12, 3)
    np.testing.assert_allclose(ssvi.at(fit.parameters, TAU, TAU), fit.parameters, rtol=1e-14)
    theta, rho, psi = np.moveaxis(ssvi.at(fit.parameters, TAU, (TAU[3] + 3 * TAU[4]) / 4), -1, 0)
    left, right = fit.parameters[:, 3], fit.parameters[:, 4]
    np.testing.assert_allclose(theta, (left[:, 0] + 3 * right[:, 0]) / 4, rtol=1e-13)
    np.testing.assert_allclose(psi, (left[:, 2] + 3 * right[:, 2]) / 4, rtol=1e-13)
    np.testing.assert_allclose(rho * psi, (left[:, 1] * left[:, 2] + 3 * right[:, 1] * right[:, 2]) / 4, rtol=1e-12)
    times = np.sort(np.concatenate([np.linspace(0.001, 6, 60), TAU[:-1] + 0.3 * np.diff(TAU)]))
    between = ssvi.at(fit.parameters, TAU, times)
    assert between.shape == (6, times.size, 3)
    assert_free(between)
    strikes = np.linspace(-0.3, 0.2, 5)
    first = ssvi.implied_vol(fit.parameters[:, 0], strikes, TAU[0])
    early = ssvi.at(fit.parameters, TAU, 0.004)
    np.testing.assert_allclose(ssvi.implied_vol(early, strikes, 0.004), first, rtol=1e-12)
    late = ssvi.at(fit.parameters, TAU, [4.0])[:, 0]
    np.testing.assert_allclose(late[:, 0], fit.parameters[:, -1, 0] * 2, rtol=1e-13)
    np.testing.assert_allclose(late[:, 2], fit.parameters[:, -1, 2] * np.sqrt(2), rtol=1e-13)
    np.testing.assert_array_equal(late[:, 1], fit.parameters[:, -1, 1])
    # Steep enough, psi stops at Lee's bound.
    capped = ssvi.at([[1.0, -0.5, 2.0]], [1.0], [1.0, 4.0, 9.0])
    np.testing.assert_allclose(capped[:, 2], [2.0, 3.999 / 1.5, 3.999 / 1.5])
    assert_free(capped)


@pytest.mark.parametrize("seed", range(3))
def test_what_lies_between_the_steepest_slices_is_free_of_arbitrage(seed):
    """Pairs at the edge of the allowed set, reached by fitting smiles far too steep."""
    rng = np.random.default_rng(seed)
    k = np.linspace(-1, 1, 15)
    for _ in range(12):
        theta = np.sort(10 ** rng.uniform(-4, 0, 2))
        w = theta[:, None] * (1 + 3 * np.abs(k + rng.uniform(-0.3, 0.3, (2, 1))) / np.sqrt(theta[:, None]))
        fit = ssvi.fit(k, w, 1 / w**2)
        assert_free(ssvi.at(fit.parameters, [0.5, 1.0], np.linspace(0.5, 1.0, 23)))
        assert_free(ssvi.at(fit.parameters, [0.5, 1.0], np.geomspace(1.0, 300.0, 12)))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (([[0.0, 0.1, np.nan]], [[0.04] * 3]), "log_moneyness must be finite"),
        (([[0.0, 0.1, 1e4]], [[0.04] * 3]), "log_moneyness must be finite"),
        (([[0.0, 0.1, 0.2]], [[0.04, 0.0, 0.04]]), "total_variance must be positive"),
        (([[0.0, 0.1, 0.2]], [[0.04, np.nan, 0.04]]), "total_variance must be positive"),
        (([[0.0, 0.1, 0.2]], [[0.04, 1e7, 0.04]]), "total_variance must be positive"),
        (([[0.0, 0.1, 0.2]], [[0.04] * 3], [1.0, -1.0, 1.0]), "weight"),
        (([[0.0, 0.1, 0.2]], [[0.04] * 3], [1.0, np.inf, 1.0]), "weight"),
        (([[0.0, 0.1, 0.2]], [[0.04] * 2]), "broadcast"),
        (([0.0, 0.1], [0.04, 0.04]), "axes of maturities and of quotes"),
        (([["a"]], [[0.04]]), "log_moneyness"),
    ],
)
def test_bad_quotes_are_named(args, message):
    with pytest.raises(InputError, match=message):
        ssvi.fit(*args)


def test_other_bad_input_is_named():
    good = [[0.02, -0.5, 0.2], [0.03, -0.5, 0.25]]
    with pytest.raises(InputError, match="model must be 'essvi' or 'ssvi'"):
        ssvi.fit([[0.0]], [[0.04]], model="svi")
    with pytest.raises(InputError, match="num_threads"):
        ssvi.fit([[0.0]], [[0.04]], num_threads=0)
    with pytest.raises(InputError, match="axis of 3"):
        ssvi.total_variance([0.1, 0.2], 0.0)
    with pytest.raises(InputError, match="broadcast"):
        ssvi.total_variance(np.ones((3, 3)), np.ones((2, 4)))
    with pytest.raises(InputError, match="tau must be positive"):
        ssvi.implied_vol(good, [0.0], 0.0)
    with pytest.raises(InputError, match=r"tau .* does not broadcast"):
        ssvi.implied_vol(good, [0.0], [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="positive psi"):
        ssvi.to_svi([0.1, 0.0, 0.0])
    with pytest.raises(InputError, match="strictly increasing"):
        ssvi.at(good, [1.0, 0.5], 0.7)
    with pytest.raises(InputError, match=r"must have the shape \(..., 3, 3\)"):
        ssvi.at(good, [0.5, 1.0, 2.0], 0.7)
    with pytest.raises(InputError, match="times must be positive"):
        ssvi.at(good, [0.5, 1.0], [0.5, -1.0])
    with pytest.raises(InputError, match="NO_DATA"):
        ssvi.at([good[0], [np.nan] * 3], [0.5, 1.0], 0.7)

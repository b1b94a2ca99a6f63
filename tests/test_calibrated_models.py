"""SABR smiles and Heston surfaces: prices against QuantLib, calibration to known parameters, fits against SciPy."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from volscen import black
from volscen.generators import _heston_price, _sabr_smile
from volscen.generators._batch_fit import fit_batch
from volscen.generators._heston_price import HestonGrid

TAU = np.array([30, 91, 182, 365]) / 365
MONEYNESS = np.array([0.6, 0.8, 0.9, 0.95, 1.0, 1.05, 1.2])


def heston(v0, theta, kappa, xi, rho):
    return np.array([np.log(v0), np.log(theta), np.log(kappa), np.log(xi), np.arctanh(rho)])


# --------------------------------------------------------------------------------------------------- SABR
@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize(("alpha", "rho", "nu"), [(0.2, -0.6, 0.9), (0.6, 0.4, 2.5), (0.05, -0.95, 0.3)])
def test_hagan_against_quantlib(alpha, rho, nu, beta):
    parameters = np.column_stack([np.log(alpha * np.sqrt(TAU)), np.full(4, np.arctanh(rho)), np.log(nu * np.sqrt(TAU))])
    ours = np.exp(_sabr_smile.log_vols(parameters, TAU, MONEYNESS, beta))
    theirs = [[ql.sabrVolatility(m, 1.0, t, alpha, beta, nu, rho) for m in MONEYNESS] for t in TAU]
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_far_strikes_do_not_cancel():
    """At large negative z the textbook logarithm loses most of its digits; with 50 digits it does not."""
    mp = mpmath.mp.clone()
    mp.dps = 50
    alpha, rho, nu = mp.mpf("0.02"), mp.mpf("0.99"), mp.mpf("1.5")
    parameters = np.array([float(mp.log(alpha)), float(mp.atanh(rho)), float(mp.log(nu))])
    for x in (3, 20, 100):
        z = -nu / alpha * x
        chi = mp.log((mp.sqrt(1 - 2 * rho * z + z**2) + z - rho) / (1 - rho))
        expected = alpha * z / chi * (1 + rho * nu * alpha / 4 + (2 - 3 * rho**2) / 24 * nu**2)
        found = _sabr_smile.log_vols(parameters, np.array(1.0), np.exp([float(x)]), 1.0)[0]
        assert found == pytest.approx(float(mp.log(expected)), rel=1e-12)


@given(
    st.tuples(*(st.floats(low, high) for low, high in zip(_sabr_smile.LOW, _sabr_smile.HIGH, strict=True))),
    st.floats(1 / 365, 5),
    st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(max_examples=100)
def test_smiles_within_the_limits_are_positive(parameters, tau, beta):
    log_vols = _sabr_smile.log_vols(np.array(parameters), np.array(tau), np.array([0.3, 0.6, 1.0, 1.5, 3.0]), beta)
    assert np.isfinite(log_vols).all()


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_smiles_give_their_parameters_back(beta):
    rng = np.random.default_rng(0)
    tau = rng.uniform(0.08, 1, 40)
    true = np.column_stack([
        np.log(rng.uniform(0.1, 0.5, 40) * np.sqrt(tau)), np.arctanh(rng.uniform(-0.8, 0.2, 40)),
        np.log(rng.uniform(0.3, 0.8, 40)),
    ])  # fmt: skip
    smiles = _sabr_smile.log_vols(true, tau, MONEYNESS, beta)
    found = _sabr_smile.fit_smiles(smiles, tau, MONEYNESS, beta)
    # the prior moves what the smile says little about, and the smile hardly at all
    assert np.abs(_sabr_smile.log_vols(found, tau, MONEYNESS, beta) - smiles).max() < 2e-3
    error = np.abs(found - true)
    assert np.median(error, axis=0).max() < 0.01
    assert error.max() < 0.2


# ------------------------------------------------------------------------------------------------- Heston
def quantlib_heston(v0, theta, kappa, xi, rho):
    today = ql.Date(1, 1, 2024)
    ql.Settings.instance().evaluationDate = today
    day_count = ql.Actual365Fixed()
    flat = ql.YieldTermStructureHandle(ql.FlatForward(today, 0.0, day_count))
    spot = ql.QuoteHandle(ql.SimpleQuote(1.0))
    model = ql.HestonModel(ql.HestonProcess(flat, flat, spot, v0, kappa, theta, xi, rho))
    engine = ql.AnalyticHestonEngine(model, 1e-12, 100_000)
    prices = np.empty((TAU.size, MONEYNESS.size))
    for j, days in enumerate((30, 91, 182, 365)):
        for i, m in enumerate(MONEYNESS):
            option = ql.VanillaOption(
                ql.PlainVanillaPayoff(ql.Option.Call, m), ql.EuropeanExercise(today + ql.Period(days, ql.Days))
            )
            option.setPricingEngine(engine)
            prices[j, i] = option.NPV()
    return prices


@pytest.mark.parametrize(
    "natural",
    [
        (0.04, 0.05, 3.0, 0.6, -0.7),
        (0.01, 0.03, 6.0, 1.5, -0.6),
        (0.25, 0.06, 8.0, 2.0, -0.8),
        (0.09, 0.09, 0.5, 0.3, 0.3),
    ],
)
def test_heston_prices_against_quantlib(natural):
    calls = HestonGrid(TAU, MONEYNESS).calls(heston(*natural)[None])[0]
    np.testing.assert_allclose(calls, quantlib_heston(*natural), atol=2e-9)


def test_heston_without_vol_of_variance_is_black():
    """With v0 = theta and a vanishing xi the variance stands still."""
    calls = HestonGrid(TAU, MONEYNESS).calls(heston(0.04, 0.04, 2.0, 1e-3, 0.0)[None])[0]
    np.testing.assert_allclose(calls, black.price(1.0, MONEYNESS, TAU[:, None], 0.2), atol=1e-7)


def test_heston_quadrature_has_converged():
    rng = np.random.default_rng(1)
    n = 40
    parameters = np.column_stack([
        np.log(rng.uniform(0.01, 0.3, n)), np.log(rng.uniform(0.02, 0.1, n)), np.log(rng.uniform(1, 10, n)),
        np.log(rng.uniform(0.4, 2, n)), np.arctanh(rng.uniform(-0.85, 0.3, n)),
    ])  # fmt: skip
    found, finer = (HestonGrid(TAU, MONEYNESS, density).calls(parameters) for density in (1.0, 4.0))
    assert np.abs(found - finer).max() < 1e-8


def test_prices_too_small_count_as_the_least():
    """A month's put at 60% of the forward in a calm market is worth nothing that could be computed."""
    grid = HestonGrid(TAU, MONEYNESS)
    vols = np.exp(grid.log_vols(heston(0.01, 0.01, 5.0, 0.1, -0.5)[None])).reshape(4, 7)
    put = black.price(1.0, 0.6, TAU[0], vols[0, 0], False)
    assert put == pytest.approx(1e-8, rel=1e-6)
    assert black.price(1.0, 0.9, TAU[3], vols[3, 2], False) > 1e-4


def test_heston_slopes_are_those_of_the_prices():
    grid = HestonGrid(TAU, MONEYNESS)
    parameters = np.stack([heston(0.04, 0.05, 3.0, 0.6, -0.7), heston(0.02, 0.09, 1.0, 1.1, 0.2)])
    calls, slopes = grid.calls_and_slopes(parameters)
    np.testing.assert_allclose(calls, grid.calls(parameters), atol=1e-14)
    for p in range(5):
        up, down = parameters.copy(), parameters.copy()
        up[:, p] += 1e-4
        down[:, p] -= 1e-4
        np.testing.assert_allclose(slopes[..., p], (grid.calls(up) - grid.calls(down)) / 2e-4, atol=2e-6)


def test_heston_surfaces_give_their_parameters_back():
    """Without noise the surface is met closely; parameters follow as far as the prior and the surface let them."""
    grid = HestonGrid(TAU, MONEYNESS)
    true = np.stack([heston(0.03, 0.06, 5.0, 0.8, -0.7), heston(0.15, 0.05, 5.2, 1.2, -0.5)])
    vols = grid.log_vols(true)
    found = grid.fit(vols, kappa=5.1)
    near = np.s_[:, :, 2:6]
    error = (grid.log_vols(found) - vols).reshape(2, 4, 7)[near]
    assert np.abs(error).max() < 0.01
    np.testing.assert_allclose(found[:, 0], true[:, 0], atol=0.05)
    np.testing.assert_allclose(np.tanh(found[:, 4]), np.tanh(true[:, 4]), atol=0.05)
    np.testing.assert_allclose(found[:, 1:4], true[:, 1:4], atol=0.1)


@given(st.tuples(*(st.floats(low, high) for low, high in zip(_heston_price.LOW, _heston_price.HIGH, strict=True))))
@settings(max_examples=40)
def test_heston_surfaces_within_the_limits_are_positive(parameters):
    log_vols = HestonGrid(TAU[:2], MONEYNESS).log_vols(np.array([parameters]))
    assert np.isfinite(log_vols).all()


# ---------------------------------------------------------------------------------------------- many fits
def rosenbrock(x):
    residual = np.column_stack([10 * (x[:, 1] - x[:, 0] ** 2), 1 - x[:, 0]])
    slope = np.zeros((len(x), 2, 2))
    slope[:, 0, 0], slope[:, 0, 1], slope[:, 1, 0] = -20 * x[:, 0], 10, -1
    return residual, slope


@pytest.mark.parametrize(("low", "high"), [((-5, -5), (5, 5)), ((-5, -5), (0.5, 5)), ((-2, 1.3), (2, 1.5))])
def test_many_fits_are_each_scipys(low, high):
    low, high = np.array(low, dtype=float), np.array(high, dtype=float)
    start = np.random.default_rng(0).uniform(low, high, (20, 2))
    found = fit_batch(lambda x, rows: rosenbrock(x), start, low, high, max_iterations=300, tolerance=1e-14)
    for x, begin in zip(found, start, strict=True):
        theirs = least_squares(lambda y: rosenbrock(y[None])[0][0], begin, bounds=(low, high), xtol=1e-12, ftol=1e-14)
        # not worse; valleys that end at a bound have two ends
        assert (rosenbrock(x[None])[0] ** 2).sum() <= 2 * theirs.cost + 1e-8
        assert np.all((x >= low) & (x <= high))


def test_a_fit_does_not_depend_on_its_neighbours():
    low, high = np.full(2, -5.0), np.full(2, 5.0)
    start = np.random.default_rng(3).uniform(-2, 2, (8, 2))
    together = fit_batch(lambda x, rows: rosenbrock(x), start, low, high)
    alone = np.vstack([fit_batch(lambda x, rows: rosenbrock(x), one[None], low, high) for one in start])
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_a_parameter_without_effect_stays():
    def evaluate(x, rows):
        slope = np.zeros((len(x), 1, 2))
        slope[:, 0, 0] = 1
        return x[:, :1] - 3, slope

    found = fit_batch(evaluate, np.array([[0.0, 0.7]]), np.full(2, -9.0), np.full(2, 9.0))
    np.testing.assert_allclose(found, [[3.0, 0.7]], atol=1e-8)

"""Natural cubic smoothing splines: scipy's, a dense Gaussian likelihood, hand-worked values; and surfaces of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline, make_smoothing_spline

from chain_makers import black_price, make_chain, svi_vol
from volscen import Chain, build_surface
from volscen.errors import InputError
from volscen.surface._cubic import CubicSurface, fit_cubic
from volscen.surface._spline import NaturalSpline, SplineBasis, smooth

TAU = np.array([30, 60, 91, 122, 182]) / 365
MONEYNESS = np.array([0.85, 0.9, 0.95, 1.0, 1.05, 1.1])


def test_hand_worked_spline() -> None:
    # Through (0, 0), (1, 1), (2, 0): 4 c = 6 (0 - 2 + 0), so c = -3, and s(x) = x + (x - x^3)/2 up to 1.
    spline = SplineBasis.over(np.array([0.0, 1.0, 2.0])).spline(np.array([0.0, 1.0, 0.0]))
    value, slope, bend = spline(np.array([-1.0, 0.5, 1.0, 3.0]))
    np.testing.assert_allclose(value, [-1.5, 0.5 + (0.5 - 0.125) / 2, 1.0, -1.5], atol=1e-15)
    np.testing.assert_allclose(slope, [1.5, 1 + (1 - 0.75) / 2, 0.0, -1.5], atol=1e-15)
    np.testing.assert_allclose(bend, [0.0, -1.5, -3.0, 0.0], atol=1e-15)


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 20), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-6, 1e-4, 1e-2]))
def test_equals_scipy(n: int, seed: int, smoothing: float) -> None:
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.uniform(0.01, 0.05, n)) - 0.3
    y, weight = 0.04 + x**2 + 0.01 * rng.standard_normal(n), rng.uniform(0.5, 2, n)
    basis = SplineBasis.over(x)
    spline, _, free = smooth(basis, basis.at(x), y, weight, smoothing)
    expected = (
        CubicSpline(x, y, bc_type="natural")
        if smoothing == 0
        else make_smoothing_spline(x, y, weight / weight.mean(), lam=smoothing)
    )
    at = np.linspace(x[0], x[-1], 50)
    for order, found in enumerate(spline(at)):
        np.testing.assert_allclose(found, expected(at, order), rtol=1e-6, atol=1e-6 * 100**order)
    assert 2 <= free <= n * (1 + 1e-12)
    assert free == pytest.approx(n) or smoothing > 0


def test_fewer_knots_than_data_is_least_squares_over_them() -> None:
    rng = np.random.default_rng(3)
    x = np.sort(rng.uniform(-0.3, 0.2, 40))
    y, weight = x**2 + 0.01 * rng.standard_normal(40), rng.uniform(0.5, 2, 40)
    basis = SplineBasis.over(x[[0, 9, 20, 30, 39]])
    spline, _, free = smooth(basis, basis.at(x), y, weight, 0.0)
    natural = CubicSpline(basis.knots, np.eye(5), bc_type="natural")(x)
    root = np.sqrt(weight)
    expected = np.linalg.lstsq(root[:, None] * natural, root * y, rcond=None)[0]
    np.testing.assert_allclose(spline.values, expected, rtol=1e-9)
    assert free == pytest.approx(5)


@pytest.mark.parametrize("n_knots", [25, 9])
def test_smoothing_is_the_likeliest(n_knots: int) -> None:
    """Restricted likelihood written with dense matrices: contrasts free of the line, and their covariance."""
    rng = np.random.default_rng(8)
    n = 25
    x = np.sort(rng.uniform(-0.3, 0.2, n))
    y, v = 0.04 + 0.3 * x**2 - x**3 + 0.002 * rng.standard_normal(n), rng.uniform(0.5, 2, n)
    v /= v.mean()
    basis = SplineBasis.over(x[np.linspace(0, n - 1, n_knots).round().astype(int)])
    design = basis.at(x)
    _, chosen, _ = smooth(basis, design, y, v, None)
    line = np.stack([np.ones(n), x], axis=1)
    contrast = np.linalg.svd(line.T)[2][2:]

    def minus_log_likelihood(smoothing: float) -> float:
        covariance = np.diag(1 / v) + design @ np.linalg.pinv(basis.penalty, rcond=1e-12) @ design.T / smoothing
        c = contrast @ covariance @ contrast.T
        z = contrast @ y
        return (n - 2) * np.log(z @ np.linalg.solve(c, z)) + np.linalg.slogdet(c)[1]

    at_choice = minus_log_likelihood(chosen)
    assert 1e-6 < chosen < 1e-1
    for factor in (0.5, 0.8, 1.25, 2.0):
        assert minus_log_likelihood(chosen * factor) > at_choice - 1e-4 * abs(factor - 1)
    assert min(minus_log_likelihood(s) for s in 10.0 ** np.arange(-9, 3)) > at_choice - 1e-9


def test_clean_quotes_come_back() -> None:
    surface = build_surface(Chain(make_chain()), TAU, MONEYNESS, method="cubic")
    expected = svi_vol(np.log(MONEYNESS)[None, :], TAU[:, None])
    np.testing.assert_allclose(surface["implied_vol"], expected, atol=1e-5)
    assert surface.attrs["fit_rmse_vol_points"] < 1e-3
    assert surface.attrs["durrleman_g_min"] > 0
    assert surface.attrs["calendar_violations"] == 0


def noisy_chain(seed: int, noise: float) -> Chain:
    table = make_chain()
    chain = Chain(table)
    wrong = noise * np.random.default_rng(seed).standard_normal(len(chain.quotes))
    chain.quotes["implied_vol"] += wrong
    return chain


def test_noise_is_smoothed_away() -> None:
    expected = svi_vol(np.log(MONEYNESS)[None, :], TAU[:, None])

    def error(**options: object) -> float:
        grids = [
            build_surface(noisy_chain(seed, 0.005), TAU, MONEYNESS, method="cubic", **options)["implied_vol"].values
            for seed in range(5)
        ]
        return float(np.sqrt(np.mean((np.array(grids) - expected) ** 2)))

    chosen = error()
    assert chosen < 0.6 * error(smoothing=0)
    assert chosen < 0.6 * error(smoothing=10.0)  # lines


def test_smoothing_zero_goes_through_every_quote() -> None:
    surface = build_surface(noisy_chain(1, 0.01), TAU, MONEYNESS, method="cubic", smoothing=0, robust=False)
    assert surface.attrs["fit_max_vol_points"] < 1e-9
    assert surface.attrs["mean_effective_parameters"] == pytest.approx(21)


def test_straight_beyond_the_quotes_and_never_falling() -> None:
    knots = np.array([-0.2, 0.0, 0.2])
    rising = NaturalSpline(knots, np.array([0.05, 0.04, 0.05]), np.zeros(3))
    falling = NaturalSpline(knots, np.array([0.04, 0.05, 0.04]), np.zeros(3))
    steep = NaturalSpline(knots, np.array([0.9, 0.04, 0.9]), np.zeros(3))
    k = np.array([-0.5, -0.2, 0.2, 0.4])
    for spline, expected, slopes in (
        (rising, [0.05 + 0.3 * 0.05, 0.05, 0.05, 0.05 + 0.2 * 0.05], [-0.05, 0.05]),
        (falling, [0.04] * 4, [0, 0]),
        (steep, [0.9 + 2 * 0.3, 0.9, 0.9, 0.9 + 2 * 0.2], [-2, 2]),
    ):
        surface = CubicSurface(np.array([0.5]), (spline,))
        w, slope, _ = surface.own_terms(k)
        np.testing.assert_allclose(w[0], expected, rtol=1e-14)
        np.testing.assert_allclose(slope[0, [0, 3]], slopes, atol=1e-14)
        np.testing.assert_allclose(surface.implied_vol(np.array([0.5]), k) ** 2 * 0.5, expected, rtol=1e-14)


def test_slices_that_cross_are_lifted() -> None:
    chain = Chain(make_chain(vol=lambda k, tau: np.where(np.isclose(tau, 91 / 365), 0.45, 0.2) * np.sqrt(1 + k**2)))
    tau = np.linspace(20, 220, 21) / 365
    surface = build_surface(chain, tau, MONEYNESS, method="cubic")
    w = surface["implied_vol"].values ** 2 * tau[:, None]
    assert np.all(np.diff(w, axis=0) > 0)
    assert surface.attrs["calendar_violations"] == 0
    at_91 = fit_cubic(chain, tau, MONEYNESS).implied_vol(np.array([91 / 365]), np.array([0.0]))
    assert at_91[0] == pytest.approx(0.45, abs=1e-4)


def test_weights_follow_the_spread() -> None:
    # Every other quote is wrong by 3 points of vol and says so by its spread.
    table = make_chain(days=[91], forward=[101.0], rate=[0.03])
    wrong = np.arange(len(table)) // 2 % 2 == 1
    k = np.log(table["strike"] / 101.0).to_numpy()
    vol = svi_vol(k, 91 / 365) + np.where(wrong, 0.03, 0.0)
    price = black_price(101.0, table["strike"], 91 / 365, vol, table["option_type"] == "C", np.exp(-0.03 * 91 / 365))
    half = np.where(wrong, 0.5 * price, 1e-4)
    chain = Chain(table.assign(bid=price - half, ask=price + half).drop(columns="price"), rate=0.03)
    expected = svi_vol(np.log(MONEYNESS), 91 / 365)

    def error(weights: str) -> float:
        grid = build_surface(chain, [91 / 365], MONEYNESS, method="cubic", weights=weights, robust=False)
        return float(np.abs(grid["implied_vol"].values - expected).max())

    assert error("spread") < 4e-3
    assert error("auto") == error("spread")
    assert error("uniform") > 8e-3
    assert error("vega") > 8e-3


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_few_strikes(n: int) -> None:
    chain = Chain(make_chain(days=[91], forward=[101.0], rate=[0.03], log_moneyness=np.linspace(-0.1, 0.05, 5)))
    chain.quotes = chain.quotes.iloc[[0, 4, 2, 3][:n]].sort_values("strike", ignore_index=True)
    surface = build_surface(chain, [91 / 365], [0.95, 1.0], method="cubic", max_extrapolation=5)
    np.testing.assert_allclose(surface["implied_vol"], svi_vol(np.log([0.95, 1.0]), 91 / 365)[None], atol=0.03)


def test_weights_as_far_apart_as_they_come() -> None:
    """Weights of deep wings fall by many orders of magnitude below those at the money."""
    chain = Chain(make_chain(log_moneyness=np.linspace(-0.6, 0.4, 41), vol=lambda k, tau: 0.2 + 0.1 * k**2 + 0 * tau))
    tau = TAU[:1]
    surface = build_surface(chain, tau, MONEYNESS, method="cubic")
    np.testing.assert_allclose(surface["implied_vol"][0], 0.2 + 0.1 * np.log(MONEYNESS) ** 2, atol=2e-4)


@pytest.mark.parametrize("smoothing", [-1.0, np.nan, np.inf, 1e300, "best", None, True])
def test_bad_smoothing(smoothing: object) -> None:
    with pytest.raises(InputError, match="smoothing must be 'auto' or a number from 0"):
        fit_cubic(Chain(make_chain()), TAU, MONEYNESS, smoothing=smoothing)  # type: ignore[arg-type]


def test_duplicate_strikes_are_data_not_knots() -> None:
    """A strike quoted twice (standard and adjusted contract) counts as two errors."""
    chain = Chain(make_chain(days=[91], forward=[101.0], rate=[0.03]))
    doubled = Chain(make_chain(days=[91], forward=[101.0], rate=[0.03]))
    doubled.quotes = pd.concat([doubled.quotes, doubled.quotes]).sort_values(["tau", "strike"], ignore_index=True)
    one, two = (fit_cubic(c, TAU, MONEYNESS, smoothing=1e-4, robust=False) for c in (chain, doubled))
    np.testing.assert_allclose(two.splines[0].values, one.splines[0].values, rtol=1e-2)


@pytest.mark.parametrize("weights", ["vega", "uniform", "spread"])
def test_errors_of_volatility_are_weighed_as_asked(weights: str) -> None:
    rng = np.random.default_rng(4)
    table = make_chain(days=[30], forward=[100.5], rate=[0.03], log_moneyness=np.linspace(-0.1, 0.08, 15), spread=0.002)
    noise = np.exp(0.05 * rng.standard_normal(len(table)))
    chain = Chain(table.assign(bid=table["bid"] * noise, ask=table["ask"] * noise * 1.001).query("bid > 0"), rate=0.03)
    q = chain.quotes
    fitted = fit_cubic(chain, TAU, MONEYNESS, weights=weights, robust=False, smoothing=1e-3)  # type: ignore[arg-type]
    w, tau, k = q["implied_vol"] ** 2 * q["tau"], q["tau"].to_numpy(), q["log_moneyness"].to_numpy()
    miss = fitted.implied_vol(tau, k) ** 2 * tau - w
    asked = {"vega": q["vega"], "uniform": 1.0, "spread": 1 / (q["half_spread_vol"] ** 2 + 5e-4**2)}[weights]
    weight = asked / (2 * q["implied_vol"] * tau) ** 2  # an error of volatility is one of variance over 2 vol tau
    assert weight.max() / weight.min() < 1e6
    for line in (1.0, k):  # lines are free, so along them the errors balance
        assert abs((weight * miss * line).sum()) < 1e-7 * (weight * miss * line).abs().sum()

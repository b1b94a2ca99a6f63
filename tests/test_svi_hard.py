"""SVI fits from a start, and of slices that are hard: narrow, short, nearly linear, one tick in the wings."""

from __future__ import annotations

import numpy as np
import pytest

from svi_makers import assert_free, constrained_rmse, noisy_slices, padded, scipy_rmse
from twins import svi_variance
from volscen import black, svi
from volscen.errors import InputError


def test_a_start_changes_little_but_the_time():
    k, w, weight = padded(noisy_slices(200, seed=11))
    rng = np.random.default_rng(0)
    for butterfly in (True, False):
        cold = svi.fit(k, w, weight, butterfly=butterfly)
        noise = np.exp(rng.normal(0, 0.02, (200, 1)) + rng.normal(0, 0.003, k.shape))
        yesterday = svi.fit(k, w * noise, weight, butterfly=butterfly)
        warm = svi.fit(k, w, weight, start=yesterday.parameters, butterfly=butterfly)
        assert (warm.status == svi.SVIStatus.OK).all()
        ratio = warm.rmse / cold.rmse
        assert (ratio <= 1.001).mean() >= 0.99
        assert ratio.max() <= 1.1
        if butterfly:
            assert_free(warm.parameters)


def test_a_wrong_start_is_overruled():
    k, w, weight = padded(noisy_slices(60, seed=12))
    cold = svi.fit(k, w, weight)
    rng = np.random.default_rng(1)
    wrong = np.column_stack(
        [
            rng.uniform(-1, 1, 60),
            rng.uniform(0, 3, 60),
            rng.uniform(-1, 1, 60),
            rng.uniform(-5, 5, 60),
            10 ** rng.uniform(-6, 3, 60),
        ]
    )
    warm = svi.fit(k, w, weight, start=wrong)
    assert_free(warm.parameters)
    # Kept only where no slice of the grid is better, and the grid is near the best.
    assert (warm.rmse <= 1.01 * cold.rmse).mean() >= 0.9
    assert (warm.rmse <= 3 * cold.rmse).all()
    none = svi.fit(k, w, weight, start=np.full(5, np.nan))
    np.testing.assert_array_equal(none.parameters, cold.parameters)
    some = svi.fit(k, w, weight, start=np.where(np.arange(60)[:, None] % 2, np.nan, wrong))
    np.testing.assert_array_equal(some.parameters[1::2], cold.parameters[1::2])
    np.testing.assert_array_equal(some.parameters[::2], warm.parameters[::2])
    np.testing.assert_array_equal(svi.fit(k, w, weight, start=wrong, num_threads=3).parameters, warm.parameters)


def test_starts_broadcast_and_bad_ones_are_named():
    k = np.linspace(-0.3, 0.3, 9)
    w = svi_variance(np.array([0.02, 0.1, -0.4, 0.05, 0.2]), k) * np.array([[1.0], [1.1], [1.2]])
    one = [0.02, 0.1, -0.3, 0.0, 0.2]
    fit = svi.fit(k, w, start=one)
    np.testing.assert_array_equal(fit.parameters[2], svi.fit(k, w[2], start=one).parameters)
    assert (fit.rmse < 1e-8).all()
    for bad, message in (
        (np.ones((2, 5)), "does not broadcast"),
        (np.ones((4, 3, 5)), "does not broadcast"),
        ([0.02, -0.1, 0.0, 0.0, 0.2], "start must have b >= 0"),
        ([0.02, 0.1, 2.0, 0.0, 0.2], "start must have b >= 0"),
        ([0.02, 0.1, 0.0, 0.0, 0.0], "start must have b >= 0"),
        ([np.inf, 0.1, 0.0, 0.0, 0.2], "start must have b >= 0"),
    ):
        with pytest.raises(InputError, match=message):
            svi.fit(k, w, start=bad)


def one_tick_wings(days: float, tick: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Strikes, total variances and vega weights of a short expiry whose prices are whole ticks, one in the wings."""
    tau, forward = days / 365, 2.5
    strike = forward + 0.05 * np.arange(-6, 7)
    call = strike > forward
    price = black.price(forward, strike, tau, 0.18 + 0.3 * np.log(strike / forward) ** 2, call)
    price = np.maximum(np.round(price / tick + rng.uniform(-0.3, 0.3, strike.size)), 1) * tick
    vol, _ = black.implied_vol(price, forward, strike, tau, call)
    weight = black.vega(forward, strike, tau, vol, call) / (2 * vol * tau) ** 2
    return np.log(strike / forward), vol**2 * tau, weight


def test_one_tick_wings_are_fitted_and_not_given_up():
    rng = np.random.default_rng(5)
    for days in (2, 5, 9):
        k, w, weight = one_tick_wings(days, 1e-4, rng)
        fit = svi.fit(k, w, weight)
        assert_free(fit.parameters)
        level = np.average(w, weights=weight)
        assert fit.rmse < 0.6 * np.sqrt(np.average((w - level) ** 2, weights=weight))
        # As good as scipy under the same conditions on repeated quotes: weights are counts.
        count = np.maximum(np.round(40 * weight / weight.max()).astype(int), 1)
        whole = svi.fit(k, w, count)
        assert whole.rmse <= 1.02 * constrained_rmse(np.repeat(k, count), np.repeat(w, count))


def test_hard_shapes_find_the_best_basin():
    rng = np.random.default_rng(6)
    truths = {
        "narrow": (np.array([0.0002, 0.02, -0.3, 0.01, 0.03]), np.linspace(-0.02, 0.02, 11)),
        "short": (np.array([1e-6, 0.01, -0.2, 0.0, 0.008]), np.linspace(-0.03, 0.03, 15)),
        "linear": (np.array([0.01, 0.08, -0.97, 0.3, 0.02]), np.linspace(-0.3, 0.2, 21)),
        "minimum to the right": (np.array([0.005, 0.1, -0.2, 0.6, 0.15]), np.linspace(-0.3, 0.2, 17)),
        "minimum to the left": (np.array([0.005, 0.1, 0.3, -0.5, 0.15]), np.linspace(-0.2, 0.3, 17)),
        "nearly a parabola": (np.array([-0.8, 0.4, -0.1, 0.0, 2.1]), np.linspace(-0.3, 0.3, 17)),
    }
    for name, (truth, k) in truths.items():
        for noise in (0.002, 0.02):
            w = svi_variance(truth, k) * np.exp(rng.normal(0, noise, k.size))
            plain, free = svi.fit(k, w, butterfly=False), svi.fit(k, w)
            assert plain.rmse <= 1.003 * scipy_rmse(k, w), name
            assert_free(free.parameters)
            assert free.rmse <= 2 * plain.rmse, name


@pytest.mark.parametrize("size", [3, 4])
def test_few_quotes_that_would_break_the_conditions_keep_their_shape(size: int):
    rng = np.random.default_rng(size)
    k = np.sort(rng.uniform(-0.3, 0.3, (200, size)), axis=1)
    w = 0.04 * np.exp(rng.normal(0, 1.0, k.shape))
    plain, free = svi.fit(k, w, butterfly=False), svi.fit(k, w)
    assert_free(free.parameters)
    level = w.mean(axis=1)
    broken = free.rmse > plain.rmse
    assert broken.sum() > 10
    assert (free.rmse <= np.sqrt(((w - level[:, None]) ** 2).mean(axis=1)) * (1 + 1e-12)).all()
    half = np.ptp(k, axis=1) / 2
    np.testing.assert_allclose(free.parameters[:, 4], half, rtol=1e-5)
    if size == 3:
        np.testing.assert_allclose(free.parameters[:, 3], (k[:, 0] + k[:, -1]) / 2, atol=1e-5)


def test_steep_wings_do_not_trap_the_default_fit():
    """Quotes far into both wings, on volatilities nearly linear on either side of a corner.

    Unconstrained, such slices want wings steeper than the condition allows, and the valley that leads there ends in
    slices tens of times worse than the best.
    """
    k = np.r_[-1.1, -0.95, np.linspace(-0.5, -0.25, 5), np.linspace(-0.2, 0.07, 16), 0.14, 0.18]
    for seed in (113, 171, 266, 355, *range(12)):
        rng = np.random.default_rng(seed)
        tau, corner = rng.uniform(0.05, 0.6), rng.uniform(0.02, 0.1)
        slope, low = rng.uniform(0.3, 0.9), rng.uniform(0.08, 0.12)
        rng.uniform()
        vol = low + slope * np.where(k < corner, corner - k, 0.7 * (k - corner))
        vol = vol * (1 + 0.03 * rng.standard_normal(k.size))
        w = vol**2 * tau
        weight = black.vega(1.0, np.exp(k), tau, vol) / (2 * vol * tau) ** 2
        best = min(
            svi.fit(k, w, weight, start=[0.0, b, rho, 0.05, sigma]).rmse
            for b in (0.05, 0.15)
            for rho in (-0.6, -0.1)
            for sigma in (0.1, 0.3)
        )
        assert svi.fit(k, w, weight).rmse < 1.01 * best, seed


def test_a_sharp_turn_between_two_strikes_is_found():
    """The best of dense scans by scipy: the fit stopped in the gap beside it once, half as far off again."""
    k = [-1.0072103951001212, -0.6199586174062703, -0.20509443028957028, 0.7427159705437728, 1.0828951436813947]
    w = [4.731768683535149e-05, 4.2200071452109e-05, 3.6413748002929804e-05, 3.4924816852185346e-05]
    w.append(3.9603617097067964e-05)
    weight = [0.1976859959363792, 1.8343281227749304, 0.2583596919310246, 0.46743111774579577, 0.39359364310526046]
    fit = svi.fit(k, w, weight, butterfly=False)
    assert fit.rmse <= 1.234e-3 * np.mean(w)


@pytest.mark.parametrize(
    ("k", "w", "weight"),
    [
        (
            [-0.5075674685211475, -0.5075674554931617, -0.5075674542085703, -0.5075674262830405, -0.5075674738022076],
            [2.3490186870624728e-09, 2.847864804847878e-23, 0.07560249947917465, 7.98e-30, 1.0847430385526376e-22],
            [1.294077242045274e-06, 0.05386920342125362, 0.0005921037634403815, 0.00019792124, 5.7353252350107625e-05],
        ),
        (
            [-0.0393150145680, -0.0393150145171, -0.0393150145610, -0.0393150145484, -0.0393150145665],
            [6.2657965911803615e-06, 6.541605804650979e-06, 6.86e-06, 8.36e-06, 6.815799234922911e-06],
            [1.0, 1.0, 1.0, 1.0, 1.0],
        ),
    ],
)
def test_strikes_very_close_together_give_no_arbitrage_far_away(k, w, weight):
    """Steep lines from there reach the money beyond 1e8 sigma, where g was down to -148 once."""
    fit = svi.fit(k, w, weight)
    far = np.concatenate([np.linspace(-2, 2, 4001), np.geomspace(1e-9, 1e9, 2000), -np.geomspace(1e-9, 1e9, 2000)])
    assert (svi.total_variance(fit.parameters, far) > 0).all()
    assert svi.durrleman_g(fit.parameters, far).min() > -1e-7

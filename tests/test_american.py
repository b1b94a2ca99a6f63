"""American prices and volatilities: against QuantLib's engines, the twin at a high resolution, and laws."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given, settings
from hypothesis import strategies as st

from american_twin import american_put
from volscen import _core, american, black
from volscen.american import AmericanStatus
from volscen.errors import InputError

REPOSITORY = Path(__file__).parents[1]


def quantlib(
    spot: float, strike: float, days: int, vol: float, is_call: bool, rate: float, dividend_yield: float, grid: int = 0
) -> float:
    """Price by the collocation engine, or by finite differences on a grid of so many times."""
    today = ql.Date(2, 1, 2024)
    ql.Settings.instance().evaluationDate = today
    count = ql.Actual365Fixed()
    process = ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(spot)),
        ql.YieldTermStructureHandle(ql.FlatForward(today, dividend_yield, count)),
        ql.YieldTermStructureHandle(ql.FlatForward(today, rate, count)),
        ql.BlackVolTermStructureHandle(ql.BlackConstantVol(today, ql.NullCalendar(), vol, count)),
    )
    option = ql.VanillaOption(
        ql.PlainVanillaPayoff(ql.Option.Call if is_call else ql.Option.Put, strike),
        ql.AmericanExercise(today, today + days),
    )
    if grid:
        option.setPricingEngine(ql.FdBlackScholesVanillaEngine(process, grid, 4 * grid))
    else:
        option.setPricingEngine(ql.QdFpAmericanEngine(process, ql.QdFpAmericanEngine.highPrecisionScheme()))
    return float(option.NPV())


CARRIES = [(0.05, 0.01), (0.01, 0.03), (0.05, 0.0), (0.03, 0.03), (0.12, 0.0001), (0.0005, 0.0), (0.0, 0.04)]
STRIKES = np.array([70.0, 85.0, 95.0, 100.0, 105.0, 115.0, 140.0])
VOLS = np.array([0.1, 0.3, 0.8])


@pytest.mark.parametrize("days", [7, 91, 730])
@pytest.mark.parametrize(("rate", "dividend_yield"), CARRIES)
def test_prices_agree_with_quantlib(days: int, rate: float, dividend_yield: float) -> None:
    """Within 1e-6 of the strike everywhere, and a hundredth of a basis point of vol out of the money."""
    tau = days / 365
    forward, discount = 100 * np.exp((rate - dividend_yield) * tau), np.exp(-rate * tau)
    for is_call in (True, False):
        ours = american.price(100.0, STRIKES, tau, VOLS[:, None], is_call, rate, dividend_yield)
        theirs = np.array([[quantlib(100.0, k, days, v, is_call, rate, dividend_yield) for k in STRIKES] for v in VOLS])
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
        vega = black.vega(forward, STRIKES, tau, VOLS[:, None], is_call, discount)
        out = (forward <= STRIKES) == is_call
        assert np.max((np.abs(ours - theirs) / np.maximum(vega, 1e-2))[:, out]) < 1e-6


@pytest.mark.parametrize(("rate", "dividend_yield"), [(-0.02, 0.0), (-0.01, 0.02), (0.0, -0.02), (0.02, -0.02)])
def test_rates_and_yields_below_zero(rate: float, dividend_yield: float) -> None:
    """Finite differences, as the engine above knows no such rates; calls with rate < yield = 0 are exercised early."""
    for is_call in (True, False):
        ours = american.price(100.0, [85.0, 100.0, 120.0], 1.0, 0.25, is_call, rate, dividend_yield)
        theirs = [quantlib(100.0, k, 365, 0.25, is_call, rate, dividend_yield, 400) for k in (85.0, 100.0, 120.0)]
        np.testing.assert_allclose(ours, theirs, atol=4e-3)
    if dividend_yield == 0:
        assert american.early_exercise_premium(100.0, 85.0, 1.0, 0.25, True, rate, 0.0) > 0.1


@settings(max_examples=25, deadline=None)
@given(
    st.floats(-2, 2),
    st.floats(0.02, 3.0),
    st.floats(0.05, 1.5),
    st.floats(0.0005, 0.12),
    st.one_of(st.just(0.0), st.floats(-0.03, 0.12)),
)
def test_prices_agree_with_the_twin(
    distance: float, tau: float, vol: float, rate: float, dividend_yield: float
) -> None:
    spot = 100 * np.exp(distance * vol * np.sqrt(tau))
    value, premium = american_put(spot, 100.0, tau, vol, rate, dividend_yield)
    given_ = (spot, 100.0, tau, vol, False, rate, dividend_yield)
    assert american.price(*given_) == pytest.approx(value, abs=7e-5)
    assert american.early_exercise_premium(*given_) == pytest.approx(premium, abs=7e-5)
    # The typical error is far below the largest: at the kernel's own resolution, rounding and the last sweep.
    resolution = (13, 10, 40) if rate * tau > 0.06 else (10, 8, 24)
    value, _ = american_put(spot, 100.0, tau, vol, rate, dividend_yield, *resolution)
    assert american.price(*given_) == pytest.approx(value, abs=5e-5)


@pytest.mark.parametrize(
    ("spot", "tau", "vol", "rate"),
    [(100.0, 3.0, 0.0546875, 0.09375), (98.793, 2.398, 0.05, 0.09375), (19.477, 2.827, 1.031, 0.1)],
)
def test_prices_at_high_rates_for_years(spot: float, tau: float, vol: float, rate: float) -> None:
    """At fewer points, or with the boundary held above its floor, these are 7e-5 to 1.1e-4 off."""
    value, _ = american_put(spot, 100.0, tau, vol, rate, 0.0)
    assert american.price(spot, 100.0, tau, vol, False, rate, 0.0) == pytest.approx(value, abs=3e-5)


def test_typical_error() -> None:
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(30):
        tau, vol, rate, dividend_yield = rng.uniform(0.05, 2), rng.uniform(0.1, 0.6), rng.uniform(0, 0.06), 0.02
        spot = 100 * np.exp(rng.normal() * vol * np.sqrt(tau))
        exact, _ = american_put(spot, 100.0, tau, vol, rate, dividend_yield)
        errors.append(abs(american.price(spot, 100.0, tau, vol, False, rate, dividend_yield) - exact))
    assert np.median(errors) < 2e-7
    assert np.quantile(errors, 0.9) < 2e-6


@settings(max_examples=60, deadline=None)
@given(
    st.floats(20, 500),
    st.floats(0, 4),
    st.floats(0, 2),
    st.booleans(),
    st.floats(-0.05, 0.2),
    st.floats(-0.05, 0.2),
)
def test_laws_of_prices(
    strike: float, tau: float, vol: float, is_call: bool, rate: float, dividend_yield: float
) -> None:
    value = american.price(100.0, strike, tau, vol, is_call, rate, dividend_yield)
    rate, dividend_yield = (0.0 if abs(x) < 1e-12 else x for x in (rate, dividend_yield))
    r, q = (dividend_yield, rate) if is_call else (rate, dividend_yield)
    if q < r < 0 and tau > 0:
        assert np.isnan(value)
        return
    forward, discount = 100 * np.exp((rate - dividend_yield) * tau), np.exp(-rate * tau)
    plain = black.price(forward, strike, tau, vol, is_call, discount)
    at_once = (100 - strike) if is_call else (strike - 100)
    premium = american.early_exercise_premium(100.0, strike, tau, vol, is_call, rate, dividend_yield)
    assert premium >= -1e-12 * strike
    assert value == pytest.approx(plain + premium, rel=1e-12, abs=1e-10)
    assert value >= max(plain, at_once) - 1e-10
    assert value <= max(100.0, strike) * max(1.0, np.exp(-r * tau)) * (1 + 1e-12)
    # A call is a put with spot and strike, rate and yield exchanged.
    mirrored = american.price(strike, 100.0, tau, vol, not is_call, dividend_yield, rate)
    assert value == pytest.approx(mirrored, rel=1e-12, abs=1e-12)
    if r <= 0 and not (r == 0 and q < 0):
        assert premium == pytest.approx(0.0, abs=1e-10)
    if vol <= 1.9:
        assert american.price(100.0, strike, tau, vol + 0.05, is_call, rate, dividend_yield) >= value - 3e-6 * strike


def test_no_volatility_is_the_best_time_to_exercise() -> None:
    # A put with yield above rate gains by waiting until q S e^{-q t} = r K e^{-r t}, computed by brute force.
    times = np.linspace(0, 6, 600_001)
    worth = 100 * np.exp(-0.05 * times) - 60 * np.exp(-0.10 * times)
    assert american.price(60.0, 100.0, 6.0, 0.0, False, 0.05, 0.10) == pytest.approx(worth.max(), abs=1e-9)
    assert 3.6 < times[worth.argmax()] < 3.7
    np.testing.assert_allclose(
        american.price(60.0, 100.0, 6.0, [0.0, 0.001], False, 0.05, 0.10), worth.max(), rtol=1e-4
    )
    assert american.price(80.0, 100.0, 0.0, 0.3, False, 0.05) == pytest.approx(20.0, rel=1e-14)
    assert american.price(120.0, 100.0, 0.0, 0.3, False, 0.05) == 0.0


def test_deep_puts_are_exercised_at_once() -> None:
    assert american.price(60.0, 100.0, 1.0, 0.15, False, 0.08) == 40.0
    vol, status = american.implied_vol([40.0, 39.9, 40.0 + 1e-3], 60.0, 100.0, 1.0, False, 0.08)
    assert [AmericanStatus(s).name for s in status] == ["NO_TIME_VALUE", "BELOW_INTRINSIC", "OK"]
    assert vol[0] == 0
    assert np.isnan(vol[1])
    assert american.price(60.0, 100.0, 1.0, vol[2], False, 0.08) == pytest.approx(40.001, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-2.5, 2.5), st.floats(0.01, 3.0), st.floats(0.03, 2.0), st.booleans(), st.floats(-0.03, 0.12),
    st.floats(-0.03, 0.12), st.sampled_from([np.nan, 0.01, 0.4, 3.0]),
)  # fmt: skip
def test_volatilities_give_their_prices_back(
    distance: float, tau: float, vol: float, is_call: bool, rate: float, dividend_yield: float, start: float
) -> None:
    strike = 100 * np.exp(distance * vol * np.sqrt(tau))
    terms = (is_call, rate, dividend_yield)
    value = american.price(100.0, strike, tau, vol, *terms)
    if np.isnan(value):
        return
    found, status = american.implied_vol(value, 100.0, strike, tau, *terms, start=start)
    assert status in (AmericanStatus.OK, AmericanStatus.NO_TIME_VALUE, AmericanStatus.BELOW_INTRINSIC)
    # Sweeps come slowly to boundaries that hardly anything holds: a rate of next to nothing above a negative yield.
    r, q = (dividend_yield, rate) if is_call else (rate, dividend_yield)
    slack = 100 if q < 0 <= r < 0.001 else 1
    if status == AmericanStatus.OK:
        assert american.price(100.0, strike, tau, found, *terms) == pytest.approx(value, abs=1e-6 * strike * slack)
    rise = (american.price(100.0, strike, tau, 1.001 * vol, *terms) - value) / (0.001 * vol * strike)
    if rise > 0.01:
        assert status == AmericanStatus.OK
        assert found == pytest.approx(vol, abs=3e-5 * slack)


@pytest.mark.parametrize("days", [7, 91, 730])
@pytest.mark.parametrize(("rate", "dividend_yield"), CARRIES[:3])
def test_volatilities_of_liquid_strikes(days: int, rate: float, dividend_yield: float) -> None:
    tau = days / 365
    forward, discount = 100 * np.exp((rate - dividend_yield) * tau), np.exp(-rate * tau)
    for is_call in (True, False):
        strike = np.linspace(70.0, 140.0, 15)
        strike = strike[(strike >= forward) == is_call]
        vol = np.clip(0.25 - 0.3 * np.log(strike / forward) + 0.4 * np.log(strike / forward) ** 2, 0.1, 1.0)
        price = [quantlib(100.0, k, days, v, is_call, rate, dividend_yield) for k, v in zip(strike, vol, strict=True)]
        liquid = black.vega(forward, strike, tau, vol, is_call, discount) > 0.5
        found, status = american.implied_vol(price, 100.0, strike, tau, is_call, rate, dividend_yield)
        assert np.all(status[liquid] == 0)
        assert np.max(np.abs(found - vol)[liquid]) < 1e-6


def test_what_cannot_be_priced_says_why() -> None:
    nan, inf = np.nan, np.inf
    bad = american.price(
        [nan, 100, 100, 0, 100, 100, 100, 100], [100, inf, 100, 100, -1, 100, 100, 100],
        [1, 1, -1, 1, 1, 1, 1, 1], [0.2, 0.2, 0.2, 0.2, 0.2, nan, -0.1, 0.2], False,
        [0.0, 0, 0, 0, 0, 0, 0, nan],
    )  # fmt: skip
    assert np.isnan(bad).all()
    _, status = american.implied_vol([5.0, -1.0, nan, 101.0, 5.0, 5.0], 100.0, 100.0, [0, 1, 1, 1, 1, nan], False,
                                     [0.01, 0.01, 0.01, 0.01, -0.01, 0.01], [0, 0, 0, 0, -0.02, 0])  # fmt: skip
    assert [AmericanStatus(s).name for s in status] == [
        "ZERO_TAU", "INVALID_INPUT", "INVALID_INPUT", "ABOVE_MAXIMUM", "TWO_BOUNDARIES", "INVALID_INPUT"
    ]  # fmt: skip
    with pytest.raises(InputError, match="is_call"):
        american.price(100.0, 100.0, 1.0, 0.2, "put")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="do not broadcast"):
        american.price([1.0, 2.0], [1.0, 2.0, 3.0], 1.0, 0.2)


def test_neighbours_threads_and_layout_change_nothing() -> None:
    rng = np.random.default_rng(3)
    n = 203  # a third of them beyond the rate times life from which the boundary has more points
    strike, tau, vol = rng.uniform(60, 150, n), rng.uniform(0.01, 3, n), rng.uniform(0.02, 1, n)
    is_call, rate, dividend_yield = rng.random(n) < 0.5, rng.uniform(-0.02, 0.1, n), rng.uniform(-0.02, 0.1, n)
    whole = american.price(100.0, strike, tau, vol, is_call, rate, dividend_yield)
    np.testing.assert_array_equal(
        whole, american.price(100.0, strike, tau, vol, is_call, rate, dividend_yield, num_threads=3)
    )
    alone = [american.price(100.0, *row) for row in zip(strike, tau, vol, is_call, rate, dividend_yield, strict=True)]
    np.testing.assert_array_equal(whole, alone)
    np.testing.assert_array_equal(
        whole[::-1], american.price(100.0, strike[::-1], tau[::-1], vol[::-1], is_call[::-1], rate[::-1],
                                    dividend_yield[::-1])
    )  # fmt: skip
    known = np.isfinite(whole)
    found, _ = american.implied_vol(
        whole[known], 100.0, strike[known], tau[known], is_call[known], rate[known], dividend_yield[known]
    )
    one, _ = american.implied_vol(
        whole[known][7], 100.0, strike[known][7], tau[known][7], is_call[known][7], rate[known][7],
        dividend_yield[known][7],
    )  # fmt: skip
    np.testing.assert_array_equal(found[7], one)


def test_generated_constants_are_current() -> None:
    script = REPOSITORY / "cpp" / "tools" / "generate_american.py"
    if not script.exists():
        pytest.skip("not in a source tree")
    assert subprocess.run([sys.executable, str(script), "--check"]).returncode == 0


def test_the_module_itself_refuses_shapes_it_cannot_read() -> None:
    a, b = np.ones(3), np.ones(3, bool)
    with pytest.raises(ValueError, match="one shape"):
        _core.american_price(a, a, a, a, b, a, a[:2], 1)
    with pytest.raises(ValueError, match="one shape"):
        _core.american_implied_vol(a, a, a, a, b, a, a[:2], a, 1)


def test_volatility_of_200_percent_under_a_negative_rate() -> None:
    """Steps come from 256%, whose boundary lies far below that of 200% and must not be kept."""
    strike = 100 * np.exp(-1.0)
    value = american.price(100.0, strike, 1.0, 2.0, True, -0.015625, 0.0)
    found, _ = american.implied_vol(value, 100.0, strike, 1.0, True, -0.015625, 0.0, start=0.01)
    assert found == pytest.approx(2.0, abs=3e-5)


@pytest.mark.parametrize(
    ("strike", "days", "rate", "dividend_yield"),
    [
        (2.8016017686336605, 1095, 0.05116342849044279, 0.006605636640005725),
        (10.45648573511701, 1095, 0.09127170361180711, 0.11835658961668506),
    ],
)
def test_calls_deep_in_the_money_are_right_to_shares_of_the_spot(strike, days, rate, dividend_yield):
    """The worst of a search among calls: 3.7e-6 of the strike, as the error is that of the exchanged put."""
    value = american.price(100.0, strike, days / 365, 1.5, True, rate, dividend_yield)
    exchanged = american.price(strike, 100.0, days / 365, 1.5, False, dividend_yield, rate)
    assert value == exchanged
    assert abs(value - quantlib(100.0, strike, days, 1.5, True, rate, dividend_yield)) <= 5e-7 * 100

"""Bachelier prices and normal implied vols against exact arithmetic, QuantLib and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import QuantLib as ql
from hypothesis import given, settings
from hypothesis import strategies as st

from twins import PRECISE, bachelier_exact
from volscen import bachelier
from volscen.bachelier import ImpliedVolStatus as Status
from volscen.errors import InputError

EPS = 2.0**-52


def options(n: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Forward, strike, tau, normal vol, is_call, discount factor: rates of any sign."""
    rng = np.random.default_rng(seed)
    forward = rng.uniform(-0.03, 0.06, n)
    vol = 10 ** rng.uniform(-3, -1.5, n)
    tau = 10 ** rng.uniform(-2, 1.3, n)
    strike = forward + rng.uniform(-5, 5, n) * vol * np.sqrt(tau)
    return forward, strike, tau, vol, rng.random(n) < 0.5, rng.uniform(0.6, 1.1, n)


def vol_error(price, forward, strike, tau, is_call, vol, df=1.0) -> float:
    """Error in units of eps (1 + v/(vega vol)), v being the time value, by Newton's step to 60 digits."""
    p, f, k, t, s, d = (PRECISE.mpf(float(z)) for z in (price, forward, strike, tau, vol, df))
    s *= PRECISE.sqrt(t)
    time_value = p / d - max(f - k if is_call else k - f, PRECISE.mpf(0))
    m = abs(f - k)
    value = s * PRECISE.npdf(m / s) - m * PRECISE.ncdf(-m / s)
    vega = PRECISE.npdf(m / s)
    error = PRECISE.log(value / time_value) * value / (vega * s)
    return float(abs(error) / (EPS * (1 + time_value / (vega * s))))


def test_price_matches_exact_arithmetic():
    args = options(300)
    for got, row in zip(bachelier.price(*args), zip(*args, strict=True), strict=True):
        exact = bachelier_exact(*row[:4], bool(row[4]), row[5])
        assert abs(float(got / exact - 1)) < 8 * EPS


def test_price_keeps_its_digits_far_from_the_money():
    rng = np.random.default_rng(1)
    vol, away = 10 ** rng.uniform(-5, 5, 300), rng.uniform(5, 36, 300)
    for is_call in (True, False):
        strike = 0.3 * vol + (1 if is_call else -1) * away * vol
        got = bachelier.price(0.3 * vol, strike, 0.7, vol / np.sqrt(0.7), is_call)
        for i in range(300):
            exact = bachelier_exact(0.3 * vol[i], strike[i], 0.7, vol[i] / np.sqrt(0.7), is_call)
            assert abs(float(got[i] / exact - 1)) < 8 * EPS


def test_matches_quantlib():
    args = options(300, seed=2)
    got = bachelier.price(*args)
    vols, status = bachelier.implied_vol(got, *args[:3], *args[4:])
    for i, (f, k, t, v, call, df) in enumerate(zip(*args, strict=True)):
        kind = ql.Option.Call if call else ql.Option.Put
        expected = ql.bachelierBlackFormula(kind, float(k), float(f), float(v * np.sqrt(t)), float(df))
        assert got[i] == pytest.approx(expected, rel=1e-12, abs=1e-17)
        if status[i] == Status.OK and abs(f - k) < 4 * v * np.sqrt(t):
            theirs = ql.bachelierBlackFormulaImpliedVol(kind, float(k), float(f), float(t), float(got[i]), float(df))
            assert vols[i] == pytest.approx(theirs, rel=1e-8)


def test_at_the_money_and_parity():
    got = bachelier.price(-0.5, -0.5, [0.25, 4.0], 0.2, True, 0.5)
    np.testing.assert_allclose(got, 0.5 * 0.2 * np.array([0.5, 2.0]) / np.sqrt(2 * np.pi), rtol=1e-15)
    f, k, t, v, _, df = options(1000, seed=3)
    difference = bachelier.price(f, k, t, v, True, df) - bachelier.price(f, k, t, v, False, df)
    np.testing.assert_allclose(difference, df * (f - k), rtol=0, atol=1e-16)


def test_limits():
    for tau, vol in ((0.0, 0.2), (1.0, 0.0), (0.0, 0.0)):
        np.testing.assert_array_equal(bachelier.price([-1.0, 0.0, 2.0], 0.0, tau, vol, True, 0.5), [0.0, 0.0, 1.0])
    assert bachelier.price(0.0, 60.0, 1.0, 1.0) == 0.0
    # Denormal prices, gradually.
    exact = float(bachelier_exact(0.0, 38.0, 1.0, 1.0, True))
    assert 0 < exact < 1e-307
    assert bachelier.price(0.0, 38.0, 1.0, 1.0) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("name", ["rates", "deep", "small prices", "large prices", "near intrinsic", "all ratios"])
def test_implied_vol_error_is_within_twice_what_rounding_the_price_costs(name: str):
    rng = np.random.default_rng(sum(map(ord, name)))
    n = 400
    forward, strike, tau, vol, is_call, df = options(n, seed=4)
    if name == "rates":
        price = bachelier.price(forward, strike, tau, vol, is_call, df)
    elif name == "deep":
        strike = forward + vol * np.sqrt(tau) * rng.uniform(-36, 36, n)
        is_call = strike > forward
        price = bachelier.price(forward, strike, tau, vol, is_call, df)
    else:
        forward, df = np.zeros(n), np.ones(n)
        strike = rng.choice([-1.0, 1.0], n)
        is_call = strike > 0
        if name == "small prices":
            price = 10 ** rng.uniform(-307, 0, n)
        elif name == "large prices":
            price = 10 ** rng.uniform(0, 300, n)
        elif name == "near intrinsic":
            is_call = ~is_call
            price = 1 + 10 ** rng.uniform(-15, 1, n)
        else:
            size = 10 ** rng.uniform(-150, 150, n)
            strike, price = strike * size, size * 10 ** rng.uniform(-140, 140, n)
    got, status = bachelier.implied_vol(price, forward, strike, tau, is_call, df)
    ok = np.flatnonzero(status == Status.OK)
    assert set(status.tolist()) <= {Status.OK, Status.NO_TIME_VALUE}
    assert ok.size > 0.9 * n
    worst = max(vol_error(price[i], forward[i], strike[i], tau[i], is_call[i], got[i], df[i]) for i in ok)
    assert worst <= 2


@pytest.mark.parametrize(
    ("price", "forward", "strike", "tau", "is_call", "df"),
    [
        # Subnormal prices, once divided by the discount factor as they are.
        (6.4e-323, 8.017418938216666, 8.017418938216661, 306.28357703729614, False, 0.6384893721425896),
        (1e-323, 1.6360869268207318e22, -5.504677027291891e99, 1.7471704098242367e39, False, 0.7846971205856743),
        (1.2590227255420829e-303, -1.754003511016711e-85, -1.75400351083e-85, 4e-73, True, 2.475989373967207e19),
        # Once taken for no time value.
        (6.394865e-318, 1.2904271576945203e-60, 1.2904271573350128e-60, 2.3e72, False, 1.0578144771495368e29),
        # A time value far below a rounding of the price.
        (np.nextafter(0.97 * (3.3 - 0.1), 9.0), 3.3, 0.1, 0.5, True, 0.97),
    ],
)
def test_extreme_numbers_have_vols_of_full_accuracy(price, forward, strike, tau, is_call, df):
    vol, status = bachelier.implied_vol(price, forward, strike, tau, is_call, df)
    assert status == Status.OK
    assert vol_error(price, forward, strike, tau, is_call, vol, df) <= 2


def test_prices_of_huge_vols_do_not_overflow_on_the_way():
    operands = (3.0375699992891847e264, 3.037569999289187e264, 9.314883555669403e150, 3.277435162991609e172, True, 0.83)
    assert float(bachelier.price(*operands)) == pytest.approx(float(bachelier_exact(*operands)), rel=5e-15)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(-(2**30), 2**30).map(lambda n: n / 1024),
    st.integers(-(2**30), 2**30).map(lambda n: n / 1024),
    st.floats(1e-250, 1e250),
    st.floats(1e-9, 1e4),
    st.booleans(),
)
def test_any_time_value_has_a_vol(forward, strike, time_value, tau, is_call):
    price = max(forward - strike if is_call else strike - forward, 0.0) + time_value
    vol, status = bachelier.implied_vol(price, forward, strike, tau, is_call)
    if status == Status.OK:
        assert vol_error(price, forward, strike, tau, is_call, vol) <= 2
    else:
        assert status == Status.NO_TIME_VALUE


@pytest.mark.parametrize(
    ("price", "change", "expected"),
    [
        (2.0, {"strike": -3.0}, Status.NO_TIME_VALUE),
        (0.0, {}, Status.NO_TIME_VALUE),
        (1.99, {"strike": -3.0}, Status.BELOW_INTRINSIC),
        (1.79, {"strike": -3.0, "discount_factor": 0.9}, Status.BELOW_INTRINSIC),
        (1.0, {"tau": 0.0}, Status.ZERO_TAU),
        (-1.0, {}, Status.INVALID_INPUT),
        (np.nan, {}, Status.INVALID_INPUT),
        (np.inf, {}, Status.INVALID_INPUT),
        (1.0, {"forward": np.nan}, Status.INVALID_INPUT),
        (1.0, {"forward": -np.inf}, Status.INVALID_INPUT),
        (1.0, {"forward": -1e308, "strike": 1e308}, Status.INVALID_INPUT),
        (1.0, {"tau": -1.0}, Status.INVALID_INPUT),
        (1.0, {"tau": np.nan}, Status.INVALID_INPUT),
        (1.0, {"discount_factor": 0.0}, Status.INVALID_INPUT),
        (1.0, {"discount_factor": np.nan}, Status.INVALID_INPUT),
        (1e308, {"discount_factor": 1e-9}, Status.ABOVE_MAXIMUM),
        (1e300, {"tau": 1e-300}, Status.ABOVE_MAXIMUM),
        (1.0, {}, Status.OK),
        (1e-320, {"strike": 5.0}, Status.OK),
        (1e300, {}, Status.OK),
    ],
)
def test_statuses(price, change, expected):
    good = {"forward": -1.0, "strike": 1.0, "tau": 0.5}
    vol, status = bachelier.implied_vol(price, **{**good, **change})
    assert Status(status) is expected
    if expected is Status.OK:
        assert vol > 0
    elif expected is Status.NO_TIME_VALUE:
        assert vol == 0
    else:
        assert np.isnan(vol)


def test_extreme_input_is_never_silently_nan():
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -1.0, -1e308, 5e-324, 1e-310, 1e-3, 1.0, 1e308])
    p, f, k, t, df = (x.ravel() for x in np.meshgrid(*[values] * 5))
    for kind in (True, False):
        vol, status = bachelier.implied_vol(p, f, k, t, kind, df)
        assert np.isfinite(vol[status <= Status.NO_TIME_VALUE]).all()
        assert (vol[status == Status.OK] > 0).all()
        assert np.isnan(vol[status > Status.NO_TIME_VALUE]).all()
        with np.errstate(over="ignore", invalid="ignore"):
            sound = np.isfinite([p, f, k, t, df, f - k]).all(axis=0) & (t >= 0) & (df > 0)
        assert (status[~sound] == Status.INVALID_INPUT).all()
        assert (status[sound & (p >= 0)] != Status.INVALID_INPUT).all()
        priced = bachelier.price(f, k, t, np.abs(p), kind, df)
        assert np.isnan(priced[~sound]).all()
        assert not np.isnan(priced[sound]).any()


def test_threads_strides_and_shapes():
    args = options(20_000, seed=5)
    prices = bachelier.price(*args)
    operands = (prices, *args[:3], *args[4:])
    straight = bachelier.implied_vol(*operands)
    np.testing.assert_array_equal(bachelier.price(*args, num_threads=3), prices)
    for got, want in zip(bachelier.implied_vol(*operands, num_threads=3), straight, strict=True):
        np.testing.assert_array_equal(got, want)
    backwards = bachelier.implied_vol(*(a[::-7] for a in operands))
    np.testing.assert_array_equal(backwards[0], straight[0][::-7])
    one, code = bachelier.implied_vol(0.1, 0.0, [[0.0], [0.1]], 1.0)
    assert one.shape == code.shape == (2, 1)
    assert isinstance(bachelier.price(0.0, 0.0, 1.0, 0.1), np.float64)


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match="is_call"):
        bachelier.implied_vol(5.0, 100.0, 100.0, 1.0, "C")
    with pytest.raises(InputError, match="normal_vol"):
        bachelier.price(5.0, 100.0, 1.0, "vol")
    with pytest.raises(InputError, match="broadcast"):
        bachelier.implied_vol([5.0, 6.0, 7.0], [100.0, 101.0], 100.0, 1.0)

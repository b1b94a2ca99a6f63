"""Implied vol: accuracy against exact arithmetic on hard sets, statuses, and strange input."""

from __future__ import annotations

import numpy as np
import pytest
import QuantLib as ql

from twins import PRECISE, black_exact, implied_vol_exact
from volscen import black
from volscen.black import ImpliedVolStatus as Status
from volscen.errors import InputError

EPS = 2.0**-52


def hard_set(name: str, n: int) -> tuple[np.ndarray, ...]:
    """Forward, strike, tau and vol."""
    rng = np.random.default_rng(sum(map(ord, name)))
    forward = np.exp(rng.uniform(-2, 8, n))
    side = rng.choice([-1.0, 1.0], n)
    if name == "main":
        x, tau, vol = rng.uniform(-0.5, 0.5, n), rng.uniform(0.02, 3, n), rng.uniform(0.05, 1, n)
    elif name == "near the money":
        x, tau, vol = rng.uniform(-1e-4, 1e-4, n), rng.uniform(0.02, 3, n), rng.uniform(0.05, 1, n)
    elif name == "at the money":
        x, tau, vol = np.zeros(n), 10 ** rng.uniform(-6, 1, n), 10 ** rng.uniform(-3, 0.6, n)
    elif name == "tiny tau":
        x, tau, vol = rng.uniform(-3e-3, 3e-3, n), 10 ** rng.uniform(-6, -4, n), rng.uniform(0.1, 2, n)
    elif name == "high vol":
        x, tau, vol = rng.uniform(-3, 3, n), rng.uniform(0.5, 10, n), rng.uniform(1, 5, n)
    elif name == "wings":
        x, tau, vol = side * rng.uniform(2, 30, n), rng.uniform(0.5, 10, n), rng.uniform(0.5, 5, n)
    else:  # out of the money, prices down to 1e-300 of the forward
        x, tau = side * rng.uniform(0.01, 10, n), rng.uniform(0.01, 2, n)
        vol = np.abs(x) / rng.uniform(5, 36.5, n) / np.sqrt(tau)
    return forward, forward * np.exp(x), tau, vol


SETS = ("main", "near the money", "at the money", "tiny tau", "high vol", "wings", "deep")


@pytest.mark.parametrize("name", SETS)
def test_error_is_a_few_roundings_times_the_condition(name: str):
    forward, strike, tau, vol = hard_set(name, 200)
    # Out of the money in the deep set; both kinds elsewhere.
    is_call = strike > forward if name == "deep" else np.arange(200) % 2 == 0
    prices = np.array(
        [float(black_exact(*row[:4], bool(row[4]))) for row in zip(forward, strike, tau, vol, is_call, strict=True)]
    )
    got, status = black.implied_vol(prices, forward, strike, tau, is_call)
    allowed = (
        {Status.OK}
        if name in ("main", "near the money", "at the money", "deep")
        else {Status.OK, Status.NO_TIME_VALUE, Status.ABOVE_MAXIMUM}
    )
    assert set(status.tolist()) <= {int(code) for code in allowed | {Status.OK}}
    assert (status == Status.OK).sum() >= 130
    for i in np.flatnonzero(status == Status.OK):
        exact, condition = implied_vol_exact(prices[i], forward[i], strike[i], tau[i], bool(is_call[i]), got[i])
        assert abs(float(PRECISE.mpf(got[i]) / exact - 1)) < 8 * EPS * (1 + condition)


@pytest.mark.parametrize(("strike", "is_call"), [(3.3, True), (80.0, True), (1234.56, False), (100.3, False)])
@pytest.mark.parametrize("time_value", [1e-13, 1e-10, 1e-6, 1e-3])
def test_near_intrinsic_value(strike: float, is_call: bool, time_value: float):
    forward, tau = 100.1, 0.25
    price = (forward - strike if is_call else strike - forward) + time_value
    got, status = black.implied_vol(price, forward, strike, tau, is_call)
    assert status == Status.OK
    exact, condition = implied_vol_exact(price, forward, strike, tau, is_call, got)
    # Nothing is lost in taking the intrinsic value from the price given: only the time value counts.
    left = float(PRECISE.mpf(price) - abs(PRECISE.mpf(forward) - PRECISE.mpf(strike))) / price
    assert abs(float(PRECISE.mpf(float(got)) / exact - 1)) < 8 * EPS * (1 + condition * left)


def test_matches_quantlib():
    forward, strike, tau, vol = hard_set("main", 200)
    df = 0.97
    prices = black.price(forward, strike, tau, vol, True, df)
    got, status = black.implied_vol(prices, forward, strike, tau, True, df)
    for i in np.flatnonzero((status == Status.OK) & (black.vega(forward, strike, tau, vol) > 1e-4 * forward)):
        deviation = ql.blackFormulaImpliedStdDev(
            ql.Option.Call, strike[i], forward[i], prices[i], df, 0.0, float(vol[i] * np.sqrt(tau[i])), 1e-14, 1000
        )
        assert got[i] == pytest.approx(deviation / np.sqrt(tau[i]), rel=1e-9)


def test_no_failure_on_prices_of_all_sizes():
    rng = np.random.default_rng(9)
    n = 300_000
    forward = 10 ** rng.uniform(-5, 5, n)
    width = rng.choice([0.0, 1e-12, 1e-6, 1e-3, 0.1, 1, 10, 100], n)
    strike = forward * np.exp(np.clip(width * rng.normal(size=n), -300, 300))
    tau, is_call = 10 ** rng.uniform(-8, 2, n), rng.random(n) < 0.5
    part = rng.choice([0, 1, 2], n)
    share = np.choose(part, [10 ** rng.uniform(-300, 0, n), rng.random(n), 1 - 10 ** rng.uniform(-16, 0, n)])
    low = np.minimum(forward, strike)
    price = np.where(is_call, np.maximum(forward - strike, 0), np.maximum(strike - forward, 0)) + share * low
    vol, status = black.implied_vol(price, forward, strike, tau, is_call)
    assert set(np.unique(status).tolist()) <= {Status.OK, Status.NO_TIME_VALUE, Status.ABOVE_MAXIMUM}
    found = status == Status.OK
    assert found.mean() > 0.6
    assert (vol[found] > 0).all()
    again = black.price(forward[found], strike[found], tau[found], vol[found], is_call[found])
    np.testing.assert_array_less(np.abs(again - price[found]), 6e-15 * (low[found] + price[found]))


@pytest.mark.parametrize(
    ("price", "change", "expected"),
    [
        (10.0, {"strike": 90.0}, Status.NO_TIME_VALUE),
        (10.0, {"strike": 110.0, "is_call": False}, Status.NO_TIME_VALUE),
        (0.0, {}, Status.NO_TIME_VALUE),
        (9.99, {"strike": 90.0}, Status.BELOW_INTRINSIC),
        (9.99, {"strike": 110.0, "is_call": False}, Status.BELOW_INTRINSIC),
        (8.99, {"strike": 90.0, "discount_factor": 0.9}, Status.BELOW_INTRINSIC),
        (100.0, {}, Status.ABOVE_MAXIMUM),
        (150.0, {}, Status.ABOVE_MAXIMUM),
        (90.0, {"discount_factor": 0.9}, Status.ABOVE_MAXIMUM),
        (120.0, {"strike": 120.0, "is_call": False}, Status.ABOVE_MAXIMUM),
        (5.0, {"tau": 0.0}, Status.ZERO_TAU),
        (-1e-9, {}, Status.INVALID_INPUT),
        (np.nan, {}, Status.INVALID_INPUT),
        (np.inf, {}, Status.INVALID_INPUT),
        (5.0, {"tau": -0.1}, Status.INVALID_INPUT),
        (5.0, {"tau": np.nan}, Status.INVALID_INPUT),
        (5.0, {"forward": 0.0}, Status.INVALID_INPUT),
        (5.0, {"strike": -1.0}, Status.INVALID_INPUT),
        (5.0, {"strike": np.inf}, Status.INVALID_INPUT),
        (5.0, {"discount_factor": 0.0}, Status.INVALID_INPUT),
        (5.0, {"discount_factor": np.nan}, Status.INVALID_INPUT),
        (99.99, {}, Status.OK),
        (1e-300, {"strike": 101.0}, Status.OK),
        (5e-324, {"strike": 101.0}, Status.OK),
    ],
)
def test_statuses(price, change, expected):
    good = {"forward": 100.0, "strike": 100.0, "tau": 0.5}
    vol, status = black.implied_vol(price, **{**good, **change})
    assert Status(status) is expected
    if expected is Status.OK:
        assert vol > 0
    elif expected is Status.NO_TIME_VALUE:
        assert vol == 0
    else:
        assert np.isnan(vol)
    # A good neighbour is left alone.
    names = list(good)
    column = {name: np.array([{**good, **change}[name], good[name]]) for name in names}
    calls = np.array([change.get("is_call", True), True])
    discount = np.array([change.get("discount_factor", 1.0), 1.0])
    vols, _ = black.implied_vol(np.array([price, 5.0]), **column, is_call=calls, discount_factor=discount)
    assert vols[1] == black.implied_vol(5.0, **good)[0]


def test_prices_rounded_to_intrinsic_value_are_not_called_below_it():
    forward, strike, tau, vol = hard_set("main", 5000)
    for is_call in (True, False):
        for df in (1.0, 0.93):
            prices = black.price(forward, strike, 1e-4 * tau, vol, is_call, df)
            _, status = black.implied_vol(prices, forward, strike, 1e-4 * tau, is_call, df)
            assert set(np.unique(status).tolist()) <= {Status.OK, Status.NO_TIME_VALUE}


def test_no_nan_without_a_status_on_extreme_input():
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -1.0, 5e-324, 1e-310, 1e-3, 1.0, 100.0, 1e308])
    p, f, k, t, df = (x.ravel() for x in np.meshgrid(*[values] * 5))
    for kind in (True, False):
        vol, status = black.implied_vol(p, f, k, t, kind, df)
        assert not np.isnan(vol[status <= Status.NO_TIME_VALUE]).any()
        assert np.isnan(vol[status > Status.NO_TIME_VALUE]).all()
        assert (status != Status.NOT_CONVERGED).all()
        assert not np.isinf(vol).any()


def test_threads_strides_and_shapes():
    forward, strike, tau, vol = hard_set("main", 20_000)
    prices = black.price(forward, strike, tau, vol)
    straight = black.implied_vol(prices, forward, strike, tau)
    threaded = black.implied_vol(prices, forward, strike, tau, num_threads=3)
    np.testing.assert_array_equal(straight[0], threaded[0])
    np.testing.assert_array_equal(straight[1], threaded[1])
    backwards = black.implied_vol(prices[::-7], forward[::-7], strike[::-7], tau[::-7])
    np.testing.assert_array_equal(backwards[0], straight[0][::-7])
    table = black.implied_vol(
        prices.reshape(100, 200).T, forward.reshape(100, 200).T, strike.reshape(100, 200).T, tau.reshape(100, 200).T
    )
    np.testing.assert_array_equal(table[0], straight[0].reshape(100, 200).T)
    one, code = black.implied_vol(5.0, 100.0, 100.0, 1.0)
    assert isinstance(one, np.float64)
    assert isinstance(code, np.int8)
    empty, codes = black.implied_vol(np.empty((0, 3)), 100.0, 100.0, 1.0)
    assert empty.shape == codes.shape == (0, 3)


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match="is_call"):
        black.implied_vol(5.0, 100.0, 100.0, 1.0, "C")
    with pytest.raises(InputError, match="price"):
        black.implied_vol("five", 100.0, 100.0, 1.0)
    with pytest.raises(InputError, match="broadcast"):
        black.implied_vol([5.0, 6.0, 7.0], [100.0, 101.0], 100.0, 1.0)

"""Implied vol: accuracy against exact arithmetic on hard sets, statuses, and strange input."""

from __future__ import annotations

import numpy as np
import pytest
import QuantLib as ql
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twins import PRECISE, black_exact, implied_vol_error
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
    elif name == "seams":  # of the series and the iteration
        x, tau = rng.uniform(-8, 8, n), rng.uniform(0.5, 2, n)
        vol = rng.uniform(0.3, 3, n) / np.sqrt(tau)
    elif name == "all sizes":
        s, tau = 10 ** rng.uniform(-4, 1, n), rng.uniform(0.01, 2, n)
        x, vol = side * s * 10 ** rng.uniform(-3, 1.5, n), s / np.sqrt(tau)
    else:  # out of the money, prices down to 1e-300 of the forward
        x, tau = side * rng.uniform(0.01, 10, n), rng.uniform(0.01, 2, n)
        vol = np.abs(x) / rng.uniform(5, 36.5, n) / np.sqrt(tau)
    return forward, forward * np.exp(x), tau, vol


def worst_error(price, forward, strike, tau, is_call, vol, df=1.0):
    """Largest error in units of eps (1 + v/(vega vol))."""
    rows = zip(*np.broadcast_arrays(price, forward, strike, tau, is_call, vol, df), strict=True)
    worst = 0.0
    for p, f, k, t, call, v, d in rows:
        error, condition = implied_vol_error(p, f, k, t, bool(call), v, d)
        worst = max(worst, abs(error) / (EPS * (1 + condition)))
    return worst


SETS = ("main", "near the money", "at the money", "tiny tau", "high vol", "wings", "seams", "all sizes", "deep")


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("df", [1.0, 0.93])
def test_error_is_within_twice_what_rounding_the_price_costs(name: str, df: float):
    forward, strike, tau, vol = hard_set(name, 400)
    # Out of the money in the sets with tiny prices; both kinds elsewhere.
    tiny = name in ("deep", "all sizes")
    is_call = strike > forward if tiny else np.arange(400) % 2 == 0
    rows = zip(forward, strike, tau, vol, is_call, strict=True)
    prices = np.array([float(black_exact(*row[:4], bool(row[4]), df)) for row in rows])
    got, status = black.implied_vol(prices, forward, strike, tau, is_call, df)
    ok = status == Status.OK
    assert set(status.tolist()) <= {Status.OK, Status.NO_TIME_VALUE, Status.ABOVE_MAXIMUM}
    assert ok.sum() >= (400 if name in ("main", "near the money", "at the money", "deep") and df == 1.0 else 260)
    found = [a[ok] for a in (prices, forward, strike, tau, is_call, got)]
    assert worst_error(*found, df) <= 2


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_near_intrinsic_value_only_the_time_value_counts(side: float):
    rng = np.random.default_rng(8)
    forward = np.exp(rng.uniform(-2, 8, 300))
    strike = forward * np.exp(side * rng.uniform(0.01, 0.5, 300))
    price = np.abs(forward - strike) + np.minimum(forward, strike) * 10 ** rng.uniform(-14, -1, 300)
    got, status = black.implied_vol(price, forward, strike, 0.25, side < 0)
    assert (status == Status.OK).all()
    assert worst_error(price, forward, strike, 0.25, side < 0, got) <= 2


@pytest.mark.parametrize("spread", [0.0, 1e-6, 0.3, 3.0, 30.0])
def test_near_the_cap_and_at_all_shares_of_it(spread: float):
    rng = np.random.default_rng(10)
    forward, strike = 100.0, 100.0 * np.exp(spread * rng.uniform(0.5, 1, 300))
    share = np.concatenate([1 - 10 ** rng.uniform(-15, 0, 100), rng.random(100), 10 ** rng.uniform(-290, 0, 100)])
    price = forward * share
    got, status = black.implied_vol(price, forward, strike, 1.0)
    assert (status == Status.OK).all()
    assert worst_error(price, forward, strike, 1.0, True, got) <= 2


def test_strikes_of_any_distance_have_vols_of_full_accuracy():
    """At vols so high that a strike of e^300 forwards costs a part in a million: 4.6 units once, by a step too few."""
    distance, share = np.meshgrid(np.linspace(100.3, 299.9, 24), 10 ** np.linspace(-8, -3, 21))
    strike = np.exp(distance.ravel())
    price = share.ravel()
    got, status = black.implied_vol(price, 1.0, strike, 1.0, True)
    assert (status == Status.OK).all()
    assert worst_error(price, 1.0, strike, 1.0, True, got) <= 2


@example(-266.0, 1.5258789062500027e-05, 1.0, 1.0, False)
@settings(max_examples=300, deadline=None)
@given(
    st.floats(-300, 300),
    st.floats(0, 1, exclude_max=True, exclude_min=True),
    st.floats(1e-8, 1e3),
    st.floats(1e-3, 1e3),
    st.booleans(),
)
def test_any_share_of_the_cap_has_a_vol_of_full_accuracy(x, share, tau, forward, is_call):
    strike = forward * np.exp(x)
    low = min(forward, strike)
    intrinsic = max(forward - strike, 0.0) if is_call else max(strike - forward, 0.0)
    price = intrinsic + share * low
    got, status = black.implied_vol(price, forward, strike, tau, is_call)
    assert status in (Status.OK, Status.NO_TIME_VALUE, Status.ABOVE_MAXIMUM)
    if status == Status.OK:
        assert got > 0
        # Vols below the smallest normal number have fewer digits.
        assert got < 1e-307 or worst_error([price], forward, strike, tau, is_call, got) <= 2


@pytest.mark.parametrize(
    ("price", "forward", "strike", "tau", "is_call", "df"),
    [
        # A time value far below a rounding of the price, of an option deep in the money: 14.8 units once.
        (0.0017251282699856914, 0.0018719816233985771, 1.716704239868595e-17, 0.1, True, 0.9215519257361843),
        # At the money, prices far below the forward: taken for no time value once.
        (1e-299, 100.0, 100.0, 1.0, True, 1.0),
        (3e-120, 2e250, 2e250, 1e-300, False, 0.9),
        (9.012963754347508e-230, 8.004271580313023e55, 8.004271580313023e55, 3.6e-20, False, 7e10),
        # Forwards, strikes and discount factors whose products leave the range of numbers.
        (5.2e200, 1e201, 5e200, 0.5, True, 0.97),
        (5.6e-299, 1.5e-199, 1e-199, 0.5, True, 1e-99),
        (4e-320, 1.5e-10, 1e-10, 0.5, False, 1e-305),
        (5e-324, 1e308, 1.5e308, 2.0, True, 1e300),
        (1.4892421243264994e-186, 6.322143405657324e-42, 6.322168389838748e-42, 6.68e-236, True, 0.6121398247736018),
        (1e-30, 5e-324, 1.7e308, 1.0, True, 1e300),
    ],
)
def test_extreme_numbers_have_vols_of_full_accuracy(price, forward, strike, tau, is_call, df):
    got, status = black.implied_vol(price, forward, strike, tau, is_call, df)
    assert status == Status.OK
    assert got > 1e-307
    assert worst_error([price], forward, strike, tau, is_call, got, df) <= 2


def test_neighbours_change_no_bit():
    """One huge forward cost all others of its block ten digits once."""
    rng = np.random.default_rng(15)
    strike = 100 * np.exp(0.3 * rng.normal(size=200))
    price = black.price(100.0, strike, 0.5, 0.2, strike < 100, 0.97)
    alone, _ = black.implied_vol(price, 100.0, strike, 0.5, strike < 100, 0.97)
    for forward, other, paid in ((1e201, 1e201, 1e200), (1e-201, 1e-201, 1e-202), (100.0, 100.0, 1e-299)):
        operands = (np.append(price, paid), np.append(np.full(200, 100.0), forward), np.append(strike, other), 0.5)
        beside, _ = black.implied_vol(*operands, np.append(strike < 100, True), 0.97)
        np.testing.assert_array_equal(beside[:200], alone)
    one = [black.implied_vol(p, 100.0, k, 0.5, k < 100, 0.97)[0] for p, k in zip(price, strike, strict=True)]
    np.testing.assert_array_equal(one, alone)


def test_numbers_of_all_sizes_have_vols_of_full_accuracy():
    rng = np.random.default_rng(16)
    n = 500
    forward = 10 ** rng.uniform(-300, 300, n)
    strike = np.clip(forward * np.exp(rng.normal(size=n) * 10 ** rng.uniform(-16, 2, n)), 1e-307, 1e307)
    tau, df, is_call = 10 ** rng.uniform(-200, 200, n), 10 ** rng.uniform(-300, 300, n), rng.random(n) < 0.5
    low = np.minimum(forward, strike)
    with np.errstate(over="ignore", under="ignore"):
        intrinsic = df * np.maximum(np.where(is_call, forward - strike, strike - forward), 0)
        price = intrinsic * (1 + EPS * rng.integers(0, 3, n)) + df * low * 10 ** rng.uniform(-20, 0, n)
    sound = np.isfinite(price) & (price > 1e-290)
    operands = [x[sound] for x in (price, forward, strike, tau, is_call, df)]
    got, status = black.implied_vol(*operands)
    assert set(np.unique(status).tolist()) <= {Status.OK, Status.NO_TIME_VALUE, Status.ABOVE_MAXIMUM}
    ok = (status == Status.OK) & (got > 1e-307)
    assert ok.mean() > 0.6
    assert worst_error(*[x[ok] for x in operands[:5]], got[ok], operands[5][ok]) <= 2


@pytest.mark.parametrize("size", [1e100, 0.77e150, 1e158, 1.23e160, 1e200, 1e300])
def test_the_cap_is_the_cap_however_far_the_strike(size):
    """From 2^1022 on a call worth the forward was taken for one without time value."""
    for forward, strike, is_call in ((size, 1 / size, True), (1 / size, size, False)):
        price = np.array([np.nextafter(size, 0), size, np.nextafter(size, np.inf)])
        status = black.implied_vol(price, forward, strike, 1.0, is_call)[1]
        assert status.tolist() == [Status.NO_TIME_VALUE, Status.ABOVE_MAXIMUM, Status.ABOVE_MAXIMUM]


def test_vols_below_the_smallest_number_are_none():
    vol, status = black.implied_vol(1e-200, 1e100, 1e100, 1e300)
    assert vol == 0
    assert status == Status.NO_TIME_VALUE


@pytest.mark.parametrize(("spread", "is_call"), [(0.5, True), (0.5, False), (5.0, True), (100.0, True), (1e-9, True)])
def test_normalised_prices(spread: float, is_call: bool):
    rng = np.random.default_rng(12)
    k = spread * rng.uniform(-1, 1, 200)
    total_vol = rng.uniform(0.05, 2, 200) * np.maximum(spread, 1e-9) ** 0.5
    worst = 0.0
    prices = []
    for a, s in zip(k.tolist(), total_vol.tolist(), strict=True):
        exact = black_exact(1.0, 1.0, 1.0, s, is_call) if a == 0 else normalised_exact(a, s, is_call)
        prices.append(float(exact))
    prices = np.array(prices)
    got, status = black.implied_total_vol(prices, k, is_call)
    assert set(status.tolist()) <= {Status.OK, Status.NO_TIME_VALUE, Status.ABOVE_MAXIMUM}
    assert (status == Status.OK).sum() >= 80
    for i in np.flatnonzero(status == Status.OK):
        a, s, p = (PRECISE.mpf(float(z)) for z in (k[i], got[i], prices[i]))
        vega = PRECISE.exp(-((a / s) ** 2 + s**2 / 4) / 2) / PRECISE.sqrt(2 * PRECISE.pi)
        value = normalised_exact(a, s, is_call)
        error, condition = (value - p) / (vega * s), p / (vega * s)
        if condition < 1e10:
            worst = max(worst, float(abs(error) / (EPS * (1 + condition))))
    assert worst <= 2


def normalised_exact(k, s, is_call):
    """Price over sqrt(F K)."""
    k, s = PRECISE.mpf(k), PRECISE.mpf(s)
    sign = 1 if is_call else -1
    d1 = -k / s + s / 2
    return sign * (PRECISE.exp(-k / 2) * PRECISE.ncdf(sign * d1) - PRECISE.exp(k / 2) * PRECISE.ncdf(sign * (d1 - s)))


@pytest.mark.parametrize("scale", [1e-300, 1e-285, 1e-200, 1e-100])
def test_normalised_prices_of_any_size(scale: float):
    # So close to the money only k/price counts: Bachelier's formula.
    k, price = np.array([3.0, 1.0, 0.1, 0.0]) * scale, np.array([1.0, 1.0, 1.0, 1.0]) * scale
    got, status = black.implied_total_vol(price, k)
    assert (status == Status.OK).all()
    unit, _ = black.implied_total_vol(np.ones(4) * 1e-50, k / scale * 1e-50)
    np.testing.assert_allclose(got / scale, unit / 1e-50, rtol=1e-15)
    assert got[3] == pytest.approx(np.sqrt(2 * np.pi) * scale, rel=1e-15)


@pytest.mark.parametrize(
    ("price", "k", "is_call", "expected"),
    [
        (0.0, 0.1, True, Status.NO_TIME_VALUE),
        (2 * np.sinh(0.5), -1.0, True, Status.NO_TIME_VALUE),
        (2 * np.sinh(0.5), 1.0, False, Status.NO_TIME_VALUE),
        (1.04, -1.0, True, Status.BELOW_INTRINSIC),
        (1.0, 0.0, True, Status.ABOVE_MAXIMUM),
        (np.exp(-0.5), 1.0, True, Status.ABOVE_MAXIMUM),
        (np.exp(0.5), 1.0, False, Status.ABOVE_MAXIMUM),
        (0.1, 1401.0, True, Status.INVALID_INPUT),
        (0.1, np.nan, True, Status.INVALID_INPUT),
        (np.nan, 0.0, True, Status.INVALID_INPUT),
        (np.inf, 0.0, True, Status.INVALID_INPUT),
        (-0.1, 0.0, True, Status.INVALID_INPUT),
        (0.5, 0.0, False, Status.OK),
    ],
)
def test_statuses_of_normalised_prices(price, k, is_call, expected):
    total_vol, status = black.implied_total_vol(price, k, is_call)
    assert Status(status) is expected
    assert (total_vol > 0) if expected is Status.OK else (total_vol == 0 or np.isnan(total_vol))
    assert np.isnan(total_vol) == (expected > Status.NO_TIME_VALUE)


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

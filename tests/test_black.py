"""Black-76 prices and greeks against mpmath, QuantLib and closed forms."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
import QuantLib as ql

from twins import PRECISE, black_exact
from volscen import black
from volscen.errors import InputError

GREEKS = (black.price, black.delta, black.gamma, black.vega, black.theta)


def options(n: int, seed: int = 0, spread: float = 0.5) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    forward = np.exp(rng.uniform(-3, 8, n))
    strike = forward * np.exp(rng.normal(0, spread, n))
    return (
        forward,
        strike,
        10 ** rng.uniform(-3, 1, n),
        rng.uniform(0.02, 1.5, n),
        rng.random(n) < 0.5,
        rng.uniform(0.7, 1.05, n),
    )


def test_price_matches_exact_arithmetic():
    args = options(300)
    got = black.price(*args)
    for i, row in enumerate(zip(*args, strict=True)):
        scale = min(row[0], row[1]) + float(got[i])
        assert abs(float(got[i] - black_exact(*map(float, row[:4]), bool(row[4]), float(row[5])))) < 1e-15 * scale


@pytest.mark.parametrize("spread", [3.0, 20.0])
def test_price_is_exact_far_from_the_money(spread: float):
    args = options(100, seed=1, spread=spread)
    got = black.price(*args)
    for i, row in enumerate(zip(*args, strict=True)):
        scale = min(row[0], row[1]) + float(got[i])
        assert abs(float(got[i] - black_exact(*map(float, row[:4]), bool(row[4]), float(row[5])))) < 1e-15 * scale


def test_price_matches_quantlib():
    args = options(500, seed=2)
    got = black.price(*args)
    for value, (f, k, t, v, call, df) in zip(got, zip(*args, strict=True), strict=True):
        kind = ql.Option.Call if call else ql.Option.Put
        expected = ql.blackFormula(kind, float(k), float(f), float(v * np.sqrt(t)), float(df))
        assert value == pytest.approx(expected, rel=1e-12, abs=1e-13 * f)


def test_greeks_match_derivatives_of_the_exact_price():
    f, k, t, v, call, df = options(60, seed=3)
    delta, gamma, vega, theta = (greek(f, k, t, v, call, df) for greek in GREEKS[1:])
    for i in range(f.size):
        args = [PRECISE.mpf(float(x[i])) for x in (f, k, t, v)]
        kind, discount = bool(call[i]), PRECISE.mpf(float(df[i]))
        rate = -PRECISE.log(discount) / args[2]

        def price(fwd, vol, tau, kind=kind, strike=args[1], rate=rate):
            return black_exact(fwd, strike, tau, vol, kind, PRECISE.exp(-rate * tau))

        fwd, vol, tau = args[0], args[3], args[2]
        expected = [
            PRECISE.diff(lambda x: price(x, vol, tau), fwd),  # noqa: B023
            PRECISE.diff(lambda x: price(x, vol, tau), fwd, 2),  # noqa: B023
            PRECISE.diff(lambda x: price(fwd, x, tau), vol),  # noqa: B023
            -PRECISE.diff(lambda x: price(fwd, vol, x), tau),  # noqa: B023
        ]
        scales = [1.0, float(abs(expected[1])) + 1e-40, float(fwd), float(abs(expected[3])) + float(fwd)]
        for got, want, scale in zip((delta[i], gamma[i], vega[i], theta[i]), expected, scales, strict=True):
            assert abs(float(got - want)) < 2e-12 * scale


def test_far_tails_of_the_greeks_keep_relative_accuracy():
    # N(d1) at d1 = -12 or so: 1 - N would leave nothing.
    got = black.delta(100.0, 100.0 * np.exp(1.2), 1.0, 0.1)
    with mp.workdps(40):
        s = mp.mpf(0.1)
        exact = mp.ncdf(mp.log(mp.mpf(100) / mp.mpf(float(100.0 * np.exp(1.2)))) / s + s / 2)
    assert got == pytest.approx(float(exact), rel=1e-13)


def test_put_call_parity():
    f, k, t, v, _, df = options(2000, seed=4, spread=1.0)
    calls, puts = black.price(f, k, t, v, True, df), black.price(f, k, t, v, False, df)
    np.testing.assert_allclose(calls - puts, df * (f - k), rtol=0, atol=4e-16 * (f + k).max())
    np.testing.assert_allclose(black.delta(f, k, t, v, True, df) - black.delta(f, k, t, v, False, df), df, rtol=1e-14)


def test_limits_without_time_or_vol():
    f, k = np.array([90.0, 100.0, 110.0]), 100.0
    for tau, vol in ((0.0, 0.2), (1.0, 0.0), (0.0, 0.0)):
        np.testing.assert_array_equal(black.price(f, k, tau, vol, True, 0.9), [0.0, 0.0, 9.0])
        np.testing.assert_array_equal(black.price(f, k, tau, vol, False, 0.9), [9.0, 0.0, 0.0])
        np.testing.assert_array_equal(black.delta(f, k, tau, vol), [0.0, 0.5, 1.0])
        np.testing.assert_array_equal(black.delta(f, k, tau, vol, False), [-1.0, -0.5, 0.0])
        np.testing.assert_array_equal(black.gamma(f, k, tau, vol), [0.0, np.inf, 0.0])
    np.testing.assert_allclose(black.vega(f, k, 4.0, 0.0), [0.0, 2 * 100 / np.sqrt(2 * np.pi), 0.0])
    np.testing.assert_array_equal(black.vega(f, k, 0.0, 0.2), [0.0, 0.0, 0.0])
    np.testing.assert_array_equal(black.theta(f, k, 0.0, 0.2), [0.0, -np.inf, 0.0])
    np.testing.assert_array_equal(black.theta(f, k, 1.0, 0.0), [0.0, 0.0, 0.0])
    assert np.isnan(black.theta(100.0, 100.0, 0.0, 0.2, True, 0.9))


def test_huge_vol_reaches_the_cap():
    np.testing.assert_array_equal(black.price([50.0, 200.0], 100.0, 1.0, 1e3, True), [50.0, 200.0])
    np.testing.assert_array_equal(black.price([50.0, 200.0], 100.0, 1e300, 1e300, False), [100.0, 100.0])


@pytest.mark.parametrize("function", GREEKS)
@pytest.mark.parametrize(
    "bad",
    [
        {"forward": 0.0},
        {"forward": -1.0},
        {"strike": 0.0},
        {"tau": -1e-9},
        {"implied_vol": -0.1},
        {"discount_factor": 0.0},
        *(
            {name: value}
            for name in ("forward", "strike", "tau", "implied_vol", "discount_factor")
            for value in (np.nan, np.inf, -np.inf)
        ),
    ],
)
def test_bad_elements_become_nan_and_leave_their_neighbours(function, bad):
    good = {"forward": 100.0, "strike": 90.0, "tau": 0.5, "implied_vol": 0.3, "discount_factor": 0.9}
    ((name, value),) = bad.items()
    column = np.array([good[name], value, good[name]])
    got = function(**{**good, name: column})
    assert np.isnan(got[1])
    assert got[0] == got[2] == function(**good)


def test_extreme_but_valid_input_gives_a_number():
    values = np.array([5e-324, 1e-310, 1e-3, 1.0, 100.0, 1e308])
    f, k, t, v, df = (x.ravel() for x in np.meshgrid(values, values, values, values, values))
    for kind in (True, False):
        for function in GREEKS[:4]:
            assert not np.isnan(function(f, k, t, v, kind, df)).any()


def test_broadcasting_strides_and_dtypes():
    f, k = np.array([90.0, 100.0, 110.0]), np.array([[80.0], [100.0]])
    table = black.price(f, k, 0.5, 0.2, [[True], [False]])
    assert table.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            assert table[i, j] == black.price(f[j], k[i, 0], 0.5, 0.2, i == 0)
    args = options(6 * 50 * 7, seed=5)
    straight = black.price(*args)
    cubes = [x.reshape(6, 50, 7) for x in args]
    strided = [np.asfortranarray(x)[::-1, ::3, ::2] for x in cubes]
    np.testing.assert_array_equal(black.price(*strided), straight.reshape(6, 50, 7)[::-1, ::3, ::2])
    np.testing.assert_array_equal(black.price(*(x[..., :0] for x in cubes)), np.empty((6, 50, 0)))
    bytes_ = np.zeros(8 * 50 + 1, np.uint8)
    odd = bytes_[1:].view(np.float64)
    odd[:] = args[0][:50]
    assert not odd.flags.aligned
    np.testing.assert_array_equal(black.price(odd, *(x[:50] for x in args[1:])), straight[:50])
    swapped = [x.astype(x.dtype.newbyteorder()) for x in args]
    np.testing.assert_array_equal(black.price(*swapped), straight)
    assert black.price(100, 100, 1, 1) == black.price(100.0, 100.0, 1.0, 1.0)
    assert isinstance(black.price(100.0, 100.0, 1.0, 0.2), np.float64)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_do_not_change_results(threads: int):
    args = options(70_001, seed=6)
    for function in GREEKS:
        np.testing.assert_array_equal(function(*args), function(*args, num_threads=threads))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forward": [1.0, 2.0], "strike": [1.0, 2.0, 3.0]}, "broadcast.*forward"),
        ({"is_call": "put"}, "is_call"),
        ({"is_call": 1}, "is_call"),
        ({"strike": "100"}, "strike"),
        ({"strike": None}, "strike"),
        ({"tau": [[1.0], [1.0, 2.0]]}, "tau"),
        ({"implied_vol": 0.2j}, "implied_vol"),
        ({"num_threads": 0}, "num_threads"),
        ({"num_threads": -1}, "num_threads"),
        ({"num_threads": 1.5}, "num_threads"),
        ({"num_threads": True}, "num_threads"),
    ],
)
def test_bad_arguments_are_named(change, message):
    good = {"forward": 100.0, "strike": 90.0, "tau": 0.5, "implied_vol": 0.3}
    for function in GREEKS:
        with pytest.raises(InputError, match=message):
            function(**{**good, **change})

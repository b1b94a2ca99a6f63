"""The revaluation kernel against a plain NumPy twin, high precision, closed forms, and what must not change it."""

from __future__ import annotations

import os
import subprocess
import sys

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import norm

import volscen
from twins import black_exact
from volscen import black, revaluation
from volscen.errors import InputError
from volscen.surface import interpolate_vol

TAU = np.array([30, 91, 182, 365, 730]) / 365
MONEYNESS = np.array([0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.4])
RULES = ("flat_vol", "flat_total_variance", "linear")


def scenarios(n, seed=0, spot0=4000.0, spread=0.02):
    rng = np.random.default_rng(seed)
    return np.exp(rng.normal(-1.5, 0.2, (n, TAU.size, MONEYNESS.size))), spot0 * np.exp(rng.normal(0, spread, n))


def contracts(m, seed=0, spot0=4000.0, spread=0.3, expiries=None):
    rng = np.random.default_rng([seed, 1])
    remaining = rng.uniform(0.01, 2.5, m) if expiries is None else rng.choice(expiries, m)
    return {
        "strike": spot0 * np.exp(rng.uniform(-spread, spread, m)),
        "remaining": remaining,
        "is_call": rng.random(m) < 0.5,
        "carry": np.exp(rng.uniform(-0.03, 0.05) * remaining),
        "discount_factor": np.exp(-rng.uniform(-0.01, 0.06) * remaining),
        "vol_offset": rng.normal(0, 0.01, m),
    }


def value(surfaces, spot, book, tau=TAU, moneyness=MONEYNESS, **options):
    return revaluation.price(surfaces, tau, moneyness, spot, **book, **options)


def twin_vol(surface, tau, moneyness, t, k, rule):
    """The rule with scalars: the slice by total variance, then the slice by log-moneyness."""
    w = surface**2 * tau[:, None]
    last = tau.size - 1
    if tau[0] < t < tau[-1]:
        node = np.array([np.interp(t, tau, w[:, i]) for i in range(moneyness.size)]) / t
    elif t <= tau[0] or last == 0 or rule == "flat_vol" or t == tau[-1]:
        end = 0 if t <= tau[0] else last
        node = surface[end] ** 2 * (tau[end] / t if rule == "flat_total_variance" else 1.0)
    elif rule == "flat_total_variance":
        node = w[-1] / t
    else:
        forward_variance = np.maximum(w[-1] - w[-2], 0) / (tau[-1] - tau[-2])
        node = (w[-1] + forward_variance * (t - tau[-1])) / t
    node, edge = np.sqrt(node), np.log(moneyness)
    if rule == "linear" and moneyness.size > 1 and not edge[0] <= k <= edge[-1]:
        outer, inner = (0, 1) if k < edge[0] else (-1, -2)
        out = abs(edge[outer] - edge[inner])
        # dw/dk of the last interval, at the edge, outwards.
        slope = np.clip(2 * t * node[outer] * (node[outer] - node[inner]) / out, 0, 2)
        return np.sqrt((node[outer] ** 2 * t + slope * abs(k - edge[outer])) / t)
    return np.interp(k, edge, node)


def twin(surfaces, spot, book, rule="flat_vol", floor=1e-3, tau=TAU, moneyness=MONEYNESS):
    """Price, delta and vega, element by element."""
    shape = (spot.size, book["strike"].size)
    price, delta, vega = np.empty(shape), np.empty(shape), np.empty(shape)
    for n, s in enumerate(spot):
        for m, (strike, t, call, carry, df, offset) in enumerate(zip(*book.values(), strict=True)):
            forward, sign = s * carry, 1 if call else -1
            vol = twin_vol(surfaces[n].astype(float), tau, moneyness, t, np.log(strike / forward), rule)
            total = max(vol + offset, floor) * np.sqrt(t)
            d1 = np.log(forward / strike) / total + total / 2
            price[n, m] = df * sign * (forward * ndtr(sign * d1) - strike * ndtr(sign * (d1 - total)))
            delta[n, m] = df * carry * sign * ndtr(sign * d1)
            vega[n, m] = df * forward * norm.pdf(d1) * np.sqrt(t)
    return price, delta, vega


# ------------------------------------------------------------------------------------------------- values
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("spread", [0.02, 0.4])  # the second crosses the whole grid, and both its ends
def test_agrees_with_the_twin(rule, spread):
    surfaces, spot = scenarios(70, spread=spread)
    book = contracts(60, spread=0.5)
    found = value(surfaces, spot, book, extrapolation=rule, greeks=True)
    price, delta, vega = twin(surfaces, spot, book, rule)
    np.testing.assert_allclose(found.price, price, rtol=0, atol=2e-14 * spot.max())
    np.testing.assert_allclose(found.delta, delta, rtol=0, atol=2e-14)
    np.testing.assert_allclose(found.vega, vega, rtol=0, atol=2e-14 * spot.max())


def test_agrees_with_high_precision():
    # Flat surfaces leave nothing but Black's formula, and the rounding of log-moneyness.
    rng = np.random.default_rng(3)
    spot = 5000 * np.exp(rng.normal(0, 0.1, 25))
    book = contracts(40, 3, spot0=5000, spread=0.4) | {"vol_offset": np.zeros(40)}
    level = rng.uniform(0.05, 0.8, 25)
    surfaces = np.broadcast_to(level[:, None, None], (25, 5, 10))
    found = value(surfaces, spot, book, greeks=True)
    with mp.workdps(40):
        for n in range(25):
            for m, (strike, t, call, carry, df, _) in enumerate(zip(*book.values(), strict=True)):
                forward = mp.mpf(spot[n]) * mp.mpf(carry)
                exact = black_exact(forward, strike, t, level[n], call, df)
                assert abs(found.price[n, m] - exact) <= 1e-15 * forward
                total = mp.mpf(level[n]) * mp.sqrt(t)
                d1 = mp.log(forward / mp.mpf(strike)) / total + total / 2
                delta = mp.mpf(df) * mp.mpf(carry) * (mp.ncdf(d1) if call else -mp.ncdf(-d1))
                assert abs(found.delta[n, m] - delta) <= 4e-15
                assert abs(found.vega[n, m] - mp.mpf(df) * forward * mp.npdf(d1) * mp.sqrt(t)) <= 4e-15 * forward


def test_deep_out_of_the_money_keeps_its_digits():
    spot, strike = np.array([100.0]), np.array([250.0, 30.0])
    book = {"strike": strike, "remaining": 0.1, "is_call": [True, False]}
    found = value(np.full((1, 1, 1), 0.2), spot, book, [1.0], [1.0]).price[0]
    exact = [float(black_exact(100, k, 0.1, 0.2, c)) for k, c in zip(strike, (True, False), strict=True)]
    assert 0 < exact[0] < 1e-30
    np.testing.assert_allclose(found, exact, rtol=1e-11)


@pytest.mark.parametrize("rule", RULES)
def test_the_vols_are_those_of_the_interpolation_bit_for_bit(rule):
    # The vega of an option and its price at interpolate_vol's vol say which vol the kernel used.
    surfaces, spot = scenarios(65, 4, spread=0.3)
    book = contracts(33, 4, spread=0.6) | {"vol_offset": np.zeros(33)}
    moneyness = book["strike"] / book["carry"] / spot[:, None]
    vol = interpolate_vol(surfaces, TAU, MONEYNESS, book["remaining"], moneyness, extrapolation=rule)
    forward = spot[:, None] * book["carry"]
    expected = black.price(forward, book["strike"], book["remaining"], vol, book["is_call"], book["discount_factor"])
    found = value(surfaces, spot, book, extrapolation=rule)
    np.testing.assert_allclose(found.price, expected, rtol=0, atol=4e-15 * spot.max())


def test_no_time_left_is_intrinsic_value():
    surfaces, spot = scenarios(20, spread=0.1)
    spot[0] = 4000
    book = {"strike": np.array([4000.0, 3800.0, 4000.0, 0.0]), "remaining": [0.0, -0.1, 0.0, 0.3]}
    book |= {"is_call": [True, False, False, True], "carry": [1.0, 1.02, 1.0, 1.1], "discount_factor": [1, 0.9, 1, 0.8]}
    found = value(surfaces, spot, book, greeks=True)
    np.testing.assert_array_equal(found.price[:, 0], np.maximum(spot - 4000, 0))
    np.testing.assert_allclose(found.price[:, 1], 0.9 * np.maximum(3800 - 1.02 * spot, 0), rtol=1e-15)
    np.testing.assert_allclose(found.price[:, 3], 0.8 * 1.1 * spot, rtol=1e-15)
    np.testing.assert_array_equal(found.delta[:, 0], np.where(spot == 4000, 0.5, spot > 4000))
    np.testing.assert_array_equal(found.delta[:, 2], -np.where(spot == 4000, 0.5, spot < 4000))
    np.testing.assert_allclose(found.delta[:, 1], -0.9 * 1.02 * (1.02 * spot < 3800))
    assert not found.vega.any()
    # An instant before, the value is nearly the same.
    before = value(surfaces, spot, book | {"remaining": [1e-12, 1e-12, 1e-12, 1e-12]})
    np.testing.assert_allclose(before.price, found.price, atol=1e-2)


def test_floor_is_counted_and_kept():
    surfaces = np.full((100, 5, 10), 0.2)
    surfaces[:37] = 0.1
    book = {"strike": np.full(3, 4000.0), "remaining": 0.5, "vol_offset": [0.0, -0.15, -0.3]}
    spot = np.full(100, 4000.0)
    found = value(surfaces, spot, book, vol_floor=0.01)
    np.testing.assert_array_equal(found.floored, [0, 37, 100])
    at_floor = black.price(4000.0, 4000.0, 0.5, 0.01)
    np.testing.assert_allclose(found.price[:37, 1], at_floor, rtol=1e-12)
    np.testing.assert_allclose(found.price[:, 2], at_floor, rtol=1e-12)


# ------------------------------------------------------------------------------------------ extrapolation
def test_extrapolation_by_hand():
    tau, moneyness = [1.0, 2.0], [1.0, np.e]
    surface = [[0.2, 0.1], [0.3, 0.2]]  # at moneyness 1: w = .04 and .18; at e: w = .01 and .08

    def vol(t, m, rule):
        return interpolate_vol(surface, tau, moneyness, t, m, extrapolation=rule)

    assert vol(0.25, 1.0, "flat_vol") == 0.2
    assert vol(8.0, 1.0, "flat_vol") == 0.3
    assert vol(0.25, 1.0, "flat_total_variance") == pytest.approx(np.sqrt(0.04 / 0.25), rel=1e-15)
    assert vol(8.0, 1.0, "flat_total_variance") == pytest.approx(np.sqrt(0.18 / 8), rel=1e-15)
    assert vol(0.25, 1.0, "linear") == 0.2
    assert vol(8.0, 1.0, "linear") == pytest.approx(np.sqrt((0.18 + 6 * 0.14) / 8), rel=1e-15)
    # At tau 1, dw/dk at the left edge is 2 x .2 x -.1: w rises by .04 for each unit to the left.
    assert vol(1.0, np.exp(-2.0), "linear") == pytest.approx(np.sqrt(0.04 + 2 * 0.04), rel=1e-14)
    # On the right total variance falls outwards, and stays where it is.
    assert vol(1.0, np.exp(3.0), "linear") == pytest.approx(0.1, rel=1e-15)
    for rule in ("flat_vol", "flat_total_variance"):
        assert vol(1.0, np.exp(-2.0), rule) == 0.2
        assert vol(1.0, np.exp(3.0), rule) == 0.1


def test_linear_total_variance_never_falls_in_time():
    inverted = [[0.5, 0.5], [0.2, 0.2]]  # w = .25, then .08
    far = interpolate_vol(inverted, [1.0, 2.0], [0.9, 1.1], [2.0, 5.0], 1.0, extrapolation="linear")
    np.testing.assert_allclose(far**2 * [2, 5], 0.08, rtol=1e-14)


def test_linear_wings_keep_lees_bound():
    steep = [[2.0, 0.2]]
    k = np.array([-3.0, -2.0])
    vol = interpolate_vol(steep, [1.0], [1.0, 1.1], 1.0, np.exp(k), extrapolation="linear")
    assert -np.diff(vol**2) / np.diff(k) == pytest.approx(2.0, rel=1e-12)


@given(t=st.floats(0.01, 5), m=st.floats(0.1, 8), seed=st.integers(0, 1000))
def test_linear_is_continuous_at_the_edges_and_agrees_inside(t, m, seed):
    surface = scenarios(1, seed)[0][0]
    inside = TAU[0] <= t <= TAU[-1] and MONEYNESS[0] <= m <= MONEYNESS[-1]
    vols = [interpolate_vol(surface, TAU, MONEYNESS, t, m, extrapolation=rule) for rule in RULES]
    if inside:
        assert vols[0] == vols[1] == vols[2]
    for rule, vol in zip(RULES, vols, strict=True):
        assert vol == pytest.approx(twin_vol(surface, TAU, MONEYNESS, t, np.log(m), rule), rel=1e-12)
        near = interpolate_vol(surface, TAU, MONEYNESS, t * (1 + 1e-9), m * (1 + 1e-9), extrapolation=rule)
        assert near == pytest.approx(vol, rel=1e-5)


# --------------------------------------------------------------------------------------------- properties
@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 140),
    m=st.integers(1, 20),
    rule=st.sampled_from(RULES),
    few=st.booleans(),
)
def test_parity_bounds_and_monotone(seed, n, m, rule, few):
    surfaces, spot = scenarios(n, seed, spread=0.2)
    book = contracts(m, seed, spread=0.7, expiries=[0.05, 0.5, 2.0] if few else None)
    calls = value(surfaces, spot, book | {"is_call": True}, extrapolation=rule, greeks=True)
    puts = value(surfaces, spot, book | {"is_call": False}, extrapolation=rule, greeks=True)
    forward = spot[:, None] * book["carry"]
    df = book["discount_factor"]
    scale = 2e-15 * np.maximum(forward, book["strike"])
    assert (np.abs(calls.price - puts.price - df * (forward - book["strike"])) <= scale).all()
    np.testing.assert_allclose(calls.delta - puts.delta, np.broadcast_to(df * book["carry"], (n, m)), rtol=4e-15)
    np.testing.assert_array_equal(calls.vega, puts.vega)
    assert (calls.price >= 0).all()
    assert (calls.price <= df * forward + scale).all()
    assert (puts.price >= 0).all()
    assert (puts.price <= df * book["strike"] + scale).all()
    assert (calls.delta >= 0).all()
    assert (calls.vega >= 0).all()
    higher = value(
        surfaces, spot, book | {"vol_offset": book["vol_offset"] + 0.05, "is_call": True}, extrapolation=rule
    )
    assert (higher.price >= calls.price - scale).all()


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), rule=st.sampled_from(RULES))
def test_greeks_are_the_slopes_of_the_price(seed, rule):
    surfaces, spot = scenarios(9, seed)
    surfaces[:] = surfaces[:, :1, :1]  # flat, so that a moved spot meets the same vol
    book = contracts(12, seed, expiries=[0.2, 0.9])
    found = value(surfaces, spot, book, extrapolation="flat_vol", greeks=True)
    h = 1e-5
    up, down = (value(surfaces, spot * (1 + e), book).price for e in (h, -h))
    np.testing.assert_allclose((up - down) / (2 * h * spot[:, None]), found.delta, atol=1e-6)
    up, down = (value(surfaces, spot, book | {"vol_offset": book["vol_offset"] + e}).price for e in (h, -h))
    np.testing.assert_allclose((up - down) / (2 * h), found.vega, atol=1e-3)


def same_bits(a, b):
    return all((x is None and y is None) or np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("options", [{}, {"greeks": True}, {"quantity": np.arange(600) - 250.0, "greeks": True}])
def test_threads_change_no_bit(rule, options):
    surfaces, spot = scenarios(333, 5, spread=0.1)
    book = contracts(600, 5)  # more than two tiles
    one = value(surfaces, spot, book, extrapolation=rule, **options)
    for threads in (2, 3, 7):
        assert same_bits(one, value(surfaces, spot, book, extrapolation=rule, num_threads=threads, **options))


@pytest.mark.parametrize("rule", RULES)
def test_a_value_depends_on_its_own_scenario_and_contract_alone(rule):
    surfaces, spot = scenarios(200, 6, spread=0.3)
    book = contracts(300, 6, spread=0.6)
    whole = value(surfaces, spot, book, extrapolation=rule, greeks=True)
    rng = np.random.default_rng(0)
    for size, count in ((1, 1), (3, 7), (64, 17), (150, 290)):
        rows, columns = rng.permutation(200)[:size], rng.permutation(300)[:count]
        part = value(
            surfaces[rows], spot[rows], {k: v[columns] for k, v in book.items()}, extrapolation=rule, greeks=True
        )
        for x, y in zip(part[:3], whole[:3], strict=True):
            np.testing.assert_array_equal(x, y[np.ix_(rows, columns)])


def test_sums_are_taken_in_order():
    surfaces, spot = scenarios(90, 7)
    book = contracts(520, 7)
    quantity = np.random.default_rng(1).normal(0, 10, 520)
    one, total = (value(surfaces, spot, book, greeks=True, quantity=q) for q in (None, quantity))
    for single, summed in zip(one[:3], total[:3], strict=True):
        expected = np.zeros(90)
        for column in range(520):
            expected += quantity[column] * single[:, column]
        np.testing.assert_array_equal(summed, expected)


def test_strides_and_types():
    surfaces, spot = scenarios(40, 8)
    book = contracts(20, 8)
    whole = value(surfaces, spot, book).price
    cube = np.zeros((40, 3, TAU.size, MONEYNESS.size))
    cube[:, 1] = surfaces
    np.testing.assert_array_equal(value(cube[:, 1], spot, book).price, whole)
    fortran = np.asfortranarray(surfaces)
    np.testing.assert_array_equal(value(fortran, spot, book).price, whole)
    backwards = surfaces[::-1, :, ::-1].copy()[::-1, :, ::-1]
    np.testing.assert_array_equal(value(backwards, np.repeat(spot, 2)[::2], book).price, whole)
    single = surfaces.astype(np.float32)
    np.testing.assert_array_equal(value(single, spot, book).price, value(single.astype(float), spot, book).price)
    np.testing.assert_array_equal(
        value(single[:, :, ::2].copy(), spot, book, moneyness=MONEYNESS[::2]).price,
        value(single[:, :, ::2], spot, book, moneyness=MONEYNESS[::2]).price,
    )
    flat = value(np.full((40, 5, 10), 1), spot, book).price  # integers
    np.testing.assert_array_equal(flat, value(np.ones((40, 5, 10)), spot, book).price)


def test_small_grids_and_empty_operands():
    surfaces, spot = scenarios(30, 9)
    book = contracts(20, 9)
    for rule in RULES:
        for rows, columns in ((1, 10), (5, 1), (1, 1), (2, 2)):
            part, tau, moneyness = surfaces[:, :rows, :columns], TAU[:rows], MONEYNESS[:columns]
            found = value(part, spot, book, tau, moneyness, extrapolation=rule)
            expected = twin(part, spot, book, rule, tau=tau, moneyness=moneyness)[0]
            np.testing.assert_allclose(found.price, expected, rtol=0, atol=2e-14 * spot.max())
    empty = {"strike": np.empty(0), "remaining": 0.5}
    assert value(surfaces, spot, empty).price.shape == (30, 0)
    assert value(surfaces[:0], spot[:0], book).price.shape == (0, 20)
    total = value(surfaces, spot, empty, quantity=np.empty(0), greeks=True)
    np.testing.assert_array_equal(total.price, np.zeros(30))
    assert total.delta.shape == (30,)
    assert total.floored.size == 0


@pytest.mark.parametrize("rule", RULES)
def test_extremes_are_numbers(rule):
    # Vanishing and absurd vols, no variance at the money, moneyness with one logarithm, the ends of the range.
    surfaces = np.array([1e-300, 0.2, 1e50, 9e99])[:, None, None] * np.ones((4, 2, 3))
    surfaces[3, :, 1] = 1e-300
    moneyness = np.array([1e150, np.nextafter(1e150, np.inf), 2e150])
    spot = np.array([1.0, 5e-324, 1e150, 1e300])
    strike = np.array([1.0, 1e150, 1.5e150, 5e-324, 1e308, 0.0])
    for remaining in (5e-324, 1e-9, 1.0, 1e300):
        book = {"strike": strike, "remaining": remaining, "carry": 1e-5, "discount_factor": 1e3}
        for call in (True, False):
            found = value(
                surfaces,
                spot,
                book | {"is_call": call},
                [0.1, 0.2],
                moneyness,
                extrapolation=rule,
                vol_floor=5e-324,
                greeks=True,
            )
            assert not np.isnan(found.price).any()
            assert (found.price >= 0).all()
            assert not np.isnan(found.delta).any()
            assert (found.vega >= 0).all()
    at = value(surfaces[:1], spot[:1], {"strike": [1.0], "remaining": 1.0}, [0.1, 0.2], moneyness, vol_floor=5e-324)
    assert at.price.item() == pytest.approx(0, abs=1e-300)


def test_spots_that_differ_by_roundings():
    surfaces, _ = scenarios(100)
    spot = np.full(100, 4000.0)
    spot[1::2] = np.nextafter(4000.0, 5000.0)
    book = contracts(40)
    np.testing.assert_array_equal(value(surfaces, spot, book).price[:10], value(surfaces[:10], spot[:10], book).price)


DIGEST = """
import hashlib
import sys
sys.path.insert(0, {tests!r})
from test_revalue import RULES, contracts, scenarios, value
from volscen import _core
surfaces, spot = scenarios(203, 10, spread=0.3)
book = contracts(301, 10, spread=0.6)
book["remaining"][:3] = 0
for rule in RULES:
    for data in (surfaces, surfaces.astype("f4")):
        found = value(data, spot, book, extrapolation=rule, greeks=True, num_threads=2)
        print(hashlib.sha256(b"".join(x.tobytes() for x in found)).hexdigest())
        print(hashlib.sha256(value(data, spot, book, quantity=book["strike"]).price.tobytes()).hexdigest())
print(_core.simd_level())
"""


def test_every_instruction_set_gives_the_same_bits():
    outputs = {}
    for level in ("baseline", "avx2", "avx512"):
        done = subprocess.run(
            [sys.executable, "-c", DIGEST.format(tests=os.path.dirname(__file__))],
            capture_output=True,
            text=True,
            env=os.environ | {"VOLSCEN_SIMD": level},
        )
        if done.returncode != 0:
            assert "this processor has no such instructions" in done.stderr
            continue
        *lines, used = done.stdout.split()
        assert used == level
        assert len(lines) == 12
        outputs[level] = lines
    assert len({tuple(lines) for lines in outputs.values()}) == 1


# ------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"implied_vol": np.full((3, 5, 10), np.nan)}, r"implied_vol.*150 are not, the first at \[0, 0, 0\] \(nan\)"),
        ({"implied_vol": np.zeros((3, 5, 10))}, "implied_vol must hold positive"),
        ({"implied_vol": np.full((3, 5, 10), np.inf)}, "implied_vol must hold positive"),
        ({"implied_vol": np.ones((3, 10, 5))}, "tau, moneyness"),
        ({"implied_vol": np.ones((5, 10))}, "scenario, tau, moneyness"),
        ({"implied_vol": np.ones((3, 5, 10), dtype=complex)}, "implied_vol must be real"),
        ({"tau": TAU[::-1]}, "tau must be finite, positive and strictly increasing"),
        ({"moneyness": np.zeros(10)}, "moneyness must be"),
        ({"spot": [100.0, 100.0]}, "spot must give one number for each of the 3 surfaces"),
        ({"spot": [100.0, np.nan, 100.0]}, "spot must be positive and finite; 1 of its 3"),
        ({"spot": [100.0, 0.0, 100.0]}, "spot must be positive"),
        ({"strike": 100.0}, "strike must have one dimension"),
        ({"strike": [100.0, -1.0]}, "strike must be finite and not negative"),
        ({"strike": [100.0, np.inf]}, "strike must be finite"),
        ({"remaining": [0.5, np.nan]}, "remaining must be finite"),
        ({"remaining": [0.5, 0.5, 0.5]}, "remaining must give one number for each of the 2 strikes"),
        ({"is_call": "put"}, "is_call"),
        ({"carry": 0.0}, "carry must be positive"),
        ({"discount_factor": [1.0, -1.0]}, "discount_factor must be positive"),
        ({"vol_offset": np.nan}, "vol_offset must be finite"),
        ({"quantity": [1.0, np.inf]}, "quantity must be finite"),
        ({"quantity": [1.0]}, "quantity must give one number"),
        ({"vol_floor": 0.0}, "vol_floor must be positive"),
        ({"vol_floor": [0.1, 0.1]}, "vol_floor must be one number"),
        ({"extrapolation": "cubic"}, "extrapolation must be one of flat_vol, flat_total_variance, linear, not 'cubic'"),
        ({"extrapolation": 1}, "extrapolation must be one of"),
        ({"num_threads": 0}, "num_threads"),
    ],
)
def test_bad_input(change, message):
    arguments = {
        "implied_vol": np.full((3, 5, 10), 0.2),
        "tau": TAU,
        "moneyness": MONEYNESS,
        "spot": [99.0, 100.0, 101.0],
        "strike": [100.0, 110.0],
        "remaining": 0.5,
    } | change
    with pytest.raises(InputError, match=message):
        revaluation.price(**arguments)


def test_the_module_refuses_what_it_cannot_read():
    a, s = np.ones(2), np.ones((2, 1, 1))
    good = [s, a[:1], a[:1], a, a, a, a > 0, a, a, a, np.empty(0), 1e-3, 0, (np.empty((2, 2)),), 1]
    volscen._core.revalue(*good)
    for place, wrong in (
        (0, s.astype(int)),
        (0, s[0]),
        (3, a[:1]),
        (4, a[:1]),
        (7, a[:1]),
        (10, a[:1]),
        (12, 3),
        (13, ()),
        (13, (np.empty(2),)),
        (13, (np.empty((2, 2), dtype="f4"),)),
        (13, (np.empty((2, 4))[:, ::2],)),
        (14, 0),
    ):
        with pytest.raises((ValueError, TypeError)):
            volscen._core.revalue(*good[:place], wrong, *good[place + 1 :])
    frozen = np.empty((2, 2))
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        volscen._core.revalue(*good[:13], (frozen,), 1)

"""Forwards, cash, variance swaps and the volatility index; structures; all greeks: independent references."""

from __future__ import annotations

import typing
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import QuantLib as ql
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

import volscen
from scenario_toys import MONEYNESS, TAU, make_scenarios, skewed_surface
from volscen import Cash, Forward, Option, Portfolio, Underlying, VarianceSwap, VixPayoff
from volscen.errors import InputError
from volscen.portfolio import RevaluationWarning, resolve, revalue
from volscen.portfolio._fair_variance import fair_vol
from volscen.surface import interpolate_vol
from volscen.surface._strip import smile_variance


def strip_vol(surface, tau, moneyness, t):
    """Fair volatility by the strip of out-of-the-money options itself, each priced by QuantLib."""

    def option(k):
        vol = float(interpolate_vol(surface, tau, moneyness, t, np.exp(k)))
        kind = ql.Option.Call if k > 0 else ql.Option.Put
        return ql.blackFormula(kind, float(np.exp(k)), 1.0, vol * np.sqrt(t)) * np.exp(-k)

    edges = np.unique(np.r_[-3.0, np.log(moneyness), 0.0, 3.0])
    total = sum(quad(option, a, b, epsabs=1e-13, limit=200)[0] for a, b in pairwise(edges))
    return np.sqrt(2 * total / t)


# ------------------------------------------------------------------------------------------ fair variance
@pytest.mark.parametrize("t", [0.05, 0.25, 1.0])
def test_fair_variance_is_that_of_the_strip(t):
    surface = skewed_surface(level=0.25, skew=-0.3, curvature=0.4)
    assert fair_vol(surface[None], TAU, MONEYNESS, t)[0] == pytest.approx(
        strip_vol(surface, TAU, MONEYNESS, t), rel=1e-9
    )


def test_fair_variance_of_coarse_and_calm_surfaces():
    # 10% volatility for a week against strikes 10% apart: the strip is narrower than the grid.
    surface = skewed_surface(level=0.1, skew=-0.1)
    t = 7 / 365
    assert fair_vol(surface[None], TAU, MONEYNESS, t)[0] == pytest.approx(
        strip_vol(surface, TAU, MONEYNESS, t), rel=1e-7
    )


def test_fair_variance_is_that_of_the_index_s_strip_with_wide_wings():
    """Two integrals, one by parts and one of prices, over the same smile."""
    surface = skewed_surface()
    variance, _ = smile_variance(surface[1:2], np.log(MONEYNESS), TAU[1], wing=7.0)
    assert fair_vol(surface[None], TAU, MONEYNESS, TAU[1])[0] == pytest.approx(np.sqrt(variance[0]), rel=1e-9)


@given(level=st.floats(0.05, 1.5), t=st.floats(0.01, 2.0))
def test_fair_variance_of_a_flat_smile_is_its_variance(level, t):
    assert fair_vol(np.full((1, 4, 7), level), TAU, MONEYNESS, t)[0] == pytest.approx(level, rel=1e-10)


# --------------------------------------------------------------------------------------- forwards and cash
def test_forward_is_a_call_less_a_put():
    ds = make_scenarios(40, steps=2, seed=3, rate=0.05, dividend=0.02)
    forward = Forward(strike=103, tau=0.4)
    legs = revalue(ds, [Option("call", strike=103, tau=0.4), Option("put", strike=103, tau=0.4)], greeks=True)
    out = revalue(ds, [forward, Forward(moneyness=1, tau=0.4)], greeks=True)
    for name in ("value", "scenario_delta"):
        np.testing.assert_allclose(out[name][..., 0], legs[name][..., 0] - legs[name][..., 1], rtol=1e-9, atol=1e-9)
    for name in ("value0", "delta", "theta"):
        assert out[name][0] == pytest.approx(float(legs[name][0] - legs[name][1]), rel=1e-9)
    assert out.value0[1] == pytest.approx(0, abs=1e-12)
    assert not out.extrapolated.any()
    np.testing.assert_array_equal(out[["gamma", "vega", "vanna", "volga"]].to_array(), 0)
    np.testing.assert_array_equal(out.scenario_vega, 0)


def test_forward_settles_and_its_payment_earns_interest():
    ds = make_scenarios(20, steps=3, seed=3, rate=0.05, dividend=0.02)  # Thursday, Friday, Monday
    out = revalue(ds, [Forward(strike=99, expiry="2024-01-12"), Cash()], greeks=True)
    paid = ds.spot.values[:, 1] - 99
    np.testing.assert_allclose(out.value[:, 1, 0], paid, rtol=1e-14)
    np.testing.assert_allclose(out.value[:, 2, 0], paid * np.exp(0.05 * 3 / 365), rtol=1e-13)
    np.testing.assert_array_equal(out.scenario_delta[:, :, 0][:, 1:], [[1, 0]] * 20)
    np.testing.assert_allclose(out.value[0, :, 1], np.exp(0.05 * np.array([1, 2, 5]) / 365), rtol=1e-14)
    assert out.theta[1] == pytest.approx(0.05)


def test_what_an_option_paid_is_carried_as_cash():
    ds = make_scenarios(50, steps=3, seed=9, volatility=0.6, rate=0.1)
    out = revalue(ds, [Option("call", strike=100, expiry="2024-01-11")])
    paid = np.maximum(ds.spot.values[:, 0] - 100, 0)
    growth = np.exp(0.1 * np.array([0, 1, 4]) / 365)
    np.testing.assert_allclose(out.value[:, :, 0], paid[:, None] * growth, rtol=1e-13)


# ------------------------------------------------------------------------------------------ variance swaps
def test_variance_swap_by_hand():
    """A fifth of the term gone at 30%: accrued, then the path's returns, then the strip of the scenario's surface."""
    ds = make_scenarios(6, steps=3, seed=2, rate=0.04)
    swap = VarianceSwap(tau=0.4, strike_vol=0.22, accrued_variance=0.09, elapsed_years=0.1)
    new = VarianceSwap(tau=0.4)
    out = revalue(ds, [swap, new], greeks=True)
    fair0 = strip_vol(skewed_surface(), TAU, MONEYNESS, 0.4)
    assert out.contract_vol[0] == pytest.approx(fair0, rel=1e-9)
    expected = np.exp(-0.04 * 0.4) * ((0.09 * 0.1 + fair0**2 * 0.4) / 0.5 - 0.22**2)
    assert out.value0[0] == pytest.approx(expected, rel=1e-9)
    assert out.value0[1] == pytest.approx(0, abs=1e-15)
    for scenario, step in ((0, 0), (5, 2)):
        left = 0.4 - [1, 2, 5][step] / 365
        fair = strip_vol(ds.implied_vol.values[scenario, step], TAU, MONEYNESS, left)
        realised = 0.009 + np.sum(ds.log_return.values[scenario, : step + 1] ** 2)
        value = np.exp(-0.04 * left) * ((realised + fair**2 * left) / 0.5 - 0.22**2)
        assert out.value[scenario, step, 0] == pytest.approx(value, rel=1e-8)
        assert out.scenario_vega[scenario, step, 0] == pytest.approx(
            np.exp(-0.04 * left) * 2 * fair * left / 0.5, rel=1e-8
        )
    book = Portfolio([(swap, 3.0), (new, -2.0), (Option("put", moneyness=0.9, tau=0.3), 1.0)])
    total = volscen.portfolio.pnl(ds, book, lines=False).total
    np.testing.assert_allclose(volscen.portfolio.pnl(ds, book).total, total, rtol=1e-10, atol=1e-12)


def test_variance_swap_settles_on_what_was_realised():
    ds = make_scenarios(5, steps=3, seed=2, rate=0.04)
    swap = VarianceSwap(expiry="2024-01-12", strike_vol=0.2)  # the second step
    out = revalue(ds, [swap])
    realised = np.sum(ds.log_return.values[:, :2] ** 2, axis=1) / (2 / 365)
    np.testing.assert_allclose(out.value[:, 1, 0], realised - 0.04, rtol=1e-12)
    np.testing.assert_allclose(out.value[:, 2, 0], (realised - 0.04) * np.exp(0.04 * 3 / 365), rtol=1e-12)


def test_own_volatility_of_a_variance_swap_moves_with_the_surface():
    surface0 = np.full((4, 7), 0.2)
    moved = np.full((1, 1, 4, 7), 0.23)
    ds = make_scenarios(1, surface0=surface0, implied_vol=moved, log_return=np.zeros((1, 1)))
    out = revalue(ds, [VarianceSwap(tau=0.5, strike_vol=0.2, implied_vol=0.26)], elapsed_days=0)
    assert out.value0.item() == pytest.approx(0.26**2 - 0.04)
    assert out.value.item() == pytest.approx(0.29**2 - 0.04)
    low = make_scenarios(1, surface0=surface0 + 0.2, implied_vol=moved, log_return=np.zeros((1, 1)))
    with pytest.warns(RevaluationWarning, match=r"variance swap K=0.2 182.5d \(1\)"):
        revalue(low, [VarianceSwap(tau=0.5, strike_vol=0.2, implied_vol=0.1)], elapsed_days=0)


def test_variance_needs_every_return():
    ds = make_scenarios(3, steps=3)
    with pytest.raises(InputError, match="all steps from the first"):
        revalue(ds.isel(step=[2]), [VarianceSwap(tau=0.5)])
    revalue(ds.isel(step=[0, 1]), [VarianceSwap(tau=0.5)])


# --------------------------------------------------------------------------------------- volatility index
def test_payoffs_on_the_volatility_index():
    ds = make_scenarios(30, seed=6)
    out = revalue(ds, [VixPayoff(), VixPayoff("call", strike=20), VixPayoff("put", strike=20)], greeks=True)
    assert out.value0[0] == pytest.approx(100 * strip_vol(skewed_surface(), TAU, MONEYNESS, 30 / 365), rel=1e-7)
    level = 100 * strip_vol(ds.implied_vol.values[11, 0], TAU, MONEYNESS, 30 / 365)
    assert out.value[11, 0, 0] == pytest.approx(level, rel=1e-7)
    np.testing.assert_allclose(out.value[..., 1] - out.value[..., 2], out.value[..., 0] - 20, rtol=1e-12)
    assert bool((out.value[..., 1:] >= 0).all())
    np.testing.assert_array_equal(out.scenario_vega[..., 1], np.where(out.value[..., 1] > 0, 100, 0))
    np.testing.assert_array_equal(out.scenario_vega[..., 2], np.where(out.value[..., 2] > 0, -100, 0))
    np.testing.assert_allclose(out.value[..., 0], volscen.vix(ds), rtol=1e-13)
    assert not out.extrapolated.any()
    short = ds.isel(tau=slice(1, None))
    assert revalue(short, [VixPayoff()]).extrapolated.all()


# ------------------------------------------------------------------------------------------------- greeks
INSTRUMENTS = [
    Option("call", strike=96, tau=0.31, implied_vol=0.27),
    Option("put", strike=96, tau=0.31),
    Option("put", moneyness=0.8, tau=0.05),
    Option("call", moneyness=1.1, tau=1.4),
    Forward(strike=95, tau=0.4),
    VarianceSwap(tau=0.3, strike_vol=0.18, accrued_variance=0.05, elapsed_years=0.2),
    Underlying(),
]


@pytest.fixture
def curved():
    """Curves with a different slope in every segment."""
    ds = make_scenarios(1, log_return=np.zeros((1, 1)), implied_vol=skewed_surface()[None, None])
    ds["discount_factor0"][:] = np.exp(-np.array([0.01, 0.02, 0.035, 0.05]) * TAU)
    ds["forward0"][:] = 100 * np.exp(np.array([0.03, -0.01, 0.01, 0.02]) * TAU)
    return ds


def bumped(ds, spot=0.0, vol=0.0, days=0.0):
    """Values with the spot and every volatility moved, volatility following the contract, after some days."""
    fixed = [resolve(i, ds) for i in INSTRUMENTS]
    flat = np.full((1, 1, 4, 7), 0.3 + vol)  # flat before and after: the contract's own volatility moves by vol
    moved = make_scenarios(
        1, surface0=np.full((4, 7), 0.3), implied_vol=flat, log_return=np.full((1, 1), np.log1p(spot))
    )
    for name in ("forward0", "discount_factor0"):
        moved[name] = ds[name]
    return revalue(moved, fixed, elapsed_days=days).value.values[0, 0]


def test_greeks_are_the_derivatives_of_the_values(curved):
    out = revalue(curved, INSTRUMENTS)
    h, v = 1e-3, 1e-4  # a spot of 100 moves by .1
    base, up, down = bumped(curved), bumped(curved, spot=h), bumped(curved, spot=-h)
    np.testing.assert_allclose(out.delta, (up - down) / (2 * 100 * h), rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(out.gamma, (up - 2 * base + down) / (100 * h) ** 2, rtol=2e-3, atol=1e-7)
    high, low = bumped(curved, vol=v), bumped(curved, vol=-v)
    np.testing.assert_allclose(out.vega, (high - low) / (2 * v), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(out.volga, (high - 2 * base + low) / v**2, rtol=1e-3, atol=1e-4)
    cross = bumped(curved, h, v) - bumped(curved, h, -v) - bumped(curved, -h, v) + bumped(curved, -h, -v)
    np.testing.assert_allclose(out.vanna, cross / (4 * 100 * h * v), rtol=1e-3, atol=1e-5)
    day = 1e-2
    np.testing.assert_allclose(out.theta, (bumped(curved, days=day) - base) / (day / 365), rtol=2e-3, atol=1e-5)


def test_theta_at_a_knot_of_the_curves(curved):
    """Time only runs down: the slope below the knot counts."""
    option = Option("call", strike=101, tau=float(TAU[1]), implied_vol=0.25)
    before = revalue(curved, [option])
    flat = np.full((4, 7), 0.3)
    still = make_scenarios(1, surface0=flat, implied_vol=flat[None, None], log_return=np.zeros((1, 1)))
    still = still.assign(forward0=curved.forward0, discount_factor0=curved.discount_factor0)
    later = revalue(still, [option], elapsed_days=1e-2).value.item()
    assert float(before.theta[0]) == pytest.approx((later - float(before.value0[0])) / (1e-2 / 365), rel=1e-3)


def test_greeks_against_quantlib():
    ds = make_scenarios(1, rate=0.04, dividend=0.015)
    option = Option("put", strike=97, tau=0.5, implied_vol=0.24)
    out = revalue(ds, [option])
    forward, discount = 100 * np.exp(0.025 * 0.5), np.exp(-0.04 * 0.5)
    black = ql.BlackCalculator(ql.PlainVanillaPayoff(ql.Option.Put, 97.0), forward, 0.24 * np.sqrt(0.5), discount)
    for name, expected in (
        ("value0", black.value()),
        ("delta", black.delta(100.0)),
        ("gamma", black.gamma(100.0)),
        ("vega", black.vega(0.5)),
        ("theta", black.theta(100.0, 0.5)),
    ):
        assert out[name].item() == pytest.approx(expected, rel=1e-10), name


# ------------------------------------------------------------------------------------------- bad instruments
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Forward(tau=1), "a forward needs exactly one of strike"),
        (lambda: Forward(strike=1), "a forward needs exactly one of expiry"),
        (lambda: Forward(strike=np.nan, tau=1), "strike must be finite"),
        (lambda: VarianceSwap(), "exactly one of expiry, tau"),
        (lambda: VarianceSwap(tau=1, strike_vol=-0.2), "strike_vol must be positive"),
        (lambda: VarianceSwap(tau=1, elapsed_years=-1), "elapsed_years must not be negative"),
        (lambda: VarianceSwap(tau=1, accrued_variance=0.04), "needs elapsed_years"),
        (lambda: VarianceSwap(tau=1, accrued_variance=np.nan, elapsed_years=1), "accrued_variance must be finite"),
        (lambda: VixPayoff("future"), "option_type"),
        (lambda: VixPayoff("call"), "needs strike"),
        (lambda: VixPayoff(strike=20), "none for the index"),
        (lambda: VixPayoff("put", strike=0), "strike must be positive"),
    ],
)
def test_bad_instruments(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_resolve_others():
    ds = make_scenarios(2, rate=0.03)
    found = resolve(Forward(moneyness=1.1, expiry="2024-05-10"), ds)
    assert found.strike == pytest.approx(110 * np.exp(0.03 * 121 / 365), rel=1e-14)
    assert (found.moneyness, found.expiry, found.tau) == (None, None, 121 / 365)
    swap = resolve(VarianceSwap(tau=0.5), ds)
    assert swap.strike_vol == pytest.approx(swap.implied_vol, rel=1e-14)
    assert resolve(Cash(), ds) == Cash()
    with pytest.raises(InputError, match="forward K=1 2024-01-01 has expired"):
        resolve(Forward(strike=1, expiry="2024-01-01"), ds)


# --------------------------------------------------------------------------------------------- structures
def test_structures():
    legs = [(i.option_type, i.moneyness, q) for i, q in Portfolio.strangle(0.9, 1.1, tau=0.5, quantity=2).positions]
    assert legs == [("put", 0.9, 2), ("call", 1.1, 2)]
    legs = [
        (i.option_type, i.strike, i.implied_vol, q)
        for i, q in Portfolio.risk_reversal(90, 110, by="strike", tau=0.5, implied_vol=(0.3, 0.2)).positions
    ]
    assert legs == [("call", 110, 0.2, 1), ("put", 90, 0.3, -1)]
    legs = [
        (i.option_type, i.delta, q)
        for i, q in Portfolio.butterfly(0.75, 0.5, 0.25, by="delta", expiry="2024-06-21", quantity=-1).positions
    ]
    assert legs == [("call", 0.75, -1), ("call", 0.5, 2), ("call", 0.25, -1)]
    assert len(Portfolio.butterfly(-0.1, -0.3, -0.5, by="delta", option_type="put", tau=1)) == 3
    legs = [
        (i.tau, i.implied_vol, q)
        for i, q in Portfolio.calendar(0.1, 0.5, moneyness=1, implied_vol=(0.3, 0.2)).positions
    ]
    assert legs == [(0.5, 0.2, 1), (0.1, 0.3, -1)]
    for near, far in (("2024-03-15", "2024-06-21"), (20240315, 20240621)):
        dates = [str(i.expiry) for i in Portfolio.calendar(near, far, strike=100).instruments]
        assert dates == ["2024-06-21", "2024-03-15"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Portfolio.strangle(1.1, 0.9, tau=1), "strikes of a strangle must rise"),
        (lambda: Portfolio.strangle(-0.6, 0.5, by="delta", tau=1), "strikes of a strangle must rise"),
        (lambda: Portfolio.strangle(0.9, np.nan, tau=1), "a strike of the strangle must be finite"),
        (lambda: Portfolio.strangle(0.9, 1.1, by="price", tau=1), "by must be one of"),
        (lambda: Portfolio.strangle(0.9, 1.1, tau=1, implied_vol=(0.2,)), "implied_vol of a strangle must give 2"),
        (lambda: Portfolio.strangle(0.9, 1.1), "exactly one of expiry"),
        (lambda: Portfolio.strangle(0.9, 1.1, years=1), "strangle: .*years"),
        (lambda: Portfolio.risk_reversal(0.9, 1.1, tau=1, quantity="x"), "quantity of the risk_reversal"),
        (lambda: Portfolio.butterfly(0.25, 0.5, 0.75, by="delta", tau=1), "strikes of a butterfly must rise"),
        (lambda: Portfolio.butterfly(0.9, 1, 1.1, option_type="both", tau=1), "option_type"),
        (lambda: Portfolio.calendar(0.5, 0.1, moneyness=1), "near must come before far"),
        (lambda: Portfolio.calendar(0.1, 0.1, moneyness=1), "near must come before far"),
        (lambda: Portfolio.calendar(0.1, np.inf, moneyness=1), "far must be finite"),
        (lambda: Portfolio.calendar(0.1, 0.5), "exactly one of strike"),
        (lambda: Portfolio([Underlying()], groups="a"), "one label for each of the 1"),
        (lambda: Portfolio([Underlying()], groups=["a", "b"]), "one label for each of the 1"),
    ],
)
def test_bad_structures(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_tenors(tmp_path):
    assert Option("call", strike=100, tau="3M") == Option("call", strike=100, tau=0.25)
    assert Forward(strike=1, tau="2w").tau == 14 / 365
    for instrument in (Option, Forward, VarianceSwap):  # a type checker takes what the constructor takes
        assert str in typing.get_args(typing.get_type_hints(instrument)["tau"])
    assert VarianceSwap(tau="1Y6M").tau == 1.5
    assert [i.tau for i in Portfolio.calendar("1M", "1Y", strike=100).instruments] == [1.0, 1 / 12]
    (tmp_path / "book.csv").write_text("type,quantity,strike,tau\ncall,1,90,3M\nput,1,90,0.25\n")
    assert [i.tau for i in Portfolio.from_table(tmp_path / "book.csv").instruments] == [0.25, 0.25]
    with pytest.raises(InputError, match="tenors such as"):
        Option("call", strike=1, tau="soon")
    with pytest.raises(InputError, match="tau must be finite"):
        Option("call", strike=1, tau="nan")


@settings(max_examples=20)
@given(low=st.floats(0.8, 0.97), high=st.floats(1.03, 1.2), tau=st.floats(0.05, 0.9))
def test_structures_are_worth_their_legs(low, high, tau):
    ds = make_scenarios(3, seed=1)
    quote = {m: revalue(ds, [Option("call", moneyness=m, tau=tau)]).value.values for m in (low, 1.0, high)}
    put = revalue(ds, [Option("put", moneyness=low, tau=tau)]).value.values
    for book, expected in (
        (Portfolio.butterfly(low, 1.0, high, tau=tau), quote[low] - 2 * quote[1.0] + quote[high]),
        (Portfolio.strangle(low, high, tau=tau), put + quote[high]),
        (Portfolio.risk_reversal(low, high, tau=tau), quote[high] - put),
    ):
        value = revalue(ds, book.instruments).value.values @ np.array(book.quantities)
        np.testing.assert_allclose(value[..., None], expected, rtol=1e-10, atol=1e-12)


def test_table_of_everything(tmp_path):
    text = """type,quantity,strike,moneyness,tau,strike_vol,accrued_variance,elapsed_years,group
call,1,,1.0,0.25,,,,index
forward,2,100,,0.5,,,,index
cash,-250,,,,,,,funding
variance_swap,10,,,0.5,0.2,0.04,0.1,vol
vix,3,,,,,,,vol
vix_call,1,25,,,,,,vol
U,-4,,,,,,,
"""
    (tmp_path / "book.csv").write_text(text)
    book = Portfolio.from_table(tmp_path / "book.csv")
    expected = [
        (Option("call", moneyness=1, tau=0.25), 1),
        (Forward(strike=100, tau=0.5), 2),
        (Cash(), -250),
        (VarianceSwap(tau=0.5, strike_vol=0.2, accrued_variance=0.04, elapsed_years=0.1), 10),
        (VixPayoff(), 3),
        (VixPayoff("call", strike=25), 1),
        (Underlying(), -4),
    ]
    assert book == Portfolio(expected, ["index", "index", "funding", "vol", "vol", "vol", ""])
    both = book + Portfolio.straddle(strike=100, tau=0.5)
    assert both.groups == (*book.groups, "", "")
    assert Portfolio.from_table(pd.DataFrame({"type": ["cash"], "quantity": [1]})).groups is None
    for line, message in (
        ({"type": "cash", "tau": 1.0}, "line 1.*cash takes no tau"),
        ({"type": "forward", "delta": 0.5, "tau": 1.0}, "line 1.*a forward takes no delta"),
        ({"type": "vix_put"}, "line 1.*needs strike"),
        ({"type": "swap"}, "line 1.*variance_swap.*not 'swap'"),
    ):
        with pytest.raises(InputError, match=message):
            Portfolio.from_table(pd.DataFrame([{"quantity": 1} | line]))


def test_hedging_with_a_forward_beside_the_underlying():
    ds = make_scenarios(400, seed=2, rate=0.03)
    with pytest.raises(InputError, match="linearly dependent"):
        volscen.hedge(ds, Portfolio.straddle(strike=100, tau=0.5), [Underlying(), Forward(strike=100, tau=0.3)])
    delta = volscen.hedge(
        ds, Option("call", strike=100, tau=0.5), [Forward(strike=100, tau=0.3), Underlying()], method="delta"
    )
    assert float(delta.ratio[0]) == 0
    assert float(delta.ratio[1]) > 0.4

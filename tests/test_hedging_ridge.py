"""The ridge of the size of quote noise, and the method taken where none is named."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hedging_toys import problem
from scenario_toys import make_scenarios
from volscen import Option, Portfolio, Underlying, hedge
from volscen.errors import InputError
from volscen.hedging import HedgeWarning, method_function
from volscen.hedging._base import HedgeOptions
from volscen.hedging._regression import design_diagnostics
from volscen.portfolio import revalue

STRADDLE = Portfolio.straddle(moneyness=1.0, tau=91 / 365)
CHAIN = [
    Underlying(),
    *(Option("put", strike_over_spot=k, tau=t) for k in (0.85, 0.9, 0.95) for t in (61 / 365, 152 / 365)),
    *(Option("call", strike_over_spot=k, tau=t) for k in (1.0, 1.05, 1.1) for t in (61 / 365, 152 / 365)),
]


def solve(x, y, noise, weight=None):
    return method_function("ridge")(problem(x, y, weight), HedgeOptions.of(x.shape[1], noise=np.asarray(noise)))


def test_two_instruments_by_hand():
    # Centred, uncorrelated, unit variance: (C + noise^2) phi = c. C = [[1, .6], [.6, 1]], c = C (1, -1) = (.4, -.4).
    signs = np.array([[a, b] for a in (1, -1) for b in (1, -1)], dtype=float)
    x = signs @ np.array([[1, 0.6], [0, 0.8]])
    y = x @ [1.0, -1.0] + 7.0
    a, b, c = 1 + 0.5**2, 0.6, 1 + 1.0**2
    determinant = a * c - b * b
    expected = [(c * 0.4 + b * 0.4) / determinant, (-b * 0.4 - a * 0.4) / determinant]
    found = solve(x, y, [0.5, 1.0])
    np.testing.assert_allclose(found.ratio, expected, rtol=1e-13)
    assert found.constant == pytest.approx(7.0, rel=1e-13)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 6), few=st.booleans())
def test_against_observations_of_noise(seed, n, few):
    # A ridge is n more observations: none of the portfolio, noise_i of instrument i.
    rng = np.random.default_rng(seed)
    count = max(2, n - 1) if few else 50
    x, y = rng.standard_normal((count, n)) + 3, rng.standard_normal(count)
    weight = rng.dirichlet(np.ones(count))
    noise = rng.uniform(0.05, 0.5, n)
    root = np.sqrt(weight)
    rows = np.vstack([np.column_stack([root, x * root[:, None]]), np.column_stack([np.zeros(n), np.diag(noise)])])
    expected = np.linalg.lstsq(rows, np.append(root * y, np.zeros(n)), rcond=None)[0]
    found = solve(x, y, noise, weight)
    np.testing.assert_allclose(found.ratio, expected[1:], rtol=1e-7, atol=1e-10)
    assert found.constant == pytest.approx(expected[0], rel=1e-7, abs=1e-9)
    assert bool(found.doubts) == (1 / float(weight @ weight) < n + 1)


@pytest.mark.parametrize("spread", [1e-2, 1e-4, 1e-6])
def test_instruments_that_move_nearly_together(spread):
    # The moments alone would lose twice the digits; the reference is least squares on the changes, in long double.
    rng = np.random.default_rng(4)
    common, own = rng.standard_normal((60, 1)), rng.standard_normal((60, 3))
    x = common + spread * own
    y = x @ [1.0, 2.0, -1.5] + 0.01 * common[:, 0] ** 2
    centred, target = (v.astype(np.longdouble) - v.mean(axis=0) for v in (x, y))
    for noise in (np.zeros(3), 0.3 * spread * np.array([1.0, 2.0, 0.5])):
        # Two rounds of refinement on the normal equations, whose residuals are in long double.
        matrix = centred.T @ centred / 60 + np.diag(noise.astype(np.longdouble) ** 2)
        right = centred.T @ target / 60
        expected = np.zeros(3, dtype=np.longdouble)
        inverse = np.linalg.pinv(matrix.astype(float), rcond=1e-18)
        for _ in range(200):
            expected += inverse @ (right - matrix @ expected)
        found = solve(x, y, noise).ratio
        np.testing.assert_allclose(found, expected.astype(float), rtol=1e-6)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_without_noise_it_is_the_regression(seed):
    ds = make_scenarios(150, seed=seed)
    instruments = CHAIN[:4]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HedgeWarning)
        plain = hedge(ds, STRADDLE, instruments, method="regression")
        for options, tolerance in (({"noise": 0}, 1e-9), ({"noise": 1e-9, "noise_floor": 0}, 1e-6)):
            found = hedge(ds, STRADDLE, instruments, method="ridge", **options)
            np.testing.assert_allclose(found.ratio, plain.ratio, rtol=tolerance, atol=tolerance)
            assert float(found.constant) == pytest.approx(float(plain.constant), abs=1e-6)


def test_noise_is_that_of_a_vol_move_with_a_floor():
    ds = make_scenarios(300, seed=4)
    far = Option("put", moneyness=0.72, tau=31 / 365)
    instruments = [Underlying(), CHAIN[7], far]
    out = hedge(ds, STRADDLE, instruments, method="ridge", noise=0.004)
    values = revalue(ds, instruments)
    x = (values.value - values.value0)[:, -1].values
    book = revalue(ds, STRADDLE.instruments)
    y = (book.value - book.value0)[:, -1].values.sum(axis=1)
    noise = np.array([0.0, 0.004 * values.vega.values[1], 2e-5 * 100])
    assert 0.004 * values.vega.values[2] < noise[2]
    np.testing.assert_allclose(out.ratio, solve(x, y, noise).ratio, rtol=1e-9)
    named = hedge(ds, STRADDLE, instruments, method="ridge", noise={CHAIN[7].label: 0.004, far.label: 0.0})
    np.testing.assert_allclose(named.ratio, solve(x, y, noise * [1, 1, 0]).ratio, rtol=1e-6)


def test_nearly_worthless_options_are_not_bought_by_the_thousand():
    ds = make_scenarios(300, seed=4)
    far = Option("put", moneyness=0.72, tau=31 / 365)
    instruments = [Underlying(), CHAIN[7], far]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HedgeWarning)
        wild = hedge(ds, STRADDLE, instruments, method="regression")
    tame = hedge(ds, STRADDLE, instruments, method="ridge")
    assert abs(float(tame.ratio[2])) < 0.1 * abs(float(wild.ratio[2]))


def test_out_of_sample_it_beats_least_squares_on_many_instruments():
    # Prices off the scenarios' clean law by the noise assumed: the position of least squares earns it many times over.
    train, test = make_scenarios(120, seed=1), make_scenarios(4000, seed=2)
    rng = np.random.default_rng(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HedgeWarning)
        found = {method: hedge(train, STRADDLE, CHAIN, method=method) for method in ("regression", "ridge")}
    held, book = revalue(test, CHAIN), revalue(test, STRADDLE.instruments)
    change = (held.value - held.value0)[:, -1].values
    change = change + 0.002 * held.vega.values * rng.standard_normal(change.shape)
    y = (book.value - book.value0)[:, -1].values.sum(axis=1)
    error = {method: (y - change @ each.ratio.values).std() for method, each in found.items()}
    assert error["ridge"] < 0.6 * error["regression"]
    assert np.abs(found["ridge"].ratio[1:]).sum() < 0.5 * np.abs(found["regression"].ratio[1:]).sum()


def test_copies_share_the_position():
    ds = make_scenarios(300, seed=1)
    twin = [Underlying(), CHAIN[7], CHAIN[7]]
    out = hedge(ds, STRADDLE, twin, method="ridge")
    assert float(out.ratio[1]) == pytest.approx(float(out.ratio[2]), rel=1e-9)
    with pytest.raises(InputError, match=r"linearly dependent.*underlying, underlying #2;"):
        hedge(ds, STRADDLE, [Underlying(), Underlying(), CHAIN[7]], method="ridge")
    with pytest.raises(InputError, match=r"linearly dependent.*method='ridge'"):
        hedge(ds, STRADDLE, twin, method="regression")


def test_fewer_scenarios_than_instruments_are_warned_about():
    ds = make_scenarios(8, seed=1)
    with pytest.warns(HedgeWarning, match=r"8\.0 effective scenarios \(ESS\) for 13 instruments.*flatters") as record:
        out = hedge(ds, STRADDLE, CHAIN, method="ridge")
    assert record[0].filename == __file__
    assert np.isfinite(out.ratio).all()
    assert not np.isnan(out.condition_number)
    with pytest.raises(InputError, match="method='ridge'"):
        hedge(ds, STRADDLE, CHAIN, method="regression")


def test_what_is_chosen_where_no_method_is_named():
    ds = make_scenarios(300, seed=1)
    one, two = [Underlying(), CHAIN[7]], [Underlying(), CHAIN[7], CHAIN[1]]
    for instruments, method in (([Underlying()], "regression"), (one, "regression"), (two, "ridge")):
        out = hedge(ds, STRADDLE, instruments)
        assert out.attrs["method"] == method
        np.testing.assert_array_equal(out.ratio, hedge(ds, STRADDLE, instruments, method=method).ratio)


def test_too_little_noise_is_warned_about():
    ds = make_scenarios(300, seed=1)
    near = [Underlying(), *(Option("call", strike=k, tau=0.5) for k in (99, 100, 101, 102))]
    with pytest.warns(HedgeWarning, match="nearly together.*raise noise"):
        hedge(ds, STRADDLE, near, method="ridge", noise=1e-7, noise_floor=0)
    hedge(ds, STRADDLE, near, method="ridge")  # no warning


def test_effective_rank():
    assert design_diagnostics(np.array([2.0, 2.0, 2.0]))["effective_rank"] == pytest.approx(3, rel=1e-14)
    found = design_diagnostics(np.array([3.0, 1.0, 0.0]))  # entropy of (.75, .25)
    assert found["effective_rank"] == pytest.approx(np.exp(0.75 * np.log(4 / 3) + 0.25 * np.log(4)), rel=1e-14)
    assert found["condition_number"] == np.inf
    ds = make_scenarios(300, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HedgeWarning)
        regression = hedge(ds, STRADDLE, CHAIN[:6], method="regression")
    ridge = hedge(ds, STRADDLE, CHAIN[:6], method="ridge")
    for name in ("condition_number", "effective_rank"):
        assert float(ridge[name]) == pytest.approx(float(regression[name]), rel=1e-6)
    assert 1 < float(ridge.effective_rank) < 4


def test_parity_is_pointed_out():
    ds = make_scenarios(200, seed=1)
    same = Option("put", moneyness=1.0, tau=91 / 365)
    with pytest.warns(
        HedgeWarning, match=r"put K/F=1 91d has the strike and expiry of call K/F=1 91d in the port"
    ) as record:
        hedge(ds, STRADDLE, [Underlying(), same])
    assert record[0].filename == __file__
    hedge(ds, STRADDLE, [Underlying(), same], parity="allow")
    hedge(ds, STRADDLE, [Underlying(), same], method="delta")  # does not use it
    book = Portfolio([*STRADDLE.positions, (Option("put", strike=90, tau=0.3), 0.0)])
    hedge(ds, book, [Underlying(), Option("call", strike=90, tau=0.3)])


def test_contracts_move_by_increments_from_their_own_volatility():
    # Half of the contract's volatility lies above the surface; scenarios move it by what the surface moves under it.
    ds = make_scenarios(300, seed=7)
    dear = Option("call", strike=104, tau=0.4, implied_vol=0.4)
    out = hedge(ds, [(dear, 2.0)], [Underlying()], method="regression", elapsed_days=1)
    from scipy.stats import linregress, norm

    from scenario_toys import MONEYNESS, TAU
    from volscen.surface import interpolate_vol

    def price(spot, vol, tau):
        d1 = np.log(spot / 104) / (vol * np.sqrt(tau)) + vol * np.sqrt(tau) / 2
        return spot * norm.cdf(d1) - 104 * norm.cdf(d1 - vol * np.sqrt(tau))

    spot, tau = ds.spot.values[:, 0], 0.4 - 1 / 365
    before = interpolate_vol(ds.implied_vol0.values, TAU, MONEYNESS, 0.4, 104 / 100)
    after = interpolate_vol(ds.implied_vol.values[:, 0], TAU, MONEYNESS, tau, 104 / spot[:, None])[:, 0]
    change = 2 * (price(spot, 0.4 + after - before, tau) - price(100.0, 0.4, 0.4))
    assert float(out.ratio[0]) == pytest.approx(linregress(spot, change).slope, rel=1e-10)
    assert float(out.residual_mean) == pytest.approx(np.mean(change - float(out.ratio[0]) * (spot - 100)), rel=1e-8)

"""Hedges under costs, limits and lots, against other solvers and by optimality conditions."""

from __future__ import annotations

import warnings
from itertools import product

import clarabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import linprog, minimize
from sklearn.linear_model import Lasso

from hedging_toys import problem
from scenario_toys import make_scenarios
from volscen import Option, Portfolio, Underlying, hedge, risk
from volscen.errors import InputError
from volscen.hedging import HedgeWarning, method_function
from volscen.hedging._base import HedgeOptions, Trading
from volscen.hedging._quadratic import Kinks, minimise
from volscen.hedging._trading import in_lots

STRADDLE = Portfolio.straddle(moneyness=1.0, tau=91 / 365)
ATM = Option("call", moneyness=1.0, tau=61 / 365)
REGRESSIONS = ("regression", "ridge", "lasso", "min-es")
SETTINGS = {"half_spread_vol": 0.003, "half_spread": 0.001, "proportional_cost": 1e-4}


def trading(n, **given):
    zero = np.zeros(n)
    defaults = {"current": zero, "cost": zero, "cost_weight": 1.0, "lower": zero - np.inf, "upper": zero + np.inf}
    return Trading(**(defaults | {"lot_size": zero} | given))


def cone_programme(x, y, weight, noise, t):
    """Least risk plus weighted cost by a second-order cone programme: clarabel, variables (phi, a, risk, trade)."""
    n = x.shape[1]
    root = np.sqrt(weight)
    rows = np.vstack([np.column_stack([x * root[:, None], root]), np.column_stack([np.diag(noise), np.zeros(n)])])
    target = np.append(y * root, np.zeros(n))
    factor = np.linalg.qr(np.column_stack([rows, target]), mode="r")  # the cone without thousands of rows
    m = factor.shape[0]
    count = n + 2 + n
    cone = np.zeros((m + 1, count))
    cone[0, n + 1] = -1
    cone[1:, : n + 1] = factor[:, :-1]
    linear, bound = [], []
    for i in range(n):
        for sign in (1, -1):
            row = np.zeros(count)
            row[i], row[n + 2 + i] = sign, -1
            linear.append(row)
            bound.append(sign * t.current[i])
        for sign, limit in ((1, t.upper[i]), (-1, -t.lower[i])):
            if np.isfinite(limit):
                row = np.zeros(count)
                row[i] = sign
                linear.append(row)
                bound.append(limit)
    objective = np.concatenate([np.zeros(n + 1), [1.0], t.cost_weight * t.cost])
    a = sparse.csc_matrix(np.vstack([linear, cone]))
    b = np.concatenate([bound, [0.0], factor[:, -1]])
    cones = [clarabel.NonnegativeConeT(len(bound)), clarabel.SecondOrderConeT(m + 1)]
    options = clarabel.DefaultSettings()
    options.verbose = False
    options.tol_gap_abs = options.tol_gap_rel = options.tol_feas = 1e-11
    found = clarabel.DefaultSolver(sparse.csc_matrix((count, count)), objective, a, b, cones, options).solve()
    assert "Solved" in str(found.status)
    return np.array(found.x[:n]), found.obj_val


def objective(x, y, weight, noise, t, phi):
    error = y - x @ phi
    error = error - weight @ error
    return np.sqrt(weight @ error**2 + np.sum((noise * phi) ** 2)) + t.cost_weight * t.cost @ np.abs(phi - t.current)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 7),
    size=st.sampled_from([1e-4, 1e-2, 0.1, 1.0, 10.0]),
    limited=st.booleans(),
    noisy=st.booleans(),
)
def test_costs_and_limits_against_a_cone_programme(seed, n, size, limited, noisy):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((80, 3)) @ rng.standard_normal((3, n)) + 0.3 * rng.standard_normal((80, n)) + 1.0
    y = x @ rng.standard_normal(n) + 0.2 * rng.standard_normal(80)
    weight = rng.dirichlet(np.ones(80))
    noise = rng.uniform(0, 0.3, n) if noisy else np.zeros(n)
    lower, upper = np.full(n, -np.inf), np.full(n, np.inf)
    if limited:
        lower, upper = rng.uniform(-1, 0.2, n), rng.uniform(0.3, 1, n)
    t = trading(n, current=rng.standard_normal(n), cost=size * rng.uniform(0, 1, n), lower=lower, upper=upper)
    method = method_function("ridge" if noisy else "regression")
    found = method(problem(x, y, weight), HedgeOptions.of(n, trading=t, noise=noise)).ratio
    expected, value = cone_programme(x, y, weight, noise, t)
    assert np.all(found >= lower)
    assert np.all(found <= upper)
    mine = objective(x, y, weight, noise, t, found)
    assert mine <= value + 1e-7 * abs(value)
    np.testing.assert_allclose(found, expected, atol=2e-4)


@settings(max_examples=150)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 12), rank=st.integers(1, 12), on_grid=st.booleans())
def test_the_active_set_meets_the_optimality_conditions(seed, n, rank, on_grid):
    # Two bends and two limits in each number, ties and near-dependence included.
    rng = np.random.default_rng(seed)
    root = np.linalg.qr(rng.standard_normal((40, rank)) @ rng.standard_normal((rank, n)), mode="r")
    root = np.linalg.qr(np.vstack([root, 1e-4 * np.eye(n)]), mode="r")
    draw = (lambda size: rng.integers(-2, 3, size).astype(float)) if on_grid else rng.standard_normal
    target = draw(n) if on_grid else rng.standard_normal(n)
    lower, upper = -np.abs(draw(n)) - 1, np.abs(draw(n)) + 1
    terms = [(draw(n), np.abs(draw(n)) * 0.1), (np.zeros(n), np.full(n, 0.05))]
    kinks = Kinks.of(lower, upper, *terms)
    z = minimise(root, target, kinks, np.clip(draw(n), lower, upper)).z
    assert np.all(z >= lower)
    assert np.all(z <= upper)
    push = -root.T @ (root @ z - target)
    up = sum(np.where(z >= c, cost, -cost) for c, cost in terms)
    down = sum(np.where(z > c, cost, -cost) for c, cost in terms)
    up, down = np.where(z >= upper, np.inf, up), np.where(z <= lower, -np.inf, down)
    scale = 1e-8 * (1 + np.abs(root.T @ target).max())
    assert np.all(push <= up + scale)
    assert np.all(push >= down - scale)


def test_one_instrument_in_closed_form():
    # risk(phi) = sqrt((b - phi)^2 + r^2), cost c |phi|: trade to b - c r / sqrt(1 - c^2), or not at all.
    x = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    noise = np.array([1.0, 1.0, -1.0, -1.0])
    for b, r, c in ((2.0, 0.5, 0.3), (2.0, 0.5, 0.95), (0.2, 0.5, 0.3), (0.2, 0.5, 0.4), (-2.0, 1.0, 0.5)):
        shift = c * r / np.sqrt(1 - c * c)
        expected = np.sign(b) * max(abs(b) - shift, 0.0)
        t = trading(1, cost=np.array([c / 2]), cost_weight=2.0)
        y = b * x[:, 0] + r * noise
        found = method_function("ridge")(problem(x, y), HedgeOptions.of(1, trading=t))
        assert found.ratio[0] == pytest.approx(expected, abs=1e-12)


def shortfall(z, weight, tail, centre):
    return float(risk.expected_shortfall(z - centre * (weight @ z), weight, alpha=tail))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 3),
    tail=st.sampled_from([0.05, 0.2, 0.5]),
    centre=st.booleans(),
    mode=st.sampled_from(["free", "costs", "limits", "both"]),
)
def test_least_shortfall_against_the_primal_programme(seed, n, tail, centre, mode):
    rng = np.random.default_rng(seed)
    count = 60
    x = rng.standard_normal((count, n)) @ rng.standard_normal((n, n)) + 0.02
    y = x @ rng.standard_normal(n) + 0.5 * rng.standard_t(3, count)
    weight = rng.dirichlet(np.full(count, 3.0))
    cost = rng.uniform(0, 0.5, n) if mode in ("costs", "both") else np.zeros(n)
    lower, upper = np.full(n, -50.0), np.full(n, 50.0)
    if mode in ("limits", "both"):
        lower, upper = rng.uniform(-1, 0.2, n), rng.uniform(0.3, 1, n)
    t = trading(n, current=rng.standard_normal(n), cost=cost, cost_weight=0.7, lower=lower, upper=upper)
    options = HedgeOptions.of(n, trading=t, tail=tail, centre=centre)
    found = method_function("min-es")(problem(x, y, weight), options).ratio
    # Primal: variables phi, c, u, trade.
    xc, yc = (x - weight @ x, y - weight @ y) if centre else (x, y)
    a = np.zeros((count + 2 * n, n + 1 + count + n))
    b = np.zeros(count + 2 * n)
    a[:count, :n], a[:count, n], b[:count] = xc, -1, yc
    a[:count, n + 1 : n + 1 + count] = -np.eye(count)
    for i in range(n):
        for k, sign in enumerate((1, -1)):
            row = count + 2 * i + k
            a[row, i], a[row, n + 1 + count + i], b[row] = sign, -1, sign * t.current[i]
    c = np.concatenate([np.zeros(n), [1.0], weight / tail, 0.7 * cost])
    bounds = [*zip(lower, upper, strict=True), (None, None), *[(0, None)] * (count + n)]
    primal = linprog(c, A_ub=a, b_ub=b, bounds=bounds, method="highs")
    mine = shortfall(y - x @ found, weight, tail, centre) + 0.7 * cost @ np.abs(found - t.current)
    assert mine == pytest.approx(primal.fun, rel=1e-7, abs=1e-9)
    assert np.all(found >= lower)
    assert np.all(found <= upper)


# --------------------------------------------------------------------------------------------------- limits of costs
INSTRUMENTS = [Underlying(), ATM, Option("put", moneyness=0.9, tau=61 / 365), Option("call", moneyness=1.05, tau=0.4)]
HELD = {"underlying": -0.4, ATM.label: 0.7, INSTRUMENTS[2].label: 0.2}


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HedgeWarning)
        return hedge(*arguments, **options)


@pytest.mark.parametrize("method", REGRESSIONS)
def test_no_cost_is_the_plain_hedge_and_a_prohibitive_one_is_the_present_one(method):
    ds = make_scenarios(400, seed=3)
    plain = quiet(ds, STRADDLE, INSTRUMENTS, method=method)
    free = quiet(ds, STRADDLE, INSTRUMENTS, method=method, current=HELD, **SETTINGS, cost_weight=0)
    np.testing.assert_allclose(free.ratio, plain.ratio, rtol=1e-12)
    cheap = quiet(ds, STRADDLE, INSTRUMENTS, method=method, current=HELD, **SETTINGS, cost_weight=1e-9)
    np.testing.assert_allclose(cheap.ratio, plain.ratio, atol=1e-5)
    dear = quiet(ds, STRADDLE, INSTRUMENTS, method=method, current=HELD, **SETTINGS, cost_weight=1e6)
    np.testing.assert_array_equal(dear.ratio, [-0.4, 0.7, 0.2, 0.0])
    assert float(dear.cost) == 0
    assert float(dear.turnover) == 0


@pytest.mark.parametrize("method", REGRESSIONS)
def test_dearer_trading_trades_less(method):
    ds = make_scenarios(400, seed=3)
    found = [
        quiet(ds, STRADDLE, INSTRUMENTS, method=method, current=HELD, **SETTINGS, cost_weight=weight)
        for weight in (0, 0.05, 0.2, 0.5, 1, 2, 5)
    ]
    costs = np.array([float(each.cost) for each in found])
    assert np.all(np.diff(costs) <= 1e-9)
    assert costs[0] > 2 * costs[-1]
    untraded = [(np.abs(each.trade.values) == 0).sum() for each in found]
    assert untraded[-1] > untraded[0]


@pytest.mark.parametrize("method", ["regression", "ridge", "min-es"])
@settings(max_examples=8)
@given(seed=st.integers(0, 1000), factor=st.floats(0.01, 1e3))
def test_costly_ratios_scale_with_the_book(method, seed, factor):
    ds = make_scenarios(150, seed=seed)
    held = np.array([-0.4, 0.7])
    one = quiet(ds, STRADDLE, [Underlying(), ATM], method=method, current=held, **SETTINGS)
    book = Portfolio([(i, factor * q) for i, q in STRADDLE.positions])
    many = quiet(ds, book, [Underlying(), ATM], method=method, current=factor * held, **SETTINGS)
    np.testing.assert_allclose(many.ratio, factor * one.ratio, rtol=1e-6, atol=1e-9 * factor)


def test_the_band_of_no_trade():
    # Holdings on either side of the best ratio move to the two edges of one band; holdings within it stay.
    ds = make_scenarios(500, seed=5)
    options = {"method": "regression", "half_spread": 0.2, "cost_weight": 0.3}
    found = [float(quiet(ds, STRADDLE, [Underlying()], current=c, **options).ratio[0]) for c in (-5, -1, 1, 5)]
    low, high = found[0], found[-1]
    best = float(quiet(ds, STRADDLE, [Underlying()], method="regression").ratio[0])
    assert low < best < high
    assert found == pytest.approx([low, low, high, high], rel=1e-9)
    assert best - low == pytest.approx(high - best, rel=1e-6)
    inside = (low + 3 * high) / 4
    assert float(quiet(ds, STRADDLE, [Underlying()], current=inside, **options).ratio[0]) == inside


@pytest.mark.parametrize("method", ["regression", "min-es"])
def test_costs_weigh_a_fifth_by_default(method):
    ds = make_scenarios(200, seed=5)
    found = [
        quiet(ds, STRADDLE, [Underlying(), ATM], method=method, half_spread=0.6, **options).ratio.values
        for options in ({}, {"cost_weight": 0.2}, {"cost_weight": 0.1})
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])


def test_costs_are_reported_by_their_three_parts():
    ds = make_scenarios(100, seed=1)
    out = hedge(ds, STRADDLE, [Underlying(), ATM], method="delta-vega", current=[1.0, -1.0], **SETTINGS)
    trade = out.ratio.values - [1, -1]
    np.testing.assert_array_equal(out.trade, trade)
    unit = 0.003 * out.vega.values + 0.001 + 1e-4 * out.value0.values
    np.testing.assert_allclose(out.trade_cost, np.abs(trade) * unit, rtol=1e-14)
    assert float(out.cost) == pytest.approx(float(out.trade_cost.sum()), rel=1e-14)
    assert float(out.net_vega) == pytest.approx(0, abs=1e-12 * float(out.portfolio_vega))
    left = float(quiet(ds, STRADDLE, [Underlying(), ATM], method="regression").net_vega)
    ratio = quiet(ds, STRADDLE, [Underlying(), ATM], method="regression").ratio
    assert left == pytest.approx(float(out.portfolio_vega - ratio @ out.vega), rel=1e-12)
    assert float(out.turnover) == pytest.approx(float(np.abs(trade) @ out.value0.values), rel=1e-14)
    plain = hedge(ds, STRADDLE, [Underlying(), ATM], method="delta-vega")
    np.testing.assert_array_equal(out.ratio, plain.ratio)
    assert float(plain.cost) == 0


def test_an_earlier_result_is_what_is_held():
    ds = make_scenarios(200, seed=1)
    before = hedge(ds, STRADDLE, [Underlying(), ATM])
    after = hedge(ds, STRADDLE, [ATM, Underlying()], current=before.ratio, half_spread=0.01)
    np.testing.assert_allclose(after.trade, 0, atol=1e-12)


# ------------------------------------------------------------------------------------------------------- limits, lots
@pytest.mark.parametrize("method", REGRESSIONS)
def test_limits_hold_and_wide_ones_change_nothing(method):
    ds = make_scenarios(400, seed=2)
    plain = quiet(ds, STRADDLE, INSTRUMENTS, method=method)
    wide = quiet(ds, STRADDLE, INSTRUMENTS, method=method, lower=-1e6, upper=1e6)
    np.testing.assert_allclose(wide.ratio, plain.ratio, rtol=1e-6, atol=1e-8)
    tight = quiet(ds, STRADDLE, INSTRUMENTS, method=method, lower=[-9, 0, 0, 0], upper=[9, 0.5, 0.5, np.inf])
    assert np.all(tight.ratio.values >= [-9, 0, 0, 0])
    assert np.all(tight.ratio.values <= [9, 0.5, 0.5, np.inf])
    assert float(tight.residual_std) >= float(plain.residual_std) - 1e-12
    fixed = quiet(ds, STRADDLE, INSTRUMENTS, method=method, lower={ATM.label: 0.3}, upper={ATM.label: 0.3})
    assert float(fixed.ratio[1]) == 0.3


def test_what_is_no_longer_wanted_is_closed_at_its_cost():
    ds = make_scenarios(400, seed=2)
    old = INSTRUMENTS[2].label
    closed = {"lower": {old: 0}, "upper": {old: 0}}
    for method in REGRESSIONS:
        out = quiet(ds, STRADDLE, INSTRUMENTS, method=method, current={old: 0.5}, half_spread=0.01, **closed)
        assert float(out.ratio.sel(instrument=old)) == 0
        assert float(out.trade_cost.sel(instrument=old)) == pytest.approx(0.005, rel=1e-12)


def test_limits_of_a_lasso_that_force_a_holding():
    ds = make_scenarios(400, seed=2)
    out = quiet(ds, STRADDLE, INSTRUMENTS, method="lasso", alpha=0.3, lower={INSTRUMENTS[2].label: 0.25})
    assert float(out.ratio[2]) >= 0.25
    assert bool(out.selected[2])


def test_a_lasso_that_finds_nothing_worth_its_cost_holds_nothing():
    ds = make_scenarios(400, seed=2)
    out = quiet(ds, STRADDLE, INSTRUMENTS, method="lasso", half_spread=1e6)
    assert not out.ratio.values.any()
    assert not out.selected.values.any()
    assert float(out.r_squared) == pytest.approx(0, abs=1e-12)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 3), costly=st.booleans())
def test_no_single_lot_improves_on_whole_lots(seed, n, costly):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((60, n)) @ (rng.standard_normal((n, n)) + 2 * np.eye(n))
    y = x @ rng.standard_normal(n) + 0.5 * rng.standard_normal(60)
    weight = np.full(60, 1 / 60)
    lot = rng.uniform(0.2, 0.5, n)
    cost = rng.uniform(0, 0.2, n) * costly
    t = trading(n, cost=cost, lot_size=lot)
    found = method_function("regression")(problem(x, y), HedgeOptions.of(n, trading=t)).ratio
    np.testing.assert_allclose(found / lot, np.round(found / lot), atol=1e-9)
    mine = objective(x, y, weight, np.zeros(n), t, found)
    free = method_function("regression")(problem(x, y), HedgeOptions.of(n, trading=trading(n, cost=cost))).ratio
    naive = objective(x, y, weight, np.zeros(n), t, np.round(free / lot) * lot)
    assert mine <= naive + 1e-12
    for i, sign in product(range(n), (-1, 1)):
        moved = found + sign * lot * (np.arange(n) == i)
        assert mine <= objective(x, y, weight, np.zeros(n), t, moved) + 1e-11
    if n == 1:
        near = (np.floor(free / lot) + np.arange(2)) * lot
        assert mine == pytest.approx(
            min(objective(x, y, weight, np.zeros(1), t, each[None]) for each in near), rel=1e-12
        )


def test_lots_of_options_are_made_up_for_by_the_underlying():
    ds = make_scenarios(1000, seed=2)
    for method in ("delta-vega", "delta-vega-sqrt", "regression", "ridge", "min-es"):
        out = quiet(ds, STRADDLE, [Underlying(), ATM], method=method, lot_size={ATM.label: 1.0})
        plain = quiet(ds, STRADDLE, [Underlying(), ATM], method=method)
        assert float(out.ratio[1]) == 2.0
        careless = ds.copy()
        tracking = _tracking(careless, [float(plain.ratio[0]), 2.0])
        assert float(out.residual_std) < tracking.std()


def _tracking(ds, ratio):
    from volscen.portfolio import revalue

    book, held = revalue(ds, STRADDLE.instruments), revalue(ds, [Underlying(), ATM])
    change = [(each.value - each.value0)[:, -1].values for each in (book, held)]
    return change[0].sum(axis=1) - change[1] @ ratio


@pytest.mark.parametrize("method", ["delta", "delta-vega"])
def test_sensitivities_within_limits_say_what_they_leave(method):
    ds = make_scenarios(100, seed=1)
    limits = {"underlying": 0.02} if method == "delta" else {ATM.label: 1.5}
    with pytest.warns(HedgeWarning, match="limits keep .* net_delta and net_vega") as record:
        out = hedge(ds, STRADDLE, [Underlying(), ATM], method=method, upper=limits)
    assert record[0].filename == __file__
    if method == "delta":
        assert float(out.ratio[0]) == 0.02
        assert float(out.net_delta) == pytest.approx(float(out.portfolio_delta) - 0.02, rel=1e-12)
    else:
        assert float(out.ratio[1]) == 1.5
        assert float(out.net_delta) == pytest.approx(0, abs=1e-12)
        assert float(out.net_vega) > 0


# ------------------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"half_spread": -1}, "half_spread of underlying must be a finite number that is not negative, not -1"),
        ({"half_spread_vol": [0, np.nan]}, "half_spread_vol of call"),
        ({"proportional_cost": [1, 2, 3]}, r"proportional_cost must be one number or one for each of the 2 .*\(3,\)"),
        ({"current": np.inf}, "current of underlying must be finite"),
        ({"current": [0.1, np.nan]}, "current of call K/F=1 61d must be finite, not nan"),
        ({"current": {"call": 1}}, "current names call, which is not among instruments"),
        ({"current": "much"}, "current must be a number, or one for each instrument"),
        ({"lower": 1, "upper": 0}, r"lower \(1\) of underlying lies above upper \(0\)"),
        ({"lower": np.nan}, "lower of underlying must be a number"),
        ({"upper": -np.inf}, "upper of underlying must be a number"),
        ({"lot_size": -1}, "lot_size"),
        ({"lot_size": 1, "lower": 0.1, "upper": 0.9}, "no multiple of lot_size lies between"),
        ({"cost_weight": -1}, "cost_weight must be a finite number that is not negative"),
        ({"cost_weight": 1, "method": "delta"}, "cost_weight applies to method='regression' and .*not to 'delta'"),
        ({"tail": 0.1}, "tail applies to method='min-es', not to 'regression'"),
        ({"tail": 0, "method": "min-es"}, "tail must lie between 0 and 1"),
        ({"tail": "5%", "method": "min-es"}, "tail must lie between 0 and 1"),
        ({"centre": 1, "method": "min-es"}, "centre must be True or False"),
        ({"noise": -0.1, "method": "ridge"}, "noise of underlying"),
        ({"noise": 0.1}, "noise applies to method='ridge'"),
        ({"noise_floor": np.nan, "method": "ridge"}, "noise_floor must be a finite number"),
        ({"vol_slope": "flat", "method": "min-variance-delta"}, "vol_slope must be a finite number"),
        ({"vol_slope": -1, "method": "delta"}, "vol_slope applies to"),
        (
            {"vol_slope": lambda tau, k: np.nan * tau, "method": "min-variance-delta"},
            "one finite number for each option",
        ),
        ({"vol_slope": lambda tau, k: [1, 2, 3], "method": "min-variance-delta"}, "one finite number for each option"),
        ({"parity": "ignore"}, "parity must be 'warn' or 'allow'"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(InputError, match=message):
        hedge(make_scenarios(60), STRADDLE, [Underlying(), ATM], **options)


def test_shortfall_that_can_be_traded_for_drift_is_refused():
    ds = make_scenarios(200, seed=1)
    lifted = ds.assign(spot=ds.spot * 1.2, log_return=ds.log_return + np.log(1.2))
    with pytest.raises(InputError, match=r"no least value.*centre=True"):
        quiet(lifted, STRADDLE, [Underlying()], method="min-es", centre=False)
    assert np.isfinite(quiet(lifted, STRADDLE, [Underlying()], method="min-es").ratio).all()
    bounded = quiet(lifted, STRADDLE, [Underlying()], method="min-es", centre=False, lower=-1, upper=1)
    assert abs(float(bounded.ratio[0])) == 1


def test_scenarios_of_the_tail_are_counted():
    with pytest.warns(HedgeWarning, match=r"5\.0 effective scenarios \(ESS\) in the tail are few for 2 instruments"):
        hedge(make_scenarios(100, seed=1), STRADDLE, [Underlying(), ATM], method="min-es")


def test_lots_that_weigh_most_are_rounded_first():
    # The lots of the first weigh a tenth of the second's; rounding the first last lets it make up for the second.
    asked = []

    def solve(lower, upper):
        fixed = np.flatnonzero(lower == upper)
        asked.append(tuple(fixed))
        z = np.array([1.04, 1.4])
        z[fixed] = lower[fixed]
        if list(fixed) == [1]:
            z[0] = 1.04 + (1.4 - z[1])  # makes up for it
        return z, abs(z.sum() - 2.44)

    found = in_lots(solve, trading(2, lot_size=np.array([0.1, 1.0])))
    np.testing.assert_allclose(found, [1.4, 1.0], atol=1e-12)
    assert asked[:3] == [(), (1,), (1,)]


@pytest.mark.parametrize("spread", [0.02, 0.05, 0.1, 0.2, 0.4])
def test_a_lasso_under_costs_selects_what_the_joint_problem_holds(spread):
    """Penalty and cost are paid together, cost at the rate s at which risk trades for its half square."""
    rng = np.random.default_rng(8)
    x = rng.standard_normal((300, 4)) * [1.0, 2.0, 0.5, 1.5]
    y = x @ [0.9, 0.1, 0.6, -0.05] + 0.8 * rng.standard_normal(300)
    cost, held, alpha, rate = spread * np.array([1.0, 0.5, 1.0, 0.2]), np.array([0.0, 0.3, 0.0, 0.0]), 0.02, 0.7
    t = trading(4, cost=cost, current=held, cost_weight=rate)
    found = method_function("lasso")(problem(x, y), HedgeOptions.of(4, alpha=alpha, trading=t))
    sx, sy = x.std(axis=0), y.std()
    z, v = (x - x.mean(axis=0)) / sx, (y - y.mean()) / sy
    kept = np.abs(Lasso(alpha=alpha, tol=1e-12).fit(z, v).coef_) > 1e-9
    rest = v - z[:, kept] @ np.linalg.lstsq(z[:, kept], v, rcond=None)[0]
    price = np.sqrt(np.mean(rest**2)) * rate * cost / sx  # of a standardised ratio, in standard deviations of y

    at = held * sx / sy

    def loss(parts):  # standardised ratios, bounds of their sizes, bounds of the trades
        b = parts[:4]
        return np.mean((v - z @ b) ** 2) / 2 + alpha * parts[4:8].sum() + price @ parts[8:]

    sides = [lambda p, s=s: p[4:8] - s * p[:4] for s in (1, -1)]
    sides += [lambda p, s=s: p[8:] - s * (p[:4] - at) for s in (1, -1)]
    best = minimize(
        loss, np.r_[at, np.abs(at), np.zeros(4)], method="SLSQP", options={"ftol": 1e-15, "maxiter": 1000},
        constraints=[{"type": "ineq", "fun": side} for side in sides],
    )  # fmt: skip
    np.testing.assert_array_equal(found.selected, np.abs(best.x[:4]) > 1e-5)

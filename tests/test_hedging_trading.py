"""Hedges under costs, limits and lots, against other solvers and by optimality conditions."""

from __future__ import annotations

import clarabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import linprog

from hedging_toys import problem
from volscen import Option, Portfolio, risk
from volscen.hedging import method_function
from volscen.hedging._base import HedgeOptions, Trading
from volscen.hedging._quadratic import Kinks, minimise

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

"""Minimum relative entropy: closed forms, the conditions of optimality, other solvers, and what cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm

from volscen import views
from volscen.errors import InputError
from volscen.views import _nonlinear
from volscen.views._beliefs import Belief
from volscen.views._linear import Infeasible, attainable, conflict, divergence, tilt
from volscen.views._quantities import as_quantity


def believe(view, *arrays):
    """The belief a view makes of arrays instead of a dataset."""
    return Belief(view, arrays[0], arrays[-1], view.lower, view.upper)


def equality(prior, x, value):
    bound = np.array([value])
    return tilt(prior, np.atleast_2d(x), bound, bound)


@pytest.fixture(scope="module")
def gaussian():
    """A fine grid that carries the standard normal law to rounding."""
    x = np.linspace(-9, 9, 4001)
    p = norm.pdf(x)
    return x, p / p.sum()


# ------------------------------------------------------------------------------------------- closed forms
def test_the_die_of_jaynes():
    # Jaynes (1957): a die with mean 4.5
    published = [0.05435, 0.07877, 0.11416, 0.16545, 0.23977, 0.34749]
    found = equality(np.full(6, 1 / 6), np.arange(1.0, 7.0), 4.5)
    np.testing.assert_allclose(found.weight, published, atol=5e-6)


@pytest.mark.parametrize("mean", [-1.3, 0.2, 2.5])
def test_a_mean_view_shifts_a_gaussian(gaussian, mean):
    x, p = gaussian
    found = equality(p, x, mean)
    np.testing.assert_allclose(found.weight, p * np.exp(mean * x - mean**2 / 2), atol=1e-13)
    assert found.multiplier[0] == pytest.approx(mean, rel=1e-9)
    assert divergence(found.weight, p) == pytest.approx(mean**2 / 2, rel=1e-9)


@pytest.mark.parametrize("statistic", ["std", "variance"])
@pytest.mark.parametrize("s", [0.5, 0.9, 1.3, 1.45])
def test_a_second_moment_view_stretches_a_gaussian(gaussian, s, statistic):
    x, p = gaussian
    view = getattr(views, statistic)("x", equals=s if statistic == "std" else s * s)
    w = _nonlinear.pool(p, [believe(view, x)])
    np.testing.assert_allclose(w, norm.pdf(x, scale=s) / norm.pdf(x, scale=s).sum(), atol=1e-9)
    assert divergence(w, p) == pytest.approx((s * s - 1) / 2 - np.log(s), rel=1e-6)


@pytest.mark.parametrize("rho", [-0.7, 0.3, 0.9])
def test_a_correlation_view_turns_a_gaussian(rho):
    grid = np.linspace(-6, 6, 61)
    x, y = (a.ravel() for a in np.meshgrid(grid, grid))
    p = norm.pdf(x) * norm.pdf(y)
    p /= p.sum()
    w = _nonlinear.pool(p, [believe(views.correlation("x", "y", equals=rho), x, y)])
    # The nearest law of that correlation keeps the variances: KL = -ln(1 - rho^2)/2.
    expected = np.exp(-(x * x - 2 * rho * x * y + y * y) / (2 * (1 - rho * rho)))
    np.testing.assert_allclose(w, expected / expected.sum(), atol=1e-8)
    assert divergence(w, p) == pytest.approx(-np.log(1 - rho * rho) / 2, rel=1e-5)


def test_a_quantile_view_rescales_both_sides():
    x = np.arange(1.0, 11.0)
    w = _nonlinear.pool(np.full(10, 0.1), [believe(views.quantile("x", 0.5, equals=2.0), x)])
    np.testing.assert_allclose(w, [0.25, 0.25] + [0.5 / 8] * 8, atol=1e-12)


def test_an_inequality_that_holds_already_changes_nothing():
    rng = np.random.default_rng(0)
    x, p = rng.standard_normal(500), rng.dirichlet(np.ones(500))
    beliefs = [believe(views.mean("x", at_most=x @ p + 0.1), x), believe(views.std("x", at_least=0.1), x)]
    np.testing.assert_allclose(_nonlinear.pool(p, beliefs), p, atol=1e-15)


def test_a_bound_that_binds_is_an_equality():
    rng = np.random.default_rng(0)
    x, p = rng.standard_normal(500), np.full(500, 1 / 500)
    low = _nonlinear.pool(p, [believe(views.mean("x", at_least=0.5), x)])
    np.testing.assert_allclose(low, equality(p, x, 0.5).weight, atol=1e-12)
    band = _nonlinear.pool(p, [believe(views.mean("x", at_least=0.5, at_most=0.8), x)])
    np.testing.assert_allclose(band, low, atol=1e-12)


# ----------------------------------------------------------------------------------- against other solvers
def slsqp(p, constraints):
    """Divergence of the primal problem's solution by sequential quadratic programming, from a start of its own."""
    result = minimize(
        lambda w: np.sum(w * np.log(w / p)),
        np.full(p.size, 1 / p.size),
        jac=lambda w: np.log(w / p) + 1,
        bounds=[(1e-12, 1)] * p.size,
        constraints=[{"type": "eq", "fun": lambda w: w.sum() - 1}, *constraints],
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-13},
    )
    assert result.success
    return result.fun


def std_of(x, w):
    return np.sqrt(max(w @ x**2 - (w @ x) ** 2, 0.0))


def correlation_of(x, y, w):
    return (w @ (x * y) - (w @ x) * (w @ y)) / (std_of(x, w) * std_of(y, w))


def test_views_of_every_kind_reach_the_primal_optimum():
    rng = np.random.default_rng(0)
    n = 20
    x = rng.standard_t(5, n)
    y = -0.6 * x + 0.8 * rng.exponential(1, n)
    p = rng.dirichlet(np.full(n, 5.0))
    mean, s, rho = p @ x + 0.1, 1.2 * std_of(x, p), -0.3
    beliefs = [
        believe(views.mean("x", equals=mean), x),
        believe(views.std("x", equals=s), x),
        believe(views.std("y", at_most=0.9 * std_of(y, p)), y),
        believe(views.correlation("x", "y", equals=rho), x, y),
    ]
    w = _nonlinear.pool(p, beliefs)
    assert w @ x == pytest.approx(mean, abs=1e-9)
    assert std_of(x, w) == pytest.approx(s, abs=1e-8)
    assert std_of(y, w) <= 0.9 * std_of(y, p) + 1e-8
    assert correlation_of(x, y, w) == pytest.approx(rho, abs=1e-8)
    other = slsqp(
        p,
        [
            {"type": "eq", "fun": lambda w: w @ x - mean},
            {"type": "eq", "fun": lambda w: std_of(x, w) - s},
            {"type": "ineq", "fun": lambda w: 0.9 * std_of(y, p) - std_of(y, w)},
            {"type": "eq", "fun": lambda w: correlation_of(x, y, w) - rho},
        ],
    )
    assert divergence(w, p) == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("bound", ["equals", "at_least", "at_most"])
@pytest.mark.parametrize("factor", [0.7, 1.2, 2.0])
def test_an_expected_shortfall_view_is_the_best_over_all_tails(bound, factor):
    rng = np.random.default_rng(3)
    x, p, alpha = rng.standard_t(4, 400), rng.dirichlet(np.full(400, 3.0)), 0.1
    order = np.argsort(x)

    def shortfall(w):  # the mean of the worst alpha, from its definition
        mass = np.clip(alpha - (np.cumsum(w[order]) - w[order]), 0, w[order])
        return -(mass @ x[order]) / alpha

    target = factor * shortfall(p)
    w = _nonlinear.pool(p, [believe(views.expected_shortfall("x", alpha, **{bound: target}), x)])
    if (bound == "at_least" and factor < 1) or (bound == "at_most" and factor > 1):
        np.testing.assert_allclose(w, p, atol=1e-14)
        return
    assert shortfall(w) == pytest.approx(target, abs=1e-7)
    # With the tail's edge at each scenario in turn all is linear: mass of the tail, mean of the tail.
    best = np.inf
    for edge in np.sort(-x)[200:]:
        rows = np.stack([(-x > edge) * 1.0, (-x >= edge) * 1.0, edge + np.maximum(-x - edge, 0) / alpha])
        low, high = np.array([-np.inf, alpha, target]), np.array([alpha, np.inf, target])
        try:
            best = min(best, divergence(tilt(p, rows, low, high).weight, p))
        except Infeasible:
            continue
    assert divergence(w, p) <= best * 1.002 + 1e-9


# ------------------------------------------------------------------------------------------ any problem
@given(st.integers(0, 2**32 - 1), st.integers(5, 60), st.integers(1, 4))
@settings(max_examples=60)
def test_solutions_are_feasible_and_of_the_exponential_family(seed, n, m):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((m, n)) * 10.0 ** rng.integers(-6, 7, (m, 1))
    p = rng.dirichlet(np.ones(n))
    p[rng.random(n) < 0.1] = 0
    p /= p.sum()
    law = p * rng.uniform(0.2, 1, n)
    inside = rows @ (law / law.sum())
    kind = rng.integers(0, 3, m)
    lower, upper = np.where(kind == 1, -np.inf, inside), np.where(kind == 2, np.inf, inside)
    found = tilt(p, rows, lower, upper)
    w = found.weight
    scale = np.abs(rows).max(axis=1)
    assert abs(w.sum() - 1) < 1e-12
    assert np.all(w[p == 0] == 0)
    assert np.all(w >= 0)
    assert np.all(rows @ w >= lower - 1e-8 * scale)
    assert np.all(rows @ w <= upper + 1e-8 * scale)
    # Signs, complementary slackness, and ln(w/p) affine in the rows: the conditions of Karush, Kuhn and Tucker.
    assert np.all(found.multiplier[kind == 1] <= 0)
    assert np.all(found.multiplier[kind == 2] >= 0)
    slack = np.abs(rows @ w - inside) > 1e-6 * scale
    assert np.all(np.abs(found.multiplier[slack] * scale[slack]) < 1e-6)
    some = p > 0
    left = np.log(w[some] / p[some]) - found.multiplier @ rows[:, some]
    assert np.ptp(left) < 1e-7 * (1 + np.abs(found.multiplier @ rows[:, some]).max())


KINDS = ("mean", "std", "variance", "correlation", "quantile", "value_at_risk", "expected_shortfall")


@pytest.mark.parametrize("seed", range(25))
def test_what_some_law_has_is_found_and_found_nearer(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.choice([200, 1000]))
    x = rng.standard_t(4, (n, 4)) @ rng.standard_normal((4, 4))
    p = rng.dirichlet(np.full(n, 5.0))
    p[rng.random(n) < 0.05] = 0
    p /= p.sum()
    z = np.clip((x - x.mean(axis=0)) / x.std(axis=0), -3, 3)
    law = p * np.exp(0.4 * z @ rng.standard_normal(4) + 0.08 * z**2 @ rng.standard_normal(4))
    law /= law.sum()
    beliefs = []
    for kind in rng.choice(KINDS, size=5):
        arrays = [x[:, i] for i in rng.choice(4, 2 if kind == "correlation" else 1, replace=False)]
        level = () if kind in KINDS[:4] else (float(rng.choice([0.05, 0.1, 0.5])),)
        names = ["x"] * len(arrays)
        make = getattr(views, kind)
        bound = rng.choice(["equals", "at_least", "at_most"])
        value = believe(make(*names, *level, at_least=0.5), *arrays).value(law)
        beliefs.append(believe(make(*names, *level, **{bound: value}), *arrays))
    w = _nonlinear.pool(p, beliefs)
    assert np.all(w[p == 0] == 0)
    for belief in beliefs:
        assert belief.excess(w, p) <= 1e-7
        value, slack = belief.value(w), 1e-6 * belief.x.std()
        assert belief.lower - slack <= value <= belief.upper + slack
    assert divergence(w, p) <= divergence(law, p) * (1 + 1e-9) + 1e-9


def test_repeated_views_are_one_view():
    rng = np.random.default_rng(0)
    x, p = rng.standard_normal(300), np.full(300, 1 / 300)
    twice = tilt(p, np.stack([x, x, 2 * x + 1]), np.array([0.3, 0.3, 1.6]), np.array([0.3, 0.3, 1.6]))
    np.testing.assert_allclose(twice.weight, equality(p, x, 0.3).weight, atol=1e-9)


def test_huge_and_tiny_units_do_not_matter():
    rng = np.random.default_rng(0)
    x, y, p = rng.standard_normal(300), rng.exponential(1, 300), np.full(300, 1 / 300)
    plain = tilt(p, np.stack([x, y]), np.array([0.3, 0.5]), np.array([0.3, 0.5]))
    scaled = tilt(p, np.stack([1e12 * x, 1e-12 * y]), np.array([3e11, 5e-13]), np.array([3e11, 5e-13]))
    np.testing.assert_allclose(scaled.weight, plain.weight, rtol=1e-8)


# ----------------------------------------------------------------------------------------- what cannot be
def test_the_impossible_is_recognised_at_once():
    x, p = np.array([0.0, 1.0, 2.0]), np.full(3, 1 / 3)
    for value in (2.0001, -1.0, 1e6):
        with pytest.raises(Infeasible):
            equality(p, x, value)
    with pytest.raises(Infeasible):
        equality(p, np.ones(3), 2.0)
    with pytest.raises(Infeasible):
        tilt(p, np.stack([x, x]), np.array([0.5, 1.5]), np.array([0.5, 1.5]))
    # A scenario without weight is out of reach.
    with pytest.raises(Infeasible):
        equality(np.array([0.5, 0.5, 0.0]), x, 1.5)


def test_a_target_near_the_edge_is_still_met():
    x, p = np.arange(1000.0), np.full(1000, 1e-3)
    for value in (998.0, 998.9, 0.001):
        assert equality(p, x, value).weight @ x == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("mean", [1e-5, 0.5, 0.999])
def test_views_far_from_the_prior_are_met(mean):
    w = equality(np.array([1 - 1e-10, 1e-10]), np.array([0.0, 1.0]), mean).weight
    np.testing.assert_allclose(w, [1 - mean, mean], rtol=1e-6)


def test_a_scenario_of_next_to_no_weight_is_none():
    p = np.array([0.5, 0.5 - 1e-30, 1e-30])
    x = np.array([0.0, 1.0, 9.0])
    w = _nonlinear.pool(p, [believe(views.mean("x", equals=0.75), x)])
    np.testing.assert_allclose(w, [0.25, 0.75, 0], atol=1e-9)
    with pytest.raises(InputError, match="between 0 and 1"):
        _nonlinear.pool(p, [believe(views.mean("x", equals=5.0), x)])


def test_conflict_names_the_fewest():
    rng = np.random.default_rng(0)
    x, y, p = rng.uniform(0, 1, 100), rng.uniform(0, 1, 100), np.full(100, 0.01)
    rows = np.stack([x, y, x + y])
    bound = np.array([0.2, 0.5, 1.9])
    guilty = conflict(p, rows, bound, bound, [[0], [1], [2]])
    assert 2 in guilty
    assert len(guilty) == 2
    assert conflict(p, rows[:2], bound[:2], bound[:2], [[0], [1]]) == []
    low, high = attainable(p, rows[2], rows[:1], bound[:1], bound[:1])
    assert 0.2 <= low < high < 1.3


def test_errors_name_the_views_and_what_can_be():
    x = np.array([0.0, 1.0, 2.0, 3.0])
    p = np.full(4, 0.25)
    with pytest.raises(InputError, match=r"mean\(x\) = 5 cannot hold.*between 0 and 3"):
        _nonlinear.pool(p, [believe(views.mean("x", equals=5), x)])
    both = [believe(views.mean("x", at_least=2.5), x), believe(views.quantile("x", 0.5, at_most=0.5), x)]
    with pytest.raises(InputError, match=r"cannot hold together.*mean\(x\).*between 0 and 1.5") as error:
        _nonlinear.pool(p, both)
    assert "quantile(x, 0.5)" in str(error.value)
    with pytest.raises(InputError, match=r"std\(x\).*between 0.5 and 1.5"):
        _nonlinear.pool(p, [believe(views.std("x", equals=4), x)])
    with pytest.raises(InputError, match=r"expected_shortfall.*between -3 and 0"):
        _nonlinear.pool(p, [believe(views.expected_shortfall("x", 0.1, at_least=1), x)])
    with pytest.raises(InputError, match="same in all scenarios"):
        _nonlinear.pool(p, [believe(views.correlation("x", "y", equals=0.5), x, np.ones(4))])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: views.mean("x"), "equals=, or at_least="),
        (lambda: views.mean("x", equals=1, at_most=2), "equals=, or at_least="),
        (lambda: views.mean("x", at_least=2, at_most=1), "exceeds"),
        (lambda: views.mean("x", equals=np.nan), "finite"),
        (lambda: views.mean("x", equals="much"), "equals must be a number"),
        (lambda: views.mean("x", equals=True), "equals must be a number"),
        (lambda: views.mean("x", equals=1, confidence=0), "confidence"),
        (lambda: views.mean("x", equals=1, confidence=1.1), "confidence"),
        (lambda: views.std("x", equals=0), "between 0 and inf"),
        (lambda: views.std("x", at_most=-1), "between 0 and inf"),
        (lambda: views.correlation("x", "y", equals=1.0), "between -1 and 1"),
        (lambda: views.quantile("x", 0.0, equals=1), "level"),
        (lambda: views.expected_shortfall("x", 1.0, equals=1), "alpha"),
        (lambda: views.mean_penalty(at_most=-1), "negative"),
        (lambda: views.mean(None, equals=1), "quantity"),
        (lambda: views.mean(3.0, equals=1), "quantity"),
        (lambda: as_quantity({"a": 1}), "quantity"),
    ],
)
def test_senseless_views_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()

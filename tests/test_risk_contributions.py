"""Contributions, intervals, expectiles, tails and horizons: hand-worked, closed forms, properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binom, multivariate_normal, norm

from scenario_toys import make_scenarios
from volscen import Option, Portfolio, Underlying, risk
from volscen.errors import InputError
from volscen.portfolio import pnl

LINES = np.array([[-8.0, -2.0], [-1.0, -3.0], [2.0, 1.0], [3.0, -1.0]])  # totals -10, -4, 3, 2
WEIGHT = np.array([0.02, 0.08, 0.5, 0.4])


def samples(n: int = 400_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian lines, and their covariance."""
    root = np.array([[1.0, 0, 0], [0.5, 0.8, 0], [-0.9, 0.3, 1.2]])
    return np.random.default_rng(seed).standard_normal((n, 3)) @ root.T, root @ root.T


laws = st.tuples(st.integers(1, 25), st.integers(1, 5), st.integers(0, 10_000)).map(
    lambda shape: (
        np.random.default_rng(shape[2]).normal(size=shape[:2]).round(1),
        np.random.default_rng(shape[2] + 1).dirichlet(np.full(shape[0], 0.7)),
    )
)


# --------------------------------------------------------------------------------------------- contributions
def test_contributions_by_hand():
    found = risk.contributions(LINES, WEIGHT, alpha=0.05, var_method="scenario")
    np.testing.assert_allclose(found.component_es, [(0.02 * 8 + 0.03 * 1) / 0.05, (0.02 * 2 + 0.03 * 3) / 0.05])
    np.testing.assert_allclose(found.component_var, [1.0, 3.0])
    assert (float(found.value_at_risk), float(found.expected_shortfall)) == (4.0, pytest.approx(6.4))


def test_tied_scenarios_share_the_tail_in_any_order():
    total = np.array([-5.0, -4, -4, -4, 1])
    weight = np.array([0.02, 0.01, 0.04, 0.05, 0.88])
    expected = np.array([0.02, *(np.array([0.01, 0.04, 0.05]) * 0.03 / 0.1), 0]) / 0.05
    np.testing.assert_allclose(risk.tail_weight(total, weight), expected, rtol=1e-12)
    order = np.array([4, 3, 1, 0, 2])
    np.testing.assert_allclose(risk.tail_weight(total[order], weight[order]), expected[order], rtol=1e-12)


def test_contributions_of_a_gaussian():
    """ES_i = (Sigma 1)_i / sd * phi(z)/alpha and VaR_i = -(Sigma 1)_i / sd * z."""
    lines, sigma = samples()
    sd = np.sqrt(sigma.sum())
    found = risk.contributions(lines, alpha=0.05)
    z = norm.ppf(0.05)
    np.testing.assert_allclose(found.component_es, sigma.sum(axis=1) / sd * norm.pdf(z) / 0.05, atol=0.02)
    np.testing.assert_allclose(found.component_var, -sigma.sum(axis=1) / sd * z, atol=0.02)


def test_contributions_with_weights_are_those_of_the_law_weighed():
    """Draws from a wider law, weighed back: a hundred times the noise of equal weights would show."""
    lines, sigma = samples()
    wide = lines * 1.3
    log_w = multivariate_normal(cov=sigma).logpdf(wide) - multivariate_normal(cov=sigma * 1.69).logpdf(wide)
    weight = np.exp(log_w - log_w.max())
    found = risk.contributions(wide, weight / weight.sum(), alpha=0.05)
    sd, z = np.sqrt(sigma.sum()), norm.ppf(0.05)
    np.testing.assert_allclose(found.component_es, sigma.sum(axis=1) / sd * norm.pdf(z) / 0.05, atol=0.03)
    np.testing.assert_allclose(found.component_var, -sigma.sum(axis=1) / sd * z, atol=0.03)


def test_kernel_follows_what_is_not_linear():
    """x = X^2 beside X - X^2: at the value at risk z the first is z^2, which a wide bandwidth would smear."""
    total = np.random.default_rng(1).normal(size=100_000)
    lines = np.column_stack([total**2, total - total**2])
    z = norm.ppf(0.05)
    found = risk.contributions(lines, alpha=0.05)
    np.testing.assert_allclose(found.component_var, [-(z**2), z**2 - z], atol=0.05)
    wide = risk.contributions(lines, alpha=0.05, bandwidth=3.0)
    assert abs(float(wide.component_var[0]) + z**2) > 0.3
    sharp = risk.contributions(lines, alpha=0.05, var_method="scenario")
    assert float(sharp.component_var[0]) == pytest.approx(-(float(sharp.value_at_risk) ** 2), rel=1e-9)


@given(law=laws, alpha=st.floats(0.01, 0.89) | st.just(1.0), method=st.sampled_from(["kernel", "scenario"]))
def test_components_sum_to_the_whole(law, alpha, method):
    lines, weight = law
    found = risk.contributions(lines, weight, alpha=alpha, var_method=method)
    assert float(found.component_es.sum()) == pytest.approx(float(found.expected_shortfall), abs=1e-9)
    assert float(found.component_var.sum()) == pytest.approx(float(found.value_at_risk), abs=1e-6)
    assert float(found.expected_shortfall) == pytest.approx(
        float(risk.expected_shortfall(lines.sum(axis=1), weight, alpha=alpha)), abs=1e-12
    )


@given(law=laws, factor=st.floats(0.01, 100))
def test_contributions_are_homogeneous(law, factor):
    lines, weight = law
    one, many = risk.contributions(lines, weight), risk.contributions(factor * lines, weight)
    scale = 1e-9 * (1 + factor)
    np.testing.assert_allclose(many.component_es, factor * one.component_es, atol=scale)
    np.testing.assert_allclose(many.component_var, factor * one.component_var, atol=1e-6 * (1 + factor))


@given(law=laws, alpha=st.floats(0.02, 0.5))
def test_no_position_alone_risks_less_than_it_contributes(law, alpha):
    """ES_i alone >= its contribution: the diversification that sub-additivity means (Kalkbrener 2005)."""
    lines, weight = law
    found = risk.contributions(lines, weight, alpha=alpha)
    alone = risk.expected_shortfall(lines, weight, alpha=alpha)
    assert np.all(found.component_es.values <= alone + 1e-9)


def test_contribution_is_the_derivative():
    rng = np.random.default_rng(5)
    lines = rng.standard_t(5, size=(20_000, 4)) @ rng.normal(size=(4, 4))
    found = risk.contributions(lines, alpha=0.03)
    total, h = lines.sum(axis=1), 1e-5
    for i in range(4):
        slope = (
            risk.expected_shortfall(total + h * lines[:, i], alpha=0.03)
            - risk.expected_shortfall(total - h * lines[:, i], alpha=0.03)
        ) / (2 * h)
        assert float(found.component_es[i]) == pytest.approx(float(slope), rel=1e-3, abs=1e-3)
    added = risk.marginal(lines, total, alpha=0.03)
    np.testing.assert_array_equal(added.marginal_es, found.component_es)
    np.testing.assert_array_equal(added.marginal_var, found.component_var)


def test_groups_and_incremental():
    lines = np.column_stack([LINES, LINES[:, 0] * 0.5])
    found = risk.contributions(lines, WEIGHT, groups=["x", "y", "x"])
    assert list(found.group.values) == ["x", "y"]
    np.testing.assert_allclose(
        found.group_es, [found.component_es[0] + found.component_es[2], found.component_es[1]], rtol=1e-12
    )
    assert float(found.group_var.sum()) == pytest.approx(float(found.value_at_risk), abs=1e-9)
    step = risk.incremental(LINES, WEIGHT)
    np.testing.assert_allclose(step.incremental_es, [6.4 - 3.0, 6.4 - 3.8], rtol=1e-12)
    np.testing.assert_allclose(step.incremental_var, [4 - 3, 4 - 1])
    whole = risk.incremental(lines, WEIGHT, groups=["x", "x", "x"])
    assert float(whole.incremental_es[0]) == float(risk.expected_shortfall(lines.sum(axis=1), WEIGHT))


@given(law=laws, alpha=st.floats(0.01, 0.89) | st.just(1.0))
def test_incremental_is_the_measure_with_and_without(law, alpha):
    lines, weight = law
    found = risk.incremental(lines, weight, alpha=alpha)
    total = lines.sum(axis=1)
    for name, measure in (("incremental_var", risk.value_at_risk), ("incremental_es", risk.expected_shortfall)):
        expected = measure(total, weight, alpha=alpha) - measure(total[:, None] - lines, weight, alpha=alpha)
        np.testing.assert_allclose(found[name], expected, atol=1e-9)


def test_contributions_of_a_portfolio():
    ds = make_scenarios(500, steps=2, seed=3)
    book = Portfolio(
        [(Option("put", moneyness=0.95, tau=0.2), 10), (Underlying(), 3), (Underlying(), -1)], ["o", "u", "u"]
    )
    profit = pnl(ds, book)
    found = risk.contributions(profit, step=1, groups="group", alpha=0.1)
    by_hand = risk.contributions(profit.pnl.values[:, 0], ds.weight.values, alpha=0.1, groups=book.groups)
    np.testing.assert_array_equal(found.component_es, by_hand.component_es)
    np.testing.assert_array_equal(found.group_var, by_hand.group_var)
    assert list(found.line.values) == list(profit.line.values)
    assert float(found.component_es[1] + found.component_es[2] * 3) == pytest.approx(0, abs=1e-12)
    last = risk.contributions(profit)
    np.testing.assert_array_equal(last.component_es, risk.contributions(profit, step=2).component_es)
    assert risk.incremental(profit, groups="group").incremental_es.dims == ("group",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lines": [[1.0, np.nan], [0, 0]]}, "NaN"),
        ({"lines": [[np.inf, -np.inf], [0, 0]]}, "NaN"),
        ({"lines": [1.0, 2.0]}, "axes"),
        ({"lines": np.empty((0, 3))}, "axes"),
        ({"lines": "x"}, "array of numbers"),
        ({"weight": [0.5, 0.5]}, "4 entries"),
        ({"alpha": [0.1, 0.2]}, "alpha must be one number"),
        ({"alpha": 0}, "alpha"),
        ({"groups": ["a"]}, "groups"),
        ({"groups": "ab"}, "groups"),
        ({"var_method": "guess"}, "var_method"),
        ({"bandwidth": 0}, "bandwidth"),
        ({"bandwidth": np.nan}, "bandwidth"),
        ({"step": 1}, "step is for datasets"),
    ],
)
def test_bad_contributions(arguments, message):
    given_ = {"lines": LINES, "weight": WEIGHT} | arguments
    if "lines" in arguments:
        given_.pop("weight")
    with pytest.raises(InputError, match=message), np.errstate(invalid="ignore"):
        risk.contributions(given_.pop("lines"), **given_)


def test_datasets_that_do_not_fit():
    profit = pnl(make_scenarios(20, seed=1), Underlying())
    for call, message in (
        (lambda: risk.contributions(profit.drop_vars("pnl")), "lines=True"),
        (lambda: risk.contributions(profit, profit.weight.values), "weight comes with"),
        (lambda: risk.contributions(profit, groups="desk"), "names no coordinate"),
        (lambda: risk.contributions(profit, step=2), "step 2"),
        (lambda: risk.horizon(profit.drop_vars("total")), "volscen.portfolio.pnl"),
        (lambda: risk.horizon(profit, profit.weight.values), "weight comes with"),
        (lambda: risk.horizon([1.0, 2.0]), "axes"),
        (lambda: risk.marginal(LINES, [1.0, 2.0]), "total must give one number"),
        (lambda: risk.marginal(LINES * np.nan, LINES[:, 0]), "NaN"),
        (lambda: risk.tail(make_scenarios(21), profit), "for these scenarios"),
        (lambda: risk.tail(make_scenarios(20), np.zeros(3)), "20 scenarios"),
        (lambda: risk.tail(make_scenarios(20), profit, wings=(1.05, 0.95)), "wings"),
        (lambda: risk.tail(make_scenarios(20), np.full(20, np.nan)), "NaN"),
        (lambda: risk.tail(make_scenarios(20), "x"), "profit must be an array of numbers"),
        (lambda: risk.tail(make_scenarios(20), profit, wings="ab"), "wings must be an array of numbers"),
        (lambda: risk.tail(make_scenarios(20), profit, tau=[0.1, 0.2]), "tau"),
        (lambda: risk.incremental(profit, groups=5), "groups must give one label"),
    ):
        with pytest.raises(InputError, match=message):
            call()


# ------------------------------------------------------------------------------------------------ expectiles
@given(law=laws, alpha=st.floats(0.001, 0.85))
def test_expectiles_solve_their_equation(law, alpha):
    x, w = law[0][:, 0], law[1]

    def excess(e):
        return alpha * (w @ np.maximum(x - e, 0)) - (1 - alpha) * (w @ np.maximum(e - x, 0))

    found = -float(risk.expectile(x, w, alpha=alpha))
    assert excess(found) == pytest.approx(0, abs=1e-9)
    if np.ptp(x) > 0.05 and excess(x.min()) > 1e-9 and excess(x.max()) < -1e-9:
        assert found == pytest.approx(brentq(excess, x.min(), x.max(), xtol=1e-12), abs=1e-7)


@given(law=laws, alpha=st.floats(0.001, 0.5))
def test_expectiles_are_coherent(law, alpha):
    assume(law[0].shape[1] > 1)
    (x, y), w = law[0][:, :2].T, law[1]
    one, two, both = (float(risk.expectile(z, w, alpha=alpha)) for z in (x, y, x + y))
    assert both <= one + two + 1e-9
    assert float(risk.expectile(3 * x + 1, w, alpha=alpha)) == pytest.approx(3 * one - 1, abs=1e-9)
    assert float(risk.expectile(x, w, alpha=0.5)) == pytest.approx(-(w @ x), abs=1e-12)


def test_expectile_of_a_normal_law():
    x = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    # 0.00145 is the level at which it equals the 99% value at risk (Bellini and Di Bernardino 2017).
    assert risk.expectile(x) == pytest.approx(-norm.ppf(0.01), rel=2e-3)
    assert risk.expectile(np.stack([x, 2 * x], axis=1), alpha=[0.1, 0.2]).shape == (2, 2)
    with pytest.raises(InputError, match="alpha"):
        risk.expectile(x, alpha=1.0)


# ------------------------------------------------------------------------------------------------- intervals
def test_order_statistics_enclose_with_the_binomial_probability():
    x = np.random.default_rng(0).permutation(np.arange(1.0, 501))
    found = risk.confidence_interval(x, alpha=0.1, level=0.9)
    s, r = -found.low, -found.high  # ranks, as the values count up
    assert found.estimate == -50
    assert binom.cdf(s - 1, 500, 0.1) - binom.cdf(r - 1, 500, 0.1) >= 0.9
    # one rank closer on either side is no longer enough for its half
    assert binom.cdf(r, 500, 0.1) > 0.05
    assert 1 - binom.cdf(s - 2, 500, 0.1) > 0.05


@pytest.mark.parametrize("measure", ["value_at_risk", "expected_shortfall"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("method", ["analytic", "bootstrap"])
def test_intervals_cover(measure, weighted, method):
    """Of 200 sets of scenarios from a wider law weighed back to the normal, about 90% enclose the true value."""
    rng = np.random.default_rng(3)
    z = norm.ppf(0.05)
    truth = -z if measure == "value_at_risk" else norm.pdf(z) / 0.05
    runs = 200 if method == "analytic" else 60
    covered = 0
    for _ in range(runs):
        x = rng.normal(size=1000) * (1.5 if weighted else 1.0)
        w = np.exp(-x * x / 2 + x * x / 4.5) if weighted else np.ones(1000)
        options = {"measure": measure, "method": method, "level": 0.9, "resamples": 200}
        found = risk.confidence_interval(x, w / w.sum(), alpha=0.05, **options)
        assert found.low <= found.estimate <= found.high
        covered += found.low <= truth <= found.high
    assert binom.cdf(covered, runs, 0.9) > 1e-3
    assert covered < runs


def test_bootstrap_is_deterministic_and_agrees_with_the_analytic_interval():
    x = np.random.default_rng(1).standard_t(4, size=4000)
    w = np.random.default_rng(2).random(4000)
    w /= w.sum()
    for measure in ("value_at_risk", "expected_shortfall"):
        boot = risk.confidence_interval(x, w, measure=measure, method="bootstrap", seed=5)
        assert boot == risk.confidence_interval(x, w, measure=measure, method="bootstrap", seed=5)
        analytic = risk.confidence_interval(x, w, measure=measure)
        assert boot.high - boot.low == pytest.approx(analytic.high - analytic.low, rel=0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 1.0}, "level"),
        ({"level": "x"}, "level"),
        ({"method": "bootstrap", "seed": "x"}, "seed"),
        ({"measure": "variance"}, "measure"),
        ({"method": "guess"}, "method"),
        ({"alpha": 1.0}, "alpha"),
        ({"method": "bootstrap", "resamples": 10}, "resamples"),
        ({"alpha": 0.001}, "too few"),
        ({"values": np.zeros((50, 2))}, "one-dimensional"),
        ({"values": np.full(50, np.nan)}, "NaN"),
    ],
)
def test_bad_intervals(options, message):
    values = options.pop("values", np.arange(50.0))
    with pytest.raises(InputError, match=message):
        risk.confidence_interval(values, **options)


# ----------------------------------------------------------------------------------------- tails and horizons
def test_tail_by_hand():
    ds = make_scenarios(200, steps=2, seed=6, weight=np.random.default_rng(0).dirichlet(np.ones(200)))
    book = Portfolio([(Option("call", moneyness=1, tau=91 / 365), -1), (Underlying(), 0.3)])
    profit = pnl(ds, book)
    out = risk.tail(ds, profit, alpha=0.1, step=1, tau=91 / 365, wings=(0.9, 1.1))
    total, w = profit.total.values[:, 0], ds.weight.values
    order = np.argsort(total)
    n = int(np.searchsorted(np.cumsum(w[order]), 0.1)) + 1
    np.testing.assert_array_equal(out.scenario, order[:n])
    np.testing.assert_array_equal(out.pnl, total[order[:n]])
    assert float(out.tail_weight @ out.pnl) == pytest.approx(-float(risk.expected_shortfall(total, w, alpha=0.1)))
    np.testing.assert_allclose(out.log_return, ds.log_return.values[order[:n], 0], atol=1e-14)
    surface = ds.implied_vol.values[order[:n], 0]
    np.testing.assert_allclose(out.atm_vol, surface[:, 1, 3], rtol=1e-12)  # on the grid: 91 days, moneyness 1
    before = ds.implied_vol0.values
    np.testing.assert_allclose(out.atm_change, surface[:, 1, 3] - before[1, 3], rtol=1e-9)
    np.testing.assert_allclose(out.skew, surface[:, 1, 2] - surface[:, 1, 4], rtol=1e-9)
    now = before[1, 2] - before[1, 4]
    np.testing.assert_allclose(out.skew_change, surface[:, 1, 2] - surface[:, 1, 4] - now, atol=1e-12)
    np.testing.assert_array_equal(out.pnl_line, profit.pnl.values[order[:n], 0])
    bare = risk.tail(ds, total, alpha=0.1, step=1)
    assert "pnl_line" not in bare
    np.testing.assert_array_equal(bare.scenario, out.scenario)


def test_horizon_of_a_random_walk_follows_the_rule():
    rng = np.random.default_rng(0)
    paths = np.cumsum(rng.normal(size=(100_000, 10)), axis=1)
    out = risk.horizon(paths, alpha=[0.05, 0.01])
    np.testing.assert_allclose(out.value_at_risk, out.value_at_risk_sqrt, rtol=0.02)
    np.testing.assert_allclose(
        out.expected_shortfall_sqrt[0], norm.pdf(norm.ppf(0.05)) / 0.05 * np.sqrt(np.arange(1, 11)), rtol=0.02
    )
    reverting = rng.normal(size=(20_000, 10))  # each day's level alone: no growth with time
    out = risk.horizon(reverting, alpha=0.05)
    assert float(out.value_at_risk[0, -1]) < 0.4 * float(out.value_at_risk_sqrt[0, -1])


def test_horizon_counts_the_days_of_the_steps():
    ds = make_scenarios(300, steps=10, seed=2, weight=np.random.default_rng(0).dirichlet(np.ones(300)))
    profit = pnl(ds, Underlying(), lines=False)
    out = risk.horizon(profit.isel(step=[1, 9]), alpha=0.05)
    np.testing.assert_array_equal(out.step, [2, 10])
    assert float(out.value_at_risk_sqrt[0, 1]) == pytest.approx(float(out.value_at_risk[0, 0]) * np.sqrt(5))
    assert float(out.value_at_risk[0, 1]) == float(risk.value_at_risk(profit.total.values[:, 9], ds.weight.values))


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_kernel_survives_lattices_and_constants(seed):
    rng = np.random.default_rng(seed)
    lines = rng.integers(-2, 3, size=(40, 3)).astype(float)
    lines[:, 2] = 1.0
    found = risk.contributions(lines, alpha=0.1)
    assert float(found.component_var.sum()) == pytest.approx(float(found.value_at_risk), abs=1e-9)
    assert float(found.component_es[2]) == pytest.approx(-1)
    assert float(found.component_var[2]) == pytest.approx(-1)


# ------------------------------------------------------------------------------------- by recomputation
def order_quantile(x, w, q):
    order = np.argsort(x, kind="stable")
    return x[order][np.searchsorted(np.cumsum(w[order]), q - 1e-12)]


@pytest.mark.parametrize("wide", [False, True])
def test_component_var_is_a_local_regression_at_silvermans_bandwidth(wide):
    """Recomputed with lstsq: 0.9 min(sd, IQR/1.349) ESS^(-1/5), of a law whose sd or whose IQR is the smaller."""
    rng = np.random.default_rng(3)
    shared = np.sign(rng.standard_normal(800)) * (3 + 0.1 * rng.random(800)) if wide else rng.standard_t(2.5, 800)
    lines = np.column_stack([shared, 0.3 * shared**2, rng.standard_normal(800)])
    weight = rng.dirichlet(np.full(800, 0.4))
    total = lines.sum(axis=1)
    sd = np.sqrt(weight @ (total - weight @ total) ** 2)
    iqr = order_quantile(total, weight, 0.75) - order_quantile(total, weight, 0.25)
    assert (sd < iqr / 1.349) == wide
    width = 0.9 * min(sd, iqr / 1.349) * (1 / np.sum(weight**2)) ** -0.2
    at = order_quantile(total, weight, 0.05)
    u = (total - at) / width
    root = np.sqrt(weight * np.exp(-u * u / 2) * (np.abs(u) <= 6))
    design = np.column_stack([root, root * u])
    expected = [-np.linalg.lstsq(design, root * line, rcond=None)[0][0] for line in lines.T]
    found = risk.contributions(lines, weight, alpha=0.05)
    np.testing.assert_allclose(found.component_var, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("alpha", [0.125, 0.25, 0.5, 1.0])
def test_incremental_risk_where_scenarios_end_just_at_alpha(alpha):
    """Binary fractions sum without rounding: the scenario that completes alpha is the value at risk, not the next."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        lines = rng.normal(size=(8, 3))
        weight = rng.permutation([4, 4, 2, 2, 1, 1, 1, 1]) / 16
        found = risk.incremental(lines, weight, alpha=alpha)
        for i in range(3):
            var, shortfall = [], []
            for profit in (lines.sum(axis=1), lines.sum(axis=1) - lines[:, i]):
                sixteen = np.repeat(profit, (16 * weight).astype(int))  # equal weights
                worst = np.sort(sixteen)[: int(16 * alpha)]
                var.append(-worst[-1])
                shortfall.append(-worst.mean())
            assert float(found.incremental_var[i]) == pytest.approx(var[0] - var[1], abs=1e-12)
            assert float(found.incremental_es[i]) == pytest.approx(shortfall[0] - shortfall[1], abs=1e-12)


def test_woodruffs_interval_by_hand():
    """The scenario at the value at risk, heavy here, counts among those not above it."""
    x = np.arange(20.0)
    weight = np.r_[0.01, 0.02, 0.2, np.full(17, 0.77 / 17)]
    found = risk.confidence_interval(x, weight, alpha=0.1, level=0.7)
    se = np.sqrt(np.sum(weight[:3] ** 2) * 0.9**2 + np.sum(weight[3:] ** 2) * 0.1**2)
    high = order_quantile(x, weight, 0.1 + norm.ppf(0.85) * se)
    assert found.estimate == -2
    assert (found.low, found.high) == (-high, 0.0)  # 0.1 - z se is below nothing: the least outcome
    assert high > order_quantile(x, weight, 0.1 + norm.ppf(0.85) * np.sqrt(np.sum(weight**2) * 0.1**2))

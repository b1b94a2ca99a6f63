"""Hedge ratios against closed forms, other software, and what must not change them."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.linear_model import Lasso, LinearRegression

import volscen
from hedging_toys import problem
from scenario_toys import make_scenarios, skewed_surface
from volscen import Option, Portfolio, Underlying, hedge, risk
from volscen._summary import hedge_summary
from volscen.errors import InputError
from volscen.hedging import REGISTRY, HedgeWarning, method_function
from volscen.hedging._base import HedgeOptions
from volscen.hedging._lasso import FOLDS, GRID, R_SQUARED_LOSS, _path, lasso, left_out_errors, supports
from volscen.hedging._moments import Moments
from volscen.hedging._regression import regression
from volscen.portfolio import revalue

STRADDLE = Portfolio.straddle(moneyness=1.0, tau=91 / 365)
ATM = Option("call", moneyness=1.0, tau=61 / 365)
CANDIDATES = [
    Underlying(),
    *(Option("put", strike_over_spot=k, tau=91 / 365) for k in (0.9, 0.95, 0.975)),
    *(Option("call", strike_over_spot=k, tau=91 / 365) for k in (1.0, 1.025, 1.05, 1.1)),
]


def changes(ds, portfolio, instruments, **options):
    """Changes in value of a portfolio and of instruments over the last step."""
    book = revalue(ds, portfolio.instruments, **options)
    held = revalue(ds, instruments, **options)
    y = (book.value - book.value0)[:, -1].values @ np.array(portfolio.quantities)
    return y, (held.value - held.value0)[:, -1].values


# ------------------------------------------------------------------------------------------- sensitivities
def test_delta_of_a_straddle_is_black_delta():
    ds = make_scenarios(50, rate=0.03, dividend=0.01, surface0=np.full((4, 7), 0.25))
    tau, rate, dividend = 0.4, 0.03, 0.01
    out = hedge(ds, Portfolio.straddle(strike=103, tau=tau), [Underlying()], method="delta")
    d1 = (np.log(100 / 103) + (rate - dividend + 0.25**2 / 2) * tau) / (0.25 * np.sqrt(tau))
    assert float(out.ratio[0]) == pytest.approx(np.exp(-dividend * tau) * (2 * norm.cdf(d1) - 1), rel=1e-12)
    assert float(out.constant) == 0
    assert bool(out.selected[0])


def test_delta_leaves_other_instruments_unused():
    ds = make_scenarios(50)
    out = hedge(ds, STRADDLE, [ATM, Underlying()], method="delta")
    assert list(out.selected.values) == [False, True]
    assert float(out.ratio[0]) == 0
    assert float(out.ratio[1]) == float(hedge(ds, STRADDLE, [Underlying()], method="delta").ratio[0])


def test_delta_vega_is_neutral():
    ds = make_scenarios(50, rate=0.02)
    book = STRADDLE + Portfolio([(Option("put", delta=-0.2, tau=0.5), -3)])
    out = hedge(ds, book, [Underlying(), ATM], method="delta-vega")
    greeks = revalue(ds, book.instruments)
    delta, vega = (float(greeks[name].values @ np.array(book.quantities)) for name in ("delta", "vega"))
    assert float(out.ratio @ out.vega) == pytest.approx(vega, rel=1e-12)
    assert float(out.ratio @ out.delta) == pytest.approx(delta, rel=1e-12)
    assert float(out.portfolio_vega) == pytest.approx(vega, rel=1e-12)
    assert list(out.selected.values) == [True, True]


def test_delta_vega_of_a_same_strike_put_is_parity():
    # C - P = D (F - K): one call hedged by one put of its strike and -(discounted carry) of the underlying.
    ds = make_scenarios(200, rate=0.04, dividend=0.01, seed=2)
    call, put = (Option(kind, strike=104, tau=0.5) for kind in ("call", "put"))
    out = hedge(ds, [call], [Underlying(), put], method="delta-vega", parity="allow")
    np.testing.assert_allclose(out.ratio, [np.exp(-0.01 * 0.5), 1.0], rtol=1e-10)
    assert float(out.r_squared) == pytest.approx(1, abs=1e-3)  # carry of one day is left


# --------------------------------------------------------------------------------------------- regression
def test_an_option_hedges_itself():
    ds = make_scenarios(300, seed=1)
    option = Option("put", moneyness=0.95, tau=0.3)
    for method in ("regression", "lasso"):
        out = hedge(ds, [(option, 2.5)], [option], method=method, parity="allow")
        assert float(out.ratio[0]) == pytest.approx(2.5, rel=1e-12)
        assert float(out.r_squared) == pytest.approx(1, abs=1e-14)
        assert float(out.residual_std) == pytest.approx(0, abs=1e-11)


def test_minimum_variance_delta_in_closed_form():
    # Small joint Gaussian moves: the regression on the underlying is delta + vega * b, where b is the slope
    # of the contract's volatility on the spot; cov(dV, dS)/var(dS) to first order.
    n, size = 20_000, 1e-5
    rng = np.random.default_rng(0)
    z = rng.standard_normal((n, 2))
    z = (z - z.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T, bias=True))).T
    ds = make_scenarios(
        n,
        log_return=np.log1p(size * z[:, :1]),
        surface0=np.full((4, 7), 0.2),
        implied_vol=0.2 + (-0.9 * size * z[:, 0] + 0.5 * size * z[:, 1])[:, None, None, None] * np.ones((1, 1, 4, 7)),
    )
    option = Option("call", strike=102, tau=0.5)
    out = hedge(ds, [option], [Underlying()], elapsed_days=0)
    d1 = np.log(100 / 102) / (0.2 * np.sqrt(0.5)) + 0.1 * np.sqrt(0.5)
    vega = 100 * np.sqrt(0.5) * norm.pdf(d1)
    assert float(out.ratio[0]) == pytest.approx(norm.cdf(d1) - 0.9 / 100 * vega, rel=1e-4)
    spot_sd, left_sd = 100 * size, vega * 0.5 * size
    assert float(out.residual_std) == pytest.approx(left_sd, rel=1e-3)
    explained = float(out.ratio[0]) * spot_sd
    assert float(out.r_squared) == pytest.approx(explained**2 / (explained**2 + left_sd**2), rel=1e-3)


def test_regression_against_scikit_learn():
    rng = np.random.default_rng(3)
    weight = rng.dirichlet(np.full(400, 0.5))
    ds = make_scenarios(400, seed=3, weight=weight)
    out = hedge(ds, STRADDLE, [Underlying(), ATM])
    y, x = changes(ds, STRADDLE, [Underlying(), ATM])
    reference = LinearRegression().fit(x, y, sample_weight=weight)
    np.testing.assert_allclose(out.ratio, reference.coef_, rtol=1e-9)
    assert float(out.constant) == pytest.approx(reference.intercept_, rel=1e-9)
    assert float(out.r_squared) == pytest.approx(reference.score(x, y, sample_weight=weight), rel=1e-12)
    tracking = y - x @ reference.coef_
    mean = weight @ tracking
    assert float(out.residual_mean) == pytest.approx(mean, rel=1e-8)
    assert mean == pytest.approx(float(out.constant), rel=1e-8)
    assert float(out.residual_std) == pytest.approx(np.sqrt(weight @ (tracking - mean) ** 2), rel=1e-9)
    for tail in (0.05, 0.025, 0.01):
        assert float(out.residual_var.sel(tail=tail)) == pytest.approx(
            risk.value_at_risk(tracking, weight, alpha=tail), rel=1e-8
        )
        assert float(out.residual_es.sel(tail=tail)) == pytest.approx(
            risk.expected_shortfall(tracking, weight, alpha=tail), rel=1e-8
        )


def test_intercept_is_free():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((200, 2)) + np.array([3.0, -5.0])
    y = x @ [0.7, -0.2] + 1000.0
    for method in (regression, lasso):
        found = method(problem(x, y), HedgeOptions.of(2))
        np.testing.assert_allclose(found.ratio, [0.7, -0.2], rtol=1e-9)
        assert found.constant == pytest.approx(1000, rel=1e-9)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), method=st.sampled_from(["regression", "lasso"]))
def test_repeating_a_scenario_is_weighing_it(seed, method):
    rng = np.random.default_rng(seed)
    count = rng.integers(0, 4, 120)
    ds = make_scenarios(120, seed=seed, weight=count / count.sum())
    repeated = ds.isel(scenario=np.repeat(np.arange(120), count))
    total = repeated.sizes["scenario"]
    repeated = repeated.assign(weight=("scenario", np.full(total, 1 / total)))
    a, b = (hedge(each, STRADDLE, [Underlying(), ATM], method=method) for each in (ds, repeated))
    for name in ("ratio", "constant", "r_squared", "residual_std", "residual_var", "residual_es"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-8, atol=1e-10, err_msg=name)


@pytest.mark.parametrize(
    ("method", "alpha"), [("regression", None), ("lasso", "grid"), ("lasso", "cv"), ("lasso", 0.1)]
)
def test_a_scenario_without_weight_changes_nothing(method, alpha):
    ds = make_scenarios(200, seed=6)
    weight = np.append(np.full(200, 1 / 200), 0.0)
    wild = make_scenarios(1, seed=99, volatility=8.0, vol_factors=0.5)
    import xarray as xr

    varying = ["implied_vol", "log_return", "spot", "arbitrage_penalty", "weight"]
    joined = xr.concat([ds[varying], wild[varying]], dim="scenario", join="outer")
    joined = joined.assign_coords(scenario=np.arange(201)).assign(weight=("scenario", weight))
    joined = joined.assign({name: ds[name] for name in ds.data_vars if name not in varying}).assign_attrs(ds.attrs)
    instruments = [Underlying(), ATM, Option("put", moneyness=0.9, tau=0.4)]
    a = hedge(ds, STRADDLE, instruments, method=method, alpha=alpha)
    b = hedge(joined, STRADDLE, instruments, method=method, alpha=alpha)
    for name in ("ratio", "constant", "r_squared", "residual_std", "residual_var", "residual_es"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-9, atol=1e-12, err_msg=name)


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), factor=st.floats(0.01, 1e4), flip=st.booleans())
def test_ratios_scale_with_the_portfolio(seed, factor, flip):
    ds = make_scenarios(100, seed=seed)
    factor = -factor if flip else factor
    for method, alpha in (("regression", None), ("lasso", 0.05), ("lasso", "grid"), ("delta-vega", None)):
        one = hedge(ds, STRADDLE, [Underlying(), ATM], method=method, alpha=alpha)
        book = Portfolio([(i, factor * q) for i, q in STRADDLE.positions])
        many = hedge(ds, book, [Underlying(), ATM], method=method, alpha=alpha)
        np.testing.assert_allclose(many.ratio, factor * one.ratio, rtol=1e-7)
        assert float(many.r_squared) == pytest.approx(float(one.r_squared), abs=1e-9)


def test_residuals_are_uncorrelated_with_the_instruments():
    weight = np.random.default_rng(0).dirichlet(np.ones(500))
    ds = make_scenarios(500, seed=12, weight=weight)
    out = hedge(ds, STRADDLE, [Underlying(), ATM])
    y, x = changes(ds, STRADDLE, [Underlying(), ATM])
    error = y - x @ out.ratio.values - float(out.constant)
    np.testing.assert_allclose(weight @ (x * error[:, None]), 0, atol=1e-11)
    assert weight @ error == pytest.approx(0, abs=1e-12)


def test_regression_beats_delta_on_the_scenarios_it_saw():
    ds = make_scenarios(1000, seed=4)
    errors = [
        float(hedge(ds, STRADDLE, [Underlying(), ATM], method=method).residual_std)
        for method in ("delta", "delta-vega", "regression")
    ]
    assert errors[2] < min(errors[:2])


# ------------------------------------------------------------------------------------------------- lasso
def test_lasso_selection_against_scikit_learn():
    rng = np.random.default_rng(7)
    n = 300
    common = rng.standard_normal((n, 3))
    x = common @ rng.standard_normal((3, 8)) + 0.3 * rng.standard_normal((n, 8)) + 2.0
    y = 40 + 5 * x[:, 1] - 2 * x[:, 4] + rng.standard_normal(n)
    weight = rng.dirichlet(np.ones(n))
    data = Moments.of(problem(x, y, weight))
    mean, scale = weight @ x, np.sqrt(weight @ (x - weight @ x) ** 2)
    y_scale = np.sqrt(weight @ (y - weight @ y) ** 2)
    alphas = np.array([0.5, 0.2, 0.05, 0.01])
    found = supports(data.gram, alphas)
    sizes = set()
    for alpha, columns in zip(alphas, found, strict=True):
        reference = Lasso(alpha=alpha, tol=1e-10, max_iter=100_000)
        reference.fit((x - mean) / scale, y / y_scale, sample_weight=weight)
        np.testing.assert_array_equal(columns, np.flatnonzero(reference.coef_))
        sizes.add(columns.size)
        refit = lasso(problem(x, y, weight), HedgeOptions.of(8, alpha=float(alpha)))
        ols = LinearRegression().fit(x[:, columns], y, sample_weight=weight)
        np.testing.assert_allclose(refit.ratio[columns], ols.coef_, rtol=1e-8)
        np.testing.assert_array_equal(refit.selected, np.isin(np.arange(8), columns))
        assert refit.constant == pytest.approx(ols.intercept_, rel=1e-8)
        assert refit.alpha == alpha
    assert len(sizes) > 2


def test_order_of_penalties_does_not_matter():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((100, 5))
    gram = Moments.of(problem(x, x @ rng.standard_normal(5) + rng.standard_normal(100))).gram
    alphas = np.array([0.0, 0.3, 0.05, 1.0, 0.1])
    together = supports(gram, alphas)
    for alpha, columns in zip(alphas, together, strict=True):
        np.testing.assert_array_equal(columns, supports(gram, np.array([alpha]))[0])
    assert together[0].size == 5
    assert together[3].size == 0


def test_grid_takes_the_largest_penalty_that_costs_little():
    ds = make_scenarios(1000, seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HedgeWarning)
        out = hedge(ds, STRADDLE, CANDIDATES, method="lasso", alpha="grid")
    assert out.attrs["alpha"] in GRID
    y, x = changes(ds, STRADDLE, CANDIDATES)
    scaled_x, scaled_y = (x - x.mean(axis=0)) / x.std(axis=0), (y - y.mean()) / y.std()
    fits = []
    for alpha in GRID[1:]:
        kept = np.flatnonzero(Lasso(alpha=alpha, tol=1e-10, max_iter=100_000).fit(scaled_x, scaled_y).coef_)
        fits.append(LinearRegression().fit(x[:, kept], y).score(x[:, kept], y) if kept.size else 0.0)
    best = max(*fits, LinearRegression().fit(x, y).score(x, y))
    allowed = [0.0] + [a for a, r in zip(GRID[1:], fits, strict=True) if r >= best - R_SQUARED_LOSS]
    assert out.attrs["alpha"] == allowed[-1]
    assert float(out.r_squared) >= best - R_SQUARED_LOSS
    assert 0 < int(out.selected.sum()) < len(CANDIDATES)


def test_cross_validation_finds_the_instruments_that_matter():
    rng = np.random.default_rng(11)
    x = rng.standard_normal((500, 10))
    y = 2 * x[:, 2] - x[:, 7] + 0.5 * rng.standard_normal(500)
    found = lasso(problem(x, y), HedgeOptions.of(10, alpha="cv"))
    assert set(np.flatnonzero(found.selected)) == {2, 7}
    np.testing.assert_allclose(found.ratio[[2, 7]], [2, -1], atol=0.1)


def test_cross_validation_by_brute_force():
    rng = np.random.default_rng(13)
    n = 101
    x = rng.standard_normal((n, 4)) @ rng.standard_normal((4, 4)) + 1
    y = x @ [1.0, 0.5, 0.0, 0.0] + rng.standard_normal(n) + 7 + (np.arange(n) % FOLDS == 2)
    weight = rng.dirichlet(np.ones(n))
    data = Moments.of(problem(x, y, weight))
    scaled = (x - weight @ x) / data.x_scale
    target = (y - weight @ y) / data.y_scale
    largest = np.abs(weight @ (scaled * target[:, None])).max()
    alphas = largest * np.geomspace(1, 1e-3, 51)[1:]
    error = np.zeros((FOLDS, 50))
    for f in range(FOLDS):
        out_ = np.arange(n) % FOLDS == f
        w = weight[~out_]
        for i, alpha in enumerate(alphas):
            # The penalty stays that of weights summing to one over all scenarios.
            reference = Lasso(alpha=alpha / w.sum(), tol=1e-12, max_iter=100_000)
            kept = np.flatnonzero(reference.fit(scaled[~out_], target[~out_], sample_weight=w).coef_)
            prediction = np.average(target[~out_], weights=w)
            if kept.size:
                prediction = LinearRegression().fit(scaled[~out_][:, kept], target[~out_], sample_weight=w)
                prediction = prediction.predict(scaled[out_][:, kept])
            error[f, i] = weight[out_] @ (target[out_] - prediction) ** 2
    np.testing.assert_allclose(left_out_errors(data.folds(FOLDS), alphas), error, rtol=1e-7)
    best = error.sum(axis=0).argmin()
    share = np.array([weight[np.arange(n) % FOLDS == f].sum() for f in range(FOLDS)])
    bound = error.sum(axis=0)[best] + (error[:, best] / share).std(ddof=1) / np.sqrt(FOLDS)
    expected = alphas[error.sum(axis=0) <= bound][0]
    assert lasso(problem(x, y, weight), HedgeOptions.of(4, alpha="cv")).alpha == pytest.approx(expected, rel=1e-9)


def test_lasso_is_optimal_among_copies():
    # Least angle regression loses its way here; any solution must meet the optimality conditions all the
    # same.
    rng = np.random.default_rng(5)
    x = rng.standard_normal((200, 3)) @ rng.standard_normal((3, 3))
    x = np.column_stack([x, x[:, 0], x[:, 1] - x[:, 2], x[:, 1]])
    y = x @ rng.standard_normal(6) + 0.1 * rng.standard_normal(200)
    gram, xy = (part := Moments.of(problem(x, y)).gram)[:-1, :-1], part[:-1, -1]
    scaled, target = (x - x.mean(axis=0)) / x.std(axis=0), (y - y.mean()) / y.std()
    alphas = np.array([0.5, 0.2, 0.1, 0.03, 0.01])
    for alpha, b in zip(alphas, _path(gram, xy, alphas).T, strict=True):
        gradient = scaled.T @ (target - scaled @ b) / 200
        assert np.abs(gradient).max() <= alpha + 1e-6
        np.testing.assert_allclose(gradient[b != 0], alpha * np.sign(b[b != 0]), atol=1e-6)


def test_lasso_copes_with_dependent_instruments():
    ds = make_scenarios(300, seed=2)
    pair = [Underlying(), Option("call", strike=100, tau=0.5), Option("put", strike=100, tau=0.5), ATM]
    book = [(Option("call", strike=95, tau=0.4), 1)]
    for alpha in ("grid", "cv", 0.02):
        out = hedge(ds, book, pair, method="lasso", alpha=alpha)
        assert 0 < int(out.selected.sum()) < 4
        assert np.all(out.ratio.values[~out.selected.values] == 0)


# ---------------------------------------------------------------------------------------- warnings, errors
def test_dependent_instruments_are_named():
    ds = make_scenarios(300, seed=2)
    call, put = (Option(kind, strike=100, tau=0.5) for kind in ("call", "put"))
    with pytest.raises(
        InputError, match=r"dependent.*underlying, call K=100 182.5d, put K=100 182.5d; .*lasso"
    ) as info:
        hedge(ds, STRADDLE, [ATM, Underlying(), call, put], method="regression")
    assert ATM.label not in str(info.value)
    with pytest.raises(InputError, match="underlying, underlying #2"):
        hedge(ds, STRADDLE, [Underlying(), Underlying()])


def test_nearly_dependent_instruments_are_warned_about():
    ds = make_scenarios(2000, seed=2)
    near = [Option("call", strike=k, tau=0.5) for k in (98, 99, 100, 101, 102)]
    with pytest.warns(HedgeWarning, match="condition number") as record:
        out = hedge(ds, STRADDLE, near, method="regression")
    assert record[0].filename == __file__
    assert float(out.condition_number) > 300
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(hedge(ds, STRADDLE, [Underlying(), ATM]).condition_number) < 300


def test_condition_number_is_that_of_the_correlations():
    ds = make_scenarios(500, seed=2)
    _, x = changes(ds, STRADDLE, [Underlying(), ATM])
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(x.T))
    expected = np.sqrt(eigenvalues[-1] / eigenvalues[0])
    assert float(hedge(ds, STRADDLE, [Underlying(), ATM]).condition_number) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("method", ["regression", "lasso"])
def test_too_few_effective_scenarios(method):
    weight = np.full(100, 1e-9)
    weight[:2] = (1 - weight[2:].sum()) / 2
    ds = make_scenarios(100, weight=weight)
    with pytest.raises(InputError, match=r"2\.0 effective scenarios \(ESS\) for 2 instruments"):
        hedge(ds, STRADDLE, [Underlying(), ATM], method=method)


@pytest.mark.parametrize(("n", "few"), [(14, True), (15, False)])
def test_few_scenarios_for_each_instrument_are_warned_about(n, few):
    instruments = [Underlying(), ATM, Option("put", moneyness=0.9, tau=0.4)]
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        hedge(make_scenarios(n, seed=1), STRADDLE, instruments, method="regression")
    texts = [str(w.message) for w in record if "effective scenarios are few for 3 instruments" in str(w.message)]
    assert len(texts) == few
    assert all(w.category is HedgeWarning and w.filename == __file__ for w in record)


@pytest.mark.parametrize("method", sorted(REGISTRY))
def test_lazy_cubes_hedge_as_loaded_ones(method):
    instruments = [Underlying(), ATM]
    if method == "neighbours":
        instruments = [Underlying(), *(Option("call", moneyness=m, tau=91 / 365) for m in (0.95, 1.05))]
    eager = volscen.generate(n_scenarios=1500, seed=1)
    lazy = volscen.generate(n_scenarios=1500, seed=1, chunks=700)
    expected = hedge(eager, STRADDLE, instruments, method=method)
    found = hedge(lazy, STRADDLE, instruments, method=method)
    np.testing.assert_array_equal(found.ratio, expected.ratio)
    np.testing.assert_array_equal(found.residual_es, expected.residual_es)


def test_instruments_off_the_grid_are_marked():
    ds = make_scenarios(200, seed=1)
    far, edge = Option("call", moneyness=1.5, tau=0.3), Option("call", moneyness=1.2999, tau=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HedgeWarning)
        out = hedge(ds, STRADDLE, [Underlying(), ATM, far, edge])
    assert out.extrapolated.values.tolist() == [False, False, True, True]  # the last one only in scenarios
    text = hedge_summary(out).splitlines()
    share = out.extrapolated_weight.values
    assert (share[:3].tolist(), 0.01 < share[3] < 1) == ([0.0, 0.0, 1.0], True)
    assert [line.partition(" * ")[2] for line in text[3:7]] == ["", "", "100.0%", f"{share[3]:.1%}"]
    assert "lies off the surface's grid" in text[7]
    # A few scenarios beyond the grid say nothing against a ratio.
    for small, starred in ((0.0101, True), (0.0099, False)):
        rare = out.assign_coords(extrapolated_weight=("instrument", [0.0, 0.0, 0.0, small]))
        assert ("*" in hedge_summary(rare)) is starred
    early = hedge_summary(out.drop_vars("extrapolated_weight")).splitlines()
    assert [" * " in line for line in early[3:7]] == [False, False, True, True]
    assert "*" not in hedge_summary(hedge(ds, STRADDLE, [Underlying(), ATM]))


@pytest.mark.parametrize("ds", [None, "scenarios.nc", {}])
def test_what_is_no_dataset(ds):
    with pytest.raises(InputError, match=f"not {type(ds).__name__}; files are read with volscen.read"):
        hedge(ds, STRADDLE, [Underlying()])


def test_cross_validation_needs_scenarios():
    with pytest.raises(InputError, match="at least 10 scenarios"):
        hedge(make_scenarios(9), STRADDLE, [Underlying()], method="lasso")
    assert hedge(make_scenarios(9), STRADDLE, [Underlying()], method="lasso", alpha=0.01).ratio.size == 1


def test_scikit_learn_is_imported_only_for_lasso():
    code = (
        "import sys; sys.path.insert(0, 'tests'); from scenario_toys import make_scenarios;"
        "from volscen import Option, Underlying, hedge; ds = make_scenarios(20);"
        "hedge(ds, [Option('call', strike=100, tau=0.5)], [Underlying()]); assert 'sklearn' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "kelly"}, "unknown method 'kelly'.*auto, delta, delta-vega, .*lasso, .*regression"),
        ({"instruments": []}, "instruments is empty"),
        ({"instruments": "underlying"}, "instruments must be a list"),
        ({"instruments": [(Underlying(), 1)]}, r"volscen\.Option or volscen\.Underlying"),
        ({"portfolio": []}, "empty"),
        ({"portfolio": [(Underlying(), 0)]}, "nothing to hedge"),
        ({"portfolio": [(ATM, 1), (ATM, -1)], "method": "delta"}, "nothing to hedge"),
        ({"instruments": [ATM], "method": "delta"}, "Underlying.*exactly once"),
        ({"instruments": [Underlying()], "method": "delta-vega"}, "exactly one option.*not 0"),
        ({"instruments": [Underlying(), *[ATM] * 2], "method": "delta-vega"}, "exactly one option.*not 2"),
        (
            {"instruments": [Underlying(), Option("call", strike=1e4, tau=0.1)], "method": "delta-vega"},
            "has no vega",
        ),
        ({"instruments": [Underlying(), Option("put", strike=1, tau=0.1)]}, "worth the same.*put K=1"),
        ({"alpha": 0.1}, "alpha applies to method='lasso'"),
        ({"alpha": 0.1, "method": "delta"}, "alpha applies"),
        ({"alpha": -1, "method": "lasso"}, "non-negative"),
        ({"alpha": "best", "method": "lasso"}, "'grid' or 'cv'"),
        ({"alpha": np.nan, "method": "lasso"}, "non-negative"),
        ({"alpha": 1.0, "method": "lasso"}, "selects no instrument; choose it below 0"),
        ({"step": 7}, "step 7 is not one of"),
        ({"step": np.array([1, 2])}, "step .* is not one of"),
        ({"alpha": np.array([1, 2]), "method": "lasso"}, "non-negative number, 'grid' or 'cv'"),
        ({"alpha": [0.1], "method": "lasso"}, "non-negative number, 'grid' or 'cv'"),
        ({"method": ["lasso"]}, "unknown method"),
        ({"elapsed_days": "x"}, "elapsed_days must be numbers"),
        ({"portfolio": {ATM: 5.0}}, "not a mapping"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*are both in one unit")
def test_bad_input(options, message):
    arguments = {"portfolio": STRADDLE, "instruments": [Underlying(), ATM]} | options
    with pytest.raises(InputError, match=message):
        hedge(make_scenarios(60), arguments.pop("portfolio"), arguments.pop("instruments"), **arguments)


# ---------------------------------------------------------------------------------------- steps and result
def test_steps_of_a_path():
    ds = make_scenarios(200, steps=3, seed=3)
    last = hedge(ds, STRADDLE, [Underlying(), ATM])
    np.testing.assert_array_equal(last.ratio, hedge(ds, STRADDLE, [Underlying(), ATM], step=3).ratio)
    assert last.attrs["step"] == 3
    assert last.attrs["elapsed_days"] == 5
    first = hedge(ds, STRADDLE, [Underlying(), ATM], step=1)
    np.testing.assert_array_equal(first.ratio, hedge(ds.isel(step=[0]), STRADDLE, [Underlying(), ATM]).ratio)
    assert not np.allclose(first.ratio, last.ratio)
    slower = hedge(ds, STRADDLE, [Underlying(), ATM], step=1, elapsed_days=[0.0, 1.0, 2.0])
    assert slower.attrs["elapsed_days"] == 0


def test_what_expires_on_the_way_settles_where_it_expired():
    ds = make_scenarios(200, steps=3, seed=3)
    call = Option("call", strike=99, expiry="2024-01-11")
    out = hedge(ds, [call], [Underlying()])
    paid = np.maximum(ds.spot.values[:, 0] - 99, 0)
    spot = ds.spot.values[:, 2]
    assert float(out.ratio[0]) == pytest.approx(np.cov(paid, spot)[0, 1] / np.var(spot, ddof=1), rel=1e-9)


def test_a_book_is_the_sum_of_its_lines_on_any_number_of_threads():
    ds = make_scenarios(100, steps=2, seed=3)
    rng = np.random.default_rng(0)
    book = Portfolio(
        [(Underlying(), 3.0), (Option("call", strike=101, tau=1 / 365), -2.0)]  # the call settles at the first step
        + [
            (Option("put", moneyness=m, tau=0.3), q)
            for m, q in zip(rng.uniform(0.8, 1.2, 300), rng.normal(size=300), strict=True)
        ]
    )
    y, x = changes(ds, book, [Underlying(), ATM])
    fit = LinearRegression().fit(x, y)
    for threads in (1, 2):
        out = hedge(ds, book, [Underlying(), ATM], num_threads=threads)
        np.testing.assert_allclose(out.ratio, fit.coef_, rtol=1e-8)
    far = Option("call", moneyness=2.0, tau=2.0)
    linear = hedge(ds, book, [Underlying(), far], extrapolation="linear")
    y, x = changes(ds, book, [Underlying(), far], extrapolation="linear")
    np.testing.assert_allclose(linear.ratio, LinearRegression().fit(x, y).coef_, rtol=1e-8)


def test_result_survives_netcdf(tmp_path):
    import xarray as xr

    ds = make_scenarios(200, steps=2)
    out = hedge(ds, STRADDLE, CANDIDATES, method="lasso")
    np.testing.assert_array_equal(out.ratio, hedge(ds, STRADDLE, CANDIDATES, method="lasso", alpha="cv").ratio)
    assert out.ratio.dims == ("instrument",)
    assert out.attrs["method"] == "lasso"
    assert out.attrs["ess_fraction"] == pytest.approx(1)
    assert list(out["tail"].values) == [0.05, 0.025, 0.01]
    assert list(out.instrument.values) == [i.label for i in CANDIDATES]
    out.to_netcdf(tmp_path / "hedge.nc")
    with xr.open_dataset(tmp_path / "hedge.nc") as back:
        xr.testing.assert_allclose(back.load(), out)
        assert back.attrs["alpha"] == out.attrs["alpha"]


def test_every_method_is_registered():
    assert {"delta", "delta-vega", "lasso", "min-es", "neighbours", "regression", "ridge"} <= set(REGISTRY)
    assert all(callable(method_function(name)) for name in REGISTRY)


def test_a_contract_keeps_its_own_volatility():
    ds = make_scenarios(100, surface0=skewed_surface(level=0.2))
    dear = Option("call", moneyness=1.0, tau=0.25, implied_vol=0.4)
    out = hedge(ds, [dear], [Underlying()], method="delta")
    d1 = 0.4 * np.sqrt(0.25) / 2
    assert float(out.ratio[0]) == pytest.approx(norm.cdf(d1), rel=1e-12)

"""Tests of whether a model is better or wrong: known values, and nominal rates under the null."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, norm

from volscen.errors import InputError
from volscen.evaluation import (
    bootstrap_interval,
    christoffersen,
    diebold_mariano,
    fissler_ziegel,
    holm,
    kupiec,
    pooled_diebold_mariano,
)
from volscen.evaluation._day import TAILS, _tail, _z2_moments
from volscen.evaluation._scores import sort_scenarios
from volscen.evaluation._tests_of_risk import z2_p_value, z2_statistic
from volscen.risk import expected_shortfall, value_at_risk


# -------------------------------------------------------------------------------------------- Diebold-Mariano
def test_without_lags_it_is_the_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(200), rng.standard_normal(200)
    found = diebold_mariano(a, b, lags=0)
    d = a - b
    assert found.t == pytest.approx(d.mean() / (d.std() / np.sqrt(200)), rel=1e-12)
    assert found.mean_difference == pytest.approx(d.mean(), rel=1e-12)


def test_hac_by_hand():
    # d = 1, -1 alternating plus 1/2: gamma_0 = 1, gamma_1 = -(n-1)/n, gamma_2 = (n-2)/n; Bartlett of 2 lags:
    # 1 + 2 (2/3) gamma_1 + 2 (1/3) gamma_2
    n = 20
    d = np.tile([1.0, -1.0], n // 2) + 0.5
    variance = 1 - 4 / 3 * (n - 1) / n + 2 / 3 * (n - 2) / n
    found = diebold_mariano(d, np.zeros(n), lags=2)
    assert found.t == pytest.approx(0.5 / np.sqrt(variance / n), rel=1e-12)
    assert diebold_mariano(d, np.zeros(n)).lags == int(np.floor(4 * (n / 100) ** (2 / 9))) + 1


def test_it_rejects_at_its_rate_with_dependent_days():
    """Differences with autocorrelation .3: 5% rejected, give or take what HAC costs; without lags twice as many."""
    rng = np.random.default_rng(1)
    e = rng.standard_normal((1500, 501))
    d = e[:, 1:] + 0.35 * e[:, :-1]
    p = [diebold_mariano(row, np.zeros(500)).p_value for row in d]
    naive = [diebold_mariano(row, np.zeros(500), lags=0).p_value for row in d]
    assert 0.035 < np.mean(np.array(p) < 0.05) < 0.075
    assert np.mean(np.array(naive) < 0.05) > 0.09


def test_equal_losses_are_no_difference():
    found = diebold_mariano(np.arange(20.0), np.arange(20.0))
    assert (found.t, found.p_value) == (0.0, 1.0)


def test_pooled_over_markets_by_hand():
    """Two markets without lags: sums of relative differences over the root of their summed variances."""
    rng = np.random.default_rng(2)
    base = [rng.uniform(1, 3, 40), rng.uniform(10, 30, 25)]
    loss = [b * rng.uniform(0.8, 1.15, b.size) for b in base]
    d = [(x - y) / y.mean() for x, y in zip(loss, base, strict=True)]
    found = pooled_diebold_mariano(loss, base, lags=0)
    assert found.mean_difference == pytest.approx(np.concatenate(d).mean(), rel=1e-12)
    expected = sum(x.sum() for x in d) / np.sqrt(sum(x.size * x.var() for x in d))
    assert found.t == pytest.approx(expected, rel=1e-12)
    assert (found.days, found.lags) == (65, 0)
    # units do not matter, and one market alone is the plain test
    again = pooled_diebold_mariano([loss[0], 1e3 * loss[1]], [base[0], 1e3 * base[1]], lags=0)
    assert again.t == pytest.approx(found.t, rel=1e-12)
    alone, plain = pooled_diebold_mariano(loss[:1], base[:1]), diebold_mariano(loss[0], base[0])
    assert (alone.t, alone.p_value, alone.lags) == pytest.approx((plain.t, plain.p_value, plain.lags), rel=1e-12)


def test_pooled_refusals():
    x = np.arange(20.0)
    with pytest.raises(InputError, match="same markets"):
        pooled_diebold_mariano([x], [x, x])
    with pytest.raises(InputError, match="positive mean"):
        pooled_diebold_mariano([x], [-x])
    with pytest.raises(InputError, match="same days"):
        pooled_diebold_mariano([x], [x[:-1]])
    assert pooled_diebold_mariano([x], [x]).t == 0


@pytest.mark.parametrize(
    ("a", "b", "lags", "word"),
    [
        (np.zeros(9), np.zeros(9), None, "at least 10"),
        (np.zeros(20), np.zeros(19), None, "same days"),
        (np.r_[np.zeros(19), np.nan], np.zeros(20), None, "finite"),
        (np.zeros(20), np.zeros(20), 20, "lags"),
        (np.zeros(20), np.zeros(20), True, "lags"),
    ],
)
def test_bad_series(a, b, lags, word):
    with pytest.raises(InputError, match=word):
        diebold_mariano(a, b, lags=lags)


def test_holm_by_hand():
    # sorted .005 x 4 = .02, .01 x 3 = .03, .03 x 2 = .06, .04 x 1 -> .06 by monotony
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([]).size == 0
    with pytest.raises(InputError, match="p_value"):
        holm([1.2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_value_and_bonferroni(p):
    adjusted = holm(p)
    assert np.all(adjusted >= np.array(p))
    assert np.all(adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-15)


# ------------------------------------------------------------------------------------------------- bootstrap
def test_block_bootstrap_covers_at_its_level():
    """90% intervals of the mean of an MA(1): near 90% with blocks, far less with single days."""
    rng = np.random.default_rng(2)
    e = rng.standard_normal((400, 301))
    series = e[:, 1:] + 0.7 * e[:, :-1]

    def covered(block):
        intervals = [bootstrap_interval(lambda m: m, row, level=0.9, block=block, resamples=300) for row in series]
        return np.mean([low <= 0 <= high for low, high in intervals])

    assert 0.84 < covered(None) < 0.94
    assert covered(1) < 0.83


def test_block_bootstrap_resamples_series_together():
    rng = np.random.default_rng(3)
    common = rng.standard_normal(300)
    low, high = bootstrap_interval(lambda a, b: a - b, 10 * common + 1, 10 * common)
    assert (low, high) == pytest.approx((1, 1))
    assert bootstrap_interval(lambda a: a, common, seed=1) == bootstrap_interval(lambda a: a, common, seed=1)


def test_bad_bootstrap_arguments():
    for arguments, options, word in (
        ((np.zeros(5),), {}, "at least 10"),
        ((np.zeros(20), np.zeros(19)), {}, "same days"),
        ((np.full(20, np.nan),), {}, "finite"),
        ((np.zeros(20),), {"level": 1.0}, "level"),
        ((np.zeros(20),), {"block": 21}, "block"),
    ):
        with pytest.raises(InputError, match=word):
            bootstrap_interval(lambda *means: means[0], *arguments, **options)
    with pytest.raises(InputError, match="statistic"):
        bootstrap_interval(lambda a: a / 0 if a is None else 1.0, np.zeros(20))


# ------------------------------------------------------------------------------------------------- backtests
def test_kupiec_by_hand():
    # 6 of 250 at 1%: the textbook example, LR = 3.555
    ratio = -2 * (6 * np.log(0.01) + 244 * np.log(0.99) - 6 * np.log(0.024) - 244 * np.log(0.976))
    hit = np.arange(250) < 6
    assert float(kupiec(hit, 0.01)) == pytest.approx(chi2.sf(ratio, 1), rel=1e-12)
    assert ratio == pytest.approx(3.555, abs=1e-3)
    # none of 100 at 5%: -2 100 log .95
    assert float(kupiec(np.zeros(100, bool), 0.05)) == pytest.approx(chi2.sf(-200 * np.log(0.95), 1), rel=1e-12)


def test_christoffersen_by_hand():
    # 0 1 1 0 0 0 0 1 0 0: transitions 00 4, 01 2, 10 2, 11 1
    hit = np.array([0, 1, 1, 0, 0, 0, 0, 1, 0, 0], bool)
    own = 4 * np.log(4 / 6) + 2 * np.log(2 / 6) + 2 * np.log(2 / 3) + np.log(1 / 3)
    same = 6 * np.log(6 / 9) + 3 * np.log(3 / 9)
    independence, both = christoffersen(hit, 0.2)
    ratio = 2 * (own - same)
    assert float(independence) == pytest.approx(chi2.sf(ratio, 1), rel=1e-12)
    rate = 2 * (3 * np.log(0.3 / 0.2) + 7 * np.log(0.7 / 0.8))
    assert float(both) == pytest.approx(chi2.sf(ratio + rate, 2), rel=1e-12)


def test_backtests_reject_at_their_rates():
    """Independent violations at the right rate: 5% rejected; at another rate, or clustered, nearly all."""
    rng = np.random.default_rng(4)
    n = 2000
    right = rng.random((n, 1000)) < 0.05
    # the statistics are discrete: their own rates lie within a percent of 5
    assert 0.03 < np.mean(kupiec(right, 0.05) < 0.05) < 0.07
    independence, both = christoffersen(right, 0.05)
    assert 0.03 < np.mean(independence < 0.05) < 0.08
    assert 0.03 < np.mean(both < 0.05) < 0.08
    assert np.mean(kupiec(right, 0.1) < 0.05) > 0.9
    clustered = np.repeat(rng.random((n // 2, 500)) < 0.05, 2, axis=0)
    assert np.mean(christoffersen(clustered, 0.05)[0] < 0.05) > 0.99


def test_z2_by_hand_and_its_p_value_at_the_nominal_rate():
    """Standard normal profits, 250 days: rejected at about 5% where VaR and ES are right, and mostly where too mild."""
    rng = np.random.default_rng(5)
    alpha = 0.025
    q = norm.ppf(alpha)
    e = -norm.pdf(q) / alpha
    assert z2_statistic(np.array([q - 1, 1.0, 2.0, 3.0]), np.full(4, q), np.full(4, e), alpha) == pytest.approx(
        (q - 1) / 4 / (alpha * -e) + 1
    )
    x = rng.standard_normal((250, 6000))
    # moments of x 1{x <= q} / (alpha (-e)) in closed form: int x^k phi below q
    m1, m2 = -norm.pdf(q), alpha - q * norm.pdf(q)
    m3 = -(q**2 + 2) * norm.pdf(q)
    scale = 1 / (alpha * -e)
    mean, second, third = scale * m1, scale**2 * m2, scale**3 * m3
    variance, skew = second - mean**2, third - 3 * mean * second + 2 * mean**3
    moment = np.tile(np.array([mean, variance, skew])[:, None], (250, 1, 6000))
    p = z2_p_value(z2_statistic(x, np.full(x.shape, q), np.full(x.shape, e), alpha), moment)
    # a normal law in place of the skewed one is off by .004 at 1%
    for level, margin in ((0.01, 0.003), (0.05, 0.006), (0.1, 0.01)):
        assert np.mean(p < level) == pytest.approx(level, abs=margin)
    wide = z2_p_value(z2_statistic(1.3 * x, np.full(x.shape, q), np.full(x.shape, e), alpha), moment)
    assert np.mean(wide < 0.05) > 0.85
    assert np.all(z2_p_value(np.ones(3), moment[:, :, :3]) == 1)


def test_daily_moments_of_z2_and_tails_against_the_risk_functions():
    rng = np.random.default_rng(6)
    profit, weight = rng.standard_normal((400, 3)), rng.dirichlet(np.ones(400))
    ordered, order = sort_scenarios(profit)
    quantile, shortfall = _tail(ordered, weight[order])
    np.testing.assert_allclose(-quantile, value_at_risk(profit, weight, alpha=TAILS), rtol=1e-12)
    np.testing.assert_allclose(-shortfall, expected_shortfall(profit, weight, alpha=TAILS), rtol=1e-12)
    moment = _z2_moments(profit, weight, quantile, shortfall)
    term = np.array([x / (0.05 * -shortfall[2, 1]) if x <= quantile[2, 1] else 0 for x in profit[:, 1]])
    mean = weight @ term
    np.testing.assert_allclose(
        moment[:, 2, 1], [mean, weight @ (term - mean) ** 2, weight @ (term - mean) ** 3], rtol=1e-12
    )


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 0.1), st.floats(-1.0, 1.0), st.floats(-0.5, 0.5))
def test_fissler_ziegel_is_least_at_the_truth(alpha, dv, de):
    """Expected score of a standard normal profit, in closed form, at other values of VaR and ES."""
    q = norm.ppf(alpha)
    truth = -norm.pdf(q) / alpha

    def expected(v, e):
        # E[1{x<=v}(v - x)] = v Phi(v) + phi(v)
        return -(v * norm.cdf(v) + norm.pdf(v)) / (alpha * e) + v / e + np.log(-e) - 1

    assert expected(q + dv, truth + de) >= expected(q, truth) - 1e-12
    x = np.random.default_rng(0).standard_normal(200_000)
    assert fissler_ziegel(x, q, truth, alpha).mean() == pytest.approx(expected(q, truth), abs=0.05)


def test_bad_backtest_arguments():
    with pytest.raises(InputError, match="True and False"):
        kupiec(np.zeros(10), 0.05)
    with pytest.raises(InputError, match="alpha"):
        kupiec(np.zeros(10, bool), 1.0)
    with pytest.raises(InputError, match="alpha of shape"):
        kupiec(np.zeros((10, 3), bool), [0.1, 0.2])
    with pytest.raises(InputError, match="two days"):
        christoffersen(np.zeros(1, bool), 0.1)
    with pytest.raises(InputError, match="shortfall"):
        fissler_ziegel(0.0, -1.0, 0.0, 0.05)

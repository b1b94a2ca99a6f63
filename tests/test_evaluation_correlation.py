"""Correlations, their errors, and whether they are constant: against Monte Carlo, bootstrap and values by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata

from volscen.errors import InputError
from volscen.evaluation import constant_correlation, correlation_interval, fisher_z


def pairs(rho, n, samples, rng, tail=None):
    """Normal pairs, or Student-t ones, of correlation rho: (samples, n) twice."""
    z = rng.standard_normal((2, samples, n))
    x, y = z[0], rho * z[0] + math.sqrt(1 - rho**2) * z[1]
    if tail is None:
        return x, y
    common = np.sqrt(tail / rng.chisquare(tail, (samples, n)))
    return x * common, y * common


def pearson(x, y):
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    return (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))


def test_interval_by_hand():
    low, high = correlation_interval([0.5, -0.9], [103, 28])
    half = 1.959963984540054 * np.array([0.1, 0.2])
    centre = np.array([0.5 * math.log(3), 0.5 * math.log(0.1 / 1.9)])
    np.testing.assert_allclose(low, np.tanh(centre - half), rtol=1e-13)
    np.testing.assert_allclose(high, np.tanh(centre + half), rtol=1e-13)
    low, _ = correlation_interval(0.5, 103, kind="spearman")
    assert float(low) == pytest.approx(math.tanh(centre[0] - 1.959963984540054 * math.sqrt(1.125 / 100)), rel=1e-13)
    low, _ = correlation_interval(0.5, 104, kind="kendall")
    assert float(low) == pytest.approx(math.tanh(centre[0] - 1.959963984540054 * math.sqrt(0.00437)), rel=1e-13)


@pytest.mark.parametrize("rho", [0.0, -0.8])
@pytest.mark.parametrize(("level", "n"), [(0.95, 40), (0.9, 200)])
def test_pearson_coverage(rho, level, n):
    x, y = pairs(rho, n, 8000, np.random.default_rng(1))
    low, high = correlation_interval(pearson(x, y), n, level=level)
    assert ((low <= rho) & (rho <= high)).mean() == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 8000))


def test_rank_coverage():
    """Population values under normal pairs: 6/pi asin(rho/2) and 2/pi asin(rho)."""
    rho, n = 0.6, 50
    x, y = pairs(rho, n, 3000, np.random.default_rng(2))
    found = pearson(rankdata(x, axis=1), rankdata(y, axis=1))
    low, high = correlation_interval(found, n, kind="spearman")
    truth = 6 / math.pi * math.asin(rho / 2)
    assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(0.95, abs=0.015)
    found = np.array([kendalltau(a, b).statistic for a, b in zip(x[:1000], y[:1000], strict=True)])
    low, high = correlation_interval(found, n, kind="kendall")
    truth = 2 / math.pi * math.asin(rho)
    assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(0.95, abs=0.025)


def test_error_of_heavy_tails():
    """Student-t pairs of 6 degrees of freedom: the normal error covers 95% too seldom, the influence's does not."""
    rho, n = -0.7, 1000
    x, y = pairs(rho, n, 1500, np.random.default_rng(3), tail=6)
    found = np.array([fisher_z(a, b) for a, b in zip(x, y, strict=True)])
    np.testing.assert_allclose(found[:, 0], pearson(x, y), rtol=1e-12)
    np.testing.assert_allclose(found[:, 1], np.arctanh(found[:, 0]), rtol=1e-12)
    off = np.abs(found[:, 1] - math.atanh(rho))
    assert (off <= 1.96 * found[:, 2]).mean() == pytest.approx(0.95, abs=0.025)
    assert (off <= 1.96 / math.sqrt(n - 3)).mean() < 0.88
    assert found[:, 2].mean() == pytest.approx(found[:, 1].std(), rel=0.1)


def test_error_of_weighted_pairs():
    """Weights are importance weights: their estimates vary as the error says."""
    rho, n = 0.5, 600
    rng = np.random.default_rng(4)
    x, y = pairs(rho, n, 1200, rng)
    w = np.exp(0.8 * x)  # tilts the mean of x and leaves the dependence as it is
    w /= w.sum(axis=1, keepdims=True)
    found = np.array([fisher_z(*day) for day in zip(x, y, w, strict=True)])
    assert found[:, 0].mean() == pytest.approx(rho, abs=0.01)
    assert found[:, 2].mean() == pytest.approx(found[:, 1].std(), rel=0.15)
    equal = fisher_z(x[0], y[0])
    assert fisher_z(x[0], y[0], np.full(n, 1 / n)) == pytest.approx(equal, rel=1e-12)
    twice = np.r_[np.full(300, 2.0), np.zeros(300)] / 600
    assert fisher_z(x[0], y[0], twice) == pytest.approx(fisher_z(x[0][:300], y[0][:300]), rel=1e-10)


def test_constancy_at_its_level_and_its_power():
    """Of 400 years of a constant correlation 5% are rejected at 5%; of one that swings by .1, nearly all."""
    rng = np.random.default_rng(5)
    n, days, years = 400, 60, 400
    x, y = pairs(-0.7, n, days * years, rng)
    r = pearson(x, y).reshape(years, days)
    p = np.array([constant_correlation(year, n=n).p_value for year in r])
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.035)
    outside = np.mean([constant_correlation(year, n=n).share_outside for year in r])
    assert outside == pytest.approx(0.05, abs=0.008)
    swings = np.tanh(np.arctanh(r[:100]) + 0.1 * np.sin(np.arange(days)))
    assert np.mean([constant_correlation(year, n=n).p_value < 0.05 for year in swings]) > 0.95


def test_constancy_by_hand():
    r, n = np.array([0.2, 0.4, 0.6]), np.array([103, 53, 28])
    z = np.arctanh(r)
    centre = (100 * z[0] + 50 * z[1] + 25 * z[2]) / 175
    q = 100 * (z[0] - centre) ** 2 + 50 * (z[1] - centre) ** 2 + 25 * (z[2] - centre) ** 2
    found = constant_correlation(r, n=n)
    assert found.statistic == pytest.approx(q, rel=1e-12)
    assert found.p_value == pytest.approx(math.exp(-q / 2), rel=1e-12)  # chi-square of two degrees of freedom
    assert (found.correlation, found.days) == (pytest.approx(0.4), 3)
    assert found.low == pytest.approx(math.tanh(z[1] - 1.959963984540054 / math.sqrt(50)))
    assert found.share_outside == pytest.approx(1 / 3)  # the first: .2203 off, allowed .196
    assert constant_correlation(r, standard_error=1 / np.sqrt(n - 3)) == found


def test_what_they_refuse():
    for wrong in (1.0, -1.0, np.nan, 2.0):
        with pytest.raises(InputError, match="strictly between"):
            correlation_interval(wrong, 50)
        with pytest.raises(InputError, match="strictly between"):
            constant_correlation([0.1, wrong], n=50)
    for options, words in (
        ({"n": 3}, "above 3"), ({"n": 4, "kind": "kendall"}, "above 4"), ({"n": np.nan}, "above 3"),
        ({"n": 50, "level": 1.0}, "level"), ({"n": 50, "kind": "distance"}, "kind"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            correlation_interval(0.5, **options)
    for options, words in (
        ({}, "one of the two"), ({"n": 50, "standard_error": 0.1}, "one of the two"), ({"n": [50, 50, 50]}, "above 3"),
        ({"standard_error": 0.0}, "positive"), ({"standard_error": np.inf}, "positive"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            constant_correlation([0.1, 0.2], **options)
    with pytest.raises(InputError, match="two days"):
        constant_correlation([0.1], n=50)
    for x, y, words in (
        (np.zeros(9), np.arange(9), "does not move"), (np.arange(3), np.arange(3), "at least 4"),
        (np.arange(5), np.arange(6), "one length"), (np.full(5, np.nan), np.arange(5), "finite"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            fisher_z(x, y)

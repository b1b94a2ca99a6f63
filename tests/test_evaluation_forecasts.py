"""Volatility forecasts and hedges: losses by hand, rules with known accuracy, tests at their nominal rates."""

from __future__ import annotations

import numpy as np
import pytest

from volscen.errors import InputError
from volscen.evaluation import direction, pesaran_timmermann, qlike, theil_u, tracking_table
from volscen.risk import expected_shortfall, value_at_risk


def test_qlike_by_hand_and_least_at_the_truth():
    np.testing.assert_allclose(qlike([0.04, 0.02], [0.02, 0.04]), [0.5 - np.log(0.5) - 1, 2 - np.log(2) - 1])
    rng = np.random.default_rng(0)
    proxy = 0.04 * rng.standard_normal(200_000) ** 2 + 1e-12
    means = [qlike(np.full(proxy.size, v), proxy).mean() for v in (0.03, 0.04, 0.05)]
    assert means[1] == min(means)
    with pytest.raises(InputError, match="positive variances"):
        qlike([0.04], [0.0])
    with pytest.raises(InputError, match="same dates"):
        qlike([0.04], [0.04, 0.05])


def test_theil_by_hand():
    assert theil_u([1.0, 3.0], [2.0, 3.0], [4.0, 3.5]) == pytest.approx(np.sqrt(1 / 4.25))
    assert theil_u([4.0, 3.5], [2.0, 3.0], [4.0, 3.5]) == 1
    with pytest.raises(InputError, match="never differs"):
        theil_u([1.0], [2.0], [2.0])


def test_the_mean_reversion_rule_is_the_bar_not_one_half():
    """On independent lognormals "below the median, so up" is right three times in four, and so is its forecaster."""
    vol = np.random.default_rng(1).lognormal(size=6001)
    found = direction(np.full(6000, 1.0), vol[1:], vol[:-1])
    assert found.mean_reversion == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 6000))
    assert found.accuracy == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 6000))
    assert found.p_value < 1e-6
    walk = np.exp(0.05 * np.cumsum(np.random.default_rng(2).standard_normal(4001)))
    chance = direction(walk[:-1] * np.exp(0.01 * np.random.default_rng(3).standard_normal(4000)), walk[1:], walk[:-1])
    assert chance.accuracy == pytest.approx(0.5, abs=0.04)
    assert chance.p_value > 1e-4


def test_the_rule_looks_back_only():
    vol = np.random.default_rng(4).lognormal(size=101)
    first = direction(np.full(60, 1.0), vol[1:61], vol[:60])
    changed = vol.copy()
    changed[61:] *= 100
    assert direction(np.full(60, 1.0), changed[1:61], changed[:60]) == first
    rising = np.arange(1.0, 42.0)  # below no median of the past, but for the first date on which the rule is silent
    found = direction(rising[1:], rising[1:], rising[:-1])
    assert (found.accuracy, found.mean_reversion, found.days) == (1.0, 0.0, 39)


def test_pesaran_timmermann_by_hand():
    # 4 dates: up, up, down, down against said up, down, down, up: right half; p = q = .5, chance .5
    assert pesaran_timmermann(np.array([1, 0, 0, 1], bool), np.array([1, 1, 0, 0], bool))[0] == 0
    # n = 10, p = .6, q = .5, right .7: chance .5, variance .025 - (.04 .25/10 + 0 + 4 .06 /100)
    up = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0], bool)
    said = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 1], bool)
    expected = 0.2 / np.sqrt(0.025 - 0.001 - 4 * 0.06 / 100)
    assert pesaran_timmermann(said, up)[0] == pytest.approx(expected, rel=1e-12)
    assert pesaran_timmermann(np.ones(10, bool), up) == (0.0, 0.5)
    with pytest.raises(InputError, match="True and False"):
        pesaran_timmermann(np.ones(10), up)


def test_pesaran_timmermann_rejects_at_its_rate():
    rng = np.random.default_rng(5)
    p = [pesaran_timmermann(rng.random(200) < 0.6, rng.random(200) < 0.55)[1] for _ in range(3000)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 3000) + 0.005)


def test_tracking_errors():
    rng = np.random.default_rng(6)
    delta = rng.standard_normal(300)
    errors = {"delta": delta, "regression": 0.6 * delta + 0.1 * rng.standard_normal(300), "same": delta.copy()}
    found = tracking_table(errors, baseline="delta")
    row = found.loc["regression"]
    e = errors["regression"]
    assert row["rmse"] == pytest.approx(np.sqrt(np.mean(e**2)))
    assert row["var_2.5"] == float(value_at_risk(e, alpha=0.025))
    assert row["es_1"] == float(expected_shortfall(e, alpha=0.01))
    assert row["ratio_low"] < row["rmse_ratio"] < row["ratio_high"] < 1
    assert row["dm_t"] < -5
    assert row["holm_p"] < 1e-4
    assert tuple(found.loc["same", ["dm_t", "holm_p", "rmse_ratio"]]) == (0, 1, 1)
    for bad, word in (
        ({"a": delta}, "baseline"),
        ({"delta": delta, "a": delta[:-1]}, "same days"),
        ({"delta": delta, "a": np.r_[delta[:-1], np.nan]}, "finite"),
        ({"delta": np.zeros(30)}, "never errs"),
    ):
        with pytest.raises(InputError, match=word):
            tracking_table(bad, baseline="delta")

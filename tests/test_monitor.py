"""Watching a model: false alarms at the stated rate, alarms where the law is wrong, no look ahead."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import quad
from scipy.spatial.distance import cdist
from scipy.special import logsumexp, ndtr
from scipy.stats import kstest, norm

import volscen
from evaluation_makers import GaussianMarket
from volscen.errors import InputError
from volscen.evaluation import Oracle, calibration_evidence, kupiec, monitor_drift
from volscen.evaluation._martingale import BETS
from volscen.evaluation._monitor import CHANNELS, _distances, _mean_distances, _ranks
from volscen.sources.simulate import simulate_market

KNOWN = 60


@pytest.fixture(scope="module")
def history():
    return simulate_market(GaussianMarket(), KNOWN + 180, seed=3)


def oracle(history, **wrong):
    return Oracle(GaussianMarket(**wrong)).fit(history.isel(date=slice(0, KNOWN)))


def watch(model, history, **options):
    return monitor_drift(model, history, **{"n_scenarios": 100, "update_every": 1, **options})


# ------------------------------------------------------------------------------------------------ the test
def test_bets_are_densities():
    """Each pays one on average, so that the capital is a martingale."""
    for _, mean, sd in BETS:
        area = quad(lambda z, m=mean, s=sd: norm.pdf(z, m, s) / norm.pdf(z) * norm.pdf(z), -12, 12)[0]
        assert area == pytest.approx(1, abs=1e-9)


def test_capital_by_hand():
    """Two days at the median and at the 97.5% quantile, without and with jumps."""
    pit = np.array([0.5, 0.975])
    price = np.array([[norm.pdf(z, m, s) / norm.pdf(z) for _, m, s in BETS] for z in norm.ppf(pit)])
    found = calibration_evidence(pit, jump_rate=0.0)
    np.testing.assert_allclose(np.exp(found.log_capital), [price[0].mean(), (price[0] * price[1]).mean()], rtol=1e-12)
    money = price[0] / 9
    money = (0.9 * money + 0.1 * money.sum() / 9) * price[1]
    found = calibration_evidence(pit, jump_rate=0.1)
    assert np.exp(found.log_capital[1]) == pytest.approx(money.sum(), rel=1e-12)
    np.testing.assert_allclose(found.share[1], money / money.sum(), rtol=1e-12)


def test_false_alarms_come_at_the_stated_rate():
    """Ville's bound over 400 days of looking daily, on dependent series, whose mean capital is tested."""
    rng = np.random.default_rng(7)
    z = rng.standard_normal((400, 800, 1)) * 0.6 + 0.8 * rng.standard_normal((400, 800, 3))
    capital = calibration_evidence(ndtr(z)).log_capital
    for paths in (capital[:, :, 0], logsumexp(capital, axis=2) - np.log(3)):
        for alpha in (0.01, 0.05, 0.2):
            rate = (paths.max(axis=0) >= -np.log(alpha)).mean()
            assert rate <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / 800)
            assert rate >= 0.25 * alpha  # a test that never speaks would pass the bound too


@pytest.mark.parametrize(
    ("mean", "sd", "change", "days"),
    [(0.5, 1.0, 0, 120), (0.0, 1.25, 0, 291), (0.0, 1.6, 0, 56), (0.0, 0.7, 0, 143), (0.5, 1.0, 250, 154),
     (0.0, 1.6, 250, 77)],
)  # fmt: skip
def test_power(mean, sd, change, days):
    """Nine in ten runs are found within the days that docs/models.md states: one of six quantities is off, from the
    start or after a calm year."""
    rng = np.random.default_rng(8)
    z = rng.standard_normal((change + days, 150, 6))
    z[change:, :, 0] = mean + sd * z[change:, :, 0]
    capital = calibration_evidence(np.clip(ndtr(z), 1e-12, 1 - 1e-12)).log_capital
    total = logsumexp(capital, axis=2) - np.log(6)
    found = (total.max(axis=0) >= np.log(100)).mean()
    assert 0.8 < found < 0.98


def test_pits_that_are_none():
    for wrong in ([0.0, 0.5], [0.5, 1.0], [0.5, np.nan], 0.5):
        with pytest.raises(InputError, match="strictly between 0 and 1"):
            calibration_evidence(wrong)
    with pytest.raises(InputError, match="jump_rate"):
        calibration_evidence([0.5], jump_rate=1.0)


# --------------------------------------------------------------------------------------------- the ranks
def test_ranks_are_uniform_with_ties_too():
    rng = np.random.default_rng(1)
    equal = np.full(9, 1 / 9)
    u = np.array([_ranks(rng.integers(0, 3, (10, 1)).astype(float), equal, rng) for _ in range(4000)])
    assert kstest(u[:, 0], "uniform").pvalue > 0.01
    x = np.array([[0.0], [1.0], [2.0], [1.5]])
    values = np.array([_ranks(x, np.array([0.2, 0.3, 0.5]), np.random.default_rng(i))[0] for i in range(200)])
    assert values.min() >= 3 * 0.5 / 4  # weight below, in numbers of scenarios, over n + 1
    assert values.max() <= (3 * 0.5 + 1) / 4
    assert np.ptp(values) > 0.2


def test_distances():
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((300, 4)), rng.dirichlet(np.ones(300))
    np.testing.assert_allclose(_distances(x, w), cdist(x, x) @ w, rtol=1e-10)


def test_rank_of_the_distance_is_exact_for_few_scenarios():
    """Nothing sets the outcome apart: with three scenarios, where leaving it out would show, ranks are uniform."""
    rng = np.random.default_rng(3)
    equal = np.full(3, 1 / 3)
    bag = rng.standard_normal((4, 1))
    means = _mean_distances(_distances(bag[:3], equal), np.abs(bag[:3, 0] - bag[3, 0]), equal)
    np.testing.assert_allclose(means, cdist(bag, bag).sum(axis=1) / 3, rtol=1e-12)
    u = []
    for _ in range(3000):
        x, y = rng.standard_normal((3, 2)), rng.standard_normal(2)
        means = _mean_distances(_distances(x, equal), np.linalg.norm(x - y, axis=1), equal)
        u.append(_ranks(means[:, None], equal, rng)[0])
    assert kstest(u, "uniform").pvalue > 0.01


# ------------------------------------------------------------------------------------------- the monitor
@pytest.fixture(scope="module")
def calm(history):
    return watch(oracle(history), history)


def test_the_true_law_raises_no_alarm(calm):
    assert calm.attrs["refit_due"] == 0
    assert not calm.refit_due.any()
    assert calm.attrs["reason"].startswith("evidence at most")
    assert calm.attrs["alarm"] == ""
    assert calm.sizes == {"date": 180, "channel": 6, "level": 3}
    assert all(np.isfinite(calm[name]).all() for name in calm.data_vars)
    for channel in CHANNELS:
        assert kstest(calm.pit.sel(channel=channel), "uniform").pvalue > 0.001
    assert abs(calm.score_excess[-1]) < 3


@pytest.mark.parametrize(
    ("wrong", "says", "within"),
    [
        ({"bias": 0.6}, "lower than the law says", 80),
        ({"width": 0.5}, "too narrow", 60),
        ({"width": 2.0}, "too wide", 60),
        ({"correlation": 0.5}, "return_times_atm30", 60),
    ],
)
def test_a_wrong_law_is_found(history, wrong, says, within):
    """Laws off by half a standard deviation, half or twice as wide, or with the wrong dependence."""
    found = watch(oracle(history, **wrong), history.isel(date=slice(0, KNOWN + within)))
    assert found.attrs["refit_due"] == 1
    assert says in found.attrs["reason"]
    due = found.refit_due.values
    assert str(found.date.values[due.argmax()])[:10] == found.attrs["alarm"]
    assert due[due.argmax() :].all()
    assert found.log10_evidence.values[due.argmax()] >= 2
    assert (found.log10_evidence.values[: due.argmax()] < 2).all()
    if "width" in wrong:
        assert (float(found.score_excess[-1]) > 3) == (wrong["width"] < 1)
        assert abs(float(found.score_excess[-1])) > 3


def test_a_change_of_regime_is_found(history):
    """Moves twice as large from day 100 on: silence before, an alarm within 40 days after."""
    change = KNOWN + 100
    r = np.nan_to_num(history.log_return.values)
    g = np.diff(np.log(history.implied_vol.values), axis=0)
    r[change:] *= 2
    g[change - 1 :] *= 2
    vol = history.implied_vol.values[0] * np.exp(np.concatenate([np.zeros((1, *g.shape[1:])), np.cumsum(g, axis=0)]))
    spot = 100 * np.exp(np.cumsum(r))
    stormy = volscen.make_history(
        history.date.values, history.tau.values, history.moneyness.values, vol, spot=spot, calendar="weekdays"
    )
    model = volscen.fit(stormy.isel(date=slice(0, KNOWN)), "bootstrap")
    found = monitor_drift(model, stormy.isel(date=slice(0, change + 40)), n_scenarios=100, significance=0.01)
    before = found.refit_due.values[:100]
    assert not before.any()
    assert found.attrs["refit_due"] == 1


def test_scores_expected_by_the_law(history):
    """Figures of one date, from their definitions."""
    model = oracle(history)
    found = watch(model, history.isel(date=slice(0, KNOWN + 10)), window=10)
    row = KNOWN + 4
    cube = volscen.generate(
        model.update(history.isel(date=slice(0, row + 1))), history, as_of=history.date.values[row], n_scenarios=100,
        seed=0,
    )  # fmt: skip
    g = np.log(history.implied_vol.values).reshape(history.sizes["date"], -1)
    data = np.column_stack([np.sqrt(252) * history.log_return.values[1:], np.diff(g, axis=0)])
    scale = data[: KNOWN - 1].std(axis=0)
    x = np.column_stack(
        [np.sqrt(252) * cube.log_return.values[:, 0], np.log(cube.implied_vol.values.reshape(100, -1)) - g[row]]
    )
    x, y = x / scale, data[row] / scale
    pairs = cdist(x, x)
    own = pairs.sum(axis=1) / 99
    day = found.isel(date=row - KNOWN + 1)
    assert float(day.energy_score) == pytest.approx(cdist(x, y[None]).mean() - own.mean() / 2, rel=1e-5)
    assert float(day.expected_energy_score) == pytest.approx(own.mean() / 2, rel=1e-5)
    assert float(day.energy_score_sd) == pytest.approx(own.std(), rel=1e-5)
    rank = (x[:, 0] < y[0]).sum()
    assert rank / 101 <= float(day.pit.sel(channel="return")) <= (rank + 1) / 101
    bag = np.vstack([x, y])
    far = cdist(bag, bag).sum(axis=1)
    rank = (far[:-1] < far[-1]).sum()
    assert rank / 101 <= float(day.pit.sel(channel="distance")) <= (rank + 1) / 101


def test_rolling_figures(calm):
    """Of the last 60 days, and of the days so far before that."""
    for end in (7, 60, 180):
        part, day = calm.isel(date=slice(max(0, end - 60), end)), calm.isel(date=end - 1)
        assert int(day.days_in_window) == part.sizes["date"]
        pit = part.pit.sel(channel="vix30").values
        expected = kstest(pit, "uniform")
        at = day.sel(channel="vix30")
        assert float(at.pit_ks) == pytest.approx(expected.statistic)
        assert float(at.pit_ks_p_value) == pytest.approx(expected.pvalue, rel=1e-6)
        inside = (pit >= 0.05) & (pit <= 0.95)
        assert float(at.coverage.sel(level=0.9)) == inside.mean()
        assert float(at.coverage_p_value.sel(level=0.9)) == pytest.approx(float(kupiec(~inside, 0.1)))
        excess = (part.energy_score - part.expected_energy_score).sum() / np.sqrt((part.energy_score_sd**2).sum())
        assert float(day.score_excess) == pytest.approx(float(excess))
        assert float(day.score_excess_p_value) == pytest.approx(norm.sf(float(excess)))
    total = calibration_evidence(calm.pit.values).log_capital
    np.testing.assert_allclose(10**calm.log10_evidence, np.exp(total).mean(axis=1), rtol=1e-10)


def test_later_days_change_nothing_before(history, calm):
    short = watch(oracle(history), history.isel(date=slice(0, KNOWN + 50)))
    for name in short.data_vars:
        xr.testing.assert_identical(short[name], calm[name].isel(date=slice(0, 50)))
    model = volscen.fit(history.isel(date=slice(0, 100)), "bootstrap")
    whole, short = (
        monitor_drift(model, part, n_scenarios=100, update_every=20)
        for part in (history.isel(date=slice(0, 150)), history.isel(date=slice(0, 121)))
    )
    xr.testing.assert_identical(short.pit, whole.pit.isel(date=slice(0, 21)))


def test_update_every_and_many_dates_at_once(history):
    """Without updates dates are drawn in one go, to the bits of one at a time; a copy is updated, not the model."""
    model = volscen.fit(history.isel(date=slice(0, 100)), "bootstrap")
    plain = monitor_drift(model, history, last=history.date.values[139], n_scenarios=100)
    one = monitor_drift(model, history, first=history.date.values[120], last=history.date.values[120], n_scenarios=100)
    later = monitor_drift(
        model, history, first=history.date.values[120], last=history.date.values[125], n_scenarios=100
    )
    np.testing.assert_array_equal(one.pit[0], later.pit[0])
    updated = monitor_drift(model, history, last=history.date.values[139], n_scenarios=100, update_every=20)
    np.testing.assert_array_equal(updated.pit[:20], plain.pit[:20])
    assert not np.array_equal(updated.pit[20:], plain.pit[20:])
    assert model.period_[1] == str(history.date.values[99])[:10]
    assert plain.attrs["first"] == str(history.date.values[100])[:10]
    assert (plain.attrs["update_every"], updated.attrs["update_every"]) == ("none", "20")


def test_what_a_monitor_refuses(history):
    model = volscen.fit(history.isel(date=slice(0, 100)), "bootstrap")
    dates = history.date.values
    for options, words in (
        ({"first": dates[99]}, "has seen that day"),
        ({"first": "2030-01-01"}, "no date of the history"),
        ({"window": 5}, "window"),
        ({"significance": 0.0}, "significance"),
        ({"significance": float("nan")}, "significance"),
        ({"n_scenarios": 50}, "n_scenarios"),
        ({"seed": -1}, "seed"),
        ({"update_every": 0}, "update_every"),
    ):
        with pytest.raises(InputError, match=words):
            monitor_drift(model, history, **options)
    with pytest.raises(InputError, match="fitted generator"):
        monitor_drift(volscen.generators.generator_class("pca")(), history)
    with pytest.raises(InputError, match="no day after the fit yet: model 'bootstrap' was fitted up to"):
        monitor_drift(model, history.isel(date=slice(0, 100)))

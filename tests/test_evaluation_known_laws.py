"""Forecasters of a known market: the true law passes, and each wrong one fails the test made for its fault."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

import volscen
from evaluation_makers import GaussianMarket
from volscen.errors import InputError
from volscen.evaluation import (
    Oracle,
    compare,
    daily_scores,
    evaluate,
    format_table,
    stylised_facts,
    summarise,
    table,
    walk_forward,
)
from volscen.sources.simulate import simulate_market

DAYS = 400
TRUTH = GaussianMarket()
#: What each forecaster believes.
LAWS = {
    "true": TRUTH,
    "biased": GaussianMarket(bias=0.35),
    "narrow": GaussianMarket(width=0.75),
    "uncorrelated": GaussianMarket(correlation=0.0),
}


@pytest.fixture(scope="module")
def history():
    return simulate_market(TRUTH, 300 + DAYS, seed=9)


@pytest.fixture(scope="module")
def days(history):
    dates = history.date.values
    options = {"first": dates[300], "last": dates[-1], "refit_every": None, "beta": 0.0}
    return {label: walk_forward(Oracle(law), history, n_scenarios=400, **options) for label, law in LAWS.items()}


@pytest.fixture(scope="module")
def figures(days):
    return {label: summarise(one).sel(arm="raw") for label, one in days.items()}


def smallest_p(figures, name, variables=slice(None)):
    return float(figures[name].isel(variable=variables).min())


def test_the_true_law_passes_every_calibration_test(figures):
    """At .001 for single figures; counts of rejections at 5% stay within what chance allows."""
    found = figures["true"]
    for place in (0, 3, 22 - 1):  # the return, the 30-day at-the-money cell, the strip volatility
        assert float(found.pit_ks_p_value[place]) > 0.001
        assert float(found.coverage_p_value[:, place].min()) > 0.001
    assert np.all(found.functional_ks_p_value > 0.001)
    for level in found.level.values:
        low, high = binom.ppf([1e-4, 1 - 1e-4], DAYS, level) / DAYS
        # cells move together: their mean varies nearly as one does
        assert low <= float(found.coverage_mean.sel(level=level)) <= high
    np.testing.assert_allclose(found.sd_ratio, 1, atol=4 / np.sqrt(2 * DAYS))
    assert 0.7 < float(found.violation_ratio_mean.sel(tail=0.05)) < 1.35
    # positions move together, so that many of the 42 tests may be rejected at once, but not for one cause
    for name in ("kupiec", "christoffersen", "z2"):
        assert int(found[f"{name}_rejections"]) <= 12
    np.testing.assert_allclose(
        found.correlation.sel(series="return", series_other="atm30"),
        found.correlation_data.sel(series="return", series_other="atm30"),
        atol=0.08,
    )
    assert float(found.coverage_by_volatility.sel(level=0.9).min()) > 0.83


def test_a_biased_forecaster_fails_the_uniformity_of_the_pit(figures):
    assert float(figures["biased"].pit_ks_p_value[0]) < 1e-4
    # what happens lies too low: rarely above the upper quantile
    assert float(figures["biased"].exceedance.sel(probability=0.975)[0]) < 0.8
    # the dependence of moves is right, and says so
    assert float(figures["biased"].sd_ratio[0]) == pytest.approx(1, abs=0.15)


def test_a_too_narrow_forecaster_fails_coverage_and_understates_risk(figures):
    found = figures["narrow"]
    assert smallest_p(found, "coverage_p_value", [0]) < 1e-4
    assert float(found.coverage.sel(level=0.9)[0]) < 0.85
    assert float(found.violation_ratio.sel(tail=0.05, position="long index")) > 1.3
    assert float(found.kupiec_p_value.sel(tail=0.05, position="long straddle")) < 0.01
    assert float(found.kupiec_p_value.min()) < 1e-6
    assert float(found.z2_p_value.sel(tail=0.05, position="long index")) < 0.01
    assert int(found.z2_rejections) > int(figures["true"].z2_rejections)
    assert float(found.sd_ratio[0]) == pytest.approx(0.75, abs=0.08)
    assert float(found.functional_ks_p_value.sel(functional="size")) < 1e-4


def test_a_wrongly_correlated_forecaster_fails_the_joint_test_and_no_single_one(figures):
    found = figures["uncorrelated"]
    assert float(found.functional_ks_p_value.sel(functional="return_times_atm30")) < 1e-6
    for place in (0, 3):
        assert float(found.pit_ks_p_value[place]) > 0.001
    error = found.correlation - found.correlation_data
    assert float(np.abs(error.sel(series="return", series_other="atm30"))) > 0.6
    assert float(found.pc_inner.isel(component=0)) > 0.95  # the surface itself moves as it should


def test_the_true_law_beats_each_wrong_one(days):
    found = compare(days, baseline="true")
    main = found.sel(score="energy_score", arm="raw")
    for label in ("biased", "narrow", "uncorrelated"):
        assert float(main.dm_t.sel(generator=label)) > 2, label
        assert float(main.holm_p_value.sel(generator=label)) < 0.05, label
        assert float(main.skill.sel(generator=label)) < 0
    # scores made for dependence see it, those of single variables do not
    wrong = found.sel(generator="uncorrelated", arm="raw")
    assert float(wrong.dm_t.sel(score="energy_score_pc")) > 5
    assert float(wrong.dm_t.sel(score="variogram_score")) > 1.5
    assert float(wrong.dm_p_value.sel(score="crps_return")) > 0.001
    assert float(found.dm_t.sel(generator="true", arm="raw").max()) == 0
    assert np.all(found.skill_low.values[..., :3] <= found.skill.values[..., :3] + 1e-12)


def test_skill_is_one_for_the_oracle_and_zero_for_the_baseline(days):
    found = compare(days, baseline="narrow", oracle="true")
    skill = found.skill.sel(arm="raw", score="energy_score")
    assert float(skill.sel(generator="true")) == 1
    assert float(skill.sel(generator="narrow")) == 0
    es = {label: float(one.energy_score.sel(arm="raw").mean()) for label, one in days.items()}
    expected = 1 - (es["biased"] - es["true"]) / (es["narrow"] - es["true"])
    assert float(skill.sel(generator="biased")) == pytest.approx(expected, rel=1e-12)
    # neither yardstick is a competitor
    assert float(found.holm_p_value.sel(generator=["true", "narrow"]).min()) == 1


def test_comparison_by_hand(days):
    found = compare(days, baseline="true").sel(generator="narrow", arm="raw")
    own, base = (daily_scores(days[label]).sel(arm="raw") for label in ("narrow", "true"))
    difference = (own - base)["variogram_score"].values
    assert float(found.difference.sel(score="variogram_score")) == pytest.approx(difference.mean(), rel=1e-12)
    assert float(found.share_better.sel(score="variogram_score")) == np.mean(difference < 0)
    size = ((days["true"].realised / days["true"].scale).values[:, :-1] ** 2).sum(axis=1)
    largest = np.argsort(size)[-20:]
    extreme = float(found.extreme_difference.sel(score="variogram_score"))
    assert extreme == pytest.approx(difference[largest].mean(), rel=1e-12)
    with pytest.raises(InputError, match="not among the models"):
        compare(days, baseline="none")
    with pytest.raises(InputError, match="in common"):
        compare({"a": days["true"].isel(date=slice(0, 15))}, baseline="a")
    with pytest.raises(InputError, match="days must be"):
        summarise(found)
    with pytest.raises(InputError, match="at least 10"):
        summarise(days["true"].isel(date=slice(0, 5)))


def test_figures_name_their_meaning_and_units(figures):
    for name, variable in figures["true"].data_vars.items():
        assert variable.attrs.get("long_name"), name
        assert variable.attrs.get("units"), name
        if not name.startswith("skill"):
            assert np.isfinite(variable).all(), name


def test_evaluate_and_its_table(history):
    dates = history.date.values
    found = evaluate(
        {"recent": ("bootstrap", {"window": 100}), "pca": "pca"}, history, first=dates[500], last=dates[529],
        oracle=TRUTH, seeds=(0, 1), n_scenarios=150,
    )  # fmt: skip
    assert found.generator.values.tolist() == ["bootstrap", "recent", "pca", "oracle"]
    assert found.skill.dims == ("generator", "seed", "arm", "score")
    direct = walk_forward("pca", history, first=dates[500], last=dates[529], n_scenarios=150, seed=1)
    assert float(found.energy_score.sel(generator="pca", seed=1, arm="raw")) == pytest.approx(
        float(direct.energy_score.sel(arm="raw").mean()), rel=1e-12
    )
    frame = table(found)
    skill = found.skill.sel(generator="pca", arm="raw", score="energy_score").values
    worst = found.energy_score.sel(generator="pca", arm="raw").values[np.argmin(skill)]
    assert frame.loc[("pca", "raw"), "energy_score"] == worst
    base = found.energy_score.sel(generator="bootstrap", arm="raw").values
    assert frame.loc[("bootstrap", "raw"), "energy_score"] == base.max()
    assert len(frame) == 8
    text = format_table(frame)
    assert len(text.splitlines()) == 9
    assert f"{worst:.3f}" in text
    for bad, word in (
        ({"seeds": ()}, "seeds"),
        ({"seeds": (1, 1)}, "seeds"),
        ({"generators": ["pca", "pca"]}, "twice"),
        ({"baseline": "garch"}, "baseline"),
        ({"generators": {"x": ("pca",)}}, "generator 'x'"),
    ):
        with pytest.raises(InputError, match=word):
            evaluate(**{"generators": ["pca"], "history": history, "first": dates[500], "last": dates[529]} | bad)


def test_bands_are_judged_by_the_figure(history, days):
    dates = history.date.values
    found = evaluate(["bootstrap"], history, first=dates[500], last=dates[559], n_scenarios=150)
    row = table(found).loc[("bootstrap", "raw")]
    for name in str(row["broken"]).split():
        low, high = volscen.evaluation.BANDS[name]
        assert (low is not None and row[name] < low) or (high is not None and row[name] > high)


def test_stylised_facts_of_a_known_market(history):
    facts = stylised_facts(history)
    # log vol follows an AR(1) with .95: half-life log .5 / log .95 = 13.5 days; returns are independent
    assert float(facts.half_life) == pytest.approx(13.5, abs=5)
    assert np.abs(facts.return_autocorrelation).max() < 4 / np.sqrt(700)
    assert np.abs(facts.leverage).max() < 4 / np.sqrt(700)
    assert float(facts.return_vol_correlation) == pytest.approx(
        -0.8 * 0.02 / np.hypot(0.0204, 0.004 * np.sqrt(2)), abs=0.06
    )
    assert float(facts.kurtosis) == pytest.approx(3, abs=0.7)
    cube = volscen.generate(Oracle(TRUTH).fit(history), history, n_scenarios=2000, horizon=15, seed=1)
    paths = stylised_facts(cube)
    assert float(paths.return_vol_correlation) == pytest.approx(float(facts.return_vol_correlation), abs=0.05)
    assert np.abs(paths.return_autocorrelation).max() < 4 / np.sqrt(2000 * 10)
    # weights enter: with all of it on the scenarios that rose most, returns look alike
    rose = cube.log_return.sum("step").values > np.quantile(cube.log_return.sum("step").values, 0.99)
    skewed = cube.assign(weight=("scenario", rose / rose.sum(), cube.weight.attrs))
    assert float(np.abs(stylised_facts(skewed).return_autocorrelation).max()) > 0.02
    with pytest.raises(InputError, match="at least 10"):
        stylised_facts(cube.isel(step=slice(0, 5)))
    with pytest.raises(InputError, match="history or a scenario"):
        stylised_facts(cube.weight)


def test_leverage_looks_forward():
    """After a fall the next return is three times as large: a return tells of the size of the next, not of the last."""
    rng = np.random.default_rng(7)
    r = np.zeros(3000)
    for t in range(1, 3000):
        r[t] = (0.015 if r[t - 1] < 0 else 0.005) * rng.choice([-1.0, 1.0])
    vol = 0.2 * np.exp(0.02 * rng.standard_normal((3000, 2, 3)))
    dates = np.busday_offset(np.datetime64("2000-01-03"), np.arange(3000))
    history = volscen.make_history(dates, [0.1, 0.5], [0.9, 1.0, 1.1], vol, spot=100 * np.exp(np.cumsum(r)))
    leverage = stylised_facts(history).leverage
    # corr(r, r'^2) = -E|r| (a - b)/2 / sd sd' with |r| and r'^2 of two values: E|r| = a+b over 2, both variances known
    a, b = 0.015, 0.005
    expected = -(a + b) / 2 / np.sqrt((a**2 + b**2) / 2)
    assert float(leverage.sel(lag=1)) == pytest.approx(expected, abs=0.03)
    assert np.abs(leverage.sel(lag=[2, 3])).max() < 0.08

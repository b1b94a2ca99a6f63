"""Scores: known values, fairness, propriety, and agreement with independent implementations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scoringrules
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from evaluation_makers import small_cube, small_history
from volscen.errors import FileFormatError, InputError
from volscen.evaluation import (
    crps,
    energy_score,
    probability_integral_transform,
    score_scenarios,
    summarise,
    variogram_score,
)
from volscen.evaluation._scores import _fair, sort_scenarios, sorted_tail_crps
from volscen.evaluation._surfaces import falling_variance, negative_density, strip_volatility


def test_energy_score_by_hand():
    # points 0 (.25), 2 (.25), 4 (.5) against 1: E|x-y| = .25 + .25 + 1.5 = 2;
    # sum_{i != j} w w |d| = 2 (.0625 2 + .125 4 + .125 2) = 1.75, over 1 - .375 = 2.8; 2 - 1.4 = .6
    assert energy_score([[0.0], [2.0], [4.0]], [1.0], [0.25, 0.25, 0.5]) == pytest.approx(0.6, rel=1e-14)
    assert crps([[0.0], [2.0], [4.0]], [1.0], [0.25, 0.25, 0.5])[0] == pytest.approx(0.6, rel=1e-14)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 300), d=st.integers(2, 6), seed=st.integers(0, 2**32), weighted=st.booleans())
def test_scores_agree_with_scoringrules(n, d, seed, weighted):
    """More rows than one block of the distance matrix among them."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-3, 3), rng.standard_normal(d)
    w = rng.dirichlet(np.ones(n)) if weighted else np.full(n, 1 / n)
    expected = scoringrules.es_ensemble(y, x, ens_w=w, estimator="fair")
    assert energy_score(x, y, w) == pytest.approx(float(expected), rel=1e-9, abs=1e-11)
    expected = scoringrules.crps_ensemble(y, x, m_axis=0, ens_w=np.tile(w[:, None], d), estimator="fair")
    np.testing.assert_allclose(crps(x, y, w), expected, rtol=1e-9, atol=1e-11)
    # there every pair is counted twice
    expected = scoringrules.vs_ensemble(y, x, ens_w=w, p=0.5, estimator="nrg") / 2
    assert variogram_score(x, y, w) == pytest.approx(float(expected), rel=1e-9)


def test_tail_scores_agree_with_scoringrules():
    rng = np.random.default_rng(3)
    x, y, w = rng.standard_normal((80, 4)), rng.standard_normal(4), rng.dirichlet(np.ones(80))
    low, high = np.full(4, -0.7), np.full(4, 0.9)
    ordered, order = sort_scenarios(x)
    found = sorted_tail_crps(ordered, y, w[order], float(_fair(w)), np.stack([low, high]))
    for row, (a, b) in enumerate([(-np.inf, -0.7), (0.9, np.inf)]):
        expected = scoringrules.twcrps_ensemble(y, x.T, a=a, b=b, ens_w=np.tile(w, (4, 1)), estimator="fair")
        np.testing.assert_allclose(found[row], expected, rtol=1e-12)


def test_the_fair_score_does_not_depend_on_the_size():
    """Mean over 4,000 replications: ensembles of 5 and 50 from the right law agree within 4 standard errors."""
    rng = np.random.default_rng(1)
    means, errors = [], []
    for n in (5, 50):
        scores = [energy_score(rng.standard_normal((n, 2)), rng.standard_normal(2)) for _ in range(4000)]
        means.append(np.mean(scores))
        errors.append(np.std(scores) / np.sqrt(4000))
    assert abs(means[0] - means[1]) < 4 * np.hypot(*errors)


def test_zero_weight_is_absence():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((10, 3)), np.zeros(3)
    w = np.r_[np.zeros(4), np.full(6, 1 / 6)]
    for score in (energy_score, crps, variogram_score, probability_integral_transform):
        np.testing.assert_allclose(score(x, y, w), score(x[4:], y), rtol=1e-12)


def test_pit_by_hand():
    np.testing.assert_allclose(
        probability_integral_transform([[1.0, 5.0], [2.0, 5.0], [3.0, 6.0]], [2.0, 7.0], [0.5, 0.3, 0.2]),
        [0.65, 1.0],
    )


@pytest.mark.parametrize("score", [energy_score, crps, variogram_score, probability_integral_transform])
@pytest.mark.parametrize(
    ("ensemble", "observation"),
    [([[1.0]], [1.0]), ([[1.0], [np.nan]], [1.0]), ([1.0, 2.0], [1.0]), ([[1.0], [2.0]], [np.inf]), ([["a"]], [1.0])],
)
def test_bad_ensembles(score, ensemble, observation):
    with pytest.raises(InputError, match="ensemble"):
        score(ensemble, observation)


def test_bad_weights():
    with pytest.raises(InputError, match="one scenario"):
        energy_score([[1.0], [2.0]], [0.0], [1.0, 0.0])
    with pytest.raises(InputError, match="one scenario"):
        crps([[1.0], [2.0]], [0.0], [1.0, 0.0])
    with pytest.raises(InputError, match="sum to 1"):
        energy_score([[1.0], [2.0]], [0.0], [1.0, 1.0])
    with pytest.raises(InputError, match="p must be"):
        variogram_score([[1.0, 2.0], [2.0, 2.0]], [0.0, 1.0], p=0)


# ------------------------------------------------------------ against an independent scorer of scenario files
@pytest.fixture(scope="module")
def independent():
    """Results of a separate program on the same history and cubes; its distances are in single precision."""
    return json.loads((Path(__file__).parent / "data" / "independent_scores.json").read_text())


@pytest.fixture(scope="module")
def cube_days():
    history = small_history()
    return score_scenarios(small_cube(history), history, train_end=history.date.values[51])


@pytest.fixture(scope="module")
def figures(cube_days):
    return summarise(cube_days)


ARMS = {"weighted": "weighted", "raw": "unweighted"}
SCORES = {
    "es": "energy_score", "es_pc": "energy_score_pc", "vs": "variogram_score", "crps_ret": "crps_return",
    "crps_vix30": "crps_vix30", "crps_cells": "crps_cells", "crps_atm30": "crps_atm30", "crps_atm91": "crps_atm91",
    "crps_atm365": "crps_atm365", "crps_put.8_30": "crps_put.8_30", "crps_put.8_91": "crps_put.8_91",
    "crps_pnl": "crps_profit", "fz_0.01": "fissler_ziegel_1", "fz_0.025": "fissler_ziegel_2.5",
    "fz_0.05": "fissler_ziegel_5",
}  # fmt: skip


@pytest.mark.parametrize("arm", ARMS)
def test_scores_agree_with_an_independent_scorer(independent, figures, arm):
    theirs = independent[ARMS[arm]]["scores"]
    for name, own in SCORES.items():
        assert float(figures[own].sel(arm=arm)) == pytest.approx(theirs[name], rel=1e-6), name


@pytest.mark.parametrize("arm", ARMS)
def test_calibration_agrees_with_an_independent_scorer(independent, figures, arm):
    theirs, own = independent[ARMS[arm]], figures.sel(arm=arm)
    atm = int(np.flatnonzero((own.cell_tau == 30 / 365) & (own.cell_moneyness == 1.0))[0])
    for level, found in theirs["coverage"].items():
        at = own.sel(level=float(level))
        assert float(at.coverage[0]) == pytest.approx(found["ret"], abs=1e-12)
        assert float(at.coverage[-1]) == pytest.approx(found["vix30"], abs=1e-12)
        assert float(at.coverage[atm]) == pytest.approx(found["atm30"], abs=1e-12)
        assert float(at.coverage_mean) == pytest.approx(found["cells_mean"], abs=1e-12)
        assert float(at.coverage_worst) == pytest.approx(found["cells_max_abs_dev"], abs=1e-12)
    assert float(own.pit_ks[0]) == pytest.approx(theirs["pit_ks"]["ret"], abs=1e-12)
    assert float(own.pit_ks[atm]) == pytest.approx(theirs["pit_ks"]["atm30"], abs=1e-12)
    assert [float(own.pit_ks_mean), float(own.pit_ks_worst)] == pytest.approx(
        theirs["pit_ks_cells_mean_max"], abs=1e-12
    )
    for name, place in (("ret", 0), ("atm30", atm)):
        for p, rate in theirs["exceedance"][name].items():
            assert float(own.exceedance.sel(probability=float(p))[place]) == pytest.approx(rate, abs=1e-12)
    assert float(own.sd_ratio[0]) == pytest.approx(theirs["sd_ratio"]["ret"], rel=1e-9)
    assert float(own.sd_ratio[1:-1].mean()) == pytest.approx(theirs["sd_ratio"]["cells_mean"], rel=1e-9)


@pytest.mark.parametrize("arm", ARMS)
def test_risk_agrees_with_an_independent_scorer(independent, figures, cube_days, arm):
    theirs, own = independent[ARMS[arm]], figures.sel(arm=arm)
    pairs = {
        "ratio": "violation_ratio", "kupiec_p": "kupiec_p_value", "christoffersen_ind_p": "independence_p_value",
        "christoffersen_cc_p": "christoffersen_p_value", "z2": "z2",
    }  # fmt: skip
    for position, tails in theirs["portfolios"].items():
        for alpha, found in tails.items():
            at = own.sel(position=position, tail=float(alpha))
            for name, mine in pairs.items():
                assert float(at[mine]) == pytest.approx(found[name], rel=1e-9, abs=1e-9), (position, alpha, name)
    assert theirs["rejections"]["kupiec"] == f"{int(own.kupiec_rejections)}/42"
    assert theirs["rejections"]["christoffersen_cc"] == f"{int(own.christoffersen_rejections)}/42"
    for alpha, ratio in theirs["mean_violation_ratio"].items():
        assert float(own.violation_ratio_mean.sel(tail=float(alpha))) == pytest.approx(ratio, rel=1e-12)
    made = cube_days.profit.values[:, :7].std(axis=0)
    score = cube_days.crps_profit.sel(arm=arm).mean("date").values / made
    np.testing.assert_allclose(
        score, [theirs["crps_pnl_by_portfolio"][p] for p in cube_days.portfolio.values], rtol=1e-9
    )
    # Their p-values of Z2 are simulated, with 1,000 draws of each day; mine are of a law with the same three moments.
    simulated = np.array([[theirs["z2_p"][p][a] for a in ("0.025", "0.05")] for p in own.position.values])
    p_value = own.z2_p_value.sel(tail=[0.025, 0.05]).values.T
    np.testing.assert_allclose(p_value, simulated, atol=0.1)
    small = simulated < 0.1
    assert small.sum() > 1
    np.testing.assert_allclose(p_value[small], simulated[small], atol=0.02)


def test_arbitrage_and_structure_agree_with_an_independent_scorer(independent, figures):
    for source, suffix, arm in (("data", "_data", None), ("raw", "", "raw"), ("weighted", "", "weighted")):
        found = independent["arbitrage"][source]
        for name, statistic in (("penalty_mean", "mean"), ("penalty_median", "median"), ("penalty_p95", "p95")):
            own = figures[name + suffix] if arm is None else figures[name].sel(arm=arm)
            if source == "data" and statistic == "p95":
                continue  # of 39 days: they take an order statistic, mine is interpolated
            assert float(own) == pytest.approx(found[statistic], rel=1e-9, abs=1e-12), (source, statistic)
    assert float(figures.ess_fraction) == pytest.approx(independent["ess_over_n"]["mean"], rel=1e-12)
    assert float(figures.ess_fraction_min) == pytest.approx(independent["ess_over_n"]["min"], rel=1e-12)
    np.testing.assert_allclose(figures.pc_share_data, independent["weighted"]["share_data"], rtol=1e-9)
    data = figures.correlation_data.sel(series="return")
    for name, other in (("ret_pc1", "PC1"), ("ret_pc2", "PC2"), ("ret_pc3", "PC3"), ("ret_atm30", "atm30")):
        # the sign of a component is arbitrary
        expected = abs(independent["weighted"]["corr_data"][name])
        assert abs(float(data.sel(series_other=other))) == pytest.approx(expected, rel=1e-9)


def test_signs_of_arbitrage_on_surfaces():
    """Durrleman's g of total variance linear in log-moneyness is known; a flat surface has none of it."""
    k = np.linspace(-0.4, 0.4, 9)
    slopes = np.linspace(-2.5, 2.5, 41)
    w = np.maximum(1.1 + slopes[:, None] * k, 0.05)
    linear = np.all(w > 0.05, axis=1)
    g = (1 - k * slopes[:, None] / (2 * w)) ** 2 - slopes[:, None] ** 2 / 4 * (1 / w + 0.25)
    expected = (g[:, 1:-1] < 0).any(axis=1)
    assert 3 < expected[linear].sum() < linear.sum() - 3
    tau = np.array([0.5])
    found = negative_density(np.sqrt(w / tau)[:, None, :], tau, np.exp(k))
    np.testing.assert_array_equal(found[linear], expected[linear])
    flat = np.full((1, 3, 9), 0.2)
    axis = np.array([0.1, 0.5, 1.0])
    assert not negative_density(flat, axis, np.exp(k))[0]
    # a peak in the middle is no density either: the second derivative counts
    peak = flat.copy()
    peak[0, 1, 4] = 0.3
    assert negative_density(peak, axis, np.exp(k))[0]
    assert not falling_variance(flat, axis)[0]
    # .04 .5 = .02 of total variance at half a year: falling below .2 sqrt(.1 / .5) = .0894
    for vol, falls in ((0.0895, False), (0.0893, True)):
        low = flat.copy()
        low[0, 1, 2] = vol
        assert falling_variance(low, axis)[0] == falls
    assert strip_volatility(flat, axis, np.exp(k))[0] == pytest.approx(0.2, abs=1e-3)


def test_ks_is_scipys(cube_days, figures):
    pit = cube_days.pit.sel(arm="raw").values[:, 5]
    test = kstest(pit, "uniform")
    assert float(figures.pit_ks.sel(arm="raw")[5]) == pytest.approx(test.statistic, rel=1e-12)
    assert float(figures.pit_ks_p_value.sel(arm="raw")[5]) == pytest.approx(test.pvalue, rel=1e-9)


def test_cubes_in_files_folders_and_without_weights(tmp_path):
    history = small_history()
    cube = small_cube(history)
    train_end = history.date.values[51]
    whole = score_scenarios(cube, history, train_end=train_end, measures=())
    for i in range(0, 39, 13):
        cube.isel(as_of=slice(i, i + 13)).to_netcdf(tmp_path / f"part{i:02d}.nc")
    again = score_scenarios(tmp_path, history, train_end=train_end, measures=())
    np.testing.assert_array_equal(whole.energy_score, again.energy_score)
    one = cube.isel(as_of=0, step=0, drop=True).assign_attrs(as_of=str(cube.as_of.values[0]))
    single = score_scenarios([one.drop_vars("weight")], history, train_end=train_end, measures=())
    assert float(single.energy_score[0, 0]) == float(single.energy_score[0, 1])
    assert float(single.energy_score[0, 1]) == pytest.approx(float(whole.energy_score[0, 1]), rel=1e-14)
    assert "crps" not in whole
    part = score_scenarios(cube, history, train_end=train_end, first=history.date.values[60], measures=())
    assert part.sizes["date"] == 30
    assert part.attrs["skipped"] == 9


def test_bad_cubes(tmp_path):
    history = small_history()
    cube = small_cube(history)
    train_end = history.date.values[51]
    for bad, word in (
        (cube.drop_vars("implied_vol"), "implied_vol"),
        (cube.isel(moneyness=slice(0, 4)), "moneyness"),
        (cube.assign_coords(step=[2]), "step 1"),
        (cube.assign(weight=-cube.weight), "weight"),
        (cube.assign(implied_vol=cube.implied_vol - 1), "not positive"),
        (cube.isel(as_of=0, drop=True), "as_of"),
        ([cube, cube], "two cubes"),
        (cube.assign_coords(as_of=cube.as_of + np.timedelta64(5000, "D")), "no cube"),
    ):
        with pytest.raises(InputError, match=word):
            score_scenarios(bad, history, train_end=train_end)
    with pytest.raises(InputError, match="train_end"):
        score_scenarios(cube, history, train_end=history.date.values[3])
    with pytest.raises(InputError, match=r"no \.nc file"):
        score_scenarios(tmp_path, history, train_end=train_end)
    (tmp_path / "bad.nc").write_text("nothing")
    with pytest.raises(FileFormatError, match=r"bad\.nc"):
        score_scenarios(tmp_path, history, train_end=train_end)


def test_an_outcome_at_the_end_of_an_interval_lies_inside(cube_days):
    """50 of 1,000 scenarios below: just at the lower end of the central 90%."""
    n = cube_days.sizes["date"]
    for place, inside in ((0.05, True), (0.95, True), (0.0499, False), (0.9501, False)):
        pit = cube_days.pit.copy(data=np.full(cube_days.pit.shape, place))
        found = summarise(cube_days.assign(pit=pit)).coverage.sel(level=0.9)
        np.testing.assert_array_equal(found, float(inside), err_msg=f"{place} of {n} days")

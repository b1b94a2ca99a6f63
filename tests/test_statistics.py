"""Weighted quantiles and means, against hand-worked cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import volscen
from volscen._statistics import quantile
from volscen.errors import InputError
from volscen.schema import check_weights


def test_quantile_is_smallest_order_statistic_reaching_q():
    # sorted: 1 (.1), 2 (.3), 5 (.2), 7 (.4); cumulative .1 .4 .6 1
    values, weight = [5.0, 1.0, 7.0, 2.0], [0.2, 0.1, 0.4, 0.3]
    levels = [0.0, 0.05, 0.1, 0.11, 0.4, 0.5, 0.6, 0.61, 1.0]
    np.testing.assert_array_equal(quantile(values, weight, levels), [1, 1, 1, 2, 2, 5, 5, 7, 7])


def test_quantile_ignores_values_without_weight():
    np.testing.assert_array_equal(quantile([-9.0, 1.0, 2.0, 99.0], [0, 0.5, 0.5, 0], [0.0, 0.5, 1.0]), [1, 1, 2])


def test_equal_weights_reach_every_exact_fraction():
    # 10 x 0.1 does not sum to 1 exactly: the level k/10 must still be the k-th value.
    values = np.arange(1.0, 11.0)
    np.testing.assert_array_equal(quantile(values, np.full(10, 0.1), np.arange(1, 11) / 10), values)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.integers(1, 5))
def test_repeating_a_scenario_is_multiplying_its_weight(values, times):
    x = np.array(values)
    weight = np.ones(x.size)
    weight[0] = times
    repeated = np.concatenate([x, np.full(times - 1, x[0])])
    levels = [0.1, 0.5, 0.9]
    np.testing.assert_array_equal(
        quantile(x, weight / weight.sum(), levels),
        quantile(repeated, np.full(repeated.size, 1 / repeated.size), levels),
    )


def test_weighted_mean_and_quantile_of_a_dataset():
    cube = volscen.generate(n_scenarios=300, horizon=2, seed=3)
    w = np.random.default_rng(0).dirichlet(np.ones(300))
    cube["weight"] = ("scenario", w)
    mean = volscen.weighted_mean(cube, "log_return")
    np.testing.assert_allclose(mean, w @ cube.log_return.values, rtol=1e-13)
    got = volscen.weighted_quantile(cube, "log_return", 0.05)
    np.testing.assert_array_equal(got, quantile(cube.log_return.values, w, 0.05))
    assert got.dims == ("quantile", "step")


def test_statistics_of_several_dates_are_each_dates_own():
    history = volscen.datasets.sample_history()
    cube = volscen.generate(None, history, as_of=history.date.values[[900, 1200]], n_scenarios=200, seed=3)
    one = volscen.generate(None, history.isel(date=slice(0, 901)), n_scenarios=200, seed=3)
    for function in (volscen.weighted_mean, lambda d, n: volscen.weighted_quantile(d, n, [0.1, 0.9])):
        np.testing.assert_allclose(function(cube, "log_return").isel(as_of=0), function(one, "log_return"), rtol=1e-12)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([0.5, 0.4], "sum to 1"),
        ([1.5, -0.5], "non-negative"),
        ([np.nan, 1.0], "finite"),
        ([0.2, 0.3, 0.5], "entries"),
    ],
)
def test_bad_weights_are_named(weight, message):
    with pytest.raises(InputError, match=message):
        check_weights(weight, 2)


@pytest.mark.parametrize("q", [-0.1, 1.1, np.nan])
def test_bad_levels_are_refused(q):
    with pytest.raises(InputError, match="q must"):
        quantile([1.0, 2.0], [0.5, 0.5], q)


def test_nan_values_are_refused():
    with pytest.raises(InputError, match="NaN"):
        quantile([1.0, np.nan], [0.5, 0.5], 0.5)


def test_quantile_is_the_leading_dimension():
    history = volscen.datasets.sample_history()
    cube = volscen.generate(None, history, as_of=history.date.values[[900, 1200]], n_scenarios=50, seed=3)
    assert volscen.weighted_quantile(cube, "log_return", [0.1, 0.9]).dims == ("quantile", "as_of", "step")


@pytest.mark.parametrize("name", ["absent", "spot0"])
def test_names_that_are_no_variable_over_scenarios(name):
    cube = volscen.generate(n_scenarios=10, seed=3)
    for function in (lambda: volscen.weighted_mean(cube, name), lambda: volscen.weighted_quantile(cube, name, 0.5)):
        with pytest.raises(InputError, match="log_return"):
            function()


def test_a_mean_of_nan_is_refused():
    cube = volscen.generate(n_scenarios=10, seed=3)
    cube["log_return"][2, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        volscen.weighted_mean(cube, "log_return")


@pytest.mark.parametrize("q", ["a", [[0.1]]])
def test_levels_that_are_no_numbers(q):
    with pytest.raises(InputError, match="q must"):
        quantile([1.0, 2.0], [0.5, 0.5], q)

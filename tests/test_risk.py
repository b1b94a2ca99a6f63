"""Value at risk and expected shortfall: hand-worked cases, closed forms, and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from scenario_toys import make_scenarios
from volscen import risk
from volscen._statistics import quantile
from volscen.errors import InputError

VALUES = np.array([3.0, -10.0, 0.0, -4.0])
WEIGHT = np.array([0.4, 0.02, 0.5, 0.08])


@pytest.mark.parametrize(
    ("alpha", "var", "shortfall"),
    [
        (0.01, 10.0, 10.0),
        (0.02, 10.0, 10.0),
        (0.05, 4.0, (0.02 * 10 + 0.03 * 4) / 0.05),
        (0.10, 4.0, (0.02 * 10 + 0.08 * 4) / 0.10),
        (0.25, 0.0, (0.02 * 10 + 0.08 * 4) / 0.25),
        (1.00, -3.0, 0.02 * 10 + 0.08 * 4 - 0.4 * 3),
    ],
)
def test_hand_worked(alpha, var, shortfall):
    assert risk.value_at_risk(VALUES, WEIGHT, alpha=alpha) == var
    assert risk.expected_shortfall(VALUES, WEIGHT, alpha=alpha) == pytest.approx(shortfall, rel=1e-14)


def test_equal_weights_by_default():
    values = np.arange(100.0)[::-1]
    assert risk.value_at_risk(values, alpha=0.05) == -4.0
    assert risk.expected_shortfall(values, alpha=0.05) == pytest.approx(-2.0)


def test_normal_law():
    p = (np.arange(200_000) + 0.5) / 200_000
    values = norm.ppf(p)
    for alpha in (0.05, 0.025, 0.01):
        z = norm.ppf(alpha)
        assert risk.value_at_risk(values, alpha=alpha) == pytest.approx(-z, rel=1e-4)
        assert risk.expected_shortfall(values, alpha=alpha) == pytest.approx(norm.pdf(z) / alpha, rel=1e-4)


def test_shapes():
    values = np.random.default_rng(0).normal(size=(50, 3, 2))
    assert risk.value_at_risk(values).shape == (3, 2)
    assert risk.expected_shortfall(values, alpha=[0.05, 0.01]).shape == (2, 3, 2)
    for j in range(3):
        assert risk.expected_shortfall(values)[j, 1] == risk.expected_shortfall(values[:, j, 1])


laws = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(-1e6, 1e6), min_size=n, max_size=n),
        st.lists(st.floats(0, 1), min_size=n, max_size=n).filter(lambda w: sum(w) > 0.1),
    )
)


@given(law=laws, alpha=st.floats(0.01, 0.89) | st.just(1.0))
def test_shortfall_is_the_mean_of_var_below_alpha(law, alpha):
    # ES_alpha = (1/alpha) * integral of VaR_u over (0, alpha], exactly, on the steps of the cumulative
    # weights.
    values, weight = np.array(law[0]), np.array(law[1]) / np.sum(law[1])
    steps = np.cumsum(weight[np.argsort(values, kind="stable")])
    edges = np.unique(np.concatenate([[0.0], steps[steps < alpha], [alpha]]))
    widths = np.diff(edges)
    middle = edges[:-1] + widths / 2
    middle, widths = middle[widths > 1e-9], widths[widths > 1e-9]
    integral = -(quantile(values, weight, middle) * widths).sum() / alpha
    scale = max(1.0, np.abs(values).max())
    assert risk.expected_shortfall(values, weight, alpha=alpha) == pytest.approx(integral, abs=1e-6 * scale)


@given(law=laws, shift=st.floats(-100, 100), factor=st.floats(0.01, 100))
def test_coherence(law, shift, factor):
    values, weight = np.array(law[0]), np.array(law[1]) / np.sum(law[1])
    other = np.random.default_rng(0).permutation(values)
    scale = 1e-9 * max(1.0, np.abs(values).max()) * max(1, factor)
    for measure in (risk.value_at_risk, risk.expected_shortfall):
        base = measure(values, weight)
        assert measure(values + shift, weight) == pytest.approx(base - shift, abs=scale + 1e-7)
        assert measure(values * factor, weight) == pytest.approx(base * factor, abs=scale)
    shortfall = risk.expected_shortfall
    assert shortfall(values, weight) >= risk.value_at_risk(values, weight) - scale
    assert shortfall(values + other, weight) <= shortfall(values, weight) + shortfall(other, weight) + 4 * scale


@given(law=laws)
def test_weights_count_scenarios(law):
    values = np.array(law[0])
    count = np.ceil(np.array(law[1]) * 5).astype(int)
    weight = count / count.sum()
    repeated = np.repeat(values, count)
    for measure in (risk.value_at_risk, risk.expected_shortfall):
        assert measure(values, weight) == pytest.approx(measure(repeated), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": [1.0, np.nan, 0.0, 2.0]}, "NaN"),
        ({"values": []}, "at least one"),
        ({"weight": [0.5, 0.5, 0.5, 0.5]}, "sum to 1"),
        ({"weight": [1.5, -0.5, 0.0, 0.0]}, "non-negative"),
        ({"weight": [0.5, 0.5]}, "4 entries"),
        ({"weight": [[0.25] * 4] * 2}, "one-dimensional"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 95}, "alpha"),
        ({"alpha": np.nan}, "alpha"),
        ({"alpha": [[0.1]]}, "alpha"),
        ({"alpha": []}, "alpha"),
        ({"alpha": "x"}, "alpha must be numbers"),
        ({"values": "x"}, "values must be an array of numbers"),
        ({"values": ["a", "b", "c", "d"]}, "values must be an array of numbers"),
    ],
)
@pytest.mark.parametrize("measure", [risk.value_at_risk, risk.expected_shortfall])
def test_bad_input(measure, change, message):
    arguments = {"values": VALUES, "weight": WEIGHT, "alpha": 0.05} | change
    with pytest.raises(InputError, match=message):
        measure(arguments.pop("values"), arguments.pop("weight"), **arguments)


def test_summary_is_of_the_simple_return():
    ds = make_scenarios(500, steps=2, seed=3)
    out = risk.summary(ds)
    assert out.value_at_risk.dims == ("tail", "step")
    pnl = ds.spot.values[:, 1] / float(ds.spot0) - 1
    assert out.value_at_risk.sel(tail=0.05, step=2) == risk.value_at_risk(pnl, ds.weight.values)
    assert out.expected_shortfall.sel(tail=0.01, step=2) == risk.expected_shortfall(pnl, ds.weight.values, alpha=0.01)


def test_summary_of_what_is_no_dataset():
    with pytest.raises(InputError, match="ds must be a scenario dataset"):
        risk.summary(None)
    with pytest.raises(InputError, match="alpha must be numbers"):
        risk.summary(make_scenarios(5), alpha="x")


def test_summary_of_several_dates():
    import xarray as xr

    parts = [make_scenarios(200, seed=s, as_of=f"2024-01-0{s}") for s in (2, 3)]
    both = xr.concat(parts, dim="as_of", data_vars="all", coords="minimal", compat="override", join="exact")
    out = risk.summary(both)
    assert out.value_at_risk.dims == ("tail", "step", "as_of")
    np.testing.assert_array_equal(out.value_at_risk[..., 1], risk.summary(parts[1]).value_at_risk)

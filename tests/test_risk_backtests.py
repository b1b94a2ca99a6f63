"""Backtests of risk forecasts: the supervisors' table, Acerbi and Szekely's statistics by hand and by their law."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, kstest, norm

from volscen import evaluation, risk
from volscen.errors import InputError


def test_traffic_light_of_the_basel_committee():
    """Table 2 of the 1996 framework: zones, additions and cumulative probabilities."""
    table = {
        0: ("green", 0.0, 8.11), 1: ("green", 0.0, 28.58), 2: ("green", 0.0, 54.32), 3: ("green", 0.0, 75.81),
        4: ("green", 0.0, 89.22), 5: ("yellow", 0.40, 95.88), 6: ("yellow", 0.50, 98.63), 7: ("yellow", 0.65, 99.60),
        8: ("yellow", 0.75, 99.89), 9: ("yellow", 0.85, 99.97), 10: ("red", 1.0, 99.99), 15: ("red", 1.0, 100.0),
    }  # fmt: skip
    for count, (zone, addition, percent) in table.items():
        days = np.zeros(250, dtype=bool)
        days[:count] = True
        light = risk.traffic_light(days)
        assert (light.zone, light.addition, light.violations, light.days) == (zone, addition, count, 250)
        assert 100 * light.cumulative_probability == pytest.approx(percent, abs=0.006)


def test_traffic_light_elsewhere():
    days = np.arange(500) % 25 == 0
    light = risk.traffic_light(days, alpha=0.025)
    assert light.cumulative_probability == pytest.approx(binom.cdf(20, 500, 0.025))
    assert light.zone == "yellow"
    assert light.addition is None
    for bad, message in ((days.astype(float), "True and False"), (days[:0], "True and False"), (days[:, None], "list")):
        with pytest.raises(InputError, match=message):
            risk.traffic_light(bad)
    with pytest.raises(InputError, match="alpha"):
        risk.traffic_light(days, alpha=1.0)


def test_other_tests_are_those_of_the_evaluation():
    assert risk.kupiec is evaluation.kupiec
    assert risk.christoffersen is evaluation.christoffersen
    assert risk.fissler_ziegel is evaluation.fissler_ziegel


def test_acerbi_szekely_by_hand():
    """VaR 3 and ES 4 every day at 50%: two violations of -3 and -6 on four days."""
    scenarios = np.tile([-5.0, -3.0, 1.0, 2.0], (4, 1))
    found = risk.acerbi_szekely([-3.0, 1.0, -6.0, -2.9], scenarios, alpha=0.5)
    assert found.violations == 2
    assert found.z1 == pytest.approx((-3 / 4 - 6 / 4) / 2 + 1)
    assert found.z2 == pytest.approx((-3 / 4 - 6 / 4) / (4 * 0.5) + 1)
    none = risk.acerbi_szekely([1.0, 1.0, 1.0, 1.0], scenarios, alpha=0.5)
    assert (none.z1, none.z2, none.violations, none.p_value2) == (0.0, 1.0, 0, 1.0)


def test_p_value_by_enumeration():
    """Two days of two outcomes: Z2 takes three values with probabilities 1/4, 1/2, 1/4."""
    scenarios = np.tile([-1.0, 1.0], (2, 1))
    for profit, p in (([-1.0, -1.0], 0.25), ([-1.0, 1.0], 0.75), ([1.0, 1.0], 1.0)):
        found = risk.acerbi_szekely(profit, scenarios, alpha=0.5, n_simulations=20_000)
        assert found.p_value2 == pytest.approx(p, abs=0.01)
    weighted = risk.acerbi_szekely([-1.0, -1.0], scenarios, [0.6, 0.4], alpha=0.5, n_simulations=20_000)
    assert weighted.p_value2 == pytest.approx(0.36, abs=0.012)
    daily = risk.acerbi_szekely([-1.0, -1.0], scenarios, [[0.6, 0.4], [0.5, 0.5]], alpha=0.5, n_simulations=20_000)
    assert daily.p_value2 == pytest.approx(0.3, abs=0.012)


def test_p_values_are_uniform_where_forecasts_are_right():
    rng = np.random.default_rng(1)
    scenarios = norm.ppf((np.arange(500) + 0.5) / 500) * np.ones((250, 1))
    found = [risk.acerbi_szekely(rng.normal(size=250), scenarios, n_simulations=200, seed=i) for i in range(60)]
    for p in ([f.p_value1 for f in found], [f.p_value2 for f in found]):
        assert kstest(p, "uniform").pvalue > 1e-3


def test_power():
    rng = np.random.default_rng(2)
    scenarios = rng.normal(size=(250, 2000))
    fat = risk.acerbi_szekely(rng.standard_t(3, size=250) * 1.5, scenarios)
    assert fat.z2 < -0.7
    assert fat.p_value2 < 0.01
    timid = risk.acerbi_szekely(rng.normal(size=250) * 0.3, scenarios)
    assert timid.z2 > 0.5
    again = risk.acerbi_szekely(rng.normal(size=250), scenarios, seed=4)
    assert again.p_value2 > 0.001


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profit": [1.0, np.nan]}, "finite"),
        ({"profit": [[1.0, 2.0]]}, "finite numbers"),
        ({"scenarios": np.zeros((3, 4))}, "axes"),
        ({"scenarios": np.full((2, 4), np.nan)}, "NaN"),
        ({"scenarios": np.ones((2, 4))}, "expects no loss"),
        ({"weight": np.full(3, 1 / 3)}, "weight must have shape"),
        ({"weight": np.full(4, 0.3)}, "sum to 1"),
        ({"alpha": 0}, "alpha"),
        ({"alpha": [0.1]}, "alpha"),
        ({"n_simulations": 10}, "n_simulations"),
        ({"profit": "x"}, "profit must be an array of numbers"),
        ({"scenarios": [[1.0], [1.0, 2.0]]}, "scenarios must be an array of numbers"),
        ({"weight": "x"}, "weight must be an array of numbers"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_input(arguments, message):
    given = {"profit": [1.0, -1.0], "scenarios": np.tile([-2.0, -1, 1, 2], (2, 1))} | arguments
    with pytest.raises(InputError, match=message):
        risk.acerbi_szekely(given.pop("profit"), given.pop("scenarios"), **given)

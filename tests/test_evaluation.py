"""Scores: known values, fairness, propriety, and agreement with an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest

from volscen.errors import InputError
from volscen.evaluation import energy_score, probability_integral_transform


def test_energy_score_by_hand():
    # points 0 (.25), 2 (.25), 4 (.5) against 1: E|x-y| = .25 + .25 + 1.5 = 2;
    # sum_{i != j} w w |d| = 2 (.0625 2 + .125 4 + .125 2) = 1.75, over 1 - .375 = 2.8; 2 - 1.4 = .6
    assert energy_score([[0.0], [2.0], [4.0]], [1.0], [0.25, 0.25, 0.5]) == pytest.approx(0.6, rel=1e-14)


def test_energy_score_against_loops():
    rng = np.random.default_rng(0)
    x, y, w = rng.standard_normal((40, 6)), rng.standard_normal(6), rng.dirichlet(np.ones(40))
    pairs = sum(w[i] * w[j] * np.linalg.norm(x[i] - x[j]) for i in range(40) for j in range(40) if i != j)
    expected = sum(w[i] * np.linalg.norm(x[i] - y) for i in range(40)) - 0.5 * pairs / (1 - w @ w)
    assert energy_score(x, y, w) == pytest.approx(expected, rel=1e-10)


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
    assert energy_score(x, y, w) == pytest.approx(energy_score(x[4:], y), rel=1e-12)
    np.testing.assert_allclose(probability_integral_transform(x, y, w), probability_integral_transform(x[4:], y))


def test_pit_by_hand():
    np.testing.assert_allclose(
        probability_integral_transform([[1.0, 5.0], [2.0, 5.0], [3.0, 6.0]], [2.0, 7.0], [0.5, 0.3, 0.2]),
        [0.65, 1.0],
    )


@pytest.mark.parametrize("bad", [([[1.0]], [1.0]), ([[1.0], [np.nan]], [1.0]), ([1.0, 2.0], [1.0])])
def test_bad_ensembles(bad):
    with pytest.raises(InputError, match="ensemble"):
        energy_score(*bad)


def test_all_weight_on_one_scenario():
    with pytest.raises(InputError, match="one scenario"):
        energy_score([[1.0], [2.0]], [0.0], [1.0, 0.0])

"""Scores: known values, fairness, propriety, and agreement with an independent implementation."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import volscen
from volscen.errors import InputError
from volscen.evaluation import energy_score, probability_integral_transform, score_generator, summarise
from volscen.generators._bootstrap import Bootstrap
from volscen.sources.simulate import simulate_market


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


# ---------------------------------------------------------------------------------------- walking forward
class Spy(Bootstrap):
    """Historical simulation that notes what it was shown, in lists that its copies share."""

    def __deepcopy__(self, memo):
        return copy.copy(self)

    def update(self, history):
        self.updated_to.append(history.date.values[-1])
        return self

    def sample(self, state, n, horizon, rng):
        self.states.append(state)
        return super().sample(state, n, horizon, rng)


@pytest.fixture
def walk():
    history = simulate_market("A", 130, seed=4)
    model = Spy()
    model.updated_to, model.states = [], []
    model.fit(history.isel(date=slice(0, 100)))
    dates = history.date.values
    days = score_generator(
        model, history, first=dates[100], last=dates[-1], train_end=dates[100], n_scenarios=200, update_every=10
    )
    return history, model, days


def test_each_day_is_forecast_from_the_day_before(walk):
    history, model, days = walk
    np.testing.assert_array_equal(days.date, history.date[100:])
    assert [s.as_of for s in model.states] == list(history.date.values[99:129].astype("datetime64[D]"))
    assert model.updated_to == [history.date.values[i] for i in (99, 109, 119)]


def test_scoring_leaves_the_generator_as_fitted():
    """An updated one would carry the days scored into whatever it is used for next."""
    history = simulate_market("A", 130, seed=4)
    model = volscen.fit(history.isel(date=slice(0, 100)), "bootstrap")
    before, dates = model.arrays()["log_return"].copy(), history.date.values
    score_generator(
        model, history, first=dates[100], last=dates[-1], train_end=dates[100], n_scenarios=50, update_every=1
    )
    np.testing.assert_array_equal(model.arrays()["log_return"], before)
    assert model.period_[1] == str(dates[99])[:10]


def test_a_days_scores_by_hand(walk):
    history, model, days = walk
    cube = volscen.generate(model, history, as_of=history.date.values[104], n_scenarios=200, seed=0)
    log_iv = np.log(history.implied_vol.values).reshape(130, -1)
    moves = np.column_stack([np.sqrt(252) * history.log_return.values[1:], np.diff(log_iv, axis=0)])
    sd = moves[:99].std(axis=0)
    surfaces = np.log(cube.implied_vol.values[:, 0].astype(float)).reshape(200, -1) - log_iv[104]
    x = np.column_stack([np.sqrt(252) * cube.log_return.values[:, 0], surfaces])
    day = days.isel(date=5)
    assert float(day.energy_score) == pytest.approx(
        energy_score(x / sd, moves[104] / sd, cube.weight.values), rel=1e-12
    )
    assert float(day.energy_score_raw) == pytest.approx(energy_score(x / sd, moves[104] / sd), rel=1e-12)
    np.testing.assert_allclose(day.pit, probability_integral_transform(x / sd, moves[104] / sd, cube.weight.values))
    assert float(day.penalty_raw) == pytest.approx(float(cube.arbitrage_penalty.mean()))
    assert float(day.ess_fraction) == cube.attrs["ess_fraction"]


def test_summary_of_known_pits(walk):
    _, _, days = walk
    pit = np.full(days.pit.shape, 0.5)
    pit[:, 0] = 0.01  # the return is always in the lower tail
    pit[:15, 7] = 0.99  # one cell is outside on half of the days
    days["pit"] = (days.pit.dims, pit)
    found = summarise(days, level=0.9)
    assert found["coverage_return"] == 0
    assert found["coverage_worst"] == 0.5
    assert found["coverage"] == pytest.approx(1 - 0.5 / 80)
    assert found["days"] == 30


def test_scoring_days_that_were_fitted_is_refused(walk):
    history, _, _ = walk
    model = volscen.fit(history, "bootstrap")
    with pytest.raises(InputError, match="inside the period to score"):
        score_generator(model, history, first=history.date.values[100], last="2001-01-01", train_end="2000-05-01")
    with pytest.raises(InputError, match="no date"):
        score_generator(model, history, first="2030-01-01", last="2031-01-01", train_end="2000-05-01")

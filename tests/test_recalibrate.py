"""Recalibration: known biases and widths are undone, ranks stay, weights count, nothing changes without cause."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

import volscen
from volscen.errors import InputError
from volscen.evaluation import walk_forward


@pytest.fixture(scope="module")
def history() -> xr.Dataset:
    return volscen.datasets.sample_history()


@pytest.fixture(scope="module")
def walk(history: xr.Dataset) -> xr.Dataset:
    days = history.date.values
    return walk_forward("bootstrap", history, first=days[1000], last=days[1029], n_scenarios=100, measures=())


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    return volscen.generate(n_scenarios=3000, seed=2, reweight=None)


def with_scores(walk: xr.Dataset, n: int, centre: float, width: float) -> xr.Dataset:
    """Days on which every quantity has normal scores of exactly this mean and standard deviation."""
    z = norm.ppf((np.arange(n) + 0.5) / n)
    z = (z - z.mean()) / z.std()
    one = walk.isel(date=np.zeros(n, dtype=int))
    rank = norm.cdf(centre + width * z)
    return one.assign(pit=one["pit"].copy(data=np.broadcast_to(rank[:, None, None], one["pit"].shape)))


def learned(cube: xr.Dataset, centre: float, width: float) -> volscen.Recalibration:
    n = 1 + cube.sizes["tau"] * cube.sizes["moneyness"]
    return volscen.Recalibration(cube.tau.values, cube.moneyness.values, np.full(n, centre), np.full(n, width), 100)


def test_scores_are_learned_and_shrunk(walk: xr.Dataset) -> None:
    many = with_scores(walk, 40, 0.2, 1.3)
    found = volscen.Recalibration.fit(many, prior_days=0)
    np.testing.assert_allclose(found.centre, 0.2, atol=1e-6)
    np.testing.assert_allclose(found.width, 1.3, atol=1e-6)
    shrunk = volscen.Recalibration.fit(many, prior_days=40)
    np.testing.assert_allclose(shrunk.centre, 0.1, atol=1e-6)
    np.testing.assert_allclose(shrunk.width, np.sqrt(1.3), atol=1e-6)
    bounded = volscen.Recalibration.fit(with_scores(walk, 40, 0.0, 2.2), prior_days=0)
    np.testing.assert_allclose(bounded.width, 1.5)
    assert found.centre.size == 81


def test_a_normal_law_becomes_the_normal_law_asked_for(cube: xr.Dataset) -> None:
    n = 20_000
    rng = np.random.default_rng(0)
    from volscen._recalibrate import _bent

    x = 0.01 + 0.02 * rng.normal(size=n)
    bent = _bent(x, np.full(n, 1 / n), 0.3, 1.2)
    np.testing.assert_allclose(bent.mean(), 0.01 + 0.02 * 0.3, atol=4e-4)
    np.testing.assert_allclose(bent.std(), 0.02 * 1.2, rtol=0.02)
    # Beyond the outermost scenario it goes on with the tail's slope, here the standard deviation.
    assert bent.max() > x.max()
    assert abs((bent.max() - 0.01) / 0.02 - (0.3 + 1.2 * (x.max() - 0.01) / 0.02)) < 0.5


def test_ranks_stay_and_nothing_changes_for_a_calibrated_law(cube: xr.Dataset) -> None:
    same = volscen.recalibrate(cube, learned(cube, 0.0, 1.0), beta=0.0)
    np.testing.assert_array_equal(same.log_return, cube.log_return)
    np.testing.assert_allclose(same.implied_vol, cube.implied_vol, rtol=1e-6)
    bent = volscen.recalibrate(cube, learned(cube, 0.1, 1.3), beta=0.0)
    for one, other in (
        (cube.log_return[:, 0], bent.log_return[:, 0]),
        (cube.implied_vol[:, 0, 2, 3], bent.implied_vol[:, 0, 2, 3]),
    ):
        assert np.all(np.diff(other.values[np.argsort(one.values)]) >= 0)
        first = np.unique(one.values, return_index=True)[1]
        assert np.unique(other.values[first]).size > 0.99 * first.size
        assert float(other.std()) == pytest.approx(1.3 * float(one.std()), rel=0.2)
    np.testing.assert_allclose(bent.spot, float(cube.spot0) * np.exp(bent.log_return))
    penalty = volscen.arbitrage.penalty(bent.implied_vol.values.astype(float), bent.tau.values, bent.moneyness.values)
    np.testing.assert_allclose(bent.arbitrage_penalty, penalty, atol=1e-12)
    assert volscen.validate(bent) is not None


def test_weights_make_the_ranks(cube: xr.Dataset) -> None:
    """Repeating a scenario and giving it the weight of both are the same law."""
    from volscen._recalibrate import _bent

    x = np.array([1.0, 2.0, 4.0, 7.0, 11.0])
    w = np.array([0.1, 0.3, 0.2, 0.2, 0.2])
    bent = _bent(x, w, 0.0, 0.7)
    middle = norm.ppf(np.cumsum(w) - w / 2)
    np.testing.assert_allclose(bent, np.interp(0.7 * middle, middle, x), rtol=1e-12)
    assert not np.allclose(bent, _bent(x, np.full(5, 0.2), 0.0, 0.7))
    twice = _bent(np.array([1.0, 2.0, 2.0, 4.0, 7.0, 11.0]), np.array([0.1, 0.1, 0.2, 0.2, 0.2, 0.2]), 0.0, 0.7)
    np.testing.assert_allclose(twice[[0, 1, 3, 4, 5]], bent, rtol=1e-12)
    assert twice[1] == twice[2]


def test_a_narrow_law_is_widened_out_of_sample() -> None:
    """A law of 0.7 times the truth's width: coverage is mended on days that taught it nothing."""
    from volscen._recalibrate import _bent

    rng = np.random.default_rng(5)
    truth, n = rng.normal(size=600), 500
    laws = 0.7 * rng.normal(size=(600, n))
    rank = (laws < truth[:, None]).mean(axis=1)
    score = norm.ppf(np.clip(rank[:300], 5e-4, 1 - 5e-4))
    bent = np.stack([_bent(one, np.full(n, 1 / n), score.mean(), score.std()) for one in laws[300:]])
    inside = [
        np.mean((np.quantile(a, 0.05, axis=1) < truth[300:]) & (truth[300:] < np.quantile(a, 0.95, axis=1)))
        for a in (laws[300:], bent)
    ]
    assert inside[0] < 0.8
    assert 0.85 < inside[1] < 0.95


def test_bad_input_names_the_argument(walk: xr.Dataset, cube: xr.Dataset) -> None:
    with pytest.raises(InputError, match="arm must be one of"):
        volscen.Recalibration.fit(walk, arm="both")
    with pytest.raises(InputError, match="prior_days"):
        volscen.Recalibration.fit(walk, prior_days=-1)
    with pytest.raises(InputError, match="at least 20"):
        volscen.Recalibration.fit(walk.isel(date=slice(0, 5)))
    with pytest.raises(InputError, match="walk holds no ranks"):
        volscen.Recalibration.fit(walk.drop_vars("pit"))
    paths = volscen.generate(n_scenarios=100, horizon=3, seed=1)
    with pytest.raises(InputError, match="one step"):
        volscen.recalibrate(paths, learned(cube, 0.0, 1.1))
    with pytest.raises(InputError, match="grid"):
        volscen.recalibrate(cube, learned(cube.isel(tau=slice(1, None)), 0.0, 1.1))

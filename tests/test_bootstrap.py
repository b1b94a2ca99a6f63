"""Block and weighted bootstraps: which days follow which, and how often each is drawn."""

from __future__ import annotations

import numpy as np
import pytest

import volscen
from volscen.errors import InputError
from volscen.generators._bootstrap import Bootstrap
from volscen.history import state_at
from volscen.sources.simulate import simulate_market


@pytest.fixture(scope="module")
def history():
    return simulate_market("A", 121, seed=2).isel(tau=slice(0, 2), moneyness=slice(3, 6))


def days_drawn(history, n=4000, horizon=12, seed=0, **options):
    """Days drawn, (n, horizon), recognised by their returns; and the surfaces of the paths."""
    model = volscen.fit(history, "bootstrap", **options)
    state = state_at(history, history.date.values[-1])
    log_return, implied_vol = model.sample(state, n, horizon, np.random.default_rng(seed))
    pool = model.arrays()["log_return"]
    assert len(np.unique(pool)) == pool.size
    order = np.argsort(pool)
    day = order[np.searchsorted(pool[order], log_return)]
    np.testing.assert_array_equal(pool[day], log_return)
    steps = model.arrays()["increment"][day].cumsum(axis=1)
    drawn = np.log(implied_vol).reshape(n, horizon, -1) - state.log_iv[-1].ravel()
    np.testing.assert_allclose(drawn, steps, atol=1e-12)  # the whole surface moves as on those days
    return day


def test_blocks_of_fixed_length_are_consecutive_days(history):
    day = days_drawn(history, method="circular", block_size=5)
    follows = (day[:, 1:] - day[:, :-1]) % 120 == 1
    inside = np.arange(1, 12) % 5 != 0
    assert follows[:, inside].all()
    assert (day[:, :-1] == 119).any()  # the circle closes
    # where blocks meet, a day follows by chance only: 1 in 120
    assert follows[:, ~inside].mean() == pytest.approx(1 / 120, abs=0.005)


def test_blocks_of_random_length_have_the_length_asked_for(history):
    day = days_drawn(history, method="stationary", block_size=4)
    follows = (day[:, 1:] - day[:, :-1]) % 120 == 1
    # goes on with 3/4, or begins anew and hits the next day by chance; four standard errors
    expected = 3 / 4 + 1 / 4 / 120
    assert follows.mean() == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / follows.size))
    # independent of whether the block has just gone on: the geometric law has no memory
    again = follows[:, 1:][follows[:, :-1]].mean()
    assert again == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize("method", ["iid", "stationary", "circular"])
def test_every_day_is_equally_likely_at_every_step(history, method):
    day = days_drawn(history, n=24_000, horizon=4, method=method, block_size=3)
    for step in range(4):
        counts = np.bincount(day[:, step], minlength=120)
        statistic = ((counts - 200) ** 2 / 200).sum()
        assert statistic < 190  # chi-square with 119 degrees of freedom: 1 in 30,000


def test_one_day_ahead_all_methods_are_one_law(history):
    state = state_at(history, history.date.values[-1])
    drawn = [
        volscen.fit(history, "bootstrap", method=method).sample(state, 50, 1, np.random.default_rng(3))
        for method in ("iid", "stationary", "circular")
    ]
    for other in drawn[1:]:
        np.testing.assert_array_equal(other[0], drawn[0][0])
        np.testing.assert_array_equal(other[1], drawn[0][1])


@pytest.mark.parametrize("method", ["iid", "circular"])
def test_recent_days_weigh_more(history, method):
    day = days_drawn(history, n=60_000, horizon=1, half_life=30, method=method)[:, 0]
    weight = 0.5 ** (np.arange(119, -1, -1) / 30)
    expected = 60_000 * weight / weight.sum()
    statistic = ((np.bincount(day, minlength=120) - expected) ** 2 / expected).sum()
    assert statistic < 190


def test_weighted_blocks_end_with_the_newest_day(history):
    day = days_drawn(history, method="circular", block_size=12, half_life=30)
    newest = day[:, :-1] == 119
    # the oldest day has a weight of 0.15%, and would follow always on the circle
    assert newest.sum() > 500
    assert (day[:, 1:][newest] == 0).mean() < 0.02
    assert (day[:, 1:][~newest] == day[:, :-1][~newest] + 1).all()


def test_paths_of_blocks_keep_what_shuffling_loses():
    """Squared returns of a market with volatility clusters stay correlated along blocks and not along shuffles."""
    rng = np.random.default_rng(0)
    vol = np.where(np.arange(600) // 60 % 2, 0.02, 0.005)
    spot = 100 * np.exp(np.r_[0, np.cumsum(vol * rng.standard_normal(600))])
    dates = np.datetime64("2000-01-03") + np.arange(601)
    surfaces = 0.2 * np.exp(0.01 * rng.standard_normal((601, 2, 3)))
    history = volscen.make_history(dates, [0.1, 0.5], [0.9, 1.0, 1.1], surfaces, spot=spot)

    def clustering(**options):
        model = volscen.fit(history, "bootstrap", **options)
        r = model.sample(state_at(history, dates[-1]), 4000, 2, np.random.default_rng(1))[0]
        return np.corrcoef(np.abs(r).T)[0, 1]

    assert abs(clustering()) < 0.06
    assert clustering(method="stationary", block_size=20) > 0.25


@pytest.mark.parametrize(
    "options",
    [
        {"window": 1},
        {"window": 2.5},
        {"method": "moving"},
        {"block_size": 0},
        {"block_size": 2.5},
        {"block_size": True},
        {"half_life": 0.5},
        {"half_life": np.inf},
        {"half_life": np.nan},
    ],
)
def test_options(options):
    with pytest.raises(InputError, match=next(iter(options))):
        Bootstrap(**options)


def test_saved_with_its_options(history, tmp_path):
    model = volscen.fit(history, "bootstrap", method="stationary", block_size=7, half_life=60)
    again = volscen.load(model.save(tmp_path / "m.safetensors"))
    assert again.parameters() == {"window": None, "method": "stationary", "block_size": 7, "half_life": 60.0}
    state = state_at(history, history.date.values[-1])
    for a, b in zip(*(m.sample(state, 20, 9, np.random.default_rng(0)) for m in (model, again)), strict=True):
        np.testing.assert_array_equal(a, b)

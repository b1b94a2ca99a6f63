"""Walking forward: never ahead, in any number of processes, resumable, and leaving things as they were."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import xarray as xr

import volscen
from evaluation_makers import GaussianMarket, small_history
from volscen.errors import FileFormatError, FitError, InputError
from volscen.evaluation import Oracle, energy_score, probability_integral_transform, walk_forward
from volscen.generators._bootstrap import Bootstrap
from volscen.sources.simulate import simulate_market


class Spy(Bootstrap):
    """Historical simulation that notes what it was shown, in lists that its copies share."""

    def __init__(self):
        super().__init__()
        self.fitted_to, self.updated_to, self.states = [], [], []

    def __deepcopy__(self, memo):
        return copy.copy(self)

    def parameters(self):
        return {}

    def fit(self, history):
        self.fitted_to.append(history.date.values[-1].astype("datetime64[D]"))
        return super().fit(history)

    def update(self, history):
        self.updated_to.append(history.date.values[-1].astype("datetime64[D]"))
        return self

    def sample(self, state, n, horizon, rng):
        self.states.append(state)
        return super().sample(state, n, horizon, rng)


@pytest.fixture(scope="module")
def history():
    return simulate_market(GaussianMarket(noise=0.03), 400, seed=4)


def days_of(history):
    return history.date.values.astype("datetime64[D]")


#: Of tests that ask which dates are seen, drawn or kept, not what the scores are.
DATES = {"n_scenarios": 20, "measures": ("arbitrage",)}


def walk(history, model="bootstrap", first=300, last=399, **options):
    dates = days_of(history)
    return walk_forward(model, history, first=dates[first], last=dates[last], **{"n_scenarios": 60} | options)


def test_each_day_is_forecast_from_the_day_before(history):
    model = Spy()
    model.fit(history.isel(date=slice(0, 300)))
    days = walk(history, model, update_every=10, refit_every=None, **DATES)
    dates = days_of(history)
    np.testing.assert_array_equal(days.date, history.date[300:])
    assert [s.as_of for s in model.states] == list(dates[299:399])
    # the first date is known to it already
    assert model.updated_to == [dates[i] for i in range(309, 399, 10)]
    assert model.fitted_to == [dates[299]]


@pytest.mark.parametrize(
    ("every", "label", "first", "last"),
    [("year", "Y", 240, 279), ("month", "M", 360, 399), ("quarter", None, 180, 279), (40, None, 250, 349)],
)
def test_refits_come_at_the_first_date_of_a_period_and_see_the_days_before(history, every, label, first, last):
    model = Spy()
    walk(history, model, first, last, refit_every=every, window=120 if every == 40 else None, **DATES)
    dates = days_of(history)
    realised = dates[first : last + 1]
    if label:
        new = np.flatnonzero(np.diff(realised.astype(f"datetime64[{label}]").astype(int))) + 1
    elif every == "quarter":
        new = np.flatnonzero(np.diff(realised.astype("datetime64[M]").astype(int) // 3)) + 1
    else:
        new = np.arange(40, len(realised), 40)
    assert model.fitted_to == [dates[first + i - 1] for i in [0, *new]]
    assert len(new) == {"year": 1, "month": 2, "quarter": 2, 40: 2}[every]


def test_nothing_later_changes_a_score(history):
    """Scores of a date depend on the history up to it alone, bit for bit."""
    changed = history.copy(deep=True)
    rng = np.random.default_rng(0)
    changed["implied_vol"][350:] *= np.exp(0.3 * rng.standard_normal(changed.implied_vol[350:].shape))
    spot = changed.spot.values.copy()
    spot[350:] *= np.exp(np.cumsum(0.1 * rng.standard_normal(50)))
    changed = volscen.make_history(
        days_of(history), history.tau, history.moneyness, changed.implied_vol, spot=spot, calendar="weekdays"
    )
    forecast = ["draw", "quantile", "shortfall", "variance", "penalty", "weight"]
    # date 350 is refitted, or updated, on the eve of the change
    for options in ({"refit_every": 20, "update_every": None}, {"refit_every": None, "update_every": 2}):
        a, b = (walk(one, "bootstrap", first=330, last=370, **options) for one in (history, changed))
        a, b = a.drop_attrs(deep=False), b.drop_attrs(deep=False)
        xr.testing.assert_identical(a.isel(date=slice(0, 20)), b.isel(date=slice(0, 20)))
        assert a.date[20] == history.date[350]
        xr.testing.assert_identical(a[forecast].isel(date=20), b[forecast].isel(date=20))
        assert not np.array_equal(a.energy_score[20:], b.energy_score[20:])


def test_a_walk_is_the_same_in_two_processes(history):
    options = {"model": "fhs", "refit_every": "quarter", "update_every": 5, "beta": 10.0}
    xr.testing.assert_identical(walk(history, **options), walk(history, **options, num_workers=2))


def test_scoring_leaves_the_generator_as_fitted(history):
    """An updated one would carry the days scored into whatever it is used for next."""
    model = volscen.fit(history.isel(date=slice(0, 300)), "bootstrap")
    before = model.arrays()["log_return"].copy()
    walk(history, model, last=330, **DATES)
    np.testing.assert_array_equal(model.arrays()["log_return"], before)
    assert model.period_[1] == str(days_of(history)[299])


def test_a_days_scores_by_hand(history):
    model = volscen.fit(history.isel(date=slice(0, 300)), "bootstrap")
    days = walk(history, model, refit_every=None, update_every=None, beta=1e4, n_scenarios=200, seed=7)
    cube = volscen.generate(model, history, as_of=history.date.values[304], n_scenarios=200, seed=7, beta=1e4)
    assert cube.attrs["ess_fraction"] < 0.99
    log_iv = np.log(history.implied_vol.values).reshape(400, -1)
    moves = np.column_stack([np.sqrt(252) * history.log_return.values[1:], np.diff(log_iv, axis=0)])
    sd = moves[:299].std(axis=0)
    surfaces = np.log(cube.implied_vol.values[:, 0].astype(float)).reshape(200, -1) - log_iv[304]
    x = np.column_stack([np.sqrt(252) * cube.log_return.values[:, 0], surfaces])
    day = days.isel(date=5)
    for arm, weight in (("weighted", cube.weight.values), ("raw", None)):
        one = day.sel(arm=arm)
        assert float(one.energy_score) == pytest.approx(energy_score(x / sd, moves[304] / sd, weight), rel=1e-10)
        pit = probability_integral_transform(x, moves[304], weight)
        np.testing.assert_allclose(one.pit[:-1], pit, rtol=1e-10)
    np.testing.assert_allclose(day.scale[:-1], sd, rtol=1e-12)
    np.testing.assert_allclose(day.penalty.mean(), cube.arbitrage_penalty.mean(), rtol=1e-10)
    assert float(day.ess_fraction) == pytest.approx(cube.attrs["ess_fraction"], rel=1e-12)
    spread = float(((x[:, 3] - cube.weight.values @ x[:, 3]) ** 2) @ cube.weight.values)
    assert float(day.variance.sel(arm="weighted")[3]) == pytest.approx(spread, rel=1e-9)


def test_draws_follow_the_weights(history):
    """Scenarios kept are of the weighted law: their mean PIT under it is a half."""
    days = walk(history, refit_every=None, beta=50.0, n_scenarios=400)
    mean = days.draw.sel(arm="weighted").mean("draw").values - days.draw.sel(arm="raw").mean("draw").values
    # arbitrage weights prefer smooth surfaces; the return has no part in them
    assert np.abs(mean[:, 0]).mean() < 0.1
    assert days.draw.shape == (100, 2, 25, 22)


# --------------------------------------------------------------------------------------------------- resuming
def test_an_interrupted_walk_goes_on_to_the_same_bits(history, tmp_path, monkeypatch):
    options = {"model": "pca", "refit_every": 10, "first": 300, "last": 359} | DATES
    whole = walk(history, **options)
    import volscen.evaluation._walk as module

    calls = []
    original = module._score_block

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, "_score_block", failing)
    with pytest.raises(KeyboardInterrupt):
        walk(history, **options, folder=tmp_path / "run")
    kept = sorted(p.name for p in (tmp_path / "run").iterdir())
    assert [n for n in kept if n.startswith("block")] == ["block-0000.nc", "block-0001.nc", "block-0002.nc"]
    assert not [n for n in kept if n.endswith(".part")]
    again = walk(history, **options, folder=tmp_path / "run")
    xr.testing.assert_identical(whole, again)
    n_blocks = len(list((tmp_path / "run").glob("block-*.nc")))
    assert len(calls) == 4 + n_blocks - 3  # what was kept was not scored again
    walk(history, **options, folder=tmp_path / "run")
    assert len(calls) == 4 + n_blocks - 3


def test_a_folder_belongs_to_one_walk(history, tmp_path):
    walk(history, last=330, folder=tmp_path)
    with pytest.raises(InputError, match=r"another walk: seed differ"):
        walk(history, last=330, folder=tmp_path, seed=1)
    with pytest.raises(InputError, match="data_fingerprint"):
        walk(history.assign(implied_vol=history.implied_vol * 1.01), last=330, folder=tmp_path)
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["generator"] == "bootstrap"
    (tmp_path / "block-0000.nc").write_text("nothing")
    with pytest.raises(FileFormatError, match=r"block-0000\.nc"):
        walk(history, last=330, folder=tmp_path)
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(FileFormatError, match=r"settings\.json"):
        walk(history, last=330, folder=tmp_path)
    with pytest.raises(InputError, match="cannot make the folder"):
        walk(history, last=330, folder=tmp_path / "settings.json" / "below")


# ---------------------------------------------------------------------------------------------------- arguments
def test_days_that_were_fitted_are_refused(history):
    model = volscen.fit(history, "bootstrap")
    with pytest.raises(InputError, match="inside the period to score"):
        walk(history, model)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"refit_every": "week"}, "refit_every"),
        ({"refit_every": 0}, "refit_every"),
        ({"update_every": 0}, "update_every"),
        ({"n_scenarios": 1}, "n_scenarios"),
        ({"num_workers": 0}, "num_workers"),
        ({"measures": ("energy",)}, "measures"),
        ({"measures": "crps"}, "measures"),
        ({"window": 0, "refit_every": None}, "window"),
        ({"options": {"no": 1}}, "has no option 'no'; it has"),
        ({"model": 3}, "generator must be"),
        ({"model": "none"}, "unknown generator"),
        ({"train_end": "soon"}, "train_end"),
    ],
)
def test_bad_arguments(history, options, word):
    with pytest.raises(InputError, match=word):
        walk(history, **options)


def test_empty_periods_and_still_histories(history):
    with pytest.raises(InputError, match="no date of the history"):
        walk_forward("bootstrap", history, first="2030-01-01", last="2031-01-01")
    still = history.copy(deep=True)
    still["implied_vol"][:, 0, 0] = 0.2
    with pytest.raises(InputError, match=r"does not move before train_end in: 30d K/F=0\.8"):
        walk(still)
    with pytest.raises(FitError, match="fitted on dates up to"):
        walk(still.isel(date=slice(0, 400)).assign(implied_vol=_still_once(history)), "fhs", window=260)


def _still_once(history):
    """A cell that moves only in the first days: enough for a scale, too little for a refit on a window."""
    values = history.implied_vol.copy(deep=True)
    values[30:, 0, 0] = 0.2
    return values


def test_oracles_know_the_state_and_nothing_else(history):
    oracle = Oracle(GaussianMarket()).fit(history.isel(date=slice(0, 300)))
    with pytest.raises(InputError, match="true state"):
        volscen.generate(oracle, history, as_of=history.date.values[310], n_scenarios=10)
    cube = volscen.generate(oracle, history, as_of=history.date.values[250], n_scenarios=4000, horizon=3, seed=1)
    # three days of mean reversion and noise, by hand
    x = float(history.state[250, 0])
    expected = np.log(0.2) + 0.95**3 * (x - np.log(0.2))
    atm = np.log(cube.implied_vol.sel(moneyness=1.0).isel(tau=0, step=2))
    assert float(atm.mean()) == pytest.approx(expected, abs=4 * 0.02 * np.sqrt(3) / np.sqrt(4000))
    assert float(cube.log_return.std()) == pytest.approx(0.01, rel=0.05)
    with pytest.raises(InputError, match="no state"):
        Oracle(GaussianMarket()).fit(history.drop_vars("state"))
    with pytest.raises(InputError, match="differs from market A"):
        Oracle("A").fit(history)
    with pytest.raises(InputError, match="market must be"):
        Oracle("Z")


def test_another_trading_year_scales_returns(history):
    """Returns are annualised by the history's own periods a year."""
    half_hours = history.assign_attrs(periods_per_year=3276.0)
    days = walk(half_hours, last=310)
    np.testing.assert_allclose(days.realised[:, 0], np.sqrt(3276) * history.log_return[300:311], rtol=1e-12)
    assert small_history().sizes["date"] == 90

"""Series from outside: known answers, no look-ahead, what is refused; ensembles of seeds; Kronos; memory by segment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import volscen
from volscen import evaluation
from volscen.errors import FitError, InputError
from volscen.evaluation import forecast
from volscen.evaluation.forecast import _variance_models

#: Share of the variance of a day's move that the driver makes.
SHARE = 0.7
N = 1400


def _driven(share: float = SHARE) -> tuple[xr.Dataset, pd.Series]:
    """A random walk in log vol, and a score published on the day before that makes a share of each move."""
    rng = np.random.default_rng(7)
    score, noise = rng.normal(size=(2, N))
    move = 0.03 * (np.sqrt(share) * np.r_[0.0, score[:-1]] + np.sqrt(1 - share) * noise)
    shape = np.ones((1, 2, 3)) * (1 + 1e-5 * rng.normal(size=(N, 2, 3)))
    vol = 0.2 * np.exp(np.cumsum(move))[:, None, None] * shape
    dates = pd.bdate_range("2000-01-03", periods=N)
    spot = np.exp(np.cumsum(0.01 * rng.normal(size=N)))
    history = volscen.make_history(dates.to_numpy(), [0.25, 1.0], [0.9, 1.0, 1.1], vol, spot=spot)
    return history, pd.Series(score, index=dates, name="news")


def _longer(series: pd.Series) -> pd.Series:
    """From some days before the history on."""
    before = pd.bdate_range(end=series.index[0] - pd.Timedelta(days=1), periods=5)
    return pd.concat([pd.Series(np.linspace(-1, 1, 5), index=before, name=series.name), series])


@pytest.fixture(scope="module")
def driven() -> tuple[xr.Dataset, pd.Series]:
    return _driven()


def _theil(history: xr.Dataset, models: Any, **options: Any) -> xr.DataArray:
    made = forecast.forecast_surfaces(
        models, history, first=history.date.values[900], last=history.date.values[-6], horizons=(1, 5),
        refit_every=None, progress=False, **options,
    )  # fmt: skip
    return forecast.judge_surfaces(made, baseline=next(iter(models))).theil_u.sel(region="all")


MODELS = {
    "har": "har", "var": forecast.Var(2), "lstm": forecast.Lstm(window=3, hidden=12, epochs=12, learning_rate=0.01),
}  # fmt: skip


def test_a_series_that_drives_the_next_day_improves_the_forecast_by_what_it_explains(driven: Any) -> None:
    """Theil's U of a random walk's move of which 70% is known: sqrt(.3) a day ahead; sqrt((5 - .7) / 5) five days."""
    history, score = driven
    found = _theil(history, MODELS, exogenous=score, lag=0)
    without = _theil(history, MODELS)
    for model in MODELS:
        slack = 0.10 if model == "lstm" else 0.03
        assert float(found.sel(model=model, horizon=1)) == pytest.approx(np.sqrt(1 - SHARE), abs=slack)
        assert float(found.sel(model=model, horizon=5)) == pytest.approx(np.sqrt((5 - SHARE) / 5), abs=slack)
        assert float(without.sel(model=model, horizon=1)) > 0.97


def test_what_is_published_too_late_does_not_help(driven: Any) -> None:
    """The trap: tomorrow's move itself, stamped tomorrow. Whoever joins by the day forecast sees all of it."""
    history, score = driven
    move = np.log(history.implied_vol[:, 0, 1]).diff("date").to_pandas()
    move = pd.concat([pd.Series([0.0], index=history.get_index("date")[:1]), move])
    for lag in (0, 1):
        found = _theil(history, {"har": "har", "var": forecast.Var(2)}, exogenous=_longer(move), lag=lag)
        assert float(found.sel(horizon=1).min()) > 0.97
    # A score one day old has had its effect: lag 1 takes it away.
    assert float(_theil(history, {"har": "har"}, exogenous=_longer(score), lag=1).sel(horizon=1)[0]) > 0.97


@pytest.mark.parametrize("lag", [0, 1, 3])
@pytest.mark.parametrize("name", list(MODELS))
def test_no_forecast_knows_values_published_later(driven: Any, name: str, lag: int) -> None:
    history, score = driven
    model = {"m": forecast.Lstm(window=3, hidden=4, epochs=1) if name == "lstm" else MODELS[name]}
    late = 1000
    changed = score.copy()
    changed.iloc[late + 1 - lag :] += 2.0  # the close of row `late` knows rows up to `late - lag`
    options: dict[str, Any] = {
        "first": history.date.values[960], "last": history.date.values[1040], "horizons": (1,), "refit_every": 25,
        "every": 4, "progress": False, "lag": lag,
    }  # fmt: skip
    a, b = (
        forecast.forecast_surfaces(model, history, exogenous=_longer(one), **options).forecast
        for one in (score, changed)
    )
    until = {"date": slice(None, history.date.values[late])}
    np.testing.assert_array_equal(a.sel(until), b.sel(until))
    assert a.sel(until).sizes["date"] > 8
    assert not np.array_equal(a, b)


def test_values_are_the_last_known() -> None:
    history = volscen.datasets.sample_history().isel(date=slice(0, 12))
    days = history.get_index("date")
    early = days[0] - pd.Timedelta(days=40)
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [5.0, 6.0, 7.0]}, index=[early, days[2], days[7]])
    at_close = forecast.add_exogenous(history, table, lag=0).exogenous
    assert at_close.sel(column="a").values.tolist() == [1.0] * 2 + [2.0] * 5 + [3.0] * 5
    later = forecast.add_exogenous(history, table).exogenous
    assert later.sel(column="b").values.tolist() == [5.0] * 3 + [6.0] * 5 + [7.0] * 4
    # The first rows have none before them: weekdays stand in, and a value of the first date is not known on it.
    table.index = [days[0] - pd.tseries.offsets.BDay(1), days[0], days[9]]
    assert forecast.add_exogenous(history, table).exogenous.sel(column="a").values.tolist()[:3] == [1.0, 2.0, 2.0]
    # Datasets, arrays and tables are the same.
    arrays = xr.Dataset({name: ("date", table[name].to_numpy()) for name in table}, coords={"date": table.index})
    for other in (arrays, arrays.to_dataarray("column"), arrays.to_dataarray("column").transpose("date", "column")):
        xr.testing.assert_equal(forecast.add_exogenous(history, other), forecast.add_exogenous(history, table))
    one = forecast.add_exogenous(history, arrays.a)
    np.testing.assert_array_equal(one.exogenous[:, 0], forecast.add_exogenous(history, table["a"]).exogenous[:, 0])


def test_regimes_are_series_from_outside() -> None:
    """What each day knew of its regime, known at its close."""
    history = volscen.datasets.sample_history().isel(date=slice(0, 700))
    state = forecast.regime_state(history, every=50)
    with pytest.raises(InputError, match="history later"):
        forecast.add_exogenous(history, state, lag=0)
    later = history.sel(date=slice(state.date.values[0], None))
    made = forecast.forecast_surfaces(
        ["no_change", "har"], later, first=later.date.values[-60], last=later.date.values[-30], horizons=(1,),
        exogenous=state, lag=0, progress=False,
    )  # fmt: skip
    assert made.uses_exogenous.values.tolist() == [False, True]
    with_state = forecast.add_exogenous(later, state, lag=0).exogenous
    np.testing.assert_array_equal(with_state.sel(column="regime_vol"), state.regime_vol)


def test_a_column_that_never_moved_says_nothing_later(driven: Any) -> None:
    history, score = driven
    still = pd.DataFrame({"news": score, "still": np.where(np.arange(N) < 1000, 4.0, 900.0)})
    rows = np.arange(1000, 1010)
    for model in (forecast.Har(), forecast.Var(2)):
        first = forecast.add_exogenous(history, score, lag=0)
        second = forecast.add_exogenous(history, still, lag=0)
        made = [model.fit(one.isel(date=slice(0, 990)), (1,)).forecast(one, rows) for one in (first, second)]
        np.testing.assert_allclose(made[0], made[1], rtol=1e-9)
    # Inputs of a network that were always zero have weights as they began: they must stay zero.
    network = forecast.Lstm(window=3, hidden=4, epochs=2, learning_rate=0.02).fit(second.isel(date=slice(0, 990)), (1,))
    other = forecast.add_exogenous(history, still.assign(still=4.0), lag=0)
    assert network.epoch_ > 0
    np.testing.assert_array_equal(network.forecast(second, rows), network.forecast(other, rows))


def test_bad_series_are_named(driven: Any) -> None:
    history, score = driven

    def add(table: Any, match: str, **options: Any) -> None:
        with pytest.raises(InputError, match=match):
            forecast.add_exogenous(history, table, **options)

    table = score.to_frame()
    add(table.assign(other=score.where(score.index != score.index[3])), r"column 'other' holds 1 .* 2000-01-06")
    add(table.assign(other=np.inf), "'other'")
    add(table.assign(other="x"), "'other' holds what is not a number")
    add(table.iloc[::-1], "strictly increasing")
    add(table.reset_index(drop=True), "indexed by date")
    add(table.iloc[50:], "history later: from")
    add(table.iloc[:1000], "long before the history", lag=0)
    add(table.iloc[:0], "no values")
    add(table.tz_localize("UTC"), "time zone")
    add([1.0], "DataFrame")
    add(table, "lag", lag=-1)
    add(xr.Dataset({"a": (("date", "x"), np.ones((3, 2)))}, coords={"date": score.index[:3]}), "over date alone")
    add(pd.concat([table, table], axis=1), "twice")
    early = pd.Timestamp("1999-12-01")
    with_two = forecast.add_exogenous(history, pd.concat([pd.Series([0.0], [early]), score]).rename("news"))
    with pytest.raises(InputError, match="already"):
        forecast.add_exogenous(with_two, score)
    model = forecast.Har().fit(with_two, (1,))
    with pytest.raises(InputError, match="fitted with 1"):
        model.forecast(history, np.array([500]))
    wide = pd.DataFrame(np.random.default_rng(0).normal(size=(N, 40)), index=score.index).add_prefix("x")
    with pytest.raises(InputError, match="too many"):
        forecast.Har().fit(forecast.add_exogenous(history, wide, lag=0).isel(date=slice(0, 300)), (1,))


def test_a_series_that_drives_the_variance_of_the_next_day_improves_its_forecast() -> None:
    """Log variance .5 score of the day before: QLIKE comes near that of the truth, and no lag may peek."""
    rng = np.random.default_rng(3)
    n = 4000
    score = rng.normal(size=n)
    truth = 1e-4 * np.exp(0.5 * np.r_[0.0, score[:-1]])
    dates = pd.bdate_range("2000-01-03", periods=n)
    returns = xr.DataArray(np.sqrt(truth) * rng.normal(size=n), coords={"date": dates}, dims="date")
    series = pd.Series(score, index=dates, name="news")
    options: dict[str, Any] = {
        "first": dates[1500], "last": dates[-2], "models": ["no_change", "har"], "horizons": (1,), "refit_every": 5000,
    }  # fmt: skip
    with_it = forecast.forecast_variance(returns, exogenous=series, lag=0, **options)
    plain, late = (
        forecast.forecast_variance(returns, **options, **more)
        for more in ({}, {"exogenous": _longer(series), "lag": 1})
    )
    assert with_it.uses_exogenous.values.tolist() == [False, True]
    assert "uses_exogenous" not in plain.coords
    found, without, old = (
        float(forecast.judge_variance(one).qlike.sel(model="har", horizon=1)) for one in (with_it, plain, late)
    )
    best = evaluation.qlike(truth[1501:], returns.values[1501:] ** 2).mean()
    assert found - best < 0.25 * (without - best)
    assert old == pytest.approx(without, rel=0.01)
    known = np.log(with_it.variance.sel(model="har").values[:, 0])
    # The standard error of an exponential regression on 1,500 squared returns is sqrt(2 / 1500) = .037.
    assert np.polyfit(score[1500 : n - 1], known, 1)[0] == pytest.approx(0.5, abs=0.11)
    apart = _variance_models._log_factor(
        rng.exponential(size=4000) * np.exp(0.3 + 0.7 * score), np.c_[np.ones(n), score]
    )
    np.testing.assert_allclose(apart, [0.3, 0.7], atol=0.07)
    changed = series.copy()
    changed.iloc[1701:] += 1.0
    other = forecast.forecast_variance(returns, exogenous=changed, lag=0, **options)
    np.testing.assert_array_equal(other.variance[1, :201], with_it.variance[1, :201])
    assert not np.array_equal(other.variance[1], with_it.variance[1])


def test_an_ensemble_is_the_mean_of_its_seeds(driven: Any) -> None:
    history, score = driven
    history = forecast.add_exogenous(history, score, lag=0)  # something to learn
    rows = np.arange(1000, 1004)
    network = forecast.Lstm(window=3, hidden=4, epochs=2, learning_rate=0.02, seed=9)
    found = forecast.SeedEnsemble(network, seeds=(1, 4)).fit(history, (1, 5)).forecast(history, rows)
    alone = []
    for seed in (1, 4):
        one = forecast.Lstm(window=3, hidden=4, epochs=2, learning_rate=0.02, seed=seed)
        alone.append(one.fit(history, (1, 5)).forecast(history, rows))
    assert not np.array_equal(*alone)
    np.testing.assert_allclose(found, np.sqrt(alone[0] * alone[1]), rtol=1e-12)
    assert network.seed == 9
    made = forecast.forecast_surfaces(
        {"no_change": "no_change", "net": network}, history, first=history.date.values[1000],
        last=history.date.values[1003], horizons=(1, 5), refit_every=None, seeds=2, progress=False,
    )  # fmt: skip
    both = forecast.SeedEnsemble(network, 2).fit(history.isel(date=slice(0, 1001)), (1, 5)).forecast(history, rows)
    np.testing.assert_allclose(made.forecast.sel(model="net"), both, rtol=1e-6)
    for seeds in (0, (), (1, 1), (-1,), 1.5, "12", True):
        with pytest.raises(InputError, match="seeds"):
            forecast.SeedEnsemble(network, seeds)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="with a seed"):
        forecast.SeedEnsemble(forecast.Har())
    with pytest.raises(FitError, match="fitted"):
        forecast.SeedEnsemble(network).forecast(history, rows)


class Candles:
    """A predictor whose closes are the last one and .01 a day, drawn with a little noise."""

    def predict_batch(
        self, df_list: Any, x_list: Any, y_list: Any, pred_len: int, **options: Any
    ) -> list[pd.DataFrame]:
        assert options["sample_count"] == 3
        out = []
        for candles, past, ahead in zip(df_list, x_list, y_list, strict=True):
            assert (candles["high"] >= candles[["open", "close"]].max(axis=1)).all()
            assert (candles["low"] <= candles[["open", "close"]].min(axis=1)).all()
            np.testing.assert_array_equal(candles["open"][1:], candles["close"][:-1])
            assert len(candles) == len(past)
            assert past.dt.day_of_week.max() < 5
            assert ahead.iloc[0] > past.iloc[-1]
            self.lengths = len(past)
            noise = 1e-6 * torch.randn(pred_len).numpy()
            close = candles["close"].iloc[-1] + 0.01 * np.arange(1, pred_len + 1) + noise
            out.append(pd.DataFrame({"close": close}, index=ahead))
        return out


def test_kronos_moves_the_components_by_its_mean_paths(driven: Any, tmp_path: Path) -> None:
    history, _ = driven
    rows = np.array([70, 1000])
    model = forecast.Kronos(Candles(), n_components=2, context=100, n_paths=3).fit(history, (1, 5))
    state = torch.random.get_rng_state()
    found = model.forecast(history, rows)
    assert torch.equal(state, torch.random.get_rng_state())
    logs = np.log(history.implied_vol.values.reshape(N, -1))
    deviation = logs[rows] - model.mean_
    scores = deviation @ model.axes_.T
    rest = (deviation - scores @ model.axes_) * model.steps_[2] ** 5
    by_hand = np.exp(model.mean_ + (scores + 0.05) @ model.axes_ + rest)
    np.testing.assert_allclose(found[:, 1].reshape(2, -1), by_hand, rtol=1e-4)
    np.testing.assert_array_equal(model.forecast(history, rows[1:])[0], found[1])
    assert model.model.lengths == 100


def test_kronos_is_loaded_from_its_repository(driven: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package ``model`` of a clone, its classes by the names that the repository has."""
    history, _ = driven
    monkeypatch.delitem(sys.modules, "model", raising=False)
    with pytest.raises(InputError, match=r"clone https://github\.com/shiyu-coder/Kronos"):
        forecast.Kronos().fit(history, (1,))
    with pytest.raises(InputError, match="holds no package 'model'"):
        forecast.Kronos(code=tmp_path).fit(history, (1,))
    (tmp_path / "model").mkdir()
    source = tmp_path / "model" / "__init__.py"
    source.write_text(
        "import pandas as pd\n"
        "class _Part:\n"
        "    @classmethod\n"
        "    def from_pretrained(cls, name):\n"
        "        if name == 'nothing':\n"
        "            raise OSError('no such weights')\n"
        "        one = cls(); one.name = name\n"
        "        return one\n"
        "    def eval(self):\n"
        "        return self\n"
        "class Kronos(_Part): pass\n"
        "class KronosTokenizer(_Part): pass\n"
        "class KronosPredictor:\n"
        "    def __init__(self, model, tokenizer, device=None, max_context=512, clip=5):\n"
        "        self.names = model.name, tokenizer.name, device\n"
        "    def predict_batch(self, df_list, x, y, pred_len, T, top_k=0, top_p=.9, sample_count=1, verbose=True):\n"
        "        return [pd.DataFrame({'close': [d['close'].iloc[-1]] * pred_len}) for d in df_list]\n"
    )
    path = list(sys.path)
    model = forecast.Kronos("weights", tokenizer="tokens", code=tmp_path, n_components=2).fit(history, (1, 5))
    assert sys.path == path
    assert model._predictor.names == ("weights", "tokens", "cpu")
    found = model.forecast(history, np.array([500]))
    np.testing.assert_allclose(found[0, 0], history.implied_vol[500], rtol=1e-4)
    with pytest.raises(InputError, match="no such weights"):
        forecast.Kronos("nothing", code=tmp_path).fit(history, (1,))
    monkeypatch.delitem(sys.modules, "model")
    source.write_text("x = 1\n" + "# another package\n")
    with pytest.raises(InputError, match="not that of Kronos"):
        forecast.Kronos(code=tmp_path).fit(history, (1,))
    monkeypatch.delitem(sys.modules, "model")


def test_options_of_kronos_are_checked() -> None:
    for name, value in (("context", 10), ("n_paths", 0), ("top_p", 1.5), ("temperature", 0.0), ("seed", -1)):
        with pytest.raises(InputError, match=name):
            forecast.Kronos(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="predict_batch"):
        forecast.Kronos(3)


def test_memory_between_breaks_is_that_of_each_part() -> None:
    rng = np.random.default_rng(4)
    parts = [forecast.fractional_difference(rng.normal(size=n), -d) for n, d in ((600, 0.0), (100, 0.2), (900, 0.4))]
    values = np.concatenate([parts[0], parts[1] + 5, parts[2] - 5])
    found = forecast.memory_by_segment(values, [600, 700])
    assert found["n"].tolist() == [600, 100, 900]
    assert found[["first", "last"]].to_numpy().tolist() == [[0, 599], [600, 699], [700, 1599]]
    assert np.isnan(found.d[1])
    for row in (0, 2):
        alone = forecast.long_memory(values[found["first"][row] : found["last"][row] + 1])
        assert found.d[row] == alone.d
        assert found.standard_error[row] == alone.standard_error
    assert found.p[0] > 0.01
    assert found.p[2] < 1e-4
    # The breaks made memory where each part has less.
    assert forecast.long_memory(values).d > 0.7
    for breaks in ([700, 600], [0], [1600], [1.5], [[3]]):
        with pytest.raises(InputError, match="breaks"):
            forecast.memory_by_segment(values, breaks)
    assert len(forecast.memory_by_segment(values, [])) == 1

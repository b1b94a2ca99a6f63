"""Forecasts of surfaces: no look-ahead, regressions against independent ones, errors and tests by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import volscen
from volscen.errors import FitError, InputError
from volscen.evaluation import diebold_mariano, forecast
from volscen.evaluation.forecast._surface_models import MODELS

PERIOD = {"first": "2022-01-03", "last": "2022-06-30"}


@pytest.fixture(scope="module")
def history() -> xr.Dataset:
    return volscen.datasets.sample_history().sel(date=slice(None, "2022-09-30"))


@pytest.mark.parametrize("name", [*sorted(set(MODELS) - {"lstm", "ae_lstm", "vae"}), "generator:bootstrap"])
def test_no_forecast_knows_what_comes_later(history: xr.Dataset, name: str) -> None:
    changed = history.copy(deep=True)
    # A date forecast from, so that a look at the very next day is seen.
    late = history.date.sel(date=slice(PERIOD["first"], None)).values[40]
    rows = history.date.values > late
    changed["implied_vol"][rows] *= 1.3
    changed["log_return"][rows] += 0.01
    changed["spot"][:] = float(history.spot[0]) * np.exp(
        np.concatenate([[0.0], np.cumsum(changed["log_return"].values[1:])])
    )
    made = [
        forecast.forecast_surfaces([name], h, horizons=(1, 5), refit_every=30, every=10, progress=False, **PERIOD)
        for h in (history, changed)
    ]
    until = {"date": slice(None, late)}
    np.testing.assert_allclose(made[0].forecast.sel(until), made[1].forecast.sel(until), rtol=1e-6)
    assert not np.allclose(made[0].forecast, made[1].forecast)
    assert made[0].forecast.sel(until).sizes["date"] > 3


def test_no_change_is_the_surface_of_the_date(history: xr.Dataset) -> None:
    made = forecast.forecast_surfaces(["no_change"], history, horizons=(1, 60), progress=False, **PERIOD)
    vol = history.implied_vol.values
    at = int(np.flatnonzero(history.date.values == made.date.values[0])[0])
    np.testing.assert_allclose(made.forecast[0, 0, 1], vol[at], rtol=1e-6)
    np.testing.assert_allclose(made.actual[0, 1], vol[at + 60], rtol=1e-12)
    np.testing.assert_allclose(made.previous[0], vol[at], rtol=1e-12)
    late = forecast.forecast_surfaces(
        ["no_change"], history, first="2022-09-26", last="2022-09-30", horizons=(1, 3), progress=False
    )
    assert np.isnan(late.actual[-1]).all()
    assert np.isfinite(late.actual[0, 1]).all()


def test_har_and_mean_reversion_are_the_regressions_they_name(history: xr.Dataset) -> None:
    logs = np.log(history.implied_vol.values[:, 3, 4])
    h, row = 5, len(logs) - 40
    model = forecast.Har().fit(history.isel(date=slice(0, row + 1)), (h,))
    y, x = [], []
    for t in range(21, row + 1 - h):
        x.append([1.0, logs[t], logs[t - 4 : t + 1].mean(), logs[t - 21 : t + 1].mean()])
        y.append(logs[t + h])
    b = np.linalg.solve(np.array(x).T @ np.array(x), np.array(x).T @ np.array(y))
    now = [1.0, logs[row], logs[row - 4 : row + 1].mean(), logs[row - 21 : row + 1].mean()]
    found = model.forecast(history, np.array([row]))[0, 0, 3, 4]
    assert found == pytest.approx(np.exp(np.dot(now, b)), rel=1e-7)
    simple = forecast.MeanReversion().fit(history.isel(date=slice(0, row + 1)), (h,))
    past = logs[: row + 1] - logs[: row + 1].mean()
    slope = np.polyfit(past[:-h], past[h:], 1)[0]
    found = simple.forecast(history, np.array([row]))[0, 0, 3, 4]
    assert found == pytest.approx(np.exp(logs[: row + 1].mean() + slope * past[row]), rel=2e-3)


def test_var_iterates_its_own_one_step_law(history: xr.Dataset) -> None:
    rows = np.array([300])
    long = forecast.Var(n_components=3).fit(history, (1, 2, 3)).forecast(history, rows)
    constant, matrix, decay = (model := forecast.Var(n_components=3).fit(history, (3,))).steps_
    deviation = np.log(history.implied_vol.values[300]).ravel() - model.mean_
    scores = deviation @ model.axes_.T
    state, rest = np.r_[history.log_return.values[300], scores], deviation - scores @ model.axes_
    for _ in range(3):
        state, rest = constant + matrix @ state, rest * decay
    by_hand = np.exp(model.mean_ + state[1:] @ model.axes_ + rest).reshape(8, 10)
    np.testing.assert_allclose(long[0, 2], by_hand, rtol=1e-12)


def test_forecasts_beat_no_change_where_volatility_reverts() -> None:
    """Log vols that are an autoregression with slope .9: the regression's error is known."""
    rng = np.random.default_rng(3)
    n, slope, sd = 3000, 0.9, 0.05
    x = np.zeros(n)
    for t in range(1, n):
        x[t] = slope * x[t - 1] + sd * rng.normal()
    vol = 0.2 * np.exp(x)[:, None, None] * np.ones((1, 2, 3)) * (1 + 1e-6 * rng.normal(size=(n, 2, 3)))
    dates = np.datetime64("2000-01-03", "ns") + np.arange(n) * np.timedelta64(1, "D")
    h = volscen.make_history(
        dates,
        [0.25, 1.0],
        [0.9, 1.0, 1.1],
        vol,
        spot=np.exp(np.cumsum(0.01 * rng.normal(size=n))),
        periods_per_year=365,
    )
    made = forecast.forecast_surfaces(
        ["no_change", "mean_reversion", "har"], h, first=dates[1500], last=dates[-20], horizons=(1, 10), progress=False
    )
    table = forecast.judge_surfaces(made)
    # E|x(t+10) - forecast| over E|x(t+10) - x(t)|: sqrt of (1 - .9^20) over 2 (1 - .9^10).
    ratio = np.sqrt((1 - slope**20) / (2 * (1 - slope**10)))
    for model in ("mean_reversion", "har"):
        found = float(table.theil_u.sel(model=model, horizon=10, region="all"))
        assert found == pytest.approx(ratio, rel=0.05)
        assert float(table.dm_t.sel(model=model, horizon=10, region="all")) < -3
    assert float(table.theil_u.sel(model="no_change", horizon=1, region="all")) == pytest.approx(1, abs=1e-6)


def test_judgement_by_hand(history: xr.Dataset) -> None:
    made = forecast.forecast_surfaces({"a": "no_change", "b": "har"}, history, horizons=(5,), progress=False, **PERIOD)
    table = forecast.judge_surfaces(made, baseline="a", regions={"wing": (0.0, 0.8, 0.5, 2.0)})
    error = (made.forecast - made.actual).sel(horizon=5)
    cells = error.where((made.moneyness <= 0.8) & (made.tau >= 0.5))
    for model in ("a", "b"):
        one = cells.sel(model=model)
        assert table.mae.sel(model=model).item() == pytest.approx(100 * float(abs(one).mean()), rel=1e-6)
        assert table.rmse.sel(model=model).item() == pytest.approx(100 * float(np.sqrt((one**2).mean())), rel=1e-6)
    truth = made.actual.sel(horizon=5).where((made.moneyness <= 0.8) & (made.tau >= 0.5))
    spread = float(((truth - truth.mean("date")) ** 2).sum())
    assert table.r_squared.sel(model="b").item() == pytest.approx(
        1 - float((cells.sel(model="b") ** 2).sum()) / spread, rel=1e-6
    )
    loss = abs(cells).mean(("tau", "moneyness"))
    test = diebold_mariano(loss.sel(model="b").values, loss.sel(model="a").values, lags=5)
    assert table.dm_t.sel(model="b").item() == pytest.approx(test.t, rel=1e-5)
    assert "wing" in forecast.format_judgement(table, region="wing")


def test_bad_input_names_the_argument(history: xr.Dataset) -> None:
    def make(models: object = ("har",), **changes: object) -> xr.Dataset:
        return forecast.forecast_surfaces(models, history, **({**PERIOD, "progress": False} | changes))  # type: ignore[arg-type]

    with pytest.raises(InputError, match="none of no_change"):
        make(["arima"])
    with pytest.raises(InputError, match="horizons must increase"):
        make(horizons=(5, 1))
    with pytest.raises(InputError, match="horizons must be positive"):
        make(horizons=(0,))
    with pytest.raises(InputError, match="sequence of days"):
        make(horizons=1)
    with pytest.raises(InputError, match="forecast_surfaces returned"):
        forecast.judge_surfaces(history)
    with pytest.raises(InputError, match="every"):
        make(every=0)
    with pytest.raises(InputError, match="lies between first and last"):
        make(first="2030-01-01", last="2030-12-31")
    with pytest.raises(InputError, match="needs"):
        make(first="2019-01-10", last="2019-02-10")
    with pytest.raises(InputError, match="one name twice"):
        make(["har", "har"])
    with pytest.raises(FitError, match="has not been fitted"):
        forecast.Har().forecast(history, np.array([100]))
    made = make(horizons=(1,))
    with pytest.raises(InputError, match="baseline"):
        forecast.judge_surfaces(made)
    with pytest.raises(InputError, match="outcome"):
        forecast.judge_surfaces(made.isel(date=slice(0, 5)), baseline="har")
    with pytest.raises(InputError, match="regions"):
        forecast.judge_surfaces(made, baseline="har", regions={"far": (3.0, 4.0, 0.0, 1.0)})


def test_the_last_day_may_be_left_out(history: xr.Dataset) -> None:
    period = {"first": history.date.values[-10], "horizons": (1, 3)}
    options: dict[str, Any] = {"progress": False, **period}
    xr.testing.assert_equal(
        forecast.forecast_surfaces(["no_change"], history, **options),
        forecast.forecast_surfaces(["no_change"], history, last=history.date.values[-1], **options),
    )
    returns = history["log_return"]
    xr.testing.assert_equal(
        forecast.forecast_variance(returns, models=["no_change"], **period),
        forecast.forecast_variance(returns, models=["no_change"], last=history.date.values[-1], **period),
    )

"""Forecasts of variance: no look-ahead, filters and predictors against direct ones, losses by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

from volscen.errors import InputError
from volscen.evaluation import diebold_mariano, forecast, qlike
from volscen.evaluation.forecast._variance_models import VARIANCE_MODELS, Days, _filter

N = 1400


def simulated(
    seed: int = 0, n: int = N, slope: float = 0.97, sd: float = 0.12
) -> tuple[xr.DataArray, xr.DataArray, np.ndarray]:
    """Returns, log ranges of 200 intraday steps, and the true daily volatility."""
    rng = np.random.default_rng(seed)
    x = np.zeros(n)
    for t in range(1, n):
        x[t] = slope * x[t - 1] + sd * rng.normal()
    vol = 0.01 * np.exp(x)
    walk = np.cumsum(rng.normal(size=(n, 200)) / np.sqrt(200), axis=1) * vol[:, None]
    date = np.datetime64("2010-01-04", "ns") + np.arange(n) * np.timedelta64(1, "D")
    spread = np.maximum(walk.max(axis=1), 0) - np.minimum(walk.min(axis=1), 0)
    made = [xr.DataArray(v, dims="date", coords={"date": date}) for v in (walk[:, -1], spread)]
    return made[0], made[1], vol


@pytest.fixture(scope="module")
def market() -> tuple[xr.DataArray, xr.DataArray, np.ndarray]:
    return simulated()


@pytest.mark.parametrize(
    ("name", "ranged"),
    [*((name, True) for name in VARIANCE_MODELS), ("range_one_factor", False), ("long_memory", False)],
)
def test_no_forecast_knows_what_comes_later(
    market: tuple[xr.DataArray, xr.DataArray, np.ndarray], name: str, ranged: bool
) -> None:
    returns, ranges, _ = market
    if not ranged:
        returns = returns.where(np.arange(N) % 9 > 0, 0.0)
    late = returns.date.values[1000]
    changed = [xr.where(one.date > late, 3 * one, one) for one in (returns, ranges)]
    options = {
        "first": returns.date.values[800],
        "last": returns.date.values[1100],
        "horizons": (1, 7),
        "refit_every": 150,
    }
    known = [{"log_range": one} if ranged else {} for one in (ranges, changed[1])]
    one = forecast.forecast_variance(returns, models=[name], **known[0], **options)
    other = forecast.forecast_variance(changed[0], models=[name], **known[1], **options)
    until = {"date": slice(None, late)}
    np.testing.assert_allclose(one.variance.sel(until), other.variance.sel(until), rtol=1e-9)
    assert not np.allclose(one.variance, other.variance)
    assert float(one.variance.min()) > 0


def test_kalman_filter_is_the_recursion() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(size=400)
    slope, innovation, mean, noise = np.array([0.98, 0.6]), np.array([0.1, 0.3]), 0.2, 0.29
    x, p = np.zeros(2), np.diag(innovation**2 / (1 - slope**2))
    states = []
    for t, value in enumerate(y):
        if t:
            x, p = slope * x, np.diag(slope) @ p @ np.diag(slope) + np.diag(innovation**2)
        gain = p.sum(axis=1) / (p.sum() + noise**2)
        x = x + gain * (value - mean - x.sum())
        p = p - np.outer(gain, p.sum(axis=0))
        states.append(x)
    _, found, spread = _filter((slope, innovation, mean), y, noise)
    np.testing.assert_allclose(found[250:], np.array(states)[250:], atol=1e-6)
    np.testing.assert_allclose(spread, p, atol=1e-8)


def test_range_model_finds_the_law(market: tuple[xr.DataArray, xr.DataArray, np.ndarray]) -> None:
    returns, ranges, vol = market
    days = Days(returns.values, ranges.values)
    model = VARIANCE_MODELS["range_one_factor"]().fit(days, (1,))
    slope, innovation, mean = model.parameters_  # type: ignore[attr-defined]
    assert abs(slope[0] - 0.97) < 0.02
    assert abs(innovation[0] - 0.12) < 0.03
    # 200 steps a day see a range smaller than the path's by about 4%.
    assert abs(mean - np.log(0.01)) < 0.3
    rows = np.arange(700, N - 1)
    known = model.forecast(days, rows)[:, 0]
    wanted = 0.01**2 * np.exp(2 * 0.97 * np.log(vol[rows] / 0.01) + 2 * 0.12**2)
    correlation = np.corrcoef(np.log(known), np.log(wanted))[0, 1]
    assert correlation > 0.9
    squares = VARIANCE_MODELS["ewma"]().fit(days, (1,)).forecast(days, rows)[:, 0]
    assert np.corrcoef(np.log(squares), np.log(wanted))[0, 1] < correlation - 0.05


def test_unchanged_closes_are_no_storms(market: tuple[xr.DataArray, xr.DataArray, np.ndarray]) -> None:
    """A return of zero has no log: it counts as a calm day, not as one beyond all bounds."""
    returns = market[0]
    quiet = returns.where(np.arange(N) % 9 > 0, 0.0)
    period = {"first": returns.date.values[900], "last": returns.date.values[-2], "horizons": (1,)}
    for name in ("range_one_factor", "long_memory"):
        plain, zeros = (forecast.forecast_variance(r, models=[name], **period).variance for r in (returns, quiet))
        assert 0.5 < float(zeros.mean() / plain.mean()) < 1.3


def test_log_moves_have_the_constants_stated() -> None:
    from volscen.evaluation.forecast._variance_models import _FULLER, _LOG_MOVE

    z = norm.ppf((np.arange(2_000_000) + 0.5) / 2_000_000)
    logs = (np.log(z * z + _FULLER) - _FULLER / (z * z + _FULLER)) / 2
    np.testing.assert_allclose([logs.mean(), logs.std()], _LOG_MOVE, atol=1e-5)


def test_garch_ahead_is_the_closed_form(market: tuple[xr.DataArray, xr.DataArray, np.ndarray]) -> None:
    returns = market[0].values
    days = Days(returns, None)
    model = VARIANCE_MODELS["garch"]().fit(days, (1, 10))
    omega, alpha, beta = model.parameters_  # type: ignore[attr-defined]
    found = model.forecast(days, np.array([N - 2, N - 1]))
    one = found[:, 0] / model.scale_**2  # type: ignore[attr-defined]
    # Tomorrow's variance from today's, and the mean of ten by powers of persistence.
    assert one[1] == pytest.approx(omega + alpha * (returns[-1] / returns.std()) ** 2 + beta * one[0], rel=1e-8)
    level = omega / (1 - alpha - beta)
    mean = level + (one[1] - level) * np.mean((alpha + beta) ** np.arange(10))
    assert found[1, 1] / returns.std() ** 2 == pytest.approx(mean, rel=1e-8)


def test_long_memory_predictor_by_hand(market: tuple[xr.DataArray, xr.DataArray, np.ndarray]) -> None:
    days = Days(market[0].values, market[1].values)
    model = VARIANCE_MODELS["long_memory"]().fit(days, (2,))
    d, mean = model.d_, model.mean_  # type: ignore[attr-defined]
    pi, weight = [], 1.0
    for j in range(1, 501):
        weight *= (j - 1 - d) / j
        pi.append(-weight)
    series = list(np.log(days.log_range) - 0.43 - mean)  # type: ignore[arg-type]
    total = 0.0
    for _ in range(2):
        series.append(float(np.dot(pi, series[::-1][:500])))
        total += np.exp(2 * (mean + series[-1])) / 2
    found = model.forecast(days, np.array([N - 1]))[0, 0]
    assert found == pytest.approx(total * model.ratio_[0], rel=1e-9)  # type: ignore[attr-defined]


def test_judgement_by_hand_and_the_truth_wins(market: tuple[xr.DataArray, xr.DataArray, np.ndarray]) -> None:
    returns, ranges, vol = market
    made = forecast.forecast_variance(
        returns, log_range=ranges, models=["no_change", "har"], horizons=(1, 5),
        first=returns.date.values[700], last=returns.date.values[-2],
    )  # fmt: skip
    assert made.attrs["proxy"] == "Parkinson"
    rows = np.arange(700, N - 1)
    truth = made.isel(model=[0]).assign_coords(model=["truth"])
    truth["variance"] = truth["variance"].copy(data=np.repeat(vol[rows + 1, None], 2, axis=1)[None] ** 2)
    table = forecast.judge_variance(xr.concat([made, truth], dim="model", data_vars="minimal"))
    # With a horizon of one day the truth is known; nothing may be better by more than chance.
    assert float(table.qlike.sel(model="truth", horizon=1)) < float(table.qlike.sel(model="har", horizon=1))
    assert float(table.dm_t.sel(model="har", horizon=1)) < -2
    known = made.proxy.values[:, 1]
    inside = np.isfinite(known)
    assert inside.sum() == rows.size - 4
    losses = [qlike(made.variance.values[i, inside, 1], known[inside]) for i in (0, 1)]
    assert float(table.qlike.sel(model="har", horizon=5)) == pytest.approx(losses[1].mean(), rel=1e-12)
    lags = max(int(4 * (inside.sum() / 100) ** (2 / 9)) + 1, 5)
    test = diebold_mariano(losses[1], losses[0], lags=lags)
    assert float(table.dm_t.sel(model="har", horizon=5)) == pytest.approx(test.t, rel=1e-10)
    # The proxy is scaled to the variance of returns over the days known at first.
    raw = ranges.values**2 / (4 * np.log(2))
    scale = np.sum(returns.values[:701] ** 2) / raw[:701].sum()
    assert made.proxy.values[0, 0] == pytest.approx(scale * raw[701], rel=1e-12)
    assert made.proxy.values[0, 1] == pytest.approx(scale * raw[701:706].mean(), rel=1e-12)


def test_bad_input_names_the_argument(market: tuple[xr.DataArray, xr.DataArray, np.ndarray]) -> None:
    returns, ranges, _ = market
    period = {"first": returns.date.values[700], "last": returns.date.values[-2]}
    with pytest.raises(InputError, match="models: 'arima' is none of"):
        forecast.forecast_variance(returns, models=["arima"], **period)
    with pytest.raises(InputError, match="each model once"):
        forecast.forecast_variance(returns, models=["har", "har"], **period)
    with pytest.raises(InputError, match="at least 500"):
        forecast.forecast_variance(returns, models=["har"], first=returns.date.values[30], last=period["last"])
    with pytest.raises(InputError, match="log_range lacks 9 dates"):
        forecast.forecast_variance(returns, log_range=ranges[9:], models=["har"], **period)
    with pytest.raises(InputError, match="log_range must be positive"):
        forecast.forecast_variance(returns, log_range=ranges * 0, models=["har"], **period)
    with pytest.raises(InputError, match="not finite"):
        forecast.forecast_variance(returns.where(returns.date != returns.date[8]), models=["har"], **period)
    with pytest.raises(InputError, match="DataArray over date"):
        forecast.forecast_variance(returns.values, models=["har"], **period)  # type: ignore[arg-type]
    made = forecast.forecast_variance(returns, models=["har"], **period)
    with pytest.raises(InputError, match="baseline"):
        forecast.judge_variance(made)

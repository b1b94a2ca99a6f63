"""Forecasts of variance from a rolling origin, judged variance against variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from volscen._dates import to_day
from volscen._numbers import whole_number
from volscen.errors import InputError
from volscen.evaluation._compare import diebold_mariano, holm
from volscen.evaluation._forecasts import direction, qlike
from volscen.evaluation.forecast._exogenous import known_on
from volscen.evaluation.forecast._series import series
from volscen.evaluation.forecast._surfaces import check_horizons
from volscen.evaluation.forecast._variance_models import VARIANCE_MODELS, Days, check_model

__all__ = ["forecast_variance", "judge_variance"]

FloatArray = npt.NDArray[np.float64]

#: Days that every model needs to be fitted.
_LEAST_DAYS = 500


def forecast_variance(
    log_return: xr.DataArray,
    *,
    first: Any,
    last: Any = None,
    models: Sequence[str] | None = None,
    log_range: xr.DataArray | None = None,
    horizons: Sequence[int] = (1, 5, 10, 20, 30),
    refit_every: int = 250,
    exogenous: pd.DataFrame | pd.Series | xr.Dataset | xr.DataArray | None = None,
    lag: int = 1,
) -> xr.Dataset:
    """Forecast the mean daily variance of the next h days from each date of a period.

    Parameters
    ----------
    log_return : xarray.DataArray
        Over ``date``: the log return of the day that ends there. A first value of NaN is dropped.
    first, last : date
        Of the closes from which is forecast, to the last of ``log_return`` when omitted; at least 500 days come before.
    models : sequence of str, optional
        "no_change" (mean of the last 22 days), "ewma", "har", "garch", "egarch", "figarch", "range_one_factor",
        "range_two_factors", "long_memory"; all when omitted. Those ending in "garch" need the extra ``forecast``.
    log_range : xarray.DataArray, optional
        Over the same dates: log(high / low) of the day, positive. It makes the proxy Parkinson's and sharpens the
        models that can use it; squared returns otherwise.
    horizons : sequence of int
        Trading days, increasing.
    refit_every : int
        Dates between fits.
    exogenous : DataFrame, Series, Dataset or DataArray, optional
        Series from outside by date of publication, further inputs of "har"; the others make nothing of it. See
        :func:`add_exogenous`.
    lag : int
        Rows between a date of ``exogenous`` and the first close that knows its values.

    Returns
    -------
    xarray.Dataset
        ``variance`` over ``model``, ``date`` and ``horizon``, of a day; ``proxy`` likewise without ``model``, NaN where
        the days end before; ``previous``, the mean proxy of the last 22 days. The attribute ``proxy`` names it.

    Raises
    ------
    InputError
        If the series are too short, do not fit or hold what is not finite, or a model or horizon is unknown.

    Notes
    -----
    Parkinson's proxy is range^2 / (4 log 2). It misses moves overnight, and what happens between the prices seen: it is
    multiplied by the ratio of the sum of squared returns to its own, over the days known at ``first``, so that models
    of returns and of ranges forecast the same variance.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import forecast
    >>> log_return = volscen.datasets.sample_history().log_return
    >>> made = forecast.forecast_variance(
    ...     log_return, first="2022-01-03", last="2023-12-29", models=["no_change", "ewma", "har"], horizons=(1, 10)
    ... )
    >>> forecast.judge_variance(made).qlike.dims
    ('model', 'horizon')
    """
    names = [check_model(name) for name in (VARIANCE_MODELS if models is None else models)]
    if len(set(names)) < len(names) or not names:
        raise InputError("models must name each model once, and at least one")
    ahead = check_horizons(horizons)
    step = whole_number("refit_every", refit_every, least=1)
    returns, ranges = _aligned(log_return, log_range)
    x = series("log_return", returns.values, _LEAST_DAYS)
    dates = returns["date"].values.astype("datetime64[D]")
    end = dates[-1] if last is None else to_day(last, "last")
    rows = np.flatnonzero((dates >= to_day(first, "first")) & (dates <= end))
    if rows.size == 0:
        raise InputError(f"no date of log_return ({dates[0]} to {dates[-1]}) lies between first and last")
    if rows[0] + 1 < _LEAST_DAYS:
        raise InputError(f"first: {rows[0] + 1} days are known then; at least {_LEAST_DAYS} are needed")
    whole_days = None if ranges is None else ranges * _whole_day(x[: rows[0] + 1], ranges[: rows[0] + 1])
    outside = None if exogenous is None else known_on(dates, exogenous, lag).to_numpy()
    days = Days(x, whole_days, outside)
    variance = np.empty((len(names), rows.size, len(ahead)))
    for start in range(0, rows.size, step):
        part = slice(start, min(start + step, rows.size))
        known = days.until(int(rows[start]) + 1)
        now = days.until(int(rows[part][-1]) + 1)
        for i, name in enumerate(names):
            variance[i, part] = VARIANCE_MODELS[name]().fit(known, ahead).forecast(now, rows[part])
    proxy = days.proxy
    sums = np.concatenate([[0.0], np.cumsum(proxy)])
    actual = np.full((rows.size, len(ahead)), np.nan)
    for j, h in enumerate(ahead):
        inside = rows + h < proxy.size
        actual[inside, j] = (sums[rows[inside] + h + 1] - sums[rows[inside] + 1]) / h
    return xr.Dataset(
        {
            "variance": (("model", "date", "horizon"), variance, {"long_name": "variance of a day"}),
            "proxy": (("date", "horizon"), actual),
            "previous": ("date", (sums[rows + 1] - sums[rows - 21]) / 22),
        },
        coords={
            "model": names,
            "date": returns["date"].values[rows],
            "horizon": list(ahead),
            **(
                {}
                if outside is None
                else {"uses_exogenous": ("model", [VARIANCE_MODELS[name].uses_exogenous for name in names])}
            ),
        },
        attrs={"proxy": "squared return" if ranges is None else "Parkinson"},
    )


def judge_variance(made: xr.Dataset, *, baseline: str = "no_change") -> xr.Dataset:
    """Losses of forecasts of variance, and tests against a baseline.

    Parameters
    ----------
    made : xarray.Dataset
        From :func:`forecast_variance`.
    baseline : str

    Returns
    -------
    xarray.Dataset
        Over ``model`` and ``horizon``: mean ``qlike``; ``rmse`` of variances, in annual vol points squared; ``bias``,
        the mean forecast over the mean proxy; ``dm_t``, ``dm_p`` of QLIKE against the baseline (negative is better;
        lags cover the horizon's overlap), ``dm_p_holm``; ``direction``, ``direction_rule`` and ``direction_p`` as in
        :func:`judge_surfaces`, against the last 22 days.

    Raises
    ------
    InputError
        If the baseline is not among the models, or fewer than 20 dates have an outcome.
    """
    if not isinstance(made, xr.Dataset) or not {"variance", "proxy", "previous"} <= set(made.data_vars):
        raise InputError("made must be what forecast_variance returned")
    models = [str(model) for model in made["model"].values]
    if baseline not in models:
        raise InputError(f"baseline {baseline!r} is not among the models: {', '.join(models)}")
    horizons = [int(h) for h in made["horizon"].values]
    names = ("qlike", "rmse", "bias", "dm_t", "dm_p", "dm_p_holm", "direction", "direction_rule", "direction_p")
    out = {name: np.full((len(models), len(horizons)), np.nan) for name in names}
    for j, h in enumerate(horizons):
        proxy = made["proxy"].values[:, j]
        # QLIKE has no value where nothing moved.
        known = np.isfinite(proxy) & (proxy > 0)
        if known.sum() < 20:
            raise InputError(f"only {int(known.sum())} dates have an outcome {h} days ahead; at least 20 are needed")
        forecasts, truth = made["variance"].values[:, known, j], proxy[known]
        losses = np.stack([qlike(one, truth) for one in forecasts])
        lags = min(max(int(4 * (truth.size / 100) ** (2 / 9)) + 1, h), truth.size - 1)
        for i, model in enumerate(models):
            out["qlike"][i, j] = losses[i].mean()
            out["rmse"][i, j] = 252e4 * np.sqrt(np.mean(np.square(forecasts[i] - truth)))
            out["bias"][i, j] = forecasts[i].mean() / truth.mean()
            test = diebold_mariano(losses[i], losses[models.index(baseline)], lags=lags)
            out["dm_t"][i, j], out["dm_p"][i, j] = test.t, test.p_value
            if model != "no_change":
                way = direction(forecasts[i], truth, made["previous"].values[known])
                out["direction"][i, j], out["direction_rule"][i, j] = way.accuracy, way.mean_reversion
                out["direction_p"][i, j] = way.p_value
        rivals = [i for i, model in enumerate(models) if model != baseline]
        out["dm_p_holm"][:, j] = 1.0
        if rivals:
            out["dm_p_holm"][rivals, j] = holm(out["dm_p"][rivals, j])
    return xr.Dataset(
        {name: (("model", "horizon"), values) for name, values in out.items()},
        coords={"model": models, "horizon": horizons},
        attrs={"baseline": baseline, "proxy": made.attrs["proxy"]},
    )


def _whole_day(log_return: FloatArray, log_range: FloatArray) -> float:
    """What ranges are multiplied by, so that Parkinson's variance is that of returns from close to close."""
    own = np.square(log_range).sum() / (4 * np.log(2))
    return float(np.sqrt(np.square(log_return).sum() / own))


def _aligned(log_return: xr.DataArray, log_range: xr.DataArray | None) -> tuple[xr.DataArray, FloatArray | None]:
    for name, one in (("log_return", log_return), ("log_range", log_range)):
        if one is not None and (not isinstance(one, xr.DataArray) or one.dims != ("date",) or "date" not in one.coords):
            raise InputError(f"{name} must be a DataArray over date")
    if log_return.size and np.isnan(log_return.values[0]):
        log_return = log_return.isel(date=slice(1, None))
    if log_range is None:
        return log_return, None
    missing = np.setdiff1d(log_return["date"].values, log_range["date"].values)
    if missing.size:
        raise InputError(f"log_range lacks {missing.size} dates of log_return, the first {missing[0]:.10}")
    ranges = log_range.sel(date=log_return["date"]).values.astype(np.float64)
    if not (np.all(np.isfinite(ranges)) and np.all(ranges > 0)):
        raise InputError("log_range must be positive and finite: log(high / low) of each day")
    return log_return, ranges

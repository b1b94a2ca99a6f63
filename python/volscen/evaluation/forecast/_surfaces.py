"""Forecasts of surfaces on days not seen, and how far off they were, by horizon and region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from tqdm import tqdm

from volscen._dates import to_day
from volscen._numbers import whole_number
from volscen._progress import bar_is_off
from volscen.errors import InputError
from volscen.evaluation._compare import diebold_mariano, holm
from volscen.evaluation._forecasts import direction
from volscen.evaluation.forecast._ensemble import SeedEnsemble, is_network
from volscen.evaluation.forecast._exogenous import VARIABLE, add_exogenous
from volscen.evaluation.forecast._protocol import SurfaceForecaster, log_surfaces
from volscen.evaluation.forecast._surface_models import make_forecaster

__all__ = ["check_horizons", "forecast_surfaces", "format_judgement", "judge_surfaces"]

FloatArray = npt.NDArray[np.float64]

#: Regions of a surface: (least, most) K/F and (least, most) years.
_REGIONS: dict[str, tuple[float, float, float, float]] = {
    "all": (0.0, np.inf, 0.0, np.inf),
    "at the money": (0.975, 1.025, 0.0, np.inf),
    "puts": (0.0, 0.975, 0.0, np.inf),
    "calls": (1.025, np.inf, 0.0, np.inf),
    "short": (0.0, np.inf, 0.0, 0.25),
    "long": (0.0, np.inf, 0.5, np.inf),
}


def forecast_surfaces(
    models: Sequence[str | SurfaceForecaster] | Mapping[str, str | SurfaceForecaster],
    history: xr.Dataset,
    *,
    first: Any,
    last: Any = None,
    horizons: Sequence[int] = (1, 5, 10, 20, 30),
    refit_every: int | None = 250,
    every: int = 1,
    exogenous: pd.DataFrame | pd.Series | xr.Dataset | xr.DataArray | None = None,
    lag: int = 1,
    seeds: int | Sequence[int] | None = None,
    progress: bool | Literal["auto"] = "auto",
) -> xr.Dataset:
    """Forecast surfaces from a rolling origin, each model fitted on the days before only.

    Parameters
    ----------
    models : sequence or mapping of name to str or SurfaceForecaster
        Names: "no_change", "mean_reversion", "har", "var", "garch", the networks "lstm", "ae_lstm", "vae" and
        "vae_lstm", and "generator:NAME" for the mean path of a generator.
    history : xarray.Dataset
        Holds the period and the days before it.
    first, last : date
        Of the closes from which is forecast; to the history's last when omitted.
    horizons : sequence of int
        Trading days ahead, increasing.
    refit_every : int, optional
        Dates between fits; one fit before ``first`` when None.
    every : int
        Forecast from every so many dates: slow models, long horizons.
    exogenous : DataFrame, Series, Dataset or DataArray, optional
        Series from outside by date of publication, further inputs of "har", "var", "lstm" and "ae_lstm"; the others
        make nothing of it. See :func:`add_exogenous`.
    lag : int
        Rows between a date of ``exogenous`` and the first close that knows its values.
    seeds : int or sequence of int, optional
        Fit each network from so many seeds, or from these, and take the mean of their log surfaces; see
        :class:`SeedEnsemble`.
    progress : bool or "auto"
        Show a progress bar; "auto" shows it on a terminal only.

    Returns
    -------
    xarray.Dataset
        ``forecast`` (float32) over ``model``, ``date``, ``horizon``, ``tau`` and ``moneyness``; ``actual`` likewise
        without ``model``, NaN where the history ends before; ``previous``, the surface of the date. The coordinate
        ``uses_exogenous(model)`` says which took the series from outside, where there are such.

    Raises
    ------
    InputError
        If a model, a horizon or the period does not fit the history.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import forecast
    >>> history = volscen.datasets.sample_history()
    >>> made = forecast.forecast_surfaces(["no_change", "har"], history, first="2023-01-02", last="2023-06-30")
    >>> table = forecast.judge_surfaces(made)
    >>> table.mae.dims
    ('model', 'horizon', 'region')
    """
    off = bar_is_off(progress)
    named = _named(models)
    ahead = check_horizons(horizons)
    for name, value in (("every", every), ("refit_every", 1 if refit_every is None else refit_every)):
        whole_number(name, value)
    if seeds is not None:
        named = {name: SeedEnsemble(model, seeds) if is_network(model) else model for name, model in named.items()}
    if exogenous is not None:
        history = add_exogenous(history, exogenous, lag=lag)
    logs = log_surfaces(history)
    days = history["date"].values.astype("datetime64[D]")
    end = days[-1] if last is None else to_day(last, "last")
    rows = np.flatnonzero((days >= to_day(first, "first")) & (days <= end))[::every]
    if rows.size == 0:
        raise InputError(f"no date of the history ({days[0]} to {days[-1]}) lies between first and last")
    shape = (history.sizes["tau"], history.sizes["moneyness"])
    out = np.empty((len(named), rows.size, len(ahead), *shape), dtype=np.float32)
    step = len(days) if refit_every is None else int(refit_every)
    blocks = [rows[(rows >= start) & (rows < start + step)] for start in range(int(rows[0]), int(rows[-1]) + 1, step)]
    blocks = [block for block in blocks if block.size]
    bar = tqdm(total=len(named) * len(blocks), disable=off, unit="fit")
    for i, (name, model) in enumerate(named.items()):
        done = 0
        for block in blocks:
            known = history.isel(date=slice(None, int(block[0]) + 1))
            found = model.fit(known, ahead).forecast(history, block)
            if found.shape != (block.size, len(ahead), *shape) or not (
                np.all(np.isfinite(found)) and np.all(found > 0)
            ):
                raise InputError(
                    f"models: {name!r} returned forecasts that are not positive, finite or of the shape asked"
                )
            out[i, done : done + block.size] = found
            done += block.size
            bar.update()
    bar.close()
    vol = np.exp(logs).reshape(-1, *shape)
    actual = np.full((rows.size, len(ahead), *shape), np.nan)
    for j, h in enumerate(ahead):
        inside = rows + h < len(days)
        actual[inside, j] = vol[rows[inside] + h]
    grid = ("tau", "moneyness")
    out_of = {"uses_exogenous": ("model", [model.uses_exogenous for model in named.values()])}
    return xr.Dataset(
        {
            "forecast": (("model", "date", "horizon", *grid), out),
            "actual": (("date", "horizon", *grid), actual),
            "previous": (("date", *grid), vol[rows]),
        },
        coords={
            "model": list(named),
            "date": history["date"].values[rows],
            "horizon": list(ahead),
            "tau": history["tau"].values,
            "moneyness": history["moneyness"].values,
            **(out_of if VARIABLE in history else {}),
        },
        attrs={"every": int(every), "refit_every": 0 if refit_every is None else int(refit_every)},
    )


def judge_surfaces(
    made: xr.Dataset,
    *,
    baseline: str = "no_change",
    regions: Mapping[str, tuple[float, float, float, float]] | None = None,
) -> xr.Dataset:
    """Errors of forecasts of surfaces by horizon and region, and tests against a baseline.

    Parameters
    ----------
    made : xarray.Dataset
        From :func:`forecast_surfaces`.
    baseline : str
        Model that Diebold and Mariano's test compares with.
    regions : mapping of name to (least K/F, most K/F, least years, most years), optional
        Bounds count as inside. At the money within 2.5%, puts and calls beyond, up to a quarter, from half a year when
        omitted; those without a cell are left out.

    Returns
    -------
    xarray.Dataset
        Over ``model``, ``horizon`` and ``region``: ``mae``, ``rmse`` (vol points), ``mape`` (percent), ``r_squared``
        (of levels), ``theil_u`` (root mean square error over that of no change), ``dm_t`` and ``dm_p`` of the mean
        absolute error against the baseline's (negative is better, lags of at least the horizon's overlap), and
        ``dm_p_holm`` corrected over the models. Over ``model`` and ``horizon``, of the at-the-money volatility:
        ``direction`` (share forecast right), ``direction_rule`` (share that "back to the median" gets right) and
        ``direction_p``.

    Raises
    ------
    InputError
        If the baseline is not among the models, or too few dates have an outcome.
    """
    if not isinstance(made, xr.Dataset) or not {"forecast", "actual", "previous"} <= set(made.data_vars):
        raise InputError("made must be what forecast_surfaces returned")
    models = [str(model) for model in made["model"].values]
    if baseline not in models:
        raise InputError(f"baseline {baseline!r} is not among the models: {', '.join(models)}")
    chosen = _cells(made, _REGIONS if regions is None else regions)
    every = int(made.attrs.get("every", 1))
    horizons = [int(h) for h in made["horizon"].values]
    shape = (len(models), len(horizons))
    names = ("mae", "rmse", "mape", "r_squared", "theil_u", "dm_t", "dm_p", "dm_p_holm")
    by_region = {name: np.full((*shape, len(chosen)), np.nan) for name in names}
    ways = {name: np.full(shape, np.nan) for name in ("direction", "direction_rule", "direction_p")}
    rivals = [i for i, model in enumerate(models) if model != baseline]
    middle = _cells(made, {"middle": (0.0, np.inf, 0.0, np.inf)})["middle"]
    nearest = np.abs(np.log(made["moneyness"].values)).argmin()
    atm = np.zeros_like(middle)
    atm[:, nearest] = True
    for j in range(len(horizons)):
        actual = made["actual"].values[:, j]
        known = np.isfinite(actual).all(axis=(1, 2))
        if known.sum() < 20:
            raise InputError(
                f"only {int(known.sum())} dates have an outcome {horizons[j]} days ahead; at least 20 are needed"
            )
        actual, before = actual[known], made["previous"].values[known]
        forecasts = made["forecast"].values[:, known, j].astype(np.float64)
        # Forecasts of h days that start more often than every h overlap; their errors are correlated that long.
        n = int(known.sum())
        lags = min(max(int(4 * (n / 100) ** (2 / 9)) + 1, -(-horizons[j] // every)), n - 1)
        for r, mask in enumerate(chosen.values()):
            truth, last = actual[:, mask], before[:, mask]
            spread = np.square(truth - truth.mean(axis=0)).sum()
            unchanged = np.sqrt(np.mean(np.square(last - truth)))
            loss = np.abs(forecasts[:, :, mask] - truth).mean(axis=2)
            for i in range(len(models)):
                error = forecasts[i][:, mask] - truth
                rmse = np.sqrt(np.mean(np.square(error)))
                by_region["mae"][i, j, r] = 100 * loss[i].mean()
                by_region["rmse"][i, j, r] = 100 * rmse
                by_region["mape"][i, j, r] = 100 * np.mean(np.abs(error) / truth)
                by_region["r_squared"][i, j, r] = 1 - np.square(error).sum() / spread
                by_region["theil_u"][i, j, r] = rmse / unchanged
                test = diebold_mariano(loss[i], loss[models.index(baseline)], lags=lags)
                by_region["dm_t"][i, j, r], by_region["dm_p"][i, j, r] = test.t, test.p_value
            by_region["dm_p_holm"][:, j, r] = 1.0
            if rivals:
                by_region["dm_p_holm"][rivals, j, r] = holm(by_region["dm_p"][rivals, j, r])
        for i, model in enumerate(models):
            if model != "no_change":
                way = direction(*(values[:, atm].mean(axis=1) for values in (forecasts[i], actual, before)))
                ways["direction"][i, j], ways["direction_rule"][i, j] = way.accuracy, way.mean_reversion
                ways["direction_p"][i, j] = way.p_value
    return xr.Dataset(
        {name: (("model", "horizon", "region"), values) for name, values in by_region.items()}
        | {name: (("model", "horizon"), values) for name, values in ways.items()},
        coords={"model": models, "horizon": horizons, "region": list(chosen)},
        attrs={"baseline": baseline},
    )


def _named(models: Any) -> dict[str, SurfaceForecaster]:
    if isinstance(models, Mapping):
        found = {str(name): make_forecaster(model)[1] for name, model in models.items()}
    else:
        pairs = [make_forecaster(model) for model in models]
        found = dict(pairs)
        if len(found) < len(pairs):
            raise InputError("models holds one name twice; give a mapping of names to models")
    if not found:
        raise InputError("models holds none")
    return found


def check_horizons(horizons: Sequence[int]) -> tuple[int, ...]:
    """Positive whole numbers of days that increase."""
    if not isinstance(horizons, Sequence | np.ndarray):
        raise InputError(f"horizons must be a sequence of days such as (1, 10), not {horizons!r}")
    ahead = tuple(horizons)
    if not ahead or any(isinstance(h, bool) or not isinstance(h, int | np.integer) or h < 1 for h in ahead):
        raise InputError(f"horizons must be positive whole numbers of days, not {horizons!r}")
    if list(ahead) != sorted(set(ahead)):
        raise InputError(f"horizons must increase, not {horizons!r}")
    return tuple(int(h) for h in ahead)


def _cells(
    made: xr.Dataset, regions: Mapping[str, tuple[float, float, float, float]]
) -> dict[str, npt.NDArray[np.bool_]]:
    tau, moneyness = made["tau"].values[:, None], made["moneyness"].values[None]
    found = {
        name: (moneyness >= low) & (moneyness <= high) & (tau >= short) & (tau <= long)
        for name, (low, high, short, long) in regions.items()
    }
    found = {name: mask for name, mask in found.items() if mask.any()}
    if not found:
        raise InputError("regions: none holds a cell of the grid")
    return found


def format_judgement(table: xr.Dataset, *, region: str = "all") -> str:
    """The table as text: mean absolute error by model and horizon, with the test against the baseline."""
    if region not in table["region"].values:
        raise InputError(f"region {region!r} is none of {', '.join(map(str, table['region'].values))}")
    one = table.sel(region=region)
    cells = {
        f"{h} d": [
            f"{float(one.mae.sel(model=m, horizon=h)):.3f} [{float(one.dm_t.sel(model=m, horizon=h)):+.1f}]"
            for m in table["model"].values
        ]
        for h in table["horizon"].values
    }
    return pd.DataFrame(cells, index=pd.Index(table["model"].values, name=f"MAE, vol points, {region}")).to_string()

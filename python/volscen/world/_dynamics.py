"""How well a world model foresees the next day, beside no change and simple autoregressions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from volscen.errors import InputError
from volscen.evaluation import diebold_mariano
from volscen.generators import Generator
from volscen.generators._neural_options import CPU
from volscen.generators._placement import put_on
from volscen.generators._world import WorldModel
from volscen.history import state_at
from volscen.world._views import check_model, judged_days

__all__ = ["dynamics_figures"]

FloatArray = npt.NDArray[np.float64]

_DRAWS = 4096


def dynamics_figures(
    model: WorldModel,
    history: xr.Dataset,
    *,
    first: Any,
    last: Any = None,
    rival: Generator | None = None,
    device: str = CPU,
) -> pd.DataFrame:
    """Mean squared errors of one-day forecasts, against no change.

    Parameters
    ----------
    model : WorldModel
    history : xarray.Dataset
        Holds the period and the days the model was fitted on.
    first, last : date
        Dates forecast, after the fit.
    rival : Generator, optional
        Another fitted generator, such as ``pca``; its forecast is the mean of 4,096 draws.
    device : str
        As for :func:`latents`, of the model, and of the rival where it has networks.

    Returns
    -------
    pandas.DataFrame
        Rows by space and model: in ``"latent"`` space (latents as the encoder gives them) ``"ar1"`` (each latent by
        itself), ``"var"`` (ridge regression of all moves on all latents, the last moves and the return, its penalty by
        generalised cross-validation) and ``"world"``; in ``"surface"`` space (log vols of the grid) ``"world"`` and
        the rival. Columns: ``mse``, ``ratio`` to that of no change, Diebold-Mariano ``t`` (negative: better than no
        change) and ``p_value``.

    Raises
    ------
    InputError
        If the model is no fitted world model, the grids differ, the period overlaps the fit or is short, or the device
        is not there.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> model = volscen.fit(history.isel(date=slice(0, 400)), "world", raster_size=16, channels=(4, 4, 8), latent_dim=4,
    ...                     epochs=1, dynamics_epochs=1, progress=False)
    >>> found = dynamics_figures(model, history, first=history.date.values[400], last=history.date.values[440])
    >>> found.index.tolist()
    [('latent', 'ar1'), ('latent', 'var'), ('latent', 'world'), ('surface', 'world')]
    """
    model = check_model(model, history, device)
    held = judged_days(model, history, first, last)
    if rival is not None and not (isinstance(rival, Generator) and rival.is_fitted):
        raise InputError(f"rival must be a fitted generator, not {rival!r}")
    n = held.sizes["date"]
    history = history.sel(date=slice(None, held["date"].values[-1]))
    series = model.series_of(history)
    law = model.law
    moves, mean = model.known_moves(series)
    moves, mean = moves[-n:], mean[-n:]
    unit = law.move_sd[1:]
    fit_end = int(history.sel(date=slice(None, model.period_[1])).sizes["date"])
    forecasts = {
        "ar1": law.drift(series.latent[-n - 1 : -1])[:, 1:] * unit,
        "var": _ridge_var(series.latent, series.log_return, fit_end, n),
        "world": mean[:, 1:] * unit,
    }
    rows = _rows("latent", moves[:, 1:] * unit, forecasts)

    log_vol = np.log(history["implied_vol"].values.astype(np.float64)).reshape(history.sizes["date"], -1)
    before = slice(-n - 1, -1)
    rest = law.rest_mean + law.rest_memory * (series.rest[before] - law.rest_mean)
    surfaces = {
        "world": model.decode_grid(series.latent[before] + forecasts["world"]) + rest - log_vol[before],
    }
    if rival is not None:
        if rival._has_networks():
            rival = put_on(rival, device)
        surfaces[rival.name] = _mean_of_draws(rival, history, n) - log_vol[before]
    rows |= _rows("surface", np.diff(log_vol, axis=0)[-n:], surfaces)
    index = pd.MultiIndex.from_tuples(list(rows), names=["space", "model"])
    return pd.DataFrame(list(rows.values()), index=index)


def _rows(space: str, came: FloatArray, foreseen: dict[str, FloatArray]) -> dict[tuple[str, str], dict[str, float]]:
    still = np.mean(came**2, axis=1)
    out = {}
    for name, forecast in foreseen.items():
        loss = np.mean((came - forecast) ** 2, axis=1)
        test = diebold_mariano(loss, still)
        out[space, name] = {
            "mse": float(loss.mean()), "ratio": float(loss.mean() / still.mean()), "t": test.t, "p_value": test.p_value,
        }  # fmt: skip
    return out


def _ridge_var(latent: FloatArray, log_return: FloatArray, fit_end: int, n: int) -> FloatArray:
    """Forecast moves of the last n dates from latents, moves and return of the day before, fitted to ``fit_end``."""
    from sklearn.linear_model import RidgeCV

    move = np.diff(latent, axis=0)
    known = np.column_stack([latent[1:-1], move[:-1], log_return[1:-1]])
    target = move[1:]
    train = slice(0, fit_end - 2)
    centre, spread = known[train].mean(axis=0), known[train].std(axis=0)
    x = (known - centre) / np.maximum(spread, 1e-12)
    unit = target[train].std(axis=0)
    model = RidgeCV(np.logspace(0, 6, 13)).fit(x[train], target[train] / unit)
    return np.asarray(model.predict(x[-n:]) * unit)


def _mean_of_draws(generator: Generator, history: xr.Dataset, n: int) -> FloatArray:
    out = []
    for row in range(history.sizes["date"] - n - 1, history.sizes["date"] - 1):
        date = history["date"].values[row]
        state = state_at(history, date, n_returns=generator.n_returns, n_surfaces=generator.n_surfaces)
        _, vol = generator.sample(state, _DRAWS, 1, np.random.default_rng(row))
        out.append(np.log(vol[:, 0]).mean(axis=0).ravel())
    return np.array(out)

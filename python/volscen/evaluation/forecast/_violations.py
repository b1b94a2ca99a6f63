"""Static arbitrage of forecasts, counted by points of the grid and sized in vol points."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import black
from volscen._numbers import finite_number
from volscen.errors import InputError

__all__ = ["violation_rates"]

FloatArray = npt.NDArray[np.float64]

#: Least vega, per unit of forward, by which an excess price is turned into vol.
_VEGA = 1e-3


def violation_rates(made: xr.Dataset, *, least: float = 1e-3) -> xr.Dataset:
    """Share of points at which forecasts of surfaces break an arbitrage bound, and by how much.

    Parameters
    ----------
    made : xarray.Dataset
        From :func:`forecast_surfaces`.
    least : float
        Vol points that a violation must exceed to count; forecasts are kept in single precision.

    Returns
    -------
    xarray.Dataset
        Over ``model`` (those of ``made``, and "actual") and ``horizon``: ``calendar`` and ``butterfly``, percent of the
        points that violate; ``calendar_size`` and ``butterfly_size``, their mean in vol points, 0 where none does.

    Raises
    ------
    InputError
        If ``made`` is something else, or the grid has fewer than two times or three strikes.

    Notes
    -----
    Calendar: total variance at a fixed K/F is less than at the time before; by as many vol points as the vol would have
    to rise. A point is a pair of neighbouring times at a strike. Butterfly: the Black price at an inner strike lies
    above the chord of its neighbours; by the excess over vega.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import forecast
    >>> history = volscen.datasets.sample_history()
    >>> made = forecast.forecast_surfaces(["no_change"], history, first="2023-01-02", last="2023-06-30", horizons=(1,))
    >>> float(forecast.violation_rates(made).calendar.sel(model="no_change", horizon=1)) < 100
    True
    """
    if not isinstance(made, xr.Dataset) or not {"forecast", "actual"} <= set(made.data_vars):
        raise InputError("made must be what forecast_surfaces returned")
    least = finite_number("least", least, least=0) / 100
    tau, moneyness = made["tau"].values, made["moneyness"].values
    if tau.size < 2 or moneyness.size < 3:
        raise InputError("the grid of made must have at least two times and three strikes")
    models = [*map(str, made["model"].values), "actual"]
    names = ("calendar", "calendar_size", "butterfly", "butterfly_size")
    out = {name: np.zeros((len(models), made.sizes["horizon"])) for name in names}
    for j in range(made.sizes["horizon"]):
        actual = made["actual"].values[:, j]
        known = np.isfinite(actual).all(axis=(1, 2))
        for i in range(len(models)):
            vol = actual[known] if models[i] == "actual" else made["forecast"].values[i, :, j].astype(np.float64)
            sizes = (_calendar(vol, tau), _butterfly(vol, tau, moneyness))
            for name, size in zip(("calendar", "butterfly"), sizes, strict=True):
                broken = size > least
                out[name][i, j] = 100 * broken.mean() if size.size else np.nan
                out[f"{name}_size"][i, j] = 100 * size[broken].mean() if broken.any() else 0.0
    coords: dict[str, Any] = {"model": models, "horizon": made["horizon"].values}
    return xr.Dataset({name: (("model", "horizon"), values) for name, values in out.items()}, coords=coords)


def _calendar(vol: FloatArray, tau: FloatArray) -> FloatArray:
    """Vol missing at every time but the first, for total variance to be no less than before."""
    total = vol**2 * tau[:, None]
    return np.asarray(np.sqrt(total[:, :-1] / tau[1:, None]) - vol[:, 1:])


def _butterfly(vol: FloatArray, tau: FloatArray, moneyness: FloatArray) -> FloatArray:
    """Vol by which every inner strike lies above what convexity of the call price in strike allows."""
    strike, time = np.broadcast_arrays(moneyness, tau[:, None])
    price = black.price(1.0, strike, time, vol)
    share = (moneyness[1:-1] - moneyness[:-2]) / (moneyness[2:] - moneyness[:-2])
    chord = (1 - share) * price[..., :-2] + share * price[..., 2:]
    vega = np.maximum(black.vega(1.0, strike, time, vol)[..., 1:-1], _VEGA)
    return np.asarray((price[..., 1:-1] - chord) / vega)

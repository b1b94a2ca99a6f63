"""What forecasts surfaces: fitted on a history, asked on any of its dates for the surfaces some days ahead."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen.errors import InputError

__all__ = ["SurfaceForecaster", "log_surfaces"]

FloatArray = npt.NDArray[np.float64]


class SurfaceForecaster(ABC):
    """A point forecast of surfaces.

    Subclasses fit once and forecast from many dates at once. A forecast made on a date may use only what the history
    holds up to it; the tests change what comes later and look for a change.
    """

    name: ClassVar[str]

    #: Days before the first date that a forecast can be made from.
    n_past: int = 1

    #: Whether series from outside (:func:`add_exogenous`) are among its inputs.
    uses_exogenous: ClassVar[bool] = False

    @abstractmethod
    def fit(self, history: xr.Dataset, horizons: tuple[int, ...]) -> Self:
        """Learn from a history to forecast so many days ahead; return self."""

    @abstractmethod
    def forecast(self, history: xr.Dataset, rows: npt.NDArray[np.intp]) -> FloatArray:
        """Forecast from the closes of some dates.

        Parameters
        ----------
        history : xarray.Dataset
            Holds the dates, ``n_past`` before them, and perhaps later ones, which are not looked at.
        rows : ndarray of int, shape (n,)
            Positions of the dates.

        Returns
        -------
        ndarray, shape (n, horizon, tau, moneyness)
            Implied volatilities, positive.
        """


def log_surfaces(history: xr.Dataset) -> FloatArray:
    """Log volatilities, shape (date, cells), of a history of one asset without holes."""
    schema.validate(history, schema=schema.HISTORY)
    if "asset" in history.dims:
        raise InputError("history holds several assets; choose one with history.sel(asset=...)")
    vol = history["implied_vol"].transpose("date", "tau", "moneyness").values.astype(np.float64)
    if not (np.all(np.isfinite(vol)) and np.all(vol > 0)):
        raise InputError("history holds surfaces with holes; repair them with volscen.repair first")
    return np.asarray(np.log(vol).reshape(len(vol), -1))

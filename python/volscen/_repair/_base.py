"""What a predictor of surfaces is, what it is given and gives, and the registry of those there are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Protocol

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

__all__ = ["REGISTRY", "Observations", "Prediction", "Predictor", "load_predictor", "quote_noise"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Observations:
    """Noisy volatilities of n surfaces at some of P points, which are the same for all of them.

    The first J x I points are a grid, the times slowest. Quotes that lie off the grid follow as further points; a
    predictor that knows grids only raises InputError where there are any (:attr:`off_grid`).

    Attributes
    ----------
    tau, log_moneyness : ndarray, shape (P,)
        Time to expiry in years and k = ln(K/F) of every point.
    grid : tuple of int
        (J, I).
    log_vol : ndarray, shape (n, P)
        ln of the volatility observed; NaN where there is none.
    noise : ndarray, shape (n, P)
        Standard deviation of the error of ``log_vol``, positive, also where nothing is observed.
    """

    tau: FloatArray
    log_moneyness: FloatArray
    grid: tuple[int, int]
    log_vol: FloatArray
    noise: FloatArray

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Whether a point is observed, shape (n, P)."""
        return ~np.isnan(self.log_vol)

    @property
    def off_grid(self) -> int:
        """Number of points beside the grid's."""
        return self.tau.size - self.grid[0] * self.grid[1]

    @property
    def grid_tau(self) -> FloatArray:
        """Times of the grid, shape (J,)."""
        return self.tau[: self.grid[0] * self.grid[1] : self.grid[1]]

    @property
    def grid_log_moneyness(self) -> FloatArray:
        """Log-moneyness of the grid, shape (I,)."""
        return self.log_moneyness[: self.grid[1]]

    def part(self, which: slice | npt.NDArray[np.intp]) -> Observations:
        """Some of the surfaces."""
        return Observations(self.tau, self.log_moneyness, self.grid, self.log_vol[which], self.noise[which])


@dataclass(frozen=True)
class Prediction:
    """What surfaces are believed to be, free of noise, at every point of the observations.

    Attributes
    ----------
    mean, sd : ndarray, shape (n, P)
        Mean and standard deviation of ln(volatility); the latter is NaN throughout where the method knows none.
    z : ndarray, shape (n, P), or None
        Every quote's distance from what the others say of it, in standard deviations of that difference; NaN where
        nothing is observed. None where the method knows no such thing.
    misfit : ndarray, shape (n,), or None
        Root mean square of ``z``, or what else rises where a surface is unlike those the method knows.
    """

    mean: FloatArray
    sd: FloatArray
    z: FloatArray | None = None
    misfit: FloatArray | None = None


class Predictor(Protocol):
    """Predicts surfaces from noisy quotes. It is fitted already; the same observations give the same bits."""

    def predict(self, observed: Observations) -> Prediction:
        """Mean and standard deviation at all points of all surfaces; every surface has at least one quote."""


#: Name of each predictor -> module and function without arguments that makes it, imported on first use.
REGISTRY: dict[str, tuple[str, str]] = {
    "analogues": ("volscen._repair._analogue", "make_analogues"),
    "default": ("volscen._repair._gated", "make_gated"),
    "essvi": ("volscen._repair._slices", "make_essvi"),
    "global": ("volscen._repair._global", "make_global"),
    "linear": ("volscen._repair._linear", "make_linear"),
    "svi": ("volscen._repair._slices", "make_slices"),
}


@cache
def load_predictor(name: str) -> Predictor:
    """Predictor registered under a name.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if name not in REGISTRY:
        raise InputError(f"unknown method {name!r}; there are {', '.join(sorted(REGISTRY))}")
    module, function = REGISTRY[name]
    predictor: Predictor = getattr(import_module(module), function)()
    return predictor


def quote_noise(tau: FloatArray, log_moneyness: FloatArray) -> FloatArray:
    """Error of a quoted volatility where no spread is known: 18 basis points, more in wings and for short times.

    Parameters
    ----------
    tau, log_moneyness : ndarray
        Of any shapes that broadcast.

    Returns
    -------
    ndarray
        Standard deviation in decimals of volatility.
    """
    years = np.clip(tau, 0.08, 2.0)
    return np.asarray(0.0018 * (1 + 1.5 * np.abs(log_moneyness) / 0.45) * (1 + 0.6 * (2.0 - years) / 1.92))

"""Rasters for the world model: a history's surfaces to pictures, and decoded pictures back to the history's grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volscen.errors import FitError, InputError
from volscen.surface import interpolate_vol, raster_grid

__all__ = ["Screen"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Screen:
    """Pixels on the range of a grid, and how to standardise them.

    Attributes
    ----------
    tau, moneyness : ndarray
        Of the history's grid.
    size : int
        Pixels each way, even in the root of tau and in ln(K/F).
    mean, sd : ndarray, shape (size, size)
        Of log vol, by pixel.
    """

    tau: FloatArray
    moneyness: FloatArray
    size: int
    mean: FloatArray
    sd: FloatArray

    @classmethod
    def fit(cls, implied_vol: FloatArray, tau: FloatArray, moneyness: FloatArray, size: int, n_train: int) -> Screen:
        """Standardise by the first ``n_train`` surfaces."""
        if min(tau.size, moneyness.size) < 2:
            raise InputError(
                "a raster needs at least two times and two strikes; the history's grid has "
                f"{tau.size} tau and {moneyness.size} moneyness"
            )
        plain = cls(tau, moneyness, size, np.zeros(()), np.ones(()))
        log_vol = np.log(plain.paint(implied_vol[:n_train]))
        sd = log_vol.std(axis=0)
        if not np.all(sd > 0):
            raise FitError("the history has a point that never changes; a raster needs every pixel to vary")
        return cls(tau, moneyness, size, log_vol.mean(axis=0), sd)

    @property
    def axes(self) -> tuple[FloatArray, FloatArray]:
        """Times and moneyness of the pixels."""
        return raster_grid(self.tau[[0, -1]], self.moneyness[[0, -1]], self.size)

    def paint(self, implied_vol: FloatArray) -> FloatArray:
        """Vol rasters (n, size, size) of surfaces (n, tau, moneyness), as :func:`volscen.surface.raster` makes them.

        Raises
        ------
        InputError
            If a surface has holes.
        """
        if not np.all(np.isfinite(implied_vol)):
            day = int(np.argwhere(~np.isfinite(implied_vol))[0, 0])
            raise InputError(f"implied_vol has holes (first in surface {day}); fill them first, with volscen.repair")
        tau, moneyness = self.axes
        t, m = (a.ravel() for a in np.meshgrid(tau, moneyness, indexing="ij"))
        found = interpolate_vol(implied_vol, self.tau, self.moneyness, t, m)
        return found.reshape(-1, self.size, self.size)

    def standardised(self, implied_vol: FloatArray) -> npt.NDArray[np.float32]:
        """Standardised log-vol rasters (n, size, size) of surfaces (n, tau, moneyness)."""
        return ((np.log(self.paint(implied_vol)) - self.mean) / self.sd).astype(np.float32)

    def vol(self, picture: FloatArray) -> FloatArray:
        """Vol rasters of standardised ones (n, pixels)."""
        return np.exp(self.mean + self.sd * picture.reshape(-1, self.size, self.size))

    def read_off(self) -> tuple[npt.NDArray[np.float32], FloatArray]:
        """Matrix (pixels, cells) and offset (cells,) that read log vols of the grid off standardised pictures.

        Log vol is linear between pixels, in the root of tau and in ln(K/F).
        """
        tau, moneyness = self.axes
        along_tau = _linear(np.sqrt(tau), np.sqrt(self.tau))
        along_moneyness = _linear(np.log(moneyness), np.log(self.moneyness))
        matrix = np.einsum("ap,bq->pqab", along_tau, along_moneyness).reshape(self.size**2, -1)
        offset = self.mean.ravel() @ matrix
        return (self.sd.ravel()[:, None] * matrix).astype(np.float32), offset


def _linear(knots: FloatArray, at: FloatArray) -> FloatArray:
    """Weights (points, knots) of linear interpolation."""
    return np.stack([np.interp(at, knots, row) for row in np.eye(knots.size)], axis=1)

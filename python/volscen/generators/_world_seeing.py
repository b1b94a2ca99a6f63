"""What of the world model sees: surfaces to latents and back, in the units of the asset it was fitted on."""

from __future__ import annotations

import copy
import math
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._numbers import positive_number
from volscen.errors import FitError
from volscen.generators._base import FloatArray, Generator
from volscen.generators._world_law import LatentLaw, Series
from volscen.generators._world_numpy import Reader, VisionNet
from volscen.generators._world_options import WorldOptions
from volscen.generators._world_raster import Screen

__all__ = ["Seer", "arrays_of", "loadings_of"]


class Seer(Generator):
    """The half of the world model that encodes and decodes."""

    options: WorldOptions
    rescale_: float = 1.0
    _screen: Screen
    _vision: VisionNet
    _vision_arrays: dict[str, npt.NDArray[Any]]
    _reader: Reader
    _offset: FloatArray
    _law: LatentLaw

    def _see(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        options = self.options
        self._vision_arrays = {k: a for k, a in arrays.items() if not k.endswith("num_batches_tracked")}
        self._vision = VisionNet.from_arrays(self._vision_arrays, options.raster_size, options.latent_dim)
        matrix, self._offset = self._screen.read_off()
        self._reader = self._vision.reader(matrix)

    @property
    def screen(self) -> Screen:
        """How surfaces become standardised pictures."""
        return self._screen

    @property
    def law(self) -> LatentLaw:
        """The law of one step in latent space."""
        return self._law

    def encode(self, implied_vol: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Posterior means and log variances, (n, latents), of surfaces (n, tau, moneyness)."""
        return self._vision.encode(self._screen.standardised(implied_vol / self.rescale_))

    def decode_rasters(self, latent: FloatArray) -> FloatArray:
        """Vol rasters (n, size, size) of latents (n, latents)."""
        return self.rescale_ * self._screen.vol(self._vision.decode(latent))

    def decode_grid(self, latent: FloatArray) -> FloatArray:
        """Log vols (n, cells) on the grid of latents (n, latents), in the units of the asset fitted on."""
        return self._decode(latent)

    def series_of(self, history: xr.Dataset) -> Series:
        """What the law sees of a history."""
        return self._series(*arrays_of(history), self.periods_per_year_)

    def rescaled(self, factor: float) -> Self:
        """Copy of the model for an asset whose vols and returns are about ``factor`` times those it was fitted on.

        What goes in is divided by the factor, what comes out multiplied; nothing is refitted. ``update`` with the
        asset's own history gives it its own residuals. Factors multiply up.
        """
        ratio = positive_number("factor", factor)
        out = copy.copy(self)
        out.rescale_ = self.rescale_ * ratio
        return out

    def _series(
        self,
        implied_vol: FloatArray,
        log_return: FloatArray,
        periods_per_year: float,
        pictures: npt.NDArray[np.float32] | None = None,
        *,
        last_rest_only: bool = False,
    ) -> Series:
        """What the law sees of surfaces (T, tau, moneyness) and returns (T,), in units of the asset fitted on."""
        implied_vol, log_return = implied_vol / self.rescale_, log_return / self.rescale_
        latent, log_variance = self._vision.encode(
            self._screen.standardised(implied_vol) if pictures is None else pictures
        )
        log_vol = np.log(implied_vol).reshape(len(implied_vol), -1)
        first = len(latent) - 1 if last_rest_only else 0
        rest = log_vol[first:] - self._decode(latent[first:])
        annual = math.sqrt(periods_per_year) * log_return
        return Series(latent, np.exp(0.5 * log_variance), annual, log_vol.mean(axis=1), rest)

    def _decode(self, latent: FloatArray) -> FloatArray:
        """Log vols (n, cells) on the grid."""
        return self._vision.decode(latent, self._reader) + self._offset


def arrays_of(history: xr.Dataset) -> tuple[FloatArray, FloatArray]:
    """Surfaces (T, tau, moneyness) and returns (T,), the first of which counts as none."""
    log_return = history["log_return"].values.astype(np.float64)
    return history["implied_vol"].values.astype(np.float64), np.r_[0.0, log_return[1:]]


def loadings_of(pictures: npt.NDArray[np.float32], n: int) -> npt.NDArray[np.float32]:
    """Pixel patterns (n, pixels) of unit-variance principal components."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float64)
    variance, vectors = np.linalg.eigh(flat @ flat.T / len(flat))  # days are fewer than pixels or nearly so
    variance, vectors = variance[::-1][:n], vectors[:, ::-1][:, :n]
    if len(variance) < n or variance[-1] <= 1e-9 * variance[0]:
        raise FitError(f"the pictures span fewer than {n} components; choose a smaller latent_dim or decoder='conv'")
    patterns = (flat.T @ vectors / math.sqrt(len(flat))).T
    signs = np.where(patterns.sum(axis=1) < 0, -1.0, 1.0)
    return np.asarray((patterns * signs[:, None]).astype(np.float32))

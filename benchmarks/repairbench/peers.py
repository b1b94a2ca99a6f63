"""Plain ways to fill a surface, beside those of the package: linear interpolation, a robust eSSVI surface.

Each gives total variance made nondecreasing in time by a running maximum, and no uncertainty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

from volscen import ssvi
from volscen._repair._base import Observations, Prediction

__all__ = ["PEERS", "Filled"]

FloatArray = npt.NDArray[np.float64]
_FLOOR = 1e-5


@dataclass(frozen=True)
class Filled:
    """A plain way as a predictor of the package's protocol."""

    fill: Callable[[FloatArray, FloatArray, FloatArray, FloatArray], FloatArray]

    def predict(self, observed: Observations) -> Prediction:
        """Mean of ln(vol); the standard deviation is unknown."""
        tau, k = observed.grid_tau, observed.grid_log_moneyness
        shape = (-1, tau.size, k.size)
        vol = np.exp(observed.log_vol[:, : tau.size * k.size]).reshape(shape)
        noise = observed.noise[:, : tau.size * k.size].reshape(shape)
        w = np.stack([self.fill(v**2 * tau[:, None], s, tau, k) for v, s in zip(vol, noise, strict=True)])
        w = np.maximum.accumulate(np.maximum(w, _FLOOR), axis=1)
        mean = 0.5 * np.log(w / tau[:, None]).reshape(len(vol), -1)
        return Prediction(mean, np.full(mean.shape, np.nan))


def linear(w: FloatArray, noise: FloatArray, tau: FloatArray, k: FloatArray) -> FloatArray:
    """Triangles in (tau, k), the nearest quote outside them."""
    points = np.stack(np.meshgrid(tau, k, indexing="ij"), axis=-1).reshape(-1, 2)
    seen = ~np.isnan(w).ravel()
    known, value = points[seen], w.ravel()[seen]
    found = LinearNDInterpolator(known, value)(points)
    nearest = NearestNDInterpolator(known, value)(points)
    return np.where(np.isnan(found), nearest, found).reshape(w.shape)


def _errors(w: FloatArray, noise: FloatArray) -> FloatArray:
    """Weights of squared errors of w, whose relative error is twice that of vol; 0 where nothing is observed."""
    seen = ~np.isnan(w)
    return np.where(seen, 1 / np.where(seen, 2 * w * noise, 1.0) ** 2, 0.0)


def surface(w: FloatArray, noise: FloatArray, tau: FloatArray, k: FloatArray) -> FloatArray:
    """One eSSVI surface by robust least squares: five rounds with the weights of Cauchy's law."""
    known = np.flatnonzero((~np.isnan(w)).any(axis=1))
    some = w[known]
    seen = ~np.isnan(some)
    first = _errors(some, noise[known])
    weight = first
    for _ in range(5):
        parameters = ssvi.fit(k, np.where(seen, some, 1.0), weight).parameters
        z = np.where(seen, (some - ssvi.total_variance(parameters, k)) * np.sqrt(first), 0)
        scale = max(1.4826 * float(np.median(np.abs(z[seen]))), 1.0)
        weight = first / (1 + (z / (2.5 * scale)) ** 2)
    return np.asarray(ssvi.total_variance(ssvi.at(parameters, tau[known], tau), k))


PEERS = {"interpolation": Filled(linear), "robust eSSVI": Filled(surface)}

"""What surfaces look like: a library of simulated ones, compressed, and its moments at any points.

ln(volatility) of the library's surfaces on a grid of nodes in (sqrt(tau), u), u = k / width(sqrt(tau)), is written as
a mean plus a few principal components. Between nodes everything is a natural cubic spline, in both directions; beyond
them it is constant, and an extra variance grows with the distance.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen.surface._spline import SplineBasis

__all__ = ["Place", "Prior", "compress", "packaged_prior", "quantise", "restore", "width"]

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]

#: Small-scale uncertainty of ln(volatility) beside the library's: standard deviation at the money, its growth per
#: unit of abs(k), correlation lengths in sqrt(tau) and k, and the share of a part that moves a whole maturity.
ROUGHNESS = 0.008
ROUGHNESS_WINGS = 2.0 / 0.45
ROUGH_ROOT_TAU, ROUGH_K = 0.12, 0.12
MATURITY_SHARE, MATURITY_ROOT_TAU = 1.0, 0.06

#: Beyond the nodes the roughness grows by so much per unit of sqrt(tau) and of k.
_BEYOND_ROOT_TAU, _BEYOND_K = 1.0, 0.5

#: Standard deviation of a common shift of ln(volatility).
LEVEL_SD = 0.25

#: Nodes spread with the root of time up to this one, and with its logarithm beyond.
_ROOT_TAU = np.sqrt(0.08)

#: Places kept ready, and the most points for which all covariances are.
_KEPT, _DENSE = 4, 1200


def width(root_tau: FloatArray) -> FloatArray:
    """Log-moneyness per unit of u: quotes reach as far as prices do, for long times less than the root of time."""
    return np.where(root_tau < _ROOT_TAU, root_tau, _ROOT_TAU * (1 + np.log(np.maximum(root_tau, _ROOT_TAU) / _ROOT_TAU)))


@dataclass(frozen=True)
class Place:
    """The prior at some points.

    Attributes
    ----------
    mean : ndarray, shape (P,)
        Of ln(volatility).
    basis : ndarray, shape (K + 1, P)
        Principal components, and last a constant one: a shift of the level.
    inside : ndarray of bool, shape (P,)
        Whether the point lies within the nodes.
    """

    root_tau: FloatArray
    k: FloatArray
    mean: FloatArray
    basis: FloatArray
    inside: npt.NDArray[np.bool_]
    roughness: FloatArray
    moments: FloatArray = field(repr=False)

    @cached_property
    def single(self) -> SingleArray:
        """The components without the constant one, in single precision."""
        return self.basis[:-1].astype(np.float32)

    @cached_property
    def _rough(self) -> FloatArray | None:
        return self._kernel(slice(None), slice(None)) if self.mean.size <= _DENSE else None

    @cached_property
    def _global(self) -> FloatArray | None:
        return self.covariance(self.moments, slice(None)) if self.mean.size <= _DENSE else None

    def _kernel(self, rows: Any, columns: Any) -> FloatArray:
        """Covariance of what the library does not show."""
        x = (self.root_tau[rows, None] - self.root_tau[columns]) ** 2
        d = x / ROUGH_ROOT_TAU**2 + ((self.k[rows, None] - self.k[columns]) / ROUGH_K) ** 2
        both = np.exp(-d / 2) + MATURITY_SHARE * np.exp(-x / (2 * MATURITY_ROOT_TAU**2))
        return np.asarray(both * self.roughness[rows, None] * self.roughness[columns])

    def rough(self, columns: Any) -> FloatArray:
        """Covariance, of all points with some, of what the library does not show."""
        return self._kernel(slice(None), columns) if self._rough is None else self._rough[:, columns]

    def covariance(self, moments: FloatArray, columns: Any) -> FloatArray:
        """Covariance of all points with some, given that of the components (K + 1, K + 1)."""
        return np.asarray(self.basis.T @ (moments @ self.basis[:, columns]) + self.rough(columns))

    def global_covariance(self, columns: Any) -> FloatArray:
        """Covariance over the whole library."""
        return self.covariance(self.moments, columns) if self._global is None else self._global[:, columns]

    def variance(self, moments: FloatArray) -> FloatArray:
        """Variance of every point."""
        own = np.einsum("kp,kp->p", self.basis, moments @ self.basis)
        return np.asarray(own + (1 + MATURITY_SHARE) * self.roughness**2)


@dataclass(frozen=True)
class Prior:
    """A library of surfaces.

    Attributes
    ----------
    root_tau, u : ndarray, shapes (J,), (I,)
        Nodes: roots of times to expiry, and log-moneyness over :func:`width`.
    mean : ndarray, shape (J I,)
        Mean of ln(volatility) at the nodes, times slowest.
    basis : ndarray, shape (K, J I)
        Components.
    scores : ndarray, shape (M, K)
        Members of the library, per component.
    moments : ndarray, shape (K, K)
        Covariance of the scores.
    """

    root_tau: FloatArray
    u: FloatArray
    mean: FloatArray
    basis: FloatArray
    scores: SingleArray
    moments: FloatArray
    _places: OrderedDict[bytes, Place] = field(default_factory=OrderedDict, repr=False, compare=False)

    def at(self, tau: FloatArray, k: FloatArray) -> Place:
        """The prior at points (P,)."""
        key = tau.tobytes() + k.tobytes()
        if key not in self._places:
            while len(self._places) >= _KEPT:
                self._places.popitem(last=False)
            self._places[key] = self._make(tau, k)
        return self._places[key]

    def _make(self, tau: FloatArray, k: FloatArray) -> Place:
        x = np.sqrt(tau)
        near_x = np.clip(x, self.root_tau[0], self.root_tau[-1])
        near_u = np.clip(k / width(near_x), self.u[0], self.u[-1])
        near_k = near_u * width(near_x)
        times, row = np.unique(near_x, return_inverse=True)
        in_time, in_u = SplineBasis.over(self.root_tau).at(times), SplineBasis.over(self.u).at(near_u)
        grid = np.concatenate([self.basis, self.mean[None]]).reshape(-1, self.root_tau.size, self.u.size)
        points = np.einsum("cpi,pi->cp", (in_time @ grid)[:, row], in_u)
        away_x, away_k = np.abs(x - near_x), np.abs(k - near_k)
        roughness = ROUGHNESS * (1 + ROUGHNESS_WINGS * np.abs(near_k))
        moments = np.zeros((len(self.moments) + 1,) * 2)
        moments[:-1, :-1] = self.moments
        moments[-1, -1] = LEVEL_SD**2
        return Place(
            root_tau=x,
            k=k,
            mean=points[-1],
            basis=np.concatenate([points[:-1], np.ones((1, x.size))]),
            inside=(away_x <= 1e-9) & (away_k <= 1e-9),
            roughness=roughness + _BEYOND_ROOT_TAU * away_x + _BEYOND_K * away_k,
            moments=moments,
        )


def compress(log_vol: FloatArray, root_tau: FloatArray, u: FloatArray, n_components: int, core: FloatArray) -> Prior:
    """Prior from surfaces.

    Parameters
    ----------
    log_vol : ndarray, shape (M, J, I)
    root_tau, u : ndarray
        Nodes.
    n_components : int
    core : ndarray, shape (J, I)
        Weight of an error at each node.
    """
    y = log_vol.reshape(len(log_vol), -1)
    mean = y.mean(axis=0)
    weight = np.sqrt(core.ravel())
    centred = (y - mean) * weight
    _, vectors = np.linalg.eigh(centred.T @ centred)
    leading = vectors[:, ::-1][:, :n_components].T
    leading = leading * np.sign(leading.sum(axis=1, keepdims=True))
    scores = centred @ leading.T
    return Prior(root_tau, u, mean, leading / weight, scores.astype(np.float32), np.cov(scores, rowvar=False))


def quantise(prior: Prior, fine: int) -> dict[str, npt.NDArray[Any]]:
    """Arrays of a prior as they are packaged: the first components' scores in 16 bits, the others' in 8."""
    top = np.abs(prior.scores).max(axis=0).astype(np.float64)
    limit = np.where(np.arange(top.size) < fine, 32767.0, 127.0)
    unit = (top / limit).astype(np.float32)
    whole = np.rint(prior.scores / unit)
    return {
        "root_tau": prior.root_tau,
        "u": prior.u,
        "mean": prior.mean.astype(np.float32),
        "basis": prior.basis.astype(np.float32),
        "moments": prior.moments.astype(np.float32),
        "unit": unit,
        "scores_fine": whole[:, :fine].astype(np.int16),
        "scores_coarse": whole[:, fine:].astype(np.int8),
    }


def restore(arrays: dict[str, npt.NDArray[Any]]) -> Prior:
    """Prior from what :func:`quantise` gives."""
    whole = np.concatenate([arrays["scores_fine"].astype(np.float32), arrays["scores_coarse"].astype(np.float32)], 1)
    wide = {name: arrays[name].astype(np.float64) for name in ("root_tau", "u", "mean", "basis", "moments")}
    return Prior(**wide, scores=np.ascontiguousarray(whole * arrays["unit"]))


@cache
def packaged_prior() -> Prior:
    """The prior that comes with the package."""
    from safetensors.numpy import load_file

    with as_file(files("volscen") / "data" / "repair_prior.safetensors") as path:
        return restore(load_file(path))

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

from volscen._repair._intervals import Calibration
from volscen.surface._spline import SplineBasis

__all__ = ["Place", "Prior", "compress", "packaged_calibrations", "packaged_prior", "quantise", "restore", "width"]

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]

#: Of the prior: raised with any change of it that changes results.
VERSION = 1

#: What the library does not show has two parts. Fine: correlation lengths in sqrt(tau) and k, and as much again that
#: moves a whole maturity, with its length. Broad: its lengths. Each grows with abs(k), per unit.
_FINE_ROOT_TAU, _FINE_K, _MATURITY_ROOT_TAU, _FINE_WINGS = 0.12, 0.12, 0.06, 1 / 0.45
_BROAD_ROOT_TAU, _BROAD_K, _BROAD_WINGS = 1.0, 0.4, 2 / 0.45

#: Standard deviations of ln(volatility) at the money of the fine and the broad part: which of these pairs describes a
#: surface, its quotes decide.
ROUGHNESS = tuple((fine, broad) for fine in (0.003, 0.006, 0.012) for broad in (0.0, 0.03, 0.06))

#: The pair under which misfit is measured.
REFERENCE = ROUGHNESS.index((0.006, 0.0))

#: Standard deviation of ln(volatility) beyond the nodes, per unit of sqrt(tau) and of k, and its correlation lengths.
_BEYOND_ROOT_TAU, _BEYOND_K, _BEYOND_LENGTH = 1.0, 0.5, 0.4

#: No more than this: a factor of e either way is to know nothing.
_BEYOND_MOST = 1.0

#: Standard deviation of a common shift of ln(volatility).
LEVEL_SD = 0.25

#: Nodes spread with the root of time up to this one, and with its logarithm beyond.
_ROOT_TAU = np.sqrt(0.08)

#: Places kept ready, and the most points for which all covariances are.
_KEPT, _DENSE = 4, 1200


def width(root_tau: FloatArray) -> FloatArray:
    """Log-moneyness per unit of u: quotes reach as far as prices do, for long times less than the root of time."""
    return np.where(
        root_tau < _ROOT_TAU, root_tau, _ROOT_TAU * (1 + np.log(np.maximum(root_tau, _ROOT_TAU) / _ROOT_TAU))
    )


@dataclass(frozen=True)
class Place:
    """The prior at some points.

    Attributes
    ----------
    root_tau, k : ndarray, shape (P,)
        The points.
    mean : ndarray, shape (P,)
        Of ln(volatility).
    basis : ndarray, shape (K + 1, P)
        Principal components, and last a constant one: a shift of the level.
    beyond : ndarray, shape (P,)
        Standard deviation that comes with the distance from the nodes.
    moments : ndarray, shape (K + 1, K + 1)
        Covariance of the components over the library.
    """

    root_tau: FloatArray
    k: FloatArray
    mean: FloatArray
    basis: FloatArray
    beyond: FloatArray
    moments: FloatArray = field(repr=False)

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        """Whether a point lies within the nodes."""
        return self.beyond <= 1e-9

    @cached_property
    def single(self) -> SingleArray:
        """The components without the constant one, in single precision."""
        return self.basis[:-1].astype(np.float32)

    @cached_property
    def _dense(self) -> tuple[FloatArray, FloatArray] | None:
        return self._rough(slice(None)) if self.mean.size <= _DENSE else None

    @cached_property
    def _dense_global(self) -> FloatArray | None:
        return self._smooth(self.moments, slice(None)) if self.mean.size <= _DENSE else None

    def _rough(self, columns: Any) -> tuple[FloatArray, FloatArray]:
        """Covariances of the fine and the broad part per unit of their variance at the money, (P, columns)."""
        x = (self.root_tau[:, None] - self.root_tau[columns]) ** 2
        y = (self.k[:, None] - self.k[columns]) ** 2
        fine = np.exp(-x / (2 * _FINE_ROOT_TAU**2) - y / (2 * _FINE_K**2)) + np.exp(-x / (2 * _MATURITY_ROOT_TAU**2))
        broad = np.exp(-x / (2 * _BROAD_ROOT_TAU**2) - y / (2 * _BROAD_K**2))
        grown = 1 + _FINE_WINGS * np.abs(self.k), 1 + _BROAD_WINGS * np.abs(self.k)
        return fine * grown[0][:, None] * grown[0][columns], broad * grown[1][:, None] * grown[1][columns]

    def _smooth(self, moments: FloatArray, columns: Any) -> FloatArray:
        """Covariance from the components, and beyond the nodes."""
        found = self.basis.T @ (moments @ self.basis[:, columns])
        if self.beyond.any():
            x = self.root_tau[:, None] - self.root_tau[columns]
            y = self.k[:, None] - self.k[columns]
            near = np.exp(-(x**2 + y**2) / (2 * _BEYOND_LENGTH**2))
            found += near * self.beyond[:, None] * self.beyond[columns]
        return np.asarray(found)

    def rough(self, columns: Any) -> tuple[FloatArray, FloatArray]:
        """Covariances, of all points with some, of the fine and the broad part of roughness."""
        return self._rough(columns) if self._dense is None else (self._dense[0][:, columns], self._dense[1][:, columns])

    def smooth(self, moments: FloatArray, columns: Any) -> FloatArray:
        """Covariance, of all points with some, given that of the components."""
        if moments is self.moments and self._dense_global is not None:
            return self._dense_global[:, columns]
        return self._smooth(moments, columns)

    def variances(self, moments: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Variances of every point: from the components, and of both parts of roughness."""
        own = np.einsum("kp,kp->p", self.basis, moments @ self.basis) + self.beyond**2
        return own, 2 * (1 + _FINE_WINGS * np.abs(self.k)) ** 2, (1 + _BROAD_WINGS * np.abs(self.k)) ** 2


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
        away_x, away_k = (np.where(away > 1e-9, away, 0.0) for away in (np.abs(x - near_x), np.abs(k - near_k)))
        moments = np.zeros((len(self.moments) + 1,) * 2)
        moments[:-1, :-1] = self.moments
        moments[-1, -1] = LEVEL_SD**2
        return Place(
            root_tau=x,
            k=k,
            mean=points[-1],
            basis=np.concatenate([points[:-1], np.ones((1, x.size))]),
            beyond=np.minimum(_BEYOND_ROOT_TAU * away_x + _BEYOND_K * away_k, _BEYOND_MOST),
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
    root_tau, u, mean, basis, moments = (
        arrays[name].astype(np.float64) for name in ("root_tau", "u", "mean", "basis", "moments")
    )
    return Prior(root_tau, u, mean, basis, np.ascontiguousarray(whole * arrays["unit"]), moments)


@cache
def _packaged() -> dict[str, npt.NDArray[Any]]:
    from safetensors.numpy import load_file

    with as_file(files("volscen") / "data" / "repair_prior.safetensors") as path:
        return dict(load_file(path))


@cache
def packaged_prior() -> Prior:
    """The prior that comes with the package."""
    return restore(_packaged())


@cache
def packaged_calibrations() -> dict[str, Calibration]:
    """Intervals of the methods that were calibrated with the packaged prior, by name."""
    arrays = _packaged()
    names = {name.split("/")[1] for name in arrays if name.startswith("intervals/")}
    found = {}
    for name in names:
        log_sd, width, unusual = (arrays[f"intervals/{name}/{part}"] for part in ("log_sd", "width", "unusual"))
        found[name] = Calibration(log_sd.astype(np.float64), width.astype(np.float64), float(unusual[0]))
    return found

"""Proper scores and calibration of weighted ensembles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError
from volscen.schema import check_weights

__all__ = ["energy_score", "probability_integral_transform"]

FloatArray = npt.NDArray[np.float64]


def _ensemble(
    ensemble: npt.ArrayLike, observation: npt.ArrayLike, weight: npt.ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    x = np.asarray(ensemble, dtype=np.float64)
    y = np.asarray(observation, dtype=np.float64)
    if x.ndim != 2 or y.shape != x.shape[1:] or x.shape[0] < 2:
        raise InputError(f"ensemble must be (n >= 2, d) and observation (d,), not {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("ensemble and observation must be finite")
    n = x.shape[0]
    return x, y, np.full(n, 1 / n) if weight is None else check_weights(weight, n)


def energy_score(ensemble: npt.ArrayLike, observation: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Fair energy score of a weighted ensemble; lower is better.

    Parameters
    ----------
    ensemble : array_like, shape (n, d)
        Scenarios, in comparable units.
    observation : array_like, shape (d,)
        What happened.
    weight : array_like, shape (n,), optional
        Summing to 1; equal when omitted.

    Returns
    -------
    float
        sum_i w_i abs(x_i - y) - 1/2 sum_{i != j} w_i w_j abs(x_i - x_j) / (1 - sum_i w_i^2): the second term
        is divided so that the size of the ensemble does not matter.

    Notes
    -----
    Gneiting and Raftery (2007); fair version: Ferro (2014).

    Examples
    --------
    >>> from volscen.evaluation import energy_score
    >>> energy_score([[0.0], [2.0]], [1.0])
    0.0
    """
    x, y, w = _ensemble(ensemble, observation, weight)
    effective = 1 - w @ w
    if effective <= 1e-12:
        raise InputError("all weight lies on one scenario; a fair score needs at least two")
    centred = x - w @ x
    square = np.einsum("ij,ij->i", centred, centred)
    distance = centred @ centred.T
    distance *= -2
    distance += square[:, None]
    distance += square[None, :]
    np.maximum(distance, 0, out=distance)
    np.sqrt(distance, out=distance)
    np.fill_diagonal(distance, 0)  # rounding leaves about 1e-8 there
    return float(w @ np.linalg.norm(x - y, axis=1) - 0.5 * (w @ distance @ w) / effective)


def probability_integral_transform(
    ensemble: npt.ArrayLike, observation: npt.ArrayLike, weight: npt.ArrayLike | None = None
) -> FloatArray:
    """Weight below each observation, ties counted half; uniform when the forecast is calibrated.

    Parameters
    ----------
    ensemble : array_like, shape (n, d)
    observation : array_like, shape (d,)
    weight : array_like, shape (n,), optional

    Returns
    -------
    ndarray, shape (d,)
        In [0, 1].

    Examples
    --------
    >>> from volscen.evaluation import probability_integral_transform
    >>> probability_integral_transform([[0.0], [1.0], [2.0], [3.0]], [1.5])
    array([0.5])
    """
    x, y, w = _ensemble(ensemble, observation, weight)
    return np.asarray(w @ (x < y) + 0.5 * (w @ (x == y)))

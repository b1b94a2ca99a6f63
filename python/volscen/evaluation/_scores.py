"""Proper scores of weighted ensembles: energy score, CRPS and its tails, variogram score, and the PIT.

Pairs of scenarios enter as i != j, divided by 1 - sum w^2, so that the size of an ensemble does not matter
(Ferro 2014, "Fair scores for ensemble forecasts"). The package scoringrules has the same definitions; its weighted
estimators hold every pair in memory, 650 MB for 1,000 surfaces, so they serve as the reference in the tests.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError
from volscen.schema import check_weights

__all__ = [
    "crps",
    "energy_score",
    "energy_scores",
    "probability_integral_transform",
    "sorted_crps",
    "variogram_score",
]

FloatArray = npt.NDArray[np.float64]

#: Rows of the distance matrix worked on at once: they stay in the cache of the processor.
_ROWS = 128
_ONE_SCENARIO = "all weight lies on one scenario; a fair score needs at least two"


def _ensemble(
    ensemble: npt.ArrayLike, observation: npt.ArrayLike, weight: npt.ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    try:
        x = np.asarray(ensemble, dtype=np.float64)
        y = np.asarray(observation, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("ensemble and observation must be arrays of numbers") from None
    if x.ndim != 2 or y.shape != x.shape[1:] or x.shape[0] < 2 or x.shape[1] == 0:
        raise InputError(f"ensemble must be (n >= 2, d >= 1) and observation (d,), not {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("ensemble and observation must be finite; drop or mend the others first")
    n = x.shape[0]
    w = np.full(n, 1 / n) if weight is None else check_weights(weight, n)
    if w.ndim != 1:
        raise InputError(f"weight must be one-dimensional, not shape {w.shape}")
    return x, y, w


def _fair(weight: FloatArray) -> Any:
    """Share of the pairs that are two different scenarios, 1 - sum w^2, over the last axis."""
    share = 1 - np.sum(weight * weight, axis=-1)
    if np.any(share <= 1e-12):
        raise InputError(_ONE_SCENARIO)
    return share


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

    Raises
    ------
    InputError
        If shapes do not fit, a number is not finite, or all weight lies on one scenario.

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
    return float(energy_scores(x, y, w[None])[0])


def energy_scores(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Energy scores (a,) of one ensemble (n, d) under several weightings (a, n); nothing is checked but the sums."""
    share = _fair(weights)
    centred = x - x.mean(axis=0)
    square = np.einsum("ij,ij->i", centred, centred)
    pairs = np.zeros(len(weights))
    for first in range(0, len(x), _ROWS):
        rows = slice(first, first + _ROWS)
        distance = centred[rows] @ centred.T
        distance *= -2
        distance += square[rows, None]
        distance += square
        # Rounding may leave a distance of nothing below zero, and that of a scenario to itself above it.
        np.maximum(distance, 0, out=distance)
        np.sqrt(distance, out=distance)
        own = np.arange(len(distance))
        distance[own, first + own] = 0
        pairs += np.einsum("ai,ia->a", weights[:, rows], distance @ weights.T)
    return np.asarray(weights @ np.linalg.norm(x - y, axis=1) - 0.5 * pairs / share)


def crps(ensemble: npt.ArrayLike, observation: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> FloatArray:
    """Fair continuous ranked probability score of every variable; lower is better.

    Parameters
    ----------
    ensemble : array_like, shape (n, d)
    observation : array_like, shape (d,)
    weight : array_like, shape (n,), optional
        Summing to 1; equal when omitted.

    Returns
    -------
    ndarray, shape (d,)
        In the units of each variable; for one variable it is the energy score.

    Raises
    ------
    InputError
        If shapes do not fit, a number is not finite, or all weight lies on one scenario.

    Examples
    --------
    >>> from volscen.evaluation import crps
    >>> crps([[0.0, 1.0], [2.0, 1.0]], [1.0, 4.0])
    array([0., 3.])
    """
    x, y, w = _ensemble(ensemble, observation, weight)
    ordered, order = sort_scenarios(x)
    return sorted_crps(ordered, y, w[order], _fair(w))


def sort_scenarios(x: FloatArray) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Values (d, n) of every variable in rising order, and the scenarios they belong to."""
    columns = np.ascontiguousarray(x.T)
    order = np.argsort(columns, axis=1)
    return np.take_along_axis(columns, order, axis=1), order


def sorted_crps(ordered: FloatArray, y: FloatArray, weight: FloatArray, share: float) -> FloatArray:
    """CRPS from sorted values (d, n), their weights (d, n) and the share of pairs of different scenarios."""
    mass = weight * ordered
    # sum_{i<j} w_i w_j (x_j - x_i) = sum_j w_j x_j W_j - w_j M_j, with W and M the weight and mass before j
    before, mass_before = np.cumsum(weight, axis=1) - weight, np.cumsum(mass, axis=1) - mass
    half_pairs = np.einsum("dn,dn->d", mass, before) - np.einsum("dn,dn->d", weight, mass_before)
    error = np.einsum("dn,dn->d", weight, np.abs(ordered - y[:, None]))
    return np.asarray(error - half_pairs / share)


def sorted_tail_crps(
    ordered: FloatArray, y: FloatArray, weight: FloatArray, share: float, threshold: FloatArray
) -> FloatArray:
    """CRPS of min(x, low) and of max(x, high), (2, d): the threshold-weighted CRPS of both tails.

    Threshold (2, d). Allen, Ginsbourger and Ziegel (2023): the CRPS of chained values is the threshold-weighted
    score of Gneiting and Ranjan (2011), and stays proper.
    """
    low, high = threshold
    # Chaining is monotone: the order stays.
    return np.stack(
        [
            sorted_crps(np.minimum(ordered, low[:, None]), np.minimum(y, low), weight, share),
            sorted_crps(np.maximum(ordered, high[:, None]), np.maximum(y, high), weight, share),
        ]
    )


def variogram_score(
    ensemble: npt.ArrayLike, observation: npt.ArrayLike, weight: npt.ArrayLike | None = None, *, p: float = 0.5
) -> float:
    """Variogram score of a weighted ensemble; lower is better, and wrong dependence is what it notices.

    Parameters
    ----------
    ensemble : array_like, shape (n, d)
        Scenarios of at least two variables in comparable units.
    observation : array_like, shape (d,)
    weight : array_like, shape (n,), optional
        Summing to 1; equal when omitted.
    p : float
        Power, positive.

    Returns
    -------
    float
        sum_{a < b} (abs(y_a - y_b)^p - sum_i w_i abs(x_ia - x_ib)^p)^2.

    Raises
    ------
    InputError
        If shapes do not fit, a number is not finite, or ``p`` is not positive.

    Notes
    -----
    Scheuerer and Hamill (2015), every pair once and with weight one.

    Examples
    --------
    >>> from volscen.evaluation import variogram_score
    >>> variogram_score([[0.0, 1.0], [0.0, 4.0]], [0.0, 1.0])  # (1 - (1 + 2) / 2)^2
    0.25
    """
    x, y, w = _ensemble(ensemble, observation, weight)
    if x.shape[1] < 2:
        raise InputError("ensemble has one variable; a variogram score compares at least two")
    if not (np.isfinite(p) and p > 0):
        raise InputError(f"p must be a positive number, not {p!r}")
    return float(variogram_scores(x, y, w[None], p)[0])


def variogram_scores(x: FloatArray, y: FloatArray, weights: FloatArray, p: float = 0.5) -> FloatArray:
    """Variogram scores (a,) under several weightings (a, n)."""
    a, b = np.triu_indices(y.size, 1)
    expected = weights @ np.abs(x[:, a] - x[:, b]) ** p
    return np.asarray(((np.abs(y[a] - y[b]) ** p - expected) ** 2).sum(axis=1))


def probability_integral_transform(
    ensemble: npt.ArrayLike, observation: npt.ArrayLike, weight: npt.ArrayLike | None = None
) -> FloatArray:
    """Weight below each observation, ties counted half; uniform when the forecast is calibrated.

    Parameters
    ----------
    ensemble : array_like, shape (n, d)
    observation : array_like, shape (d,)
    weight : array_like, shape (n,), optional
        Summing to 1; equal when omitted.

    Returns
    -------
    ndarray, shape (d,)
        In [0, 1].

    Raises
    ------
    InputError
        If shapes do not fit or a number is not finite.

    Examples
    --------
    >>> from volscen.evaluation import probability_integral_transform
    >>> probability_integral_transform([[0.0], [1.0], [2.0], [3.0]], [1.5])
    array([0.5])
    """
    x, y, w = _ensemble(ensemble, observation, weight)
    return np.asarray(pits(x, y, w[None])[0])


def pits(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Weight below each observation, ties counted half, (a, d) under weightings (a, n)."""
    below, equal = x < y, x == y
    # One product a weighting: the last bit of a sum decides on which side of 0.025 a PIT of 25 scenarios in 1,000 lies,
    # and so it must not depend on how many weightings there are.
    return np.stack([w @ below + 0.5 * (w @ equal) for w in weights])

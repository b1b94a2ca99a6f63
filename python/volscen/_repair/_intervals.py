"""Conformal intervals: how far surfaces turned out to lie from what was predicted, on surfaces set apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

__all__ = ["LEVELS", "Calibration", "calibrate"]

FloatArray = npt.NDArray[np.float64]

#: Probabilities that are calibrated; those between are interpolated.
LEVELS = np.array([0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99])

#: Bins of the predicted standard deviation, with equally many points each.
_BINS = 8

#: A misfit below this one widens no less.
_LEAST_MISFIT = 0.7


@dataclass(frozen=True)
class Calibration:
    """Half-widths of intervals of ln(volatility), over the scale of each point.

    Attributes
    ----------
    log_sd : ndarray, shape (B,)
        Logarithm of the predicted standard deviation in the middle of each bin.
    width : ndarray, shape (B, L)
        For each of :data:`LEVELS`.
    unusual : float
        How far the misfit of 39 in 40 surfaces lies above 1 at most, times the root of their number of quotes.
    """

    log_sd: FloatArray
    width: FloatArray
    unusual: float

    def half_width(self, sd: FloatArray, misfit: FloatArray, level: float) -> FloatArray:
        """Half-width of the interval of ln(volatility) that holds it with a probability.

        Parameters
        ----------
        sd : ndarray, shape (n, ...)
        misfit : ndarray, shape (n,)
        level : float
            Probability from the first to the last of :data:`LEVELS`.
        """
        place = np.interp(ndtri(0.5 + level / 2), ndtri(0.5 + LEVELS / 2), np.arange(LEVELS.size))
        low = int(min(place, LEVELS.size - 2))
        width = self.width[:, low] + (place - low) * (self.width[:, low + 1] - self.width[:, low])
        return np.asarray(np.interp(np.log(sd), self.log_sd, width) * scale_of(sd, misfit))

    def is_unusual(self, misfit: FloatArray, n_quotes: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Whether a misfit is above that of 39 in 40 surfaces of the library's kind."""
        return np.asarray(misfit > 1 + self.unusual / np.sqrt(n_quotes))


def scale_of(sd: FloatArray, misfit: FloatArray) -> FloatArray:
    """What errors are measured in: the predicted standard deviation, more where the quotes fit badly."""
    return np.asarray(sd * np.maximum(misfit, _LEAST_MISFIT).reshape(-1, *[1] * (sd.ndim - 1)))


def calibrate(
    errors: list[FloatArray], sds: list[FloatArray], misfits: list[FloatArray], missing: list[npt.NDArray[np.bool_]]
) -> Calibration:
    """Quantiles of errors of ln(volatility) by predicted standard deviation.

    Parameters
    ----------
    errors, sds : list of ndarray, shape (n, P)
        Of one set of surfaces on one grid each.
    misfits : list of ndarray, shape (n,)
    missing : list of ndarray of bool, shape (n, P)
        Points that were not observed: they alone count.
    """
    scores, spreads, unusual = [], [], []
    for error, sd, misfit, unseen in zip(errors, sds, misfits, missing, strict=True):
        scores.append((np.abs(error) / scale_of(sd, misfit))[unseen])
        spreads.append(np.log(sd[unseen]))
        unusual.append((misfit - 1) * np.sqrt((~unseen).sum(axis=1)))
    score, spread = np.concatenate(scores), np.concatenate(spreads)
    edges = np.quantile(spread, np.linspace(0, 1, _BINS + 1))
    own = np.clip(np.searchsorted(edges, spread, side="right") - 1, 0, _BINS - 1)
    middle = np.array([np.median(spread[own == b]) for b in range(_BINS)])
    width = np.array([np.quantile(score[own == b], LEVELS) for b in range(_BINS)])
    return Calibration(middle, width, float(np.quantile(np.concatenate(unusual), 0.975)))

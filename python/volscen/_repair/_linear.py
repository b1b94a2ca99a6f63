"""Total variance linear between the quotes, as those next to the point beyond them: what others are measured by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volscen._repair._base import Observations, Prediction

__all__ = ["Linear", "make_linear"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """Linear interpolation on a triangulation of the quotes in (tau, k), the nearest quote beyond their hull."""

    def predict(self, observed: Observations) -> Prediction:
        """Predict; there is no standard deviation."""
        points = np.column_stack([observed.tau, observed.log_moneyness])
        mean = np.stack([self._surface(points, row) for row in observed.log_vol])
        return Prediction(mean, np.full(mean.shape, np.nan))

    def _surface(self, points: FloatArray, log_vol: FloatArray) -> FloatArray:
        from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
        from scipy.spatial import QhullError

        at = ~np.isnan(log_vol)
        # Quotes at one point count as their mean.
        places, which = np.unique(points[at], axis=0, return_inverse=True)
        value = np.bincount(which.reshape(-1), log_vol[at]) / np.bincount(which.reshape(-1))
        near = NearestNDInterpolator(places, value, rescale=len(places) > 1)(points)
        variance = np.exp(2 * value) * places[:, 0]
        try:
            inside = LinearNDInterpolator(places, variance, rescale=True)(points)
        except (QhullError, ValueError):  # fewer than three quotes, or all on one line
            return np.asarray(near)
        known = np.isfinite(inside)
        near[known] = np.log(inside[known] / points[known, 0]) / 2
        return np.asarray(near)


def make_linear() -> Linear:
    """Predictor."""
    return Linear()

"""What pretrained models of time series share: they forecast the principal components, untrained on any of them."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.evaluation.forecast._surface_models import Var

__all__ = ["Pretrained"]

FloatArray = npt.NDArray[np.float64]


class Pretrained(Var):
    """Components of log surfaces forecast by a model that is given their past; the rest reverts by itself."""

    uses_exogenous = False

    def _learn(self, logs: FloatArray, history: xr.Dataset) -> None:
        self._load()  # before anything slow
        super()._learn(logs, history)

    def _ahead(self, logs: FloatArray, history: xr.Dataset, rows: npt.NDArray[np.intp]) -> FloatArray:
        deviation = logs - self.mean_
        scores = deviation @ self.axes_.T
        rest = deviation[rows] - scores[rows] @ self.axes_
        dates = history["date"].values.astype("datetime64[ns]")
        ahead = self._components(scores, dates, rows)  # (n, days, components)
        decay = self.steps_[2]
        out = [self.mean_ + ahead[:, h - 1] @ self.axes_ + rest * decay**h for h in self.horizons_]
        return np.stack(out, axis=1)

    @abstractmethod
    def _load(self) -> None:
        """Load the model, or say what is missing."""

    @abstractmethod
    def _components(
        self, scores: FloatArray, dates: npt.NDArray[np.datetime64], rows: npt.NDArray[np.intp]
    ) -> FloatArray:
        """Scores (n, days, components) of the days after each row, from scores (dates, components) up to it."""

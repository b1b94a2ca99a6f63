"""Scaled PCA-VAR of log vols: the strong simple model that every network must beat, and its plainer relatives."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from volscen.generators._base import FloatArray
from volscen.generators._factor_law import FactorLaw, Filter, Residuals, Scale
from volscen.generators._factor_paths import Series

__all__ = ["ScaledPCA"]


class ScaledPCA(FactorLaw):
    """PCA-VAR of log-vol increments and return, with state-dependent scale and bootstrapped residuals.

    Parameters
    ----------
    n_components : int
        Principal components of the log-vol increments that are modelled; the rest of each increment is drawn
        from the same past day unscaled. From 1 to the number of cells.
    residual_days : int
        Residuals are drawn from the last ``residual_days`` days fitted on or updated with; at least 50.
    scale : {"log-linear", "constant"}
        Scale of each factor: log-linear in what is known the day before, or one number.
    filter : {"ewma", "garch"}, optional
        Multiply the scale by the root of a variance that follows each factor's own standardised shocks,
        exponentially weighted with ``decay`` or GARCH(1,1) fitted by quasi maximum likelihood (package ``arch``,
        ``volscen[garch]``). A starting state then needs 273 days instead of 21.
    residuals : {"bootstrap", "gaussian", "t"}
        Residuals and the rest of the increment: those of one past day; or normal, or Student-t with 5 degrees of
        freedom, with the mean and covariance of the past days'.
    decay : float
        Of the exponential weights, in (0, 1). Used with ``filter="ewma"``.

    Raises
    ------
    InputError
        If an argument is out of its range.

    Notes
    -----
    Mean: ridge regression of each factor on the level scores of the surface and on the last day's factors.
    Scale: log s = V b with V the log realised volatilities (5 and 21 days) and the level scores, by penalised
    Student-t (5 degrees of freedom) likelihood. Inputs and log scales are clipped to the range they had when
    fitted.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> volscen.fit(history, "pca", residual_days=500).arrays()["residual"].shape
    (500, 6)
    >>> plain = volscen.fit(history, "pca", scale="constant", residuals="gaussian")
    >>> plain.parameters()["scale"]
    'constant'
    """

    name: ClassVar[str] = "pca"
    coordinates: ClassVar[str] = "cells"

    def __init__(
        self,
        n_components: int = 5,
        residual_days: int = 1000,
        *,
        scale: Scale = "log-linear",
        filter: Filter | None = None,
        residuals: Residuals = "bootstrap",
        decay: float = 0.94,
    ) -> None:
        super().__init__(n_components, residual_days, scale, filter, residuals, decay)

    def _series(self, log_return: FloatArray, log_iv: FloatArray) -> Series:
        return Series(log_return, log_iv, np.empty((len(log_iv), 0)))

    def _log_surface(self, coordinate: FloatArray) -> FloatArray:
        return coordinate

    def _bounded(self, coordinate: FloatArray) -> FloatArray:
        return coordinate

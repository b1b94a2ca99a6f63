"""SABR smiles, one for each maturity, whose calibrated parameters move from day to day."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import xarray as xr

from volscen._numbers import bounded_number
from volscen.generators import _sabr_smile
from volscen.generators._base import FloatArray
from volscen.generators._calibrated import CalibratedModel
from volscen.generators._factor_law import Filter, Residuals, Scale

__all__ = ["SABR"]


class SABR(CalibratedModel):
    """Time series of calibrated SABR parameters, joint with the return.

    Each maturity's smile is fitted by Hagan's formula; log alpha, atanh rho and log nu of all maturities, and the
    return, move by the law of :class:`~volscen.generators._pca.ScaledPCA`. What the smile leaves of a day's surface is
    carried on, with mean reversion and the drawn day's innovation.

    Parameters
    ----------
    beta : float
        Exponent of the forward, in [0, 1], not calibrated: with one smile it says the same as rho.
    n_components : int
        Principal components of the parameters' increments that are modelled; the rest is drawn unscaled. From 1 to
        three times the number of maturities.
    residual_days, scale, filter, residuals, decay
        As for :class:`~volscen.generators._pca.ScaledPCA`.

    Raises
    ------
    InputError
        If an argument is out of its range.

    Notes
    -----
    Parameters stay within alpha sqrt(tau) <= 1.2, nu sqrt(tau) in [0.02, 2] and abs(rho) <= 0.995, where the expansion
    in tau is positive. Few strikes near the money say little about nu, and a flat smile nothing about rho: a weak
    prior keeps both from wandering. The formula itself admits arbitrage at low strikes and long maturities.

    References
    ----------
    Hagan, P., Kumar, D., Lesniewski, A. and Woodward, D. (2002). Managing smile risk. Wilmott Magazine, September,
    84-108.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history().isel(date=slice(0, 400))
    >>> model = volscen.fit(history, "sabr")
    >>> smiles = model.calibrate(history.implied_vol[-1])
    >>> smiles.rho.dims, bool((smiles.rho < 0).all())
    (('tau',), True)
    """

    name: ClassVar[str] = "sabr"

    def __init__(
        self,
        beta: float = 1.0,
        n_components: int = 5,
        residual_days: int = 1000,
        *,
        scale: Scale = "log-linear",
        filter: Filter | None = None,
        residuals: Residuals = "bootstrap",
        decay: float = 0.94,
    ) -> None:
        super().__init__(n_components, residual_days, scale, filter, residuals, decay)
        self.beta = bounded_number("beta", beta, 0, 1, ends="[]")

    def _n_coordinates(self, history: xr.Dataset) -> int:
        return 3 * int(history.sizes["tau"])

    def _width(self) -> int:
        return 3 * self.tau_.size

    def _limits(self) -> tuple[FloatArray, FloatArray]:
        return np.tile(_sabr_smile.LOW, self.tau_.size), np.tile(_sabr_smile.HIGH, self.tau_.size)

    def _calibrate(self, log_iv: FloatArray) -> FloatArray:
        smiles = log_iv.reshape(-1, self.moneyness_.size)
        tau = np.tile(self.tau_, len(log_iv))
        found = _sabr_smile.fit_smiles(smiles, tau, self.moneyness_, self.beta)
        return found.reshape(len(log_iv), -1)

    def _log_surface(self, coordinate: FloatArray) -> FloatArray:
        smiles = coordinate.reshape(len(coordinate), self.tau_.size, 3)
        return _sabr_smile.log_vols(smiles, self.tau_, self.moneyness_, self.beta).reshape(len(coordinate), -1)

    def _natural(self, coordinate: FloatArray) -> dict[str, FloatArray]:
        smiles = coordinate.reshape(len(coordinate), self.tau_.size, 3)
        root = np.sqrt(self.tau_)
        return {
            "alpha": np.exp(smiles[..., 0]) / root,
            "rho": np.tanh(smiles[..., 1]),
            "nu": np.exp(smiles[..., 2]) / root,
        }

    def parameters(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"beta": self.beta, **super().parameters()}

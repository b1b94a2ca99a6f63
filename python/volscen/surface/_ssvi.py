"""SSVI and eSSVI: one surface through all expiries, free of static arbitrage at and between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from volscen import ssvi
from volscen.surface._rows import ROBUST_PASSES, Rows, huber

if TYPE_CHECKING:
    from volscen.chain import Chain

__all__ = ["SSVISurface", "fit_essvi", "fit_ssvi"]

FloatArray = npt.NDArray[np.float64]
Weights = Literal["auto", "vega", "spread", "uniform"]


@dataclass(frozen=True)
class SSVISurface:
    """Slices of an SSVI or eSSVI surface, joined over time as :func:`volscen.ssvi.at` does.

    Attributes
    ----------
    tau : ndarray, shape (E,)
        Times to expiry of the slices.
    parameters : ndarray, shape (E, 3)
        (theta, rho, psi) of each.
    """

    tau: FloatArray
    parameters: FloatArray
    details: dict[str, Any] = field(default_factory=dict)

    def implied_vol(self, tau: FloatArray, log_moneyness: FloatArray) -> FloatArray:
        """Volatility at points: the arguments broadcast together."""
        tau, k = np.broadcast_arrays(tau, log_moneyness)
        times, row = np.unique(tau, return_inverse=True)
        slices = ssvi.at(self.parameters, self.tau, times)[row.reshape(-1)]
        w = ssvi.total_variance(slices, k.reshape(-1, 1))[:, 0]
        return np.asarray(np.sqrt(w.reshape(tau.shape) / tau))

    def variance_terms(self, tau: FloatArray, log_moneyness: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Total variance and its first two derivatives in log-moneyness at points."""
        tau, k = np.broadcast_arrays(tau, log_moneyness)
        times, row = np.unique(tau, return_inverse=True)
        slices = ssvi.at(self.parameters, self.tau, times)
        theta, rho, psi = (column[row.reshape(tau.shape)] for column in slices.T)
        x = psi * k + rho * theta
        root = np.sqrt(x**2 + (1 - rho**2) * theta**2)
        w = (theta + rho * psi * k + root) / 2
        return w, psi * (rho + x / root) / 2, psi**2 * (1 - rho**2) * theta**2 / (2 * root**3)


def fit_essvi(
    chain: Chain, tau: FloatArray, moneyness: FloatArray, *, weights: Weights = "auto", robust: bool = True
) -> SSVISurface:
    """Fit eSSVI (Hendriks and Martini, 2019) to all expiries of a chain at once.

    Parameters
    ----------
    chain : Chain
        Its ``quotes`` are fitted.
    tau, moneyness : ndarray
        The grid, of no consequence here.
    weights : {"auto", "vega", "spread", "uniform"}
        Weight of a squared volatility error, as for method "svi".
    robust : bool
        Refit with Huber weights so that stale or mistaken quotes do not bend a slice.

    Raises
    ------
    InputError
        If an option is unknown.
    """
    return _fit(chain, "essvi", weights, robust)


def fit_ssvi(
    chain: Chain, tau: FloatArray, moneyness: FloatArray, *, weights: Weights = "auto", robust: bool = True
) -> SSVISurface:
    """Fit SSVI with a power law (Gatheral and Jacquier, 2014): as :func:`fit_essvi`, with one rho, eta and gamma."""
    return _fit(chain, "ssvi", weights, robust)


def _fit(chain: Chain, model: Literal["essvi", "ssvi"], weights: Weights, robust: bool) -> SSVISurface:
    rows = Rows.of(chain, weights)
    weight = rows.weight * rows.per_variance
    fit = ssvi.fit(rows.k, rows.total_variance, weight, model=model)
    for _ in range(ROBUST_PASSES if robust else 0):
        factor = huber(ssvi.implied_vol(fit.parameters, rows.k, rows.tau) - rows.vol, rows.weight)
        if np.all(factor == 1):
            break
        fit = ssvi.fit(rows.k, rows.total_variance, weight * factor, model=model)
    details: dict[str, Any] = {
        "slices_reduced": int((fit.status == ssvi.SSVIStatus.REDUCED).sum()),
        "fit_converged": int(not (fit.status == ssvi.SSVIStatus.STOPPED).any()),
    }
    if model == "ssvi":
        details.update(zip(("power_law_eta", "power_law_gamma"), fit.power_law.tolist(), strict=True))
    return SSVISurface(tau=rows.tau, parameters=fit.parameters, details=details)

"""Heston surfaces whose calibrated parameters move from day to day."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import xarray as xr

from volscen.generators._base import FloatArray
from volscen.generators._calibrated import CalibratedModel
from volscen.generators._factor_law import Filter, Residuals, Scale
from volscen.generators._heston_price import HIGH, LOW, HestonGrid

__all__ = ["Heston"]

_KAPPA_DAYS = 100


class Heston(CalibratedModel):
    """Time series of calibrated Heston parameters, joint with the return.

    Each day's surface is fitted by the five parameters of Heston's model; log v0, log theta, log kappa, log xi and
    atanh rho, and the return, move by the law of :class:`~volscen.generators._pca.ScaledPCA`. What the model leaves of
    a day's surface is carried on, with mean reversion and the drawn day's innovation.

    Parameters
    ----------
    n_components : int
        Principal components of the parameters' increments that are modelled, from 1 to 5.
    residual_days, scale, filter, residuals, decay
        As for :class:`~volscen.generators._pca.ScaledPCA`.

    Raises
    ------
    InputError
        If an argument is out of its range.

    Notes
    -----
    The parameters are those of a pricing model recalibrated daily, although its theory takes them for constants; the
    return's law is the data's, not the model's. They stay within v0, theta in [0.0004, 4], kappa in [0.1, 20], xi in
    [0.05, 5], abs(rho) <= 0.987.

    The surface identifies them weakly: kappa, theta and xi trade off against each other where maturities are few. Kappa
    is therefore calibrated freely on 100 days spread over the history only; a prior then holds every day's near their
    median (standard deviation 0.05 in the log) and keeps the others from wandering. Do not give single parameters an
    economic reading.

    Prices are one Fourier integral for each maturity, no surrogate. Those below 1e-8 of the forward are raised to
    that, and the cell moves with its remainder alone.

    References
    ----------
    Heston, S. (1993). A closed-form solution for options with stochastic volatility. Review of Financial Studies 6(2),
    327-343. Lewis, A. (2001). A simple option formula for general jump-diffusion and other exponential Levy processes.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history().isel(date=slice(0, 200))
    >>> model = volscen.fit(history, "heston")
    >>> found = model.calibrate(history.implied_vol[-1])
    >>> bool(-1 < found.rho < 0), sorted(found.data_vars)
    (True, ['implied_vol', 'kappa', 'rho', 'theta', 'v0', 'xi'])
    """

    name: ClassVar[str] = "heston"

    kappa_: FloatArray

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
        self._quadrature: HestonGrid | None = None

    def _prepare(self, history: xr.Dataset) -> None:
        super()._prepare(history)
        n_dates = history.sizes["date"]
        days = np.linspace(0, n_dates - 1, min(n_dates, _KAPPA_DAYS)).round().astype(int)
        log_iv = np.log(history["implied_vol"].values[days].astype(np.float64)).reshape(days.size, -1)
        self.kappa_ = np.exp([np.median(self._grid.fit(log_iv)[:, 2])])

    def _n_coordinates(self, history: xr.Dataset) -> int:
        return self._width()

    def _width(self) -> int:
        return LOW.size

    def _limits(self) -> tuple[FloatArray, FloatArray]:
        return LOW, HIGH

    @property
    def _grid(self) -> HestonGrid:
        grid = self._quadrature
        if grid is None or grid.tau is not self.tau_ or grid.moneyness is not self.moneyness_:
            grid = self._quadrature = HestonGrid(self.tau_, self.moneyness_)
        return grid

    def _calibrate(self, log_iv: FloatArray) -> FloatArray:
        return self._grid.fit(log_iv, float(self.kappa_[0]))

    def _log_surface(self, coordinate: FloatArray) -> FloatArray:
        return self._grid.log_vols(coordinate)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return super()._shapes() | {"kappa": (1,)}

    def _natural(self, coordinate: FloatArray) -> dict[str, FloatArray]:
        positive = np.exp(coordinate[:, :4])
        return {
            "v0": positive[:, 0],
            "theta": positive[:, 1],
            "kappa": positive[:, 2],
            "xi": positive[:, 3],
            "rho": np.tanh(coordinate[:, 4]),
        }

    def __getstate__(self) -> dict[str, Any]:
        """Copies and processes start without what can be computed again."""
        return super().__getstate__() | {"_quadrature": None}

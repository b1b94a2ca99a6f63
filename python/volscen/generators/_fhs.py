"""Filtered historical simulation: past shocks, each divided by its day's volatility, at today's volatility."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._numbers import bounded_number, whole_number
from volscen.errors import FitError, InputError
from volscen.generators._base import FloatArray, Generator
from volscen.generators._stillness import STILL
from volscen.generators._variance_filter import (
    CAP,
    FILTER_WINDOW,
    FLOOR,
    ewma_coefficients,
    filter_variance,
    fit_garch,
    next_variance,
)
from volscen.history import State

__all__ = ["FilteredHistorical"]

# Days at the start of the sample whose filtered variance still leans on the variance of the whole sample.
_BURN_IN = 60


class FilteredHistorical(Generator):
    """Filtered historical simulation of the return and of the log-vol increment of every cell.

    Parameters
    ----------
    scale : {"ewma", "garch"}
        Variance filter of every series: exponentially weighted with ``decay``, or GARCH(1,1) fitted by quasi
        maximum likelihood (package ``arch``, ``volscen[garch]``).
    decay : float
        Of the exponential weights, in (0, 1); 0.94 is RiskMetrics' for daily data. Unused with GARCH.
    residual_days : int, optional
        Draw from the last ``residual_days`` days; all days when omitted.

    Notes
    -----
    Series x (return, cells) has variance v_t = omega + alpha x_{t-1}^2 + beta v_{t-1}, with omega = 0,
    alpha = 1 - decay, beta = decay for "ewma". One past day is drawn and its x / sqrt(v), all series together,
    multiply the current sqrt(v): the dependence between series is that day's, their scale is today's. Along a
    path every drawn x moves v on, up to the largest v of the days fitted on, or the starting state's where that is
    larger: nothing else would stop a variance that large shocks keep feeding. Means are not modelled.

    References
    ----------
    Barone-Adesi, G., Giannopoulos, K. and Vosper, L. (1999). VaR without correlations for portfolios of
    derivative securities. Journal of Futures Markets 19(5), 583-602.

    Examples
    --------
    >>> import volscen
    >>> model = volscen.fit(volscen.datasets.sample_history(), "fhs", residual_days=500)
    >>> model.arrays()["residual"].shape  # the return and 8 x 10 cells
    (500, 81)
    """

    name: ClassVar[str] = "fhs"
    _SCALES_DAYS: ClassVar[bool] = True
    n_returns: int = FILTER_WINDOW
    n_surfaces: int = FILTER_WINDOW + 1

    variance_: FloatArray
    largest_: FloatArray
    coefficients_: FloatArray
    residual_: FloatArray

    def __init__(
        self, scale: Literal["ewma", "garch"] = "ewma", decay: float = 0.94, residual_days: int | None = None
    ) -> None:
        if scale not in ("ewma", "garch"):
            raise InputError(f"scale must be 'ewma' or 'garch', not {scale!r}")
        decay = bounded_number("decay", decay, 0, 1)
        if residual_days is not None:
            residual_days = whole_number("residual_days", residual_days, least=50)
        self.scale = scale
        self.decay = decay
        self.residual_days = residual_days

    def fit(self, history: xr.Dataset) -> Self:
        """Fit the filters and collect the standardised days."""
        self._check_history(history, FILTER_WINDOW + 1)
        x = _moves(history)
        variance = np.mean(x**2, axis=0)
        if np.any(variance <= STILL**2):
            raise FitError("history has a cell or return that never changes; it has no scale to filter")
        coefficients = ewma_coefficients(x.shape[1], self.decay) if self.scale == "ewma" else fit_garch(x, variance)
        self.variance_, self.coefficients_ = variance, coefficients
        self.largest_ = self._filter(x)[_BURN_IN:].max(axis=0)
        self._remember(history)
        return self.update(history)

    def update(self, history: xr.Dataset) -> Self:
        """Filter ``history`` and draw from its days from now on; the filters' coefficients and bounds stay."""
        self._check_update(history, FILTER_WINDOW + 1)
        x = _moves(history)
        variance = self._filter(x)[:-1]  # the last one is tomorrow's
        residual = (x / np.sqrt(variance))[_BURN_IN:]
        # Half the size on disk; the rounding is far below sampling noise.
        self.residual_ = residual[-self.residual_days if self.residual_days else 0 :].astype(np.float32)
        return self

    # ----------------------------------------------------------------------------------------- the law
    def _next_variance(self, x: FloatArray, variance: FloatArray, largest: FloatArray) -> FloatArray:
        return np.minimum(next_variance(x, variance, self.variance_, self.coefficients_), largest)

    def _filter(self, x: FloatArray) -> FloatArray:
        """Variance of each day given the days before, one row more than x: (T + 1, series)."""
        return filter_variance(x, self.variance_, self.coefficients_)

    def _starting_variance(self, state: State) -> FloatArray:
        log_iv = state.log_iv[-(FILTER_WINDOW + 1) :].reshape(FILTER_WINDOW + 1, -1)
        moves = np.column_stack([state.log_return[-FILTER_WINDOW:], np.diff(log_iv, axis=0)])
        return np.asarray(self._filter(moves)[-1])

    def sample(self, state: State, n: int, horizon: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw n paths; the variances are filtered up to the state and carried on along each path.

        See :meth:`Generator.sample`.
        """
        n_cells = self.tau_.size * self.moneyness_.size
        log_return = np.empty((n, horizon))
        log_iv = np.empty((n, horizon, n_cells))
        start = self._starting_variance(state)
        # Today's variance is what it is, unseen or not; only what is simulated is held to what has been seen.
        largest = np.maximum(self.largest_, start)
        variance = np.broadcast_to(start, (n, n_cells + 1))
        level = np.broadcast_to(state.log_iv[-1].ravel(), (n, n_cells))
        for step in range(horizon):
            x = self._draw(variance, rng)
            level = level + x[:, 1:]
            log_return[:, step], log_iv[:, step] = x[:, 0], level
            if step + 1 < horizon:
                variance = self._next_variance(x, variance, largest)
        np.exp(log_iv, out=log_iv)
        return log_return, log_iv.reshape(n, horizon, self.tau_.size, self.moneyness_.size)

    def _draw(self, variance: FloatArray, rng: np.random.Generator) -> FloatArray:
        day = rng.integers(self.residual_.shape[0], size=variance.shape[0])
        return np.asarray(np.sqrt(variance) * self.residual_[day])

    def is_outside(self, state: State) -> bool:
        """Whether a variance of the starting state is larger than any fitted on, or was cut at 1/10,000 of the mean.

        Larger ones are used as they are, up to 100 times the sample's, but grow no further along paths.
        """
        v = self._starting_variance(state)
        return bool(np.any((v > self.largest_) | (v >= CAP * self.variance_) | (v <= FLOOR * self.variance_)))

    # ----------------------------------------------------------------------------------------- keeping
    def parameters(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"scale": self.scale, "decay": self.decay, "residual_days": self.residual_days}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Sample and largest variances, filter coefficients (omega, alpha, beta), standardised days; return first."""
        return {
            "variance": self.variance_,
            "largest": self.largest_,
            "coefficients": self.coefficients_,
            "residual": self.residual_,
        }

    def _restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        self.variance_, self.coefficients_ = arrays["variance"], arrays["coefficients"]
        self.largest_, self.residual_ = arrays["largest"], arrays["residual"]
        n_series = 1 + self.tau_.size * self.moneyness_.size
        shapes = self.residual_.shape[1:], self.coefficients_.shape, self.largest_.shape
        if shapes != ((n_series,), (n_series, 3), (n_series,)):
            raise ValueError("residual, coefficients and the grid do not fit together")


def _moves(history: xr.Dataset) -> FloatArray:
    """Return and log-vol increments: (T - 1, 1 + cells)."""
    log_iv = np.log(history["implied_vol"].values.astype(np.float64)).reshape(history.sizes["date"], -1)
    return np.column_stack([history["log_return"].values[1:].astype(np.float64), np.diff(log_iv, axis=0)])

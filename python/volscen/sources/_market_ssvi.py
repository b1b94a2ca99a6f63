"""Two-factor SSVI markets with heavy-tailed shocks, leverage and state-dependent vol-of-vol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from volscen.sources._market import DAYS_A_YEAR, FloatArray, Market

__all__ = ["SSVIMarket"]

_DEGREES_OF_FREEDOM = 5
# Shocks of the return, log short variance, log long variance and skew.
_CORRELATION = np.array(
    [[1.0, -0.78, -0.70, 0.25], [-0.78, 1.0, 0.80, -0.2], [-0.70, 0.80, 1.0, -0.1], [0.25, -0.2, -0.1, 1.0]]
)
_CHOLESKY = np.linalg.cholesky(_CORRELATION)


@dataclass(frozen=True)
class SSVIMarket(Market):
    """Market whose state is (log short variance x, log long variance y, skew s).

    Attributes
    ----------
    tau : tuple of float
        Times to expiry in years.
    moneyness : tuple of float
        K/F.
    noise : float
        Standard deviation of the observation noise of each cell's log implied vol.
    name : str
        As in :data:`MARKETS`.

    Examples
    --------
    >>> from volscen.sources.simulate import SSVIMarket
    >>> SSVIMarket((0.25, 0.5), (0.9, 1.0, 1.1), noise=0.0).initial_state[2]
    -0.9
    """

    description: ClassVar[str] = "SSVI two-factor"
    factors: ClassVar[tuple[str, ...]] = ("log_short_variance", "log_long_variance", "skew")

    @property
    def initial_state(self) -> tuple[float, ...]:
        """State of the first date."""
        return float(np.log(0.035)), float(np.log(0.045)), -0.9

    def surface(self, state: FloatArray) -> FloatArray:
        """SSVI implied vols of states, without noise.

        Parameters
        ----------
        state : ndarray, shape (n, 3)

        Returns
        -------
        ndarray, shape (n, tau, moneyness)

        Notes
        -----
        Gatheral and Jacquier (2014), power-law parametrisation; eta (1 + abs(rho)) < 2 keeps every slice free
        of butterfly arbitrage.
        """
        tau = np.asarray(self.tau)[None, :, None]
        k = np.log(self.moneyness)[None, None, :]
        v0, v_inf = np.exp(state[:, 0, None, None]), np.exp(state[:, 1, None, None])
        rho = np.tanh(state[:, 2, None, None])
        theta = tau * (v_inf + (v0 - v_inf) * -np.expm1(-2.5 * tau) / (2.5 * tau))
        eta = np.minimum(1.3, 1.98 / (1 + np.abs(rho)))
        phi = eta / np.sqrt(theta * (1 + theta))
        w = 0.5 * theta * (1 + rho * phi * k + np.sqrt((phi * k + rho) ** 2 + 1 - rho**2))
        return np.asarray(np.sqrt(w / tau))

    def step(self, state: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw the next day from the true law.

        Parameters
        ----------
        state : ndarray, shape (n, 3)
        rng : numpy.random.Generator

        Returns
        -------
        log_return : ndarray, shape (n,)
        next_state : ndarray, shape (n, 3)
        """
        n = state.shape[0]
        nu = _DEGREES_OF_FREEDOM
        z = (rng.standard_normal((n, 4)) @ _CHOLESKY.T) * np.sqrt((nu - 2) / rng.chisquare(nu, n))[:, None]
        x, y, s = state.T
        vol_of_vol = np.exp(0.5 * np.clip(x - np.log(0.03), -1.5, 1.5))
        log_return = 0.0002 + 0.85 * np.exp(x / 2) / np.sqrt(DAYS_A_YEAR) * z[:, 0]
        x_next = np.clip(x + 0.012 * (np.log(0.03) - x) + 0.10 * vol_of_vol * z[:, 1], np.log(0.006), np.log(0.8))
        y_next = np.clip(y + 0.01 * (np.log(0.045) - y) + 0.03 * vol_of_vol * z[:, 2], np.log(0.012), np.log(0.4))
        s_next = s + 0.03 * (-0.9 - s) + 0.03 * z[:, 3]
        return log_return, np.stack([x_next, y_next, s_next], axis=1)

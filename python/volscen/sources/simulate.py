"""Simulated markets with a known law: everything here is made up, and says so.

A two-factor SSVI market with heavy-tailed shocks, leverage and state-dependent vol-of-vol. Because the law
is known, so is the best forecast (the oracle), against which generators can be measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.errors import InputError
from volscen.history import make_history
from volscen.schema import check_grid

__all__ = ["MARKETS", "SSVIMarket", "simulate_market"]

FloatArray = npt.NDArray[np.float64]

_DEGREES_OF_FREEDOM = 5
# Shocks of the return, log short variance, log long variance and skew.
_CORRELATION = np.array(
    [[1.0, -0.78, -0.70, 0.25], [-0.78, 1.0, 0.80, -0.2], [-0.70, 0.80, 1.0, -0.1], [0.25, -0.2, -0.1, 1.0]]
)
_CHOLESKY = np.linalg.cholesky(_CORRELATION)
_DAYS_A_YEAR = 252


@dataclass(frozen=True)
class SSVIMarket:
    """Market whose state is (log short variance x, log long variance y, skew s).

    Attributes
    ----------
    tau : tuple of float
        Times to expiry in years.
    moneyness : tuple of float
        K/F.
    noise : float
        Standard deviation of the observation noise of each cell's log implied vol.
    """

    tau: tuple[float, ...]
    moneyness: tuple[float, ...]
    noise: float

    initial_state = (float(np.log(0.035)), float(np.log(0.045)), -0.9)

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
        log_return = 0.0002 + 0.85 * np.exp(x / 2) / np.sqrt(_DAYS_A_YEAR) * z[:, 0]
        x_next = np.clip(x + 0.012 * (np.log(0.03) - x) + 0.10 * vol_of_vol * z[:, 1], np.log(0.006), np.log(0.8))
        y_next = np.clip(y + 0.01 * (np.log(0.045) - y) + 0.03 * vol_of_vol * z[:, 2], np.log(0.012), np.log(0.4))
        s_next = s + 0.03 * (-0.9 - s) + 0.03 * z[:, 3]
        return log_return, np.stack([x_next, y_next, s_next], axis=1)

    def observe(self, state: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Surfaces of states with observation noise, shape (n, tau, moneyness)."""
        clean = self.surface(state)
        return np.asarray(clean * np.exp(self.noise * rng.standard_normal(clean.shape)))

    def sample(self, state: npt.ArrayLike, n: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw n outcomes of the next day given the true state: the oracle.

        Returns
        -------
        log_return : ndarray, shape (n,)
        implied_vol : ndarray, shape (n, tau, moneyness)
        """
        start = np.broadcast_to(np.asarray(state, dtype=np.float64), (n, 3))
        log_return, after = self.step(start, rng)
        return log_return, self.observe(after, rng)


def _days(*days: int) -> tuple[float, ...]:
    return tuple(d / 365 for d in days)


_GRID_M = tuple(np.linspace(0.6, 1.4, 10).tolist())
_SHORT_TO_YEAR = (1 / 252, 1 / 52, 2 / 52, 1 / 12, 1 / 6, 1 / 4, 1 / 2, 1.0)

#: A: 30 days to a year, little noise. B: one day to a year, noisy. C: B on a fine strike grid with noise large
#: enough that static arbitrage binds.
MARKETS: dict[str, SSVIMarket] = {
    "A": SSVIMarket(_days(30, 60, 91, 122, 152, 182, 273, 365), _GRID_M, 0.001),
    "B": SSVIMarket(_SHORT_TO_YEAR, _GRID_M, 0.01),
    "C": SSVIMarket(_SHORT_TO_YEAR, tuple(np.linspace(0.6, 1.4, 25).tolist()), 0.03),
}


def simulate_market(
    market: str | SSVIMarket = "A",
    n_days: int = 1000,
    *,
    seed: int | np.random.Generator | None = None,
    start: str = "2000-01-03",
) -> xr.Dataset:
    """Simulate a history from a market with a known law.

    Parameters
    ----------
    market : {"A", "B", "C"} or SSVIMarket
        Market to simulate.
    n_days : int
        Number of dates, at least 2; the first has no return.
    seed : int, numpy.random.Generator or None
        Source of randomness; the same seed gives the same bits.
    start : str
        First date; the dates are weekdays, without holidays.

    Returns
    -------
    xarray.Dataset
        Following ``volscen/history/1``, with the true state in ``state(date, factor)``; F = S and rates
        are zero.

    Examples
    --------
    >>> from volscen.sources import simulate
    >>> history = simulate.simulate_market("A", 50, seed=1)
    >>> dict(history.sizes)
    {'date': 50, 'tau': 8, 'moneyness': 10, 'factor': 3}
    """
    if isinstance(market, str):
        if market not in MARKETS:
            raise InputError(f"market must be one of {sorted(MARKETS)} or an SSVIMarket, not {market!r}")
        law, label = MARKETS[market], f"market {market}"
    else:
        law, label = market, "a custom market"
    if n_days < 2:
        raise InputError(f"n_days must be at least 2, not {n_days}")
    tau, moneyness = check_grid(law.tau, "tau"), check_grid(law.moneyness, "moneyness")
    rng = np.random.default_rng(seed)
    states = np.empty((n_days, 3))
    states[0] = law.initial_state
    log_return = np.zeros(n_days)
    for t in range(1, n_days):
        r, after = law.step(states[t - 1 : t], rng)
        log_return[t], states[t] = r[0], after[0]
    first = np.busday_offset(np.datetime64(start, "D"), 0, roll="forward")
    history = make_history(
        np.busday_offset(first, np.arange(n_days)),
        tau,
        moneyness,
        law.observe(states, rng),
        spot=100 * np.exp(np.cumsum(log_return)),
        title="SIMULATED history of implied-volatility surfaces",
        source=f"simulated: SSVI two-factor {label}, seed {seed}; F = S and rates are zero",
        calendar="weekdays",
        periods_per_year=_DAYS_A_YEAR,
    )
    history["state"] = (
        ("date", "factor"),
        states,
        {"long_name": "true state of the simulation", "units": "1"},
    )
    return history.assign_coords(factor=["log_short_variance", "log_long_variance", "skew"])

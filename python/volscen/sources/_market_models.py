"""Markets of the textbook models: Heston, Bates, Merton and SABR, each with the true law of the next day.

Heston and Bates move under the dynamics they are priced with. Merton's and SABR's parameters are constant in theory and
recalibrated daily in practice: their volatility moves by a law of its own, and surfaces are priced at its level.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

from volscen.sources._cosine import implied_vols, put_prices
from volscen.sources._market import DAYS_A_YEAR, FloatArray, Market

__all__ = ["BatesMarket", "MertonMarket", "SABRMarket"]

ComplexArray = npt.NDArray[np.complex128]

_STEP = 1 / DAYS_A_YEAR
_NODES = 120


@dataclass(frozen=True)
class BatesMarket(Market):
    """Stochastic variance with jumps in the price; Heston's model where ``intensity`` is 0.

    Attributes
    ----------
    tau, moneyness, noise, name
        As for every market.
    reversion, mean, vol_of_variance, correlation : float
        dv = reversion (mean - v) dt + vol_of_variance sqrt(v) dW, correlation of W with the price's Brownian motion.
    intensity, jump_mean, jump_deviation : float
        Jumps a year, mean and standard deviation of the jump of the log price.
    low, high : float
        The variance is kept between them, as part of the law.

    Notes
    -----
    Heston (1993), Bates (1996). The variance of the next day is drawn from its noncentral chi-square law; the return
    given both variances is Gaussian with their average as the integrated variance (Andersen 2008, the central
    scheme), plus compound Poisson jumps. Prices by Fourier-cosine series, tabulated in the log variance and splined.

    Examples
    --------
    >>> from volscen.sources.simulate import MARKETS
    >>> MARKETS["heston"].factors
    ('variance',)
    """

    reversion: float = 3.0
    mean: float = 0.04
    vol_of_variance: float = 0.45
    correlation: float = -0.7
    intensity: float = 0.0
    jump_mean: float = 0.0
    jump_deviation: float = 0.0
    low: float = 0.008
    high: float = 0.5

    description: ClassVar[str] = "Bates"
    factors: ClassVar[tuple[str, ...]] = ("variance",)

    @property
    def initial_state(self) -> tuple[float, ...]:
        """The mean variance."""
        return (self.mean,)

    def surface(self, state: FloatArray) -> FloatArray:
        """Implied vols of variances (n, 1), without noise."""
        log_variance = np.log(np.clip(state[:, 0], self.low, self.high))
        return np.asarray(np.exp(_bates_spline(self)(log_variance)))

    def step(self, state: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw the next day: log returns (n,) and variances (n, 1)."""
        v, n = state[:, 0], len(state)
        kappa, xi, rho = self.reversion, self.vol_of_variance, self.correlation
        decay = np.exp(-kappa * _STEP)
        scale = xi**2 * (1 - decay) / (4 * kappa)
        after = scale * rng.noncentral_chisquare(4 * kappa * self.mean / xi**2, v * decay / scale)
        integral = _STEP * (v + after) / 2
        with_variance = rho / xi * (after - v - kappa * self.mean * _STEP + kappa * integral)
        jumps = rng.poisson(self.intensity * _STEP, n)
        jump = self.jump_mean * jumps + self.jump_deviation * np.sqrt(jumps) * rng.standard_normal(n)
        own = np.sqrt((1 - rho**2) * integral) * rng.standard_normal(n)
        log_return = -0.5 * integral - self.intensity * self._compensator * _STEP + with_variance + own + jump
        return log_return, np.clip(after, self.low, self.high)[:, None]

    @property
    def _compensator(self) -> float:
        return float(np.exp(self.jump_mean + 0.5 * self.jump_deviation**2) - 1)

    def characteristic(self, u: FloatArray, variance: FloatArray, tau: float) -> ComplexArray:
        """E exp(i u ln(S_T/F)) of frequencies (terms,) from variances (n,): (n, terms)."""
        kappa, xi, rho = self.reversion, self.vol_of_variance, self.correlation
        # The branch that stays continuous in u (Albrecher, Mayer, Schoutens and Tistaert 2007).
        beta = kappa - 1j * rho * xi * u
        d = np.sqrt(beta**2 + xi**2 * (1j * u + u**2))
        g = (beta - d) / (beta + d)
        decay = np.exp(-d * tau)
        b = (beta - d) / xi**2 * (1 - decay) / (1 - g * decay)
        a = kappa * self.mean / xi**2 * ((beta - d) * tau - 2 * np.log((1 - g * decay) / (1 - g)))
        a = a + _jump_exponent(u, tau, self.intensity, self.jump_mean, self.jump_deviation)
        return np.asarray(np.exp(a + b * variance[:, None]))


@lru_cache(maxsize=16)
def _bates_spline(market: BatesMarket) -> CubicSpline:
    variance = np.exp(np.linspace(np.log(market.low), np.log(market.high), _NODES))
    m = np.asarray(market.moneyness)
    table = np.empty((_NODES, len(market.tau), m.size))
    # The long-run variance and its vol widen the law; jumps besides.
    jump = market.intensity * (market.jump_mean**2 + market.jump_deviation**2)
    for j, tau in enumerate(market.tau):
        spread = 1 + market.vol_of_variance * np.sqrt(tau / (4 * market.mean))
        deviation = np.sqrt((np.maximum(variance, market.mean) + jump) * tau) * spread
        # Node by node in the width: calm laws must not be read off the grid of stormy ones.
        for part in np.array_split(np.arange(_NODES), 12):
            characteristic = partial(market.characteristic, variance=variance[part], tau=tau)
            put = put_prices(characteristic, deviation[part], m)
            table[part, j] = np.log(implied_vols(put, tau, m, f"market {market.name}"))
    return CubicSpline(np.log(variance), table)


def _jump_exponent(u: FloatArray, tau: float, intensity: float, mean: float, deviation: float) -> ComplexArray:
    transform = np.exp(1j * u * mean - 0.5 * deviation**2 * u**2) - 1
    compensator = np.exp(mean + 0.5 * deviation**2) - 1
    return np.asarray(intensity * tau * (transform - 1j * u * compensator))


@dataclass(frozen=True)
class MertonMarket(Market):
    """Jump diffusion of Merton (1976) whose diffusive variance is recalibrated: its log follows an autoregression.

    Attributes
    ----------
    tau, moneyness, noise, name
        As for every market.
    intensity, jump_mean, jump_deviation : float
        Jumps a year, mean and standard deviation of the jump of the log price.
    mean, persistence, deviation, correlation : float
        The log variance x: x' - ln mean = persistence (x - ln mean) + deviation z, with z correlated with the
        diffusive part of the return.

    Examples
    --------
    >>> from volscen.sources.simulate import MARKETS
    >>> MARKETS["merton"].factors
    ('log_variance',)
    """

    intensity: float = 1.0
    jump_mean: float = -0.08
    jump_deviation: float = 0.08
    mean: float = 0.02
    persistence: float = 0.985
    deviation: float = 0.07
    correlation: float = -0.6

    description: ClassVar[str] = "Merton"
    factors: ClassVar[tuple[str, ...]] = ("log_variance",)

    @property
    def initial_state(self) -> tuple[float, ...]:
        """The mean log variance."""
        return (float(np.log(self.mean)),)

    def _bounds(self) -> tuple[float, float]:
        centre, spread = np.log(self.mean), self.deviation / np.sqrt(1 - self.persistence**2)
        return float(centre - 4 * spread), float(centre + 4 * spread)

    def surface(self, state: FloatArray) -> FloatArray:
        """Implied vols of log variances (n, 1), without noise."""
        return np.asarray(np.exp(_merton_spline(self)(np.clip(state[:, 0], *self._bounds()))))

    def step(self, state: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw the next day: log returns (n,) and log variances (n, 1), kept within four standard deviations."""
        x, n = state[:, 0], len(state)
        z = rng.standard_normal((n, 2))
        jumps = rng.poisson(self.intensity * _STEP, n)
        jump = self.jump_mean * jumps + self.jump_deviation * np.sqrt(jumps) * rng.standard_normal(n)
        compensator = np.exp(self.jump_mean + 0.5 * self.jump_deviation**2) - 1
        variance = np.exp(x) * _STEP
        log_return = -0.5 * variance - self.intensity * compensator * _STEP + np.sqrt(variance) * z[:, 0] + jump
        shock = self.correlation * z[:, 0] + np.sqrt(1 - self.correlation**2) * z[:, 1]
        after = np.log(self.mean) + self.persistence * (x - np.log(self.mean)) + self.deviation * shock
        return log_return, np.clip(after, *self._bounds())[:, None]


@lru_cache(maxsize=16)
def _merton_spline(market: MertonMarket) -> CubicSpline:
    x = np.linspace(*market._bounds(), _NODES)
    m, variance = np.asarray(market.moneyness), np.exp(x)
    jump = market.intensity * (market.jump_mean**2 + market.jump_deviation**2)
    table = np.empty((_NODES, len(market.tau), m.size))
    for j, tau in enumerate(market.tau):

        def characteristic(u: FloatArray, tau: float = tau) -> ComplexArray:
            diffusion = -0.5 * variance[:, None] * tau * (u**2 + 1j * u)
            jumps = _jump_exponent(u, tau, market.intensity, market.jump_mean, market.jump_deviation)
            return np.asarray(np.exp(diffusion + jumps))

        # A single jump may exceed the standard deviation of a month.
        deviation = np.sqrt((variance + jump) * tau) + abs(market.jump_mean) / 4 + market.jump_deviation / 2
        put = put_prices(characteristic, deviation, m)
        table[:, j] = np.log(implied_vols(put, tau, m, f"market {market.name}"))
    return CubicSpline(x, table)


@dataclass(frozen=True)
class SABRMarket(Market):
    """SABR with beta 1, recalibrated: log alpha and the skew parameter follow autoregressions.

    Attributes
    ----------
    tau, moneyness, noise, name
        As for every market.
    vol_of_vol : float
        nu of the smile, a year.
    mean, persistence, deviation : float
        Log alpha x: x' - ln mean = persistence (x - ln mean) + deviation z.
    skew_mean, skew_persistence, skew_deviation : float
        Of s with rho = tanh(s), likewise.
    correlation : float
        Of z with the return's shock; shocks of the skew are independent.

    Notes
    -----
    Smiles by Hagan, Kumar, Lesniewski and Woodward (2002), equation (2.17) at beta = 1.

    Examples
    --------
    >>> from volscen.sources.simulate import MARKETS
    >>> MARKETS["sabr"].factors
    ('log_alpha', 'skew')
    """

    vol_of_vol: float = 0.9
    mean: float = 0.18
    persistence: float = 0.985
    deviation: float = 0.045
    skew_mean: float = -0.6
    skew_persistence: float = 0.97
    skew_deviation: float = 0.03
    correlation: float = -0.75

    description: ClassVar[str] = "SABR"
    factors: ClassVar[tuple[str, ...]] = ("log_alpha", "skew")

    @property
    def initial_state(self) -> tuple[float, ...]:
        """The mean state."""
        return float(np.log(self.mean)), self.skew_mean

    def surface(self, state: FloatArray) -> FloatArray:
        """Implied vols of states (n, 2), without noise."""
        alpha, rho = np.exp(state[:, 0, None, None]), np.tanh(state[:, 1, None, None])
        tau, nu = np.asarray(self.tau)[:, None], self.vol_of_vol
        z = -nu / alpha * np.log(np.asarray(self.moneyness))
        chi = np.log((np.sqrt(1 - 2 * rho * z + z**2) + z - rho) / (1 - rho))
        # z / chi(z) -> 1 - rho z / 2 at the money
        near = np.abs(z) < 1e-7
        ratio = np.where(near, 1 - 0.5 * rho * z, z / np.where(near, 1.0, chi))
        time = 1 + (0.25 * rho * nu * alpha + (2 - 3 * rho**2) / 24 * nu**2) * tau
        return np.asarray(alpha * ratio * time)

    def step(self, state: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw the next day: log returns (n,) and states (n, 2)."""
        z = rng.standard_normal((len(state), 3))
        x, s = state.T
        variance = np.exp(2 * x) * _STEP
        log_return = -0.5 * variance + np.sqrt(variance) * z[:, 0]
        shock = self.correlation * z[:, 0] + np.sqrt(1 - self.correlation**2) * z[:, 1]
        after = np.log(self.mean) + self.persistence * (x - np.log(self.mean)) + self.deviation * shock
        skew = self.skew_mean + self.skew_persistence * (s - self.skew_mean) + self.skew_deviation * z[:, 2]
        return log_return, np.stack([after, skew], axis=1)

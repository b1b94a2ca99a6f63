"""Families of smiles: random surfaces of total variance, with the parameters that markets show.

Each family draws its parameters before it looks at the grid, so the same draw gives the same surface on any grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from volscen import black
from volscen.errors import InputError
from volscen.sources._contour import HestonParameters, heston_prices

__all__ = ["FAMILIES", "Family", "hagan_vol", "merton_prices"]

FloatArray = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True)
class Family:
    """A family of smiles.

    Attributes
    ----------
    share : float
        Part of the default mixture.
    draw : callable
        (rng, n, tau (J,), log_moneyness (I,)) -> total variance (n, J, I).
    """

    share: float
    draw: Draw


def _log_uniform(rng: np.random.Generator, low: float, high: float, n: int) -> FloatArray:
    return np.asarray(np.exp(rng.uniform(np.log(low), np.log(high), n)))


@dataclass(frozen=True)
class _Term:
    """Variance at the money: a variance reverting to its mean, plus a lump due at once (figures, a vote)."""

    start: FloatArray
    mean: FloatArray
    reversion: FloatArray
    lump: FloatArray

    def total(self, tau: FloatArray) -> FloatArray:
        """Total variance, (n, J)."""
        speed = self.reversion[:, None]
        relax = -np.expm1(-speed * tau) / speed
        return np.asarray(self.lump[:, None] + self.mean[:, None] * (tau - relax) + self.start[:, None] * relax)


#: Median and log-deviation of the long-run vol, chance of a lump of variance, bounds of the skew's correlation: of
#: an equity index, a single stock, a currency pair; and how often each comes.
_ASSETS = np.array([[0.20, 0.30, 0.20, -0.92, -0.35], [0.33, 0.40, 0.50, -0.75, 0.05], [0.11, 0.30, 0.20, -0.45, 0.45]])
_ASSET_SHARES = (0.45, 0.40, 0.15)


def _assets(rng: np.random.Generator, n: int) -> FloatArray:
    return np.asarray(_ASSETS[rng.choice(3, n, p=_ASSET_SHARES)])


def _term(rng: np.random.Generator, asset: FloatArray) -> _Term:
    """Term structures: short vols 0.5 to 2 times the long, reverting within a month to two years."""
    n = len(asset)
    long = np.clip(asset[:, 0] * np.exp(asset[:, 1] * rng.standard_normal(n)), 0.06, 1.0)
    short = np.clip(long * np.exp(0.35 * rng.standard_normal(n)), 0.06, 1.5)
    reversion = _log_uniform(rng, 0.4, 8.0, n)
    lump = np.where(rng.random(n) < asset[:, 2], _log_uniform(rng, 0.02, 0.20, n) ** 2, 0.0)
    return _Term(short**2, long**2, reversion, lump)


def ssvi(rng: np.random.Generator, n: int, tau: FloatArray, k: FloatArray) -> FloatArray:
    """SSVI with a power law (Gatheral and Jacquier 2014), skews that may drift with the maturity (eSSVI), wide.

    Long vols 6 to 60%, lumps of variance in six of ten, correlations -0.95 to 0.3; at a total variance of 0.04,
    phi sqrt(theta (1 + abs(rho))) is 0.08 to 1.2 times what Gatheral and Jacquier's theorem 4.2 allows.
    """
    long = _log_uniform(rng, 0.06, 0.60, n)
    short = np.clip(long * np.exp(0.4 * rng.standard_normal(n)), 0.05, 1.5)
    lump = np.where(rng.random(n) < 0.6, _log_uniform(rng, 0.02, 0.23, n) ** 2, 0.0)
    theta = _Term(short**2, long**2, _log_uniform(rng, 0.3, 8.0, n), lump).total(tau)
    rho = rng.triangular(-0.95, -0.5, 0.3, n)
    drift = np.where(rng.random(n) < 0.4, rng.uniform(-0.2, 0.2, n), 0.0)
    speed = _log_uniform(rng, 0.5, 5.0, n)
    slopes = np.clip(rho[:, None] + drift[:, None] * np.exp(-speed[:, None] * tau), -0.97, 0.97)
    smile = 2 * _log_uniform(rng, 0.08, 1.2, n) / np.sqrt(0.04 * (1 + np.abs(rho)))
    power = rng.uniform(0.08, 0.80, n)
    phi = smile[:, None] * (theta / 0.04) ** -power[:, None]
    theta, rho2, z = theta[..., None], slopes[..., None], phi[..., None] * k
    return np.asarray(0.5 * theta * (1 + rho2 * z + np.sqrt((z + rho2) ** 2 + 1 - rho2**2)))


def sabr(rng: np.random.Generator, n: int, tau: FloatArray, k: FloatArray) -> FloatArray:
    """SABR smiles calibrated maturity by maturity (Hagan, Kumar, Lesniewski and Woodward 2002, equation (2.17)).

    Vol of vol 0.25 to 1.2 at a year and falling as tau^-0.2 to tau^-0.55, as calibrations find; beta 0.4 to 1.
    """
    asset = _assets(rng, n)
    alpha = np.sqrt(_term(rng, asset).total(tau) / tau)[..., None]
    rho0, rho1 = (rng.uniform(asset[:, 3], asset[:, 4]) for _ in range(2))
    # Correlations of one surface differ little between maturities.
    end = 0.75 * rho0 + 0.25 * rho1
    rho = (end[:, None] + (rho0 - end)[:, None] * np.exp(-2 * tau))[..., None]
    nu = (_log_uniform(rng, 0.25, 1.2, n)[:, None] * tau ** -rng.uniform(0.2, 0.55, n)[:, None])[..., None]
    beta = np.where(rng.random(n) < 0.5, 1.0, rng.uniform(0.4, 1.0, n))[:, None, None]
    return np.asarray(hagan_vol(alpha, beta, nu, rho, tau[:, None], k) ** 2 * tau[:, None])


def hagan_vol(
    alpha: FloatArray, beta: FloatArray, nu: FloatArray, rho: FloatArray, tau: FloatArray, k: FloatArray
) -> FloatArray:
    """Implied vols of SABR at a forward of 1, equation (2.17a) of Hagan and others (2002); operands broadcast."""
    rest = 1 - beta
    middle = np.exp(rest * k / 2)  # (f K)^((1 - beta)/2)
    z = -nu / alpha * middle * k
    chi = np.log((np.sqrt(1 - 2 * rho * z + z * z) + z - rho) / (1 - rho))
    # z / chi(z) -> 1 - rho z / 2 at the money
    near = np.abs(z) < 1e-7
    ratio = np.where(near, 1 - 0.5 * rho * z, z / np.where(near, 1.0, chi))
    bend = middle * (1 + (rest * k) ** 2 / 24 + (rest * k) ** 4 / 1920)
    growth = (rest * alpha / middle) ** 2 / 24 + 0.25 * rho * beta * nu * alpha / middle + (2 - 3 * rho**2) / 24 * nu**2
    return np.asarray(alpha / bend * ratio * (1 + growth * tau))


def svi(rng: np.random.Generator, n: int, tau: FloatArray, k: FloatArray) -> FloatArray:
    """Raw-SVI slices (Gatheral 2004) whose parameters follow powers of the variance at the money.

    In units of sqrt(theta): slope b of 0.15 to 0.9, a minimum 1.2 to either side, rounded over 0.2 to 3. Lee's bound
    b (1 + abs(rho)) < 2 holds, and the least variance is a tenth of that at the money or more.
    """
    asset = _assets(rng, n)
    term = _term(rng, asset)
    theta = term.total(tau)
    unit = np.sqrt(theta)
    size = theta / term.total(np.ones(1))

    def power(values: FloatArray, spread: float) -> FloatArray:
        return np.asarray(values[:, None] * size ** (spread * rng.uniform(-1, 1, n))[:, None])

    rho = np.clip(rng.uniform(asset[:, 3], asset[:, 4]), -0.9, 0.9)[:, None]
    m = power(np.clip(0.4 * rng.standard_normal(n) - 0.3 * rho[:, 0], -1.2, 1.2), 0.3) * unit
    sigma = power(_log_uniform(rng, 0.2, 3.0, n), 0.3) * unit
    b = power(_log_uniform(rng, 0.15, 0.9, n), 0.2) * unit
    b = np.minimum(b, 1.9 / (1 + np.abs(rho)))
    rise = np.hypot(m, sigma) - rho * m - sigma * np.sqrt(1 - rho**2)
    b = np.minimum(b, 0.9 * theta / np.maximum(rise, 1e-12))
    a = theta - b * (np.hypot(m, sigma) - rho * m)
    a, b, m, sigma, rho = (x[..., None] for x in (a, b, m, sigma, rho))
    return np.asarray(a + b * (rho * (k - m) + np.hypot(k - m, sigma)))


#: Bounds of the mean jump of the log price, by asset.
_JUMPS = {-0.92: (-0.25, 0.0), -0.75: (-0.20, 0.08), -0.45: (-0.06, 0.06)}


def merton(rng: np.random.Generator, n: int, tau: FloatArray, k: FloatArray) -> FloatArray:
    """Merton's jump diffusion (1976) with a term structure of the diffusive variance: his mixture, summed exactly.

    0.1 to 4 jumps a year, on average -25 to 8%, with a deviation of 2 to 20%; the diffusion has the family's variance
    at the money less what jumps bring, and half of it at least.
    """
    asset = _assets(rng, n)
    term = _term(rng, asset)
    intensity = _log_uniform(rng, 0.1, 4.0, n)
    bounds = np.array([_JUMPS[float(low)] for low in asset[:, 3]]).reshape(n, 2)
    mean = rng.uniform(bounds[:, 0], bounds[:, 1])
    deviation = _log_uniform(rng, 0.02, 0.20, n)
    total = term.total(tau)
    whole = np.minimum(0.5, intensity * (mean**2 + deviation**2) / term.mean)
    # Where jumps would bring more than half of the variance there are fewer.
    intensity = whole * term.mean / (mean**2 + deviation**2)
    diffusion = total * (1 - whole)[:, None]
    price = merton_prices(diffusion, intensity, mean, deviation, tau, k)
    return _total_variance(price, k, tau, "merton")


def merton_prices(
    diffusion: FloatArray,
    intensity: FloatArray,
    mean: FloatArray,
    deviation: FloatArray,
    tau: FloatArray,
    k: FloatArray,
) -> FloatArray:
    """Out-of-the-money prices (n, J, I) per unit of forward, of total diffusive variances (n, J) and jumps (n,).

    Merton (1976), equation (19): Black's prices given the number of jumps, summed until nothing is left.
    """
    growth = np.exp(mean + 0.5 * deviation**2)
    expected = (intensity * growth)[:, None] * tau
    most = float(expected.max())
    price = np.zeros((mean.size, tau.size, k.size))
    for jumps in range(int(np.ceil(most + 10 * np.sqrt(most) + 14))):
        weight = np.exp(jumps * np.log(expected) - expected - gammaln(jumps + 1))
        forward = np.exp(jumps * np.log(growth)[:, None] - (intensity * (growth - 1))[:, None] * tau)
        width = np.sqrt(diffusion + jumps * (deviation**2)[:, None])
        # Struck in units of the forward of so many jumps: the tilted intensity weighs by forwards already.
        price += weight[..., None] * black.price(1.0, np.exp(k) / forward[..., None], 1.0, width[..., None], k >= 0)
    return price


def heston(rng: np.random.Generator, n: int, tau: FloatArray, k: FloatArray) -> FloatArray:
    """Heston's model (1993).

    Long vols of the family's assets, reversion 0.4 to 8, Feller's ratio 2 kappa theta/xi^2 from 0.15 to 3 with a vol
    of variance of at most 2.
    """
    asset = _assets(rng, n)
    term = _term(rng, asset)
    ratio = _log_uniform(rng, 0.15, 3.0, n)
    vol = np.minimum(np.sqrt(2 * term.reversion * term.mean / ratio), 2.0)
    law = HestonParameters(term.start, term.reversion, term.mean, vol, rng.uniform(asset[:, 3], asset[:, 4]))
    return _total_variance(heston_prices(law, tau, k), k, tau, "heston")


def _total_variance(price: FloatArray, k: FloatArray, tau: FloatArray, family: str) -> FloatArray:
    """Of out-of-the-money prices per unit of forward, however small."""
    vol, status = black.implied_vol(price, 1.0, np.exp(k), 1.0, k >= 0)
    bad = status != black.ImpliedVolStatus.OK
    if bad.any():
        _, row, column = (int(index[0]) for index in np.nonzero(bad))
        raise InputError(
            f"log_moneyness reaches too far for tau: some {family} smile has no price above the smallest number at "
            f"tau {tau[row]:.4g}, log-moneyness {k[column]:.4g}; narrow the strikes or drop the shortest times"
        )
    return np.asarray(vol**2)


#: In the order in which a block draws them: changing it changes every library.
FAMILIES: dict[str, Family] = {
    "ssvi": Family(0.45, ssvi),
    "sabr": Family(0.20, sabr),
    "svi": Family(0.15, svi),
    "merton": Family(0.08, merton),
    "heston": Family(0.12, heston),
}

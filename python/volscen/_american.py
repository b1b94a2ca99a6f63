"""American options on an underlying with a continuous yield: early-exercise premium and implied volatility.

The exercise boundary of a put solves an integral equation (Kim, 1990) by collocation in the root of time (Andersen,
Lake and Offengenden, 2016, "High-performance American option pricing": their system B, Chebyshev nodes for the
squared logarithm of the boundary). A call is a put with spot and strike, rate and yield exchanged (McDonald and
Schroder, 1998).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from volscen import black

__all__ = [
    "LOWEST",
    "Market",
    "PremiumCurve",
    "american_implied_vol",
    "early_exercise_premium",
    "european_implied_vol",
    "solve_vol",
]

FloatArray = npt.NDArray[np.float64]

#: Collocation points in time, quadrature points, and the most sweeps of the fixed point with its tolerance in ln B.
_N_TIMES = 10
_N_QUADRATURE = 16
_MAX_SWEEPS = 60
_TOLERANCE = 1e-6

#: Volatilities at which premiums are computed; between them they are interpolated.
_N_VOLS = 20

#: How far below the smallest European volatility the American one is looked for; most steps, and when they end.
LOWEST = 0.25
_MAX_STEPS = 60
_VOL_TOLERANCE = 1e-9

#: A price above its value under exercise by less than this part of the strike counts as equal to it.
_WORTH_WAITING = 1e-7


@dataclass(frozen=True)
class Market:
    """What options of one expiry have in common.

    Attributes
    ----------
    spot : float
    tau : float
        Years to expiry.
    rate, dividend_yield : float
        Continuously compounded, annual.
    """

    spot: float
    tau: float
    rate: float
    dividend_yield: float

    @property
    def forward(self) -> float:
        """Forward of the expiry."""
        return float(self.spot * np.exp((self.rate - self.dividend_yield) * self.tau))

    @property
    def discount_factor(self) -> float:
        """Discount factor of the expiry."""
        return float(np.exp(-self.rate * self.tau))


class PremiumCurve:
    """Premiums of American over European options of one expiry and side as a function of volatility, per strike.

    Parameters
    ----------
    strike : ndarray, shape (n,)
        In currency.
    low, high : float
        Range of volatilities, within which the premium is interpolated at Chebyshev points of the logarithm.
    is_call : bool
    market : Market
    """

    def __init__(self, strike: FloatArray, low: float, high: float, *, is_call: bool, market: Market) -> None:
        self.low = low
        middle, half = np.log(low * high) / 2, max(np.log(high / low) / 2, 1e-6)
        self._nodes = middle - half * np.cos(np.pi * np.arange(_N_VOLS) / (_N_VOLS - 1))
        self._premium = early_exercise_premium(strike, np.exp(self._nodes), is_call=is_call, market=market)

    def __call__(self, vol: FloatArray, which: npt.NDArray[np.int64] | None = None) -> FloatArray:
        """Premium at a volatility of each strike, or of those of positions ``which``; flat outside the range."""
        premium = self._premium if which is None else self._premium[:, which]
        share = _interpolation(self._nodes, np.clip(np.log(vol), self._nodes[0], self._nodes[-1]))
        return np.asarray((share * premium).sum(axis=0))


def american_implied_vol(price: FloatArray, strike: FloatArray, *, is_call: bool, market: Market) -> FloatArray:
    """Volatilities that reproduce American prices of one side.

    Parameters
    ----------
    price, strike : ndarray, shape (n,)
        In currency.
    is_call : bool
    market : Market

    Returns
    -------
    ndarray, shape (n,)
        NaN where a price is not above its value under exercise, or has no European volatility either.

    Notes
    -----
    The American price rises with volatility and lies above the European one, so its volatility lies below the one
    that the European formula gives, from where bracketed Newton steps begin.
    """
    top = european_implied_vol(price, strike, is_call=is_call, market=market)
    sound = np.isfinite(top)
    vol = np.full(price.shape, np.nan)
    if sound.any():
        low, high = LOWEST * top[sound].min(), top[sound].max()
        curve = PremiumCurve(strike[sound], low, high, is_call=is_call, market=market)
        vol[sound] = solve_vol(price[sound], strike[sound], top[sound], curve, None, is_call=is_call, market=market)
    return vol


def european_implied_vol(price: FloatArray, strike: FloatArray, *, is_call: bool, market: Market) -> FloatArray:
    """Black-76 volatilities; NaN where there is none."""
    vol, status = black.implied_vol(price, market.forward, strike, market.tau, is_call, market.discount_factor)
    sound = (status == black.ImpliedVolStatus.OK) & np.isfinite(vol) & (vol > 0)
    return np.where(sound, vol, np.nan)


def solve_vol(
    price: FloatArray,
    strike: FloatArray,
    top: FloatArray,
    curve: PremiumCurve,
    which: npt.NDArray[np.int64] | None,
    *,
    is_call: bool,
    market: Market,
) -> FloatArray:
    """Volatilities between the curve's lowest and ``top`` (the European ones); see :func:`american_implied_vol`.

    ``which`` says which of the curve's strikes these are.
    """
    forward, discount = market.forward, market.discount_factor

    def excess(vol: FloatArray) -> FloatArray:
        plain = black.price(forward, strike, market.tau, vol, is_call, discount)
        return np.asarray(plain + curve(vol, which) - price)

    below, above = np.full(top.shape, curve.low), top.copy()
    exercise = (market.spot - strike) if is_call else (strike - market.spot)
    # At its value under exercise a price is the same for a range of volatilities, which it does not tell apart.
    reachable = (excess(below) < 0) & (price - exercise > _WORTH_WAITING * strike)
    vol = top.copy()
    for _ in range(_MAX_STEPS):
        miss = excess(vol)
        above, below = np.where(miss > 0, vol, above), np.where(miss > 0, below, vol)
        slope = black.vega(forward, strike, market.tau, vol, is_call, discount)
        step = np.divide(miss, slope, out=np.full(vol.shape, np.inf), where=slope > 0)
        moved = vol - step
        moved = np.where((moved > below) & (moved < above), moved, np.sqrt(below * above))
        done = np.all(np.abs(moved - vol)[reachable] <= _VOL_TOLERANCE)
        vol = moved
        if done:
            break
    return np.where(reachable, vol, np.nan)


def early_exercise_premium(strike: FloatArray, vol: FloatArray, *, is_call: bool, market: Market) -> FloatArray:
    """American price minus European price.

    Parameters
    ----------
    strike : ndarray, shape (n,)
    vol : ndarray, shape (v,)
        Volatilities, each for all strikes.
    is_call : bool
    market : Market

    Returns
    -------
    ndarray, shape (v, n)
        Where immediate exercise is best, its value minus the European price.

    Notes
    -----
    Zero where the rate (of a put; the yield of a call) is not positive. With a negative rate above a still lower
    yield there is a second boundary, which is not treated: the premium is then understated.
    """
    r, q, spot = market.rate, market.dividend_yield, market.spot
    if is_call:  # a put on the strike, struck at the spot
        r, q, ratio, unit = q, r, strike / spot, np.full(strike.shape, spot)
    else:
        ratio, unit = spot / strike, strike
    if not r > 0:
        return np.zeros((vol.size, strike.size))
    return np.asarray(_put_premium(ratio, vol[:, None], market.tau, r, q) * unit)


def _put_premium(ratio: FloatArray, vol: FloatArray, tau: float, r: float, q: float) -> FloatArray:
    """Premium of puts struck at 1, for each vol (rows) and spot (columns)."""
    boundary, limit, time_nodes = _boundary(vol[:, 0], tau, r, q)
    y, w = _quadrature(2 * _N_QUADRATURE)
    back = tau * ((1 + y) / 2) ** 2  # time from now to an exercise, dense where the premium accrues fast
    w = w * tau * (1 + y) / 2
    at = limit * np.exp(-np.sqrt(np.maximum(boundary @ _interpolation(time_nodes, np.sqrt(tau - back)), 0)))
    sd = vol[:, :, None] * np.sqrt(back)
    z = np.log(ratio[None, :, None] / at[:, None, :])
    d_minus = (z + (r - q) * back) / sd - sd / 2
    gain = r * np.exp(-r * back) * ndtr(-d_minus)
    gain -= q * ratio[None, :, None] * np.exp(-q * back) * ndtr(-d_minus - sd)
    premium = (gain * w).sum(axis=-1)
    now = limit * np.exp(-np.sqrt(np.maximum(boundary[:, -1], 0)))
    plain = black.price(ratio * np.exp((r - q) * tau), 1.0, tau, vol, False, np.exp(-r * tau))
    exercised = ratio[None, :] <= now[:, None]
    return np.asarray(np.where(exercised, 1 - ratio - plain, np.maximum(premium, 0.0)))


def _boundary(vol: FloatArray, tau: float, r: float, q: float) -> tuple[FloatArray, float, FloatArray]:
    """Squared log of (limit / boundary) at Chebyshev points of the root of time to expiry, one row per vol.

    Returns
    -------
    squared : ndarray, shape (v, t)
    limit : float
        Boundary just before expiry.
    nodes : ndarray, shape (t,)
        Roots of time to expiry, from 0 to the root of ``tau``.
    """
    nodes = np.sqrt(tau) * (1 - np.cos(np.pi * np.arange(_N_TIMES) / (_N_TIMES - 1))) / 2
    limit = 1.0 if q <= r else r / q
    y, w = _quadrature(_N_QUADRATURE)
    t = nodes[1:] ** 2
    back = t[:, None] * ((1 + y) / 2) ** 2
    w = w * t[:, None] * (1 + y) / 2
    ahead = t[:, None] - back
    between = _interpolation(nodes, np.sqrt(ahead).reshape(-1))
    grow_r, grow_q = r * np.exp(r * ahead) * w, q * np.exp(q * ahead) * w
    sd_all, sd = vol[:, None] * np.sqrt(t), vol[:, None, None] * np.sqrt(back)
    squared = np.zeros((vol.size, _N_TIMES))
    # A start within reach: the perpetual boundary bounds the true one from below.
    half = (r - q) / vol**2 - 0.5
    perpetual = half + np.sqrt(half**2 + 2 * r / vol**2)
    floor = np.log(np.minimum(perpetual / (1 + perpetual), limit * (1 - 1e-12)) / limit)
    squared[:, 1:] = (
        floor[:, None] * np.minimum(1.0, vol[:, None] * nodes[1:] * 2 / np.maximum(-floor[:, None], 1e-9))
    ) ** 2
    for _ in range(_MAX_SWEEPS):
        log_b = -np.sqrt(squared[:, 1:]) + np.log(limit)
        log_ahead = -np.sqrt(np.maximum(squared @ between, 0)).reshape(vol.size, *back.shape) + np.log(limit)
        d = (log_b[:, :, None] - log_ahead + (r - q) * back) / sd
        d_all = (log_b + (r - q) * t) / sd_all
        top = ndtr(d_all - sd_all / 2) + (grow_r * ndtr(d - sd / 2)).sum(axis=-1)
        bottom = ndtr(d_all + sd_all / 2) + (grow_q * ndtr(d + sd / 2)).sum(axis=-1)
        moved = np.minimum(np.log(top / bottom) - (r - q) * t, np.log(limit))
        change = np.abs(moved - log_b).max()
        squared[:, 1:] = (moved - np.log(limit)) ** 2
        if change < _TOLERANCE:
            break
    return squared, limit, nodes


@lru_cache(maxsize=4)
def _quadrature(n: int) -> tuple[FloatArray, FloatArray]:
    points, weights = np.polynomial.legendre.leggauss(n)
    return points, weights


def _interpolation(nodes: FloatArray, points: FloatArray) -> FloatArray:
    """Matrix that takes values at Chebyshev points of the second kind to values at other points: (nodes, points)."""
    weight = np.where(np.arange(nodes.size) % 2 == 0, 1.0, -1.0)
    weight[[0, -1]] /= 2
    gap = points - nodes[:, None]
    exact = gap == 0
    share = weight[:, None] / np.where(exact, 1.0, gap)
    share = np.where(exact.any(axis=0), exact, share)
    return np.asarray(share / share.sum(axis=0))

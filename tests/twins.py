"""Plain NumPy and mpmath twins of the compiled kernels: the formulas as printed, with no regard for speed."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]
PRECISE = mp.mp.clone()
PRECISE.dps = 60


def black_exact(
    forward: float, strike: float, tau: float, vol: float, is_call: bool, discount_factor: float = 1.0
) -> Any:
    """Black-76 price of the numbers given, to some 50 digits."""
    f, k, t, v, df = (PRECISE.mpf(x) for x in (forward, strike, tau, vol, discount_factor))
    s = v * PRECISE.sqrt(t)
    d1 = PRECISE.log(f / k) / s + s / 2
    sign = 1 if is_call else -1
    return df * sign * (f * PRECISE.ncdf(sign * d1) - k * PRECISE.ncdf(sign * (d1 - s)))


def implied_vol_exact(
    price: float, forward: float, strike: float, tau: float, is_call: bool, start: float
) -> tuple[Any, float]:
    """Vol of a price to 30 digits by bisection and secant in ln(vol), and price/(vega vol) there.

    The start only narrows the first bracket: the root is bracketed before it is used.
    """
    f, k, t, p = (PRECISE.mpf(x) for x in (forward, strike, tau, price))
    time_value = p - max(f - k if is_call else k - f, PRECISE.mpf(0))
    low, high = min(f, k), max(f, k)
    x = PRECISE.log(high / low)

    def excess(log_vol: Any) -> Any:
        s = PRECISE.exp(log_vol) * PRECISE.sqrt(t)
        d1 = -x / s + s / 2
        value = low * PRECISE.ncdf(d1) - high * PRECISE.ncdf(d1 - s)
        if time_value > low / 2:
            # 1 - beta has the digits there.
            rest = low * PRECISE.ncdf(-d1) + high * PRECISE.ncdf(d1 - s)
            return PRECISE.log((low - time_value) / rest)
        return PRECISE.log(value / time_value)

    centre = PRECISE.log(PRECISE.mpf(start))
    width = PRECISE.mpf("1e-6")
    while excess(centre - width) > 0 or excess(centre + width) < 0:
        width *= 10
        if width > 100:
            raise ValueError("no bracket around the start")
    log_vol = PRECISE.findroot(excess, (centre - width, centre + width), solver="anderson", tol=1e-60, maxsteps=400)
    vol = PRECISE.exp(log_vol)
    s = vol * PRECISE.sqrt(t)
    d1 = PRECISE.log(f / k) / s + s / 2
    return vol, float(p / (f * PRECISE.npdf(d1) * s))


def penalty(vol: Array, tau: Array, moneyness: Array) -> Array:
    """Parts p1, p2, p3 of Cont and Vuletic's penalty, shape (..., 3)."""
    total_vol = vol * np.sqrt(tau)[:, np.newaxis]
    d1 = (-np.log(moneyness) + total_vol**2 / 2) / total_vol
    call = ndtr(d1) - moneyness * ndtr(d1 - total_vol)
    calendar = tau[:-1, np.newaxis] * (call[..., :-1, :] - call[..., 1:, :]) / np.diff(tau)[:, np.newaxis]
    slope = np.diff(call, axis=-1) / np.diff(moneyness)
    terms = (calendar, slope, slope[..., :-1] - slope[..., 1:])
    return np.stack([np.maximum(term, 0.0).sum(axis=(-2, -1)) for term in terms], axis=-1)


def svi_variance(parameters: Array, k: Array) -> Array:
    """Raw-SVI total variance of one slice."""
    a, b, rho, m, sigma = parameters
    return a + b * (rho * (k - m) + np.sqrt((k - m) ** 2 + sigma**2))


def svi_g(parameters: Array, k: Array, h: float = 1e-4) -> Array:
    """Durrleman's function of one slice, its derivatives by central differences."""
    down, w, up = (svi_variance(parameters, k + step) for step in (-h, 0.0, h))
    first, second = (up - down) / (2 * h), (up - 2 * w + down) / h**2
    return (1 - k * first / (2 * w)) ** 2 - first**2 / 4 * (1 / w + 0.25) + second / 2

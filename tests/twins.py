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


def implied_vol_error(
    price: float, forward: float, strike: float, tau: float, is_call: bool, vol: float, discount_factor: float = 1.0
) -> tuple[float, float]:
    """Relative error of a vol as the Black vol of a price, and v/(vega vol), v being the time value.

    From the price that the vol has, to 60 digits, by Newton's step on the logarithm of v or of its complement:
    exact where the vol is close.
    """
    p, f, k, t, s, df = (PRECISE.mpf(float(z)) for z in (price, forward, strike, tau, vol, discount_factor))
    s *= PRECISE.sqrt(t)
    low, high = min(f, k), max(f, k)
    time_value = p / df - max(f - k if is_call else k - f, PRECISE.mpf(0))
    d1 = -PRECISE.log(high / low) / s + s / 2
    vega = low * PRECISE.npdf(d1)
    if time_value > low / 2:
        rest = low * PRECISE.ncdf(-d1) + high * PRECISE.ncdf(d1 - s)
        error = -PRECISE.log(rest / (low - time_value)) * rest / (vega * s)
    else:
        difference = low * PRECISE.ncdf(d1) - high * PRECISE.ncdf(d1 - s)
        value = difference if low < high else low * PRECISE.erf(s / PRECISE.sqrt(8))
        error = PRECISE.log(value / time_value) * value / (vega * s)
    return float(error), float(time_value / (vega * s))


def bachelier_exact(forward: float, strike: float, tau: float, vol: float, is_call: bool, df: float = 1.0) -> Any:
    """Bachelier price of the numbers given, to some 50 digits."""
    f, k, t, v, d = (PRECISE.mpf(float(z)) for z in (forward, strike, tau, vol, df))
    s, inside = v * PRECISE.sqrt(t), f - k if is_call else k - f
    return d * (inside * PRECISE.ncdf(inside / s) + s * PRECISE.npdf(inside / s))


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

"""American puts by the equations as printed, in NumPy and SciPy: the twin of the compiled kernel, of any resolution."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr


def interpolation(nodes, points):
    """Matrix from values at Chebyshev points of the second kind to values at other points."""
    weight = np.where(np.arange(len(nodes)) % 2 == 0, 1.0, -1.0)
    weight[[0, -1]] /= 2
    share = weight / (points[..., None] - nodes)
    return share / share.sum(axis=-1, keepdims=True)


def quadrature(n):
    """Sines and cosines of the angles, and weights of an integral over sin^2 from 0 to 1."""
    y, w = np.polynomial.legendre.leggauss(n)
    angle = np.pi / 4 * (1 + y)
    return np.sin(angle), np.cos(angle), w * np.pi / 2 * np.sin(angle) * np.cos(angle)


def american_put(spot, strike, tau, vol, rate, dividend_yield, times=20, inner=32, outer=64, sweeps=150):
    """Price and premium of one put with rate > 0, or rate 0 above a negative yield."""
    r, q, x = rate, dividend_yield, spot / strike
    nodes = (1 - np.cos(np.pi * np.arange(times) / (times - 1))) / 2
    limit = np.log(r / q) if q > r > 0 else 0.0
    sine, cosine, weight = quadrature(inner)
    t = tau * nodes[1:] ** 2
    share = interpolation(nodes, nodes[1:, None] * cosine)
    back, sd = t[:, None] * sine**2, vol * np.sqrt(t)
    ahead = t[:, None] - back
    squared = np.zeros(times)
    squared[1:] = (vol * np.sqrt(t)) ** 2
    for _ in range(sweeps):
        log_b = limit - np.sqrt(squared[1:])
        log_ahead = limit - np.sqrt(np.maximum(share @ squared, 0))
        d = (log_b[:, None] - log_ahead + (r - q) * back) / (sd[:, None] * sine)
        d_all = (log_b + (r - q) * t) / sd
        half, half_all = sd[:, None] * sine / 2, sd / 2
        top = ndtr(d_all - half_all) + (r * np.exp(r * ahead) * ndtr(d - half) * weight).sum(axis=1) * t
        bottom = ndtr(d_all + half_all) + (q * np.exp(q * ahead) * ndtr(d + half) * weight).sum(axis=1) * t
        moved = np.minimum(np.log(top / bottom) - (r - q) * t, limit)
        squared[1:] = (moved - limit) ** 2
    sine, cosine, weight = quadrature(outer)
    boundary = limit - np.sqrt(np.maximum(interpolation(nodes, cosine) @ squared, 0))
    back, sd = tau * sine**2, vol * np.sqrt(tau) * sine
    d = (np.log(x) - boundary + (r - q) * back) / sd
    gain = r * np.exp(-r * back) * ndtr(sd / 2 - d) - q * x * np.exp(-q * back) * ndtr(-sd / 2 - d)
    total = vol * np.sqrt(tau)
    d_all = (np.log(x) + (r - q) * tau) / total
    plain = np.exp(-r * tau) * ndtr(total / 2 - d_all) - x * np.exp(-q * tau) * ndtr(-total / 2 - d_all)
    premium = tau * (gain * weight).sum()
    if np.log(x) <= limit - np.sqrt(squared[-1]):
        premium = 1 - x - plain
    return strike * (plain + premium), strike * premium

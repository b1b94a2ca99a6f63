"""Weighted Nadaraya-Watson smoothing of volatility in moneyness and time (Cont and Vuletic, 2023)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError
from volscen.surface._rows import ROBUST_PASSES, huber, vol_weights

if TYPE_CHECKING:
    from volscen.chain import Chain

__all__ = ["DEFAULT_BANDWIDTH", "KernelSurface", "fit_kernel"]

FloatArray = npt.NDArray[np.float64]

#: The optimum reported by Vuletic and Cont (2024) for S&P 500 options: variances in moneyness and in years.
DEFAULT_BANDWIDTH = (0.002, 0.046)

#: Points times quotes smoothed at once, to bound memory.
_BLOCK = 1 << 21


@dataclass(frozen=True)
class KernelSurface:
    """Weighted mean of the quotes' volatilities, by a Gaussian kernel times a weight per quote.

    Attributes
    ----------
    tau, moneyness, vol, weight : ndarray, shape (Q,)
        The quotes.
    bandwidth : tuple of float
        Variances of the kernel in moneyness and in years.
    """

    tau: FloatArray
    moneyness: FloatArray
    vol: FloatArray
    weight: FloatArray
    bandwidth: tuple[float, float]
    details: dict[str, Any] = field(default_factory=dict)

    def implied_vol(self, tau: FloatArray, log_moneyness: FloatArray) -> FloatArray:
        """Volatility at points."""
        return np.asarray(self._terms(tau, log_moneyness, 1)[0])

    def variance_terms(self, tau: FloatArray, log_moneyness: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Total variance and its first two derivatives in log-moneyness at points."""
        vol, slope, bend = self._terms(tau, log_moneyness, 3)
        m, years = np.exp(log_moneyness), np.asarray(tau)
        slope, bend = m * slope, m * (slope + m * bend)  # in ln m
        return vol**2 * years, 2 * vol * slope * years, 2 * (slope**2 + vol * bend) * years

    def _terms(self, tau: FloatArray, log_moneyness: FloatArray, count: int) -> FloatArray:
        """Volatility and, if asked for, its first two derivatives in moneyness."""
        tau, k = np.broadcast_arrays(tau, log_moneyness)
        times, moneyness = tau.ravel(), np.exp(k.ravel())
        out = np.empty((count, times.size))
        step = max(1, _BLOCK // self.vol.size)
        h1, h2 = self.bandwidth
        for start in range(0, times.size, step):
            part = slice(start, start + step)
            distance = self.moneyness - moneyness[part, None]
            exponent = -(distance**2) / (2 * h1) - (times[part, None] - self.tau) ** 2 / (2 * h2)
            # Relative to the nearest quote, so that no point is so far away that every weight underflows.
            weight = np.exp(exponent - exponent.max(axis=1, keepdims=True)) * self.weight
            total = weight.sum(axis=1)
            vol = out[0, part] = weight @ self.vol / total
            if count > 1:
                # A weight's derivatives over itself are x and x^2 - 1/h1. The derivatives of the weighted mean are then
                # covariances, written so that large x cancel before they meet.
                x = distance / h1
                x -= (np.sum(weight * x, axis=1) / total)[:, None]
                moment = weight * (self.vol - vol[:, None]) * x
                out[1, part] = moment.sum(axis=1) / total
                out[2, part] = np.sum(moment * x, axis=1) / total
        return out.reshape((count, *tau.shape))


def fit_kernel(
    chain: Chain,
    tau: FloatArray,
    moneyness: FloatArray,
    *,
    bandwidth: tuple[float, float] | Literal["search"] = DEFAULT_BANDWIDTH,
    weights: Literal["auto", "vega", "spread", "uniform"] = "vega",
    robust: bool = False,
) -> KernelSurface:
    """Smooth the quotes of a chain by a kernel.

    Parameters
    ----------
    chain : Chain
        Its ``quotes`` are smoothed.
    tau, moneyness : ndarray
        The grid, on which a search judges arbitrage.
    bandwidth : tuple of float, or "search"
        Variances (h1, h2) of the kernel in moneyness and in years, exp(-dm^2 / (2 h1) - dtau^2 / (2 h2)); or
        search both over .002, .004, .., .1 for the smallest arbitrage penalty on the grid, the least
        smoothing (h1 h2) among equals (:func:`volscen.surface.search_bandwidth` does so over many days).
    weights : {"vega", "auto", "spread", "uniform"}
        Weight of a quote beside the kernel's: vega as in the paper, or as for method "svi".
    robust : bool
        Smooth again with Huber weights; not in the paper. A search takes none.

    Raises
    ------
    InputError
        If the bandwidth is not two positive numbers, or no candidate reaches every point of the grid.
    """
    quotes = chain.quotes
    place = {name: quotes[name].to_numpy(dtype=np.float64) for name in ("tau", "moneyness")}
    vol = quotes["implied_vol"].to_numpy(dtype=np.float64)
    weight = kernel_weights(chain, weights)
    details: dict[str, Any] = {}
    if isinstance(bandwidth, str):
        if bandwidth != "search":
            raise InputError(f"bandwidth must be a pair of numbers or 'search', not {bandwidth!r}")
        from volscen.surface._bandwidth import border, penalties, smallest

        pair = smallest(penalties(chain, tau, moneyness, weight), str(chain.date))
        details["bandwidth_on_border"] = border(pair)
    else:
        try:
            h1, h2 = (float(h) for h in bandwidth)
        except (TypeError, ValueError):
            raise InputError(f"bandwidth must be a pair of numbers or 'search', not {bandwidth!r}") from None
        if not (0 < h1 < np.inf and 0 < h2 < np.inf):
            raise InputError(f"bandwidth must hold two positive numbers, not {bandwidth!r}")
        pair = (h1, h2)
    details = {"bandwidth_moneyness": pair[0], "bandwidth_tau": pair[1], **details}
    fitted = KernelSurface(**place, vol=vol, weight=weight, bandwidth=pair, details=details)
    for _ in range(ROBUST_PASSES if robust else 0):
        error = fitted.implied_vol(place["tau"], quotes["log_moneyness"].to_numpy()) - vol
        # All quotes as one sample: a kernel borrows from other expiries.
        factor = huber(error[None], weight[None])[0]
        fitted = KernelSurface(**place, vol=vol, weight=weight * factor, bandwidth=pair, details=details)
    return fitted


def kernel_weights(chain: Chain, weights: str) -> FloatArray:
    """Weight of each quote: vega in currency, as the paper has it, or those of the other smoothers."""
    if weights == "vega":
        return np.asarray(np.maximum(chain.quotes["vega"].to_numpy(dtype=np.float64), np.finfo(float).tiny))
    return vol_weights(chain, weights)

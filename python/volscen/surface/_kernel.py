"""Vega-weighted Nadaraya-Watson smoothing of volatility in moneyness and time (Cont and Vuletic, 2023)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from volscen import arbitrage
from volscen.errors import InputError

if TYPE_CHECKING:
    from volscen.chain import Chain

__all__ = ["BANDWIDTHS", "DEFAULT_BANDWIDTH", "KernelSurface", "fit_kernel"]

FloatArray = npt.NDArray[np.float64]

#: The optimum reported by Vuletic and Cont (2024) for S&P 500 options: variances in moneyness and in years.
DEFAULT_BANDWIDTH = (0.002, 0.046)

#: Candidates of the search, for each of the two.
BANDWIDTHS = np.arange(1, 51) * 0.002

#: Points times quotes smoothed at once, to bound memory.
_BLOCK = 1 << 21


@dataclass(frozen=True)
class KernelSurface:
    """Weighted mean of the quotes' volatilities, by a Gaussian kernel times vega.

    Attributes
    ----------
    tau, moneyness, vol, vega : ndarray, shape (Q,)
        The quotes.
    bandwidth : tuple of float
        Variances of the kernel in moneyness and in years.
    """

    tau: FloatArray
    moneyness: FloatArray
    vol: FloatArray
    vega: FloatArray
    bandwidth: tuple[float, float]
    details: dict[str, Any] = field(default_factory=dict)

    def implied_vol(self, tau: FloatArray, log_moneyness: FloatArray) -> FloatArray:
        """Volatility at points."""
        tau, k = np.broadcast_arrays(tau, log_moneyness)
        times, moneyness = tau.ravel(), np.exp(k.ravel())
        out = np.empty(times.size)
        step = max(1, _BLOCK // self.vol.size)
        for start in range(0, times.size, step):
            part = slice(start, start + step)
            h1, h2 = self.bandwidth
            exponent = -((moneyness[part, None] - self.moneyness) ** 2) / (2 * h1)
            exponent -= (times[part, None] - self.tau) ** 2 / (2 * h2)
            # Relative to the nearest quote, so that no point is so far away that every weight underflows.
            weight = np.exp(exponent - exponent.max(axis=1, keepdims=True)) * self.vega
            out[part] = weight @ self.vol / weight.sum(axis=1)
        return out.reshape(tau.shape)


def fit_kernel(
    chain: Chain,
    tau: FloatArray,
    moneyness: FloatArray,
    *,
    bandwidth: tuple[float, float] | Literal["search"] = DEFAULT_BANDWIDTH,
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
        smoothing (h1 h2) among equals.

    Raises
    ------
    InputError
        If the bandwidth is not two positive numbers, or no candidate reaches every point of the grid.
    """
    quotes = chain.quotes
    data = {name: quotes[name].to_numpy(dtype=np.float64) for name in ("tau", "moneyness", "implied_vol", "vega")}
    if isinstance(bandwidth, str):
        if bandwidth != "search":
            raise InputError(f"bandwidth must be a pair of numbers or 'search', not {bandwidth!r}")
        pair = _search(chain, tau, moneyness, data)
    else:
        try:
            h1, h2 = (float(h) for h in bandwidth)
        except (TypeError, ValueError):
            raise InputError(f"bandwidth must be a pair of numbers or 'search', not {bandwidth!r}") from None
        if not (0 < h1 < np.inf and 0 < h2 < np.inf):
            raise InputError(f"bandwidth must hold two positive numbers, not {bandwidth!r}")
        pair = (h1, h2)
    return KernelSurface(
        tau=data["tau"],
        moneyness=data["moneyness"],
        vol=data["implied_vol"],
        vega=np.maximum(data["vega"], np.finfo(float).tiny),
        bandwidth=pair,
        details={"bandwidth_moneyness": pair[0], "bandwidth_tau": pair[1]},
    )


def _search(chain: Chain, tau: FloatArray, moneyness: FloatArray, data: dict[str, FloatArray]) -> tuple[float, float]:
    """Bandwidths with the smallest penalty: the kernel is a product, so all pairs are one matrix product."""
    n = len(BANDWIDTHS)
    h = BANDWIDTHS[:, None, None]
    in_moneyness = np.exp(-((moneyness[:, None] - data["moneyness"]) ** 2) / (2 * h)).reshape(n * moneyness.size, -1)
    in_tau = np.exp(-((tau[:, None] - data["tau"]) ** 2) / (2 * h)).reshape(n * tau.size, -1)
    weighted = in_moneyness * data["vega"]
    numerator = in_tau @ (weighted * data["implied_vol"]).T
    denominator = in_tau @ weighted.T
    reached = denominator > 0
    vol = np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=reached)
    vol = vol.reshape(n, tau.size, n, moneyness.size).transpose(0, 2, 1, 3).reshape(n * n, tau.size, moneyness.size)
    sound = np.all(vol > 0, axis=(1, 2))
    if not sound.any():
        raise InputError(
            f"no bandwidth up to {BANDWIDTHS[-1]:g} reaches every grid point from the quotes of {chain.date}; "
            "narrow the grid or give bandwidth="
        )
    h2, h1 = (x.ravel() for x in np.meshgrid(BANDWIDTHS, BANDWIDTHS, indexing="ij"))
    h1, h2 = h1[sound], h2[sound]
    penalty = arbitrage.penalty(np.ascontiguousarray(vol[sound]), tau, moneyness)
    # Equal up to rounding is equal: otherwise errors of 1e-17 would choose the bandwidth.
    best = np.lexsort((h1, h1 * h2, np.round(penalty, 12)))[0]
    return float(h1[best]), float(h2[best])

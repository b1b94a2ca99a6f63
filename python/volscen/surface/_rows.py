"""Quotes of a chain by expiry, their weights, and Huber's: what the smoothers that fit slices share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

if TYPE_CHECKING:
    from volscen.chain import Chain

__all__ = ["ROBUST_PASSES", "SPREAD_FLOOR", "Rows", "huber", "vol_weights"]

FloatArray = npt.NDArray[np.float64]

#: Vol error added in quadrature to the half-spread where quotes are weighted by spread: a slice is no closer.
SPREAD_FLOOR = 5e-4

#: Huber's constant: 95% efficiency under normal noise.
_HUBER = 1.345
ROBUST_PASSES = 2


@dataclass(frozen=True)
class Rows:
    """Quotes in one padded row per expiry; a weight of 0 is padding.

    Attributes
    ----------
    tau : ndarray, shape (E,)
    k, vol, weight : ndarray, shape (E, n)
        Log-moneyness, volatility, and the weight of a squared error of volatility.
    """

    tau: FloatArray
    k: FloatArray
    vol: FloatArray
    weight: FloatArray

    @classmethod
    def of(cls, chain: Chain, weights: str) -> Rows:
        """Rows of a chain's quotes."""
        quotes = chain.quotes
        times, row = np.unique(quotes["tau"].to_numpy(), return_inverse=True)
        width = np.bincount(row)
        column = np.arange(len(row)) - np.repeat(np.cumsum(width) - width, width)
        shape = (len(times), int(width.max()))
        k, vol, weight = np.zeros(shape), np.ones(shape), np.zeros(shape)
        k[row, column] = quotes["log_moneyness"].to_numpy()
        vol[row, column] = quotes["implied_vol"].to_numpy()
        weight[row, column] = vol_weights(chain, weights)
        return cls(times, k, vol, weight)

    @property
    def total_variance(self) -> FloatArray:
        """Total variance of the quotes."""
        return self.vol**2 * self.tau[:, None]

    @property
    def per_variance(self) -> FloatArray:
        """Squared error of volatility per squared error of total variance: dw = 2 sigma tau dsigma."""
        return np.asarray(1 / (2 * self.vol * self.tau[:, None]) ** 2)


def vol_weights(chain: Chain, weights: str) -> FloatArray:
    quotes = chain.quotes
    spread = "half_spread_vol" in quotes
    if weights == "spread" and not spread:
        raise InputError("weights='spread' needs quotes with bid and ask; these have prices only")
    if weights == "spread" or (weights == "auto" and spread):
        return np.asarray(1 / (quotes["half_spread_vol"].to_numpy() ** 2 + SPREAD_FLOOR**2))
    if weights in ("auto", "vega"):
        unit = quotes["discount_factor"] * quotes["forward"] * np.sqrt(quotes["tau"])
        return np.asarray(np.maximum(quotes["vega"] / unit, 1e-12), dtype=np.float64)
    if weights == "uniform":
        return np.ones(len(quotes))
    raise InputError(f"weights must be 'auto', 'vega', 'spread' or 'uniform', not {weights!r}")


def huber(residual: FloatArray, weight: FloatArray) -> FloatArray:
    """Huber's factor per quote: 1 within 1.345 standard deviations, falling as 1/abs(residual) beyond."""
    used = weight > 0
    n = used.sum(axis=1)
    total = weight.sum(axis=1, keepdims=True)
    standard = np.abs(residual) * np.sqrt(weight * n[:, None] / np.where(total > 0, total, 1.0))
    ordered = np.sort(np.where(used, standard, np.inf), axis=1)
    rows = np.arange(len(n))
    median = (ordered[rows, (n - 1) // 2] + ordered[rows, np.minimum(n // 2, residual.shape[1] - 1)]) / 2
    scale = np.maximum(1.4826 * median, 1e-8)[:, None]  # a perfect fit leaves rounding errors only
    return np.where(used, np.minimum(1.0, _HUBER * scale / np.maximum(standard, 1e-300)), 1.0)

"""One raw-SVI slice per expiry, total variance linear in time between them and never decreasing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from volscen import svi
from volscen.errors import InputError

if TYPE_CHECKING:
    from volscen.chain import Chain

__all__ = ["MIN_FORWARD_VARIANCE", "SVISurface", "fit_svi", "isotonic"]

FloatArray = npt.NDArray[np.float64]

#: Least growth of total variance per year (a forward volatility of 0.1%). Strictly positive, so that slices
#: pooled for calendar monotonicity do not fall below one another by rounding.
MIN_FORWARD_VARIANCE = 1e-6

#: Vol error added in quadrature to the half-spread where quotes are weighted by spread: SVI itself is no
#: closer.
_SPREAD_FLOOR = 5e-4

#: Huber's constant: 95% efficiency under normal noise.
_HUBER = 1.345
_ROBUST_PASSES = 3


@dataclass(frozen=True)
class SVISurface:
    """Raw-SVI slices joined over time.

    Attributes
    ----------
    tau : ndarray, shape (E,)
        Times to expiry of the slices.
    parameters : ndarray, shape (E, 5)
        (a, b, rho, m, sigma) of each.
    low, high : ndarray, shape (E,)
        Log-moneyness of the lowest and highest quote of each.
    precision : ndarray, shape (E,)
        Weight of each slice, between its quotes, where slices that cross are pooled.
    """

    tau: FloatArray
    parameters: FloatArray
    low: FloatArray
    high: FloatArray
    precision: FloatArray
    details: dict[str, Any] = field(default_factory=dict)

    def slices(self, log_moneyness: FloatArray) -> FloatArray:
        """Total variance at each slice, non-decreasing over them: shape (E, n)."""
        w = np.asarray(svi.total_variance(self.parameters, log_moneyness))
        if np.any(w <= 0):
            raise InputError("a slice has no positive variance at some strike; fit with butterfly=True")
        # Beyond its quotes a slice is a guess, the worse the farther in standard deviations: it must not bend
        # slices that have quotes there.
        deviation = np.sqrt(svi.total_variance(self.parameters, np.zeros(1)))
        beyond = np.maximum(self.low[:, None] - log_moneyness, log_moneyness - self.high[:, None])
        distance = np.maximum(beyond, 0) / deviation
        weight = self.precision[:, None] * np.maximum(np.exp(-2 * distance**2), 1e-6)
        growth = MIN_FORWARD_VARIANCE * self.tau[:, None]
        return isotonic(w - growth, weight) + growth

    def implied_vol(self, tau: FloatArray, log_moneyness: FloatArray) -> FloatArray:
        """Volatility at points: total variance linear in tau, flat volatility beyond the end slices."""
        tau, k = np.broadcast_arrays(tau, log_moneyness)
        points, column = np.unique(k, return_inverse=True)
        column = column.reshape(k.shape)
        w = self.slices(points)
        right = np.clip(np.searchsorted(self.tau, tau), 0, len(self.tau) - 1)
        left = np.maximum(right - 1, 0)
        gap = self.tau[right] - self.tau[left]
        share = np.divide(tau - self.tau[left], gap, out=np.ones(tau.shape), where=gap > 0)
        inside = w[left, column] + np.clip(share, 0, 1) * (w[right, column] - w[left, column])
        first, last = self.tau[0], self.tau[-1]
        scale = np.where(tau < first, tau / first, np.where(tau > last, tau / last, 1.0))
        return np.asarray(np.sqrt(np.where(tau < first, w[0, column], inside) * scale / tau))


def fit_svi(
    chain: Chain,
    tau: FloatArray,
    moneyness: FloatArray,
    *,
    weights: Literal["auto", "vega", "spread", "uniform"] = "auto",
    robust: bool = True,
    butterfly: bool = True,
) -> SVISurface:
    """Fit raw SVI (Gatheral, 2004) to every expiry of a chain.

    Parameters
    ----------
    chain : Chain
        Its ``quotes`` are fitted.
    tau, moneyness : ndarray
        The grid; SVI does not depend on it.
    weights : {"auto", "vega", "spread", "uniform"}
        Weight of a squared volatility error: vega; inverse squared half-spread in vol (five basis points
        added in quadrature); or 1. "auto" takes the spread where there are bid and ask, else vega.
    robust : bool
        Refit with Huber weights so that stale or mistaken quotes do not bend a slice.
    butterfly : bool
        Keep each slice free of butterfly arbitrage.

    Raises
    ------
    InputError
        If an option is unknown or no expiry could be fitted.
    """
    quotes = chain.quotes
    times, row = np.unique(quotes["tau"].to_numpy(), return_inverse=True)
    width = np.bincount(row)
    column = np.arange(len(row)) - np.repeat(np.cumsum(width) - width, width)
    shape = (len(times), int(width.max()))
    k, vol, weight = np.zeros(shape), np.ones(shape), np.zeros(shape)
    k[row, column] = quotes["log_moneyness"].to_numpy()
    vol[row, column] = quotes["implied_vol"].to_numpy()
    weight[row, column] = _vol_weights(chain, weights)
    w = vol**2 * times[:, None]
    # An error dsigma in vol is an error 2 sigma tau dsigma in total variance, which is what SVI fits.
    per_variance = 1 / (2 * vol * times[:, None]) ** 2
    fit = svi.fit(k, w, weight * per_variance, butterfly=butterfly)
    for _ in range(_ROBUST_PASSES if robust else 0):
        factor = _huber(svi.implied_vol(fit.parameters, k, times) - vol, weight)
        if np.all(factor == 1):
            break
        fit = svi.fit(k, w, weight * factor * per_variance, butterfly=butterfly)
    good = fit.status != svi.SVIStatus.NO_DATA
    if not good.any():
        raise InputError(f"no expiry of the chain of {chain.date} could be fitted by SVI")
    # A price error moves total variance by an amount whose square grows like tau.
    return SVISurface(
        tau=times[good],
        parameters=fit.parameters[good],
        low=np.minimum.reduceat(quotes["log_moneyness"].to_numpy(), np.cumsum(width) - width)[good],
        high=np.maximum.reduceat(quotes["log_moneyness"].to_numpy(), np.cumsum(width) - width)[good],
        precision=(width / times)[good],
        details={"slices": int(good.sum()), "slices_reduced": int((fit.status == svi.SVIStatus.REDUCED).sum())},
    )


def _vol_weights(chain: Chain, weights: str) -> FloatArray:
    quotes = chain.quotes
    spread = "half_spread_vol" in quotes
    if weights == "spread" and not spread:
        raise InputError("weights='spread' needs quotes with bid and ask; these have prices only")
    if weights == "spread" or (weights == "auto" and spread):
        return np.asarray(1 / (quotes["half_spread_vol"].to_numpy() ** 2 + _SPREAD_FLOOR**2))
    if weights in ("auto", "vega"):
        unit = quotes["discount_factor"] * quotes["forward"] * np.sqrt(quotes["tau"])
        return np.asarray((quotes["vega"] / unit).to_numpy(dtype=np.float64))
    if weights == "uniform":
        return np.ones(len(quotes))
    raise InputError(f"weights must be 'auto', 'vega', 'spread' or 'uniform', not {weights!r}")


def _huber(residual: FloatArray, weight: FloatArray) -> FloatArray:
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


def isotonic(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Closest non-decreasing sequence along the first axis, in weighted least squares.

    Parameters
    ----------
    values : ndarray, shape (E, n)
        One sequence per column.
    weight : ndarray, shape (E, n)
        Positive.

    Notes
    -----
    The min-max formula of isotonic regression (Robertson, Wright and Dykstra, 1988): at j, the largest over i
    <= j of the smallest over l >= j of the weighted mean of i..l.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.surface._svi import isotonic
    >>> isotonic(np.array([[1.0], [3.0], [2.0]]), np.array([[1.0], [1.0], [3.0]])).ravel().tolist()
    [1.0, 2.25, 2.25]
    """
    if np.all(values[1:] >= values[:-1]):
        return values
    start = np.zeros((1, values.shape[1]))
    sums = np.concatenate([start, np.cumsum(weight * values, axis=0)])
    totals = np.concatenate([start, np.cumsum(weight, axis=0)])
    out = np.full(values.shape, -np.inf)
    for i in range(len(values)):
        means = (sums[i + 1 :] - sums[i]) / (totals[i + 1 :] - totals[i])
        from_i = np.minimum.accumulate(means[::-1], axis=0)[::-1]  # smallest over l >= j, for j = i..n-1
        np.maximum(out[i:], from_i, out=out[i:])
    # Columns in order already stay bit for bit; the formula would round them.
    ordered = np.all(values[1:] >= values[:-1], axis=0)
    return np.where(ordered, values, np.maximum.accumulate(out, axis=0))

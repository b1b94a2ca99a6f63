"""One raw-SVI slice per expiry, total variance linear in time between them and never decreasing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from volscen import svi
from volscen.surface._isotonic import isotonic
from volscen.surface._rows import ROBUST_PASSES, Rows, huber
from volscen.surface._slices import MIN_FORWARD_VARIANCE, SlicedSurface

if TYPE_CHECKING:
    from volscen.chain import Chain

__all__ = ["SVISurface", "fit_svi"]

FloatArray = npt.NDArray[np.float64]

#: Strikes at which slices are compared, and how often those that cross are refitted.
_POINTS = 33
_UNCROSSING_PASSES = 5


@dataclass(frozen=True)
class SVISurface(SlicedSurface):
    """Raw-SVI slices joined over time.

    Attributes
    ----------
    tau : ndarray, shape (E,)
        Times to expiry of the slices.
    parameters : ndarray, shape (E, 5)
        (a, b, rho, m, sigma) of each.
    """

    tau: FloatArray
    parameters: FloatArray
    details: dict[str, Any] = field(default_factory=dict)

    def own_terms(self, log_moneyness: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Total variance, slope and second derivative of each slice by itself: shapes (E, n)."""
        a, b, rho, m, sigma = (column[:, None] for column in self.parameters.T)
        x = log_moneyness - m
        root = np.hypot(x, sigma)
        return a + b * (rho * x + root), b * (rho + x / root), b * (sigma / root) ** 2 / root

    def own_variance(self, log_moneyness: FloatArray) -> FloatArray:
        """Total variance of each slice by itself: shape (E, n)."""
        a, b, rho, m, sigma = (column[:, None] for column in self.parameters.T)
        x = log_moneyness - m
        return np.asarray(a + b * (rho * x + np.hypot(x, sigma)))


@dataclass(frozen=True)
class _Slices:
    """Quotes by expiry: padded rows, with weights of errors of total variance (0 is padding)."""

    tau: FloatArray
    k: FloatArray
    w: FloatArray
    weight: FloatArray
    low: FloatArray
    high: FloatArray


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
        The grid; slices are kept from crossing as far as it and the quotes reach.
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
        If an option is unknown.
    """
    rows = Rows.of(chain, weights)
    times, k, vol, weight, w = rows.tau, rows.k, rows.vol, rows.weight, rows.total_variance
    per_variance = rows.per_variance
    fit = svi.fit(k, w, weight * per_variance, butterfly=butterfly)
    factor = np.ones(k.shape)
    for _ in range(ROBUST_PASSES if robust else 0):
        factor = huber(svi.implied_vol(fit.parameters, k, times) - vol, weight)
        if np.all(factor == 1):
            break
        fit = svi.fit(k, w, weight * factor * per_variance, butterfly=butterfly)
    used = weight > 0
    slices = _Slices(
        tau=times,
        k=k,
        w=w,
        weight=weight * factor * per_variance,
        low=np.where(used, k, np.inf).min(axis=1),
        high=np.where(used, k, -np.inf).max(axis=1),
    )
    parameters, passes = _uncross(slices, fit.parameters, np.log(moneyness), butterfly)
    return SVISurface(
        tau=times,
        parameters=parameters,
        details={"slices_reduced": int((fit.status == svi.SVIStatus.REDUCED).sum()), "uncrossing_passes": passes},
    )


def _uncross(slices: _Slices, parameters: FloatArray, grid: FloatArray, butterfly: bool) -> tuple[FloatArray, int]:
    """Refit slices that cross, with further quotes where they do: the variance that both can agree on.

    What they agree on is the isotonic regression over expiries. A refitted slice is still an SVI slice, free of
    butterfly arbitrage; whatever crossing is left is for :meth:`SlicedSurface.slices`.
    """
    if len(slices.tau) < 2:
        return parameters, 0
    points = np.linspace(min(slices.low.min(), grid[0]), max(slices.high.max(), grid[-1]), _POINTS)
    k = np.concatenate([slices.k, np.broadcast_to(points, (len(slices.tau), _POINTS))], axis=1)
    n = (slices.weight > 0).sum(axis=1)
    # A point weighs as a quote there would: far out of the money hardly at all, whatever the variances there.
    like_a_quote = np.stack(
        [
            np.interp(points, k[weight > 0], weight[weight > 0])
            for k, weight in zip(slices.k, slices.weight, strict=True)
        ]
    )
    growth = MIN_FORWARD_VARIANCE * slices.tau[:, None]
    parameters = parameters.copy()
    for done in range(_UNCROSSING_PASSES):
        w = np.asarray(svi.total_variance(parameters, points)) - growth
        if np.all(w[1:] >= w[:-1]):
            return parameters, done
        # Beyond its quotes a slice is a guess, the worse the farther in standard deviations: it must not bend
        # slices that have quotes there. A price error moves variance by an amount whose square grows like tau.
        deviation = np.sqrt(svi.total_variance(parameters, np.zeros(1)))
        beyond = np.maximum(slices.low[:, None] - points, points - slices.high[:, None])
        fading = np.exp(-2 * (np.maximum(beyond, 0) / deviation) ** 2)
        precision = (n / slices.tau)[:, None] * np.maximum(fading, 1e-6)
        agreed = isotonic(w, precision)
        moved = np.abs(agreed - w) > 1e-9 * np.abs(w)
        rows = moved.any(axis=1)
        # Nor must a slice leave its own quotes for what it is told far beyond them.
        insistence = like_a_quote * 4.0**done * np.maximum(fading, 1e-5)
        fit = svi.fit(
            k[rows],
            np.concatenate([slices.w, agreed + growth], axis=1)[rows],
            np.concatenate([slices.weight, np.where(moved, insistence, 0.0)], axis=1)[rows],
            butterfly=butterfly,
        )
        parameters[rows] = fit.parameters
    return parameters, _UNCROSSING_PASSES

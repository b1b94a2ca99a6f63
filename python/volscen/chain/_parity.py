"""Forward and discount factor of every expiry from put-call parity, by robust regression over strikes.

Parity of European options, C - P = D (F - K), is a line in the strike K with slope -D and root F. Every
expiry is one row of a padded array, so that all are fitted at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["RATE_SOURCES", "Parity", "fit_parity", "parity_slope"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Where a discount factor came from, by its code in :attr:`Parity.rate_source`.
RATE_SOURCES = ("none", "parity", "pooled", "bounded", "given")

#: Fewest pairs that a window around the forward is widened to, where the expiry has as many.
MIN_WINDOW_PAIRS = 6

#: Pairs of an expiry that tell whether prices and strikes share a unit.
_UNIT_PAIRS = 12

#: Strikes whose slopes from one to another start a line, spread evenly where there are more: the slopes grow in number
#: like their square, and the refinement that follows uses all strikes.
_START_STRIKES = 32

#: Tukey's constant: 95% efficiency under normal noise, weight zero beyond 4.685 standard deviations.
BISQUARE = 4.685
_MAD_TO_SD = 1.4826


@dataclass(frozen=True)
class Parity:
    """Forwards and discount factors; NaN where an expiry has none.

    Attributes
    ----------
    forward, forward_error : ndarray, shape (E,)
        Root of the parity line and its standard error (NaN where it cannot be judged), that of the discount factor
        counted in.
    discount_factor, discount_factor_error : ndarray, shape (E,)
        Minus the slope, own or pooled, and its standard error: 0 where the rate is given, NaN where it cannot
        be judged.
    rate_source : ndarray of int, shape (E,)
        Index into :data:`RATE_SOURCES`.
    n_pairs : ndarray of int, shape (E,)
        Pairs within the window.
    residual_mad, residual_max : ndarray, shape (E,)
        Median and largest absolute residual of C - P from the line, within the window.
    """

    forward: FloatArray
    forward_error: FloatArray
    discount_factor: FloatArray
    discount_factor_error: FloatArray
    rate_source: npt.NDArray[np.int64]
    n_pairs: npt.NDArray[np.int64]
    residual_mad: FloatArray
    residual_max: FloatArray


def fit_parity(
    strike: FloatArray,
    difference: FloatArray,
    weight: FloatArray,
    tau: FloatArray,
    *,
    rate: float | None,
    rate_bounds: tuple[float, float],
    rate_tolerance: float,
    window: float,
) -> Parity:
    """Fit the parity line of every expiry.

    Parameters
    ----------
    strike, difference : ndarray, shape (E, N)
        Strike and call price minus put price of each pair; rows are padded.
    weight : ndarray, shape (E, N)
        Inverse variance of the difference up to a factor; 0 marks padding.
    tau : ndarray, shape (E,)
        Years to expiry, positive.
    rate : float or None
        Continuously compounded annual rate to use for all expiries instead of reading it from the slopes.
    rate_bounds : tuple of float
        A slope that means a rate outside is not believed; a pooled rate outside is moved to the bound.
    rate_tolerance : float
        An expiry keeps its own slope when the standard error of the rate is at most this; otherwise it takes
        the rate that fits all expiries best.
    window : float
        Pairs with abs(ln(K/F)) up to this are used, or the six nearest where these are fewer.
    """
    weight = _near_money(strike, difference, weight, window)
    used = weight > 0
    n_pairs = used.sum(axis=1)
    centre = np.where(n_pairs > 0, _masked_median(strike, used), 1.0)
    x = np.where(used, strike - centre[:, None], 0.0)
    y = np.where(used, difference, 0.0)

    if rate is None:
        discount_factor, source, discount_error = _choose_rates(x, y, weight, centre, tau, rate_bounds, rate_tolerance)
    else:
        discount_factor, source = np.exp(-rate * tau), np.full(tau.shape, RATE_SOURCES.index("given"))
        discount_error = np.zeros(tau.shape)
    known = (n_pairs > 0) & np.isfinite(discount_factor)
    safe = np.where(known, discount_factor, 1.0)
    # With the slope settled, the forward is the robust mean of K + (C - P) / D.
    level, level_error = _robust_mean(y + safe[:, None] * x, weight, centre)
    forward = centre + level / safe
    # An error of the slope turns the line about the middle of the strikes, and moves its root as far as that is off.
    total = np.maximum(weight.sum(axis=1), np.finfo(float).tiny)
    arm = (centre + (weight * x).sum(axis=1) / total - forward) / safe
    forward_error = np.hypot(level_error / safe, arm * np.where(np.isfinite(discount_error), discount_error, np.nan))
    known &= forward > 0
    residual = np.abs(y + safe[:, None] * x - level[:, None])
    nan = np.where(known, 0.0, np.nan)
    return Parity(
        forward=forward + nan,
        forward_error=forward_error + nan,
        discount_factor=discount_factor + nan,
        discount_factor_error=np.where(np.isfinite(discount_error), discount_error, np.nan) + nan,
        rate_source=np.where(known, source, 0),
        n_pairs=n_pairs,
        residual_mad=_masked_median(residual, used) + nan,
        residual_max=np.where(used, residual, 0.0).max(axis=1, initial=0.0) + nan,
    )


def parity_slope(strike: FloatArray, difference: FloatArray, weight: FloatArray) -> float:
    """Typical change of C - P with the strike, which parity wants near -1: a check of units and of sides.

    The median of the slopes between all pairs among the dozen of each expiry where C - P is smallest, whose options
    trade most; NaN with fewer than three slopes. Arrays as for :func:`fit_parity`, with padding behind.
    """
    slopes = [np.empty(0)]
    for x, y, n in zip(strike, difference, np.count_nonzero(weight, axis=1).tolist(), strict=True):
        if n >= 2:
            near = np.argsort(np.abs(y[:n]), kind="stable")[:_UNIT_PAIRS]
            i, j = (near[side] for side in _pairs(len(near)))
            slopes.append((y[i] - y[j]) / (x[i] - x[j]))
    every = np.concatenate(slopes)
    return float(np.median(every)) if every.size >= 3 else np.nan


@lru_cache(maxsize=64)
def _pairs(n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Positions of all pairs among n."""
    first, second = np.triu_indices(n, 1)
    first.flags.writeable = second.flags.writeable = False
    return first, second


def _near_money(strike: FloatArray, difference: FloatArray, weight: FloatArray, window: float) -> FloatArray:
    """Zero the weights of pairs far from the money."""
    used = weight > 0
    # D is near 1, so K + (C - P) is near F whatever the strike; the median over strikes forgives bad pairs.
    guess = np.maximum(_masked_median(strike + difference, used), np.finfo(float).tiny)[:, None]
    distance = np.full(strike.shape, np.inf)
    np.log(strike / guess, out=distance, where=used & (strike > 0))
    np.abs(distance, out=distance)
    if strike.shape[1] <= MIN_WINDOW_PAIRS:
        return weight
    sixth = np.partition(distance, MIN_WINDOW_PAIRS - 1, axis=1)[:, MIN_WINDOW_PAIRS - 1]
    return np.where(used & (distance <= np.maximum(window, sixth)[:, None]), weight, 0.0)


def _masked_median(x: FloatArray, used: BoolArray) -> FloatArray:
    """Median over the last axis of the entries used; NaN where there is none."""
    n = used.sum(axis=-1)
    ordered = np.sort(np.where(used, x, np.inf), axis=-1)
    rows = np.arange(len(n))
    middle = (ordered[rows, np.maximum(n - 1, 0) // 2] + ordered[rows, np.minimum(n // 2, x.shape[-1] - 1)]) / 2
    return np.where(n > 0, middle, np.nan)


def _weighted_median(x: FloatArray, weight: FloatArray) -> FloatArray:
    """Lower weighted median over the last axis; NaN where all weights are zero."""
    order = np.argsort(np.where(weight > 0, x, np.inf), axis=-1, kind="stable")
    cumulative = np.cumsum(np.take_along_axis(weight, order, axis=-1), axis=-1)
    reached = (cumulative < 0.5 * cumulative[..., -1:]).sum(axis=-1)
    middle = np.take_along_axis(np.take_along_axis(x, order, axis=-1), reached[..., None], axis=-1)[..., 0]
    return np.where(cumulative[..., -1] > 0, middle, np.nan)


def _robust_line(
    x: FloatArray, y: FloatArray, weight: FloatArray, size: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Slope, its standard error and the residuals' scale: Theil-Sen start, bisquare refinement.

    An MM-estimate (Yohai, 1987).

    The error is infinite with fewer than three pairs, the slope NaN with fewer than two.
    """
    used = weight > 0
    n = used.sum(axis=1)
    slope = _typical_slope(x, y, weight)
    fitted = np.where(n >= 2, slope, 0.0)
    level = np.nan_to_num(_weighted_median(y - fitted[:, None] * x, np.sqrt(weight)))
    robust = _bisquare(y - fitted[:, None] * x - level[:, None], weight, used, size)
    scale = robust.scale
    for _ in range(50):
        w = robust.weight
        total = np.maximum(w.sum(axis=1), np.finfo(float).tiny)
        mean_x, mean_y = (w * x).sum(axis=1) / total, (w * y).sum(axis=1) / total
        dx = x - mean_x[:, None]
        spread = (w * dx**2).sum(axis=1)
        moved = np.divide((w * dx * (y - mean_y[:, None])).sum(axis=1), spread, out=fitted.copy(), where=spread > 0)
        level = mean_y - moved * mean_x
        residual = y - moved[:, None] * x - level[:, None]
        done = np.all(np.abs(moved - fitted) <= 1e-10 * np.maximum(np.abs(fitted), 1.0))
        fitted = moved
        if done:
            break
        robust = _bisquare(residual, weight, used, size, scale)
    freedom = (robust.weight > 0).sum(axis=1) - 2
    middle = np.where(used, weight, 0.0) * x
    middle = middle.sum(axis=1) / np.maximum(weight.sum(axis=1), np.finfo(float).tiny)
    lever = np.where(used, weight, 0.0) * (x - middle[:, None]) ** 2
    # With few pairs the bisquare may keep none but those that happen to agree: the scale says how noisy they are.
    error = _spread_of(residual, weight, used, scale, lever, 2)
    return np.where(n >= 2, fitted, np.nan), np.where(freedom >= 1, error, np.inf), scale


def _typical_slope(x: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
    """Weighted median of the slopes from strike to strike; NaN with fewer than two."""
    used = weight > 0
    n = used.sum(axis=1)
    if n.max(initial=0) > _START_STRIKES:
        order = np.argsort(~used, axis=1, kind="stable")
        share = np.arange(_START_STRIKES) / (_START_STRIKES - 1)
        spread = np.round((n[:, None] - 1) * share).astype(np.int64)
        spread = np.where(n[:, None] > _START_STRIKES, spread, np.arange(_START_STRIKES))
        some = np.take_along_axis(order, spread, axis=1)
        x, y, weight = (np.take_along_axis(z, some, axis=1) for z in (x, y, weight))
        used = weight > 0
    i, j = _pairs(x.shape[1])
    if not len(i):
        return np.full(len(n), np.nan)
    both = used[:, i] & used[:, j]
    run = x[:, j] - x[:, i]
    both &= run != 0
    steps = np.divide(y[:, j] - y[:, i], run, out=np.zeros(both.shape), where=both)
    # A step between two pairs is as precise as their noise allows; so weighed, tight quotes outvote wide ones.
    noise = np.divide(1.0, weight, out=np.zeros(weight.shape), where=used)
    votes = np.where(both, noise[:, i] + noise[:, j], np.inf) ** -0.5
    return _weighted_median(steps, votes)


def _robust_mean(z: FloatArray, weight: FloatArray, size: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Bisquare location and its standard error, NaN with fewer than three entries."""
    used = weight > 0
    level = np.nan_to_num(_weighted_median(z, np.sqrt(weight)))
    robust = _bisquare(z - level[:, None], weight, used, size)
    scale = robust.scale
    for _ in range(50):
        total = np.maximum(robust.weight.sum(axis=1), np.finfo(float).tiny)
        moved = (robust.weight * z).sum(axis=1) / total
        done = np.all(np.abs(moved - level) <= 1e-11 * size)
        level = moved
        if done:
            break
        robust = _bisquare(z - level[:, None], weight, used, size, scale)
    freedom = (robust.weight > 0).sum(axis=1) - 1
    error = _spread_of(z - level[:, None], weight, used, scale, weight, 1)
    return level, np.where(freedom >= 2, error, np.nan)


def _spread_of(
    residual: FloatArray, weight: FloatArray, used: BoolArray, scale: FloatArray, lever: FloatArray, freedom_lost: int
) -> FloatArray:
    """Standard error of a coefficient of a bisquare fit (Huber, 1981, section 7.6, his first form).

    ``lever`` is the weight of each pair times its squared distance in what the coefficient multiplies; infinite where
    nothing tells. The variance of a pair is at least that which the robust scale means.
    """
    n = used.sum(axis=1)
    mean = _mean_weight(weight, used)
    share = np.sqrt(weight / mean[:, None]) * residual / (BISQUARE * scale[:, None])
    inside = used & (np.abs(share) < 1)
    psi = np.where(inside, share * (1 - share**2) ** 2, 0.0) * BISQUARE * scale[:, None]
    slope = np.where(inside, (1 - share**2) * (1 - 5 * share**2), 0.0)
    typical = slope.sum(axis=1) / np.maximum(n, 1)
    scatter = (np.where(used, slope - typical[:, None], 0.0) ** 2).sum(axis=1) / np.maximum(n, 1)
    size = (psi**2).sum(axis=1) / np.maximum(n - freedom_lost, 1)
    safe = np.maximum(typical, 0.1)
    correction = 1 + freedom_lost / np.maximum(n, 1) * scatter / safe**2
    variance = np.maximum(correction**2 * size / safe**2, scale**2) * mean
    total = lever.sum(axis=1)
    return np.asarray(np.sqrt(np.divide(variance, total, out=np.full(len(n), np.inf), where=total > 0)))


@dataclass(frozen=True)
class _Weights:
    weight: FloatArray
    scale: FloatArray


def _bisquare(
    residual: FloatArray,
    weight: FloatArray,
    used: BoolArray,
    size: FloatArray,
    scale: FloatArray | None = None,
) -> _Weights:
    """Weights times Tukey's bisquare of the residuals in units of their (weighted) scale."""
    standard = np.sqrt(weight / _mean_weight(weight, used)[:, None]) * residual
    if scale is None:
        scale = _MAD_TO_SD * np.nan_to_num(_masked_median(np.abs(standard), used))
        # Exact prices leave residuals of rounding size; a floor keeps those in and real outliers out.
        scale = np.maximum(scale, 1e-13 * size)
    u = standard / (BISQUARE * scale[:, None])
    return _Weights(weight * np.where(np.abs(u) < 1, (1 - u**2) ** 2, 0.0), scale)


def _mean_weight(weight: FloatArray, used: BoolArray) -> FloatArray:
    mean = weight.sum(axis=1) / np.maximum(used.sum(axis=1), 1)
    return np.where(mean > 0, mean, 1.0)


def _choose_rates(
    x: FloatArray,
    y: FloatArray,
    weight: FloatArray,
    size: FloatArray,
    tau: FloatArray,
    bounds: tuple[float, float],
    tolerance: float,
) -> tuple[FloatArray, npt.NDArray[np.int64], FloatArray]:
    """Own discount factor where precise and sane, else that of the pooled rate; NaN where there is neither.

    With where each came from, and its standard error.
    """
    slope, error, scale = _robust_line(x, y, weight, size)
    discount_factor = -slope
    readable = np.isfinite(discount_factor) & (discount_factor > 0)
    if not readable.any():
        return np.full(tau.shape, np.nan), np.zeros(tau.shape, dtype=np.int64), np.full(tau.shape, np.nan)
    safe = np.where(readable, discount_factor, 1.0)
    rate, rate_error = -np.log(safe) / tau, error / (safe * tau)
    own = readable & (rate >= bounds[0]) & (rate <= bounds[1]) & (rate_error <= tolerance)
    if own.all():
        return discount_factor, np.full(tau.shape, RATE_SOURCES.index("parity")), error
    judged = readable & np.isfinite(rate_error)
    # Two pairs give a slope and no error: such expiries count only when there is nothing better.
    voters = judged if judged.any() else readable
    precision = 1 / np.maximum(rate_error[voters], 1e-9) if judged.any() else np.ones(int(voters.sum()))
    start = float(_weighted_median(rate[voters], precision))
    pooled, pooled_error = _common_rate(x[voters], y[voters], weight[voters], scale[voters], tau[voters], start)
    inside = float(np.clip(pooled, *bounds))
    source = RATE_SOURCES.index("pooled" if inside == pooled else "bounded")
    common = np.exp(-inside * tau)
    return (
        np.where(own, discount_factor, common),
        np.where(own, RATE_SOURCES.index("parity"), source),
        np.where(own, error, tau * common * pooled_error),
    )


def _common_rate(
    x: FloatArray, y: FloatArray, weight: FloatArray, scale: FloatArray, tau: FloatArray, rate: float
) -> tuple[float, float]:
    """Rate that fits the parity lines of all expiries best, each with a level of its own (bisquare, from a start).

    And its standard error, NaN where nothing tells.
    """
    error = np.nan
    used = weight > 0
    scale = np.maximum(scale, np.finfo(float).tiny)
    base = weight / (_mean_weight(weight, used) * scale**2)[:, None]
    discount = np.exp(-rate * tau)[:, None]
    level = np.nan_to_num(_weighted_median(y + discount * x, np.sqrt(weight)))
    for _ in range(50):
        discount = np.exp(-rate * tau)[:, None]
        residual = np.where(used, y + discount * x - level[:, None], 0.0)
        u = residual * np.sqrt(base) / BISQUARE
        w = base * np.where(np.abs(u) < 1, (1 - u**2) ** 2, 0.0)
        total = np.maximum(w.sum(axis=1), np.finfo(float).tiny)[:, None]
        # Gauss-Newton in the rate, the levels eliminated: d residual / d rate = -tau D x.
        slope = tau[:, None] * discount * x
        slope = slope - (w * slope).sum(axis=1, keepdims=True) / total
        curvature = float((w * slope**2).sum())
        if not curvature > 0:
            break
        # Of residuals in units of their scale; the efficiency of the bisquare is 95%.
        error = float(np.sqrt(1 / (0.95 * curvature)))
        step = float((w * slope * residual).sum()) / curvature
        rate += float(np.clip(step, -0.05, 0.05))
        discount = np.exp(-rate * tau)[:, None]
        level = ((w * (y + discount * x)).sum(axis=1, keepdims=True) / total)[:, 0]
        if abs(step) <= 1e-12:
            break
    return rate, error

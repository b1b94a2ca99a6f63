"""Put-call parity of American options: their early-exercise premiums are taken off until forwards and rates agree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from volscen import black
from volscen._american import LOWEST, Market, PremiumCurve, european_implied_vol, solve_vol
from volscen._parity import Parity

__all__ = ["remove_early_exercise"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

#: Rounds of premiums and parity; they end when no forward moves by this part and no rate by this much.
_MAX_ROUNDS = 20
_FORWARD_TOLERANCE = 1e-6
_RATE_TOLERANCE = 1e-5

#: How far above the rate of raw parity the rounds begin, and how much longer than a plain round a step may be.
_HEAD_START = 0.03
_FASTEST = 10.0

#: An option in the money and worth no more than exercising it at once, within this part of its strike, tells nothing.
_EXERCISED = 1e-4


def remove_early_exercise(
    price: FloatArray,
    strike: FloatArray,
    is_call: BoolArray,
    of_expiry: IntArray,
    american: BoolArray,
    *,
    parity: Parity,
    tau: FloatArray,
    spot: float | None,
    refit: Callable[[FloatArray], Parity],
) -> tuple[FloatArray, Parity]:
    """European prices of American options, and the parity that holds between them.

    Parameters
    ----------
    price, strike : ndarray, shape (n,)
        Sorted by expiry and strike, call before put.
    is_call, american : ndarray of bool, shape (n,)
        Prices of options that are not American stay as they are.
    of_expiry : ndarray of int, shape (n,)
        Position in ``tau``.
    parity : Parity
        Of the prices as they are, to begin with.
    tau : ndarray, shape (E,)
    spot : float, optional
        Price of the underlying; when omitted, what discounted forwards tend to as expiries come near.
    refit : callable
        Parity of other prices; NaN marks those that have no part in it.

    Returns
    -------
    european : ndarray, shape (n,)
        NaN where a price is not above its value under exercise, or says nothing.
    parity : Parity

    Notes
    -----
    An out-of-the-money option gives the volatility of its strike, and the premium at that volatility is taken off both
    options of the strike: the price of one in the money, close to its value under exercise, hardly depends on
    volatility. Rates, and the forwards that give the yields, are those of the round before, until neither moves.
    """
    european = price
    # Premiums steepen the parity line of raw prices, so that its rate is too low; from above the rounds cannot end at
    # a rate below zero, where puts would have no premium at all.
    rate = np.maximum(_rates(parity, tau), 0.0) + _HEAD_START
    last: tuple[FloatArray, FloatArray] | None = None
    for _ in range(_MAX_ROUNDS):
        level = _spot(parity, tau, spot)
        european = np.where(american, np.nan, price)
        for j in range(len(tau)):
            rows = np.flatnonzero((of_expiry == j) & american)
            forward = float(parity.forward[j])
            if rows.size and np.isfinite(forward) and np.isfinite(rate[j]):
                carry = float(np.log(forward / level)) / float(tau[j])
                market = Market(level, float(tau[j]), float(rate[j]), float(rate[j]) - carry)
                european[rows] = _of_expiry(price[rows], strike[rows], is_call[rows], market)
        before, parity = parity, refit(european)
        miss = _rates(parity, tau) - rate
        moved = np.abs(np.log(parity.forward / before.forward))
        lost = np.isnan(parity.forward) & np.isnan(before.forward)
        if np.all(lost | ((moved <= _FORWARD_TOLERANCE) & (np.abs(miss) <= _RATE_TOLERANCE))):
            break
        step = miss
        if last is not None:
            # A secant step in each expiry's rate, which the plain rounds approach slowly where rates are high.
            change = miss - last[1]
            slope = np.divide(rate - last[0], change, out=np.full(tau.shape, -1.0), where=change != 0)
            step = -np.clip(slope, -_FASTEST, -1.0) * miss
        last = rate, miss
        rate = rate + step
    return european, parity


def _rates(parity: Parity, tau: FloatArray) -> FloatArray:
    return np.asarray(-np.log(parity.discount_factor) / tau)


def _spot(parity: Parity, tau: FloatArray, spot: float | None) -> float:
    """Spot, or where it is not given what discounted forwards tend to as expiries come near."""
    if spot is not None:
        return spot
    known = np.isfinite(parity.forward)
    level, t = np.log(parity.forward[known] * parity.discount_factor[known]), tau[known]
    if t.size == 1:
        return float(np.exp(level[0]))
    return float(np.exp(np.polynomial.Polynomial.fit(t, level, 1, w=1 / t)(0.0)))


def _of_expiry(price: FloatArray, strike: FloatArray, is_call: BoolArray, market: Market) -> FloatArray:
    """European prices of one expiry's rows, sorted by strike."""
    european = np.full(price.shape, np.nan)
    top = np.full(price.shape, np.nan)
    out = is_call == (strike >= market.forward)
    for side in (True, False):
        use = out & (is_call == side)
        top[use] = european_implied_vol(price[use], strike[use], is_call=side, market=market)
    if not np.isfinite(top).any():
        return european
    low, high = LOWEST * np.nanmin(top), np.nanmax(top)
    vol = np.full(price.shape, np.nan)
    curves: dict[bool, tuple[IntArray, PremiumCurve]] = {}
    for side in (True, False):
        rows = np.flatnonzero(is_call == side)
        if not rows.size:
            continue
        curves[side] = rows, PremiumCurve(strike[rows], low, high, is_call=side, market=market)
        which = np.flatnonzero(np.isfinite(top[rows]))
        use = rows[which]
        vol[use] = solve_vol(price[use], strike[use], top[use], curves[side][1], which, is_call=side, market=market)
        european[use] = black.price(market.forward, strike[use], market.tau, vol[use], side, market.discount_factor)
    known = np.flatnonzero(np.isfinite(vol))
    european[np.setdiff1d(np.flatnonzero(out), known)] = np.nan
    for side, (rows, curve) in curves.items():
        # Options in the money beside one of their strike that is not.
        position = np.minimum(np.searchsorted(strike[known], strike[rows]), known.size - 1) if known.size else rows * 0
        paired = ~out[rows] & (strike[known[position]] == strike[rows]) if known.size else np.zeros(rows.size, bool)
        which = np.flatnonzero(paired)
        use, at = rows[which], vol[known[position[which]]] if known.size else vol[:0]
        if not use.size:
            continue
        premium = curve(at, which)
        plain = black.price(market.forward, strike[use], market.tau, at, side, market.discount_factor)
        exercise = (market.spot - strike[use]) if side else (strike[use] - market.spot)
        waiting = plain + premium - exercise > _EXERCISED * strike[use]
        european[use] = np.where(waiting, price[use] - premium, np.nan)
    return european

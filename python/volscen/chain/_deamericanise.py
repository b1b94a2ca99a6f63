"""Put-call parity of American options: their early-exercise premiums are taken off until forwards and rates agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volscen import _core, american, black
from volscen.chain._parity import Parity

__all__ = ["remove_early_exercise"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

#: Rounds of premiums and parity; they end when no forward moves by this part and no rate by this much.
_MAX_ROUNDS = 40
_FORWARD_TOLERANCE = 1e-6
_RATE_TOLERANCE = 1e-5

#: How far above the rate of raw parity the rounds begin, and how much longer than a plain round a step may be.
_HEAD_START = 0.03
_FASTEST = 10.0

#: Rounds after which no more options in the money are taken in, so that none on the edge keeps the rounds going.
_SETTLED = 5

#: An option out of the money worth no more than exercising it at once, within this part of its strike, has no
#: volatility of its own. One in the money tells nothing within the other part: taking its premium off gives back the
#: forward that the premium came from.
_WORTH_WAITING = 1e-7
_EXERCISED = 1e-3


@dataclass(frozen=True)
class _Rows:
    """American options, sorted by expiry and strike, call before put; ``of_expiry`` says which expiry's market holds.

    ``partner`` is the position of the other option of the strike, or -1.
    """

    price: FloatArray
    strike: FloatArray
    is_call: BoolArray
    of_expiry: IntArray
    partner: IntArray

    @classmethod
    def of(cls, price: FloatArray, strike: FloatArray, is_call: BoolArray, of_expiry: IntArray) -> _Rows:
        partner = np.full(price.shape, -1)
        pair = np.flatnonzero(
            (of_expiry[1:] == of_expiry[:-1]) & (strike[1:] == strike[:-1]) & is_call[:-1] & ~is_call[1:]
        )
        partner[pair], partner[pair + 1] = pair + 1, pair
        return cls(price, strike, is_call, of_expiry, partner)


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
    window: float,
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
    window : float
        Distance from the money, as abs(ln(K/F)), within which pairs inform parity.
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
    volatility. Rates, and the forwards that give the yields, are those of the round before, until neither moves. Rounds
    look at strikes that parity does; the others follow once they have ended.
    """
    # Premiums steepen the parity line of raw prices, so that its rate is too low; from above the rounds cannot end at
    # a rate below zero, where puts would have no premium at all.
    rate = np.maximum(_rates(parity, tau), 0.0) + _HEAD_START
    last: tuple[FloatArray, FloatArray] | None = None
    near = american & _near(strike, of_expiry, parity.forward, window)
    rows = _Rows.of(price[near], strike[near], is_call[near], of_expiry[near])
    guess = np.full(rows.price.shape, np.nan)
    speaking: BoolArray | None = None
    for done in range(_MAX_ROUNDS):
        european = np.where(american, np.nan, price)
        european[near], guess = _european(rows, guess, parity, rate, tau, _spot(parity, tau, spot))
        if speaking is not None:
            european[near] = np.where(speaking, european[near], np.nan)
        if done >= _SETTLED:
            speaking = np.isfinite(european[near])
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
    whole = _Rows.of(price[american], strike[american], is_call[american], of_expiry[american])
    european = price.copy()
    start = np.full(price.shape, np.nan)
    start[near] = guess
    rate = _rates(parity, tau)
    european[american], _ = _european(whole, start[american], parity, rate, tau, _spot(parity, tau, spot))
    return european, parity


def _near(strike: FloatArray, of_expiry: IntArray, forward: FloatArray, window: float) -> BoolArray:
    """Rows that parity may look at while forwards move: those within the window and a quarter, or the dozen nearest."""
    distance = np.abs(np.log(strike / np.where(np.isfinite(forward), forward, 1.0)[of_expiry]))
    near = distance <= 1.25 * window
    for one in np.unique(of_expiry):
        rows = np.flatnonzero(of_expiry == one)
        if np.count_nonzero(near[rows]) < 24:
            near[rows[np.argsort(distance[rows], kind="stable")[:24]]] = True
    return near


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


def _european(
    rows: _Rows, guess: FloatArray, parity: Parity, rate: FloatArray, times: FloatArray, spot: float
) -> tuple[FloatArray, FloatArray]:
    """European prices, NaN where there is none, and the volatilities of options out of the money."""
    forward, r, tau = parity.forward[rows.of_expiry], rate[rows.of_expiry], times[rows.of_expiry]
    known = np.isfinite(forward) & np.isfinite(r)
    forward, r = np.where(known, forward, spot), np.where(known, r, 0.0)
    dividend_yield, discount = r - np.log(forward / spot) / tau, np.exp(-r * tau)
    waiting = np.where(rows.is_call, spot - rows.strike, rows.strike - spot)
    out = rows.is_call == (rows.strike >= forward)
    vol = np.full(rows.price.shape, np.nan)
    use = known & out & (rows.price - waiting > _WORTH_WAITING * rows.strike)
    vol[use], status = american.implied_vol(
        rows.price[use], spot, rows.strike[use], tau[use], rows.is_call[use], r[use], dividend_yield[use],
        start=guess[use],
    )  # fmt: skip
    # Where exercise would pay between two boundaries (rates below zero), the premium is taken for nothing.
    plain = np.flatnonzero(use)[status == american.AmericanStatus.TWO_BOUNDARIES]
    vol[plain], _ = black.implied_vol(
        rows.price[plain], forward[plain], rows.strike[plain], tau[plain], rows.is_call[plain], discount[plain]
    )
    vol[~(vol > 0)] = np.nan
    inside = known & ~out & (rows.partner >= 0)
    at = np.where(inside, vol[rows.partner], vol)
    value = black.price(forward, rows.strike, tau, at, rows.is_call, discount)
    inside &= np.isfinite(at)
    premium = np.zeros(rows.price.shape)
    every = np.full(forward.shape, spot)
    _, premium[inside], status = _core.american_price(
        every[inside], rows.strike[inside], tau[inside], at[inside], rows.is_call[inside], r[inside],
        dividend_yield[inside], 1,
    )  # fmt: skip
    premium[np.flatnonzero(inside)[status == american.AmericanStatus.TWO_BOUNDARIES]] = 0.0
    inside &= value + premium - waiting > _EXERCISED * rows.strike
    return np.where(inside, rows.price - premium, np.where(known & out, value, np.nan)), vol

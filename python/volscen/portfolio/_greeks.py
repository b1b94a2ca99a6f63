"""Values and sensitivities of instruments at the start: closed forms on each contract's own volatility."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from volscen import black
from volscen.portfolio._contracts import Contracts, StartingState
from volscen.portfolio._instruments import Cash, Forward, VarianceSwap, VixPayoff

__all__ = ["Greeks", "greeks_at_start", "vix_payoff"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Greeks:
    """Per unit of each instrument, arrays of shape (n,); S moves with volatility held fixed, and the forward with S.

    Attributes
    ----------
    value : ndarray
        In currency.
    delta, gamma : ndarray
        First and second derivative in the spot.
    vega, volga : ndarray
        First and second derivative in the contract's volatility, per 1.00.
    vanna : ndarray
        Derivative in spot and volatility.
    theta : ndarray
        Derivative in calendar time, per year, spot and volatility held fixed, down the curves of carry and discount.
    """

    value: FloatArray
    delta: FloatArray
    gamma: FloatArray
    vega: FloatArray
    theta: FloatArray
    vanna: FloatArray
    volga: FloatArray


def greeks_at_start(start: StartingState, c: Contracts) -> Greeks:
    """Everything at ``as_of``."""
    n = len(c.instruments)
    g = Greeks(*(np.zeros(n) for _ in fields(Greeks)))
    g.value[c.is_underlying] = start.spot
    g.delta[c.is_underlying] = 1.0
    _options(start, c, g)
    _forwards(start, c, g)
    _variance(start, c, g)
    cash = c.which(Cash)
    g.value[cash], g.theta[cash] = 1.0, start.short_rate
    vix = c.which(VixPayoff)
    sign = np.array([vix_sign(i.option_type) for i in c.instruments if isinstance(i, VixPayoff)])
    g.value[vix] = vix_payoff(sign, 100 * c.implied_vol[vix], c.strike[vix])
    g.vega[vix] = 100 * sign * (g.value[vix] > 0)
    return g


def vix_payoff(sign: float | FloatArray, points: FloatArray, strike: float | FloatArray) -> FloatArray:
    """What a payoff on the volatility index of slope ``sign`` is worth where it settles."""
    return np.asarray(np.maximum(sign * (points - strike), 0.0))


def vix_sign(option_type: str) -> float:
    """Slope of a payoff on the volatility index."""
    return -1.0 if option_type == "put" else 1.0


def _options(start: StartingState, c: Contracts, g: Greeks) -> None:
    o = np.flatnonzero(c.is_option)
    t, vol = c.tau[o], c.implied_vol[o]
    carry, discount = start.carry(t), start.discount_factor(t)
    slope, discount_slope = start.slopes(t)
    forward = start.spot * carry
    arguments = (forward, c.strike[o], t, vol, c.is_call[o], discount)
    by_forward = black.delta(*arguments)
    g.value[o] = black.price(*arguments)
    g.delta[o] = carry * by_forward  # the forward moves with the spot
    g.gamma[o] = carry**2 * black.gamma(*arguments)
    vega = g.vega[o] = black.vega(*arguments)
    # The price knows time through vol sqrt(t), the forward and the discount factor.
    g.theta[o] = -(vega * vol / (2 * t) + discount_slope * g.value[o] + by_forward * forward * slope)
    s = vol * np.sqrt(t)
    d1 = -np.log(c.moneyness[o]) / s + s / 2
    d2 = d1 - s
    g.vanna[o] = -vega * d2 / (start.spot * s)
    g.volga[o] = vega * d1 * d2 / vol


def _forwards(start: StartingState, c: Contracts, g: Greeks) -> None:
    o = c.which(Forward)
    t = c.tau[o]
    discount, paid = start.discount_factor(t), start.discount_factor(t) * start.carry(t)
    slope, discount_slope = start.slopes(t)
    g.value[o] = paid * start.spot - discount * c.strike[o]
    g.delta[o] = paid
    g.theta[o] = -(discount_slope * g.value[o] + paid * start.spot * slope)


def _variance(start: StartingState, c: Contracts, g: Greeks) -> None:
    o = c.which(VarianceSwap)
    t, vol = c.tau[o], c.implied_vol[o]
    discount = start.discount_factor(t)
    _, discount_slope = start.slopes(t)
    share = discount / c.term[o]
    g.value[o] = share * (c.realised[o] + vol**2 * t) - discount * c.strike[o]
    g.gamma[o] = 2 * share / start.spot**2  # a return of r adds r^2 to what is realised
    g.vega[o] = 2 * share * vol * t
    g.volga[o] = 2 * share * t
    g.theta[o] = -(share * vol**2 + discount_slope * g.value[o])

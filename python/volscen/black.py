"""Black-76 prices, greeks and implied volatility of European options on a forward.

All functions work element by element on operands that broadcast together, with any strides, and return
float64 arrays of the common shape (a NumPy scalar where every operand is one). Strikes and forwards are in
the same currency, times in years, vols as decimals, discount factors as numbers.

>>> from volscen import black
>>> float(round(black.price(100.0, 100.0, 1.0, 0.2), 10))
7.9655674554
>>> vol, status = black.implied_vol(7.9655674554, 100.0, 100.0, 1.0)
>>> round(float(vol), 10), black.ImpliedVolStatus(status).name
(0.2, 'OK')
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from ._array import bool_array, broadcast, float_array, thread_count

__all__ = ["ImpliedVolStatus", "delta", "gamma", "implied_total_vol", "implied_vol", "price", "theta", "vega"]


class ImpliedVolStatus(enum.IntEnum):
    """What :func:`implied_vol` found for one element."""

    OK = 0
    #: The price is exactly the intrinsic value; the vol returned is 0.
    NO_TIME_VALUE = 1
    #: The price is below df max(F - K, 0) (call) or df max(K - F, 0) (put): no vol gives it.
    BELOW_INTRINSIC = 2
    #: The price is at or above df F (call) or df K (put), as rounded, which no finite vol reaches.
    ABOVE_MAXIMUM = 3
    #: tau is zero: the price does not depend on the vol.
    ZERO_TAU = 4
    #: An operand is NaN, infinite, negative, or zero where it must be positive.
    INVALID_INPUT = 5
    #: The iteration did not settle; reported rather than returned as a doubtful number.
    NOT_CONVERGED = 6


def _evaluate(
    function: Callable[..., NDArray[np.float64]],
    forward: ArrayLike,
    strike: ArrayLike,
    tau: ArrayLike,
    implied_vol: ArrayLike,
    is_call: ArrayLike,
    discount_factor: ArrayLike,
    num_threads: int | None,
) -> Any:
    operands = broadcast(
        {
            "forward": float_array("forward", forward),
            "strike": float_array("strike", strike),
            "tau": float_array("tau", tau),
            "implied_vol": float_array("implied_vol", implied_vol),
            "is_call": bool_array("is_call", is_call),
            "discount_factor": float_array("discount_factor", discount_factor),
        }
    )
    return function(*operands, thread_count(num_threads))[()]


def price(
    forward: ArrayLike,
    strike: ArrayLike,
    tau: ArrayLike,
    implied_vol: ArrayLike,
    is_call: ArrayLike = True,
    discount_factor: ArrayLike = 1.0,
    *,
    num_threads: int | None = None,
) -> Any:
    """Price European options on a forward.

    Parameters
    ----------
    forward, strike
        Forward F for the option's expiry and strike K, both positive.
    tau
        Time to expiry in years, zero or more.
    implied_vol
        Black volatility per square-root year, as a decimal, zero or more.
    is_call
        True for a call, False for a put.
    discount_factor
        Price today of one unit paid at expiry, positive.
    num_threads
        Threads to use, one by default. The result is the same for any number.

    Returns
    -------
    numpy.ndarray or numpy.float64
        Price of each option. Its time value lies within about 1e-15 of the smaller of forward and strike, and the
        sum with the intrinsic value is rounded. With ``tau`` or ``implied_vol`` zero, the discounted intrinsic
        value. NaN where an operand is NaN, infinite or out of its range.

    Raises
    ------
    InputError
        When operands do not broadcast together or are not real numbers (``is_call``: bool).

    Notes
    -----
    F. Black (1976), "The pricing of commodity contracts", Journal of Financial Economics 3.

    Examples
    --------
    >>> from volscen import black
    >>> black.price(100.0, [90.0, 100.0, 110.0], 0.5, 0.2, [False, True, True], 0.99).round(4).tolist()
    [1.7547, 5.5808, 2.1891]
    """
    return _evaluate(_core.black_price, forward, strike, tau, implied_vol, is_call, discount_factor, num_threads)


def delta(
    forward: ArrayLike,
    strike: ArrayLike,
    tau: ArrayLike,
    implied_vol: ArrayLike,
    is_call: ArrayLike = True,
    discount_factor: ArrayLike = 1.0,
    *,
    num_threads: int | None = None,
) -> Any:
    """Derivative of the price in the forward, discounted: df N(d1) for a call, -df N(-d1) for a put.

    Parameters
    ----------
    forward, strike, tau, implied_vol, is_call, discount_factor, num_threads
        As for :func:`price`.

    Returns
    -------
    numpy.ndarray or numpy.float64
        Delta of each option. Where nothing is left to vary (``tau`` or ``implied_vol`` zero): the slope of the
        intrinsic value, and half the discount factor (with the option's sign) at forward = strike. NaN as
        for :func:`price`.

    Raises
    ------
    InputError
        As for :func:`price`.

    Examples
    --------
    >>> from volscen import black
    >>> float(black.delta(100.0, 100.0, 1.0, 0.2).round(6))
    0.539828
    """
    return _evaluate(_core.black_delta, forward, strike, tau, implied_vol, is_call, discount_factor, num_threads)


def gamma(
    forward: ArrayLike,
    strike: ArrayLike,
    tau: ArrayLike,
    implied_vol: ArrayLike,
    is_call: ArrayLike = True,
    discount_factor: ArrayLike = 1.0,
    *,
    num_threads: int | None = None,
) -> Any:
    """Second derivative of the price in the forward, discounted; the same for calls and puts.

    Parameters
    ----------
    forward, strike, tau, implied_vol, is_call, discount_factor, num_threads
        As for :func:`price`.

    Returns
    -------
    numpy.ndarray or numpy.float64
        Gamma of each option. Where nothing is left to vary: 0, and infinite at forward = strike. NaN as for
        :func:`price`.

    Raises
    ------
    InputError
        As for :func:`price`.

    Examples
    --------
    >>> from volscen import black
    >>> float(black.gamma(100.0, 100.0, 1.0, 0.2).round(6))
    0.019848
    """
    return _evaluate(_core.black_gamma, forward, strike, tau, implied_vol, is_call, discount_factor, num_threads)


def vega(
    forward: ArrayLike,
    strike: ArrayLike,
    tau: ArrayLike,
    implied_vol: ArrayLike,
    is_call: ArrayLike = True,
    discount_factor: ArrayLike = 1.0,
    *,
    num_threads: int | None = None,
) -> Any:
    """Derivative of the price in the implied vol (per 1.00 of vol); the same for calls and puts.

    Parameters
    ----------
    forward, strike, tau, implied_vol, is_call, discount_factor, num_threads
        As for :func:`price`.

    Returns
    -------
    numpy.ndarray or numpy.float64
        Vega of each option. At ``implied_vol`` zero: 0, and its limit df F sqrt(tau/(2 pi)) at
        forward = strike. NaN as for :func:`price`.

    Raises
    ------
    InputError
        As for :func:`price`.

    Examples
    --------
    >>> from volscen import black
    >>> float(black.vega(100.0, 100.0, 1.0, 0.2).round(6))
    39.695255
    """
    return _evaluate(_core.black_vega, forward, strike, tau, implied_vol, is_call, discount_factor, num_threads)


def theta(
    forward: ArrayLike,
    strike: ArrayLike,
    tau: ArrayLike,
    implied_vol: ArrayLike,
    is_call: ArrayLike = True,
    discount_factor: ArrayLike = 1.0,
    *,
    num_threads: int | None = None,
) -> Any:
    """Derivative of the price in calendar time, per year, with the forward and the interest rate held fixed.

    This is r V - df F phi(d1) vol/(2 sqrt(tau)) with r = -ln(df)/tau.

    Parameters
    ----------
    forward, strike, tau, implied_vol, is_call, discount_factor, num_threads
        As for :func:`price`.

    Returns
    -------
    numpy.ndarray or numpy.float64
        Theta of each option; minus infinity at ``tau`` zero and forward = strike. NaN as for :func:`price`,
        and at ``tau`` zero with a discount factor other than 1, which leaves the rate undefined.

    Raises
    ------
    InputError
        As for :func:`price`.

    Examples
    --------
    >>> from volscen import black
    >>> float(black.theta(100.0, 100.0, 1.0, 0.2).round(6))
    -3.969525
    """
    return _evaluate(_core.black_theta, forward, strike, tau, implied_vol, is_call, discount_factor, num_threads)


def implied_vol(
    price: ArrayLike,
    forward: ArrayLike,
    strike: ArrayLike,
    tau: ArrayLike,
    is_call: ArrayLike = True,
    discount_factor: ArrayLike = 1.0,
    *,
    num_threads: int | None = None,
) -> tuple[Any, Any]:
    """Find the Black volatility at which each option has the price given. No starting value is needed.

    Parameters
    ----------
    price
        Price of the option, zero or more.
    forward, strike, tau, is_call, discount_factor, num_threads
        As for :func:`price`.

    Returns
    -------
    vol : numpy.ndarray or numpy.float64
        Volatility per square-root year. 0 where the price is exactly the intrinsic value, or the vol below the
        smallest number; NaN where the status is neither ``OK`` nor ``NO_TIME_VALUE``.
    status : numpy.ndarray or numpy.int8
        :class:`ImpliedVolStatus` of each element.

    Raises
    ------
    InputError
        As for :func:`price`. Prices that no vol gives are not errors: they have a status.

    Notes
    -----
    The relative error stays below twice eps (1 + v/(vega vol)), v being the time value of the out-of-the-money
    option on the same strike and eps = 2.2e-16: what rounding the price alone would cost. That holds at any
    distance from the money, for all sizes of the operands, for prices down to the smallest numbers and up to the cap,
    and for vols above 1e-307. The intrinsic value is taken from the price without rounding.

    Near the money (vol sqrt(tau) below some 1.9 and strikes within a factor 400 of the forward) a rational inverse
    of Bachelier's formula times a polynomial gives a first approximation, and one correction of fifth order the
    vol; the residual comes from a Taylor series of Mills' ratio, which has no cancellation, as in P. Jaeckel (2015),
    "Let's be rational", Wilmott. Farther out, Householder steps of third order on the logarithm of the time value
    or of its complement, as there. Results are the same bits on every instruction set.

    Examples
    --------
    >>> from volscen import black
    >>> vol, status = black.implied_vol([2.0, 11.0, 7.0], 100.0, [110.0, 90.0, 90.0], 0.5)
    >>> vol.round(6).tolist()
    [0.190921, 0.159042, nan]
    >>> [black.ImpliedVolStatus(code).name for code in status]
    ['OK', 'OK', 'BELOW_INTRINSIC']
    """
    p, f, k, t, calls, df = broadcast(
        {
            "price": float_array("price", price),
            "forward": float_array("forward", forward),
            "strike": float_array("strike", strike),
            "tau": float_array("tau", tau),
            "is_call": bool_array("is_call", is_call),
            "discount_factor": float_array("discount_factor", discount_factor),
        }
    )
    vol, status = _core.implied_vol(p, f, k, t, calls, df, thread_count(num_threads))
    return vol[()], status[()]


def implied_total_vol(
    normalised_price: ArrayLike,
    log_moneyness: ArrayLike,
    is_call: ArrayLike = True,
    *,
    num_threads: int | None = None,
) -> tuple[Any, Any]:
    """Find vol sqrt(tau) from normalised prices. No starting value is needed.

    Parameters
    ----------
    normalised_price
        Undiscounted price over sqrt(F K), zero or more.
    log_moneyness
        k = ln(K/F), between -1400 and 1400 (Jaeckel's x is -k): a call is out of the money where it is positive.
    is_call
        True for a call, False for a put.
    num_threads
        Threads to use, one by default. The result is the same for any number.

    Returns
    -------
    total_vol : numpy.ndarray or numpy.float64
        Volatility times the square root of time. 0 where the price is the intrinsic value 2 sinh(abs(k)/2) of an
        option in the money, or 0 out of it; NaN where the status is neither ``OK`` nor ``NO_TIME_VALUE``.
    status : numpy.ndarray or numpy.int8
        :class:`ImpliedVolStatus` of each element. ``ABOVE_MAXIMUM``: at or above exp(-k/2) (call) or exp(k/2)
        (put).

    Raises
    ------
    InputError
        When operands do not broadcast together or are not real numbers (``is_call``: bool).

    Notes
    -----
    The method and accuracy of :func:`implied_vol`, which is the better choice where forward and strike are at hand:
    in the money and near it, rounding ln(K/F) and the price over sqrt(F K) costs digits that nothing brings back.

    Examples
    --------
    >>> from volscen import black
    >>> total_vol, status = black.implied_total_vol([0.08, 0.04], [0.0, 0.1])
    >>> total_vol.round(6).tolist()
    [0.200867, 0.201544]
    """
    p, k, calls = broadcast(
        {
            "normalised_price": float_array("normalised_price", normalised_price),
            "log_moneyness": float_array("log_moneyness", log_moneyness),
            "is_call": bool_array("is_call", is_call),
        }
    )
    total_vol, status = _core.implied_total_vol(p, k, calls, thread_count(num_threads))
    return total_vol[()], status[()]

"""Prices and implied volatilities of American options on an underlying with a continuous yield.

All functions work element by element on operands that broadcast together, with any strides, and return
float64 arrays of the common shape (a NumPy scalar where every operand is one).

>>> from volscen import american
>>> value = american.price(100.0, 100.0, 1.0, 0.2, is_call=False, rate=0.05)
>>> round(float(value), 6)
6.09037
>>> vol, status = american.implied_vol(value, 100.0, 100.0, 1.0, is_call=False, rate=0.05)
>>> round(float(vol), 6), int(status)
(0.2, 0)
"""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import _core, black
from ._array import bool_array, broadcast, float_array, thread_count

__all__ = ["AmericanStatus", "early_exercise_premium", "implied_vol", "price"]


class AmericanStatus(enum.IntEnum):
    """What :func:`implied_vol` found for one element; the codes of :class:`volscen.black.ImpliedVolStatus` and one."""

    OK = 0
    #: The price is exactly its least, that of no volatility; the vol returned is 0.
    NO_TIME_VALUE = 1
    #: The price is below what the option is worth without volatility, such as its value under exercise.
    BELOW_INTRINSIC = 2
    #: The price is at or above its cap, which no finite vol reaches.
    ABOVE_MAXIMUM = 3
    #: tau is zero: the price does not depend on the vol.
    ZERO_TAU = 4
    #: An operand is NaN, infinite or out of its range.
    INVALID_INPUT = 5
    #: The iteration did not settle; reported rather than returned as a doubtful number.
    NOT_CONVERGED = 6
    #: Puts with dividend_yield < rate < 0, calls with rate < dividend_yield < 0: exercise pays between two
    #: boundaries, which is not treated.
    TWO_BOUNDARIES = 7


def price(
    spot: ArrayLike,
    strike: ArrayLike,
    tau: ArrayLike,
    implied_vol: ArrayLike,
    is_call: ArrayLike = True,
    rate: ArrayLike = 0.0,
    dividend_yield: ArrayLike = 0.0,
    *,
    num_threads: int | None = None,
) -> Any:
    """Price American options.

    Parameters
    ----------
    spot, strike
        Price of the underlying and strike, both positive.
    tau
        Time to expiry in years, from 0 to 1000.
    implied_vol
        Volatility per square-root year, as a decimal, from 0 to 100.
    is_call
        True for a call, False for a put.
    rate, dividend_yield
        Continuously compounded, annual, of any sign; at most 100 in size when multiplied by ``tau``.
    num_threads
        Threads to use, one by default. The result is the same for any number.

    Returns
    -------
    numpy.ndarray or numpy.float64
        Price of each option, within some 1e-7 of the strike (of a call: the spot; see Notes). NaN where an operand is
        NaN, infinite or out of its range, and where exercise would pay between two boundaries (puts with
        dividend_yield < rate < 0, calls with rate < dividend_yield < 0).

    Raises
    ------
    InputError
        When operands do not broadcast together or are not real numbers (``is_call``: bool).

    Notes
    -----
    The price is that of the European option and the premium of early exercise, an integral along the exercise
    boundary (I. J. Kim (1990), "The analytic valuation of American options", Review of Financial Studies 3). The
    boundary comes from the collocation of L. Andersen, M. Lake and D. Offengenden (2016), "High-performance American
    option pricing", Journal of Computational Finance 20: system B, 10 Chebyshev points for the squared logarithm in
    the root of time (13 where rate times tau exceeds 6%). Integrals are taken over the angle a with u = t cos^2 a, in
    which the integrand is smooth at both ends; 8 and 24 points then suffice (10 and 40). The error is largest where
    rate times tau is: up to 3 years, 12% and vols of 5% to 150% it is below 1e-7 of the strike for 99 options of 100
    and at most 5e-7; of a call, which is priced as a put with spot and strike exchanged, these are shares of the spot,
    and so more of the strike deep in the money. For a put whose rate is less than 0.1% above a negative yield (a call:
    exchanged) it is up to 1e-4.

    Examples
    --------
    >>> from volscen import american
    >>> american.price(100.0, [90.0, 100.0, 110.0], 0.5, 0.25, False, 0.05, 0.02).round(4).tolist()
    [2.4683, 6.3529, 12.5139]
    """
    return _value(spot, strike, tau, implied_vol, is_call, rate, dividend_yield, num_threads)[0][()]


def early_exercise_premium(
    spot: ArrayLike,
    strike: ArrayLike,
    tau: ArrayLike,
    implied_vol: ArrayLike,
    is_call: ArrayLike = True,
    rate: ArrayLike = 0.0,
    dividend_yield: ArrayLike = 0.0,
    *,
    num_threads: int | None = None,
) -> Any:
    """American price less European price, without their common digits cancelling; operands as for :func:`price`.

    Returns
    -------
    numpy.ndarray or numpy.float64
        Zero or more; NaN as for :func:`price`.

    Raises
    ------
    InputError
        As for :func:`price`.

    Examples
    --------
    >>> from volscen import american
    >>> american.early_exercise_premium(100.0, [90.0, 110.0], 0.5, 0.25, [True, False], 0.05).round(4).tolist()
    [0.0, 0.6092]
    """
    return _value(spot, strike, tau, implied_vol, is_call, rate, dividend_yield, num_threads)[1][()]


def implied_vol(
    price: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    tau: ArrayLike,
    is_call: ArrayLike = True,
    rate: ArrayLike = 0.0,
    dividend_yield: ArrayLike = 0.0,
    *,
    start: ArrayLike = np.nan,
    num_threads: int | None = None,
) -> tuple[Any, Any]:
    """Find the volatility at which each American option has the price given.

    Parameters
    ----------
    price
        Price of the option, zero or more.
    spot, strike, tau, is_call, rate, dividend_yield, num_threads
        As for the function :func:`price`.
    start
        A guess to begin with, such as yesterday's volatility; NaN for the European volatility of the price.

    Returns
    -------
    implied_vol : numpy.ndarray or numpy.float64
        Volatility per square-root year. 0 where the price is exactly that of no volatility; NaN where the status is
        neither ``OK`` nor ``NO_TIME_VALUE``.
    status : numpy.ndarray or numpy.int8
        :class:`AmericanStatus` of each element.

    Raises
    ------
    InputError
        As for the function :func:`price`. Prices that no vol gives are not errors: they have a status.

    Notes
    -----
    The price rises with volatility: secant steps within a bracket, until the volatility moves by less than 1e-7 of
    itself, which leaves an error far below. A price hardly above its value under exercise depends on volatility too
    little to tell it well.

    Examples
    --------
    >>> from volscen import american
    >>> vol, status = american.implied_vol([6.3529, 10.0, 9.0], 100.0, [100.0, 110.0, 110.0], 0.5, False, 0.05, 0.02)
    >>> vol.round(4).tolist()
    [0.25, 0.0, nan]
    >>> [american.AmericanStatus(code).name for code in status]
    ['OK', 'NO_TIME_VALUE', 'BELOW_INTRINSIC']
    """
    p, s, k, t, calls, r, q, begin = broadcast(
        {
            "price": float_array("price", price),
            "spot": float_array("spot", spot),
            "strike": float_array("strike", strike),
            "tau": float_array("tau", tau),
            "is_call": bool_array("is_call", is_call),
            "rate": float_array("rate", rate),
            "dividend_yield": float_array("dividend_yield", dividend_yield),
            "start": float_array("start", start),
        }
    )
    threads = thread_count(num_threads)
    unknown = np.isnan(begin)
    if unknown.any():
        with np.errstate(over="ignore", invalid="ignore"):
            forward, discount = s * np.exp((r - q) * t), np.exp(-r * t)
        # The American price is above the European one, so that this is at or above what is sought.
        european, _ = black.implied_vol(p, forward, k, t, calls, discount, num_threads=threads)
        begin = np.where(unknown, european, begin)
    vol, status = _core.american_implied_vol(p, s, k, t, calls, r, q, np.asarray(begin), threads)
    return vol[()], status[()]


def _value(
    spot: ArrayLike,
    strike: ArrayLike,
    tau: ArrayLike,
    implied_vol: ArrayLike,
    is_call: ArrayLike,
    rate: ArrayLike,
    dividend_yield: ArrayLike,
    num_threads: int | None,
) -> tuple[Any, Any]:
    s, k, t, vol, calls, r, q = broadcast(
        {
            "spot": float_array("spot", spot),
            "strike": float_array("strike", strike),
            "tau": float_array("tau", tau),
            "implied_vol": float_array("implied_vol", implied_vol),
            "is_call": bool_array("is_call", is_call),
            "rate": float_array("rate", rate),
            "dividend_yield": float_array("dividend_yield", dividend_yield),
        }
    )
    value, premium, _ = _core.american_price(s, k, t, vol, calls, r, q, thread_count(num_threads))
    return value, premium

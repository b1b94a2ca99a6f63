"""Bachelier prices and normal implied volatility of European options on a forward.

The model of rates and spreads: the forward moves by normal increments, so that forwards and strikes may be
zero or negative. All functions work element by element on operands that broadcast together, with any
strides, and return float64 arrays of the common shape (a NumPy scalar where every operand is one).

>>> from volscen import bachelier
>>> float(round(bachelier.price(0.01, 0.01, 1.0, 0.006), 12))
0.002393653682
>>> vol, status = bachelier.implied_vol(0.002393653682, 0.01, 0.01, 1.0)
>>> round(float(vol), 10), int(status)
(0.006, 0)
"""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from . import _core
from ._array import bool_array, broadcast, float_array, thread_count
from .black import ImpliedVolStatus

__all__ = ["ImpliedVolStatus", "implied_vol", "price"]


def price(
    forward: ArrayLike,
    strike: ArrayLike,
    tau: ArrayLike,
    normal_vol: ArrayLike,
    is_call: ArrayLike = True,
    discount_factor: ArrayLike = 1.0,
    *,
    num_threads: int | None = None,
) -> Any:
    """Price European options on a forward that moves by normal increments.

    Parameters
    ----------
    forward, strike
        Forward F for the option's expiry and strike K, of any sign.
    tau
        Time to expiry in years, zero or more.
    normal_vol
        Standard deviation of the forward per square-root year, in the forward's unit, zero or more.
    is_call
        True for a call, False for a put.
    discount_factor
        Price today of one unit paid at expiry, positive.
    num_threads
        Threads to use, one by default. The result is the same for any number.

    Returns
    -------
    numpy.ndarray or numpy.float64
        Price of each option. Out of the money the relative error is a few roundings at any distance, of
        values that are normal numbers before they are discounted. With ``tau`` or
        ``normal_vol`` zero, the discounted intrinsic value. NaN where an operand or F - K is NaN, infinite or out
        of its range.

    Raises
    ------
    InputError
        When operands do not broadcast together or are not real numbers (``is_call``: bool).

    Notes
    -----
    L. Bachelier (1900), "Theorie de la speculation". The time value is s phi(a) (1 - a R(a)) with
    s = normal_vol sqrt(tau), a = abs(F - K)/s and Mills' ratio R, the last factor a rational function.

    Examples
    --------
    >>> from volscen import bachelier
    >>> bachelier.price(-0.001, [-0.005, 0.0, 0.005], 0.5, 0.004, [False, True, True]).round(8).tolist()
    [0.00010051, 0.00069818, 1.725e-05]
    """
    f, k, t, vol, calls, df = broadcast(
        {
            "forward": float_array("forward", forward),
            "strike": float_array("strike", strike),
            "tau": float_array("tau", tau),
            "normal_vol": float_array("normal_vol", normal_vol),
            "is_call": bool_array("is_call", is_call),
            "discount_factor": float_array("discount_factor", discount_factor),
        }
    )
    return _core.bachelier_price(f, k, t, vol, calls, df, thread_count(num_threads))[()]


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
    """Find the normal volatility at which each option has the price given. No starting value is needed.

    Parameters
    ----------
    price
        Price of the option, zero or more.
    forward, strike, tau, is_call, discount_factor, num_threads
        As for :func:`price`.

    Returns
    -------
    normal_vol : numpy.ndarray or numpy.float64
        Volatility per square-root year, in the forward's unit. 0 where the price is exactly the intrinsic value, or the
        vol below the smallest number; NaN where the status is neither ``OK`` nor ``NO_TIME_VALUE``.
    status : numpy.ndarray or numpy.int8
        :class:`~volscen.black.ImpliedVolStatus` of each element. There is no cap on the price:
        ``ABOVE_MAXIMUM`` only where the vol would be beyond the largest number.

    Raises
    ------
    InputError
        As for :func:`price`. Prices that no vol gives are not errors: they have a status.

    Notes
    -----
    The relative error stays below twice eps (1 + v/(vega vol)), v being the time value and eps = 2.2e-16: what
    rounding the price alone would cost; for operands of all sizes, and vols above 1e-307. The intrinsic value is
    taken from the price without rounding.

    The ratio of abs(F - K) to the time value determines abs(F - K)/s alone (compare P. Jaeckel (2017), "Implied
    normal volatility", Wilmott): a rational function gives it to 2e-5, and one correction of fifth order does the
    rest.

    Examples
    --------
    >>> from volscen import bachelier
    >>> vol, status = bachelier.implied_vol([0.0005, 0.0041, 0.001], -0.001, [0.0, -0.005, -0.005], 0.5)
    >>> vol.round(6).tolist()
    [0.003241, 0.003995, nan]
    >>> [bachelier.ImpliedVolStatus(code).name for code in status]
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
    vol, status = _core.bachelier_implied_vol(p, f, k, t, calls, df, thread_count(num_threads))
    return vol[()], status[()]

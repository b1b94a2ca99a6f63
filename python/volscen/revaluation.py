"""Values and greeks of options on many scenarios of a surface: arrays in, arrays out.

Every scenario is a spot and a surface; every contract a strike, the time that remains, and the distance of its
own volatility from the surface. The compiled core interpolates each surface at each contract and prices by
Black (1976). :func:`volscen.portfolio.revalue` does the same for instruments on a scenario dataset.

>>> from volscen import revaluation
>>> surfaces = [[[0.22, 0.20, 0.19]], [[0.27, 0.24, 0.22]]]  # 2 scenarios, 1 maturity, 3 moneyness points
>>> found = revaluation.price(surfaces, [0.25], [0.9, 1.0, 1.1], [100.0, 95.0], [95.0, 100.0], 0.25, [False, True])
>>> found.price.round(4).tolist()
[[2.0548, 3.9878], [4.5452, 2.3941]]
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from ._array import (
    bool_array,
    broadcast,
    extrapolation_code,
    float_array,
    increasing_positive,
    surfaces_array,
    thread_count,
)
from .errors import InputError

__all__ = ["Values", "price"]

FloatArray = NDArray[np.float64]


class Values(NamedTuple):
    """What :func:`price` found.

    Attributes
    ----------
    price : ndarray, shape (N, M), or (N,) with ``quantity``
        Value of one unit of each contract in every scenario, or of the whole book, in the currency of the spot.
    delta : ndarray like ``price``, or None
        Change in value per unit of spot, the volatility held fixed.
    vega : ndarray like ``price``, or None
        Change in value per 1.00 of volatility.
    floored : ndarray of int, shape (M,)
        Per contract, the number of scenarios whose volatility fell below ``vol_floor`` and was kept there.
    """

    price: FloatArray
    delta: FloatArray | None
    vega: FloatArray | None
    floored: NDArray[np.int64]


def price(
    implied_vol: ArrayLike,
    tau: ArrayLike,
    moneyness: ArrayLike,
    spot: ArrayLike,
    strike: ArrayLike,
    remaining: ArrayLike,
    is_call: ArrayLike = True,
    *,
    carry: ArrayLike = 1.0,
    discount_factor: ArrayLike = 1.0,
    vol_offset: ArrayLike = 0.0,
    quantity: ArrayLike | None = None,
    vol_floor: float = 1e-3,
    extrapolation: str = "flat_vol",
    greeks: bool = False,
    num_threads: int | None = None,
) -> Values:
    """Price M European options on each of N scenarios.

    Parameters
    ----------
    implied_vol : array_like, shape (N, J, I)
        Surface of each scenario: positive decimals, float32 or float64, with any strides (a step of a scenario
        cube needs no copy).
    tau : array_like, shape (J,)
        Times to expiry of the grid in years, positive and strictly increasing.
    moneyness : array_like, shape (I,)
        K/F of the grid, positive and strictly increasing.
    spot : array_like, shape (N,)
        Spot price in each scenario, positive.
    strike : array_like, shape (M,)
        Positive; or 0, which makes a call worth the discounted forward.
    remaining : array_like, shape (M,) or ()
        Time to expiry in the scenarios, in years. At zero or less the option is worth its discounted intrinsic
        value.
    is_call : array_like of bool, shape (M,) or ()
        True for a call, False for a put.
    carry : array_like, shape (M,) or ()
        Forward over spot for the contract's remaining time, positive: F = ``carry`` x ``spot``.
    discount_factor : array_like, shape (M,) or ()
        Price in the scenarios of one unit paid at expiry, positive.
    vol_offset : array_like, shape (M,) or ()
        Added to the surface's volatility: what the contract's own volatility was above the surface at the
        start.
    quantity : array_like, shape (M,), optional
        Units of each contract; the results are then sums over the contracts, and the matrix of single values
        is never formed.
    vol_floor : float
        Lowest volatility a contract is valued at, positive.
    extrapolation : {"flat_vol", "flat_total_variance", "linear"}
        What holds outside the grid, as for :func:`volscen.surface.interpolate_vol`.
    greeks : bool
        Whether to return delta and vega as well.
    num_threads : int, optional
        Threads to use, one by default. The result is the same for any number.

    Returns
    -------
    Values
        ``price``, ``delta``, ``vega`` and ``floored``. Prices lie within about 1e-15 of the
        forward or of the strike, the larger.

    Raises
    ------
    InputError
        If shapes do not fit, a grid is not increasing, or a number is NaN, infinite or out of its range.

    Notes
    -----
    In scenario n contract m has the volatility surface_n(remaining_m, K_m/F) + vol_offset_m, by the rule of
    :func:`volscen.surface.interpolate_vol`, and the price of F. Black (1976), "The pricing of commodity
    contracts", Journal of Financial Economics 3. With ``quantity`` contracts are added up in their order. A
    value depends on its own scenario and contract alone, bit for bit. At ``remaining`` zero delta is the slope
    of the intrinsic value, and half of it at F = K.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen import revaluation
    >>> spot = np.array([95.0, 100.0, 105.0])
    >>> surfaces = np.full((3, 2, 3), 0.2)
    >>> one = revaluation.price(
    ...     surfaces, [0.25, 1.0], [0.8, 1.0, 1.2], spot, [100.0, 100.0], 0.5, [True, False], greeks=True)
    >>> one.price.round(3).tolist(), one.delta[1].round(3).tolist()
    ([[3.353, 8.353], [5.637, 5.637], [8.618, 3.618]], [0.528, -0.472])
    >>> straddle = revaluation.price(
    ...     surfaces, [0.25, 1.0], [0.8, 1.0, 1.2], spot, [100.0, 100.0], 0.5, [True, False], quantity=[1, 1])
    >>> straddle.price.round(3).tolist()
    [11.706, 11.274, 12.236]
    """
    grid_tau, grid_moneyness = increasing_positive("tau", tau), increasing_positive("moneyness", moneyness)
    vol = surfaces_array("implied_vol", implied_vol, (grid_tau.size, grid_moneyness.size))
    if vol.ndim != 3:
        raise InputError(f"implied_vol must have the axes (scenario, tau, moneyness), not shape {vol.shape}")
    s, k = float_array("spot", spot), float_array("strike", strike)
    if s.shape != vol.shape[:1]:
        raise InputError(f"spot must give one number for each of the {vol.shape[0]} surfaces, not shape {s.shape}")
    if k.ndim != 1:
        raise InputError(f"strike must have one dimension, not shape {k.shape}")
    names = ("remaining", "carry", "discount_factor", "vol_offset")
    given = (remaining, carry, discount_factor, vol_offset)
    operands: dict[str, NDArray[Any]] = {"strike": k, "is_call": bool_array("is_call", is_call)}
    operands |= {name: float_array(name, value) for name, value in zip(names, given, strict=True)}
    if quantity is not None:
        operands["quantity"] = float_array("quantity", quantity)
    for name, operand in operands.items():
        if operand.shape not in ((), k.shape):
            raise InputError(f"{name} must give one number for each of the {k.size} strikes, not shape {operand.shape}")
    k, calls, rest, c, df, offset, *units = broadcast(operands)
    if np.ndim(vol_floor):
        raise InputError(f"vol_floor must be one number, not of shape {np.shape(vol_floor)}")
    _check("spot", s, positive=True)
    _check("strike", k, least=0.0)
    for name, operand in (("remaining", rest), ("vol_offset", offset), *(("quantity", q) for q in units)):
        _check(name, operand)
    for name, operand in (("carry", c), ("discount_factor", df), ("vol_floor", float_array("vol_floor", vol_floor))):
        _check(name, operand, positive=True)
    code, threads = extrapolation_code(extrapolation), thread_count(num_threads)
    shape = s.shape if units else (s.size, k.size)
    make = np.empty if k.size else np.zeros  # sums over no contracts are zero
    out = tuple(make(shape) for _ in range(3 if greeks else 1))
    floored = (
        np.zeros(0, dtype=np.int64)
        if not k.size
        else _core.revalue(
            vol,
            grid_tau,
            grid_moneyness,
            s,
            k,
            rest,
            calls,
            c,
            df,
            offset,
            units[0] if units else np.empty(0),
            float(vol_floor),
            code,
            out,
            threads,
        )
    )
    return Values(out[0], out[1] if greeks else None, out[2] if greeks else None, floored)


def _check(name: str, value: NDArray[Any], *, positive: bool = False, least: float = -np.inf) -> None:
    good = np.isfinite(value) & (value > 0 if positive else value >= least)
    if not good.all():
        what = "positive and finite" if positive else "finite" if least < 0 else "finite and not negative"
        raise InputError(f"{name} must be {what}; {int((~good).sum())} of its {value.size} numbers are not")

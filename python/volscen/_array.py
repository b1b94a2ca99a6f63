"""Checks and broadcasting shared by the wrappers of the array kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._numbers import whole_number
from .errors import InputError

__all__ = [
    "bool_array",
    "broadcast",
    "extrapolation_code",
    "float_array",
    "increasing_positive",
    "surfaces_array",
    "thread_count",
]

#: Rules outside a surface's grid, by the number the compiled module knows them by.
_EXTRAPOLATIONS = {"flat_vol": 0, "flat_total_variance": 1, "linear": 2}

#: No volatility; its square is still a number.
_TOP_VOL = 1e100


def float_array(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """Return value as a float64 array in aligned memory; no copy where it is one already.

    Raises
    ------
    InputError
        When the value is not real numbers, or a masked array hides some of them.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        # What lies under a mask is no number of the caller's.
        raise InputError(f"{name} is a masked array with masked elements; fill them, or drop them, first")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{name} must be an array of real numbers: {error}") from None
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} must be real numbers, not {array.dtype}; convert it to float first")
    result = array.astype(np.float64, copy=False)
    # Kernels read numbers in place, which C++ allows at their alignment only.
    return result if result.flags.aligned else result.copy()


def bool_array(name: str, value: ArrayLike) -> NDArray[np.bool_]:
    """Return value as a bool array.

    Raises
    ------
    InputError
        When the value is not of bool type: a text such as "put" would count as true.
    """
    array = np.asarray(value)
    if array.dtype.kind != "b":
        raise InputError(f"{name} must be True or False (an array of bool), not {array.dtype}")
    return array.astype(np.bool_, copy=False)


def broadcast(operands: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Broadcast operands to one shape, as views without copies.

    Raises
    ------
    InputError
        When the shapes do not broadcast together.
    """
    try:
        shape = np.broadcast_shapes(*(operand.shape for operand in operands.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {operand.shape}" for name, operand in operands.items())
        raise InputError(f"operands do not broadcast to one shape: {shapes}") from None
    return [np.broadcast_to(operand, shape) for operand in operands.values()]


def thread_count(num_threads: int | None) -> int:
    """Return the number of threads to use: 1 for None.

    Raises
    ------
    InputError
        When the number is not an integer from 1 to 4096.
    """
    if num_threads is None:
        return 1
    return whole_number("num_threads", num_threads, most=4096)


def increasing_positive(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """Return a contiguous grid axis: one dimension, positive, finite, strictly increasing.

    Raises
    ------
    InputError
        When it is anything else.
    """
    axis = np.ascontiguousarray(float_array(name, value))
    if axis.ndim != 1 or axis.size == 0:
        raise InputError(f"{name} must have one dimension and at least one value, not shape {axis.shape}")
    if not (np.isfinite(axis).all() and axis[0] > 0 and (np.diff(axis) > 0).all()):
        raise InputError(f"{name} must be finite, positive and strictly increasing; sort it and drop duplicates")
    return axis


def extrapolation_code(extrapolation: str) -> int:
    """Return the compiled module's number of a rule for surfaces outside their grid.

    Raises
    ------
    InputError
        When it names no rule.
    """
    if not isinstance(extrapolation, str) or extrapolation not in _EXTRAPOLATIONS:
        raise InputError(f"extrapolation must be one of {', '.join(_EXTRAPOLATIONS)}, not {extrapolation!r}")
    return _EXTRAPOLATIONS[extrapolation]


def surfaces_array(name: str, value: ArrayLike, grid: tuple[int, int]) -> NDArray[np.float32] | NDArray[np.float64]:
    """Return surfaces of shape (..., tau, moneyness) as they are in float32 or float64, else as float64.

    Raises
    ------
    InputError
        When they do not lie on the grid, or hold anything but positive numbers below 1e100; the first is named.
    """
    array = np.asarray(value)
    if array.dtype not in (np.float32, np.float64):
        array = float_array(name, array)
    if array.shape[-2:] != grid:
        raise InputError(f"{name} must end in axes (tau, moneyness) = {grid}, not {array.shape}")
    # The extremes of an array with NaN are NaN, which compare false.
    if array.size and not (float(array.min()) > 0 and float(array.max()) < _TOP_VOL):
        wrong = np.argwhere(~((array > 0) & (array.astype(np.float64) < _TOP_VOL)))
        first = tuple(int(i) for i in wrong[0])
        raise InputError(
            f"{name} must hold positive finite numbers (below {_TOP_VOL:g}): {len(wrong)} are not, the first at "
            f"{list(first)} ({array[first]}); drop or repair those surfaces"
        )
    return array

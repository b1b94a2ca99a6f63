"""Random numbers, shapes and memory layouts for the fuzz of the kernels, and what every result is held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from volscen.errors import InputError

__all__ = ["SPECIAL", "Array", "Run", "laid_out", "numbers", "refused", "same", "some_shape"]

Array = np.ndarray[Any, np.dtype[Any]]
Run = tuple[int, list[Array]]
TINY = [5e-324, -5e-324, 1e-310, 2.2250738585072014e-308, 1e-300, 1e-16]
HUGE = [1e16, 1e150, 1e300, 1.7976931348623157e308, -1e308]
PLAIN = [0.0, -0.0, 1 - 2**-53, 1.0, 1 + 2**-52, -1.0, -0.2, 100.0]
SPECIAL = np.array([np.nan, np.inf, -np.inf, *TINY, *HUGE, *PLAIN])


def numbers(rng: np.random.Generator, shape: tuple[int, ...], wild: float, decades: float = 3.0) -> Array:
    """Positive numbers over some decades, a share of them replaced by special ones and by any bit pattern."""
    x = 10 ** rng.uniform(-decades, decades, shape)
    kind = rng.random(shape)
    x = np.where(kind < wild, rng.choice(SPECIAL, shape), x)
    bits = rng.integers(0, 2**64, shape, dtype=np.uint64).view(np.float64)
    return np.where((kind >= wild) & (kind < 1.1 * wild), bits, x)


def laid_out(rng: np.random.Generator, x: Array) -> Array:
    """The same values in another memory layout."""
    way = rng.integers(8)
    if way == 0 and x.ndim:
        return np.ascontiguousarray(x[::-1])[::-1]
    if way == 1 and x.ndim:
        wide = np.repeat(x, 3, axis=-1)
        return wide[..., 1::3]
    if way == 2:
        raw = np.zeros(x.nbytes + 1, np.uint8)
        off = raw[1:].view(x.dtype).reshape(x.shape)
        off[...] = x
        return off
    if way == 3:
        return np.asfortranarray(x)
    if way == 4 and x.dtype.kind == "f":
        return x.astype(x.dtype.newbyteorder())
    if way == 5 and x.ndim > 1:
        return np.ascontiguousarray(np.moveaxis(x, 0, -1)).transpose(x.ndim - 1, *range(x.ndim - 1))
    return x


def some_shape(rng: np.random.Generator, size: int) -> tuple[int, ...]:
    """A shape of about the size, or a small, empty or many-axed one."""
    way = rng.integers(12)
    if way == 0:
        return ()
    if way == 1:
        return (0,)
    if way == 2:
        return (3, 0, 5)
    if way == 3:
        return (1, int(rng.integers(1, 9)), 1)
    if way < 7:
        rows = int(rng.integers(1, 40))
        return (rows, max(size // rows, 1))
    return (int(rng.integers(1, size + 1)),)


def same(one: Any, other: Any, what: str) -> None:
    if np.asarray(one).tobytes() != np.asarray(other).tobytes():
        raise AssertionError(f"{what} depends on the memory layout or on the number of threads")


def refused(function: Callable[[], Any]) -> bool:
    try:
        function()
    except InputError:
        return True
    return False

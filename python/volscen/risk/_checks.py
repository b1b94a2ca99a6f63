"""Checks of arguments that several measures share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

__all__ = ["floats", "labels", "random_generator"]

FloatArray = npt.NDArray[np.float64]


def floats(name: str, value: Any) -> FloatArray:
    """Return value as an array of float64, of any shape."""
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be an array of numbers, not {value!r:.100}") from None


def labels(name: str, value: Any, n: int) -> npt.NDArray[np.str_]:
    """Return n labels as texts."""
    if isinstance(value, str) or not isinstance(value, Iterable) or len(texts := [str(each) for each in value]) != n:
        raise InputError(f"{name} must give one label for each of the {n} positions")
    return np.array(texts)


def random_generator(seed: Any) -> np.random.Generator:
    """Return the generator given, or one made of a seed."""
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise InputError(f"seed must be a non-negative integer, a numpy Generator or None, not {seed!r}") from None

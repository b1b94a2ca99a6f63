"""Single numbers as users give them, read in one place: finite, positive or whole, or an error that says which."""

from __future__ import annotations

import math

import numpy as np

from volscen.errors import InputError

__all__ = ["finite_number", "positive_number", "whole_number"]


def finite_number(name: str, value: object) -> float:
    """Return a number, also one written out as in files."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a number, not {value!r}") from None
    if not math.isfinite(number):
        raise InputError(f"{name} must be finite, not {value!r}")
    return number


def positive_number(name: str, value: object) -> float:
    """Return a number above 0."""
    number = finite_number(name, value)
    if number <= 0:
        raise InputError(f"{name} must be positive, not {value!r}")
    return number


def whole_number(name: str, value: object, *, least: int = 1) -> int:
    """Return an integer, Python's or NumPy's, not below the least; True is no number."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value)

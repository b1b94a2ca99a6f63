"""Single numbers as users give them, read in one place: finite, positive, bounded or whole, or an error says why."""

from __future__ import annotations

import math

import numpy as np

from volscen.errors import InputError

__all__ = ["amount", "bounded_number", "finite_number", "positive_number", "seed_number", "whole_number"]


def finite_number(name: str, value: object, *, least: float | None = None) -> float:
    """Return a number, also one written out as in files, not below the least; True is no number."""
    try:
        if isinstance(value, bool | np.bool_) or np.ndim(value) != 0:  # type: ignore[arg-type]
            raise TypeError
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} must be a number, not {value!r}") from None
    if not math.isfinite(number):
        raise InputError(f"{name} must be finite, not {value!r}")
    if least is not None and number < least:
        raise InputError(f"{name} must be at least {least:g}, not {value!r}")
    return number


def positive_number(name: str, value: object) -> float:
    """Return a number above 0."""
    number = finite_number(name, value)
    if number <= 0:
        raise InputError(f"{name} must be positive, not {value!r}")
    return number


def bounded_number(name: str, value: object, low: float, high: float, *, ends: str = "()") -> float:
    """Return a number between two others; a square bracket in ``ends`` admits that end."""
    number = finite_number(name, value)
    above = number >= low if ends[0] == "[" else number > low
    below = number <= high if ends[1] == "]" else number < high
    if not (above and below):
        raise InputError(f"{name} must lie in {ends[0]}{low:g}, {high:g}{ends[1]}, not {value!r}")
    return number


def whole_number(name: str, value: object, *, least: int = 1, most: int | None = None) -> int:
    """Return an integer, Python's or NumPy's, within bounds; True is no number."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not least <= value or (most is not None and value > most):  # type: ignore[operator]
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{name} must be a whole number {bounds}, not {value!r}")
    return int(value)  # type: ignore[call-overload, no-any-return]


def amount(value: float) -> str:
    """Amount of money in at most eleven characters and its sign's, so that columns of large books do not run together.

    Examples
    --------
    >>> from volscen._numbers import amount
    >>> amount(-1234.56789), amount(51145.5533), amount(-2.5e6), amount(1e12)
    ('-1,234.5679', '51,145.55', '-2,500,000', '1e+12')
    """
    size = abs(value)
    if size < 1e9:
        return f"{value:,.{4 if size < 9999.99995 else 2 if size < 999999.995 else 0}f}"
    return f"{value:.5g}"


def seed_number(seed: object) -> int:
    """Return a seed; of a numpy Generator, one that it draws."""
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(2**62))
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        raise InputError(f"seed must be an integer in [0, 2**63) or a numpy Generator, not {seed!r}")
    return int(seed)

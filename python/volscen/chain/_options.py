"""Filters and parity settings of a chain, checked once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from volscen._numbers import finite_number, whole_number
from volscen.errors import InputError
from volscen.quotes import KEEPABLE, filter_names

#: Filters that are off unless asked for.
DROPPABLE = ("locked", "not_monotone")

__all__ = ["ChainOptions"]


@dataclass(frozen=True)
class ChainOptions:
    """Filters and parity settings of a :class:`volscen.Chain`, which describes them."""

    min_tau: float = 5 / 365
    min_price: float = 0.0
    max_spread: float | None = None
    max_age: float | None = None
    keep: Collection[str] = ()
    drop: Collection[str] = ()
    american: Literal["convert", "otm"] = "convert"
    vol_bounds: tuple[float, float] = (0.01, 5.0)
    min_strikes: int = 4
    adjusted: Literal["drop", "keep"] = "drop"
    rate: float | None = None
    rate_bounds: tuple[float, float] = (-0.02, 0.15)
    rate_tolerance: float = 0.001
    parity_window: float = 0.2

    def __post_init__(self) -> None:
        for name in ("min_tau", "min_price", "rate_tolerance", "parity_window", "max_spread", "max_age", "rate"):
            value = getattr(self, name)
            if value is None and name in ("max_spread", "max_age", "rate"):
                continue
            object.__setattr__(self, name, finite_number(name, value))
        for name in ("min_tau", "min_price"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be a non-negative number, not {getattr(self, name)!r}")
        for name in ("rate_tolerance", "parity_window", "max_spread", "max_age"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, not {getattr(self, name)!r}")
        for name in ("vol_bounds", "rate_bounds"):
            object.__setattr__(self, name, _increasing_pair(name, getattr(self, name)))
        if self.vol_bounds[0] < 0:
            raise InputError("vol_bounds must not be negative")
        object.__setattr__(self, "min_strikes", whole_number("min_strikes", self.min_strikes))
        for name, known in (("keep", KEEPABLE), ("drop", DROPPABLE)):
            object.__setattr__(self, name, filter_names(name, getattr(self, name), known))
        if self.american not in ("convert", "otm"):
            raise InputError(f"american must be 'convert' or 'otm', not {self.american!r}")
        if self.adjusted not in ("drop", "keep"):
            raise InputError(f"adjusted must be 'drop' or 'keep', not {self.adjusted!r}")


def _increasing_pair(name: str, value: Any) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in (value if isinstance(value, Iterable) else ()))
        if low < high:
            return low, high
    except (TypeError, ValueError):
        pass
    raise InputError(f"{name} must be two increasing numbers, not {value!r}")

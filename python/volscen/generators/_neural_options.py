"""Options that the trained generators share, checked."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from volscen.errors import InputError
from volscen.generators._volgan_options import whole

__all__ = ["CPU", "check_device", "check_training", "fraction", "number", "widths"]

#: Networks are evaluated here: by torch in training, by NumPy in sampling.
CPU = "cpu"


def number(name: str, value: object, *, least: float = 0.0, open_: bool = False) -> float:
    """Return a finite number not below the least (or above it)."""
    fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fine or value < least or (open_ and value == least):  # type: ignore[operator]
        raise InputError(
            f"{name} must be a finite number {'above' if open_ else 'of at least'} {least:g}, not {value!r}"
        )
    return float(value)  # type: ignore[arg-type]


def fraction(name: str, value: object) -> float:
    """Return a number in [0, 1)."""
    if number(name, value) >= 1:
        raise InputError(f"{name} must lie in [0, 1), not {value!r}")
    return float(value)  # type: ignore[arg-type]


def widths(name: str, value: object) -> list[int]:
    """Return widths of hidden layers, at least one."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) == 0:
        raise InputError(f"{name} must be a sequence of layer widths such as (32,), not {value!r}")
    return [whole(f"{name}[{i}]", width) for i, width in enumerate(value)]


def check_device(value: object) -> str:
    """Return the name of a device that networks can be evaluated on, whether it is there or not.

    Both arguments of that name take it, and neither is kept with the model: ``device`` of a generator's constructor
    says where :meth:`fit` trains, ``device`` of :func:`volscen.generate` where scenarios are drawn.
    """
    if not isinstance(value, str) or re.fullmatch("cpu|cuda(:[0-9]{1,3})?", value) is None:
        raise InputError(f"device must be 'cpu' or 'cuda' (or 'cuda:1' and so on), not {value!r}")
    return value


def check_training(given: dict[str, Any]) -> dict[str, Any]:
    """Check the options of training that are among ``given``; JSON-serialisable.

    Raises
    ------
    InputError
        If one is out of range; it is named.
    """
    values = dict(given)
    for name in ("epochs", "batch_size", "validate_every"):
        values[name] = whole(name, values[name])
    values["validation_scenarios"] = whole("validation_scenarios", values["validation_scenarios"], least=2)
    values["seed"] = whole("seed", values["seed"], least=0)
    values["hidden"] = widths("hidden", values["hidden"])
    values["learning_rate"] = number("learning_rate", values["learning_rate"], open_=True)
    values["weight_decay"] = number("weight_decay", values["weight_decay"])
    values["averaging"] = fraction("averaging", values["averaging"])
    if values["patience"] is not None:
        values["patience"] = whole("patience", values["patience"])
    days = number("validation_days", values["validation_days"], open_=True)
    if days >= 1 and days % 1:
        raise InputError(f"validation_days must be a whole number of days, or a share of them below 1, not {days!r}")
    values["validation_days"] = days
    return values

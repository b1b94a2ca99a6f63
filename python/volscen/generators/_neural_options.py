"""Options that the trained generators share, checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from volscen._numbers import bounded_number, finite_number, positive_number, whole_number
from volscen.errors import InputError

__all__ = ["CPU", "check_checkpoint", "check_device", "check_training", "check_validation_days", "widths"]

#: Networks are evaluated here: by torch in training, by NumPy in sampling.
CPU = "cpu"


def widths(name: str, value: object, *, like: tuple[int, ...] | None = None) -> list[int]:
    """Return widths of layers: at least one, or as many as there are in an example."""
    some = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(some) != len(like) if like else not some:
        wanted = f"{len(like)} layer widths such as {like}" if like else "a sequence of layer widths such as (32,)"
        raise InputError(f"{name} must be {wanted}, not {value!r}")
    return [whole_number(f"{name}[{i}]", width) for i, width in enumerate(some)]


def check_validation_days(value: object, *, needed: bool = False) -> float:
    """Return how many last days, or which share of them below 1, are not trained on; 0, where not needed, for none."""
    days = positive_number("validation_days", value) if needed else finite_number("validation_days", value, least=0)
    if days >= 1 and days % 1:
        none = "" if needed else ", or 0 for none"
        raise InputError(
            f"validation_days must be a whole number of days, or a share of them below 1{none}, not {value!r}"
        )
    return days


def check_device(value: object) -> str:
    """Return the name of a device that networks can be evaluated on, whether it is there or not.

    Both arguments of that name take it, and neither is kept with the model: ``device`` of a generator's constructor
    says where :meth:`fit` trains, ``device`` of :func:`volscen.generate` where scenarios are drawn.
    """
    if not isinstance(value, str) or re.fullmatch("cpu|cuda(:[0-9]{1,3})?", value) is None:
        raise InputError(f"device must be 'cpu' or 'cuda' (or 'cuda:1' and so on), not {value!r}")
    return value


def check_checkpoint(value: object) -> Path | None:
    """Return the file that holds a training's state, or None for no such file."""
    if value is not None and not (isinstance(value, str | Path) and str(value)):
        raise InputError(f"checkpoint must be a file name, not {value!r}")
    return None if value is None else Path(value)


def check_training(given: dict[str, Any]) -> dict[str, Any]:
    """Check the options of training that are among ``given``; JSON-serialisable.

    Raises
    ------
    InputError
        If one is out of range; it is named.
    """
    values = dict(given)
    for name in ("epochs", "batch_size", "validate_every"):
        values[name] = whole_number(name, values[name])
    values["validation_scenarios"] = whole_number("validation_scenarios", values["validation_scenarios"], least=2)
    values["seed"] = whole_number("seed", values["seed"], least=0)
    values["hidden"] = widths("hidden", values["hidden"])
    values["learning_rate"] = positive_number("learning_rate", values["learning_rate"])
    values["weight_decay"] = finite_number("weight_decay", values["weight_decay"], least=0)
    values["averaging"] = bounded_number("averaging", values["averaging"], 0, 1, ends="[)")
    if values["patience"] is not None:
        values["patience"] = whole_number("patience", values["patience"])
    values["validation_days"] = check_validation_days(values["validation_days"], needed=True)
    return values

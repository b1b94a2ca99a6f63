"""Options of VolGAN, checked; what they mean is told at :class:`volscen.generators._volgan.VolGAN`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from volscen.errors import InputError

__all__ = ["CURVE", "VALIDATION", "Options", "make_options", "whole"]

#: Losses of an epoch, in the order of the training curve's columns.
CURVE = {
    "discriminator_loss": "cross-entropy of the discriminator",
    "generator_cross_entropy": "cross-entropy of the generator: BCE(D(G), 1)",
    "penalty_moneyness": "smoothness penalty along moneyness",
    "penalty_tau": "smoothness penalty along tau",
}
#: The validation score.
VALIDATION = {"energy_score": "fair energy score on the validation days"}

#: What options left out mean in each mode.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "paper": {
        "discriminator_hidden": 16,
        "discriminator_rate": 1.0,
        "discriminator_decay": 0.0,
        "averaging": 0.0,
        "validation_days": 0.1,
    },
    "reference": {
        "discriminator_hidden": 16,
        "discriminator_rate": 1.0,
        "discriminator_decay": 0.0,
        "averaging": 0.0,
        "validation_days": 0,
    },
    "improved": {
        "discriminator_hidden": 64,
        "discriminator_rate": 4.0,
        "discriminator_decay": 0.1,
        "averaging": 0.999,
        "validation_days": 0.1,
    },
}


@dataclass(frozen=True)
class Options:
    """Constructor arguments that belong to the law, none left out."""

    mode: str
    epochs: int
    batch_size: int
    learning_rate: float
    hidden: tuple[int, int]
    discriminator_hidden: int
    discriminator_rate: float
    discriminator_decay: float
    averaging: float
    n_components: int
    patience: int | None
    noise_dim: int
    matching_epochs: int
    smoothness: Literal["match"] | tuple[float, float] | None
    seed: int
    validation_days: int | float
    validate_every: int
    validation_scenarios: int
    keep: Literal["best", "last"] | None


def make_options(**given: Any) -> Options:
    """Check the arguments and fill in what is left out (None).

    Raises
    ------
    InputError
        If one is out of range; it is named.
    """
    mode = given["mode"]
    if mode not in _DEFAULTS:
        raise InputError(f"mode must be one of {', '.join(_DEFAULTS)}, not {mode!r}")
    values: dict[str, Any] = {
        name: _DEFAULTS[mode].get(name) if value is None else value for name, value in given.items()
    }
    for name in ("epochs", "batch_size", "discriminator_hidden", "n_components", "noise_dim", "matching_epochs"):
        values[name] = whole(name, values[name])
    values["validate_every"] = whole("validate_every", values["validate_every"])
    values["validation_scenarios"] = whole("validation_scenarios", values["validation_scenarios"], least=2)
    values["smoothness"] = _smoothness(values["smoothness"], mode)
    values["seed"] = whole("seed", values["seed"], least=0)
    hidden = values["hidden"]
    if not isinstance(hidden, Sequence) or isinstance(hidden, str) or len(hidden) != 2:
        raise InputError(f"hidden must be a pair of layer widths such as (16, 32), not {hidden!r}")
    values["hidden"] = (whole("hidden[0]", hidden[0]), whole("hidden[1]", hidden[1]))
    for name in ("learning_rate", "discriminator_rate"):
        values[name] = _number(name, values[name])
        if values[name] <= 0:
            raise InputError(f"{name} must be positive, not {values[name]!r}")
    for name, below in (("discriminator_decay", math.inf), ("averaging", 1.0)):
        values[name] = _number(name, values[name])
        if not 0 <= values[name] < below:
            raise InputError(f"{name} must lie in [0, {below:g}), not {values[name]!r}")
    days = values["validation_days"] = _number("validation_days", values["validation_days"])
    if days < 0 or (days >= 1 and days % 1):
        raise InputError(
            f"validation_days must be a whole number of days, a share of them below 1, or 0 for none, not {days!r}"
        )
    if values["keep"] not in (None, "best", "last"):
        raise InputError(f"keep must be 'best' or 'last', not {values['keep']!r}")
    if values["keep"] == "best" and days == 0:
        raise InputError("keep='best' needs validation days to choose by; pass validation_days or keep='last'")
    if values["patience"] is not None:
        values["patience"] = whole("patience", values["patience"])
        if days == 0:
            raise InputError("patience needs validation days to judge by; pass validation_days or leave it out")
    return Options(**values)


def _smoothness(value: Any, mode: str) -> Literal["match"] | tuple[float, float] | None:
    if isinstance(value, str) and value == "match":
        return "match"
    if mode != "paper":
        why = "has no smoothness penalties" if mode == "improved" else "matches gradient norms as the public code does"
        raise InputError(f"smoothness belongs to mode 'paper'; mode {mode!r} {why}: leave it out")
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise InputError(
            f"smoothness must be 'match', None for no penalty, or the weights along moneyness and tau, not {value!r}"
        )
    pair = (_number("smoothness[0]", value[0]), _number("smoothness[1]", value[1]))
    if min(pair) < 0:
        raise InputError(f"smoothness must not be negative, got {pair}")
    return pair


def whole(name: str, value: object, least: int = 1) -> int:
    """Return a whole number not below the least."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise InputError(f"{name} must be a finite number, not {value!r}")
    return float(value)

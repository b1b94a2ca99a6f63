"""Options of VolGAN, checked; what they mean is told at :class:`volscen.generators._volgan.VolGAN`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from volscen._numbers import bounded_number, finite_number, positive_number, whole_number
from volscen.errors import InputError
from volscen.generators._neural_options import check_validation_days, widths

__all__ = ["CURVE", "VALIDATION", "Options", "make_options"]

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
    if not isinstance(mode, str) or mode not in _DEFAULTS:
        raise InputError(f"mode must be one of {', '.join(_DEFAULTS)}, not {mode!r}")
    values: dict[str, Any] = {
        name: _DEFAULTS[mode].get(name) if value is None else value for name, value in given.items()
    }
    for name in ("epochs", "batch_size", "discriminator_hidden", "n_components", "noise_dim", "matching_epochs"):
        values[name] = whole_number(name, values[name])
    values["validate_every"] = whole_number("validate_every", values["validate_every"])
    values["validation_scenarios"] = whole_number("validation_scenarios", values["validation_scenarios"], least=2)
    values["smoothness"] = _smoothness(values["smoothness"], mode)
    values["seed"] = whole_number("seed", values["seed"], least=0)
    values["hidden"] = tuple(widths("hidden", values["hidden"], like=(16, 32)))
    for name in ("learning_rate", "discriminator_rate"):
        values[name] = positive_number(name, values[name])
    values["discriminator_decay"] = finite_number("discriminator_decay", values["discriminator_decay"], least=0)
    values["averaging"] = bounded_number("averaging", values["averaging"], 0, 1, ends="[)")
    days = values["validation_days"] = check_validation_days(values["validation_days"])
    if values["keep"] not in (None, "best", "last"):
        raise InputError(f"keep must be 'best' or 'last', not {values['keep']!r}")
    if values["keep"] == "best" and days == 0:
        raise InputError("keep='best' needs validation days to choose by; pass validation_days or keep='last'")
    if values["patience"] is not None:
        values["patience"] = whole_number("patience", values["patience"])
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
    return finite_number("smoothness[0]", value[0], least=0), finite_number("smoothness[1]", value[1], least=0)

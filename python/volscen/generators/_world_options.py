"""Options of the world model, checked; what they mean is told at :class:`volscen.generators._world.WorldModel`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from volscen.errors import InputError

__all__ = ["WorldOptions", "make_world_options"]

_DYNAMICS = ("residual", "direct")
_DECODERS = ("conv", "pca+conv")
_SCALES = ("fitted", "ewma", "none")


@dataclass(frozen=True)
class WorldOptions:
    """Constructor arguments that belong to the law."""

    latent_dim: int
    window: int
    hidden: int
    raster_size: int
    channels: tuple[int, int, int]
    decoder: str
    epochs: int
    dynamics_epochs: int
    batch_size: int
    learning_rate: float
    dynamics_learning_rate: float
    beta: float
    warmup: float
    free_bits: float
    dynamics: str
    weight_decay: float
    scale: str
    posterior_noise: bool
    residual_days: int
    validation_days: int | float
    seed: int


def make_world_options(**given: Any) -> WorldOptions:
    """Check the arguments.

    Raises
    ------
    InputError
        If one is out of range; it is named.
    """
    values: dict[str, Any] = dict(given)
    least = {
        "latent_dim": 1, "window": 1, "hidden": 1, "raster_size": 16, "epochs": 1, "dynamics_epochs": 1,
        "batch_size": 2, "residual_days": 50, "seed": 0,
    }  # fmt: skip
    for name, low in least.items():
        values[name] = _whole(name, values[name], low)
    if values["raster_size"] % 8:
        raise InputError(f"raster_size must be a multiple of 8 (three halvings), not {values['raster_size']}")
    channels = values["channels"]
    if not isinstance(channels, Sequence) or isinstance(channels, str) or len(channels) != 3:
        raise InputError(f"channels must be three widths such as (32, 64, 128), not {channels!r}")
    values["channels"] = tuple(_whole(f"channels[{i}]", c, 1) for i, c in enumerate(channels))
    for name, lowest, highest in (
        ("learning_rate", 0.0, 1.0), ("dynamics_learning_rate", 0.0, 1.0), ("beta", 0.0, math.inf),
        ("warmup", 0.0, 1.0), ("free_bits", 0.0, math.inf), ("weight_decay", 0.0, math.inf),
    ):  # fmt: skip
        values[name] = _number(name, values[name])
        if not lowest <= values[name] <= highest or ("rate" in name and values[name] == 0):
            raise InputError(f"{name} must lie in [{lowest:g}, {highest:g}], not {values[name]!r}")
    for name, known in (("dynamics", _DYNAMICS), ("decoder", _DECODERS), ("scale", _SCALES)):
        if values[name] not in known:
            raise InputError(f"{name} must be one of {', '.join(known)}, not {values[name]!r}")
    if not isinstance(values["posterior_noise"], bool):
        raise InputError(f"posterior_noise must be True or False, not {values['posterior_noise']!r}")
    days = values["validation_days"] = _number("validation_days", values["validation_days"])
    if days < 0 or (days >= 1 and days % 1):
        raise InputError(
            f"validation_days must be a whole number of days, a share of them below 1, or 0 for none, not {days!r}"
        )
    return WorldOptions(**values)


def _whole(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise InputError(f"{name} must be a finite number, not {value!r}")
    return float(value)

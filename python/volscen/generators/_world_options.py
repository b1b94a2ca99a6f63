"""Options of the world model, checked; what they mean is told at :class:`volscen.generators._world.WorldModel`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from volscen._numbers import bounded_number, finite_number, whole_number
from volscen.errors import InputError
from volscen.generators._neural_options import check_validation_days, widths

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
        values[name] = whole_number(name, values[name], least=low)
    if values["raster_size"] % 8:
        raise InputError(f"raster_size must be a multiple of 8 (three halvings), not {values['raster_size']}")
    values["channels"] = tuple(widths("channels", values["channels"], like=(32, 64, 128)))
    for name, ends in (("learning_rate", "(]"), ("dynamics_learning_rate", "(]"), ("warmup", "[]")):
        values[name] = bounded_number(name, values[name], 0, 1, ends=ends)
    for name in ("beta", "free_bits", "weight_decay"):
        values[name] = finite_number(name, values[name], least=0)
    for name, known in (("dynamics", _DYNAMICS), ("decoder", _DECODERS), ("scale", _SCALES)):
        if values[name] not in known:
            raise InputError(f"{name} must be one of {', '.join(known)}, not {values[name]!r}")
    if not isinstance(values["posterior_noise"], bool):
        raise InputError(f"posterior_noise must be True or False, not {values['posterior_noise']!r}")
    values["validation_days"] = check_validation_days(values["validation_days"])
    return WorldOptions(**values)

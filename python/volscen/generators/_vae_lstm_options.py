"""Options of the VAE-LSTM, checked; what they mean is told at :class:`volscen.generators._vae_lstm.VaeLstm`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from volscen._numbers import bounded_number, finite_number, positive_number, whole_number
from volscen.errors import InputError
from volscen.generators._neural_options import check_validation_days, widths

__all__ = ["FRAME_DAYS", "VaeLstmOptions", "make_vae_lstm_options"]

#: Trading days of the rolling means and deviations that surfaces are standardised by.
FRAME_DAYS = 60

_CHOICES = {
    "attention": ("multi_head", "additive", "dot"),
    "dynamics": ("direct", "iterated"),
    "base": ("har", "mean_reversion", "no_change", "none"),
    "scale": ("fitted", "ewma", "none"),
}


@dataclass(frozen=True)
class VaeLstmOptions:
    """Constructor arguments that belong to the law."""

    latent_dim: int
    hidden: tuple[int, ...]
    lstm_hidden: tuple[int, ...]
    window: int
    attention: str
    heads: int
    dynamics: str
    horizons: tuple[int, ...]
    rollout: int
    base: str
    beta: float
    free_bits: float
    penalty: float
    dropout: float
    market_dim: int
    vae_epochs: int
    epochs: int
    patience: int | None
    batch_size: int
    learning_rate: float
    dynamics_learning_rate: float
    weight_decay: float
    averaging: float
    scale: str
    posterior_noise: bool
    residual_days: int
    validation_days: int | float
    seed: int


def make_vae_lstm_options(**given: Any) -> VaeLstmOptions:
    """Check the arguments.

    Raises
    ------
    InputError
        If one is out of range; it is named.
    """
    values = dict(given)
    for name in ("latent_dim", "heads", "rollout", "market_dim", "vae_epochs", "epochs"):
        values[name] = whole_number(name, values[name])
    for name, least in (("window", 2), ("batch_size", 2), ("residual_days", 50), ("seed", 0)):
        values[name] = whole_number(name, values[name], least=least)
    if values["window"] > FRAME_DAYS:
        raise InputError(f"window must be at most {FRAME_DAYS}, not {values['window']}")
    if values["patience"] is not None:
        values["patience"] = whole_number("patience", values["patience"])
    values["hidden"] = tuple(widths("hidden", values["hidden"]))
    values["lstm_hidden"] = tuple(widths("lstm_hidden", values["lstm_hidden"]))
    for name in ("beta", "free_bits", "penalty", "weight_decay"):
        values[name] = finite_number(name, values[name], least=0)
    for name in ("learning_rate", "dynamics_learning_rate"):
        values[name] = positive_number(name, values[name])
    for name in ("dropout", "averaging"):
        values[name] = bounded_number(name, values[name], 0, 1, ends="[)")
    for name, known in _CHOICES.items():
        if values[name] not in known:
            raise InputError(f"{name} must be one of {', '.join(known)}, not {values[name]!r}")
    if values["attention"] == "multi_head" and values["lstm_hidden"][-1] % values["heads"]:
        raise InputError(
            f"heads must divide the last width of lstm_hidden, {values['lstm_hidden'][-1]}, not {values['heads']}"
        )
    if not isinstance(values["posterior_noise"], bool):
        raise InputError(f"posterior_noise must be True or False, not {values['posterior_noise']!r}")
    values["horizons"] = _horizons(values["horizons"])
    values["validation_days"] = check_validation_days(values["validation_days"], needed=True)
    return VaeLstmOptions(**values)


def _horizons(value: Any) -> tuple[int, ...]:
    if isinstance(value, str) or not isinstance(value, tuple | list | np.ndarray) or len(value) == 0:
        raise InputError(f"horizons must be a sequence of days such as (1, 5, 10), not {value!r}")
    days = tuple(whole_number(f"horizons[{i}]", h) for i, h in enumerate(value))
    if days[0] != 1 or list(days) != sorted(set(days)):
        raise InputError(f"horizons must begin with 1 and increase, not {value!r}")
    return days

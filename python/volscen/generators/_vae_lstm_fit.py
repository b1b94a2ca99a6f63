"""Training of the VAE-LSTM on the histories of one asset or several; imports torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from volscen import schema
from volscen.errors import InputError
from volscen.generators._cell_regression import CellRegression
from volscen.generators._device import find_device
from volscen.generators._neural_training import Plan, Snapshot, train
from volscen.generators._vae_lstm_forecast import all_horizons
from volscen.generators._vae_lstm_law import N_PAST
from volscen.generators._vae_lstm_options import VaeLstmOptions
from volscen.generators._vae_lstm_panel import Panel, Units, lay_out
from volscen.generators._vae_lstm_tables import Tables
from volscen.generators._vae_lstm_training import CoderTask, ForesightTask, named_arrays

__all__ = ["RunSettings", "Trained", "train_networks"]

#: Days beyond those that windows and horizons take that a training needs, and those of its validation.
_LEAST_TRAIN, _LEAST_HELD = 60, 20
#: Days seen of each asset in the training part.
_LEAST_SEEN = 100

Arrays = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class RunSettings:
    """How to train, which decides no bit on one machine's CPU."""

    device: str = "cpu"
    checkpoint: Path | None = None
    checkpoint_every: int = 5
    progress: bool | Literal["auto"] = "auto"


@dataclass(frozen=True)
class Trained:
    """Networks and what they were trained on, by asset.

    Attributes
    ----------
    panels, units, bases : dict of str
    networks : dict of str to dict of arrays
        Parameters of each asset: its own ends of the autoencoder, and what all share.
    market : ndarray, shape (assets, latents, market_dim), optional
        What the latents of each asset say of the market.
    dates : ndarray of datetime64[D]
    n_train : int
    coder, foresight : Snapshot
    """

    panels: dict[str, Panel]
    units: dict[str, Units]
    bases: dict[str, CellRegression]
    networks: dict[str, Arrays]
    market: npt.NDArray[np.float32] | None
    dates: npt.NDArray[np.datetime64]
    n_train: int
    coder: Snapshot
    foresight: Snapshot


def train_networks(
    histories: Mapping[str, xr.Dataset],
    options: VaeLstmOptions,
    settings: RunSettings,
    dates: npt.NDArray[np.datetime64] | None = None,
) -> Trained:
    """Train on a calendar: all dates of all histories when omitted.

    Raises
    ------
    InputError
        If there are too few days, or the device or the checkpoint does not fit.
    FitError
        If training diverges.
    """
    device = find_device(settings.device)
    own = [history["date"].values.astype("datetime64[D]") for history in histories.values()]
    calendar = np.unique(np.concatenate(own)) if dates is None else dates
    panels = {name: lay_out(history, calendar) for name, history in histories.items()}
    n_train = _split(len(calendar), options)
    for name, panel in panels.items():
        days = int((panel.active & panel.seen)[:n_train].sum())
        if days < _LEAST_SEEN:
            raise InputError(
                f"{name} has {days} dates to train on, after the first 60 and before the validation days; generator "
                f"'vae_lstm' needs at least {_LEAST_SEEN}: give a longer history or fewer validation_days"
            )
    units = {name: panel.units(n_train) for name, panel in panels.items()}
    horizons = all_horizons(options)
    kind = "no_change" if options.base == "none" else options.base
    bases = {}
    for name, panel in panels.items():
        rows = np.arange(max(21, int(np.argmax(panel.seen))), n_train)
        bases[name] = CellRegression.fit(panel.logs, rows[panel.seen[rows]], horizons, kind, panel.seen)
    trained_on = horizons if options.dynamics == "direct" else horizons[: options.rollout]
    tables = Tables.of(
        list(panels.values()), list(units.values()),
        [CellRegression(base.coefficients[: len(trained_on)]) for base in bases.values()],
        trained_on, n_train, options, device,
    )  # fmt: skip
    coder, foresight, task = _train(tables, histories, options, settings, device)
    found = named_arrays(task.networks, foresight.best[0])
    market = found.pop("market.weight", None)
    networks = {}
    for i, (name, panel) in enumerate(panels.items()):
        networks[name] = _of_asset(found, i, panel.logs.shape[1], tables.logs.shape[2])
    if market is not None:
        market = market.T.reshape(len(panels), options.latent_dim, -1)
    return Trained(panels, units, bases, networks, market, calendar, n_train, coder, foresight)


def _split(n: int, options: VaeLstmOptions) -> int:
    """Number of the first days, which are trained on."""
    held = options.validation_days
    n_train = n - (math.floor(held * n) if held < 1 else int(held))
    reach = options.horizons[-1] if options.dynamics == "direct" else min(options.rollout, options.horizons[-1])
    least = N_PAST + reach + _LEAST_TRAIN
    if n_train < least or n - n_train < reach + _LEAST_HELD:
        raise InputError(
            f"history leaves {n_train} dates to train on and {n - n_train} to validate on; generator 'vae_lstm' needs "
            f"{least} and {reach + _LEAST_HELD}: give more, change validation_days, or shorten horizons"
        )
    return n_train


def _train(
    tables: Tables,
    histories: Mapping[str, xr.Dataset],
    options: VaeLstmOptions,
    settings: RunSettings,
    device: torch.device,
) -> tuple[Snapshot, Snapshot, ForesightTask]:
    values = asdict(options)
    names = ("weight_decay", "averaging", "patience")
    plan = {name: values[name] for name in names}
    identity = {
        **{name: list(value) if isinstance(value, tuple) else value for name, value in values.items()},
        "assets": {name: schema.fingerprint(history) for name, history in histories.items()},
    }
    path, first = settings.checkpoint, None
    if path is not None:
        first = path.with_name(f"{path.stem}-autoencoder{path.suffix}")
    every, progress = settings.checkpoint_every, settings.progress
    coder = train(
        CoderTask(tables, options, device),
        Plan(epochs=options.vae_epochs, validate_every=1, learning_rate=options.learning_rate, **plan), options.seed,
        identity=identity | {"stage": "autoencoder"}, checkpoint=first, checkpoint_every=every, progress=progress,
    )  # fmt: skip
    task = ForesightTask(tables, options, device, coder.best)
    foresight = train(
        task, Plan(epochs=options.epochs, validate_every=1, learning_rate=options.dynamics_learning_rate, **plan),
        options.seed + 1,
        identity=identity | {"stage": "all"}, checkpoint=path, checkpoint_every=every, progress=progress,
        before_epoch=task.begin_epoch,
    )  # fmt: skip
    return coder, foresight, task


def _of_asset(found: dict[str, Any], i: int, cells: int, width: int) -> Arrays:
    """Parameters as one asset uses them, without the padding of its grid."""
    out = {name: value for name, value in found.items() if not name.startswith(("coder.first", "coder.last"))}
    weight = found["coder.first.weight"][i]
    out["coder.first.weight"] = np.concatenate([weight[:cells], weight[width:]])
    out["coder.first.bias"] = found["coder.first.bias"][i]
    out["coder.last.weight"] = found["coder.last.weight"][i][:, :cells].copy()
    out["coder.last.bias"] = found["coder.last.bias"][i][:cells].copy()
    return out

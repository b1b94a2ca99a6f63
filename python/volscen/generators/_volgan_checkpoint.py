"""Checkpoint files of a VolGAN training run: safetensors arrays with JSON metadata, written atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from volscen._files import write_safetensors
from volscen.errors import FileFormatError, InputError
from volscen.generators._volgan_training import Snapshot

__all__ = ["CHECKPOINT_FORMAT", "read_checkpoint", "write_checkpoint"]

CHECKPOINT_FORMAT = "volscen/volgan-checkpoint/2"

_ARRAYS = (
    "generator",
    "generator_square",
    "average",
    "discriminator",
    "discriminator_square",
    "rng_state",
    "order",
    "best_generator",
    "best_discriminator",
    "curve",
    "validation_curve",
)


def write_checkpoint(path: Path, snapshot: Snapshot, identity: dict[str, Any]) -> None:
    """Write a snapshot, replacing the file only when the new one is whole.

    Parameters
    ----------
    path : Path
    snapshot : Snapshot
    identity : dict
        JSON-serialisable: what a run must have in common with this one to go on from here.

    Raises
    ------
    InputError
        If the path cannot be written to.
    """
    arrays = {name: np.ascontiguousarray(getattr(snapshot, name)) for name in _ARRAYS}
    arrays["alpha"] = np.array(snapshot.alpha or (), dtype=np.float64)
    arrays["best_score"] = np.array([snapshot.best_score])
    metadata = {
        "format": CHECKPOINT_FORMAT,
        "epoch": snapshot.epoch,
        "best_epoch": snapshot.best_epoch,
        "identity": identity,
    }
    write_safetensors(path, arrays, json.dumps(metadata, sort_keys=True))


def read_checkpoint(path: Path, identity: dict[str, Any], epochs: int) -> Snapshot:
    """Read a snapshot after making sure that it belongs to the run at hand.

    Parameters
    ----------
    path : Path
    identity : dict
        Of the run at hand, as given to :func:`write_checkpoint`.
    epochs : int
        Number of epochs the run shall have.

    Raises
    ------
    FileFormatError
        If the file is truncated or no checkpoint.
    InputError
        If it was written by a run with other data or settings, or has trained longer than ``epochs``.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {})["volscen"])
            if metadata["format"] != CHECKPOINT_FORMAT:
                raise ValueError(f"format {metadata['format']!r}")
            arrays = {name: file.get_tensor(name) for name in (*_ARRAYS, "alpha", "best_score")}
        found = dict(metadata["identity"])
        epoch, best_epoch = int(metadata["epoch"]), int(metadata["best_epoch"])
        alpha = (float(arrays["alpha"][0]), float(arrays["alpha"][1])) if arrays["alpha"].size else None
        score = float(arrays["best_score"][0])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise FileFormatError(
            f"{path}: not a readable VolGAN checkpoint ({error}); delete it or pass another path"
        ) from None
    differing = sorted(key for key in {*found, *identity} if found.get(key) != identity.get(key))
    if differing:
        names = ", ".join(f"{key} {found.get(key)!r} there, {identity.get(key)!r} here" for key in differing)
        raise InputError(f"checkpoint {path} belongs to another run ({names}); delete it or pass another path")
    if epoch > epochs:
        raise InputError(
            f"checkpoint {path} has already trained {epoch} epochs, more than epochs = {epochs}; "
            "raise epochs or delete it"
        )
    kept = {name: arrays[name] for name in _ARRAYS}
    return Snapshot(epoch=epoch, alpha=alpha, best_epoch=best_epoch, best_score=score, **kept)

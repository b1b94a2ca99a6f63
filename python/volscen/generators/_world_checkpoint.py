"""Checkpoint files of a world model's training: safetensors arrays with JSON metadata, written atomically."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from volscen._files import write_safetensors
from volscen.errors import FileFormatError, InputError
from volscen.generators._world_training import Snapshot

__all__ = ["CHECKPOINT_FORMAT", "read_checkpoint", "write_checkpoint"]

CHECKPOINT_FORMAT = "volscen/world-checkpoint/1"
_GROUPS = ("now", "best", "optimiser")
_ARRAYS = ("rng_state", "curve", "validation_curve")


def write_checkpoint(path: Path, snapshots: list[Snapshot], identity: dict[str, Any]) -> None:
    """Write the snapshots of the stages so far, replacing the file only when the new one is whole.

    Raises
    ------
    InputError
        If the path cannot be written to.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    stages = {}
    for snapshot in snapshots:
        for group in _GROUPS:
            arrays |= {f"{snapshot.stage}.{group}.{name}": a for name, a in getattr(snapshot, group).items()}
        arrays |= {f"{snapshot.stage}.{name}": getattr(snapshot, name) for name in _ARRAYS}
        score = snapshot.best_score if math.isfinite(snapshot.best_score) else None
        stages[snapshot.stage] = {
            "epoch": snapshot.epoch,
            "best_epoch": snapshot.best_epoch,
            "best_score": score,
        }
    metadata = {"format": CHECKPOINT_FORMAT, "stages": stages, "identity": identity}
    write_safetensors(path, arrays, json.dumps(metadata, sort_keys=True))


def read_checkpoint(path: Path, identity: dict[str, Any]) -> dict[str, Snapshot]:
    """Read the snapshots by stage, after making sure that they belong to the run at hand.

    Raises
    ------
    FileFormatError
        If the file is truncated or no checkpoint.
    InputError
        If it was written by a run with other data or settings.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {})["volscen"])
            if metadata["format"] != CHECKPOINT_FORMAT:
                raise ValueError(f"format {metadata['format']!r}")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        found = dict(metadata["identity"])
        snapshots = {stage: _snapshot(stage, figures, arrays) for stage, figures in metadata["stages"].items()}
        if "vision" not in snapshots:
            raise ValueError("no autoencoder in it")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(
            f"{path}: not a readable world-model checkpoint ({error}); delete it or pass another path"
        ) from None
    differing = [key for key in identity if found.get(key) != identity[key]]
    if differing:
        names = ", ".join(f"{key} {found.get(key)!r} there, {identity[key]!r} here" for key in differing)
        raise InputError(f"checkpoint {path} belongs to another run ({names}); delete it or pass another path")
    return snapshots


def _snapshot(stage: str, figures: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Snapshot:
    def group(name: str) -> dict[str, npt.NDArray[Any]]:
        head = f"{stage}.{name}."
        return {key[len(head) :]: array for key, array in arrays.items() if key.startswith(head)}

    score = figures["best_score"]
    return Snapshot(
        stage,
        int(figures["epoch"]),
        int(figures["best_epoch"]),
        math.inf if score is None else float(score),
        now=group("now"),
        best=group("best"),
        optimiser=group("optimiser"),
        rng_state=arrays[f"{stage}.rng_state"],
        curve=arrays[f"{stage}.curve"],
        validation_curve=arrays[f"{stage}.validation_curve"],
    )

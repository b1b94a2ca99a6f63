"""One way to train the small networks of the generators: Adam, a cosine rate, averaged parameters, validation.

The parameters of all members of an ensemble lie in one tensor, a row each: they train side by side, independent of
one another. The averaged parameters are what is validated and kept.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from volscen._files import write_safetensors
from volscen._progress import bar_is_off
from volscen._threads import single_threaded_torch
from volscen.errors import FileFormatError, FitError, InputError

__all__ = ["Plan", "Snapshot", "Task", "initial", "run", "train", "unflatten"]

CHECKPOINT_FORMAT = "volscen/neural-checkpoint/1"

_BETAS, _EPSILON, _CLIP = (0.9, 0.999), 1e-8, 1.0
_ARRAYS = ("flat", "average", "first", "second", "rng_state", "best", "losses", "scores")


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes
    ----------
    epochs : int
    validate_every : int
        Epochs between two validation scores.
    learning_rate : float
        At the start; it falls to zero as half a cosine over all epochs.
    weight_decay : float
        Per unit of the learning rate, apart from the gradient (AdamW).
    averaging : float
        Decay per step of the running average of the parameters.
    patience : int or None
        Stop after so many validation scores without a better one.
    """

    epochs: int
    validate_every: int
    learning_rate: float
    weight_decay: float
    averaging: float
    patience: int | None


class Task(Protocol):
    """What is trained."""

    label: str
    batches: int
    #: Whether the parameters as they begin are scored and may be kept.
    scores_start: bool

    def start(self) -> Tensor:
        """Initial parameters: (members, size)."""

    def loss(self, flat: Tensor, rng: torch.Generator) -> Tensor:
        """Loss of each member on a batch drawn by ``rng``: (members,)."""

    def score(self, flat: Tensor) -> float:
        """Validation score, lower is better; the same at every call."""


@dataclass(frozen=True)
class Snapshot:
    """Training after a number of whole epochs: enough to go on to the same bits.

    Attributes
    ----------
    epoch : int
    flat, average, first, second : ndarray, shape (members, size)
        Parameters, their running average, Adam's moments.
    rng_state : ndarray of uint8
    best_epoch, best_score : int, float
        Of the best validation score so far; 0 and infinity (or the score at the start) before the first.
    best : ndarray, shape (members, size)
    losses : ndarray, shape (epoch,)
        Mean over each epoch.
    scores : ndarray, shape (evaluations, 2)
        Epoch and validation score.
    """

    epoch: int
    flat: npt.NDArray[np.float32]
    average: npt.NDArray[np.float32]
    first: npt.NDArray[np.float32]
    second: npt.NDArray[np.float32]
    rng_state: npt.NDArray[np.uint8]
    best_epoch: int
    best_score: float
    best: npt.NDArray[np.float32]
    losses: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]


def train(
    task: Task,
    plan: Plan,
    seed: int,
    *,
    identity: dict[str, Any],
    checkpoint: Path | None,
    checkpoint_every: int,
    progress: bool | Literal["auto"],
    before_epoch: Callable[[int, int], None] | None = None,
) -> Snapshot:
    """Train from the start, or from ``checkpoint`` where it exists.

    ``before_epoch`` is told the number of every epoch, from 0, and that of all, for what changes as training goes on.

    Raises
    ------
    InputError
        If the checkpoint belongs to another run, or cannot be written.
    FileFormatError
        If it is no checkpoint.
    FitError
        If training diverges.
    KeyboardInterrupt
        On Ctrl-C, after the checkpoint has been written.
    """
    with single_threaded_torch():
        if checkpoint is None:
            return run(task, plan, initial(task, seed), None, progress=progress, before_epoch=before_epoch)
        begin = _read(checkpoint, identity) if checkpoint.exists() else initial(task, seed)

        def save(snapshot: Snapshot) -> None:
            if snapshot.epoch % checkpoint_every == 0 or snapshot.epoch == plan.epochs:
                _write(checkpoint, snapshot, identity)

        try:
            end = run(task, plan, begin, save, progress=progress, before_epoch=before_epoch)
        except _Interrupted as stopped:
            _write(checkpoint, stopped.snapshot, identity)
            raise KeyboardInterrupt from None
        _write(checkpoint, end, identity)
        return end


def initial(task: Task, seed: int) -> Snapshot:
    """Before the first epoch."""
    flat = task.start().numpy().astype(np.float32)
    zero = np.zeros_like(flat)
    rng_state = torch.Generator().manual_seed(seed).get_state().numpy()
    score = task.score(torch.from_numpy(flat)) if task.scores_start else math.inf
    scores = np.array([[0.0, score]]) if task.scores_start else np.empty((0, 2))
    return Snapshot(0, flat, flat, zero, zero, rng_state, 0, score, flat, np.empty(0), scores)


class _Interrupted(KeyboardInterrupt):
    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


def run(
    task: Task,
    plan: Plan,
    begin: Snapshot,
    save: Callable[[Snapshot], None] | None,
    *,
    progress: bool | Literal["auto"] = False,
    before_epoch: Callable[[int, int], None] | None = None,
) -> Snapshot:
    """Train up to the last epoch, or until patience ends; ``save`` sees the snapshot before and after every epoch."""
    snapshot = begin
    if save is not None:
        save(snapshot)  # an unwritable path is found now
    disable = bar_is_off(progress)
    with tqdm(total=plan.epochs, initial=begin.epoch, disable=disable, desc=task.label, unit="epoch") as bar:
        try:
            while snapshot.epoch < plan.epochs and not _exhausted(snapshot, plan):
                if before_epoch is not None:
                    before_epoch(snapshot.epoch, plan.epochs)
                snapshot = _epoch(task, plan, snapshot)
                if save is not None:
                    save(snapshot)
                bar.update()
                if not bar.disable:
                    bar.set_postfix(score=f"{snapshot.best_score:.4g}", best=snapshot.best_epoch, refresh=False)
        except KeyboardInterrupt:
            raise _Interrupted(snapshot) from None
    return snapshot


def _exhausted(snapshot: Snapshot, plan: Plan) -> bool:
    if plan.patience is None or not len(snapshot.scores):
        return False
    return snapshot.epoch - snapshot.best_epoch >= plan.patience * plan.validate_every


def _epoch(task: Task, plan: Plan, last: Snapshot) -> Snapshot:
    rng = torch.Generator()
    rng.set_state(torch.from_numpy(last.rng_state.copy()))
    flat, average, first, second = (
        torch.from_numpy(a.copy()) for a in (last.flat, last.average, last.first, last.second)
    )
    flat.requires_grad_()
    total, steps = 0.0, plan.epochs * task.batches
    for batch in range(task.batches):
        done = last.epoch * task.batches + batch
        rate = 0.5 * plan.learning_rate * (1 + math.cos(math.pi * done / steps))
        loss = task.loss(flat, rng)
        (gradient,) = torch.autograd.grad(loss.sum(), flat)
        with torch.no_grad():
            gradient *= (_CLIP / gradient.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1.0)
            first.lerp_(gradient, 1 - _BETAS[0])
            second.lerp_(gradient.square(), 1 - _BETAS[1])
            up = 1 - _BETAS[0] ** (done + 1)
            down = (second / (1 - _BETAS[1] ** (done + 1))).sqrt_() + _EPSILON
            flat.mul_(1 - rate * plan.weight_decay).addcdiv_(first, down, value=-rate / up)
            # In the first steps the average would mostly be the start: it begins as a plain mean.
            average.lerp_(flat, max(1 - plan.averaging, 1 / (done + 2)))
        total += float(loss.detach().mean())
    epoch = last.epoch + 1
    _check_finite(total, epoch, plan, "the loss")
    snapshot = Snapshot(
        epoch, flat.detach().numpy(), average.numpy(), first.numpy(), second.numpy(), rng.get_state().numpy(),
        last.best_epoch, last.best_score, last.best, np.append(last.losses, total / task.batches), last.scores,
    )  # fmt: skip
    return _validated(task, plan, snapshot) if epoch % plan.validate_every == 0 or epoch == plan.epochs else snapshot


def _validated(task: Task, plan: Plan, snapshot: Snapshot) -> Snapshot:
    score = task.score(torch.from_numpy(snapshot.average))
    _check_finite(score, snapshot.epoch, plan, "the validation score")
    scores = np.vstack([snapshot.scores, [[snapshot.epoch, score]]])
    if score >= snapshot.best_score:
        return replace(snapshot, scores=scores)
    return replace(snapshot, scores=scores, best_epoch=snapshot.epoch, best_score=score, best=snapshot.average)


def _check_finite(value: float, epoch: int, plan: Plan, what: str) -> None:
    if not math.isfinite(value):
        raise FitError(
            f"training diverged in epoch {epoch} of {plan.epochs}: {what} is no longer finite; lower learning_rate "
            f"(now {plan.learning_rate:g})"
        )


def unflatten(flat: Tensor, widths: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Views of the weights (members, in, out) and biases (members, 1, out) in flat parameters (members, size)."""
    layers, start = [], 0
    for n_in, n_out in itertools.pairwise(widths):
        stop = start + n_in * n_out
        weight = flat[:, start:stop].view(-1, n_in, n_out)
        layers.append((weight, flat[:, None, stop : stop + n_out]))
        start = stop + n_out
    return layers


# ------------------------------------------------------------------------------------------------ checkpoints
def _write(path: Path, snapshot: Snapshot, identity: dict[str, Any]) -> None:
    arrays = {name: np.ascontiguousarray(getattr(snapshot, name)) for name in _ARRAYS}
    arrays["best_score"] = np.array([snapshot.best_score])
    metadata = {
        "format": CHECKPOINT_FORMAT,
        "epoch": snapshot.epoch,
        "best_epoch": snapshot.best_epoch,
        "identity": identity,
    }
    write_safetensors(path, arrays, json.dumps(metadata, sort_keys=True))


def _read(path: Path, identity: dict[str, Any]) -> Snapshot:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {})["volscen"])
            if metadata["format"] != CHECKPOINT_FORMAT:
                raise ValueError(f"format {metadata['format']!r}")
            arrays = {name: file.get_tensor(name) for name in (*_ARRAYS, "best_score")}
        found = dict(metadata["identity"])
        epoch, best_epoch = int(metadata["epoch"]), int(metadata["best_epoch"])
        score = float(arrays.pop("best_score")[0])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise FileFormatError(
            f"{path}: not a readable checkpoint of a network's training ({error}); delete it or pass another path"
        ) from None
    differing = [key for key in identity if found.get(key) != identity[key]]
    if differing:
        names = ", ".join(f"{key} {found.get(key)!r} there, {identity[key]!r} here" for key in differing)
        raise InputError(f"checkpoint {path} belongs to another run ({names}); delete it or pass another path")
    return Snapshot(epoch=epoch, best_epoch=best_epoch, best_score=score, **arrays)

"""Training of the world model's two networks: epochs, validation, snapshots that resume to the same bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from tqdm import tqdm

from volscen._progress import bar_is_off
from volscen.errors import FitError
from volscen.generators._device import find_device
from volscen.generators._world_options import WorldOptions
from volscen.generators._world_torch import Dynamics, RasterVAE, initialise

__all__ = ["Snapshot", "train_dynamics", "train_vision"]

Arrays = dict[str, npt.NDArray[Any]]
FloatArray = npt.NDArray[np.float64]
Save = Callable[["Snapshot"], None]


@dataclass(frozen=True)
class Snapshot:
    """Training of one network after a number of whole epochs: enough to go on to the same bits.

    Attributes
    ----------
    stage : str
        ``"vision"`` or ``"dynamics"``.
    epoch : int
        Epochs done.
    best_epoch, best_score : int, float
        Of the best validation score so far; 0 and infinity before the first.
    now, best, optimiser : dict of ndarray
        State of the network now and at the best epoch (empty before), and of Adam.
    rng_state : ndarray of uint8
    curve : ndarray, shape (epoch, 3)
        Columns: loss, mean squared error, and divergence (vision) or validation error (dynamics).
    validation_curve : ndarray, shape (epoch,)
        Mean squared error on the validation days; NaN without any.
    """

    stage: str
    epoch: int
    best_epoch: int
    best_score: float
    now: Arrays
    best: Arrays
    optimiser: Arrays
    rng_state: npt.NDArray[np.uint8]
    curve: FloatArray
    validation_curve: FloatArray

    @property
    def kept(self) -> Arrays:
        """State of the network at the best epoch; the last without validation days."""
        return self.best if self.best_epoch else self.now


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class _Job:
    """One network to train: ``loss`` gives the objective and two figures, ``score`` the validation error."""

    stage: str
    network: nn.Module
    n: int
    epochs: int
    loss: Callable[[Tensor, torch.Generator, int], tuple[Tensor, Tensor, Tensor]]
    score: Callable[[], float] | None
    from_epoch: int = 1


def train_vision(
    raster: npt.NDArray[np.float32],
    n_train: int,
    loadings: npt.NDArray[np.float32] | None,
    options: WorldOptions,
    run: RunSettings,
    resume: Snapshot | None = None,
) -> Snapshot:
    """Train the autoencoder on standardised rasters (n, size, size), of which the last validate.

    Raises
    ------
    FitError
        If a loss is no longer finite.
    """
    device = find_device(run.device)
    with _threads(run.num_threads):
        pictures = torch.from_numpy(raster)[:, None].to(device).contiguous(memory_format=torch.channels_last)
        rng = _rng(options.seed, 0)
        with torch.random.fork_rng(devices=[]):  # torch draws weights, which are then drawn from our own generator
            network = RasterVAE(
                options.raster_size, options.channels, options.latent_dim,
                None if loadings is None else torch.from_numpy(loadings),
            )  # fmt: skip
        initialise(network, rng)
        network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        rise = max(options.warmup * options.epochs, 1e-9)

        def loss(rows: Tensor, rng: torch.Generator, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
            noise = torch.randn((len(rows), options.latent_dim), generator=rng).to(device)
            beta = options.beta * min(1.0, (epoch - 1) / rise)
            found: tuple[Tensor, Tensor, Tensor] = network.loss(
                pictures[rows.to(device)], noise, beta, options.free_bits
            )
            return found

        def score() -> float:
            total = 0.0
            for part in torch.split(pictures[n_train:], 256):
                total += float((network.decode(network.encode(part)[0]) - part).square().mean(dim=(1, 2, 3)).sum())
            return total / (len(pictures) - n_train)

        # Before the penalty has its full weight, pictures are sharper than they will be: no epoch to keep.
        first = min(math.ceil(rise) + 1, options.epochs)
        job = _Job(
            "vision", network, n_train, options.epochs, loss, score if n_train < len(pictures) else None, first
        )  # fmt: skip
        return _train(job, options, run, rng, resume, rate=options.learning_rate, decay=0.0)


def train_dynamics(
    window: FloatArray,
    target: FloatArray,
    noise_scale: FloatArray,
    n_train: int,
    options: WorldOptions,
    run: RunSettings,
    resume: Snapshot | None = None,
) -> Snapshot:
    """Train the recurrent network to map windows (n, window, factors) to targets (n, factors); the last rows validate.

    ``noise_scale`` (n, window, factors) is the standard deviation of what is added to the inputs in training.

    Raises
    ------
    FitError
        If a loss is no longer finite.
    """
    device = find_device(run.device)
    with _threads(run.num_threads):
        x, y, s = (torch.from_numpy(a).float().to(device) for a in (window, target, noise_scale))
        rng = _rng(options.seed, 1)
        with torch.random.fork_rng(devices=[]):
            network = Dynamics(window.shape[2], options.hidden)
        initialise(network, rng)
        network = network.to(device)

        def loss(rows: Tensor, rng: torch.Generator, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
            noise = torch.randn((len(rows), *window.shape[1:]), generator=rng).to(device)
            rows = rows.to(device)
            error = (network(x[rows] + s[rows] * noise) - y[rows]).square().mean()
            return error, error, torch.zeros(())

        def score() -> float:
            return float((network(x[n_train:]) - y[n_train:]).square().mean())

        job = _Job("dynamics", network, n_train, options.dynamics_epochs, loss, score if n_train < len(x) else None)
        rate = options.dynamics_learning_rate
        return _train(job, options, run, rng, resume, rate=rate, decay=options.weight_decay)


@dataclass(frozen=True)
class RunSettings:
    """How to train, which decides no bit on one machine: device, threads, progress, checkpoints."""

    device: str = "cpu"
    num_threads: int = 1
    checkpoint_every: int = 5
    save: Save | None = None
    progress: bool | Literal["auto"] = "auto"


def _rng(seed: int, stage: int) -> torch.Generator:
    state = np.random.SeedSequence(seed).generate_state(2, np.uint64)[stage] >> np.uint64(1)
    return torch.Generator().manual_seed(int(state))


def _train(
    job: _Job,
    options: WorldOptions,
    run: RunSettings,
    rng: torch.Generator,
    resume: Snapshot | None,
    *,
    rate: float,
    decay: float,
) -> Snapshot:
    network = job.network
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    nothing = np.empty((0, 3)), np.empty(0)
    snapshot = Snapshot(job.stage, 0, 0, math.inf, _state(network), {}, {}, rng.get_state().numpy(), *nothing)
    if resume is not None:
        _load(network, resume.now)
        _load_adam(optimiser, resume.optimiser)
        rng.set_state(torch.from_numpy(resume.rng_state.copy()))
        snapshot = resume
    if run.save is not None:
        run.save(snapshot)  # an unwritable path is found now, not after an hour
    bar = tqdm(
        total=job.epochs,
        initial=snapshot.epoch,
        disable=bar_is_off(run.progress),
        desc=f"world: {job.stage}",
        unit="epoch",
    )
    try:
        with bar:
            for epoch in range(snapshot.epoch + 1, job.epochs + 1):
                figures = _epoch(job, options, optimiser, rng, epoch, rate)
                snapshot = _judge(job, snapshot, epoch, figures, optimiser, rng)
                if run.save is not None and epoch % run.checkpoint_every == 0 and epoch < job.epochs:
                    run.save(snapshot)
                bar.update()
                if not bar.disable:
                    bar.set_postfix(error=f"{figures[1]:.3g}", validation=f"{snapshot.validation_curve[-1]:.3g}")
    except KeyboardInterrupt:
        if run.save is not None:
            run.save(snapshot)
        raise
    if run.save is not None:
        run.save(snapshot)
    return snapshot


def _epoch(
    job: _Job, options: WorldOptions, optimiser: torch.optim.Optimizer, rng: torch.Generator, epoch: int, rate: float
) -> FloatArray:
    """One pass over the training rows; mean loss and figures. The rate falls to nothing along a cosine."""
    job.network.train()
    order = torch.randperm(job.n, generator=rng)
    batches = list(torch.split(order, options.batch_size))
    if len(batches) > 1 and len(batches[-1]) < 2:  # batch norm needs two
        batches[-2:] = [torch.cat(batches[-2:])]
    total = torch.zeros(3, dtype=torch.float64)
    for i, rows in enumerate(batches):
        done = (epoch - 1 + i / len(batches)) / job.epochs
        for group in optimiser.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * done))
        optimiser.zero_grad()
        objective, *figures = job.loss(rows, rng, epoch)
        objective.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(job.network.parameters(), 1.0)
        optimiser.step()
        total += len(rows) * torch.stack([value.detach().double().cpu() for value in (objective, *figures)])
    means: FloatArray = (total / job.n).numpy()
    if not np.all(np.isfinite(means)):
        raise FitError(
            f"training of the {job.stage} network diverged in epoch {epoch} of {job.epochs}; lower its learning "
            f"rate (now {rate:g})"
        )
    return means


def _judge(
    job: _Job, last: Snapshot, epoch: int, figures: FloatArray, optimiser: torch.optim.Optimizer, rng: torch.Generator
) -> Snapshot:
    score = math.nan
    if job.score is not None:
        job.network.eval()
        with torch.no_grad():
            score = job.score()
        if not math.isfinite(score):
            raise FitError(f"the validation error of the {job.stage} network is not finite in epoch {epoch}")
    now = _state(job.network)
    better = epoch >= job.from_epoch and score < last.best_score
    return replace(
        last,
        epoch=epoch,
        now=now,
        best_epoch=epoch if better else last.best_epoch,
        best_score=score if better else last.best_score,
        best=now if better else last.best,
        optimiser=_adam(optimiser),
        rng_state=rng.get_state().numpy(),
        curve=np.vstack([last.curve, figures]),
        validation_curve=np.append(last.validation_curve, score),
    )


def _state(network: nn.Module) -> Arrays:
    return {name: value.detach().cpu().contiguous().numpy().copy() for name, value in network.state_dict().items()}


def _load(network: nn.Module, arrays: Arrays) -> None:
    with torch.no_grad():
        for name, value in network.state_dict().items():
            value.copy_(torch.from_numpy(arrays[name].reshape(value.shape).copy()))


def _adam(optimiser: torch.optim.Optimizer) -> Arrays:
    return {
        f"{index}.{name}": value.detach().cpu().contiguous().numpy().copy()
        for index, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
    }


def _load_adam(optimiser: torch.optim.Optimizer, arrays: Arrays) -> None:
    whole = optimiser.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in arrays.items():
        index, part = name.split(".", 1)
        shaped = value.reshape(()) if part == "step" else value  # files hold no arrays without dimensions
        state.setdefault(int(index), {})[part] = torch.from_numpy(shaped.copy())
    whole["state"] = state
    optimiser.load_state_dict(whole)

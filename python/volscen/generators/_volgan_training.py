"""Training of VolGAN: gradient-norm matching, the epochs, validation, snapshots (Vuletic and Cont 2024)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from volscen.errors import FitError
from volscen.generators._volgan_data import TrainingData
from volscen.generators._volgan_kernel import AdversarialPair
from volscen.generators._volgan_validation import ValidationScore

__all__ = ["CURVE", "Settings", "Snapshot", "Training", "match_gradient_norms"]

#: Columns of the training curve.
CURVE = ("discriminator_loss", "generator_cross_entropy", "penalty_moneyness", "penalty_tau")

_DTYPE = torch.float32


@dataclass(frozen=True)
class Settings:
    """How to train; the meaning of every field is told at :class:`volscen.generators._volgan.VolGAN`."""

    epochs: int
    batch_size: int
    learning_rate: float
    noise_dim: int
    hidden: tuple[int, int]
    discriminator_hidden: int
    matching_epochs: int
    seed: int
    validate_every: int
    validation_scenarios: int
    checkpoint_every: int


@dataclass(frozen=True)
class Snapshot:
    """Training as it stands after a number of whole epochs: enough to go on to the same bits.

    Attributes
    ----------
    epoch : int
        Epochs done.
    alpha : tuple of float or None
        Weights of the penalties in moneyness and in tau; None before gradient-norm matching.
    generator, discriminator : ndarray
        Flat parameters; ``*_square`` are the RMSProp states.
    rng_state : ndarray of uint8
        State of the training's random numbers.
    best_epoch, best_score : int, float
        Of the best validation score so far; 0 and infinity before the first.
    best_generator, best_discriminator : ndarray
        Parameters at that epoch.
    curve : ndarray, shape (epoch, 4)
        Columns :data:`CURVE`.
    validation_curve : ndarray, shape (evaluations, 2)
        Epoch and energy score.
    """

    epoch: int
    alpha: tuple[float, float] | None
    generator: npt.NDArray[np.float32]
    generator_square: npt.NDArray[np.float32]
    discriminator: npt.NDArray[np.float32]
    discriminator_square: npt.NDArray[np.float32]
    rng_state: npt.NDArray[np.uint8]
    best_epoch: int
    best_score: float
    best_generator: npt.NDArray[np.float32]
    best_discriminator: npt.NDArray[np.float32]
    curve: npt.NDArray[np.float64]
    validation_curve: npt.NDArray[np.float64]


def match_gradient_norms(
    pair: AdversarialPair, along: tuple[Tensor, Tensor], epochs: int, rng: torch.Generator
) -> tuple[float, float]:
    """Weights that make each penalty's gradient as long as the cross-entropy's, on average.

    Trains on the cross-entropy alone for some epochs, averages |grad BCE| / |grad L| over the generator's
    updates, and puts both networks back to where they started.

    Parameters
    ----------
    pair : AdversarialPair
    along : pair of Tensor, shape (differences, cells)
        Difference operators D of the penalties L = |D g|^2; one without rows gets weight 0.
    epochs : int
    rng : torch.Generator

    Raises
    ------
    FitError
        If a ratio is not finite.
    """
    networks = (pair.generator, pair.discriminator)
    start = [network.flat.clone() for network in networks]
    slopes = [2 * (d.double().T @ d.double()).to(d.dtype) for d in along]
    sums, updates = [0.0, 0.0], 0
    for _ in _epochs(pair, epochs, rng):
        for batch in pair.batches:
            pair.discriminator_gradient(batch)
            pair.discriminator.rmsprop(pair.learning_rate)
            pair.forward_generator(batch)
            norms = []
            for penalty_slope in slopes:
                pair.generator_gradient(batch, pair.slope_of_penalty(batch, penalty_slope))
                norms.append(float(torch.linalg.vector_norm(pair.generator.grad)))
            pair.generator_gradient(batch, pair.slope_of_cross_entropy(batch))
            norm = float(torch.linalg.vector_norm(pair.generator.grad))
            pair.generator.rmsprop(pair.learning_rate)
            for i, d in enumerate(along):
                if len(d):
                    sums[i] += norm / norms[i] if norms[i] > 0 else math.inf
            updates += 1
    for network, flat in zip(networks, start, strict=True):
        network.flat.copy_(flat)
        network.square.zero_()
    alpha = (sums[0] / updates, sums[1] / updates)
    if not all(math.isfinite(a) for a in alpha):
        raise FitError(
            f"gradient-norm matching gave the penalty weights {alpha}: training diverged at once, or every "
            "surface is flat; check the history and lower learning_rate"
        )
    return alpha


def _epochs(pair: AdversarialPair, epochs: int, rng: torch.Generator) -> Iterator[int]:
    """Shuffle, draw the noise and lay out each epoch in turn."""
    order = torch.empty(pair.n, dtype=torch.int64)
    noise = torch.empty(2, pair.n, pair.noise_dim, dtype=pair.surface.dtype)
    for epoch in range(epochs):
        torch.randperm(pair.n, generator=rng, out=order)
        torch.randn(noise.shape, generator=rng, out=noise)
        pair.start_epoch(order, noise)
        yield epoch


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on one thread without recording gradients; put both back as they were."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(threads)


class Training:
    """One training run, resumable at any whole epoch.

    Parameters
    ----------
    data : TrainingData
    settings : Settings

    Notes
    -----
    Everything random comes from generators seeded by ``settings.seed``; torch's global generator is neither
    read nor moved. One thread: threads cost more than they give on matrices of this size, and the number of
    them then cannot change a bit.
    """

    def __init__(self, data: TrainingData, settings: Settings) -> None:
        seeds = np.random.SeedSequence(settings.seed).generate_state(4, np.uint64) >> np.uint64(1)
        init, self._matching_rng, self._rng, validation = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
        self._settings = settings
        with _one_thread():
            self._pair = AdversarialPair(
                _tensor(data.target),
                _tensor(data.condition),
                noise_dim=settings.noise_dim,
                hidden=settings.hidden,
                discriminator_hidden=settings.discriminator_hidden,
                batch_size=settings.batch_size,
                learning_rate=settings.learning_rate,
            )
            self._pair.generator.initialise(init)
            self._pair.discriminator.initialise(init)
            self._along = (_tensor(data.along_moneyness), _tensor(data.along_tau))
            self._score = (
                ValidationScore(
                    _tensor(data.validation_target),
                    _tensor(data.validation_condition),
                    _tensor(data.scale),
                    settings.noise_dim,
                    settings.validation_scenarios,
                    validation,
                )
                if len(data.validation_target)
                else None
            )
        self._curve = np.empty((settings.epochs, len(CURVE)))
        self._validation_curve = np.empty((settings.epochs // settings.validate_every, 2))
        nothing = np.zeros(0, dtype=np.float32)
        self.snapshot = self._take(0, None, (0, math.inf, nothing, nothing))

    @property
    def widths(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Layer widths of generator and discriminator."""
        return self._pair.generator.widths, self._pair.discriminator.widths

    def resume(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot taken by a run with the same data and settings."""
        for name in ("generator", "discriminator"):
            network = getattr(self._pair, name)
            network.flat.copy_(torch.from_numpy(getattr(snapshot, name).copy()))
            network.square.copy_(torch.from_numpy(getattr(snapshot, f"{name}_square").copy()))
        self._rng.set_state(torch.from_numpy(snapshot.rng_state.copy()))
        self._curve[: snapshot.epoch] = snapshot.curve
        self._validation_curve[: len(snapshot.validation_curve)] = snapshot.validation_curve
        self.snapshot = snapshot

    def run(self, save: Callable[[Snapshot], None] | None = None, *, show_progress: bool | None = None) -> Snapshot:
        """Train up to the last epoch; :attr:`snapshot` always is the state after the last whole epoch.

        Parameters
        ----------
        save : callable, optional
            Called with a snapshot at the start, every ``checkpoint_every`` epochs, at the end, and before an
            interruption (KeyboardInterrupt) is passed on.
        show_progress : bool, optional
            None: only on a terminal.

        Raises
        ------
        FitError
            If a loss or a parameter is no longer finite; snapshots saved before stay as they are.
        """
        disable = None if show_progress is None else not show_progress
        if save is not None:
            save(self.snapshot)  # an unwritable path is found now, not after an hour
        try:
            with (
                _one_thread(),
                tqdm(
                    total=self._settings.epochs,
                    initial=self.snapshot.epoch,
                    disable=disable,
                    desc="VolGAN",
                    unit="epoch",
                ) as bar,
            ):
                self._match()
                self._loop(bar, save)
        except KeyboardInterrupt:
            if save is not None:
                save(self.snapshot)
            raise
        if save is not None:
            save(self.snapshot)
        return self.snapshot

    def best(self) -> Snapshot:
        """Return the final snapshot, its best epoch judged with the final epoch included.

        Validation happens every ``validate_every`` epochs; a last epoch in between is scored here, outside
        the run, so that a run cut at any epoch and one that goes on agree.
        """
        snapshot = self.snapshot
        if self._score is None or snapshot.epoch % self._settings.validate_every == 0:
            return snapshot
        with _one_thread():
            score = self._score(self._pair.generator)
        if not math.isfinite(score):
            raise self._diverged(snapshot.epoch, "the validation score")
        snapshot = replace(snapshot, validation_curve=np.vstack([snapshot.validation_curve, [[snapshot.epoch, score]]]))
        if score >= snapshot.best_score:
            return snapshot
        return replace(
            snapshot,
            best_epoch=snapshot.epoch,
            best_score=score,
            best_generator=snapshot.generator,
            best_discriminator=snapshot.discriminator,
        )

    def _match(self) -> None:
        alpha = self.snapshot.alpha
        if alpha is None:
            epochs = self._settings.matching_epochs
            alpha = match_gradient_norms(self._pair, self._along, epochs, self._matching_rng)
            self.snapshot = replace(self.snapshot, alpha=alpha)
        slope = sum(2 * a * (d.double().T @ d.double()) for a, d in zip(alpha, self._along, strict=True))
        self._pair.penalty_slope.copy_(torch.as_tensor(slope))

    def _loop(self, bar: tqdm[Any], save: Callable[[Snapshot], None] | None) -> None:
        pair, settings = self._pair, self._settings
        done = self.snapshot.epoch
        for i in _epochs(pair, settings.epochs - done, self._rng):
            epoch = done + i + 1
            for batch in pair.batches:
                pair.train_batch(batch)
            self._curve[epoch - 1] = (*pair.cross_entropies(), *(self._penalty(d) for d in self._along))
            size = float(pair.generator.flat.sum() + pair.discriminator.flat.sum())
            if not (math.isfinite(size) and np.all(np.isfinite(self._curve[epoch - 1]))):
                raise self._diverged(epoch, "a loss or a parameter")
            best = self._validate(epoch)
            self.snapshot = self._take(epoch, self.snapshot.alpha, best)
            if save is not None and epoch % settings.checkpoint_every == 0:
                save(self.snapshot)
            bar.update()
            if epoch % settings.validate_every == 0 and not bar.disable:
                bar.set_postfix(energy_score=f"{best[1]:.4g}", best_epoch=best[0], refresh=False)

    def _diverged(self, epoch: int, what: str) -> FitError:
        settings = self._settings
        return FitError(
            f"training diverged in epoch {epoch} of {settings.epochs}: {what} is no longer finite; lower "
            f"learning_rate (now {settings.learning_rate:g}), or stop at an earlier epoch"
        )

    def _penalty(self, along: Tensor) -> float:
        """Mean of |D g|^2 over the surfaces of the epoch's generator steps."""
        return float((self._pair.surface @ along.T).square().sum()) / self._pair.n

    def _validate(self, epoch: int) -> tuple[int, float, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        last = self.snapshot
        best = (last.best_epoch, last.best_score, last.best_generator, last.best_discriminator)
        if self._score is None or epoch % self._settings.validate_every:
            return best
        score = self._score(self._pair.generator)
        self._validation_curve[epoch // self._settings.validate_every - 1] = (epoch, score)
        if not math.isfinite(score):
            raise self._diverged(epoch, "the validation score")
        if score < best[1]:
            return epoch, score, _copy(self._pair.generator.flat), _copy(self._pair.discriminator.flat)
        return best

    def _take(
        self,
        epoch: int,
        alpha: tuple[float, float] | None,
        best: tuple[int, float, npt.NDArray[np.float32], npt.NDArray[np.float32]],
    ) -> Snapshot:
        """Copy the state; curve rows are written once, so views of them will do."""
        pair = self._pair
        evaluated = epoch // self._settings.validate_every if self._score is not None else 0
        return Snapshot(
            epoch,
            alpha,
            _copy(pair.generator.flat),
            _copy(pair.generator.square),
            _copy(pair.discriminator.flat),
            _copy(pair.discriminator.square),
            self._rng.get_state().numpy(),
            *best,
            self._curve[:epoch],
            self._validation_curve[:evaluated],
        )


def _tensor(values: npt.NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(_DTYPE)


def _copy(tensor: Tensor) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = tensor.numpy().copy()
    return values

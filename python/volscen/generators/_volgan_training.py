"""Training of VolGAN: the epochs, validation, snapshots (Vuletic and Cont 2024)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from volscen._progress import bar_is_off
from volscen._threads import single_threaded_torch
from volscen.errors import FitError
from volscen.generators._volgan_data import TrainingData
from volscen.generators._volgan_kernel import AdversarialPair
from volscen.generators._volgan_matching import Rows, match_gradient_norms
from volscen.generators._volgan_options import CURVE, Options
from volscen.generators._volgan_validation import ValidationScore

__all__ = ["Snapshot", "Training"]

_DTYPE = torch.float32


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
    average : ndarray
        Running average of the generator's parameters; the parameters themselves without averaging.
    rng_state : ndarray of uint8
        State of the training's random numbers.
    order : ndarray of int64
        Order of the rows in the last epoch.
    best_epoch, best_score : int, float
        Of the best validation score so far; 0 and infinity before the first.
    best_generator, best_discriminator : ndarray
        Parameters at that epoch.
    curve : ndarray, shape (epoch, 4)
        Columns :data:`~volscen.generators._volgan_options.CURVE`.
    validation_curve : ndarray, shape (evaluations, 2)
        Epoch and energy score.
    """

    epoch: int
    alpha: tuple[float, float] | None
    generator: npt.NDArray[np.float32]
    generator_square: npt.NDArray[np.float32]
    average: npt.NDArray[np.float32]
    discriminator: npt.NDArray[np.float32]
    discriminator_square: npt.NDArray[np.float32]
    rng_state: npt.NDArray[np.uint8]
    order: npt.NDArray[np.int64]
    best_epoch: int
    best_score: float
    best_generator: npt.NDArray[np.float32]
    best_discriminator: npt.NDArray[np.float32]
    curve: npt.NDArray[np.float64]
    validation_curve: npt.NDArray[np.float64]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on one thread without recording gradients."""
    with single_threaded_torch(), torch.no_grad():
        yield


class Training:
    """One training run, resumable at any whole epoch.

    Parameters
    ----------
    data : TrainingData
    options : Options
    checkpoint_every : int
        Epochs between two calls of what saves snapshots.

    Notes
    -----
    Everything random comes from generators seeded by ``options.seed``; torch's global generator is neither
    read nor moved. One thread: threads cost more than they give on matrices of this size, and the number of
    them then cannot change a bit.
    """

    def __init__(self, data: TrainingData, options: Options, checkpoint_every: int = 100) -> None:
        self._options, self._checkpoint_every = options, checkpoint_every
        init, self._matching_rng, rng, validation = self._randomness(options.seed)
        with _one_thread():
            self._pair = AdversarialPair(
                _tensor(data.target),
                _tensor(data.condition),
                noise_dim=options.noise_dim,
                hidden=options.hidden,
                discriminator_hidden=options.discriminator_hidden,
                batch_size=options.batch_size,
                learning_rate=options.learning_rate,
                discriminator_learning_rate=options.discriminator_rate * options.learning_rate,
                discriminator_decay=options.discriminator_decay,
                averaging=options.averaging,
            )
            self._initialise(init)
            self._pair.average.copy_(self._pair.generator.flat)
            self._rows = self._new_rows(rng)
            self._along = (_tensor(data.along_moneyness), _tensor(data.along_tau))
            self._score = (
                ValidationScore(
                    _tensor(data.outcome),
                    _tensor(data.validation_condition),
                    options.noise_dim,
                    options.validation_scenarios,
                    validation,
                    scale=_tensor(data.validation_scale),
                    components=None if data.components is None else _tensor(data.components),
                    rest=None if data.rest is None else _tensor(data.rest),
                )
                if len(data.outcome)
                else None
            )
        self.condition_range = np.stack([data.condition.min(axis=0), data.condition.max(axis=0)])
        self._curve = np.empty((options.epochs, len(CURVE)))
        self._validation_curve = np.empty((options.epochs // options.validate_every, 2))
        nothing = np.zeros(0, dtype=np.float32)
        self.snapshot = self._take(0, None, (0, math.inf, nothing, nothing))

    # The public code does the next four in ways of its own; see _volgan_reference.
    def _randomness(self, seed: int) -> tuple[torch.Generator, torch.Generator, torch.Generator, torch.Generator]:
        """Return generators for the initial parameters, for matching, for the epochs and for validation."""
        seeds = np.random.SeedSequence(seed).generate_state(4, np.uint64) >> np.uint64(1)
        init, matching, epochs, validation = (torch.Generator().manual_seed(int(s)) for s in seeds)
        return init, matching, epochs, validation

    def _initialise(self, rng: torch.Generator) -> None:
        self._pair.generator.initialise(rng)
        self._pair.discriminator.initialise(rng)

    def _new_rows(self, rng: torch.Generator) -> Rows:
        return Rows(self._pair, rng)

    def _match(self) -> tuple[float, float]:
        """Weights of the penalties; both networks go back to where they started."""
        networks = (self._pair.generator, self._pair.discriminator)
        start = [network.flat.clone() for network in networks]
        rows = self._new_rows(self._matching_rng)
        alpha = match_gradient_norms(self._pair, self._along, self._options.matching_epochs, rows)
        for network, flat in zip(networks, start, strict=True):
            network.flat.copy_(flat)
            network.square.zero_()
        return alpha

    @property
    def widths(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Layer widths of generator and discriminator."""
        return self._pair.generator.widths, self._pair.discriminator.widths

    def resume(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot taken by a run with the same data and options."""
        for name in ("generator", "discriminator"):
            network = getattr(self._pair, name)
            network.flat.copy_(torch.from_numpy(getattr(snapshot, name).copy()))
            network.square.copy_(torch.from_numpy(getattr(snapshot, f"{name}_square").copy()))
        self._pair.average.copy_(torch.from_numpy(snapshot.average.copy()))
        self._rows.rng.set_state(torch.from_numpy(snapshot.rng_state.copy()))
        self._rows.order.copy_(torch.from_numpy(snapshot.order.copy()))
        self._curve[: snapshot.epoch] = snapshot.curve
        self._validation_curve[: len(snapshot.validation_curve)] = snapshot.validation_curve
        self.snapshot = snapshot

    def run(
        self, save: Callable[[Snapshot], None] | None = None, *, progress: bool | Literal["auto"] = "auto"
    ) -> Snapshot:
        """Train up to the last epoch; :attr:`snapshot` always is the state after the last whole epoch.

        Parameters
        ----------
        save : callable, optional
            Called with a snapshot at the start, every ``checkpoint_every`` epochs, at the end, and before an
            interruption (KeyboardInterrupt) is passed on.
        progress : bool or "auto"
            "auto" shows a bar only on a terminal.

        Raises
        ------
        FitError
            If a loss or a parameter is no longer finite; snapshots saved before stay as they are.
        """
        disable = bar_is_off(progress)
        if save is not None:
            save(self.snapshot)  # an unwritable path is found now, not after an hour
        try:
            with (
                _one_thread(),
                tqdm(
                    total=self._options.epochs,
                    initial=self.snapshot.epoch,
                    disable=disable,
                    desc="VolGAN",
                    unit="epoch",
                ) as bar,
            ):
                self._weigh_penalties()
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
        if self._score is None or snapshot.epoch % self._options.validate_every == 0:
            return snapshot
        with _one_thread():
            score = self._score(self._pair.generator, self._pair.average)
        if not math.isfinite(score):
            raise self._diverged(snapshot.epoch, "the validation score")
        snapshot = replace(snapshot, validation_curve=np.vstack([snapshot.validation_curve, [[snapshot.epoch, score]]]))
        if score >= snapshot.best_score:
            return snapshot
        return replace(
            snapshot,
            best_epoch=snapshot.epoch,
            best_score=score,
            best_generator=snapshot.average,
            best_discriminator=snapshot.discriminator,
        )

    def _weigh_penalties(self) -> None:
        alpha = self.snapshot.alpha
        if alpha is None:
            wanted = self._options.smoothness
            if wanted == "match" and any(map(len, self._along)):
                alpha = self._match()
            else:
                alpha = wanted if isinstance(wanted, tuple) else (0.0, 0.0)
            last = self.snapshot  # the public code goes on from where matching ends: the networks have moved
            self.snapshot = self._take(0, alpha, (0, math.inf, last.best_generator, last.best_discriminator))
        slope = sum(2 * a * (d.double().T @ d.double()) for a, d in zip(alpha, self._along, strict=True))
        self._pair.penalty_slope.copy_(torch.as_tensor(slope))

    def _loop(self, bar: tqdm[Any], save: Callable[[Snapshot], None] | None) -> None:
        pair, options = self._pair, self._options
        done = self.snapshot.epoch
        for epoch in range(done + 1, options.epochs + 1):
            if self._exhausted():
                return
            self._rows.lay_out()
            for batch in pair.batches:
                pair.train_batch(batch)
            self._curve[epoch - 1] = (*pair.cross_entropies(), *(self._penalty(d) for d in self._along))
            size = float(pair.generator.flat.sum() + pair.discriminator.flat.sum())
            if not (math.isfinite(size) and np.all(np.isfinite(self._curve[epoch - 1]))):
                raise self._diverged(epoch, "a loss or a parameter")
            best = self._validate(epoch)
            self.snapshot = self._take(epoch, self.snapshot.alpha, best)
            if save is not None and epoch % self._checkpoint_every == 0:
                save(self.snapshot)
            bar.update()
            if epoch % options.validate_every == 0 and not bar.disable:
                bar.set_postfix(energy_score=f"{best[1]:.4g}", best_epoch=best[0], refresh=False)

    def _exhausted(self) -> bool:
        """Whether the validation score has not improved for as many evaluations as patience allows."""
        last, patience = self.snapshot, self._options.patience
        if patience is None or self._score is None or not last.best_epoch:
            return False
        return last.epoch - last.best_epoch >= patience * self._options.validate_every

    def _diverged(self, epoch: int, what: str) -> FitError:
        options = self._options
        return FitError(
            f"training diverged in epoch {epoch} of {options.epochs}: {what} is no longer finite; lower "
            f"learning_rate (now {options.learning_rate:g}), or stop at an earlier epoch"
        )

    def _penalty(self, along: Tensor) -> float:
        """Mean of |D g|^2 over the surfaces of the epoch's generator steps."""
        return float((self._pair.surface @ along.T).square().sum()) / self._pair.n

    def _validate(self, epoch: int) -> tuple[int, float, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        last = self.snapshot
        best = (last.best_epoch, last.best_score, last.best_generator, last.best_discriminator)
        if self._score is None or epoch % self._options.validate_every:
            return best
        score = self._score(self._pair.generator, self._pair.average)
        self._validation_curve[epoch // self._options.validate_every - 1] = (epoch, score)
        if not math.isfinite(score):
            raise self._diverged(epoch, "the validation score")
        if score < best[1]:
            return epoch, score, _copy(self._pair.average), _copy(self._pair.discriminator.flat)
        return best

    def _take(
        self,
        epoch: int,
        alpha: tuple[float, float] | None,
        best: tuple[int, float, npt.NDArray[np.float32], npt.NDArray[np.float32]],
    ) -> Snapshot:
        """Copy the state; curve rows are written once, so views of them will do."""
        pair = self._pair
        evaluated = epoch // self._options.validate_every if self._score is not None else 0
        return Snapshot(
            epoch,
            alpha,
            _copy(pair.generator.flat),
            _copy(pair.generator.square),
            _copy(pair.average),
            _copy(pair.discriminator.flat),
            _copy(pair.discriminator.square),
            self._rows.rng.get_state().numpy(),
            self._rows.order.numpy().copy(),
            *best,
            self._curve[:epoch],
            self._validation_curve[:evaluated],
        )


def _tensor(values: npt.NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(_DTYPE)


def _copy(tensor: Tensor) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = tensor.numpy().copy()
    return values

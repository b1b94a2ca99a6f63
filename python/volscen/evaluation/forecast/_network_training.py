"""Small networks that forecast surfaces, as tasks of the shared training: a recurrent one, and coders of surfaces."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from volscen.generators._neural_training import Plan, train, unflatten

__all__ = ["Coder", "Recurrent", "Training", "fit_coder", "fit_recurrent", "split"]

FloatArray = npt.NDArray[np.float64]

#: Share of the days, the last ones, that choose the epoch.
_HELD = 0.15


@dataclass(frozen=True)
class Training:
    """Options of training that all networks share."""

    hidden: int
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    seed: int

    def plan(self) -> Plan:
        """As the shared training wants it."""
        return Plan(
            epochs=self.epochs,
            validate_every=1,
            learning_rate=self.learning_rate,
            weight_decay=0.01,
            averaging=0.98,
            patience=self.patience,
        )


def split(rows: npt.NDArray[np.intp], furthest: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Days to train on and the later ones that choose the epoch; no outcome of the former is a day of the latter."""
    held = max(1, int(_HELD * len(rows)))
    return rows[: max(0, len(rows) - held - furthest)], rows[len(rows) - held :]


def _normal(shape: tuple[int, ...], scale: float, rng: torch.Generator) -> Tensor:
    return scale * torch.randn(shape, generator=rng)


# ------------------------------------------------------------------------------------------------ coders
@dataclass(frozen=True)
class Coder:
    """Surfaces, standardised, to a few latents and back; one hidden layer of ELU each way."""

    flat: Tensor
    cells: int
    hidden: int
    latent_dim: int
    variational: bool

    @property
    def widths(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of the encoder and the decoder."""
        codes = 2 * self.latent_dim if self.variational else self.latent_dim
        return (self.cells, self.hidden, codes), (self.latent_dim, self.hidden, self.cells)

    @property
    def _n_encoder(self) -> int:
        a, b, c = self.widths[0]
        return (a + 1) * b + (b + 1) * c

    def codes(self, x: Tensor) -> Tensor:
        """Latents, and behind them the logs of their variances where variational."""
        return _mlp(self.flat[:, : self._n_encoder], self.widths[0], x)

    def encode(self, x: Tensor) -> Tensor:
        """Latents, their posterior means where variational."""
        return self.codes(x)[..., : self.latent_dim]

    def decode(self, z: Tensor) -> Tensor:
        """Surfaces."""
        return _mlp(self.flat[:, self._n_encoder :], self.widths[1], z)


def _mlp(flat: Tensor, widths: Sequence[int], x: Tensor) -> Tensor:
    layers = unflatten(flat, widths)
    for i, (weight, bias) in enumerate(layers):
        x = x @ weight[0] + bias[0, 0]
        if i + 1 < len(layers):
            x = torch.nn.functional.elu(x)
    return x


class _CoderTask:
    """Reconstruct; where variational, from a latent drawn, and stay near a standard normal law."""

    label = "coder"
    scores_start = False

    def __init__(
        self, train_x: Tensor, held_x: Tensor, options: Training, latent_dim: int, variational: bool, beta: float
    ) -> None:
        self._train, self._held, self._options = train_x, held_x, options
        self._like = (train_x.shape[1], options.hidden, latent_dim, variational)
        self._beta = beta
        self.batches = max(1, len(train_x) // options.batch_size)

    def coder(self, flat: Tensor) -> Coder:
        return Coder(flat, *self._like)

    def start(self) -> Tensor:
        rng = torch.Generator().manual_seed(self._options.seed)
        parts = []
        for widths in self.coder(torch.empty(1, 0)).widths:
            for n_in, n_out in itertools.pairwise(widths):
                parts += [_normal((n_in * n_out,), n_in**-0.5, rng), torch.zeros(n_out)]
        return torch.cat(parts)[None]

    def loss(self, flat: Tensor, rng: torch.Generator) -> Tensor:
        rows = torch.randint(len(self._train), (self._options.batch_size,), generator=rng)
        return self._of(self.coder(flat), self._train[rows], rng)[None]

    @torch.no_grad()
    def score(self, flat: Tensor) -> float:
        return float(self._of(self.coder(flat), self._held, torch.Generator().manual_seed(self._options.seed + 1)))

    def _of(self, coder: Coder, x: Tensor, rng: torch.Generator) -> Tensor:
        codes = coder.codes(x)
        if not coder.variational:
            return (coder.decode(codes) - x).square().mean()
        mean, log_var = codes.chunk(2, dim=-1)
        log_var = log_var.clamp(-10, 10)
        z = mean + (log_var / 2).exp() * torch.randn(mean.shape, generator=rng)
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(dim=-1).mean()
        return (coder.decode(z) - x).square().mean() + self._beta * kl / x.shape[1]


def fit_coder(
    train_x: Tensor, held_x: Tensor, options: Training, *, latent_dim: int, variational: bool, beta: float = 0.0
) -> Coder:
    """Train a coder on standardised surfaces (days, cells)."""
    task = _CoderTask(train_x, held_x, options, latent_dim, variational, beta)
    # Autoencoders overfit little and learn slowly: a batch costs a fraction of the recurrent network's.
    plan = replace(options, epochs=2 * options.epochs).plan()
    end = train(task, plan, options.seed, identity={}, checkpoint=None, checkpoint_every=1, progress=False)
    return task.coder(torch.from_numpy(end.best))


# ------------------------------------------------------------------------------------------------ recurrent
@dataclass(frozen=True)
class Recurrent:
    """One layer of long short-term memory over a window, and a linear head that begins at zero."""

    flat: Tensor
    inputs: int
    hidden: int
    outputs: int

    def shapes(self) -> list[tuple[int, ...]]:
        """Of the parameters in order: from inputs, from the state, bias, head, bias of the head."""
        gates = 4 * self.hidden
        return [(self.inputs, gates), (self.hidden, gates), (gates,), (self.hidden, self.outputs), (self.outputs,)]

    def __call__(self, windows: Tensor) -> Tensor:
        """Head's outputs (n, outputs) of windows (n, days, inputs)."""
        parts = torch.split(self.flat[0], [int(np.prod(shape)) for shape in self.shapes()])
        from_x, from_h, bias, head, head_bias = (
            part.view(shape) for part, shape in zip(parts, self.shapes(), strict=True)
        )
        x = windows @ from_x + bias
        h = c = windows.new_zeros(len(windows), self.hidden)
        for t in range(windows.shape[1]):
            keep, write, show, new = (x[:, t] + h @ from_h).chunk(4, dim=1)
            c = keep.sigmoid() * c + write.sigmoid() * new.tanh()
            h = show.sigmoid() * c.tanh()
        return torch.addmm(head_bias, h, head)


class _RecurrentTask:
    label = "recurrent network"
    scores_start = True

    def __init__(
        self,
        windows: Callable[[Tensor], Tensor],
        error: Callable[[Tensor, Tensor], Tensor],
        rows: tuple[Tensor, Tensor],
        options: Training,
        like: tuple[int, int, int],
    ) -> None:
        self._windows, self._error, self._options, self._like = windows, error, options, like
        self._train, self._held = rows
        self.batches = max(1, len(self._train) // options.batch_size)

    def network(self, flat: Tensor) -> Recurrent:
        return Recurrent(flat, *self._like)

    def start(self) -> Tensor:
        rng = torch.Generator().manual_seed(self._options.seed)
        inputs, hidden, outputs = self._like
        bias = torch.zeros(4 * hidden)
        bias[:hidden] = 1.0  # remembers until it has learnt to forget
        parts = [
            _normal((inputs * 4 * hidden,), inputs**-0.5, rng),
            _normal((hidden * 4 * hidden,), hidden**-0.5, rng),
            bias,
            torch.zeros((hidden + 1) * outputs),
        ]
        return torch.cat(parts)[None]

    def loss(self, flat: Tensor, rng: torch.Generator) -> Tensor:
        rows = self._train[torch.randint(len(self._train), (self._options.batch_size,), generator=rng)]
        return self._error(self.network(flat)(self._windows(rows)), rows).mean()[None]

    @torch.no_grad()
    def score(self, flat: Tensor) -> float:
        return float(self._error(self.network(flat)(self._windows(self._held)), self._held).mean())


def fit_recurrent(
    windows: Callable[[Tensor], Tensor],
    error: Callable[[Tensor, Tensor], Tensor],
    rows: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]],
    options: Training,
    *,
    inputs: int,
    outputs: int,
) -> tuple[Recurrent, int, FloatArray]:
    """Train; the network of the best epoch, that epoch (0 is no change) and the scores of all."""
    taken = tuple(torch.from_numpy(part.astype(np.int64)) for part in rows)
    task = _RecurrentTask(windows, error, (taken[0], taken[1]), options, (inputs, options.hidden, outputs))
    end = train(task, options.plan(), options.seed, identity={}, checkpoint=None, checkpoint_every=1, progress=False)
    return task.network(torch.from_numpy(end.best)), end.best_epoch, end.scores

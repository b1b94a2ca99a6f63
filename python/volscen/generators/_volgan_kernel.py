"""One epoch of VolGAN's adversarial training, differentiated by hand.

The networks are so small (8,000 parameters on a 10 x 8 grid) that an automatic differentiator spends its
time on bookkeeping. Here every layer is one matrix product with the bias as the last row of the weight
(inputs carry a column of ones), all parameters of a network are views of one flat vector, and each epoch's
rows are gathered once, so that a batch makes about fifty calls on memory allocated beforehand.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["AdversarialPair", "Network", "pack", "softplus_", "unpack"]


def softplus_(x: Tensor, out: Tensor) -> Tensor:
    """Write log(1 + exp(x)) to ``out``, which must not be ``x``.

    As max(x, 0) - log sigmoid|x|: no overflow, and three times as fast as torch's softplus, whose log1p is
    not vectorised. The rounding error is absolute, one unit of the number 1.
    """
    torch.abs(x, out=out)
    out.sigmoid_().log_()
    return torch.sub(x.clamp(min=0), out, out=out)


def pack(layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Join into one flat vector layers (weight of shape (out, in), bias of shape (out,))."""
    return torch.cat([torch.cat([weight.T, bias[None]]).reshape(-1) for weight, bias in layers])


def unpack(flat: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """Return views of shape (in + 1, out) of a flat vector, the bias as the last row."""
    views, start = [], 0
    for n_in, n_out in itertools.pairwise(widths):
        size = (n_in + 1) * n_out
        views.append(flat[start : start + size].view(n_in + 1, n_out))
        start += size
    return views


class Network:
    """Parameters of one network with their gradient and RMSProp state, each one flat vector."""

    def __init__(self, widths: Sequence[int], dtype: torch.dtype) -> None:
        self.widths = tuple(widths)
        size = sum((n_in + 1) * n_out for n_in, n_out in itertools.pairwise(widths))
        self.flat, self.grad, self.square, self._scratch = torch.zeros(4, size, dtype=dtype).unbind()
        self.layers = unpack(self.flat, widths)
        self.grads = unpack(self.grad, widths)

    def initialise(self, rng: torch.Generator) -> None:
        """Draw weights and biases from U(-1/sqrt(in), 1/sqrt(in)), as torch's linear layers do."""
        for layer in self.layers:
            bound = (layer.shape[0] - 1) ** -0.5
            layer.uniform_(-bound, bound, generator=rng)

    def rmsprop(self, learning_rate: float) -> None:
        """One step of RMSProp (Tieleman and Hinton 2012) with smoothing .99 and epsilon 1e-8."""
        self.square.mul_(0.99).addcmul_(self.grad, self.grad, value=0.01)
        torch.sqrt(self.square, out=self._scratch).add_(1e-8)
        self.flat.addcdiv_(self.grad, self._scratch, value=-learning_rate)


@dataclass(frozen=True)
class _Scratch:
    """Memory of one batch size; a ``wide`` buffer ends in the column of ones that carries the bias."""

    pre1: Tensor
    wide1: Tensor
    pre2: Tensor
    wide2: Tensor
    pre_d: Tensor
    wide_d: Tensor
    logit_slope: Tensor
    target_d: Tensor
    target_g: Tensor
    slope1: Tensor
    slope2: Tensor
    slope_out: Tensor
    slope_surface: Tensor


@dataclass(frozen=True)
class _Batch:
    """Views of the epoch's rows that belong to one batch."""

    size: int
    input_d: Tensor
    input_g: Tensor
    judged: Tensor
    judged_fake: Tensor
    fake: Tensor
    past: Tensor
    move: Tensor
    surface: Tensor
    logit_d: Tensor
    logit_g: Tensor
    work: _Scratch


class AdversarialPair:
    """Generator and discriminator with the data they train on.

    Parameters
    ----------
    target : Tensor, shape (n, 1 + cells)
        Annualised return and log-vol increments. Its dtype is that of all arithmetic.
    condition : Tensor, shape (n, 3 + cells)
        Its last columns are the log surface before the move.
    noise_dim : int
    hidden : pair of int
        Widths of the generator's softplus layers.
    discriminator_hidden : int
        Width of the discriminator's softplus layer.
    batch_size : int
    learning_rate, discriminator_learning_rate : float
        Of the generator and of the discriminator; the latter is the former's when omitted.
    discriminator_decay : float
        Weight decay of the discriminator, per unit of learning rate (decoupled: Loshchilov and Hutter 2019).
    averaging : float
        Of the generator's running average per step, in [0, 1); 0 averages nothing.
    """

    def __init__(
        self,
        target: Tensor,
        condition: Tensor,
        *,
        noise_dim: int,
        hidden: tuple[int, int],
        discriminator_hidden: int,
        batch_size: int,
        learning_rate: float,
        discriminator_learning_rate: float | None = None,
        discriminator_decay: float = 0.0,
        averaging: float = 0.0,
    ) -> None:
        n, n_target = target.shape
        n_condition, dtype = condition.shape[1], target.dtype
        ones = torch.ones(n, 1, dtype=dtype)
        self.n = n
        self.cells = n_target - 1
        self.learning_rate = learning_rate
        self.discriminator_learning_rate = discriminator_learning_rate or learning_rate
        self._shrink = 1 - discriminator_decay * self.discriminator_learning_rate
        self._averaging = averaging
        self.noise_dim = noise_dim
        self.generator = Network((noise_dim + n_condition, *hidden, n_target), dtype)
        self.discriminator = Network((n_condition + n_target, discriminator_hidden, 1), dtype)
        self.average = self.generator.flat.clone() if averaging else self.generator.flat
        self._known = torch.cat([condition, ones], dim=1)
        self._real = torch.cat([condition, target, ones], dim=1)
        # Rows of the epoch. The discriminator's hold, batch by batch, generated moves, then real ones.
        self._input_d = torch.zeros(n, noise_dim + n_condition + 1, dtype=dtype)
        self._input_g = torch.zeros_like(self._input_d)
        self._judged = torch.zeros(2 * n, n_condition + n_target + 1, dtype=dtype)
        self.surface = torch.zeros(n, self.cells, dtype=dtype)
        self._logit_d = torch.zeros(2 * n, dtype=dtype)
        self._logit_g = torch.zeros(n, dtype=dtype)
        self._sign = torch.empty(2 * n, dtype=dtype)
        self._row_of = torch.empty(2 * n, dtype=torch.int64)
        sizes = [min(batch_size, n - start) for start in range(0, n, batch_size)]
        scratch = {size: self._scratch(size) for size in set(sizes)}
        start, self.batches = 0, list[_Batch]()
        for size in sizes:
            self.batches.append(self._batch(start, size, scratch[size]))
            rows = torch.arange(start, start + size)
            self._row_of[2 * start : 2 * (start + size)] = torch.cat([rows, rows])
            self._sign[2 * start : 2 * start + size] = 1
            self._sign[2 * start + size : 2 * (start + size)] = -1
            start += size
        first, self._output_layer = self.discriminator.layers
        self._output_slope = self._output_layer[:-1].view(1, -1)
        self._move_slope = first[n_condition:-1].T
        # Of L with respect to the surface, weighted and summed: 2 (alpha_m D_m'D_m + alpha_tau D_tau'D_tau).
        self.penalty_slope = torch.zeros(self.cells, self.cells, dtype=dtype)

    def _scratch(self, size: int) -> _Scratch:
        _, h1, h2, n_out = self.generator.widths
        hd, dtype = self.discriminator.widths[1], self.surface.dtype

        def empty(*shape: int) -> Tensor:
            return torch.empty(*shape, dtype=dtype)

        def wide(*shape: int) -> Tensor:
            return torch.ones(*shape, dtype=dtype)

        real = torch.cat([torch.zeros(size, dtype=dtype), torch.ones(size, dtype=dtype)])
        slope_out = empty(size, n_out)
        return _Scratch(
            pre1=empty(size, h1),
            wide1=wide(size, h1 + 1),
            pre2=empty(size, h2),
            wide2=wide(size, h2 + 1),
            pre_d=empty(2 * size, hd),
            wide_d=wide(2 * size, hd + 1),
            logit_slope=empty(2 * size),
            target_d=-real / (2 * size),
            target_g=torch.full((size,), -1 / size, dtype=dtype),
            slope1=empty(size, h1),
            slope2=empty(size, h2),
            slope_out=slope_out,
            slope_surface=slope_out[:, 1:],
        )

    def _batch(self, start: int, size: int, work: _Scratch) -> _Batch:
        rows, judged = slice(start, start + size), self._judged[2 * start : 2 * (start + size)]
        n_condition = self._known.shape[1] - 1
        judged_fake = judged[:size]
        return _Batch(
            size=size,
            input_d=self._input_d[rows],
            input_g=self._input_g[rows],
            judged=judged,
            judged_fake=judged_fake,
            fake=judged_fake[:, n_condition:-1],
            past=judged_fake[:, n_condition - self.cells : n_condition],
            move=judged_fake[:, n_condition + 1 : -1],
            surface=self.surface[rows],
            logit_d=self._logit_d[2 * start : 2 * (start + size)],
            logit_g=self._logit_g[rows],
            work=work,
        )

    def start_epoch(self, order: Tensor, noise: Tensor) -> None:
        """Lay out the rows of an epoch.

        Parameters
        ----------
        order : Tensor of int64, shape (n,)
            Permutation of the rows.
        noise : Tensor, shape (2, n, noise_dim)
            Noise of the discriminator's and of the generator's steps, in the order of the shuffled rows.
        """
        torch.index_select(self._real, 0, order[self._row_of], out=self._judged)
        known = torch.index_select(self._known, 0, order)
        for rows, z in zip((self._input_d, self._input_g), noise, strict=True):
            rows[:, : self.noise_dim] = z
            rows[:, self.noise_dim :] = known

    def _generate(self, rows: Tensor, work: _Scratch, out: Tensor) -> None:
        w1, w2, w3 = self.generator.layers
        torch.mm(rows, w1, out=work.pre1)
        softplus_(work.pre1, work.wide1[:, :-1])
        torch.mm(work.wide1, w2, out=work.pre2)
        softplus_(work.pre2, work.wide2[:, :-1])
        torch.mm(work.wide2, w3, out=out)

    def _judge(self, rows: Tensor, pre: Tensor, wide: Tensor, logit: Tensor) -> None:
        torch.mm(rows, self.discriminator.layers[0], out=pre)
        softplus_(pre, wide[:, :-1])
        torch.mv(wide, self._output_layer.view(-1), out=logit)

    def discriminator_gradient(self, batch: _Batch) -> None:
        """Set the gradient of 1/2 [BCE(D(a, G), 0) + BCE(D(a, y), 1)]."""
        work = batch.work
        self._generate(batch.input_d, work, batch.fake)
        self._judge(batch.judged, work.pre_d, work.wide_d, batch.logit_d)
        slope = torch.sigmoid(batch.logit_d, out=work.logit_slope)
        torch.add(work.target_d, slope, alpha=0.5 / batch.size, out=slope)
        torch.mv(work.wide_d.T, slope, out=self.discriminator.grads[1].view(-1))
        work.pre_d.sigmoid_().mul_(self._output_slope).mul_(slope[:, None])
        torch.mm(batch.judged.T, work.pre_d, out=self.discriminator.grads[0])

    def forward_generator(self, batch: _Batch) -> None:
        """Draw moves with the generator step's noise; leaves the surfaces they lead to."""
        self._generate(batch.input_g, batch.work, batch.fake)
        torch.add(batch.past, batch.move, out=batch.surface)

    def slope_of_cross_entropy(self, batch: _Batch) -> Tensor:
        """Differentiate BCE(D(a, G), 1) with respect to the moves drawn by :meth:`forward_generator`."""
        work, size = batch.work, batch.size
        pre, slope = work.pre_d[:size], work.logit_slope[:size]
        self._judge(batch.judged_fake, pre, work.wide_d[:size], batch.logit_g)
        torch.sigmoid(batch.logit_g, out=slope)
        torch.add(work.target_g, slope, alpha=1 / size, out=slope)
        pre.sigmoid_().mul_(self._output_slope).mul_(slope[:, None])
        return torch.mm(pre, self._move_slope, out=work.slope_out)

    def slope_of_penalty(self, batch: _Batch, penalty_slope: Tensor, *, of_vol: bool = False) -> Tensor:
        """Differentiate a penalty's batch mean with respect to the moves; ``penalty_slope`` is 2 D'D.

        The penalty is |D g|^2 of the log surface g, or |D exp g|^2 where ``of_vol``.
        """
        batch.work.slope_out[:, 0] = 0
        surface = batch.surface.exp() if of_vol else batch.surface
        torch.mm(surface, penalty_slope, out=batch.work.slope_surface).div_(batch.size)
        if of_vol:
            batch.work.slope_surface.mul_(surface)
        return batch.work.slope_out

    def generator_gradient(self, batch: _Batch, slope: Tensor) -> None:
        """Set the gradient of the generator's parameters, given that with respect to its moves."""
        work, (g1, g2, g3) = batch.work, self.generator.grads
        _, w2, w3 = self.generator.layers
        torch.mm(work.wide2.T, slope, out=g3)
        torch.mm(slope, w3[:-1].T, out=work.slope2).mul_(torch.sigmoid(work.pre2))
        torch.mm(work.wide1.T, work.slope2, out=g2)
        torch.mm(work.slope2, w2[:-1].T, out=work.slope1).mul_(torch.sigmoid(work.pre1))
        torch.mm(batch.input_g.T, work.slope1, out=g1)

    def step_discriminator(self, batch: _Batch) -> None:
        """One step of the discriminator."""
        self.discriminator_gradient(batch)
        self.discriminator.rmsprop(self.discriminator_learning_rate)
        if self._shrink != 1:
            self.discriminator.flat.mul_(self._shrink)

    def train_batch(self, batch: _Batch) -> None:
        """One step of the discriminator, then one of the generator with fresh noise."""
        self.step_discriminator(batch)
        self.forward_generator(batch)
        slope = self.slope_of_cross_entropy(batch)
        batch.work.slope_surface.addmm_(batch.surface, self.penalty_slope, alpha=1 / batch.size)
        self.generator_gradient(batch, slope)
        self.generator.rmsprop(self.learning_rate)
        if self._averaging:
            self.average.lerp_(self.generator.flat, 1 - self._averaging)

    def cross_entropies(self) -> tuple[float, float]:
        """Average over the epoch's rows the discriminator's loss and the generator's BCE(D(a, G), 1)."""
        softplus = torch.nn.functional.softplus
        return float(softplus(self._sign * self._logit_d).mean()), float(softplus(-self._logit_g).mean())

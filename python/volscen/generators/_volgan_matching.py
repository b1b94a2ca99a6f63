"""Gradient-norm matching: how strongly VolGAN's generator is held to smooth surfaces (Vuletic and Cont 2024)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from volscen.errors import FitError
from volscen.generators._volgan_kernel import AdversarialPair

__all__ = ["Rows", "match_gradient_norms"]


class Rows:
    """Shuffles the rows and draws the noise of one epoch after another."""

    def __init__(self, pair: AdversarialPair, rng: torch.Generator) -> None:
        self._pair, self.rng = pair, rng
        self.order = torch.arange(pair.n)
        self._noise = torch.empty(2, pair.n, pair.noise_dim, dtype=pair.surface.dtype)

    def lay_out(self) -> None:
        """Prepare the pair's next epoch."""
        torch.randperm(self._pair.n, generator=self.rng, out=self.order)
        torch.randn(self._noise.shape, generator=self.rng, out=self._noise)
        self._pair.start_epoch(self.order, self._noise)


def match_gradient_norms(
    pair: AdversarialPair, along: tuple[Tensor, Tensor], epochs: int, rows: Rows, *, of_vol: bool = False
) -> tuple[float, float]:
    """Weights that make each penalty's gradient as long as the cross-entropy's, on average.

    Trains on the cross-entropy alone for some epochs and averages |grad BCE| / |grad L| over the generator's
    updates.

    Parameters
    ----------
    pair : AdversarialPair
    along : pair of Tensor, shape (differences, cells)
        Difference operators D of the penalties L = |D g|^2; one without rows gets weight 0.
    epochs : int
    rows : Rows
    of_vol : bool
        Penalise the volatilities instead of their logarithms.

    Raises
    ------
    FitError
        If a ratio is not finite.
    """
    slopes = [2 * (d.double().T @ d.double()).to(d.dtype) for d in along]
    sums, updates = [0.0, 0.0], 0
    for _ in range(epochs):
        rows.lay_out()
        for batch in pair.batches:
            pair.step_discriminator(batch)
            pair.forward_generator(batch)
            norms = []
            for penalty_slope in slopes:
                pair.generator_gradient(batch, pair.slope_of_penalty(batch, penalty_slope, of_vol=of_vol))
                norms.append(float(torch.linalg.vector_norm(pair.generator.grad)))
            pair.generator_gradient(batch, pair.slope_of_cross_entropy(batch))
            norm = float(torch.linalg.vector_norm(pair.generator.grad))
            pair.generator.rmsprop(pair.learning_rate)
            for i, d in enumerate(along):
                if len(d):
                    sums[i] += norm / norms[i] if norms[i] > 0 else math.inf
            updates += 1
    alpha = (sums[0] / updates, sums[1] / updates)
    if not all(math.isfinite(a) for a in alpha):
        raise FitError(
            f"gradient-norm matching gave the penalty weights {alpha}: training diverged at once, or every "
            "surface is flat; check the history and lower learning_rate"
        )
    return alpha

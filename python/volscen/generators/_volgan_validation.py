"""Energy score of a VolGAN generator on days held out from training."""

from __future__ import annotations

import torch
from torch import Tensor

from volscen.generators._volgan_kernel import Network, softplus_

__all__ = ["ValidationScore", "energy_score"]

#: Days scored at once: bounds the memory of the N x N distances.
_CHUNK = 32


def energy_score(draws: Tensor, outcome: Tensor) -> Tensor:
    """Fair energy score of equally weighted draws, one number a day.

    Parameters
    ----------
    draws : Tensor, shape (days, n, d)
        At least two draws a day.
    outcome : Tensor, shape (days, d)

    Returns
    -------
    Tensor, shape (days,)
        mean |x_i - y| - 1/2 mean over pairs i != j of |x_i - x_j| (Gneiting and Raftery 2007; fair: Ferro
        2014).

    Examples
    --------
    >>> import torch
    >>> energy_score(torch.tensor([[[0.0], [2.0]]]), torch.tensor([[1.0]]))
    tensor([0.])
    """
    n = draws.shape[1]
    to_outcome = torch.linalg.vector_norm(draws - outcome[:, None], dim=-1).mean(dim=1)
    # Distances do not see the mean, and without it the products below cancel less.
    centred = draws - draws.mean(dim=1, keepdim=True)
    squared = centred.square().sum(dim=-1)
    between = torch.baddbmm(squared[:, :, None] + squared[:, None, :], centred, centred.mT, alpha=-2)
    between.diagonal(dim1=1, dim2=2).zero_()
    spread = between.clamp_(min=0).sqrt_().sum(dim=(1, 2))
    score: Tensor = to_outcome - spread / (2 * n * (n - 1))
    return score


class ValidationScore:
    """Mean energy score of a generator over the validation days, with the same noise at every call.

    Parameters
    ----------
    target, condition : Tensor, shapes (days, 1 + cells), (days, 3 + cells)
        The days held out.
    scale : Tensor, shape (1 + cells,)
        Every column of target and draws is divided by its entry.
    noise_dim, n_scenarios : int
    rng : torch.Generator
        Draws the noise, once: epochs are then compared on common random numbers.
    """

    def __init__(
        self,
        target: Tensor,
        condition: Tensor,
        scale: Tensor,
        noise_dim: int,
        n_scenarios: int,
        rng: torch.Generator,
    ) -> None:
        self._outcome = target / scale
        self._condition = condition
        self._scale = scale
        self._noise_dim = noise_dim
        self._noise = torch.randn(len(target), n_scenarios, noise_dim, generator=rng, dtype=target.dtype)

    def __call__(self, generator: Network) -> float:
        """Score the generator's present parameters; lower is better."""
        total = 0.0
        for start in range(0, len(self._outcome), _CHUNK):
            days = slice(start, start + _CHUNK)
            draws = self._draw(generator, days) / self._scale
            total += float(energy_score(draws, self._outcome[days]).sum(dtype=torch.float64))
        return total / len(self._outcome)

    def _draw(self, generator: Network, days: slice) -> Tensor:
        w1, w2, w3 = generator.layers
        known = self._condition[days] @ w1[self._noise_dim : -1] + w1[-1]
        pre = self._noise[days] @ w1[: self._noise_dim] + known[:, None]
        pre = softplus_(pre, torch.empty_like(pre)) @ w2[:-1] + w2[-1]
        return softplus_(pre, torch.empty_like(pre)) @ w3[:-1] + w3[-1]

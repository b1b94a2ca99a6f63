"""Energy score of a VolGAN generator on days held out from training."""

from __future__ import annotations

import torch
from torch import Tensor

from volscen.generators._volgan_kernel import Network, softplus_, unpack

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
    outcome : Tensor, shape (days, d)
        What happened on the days held out: return and log-vol increments, each divided by its standard deviation.
    condition : Tensor, shape (days, n_condition)
    noise_dim, n_scenarios : int
    rng : torch.Generator
        Draws the noise, once: epochs are then compared on common random numbers.
    scale : Tensor, shape (1, n_target) or (days, n_target)
        Multiplies the network's outputs.
    components : Tensor, shape (n_target, d), optional
        Takes the scaled outputs to the space of ``outcome``; omitted, they live there.
    rest : Tensor, shape (m, d), optional
        What the components leave out, drawn from these rows with replacement.
    """

    def __init__(
        self,
        outcome: Tensor,
        condition: Tensor,
        noise_dim: int,
        n_scenarios: int,
        rng: torch.Generator,
        *,
        scale: Tensor,
        components: Tensor | None = None,
        rest: Tensor | None = None,
    ) -> None:
        self._outcome = outcome
        self._condition = condition
        self._scale = scale.expand(len(outcome), -1)
        self._components = components
        self._noise_dim = noise_dim
        shape = (len(outcome), n_scenarios)
        self._noise = torch.randn(*shape, noise_dim, generator=rng, dtype=outcome.dtype)
        self._rest = rest
        if rest is not None:
            self._rest_row = torch.randint(len(rest), shape, generator=rng)

    def __call__(self, generator: Network, flat: Tensor) -> float:
        """Score a generator at the parameters ``flat``; lower is better."""
        layers = unpack(flat, generator.widths)
        total = 0.0
        for start in range(0, len(self._outcome), _CHUNK):
            days = slice(start, start + _CHUNK)
            draws = self._draw(layers, days) * self._scale[days, None]
            if self._components is not None:
                draws = draws @ self._components
            if self._rest is not None:
                draws = draws + self._rest[self._rest_row[days]]
            total += float(energy_score(draws, self._outcome[days]).sum(dtype=torch.float64))
        return total / len(self._outcome)

    def _draw(self, layers: list[Tensor], days: slice) -> Tensor:
        w1, w2, w3 = layers
        known = self._condition[days] @ w1[self._noise_dim : -1] + w1[-1]
        pre = self._noise[days] @ w1[: self._noise_dim] + known[:, None]
        pre = softplus_(pre, torch.empty_like(pre)) @ w2[:-1] + w2[-1]
        return softplus_(pre, torch.empty_like(pre)) @ w3[:-1] + w3[-1]

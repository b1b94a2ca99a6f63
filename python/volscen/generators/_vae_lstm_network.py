"""Networks of the VAE-LSTM in torch: asset-specific ends, a shared trunk, a stacked LSTM and its attention.

The objective of the autoencoder is that of Kingma and Welling (2014) with a weight (Higgins et al. 2017) and free bits
(Kingma et al. 2016); attention after Bahdanau et al. (2015), Luong et al. (2015) and Vaswani et al. (2017).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import elu

__all__ = ["AssetLinear", "Attention", "Coder", "Foresight", "log_variance_range"]

log_variance_range = (-12.0, 4.0)


class AssetLinear(nn.Module):
    """A linear layer of its own for every asset: the first of the encoder and the last of the decoder."""

    def __init__(self, assets: int, n_in: int, n_out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(n_in)
        # Assets begin alike, so that what the shared trunk learns from one holds for the others.
        self.weight = nn.Parameter(torch.empty(1, n_in, n_out).uniform_(-bound, bound).repeat(assets, 1, 1))
        self.bias = nn.Parameter(torch.zeros(assets, n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (assets, ..., n_in) to (assets, ..., n_out)."""
        flat = x.reshape(x.shape[0], -1, x.shape[-1])
        out = torch.baddbmm(self.bias[:, None], flat, self.weight)
        return out.reshape(*x.shape[:-1], out.shape[-1])


class Coder(nn.Module):
    """Variational autoencoder of standardised surfaces and features, of several assets."""

    def __init__(self, assets: int, cells: int, features: int, hidden: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        self.first = AssetLinear(assets, cells + features, hidden[0])
        self.down = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(hidden))
        self.heads = nn.Linear(hidden[-1], 2 * latent_dim)
        self.root = nn.Linear(latent_dim, hidden[-1])
        self.up = nn.ModuleList(nn.Linear(b, a) for a, b in reversed(list(itertools.pairwise(hidden))))
        self.last = AssetLinear(assets, hidden[0], cells)

    def encode(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (assets, ..., latents) of surfaces (assets, ..., cells) and features."""
        h = elu(self.first(torch.cat([x, features], dim=-1)))
        for layer in self.down:
            h = elu(layer(h))
        mean, log_variance = self.heads(h).chunk(2, dim=-1)
        return mean, log_variance.clamp(*log_variance_range)

    def decode(self, latent: Tensor) -> Tensor:
        """Standardised surfaces (assets, ..., cells) of latents (assets, ..., latents)."""
        h = elu(self.root(latent))
        for layer in self.up:
            h = elu(layer(h))
        out: Tensor = self.last(h)
        return out


class Attention(nn.Module):
    """Weights of past hidden states for the state now, and their weighted mean."""

    def __init__(self, kind: str, width: int, heads: int) -> None:
        super().__init__()
        self.kind, self.heads = kind, heads if kind == "multi_head" else 1
        if kind == "additive":
            self.of_now, self.of_past = nn.Linear(width, width), nn.Linear(width, width, bias=False)
            self.score = nn.Linear(width, 1, bias=False)
        elif kind == "multi_head":
            self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, now: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Context (n, width) and weights (n, heads, days) of the states now (n, width) and past (n, days, width)."""
        n, days, width = past.shape
        if self.kind == "additive":
            score = self.score(torch.tanh(self.of_now(now)[:, None] + self.of_past(past)))[..., 0]
            weights = torch.softmax(score, dim=-1)[:, None]
            return (weights @ past)[:, 0], weights
        if self.kind == "dot":
            weights = torch.softmax(past @ now[..., None] / math.sqrt(width), dim=1).transpose(1, 2)
            return (weights @ past)[:, 0], weights
        part = width // self.heads
        query = self.query(now).reshape(n, self.heads, 1, part)
        key = self.key(past).reshape(n, days, self.heads, part).permute(0, 2, 3, 1)
        value = self.value(past).reshape(n, days, self.heads, part).transpose(1, 2)
        weights = torch.softmax(query @ key / math.sqrt(part), dim=-1)
        return (weights @ value).reshape(n, width), weights[:, :, 0]


class Foresight(nn.Module):
    """Stacked LSTM over days of latents, attention over its states, and a head that begins at zero."""

    def __init__(
        self, inputs: int, widths: Sequence[int], outputs: int, attention: str, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in itertools.pairwise([inputs, *widths]))
        self.attend = Attention(attention, widths[-1], heads)
        self.head = nn.Linear(2 * widths[-1], outputs)
        self.dropout = dropout
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, days: Tensor, memory: list[tuple[Tensor, Tensor]] | None, rng: torch.Generator | None
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """States (n, days, width) of the last layer and the memories to go on from; with ``rng``, dropout."""
        x, memories = days, []
        for i, layer in enumerate(self.layers):
            x, kept = layer(x, None if memory is None else memory[i])
            memories.append(kept)
            if rng is not None and self.dropout > 0:
                keep = torch.rand(x.shape, generator=rng).to(x.device) >= self.dropout
                x = x * keep / (1 - self.dropout)
        return x, memories

    def foresee(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Head's outputs (n, outputs) and attention weights (n, heads, days) at the last of the states."""
        context, weights = self.attend(states[:, -1], states)
        out: Tensor = self.head(torch.cat([states[:, -1], context], dim=-1))
        return out, weights

"""Training of the residual network by the energy score (torch)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from volscen.arbitrage import torch_penalty
from volscen.generators._neural_training import unflatten
from volscen.generators._residual_net_data import Table

__all__ = ["Decoder", "ResidualTask", "energy_score", "reshape"]

_CHUNK = 64
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def reshape(layers: list[tuple[Tensor, Tensor]], x: Tensor, e: Tensor) -> Tensor:
    """Residuals that every member makes of bootstrapped ones.

    Parameters
    ----------
    layers : list of (weight, bias)
        Shapes (members, in, out), (members, 1, out).
    x : Tensor, shape (members, B, p)
        Standardised inputs of B days.
    e : Tensor, shape (members, B, m, f)
        Residuals drawn on each.

    Returns
    -------
    Tensor, shape (members, B, m, f)
        e exp(tanh(b) / 2) + tanh(a), with a and b of x and e.
    """
    members, n, m, f = e.shape
    p = x.shape[-1]
    (w, b), *others = layers
    hidden = e.clamp(-4, 4).reshape(members, n * m, f) @ w[:, p:]
    hidden = hidden.view(members, n, m, -1) + torch.baddbmm(b, x, w[:, :p])[:, :, None]
    hidden = hidden.view(members, n * m, -1)
    for w, b in others:
        hidden = torch.baddbmm(b, hidden.tanh(), w)
    heads = hidden.view(members, n, m, 2 * f).tanh()
    return e * torch.exp(0.5 * heads[..., :f]) + heads[..., f:]


def energy_score(move: Tensor, rest: Tensor, outcome_rest: Tensor) -> Tensor:
    """Fair energy score of m draws, given what they miss the outcome by.

    What the factors leave out of two days is taken for orthogonal, so that only its squared length enters.

    Parameters
    ----------
    move : Tensor, shape (..., m, f)
        Draw less outcome, in units of the score.
    rest : Tensor, shape (..., m)
        Squared length of what the factors leave out of each draw.
    outcome_rest : Tensor, shape (...)
        Of the outcome.
    """
    m = move.shape[-2]
    square = move.square().sum(-1)
    to_outcome = (square + rest + outcome_rest[..., None]).sqrt().mean(-1)
    own = square + rest
    between = own[..., :, None] + own[..., None, :] - 2 * (move @ move.mT)
    i, j = torch.triu_indices(m, m, offset=1)
    spread = between[..., i, j].clamp_min(1e-10).sqrt().sum(-1)
    score: Tensor = to_outcome - spread / (m * (m - 1))
    return score


@dataclass(frozen=True)
class Decoder:
    """How surfaces are made of factors, and what their static arbitrage costs.

    Attributes
    ----------
    weight : float
        Of the mean penalty, beside the energy score of a day over the size of its moves.
    loads : ndarray, shape (f, cells)
        What a unit of each standardised factor adds to the log vols.
    unit : ndarray, shape (cells,)
        What a unit of what the factors leave out adds.
    tau, moneyness : ndarray
        Of the grid.
    """

    weight: float
    loads: npt.NDArray[np.float64]
    unit: npt.NDArray[np.float64]
    tau: npt.NDArray[np.float64]
    moneyness: npt.NDArray[np.float64]

    def penalty(self, data: dict[str, Tensor], rows: Tensor, draw: Tensor, z: Tensor) -> Tensor:
        """Mean penalty of the surfaces that residuals z (..., m, f) make on each day: (...)."""
        moved = (data["scale"][rows][..., None, :] * z) @ torch.from_numpy(self.loads).float()
        outside = data["rest_scale"][rows].sqrt()[..., None, None] * data["outside"][draw]
        log_iv = data["surface"][rows][..., None, :] + moved + outside * torch.from_numpy(self.unit).float()
        grid = (*log_iv.shape[:-1], len(self.tau), len(self.moneyness))
        return torch_penalty(log_iv.exp().reshape(grid), self.tau, self.moneyness, num_threads=1).mean(-1)


class ResidualTask:
    """The network's energy score on batches of training days, and on the days held out.

    Parameters
    ----------
    train, held : Table
    hidden : sequence of int
        Widths of the tanh layers.
    members : int
        Networks trained side by side, whose residuals are averaged.
    batch_size, draws : int
        Days a batch, and residuals drawn on each.
    validation_scenarios : int
        Draws on every day held out, the same at every call.
    seed : int
    decoder : Decoder, optional
        Adds a penalty on static arbitrage. The tables must hold what surfaces are decoded from.
    """

    label = "residual network"
    scores_start = True

    def __init__(
        self,
        train: Table,
        held: Table,
        *,
        hidden: Sequence[int],
        members: int,
        batch_size: int,
        draws: int,
        validation_scenarios: int,
        seed: int,
        decoder: Decoder | None = None,
    ) -> None:
        self._decoder = decoder
        self._train, self._held = _tensors(train), _tensors(held)
        f = train.target.shape[1]
        self.widths = (train.x.shape[1] + f, *hidden, 2 * f)
        self.batches = max(1, len(train.x) // batch_size)
        self._members, self._batch, self._draws, self._seed = members, batch_size, draws, seed
        rng = torch.Generator().manual_seed(seed + 1)
        u = torch.rand(len(held.x), validation_scenarios, generator=rng)
        self._draw = self._held["first"][:, None] + (u * self._held["length"][:, None]).long()
        self._on = torch.rand(u.shape, generator=rng)

    def start(self) -> Tensor:
        """Random layers but for the last, which is zero: the identity."""
        rng = torch.Generator().manual_seed(self._seed)
        parts = []
        for i, (n_in, n_out) in enumerate(itertools.pairwise(self.widths)):
            size = 0.0 if i == len(self.widths) - 2 else n_in**-0.5
            parts.append(size * torch.randn(self._members, n_in * n_out, generator=rng))
            parts.append(torch.zeros(self._members, n_out))
        return torch.cat(parts, dim=1)

    def loss(self, flat: Tensor, rng: torch.Generator) -> Tensor:
        """Energy score of each member on days and residuals of its own, each day's over what a unit moves on it."""
        data = self._train
        rows = torch.randint(len(data["x"]), (self._members, self._batch), generator=rng)
        u = torch.rand(self._members, self._batch, self._draws, generator=rng)
        draw = data["first"][rows][..., None] + (u * data["length"][rows][..., None]).long()
        z = reshape(unflatten(flat, self.widths), data["x"][rows], data["pool"][draw])
        # Divided by its size, lest a few crises outweigh all other days.
        size = data["weight"][rows].square().sum(-1).sqrt()
        return (self._score(data, rows, draw, z) / size).mean(dim=1)

    def _score(self, data: dict[str, Tensor], rows: Tensor, draw: Tensor, z: Tensor) -> Tensor:
        move = data["weight"][rows][..., None, :] * (z - data["target"][rows][..., None, :])
        rest = data["pool_rest"][draw] * data["rest_scale"][rows][..., None]
        score = energy_score(move, rest, data["rest"][rows])
        if self._decoder is None:
            return score
        size = data["weight"][rows].square().sum(-1).sqrt()
        return score + self._decoder.weight * size * self._decoder.penalty(data, rows, draw, z)

    def score(self, flat: Tensor) -> float:
        """Mean energy score on the days held out, all draws the network's."""
        return float(self.daily(flat, (1.0,)).mean())

    @torch.no_grad()
    def daily(self, flat: Tensor, shares: Sequence[float] = _SHARES) -> npt.NDArray[np.float64]:
        """Energy score of every day held out with each share of the draws the network's: (shares, days)."""
        scores = [self._score(self._held, *drawn) for drawn in self._draws_held(flat, shares)]
        chunks = [torch.stack(scores[i : i + len(shares)]) for i in range(0, len(scores), len(shares))]
        return torch.cat(chunks, dim=1).double().numpy()

    def _draws_held(self, flat: Tensor, shares: Sequence[float]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Chunks of the days held out, at each share in turn: rows, draws, residuals."""
        data, layers = self._held, unflatten(flat, self.widths)
        for start in range(0, len(data["x"]), _CHUNK):
            rows = torch.arange(start, min(start + _CHUNK, len(data["x"])))
            draw = self._draw[rows]
            e = data["pool"][draw]
            wide = (self._members, -1, -1)
            z = reshape(layers, data["x"][rows].expand(*wide), e.expand(*wide, -1)).mean(dim=0)
            for share in shares:
                yield rows, draw, torch.where((self._on[rows] < share)[..., None], z, e)


def _tensors(table: Table) -> dict[str, Tensor]:
    held = {name: getattr(table, name) for name in table.__dataclass_fields__}
    whole = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in held.items() if x is not None}
    return {name: value if name in ("first", "length") else value.float() for name, value in whole.items()}

"""Training of the denoising diffusion generator (torch)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from volscen.generators._ddpm_process import EMBEDDING, denoise, layers_of, schedule, time_embedding
from volscen.generators._neural_training import unflatten
from volscen.generators._volgan_data import TrainingData
from volscen.generators._volgan_validation import energy_score

__all__ = ["DiffusionTask", "velocity"]

#: Days held out that are scored: a reversal takes many evaluations of the network.
_SCORED_DAYS = 200


def velocity(layers: list[tuple[Tensor, Tensor]], known: Tensor) -> Tensor:
    """Velocities (members, n, f) that SiLU layers make of [noisy values, time embedding, condition]."""
    (w, b), *others = layers
    hidden = torch.baddbmm(b, known, w)
    for w, b in others:
        hidden = torch.baddbmm(b, torch.nn.functional.silu(hidden), w)
    return hidden


class DiffusionTask:
    """The squared error of predicted velocities, and the energy score on the days held out.

    Parameters
    ----------
    data : TrainingData
        Of the factors.
    hidden : sequence of int
    batch_size : int
    diffusion : str
        Noise schedule.
    steps, sampling_steps : int
    eta : float
    validation_scenarios : int
    seed : int

    Attributes
    ----------
    centre, width : ndarray, shape (f,)
        Mean and standard deviation of the targets.
    bounds : ndarray, shape (2, f)
        Least and largest standardised target.
    widths : tuple of int
    """

    label = "DDPM"
    scores_start = False

    def __init__(
        self,
        data: TrainingData,
        *,
        hidden: Sequence[int],
        batch_size: int,
        diffusion: str,
        steps: int,
        sampling_steps: int,
        eta: float,
        validation_scenarios: int,
        seed: int,
    ) -> None:
        self.centre, self.width = data.target.mean(axis=0), data.target.std(axis=0)
        target = (data.target - self.centre) / self.width
        self.bounds = np.stack([target.min(axis=0), target.max(axis=0)])
        self._target, self._known = torch.from_numpy(target).float(), torch.from_numpy(data.condition).float()
        f = target.shape[1]
        self.widths = (f + EMBEDDING + data.condition.shape[1], *hidden, f)
        self.batches = max(1, len(target) // batch_size)
        self._batch, self._seed, self._steps = batch_size, seed, steps
        self.signal = schedule(diffusion, steps)
        self._level = torch.from_numpy(self.signal).float()
        self._time = torch.from_numpy(time_embedding(np.arange(steps + 1) / steps)).float()
        self._sampling, self._eta, self._draws = sampling_steps, eta, validation_scenarios
        self._data = data
        n = len(data.outcome)
        self._scored = np.unique(np.linspace(0, n - 1, min(n, _SCORED_DAYS)).round().astype(int))

    def start(self) -> Tensor:
        """Random layers, the last one zero."""
        rng = torch.Generator().manual_seed(self._seed)
        parts = []
        for i, (n_in, n_out) in enumerate(itertools.pairwise(self.widths)):
            size = 0.0 if i == len(self.widths) - 2 else n_in**-0.5
            parts += [size * torch.randn(1, n_in * n_out, generator=rng), torch.zeros(1, n_out)]
        return torch.cat(parts, dim=1)

    def loss(self, flat: Tensor, rng: torch.Generator) -> Tensor:
        """Squared error of the velocity on random days at random steps."""
        rows = torch.randint(len(self._target), (self._batch,), generator=rng)
        t = torch.randint(1, self._steps + 1, (self._batch,), generator=rng)
        x, a = self._target[rows], self._level[t][:, None]
        noise = torch.randn(x.shape, generator=rng)
        hidden = torch.cat([a.sqrt() * x + (1 - a).sqrt() * noise, self._time[t], self._known[rows]], dim=1)[None]
        wanted = a.sqrt() * noise - (1 - a).sqrt() * x
        return (velocity(unflatten(flat, self.widths), hidden) - wanted).square().mean(dim=(1, 2))

    def score(self, flat: Tensor) -> float:
        """Mean energy score on days held out, on the same noise at every call."""
        data, days, m = self._data, self._scored, self._draws
        assert data.components is not None
        assert data.rest is not None
        rng = np.random.default_rng([self._seed, 1])
        known = np.repeat(data.validation_condition[days], m, axis=0)
        layers = layers_of(flat.numpy()[0], self.widths)
        drawn = denoise(layers, known, len(known), self.signal, self._sampling, self._eta, self.bounds, rng)
        factor = (self.centre + self.width * drawn).reshape(len(days), m, -1) * data.validation_scale[days, None]
        move = factor @ data.components + data.rest[rng.integers(len(data.rest), size=(len(days), m))]
        return float(energy_score(torch.from_numpy(move), torch.from_numpy(data.outcome[days])).mean())

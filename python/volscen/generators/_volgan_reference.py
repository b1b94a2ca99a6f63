"""VolGAN as its authors' public code trains it, defects included: for comparing with their results only.

Facts about the code of M. Vuletic's repository VolGAN, none of whose lines are used here. Where it departs from
Vuletic and Cont (2024):

- the realised volatility of the condition ends a day early, and the last day of the data is not trained on;
- the penalty "in m" takes differences along tau divided by the first step of m; the penalty "in tau" takes
  differences along m, wrapping from the last moneyness of one tau to the first of the next, divided by the steps
  of tau in turn;
- gradient-norm matching penalises volatilities, training their logarithms, and training goes on from the networks
  that matching leaves, with a fresh optimiser;
- every epoch shuffles the order of the epoch before; the noise is drawn batch by batch; all random numbers come
  from one stream, which builds the networks first;
- it fails when the number of training days is a multiple of the batch size.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from volscen.errors import InputError
from volscen.generators._volgan_data import (
    FloatArray,
    TrainingData,
    moving_scale,
    n_training,
    targets_and_conditions,
)
from volscen.generators._volgan_kernel import Network, pack
from volscen.generators._volgan_matching import Rows, match_gradient_norms
from volscen.generators._volgan_training import Training

__all__ = ["ReferenceTraining", "reference_data", "reference_penalties"]


def reference_data(history: xr.Dataset, validation_days: int | float, n_min: int, batch_size: int) -> TrainingData:
    """Rows of the public code; see :func:`~volscen.generators._volgan_data.training_data`.

    The first row with a stale realised volatility is day 23, of which the last return of 2 to 22 days ago is known.

    Raises
    ------
    InputError
        If too few rows remain, a target never moves, or the number of training days is a multiple of
        ``batch_size``, on which the public code fails.
    """
    target, known = targets_and_conditions(history)
    known[1:, 2] = known[:-1, 2].copy()
    target, known = target[1:-1], known[1:-1]
    n = n_training(len(target), validation_days, n_min)
    if n % batch_size == 0:
        raise InputError(
            f"mode='reference': the public code fails on {n} training days, a multiple of batch_size {batch_size}; "
            "change batch_size or validation_days"
        )
    scale = moving_scale(target[:n])
    along = reference_penalties(
        history["tau"].values.astype(np.float64), history["moneyness"].values.astype(np.float64)
    )
    return TrainingData(target[:n], known[:n], known[n:], target[n:] / scale, 1 / scale[None], *along)


def reference_penalties(tau: FloatArray, moneyness: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Difference operators of the public code's two penalties, on surfaces whose moneyness runs fastest.

    Parameters
    ----------
    tau : ndarray, shape (J,)
    moneyness : ndarray, shape (I,)

    Returns
    -------
    "m" : ndarray, shape (J I - I, J I)
    "tau" : ndarray, shape (J I - 1, J I)
    """
    n_tau, n_m = tau.size, moneyness.size
    cells = n_tau * n_m
    if min(n_tau, n_m) < 2:
        raise InputError("mode='reference' needs a grid of at least two tau and two moneyness")
    in_m = (np.eye(cells, k=n_m) - np.eye(cells))[: cells - n_m] / (moneyness[1] - moneyness[0])
    steps = np.tile(np.r_[1 / np.diff(tau), 0], n_m)[: cells - 1]
    in_tau = (np.eye(cells, k=1) - np.eye(cells))[: cells - 1] * steps[:, None]
    return in_m, in_tau


class _CompoundingRows(Rows):
    """Shuffles the order of the epoch before, and draws the noise batch by batch."""

    def lay_out(self) -> None:
        pair = self._pair
        self.order = self.order[torch.randperm(pair.n, generator=self.rng)]
        start = 0
        for batch in pair.batches:
            for step in (0, 1):
                noise = torch.randn(batch.size, pair.noise_dim, generator=self.rng, dtype=self._noise.dtype)
                self._noise[step, start : start + batch.size] = noise
            start += batch.size
        pair.start_epoch(self.order, self._noise)


class ReferenceTraining(Training):
    """Training as the public code does it."""

    def _randomness(self, seed: int) -> tuple[torch.Generator, torch.Generator, torch.Generator, torch.Generator]:
        one = torch.Generator().manual_seed(seed)
        return one, one, one, torch.Generator().manual_seed(seed)  # its code does not validate

    def _initialise(self, rng: torch.Generator) -> None:
        for network in (self._pair.generator, self._pair.discriminator):
            initialise(network, rng)

    def _new_rows(self, rng: torch.Generator) -> Rows:
        return _CompoundingRows(self._pair, rng)

    def _match(self) -> tuple[float, float]:
        """Go on from the networks that matching leaves, with a fresh optimiser."""
        alpha = match_gradient_norms(self._pair, self._along, self._options.matching_epochs, self._rows, of_vol=True)
        for network in (self._pair.generator, self._pair.discriminator):
            network.square.zero_()
        return alpha


def initialise(network: Network, rng: torch.Generator) -> None:
    """Draw the parameters in the order in which torch's linear layers do."""
    layers = []
    for layer in network.layers:
        n_in, n_out = layer.shape[0] - 1, layer.shape[1]
        bound = n_in**-0.5
        layers.append(
            tuple(torch.empty(shape).uniform_(-bound, bound, generator=rng) for shape in ((n_out, n_in), (n_out,)))
        )
    network.flat.copy_(pack([(weight, bias) for weight, bias in layers]))

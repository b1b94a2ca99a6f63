"""The VAE-LSTM's networks, of one asset, by torch on a device: the modules of its training, with the saved arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from volscen.generators._device import Twin, fill, here, there
from volscen.generators._vae_lstm_network import Coder, Foresight

__all__ = ["NetsTwin"]

FloatArray = npt.NDArray[np.float64]

#: Parameters that training holds for each asset.
_OWN = tuple(f"coder.{end}.{kind}" for end in ("first", "last") for kind in ("weight", "bias"))


class NetsTwin(Twin):
    """Encoder, decoder and what foresees, in float32, in the place of :class:`Nets`: what sampling asks of them.

    ``shape`` holds ``hidden``, ``lstm_hidden``, ``attention`` and ``heads`` of the options.
    """

    def _build(self) -> nn.Module:
        first, heads = self.arrays["coder.first.weight"], self.arrays["coder.heads.bias"]
        cells = len(self.arrays["coder.last.bias"])
        inputs, outputs = self.arrays["foresight.layers.0.weight_ih_l0"].shape[1], self.arrays["foresight.head.bias"]
        shape = self.shape
        with torch.device("meta"):
            module = nn.ModuleDict(
                {
                    "coder": Coder(1, cells, len(first) - cells, shape["hidden"], len(heads) // 2),
                    "foresight": Foresight(
                        inputs, shape["lstm_hidden"], len(outputs), shape["attention"], shape["heads"], 0.0
                    ),
                }
            )
        arrays = {name: array[None] if name in _OWN else array for name, array in self.arrays.items()}
        return fill(module, arrays, torch.float32)

    def encode(self, x: npt.NDArray[Any], features: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray]:
        """Posterior means and standard deviations, as of :meth:`Nets.encode`."""
        with self._ready() as (network, device):
            seen = (there(part, device, np.float32).flatten(0, -2)[None] for part in (x, features))
            mean, log_variance = (here(part[0]).reshape(*x.shape[:-1], -1) for part in network["coder"].encode(*seen))
        return mean, np.exp(0.5 * log_variance)

    def decode(self, latent: FloatArray) -> FloatArray:
        """Standardised surfaces (..., cells) of latents (..., latents)."""
        with self._ready() as (network, device):
            flat = there(latent, device, np.float32).flatten(0, -2)
            return here(network["coder"].decode(flat[None])[0]).reshape(*latent.shape[:-1], -1)

    def states(self, days: npt.NDArray[Any]) -> tuple[Tensor, Any]:
        """States of the last layer, which stay on the device for :meth:`foresee`, and the memories."""
        with self._ready() as (network, device):
            states, memory = network["foresight"](there(days, device, np.float32), None, None)
            return states, memory

    def foresee(self, states: Tensor) -> tuple[FloatArray, FloatArray]:
        """Head's outputs and attention weights at the last of the states."""
        with self._ready() as (network, _):
            out, weights = network["foresight"].foresee(states)
            return here(out), here(weights)

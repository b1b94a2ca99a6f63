"""The world model's networks by torch on a device: the very modules that training uses, with the saved arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from volscen.generators._device import Twin, fill, here, there
from volscen.generators._world_numpy import Reader, VisionNet
from volscen.generators._world_torch import Dynamics, RasterVAE

__all__ = ["RecurrenceTwin", "VisionTwin"]

FloatArray = npt.NDArray[np.float64]

#: Pictures drawn at once, which bounds the memory of the feature maps.
_CHUNK = 1024


class VisionTwin(Twin):
    """Encoder and decoder in float32, in the place of :class:`VisionNet`.

    Parameters
    ----------
    device : str
    vision : VisionNet
    arrays : dict of str to ndarray
        State of the torch module, as saved.
    read_off : ndarray, shape (pixels, points)
        Reads the points of the reader off pictures.
    """

    _convolutions = True

    def __init__(
        self, device: str, vision: VisionNet, arrays: dict[str, npt.NDArray[Any]], read_off: npt.NDArray[np.float32]
    ) -> None:
        # The inverse comes along: taken anew by another library it would differ by more than rounding.
        own = arrays | {"inverse": vision.inverse, "read_off": read_off}
        super().__init__(device, own, size=vision.size)

    def _build(self) -> nn.Module:
        arrays = dict(self.arrays)
        buffers = {name: arrays.pop(name) for name in ("inverse", "read_off")}
        channels = tuple(len(arrays[f"encoder.{i}.bias"]) for i in (0, 3, 6))
        latents = len(arrays["loadings"])
        linear = arrays["loadings"].size > 0
        for i in (1, 4, 7):
            arrays[f"encoder.{i}.num_batches_tracked"] = np.zeros((), np.int64)
        for i in (3, 6):
            arrays[f"decoder.{i}.num_batches_tracked"] = np.zeros((), np.int64)
        with torch.device("meta"):
            loadings = torch.zeros(arrays["loadings"].shape) if linear else None
            module = RasterVAE(self.shape["size"], channels, latents, loadings)  # type: ignore[arg-type]
        network = fill(module, arrays, torch.float32)
        for name, array in buffers.items():
            network.register_buffer(name, torch.from_numpy(np.array(array, dtype=np.float32)))
        return network

    def encode(self, raster: npt.NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
        """Latent means and log variances, as of :meth:`VisionNet.encode`."""
        parts = []
        with self._ready() as (network, device):
            for start in range(0, len(raster), _CHUNK):
                pictures = there(raster[start : start + _CHUNK], device, np.float32)
                found = network.encoder(pictures[:, None])
                if network.linear:
                    found[:, : network.latent_dim] += pictures.flatten(1) @ network.inverse
                parts.append(here(found))
        mean, log_variance = np.split(np.concatenate(parts), 2, axis=1)
        return mean, np.clip(log_variance, -12.0, 4.0)

    def decode(self, latent: FloatArray, reader: Reader | None = None) -> FloatArray:
        """Rasters (n, pixels), or with a reader its points, as of :meth:`VisionNet.decode`."""
        parts = []
        with self._ready() as (network, device):
            for start in range(0, len(latent), _CHUNK):
                pictures = network.decode(there(latent[start : start + _CHUNK], device, np.float32)).flatten(1)
                parts.append(here(pictures if reader is None else pictures @ network.read_off))
        return np.concatenate(parts)


class RecurrenceTwin(Twin):
    """The LSTM and its head in float64, in the place of :class:`Recurrence`."""

    def _build(self) -> nn.Module:
        n, hidden = self.arrays["head.weight"].shape
        with torch.device("meta"):
            module = Dynamics(n, hidden)
        return fill(module, self.arrays, torch.float64)

    def __call__(self, window: FloatArray) -> FloatArray:
        """Map (n, window, factors) to (n, factors)."""
        with self._ready() as (network, device):
            return here(network(there(window, device, np.float64)))

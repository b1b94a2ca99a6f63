"""Small networks by torch on a device: VolGAN's, the diffusion's and its reversal, the residual network's."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import softplus

from volscen.generators._ddpm_process import Reversal, go_back, time_embedding
from volscen.generators._ddpm_training import velocity
from volscen.generators._device import Twin, here, there
from volscen.generators._neural_training import unflatten
from volscen.generators._residual_net_training import reshape

__all__ = ["ResidualTwin", "ReversalTwin", "SoftplusTwin"]

FloatArray = npt.NDArray[np.float64]

#: Beyond it log(1 + exp(x)) is x in float64; torch's own threshold is for float32.
_LINEAR = 40.0


class SoftplusTwin(Twin):
    """Softplus layers and a last affine one in float64, in the place of VolGAN's ``forward``.

    Parameters
    ----------
    device : str
    layers : list of (weight, bias)
        Shapes (in, out) and (out,).
    """

    def __init__(self, device: str, layers: list[tuple[FloatArray, FloatArray]]) -> None:
        arrays = {f"w{i}": weight for i, (weight, _) in enumerate(layers)}
        arrays |= {f"b{i}": bias for i, (_, bias) in enumerate(layers)}
        super().__init__(device, arrays, layers=len(layers))

    def _build(self) -> dict[str, Tensor]:
        return {name: torch.from_numpy(np.array(array, np.float64)) for name, array in self.arrays.items()}

    def __call__(self, x: FloatArray) -> FloatArray:
        """Map (n, in) to (n, out)."""
        with self._ready() as (tensors, device):
            found = there(x, device, np.float64)
            last = self.shape["layers"] - 1
            for i in range(last + 1):
                found = torch.addmm(tensors[f"b{i}"], found, tensors[f"w{i}"])
                if i < last:
                    found = softplus(found, threshold=_LINEAR)
            return here(found)


class ReversalTwin(Twin):
    """A diffusion's network in float32 and all its steps back in float64, in the place of :class:`Reversal`."""

    def __init__(self, device: str, reversal: Reversal, flat: npt.NDArray[np.float32], widths: tuple[int, ...]) -> None:
        arrays: dict[str, npt.NDArray[Any]] = {"flat": flat, "signal": reversal.signal, "bounds": reversal.bounds}
        super().__init__(device, arrays, widths=widths, steps=reversal.sampling_steps, eta=reversal.eta)

    def _build(self) -> dict[str, Tensor]:
        signal = self.arrays["signal"]
        time = time_embedding(np.arange(len(signal)) / (len(signal) - 1))
        return {
            "flat": torch.from_numpy(np.array(self.arrays["flat"], np.float32)).reshape(1, -1),
            "bounds": torch.from_numpy(np.array(self.arrays["bounds"], np.float64)),
            "time": torch.from_numpy(time.astype(np.float32)),
        }

    def __call__(self, known: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n values given conditions (1 or n, c)."""
        signal, eta, steps = self.arrays["signal"], self.shape["eta"], self.shape["steps"]
        # In the order in which NumPy's reversal draws them, and before the device is taken.
        noise = rng.standard_normal((steps if eta > 0 else 1, n, self.shape["widths"][-1]))
        with self._ready() as (tensors, device):
            draws = iter(there(noise, device, np.float64))
            given = there(known, device, np.float32).expand(n, -1)
            layers = unflatten(tensors["flat"], self.shape["widths"])

            def network(x: Tensor, t: int) -> Tensor:
                time = tensors["time"][t].expand(n, -1)
                return velocity(layers, torch.cat([x.float(), time, given], dim=1)[None])[0].double()

            return here(go_back(network, lambda: next(draws), signal, steps, eta, tensors["bounds"]))


class ResidualTwin(Twin):
    """The residual network's members in float64, in the place of its ``reshaped``."""

    def __init__(self, device: str, flat: npt.NDArray[np.float32], widths: tuple[int, ...]) -> None:
        super().__init__(device, {"flat": flat}, widths=widths)

    def _build(self) -> dict[str, Tensor]:
        return {"flat": torch.from_numpy(np.array(self.arrays["flat"], np.float64))}

    def __call__(self, x: FloatArray, e: FloatArray) -> FloatArray:
        """Mean over the members of what they make of residuals e (n, f) given inputs x (1 or n, p)."""
        with self._ready() as (tensors, device):
            layers = unflatten(tensors["flat"], self.shape["widths"])
            inputs, residuals = there(x, device, np.float64), there(e, device, np.float64)
            members = len(tensors["flat"])
            # One row of inputs is that of all paths: a day with many draws; else every path is a day with one.
            by_day = residuals[None] if len(x) == 1 else residuals[:, None]
            found = reshape(layers, inputs.expand(members, -1, -1), by_day.expand(members, -1, -1, -1))
            return here(found.mean(dim=0).reshape(e.shape))

"""Networks of the world model evaluated in NumPy: encoding, decoding and the dynamics need no torch.

Rasters and feature maps are (n, height, width, channels) in float32; batch norm is folded into the convolution
before it. Work goes in chunks of fixed size, which keeps it in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Reader", "Recurrence", "VisionNet"]

Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]

_SLOPE = np.float32(0.2)
_CHUNK = 8
_BATCH_NORM_EPSILON = 1e-5
#: Output row 2 i + p of a transposed convolution: the kernel rows and shifts of the input row i that it sums over.
_PHASES = {0: ((1, 0), (3, -1)), 1: ((2, 0), (0, 1))}


@dataclass(frozen=True)
class Reader:
    """Reads points off pictures: of the last layer's taps, of its bias, of the linear part."""

    matrix: Array
    offset: Array
    loadings: Array


@dataclass(frozen=True)
class VisionNet:
    """Encoder and decoder with folded batch norms.

    Attributes
    ----------
    down : list of (weight (16 n_in, n_out), bias)
    heads : weight (features, 2 latents), bias
    root : weight (latents, features), bias
    up : list of (weights of the four phases (4, 4 n_in, n_out), bias)
        Of the two transposed convolutions before the last.
    last : weight (n_in, 16), bias
        The last transposed convolution, kernel rows first.
    loadings, inverse : ndarray, shape (latents, pixels) and (pixels, latents), or empty
    """

    size: int
    down: list[tuple[Array, Array]]
    heads: tuple[Array, Array]
    root: tuple[Array, Array]
    up: list[tuple[Array, Array]]
    last: tuple[Array, Array]
    loadings: Array
    inverse: Array

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[Any]], size: int, latent_dim: int) -> VisionNet:
        """Read the arrays of the torch module's state; a missing one raises KeyError, a wrong shape ValueError."""
        down, up = [], []
        n_in, small = 1, size // 8
        for i in (0, 3, 6):
            w, b = arrays[f"encoder.{i}.weight"], arrays[f"encoder.{i}.bias"]
            n_out = len(b)
            _check(w, (n_out, n_in, 4, 4), f"encoder.{i}.weight")
            gain, offset = _batch_norm(arrays, f"encoder.{i + 1}", n_out)
            kernel = w.transpose(2, 3, 1, 0).reshape(16 * n_in, n_out) * gain
            down.append((kernel.astype(np.float32), (b * gain + offset).astype(np.float32)))
            n_in = n_out
        deep = n_in
        heads = arrays["encoder.10.weight"], arrays["encoder.10.bias"]
        _check(heads[0], (2 * latent_dim, deep * small * small), "encoder.10.weight")
        # torch flattens channels first; here channels come last.
        head = heads[0].reshape(-1, deep, small, small).transpose(2, 3, 1, 0).reshape(-1, 2 * latent_dim)
        root = arrays["decoder.0.weight"], arrays["decoder.0.bias"]
        _check(root[0], (deep * small * small, latent_dim), "decoder.0.weight")
        first = root[0].reshape(deep, small, small, latent_dim).transpose(3, 1, 2, 0).reshape(latent_dim, -1)
        first_bias = root[1].reshape(deep, small, small).transpose(1, 2, 0).reshape(-1)
        for i in (2, 5):
            w, b = arrays[f"decoder.{i}.weight"], arrays[f"decoder.{i}.bias"]
            n_out = len(b)
            _check(w, (n_in, n_out, 4, 4), f"decoder.{i}.weight")
            gain, offset = _batch_norm(arrays, f"decoder.{i + 1}", n_out)
            phases = [
                np.concatenate([w[:, :, a, c] for a, _ in _PHASES[p] for c, _ in _PHASES[q]]) * gain
                for p in (0, 1)
                for q in (0, 1)
            ]
            up.append((np.stack(phases).astype(np.float32), (b * gain + offset).astype(np.float32)))
            n_in = n_out
        w, b = arrays["decoder.8.weight"], arrays["decoder.8.bias"]
        _check(w, (n_in, 1, 4, 4), "decoder.8.weight")
        last = w.reshape(n_in, 16).astype(np.float32), b.astype(np.float32)
        loadings = arrays["loadings"].astype(np.float32)
        if loadings.shape not in ((latent_dim, 0), (latent_dim, size * size)):
            raise ValueError(f"loadings of shape {loadings.shape} do not fit")
        inverse = np.linalg.pinv(loadings).astype(np.float32) if loadings.size else loadings.T
        as32 = (np.ascontiguousarray(a, dtype=np.float32) for a in (head, heads[1], first, first_bias))
        a, b, c, d = as32
        return cls(size, down, (a, b), (c, d), up, last, loadings, inverse)

    def encode(self, raster: Array) -> tuple[FloatArray, FloatArray]:
        """Latent means and log variances, (n, latents), of standardised rasters (n, size, size)."""
        parts = []
        for start in range(0, len(raster), _CHUNK):
            flat = raster[start : start + _CHUNK].astype(np.float32)
            x = flat[..., None]
            for weight, bias in self.down:
                x = _convolve(x, weight, bias)
            found = x.reshape(len(x), -1) @ self.heads[0] + self.heads[1]
            if self.loadings.size:
                found[:, : len(self.loadings)] += flat.reshape(len(x), -1) @ self.inverse
            parts.append(found)
        mean, log_variance = np.split(np.concatenate(parts).astype(np.float64), 2, axis=1)
        return mean, np.clip(log_variance, -12.0, 4.0)

    def reader(self, read_off: Array) -> Reader:
        """Turn a matrix (pixels, points) that reads points off pictures into one that does so before they are drawn.

        The last transposed convolution is linear: reading off what it would draw takes a tenth of drawing it.
        """
        half, points = self.size // 2, read_off.shape[1]
        canvas = np.zeros((2 * half + 2, 2 * half + 2, points), dtype=np.float32)
        canvas[1:-1, 1:-1] = read_off.reshape(2 * half, 2 * half, points)
        taps = [canvas[a : a + 2 * half : 2, b : b + 2 * half : 2] for a in range(4) for b in range(4)]
        matrix = np.stack(taps, axis=2).reshape(half * half * 16, points)
        linear = self.loadings @ read_off if self.loadings.size else self.loadings
        return Reader(np.ascontiguousarray(matrix), self.last[1] * read_off.sum(axis=0), linear)

    def decode(self, latent: FloatArray, reader: Reader | None = None) -> FloatArray:
        """Standardised rasters (n, pixels) of latents (n, latents), or the points that a reader reads off them."""
        parts: list[Array] = []
        small, half = self.size // 8, self.size // 2
        for start in range(0, len(latent), _CHUNK):
            z = latent[start : start + _CHUNK].astype(np.float32)
            x = (z @ self.root[0] + self.root[1]).reshape(len(z), small, small, -1)
            for weight, bias in self.up:
                x = _convolve_transposed(x, weight, bias)
            taps = x.reshape(-1, x.shape[-1]) @ self.last[0]
            if reader is not None:
                found = np.asarray(taps.reshape(len(z), -1) @ reader.matrix + reader.offset)
                linear = reader.loadings
            else:
                taps = taps.reshape(len(z), half, half, 4, 4)
                canvas = np.zeros((len(z), self.size + 2, self.size + 2), dtype=np.float32)
                for a in range(4):
                    for b in range(4):
                        canvas[:, a : a + self.size : 2, b : b + self.size : 2] += taps[..., a, b]
                found = np.asarray((canvas[:, 1:-1, 1:-1] + self.last[1]).reshape(len(z), -1))
                linear = self.loadings
            parts.append(np.asarray(found + z @ linear if self.loadings.size else found))
        return np.asarray(np.concatenate(parts), dtype=np.float64)


@dataclass(frozen=True)
class Recurrence:
    """The LSTM and its head."""

    weight_in: FloatArray
    weight_hidden: FloatArray
    bias: FloatArray
    head: FloatArray
    head_bias: FloatArray

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[Any]], n: int, hidden: int) -> Recurrence:
        """Read the arrays of the torch module's state."""
        shapes = {
            "lstm.weight_ih_l0": (4 * hidden, n), "lstm.weight_hh_l0": (4 * hidden, hidden),
            "lstm.bias_ih_l0": (4 * hidden,), "lstm.bias_hh_l0": (4 * hidden,),
            "head.weight": (n, hidden), "head.bias": (n,),
        }  # fmt: skip
        for name, shape in shapes.items():
            _check(arrays[name], shape, name)
        a = {name: arrays[name].astype(np.float64) for name in shapes}
        return cls(
            a["lstm.weight_ih_l0"].T.copy(), a["lstm.weight_hh_l0"].T.copy(),
            a["lstm.bias_ih_l0"] + a["lstm.bias_hh_l0"], a["head.weight"].T.copy(), a["head.bias"],
        )  # fmt: skip

    def __call__(self, window: FloatArray) -> FloatArray:
        """Map (n, window, factors) to (n, factors); gates in torch's order: input, forget, cell, output."""
        n, steps, _ = window.shape
        width = self.weight_hidden.shape[0]
        hidden, cell = np.zeros((n, width)), np.zeros((n, width))
        for step in range(steps):
            gates = window[:, step] @ self.weight_in + hidden @ self.weight_hidden + self.bias
            i, f, g, o = np.split(gates, 4, axis=1)
            cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(g)
            hidden = _sigmoid(o) * np.tanh(cell)
        return np.asarray(hidden @ self.head + self.head_bias)


def _sigmoid(x: FloatArray) -> FloatArray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _batch_norm(arrays: dict[str, npt.NDArray[Any]], name: str, n: int) -> tuple[FloatArray, FloatArray]:
    """Gain and offset of a batch norm in evaluation."""
    scale, shift, mean, variance = (
        arrays[f"{name}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    _check(scale, (n,), name)
    gain = scale / np.sqrt(variance + _BATCH_NORM_EPSILON)
    return gain, shift - mean * gain


def _convolve(x: Array, weight: Array, bias: Array) -> Array:
    """Kernel 4, stride 2, padding 1, then leaky ReLU."""
    n, height, width, channels = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), axis=(1, 2))[:, ::2, ::2]
    columns = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 16 * channels)
    out = columns @ weight
    out += bias
    np.maximum(out, _SLOPE * out, out=out)
    return np.asarray(out.reshape(n, height // 2, width // 2, -1))


def _convolve_transposed(x: Array, weight: Array, bias: Array) -> Array:
    """Transposed convolution (kernel 4, stride 2, padding 1), then leaky ReLU; a small convolution for each parity."""
    n, height, width, channels = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.empty((n, height, 2, width, 2, len(bias)), dtype=np.float32)
    columns = np.empty((n, height, width, 4, channels), dtype=np.float32)
    for phase in range(4):
        p, q = divmod(phase, 2)
        shifts = [(i, j) for _, i in _PHASES[p] for _, j in _PHASES[q]]
        for slot, (i, j) in enumerate(shifts):
            columns[:, :, :, slot] = padded[:, 1 + i : 1 + i + height, 1 + j : 1 + j + width]
        found = columns.reshape(-1, 4 * channels) @ weight[phase] + bias
        np.maximum(found, _SLOPE * found, out=found)
        out[:, :, p, :, q] = found.reshape(n, height, width, -1)
    return out.reshape(n, 2 * height, 2 * width, -1)


def _check(array: npt.NDArray[Any], shape: tuple[int, ...], name: str) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} must be of shape {shape}, not {array.shape}")

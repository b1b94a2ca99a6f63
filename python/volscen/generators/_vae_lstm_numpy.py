"""Networks of the VAE-LSTM, of one asset, evaluated in NumPy: forecasting and sampling need no torch."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen.generators._vae_lstm_options import VaeLstmOptions

__all__ = ["Nets"]

Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
Layer = tuple[Array, Array]

#: Range of the log variances of the posterior, as in training.
_LOG_VARIANCE = (-12.0, 4.0)


@dataclass(frozen=True)
class Nets:
    """Encoder, decoder and what foresees; weights are (in, out).

    Attributes
    ----------
    down, up : list of (weight, bias)
        All layers of the encoder and of the decoder; the last of each without an activation.
    layers : list of (weight of inputs, weight of states, bias)
        Of the LSTM, gates in torch's order: input, forget, cell, output.
    attention : dict of str to ndarray
    head : (weight, bias)
    """

    latents: int
    down: list[Layer]
    up: list[Layer]
    layers: list[tuple[Array, Array, Array]]
    attention: dict[str, Array]
    head: Layer
    kind: str
    heads: int

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, npt.NDArray[Any]], options: VaeLstmOptions, cells: int, features: int, extra: int
    ) -> Nets:
        """Read the arrays of the torch modules, those of one asset; KeyError or ValueError where they do not fit.

        ``extra`` is the number of inputs of the LSTM besides latents and features.
        """
        h, n, w = list(options.hidden), options.latent_dim, list(options.lstm_hidden)
        outputs = (len(options.horizons) if options.dynamics == "direct" else 1) * (n + 1)

        def get(name: str, *shape: int) -> Array:
            array = arrays[name]
            if array.shape != shape:
                raise ValueError(f"{name} must be of shape {shape}, not {array.shape}")
            return np.ascontiguousarray(array, dtype=np.float32)

        def linear(name: str, n_in: int, n_out: int) -> Layer:
            return np.ascontiguousarray(get(f"{name}.weight", n_out, n_in).T), get(f"{name}.bias", n_out)

        def own(name: str, n_in: int, n_out: int) -> Layer:
            return get(f"{name}.weight", n_in, n_out), get(f"{name}.bias", n_out)

        down = [own("coder.first", cells + features, h[0])]
        down += [linear(f"coder.down.{i}", a, b) for i, (a, b) in enumerate(itertools.pairwise(h))]
        down.append(linear("coder.heads", h[-1], 2 * n))
        back = h[::-1]
        up = [linear("coder.root", n, h[-1])]
        up += [linear(f"coder.up.{i}", a, b) for i, (a, b) in enumerate(itertools.pairwise(back))]
        up.append(own("coder.last", h[0], cells))
        layers = []
        for i, (a, b) in enumerate(zip([n + features + extra, *w[:-1]], w, strict=True)):
            name = f"foresight.layers.{i}"
            bias = get(f"{name}.bias_ih_l0", 4 * b) + get(f"{name}.bias_hh_l0", 4 * b)
            layers.append(
                (
                    np.ascontiguousarray(get(f"{name}.weight_ih_l0", 4 * b, a).T),
                    np.ascontiguousarray(get(f"{name}.weight_hh_l0", 4 * b, b).T),
                    bias,
                )
            )
        wide = w[-1]
        shapes: dict[str, tuple[int, ...]] = {}
        if options.attention == "additive":
            shapes = {"of_now.weight": (wide, wide), "of_now.bias": (wide,), "of_past.weight": (wide, wide),
                      "score.weight": (1, wide)}  # fmt: skip
        elif options.attention == "multi_head":
            for part in ("query", "key", "value"):
                shapes |= {f"{part}.weight": (wide, wide), f"{part}.bias": (wide,)}
        attention = {name: get(f"foresight.attend.{name}", *shape) for name, shape in shapes.items()}
        heads = options.heads if options.attention == "multi_head" else 1
        head = linear("foresight.head", 2 * wide, outputs)
        return cls(n, down, up, layers, attention, head, options.attention, heads)

    def encode(self, x: npt.NDArray[Any], features: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray]:
        """Posterior means and standard deviations (..., latents) of surfaces (..., cells) and features."""
        h = np.concatenate([x, features], axis=-1).astype(np.float32).reshape(-1, x.shape[-1] + features.shape[-1])
        found = _forward(h, self.down).astype(np.float64).reshape(*x.shape[:-1], 2 * self.latents)
        mean, log_variance = np.split(found, 2, axis=-1)
        return mean, np.exp(0.5 * np.clip(log_variance, *_LOG_VARIANCE))

    def decode(self, latent: FloatArray) -> FloatArray:
        """Standardised surfaces (..., cells) of latents (..., latents)."""
        flat = latent.reshape(-1, self.latents).astype(np.float32)
        return np.asarray(_forward(flat, self.up).astype(np.float64).reshape(*latent.shape[:-1], -1))

    def states(self, days: npt.NDArray[Any]) -> tuple[Array, list[Layer]]:
        """States (n, days, width) of the last layer, and the memories (hidden, cell) of all to go on from."""
        nothing = [(np.zeros((len(days), len(w)), np.float32),) * 2 for _, w, _ in self.layers]
        return self.go_on(days, nothing)

    def go_on(self, days: npt.NDArray[Any], memory: list[Layer]) -> tuple[Array, list[Layer]]:
        """The same after what memories hold."""
        x: Array = np.asarray(days, dtype=np.float32)
        memories = []
        for (from_x, from_h, bias), (hidden, cell) in zip(self.layers, memory, strict=True):
            gates_x = x @ from_x + bias
            out = np.empty((*x.shape[:2], len(from_h)), dtype=np.float32)
            for t in range(x.shape[1]):
                i, f, g, o = np.split(gates_x[:, t] + hidden @ from_h, 4, axis=1)
                cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(g)
                hidden = _sigmoid(o) * np.tanh(cell)
                out[:, t] = hidden
            x = out
            memories.append((hidden, cell))
        return x, memories

    def foresee(self, states: Array) -> tuple[FloatArray, FloatArray]:
        """Head's outputs (n, outputs) and attention weights (n, heads, days) at the last of the states."""
        context, weights = self._attend(states[:, -1], states)
        out = np.concatenate([states[:, -1], context], axis=1) @ self.head[0] + self.head[1]
        return out.astype(np.float64), weights.astype(np.float64)

    def _attend(self, now: Array, past: Array) -> tuple[Array, Array]:
        a, (n, days, width) = self.attention, past.shape
        if self.kind == "additive":
            there = np.tanh((now @ a["of_now.weight"].T + a["of_now.bias"])[:, None] + past @ a["of_past.weight"].T)
            weights = _softmax(there @ a["score.weight"][0])[:, None]
            return (weights @ past)[:, 0], weights
        if self.kind == "dot":
            weights = _softmax((past @ now[..., None])[..., 0] / np.float32(np.sqrt(width)))[:, None]
            return (weights @ past)[:, 0], weights
        part = width // self.heads
        query = (now @ a["query.weight"].T + a["query.bias"]).reshape(n, self.heads, 1, part)
        key, value = (
            (past @ a[f"{name}.weight"].T + a[f"{name}.bias"]).reshape(n, days, self.heads, part).transpose(0, 2, 1, 3)
            for name in ("key", "value")
        )
        weights = _softmax((query @ key.swapaxes(2, 3))[:, :, 0] / np.float32(np.sqrt(part)))
        return (weights[:, :, None] @ value).reshape(n, width), weights


def _forward(x: Array, layers: list[Layer]) -> Array:
    for weight, bias in layers[:-1]:
        x = x @ weight
        x += bias
        np.maximum(x, np.expm1(np.minimum(x, 0)), out=x)
    weight, bias = layers[-1]
    return np.asarray(x @ weight + bias)


def _sigmoid(x: Array) -> Array:
    return np.asarray(np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * x)))


def _softmax(score: npt.NDArray[Any]) -> Array:
    e = np.exp(score - score.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True), dtype=np.float32)

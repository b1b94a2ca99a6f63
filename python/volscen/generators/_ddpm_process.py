"""The diffusion of a DDPM and its reversal, in NumPy: noise schedules, time embedding, sampling without torch.

Sources: Ho, Jain and Abbeel (2020) for the model, Nichol and Dhariwal (2021) for the cosine schedule, Song, Meng and
Ermon (2021) for steps that skip, Salimans and Ho (2022) for the prediction of velocities.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Layers", "Reversal", "denoise", "go_back", "layers_of", "reverse", "schedule", "time_embedding", "visited"]

FloatArray = npt.NDArray[np.float64]
Layers = list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]

#: Sines and cosines of so many frequencies each.
_FREQUENCIES = 8
EMBEDDING = 2 * _FREQUENCIES


def schedule(kind: str, steps: int) -> FloatArray:
    """Share of the signal's variance that is left after 0, 1, .., ``steps`` steps: (steps + 1,), from 1 downwards.

    Parameters
    ----------
    kind : {"cosine", "linear"}
        Cosine: cos^2 of (t/T + .008)/1.008 times pi/2, over its value at 0. Linear: products of 1 - beta with beta
        from .1/T to 20/T, which for 1,000 steps is from 1e-4 to .02.
    steps : int

    Examples
    --------
    >>> from volscen.generators._ddpm_process import schedule
    >>> schedule("cosine", 2).round(3)
    array([1.   , 0.494, 0.   ])
    """
    t = np.arange(steps + 1) / steps
    if kind == "linear":
        beta = np.linspace(0.1, 20.0, steps) / steps
    else:
        signal = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
        beta = 1 - signal[1:] / signal[:-1]
    # As published: no step takes all of the signal.
    return np.append(1.0, np.cumprod(1 - np.minimum(beta, 0.999)))


def time_embedding(share: npt.ArrayLike) -> FloatArray:
    """Sines and cosines of the share of the diffusion that is done: (..., 16)."""
    angle = np.asarray(share, dtype=np.float64)[..., None] * np.pi * 2.0 ** np.arange(-1, _FREQUENCIES - 1)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1)


def visited(steps: int, sampling_steps: int) -> npt.NDArray[np.int64]:
    """Steps of the diffusion that sampling visits, from the last down to 0."""
    return np.linspace(steps, 0, sampling_steps + 1).round().astype(np.int64)


def reverse(x: Any, clean: Any, now: float, then: float, eta: float, noise: Any) -> Any:
    """One step back, from a share ``now`` of the signal's variance to a larger one, ``then``.

    Parameters
    ----------
    x, clean : ndarray or Tensor, shape (n, f)
        Noisy values, and what the network takes for the values without noise.
    now, then : float
    eta : float
        1: ancestral sampling of the DDPM; 0: deterministic (DDIM).
    noise : ndarray or Tensor, shape (n, f), or 0
        Standard normal.
    """
    variance = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
    direction = (x - math.sqrt(now) * clean) / math.sqrt(1 - now)
    return math.sqrt(then) * clean + math.sqrt(max(1 - then - variance, 0.0)) * direction + math.sqrt(variance) * noise


def go_back(
    network: Callable[[Any, int], Any],
    draw: Callable[[], Any],
    signal: FloatArray,
    sampling_steps: int,
    eta: float,
    bounds: Any,
) -> Any:
    """From pure noise back to none, of NumPy's arrays or torch's tensors.

    Parameters
    ----------
    network : callable
        Velocities of values (n, f) at a step of the diffusion.
    draw : callable
        Standard normal numbers (n, f): the start, then those of the steps.
    signal, sampling_steps, eta
        As of :func:`denoise`.
    bounds : pair of arrays, shape (f,)
        Least and largest value.
    """
    x = draw()
    low, high = bounds
    for t, s in itertools.pairwise(visited(len(signal) - 1, sampling_steps).tolist()):
        now, then = float(signal[t]), float(signal[s])
        clean = (math.sqrt(now) * x - math.sqrt(1 - now) * network(x, t)).clip(low, high)
        last = s == 0
        x = reverse(x, clean, now, then, 0.0 if last else eta, draw() if eta > 0 and not last else 0.0)
    return x


def layers_of(flat: npt.NDArray[np.float32], widths: Sequence[int]) -> Layers:
    """Weights (in, out) and biases (out,) in flat parameters."""
    layers, start = [], 0
    for n_in, n_out in itertools.pairwise(widths):
        stop = start + n_in * n_out
        layers.append((flat[start:stop].reshape(n_in, n_out), flat[stop : stop + n_out]))
        start = stop + n_out
    return layers


def denoise(
    layers: Layers,
    known: FloatArray,
    n: int,
    signal: FloatArray,
    sampling_steps: int,
    eta: float,
    bounds: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Draw n values: from pure noise back to none.

    The network takes [noisy values, time embedding, condition] through SiLU layers to the velocity
    sqrt(a) noise - sqrt(1 - a) values, a the share of the signal. It is evaluated in float32, as trained.

    Parameters
    ----------
    layers : list of (weight, bias)
    known : ndarray, shape (1, c) or (n, c)
        Standardised conditions.
    n : int
    signal : ndarray, shape (steps + 1,)
        As returned by :func:`schedule`.
    sampling_steps : int
    eta : float
    bounds : ndarray, shape (2, f)
        Least and largest value; what the network takes for the value without noise is cut to them.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (n, f)
    """
    f = bounds.shape[1]
    (w, b), *others = layers
    given = known.astype(np.float32) @ w[f + EMBEDDING :] + b
    steps = len(signal) - 1

    def network(x: FloatArray, t: int) -> FloatArray:
        time = time_embedding(t / steps).astype(np.float32) @ w[f : f + EMBEDDING]
        hidden = x.astype(np.float32) @ w[:f] + (given + time)
        for weight, bias in others:
            hidden = (hidden / (1 + np.exp(-np.clip(hidden, -60, None)))) @ weight + bias
        return hidden.astype(np.float64)

    drawn: FloatArray = go_back(network, lambda: rng.standard_normal((n, f)), signal, sampling_steps, eta, bounds)
    return drawn


@dataclass(frozen=True)
class Reversal:
    """All that :func:`denoise` takes besides conditions and random numbers."""

    layers: Layers
    signal: FloatArray
    sampling_steps: int
    eta: float
    bounds: FloatArray

    def __call__(self, known: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw n values given conditions (1 or n, c)."""
        return denoise(self.layers, known, n, self.signal, self.sampling_steps, self.eta, self.bounds, rng)

"""The diffusion of a DDPM and its reversal, in NumPy: noise schedules, time embedding, sampling without torch.

Sources: Ho, Jain and Abbeel (2020) for the model, Nichol and Dhariwal (2021) for the cosine schedule, Song, Meng and
Ermon (2021) for steps that skip, Salimans and Ho (2022) for the prediction of velocities.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Layers", "denoise", "layers_of", "reverse", "schedule", "time_embedding", "visited"]

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


def reverse(x: FloatArray, clean: FloatArray, now: float, then: float, eta: float, noise: FloatArray) -> FloatArray:
    """One step back, from a share ``now`` of the signal's variance to a larger one, ``then``.

    Parameters
    ----------
    x, clean : ndarray, shape (n, f)
        Noisy values, and what the network takes for the values without noise.
    now, then : float
    eta : float
        1: ancestral sampling of the DDPM; 0: deterministic (DDIM).
    noise : ndarray, shape (n, f)
        Standard normal.
    """
    variance = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
    direction = (x - np.sqrt(now) * clean) / np.sqrt(1 - now)
    return np.asarray(
        np.sqrt(then) * clean + np.sqrt(max(1 - then - variance, 0.0)) * direction + np.sqrt(variance) * noise
    )


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
    x = rng.standard_normal((n, f))
    steps = len(signal) - 1
    for t, s in itertools.pairwise(visited(steps, sampling_steps)):
        a = signal[t]
        time = time_embedding(t / steps).astype(np.float32) @ w[f : f + EMBEDDING]
        hidden = x.astype(np.float32) @ w[:f] + (given + time)
        for weight, bias in others:
            hidden = (hidden / (1 + np.exp(-np.clip(hidden, -60, None)))) @ weight + bias
        clean = np.clip(np.sqrt(a) * x - np.sqrt(1 - a) * hidden, *bounds)
        noise = rng.standard_normal((n, f)) if eta > 0 and s > 0 else np.zeros((1, 1))
        x = reverse(x, clean, a, signal[s], eta if s > 0 else 0.0, noise)
    return x

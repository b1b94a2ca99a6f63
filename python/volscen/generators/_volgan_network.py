"""VolGAN's networks as NumPy arrays: stored layers, and the generator evaluated without torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Layers", "checked", "for_sampling", "forward", "unpack"]

FloatArray = npt.NDArray[np.float64]

#: Weight (out, in) and bias (out,) of each layer, as stored.
Layers = list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]


def unpack(flat: npt.NDArray[np.float32], widths: Sequence[int]) -> Layers:
    """Split the trainer's flat vector, in which a layer is (in + 1, out) with the bias as its last row."""
    layers, start = [], 0
    for n_in, n_out in itertools.pairwise(widths):
        block = flat[start : start + (n_in + 1) * n_out].reshape(n_in + 1, n_out)
        layers.append((np.ascontiguousarray(block[:-1].T), block[-1].copy()))
        start += block.size
    return layers


def for_sampling(layers: Layers) -> list[tuple[FloatArray, FloatArray]]:
    """Turn stored layers into what :func:`forward` takes: trained in float32, evaluated in float64."""
    return [(np.ascontiguousarray(w.T, dtype=np.float64), b.astype(np.float64)) for w, b in layers]


def forward(layers: list[tuple[FloatArray, FloatArray]], x: FloatArray) -> FloatArray:
    """Evaluate softplus layers and a last affine one.

    Parameters
    ----------
    layers : list of (weight, bias)
        Shapes (in, out) and (out,).
    x : ndarray, shape (n, in)

    Returns
    -------
    ndarray, shape (n, out)

    Examples
    --------
    >>> import numpy as np
    >>> identity = (np.eye(1), np.zeros(1))
    >>> forward([identity, identity], np.array([[0.0]])).round(6)  # log 2
    array([[0.693147]])
    """
    for weight, bias in layers[:-1]:
        pre = x @ weight + bias
        x = np.maximum(pre, 0) + np.log1p(np.exp(-np.abs(pre)))
    weight, bias = layers[-1]
    return x @ weight + bias


def checked(arrays: dict[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return an array of a model file, or raise ValueError when its shape is wrong."""
    values = arrays[name]
    if values.shape != shape:
        raise ValueError(f"{name} must be of shape {shape}, not {values.shape}")
    return values

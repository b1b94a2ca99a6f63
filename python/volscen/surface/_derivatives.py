"""Derivatives of total variance on a grid, and Durrleman's function of them: one definition for all of the package."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["durrleman", "parabola_slopes"]

FloatArray = npt.NDArray[np.float64]


def parabola_slopes(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """First and second derivative at every point of the parabola through it and its neighbours.

    At the ends the parabola of the three points there is taken; two points make a line.

    Parameters
    ----------
    x : ndarray, shape (I,)
        Strictly increasing, at least two.
    y : ndarray, shape (..., I)

    Returns
    -------
    first, second : ndarray, shape (..., I)
        Central differences (on a uniform grid the usual ones), of second and first order in the spacing.
    """
    step = np.diff(x)
    slope = np.diff(y, axis=-1) / step
    if x.size == 2:
        flat = np.broadcast_to(slope, y.shape)
        return flat.copy(), np.zeros(y.shape)
    left, right = step[:-1], step[1:]
    bend = 2 * np.diff(slope, axis=-1) / (left + right)
    middle = (slope[..., :-1] * right + slope[..., 1:] * left) / (left + right)
    start = slope[..., :1] - bend[..., :1] * (step[0] / 2)
    end = slope[..., -1:] + bend[..., -1:] * (step[-1] / 2)
    first = np.concatenate([start, middle, end], axis=-1)
    return first, np.concatenate([bend[..., :1], bend, bend[..., -1:]], axis=-1)


def durrleman(log_moneyness: FloatArray, total_variance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Durrleman's g of total variance on a grid of k = ln(K/F), and the first derivative of total variance.

    g = (1 - k w'/(2 w))^2 - w'^2/4 (1/w + 1/4) + w''/2 with the derivatives of :func:`parabola_slopes`. The density
    of ln(S/F) is g times that of a normal law, so that g >= 0 everywhere if and only if there is no butterfly
    arbitrage (Gatheral and Jacquier 2014).

    Parameters
    ----------
    log_moneyness : ndarray, shape (I,)
        At least three.
    total_variance : ndarray, shape (..., I)

    Returns
    -------
    g, first : ndarray, shape (..., I)
        At the first and last point one-sided, hence less exact.
    """
    w = total_variance
    first, second = parabola_slopes(log_moneyness, w)
    g = (1 - log_moneyness * first / (2 * w)) ** 2 - first**2 / 4 * (1 / w + 0.25) + second / 2
    return g, first

"""Derivatives of total variance on a grid, and Durrleman's function of them, for all finished surfaces."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError
from volscen.surface._judge import durrleman

__all__ = ["check_total_variance", "durrleman_on_grid", "parabola_slopes"]

FloatArray = npt.NDArray[np.float64]

#: Total variances outside are no volatilities, and their squares and inverses leave float64.
_LEAST, _MOST = 1e-100, 1e8


def check_total_variance(total_variance: FloatArray) -> None:
    """Refuse total variances of which no derivatives can be taken, where the rest of the package still has prices.

    Raises
    ------
    InputError
        If one is outside 1e-100 to 1e8.
    """
    low, high = float(total_variance.min()), float(total_variance.max())
    if not (low >= _LEAST and high <= _MOST):
        raise InputError(
            f"implied_vol squared times tau must lie within {_LEAST:g} to {_MOST:g}, not {low:.3g} to {high:.3g}; "
            "drop or repair those surfaces"
        )


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


def durrleman_on_grid(log_moneyness: FloatArray, total_variance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Durrleman's g of total variance on a grid of k = ln(K/F), and the first derivative of total variance.

    Its derivatives are those of :func:`parabola_slopes`. The density of ln(S/F) is g times that of a normal law, so
    that g >= 0 everywhere if and only if there is no butterfly arbitrage (Gatheral and Jacquier 2014).

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
    first, second = parabola_slopes(log_moneyness, total_variance)
    return durrleman(log_moneyness, total_variance, first, second), first

"""Variance of a strip of out-of-the-money options, as an integral over the smile of one maturity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen import black
from volscen.errors import InputError
from volscen.surface._interpolate import vol_on_slice

__all__ = ["WING", "options_over_strike", "smile_variance"]

FloatArray = npt.NDArray[np.float64]

#: Standard deviations beyond which out-of-the-money options are left out.
WING = 5.0

#: Ends of the pieces on which prices are smooth enough for four nodes, in standard deviations.
_PIECES = np.array([0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5]) / 5
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)

#: Exponents of wing strikes above this leave float64.
_TOP_LOG = 700.0


def options_over_strike(vol: FloatArray, log_moneyness: FloatArray, tau: float, *, num_threads: int = 1) -> FloatArray:
    """Undiscounted prices of out-of-the-money options over their strikes, Q/K, which times 2/tau dk add up to variance.

    Parameters
    ----------
    vol : ndarray, shape (n, Q)
        Volatility at each strike.
    log_moneyness : ndarray, shape (n, Q) or (Q,)
        k = ln(K/F).
    tau : float
        Years.
    num_threads : int
    """
    # An option over its strike is one with strike 1 on a forward of F/K: no large number meets a tiny one.
    price = black.price(np.exp(-log_moneyness), 1.0, tau, vol, log_moneyness >= 0, num_threads=num_threads)
    return np.asarray(price)


def smile_variance(
    vol: FloatArray, log_moneyness: FloatArray, tau: float, *, wing: float = WING, num_threads: int = 1
) -> tuple[FloatArray, FloatArray]:
    """Annual variance of the whole strip on each of n smiles, and the part of it from strikes beyond the smile's ends.

    Volatility is linear in k between the points of a smile and flat beyond them, out to ``wing`` standard deviations
    of the volatility there. The integral is taken piece by piece between those points, the money and multiples of the
    standard deviation, with four Gauss-Legendre nodes each.

    Parameters
    ----------
    vol : ndarray, shape (n, I)
    log_moneyness : ndarray, shape (I,)
    tau, wing : float
    num_threads : int

    Returns
    -------
    variance, beyond : ndarray, shape (n,)
        ``beyond`` is a share of the variance, between 0 and 1.
    """
    root, ends = np.sqrt(tau), log_moneyness[[0, -1]]
    middle = vol_on_slice(vol, log_moneyness, np.zeros((len(vol), 1)))
    spread = wing * root * np.column_stack([vol[:, 0], middle[:, 0], vol[:, -1]])
    if not spread.max() < _TOP_LOG:
        raise InputError(f"implied_vol of {vol.max():.4g} at tau {tau:.4g} is too large for a strip of options")
    low = np.minimum(-spread[:, :1], ends[0])
    high = np.maximum(spread[:, 2:], ends[1])
    own = spread[:, 1:2] * np.concatenate([-_PIECES, [0.0], _PIECES])
    marks = [np.broadcast_to(log_moneyness, (len(vol), log_moneyness.size)), own]
    marks += [-spread[:, :1] * _PIECES, spread[:, 2:] * _PIECES, low, high]
    marks_sorted = np.sort(np.clip(np.concatenate(marks, axis=1), low, high), axis=1)
    width = np.diff(marks_sorted, axis=1)
    at_marks = vol_on_slice(vol, log_moneyness, marks_sorted)
    share = (1 + _NODES) / 2
    k = (marks_sorted[:, :-1, None] + width[:, :, None] * share).reshape(len(vol), -1)
    # Within a piece volatility is linear, as all points of the smile are marks.
    sigma = (at_marks[:, :-1, None] + np.diff(at_marks, axis=1)[:, :, None] * share).reshape(k.shape)
    part = width[:, :, None] * (_WEIGHTS / 2)
    part = part.reshape(k.shape) * options_over_strike(sigma, k, tau, num_threads=num_threads)
    total = part.sum(axis=1)
    outer = np.where((k < ends[0]) | (k > ends[1]), part, 0.0).sum(axis=1)
    return 2 / tau * total, outer / total

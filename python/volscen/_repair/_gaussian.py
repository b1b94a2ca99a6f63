"""Conditioning a Gaussian law of ln(volatility) on noisy quotes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

__all__ = ["condition", "leave_one_out"]

FloatArray = npt.NDArray[np.float64]

#: Variances are no smaller than this part of the prior's.
_LEAST = 1e-10


def condition(
    mean: FloatArray,
    cross: FloatArray,
    variance: FloatArray,
    at: npt.NDArray[np.intp],
    y: FloatArray,
    noise: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Mean and variance at all points, given noisy values at some.

    Parameters
    ----------
    mean, variance : ndarray, shape (P,)
        Of the law before.
    cross : ndarray, shape (P, n)
        Covariances of all points with those observed.
    at : ndarray of int, shape (n,)
        The points observed.
    y, noise : ndarray, shape (n,)
        Values, and variances of their errors.
    """
    own = cross[at]
    own[np.diag_indices(at.size)] += noise
    factor = np.linalg.cholesky(own)
    both = solve_triangular(factor, np.column_stack([cross.T, y - mean[at]]), lower=True, check_finite=False)
    half, residual = both[:, :-1], both[:, -1]
    left = variance - np.einsum("np,np->p", half, half)
    return mean + residual @ half, np.maximum(left, _LEAST * variance)


def leave_one_out(
    mean: FloatArray, variance: FloatArray, y: FloatArray, noise: FloatArray
) -> FloatArray:
    """Standardised difference of every quote from what the others say.

    A quote's own part is taken out of the law that includes it: exact, as that law is Gaussian and errors of quotes
    are independent (C. Rasmussen and C. Williams 2006, section 5.4.2).

    Parameters
    ----------
    mean, variance : ndarray, shape (n,)
        Law after all quotes, at the quotes.
    y, noise : ndarray, shape (n,)
        Values, and variances of their errors.
    """
    # With v the variance after and r that of the error: without the quote the variance is v r / (r - v), that of the
    # difference r^2 / (r - v), and the difference (y - mean) r / (r - v).
    left = np.maximum(1 - variance / noise, 1e-9)
    return np.asarray((y - mean) / np.sqrt(noise * left))

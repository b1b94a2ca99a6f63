"""Conditioning Gaussian laws of ln(volatility) on noisy quotes, which also decide how rough the surface is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack, solve_triangular

from volscen._repair._prior import REFERENCE, ROUGHNESS, Place

__all__ = ["Law", "condition", "leave_one_out"]

FloatArray = npt.NDArray[np.float64]

#: Variances are no smaller than this part of the prior's; roughnesses less likely than this part are left out.
_LEAST_VARIANCE, _LEAST_SHARE = 1e-10, 0.01


@dataclass(frozen=True)
class Law:
    """ln(volatility) given the quotes.

    Attributes
    ----------
    mean, variance : ndarray, shape (P,)
    z : ndarray, shape (n,)
        Standardised difference of every quote from what the others say.
    misfit : float
        Root mean square of those differences under the roughness of reference.
    """

    mean: FloatArray
    variance: FloatArray
    z: FloatArray
    misfit: float


def condition(
    place: Place, mean: FloatArray, moments: FloatArray, at: npt.NDArray[np.intp], y: FloatArray, noise: FloatArray
) -> Law:
    """Law at all points of a place, given noisy values at some.

    It is a mixture over the pairs of :data:`volscen._repair._prior.ROUGHNESS`, weighted by the likelihood of the
    quotes.

    Parameters
    ----------
    place : Place
    mean : ndarray, shape (P,)
        Of the law before.
    moments : ndarray, shape (K + 1, K + 1)
        Covariance of the components before.
    at : ndarray of int, shape (n,)
        The points observed.
    y, noise : ndarray, shape (n,)
        Values, and variances of their errors.
    """
    smooth, (fine, broad) = place.smooth(moments, at), place.rough(at)
    own, own_fine, own_broad = smooth[at], fine[at], broad[at]
    own[np.diag_indices(at.size)] += noise
    residual = y - mean[at]
    factors, likelihood = [], np.empty(len(ROUGHNESS))
    for i, (a, b) in enumerate(ROUGHNESS):
        factor = np.asarray(np.linalg.cholesky(own + a**2 * own_fine + b**2 * own_broad), dtype=np.float64)
        white: FloatArray = solve_triangular(factor, residual, lower=True, check_finite=False)
        factors.append((factor, white))
        likelihood[i] = -white @ white / 2 - np.log(np.diag(factor)).sum()
    share = np.exp(likelihood - likelihood.max())
    share[share < _LEAST_SHARE] = 0.0
    share /= share.sum()
    before = place.variances(moments)
    used = np.flatnonzero(share)
    means, variances = np.empty((used.size, place.mean.size)), np.empty((used.size, place.mean.size))
    z = np.zeros(at.size)
    for row, i in enumerate(used.tolist()):
        (a, b), (factor, white) = ROUGHNESS[i], factors[i]
        cross = smooth + a**2 * fine + b**2 * broad
        half = solve_triangular(factor, cross.T, lower=True, check_finite=False)
        total = before[0] + a**2 * before[1] + b**2 * before[2]
        means[row] = mean + white @ half
        variances[row] = np.maximum(total - np.einsum("np,np->p", half, half), _LEAST_VARIANCE * total)
        z += share[i] * _left_out(factor, white)
    weight = share[used, None]
    middle = (weight * means).sum(axis=0)
    variance = (weight * (variances + (means - middle) ** 2)).sum(axis=0)
    misfit = float(np.sqrt(np.mean(_left_out(*factors[REFERENCE]) ** 2)))
    return Law(middle, variance, z, misfit)


def _left_out(factor: FloatArray, white: FloatArray) -> FloatArray:
    """Leave-one-out differences over their standard deviations, from the Cholesky factor of the quotes' covariance.

    With C that covariance they are (C^-1 r)_i / sqrt((C^-1)_ii) (C. Rasmussen and C. Williams 2006, section 5.4.2).
    """
    inverse, _ = lapack.dtrtri(factor, lower=1)
    return np.asarray(white @ inverse / np.sqrt(np.einsum("ij,ij->j", inverse, inverse)))


def leave_one_out(mean: FloatArray, variance: FloatArray, y: FloatArray, noise: FloatArray) -> FloatArray:
    """Standardised difference of every quote from what the others say, from the law after all of them.

    Parameters
    ----------
    mean, variance : ndarray, shape (..., n)
        Law after all quotes, at the quotes.
    y, noise : ndarray, shape (..., n)
        Values, and variances of their errors.
    """
    # With v the variance after and r that of the error: without the quote the variance is v r / (r - v), that of the
    # difference r^2 / (r - v), and the difference (y - mean) r / (r - v).
    left = np.maximum(1 - variance / noise, 1e-9)
    return np.asarray((y - mean) / np.sqrt(noise * left))

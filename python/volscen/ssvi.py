"""SSVI and eSSVI surfaces of total implied variance: fitted as a whole, free of static arbitrage.

A slice is w(k) = (theta + rho psi k + sqrt((psi k + rho theta)^2 + (1 - rho^2) theta^2)) / 2, with k = ln(K/F)
and w = vol^2 tau: theta is the total variance at the money, psi/sqrt(theta) measures the smile and rho its skew.
In eSSVI (S. Hendriks and C. Martini, 2019) every maturity has its own three; in SSVI (J. Gatheral and
A. Jacquier, 2014) rho is one number and psi a function of theta. Parameters lie in the last axis in the order
theta, rho, psi; the axis before it holds the maturities, in increasing order.

>>> import numpy as np
>>> from volscen import ssvi
>>> k = np.linspace(-0.4, 0.3, 15)
>>> truth = [[0.01, -0.5, 0.10], [0.02, -0.45, 0.15], [0.04, -0.4, 0.20]]
>>> ssvi.fit(k, ssvi.total_variance(truth, k)).parameters.round(5).tolist()
[[0.01, -0.5, 0.1], [0.02, -0.45, 0.15], [0.04, -0.4, 0.2]]
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core, svi
from ._array import broadcast, float_array, increasing_positive, thread_count
from .errors import InputError

__all__ = ["SSVIFit", "SSVIStatus", "at", "durrleman_g", "fit", "implied_vol", "to_svi", "total_variance"]

# Far beyond any market; within them no product in the fit overflows.
_K_LIMIT = 1e3
_W_LIMITS = (1e-30, 1e6)

# Of the set of slices without butterfly arbitrage that the kernel uses too: largest psi (1 + abs(rho)), and the
# polynomial U of the notes of fit.
_SLOPE_LIMIT = 3.999
_INTERCEPT = (19.797, -28.75, 23.08, -10.128)


class SSVIStatus(enum.IntEnum):
    """What :func:`fit` found for one slice."""

    OK = 0
    #: Fewer than three distinct strikes: theirs is what the other maturities leave open, as :func:`fit` says.
    REDUCED = 1
    #: No quote with a positive weight; parameters and error are NaN, and the other slices are fitted without it.
    NO_DATA = 2
    #: The fit of this surface stopped before it converged: free of arbitrage, but perhaps not the closest.
    STOPPED = 3


@dataclass(frozen=True)
class SSVIFit:
    """Fitted surfaces.

    Attributes
    ----------
    parameters
        theta, rho, psi of each slice, shape (..., maturity, 3).
    rmse
        Weighted root-mean-square error in total variance of each slice, shape (..., maturity).
    status
        :class:`SSVIStatus` of each slice, shape (..., maturity).
    power_law
        eta and gamma of SSVI, psi = eta (theta/(1 + theta))^(1 - gamma), shape (..., 2); NaN for eSSVI.
    """

    parameters: NDArray[np.float64]
    rmse: NDArray[np.float64]
    status: NDArray[np.int8]
    power_law: NDArray[np.float64]


def fit(
    log_moneyness: ArrayLike,
    total_variance: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    model: Literal["essvi", "ssvi"] = "essvi",
    num_threads: int | None = None,
) -> SSVIFit:
    """Fit surfaces to total variances by weighted least squares, all maturities at once.

    Parameters
    ----------
    log_moneyness
        k = ln(K/F) of the quotes, shape (..., maturity, n), maturities in increasing order, strikes in any,
        within 1000 of 0.
    total_variance
        w = vol^2 tau of the quotes, shape (..., maturity, n), positive (1e-30 to 1e6).
    weight
        Weight of each squared error of w, zero or more, shape (..., maturity, n); equal weights by default. A
        quote of weight zero is ignored, whatever its other values (padding of short slices). Errors of vol count
        alike with weight 1/(4 w tau), those of price with vega^2/(4 w tau).
    model
        ``"essvi"``: theta, rho and psi of each maturity. ``"ssvi"``: theta of each maturity, one rho, and psi =
        eta (theta/(1 + theta))^(1 - gamma), 0.01 < gamma < 0.99.
    num_threads
        Threads to use, one by default, over surfaces. The result is the same for any number.

    Returns
    -------
    SSVIFit
        Parameters, errors and statuses.

    Raises
    ------
    InputError
        When the model is unknown, a quote of positive weight lies outside those ranges or is NaN, a weight is
        negative or not finite, or shapes do not broadcast together.

    Notes
    -----
    Every surface obeys, with a little to spare for rounding,

    - between maturities: psi (1 + rho) and psi (1 - rho) increase and psi/theta does not, by a factor of at least
      1 + 1e-9. Total variance then increases at every strike (Hendriks and Martini 2019, proposition 3.5);
    - in each slice: psi (1 + abs(rho)) <= 3.999, abs(rho) <= 0.9998, and psi^2/theta <= U - (U - 4/(1 + r))
      (psi (1 + r)/4)^2 for r = rho and r = -rho, where U(r) is, to 1.2% from below, the largest psi^2/theta
      without butterfly arbitrage as psi tends to 0. Durrleman's function is affine in psi^2 and psi^2/theta for
      given rho and k psi/theta, so that what it allows is convex, and holds the line from there to the corner of
      Gatheral and Jacquier (2014, theorem 4.2). It allows a psi up to 2.2 times theirs.

    The least squares are found by a primal-dual interior-point method (Gauss-Newton, analytic derivatives) whose
    points all obey these conditions, from the best of 20 starts of one rho and one psi/sqrt(theta).

    A slice with fewer than three distinct strikes has the status ``REDUCED``: where its quotes leave it open, its
    psi (1 +- rho) / sqrt(theta) are drawn to their means over the slices that are not reduced, or to a flat slice
    where all are. In SSVI one slice of three strikes determines the smile of all, and gamma is drawn to 1/2 as
    weakly; without one the smile is drawn to the start.

    Examples
    --------
    >>> from volscen import ssvi
    >>> k = [-0.2, -0.1, 0.0, 0.1, 0.2]
    >>> w = [[0.023, 0.015, 0.010, 0.008, 0.009], [0.035, 0.027, 0.021, 0.018, 0.017]]
    >>> surface = ssvi.fit(k, w)
    >>> surface.parameters.shape, bool((surface.rmse < 1e-3).all()), ssvi.SSVIStatus(surface.status[0]).name
    ((2, 3), True, 'OK')
    """
    if model not in ("essvi", "ssvi"):
        raise InputError(f"model must be 'essvi' or 'ssvi', not {model!r}")
    threads = thread_count(num_threads)
    names = ("log_moneyness", "total_variance", "weight")
    values = (log_moneyness, total_variance, 1.0 if weight is None else weight)
    operands = {name: float_array(name, value) for name, value in zip(names, values, strict=True)}
    k, w, weights = broadcast(operands)
    if k.ndim < 2:
        raise InputError("log_moneyness and total_variance must have axes of maturities and of quotes")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise InputError("weight must be finite and zero or more; give weight 0 to quotes to be ignored")
    used = weights > 0
    if not (np.abs(k[used]) <= _K_LIMIT).all():
        raise InputError(
            f"log_moneyness must be finite and within {_K_LIMIT:g} of 0; give weight 0 to quotes to be ignored"
        )
    if not ((w[used] >= _W_LIMITS[0]) & (w[used] <= _W_LIMITS[1])).all():
        raise InputError(
            f"total_variance must be positive (from {_W_LIMITS[0]:g} to {_W_LIMITS[1]:g}); "
            "give weight 0 to quotes to be ignored"
        )
    lead, size = k.shape[:-2], k.shape[-2:]
    count = int(np.prod(lead, dtype=np.int64))
    k, w, weights = (np.ascontiguousarray(operand).reshape(count, *size) for operand in (k, w, weights))
    parameters, rmse, status, law = _core.ssvi_fit(k, w, weights, model == "ssvi", threads)
    return SSVIFit(
        parameters.reshape((*lead, size[0], 3)),
        rmse.reshape((*lead, size[0])),
        status.reshape((*lead, size[0])),
        law.reshape((*lead, 2)),
    )


def _columns(parameters: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    table = float_array("parameters", parameters)
    if table.ndim == 0 or table.shape[-1] != 3:
        raise InputError(f"parameters must end in an axis of 3 (theta, rho, psi), not shape {table.shape}")
    return tuple(table[..., i] for i in range(3))


def total_variance(parameters: ArrayLike, log_moneyness: ArrayLike) -> Any:
    """Total variance of slices.

    Parameters
    ----------
    parameters
        theta, rho, psi of slices, shape (..., 3).
    log_moneyness
        k = ln(K/F), shape (..., n) with leading axes that broadcast with those of the parameters; or one number.

    Returns
    -------
    numpy.ndarray
        w(k), shape (..., n).

    Raises
    ------
    InputError
        When shapes do not fit.

    Examples
    --------
    >>> from volscen import ssvi
    >>> ssvi.total_variance([0.04, -0.5, 0.3], [-0.2, 0.0, 0.2]).round(6).tolist()
    [0.078589, 0.04, 0.031458]
    """
    theta, rho, psi = _columns(parameters)
    k = float_array("log_moneyness", log_moneyness)
    if k.ndim > 0:
        theta, rho, psi = theta[..., np.newaxis], rho[..., np.newaxis], psi[..., np.newaxis]
    try:
        z = theta + rho * psi * k
    except ValueError:
        raise InputError(
            f"log_moneyness {k.shape} does not broadcast with parameters {np.shape(parameters)[:-1]} and an axis of "
            "strikes"
        ) from None
    bend = (1 - rho) * (1 + rho) * (psi * k) ** 2
    root = np.sqrt(z * z + bend)
    # Two forms of one root of a quadratic: each keeps its digits where the other loses them.
    return np.where(z > 0, (z + root) / 2, bend / (2 * np.where(z > 0, 1.0, root - z)))


def implied_vol(parameters: ArrayLike, log_moneyness: ArrayLike, tau: ArrayLike) -> Any:
    """Implied vol of slices, sqrt(w(k)/tau).

    Parameters
    ----------
    parameters, log_moneyness
        As for :func:`total_variance`.
    tau
        Time to expiry of each slice in years, positive, shape (...).

    Returns
    -------
    numpy.ndarray
        Vols, shape (..., n).

    Raises
    ------
    InputError
        When shapes do not fit, or tau is not positive.

    Examples
    --------
    >>> from volscen import ssvi
    >>> ssvi.implied_vol([0.04, -0.5, 0.3], [-0.2, 0.0, 0.2], 1.0).round(6).tolist()
    [0.280337, 0.2, 0.177363]
    """
    years = float_array("tau", tau)
    if not (np.isfinite(years).all() and (years > 0).all()):
        raise InputError("tau must be positive and finite")
    k = float_array("log_moneyness", log_moneyness)
    w = total_variance(parameters, k)
    try:
        return np.sqrt(w / (years if k.ndim == 0 else years[..., np.newaxis]))
    except ValueError:
        raise InputError(f"tau {years.shape} does not broadcast with slices {np.shape(w)[:-1]}") from None


def to_svi(parameters: ArrayLike) -> NDArray[np.float64]:
    """Raw-SVI parameters of the same slices, for the functions of :mod:`volscen.svi`.

    Parameters
    ----------
    parameters
        theta, rho, psi of slices, shape (..., 3), with psi positive.

    Returns
    -------
    numpy.ndarray
        a, b, rho, m, sigma, shape (..., 5).

    Raises
    ------
    InputError
        When the shape is another, or a psi is not positive.

    Notes
    -----
    Gatheral and Jacquier (2014), equation (4.1) against (3.1).

    Examples
    --------
    >>> from volscen import ssvi, svi
    >>> raw = ssvi.to_svi([0.04, -0.6, 0.3])
    >>> raw.round(6).tolist()
    [0.0128, 0.15, -0.6, 0.08, 0.106667]
    >>> bool(abs(svi.total_variance(raw, 0.1) - ssvi.total_variance([0.04, -0.6, 0.3], 0.1)) < 1e-15)
    True
    """
    theta, rho, psi = _columns(parameters)
    if (psi <= 0).any():
        raise InputError("parameters must have a positive psi: a flat slice has no one raw-SVI form")
    rest = np.sqrt((1 - rho) * (1 + rho))
    return np.stack([theta * rest**2 / 2, psi / 2, rho, -rho * theta / psi, rest * theta / psi], axis=-1)


def durrleman_g(parameters: ArrayLike, log_moneyness: ArrayLike) -> Any:
    """Durrleman's function of slices, which is negative where there is butterfly arbitrage.

    Parameters
    ----------
    parameters, log_moneyness
        As for :func:`total_variance`, with psi positive.

    Returns
    -------
    numpy.ndarray
        g(k), shape (..., n), as :func:`volscen.svi.durrleman_g` defines it.

    Raises
    ------
    InputError
        When shapes do not fit, or a psi is not positive.

    Examples
    --------
    >>> from volscen import ssvi
    >>> bool(ssvi.durrleman_g([0.04, -0.5, 0.3], [-1.0, 0.0, 1.0]).min() > 0)
    True
    """
    return svi.durrleman_g(to_svi(parameters), log_moneyness)


def _steepest(theta: NDArray[np.float64], rho: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest psi without butterfly arbitrage by the conditions of :func:`fit`."""
    r = np.abs(rho)  # the other sign allows more
    u = np.polynomial.Polynomial(_INTERCEPT)(r)
    bound = np.sqrt(theta * u / (1 + theta * (1 + r) / 4 * (u * (1 + r) / 4 - 1)))
    return np.asarray(np.minimum(bound, _SLOPE_LIMIT / (1 + r)))


def at(parameters: ArrayLike, tau: ArrayLike, times: ArrayLike) -> NDArray[np.float64]:
    """Slices of fitted surfaces at other times, free of static arbitrage as those of the fit are.

    Parameters
    ----------
    parameters
        theta, rho, psi of surfaces, shape (..., maturity, 3), all finite.
    tau
        Times to expiry of the maturities in years, positive and strictly increasing, shape (maturity,).
    times
        Times to expiry wanted, in years, positive, in any order, shape (n,) or one number.

    Returns
    -------
    numpy.ndarray
        theta, rho, psi at those times, shape (..., n, 3), or (..., 3) for one number.

    Raises
    ------
    InputError
        When shapes do not fit, times are not positive, or a slice is NaN (drop maturities without quotes).

    Notes
    -----
    Between maturities theta, psi and rho psi are linear in time (J. Corbetta, P. Cohort, I. Laachir and C. Martini
    2019): psi (1 +- rho) then increase, psi/theta lies between its two ends, and the set of slices without
    butterfly arbitrage that :func:`fit` uses is convex along such a line. Before the first maturity theta and psi
    are proportional to time, which leaves vol at every K/F as it is. After the last, theta is proportional to time,
    psi to its square root, as far as the conditions of :func:`fit` allow, and rho stays.

    Examples
    --------
    >>> from volscen import ssvi
    >>> slices = [[0.01, -0.5, 0.10], [0.02, -0.4, 0.15]]
    >>> ssvi.at(slices, [0.25, 0.5], [0.25, 0.375, 1.0]).round(6).tolist()
    [[0.01, -0.5, 0.1], [0.015, -0.44, 0.125], [0.04, -0.4, 0.212132]]
    """
    theta, rho, psi = _columns(parameters)
    known = increasing_positive("tau", tau)
    wanted = float_array("times", times)
    if wanted.ndim > 1 or not (np.isfinite(wanted).all() and (wanted > 0).all()):
        raise InputError(f"times must be positive and finite numbers, of one dimension at most, not {times!r}")
    if theta.ndim == 0 or theta.shape[-1] != known.size:
        raise InputError(f"parameters {np.shape(parameters)} must have the shape (..., {known.size}, 3), as tau has")
    if not all(np.isfinite(column).all() for column in (theta, rho, psi)):
        raise InputError("parameters must be finite; drop maturities without quotes (status NO_DATA)")
    t = np.atleast_1d(wanted)
    right = np.clip(np.searchsorted(known, t), 0, known.size - 1)
    left = np.maximum(right - 1, 0)
    gap = known[right] - known[left]
    share = np.clip(np.divide(t - known[left], gap, out=np.ones(t.shape), where=gap > 0), 0, 1)
    share[t <= known[0]] = 1.0
    right[t <= known[0]] = 0

    def between(column: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((1 - share) * column[..., left] + share * column[..., right])

    ratio = np.where(t < known[0], t / known[0], np.maximum(t / known[-1], 1.0))
    new_theta, new_psi, skew = between(theta), between(psi), between(rho * psi)
    new_rho = np.divide(skew, new_psi, out=np.zeros(skew.shape), where=new_psi > 0)
    new_theta *= ratio
    most = np.maximum(_steepest(new_theta, new_rho), new_psi)
    new_psi = np.where(t < known[0], new_psi * ratio, np.minimum(new_psi * np.sqrt(ratio), most))
    out = np.stack([new_theta, new_rho, new_psi], axis=-1)
    return out[..., 0, :] if wanted.ndim == 0 else out

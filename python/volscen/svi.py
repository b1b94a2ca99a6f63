"""Raw-SVI slices of total implied variance: fit to quotes, value, implied vol, Durrleman's function, other forms.

A slice is w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2)), with k = ln(K/F) and w = vol^2 tau
(J. Gatheral, 2004). Parameters lie in the last axis in the order a, b, rho, m, sigma. They are of *total*
variance: a and b of a slice fitted to vol^2 instead are these over tau; rho, m and sigma are the same.

>>> import numpy as np
>>> from volscen import svi
>>> k = np.linspace(-0.4, 0.3, 15)
>>> w = svi.total_variance([0.02, 0.1, -0.4, 0.05, 0.2], k)
>>> svi.fit(k, w).parameters.round(6).tolist()
[0.02, 0.1, -0.4, 0.05, 0.2]
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from ._array import broadcast, float_array, thread_count
from ._svi_forms import jump_wings_to_raw, natural_to_raw, raw_to_jump_wings, raw_to_natural
from .errors import InputError

__all__ = [
    "SVIFit",
    "SVIStatus",
    "durrleman_g",
    "fit",
    "implied_vol",
    "jump_wings_to_raw",
    "natural_to_raw",
    "raw_to_jump_wings",
    "raw_to_natural",
    "total_variance",
]


# Far beyond any market; within them no product in the fit overflows.
_K_LIMIT = 1e3
_W_LIMITS = (1e-30, 1e6)


class SVIStatus(enum.IntEnum):
    """What :func:`fit` found for one slice."""

    OK = 0
    #: Fewer than five distinct strikes: fitted with fewer free parameters, as :func:`fit` says.
    REDUCED = 1
    #: No quote with a positive weight; parameters and error are NaN.
    NO_DATA = 2


@dataclass(frozen=True)
class SVIFit:
    """Fitted slices.

    Attributes
    ----------
    parameters
        Raw-SVI a, b, rho, m, sigma of each slice, shape (..., 5).
    rmse
        Weighted root-mean-square error in total variance, shape (...,).
    status
        :class:`SVIStatus` of each slice, shape (...,).
    """

    parameters: NDArray[np.float64]
    rmse: NDArray[np.float64]
    status: NDArray[np.int8]


def fit(
    log_moneyness: ArrayLike,
    total_variance: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    start: ArrayLike | None = None,
    butterfly: bool = True,
    num_threads: int | None = None,
) -> SVIFit:
    """Fit raw-SVI slices to total variances by weighted least squares.

    Parameters
    ----------
    log_moneyness
        k = ln(K/F) of the quotes, shape (..., n), in any order, within 1000 of 0.
    total_variance
        w = vol^2 tau of the quotes, shape (..., n), positive (1e-30 to 1e6).
    weight
        Weight of each squared error, zero or more, shape (..., n); equal weights by default. A quote of weight
        zero is ignored, whatever its other values (padding of short slices); so is one below 1e-30 of the
        heaviest. To weigh errors of vol instead of total variance, divide their weights by (2 vol tau)^2.
    start
        Raw-SVI parameters to start from, such as yesterday's, shape (..., 5) or one that broadcasts to it. A
        slice of NaN stands for none. Slices with fewer than five strikes need none and ignore it.
    butterfly
        Whether slices must be free of butterfly arbitrage. False gives the plain least-squares slice, with
        b >= 0 and -1 <= rho <= 1 only.
    num_threads
        Threads to use, one by default. The result is the same for any number.

    Returns
    -------
    SVIFit
        Parameters, errors and statuses.

    Raises
    ------
    InputError
        When a quote of positive weight lies outside those ranges or is NaN, a weight is negative or not finite,
        a start is no slice, or shapes do not broadcast together.

    Notes
    -----
    *Search.* For given m and sigma the slice is linear in the other three, which are solved exactly on the cone
    b >= 0, -1 <= rho <= 1 (Zeliade Systems 2009). The error is evaluated on a grid of 9 values of m, within two
    half-widths of the strike range from its middle, times 8 of sigma, from 0.027 to 6 half-widths; the best m of
    each sigma is improved by six Levenberg-Marquardt steps, and the leading basins are polished until the error
    moves by less than 1e-9 of itself. Where the best bends within 0.03 half-widths, the gaps between strikes are
    searched as well, by 96 values of m at sigma = 0.01 half-widths. m stays within 4 half-widths of the middle, sigma
    between 0.01 and 20 half-widths: minima beyond the range of strikes, nearly linear and nearly parabolic slices lie
    within.

    *Arbitrage.* With ``butterfly`` every slice satisfies Durrleman's condition g(k) >= 0 on the whole line. g is
    kept above 1e-7 at 256 points k = m + sigma sinh(u) to 1e8 sigma on both sides, at 192 more around the
    minimum where a < 0 and the slice turns sharply there, and at points ever closer around each low place of g;
    beyond, where the slice is two lines, by a closed form and Lee's bound b (1 + abs(rho)) < 2. Also w >= 0.001
    times the smallest variance quoted. Where the least-squares slice breaks these conditions it is fitted again under
    them, by sequential quadratic programming from that slice and from the eight of the grid.

    *Warm start.* The fit from ``start`` is kept when no slice of the grid is better (with ``butterfly``: none that
    obeys the conditions); otherwise the fit is that without ``start``. So it is never worse than the grid, and a
    poor start costs time only; but it may stay in another basin than the full search would find.

    *Few quotes.* Slices with fewer than five distinct strikes have fewer free parameters and the status
    ``REDUCED``: with four, sigma is half the width of the strike range; with three, m is also its middle; with one
    or two, the slice is flat at the weighted mean. The conditions hold there too.

    Examples
    --------
    >>> from volscen import svi
    >>> k = [-0.2, -0.1, 0.0, 0.1, 0.2, 0.3]
    >>> slice_ = svi.fit(k, [0.060, 0.051, 0.043, 0.039, 0.038, 0.041])
    >>> bool(slice_.rmse < 1e-3), svi.SVIStatus(slice_.status).name
    (True, 'OK')
    """
    threads = thread_count(num_threads)
    names = ("log_moneyness", "total_variance", "weight")
    values = (log_moneyness, total_variance, 1.0 if weight is None else weight)
    operands = {name: float_array(name, value) for name, value in zip(names, values, strict=True)}
    k, w, weights = broadcast(operands)
    if k.ndim == 0:
        raise InputError("log_moneyness and total_variance must have an axis of quotes")
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
    if weights.size:
        # What cannot change a sum in double precision cannot determine a parameter either.
        weights = np.where(weights < 1e-30 * weights.max(axis=-1, keepdims=True), 0.0, weights)
    lead = k.shape[:-1]
    count = int(np.prod(lead, dtype=np.int64))
    k, w, weights = (np.ascontiguousarray(operand).reshape(count, k.shape[-1]) for operand in (k, w, weights))
    warm = np.empty((0, 5)) if start is None else _starts(start, lead).reshape(count, 5)
    parameters, rmse, status = _core.svi_fit(k, w, weights, warm, butterfly, threads)
    return SVIFit(parameters.reshape((*lead, 5)), rmse.reshape(lead)[()], status.reshape(lead)[()])


def _starts(start: ArrayLike, lead: tuple[int, ...]) -> NDArray[np.float64]:
    """Slices to start from, shape (*lead, 5); zeros stand for none."""
    table = float_array("start", start)
    try:
        table = np.broadcast_to(table, (*lead, 5))
    except ValueError:
        raise InputError(f"start {table.shape} does not broadcast to {(*lead, 5)}, a slice for each to fit") from None
    none = np.asarray(np.isnan(table).any(axis=-1))
    with np.errstate(invalid="ignore"):
        slices = (table[..., 1] >= 0) & (np.abs(table[..., 2]) <= 1) & (table[..., 4] > 0)
    if not (none | (slices & np.isfinite(table).all(axis=-1))).all():
        raise InputError("start must have b >= 0, -1 <= rho <= 1 and sigma > 0, all finite; a slice of NaN is none")
    return np.ascontiguousarray(np.where(none[..., np.newaxis], 0.0, table))


def _terms(parameters: ArrayLike, log_moneyness: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    """k, w and its first two derivatives."""
    table = float_array("parameters", parameters)
    k = float_array("log_moneyness", log_moneyness)
    if table.ndim == 0 or table.shape[-1] != 5:
        raise InputError(f"parameters must end in an axis of 5 (a, b, rho, m, sigma), not shape {table.shape}")
    a, b, rho, m, sigma = (table[..., i] if k.ndim == 0 else table[..., i, np.newaxis] for i in range(5))
    try:
        x = k - m
    except ValueError:
        raise InputError(
            f"log_moneyness {k.shape} does not broadcast with parameters {table.shape[:-1]} and an axis of strikes"
        ) from None
    root = np.hypot(x, sigma)
    with np.errstate(divide="ignore", invalid="ignore"):
        return k, a + b * (rho * x + root), b * (rho + x / root), b * (sigma / root) ** 2 / root


def total_variance(parameters: ArrayLike, log_moneyness: ArrayLike) -> Any:
    """Total variance of slices.

    Parameters
    ----------
    parameters
        Raw-SVI parameters, shape (..., 5).
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
    >>> from volscen import svi
    >>> svi.total_variance([0.02, 0.1, -0.4, 0.0, 0.1], [-0.1, 0.0, 0.1]).round(6).tolist()
    [0.038142, 0.03, 0.030142]
    """
    return _terms(parameters, log_moneyness)[1]


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
        When shapes do not fit, tau is not positive, or a slice is negative at one of the strikes.

    Examples
    --------
    >>> from volscen import svi
    >>> svi.implied_vol([0.02, 0.1, -0.4, 0.0, 0.1], [-0.1, 0.0, 0.1], 0.5).round(6).tolist()
    [0.276196, 0.244949, 0.245529]
    """
    years = float_array("tau", tau)
    if not (np.isfinite(years).all() and (years > 0).all()):
        raise InputError("tau must be positive and finite")
    k = float_array("log_moneyness", log_moneyness)
    w = total_variance(parameters, k)
    if (w < 0).any():
        raise InputError("parameters give a negative total variance; fit with butterfly=True")
    try:
        return np.sqrt(w / (years if k.ndim == 0 else years[..., np.newaxis]))
    except ValueError:
        raise InputError(f"tau {years.shape} does not broadcast with slices {np.shape(w)[:-1]}") from None


def durrleman_g(parameters: ArrayLike, log_moneyness: ArrayLike) -> Any:
    """Durrleman's function of slices, which is negative where there is butterfly arbitrage.

    Parameters
    ----------
    parameters, log_moneyness
        As for :func:`total_variance`.

    Returns
    -------
    numpy.ndarray
        g(k) = (1 - k w'/(2 w))^2 - (w'^2/4)(1/w + 1/4) + w''/2, shape (..., n).

    Raises
    ------
    InputError
        When shapes do not fit.

    Notes
    -----
    J. Gatheral and A. Jacquier (2014), "Arbitrage-free SVI volatility surfaces", Quantitative Finance 14, eq. (2.1).

    Examples
    --------
    >>> from volscen import svi
    >>> bool(svi.durrleman_g([-0.0410, 0.1331, 0.3060, 0.3586, 0.4153], 0.8) < 0)  # Axel Vogt's slice
    True
    """
    k, w, first, second = _terms(parameters, log_moneyness)
    with np.errstate(divide="ignore", invalid="ignore"):
        lead = 1.0 - k * first / (2.0 * w)
        return lead * lead - first * first / 4.0 * (1.0 / w + 0.25) + second / 2.0

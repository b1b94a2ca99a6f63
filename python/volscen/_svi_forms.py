"""Raw, natural and jump-wings parameters of SVI slices (Gatheral and Jacquier 2014)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._array import float_array
from .errors import InputError

__all__ = ["jump_wings_to_raw", "natural_to_raw", "raw_to_jump_wings", "raw_to_natural"]

_Float = NDArray[np.float64]


def _columns(name: str, values: ArrayLike, letters: str) -> tuple[_Float, ...]:
    table = float_array(name, values)
    if table.ndim == 0 or table.shape[-1] != 5:
        raise InputError(f"{name} must end in an axis of 5 ({letters}), not shape {table.shape}")
    if not np.isfinite(table).all():
        raise InputError(f"{name} must be finite; leave out slices that were not fitted")
    return tuple(table[..., i] for i in range(5))


def _raw(parameters: ArrayLike) -> tuple[_Float, ...]:
    columns = _columns("parameters", parameters, "a, b, rho, m, sigma")
    _, b, rho, _, sigma = columns
    if not ((b >= 0).all() and (np.abs(rho) <= 1).all() and (sigma > 0).all()):
        raise InputError("parameters must have b >= 0, -1 <= rho <= 1 and sigma > 0")
    return columns


def _years(tau: ArrayLike, shape: tuple[int, ...]) -> _Float:
    years = float_array("tau", tau)
    if not (np.isfinite(years).all() and (years > 0).all()):
        raise InputError("tau must be positive and finite")
    try:
        np.broadcast_shapes(years.shape, shape)
    except ValueError:
        raise InputError(f"tau {years.shape} does not broadcast with slices {shape}") from None
    return years


def _stack(*columns: _Float) -> _Float:
    return np.stack(np.broadcast_arrays(*columns), axis=-1)


def raw_to_natural(parameters: ArrayLike) -> _Float:
    """Natural parameters of raw slices.

    Parameters
    ----------
    parameters
        Raw a, b, rho, m, sigma, shape (..., 5), with -1 < rho < 1 and sigma > 0.

    Returns
    -------
    numpy.ndarray
        delta, mu, rho, omega, zeta, shape (..., 5), of
        w(k) = delta + omega/2 (1 + zeta rho (k - mu) + sqrt((zeta (k - mu) + rho)^2 + 1 - rho^2)).

    Raises
    ------
    InputError
        When the axis of parameters is missing, a value is not finite or out of range, or rho is -1 or 1, where
        zeta would be 0 and omega infinite.

    Notes
    -----
    J. Gatheral and A. Jacquier (2014), "Arbitrage-free SVI volatility surfaces", Quantitative Finance 14, section 3.2.

    Examples
    --------
    >>> from volscen import svi
    >>> svi.raw_to_natural([0.04, 0.2, -0.6, 0.3, 0.4]).round(12).tolist()
    [-0.024, 0.0, -0.6, 0.2, 2.0]
    """
    a, b, rho, m, sigma = _raw(parameters)
    if not (np.abs(rho) < 1).all():
        raise InputError("parameters with rho = -1 or 1 have no natural form; keep them raw")
    root = np.sqrt((1 - rho) * (1 + rho))
    omega = 2 * b * sigma / root
    return _stack(a - omega / 2 * root**2, m + rho * sigma / root, rho, omega, root / sigma)


def natural_to_raw(natural: ArrayLike) -> _Float:
    """Raw parameters of natural slices.

    Parameters
    ----------
    natural
        delta, mu, rho, omega, zeta as :func:`raw_to_natural` gives them, shape (..., 5), with omega >= 0,
        -1 < rho < 1 and zeta > 0.

    Returns
    -------
    numpy.ndarray
        Raw a, b, rho, m, sigma, shape (..., 5).

    Raises
    ------
    InputError
        When the axis of parameters is missing, or a value is not finite or out of range.

    Examples
    --------
    >>> from volscen import svi
    >>> svi.natural_to_raw([-0.024, 0.0, -0.6, 0.2, 2.0]).round(12).tolist()
    [0.04, 0.2, -0.6, 0.3, 0.4]
    """
    delta, mu, rho, omega, zeta = _columns("natural", natural, "delta, mu, rho, omega, zeta")
    if not ((omega >= 0).all() and (np.abs(rho) < 1).all() and (zeta > 0).all()):
        raise InputError("natural must have omega >= 0, -1 < rho < 1 and zeta > 0")
    root = np.sqrt((1 - rho) * (1 + rho))
    return _stack(delta + omega / 2 * root**2, omega * zeta / 2, rho, mu - rho / zeta, root / zeta)


def raw_to_jump_wings(parameters: ArrayLike, tau: ArrayLike) -> _Float:
    """Jump-wings parameters of raw slices: figures of the smile a trader would quote.

    Parameters
    ----------
    parameters
        Raw a, b, rho, m, sigma, shape (..., 5).
    tau
        Time to expiry of each slice in years, positive, shape (...).

    Returns
    -------
    numpy.ndarray
        v, psi, p, c, v_min, shape (..., 5): variance a year at the money w(0)/tau; skew of vol at the money, times
        sqrt(tau); slopes of the left and of the right wing over sqrt(w(0)); and the least variance a year.

    Raises
    ------
    InputError
        When shapes do not fit, a value is not finite or out of range, or a slice has w(0) <= 0.

    Notes
    -----
    J. Gatheral and A. Jacquier (2014), "Arbitrage-free SVI volatility surfaces", Quantitative Finance 14, eq. (3.5).

    Examples
    --------
    >>> from volscen import svi
    >>> svi.raw_to_jump_wings([0.04, 0.2, -0.6, 0.3, 0.4], 0.5).round(6).tolist()
    [0.352, -0.286039, 0.76277, 0.190693, 0.208]
    """
    a, b, rho, m, sigma = _raw(parameters)
    years = _years(tau, a.shape)
    distance = np.hypot(m, sigma)
    at_the_money = a + b * (distance - rho * m)
    if not (at_the_money > 0).all():
        raise InputError("parameters must have w(0) > 0: jump-wings parameters are measured against it")
    root = np.sqrt(at_the_money)
    least = a + b * sigma * np.sqrt((1 - rho) * (1 + rho))
    return _stack(
        at_the_money / years,
        b * (rho - m / distance) / (2 * root),
        b * (1 - rho) / root,
        b * (1 + rho) / root,
        least / years,
    )


def jump_wings_to_raw(jump_wings: ArrayLike, tau: ArrayLike) -> _Float:
    """Raw parameters of jump-wings slices.

    Parameters
    ----------
    jump_wings
        v, psi, p, c, v_min as :func:`raw_to_jump_wings` gives them, shape (..., 5), with v > v_min, v > 0, p >= 0,
        c >= 0 and -p < 2 psi < c.
    tau
        Time to expiry of each slice in years, positive, shape (...).

    Returns
    -------
    numpy.ndarray
        Raw a, b, rho, m, sigma, shape (..., 5).

    Raises
    ------
    InputError
        When shapes do not fit, or a value is not finite or out of range. A flat slice, and one with its minimum
        at the money (v = v_min, psi = 0), have lost what would tell sigma: keep those raw.

    Notes
    -----
    J. Gatheral and A. Jacquier (2014), Lemma 3.2, written with the angles of rho = sin(x) and
    m/sqrt(m^2 + sigma^2) = sin(y), which needs no special case at m = 0. Digits are lost as the minimum comes
    near the money: their number falls with (x - y)^2.

    Examples
    --------
    >>> from volscen import svi
    >>> svi.jump_wings_to_raw(svi.raw_to_jump_wings([0.04, 0.2, -0.6, 0.3, 0.4], 0.5), 0.5).round(9).tolist()
    [0.04, 0.2, -0.6, 0.3, 0.4]
    """
    v, psi, p, c, least = _columns("jump_wings", jump_wings, "v, psi, p, c, v_min")
    years = _years(tau, v.shape)
    if not ((v > 0).all() and (p >= 0).all() and (c >= 0).all()):
        raise InputError("jump_wings must have v > 0, p >= 0 and c >= 0")
    if not ((-p < 2 * psi) & (2 * psi < c)).all():
        raise InputError("jump_wings must have -p < 2 psi < c: the skew lies between the slopes of the wings")
    if not (v > least).all():
        raise InputError("jump_wings must have v > v_min; where the minimum is at the money, keep the raw parameters")
    root = np.sqrt(v * years)
    b = root * (c + p) / 2
    rho = (c - p) / (c + p)
    beta = rho - 4 * psi / (c + p)  # m/sqrt(m^2 + sigma^2)
    angle = np.arcsin(rho) - np.arcsin(beta)
    if not (angle != 0).all():
        raise InputError("jump_wings with psi = 0 must have v = v_min, and then do not tell sigma: keep them raw")
    distance = (v - least) * years / (2 * b * np.sin(angle / 2) ** 2)
    sigma = distance * np.sqrt((1 - beta) * (1 + beta))
    return _stack(least * years - b * sigma * np.sqrt((1 - rho) * (1 + rho)), b, rho, beta * distance, sigma)

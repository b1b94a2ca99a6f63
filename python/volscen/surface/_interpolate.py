"""Interpolation of implied-volatility surfaces between the points of a grid.

One rule everywhere: total variance is linear in time to expiry at every grid moneyness, then volatility is
linear in log-moneyness within that slice; outside the grid volatility stays flat.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen import schema
from volscen.errors import InputError

__all__ = ["bracket", "interpolate_vol", "is_off_grid", "slice_at", "vol_on_slice"]

FloatArray = npt.NDArray[np.float64]

#: A query this close to the end of a grid, relatively, counts as on it.
EDGE_RTOL = 1e-9


def interpolate_vol(
    implied_vol: npt.ArrayLike,
    tau: npt.ArrayLike,
    moneyness: npt.ArrayLike,
    tau_query: npt.ArrayLike,
    moneyness_query: npt.ArrayLike,
) -> FloatArray:
    """Implied volatility between the points of a grid, for one surface or many.

    Parameters
    ----------
    implied_vol : array_like, shape (..., J, I)
        Surfaces; positive decimals.
    tau : array_like, shape (J,)
        Times to expiry in years, strictly increasing.
    moneyness : array_like, shape (I,)
        K/F, strictly increasing.
    tau_query : array_like, shape () or (Q,)
        Positive times to expiry in years.
    moneyness_query : array_like, shape (), (Q,) or (..., Q)
        Positive K/F; with leading dimensions each surface is asked at points of its own.

    Returns
    -------
    ndarray, shape (..., Q), or (...) when both queries are scalars
        Implied volatility at (tau_query[q], moneyness_query[..., q]).

    Raises
    ------
    InputError
        If a grid is not increasing, shapes do not fit, or a query is not positive and finite.

    Notes
    -----
    Total variance linear in tau between the neighbouring grid maturities, at each grid moneyness; then
    volatility linear in ln(K/F). Before the first and after the last maturity, and left and right of the
    moneyness grid, volatility is flat. :func:`is_off_grid` says where that happens.

    Examples
    --------
    >>> from volscen.surface._interpolate import interpolate_vol
    >>> surface = [[0.20, 0.10], [0.40, 0.20]]  # tau 1 and 2, moneyness 1 and e
    >>> interpolate_vol(surface, [1.0, 2.0], [1.0, 2.718281828459045], 1.0, 1.6487212707001282).round(6)
    np.float64(0.15)
    """
    tau, moneyness = schema.check_grid(tau, "tau"), schema.check_grid(moneyness, "moneyness")
    vol = np.asarray(implied_vol, dtype=np.float64)
    if vol.shape[-2:] != (tau.size, moneyness.size):
        raise InputError(
            f"implied_vol must end in axes (tau, moneyness) = {(tau.size, moneyness.size)}, not {vol.shape}"
        )
    t, m = np.asarray(tau_query, dtype=np.float64), np.asarray(moneyness_query, dtype=np.float64)
    for name, query in (("tau_query", t), ("moneyness_query", m)):
        if not np.all(np.isfinite(query)) or np.any(query <= 0):
            raise InputError(f"{name} must hold positive finite numbers")
    if t.ndim > 1:
        raise InputError(f"tau_query must be a scalar or one-dimensional, not shape {t.shape}")
    scalar = t.ndim == 0 and m.ndim == 0
    lead = vol.shape[:-2]
    try:
        (n,) = np.broadcast_shapes(t.shape, m.shape[-1:], (1,))
        t = np.broadcast_to(t, (n,))
        k = np.broadcast_to(np.log(m), (*lead, n))
    except ValueError:
        raise InputError(
            f"queries of shapes {np.shape(tau_query)}, {m.shape} do not fit surfaces of leading shape {lead}"
        ) from None
    count = math.prod(lead)
    surfaces, k = vol.reshape(count, tau.size, moneyness.size), k.reshape(count, n)
    log_moneyness = np.log(moneyness)
    out = np.empty((count, n))
    for value in np.unique(t):
        columns = np.flatnonzero(t == value)
        out[:, columns] = vol_on_slice(slice_at(surfaces, tau, float(value)), log_moneyness, k[:, columns])
    out = out.reshape(*lead, n)
    return out[..., 0] if scalar else out


def bracket(tau: FloatArray, query: float) -> tuple[int, int, float]:
    """Neighbouring grid positions of a maturity and the share of the right one; the same twice if off it."""
    if query <= tau[0]:
        return 0, 0, 0.0
    if query >= tau[-1]:
        return tau.size - 1, tau.size - 1, 0.0
    left = int(np.searchsorted(tau, query, side="right")) - 1
    return left, left + 1, float((query - tau[left]) / (tau[left + 1] - tau[left]))


def slice_at(implied_vol: npt.NDArray[Any], tau: FloatArray, query: float) -> FloatArray:
    """Slices (n, I) of surfaces (n, J, I) at one maturity: total variance linear in tau, flat vol outside."""
    left, right, share = bracket(tau, query)
    near = implied_vol[:, left].astype(np.float64)
    if share == 0:
        return near
    far = implied_vol[:, right].astype(np.float64)
    np.square(near, out=near)
    near *= (1 - share) * tau[left] / query
    np.square(far, out=far)
    far *= share * tau[right] / query
    near += far
    return np.asarray(np.sqrt(near, out=near))


def vol_on_slice(vol: FloatArray, log_moneyness: FloatArray, query: FloatArray) -> FloatArray:
    """Volatility of n slices (n, I) at log-moneyness (n, Q): linear, flat outside."""
    n, size = vol.shape
    if size == 1:
        return np.repeat(vol, query.shape[1], axis=1)
    left = np.searchsorted(log_moneyness, query, side="right")
    left -= 1
    np.clip(left, 0, size - 2, out=left)
    share = query - log_moneyness[left]
    share *= (1 / np.diff(log_moneyness))[left]
    np.clip(share, 0, 1, out=share)
    left += np.arange(0, n * size, size)[:, None]  # positions in the flattened slices
    flat = np.ravel(vol)
    out = flat[left]
    left += 1
    step = flat[left]
    step -= out
    step *= share
    out += step
    return out


def is_off_grid(
    tau: FloatArray, moneyness: FloatArray, tau_query: npt.ArrayLike, moneyness_query: npt.ArrayLike
) -> npt.NDArray[np.bool_]:
    """Whether points lie outside the grid, so that volatility is extrapolated; queries broadcast together."""
    t, m = np.asarray(tau_query), np.asarray(moneyness_query)
    outside_tau = (t < tau[0] * (1 - EDGE_RTOL)) | (t > tau[-1] * (1 + EDGE_RTOL))
    outside_moneyness = (m < moneyness[0] * (1 - EDGE_RTOL)) | (m > moneyness[-1] * (1 + EDGE_RTOL))
    return np.asarray(outside_tau | outside_moneyness)

"""Interpolation of implied-volatility surfaces between the points of a grid.

One rule everywhere, in the compiled core: total variance is linear in time to expiry at every grid moneyness,
then volatility is linear in log-moneyness within that slice; what happens outside the grid is chosen.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from volscen import _core
from volscen._array import extrapolation_code, float_array, increasing_positive, surfaces_array, thread_count
from volscen._tenors import to_years
from volscen.errors import InputError

__all__ = ["interpolate_vol", "is_off_grid", "slice_at", "vol_on_slice"]

FloatArray = npt.NDArray[np.float64]

#: A query this close to the end of a grid, relatively, counts as on it.
EDGE_RTOL = 1e-9
#: A maturity this close to the end of a grid, in years, is flagged as on it: three months are 91 days or 91.25.
EDGE_YEARS = 0.5 / 365


def interpolate_vol(
    implied_vol: npt.ArrayLike,
    tau: npt.ArrayLike,
    moneyness: npt.ArrayLike,
    tau_query: npt.ArrayLike,
    moneyness_query: npt.ArrayLike,
    *,
    extrapolation: str = "flat_vol",
    num_threads: int | None = None,
) -> FloatArray:
    """Implied volatility between the points of a grid, for one surface or many.

    Parameters
    ----------
    implied_vol : array_like, shape (..., J, I)
        Surfaces; positive decimals, float32 or float64, with any strides.
    tau : array_like, shape (J,)
        Times to expiry in years, positive and strictly increasing, or tenors such as "3M" (a day is 1/365 of a
        year, a week 7/365, a month 1/12).
    moneyness : array_like, shape (I,)
        K/F, positive and strictly increasing.
    tau_query : array_like, shape () or (Q,)
        Positive times to expiry in years, or tenors.
    moneyness_query : array_like, shape (), (Q,) or (..., Q)
        Positive K/F; with leading dimensions each surface is asked at points of its own.
    extrapolation : {"flat_vol", "flat_total_variance", "linear"}
        What holds outside the grid; see Notes.
    num_threads : int, optional
        Threads to use, one by default. The result is the same for any number.

    Returns
    -------
    ndarray, shape (..., Q), or (...) when both queries are scalars
        Implied volatility at (tau_query[q], moneyness_query[..., q]).

    Raises
    ------
    InputError
        If a grid is not increasing, shapes do not fit, a volatility or a query is not positive and finite, or
        ``extrapolation`` names no rule.

    Notes
    -----
    Total variance w = sigma^2 tau is linear in tau between the neighbouring grid maturities, at each grid
    moneyness; then volatility is linear in k = ln(K/F). Outside the grid:

    ``"flat_vol"``
        The volatility of the nearest maturity and of the nearest moneyness.
    ``"flat_total_variance"``
        The total variance of the nearest maturity, so that volatility grows like tau^(-1/2) towards expiry;
        in moneyness the same as ``"flat_vol"``.
    ``"linear"``
        Total variance goes on linearly and never falls. In tau: from zero at no time left up to the first
        maturity, which is flat volatility there, and beyond the last with the forward variance between the
        last two (none where that is negative). In k: with its slope at the edge, as far as it rises outwards,
        and at most 2, the bound of R. Lee (2004), "The moment formula for implied volatility at extreme
        strikes", Mathematical Finance 14. With a single maturity or moneyness it is flat.

    Examples
    --------
    >>> from volscen.surface import interpolate_vol
    >>> surface = [[0.20, 0.10], [0.40, 0.20]]  # tau 1 and 2, moneyness 1 and e
    >>> interpolate_vol(surface, [1.0, 2.0], [1.0, 2.718281828459045], 1.0, 1.6487212707001282).round(6)
    np.float64(0.15)
    >>> interpolate_vol(surface, [1.0, 2.0], [1.0, 2.718281828459045], [2.0, 3.0], 1.0, extrapolation="linear")
    array([0.4      , 0.4472136])
    """
    grid_tau = increasing_positive("tau", to_years("tau", tau))
    grid_moneyness = increasing_positive("moneyness", moneyness)
    code, threads = extrapolation_code(extrapolation), thread_count(num_threads)
    vol = surfaces_array("implied_vol", implied_vol, (grid_tau.size, grid_moneyness.size))
    t = float_array("tau_query", to_years("tau_query", tau_query))
    m = float_array("moneyness_query", moneyness_query)
    for name, query in (("tau_query", t), ("moneyness_query", m)):
        if not np.all(np.isfinite(query)) or np.any(query <= 0):
            raise InputError(f"{name} must hold positive finite numbers")
    if t.ndim > 1:
        raise InputError(f"tau_query must be a scalar or one-dimensional, not shape {t.shape}")
    scalar = t.ndim == 0 and m.ndim == 0
    lead = vol.shape[:-2]
    count = math.prod(lead)
    try:
        (n,) = np.broadcast_shapes(t.shape, m.shape[-1:], (1,))
        t = np.broadcast_to(t, (n,))
        m = np.broadcast_to(m, (*lead, n)).reshape(count, n) if m.ndim > 1 else np.broadcast_to(m, (1, n))
    except ValueError:
        raise InputError(
            f"queries of shapes {np.shape(tau_query)}, {m.shape} do not fit surfaces of leading shape {lead}"
        ) from None
    surfaces = vol.reshape(count, grid_tau.size, grid_moneyness.size)
    out = _core.interpolate_vol(surfaces, grid_tau, grid_moneyness, t, m, code, threads).reshape(*lead, n)
    return out[..., 0] if scalar else out


def slice_at(implied_vol: npt.NDArray[np.floating], tau: FloatArray, query: float) -> FloatArray:
    """Slices (n, I) of surfaces (n, J, I) at one maturity, unchecked; flat volatility outside the grid."""
    columns = np.arange(1.0, implied_vol.shape[2] + 1)
    return _core.interpolate_vol(implied_vol, tau, columns, np.full(columns.size, query), columns[None], 0, 1)


def vol_on_slice(vol: FloatArray, log_moneyness: FloatArray, query: FloatArray) -> FloatArray:
    """Volatility of n slices (n, I) at log-moneyness (n, Q), unchecked; flat outside the grid."""
    one = np.ones(1)
    t = np.ones(query.shape[1])
    return _core.interpolate_vol(vol[:, None], one, np.exp(log_moneyness), t, np.exp(query), 0, 1)


def is_off_grid(
    tau: FloatArray, moneyness: FloatArray, tau_query: npt.ArrayLike, moneyness_query: npt.ArrayLike
) -> npt.NDArray[np.bool_]:
    """Whether points lie outside the grid, by more than half a day; queries broadcast together."""
    t, m = np.asarray(tau_query), np.asarray(moneyness_query)
    slack = EDGE_YEARS * (1 + EDGE_RTOL)
    outside_tau = (t < tau[0] - slack) | (t > tau[-1] + slack)
    outside_moneyness = (m < moneyness[0] * (1 - EDGE_RTOL)) | (m > moneyness[-1] * (1 + EDGE_RTOL))
    return np.asarray(outside_tau | outside_moneyness)

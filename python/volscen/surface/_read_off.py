"""Surfaces on a grid read off at other strikes and times, many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen import _core
from volscen._array import extrapolation_code
from volscen.errors import InputError
from volscen.surface._delta import quantile_of_call_delta, solve_rising
from volscen.surface._interpolate import interpolate_vol
from volscen.surface._points import Columns

__all__ = ["check_found", "product_reader", "smile_reader", "smiles_at_strikes"]

FloatArray = npt.NDArray[np.float64]
Reader = Callable[[npt.NDArray[np.floating]], tuple[npt.NDArray[Any], ...]]


def product_reader(
    grid: tuple[FloatArray, FloatArray], tau: FloatArray, moneyness: FloatArray, extrapolation: str, threads: int | None
) -> Reader:
    """Reader of surfaces (n, J, I) on a grid at the points of another: one array (n, J2, I2)."""
    t, m = np.repeat(tau, moneyness.size), np.tile(moneyness, tau.size)

    def read(vol: npt.NDArray[np.floating]) -> tuple[npt.NDArray[Any], ...]:
        out = interpolate_vol(vol, *grid, t, m, extrapolation=extrapolation, num_threads=threads)
        return (out.reshape(-1, tau.size, moneyness.size).astype(vol.dtype, copy=False),)

    return read


def smile_reader(
    grid: tuple[FloatArray, FloatArray], tau: FloatArray, columns: Columns, extrapolation: str, threads: int | None
) -> Reader:
    """Reader of surfaces (n, J, I) at strikes of their own: vol, K/F, and how many strikes there are, (n, J2, X)."""
    grid_tau, moneyness = grid
    code, root = extrapolation_code(extrapolation), np.sqrt(tau)[:, None]
    t, m = np.repeat(tau, moneyness.size), np.tile(moneyness, tau.size)
    nodes, one = np.log(moneyness), np.ones(1)
    if columns.name == "standardised_moneyness" and not nodes[0] <= 0 <= nodes[-1]:
        raise InputError(
            f"standardised_moneyness needs the volatility at K = F, and ds holds K/F from {moneyness[0]:.4g} to "
            f"{moneyness[-1]:.4g}; take normalised_moneyness"
        )

    def read(vol: npt.NDArray[np.floating]) -> tuple[npt.NDArray[Any], ...]:
        shape = (-1, tau.size, moneyness.size)
        slices = interpolate_vol(vol, grid_tau, moneyness, t, m, extrapolation=extrapolation, num_threads=threads)
        # Of volatility times the root of tau, at a time of 1: the same interpolation, and bound on its wings.
        total = (slices.reshape(shape) * root).reshape(-1, 1, moneyness.size)

        def total_vol(k: FloatArray) -> FloatArray:
            query = np.ascontiguousarray(np.exp(k))
            return _core.interpolate_vol(total, one, moneyness, np.ones(k.shape[1]), query, code, threads or 1)

        rows, n = total.shape[0], columns.values.size
        count = np.ones((rows, n), dtype=np.int8)
        if columns.name == "delta":
            scan = _with_turns(nodes, total[:, 0])
            roots = solve_rising(total_vol, quantile_of_call_delta(columns.values), scan)
            k, count = roots.k, np.minimum(roots.count, 100).astype(np.int8)
            k = np.where(count > 0, k, 0.0)  # judged by the caller, who knows the surface's name
        elif columns.name == "normalised_moneyness":
            k = np.tile(columns.values * root, (rows // tau.size, 1))
        else:
            k = columns.values * total_vol(np.zeros((1, 1)))
        found = (total_vol(k) / np.tile(root, (rows // tau.size, 1))).astype(vol.dtype, copy=False)
        shape = (-1, tau.size, n)
        return found.reshape(shape), np.exp(k).reshape(shape), count.reshape(shape)

    return read


def _with_turns(nodes: FloatArray, s: FloatArray) -> FloatArray:
    """Grid points, and between them the points where d1 turns: shape (R, 2 I - 1).

    With s = a + b k, d1 = -k/s + s/2 has the slope b/2 - a/s^2, which is zero at most once.
    """
    if nodes.size < 2:
        return nodes
    b = np.diff(s, axis=1) / np.diff(nodes)
    a = s[:, :-1] - b * nodes[:-1]
    turns = (b > 0) & (a > 0)
    at = np.divide(
        np.sqrt(np.divide(2 * a, b, out=np.ones(b.shape), where=turns)) - a, b, out=np.zeros(b.shape), where=turns
    )
    inside = turns & (at > nodes[:-1]) & (at < nodes[1:])
    out = np.empty((s.shape[0], 2 * nodes.size - 1))
    out[:, ::2] = nodes
    out[:, 1::2] = np.where(inside, at, nodes[:-1])
    return out


def smiles_at_strikes(vol: FloatArray, k: FloatArray, wanted: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Volatility of smiles at other log-moneyness, linear between their points and flat outside; and where outside.

    Parameters
    ----------
    vol, k : ndarray, shape (R, X)
        Volatility by increasing log-moneyness.
    wanted : ndarray, shape (I,)

    Returns
    -------
    vol, outside : ndarray, shape (R, I)
    """
    if k.shape[1] == 1:
        return np.repeat(vol, wanted.size, axis=1), np.abs(wanted - k) > 1e-9
    right = np.clip((k[:, None, :] <= wanted[None, :, None]).sum(axis=-1), 1, k.shape[1] - 1)
    k0, k1, v0, v1 = (np.take_along_axis(table, at, axis=1) for table in (k, vol) for at in (right - 1, right))
    share = np.clip((wanted - k0) / (k1 - k0), 0.0, 1.0)
    return v0 + share * (v1 - v0), (wanted < k[:, :1] - 1e-9) | (wanted > k[:, -1:] + 1e-9)


def check_found(
    count: npt.NDArray[np.integer], tau: FloatArray, columns: Columns, several: str, name: Callable[..., str]
) -> None:
    """Refuse deltas met at no strike, or at several unless the nearest is wanted.

    Parameters
    ----------
    count : ndarray, shape (..., J, X)
    name : callable
        Name of the surface with some leading indices.
    """
    bad = (count == 0) | ((count > 1) & (several == "raise"))
    if not bad.any():
        return
    *lead, j, i = (int(x) for x in np.argwhere(bad)[0])
    number = int(count[(*lead, j, i)])
    where = f"{columns.describe(i)} at tau {tau[j]:.4g}{name(*lead)}"
    if number:
        raise InputError(
            f"{where} is met at {number} strikes: the smile has butterfly arbitrage; several='nearest' takes the one "
            "nearest the money"
        )
    raise InputError(f"{where} is met at no strike: volatility rises too fast in the wing; use a delta nearer 0.5")

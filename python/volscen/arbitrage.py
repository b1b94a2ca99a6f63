"""Static-arbitrage penalty of implied-volatility surfaces on a grid, its gradient, and the nearest surface without.

The penalty measures how far the calls of a surface break the discrete conditions against static arbitrage:
zero where there is none, and growing with the size of the violations.

>>> import numpy as np
>>> from volscen import arbitrage
>>> tau, moneyness = [0.25, 0.5, 1.0], [0.8, 0.9, 1.0, 1.1, 1.2]
>>> flat = np.full((3, 5), 0.2)
>>> float(arbitrage.penalty(flat, tau, moneyness))
0.0
>>> flat[0, 2] = 0.35  # dearer at three months than at six
>>> float(arbitrage.penalty(flat, tau, moneyness).round(6))
0.241239
>>> projected, status = arbitrage.project(flat, tau, moneyness)
>>> float(arbitrage.penalty(projected, tau, moneyness))
0.0
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from ._array import float_array, increasing_positive, thread_count
from ._projection import ProjectionStatus, project
from .errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ProjectionStatus", "penalty", "penalty_gradient", "project", "torch_penalty"]


def _parts(
    implied_vol: ArrayLike, tau: ArrayLike, moneyness: ArrayLike, gradient: bool, num_threads: int | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    threads = thread_count(num_threads)
    tau_axis = increasing_positive("tau", tau)
    moneyness_axis = increasing_positive("moneyness", moneyness)
    vol: NDArray[Any] = np.asarray(implied_vol)
    single = vol.dtype.kind == "f" and vol.dtype.itemsize == 4
    if not single:
        vol = float_array("implied_vol", vol)
    if vol.ndim < 2 or vol.shape[-2:] != (tau_axis.size, moneyness_axis.size):
        raise InputError(
            f"implied_vol must end in the axes (tau, moneyness), here "
            f"({tau_axis.size}, {moneyness_axis.size}); it has shape {vol.shape}"
        )
    lead = vol.shape[:-2]
    surfaces = np.require(
        vol.reshape((-1, *vol.shape[-2:])), dtype=np.float32 if single else np.float64, requirements=["C", "A"]
    )
    kernel = _core.arbitrage_penalty_float if single else _core.arbitrage_penalty_double
    parts, slopes = kernel(surfaces, tau_axis, moneyness_axis, gradient, threads)
    # A vol that is not a positive number makes the parts of its surface NaN.
    if np.isnan(parts).any():
        bad = int(np.argmax(np.isnan(parts).any(axis=1)))
        where = np.unravel_index(bad, lead) if lead else ()
        raise InputError(
            "implied_vol must be positive and finite; "
            f"the surface at index {tuple(int(i) for i in where)} is not: fill or drop such surfaces first"
        )
    return parts.reshape((*lead, 3)), slopes.reshape(vol.shape) if gradient else slopes


def penalty(
    implied_vol: ArrayLike,
    tau: ArrayLike,
    moneyness: ArrayLike,
    *,
    parts: bool = False,
    num_threads: int | None = None,
) -> Any:
    """Penalty for static arbitrage of each surface: calendar, call-spread and butterfly parts.

    Parameters
    ----------
    implied_vol
        Vols as decimals, shape (..., tau, moneyness), positive and finite. float32 is computed in float32,
        anything else in float64.
    tau
        Times to expiry in years, positive and strictly increasing.
    moneyness
        m = K/F, positive and strictly increasing.
    parts
        Whether to return the three parts instead of their sum.
    num_threads
        Threads to use, one by default. The result is the same for any number.

    Returns
    -------
    numpy.ndarray or numpy scalar
        Penalty of shape (...,), or with ``parts`` of shape (..., 3): p1, p2, p3. Zero exactly where there is
        no violation above rounding; in float32 differences of call prices carry errors of about 1e-7.

    Raises
    ------
    InputError
        When a vol is not positive and finite, or shapes and axes do not fit.

    Notes
    -----
    With the call per unit of forward c(m, tau) = N(d1) - m N(d2), tau_j and m_i the grid, sums over the grid:

    - p1 = sum [tau_j (c_ij - c_i,j+1)/(tau_{j+1} - tau_j)]+, falling in tau (calendar);
    - p2 = sum [(c_{i+1,j} - c_ij)/(m_{i+1} - m_i)]+, rising in moneyness (call spread);
    - p3 = sum [(c_i - c_{i-1})/(m_i - m_{i-1}) - (c_{i+1} - c_i)/(m_{i+1} - m_i)]+, not convex (butterfly).

    R. Cont and M. Vuletic (2023), "Simulation of arbitrage-free implied volatility surfaces", Applied
    Mathematical Finance 30.

    Examples
    --------
    >>> from volscen import arbitrage
    >>> vol = [[0.2, 0.2, 0.3], [0.2, 0.2, 0.2]]
    >>> arbitrage.penalty(vol, [0.5, 1.0], [0.9, 1.0, 1.1], parts=True).round(6).tolist()
    [0.004537, 0.0, 0.0]
    """
    values, _ = _parts(implied_vol, tau, moneyness, False, num_threads)
    return values if parts else (values[..., 0] + values[..., 1] + values[..., 2])[()]


def penalty_gradient(
    implied_vol: ArrayLike, tau: ArrayLike, moneyness: ArrayLike, *, num_threads: int | None = None
) -> tuple[Any, NDArray[Any]]:
    """Penalty of each surface and its derivatives with respect to the implied vols.

    Parameters
    ----------
    implied_vol, tau, moneyness, num_threads
        As for :func:`penalty`.

    Returns
    -------
    phi : numpy.ndarray or numpy scalar
        Penalty, shape (...,).
    gradient : numpy.ndarray
        d phi/d implied_vol, shape (..., tau, moneyness). Where a term is exactly zero, its derivative is taken as
        zero (a subgradient).

    Raises
    ------
    InputError
        As for :func:`penalty`.

    Examples
    --------
    >>> from volscen import arbitrage
    >>> vol = [[0.2, 0.2, 0.3], [0.2, 0.2, 0.2]]
    >>> phi, gradient = arbitrage.penalty_gradient(vol, [0.5, 1.0], [0.9, 1.0, 1.1])
    >>> gradient.round(4).tolist()
    [[0.0, 0.0, 0.266], [0.0, 0.0, -0.3716]]
    """
    values, slopes = _parts(implied_vol, tau, moneyness, True, num_threads)
    return (values[..., 0] + values[..., 1] + values[..., 2])[()], slopes


def torch_penalty(
    implied_vol: Tensor,
    tau: ArrayLike,
    moneyness: ArrayLike,
    *,
    parts: bool = False,
    num_threads: int | None = None,
) -> Tensor:
    """Penalty of each surface as a function that torch differentiates in the vols; the kernel does both passes.

    Parameters
    ----------
    implied_vol
        Vols as decimals, shape (..., tau, moneyness), positive and finite: a tensor in the memory of the CPU, of
        dtype float32 or float64, in which the whole computation is done.
    tau, moneyness, parts, num_threads
        As for :func:`penalty`; the axes are constants, not differentiated.

    Returns
    -------
    torch.Tensor
        Penalty of shape (...,), or with ``parts`` of shape (..., 3): p1, p2, p3.

    Raises
    ------
    InputError
        As for :func:`penalty`, and when ``implied_vol`` is no such tensor. A tensor of another device is not
        copied in silence: pass ``implied_vol.cpu()``, through which gradients flow back to that device.
    RuntimeError
        On differentiating twice: only first derivatives exist.

    Notes
    -----
    The derivative is :func:`penalty_gradient`'s, zero where a term is exactly zero.

    Examples
    --------
    >>> import torch
    >>> from volscen import arbitrage
    >>> vol = torch.tensor([[0.2, 0.2, 0.3], [0.2, 0.2, 0.2]], dtype=torch.float64, requires_grad=True)
    >>> arbitrage.torch_penalty(vol, [0.5, 1.0], [0.9, 1.0, 1.1]).backward()
    >>> vol.grad.numpy().round(4).tolist()
    [[0.0, 0.0, 0.266], [0.0, 0.0, -0.3716]]
    """
    from ._torch_penalty import penalty as differentiable

    return differentiable(implied_vol, tau, moneyness, parts=parts, num_threads=num_threads)

"""The array kernel behind :func:`volscen.arbitrage.project`."""

from __future__ import annotations

import operator
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from ._array import float_array, increasing_positive, thread_count
from .errors import InputError

__all__ = ["ProjectionStatus", "project"]


class ProjectionStatus(IntEnum):
    """What :func:`volscen.arbitrage.project` made of a surface.

    Examples
    --------
    >>> from volscen.arbitrage import ProjectionStatus
    >>> [f"{int(s)} {s.name}" for s in ProjectionStatus]
    ['0 FREE', '1 PROJECTED', '2 NOT_CONVERGED', '3 FAILED', '4 INVALID']
    """

    #: Free of arbitrage already: returned bit for bit.
    FREE = 0
    #: The nearest surface without arbitrage.
    PROJECTED = 1
    #: A surface without arbitrage, not shown to be the nearest.
    NOT_CONVERGED = 2
    #: No surface without arbitrage was found; NaN.
    FAILED = 3
    #: The surface has vols that are not positive and finite; NaN.
    INVALID = 4


def project(
    implied_vol: ArrayLike,
    tau: ArrayLike,
    moneyness: ArrayLike,
    *,
    vega_floor: float = 1e-3,
    max_iterations: int = 40,
    num_threads: int | None = None,
) -> tuple[NDArray[Any], NDArray[np.int8]]:
    """Nearest surfaces without static arbitrage on their grid.

    Parameters
    ----------
    implied_vol
        Vols as decimals, shape (..., tau, moneyness). float32 gives float32 vols, anything else float64: either
        way the vols *as returned* are free of arbitrage.
    tau
        Times to expiry in years, positive and strictly increasing.
    moneyness
        m = K/F, positive and strictly increasing.
    vega_floor
        In (0, 1]: vegas below this share of the surface's largest count as that much, because vols in wings
        without vega would otherwise be undetermined. 1 measures the change in vols without weights.
    max_iterations
        Quadratic programmes to solve at most for a surface, 1 to 1000.
    num_threads
        Threads to use, one by default. The result is the same for any number.

    Returns
    -------
    projected : numpy.ndarray
        Shape and type of ``implied_vol``. A surface already free of arbitrage is returned bit for bit; so is
        every projected one when it is projected again. NaN where the status is FAILED or INVALID.
    status : numpy.ndarray of int8, shape (...,)
        A :class:`ProjectionStatus` of each surface.

    Raises
    ------
    InputError
        When shapes and axes do not fit or an option is out of range. A bad vol is no error: its surface alone
        has the status INVALID.

    Notes
    -----
    With c the call per unit of forward, a surface is free of static arbitrage on the grid where c rises in tau at
    each moneyness, and along moneyness is convex with a first slope of at least -1 and a last slope of at most 0;
    (1 - m)+ <= c <= 1 hold for any vol. These are the conditions under which :func:`penalty` is exactly zero, and
    the first slope. Among such surfaces the one returned minimises

        sum over the grid of vega^2 (sigma' - sigma)^2,

    with Black's vega (per unit of forward) at the vols given: to first order the squared change of prices.

    The problem is solved by sequential quadratic programming in s = sigma sqrt(tau), in which the objective and the
    calendar conditions keep their form; each programme by Mehrotra's (1992) interior-point method on a banded
    normal matrix, eight surfaces at a time. Iterates are kept feasible by the greatest convex function below each
    row of prices and a running maximum in tau. As the conditions are not convex in vols, the minimum is a local
    one; it is the one that is found from this feasible start. Every returned surface is judged with the
    penalty's own arithmetic, after rounding to its type; margins are about 1e-12 of a vol in float64, 1e-7 in float32.

    Cost grows with tau x moneyness^3. In a surface that is projected, vols with sigma sqrt(tau) above 12, whose prices
    no longer tell them apart, count as that.

    The guarantee is on the grid only: what lies between and beyond its points depends on the interpolation.

    Conditions: R. Cont and M. Vuletic (2023), "Simulation of arbitrage-free implied volatility surfaces", Applied
    Mathematical Finance 30. Interior-point method: S. Mehrotra (1992), "On the implementation of a primal-dual
    interior point method", SIAM Journal on Optimization 2.

    Examples
    --------
    >>> from volscen import arbitrage
    >>> tau, moneyness = [0.5, 1.0], [0.9, 1.0, 1.1]
    >>> vol = [[0.2, 0.2, 0.3], [0.2, 0.2, 0.2]]
    >>> projected, status = arbitrage.project(vol, tau, moneyness)
    >>> arbitrage.ProjectionStatus(status[()]).name
    'PROJECTED'
    >>> projected.round(4).tolist()
    [[0.2, 0.2, 0.2915], [0.2, 0.2, 0.2061]]
    >>> float(arbitrage.penalty(projected, tau, moneyness))
    0.0
    """
    threads = thread_count(num_threads)
    tau_axis = increasing_positive("tau", tau)
    moneyness_axis = increasing_positive("moneyness", moneyness)
    if isinstance(vega_floor, bool) or not isinstance(vega_floor, (int, float, np.number)) or not 0 < vega_floor <= 1:
        raise InputError(f"vega_floor must lie in (0, 1], not {vega_floor!r}")
    try:
        iterations = operator.index(max_iterations)
    except TypeError:
        iterations = 0
    if isinstance(max_iterations, bool) or not 1 <= iterations <= 1000:
        raise InputError(f"max_iterations must be an integer from 1 to 1000, not {max_iterations!r}")
    vol: NDArray[Any] = np.asarray(implied_vol)
    single = vol.dtype.kind == "f" and vol.dtype.itemsize == 4
    vol = float_array("implied_vol", vol)
    if vol.ndim < 2 or vol.shape[-2:] != (tau_axis.size, moneyness_axis.size):
        raise InputError(
            f"implied_vol must end in the axes (tau, moneyness), here "
            f"({tau_axis.size}, {moneyness_axis.size}); it has shape {vol.shape}"
        )
    surfaces = np.require(vol.reshape((-1, *vol.shape[-2:])), dtype=np.float64, requirements=["C", "A"])
    projected, status, _ = _core.project_surfaces(
        surfaces, tau_axis, moneyness_axis, single, float(vega_floor), iterations, threads
    )
    projected[status >= ProjectionStatus.FAILED] = np.nan
    if single:
        projected = projected.astype(np.float32)
    return projected.reshape(vol.shape), status.reshape(vol.shape[:-2])

"""Scenario weights from the static-arbitrage penalty (Cont and Vuletic 2023; Vuletic and Cont 2024).

w_i = exp(-beta Phi_i) / sum_j exp(-beta Phi_j), computed in the log domain so that no penalty, however large,
gives NaN.
"""

from __future__ import annotations

from collections.abc import Container, Hashable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.special import logsumexp

from volscen import schema
from volscen.errors import InputError

__all__ = [
    "BETA_MAX",
    "ESS_FLOOR",
    "arbitrage_weights",
    "effective_sample_size",
    "reweight",
    "weighing_penalty",
    "weight_attributes",
    "weight_dataset",
]

FloatArray = npt.NDArray[np.float64]
Beta = float | Literal["auto", "paper"]

#: Largest beta that ``beta="auto"`` considers.
BETA_MAX = 1e4

#: Share of the scenarios that ``beta="auto"`` keeps effective.
ESS_FLOOR = 0.5


def effective_sample_size(weight: npt.ArrayLike) -> FloatArray:
    """Number of equally weighted scenarios that carry the same information, 1 / sum w^2.

    Parameters
    ----------
    weight : array_like, shape (..., n)
        Weights summing to 1 over the last axis.

    Returns
    -------
    ndarray, shape (...)
        In [1, n].

    Notes
    -----
    Kish (1965).

    Examples
    --------
    >>> import volscen
    >>> float(volscen.effective_sample_size([0.5, 0.5, 0.0, 0.0]))
    2.0
    """
    w = schema.check_weights(weight)
    return np.asarray(1 / np.sum(w * w, axis=-1))


def _weights(penalty: FloatArray, beta: float) -> FloatArray:
    # Relative to the smallest penalty the largest term is 1: nothing overflows and the sum is never 0.
    weight = np.exp(-beta * (penalty - penalty.min()))
    return np.asarray(weight / weight.sum())


def _log_ess_fraction(penalty: FloatArray, beta: float) -> float:
    # (sum e)^2 / sum e^2 in the log domain; decreasing in beta, because its derivative is
    # 2 (E_{2 beta}[Phi] - E_beta[Phi]) <= 0.
    exponent = -beta * penalty
    return float(2 * logsumexp(exponent) - logsumexp(2 * exponent) - np.log(penalty.size))


def largest_beta(penalty: FloatArray, ess_floor: float = ESS_FLOOR) -> float:
    """Largest beta in [0, BETA_MAX] that keeps ESS/N at or above a floor, by bisection."""
    spread = penalty - penalty.min()
    target = np.log(ess_floor)
    if _log_ess_fraction(spread, BETA_MAX) >= target:
        return BETA_MAX
    low, high = 0.0, BETA_MAX
    # In relative terms: with penalties of 1e6 the answer is of order 1e-6.
    while high - low > 1e-10 * high and high > 1e-300:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _log_ess_fraction(spread, middle) >= target else (low, middle)
    return low


def arbitrage_weights(
    penalty: npt.ArrayLike, beta: Beta = "auto", *, ess_floor: float = ESS_FLOOR
) -> tuple[FloatArray, float]:
    """Weights of scenarios from their path penalties.

    Parameters
    ----------
    penalty : array_like, shape (n,)
        Non-negative and finite.
    beta : float, "auto" or "paper"
        See :func:`reweight`.
    ess_floor : float
        In (0, 1]; used by ``beta="auto"`` only.

    Returns
    -------
    weight : ndarray, shape (n,)
    beta : float
        The number used.
    """
    phi = np.asarray(penalty, dtype=np.float64)
    if phi.ndim != 1 or phi.size == 0:
        raise InputError(f"penalty must have shape (scenario,), not {phi.shape}")
    if not np.all(np.isfinite(phi)) or np.any(phi < 0):
        raise InputError("penalty must be finite and non-negative")
    if not (isinstance(ess_floor, (int, float, np.number)) and 0 < ess_floor <= 1):
        raise InputError(f"ess_floor must lie in (0, 1], not {ess_floor!r}")
    if beta == "auto":
        used = largest_beta(phi, ess_floor)
    elif beta == "paper":
        used = 500 / float(_weights(phi, 500.0).max())
    elif isinstance(beta, (int, float, np.number)) and not isinstance(beta, bool) and 0 <= beta < np.inf:
        used = float(beta)
    else:
        raise InputError(f"beta must be a non-negative number, 'auto' or 'paper', not {beta!r}")
    return _weights(phi, used), used


def weighing_penalty(names: Container[Hashable]) -> str:
    """Name of the penalty that weights go by: of projected surfaces the one before projection."""
    return "arbitrage_penalty_raw" if "arbitrage_penalty_raw" in names else "arbitrage_penalty"


def weight_attributes(penalty: FloatArray, weight: FloatArray, requested: Beta) -> tuple[Any, Any]:
    """Attributes ``beta`` and ``ess_fraction`` of a cube: numbers, or arrays over ``as_of`` where it has several.

    Parameters
    ----------
    penalty : ndarray, shape (..., n, steps)
    weight : ndarray, shape (..., n)
    requested : float, "auto" or "paper"
        See :func:`reweight`.
    """
    beta = np.array([arbitrage_weights(row, requested)[1] for row in np.atleast_2d(penalty.sum(axis=-1))])
    return beta if weight.ndim == 2 else float(beta[0]), effective_sample_size(weight) / weight.shape[-1]


def weight_dataset(ds: xr.Dataset, beta: Beta, ess_floor: float = ESS_FLOOR) -> xr.Dataset:
    """Set ``weight``, ``beta`` and ``ess_fraction`` of an in-memory dataset from its penalties, in place."""
    path_penalty = (
        ds[weighing_penalty(ds)].sum("step", skipna=False).transpose(..., "scenario").values.astype(np.float64)
    )
    rows = np.atleast_2d(path_penalty)
    pairs = [arbitrage_weights(row, beta, ess_floor=ess_floor) for row in rows]
    weight = np.stack([w for w, _ in pairs]).reshape(path_penalty.shape)
    dims = ("as_of", "scenario") if "as_of" in ds.dims else ("scenario",)
    ds["weight"] = (dims, weight, schema.VARIABLES["weight"])
    ess = effective_sample_size(weight) / ds.sizes["scenario"]
    betas = np.array([b for _, b in pairs])
    ds.attrs["beta"] = betas if "as_of" in ds.dims else float(betas[0])
    ds.attrs["ess_fraction"] = ess if "as_of" in ds.dims else float(ess)
    ds.attrs.pop("beta_requested", None)  # of a lazy cube, whose weights are now known
    if beta == "paper":
        ds.attrs["beta_note"] = "one reading of equation (20) of Vuletic and Cont (2024), unverified"
    else:
        ds.attrs.pop("beta_note", None)
    return ds


def reweight(ds: xr.Dataset, *, beta: Beta = "auto", ess_floor: float = ESS_FLOOR) -> xr.Dataset:
    """Weigh scenarios by their static-arbitrage penalty.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios (``volscen/scenarios/1``). A lazy cube's penalties are computed.
    beta : float, "auto" or "paper"
        Strength. ``0`` gives equal weights; ``"auto"`` the largest number in [0, 1e4] that keeps the
        effective sample size at or above ``ess_floor`` times N; ``"paper"`` 500 / max_i w_i with w taken at
        beta = 500, one unverified reading of equation (20) of the paper: on arbitrage-bearing days it keeps
        a handful of scenarios.
    ess_floor : float
        In (0, 1].

    Returns
    -------
    xarray.Dataset
        A copy with new ``weight`` and attributes ``beta`` and ``ess_fraction``. With several steps the
        penalty of a path is the sum over its steps. Of a projected cube it is the penalty before projection,
        ``arbitrage_penalty_raw``.

    Raises
    ------
    InputError
        If ``ds`` has no penalties, or ``beta`` or ``ess_floor`` is out of range.

    Notes
    -----
    Vuletic and Cont (2024), section 4; Cont and Vuletic (2023).

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=1000, seed=1)
    >>> round(volscen.reweight(cube, beta=0.0).attrs["ess_fraction"], 12)
    1.0
    """
    if not isinstance(ds, xr.Dataset) or not {"scenario", "step"} <= set(
        ds["arbitrage_penalty"].dims if "arbitrage_penalty" in ds else ()
    ):
        raise InputError("ds has no arbitrage_penalty(scenario, step); pass a dataset made by volscen.generate")
    return weight_dataset(ds.copy(), beta, ess_floor)

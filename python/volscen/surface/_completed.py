"""The smoother that conditions a library of surfaces on the quotes: :func:`volscen.repair` as a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from volscen.surface._cubic import CubicSurface
from volscen.surface._spline import SplineBasis

if TYPE_CHECKING:
    from volscen.chain import Chain

__all__ = ["fit_repair"]

FloatArray = npt.NDArray[np.float64]

#: Most expiries beside the grid's times, how near one of those an expiry adds nothing, and most strikes.
_EXPIRIES, _NEAR, _STRIKES = 12, 0.04, 33


def fit_repair(
    chain: Chain,
    tau: FloatArray,
    moneyness: FloatArray,
    *,
    robust: bool = True,
    free: Literal["density", "prices"] = "density",
) -> CubicSurface:
    """Complete a chain to a surface by :func:`volscen.repair`, free of static arbitrage on a grid.

    Parameters
    ----------
    chain : Chain
        Its ``quotes`` are used, errors being those of the spread where there are bid and ask.
    tau, moneyness : ndarray
        The grid. It is part of a finer one, with expiries and strikes between, on which the surface is repaired; in
        between total variance is a cubic spline in k and linear in time.
    robust : bool
        Trust quotes less that lie far from what all the others say.
    free : {"density", "prices"}
        What the surface on that finer grid is free of, as for :func:`volscen.repair`.

    Raises
    ------
    InputError
        If an option is unknown.
    MissingExtraError
        If ``free="density"`` and clarabel is not installed.
    """
    from volscen._repair._verb import repair

    quotes = chain.quotes
    times = _times(tau, np.unique(quotes["tau"].to_numpy(dtype=np.float64)))
    strikes = _strikes(np.log(moneyness), quotes["log_moneyness"].to_numpy(dtype=np.float64))
    ratio = np.exp(strikes)
    # The grid's own points exactly: their logarithms need not come back.
    ratio[np.searchsorted(strikes, np.log(moneyness))] = moneyness
    whole = repair(chain, tau=times, moneyness=ratio, robust=robust, free=free, num_workers=1)
    basis = SplineBasis.over(strikes)
    splines = tuple(basis.spline(row) for row in whole["total_variance"].values)
    details: dict[str, Any] = {
        "repair_misfit": float(whole["misfit"]),
        "repair_flag": int(whole["surface_flag"]),
        "repair_sd_median": float(np.median(whole["implied_vol_sd"].sel(tau=tau).values)),
    }
    return CubicSurface(tau=times, splines=splines, details=details)


def _times(tau: FloatArray, expiries: FloatArray) -> FloatArray:
    """The grid's times, and expiries that are not next to one."""
    apart = np.abs(np.log(expiries[:, None] / tau)).min(axis=1) > _NEAR
    added = expiries[apart]
    if added.size > _EXPIRIES:
        added = added[np.linspace(0, added.size - 1, _EXPIRIES).round().astype(int)]
    return np.sort(np.append(tau, added))


def _strikes(k: FloatArray, quoted: FloatArray) -> FloatArray:
    """The grid's strikes, and others so that they reach over the quotes without wide gaps."""
    low, high = min(k[0], quoted.min()), max(k[-1], quoted.max())
    room = max(_STRIKES - k.size, 3)
    step = max((high - low) / room, 1e-3)
    points = list(k)
    for left, right in zip(np.append(low, k), np.append(k, high), strict=True):
        parts = int(np.ceil((right - left) / step - 1e-9))
        points += list(np.linspace(left, right, parts + 1)[1:-1]) if parts > 1 else []
    points += [end for end in (low, high) if np.abs(k - end).min() > step / 4]
    return np.unique(points)

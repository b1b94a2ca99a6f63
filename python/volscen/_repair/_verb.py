"""The verb: incomplete, noisy volatilities to whole surfaces with intervals, scores and without arbitrage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from volscen._repair._base import REGISTRY
from volscen._repair._inputs import Request, read_request
from volscen._repair._intervals import LEVELS
from volscen._repair._pipeline import Options, Repaired, repair_batch
from volscen._repair._result import make_dataset
from volscen._threads import resolve_num_threads
from volscen._workers import check_workers, map_in_order
from volscen.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from volscen.chain import Chain

__all__ = ["repair"]

#: Surfaces repaired at once.
_BLOCK = 32
#: Surfaces from which processes are worth starting.
_WORTH_WORKERS = 1000

_CONDITIONS = ("density", "prices", "none")


def repair(
    observed: xr.Dataset | xr.DataArray | pd.DataFrame | Chain | npt.ArrayLike,
    *,
    method: str = "default",
    tau: npt.ArrayLike | None = None,
    moneyness: npt.ArrayLike | None = None,
    noise: npt.ArrayLike | xr.DataArray | None = None,
    levels: Sequence[float] = (0.8, 0.95),
    free: Literal["density", "prices", "none"] = "density",
    robust: bool = True,
    num_workers: int | None = None,
    client: Any = None,
) -> xr.Dataset:
    """Complete surfaces from some noisy quotes, with intervals, stale-quote scores and without static arbitrage.

    Parameters
    ----------
    observed : xarray.Dataset or DataArray, pandas.DataFrame, Chain, or array_like
        What is quoted, as Black-76 volatilities in decimals (0.001 to 5).

        - Dataset with ``implied_vol(..., tau, moneyness)``, or that DataArray, NaN where there is no quote: one
          surface, a history with holes, thousands of surfaces. A Dataset may hold ``half_spread_vol``, or ``bid_vol``
          and ``ask_vol``.
        - Array of shape (..., tau, moneyness), with ``tau`` and ``moneyness`` for its axes.
        - Table of quotes, one row each, anywhere: ``tau`` (years), ``moneyness`` (K/F) or ``log_moneyness``,
          ``implied_vol``, optionally ``half_spread_vol``, or ``bid_vol`` and ``ask_vol``, and ``date`` where there
          are several surfaces. Quotes at one place are independent readings.
        - Chain of a day.
    method : str
        ``"default"``: analogues where they fit the quotes, else the law of the whole library. ``"analogues"`` and
        ``"global"``: either alone. To compare with: ``"linear"`` (triangulated total variance), ``"svi"`` (a raw-SVI
        slice per time quoted), ``"essvi"`` (one surface through all).
    tau, moneyness : array_like, optional
        Grid wanted: times in years and K/F, both positive and increasing. Needed for tables, chains and arrays; that
        of ``observed`` when omitted.
    noise : array_like or DataArray, optional
        Standard deviation of the error of each quoted volatility, in decimals, in the shape of the quotes or one
        that broadcasts to it. When omitted, half-spreads over the root of 3 with five basis points in quadrature
        where there are any, else 18 basis points at the money at two years, more in wings and for short times; at
        least a ten-thousandth of the volatility.
    levels : sequence of float
        Probabilities of the intervals, 0.5 to 0.99.
    free : {"density", "prices", "none"}
        Project onto the surfaces without static arbitrage on the grid, Durrleman's g at least 2e-4 at inner points;
        onto those whose prices are free of arbitrage; or not at all.
    robust : bool
        Trust quotes less that lie far from what all the others say.
    num_workers : int, optional
        Processes over which blocks of surfaces are spread; the result is the same for any number. When omitted, the
        cluster whose ``dask.distributed`` client is active, if one is; else one per processor for 1,000 surfaces or
        more, and none beside this one for fewer.
    client : distributed.Client, optional
        Of the cluster to use, in place of ``num_workers``.

    Returns
    -------
    xarray.Dataset
        Following ``volscen/repair/1``. Over (..., tau, moneyness), float64: ``implied_vol``, ``total_variance``,
        ``implied_vol_sd``, ``quality`` (0 quoted, 1 between quotes, 2 beyond them), ``out_of_range`` (1 beyond the
        times and strikes of the library); ``lower`` and ``upper`` over (level, ..., tau, moneyness).

        Over the leading dimensions: ``misfit`` (near 1 for surfaces like the library's), ``surface_flag`` (a sum: 1
        few quotes, 2 out of distribution, 4 out of range, 8 rescaled, 16 mistaken quotes), ``n_quotes``,
        ``projection_status``, ``projection_change_rms`` (vol points), ``durrleman_g_min``, ``wing_slope_max``.

        Of each quote: ``stale_score``, its distance from what the others say of it in standard deviations, and
        ``repaired_at_quote``, in the layout of the quotes: over (..., tau, moneyness), (..., quote_tau,
        quote_moneyness) where the grid wanted is another, or (quote).

    Raises
    ------
    InputError
        If an argument is wrong, a volatility is not within 0.001 to 5, or a surface has no quote.
    FitError
        If ``free="prices"`` finds no surface without arbitrage near one.
    MissingExtraError
        If ``free="density"`` and clarabel is not installed.

    Notes
    -----
    ln(volatility) is Gaussian under the mean and covariance of a library of 40,000 simulated surfaces (SSVI, SABR,
    SVI, Merton, Heston; most of them perturbed), or of the 500 of them nearest to the quotes, and conditioned on the
    quotes (C. Rasmussen and C. Williams 2006, chapter 2). What the library does not show is a Gaussian process whose
    size the likelihood of the quotes decides. ``misfit`` is the root mean square of leave-one-out differences; where
    it is large the whole library's law takes over from that of the analogues, intervals widen in proportion, and
    ``surface_flag`` says so.

    Intervals are conformal: their widths are quantiles of errors, after projection, on simulated surfaces set apart.
    They hold on average over surfaces like those; on others ``misfit`` widens them.

    Surfaces at the money below 7% or above 80% are scaled to the middle of the library, strikes and all, and flagged.
    Beyond a week to three years, and strikes of 1.6 times the root of time (less beyond a month), answers are flat
    continuations whose uncertainty grows with the distance, and flagged.

    Freedom from arbitrage is promised on the grid. ``wing_slope_max`` above 2 is against Lee's (2004) bound in a wing
    that goes on as it ends.

    Examples
    --------
    >>> import numpy as np, volscen
    >>> tau, moneyness = [0.25, 0.5, 1.0], [0.8, 0.9, 1.0, 1.1, 1.2]
    >>> vol = [[np.nan, 0.24, 0.20, np.nan, np.nan], [np.nan] * 5, [0.25, np.nan, 0.21, np.nan, 0.19]]
    >>> whole = volscen.repair(vol, tau=tau, moneyness=moneyness)
    >>> whole.implied_vol.round(2).values.tolist()
    [[0.28, 0.24, 0.2, 0.18, 0.18], [0.26, 0.23, 0.2, 0.19, 0.18], [0.25, 0.23, 0.21, 0.2, 0.19]]
    >>> bool(((whole.lower < whole.implied_vol) & (whole.implied_vol < whole.upper)).all())
    True
    """
    if not isinstance(method, str) or method not in REGISTRY:
        raise InputError(f"unknown method {method!r}; there are {', '.join(sorted(REGISTRY))}")
    if not isinstance(free, str) or free not in _CONDITIONS:
        raise InputError(f"free must be one of {', '.join(_CONDITIONS)}, not {free!r}")
    if not isinstance(robust, (bool, np.bool_)):
        raise InputError(f"robust must be True or False, not {robust!r}")
    options = Options(method, _levels(levels), free, bool(robust))
    check_workers(num_workers, client)
    request = read_request(observed, tau, moneyness, noise)
    if free == "density":
        if request.moneyness.size < 3:
            raise InputError(
                f"moneyness holds {request.moneyness.size} points; free='density' needs at least 3: give more, or "
                "free='prices'"
            )
        _need_clarabel()
    many = sum(len(batch.rows) for batch in request.batches) >= _WORTH_WORKERS
    workers, cluster = check_workers(num_workers, client, otherwise=resolve_num_threads(None) if many else 1)
    return make_dataset(request, run(request, options, workers, cluster), options)


def run(request: Request, options: Options, workers: int = 1, client: Any = None) -> list[Repaired]:
    """Results of every batch."""
    blocks = [
        replace(
            batch,
            rows=batch.rows[start : start + _BLOCK],
            vol=batch.vol[start : start + _BLOCK],
            noise=None if batch.noise is None else batch.noise[start : start + _BLOCK],
        )
        for batch in request.batches
        for start in range(0, len(batch.rows), _BLOCK)
    ]
    grid = (request.tau, request.moneyness, request.on_grid, options)
    tasks = ((block, *grid) for block in blocks)
    return list(map_in_order(repair_batch, tasks, num_workers=min(workers, len(blocks)), client=client))


def _levels(levels: Any) -> tuple[float, ...]:
    try:
        found = tuple(float(level) for level in ([levels] if np.ndim(levels) == 0 else levels))
    except (TypeError, ValueError):
        raise InputError(f"levels must be probabilities, not {levels!r}") from None
    if not found or not all(LEVELS[0] <= level <= LEVELS[-1] for level in found):
        raise InputError(f"levels must be probabilities from {LEVELS[0]:g} to {LEVELS[-1]:g}, not {levels!r}")
    if sorted(set(found)) != list(found):
        raise InputError(f"levels must increase, without duplicates: {levels!r}")
    return found


def _need_clarabel() -> None:
    try:
        import clarabel  # noqa: F401
    except ImportError:
        raise MissingExtraError("repair(free='density')", "projection") from None

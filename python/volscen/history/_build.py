"""Quotes of many days to a history of surfaces: a chain and a surface a day, in parallel, with a report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt
import pandas as pd
import xarray as xr

from volscen._numbers import positive_number
from volscen._progress import bar_is_off
from volscen._threads import resolve_num_threads
from volscen._workers import check_workers, map_in_order
from volscen.errors import InputError
from volscen.history._checkpoints import DayCheckpoints
from volscen.history._day import DAY_REASONS, Day, Outcome, Settings, fit_days, read_settings, split_days
from volscen.history._parts import Recorded, assemble
from volscen.history._returns import RETURNS
from volscen.surface._points import read_product_columns

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["DAY_REASONS", "build_history", "run_days"]

#: Days handed to a worker at once, and the number of days from which workers are worth starting.
_BATCH = 16
_WORTH_WORKERS = 400


def build_history(
    quotes: pd.DataFrame,
    *,
    tau: npt.ArrayLike,
    moneyness: npt.ArrayLike | None = None,
    log_moneyness: npt.ArrayLike | None = None,
    method: str = "svi",
    max_extrapolation: float = 3.0,
    max_tau_ratio: float = 1.5,
    returns: Literal["auto", "forward", "spot"] = "auto",
    intraday: bool = False,
    resume: str | Path | None = None,
    num_workers: int | None = None,
    client: Any = None,
    progress: bool | Literal["auto"] = "auto",
    title: str = "Implied-volatility surfaces from option quotes",
    source: str = "option quotes",
    calendar: str = "unspecified",
    periods_per_year: float | None = None,
    **options: Any,
) -> tuple[xr.Dataset, pd.DataFrame]:
    """Build a history of surfaces from the quotes of many days.

    Parameters
    ----------
    quotes : pandas.DataFrame
        Quotes table as :func:`volscen.quotes.check_quotes` takes it, one underlying, in any order of rows.
    tau : array_like, shape (J,)
        Times to expiry in years, strictly increasing, or tenors such as "3M".
    moneyness, log_moneyness : array_like, shape (I,)
        K/F, strictly increasing, or ln(K/F): one of the two. Grids by delta have other strikes at every time:
        take :func:`volscen.surface.regrid` of the history.
    method, max_extrapolation, max_tau_ratio
        See :func:`volscen.build_surface`; a day on which the grid reaches too far beyond the quotes is
        dropped.
    num_workers : int, optional
        Processes to use; the result does not depend on it. When omitted, the cluster whose ``dask.distributed``
        client is active, if one is; else one per processor for 400 days or more, and none beside this one for fewer.
    client : distributed.Client, optional
        Of the cluster to use, in place of ``num_workers``.
    progress : bool or "auto"
        Show a progress bar; "auto" shows it on a terminal only.
    returns : {"auto", "forward", "spot"}
        What ``log_return`` is of: the forwards of the expiries listed on both days, or the spot. "auto" takes the
        spot where the table has that column, else forwards: a spot read from parity jumps when the nearest
        expiry rolls. See Notes.
    intraday : bool
        A row per snapshot (``quote_time``) in place of one per day; ``date`` then bears the time of day.
    resume : path, optional
        Folder for finished days. A build that was stopped goes on from it, to the same bits; one with other
        settings or other quotes is refused. Later days may be added to the quotes.
    title, source, calendar
        Recorded in the history; ``calendar`` is the exchange calendar's code, such as "XSHG".
    periods_per_year : float, optional
        Rows a year, 252 unless given; ``intraday`` needs it (252 times the snapshots of a day).
    **options
        Further options of :class:`volscen.Chain` (``min_tau``, ``max_spread``, ``rate``, ...) and of the
        smoother.

    Returns
    -------
    history : xarray.Dataset
        Following ``volscen/history/1``, with ``forward``, ``discount_factor`` and ``quality``. ``spot`` is
        the table's column where it has one, else the discounted forward of the nearest expiry; the attributes
        ``spot_source`` and ``return_source`` say which. Where days were dropped, a log return spans the gap.
        ``n_quotes``, ``fit_rmse``, ``fit_max``, ``arbitrage_penalty``, ``extrapolated_share`` and ``jump_flag`` (0
        none; 1 a split or special dividend, of which ``log_return`` is free; 2 suspect, left as it is) come along.
    report : pandas.DataFrame
        One row per date of the table: ``status`` ("kept" or "dropped"), ``reason`` (a key of
        :data:`DAY_REASONS`) and ``detail`` (the whole message) where dropped, ``n_rows``, ``n_used``,
        ``n_expiries``, ``fit_rmse`` and ``fit_max`` (decimals of vol, against the quotes used), ``rate`` (of
        the last expiry used), ``penalty``, ``calendar_free``, ``butterfly_free``, ``observed_share`` and
        ``extrapolated_share`` of the grid cells, ``fit_share_in_spread``, ``fit_rms_half_spreads``,
        ``durrleman_g_min`` (with ``_tau`` and ``_moneyness``) and ``calendar_violations`` as in
        :func:`volscen.build_surface`, what the smoother reports, ``return_of`` ("forward" or "spot"), ``jump``
        ("scaled", "shifted", "suspect" or none) and ``return_adjustment`` (what it added to the log return), and
        ``dropped_<reason>`` for each reason of
        :data:`volscen.quotes.REASONS` and :data:`volscen.chain.CHAIN_REASONS`. ``report.attrs`` has
        ``rows_without_date``, and ``exercise_assumed``, True where no column said whether options are European.
        :func:`volscen.summarise_report` puts it in words.

    Raises
    ------
    InputError
        If the grid, a name, an option or a column is wrong, or not one day gives a surface.

    Notes
    -----
    A day's surface uses that day's rows only. Returns of forwards are the mean of ln F(t, T) - ln F(t-1, T) over the
    expiries T with a forward on both days, weighted by inverse variances of the parity fits: returns in excess of
    carry, without the drop on ordinary ex-dividend days. Where no expiry is listed on both days the spot stands in
    (``return_of``). Splits and special dividends are read from the contracts; a return beyond 0.2 that they do not
    explain is suspect, and a warning says so.

    Freedom from arbitrage is judged on the grid: no calendar part
    of the penalty of Cont and Vuletic; no monotonicity and convexity part, and a first slope of at least -1.

    Examples
    --------
    >>> import numpy as np, pandas as pd, volscen
    >>> strike, is_call = np.repeat(np.arange(80.0, 125, 5), 2), np.tile([True, False], 9)
    >>> tables = [pd.DataFrame({
    ...     "date": date, "expiry": "2024-04-02", "strike": strike, "option_type": np.tile(["C", "P"], 9),
    ...     "price": volscen.black.price(100.0, strike, days / 365, 0.2, is_call)})
    ...     for date, days in (("2024-01-02", 91), ("2024-01-03", 90))]
    >>> history, report = volscen.build_history(pd.concat(tables), tau=[0.2, 0.25], moneyness=[0.9, 1.0, 1.1])
    >>> history.implied_vol.shape, report.status.tolist()
    ((2, 2, 3), ['kept', 'kept'])
    """
    moneyness = read_product_columns(moneyness, log_moneyness, options)
    settings = read_settings(tau, moneyness, method, max_extrapolation, max_tau_ratio, intraday, options)
    if returns not in RETURNS:
        raise InputError(f"returns must be one of {', '.join(RETURNS)}, not {returns!r}")
    if periods_per_year is None:
        if intraday:
            raise InputError("intraday=True needs periods_per_year: rows a year, such as 252 * 13 for half-hours")
        periods_per_year = 252
    periods_per_year = positive_number("periods_per_year", periods_per_year)
    days, rows_without_date, kind = split_days(quotes, settings)
    outcomes = run_days(days, settings, num_workers, progress, resume, client)
    if returns == "auto":
        returns = "spot" if kind["spot"] else "forward"
    recorded = Recorded(settings.record(), kind, returns)
    history, report = assemble(
        outcomes,
        settings,
        recorded,
        title=title,
        source=source,
        calendar=calendar,
        periods_per_year=periods_per_year,
    )
    report.attrs.update(rows_without_date=rows_without_date, exercise_assumed="exercise" not in quotes)
    if history is None:
        often = report["reason"].value_counts().index[0]
        example = report.loc[report["reason"] == often, "detail"].iloc[0]
        raise InputError(f"not one of {len(report)} days gives a surface; most often {often}, such as: {example}")
    return history, report


def run_days(
    days: list[Day],
    settings: Settings,
    num_workers: int | None,
    progress: bool | Literal["auto"],
    resume: str | Path | None,
    client: Any = None,
) -> list[Outcome]:
    """Outcome of every day, in order; finished days are read from, and kept in, the folder ``resume``."""
    check_workers(num_workers, client)
    checkpoints = None if resume is None else DayCheckpoints(resume, settings)
    done, missing = ({}, list(range(len(days)))) if checkpoints is None else checkpoints.split(days)
    otherwise = resolve_num_threads(None) if len(missing) >= _WORTH_WORKERS else 1
    workers, cluster = check_workers(num_workers, client, otherwise=otherwise)
    batches = [missing[start : start + _BATCH] for start in range(0, len(missing), _BATCH)]
    with _bar(len(days), progress) as bar:
        bar.update(len(done))
        work = (([days[position] for position in batch], settings) for batch in batches)
        found = map_in_order(fit_days, work, num_workers=min(workers, len(batches)), client=cluster)
        for batch, outcomes in zip(batches, found, strict=True):
            done.update(zip(batch, outcomes, strict=True))
            if checkpoints is not None:
                checkpoints.save([days[position] for position in batch], outcomes)
            bar.update(len(batch))
    return [done[position] for position in range(len(days))]


@contextmanager
def _bar(total: int, progress: bool | Literal["auto"]) -> Iterator[tqdm[Any]]:
    off = bar_is_off(progress)
    from tqdm import tqdm

    with tqdm(total=total, desc="surfaces", unit="day", disable=off) as bar:
        yield bar

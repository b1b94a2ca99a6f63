"""Quotes of many days to a history of surfaces: a chain and a surface a day, in parallel, with a report."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from volscen import black
from volscen._chain_options import ChainOptions, whole_number
from volscen._instruments import _positive
from volscen._threads import resolve_num_threads, single_threaded_blas
from volscen.chain import CHAIN_REASONS, Chain
from volscen.errors import InputError
from volscen.history import make_history
from volscen.quotes import OPTIONAL_COLUMNS, REASONS, REQUIRED_COLUMNS, judge_quotes
from volscen.surface._build import (
    EXTRAPOLATED,
    OBSERVED,
    Grid,
    OutOfReachError,
    check_limits,
    read_grid,
    surface_on_grid,
)
from volscen.surface._smoothers import check_options

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["DAY_REASONS", "build_history"]

FloatArray = npt.NDArray[np.float64]

#: Why a day is dropped.
DAY_REASONS: dict[str, str] = {
    "unusable_chain": "no quote is left, or calls or puts only, or no spot, or one that the forwards contradict",
    "beyond_expiries": "the grid reaches farther before the first or after the last expiry than max_tau_ratio",
    "beyond_strikes": "the grid reaches farther beyond the quoted strikes than max_extrapolation",
    "unfitted": "the smoother gives no positive volatility everywhere",
}

#: Days handed to a worker at once, and the number of days from which workers are worth starting.
_BATCH = 16
_WORTH_WORKERS = 400

#: Relative error of a difference of call prices that is rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class _Settings:
    tau: FloatArray
    moneyness: FloatArray
    method: str
    max_extrapolation: float
    max_tau_ratio: float
    chain: ChainOptions
    smoother: dict[str, Any]


@dataclass(frozen=True)
class _Day:
    date: np.datetime64
    clean: pd.DataFrame
    dropped: pd.Series[int]


_Outcome = tuple[dict[str, Any], tuple[Grid, float] | None]


def build_history(
    quotes: pd.DataFrame,
    *,
    tau: npt.ArrayLike,
    moneyness: npt.ArrayLike,
    method: str = "svi",
    max_extrapolation: float = 3.0,
    max_tau_ratio: float = 1.5,
    num_workers: int | None = None,
    progress: bool | Literal["auto"] = "auto",
    title: str = "Implied-volatility surfaces from option quotes",
    source: str = "option quotes",
    calendar: str = "unspecified",
    periods_per_year: float = 252,
    **options: Any,
) -> tuple[xr.Dataset, pd.DataFrame]:
    """Build a history of surfaces from the quotes of many days.

    Parameters
    ----------
    quotes : pandas.DataFrame
        Quotes table as :func:`volscen.quotes.check_quotes` takes it, one underlying, in any order of rows.
    tau : array_like, shape (J,)
        Times to expiry in years, strictly increasing.
    moneyness : array_like, shape (I,)
        K/F, strictly increasing.
    method, max_extrapolation, max_tau_ratio
        See :func:`volscen.build_surface`; a day on which the grid reaches too far beyond the quotes is
        dropped.
    num_workers : int, optional
        Processes to use; the result does not depend on it. One per processor for 400 days or more when
        omitted, else none beside this one.
    progress : bool or "auto"
        Show a progress bar; "auto" shows it on a terminal only.
    title, source, calendar, periods_per_year
        Recorded in the history; ``calendar`` is the exchange calendar's code, such as "XSHG".
    **options
        Further options of :class:`volscen.Chain` (``min_tau``, ``max_spread``, ``rate``, ...) and of the
        smoother.

    Returns
    -------
    history : xarray.Dataset
        Following ``volscen/history/1``, with ``forward``, ``discount_factor`` and ``quality``. ``spot`` is
        the table's column where it has one, else the discounted forward of the nearest expiry; the attribute
        ``spot_source`` says which. Where days were dropped, a log return spans the gap.
    report : pandas.DataFrame
        One row per date of the table: ``status`` ("kept" or "dropped"), ``reason`` (a key of
        :data:`DAY_REASONS`) and ``detail`` (the whole message) where dropped, ``n_rows``, ``n_used``,
        ``n_expiries``, ``fit_rmse`` and ``fit_max`` (decimals of vol, against the quotes used), ``rate`` (of
        the last expiry used), ``penalty``, ``calendar_free``, ``butterfly_free``, ``observed_share`` and
        ``extrapolated_share`` of the grid cells, and ``dropped_<reason>`` for each reason of
        :data:`volscen.quotes.REASONS` and :data:`volscen.chain.CHAIN_REASONS`. ``report.attrs`` has
        ``rows_without_date``.

    Raises
    ------
    InputError
        If the grid, a name, an option or a column is wrong, or not one day gives a surface.

    Notes
    -----
    A day's surface uses that day's rows only. Freedom from arbitrage is judged on the grid: no calendar part
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
    tau, moneyness = read_grid(tau, "tau"), read_grid(moneyness, "moneyness")
    check_limits(max_extrapolation, max_tau_ratio)
    settings = _settings(tau, moneyness, method, max_extrapolation, max_tau_ratio, options)
    if num_workers is not None:
        num_workers = whole_number("num_workers", num_workers)
    periods_per_year = _positive("periods_per_year", periods_per_year)
    days, rows_without_date = _days(quotes, settings.chain.keep)
    outcomes = _run(days, settings, num_workers, progress)
    report = pd.DataFrame([row for row, _ in outcomes]).set_index("date")
    report.attrs["rows_without_date"] = rows_without_date
    kept = [(row["date"], row["spot_source"], result) for row, result in outcomes if result is not None]
    report = report.drop(columns="spot_source")
    if not kept:
        often = report["reason"].value_counts().index[0]
        example = report.loc[report["reason"] == often, "detail"].iloc[0]
        raise InputError(f"not one of {len(report)} days gives a surface; most often {often}, such as: {example}")
    grids = [grid for _, _, (grid, _) in kept]
    history = make_history(
        np.array([date for date, _, _ in kept], dtype="datetime64[ns]"),
        tau,
        moneyness,
        np.stack([grid.implied_vol for grid in grids]),
        spot=np.array([spot for _, _, (_, spot) in kept]),
        forward=np.stack([grid.forward for grid in grids]),
        discount_factor=np.stack([grid.discount_factor for grid in grids]),
        quality=np.stack([grid.quality for grid in grids]),
        title=title,
        source=source,
        calendar=calendar,
        periods_per_year=periods_per_year,
    )
    rmse = np.array([grid.fit_rmse for grid in grids])
    n = np.array([grid.n_quotes for grid in grids])
    history.attrs.update(
        method=method,
        spot_source=kept[0][1],
        days_dropped=len(report) - len(kept),
        fit_rmse_vol_points=float(100 * np.sqrt(np.sum(n * rmse**2) / n.sum())),
    )
    return history, report


def _settings(
    tau: FloatArray,
    moneyness: FloatArray,
    method: str,
    max_extrapolation: float,
    max_tau_ratio: float,
    options: dict[str, Any],
) -> _Settings:
    """Share the options out between chain and smoother, refusing unknown ones before any work is done."""
    names = {field.name for field in fields(ChainOptions)}
    chain = ChainOptions(**{name: value for name, value in options.items() if name in names})
    smoother = {name: value for name, value in options.items() if name not in names}
    check_options(method, smoother, also=tuple(names))
    return _Settings(tau, moneyness, method, max_extrapolation, max_tau_ratio, chain, smoother)


def _days(quotes: pd.DataFrame, keep: Collection[str] = ()) -> tuple[list[_Day], int]:
    """Split the table by day: sound rows, and counts of the others; and how many rows bear no date."""
    clean, verdict, date = judge_quotes(quotes, keep=keep)
    if "underlying" in clean and clean["underlying"].nunique(dropna=False) > 1:
        names = clean["underlying"].unique()
        raise InputError(f"quotes hold {len(names)} underlyings ({names[0]}, {names[1]}, ...); keep one")
    known = ~np.isnat(date)
    dates, row = np.unique(date[known], return_inverse=True)
    if not dates.size:
        raise InputError("quotes hold no row with a date")
    n = len(REASONS) + 1  # one more for the rows kept, whose verdict is -1
    counts = np.bincount(row * n + verdict[known] + 1, minlength=dates.size * n).reshape(-1, n)[:, 1:]
    clean = clean[[name for name in clean.columns if name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)]]
    bounds = np.searchsorted(clean["date"].to_numpy().astype("datetime64[D]"), dates, side="left")
    ends = np.append(bounds[1:], len(clean))
    index = pd.Index(REASONS, name="reason")
    days = [
        _Day(day, clean.iloc[start:end], pd.Series(count, index=index, name="rows"))
        for day, start, end, count in zip(dates, bounds, ends, counts, strict=True)
    ]
    return days, int(np.count_nonzero(~known))


def _run(
    days: list[_Day], settings: _Settings, num_workers: int | None, progress: bool | Literal["auto"]
) -> list[_Outcome]:
    """Outcome of every day, in order."""
    if num_workers is None:
        num_workers = resolve_num_threads(None) if len(days) >= _WORTH_WORKERS else 1
    batches = [days[start : start + _BATCH] for start in range(0, len(days), _BATCH)]
    outcomes: list[_Outcome] = []
    with _bar(len(days), progress) as bar:
        for batch in _outcomes(batches, settings, min(num_workers, len(batches))):
            outcomes += batch
            bar.update(len(batch))
    return outcomes


def _outcomes(batches: list[list[_Day]], settings: _Settings, num_workers: int) -> Iterator[list[_Outcome]]:
    if num_workers == 1:
        for batch in batches:
            yield _batch(batch, settings)
        return
    # loky starts clean interpreters that do not run the user's script again, and leaves none behind on
    # Ctrl-C.
    from joblib import Parallel, delayed

    yield from Parallel(n_jobs=num_workers, return_as="generator", pre_dispatch="3 * n_jobs")(
        delayed(_batch)(batch, settings) for batch in batches
    )


def _batch(days: list[_Day], settings: _Settings) -> list[_Outcome]:
    # Sums of products may differ in the last bit with the number of BLAS threads, and workers have fewer of them.
    with single_threaded_blas():
        return [_one_day(day, settings) for day in days]


def _one_day(day: _Day, settings: _Settings) -> _Outcome:
    """Surface of one day with its row of the report; a day that cannot be used gives a row only."""
    row: dict[str, Any] = {
        "date": day.date,
        "status": "dropped",
        "reason": "",
        "detail": "",
        "n_rows": len(day.clean) + int(day.dropped.sum()),
        "n_used": 0,
        "n_expiries": 0,
        **dict.fromkeys(("fit_rmse", "fit_max", "rate", "penalty"), np.nan),
        **dict.fromkeys(("calendar_free", "butterfly_free"), False),
        **dict.fromkeys(("observed_share", "extrapolated_share"), np.nan),
        "spot_source": "",
        **{f"dropped_{reason}": int(day.dropped[reason]) for reason in REASONS},
        **{f"dropped_{reason}": 0 for reason in CHAIN_REASONS},
    }
    try:
        chain = Chain.from_clean(day.clean, day.date, day.dropped, settings.chain)
    except InputError as error:
        row.update(reason="unusable_chain", detail=str(error))
        return row, None
    row.update({f"dropped_{reason}": int(count) for reason, count in chain.dropped.items()})
    row["n_used"], row["n_expiries"] = len(chain.quotes), int(np.count_nonzero(chain.forwards["n_used"]))
    row["spot_source"] = chain.spot_source
    last = chain.forwards[chain.forwards["n_used"] > 0].iloc[-1]
    row["rate"] = -float(np.log(last["discount_factor"])) / float(last["tau"])
    try:
        grid = surface_on_grid(
            chain,
            settings.tau,
            settings.moneyness,
            settings.method,
            settings.max_extrapolation,
            settings.max_tau_ratio,
            settings.smoother,
        )
    except OutOfReachError as error:
        row.update(reason=error.reason, detail=str(error))
        return row, None
    except InputError as error:
        row.update(reason="unfitted", detail=str(error))
        return row, None
    calendar, monotone, convex = grid.penalty
    row.update(
        status="kept",
        fit_rmse=grid.fit_rmse,
        fit_max=grid.fit_max,
        penalty=float(grid.penalty.sum()),
        calendar_free=bool(calendar == 0),
        butterfly_free=bool(max(monotone, convex) == 0 and _first_slopes_bounded(grid, settings)),
        observed_share=float(np.mean(grid.quality == OBSERVED)),
        extrapolated_share=float(np.mean(grid.quality == EXTRAPOLATED)),
    )
    return row, (grid, chain.spot)


def _first_slopes_bounded(grid: Grid, settings: _Settings) -> bool:
    """Whether call prices fall no faster than the strike rises, which the penalty does not look at."""
    m = settings.moneyness[:2]
    if m.size < 2:
        return True
    call = black.price(1.0, m, settings.tau[:, None], grid.implied_vol[:, :2])
    return bool(np.all(call[:, 0] - call[:, 1] <= (m[1] - m[0]) * (1 + _ROUNDING)))


@contextmanager
def _bar(total: int, progress: bool | Literal["auto"]) -> Iterator[tqdm[Any]]:
    if progress not in (True, False, "auto"):
        raise InputError(f"progress must be True, False or 'auto', not {progress!r}")
    from tqdm import tqdm

    with tqdm(total=total, desc="surfaces", unit="day", disable=None if progress == "auto" else not progress) as bar:
        yield bar

"""The report of a build in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from volscen.errors import InputError

__all__ = ["summarise_report"]

_NEEDED = (
    "status",
    "reason",
    "n_rows",
    "n_used",
    "fit_rmse",
    "penalty",
    "observed_share",
    "extrapolated_share",
    "jump",
)


def summarise_report(report: pd.DataFrame) -> str:
    """Say in a few lines what became of the days and quotes of a build.

    Parameters
    ----------
    report : pandas.DataFrame
        As :func:`volscen.build_history` and :func:`volscen.update_history` return it.

    Raises
    ------
    InputError
        If it is no such report.

    Examples
    --------
    >>> import numpy as np, pandas as pd, volscen
    >>> strike, is_call = np.repeat(np.arange(80.0, 125, 5), 2), np.tile([True, False], 9)
    >>> quotes = pd.DataFrame({
    ...     "date": "2024-01-02", "expiry": "2024-04-02", "strike": strike, "option_type": np.tile(["C", "P"], 9),
    ...     "price": volscen.black.price(100.0, strike, 91 / 365, 0.2, is_call)})
    >>> history, report = volscen.build_history(quotes, tau=[0.2, 0.25], moneyness=[0.9, 1.0, 1.1])
    >>> print(volscen.summarise_report(report))
    1 day, 2024-01-02: 1 kept, 0 dropped
    18 rows: 9 used, 9 per day kept (least 9, on 2024-01-02); in_the_money 9
    error of the fit, vol points: median 0.00, 95% of days below 0.00, largest 0.00, on 2024-01-02
    free of arbitrage on the grid: 1 day; largest penalty 0
    grid cells: 50% observed, 50% extrapolated
    returns: 0 of forwards, 0 of the spot; corporate actions removed: none; suspect: none
    exercise: taken for European, as there is no column exercise
    """
    if not isinstance(report, pd.DataFrame) or any(name not in report for name in _NEEDED):
        raise InputError("report must be the table that volscen.build_history returns")
    kept = report[report["status"] == "kept"]
    assumed = bool(report.attrs.get("exercise_assumed", False))
    gone = report.loc[report["status"] == "dropped", "reason"].value_counts()
    span = f"{_date(report.index[0])}" + (f" to {_date(report.index[-1])}" if len(report) > 1 else "")
    why, stamps = _listed(gone, " (", ")"), pd.DatetimeIndex(report.index)
    unit = "day" if (stamps == stamps.normalize()).all() else "snapshot"
    lines = [f"{_count(len(report), unit)}, {span}: {len(kept):,} kept, {int(gone.sum()):,} dropped{why}"]
    unused = report.filter(regex="^dropped_").sum()
    unused = unused[unused > 0].sort_values(ascending=False, kind="stable")
    unused.index = unused.index.str.removeprefix("dropped_")
    rows = f"{int(report['n_rows'].sum()):,} rows: {int(report['n_used'].sum()):,} used"
    if not len(kept):
        return "\n".join([*lines, rows + _listed(unused, "; ")])
    least, worst = kept["n_used"].idxmin(), kept["fit_rmse"].idxmax()
    error = 100 * kept["fit_rmse"]
    free = int((kept["calendar_free"] & kept["butterfly_free"]).sum())
    removed, suspect = (report.index[report["jump"].isin(kinds)] for kinds in (("scaled", "shifted"), ("suspect",)))
    return "\n".join(
        [
            *lines,
            f"{rows}, {kept['n_used'].median():g} per {unit} kept (least {kept['n_used'].min():,}, on {_date(least)})"
            + _listed(unused, "; "),
            f"error of the fit, vol points: median {error.median():.2f}, 95% of days below {error.quantile(0.95):.2f}, "
            f"largest {error.max():.2f}, on {_date(worst)}",
            f"free of arbitrage on the grid: {_count(free, unit)}; largest penalty {kept['penalty'].max():.3g}",
            f"grid cells: {kept['observed_share'].mean():.0%} observed, "
            f"{kept['extrapolated_share'].mean():.0%} extrapolated",
            f"returns: {int((report['return_of'] == 'forward').sum()):,} of forwards, "
            f"{int((report['return_of'] == 'spot').sum()):,} of the spot; corporate actions removed: {_dates(removed)};"
            f" suspect: {_dates(suspect)}",
            *(["exercise: taken for European, as there is no column exercise"] if assumed else []),
        ]
    )


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _date(stamp: Any) -> str:
    return str(np.datetime64(stamp, "m") if stamp != stamp.normalize() else stamp.date())


def _dates(stamps: pd.Index) -> str:
    shown = ", ".join(_date(stamp) for stamp in stamps[:8])
    return (shown or "none") + (f" and {len(stamps) - 8} more" if len(stamps) > 8 else "")


def _listed(counts: pd.Series, before: str, after: str = "") -> str:
    text = ", ".join(f"{reason} {int(count):,}" for reason, count in counts.items())
    return before + text + after if text else ""

"""``volscen history``: building histories, adding days, taking out splits, putting several beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from volscen._cli._arguments import (
    Options,
    Out,
    Scheduler,
    Store,
    Workers,
    check_out,
    cluster,
    parse_option,
    print_counts,
    read_grid,
    write_table,
)
from volscen._cli._command import Result, command, group, note
from volscen._cli._complete import files, words
from volscen._cli._deltas import history_of_deltas
from volscen._cli._plan import dry_run, expected, planned
from volscen._cli._read_quotes import (
    Columns,
    Days,
    Moneyness,
    Quotes,
    Read,
    Smoother,
    Source,
    Underlying,
    naming,
    read_quotes,
)
from volscen.errors import InputError

__all__ = ["history_app"]

history_app = group("Histories of surfaces: build one, add days, take out a split, align several.")

_Report = Annotated[
    Path | None,
    typer.Option(
        help="CSV file for the report, one row per date. Default: OUT.report.csv.", autocompletion=files(".csv")
    ),
]
_Checkpoint = Annotated[
    Path | None, typer.Option(help="Folder for finished days; a build that was stopped goes on from it.")
]


@command(
    history_app,
    "build",
    panel="Commands",
    examples=[
        "volscen history build quotes.parquet --days 30,60,91 --moneyness 0.9,0.95,1,1.05,1.1 --out history.nc",
        "volscen history build closes.csv --days 1M,2M,3M --moneyness 0.9,1,1.1 \\\n"
        "    --columns date=day,expiry=expires,strike=K,option_type=cp,price=last --out history.nc",
        "volscen history build opra/ --source databento --read times=15:45 --read roots=SPXW \\\n"
        "    --days 30,60,91 --moneyness 0.9,0.95,1,1.05 --calendar XNYS --out history.zarr",
        "volscen history build vols.csv --source deltas --read spot=PX_LAST --read scale=0.01 \\\n"
        "    --days 1M,3M,1Y --moneyness 0.95,1,1.05 --out history.nc",
        "volscen history build factors.csv --source spx-factors --out history.nc",
    ],
)
def history_build(
    quotes: Quotes,
    out: Out,
    source: Source = "table",
    read: Read = None,
    days: Days = None,
    moneyness: Moneyness = None,
    columns: Columns = None,
    underlying: Underlying = None,
    method: Smoother = "svi",
    option: Options = None,
    returns: Annotated[
        str,
        typer.Option(
            help="What returns are of: forward, spot or auto.", autocompletion=words("auto", "forward", "spot")
        ),
    ] = "auto",
    calendar: Annotated[str | None, typer.Option(help="Exchange calendar's code, such as XNYS, to record.")] = None,
    intraday: Annotated[bool, typer.Option("--intraday", help="A row per snapshot, not one per day.")] = False,
    periods_per_year: Annotated[float | None, typer.Option(help="Rows a year. Default: 252.")] = None,
    checkpoint: _Checkpoint = None,
    num_workers: Workers = None,
    scheduler: Scheduler = None,
    report: _Report = None,
) -> Result:
    """Build a history of surfaces from option quotes.

    Quotes have the columns date, expiry, strike, option_type (C or P), and price or bid and ask; spot is optional.
    Others' names are given with --columns. Options must be European unless a column exercise says American.
    """
    import volscen
    from volscen import sources
    from volscen._sessions import sessions

    check_out(out)
    grid = read_grid(days, moneyness)
    if source in ("deltas", "spx-factors"):
        of_deltas = source == "deltas"
        for given, name in (
            (report, "--report"),
            (None if of_deltas else read, "--read"),
            (columns, "--columns"),
            (underlying, "--underlying"),
            (checkpoint, "--checkpoint"),
            (option, "--option"),
            (intraday or None, "--intraday"),
            (periods_per_year, "--periods-per-year"),
            (None if of_deltas else calendar, "--calendar"),
        ):
            if given is not None:
                raise InputError(f"{name} goes with quotes only; leave it out for --source {source}")
        if dry_run():
            return planned(reads=[quotes], writes=[out])
        history = (
            history_of_deltas(quotes, grid, read, calendar) if of_deltas else sources.read_spx_factors(quotes, **grid)
        )
        volscen.write(history, out)
        return _written(history, out)
    if calendar is not None:
        try:
            sessions(calendar)  # an unknown one would only be found out by the model that needs it
        except InputError:
            raise InputError(
                f"--calendar {calendar} is not in exchange_calendars; give a code such as XNYS, or weekdays"
            ) from None
    table_out = _report_beside(out, report)
    if dry_run() and expected(quotes):
        return planned(reads=[quotes], writes=[out, table_out, checkpoint])
    table, dropped = read_quotes(quotes, source, read, columns, grid, underlying)
    if dry_run():
        n_days = int(table["date"].nunique())
        cells = len(grid["tau"]) * len(grid["moneyness"])
        size = n_days * (9 * cells + 16 * len(grid["tau"]) + 64)
        return planned(
            reads=[quotes],
            writes={out: size, table_out: 400 * n_days, checkpoint: None},
            memory_bytes=int(table.memory_usage(index=True).sum()),
            figures={"rows": len(table), "rows_dropped": int(dropped.sum()), "days": n_days, "grid_points": cells},
        )
    with naming(quotes), cluster(scheduler):
        history, days_report = volscen.build_history(
            table,
            method=method,
            returns=returns,  # type: ignore[arg-type]
            calendar=calendar or "unspecified",
            intraday=intraday,
            periods_per_year=periods_per_year,
            resume=checkpoint,
            num_workers=num_workers,
            **grid,
            **dict(parse_option(text) for text in option or []),
        )
    _print_days(days_report)
    write_table(days_report, table_out)  # before the history: a history without its report would look finished
    volscen.write(history, out)
    return _written(history, out, table_out, dropped, days_report)


@command(
    history_app,
    "update",
    panel="Commands",
    examples=["volscen history update history.nc today.parquet --columns price=close,option_type=type"],
)
def history_update(
    store: Store,
    quotes: Quotes,
    source: Source = "table",
    read: Read = None,
    columns: Columns = None,
    underlying: Underlying = None,
    checkpoint: _Checkpoint = None,
    num_workers: Workers = None,
    scheduler: Scheduler = None,
    report: _Report = None,
) -> Result:
    """Append the new days of a file of quotes to a history.

    Grid, method and options are those that the history was built with; days that it holds are skipped.
    """
    import pandas as pd

    from volscen._io import read_dataset
    from volscen.history._update import extend
    from volscen.schema import HISTORY

    check_out(store)
    table_out = _report_beside(store, report)
    if dry_run() and (expected(store) or expected(quotes)):
        return planned(reads=[store, quotes], writes=[store, table_out])
    held = read_dataset(store, kind=HISTORY)  # before the quotes, which may take long
    table, dropped = read_quotes(quotes, source, read, columns, None, underlying)
    if dry_run():
        days = pd.DatetimeIndex(table["date"].unique()).normalize()
        new = int((~days.isin(pd.DatetimeIndex(held["date"].values).normalize())).sum())
        size = store.stat().st_size if store.is_file() else None
        counts = {"rows": len(table), "rows_dropped": int(dropped.sum()), "days": len(days), "new_days": new}
        return planned(reads=[store, quotes], writes={store: size, table_out: None}, figures=counts)

    def keep(new: Any) -> None:  # before the history, which then holds these days and would not report them again
        whole = new
        if table_out.exists():
            old = pd.read_csv(table_out, index_col="date", parse_dates=True, keep_default_na=False, dtype=str)
            old = old[~old.index.isin(new.index)]
            whole = pd.concat([old, new.astype(str)])
        write_table(whole, table_out)

    with naming(quotes), cluster(scheduler):
        history, report_new = extend(store, table, {}, resume=checkpoint, num_workers=num_workers, keep_report=keep)
    skipped = report_new.attrs["days_skipped"]
    note(f"days there already, skipped: {skipped:,}")
    if not len(report_new):
        figures = _written(history, store, None, dropped, report_new).figures
        return Result({**figures, "days_skipped": skipped}, f"no new day; {store} stays as it is")
    _print_days(report_new)
    done = _written(history, store, table_out, dropped, report_new)
    return Result({**done.figures, "days_skipped": skipped}, done.text)


@command(
    history_app,
    "adjust",
    panel="Commands",
    in_place=True,
    examples=[
        "volscen history adjust history.nc --date 2024-02-12 --split 3 --out history.nc",
        "volscen history adjust history.nc --date 2024-02-12 --out checked.nc",
    ],
)
def history_adjust(
    store: Store,
    date: Annotated[str, typer.Option(help="First day on which the price is without it.", metavar="YYYY-MM-DD")],
    out: Out,
    split: Annotated[float, typer.Option(help="New shares for one old: 3 for three for one.")] = 1.0,
    dividend: Annotated[float, typer.Option(help="Currency per new share.")] = 0.0,
) -> Result:
    """Take a split or a dividend out of the return into a date.

    With neither, the return, which was suspected of being one, is declared sound.
    """
    import volscen
    from volscen._io import read_dataset
    from volscen.history._adjust import adjusted_row
    from volscen.schema import HISTORY

    check_out(out)
    if dry_run() and expected(store):
        return planned(reads=[store], writes=[out])
    held = read_dataset(store, kind=HISTORY)
    history = volscen.adjust_return(held, date, split=split, dividend=dividend)
    row = adjusted_row(held, date)
    before, after = (float(one["log_return"].values[row]) for one in (held, history))
    figures = {"date": date, "log_return_before": before, "log_return": after}
    if dry_run():
        return planned(reads=[store], writes=[out], figures=figures)
    volscen.write(history, out)
    done = _written(history, out)
    return Result({**done.figures, **figures}, f"log return into {date}: {before:+.4f}, now {after:+.4f}\n{done.text}")


@command(history_app, "align", panel="Commands", examples=["volscen history align SPX=spx.nc SSE=sse.nc --out both.nc"])
def history_align(
    histories: Annotated[list[str], typer.Argument(help="Name and file of each asset, as name=file.")],
    out: Out,
    join: Annotated[
        str,
        typer.Option(
            help="inner: the dates that all have; exact: refuse where dates differ.",
            autocompletion=words("inner", "exact"),
        ),
    ] = "inner",
) -> Result:
    """Put the histories of several underlyings on common dates."""
    import volscen
    from volscen._io import read_dataset
    from volscen.schema import HISTORY

    check_out(out)
    named = dict(_named_file(text) for text in histories)
    if len(named) < len(histories):
        raise InputError("two histories bear the same name; give each its own, as name=file")
    if dry_run():
        for file in named.values():
            expected(Path(file))
        return planned(reads=[Path(file) for file in named.values()], writes=[out])
    joined = volscen.align_histories(
        {name: read_dataset(Path(file), kind=HISTORY) for name, file in named.items()},
        join=join,  # type: ignore[arg-type]
    )
    volscen.write(joined, out)
    lost = dict(zip(named, joined["days_lost"].values.tolist(), strict=True))
    print_counts("dates lost", lost)
    done = _written(joined, out)
    return Result({**done.figures, "dates_lost": lost}, done.text)


def _named_file(text: str) -> tuple[str, str]:
    name, separator, file = text.partition("=")
    if not (name and separator and file):
        raise InputError(f"a history must look like name=file, not {text!r}")
    return name, file


def _report_beside(store: Path, report: Path | None) -> Path:
    """Where the report goes; refused now if it could not be written later."""
    from volscen._cli._arguments import check_file

    path = store.with_name(f"{store.stem}.report.csv") if report is None else report
    check_file(path)
    return path


def _print_days(report: Any) -> None:
    from volscen import summarise_report

    reasons = report.loc[report["status"] == "dropped", "reason"].value_counts().to_dict()
    print_counts("days dropped", reasons)
    note(summarise_report(report))


def _written(history: Any, out: Path, table: Path | None = None, dropped: Any = None, report: Any = None) -> Result:
    from volscen._figures import history_figures

    dates = history["date"].values.astype("datetime64[D]")
    days: dict[str, Any] = {}
    if report is not None:
        days = {"days_added": 0, "days_dropped": {}}
        if len(report):
            reasons = report.loc[report["status"] == "dropped", "reason"]
            days = {
                "days_added": int((report["status"] == "kept").sum()),
                "days_dropped": reasons.value_counts().to_dict(),
            }
    figures = {
        "out": out,
        "report": table,
        "rows_dropped": {} if dropped is None else dropped.to_dict(),
        **days,
        **history_figures(history),
    }
    return Result(figures, f"wrote {out}: {dates.size} days from {dates[0]} to {dates[-1]}")

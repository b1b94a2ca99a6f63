"""``volscen history``: building histories of surfaces, adding days, putting several beside each other."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
    parse_pairs,
    print_counts,
    read_grid,
    write_table,
)
from volscen._cli._columns import guess_columns
from volscen._cli._command import Result, command, group, note
from volscen._cli._complete import SMOOTHERS, SOURCES, files, words
from volscen._cli._deltas import history_of_deltas
from volscen._cli._plan import dry_run, expected, planned
from volscen._names import shown
from volscen.errors import InputError, QuotesWarning

__all__ = [
    "Columns",
    "Days",
    "Moneyness",
    "Quotes",
    "Read",
    "Smoother",
    "Source",
    "Underlying",
    "history_app",
    "naming",
    "read_quotes",
]

history_app = group("Histories of surfaces: build one, add days, align several.")

Quotes = Annotated[
    Path,
    typer.Argument(
        help="File (or, for databento, folder) of quotes.",
        autocompletion=files(".csv", ".parquet", ".pq", ".gz", ".json", ".zst", ".dbn", ".zip"),
    ),
]
Source = Annotated[str, typer.Option(help=f"What the file is: {', '.join(SOURCES)}.", autocompletion=words(*SOURCES))]
Read = Annotated[list[str] | None, typer.Option(help="Option of the reader, name=value; may be repeated.")]
Columns = Annotated[str | None, typer.Option(help="Where the names differ: ours=theirs, separated by commas.")]
Underlying = Annotated[
    str | None,
    typer.Option(help="Of several underlyings in the file, the one to keep: its name in the column underlying."),
]
Days = Annotated[
    str | None, typer.Option(help="Maturities: calendar days or tenors (3M), with commas.", metavar="30,60,91")
]
Moneyness = Annotated[str | None, typer.Option(help="K/F, separated by commas.", metavar="0.9,1,1.1")]
Smoother = Annotated[str, typer.Option(help=f"Smoother: {', '.join(SMOOTHERS)}.", autocompletion=words(*SMOOTHERS))]
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


def read_quotes(
    path: Path,
    source: str,
    read: list[str] | None,
    columns: str | None,
    grid: dict[str, Any] | None = None,
    underlying: str | None = None,
) -> tuple[Any, Any]:
    """Table of quotes, and how many were dropped on the way, by reason, which is printed too."""
    from volscen._underlyings import underlyings_unread
    from volscen.sources._readers import READERS
    from volscen.sources._readers import read_quotes as read_with
    from volscen.sources.table import load_frame

    if source not in READERS:
        raise InputError(f"--source must be one of {', '.join(READERS)}, deltas, spx-factors, not {source!r}")
    if grid is not None and len(grid) != 2:
        raise InputError("--days and --moneyness are needed: they are the grid of the history")
    options = dict(parse_option(text, "--read") for text in read or [])
    if columns is not None:
        options["columns"] = parse_pairs(columns, "--columns")
    try:
        table, dropped = read_with(path, source, **options)
    except InputError as error:
        guessed = (
            guess_columns(path, options.get("columns"), options)
            if source == "table" and "lack the column" in str(error)
            else ""
        )
        raise InputError(f"{error}{guessed}") from None
    dropped = dropped[dropped > 0]
    print_counts("quotes dropped on reading", dropped.to_dict())
    doubt = underlyings_unread(table, lambda: load_frame(path)[0]) if source == "table" and underlying is None else None
    if doubt is not None:
        column, held = doubt
        warnings.warn(
            f"{path}: {held}; if they are underlyings, add underlying={column} to --columns and choose one with "
            "--underlying",
            QuotesWarning,
            stacklevel=2,
        )
        table = table.drop(columns=column)  # said once
    return _of_underlying(table, path, underlying), dropped


def _of_underlying(table: Any, path: Path, wanted: str | None) -> Any:
    if wanted is None:
        return table
    if "underlying" not in table:
        raise InputError("--underlying needs a column underlying; name yours with --columns underlying=...")
    names = table["underlying"].astype(str)
    kept = table[names == wanted]
    if not len(kept):
        raise InputError(f"{path}: --underlying {wanted} is not there; the file holds {shown(sorted(set(names)))}")
    note(f"rows of other underlyings: {len(table) - len(kept):,}")
    return kept


@contextmanager
def naming(quotes: Path) -> Iterator[None]:
    """Name the file in errors that lie in its quotes."""
    try:
        yield
    except InputError as error:
        at_fault = str(error).startswith(("not one of", "quotes ", "the quotes "))
        raise InputError(f"{quotes}: {error}" if at_fault else str(error)) from None


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

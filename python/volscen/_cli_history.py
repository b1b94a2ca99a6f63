"""``volscen history``: building histories of surfaces, adding days, putting several beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from volscen._cli_arguments import check_out, parse_numbers, parse_option, parse_pairs, print_counts, write_table
from volscen.errors import InputError

__all__ = ["history_app"]

history_app = typer.Typer(
    help="Build histories of surfaces, add days, align several.", no_args_is_help=True, rich_markup_mode=None
)

_Source = Annotated[
    str,
    typer.Option(help="What the file is: table (CSV, Parquet), databento, optionmetrics, lean, deribit, spx-factors."),
]
_Read = Annotated[list[str] | None, typer.Option(help="Option of the reader, name=value; may be repeated.")]
_Columns = Annotated[str | None, typer.Option(help="Where the names differ: ours=theirs, separated by commas.")]
_Workers = Annotated[int | None, typer.Option(help="Processes. Default: all available.")]
_Report = Annotated[
    Path | None, typer.Option(help="CSV file for the report, one row per date. Default: beside the history.")
]
_Resume = Annotated[
    Path | None, typer.Option(help="Folder for finished days; a build that was stopped goes on from it.")
]


@history_app.command(
    "build",
    epilog="Examples:  volscen history build quotes.parquet --days 30,60,91 --moneyness 0.9,0.95,1,1.05,1.1 "
    "--columns price=close,option_type=type --out history.nc   |   volscen history build opra/ --source databento "
    "--read times=15:45 --read roots=SPXW --days 30,60,91 --moneyness 0.9,0.95,1,1.05 --out history.zarr   |   "
    "volscen history build factors.csv --source spx-factors --out history.nc",
)
def history_build(
    quotes: Annotated[Path, typer.Argument(help="File (or, for databento, folder) of quotes, or of daily factors.")],
    out: Annotated[Path, typer.Option(help="NetCDF file or zarr store to write.")],
    source: _Source = "table",
    read: _Read = None,
    days: Annotated[str | None, typer.Option(help="Maturities: calendar days or tenors (3M), with commas.")] = None,
    moneyness: Annotated[str | None, typer.Option(help="K/F, separated by commas.")] = None,
    columns: _Columns = None,
    method: Annotated[str, typer.Option(help="Smoother: svi, essvi, ssvi, cubic, kernel or repair.")] = "svi",
    option: Annotated[
        list[str] | None, typer.Option(help="Further option of chain or smoother, name=value; may be repeated.")
    ] = None,
    returns: Annotated[str, typer.Option(help="What returns are of: forward, spot or auto.")] = "auto",
    calendar: Annotated[str | None, typer.Option(help="Exchange calendar's code, such as XNYS, to record.")] = None,
    intraday: Annotated[bool, typer.Option("--intraday", help="A row per snapshot, not one per day.")] = False,
    periods_per_year: Annotated[float | None, typer.Option(help="Rows a year. Default: 252.")] = None,
    resume: _Resume = None,
    num_workers: _Workers = None,
    report: _Report = None,
) -> None:
    """Build a history of surfaces from option quotes."""
    import volscen
    from volscen._tenors import from_days
    from volscen.schema import check_grid
    from volscen.sources import read_spx_factors

    check_out(out)
    grid: dict[str, Any] = {}
    if days:
        grid["tau"] = check_grid(from_days("--days", days), "--days")
    if moneyness:
        grid["moneyness"] = check_grid(parse_numbers(moneyness, "--moneyness"), "--moneyness")
    if source == "spx-factors":
        for given, name in (
            (report, "--report"),
            (read, "--read"),
            (columns, "--columns"),
            (resume, "--resume"),
            (option, "--option"),
            (intraday or None, "--intraday"),
            (periods_per_year, "--periods-per-year"),
            (calendar, "--calendar"),
        ):
            if given is not None:
                raise InputError(f"{name} goes with quotes only; leave it out for --source spx-factors")
        volscen.write(history := read_spx_factors(quotes, **grid), out)
        _say_written(history, out)
        return
    table_out = _report_beside(out, report)
    table = _quotes(quotes, source, read, columns, grid)
    with _naming(quotes):
        history, days_report = volscen.build_history(
            table,
            method=method,
            returns=returns,  # type: ignore[arg-type]
            calendar=calendar or "unspecified",
            intraday=intraday,
            periods_per_year=periods_per_year,
            resume=resume,
            num_workers=num_workers,
            **grid,
            **dict(parse_option(text) for text in option or []),
        )
    _print_days(days_report)
    volscen.write(history, out)
    write_table(days_report, table_out)
    _say_written(history, out)


@history_app.command(
    "update",
    epilog="Example:  volscen history update history.nc today.parquet --columns price=close,option_type=type. Grid, "
    "method and options are those that the history was built with; days that it holds are skipped.",
)
def history_update(
    store: Annotated[Path, typer.Argument(help="History (NetCDF file or zarr store); it grows.")],
    quotes: Annotated[Path, typer.Argument(help="File (or, for databento, folder) of quotes.")],
    source: _Source = "table",
    read: _Read = None,
    columns: _Columns = None,
    resume: _Resume = None,
    num_workers: _Workers = None,
    report: _Report = None,
) -> None:
    """Append the new days of a file of quotes to a history."""
    import pandas as pd

    import volscen
    from volscen._io import read_dataset
    from volscen.schema import HISTORY

    check_out(store)
    read_dataset(store, kind=HISTORY)  # before the quotes, which may take long
    table_out = _report_beside(store, report)
    table = _quotes(quotes, source, read, columns)
    with _naming(quotes):
        history, new = volscen.update_history(store, table, resume=resume, num_workers=num_workers)
    typer.echo(f"days there already, skipped: {new.attrs['days_skipped']:,}")
    if not len(new):
        typer.echo(f"no new day; {store} stays as it is")
        return
    _print_days(new)
    if table_out.exists():
        old = pd.read_csv(table_out, index_col="date", parse_dates=True, keep_default_na=False, dtype=str)
        old = old[~old.index.isin(new.index)]
        new = pd.concat([old, new.astype(str)])
    write_table(new, table_out)
    _say_written(history, store)


@history_app.command(
    "align",
    epilog="Example:  volscen history align SPX=spx.nc SSE=sse.nc --out both.nc",
)
def history_align(
    histories: Annotated[list[str], typer.Argument(help="Name and file of each asset, as name=file.")],
    out: Annotated[Path, typer.Option(help="NetCDF file or zarr store to write.")],
    join: Annotated[
        str, typer.Option(help="inner: the dates that all have; exact: refuse where dates differ.")
    ] = "inner",
) -> None:
    """Put the histories of several underlyings beside each other, on common dates."""
    import volscen
    from volscen._io import read_dataset
    from volscen.schema import HISTORY

    check_out(out)
    files = dict(_named_file(text) for text in histories)
    if len(files) < len(histories):
        raise InputError("two histories bear the same name; give each its own, as name=file")
    joined = volscen.align_histories(
        {name: read_dataset(file, kind=HISTORY) for name, file in files.items()},
        join=join,  # type: ignore[arg-type]
    )
    volscen.write(joined, out)
    print_counts("dates lost", dict(zip(files, joined["days_lost"].values.tolist(), strict=True)))
    _say_written(joined, out)


def _named_file(text: str) -> tuple[str, str]:
    name, separator, file = text.partition("=")
    if not (name and separator and file):
        raise InputError(f"a history must look like name=file, not {text!r}")
    return name, file


def _quotes(
    path: Path, source: str, read: list[str] | None, columns: str | None, grid: dict[str, Any] | None = None
) -> Any:
    """Table of quotes; what was dropped on the way is printed."""
    from volscen.sources._readers import READERS, read_quotes

    if source not in READERS:
        raise InputError(f"--source must be one of {', '.join(READERS)}, spx-factors, not {source!r}")
    if grid is not None and len(grid) != 2:
        raise InputError("--days and --moneyness are needed: they are the grid of the history")
    options = dict(parse_option(text, "--read") for text in read or [])
    if columns is not None:
        options["columns"] = parse_pairs(columns, "--columns")
    table, dropped = read_quotes(path, source, **options)
    print_counts("quotes dropped on reading", dropped[dropped > 0].to_dict())
    return table


@contextmanager
def _naming(quotes: Path) -> Iterator[None]:
    """Name the file in errors that lie in its quotes."""
    try:
        yield
    except InputError as error:
        at_fault = str(error).startswith(("not one of", "quotes ", "the quotes "))
        raise InputError(f"{quotes}: {error}" if at_fault else str(error)) from None


def _report_beside(store: Path, report: Path | None) -> Path:
    """Where the report goes; refused now if it could not be written later."""
    from volscen._files import check_writable

    path = store.with_name(f"{store.stem}.report.csv") if report is None else report
    check_writable(path)
    return path


def _print_days(report: Any) -> None:
    from volscen import summarise_report

    reasons = report.loc[report["status"] == "dropped", "reason"].value_counts().to_dict()
    print_counts("days dropped", reasons)
    typer.echo(summarise_report(report))


def _say_written(history: Any, out: Path) -> None:
    dates = history["date"].values.astype("datetime64[D]")
    typer.echo(f"wrote {out}: {dates.size} days from {dates[0]} to {dates[-1]}")

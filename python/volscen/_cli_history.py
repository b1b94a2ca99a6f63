"""``volscen history``: building histories of surfaces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from volscen._cli_arguments import check_out, parse_numbers, parse_option, parse_pairs, print_counts, write_table
from volscen.errors import InputError

__all__ = ["history_app"]

history_app = typer.Typer(help="Build histories of surfaces.", no_args_is_help=True, rich_markup_mode=None)


@history_app.command(
    "build",
    epilog="Examples:  volscen history build quotes.parquet --days 30,60,91 --moneyness 0.9,0.95,1,1.05,1.1 "
    "--columns price=close,option_type=type --out history.nc   |   volscen history build opra/ --source databento "
    "--read times=15:45 --read roots=SPXW --days 30,60,91 --moneyness 0.9,0.95,1,1.05 --out history.nc   |   "
    "volscen history build factors.csv --source spx-factors --out history.nc",
)
def history_build(
    quotes: Annotated[Path, typer.Argument(help="File (or, for databento, folder) of quotes, or of daily factors.")],
    out: Annotated[Path, typer.Option(help="NetCDF file to write.")],
    source: Annotated[
        str,
        typer.Option(
            help="What the file is: table (CSV, Parquet), databento, optionmetrics, lean, deribit, spx-factors."
        ),
    ] = "table",
    read: Annotated[list[str] | None, typer.Option(help="Option of the reader, name=value; may be repeated.")] = None,
    days: Annotated[str | None, typer.Option(help="Maturities: calendar days or tenors (3M), with commas.")] = None,
    moneyness: Annotated[str | None, typer.Option(help="K/F, separated by commas.")] = None,
    columns: Annotated[
        str | None, typer.Option(help="Where the names differ: ours=theirs, separated by commas.")
    ] = None,
    method: Annotated[str, typer.Option(help="Smoother: svi, essvi, ssvi, cubic or kernel.")] = "svi",
    num_workers: Annotated[int | None, typer.Option(help="Processes. Default: all available.")] = None,
    report: Annotated[Path | None, typer.Option(help="CSV file for the report, one row per date.")] = None,
) -> None:
    """Build a history of surfaces from option quotes."""
    import volscen
    from volscen._files import check_writable
    from volscen._tenors import from_days
    from volscen.schema import check_grid
    from volscen.sources import read_spx_factors
    from volscen.sources._readers import READERS, read_quotes

    check_out(out)
    if report is not None:
        check_writable(report)
    grid: dict[str, Any] = {}
    if days:
        grid["tau"] = check_grid(from_days("--days", days), "--days")
    if moneyness:
        grid["moneyness"] = check_grid(parse_numbers(moneyness, "--moneyness"), "--moneyness")
    days_report: Any = None
    if source == "spx-factors":
        for given, name in ((report, "--report"), (read, "--read"), (columns, "--columns")):
            if given is not None:
                raise InputError(f"{name} goes with quotes only; leave it out for --source spx-factors")
        history = read_spx_factors(quotes, **grid)
    elif source in READERS:
        if len(grid) != 2:
            raise InputError("--days and --moneyness are needed: they are the grid of the history")
        options = dict(parse_option(text, "--read") for text in read or [])
        if columns is not None:
            options["columns"] = parse_pairs(columns, "--columns")
        table, dropped = read_quotes(quotes, source, **options)
        history, days_report = volscen.build_history(table, method=method, num_workers=num_workers, **grid)
        print_counts("quotes dropped on reading", dropped[dropped > 0].to_dict())
        reasons = days_report.loc[days_report["status"] == "dropped", "reason"].value_counts().to_dict()
        print_counts("days dropped", reasons)
    else:
        raise InputError(f"--source must be one of {', '.join(READERS)}, spx-factors, not {source!r}")
    volscen.write(history, out)
    if report is not None:
        write_table(days_report, report)
    dates = history["date"].values.astype("datetime64[D]")
    typer.echo(f"wrote {out}: {dates.size} days from {dates[0]} to {dates[-1]}")

"""``volscen surface``, ``repair``, ``download``, ``record``: one day to a surface, holes filled, data got."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from volscen._cli._arguments import (
    DATA,
    Options,
    Out,
    Workers,
    check_out,
    parse_numbers,
    parse_option,
    read_grid,
)
from volscen._cli._command import Result, command, note, session
from volscen._cli._complete import DATASETS, FREE, REPAIRS, files, words
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

__all__ = ["quotes_app"]

quotes_app = typer.Typer(rich_markup_mode=None)


@command(
    quotes_app,
    panel=DATA,
    examples=[
        "volscen surface quotes.csv --days 30,60,91 --moneyness 0.9,0.95,1,1.05,1.1",
        "volscen surface quotes.parquet --date 2024-06-03 --days 1M,3M --moneyness 0.9,1,1.1 --out surface.nc",
    ],
)
def surface(
    quotes: Quotes,
    days: Days = None,
    moneyness: Moneyness = None,
    date: Annotated[str | None, typer.Option(help="Trading date. Default: the last of the quotes.")] = None,
    source: Source = "table",
    read: Read = None,
    columns: Columns = None,
    underlying: Underlying = None,
    method: Smoother = "svi",
    option: Options = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the surface (.nc or .zarr).", autocompletion=files(*DATASETS)),
    ] = None,
) -> Result:
    """Fit one day's surface and say how well it fits.

    For a look at quotes before a history is built of them.
    """
    import volscen

    if out is not None:
        check_out(out)
    grid = read_grid(days, moneyness)
    if dry_run() and expected(quotes):
        return planned(reads=[quotes], writes=[out])
    table, dropped = read_quotes(quotes, source, read, columns, grid, underlying)
    last = table["date"].max() if date is None else date
    if dry_run():
        counts = {"rows": len(table), "rows_dropped": int(dropped.sum()), "date": str(last)[:10]}
        return planned(reads=[quotes], writes=[out], figures=counts)
    with naming(quotes):
        chain = volscen.Chain(table, last)
        fitted = volscen.build_surface(
            chain, method=method, **grid, **dict(parse_option(text) for text in option or [])
        )
    if out is not None:
        volscen.write(fitted, out)
    figures = _surface_figures(fitted, str(last)[:10])
    return Result({**figures, "out": out}, _surface_text(fitted, figures) + (f"\nwrote {out}" if out else ""))


def _surface_figures(fitted: Any, day: str) -> dict[str, Any]:
    names = ("fit_rmse", "fit_max", "n_quotes", "n_expiries", "arbitrage_penalty")
    held = {**{name: float(fitted[name]) for name in names if name in fitted}}
    held |= {name: fitted.attrs[name] for name in names if name in fitted.attrs}
    return {
        "date": day,
        "spot": float(fitted["spot"]),
        "days": 365 * fitted["tau"].values,
        "moneyness": fitted["moneyness"].values,
        "implied_vol": fitted["implied_vol"].transpose("tau", "moneyness").values,
        **held,
    }


def _surface_text(fitted: Any, figures: dict[str, Any]) -> str:
    lines = [f"surface of {figures['date']}, spot {figures['spot']:,.6g}"]
    if "fit_rmse" in figures:
        lines[0] += f", fit {100 * figures['fit_rmse']:.2f} vol points, worst {100 * figures['fit_max']:.2f}"
    lines.append(f"  {'vol, %':<10}" + "".join(f"{m:>9.4g}" for m in figures["moneyness"]))
    for day, row in zip(figures["days"], figures["implied_vol"], strict=True):
        lines.append(f"  {f'{day:.4g} days':<10}" + "".join(f"{100 * vol:>9.2f}" for vol in row))
    return "\n".join(lines)


@command(
    quotes_app,
    panel=DATA,
    examples=[
        "volscen repair holes.nc --out whole.nc",
        "volscen repair quotes.csv --days 30,91,182 --moneyness 0.8,0.9,1,1.1,1.2 --out whole.nc",
    ],
)
def repair(
    observed: Annotated[
        Path,
        typer.Argument(
            help="Dataset with implied_vol over (..., tau, moneyness), NaN where there is no quote; or a CSV or "
            "Parquet table with tau, moneyness, implied_vol and, if known, half_spread_vol and date.",
            autocompletion=files(*DATASETS, ".csv", ".parquet"),
        ),
    ],
    out: Out,
    days: Days = None,
    moneyness: Moneyness = None,
    method: Annotated[str, typer.Option(help=f"{', '.join(REPAIRS)}.", autocompletion=words(*REPAIRS))] = "default",
    free: Annotated[
        str,
        typer.Option(help="Conditions to project onto: density, prices or none.", autocompletion=words(*FREE)),
    ] = "density",
    levels: Annotated[str, typer.Option(help="Probabilities of the intervals.")] = "0.8,0.95",
    num_workers: Workers = None,
) -> Result:
    """Complete surfaces from some noisy quotes.

    What comes out is free of static arbitrage, with intervals and flags.
    """
    import numpy as np

    import volscen
    from volscen._repair._result import FLAGS

    check_out(out)
    grid = read_grid(days, moneyness)
    options: dict[str, Any] = {"method": method, "free": free, "levels": parse_numbers(levels, "--levels")}
    if dry_run():
        if expected(observed):
            return planned(reads=[observed], writes=[out])
        given = _read(observed)
        size = int(given["implied_vol"].size) if "implied_vol" in given else None
        return planned(reads=[observed], writes=[out], figures={"values": size})
    whole = volscen.repair(_read(observed), **grid, **options, num_workers=num_workers)
    volscen.write(whole, out)
    flag = whole["surface_flag"].values
    counts = {name: int(np.count_nonzero(flag & bit)) for name, bit in FLAGS.items()}
    misfit = float(np.median(whole.misfit))
    lines = [f"{out}: {flag.size:,} surface{'' if flag.size == 1 else 's'}, median misfit {misfit:.2f}"]
    lines += [f"  {name}: {count:,}" for name, count in counts.items() if count]
    return Result({"out": out, "surfaces": int(flag.size), "median_misfit": misfit, "flags": counts}, "\n".join(lines))


def _read(path: Path) -> Any:
    """Table or dataset, as it is: holes are what this is about."""
    import pandas as pd
    import xarray as xr

    if not path.exists():
        raise InputError(f"there is no file {path}")
    try:
        if path.suffix in (".csv", ".parquet"):
            return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
        if path.suffix not in (".nc", ".nc4", ".netcdf", ".zarr"):
            raise InputError(f"cannot read {path}: it is neither a NetCDF file (.nc), a zarr store nor a table of vols")
        with xr.open_dataset(path) as ds:
            return ds.load()
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())[:200]}") from None


@command(
    quotes_app,
    panel=DATA,
    examples=[
        "volscen download SPX.OPT SPXW.OPT --start 2024-01-19 --schema cbbo-1m --schema definition --out opra",
    ],
)
def download(
    symbols: Annotated[list[str], typer.Argument(help="Parent symbols, such as SPY.OPT.")],
    start: Annotated[str, typer.Option(help="First day.")],
    end: Annotated[str | None, typer.Option(help="Last day, included. Default: the first.")] = None,
    schema: Annotated[
        list[str] | None,
        typer.Option(
            help="cbbo-1m, cbbo-1s, cmbp-1, tcbbo, definition, statistics; may be repeated. Default: cbbo-1m.",
            autocompletion=words("cbbo-1m", "cbbo-1s", "cmbp-1", "tcbbo", "definition", "statistics"),
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path(),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether to pay.")] = False,
) -> Result:
    """Show what data costs at Databento, ask, and download it.

    The key is taken from the environment variable DATABENTO_API_KEY. A dry run asks for the price and buys nothing.
    """
    from volscen.sources import download_databento

    if session().json and not yes and not dry_run():
        raise InputError("--json asks no questions: add --yes, or --dry-run to see the price")
    asked: list[str] = []

    def decline(question: str) -> bool:
        asked.append(question)
        return False

    confirm = decline if dry_run() else True if yes else None
    found = download_databento(symbols, start=start, end=end, schemas=schema or "cbbo-1m", folder=out, confirm=confirm)
    lines = [f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)" for file in found]
    said = "\n".join([*asked, *lines, *([] if lines else ["nothing was downloaded"])])
    return Result({"out": out, "files": list(found), "question": asked[0] if asked else None}, said)


@command(
    quotes_app,
    panel=DATA,
    examples=[
        "volscen record SPX.OPT SPXW.OPT --until 15:46 --replay 10min --out live",
        "volscen record SPY.OPT --for 30min --schema cbbo-1s --out live",
    ],
)
def record(
    symbols: Annotated[list[str], typer.Argument(help="Parent symbols, such as SPY.OPT.")],
    for_: Annotated[
        str | None, typer.Option("--for", help="How long, such as 30min. Default: until Ctrl-C.", metavar="30min")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(help="Until when in New York, instead, such as 15:46 or close+1min.", metavar="15:46"),
    ] = None,
    schema: Annotated[
        list[str] | None,
        typer.Option(
            help="cbbo-1m, cbbo-1s, cmbp-1, tcbbo, definition; may be repeated. Default: cbbo-1m and definition.",
            autocompletion=words("cbbo-1m", "cbbo-1s", "cmbp-1", "tcbbo", "definition"),
        ),
    ] = None,
    replay: Annotated[
        str | None, typer.Option(help="Quotes of how long before now first, or from the open.", metavar="10min|open")
    ] = None,
    reconnect: Annotated[str, typer.Option(help="How long to try again when the connection is lost.")] = "15min",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path(),
) -> Result:
    """Record live option quotes from Databento, to one file a day.

    The key is taken from the environment variable DATABENTO_API_KEY. Ctrl-C ends a recording well; begun again on the
    same day, the file grows.
    """
    from volscen.sources import record_databento
    from volscen.sources._databento_live import recording_path

    if dry_run():
        return planned(reads=[], writes=[recording_path(symbols, out)])
    found = record_databento(
        symbols,
        duration=for_,
        until=until,
        schemas=schema or ("cbbo-1m", "definition"),
        folder=out,
        replay=replay,
        reconnect=reconnect,
        notify=note,
    )
    figures = {
        "out": found.path,
        "records": found.records,
        "started": str(found.started),
        "ended": str(found.ended),
        "interruptions": [[str(lost), str(again)] for lost, again in found.interruptions],
        "stopped_by": found.stopped_by,
    }
    size = found.path.stat().st_size / 1e6
    return Result(figures, f"wrote {found.quotes:,} quotes to {found.path} ({size:.1f} MB)")

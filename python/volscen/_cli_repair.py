"""``volscen repair``: incomplete, noisy volatilities to whole surfaces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from volscen._cli_arguments import check_out, parse_numbers
from volscen.errors import InputError

__all__ = ["repair_app"]

repair_app = typer.Typer(rich_markup_mode=None)


@repair_app.command(
    "repair",
    epilog="Examples:  volscen repair holes.nc --out whole.nc   |   volscen repair quotes.csv --days 30,91,182 "
    "--moneyness 0.8,0.9,1,1.1,1.2 --out whole.nc",
)
def repair_command(
    observed: Annotated[
        Path,
        typer.Argument(
            help="NetCDF file with implied_vol over (..., tau, moneyness), NaN where there is no quote; or a CSV or "
            "Parquet table with tau, moneyness, implied_vol and, if known, half_spread_vol and date."
        ),
    ],
    out: Annotated[Path, typer.Option(help="NetCDF file or zarr store to write.")],
    days: Annotated[
        str | None, typer.Option(help="Maturities wanted: calendar days or tenors (3M), with commas.")
    ] = None,
    moneyness: Annotated[str | None, typer.Option(help="K/F wanted, separated by commas.")] = None,
    method: Annotated[str, typer.Option(help="default, analogues, global, linear, svi or essvi.")] = "default",
    free: Annotated[str, typer.Option(help="Conditions to project onto: density, prices or none.")] = "density",
    levels: Annotated[str, typer.Option(help="Probabilities of the intervals.")] = "0.8,0.95",
    num_workers: Annotated[int | None, typer.Option(help="Processes. Default: all available.")] = None,
) -> None:
    """Complete surfaces from some noisy quotes, free of static arbitrage."""
    import numpy as np

    import volscen
    from volscen._repair._result import FLAGS
    from volscen._tenors import from_days
    from volscen.schema import check_grid

    check_out(out)
    grid: dict[str, Any] = {}
    if days:
        grid["tau"] = check_grid(from_days("--days", days), "--days")
    if moneyness:
        grid["moneyness"] = check_grid(parse_numbers(moneyness, "--moneyness"), "--moneyness")
    options: dict[str, Any] = {"method": method, "free": free, "levels": parse_numbers(levels, "--levels")}
    whole = volscen.repair(_read(observed), **grid, **options, num_workers=num_workers)
    volscen.write(whole, out)
    flag = whole["surface_flag"].values
    typer.echo(
        f"{out}: {flag.size:,} surface{'' if flag.size == 1 else 's'}, median misfit {np.median(whole.misfit):.2f}"
    )
    for name, bit in FLAGS.items():
        if count := int(np.count_nonzero(flag & bit)):
            typer.echo(f"  {name}: {count:,}")


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

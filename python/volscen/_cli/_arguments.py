"""Arguments of the command line: those that many commands share, how they are read, and what commands check alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from volscen._cli._complete import DATASETS, MODELS, TABLES, files, words
from volscen.errors import InputError

__all__ = [
    "AsOf",
    "Beta",
    "Device",
    "Model",
    "NScenarios",
    "Options",
    "Out",
    "Portfolio",
    "Scenarios",
    "Scheduler",
    "Seed",
    "Step",
    "Store",
    "Workers",
    "check_file",
    "check_out",
    "cluster",
    "number_or",
    "of_one_date",
    "parse_dates",
    "parse_numbers",
    "parse_option",
    "parse_pairs",
    "print_counts",
    "read_grid",
    "write_table",
]

# Headings of ``volscen --help``.
DATA, MODELLING, SCENARIOS, RISK, WORK = "Data", "Models", "Scenarios", "Risk", "Whole runs"

Store = Annotated[Path, typer.Argument(help="History (.nc or .zarr).", autocompletion=files(*DATASETS))]
Scenarios = Annotated[Path, typer.Argument(help="Scenarios (.nc or .zarr).", autocompletion=files(*DATASETS))]
Model = Annotated[Path, typer.Argument(help="Fitted model (.safetensors).", autocompletion=files(*MODELS))]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="File to write (.nc or .zarr).", autocompletion=files(*DATASETS))
]
Portfolio = Annotated[
    Path,
    typer.Option("--portfolio", "-p", help="Positions (.csv or .parquet), see below.", autocompletion=files(*TABLES)),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed; drawn and recorded when omitted.")]
NScenarios = Annotated[int, typer.Option("--n-scenarios", "-n", help="Scenarios per date.")]
Beta = Annotated[
    str,
    typer.Option(help="Strength of the arbitrage weights: a number, 'auto' or 'paper'.", metavar="NUMBER|auto|paper"),
]
Step = Annotated[int | None, typer.Option(help="Step, in trading days ahead. Default: the last.")]
AsOf = Annotated[str | None, typer.Option(help="Date, where the file holds several.")]
Workers = Annotated[
    int | None,
    typer.Option("--num-workers", "-j", help="Processes. Default: all available, where the work is worth them."),
]
Device = Annotated[
    str,
    typer.Option(
        help="Where networks are evaluated: cpu, or cuda (cuda:1) for a GPU.",
        metavar="cpu|cuda",
        autocompletion=words("cpu", "cuda"),
    ),
]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of a dask scheduler, tcp://host:8786, whose workers do the work.")
]
Options = Annotated[
    list[str] | None, typer.Option("--option", help="Further option of the library, name=value; may be repeated.")
]


def number_or(text: str | None, words: tuple[str, ...], name: str) -> Any:
    """One of the words, or a number; an absent argument stays absent."""
    if text is None or text in words:
        return text
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{name} must be a number or one of {', '.join(words)}, not {text!r}") from None


def parse_numbers(text: str, name: str) -> list[float]:
    """Numbers separated by commas."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{name} must be numbers separated by commas, not {text!r}") from None


def parse_pairs(text: str | None, name: str) -> dict[str, str] | None:
    """Names by name, from ours=theirs,ours=theirs."""
    if text is None:
        return None
    pairs = [part.split("=", 1) for part in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise InputError(f"{name} must look like ours=theirs,ours=theirs, not {text!r}")
    return {ours.strip(): theirs.strip() for ours, theirs in pairs}


def parse_option(text: str, flag: str = "--option") -> tuple[str, Any]:
    """Name and value from name=value; the value is JSON where it parses, else text."""
    import json

    name, separator, value = text.partition("=")
    if not separator:
        raise InputError(f"{flag} must look like name=value, not {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Work on a cluster while the block lasts, where there is an address."""
    if address is None:
        yield
        return
    from volscen.errors import MissingExtraError

    try:
        from distributed import Client
    except ImportError:
        raise MissingExtraError("--scheduler", "distributed") from None
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise InputError(
            f"--scheduler {address}: no scheduler answers there ({' '.join(str(error).split())})"
        ) from None
    with client:
        yield


def parse_dates(dates: list[str] | None) -> Any:
    """One date, several, or none."""
    return dates[0] if dates and len(dates) == 1 else dates or None


def read_grid(days: str | None, moneyness: str | None) -> dict[str, Any]:
    """Times and moneyness that were given, for the verbs."""
    from volscen._tenors import from_days
    from volscen.schema import check_grid

    grid: dict[str, Any] = {}
    if days:
        grid["tau"] = check_grid(from_days("--days", days), "--days")
    if moneyness:
        grid["moneyness"] = check_grid(parse_numbers(moneyness, "--moneyness"), "--moneyness")
    return grid


def check_out(out: Path, compression: int = 0) -> None:
    """Refuse, before any work, a NetCDF file or zarr store that could not be written after it."""
    from volscen._io import check_output

    check_output(out, compression)
    if out.suffix != ".zarr":
        check_file(out)


def check_file(out: Path, *suffixes: str) -> None:
    """Refuse, before any work, a file that could not be written after it; leaves nothing behind."""
    from volscen._files import check_writable

    if suffixes and out.suffix not in suffixes:
        raise InputError(f"cannot write to {out}: the name must end in {' or '.join(suffixes)}")
    check_writable(out)


def of_one_date(cube: Any, as_of: str | None) -> Any:
    """Scenarios of one date."""
    from volscen._dates import to_day

    dates = cube["as_of"].values.astype("datetime64[D]")
    held = f"the scenarios are of {', '.join(map(str, dates.ravel()[:5]))}{', ...' if dates.size > 5 else ''}"
    if as_of is None:
        if dates.ndim:
            raise InputError(f"{held}; choose one with --as-of")
        return cube
    wanted = to_day(as_of, "--as-of")
    if wanted not in dates.ravel():
        raise InputError(f"--as-of {wanted}: {held}")
    return cube.isel(as_of=int((dates == wanted).argmax())) if dates.ndim else cube


def write_table(table: Any, path: Path) -> None:
    """Write a table to CSV, whole or not at all."""
    from volscen._files import atomic_path

    with atomic_path(path) as temporary:
        table.to_csv(temporary)


def print_counts(title: str, counts: dict[Any, int]) -> None:
    """One line: the total, and the counts by reason."""
    from volscen._cli._command import note

    total = sum(counts.values())
    reasons = "; ".join(f"{reason}: {count:,}" for reason, count in counts.items())
    note(f"{title}: {total:,}" + (f" ({reasons})" if reasons else ""))

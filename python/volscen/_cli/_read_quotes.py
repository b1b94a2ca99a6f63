"""Options of the commands that read quotes, and the reading."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from volscen._cli._arguments import parse_option, parse_pairs, print_counts
from volscen._cli._columns import guess_columns
from volscen._cli._command import note
from volscen._cli._complete import SMOOTHERS, SOURCES, files, words
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
    "naming",
    "read_quotes",
]

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

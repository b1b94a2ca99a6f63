"""Arguments of the command line: read, checked, and what commands print and write alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from volscen.errors import InputError

__all__ = ["check_out", "number_or", "parse_numbers", "parse_option", "parse_pairs", "print_counts", "write_table"]


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
    return {ours: theirs for ours, theirs in pairs}


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


def check_out(out: Path, compression: int = 0) -> None:
    """Refuse, before any work, a NetCDF file or zarr store that could not be written after it."""
    from volscen._files import check_writable
    from volscen._io import check_output

    check_output(out, compression)
    if out.suffix != ".zarr":
        check_writable(out)


def write_table(table: Any, path: Path) -> None:
    """Write a table to CSV, whole or not at all."""
    from volscen._files import atomic_path

    with atomic_path(path) as temporary:
        table.to_csv(temporary)


def print_counts(title: str, counts: dict[Any, int]) -> None:
    """One line: the total, and the counts by reason."""
    total = sum(counts.values())
    reasons = "; ".join(f"{reason}: {count:,}" for reason, count in counts.items())
    typer.echo(f"{title}: {total:,}" + (f" ({reasons})" if reasons else ""))

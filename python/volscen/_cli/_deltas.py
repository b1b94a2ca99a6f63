"""``history build --source deltas``: volatilities by tenor and delta in place of quotes."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

from volscen._cli._arguments import parse_option, print_counts
from volscen.errors import InputError

__all__ = ["history_of_deltas"]


def history_of_deltas(path: Path, grid: dict[str, Any], read: list[str] | None, calendar: str | None) -> Any:
    """History of a table of volatilities by tenor and delta; what was dropped is printed."""
    from volscen.sources import read_delta_surface

    options = dict(parse_option(text, "--read") for text in read or [])
    known = [name for name in signature(read_delta_surface).parameters if name not in ("source", "tau", "moneyness")]
    for name in options:
        if name not in known:
            raise InputError(f"read_delta_surface has no option {name!r}; it has {', '.join(known)}")
    if len(grid) != 2 or "spot" not in options:
        raise InputError("--source deltas needs --days, --moneyness and --read spot=, the column of spots")
    if calendar is not None:
        options["calendar"] = calendar
    history, dropped = read_delta_surface(path, **grid, **options)
    print_counts("points and days dropped on reading", dropped[dropped > 0].to_dict())
    return history

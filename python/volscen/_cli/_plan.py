"""Dry runs: what a command would read and write, and about how large it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from volscen._cli._command import Result, session
from volscen._files import size_text
from volscen.errors import FileFormatError

__all__ = ["dry_run", "expected", "memory", "planned", "scenario_bytes"]


def dry_run() -> bool:
    """Whether the command that runs is only to say what it would do."""
    return session().dry_run


def expected(path: Path | None) -> bool:
    """Whether a file is not there yet and a step before this one will write it; other missing files are an error."""
    if path is None or path.exists():
        return False
    if session().dry_run and os.path.realpath(path) in session().promised:
        return True
    raise FileFormatError(f"{path}: no such file")


def scenario_bytes(n_cells: int, n_scenarios: int, horizon: int, n_dates: int = 1, itemsize: int = 4) -> int:
    """Size of a cube: surfaces, and per step return, spot and penalty, and a weight per scenario, in bytes."""
    return n_dates * n_scenarios * (horizon * (n_cells * itemsize + 24) + 8)


def memory() -> int | None:
    """Memory of this machine, in bytes, where the system says."""
    import os

    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def planned(
    *,
    reads: Iterable[Path | None] = (),
    writes: Mapping[Path | None, int | None] | Iterable[Path | None] = (),
    memory_bytes: int | None = None,
    figures: Mapping[str, Any] | None = None,
) -> Result:
    """Result of a dry run; what it would write counts as there for the steps that follow.

    Parameters
    ----------
    reads : paths
        None is left out.
    writes : mapping of path to bytes, or paths
        Bytes unknown are None.
    memory_bytes : int, optional
        What the largest array takes.
    figures : mapping, optional
        Counts: scenarios, rows, days.
    """
    sizes = dict(writes) if isinstance(writes, Mapping) else dict.fromkeys(writes)
    counts = dict(figures or {})
    read: list[dict[str, Any]] = [{"path": path, "bytes": _size(path)} for path in reads if path is not None]
    written: list[dict[str, Any]] = []
    for path, n_bytes in sizes.items():
        if path is not None:
            written.append({"path": path, "bytes": n_bytes, "replaces_bytes": _size(path)})
            session().promised.add(os.path.realpath(path))
    total = sum(one["bytes"] or 0 for one in written)
    free = min((_free(one["path"]) for one in written), default=None)
    lines = ["dry run: nothing is written"]
    lines += [f"  reads   {one['path']}{_brackets(one['bytes'])}" for one in read]
    for one in written:
        old = f", replaces {size_text(one['replaces_bytes'])}" if one["replaces_bytes"] is not None else ""
        lines.append(f"  writes  {one['path']}{_brackets(one['bytes'], 'about ')}{old}")
    lines += [f"  {key.replace('_', ' '):<20} {_count(value)}" for key, value in counts.items() if value is not None]
    if memory_bytes is not None:
        whole = memory()
        share = "" if whole is None else f" of {size_text(whole)}"
        lines.append(f"  {'memory':<20} about {size_text(memory_bytes)}{share}")
    if free is not None and total:
        lines.append(f"  {'disk':<20} about {size_text(total)} of {size_text(free)} free")
    short = [
        what
        for what, wanted, there in (("memory", memory_bytes, memory()), ("disk", total, free))
        if wanted is not None and there is not None and wanted > there
    ]
    lines += [f"  warning: more {what} than there is" for what in short]
    page = {
        "reads": read,
        "writes": written,
        "memory_bytes": memory_bytes,
        "disk_bytes": total,
        "disk_free_bytes": free,
        "too_large_for": short,
        **counts,
    }
    return Result(page, "\n".join(lines))


def _size(path: Path | None) -> int | None:
    if path is None or not path.exists():
        return None
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def _free(path: Path) -> int:
    folder = Path(os.path.realpath(path)).parent
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _brackets(n_bytes: int | None, about: str = "") -> str:
    return "" if n_bytes is None else f" ({about}{size_text(n_bytes)})"


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

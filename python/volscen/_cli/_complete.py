"""What the shell completes: files by their endings, names of generators, methods and the rest.

Names are written out here, since completing must not import what they name; a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from volscen._registry import REGISTRY

__all__ = ["FREE", "HEDGES", "MARKETS", "REPAIRS", "SMOOTHERS", "SOURCES", "files", "generators", "words"]

DATASETS = (".nc", ".nc4", ".netcdf", ".zarr")
TABLES = (".csv", ".parquet")
MODELS = (".safetensors",)

HEDGES = (
    "auto", "delta", "delta-vega", "delta-vega-sqrt", "lasso", "min-es", "min-variance-delta", "neighbours",
    "regression", "ridge", "vega-buckets",
)  # fmt: skip
SMOOTHERS = ("svi", "essvi", "ssvi", "cubic", "kernel", "repair")
SOURCES = ("table", "databento", "optionmetrics", "lean", "deribit", "deltas", "spx-factors")
REPAIRS = ("default", "analogues", "global", "linear", "svi", "essvi")
FREE = ("density", "prices", "none")
MARKETS = ("A", "B", "C", "heston", "bates", "merton", "sabr")


def words(*known: str) -> Callable[[str], list[str]]:
    """Completer of fixed words."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in known if word.startswith(incomplete)]

    return complete


def generators(incomplete: str) -> list[str]:
    """Names of generators, and files of fitted ones."""
    return [name for name in sorted(REGISTRY) if name.startswith(incomplete)] + files(*MODELS)(incomplete)


def files(*suffixes: str) -> Callable[[str], list[str]]:
    """Completer of folders and of files with an ending; a store in a folder (.zarr) counts as a file."""

    def complete(incomplete: str) -> list[str]:
        found = _matching(incomplete, suffixes)
        # A folder alone would be taken for the whole word; what lies in it leads on.
        while len(found) == 1 and found[0].endswith("/"):
            inside = _matching(found[0], suffixes)
            if not inside:
                break
            found = inside
        return found

    return complete


def _matching(incomplete: str, suffixes: tuple[str, ...]) -> list[str]:
    head, separator, tail = incomplete.rpartition("/")
    folder = Path((head or separator) or ".").expanduser()
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    out = []
    for entry in entries:
        if not entry.name.startswith(tail) or (entry.name.startswith(".") and not tail):
            continue
        text = f"{head}{separator}{entry.name}"
        if entry.suffix in suffixes:
            out.append(text)
        elif entry.is_dir():
            out.append(f"{text}/")
    return out

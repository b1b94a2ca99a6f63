"""The installed version of the package, and what is said of files whose format another version wrote."""

from __future__ import annotations

from importlib.metadata import version

__all__ = ["__version__", "is_other_number", "other_number"]

__version__ = version("volscen")


def is_other_number(found: object, known: str) -> bool:
    """Whether a format is another number of a known one: ``volscen/history/2`` of ``volscen/history/1``."""
    return isinstance(found, str) and found != known and found.rpartition("/")[0] == known.rpartition("/")[0]


def other_number(found: str, known: str, written_by: object, remedy: str) -> str:
    """Say that a file is of a number that this version does not read."""
    return (
        f"format {found[:60]}, written by volscen {str(written_by or 'of an unknown version')[:30]}; this version "
        f"({__version__}) reads {known}: install the version that wrote it, or {remedy}"
    )

"""What ``progress=`` may be, read in one place."""

from __future__ import annotations

from volscen.errors import InputError

__all__ = ["bar_is_off"]


def bar_is_off(progress: object) -> bool | None:
    """What tqdm calls ``disable``: None is off where there is no terminal."""
    if not isinstance(progress, str | bool) or progress not in (True, False, "auto"):
        raise InputError(f"progress must be True, False or 'auto', not {progress!r}")
    return None if progress == "auto" else not progress

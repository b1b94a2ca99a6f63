"""Names in messages."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["shown"]


def shown(names: Iterable[object], most: int = 5) -> str:
    """First names with commas, and dots where there are more.

    Examples
    --------
    >>> from volscen._names import shown
    >>> shown(["SPX", "NDX"]), shown("abc", most=2)
    ('SPX, NDX', 'a, b, ...')
    """
    held = [str(name) for name in names]
    return ", ".join(held[:most]) + (", ..." if len(held) > most else "")

"""Warnings about scenarios: one each where a cube is drawn, one for all where a walk draws some for every date."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from volscen.errors import ScenarioWarning

__all__ = ["callers_level", "told_together", "warn_of_scenarios"]

#: Texts held back, in the order they came; None where they are told at once.
_HELD: ContextVar[dict[str, None] | None] = ContextVar("_HELD", default=None)


def warn_of_scenarios(text: str, *, stacklevel: int) -> None:
    """Warn as :func:`warnings.warn` does, or within :func:`told_together` at its end."""
    held = _HELD.get()
    if held is None:
        warnings.warn(text, ScenarioWarning, stacklevel=stacklevel + 1)
    else:
        held[text] = None


@contextmanager
def told_together() -> Iterator[None]:
    """Put the warnings about all scenarios drawn inside into one: hundreds of dates would be hundreds of them.

    Within another the outer one tells. No filters are set, which would be those of other threads too.
    """
    held: dict[str, None] = {}
    token = _HELD.set(held)
    try:
        yield
    finally:
        _HELD.reset(token)
    outer = _HELD.get()
    if outer is not None:
        outer |= held
    elif held:
        first, *others = held
        more = f" ({len(others):,} more about scenarios of other dates)" if others else ""
        warnings.warn(f"{first}{more}", ScenarioWarning, stacklevel=callers_level())


def callers_level() -> int:
    """Level, for :func:`warnings.warn` one call up, of the first caller that is no part of volscen."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] in _OWN:
        frame, level = frame.f_back, level + 1
    return level


#: Modules that are no caller's: this library's, and what stands between it and a context manager of its own.
_OWN = ("volscen", "contextlib")

"""Errors raised by volscen: each names the argument at fault and the remedy."""

from __future__ import annotations

__all__ = ["FileFormatError", "FitError", "InputError", "MissingExtraError", "VolscenError"]


class VolscenError(Exception):
    """Base of every error that volscen raises on purpose."""


class InputError(VolscenError, ValueError):
    """An argument has a value that cannot be used."""


class FileFormatError(VolscenError, ValueError):
    """A file is truncated, foreign, or breaks its schema."""


class FitError(VolscenError, RuntimeError):
    """A model could not be fitted to the data given."""


class MissingExtraError(VolscenError, ImportError):
    """An optional dependency is needed and not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs an optional dependency; install it with: pip install 'volscen[{extra}]' "
            f"(from a clone: '.[{extra}]')"
        )

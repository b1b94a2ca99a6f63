"""Errors and warnings of volscen: each names the argument at fault, or what to distrust, and the remedy."""

from __future__ import annotations

__all__ = [
    "FileFormatError",
    "FitError",
    "HistoryWarning",
    "InputError",
    "MissingExtraError",
    "QuotesWarning",
    "ScenarioWarning",
    "VolscenError",
    "VolscenWarning",
]


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


class VolscenWarning(UserWarning):
    """Base of the warnings that say what deserves distrust; the result is there."""


class ScenarioWarning(VolscenWarning):
    """Scenarios were drawn, and part of them is not what a risk figure should rest on."""


class QuotesWarning(VolscenWarning):
    """Quotes were read, and part of them may not be meant as it was taken."""


class HistoryWarning(VolscenWarning):
    """A history can be used, and part of it is not what it seems."""

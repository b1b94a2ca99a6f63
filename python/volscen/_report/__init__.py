"""One self-contained page about a scenario set, a history, a book and a model."""

from __future__ import annotations

from volscen._report._verb import report

__all__ = ["report"]

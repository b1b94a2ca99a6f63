"""Scenario cubes: drawn block by block, at once, lazily or streamed to a file."""

from __future__ import annotations

from volscen.scenarios._generate import generate

__all__ = ["generate"]

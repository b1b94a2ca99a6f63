"""Templates, style and script that ship with the package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

__all__ = ["asset", "fill"]


def asset(name: str) -> str:
    """Text of a file beside this one."""
    return (files("volscen._report") / name).read_text(encoding="utf-8").replace("\r\n", "\n")


def fill(template: str, slots: Mapping[str, str]) -> str:
    """Template with every ``{{name}}`` replaced, in one go: what looks like a slot in a value stays as it is."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: slots[found[1]], asset(template))

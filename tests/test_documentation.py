"""Every example in docstrings, the README and the docs runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import volscen

ROOT = Path(__file__).parents[1]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
MODULES = sorted(m.name for m in pkgutil.walk_packages(volscen.__path__, "volscen."))
PAGES = sorted(p.relative_to(ROOT).as_posix() for p in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("name", ["volscen", *(m for m in MODULES if m != "volscen._core")])
def test_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=FLAGS).failed == 0


@pytest.mark.parametrize("page", PAGES)
def test_pages(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert doctest.testfile(str(ROOT / page), module_relative=False, optionflags=FLAGS).failed == 0


def test_every_public_function_has_an_example():
    lacking = [
        name
        for name in volscen.__all__
        if callable(object_ := getattr(volscen, name)) and ">>>" not in (object_.__doc__ or "")
    ]
    assert lacking == []

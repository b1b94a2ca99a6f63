"""Every example in docstrings, the README and the docs runs and prints what it says; links lead somewhere."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer

import volscen
from volscen import cli

ROOT = Path(__file__).parents[1]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
MODULES = sorted(m.name for m in pkgutil.walk_packages(volscen.__path__, "volscen."))
PAGES = sorted(p.relative_to(ROOT).as_posix() for p in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


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


def test_printed_parts_are_what_the_commands_print():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "refresh_pages.py", "--check", "--only", "volscen "],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def anchors(page: Path) -> set[str]:
    """Fragments that headings of a page give, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_within_the_project(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.S)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", link):
            continue
        name, _, fragment = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_in_a_menu():
    listed = set()
    for menu in (ROOT / "docs").rglob("index.md"):
        found = re.findall(r"^- \[[^\]]+\]\(([\w/]+\.md)\)", menu.read_text(), flags=re.M)
        listed |= {(menu.parent / name).relative_to(ROOT).as_posix() for name in found}
    assert {page for page in PAGES if page.startswith("docs/")} - listed == {"docs/index.md"}


def public_modules(module: ModuleType) -> dict[str, ModuleType]:
    """Public modules below one, by name, at any depth."""
    found = {f"{module.__name__}.{n}": m for n in module.__all__ if isinstance(m := getattr(module, n), ModuleType)}
    for below in list(found.values()):
        found |= public_modules(below)
    return found


def test_every_public_name_is_in_the_reference():
    described: dict[str, list[str]] = {}
    for page in (ROOT / "docs" / "api").glob("*.md"):
        for module, names in re.findall(r"^\.\. api:: ([\w.]+)((?:\s+\w+)*)", page.read_text(), flags=re.M):
            described.setdefault(module, []).extend(names.split())
    modules = public_modules(volscen)
    assert set(described) == {"volscen", "volscen.generators", *modules}
    names = {n for n in volscen.__all__ if not n.startswith("_") and f"volscen.{n}" not in modules}
    listed = described.pop("volscen")
    assert (names - set(listed), set(listed) - names) == (set(), set())
    assert len(listed) == len(set(listed))
    assert not any(described.values())  # other pages show the whole of ``__all__``


def commands(page: str) -> list[list[str]]:
    """Lines of a page that call volscen on the command line, in words."""
    text = re.sub(r"\s*\\\n\s*", " ", (ROOT / page).read_text())
    lines = re.findall(
        r"^\s*(?:\$ )?(volscen [^\n]*)$", "\n".join(re.findall(r"^(?:    .*|```.*?^```)", text, re.M | re.S)), re.M
    )
    return [shlex.split(re.split(r" [|&;>] ?| && |\s#", line)[0]) for line in lines]


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_pages_have_the_options_they_name(page):
    wrong = []
    for words in commands(page):
        command, rest = typer.main.get_command(cli.app), words[1:]
        while rest and rest[0] in getattr(command, "commands", {}):
            command, rest = command.commands[rest[0]], rest[1:]
        known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
        if getattr(command, "commands", None) and rest and not rest[0].startswith("-"):
            wrong.append(" ".join(words))
        named = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        wrong += [f"{' '.join(words)}: {option}" for option in named - known - {"--help"}]
    assert wrong == []

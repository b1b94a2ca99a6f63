"""The directive ``api``: everything public of a module, a table of one line each first.

What a top-level name repeats is described there only. Roles in docstrings name things as the code beside them does;
they are resolved as Python would, to the public name if there is one. What is not public is shown without a link, and
what does not exist stays as it is, for Sphinx to refuse.
"""

from __future__ import annotations

import enum
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

import volscen

ATTRIBUTE = re.compile(r":obj:`(\w+)(?: <[^>`]*>)?`")
ROLE = re.compile(r":(func|class|meth|data|mod|attr):`(~?)([\w.]+)`")


def public_modules() -> list[str]:
    """Names of the modules that have a page."""
    top = [f"volscen.{n}" for n in volscen.__all__ if isinstance(getattr(volscen, n), ModuleType)]
    nested = [
        f"{module}.{name}"
        for module in top
        for name in getattr(import_module(module), "__all__", ())
        if isinstance(getattr(import_module(module), name), ModuleType)
    ]
    return sorted({*top, *nested, "volscen.generators"})


def _names(module: str) -> Iterator[tuple[str, Any]]:
    found = import_module(module)
    for name in sorted(found.__all__, key=str.lower):
        value = getattr(found, name)
        if not isinstance(value, ModuleType):
            yield name, value


@cache
def canonical() -> dict[int, str]:
    """Where every public object is described, by its identity."""
    places = {id(value): f"volscen.{name}" for name, value in _names("volscen") if not isinstance(value, str)}
    for module in public_modules():
        places.setdefault(id(sys.modules[module]), module)
        for name, value in _names(module):
            if inspect.isroutine(value) or inspect.isclass(value):
                places.setdefault(id(value), f"{module}.{name}")
    from volscen.generators import REGISTRY, generator_class

    for name in REGISTRY:
        cls = generator_class(name)
        places.setdefault(id(cls), f"{cls.__module__}.{cls.__qualname__}")
    return places


def _entry(full: str, value: Any, *, indent: str = "") -> list[str]:
    """Directive that describes an object."""
    if inspect.isclass(value):
        lines = [f".. autoclass:: {full}", "   :members:", "   :show-inheritance:"]
        if issubclass(value, enum.Enum):
            lines[2] = "   :undoc-members:"
        if issubclass(value, Exception):
            lines.pop(1)
    elif inspect.isroutine(value) or callable(value):
        lines = [f".. autofunction:: {full}"]
    else:
        lines = [f".. autodata:: {full}"]
    return [*lines, ""]


class Api(SphinxDirective):
    """``.. api:: module [name ...]``: a table and descriptions; without names, of all that is public."""

    required_arguments = 1
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Write what a page would hold by hand."""
        module = self.arguments[0]
        wanted = self.arguments[1].split() if len(self.arguments) > 1 else None
        members = {n: v for n, v in _names(module) if wanted is None or n in wanted}
        missing = set(wanted or ()) - set(members)
        if missing:
            raise self.error(f"{module} has no public {', '.join(sorted(missing))}")
        names = wanted or list(members)
        full = {name: canonical().get(id(members[name]), f"{module}.{name}") for name in names}
        lines = [".. py:currentmodule:: " + module, "", ".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   {name}" if full[name] == f"{module}.{name}" else f"   ~{full[name]}" for name in names]
        lines.append("")
        for name in names:
            if full[name].rpartition(".")[0] == module:
                lines += _entry(full[name], members[name])
        return self.parse_text_to_nodes(StringList(lines, source=self.get_source_info()[0]))


class Generators(SphinxDirective):
    """``.. generator-classes::``: the class of every registered generator; its arguments are the options of ``fit``."""

    def run(self) -> list[nodes.Node]:
        """One description a class."""
        from volscen.generators import REGISTRY, generator_class

        lines = []
        for name in REGISTRY:
            lines += _entry(canonical()[id(generator_class(name))], generator_class(name))
        return self.parse_text_to_nodes(StringList(lines, source=self.get_source_info()[0]))


def _scopes(owner: Any) -> Iterator[Any]:
    """Where a name in a docstring is looked for: the object, its classes, their modules and what these belong to."""
    yield owner
    module = sys.modules.get(owner.__name__ if isinstance(owner, ModuleType) else getattr(owner, "__module__", ""))
    classes: list[type] = []
    if module is not None:
        first = getattr(module, str(getattr(owner, "__qualname__", "")).split(".")[0], None)
        classes = list(first.__mro__) if inspect.isclass(first) else []
    yield from classes
    for name in dict.fromkeys([getattr(module, "__name__", ""), *(cls.__module__ for cls in classes)]):
        parts = name.split(".")
        for cut in range(len(parts), 0, -1):
            if parts[0] == "volscen":
                yield sys.modules[".".join(parts[:cut])]
    yield volscen


def _lookup(target: str, owner: Any) -> Any:
    """What a docstring means by a name: a path, or a name seen from where it is written; raises LookupError."""
    parts = target.split(".")
    if parts[0] == "volscen":
        for cut in range(len(parts), 0, -1):
            try:
                return _walk(import_module(".".join(parts[:cut])), parts[cut:])
            except (ImportError, AttributeError):
                continue
    known = False
    for scope in _scopes(owner):
        try:
            return _walk(scope, parts)
        except AttributeError:
            known = known or hasattr(scope, parts[0])
    if len(parts) == 1 and any(_sets(scope, target) for scope in _scopes(owner) if inspect.isclass(scope)):
        return None  # an attribute of instances: described in words, under its class
    if len(parts) > 1 and not known and parts[0] != "volscen":
        return None  # of another package
    raise LookupError(target)


def _sets(cls: type, name: str) -> bool:
    """Whether instances of a class of ours have an attribute."""
    return cls.__module__.startswith("volscen") and (
        name in getattr(cls, "__annotations__", {}) or f"self.{name}" in inspect.getsource(cls)
    )


def _walk(value: Any, parts: list[str]) -> Any:
    for part in parts:
        value = getattr(value, part)
    return value


def _resolved(role: str, shown: str, target: str, owner: Any) -> str:
    try:
        value = _lookup(target, owner)
    except LookupError:
        return f":{role}:`{shown}{target}`"
    text = target.rpartition(".")[2] if shown else target
    place = canonical().get(id(value))
    if place is None and role in ("meth", "attr") and "." in (qualified := getattr(value, "__qualname__", "")):
        cls = getattr(sys.modules[value.__module__], qualified.split(".")[0], None)
        place = f"{canonical()[id(cls)]}.{qualified.split('.', 1)[1]}" if id(cls) in canonical() else None
    return f"``{text}``" if place is None else f":{role}:`{text} <{place}>`"


def _roles(app: Sphinx, what: str, name: str, owner: Any, options: Any, lines: list[str]) -> None:
    if isinstance(owner, property):
        owner = owner.fget
    for i, line in enumerate(lines):
        lines[i] = ROLE.sub(lambda m: _resolved(m[1], m[2], m[3], owner), line)


def _attributes(app: Sphinx, what: str, name: str, owner: Any, options: Any, lines: list[str]) -> None:
    """Attributes that numpydoc would link to, plain: inherited properties have no description of their own here."""
    if what == "class":
        lines[:] = [ATTRIBUTE.sub(r"**\1**", line) for line in lines]


def _bases(app: Sphinx, name: str, cls: type, options: Any, bases: list[Any]) -> None:
    """Bases that are described somewhere; the others say nothing to who reads this."""
    bases[:] = [base for base in bases if id(base) in canonical() or base in (Exception, ValueError)] or [object]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directives, and the reading of roles."""
    app.add_directive("api", Api)
    app.add_directive("generator-classes", Generators)
    app.connect("autodoc-process-docstring", _roles, priority=100)
    app.connect("autodoc-process-docstring", _attributes, priority=900)  # after numpydoc
    app.connect("autodoc-process-bases", _bases)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

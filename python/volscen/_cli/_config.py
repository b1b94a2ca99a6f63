"""Configuration files: TOML tables of options, checked against the commands that they are of."""

from __future__ import annotations

import difflib
import inspect
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from volscen.errors import FileFormatError, InputError

__all__ = [
    "RUN",
    "command_path",
    "defaults_for",
    "find_command",
    "load",
    "nearest",
    "options_of",
    "table_of",
    "values_of",
]

#: Table of the run as a whole, beside those of its steps.
RUN = "run"


def load(path: Path) -> dict[str, Any]:
    """Read a TOML file; what is wrong is named with its line."""
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileFormatError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise FileFormatError(f"{path}: not TOML: {error}") from None


def defaults_for(path: Path, ctx: typer.Context) -> dict[str, Any]:
    """Defaults of a command's options, from the table of its name; every table of the file is checked."""
    names = command_path(ctx)
    root = ctx.find_root().command
    document = load(path)
    known = check(path, document, root)
    if ".".join(names) not in known:
        have = ", ".join(f"[{name}]" for name in known) or "none"
        raise InputError(f"{path} has no table [{'.'.join(names)}] for this command; it has {have}")
    name = ".".join(names)
    if RUN not in document:
        return known[name]
    from volscen._cli._nightly import shared_values

    return shared_values(path, document, known, name)


def command_path(ctx: typer.Context) -> list[str]:
    """Names that lead to a command, without the program's."""
    names: list[str] = []
    at: Any = ctx
    while at.parent is not None:
        names.insert(0, at.command.name)
        at = at.parent
    return names


def find_command(root: Any, name: str) -> Any:
    """Command of a dotted name."""
    for part in name.split("."):
        root = root.commands[part]
    return root


def check(path: Path, document: Mapping[str, Any], root: Any) -> dict[str, dict[str, Any]]:
    """Values by parameter, of every command's table; InputError at the first key or value that cannot be."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in document.items():
        if name == RUN:
            continue
        where = table_of(path, name, value, root)
        group = find_command(root, name)
        if not hasattr(group, "commands"):
            found[name] = values_of(path, name, where, group)
            continue
        for sub, inner in where.items():
            full = f"{name}.{sub}"
            if sub not in group.commands:
                raise InputError(f"{path}: unknown table [{full}]{nearest(sub, group.commands, f'[{name}.', ']')}")
            found[full] = values_of(path, full, _as_table(path, full, inner), group.commands[sub])
    return found


def table_of(path: Path, name: str, value: Any, root: Any) -> Mapping[str, Any]:
    """Table of a command; a name that is none is named with the nearest that is."""
    if name not in root.commands:
        raise InputError(f"{path}: unknown table [{name}]{nearest(name, [*root.commands, RUN], '[', ']')}")
    return _as_table(path, name, value)


def _as_table(path: Path, name: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise InputError(f"{path}: {name} must be a table, written [{name}] on a line of its own, not {value!r}")


def options_of(command: Any) -> dict[str, tuple[str, Any]]:
    """Keys of a command's table: parameter and type of each; a dash may be an underscore."""
    function = inspect.unwrap(command.callback)
    hints = {**typing.get_type_hints(command.callback), **typing.get_type_hints(function)}
    out: dict[str, tuple[str, Any]] = {}
    for parameter in command.params:
        if parameter.name not in hints or parameter.name in ("config", "dry_run"):
            continue
        flags = [flag.lstrip("-") for flag in (*parameter.opts, *parameter.secondary_opts) if flag.startswith("--")]
        for key in flags or [parameter.name]:
            out[key.replace("-", "_")] = (parameter.name, hints[parameter.name])
    return out


def values_of(path: Path, name: str, table: Mapping[str, Any], command: Any) -> dict[str, Any]:
    """Parameters of a command by name, from its table."""
    known = options_of(command)
    out: dict[str, Any] = {}
    for key, value in table.items():
        spelled = key.replace("-", "_")
        if spelled not in known:
            raise InputError(f"{path}, table [{name}]: unknown key {key!r}{nearest(spelled, known)}")
        parameter, hint = known[spelled]
        out[parameter] = _value(path, f"{path}, table [{name}]: {key!r}", value, hint)
    return out


def _value(path: Path, where: str, value: Any, hint: Any) -> Any:
    """A value as the command line takes it; file names count from the folder of the configuration."""
    kinds = [kind for kind in _alternatives(hint) if kind is not type(None)]
    (kind,) = kinds
    if typing.get_origin(kind) is list:
        (inner,) = typing.get_args(kind)
        if isinstance(value, Mapping):
            return [f"{name}={one if isinstance(one, str) else json.dumps(one)}" for name, one in value.items()]
        values = value if isinstance(value, list) else [value]
        return [_value(path, where, one, inner) for one in values]
    if kind is bool:
        return _typed(where, value, bool, "true or false")
    if kind is int:
        return _typed(where, value, int, "a whole number")
    if kind is float:
        return float(_typed(where, value, (int, float), "a number"))
    if kind is Path:
        text = _typed(where, value, str, "a file name, in quotes")
        return str(path.parent / Path(text).expanduser())
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_text(where, one)}" for name, one in value.items())
    if isinstance(value, list):
        return ",".join(_text(where, one) for one in value)
    return _text(where, value)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return (
        typing.get_args(hint)
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        else (hint,)
    )


def _typed(where: str, value: Any, kind: Any, words: str) -> Any:
    right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not right:
        raise InputError(f"{where} must be {words}, not {json.dumps(value, default=str)}")
    return value


def _text(where: str, value: Any) -> str:
    """Text of a scalar: numbers and dates stand for what they look like."""
    if isinstance(value, (Mapping, list, bool)):
        raise InputError(f"{where} must be text or a number, not {json.dumps(value, default=str)}")
    return value if isinstance(value, str) else str(value)


def nearest(name: str, known: Any, before: str = "'", after: str = "'") -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    if near:
        return f"; did you mean {before}{near[0]}{after}?"
    return f"; known are {', '.join(sorted(known))}"

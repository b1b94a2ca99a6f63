"""``volscen info`` and ``config``: what a file holds, and how to write one for a nightly run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from volscen._cli._arguments import WORK
from volscen._cli._command import Result, command, group
from volscen._cli._complete import DATASETS, MODELS, files

__all__ = ["config_app", "info_app"]

info_app = typer.Typer(rich_markup_mode=None)
config_app = group("Configuration files: an example, a check, what they may hold.")

_File = Annotated[Path, typer.Argument(help="Configuration (.toml).", autocompletion=files(".toml"))]


@command(
    info_app,
    panel=WORK,
    writes=False,
    examples=["volscen info scenarios.nc", "volscen info model.safetensors --json"],
)
def info(
    file: Annotated[
        Path,
        typer.Argument(help="History, scenarios, hedge result or model.", autocompletion=files(*DATASETS, *MODELS)),
    ],
) -> Result:
    """Validate a file and say what it holds."""
    from volscen._cli._command import session
    from volscen._figures import file_figures
    from volscen._summary import describe_file

    if session().json:
        return Result(file_figures(file))
    return Result({}, describe_file(file))


@command(config_app, "example", panel="Commands", writes=False, examples=["volscen config example > nightly.toml"])
def config_example() -> Result:
    """Print a whole configuration of a nightly run, with comments."""
    from volscen._cli._nightly_example import EXAMPLE

    return Result({"toml": EXAMPLE}, EXAMPLE)


@command(config_app, "check", panel="Commands", writes=False, examples=["volscen config check nightly.toml"])
def config_check(ctx: typer.Context, file: _File) -> Result:
    """Check a configuration: keys, types and what it leads to; nothing is run."""
    from volscen._cli._config import RUN, check, load
    from volscen._cli._nightly import read_run

    root = ctx.find_root().command
    document = load(file)
    found = check(file, document, root)
    lines = [f"{file}: right"]
    if RUN in document:
        lines[0] += f"; a run does {', '.join(read_run(file, document, root).steps)}"
    for name, values in found.items():
        lines += [f"[{name}]", *(f"  {key} = {value!r}" for key, value in values.items())]
    return Result({"file": file, "tables": found}, "\n".join(lines))


@command(
    config_app,
    "keys",
    panel="Commands",
    writes=False,
    examples=["volscen config keys", "volscen config keys history.build"],
)
def config_keys(
    ctx: typer.Context,
    table: Annotated[str | None, typer.Argument(help="Table, such as generate. Default: all.")] = None,
) -> Result:
    """List the tables of a configuration, and the keys of one with what they mean."""
    from volscen._cli._config import RUN, find_command, options_of
    from volscen._cli._nightly import RUN_KEYS
    from volscen.errors import InputError

    root: Any = ctx.find_root().command
    tables = [RUN] + [name for name in _tables(root)]
    if table is None:
        return Result({"tables": tables}, "\n".join(f"[{name}]" for name in tables))
    if table not in tables:
        raise InputError(f"there is no table [{table}]; there are {', '.join(tables)}")
    if table == RUN:
        keys = {name: text for name, (_, text) in RUN_KEYS.items()}
    else:
        chosen = find_command(root, table)
        helps = {parameter.name: parameter.help or "" for parameter in chosen.params if hasattr(parameter, "help")}
        keys = {key: helps.get(parameter, "") for key, (parameter, _) in options_of(chosen).items()}
    width = max(map(len, keys))
    return Result({"table": table, "keys": keys}, "\n".join(f"{key:<{width}}  {text}" for key, text in keys.items()))


def _tables(root: Any) -> list[str]:
    out = []
    for name, one in root.commands.items():
        if one.hidden or name in ("config", "run", "demo", "info"):
            continue
        out += [f"{name}.{sub}" for sub in one.commands] if hasattr(one, "commands") else [name]
    return out

"""``volscen run``: a whole night by one configuration."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from volscen._cli._arguments import WORK
from volscen._cli._command import Result, call, command, lacks_memory, note, say, sentence, session
from volscen._cli._complete import files
from volscen.errors import VolscenError

__all__ = ["run_app"]

run_app = typer.Typer(rich_markup_mode=None)


@command(
    run_app,
    panel=WORK,
    examples=[
        "volscen config example > nightly.toml",
        "volscen run nightly.toml --dry-run",
        "volscen run nightly.toml --quiet",
    ],
)
def run(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="Configuration (.toml).", autocompletion=files(".toml"))],
) -> Result:
    """Run a whole night from one TOML file.

    Its tables bear the names of commands and hold their options; those that are there run, in this order:
    history.build (where there is no history yet), history.update, monitor, fit (or update), generate, reweight, risk,
    stress, hedge, export, report. The table [run] names the files that they share. The whole configuration is checked
    before anything runs; every file appears whole or not at all; the same night may be run again.

    Exit codes: 0 done; 3 done, and the monitor's alarm asks for a refit; 1 the configuration is wrong; else the step
    that failed: 10 history.build, 11 history.update, 12 monitor, 13 fit, 14 generate, 15 reweight, 16 risk, 17 stress,
    18 hedge, 19 export, 20 report. Steps after it do not run. The record (run.json) says what was done.
    """
    from volscen._cli._config import find_command, load
    from volscen._cli._nightly import read_run

    root = ctx.find_root().command
    night = read_run(file, load(file), root)
    dry = session().dry_run

    def step(name: str, values: dict[str, Any]) -> Result:
        return call(find_command(root, name), values, dry_run=dry)

    code = night.run(step, note, keep=not dry)
    page, error = night.record(code), night.error
    lines = [f"wrote {night.settings['record']}"] if not dry and night.settings["record"] else []
    if error is not None:
        foreseen = isinstance(error, VolscenError | OSError) or hasattr(error, "format_message") or lacks_memory(error)
        if not foreseen:
            say("".join(traceback.format_exception(error)), err=True)  # a fault of the program: for its authors
        say(f"volscen: [{page['failed']}] {sentence(error)}", err=True)
        page |= {"error": type(error).__name__, "message": sentence(error)}
    return Result(page, "\n".join(lines), code)

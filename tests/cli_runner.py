"""The ``volscen`` command in this process: what it prints, and its exit code."""

from __future__ import annotations

import io
import os
import warnings
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from volscen.cli import main


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def volscen_command(*arguments: object, cwd: Path | None = None) -> Done:
    """Run a command in a folder."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with warnings.catch_warnings(), chdir(cwd or os.getcwd()), redirect_stdout(out), redirect_stderr(err):
        warnings.simplefilter("default")
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
    return Done(int(str(code or 0)), out.getvalue(), err.getvalue())

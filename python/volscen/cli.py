"""The ``volscen`` command: what its parts are, and what becomes of errors.

Exit codes: 0 success, 1 bad input or data (one sentence on standard error), 2 wrong usage, 3 done and a refit is due,
10 to 20 the step of ``volscen run`` that failed, 130 interrupted, 143 ended by SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import warnings
from typing import Annotated, Any

import typer

from volscen._cli._arguments import DATA, WORK
from volscen._cli._command import Group, lacks_memory, say, sentence, session, silence
from volscen._cli._demo import demo_app
from volscen._cli._evaluate import evaluate_app
from volscen._cli._files import config_app, info_app
from volscen._cli._history import history_app
from volscen._cli._models import models_app
from volscen._cli._plot import plot_app
from volscen._cli._quotes import quotes_app
from volscen._cli._report import report_app
from volscen._cli._risk import risk_app
from volscen._cli._run import run_app
from volscen._cli._scenarios import scenarios_app
from volscen.errors import VolscenError

__all__ = ["app", "main"]

app = typer.Typer(
    name="volscen",
    cls=Group,
    help="Scenarios of implied-volatility surfaces: quotes in, weighted scenario cubes and hedge ratios out.\n\n"
    "New here? Try 'volscen demo', then 'volscen COMMAND --help': every command shows examples.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 success, 1 bad input or data, 2 wrong usage, 3 done and a refit is due, 10 to 20 the step of "
    "'volscen run' that failed, 130 interrupted.",
)
app.add_typer(history_app, name="history", rich_help_panel=DATA)
for part in (quotes_app, models_app, evaluate_app, scenarios_app, risk_app, report_app, plot_app):
    app.add_typer(part)
for part in (demo_app, run_app):
    app.add_typer(part)
app.add_typer(config_app, name="config", rich_help_panel=WORK)
app.add_typer(info_app)


def _show_version(wanted: bool) -> None:
    if wanted:
        from volscen import __version__

        typer.echo(f"volscen {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    pass


class _Signalled(KeyboardInterrupt):
    """A signal that asks to end, taken like Ctrl-C, so that nothing half-written is left."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.strsignal(number))
        self.exit_code = 128 + number


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit; an expected error is one sentence, never a traceback."""
    words = sys.argv[1:] if arguments is None else arguments
    warnings.showwarning = _show_warning
    as_json = "--json" in words
    _open_standard_streams()
    received = _end_on_signals()
    try:
        code = app(args=words, prog_name="volscen", standalone_mode=False)
    except VolscenError as error:
        code = _tell(error, str(error), 1, as_json)
    except BrokenPipeError:  # the reader of a pipe went away: not an error
        silence(sys.stdout)
        code = 0
    except OSError as error:
        code = _tell(error, str(error), 1, as_json)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        usage: Any = error
        if lacks_memory(error):
            code = _tell(MemoryError(), sentence(error), 1, as_json)
        elif not hasattr(usage, "format_message"):  # not one of the command line itself
            raise
        elif as_json:
            code = _tell(error, usage.format_message(), usage.exit_code, True)
        else:
            code = usage.exit_code
            usage.show()
    if code == 130:  # Ctrl-C, which the parser turns into its exit code
        code = 128 + received[0] if received else 130
        _tell(KeyboardInterrupt(), signal.strsignal(received[0]) or "" if received else "interrupted", code, as_json)
    sys.exit(code if isinstance(code, int) else 0)


def _open_standard_streams() -> None:
    """Put the null device where standard streams are closed, lest a file that is written be taken for one of them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free: this one


def _end_on_signals() -> list[int]:
    """Take the signals of schedulers and closed terminals as Ctrl-C is; what was received is in the list."""
    received: list[int] = []

    def end(number: int, _: Any) -> None:
        received.append(number)
        raise _Signalled(number)

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # not all are everywhere
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, end)
    return received


def _tell(error: BaseException, message: str, code: int, as_json: bool) -> int:
    """Tell of an error: a sentence on standard error, or an object on standard output; the exit code."""
    if as_json:
        page = {"error": type(error).__name__, "message": message, "exit_code": code}
        say(json.dumps(page, indent=2))
    else:
        say(f"volscen: {message}", err=True)
    return code


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"warning: {message}", err=True)
    session().warnings.append(str(message))


if __name__ == "__main__":
    main()

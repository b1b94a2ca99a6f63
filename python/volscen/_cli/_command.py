"""What every command has: ``--json``, ``--quiet``, ``--config``, ``--dry-run``, examples, old spellings.

A command is a thin function that returns a :class:`Result`, its figures and the same as text. :func:`command` registers
it, and prints the one or the other; :func:`call` runs a command from another one (``run``, ``demo``).
"""

from __future__ import annotations

import inspect
import json as _json
import os
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from volscen.errors import InputError, VolscenError

__all__ = [
    "Group",
    "Result",
    "Session",
    "call",
    "command",
    "group",
    "lacks_memory",
    "note",
    "say",
    "sentence",
    "session",
    "silence",
    "to_json",
]

#: What a command does where it may: nothing but say what it would do.
_DRY = "Read nothing but outlines, write nothing: say what would be read and written, and how large."


@dataclass(frozen=True)
class Result:
    """What a command has to say.

    Attributes
    ----------
    figures : dict
        For ``--json``: stable keys, numbers unrounded.
    text : str
        For people.
    exit_code : int
        3 where the work is done and somebody should look.
    """

    figures: dict[str, Any]
    text: str = ""
    exit_code: int = 0


@dataclass
class Session:
    """How a command is run."""

    json: bool = False
    quiet: bool = False
    dry_run: bool = False
    #: Whether another command prints what this one finds.
    nested: bool = False
    #: Files that steps before this one will have written, in a dry run of several.
    promised: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)


_SESSION: ContextVar[Session | None] = ContextVar("volscen_session", default=None)


def session() -> Session:
    """Session of the command that runs."""
    return _SESSION.get() or Session()


def note(text: str) -> None:
    """Say something on the way: on standard output, beside JSON on standard error, with --quiet not at all."""
    now = session()
    if not now.quiet:
        say(text, err=now.json)


def say(text: str, *, err: bool = False) -> None:
    """Say what work does not wait for: a reader that went away, or a log on a full disk, must not end a night."""
    try:
        typer.echo(text, err=err)
    except OSError as error:
        silence(sys.stderr if err else sys.stdout)
        if not err and not isinstance(error, BrokenPipeError):
            say(f"warning: cannot write to standard output: {error.strerror}; messages are left out", err=True)


def silence(stream: TextIO) -> None:
    """Let a stream that cannot be written to take everything from now on, what it holds back included."""
    with suppress(OSError, ValueError):  # one of a test or a notebook has no descriptor
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


def sentence(error: Exception) -> str:
    """What an error says, in one line; of what is no error of ours or the system's, its kind too."""
    said = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, MemoryError):
        return f"not enough memory{f' ({said})' if said else ''}; ask for less at once"
    if lacks_memory(error):
        return f"not enough memory to load a library ({said}); allow more"
    if hasattr(error, "format_message"):  # wrong usage
        return str(error.format_message())
    return (str(error) if isinstance(error, VolscenError | OSError) else "") or f"{type(error).__name__}: {said}"


def lacks_memory(error: Exception) -> bool:
    """Whether memory was too little for something, be it for a library."""
    return isinstance(error, MemoryError) or (isinstance(error, ImportError) and "failed to map segment" in str(error))


def to_json(value: Any) -> Any:
    """Plain types: paths and dates as text, arrays as lists, numbers that are none as null."""
    import math

    if isinstance(value, Mapping):
        return {str(key): to_json(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [to_json(one) for one in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if type(value).__name__ == "datetime64":
        return None if str(value) == "NaT" else str(value.astype("datetime64[s]")).removesuffix("T00:00:00")
    if hasattr(value, "tolist"):
        if getattr(value.dtype, "kind", "") == "M":
            return [to_json(one) for one in value]
        return to_json(value.tolist())
    return str(value)


# ------------------------------------------------------------------------------------------------ registering
def _load_config(ctx: typer.Context, value: Path | None) -> Path | None:
    if value is not None and not ctx.resilient_parsing:
        from volscen._cli._config import defaults_for

        ctx.default_map = {**defaults_for(value, ctx), **(ctx.default_map or {})}
    return value


_Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        is_eager=True,
        callback=_load_config,
        help="TOML file with options of this command in a table of its name; flags override. See 'volscen config'.",
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, also of errors; messages go to stderr.")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No messages and no progress bars; errors and warnings.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help=_DRY)]

#: Options that every command has, by parameter.
COMMON = {"config": _Config, "json_": _Json, "quiet": _Quiet, "dry_run": _DryRun}


def command(
    app: typer.Typer,
    name: str | None = None,
    *,
    panel: str,
    examples: Sequence[str] = (),
    writes: bool = True,
    in_place: bool = False,
    hidden: bool = False,
) -> Callable[[Callable[..., Result]], Callable[..., Any]]:
    """Register a function as a command.

    Parameters
    ----------
    app : typer.Typer
        Where.
    name : str, optional
        Of the command; the function's when omitted.
    panel : str
        Heading under which ``volscen --help`` lists it.
    examples : sequence of str
        Whole command lines, shown in its help.
    writes : bool
        Whether there is a ``--dry-run``.
    in_place : bool
        Whether it may write over what it reads.
    hidden : bool
        Not listed.
    """

    def decorate(function: Callable[..., Result]) -> Callable[..., Any]:
        hints = typing.get_type_hints(function, include_extras=True)
        common = {key: hint for key, hint in COMMON.items() if writes or key != "dry_run"}
        own = [p.replace(annotation=hints[p.name]) for p in inspect.signature(function).parameters.values()]
        keyword = inspect.Parameter.KEYWORD_ONLY
        added = [
            inspect.Parameter(key, keyword, default=None if key == "config" else False, annotation=hint)
            for key, hint in common.items()
        ]

        @wraps(function)
        def run(*, config: Path | None, json_: bool, quiet: bool, dry_run: bool = False, **arguments: Any) -> Any:
            with _opened(json_, quiet, dry_run) as now:
                if not in_place:
                    _keep_inputs(arguments)
                result = function(**arguments)
                if now.nested:
                    if not (now.json or now.quiet) and result.text:
                        say(result.text)
                    return result
                _print(result, now, spelled)
            raise typer.Exit(result.exit_code)

        spelled = name or function.__name__.replace("_", "-")
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(kind=keyword) for p in own] + added
        )
        run.__annotations__ = {**{p.name: p.annotation for p in own}, **common}
        cls = type("Command", (_Command,), {"examples": tuple(examples)})
        app.command(spelled, cls=cls, rich_help_panel=panel, hidden=hidden)(run)
        return run

    return decorate


#: Parameters that name what is written; other paths are read.
_WRITTEN = ("out", "report", "market_xml", "checkpoint")


def _keep_inputs(arguments: Mapping[str, Any]) -> None:
    """Refuse to write over what is read: a slip of the pen must not cost a history."""
    paths = {name: value for name, value in arguments.items() if isinstance(value, Path)}
    read = {os.path.realpath(path) for name, path in paths.items() if name not in _WRITTEN}
    for name in _WRITTEN:
        if name in paths and os.path.realpath(paths[name]) in read:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag} {paths[name]} would overwrite what is read; choose another name")


def group(help_: str) -> typer.Typer:
    """Return a group of commands."""
    return typer.Typer(cls=Group, help=help_, no_args_is_help=True, rich_markup_mode=None)


def call(
    app_command: Any, values: Mapping[str, Any] | None = None, *, words: Sequence[str] = (), dry_run: bool = False
) -> Result:
    """Run a command within another: its options by parameter name, or as typed; what it has to say."""
    outer = session()
    inner = Session(outer.json, outer.quiet, dry_run or outer.dry_run, True, outer.promised, outer.warnings)
    token = _SESSION.set(inner)
    try:
        with app_command.make_context(app_command.name, list(words), default_map=dict(values or {})) as ctx:
            result = app_command.invoke(ctx)
    finally:
        _SESSION.reset(token)
    assert isinstance(result, Result)
    return result


@contextmanager
def _opened(json_: bool, quiet: bool, dry_run: bool) -> Iterator[Session]:
    now = _SESSION.get()
    if now is not None and now.nested:
        now.quiet, now.dry_run = now.quiet or quiet, now.dry_run or dry_run
        yield now
        return
    now = Session(json_, quiet, dry_run)
    token = _SESSION.set(now)
    try:
        with _no_progress() if quiet else nullcontext():
            yield now
    finally:
        _SESSION.reset(token)


def _print(result: Result, now: Session, name: str) -> None:
    try:
        _print_to_stdout(result, now, name)
    except BrokenPipeError:  # the reader of a pipe went away: not an error
        silence(sys.stdout)
    except OSError as error:
        silence(sys.stdout)
        say(f"volscen: the work is done, but standard output cannot be written to: {error.strerror}", err=True)
        raise typer.Exit(1) from None


def _print_to_stdout(result: Result, now: Session, name: str) -> None:
    if now.json:
        from volscen import __version__

        head = {"command": name, "volscen_version": __version__, "dry_run": now.dry_run, "exit_code": result.exit_code}
        page = {**head, **result.figures, "warnings": now.warnings}
        typer.echo(_json.dumps(to_json(page), indent=2, allow_nan=False))
    elif result.text and not now.quiet:
        typer.echo(result.text, nl=not result.text.endswith("\n"))


class _NoTerminal:
    """Standard error that is no terminal: progress bars fall silent, messages do not."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _no_progress() -> Iterator[None]:
    before = sys.stderr
    sys.stderr = _NoTerminal(before)
    try:
        yield
    finally:
        sys.stderr = before


# ------------------------------------------------------------------------------------------------------ help
class _Command(TyperCommand):
    """A command whose help keeps its examples apart and puts what all commands have last."""

    examples: typing.ClassVar[tuple[str, ...]] = ()

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], "On every command": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                common = parameter.name in COMMON or parameter.name == "help"
                kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
                sections["On every command" if common else kind].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.examples:
            with formatter.section("Examples" if len(self.examples) > 1 else "Example"):
                for line in self.examples:
                    words = line.split(" \\\n")
                    for i, part in enumerate(words):
                        end = " \\" if i < len(words) - 1 else ""
                        formatter.write(f"{'':{formatter.current_indent}}{part}{end}\n")
            formatter.write("\n")


class Group(TyperGroup):
    """A group that lists its commands under headings, without rich: ``--help`` must be fast."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        shown = [(name, self.commands[name]) for name in self.list_commands(ctx) if not self.commands[name].hidden]
        width = formatter.width - 6 - max((len(name) for name, _ in shown), default=0)
        for name, one in shown:
            panel = getattr(one, "rich_help_panel", None)
            title = panel if isinstance(panel, str) else "Commands"
            panels.setdefault(title, []).append((name, one.get_short_help_str(width)))
        for title, rows in panels.items():
            with formatter.section(title):
                formatter.write_dl(rows, col_max=14)

"""A nightly run: which steps a configuration asks for, what joins them, whether the model is fitted or updated."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from typer import Abort

from volscen._cli._command import sentence
from volscen._cli._config import RUN, check, find_command
from volscen.errors import InputError

__all__ = ["EXIT_CODES", "RUN_KEYS", "STEPS", "Night", "read_run"]

#: Keys of the table [run]: default and meaning.
RUN_KEYS: dict[str, tuple[Any, str]] = {
    "history": ("history.nc", "History: what [history.build] and [history.update] write and the other steps read."),
    "model": ("model.safetensors", "Fitted model: what [fit] writes and updates."),
    "scenarios": ("scenarios.nc", "Scenarios: what [generate] writes."),
    "portfolio": (None, "Book for risk, stress, hedge and report (.csv or .parquet)."),
    "instruments": (None, "What the book is hedged with (.csv or .parquet)."),
    "refit": ("never", "When [fit] fits anew: never, month, quarter, year (a new one has begun), or alarm (monitor)."),
    "record": ("run.json", "What was done, and how long it took; false for none."),
}

#: Steps in their order: table, and the parameters that [run] gives where the table does not.
STEPS: dict[str, dict[str, str]] = {
    "history.build": {"out": "history"},
    "history.update": {"store": "history"},
    "monitor": {"model": "model", "history": "history"},
    "fit": {"history": "history", "out": "model"},
    "generate": {"history": "history", "model": "model", "out": "scenarios"},
    "reweight": {"scenarios": "scenarios", "out": "scenarios"},
    "risk": {"scenarios": "scenarios", "portfolio": "portfolio"},
    "stress": {"start": "scenarios", "portfolio": "portfolio"},
    "hedge": {"scenarios": "scenarios", "portfolio": "portfolio", "instruments": "instruments"},
    "export": {"scenarios": "scenarios"},
    "report": {"scenarios": "scenarios", "history": "history", "portfolio": "portfolio", "model": "model"},
}

#: Exit code of a run by the step that failed.
EXIT_CODES: dict[str, int] = {name: code for code, name in enumerate(STEPS, start=10)}

#: Keys that say how a file of quotes is read.
_HOW_READ = ("source", "read", "columns")

_REFIT = ("never", "month", "quarter", "year", "alarm")


@dataclass
class Night:
    """Steps of a run and what they are to do.

    Attributes
    ----------
    file : Path
        The configuration.
    settings : dict
        Of the table [run]; file names count from the configuration's folder.
    steps : dict
        Table -> parameters of the command.
    done : list of dict
        Of the steps so far, what they did.
    began : str
        When the run did, in UTC.
    error : Exception
        What ended the run.
    """

    file: Path
    settings: dict[str, Any]
    steps: dict[str, dict[str, Any]]
    done: list[dict[str, Any]] = field(default_factory=list)
    began: str | None = None
    error: Exception | None = None

    def run(self, step: Callable[[str, dict[str, Any]], Any], say: Callable[[str], None], *, keep: bool = True) -> int:
        """Do the steps one after the other and, with ``keep``, keep the record as it grows; the exit code.

        Raises
        ------
        InputError
            If the same configuration is being run already, or the record cannot be written: nothing is done then.
        """
        with _alone(self.file) if keep else nullcontext():
            self.began = _now()
            if keep:
                self.write(self.record(None))
            code: int | None = None
            try:
                code = self._run(step, say, keep)
            except (KeyboardInterrupt, Abort) as error:
                code = getattr(error, "exit_code", 130)
                raise
            finally:
                if keep:
                    self._write_at_the_end(self.record(1 if code is None else code), say)
        return code

    def _run(self, step: Callable[[str, dict[str, Any]], Any], say: Callable[[str], None], keep: bool) -> int:
        code, alarm = 0, False
        for name, values in self.steps.items():
            began = time.monotonic()
            entry: dict[str, Any] = {"step": name, "did": name, "reason": None, "status": "running"}
            self.done.append(entry)
            try:
                values = self._ready(name, values)
                what, why = self.action(name, alarm)
                say(f"== {what}{f' ({why})' if why else ''}")
                entry |= {"did": what, "reason": why or None}
                if what.startswith("skip"):
                    entry["status"] = "skipped"
                    continue
                if keep:
                    with suppress(InputError):  # a disk that is full may have room again
                        self.write(self.record(None))
                if what == "update":
                    values = {"model": values["out"], "history": values["history"]}
                result = step(what, values)
                entry |= {"status": "done", "result": result.figures}
                if result.exit_code:
                    alarm, code = True, result.exit_code
                    if self.settings["refit"] == "alarm" and "fit" in self.steps:
                        code = 0  # seen to by the step that follows
            except (KeyboardInterrupt, Abort):
                entry |= {"status": "interrupted"}
                raise
            except Exception as error:  # of a fault in a library too, a night says in which step
                entry |= {"status": "failed", "error": type(error).__name__, "message": sentence(error)}
                self.error = error
                return EXIT_CODES[name]
            finally:
                entry["seconds"] = round(time.monotonic() - began, 3)
        return code

    def _write_at_the_end(self, record: Mapping[str, Any], say: Callable[[str], None]) -> None:
        """Keep the last record; what ended the run goes before the trouble of keeping it."""
        try:
            self.write(record)
        except InputError as error:
            if record["exit_code"] == 0:
                raise
            say(f"warning: {error}")

    def action(self, name: str, alarm: bool = False) -> tuple[str, str]:
        """Command that a step comes to, and why."""
        model, history = Path(self.settings["model"]), Path(self.settings["history"])
        if name == "history.build":
            if history.exists() and "history.update" in self.steps:
                return "skip history.build", f"{history} exists and is updated"
        elif name == "monitor" and not model.exists():
            return "skip monitor", "there is no model yet"
        elif name == "fit":
            return self._fit(model, history, alarm)
        return name, ""

    def _fit(self, model: Path, history: Path, alarm: bool) -> tuple[str, str]:
        if not model.exists():
            return "fit", "there is no model yet"
        if not history.exists():
            return "fit", ""
        refit = self.settings["refit"]
        if refit == "never":
            return "update", ""
        if refit == "alarm":
            return ("fit", "the monitor raised its alarm") if alarm else ("update", "no alarm")
        from volscen._io import read_dataset
        from volscen.generators import load

        fitted = load(model).period_[1]
        today = str(read_dataset(history)["date"].values[-1])[:10]
        if _period(fitted, refit) != _period(today, refit):
            return "fit", f"a new {refit} since {fitted}"
        return "update", f"fitted up to {fitted}, in the same {refit}"

    def _ready(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        """Parameters of a step; scenarios without a seed take the history's last date for one, to be repeated."""
        if name != "generate" or "seed" in values:
            return values
        if "history" not in values or not Path(values["history"]).exists():
            return {**values, "seed": 0}
        from volscen._io import read_dataset

        day = str(read_dataset(Path(values["history"]))["date"].values[-1])[:10]
        return {**values, "seed": int(day.replace("-", ""))}

    def record(self, code: int | None) -> dict[str, Any]:
        """What was done, for the file that is kept; without an exit code what is being done."""
        from volscen._version import __version__

        failed = next((entry["step"] for entry in self.done if entry["status"] == "failed"), None)
        left = [name for name in self.steps if name not in {entry["step"] for entry in self.done}]
        return {
            "config": self.file,
            "started": self.began,
            "finished": None if code is None else _now(),
            "volscen_version": __version__,
            "exit_code": code,
            "failed": failed,
            "not_run": left,
            "steps": self.done,
        }

    def write(self, record: Mapping[str, Any]) -> Path | None:
        """Keep the record beside the files, whole or not at all."""
        from volscen._cli._command import to_json
        from volscen._files import atomic_path

        if not self.settings["record"]:
            return None
        path = Path(self.settings["record"])
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(to_json(record), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        return path


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Refuse to run a configuration while another process runs it (where the system has file locks)."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with file.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another run of {file} is going on; let it end, or stop it first (its record says since when)"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _period(day: str, kind: str) -> str:
    if kind == "quarter":
        return f"{day[:4]}-{(int(day[5:7]) - 1) // 3}"
    return day[:7] if kind == "month" else day[:4]


def read_settings(file: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """Table [run] of a configuration, with defaults; file names count from the configuration's folder."""
    from volscen._cli._config import nearest

    own = document.get(RUN, {})
    if not isinstance(own, Mapping):
        raise InputError(f"{file}: {RUN} must be a table, written [run] on a line of its own, not {own!r}")
    for key, value in own.items():
        if key not in RUN_KEYS:
            raise InputError(f"{file}, table [run]: unknown key {key!r}{nearest(key, RUN_KEYS)}")
        if not isinstance(value, str) and not (key == "record" and value is False):
            raise InputError(
                f"{file}, table [run]: {key!r} must be text, in quotes, not {json.dumps(value, default=str)}"
            )
    if own.get("refit", "never") not in _REFIT:
        raise InputError(f"{file}, table [run]: 'refit' must be one of {', '.join(_REFIT)}, not {own['refit']!r}")
    settings: dict[str, Any] = {key: own.get(key, default) for key, (default, _) in RUN_KEYS.items()}
    for key in ("history", "model", "scenarios", "portfolio", "instruments", "record"):
        settings[key] = str(file.parent / Path(settings[key]).expanduser()) if settings[key] else None
    return settings


def shared_values(file: Path, document: Mapping[str, Any], tables: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Parameters of a step: those of its table, and of [run] what the table does not say."""
    settings, own = read_settings(file, document), document.get(RUN, {})
    made = {"history": {"history.build", "history.update"}, "model": {"fit"}}
    values = _read_alike(tables) if name == "history.update" else dict(tables[name])
    for parameter, key in STEPS.get(name, {}).items():
        # Scenarios may be of the embedded model, and a page without what no step makes and nobody names.
        absent = key in made and key not in own and not made[key] & tables.keys() and name in ("generate", "report")
        if parameter not in values and settings[key] is not None and not absent:
            values[parameter] = settings[key]
    if name == "report":
        values.setdefault("out", str(file.parent / "report.html"))
    return values


def _read_alike(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of [history.update], whose quotes are read as those of [history.build] unless it says how."""
    values, build = dict(tables["history.update"]), tables.get("history.build", {})
    alike = {"quotes", "underlying"} - values.keys()
    if not set(_HOW_READ) & values.keys():  # together: columns of one source mean nothing to another
        alike |= set(_HOW_READ)
    return values | {key: build[key] for key in alike if key in build}


def read_run(file: Path, document: Mapping[str, Any], root: Any) -> Night:
    """Steps of a configuration, checked as a whole before anything runs.

    Raises
    ------
    InputError
        At the first key, type or missing value; the table and the nearest right key are named.
    """
    tables = check(file, document, root)
    settings = read_settings(file, document)
    steps: dict[str, dict[str, Any]] = {}
    for name, joined in STEPS.items():
        if name not in tables:
            continue
        steps[name] = shared_values(file, document, tables, name)
        lacking = [p.name for p in find_command(root, name).params if p.required and p.name not in steps[name]]
        if lacking:
            where = f"; give it there or in [{RUN}]" if lacking[0] in joined else ""
            raise InputError(f"{file}, table [{name}]: the key {lacking[0]!r} is needed{where}")
    if not steps:
        raise InputError(f"{file} asks for no step; give tables such as {', '.join(f'[{name}]' for name in STEPS)}")
    others = [name for name in tables if name not in STEPS]
    if others:
        raise InputError(
            f"{file}: [{others[0]}] is no step of a run; steps are {', '.join(f'[{name}]' for name in STEPS)}"
        )
    return Night(file, settings, steps)

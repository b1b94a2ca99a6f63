"""Download from Databento: the cost is shown and confirmed first, and the key never leaves the environment."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from volscen._dates import to_day
from volscen._files import atomic_path
from volscen.errors import InputError, MissingExtraError, VolscenError
from volscen.sources._dbn import DATASET, open_dbn

__all__ = ["DOWNLOAD_SCHEMAS", "PARENT", "client_key", "download_databento", "names_of", "without_key"]

#: What can be asked for, quotes first.
DOWNLOAD_SCHEMAS = ("cbbo-1m", "cbbo-1s", "cmbp-1", "tcbbo", "definition", "statistics")

_KEY = "DATABENTO_API_KEY"
PARENT = re.compile(r"[A-Z]{1,6}\.OPT")


def download_databento(
    symbols: str | Iterable[str],
    *,
    start: object,
    end: object = None,
    schemas: str | Iterable[str] = "cbbo-1m",
    folder: str | Path = ".",
    confirm: bool | Callable[[str], bool] | None = None,
    client: Any = None,
) -> list[Path]:
    """Download option data from Databento after showing what it costs.

    Parameters
    ----------
    symbols : str or several
        Parent symbols such as ``"SPY.OPT"``; the index options of the S&P 500 are ``["SPX.OPT", "SPXW.OPT"]``.
    start : str, datetime64 or datetime.date
        First day.
    end : str, datetime64 or datetime.date, optional
        Last day, included; the first day when omitted.
    schemas : str or several
        Of ``cbbo-1m``, ``cbbo-1s``, ``cmbp-1``, ``tcbbo``, ``definition``, ``statistics``; one file each.
    folder : path
        Existing folder to write to.
    confirm : bool or callable, optional
        True downloads without asking. A callable is given the question and says yes or no. When omitted, the
        question is asked on the terminal; where there is none, nothing is downloaded and an error says so.
    client : databento.Historical, optional
        Made from the environment variable ``DATABENTO_API_KEY`` when omitted, which is the only place the key is
        taken from.

    Returns
    -------
    list of pathlib.Path
        Files written, in the order of ``schemas``, for :func:`read_databento`; empty if the answer was no.

    Raises
    ------
    InputError
        If an argument is wrong, a file exists already, there is no key, or nobody can be asked.
    MissingExtraError
        Without the extra ``volscen[databento]``.
    VolscenError
        If Databento refuses; its message is passed on without the key.

    Examples
    --------
    >>> from volscen.sources import download_databento
    >>> files = download_databento(  # doctest: +SKIP
    ...     ["SPX.OPT", "SPXW.OPT"], start="2024-01-19", schemas=["cbbo-1m", "definition"], folder="data")
    """
    parents = names_of(symbols, "symbols")
    for parent in parents:
        if not PARENT.fullmatch(parent):
            raise InputError(f"symbols must be parent symbols such as 'SPY.OPT', not {parent!r}")
    wanted = names_of(schemas, "schemas")
    for schema in wanted:
        if schema not in DOWNLOAD_SCHEMAS:
            raise InputError(f"schemas must be of {', '.join(DOWNLOAD_SCHEMAS)}, not {schema!r}")
    first = to_day(start, "start")
    last = first if end is None else to_day(end, "end")
    if last < first:
        raise InputError(f"end {last} lies before start {first}")
    targets = {schema: _target(Path(folder), parents, first, last, schema) for schema in wanted}
    client = _client() if client is None else client
    requests: dict[str, dict[str, Any]] = {
        schema: {
            "dataset": DATASET,
            "schema": schema,
            "symbols": parents,
            "stype_in": "parent",
            "start": str(first),
            "end": str(last + np.timedelta64(1, "D")),
        }
        for schema in wanted
    }
    costs = {schema: float(_ask(client.metadata.get_cost, request)) for schema, request in requests.items()}
    for schema, cost in costs.items():
        if not np.isfinite(cost) or cost < 0:
            raise VolscenError(f"databento names no usable cost for {schema} ({cost}); nothing was downloaded")
    if not _confirmed(_question(parents, first, last, costs), confirm):
        return []
    for schema, request in requests.items():
        with atomic_path(targets[schema]) as temporary:
            temporary.unlink()  # the client refuses to write to a file that exists
            _ask(client.timeseries.get_range, {**request, "path": temporary})
            open_dbn(temporary, (schema,), "the download")
    return list(targets.values())


def names_of(given: str | Iterable[str], name: str) -> list[str]:
    names = [given] if isinstance(given, str) else list(given)
    if not names or not all(isinstance(one, str) for one in names):
        raise InputError(f"{name} must be a name or several, not {given!r}")
    return list(dict.fromkeys(names))


def _target(folder: Path, parents: list[str], first: np.datetime64, last: np.datetime64, schema: str) -> Path:
    if not folder.is_dir():
        raise InputError(f"folder {folder} does not exist; make it first")
    roots = "-".join(parent.removesuffix(".OPT").lower() for parent in parents)
    days = f"{first}" if first == last else f"{first}_{last}"
    path = folder / f"opra-{roots}-{days}.{schema}.dbn.zst"
    if path.exists():
        raise InputError(f"{path} exists already; remove it to pay for it again")
    return path


def client_key() -> str:
    """Key in the environment; an error where there is none."""
    if not (key := os.environ.get(_KEY, "").strip()):
        raise InputError(f"no key for Databento; set the environment variable {_KEY}")
    return key


def without_key(text: str) -> str:
    """Text to show, in which the key does not appear."""
    key = os.environ.get(_KEY, "").strip()
    return text.replace(key, "***") if key else text


def _client() -> Any:
    client_key()
    try:
        import databento
    except ImportError:
        raise MissingExtraError("downloading from Databento", "databento") from None
    return _guarded(databento.Historical, {})


def _ask(method: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    return _guarded(method, arguments)


def _guarded(method: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call the client; whatever it raises is passed on as text without the key, and without its traceback."""
    message = ""
    try:
        return method(**arguments)
    except Exception as error:
        message = str(error)
    raise VolscenError(f"databento: {without_key(message)}")


def _question(parents: list[str], first: np.datetime64, last: np.datetime64, costs: dict[str, float]) -> str:
    parts = ", ".join(f"{schema} {cost:.2f}" for schema, cost in costs.items())
    days = f"{first}" if first == last else f"{first} to {last}"
    return f"{', '.join(parents)} from {DATASET}, {days}: {sum(costs.values()):.2f} US dollars ({parts}). Download?"


def _confirmed(question: str, confirm: bool | Callable[[str], bool] | None) -> bool:
    if callable(confirm):
        return bool(confirm(question))
    print(question)
    if confirm is not None:
        return bool(confirm)
    if not sys.stdin.isatty():
        raise InputError(f"nobody to ask; pass confirm=True to pay. {question}")
    return input("[y/N] ").strip().lower() in ("y", "yes")

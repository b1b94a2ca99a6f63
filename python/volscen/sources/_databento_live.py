"""Recording of live sessions of Databento: one file a day and choice of symbols, which grows while it is recorded."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from volscen.errors import InputError, MissingExtraError, VolscenError, VolscenWarning
from volscen.sources._databento_download import PARENT, client_key, names_of
from volscen.sources._live_clock import REPLAY_NS, end_of, now, seconds_of, start_of, to_instant, today

__all__ = ["LIVE_SCHEMAS", "LiveRecording", "record_databento", "recording_path"]

#: What can be recorded, quotes first.
LIVE_SCHEMAS = ("cbbo-1m", "cbbo-1s", "cmbp-1", "tcbbo", "definition")


@dataclass(frozen=True)
class LiveRecording:
    """What was recorded.

    Attributes
    ----------
    path : pathlib.Path
        The file, for :func:`read_databento`.
    records : dict of str to int
        Records added to it, by kind: quotes by schema, ``definition``, ``symbol-mapping``, and others.
    started, ended : numpy.datetime64
        UTC.
    interruptions : tuple of (numpy.datetime64, numpy.datetime64)
        When the connection was lost, and when it was there again; what was sent meanwhile has been asked for again.
    stopped_by : {"time", "user"}
        Whether the time was over, or Ctrl-C was pressed.
    """

    path: Path
    records: dict[str, int]
    started: np.datetime64
    ended: np.datetime64
    interruptions: tuple[tuple[np.datetime64, np.datetime64], ...]
    stopped_by: str

    @property
    def quotes(self) -> int:
        """Number of quotes added."""
        return sum(number for kind, number in self.records.items() if kind in LIVE_SCHEMAS and kind != "definition")


def record_databento(
    symbols: str | Iterable[str],
    *,
    duration: str | float | None = None,
    until: str | None = None,
    schemas: str | Iterable[str] = ("cbbo-1m", "definition"),
    folder: str | Path = ".",
    replay: str | float | None = None,
    reconnect: str | float = "15min",
    notify: Callable[[str], None] | None = None,
    gateway: str | None = None,
    port: int = 13_000,
) -> LiveRecording:
    """Record a live session of option quotes from Databento.

    The file bears the names of the symbols and the date in New York, such as ``opra-spx-spxw-2024-01-19.live.dbn.zst``.
    If it is there already, it grows: recordings of a day, however often interrupted, are one file. It can be read
    while it grows, and what has been written survives a crash.

    Parameters
    ----------
    symbols : str or several
        Parent symbols such as ``"SPY.OPT"``; the index options of the S&P 500 are ``["SPX.OPT", "SPXW.OPT"]``.
    duration : str or float, optional
        How long from the first connection: ``"30min"``, ``"2h"``, ``"90s"``, or seconds.
    until : str, optional
        Until when, instead: a time of day in New York (``"15:46"``), ``"close"`` or ``"close+1min"``. Without both
        until Ctrl-C, which ends every recording well.
    schemas : str or several
        Of ``cbbo-1m``, ``cbbo-1s``, ``cmbp-1``, ``tcbbo``, and ``definition``, which is replayed from as far back as
        Databento has it. Without ``definition`` contracts are known by their symbols, and multipliers by their roots.
    folder : path
        Existing folder to write to.
    replay : str or float, optional
        Quotes of how long before now to ask for first: as ``duration``, at most ``"24h"``, or ``"open"``, from 09:30
        New York today. A file that grows is asked for no more than it lacks.
    reconnect : str or float
        For how long to try again when the connection is lost, as ``duration``; 0 gives up at once. What was sent
        meanwhile is replayed.
    notify : callable, optional
        Is told in a sentence when the session begins, is lost or is found again, and what the gateway says. When
        omitted, what is amiss is a warning.
    gateway : str, optional
        Host to connect to in place of Databento's own, such as a proxy.
    port : int

    Returns
    -------
    LiveRecording

    Raises
    ------
    InputError
        If an argument is wrong, there is no key in the environment variable ``DATABENTO_API_KEY``, or the file is being
        recorded already.
    FileFormatError
        If the file that should grow is no file of a live session.
    MissingExtraError
        Without the extra ``volscen[databento]``.
    VolscenError
        If Databento refuses (a wrong key, no licence for live data, unknown symbols), the connection stays lost, or not
        one quote came. The message is passed on without the key; what was written stays.

    Examples
    --------
    >>> from volscen.sources import read_databento, record_databento
    >>> recording = record_databento(["SPX.OPT", "SPXW.OPT"], until="15:46", folder="live")  # doctest: +SKIP
    >>> quotes, dropped = read_databento(recording.path, times="15:45")  # doctest: +SKIP
    """
    parents = names_of(symbols, "symbols")
    target = recording_path(parents, folder)
    wanted = names_of(schemas, "schemas")
    for schema in wanted:
        if schema not in LIVE_SCHEMAS:
            raise InputError(f"schemas must be of {', '.join(LIVE_SCHEMAS)}, not {schema!r}")
    if wanted == ["definition"]:
        raise InputError("schemas has no quotes; add cbbo-1m")
    started = now()
    if duration is not None and until is not None:
        raise InputError("give duration or until, not both")
    seconds = None if duration is None else seconds_of(duration, "duration")
    if seconds == 0:
        raise InputError("duration must be longer than nothing")
    end = end_of(until, started)
    since = start_of(replay, started)
    patience = seconds_of(reconnect, "reconnect")
    key = client_key()
    try:
        import databento  # noqa: F401
        import zstandard  # noqa: F401
    except ImportError:
        raise MissingExtraError("recording from Databento", "databento") from None
    from volscen.sources._live_recorder import Recorder
    from volscen.sources._live_session import Session
    from volscen.sources._live_writer import LiveWriter

    def session(start: int | None) -> Session:
        return Session(key, parents, wanted, start=start, gateway=gateway, port=port)

    say = notify or (lambda _: None)
    warn = notify or (lambda text: warnings.warn(text, VolscenWarning, stacklevel=3))
    with LiveWriter(target) as writer:
        if writer.last_quote:
            since = max(started - REPLAY_NS, writer.last_quote)  # it lacks what was sent since, and nothing else
        recorder = Recorder(writer, session, seconds, end, patience, say, warn)
        stopped_by = recorder.run(since)
    if not recorder.quotes:
        raise VolscenError(
            f"databento sent no quote of {', '.join(parents)} in {(now() - started) / 1e9:.0f} seconds"
            + "".join(f"; it says: {text}" for text in recorder.messages)
            + "; is the market open, and is it long enough for the schema (cbbo-1m sends once a minute)?"
        )
    return LiveRecording(
        writer.path, dict(writer.counts), to_instant(started), to_instant(now()), tuple(recorder.lost), stopped_by
    )


def recording_path(symbols: str | Iterable[str], folder: str | Path) -> Path:
    """File that a recording of today goes to.

    Raises
    ------
    InputError
        If a symbol is no parent symbol, or the folder does not exist.
    """
    parents = names_of(symbols, "symbols")
    for parent in parents:
        if not PARENT.fullmatch(parent):
            raise InputError(f"symbols must be parent symbols such as 'SPY.OPT', not {parent!r}")
    if not Path(folder).is_dir():
        raise InputError(f"folder {folder} does not exist; make it first")
    roots = "-".join(parent.removesuffix(".OPT").lower() for parent in parents)
    return Path(folder) / f"opra-{roots}-{today(now())}.live.dbn.zst"

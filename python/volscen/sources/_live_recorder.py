"""Sessions one after the other, written to one file until the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from volscen.errors import VolscenError
from volscen.sources._databento_download import without_key
from volscen.sources._live_clock import REPLAY_NS, now, to_instant
from volscen.sources._live_file import QUOTE_KINDS
from volscen.sources._live_session import Refused, Session, SessionEnded
from volscen.sources._live_writer import LiveWriter

__all__ = ["Recorder"]

#: Seconds before the first attempt to connect again; each is twice as long as the one before, up to the second.
_PAUSE, _LONGEST_PAUSE = 1.0, 30.0

#: Seconds between two looks at the session, and between two writes.
_LOOK, _WRITE = 0.1, 5.0

#: Bytes that are written at once, however short the time.
_MUCH = 1 << 22


class Recorder:
    """Sessions one after the other, until the time is over."""

    def __init__(
        self,
        writer: LiveWriter,
        session: Callable[[int | None], Session],
        seconds: float | None,
        end: int | None,
        patience: float,
        say: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self._writer, self._session, self._patience = writer, session, patience
        self._seconds, self._end = seconds, end
        self._say, self._warn = say, warn
        self.lost: list[tuple[np.datetime64, np.datetime64]] = []
        self.messages: list[str] = []

    @property
    def quotes(self) -> int:
        """Number of quotes written."""
        return sum(self._writer.counts.get(kind, 0) for kind in QUOTE_KINDS.values())

    def run(self, since: int | None) -> str:
        """Record; say what ended it."""
        lost_at, pause, why = 0, _PAUSE, ""
        while True:
            try:
                with self._session(since) as session:
                    if lost_at:
                        self.lost.append((to_instant(lost_at), to_instant(now())))
                        self._say(f"connected again after {(now() - lost_at) / 1e9:.0f} seconds")
                    else:
                        self._say("connected")
                        if self._seconds is not None:
                            self._end = now() + round(self._seconds * 1e9)
                    lost_at, pause = 0, _PAUSE
                    self._listen(session)
                    return "time"
            except KeyboardInterrupt:
                return "user"
            except Refused as error:
                raise VolscenError(self._told(str(error))) from None
            except SessionEnded as error:
                why = str(error)
                if not lost_at:
                    if not self._writer.counts:
                        raise VolscenError(self._told(why)) from None
                    lost_at = now()
                    self._warn(f"databento: the connection is lost ({without_key(why)}); trying again")
            if now() - lost_at > self._patience * 1e9 or self._is_over():
                raise VolscenError(
                    self._told(
                        f"{why}; the connection stays lost since {to_instant(lost_at)} UTC; record again to go on"
                    )
                )
            try:
                time.sleep(pause)
            except KeyboardInterrupt:
                return "user"
            pause = min(2 * pause, _LONGEST_PAUSE)
            since = max(self._writer.last_quote, now() - REPLAY_NS) if self._writer.last_quote else since

    def _listen(self, session: Session) -> None:
        written = time.monotonic() - _WRITE  # the first records at once
        try:
            while not self._is_over():
                session.wait(_LOOK)
                self._pass_on(session)
                if time.monotonic() - written >= _WRITE or session.waiting_bytes > _MUCH:
                    self._writer.write(*session.take())
                    written = time.monotonic()
        finally:
            session.stop()
            self._writer.write(*session.take())
            self._pass_on(session)

    def _pass_on(self, session: Session) -> None:
        for text in map(without_key, session.messages()):
            self.messages.append(text)
            self._warn(f"databento: {text}")

    def _is_over(self) -> bool:
        return self._end is not None and now() >= self._end

    def _told(self, text: str) -> str:
        kept = f"; what was recorded is in {self._writer.path}" if self.quotes else ""
        return f"databento: {without_key(text)}{kept}"

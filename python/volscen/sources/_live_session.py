"""One connection to Databento's live gateway: records are taken as they come, off the caller's thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any

from volscen.sources._dbn import DATASET
from volscen.sources._live_file import QUOTE_KINDS

__all__ = ["Refused", "Session", "SessionEnded"]

#: Names of kinds of records by their number.
_KINDS = {**QUOTE_KINDS, 19: "definition", 21: "error", 22: "symbol-mapping", 23: "system"}

#: Times that are not given are larger.
_NEVER = 1 << 63

#: Seconds that a session has to say goodbye.
_GOODBYE = 5.0

#: Errors of the gateway after which the same request would fail again.
_FINAL = (
    "AUTH_FAILED",
    "API_KEY_DEACTIVATED",
    "CONNECTION_LIMIT_EXCEEDED",
    "SYMBOL_RESOLUTION_FAILED",
    "INVALID_SUBSCRIPTION",
)


class SessionEnded(Exception):
    """The connection could not be made, or is lost."""


class Refused(Exception):
    """The gateway refuses, and would refuse again."""


class Session:
    """A session from its connection to its end.

    Parameters
    ----------
    key : str
    parents, schemas : list of str
    start : int, optional
        Quotes since then (ns UTC) first.
    gateway : str, optional
    port : int

    Raises
    ------
    SessionEnded, Refused
        On entering, and from :meth:`wait`.
    """

    def __init__(
        self, key: str, parents: list[str], schemas: list[str], *, start: int | None, gateway: str | None, port: int
    ) -> None:
        self._arguments: dict[str, Any] = {"key": key, "gateway": gateway, "port": port}
        self._parents, self._schemas, self._start = parents, schemas, start
        self._lock = threading.Lock()
        self._records: list[bytes] = []
        self._counts: Counter[str] = Counter()
        self._messages: list[str] = []
        self._last_quote = 0
        self._header = b""
        self._final = ""
        self.waiting_bytes = 0

    def __enter__(self) -> Session:
        import databento
        from databento.common.error import BentoError

        # The client's own loop is shared and never ends; this one leaves no thread behind.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="volscen-live", daemon=True)
        self._thread.start()
        client = None
        try:
            client = self._client = databento.Live(loop=self._loop, **self._arguments)
            self._client.add_callback(self._take_in)
            for schema in self._schemas:
                self._client.subscribe(
                    DATASET,
                    schema,
                    self._parents,
                    stype_in="parent",
                    start=0 if schema == "definition" else self._start,
                )
            self._on_loop(self._start_client())
        except BaseException as error:
            if client is not None:
                client.terminate()
            self._end_loop()
            if isinstance(error, BentoError | ValueError):
                refused = "connection to" not in str(error).lower() and "timed out" not in str(error).lower()
                if refused:
                    raise Refused(
                        f"{error}; check the key in DATABENTO_API_KEY, and that it has live data of {DATASET}"
                    ) from None
                raise SessionEnded(str(error)) from None
            if isinstance(error, OSError | asyncio.CancelledError):
                raise SessionEnded(str(error) or type(error).__name__) from None
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._end_loop()

    def wait(self, seconds: float) -> None:
        """Let time pass; raise if the session has ended."""
        time.sleep(seconds)
        if not self._client.is_connected():
            why = "the gateway closed the connection"
            try:
                self._client.block_for_close(timeout=_GOODBYE)
            except Exception as error:  # the client's own, or of whatever broke the connection
                why = str(error) or type(error).__name__
            if self._final:
                raise Refused(self._final)
            raise SessionEnded(why)

    def messages(self) -> list[str]:
        """What the gateway says, besides that all is well."""
        with self._lock:
            said, self._messages = self._messages, []
        return said

    def take(self) -> tuple[bytes, bytes, Counter[str], int]:
        """Header, records since the last call, their number by kind, and the time of the latest quote."""
        with self._lock:
            data, self._records = b"".join(self._records), []
            counts, self._counts = self._counts, Counter()
            self.waiting_bytes = 0
        return self._header, data, counts, self._last_quote

    def stop(self) -> None:
        """Close the connection; what came until then can still be taken."""
        with suppress(Exception):  # it is closed, gracefully or not
            self._client.stop()
            self._client.block_for_close(timeout=_GOODBYE)

    def _take_in(self, record: Any) -> None:
        """Keep a record; called on the loop's thread, once for each."""
        name = _KINDS.get(int(record.rtype), "other")
        data = bytes(record)
        if not self._header and (metadata := self._client.metadata) is not None:
            self._header = bytes(metadata.encode())
        said = final = ""
        if name == "error":
            said = record.err
            final = said if getattr(record.code, "name", "") in _FINAL else ""
        elif name == "system" and getattr(record.code, "name", "") == "SLOW_READER_WARNING":
            said = record.msg
        with self._lock:
            self._records.append(data)
            self._counts[name] += 1
            self.waiting_bytes += len(data)
            if name in QUOTE_KINDS.values() and record.ts_recv < _NEVER:
                self._last_quote = max(self._last_quote, record.ts_recv)
            if said:
                self._messages.append(said)
            self._final = final or self._final

    async def _start_client(self) -> None:
        self._client.start()  # it makes a task of the loop, which only the loop's own thread may

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=_GOODBYE)

    def _end_loop(self) -> None:
        async def cancel_all() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.01)  # closed connections tell their protocols so

        self._on_loop(cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=_GOODBYE)
        self._loop.close()

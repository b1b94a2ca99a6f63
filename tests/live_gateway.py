"""A stand-in for Databento's live gateway on this machine: greeting, challenge, subscriptions, then records."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType

import databento_dbn as dbn

import opra_files as opra

CHALLENGE = "a-challenge-of-the-stand-in"

#: Nothing that a test waits for takes longer.
PATIENCE = 20.0


class Connection:
    """What a client sent, and a way to answer."""

    def __init__(self, accepted: socket.socket, stopping: threading.Event) -> None:
        accepted.settimeout(PATIENCE)
        self._socket, self._stopping = accepted, stopping
        self._rest = b""
        self.authentication: dict[str, str] = {}
        self.subscriptions: list[dict[str, str]] = []

    def line(self) -> dict[str, str]:
        while b"\n" not in self._rest:
            data = self._socket.recv(4096)
            if not data:
                raise ConnectionError("the client went away")
            self._rest += data
        text, _, self._rest = self._rest.partition(b"\n")
        return dict(part.split("=", 1) for part in text.decode().split("|"))

    def send(self, *parts: bytes) -> None:
        self._socket.sendall(b"".join(parts))

    def hold(self) -> None:
        """Wait until the client goes away."""
        self._socket.settimeout(0.05)
        while not self._stopping.is_set():
            try:
                if not self._socket.recv(4096):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def break_off(self) -> None:
        """End without a goodbye."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


class Gateway:
    """Answers each connection by the next of its sessions, the last of them again and again.

    Parameters
    ----------
    key : str
        The key that is let in.
    *sessions : callable
        What is sent after the header: takes the connection.
    refusal : str
        Refuse after a sound authentication, with this text.
    """

    def __init__(self, key: str, *sessions: Callable[[Connection], None], refusal: str = "") -> None:
        self._key, self._sessions, self._refusal = key, sessions, refusal
        self._stopping = threading.Event()
        self.connections: list[Connection] = []
        self.failures: list[BaseException] = []

    def __enter__(self) -> Gateway:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(PATIENCE)
        self._listener.close()
        assert not self._thread.is_alive()
        if kind is None and self.failures:
            raise self.failures[0]

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                accepted, _ = self._listener.accept()
            except TimeoutError:
                continue
            with accepted:
                try:
                    self._serve(Connection(accepted, self._stopping))
                except BaseException as failure:
                    self.failures.append(failure)

    def _serve(self, connection: Connection) -> None:
        which = min(len(self.connections), len(self._sessions) - 1)
        self.connections.append(connection)
        connection.send(b"lsg_version=0.6.0\n", f"cram={CHALLENGE}\n".encode())
        connection.authentication = connection.line()
        digest = hashlib.sha256(f"{CHALLENGE}|{self._key}".encode()).hexdigest()
        if connection.authentication["auth"] != f"{digest}-{self._key[-5:]}":
            connection.send(b"success=0|error=User authentication failed\n")
            return connection.hold()
        if self._refusal:
            connection.send(f"success=0|error={self._refusal}\n".encode())
            return connection.hold()
        connection.send(b"success=1|session_id=5\n")
        while "start_session" not in (line := connection.line()):
            connection.subscriptions.append(line)
        connection.send(live_header())
        self._sessions[which](connection)


def live_header(start: int = 1, dataset: str = "OPRA.PILLAR", ts_out: bool = False, version: int = 3) -> bytes:
    return bytes(
        dbn.Metadata(
            dataset=dataset,
            schema=None,
            stype_in=None,
            stype_out=dbn.SType.INSTRUMENT_ID,
            start=start,
            version=version,
            ts_out=ts_out,
        ).encode()
    )


def mapping(number: int, symbol: str, time: int, start: int = opra.dbn.UNDEF_TIMESTAMP) -> bytes:
    return bytes(
        dbn.SymbolMappingMsg(
            publisher_id=30,
            instrument_id=number,
            ts_event=time,
            stype_in=dbn.SType.PARENT,
            stype_in_symbol="SPX.OPT",
            stype_out=dbn.SType.RAW_SYMBOL,
            stype_out_symbol=symbol,
            start_ts=start,
            end_ts=dbn.UNDEF_TIMESTAMP,
        )
    )


def heartbeat(time: int) -> bytes:
    return bytes(dbn.SystemMsg(ts_event=time, msg="Heartbeat", code=dbn.SystemCode.HEARTBEAT))


def said(time: int, text: str, code: dbn.SystemCode) -> bytes:
    return bytes(dbn.SystemMsg(ts_event=time, msg=text, code=code))


def refused(time: int, text: str, code: dbn.ErrorCode) -> bytes:
    return bytes(dbn.ErrorMsg(ts_event=time, err=text, code=code))

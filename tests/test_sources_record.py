"""Recordings of live sessions: Databento's own client, against a stand-in for its gateway on this machine."""

from __future__ import annotations

import json
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path

import databento_dbn as dbn
import numpy as np
import pytest

import live_gateway as live
import opra_files as opra
from cli_runner import volscen_command
from live_gateway import Connection, Gateway
from volscen.errors import FileFormatError, InputError, MissingExtraError, VolscenError
from volscen.sources import LiveRecording, _live_clock, _live_recorder, read_databento, record_databento
from volscen.sources._live_session import Session
from volscen.sources._live_writer import LiveWriter

KEY = "db-secret-0123456789"
DAY = "2024-01-19"
CALL = opra.osi("SPXW", "2024-02-16", "C", 4800.0)
PUT = opra.osi("SPXW", "2024-02-16", "P", 4800.0)
FILE = "opra-spx-spxw-2024-01-19.live.dbn.zst"


def at(wall: str) -> int:
    return opra.instant(DAY, wall)


class Clock:
    """The recorder's clock, which goes on as the real one does and can be put forward."""

    def __init__(self) -> None:
        self._offset = at("14:00") - time.time_ns()

    def time_ns(self) -> int:
        return time.time_ns() + self._offset

    def forward(self, seconds: float) -> None:
        self._offset += round(seconds * 1e9)


class Taken:
    """Counts the records that a session took in, so that the gateway goes on when they are there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._condition = threading.Condition()
        self._records = 0
        take_in = Session._take_in

        def counted(session: Session, record: object) -> None:
            take_in(session, record)
            with self._condition:
                self._records += 1
                self._condition.notify_all()

        monkeypatch.setattr(Session, "_take_in", counted)

    def wait(self, records: int) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: self._records >= records, live.PATIENCE)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_live_clock, "time", types.SimpleNamespace(time_ns=clock.time_ns))
    return clock


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    return Taken(monkeypatch)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DATABENTO_API_KEY", KEY)
    monkeypatch.setattr(_live_recorder, "_PAUSE", 0.01)
    monkeypatch.setattr(_live_recorder, "_LOOK", 0.01)
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before  # no thread is left behind


def record(gateway: Gateway, folder: Path, **options: object) -> LiveRecording:
    arguments: dict[str, object] = {"duration": "30min", "folder": folder, "gateway": "127.0.0.1", "port": gateway.port}
    return record_databento(["SPX.OPT", "SPXW.OPT"], **{**arguments, **options})  # type: ignore[arg-type]


SYMBOLS = live.mapping(7, CALL, at("14:00")) + live.mapping(8, PUT, at("14:00"))
DEFINED = opra.definition(7, CALL, "2024-02-16", "C", 4800.0, at("06:30"), contract_multiplier=10)
FIRST = opra.cbbo(7, at("14:01"), 60.0, 61.0) + opra.cbbo(8, at("14:01"), 50.0, 51.0)
SECOND = opra.cbbo(7, at("14:02"), 62.0, 63.0)


def test_a_session_to_quotes(tmp_path: Path, clock: Clock, taken: Taken) -> None:
    def session(connection: Connection) -> None:
        connection.send(SYMBOLS, DEFINED, FIRST, live.heartbeat(at("14:01")), SECOND[:33])
        taken.wait(6)
        connection.send(SECOND[33:])  # a record comes in two pieces
        taken.wait(7)
        clock.forward(1800)
        connection.hold()

    told: list[str] = []
    with Gateway(KEY, session) as gateway:
        found = record(gateway, tmp_path, notify=told.append)
    assert found.path == tmp_path / FILE
    assert found.records == {"symbol-mapping": 2, "definition": 1, "cbbo-1m": 3, "system": 1}
    assert (found.quotes, found.stopped_by, found.interruptions) == (3, "time", ())
    assert found.started == np.datetime64("2024-01-19T19:00:00")
    assert found.ended - found.started >= np.timedelta64(1800, "s")
    assert told == ["connected"]
    (connection,) = gateway.connections
    assert connection.authentication["dataset"] == "OPRA.PILLAR"
    asked = [
        {name: one.get(name) for name in ("schema", "symbols", "stype_in", "start")} for one in connection.subscriptions
    ]
    assert asked == [
        {"schema": "cbbo-1m", "symbols": "SPX.OPT,SPXW.OPT", "stype_in": "parent", "start": None},
        {"schema": "definition", "symbols": "SPX.OPT,SPXW.OPT", "stype_in": "parent", "start": "0"},
    ]
    quotes, _ = read_databento(found.path, times="last")
    held = quotes.set_index("symbol")[["bid", "ask", "age", "multiplier"]]
    assert held.loc[CALL].tolist() == [62.0, 63.0, 0.0, 10.0]
    assert held.loc[PUT].tolist() == [50.0, 51.0, 60.0, 100.0]

    from databento import DBNStore

    store = DBNStore.from_bytes(found.path.read_bytes())
    assert [int(one.rtype) for one in store] == [22, 22, 19, 193, 193, 23, 193]


def test_it_can_be_read_while_it_grows(
    tmp_path: Path, clock: Clock, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_live_recorder, "_WRITE", 0.0)
    seen = []

    def session(connection: Connection) -> None:
        connection.send(SYMBOLS, FIRST)
        deadline = time.monotonic() + live.PATIENCE
        while not seen and time.monotonic() < deadline:
            try:
                quotes = read_databento(tmp_path, times="last")[0]
            except (FileFormatError, InputError):  # its header, or its quotes, are not written yet
                continue
            seen.extend([quotes["bid"].tolist()] if len(quotes) == 2 else [])
        clock.forward(1800)
        connection.hold()

    with Gateway(KEY, session) as gateway:
        record(gateway, tmp_path, schemas="cbbo-1m")
    assert sorted(seen[0]) == [50.0, 60.0]


@pytest.mark.parametrize("goodbye", [False, True])
def test_a_lost_connection_is_made_again_and_the_gap_replayed(
    tmp_path: Path, clock: Clock, taken: Taken, goodbye: bool
) -> None:
    def lost(connection: Connection) -> None:
        connection.send(SYMBOLS, DEFINED, FIRST)
        taken.wait(5)
        if not goodbye:
            connection.break_off()

    def found_again(connection: Connection) -> None:
        connection.send(SYMBOLS, FIRST, SECOND)  # from the last quote on, inclusive
        taken.wait(10)
        clock.forward(1800)
        connection.hold()

    with Gateway(KEY, lost, found_again) as gateway, pytest.warns(UserWarning, match="connection is lost"):
        found = record(gateway, tmp_path)
    assert len(found.interruptions) == 1
    first, second = (connection.subscriptions for connection in gateway.connections)
    assert [one.get("start") for one in first] == [None, "0"]
    assert [one.get("start") for one in second] == [str(at("14:01")), "0"]
    quotes, _ = read_databento(tmp_path, times="last")
    assert sorted(quotes["bid"]) == [50.0, 62.0]


def test_a_connection_that_stays_lost(tmp_path: Path, clock: Clock, taken: Taken) -> None:
    def lost(connection: Connection) -> None:
        connection.send(SYMBOLS, FIRST)
        taken.wait(4)

    stays = pytest.raises(VolscenError, match=r"the connection stays lost since .* record again to go on")
    with Gateway(KEY, lost) as gateway, pytest.warns(UserWarning, match="connection is lost"), stays as caught:
        record(gateway, tmp_path, reconnect=0)
    assert FILE in str(caught.value)
    assert len(read_databento(tmp_path, times="last")[0]) == 2

    def rest(connection: Connection) -> None:
        connection.send(SYMBOLS, SECOND)
        taken.wait(7)
        clock.forward(1800)
        connection.hold()

    with Gateway(KEY, rest) as gateway:
        found = record(gateway, tmp_path)
    assert found.records == {"symbol-mapping": 2, "cbbo-1m": 1}  # what was added
    assert gateway.connections[0].subscriptions[0]["start"] == str(at("14:01"))
    quotes, dropped = read_databento(tmp_path, times="last")
    assert sorted(quotes["bid"]) == [50.0, 62.0]
    assert dropped.attrs["records"] == 3


def test_the_gateway_never_comes_back(tmp_path: Path, clock: Clock, taken: Taken) -> None:
    gateway = Gateway(KEY, lambda connection: None)

    def lost(connection: Connection) -> None:
        connection.send(SYMBOLS, FIRST)
        taken.wait(4)
        gateway._stopping.set()
        gateway._listener.close()

    gateway._sessions = (lost,)
    told: list[str] = []
    stays = pytest.raises(VolscenError, match=r"Connection to 127\.0\.0\.1:\d+ failed.*; the connection stays lost")
    with gateway, stays:
        record(gateway, tmp_path, notify=told.append, until="15:46", duration=None, reconnect="1s")
    assert told[0] == "connected"
    assert len(read_databento(tmp_path, times="last")[0]) == 2


def test_ctrl_c_ends_well(tmp_path: Path, clock: Clock, taken: Taken, monkeypatch: pytest.MonkeyPatch) -> None:
    wait = Session.wait

    def interrupted(session: Session, seconds: float) -> None:
        wait(session, seconds)
        if taken._records >= 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Session, "wait", interrupted)

    def session(connection: Connection) -> None:
        connection.send(SYMBOLS, FIRST)
        connection.hold()

    with Gateway(KEY, session) as gateway:
        found = record(gateway, tmp_path, duration=None)
    assert found.stopped_by == "user"
    assert len(read_databento(found.path, times="last")[0]) == 2


def nothing(connection: Connection) -> None:
    connection.hold()


def test_refusals(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    unlicensed = pytest.raises(VolscenError, match=r"license is required for \*\*\*; check the key")
    with Gateway(KEY, nothing, refusal=f"A license is required for {KEY}") as gateway, unlicensed as caught:
        record(gateway, tmp_path)
    assert KEY not in str(caught.value)
    monkeypatch.setenv("DATABENTO_API_KEY", "db-another-key")
    with Gateway(KEY, nothing) as gateway, pytest.raises(VolscenError, match="User authentication failed; check"):
        record(gateway, tmp_path)
    with pytest.raises(VolscenError, match=r"Connection to 127.0.0.1:\d+ failed"):
        record(gateway, tmp_path)
    monkeypatch.delenv("DATABENTO_API_KEY")
    with pytest.raises(InputError, match="set the environment variable DATABENTO_API_KEY"):
        record(gateway, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_unknown_symbols(tmp_path: Path, clock: Clock, taken: Taken) -> None:
    def session(connection: Connection) -> None:
        connection.send(live.refused(at("14:00"), "Failed to resolve SPX.OPT", dbn.ErrorCode.SYMBOL_RESOLUTION_FAILED))
        taken.wait(1)

    told: list[str] = []
    with Gateway(KEY, session) as gateway, pytest.raises(VolscenError, match=r"Failed to resolve SPX\.OPT"):
        record(gateway, tmp_path, notify=told.append)
    assert len(gateway.connections) == 1  # asked once: it would be the same again
    assert list(tmp_path.iterdir()) == []


def test_nothing_received(tmp_path: Path, clock: Clock, taken: Taken) -> None:
    def session(connection: Connection) -> None:
        slow = live.said(at("14:00"), "the reader is slow", dbn.SystemCode.SLOW_READER_WARNING)
        connection.send(SYMBOLS, DEFINED, live.heartbeat(at("14:00")), slow)
        taken.wait(5)
        clock.forward(1800)
        connection.hold()

    silence = pytest.raises(VolscenError, match=r"no quote of SPX.OPT, SPXW.OPT in 18\d\d seconds; it says: the re")
    slow_reader = pytest.warns(UserWarning, match="databento: the reader is slow")
    with Gateway(KEY, session) as gateway, slow_reader, silence:
        record(gateway, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_replays(tmp_path: Path, clock: Clock, taken: Taken) -> None:
    asked = []
    for n, (replay, start) in enumerate([("open", at("09:30")), ("90s", None), (3600.0, None)], 1):

        def session(connection: Connection, n: int = n) -> None:
            connection.send(SYMBOLS, FIRST)
            taken.wait(4 * n)
            clock.forward(1800)
            connection.hold()

        folder = tmp_path / str(n)
        folder.mkdir()
        now = clock.time_ns()
        with Gateway(KEY, session) as gateway:
            record(gateway, folder, replay=replay, schemas=["cbbo-1s"])
        (subscription,) = gateway.connections[0].subscriptions
        assert subscription["schema"] == "cbbo-1s"
        asked.append((now, int(subscription["start"]), start))
    assert asked[0][1] == asked[0][2]
    for (now, start, _), seconds in zip(asked[1:], (90, 3600), strict=True):
        assert 0 <= start - (now - seconds * 10**9) < live.PATIENCE * 10**9


@pytest.mark.parametrize(
    ("until", "end"), [("15:46", at("15:46")), ("close", at("16:00")), ("close + 1 min", at("16:01"))]
)
def test_until(until: str, end: int) -> None:
    assert _live_clock.end_of(until, at("14:00")) == end


def test_until_on_a_half_day_and_across_the_change_of_clocks() -> None:
    assert _live_clock.end_of("close", opra.instant("2024-11-29", "09:00")) == opra.instant("2024-11-29", "13:00")
    assert _live_clock.end_of("12:00", opra.instant("2024-03-10", "00:30")) == opra.instant("2024-03-10", "12:00")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"symbols": "SPX"}, "parent symbols such as 'SPY.OPT'"),
        ({"symbols": []}, "symbols must be a name or several"),
        ({"schemas": "trades"}, "schemas must be of cbbo-1m"),
        ({"schemas": "definition"}, "schemas has no quotes"),
        ({"duration": "soon"}, "duration must be seconds, or like '30min'"),
        ({"duration": 0}, "duration must be longer"),
        ({"duration": float("nan")}, "duration must be seconds"),
        ({"duration": -5}, "duration must be seconds"),
        ({"duration": True}, "duration must be seconds"),
        ({"duration": "5min", "until": "close"}, "give duration or until, not both"),
        ({"until": "13:00"}, "until 13:00 is over in New York"),
        ({"until": "25:00"}, "until must be a time of day"),
        ({"until": 16}, "until must be a time of day"),
        ({"replay": "25h"}, "at most 24h"),
        ({"replay": "yesterday"}, "replay must be seconds"),
        ({"reconnect": None}, "reconnect must be seconds"),
        ({"folder": "absent"}, "folder absent does not exist"),
    ],
)
def test_wrong_arguments(clock: Clock, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        record_databento(**{"symbols": "SPX.OPT", **options})  # type: ignore[arg-type]


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "databento", None)
    with pytest.raises(MissingExtraError, match=r"volscen\[databento\]"):
        record_databento("SPX.OPT", folder=tmp_path)


def test_a_file_goes_on_from_its_last_whole_frame(tmp_path: Path) -> None:
    from collections import Counter

    path, header = tmp_path / FILE, live.live_header()
    with LiveWriter(path) as writer:
        writer.write(header, SYMBOLS + FIRST, Counter({"cbbo-1m": 2}), at("14:01"))
        many = b"".join(opra.cbbo(7, at("14:02"), 62.0 + 0.37 * i**1.5, 999.0) for i in range(300))
        writer.write(header, many, Counter({"cbbo-1m": 300}), at("14:02"))
    path.write_bytes(path.read_bytes()[:-3])  # killed while writing
    with LiveWriter(path) as writer:
        assert writer.last_quote == at("14:01")
        writer.write(header, opra.cbbo(7, at("14:03"), 66.0, 67.0), Counter({"cbbo-1m": 1}), at("14:03"))
        with pytest.raises(InputError, match="is being recorded already, by another process"), LiveWriter(path):
            pass
        with pytest.raises(FileFormatError, match="another version of the encoding"):
            writer.write(live.live_header(version=2), SECOND, Counter(), at("14:04"))
    quotes, dropped = read_databento(path, times="last")
    assert sorted(quotes["bid"]) == [50.0, 66.0]
    assert dropped.attrs["records"] == 3
    before = path.read_bytes()
    with LiveWriter(path):
        pass
    assert path.read_bytes() == before  # nothing new, nothing lost


def test_two_recorders_that_begin_together(tmp_path: Path) -> None:
    from collections import Counter

    path, header = tmp_path / FILE, live.live_header()
    with LiveWriter(path) as first, LiveWriter(path) as second:
        assert list(tmp_path.iterdir()) == []  # nothing is in a reader's way before the first records
        first.write(header, SYMBOLS + FIRST, Counter({"cbbo-1m": 2}), at("14:01"))
        with pytest.raises(InputError, match="is being recorded already, by another process"):
            second.write(header, SYMBOLS + SECOND, Counter({"cbbo-1m": 1}), at("14:02"))
    assert len(read_databento(path, times="last")[0]) == 2


def test_files_that_cannot_go_on(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / FILE
    opra.write(path, opra.header(dbn.Schema.CBBO_1M, DAY), FIRST)
    with Gateway(KEY, nothing) as gateway:
        with pytest.raises(FileFormatError, match="is no recording of a live session; move it away"):
            record(gateway, tmp_path)
        path.write_bytes(b"something else, of which much")
        with pytest.raises(FileFormatError, match="damaged zstd stream"):
            record(gateway, tmp_path)
        assert path.read_bytes() == b"something else, of which much"
        assert gateway.connections == []


def test_the_stream_of_a_client_of_ones_own(tmp_path: Path) -> None:
    import databento

    def session(connection: Connection) -> None:
        connection.send(SYMBOLS, FIRST, SECOND)

    path = tmp_path / "mine.dbn"
    import asyncio

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        with Gateway(KEY, session) as gateway:
            client = databento.Live(KEY, gateway="127.0.0.1", port=gateway.port, loop=loop)
            client.subscribe("OPRA.PILLAR", "cbbo-1m", "SPX.OPT", stype_in="parent")
            client.add_stream(path)
            client.start()
            client.block_for_close(timeout=live.PATIENCE)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    quotes, _ = read_databento(path, times="last")
    assert sorted(quotes["bid"]) == [50.0, 62.0]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []
    target = tmp_path / "x.live.dbn.zst"

    def fake(symbols: list[str], **options: object) -> LiveRecording:
        asked.append({"symbols": symbols, **options})
        options["notify"]("connected")  # type: ignore[operator]
        target.write_bytes(b"some")
        lost = (np.datetime64("2024-01-19T19:10"), np.datetime64("2024-01-19T19:11"))
        return LiveRecording(target, {"cbbo-1m": 1200}, lost[0], lost[1], (lost,), "time")

    monkeypatch.setattr("volscen.sources.record_databento", fake)
    words = ["record", "SPX.OPT", "SPXW.OPT", "--out", tmp_path]
    code, out, error = volscen_command(*words, "--until", "15:46", "--replay", "10min", "--schema", "cbbo-1s")
    assert code == 0
    assert "connected" in out + error
    assert "wrote 1,200 quotes" in out
    del asked[0]["notify"]
    assert asked[0] == {
        "symbols": ["SPX.OPT", "SPXW.OPT"],
        "duration": None,
        "until": "15:46",
        "schemas": ["cbbo-1s"],
        "folder": tmp_path,
        "replay": "10min",
        "reconnect": "15min",
    }
    code, out, _ = volscen_command(*words, "--for", "30min", "--json")
    assert json.loads(out)["records"] == {"cbbo-1m": 1200}
    assert (asked[1]["duration"], asked[1]["schemas"]) == ("30min", ("cbbo-1m", "definition"))
    code, out, _ = volscen_command(*words, "--dry-run")
    assert (code, len(asked)) == (0, 2)
    assert "opra-spx-spxw-" in out
    monkeypatch.undo()
    monkeypatch.delenv("DATABENTO_API_KEY", raising=False)
    code, _, error = volscen_command(*words)
    assert code == 1
    assert "set the environment variable DATABENTO_API_KEY" in error

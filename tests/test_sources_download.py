"""The download, with a client that answers like Databento's and never leaves the machine."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import databento_dbn as dbn
import pytest

import opra_files as opra
from volscen.errors import InputError, MissingExtraError, VolscenError
from volscen.sources import download_databento, read_databento

KEY = "db-secret-0123456789"
CALL = opra.osi("SPY", "2024-02-16", "C", 480.0)


class FakeClient:
    """Costs and writes files; remembers what it was asked."""

    def __init__(self, cost: float = 1.25, error: str = "", body: bytes | None = None) -> None:
        self.cost, self.error, self.body = cost, error, body
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.metadata = self.timeseries = self

    def get_cost(self, **request: Any) -> float:
        self.asked.append(("cost", request))
        if self.error == "cost":
            raise RuntimeError(f"401 unauthorised for key {KEY}")
        return self.cost

    def get_range(self, *, path: Path, **request: Any) -> None:
        self.asked.append(("range", {**request, "path": path}))
        assert not Path(path).exists()  # as Databento's own client demands
        if self.error == "range":
            Path(path).write_bytes(b"half a fi")
            raise RuntimeError(f"connection lost, key {KEY}")
        schemas = {"cbbo-1m": dbn.Schema.CBBO_1M, "definition": dbn.Schema.DEFINITION}
        mapping = [(CALL, [("2024-01-19", "2024-01-20", 7)])]
        head = opra.header(schemas[request["schema"]], "2024-01-19", mapping)
        time = opra.instant("2024-01-19", "15:00")
        body = opra.cbbo(7, time, 6.0, 6.1) if request["schema"] == "cbbo-1m" else b""
        opra.write(Path(path), head + body if self.body is None else self.body)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABENTO_API_KEY", KEY)


def test_cost_is_asked_before_anything_is_downloaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = FakeClient()
    questions: list[str] = []

    def yes(question: str) -> bool:
        questions.append(question)
        assert [kind for kind, _ in client.asked] == ["cost", "cost"]
        return True

    files = download_databento(
        ["SPY.OPT"],
        start="2024-01-19",
        schemas=["cbbo-1m", "definition"],
        folder=tmp_path,
        confirm=yes,
        client=client,
    )
    assert [file.name for file in files] == [
        "opra-spy-2024-01-19.cbbo-1m.dbn.zst",
        "opra-spy-2024-01-19.definition.dbn.zst",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(file.name for file in files)
    assert questions == [
        "SPY.OPT from OPRA.PILLAR, 2024-01-19: 2.50 US dollars (cbbo-1m 1.25, definition 1.25). Download?"
    ]
    request = {
        "dataset": "OPRA.PILLAR",
        "schema": "cbbo-1m",
        "symbols": ["SPY.OPT"],
        "stype_in": "parent",
        "start": "2024-01-19",
        "end": "2024-01-20",
    }
    assert client.asked[0] == ("cost", request)
    sent = dict(client.asked[2][1])
    sent.pop("path")
    assert sent == request
    quotes, _ = read_databento(files[0])
    assert quotes["symbol"].tolist() == [CALL]
    out = capsys.readouterr()
    assert KEY not in out.out + out.err


def test_no_means_no(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for confirm in (False, lambda question: False):
        client = FakeClient(cost=12345.678)
        files = download_databento(
            "SPY.OPT", start="2024-01-19", end="2024-01-23", folder=tmp_path, confirm=confirm, client=client
        )
        assert files == []
        assert [kind for kind, _ in client.asked] == ["cost"]
        assert client.asked[0][1]["end"] == "2024-01-24"
    assert list(tmp_path.iterdir()) == []
    assert "2024-01-19 to 2024-01-23: 12345.68 US dollars" in capsys.readouterr().out


def test_the_terminal_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for answer, n in (("y\n", 1), ("\n", 0), ("no\n", 0)):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        files = download_databento("SPY.OPT", start="2024-01-19", folder=tmp_path, client=FakeClient())
        assert len(files) == n
        for file in files:
            file.unlink()
    assert "1.25 US dollars" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(InputError, match="nobody to ask; pass confirm=True"):
        download_databento("SPY.OPT", start="2024-01-19", folder=tmp_path, client=FakeClient())


@pytest.mark.parametrize("error", ["cost", "range"])
def test_the_key_is_in_no_message(tmp_path: Path, error: str) -> None:
    with pytest.raises(VolscenError, match=r"databento: .*\*\*\*") as caught:
        download_databento("SPY.OPT", start="2024-01-19", folder=tmp_path, confirm=True, client=FakeClient(error=error))
    cause: BaseException | None = caught.value
    while cause is not None:
        assert KEY not in str(cause)
        cause = cause.__cause__ or cause.__context__
    assert list(tmp_path.iterdir()) == []


def test_what_was_sent_is_looked_at(tmp_path: Path) -> None:
    client = FakeClient(body=b"<html>service unavailable</html>")
    with pytest.raises(VolscenError, match="no DBN file"):
        download_databento("SPY.OPT", start="2024-01-19", folder=tmp_path, confirm=True, client=client)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(VolscenError, match="no usable cost for cbbo-1m"):
        download_databento(
            "SPY.OPT", start="2024-01-19", folder=tmp_path, confirm=True, client=FakeClient(cost=float("nan"))
        )


def test_bad_requests(tmp_path: Path) -> None:
    sound: dict[str, Any] = {"start": "2024-01-19", "folder": tmp_path, "confirm": True}
    for symbols, changed, message in [
        ("SPY", {}, "parent symbols such as 'SPY.OPT', not 'SPY'"),
        ([], {}, "symbols must be a name or several"),
        ("SPY.OPT", {"schemas": "trades"}, "schemas must be of cbbo-1m"),
        ("SPY.OPT", {"start": "someday"}, "start must be a date"),
        ("SPY.OPT", {"end": "2024-01-18"}, "end 2024-01-18 lies before start"),
        ("SPY.OPT", {"folder": tmp_path / "absent"}, "does not exist; make it first"),
    ]:
        client = FakeClient()
        with pytest.raises(InputError, match=message):
            download_databento(symbols, client=client, **{**sound, **changed})
        assert client.asked == []
    download_databento("SPY.OPT", client=FakeClient(), **sound)
    with pytest.raises(InputError, match="exists already; remove it to pay for it again"):
        download_databento("SPY.OPT", client=FakeClient(), **sound)


def test_key_and_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "databento", None)
    with pytest.raises(MissingExtraError, match=r"volscen\[databento\]"):
        download_databento("SPY.OPT", start="2024-01-19", folder=tmp_path, confirm=True)
    for value in ("", "   "):
        monkeypatch.setenv("DATABENTO_API_KEY", value)
        with pytest.raises(InputError, match="set the environment variable DATABENTO_API_KEY"):
            download_databento("SPY.OPT", start="2024-01-19", folder=tmp_path, confirm=True)


def test_databentos_own_client_takes_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of the arguments exist; no call leaves the machine."""
    import inspect

    from databento.historical.api.metadata import MetadataHttpAPI
    from databento.historical.api.timeseries import TimeseriesHttpAPI

    client = FakeClient()
    download_databento("SPY.OPT", start="2024-01-19", folder=tmp_path, confirm=True, client=client)
    for (_, request), method in zip(client.asked, (MetadataHttpAPI.get_cost, TimeseriesHttpAPI.get_range), strict=True):
        assert set(request) <= set(inspect.signature(method).parameters)

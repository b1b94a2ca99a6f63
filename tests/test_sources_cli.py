"""Every source of quotes through the one command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import databento_dbn as dbn
import pytest

import opra_files as opra
import volscen
from chain_makers import black_price, make_chain
from test_sources_vendors import coin_answer
from volscen.cli import main
from volscen.errors import InputError
from volscen.sources._readers import read_quotes

GRID = ["--days", "30,60", "--moneyness", "0.95,1,1.05"]


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["volscen", *map(str, arguments)])
    monkeypatch.setattr("warnings.showwarning", None)  # main replaces it
    with pytest.raises(SystemExit) as stopped:
        main()
    out = capsys.readouterr()
    return int(stopped.value.code or 0), out.out, out.err


def opra_day(path: Path) -> Path:
    """A chain of two expiries and two roots at 15:44."""
    pairs, records = [], []
    for root, expiry, days in (("SPXW", "2024-02-16", 28), ("SPXW", "2024-03-28", 69), ("SPX", "2024-02-16", 28)):
        for strike in range(4000, 5601, 100):
            for kind in "CP":
                number = len(pairs) + 1
                pairs.append((opra.osi(root, expiry, kind, strike), [("2024-01-19", "2024-01-20", number)]))
                value = float(black_price(4800.0, strike, days / 365, 0.15, kind == "C"))
                records.append(
                    opra.cbbo(number, opra.instant("2024-01-19", "15:44"), max(value - 0.1, 0.05), value + 0.1)
                )
    return opra.write(path, opra.header(dbn.Schema.CBBO_1M, "2024-01-19", pairs), b"".join(records))


def test_databento_to_a_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = opra_day(tmp_path / "a.dbn.zst"), tmp_path / "history.nc"
    read = ["--read", "times=15:45", "--read", "roots=SPXW"]
    code, said, error = run(
        monkeypatch, capsys, "history", "build", file, "--source", "databento", *read, *GRID, "--out", out
    )
    assert (code, error) == (0, "")
    assert "unknown_contract: 34" in said
    history = volscen.read(out)
    assert abs(float(history["implied_vol"].sel(moneyness=1.0).mean()) - 0.15) < 0.001


def test_deribit_to_a_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "book.json", tmp_path / "history.nc"
    file.write_text(json.dumps(coin_answer()))
    grid = ["--days", "90,170", "--moneyness", "0.9,1,1.1"]
    code, _, error = run(monkeypatch, capsys, "history", "build", file, "--source", "deribit", *grid, "--out", out)
    assert (code, error) == (0, "")
    assert abs(float(volscen.read(out)["implied_vol"].mean()) - 0.6) < 0.001


def test_wrong_sources_and_options_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "quotes.csv", tmp_path / "history.nc"
    make_chain().to_csv(file, index=False)
    base = ["history", "build", file, "--out", out]
    for arguments, message in [
        (["--source", "bloomberg", *GRID], "--source must be one of table, databento, optionmetrics, lean, deribit"),
        (["--read", "times=15:45", *GRID], "read_table has no option 'times'; it has columns, scale, keep"),
        (["--read", "times", *GRID], "--read must look like name=value"),
        (["--source", "databento", *GRID], "no DBN file"),
        (["--source", "spx-factors", "--read", "a=1"], "--read goes with quotes only"),
        (["--source", "spx-factors", "--columns", "a=b"], "--columns goes with quotes only"),
    ]:
        code, _, error = run(monkeypatch, capsys, *base, *arguments)
        assert code == 1
        assert message in error
        assert error.count("\n") == 1
    code, _, _ = run(monkeypatch, capsys, *base, "--read", 'scale={"price": 1.0}', *GRID)
    assert code == 0
    with pytest.raises(InputError, match="the kind of source must be one of table, databento"):
        read_quotes(file, "bloomberg")


def test_download_asks_for_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DATABENTO_API_KEY", raising=False)
    code, _, error = run(
        monkeypatch, capsys, "download", "SPY.OPT", "--start", "2024-01-19", "--out", tmp_path, "--yes"
    )
    assert code == 1
    assert "set the environment variable DATABENTO_API_KEY" in error
    asked: list[dict[str, object]] = []

    def fake(symbols: list[str], **request: object) -> list[Path]:
        asked.append({"symbols": symbols, **request})
        (tmp_path / "a").touch()
        return [tmp_path / "a"] if request["confirm"] else []

    monkeypatch.setattr("volscen.sources.download_databento", fake)
    words = [
        "download",
        "SPX.OPT",
        "SPXW.OPT",
        "--start",
        "2024-01-19",
        "--schema",
        "cbbo-1m",
        "--schema",
        "definition",
    ]
    assert "wrote" in run(monkeypatch, capsys, *words, "--yes")[1]
    assert "nothing was downloaded" in run(monkeypatch, capsys, *words)[1]
    assert [one["confirm"] for one in asked] == [True, None]
    assert asked[0]["symbols"] == ["SPX.OPT", "SPXW.OPT"]
    assert asked[0]["schemas"] == ["cbbo-1m", "definition"]

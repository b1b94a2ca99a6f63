"""Histories on the command line: built, grown, put beside each other; what is wrong with a file, in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import volscen
from cli_runner import volscen_command
from test_sources_cli import run as run_in
from test_update_history import assert_same, quotes_of, up_to

GRID = ["--days", "45,60,91", "--moneyness", "0.95,1,1.05"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    return lambda *arguments: run_in(monkeypatch, capsys, "history", *arguments)


def test_a_history_grows_to_what_one_build_gives(tmp_path: Path, run) -> None:
    quotes = quotes_of(4)
    quotes = quotes[(quotes["date"] != np.unique(quotes["date"])[2]) | (quotes["option_type"] == "C")]
    up_to(quotes, 0).to_csv(tmp_path / "first.csv", index=False)
    quotes.to_csv(tmp_path / "all.csv", index=False)
    options = ["--option", "min_price=0.02", "--calendar", "XNYS", "--checkpoint", tmp_path / "days"]
    for name, suffix in (("first", "nc"), ("all", "zarr")):
        code, said, error = run(
            "build", tmp_path / f"{name}.csv", *GRID, *options, "--out", tmp_path / f"{name}.{suffix}"
        )
        assert (code, error) == (0, "")
    assert "4 days, 2024-01-02 to 2024-01-05: 3 kept, 1 dropped (unusable_chain 1)" in said
    code, said, error = run("update", tmp_path / "first.nc", tmp_path / "all.csv")
    assert (code, error) == (0, "")
    assert "days there already, skipped: 1" in said
    assert "3 days, 2024-01-03 to 2024-01-05: 2 kept" in said
    assert_same(volscen.read(tmp_path / "first.nc"), volscen.read(tmp_path / "all.zarr"))
    assert volscen.read(tmp_path / "first.nc").attrs["calendar"] == "XNYS"
    tables = [pd.read_csv(tmp_path / f"{name}.report.csv") for name in ("first", "all")]
    pd.testing.assert_frame_equal(*tables)
    assert tables[0]["dropped_low_price"].sum() > 0
    code, said, _ = run("update", tmp_path / "first.nc", tmp_path / "all.csv")
    assert code == 0
    assert "no new day" in said


def test_several_assets(tmp_path: Path, run) -> None:
    history = volscen.datasets.sample_history()
    volscen.write(history, tmp_path / "a.nc")
    volscen.write(history.isel(date=slice(7, None)), tmp_path / "b.nc")
    out = tmp_path / "both.zarr"
    code, said, _ = run("align", f"A={tmp_path / 'a.nc'}", f"B={tmp_path / 'b.nc'}", "--out", out)
    assert code == 0
    assert "dates lost: 7 (A: 7; B: 0)" in said
    assert volscen.read(out).sizes["asset"] == 2
    for arguments, message in [
        (["A", "B=b.nc"], "must look like name=file"),
        (["A=a.nc", "A=b.nc"], "bear the same name"),
        ([f"A={tmp_path / 'a.nc'}", f"B={out}"], "choose it with history.sel"),
        ([f"A={tmp_path / 'a.nc'}", f"B={tmp_path / 'b.nc'}", "--join", "exact"], "the dates differ"),
    ]:
        code, _, error = run("align", *arguments, "--out", tmp_path / "no.nc")
        assert code == 1
        assert message in error
        assert error.count("\n") == 1


def test_a_split_is_taken_out_in_place(tmp_path: Path, run) -> None:
    path = tmp_path / "h.nc"
    whole = volscen.datasets.sample_history()
    day = str(whole["date"].values[300].astype("datetime64[D]"))
    held = whole.copy(deep=True)
    held["log_return"].values[300] -= np.log(3)
    held["spot"].values[300:] /= 3
    held["jump_flag"] = ("date", np.where(np.arange(held.sizes["date"]) == 300, 2, 0).astype(np.int8))
    volscen.write(held, path)
    code, said, _ = run("adjust", path, "--date", day, "--split", 3, "--out", path, "--dry-run")
    assert code == 0
    assert volscen.read(path).identical(held)
    code, said, _ = run("adjust", path, "--date", day, "--split", 3, "--out", path)
    assert code == 0
    np.testing.assert_allclose(volscen.read(path)["log_return"], whole["log_return"], atol=1e-12)
    assert f"log return into {day}: {float(held.log_return[300]):+.4f}, now" in said
    for arguments, message in [
        (["--date", day, "--split", 3], "free of a corporate action already"),
        (["--date", "1999-01-04"], "1999-01-04"),
        (["--date", day, "--split", 0], "split must be"),
    ]:
        code, _, error = run("adjust", path, *arguments, "--out", path)
        assert code == 1
        assert message in error


def test_factors_take_no_options_of_quotes(tmp_path: Path, run) -> None:
    for option in (["--checkpoint", "x"], ["--option", "a=1"], ["--intraday"], ["--calendar", "X"]):
        code, _, error = run("build", "f.csv", "--source", "spx-factors", *option, "--out", tmp_path / "h.nc")
        assert code == 1
        assert f"{option[0]} goes with quotes only" in error


def clock(hour: int, quotes: pd.DataFrame) -> list[str]:
    return [f"2024-01-02T{hour}:00-0{5 + i % 2}:00" for i in range(len(quotes))]


BAD = {
    "no column": (lambda q: q.drop(columns="expiry"), "lack the column expiry; rename yours"),
    "no price": (lambda q: q.drop(columns="price"), "lack the column price (or bid and ask)"),
    "empty": (lambda q: q.head(0), "the table is empty"),
    "text strikes": (lambda q: q.assign(strike="K"), "column strike holds values such as 'K': write plain numbers"),
    "commas": (lambda q: q.assign(price="1,5"), "column price holds values such as '1,5': write plain numbers"),
    "flags": (lambda q: q.assign(option_type=q["option_type"] == "C"), "column option_type holds values such as"),
    "true dates": (lambda q: q.assign(date="02/01/2024"), "column date holds no readable date"),
    "serial dates": (lambda q: q.assign(date=45293), "column date holds numbers that are no dates"),
    "mixed zones": (lambda q: q.assign(date=clock(10, q)), "column date bears a time zone"),
    "mixed zones of expiry": (
        lambda q: q.assign(expiry=["2024-04-02T16:00-05:00" if i % 2 else "2024-04-02" for i in range(len(q))]),
        "column expiry bears a time zone",
    ),
    "snapshots by zone": (
        lambda q: q[q["expiry"] == q["expiry"].min()].assign(
            quote_time=lambda t: clock(10, t), expiry_time="2024-04-02T20:00Z", expiry="2024-04-02"
        ),
        "hold 2 snapshots; keep one a day, or give intraday=True",
    ),
    "expiry before date": (lambda q: q.rename(columns={"date": "expiry", "expiry": "date"}), "are exchanged"),
    "price x 10000": (lambda q: q.assign(price=1e4 * q["price"]), "divide column price (bid, ask) by about 9.9e+03"),
    "strike x 1000": (lambda q: q.assign(strike=1e3 * q["strike"]), "multiply column price (bid, ask) by about 1e+03"),
    "both x 10000": (
        lambda q: q.assign(strike=1e4 * q["strike"], price=1e4 * q["price"], spot=100.0),
        "column spot is 100 on 2024-01-02",
    ),
    "swapped": (
        lambda q: q.assign(option_type=q["option_type"].map({"C": "P", "P": "C"})),
        "calls and puts are swapped; exchange C and P in column option_type",
    ),
    "one expiry": (lambda q: q[q["expiry"] == q["expiry"].max()], "beyond the usable expiries"),
    "two strikes": (lambda q: q[q["strike"].isin([100.0, 102.5])], "too_few_strikes"),
    "calls only": (lambda q: q[q["option_type"] == "C"], "it holds calls only, and put-call parity needs puts too"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables_are_one_sentence(name: str, tmp_path: Path, run) -> None:
    change, message = BAD[name]
    path = tmp_path / "quotes.csv"
    change(quotes_of(1).assign(price=lambda q: q["price"].clip(lower=0.01))).to_csv(path, index=False)
    code, _, error = run("build", path, *GRID, "--out", tmp_path / "h.nc")
    assert code == 1
    assert error.startswith(f"volscen: {path}: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "h.nc").exists()


def test_one_expiry_is_enough_for_its_own_time(tmp_path: Path, run) -> None:
    quotes = quotes_of(1)
    quotes[quotes["expiry"] == "2024-04-02"].to_csv(tmp_path / "q.csv", index=False)
    code, _, _ = run("build", tmp_path / "q.csv", "--days", "91", "--moneyness", "0.95,1", "--out", tmp_path / "h.nc")
    assert code == 0


def test_expiries_on_a_weekend_are_taken_as_they_are() -> None:
    """A table may be of a market that trades on Saturdays; of United States options the readers know better."""
    quotes = quotes_of(1)
    moved = quotes.assign(expiry=quotes["expiry"].replace(pd.Timestamp("2024-02-02"), pd.Timestamp("2024-02-03")))
    chain = volscen.Chain(moved)
    assert chain.forwards["tau"].iloc[0] == 32 / 365


def test_what_a_history_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    history, _ = volscen.build_history(quotes_of(2), tau=[60 / 365], moneyness=[0.95, 1.0], progress=False)
    path = volscen.write(history, tmp_path / "h.zarr")
    code, said, _ = run_in(monkeypatch, capsys, "info", path)
    assert code == 0
    assert "corporate actions 0 removed, 0 suspect" in said
    assert f"least {int(history['n_quotes'].min())}" in said
    assert "build_settings" not in said


def test_of_several_underlyings_one_is_kept(tmp_path: Path, run) -> None:
    quotes = quotes_of(2).assign(Root="OURS")
    other = quotes.assign(Root="THEIRS", strike=quotes["strike"] + 0.25)
    file, out = tmp_path / "quotes.csv", tmp_path / "history.nc"
    quotes.to_csv(tmp_path / "ours.csv", index=False)
    pd.concat([quotes, other]).to_csv(file, index=False)
    code, _, error = volscen_command("history", "build", file, *GRID, "--out", out, "--dry-run")
    assert (code, "column 'Root' holds 2 names (OURS, THEIRS)" in error) == (0, True)
    named = ["--columns", "underlying=Root"]
    code, _, error = run("build", file, *GRID, *named, "--out", out)
    assert code == 1
    assert "2 underlyings (OURS, THEIRS); keep one (on the command line, --underlying OURS)" in error
    code, _, error = run("build", file, *GRID, *named, "--underlying", "OTHER", "--out", out)
    assert (code, "--underlying OTHER is not there; the file holds OURS, THEIRS" in error) == (1, True)
    code, _, error = run("build", file, *GRID, "--underlying", "OURS", "--out", out)
    assert (code, "--underlying needs a column underlying" in error) == (1, True)
    assert not out.exists()
    code, said, error = run("build", file, *GRID, *named, "--underlying", "OURS", "--out", out)
    assert (code, error) == (0, "")
    assert f"rows of other underlyings: {(other['price'] > 0).sum()}" in said
    code, _, error = run("build", tmp_path / "ours.csv", *GRID, *named, "--out", tmp_path / "ours.nc")
    assert (code, error) == (0, "")
    assert_same(volscen.read(out), volscen.read(tmp_path / "ours.nc"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--days", "45,60", "--moneyness", "95,100,105"], "--moneyness is the strike over the forward"),
        ([*GRID, "--calendar", "NOWHERE"], "--calendar NOWHERE is not in exchange_calendars"),
    ],
)
def test_slips_of_the_pen(tmp_path: Path, run, arguments: list[str], message: str) -> None:
    quotes_of(1).to_csv(tmp_path / "quotes.csv", index=False)
    code, _, error = run("build", tmp_path / "quotes.csv", *arguments, "--out", tmp_path / "history.nc")
    assert (code, message in error, error.count("\n")) == (1, True, 1)

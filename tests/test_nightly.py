"""``volscen run``: a night by a configuration, and the next one; ``volscen demo``."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import volscen
from cli_runner import volscen_command
from volscen._cli._nightly import EXIT_CODES, STEPS, _period
from volscen.sources.simulate import simulate_market, simulate_quotes

NIGHT = """
[run]
portfolio = "portfolio.csv"
instruments = "instruments.csv"
refit = "month"

[history.build]
quotes = "all.csv"
days = [30, 60]
moneyness = [0.95, 1.0, 1.05]

[history.update]
quotes = "all.csv"

[fit]
generator = "bootstrap"

[generate]
n_scenarios = 200
horizon = 2

[risk]
alpha = [0.05, 0.1]
out = "positions.csv"

[stress]
shock = ["name=crash,log_return=-0.1,level=0.05"]

[hedge]
step = 1
out = "hedge.nc"

[export]
out = "scenarios.parquet"
"""


@pytest.fixture(scope="module")
def quotes():
    return simulate_quotes(simulate_market("A", 40, seed=1, start="2000-01-10"), n_strikes=13, seed=1)


@pytest.fixture
def folder(tmp_path, quotes):
    days = quotes["date"].unique()
    quotes[quotes["date"] <= days[13]].to_csv(tmp_path / "all.csv", index=False)
    (tmp_path / "portfolio.csv").write_text("type,quantity,moneyness,tau\ncall,1,1,.15\nput,-2,.97,.15\n")
    (tmp_path / "instruments.csv").write_text("type,moneyness,tau\nunderlying,,\ncall,1,.12\n")
    (tmp_path / "night.toml").write_text(NIGHT)
    return tmp_path


def run(folder, *arguments):
    done = volscen_command("run", folder / "night.toml", *arguments)
    return done.returncode, json.loads(done.stdout) if "--json" in arguments else done.stdout, done.stderr


def test_nights(folder, quotes):
    code, page, error = run(folder, "--json", "--quiet", "--dry-run")
    assert (code, error) == (0, "")
    assert {path.name for path in folder.iterdir()} == {"all.csv", "night.toml", "portfolio.csv", "instruments.csv"}
    assert [entry["status"] for entry in page["steps"]] == ["done"] * 8
    assert page["steps"][0]["result"]["days"] == 14

    code, page, error = run(folder, "--json")
    assert code == 0
    assert "== generate\n" in error  # progress and messages beside the JSON
    assert [entry["did"] for entry in page["steps"]] == [name for name in STEPS if name in page_tables()]
    cube = volscen.read(folder / "scenarios.nc")
    last = str(volscen.read(folder / "history.nc").date.values[-1])[:10]
    assert cube.attrs["seed"] == int(last.replace("-", ""))
    assert len(pd.read_csv(folder / "positions.csv")) == 2
    assert volscen.read(folder / "hedge.nc").sizes["instrument"] == 2
    assert json.loads((folder / "run.json").read_text())["failed"] is None

    # A step alone, with what [run] names.
    done = volscen_command("generate", "--config", folder / "night.toml", "--out", folder / "one.nc", "--seed", 5, "-q")
    assert done.returncode == 0, done.stderr
    assert volscen.read(folder / "one.nc").attrs["data_fingerprint"] == cube.attrs["data_fingerprint"]

    # The same night again: nothing new, the same scenarios to the bit.
    code, text, _ = run(folder)
    assert code == 0
    assert "skip history.build" in text
    assert "no new day" in text
    assert f"== update (fitted up to {last}, in the same month)" in text
    assert volscen.read(folder / "scenarios.nc").equals(cube)

    # The next month: days are added, and the model is fitted anew.
    quotes.to_csv(folder / "all.csv", index=False)
    code, page, _ = run(folder, "--json", "--quiet")
    assert code == 0
    steps = {entry["step"]: entry for entry in page["steps"]}
    assert steps["history.update"]["result"]["days_added"] == 26
    assert (steps["fit"]["did"], steps["fit"]["reason"]) == ("fit", f"a new month since {last}")
    assert volscen.load(folder / "model.safetensors").period_[1] == "2000-03-03"
    assert not volscen.read(folder / "scenarios.nc").equals(cube)


@pytest.mark.parametrize(
    ("kind", "day", "same", "other"),
    [
        ("month", "2024-01-31", "2024-01-01", "2024-02-01"),
        ("month", "2024-01-31", "2024-01-01", "2025-01-31"),
        ("quarter", "2024-01-31", "2024-03-29", "2024-04-01"),
        ("quarter", "2024-12-31", "2024-10-01", "2025-01-02"),
        ("year", "2024-01-02", "2024-12-31", "2025-01-02"),
    ],
)
def test_when_a_new_period_has_begun(kind, day, same, other):
    assert _period(day, kind) == _period(same, kind) != _period(other, kind)


def page_tables():
    import tomllib

    tables = tomllib.loads(NIGHT)
    return [*(f"history.{name}" for name in tables.pop("history")), *tables]


def test_the_exit_code_says_what_failed_and_what_was_there_stays(folder):
    (folder / "scenarios.nc").write_text("of last night")
    (folder / "portfolio.csv").write_text("type,quantity,moneyness,tau\nswaption,1,1,.15\n")
    code, page, error = run(folder, "--json")
    assert code == EXIT_CODES["risk"] == 16
    assert (page["failed"], page["not_run"]) == ("risk", ["stress", "hedge", "export"])
    assert page["steps"][-1]["status"] == "failed"
    assert "type must be" in page["message"]
    assert "volscen: [risk] line 2 of" in error
    assert volscen.read(folder / "scenarios.nc").sizes["scenario"] == 200
    assert not (folder / "positions.csv").exists()
    assert json.loads((folder / "run.json").read_text())["exit_code"] == 16

    (folder / "all.csv").write_text("date\n")
    before = (folder / "scenarios.nc").read_bytes()
    code, _, error = run(folder)
    assert code == EXIT_CODES["history.update"] == 11
    assert "all.csv" in error
    assert (folder / "scenarios.nc").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('refit = "month"', 'refit = "week"', "'refit' must be one of never, month, quarter, year, alarm, not 'week'"),
        ('refit = "month"', 'refi = "month"', "table [run]: unknown key 'refi'; did you mean 'refit'?"),
        ('portfolio = "portfolio.csv"', "", "table [risk]: the key 'portfolio' is needed; give it there or in [run]"),
        ('quotes = "all.csv"\ndays', "days", "table [history.build]: the key 'quotes' is needed"),
        ("n_scenarios = 200", "n_scenarios = '200'", "table [generate]: 'n_scenarios' must be a whole number"),
        ("[fit]", "[info]", "night.toml: [info] is no step of a run"),
        ("[fit]\ngenerator", "[fit]\ngeneratr", "unknown key 'generatr'; did you mean 'generator'?"),
    ],
)
def test_a_wrong_configuration_runs_nothing(folder, old, new, words):
    (folder / "night.toml").write_text(NIGHT.replace(old, new).replace("generator = ", "generator = ", 1))
    code, _, error = run(folder)
    if new == "[info]":
        assert "unknown key 'generator'" in error or words in error
    else:
        assert words in error
    assert code == 1
    assert not (folder / "history.nc").exists()


def test_an_alarm_of_the_monitor_is_3_or_a_refit(folder, monkeypatch):
    from volscen._cli import _models

    run(folder, "--quiet")
    text = NIGHT.replace("[risk]", "[monitor]\nfirst = '2000-01-27'\n[risk]").replace(
        'refit = "month"', 'refit = "never"'
    )
    alarm = {"refit_due": True, "reason": "x", "first": "", "last": "", "days": 1, "days_in_window": 1}
    figures = {**alarm, "score_excess": 9.0, "coverage_95_least": 0.5, "coverage_95_most": 0.5, "state_clipped": 0.0}
    monkeypatch.setattr(_models, "_drift", lambda found: figures)
    monkeypatch.setattr("volscen.evaluation.monitor_drift", lambda *_, **__: _Found())
    (folder / "night.toml").write_text(text)
    code, page, _ = run(folder, "--json")
    assert (code, page["failed"]) == (3, None)
    (folder / "night.toml").write_text(text.replace('"never"', '"alarm"'))
    code, page, _ = run(folder, "--json")
    assert code == 0
    fit = next(entry for entry in page["steps"] if entry["step"] == "fit")
    assert (fit["did"], fit["reason"]) == ("fit", "the monitor raised its alarm")


class _Found:
    attrs = {"generator": "bootstrap", "period": ""}  # noqa: RUF012


def test_the_example_is_a_right_configuration(tmp_path):
    done = volscen_command("config", "example")
    (tmp_path / "nightly.toml").write_text(done.stdout)
    done = volscen_command("config", "check", tmp_path / "nightly.toml")
    assert done.returncode == 0, done.stderr
    assert "[generate]\n  n_scenarios = 10000" in done.stdout


def test_the_demo(tmp_path, monkeypatch):
    from volscen._cli import _demo
    from volscen.generators._har import _N_MIN

    assert _demo._N_DAYS > _N_MIN
    few = [(a, b.replace("fit ", "fit --generator bootstrap "), c) for a, b, c in _demo._STEPS]  # fast
    monkeypatch.setattr(_demo, "_STEPS", tuple(few))
    monkeypatch.setattr(_demo, "_N_DAYS", 30)
    done = volscen_command("demo", "--out", tmp_path / "d", "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    page = json.loads(done.stdout)
    assert page["simulated"] is True
    for file in page["files"]:
        assert (tmp_path / "d" / file).exists()
    assert set(pd.read_csv(tmp_path / "d" / "quotes.csv")["source"]) == {"simulated"}
    assert volscen.read(tmp_path / "d" / "scenarios.nc").attrs["title"].startswith("SIMULATED")
    results = {step["command"].split()[1]: step["result"] for step in page["steps"]}
    assert results["hedge"]["r_squared"] > 0.9
    assert results["stress"]["scenarios"][0]["profit"] < 0


def test_new_days_are_read_as_the_first_were(folder, quotes):
    """Columns need not be named twice, nor the file."""
    names = {"date": "day", "option_type": "cp"}
    days = quotes["date"].unique()
    quotes[quotes["date"] <= days[13]].rename(columns=names).to_csv(folder / "all.csv", index=False)
    (folder / "night.toml").write_text(
        '[history.build]\nquotes = "all.csv"\ndays = [30, 60]\nmoneyness = [0.95, 1, 1.05]\n'
        'columns = { date = "day", option_type = "cp" }\n[history.update]\n'
    )
    code, page, error = run(folder, "--json", "--quiet")
    assert code == 0, error
    assert [entry["status"] for entry in page["steps"]] == ["done", "done"]
    quotes[quotes["date"] <= days[15]].rename(columns=names).to_csv(folder / "all.csv", index=False)
    code, page, error = run(folder, "--json", "--quiet")
    assert code == 0, error
    assert page["steps"][1]["result"]["days_added"] == 2


def test_new_days_of_another_source_are_read_by_their_own_words():
    from volscen._cli._nightly import _read_alike

    build = {"quotes": "a.csv", "columns": "date=day", "read": "x=1", "underlying": "SPX", "days": "30"}
    assert _read_alike({"history.build": build, "history.update": {}}) == {
        key: build[key] for key in ("quotes", "columns", "read", "underlying")
    }
    own = {"source": "databento", "quotes": "b.dbn"}
    assert _read_alike({"history.build": build, "history.update": own}) == {**own, "underlying": "SPX"}
    assert _read_alike({"history.update": own}) == own

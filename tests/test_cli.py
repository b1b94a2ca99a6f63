"""The command line, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

import volscen
import volscen.hedging
from cli_runner import volscen_command
from volscen._statistics import quantile
from volscen.cli import main
from volscen.portfolio import instruments_from_table
from volscen.sources.simulate import simulate_market
from volscen.surface._interpolate import interpolate_vol


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    volscen.write(simulate_market("A", 300, seed=1), folder / "history.nc")
    return folder


def test_bare_generate(tmp_path):
    """In a process of its own: what a shell sees."""
    done = subprocess.run(
        [sys.executable, "-m", "volscen.cli", "generate", "--out", "scenarios.nc"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for word in (
        "SIMULATED",
        "VaR 95%",
        "ES 99%",
        "at-the-money vol",
        "arbitrage penalty",
        "effective sample size",
    ):
        assert word in done.stdout
    assert volscen.read(tmp_path / "scenarios.nc").sizes["scenario"] == 10_000
    assert os.listdir(tmp_path) == ["scenarios.nc"]


def test_the_summary_prints_the_weighted_figures(tmp_path):
    done = volscen_command("generate", "--out", "s.nc", "--seed", 3, "-n", 500, cwd=tmp_path)
    cube = volscen.read(tmp_path / "s.nc")
    loss = 100 * (1 - cube.spot.values[:, 0] / float(cube.spot0))
    value = volscen.risk.value_at_risk(-loss, cube.weight.values, alpha=0.05)
    assert f"{value:.3f}" in done.stdout
    atm = interpolate_vol(cube.implied_vol.values[:, 0], cube.tau.values, cube.moneyness.values, 91 / 365, 1.0)
    fifth = quantile(atm, cube.weight.values, 0.05)[0]
    assert f"{100 * fifth:.2f}" in done.stdout


def test_fit_generate_info(files, tmp_path):
    done = volscen_command(
        "fit", files / "history.nc", "--generator", "pca", "--until", "2001-01-01", "--out", tmp_path / "m.safetensors",
        "--option", "residual_days=100",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    model = volscen.load(tmp_path / "m.safetensors")
    assert model.parameters()["residual_days"] == 100
    assert model.period_[1] == "2001-01-01"
    dates = volscen.read(files / "history.nc").date.values[[280, 290]].astype("datetime64[D]")
    done = volscen_command(
        "generate", "--model", tmp_path / "m.safetensors", "--history", files / "history.nc", "--as-of", dates[0],
        "--as-of", dates[1], "-n", 200, "--horizon", 3, "--seed", 1, "--out", tmp_path / "s.nc", "--dtype", "float64",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cube = volscen.read(tmp_path / "s.nc")
    assert dict(cube.sizes) == {"as_of": 2, "scenario": 200, "step": 3, "tau": 8, "moneyness": 10}
    for file, words in (
        (tmp_path / "s.nc", ["scenarios/1", "scenario 200"]),
        (files / "history.nc", ["history/1", "2000-01-03"]),
        (tmp_path / "m.safetensors", ["generator pca", "residual_days"]),
    ):
        done = volscen_command("info", file)
        assert done.returncode == 0, done.stderr
        assert all(word in done.stdout for word in words)


def test_hedge(tmp_path):
    volscen_command("generate", "--out", "s.nc", "--seed", 1, "-n", 2000, cwd=tmp_path)
    pd.DataFrame(
        {"type": ["call", "put"], "moneyness": [1.0, 1.0], "tau": [0.25, 0.25], "quantity": [1.0, 1.0]}
    ).to_csv(tmp_path / "p.csv", index=False)
    pd.DataFrame(
        {
            "type": ["underlying", "call"],
            "moneyness": [np.nan, 1.0],
            "tau": [np.nan, 0.4],
        }
    ).to_csv(tmp_path / "i.csv", index=False)
    done = volscen_command(
        "hedge", "s.nc", "--portfolio", "p.csv", "--instruments", "i.csv", "--method", "regression", "--out", "h.nc",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "R-squared" in done.stdout
    assert volscen.read(tmp_path / "h.nc").sizes["instrument"] == 2
    assert "cost of the trades" not in done.stdout

    with (tmp_path / "i.csv").open("a") as file:
        file.write("put,.95,.4\n")
    command = ("hedge", "s.nc", "--portfolio", "p.csv", "--instruments", "i.csv", "--out", "r.nc")
    done = volscen_command(*command, "--noise", 0.001, "--half-spread-vol", 0.005, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "hedge by ridge" in done.stdout
    assert "cost of the trades" in done.stdout
    expected = volscen.hedge(
        volscen.read(tmp_path / "s.nc"),
        volscen.Portfolio.from_table(tmp_path / "p.csv"),
        instruments_from_table(tmp_path / "i.csv"),
        noise=0.001,
        half_spread_vol=0.005,
    )
    np.testing.assert_array_equal(volscen.read(tmp_path / "r.nc").ratio, expected.ratio)


def test_hedge_of_several_dates_and_its_warnings(files, tmp_path):
    history = volscen.read(files / "history.nc")
    dates = history.date.values[[280, 290]].astype("datetime64[D]")
    cube = volscen.generate(volscen.fit(history, "bootstrap"), history, as_of=dates, n_scenarios=8, seed=1)
    volscen.write(cube, tmp_path / "s.nc")
    (tmp_path / "p.csv").write_text("type,moneyness,tau,quantity\ncall,1,.25,1\n")
    (tmp_path / "i.csv").write_text("type,moneyness,tau\nunderlying,,\nput,.9,.25\n")
    command = ("hedge", "s.nc", "--portfolio", "p.csv", "--instruments", "i.csv", "--out", "h.nc")
    done = volscen_command(*command, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(f"are of {dates[0]}, {dates[1]}; choose one with --as-of")
    done = volscen_command(*command, "--as-of", "1999-01-01", cwd=tmp_path)
    assert done.returncode == 1
    assert "--as-of 1999-01-01" in done.stderr
    done = volscen_command(*command, "--as-of", dates[1], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("warning: 8.0 effective scenarios are few")
    assert len(done.stderr.splitlines()) == 1
    with pytest.warns(volscen.hedging.HedgeWarning):
        expected = volscen.hedge(
            cube.isel(as_of=1),
            volscen.Portfolio.from_table(tmp_path / "p.csv"),
            instruments_from_table(tmp_path / "i.csv"),
        )
    np.testing.assert_array_equal(volscen.read(tmp_path / "h.nc").ratio, expected.ratio)


def test_fit_until_a_day_without_trading(files, tmp_path):
    command = ("fit", files / "history.nc", "--generator", "bootstrap", "--out", tmp_path / "m.safetensors", "--until")
    done = volscen_command(*command, "2001-01-07")  # a Sunday
    assert done.returncode == 0, done.stderr
    assert volscen.load(tmp_path / "m.safetensors").period_[1] == "2001-01-05"
    done = volscen_command(*command, "1999-12-31")
    assert done.returncode == 1
    assert "--until 1999-12-31 lies before the history, which begins on 2000-01-03" in done.stderr


def test_info_keeps_keys_and_values_apart(tmp_path):
    history = simulate_market("A", 5, seed=1)
    history.attrs["fit_rmse_vol_points_of_all"] = 0.25
    volscen.write(history, tmp_path / "h.nc")
    text = volscen_command("info", tmp_path / "h.nc").stdout
    assert "fit_rmse_vol_points_of_all 0.25" in text
    assert "day_count                  ACT/365" in text


def test_history_build(tmp_path):
    """Exact quotes of a flat 20% surface come back as 20%."""
    rows = []
    for date in pd.bdate_range("2024-01-02", periods=3):
        for days in (30, 60, 90):
            tau, forward = days / 365, 100.0
            for strike in np.arange(80.0, 121.0, 2.5):
                for kind in "CP":
                    price = float(volscen.black.price(forward, strike, tau, 0.2, kind == "C"))
                    rows.append((date, date + pd.Timedelta(days=days), strike, kind, price))
    pd.DataFrame(rows, columns=["date", "expiry", "strike", "type", "close"]).to_csv(tmp_path / "q.csv", index=False)
    done = volscen_command(
        "history", "build", "q.csv", "--days", "35,60,85", "--moneyness", "0.9,1,1.1", "--columns",
        "price=close,option_type=type", "--out", "h.nc", "--report", "report.csv", "--num-workers", 1, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    history = volscen.read(tmp_path / "h.nc")
    np.testing.assert_allclose(history.implied_vol, 0.2, atol=2e-4)
    assert len(pd.read_csv(tmp_path / "report.csv")) == 3
    assert "days dropped: 0" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("generate", "--out", "absent/s.nc"), 1, "there is no folder absent; make it first"),
        (("generate", "--out", "s.txt"), 1, ".nc"),
        (("generate",), 2, "--out"),
        (("generate", "--out", "s.nc", "-n", "0"), 1, "n_scenarios"),
        (("generate", "--out", "s.nc", "-n", "many"), 2, "--n-scenarios"),
        (("generate", "--out", "s.nc", "--beta", "big"), 1, "--beta"),
        (("generate", "--out", "s.nc", "--history", "absent.nc"), 1, "absent.nc"),
        (("generate", "--out", "s.nc", "--model", "absent.safetensors"), 1, "--history is needed"),
        (("generate", "--out", "s.nc", "-n", "1000000000000"), 1, "memory"),
        (("generate", "--out", "s.nc", "--dtype", "foo"), 1, "dtype"),
        (("generate", "--out", "s.nc", "-n", "1000000000000", "--compression", "10"), 1, "compression"),
        (("generate", "--out", "s.txt", "-n", "1000000000000"), 1, "must end in .nc"),
        (("hedge", "absent.nc", "--portfolio", "p.csv", "--instruments", "i.csv", "--out", "h.txt"), 1, "end in .nc"),
        (("fit", "absent.nc", "--out", "k.foo"), 1, "must end in .safetensors"),
        (("history", "build", "absent.csv", "--out", "h.nc", "--report", "no/r.csv"), 1, "cannot write to no/r.csv"),
        (("history", "build", "q.csv", "--out", "h.nc", "--days", "91,40", "--moneyness", "1"), 1, "--days must be"),
        (("history", "build", "q.csv", "--out", "h.nc", "--days", "91", "--moneyness", "1,1"), 1, "--moneyness must"),
        (("info", "absent.nc"), 1, "no such file"),
        (("info", "text.nc"), 1, "not a readable"),
        (("fit", "text.nc", "--out", "m.safetensors"), 1, "not a readable"),
        (("info", "text.csv"), 1, "quotes become a history with volscen history build"),
        (("generate", "--out", "s.nc", "--history", "text.safetensors"), 1, "it is a fitted model, for volscen info"),
        (("repair", "text.safetensors", "--out", "r.nc"), 1, "neither a NetCDF file (.nc), a zarr store nor a table"),
        (("repair", "text.nc", "--out", "r.nc"), 1, "cannot read text.nc"),
        (("frobnicate",), 2, "frobnicate"),
        (("history", "build", "absent.csv", "--out", "h.nc"), 1, "--days"),
    ],
)
def test_errors_are_one_sentence_and_leave_no_file(tmp_path, arguments, code, words):
    files = ["text.csv", "text.nc", "text.safetensors"]
    for name in files:
        (tmp_path / name).write_text("hello")
    done = volscen_command(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert len(done.stderr.strip().splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == files


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            MemoryError("Unable to allocate 7 TiB"),
            "volscen: not enough memory (Unable to allocate 7 TiB); ask",
        ),
        (MemoryError(), "volscen: not enough memory; ask for less"),
        (OSError(28, "No space left on device"), "volscen: [Errno 28] No space left on device"),
    ],
)
def test_errors_of_the_machine_are_one_sentence(monkeypatch, capsys, error, sentence):
    def fail(**_):
        raise error

    monkeypatch.setattr("volscen.cli.app", fail)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # put back what main() sets
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    text = capsys.readouterr().err
    assert text.startswith(sentence)
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("colour=red", "generator 'har' has no option 'colour'; it has half_lives, n_components, residual_days"),
        ("n_components=abc", "option 'n_components' of generator 'har' must be a whole number, such as 5, not 'abc'"),
    ],
)
def test_bad_option_of_a_generator(files, tmp_path, option, words):
    done = volscen_command("fit", files / "history.nc", "--out", tmp_path / "m.safetensors", "--option", option)
    assert done.returncode == 1
    assert words in done.stderr


@pytest.mark.parametrize(
    "command",
    [(), ("generate",), ("history",), ("history", "build"), ("fit",), ("hedge",), ("info",), ("card",), ("monitor",)],
)
def test_help(command):
    done = volscen_command(*command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout
    if command and command != ("history",):
        assert "Example" in done.stdout


def test_version():
    assert volscen_command("--version").stdout.strip() == f"volscen {volscen.__version__}"


def test_interrupt_leaves_no_model_and_training_resumes(files, tmp_path):
    """Ctrl-C during a long training: exit code 130, no traceback, no half-written model; the checkpoint serves."""
    checkpoint = tmp_path / "run.safetensors"
    command = ("fit", files / "history.nc", "--generator", "volgan", "--option", f"checkpoint={checkpoint}",
               "--option", "checkpoint_every=1", "--out", tmp_path / "m.safetensors", "--option")  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "volscen.cli", *map(str, command), "epochs=1000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert os.listdir(tmp_path) == ["run.safetensors"]
    with safe_open(checkpoint, framework="numpy") as file:
        trained = json.loads(file.metadata()["volscen"])["epoch"]
    done = volscen_command(*command, f"epochs={trained + 2}")
    assert done.returncode == 0, done.stderr
    assert len(volscen.load(tmp_path / "m.safetensors").training_curve_) == trained + 2

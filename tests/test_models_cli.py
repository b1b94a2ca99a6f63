"""``volscen fit`` with checkpoints, ``info`` and ``card`` of models, as a user runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
import xarray as xr
from safetensors import SafetensorError, safe_open

import volscen
from volscen.cli import main
from volscen.sources.simulate import SSVIMarket, simulate_market

MARKET = SSVIMarket((0.1, 0.3, 0.5), (0.9, 1.0, 1.15), 0.01)
EPOCHS = 500
TINY = (
    "--generator", "volgan", "--option", f"epochs={EPOCHS}", "--option", "matching_epochs=1", "--option",
    "validation_scenarios=5", "--option", "checkpoint_every=10", "--option", "seed=3",
)  # fmt: skip


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "history.nc"
    volscen.write(simulate_market(MARKET, 60, seed=5), path)
    return path


@pytest.fixture
def command(monkeypatch, capsys):
    """The command in this process: exit code, output, error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["volscen", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0, *capsys.readouterr()

    return run


def epochs_in(path):
    try:
        with safe_open(path, framework="numpy") as file:
            return json.loads(file.metadata()["volscen"])["epoch"]
    except (OSError, SafetensorError):
        return 0


@pytest.fixture(scope="module")
def uninterrupted(history, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "m.safetensors"
    options = {"epochs": EPOCHS, "matching_epochs": 1, "validation_scenarios": 5, "seed": 3, "progress": False}
    return volscen.fit(volscen.read(history), "volgan", **options).save(path).read_bytes()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_training_that_was_stopped_resumes_to_the_same_bits(history, uninterrupted, tmp_path, command, how):
    out = tmp_path / "m.safetensors"
    checkpoint = tmp_path / "m.safetensors.checkpoint"
    arguments = ["fit", history, *TINY, "--out", out, "--resume"]
    process = subprocess.Popen(
        [sys.executable, "-m", "volscen.cli", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while epochs_in(checkpoint) < 10 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    trained = epochs_in(checkpoint)
    assert 10 <= trained < EPOCHS
    assert not out.exists()
    code, text, _ = command(*arguments)
    assert (code, text.split(":")[0]) == (0, f"wrote {out}")
    assert out.read_bytes() == uninterrupted
    assert epochs_in(checkpoint) == EPOCHS


def test_checkpoints_are_not_taken_up_unasked(history, tmp_path, command):
    out, checkpoint = tmp_path / "m.safetensors", tmp_path / "run.ckpt"
    few = ("fit", history, *TINY[:2], "--option", "epochs=2", "--option", "matching_epochs=1", "--out", out)
    assert command(*few, "--checkpoint", checkpoint)[0] == 0
    assert epochs_in(checkpoint) == 2
    code, _, error = command(*few, "--checkpoint", checkpoint)
    assert code == 1
    assert "exists; pass --resume to go on from it, or delete it" in error
    assert command(*few, "--checkpoint", checkpoint, "--resume")[0] == 0
    code, _, error = command(*few, "--option", "seed=9", "--checkpoint", checkpoint, "--resume")
    assert code == 1
    assert "belongs to another run (seed 0 there, 9 here)" in error
    code, _, error = command("info", checkpoint.rename(tmp_path / "run.safetensors"))
    assert code == 1
    assert "training that was stopped" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--generator", "pca", "--resume"), "generator 'pca' keeps no checkpoints"),
        (("--generator", "volgan", "--resume", "--option", "checkpoint=x"), "say the same"),
        (("--generator", "volgan", "--checkpoint", "absent/x"), "cannot write to"),
        (("--generator", "volgan", "--checkpoint", "m.safetensors"), "is the file of the model"),
        (("--generator", "arima", "--resume"), "unknown generator"),
    ],
)
def test_checkpoints_that_cannot_be(history, tmp_path, command, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, _, error = command("fit", history, "--out", "m.safetensors", *arguments)
    assert (code, error.count("\n")) == (1, 1)
    assert words in error
    assert list(tmp_path.iterdir()) == []


def test_info_and_card(history, tmp_path, command):
    out = tmp_path / "m.safetensors"
    assert command("fit", history, *TINY[:2], "--option", "epochs=2", "--until", "2000-03-10", "--out", out)[0] == 0
    _, text, _ = command("info", out)
    for words in ("2000-01-03 to 2000-03-10, 50 dates", "epoch kept", "torch", "simulated", "best fair energy score"):
        assert words in text
    model = volscen.load(out)
    code, text, _ = command("card", out)
    assert (code, text) == (0, volscen.model_card(model))
    page = tmp_path / "card.md"
    code, text, _ = command("card", out, "--history", history, "--intended-use", "Tests.", "--out", page)
    assert (code, text) == (0, f"wrote {page}\n")
    expected = volscen.model_card(model, history=volscen.read(history), intended_use="Tests.")
    assert page.read_text(encoding="utf-8") == expected


def test_card_with_an_evaluation(tmp_path, command):
    data = simulate_market("A", 120, seed=4)
    dates = data.date.values
    both = {"mine": ("bootstrap", {"window": 60}), "yours": "bootstrap"}
    found = volscen.evaluate(
        both, data, first=dates[80], last=dates[109], n_scenarios=50, measures=(), baseline="yours"
    )
    volscen.evaluation.write_evaluation(found, tmp_path / "found.nc")
    model = volscen.fit(data.isel(date=slice(0, 80)), "bootstrap").save(tmp_path / "m.safetensors")
    code, text, _ = command("card", model, "--evaluation", tmp_path / "found.nc", "--label", "yours")
    assert code == 0
    assert "## Scores of yours" in text
    code, _, error = command("card", model, "--evaluation", tmp_path / "found.nc", "--label", "theirs")
    assert code == 1
    assert "'theirs' is not a generator of" in error
    code, _, error = command("card", model, "--label", "yours")
    assert (code, "--evaluation; give that too" in error) == (1, True)


def test_monitor(tmp_path, command):
    data = simulate_market("A", 160, seed=4)
    volscen.write(data, tmp_path / "h.nc")
    model = volscen.fit(data.isel(date=slice(0, 120)), "bootstrap")
    path, out = model.save(tmp_path / "m.safetensors"), tmp_path / "drift.nc"
    code, text, _ = command("monitor", path, tmp_path / "h.nc", "-n", "100", "--significance", "0.05", "--out", out)
    assert code == 0
    expected = volscen.evaluation.monitor_drift(
        model, volscen.read(tmp_path / "h.nc"), n_scenarios=100, significance=0.05
    )
    assert f"refit due: {expected.attrs['reason']}\n" in text
    assert f"watched {expected.attrs['first']} to {expected.attrs['last']}, 40 days" in text
    with xr.open_dataset(out) as found:
        xr.testing.assert_equal(found.load(), expected)
        assert found.attrs["reason"] == expected.attrs["reason"]
    code, _, error = command("monitor", path, tmp_path / "h.nc", "--out", tmp_path / "x.csv")
    assert (code, "must end in .nc" in error) == (1, True)


def test_help_names_every_generator(command):
    _, text, _ = command("fit", "--help")
    assert ", ".join(sorted(volscen.generators.REGISTRY)) in " ".join(text.split())


def test_monitor_on_the_night_of_the_fit(history, tmp_path, command):
    data = volscen.read(history)
    model = volscen.fit(data, "bootstrap").save(tmp_path / "m.safetensors")
    code, text, _ = command("monitor", model, history, "--out", tmp_path / "drift.nc")
    assert (code, text.partition(":")[0]) == (0, "no day after the fit yet")
    assert str(data["date"].values[-1])[:10] in text
    assert not (tmp_path / "drift.nc").exists()
    code, _, error = command("monitor", model, history, "--first", "2000-02-01")
    assert code == 1
    assert "has seen that day" in error


def test_card_of_a_model_without_a_calendar(history):
    data = volscen.read(history)
    said = "| calendar | unspecified: no holidays known |"
    assert said not in volscen.model_card(volscen.fit(data, "bootstrap"))
    assert said in volscen.model_card(volscen.fit(data.assign_attrs(calendar="unspecified"), "bootstrap"))

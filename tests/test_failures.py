"""What goes wrong around a run: full disks and logs, closed pipes, signals, kills, bad names, two runs at once."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import volscen
from cli_runner import volscen_command
from volscen import _files, _io
from volscen._cli import _command
from volscen._files import atomic_path, check_name, put_file_in_place
from volscen.errors import FileFormatError, InputError
from volscen.history import _update

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="uses /dev/full, signals and limits")

NIGHT = """
[run]
history = "history.nc"
[fit]
generator = "bootstrap"
[generate]
n_scenarios = 2000
"""


@pytest.fixture(scope="module")
def cube():
    return volscen.generate(n_scenarios=50, seed=1)


@pytest.fixture
def folder(tmp_path):
    volscen.write(volscen.datasets.sample_history().isel(date=slice(0, 40)), tmp_path / "history.nc")
    (tmp_path / "night.toml").write_text(NIGHT)
    return tmp_path


def start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options):
    command = [sys.executable, "-m", "volscen", *map(str, arguments)]
    return subprocess.Popen(command, stdout=stdout, stderr=stderr, text=True, **options)


# -------------------------------------------------------------------------------------------------- leftovers
@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_what_a_killed_write_left_goes_with_a_later_one(cube, tmp_path, suffix):
    names = {"old": ".c{}.abcd1234.part", "young": ".c{}.abcd5678.part", "other": ".c{}.more.abcd1234.part"}
    paths = {age: tmp_path / name.format(suffix) for age, name in names.items()}
    for path in paths.values():
        path.mkdir() if suffix == ".zarr" else path.write_text("half")
    (tmp_path / f".c{suffix}.abcd9999.old").mkdir()  # the only copy, where a swap was cut short
    day = time.time() - 86_400
    for age in ("old", "other"):
        os.utime(paths[age], (day, day))
    volscen.write(cube, tmp_path / f"c{suffix}")
    assert not paths["old"].exists()
    assert {path.name for path in tmp_path.iterdir()} == {
        f"c{suffix}", paths["young"].name, paths["other"].name, f".c{suffix}.abcd9999.old",
    }  # fmt: skip


def test_what_is_replaced_goes_when_the_new_is_on_the_disk(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    target = tmp_path / "f"
    for _ in range(2):
        with atomic_path(target) as temporary:
            temporary.write_text("x")
    assert calls == [str(temporary)]
    assert put_file_in_place is _files.put_file_in_place


# ------------------------------------------------------------------------------------------------------ names
def test_links_in_a_circle_and_into_nowhere(cube, tmp_path):
    (tmp_path / "a.nc").symlink_to(tmp_path / "b.nc")
    (tmp_path / "b.nc").symlink_to(tmp_path / "a.nc")
    with pytest.raises(InputError, match="in a circle"):
        volscen.write(cube, tmp_path / "a.nc")
    done = volscen_command("generate", "-n", 10, "--seed", 1, "--out", tmp_path / "a.nc")
    assert (done.returncode, "in a circle" in done.stderr) == (1, True)
    (tmp_path / "c.nc").symlink_to(tmp_path / "missing" / "c.nc")
    with pytest.raises(InputError, match=f"there is no folder {tmp_path}/missing; make it first"):
        volscen.write(cube, tmp_path / "c.nc")


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_names_that_no_system_takes(cube, tmp_path, suffix):
    with pytest.raises(InputError, match="null character"):
        volscen.write(cube, f"{tmp_path}/a\0{suffix}")
    with pytest.raises(InputError, match="File name too long"):
        volscen.write(cube, tmp_path / ("x" * 300 + suffix))
    lazy = volscen.generate(n_scenarios=50, seed=1, chunks=50)
    with pytest.raises(InputError, match="File name too long"):
        volscen.write(lazy, tmp_path / ("x" * 242 + suffix))
    assert os.listdir(tmp_path) == []


def test_names_that_are_no_text(cube, tmp_path):
    """The NetCDF library takes text alone; zarr and models need not."""
    odd = os.fsdecode(b"\xe9")
    with pytest.raises(InputError, match="no text in utf-8; rename"):
        volscen.write(cube, tmp_path / f"{odd}.nc")
    assert volscen.read(volscen.write(cube, tmp_path / f"{odd}.zarr")).equals(cube)
    check_name(tmp_path / f"{odd}.nc")


def test_a_pipe_is_no_file_to_read(tmp_path):
    os.mkfifo(tmp_path / "p.nc")
    with pytest.raises(FileFormatError, match="no ordinary file"):
        volscen.read(tmp_path / "p.nc")


# ------------------------------------------------------------------------------------------- memory and disk
def test_too_little_memory_is_no_bad_file(cube, tmp_path, monkeypatch):
    path = volscen.write(cube, tmp_path / "c.nc")

    def starved(*_, **__):
        raise OSError("NetCDF: Unknown file format")

    monkeypatch.setattr(_io.xr, "open_dataset", starved)
    with pytest.raises(FileFormatError, match="Unknown file format"):
        volscen.read(path)
    monkeypatch.setattr(_io, "_NEEDED_TO_READ", 2**60)
    with pytest.raises(MemoryError):
        volscen.read(path)


def test_a_limit_on_the_size_of_files_is_named(cube, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(InputError, match=r"a limit on the size of files \(ulimit -f\)"):
            volscen.write(cube, tmp_path / "c.nc")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []


def test_libraries_that_memory_does_not_suffice_for():
    said = _command.sentence(ImportError("libx.so: failed to map segment from shared object"))
    assert said.startswith("not enough memory to load a library (libx.so")
    assert _command.sentence(ImportError("no such module")) == "ImportError: no such module"
    assert _command.sentence(MemoryError()) == "not enough memory; ask for less at once"
    assert _command.sentence(KeyError("a")) == "KeyError: 'a'"


# ---------------------------------------------------------------------------------------------- the history
def test_the_report_is_never_behind_the_history(tmp_path, monkeypatch):
    """A process killed between the two would leave days that no report tells of: later updates skip them."""
    strike, is_call = np.repeat(np.arange(80.0, 125, 5), 2), np.tile([True, False], 9)
    tables = [
        pd.DataFrame({
            "date": date, "expiry": "2024-04-02", "strike": strike, "option_type": np.tile(["C", "P"], 9),
            "price": volscen.black.price(100.0, strike, days / 365, 0.2, is_call),
        })
        for date, days in (("2024-01-02", 91), ("2024-01-03", 90))
    ]  # fmt: skip
    tables[0].to_csv(tmp_path / "one.csv", index=False)
    pd.concat(tables).to_csv(tmp_path / "two.csv", index=False)
    grid = ("--days", "73,91", "--moneyness", "0.9,1,1.1")
    build = ("history", "build", tmp_path / "one.csv", *grid, "--out", tmp_path / "h.nc", "-q")
    update = ("history", "update", tmp_path / "h.nc", tmp_path / "two.csv", "-q")

    def fails(*_, **__):
        raise InputError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(volscen, "write", fails)
        assert volscen_command(*build).returncode == 1
    assert len(pd.read_csv(tmp_path / "h.report.csv")) == 1
    assert volscen_command(*build).returncode == 0
    with monkeypatch.context() as patch:
        patch.setattr(_update, "write", fails)
        assert volscen_command(*update).returncode == 1
    assert volscen.read(tmp_path / "h.nc").sizes["date"] == 1
    assert len(pd.read_csv(tmp_path / "h.report.csv")) == 2
    done = volscen_command(*update)
    assert done.returncode == 0, done.stderr
    assert volscen.read(tmp_path / "h.nc").sizes["date"] == 2
    assert pd.read_csv(tmp_path / "h.report.csv")["date"].tolist() == ["2024-01-02", "2024-01-03"]


# ------------------------------------------------------------------------------------------------- the night
def test_one_run_at_a_time(folder):
    import fcntl

    with (folder / "night.toml").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = volscen_command("run", folder / "night.toml")
        assert done.returncode == 1
        assert f"another run of {folder}/night.toml is going on" in done.stderr
        assert volscen_command("run", folder / "night.toml", "--dry-run").returncode == 0
    assert sorted(os.listdir(folder)) == ["history.nc", "night.toml"]
    assert volscen_command("run", folder / "night.toml", "-q").returncode == 0


def test_the_record_grows_with_the_run(folder, monkeypatch):
    """Of a run that is killed it says what was being done, not that the night before went well."""
    from volscen import generators

    seen = []
    plain = generators.load

    def looks(*arguments, **options):
        seen.append(json.loads((folder / "run.json").read_text()))
        return plain(*arguments, **options)

    monkeypatch.setattr(generators, "load", looks)
    assert volscen_command("run", folder / "night.toml", "-q").returncode == 0
    assert volscen_command("run", folder / "night.toml", "-q").returncode == 0
    running = seen[0]
    assert (running["exit_code"], running["finished"], running["failed"]) == (None, None, None)
    assert running["started"]
    assert running["steps"][-1]["status"] == "running"
    last = json.loads((folder / "run.json").read_text())
    assert (last["exit_code"], [step["status"] for step in last["steps"]]) == (0, ["done", "done"])


def test_a_fault_of_the_program_has_the_exit_code_of_its_step(folder, monkeypatch):
    monkeypatch.setattr(volscen, "generate", lambda *_, **__: {}["a fault"])
    done = volscen_command("run", folder / "night.toml")
    assert done.returncode == 14
    assert "volscen: [generate] KeyError: 'a fault'" in done.stderr
    assert "Traceback" in done.stderr
    record = json.loads((folder / "run.json").read_text())
    assert (record["exit_code"], record["failed"], record["steps"][-1]["error"]) == (14, "generate", "KeyError")


def test_where_the_record_cannot_be_kept(folder, monkeypatch):
    text = NIGHT.replace("[run]", '[run]\nrecord = "missing/run.json"')
    (folder / "night.toml").write_text(text)
    done = volscen_command("run", folder / "night.toml")
    assert (done.returncode, "missing" in done.stderr) == (1, True)
    assert not (folder / "model.safetensors").exists()

    (folder / "night.toml").write_text(NIGHT)

    def breaks(*_, **__):
        (folder / "run.json").unlink()
        (folder / "run.json").mkdir()
        raise InputError("no luck")

    with monkeypatch.context() as patch:
        patch.setattr(volscen, "generate", breaks)
        done = volscen_command("run", folder / "night.toml")
    assert done.returncode == 14  # the step's, though the record is not kept either
    assert "volscen: [generate] no luck" in done.stderr
    assert "warning: cannot write to" in done.stdout


# --------------------------------------------------------------------------------------- streams and signals
def test_messages_that_cannot_be_said_stop_no_night(folder):
    with Path("/dev/full").open("w") as full:
        done = start("run", "night.toml", stdout=full, cwd=folder)
        error = done.communicate(timeout=120)[1]
    assert done.returncode == 0
    said = "warning: cannot write to standard output: No space left on device; messages are left out\n"
    assert error.count(said) == 1
    assert json.loads((folder / "run.json").read_text())["exit_code"] == 0
    with Path("/dev/full").open("w") as full:  # what was asked for is the output
        done = start("info", "history.nc", "--json", stdout=full, cwd=folder)
        error = done.communicate(timeout=120)[1]
    assert (done.returncode, "standard output cannot be written to" in error) == (1, True)


def test_a_reader_that_goes_away_stops_no_night(folder):
    reading, writing = os.pipe()
    process = start("run", "night.toml", stdout=writing, cwd=folder)
    os.close(writing)
    os.close(reading)
    assert "Traceback" not in process.communicate(timeout=120)[1]
    assert process.returncode == 0
    assert json.loads((folder / "run.json").read_text())["exit_code"] == 0


def test_closed_streams_are_not_taken_for_files(tmp_path):
    """A file that is opened as descriptor 2 would get what libraries say to standard error."""
    script = (
        "import os\nfor d in range(3): os.close(d)\n"
        "from volscen import cli\ncli._open_standard_streams()\n"
        f"file = open({str(tmp_path / 'f')!r}, 'w')\nfile.write(str(file.fileno()))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert int((tmp_path / "f").read_text()) > 2


def test_a_run_that_is_told_to_end(folder):
    """SIGTERM, as from a scheduler: nothing half-written, the record says so, 143."""
    text = NIGHT.replace("n_scenarios = 2000", "n_scenarios = 200_000\nhorizon = 20\nchunks = 1024\nout = 's.zarr'")
    (folder / "night.toml").write_text(text)
    process = start("run", "night.toml", cwd=folder)
    deadline = time.monotonic() + 60
    while not (folder / ".s.zarr.unfinished").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=60)[1]
    assert (process.returncode, "Traceback" in error) == (143, False)
    assert "volscen: Terminated" in error
    record = json.loads((folder / "run.json").read_text())
    assert (record["exit_code"], record["steps"][-1]["status"]) == (143, "interrupted")
    assert sorted(os.listdir(folder)) == ["history.nc", "model.safetensors", "night.toml", "run.json"]

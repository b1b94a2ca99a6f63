"""Beyond one machine: lazy cubes, streamed writes, killed workers and runs, one mapper for dates."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK

import volscen
from cli_runner import volscen_command
from volscen._workers import map_in_order
from volscen.errors import FileFormatError, InputError
from volscen.generators import Generator
from volscen.generators._bootstrap import Bootstrap
from volscen.scenarios import _stream
from volscen.scenarios._stream_targets import Block, NetcdfTarget

pytest.importorskip("distributed")
pytest.importorskip("zarr")

# Sockets and loops of a cluster that is shut down are closed by the collector, after whatever test comes then.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

N = 3000


@pytest.fixture(scope="module")
def history() -> xr.Dataset:
    """Noisy surfaces, so that scenarios bear arbitrage and weights differ."""
    smooth = volscen.datasets.sample_history()
    noise = np.random.default_rng(0).normal(0, 0.01, smooth.implied_vol.shape)
    return smooth.assign(implied_vol=smooth.implied_vol * np.exp(noise))


@pytest.fixture(scope="module")
def model(history: xr.Dataset) -> Generator:
    return volscen.fit(history, "bootstrap")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as found,
    ):
        yield found


def assert_same(one: xr.Dataset, other: xr.Dataset, *, but: tuple[str, ...] = ()) -> None:
    assert set(one.variables) == set(other.variables)
    for name in one.variables:
        assert (one[name].dims, one[name].dtype) == (other[name].dims, other[name].dtype), name
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=str(name))
        assert {k: str(v) for k, v in one[name].attrs.items()} == {k: str(v) for k, v in other[name].attrs.items()}
    plain = [
        {k: np.asarray(v).tolist() for k, v in ds.attrs.items() if k not in ("history", *but)} for ds in (one, other)
    ]
    assert plain[0] == plain[1]


def only_if_asked_for(request: pytest.FixtureRequest) -> None:
    if "scale" not in request.config.option.markexpr:
        pytest.skip("takes much processor time: pytest -m scale")


# ----------------------------------------------------------------------------------------------- streamed files
@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize(
    ("chunks", "compression", "options"),
    [
        (700, 0, {"as_of": ["2024-06-03", "2024-06-04"]}),
        (1024, 1, {"horizon": 3, "project": True, "beta": "paper"}),
        (5000, 0, {"given": {"log_return": (-0.02, 0.01)}}),
    ],
)
def test_a_streamed_file_is_that_of_the_cube_in_memory(
    suffix: str, chunks: int, compression: int, options: dict[str, Any], model: Generator, history: xr.Dataset,
    tmp_path: Path,
) -> None:  # fmt: skip
    options = {"n_scenarios": N, "seed": 5} | options
    whole = volscen.generate(model, history, **options)
    lazy = volscen.generate(model, history, chunks=chunks, **options)
    assert len(np.unique(whole.weight)) > 100
    volscen.write(whole, tmp_path / f"whole{suffix}")
    volscen.write(lazy, tmp_path / f"lazy{suffix}", compression=compression)
    assert_same(volscen.read(tmp_path / f"lazy{suffix}"), volscen.read(tmp_path / f"whole{suffix}"))
    assert sorted(os.listdir(tmp_path)) == [f"lazy{suffix}", f"whole{suffix}"]


def test_every_block_is_drawn_once(
    model: Generator, history: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights need all penalties; they come from the file."""
    drawn: list[int] = []
    plain = _stream.draw_chunk

    def counted(plan: Any, state: Any, start: int, stop: int) -> Any:
        drawn.append(start)
        return plain(plan, state, start, stop)

    monkeypatch.setattr(_stream, "draw_chunk", counted)
    volscen.write(volscen.generate(model, history, n_scenarios=N, chunks=1024, seed=1), tmp_path / "c.zarr")
    assert sorted(drawn) == [0, 1024, 2048]


def test_changed_lazy_cubes(model: Generator, history: xr.Dataset, tmp_path: Path) -> None:
    options: dict[str, Any] = {"n_scenarios": N, "horizon": 2, "seed": 5}
    whole = volscen.generate(model, history, **options)
    lazy = volscen.generate(model, history, chunks=800, **options)

    def changed(ds: xr.Dataset) -> xr.Dataset:
        twice = (ds["log_return"].sum("step") * 2).assign_attrs(long_name="twice the return", units="1")
        return ds.isel(step=[1]).assign(twice=twice)

    volscen.write(changed(lazy), tmp_path / "lazy.zarr")
    volscen.write(changed(lazy), tmp_path / "lazy.nc")
    expected = changed(whole)
    for name in ("lazy.zarr", "lazy.nc"):
        found = volscen.read(tmp_path / name)
        for variable in expected.variables:
            np.testing.assert_array_equal(found[variable].values, expected[variable].values, err_msg=str(variable))
        assert found.attrs["ess_fraction"] == whole.attrs["ess_fraction"]


def test_reweighted_lazy_cubes_stay_lazy(model: Generator, history: xr.Dataset, tmp_path: Path) -> None:
    options: dict[str, Any] = {"n_scenarios": N, "seed": 5, "given": {"log_return": (None, 0.0)}}
    whole = volscen.reweight(volscen.generate(model, history, **options), beta=30.0)
    lazy = volscen.reweight(volscen.generate(model, history, chunks=700, **options), beta=30.0)
    assert 1 < whole.attrs["distinct_scenarios"] < N
    assert lazy.implied_vol.chunks is not None
    assert_same(lazy.compute(), whole, but=("implausible_share",))  # which is of the surfaces, and these were not drawn
    volscen.write(lazy, tmp_path / "lazy.nc")
    assert_same(volscen.read(tmp_path / "lazy.nc"), whole)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_files_are_read_lazily(suffix: str, model: Generator, history: xr.Dataset, tmp_path: Path) -> None:
    cube = volscen.generate(model, history, n_scenarios=N, seed=2)
    path = volscen.write(cube, tmp_path / f"c{suffix}")
    lazy = volscen.read(path, chunks=1000)
    assert lazy.chunksizes["scenario"] == (1000, 1000, 1000)
    assert_same(lazy.compute(), cube)
    assert_same(volscen.read(volscen.write(lazy, tmp_path / f"again{suffix}")), cube)
    with pytest.raises(InputError, match="chunks must be a positive number"):
        volscen.read(path, chunks=0)
    with pytest.raises(InputError, match="chunks is of scenarios"):
        volscen.read(volscen.write(history, tmp_path / f"h{suffix}"), chunks=10)
    lazy.close()


def test_netcdf_files_share_the_lock_of_xarray(model: Generator, history: xr.Dataset, tmp_path: Path) -> None:
    """The library beneath NetCDF files crashes under two threads: reading one lazily and writing another did."""
    cube = volscen.generate(model, history, n_scenarios=N, seed=2)
    target = NetcdfTarget(volscen.write(cube, tmp_path / "c.nc"))
    got: list[Any] = []
    reader = threading.Thread(target=lambda: got.append(target.get("weight", ("scenario",), Block(0, 0, 0, 10))))
    with NETCDF4_PYTHON_LOCK:
        reader.start()
        reader.join(0.2)
        assert reader.is_alive()
    reader.join()
    target.close()
    np.testing.assert_array_equal(got[0], cube.weight.values[:10])
    lazy = volscen.read(tmp_path / "c.nc", chunks=20)
    assert_same(volscen.read(volscen.write(lazy, tmp_path / "again.nc")), cube)
    lazy.close()


def test_names_tell_what_is_drawn(model: Generator, history: xr.Dataset) -> None:
    def token(**options: Any) -> str:
        cube = volscen.generate(model, history, **({"n_scenarios": 100, "seed": 1, "chunks": 50} | options))
        return str(cube.implied_vol.data.name)

    others = ({"seed": 2}, {"n_scenarios": 101}, {"chunks": 51}, {"horizon": 2}, {"dtype": "float64"},
              {"project": True}, {"as_of": "2024-06-03"}, {"given": {"log_return": 0.0}})  # fmt: skip
    names = [token(), *(token(**other) for other in others)]
    assert len(set(names)) == len(names)
    again = volscen.fit(history.isel(date=slice(600)), "bootstrap")
    assert token() == token()
    assert str(volscen.generate(again, history, n_scenarios=100, seed=1, chunks=50).implied_vol.data.name) not in names


class Shifted(Bootstrap):
    """A class of the user's own, of whose state nothing is in its arrays."""

    shift = 0.0

    def sample(self, state: Any, n: int, horizon: int, rng: np.random.Generator) -> Any:
        log_return, implied_vol = super().sample(state, n, horizon, rng)
        return log_return + self.shift, implied_vol


def test_generators_of_the_users_own_are_told_apart(history: xr.Dataset) -> None:
    cubes = []
    for shift in (0.0, 0.5):
        own = Shifted().fit(history)
        own.shift = shift
        cubes.append(volscen.generate(own, history, n_scenarios=100, chunks=50, seed=1, reweight=None))
    np.testing.assert_allclose((cubes[1].log_return - cubes[0].log_return).values, 0.5, rtol=1e-9)


def test_persisted_cubes(client: Any, model: Generator, history: xr.Dataset, tmp_path: Path) -> None:
    whole = volscen.generate(model, history, n_scenarios=N, seed=1)
    lazy = volscen.generate(model, history, n_scenarios=N, chunks=1024, seed=1)
    # What is persisted has lost the history that it would be held against.
    assert_same(volscen.read(volscen.write(lazy.persist(), tmp_path / "here.nc")), whole, but=("implausible_share",))
    with client.as_current():
        again = volscen.read(volscen.write(lazy.persist(), tmp_path / "there.zarr"))
    assert_same(again, whole, but=("implausible_share",))


# ------------------------------------------------------------------------------------------- stopped and resumed
class Stopped(Exception):
    """Stands for whatever stops a run."""


def stop_after(monkeypatch: pytest.MonkeyPatch, n: int) -> list[int]:
    """Let the drawing of every block after the n-th fail; returns the blocks drawn."""
    plain, drawn, lock = _stream.draw_chunk, [], threading.Lock()

    def limited(plan: Any, state: Any, start: int, stop: int) -> Any:
        with lock:
            if len(drawn) >= n:
                raise Stopped
            drawn.append(start)
        return plain(plan, state, start, stop)

    monkeypatch.setattr(_stream, "draw_chunk", limited)
    return drawn


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_a_stopped_write_goes_on(
    suffix: str, model: Generator, history: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lazy(**options: Any) -> xr.Dataset:
        return volscen.generate(model, history, **({"n_scenarios": N, "chunks": 300, "seed": 1} | options))

    path = tmp_path / f"c{suffix}"
    path_before = volscen.write(volscen.generate(model, history, n_scenarios=10, seed=9), path)
    with monkeypatch.context() as patch:
        first = stop_after(patch, 4)
        with pytest.raises(Stopped):
            volscen.write(lazy(), path, resume=True)
    assert volscen.read(path_before).sizes["scenario"] == 10  # what was there stays until the new is complete
    for options, word in (({"seed": 2}, "seed"), ({"chunks": 600}, "chunks"), ({"dtype": "float64"}, "dtype"),
                          ({"beta": 3.0}, "beta_requested"), ({"as_of": "2024-06-03"}, "variables_in_memory"),
                          ({"n_scenarios": 2 * N}, "sizes")):  # fmt: skip
        with pytest.raises(InputError, match=rf"begun with other arguments \(.*{word}.*differ\)"):
            volscen.write(lazy(**options), path, resume=True)
    with monkeypatch.context() as patch:
        second = stop_after(patch, 100)
        volscen.write(lazy(), path, resume=True)
    assert set(first).isdisjoint(second)
    assert sorted(first + second) == list(range(0, N, 300))
    assert_same(volscen.read(path), volscen.generate(model, history, n_scenarios=N, seed=1))
    assert os.listdir(tmp_path) == [path.name]


def test_a_failed_write_without_resume_leaves_nothing(
    model: Generator, history: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("c.nc", "c.zarr"):
        with monkeypatch.context() as patch:
            stop_after(patch, 2)
            with pytest.raises(Stopped):
                volscen.write(volscen.generate(model, history, n_scenarios=N, chunks=300, seed=1), tmp_path / name)
        assert os.listdir(tmp_path) == []


def test_damaged_blocks_are_drawn_again(
    model: Generator, history: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy = volscen.generate(model, history, n_scenarios=N, chunks=300, seed=1)
    path = tmp_path / "c.zarr"
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        with pytest.raises(Stopped):
            volscen.write(lazy, path, resume=True)
    unfinished = tmp_path / ".c.zarr.unfinished"
    done = sorted(p.name for p in (unfinished / "done").iterdir())
    assert len(done) >= 4
    chunk = unfinished / "store.zarr" / "implied_vol" / f"{done[0].partition('-')[2]}.0.0.0"
    data = bytearray(chunk.read_bytes())
    data[1000] ^= 1
    chunk.write_bytes(data)
    (unfinished / "done" / done[1]).write_text("")
    with monkeypatch.context() as patch:
        drawn = stop_after(patch, 100)
        volscen.write(lazy, path, resume=True)
    assert {300 * int(label.partition("-")[2]) for label in done[:2]} <= set(drawn)
    assert len(drawn) == 10 - len(done) + 2
    assert_same(volscen.read(path), volscen.generate(model, history, n_scenarios=N, seed=1))


def test_what_cannot_be_resumed(
    model: Generator, history: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy = volscen.generate(model, history, n_scenarios=100, chunks=50, seed=1)
    with pytest.raises(InputError, match="compressed NetCDF file cannot be resumed"):
        volscen.write(lazy, tmp_path / "c.nc", compression=1, resume=True)
    with pytest.raises(InputError, match="resume must be True or False"):
        volscen.write(lazy, tmp_path / "c.nc", resume="yes")  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(Stopped):
            volscen.write(lazy, tmp_path / "c.nc", resume=True)
    (tmp_path / ".c.nc.unfinished" / "record.json").write_text("{")
    with pytest.raises(FileFormatError, match="not a readable record"):
        volscen.write(lazy, tmp_path / "c.nc", resume=True)
    volscen.write(lazy, tmp_path / "c.nc")  # anew
    assert os.listdir(tmp_path) == ["c.nc"]


def test_one_writer_at_a_time(model: Generator, history: xr.Dataset, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / ".c.nc.unfinished").mkdir()
    with (tmp_path / ".c.nc.unfinished" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is writing it now"):
            volscen.write(volscen.generate(model, history, n_scenarios=100, chunks=50, seed=1), tmp_path / "c.nc")
    assert (tmp_path / ".c.nc.unfinished").exists()


def test_a_disk_too_small_is_named_before_the_work(
    model: Generator, history: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**7, 9 * 10**6, 10**6))
    with pytest.raises(InputError, match=r"it takes 36.0 MB, and 1.0 MB are free"):
        volscen.write(volscen.generate(model, history, n_scenarios=10**5, chunks=10**4, seed=1), tmp_path / "c.nc")
    assert os.listdir(tmp_path) == []


_KILLED = """
import os, sys, threading, volscen
from volscen.scenarios import _stream
plain, drawn = _stream.draw_chunk, []
def slow(plan, state, start, stop):
    drawn.append(start)
    if len(drawn) > 4:
        os.kill(os.getpid(), 9)
    return plain(plan, state, start, stop)
_stream.draw_chunk = slow
cube = volscen.generate(n_scenarios=3000, chunks=300, seed=1)
volscen.write(cube, sys.argv[1], resume=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_a_killed_run_goes_on(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"c{suffix}"
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    unfinished = tmp_path / f".c{suffix}.unfinished"
    # A mark without text was cut short by the kill: its block is drawn again.
    done = sum(mark.read_text() != "" for mark in (unfinished / "done").iterdir())
    assert 2 <= done <= 4
    drawn = stop_after(monkeypatch, 100)
    volscen.write(volscen.generate(n_scenarios=3000, chunks=300, seed=1), path, resume=True)
    assert len(drawn) == 10 - done
    assert_same(volscen.read(path), volscen.generate(n_scenarios=3000, seed=1))
    assert os.listdir(tmp_path) == [path.name]


# ---------------------------------------------------------------------------------------------------- clusters
def test_a_cluster_gives_the_same_bits(client: Any, model: Generator, history: xr.Dataset, tmp_path: Path) -> None:
    options: dict[str, Any] = {"n_scenarios": N, "seed": 5, "as_of": ["2024-06-03", "2024-06-04"]}
    whole = volscen.generate(model, history, **options)
    with client.as_current():
        lazy = volscen.generate(model, history, chunks=700, **options)
        np.testing.assert_array_equal(lazy.weight.compute(), whole.weight)
        for name in ("c.zarr", "c.nc"):
            assert_same(volscen.read(volscen.write(lazy, tmp_path / name)), whole)
    assert sorted(os.listdir(tmp_path)) == ["c.nc", "c.zarr"]


@pytest.mark.scale
def test_a_scheduler_and_workers_started_by_hand(
    model: Generator, history: xr.Dataset, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    only_if_asked_for(request)
    from distributed import Client

    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    file = tmp_path / "scheduler.json"
    command = [sys.executable, "-m", "dask"]
    local = ["--host", "127.0.0.1", "--scheduler-file", str(file)]
    started = [subprocess.Popen([*command, "scheduler", *local, "--port", "0", "--no-dashboard"], **quiet)]
    options: dict[str, Any] = {"n_scenarios": 20_000, "horizon": 2, "seed": 5}
    try:
        while not file.exists():
            time.sleep(0.1)
        workers = [*command, "worker", "--scheduler-file", str(file), "--nthreads", "2", "--no-dashboard"]
        folders = [tmp_path / name for name in ("one", "two")]
        started += [
            subprocess.Popen([*workers, "--no-nanny", "--local-directory", str(folder)], **quiet) for folder in folders
        ]
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(2, timeout=60)
            path = volscen.write(volscen.generate(model, history, chunks=1500, **options), tmp_path / "cube.zarr")
            there = volscen.evaluation.walk_forward(
                "pca", history, first="2024-01-02", last="2024-04-30", n_scenarios=50, measures=()
            )
            address = client.scheduler.address
            command_line = volscen_command(
                "generate", "-n", 20_000, "--horizon", 2, "--seed", 5, "--chunks", 1500, "--scheduler", address,
                "--out", tmp_path / "typed.zarr",
            )  # fmt: skip
            client.shutdown()
        for process in started:
            process.wait(timeout=60)
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert_same(volscen.read(path), volscen.generate(model, history, **options))
    assert command_line.returncode == 0, command_line.stderr
    assert_same(volscen.read(tmp_path / "typed.zarr"), volscen.generate(**options))
    here = volscen.evaluation.walk_forward(
        "pca", history, first="2024-01-02", last="2024-04-30", n_scenarios=50, measures=(), num_workers=1
    )
    xr.testing.assert_identical(there, here)


def test_a_killed_worker_costs_its_blocks_only(
    client: Any, model: Generator, history: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"n_scenarios": 60_000, "seed": 5}
    lazy = volscen.generate(model, history, chunks=2000, **options)
    stamps: dict[str, int] = {}
    repeated: list[str] = []
    finished = 0

    def marks() -> dict[str, int]:
        """When finished blocks were marked; a mark without text is being written."""
        done = (tmp_path / ".c.zarr.unfinished" / "done").iterdir()
        return {path.name: path.stat().st_mtime_ns for path in done if path.read_text()}

    class Bar(_stream.tqdm):  # type: ignore[type-arg,misc]
        def update(self, n: float | None = 1) -> None:
            nonlocal finished
            finished += int(n or 0)
            if finished == 5:
                stamps.update(marks())
                os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
            if finished == 30:
                repeated.extend(name for name, stamp in marks().items() if stamps.get(name, stamp) != stamp)

    monkeypatch.setattr(_stream, "tqdm", Bar)
    with client.as_current():
        volscen.write(lazy, tmp_path / "c.zarr")
    assert finished == 30
    assert len(stamps) >= 5
    assert len(repeated) <= 1  # the one in hand, where it was marked and not yet reported
    assert_same(volscen.read(tmp_path / "c.zarr"), volscen.generate(model, history, **options))
    client.wait_for_workers(2)


def _of_worker(value: int, held: np.ndarray) -> tuple[int, int, float]:
    time.sleep(0.02)
    return value, os.getpid(), float(held.sum())


@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=pytest.mark.scale)], ids=["whole", "killed"])
def test_the_mapper_keeps_the_order_and_outlives_a_worker(
    killed: bool, client: Any, request: pytest.FixtureRequest
) -> None:
    if killed:
        only_if_asked_for(request)
    held = np.arange(10.0)
    found = []
    tasks = ((i, held) for i in range(60))
    for one in map_in_order(_of_worker, tasks, client=client):
        found.append(one)
        if len(found) == 10 and killed:
            os.kill(one[1], signal.SIGKILL)
    assert [one[0] for one in found] == list(range(60))
    assert {one[2] for one in found} == {45.0}
    assert len({one[1] for one in found}) >= 2
    client.wait_for_workers(2)


@pytest.mark.scale
def test_evaluations_and_backtests_on_a_cluster(
    client: Any, history: xr.Dataset, request: pytest.FixtureRequest
) -> None:
    only_if_asked_for(request)
    dates = history.date.values
    span: dict[str, Any] = {"first": dates[1400], "last": dates[1449], "n_scenarios": 100}

    def judged(**workers: Any) -> xr.Dataset:
        return volscen.evaluate(["bootstrap"], history, measures=("crps",), **span, **workers)

    def hedged(**workers: Any) -> xr.Dataset:
        from volscen.hedging import HedgeArm, RolledPosition

        return volscen.backtest_hedge(
            history,
            RolledPosition(volscen.Portfolio.straddle(strike_over_spot=1.0, tau=91 / 365), until_days=75),
            {"regression": HedgeArm("regression")}, instruments=[volscen.Underlying()], **span, **workers,
        )  # fmt: skip

    for verb in (judged, hedged):
        xr.testing.assert_identical(verb(), verb(client=client))


@pytest.mark.scale
def test_repairs_on_a_cluster(client: Any, history: xr.Dataset, request: pytest.FixtureRequest) -> None:
    only_if_asked_for(request)
    quoted = history["implied_vol"].isel(date=slice(0, 70)).where(history["moneyness"] % 0.1 < 0.05)
    xr.testing.assert_equal(volscen.repair(quoted, num_workers=1), volscen.repair(quoted, client=client))
    with pytest.raises(InputError, match="not both"):
        volscen.repair(quoted, num_workers=1, client=client)


def test_histories_on_a_cluster(client: Any) -> None:
    import pandas as pd

    strike, is_call = np.repeat(np.arange(80.0, 125, 5), 2), np.tile([True, False], 9)
    quotes = pd.concat(
        pd.DataFrame(
            {
                "date": date, "expiry": expiry, "strike": strike, "option_type": np.where(is_call, "C", "P"),
                "price": volscen.black.price(100.0, strike, (expiry - date).days / 365, 0.2 + i / 1000, is_call),
            }
        )
        for i, date in enumerate(pd.bdate_range("2024-01-02", periods=40))
        for expiry in (pd.Timestamp("2024-04-19"), pd.Timestamp("2024-06-21"))
    )  # fmt: skip
    grid: dict[str, Any] = {"tau": [0.2, 0.25], "moneyness": [0.9, 1.0, 1.1]}
    with client.as_current():
        there, report = volscen.build_history(quotes, **grid)
    here, same = volscen.build_history(quotes, num_workers=1, **grid)
    for name in here.variables:
        np.testing.assert_array_equal(there[name].values, here[name].values)
    pd.testing.assert_frame_equal(report, same)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"client": "tcp://localhost:1"}, "client must be a dask.distributed.Client"),
        ({"num_workers": 0}, "num_workers must be a whole number"),
    ],
)
def test_workers_are_checked(options: dict[str, Any], message: str, history: xr.Dataset) -> None:
    dates = history.date.values
    with pytest.raises(InputError, match=message):
        volscen.evaluate(["pca"], history, first=dates[1440], last=dates[1499], **options)


def test_one_of_client_and_num_workers(client: Any, history: xr.Dataset) -> None:
    dates = history.date.values
    with pytest.raises(InputError, match="give client, for a cluster, or num_workers"):
        volscen.evaluate(["pca"], history, first=dates[1440], last=dates[1499], num_workers=2, client=client)

"""Cubes larger than memory: 10 million one-day scenarios on 10 x 8, float32, drawn, penalised, weighed and written.

    python benchmarks/scale.py [--quick] [--scenarios 10000000] [--chunks 51200] [--folder scratch]

Every case runs in a process of its own, the peak memory of which (with its children's) is measured. What is written,
3.5 GB in full, goes to a scratch folder that is deleted. From what one block takes follows what many machines would.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import pagetables

#: What is assumed of the machines of the estimate.
NODES, CORES, STORE_GB_S, SCHEDULER_MS = 100, 32, 10.0, 1.0

CASES = {
    "drawn and weighed, nothing written": {"kind": "weigh"},
    "zarr": {"kind": "write", "suffix": ".zarr"},
    "zarr, Zstandard 1": {"kind": "write", "suffix": ".zarr", "compression": 1},
    "NetCDF": {"kind": "write", "suffix": ".nc"},
    "zarr, cluster of 2 processes": {"kind": "write", "suffix": ".zarr", "cluster": True},
}

#: Of the page's table, with what its rows are called there, and of the table of times in docs/results.md.
HEADER = ["", "wall time", "scenarios a second", "processor time", "peak memory", "file"]
ROWS = {
    "drawn and weighed, nothing written": "drawn and weighed, nothing written",
    "zarr": "zarr, two threads",
    "NetCDF": "NetCDF, two threads",
    "zarr, Zstandard 1": "zarr, level 1, two threads",
    "zarr, cluster of 2 processes": "zarr, cluster of two processes",
}
SPEED = ["job", "volscen", "beside it, same run"]


class Watch(threading.Thread):
    """Peak resident memory of this process and its children together, where there are any."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.over = 0, threading.Event()

    def run(self) -> None:
        """Look twice a second: listing processes is not free."""
        import psutil

        me = psutil.Process()
        while not self.over.wait(0.5):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    total += process.memory_info().rss
            self.peak = max(self.peak, total)


def one(case: dict[str, Any], n: int, chunks: int, folder: Path) -> dict[str, float]:
    """Run one case in this process."""
    import volscen

    history, model = volscen.datasets.sample_history(), volscen.datasets.default_generator()
    volscen.generate(model, history, n_scenarios=10, seed=1, chunks=10).compute()  # imports
    watch = Watch()
    with contextlib.ExitStack() as stack:
        if case.get("cluster"):
            from distributed import Client, LocalCluster

            cluster = stack.enter_context(LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0"))
            client = stack.enter_context(Client(cluster))
            client.run(lambda: volscen.generate(n_scenarios=10, seed=1))
            watch.start()
        wall, cpu = time.perf_counter(), time.process_time()
        cube = volscen.generate(model, history, n_scenarios=n, seed=1, chunks=chunks)
        size = 0.0
        if case["kind"] == "weigh":
            volscen.reweight(cube)
        else:
            path = volscen.write(cube, folder / f"cube{case['suffix']}", compression=case.get("compression", 0))
            files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
            size = sum(p.stat().st_size for p in files) / 1e9
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = max(watch.peak, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        watch.over.set()
        if case["kind"] == "write":
            check(volscen.read(path, chunks=chunks), volscen.generate(model, history, n_scenarios=5000, seed=1))
    return {"wall": wall, "cpu": cpu, "peak_mb": peak / 1e6, "gb": size}


def check(written: Any, first: Any) -> None:
    """Compare what was written with the first scenarios of a small cube in memory."""
    few = written.isel(scenario=slice(first.sizes["scenario"]))
    for name in ("implied_vol", "log_return", "spot", "arbitrage_penalty"):
        np.testing.assert_array_equal(few[name].values, first[name].values)
    np.testing.assert_allclose(written["weight"].values.sum(), 1, rtol=1e-9)


def blocks(chunks: int, folder: Path) -> dict[str, float]:
    """Least seconds that one block takes on one thread: to draw, and to write."""
    import volscen
    from volscen._reweight import arbitrage_weights
    from volscen.scenarios import _stream

    def least(job: Any, repeats: int = 7) -> float:
        found = []
        for _ in range(repeats):
            start = time.thread_time()
            job()
            found.append(time.thread_time() - start)
        return min(found)

    history, model = volscen.datasets.sample_history(), volscen.datasets.default_generator()
    cube = volscen.generate(model, history, n_scenarios=chunks, seed=1, chunks=chunks)
    layer = next(iter(cube["implied_vol"].data.__dask_graph__().layers.values()))
    plan, state = (next(v for k, v in layer.items() if str(k).find(f"-{name}-") > 0) for name in ("plan", "state"))
    names = [str(name) for name in cube.data_vars if cube[name].chunks is not None and name != "weight"]
    dims = {name: tuple(map(str, cube[name].dims)) for name in names}
    drawn = _stream.draw_chunk(plan, state, 0, chunks)
    found = {"draw": least(lambda: _stream.draw_chunk(plan, state, 0, chunks))}
    for target in (_stream.ZarrTarget(folder / "block.zarr"), _stream.NetcdfTarget(folder / "block.nc")):
        target.create(cube, names, chunks, 0)
        block = _stream.Block(0, 0, 0, chunks)
        started = time.process_time()
        for _ in range(7):
            target.put(dims, block, {name: drawn[name] for name in names})
        found[f"write {'zarr' if 'Zarr' in type(target).__name__ else 'NetCDF'}"] = (time.process_time() - started) / 7
        target.close()
    found["checksum"] = least(lambda: _stream.checksum({name: drawn[name] for name in names}))
    penalty = np.random.default_rng(1).exponential(1e-3, 2_000_000)
    found["weights, searched for, a million scenarios"] = (
        least(lambda: arbitrage_weights(penalty, ess_floor=0.9), 3) / 2
    )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200,000 scenarios")
    parser.add_argument("--scenarios", type=int, default=10_000_000)
    parser.add_argument("--chunks", type=int, default=51_200)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where a scratch folder is made; the system's default"
    )
    pagetables.add_options(parser)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--blocks", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    pieces = {"cases": [HEADER], "speed": [SPEED]}
    minutes = 0.5 if arguments.quick else 4
    pages = pagetables.Pages(arguments, pieces, kind="timing", minutes=minutes, needs=["zarr", "distributed"])
    n = 200_000 if arguments.quick else arguments.scenarios
    chunks = min(arguments.chunks, max(1024, n // 4))
    if arguments.case:
        print(json.dumps(one(CASES[arguments.case], n, chunks, arguments.folder)))
        return
    if arguments.blocks:
        print(json.dumps(blocks(chunks, arguments.folder)))
        return
    scratch = Path(tempfile.mkdtemp(prefix="volscen-scale-", dir=arguments.folder))
    try:
        need, free = 360 * n, shutil.disk_usage(scratch).free
        if need > free:
            raise SystemExit(f"{need / 1e9:.1f} GB are needed at {scratch}, {free / 1e9:.1f} GB are free: --folder")
        print(
            f"{n:,} scenarios of one step, 80 cells, float32, chunks of {chunks:,}, {os.cpu_count()} processors",
            flush=True,
        )
        took: dict[str, dict[str, float]] = {}
        for label in CASES:
            found = took[label] = child(["--case", label], n, chunks, scratch)
            print(
                f"  {label:<36} {found['wall']:6.1f} s {n / found['wall']:9,.0f} scenarios/s   CPU here "
                f"{found['cpu']:6.1f} s   peak memory {found['peak_mb']:5,.0f} MB   {found['gb']:.2f} GB",
                flush=True,
            )
        one_block = child(["--blocks"], n, chunks, scratch)
    finally:
        shutil.rmtree(scratch)
    print(f"one block of {chunks:,} scenarios, CPU seconds of one thread (least of 7; writes: mean of 7)")
    for label, seconds in one_block.items():
        print(f"  {label:<46} {seconds:8.4f}")
    estimate(one_block, chunks)
    pages.add("cases", pagetables.table(HEADER, [row(label, took[label], n) for label in ROWS]))
    netcdf, zarr = took["NetCDF"]["wall"], took["zarr"]["wall"]
    peak = max(took[one]["peak_mb"] for one in ("NetCDF", "zarr")) / 1e3
    told = f"{netcdf:.1f} / {zarr:.1f} s, at most {pagetables.plain(peak, 1)} GB of memory"
    count = f"{n // 1_000_000} million" if n >= 1_000_000 else f"{n:,}"
    job = f"{count} scenarios of 80 cells drawn, weighed, written: NetCDF / zarr"
    pages.add("speed", pagetables.table(SPEED, [[job, told, ""]]))
    pages.write()


def row(label: str, found: dict[str, float], n: int) -> list[str]:
    """Row of the page's table."""
    cluster = "cluster" in label
    rate = float(f"{n / found['wall']:.3g}")
    return [
        ROWS[label],
        f"{found['wall']:.1f} s",
        f"{rate:,.0f}",
        "" if cluster else f"{found['cpu']:.1f} s",  # its processes' is not seen from here
        f"{found['peak_mb']:,.0f} MB" + (", all processes" if cluster else ""),
        f"{found['gb']:.1f} GB" if found["gb"] else "",
    ]


def child(options: list[str], n: int, chunks: int, scratch: Path) -> dict[str, float]:
    """Result of this script in a process of its own."""
    command = [sys.executable, __file__, "--scenarios", str(n), "--chunks", str(chunks), "--folder", str(scratch)]
    done = subprocess.run([*command, *options], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    for path in scratch.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return found


def estimate(block: dict[str, float], chunks: int, total: float = 1e9) -> None:
    """What a billion scenarios would take on many machines, if these are like this one."""
    per_block = block["draw"] + block["write zarr"] + block["checksum"]
    n_blocks = total / chunks
    parts = {
        "draw and write, all cores": n_blocks * per_block / (NODES * CORES),
        "store": total * 360 / (STORE_GB_S * 1e9),
        "scheduler, one task a block": n_blocks * SCHEDULER_MS / 1e3,
        "weights, one process": total / 1e6 * block["weights, searched for, a million scenarios"],
        "penalties read and weights written, one process": total * 16 / 1e9,
    }
    print(
        f"{total:.0e} scenarios on {NODES} nodes of {CORES} such cores, a store of {STORE_GB_S:g} GB/s for all and "
        f"1 GB/s for one,\n{SCHEDULER_MS:g} ms of the scheduler for a task; the first three overlap, the last two come "
        "after:"
    )
    for label, seconds in parts.items():
        print(f"  {label:<50} {seconds:8.1f} s")


if __name__ == "__main__":
    main()

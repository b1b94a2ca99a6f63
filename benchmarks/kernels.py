"""Time the compiled kernels beside the peers that are installed, after checking both against exact values.

Run ``python benchmarks/kernels.py [--only implied_vol svi ...] [--quick] [--json FILE] [--markdown FILE]``.

Nothing is installed: peers that are missing are listed as absent (``pip install 'volscen[bench]'`` brings those that
pip can find). Workloads come from fixed seeds. Accuracy is measured first, against python-flint or mpmath, and what
is wrong is not timed. Times are minima of process CPU time on one thread unless a table says otherwise, ours
and the peers' in turn within one process; absolute figures move with the machine, ratios much less.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

import pagetables
from kernelbench.pages import HEADERS, SPEED, speed
from kernelbench.report import Options, page_of, text_of
from volscen import _core

PARTS = ["black", "implied_vol", "bachelier", "svi", "ssvi", "penalty", "projection", "revaluation"]
PEERS = ["numpy", "scipy", "numba", "torch", "QuantLib", "fast-vollib", "pyfeng", "py-vollib-vectorized", "py-vollib"]
PEERS += ["py-lets-be-rational", "svi-py", "clarabel", "python-flint", "mpmath"]


def version_of(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="kernels to measure")
    parser.add_argument("--quick", action="store_true", help="small workloads and short timings: that everything runs")
    parser.add_argument("--seconds", type=float, help="CPU time of each comparison (default 6, quick 0.3)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    pagetables.add_options(parser)
    given = parser.parse_args()
    pieces = {"machine": [], "speed": [SPEED]} | {name: HEADERS[name] for name in given.only}
    minutes = 0.5 if given.quick else 8 * (given.seconds or 6.0) / 2.5
    # svi-py asks for a Python of its own, and is listed as absent elsewhere.
    pages = pagetables.Pages(
        given, pieces, kind="timing", minutes=minutes, needs=[one for one in PEERS if one != "svi-py"]
    )
    options = Options(given.quick, given.seconds or (0.3 if given.quick else 6.0))
    machine = {
        "processor": processor(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "simd": _core.simd_level(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "quick": given.quick,
        "versions": {name: version_of(name) for name in PEERS},
    }
    head = f"{machine['processor']}, {machine['processors']} processors, instruction set {machine['simd']}, Python "
    head += f"{machine['python']}; " + ", ".join(f"{n} {v}" for n, v in machine["versions"].items())
    print(head, flush=True)
    pages.add("machine", head)
    parts = {}
    for name in given.only:
        start = time.perf_counter()
        part = importlib.import_module(f"kernelbench.{name}").run(options)
        parts[name] = part
        pages.add(name, page_of(part, HEADERS[name]))
        print(f"\n{text_of(part)}({time.perf_counter() - start:.0f} s)", flush=True)
    pages.add("speed", pagetables.table(SPEED, speed(parts)))
    pages.write()
    results = {name: part.as_dict() for name, part in parts.items()}
    if given.json is not None:
        given.json.write_text(json.dumps({"machine": machine, "parts": results}, indent=1) + "\n", encoding="utf-8")
    missed = [row["target"] for part in results.values() for row in part["targets"] if not row["met"]]
    if missed:
        print("Targets missed: " + "; ".join(missed), file=sys.stderr)


if __name__ == "__main__":
    main()

"""Projection of 1,000 surfaces onto those without static arbitrage on their grid, beside clarabel on the same ones.

    python benchmarks/projection.py

The peer is a sequential quadratic programme in plain prices whose programmes clarabel solves; its objective is
compared first. The surfaces are those of the sample history times the exponential of independent noise; for scale,
Vuletic and Cont (2024) report a penalty of mean .0199 and median .003 for the raw draws of VolGAN. Process time on one
thread, as other work may share the machine, and elapsed time on two.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import volscen
from volscen import arbitrage

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from projection_reference import objective, sequential_clarabel

N = 1_000
REPEATS = 5


def least(job: Callable[[], Any], clock: Callable[[], float]) -> float:
    """Least seconds of several runs."""
    times = []
    for _ in range(REPEATS):
        started = clock()
        job()
        times.append(clock() - started)
    return min(times)


def compare(label: str, vol: np.ndarray, tau: np.ndarray, moneyness: np.ndarray) -> None:
    """Assert that nothing is left and that the objective is the peer's, then print the times."""
    vol = vol[arbitrage.penalty(vol, tau, moneyness) > 0][:N]
    phi = arbitrage.penalty(vol, tau, moneyness)
    projected, status = arbitrage.project(vol, tau, moneyness)
    assert arbitrage.penalty(projected, tau, moneyness).max() == 0
    assert (status == arbitrage.ProjectionStatus.PROJECTED).all(), np.bincount(status)
    started = time.process_time()
    peers = []
    for surface in vol:
        try:
            peers.append(sequential_clarabel(surface, tau, moneyness))
        except RuntimeError:
            peers.append(None)
    peer = (time.process_time() - started) / len(vol)
    solved = [i for i, p in enumerate(peers) if p is not None]
    ratio = np.array(
        [
            objective(projected[i], vol[i], tau, moneyness) / objective(peers[i], vol[i], tau, moneyness)
            for i in solved
            if objective(peers[i], vol[i], tau, moneyness) > 1e-16
        ]
    )
    assert ratio.max() < 1.01, ratio.max()
    one = least(lambda: arbitrage.project(vol, tau, moneyness), time.process_time) / len(vol)
    two = least(lambda: arbitrage.project(vol, tau, moneyness, num_threads=2), time.perf_counter) / len(vol)
    single = vol.astype(np.float32)
    half = least(lambda: arbitrage.project(single, tau, moneyness), time.process_time) / len(vol)
    print(
        f"{label:<22}{len(vol):>6}{np.median(phi):>10.2g}{phi.mean():>10.2g}{phi.max():>10.2g}{1e6 * one:>10.0f}"
        f"{1e6 * two:>10.0f}{1e6 * half:>10.0f}{1e6 * peer:>10.0f}{len(vol) - len(solved):>8}"
        f"{np.median(ratio):>12.6f}{ratio.max():>12.6f}"
    )


def main() -> None:
    """Draw, check, measure and print."""
    history = volscen.datasets.sample_history()
    tau, moneyness = history["tau"].values, history["moneyness"].values
    rng = np.random.default_rng(0)
    days = history["implied_vol"].values[rng.integers(0, history.sizes["date"], 6 * N)]
    print(f"{moneyness.size} x {tau.size}; us a surface")
    print(
        f"{'surfaces':<22}{'n':>6}{'Phi med.':>10}{'mean':>10}{'max':>10}{'1 thread':>10}{'2, wall':>10}{'float32':>10}"
        f"{'clarabel':>10}{'failed':>8}{'ratio med.':>12}{'max':>12}"
    )
    for noise in (0.02, 0.03, 0.05, 0.1, 0.3):
        compare(f"noise {noise:.0%}", days * np.exp(noise * rng.normal(size=days.shape)), tau, moneyness)


if __name__ == "__main__":
    main()

"""One day's 10,000 scenarios on a 10 x 8 grid with penalties and weights, after loading; and 21-step paths.

    python benchmarks/generate.py

Beside it, the same job done one scenario at a time in NumPy and SciPy, as a plain script would. For scale: the authors'
public VolGAN code takes 10.5 s for the same job (measured apart; it is not a package and is not run here).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import ndtr

import volscen

N = 10_000


def plain_penalty(iv: np.ndarray, tau: np.ndarray, m: np.ndarray) -> float:
    """Cont-Vuletic penalty of one surface, straight from its definition."""
    s = iv * np.sqrt(tau)[:, None]
    d1 = -np.log(m) / s + s / 2
    c = ndtr(d1) - m * ndtr(d1 - s)
    slope = np.diff(c, axis=1) / np.diff(m)
    calendar = np.maximum(tau[:-1, None] * (c[:-1] - c[1:]) / np.diff(tau)[:, None], 0).sum()
    return float(calendar + np.maximum(slope, 0).sum() + np.maximum(slope[:, :-1] - slope[:, 1:], 0).sum())


def best(job: Callable[[], Any], repeats: int) -> float:
    """Median seconds of several runs, after one to warm up."""
    job()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        job()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    """Check, measure and print."""
    history = volscen.datasets.sample_history()
    tau, m = history["tau"].values, history["moneyness"].values
    print(f"{N:,} one-day scenarios on {m.size} x {tau.size}, with penalties and weights (median of 7)")
    options: dict[str, dict[str, Any]] = {"volgan": {"epochs": 5, "seed": 0}}
    for name in ("bootstrap", "pca", "har", "sabr", "heston", "volgan"):
        model = volscen.fit(history, name, **options.get(name, {}))
        cube = volscen.generate(model, history, n_scenarios=N, seed=1)
        surfaces = cube["implied_vol"].values[:, 0].astype(np.float64)
        started = time.perf_counter()
        expected = np.array([plain_penalty(iv, tau, m) for iv in surfaces])
        plain = time.perf_counter() - started
        np.testing.assert_allclose(cube["arbitrage_penalty"].values[:, 0], expected, atol=1e-12)
        one = best(lambda model=model: volscen.generate(model, history, n_scenarios=N, seed=1, num_threads=1), 7)
        two = best(lambda model=model: volscen.generate(model, history, n_scenarios=N, seed=1, num_threads=2), 7)
        print(
            f"  {name:<10} 1 thread {1e3 * one:6.1f} ms   2 threads {1e3 * two:6.1f} ms   "
            f"(penalties alone in a NumPy loop {1e3 * plain:6.0f} ms, {plain / two:.0f}x the whole call)"
        )
    model = volscen.datasets.default_generator()
    paths = best(lambda: volscen.generate(model, history, n_scenarios=N, horizon=21, seed=1), 3)
    print(f"  {model.name}, {N:,} paths of 21 steps, default threads: {paths:.2f} s")


if __name__ == "__main__":
    main()

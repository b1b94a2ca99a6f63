"""One day's 10,000 scenarios on a 10 x 8 grid with penalties and weights, after loading; and 21-step paths.

    python benchmarks/generate.py [--device cuda]

Beside it, the same job done one scenario at a time in NumPy and SciPy, as a plain script would. For scale: the authors'
public VolGAN code takes 10.5 s for the same job (measured apart; it is not a package and is not run here).

With ``--device``, the generators with networks alone, of their default sizes: scenarios a second by NumPy and on the
device, one thread each. ``--device cpu`` is torch on the CPU, which no option of the library chooses: it tells what the
way through torch costs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import ndtr

import pagetables
import volscen
from volscen.errors import InputError
from volscen.generators._device import find_device

N = 10_000
#: Of the table of times in docs/results.md.
SPEED = ["job", "volscen", "beside it, same run"]

#: Generators with networks: options that train them as shortly as can be, and how far rounding may lead log vols apart.
NETWORKS: dict[str, tuple[dict[str, Any], float]] = {
    "ddpm": ({"epochs": 1}, 1e-4),
    "residual_net": ({"epochs": 1, "refits": 1}, 1e-9),
    "vae_lstm": ({"vae_epochs": 1, "epochs": 1}, 1e-4),
    "volgan": ({"epochs": 1, "matching_epochs": 1}, 1e-9),
    "world": ({"epochs": 1, "dynamics_epochs": 1}, 1e-3),
}


def plain_penalty(iv: np.ndarray, tau: np.ndarray, m: np.ndarray) -> float:
    """Cont-Vuletic penalty of one surface, straight from its definition."""
    s = iv * np.sqrt(tau)[:, None]
    d1 = -np.log(m) / s + s / 2
    c = ndtr(d1) - m * ndtr(d1 - s)
    slope = np.diff(c, axis=1) / np.diff(m)
    calendar = np.maximum(tau[:-1, None] * (c[:-1] - c[1:]) / np.diff(tau)[:, None], 0).sum()
    return float(calendar + np.maximum(slope, 0).sum() + np.maximum(slope[:, :-1] - slope[:, 1:], 0).sum())


def best(job: Callable[[], Any], repeats: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Median seconds of several runs, after one to warm up."""
    job()
    times = []
    for _ in range(repeats):
        started = clock()
        job()
        times.append(clock() - started)
    return statistics.median(times)


def on_device(device: str) -> None:
    """Check that a device draws what NumPy draws, measure both and print; say so where the device is not there."""
    try:
        find_device(device)
    except InputError as error:
        print(f"left out, nothing was measured: {error}")
        return
    history = volscen.datasets.sample_history()
    # Of the CPU what it worked counts, whatever else runs on it.
    clock = time.process_time if device == "cpu" else time.perf_counter
    print(f"scenarios a second, one thread, one step, penalties and weights included, on {device}")
    for name, (options, rounding) in NETWORKS.items():
        model = volscen.fit(history, name, progress=False, **options)
        if name == "residual_net":
            model.share_ = 1.0  # however little it has learnt, all scenarios go through it

        def draw(model: Any = model, device: str = "cpu", n: int = 2048) -> Any:
            placed = model._on("cpu") if device == "cpu*" else model
            where = {} if device in ("cpu", "cpu*") else {"device": device}
            return volscen.generate(placed, history, n_scenarios=n, seed=1, num_threads=1, dtype="float64", **where)

        there = device if device != "cpu" else "cpu*"
        logs = [np.log(draw(device=where)["implied_vol"].values) for where in ("cpu", there)]
        assert logs[0].std() > 0
        np.testing.assert_allclose(logs[1], logs[0], atol=rounding)
        seconds = [best(lambda where=where: draw(device=where), 5, clock) for where in ("cpu", there)]
        apart = np.abs(logs[1] - logs[0]).max()
        print(
            f"  {name:<13} NumPy {2048 / seconds[0]:>9,.0f}   device {2048 / seconds[1]:>9,.0f}   "
            f"ratio {seconds[0] / seconds[1]:5.2f}   largest difference of log vols {apart:.0e}"
        )


def main() -> None:
    """Check, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="measure generators with networks on this device instead")
    pagetables.add_options(parser)
    given = parser.parse_args()
    if given.device is not None:
        on_device(given.device)
        return
    pages = pagetables.Pages(given, {"speed": [SPEED]}, kind="timing", minutes=3)
    took: dict[str, float] = {}
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
        took |= {name: two, "plain": plain}
        print(
            f"  {name:<10} 1 thread {1e3 * one:6.1f} ms   2 threads {1e3 * two:6.1f} ms   "
            f"(penalties alone in a NumPy loop {1e3 * plain:6.0f} ms, {plain / two:.0f}x the whole call)"
        )
    model = volscen.datasets.default_generator()
    paths = best(lambda: volscen.generate(model, history, n_scenarios=N, horizon=21, seed=1), 3)
    print(f"  {model.name}, {N:,} paths of 21 steps, default threads: {paths:.2f} s")
    har, pca, plain = (f"{1e3 * took[name]:.0f}" for name in ("har", "pca", "plain"))
    job = f"{N:,} one-day scenarios on {m.size} x {tau.size}, penalties and weights, `har` / `pca`"
    rows = [[job, f"{har} / {pca} ms", f"penalties alone in a NumPy loop: {plain} ms"],
            [f"{N:,} paths of 21 days, `{model.name}`", f"{paths:.2f} s", ""]]  # fmt: skip
    pages.add("speed", pagetables.table(SPEED, rows))
    pages.write()


if __name__ == "__main__":
    main()

"""Interleaved timing: contenders take turns in one process, so that a busy moment of the machine hits all alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Contender", "compare", "ratio_to_best_peer", "rows", "single", "wall"]


@dataclass
class Contender:
    """One way to do the work: ``run`` treats ``size`` items."""

    name: str
    run: Callable[[], object]
    size: int
    own: bool = False  # ours, not a peer
    note: str = ""


def compare(
    contenders: list[Contender], seconds: float, clock: Callable[[], float] = time.process_time
) -> dict[str, Any]:
    """(minimum, median) nanoseconds of CPU time an item, contenders in turn until the time is spent."""
    for contender in contenders:
        contender.run()  # compiles, fills caches
    repeats = {}
    for contender in contenders:
        start = clock()
        contender.run()
        took = max(clock() - start, 1e-7)
        repeats[contender.name] = max(1, min(1000, math.ceil(2e-3 / took)))
    samples: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    spent, rounds = 0.0, 0
    while rounds < 3 or (spent < seconds and rounds < 400):
        # The order turns, so that nobody always follows the same neighbour.
        for i in range(len(contenders)):
            contender = contenders[(i + rounds) % len(contenders)]
            if rounds >= 3 and samples[contender.name][0] * contender.size > 0.2e9 * seconds:
                continue  # slow ones are not measured more than three times
            start = clock()
            for _ in range(repeats[contender.name]):
                contender.run()
            took = clock() - start
            spent += took
            samples[contender.name].append(took / repeats[contender.name] / contender.size * 1e9)
        rounds += 1
    return {name: (min(values), statistics.median(values)) for name, values in samples.items()}


def rows(contenders: list[Contender], seconds: float, unit: str, scale: float = 1.0) -> list[dict[str, Any]]:
    """Table of a comparison: times, and how many times our first contender's each one takes."""
    found = compare(contenders, seconds)
    own = next(found[c.name][0] for c in contenders if c.own)
    table = []
    for contender in contenders:
        least, middle = found[contender.name]
        row: dict[str, Any] = {"by": contender.name, f"{unit}, minimum": least * scale, "median": middle * scale}
        row["times ours"] = least / own
        if any(c.note for c in contenders):
            row["note"] = contender.note
        table.append(row)
    return table


def ratio_to_best_peer(table: list[dict[str, Any]], contenders: list[Contender]) -> float:
    """How many times the time of ours (the first) the fastest peer takes; NaN without peers."""
    peers = {c.name for c in contenders if not c.own}
    return min((row["times ours"] for row in table if row["by"] in peers), default=math.nan)


def single(run: Callable[[], object], size: int, seconds: float) -> float:
    """Minimum nanoseconds of CPU time an item of one function."""
    return float(compare([Contender("it", run, size, own=True)], seconds)["it"][0])


def wall(runs: dict[str, Callable[[], object]], size: int, seconds: float) -> dict[str, float]:
    """Minimum nanoseconds of wall-clock time an item, in turn: for comparing numbers of threads."""
    found = compare([Contender(name, run, size) for name, run in runs.items()], seconds, time.perf_counter)
    return {name: least for name, (least, _) in found.items()}

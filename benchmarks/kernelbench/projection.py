"""Projection of surfaces onto the arbitrage-free set: violations left, objective beside clarabel, times."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import ndtr

from volscen import arbitrage

from . import timing
from .penalty import MONEYNESS, TAU, surfaces
from .report import Options, Part

Array = np.ndarray[Any, np.dtype[np.float64]]
FLOOR = 1e-3  # of the largest vega: the default of arbitrage.project


def calls(vol: Array) -> tuple[Array, Array]:
    """Calls per unit of forward, and their vegas."""
    root = np.sqrt(TAU)[:, None]
    s = vol * root
    d1 = s / 2 - np.log(MONEYNESS) / s
    return ndtr(d1) - MONEYNESS * ndtr(d1 - s), np.exp(-d1 * d1 / 2) / np.sqrt(2 * np.pi) * root


def conditions() -> tuple[Any, Array]:
    """A and b of A c >= b for the calls c in flat order: calendar, convexity, first and last slope."""
    rows, columns = TAU.size, MONEYNESS.size
    cell = np.arange(rows * columns).reshape(rows, columns)
    lines: list[tuple[list[int], list[float], float]] = []
    for j in range(rows):
        step = np.diff(MONEYNESS)
        if j + 1 < rows:
            lines += [([cell[j + 1, i], cell[j, i]], [1.0, -1.0], 0.0) for i in range(columns)]
        for i in range(1, columns - 1):
            left, right = 1 / step[i - 1], 1 / step[i]
            lines.append(([cell[j, i - 1], cell[j, i], cell[j, i + 1]], [left, -left - right, right], 0.0))
        lines.append(([cell[j, 1], cell[j, 0]], [1 / step[0], -1 / step[0]], -1.0))
        lines.append(([cell[j, -2], cell[j, -1]], [1 / step[-1], -1 / step[-1]], 0.0))
    a = sparse.lil_matrix((len(lines), rows * columns))
    for n, (where, what, _) in enumerate(lines):
        a[n, where] = what
    return a.tocsc(), np.array([least for _, _, least in lines])


def weights(vol: Array) -> Array:
    vega = calls(vol)[1]
    return np.asarray(np.maximum(vega, FLOOR * vega.max()) ** 2)


def objective(vol: Array, projected: Array) -> float:
    return float((weights(vol) * (projected - vol) ** 2).sum())


def by_clarabel(vol: Array, steps: int = 12) -> Array:
    """Sequential quadratic programming, each programme by clarabel."""
    import clarabel

    a, least = conditions()
    w, now = weights(vol).ravel(), vol.ravel().copy()
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    for _ in range(steps):
        c, vega = (x.ravel() for x in calls(now.reshape(vol.shape)))
        scaled = -(a @ sparse.diags(vega)).tocsc()
        solver = clarabel.DefaultSolver(
            sparse.diags(w).tocsc(), w * (now - vol.ravel()), scaled, a @ c - least,
            [clarabel.NonnegativeConeT(least.size)], settings,
        )  # fmt: skip
        step = np.array(solver.solve().x)
        now = now + np.clip(step, -0.3 * now, 0.5 * now)
        if np.abs(step).max() < 1e-9:
            break
    return now.reshape(vol.shape)


def run(options: Options) -> Part:
    part = Part("Projection onto the arbitrage-free set")
    count = options.count(2_000, 100)
    vol = surfaces(count)
    projected, status = arbitrage.project(vol, TAU, MONEYNESS)
    codes = arbitrage.ProjectionStatus
    done = status == codes.PROJECTED
    left = float(arbitrage.penalty(projected[np.isfinite(projected).all((1, 2))], TAU, MONEYNESS).max())
    part.check("no violation above 1e-12 is left in a projected surface", left <= 1e-12)
    again, second = arbitrage.project(projected[done], TAU, MONEYNESS)
    part.check(
        "projected surfaces are returned bit for bit",
        again.tobytes() == projected[done].tobytes() and (second == codes.FREE).all(),
    )
    share = 100 * float(done.mean())
    part.target("surfaces projected, %: at least 99.9", share, share >= 99.9)
    part.tables["Status"] = [{"status": c.name, "surfaces": int((status == c).sum())} for c in codes]
    size = count
    contenders = [timing.Contender("volscen", lambda: arbitrage.project(vol, TAU, MONEYNESS), size, own=True)]
    try:
        few = np.flatnonzero(done)[: options.count(100, 5)]
        start = time.process_time()
        peers = [by_clarabel(vol[n]) for n in few]
        took = (time.process_time() - start) / few.size
        ratios = np.array(
            [objective(vol[n], projected[n]) / objective(vol[n], p) for n, p in zip(few, peers, strict=True)]
        )
        part.tables["Objective over clarabel's"] = [
            {"surfaces": int(few.size), "median": float(np.median(ratios)), "largest": float(ratios.max()),
             "clarabel SQP, us/surface": took * 1e6}
        ]  # fmt: skip
        part.target("largest objective over clarabel's: at most 1.01", float(ratios.max()), ratios.max() <= 1.01)
        contenders.append(timing.Contender("clarabel, sequential", lambda: by_clarabel(vol[few[0]]), 1))
    except ImportError as error:
        part.tables["Objective over clarabel's"] = [{"by": "clarabel", "note": f"absent: {error}"}]
    part.tables[f"{count:,} surfaces, 10 x 8, 5% of noise in every vol, one thread, CPU time"] = timing.rows(
        contenders, options.seconds / 2, "us/surface", 1e-3
    )
    both = timing.wall(
        {str(n): lambda n=n: arbitrage.project(vol, TAU, MONEYNESS, num_threads=n) for n in (1, 2)},
        size,
        options.seconds / 4,
    )
    part.tables["Threads, wall clock"] = [{"threads": n, "us/surface": ns * 1e-3} for n, ns in both.items()]
    part.target("wall us/surface on two threads: at most 200", both["2"] * 1e-3, both["2"] * 1e-3 <= 200)
    return part

"""Scenarios x options: values by interpolation and Black against exact ones, times beside NumPy, threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtr

from volscen import revaluation

from . import exact, timing
from .penalty import MONEYNESS, TAU, surfaces
from .report import Options, Part

Array = np.ndarray[Any, np.dtype[Any]]


def book(scenarios: int, options: int) -> dict[str, Array]:
    rng = np.random.default_rng(6)
    return {
        "implied_vol": surfaces(scenarios),
        "tau": TAU,
        "moneyness": MONEYNESS,
        "spot": 100 * np.exp(rng.normal(0, 0.02, scenarios)),
        "strike": rng.uniform(70, 130, options),
        "remaining": rng.uniform(TAU[0], TAU[-1], options),
        "is_call": rng.random(options) < 0.5,
    }


def in_numpy(
    implied_vol: Array, tau: Array, moneyness: Array, spot: Array, strike: Array, remaining: Array, is_call: Array
) -> Array:
    """The same rule with NumPy: total variance linear in tau at each moneyness, then vol linear in its logarithm."""
    out = np.empty((spot.size, strike.size))
    j = np.clip(np.searchsorted(tau, remaining) - 1, 0, tau.size - 2)
    share = (remaining - tau[j]) / (tau[j + 1] - tau[j])
    before, after = (1 - share) * tau[j] / remaining, share * tau[j + 1] / remaining
    root, sign, grid = np.sqrt(remaining), np.where(is_call, 1.0, -1.0), np.log(moneyness)
    for n in range(0, spot.size, 16):
        f = spot[n : n + 16, None]
        rows = np.arange(n, n + f.size)[:, None]
        k = np.log(strike / f)
        inside = np.clip(k, grid[0], grid[-1])
        i = np.clip(np.searchsorted(grid, inside) - 1, 0, grid.size - 2)
        part = (inside - grid[i]) / (grid[i + 1] - grid[i])
        low, high = (
            np.sqrt(before * implied_vol[rows, j, column] ** 2 + after * implied_vol[rows, j + 1, column] ** 2)
            for column in (i, i + 1)
        )
        s = (low + part * (high - low)) * root
        d1 = s / 2 - k / s
        out[n : n + 16] = sign * (f * ndtr(sign * d1) - strike * ndtr(sign * (d1 - s)))
    return out


def run(options: Options) -> Part:
    part = Part("Revaluation")
    small = book(40, 60)
    ours, theirs = revaluation.price(**small).price, in_numpy(**small)
    part.check("values agree with NumPy's to 1e-12 of the spot", float(np.abs(ours - theirs).max()) < 1e-10)
    # Exact prices of flat surfaces, where interpolation has nothing to round but the vol itself.
    flat = {**small, "implied_vol": np.full((40, 8, 10), 0.23)}
    got, worst = revaluation.price(**flat).price, 0.0
    for n, f in enumerate(flat["spot"]):
        for c in range(0, 60, 7):
            k, t, call = flat["strike"][c], flat["remaining"][c], bool(flat["is_call"][c])
            worst = max(worst, abs(float(exact.black(f, k, t, 0.23, call) - exact.Exact.of(float(got[n, c])))) / f)
    part.check(f"on flat surfaces prices lie within 2e-15 of the forward ({exact.NAME})", worst < 2e-15)
    scenarios, contracts = (10_000, 1_000) if not options.quick else (500, 200)
    work = book(scenarios, contracts)
    bits = [revaluation.price(**work, num_threads=n).price for n in (1, 2, 3)]
    part.check("one, two and three threads give the same bits", all(np.array_equal(bits[0], x) for x in bits[1:]))
    del bits
    size, few = scenarios * contracts, book(200, contracts)
    contenders = [
        timing.Contender("volscen, matrix of prices", lambda: revaluation.price(**work), size, own=True),
        timing.Contender(
            "volscen, with delta and vega", lambda: revaluation.price(**work, greeks=True), size, own=True
        ),
        timing.Contender(
            "volscen, value of the book", lambda: revaluation.price(**work, quantity=np.ones(contracts)), size, own=True
        ),
        timing.Contender("NumPy and scipy ndtr, chunked", lambda: in_numpy(**few), 200 * contracts),
    ]
    part.tables[f"{scenarios:,} scenarios x {contracts:,} options, one thread, CPU time"] = timing.rows(
        contenders, options.seconds, "ns/price"
    )
    both = timing.wall(
        {str(n): lambda n=n: revaluation.price(**work, num_threads=n) for n in (1, 2)}, size, options.seconds / 2
    )
    part.tables["Threads, wall clock"] = [
        {"threads": n, "ns/price": ns, "s": ns * size / 1e9} for n, ns in both.items()
    ]
    part.target("wall ns/price on two threads: at most 15", both["2"], both["2"] <= 15)
    return part

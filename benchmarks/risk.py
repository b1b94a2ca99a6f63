"""Risk of a book: valuation on scenarios, and measures with contributions, beside NumPy and QuantLib in the same run.

    python benchmarks/risk.py [--lines 1000] [--scenarios 10000] [--threads 2]

Correctness is asserted first. QuantLib values a subset, whose time is scaled by the number of valuations; the NumPy
peer does all of it, as one would write it. Times are the least of several runs; ratios are of processor seconds, which
a busy machine disturbs less than the clock.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr

import pagetables
import volscen
from volscen import Option, Portfolio, risk
from volscen.portfolio import explain, pnl, revalue

#: Of the page's table.
HEADER = ["", "seconds", "NumPy", "QuantLib, formula only"]


class Times(NamedTuple):
    """Least seconds of several runs: of the wall clock, and of all processors together."""

    wall: float
    cpu: float


def least(task: Callable[[], Any], repeats: int) -> tuple[Times, Any]:
    """Times of several runs, and what the last one gave."""
    wall, cpu, result = [], [], None
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        result = task()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return Times(min(wall), min(cpu)), result


def make_book(n: int) -> Portfolio:
    rng = np.random.default_rng(0)
    kinds, quantities = rng.random(n) < 0.5, rng.normal(size=n).round(2)
    strikes, tenors = rng.uniform(0.75, 1.2, n), rng.uniform(40, 330, n).round() / 365
    lines = zip(kinds, strikes, tenors, quantities, strict=True)
    return Portfolio([(Option("call" if kind else "put", moneyness=m, tau=t), q) for kind, m, t, q in lines])


def numpy_values(cube: Any, out: Any, calls: np.ndarray) -> np.ndarray:
    """The same rules in plain NumPy: interpolation of every surface at every contract, then Black."""
    tau, k = cube.tau.values, np.log(cube.moneyness.values)
    surfaces = cube.implied_vol.values[:, 0].astype(np.float64)
    spot, spot0 = cube.spot.values[:, 0], float(cube.spot0)
    left = out.tau.values - float(out.elapsed_days[0]) / 365

    def vol(w: np.ndarray, t: float, at: np.ndarray) -> np.ndarray:
        j = int(np.clip(np.searchsorted(tau, t), 1, tau.size - 1))
        share = (np.clip(t, tau[0], tau[-1]) - tau[j - 1]) / (tau[j] - tau[j - 1])
        inside = np.clip(t, tau[0], tau[-1])
        slices = np.sqrt((w[:, j - 1] * (1 - share) + w[:, j] * share) / inside)
        i = np.clip(np.searchsorted(k, at) - 1, 0, k.size - 2)
        weight = np.clip((at - k[i]) / (k[i + 1] - k[i]), 0, 1)
        rows = np.arange(len(w))
        return slices[rows, i] * (1 - weight) + slices[rows, i + 1] * weight

    totals = np.square(surfaces) * tau[:, None]
    totals0 = np.square(cube.implied_vol0.values)[None] * tau[:, None]
    values = np.empty((spot.size, left.size))
    for column, (strike, t0, t) in enumerate(zip(out.strike.values, out.tau.values, left, strict=True)):
        basis = float(out.contract_vol[column]) - vol(totals0, t0, np.log([strike / spot0]))
        s = (vol(totals, t, np.log(strike / spot)) + basis) * np.sqrt(t)
        d1 = np.log(spot / strike) / s + s / 2
        call = spot * ndtr(d1) - strike * ndtr(d1 - s)
        values[:, column] = call if calls[column] else call - spot + strike
    return values


def quantlib_values(out: Any, calls: np.ndarray, spot: np.ndarray, vols: np.ndarray, lines: int) -> np.ndarray:
    """Black's formula by QuantLib for the first lines, at volatilities given: interpolation is not counted."""
    import QuantLib as ql

    left = out.tau.values - float(out.elapsed_days[0]) / 365
    values = np.empty((spot.size, lines))
    for column in range(lines):
        kind = ql.Option.Call if calls[column] else ql.Option.Put
        strike, root = float(out.strike[column]), float(np.sqrt(left[column]))
        values[:, column] = [
            ql.blackFormula(kind, strike, s, v * root)
            for s, v in zip(spot.tolist(), vols[:, column].tolist(), strict=True)
        ]
    return values


def numpy_contributions(x: np.ndarray, w: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Components of expected shortfall, and of value at risk by a local linear kernel regression, on all rows."""
    total = x.sum(axis=1)
    order = np.argsort(total)
    mass = w[order]
    part = np.clip(alpha - (np.cumsum(mass) - mass), 0, mass)
    shortfall = -(part / alpha) @ x[order]
    edge = total[order][np.searchsorted(np.cumsum(mass), alpha)]
    spread = min(np.std(total), np.subtract(*np.quantile(total, [0.75, 0.25])) / 1.349)
    u = (total - edge) / (0.9 * spread * np.sum(w**2) ** 0.2)
    kernel = w * np.exp(-u * u / 2)
    s0, s1, s2 = kernel.sum(), kernel @ u, kernel @ u**2
    return shortfall, -(kernel * (s2 - s1 * u) / (s0 * s2 - s1 * s1)) @ x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--scenarios", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    pagetables.add_options(parser)
    options = parser.parse_args()
    pages = pagetables.Pages(options, {"speed": [HEADER]}, kind="timing", minutes=1, needs=["QuantLib"])
    cube = volscen.generate(n_scenarios=options.scenarios, seed=1, reweight=None)
    flat = np.full(cube.sizes["tau"], float(cube.spot0))  # no carry, so that the peers need none either
    cube = cube.assign(forward0=("tau", flat), discount_factor0=("tau", np.ones_like(flat)))
    book = make_book(options.lines)
    calls = np.array([i.is_call for i in book.instruments])
    threads = {"num_threads": options.threads}
    n, subset = options.repeats, max(1, options.lines // 50)

    own, out = least(lambda: revalue(cube, book.instruments, **threads), n)
    plain, values = least(lambda: numpy_values(cube, out, calls), 3)
    np.testing.assert_allclose(out.value[:, 0], values, rtol=1e-8, atol=1e-8 * float(cube.spot0))
    spot = cube.spot.values[:, 0]
    left = out.tau.values[:subset] - float(out.elapsed_days[0]) / 365
    vols, _ = volscen.black.implied_vol(
        out.value.values[:, 0, :subset], spot[:, None], out.strike.values[:subset], left, calls[:subset]
    )
    live = np.isfinite(vols) & (vols > 0)  # far from the money a price no longer knows its volatility
    each, by_ql = least(lambda: quantlib_values(out, calls, spot, np.where(live, vols, 0.2), subset), 3)
    np.testing.assert_allclose(by_ql[live], out.value.values[:, 0, :subset][live], rtol=1e-7, atol=1e-9)
    print(f"{options.lines} lines on {options.scenarios} scenarios, {options.threads} threads")
    print(f"{'seconds':44}{'clock':>10}{'processor':>11}{'ratio':>8}")

    def row(name: str, found: Times, base: Times, scale: float = 1.0) -> None:
        print(f"{name:44}{scale * found.wall:10.4f}{scale * found.cpu:11.4f}{scale * found.cpu / base.cpu:8.1f}")

    row("values, volscen", own, own)
    row("values, NumPy", plain, own)
    row("values, QuantLib (formula only, scaled)", each, own, options.lines / subset)

    by_line, profit = least(lambda: pnl(cube, book, **threads), n)
    row("P&L by line, volscen", by_line, own)
    total, _ = least(lambda: pnl(cube, book, lines=False, **threads), n)
    row("P&L of the book, volscen", total, own)
    explained, _ = least(lambda: explain(cube, book, second_order=True, **threads), n)
    row("P&L explained, volscen", explained, own)

    x, w = profit.pnl.values[:, 0], cube.weight.values
    values_s, numpy_s, quantlib_s = own.cpu, plain.cpu, each.cpu * options.lines / subset
    own, found = least(lambda: risk.contributions(profit, alpha=0.025), n)
    plain, (shortfall, at_risk) = least(lambda: numpy_contributions(x, w, 0.025), n)
    np.testing.assert_allclose(found.component_es, shortfall, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(found.component_var, at_risk, rtol=1e-3, atol=1e-3 * np.abs(at_risk).max())
    np.testing.assert_allclose(found.component_es.sum(), found.expected_shortfall, rtol=1e-9)
    row("VaR, ES and contributions, volscen", own, own)
    row("VaR, ES and contributions, NumPy", plain, own)
    closed, _ = least(lambda: risk.incremental(profit, alpha=0.025), n)
    row("VaR, ES without each line, volscen", closed, own)
    formula = f"{quantlib_s:.2g} (scaled from {subset} options)"
    lines = [
        ["values", f"{values_s:.2g}", f"{numpy_s:.2g}", formula],
        ["P&L by line", f"{by_line.cpu:.2g}", "", ""],
        ["P&L explained, vanna and volga too", f"{explained.cpu:.2g}", "", ""],
        ["VaR, ES and contributions of both, from the P&L", f"{own.cpu:.2g}", f"{plain.cpu:.2g}", ""],
        ["VaR and ES without each line", f"{closed.cpu:.2g}", "", ""],
    ]
    pages.add("speed", pagetables.table(HEADER, lines))
    pages.write()


if __name__ == "__main__":
    main()

"""Time the kernels beside the peers that are installed, in one process and on one thread.

Run ``python benchmarks/kernels.py [--json FILE] [--seconds S]``. Every kernel is checked against a peer or
an identity before it is timed. Times are the best of several repeats, wall clock; the ratios within one run
are what counts. QuantLib is used where it is present (extra ``volscen[bench]``).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import brentq, least_squares
from scipy.special import ndtr

from volscen import _core, arbitrage, black, svi

try:
    import QuantLib as ql
except ImportError:
    ql = None

Row = tuple[str, str, float, str]


def best_time(function: Callable[[], object], seconds: float) -> float:
    """Shortest time of one call, repeating for about the seconds given."""
    function()
    best, spent = math.inf, 0.0
    while math.isinf(best) or spent < seconds:
        start = time.perf_counter()
        function()
        took = time.perf_counter() - start
        best, spent = min(best, took), spent + took
    return best


def check(name: str, good: bool) -> None:
    if not good:
        raise SystemExit(f"{name} is wrong: not timed")


def options(count: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(1)
    forward = np.full(count, 100.0)
    strike = forward * np.exp(rng.uniform(-0.5, 0.5, count))
    tau, vol = rng.uniform(0.02, 3.0, count), rng.uniform(0.05, 1.0, count)
    return forward, strike, tau, vol, strike > forward


def numpy_price(forward, strike, tau, vol, is_call):
    s = vol * np.sqrt(tau)
    d1 = np.log(forward / strike) / s + s / 2
    sign = np.where(is_call, 1.0, -1.0)
    return sign * (forward * ndtr(sign * d1) - strike * ndtr(sign * (d1 - s)))


def price_rows(seconds: float) -> list[Row]:
    args = options(100_000)
    few = [x[:2_000] for x in args]
    check("price", np.abs(black.price(*args) - numpy_price(*args)).max() < 1e-11)

    def quantlib() -> list[float]:
        return [
            ql.blackFormula(ql.Option.Call if call else ql.Option.Put, k, f, v * math.sqrt(t))
            for f, k, t, v, call in zip(*(x.tolist() for x in few), strict=True)
        ]

    rows = [("price", "volscen", best_time(lambda: black.price(*args), seconds) / 1e5 * 1e9, "ns/option")]
    for name in ("delta", "gamma", "vega", "theta"):
        greek = getattr(black, name)
        rows.append((name, "volscen", best_time(lambda g=greek: g(*args), seconds) / 1e5 * 1e9, "ns/option"))
    rows.append(("price", "NumPy and scipy", best_time(lambda: numpy_price(*args), seconds) / 1e5 * 1e9, "ns/option"))
    if ql is not None:
        check("price against QuantLib", np.allclose(quantlib(), black.price(*few), rtol=1e-10, atol=1e-11))
        rows.append(("price", "QuantLib, Python loop", best_time(quantlib, seconds) / 2e3 * 1e9, "ns/option"))
    return rows


def implied_vol_rows(seconds: float) -> list[Row]:
    forward, strike, tau, vol, is_call = options(100_000)
    price = black.price(forward, strike, tau, vol, is_call)
    found, status = black.implied_vol(price, forward, strike, tau, is_call)
    rows = []
    sound = price > 1e-8
    check("implied vol", (status[sound] == 0).all() and np.abs(found / vol - 1)[sound].max() < 1e-6)
    again = black.price(forward, strike, tau, found, is_call)
    check("implied vol", np.abs(again - price)[status == 0].max() < 1e-13)
    few = np.flatnonzero(sound)[:500]

    def quantlib() -> list[float]:
        return [
            ql.blackFormulaImpliedStdDev(
                ql.Option.Call if is_call[i] else ql.Option.Put, float(strike[i]), float(forward[i]), float(price[i])
            )
            for i in few
        ]

    def scipy_loop() -> list[float]:
        return [
            brentq(
                lambda v, i=i: numpy_price(forward[i], strike[i], tau[i], v, is_call[i]) - price[i], 1e-4, 5, xtol=1e-12
            )
            for i in few
        ]

    took = best_time(lambda: black.implied_vol(price, forward, strike, tau, is_call), seconds)
    rows.append(("implied vol", "volscen", took / 1e5 * 1e9, "ns/option"))
    if ql is not None:
        rows.append(
            ("implied vol", "QuantLib, Python loop", best_time(quantlib, seconds) / few.size * 1e9, "ns/option")
        )
    rows.append(("implied vol", "scipy brentq, Python loop", best_time(scipy_loop, 0) / few.size * 1e9, "ns/option"))
    return rows


def slices(count: int) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Random slices free of butterfly arbitrage, 15 to 40 strikes, 10-20 bp of noise in vol."""
    rng = np.random.default_rng(2)
    found: list[tuple[np.ndarray, np.ndarray, float]] = []
    scan = np.linspace(-3, 3, 1201)
    while len(found) < count:
        days = int(rng.integers(20, 730))
        tau = days / 365
        level = rng.uniform(0.1, 0.5) ** 2 * tau
        sigma, rho, m = rng.uniform(0.05, 0.5), rng.uniform(-0.9, 0.5), rng.uniform(-0.2, 0.2)
        b = rng.uniform(0.1, 1.5) * math.sqrt(level)
        p = np.array([level - b * (math.hypot(m, sigma) - rho * m), b, rho, m, sigma])
        positive = p[0] + b * sigma * math.sqrt(1 - rho**2) > 0
        if not positive or b * (1 + abs(rho)) >= 2 or svi.durrleman_g(p, scan).min() < 1e-3:
            continue
        width = 3.5 * math.sqrt(level)
        k = np.sort(rng.uniform(-width, 0.7 * width, rng.integers(15, 41)))
        vol = np.sqrt(svi.total_variance(p, k) / tau) + rng.normal(0, rng.uniform(0.001, 0.002), k.size)
        found.append((k, np.maximum(vol, 0.01) ** 2 * tau, tau))
    return found


def quantlib_slice(k: np.ndarray, w: np.ndarray, tau: float) -> Any:
    vols, null = np.sqrt(w / tau), ql.nullDouble()
    section = ql.SviInterpolatedSmileSection(
        ql.Settings.instance().evaluationDate + round(365 * tau), 1.0, np.exp(k).tolist(), False,
        float(np.interp(0.0, k, vols)), vols.tolist(), null, null, null, null, null,
        False, False, False, False, False, False,
    )  # fmt: skip
    section.volatility(1.0)
    return section


def scipy_slice(k: np.ndarray, w: np.ndarray) -> float:
    half, middle = np.ptp(k) / 2, (k[0] + k[-1]) / 2
    slope = np.ptp(w) / (2 * half) + 1e-4
    best = math.inf
    for start in ((-0.5, 0.3), (0.5, 1.0)):
        result = least_squares(
            lambda p: (p[0] + p[1] * (p[2] * (k - p[3]) + np.hypot(k - p[3], p[4])) - w) / w.mean(),
            [w.min() / 2, slope, 0.0, middle + start[0] * half, start[1] * half],
            bounds=(
                [-np.inf, 0, -1, middle - 4 * half, 0.01 * half],
                [np.inf, np.inf, 1, middle + 4 * half, 20 * half],
            ),
            x_scale=[w.mean(), slope, 1, half, half],
        )
        best = min(best, float(np.sqrt(np.mean(result.fun**2)) * w.mean()))
    return best


def svi_rows(seconds: float) -> list[Row]:
    work = slices(400)
    size = max(k.size for k, _, _ in work)
    k, w, weight = (np.zeros((len(work), size)) for _ in range(3))
    w[:] = 1.0
    for i, (strikes, variances, _) in enumerate(work):
        n = strikes.size
        k[i, :n], w[i, :n], weight[i, :n] = strikes, variances, 1.0
    free = svi.fit(k, w, weight)
    scan = np.sinh(np.linspace(-12, 12, 2001))
    points = free.parameters[:, 3, None] + free.parameters[:, 4, None] * scan
    check("SVI: butterfly arbitrage", bool((svi.durrleman_g(free.parameters, points) >= 0).all()))
    few = work[:40]
    scipy_errors = np.array([scipy_slice(k, w) for k, w, _ in few])
    check("SVI: error against scipy", bool((free.rmse[: len(few)] <= 1.02 * scipy_errors).mean() >= 0.95))
    per = 1e6 / len(work)
    rows = [
        ("SVI slice, no butterfly", "volscen", best_time(lambda: svi.fit(k, w, weight), seconds) * per, "us/slice"),
        (
            "SVI slice, plain",
            "volscen",
            best_time(lambda: svi.fit(k, w, weight, butterfly=False), seconds) * per,
            "us/slice",
        ),
    ]
    if ql is not None:
        took = best_time(lambda: [quantlib_slice(*s) for s in few], seconds)
        rows.append(("SVI slice, plain", "QuantLib", took / len(few) * 1e6, "us/slice"))
    took = best_time(lambda: [scipy_slice(k, w) for k, w, _ in few], 0)
    rows.append(("SVI slice, plain", "scipy, two starts", took / len(few) * 1e6, "us/slice"))
    return rows


def numpy_penalty(vol: np.ndarray, tau: np.ndarray, moneyness: np.ndarray) -> np.ndarray:
    s = vol * np.sqrt(tau)[:, None]
    d1 = (-np.log(moneyness) + s * s / 2) / s
    call = ndtr(d1) - moneyness * ndtr(d1 - s)
    calendar = tau[:-1, None] * (call[..., :-1, :] - call[..., 1:, :]) / np.diff(tau)[:, None]
    slope = np.diff(call, axis=-1) / np.diff(moneyness)
    terms = (calendar, slope, slope[..., :-1] - slope[..., 1:])
    return sum(np.maximum(term, 0).sum((-2, -1)) for term in terms)


def penalty_rows(seconds: float) -> list[Row]:
    rng = np.random.default_rng(3)
    tau = np.array([30, 60, 91, 122, 152, 182, 273, 365]) / 365
    m = np.linspace(0.6, 1.4, 10)
    smile = 0.2 + 0.15 * np.log(m) ** 2 - 0.08 * np.log(m) / tau[:, None] ** 0.25
    count = 10_000
    vol = smile * np.exp(0.05 * rng.normal(size=(count, tau.size, m.size)))
    check("penalty", np.allclose(arbitrage.penalty(vol, tau, m), numpy_penalty(vol, tau, m), rtol=1e-11, atol=1e-12))
    direction = rng.normal(size=vol.shape)
    up, down = (numpy_penalty(vol + h * direction, tau, m) for h in (1e-6, -1e-6))
    slopes = (arbitrage.penalty_gradient(vol, tau, m)[1] * direction).sum((1, 2))
    check("penalty gradient", np.median(np.abs(slopes - (up - down) / 2e-6)) < 1e-6)
    small = vol.astype(np.float32)
    per = 1e9 / count
    return [
        ("penalty 10 x 8", "volscen", best_time(lambda: arbitrage.penalty(vol, tau, m), seconds) * per, "ns/surface"),
        (
            "penalty 10 x 8, gradient",
            "volscen",
            best_time(lambda: arbitrage.penalty_gradient(vol, tau, m), seconds) * per,
            "ns/surface",
        ),
        (
            "penalty 10 x 8, float32",
            "volscen",
            best_time(lambda: arbitrage.penalty(small, tau, m), seconds) * per,
            "ns/surface",
        ),
        (
            "penalty 10 x 8",
            "NumPy and scipy",
            best_time(lambda: [numpy_penalty(vol[i : i + 100], tau, m) for i in range(0, count, 100)], seconds) * per,
            "ns/surface",
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="time spent on each measurement")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options_ = parser.parse_args()
    rows: list[Row] = []
    for part in (price_rows, implied_vol_rows, svi_rows, penalty_rows):
        rows += part(options_.seconds)
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, instruction set {_core.simd_level()}, one thread")
    print(f"{'kernel':26} {'by':28} {'time':>10}  {'':10} {'times volscen':>13}")
    for kernel, by, value, unit in rows:
        own = next(row[2] for row in rows if row[0] == kernel)
        ratio = "" if by == "volscen" else f"{value / own:13.1f}"
        print(f"{kernel:26} {by:28} {value:10.1f}  {unit:10} {ratio}")
    if options_.json is not None:
        keys = ("kernel", "by", "value", "unit")
        text = json.dumps({"simd": _core.simd_level(), "rows": [dict(zip(keys, row, strict=True)) for row in rows]})
        options_.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Raw-SVI slices: errors beside the best fit of any peer, butterfly arbitrage by a scan of its own, times."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from volscen import svi

from . import timing
from .report import Options, Part

Array = np.ndarray[Any, np.dtype[np.float64]]
Slice = tuple[Array, Array, float]  # k, total variance as quoted, tau


def variance(p: Array, k: Array) -> Array:
    a, b, rho, m, sigma = p
    return a + b * (rho * (k - m) + np.hypot(k - m, sigma))


def durrleman(p: Array, k: Array) -> Array:
    """Durrleman's function and positivity, from the formula as printed; minus infinity where w <= 0."""
    _, b, rho, m, sigma = p
    root = np.hypot(k - m, sigma)
    w, first, second = variance(p, k), b * (rho + (k - m) / root), b * sigma**2 / root**3
    with np.errstate(divide="ignore", invalid="ignore"):
        g = (1 - k * first / (2 * w)) ** 2 - first**2 / 4 * (1 / w + 0.25) + second / 2
    return np.where(w > 0, g, -np.inf)


def has_butterfly(p: Array, k: Array) -> bool:
    """Whether a slice can be arbitraged: g < 0 on 20,000 points in and far beyond the strikes, or Lee's bound."""
    width = np.ptp(k) + 0.1
    near = np.linspace(k.min() - 3 * width, k.max() + 3 * width, 16_000)
    far = p[3] + p[4] * np.sinh(np.linspace(-16, 16, 4_001))
    return bool(p[1] * (1 + abs(p[2])) > 2 or min(durrleman(p, near).min(), durrleman(p, far).min()) < -1e-10)


def work_set(count: int) -> list[Slice]:
    """Random slices free of butterfly arbitrage, 15 to 40 strikes, 10 to 20 bp of noise in vol."""
    rng = np.random.default_rng(2)
    found: list[Slice] = []
    scan = np.linspace(-3, 3, 1201)
    while len(found) < count:
        tau = int(rng.integers(20, 730)) / 365
        level = rng.uniform(0.1, 0.5) ** 2 * tau
        sigma, rho, m = rng.uniform(0.05, 0.5), rng.uniform(-0.9, 0.5), rng.uniform(-0.2, 0.2)
        b = rng.uniform(0.1, 1.5) * math.sqrt(level)
        p = np.array([level - b * (math.hypot(m, sigma) - rho * m), b, rho, m, sigma])
        if b * (1 + abs(rho)) >= 2 or durrleman(p, scan).min() < 1e-3:
            continue
        width = 3.5 * math.sqrt(level)
        k = np.sort(rng.uniform(-width, 0.7 * width, rng.integers(15, 41)))
        vol = np.sqrt(variance(p, k) / tau) + rng.normal(0, rng.uniform(0.001, 0.002), k.size)
        found.append((k, np.maximum(vol, 0.01) ** 2 * tau, tau))
    return found


def rmse(p: Array | None, slice_: Slice) -> float:
    """Root-mean-square error of the vols, in basis points."""
    if p is None or not np.isfinite(p).all():
        return math.inf
    k, w, tau = slice_
    return float(1e4 * np.sqrt(np.mean((np.sqrt(np.maximum(variance(p, k), 0) / tau) - np.sqrt(w / tau)) ** 2)))


def scipy_fit(slice_: Slice) -> Array | None:
    """Least squares of the vols from two starts, all five parameters at once."""
    k, w, tau = slice_
    vol, half, middle = np.sqrt(w / tau), np.ptp(k) / 2, (k[0] + k[-1]) / 2
    slope = np.ptp(w) / (2 * half) + 1e-4
    best, found = math.inf, None
    for left, width in ((-0.5, 0.3), (0.5, 1.0)):
        result = least_squares(
            lambda p: np.sqrt(np.maximum(variance(p, k), 1e-12) / tau) - vol,
            [w.min() / 2, slope, 0.0, middle + left * half, width * half],
            bounds=(
                [-np.inf, 0, -1, middle - 4 * half, 0.01 * half],
                [np.inf, np.inf, 1, middle + 4 * half, 20 * half],
            ),
            x_scale=[w.mean(), slope, 1, half, half],
        )
        if result.cost < best:
            best, found = result.cost, result.x
    return found


def peers() -> tuple[dict[str, Callable[[Slice], Array | None]], dict[str, str]]:
    """Functions that fit one slice and return a, b, rho, m, sigma; and those absent."""
    found: dict[str, Callable[[Slice], Array | None]] = {"scipy least_squares, two starts": scipy_fit}
    absent = {}
    try:
        import QuantLib as ql

        def quantlib(slice_: Slice) -> Array | None:
            k, w, tau = slice_
            vols, null = np.sqrt(w / tau), ql.nullDouble()
            section = ql.SviInterpolatedSmileSection(
                ql.Settings.instance().evaluationDate + round(365 * tau), 1.0, np.exp(k).tolist(), False,
                float(np.interp(0.0, k, vols)), vols.tolist(), null, null, null, null, null,
                False, False, False, False, False, False,
            )  # fmt: skip
            try:
                section.volatility(1.0)
            except RuntimeError:
                return None
            return np.array([section.a(), section.b(), section.rho(), section.m(), section.sigma()])

        found["QuantLib SviInterpolatedSmileSection"] = quantlib
    except ImportError as error:
        absent["QuantLib"] = str(error)
    try:
        import pysvi

        def svi_py(slice_: Slice) -> Array | None:
            fitted = pysvi.SVI().calibrate(slice_[0], slice_[1])
            return None if fitted is None else np.array([fitted[name] for name in ("a", "b", "rho", "m", "sigma")])

        found["svi-py"] = svi_py
    except ImportError as error:
        absent["svi-py"] = str(error)
    return found, absent


def padded(work: list[Slice]) -> tuple[Array, Array, Array]:
    """The slices as arrays; weights make squared errors of w count as those of vol."""
    size = max(k.size for k, _, _ in work)
    k, w, weight = (np.zeros((len(work), size)) for _ in range(3))
    w[:] = 1.0
    for i, (strikes, variances, tau) in enumerate(work):
        n = strikes.size
        k[i, :n], w[i, :n], weight[i, :n] = strikes, variances, 1 / (4 * variances * tau)
    return k, w, weight


def run(options: Options) -> Part:
    part = Part("SVI slices")
    work = work_set(options.count(1_000, 60))
    arrays = padded(work)
    others, absent = peers()
    fits: dict[str, list[Array | None]] = {
        "volscen, no butterfly (default)": list(svi.fit(*arrays).parameters),
        "volscen, plain": list(svi.fit(*arrays, butterfly=False).parameters),
    }
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for name, fit in others.items():
            fits[name] = [fit(slice_) for slice_ in work]
    errors = {name: np.array([rmse(p, s) for p, s in zip(fit, work, strict=True)]) for name, fit in fits.items()}
    best = np.min([errors[name] for name in others], axis=0)
    table, arbitraged = [], {}
    for name, fit in fits.items():
        arbitraged[name] = [p is None or has_butterfly(p, s[0]) for p, s in zip(fit, work, strict=True)]
        table.append(
            {
                "by": name,
                "mean RMSE, bp": errors[name].mean(),
                "99th percentile": float(np.quantile(errors[name], 0.99)),
                "within 1% of the best peer, %": 100 * float((errors[name] <= 1.01 * best).mean()),
                "beyond twice it": int((errors[name] > 2 * best).sum()),
                "butterfly arbitrage, slices": int(np.sum(arbitraged[name])),
            }
        )
    part.tables[f"Fits of {len(work):,} slices"] = table
    part.check(
        "no slice of the default mode has butterfly arbitrage (20,000 points)",
        table[0]["butterfly arbitrage, slices"] == 0,
    )
    share = table[1]["within 1% of the best peer, %"]
    part.target("plain slices within 1% of the best peer: at least 99.9%", share, share >= 99.9)
    # Where the best peer's slice is free of arbitrage, the default mode has no excuse.
    free = np.ones(len(work), bool)
    for i, e in enumerate(best):
        free[i] = any(errors[name][i] <= 1.01 * e and not arbitraged[name][i] for name in others)
    near = 100 * float((errors["volscen, no butterfly (default)"][free] <= 1.01 * best[free]).mean())
    part.target("default slices within 1% of a best peer that is free of arbitrage: at least 99.9%", near, near >= 99.9)
    beyond = max(row["beyond twice it"] for row in table[:2])
    part.target("slices beyond twice the best peer's error, either mode: 0", beyond, beyond == 0)
    cost = float((errors["volscen, no butterfly (default)"] - errors["volscen, plain"]).mean())
    part.target("mean cost of excluding arbitrage, bp: at most 0.1", cost, cost <= 0.1)
    few = work[: options.count(40, 10)]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        contenders = [
            timing.Contender("volscen, no butterfly (default)", lambda: svi.fit(*arrays), len(work), own=True),
            timing.Contender("volscen, plain", lambda: svi.fit(*arrays, butterfly=False), len(work), own=True),
        ]
        contenders += [
            timing.Contender(name, lambda f=fit: [f(s) for s in few], len(few)) for name, fit in others.items()
        ]
        times = timing.rows(contenders, options.seconds, "us/slice", 1e-3)
    times += [{"by": name, "note": f"absent: {why}"} for name, why in absent.items()]
    part.tables["Cold starts, one thread, CPU time"] = times
    ours = times[0]["us/slice, minimum"]
    part.target("us/slice: at most 15", ours, ours <= 15)
    quantlib = next((row["times ours"] for row in times if row["by"].startswith("QuantLib")), math.nan)
    part.target("times faster than QuantLib in this run: at least 330", quantlib, quantlib >= 330)
    both = timing.wall(
        {"1": lambda: svi.fit(*arrays), "2": lambda: svi.fit(*arrays, num_threads=2)}, len(work), options.seconds / 4
    )
    part.tables["Threads, wall clock"] = [{"threads": n, "us/slice": ns * 1e-3} for n, ns in both.items()]
    return part

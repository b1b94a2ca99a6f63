"""eSSVI surfaces of twelve maturities: errors beside scipy started at the truth, arbitrage by a scan, times."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from volscen import ssvi

from . import timing
from .report import Options, Part

Array = np.ndarray[Any, np.dtype[np.float64]]
TAU = np.array([7, 14, 30, 60, 91, 122, 152, 182, 273, 365, 547, 730]) / 365


def variance(p: Array, k: Array) -> Array:
    theta, rho, psi = (p[..., i, None] for i in range(3))
    return np.asarray((theta + rho * psi * k + np.sqrt((psi * k + rho * theta) ** 2 + (1 - rho**2) * theta**2)) / 2)


def work_set(count: int) -> tuple[Array, Array, Array, Array]:
    """True parameters, log-moneyness, quoted total variance and weights of surfaces with 15 bp of noise in vol."""
    rng = np.random.default_rng(8)
    truth = []
    while len(truth) < count:
        theta = np.cumsum(rng.uniform(0.1, 0.4) ** 2 * np.diff(TAU, prepend=0) * rng.uniform(0.7, 1.3, TAU.size))
        rho = rng.uniform(-0.8, -0.1) * (0.8 + 0.2 * np.exp(-TAU / rng.uniform(0.1, 1)))
        psi = rng.uniform(0.4, 1.4) * theta ** rng.uniform(0.45, 0.6)
        up, down = np.diff(psi * (1 + rho)), np.diff(psi * (1 - rho))
        if (up < 1e-4).any() or (down < 1e-4).any() or (np.diff(psi / theta) > 0).any():
            continue
        if (psi * (1 + abs(rho)) < 3.5).all() and (psi**2 / theta * (1 + abs(rho)) < 3.5).all():
            truth.append(np.stack([theta, rho, psi], axis=-1))
    p = np.array(truth)
    width = 3 * np.sqrt(p[..., 0])[..., None]
    k = np.sort(rng.uniform(-1, 0.7, (count, TAU.size, 25)), axis=-1) * width
    vol = np.sqrt(variance(p, k) / TAU[:, None]) + rng.normal(0, 0.0015, k.shape)
    w = np.maximum(vol, 0.01) ** 2 * TAU[:, None]
    return p, k, w, 1 / (4 * w * TAU[:, None])


def rmse(p: Array, k: Array, w: Array) -> Array:
    """Error of the vols of each surface, in basis points."""
    error = np.sqrt(np.maximum(variance(p, k), 0) / TAU[:, None]) - np.sqrt(w / TAU[:, None])
    return np.asarray(1e4 * np.sqrt((error**2).mean((-2, -1))))


def violations(p: Array) -> int:
    """Surfaces with calendar or butterfly arbitrage on 4,001 strikes to log-moneyness 20 on both sides."""
    k = np.sinh(np.linspace(-6, 6, 4_001)) / 10
    count = 0
    for surface in p:
        w = variance(surface, k)
        theta, rho, psi = (surface[:, i, None] for i in range(3))
        root = np.sqrt((psi * k + rho * theta) ** 2 + (1 - rho**2) * theta**2)
        first = psi / 2 * (rho + (psi * k + rho * theta) / root)
        second = psi**2 * (1 - rho**2) * theta**2 / (2 * root**3)
        g = (1 - k * first / (2 * w)) ** 2 - first**2 / 4 * (1 / w + 0.25) + second / 2
        count += bool((np.diff(w, axis=0) < -1e-13).any() or (g < -1e-10).any() or (w <= 0).any())
    return count


def scipy_fit(start: Array, k: Array, w: Array) -> Array:
    """Least squares of all vols without conditions between maturities, from the truth: as low as errors go."""
    vol = np.sqrt(w / TAU[:, None])

    def residual(x: Array) -> Array:
        return np.asarray((np.sqrt(np.maximum(variance(x.reshape(-1, 3), k), 1e-12) / TAU[:, None]) - vol).ravel())

    low, high = np.tile([1e-8, -0.999, 0.0], TAU.size), np.tile([9.0, 0.999, 9.0], TAU.size)
    return np.asarray(
        least_squares(residual, start.ravel(), bounds=(low, high), x_scale=np.abs(start.ravel())).x
    ).reshape(-1, 3)


def run(options: Options) -> Part:
    part = Part("eSSVI surfaces")
    truth, k, w, weight = work_set(options.count(200, 20))
    fits = {model: ssvi.fit(k, w, weight, model=model) for model in ("essvi", "ssvi")}
    few = options.count(40, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        best = np.array([scipy_fit(truth[i], k[i], w[i]) for i in range(few)])
    errors, lowest = rmse(fits["essvi"].parameters, k, w), rmse(best, k[:few], w[:few])
    part.tables[f"Fits of {len(k)} surfaces of 12 maturities x 25 strikes"] = [
        {"by": name, "mean RMSE, bp": float(rmse(p, k[: len(p)], w[: len(p)]).mean()),
         "surfaces with arbitrage": violations(p), "of": len(p)}
        for name, p in (("volscen essvi", fits["essvi"].parameters), ("volscen ssvi", fits["ssvi"].parameters),
                        ("scipy from the truth, no conditions between maturities", best), ("the truth", truth))
    ]  # fmt: skip
    for model, fit in fits.items():
        part.check(f"no {model} surface has calendar or butterfly arbitrage", violations(fit.parameters) == 0)
    stopped = int((fits["essvi"].status == ssvi.SSVIStatus.STOPPED).sum())
    part.target("slices whose fit stopped early: 0", stopped, stopped == 0)
    cost = float((errors[:few] / lowest).max())
    part.target(
        "largest RMSE over that of scipy's fit from the truth, which may be arbitraged: at most 1.05",
        cost,
        cost <= 1.05,
    )
    count = len(k)
    contenders = [
        timing.Contender("volscen essvi", lambda: ssvi.fit(k, w, weight), count, own=True),
        timing.Contender("volscen ssvi", lambda: ssvi.fit(k, w, weight, model="ssvi"), count, own=True),
        timing.Contender("scipy least_squares, from the truth", lambda: scipy_fit(truth[0], k[0], w[0]), 1),
    ]
    table = timing.rows(contenders, options.seconds / 2, "us/surface", 1e-3)
    part.tables["Cold starts, one thread, CPU time"] = table
    ours = table[0]["us/surface, minimum"]
    part.target("us a surface of 12 maturities: at most 1000", ours, math.isfinite(ours) and ours <= 1000)
    return part

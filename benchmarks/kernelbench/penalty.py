"""Arbitrage penalty of 10 x 8 surfaces: exact parts, gradient, times beside NumPy, numba and torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import ndtr

from volscen import arbitrage

from . import exact, timing
from .report import Options, Part

Array = np.ndarray[Any, np.dtype[Any]]
TAU = np.array([30, 60, 91, 122, 152, 182, 273, 365]) / 365
MONEYNESS = np.linspace(0.6, 1.4, 10)


def surfaces(count: int, tau: Array = TAU, moneyness: Array = MONEYNESS) -> Array:
    """A smile with 5% of noise in every vol: every condition is broken somewhere."""
    rng = np.random.default_rng(3)
    smile = 0.2 + 0.15 * np.log(moneyness) ** 2 - 0.08 * np.log(moneyness) / tau[:, None] ** 0.25
    return np.asarray(smile * np.exp(0.05 * rng.normal(size=(count, tau.size, moneyness.size))))


def in_numpy(vol: Array, tau: Array = TAU, moneyness: Array = MONEYNESS) -> Array:
    s = vol * np.sqrt(tau)[:, None]
    d1 = (-np.log(moneyness) + s * s / 2) / s
    call = ndtr(d1) - moneyness * ndtr(d1 - s)
    calendar = tau[:-1, None] * (call[..., :-1, :] - call[..., 1:, :]) / np.diff(tau)[:, None]
    slope = np.diff(call, axis=-1) / np.diff(moneyness)
    terms = (calendar, slope, slope[..., :-1] - slope[..., 1:])
    return np.stack([np.maximum(term, 0).sum((-2, -1)) for term in terms], axis=-1)


def exactly(vol: Array, tau: Array, moneyness: Array) -> list[float]:
    """Parts of one surface from exact calls."""
    of = exact.Exact.of
    t, m = [of(float(x)) for x in tau], [of(float(x)) for x in moneyness]
    call = [[exact.black(1.0, float(x), float(y), float(v), True) for x, v in zip(moneyness, row, strict=True)]
            for y, row in zip(tau, vol, strict=True)]  # fmt: skip
    slope = [[(c[i + 1] - c[i]) / (m[i + 1] - m[i]) for i in range(len(m) - 1)] for c in call]
    calendar = [
        t[j] * (call[j][i] - call[j + 1][i]) / (t[j + 1] - t[j]) for j in range(len(t) - 1) for i in range(len(m))
    ]
    terms = (calendar, [x for s in slope for x in s], [s[i] - s[i + 1] for s in slope for i in range(len(s) - 1)])
    return [float(sum((x for x in term if float(x) > 0), of(0.0))) for term in terms]


def price_error(dtype: Any) -> float:
    """Largest error of one call price, through a grid on which the first part is one time value alone."""
    rng = np.random.default_rng(5)
    worst = 0.0
    for m in (0.05, 0.6, 0.9, 0.999, 1.0, 1.001, 1.1, 1.4, 8.0):
        vol = np.full((300, 2, 1), 1e-30, dtype)
        vol[:, 0, 0] = 10 ** rng.uniform(-2.5, 1, 300)
        got = arbitrage.penalty(vol, [1.0, 2.0], [m], parts=True)[:, 0]
        for value, v in zip(got.tolist(), vol[:, 0, 0].tolist(), strict=True):
            true = exact.black(1.0, m, 1.0, v, True) - max(exact.Exact.of(1.0) - exact.Exact.of(m), exact.Exact.of(0.0))
            worst = max(worst, abs(float(true - exact.Exact.of(value))))
    return worst


def in_numba() -> Callable[[Array], Array] | None:
    try:
        from numba import njit
    except ImportError:
        return None

    @njit(error_model="numpy")  # type: ignore[untyped-decorator]
    def loop(vol: Array, tau: Array, moneyness: Array) -> Array:
        count, rows, columns = vol.shape
        out = np.zeros((count, 3))
        log_m = np.log(moneyness)
        call = np.empty((rows, columns))
        for n in range(count):
            for j in range(rows):
                root = math.sqrt(tau[j])
                for i in range(columns):
                    s = vol[n, j, i] * root
                    d1 = -log_m[i] / s + s / 2
                    near = math.erfc(-d1 * 0.7071067811865476)
                    call[j, i] = 0.5 * (near - moneyness[i] * math.erfc((s - d1) * 0.7071067811865476))
            for j in range(rows):
                before = 0.0
                for i in range(columns):
                    if j + 1 < rows:
                        out[n, 0] += max(tau[j] * (call[j, i] - call[j + 1, i]) / (tau[j + 1] - tau[j]), 0.0)
                    if i + 1 < columns:
                        slope = (call[j, i + 1] - call[j, i]) / (moneyness[i + 1] - moneyness[i])
                        out[n, 1] += max(slope, 0.0)
                        if i > 0:
                            out[n, 2] += max(before - slope, 0.0)
                        before = slope
        return out

    return lambda vol: np.asarray(loop(vol, TAU, MONEYNESS))


def in_torch() -> dict[str, Callable[[Array], Any]]:
    """Penalty, and penalty with the gradient by automatic differentiation, of torch's own operations."""
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(1)

    def value(x: Any) -> Any:
        tau, m = torch.as_tensor(TAU, dtype=x.dtype), torch.as_tensor(MONEYNESS, dtype=x.dtype)
        s = x * tau.sqrt()[:, None]
        d1 = (-torch.log(m) + s * s / 2) / s
        call = torch.special.ndtr(d1) - m * torch.special.ndtr(d1 - s)
        slope = torch.diff(call, dim=-1) / torch.diff(m)
        calendar = tau[:-1, None] * (call[..., :-1, :] - call[..., 1:, :]) / torch.diff(tau)[:, None]
        terms = (calendar, slope, slope[..., :-1] - slope[..., 1:])
        return torch.stack([torch.relu(term).sum((-2, -1)) for term in terms], dim=-1)

    def plain(vol: Array) -> Any:
        with torch.no_grad():
            return value(torch.from_numpy(vol)).numpy()

    def gradient(vol: Array) -> Any:
        x = torch.from_numpy(vol).requires_grad_()
        value(x).sum().backward()
        return x.grad.numpy()

    return {"torch": plain, "torch, autograd": gradient}


def chunked(function: Callable[[Array], Any], vol: Array, size: int = 200) -> Callable[[], object]:
    """In pieces that stay in the cache, which is what the vectorised peers are fastest with."""
    return lambda: [function(vol[i : i + size]) for i in range(0, len(vol), size)]


def check(part: Part, options: Options) -> None:
    for dtype, bound, aim in ((np.float64, 1e-14, 1e-14), (np.float32, 1e-6, 1e-6)):
        error = price_error(dtype)
        part.check(f"calls in {np.dtype(dtype)} lie within {bound:g} of {exact.NAME}", error < bound)
        part.target(f"largest error of a call in {np.dtype(dtype)}: at most {aim:g}", error, error <= aim)
    rng = np.random.default_rng(4)
    for rows, columns in ((8, 10), (1, 2), (1, 1), (5, 1), (3, 17), (64, 64) if not options.quick else (16, 16)):
        tau, m = np.cumsum(rng.uniform(0.02, 0.3, rows)), 0.5 + np.cumsum(rng.uniform(0.01, 0.1, columns))
        vol = surfaces(2, tau, m)
        true = np.array([exactly(v, tau, m) for v in vol])
        error = np.abs(arbitrage.penalty(vol, tau, m, parts=True) - true)
        # A difference of calls is divided by the step, and there are as many terms as cells.
        room = 4e-15 * rows * columns / min(np.diff(m, prepend=0).min(), 0.02)
        part.check(
            f"all parts of {rows} x {columns} grids with uneven steps are exact to {room:.0e}", error.max() <= room
        )


def run(options: Options) -> Part:
    part = Part("Arbitrage penalty")
    check(part, options)
    count = options.count(10_000, 1_000)
    vol = surfaces(count)
    small = vol.astype(np.float32)
    numba_loop, torch_ways = in_numba(), in_torch()
    reference = in_numpy(vol)
    same = [arbitrage.penalty(vol, TAU, MONEYNESS, parts=True), *([numba_loop(vol)] if numba_loop else [])]
    same += [torch_ways["torch"](vol)] if torch_ways else []
    part.check(
        "ours and the peers' parts agree to 1e-11", all(np.allclose(x, reference, rtol=0, atol=1e-11) for x in same)
    )
    if torch_ways:
        ours = arbitrage.penalty_gradient(vol[:100], TAU, MONEYNESS)[1]
        close = np.allclose(ours, torch_ways["torch, autograd"](vol[:100]), rtol=1e-8, atol=1e-8)
        part.check("the gradient agrees with torch's automatic one to 1e-8", close)
    absent = [{"by": n, "note": "absent"} for n, there in (("numba", numba_loop), ("torch", torch_ways)) if not there]

    def table(title: str, contenders: list[timing.Contender]) -> tuple[float, float]:
        rows = timing.rows(contenders, options.seconds / 2, "ns/surface")
        part.tables[f"{title}, {count:,} surfaces, one thread, CPU time"] = rows + absent
        return rows[0]["ns/surface, minimum"], timing.ratio_to_best_peer(rows, contenders)

    contender = timing.Contender
    contenders = [
        contender("volscen", lambda: arbitrage.penalty(vol, TAU, MONEYNESS), count, own=True),
        contender("NumPy and scipy ndtr, chunked", chunked(in_numpy, vol), count),
    ]
    if numba_loop:
        contenders.append(contender("numba loop", lambda: numba_loop(vol), count))
    if torch_ways:
        contenders.append(contender("torch, chunked", chunked(torch_ways["torch"], vol), count))
    ns, ratio = table("float64", contenders)
    part.target("ns/surface in float64: at most 300", ns, ns <= 300)
    part.target("times faster than the best peer of this run in float64: at least 14", ratio, ratio >= 14)
    contenders = [
        contender("volscen", lambda: arbitrage.penalty(small, TAU, MONEYNESS), count, own=True),
        contender(
            "NumPy and scipy ndtr, chunked",
            chunked(lambda x: in_numpy(x, TAU.astype("f4"), MONEYNESS.astype("f4")), small),
            count,
        ),
    ]
    if torch_ways:
        contenders.append(contender("torch, chunked", chunked(torch_ways["torch"], small), count))
    ns, _ = table("float32", contenders)
    part.target("ns/surface in float32: at most 120", ns, ns <= 120)
    contenders = [contender("volscen", lambda: arbitrage.penalty_gradient(vol, TAU, MONEYNESS), count, own=True)]
    if torch_ways:
        import torch

        def through_torch() -> None:
            x = torch.from_numpy(vol).requires_grad_()
            arbitrage.torch_penalty(x, TAU, MONEYNESS).sum().backward()

        contenders.append(contender("volscen.arbitrage.torch_penalty, backward", through_torch, count, own=True))
        contenders.append(contender("torch autograd, chunked", chunked(torch_ways["torch, autograd"], vol), count))
    ns, _ = table("float64 with the gradient", contenders)
    part.target("ns/surface with the gradient: at most 600", ns, ns <= 600)
    both = timing.wall(
        {str(n): lambda n=n: arbitrage.penalty(vol, TAU, MONEYNESS, num_threads=n) for n in (1, 2)},
        count,
        options.seconds / 4,
    )
    part.tables["Threads, wall clock"] = [{"threads": n, "ns/surface": ns} for n, ns in both.items()]
    sizes = (10, 100, 1_000, 10_000, *(() if options.quick else (100_000,)))
    scaling = []
    for size in sizes:
        some = np.resize(vol, (size, *vol.shape[1:]))
        ns = timing.single(lambda v=some: arbitrage.penalty(v, TAU, MONEYNESS), size, options.seconds / 8)
        scaling.append({"surfaces": size, "ns/surface": ns})
    part.tables["Scaling, float64"] = scaling
    return part

"""Throw random inputs at every compiled kernel, at every instruction set, and check what must always hold.

Numbers are NaN, infinities, zeros of both signs, subnormal, negative, huge, tiny and plain; arrays are contiguous,
reversed, strided, transposed, misaligned, broadcast, of foreign byte order, or empty. For each kernel: no crash, the
results of the same numbers laid out densely, no NaN without a status or an error that says why, and the same bits at
every instruction set and for any number of threads. Under a sanitizer (``nox -s sanitize``) also: no report.

Run ``python cpp/tools/fuzz_kernels.py [--inputs 1e7] [--seed 0] [--only NAME ...]``. ``--inputs`` counts the numbers
given to all kernels together, at each instruction set. A new kernel joins with one line in ``KERNELS``: a function
that draws about ``size`` numbers, runs the kernel, asserts, and returns (numbers used, arrays of results).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from volscen import _core, arbitrage, black, revaluation, ssvi, svi
from volscen.errors import InputError
from volscen.surface import interpolate_vol

Array = np.ndarray[Any, np.dtype[Any]]
Run = tuple[int, list[Array]]
TINY = [5e-324, -5e-324, 1e-310, 2.2250738585072014e-308, 1e-300, 1e-16]
HUGE = [1e16, 1e150, 1e300, 1.7976931348623157e308, -1e308]
PLAIN = [0.0, -0.0, 1 - 2**-53, 1.0, 1 + 2**-52, -1.0, -0.2, 100.0]
SPECIAL = np.array([np.nan, np.inf, -np.inf, *TINY, *HUGE, *PLAIN])


def numbers(rng: np.random.Generator, shape: tuple[int, ...], wild: float, decades: float = 3.0) -> Array:
    """Positive numbers over some decades, a share of them replaced by special ones and by any bit pattern."""
    x = 10 ** rng.uniform(-decades, decades, shape)
    kind = rng.random(shape)
    x = np.where(kind < wild, rng.choice(SPECIAL, shape), x)
    bits = rng.integers(0, 2**64, shape, dtype=np.uint64).view(np.float64)
    return np.where((kind >= wild) & (kind < 1.1 * wild), bits, x)


def laid_out(rng: np.random.Generator, x: Array) -> Array:
    """The same values in another memory layout."""
    way = rng.integers(8)
    if way == 0 and x.ndim:
        return np.ascontiguousarray(x[::-1])[::-1]
    if way == 1 and x.ndim:
        wide = np.repeat(x, 3, axis=-1)
        return wide[..., 1::3]
    if way == 2:
        raw = np.zeros(x.nbytes + 1, np.uint8)
        off = raw[1:].view(x.dtype).reshape(x.shape)
        off[...] = x
        return off
    if way == 3:
        return np.asfortranarray(x)
    if way == 4 and x.dtype.kind == "f":
        return x.astype(x.dtype.newbyteorder())
    if way == 5 and x.ndim > 1:
        return np.ascontiguousarray(np.moveaxis(x, 0, -1)).transpose(x.ndim - 1, *range(x.ndim - 1))
    return x


def some_shape(rng: np.random.Generator, size: int) -> tuple[int, ...]:
    """A shape of about the size, or a small, empty or many-axed one."""
    way = rng.integers(12)
    if way == 0:
        return ()
    if way == 1:
        return (0,)
    if way == 2:
        return (3, 0, 5)
    if way == 3:
        return (1, int(rng.integers(1, 9)), 1)
    if way < 7:
        rows = int(rng.integers(1, 40))
        return (rows, max(size // rows, 1))
    return (int(rng.integers(1, size + 1)),)


def same(one: Any, other: Any, what: str) -> None:
    if np.asarray(one).tobytes() != np.asarray(other).tobytes():
        raise AssertionError(f"{what} depends on the memory layout or on the number of threads")


def refused(function: Callable[[], Any]) -> bool:
    try:
        function()
    except InputError:
        return True
    return False


def option_operands(rng: np.random.Generator, size: int) -> tuple[list[Array], list[Array], tuple[int, ...]]:
    """Forward, strike, tau, vol (or price), is_call, discount factor: dense, and in other layouts."""
    shape = some_shape(rng, size)
    wild = rng.choice([0.0, 0.02, 0.3])
    dense = [numbers(rng, shape, wild) for _ in range(4)]
    if rng.random() < 0.5:  # strikes near the forward, where digits are lost
        dense[1] = dense[0] * np.exp(rng.normal(size=shape) * 10 ** rng.uniform(-14, 1.5, shape))
    dense += [rng.random(shape) < 0.5, numbers(rng, shape, wild, 0.1)]
    for i, operand in enumerate(dense):
        if operand.ndim and rng.random() < 0.1:  # one value for all, by a stride of zero
            dense[i] = np.broadcast_to(operand.flat[0] if operand.size else operand.dtype.type(1), shape)
    return dense, [laid_out(rng, operand) for operand in dense], shape


def fuzz_black(rng: np.random.Generator, size: int) -> Run:
    dense, given, shape = option_operands(rng, size)
    f, k, t, v, _, df = dense
    sound = np.isfinite(f) & (f > 0) & np.isfinite(k) & (k > 0) & np.isfinite(df) & (df > 0)
    sound &= np.isfinite(t) & (t >= 0) & np.isfinite(v) & (v >= 0)
    results = []
    for greek in (black.price, black.delta, black.gamma, black.vega, black.theta):
        value = greek(*given, num_threads=int(rng.integers(1, 4)))
        same(value, greek(*(np.array(x) for x in dense)), greek.__name__)
        undefined = (t == 0) & (df != 1) if greek is black.theta else np.zeros(shape, bool)
        # Prices beyond the largest number overflow; nothing else may be NaN.
        lost = np.isnan(value) & sound & ~undefined
        if greek in (black.price, black.delta, black.vega) and lost.any():
            at = tuple(np.argwhere(lost)[0])
            raise AssertionError(f"{greek.__name__} is NaN at {[x[at].item() for x in dense]}")
        if not np.isnan(value[~sound] if shape else np.where(sound, np.nan, value)).all():
            raise AssertionError(f"{greek.__name__} is a number where an operand is none")
        results.append(np.asarray(value))
    return 6 * int(np.prod(shape)), results


def fuzz_implied_vol(rng: np.random.Generator, size: int) -> Run:
    dense, given, shape = option_operands(rng, size)
    f, k, t, v, call, df = dense
    with np.errstate(all="ignore"):
        price = numbers(rng, shape, 0.3, 300.0)
        fair = np.asarray(black.price(f, k, t, np.abs(v), call, df))
        intrinsic = df * np.maximum(np.where(call, f - k, k - f), 0)
        near = fair * (1 + rng.integers(-4, 5, shape) * 2.0**-52)
        price = np.choose(rng.integers(0, 4, shape), [price, fair, near, intrinsic + price * np.minimum(f, k)])
    operands = [price, f, k, t, call, df]
    vol, status = black.implied_vol(
        laid_out(rng, price), given[0], given[1], given[2], given[4], given[5], num_threads=int(rng.integers(1, 4))
    )
    again = black.implied_vol(*(np.array(x) for x in operands))
    same(vol, again[0], "implied_vol")
    same(status, again[1], "the status of implied_vol")
    solved = (status == 0) | (status == 1)
    wrong = solved != (np.isfinite(vol) & (np.asarray(vol) >= 0))
    wrong |= status == black.ImpliedVolStatus.NOT_CONVERGED
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0])
        raise AssertionError(
            f"implied_vol gives {vol[at]} with status {status[at]} at {[x[at].item() for x in operands]}"
        )
    return 6 * int(np.prod(shape)), [np.asarray(vol), np.asarray(status)]


def fuzz_svi(rng: np.random.Generator, size: int) -> Run:
    quotes = int(rng.integers(0, 40))
    shape = (max(size // (3 * max(quotes, 1)), 1) if rng.random() > 0.05 else 0, quotes)
    k = rng.normal(0, 10 ** rng.uniform(-4, 2.5), shape)
    w = 10 ** rng.uniform(-8, 3, (shape[0], 1)) * np.exp(rng.normal(0, 10 ** rng.uniform(-4, 1), shape))
    weight = rng.choice([0.0, 1.0, 0.1, 1e-300, 1e300], shape)
    if rng.random() < 0.3:
        k, w = np.round(k, 1), np.round(w, 3) + 1e-3  # ties
    if rng.random() < 0.2 and k.size:
        for x in (k, w, weight):
            hit = rng.random(shape) < 0.01
            x[hit] = rng.choice(SPECIAL, hit.sum())
    used = weight > 0
    sound = np.isfinite(weight).all() and (weight >= 0).all()
    sound = sound and (np.abs(k[used]) <= 1e3).all() and ((w[used] >= 1e-30) & (w[used] <= 1e6)).all()
    butterfly = bool(rng.random() < 0.5)
    given = [laid_out(rng, x) for x in (k, w, weight)]
    if not sound:
        if not refused(lambda: svi.fit(*given, butterfly=butterfly)):
            raise AssertionError("svi.fit took a quote out of range")
        return 3 * k.size, []
    fit = svi.fit(*given, butterfly=butterfly, num_threads=int(rng.integers(1, 4)))
    again = svi.fit(k, w, weight, butterfly=butterfly)
    for name in ("parameters", "rmse", "status"):
        same(getattr(fit, name), getattr(again, name), f"{name} of svi.fit")
    empty = fit.status == svi.SVIStatus.NO_DATA
    if not (np.isnan(fit.parameters).all(-1) == empty).all() or not (np.isfinite(fit.rmse) == ~empty).all():
        raise AssertionError("svi.fit gives NaN without the status NO_DATA")
    return 3 * k.size, [fit.parameters, fit.rmse, fit.status]


def fuzz_ssvi(rng: np.random.Generator, size: int) -> Run:
    quotes, maturities = int(rng.integers(0, 30)), int(rng.integers(0, 15))
    count = max(size // (3 * max(quotes * maturities, 1)), 1) if rng.random() > 0.05 else 0
    shape = (count, maturities, quotes)
    k = rng.normal(0, 10 ** rng.uniform(-4, 2.5), shape)
    w = 10 ** rng.uniform(-8, 3, (*shape[:2], 1)) * np.exp(rng.normal(0, 10 ** rng.uniform(-4, 1), shape))
    weight = rng.choice([0.0, 1.0, 0.1, 1e-300, 1e300], shape)
    if rng.random() < 0.3:
        k, w = np.round(k, 1), np.round(w, 3) + 1e-3  # ties
    if rng.random() < 0.2 and k.size:
        for x in (k, w, weight):
            hit = rng.random(shape) < 0.01
            x[hit] = rng.choice(SPECIAL, hit.sum())
    used = weight > 0
    sound = np.isfinite(weight).all() and (weight >= 0).all()
    sound = sound and (np.abs(k[used]) <= 1e3).all() and ((w[used] >= 1e-30) & (w[used] <= 1e6)).all()
    model: Any = rng.choice(["essvi", "ssvi"])
    given = [laid_out(rng, x) for x in (k, w, weight)]
    if not sound:
        if not refused(lambda: ssvi.fit(*given, model=model)):
            raise AssertionError("ssvi.fit took a quote out of range")
        return 3 * k.size, []
    fit = ssvi.fit(*given, model=model, num_threads=int(rng.integers(1, 4)))
    again = ssvi.fit(k, w, weight, model=model)
    for name in ("parameters", "rmse", "status", "power_law"):
        same(getattr(fit, name), getattr(again, name), f"{name} of ssvi.fit")
    empty = fit.status == ssvi.SSVIStatus.NO_DATA
    if not (np.isnan(fit.parameters).all(-1) == empty).all() or not (np.isfinite(fit.rmse) == ~empty).all():
        raise AssertionError("ssvi.fit gives NaN without the status NO_DATA")
    for slices in fit.parameters:
        theta, rho, psi = slices[np.isfinite(slices[:, 0])].T
        sides = np.array([psi * (1 + rho), psi * (1 - rho)])
        crossing = (np.diff(sides) < 0).any() or (np.diff(psi / theta) > 1e-15 * (psi / theta)[1:]).any()
        if crossing or not ((theta > 0) & (psi > 0) & (np.abs(rho) < 1) & (sides < 4)).all():
            raise AssertionError("ssvi.fit gives a surface with arbitrage")
    return 3 * k.size, [fit.parameters, fit.rmse, fit.status, fit.power_law]


def fuzz_penalty(rng: np.random.Generator, size: int) -> Run:
    taus, columns = (int(x) for x in rng.integers(1, 20, 2))
    if rng.random() < 0.1:
        taus, columns = 64, 64
    tau = np.cumsum(10 ** rng.uniform(-4, 1, taus))
    moneyness = np.cumsum(10 ** rng.uniform(-6, 0.5, columns))
    dtype = rng.choice([np.float32, np.float64])
    count = max(size // (taus * columns), 1) if rng.random() > 0.05 else 0
    vol = np.exp(rng.normal(-1.5, rng.uniform(0, 3), (count, taus, columns))).astype(dtype)
    weight = rng.normal(size=(count, 3)).astype(dtype)
    given, threads = laid_out(rng, vol), int(rng.integers(1, 4))
    phi, gradient = arbitrage.penalty_gradient(given, tau, moneyness, num_threads=threads)
    parts = arbitrage.penalty(given, tau, moneyness, parts=True, num_threads=threads)
    again = arbitrage.penalty_gradient(vol, tau, moneyness)
    same(phi, again[0], "penalty")
    same(gradient, again[1], "penalty_gradient")
    pullback = _core.arbitrage_pullback_float if dtype is np.float32 else _core.arbitrage_pullback_double
    pulled = pullback(vol, tau, moneyness, weight, threads)
    whole = pullback(vol, tau, moneyness, np.ones_like(weight), 1)
    same(whole + 0, gradient + 0, "the pullback of weights one")
    if not (np.isfinite(parts).all() and np.isfinite(gradient).all() and (parts >= 0).all()):
        raise AssertionError("the penalty of sound surfaces is not finite and positive")
    if vol.size:
        bad = vol.copy()
        bad.flat[rng.integers(vol.size)] = rng.choice([np.nan, 0.0, -0.0, -1.0, np.inf, -np.inf])
        for function in (arbitrage.penalty, arbitrage.penalty_gradient):
            if not refused(lambda f=function: f(laid_out(rng, bad), tau, moneyness)):
                raise AssertionError("a vol that is no positive number slipped through the penalty")
    return 4 * vol.size, [phi, gradient, parts, pulled]


def fuzz_revalue(rng: np.random.Generator, size: int) -> Run:
    taus, columns = (int(x) for x in rng.integers(1, 14, 2))
    tau = np.cumsum(10 ** rng.uniform(-4, 1, taus))
    moneyness = np.exp(rng.normal(0, 1)) * np.cumsum(10 ** rng.uniform(-6, 0.5, columns))
    count = max(size // (2 * taus * columns), 1) if rng.random() > 0.05 else 0
    width = int(rng.integers(0, 1 + size // (4 * max(count, 1)))) if rng.random() < 0.9 else 300
    decades = rng.choice([0.1, 1.0, 30.0])
    wild = rng.choice([0.0, 0.0, 0.01])
    dtype = rng.choice([np.float32, np.float64])
    vol = np.exp(rng.normal(-1.5, rng.uniform(0, 3), (count, taus, columns))).astype(dtype)
    spot, strike = numbers(rng, (count,), wild, decades), numbers(rng, (width,), wild, decades)
    rest, carry, df = (numbers(rng, (width,), wild, d) for d in (min(decades, 5.0), 0.2, 0.2))
    offset = rng.choice([0.0, 1e-3, 1.0]) * rng.normal(size=width)
    if rng.random() < 0.3:
        rest = rng.choice([0.0, -1.0, *tau], width)
    sound = all((np.isfinite(x) & (x > 0)).all() for x in (spot, carry, df))
    sound = sound and np.isfinite(rest).all() and (np.isfinite(strike) & (strike >= 0)).all()
    options: dict[str, Any] = {
        "extrapolation": str(rng.choice(["flat_vol", "flat_total_variance", "linear"])),
        "greeks": bool(rng.random() < 0.5),
        "vol_floor": float(rng.choice([1e-3, 0.2, 5e-324])),
    }
    calls = rng.random(width) < 0.5

    def run(operands: list[Array], **more: Any) -> revaluation.Values:
        surfaces, s, k, t, c, d = operands
        return revaluation.price(
            surfaces, tau, moneyness, s, k, t, calls, carry=c, discount_factor=d, vol_offset=offset, **options, **more
        )

    dense = [vol, spot, strike, rest, carry, df]
    given = [laid_out(rng, x) for x in dense]
    if not sound:
        if not refused(lambda: run(given)):
            raise AssertionError("revaluation.price took a number out of range")
        return vol.size + 5 * width, []
    found, again = run(given, num_threads=int(rng.integers(1, 4))), run(dense)
    results = [x for x in found if x is not None]
    for one, other in zip(results, (x for x in again if x is not None), strict=True):
        same(one, other, "revaluation.price")
    # Forwards beyond the largest number overflow; nothing is NaN.
    if any(np.isnan(x).any() for x in results) or (found.price < 0).any():
        raise AssertionError("revaluation.price is NaN or negative")
    total = run(given, quantity=np.ones(width), num_threads=2).price
    summed = np.zeros(count)
    for column in range(width):
        summed += found.price[:, column]
    same(total, summed, "the sum over contracts")
    query = moneyness[rng.integers(0, columns, width)] * np.exp(rng.choice([0.0, 0.5]) * rng.normal(size=width))
    t = tau[rng.integers(0, taus, width)] * np.exp(rng.choice([0.0, 1.0]) * rng.normal(size=width))
    between = interpolate_vol(given[0], tau, moneyness, t, query, extrapolation=options["extrapolation"])
    same(
        between, interpolate_vol(vol, tau, moneyness, t, query, extrapolation=options["extrapolation"]), "interpolation"
    )
    if not np.isfinite(between).all():
        raise AssertionError("interpolate_vol of sound surfaces is not finite")
    if vol.size:
        bad = vol.copy()
        bad.flat[rng.integers(vol.size)] = rng.choice([np.nan, 0.0, -0.0, -1.0, np.inf, -np.inf])
        if not refused(lambda: run([laid_out(rng, bad), *given[1:]])):
            raise AssertionError("a vol that is no positive number slipped through revaluation.price")
    return vol.size + 5 * width, [*results, total, between]


KERNELS: dict[str, Callable[[np.random.Generator, int], Run]] = {
    "black": fuzz_black,
    "implied_vol": fuzz_implied_vol,
    "svi": fuzz_svi,
    "ssvi": fuzz_ssvi,
    "penalty": fuzz_penalty,
    "revalue": fuzz_revalue,
}


def fuzz(name: str, inputs: int, seed: int) -> tuple[int, str]:
    """Feed one kernel some number of inputs; return that number and a digest of all results."""
    digest, done, case = hashlib.sha256(), 0, 0
    while done < inputs:
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), case])
        try:
            used, results = KERNELS[name](rng, min(2_000, max((inputs - done) // 8, 8)))
        except Exception as error:
            error.add_note(f"kernel {name}, seed {seed}, case {case}, instruction set {_core.simd_level()}")
            raise
        for result in results:
            digest.update(np.ascontiguousarray(result).tobytes())
        done, case = done + max(used, 1), case + 1
    return done, digest.hexdigest()


def one_level(options: argparse.Namespace) -> None:
    """Run all kernels in this process, at its instruction set; a line of each for the parent."""
    names = options.only or list(KERNELS)
    for name in names:
        start = time.process_time()
        # Overflow and invalid operations are what the numbers are for.
        with np.errstate(all="ignore"):
            done, digest = fuzz(name, int(options.inputs) // len(names), options.seed)
        print(f"{_core.simd_level():9} {name:14} {done:10} inputs {time.process_time() - start:7.1f} s  {digest[:16]}")
        sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--inputs", type=float, default=1e7, help="numbers at each instruction set, all kernels together"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=sorted(KERNELS), help="kernels to run")
    parser.add_argument("--here", action="store_true", help="in this process and at its instruction set alone")
    options = parser.parse_args()
    if options.here:
        one_level(options)
        return 0
    levels = ["baseline", "avx2", "avx512"]
    digests: dict[str, set[str]] = {}
    for level in levels[: levels.index(_core.simd_level()) + 1]:
        command = [sys.executable, __file__, "--here", *sys.argv[1:]]
        done = subprocess.run(
            command, env={**os.environ, "VOLSCEN_SIMD": level}, stdout=subprocess.PIPE, text=True, check=False
        )
        print(done.stdout, end="", flush=True)
        if done.returncode != 0:
            return done.returncode if done.returncode > 0 else 1
        for line in done.stdout.splitlines():
            digests.setdefault(line.split()[1], set()).add(line.split()[-1])
    differing = [name for name, seen in digests.items() if len(seen) > 1]
    if differing:
        print(f"results differ between instruction sets: {', '.join(differing)}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())

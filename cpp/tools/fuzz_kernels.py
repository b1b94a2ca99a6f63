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

import numpy as np
from fuzz_inputs import Array, Run, laid_out, numbers, same, some_shape
from fuzz_surfaces import fuzz_penalty, fuzz_projection, fuzz_revaluation, fuzz_revalue, fuzz_ssvi, fuzz_svi

from volscen import _core, american, bachelier, black


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


def fuzz_bachelier(rng: np.random.Generator, size: int) -> Run:
    dense, given, shape = option_operands(rng, size)
    f, k, t, _, call, df = dense
    value = bachelier.price(*given, num_threads=int(rng.integers(1, 4)))
    same(value, bachelier.price(*(np.array(x) for x in dense)), "bachelier.price")
    with np.errstate(all="ignore"):
        intrinsic = df * np.maximum(np.where(call, f - k, k - f), 0)
        near = np.asarray(value) * (1 + rng.integers(-4, 5, shape) * 2.0**-52)
        wild = numbers(rng, shape, 0.3, 300.0)
        price = np.choose(rng.integers(0, 4, shape), [wild, np.asarray(value), near, intrinsic + wild])
    operands = [price, f, k, t, call, df]
    vol, status = bachelier.implied_vol(
        laid_out(rng, price), given[0], given[1], given[2], given[4], given[5], num_threads=int(rng.integers(1, 4))
    )
    again = bachelier.implied_vol(*(np.array(x) for x in operands))
    same(vol, again[0], "bachelier.implied_vol")
    same(status, again[1], "the status of bachelier.implied_vol")
    wrong = ((status == 0) | (status == 1)) != (np.isfinite(vol) & (np.asarray(vol) >= 0))
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0])
        raise AssertionError(
            f"bachelier.implied_vol gives {vol[at]} with status {status[at]} at {[x[at].item() for x in operands]}"
        )
    return 12 * int(np.prod(shape)), [np.asarray(value), np.asarray(vol), np.asarray(status)]


def fuzz_american(rng: np.random.Generator, size: int) -> Run:
    dense, given, shape = option_operands(rng, max(size // 20, 8))
    spot, k, t, v, call, _ = dense
    rates = [np.where(rng.random(shape) < 0.9, rng.uniform(-0.1, 0.2, shape), numbers(rng, shape, 0.3)) for _ in "rq"]
    rate, yields = (laid_out(rng, x) for x in rates)
    value = american.price(*given[:5], rate, yields, num_threads=int(rng.integers(1, 4)))
    same(value, american.price(spot, k, t, v, call, *rates), "american.price")
    premium = american.early_exercise_premium(*given[:5], rate, yields)
    if not np.array_equal(np.isnan(value), np.isnan(premium)):
        raise AssertionError("american.price and its premium are not defined together")
    wild = numbers(rng, shape, 0.3, 300.0)
    price = np.where(rng.random(shape) < 0.5, wild, np.asarray(value))
    operands = [price, spot, k, t, call, *rates]
    vol, status = american.implied_vol(
        laid_out(rng, price), given[0], given[1], given[2], given[4], rate, yields, num_threads=int(rng.integers(1, 4))
    )
    again = american.implied_vol(*(np.array(x) for x in operands))
    same(vol, again[0], "american.implied_vol")
    same(status, again[1], "the status of american.implied_vol")
    wrong = ((status == 0) | (status == 1)) != (np.isfinite(vol) & (np.asarray(vol) >= 0))
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0])
        raise AssertionError(
            f"american.implied_vol gives {vol[at]} with status {status[at]} at {[x[at].item() for x in operands]}"
        )
    # An evaluation solves for a boundary, which takes as long as a hundred simple prices.
    return 250 * int(np.prod(shape)), [np.asarray(value), np.asarray(premium), np.asarray(vol), np.asarray(status)]


def fuzz_total_vol(rng: np.random.Generator, size: int) -> Run:
    shape = some_shape(rng, size)
    x = numbers(rng, shape, 0.1) * rng.choice([-1, 1], shape)
    beta = numbers(rng, shape, 0.3, 16.0)
    call = rng.random(shape) < 0.5
    total, status = black.implied_total_vol(
        laid_out(rng, beta), laid_out(rng, x), laid_out(rng, call), num_threads=int(rng.integers(1, 4))
    )
    again = black.implied_total_vol(beta, x, call)
    same(total, again[0], "implied_total_vol")
    same(status, again[1], "the status of implied_total_vol")
    wrong = ((status == 0) | (status == 1)) != (np.isfinite(total) & (np.asarray(total) >= 0))
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0])
        raise AssertionError(
            f"implied_total_vol gives {total[at]} with status {status[at]} at {[y[at].item() for y in (beta, x, call)]}"
        )
    return 3 * int(np.prod(shape)), [np.asarray(total), np.asarray(status)]


KERNELS: dict[str, Callable[[np.random.Generator, int], Run]] = {
    "black": fuzz_black,
    "implied_vol": fuzz_implied_vol,
    "total_vol": fuzz_total_vol,
    "bachelier": fuzz_bachelier,
    "american": fuzz_american,
    "svi": fuzz_svi,
    "ssvi": fuzz_ssvi,
    "penalty": fuzz_penalty,
    "projection": fuzz_projection,
    "revaluation": fuzz_revaluation,
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

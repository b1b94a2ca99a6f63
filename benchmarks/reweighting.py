"""Entropy pooling of 10,000 scenarios under 10 views, beside its peers; arbitrage weights and resampling.

    python benchmarks/reweighting.py

The peers solve the same dual problem with general-purpose minimisers: fortitudo.tech (its own settings) where it is
installed, and SciPy's L-BFGS-B and trust-exact on the dual written here. Results are checked before anything is timed:
every view within 1e-7 standard deviations and the conditions of optimality; of the peers the error is printed. One
thread for all.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

import pagetables
import volscen
from volscen import views
from volscen.views._linear import divergence, tilt

N = 10_000
REPEATS = 15
#: Of the page's table, and of the table of times in docs/results.md.
HEADER = ["10,000 scenarios", "ms"]
LABELS = {
    "volscen": "ten views: volscen",
    "scipy trust-exact": "the same by SciPy's trust-exact",
    "scipy L-BFGS-B": "the same by SciPy's L-BFGS-B",
    "fortitudo.tech TNC": "the same by fortitudo.tech, TNC",
    "fortitudo.tech L-BFGS-B": "the same by fortitudo.tech, L-BFGS-B",
    "mean": "`entropy_pool`: a mean",
    "mean, two std, correlation": "`entropy_pool`: a mean, two standard deviations, a correlation",
    "expected shortfall of a book": "`entropy_pool`: the expected shortfall of a book",
}
SPEED = ["job", "volscen", "beside it, same run"]


def best(job: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Smallest CPU seconds of several runs, after one to warm up."""
    job()
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        job()
        seconds.append(time.process_time() - started)
    return min(seconds)


def problem() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ten moments of a five-day cube and what is believed of them: four means, four second moments, two products."""
    cube = volscen.generate(n_scenarios=N, horizon=5, seed=1)
    x = np.stack(
        [
            q.values(cube)
            for q in (views.total_log_return(), views.atm_vol(30 / 365), views.atm_vol(1.0), views.skew(91 / 365))
        ]
    )
    x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    rows = np.concatenate([x, x * x, [x[0] * x[1], x[1] * x[3]]])
    p = np.full(N, 1 / N)
    shift = np.array([-0.3, 0.3, 0.2, 0.1])
    target = rows @ p
    target[:4] = shift
    target[4:8] = np.array([1.3, 1.2, 0.9, 1.0]) + shift**2
    target[8:] += 0.1
    return p, rows, target


def error(w: np.ndarray, rows: np.ndarray, target: np.ndarray) -> float:
    """Largest distance of a view from its target, in standard deviations."""
    return float(np.max(np.abs(rows @ w - target) / rows.std(axis=1)))


def scipy_dual(p: np.ndarray, rows: np.ndarray, target: np.ndarray, method: str) -> np.ndarray:
    """Weights from the dual by one of SciPy's minimisers, as tight as it goes."""
    z = rows - target[:, None]

    def parts(theta: np.ndarray) -> tuple[float, np.ndarray]:
        exponent = theta @ z
        top = exponent.max()
        w = p * np.exp(exponent - top)
        total = w.sum()
        return top + np.log(total), w / total

    def value(theta: np.ndarray) -> tuple[float, np.ndarray]:
        f, w = parts(theta)
        return f, z @ w

    def hessian(theta: np.ndarray) -> np.ndarray:
        w = parts(theta)[1]
        mean = z @ w
        return (z * w) @ z.T - np.outer(mean, mean)

    options: dict[str, Any] = {"gtol": 1e-9, "maxiter": 1000}
    if method == "L-BFGS-B":
        options |= {"ftol": 1e-16}
    extra = {"hess": hessian} if method == "trust-exact" else {}
    result = minimize(value, np.zeros(len(rows)), jac=True, method=method, options=options, **extra)
    return parts(result.x)[1]


def peers(p: np.ndarray, rows: np.ndarray, target: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """Name and solver of everything the problem is put to."""
    found: dict[str, Callable[[], np.ndarray]] = {
        "volscen": lambda: tilt(p, rows, target, target).weight,
        "scipy L-BFGS-B": lambda: scipy_dual(p, rows, target, "L-BFGS-B"),
        "scipy trust-exact": lambda: scipy_dual(p, rows, target, "trust-exact"),
    }
    try:
        import fortitudo.tech as ft
    except ImportError:
        print("fortitudo.tech is not installed (pip install fortitudo.tech); its rows are left out")
        return found
    a = np.vstack([np.ones(N), rows])
    b = np.concatenate([[1.0], target])[:, None]
    for method in ("TNC", "L-BFGS-B"):
        found[f"fortitudo.tech {method}"] = lambda method=method: ft.entropy_pooling(p[:, None], a, b, method=method)[
            :, 0
        ]
    return found


def main() -> None:
    """Check, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    pagetables.add_options(parser)
    needs = ["fortitudo.tech"]
    pieces = {"speed": [SPEED], "solvers": [HEADER]}
    pages = pagetables.Pages(parser.parse_args(), pieces, kind="timing", minutes=1, needs=needs)
    warnings.simplefilter("ignore")
    p, rows, target = problem()
    found = tilt(p, rows, target, target)
    assert error(found.weight, rows, target) < 1e-7
    left = np.log(found.weight / p) - found.multiplier @ rows
    assert np.ptp(left) < 1e-8  # ln(w/p) is affine in the views: the condition of optimality

    print(f"{N:,} scenarios, 10 equality views; CPU ms, smallest of {REPEATS}")
    print(f"  {'solver':<26}{'ms':>9}{'largest error of a view':>26}{'KL - optimum':>15}")
    optimum = divergence(found.weight, p)
    took, off = dict[str, float](), dict[str, float]()
    for name, solve in peers(p, rows, target).items():
        w = solve()
        took[name], off[name] = 1e3 * best(solve), error(w, rows, target)
        print(f"  {name:<26}{took[name]:>9.2f}{off[name]:>26.1e}{divergence(w / w.sum(), p) - optimum:>15.1e}")

    cube = volscen.generate(n_scenarios=N, horizon=5, seed=1)
    ret, vol = views.total_log_return(), views.atm_vol(91 / 365)
    book = volscen.Portfolio.straddle(moneyness=1.0, tau=0.25)
    level = float(vol.values(cube).mean())
    wanted = {
        "mean": [views.mean(vol, equals=level + 0.005)],
        "mean, two std, correlation": [
            views.mean(vol, equals=level + 0.005),
            views.std(ret, equals=0.014),
            views.std(vol, equals=0.007),
            views.correlation(ret, vol, equals=-0.6),
        ],
        "expected shortfall of a book": [views.expected_shortfall(views.profit(book), 0.05, equals=0.6)],
    }
    print("the verbs, quantities included")
    for name, belief in wanted.items():
        pooled = volscen.entropy_pool(cube, belief)
        assert views.compare(cube, pooled, belief).met.all()
        seconds = best(lambda belief=belief: volscen.entropy_pool(cube, belief), 7)
        took[name] = 1e3 * seconds
        print(f"  {'entropy_pool: ' + name:<46}{1e3 * seconds:>9.2f} ms, ESS/N {pooled.attrs['ess_fraction']:.2f}")
    penalty = np.random.default_rng(0).exponential(0.01, (N, 5))
    cube["arbitrage_penalty"] = (("scenario", "step"), penalty)
    weighted = volscen.reweight(cube)
    assert weighted.weight.values @ penalty.sum(axis=1) < penalty.sum(axis=1).mean()
    print(f"  {'reweight, beta auto':<46}{1e3 * best(lambda: volscen.reweight(cube), 7):>9.2f} ms")
    print(f"  {'reweight, kl_limit':<46}{1e3 * best(lambda: volscen.reweight(cube, kl_limit=0.3), 7):>9.2f} ms")
    print(f"  {'resample':<46}{1e3 * best(lambda: volscen.resample(weighted), 7):>9.2f} ms")
    peer = "fortitudo.tech TNC"  # what it does unless told otherwise
    if peer in took:
        row = [f"entropy pooling, {N:,} scenarios under 10 views, one thread",
               f"{took['volscen']:.1f} ms, views met to {_rounded(off['volscen'])}",
               f"fortitudo.tech: {took[peer]:.1f} ms, to {_rounded(off[peer])}; SciPy trust-exact: "
               f"{took['scipy trust-exact']:.1f} ms"]  # fmt: skip
        pages.add("speed", pagetables.table(SPEED, [row]))
        shown = {name: f"{took[name]:.1f}" if took[name] < 5 else f"{took[name]:.0f}" for name in LABELS}
        pages.add("solvers", pagetables.table(HEADER, [[LABELS[name], text] for name, text in shown.items()]))
        pages.write()


def _rounded(value: float) -> str:
    """One digit and its power of ten."""
    return f"{value:.0e}".replace("e-0", "e-")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()

"""Speed of hedge ratios over many instruments, beside scikit-learn doing the same naive job in the same run.

    python benchmarks/hedging_speed.py [--instruments 200] [--scenarios 10000] [--repeats 5]

Every answer is checked before it is timed: least squares by its error against scikit-learn's, the ridge against least
squares with observations of noise added to the scenarios, LASSO's refit against scikit-learn on its selection. The
first rows time the solvers alone, on changes in value that both sides are given; the last ones volscen.hedge as a
user calls it, revaluation included. Least of several repeats, CPU time on all threads and wall time.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.linear_model import LassoCV, LinearRegression, Ridge

import volscen
from volscen import Option, Portfolio, Underlying
from volscen.hedging import HedgeWarning
from volscen.hedging._base import HedgeOptions, HedgeProblem
from volscen.hedging._lasso import FOLDS, PATH_END, PATH_SIZE, lasso
from volscen.hedging._problem import Valued
from volscen.hedging._regression import regression
from volscen.hedging._ridge import ridge
from volscen.portfolio._contracts import one_date


def timed(work: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Least CPU and wall seconds of some calls."""
    cpu, wall = [], []
    for _ in range(repeats):
        c, w = time.process_time(), time.perf_counter()
        work()
        cpu.append(time.process_time() - c)
        wall.append(time.perf_counter() - w)
    return min(cpu), min(wall)


def instruments(count: int) -> list[Any]:
    """The underlying and a chain of out-of-the-money options."""
    days = (35, 47, 61, 75, 91, 122, 152, 182, 273, 330)
    strikes = np.linspace(0.8, 1.2, max(2, -(-(count - 1) // len(days))))
    chain = [Option("call" if m >= 1 else "put", moneyness=float(m), tau=d / 365) for d in days for m in strikes]
    return [Underlying(), *chain[: count - 1]]


def check(problem: HedgeProblem, noise: np.ndarray, alpha: float) -> None:
    """Refuse to time what is wrong."""
    x, y, w = problem.instrument_change, problem.portfolio_change, problem.weight
    n = x.shape[1]
    fit = regression(problem, HedgeOptions.of(n))
    reference = LinearRegression().fit(x, y, sample_weight=w)
    mine, other = y - x @ fit.ratio - fit.constant, y - reference.predict(x)
    assert w @ mine**2 <= (w @ other**2) * (1 + 1e-6), "least squares"

    found = ridge(problem, HedgeOptions.of(n, noise=noise))
    root = np.sqrt(w)
    rows = np.vstack([np.column_stack([root, x * root[:, None]]), np.column_stack([np.zeros(n), np.diag(noise)])])
    expected = np.linalg.lstsq(rows, np.append(root * y, np.zeros(n)), rcond=1e-15)[0]
    np.testing.assert_allclose(found.ratio, expected[1:], rtol=1e-6, atol=1e-8)

    chosen = lasso(problem, HedgeOptions.of(n, alpha=alpha))
    assert 0 < chosen.selected.sum() < n, "selection"
    # Standardised: of raw changes scikit-learn drops the nearly worthless options as roundings.
    kept = (x[:, chosen.selected] - w @ x[:, chosen.selected]) / x[:, chosen.selected].std(axis=0)
    refit = LinearRegression().fit(kept, y, sample_weight=w)
    np.testing.assert_allclose(x @ chosen.ratio + chosen.constant, refit.predict(kept), atol=1e-6 * y.std())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instruments", type=int, default=200)
    parser.add_argument("--scenarios", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", HedgeWarning)

    cube = volscen.generate(n_scenarios=arguments.scenarios, seed=1)
    book, hedging = Portfolio.straddle(moneyness=1.0, tau=100 / 365), instruments(arguments.instruments)
    settings = {"step": None, "elapsed_days": None, "extrapolation": "flat_vol", "num_threads": None}
    problem = Valued(one_date(cube), book, hedging, **settings).problem
    x, y, w = problem.instrument_change, problem.portfolio_change, problem.weight
    noise = np.where(problem.traded.is_option, np.maximum(0.002 * problem.traded.vega, 2e-5 * problem.spot), 0.0)
    check(problem, noise, alpha=0.01)

    n = len(hedging)
    free, noisy = HedgeOptions.of(n), HedgeOptions.of(n, noise=noise)
    scaled = x - w @ x
    scale = np.sqrt(w @ scaled**2)
    scaled /= scale
    target = (y - w @ y) / np.sqrt(w @ (y - w @ y) ** 2)
    penalty = noise / scale

    def naive_ridge() -> None:  # a penalty of each instrument's own: scale it to one, and weigh the scenarios
        Ridge(alpha=1.0).fit(scaled[:, 1:] / penalty[1:], target, sample_weight=w)

    def naive_lasso() -> None:
        LassoCV(cv=FOLDS, eps=PATH_END, alphas=PATH_SIZE).fit(scaled, target, sample_weight=w)

    jobs = [
        ("least squares", lambda: regression(problem, free), lambda: LinearRegression().fit(x, y, sample_weight=w)),
        ("noise ridge", lambda: ridge(problem, noisy), naive_ridge),
        ("LASSO, cross-validated, refitted", lambda: lasso(problem, free), naive_lasso),
    ]
    print(f"{n} instruments, {arguments.scenarios:,} scenarios; milliseconds of CPU (wall), least of several")
    print(f"{'job':<36}{'volscen':>16}{'scikit-learn':>20}{'ratio of CPU':>14}")
    for name, ours, theirs in jobs:
        mine = timed(ours, arguments.repeats)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the peer may fail to converge in its thousand sweeps
            other = timed(theirs, 1 if "LASSO" in name else arguments.repeats)
        cells = [f"{1e3 * cpu:.0f} ({1e3 * wall:.0f})" for cpu, wall in (mine, other)]
        print(f"{name:<36}{cells[0]:>16}{cells[1]:>20}{other[0] / mine[0]:>14.1f}")
    for method in ("regression", "ridge", "lasso"):
        cpu, wall = timed(lambda method=method: volscen.hedge(cube, book, hedging, method=method), arguments.repeats)
        print(f"volscen.hedge(method={method!r})".ljust(36) + f"{1e3 * cpu:.0f} ({1e3 * wall:.0f})".rjust(16))
    held = {"current": 0.0, "half_spread_vol": 0.003, "proportional_cost": 1e-5}
    cpu, wall = timed(lambda: volscen.hedge(cube, book, hedging, method="ridge", **held), arguments.repeats)
    print("the same ridge under costs".ljust(36) + f"{1e3 * cpu:.0f} ({1e3 * wall:.0f})".rjust(16))
    few = hedging[:1] + hedging[1 :: max(1, n // 8)]
    cpu, wall = timed(lambda: volscen.hedge(cube, book, few, method="min-es"), max(1, arguments.repeats // 2))
    print(f"least shortfall, {len(few)} instruments".ljust(36) + f"{1e3 * cpu:.0f} ({1e3 * wall:.0f})".rjust(16))


if __name__ == "__main__":
    main()

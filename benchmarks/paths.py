"""Paths of 21 days beside the paths that markets took: dependence in time, persistence, extremes; and their times.

    python benchmarks/paths.py                                       # simulated market A, with its true law
    VOLSCEN_DATA=/path/to/data python benchmarks/paths.py --markets A,spx_factors,sse50etf

Generators are fitted on the training years and updated to each starting date; starting dates are 21 rows apart, so that
every day of the validation years is in one path. On market A the oracle is the power check: its share inside must be
about the level, and the last table says how often it was over several histories.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr

import pagetables
import volscen
from generators import REAL, load_real
from volscen.evaluation import Oracle, path_structure, path_table
from volscen.generators import Generator
from volscen.sources.simulate import simulate_market

HORIZON = 21
TRAINING_DAYS = 3001
#: Rows of the page's table.
LABELS = {"A": "market A (simulated), 4 years", "spx_factors": "spx_factors 2014-15", "sse50etf": "sse50etf 2021"}
SPEED = "10,000 paths on spx_factors, processor seconds"


def cubes(model: Generator, history: xr.Dataset, dates: np.ndarray, n_scenarios: int) -> Iterator[xr.Dataset]:
    """Scenarios of each date, of the model updated to it."""
    for date in dates:
        model.update(history.sel(date=slice(None, date)))
        yield volscen.generate(
            model, history, as_of=date, n_scenarios=n_scenarios, horizon=HORIZON, seed=1, reweight=None, num_threads=1
        )


def cpu_seconds(model: Generator, history: xr.Dataset, repeats: int = 5) -> float:
    """Least processor time of 10,000 paths on one thread, weights and penalties included."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        volscen.generate(model, history, n_scenarios=10_000, horizon=HORIZON, seed=1, num_threads=1)
        times.append(time.process_time() - started)
    return min(times)


def judge(
    name: str, models: dict[str, Generator], history: xr.Dataset, dates: np.ndarray, arguments: argparse.Namespace
) -> xr.Dataset:
    """Table of one market."""
    found = path_structure(
        history, {label: cubes(model, history, dates, arguments.n_scenarios) for label, model in models.items()}
    )
    table = path_table(found)
    keep = [c for c in table if c in ("data", "low", "high") or str(c).startswith(("model", "p_value"))]
    print(f"\n{name}: {found.attrs['paths']} paths of {HORIZON} days, {dates[0]:.10} to {dates[-1]:.10}")
    print(table[keep].round(3).to_string())
    for label in found["generator"].values.tolist():
        one = found.sel(generator=label)
        outside = [str(f) for f, p in zip(one["figure"].values, one["p_value"].values, strict=True) if p <= 0.05]
        print(f"{label}: {float(one['share_inside']):.0%} inside; outside: {', '.join(outside) or 'none'}")
    return found


def shares(name: str, found: xr.Dataset, arguments: argparse.Namespace) -> list[str]:
    """Row of the page's table: share of figures inside, by generator and of the true law."""
    known = found["generator"].values.tolist()
    inside = [
        f"{float(found['share_inside'].sel(generator=label)):.0%}" if label in known else ""
        for label in [*arguments.generators, "oracle"]
    ]
    return [LABELS[name], str(found.attrs["paths"]), *inside]


def simulated(arguments: argparse.Namespace) -> list[list[str]]:
    """Market A: all generators once, and the oracle on several histories."""
    days = 252 if arguments.quick else 1008
    history = simulate_market("A", TRAINING_DAYS + days + HORIZON, seed=1)
    train = history.isel(date=slice(0, TRAINING_DAYS))
    models: dict[str, Generator] = {name: volscen.fit(train, name) for name in arguments.generators}
    models["oracle"] = Oracle("A").fit(history)
    dates = history["date"].values[TRAINING_DAYS - 1 : TRAINING_DAYS + days : HORIZON]
    whole = judge("market A (simulated)", models, history, dates, arguments)
    p_values = []
    for seed in range(2, 4 if arguments.quick else 12):
        other = simulate_market("A", days + 2 * HORIZON, seed=seed)
        oracle = Oracle("A").fit(other)
        dates = other["date"].values[HORIZON : days + HORIZON - 1 : HORIZON]
        found = path_structure(other, {"oracle": cubes(oracle, other, dates, 250)}, resamples=500)
        p_values.append(found["p_value"].values[0])
    p = np.array(p_values)
    print(
        f"oracle on {len(p)} other histories: {np.mean(p > 0.05):.1%} of figures inside the 95% band, "
        f"{np.mean(p > 0.5):.1%} inside the 50% band"
    )
    return [shares("A", whole, arguments)]


def real(name: str, history: xr.Dataset, arguments: argparse.Namespace) -> list[list[str]]:
    """A real market's validation years, and times."""
    first, last = (np.datetime64(day) for day in REAL[name]["validation"])
    row, end = np.searchsorted(history["date"].values, [first, last + np.timedelta64(1, "D")])
    train = history.isel(date=slice(0, row))
    models: dict[str, Generator] = {label: volscen.fit(train, label) for label in arguments.generators}
    seconds = {label: cpu_seconds(model, train) for label, model in models.items()}
    for label, took in seconds.items():
        print(f"{name}, {label}: {took:.2f} s of CPU for 10,000 paths of {HORIZON} days")
    found = judge(name, models, history, history["date"].values[row - 1 : end - HORIZON : HORIZON], arguments)
    rows = [shares(name, found, arguments)]
    if name == "spx_factors":
        rows.append([SPEED, "", *(f"{took:.2f}" for took in seconds.values()), ""])
    return rows


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markets", default="A", help=f"of A, {', '.join(REAL)}")
    parser.add_argument("--generators", default="bootstrap,fhs,pca,har")
    parser.add_argument("--history", action="append", default=[], metavar="MARKET=FILE", help="a history built before")
    parser.add_argument("-n", "--n-scenarios", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="one year and two histories: a check that it runs")
    pagetables.add_options(parser)
    arguments = parser.parse_args()
    arguments.generators = arguments.generators.split(",")
    header = ["", "paths of data", *arguments.generators, "true law"]
    markets = arguments.markets.split(",")
    market = any(name != "A" for name in markets)
    pages = pagetables.Pages(
        arguments, {"inside": [header]}, kind="timing", minutes=4 * len(markets),
        needs=[pagetables.MARKET_DATA] if market else [],
    )  # fmt: skip
    files = dict(entry.split("=", 1) for entry in arguments.history)
    pd.set_option("display.width", 250)
    rows: list[list[str]] = []
    for name in markets:
        if name == "A":
            rows += simulated(arguments)
        elif name in files:
            rows += real(name, volscen.read(files[name]), arguments)
        else:
            rows += real(name, load_real(name, pagetables.market_data()), arguments)
    rows.sort(key=lambda row: row[0] == SPEED)  # the times are the last row
    pages.add("inside", pagetables.table(header, rows))
    pages.write()


if __name__ == "__main__":
    main()

"""When to hedge: policies through every year since 1998, calibrated only on the days before it.

    VOLSCEN_DATA=/path/to/data python benchmarks/agent.py        # S&P 500 fitted surfaces, 1998 to 2018
    python benchmarks/agent.py --quick                           # the embedded, simulated history

A 95% put of three months is listed every 21 days, repriced daily from the surface, traded with a half-spread of 0.25
vol points or 2% of the vol, whichever is more. At the start of each year the risk signal and the thresholds are taken
from all days before; learned policies are trained, a seed each, on paths that the scaled PCA generator, fitted on those
days, draws from some of them. Each year starts with a wealth of 1. Printed are quantiles over the years, the years that
hold a crisis, and how many years each policy does better than holding.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import pagetables
import volscen
from pagetables import plain
from volscen import agent
from volscen.sources import read_spx_factors

CRISES = (1998, 2001, 2002, 2008, 2011, 2015, 2018)
#: Of the page's tables.
HEADER = ["policy", "return", "volatility", "worst fall", "mean of the worst 5% of days", "hedged", "costs",
          "years that beat holding"]  # fmt: skip
SHOWN = (1998, 2008, 2011, 2015, 2018)
LABELS = {"volatility target": "volatility target of 15%"}


def policies_from(past: xr.Dataset, signal: agent.RiskSignal, arguments: argparse.Namespace) -> dict[str, agent.Policy]:
    """Rules calibrated, and networks trained, on days that are over."""
    risk = signal(past["implied_vol"]).values
    found: dict[str, agent.Policy] = {
        "buy and hold": agent.BuyAndHold(),
        "always hedged": agent.AlwaysHedged(),
        "risk level": agent.RiskLevel.calibrate(risk),
        "risk velocity": agent.RiskVelocity.calibrate(risk),
        "volatility target": agent.VolatilityTarget(),
    }
    model = volscen.fit(past, "pca")
    starts = past["date"].values[260 :: max(1, (past.sizes["date"] - 260) // arguments.starts)]
    markets = [
        agent.option_market(
            volscen.generate(model, past, as_of=day, n_scenarios=arguments.paths, horizon=arguments.horizon, seed=1),
            signal,
        )
        for day in starts
    ]
    pooled = agent.pool_markets(markets)
    for seed in range(arguments.seeds):
        found[f"learned, seed {seed}"] = agent.LearnedPolicy.fit(pooled, iterations=arguments.iterations, seed=seed)
    return found


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=1998, help="first year")
    parser.add_argument("--last", type=int, default=2018, help="last year")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds of the learned policy")
    parser.add_argument("--paths", type=int, default=100, help="simulated paths from each starting day")
    parser.add_argument("--starts", type=int, default=12, help="starting days")
    parser.add_argument("--horizon", type=int, default=42, help="steps of a simulated path")
    parser.add_argument("--iterations", type=int, default=150, help="training steps")
    parser.add_argument("--quick", action="store_true", help="two years of the embedded history, little training")
    pagetables.add_options(parser)
    arguments = parser.parse_args()
    shown = [year for year in SHOWN if arguments.first <= year <= arguments.last and not arguments.quick]
    pieces = {"policies": [HEADER], "crises": [["policy", *map(str, shown)]]}
    pages = pagetables.Pages(
        arguments, pieces, kind="scores", minutes=1 if arguments.quick else 30,
        needs=[] if arguments.quick else [pagetables.MARKET_DATA],
    )  # fmt: skip
    if arguments.quick:
        history = volscen.datasets.sample_history()
        arguments.first, arguments.last, arguments.seeds = 2022, 2023, 1
        arguments.paths, arguments.starts, arguments.iterations = 20, 3, 5
    elif "VOLSCEN_DATA" in os.environ:
        history = read_spx_factors(Path(os.environ["VOLSCEN_DATA"]) / "spx_factors" / "spx_factors_1996_2018.csv")
    else:
        parser.error("set VOLSCEN_DATA to the folder of market data, or give --quick")
    tables: dict[int, xr.Dataset] = {}
    for year in range(arguments.first, arguments.last + 1):
        past = history.sel(date=slice(None, f"{year - 1}-12-31"))
        signal = agent.RiskSignal.fit(past)
        # The last close before the year is the first decision, so that the year's first move counts.
        now = history.isel(date=slice(past.sizes["date"] - 1, None)).sel(date=slice(None, f"{year}-12-31"))
        result = agent.simulate(agent.option_market(now, signal), policies_from(past, signal, arguments))
        # What is never hedged is the index, less its purchase.
        wealth = result.wealth.sel(policy="buy and hold").values[0, [0, -1]]
        np.testing.assert_allclose(wealth[0], now.spot[1] / now.spot[0] - 0.0001, rtol=1e-12)
        np.testing.assert_allclose(wealth[1] / wealth[0], now.spot[-1] / now.spot[1], rtol=1e-6)
        tables[year] = agent.summarise(result, quantiles=[0.5]).isel(quantile=0, drop=True)
        print(f"{year} done", file=sys.stderr, flush=True)
    years = xr.concat(list(tables.values()), dim=pd.Index(list(tables), name="year"))
    show(years)
    for name, text in page_tables(years, shown).items():
        pages.add(name, text)
    pages.write()
    return 0


def page_tables(years: xr.Dataset, shown: list[int]) -> dict[str, str]:
    """Tables of the page: quantiles over the years, and years of crises."""
    hold = years["total_return"].sel(policy="buy and hold")
    rows, crises = [], []
    for policy in years["policy"].values:
        one, cells = years.sel(policy=policy), []
        for name in ("total_return", "annual_vol", "worst_fall", "mean_loss_5"):
            low, middle, high = (plain(100 * q, 1) for q in one[name].quantile([0.05, 0.5, 0.95]).values)
            cells.append(f"{middle} [{low}, {high}]")
        cost = 100 * float(one["total_cost"].mean())
        better = "" if policy == "buy and hold" else str(int((one["total_return"] > hold).sum()))
        label = LABELS.get(policy, str(policy))
        hedged = f"{100 * float(one['share_hedged'].mean()):.0f}"
        rows.append([label, *cells, hedged, plain(cost, 1) if cost else "0", better])
        of_year = [
            [plain(100 * float(one[name].sel(year=year)), 1) for name in ("total_return", "worst_fall")]
            for year in shown
        ]
        crises.append([label, *(" / ".join(pair) for pair in of_year)])
    return {
        "policies": pagetables.table(HEADER, rows),
        "crises": pagetables.table(["policy", *map(str, shown)], crises),
    }


def show(years: xr.Dataset) -> None:
    """Print quantiles over the years, and the years of crises."""
    n = years.sizes["year"]
    print(f"{n} years; median [5%, 95%] over them, in percent; hedged, costs: mean; better: years that beat holding")
    heads = ("return", "volatility", "worst fall", "worst 5% of days")
    print(f"{'policy':20} " + " ".join(f"{head:>20}" for head in heads) + f" {'hedged':>7} {'costs':>6} {'better':>7}")
    hold = years["total_return"].sel(policy="buy and hold")
    for policy in years["policy"].values:
        one = years.sel(policy=policy)
        cells = []
        for name in ("total_return", "annual_vol", "worst_fall", "mean_loss_5"):
            low, middle, high = 100 * one[name].quantile([0.05, 0.5, 0.95]).values
            cells.append(f"{middle:5.1f} [{low:5.1f}, {high:5.1f}]")
        better = int((one["total_return"] > hold).sum())
        hedged, cost = 100 * float(one["share_hedged"].mean()), 100 * float(one["total_cost"].mean())
        line = " ".join(f"{cell:>20}" for cell in cells)
        print(f"{policy:20} {line} {hedged:7.0f} {cost:6.1f} {better:4d}/{n}")
    shown = [year for year in CRISES if year in years["year"].values]
    if shown:
        print("\nreturn / worst fall of the year, percent")
        print(f"{'policy':20} " + " ".join(f"{year:>13}" for year in shown))
        for policy in years["policy"].values:
            one = years.sel(policy=policy)
            print(
                f"{policy:20} "
                + " ".join(
                    f"{100 * float(one.total_return.sel(year=y)):6.1f}/{100 * float(one.worst_fall.sel(year=y)):6.1f}"
                    for y in shown
                )
            )


if __name__ == "__main__":
    raise SystemExit(main())

"""The whole way on real markets: build histories, fit on the past, score and hedge the days that followed.

    VOLSCEN_DATA=/path/to/data python benchmarks/end_to_end.py [--quick] [--json results.json]

``sse50etf``: history from real closing quotes, fitted to 2020, validated on 2021, tested on 2022.
``spx_factors``: fitted surfaces, trained to 2013, tested on 2016-18. Every generator is scored one day ahead,
1,000 scenarios a day.
The test days are scored once, with the settings below; nothing is chosen on them.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import pagetables
import volscen
from hedging_backtest import hedge_spx, hedge_sse
from pagetables import plain
from volscen.evaluation import format_table, judge, table, walk_forward
from volscen.sources import read_spx_factors, read_table

SSE_TAU = np.array([30, 60, 91, 122, 152]) / 365
SSE_MONEYNESS = np.exp(np.linspace(-0.10, 0.10, 9))
GENERATORS = ("bootstrap", "fhs", "pca", "har", "volgan")
#: Days between two updates in the walk forward: what is cheap learns every day, PCA renews its residuals every
#: month, VolGAN has nothing to update. Nothing is refitted.
UPDATE_EVERY = {"bootstrap": 1, "fhs": 1, "pca": 21, "har": 1}

#: Of the README's tables.
HEADER = ["generator", "ES", "skill", "coverage 90%", "worst cell at 95%", "Phi raw", "Phi weighted", "least ESS/N"]
LABELS = {
    "bootstrap": "historical simulation (`bootstrap`)",
    "fhs": "filtered historical simulation (`fhs`, EWMA)",
    "pca": "scaled PCA (`pca`)",
    "har": "robust HAR (`har`, the default)",
    "volgan": "VolGAN, as published, {epochs:,} epochs",
}


@dataclass(frozen=True)
class Market:
    """A history and the dates that split it."""

    name: str
    history: xr.Dataset
    train_end: str  # first date not trained on
    periods: dict[str, tuple[str, str]]  # validation and test, first and last realised date


def load_sse(data: Path) -> tuple[Market, pd.DataFrame]:
    """Build the history from quotes and print what was kept, dropped and fitted."""
    started = time.perf_counter()
    quotes, dropped = read_table(
        data / "sse50etf" / "sse50etf_options_2015_2022.parquet",
        columns={"price": "close", "option_type": "type"},
    )
    history, report = volscen.build_history(quotes, tau=SSE_TAU, moneyness=SSE_MONEYNESS, calendar="XSHG")
    elapsed = time.perf_counter() - started
    kept = report["status"] == "kept"
    print(f"\nsse50etf history: {len(report):,} days, {kept.sum():,} kept, in {elapsed:.0f} s")
    for reason, count in report.loc[~kept, "reason"].value_counts().items():
        print(f"  {count:>5,} dropped: {reason}")
    for reason, count in dropped[dropped > 0].items():
        print(f"  {count:>5,} quotes dropped on reading: {reason}")
    rmse = 100 * report.loc[kept, "fit_rmse"]
    penalty = volscen.arbitrage.penalty(history["implied_vol"].values, SSE_TAU, SSE_MONEYNESS)
    print(
        f"  fit error against quotes: median {rmse.median():.3f}, 95th percentile {rmse.quantile(0.95):.3f} vol points"
    )
    print(f"  surfaces free of static arbitrage (penalty < 1e-9): {np.mean(penalty < 1e-9):.1%}")
    market = Market(
        "sse50etf",
        history,
        "2021-01-01",
        {"validation": ("2021-01-01", "2021-12-31"), "test": ("2022-01-01", "2022-12-31")},
    )
    return market, quotes


def load_spx(data: Path) -> Market:
    """Surfaces from the five daily factors."""
    history = read_spx_factors(data / "spx_factors" / "spx_factors_1996_2018.csv")
    periods = {"validation": ("2014-01-01", "2015-12-31"), "test": ("2016-01-01", "2018-12-31")}
    return Market("spx_factors", history, "2014-01-01", periods)


def fit_all(market: Market, epochs: int, models: Path | None) -> dict[str, volscen.generators.Generator]:
    """Fit every generator on the training days; VolGAN besides chooses its epoch on the validation days."""
    dates = market.history["date"].values
    fitted = {}
    for name in GENERATORS:
        stored = models / f"{market.name}_{name}_{epochs}.safetensors" if models else None
        started = time.perf_counter()
        if stored is not None and stored.exists():
            fitted[name] = volscen.load(stored)
        else:
            last, options = market.train_end, {}
            if name == "volgan":
                last = market.periods["test"][0]
                held_out = int(np.sum((dates >= np.datetime64(market.train_end)) & (dates < np.datetime64(last))))
                options = {"epochs": epochs, "seed": 0, "validation_days": held_out}
            fitted[name] = volscen.fit(market.history.isel(date=dates < np.datetime64(last)), name, **options)
            if stored is not None:
                fitted[name].save(stored)
        print(f"  {market.name}: {name} ready in {time.perf_counter() - started:.1f} s", flush=True)
    return fitted


def score_all(market: Market, fitted: dict[str, Any], period: str, n_scenarios: int) -> dict[str, dict[str, Any]]:
    """Score every generator on one period and print a table, weighted and raw side by side."""
    first, last = market.periods[period]
    days = {}
    for name, model in fitted.items():
        if name == "volgan" and period == "validation":
            continue  # its epoch was chosen there
        days[name] = walk_forward(
            model, market.history, first=first, last=last, train_end=market.train_end, n_scenarios=n_scenarios,
            refit_every=None, update_every=UPDATE_EVERY.get(name),
        )  # fmt: skip
    frame = table(judge(days, baseline="bootstrap"))
    count = days["bootstrap"].sizes["date"]
    print(f"\n{market.name}, {period} {first[:4]}-{last[:4]}, {count} days, {n_scenarios} scenarios a day")
    print(format_table(frame))
    return {f"{name} {arm}": row.to_dict() for (name, arm), row in frame.iterrows()}


def page_rows(scores: dict[str, dict[str, Any]], epochs: int) -> list[list[str]]:
    """Rows of the README: unweighted scores, penalties before and after weighting; the best in bold."""
    rows = []
    least = min(row["energy_score"] for name, row in scores.items() if name.endswith(" raw"))
    for name in GENERATORS:
        raw, weighted = scores[f"{name} raw"], scores[f"{name} weighted"]
        skill = f"{100 * raw['skill']:.1f}%" if name != "bootstrap" else "0"
        best = [LABELS[name].format(epochs=epochs), f"{raw['energy_score']:.3f}", skill]
        if raw["energy_score"] == least:
            best = [f"**{text}**" for text in best]
        phi = [f"{one['penalty']:.1e}".replace("e-0", "e-") for one in (raw, weighted)]
        cells = [plain(raw["coverage_90"], 3), f"off by {plain(raw['worst_cell_95'], 3)}", *phi]
        rows.append([*best, *cells, plain(weighted["ess"], 2)])
    return rows


def main() -> None:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few epochs and scenarios: a check that it runs")
    parser.add_argument("--epochs", type=int, default=10_000, help="VolGAN's training epochs")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--models", type=Path, help="folder to keep fitted models in, and to reuse them from")
    parser.add_argument("--markets", default="sse50etf,spx_factors")
    pagetables.add_options(parser)
    arguments = parser.parse_args()
    names = arguments.markets.split(",")
    pages = pagetables.Pages(
        arguments, {name: [HEADER] for name in names}, kind="scores", minutes=45 * len(names),
        needs=[pagetables.MARKET_DATA],
    )  # fmt: skip
    data = pagetables.market_data()
    epochs, n_scenarios = (20, 200) if arguments.quick else (arguments.epochs, 1000)
    if arguments.models:
        arguments.models.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    for name in names:
        market, quotes = load_sse(data) if name == "sse50etf" else (load_spx(data), None)
        fitted = fit_all(market, epochs, arguments.models)
        results[name] = {period: score_all(market, fitted, period, n_scenarios) for period in market.periods}
        pages.add(name, pagetables.table(HEADER, page_rows(results[name]["test"], epochs)))
        first, last = market.periods["test"]
        if quotes is not None:
            results[name]["hedging"] = hedge_sse(market.history, quotes, fitted, first, last, n_scenarios)
        else:
            results[name]["hedging"] = hedge_spx(market.history, fitted, first, last, n_scenarios, data)
    pages.write()
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
        print(f"wrote {arguments.json}")


if __name__ == "__main__":
    main()

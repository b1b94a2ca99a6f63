"""One table for every market: all generators judged out of sample, weighted and raw.

    python benchmarks/generators.py                                 # simulated markets A, B and C
    VOLSCEN_DATA=/path/to/data python benchmarks/generators.py --markets spx_factors,sse50etf --period validation

Simulated markets: fitted once on 4,001 days, scored on the days that follow; skill is 0 for historical simulation and
1 for the true law, which is known. One simulated history for each seed, the worst of them printed.
Real markets: fitted on the past at the first date of every year, updated daily; skill is against historical
simulation on all days known. Choose on the validation years; the test years are for looking once.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import pagetables
import volscen
from volscen.evaluation import evaluate, format_table, table, write_evaluation
from volscen.sources import read_spx_factors, read_table
from volscen.sources.simulate import MARKETS, simulate_market

TRAINING_DAYS = 4001
TEST_DAYS = {"A": 750, "B": 500, "C": 200}
#: Energy scores of one simulated history of an independent implementation of the same markets.
REFERENCE = {"A": {"oracle": 4.342, "bootstrap": 4.535}, "B": {"oracle": 5.326, "bootstrap": 5.827}}
#: Skill of a PCA-VAR with scaled, bootstrapped residuals in the same place.
REFERENCE_SKILL = {"A": 0.74, "B": 0.17}
REAL: dict[str, dict[str, tuple[str, str]]] = {
    "spx_factors": {"validation": ("2014-01-01", "2015-12-31"), "test": ("2016-01-01", "2018-12-31")},
    "sse50etf": {"validation": ("2021-01-01", "2021-12-31"), "test": ("2022-01-01", "2022-12-31")},
}
SSE_TAU = np.array([30, 60, 91, 122, 152]) / 365
SSE_MONEYNESS = np.exp(np.linspace(-0.10, 0.10, 9))
#: Relatives of the statistical generators, by the label that ``--generators`` takes; ``statistical`` stands for all.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bootstrap-500": ("bootstrap", {"window": 500}),
    "bootstrap-halflife": ("bootstrap", {"half_life": 500}),
    "fhs-garch": ("fhs", {"scale": "garch"}),
    "pca-gaussian": ("pca", {"scale": "constant", "residuals": "gaussian"}),
    "pca-constant": ("pca", {"scale": "constant"}),
    "pca-t": ("pca", {"residuals": "t"}),
    "pca-ewma": ("pca", {"filter": "ewma"}),
    "pca-garch": ("pca", {"filter": "garch"}),
    "residual_net-pca": ("residual_net", {"base": "pca"}),
    "pca-garch-constant": ("pca", {"scale": "constant", "filter": "garch"}),
    "sabr-ewma": ("sabr", {"filter": "ewma"}),
    "heston-ewma": ("heston", {"filter": "ewma"}),
}
STATISTICAL = ("bootstrap", "bootstrap-500", "bootstrap-halflife", "fhs", "fhs-garch", "pca-gaussian", "pca-constant",
               "pca-t", "pca", "pca-ewma", "pca-garch", "pca-garch-constant", "sabr", "sabr-ewma", "heston",
               "heston-ewma")  # fmt: skip
#: Columns and rows of the page's table.
PERIODS = {
    ("spx_factors", "validation"): "spx_factors 2014-15",
    ("spx_factors", "test"): "2016-18",
    ("sse50etf", "validation"): "sse50etf 2021",
    ("sse50etf", "test"): "2022",
}
LABELS = {
    "bootstrap-500": "`bootstrap`, `window=500`",
    "bootstrap-halflife": "`bootstrap`, `half_life=500`",
    "fhs-garch": '`fhs`, `scale="garch"`',
    "pca-gaussian": "`pca`, Gaussian PCA-VAR",
    "pca-constant": "`pca`, unscaled bootstrap",
    "pca-t": '`pca`, `residuals="t"`',
    "pca-ewma": '`pca`, `filter="ewma"`',
    "pca-garch": '`pca`, `filter="garch"`',
    "pca-garch-constant": '`pca`, unscaled, `filter="garch"`',
    "sabr-ewma": '`sabr`, `filter="ewma"`',
    "heston-ewma": '`heston`, `filter="ewma"`',
}


def page_table(frames: dict[str, pd.DataFrame], generators: dict[str, Any], header: list[str]) -> str:
    """Skill in percent of unweighted scenarios, with the t of the difference, by market."""
    rows = []
    for label in generators:
        cells = []
        for frame in frames.values():
            row = frame.loc[(label, "raw")]
            # "0.0" and not "-0.0"
            skill, t = (f"{value:.1f}".replace("-0.0", "0.0") for value in (100 * row["skill"], row["dm_t"]))
            cells.append("0" if label == "bootstrap" else f"{skill} [{t}]")
        rows.append([LABELS.get(label, f"`{label}`"), *cells])
    return pagetables.table(header, rows)


def candidates(names: str) -> dict[str, str | tuple[str, dict[str, Any]]]:
    """Label -> generator, with options where the label is a variant's."""
    labels = [label for name in names.split(",") for label in (STATISTICAL if name == "statistical" else [name])]
    return {label: VARIANTS.get(label, label) for label in labels}


def judge_simulated(name: str, arguments: argparse.Namespace) -> xr.Dataset:
    """Figures of all generators on simulated histories of one market."""
    test_days = 20 if arguments.quick else TEST_DAYS.get(name, 500)
    found = []
    for seed in arguments.seeds:
        history = simulate_market(name, TRAINING_DAYS + test_days, seed=seed)
        dates = history["date"].values
        one = evaluate(
            arguments.generators, history, first=dates[TRAINING_DAYS], last=dates[-1], oracle=name, seeds=(seed,),
            refit_every=None, update_every=None, n_scenarios=arguments.n_scenarios, num_workers=arguments.num_workers,
        )  # fmt: skip
        found.append(one)
        es = one["energy_score"].sel(arm="raw").isel(seed=0).to_series()
        skill = one["skill"].sel(arm="raw", score="energy_score").isel(seed=0).to_series()
        print(
            f"market {name}, history {seed}: "
            + ", ".join(f"{label} {es[label]:.3f} ({skill[label]:.2f})" for label in es.index),
            flush=True,
        )
    whole = xr.concat(found, dim="seed", data_vars="all", join="override", combine_attrs="drop_conflicts")
    if name in REFERENCE:
        ratio = (whole["energy_score"].sel(generator="bootstrap") / whole["energy_score"].sel(generator="oracle")).sel(
            arm="raw"
        )
        levels = REFERENCE[name]
        print(
            f"historical simulation over oracle: {float(ratio.mean()):.3f} "
            f"(reference, one history: {levels['bootstrap'] / levels['oracle']:.3f})"
        )
        if "pca" in whole["generator"].values:
            mean = float(whole["skill"].sel(generator="pca", arm="raw", score="energy_score").mean())
            print(f"scaled PCA, mean skill: {mean:.2f} (reference: {REFERENCE_SKILL[name]:.2f})")
    return whole


def load_real(name: str, data: Path) -> xr.Dataset:
    """History of a real market."""
    if name == "spx_factors":
        return read_spx_factors(data / name / "spx_factors_1996_2018.csv")
    quotes, _ = read_table(
        data / name / "sse50etf_options_2015_2022.parquet", columns={"price": "close", "option_type": "type"}
    )
    return volscen.build_history(quotes, tau=SSE_TAU, moneyness=SSE_MONEYNESS, calendar="XSHG")[0]


def judge_real(name: str, data: Path, arguments: argparse.Namespace) -> xr.Dataset:
    """Figures of all generators on a period of a real market."""
    first, last = REAL[name][arguments.period]
    return evaluate(
        arguments.generators, load_real(name, data), first=first, last=f"{first[:8]}31" if arguments.quick else last,
        seeds=arguments.seeds, refit_every="year", update_every=1, n_scenarios=arguments.n_scenarios,
        num_workers=arguments.num_workers,
        folder=arguments.out / f"{name}-{arguments.period}" if arguments.out else None,
    )  # fmt: skip


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markets", default="A,B,C", help=f"of {', '.join([*MARKETS, *REAL])}")
    parser.add_argument(
        "--generators", default="bootstrap,fhs,pca,har", help=f"registered, statistical, or of {', '.join(VARIANTS)}"
    )
    parser.add_argument("--period", default="validation", choices=["validation", "test"])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("-n", "--n-scenarios", type=int, default=1000)
    parser.add_argument("--num-workers", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for the tables (CSV) and all figures (NetCDF)")
    parser.add_argument("--quick", action="store_true", help="a few days: a check that it runs")
    pagetables.add_options(parser)
    arguments = parser.parse_args()
    arguments.generators = candidates(arguments.generators)
    arguments.seeds = tuple(int(seed) for seed in arguments.seeds.split(","))
    names = arguments.markets.split(",")
    real = [name for name in names if name in REAL]
    header = ["generator", *(PERIODS[name, arguments.period] for name in real)]
    pages = pagetables.Pages(
        arguments, {"skill": [header]} if real else {}, kind="scores",
        minutes=4 * len(arguments.generators) * len(names), needs=[pagetables.MARKET_DATA] if real else [],
    )  # fmt: skip
    data = pagetables.market_data() if real else Path()
    frames: dict[str, pd.DataFrame] = {}
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
    pd.set_option("display.width", 250)
    for name in names:
        started = time.perf_counter()
        found = judge_real(name, data, arguments) if name in REAL else judge_simulated(name, arguments)
        days = int(found.attrs.get("common_days", 0))
        title = f"{name} {arguments.period}" if name in REAL else f"market {name} (simulated)"
        print(
            f"\n{title}, {days} days, {arguments.n_scenarios} scenarios a day, seeds {arguments.seeds}, "
            f"{time.perf_counter() - started:.0f} s"
        )
        frame = table(found)
        print(format_table(frame), flush=True)
        if name in REAL:
            frames[name] = frame
        if arguments.out:
            stem = f"{name}-{arguments.period}" if name in REAL else name
            for suffix in (".csv", ".nc"):
                write_evaluation(found, arguments.out / f"{stem}{suffix}")
    if real:
        pages.add("skill", page_table(frames, arguments.generators, header))
    pages.write()


if __name__ == "__main__":
    main()

"""The out-of-sample tables of Vuletic and Cont (2024), recomputed on the S&P 500 surfaces of 1996 to 2018.

    VOLSCEN_DATA=/path/to/data python benchmarks/paper_tables.py                      # trains VolGAN, 10,000 epochs
    VOLSCEN_DATA=/path/to/data python benchmarks/paper_tables.py --model volgan=gan.safetensors --folder models

Every generator is fitted once, on the days before ``--first``, as in the paper; a saved model must have been, too. The
paper's figures stand beside ours where they are at hand (tables 1, 4, 5 and 7). They are of other data: OptionMetrics,
trained from 2000 to June 2018, tested from June 2019 to February 2023 with March 2020 in it, on a grid from one day to
one year, while our surfaces come from five daily factors and begin at 30 days. Signs and sizes compare, digits do not.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

import pagetables
import volscen
from generators import load_real
from pagetables import plain
from volscen import arbitrage
from volscen.evaluation import constant_correlation, correlation_interval, fisher_z
from volscen.evaluation._scores import pits
from volscen.evaluation._structure import component_figures
from volscen.evaluation._yardstick import Yardstick
from volscen.generators import Generator

FloatArray = npt.NDArray[np.float64]

ARMS = ("weighted", "raw")
#: Cells of tables 2 and 3: days and K/F, the nearest to the paper's that the grid has.
CELLS = {"ATM 91": (91, 1.0), "put .8 91": (91, 0.8), "call 1.05 91": (91, 1.05), "ATM 30": (30, 1.0)}
PROBABILITIES = (0.01, 0.025, 0.975, 0.99)
PAPER_PENALTY = {"data": (0.0096, 0.0628, 0.0005), "volgan-bce": (2.4635, 0.9086, 2.3164),
                 "volgan raw": (0.0199, 0.088, 0.003), "volgan weighted": (0.0127, 0.0620, 0.0014)}  # fmt: skip
PAPER_SHARE = {"data": (51.25, 34.00, 5.01), "volgan": (45.3, 25.7, 12.8)}
PAPER_INNER = (0.921, 0.921, 0.798)
PAPER_CORRELATION = {("return", "PC1"): (-0.76, -0.84), ("return", "atm30"): (-0.77, -0.86),
                     ("return", "vix30"): (-0.71, -0.55), ("PC1", "atm30"): (0.89, 0.95),
                     ("PC1", "vix30"): (0.84, 0.66), ("atm30", "vix30"): (0.96, 0.72)}  # fmt: skip
SERIES = ("return", "PC1", "PC2", "PC3", "atm30", "vix30")
#: Columns of the page's table, and the generators that they are of.
COLUMNS = {"volgan": "`volgan`, paper mode", "pca": "`pca`", "har": "`har`", "bootstrap": "historical simulation"}
HEADER = ["", "data", *COLUMNS.values(), "paper: data, VolGAN"]


@dataclass
class Found:
    """What one generator did on the days of the test."""

    penalty: FloatArray  # (T, arm), mean of the day
    share: FloatArray  # (T, arm), of surfaces above 1e-6
    pit: FloatArray  # (T, arm, variable)
    correlation: FloatArray  # (T, arm), of return and ATM move over the day's scenarios
    error: FloatArray  # (T, arm), of its Fisher z
    ess: FloatArray  # (T,)
    panel: npt.NDArray[np.float32]  # (T, arm, panels, variable)


def collect(model: Generator, history: xr.Dataset, yard: Yardstick, rows: list[int], n: int, panels: int) -> Found:
    """Draw the scenarios of every day and keep what the tables need."""
    days: list[list[npt.NDArray[np.generic]]] = [[] for _ in range(7)]
    atm = yard.named["atm30"]
    for row in rows:
        cube = volscen.generate(model, history, as_of=yard.date[row], n_scenarios=n, seed=0, num_threads=1)
        surface = cube["implied_vol"].values[:, 0].astype(np.float64)
        moves = yard.moves(row, surface, cube["log_return"].values[:, 0])
        weights = np.stack([cube["weight"].values, np.full(n, 1 / n)])
        penalty = arbitrage.penalty(surface, yard.tau, yard.moneyness, num_threads=1)
        fisher = np.array([fisher_z(moves[:, 0], moves[:, atm], w) for w in weights])
        u = np.random.default_rng([0, row]).random(panels)
        chosen = [np.minimum(np.searchsorted(np.cumsum(w), u, side="right"), n - 1) for w in weights]
        for part, value in zip(
            days,
            (weights @ penalty, weights @ (penalty > 1e-6), pits(moves, yard.move[row], weights), fisher[:, 0],
             fisher[:, 2], np.asarray(1 / (weights[0] @ weights[0])), moves[chosen].astype(np.float32)),
            strict=True,
        ):  # fmt: skip
            part.append(value)
    return Found(*(np.stack(part) for part in days))  # type: ignore[arg-type]


def models(arguments: argparse.Namespace, train: xr.Dataset) -> dict[str, Generator]:
    """Generators by label: those given as files, and the rest fitted."""
    given = dict(text.split("=", 1) for text in arguments.model)
    last, out = str(train.date.values[-1])[:10], {}
    for label in arguments.generators.split(","):
        if label in given:
            out[label] = volscen.load(given[label])
            if out[label].period_[1] > last:
                sys.exit(f"{given[label]} was fitted up to {out[label].period_[1]}, inside the days to test")
            continue
        name = label.partition("-")[0]
        options: dict[str, object] = {}
        if name == "volgan":
            options = {"epochs": arguments.epochs, "validation_days": min(504, train.sizes["date"] // 10), "seed": 0}
            if label == "volgan-bce":
                options["smoothness"] = None
            if arguments.folder:
                options["checkpoint"] = arguments.folder / f"{label}.checkpoint"
        out[label] = volscen.fit(train, name, **options)
        if arguments.folder:
            out[label].save(arguments.folder / f"{label}.safetensors")
    return out


def show(title: str, frame: pd.DataFrame, digits: int = 4) -> None:
    print(f"\n{title}\n{frame.to_string(float_format=lambda x: f'{x:.{digits}f}', na_rep='')}", flush=True)


def table_penalties(found: dict[str, Found], data: FloatArray, n: int) -> None:
    columns = ["mean", "std", "median", "q75", "q95", "max", "share > 1e-6"]
    columns += ["paper mean", "paper std", "paper median"]

    def row(daily: FloatArray, share: float, paper: tuple[float, ...] | None) -> list[float]:
        figures = [daily.mean(), daily.std(), np.median(daily), *np.quantile(daily, [0.75, 0.95]), daily.max(), share]
        return [*map(float, figures), *(paper or (np.nan,) * 3)]

    rows = {"data": row(data, float((data > 1e-6).mean()), PAPER_PENALTY["data"])}
    for label, one in found.items():
        for i, arm in enumerate(ARMS):
            paper = PAPER_PENALTY.get(f"{label} {arm}") or (PAPER_PENALTY.get(label) if arm == "raw" else None)
            rows[f"{label} {arm}"] = row(one.penalty[:, i], float(one.share[:, i].mean()), paper)
    show("Table 1. Arbitrage penalty: the data's, and the day's mean over scenarios",
         pd.DataFrame.from_dict(rows, orient="index", columns=columns), 5)  # fmt: skip
    ess = {label: [one.ess.mean() / n, one.ess.min() / n] for label, one in found.items()}
    show("Effective sample size over the number of scenarios, mean and least day",
         pd.DataFrame.from_dict(ess, orient="index", columns=["mean", "least"]), 3)  # fmt: skip


def table_exceedances(found: dict[str, Found], variables: dict[str, int]) -> None:
    for arm in (1, 0):
        rows = {}
        for label, one in found.items():
            for name, i in variables.items():
                pit = one.pit[:, arm, i]
                rows[label, name] = [(pit < p).mean() for p in PROBABILITIES]
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(map(str, PROBABILITIES)))
        frame.index = pd.MultiIndex.from_tuples(rows)
        title = "Table 3 (raw). " if arm else "Table 2 (weighted). "
        show(title + "Share of days below the scenarios' quantile", frame, 3)


def table_intervals(found: dict[str, Found], variables: dict[str, int]) -> None:
    rows = {}
    for label, one in found.items():
        for name, i in variables.items():
            off = np.abs(one.pit[..., i] - 0.5)
            rows[label, name] = [(off[:, arm] <= level / 2).mean() for level in (0.9, 0.95) for arm in (0, 1)]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["90% weighted", "90% raw", "95% weighted", "95% raw"])
    frame.index = pd.MultiIndex.from_tuples(rows)
    show("Figures 8 to 16. Coverage of one-day-ahead intervals", frame, 3)


def table_structure(found: dict[str, Found], realised: FloatArray, atm: int, train: FloatArray) -> None:
    shares: dict[str, list[float]] = {}
    inner: dict[str, list[float]] = {}
    rows: dict[tuple[str, str], list[float]] = {}
    for label, one in found.items():
        panel = one.panel
        per = [component_figures(panel[:, :, [b]], realised, atm) for b in range(panel.shape[2])]
        if not shares:
            data = per[0]
            shares["data"] = [*(100 * data["pc_share_data"]), *PAPER_SHARE["data"]]
            matrix = data["correlation_data"]
            early = component_figures(train[:, None, None], realised, atm)["correlation"][0]
            for i, first in enumerate(SERIES):
                for j in range(i + 1, len(SERIES)):
                    pair = (first, SERIES[j])
                    paper = PAPER_CORRELATION.get(pair, (np.nan, np.nan))
                    low, high = correlation_interval(matrix[i, j], len(realised))
                    rows[pair] = [matrix[i, j], float(low), float(high), early[i, j], *paper]
        share = 100 * np.stack([one["pc_share"][1] for one in per])
        shares[label] = [*share.mean(axis=0), *(PAPER_SHARE["volgan"] if label == "volgan" else [np.nan] * 3)]
        shares[f"{label} sd"] = [*share.std(axis=0), *[np.nan] * 3]
        product = np.stack([one["pc_inner"][1] for one in per])
        for i in range(3):
            inner[f"{label} PC{i + 1}"] = [
                product[:, i].mean(), np.median(product[:, i]), product[:, i].std(),
                PAPER_INNER[i] if label == "volgan" else np.nan,
            ]  # fmt: skip
        correlation = np.stack([one["correlation"][1] for one in per])
        for (first, second), values in rows.items():
            values.append(correlation[:, SERIES.index(first), SERIES.index(second)].mean())
    columns = ["PC1 %", "PC2 %", "PC3 %", "paper PC1", "paper PC2", "paper PC3"]
    show("Table 4. Share of variance of the log-vol increments' components: mean and sd over panels",
         pd.DataFrame.from_dict(shares, orient="index", columns=columns), 2)  # fmt: skip
    show("Table 5. Inner product with the data's components",
         pd.DataFrame.from_dict(inner, orient="index", columns=["mean", "median", "sd", "paper mean"]), 3)  # fmt: skip
    columns = ["data", "low", "high", "data before", "paper data", "paper VolGAN", *found]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    frame.index = pd.MultiIndex.from_tuples(rows)
    show(
        "Tables 6 and 7. Correlations of moves (95% intervals of the data's; PC scores on the data's components)",
        frame,
        2,
    )


def page_table(found: dict[str, Found], realised: FloatArray, data_penalty: FloatArray, atm: int, vix: int) -> str:
    """The page's table: what matters most of tables 1, 4, 5, 7 and of the figures, unweighted where not said."""

    def three(values: FloatArray, digits: int) -> str:
        return " ".join(plain(value, digits) for value in values)

    first = component_figures(next(iter(found.values())).panel[:, :, [0]], realised, atm)
    pairs = [("return", "PC1"), ("return", "PC2"), ("return", "atm30"), ("return", "vix30"), ("atm30", "vix30")]
    at = [(SERIES.index(a), SERIES.index(b)) for a, b in pairs]
    columns = [["0" if data_penalty.max() == 0 else plain(data_penalty.mean(), 5), "",
                three(100 * first["pc_share_data"], 1), "",
                *(plain(first["correlation_data"][i], 2) for i in at), "", "", ""]]  # fmt: skip
    for one in found.values():
        per = [component_figures(one.panel[:, :, [b]], realised, atm) for b in range(one.panel.shape[2])]
        share, inner, correlation = (
            np.mean([x[key][1] for x in per], axis=0) for key in ("pc_share", "pc_inner", "correlation")
        )
        off = np.abs(one.pit[:, 1] - 0.5)
        free = constant_correlation(one.correlation[:, 1], standard_error=one.error[:, 1])
        own = one.correlation[:, 1]
        columns.append([
            plain(one.penalty[:, 1].mean(), 5), plain(one.penalty[:, 0].mean(), 5), three(100 * share, 1),
            three(inner, 3), *(plain(correlation[i], 2) for i in at),
            three((off[:, [0, atm, vix]] <= 0.475).mean(axis=0), 3), f"{plain(own.min(), 2)} to {plain(own.max(), 2)}",
            f"{free.share_outside:.0%}",
        ])  # fmt: skip
    paper = [
        ", ".join(plain(x, 4) for x in (PAPER_PENALTY["data"][0], PAPER_PENALTY["volgan raw"][0])),
        ", ".join(plain(x, 4) for x in (PAPER_PENALTY["data"][0], PAPER_PENALTY["volgan weighted"][0])),
        ", ".join(three(np.array(PAPER_SHARE[x]), 1) for x in ("data", "volgan")),
        three(np.array(PAPER_INNER), 3),
        *(", ".join(plain(x, 2) for x in PAPER_CORRELATION.get(pair, ())) for pair in pairs),
        "",
        "",
        "",
    ]
    labels = [
        "penalty of a day, mean, raw scenarios", "the same, weighted", "variance of components 1, 2, 3, %",
        "inner product of components 1, 2, 3 with the data's", "correlation of return and component 1",
        "of return and component 2", "of return and 30-day at-the-money vol", "of return and strip volatility",
        "of at-the-money vol and strip volatility", "coverage of 95% intervals: return, at-the-money, strip",
        "correlation of return and at-the-money vol over the days",
        "days outside the interval of a constant one, 5% expected",
    ]  # fmt: skip
    return pagetables.table(HEADER, list(zip(labels, *columns, paper, strict=True)))


def table_years(found: dict[str, Found], realised: FloatArray, years: npt.NDArray[np.int64], atm: int) -> None:
    rows: dict[tuple[int, str], list[float]] = {}
    for year in np.unique(years):
        days = years == year
        if days.sum() < 10:
            continue
        for label, one in found.items():
            figures = component_figures(one.panel[days, :, :50], realised[days], atm)
            for name, key in (("data", "correlation_data"), (label, "correlation")):
                matrix = figures[key] if name == "data" else figures[key][1]
                pairs = (("return", "PC1"), ("return", "atm30"), ("return", "vix30"), ("atm30", "vix30"))
                rows[int(year), name] = [matrix[SERIES.index(a), SERIES.index(b)] for a, b in pairs]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["R, PC1", "R, ATM", "R, VIX", "ATM, VIX"])
    frame.index = pd.MultiIndex.from_tuples(rows)
    show("Tables 8 and 9. Correlations by year", frame.sort_index(level=0, sort_remaining=False), 2)


def table_constancy(found: dict[str, Found], n: int) -> None:
    rows = {}
    for label, one in found.items():
        for i, arm in enumerate(ARMS):
            size = one.ess if i == 0 else np.full(one.ess.shape, float(n))
            normal = constant_correlation(one.correlation[:, i], n=size)
            free = constant_correlation(one.correlation[:, i], standard_error=one.error[:, i])
            rows[label, arm] = [
                normal.correlation, normal.low, normal.high, normal.share_outside, normal.p_value,
                free.share_outside, free.p_value, one.correlation[:, i].min(), one.correlation[:, i].max(),
            ]  # fmt: skip
    columns = ["mean", "low", "high", "outside", "p", "outside, any law", "p, any law", "least", "largest"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    frame.index = pd.MultiIndex.from_tuples(rows)
    show("Figure 17. Is the correlation of return and ATM move constant over days? (bootstrap's is, by construction; "
         "the normal error is too small for heavy tails)", frame, 3)  # fmt: skip


def table_discriminator(label: str, model: Generator, history: xr.Dataset, first: np.datetime64) -> None:
    if not hasattr(model, "discriminator_score"):
        return
    score = model.discriminator_score(history)
    date = score.date.values.astype("datetime64[D]")
    rows = {}
    for name, part in (("before the test", date < first), ("test", date >= first)):
        values = score.values[part]
        least = ", ".join(f"{date[part][i]!s} {values[i]:.3f}" for i in np.argsort(values)[:3])
        rows[name] = [*map(float, np.quantile(values, [0.01, 0.5, 0.99])), float((values < 0.2).mean()), least]
    show(f"Figure 5. Discriminator's score of the days, {label} (paper: about .5, below .2 in March 2020)",
         pd.DataFrame.from_dict(rows, orient="index", columns=["1%", "median", "99%", "below .2", "least days"]),
         3)  # fmt: skip


def main() -> None:
    """Fit, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generators", default="volgan,pca,har,bootstrap", help="also volgan-bce: no penalties")
    parser.add_argument("--model", action="append", default=[], help="label=file of a saved model; may be repeated")
    parser.add_argument("--epochs", type=int, default=10_000, help="of trained VolGANs")
    parser.add_argument("--folder", type=Path, help="keep fitted models and checkpoints here")
    parser.add_argument("--first", default="2016-01-01")
    parser.add_argument("--last", default="2018-12-31")
    parser.add_argument("-n", "--n-scenarios", type=int, default=1000)
    parser.add_argument("--panels", type=int, default=200, help="samples of the whole period (the paper has 1,000)")
    parser.add_argument("--quick", action="store_true", help="a month, few scenarios: a check that it runs")
    pagetables.add_options(parser)
    arguments = parser.parse_args()
    shown = arguments.generators.split(",") == list(COLUMNS)
    pages = pagetables.Pages(
        arguments, {"structure": [HEADER]} if shown else {}, kind="scores", minutes=30, needs=[pagetables.MARKET_DATA]
    )
    folder = pagetables.market_data()
    if arguments.quick:
        arguments.last, arguments.n_scenarios, arguments.panels = f"{arguments.first[:8]}31", 100, 3
        arguments.epochs = min(arguments.epochs, 3)
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    history = load_real("spx_factors", folder)
    first = np.datetime64(arguments.first)
    yard = Yardstick.of(history, first)
    realised_days = (yard.date[1:] >= first) & (yard.date[1:] <= np.datetime64(arguments.last))
    rows = [int(row) for row in np.flatnonzero(realised_days)]
    train = history.isel(date=slice(0, rows[0] + 1))
    pd.set_option("display.width", 250, "display.max_columns", 50, "display.max_rows", 200)
    fitted = models(arguments, train)
    for label, model in fitted.items():
        print(f"{label}: fitted on {model.period_[0]} to {model.period_[1]}")
    started = time.perf_counter()
    found = {
        label: collect(model, history, yard, rows, arguments.n_scenarios, arguments.panels)
        for label, model in fitted.items()
    }
    print(
        f"{yard.date[rows[0] + 1]} to {yard.date[rows[-1] + 1]}, {len(rows)} days, {arguments.n_scenarios} scenarios a "
        f"day drawn in {time.perf_counter() - started:.0f} s; {arguments.panels} panels"
    )
    variables = {"return": 0}
    for name, (days, m) in CELLS.items():
        tau, moneyness = np.argmin(np.abs(yard.tau - days / 365)), np.argmin(np.abs(yard.moneyness - m))
        variables[name] = 1 + int(tau) * yard.moneyness.size + int(moneyness)
    variables["VIX"] = yard.move.shape[1] - 1
    realised, atm = yard.move[rows], yard.named["atm30"]
    data_penalty = arbitrage.penalty(yard.implied_vol[np.array(rows) + 1], yard.tau, yard.moneyness)
    table_penalties(found, data_penalty, arguments.n_scenarios)
    table_exceedances(found, variables)
    table_intervals(found, variables)
    table_structure(found, realised, atm, yard.move[: rows[0]])
    table_years(found, realised, yard.date[np.array(rows) + 1].astype("datetime64[Y]").astype(int) + 1970, atm)
    table_constancy(found, arguments.n_scenarios)
    for label, model in fitted.items():
        table_discriminator(label, model, history, first)
    if shown:
        vix = yard.move.shape[1] - 1
        pages.add("structure", page_table(found, realised, data_penalty, atm, vix))
    pages.write()


if __name__ == "__main__":
    main()

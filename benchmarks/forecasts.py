"""Forecasts of surfaces and of variance from a rolling origin, with the tests that say what they are worth.

    VOLSCEN_DATA=/path/to/data python benchmarks/forecasts.py [--period validation|test] [--generators pca,har]
    python benchmarks/forecasts.py --quick                     # the embedded, simulated history

Surfaces: mean absolute error in vol points by horizon, with the t statistic of Diebold and Mariano against no change in
brackets (negative is better). Variance: QLIKE against Parkinson's proxy where daily highs and lows are known, squared
returns elsewhere, likewise. Models are fitted on the days before, again every 250 dates; the mean paths of generators
from every fifth date. Then memory, breaks and links of the volatilities.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import pandas as pd
import xarray as xr

import pagetables
import volscen
from generators import REAL, load_real
from pagetables import plain, signed
from volscen.evaluation import forecast

SIMPLE = ["no_change", "mean_reversion", "har", "var", "garch"]
NETWORKS = ["lstm", "ae_lstm", "vae"]
PARTS = ("surfaces", "generators", "variance", "diagnostics")
HORIZONS = ["1 day", "5", "10", "20", "30"]
TITLES = {
    ("spx_factors", "validation"): "S&P 500 fitted surfaces, 2014-15",
    ("spx_factors", "test"): "S&P 500 fitted surfaces, 2016-18",
    ("sse50etf", "validation"): "SSE 50 ETF, real closes, 2021",
    ("sse50etf", "test"): "SSE 50 ETF, real closes, 2022",
}
EVERY_FIFTH = {"validation": "SSE 50 ETF, 2021, every fifth date", "test": "SSE 50 ETF, 2022, every fifth date"}
LABELS = {
    "no_change": "no change",
    "mean_reversion": "mean reversion",
    "har": "HAR",
    "var": "VAR of components",
    "garch": "AR-GARCH of components",
    "lstm": "LSTM",
    "ae_lstm": "LSTM of autoencoder's latents",
    "vae": "VAE alone",
}


def error_table(title: str, judged: xr.Dataset, labels: dict[str, str]) -> str:
    """Table of the pages: mean absolute errors by horizon, with t against no change, the least in bold."""
    models = [name for name in labels if name in judged["model"].values]
    one = judged.sel(region="all", model=models)
    columns = []
    for horizon in one["horizon"].values:
        mae, t = one["mae"].sel(horizon=horizon).values, one["dm_t"].sel(horizon=horizon).values
        texts = [
            plain(value, 3) + ("" if name == "no_change" else f" [{signed(test, 1)}]")
            for name, value, test in zip(models, mae, t, strict=True)
        ]
        columns.append(pagetables.best_bold(texts, mae.tolist()))
    rows = list(zip([labels[name] for name in models], *columns, strict=True))
    return pagetables.table([title, *HORIZONS], rows)


def surfaces(name: str, history: xr.Dataset, period: tuple[str, str], networks: list[str]) -> xr.Dataset:
    """Print errors of forecasts of surfaces, and return them."""
    first, last = period
    start = time.perf_counter()
    models = [*SIMPLE, *networks]
    table = forecast.judge_surfaces(forecast.forecast_surfaces(models, history, first=first, last=last))
    print(f"\n{name}, surfaces, {first} to {last} ({time.perf_counter() - start:.0f} s)")
    # The table must agree with errors taken apart from it.
    made = forecast.forecast_surfaces(["no_change"], history, first=first, last=last, horizons=(1,))
    vol = history["implied_vol"].sel(date=slice(first, None)).values
    n = made.sizes["date"] - int(np.isnan(made["actual"].values[:, 0, 0, 0]).sum())
    plain = 100 * np.abs(vol[1 : n + 1] - vol[:n]).mean()
    np.testing.assert_allclose(table["mae"].sel(model="no_change", horizon=1, region="all"), plain, rtol=1e-5)
    print(forecast.format_judgement(table))
    for region in ("puts", "long"):
        if region in table["region"].values:
            print(forecast.format_judgement(table, region=region))
    atm = table[["direction", "direction_rule", "direction_p"]].sel(horizon=10).to_dataframe().drop(columns="horizon")
    print("direction of the at-the-money volatility, 10 days ahead\n" + atm.round(3).to_string())
    return table


def mean_paths(name: str, history: xr.Dataset, period: tuple[str, str], generators: list[str]) -> xr.Dataset:
    """Print errors of the mean paths of generators, from every fifth date, and return them."""
    models = ["no_change", *(f"generator:{one}" for one in generators)]
    made = forecast.forecast_surfaces(models, history, first=period[0], last=period[1], every=5)
    table = forecast.judge_surfaces(made)
    print(f"\n{name}\n{forecast.format_judgement(table)}  (every fifth date)")
    return table


def variance(
    name: str, log_return: xr.DataArray, log_range: xr.DataArray | None, period: tuple[str, str], quick: bool
) -> None:
    """Print losses of forecasts of variance."""
    first, last = period
    models = ["no_change", "ewma", "har", "garch"] if quick else None
    start = time.perf_counter()
    made = forecast.forecast_variance(log_return, log_range=log_range, first=first, last=last, models=models)
    table = forecast.judge_variance(made)
    print(f"\n{name}, variance, {first} to {last}, proxy: {made.attrs['proxy']} ({time.perf_counter() - start:.0f} s)")
    cells = {
        f"{h} d": [
            f"{float(table.qlike.sel(model=m, horizon=h)):.3f} [{float(table.dm_t.sel(model=m, horizon=h)):+.1f}]"
            for m in table["model"].values
        ]
        for h in table["horizon"].values
    }
    print(pd.DataFrame(cells, index=pd.Index(table["model"].values, name="QLIKE")).to_string())


def diagnostics(histories: dict[str, xr.Dataset]) -> None:
    """Print memory, breaks and links, of all days given."""
    print("\nmemory of the log at-the-money volatility near 30 days, and breaks in the variance of returns")
    atm = {}
    for name, history in histories.items():
        vol = history["implied_vol"].sel(tau=30 / 365, moneyness=1.0, method="nearest")
        atm[name] = np.log(vol).drop_vars(["tau", "moneyness"])
        d = forecast.long_memory(atm[name].values)
        breaks = forecast.breaks_in_variance(history["log_return"].values[1:])
        whole = forecast.breaks_in_variance(history["log_return"].values[1:], method="inclan_tiao")
        inside = forecast.memory_by_segment(atm[name].values[1:], breaks.position).d.dropna()
        print(
            f"{name}: d {d.d:.2f} +- {d.standard_error:.2f}; {breaks.position.size} breaks (kappa2; "
            f"{whole.position.size} if returns were normal); "
            f"d between breaks {', '.join(f'{one:.2f}' for one in inside)}"
        )
        realised = np.log(volscen.realised_vol(history)).dropna("date")
        both = forecast.fractional_cointegration(atm[name].sel(date=realised.date).values, realised.values)
        print(
            f"  implied and realised: slope {both.slope:.2f}, memory {both.memory[0].d:.2f} and "
            f"{both.memory[1].d:.2f}, of the gap {both.residual.d:.2f}; "
            f"fractionally cointegrated: {both.is_cointegrated}"
        )
    if len(atm) > 1:
        panel = xr.concat(list(atm.values()), dim=pd.Index(list(atm), name="market"), join="inner").diff("date")
        links = forecast.granger(panel.transpose("date", "market"))
        for cause in links["cause"].values:
            for effect in links["effect"].values:
                if cause != effect:
                    p = float(links["p_holm"].sel(cause=cause, effect=effect))
                    print(f"changes of {cause} lead those of {effect}: p {p:.3f} ({panel.sizes['date']} common days)")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--period", choices=("validation", "test"), default="validation")
    parser.add_argument(
        "--generators", default="har,pca,sabr,heston", help="whose mean paths are forecasts; empty for none"
    )
    parser.add_argument("--markets", default=",".join(REAL))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true")
    pagetables.add_options(parser)
    arguments = parser.parse_args()
    generators = [one for one in arguments.generators.split(",") if one]
    markets = [] if arguments.quick else arguments.markets.split(",")
    pieces = {}
    if "surfaces" in arguments.only:
        pieces = {name: [[TITLES[name, arguments.period], *HORIZONS]] for name in markets}
    if "generators" in arguments.only and generators and "sse50etf" in markets:
        pieces["generators"] = [[EVERY_FIFTH[arguments.period], *HORIZONS]]
    pages = pagetables.Pages(
        arguments, pieces, kind="scores", minutes=0.5 if arguments.quick else 10 * len(arguments.only),
        needs=[] if arguments.quick else [pagetables.MARKET_DATA],
    )  # fmt: skip
    if arguments.quick:
        history = volscen.datasets.sample_history()
        period = ("2023-01-02", "2023-06-30")
        surfaces("simulated", history, period, [])
        variance("simulated", history["log_return"], None, period, quick=True)
        diagnostics({"simulated": history})
        return 0
    data = pagetables.market_data()
    histories = {name: load_real(name, data) for name in markets}
    for name, history in histories.items():
        period = REAL[name][arguments.period]
        if "surfaces" in arguments.only:
            judged = surfaces(name, history, period, NETWORKS)
            pages.add(name, error_table(TITLES[name, arguments.period], judged, LABELS))
        if "generators" in arguments.only and generators:
            judged = mean_paths(name, history, period, generators)
            if name == "sse50etf":
                labels = {"no_change": "no change"} | {f"generator:{one}": f"`generator:{one}`" for one in generators}
                pages.add("generators", error_table(EVERY_FIFTH[arguments.period], judged, labels))
        returns, ranges = history["log_return"], None
        if name == "spx_factors":
            prices = pd.read_csv(data / name / "spx_factors_1996_2018.csv", parse_dates=["date"]).set_index("date")
            ranges = np.log(prices["high"] / prices["low"]).to_xarray()
        if "variance" in arguments.only:
            variance(name, returns, ranges, period, quick=False)
        histories[name] = history.sel(date=slice(None, REAL[name]["validation"][1]))
    if "diagnostics" in arguments.only:
        diagnostics(histories)
    pages.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())

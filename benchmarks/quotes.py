"""What becomes of real quotes: closing prices of SSE 50 ETF options through the defaults, smoothers and returns.

    VOLSCEN_DATA=folder python benchmarks/quotes.py [--only history methods returns]

``history``: days kept, rows dropped by reason, distances to the quotes, all years. ``methods``: each smoother on the
days of 2019, and the processor time it takes with reading the chain. ``returns``: those of the spot that parity gives
and of forwards, against the median over expiries of the forwards that come with the file, which were computed apart.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import pagetables
import volscen
from volscen.sources import read_table
from volscen.surface._svi import fit_svi

TAU = np.array([30, 60, 91, 122, 152]) / 365
MONEYNESS = np.exp(np.linspace(-0.1, 0.1, 9))
HEADERS = {
    "history": ["", ""],
    "methods": ["`method`", "per expiry", "free of butterfly, calendar arbitrage",
                "follows quotes, median vol points a day", "ms a day"],
    "returns": ["returns of", "median distance", "95th percentile", "99th", "days beyond 20 bp", "beyond 40 bp"],
}  # fmt: skip
#: Smoothers: their names, what they fit to an expiry, whether butterfly and calendar arbitrage are excluded.
METHODS = {
    "svi": ('`"svi"` (default)', "five parameters", True, True),
    "essvi": ('`"essvi"`', "three", True, True),
    "ssvi": ('`"ssvi"`', "three; one rho for all", True, True),
    "cubic": ('`"cubic"`', "smoothing spline", False, True),
    "kernel": ('`"kernel"`', "weighted mean of all quotes", False, False),
}
#: Reasons for dropped rows, as the page calls them, most frequent first.
REASONS = {
    "in_the_money": "in the money",
    "adjusted_contract": "of adjusted contracts",
    "below_intrinsic": "below intrinsic value",
    "short_expiry": "of expiries under five days",
    "too_few_strikes": "of an expiry with under four strikes",
}


def read(data: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Quotes, and the file with what was computed elsewhere."""
    raw = pd.read_parquet(data / "sse50etf" / "sse50etf_options_2015_2022.parquet")
    quotes, _ = read_table(raw, columns={"option_type": "type", "price": "close", "adjusted": "adjusted_contract"})
    return quotes, raw


def near_quotes(quotes: pd.DataFrame) -> np.ndarray:
    """Distances of the quotes used to their surfaces, on every tenth day, in vol points."""
    found = []
    for date in np.unique(quotes["date"])[::10]:
        chain = volscen.Chain(quotes[quotes["date"] == date])
        used = chain.quotes
        surface = fit_svi(chain, TAU, MONEYNESS)
        at = surface.implied_vol(used["tau"].to_numpy(), used["log_moneyness"].to_numpy())
        found.append(100 * np.abs(at - used["implied_vol"].to_numpy()))
    return np.concatenate(found)


def history_rows(
    quotes: pd.DataFrame, report: pd.DataFrame, history: xr.Dataset, seconds: tuple[float, float]
) -> list[list[str]]:
    """What was kept, dropped and fitted."""
    kept = report[report["status"] == "kept"]
    dropped = report.loc[report["status"] != "kept", "reason"].value_counts()
    reasons = ", ".join(f"{n} dropped (`{reason}`)" for reason, n in dropped.items()) or "none dropped"
    counts = report.filter(like="dropped_").sum().rename(lambda name: name.removeprefix("dropped_"))
    unknown = counts[(counts > 0) & ~counts.index.isin([*REASONS])]
    assert unknown.empty, unknown
    rows = "; ".join([f"{report['n_used'].sum():,} used",
                      ", ".join(f"{counts[reason]:,} {text}" for reason, text in REASONS.items())])  # fmt: skip
    assert report["n_used"].sum() + counts.sum() == report["n_rows"].sum() == len(quotes)
    rmse, off = 100 * kept["fit_rmse"], near_quotes(quotes)
    free = (kept["calendar_free"] & kept["butterfly_free"]).mean()
    observed, between, beyond = ((history["quality"].values == flag).mean() for flag in (0, 1, 2))
    return [
        ["days kept", f"{len(kept):,}; {reasons}"],
        ["rows", rows],
        ["fit, all quotes", f"root mean square per day: median {rmse.median():.2f} vol points, 95th percentile "
         f"{rmse.quantile(0.95):.1f}; of every tenth day's quotes {(off <= 0.5).mean():.0%} within 0.5, half within "
         f"{np.median(off):.1f}"],
        ["free of static arbitrage on the grid", "all" if free == 1 else f"{free:.1%}"],
        ["grid cells", f"{observed:.0%} observed, {between:.0%} interpolated, {beyond:.0%} extrapolated beyond the "
         "quoted strikes"],
        ["time", f"{seconds[1]:.0f} s with two workers, {seconds[0]:.0f} s with one"],
    ]  # fmt: skip


def method_rows(quotes: pd.DataFrame) -> list[list[str]]:
    """Each smoother on a year."""
    year = quotes[quotes["date"].dt.year == 2019]
    rows = []
    for method, (label, parameters, *excluded) in METHODS.items():
        started = time.process_time()
        _, report = volscen.build_history(year, tau=TAU, moneyness=MONEYNESS, method=method, num_workers=1)
        seconds = time.process_time() - started
        kept = report[report["status"] == "kept"]
        free = [
            "yes"
            if always
            else f"not enforced ({int((~kept[f'{kind}_free'].astype(bool)).sum()) or 'none'} broken here)"
            for kind, always in zip(("butterfly", "calendar"), excluded, strict=True)
        ]
        rmse = f"{100 * kept['fit_rmse'].median():.2g}"
        rows.append([label, parameters, ", ".join(free), rmse, f"{1e3 * seconds / len(report):.0f}"])
    return rows


def return_rows(raw: pd.DataFrame, history: xr.Dataset) -> list[list[str]]:
    """Daily returns two ways, beside those of the file's own forwards."""
    known = raw[raw["expiry"] > raw["date"]].groupby(["date", "expiry"])["forward"].first()
    wide = np.log(known.unstack("expiry").reindex(history["date"].to_index()))
    theirs = wide.diff().median(axis=1)
    moved = history["jump_flag"].to_series() == 0  # ex-dividend days, on which contracts are altered, are left out
    keep = moved & theirs.notna() & (theirs.index >= "2016-01-01")
    rows = []
    for label, ours in (
        ("the parity spot", np.log(history["spot"].to_series()).diff()),
        ("forwards", history["log_return"].to_series()),
    ):
        off = 1e4 * (ours - theirs)[keep].abs()
        median, most, almost = off.quantile([0.5, 0.95, 0.99])
        beyond = [str(int((off > limit).sum())) for limit in (20, 40)]
        rows.append([label, f"{median:.1f} bp", f"{most:.2g}", f"{almost:.2g}", *beyond])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=HEADERS, default=list(HEADERS))
    pagetables.add_options(parser)
    given = parser.parse_args()
    kind = "scores" if given.only == ["returns"] else "timing"
    pieces = {name: [HEADERS[name]] for name in given.only}
    pages = pagetables.Pages(given, pieces, kind=kind, minutes=0.5 * len(given.only), needs=[pagetables.MARKET_DATA])
    quotes, raw = read(pagetables.market_data())
    if {"history", "returns"} & set(given.only):
        seconds = []
        for workers in (1, 2) if "history" in given.only else (1,):
            started = time.perf_counter()
            history, report = volscen.build_history(
                quotes, tau=TAU, moneyness=MONEYNESS, calendar="XSHG", num_workers=workers
            )
            seconds.append(time.perf_counter() - started)
    for name in given.only:
        if name == "history":
            rows = history_rows(quotes, report, history, (seconds[0], seconds[1]))
        else:
            rows = method_rows(quotes) if name == "methods" else return_rows(raw, history)
        text = pagetables.table(HEADERS[name], rows)
        print(text + "\n", flush=True)
        pages.add(name, text)
    pages.write()


if __name__ == "__main__":
    main()

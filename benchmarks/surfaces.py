"""What is read from finished surfaces: the volatility index beside the VIX, diagnostics beside the truth, projection.

python benchmarks/surfaces.py --only speed accuracy   what needs no market data
VOLSCEN_DATA=folder python benchmarks/surfaces.py     all of docs/surfaces.md
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import pagetables
import volscen
from pagetables import plain
from volscen.errors import InputError
from volscen.sources import read_spx_factors, read_table
from volscen.surface import diagnose

TAU = np.array([30, 60, 91, 122, 152]) / 365
MONEYNESS = np.exp(np.linspace(-0.1, 0.1, 9))

#: Parts, and minutes of processor time that they take.
PARTS = {"speed": 0.2, "accuracy": 0.1, "vix": 0.2, "projection": 1.5}
#: Of the page's tables.
HEADERS = {
    "accuracy": ["points a side", "g", "local variance"],
    "vix": ["", ""],
    "projection": ["", "surfaces", "changed", "largest change in a surface, vol points: median, 95%", "time a surface"],
}


def seconds(work: Callable[[], Any], repeats: int = 3) -> tuple[Any, float]:
    """Result and least processor time, which other programs do not disturb."""
    least = np.inf
    for _ in range(repeats):
        start = time.process_time()
        found = work()
        least = min(least, time.process_time() - start)
    return found, least


def speed() -> None:
    cube = volscen.generate(n_scenarios=10_000, seed=1)
    for name, work in (
        ("vix", lambda: volscen.vix(cube, num_threads=1)),
        ("diagnose", lambda: diagnose(cube, num_threads=1)),
        ("diagnose, counts alone", lambda: diagnose(cube, cells=False, num_threads=1)),
        ("project_arbitrage", lambda: volscen.project_arbitrage(cube, num_threads=1)),
    ):
        print(f"{name}, 10,000 surfaces of 8 x 10: {1e3 * seconds(work)[1]:.0f} ms")


def two_digits(value: float) -> str:
    """Two digits, without the zero before the point."""
    return f"{value:.2g}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2g}"


def accuracy() -> list[list[str]]:
    """Durrleman's g and local variance of an SSVI surface, by complex steps and differences of its formula."""
    rows = []

    def w(k: Any, t: Any) -> Any:
        theta = 0.03 * t + 0.02 * t**1.3
        phi = 1.1 / theta**0.45 / (1 + theta) ** 0.55
        return theta / 2 * (1 - 0.6 * phi * k + np.sqrt((phi * k - 0.6) ** 2 + 0.64))

    for n in (9, 17, 33):
        k, tau = np.linspace(-0.4, 0.4, n), np.linspace(0.2, 1.0, n)
        x, t = np.meshgrid(k, tau)
        step, h = 1e-30j, 1e-5
        first = w(x + step, t).imag / 1e-30
        second = (w(x + h + step, t) - w(x - h + step, t)).imag / 1e-30 / (2 * h)
        level = w(x, t)
        g = (1 - x * first / (2 * level)) ** 2 - first**2 / 4 * (1 / level + 0.25) + second / 2
        local = w(x, t + step).imag / 1e-30 / g
        coords = {"tau": tau, "moneyness": np.exp(k)}
        found = diagnose(xr.DataArray(np.sqrt(level / t), coords, dims=("tau", "moneyness")))
        inner = (slice(1, -1), slice(1, -1))
        off_g = np.abs(found.durrleman_g.values - g)[inner].max()
        off_local = np.abs(found.local_vol.values**2 - local)[inner].max()
        print(f"SSVI, {n} points a side: largest inner error of g {off_g:.2g}, of local variance {off_local:.2g}")
        rows.append([str(n), two_digits(off_g), two_digits(off_local)])
    return rows


def beside_the_vix(data: Path) -> list[list[str]]:
    """Our index of fitted surfaces and Cboe's; rows of the page are those of the surfaces' own ten strikes."""
    rows: list[list[str]] = []
    factors = data / "spx_factors" / "spx_factors_1996_2018.csv"
    close = pd.read_csv(data / "vix" / "vix_daily_1990_2026.csv", parse_dates=["DATE"]).set_index("DATE")["CLOSE"]
    fine = {"tau": [30 / 365], "moneyness": np.linspace(0.6, 1.09, 99)}
    for name, options in (("10 strikes", {}), ("99 strikes", fine)):
        index = volscen.vix(read_spx_factors(factors, **options), details=True)
        both = pd.concat([index.vix.to_series(), close], axis=1, join="inner").set_axis(["ours", "theirs"], axis=1)
        gap, moves = both["ours"] - both["theirs"], np.log(both).diff()
        print(
            f"S&P 500, {name}, {len(both)} days: correlation {both.corr().iloc[0, 1]:.4f}, of log changes "
            f"{moves.corr().iloc[0, 1]:.3f}; difference mean {gap.mean():.2f}, sd {gap.std():.2f}; beyond the grid "
            f"median {float(index.beyond_grid.median()):.1%}, 95% {float(index.beyond_grid.quantile(0.95)):.1%}"
        )
        beyond = 100 * float(index.beyond_grid.median()), 100 * float(index.beyond_grid.quantile(0.95))
        rows = rows or [
            ["correlation of levels", plain(both.corr().iloc[0, 1], 4)],
            ["correlation of daily log changes", plain(moves.corr().iloc[0, 1], 3)],
            ["ours less Cboe's, vol points", f"mean {plain(gap.mean(), 2)}, standard deviation {plain(gap.std(), 2)}"],
            ["variance from beyond the grid (K/F of .6 to 1.05)",
             f"median {beyond[0]:.2g}%, 95th percentile {beyond[1]:.2g}%"],
        ]  # fmt: skip
    return rows


def sse_quotes(data: Path) -> pd.DataFrame:
    raw = pd.read_parquet(data / "sse50etf" / "sse50etf_options_2015_2022.parquet")
    return read_table(raw, columns={"option_type": "type", "price": "close", "adjusted": "adjusted_contract"})[0]


def rules(quotes: pd.DataFrame) -> None:
    found, refused = [], 0
    for date in np.unique(quotes["date"])[::5]:
        chain = volscen.Chain(quotes[quotes["date"] == date])
        try:
            found.append([float(volscen.vix(chain, rules="cboe")), float(volscen.vix(chain, rules="chain"))])
        except InputError:
            refused += 1
    gap = np.abs(np.diff(found)[:, 0])
    print(
        f"SSE 50 ETF, rules 'cboe' and 'chain', {len(found)} days ({refused} refused): differ by "
        f"{np.median(gap):.3f} in the median, {gap.max():.2f} at most"
    )


def projections(quotes: pd.DataFrame) -> list[list[str]]:
    """Histories and scenarios projected, without and with Durrleman's condition; rows of the page."""
    cases = {}
    for method in ("svi", "essvi", "kernel"):
        history, _ = volscen.build_history(quotes, tau=TAU, moneyness=MONEYNESS, method=method)
        cases[f"SSE 50 ETF history, 2015-22, `{method}`"] = history
        if method == "svi":
            known = history
    model = volscen.fit(known.sel(date=slice(None, "2020-12-31")), "fhs")
    dates = ["2021-06-01", "2022-03-15", "2022-10-31"]
    scenarios = volscen.generate(model, known, as_of=dates, n_scenarios=2000, seed=1)
    rows = [row for name, ds in cases.items() for row in one_projection(name, ds)[1:]]
    return rows + one_projection(f"{scenarios['implied_vol'].size // 45:,} scenarios from it (`fhs`)", scenarios)


def one_projection(name: str, ds: xr.Dataset) -> list[list[str]]:
    """Print what projection does, and return two rows: without and with Durrleman's condition."""
    rows: list[list[str]] = []
    spent: list[float] = []
    vols: list[np.ndarray] = []
    for durrleman in (False, True):
        out, took = seconds(lambda d=durrleman: volscen.project_arbitrage(ds, durrleman=d, num_threads=1), 1)
        spent.append(1e6 * took)
        vols.append(out["implied_vol"].values.reshape(-1, TAU.size * MONEYNESS.size))
        status = out.projection_status.values
        n, changed = status.size, np.count_nonzero(status)
        largest = out.projection_change_max.values[status > 0]
        change = [two_digits(q) for q in np.quantile(largest, [0.5, 0.95])] if largest.size else []
        counts = diagnose(out, cells=False)
        left = [int(counts[f"{kind}_violations"].sum()) for kind in ("calendar", "butterfly", "durrleman")]
        print(
            f"{name}, durrleman={durrleman}: {n} surfaces, {changed} changed ({np.count_nonzero(status == 2)} not "
            f"converged), largest change {', '.join(change) or 'none'}, {spent[-1] / n:.0f} us each; calendar, "
            f"butterfly, g < 0 left: {left}"
        )
        text = f"{changed:,}" if changed else "none"
        time_each = spent[-1] / n
        shown = f"{time_each:.0f} us" if time_each < 100 else f"{1e-3 * time_each:.2f} ms"
        if durrleman and changed > 100:
            by_clarabel = int(np.any(vols[0] != vols[1], axis=1).sum())
            text += f", of which {by_clarabel:,} by clarabel"
            shown += f"; {1e-3 * (spent[1] - spent[0]) / max(by_clarabel, 1):.0f} ms where clarabel works"
        kind = "" if "history" in name else f", {'with' if durrleman else 'without'} `durrleman`"
        rows.append([name + kind, f"{n:,}", text, ", ".join(change), shown])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    pagetables.add_options(parser)
    given = parser.parse_args()
    market = bool({"vix", "projection"} & set(given.only))
    pages = pagetables.Pages(
        given, {name: [HEADERS[name]] for name in given.only if name in HEADERS},
        kind="timing" if "projection" in given.only else "scores", minutes=sum(PARTS[name] for name in given.only),
        needs=[pagetables.MARKET_DATA] if market else [],
    )  # fmt: skip
    data = pagetables.market_data() if market else Path()
    rows: dict[str, list[list[str]]] = {}
    if "speed" in given.only:
        speed()
    if "accuracy" in given.only:
        rows["accuracy"] = accuracy()
    if "vix" in given.only:
        rows["vix"] = beside_the_vix(data)
        rules(sse_quotes(data))
    if "projection" in given.only:
        rows["projection"] = projections(sse_quotes(data))
    for name, lines in rows.items():
        pages.add(name, pagetables.table(HEADERS[name], lines))
    pages.write()


if __name__ == "__main__":
    main()

"""What is read from finished surfaces: the volatility index beside the VIX, diagnostics beside the truth, projection.

python benchmarks/surfaces.py                        everything that needs no market data
VOLSCEN_DATA=folder python benchmarks/surfaces.py    all of docs/surfaces.md
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import volscen
from volscen.errors import InputError
from volscen.sources import read_spx_factors, read_table
from volscen.surface import diagnose

TAU = np.array([30, 60, 91, 122, 152]) / 365
MONEYNESS = np.exp(np.linspace(-0.1, 0.1, 9))


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


def accuracy() -> None:
    """Durrleman's g and local variance of an SSVI surface, by complex steps and differences of its formula."""

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


def beside_the_vix(data: Path) -> None:
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


def projections(quotes: pd.DataFrame) -> None:
    histories = {}
    for method in ("svi", "essvi", "kernel"):
        histories[method], _ = volscen.build_history(quotes, tau=TAU, moneyness=MONEYNESS, method=method)
    model = volscen.fit(histories["svi"].sel(date=slice(None, "2020-12-31")), "fhs")
    dates = ["2021-06-01", "2022-03-15", "2022-10-31"]
    histories["scenarios"] = volscen.generate(model, histories["svi"], as_of=dates, n_scenarios=2000, seed=1)
    for name, ds in histories.items():
        for durrleman in (False, True):
            out, spent = seconds(
                lambda ds=ds, d=durrleman: volscen.project_arbitrage(ds, durrleman=d, num_threads=1), 1
            )
            status = out.projection_status.values
            largest = out.projection_change_max.values[status > 0]
            change = np.quantile(largest, [0.5, 0.95]).round(3).tolist() if largest.size else "none"
            counts = diagnose(out, cells=False)
            left = [int(counts[f"{kind}_violations"].sum()) for kind in ("calendar", "butterfly", "durrleman")]
            print(
                f"{name}, durrleman={durrleman}: {status.size} surfaces, {np.count_nonzero(status)} changed "
                f"({np.count_nonzero(status == 2)} not converged), largest change {change}, "
                f"{1e6 * spent / status.size:.0f} us each; calendar, butterfly, g < 0 left: {left}"
            )


def main() -> None:
    speed()
    accuracy()
    folder = os.environ.get("VOLSCEN_DATA")
    if not folder:
        print("VOLSCEN_DATA is not set: nothing on real markets")
        return
    beside_the_vix(Path(folder))
    quotes = sse_quotes(Path(folder))
    rules(quotes)
    projections(quotes)


if __name__ == "__main__":
    main()

"""How often real days, and scenarios from storms and calms, lie outside the range known before them.

    VOLSCEN_DATA=/path/to/data python benchmarks/known_range.py

Outside is what ``volscen.generate`` takes for it: a vol above twice the highest or below half the lowest known at its
point of the surface, or a daily return larger than twice the largest known. Days are judged that have
402 before them and 21 after them. Scenarios start from a few dates, of models fitted to earlier years.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import xarray as xr

import pagetables
import volscen
from generators import load_real
from volscen.errors import ScenarioWarning
from volscen.scenarios._implausible import FACTOR

HORIZON, LEAST = 21, 402
#: Market, starting date, end of the fit, generators.
STARTS = (
    ("spx_factors", "2008-10-10", "2007-12-31", ("bootstrap", "fhs", "pca", "har", "heston")),
    ("spx_factors", "2018-02-05", "2013-12-31", ("fhs", "pca", "har")),
    ("spx_factors", "2017-11-01", "2013-12-31", ("bootstrap", "fhs", "pca", "har")),
    ("sse50etf", "2020-02-03", "2019-12-31", ("bootstrap", "fhs", "pca", "har")),
    ("sse50etf", "2022-06-01", "2019-12-31", ("bootstrap", "fhs", "pca", "har")),
)


def days_outside(history: xr.Dataset) -> tuple[int, list[str]]:
    """Starting days judged, and the days within 21 of one that lie outside what was known at it."""
    vol = history["implied_vol"].transpose("date", "tau", "moneyness").values
    size = np.abs(np.nan_to_num(history["log_return"].values))
    highest, lowest = np.maximum.accumulate(vol), np.minimum.accumulate(vol)
    largest = np.maximum.accumulate(size)
    days = history["date"].values.astype("datetime64[D]")
    starts = range(LEAST, days.size - HORIZON)
    out = set()
    for start in starts:
        after = slice(start + 1, start + 1 + HORIZON)
        high = (vol[after] > FACTOR * highest[start]).any(axis=(1, 2))
        low = (vol[after] < lowest[start] / FACTOR).any(axis=(1, 2))
        large = size[after] > FACTOR * largest[start]
        for name, found in (("vol", high | low), ("return", large)):
            out |= {f"{day} ({name})" for day in days[after][found]}
    return len(starts), sorted(out)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenarios", type=int, default=4096)
    parser.add_argument("--markets", default="spx_factors,sse50etf")
    given = parser.parse_args()
    histories = {name: load_real(name, pagetables.market_data()) for name in given.markets.split(",")}
    for name, history in histories.items():
        judged, found = days_outside(history)
        print(f"{name}: {judged:,} starting days; outside within {HORIZON} days: {', '.join(found) or 'none'}")
    print("share outside, weights by arbitrage / equal weights, %")
    for market, start, until, generators in STARTS:
        if market not in histories:
            continue
        history = histories[market]
        print(f"{market} from {start}, fitted to {until}")
        for generator in generators:
            model = volscen.fit(history.sel(date=slice(None, until)), generator)
            shares = []
            for horizon in (1, 5, 21):
                with warnings.catch_warnings():  # what is warned of is what is printed
                    warnings.simplefilter("ignore", ScenarioWarning)
                    cubes = [
                        volscen.generate(
                            model, history, as_of=start, n_scenarios=given.scenarios, horizon=horizon, seed=1, **how
                        )
                        for how in ({}, {"reweight": None})
                    ]
                weighed, equal = (100 * float(cube.attrs["implausible_share"]) for cube in cubes)
                shares.append(f"{horizon} steps {weighed:.2g} / {equal:.2g}")
            print(f"  {generator:<10} {',  '.join(shares)}")


if __name__ == "__main__":
    main()

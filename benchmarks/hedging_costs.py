"""Hedging under trading costs on fitted S&P 500 surfaces: what heeding the costs saves.

    VOLSCEN_DATA=... python benchmarks/hedging_costs.py [--years 2016,2017,2018] [--half-spread 0.002]

At-the-money straddles of 91 days, held to 60 days, are hedged every day with fixed contracts of 61 days at entry: one
option by delta-vega, flat and scaled, and by regression; six by the noise ridge, at several weights of the costs.
Scenarios are of the PCA generator fitted to 2013. Each day's error and cost are in basis points of the spot at entry;
holdings start from nothing with every straddle. Nothing later than the evening before is known to a hedge.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import xarray as xr

import pagetables
import volscen
from pagetables import plain
from volscen import Option, Portfolio, Underlying
from volscen.generators import Generator
from volscen.hedging import HedgeWarning
from volscen.sources import read_spx_factors
from volscen.surface import interpolate_vol

STRIKES = (0.9, 0.95, 0.975, 1.0, 1.025, 1.05)
ATM = 1 + STRIKES.index(1.0)
SPOT_COST = 5e-5
DAY = np.timedelta64(1, "D")
WEIGHTS = (0, 0.1, 0.2, 0.3, 0.5, 1.0)
ARMS = {
    "delta-vega": ("delta-vega", (0, ATM), {}),
    "delta-vega-sqrt": ("delta-vega-sqrt", (0, ATM), {}),
    **{f"regression, 1 option, weight {w}": ("regression", (0, ATM), {"cost_weight": w}) for w in (0, 0.2)},
    **{f"ridge, 6 options, weight {w}": ("ridge", tuple(range(7)), {"cost_weight": w}) for w in WEIGHTS},
}

#: Rows of the page's table.
SHOWN = {
    "delta-vega": "delta-vega, flat",
    "delta-vega-sqrt": "delta-vega, scaled by sqrt(tau)",
    "regression, 1 option, weight 0.2": "regression on one option, weight .2",
    "ridge, 6 options, weight 0": "ridge on six options, weight 0",
    "ridge, 6 options, weight 0.2": "**ridge on six options, weight .2**",
    "ridge, 6 options, weight 1.0": "ridge on six options, weight 1",
}


def value(history: xr.Dataset, row: int, strike: float, expiry: np.datetime64, is_call: bool) -> float:
    """Price on a date's surface."""
    spot = float(history.spot[row])
    years = (expiry - history.date.values[row].astype("datetime64[D]")).astype(int) / 365
    grid = history.tau.values, history.moneyness.values
    vol = interpolate_vol(history.implied_vol.values[row], *grid, years, strike / spot)
    return float(volscen.black.price(spot, strike, years, vol, is_call))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--years", default="2016,2017,2018")
    parser.add_argument("--half-spread", type=float, default=0.002, help="of options, in volatility")
    parser.add_argument("--scenarios", type=int, default=1000)
    pagetables.add_options(parser)
    arguments = parser.parse_args()
    years = arguments.years.split(",")
    header = ["", *years]
    pages = pagetables.Pages(
        arguments, {"costs": [header]}, kind="scores", minutes=0.6 * len(years), needs=[pagetables.MARKET_DATA]
    )
    data = pagetables.market_data()
    warnings.simplefilter("ignore", HedgeWarning)
    history = read_spx_factors(data / "spx_factors" / "spx_factors_1996_2018.csv")
    model = volscen.fit(history.sel(date=slice(None, "2013-12-31")), "pca")
    cells: dict[str, list[str]] = {arm: [] for arm in SHOWN}
    for year in years:
        for arm, cell in one_year(history, model, year, arguments).items():
            if arm in cells:
                cells[arm].append(cell)
    pages.add("costs", pagetables.table(header, [[SHOWN[arm], *cells[arm]] for arm in SHOWN]))
    pages.write()


def one_year(history: xr.Dataset, model: Generator, year: str, arguments: argparse.Namespace) -> dict[str, str]:
    """Hedge through a year, print all figures, and return those of the page: cost, net RMSE, net shortfall."""
    dates = history.date.values.astype("datetime64[D]")
    first, last = np.datetime64(f"{year}-01-01"), np.datetime64(f"{year}-12-31")
    rows = np.flatnonzero((dates >= first) & (dates <= last))
    error: dict[str, list[float]] = {arm: [] for arm in ARMS}
    cost: dict[str, list[float]] = {arm: [] for arm in ARMS}
    expiry = np.datetime64("NaT", "D")
    for row in rows[rows > 0]:
        now = row - 1
        if np.isnat(expiry) or (expiry - dates[now]).astype(int) <= 60:
            expiry, near, entry = dates[now] + 91 * DAY, dates[now] + 61 * DAY, float(history.spot[now])
            chain = [(round(k * entry, 2), k >= 1) for k in STRIKES]
            options = [Option("call" if call else "put", strike=k, expiry=near) for k, call in chain]
            held = {arm: np.zeros(len(columns)) for arm, (_, columns, _) in ARMS.items()}
        cube = volscen.generate(
            model,
            history,
            as_of=dates[now],
            n_scenarios=arguments.scenarios,
            seed=0,
            reweight=None,
            dtype="float64",
        )
        move = [float(history.spot[row] - history.spot[now])]
        move += [value(history, row, k, near, call) - value(history, now, k, near, call) for k, call in chain]
        book = sum(
            value(history, row, entry, expiry, call) - value(history, now, entry, expiry, call)
            for call in (True, False)
        )
        for arm, (method, columns, options_) in ARMS.items():
            traded = [Underlying(), *(options[i - 1] for i in columns[1:])]
            found = volscen.hedge(
                cube,
                Portfolio.straddle(strike=entry, expiry=expiry),
                traded,
                method=method,
                elapsed_days=int((dates[row] - dates[now]).astype(int)),
                current=held[arm],
                half_spread_vol=arguments.half_spread,
                proportional_cost={"underlying": SPOT_COST},
                **options_,
            )
            held[arm] = found.ratio.values
            error[arm].append(1e4 * (book - held[arm] @ np.array(move)[list(columns)]) / entry)
            cost[arm].append(1e4 * float(found.cost) / entry)
    print(f"{rows.size} days of {year}, half-spread {arguments.half_spread} of volatility; bp of entry spot")
    print(f"{'arm':<34}{'RMSE':>8}{'cost':>8}{'net RMSE':>10}{'net VaR95':>11}{'net VaR99':>11}{'net ES95':>10}")
    told = {}
    for arm in ARMS:
        gross, paid = np.array(error[arm]), np.array(cost[arm])
        net = gross - paid
        var, far = volscen.risk.value_at_risk(net, alpha=[0.05, 0.01])
        es = float(volscen.risk.expected_shortfall(net, alpha=0.05))
        rmse, net_rmse = (float(np.sqrt(np.mean(each**2))) for each in (gross, net))
        print(f"{arm:<34}{rmse:>8.2f}{paid.mean():>8.2f}{net_rmse:>10.2f}{var:>11.2f}{far:>11.2f}{es:>10.2f}")
        told[arm] = f"{plain(paid.mean(), 2)} / {plain(net_rmse, 2)} / {plain(es, 1)}"
    return told


if __name__ == "__main__":
    main()

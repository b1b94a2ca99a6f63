"""Daily rehedged straddles and puts on real markets: every hedging method by every generator, and the targets.

    VOLSCEN_DATA=/path/to/data python benchmarks/hedging_backtest.py [--period test] [--quick] [--out folder]

``spx_factors``, prices from the fitted surfaces' own formula, options held from about 91 to 60 days (the surfaces are
valid beyond 30 only), hedging options fixed to contracts at each opening:
A: 91-day straddle, 61-day options. B: 91-day straddle struck at 1.1 of the spot, options of its expiry.
C: 122-day straddle, 91-day options. D: 91-day straddle, other strikes of its expiry. E: 91-day .95 put, 61-day options.
``sse50etf``, real closes, straddle of the second expiry to five days before it, hedged with options of its own expiry
(``same``) or of the next (``next``), those nearest the money each evening; LASSO at opening among those of the opening.

Generators are refitted yearly and learn every evening. What is set below was chosen on the validation years (2014-15;
2021); the test years (2016-18; 2022) are for looking at once. Errors are daily, in basis points of the spot at opening.
Used by ``end_to_end.py``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import pagetables
import volscen
from pagetables import plain
from volscen import Option, Portfolio, Underlying
from volscen.hedging import Costs, HedgeArm, HedgeInstruments, RolledPosition, backtest_table
from volscen.sources import read_spx_factors, read_table
from volscen.sources.spx_factors import factor_vol

PERIODS = {
    "spx": {"validation": ("2014-01-01", "2015-12-31"), "test": ("2016-01-01", "2018-12-31")},
    "sse": {"validation": ("2021-01-01", "2021-12-31"), "test": ("2022-01-01", "2022-12-31")},
}
SSE_TAU = np.array([30, 60, 91, 122, 152]) / 365
SSE_MONEYNESS = np.exp(np.linspace(-0.10, 0.10, 9))

#: Half a spread of .2 vol points, and a basis point of the underlying; half a tick of 0.0001 at least on the SSE.
COSTS = {"spx": Costs(0.002, 0.0, 1e-4), "sse": Costs(0.002, 5e-5, 1e-4)}

#: Chosen on the validation years.
GENERATORS: dict[str, Any] = {
    "bootstrap": "bootstrap",
    "pca": ("pca", {"residual_days": 2000}),
    "har": "har",
}
#: Trailing window whose slopes of volatility on the index give the classical minimum-variance delta; those of all past
#: days are shown as well.
SLOPES = ("recent days", ("bootstrap", {"window": 500}))
POOL = ("pca", "har")
RIDGE: dict[str, dict[str, Any]] = {"spx": {}, "sse": {"noise": 0.003, "noise_floor": 2e-4}}
COST_WEIGHT = {"spx": 0.3, "sse": 0.3}
BEST = {"underlying": "pool", "one option": "har", "several": "har"}
N_SCENARIOS = {"spx": 1000, "sse": 4000}

SPX_STRIKES = (0.9, 0.95, 0.975, 1.0, 1.025, 1.05)
SSE_STOP_DAYS = 5
SSE_OPTIONS = 10


@dataclass(frozen=True)
class Configuration:
    """What is hedged, with what."""

    market: str
    title: str
    position: RolledPosition
    one: HedgeInstruments
    several: HedgeInstruments
    opening: HedgeInstruments  # the same, as they were at the opening
    held: HedgeInstruments | None = None  # one option, nearest the money at the opening
    neighbours: bool = False


def configurations() -> dict[str, Configuration]:
    """The protocols by letter or word."""
    straddle, opening = Portfolio.straddle, {"strike_over_spot": 1.0}

    def spx(title: str, portfolio: Portfolio, until: int, days: int, one: float = 1.0, **more: Any) -> Configuration:
        def option(strike: float) -> Option:
            return Option("put" if strike < 1 else "call", strike_over_spot=strike, tau=days / 365)

        return Configuration(
            "spx", title, RolledPosition(portfolio, until), HedgeInstruments([Underlying(), option(one)]),
            *[HedgeInstruments([Underlying(), *map(option, SPX_STRIKES)])] * 2, **more,
        )  # fmt: skip

    put = Portfolio([Option("put", strike_over_spot=0.95, tau=91 / 365)])
    found = {
        "A": spx("91-day straddle, 61-day options", straddle(**opening, tau=91 / 365), 60, 61),
        "B": spx("91-day straddle at 1.1, same expiry", straddle(strike_over_spot=1.1, tau=91 / 365), 60, 91),
        "C": spx("122-day straddle, 91-day options", straddle(**opening, tau=122 / 365), 91, 91),
        "D": spx(
            "91-day straddle, other strikes", straddle(**opening, tau=91 / 365), 60, 91, one=1.025, neighbours=True
        ),
        "E": spx("91-day .95 put, 61-day options", put, 60, 61),
    }
    for name, later in (("same", 0), ("next", 1)):
        found[name] = Configuration(
            "sse",
            f"straddle of the second expiry, options of {'its own' if later == 0 else 'the next'} expiry, real closes",
            RolledPosition(second_expiry, SSE_STOP_DAYS),
            HedgeInstruments(nearest(later, 1), renew="day"),
            HedgeInstruments(nearest(later, SSE_OPTIONS), renew="day"),
            HedgeInstruments(nearest(later, SSE_OPTIONS)),
            HedgeInstruments(nearest(later, 1, opening=True), renew="day"),
        )
    return found


def second_expiry(day: Any) -> Portfolio | None:
    """Straddle nearest the money; the evening passes where there is no later expiry to hedge with."""
    if day.expiries.size < 3:
        return None
    expiry = day.expiries[1]
    strikes = day.strikes(expiry)
    return Portfolio.straddle(strike=float(strikes[np.argmin(np.abs(strikes - day.spot))]), expiry=expiry)


def nearest(later: int, count: int, *, opening: bool = False) -> Callable[[Any, Any], list[Any]]:
    """Options of the position's expiry or the next, nearest the money now or at the opening; puts below its spot."""

    def rule(day: Any, position: Any) -> list[Any]:
        expiries = day.expiries[day.expiries >= position.expiry]
        if expiries.size <= later:
            return [Underlying()]
        expiry = expiries[later]
        held = {i.strike for i in position.portfolio.instruments} if later == 0 else set()
        middle = position.spot if opening else day.spot
        strikes = sorted((k for k in day.strikes(expiry) if k not in held), key=lambda k: abs(k - middle))
        chosen = sorted(float(k) for k in strikes[:count])
        return [
            Underlying(),
            *(Option("call" if k >= position.spot else "put", strike=k, expiry=expiry) for k in chosen),
        ]

    return rule


def arms(configuration: Configuration, generators: list[str]) -> dict[str, HedgeArm]:
    """Every method by every generator."""
    market = configuration.market
    ridge = RIDGE[market]
    out = {
        "no hedge": HedgeArm("none", instruments="underlying"),
        "delta": HedgeArm("delta", None, "underlying"),
        "minimum-variance delta": HedgeArm("min-variance-delta", SLOPES[0], "underlying"),
        "delta-vega": HedgeArm("delta-vega", None, "one"),
        "delta-vega, sqrt(tau)": HedgeArm("delta-vega-sqrt", SLOPES[0], "one"),
    }
    if "bootstrap" in generators:
        out["delta-vega, sqrt(tau), all days"] = HedgeArm("delta-vega-sqrt", "bootstrap", "one")
    if configuration.held is not None:
        out["delta-vega, option held"] = HedgeArm("delta-vega", None, "held")
    if configuration.neighbours:
        out["two neighbouring strikes"] = HedgeArm("neighbours", SLOPES[0], "several")
    pools = {name: name for name in generators} | ({"pool": POOL} if set(POOL) <= set(generators) else {})
    for name, generator in pools.items():
        out |= {
            f"regression, underlying | {name}": HedgeArm("regression", generator, "underlying"),
            f"regression, one option | {name}": HedgeArm("regression", generator, "one"),
            f"shortfall, one option | {name}": HedgeArm("min-es", generator, "one", {"tail": 0.2}),
            f"ridge | {name}": HedgeArm("ridge", generator, "several", ridge),
            f"ridge, costs | {name}": HedgeArm(
                "ridge", generator, "several", {**ridge, "cost_weight": COST_WEIGHT[market]}, cost_aware=True
            ),
        }
        if name != "pool":
            out |= {
                f"LASSO daily | {name}": HedgeArm("lasso", generator, "several"),
                f"LASSO at opening | {name}": HedgeArm("regression", generator, "opening", select="lasso"),
            }
    return out


def run(
    configuration: Configuration,
    history: xr.Dataset,
    generators: dict[str, Any],
    first: str,
    last: str,
    *,
    market: Any,
    n_scenarios: int,
    refit_every: Any = "year",
    num_workers: int = 1,
    folder: Path | None = None,
) -> xr.Dataset:
    """Backtest one configuration."""
    sets = {name: getattr(configuration, name) for name in ("one", "several", "opening", "held")}
    return volscen.backtest_hedge(
        history, configuration.position, arms(configuration, list(generators)),
        instruments={"underlying": [Underlying()]} | {name: one for name, one in sets.items() if one is not None},
        generators=generators | {SLOPES[0]: SLOPES[1]}, first=first, last=last, market=market,
        costs=COSTS[configuration.market], n_scenarios=n_scenarios, refit_every=refit_every, num_workers=num_workers,
        folder=folder,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- printing
def tables(found: xr.Dataset) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Statistics before and after costs."""
    return tuple(backtest_table(found, baseline="delta-vega", net=net) for net in (False, True))  # type: ignore[return-value]


def show(title: str, found: xr.Dataset) -> None:
    """Print a table, gross beside net."""
    gross, net = tables(found)
    positions = np.unique(found["position"].values).size
    print(f"\n{title}: {found.sizes['date']} days, {positions} positions; daily error, bp of the spot at opening")
    print(
        f"{'method':<36}{'mean':>7}{'sd':>7}{'RMSE':>7}{'VaR5':>7}{'VaR2.5':>8}{'VaR1':>7}{'ES5':>7}{'DM t':>7} |"
        f"{'net RMSE':>9}{'VaR5':>7}{'ES5':>7}{'DM t':>7} |{'cost':>6}{'trade':>8}{'options':>8}{'ratio':>7}"
    )
    for label, g in gross.iterrows():
        n = net.loc[label]
        print(
            f"{label:<36}{g['mean']:>7.2f}{g['sd']:>7.2f}{g['rmse']:>7.2f}{g['var_5']:>7.2f}{g['var_2.5']:>8.2f}"
            f"{g['var_1']:>7.2f}{g['es_5']:>7.2f}{g['dm_t']:>7.1f} |{n['rmse']:>9.2f}{n['var_5']:>7.2f}"
            f"{n['es_5']:>7.2f}{n['dm_t']:>7.1f} |{g['cost']:>6.2f}{g['turnover']:>8.0f}{g['n_options']:>8.1f}"
            f"{g['largest_ratio']:>7.1f}"
        )


def targets(name: str, market: str, found: xr.Dataset) -> list[tuple[str, float, float]]:
    """What was aimed at: text, value reached, largest value allowed."""
    gross, net = tables(found)

    def best(what: str) -> str:
        return BEST[what] if f"ridge | {BEST[what]}" in gross.index else str(gross.index[-1]).split(" | ")[1]

    def ratio(table: pd.DataFrame, own: str, other: str, column: str = "rmse") -> float:
        return float(table.loc[own, column] / table.loc[other, column])

    out = []
    if name in "ACE":
        own = f"regression, underlying | {best('underlying')}"
        out += [
            (f"{own}: RMSE over delta", ratio(gross, own, "delta"), 0.80),
            (f"{own}: over minimum-variance delta", ratio(gross, own, "minimum-variance delta"), 0.95),
            (
                f"{own}: over the same on historical simulation",
                ratio(gross, own, "regression, underlying | bootstrap"),
                0.80,
            ),
        ]
    if name in "AC":
        own = f"shortfall, one option | {best('one option')}"
        out += [
            (f"{own}: RMSE over delta-vega", ratio(gross, own, "delta-vega"), 0.45),
            (f"{own}: over delta-vega, sqrt(tau)", ratio(gross, own, "delta-vega, sqrt(tau)"), 1.0),
            *(
                (f"{own}: over {other}", ratio(gross, own, other), 1.0)
                for other in ["delta-vega, sqrt(tau), all days"]
                if other in gross.index
            ),
            (f"{own}: VaR 5% over delta-vega", ratio(gross, own, "delta-vega", "var_5"), 1.0),
            (f"{own}: VaR 1% over delta-vega", ratio(gross, own, "delta-vega", "var_1"), 1.0),
        ]
    if market == "sse":
        own, aware = (f"{method} | {best('several')}" for method in ("ridge", "ridge, costs"))
        for base in ("delta-vega", "delta-vega, option held"):
            out += [
                (f"{own}: RMSE over {base}, before costs", ratio(gross, own, base), 0.70),
                (f"{aware}: RMSE over {base}, after costs", ratio(net, aware, base), 0.75),
                (f"{aware}: VaR 5% over {base}, after costs", ratio(net, aware, base, "var_5"), 1.0),
                (f"{aware}: cost over {base}", ratio(gross, aware, base, "cost"), 1.5),
            ]
        out += [
            (f"{one}: largest ratio of an option", float(gross.loc[one, "largest_ratio"]), 15.0) for one in (own, aware)
        ]
    return out


# --------------------------------------------------------------------------------------------- of the pages
#: Rows of the page's tables: what they are called, and whose figures they hold.
SPX_ROWS = {
    "no hedge": ["no hedge"],
    "Black-Scholes delta": ["delta"],
    "minimum-variance delta (slopes of the last 500 days)": ["minimum-variance delta"],
    "regression, underlying: bootstrap / pca / har / pca + har": [
        f"regression, underlying | {one}" for one in ("bootstrap", "pca", "har", "pool")
    ],
    "delta-vega, flat": ["delta-vega"],
    "delta-vega, sqrt(tau), slopes of the last 500 days / of all": [
        "delta-vega, sqrt(tau)",
        "delta-vega, sqrt(tau), all days",
    ],
    "regression, one option: bootstrap / pca / har / pca + har": [
        f"regression, one option | {one}" for one in ("bootstrap", "pca", "har", "pool")
    ],
    "least expected shortfall (20%), one option: har": ["shortfall, one option | har"],
    "noise ridge, several: bootstrap / pca / har / pca + har": [
        f"ridge | {one}" for one in ("bootstrap", "pca", "har", "pool")
    ],
    "LASSO every evening: bootstrap / pca / har": [f"LASSO daily | {one}" for one in ("bootstrap", "pca", "har")],
    "LASSO at opening, then least squares": [f"LASSO at opening | {one}" for one in ("bootstrap", "pca", "har")],
}
SSE_ROWS = {
    "Black-Scholes delta": "delta",
    "delta-vega, the option nearest the money each evening": "delta-vega",
    "delta-vega, nearest at the opening and held": "delta-vega, option held",
    "delta-vega, sqrt(tau)": "delta-vega, sqrt(tau)",
    "regression, one option (har)": "regression, one option | har",
    "LASSO every evening (har)": "LASSO daily | har",
    "LASSO at opening, then least squares (har)": "LASSO at opening | har",
    "noise ridge (har)": "ridge | har",
    "noise ridge, cost-aware (har)": "ridge, costs | har",
    "the same, bootstrap": "ridge, costs | bootstrap",
}
#: Of the README; the option that is held is the only one on the S&P.
README_ROWS = {
    "Black-Scholes delta": "delta",
    "regression on the underlying, historical simulation / PCA / HAR, gross": "",
    "delta-vega, flat": "delta-vega",
    "delta-vega, flat, option held": "delta-vega, option held",
    "delta-vega scaled by sqrt(tau)": "delta-vega, sqrt(tau)",
    "regression on the underlying and one option, HAR": "regression, one option | har",
    "LASSO every evening, HAR": "LASSO daily | har",
    "ridge of the size of quote noise, cost-aware, HAR": "ridge, costs | har",
}
README_COLUMNS = {"A": "S&P 500, gross / net", "next": "SSE 50 ETF, gross / net"}
EXPIRIES = {"same": "own", "next": "next"}


def page_columns(names: list[str]) -> dict[str, list[str]]:
    """Columns of the pages' tables that some configurations fill, by table."""
    spx = [name for name in names if name in "ACE"]
    sse = [
        column
        for name in names
        if name in EXPIRIES
        for one in [EXPIRIES[name]]
        for column in (f"{one} expiry: gross", f"{one}: net", f"{one}: VaR 5% net", f"{one}: cost")
    ]
    readme = [README_COLUMNS[name] for name in names if name in README_COLUMNS]
    found = {"spx": spx, "sse": sse, "readme": readme}
    return {table: ["method", *columns] for table, columns in found.items() if columns}


def spx_column(gross: pd.DataFrame) -> list[str]:
    """Errors before costs; the least with the underlying alone, and the least of all others, in bold."""

    def least(inside: bool) -> float:
        arms = [arm for row, some in SPX_ROWS.items() for arm in some if inside == (row in list(SPX_ROWS)[:4])]
        return float(gross.loc[arms, "rmse"].min())

    best = {f"{least(inside):.2f}" for inside in (True, False)}
    shown = [[f"{gross.loc[arm, 'rmse']:.2f}" for arm in arms] for arms in SPX_ROWS.values()]
    return [" / ".join(f"**{text}**" if text in best else text for text in row) for row in shown]


def sse_columns(gross: pd.DataFrame, net: pd.DataFrame) -> list[list[str]]:
    """Errors before and after costs, value at risk, costs; the least errors in bold."""
    arms = list(SSE_ROWS.values())
    columns = []
    for frame, column in ((gross, "rmse"), (net, "rmse"), (net, "var_5"), (gross, "cost")):
        texts = [plain(frame.loc[arm, column], 2) for arm in arms]
        values = frame.loc[arms, column].tolist()
        columns.append(pagetables.best_bold(texts, values) if column == "rmse" else texts)
    return columns


def readme_column(gross: pd.DataFrame, net: pd.DataFrame) -> list[str]:
    """Errors before and after costs, to a tenth; the least after costs in bold, and of regressions that beat delta."""
    arms = [arm for arm in README_ROWS.values() if arm in net.index]
    best = f"{net.loc[arms, 'rmse'].min():.1f}"
    texts = []
    for arm in README_ROWS.values():
        if arm:
            own = arm if arm in gross.index else "delta-vega"
            after = f"{net.loc[own, 'rmse']:.1f}"
            texts.append(f"{gross.loc[own, 'rmse']:.1f} / {f'**{after}**' if after == best else after}")
        else:
            each = [gross.loc[f"regression, underlying | {one}", "rmse"] for one in ("bootstrap", "pca", "har")]
            beaten = min(each) if min(each) < gross.loc["delta", "rmse"] else None
            texts.append(" / ".join(f"**{one:.1f}**" if one == beaten else f"{one:.1f}" for one in each))
    return texts


def page_tables(results: dict[str, xr.Dataset]) -> dict[str, str]:
    """Tables of the pages, of the configurations that were run."""
    found = {name: tables(result) for name, result in results.items()}
    out = {}
    for table, header in page_columns(list(results)).items():
        labels = list({"spx": SPX_ROWS, "sse": SSE_ROWS, "readme": README_ROWS}[table])
        columns = [labels]
        for name, (gross, net) in found.items():
            if table == "spx" and name in "ACE":
                columns.append(spx_column(gross))
            elif table == "sse" and name in EXPIRIES:
                columns += sse_columns(gross, net)
            elif table == "readme" and name in README_COLUMNS:
                columns.append(readme_column(gross, net))
        out[table] = pagetables.table(header, list(zip(*columns, strict=True)))
    return out


# ----------------------------------------------------------------------------------------- of end_to_end.py
def hedge_spx(
    history: xr.Dataset, fitted: dict[str, Any], first: str, last: str, n_scenarios: int, data: Path
) -> dict[str, dict[str, float]]:
    """Configuration A by models that are fitted already."""
    return _rows("A", history, fitted, first, last, n_scenarios, factor_market(data))


def hedge_sse(
    history: xr.Dataset, quotes: pd.DataFrame, fitted: dict[str, Any], first: str, last: str, n_scenarios: int
) -> dict[str, dict[str, float]]:
    """Configuration ``next`` by models that are fitted already."""
    if "adjusted" not in quotes:
        quotes = quotes.rename(columns={"adjusted_contract": "adjusted"})
    return _rows("next", history, fitted, first, last, n_scenarios, quotes)


def _rows(
    name: str, history: xr.Dataset, fitted: dict[str, Any], first: str, last: str, n_scenarios: int, market: Any
) -> dict[str, dict[str, float]]:
    configuration = configurations()[name]
    found = run(configuration, history, fitted, first, last, market=market, n_scenarios=n_scenarios, refit_every=None)
    show(f"{configuration.title}, {first[:4]}-{last[:4]}", found)
    gross, net = tables(found)
    columns = {"mean": "mean", "rmse": "rmse", "var95": "var_5", "var99": "var_1", "cost": "cost"}
    return {
        str(label): {key: float(row[column]) for key, column in columns.items()}
        | {"net_rmse": float(net.loc[label, "rmse"]), "days": float(found.sizes["date"])}
        for label, row in gross.iterrows()
    }


# ---------------------------------------------------------------------------------------------------- running
def factor_market(data: Path) -> Callable[[np.datetime64, np.ndarray, np.ndarray], np.ndarray]:
    """Volatilities by the five factors themselves, at any strike and maturity."""
    table = pd.read_csv(data / "spx_factors" / "spx_factors_1996_2018.csv", parse_dates=["date"])
    beta = table[[f"beta_{i}" for i in range(1, 6)]].to_numpy()
    by_date = dict(zip(table["date"].to_numpy().astype("datetime64[D]"), beta, strict=True))

    def vol(date: np.datetime64, tau: np.ndarray, moneyness: np.ndarray) -> np.ndarray:
        return np.diagonal(factor_vol(by_date[date], tau, moneyness))

    return vol


def load(data: Path, market: str) -> tuple[xr.Dataset, Any]:
    """History, and what contracts really cost."""
    if market == "spx":
        return read_spx_factors(data / "spx_factors" / "spx_factors_1996_2018.csv"), factor_market(data)
    columns = {"price": "close", "option_type": "type", "adjusted": "adjusted_contract"}
    quotes, _ = read_table(data / "sse50etf" / "sse50etf_options_2015_2022.parquet", columns=columns)
    whole = quotes.rename(columns={"adjusted": "adjusted_contract"})  # surfaces are fitted to altered contracts too
    return volscen.build_history(whole, tau=SSE_TAU, moneyness=SSE_MONEYNESS, calendar="XSHG")[0], quotes


def main() -> None:
    """Backtest and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--period", default="test", choices=["validation", "test"])
    parser.add_argument("--configurations", default="A,B,C,D,E,same,next")
    parser.add_argument("--generators", default=",".join(GENERATORS), help="of the registry")
    parser.add_argument("--volgan", type=Path, help="folder of trained models <market>.safetensors, to be added")
    parser.add_argument("-n", "--n-scenarios", type=int, help="scenarios a day and generator")
    parser.add_argument("--num-workers", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for the results (NetCDF); an interrupted run goes on from it")
    parser.add_argument("--quick", action="store_true", help="five weeks of A: a check that it runs")
    pagetables.add_options(parser)
    arguments = parser.parse_args()
    names = ["A"] if arguments.quick else arguments.configurations.split(",")
    pieces = {name: [columns] for name, columns in page_columns(names).items()}
    pages = pagetables.Pages(arguments, pieces, kind="scores", minutes=10 * len(names), needs=[pagetables.MARKET_DATA])
    folder = pagetables.market_data()
    results: dict[str, xr.Dataset] = {}
    loaded: dict[str, tuple[xr.Dataset, Any]] = {}
    reached: list[tuple[str, str, float, float]] = []
    for name in names:
        configuration = configurations()[name]
        market = configuration.market
        if market not in loaded:
            loaded[market] = load(folder, market)
        history, contracts = loaded[market]
        generators = {one: GENERATORS.get(one, one) for one in arguments.generators.split(",")}
        if arguments.volgan:
            generators["volgan"] = volscen.load(arguments.volgan / f"{market}.safetensors")
        first, last = PERIODS[market][arguments.period]
        if arguments.quick:
            last = f"{first[:4]}-02-05"
        n_scenarios = 100 if arguments.quick else arguments.n_scenarios or N_SCENARIOS[market]
        started = time.process_time(), time.perf_counter()
        found = run(
            configuration, history, generators, first, last, market=contracts,
            n_scenarios=n_scenarios, num_workers=arguments.num_workers,
            folder=arguments.out / f"{name}-{arguments.period}" if arguments.out else None,
        )  # fmt: skip
        show(f"{name}: {configuration.title}, {first[:4]}-{last[:4]}", found)
        print(f"{time.process_time() - started[0]:.0f} s of processor, {time.perf_counter() - started[1]:.0f} s")
        if arguments.out:
            found.to_netcdf(arguments.out / f"{name}-{arguments.period}.nc")
        results[name] = found
        reached += [(name, *one) for one in targets(name, market, found)]
        sys.stdout.flush()
    print(f"\ntargets, {arguments.period} years")
    for name, text, value, limit in reached:
        print(f"{'met   ' if value <= limit else 'MISSED'}  {name:<5}{text:<72}{value:>7.3f}  at most {limit:g}")
    if set(GENERATORS) <= set(arguments.generators.split(",")):
        for name, text in page_tables(results).items():
            pages.add(name, text)
        pages.write()


if __name__ == "__main__":
    main()

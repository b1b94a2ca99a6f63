"""Quotes to surfaces: what is right, what fits, what is free of arbitrage, and how long it takes beside plain Python.

python benchmarks/chains.py                        a simulated chain of 4,000 quotes, American prices
VOLSCEN_DATA=folder python benchmarks/chains.py    the real markets too: every figure of docs/quotes.md on speed
python benchmarks/chains.py --quick                the same on few days, within seconds

Beside it in the same run, where installed: py_vollib_vectorized for volatilities and scipy's least_squares for raw-SVI
slices, one after another, with the forwards of a straight line through call minus put; and QuantLib for American
prices. Nothing is timed before it is found right. Times are processor times, least of several, unless said otherwise.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

import pagetables
import volscen
from volscen import american, arbitrage, black
from volscen.errors import InputError
from volscen.sources import read_lean, read_table
from volscen.surface._svi import fit_svi

TAU = np.array([30, 60, 91, 122, 152]) / 365
MONEYNESS = np.exp(np.linspace(-0.1, 0.1, 9))
LONG_TAU = np.array([30, 60, 91, 122, 182, 273, 365]) / 365
LONG_MONEYNESS = np.exp(np.linspace(-0.2, 0.1, 10))
DAILY = {
    "AAPL": "option__usa__daily__aapl_2014_quote_american.zip",
    "GOOG": "option__usa__daily__goog_2015_quote_american.zip",
}
SPX = "indexoption__usa__universes__spx__{}.csv"

#: Of the page's table.
HEADER = ["job", "volscen", "beside it"]


def least(work: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """Result and least processor time in seconds."""
    best, found = np.inf, None
    for _ in range(repeats):
        start = time.process_time()
        found = work()
        best = min(best, time.process_time() - start)
    return found, best


def plain_day(quotes: pd.DataFrame) -> tuple[int, int]:
    """Do a day's job with py_vollib_vectorized and scipy: volatilities and slices found."""
    from py_vollib_vectorized import vectorized_implied_volatility_black

    price = (quotes["bid"] + quotes["ask"]) / 2 if "bid" in quotes else quotes["price"]
    table = quotes.assign(price=price, tau=(quotes["expiry"] - quotes["date"]).dt.days / 365)
    n_vols = n_slices = 0
    for tau, rows in table[table["tau"] >= 5 / 365].groupby("tau"):
        wide = rows.drop_duplicates(["strike", "option_type"]).pivot(
            index="strike", columns="option_type", values="price"
        )
        both = wide.dropna()
        if len(both) < 4:
            continue
        slope, level = np.polyfit(both.index.to_numpy(), (both["C"] - both["P"]).to_numpy(), 1)
        if not slope < 0:
            continue
        forward, rate = -level / slope, -np.log(-slope) / tau
        out = rows[(rows["option_type"] == "C") == (rows["strike"] >= forward)]
        vol = vectorized_implied_volatility_black(
            out["price"].to_numpy(), forward, out["strike"].to_numpy(), rate, tau,
            np.where(out["option_type"] == "C", "c", "p"), on_error="ignore", return_as="numpy",
        )  # fmt: skip
        sound = np.isfinite(vol) & (vol > 0.01) & (vol < 5)
        k, vol = np.log(out["strike"].to_numpy() / forward)[sound], vol[sound]
        n_vols += len(k)
        if len(k) < 5:
            continue
        w = vol**2 * tau

        def miss(p: Any, k: Any = k, w: Any = w, vol: Any = vol) -> Any:
            a, b, rho, m, sigma = p
            return (a + b * (rho * (k - m) + np.hypot(k - m, sigma)) - w) / vol

        least_squares(
            miss, [0.5 * w.min(), 0.1, -0.3, 0.0, 0.1],
            bounds=([-1.0, 0, -0.999, -2, 1e-4], [w.max(), 5, 0.999, 2, 5]),
        )  # fmt: skip
        n_slices += 1
    return n_vols, n_slices


def beside_plain(quotes: pd.DataFrame, days: list[Any], tau: Any, moneyness: Any, name: str) -> tuple[float, float]:
    """Seconds of processor time a day, ours and the plain way's; NaN where that is not installed."""
    tables = {day: quotes[quotes["date"] == day] for day in days}

    def one(day: Any) -> None:
        volscen.build_surface(volscen.Chain(tables[day]), tau, moneyness)

    for day in days:
        try:
            one(day)
        except InputError:  # the grid reaches too far that day
            del tables[day]
    days = list(tables)
    try:
        for day in days[:1]:
            plain_day(tables[day])
    except (ImportError, AttributeError) as error:
        print(f"{name}: py_vollib_vectorized is absent ({error})")
        return np.nan, np.nan
    _, mine = least(lambda: [one(day) for day in days], 3)
    found, theirs = least(lambda: [plain_day(tables[day]) for day in days], 1)
    n = len(days)
    print(
        f"{name}, {n} day(s): volscen {1e3 * mine / n:.1f} ms a day (checks, filters, robust parity, slices free of "
        f"arbitrage, grid); py_vollib_vectorized and scipy {1e3 * theirs / n:.0f} ms ({sum(v for v, _ in found) // n} "
        f"volatilities, {sum(s for _, s in found) // n} slices a day), {theirs / mine:.0f} times as long"
    )
    return mine / n, theirs / n


def one_chain(repeats: int) -> list[str]:
    """Time a simulated chain, and return its row of the page."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # one chain for tests and benchmark
    from chain_makers import index_chain

    quotes = index_chain(strikes=80)
    chain, parse = least(lambda: volscen.Chain(quotes), repeats)
    surface, fit = least(lambda: volscen.build_surface(chain, LONG_TAU, LONG_MONEYNESS), repeats)
    assert surface.attrs["fit_share_in_spread"] > 0.95, surface.attrs
    off = (chain.forwards["forward"] - 4700 * np.exp(0.035 * chain.forwards["tau"])) / chain.forwards["forward_error"]
    assert np.abs(off).max() < 6, off
    print(
        f"simulated chain, {len(quotes):,} quotes, {chain.forwards.shape[0]} expiries: chain {1e3 * parse:.1f} ms, "
        f"surface {1e3 * fit:.1f} ms, together {1e3 * (parse + fit):.1f} ms; "
        f"{surface.attrs['fit_share_in_spread']:.1%} of {surface.attrs['n_quotes']} quotes within bid and ask"
    )
    mine, theirs = beside_plain(quotes, [quotes["date"].iloc[0]], LONG_TAU, LONG_MONEYNESS, "simulated chain")
    share = surface.attrs["fit_share_in_spread"]
    within = "all quotes" if share == 1 else f"{share:.1%} of quotes"
    job = f"{len(quotes):,} quotes with bid and ask, {chain.forwards.shape[0]} expiries, to a surface"
    return [job, f"{1e3 * mine:.0f} ms; {within} within bid and ask", f"{1e3 * theirs:,.0f} ms"]


def quantlib_american(spot: float, strike: float, days: int, vol: float, call: bool, r: float, q: float) -> float:
    import QuantLib as ql

    today, count = ql.Date(2, 1, 2024), ql.Actual365Fixed()
    ql.Settings.instance().evaluationDate = today
    flat = [ql.YieldTermStructureHandle(ql.FlatForward(today, x, count)) for x in (q, r)]
    process = ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(spot)), *flat,
        ql.BlackVolTermStructureHandle(ql.BlackConstantVol(today, ql.NullCalendar(), vol, count)),
    )  # fmt: skip
    side = ql.Option.Call if call else ql.Option.Put
    option = ql.VanillaOption(ql.PlainVanillaPayoff(side, strike), ql.AmericanExercise(today, today + days))
    option.setPricingEngine(ql.QdFpAmericanEngine(process, ql.QdFpAmericanEngine.accurateScheme()))
    return float(option.NPV())


def american_kernel(n: int) -> list[str]:
    """Time American prices and volatilities, and return their row of the page."""
    rng = np.random.default_rng(0)
    strike, days = np.round(rng.uniform(70, 140, n), 1), rng.integers(7, 730, n)
    tau, vol, call = days / 365, rng.uniform(0.15, 0.6, n), rng.random(n) < 0.5
    rate, yields = rng.uniform(0.001, 0.08, n), rng.uniform(0, 0.08, n)
    price, mine = least(lambda: american.price(100.0, strike, tau, vol, call, rate, yields), 5)
    (found, status), back = least(lambda: american.implied_vol(price, 100.0, strike, tau, call, rate, yields), 3)
    out = call == (strike >= 100 * np.exp((rate - yields) * tau))
    vega = black.vega(100 * np.exp((rate - yields) * tau), strike, tau, vol, call, np.exp(-rate * tau))
    liquid = out & (vega > 1)
    assert np.all(status[liquid] == 0)
    assert np.abs(found - vol)[liquid].max() < 1e-6
    calm = np.maximum(rate, yields) * tau < 0.06
    few = [x[calm] for x in (strike, tau, vol, call, rate, yields, price)]
    k, t, s, c, r, q, p = few
    _, mine_calm = least(lambda: american.price(100.0, k, t, s, c, r, q), 5)
    _, back_calm = least(lambda: american.implied_vol(p, 100.0, k, t, c, r, q), 3)
    ours = (f"{1e6 * mine / n:.0f} us, {1e6 * back / n:.0f} us ({1e6 * mine_calm / calm.sum():.0f} us, "
            f"{1e6 * back_calm / calm.sum():.0f} us where rate times life is below 6%)")  # fmt: skip
    told = f"American options: {1e6 * mine / n:.1f} us a price, {1e6 * back / n:.1f} us a volatility"
    try:
        rows = list(zip(strike.tolist(), days.tolist(), vol, call.tolist(), rate, yields, strict=True))
        theirs, spent = least(lambda: np.array([quantlib_american(100.0, *row) for row in rows]), 1)
    except ImportError:
        print(told + "; QuantLib is absent")
        return ["an American price, a volatility", ours, "not run"]
    miss = 1e4 * (np.abs(price - theirs) / vega)[liquid].max()
    assert miss < 0.5, miss
    print(
        f"{told}; QuantLib's QdFp engine, accurate scheme: {1e6 * spent / n:.0f} us, at most {miss:.3f} bp of vol apart"
    )
    beside = f"{1e6 * spent / n:.0f} us a price, at most {miss:.3f} basis points of vol apart"
    return ["an American price, a volatility", ours, beside]


def count_near(chain: volscen.Chain, tau: np.ndarray, moneyness: np.ndarray) -> int:
    """Quotes that the default smoother meets within 50 bp of vol."""
    surface = fit_svi(chain, tau, moneyness)
    table = chain.quotes
    error = surface.implied_vol(table["tau"].to_numpy(), table["log_moneyness"].to_numpy()) - table["implied_vol"]
    return int((np.abs(error) <= 0.005).sum())


def sse(data: Path, quick: bool) -> None:
    raw = pd.read_parquet(data / "sse50etf" / "sse50etf_options_2015_2022.parquet")
    usable = raw[raw["use_for_surface"]]
    vol, status = black.implied_vol(
        usable["close"], usable["forward"], usable["strike"], usable["tau_years"], usable["type"] == "C",
        usable["discount_factor"],
    )  # fmt: skip
    gap = np.abs(vol - usable["iv"]).max()
    assert np.all(status == 0)
    assert gap < 1e-6, gap
    print(f"SSE 50 ETF: {len(usable):,} volatilities equal the file's to {gap:.1e}")
    quotes, _ = read_table(raw, columns={"option_type": "type", "price": "close", "adjusted": "adjusted_contract"})
    dates = np.unique(quotes["date"])
    if quick:
        quotes = quotes[quotes["date"].isin(dates[::20])]
        dates = dates[::20]
    start = time.perf_counter()
    history, report = volscen.build_history(quotes, tau=TAU, moneyness=MONEYNESS, num_workers=1 if quick else 2)
    wall = time.perf_counter() - start
    kept = report[report["status"] == "kept"]
    free = (kept["calendar_free"] & kept["butterfly_free"]).mean()
    repaired, _ = arbitrage.project(history["implied_vol"].values, TAU, MONEYNESS)
    after = arbitrage.penalty(repaired, TAU, MONEYNESS)
    print(
        f"SSE 50 ETF: {len(kept)} of {len(report)} days to surfaces in {wall:.1f} s of wall time with "
        f"{1 if quick else 2} worker(s), {len(report) / wall:.0f} days/s; {free:.1%} free of static arbitrage on the "
        f"grid, {np.mean(after == 0):.1%} after projection"
    )
    near = total = 0
    for day in dates[:: 2 if quick else 10]:
        one = volscen.Chain(quotes, day)
        try:
            near += count_near(one, TAU, MONEYNESS)
        except InputError:
            continue
        total += len(one.quotes)
    print(f"SSE 50 ETF: {near / total:.1%} of {total:,} quotes of a sample of days within 50 bp of the surface")
    beside_plain(quotes, list(dates[:: 32 if quick else 192]), TAU, MONEYNESS, "SSE 50 ETF")


def snapshots(data: Path, repeats: int) -> list[str]:
    """Real chains to surfaces; returns the row of the page."""
    tables, each, counts, worst = {}, [], [], 0.0
    for name, file in DAILY.items():
        quotes, _ = read_lean(data / "lean" / file)
        for day in np.unique(quotes["date"]):
            tables[f"{name} {np.datetime_as_string(day, 'D')}"] = quotes[quotes["date"] == day]
    for day in ("20151222", "20151223"):
        tables[f"SPX {day}"] = read_lean(data / "lean" / SPX.format(day))[0]
    for name, quotes in tables.items():
        chain, parse = least(lambda quotes=quotes: volscen.Chain(quotes), repeats)
        known = chain.forwards.loc[chain.forwards["n_used"] > 0, "tau"]
        tau = LONG_TAU[(known.min() <= LONG_TAU) & (known.max() >= LONG_TAU)]
        surface, fit = least(
            lambda chain=chain, tau=tau: volscen.build_surface(chain, tau, LONG_MONEYNESS, max_extrapolation=20),
            repeats,
        )
        vol = surface["implied_vol"].values
        free = float(arbitrage.penalty(vol, tau, LONG_MONEYNESS)) == 0
        repaired = arbitrage.project(vol, tau, LONG_MONEYNESS)[0]
        after = float(arbitrage.penalty(repaired, tau, LONG_MONEYNESS)) == 0
        inside = surface.attrs.get("fit_share_in_spread")
        fits = (
            f"{count_near(chain, tau, LONG_MONEYNESS) / len(chain.quotes):.1%} within 50 bp, "
            if inside is None
            else f"{inside:.1%} within bid and ask, "
        )
        print(
            f"{name}: {len(quotes):,} {quotes['exercise'].iloc[0]} quotes, {len(chain.quotes)} used; chain "
            f"{1e3 * parse:.0f} ms ({1e6 * parse / len(quotes):.0f} us a quote), surface {1e3 * fit:.1f} ms; "
            f"{fits}error {surface.attrs['fit_rmse_vol_points']:.2f} vol points; free of "
            f"arbitrage: {'yes' if free else 'no'}, after projection {'yes' if after else 'no'}"
        )
        if quotes["exercise"].iloc[0] == "American":
            worst = max(worst, _beside_quantlib(name, chain))
            each.append(1e6 * parse / len(quotes))
            counts.append(len(quotes))
    job = (f"chains of Apple (2014-06-06, 09) and Google (2015-12-23, 24), {min(counts):,} to {max(counts):,} "
           "American quotes")  # fmt: skip
    beside = f"QuantLib gives liquid quotes back to {worst:.3f} basis points of vol"
    return [job, f"{min(each):.0f} to {max(each):.0f} us a quote", beside]


def _beside_quantlib(name: str, chain: volscen.Chain) -> float:
    """Quotes of liquid strikes against QuantLib's price at the volatility found: largest distance, bp of vol."""
    table, known = chain.quotes, chain.forwards.dropna(subset="forward")
    # Without a column spot, what discounted forwards tend to as expiries come near.
    level = np.log(known["forward"] * known["discount_factor"])
    spot = float(np.exp(np.polynomial.Polynomial.fit(known["tau"], level, 1, w=1 / known["tau"])(0.0)))
    rate = -np.log(table["discount_factor"]) / table["tau"]
    yields = rate - np.log(table["forward"] / spot) / table["tau"]
    liquid = (table["vega"] > 0.05 * table["forward"]) & (rate > 0) & (yields > 0)
    rows = table[liquid].iloc[:: max(int(liquid.sum()) // 100, 1)]
    worst = 0.0
    try:
        for i, row in rows.iterrows():
            # QuantLib counts whole days: the same price with rates and variance spread over as many.
            days = max(round(365 * row["tau"]), 1)
            more = row["tau"] / (days / 365)
            vol = row["implied_vol"] * np.sqrt(more)
            value = quantlib_american(spot, row["strike"], days, vol, row["is_call"], rate[i] * more, yields[i] * more)
            worst = max(worst, 1e4 * abs(value - row["quoted_price"]) / row["vega"])
    except ImportError:
        return np.nan
    print(f"{name}: QuantLib gives {len(rows)} liquid quotes back to {worst:.3f} bp of vol")
    assert worst < 0.5, worst
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few days and repeats: that everything runs")
    pagetables.add_options(parser)
    given = parser.parse_args()
    needs = [pagetables.MARKET_DATA, "py_vollib_vectorized", "QuantLib"]
    minutes = 0.5 if given.quick else 3
    pages = pagetables.Pages(given, {"speed": [HEADER]}, kind="timing", minutes=minutes, needs=needs)
    quick = given.quick
    repeats = 3 if quick else 15
    rows = [one_chain(repeats), american_kernel(200 if quick else 2000)]
    folder = os.environ.get("VOLSCEN_DATA")
    if not folder:
        print("VOLSCEN_DATA is not set: nothing on real markets")
        return
    rows.append(snapshots(Path(folder), 1 if quick else 3))
    sse(Path(folder), quick)
    pages.add("speed", pagetables.table(HEADER, rows))
    pages.write()


if __name__ == "__main__":
    main()

"""Selling volatility by regime with a protective put, walked forward year by year, against holding the index.

    python docs/examples/volatility_overlay.py [HISTORY.nc]

Without a history the embedded, simulated one stands in. The volatility traded is a future of constant maturity: bought
as the volatility from 30 to 60 days ahead, worth that from 29 to 59 a day later, both read off the surface. An inverse
volatility fund is short of it. The rule is short in calm regimes (term structure rising, index of volatility below a
quantile of its past), out otherwise; while short it holds 95% puts on the index. Its three numbers are chosen at the
start of every year on the years before, by the mean of the monthly return and its worst twentieth, and kept through it.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

import volscen
from volscen import agent
from volscen.surface import vix

FloatArray = npt.NDArray[np.float64]

#: Half-spread of the future, as a share of its price; that of the put is the market's.
FUTURE_COST = 0.002
#: Share of wealth sold of the future, and quantiles and puts among which the rule is chosen.
EXPOSURES, QUANTILES, PUTS = (0.1, 0.2, 0.3), (0.5, 0.7, 0.9, 1.0), (0.0, 0.5, 1.0)


def forward_vol(history: xr.Dataset, start: float) -> FloatArray:
    """Fair volatility over the 30 days that begin ``start`` days ahead, on every date."""
    end = start + 30
    near, far = (vix(history, days=days).values / 100 for days in (start, end))
    return np.sqrt(np.maximum(far**2 * end - near**2 * start, 1e-8) / 30)


def futures_market(history: xr.Dataset, signal: agent.RiskSignal) -> xr.Dataset:
    """The market of the overlay: what is held is the inverse fund, the hedge a put on the index."""
    market = agent.option_market(history, signal, index_cost=FUTURE_COST)
    price, later = forward_vol(history, 30), forward_vol(history, 29)
    rolled = later[1:] / price[:-1] - 1
    return market.assign(index_gain=(("path", "time"), -rolled[None]))


@dataclass(frozen=True)
class ByRegime(agent.Policy):
    """Short of volatility in calm regimes, with puts."""

    exposure: float
    greatest_vol: float
    puts: float

    def decide(self, seen: dict[str, FloatArray], hedged: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Short where the term structure rises and volatility is not high."""
        calm = (seen["slope"] < 0) & (seen["atm_vol"] <= self.greatest_vol)
        # Puts are counted per unit of what is held: ``puts`` protect the whole wealth, not the small share sold.
        return np.where(calm, self.exposure, 0.0), np.where(calm, self.puts / self.exposure, 0.0)


def choose(market: xr.Dataset) -> ByRegime:
    """The rule that did best on days that are over."""
    vols = np.quantile(market["atm_vol"].values, QUANTILES)
    rules = {f"{c}": ByRegime(*c) for c in itertools.product(EXPOSURES, vols, PUTS)}
    growth = agent.simulate(market, rules)["growth"].isel(path=0).values
    months = growth[:, : growth.shape[1] // 21 * 21].reshape(len(rules), -1, 21).prod(axis=2) - 1
    worst = np.sort(months, axis=1)[:, : max(1, months.shape[1] // 20)].mean(axis=1)
    return list(rules.values())[int(np.argmax(months.mean(axis=1) + 0.25 * worst))]


def walk(history: xr.Dataset) -> xr.Dataset:
    """Daily growth of the overlay, of the same without puts, and of the index, from the third year on."""
    years = np.unique(history["date"].dt.year.values)[2:]
    parts = []
    for year in years:
        past = history.sel(date=slice(None, f"{year - 1}-12-31"))
        signal = agent.RiskSignal.fit(past)
        rule = choose(futures_market(past, signal))
        # The last close of the year before is the first to decide at.
        now = history.isel(date=slice(past.sizes["date"] - 1, None)).sel(date=slice(None, f"{year}-12-31"))
        market = futures_market(now, signal)
        rules = {
            "by regime, with puts": rule,
            "by regime, no puts": ByRegime(rule.exposure, rule.greatest_vol, 0.0),
            "always short": ByRegime(rule.exposure, np.inf, 0.0),
        }
        overlay = agent.simulate(market, rules)["growth"].isel(path=0)
        index = agent.simulate(agent.option_market(now, signal), {"index": agent.BuyAndHold()})["growth"].isel(path=0)
        print(f"{year}: sells {rule.exposure:.0%} up to a vol of {rule.greatest_vol:.1%}, {rule.puts:g} puts")
        parts.append(xr.concat([overlay, index], dim="policy").drop_vars("time").rename("growth"))
    whole = xr.concat(parts, dim="time")
    # A result like that of agent.simulate, of all years.
    filled = whole.transpose("policy", "time").expand_dims(path=[0], axis=1)
    zero = xr.zeros_like(filled)
    result = xr.Dataset({"growth": filled, "hedge": zero, "cost": zero, "weight": ("path", [1.0])})
    return result.assign_attrs(periods_per_year=float(history.attrs["periods_per_year"]))


def main(path: str | None = None) -> xr.Dataset:
    """Walk and print; return the figures."""
    history = volscen.datasets.sample_history() if path is None else volscen.read(path)
    result = walk(history)
    whole = agent.summarise(result, quantiles=[0.5]).isel(quantile=0)
    years = agent.summarise(result, window=252, every=21, quantiles=[0.05, 0.5, 0.95])
    n = result.sizes["time"]
    print(f"\n{n} days; one-year windows: 5%, median, 95% of the return; whole period: worst fall, worst day")
    for policy in result["policy"].values:
        low, middle, high = 100 * years["total_return"].sel(policy=policy).values
        one = whole.sel(policy=policy)
        print(
            f"{policy:22} {low:6.1f} {middle:6.1f} {high:6.1f}   fall {100 * float(one.worst_fall):5.1f}  "
            f"day {100 * float(one.worst_step):6.1f}"
        )
    return years


if __name__ == "__main__":
    main(*sys.argv[1:2])

"""Daily rehedged straddles through a test period, by every method and generator; used by ``end_to_end.py``.

Each day's error is the portfolio's change in value less that of the hedge set the evening before; hedges and
scenarios know nothing later than that evening. Errors are in basis points of the spot at which the position was
opened. Hedging options are bought anew each day at the same distance to expiry, or are real contracts.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from tqdm import tqdm

import volscen
from volscen import Option, Portfolio, Underlying
from volscen.hedging import HedgeWarning
from volscen.surface._interpolate import interpolate_vol

DAY = np.timedelta64(1, "D")


@dataclass(frozen=True)
class HedgingDay:
    """One evening's position and instruments, and what they turned out to be worth the next day."""

    as_of: np.datetime64
    days: int  # calendar days to the next trading date
    entry_spot: float
    portfolio: Portfolio
    option: Option  # for the one-option methods
    options: list[Option]  # for LASSO to choose from
    portfolio_change: float
    underlying_change: float
    option_change: float
    options_change: np.ndarray


def backtest(
    days: list[HedgingDay], history: xr.Dataset, fitted: dict[str, Any], n_scenarios: int
) -> dict[str, dict[str, float]]:
    """Hedge every day by every method; daily errors' statistics by row of the table."""
    errors: dict[str, list[float]] = {"no hedge": []}

    def add(row: str, error: float, day: HedgingDay) -> None:
        errors.setdefault(row, []).append(1e4 * error / day.entry_spot)

    spot = Underlying()
    for day in tqdm(days, desc="hedging", unit="day", disable=None, leave=False):
        errors["no hedge"].append(1e4 * day.portfolio_change / day.entry_spot)
        single = np.array([day.underlying_change, day.option_change])
        several = np.concatenate([[day.underlying_change], day.options_change])
        for name, model in fitted.items():
            cube = volscen.generate(
                model, history, as_of=day.as_of, n_scenarios=n_scenarios, seed=0, reweight=None, dtype="float64"
            )

            def ratios(
                instruments: list[Any], method: str, cube: xr.Dataset = cube, day: HedgingDay = day
            ) -> np.ndarray:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", HedgeWarning)  # many strikes of one expiry move together
                    found = volscen.hedge(cube, day.portfolio, instruments, method=method, elapsed_days=day.days)
                return found["ratio"].values

            if name == next(iter(fitted)):  # these two look at no scenario
                delta = ratios([spot], "delta")
                add("delta", day.portfolio_change - delta @ single[:1], day)
                vega = ratios([spot, day.option], "delta-vega")
                add("delta-vega", day.portfolio_change - vega @ single, day)
            one = ratios([spot], "regression")
            add(f"regression on the underlying, {name}", day.portfolio_change - one @ single[:1], day)
            two = ratios([spot, day.option], "regression")
            add(f"regression on underlying + option, {name}", day.portfolio_change - two @ single, day)
            lasso = ratios([spot, *day.options], "lasso")
            add(f"LASSO among {len(several)}, {name}", day.portfolio_change - lasso @ several, day)
    return {row: _statistics(np.array(values)) for row, values in errors.items()}


def _statistics(error: np.ndarray) -> dict[str, float]:
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mean": float(error.mean()),
        "var95": float(volscen.risk.value_at_risk(error, alpha=0.05)),
        "var99": float(volscen.risk.value_at_risk(error, alpha=0.01)),
        "days": int(error.size),
    }


def _print(title: str, rows: dict[str, dict[str, float]]) -> None:
    print(f"\n{title}, {rows['delta']['days']} days: daily error, bp of entry spot")
    print(f"{'method':<48}{'RMSE':>8}{'mean':>8}{'VaR95':>8}{'VaR99':>8}")
    for row, s in rows.items():
        print(f"{row:<48}{s['rmse']:>8.2f}{s['mean']:>8.2f}{s['var95']:>8.2f}{s['var99']:>8.2f}")


# --------------------------------------------------------------------------------------------- spx_factors
SPX_HELD, SPX_OPTION = 91, 61
SPX_STRIKES = (0.9, 0.95, 0.975, 1.0, 1.025, 1.05)


def hedge_spx(
    history: xr.Dataset, fitted: dict[str, Any], first: str, last: str, n_scenarios: int
) -> dict[str, dict[str, float]]:
    """At-the-money 91-day straddle, held to 60 days, hedged with 61-day options; prices from the surfaces."""
    rows = backtest(list(_spx_days(history, first, last)), history, fitted, n_scenarios)
    _print(f"spx_factors {first[:4]}-{last[:4]}: {SPX_HELD}-day straddle, {SPX_OPTION}-day options", rows)
    return rows


def _spx_days(history: xr.Dataset, first: str, last: str) -> Iterator[HedgingDay]:
    dates = history["date"].values.astype("datetime64[D]")
    spot, tau, m = history["spot"].values, history["tau"].values, history["moneyness"].values
    surfaces = history["implied_vol"].values
    rows = np.flatnonzero((dates >= np.datetime64(first)) & (dates <= np.datetime64(last)))

    def value(row: int, strike: float, expiry: np.datetime64, is_call: bool) -> float:
        years = (expiry - dates[row]).astype(int) / 365
        vol = interpolate_vol(surfaces[row], tau, m, years, strike / spot[row])
        return float(volscen.black.price(spot[row], strike, years, vol, is_call))

    expiry, strike, entry = np.datetime64("NaT"), np.nan, np.nan
    for row in rows[rows > 0]:
        now = row - 1
        if np.isnat(expiry) or (expiry - dates[now]).astype(int) <= 60:
            expiry, strike, entry = dates[now] + SPX_HELD * DAY, spot[now], spot[now]
        near = dates[now] + SPX_OPTION * DAY
        candidates = [(ratio * spot[now], ratio >= 1) for ratio in SPX_STRIKES]
        options = [Option("call" if call else "put", strike=k, expiry=near) for k, call in candidates]
        changes = np.array([value(row, k, near, call) - value(now, k, near, call) for k, call in candidates])
        yield HedgingDay(
            as_of=dates[now],
            days=int((dates[row] - dates[now]).astype(int)),
            entry_spot=entry,
            portfolio=Portfolio.straddle(strike=strike, expiry=expiry),
            option=options[SPX_STRIKES.index(1.0)],
            options=options,
            portfolio_change=sum(value(row, strike, expiry, c) - value(now, strike, expiry, c) for c in (True, False)),
            underlying_change=spot[row] - spot[now],
            option_change=float(changes[SPX_STRIKES.index(1.0)]),
            options_change=changes,
        )


# ------------------------------------------------------------------------------------------------ sse50etf
SSE_STOP_DAYS = 5
SSE_OPTIONS = 6


def hedge_sse(
    history: xr.Dataset, quotes: pd.DataFrame, fitted: dict[str, Any], first: str, last: str, n_scenarios: int
) -> dict[str, dict[str, float]]:
    """Straddle of the second expiry on real closes, to 5 days before expiry, hedged with the next expiry."""
    rows = backtest(list(_sse_days(history, quotes, first, last)), history, fitted, n_scenarios)
    _print(f"sse50etf {first[:4]}-{last[:4]}: second-expiry straddle, options of the next expiry, real closes", rows)
    return rows


def _sse_days(history: xr.Dataset, quotes: pd.DataFrame, first: str, last: str) -> Iterator[HedgingDay]:
    dates = history["date"].values
    rows = np.flatnonzero((dates >= np.datetime64(first)) & (dates <= np.datetime64(last)))
    spot = history["spot"].values
    inside = quotes["date"].between(dates[rows[0] - 1], dates[rows[-1]])
    by_date = {np.datetime64(date): table for date, table in quotes[inside].groupby("date")}
    held: tuple[Any, float, float] | None = None  # expiry, strike, spot at entry
    for row in rows[rows > 0]:
        now = row - 1
        chain = volscen.Chain(by_date[dates[now]], dates[now])
        today, tomorrow = (_closes(by_date[dates[i]]) for i in (now, row))
        vols = {(e, k): v for e, k, v in chain.quotes[["expiry", "strike", "implied_vol"]].itertuples(index=False)}
        usable = {
            key for key in vols if all((*key, kind) in closes for closes in (today, tomorrow) for kind in ("C", "P"))
        }
        if held is not None and ((held[0] - dates[now]) / DAY <= SSE_STOP_DAYS or held[:2] not in usable):
            held = None
        expiries = sorted({e for e, _ in usable})
        if held is None:
            if len(expiries) < 3:
                continue
            second = expiries[1]
            strike = min((k for e, k in usable if e == second), key=lambda k: abs(k - spot[now]))
            held = (second, strike, spot[now])
        expiry, strike, entry = held
        later = [e for e in expiries if e > expiry]
        if not later:
            continue
        near = sorted((k for e, k in usable if e == later[0]), key=lambda k: abs(k - spot[now]))[:SSE_OPTIONS]
        contracts = [(k, "C" if k >= spot[now] else "P") for k in near]

        def change(e: Any, k: float, kind: str, today: dict = today, tomorrow: dict = tomorrow) -> float:
            return tomorrow[e, k, kind] - today[e, k, kind]

        options = [
            Option("call" if kind == "C" else "put", strike=k, expiry=later[0], implied_vol=vols[later[0], k])
            for k, kind in contracts
        ]
        changes = np.array([change(later[0], k, kind) for k, kind in contracts])
        yield HedgingDay(
            as_of=dates[now],
            days=int((dates[row] - dates[now]) / DAY),
            entry_spot=entry,
            portfolio=Portfolio.straddle(strike=strike, expiry=expiry, implied_vol=vols[expiry, strike]),
            option=options[0],
            options=options,
            portfolio_change=change(expiry, strike, "C") + change(expiry, strike, "P"),
            underlying_change=spot[row] - spot[now],
            option_change=float(changes[0]),
            options_change=changes,
        )


def _closes(table: pd.DataFrame) -> dict[tuple[Any, float, str], float]:
    columns = table[["expiry", "strike", "option_type", "price"]]
    return {(e, k, kind): p for e, k, kind, p in columns.itertuples(index=False)}

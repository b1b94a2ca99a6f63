"""Option chains with known forwards, discount factors and volatilities, priced independently of the package."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import norm

DATE = pd.Timestamp("2024-01-02")


def black_price(forward, strike, tau, vol, is_call, discount=1.0):
    """Black (1976), from the textbook."""
    sd = vol * np.sqrt(tau)
    d1 = np.log(forward / strike) / sd + sd / 2
    sign = np.where(is_call, 1.0, -1.0)
    return discount * sign * (forward * norm.cdf(sign * d1) - strike * norm.cdf(sign * (d1 - sd)))


def svi_vol(k, tau, a=0.02, b=0.1, rho=-0.5, m=0.05, sigma=0.2):
    """Raw SVI (Gatheral, 2004) whose total variance grows in proportion to tau."""
    k = np.asarray(k, dtype=float)
    return np.sqrt(a + b * (rho * (k - m) + np.hypot(k - m, sigma))) * np.ones_like(tau)


def make_chain(
    days: Sequence[int] = (30, 91, 182),
    forward: Sequence[float] = (100.5, 101.0, 102.0),
    rate: Sequence[float] = (0.03, 0.035, 0.04),
    log_moneyness: Sequence[float] = tuple(np.linspace(-0.3, 0.2, 21)),
    vol: Callable = svi_vol,
    date: pd.Timestamp = DATE,
    spread: float | None = None,
) -> pd.DataFrame:
    """Calls and puts of every strike; ``spread`` gives bid and ask that far apart instead of a price."""
    tables = []
    for n, f, r in zip(days, forward, rate, strict=True):
        tau = n / 365
        k = np.repeat(np.asarray(log_moneyness, dtype=float), 2)
        is_call = np.tile([True, False], len(log_moneyness))
        # Strikes as listed, so that parity pairs share them exactly; the vol is that of the listed strike.
        strike = np.round(f * np.exp(k), 3)
        price = black_price(f, strike, tau, vol(np.log(strike / f), tau), is_call, np.exp(-r * tau))
        table = pd.DataFrame(
            {
                "date": date,
                "expiry": date + pd.Timedelta(days=n),
                "strike": strike,
                "option_type": np.where(is_call, "C", "P"),
            }
        )
        if spread is None:
            table["price"] = price
        else:
            table["bid"], table["ask"] = price - spread / 2, price + spread / 2
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def index_chain(seed: int = 0, *, expiries: int = 25, strikes: int = 60) -> pd.DataFrame:
    """Calls and puts with bid and ask on a nickel, like those on an index; benchmarks measure on it, too."""
    rng = np.random.default_rng(seed)
    tables = []
    for days in np.unique(np.round(np.geomspace(7, 900, expiries)).astype(int)):
        tau = days / 365
        forward, discount = 4700 * np.exp(0.035 * tau), np.exp(-0.05 * tau)
        strike = np.unique(np.round(forward * np.exp(np.linspace(-0.9, 0.63, strikes) * np.sqrt(tau)) / 5) * 5)
        x = np.log(strike / forward) / (2 * np.sqrt(tau))
        vol = np.repeat(np.sqrt(0.02 + 0.05 * (np.hypot(x, 0.15) - 0.6 * x)), 2)
        strike, is_call = np.repeat(strike, 2), np.tile([True, False], len(strike))
        price = black_price(forward, strike, tau, vol, is_call, discount)
        half = np.maximum(0.05, 0.005 * price)
        middle = price + half * rng.uniform(-0.5, 0.5, price.size)
        tables.append(
            pd.DataFrame(
                {
                    "date": DATE,
                    "expiry": DATE + pd.Timedelta(days=int(days)),
                    "strike": strike,
                    "option_type": np.where(is_call, "C", "P"),
                    "bid": np.floor(np.maximum(middle - half, 0) * 20) / 20,
                    "ask": np.ceil((middle + half) * 20) / 20,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)

"""A chain like those on an index: expiries from a week to years, quoted in nickels, whose slices cross in the wings."""

from __future__ import annotations

import numpy as np
import pandas as pd

import volscen
from chain_makers import black_price


def index_chain(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    tables = []
    for days in np.unique(np.round(np.geomspace(7, 900, 25)).astype(int)):
        tau = days / 365
        forward, discount = 4700 * np.exp(0.035 * tau), np.exp(-0.05 * tau)
        strike = np.unique(np.round(forward * np.exp(np.linspace(-0.9, 0.63, 60) * np.sqrt(tau)) / 5) * 5)
        x = np.log(strike / forward) / (2 * np.sqrt(tau))
        vol = np.repeat(np.sqrt(0.02 + 0.05 * (np.hypot(x, 0.15) - 0.6 * x)), 2)
        strike, is_call = np.repeat(strike, 2), np.tile([True, False], len(strike))
        price = black_price(forward, strike, tau, vol, is_call, discount)
        half = np.maximum(0.05, 0.005 * price)
        middle = price + half * rng.uniform(-0.5, 0.5, price.size)
        date = pd.Timestamp("2024-01-02")
        tables.append(
            pd.DataFrame(
                {
                    "date": date,
                    "expiry": date + pd.Timedelta(days=int(days)),
                    "strike": strike,
                    "option_type": np.where(is_call, "C", "P"),
                    "bid": np.floor(np.maximum(middle - half, 0) * 20) / 20,
                    "ask": np.ceil((middle + half) * 20) / 20,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def test_crossings_beyond_the_quotes_do_not_bend_slices_within_them() -> None:
    crossed = 0
    for seed in (0, 2, 3):
        surface = volscen.build_surface(
            volscen.Chain(index_chain(seed)), np.array([30, 91, 182, 365]) / 365, np.exp(np.linspace(-0.2, 0.1, 10))
        )
        crossed += surface.attrs["uncrossing_passes"]
        assert surface.attrs["fit_share_in_spread"] > 0.99
        assert surface.attrs["fit_rmse_vol_points"] < 0.15
        assert float(surface.arbitrage_penalty) == 0
    assert crossed > 0


def test_forwards_and_their_errors() -> None:
    """With more strikes than start a line; errors of forwards are about the size of those that were made."""
    ratios = []
    for seed in range(4):
        table = volscen.Chain(index_chain(seed)).forwards
        miss = table["forward"] - 4700 * np.exp(0.035 * table["tau"])
        ratios += (miss / table["forward_error"]).tolist()
        assert np.abs(miss / table["forward"]).max() < 2e-4
    assert 0.5 < np.sqrt(np.median(np.square(ratios))) / 0.6745 < 2.5

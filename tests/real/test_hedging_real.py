"""Hedges of S&P 500 straddles on fitted surfaces: what the methods promise holds on days they have not seen."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import volscen
from volscen import Option, Portfolio, Underlying, hedge
from volscen.hedging import HedgeWarning
from volscen.sources import read_spx_factors
from volscen.surface import interpolate_vol

pytestmark = pytest.mark.real

DAY = np.timedelta64(1, "D")
STRIKES = (0.9, 0.95, 0.975, 1.0, 1.025, 1.05)
ARMS = {
    "flat": ("delta-vega", (0, 4), {}),
    "root": ("delta-vega-sqrt", (0, 4), {}),
    "delta": ("delta", (0,), {}),
    "minimum variance": ("min-variance-delta", (0,), {}),
    "ridge": ("ridge", tuple(range(7)), {"cost_weight": 0}),
    "careful": ("ridge", tuple(range(7)), {}),
    "regression": ("regression", tuple(range(7)), {"cost_weight": 0}),
}


@pytest.fixture(scope="module")
def book(market_data):
    """Errors, costs and largest ratios of every arm over two straddles of 2016, in basis points."""
    history = read_spx_factors(market_data / "spx_factors" / "spx_factors_1996_2018.csv")
    model = volscen.fit(history.sel(date=slice(None, "2013-12-31")), "pca")
    dates, spot = history.date.values.astype("datetime64[D]"), history.spot.values
    grid, surfaces = (history.tau.values, history.moneyness.values), history.implied_vol.values

    def value(row, strike, expiry, call):
        years = (expiry - dates[row]).astype(int) / 365
        vol = interpolate_vol(surfaces[row], *grid, years, strike / spot[row])
        return float(volscen.black.price(spot[row], strike, years, vol, call))

    rows = np.flatnonzero((dates > np.datetime64("2016-01-04")) & (dates < np.datetime64("2016-03-04")))
    out = {arm: ([], [], []) for arm in ARMS}
    expiry = np.datetime64("NaT", "D")
    for row in rows:
        now = row - 1
        if np.isnat(expiry) or (expiry - dates[now]).astype(int) <= 60:
            expiry, near, entry = dates[now] + 91 * DAY, dates[now] + 61 * DAY, spot[now]
            chain = [(k * entry, k >= 1) for k in STRIKES]
            options = [Option("call" if call else "put", strike=k, expiry=near) for k, call in chain]
            held = {arm: np.zeros(len(columns)) for arm, (_, columns, _) in ARMS.items()}
        cube = volscen.generate(model, history, as_of=dates[now], n_scenarios=500, seed=0)
        move = [spot[row] - spot[now], *(value(row, k, near, c) - value(now, k, near, c) for k, c in chain)]
        change = sum(value(row, entry, expiry, c) - value(now, entry, expiry, c) for c in (True, False))
        for arm, (method, columns, settings) in ARMS.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", HedgeWarning)
                found = hedge(
                    cube,
                    Portfolio.straddle(strike=entry, expiry=expiry),
                    [Underlying(), *(options[i - 1] for i in columns[1:])],
                    method=method,
                    elapsed_days=int((dates[row] - dates[now]).astype(int)),
                    current=held[arm],
                    half_spread_vol=0.002,
                    proportional_cost={"underlying": 5e-5},
                    **settings,
                )
            held[arm] = found.ratio.values
            error, cost, size = out[arm]
            error.append(1e4 * (change - held[arm] @ np.array(move)[list(columns)]) / entry)
            cost.append(1e4 * float(found.cost) / entry)
            size.append(float(np.abs(held[arm]).max()))
    return {arm: tuple(np.array(each) for each in parts) for arm, parts in out.items()}


def rmse(error):
    return float(np.sqrt(np.mean(error**2)))


def test_scaling_by_the_root_of_time_beats_the_parallel_shift(book):
    assert rmse(book["root"][0]) < 0.7 * rmse(book["flat"][0])
    assert rmse(book["minimum variance"][0]) < rmse(book["delta"][0])


def test_the_ridge_keeps_ratios_and_costs_of_a_sane_size(book):
    assert book["ridge"][2].max() < 5
    assert book["regression"][2].max() > 2 * book["ridge"][2].max()
    assert book["regression"][1].mean() > 2 * book["ridge"][1].mean()


def test_heeding_costs_saves_them_and_keeps_the_hedge(book):
    assert book["careful"][1].mean() < 0.7 * book["ridge"][1].mean()
    assert rmse(book["careful"][0]) < 1.1 * rmse(book["ridge"][0])
    net = {arm: rmse(book[arm][0] - book[arm][1]) for arm in ("careful", "flat")}
    assert net["careful"] < 0.6 * net["flat"]

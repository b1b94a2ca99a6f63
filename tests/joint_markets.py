"""Two simulated markets whose shocks are the same on some days and independent on the others: a known dependence."""

from __future__ import annotations

import numpy as np
import xarray as xr

from volscen.history import make_history
from volscen.sources.simulate import MARKETS, SSVIMarket

#: Two grids that differ.
FIRST = MARKETS["A"]
SECOND = SSVIMarket((30 / 365, 91 / 365, 182 / 365, 1.0), tuple(np.linspace(0.8, 1.2, 5).tolist()), 0.001, "second")


def two_markets(n_days: int, share: float, seed: int) -> dict[str, xr.Dataset]:
    """Histories of both, whose shocks are equal with probability ``share`` and else independent.

    Shocks then have that correlation, component by component, and both margins are the markets' own.
    """
    master = np.random.default_rng(seed)
    common = master.random(n_days) < share
    keys = master.integers(2**32, size=(n_days, 2))
    histories = {}
    dates = np.busday_offset(np.datetime64("2000-01-03"), np.arange(n_days))
    for i, (name, law) in enumerate((("first", FIRST), ("second", SECOND))):
        states = np.empty((n_days, 3))
        states[0] = law.initial_state
        r = np.zeros(n_days)
        for t in range(1, n_days):
            rng = np.random.default_rng(keys[t, 0 if common[t] else i])
            one, after = law.step(states[t - 1 : t], rng)
            r[t], states[t] = one[0], after[0]
        histories[name] = make_history(
            dates,
            law.tau,
            law.moneyness,
            law.observe(states, np.random.default_rng([seed, i])),
            spot=100 * np.exp(np.cumsum(r)),
            source="simulated: two markets with common shocks",
            calendar="weekdays",
        )
    return histories


def log_moves(cube: xr.Dataset) -> np.ndarray:
    """Return and at-the-money log-vol moves at the first and the last tenor, over the horizon: (n, 3)."""
    m = int(np.argmin(np.abs(cube.moneyness.values - 1)))
    last = np.log(cube.implied_vol.values[:, -1][:, [0, -1], m] / cube.implied_vol0.values[[0, -1], m])
    return np.column_stack([cube.log_return.values.sum(axis=1), last])


def realised_moves(history: xr.Dataset, row: int) -> np.ndarray:
    """The same of the day after a row of the history."""
    m = int(np.argmin(np.abs(history.moneyness.values - 1)))
    vol = np.log(history.implied_vol.values[row : row + 2][:, [0, -1], m])
    return np.r_[history.log_return.values[row + 1], vol[1] - vol[0]]

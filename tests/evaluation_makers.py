"""Small histories, scenario cubes and markets of known law for the tests of the evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr

import volscen
from volscen.sources.simulate import Market

TAU = np.array([30, 91, 182, 365]) / 365
MONEYNESS = np.array([0.8, 0.9, 1.0, 1.1, 1.2])


def small_history(n_dates: int = 90) -> xr.Dataset:
    """Moving surfaces with skew and term structure, from a fixed stream."""
    rng = np.random.default_rng(20)
    level = 0.2 * np.exp(np.cumsum(0.03 * rng.standard_normal(n_dates)) - 0.02 * np.arange(n_dates) / n_dates)
    shape = 1 - 0.3 * np.log(MONEYNESS) / np.sqrt(TAU)[:, None] * 0.3 + 0.05 * np.sqrt(TAU)[:, None]
    noise = np.exp(0.01 * rng.standard_normal((n_dates, TAU.size, MONEYNESS.size)))
    spot = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(n_dates)))
    dates = np.busday_offset(np.datetime64("2020-01-02"), np.arange(n_dates), roll="forward")
    return volscen.make_history(
        dates,
        TAU,
        MONEYNESS,
        level[:, None, None] * shape * noise,
        spot=spot,
        calendar="weekdays",
        periods_per_year=252,
    )


def small_cube(history: xr.Dataset, first: int = 50, n: int = 61) -> xr.Dataset:
    """Weighted scenarios of every date from ``first`` on but the last, as another system might write them."""
    rng = np.random.default_rng(21)
    rows = np.arange(first, history.sizes["date"] - 1)
    shock = rng.standard_normal((rows.size, n))
    cells = rng.standard_normal((rows.size, n, TAU.size, MONEYNESS.size))
    implied_vol = history.implied_vol.values[rows][:, None] * np.exp(
        -0.02 * shock[..., None, None] + 0.02 * rng.standard_normal((rows.size, n, 1, 1)) + 0.15 * cells
    )
    weight = rng.dirichlet(np.full(n, 2.0), rows.size)
    return xr.Dataset(
        {
            "implied_vol": (("as_of", "scenario", "step", "tau", "moneyness"), implied_vol[:, :, None]),
            "log_return": (("as_of", "scenario", "step"), 0.005 * shock[..., None]),
            "weight": (("as_of", "scenario"), weight),
        },
        coords={
            "as_of": history.date.values[rows],
            "scenario": np.arange(n),
            "step": [1],
            "tau": TAU,
            "moneyness": MONEYNESS,
        },
    )


@dataclass(frozen=True)
class GaussianMarket(Market):
    """Return and one level of vol with Gaussian moves, correlated; what it gets wrong is chosen by its parameters."""

    tau: tuple[float, ...] = tuple(TAU.tolist())
    moneyness: tuple[float, ...] = tuple(MONEYNESS.tolist())
    noise: float = 0.004
    name: str = "gaussian"
    bias: float = 0.0
    width: float = 1.0
    correlation: float = -0.8
    description: ClassVar[str] = "Gaussian"
    factors: ClassVar[tuple[str, ...]] = ("log_vol",)

    @property
    def initial_state(self):
        return (float(np.log(0.2)),)

    def surface(self, state):
        shape = 1 - 0.1 * np.log(np.array(self.moneyness)) / np.sqrt(np.array(self.tau))[:, None]
        return np.exp(state[:, 0])[:, None, None] * shape

    def step(self, state, rng):
        z = rng.standard_normal((len(state), 2))
        other = self.correlation * z[:, 0] + np.sqrt(1 - self.correlation**2) * z[:, 1]
        # Mean reversion keeps the vol where every portfolio has value.
        pull = 0.05 * (np.log(0.2) - state[:, 0])
        log_return = 0.01 * (self.bias + self.width * z[:, 0])
        return log_return, state + (pull + 0.02 * (self.bias + self.width * other))[:, None]

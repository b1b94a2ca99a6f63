"""Small scenario datasets made by hand, for tests that need no generator."""

from __future__ import annotations

import numpy as np
import xarray as xr

from volscen import schema

TAU = np.array([30, 91, 182, 365]) / 365
MONEYNESS = np.array([0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3])
AS_OF = "2024-01-10"  # a Wednesday


def skewed_surface(level: float = 0.2, skew: float = -0.15, curvature: float = 0.1) -> np.ndarray:
    """A smooth surface (tau, moneyness) with skew that fades with maturity."""
    k = np.log(MONEYNESS)
    fade = 1 / np.sqrt(1 + 4 * TAU)[:, None]
    return level + 0.02 * TAU[:, None] + fade * (skew * k + curvature * k * k)


def make_scenarios(
    n: int = 1000,
    *,
    steps: int = 1,
    seed: int = 0,
    as_of: str = AS_OF,
    spot0: float = 100.0,
    rate: float = 0.0,
    dividend: float = 0.0,
    volatility: float = 0.2,
    surface0: np.ndarray | None = None,
    vol_factors: float = 0.03,
    log_return: np.ndarray | None = None,
    implied_vol: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    dtype: str = "float64",
    periods_per_year: float = 252,
) -> xr.Dataset:
    """Lognormal returns, and surfaces moved in level, skew and slope, correlated with the return.

    ``rate`` and ``dividend`` are continuous and flat; arrays given replace what would be drawn.
    """
    rng = np.random.default_rng(seed)
    surface0 = skewed_surface() if surface0 is None else surface0
    shocks = rng.standard_normal((n, steps, 4))
    if log_return is None:
        log_return = volatility / np.sqrt(252) * shocks[..., 0]
    if implied_vol is None:
        level = -0.8 * shocks[..., 0] + 0.6 * shocks[..., 1]
        k = np.log(MONEYNESS)
        move = (
            level[..., None, None]
            + 0.5 * shocks[..., 2, None, None] * k / 0.3
            + 0.5 * shocks[..., 3, None, None] * (0.5 - np.sqrt(TAU))[:, None]
        )
        implied_vol = surface0 * np.exp(np.cumsum(vol_factors * move, axis=1))
    if weight is None:
        weight = np.full(n, 1 / n)
    ds = xr.Dataset(
        {
            "implied_vol": (("scenario", "step", "tau", "moneyness"), implied_vol.astype(dtype)),
            "log_return": (("scenario", "step"), log_return),
            "spot": (("scenario", "step"), spot0 * np.exp(np.cumsum(log_return, axis=1))),
            "weight": ("scenario", weight),
            "arbitrage_penalty": (("scenario", "step"), np.zeros((n, steps))),
            "spot0": spot0,
            "implied_vol0": (("tau", "moneyness"), surface0),
            "forward0": ("tau", spot0 * np.exp((rate - dividend) * TAU)),
            "discount_factor0": ("tau", np.exp(-rate * TAU)),
            "state_clipped": 0,
        },
        coords={
            "scenario": np.arange(n),
            "step": np.arange(1, steps + 1),
            "tau": TAU,
            "moneyness": MONEYNESS,
            "as_of": np.datetime64(as_of, "ns"),
        },
        attrs=schema.base_attributes(
            schema.SCENARIOS,
            title="toy",
            source="test",
            calendar="weekdays",
            periods_per_year=periods_per_year,
        )
        | {"generator": "toy", "seed": seed, "projected": 0, "data_fingerprint": "none", "beta": 0.0}
        | {"ess_fraction": float(1 / (n * np.sum(np.square(weight))))},
    )
    return schema.validate(schema.annotate(ds))

"""Figures of simulated policies, as distributions over paths, over windows of a history, or crisis by crisis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._dates import to_day
from volscen._numbers import whole_number
from volscen._statistics import quantile
from volscen.errors import InputError

__all__ = ["PERIODS", "summarise"]

FloatArray = npt.NDArray[np.float64]

#: Whole calendar years around falls of the S&P 500.
PERIODS: dict[str, tuple[str, str]] = {
    "1998": ("1998-01-01", "1998-12-31"),
    "2008": ("2008-01-01", "2009-06-30"),
    "2011": ("2011-01-01", "2011-12-31"),
    "2015": ("2015-01-01", "2016-03-31"),
    "2018": ("2018-01-01", "2018-12-31"),
}

_FIGURES = {
    "total_return": "growth of wealth less one",
    "annual_vol": "standard deviation of the growth of a step, annualised",
    "worst_fall": "largest fall of wealth from an earlier height, the start's included, as a share of it",
    "worst_step": "smallest growth of a step less one",
    "mean_loss_5": "mean of the 5% smallest growths of a step, as a loss",
    "sharpe": "mean over standard deviation of the growth of a step, annualised; 0 where nothing moves",
    "share_hedged": "mean hedge per unit of the underlying",
    "total_cost": "sum of trading costs as shares of wealth",
}


def summarise(
    result: xr.Dataset,
    *,
    quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
    window: int | None = None,
    every: int | None = None,
    periods: Mapping[str, tuple[Any, Any]] | None = None,
) -> xr.Dataset:
    """Return, risk, hedging and costs of each policy.

    Parameters
    ----------
    result : xarray.Dataset
        From :func:`volscen.agent.simulate`.
    quantiles : sequence of float
        Between 0 and 1, over paths by their weights, or over windows.
    window, every : int, optional
        For a history: figures of every run of ``window`` closes, one starting each ``every`` closes (a quarter of the
        window when omitted). Windows that overlap are no independent observations: their quantiles describe, and test
        nothing.
    periods : mapping of name to (first, last), optional
        For a history: figures of each period, such as :data:`PERIODS`, in place of quantiles.

    Returns
    -------
    xarray.Dataset
        Dimensions ``policy`` and ``quantile`` (or ``period``); attributes of the variables say what they are.

    Raises
    ------
    InputError
        If a quantile, window or period does not fit the result.

    Examples
    --------
    >>> import volscen
    >>> from volscen import agent
    >>> history = volscen.datasets.sample_history()
    >>> market = agent.option_market(history, agent.RiskSignal.fit(history))
    >>> result = agent.simulate(market, {"hold": agent.BuyAndHold(), "hedge": agent.AlwaysHedged()})
    >>> agent.summarise(result, window=250).total_return.dims
    ('quantile', 'policy')
    """
    growth = result["growth"].transpose("policy", "path", "time").values
    hedge = result["hedge"].transpose("policy", "path", "time").values
    cost = result["cost"].transpose("policy", "path", "time").values
    per_year = float(result.attrs["periods_per_year"])
    policies = result["policy"].values
    if periods is not None:
        if window is not None:
            raise InputError("give periods or window, not both")
        parts = _parts_of_periods(result, periods)
        found = [
            {k: v[:, 0] for k, v in _figures(growth[..., p], hedge[..., p], cost[..., p], per_year).items()}
            for p in parts
        ]
        stacked = {name: (("period", "policy"), np.stack([one[name] for one in found])) for name in _FIGURES}
        return _described(xr.Dataset(stacked, coords={"period": list(periods), "policy": policies}))
    levels = np.asarray(quantiles, dtype=np.float64)
    if levels.ndim != 1 or levels.size == 0 or not np.all((levels >= 0) & (levels <= 1)):
        raise InputError(f"quantiles must lie between 0 and 1, not {quantiles!r}")
    weight = result["weight"].values
    if window is not None:
        starts = _starts(growth.shape, window, every)
        cut = [slice(int(start), int(start) + int(window)) for start in starts]
        growth, hedge, cost = (np.concatenate([a[..., c] for c in cut], axis=1) for a in (growth, hedge, cost))
        weight = np.full(len(cut), 1 / len(cut))
    figures = _figures(growth, hedge, cost, per_year)
    over = {
        name: (
            ("quantile", "policy"),
            np.stack([np.atleast_1d(quantile(row, weight, levels)) for row in values], axis=1),
        )
        for name, values in figures.items()
    }
    return _described(xr.Dataset(over, coords={"quantile": levels, "policy": policies}))


def _figures(growth: FloatArray, hedge: FloatArray, cost: FloatArray, per_year: float) -> dict[str, FloatArray]:
    """Each of shape (policy, path)."""
    wealth = np.concatenate([np.ones((*growth.shape[:2], 1)), np.cumprod(growth, axis=2)], axis=2)
    sd = growth.std(axis=2)
    worst = np.sort(growth, axis=2)[..., : max(1, round(0.05 * growth.shape[2]))]
    return {
        "total_return": wealth[..., -1] - 1,
        "annual_vol": sd * np.sqrt(per_year),
        "worst_fall": (1 - wealth / np.maximum.accumulate(wealth, axis=2)).max(axis=2),
        "worst_step": growth.min(axis=2) - 1,
        "mean_loss_5": 1 - worst.mean(axis=2),
        "sharpe": np.where(sd > 0, (growth.mean(axis=2) - 1) / np.where(sd > 0, sd, 1) * np.sqrt(per_year), 0.0),
        "share_hedged": hedge.mean(axis=2),
        "total_cost": cost.sum(axis=2),
    }


def _parts_of_periods(result: xr.Dataset, periods: Mapping[str, tuple[Any, Any]]) -> list[npt.NDArray[np.intp]]:
    if "date" not in result.coords:
        raise InputError("periods are for the result of a history; scenarios have no dates")
    days = result["date"].values.astype("datetime64[D]")
    parts = []
    for name, (first, last) in periods.items():
        part = np.flatnonzero((days >= to_day(first, "periods")) & (days <= to_day(last, "periods")))
        if part.size < 2:
            raise InputError(f"periods: {name!r} holds {part.size} closes of the result ({days[0]} to {days[-1]})")
        parts.append(part)
    if not parts:
        raise InputError("periods holds none")
    return parts


def _starts(shape: tuple[int, ...], window: int, every: int | None) -> npt.NDArray[np.intp]:
    if shape[1] != 1:
        raise InputError("window is for the result of a history; scenarios are a distribution already")
    if isinstance(window, bool) or not isinstance(window, int | np.integer) or not 2 <= window <= shape[2]:
        raise InputError(f"window must be a whole number from 2 to the {shape[2]} closes held, not {window!r}")
    apart = max(1, int(window) // 4) if every is None else whole_number("every", every)
    return np.arange(0, shape[2] - window + 1, apart)


def _described(table: xr.Dataset) -> xr.Dataset:
    for name, text in _FIGURES.items():
        table[name].attrs = {"long_name": text, "units": "1"}
    return table

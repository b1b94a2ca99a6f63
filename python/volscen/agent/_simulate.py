"""Wealth of policies in a market: one account for rules, and the same one, differentiable, for learning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.agent._market import OBSERVATIONS, check_market
from volscen.agent._policies import Policy
from volscen.errors import InputError

__all__ = ["growth", "simulate"]

FloatArray = npt.NDArray[np.float64]


def simulate(market: xr.Dataset, policies: Mapping[str, Policy], *, max_hedge: float = 1.0) -> xr.Dataset:
    """Run policies through a market, from a wealth of 1.

    Parameters
    ----------
    market : xarray.Dataset
        Made by :func:`volscen.agent.option_market` or :func:`volscen.agent.simplified_market`.
    policies : mapping of name to Policy
    max_hedge : float
        Most hedges, bought or sold, per unit of wealth or, where that is more, of the underlying held: with more than
        one a hedge pays for more than there is to lose. A policy that wants more is refused.

    Returns
    -------
    xarray.Dataset
        Dimensions ``policy``, ``path`` and ``time``: ``exposure`` and ``hedge`` chosen at each close, ``cost`` paid as
        a share of wealth, ``growth`` of wealth over the step that follows, after costs, and ``wealth`` at its end. What
        is not in the underlying or the hedge is cash without interest; what they cost beyond the wealth is borrowed at
        none.

    Raises
    ------
    InputError
        If there is no policy, one returns anything but finite positions or wants more than ``max_hedge``, or wealth is
        lost altogether.

    Examples
    --------
    >>> import volscen
    >>> from volscen import agent
    >>> history = volscen.datasets.sample_history()
    >>> market = agent.option_market(history, agent.RiskSignal.fit(history))
    >>> result = agent.simulate(market, {"hold": agent.BuyAndHold()})
    >>> wealth = float(result.wealth.isel(time=-1).squeeze())
    >>> round(wealth - float(history.spot[-1] / history.spot[0]), 10)  # less the cost of the first purchase
    -0.0001...
    """
    check_market(market)
    if not isinstance(policies, Mapping) or not all(isinstance(one, Policy) for one in policies.values()):
        raise InputError("policies must be a mapping of names to policies, such as {'hold': agent.BuyAndHold()}")
    if not policies:
        raise InputError("policies holds none; give at least one, such as {'hold': agent.BuyAndHold()}")
    if isinstance(max_hedge, bool) or not isinstance(max_hedge, int | float | np.number) or not max_hedge >= 0:
        raise InputError(f"max_hedge must be a number of at least 0, not {max_hedge!r}")
    found = [_run(market, name, policy, float(max_hedge)) for name, policy in policies.items()]
    dims = ("policy", "path", "time")
    result = xr.Dataset(
        {name: (dims, np.stack([one[name] for one in found])) for name in found[0]},
        coords={"policy": list(policies), "time": market["time"].values},
    )
    if "date" in market.coords:
        result = result.assign_coords(date=market["date"])
    result["weight"] = market["weight"]
    result.attrs = dict(market.attrs)
    return result


def growth(now: Mapping[str, Any], exposure: Any, hedge: Any, before: tuple[Any, Any], index_cost: float) -> Any:
    """Growth of wealth over one step, the cost in it, and the positions after it, all as shares of wealth.

    ``before`` are the positions carried into the close. Works on NumPy arrays and on torch tensors.
    """
    held_index, held_hedge = before
    wanted = exposure * hedge
    if now["listed"]:
        paid = held_hedge * now["exit_cost"] + wanted * now["entry_cost"]
    else:
        paid = abs(wanted - held_hedge) * now["entry_cost"]
    cost = paid + index_cost * abs(exposure - held_index)
    total = 1 + exposure * now["index_gain"] + wanted * now["hedge_gain"] - cost
    drift = (1 + now["index_gain"]) / total
    return total, cost, (exposure * drift, wanted * drift)


def _run(market: xr.Dataset, name: str, policy: Policy, max_hedge: float) -> dict[str, FloatArray]:
    variables = ("index_gain", "hedge_gain", "entry_cost", "exit_cost", *OBSERVATIONS)
    values = {key: market[key].transpose("path", "time").values for key in variables}
    roll, index_cost = market["listed"].values, float(market.attrs["index_cost"])
    n_paths, n_steps = values["index_gain"].shape
    out: dict[str, FloatArray] = {key: np.empty((n_paths, n_steps)) for key in ("exposure", "hedge", "cost", "growth")}
    held = (np.zeros(n_paths), np.zeros(n_paths))
    hedge = np.zeros(n_paths)
    for time in range(n_steps):
        now = {key: array[:, time] for key, array in values.items()}
        chosen = policy.decide({key: now[key] for key in OBSERVATIONS}, hedge)
        if not isinstance(chosen, tuple) or len(chosen) != 2:
            raise InputError(f"policies: {name!r} must return (exposure, hedge), not {type(chosen).__name__}")
        exposure, hedge = chosen
        for what, position in (("exposure", exposure), ("hedge", hedge)):
            if np.shape(position) != (n_paths,) or not np.all(np.isfinite(position)):
                raise InputError(f"policies: {name!r} must return finite {what} of shape ({n_paths},)")
        wanted = float(np.max(np.abs(exposure * hedge) / np.maximum(1.0, np.abs(exposure))))
        if wanted > max_hedge * (1 + 1e-9):
            raise InputError(
                f"policies: {name!r} wants {wanted:.4g} hedges per unit at time {time}, more than "
                f"max_hedge={max_hedge:g}; if that is meant, pass max_hedge={math.ceil(wanted)}"
            )
        total, cost, held = growth({**now, "listed": roll[time]}, exposure, hedge, held, index_cost)
        if not np.all(total > 0):
            raise InputError(f"policies: {name!r} loses all its wealth at time {time}; lower its exposure")
        out["exposure"][:, time], out["hedge"][:, time] = exposure, hedge
        out["cost"][:, time], out["growth"][:, time] = cost, total
    return {**out, "wealth": np.asarray(np.cumprod(out["growth"], axis=1))}

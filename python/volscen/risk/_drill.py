"""Which scenarios make the tail, and what happens in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._elapsed import step_position
from volscen._numbers import positive_number
from volscen._tenors import to_years
from volscen.errors import InputError
from volscen.portfolio._contracts import StartingState, one_date
from volscen.risk._checks import floats
from volscen.risk._measures import tail_weight
from volscen.surface._interpolate import interpolate_vol

__all__ = ["tail"]

FloatArray = npt.NDArray[np.float64]


def tail(
    ds: xr.Dataset,
    profit: xr.Dataset | npt.ArrayLike,
    *,
    alpha: float = 0.05,
    step: int | None = None,
    tau: float | str = 30 / 365,
    wings: tuple[float, float] = (0.95, 1.05),
) -> xr.Dataset:
    """The scenarios in which a portfolio loses most, worst first.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios of one date.
    profit : xarray.Dataset, or array_like of shape (n,)
        The result of :func:`volscen.portfolio.pnl` on them, or the portfolio's profit and loss per scenario.
    alpha : float
        Probability of the tail, in (0, 1].
    step : int, optional
        Label of the step; the last by default.
    tau : float or str
        Time to expiry in years, or a tenor such as "3M", at which the surfaces are described.
    wings : (float, float)
        Moneyness K/F of the low and the high strike between which skew is measured; volatility is flat beyond the grid.

    Returns
    -------
    xarray.Dataset
        Over ``rank`` (1 the worst): ``scenario``, ``pnl``, ``weight``, ``tail_weight`` (its share in the tail; they sum
        to 1), ``log_return`` (since the start), ``atm_vol`` and ``atm_change``, ``skew`` (volatility of the low strike
        less that of the high one) and ``skew_change``, ``arbitrage_penalty`` of the step; with lines
        ``pnl_line(rank, line)``.

    Raises
    ------
    InputError
        If the profit does not belong to the scenarios, or a number is out of range.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=1000, seed=1)
    >>> profit = volscen.portfolio.pnl(cube, volscen.Portfolio.straddle(moneyness=1, tau=0.25, quantity=-1))
    >>> worst = volscen.risk.tail(cube, profit, alpha=0.01)
    >>> bool((worst.pnl.diff("rank") >= 0).all()), round(float(worst.tail_weight.sum()), 9)
    (True, 1.0)
    """
    ds = one_date(ds)
    position = step_position(ds, step)
    total, by_line = _profit(ds, profit, position)
    weight = ds["weight"].values.astype(np.float64)
    worst = tail_weight(total, weight, alpha=alpha)
    rows = np.flatnonzero(worst)
    rows = rows[np.argsort(total[rows], kind="stable")]
    start = StartingState.of(ds)
    surfaces = ds["implied_vol"].transpose("scenario", "step", "tau", "moneyness").values[rows, position]
    low, high = _wings(wings)
    at = positive_number("tau", to_years("tau", tau))
    asked = (start.tau, start.moneyness, at, np.array([1.0, low, high]))
    then, now = interpolate_vol(surfaces, *asked), interpolate_vol(start.implied_vol, *asked)
    spot = ds["spot"].transpose("scenario", "step").values[rows, position].astype(np.float64)
    penalty = ds["arbitrage_penalty"].transpose("scenario", "step").values[rows, position]
    variables: dict[str, Any] = {
        "pnl": ("rank", total[rows], _text("profit and loss of the portfolio", "currency")),
        "weight": ("rank", weight[rows], _text("weight of the scenario")),
        "tail_weight": ("rank", worst[rows], _text("share of the scenario in the tail")),
        "log_return": ("rank", np.log(spot / start.spot), _text("log return since the start")),
        "atm_vol": ("rank", then[:, 0], _text("at-the-money volatility")),
        "atm_change": ("rank", then[:, 0] - now[0], _text("its change since the start")),
        "skew": ("rank", then[:, 1] - then[:, 2], _text(f"volatility at {low:g} less that at {high:g}")),
        "skew_change": ("rank", then[:, 1] - then[:, 2] - (now[1] - now[2]), _text("its change since the start")),
        "arbitrage_penalty": ("rank", penalty, _text("static-arbitrage penalty of the surface")),
    }
    if by_line is not None:
        names = by_line["line"].values
        by_scenario = by_line.transpose("scenario", "line").values[rows]
        variables["pnl_line"] = (("rank", "line"), by_scenario, _text("profit and loss of the position", "currency"))
    labels = ds["scenario"].values[rows] if "scenario" in ds.coords else rows
    coordinates: dict[str, Any] = {"rank": np.arange(1, rows.size + 1), "scenario": ("rank", labels)}
    if by_line is not None:
        coordinates["line"] = names
    if "name" in ds.coords and ds["name"].dims == ("scenario",):
        coordinates["name"] = ("rank", ds["name"].values[rows])
    return xr.Dataset(variables, coordinates, attrs={"alpha": float(alpha), "tau": at})


def _profit(
    ds: xr.Dataset, profit: xr.Dataset | npt.ArrayLike, position: int
) -> tuple[FloatArray, xr.DataArray | None]:
    n = ds.sizes["scenario"]
    by_line = None
    if isinstance(profit, xr.Dataset):
        if "total" not in profit or dict(profit["total"].sizes) != {"scenario": n, "step": ds.sizes["step"]}:
            raise InputError("profit must be what volscen.portfolio.pnl returns for these scenarios")
        total = profit["total"].transpose("scenario", "step").values[:, position]
        if "pnl" in profit:
            by_line = profit["pnl"].isel(step=position)
    else:
        total = floats("profit", profit)
    if total.shape != (n,):
        raise InputError(f"profit must give one number for each of the {n} scenarios, not shape {total.shape}")
    return total, by_line


def _wings(wings: tuple[float, float]) -> tuple[float, float]:
    values = floats("wings", wings)
    if values.shape != (2,) or not np.all(np.isfinite(values)) or not 0 < values[0] < values[1]:
        raise InputError(f"wings must be two moneyness values, the lower first, not {wings!r}")
    return float(values[0]), float(values[1])


def _text(long_name: str, units: str = "1") -> dict[str, str]:
    return {"long_name": long_name, "units": units}

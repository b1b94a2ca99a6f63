"""Profit and loss of a portfolio on every scenario, by line, and what explains it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._elapsed import step_position
from volscen._tenors import to_years
from volscen.errors import InputError
from volscen.portfolio._contracts import DAYS_PER_YEAR, one_date
from volscen.portfolio._fair_variance import VIX_YEARS
from volscen.portfolio._instruments import VixPayoff
from volscen.portfolio._revalue import Revaluation, contract_coordinates, warn_floored

if TYPE_CHECKING:
    from volscen.portfolio import Portfolio
    from volscen.portfolio._instruments import Instrument

    Book: TypeAlias = Portfolio | Instrument | Sequence[Instrument | tuple[Instrument, float]]

__all__ = ["explain", "pnl", "prepare"]

FloatArray = npt.NDArray[np.float64]

#: Scenarios worked on at once: few enough that a block of a thousand lines stays in the cache.
_ROWS = 64


def pnl(
    ds: xr.Dataset,
    portfolio: Book,
    *,
    lines: bool = True,
    elapsed_days: npt.ArrayLike | None = None,
    extrapolation: str = "flat_vol",
    num_threads: int | None = None,
) -> xr.Dataset:
    """Profit and loss of every position on every scenario and step, against its value at the start.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios of one date.
    portfolio : Portfolio, or a list of (instrument, quantity)
        What is held.
    lines : bool
        Whether to keep the positions apart; without, only the total is formed, in a fraction of the memory.
    elapsed_days, extrapolation, num_threads
        As for :func:`volscen.portfolio.revalue`.

    Returns
    -------
    xarray.Dataset
        ``total(scenario, step)`` in currency, gains positive; ``weight``; and with ``lines``
        ``pnl(scenario, step, line)``, whose sum over lines is the total. Per line ``quantity`` and ``value0`` (of the
        position at the start). Coordinates of ``line``: its label, ``group``, ``strike``, ``tau``, ``contract_vol`` and
        ``extrapolated``, whether it lies off the surface's grid at the start or in any scenario that has weight.

    Warns
    -----
    RevaluationWarning
        If volatilities fell below the floor.

    Raises
    ------
    InputError
        As for :func:`volscen.portfolio.revalue`.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=1000, seed=1)
    >>> book = volscen.Portfolio.risk_reversal(0.9, 1.05, tau=0.25)
    >>> profit = volscen.portfolio.pnl(cube, book)
    >>> dict(profit.pnl.sizes), bool(abs(profit.pnl.sum("line") - profit.total).max() < 1e-9)
    ({'scenario': 1000, 'step': 1, 'line': 2}, True)
    """
    ds, book, work = prepare(ds, portfolio, elapsed_days, extrapolation, num_threads)
    quantity = np.asarray(book.quantities)
    value0 = work.greeks_at_start().value
    n, steps = work.spot.shape
    total, floored = np.empty((n, steps)), np.zeros(quantity.size, dtype=np.int64)
    cube = np.empty((n, steps, quantity.size)) if lines else np.empty(0)
    off_grid = work.contracts.off_grid.copy()
    for step in range(steps):
        off_grid |= work.off_grid_weight(step) > 0
        if lines:
            floored += work.write(step, (cube[:, step],))
            for start in range(0, n, _ROWS):
                block = cube[start : start + _ROWS, step]
                block -= value0
                block *= quantity
                total[start : start + _ROWS, step] = block.sum(axis=1)
        else:
            value, low = work.total(step, quantity)
            total[:, step] = value - quantity @ value0
            floored += low
    warn_floored(work.contracts, floored)
    coordinates = contract_coordinates(work.contracts)
    label = coordinates.pop("instrument")[1]
    per_line: dict[str, Any] = {
        name: ("line", values, attributes) for name, (_, values, attributes) in coordinates.items()
    }
    out = xr.Dataset(
        {
            **(
                {"pnl": (("scenario", "step", "line"), cube, _text("profit and loss of the position"))} if lines else {}
            ),
            "total": (("scenario", "step"), total, _text("profit and loss of the portfolio")),
            "weight": ("scenario", work.weight, dict(ds["weight"].attrs)),
            "quantity": ("line", quantity, _text("units held", "1")),
            "value0": ("line", quantity * value0, _text("value of the position at the start")),
        },
        coords={
            "line": ("line", label, {"long_name": "position"}),
            "group": ("line", np.array(book.groups or [""] * len(book), dtype=object), {"long_name": "group"}),
            **per_line,
            "extrapolated": ("line", off_grid, {"long_name": "off the surface's grid at the start or in a scenario"}),
            "elapsed_days": ("step", work.elapsed, _text("calendar days since as_of", "day")),
            **{name: ds[name] for name in ("scenario", "step", "as_of") if name in ds.coords},
        },
    )
    return out


def explain(
    ds: xr.Dataset,
    portfolio: Book,
    *,
    step: int | None = None,
    tenors: npt.ArrayLike | None = None,
    second_order: bool = False,
    alpha: float = 0.05,
    elapsed_days: npt.ArrayLike | None = None,
    extrapolation: str = "flat_vol",
    num_threads: int | None = None,
) -> xr.Dataset:
    """Explain the profit and loss of every scenario by the sensitivities at the start.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios of one date.
    portfolio : Portfolio, or a list of (instrument, quantity)
        What is held.
    step : int, optional
        Label of the step; the last by default.
    tenors : array_like of float or str, optional
        Increasing bounds in years, or tenors such as "3M": vega is split into the positions up to the first, between
        the first and the second, ..., and beyond the last, by their time to expiry at the start.
    second_order : bool
        Whether to take vanna and volga out of the residual.
    alpha : float
        Tail probability of ``tail_mean``.
    elapsed_days, extrapolation, num_threads
        As for :func:`volscen.portfolio.revalue`.

    Returns
    -------
    xarray.Dataset
        ``pnl(scenario)`` and ``explained(component, scenario)``, which sums to it. Components: ``delta``, ``gamma``,
        ``vega`` (or one for each of ``tenors``), ``vanna`` and ``volga``, ``theta``, ``residual``. By component, with
        the scenarios' weights: ``mean``, ``std``, ``tail_mean`` (on the worst ``alpha`` of the portfolio's
        outcomes: summed and with its sign turned, the expected shortfall). ``r_squared``: 1 - var(residual)/var(pnl),
        which a portfolio that never moves does not have.
        Of the portfolio: ``book_delta`` and so on.

    Raises
    ------
    InputError
        As for :func:`volscen.portfolio.revalue`; if ``tenors`` do not increase, or ``step`` is none of the scenarios'.

    Notes
    -----
    With dS and d sigma_i the changes of the spot and of each contract's volatility, dt the time that passes:
    delta dS, gamma dS^2/2, sum vega_i d sigma_i, sum vanna_i dS d sigma_i, sum volga_i (d sigma_i)^2/2, theta dt.
    The volatility of a contract changes with the surface, and as it moves along the surface: the slide along the skew
    when the spot moves is vega, not delta. A position that expires within the horizon keeps its volatility, and what
    the start cannot know about it is residual.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=1000, seed=1)
    >>> found = volscen.portfolio.explain(cube, volscen.Portfolio.straddle(moneyness=1, tau=0.25))
    >>> found.component.values.tolist()
    ['delta', 'gamma', 'vega', 'theta', 'residual']
    >>> bool(found.r_squared > 0.99)
    True
    """
    ds, book, work = prepare(ds, portfolio, elapsed_days, extrapolation, num_threads)
    position = step_position(ds, step)
    c, quantity = work.contracts, np.asarray(book.quantities)
    greeks = work.greeks_at_start()
    value, floored = work.total(position, quantity)
    warn_floored(c, floored)
    profit = value - quantity @ greeks.value
    move = work.spot[:, position] - work.start.spot
    tau = np.where([isinstance(i, VixPayoff) for i in c.instruments], VIX_YEARS, c.tau)
    names, bucket = _buckets(tenors, tau)
    vega, vanna, volga = (quantity * unit for unit in (greeks.vega, greeks.vanna, greeks.volga))
    by_change = np.column_stack([*(np.where(bucket == i, vega, 0.0) for i in range(len(names))), vanna])
    of_change, of_volga = np.empty((profit.size, len(names) + 1)), np.zeros(profit.size)
    vol0 = np.where(np.isnan(c.implied_vol), 0.0, c.implied_vol)
    for start in range(0, profit.size, _ROWS):
        rows = slice(start, start + _ROWS)
        change = work.vols(position, rows)
        change -= vol0
        of_change[rows] = change @ by_change
        if second_order:
            of_volga[rows] = np.square(change, out=change) @ volga / 2
    elapsed = work.elapsed[position] / DAYS_PER_YEAR
    parts: dict[str, FloatArray] = {
        "delta": quantity @ greeks.delta * move,
        "gamma": quantity @ greeks.gamma * move**2 / 2,
        **dict(zip(names, of_change.T[:-1], strict=True)),
        **({"vanna": of_change[:, -1] * move, "volga": of_volga} if second_order else {}),
        "theta": np.full(profit.size, quantity @ greeks.theta * elapsed),
    }
    parts["residual"] = profit - np.sum(list(parts.values()), axis=0)
    return _explained(ds, work, profit, parts, alpha).assign(
        {
            f"book_{name}": ((), float(quantity @ getattr(greeks, name)), _text(f"{name} of the portfolio", unit))
            for name, unit in _BOOK.items()
        }
    )


_BOOK = {
    "delta": "1",
    "gamma": "1/currency",
    "vega": "currency",
    "theta": "currency/year",
    "vanna": "1",
    "volga": "currency",
}


def _explained(
    ds: xr.Dataset, work: Revaluation, profit: FloatArray, parts: dict[str, FloatArray], alpha: float
) -> xr.Dataset:
    from volscen.risk import tail_weight

    w = work.weight
    explained = np.stack(list(parts.values()))
    mean = explained @ w
    worst = tail_weight(profit, w, alpha=alpha)
    variance = float(w @ np.square(profit - w @ profit))
    residual = float(w @ np.square(parts["residual"] - w @ parts["residual"]))
    out = xr.Dataset(
        {
            "pnl": ("scenario", profit, _text("profit and loss of the portfolio")),
            "explained": (("component", "scenario"), explained, _text("profit and loss by its cause")),
            "mean": ("component", mean, _text("weighted mean")),
            "std": (
                "component",
                np.sqrt(np.square(explained - mean[:, None]) @ w),
                _text("weighted standard deviation"),
            ),
            "tail_mean": ("component", explained @ worst, _text("weighted mean over the worst outcomes")),
            "weight": ("scenario", w, dict(ds["weight"].attrs)),
        },
        coords={
            "component": list(parts),
            **{name: ds[name] for name in ("scenario", "as_of") if name in ds.coords},
        },
        attrs={"alpha": float(alpha)},
    )
    if variance > 0:  # a portfolio that never moves has nothing to explain
        out["r_squared"] = ((), 1 - residual / variance, _text("share of the variance explained", "1"))
    return out


def _buckets(tenors: npt.ArrayLike | None, tau: FloatArray) -> tuple[list[str], npt.NDArray[np.intp]]:
    """Names of the components of vega and the one each position belongs to; what has no maturity has the first."""
    if tenors is None:
        return ["vega"], np.zeros(tau.size, dtype=np.intp)
    try:
        bounds = np.atleast_1d(np.asarray(to_years("tenors", tenors), dtype=np.float64))
    except InputError:
        raise
    except (TypeError, ValueError):
        raise InputError(f"tenors must be numbers of years, not {tenors!r}") from None
    if bounds.ndim != 1 or not bounds.size or not np.all(np.isfinite(bounds) & (bounds > 0)):
        raise InputError("tenors must be positive finite numbers of years")
    if np.any(np.diff(bounds) <= 0):
        raise InputError("tenors must increase")
    names = [f"vega to {bound * 365:.6g}d" for bound in bounds] + [f"vega beyond {bounds[-1] * 365:.6g}d"]
    return names, np.searchsorted(bounds * (1 + 1e-9), np.where(np.isnan(tau), 0.0, tau))


def prepare(
    ds: xr.Dataset,
    portfolio: Book,
    elapsed_days: npt.ArrayLike | None,
    extrapolation: str,
    num_threads: int | None,
) -> tuple[xr.Dataset, Portfolio, Revaluation]:
    """Checked scenarios in memory, the portfolio, and the revaluation of its instruments."""
    from volscen.portfolio._portfolio import as_portfolio

    book, ds = as_portfolio(portfolio), one_date(ds)
    work = Revaluation(
        ds, book.instruments, elapsed_days=elapsed_days, extrapolation=extrapolation, num_threads=num_threads
    )
    return ds, book, work


def _text(long_name: str, units: str = "currency") -> dict[str, str]:
    return {"long_name": long_name, "units": units}

"""Quantities of a scenario that views are about: one number per scenario."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._elapsed import step_position
from volscen._numbers import finite_number, positive_number
from volscen._reweight import weighing_penalty
from volscen._tenors import to_years
from volscen.errors import InputError
from volscen.surface._interpolate import EDGE_RTOL, interpolate_vol

__all__ = [
    "Quantity",
    "arbitrage_penalty",
    "array",
    "as_quantity",
    "atm_vol",
    "implied_vol",
    "log_return",
    "profit",
    "skew",
    "term_slope",
    "total_log_return",
    "vix",
]

FloatArray = npt.NDArray[np.float64]

#: Beyond this squares leave float64.
_LARGEST = 1e100


@dataclass(frozen=True)
class Quantity:
    """A named function from the scenarios of one date to one number per scenario.

    Attributes
    ----------
    label : str
        What errors and tables call it.
    of : callable
        From a scenario dataset of one date and the row of that date to an array of shape (scenario,).

    Examples
    --------
    >>> import volscen
    >>> volscen.views.atm_vol(0.25).label
    'atm_vol(0.25)'
    """

    label: str
    of: Callable[[xr.Dataset, int], npt.ArrayLike]

    def values(self, ds: xr.Dataset, row: int = 0) -> FloatArray:
        """Numbers of the scenarios of one date, checked: shape (scenario,), finite."""
        n = ds.sizes["scenario"]
        try:
            values = np.asarray(self.of(ds, row), dtype=np.float64)
        except (TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.label} does not give one number per scenario: {error}") from None
        if values.shape != (n,):
            raise InputError(
                f"{self.label} must give one number for each of the {n} scenarios, not shape {values.shape}"
            )
        if not np.all(np.isfinite(values)):
            bad = int(np.sum(~np.isfinite(values)))
            raise InputError(f"{self.label} is NaN or infinite on {bad} scenario(s); mend or drop them")
        largest = float(np.max(np.abs(values)))
        if largest > _LARGEST or 0 < largest < 1 / _LARGEST:
            raise InputError(
                f"{self.label} is of the order {largest:.1g}; give it in a unit in which its square is a number"
            )
        return values


def as_quantity(quantity: object) -> Quantity:
    """Read what a view is about: a quantity, a variable's name, a portfolio, a function of the dataset, or an array."""
    from volscen.portfolio import Portfolio

    if isinstance(quantity, Quantity):
        return quantity
    if isinstance(quantity, str):
        return _variable(quantity)
    if isinstance(quantity, xr.DataArray):
        return Quantity(str(quantity.name or "array"), lambda ds, row: _of_date(quantity, ds, row))
    if isinstance(quantity, Portfolio):
        return profit(quantity)
    if callable(quantity):
        name = getattr(quantity, "__name__", "function")
        return Quantity(str(name), lambda ds, row: _plain(quantity(ds)))
    try:
        array = np.asarray(quantity, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.ndim not in (1, 2) or array.size == 0:
        raise InputError(
            "a view is about a quantity of volscen.views, the name of a variable, a function of the dataset, or an "
            f"array of one number per scenario (or (as_of, scenario)), not {type(quantity).__name__}"
        )
    return _array(array, "array")


def array(values: npt.ArrayLike, label: str) -> Quantity:
    """Numbers of your own under a name that errors and tables use.

    Parameters
    ----------
    values : array_like, shape (scenario,) or (as_of, scenario)
        For instance a volatility index or the profits of a book from another system.
    label : str
        The name.

    Examples
    --------
    >>> from volscen import views
    >>> str(views.mean(views.array([0.1, 0.2], "hedge fund"), at_least=0.15))
    '0.15 <= mean(hedge fund)'
    """
    plain = as_quantity(values)
    return Quantity(str(label), plain.of)


def _array(array: FloatArray, label: str) -> Quantity:
    return Quantity(label, lambda ds, row: array[row] if array.ndim == 2 and row < len(array) else array)


def _plain(values: Any) -> npt.ArrayLike:
    result: npt.ArrayLike = values.values if isinstance(values, xr.DataArray) else values
    return result


def _of_date(array: xr.DataArray, ds: xr.Dataset, row: int) -> npt.ArrayLike:
    if "as_of" in array.dims:
        if "as_of" in array.coords and "as_of" in ds.coords:
            date = ds["as_of"].values
            if date not in array["as_of"].values:
                raise InputError(f"{array.name or 'array'} has no as_of {np.datetime_as_string(date, unit='D')}")
            array = array.sel(as_of=date)
        else:
            array = array.isel(as_of=row)
    if array.dims != ("scenario",):
        raise InputError(f"{array.name or 'array'} must have the dimension scenario alone, not {array.dims}")
    if array.sizes["scenario"] != ds.sizes["scenario"]:
        raise InputError(
            f"{array.name or 'array'} has {array.sizes['scenario']} scenarios, the dataset {ds.sizes['scenario']}"
        )
    result: npt.ArrayLike = array.values
    return result


def _at(step: int | None) -> str:
    return "" if step is None else f", step={step}"


def _variable(name: str) -> Quantity:
    def of(ds: xr.Dataset, row: int) -> npt.ArrayLike:
        known = sorted(str(v) for v in ds.data_vars if set(ds[v].dims) in ({"scenario"}, {"scenario", "step"}))
        if name not in ds.data_vars or "scenario" not in ds[name].dims:
            raise InputError(
                f"no variable {name!r} over scenarios; a view may name {', '.join(known)}, or use a quantity of "
                "volscen.views"
            )
        if str(name) not in known:
            raise InputError(
                f"{name} has further dimensions {ds[name].dims}; use volscen.views.implied_vol(tau, moneyness) or "
                "another quantity that picks one number per scenario"
            )
        array = ds[name]
        result: npt.ArrayLike = (array.isel(step=-1) if "step" in array.dims else array).values
        return result

    return Quantity(name, of)


def log_return(step: int | None = None) -> Quantity:
    """Log return of one step (the last when omitted)."""
    return Quantity(
        f"log_return({'' if step is None else step})",
        lambda ds, row: ds["log_return"].isel(step=step_position(ds, step)).values,
    )


def total_log_return(step: int | None = None) -> Quantity:
    """Log return from ``as_of`` to a step (the last when omitted)."""
    return Quantity(
        f"total_log_return({'' if step is None else step})",
        lambda ds, row: np.log(ds["spot"].isel(step=step_position(ds, step)).values / float(ds["spot0"])),
    )


def implied_vol(tau: float | str, moneyness: float, step: int | None = None) -> Quantity:
    """Implied volatility at a point of the surface, by :func:`volscen.surface.interpolate_vol`.

    Parameters
    ----------
    tau : float or str
        Years, or a tenor such as "3M"; within the grid.
    moneyness : float
        K/F; within the grid.
    step : int, optional
        The last when omitted.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=100, seed=1)
    >>> volscen.views.implied_vol(0.25, 0.9).values(cube).shape
    (100,)
    """
    tau, moneyness = _tau(tau), finite_number("moneyness", moneyness)
    return Quantity(
        f"implied_vol({tau:.4g}, {moneyness:.4g}{_at(step)})", lambda ds, row: _vol(ds, tau, moneyness, step)
    )


def _vol(ds: xr.Dataset, tau: float, moneyness: float, step: int | None) -> FloatArray:
    grid_tau, grid_m = ds["tau"].values, ds["moneyness"].values
    for name, value, grid in (("tau", tau, grid_tau), ("moneyness", moneyness, grid_m)):
        if not grid[0] * (1 - EDGE_RTOL) <= value <= grid[-1] * (1 + EDGE_RTOL):
            raise InputError(f"{name} {value:.4g} of a view lies off the grid, {grid[0]:.4g} to {grid[-1]:.4g}")
    surfaces = ds["implied_vol"].transpose("scenario", "step", "tau", "moneyness")
    return interpolate_vol(surfaces[:, step_position(ds, step)].values, grid_tau, grid_m, tau, moneyness)


def _tau(value: float | str, name: str = "tau") -> float:
    return positive_number(name, to_years(name, value))


def atm_vol(tau: float | str, step: int | None = None) -> Quantity:
    """At-the-money-forward volatility of a time to expiry, in years or a tenor such as "3M"."""
    tau = _tau(tau)
    return Quantity(f"atm_vol({tau:.4g}{_at(step)})", lambda ds, row: _vol(ds, tau, 1.0, step))


def skew(tau: float | str, low: float = 0.9, high: float = 1.1, step: int | None = None) -> Quantity:
    """Volatility at moneyness ``low`` less that at ``high``: positive where puts cost more."""
    tau, low, high = _tau(tau), finite_number("low", low), finite_number("high", high)
    return Quantity(
        f"skew({tau:.4g}, {low:.4g}, {high:.4g}{_at(step)})",
        lambda ds, row: _vol(ds, tau, low, step) - _vol(ds, tau, high, step),
    )


def term_slope(short: float | str, long: float | str, step: int | None = None) -> Quantity:
    """At-the-money volatility of the longer time to expiry less that of the shorter; years, or tenors such as "3M"."""
    short, long = _tau(short, "short"), _tau(long, "long")
    return Quantity(
        f"term_slope({short:.4g}, {long:.4g}{_at(step)})",
        lambda ds, row: _vol(ds, long, 1.0, step) - _vol(ds, short, 1.0, step),
    )


def vix(days: float = 30, step: int | None = None) -> Quantity:
    """Volatility index of the surface by Cboe's method, in vol points (:func:`volscen.surface.vix`).

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=100, seed=1)
    >>> volscen.views.vix().values(cube).shape
    (100,)
    """
    days = positive_number("days", days)

    def of(ds: xr.Dataset, row: int) -> npt.ArrayLike:
        from volscen.surface import vix as index

        surfaces = ds["implied_vol"].isel(step=step_position(ds, step))
        result: npt.ArrayLike = index(surfaces, days=days).values
        return result

    return Quantity(f"vix({days:g}{_at(step)})", of)


def arbitrage_penalty() -> Quantity:
    """Static-arbitrage penalty of the path, summed over its steps; of projected cubes the one before projection."""

    def of(ds: xr.Dataset, row: int) -> npt.ArrayLike:
        name = weighing_penalty(ds)
        if name not in ds:
            raise InputError("the dataset has no arbitrage_penalty; pass one made by volscen.generate")
        result: npt.ArrayLike = ds[name].sum("step", skipna=False).values
        return result

    return Quantity("arbitrage_penalty()", of)


def profit(portfolio: Any, step: int | None = None, *, elapsed_days: npt.ArrayLike | None = None) -> Quantity:
    """Change in value of a portfolio from ``as_of`` to a step, gains positive.

    Parameters
    ----------
    portfolio : volscen.Portfolio, or a list of instruments
        Valued as by :func:`volscen.portfolio.revalue`.
    step : int, optional
        The last when omitted.
    elapsed_days : array_like, shape (step,), optional
        Calendar days to each step.

    Examples
    --------
    >>> import volscen
    >>> book = volscen.Portfolio.straddle(moneyness=1.0, tau=0.25)
    >>> cube = volscen.generate(n_scenarios=100, seed=1)
    >>> volscen.views.profit(book).values(cube).shape
    (100,)
    """
    from volscen.portfolio import pnl
    from volscen.portfolio._portfolio import as_portfolio

    book = as_portfolio(portfolio)

    def of(ds: xr.Dataset, row: int) -> npt.ArrayLike:
        total = pnl(ds, book, lines=False, elapsed_days=elapsed_days)["total"]
        result: npt.ArrayLike = total.isel(step=step_position(ds, step)).values
        return result

    return Quantity(f"profit({'' if step is None else step})", of)

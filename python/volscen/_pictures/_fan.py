"""Weighted quantiles of a quantity over the steps ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._pictures._select import finite, levels_of, one, variable, weights_of, where
from volscen._pictures._style import BLUE, GREY, axes_for, percent, tenor, whole_numbers
from volscen._statistics import quantile
from volscen._tenors import to_years
from volscen.errors import InputError
from volscen.surface._interpolate import interpolate_vol, is_off_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["fan"]

FloatArray = npt.NDArray[np.float64]

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_MOST_PATHS = 1000


def fan(
    ds: xr.Dataset,
    of: str = "atm_vol",
    *,
    tau: float | str | None = None,
    moneyness: float = 1.0,
    levels: Any = LEVELS,
    n_paths: int = 0,
    ax: Axes | None = None,
    **style: Any,
) -> Axes:
    """Draw the weighted quantiles of a quantity at every step, from where it starts.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios of one date.
    of : str
        ``"atm_vol"`` or ``"implied_vol"`` at ``tau`` and ``moneyness`` (interpolated as by
        :func:`volscen.surface.interpolate_vol`), ``"total_log_return"`` since the start, or any variable over scenario
        and step, such as ``"log_return"`` and ``"spot"``.
    tau : float or str, optional
        Years, or a tenor such as ``"3M"``, within the grid; its first maturity when omitted.
    moneyness : float
        K/F of ``"implied_vol"``.
    levels : sequence of float
        Increasing probabilities: the outermost two bound the widest band, and so on; one in the middle is drawn as a
        line.
    n_paths : int
        Paths drawn besides, spread evenly over the weight.
    ax : matplotlib.axes.Axes, optional
        To draw on.
    **style
        Passed to ``Axes.fill_between``; ``color`` is the line's too.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If there are several dates or assets, no steps, no such variable, or a point is off the grid.
    MissingExtraError
        Without matplotlib (extra ``plot``).

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=100, horizon=5, seed=1)
    >>> volscen.plot.fan(cube, "atm_vol", tau="3M").get_xlabel()
    'trading days ahead'
    """
    q = levels_of(levels)
    if isinstance(n_paths, bool) or not isinstance(n_paths, int | np.integer) or not 0 <= n_paths <= _MOST_PATHS:
        raise InputError(f"n_paths must be a whole number from 0 to {_MOST_PATHS}, not {n_paths!r}")
    values, start, label = _quantity(ds, of, tau, moneyness)
    w = weights_of(ds)
    steps = ds["step"].values.astype(np.float64)
    if start is not None:
        steps = np.concatenate([[0.0], steps])
        values = np.column_stack([np.full(len(values), start), values])
    bands = quantile(values, w, q)
    ax = axes_for(ax)
    colour = style.pop("color", BLUE)
    pairs = q.size // 2
    for i in range(pairs):
        options: dict[str, Any] = {"alpha": 0.15 + 0.15 * i / max(1, pairs - 1), "linewidth": 0} | style
        text = f"{100 * (q[-1 - i] - q[i]):.3g}%"
        ax.fill_between(steps, bands[i], bands[-1 - i], color=colour, label=text, **options)
    if n_paths:
        # One path for each n-th part of the weight: where there is more of it, there are more paths.
        rows = np.searchsorted(np.cumsum(w), (np.arange(n_paths) + 0.5) / n_paths).clip(max=len(w) - 1)
        ax.plot(steps, values[rows].T, color=GREY, linewidth=0.7, alpha=0.8)
    if q.size % 2:
        middle = "median" if q[pairs] == 0.5 else f"{100 * q[pairs]:.3g}% quantile"
        ax.plot(steps, bands[pairs], color=colour, linewidth=1.8, label=middle)
    ax.set_xlabel("trading days ahead" if ds.attrs.get("periods_per_year", 252) == 252 else "steps ahead")
    whole_numbers(ax.xaxis)
    ax.set_ylabel(label)
    if of != "spot" and str(ds[of].attrs.get("long_name", "") if of in ds else "").find("penalty") < 0:
        percent(ax.yaxis)
    ax.set_xlim(steps[0], steps[-1] if steps[-1] > steps[0] else steps[0] + 1)
    ax.set_title(where(ds.drop_vars("step")), fontsize="medium")
    ax.legend(frameon=False, fontsize="small", loc="upper left", ncols=2)
    return ax


def _quantity(ds: Any, of: str, tau: Any, moneyness: Any) -> tuple[FloatArray, float | None, str]:
    """Values (scenario, step), the one they start from where there is one, and a name."""
    name = {"atm_vol": "implied_vol", "total_log_return": "spot"}.get(of, of)
    array = variable(ds, name, "scenario")
    if "step" not in array.dims:
        raise InputError(f"a fan goes along steps, of which {name} has none left; keep them: ds.isel(step=slice(0, 5))")
    if of in ("atm_vol", "implied_vol"):
        k = 1.0 if of == "atm_vol" else moneyness
        return _vol(ds, array, of, tau, k)
    if tau is not None:
        raise InputError(f"tau is for vols; {of!r} has none")
    values = finite(one(array, "scenario", "step"))
    if of == "total_log_return":
        return np.log(values / float(one(variable(ds, "spot0")))), 0.0, "log return since the start"
    label = {"log_return": "log return of a step", "spot": "spot"}.get(of, str(array.attrs.get("long_name", of)))
    return values, float(one(variable(ds, "spot0"))) if of == "spot" else None, label


def _vol(ds: xr.Dataset, array: xr.DataArray, of: str, tau: Any, moneyness: Any) -> tuple[FloatArray, float, str]:
    variable(ds, "implied_vol", "scenario", "tau", "moneyness")
    grid, strikes = (ds[name].values.astype(np.float64) for name in ("tau", "moneyness"))
    years = float(grid[0]) if tau is None else to_years("tau", tau)
    for name, value in (("tau", years), ("moneyness", moneyness)):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
            raise InputError(f"{name} must be a number, not {value!r}")
    if is_off_grid(grid, strikes, years, moneyness):
        raise InputError(
            f"tau {years:.4g}, moneyness {moneyness:.4g} lies off the grid: {grid[0]:.4g} to {grid[-1]:.4g} years, "
            f"{strikes[0]:.4g} to {strikes[-1]:.4g}"
        )
    surfaces = one(array, "scenario", "step", "tau", "moneyness").values
    start = one(variable(ds, "implied_vol0", "tau", "moneyness"), "tau", "moneyness").values
    found = interpolate_vol(surfaces, grid, strikes, years, float(moneyness))
    label = f"{tenor(years)} at-the-money vol" if of == "atm_vol" else f"{tenor(years)} vol at K/F = {moneyness:g}"
    return found, float(interpolate_vol(start, grid, strikes, years, float(moneyness))), label

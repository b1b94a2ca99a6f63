"""A surface as a solid or as a map, and smiles by maturity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from volscen._pictures._select import levels_of, one, over_scenarios, variable, where
from volscen._pictures._style import (
    BLUE,
    ORANGE,
    SEQUENTIAL,
    axes_for,
    colourbar,
    label_tenors,
    percent,
    shades,
    tenor,
)
from volscen._tenors import to_years
from volscen.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["smile", "surface"]

#: With more maturities than this the bands of a smile would hide one another.
_BANDS = 3

#: A maturity asked for must lie this near to one of the grid, relatively.
_NEAR_TAU = 0.02


def surface(
    ds: xr.Dataset,
    *,
    variable_name: str = "implied_vol",
    kind: Literal["3d", "heatmap"] = "3d",
    q: float | None = None,
    ax: Axes | None = None,
    add_colorbar: bool = True,
    **style: Any,
) -> Axes:
    """Draw one surface; of scenarios their weighted mean, or a weighted quantile, cell by cell.

    Parameters
    ----------
    ds : xarray.Dataset
        A surface, a history or repaired surfaces of which one date is chosen, or scenarios of one date and step.
    variable_name : str
        Variable over tau and moneyness, such as ``"implied_vol0"``.
    kind : {"3d", "heatmap"}
        A solid, or a map with colours for values.
    q : float, optional
        Level in (0, 1) of the quantile over scenarios; the mean when omitted.
    ax : matplotlib.axes.Axes, optional
        To draw on, three-dimensional for a solid; a new figure by default.
    add_colorbar : bool
        Of a map.
    **style
        Passed to ``Axes3D.plot_surface`` or ``Axes.pcolormesh``.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If the variable is missing or holds NaN, or there is more than one date, step, asset or starting date.
    MissingExtraError
        Without matplotlib (extra ``plot``).

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=100, seed=1)
    >>> volscen.plot.surface(cube, kind="heatmap").get_xlabel()
    'moneyness K/F'
    """
    if kind not in ("3d", "heatmap"):
        raise InputError(f"kind must be '3d' or 'heatmap', not {kind!r}")
    array = variable(ds, variable_name, "tau")
    strike = _strike_dim(array)
    if q is not None and "scenario" not in array.dims:
        raise InputError(f"q is a level over scenarios, which {variable_name} has none of here; leave it out")
    level = None if q is None else levels_of([q], "q")
    values = over_scenarios(ds, array, ("tau", strike), level)
    values = values if level is None else values[0]
    tau = ds["tau"].values.astype(np.float64)
    moneyness = one(array["moneyness"], "tau", strike).values.astype(np.float64)
    x, y = np.broadcast_arrays(moneyness, tau[:, None])
    if min(values.shape) < 2:
        raise InputError(f"{variable_name} has {values.shape} points over (tau, {strike}); a surface needs two of each")
    vol = variable_name.startswith("implied_vol")
    label = "implied vol" if vol else str(array.attrs.get("long_name", variable_name))
    if kind == "3d":
        ax = axes_for(ax, size=(6.4, 5.0), solid=True)
        from matplotlib.ticker import MaxNLocator

        options: dict[str, Any] = {
            "cmap": SEQUENTIAL,
            "rcount": 100,
            "ccount": 100,
            "linewidth": 0.3,
            "edgecolor": "white",
        } | style
        solid: Any = ax
        if "color" in style:
            options.pop("cmap")
        solid.plot_surface(x, y, values, **options)
        solid.set_zlabel(label, labelpad=8)
        if vol:
            percent(solid.zaxis)
        ax.set_ylabel("time to expiry, years")
        solid.view_init(elev=26, azim=-52)
        solid.set_box_aspect((1.15, 1.15, 0.8), zoom=0.9)
        for axis in (solid.xaxis, solid.yaxis, solid.zaxis):
            axis.pane.set_facecolor("white")
            axis.set_major_locator(MaxNLocator(5))
    else:
        ax = axes_for(ax)
        options = {"cmap": SEQUENTIAL, "shading": "gouraud"} | style
        image = ax.pcolormesh(x, y, values, **options)
        ax.set_yscale("log")
        label_tenors(ax.yaxis, tau)
        ax.set_ylabel("time to expiry")
        if add_colorbar:
            colourbar(ax, image, label, per_cent=vol)
    ax.set_xlabel("moneyness K/F")
    ax.set_title(_title(ds, array, q), fontsize="medium")
    return ax


def smile(
    ds: xr.Dataset,
    *,
    tau: Any = None,
    x: Literal["moneyness", "log_moneyness"] = "moneyness",
    levels: Any = "auto",
    ax: Axes | None = None,
    **style: Any,
) -> Axes:
    """Draw the smile of each maturity; of scenarios their weighted median and a band, beside the starting smile.

    Parameters
    ----------
    ds : xarray.Dataset
        As for :func:`surface`.
    tau : float, str or a sequence of them, optional
        Maturities of the grid, in years or as tenors ("3M"); all when omitted.
    x : {"moneyness", "log_moneyness"}
        K/F, or ln(K/F).
    levels : (low, high), "auto" or None
        Weighted quantiles that bound the band of each maturity. ``"auto"``: 5% and 95% where at most three maturities
        are drawn, no band else.
    ax : matplotlib.axes.Axes, optional
        To draw on.
    **style
        Passed to ``Axes.plot``.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        As for :func:`surface`; or if a maturity is not on the grid.
    MissingExtraError
        Without matplotlib.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> ax = volscen.plot.smile(history.sel(date="2024-06-03"), tau=["1M", "1Y"])
    >>> [line.get_label() for line in ax.lines]
    ['1M', '1Y']
    """
    if x not in ("moneyness", "log_moneyness"):
        raise InputError(f"x must be 'moneyness' or 'log_moneyness', not {x!r}")
    array = variable(ds, "implied_vol", "tau")
    strike = _strike_dim(array)
    rows = _maturities(ds["tau"].values.astype(np.float64), tau)
    scenarios = "scenario" in array.dims
    auto = isinstance(levels, str) and levels == "auto"
    if levels is not None and not auto and not scenarios:
        raise InputError("levels are over scenarios, of which there are none here; leave them out")
    band = levels_of((0.05, 0.95) if auto else levels) if levels is not None and scenarios else None
    if band is not None and band.size != 2:
        raise InputError(f"levels must be two probabilities such as (0.05, 0.95), not {levels!r}")
    if auto and len(rows) > _BANDS:
        band = None
    chosen = array.isel(tau=rows)
    if scenarios:
        q = [0.5] if band is None else [0.5, *band]
        found = over_scenarios(ds, chosen, ("tau", strike), q)
    else:
        found = over_scenarios(ds, chosen, ("tau", strike))[None]
    moneyness = one(chosen["moneyness"], "tau", strike).values.astype(np.float64)
    across = np.broadcast_to(np.log(moneyness) if x == "log_moneyness" else moneyness, found.shape[1:])
    ax = axes_for(ax)
    start = "implied_vol0" in ds and scenarios
    before = one(ds["implied_vol0"].isel(tau=rows), "tau", strike).values if start else None
    colours = [BLUE, ORANGE, "#009E73"][: len(rows)] if len(rows) <= _BANDS else shades(len(rows))
    for i, row in enumerate(rows):
        own: dict[str, Any] = {
            "color": colours[i],
            "label": tenor(float(ds["tau"].values[row])),
            "linewidth": 1.8,
        } | style
        (line,) = ax.plot(across[i], found[0, i], **own)
        if band is not None:
            ax.fill_between(across[i], found[1, i], found[2, i], color=line.get_color(), alpha=0.2, linewidth=0)
        if before is not None:
            ax.plot(across[i], before[i], color=line.get_color(), linewidth=1, linestyle=(0, (4, 2)), label="_start")
    ax.set_xlabel("moneyness K/F" if x == "moneyness" else "log-moneyness ln(K/F)")
    ax.set_ylabel("implied vol")
    percent(ax.yaxis)
    handles, names = ax.get_legend_handles_labels()
    if before is not None:
        (key,) = ax.plot([], [], color="0.3", linewidth=1, linestyle=(0, (4, 2)))
        handles, names = [*handles, key], [*names, "start"]
    ax.legend(handles, names, frameon=False, fontsize="small", ncols=1 + (len(names) > 5))
    told = "" if not scenarios else "weighted median" + ("" if band is None else f" and {_span(band)} band")
    ax.set_title(", ".join(part for part in (where(ds), told) if part), fontsize="medium")
    return ax


def _span(band: Any) -> str:
    return f"{100 * (band[1] - band[0]):.3g}%"


def _strike_dim(array: xr.DataArray) -> str:
    """Dimension of the strikes: moneyness, or what stands for it where strikes differ from time to time."""
    if "moneyness" in array.coords:
        of = [str(dim) for dim in array["moneyness"].dims if dim in array.dims and dim != "tau"]
        if of:
            return of[-1]
    raise InputError(f"{array.name} has no dimension moneyness, which the picture goes along: {array.dims}")


def _maturities(grid: Any, tau: Any) -> list[int]:
    if tau is None:
        return list(range(grid.size))
    try:
        wanted = np.atleast_1d(np.asarray(to_years("tau", tau), dtype=np.float64))
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"tau must be maturities in years or tenors such as '3M', not {tau!r}") from None
    rows = []
    for value in wanted.ravel():
        row = int(np.argmin(np.abs(grid - value)))
        if not abs(grid[row] - value) <= _NEAR_TAU * grid[row]:
            held = ", ".join(f"{t:.4g} ({tenor(t)})" for t in grid)
            raise InputError(f"tau {value:.4g} is not on the grid, which holds {held}; volscen.surface.regrid moves it")
        rows.append(row)
    if not rows:
        raise InputError("tau holds no maturity; leave it out for all")
    return rows


def _title(ds: xr.Dataset, array: xr.DataArray, q: float | None) -> str:
    told = "" if "scenario" not in array.dims else "weighted mean" if q is None else f"weighted {100 * q:.3g}% quantile"
    return ", ".join(part for part in (where(ds), told) if part)

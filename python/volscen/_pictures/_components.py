"""Weighted principal components of how surfaces move, beside those of a history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._pictures._select import finite, one, variable, weights_of, where
from volscen._pictures._style import COLOURS, DIVERGING, axes_for, colourbar, percent, tenor
from volscen._pictures._surface import _maturities
from volscen.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["components", "pca"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """Moves of one standard deviation along each component (n, tau, moneyness), and shares of the variance (n,)."""

    move: FloatArray
    share: FloatArray


def components(moves: FloatArray, weight: FloatArray, n: int) -> Components:
    """First n components of moves (scenario, tau, moneyness) by weight; of either sign the one that sums to more."""
    flat = moves.reshape(len(moves), -1)
    centred = (flat - weight @ flat) * np.sqrt(weight)[:, None]
    _, sd, vectors = np.linalg.svd(centred, full_matrices=False)
    total = float(np.sum(sd**2))
    if total <= 0:
        raise InputError("the surfaces do not move: there are no components")
    move = sd[:n, None] * vectors[:n] * np.where(vectors[:n].sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    return Components(move.reshape(-1, *moves.shape[1:]), sd[:n] ** 2 / total)


def pca(
    ds: xr.Dataset,
    *,
    n_components: int = 3,
    component: int | None = None,
    tau: float | str | None = None,
    history: xr.Dataset | None = None,
    ax: Axes | None = None,
    **style: Any,
) -> Axes:
    """Draw the principal components of the moves of log vols: weighted ones of scenarios, daily ones of a history.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios of one date and step, whose moves are from the starting surface; or a history.
    n_components : int
        Lines to draw, along moneyness.
    component : int, optional
        Draw this one alone, counted from 1, as a map over all maturities.
    tau : float or str, optional
        Maturity of the grid for the lines; the first when omitted.
    history : xarray.Dataset, optional
        On the same grid: its components are drawn dashed, of moves over as many days as the scenarios' step.
    ax : matplotlib.axes.Axes, optional
        To draw on.
    **style
        Passed to ``Axes.plot`` or ``Axes.pcolormesh``.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If there are several dates or steps, the grids differ, or the surfaces do not move.
    MissingExtraError
        Without matplotlib (extra ``plot``).

    Notes
    -----
    A component is drawn as a move of one standard deviation. Signs are arbitrary: each sums to a positive number, a
    history's is as its counterpart's.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> cube = volscen.generate(n_scenarios=500, seed=1)
    >>> ax = volscen.plot.pca(cube, n_components=2, history=history)
    >>> len(ax.lines)
    5
    """
    variable(ds, "implied_vol", "tau", "moneyness")
    grid = ds["tau"].values.astype(np.float64)
    most = component if component is not None else n_components
    name = "n_components" if component is None else "component"
    cells = grid.size * ds.sizes["moneyness"]
    if isinstance(most, bool) or not isinstance(most, int | np.integer) or not 1 <= most <= cells:
        raise InputError(f"{name} must be a whole number from 1 to the {cells} cells of the grid, not {most!r}")
    moves, weight, ahead = _moves(ds)
    found = components(moves, weight, int(most))
    if len(found.share) < most:
        raise InputError(f"{name} {most} is more than the {len(found.share)} that {len(moves)} moves have")
    past = None
    if history is not None:
        schema.validate(history, schema=schema.HISTORY)
        schema.check_same_grid(grid, ds["moneyness"].values, history, "the scenarios")
        past = components(*_moves(history, ahead)[:2], int(most))
    if component is not None:
        if tau is not None or history is not None:
            raise InputError("a map has all maturities and one source: leave out tau and history, or component")
        return _map(ds, found, int(component), ax, style)
    rows = _maturities(grid, grid[:1] if tau is None else tau)
    if len(rows) != 1:
        raise InputError("tau must be one maturity; draw others on axes of their own")
    ax = axes_for(ax)
    ax.axhline(0, color="0.6", linewidth=0.8)
    x = ds["moneyness"].values
    for i in range(int(most)):
        text = f"{i + 1}: {found.share[i]:.1%}"
        if past is not None:
            sign = np.sign(np.sum(past.move[i] * found.move[i])) or 1.0
            text += f" (history {past.share[i]:.1%})"
        options: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "linewidth": 1.8, "label": text} | style
        (line,) = ax.plot(x, found.move[i, rows[0]], **options)
        if past is not None:
            ax.plot(x, sign * past.move[i, rows[0]], color=line.get_color(), linewidth=1.1, linestyle=(0, (4, 2)))
    ax.set_xlabel("moneyness K/F")
    ax.set_ylabel("move of log vol, one standard deviation")
    percent(ax.yaxis)
    ax.set_title(", ".join(part for part in (where(ds), tenor(grid[rows[0]])) if part), fontsize="medium")
    ax.legend(frameon=False, fontsize="small", title="component: share of variance", title_fontsize="small")
    return ax


def _map(ds: xr.Dataset, found: Components, component: int, ax: Axes | None, style: dict[str, Any]) -> Axes:
    move = found.move[component - 1]
    largest = float(np.abs(move).max())
    ax = axes_for(ax)
    options: dict[str, Any] = {"cmap": DIVERGING, "vmin": -largest, "vmax": largest, "shading": "nearest"} | style
    if "norm" in style:
        del options["vmin"], options["vmax"]
    image = ax.pcolormesh(ds["moneyness"].values, np.arange(move.shape[0]), move, **options)
    ax.set_yticks(np.arange(move.shape[0]), [tenor(t) for t in ds["tau"].values])
    colourbar(ax, image, "move of log vol, one standard deviation", per_cent=True)
    ax.set_xlabel("moneyness K/F")
    ax.set_ylabel("time to expiry")
    told = f"component {component}, {found.share[component - 1]:.1%} of the variance"
    ax.set_title(", ".join(part for part in (where(ds), told) if part), fontsize="medium")
    return ax


def _moves(ds: xr.Dataset, ahead: int = 1) -> tuple[FloatArray, FloatArray, int]:
    """Moves of log vols (n, tau, moneyness), their weights, and over how many steps they go."""
    array = variable(ds, "implied_vol", "tau", "moneyness")
    if "scenario" in array.dims:
        log_vol = np.log(finite(one(array, "scenario", "tau", "moneyness")))
        start = finite(one(variable(ds, "implied_vol0", "tau", "moneyness"), "tau", "moneyness"))
        return log_vol - np.log(start), weights_of(ds), int(ds["step"].values.reshape(-1)[0])
    if "date" not in array.dims:
        raise InputError("components are of scenarios or of a history with all its dates; here is a single surface")
    log_vol = np.log(finite(one(array, "date", "tau", "moneyness")))
    n = len(log_vol) - ahead
    if n < 2:
        raise InputError(f"the history holds {len(log_vol)} dates; moves over {ahead} day(s) need at least {ahead + 2}")
    return log_vol[ahead:] - log_vol[:-ahead], np.full(n, 1 / n), ahead

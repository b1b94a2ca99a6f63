"""What a model with attention looks back at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from volscen._pictures._style import SEQUENTIAL, axes_for, colourbar, percent, whole_numbers
from volscen.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["attention_map"]

_DIMS = ("date", "head", "lag")
_SUMS_TO_ONE = 1e-4


def attention_map(
    weights: xr.DataArray,
    *,
    head: int | None = None,
    ax: Axes | None = None,
    add_colorbar: bool = True,
    **style: Any,
) -> Axes:
    """Map the attention that a model pays to past days.

    Parameters
    ----------
    weights : xarray.DataArray
        Over date, head and lag, such as ``model.attention(history)`` of a model that has it; summing to 1 over lag.
    head : int, optional
        Position of the head to show over dates, counted from 0; the mean of all when omitted. Of a single date the
        heads stand side by side.
    ax : matplotlib.axes.Axes, optional
        To draw on.
    add_colorbar : bool
    **style
        Passed to ``Axes.pcolormesh``.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InputError
        If the dimensions are others, a weight is negative or missing, or rows do not sum to 1.
    MissingExtraError
        Without matplotlib (extra ``plot``).

    Examples
    --------
    >>> import numpy as np, volscen, xarray as xr
    >>> days = np.array(["2024-01-02", "2024-01-03"], "datetime64[ns]")
    >>> weights = xr.DataArray(np.full((2, 3, 4), 0.25), dims=("date", "head", "lag"), coords={"date": days})
    >>> volscen.plot.attention_map(weights).get_ylabel()
    'days before'
    """
    values, lag = _checked(weights)
    n_dates, n_heads, _ = values.shape
    if head is not None and (
        isinstance(head, bool) or not isinstance(head, int | np.integer) or not 0 <= head < n_heads
    ):
        raise InputError(f"head must be a whole number from 0 to {n_heads - 1}, not {head!r}")
    ax = axes_for(ax, size=(7.2, 3.8))
    alone = n_dates == 1
    shown = values[0] if alone else values.mean(axis=1) if head is None else values[:, head]
    if alone and head is not None:
        shown = shown[[head]]
    if alone:
        across: Any = np.arange(n_heads) if head is None else np.array([head])
        names = np.atleast_1d(weights["head"].values)[across] if "head" in weights.coords else across
        ax.set_xticks(across, [str(name) for name in names])
    else:
        across = weights["date"].values if "date" in weights.coords else np.arange(n_dates)
    options: dict[str, Any] = {"cmap": SEQUENTIAL, "shading": "nearest"} | style
    image = ax.pcolormesh(across, lag, shown.T, **options)
    ax.set_ylabel("days before")
    whole_numbers(ax.yaxis)
    ax.set_xlabel("head" if alone else "")
    if not alone and "date" in weights.coords:
        _date_ticks(ax.xaxis)
    told = "" if alone else "mean of all heads" if head is None else f"head {head}"
    if alone and "date" in weights.coords:
        told = str(weights["date"].values.reshape(-1)[0].astype("datetime64[D]"))
    ax.set_title(told, fontsize="medium")
    if add_colorbar:
        bar = colourbar(ax, image, "attention", per_cent=False)
        percent(bar.ax.yaxis)
    return ax


def _checked(weights: Any) -> tuple[Any, Any]:
    """Values (date, head, lag) and the lags."""
    if not isinstance(weights, xr.DataArray) or not {"lag"} <= set(weights.dims) <= set(_DIMS):
        held = weights.dims if isinstance(weights, xr.DataArray) else type(weights).__name__
        raise InputError(f"weights must be an xarray.DataArray over date, head and lag, not {held}")
    for dim in _DIMS:
        if dim not in weights.dims:
            weights = weights.drop_vars(dim, errors="ignore").expand_dims(dim)
    weights = weights.transpose(*_DIMS)
    values = weights.values.astype(np.float64)
    if values.size == 0 or not np.all(np.isfinite(values)) or np.any(values < 0):
        raise InputError("weights of attention must be finite and not negative, and there must be some")
    worst = float(np.abs(values.sum(axis=2) - 1).max())
    if worst > _SUMS_TO_ONE:
        raise InputError(f"weights of attention must sum to 1 over lag; a sum is off by {worst:.3g}")
    lag = weights["lag"].values if "lag" in weights.coords else np.arange(1, values.shape[2] + 1)
    return values, lag


def _date_ticks(axis: Any) -> None:
    import matplotlib.dates

    dates: Any = matplotlib.dates
    locator = dates.AutoDateLocator()
    axis.set_major_locator(locator)
    axis.set_major_formatter(dates.ConciseDateFormatter(locator))

"""Where surfaces break the conditions against static arbitrage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import black
from volscen._pictures._select import finite, one, variable, weights_of, where
from volscen._pictures._style import axes_for, colourbar, tenor
from volscen.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["arbitrage", "violations"]

FloatArray = npt.NDArray[np.float64]

_PARTS = ("calendar", "call_spread", "butterfly")

#: Options priced at once, which bounds the memory.
_BLOCK = 1_000_000


def violations(implied_vol: npt.ArrayLike, tau: npt.ArrayLike, moneyness: npt.ArrayLike) -> FloatArray:
    """Terms of :func:`volscen.arbitrage.penalty` by cell: shape (3, ..., tau, moneyness).

    A calendar term stands at the shorter maturity, a call-spread term at the lower strike, a butterfly term at its
    middle strike; their sums over the cells are the three parts of the penalty.

    Examples
    --------
    >>> from volscen._pictures._violations import violations
    >>> violations([[0.2, 0.2, 0.3], [0.2, 0.2, 0.2]], [0.5, 1.0], [0.9, 1.0, 1.1])[0].round(6).tolist()
    [[0.0, 0.0, 0.004537], [0.0, 0.0, 0.0]]
    """
    vol, t, m = (np.asarray(x, dtype=np.float64) for x in (implied_vol, tau, moneyness))
    # Intrinsic and time value apart: in wings where a call rounds to its intrinsic value nothing is left to rounding.
    time_value = np.asarray(black.price(1.0, m, t[:, None], vol, m >= 1), dtype=np.float64)
    slope = np.diff(time_value, axis=-1) / np.diff(m)
    intrinsic = np.diff(np.maximum(1 - m, 0.0)) / np.diff(m)
    intrinsic = np.where(m[1:] <= 1, -1.0, np.where(m[:-1] >= 1, 0.0, intrinsic))
    out = np.zeros((3, *vol.shape))
    fall = time_value[..., :-1, :] - time_value[..., 1:, :]
    out[0, ..., :-1, :] = np.maximum(fall * (t[:-1] / np.diff(t))[:, None], 0.0)
    out[1, ..., :-1] = np.maximum(slope + intrinsic, 0.0)
    out[2, ..., 1:-1] = np.maximum(-np.diff(slope, axis=-1) - np.diff(intrinsic), 0.0)
    return out


def arbitrage(
    ds: xr.Dataset,
    *,
    weighted: bool = True,
    part: Literal["all", "calendar", "call_spread", "butterfly"] = "all",
    ax: Axes | None = None,
    add_colorbar: bool = True,
    **style: Any,
) -> Axes:
    """Map where the static-arbitrage penalty comes from; of scenarios its weighted mean, cell by cell.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios of one date, whose steps are averaged, or a history, whose dates are; or one surface.
    weighted : bool
        By the scenarios' weights, or before them: every scenario alike.
    part : {"all", "calendar", "call_spread", "butterfly"}
        Conditions to show.
    ax : matplotlib.axes.Axes, optional
        To draw on.
    add_colorbar : bool
    **style
        Passed to ``Axes.pcolormesh``; ``vmax=`` makes two maps comparable.

    Returns
    -------
    matplotlib.axes.Axes
        Its title holds the mean penalty, which is the sum over the cells, and beside weights the one before them.

    Raises
    ------
    InputError
        If there are several starting dates or assets, or no surfaces.
    MissingExtraError
        Without matplotlib (extra ``plot``).

    Notes
    -----
    Calendar violations stand at the shorter maturity, those of call spreads at the lower strike, butterflies at the
    middle one (see :func:`volscen.arbitrage.penalty`). Float32 surfaces carry rounding errors of about 1e-7.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=100, seed=1)
    >>> volscen.plot.arbitrage(cube).get_title()
    '2024-10-01, step 1: mean penalty 0'
    """
    if part != "all" and part not in _PARTS:
        raise InputError(f"part must be one of all, {', '.join(_PARTS)}, not {part!r}")
    if not isinstance(weighted, bool):
        raise InputError(f"weighted must be True or False, not {weighted!r}")
    array = variable(ds, "implied_vol", "tau", "moneyness")
    scenarios = "scenario" in array.dims
    before, after = _mean_violations(ds, array, scenarios, None if part == "all" else _PARTS.index(part))
    shown = after if weighted else before
    ax = axes_for(ax)
    rows, m = np.arange(shown.shape[0]), ds["moneyness"].values
    options: dict[str, Any] = {
        "cmap": "Oranges",
        "vmin": 0.0,
        "vmax": float(shown.max()) or 1.0,
        "shading": "nearest",
    } | style
    if "norm" in style:
        del options["vmin"], options["vmax"]
    image = ax.pcolormesh(m, rows, shown, **options)
    ax.set_yticks(rows, [tenor(t) for t in ds["tau"].values])
    ax.set_xlabel("moneyness K/F")
    ax.set_ylabel("time to expiry")
    if add_colorbar:
        colourbar(ax, image, "mean penalty of a cell", per_cent=False)
    told = f"mean penalty {shown.sum():.3g}"
    if scenarios and weighted and before.sum() > 0:
        told = f"weighted {told} (before weights {before.sum():.3g})"
    elif scenarios and not weighted:
        told += " before weights"
    what = "" if part == "all" else part.replace("_", " ")
    place = ", ".join(text for text in (where(ds), what) if text)
    ax.set_title(f"{place}: {told}" if place else told, fontsize="medium")
    return ax


def _mean_violations(
    ds: xr.Dataset, array: xr.DataArray, scenarios: bool, row: int | None
) -> tuple[FloatArray, FloatArray]:
    """Mean terms by cell, each surface alike and by weight."""
    lead = ("scenario", "step") if scenarios else ("date",)
    for name in lead:
        if name not in array.dims:
            array = array.expand_dims(name)
    surfaces = finite(one(array, *lead, "tau", "moneyness"))
    tau, moneyness = (ds[name].values.astype(np.float64) for name in ("tau", "moneyness"))
    n = len(surfaces)
    surfaces = surfaces.reshape(n, -1, *surfaces.shape[-2:])
    weight = weights_of(ds) if scenarios else np.full(n, 1 / n)
    sums = np.zeros((2, *surfaces.shape[-2:]))
    block = max(1, _BLOCK // surfaces[0].size)
    for start in range(0, n, block):
        terms = violations(surfaces[start : start + block], tau, moneyness)
        cells = (terms.sum(axis=0) if row is None else terms[row]).mean(axis=1)
        sums[0] += cells.sum(axis=0) / n
        sums[1] += np.tensordot(weight[start : start + block], cells, axes=1)
    return sums[0], sums[1]

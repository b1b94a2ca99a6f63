"""A hedge as a picture: its ratios, and what it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from volscen._pictures._style import BLUE, GREY, ORANGE, axes_for
from volscen.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["hedge_ratios"]


def hedge_ratios(result: xr.Dataset, *, kind: str = "ratios", ax: Axes | None = None, **style: Any) -> Axes:
    """Draw the ratios of a hedge, or the histogram of its tracking error.

    Parameters
    ----------
    result : xarray.Dataset
        As :func:`volscen.hedge` returns it.
    kind : {"ratios", "residuals"}
        Bars of ``ratio``, with the present holding as a mark where there is one; or the weighted histogram of
        ``tracking_error`` with its value at risk and expected shortfall at 5%.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure by default.
    **style
        Passed to ``Axes.barh`` or ``Axes.hist``.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed (extra ``plot``).
    InputError
        If ``result`` is not a hedge, or ``kind`` is unknown.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=1000, seed=1)
    >>> straddle = volscen.Portfolio.straddle(moneyness=1.0, tau=91 / 365)
    >>> result = volscen.hedge(cube, straddle, [volscen.Underlying()])
    >>> volscen.plot.hedge_ratios(result, kind="residuals").get_xlabel()
    'tracking error, currency'
    """
    if not isinstance(result, xr.Dataset) or not {"ratio", "tracking_error", "weight"} <= set(result.data_vars):
        raise InputError("result must be a dataset that volscen.hedge returned")
    if kind not in ("ratios", "residuals"):
        raise InputError(f"kind must be 'ratios' or 'residuals', not {kind!r}")
    ax = axes_for(ax)
    (_ratios if kind == "ratios" else _residuals)(result, ax, style)
    return ax


def _ratios(result: xr.Dataset, ax: Axes, style: dict[str, Any]) -> None:
    rows = np.arange(result.sizes["instrument"])[::-1]  # the first instrument on top
    ratio = result["ratio"].values
    options: dict[str, Any] = {"color": BLUE, "height": 0.6} | style
    ax.barh(rows, ratio, **options)
    if "trade" in result:
        current = ratio - result["trade"].values
        if current.any():
            ax.plot(current, rows, "|", color=ORANGE, markersize=14, markeredgewidth=2, label="held now")
            ax.legend(frameon=False, fontsize="small")
    ax.set_yticks(rows, [str(name) for name in result["instrument"].values])
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.set_xlabel("units held against the portfolio")
    ax.set_title(
        f"{result.attrs.get('method', 'hedge')}, R-squared {float(result['r_squared']):.4f}", fontsize="medium"
    )


def _residuals(result: xr.Dataset, ax: Axes, style: dict[str, Any]) -> None:
    options: dict[str, Any] = {"bins": 60, "density": True, "color": BLUE, "alpha": 0.6} | style
    ax.hist(result["tracking_error"].values, weights=result["weight"].values, **options)
    for name, label, dash in (("residual_var", "VaR 95%", "--"), ("residual_es", "ES 95%", ":")):
        value = -float(result[name].sel(tail=0.05))
        ax.axvline(value, color=ORANGE, linestyle=dash, label=f"{label} {-value:.4g}")
    ax.legend(frameon=False, fontsize="small")
    ax.set_xlabel("tracking error, currency")
    ax.set_ylabel("weighted density")

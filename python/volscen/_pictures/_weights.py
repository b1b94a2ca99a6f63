"""How unequal the weights of scenarios are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from volscen._pictures._select import weights_of, where
from volscen._pictures._style import BLUE, axes_for, percent
from volscen._reweight import effective_sample_size
from volscen.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["weights"]

#: Weights beyond so many times 1/N are shown on a logarithmic axis.
_FAR = 10


def weights(
    ds: xr.Dataset, *, kind: Literal["lorenz", "sorted"] = "lorenz", ax: Axes | None = None, **style: Any
) -> Axes:
    """Draw how the weight is spread over the scenarios, with the effective sample size.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios of one date.
    kind : {"lorenz", "sorted"}
        Share of the weight that the scenarios of least weight carry; or the weights from the greatest to the least, in
        units of an equal weight.
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
        If there are no weights, or several starting dates.
    MissingExtraError
        Without matplotlib (extra ``plot``).

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=100, seed=1)
    >>> volscen.plot.weights(cube).get_ylabel()
    'share of the weight'
    """
    if kind not in ("lorenz", "sorted"):
        raise InputError(f"kind must be 'lorenz' or 'sorted', not {kind!r}")
    if not isinstance(ds, xr.Dataset):
        raise InputError(f"ds must be an xarray.Dataset of volscen, not {type(ds).__name__}")
    w = np.sort(weights_of(ds))
    n, ess = w.size, float(effective_sample_size(w))
    ax = axes_for(ax, size=(5.2, 4.4))
    options: dict[str, Any] = {
        "color": BLUE,
        "linewidth": 1.8,
        "label": f"ESS {ess:,.0f} of {n:,} ({ess / n:.0%})",
    } | style
    if kind == "lorenz":
        share, held = np.arange(n + 1) / n, np.concatenate([[0.0], np.cumsum(w)])
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=(0, (4, 2)), label="equal weights")
        (line,) = ax.plot(share, held, **options)
        ax.fill_between(share, held, share, color=line.get_color(), alpha=0.12, linewidth=0)
        ax.set_xlabel("share of the scenarios, least weight first")
        ax.set_ylabel("share of the weight")
        percent(ax.yaxis)
    else:
        ax.axhline(1, color="0.6", linewidth=0.8, linestyle=(0, (4, 2)), label="equal weights")
        ax.plot((np.arange(n) + 0.5) / n, n * w[::-1], **options)
        ax.set_xlabel("share of the scenarios, greatest weight first")
        ax.set_ylabel("weight over 1/N")
        if n * w[-1] > _FAR:
            ax.set_yscale("log")
        else:
            ax.set_ylim(bottom=0)
    percent(ax.xaxis)
    ax.set_xlim(0, 1)
    ax.set_title(where(ds.drop_vars("step", errors="ignore")), fontsize="medium")
    ax.legend(frameon=False, fontsize="small")
    return ax

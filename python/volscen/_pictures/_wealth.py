"""Wealth of hedging policies over time, with the stretches in which one of them is hedged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from volscen import schema
from volscen._pictures._attention import _date_ticks
from volscen._pictures._select import levels_of
from volscen._pictures._style import COLOURS, axes_for, whole_numbers
from volscen._statistics import quantile
from volscen.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["wealth"]


def wealth(
    result: xr.Dataset,
    *,
    hedged: str | None = None,
    threshold: float = 0.5,
    levels: Any = (0.05, 0.95),
    ax: Axes | None = None,
    **style: Any,
) -> Axes:
    """Draw the wealth of each policy, and shade where one of them is hedged.

    Parameters
    ----------
    result : xarray.Dataset
        What :func:`volscen.agent.simulate` returns, of a history or of scenarios. Of several paths the weighted median
        of wealth is drawn with a band, and nothing is shaded; choose one with ``result.isel(path=[0])``.
    hedged : str, optional
        Policy whose hedged stretches are shaded; when omitted, the one that starts and stops hedging most often.
    threshold : float
        Hedged is who protects more than this share of the underlying held.
    levels : (low, high)
        Weighted quantiles of the band of several paths.
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
        If it is no such result, or there is no such policy.
    MissingExtraError
        Without matplotlib (extra ``plot``).

    Examples
    --------
    >>> import volscen
    >>> from volscen import agent
    >>> history = volscen.datasets.sample_history().isel(date=slice(0, 400))
    >>> market = agent.option_market(history, agent.RiskSignal.fit(history))
    >>> result = agent.simulate(market, {"hold": agent.BuyAndHold(), "hedge": agent.AlwaysHedged()})
    >>> [line.get_label() for line in volscen.plot.wealth(result).lines]
    ['hold', 'hedge']
    """
    needed = ("wealth", "hedge", "weight")
    if not isinstance(result, xr.Dataset) or any(name not in result for name in needed):
        raise InputError(f"result must be what volscen.agent.simulate returns, with {', '.join(needed)}")
    band = levels_of(levels)
    if band.size != 2:
        raise InputError(f"levels must be two probabilities such as (0.05, 0.95), not {levels!r}")
    for name in ("path", "policy"):
        if name not in result.dims:
            raise InputError(f"result has no dimension {name}; choose with a list: result.isel({name}=[0])")
    policies = [str(name) for name in result["policy"].values]
    if hedged is not None and hedged not in policies:
        raise InputError(f"hedged must be one of the policies {', '.join(policies)}, not {hedged!r}")
    single = result.sizes["path"] == 1
    if hedged is not None and not single:
        raise InputError("of several paths nothing can be shaded; choose one: result.isel(path=[0])")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold < 1:
        raise InputError(f"threshold must be a share of at least 0 and below 1, not {threshold!r}")
    values = result["wealth"].transpose("policy", "path", "time").values
    dated = "date" in result.coords
    time = result["date"].values if dated else np.arange(values.shape[2])
    ax = axes_for(ax, size=(7.6, 4.2))
    from matplotlib.colors import to_rgba  # once it is known to be there

    weight = None if single else schema.check_weights(result["weight"].values, values.shape[1])
    for i, name in enumerate(policies):
        options: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "linewidth": 1.5, "label": name} | style
        if weight is None:
            ax.plot(time, values[i, 0], **options)
            continue
        low, middle, high = quantile(values[i], weight, [band[0], 0.5, band[1]])
        (line,) = ax.plot(time, middle, **options)
        face, edge = (to_rgba(line.get_color(), alpha) for alpha in (0.12, 0.5))
        ax.fill_between(time, low, high, facecolor=face, edgecolor=edge, linewidth=0.8)
    if single:
        _shade(result, policies, hedged, threshold, time, ax)
    ax.set_ylabel("wealth, from 1 at the start")
    ax.set_xlabel("" if dated else "steps")
    if dated:
        _date_ticks(ax.xaxis)
    else:
        whole_numbers(ax.xaxis)
    if len(time) > 1:
        ax.set_xlim(time[0], time[-1])
    if weight is not None:
        told = f"weighted median and {100 * (band[1] - band[0]):.3g}% band of {weight.size:,} paths"
        ax.set_title(told, fontsize="medium")
        ax.legend(frameon=False, fontsize="small", loc="upper left")
    else:  # above, where no line can run through it
        ax.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
    return ax


def _shade(result: xr.Dataset, policies: list[str], hedged: str | None, threshold: float, time: Any, ax: Any) -> None:
    on = result["hedge"].transpose("policy", "path", "time").values[:, 0] > threshold
    switches = np.count_nonzero(np.diff(on, axis=1), axis=1)
    if hedged is None and not switches.any():
        return
    chosen = int(np.argmax(switches)) if hedged is None else policies.index(hedged)
    # A decision holds until the next close: steps, not ramps between closes.
    ax.fill_between(
        time, 0, 1, where=on[chosen], step="post", transform=ax.get_xaxis_transform(), color="0.88", linewidth=0,
        zorder=0, label=f"{policies[chosen]} hedged",
    )  # fmt: skip

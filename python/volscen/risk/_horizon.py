"""Risk over several days: from paths, beside the square-root-of-time rule."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._elapsed import step_labels
from volscen.errors import InputError
from volscen.risk._measures import LEVELS, check, expected_shortfall, value_at_risk

__all__ = ["horizon"]


def horizon(
    profit: xr.Dataset | npt.ArrayLike, weight: npt.ArrayLike | None = None, *, alpha: npt.ArrayLike = LEVELS
) -> xr.Dataset:
    """Value at risk and expected shortfall at every step of the paths, and scaled up from the first step.

    Parameters
    ----------
    profit : xarray.Dataset, or array_like of shape (n, steps)
        The result of :func:`volscen.portfolio.pnl` on scenarios of several steps, or the profit and loss since the
        start on each path, after 1, 2, ... days.
    weight : array_like, shape (n,), optional
        Of the paths, with an array; equal when omitted. A dataset has its own.
    alpha : float or array_like
        Tail probabilities in (0, 1].

    Returns
    -------
    xarray.Dataset
        Over ``tail`` and ``step``: ``value_at_risk`` and ``expected_shortfall`` of the paths, ``value_at_risk_sqrt``
        and ``expected_shortfall_sqrt``: those of the first step times sqrt(days / days of the first step).

    Raises
    ------
    InputError
        If the profit is no such thing, or a number is out of range.

    Notes
    -----
    The rule holds for a position of constant delta in an index without drift whose returns are independent with finite
    variance. Options, mean-reverting volatility and decay in time all break it; the paths know them.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=1000, horizon=10, seed=1)
    >>> short = volscen.Portfolio.straddle(moneyness=1, tau=0.25, quantity=-1)
    >>> found = volscen.risk.horizon(volscen.portfolio.pnl(cube, short, lines=False), alpha=0.01)
    >>> found.value_at_risk.dims, bool(found.value_at_risk[0, 0] == found.value_at_risk_sqrt[0, 0])
    (('tail', 'step'), True)
    """
    if isinstance(profit, xr.Dataset):
        if "total" not in profit or set(profit["total"].dims) != {"scenario", "step"}:
            raise InputError("profit must be what volscen.portfolio.pnl returns")
        if weight is not None:
            raise InputError("weight comes with the dataset; leave it out")
        values = profit["total"].transpose("scenario", "step").values
        weight, labels = profit["weight"].values, step_labels(profit)
    else:
        values = np.asarray(profit)
        labels = list(range(1, values.shape[1] + 1)) if values.ndim == 2 else []
    x, w, levels = check(values, weight, alpha)
    if x.ndim != 2:
        raise InputError(f"profit must have the axes (path, step), not shape {x.shape}")
    days = np.array(labels, dtype=np.float64)
    scale = np.sqrt(days / days[0])
    out = xr.Dataset(coords={"tail": ("tail", levels, {"long_name": "tail probability"}), "step": labels})
    for name, measure in (("value_at_risk", value_at_risk), ("expected_shortfall", expected_shortfall)):
        found = measure(x, w, alpha=levels)
        text = name.replace("_", " ")
        out[name] = (("tail", "step"), found, {"long_name": f"{text} on the paths", "units": "currency"})
        out[f"{name}_sqrt"] = (
            ("tail", "step"),
            found[:, :1] * scale,
            {"long_name": f"{text} of the first step, scaled by the square root of time", "units": "currency"},
        )
    return out

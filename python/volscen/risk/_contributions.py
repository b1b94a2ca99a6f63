"""What each position adds to value at risk and expected shortfall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._elapsed import step_position
from volscen._numbers import positive_number
from volscen._statistics import quantile
from volscen.errors import InputError
from volscen.risk._checks import floats, labels
from volscen.risk._measures import check, expected_shortfall, one_level, tail_weight, tied, value_at_risk

__all__ = ["contributions", "incremental", "line_profits", "marginal", "var_weight"]

FloatArray = npt.NDArray[np.float64]
VarMethod = Literal["kernel", "scenario"]

#: Bandwidths beyond which a scenario's kernel weight (below 1e-8 of the largest) is left out.
_REACH = 6.0

#: Columns of which measures are taken at once by :func:`incremental`.
_COLUMNS = 64


def contributions(
    lines: xr.Dataset | npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    alpha: float = 0.05,
    groups: str | Sequence[str] | None = None,
    step: int | None = None,
    var_method: VarMethod = "kernel",
    bandwidth: float | None = None,
) -> xr.Dataset:
    """Contributions of positions to the value at risk and the expected shortfall of their sum.

    Parameters
    ----------
    lines : xarray.Dataset, or array_like of shape (n, m)
        The result of :func:`volscen.portfolio.pnl`, or the profit and loss of m positions on n scenarios.
    weight : array_like, shape (n,), optional
        Of the scenarios, with an array; equal when omitted. A dataset has its own.
    alpha : float
        Tail probability in (0, 1].
    groups : str or sequence of str, optional
        Label of each position, or the name of a coordinate of the dataset, such as ``"group"`` or ``"tau"``.
    step : int, optional
        Label of the step of a dataset; the last by default.
    var_method : {"kernel", "scenario"}
        How the positions' share in the value at risk is found; see Notes.
    bandwidth : float, optional
        Of the kernel, in currency; by Silverman's rule from the portfolio's outcomes when omitted.

    Returns
    -------
    xarray.Dataset
        ``component_var(line)`` and ``component_es(line)``, which sum to the scalars ``value_at_risk`` and
        ``expected_shortfall``; with groups ``group_var(group)`` and ``group_es(group)``. Losses are positive; a hedge
        contributes negatively.

    Raises
    ------
    InputError
        If ``lines`` are not finite or of the wrong shape, groups do not fit, or a number is out of range.

    Notes
    -----
    Both measures are homogeneous of degree one, so that the derivatives by the size of each position sum to the
    measure (Euler; Tasche 1999). Of expected shortfall it is the position's mean loss over the portfolio's tail, exact
    on discrete scenarios. Of value at risk it is the position's mean loss given that the portfolio loses exactly its
    value at risk, E[-x_i | X = -VaR]: ``"kernel"`` estimates that by a local linear regression of each position on the
    total with a Gaussian kernel (Fan 1992), which reproduces the total, so that components sum to the value at risk
    without rescaling; ``"scenario"`` reads it off the one scenario at the value at risk, which is exact for the
    scenarios given and varies strongly from one set to another.

    Examples
    --------
    >>> import volscen
    >>> profit = [[-8.0, -2.0], [-1.0, -3.0], [2.0, 1.0], [3.0, -1.0]]
    >>> found = volscen.risk.contributions(profit, [0.02, 0.08, 0.5, 0.4], alpha=0.05)
    >>> found.component_es.values.round(6).tolist(), round(float(found.expected_shortfall), 6)
    ([3.8, 2.6], 6.4)
    """
    x, w, names, group = line_profits(lines, weight, groups, step)
    total = x.sum(axis=1)
    out = _derivatives(x, total, w, names, alpha, var_method, bandwidth, "component")
    out["value_at_risk"] = ((), float(value_at_risk(total, w, alpha=alpha)), _text("value at risk of the portfolio"))
    out["expected_shortfall"] = (
        (),
        float(expected_shortfall(total, w, alpha=alpha)),
        _text("expected shortfall of the portfolio"),
    )
    if group is not None:
        kinds, member = np.unique(group, return_inverse=True)
        for measure in ("var", "es"):
            sums = np.bincount(member, weights=out[f"component_{measure}"].values, minlength=kinds.size)
            out[f"group_{measure}"] = ("group", sums, _text(f"sum of component_{measure} over the group"))
        out = out.assign_coords(group=("group", kinds.astype(object)))
    return out


def marginal(
    lines: npt.ArrayLike,
    total: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    alpha: float = 0.05,
    var_method: VarMethod = "kernel",
    bandwidth: float | None = None,
) -> xr.Dataset:
    """Change of a portfolio's value at risk and expected shortfall per unit of something added to it.

    Parameters
    ----------
    lines : array_like, shape (n, m)
        Profit and loss of one unit of each of m candidates, which need not be in the portfolio.
    total : array_like, shape (n,)
        Profit and loss of the portfolio.
    weight, alpha, var_method, bandwidth
        As for :func:`contributions`.

    Returns
    -------
    xarray.Dataset
        ``marginal_var(line)`` and ``marginal_es(line)``: derivatives at nothing added. For a position of the portfolio
        itself, its contribution over its quantity.

    Raises
    ------
    InputError
        As for :func:`contributions`.

    Examples
    --------
    >>> import volscen
    >>> found = volscen.risk.marginal([[1.0], [0.5], [-1.0]], [-10.0, -4.0, 5.0], [0.02, 0.08, 0.9], alpha=0.05)
    >>> round(float(found.marginal_es[0]), 6)  # it gains .7 where the portfolio loses
    -0.7
    """
    x, w, names, _ = line_profits(lines, weight, None, None)
    if np.shape(total) != x.shape[:1]:
        raise InputError(f"total must give one number for each of the {x.shape[0]} scenarios, not {np.shape(total)}")
    book, _, _ = check(total, w, alpha)
    if not np.all(np.isfinite(x)):
        raise InputError("lines hold NaN or infinities")
    return _derivatives(x, book, w, names, alpha, var_method, bandwidth, "marginal")


def incremental(
    lines: xr.Dataset | npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    alpha: float = 0.05,
    groups: str | Sequence[str] | None = None,
    step: int | None = None,
) -> xr.Dataset:
    """What value at risk and expected shortfall would lose if a position, or a group, were closed.

    Parameters
    ----------
    lines, weight, alpha, groups, step
        As for :func:`contributions`.

    Returns
    -------
    xarray.Dataset
        ``incremental_var`` and ``incremental_es`` over ``line``, or over ``group`` where groups are given: the measure
        of the portfolio less that of the portfolio without the position. Unlike contributions they do not sum to the
        whole.

    Raises
    ------
    InputError
        As for :func:`contributions`.

    Examples
    --------
    >>> import volscen
    >>> profit = [[-8.0, -2.0], [-1.0, -3.0], [2.0, 1.0], [3.0, -1.0]]
    >>> found = volscen.risk.incremental(profit, [0.02, 0.08, 0.5, 0.4], alpha=0.05)
    >>> found.incremental_es.values.round(6).tolist()
    [3.4, 2.6]
    """
    x, w, names, group = line_profits(lines, weight, groups, step)
    total = x.sum(axis=1)
    one_level(alpha)
    if group is not None:
        kinds, member = np.unique(group, return_inverse=True)
        x = np.stack([x[:, member == i].sum(axis=1) for i in range(kinds.size)], axis=1)
        names = kinds.astype(object)
    dim = "line" if group is None else "group"
    out = xr.Dataset(coords={dim: (dim, names)})
    whole = [float(measure(total, w, alpha=alpha)) for measure in (value_at_risk, expected_shortfall)]
    blocks = [
        _tail_measures(np.ascontiguousarray((total[:, None] - x[:, i : i + _COLUMNS]).T), w, alpha)
        for i in range(0, x.shape[1], _COLUMNS)
    ]
    without = np.concatenate(blocks, axis=1)
    for name, before, after in zip(("incremental_var", "incremental_es"), whole, without, strict=True):
        out[name] = (dim, before - after, _text("risk of the portfolio less its risk without the position"))
    return out


def line_profits(
    lines: xr.Dataset | npt.ArrayLike,
    weight: npt.ArrayLike | None,
    groups: str | Sequence[str] | None,
    step: int | None,
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.object_], npt.NDArray[np.str_] | None]:
    """Profit by scenario and line, weights, labels of the lines, and their groups."""
    if isinstance(lines, xr.Dataset):
        if "pnl" not in lines or "line" not in lines["pnl"].dims:
            raise InputError("lines must be what volscen.portfolio.pnl returns, with lines=True")
        if weight is not None:
            raise InputError("weight comes with the dataset; leave it out")
        names = lines["line"].values.astype(object)
        if isinstance(groups, str):
            if groups not in lines.coords or lines[groups].dims != ("line",):
                raise InputError(f"groups names no coordinate of the lines: {groups!r}")
            groups = [str(value) for value in lines[groups].values]
        x = lines["pnl"].transpose("scenario", "step", "line").values[:, step_position(lines, step)]
        weight = lines["weight"].values
    else:
        if step is not None:
            raise InputError("step is for datasets; pass the profits of one step")
        x = floats("lines", lines)
        if x.ndim != 2 or 0 in x.shape:
            raise InputError(f"lines must have the axes (scenario, position), not shape {x.shape}")
        names = np.arange(x.shape[1]).astype(object)
    # A sum over lines is finite only if every line is, so that the matrix need not be searched: see check().
    _, w, _ = check(np.zeros(x.shape[0]), weight, 0.05)
    if groups is None:
        return x, w, names, None
    return x, w, names, labels("groups", groups, x.shape[1])


def var_weight(
    total: FloatArray, w: FloatArray, alpha: float, method: str, bandwidth: float | None
) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Rows and weights of them that average positions at the value at risk; sums: 1, and of w x total: -VaR."""
    if method not in ("kernel", "scenario"):
        raise InputError(f"var_method must be 'kernel' or 'scenario', not {method!r}")
    width = _silverman(total, w) if bandwidth is None else positive_number("bandwidth", bandwidth)
    edge = quantile(total, w, [alpha])[0]
    if method == "scenario":
        rows = np.flatnonzero(tied(total, edge) & (w > 0))
        return rows, w[rows] / w[rows].sum()
    u = (total - edge) / width
    rows = np.flatnonzero((np.abs(u) <= _REACH) & (w > 0))
    u = u[rows]
    kernel = w[rows] * np.exp(-u * u / 2)
    zeroth, first, second = kernel.sum(), kernel @ u, kernel @ (u * u)
    determinant = zeroth * second - first * first
    if determinant <= 1e-12 * zeroth * zeroth:  # nothing else within reach: the scenarios at the value at risk alone
        return rows, kernel / zeroth
    return rows, kernel * (second - first * u) / determinant


def _derivatives(
    x: FloatArray,
    total: FloatArray,
    w: FloatArray,
    names: npt.NDArray[np.object_],
    alpha: float,
    var_method: str,
    bandwidth: float | None,
    kind: str,
) -> xr.Dataset:
    worst = tail_weight(total, w, alpha=alpha)
    tail = np.flatnonzero(worst)
    rows, at_var = var_weight(total, w, one_level(alpha), var_method, bandwidth)
    return xr.Dataset(
        {
            f"{kind}_var": ("line", -(at_var @ x[rows]), _text(f"{kind} value at risk, losses positive")),
            f"{kind}_es": ("line", -(worst[tail] @ x[tail]), _text(f"{kind} expected shortfall, losses positive")),
        },
        coords={"line": ("line", names)},
        attrs={"alpha": float(alpha), "var_method": var_method},
    )


def _tail_measures(rows: FloatArray, w: FloatArray, alpha: float) -> FloatArray:
    """Value at risk and expected shortfall of each row (m, n), shape (2, m), sorting no more than the tail."""
    # However the weights fall, so many of the lowest values hold a weight of alpha.
    k = min(int(np.searchsorted(np.cumsum(np.sort(w)), alpha)) + 1, w.size)
    lowest = np.argpartition(rows, k - 1, axis=1)[:, :k]
    values = np.take_along_axis(rows, lowest, axis=1)
    order = np.argsort(values, axis=1)
    values, mass = np.take_along_axis(values, order, axis=1), w[np.take_along_axis(lowest, order, axis=1)]
    to = np.cumsum(mass, axis=1)
    edge = np.minimum(((to < alpha - 1e-12) | (to <= 0)).sum(axis=1), k - 1)
    shortfall = -(np.clip(alpha - (to - mass), 0, mass) * values).sum(axis=1) / alpha
    return np.stack([-np.take_along_axis(values, edge[:, None], axis=1)[:, 0], shortfall])


def _silverman(total: FloatArray, w: FloatArray) -> float:
    """0.9 min(sd, IQR/1.349) n^(-1/5), n the effective number of scenarios; Silverman (1986), eq. 3.31."""
    spread = np.sqrt(w @ np.square(total - w @ total))
    low, high = quantile(total, w, [0.25, 0.75])
    if high - low > 1e-9 * spread:  # not merely by rounding
        spread = min(spread, (high - low) / 1.349)
    width = 0.9 * spread * float(w @ w) ** 0.2
    largest = float(np.abs(total).max())
    return float(width) if width > 1e-12 * largest else max(largest, 1.0)  # all outcomes are one, up to rounding


def _text(long_name: str) -> dict[str, str]:
    return {"long_name": long_name, "units": "currency"}

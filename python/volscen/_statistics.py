"""Weighted statistics over scenarios; weights enter every one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.errors import InputError
from volscen.schema import check_weights

__all__ = ["quantile", "weighted_mean", "weighted_quantile"]

FloatArray = npt.NDArray[np.float64]


def quantile(values: npt.ArrayLike, weight: npt.ArrayLike, q: npt.ArrayLike) -> FloatArray:
    """Smallest order statistic whose cumulative weight is at least q.

    Parameters
    ----------
    values : array_like, shape (n, ...)
        Scenarios on the first axis.
    weight : array_like, shape (n,)
        Non-negative, summing to 1.
    q : array_like, shape (Q,)
        In [0, 1].

    Returns
    -------
    ndarray, shape (Q, ...)

    Examples
    --------
    >>> from volscen._statistics import quantile
    >>> quantile([3.0, 1.0, 2.0], [0.2, 0.5, 0.3], [0.5, 0.6])
    array([1., 2.])
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim == 0:
        raise InputError("values must have scenarios on the first axis, not be a single number")
    w = check_weights(weight, x.shape[0])
    if w.ndim != 1:
        raise InputError(f"weight must have one number a scenario, not shape {w.shape}")
    try:
        levels = np.atleast_1d(np.asarray(q, dtype=np.float64))
    except (TypeError, ValueError):
        raise InputError(f"q must be numbers in [0, 1], not {q!r}") from None
    if levels.ndim > 1:
        raise InputError(f"q must be one-dimensional, not of shape {levels.shape}")
    if np.any(~(levels >= 0)) or np.any(levels > 1):
        raise InputError("q must lie in [0, 1]")
    if np.any(np.isnan(x)):
        raise InputError("values hold NaN; a quantile of them is not defined")
    order = np.argsort(x, axis=0, kind="stable")
    ordered = np.take_along_axis(x, order, axis=0)
    cumulative = np.cumsum(w[order], axis=0)
    # Sums of weights carry rounding errors: reaching q within 1e-12 counts as reaching it. The quantile at
    # q = 0 is the smallest value that has any weight.
    out = np.empty((levels.size, *x.shape[1:]))
    for i, level in enumerate(levels):
        reached = (cumulative < level - 1e-12) | (cumulative <= 0)
        index = np.minimum(reached.sum(axis=0), x.shape[0] - 1)
        out[i] = np.take_along_axis(ordered, index[None], axis=0)[0]
    return out


def _variable(ds: xr.Dataset, name: str) -> xr.DataArray:
    if name not in ds or "scenario" not in ds[name].dims:
        found = sorted(str(v) for v in ds.data_vars if "scenario" in ds[v].dims and v != "weight")
        raise InputError(f"name must be a variable over scenarios ({', '.join(found)}), not {name!r}")
    return ds[name]


def _weight_of(ds: xr.Dataset) -> xr.DataArray:
    if not isinstance(ds, xr.Dataset) or "weight" not in ds:
        raise InputError("ds has no variable weight; pass a scenario dataset as made by volscen.generate")
    weight = ds["weight"]
    check_weights(weight.transpose(..., "scenario").values, ds.sizes["scenario"])
    return weight


def weighted_mean(ds: xr.Dataset, name: str) -> xr.DataArray:
    """Mean of a variable over scenarios, by the dataset's weights.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios.
    name : str
        Variable with a ``scenario`` dimension.

    Returns
    -------
    xarray.DataArray
        Without the ``scenario`` dimension.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=1000, seed=1)
    >>> volscen.weighted_mean(cube, "implied_vol").dims
    ('step', 'tau', 'moneyness')
    """
    weight = _weight_of(ds)
    mean = (_variable(ds, name).astype(np.float64) * weight).sum("scenario", skipna=False).rename(name)
    if not np.all(np.isfinite(mean.values)):
        raise InputError(f"{name} holds NaN or infinite values; a mean of them is not defined")
    return mean


def weighted_quantile(ds: xr.Dataset, name: str, q: npt.ArrayLike) -> xr.DataArray:
    """Quantiles of a variable over scenarios: the smallest value whose cumulative weight reaches q.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios.
    name : str
        Variable with a ``scenario`` dimension.
    q : array_like
        Levels in [0, 1].

    Returns
    -------
    xarray.DataArray
        With a leading dimension ``quantile``.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=1000, seed=1)
    >>> volscen.weighted_quantile(cube, "log_return", [0.05, 0.5]).dims
    ('quantile', 'step')
    """
    weight, variable = _weight_of(ds), _variable(ds, name)
    levels = np.atleast_1d(q)
    if "as_of" not in weight.dims:
        return _quantile_of_date(variable, weight, levels)
    rows = [
        _quantile_of_date(variable[{"as_of": i}], weight[{"as_of": i}], levels) for i in range(weight.sizes["as_of"])
    ]
    return xr.concat(rows, dim=weight["as_of"]).transpose("quantile", "as_of", ...)


def _quantile_of_date(variable: xr.DataArray, weight: xr.DataArray, levels: npt.NDArray[Any]) -> xr.DataArray:
    variable = variable.transpose("scenario", ...)
    result = quantile(variable.values, weight.values, levels)
    reduced = variable.isel(scenario=0, drop=True)
    return xr.DataArray(
        result,
        dims=("quantile", *reduced.dims),
        coords={**reduced.coords, "quantile": levels.astype(np.float64)},
        name=variable.name,
    )

"""What a picture is drawn from: one variable of a dataset, with nothing left to choose, by the scenarios' weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._statistics import quantile
from volscen.errors import InputError

__all__ = ["levels_of", "one", "over_scenarios", "variable", "weights_of", "where"]

FloatArray = npt.NDArray[np.float64]

_WORDS = {"as_of": "starting dates", "date": "dates", "step": "steps", "asset": "assets", "scenario": "scenarios"}


def variable(ds: Any, name: str, *needed: str) -> xr.DataArray:
    """A numeric variable of a dataset that has the dimensions needed."""
    if not isinstance(ds, xr.Dataset):
        raise InputError(f"ds must be an xarray.Dataset of volscen, not {type(ds).__name__}")
    if name not in ds.data_vars:
        held = ", ".join(sorted(str(v) for v in ds.data_vars if set(needed) <= set(ds[v].dims))) or "none"
        over = f" over {', '.join(needed)}" if needed else ""
        raise InputError(f"the dataset has no variable {name!r}; variables{over} that it has: {held}")
    array = ds[name]
    missing = [dim for dim in needed if dim not in array.dims]
    if missing:
        raise InputError(f"{name} has no dimension {', '.join(missing)}, which the picture goes along: {array.dims}")
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} must hold numbers, not {array.dtype}")
    return array


def one(array: xr.DataArray, *kept: str) -> xr.DataArray:
    """The array over ``kept`` alone; what else has a single entry is dropped, what has more must be chosen."""
    for name in array.dims:
        if name in kept:
            continue
        n = array.sizes[name]
        if n != 1:
            raise InputError(
                f"ds holds {n} {_WORDS.get(str(name), f'entries of {name}')} and the picture is of one; choose it: "
                f"{_choice(array, str(name))}"
            )
        array = array.isel({name: 0})
    return array.transpose(*(dim for dim in kept if dim in array.dims))


def _choice(array: xr.DataArray, name: str) -> str:
    by_position = f"ds.isel({name}=-1)"
    if name not in array.coords:
        return by_position
    last, kind = array[name].values[-1], array[name].dtype.kind
    shown = repr(str(last.astype("datetime64[D]"))) if kind == "M" else str(last) if kind in "iuf" else repr(str(last))
    return f"ds.sel({name}={shown}) or {by_position}"


def weights_of(ds: xr.Dataset) -> FloatArray:
    """Weights of the scenarios of one date, checked."""
    if "weight" not in ds or "scenario" not in ds["weight"].dims:
        raise InputError("the dataset has no weight over scenarios; pass one made by volscen.generate")
    return schema.check_weights(one(ds["weight"], "scenario").values)


def finite(array: xr.DataArray) -> FloatArray:
    """Values as float64, none of them missing."""
    values = array.values.astype(np.float64)
    if not np.all(np.isfinite(values)):
        remedy = "; volscen.repair fills holes of surfaces" if str(array.name).startswith("implied_vol") else ""
        raise InputError(f"{array.name} holds NaN or infinite values{remedy}")
    return values


def over_scenarios(ds: xr.Dataset, array: xr.DataArray, kept: tuple[str, ...], q: Any = None) -> FloatArray:
    """Weighted mean (``q`` None), or quantiles with an axis in front, over scenarios; as it is where there are none."""
    if "scenario" not in array.dims:
        values = finite(one(array, *kept))
        return values if q is None else np.broadcast_to(values, (len(np.atleast_1d(q)), *values.shape))
    w = weights_of(ds)
    values = finite(one(array, "scenario", *kept))
    return np.tensordot(w, values, axes=1) if q is None else quantile(values, w, q)


def levels_of(levels: Any, name: str = "levels") -> FloatArray:
    """Probabilities strictly between 0 and 1, in order, such as (0.05, 0.5, 0.95)."""
    try:
        found = np.asarray(levels, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.ndim != 1 or not found.size or not np.all((found > 0) & (found < 1)) or np.any(np.diff(found) <= 0):
        raise InputError(
            f"{name} must be increasing probabilities between 0 and 1, such as (0.05, 0.95), not {levels!r}"
        )
    return found


def where(ds: xr.Dataset) -> str:
    """What was chosen of a dataset, for a title: asset, date, step."""
    parts = []
    for name in ("asset", "date", "as_of", "step"):
        if name in ds.coords and ds[name].size == 1 and ds[name].dtype.kind in "MiUOT":
            value = ds[name].values.reshape(-1)[0]
            if isinstance(value, np.datetime64):
                parts.append(str(np.datetime_as_string(value, unit="D")))
            else:
                parts.append(f"step {value}" if name == "step" else str(value))
    return ", ".join(parts)

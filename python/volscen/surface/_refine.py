"""A dataset of surfaces on a denser grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError
from volscen.surface._interpolate import interpolate_vol
from volscen.surface._surfaces import GRID, map_surfaces, surfaces_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["refine_grid"]

FloatArray = npt.NDArray[np.float64]

#: Variables over tau alone, which are log-linear between maturities.
_CARRY = ("forward", "discount_factor", "forward0", "discount_factor0")
_VOLS = ("implied_vol", "implied_vol0")


def refine_grid(ds: xr.Dataset, parts: int) -> xr.Dataset:
    """Dataset on a grid whose intervals of tau and of log-moneyness are divided into equal parts.

    Volatilities by :func:`volscen.surface.interpolate_vol`, forwards and discount factors log-linearly; a new cell's
    ``quality`` is the worst of its neighbours', and never observed.

    Raises
    ------
    InputError
        If another variable lies on the grid.
    """
    tau, moneyness = (np.asarray(ds[name].values, dtype=np.float64) for name in GRID)
    new_tau, new_moneyness = divide(tau, parts), np.exp(divide(np.log(moneyness), parts))
    new_moneyness[::parts] = moneyness
    fixed = ds.drop_vars([name for name in ds.variables if set(ds[name].dims) & set(GRID)])
    out: dict[str, xr.DataArray] = {}
    for name, variable in ds.data_vars.items():
        if not set(variable.dims) & set(GRID):
            continue
        if name in _VOLS:
            refined = _finer_vol(variable, tau, moneyness, new_tau, new_moneyness)
        elif name in _CARRY and "moneyness" not in variable.dims:
            refined = variable.copy(data=np.log(variable.astype(np.float64).data)).interp(tau=new_tau)
            refined = refined.copy(data=np.exp(refined.data))
        elif name == "quality":
            refined = _finer_quality(variable, parts)
        else:
            raise InputError(
                f"refine does not know how to carry {name} to a denser grid; drop it: ds.drop_vars({name!r})"
            )
        out[str(name)] = refined.transpose(*variable.dims).drop_vars(GRID, errors="ignore").assign_attrs(variable.attrs)
    fine = fixed.assign(out).assign_coords(tau=new_tau, moneyness=new_moneyness)
    for name in GRID:
        fine[name].attrs = dict(ds[name].attrs)
    return fine[list(ds.data_vars)].assign_attrs(ds.attrs)


def divide(points: FloatArray, parts: int) -> FloatArray:
    """Points with each interval divided into equal parts; the old ones are kept exactly."""
    share = np.arange(parts) / parts
    between = points[:-1, None] + np.diff(points)[:, None] * share
    return np.append(between.ravel(), points[-1])


def _finer_vol(
    variable: xr.DataArray, tau: FloatArray, moneyness: FloatArray, new_tau: FloatArray, new_moneyness: FloatArray
) -> xr.DataArray:
    surfaces = surfaces_of(variable, str(variable.name))
    at_tau, at_moneyness = np.repeat(new_tau, new_moneyness.size), np.tile(new_moneyness, new_tau.size)
    dtype = np.dtype(np.float32 if surfaces.dtype == np.float32 else np.float64)

    def finer(vol: npt.NDArray[Any]) -> tuple[npt.NDArray[Any]]:
        found = interpolate_vol(vol, tau, moneyness, at_tau, at_moneyness).astype(dtype)
        return (found.reshape(len(vol), new_tau.size, new_moneyness.size),)

    sizes = {"tau_fine": new_tau.size, "moneyness_fine": new_moneyness.size}
    (refined,) = map_surfaces(finer, surfaces, [tuple(sizes)], [dtype], sizes)
    return refined.rename(tau_fine="tau", moneyness_fine="moneyness")


def _finer_quality(variable: xr.DataArray, parts: int) -> xr.DataArray:
    import xarray as xr

    quality = variable.transpose(..., *GRID)
    values = quality.values
    for axis in (-2, -1):
        n = values.shape[axis]
        position = np.arange((n - 1) * parts + 1)
        low, high = np.take(values, position // parts, axis), np.take(values, -(-position // parts), axis)
        new = np.where(position % parts > 0, 1, 0).astype(values.dtype)
        values = np.maximum(np.maximum(low, high), new[:, None] if axis == -2 else new)
    return xr.DataArray(values, dims=quality.dims, name=quality.name)

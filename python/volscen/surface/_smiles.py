"""Surfaces by delta or scaled log-moneyness brought back to strikes K/F that are the same at every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError
from volscen.schema import SMILE_DIMS, check_grid
from volscen.surface._points import EXTRAPOLATED, INTERPOLATED, Columns
from volscen.surface._read_off import smiles_at_strikes

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["smiles_to_product"]


def smiles_to_product(ds: Any, columns: Columns | None, extrapolation: str) -> Any:
    """Surfaces of smiles at the K/F of ``columns`` and their own times; another dataset is returned as it is.

    Raises
    ------
    InputError
        If other strikes are wanted than K/F, or another extrapolation than flat volatility.
    """
    import xarray as xr

    if not isinstance(ds, xr.Dataset) or "implied_vol" not in ds:
        return ds
    name = next((dim for dim in SMILE_DIMS if dim in ds["implied_vol"].dims), None)
    if name is None:
        return ds
    if columns is None or not columns.product:
        raise InputError(f"ds is by {name}: regrid it to moneyness= or log_moneyness= first, and from there further")
    if extrapolation != "flat_vol":
        raise InputError(f"ds is by {name}, beyond whose ends volatility is flat; leave extrapolation='flat_vol'")
    if "moneyness" not in ds.coords:
        raise InputError(f"ds is by {name} and lacks the coordinate moneyness(..., tau, {name})")
    check_grid(ds["tau"].values, "ds: tau")
    wanted = np.log(columns.values)
    core = [["tau", name]]
    flags = ds["quality"] if "quality" in ds else xr.full_like(ds["implied_vol"], INTERPOLATED, dtype=np.int8)

    def at_strikes(*arrays: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int8]]:
        return _at_strikes(arrays[0], arrays[1], arrays[2], wanted)

    vol, quality = xr.apply_ufunc(
        at_strikes,
        ds["implied_vol"],
        ds["moneyness"],
        flags,
        input_core_dims=core * 3,
        output_core_dims=[["tau", "_column"]] * 2,
        dask="parallelized",
        output_dtypes=[ds["implied_vol"].dtype, np.int8],
        dask_gufunc_kwargs={"output_sizes": {"_column": wanted.size}},
    )
    rest = ds.drop_vars([v for v in ds.variables if name in ds[v].dims])
    left_out = [str(v) for v in ds.data_vars if name in ds[v].dims and v not in ("implied_vol", "quality")]
    out = rest.assign(
        implied_vol=vol.rename(_column="moneyness").assign_attrs(ds["implied_vol"].attrs),
        quality=quality.rename(_column="moneyness"),
    ).assign_coords(moneyness=columns.values)
    out.attrs["regridded_from"] = f"{ds.sizes['tau']} tau x {ds.sizes[name]} {name}"
    if left_out:
        out.attrs["regrid_left_out"] = ", ".join(left_out)
    out.attrs["schema"] = _schema_of(ds)
    return out


def _at_strikes(
    vol: npt.NDArray[Any], moneyness: npt.NDArray[Any], flags: npt.NDArray[Any], wanted: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int8]]:
    shape = np.broadcast_shapes(vol.shape, moneyness.shape, flags.shape)
    n = shape[-1]
    v, m, f = (np.broadcast_to(x, shape).reshape(-1, n) for x in (vol, moneyness, flags))
    if not (np.all(m > 0) and np.all(np.isfinite(m)) and np.all(np.diff(m, axis=1) > 0)):
        raise InputError("ds: moneyness must be positive, finite and strictly increasing within each smile")
    if not (np.all(v > 0) and np.all(np.isfinite(v))):
        raise InputError("ds: implied_vol must hold positive finite numbers; drop or repair those surfaces")
    k = np.log(m.astype(np.float64))
    out, outside = smiles_at_strikes(v.astype(np.float64), k, wanted)
    # A point between two has the flag of an interpolated one unless one of them is extrapolated.
    level, _ = smiles_at_strikes((f == EXTRAPOLATED).astype(np.float64), k, wanted)
    near = np.abs(k[:, None, :] - wanted[None, :, None])
    on_point = near.min(axis=-1) <= 1e-9
    own = np.take_along_axis(f, near.argmin(axis=-1), axis=1)
    between = np.where(level > 0, EXTRAPOLATED, INTERPOLATED)
    quality = np.where(outside, EXTRAPOLATED, np.where(on_point, own, between))
    lead = (*shape[:-1], wanted.size)
    return out.astype(vol.dtype, copy=False).reshape(lead), quality.astype(np.int8).reshape(lead)


def _schema_of(ds: xr.Dataset) -> str:
    """Schema of the dataset that smiles become on a grid of K/F."""
    from volscen.schema import HISTORY, SCENARIOS, SURFACE

    return SCENARIOS if "scenario" in ds.dims else HISTORY if "date" in ds.dims else SURFACE

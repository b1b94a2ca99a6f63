"""Surfaces of a dataset moved to another grid."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from volscen import arbitrage
from volscen._array import extrapolation_code, thread_count
from volscen._version import __version__
from volscen.errors import InputError
from volscen.schema import SMILES, annotate
from volscen.surface._carry import carry_at
from volscen.surface._flags import carry_flags
from volscen.surface._points import EXTRAPOLATED, Columns, read_columns, read_grid
from volscen.surface._read_off import check_found, product_reader, smile_reader
from volscen.surface._smiles import smiles_to_product
from volscen.surface._surfaces import GRID, map_surfaces, surfaces_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["regrid"]

FloatArray = npt.NDArray[np.float64]

_OLD = {"tau": "_old_tau", "moneyness": "_old_moneyness"}


def regrid(
    ds: xr.Dataset,
    tau: npt.ArrayLike | None = None,
    moneyness: npt.ArrayLike | None = None,
    *,
    log_moneyness: npt.ArrayLike | None = None,
    delta: npt.ArrayLike | None = None,
    normalised_moneyness: npt.ArrayLike | None = None,
    standardised_moneyness: npt.ArrayLike | None = None,
    extrapolation: str = "flat_vol",
    several: Literal["raise", "nearest"] = "raise",
    num_threads: int | None = None,
) -> xr.Dataset:
    """Read the surfaces of a surface, a history or a scenario cube off on another grid.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``implied_vol(..., tau, moneyness)``; or by delta or scaled log-moneyness, as this function and
        :func:`volscen.build_surface` make them, which goes to ``moneyness`` or ``log_moneyness`` only.
    tau : array_like, shape (J2,), optional
        Times to expiry in years, increasing, or tenors such as "3M"; those of ``ds`` when omitted.
    moneyness, log_moneyness, delta, normalised_moneyness, standardised_moneyness : array_like, shape (I2,), optional
        New strikes, by one of these, as :func:`volscen.build_surface` takes them; those of ``ds`` when all are omitted.
    extrapolation : {"flat_vol", "flat_total_variance", "linear"}
        What holds outside the grid of ``ds``; see :func:`volscen.surface.interpolate_vol`.
    several : {"raise", "nearest"}
        What to do where a smile with butterfly arbitrage meets a delta at several strikes.
    num_threads : int, optional
        Threads to use, one by default. The result is the same for any number.

    Returns
    -------
    xarray.Dataset
        As ``ds``, of which it follows the schema if every time has the same strikes, else ``volscen/smiles/1``: with
        ``moneyness(..., tau, delta)`` as a coordinate. On the grid:

        - ``implied_vol`` and ``implied_vol0``, in their own floating-point type; lazy variables stay lazy;
        - ``quality``: a point on a grid point of ``ds`` has its flag; others are interpolated, or extrapolated where
          they lie outside or next to an extrapolated point. Made if ``ds`` has none: 1 within its grid, 2 outside;
        - ``forward`` and ``discount_factor``: log-linear in tau from the spot and 1 at no time left, as in
          :func:`volscen.build_surface`;
        - ``arbitrage_penalty``, where there was one, on the new grid; by delta or scaled log-moneyness it stays that
          of ``ds``, which its ``long_name`` says;
        - ``extrapolated_share``, where there was one.

        Variables without tau and moneyness stay as they are (a cube's weights too); others that have them are left
        out, and on another grid what is said of a projection, which held on the old one alone. Attributes:
        ``regridded_from`` (the grid before), ``regrid_left_out``, and (of surfaces in memory)
        ``regrid_several_strikes``, the number of points that ``several="nearest"`` decided.

    Raises
    ------
    InputError
        If there are no surfaces, a grid is wrong, or a delta is met at no strike or several; the message names the
        surface.

    Notes
    -----
    Volatility between grid points is that of :func:`volscen.surface.interpolate_vol`: total variance linear in tau at
    fixed K/F, volatility linear in log-moneyness. Deltas are undiscounted forward deltas of that smile, solved to
    rounding.

    Examples
    --------
    >>> import volscen
    >>> from volscen.surface import regrid
    >>> history = volscen.datasets.sample_history()
    >>> by_delta = regrid(history, ["1M", "3M"], delta=["10P", "25P", "ATM", "25C", "10C"])
    >>> by_delta.implied_vol.dims, by_delta.moneyness.dims
    (('date', 'tau', 'delta'), ('date', 'tau', 'delta'))
    >>> regrid(history, moneyness=[0.9, 0.95, 1.0, 1.05, 1.1]).sizes["moneyness"]
    5
    """
    given = {
        "moneyness": moneyness,
        "log_moneyness": log_moneyness,
        "delta": delta,
        "normalised_moneyness": normalised_moneyness,
        "standardised_moneyness": standardised_moneyness,
    }
    keep = all(values is None for values in given.values())
    columns = None if keep else read_columns(**given)
    new_tau = None if tau is None else read_grid(tau, "tau")
    extrapolation_code(extrapolation)
    thread_count(num_threads)
    if several not in ("raise", "nearest"):
        raise InputError(f"several must be 'raise' or 'nearest', not {several!r}")
    import xarray as xr

    from volscen._reweight import forget_projection

    if not isinstance(ds, xr.Dataset):
        raise InputError(
            f"ds must be a dataset with implied_vol(..., tau, moneyness), not {type(ds).__name__}; of an array, "
            "array.to_dataset(name='implied_vol')"
        )
    given_ds, ds = ds, smiles_to_product(ds, columns, extrapolation)
    surfaces = surfaces_of(ds, "ds")
    grid = tuple(np.asarray(ds[name].values, dtype=np.float64) for name in GRID)
    if columns is None:
        columns = Columns("moneyness", grid[1])
    if new_tau is None:
        new_tau = grid[0]
    out, flags = _read_surfaces(ds, surfaces, (grid[0], grid[1]), new_tau, columns, extrapolation, several, num_threads)
    out = out.assign_attrs(ds.attrs)
    if ds is given_ds:  # else what became of the smiles says so
        out.attrs["regridded_from"] = f"{grid[0].size} tau x {grid[1].size} moneyness"
    if not (columns.product and np.array_equal(new_tau, grid[0]) and np.array_equal(columns.values, grid[1])):
        ds, out = forget_projection(ds), forget_projection(out)  # was free of arbitrage on the old grid alone
    _carry_over(ds, out, (grid[0], grid[1]), new_tau, columns, flags, num_threads)
    if not columns.product:
        out.attrs["schema"] = SMILES
    stamp = f"{datetime.now(UTC).isoformat(timespec='seconds')} regridded by volscen {__version__}"
    out.attrs["history"] = "; ".join(filter(None, [str(ds.attrs.get("history", "")), stamp]))
    order = [name for name in ds.data_vars if name in out]
    out = annotate(out[[*order, *(name for name in out.data_vars if name not in order)]])
    if "arbitrage_penalty" in out and not columns.product:
        out["arbitrage_penalty"].attrs["long_name"] += f" on the grid before, {out.attrs['regridded_from']}"
    return out


def _read_surfaces(
    ds: xr.Dataset,
    surfaces: xr.DataArray,
    grid: tuple[FloatArray, FloatArray],
    tau: FloatArray,
    columns: Columns,
    extrapolation: str,
    several: str,
    num_threads: int | None,
) -> tuple[xr.Dataset, xr.DataArray]:
    """Volatilities on the new grid, its coordinates, and flags."""
    import xarray as xr

    new = ("_tau", "_column")
    sizes = dict(zip(new, (tau.size, columns.values.size), strict=True))
    names = {"_tau": "tau", "_column": columns.name}
    coordinates = {"tau": tau, **columns.coordinates()}
    variables: dict[str, xr.DataArray] = {}
    ambiguous = 0
    k: Any = np.broadcast_to(np.log(columns.values), (1, tau.size, columns.values.size)) if columns.product else None
    for name in ("implied_vol", "implied_vol0"):
        if name not in ds:
            continue
        source = surfaces if name == "implied_vol" else surfaces_of(ds[name], name)
        if columns.product:
            reader = product_reader(grid, tau, columns.values, extrapolation, num_threads)
            (vol,) = map_surfaces(reader, source, [new], [source.dtype], sizes)
        else:
            reader = smile_reader(grid, tau, columns, extrapolation, num_threads)
            lazy = not isinstance(source.data, np.ndarray)

            def checked(values: npt.NDArray[Any], reader: Any = reader, lazy: bool = lazy) -> tuple[Any, ...]:
                found = reader(values)
                if lazy:
                    check_found(found[2], tau, columns, several, lambda n: f" of surface {n} of a chunk")
                return tuple(found)

            types = [source.dtype, np.dtype(np.float64), np.dtype(np.int8)]
            vol, strikes, count = map_surfaces(checked, source, [new] * 3, types, sizes)
            if not lazy:
                check_found(count.values, tau, columns, several, lambda *at, s=source: _name(s, at))
                ambiguous += int(np.count_nonzero(count.values > 1))
            if name == "implied_vol":
                coordinates["moneyness"] = strikes.rename(names)
                k = np.log(strikes)
        attrs = source.attrs
        variables[name] = vol.rename({old: new for old, new in names.items()}).assign_attrs(attrs)
        if name == "implied_vol0" and not columns.product:
            coordinates["moneyness0"] = strikes.rename(names).assign_attrs(
                long_name="strike over forward, K/F, at the starting state", units="1"
            )
    flags = _flags(ds, grid, tau, k, new).rename(names)
    out = xr.Dataset({**variables, "quality": flags}, attrs={"regrid_several_strikes": ambiguous} if ambiguous else {})
    return out.assign_coords({name: value for name, value in coordinates.items()}), flags


def _name(source: xr.DataArray, at: tuple[int, ...]) -> str:
    """Where a surface stands, by the coordinates of its leading dimensions."""
    parts = []
    for dim, index in zip(source.dims[:-2], at, strict=True):
        label = source[dim].values[index] if dim in source.coords else index
        text = str(np.datetime_as_string(label, unit="D")) if isinstance(label, np.datetime64) else str(label)
        parts.append(f"{dim} {text}")
    return f" of {', '.join(parts)}" if parts else ""


def _flags(
    ds: xr.Dataset, grid: tuple[FloatArray, FloatArray], tau: FloatArray, k: Any, new: tuple[str, str]
) -> xr.DataArray:
    """Flags of the new points; of one surface where they are the same for all."""
    import xarray as xr

    old = tuple(_OLD.values())
    grid_k = np.log(grid[1])
    known = None
    if "quality" in ds:
        known = ds["quality"].transpose(..., *GRID).rename(_OLD).drop_vars(old)
    places = k if isinstance(k, xr.DataArray) else xr.DataArray(k[0], dims=new)

    def on_arrays(at: FloatArray, *flags: npt.NDArray[np.integer]) -> npt.NDArray[np.int8]:
        arrays = (at, *flags)
        lead = np.broadcast_shapes(*(array.shape[:-2] for array in arrays))
        # What is the same for all surfaces stays one.
        flat = [
            np.broadcast_to(a, (*(lead if a.ndim > 2 else ()), *a.shape[-2:])).reshape(-1, *a.shape[-2:])
            for a in arrays
        ]
        found = carry_flags(flat[1] if flags else None, grid[0], grid_k, tau, flat[0])
        return found.reshape(*lead, *found.shape[-2:])

    arguments = [places] if known is None else [places, known]
    found: xr.DataArray = xr.apply_ufunc(
        on_arrays,
        *arguments,
        input_core_dims=[new] if known is None else [new, old],
        output_core_dims=[new],
        dask="parallelized",
        output_dtypes=[np.int8],
    )
    if "date" in ds["implied_vol"].dims and "date" not in found.dims:
        found = found.expand_dims(date=ds["date"]).copy()  # a history flags every date
    return found


def _carry_over(
    ds: xr.Dataset,
    out: xr.Dataset,
    grid: tuple[FloatArray, FloatArray],
    tau: FloatArray,
    columns: Columns,
    flags: xr.DataArray,
    num_threads: int | None,
) -> None:
    """Put everything else of ``ds`` into ``out``, in place."""
    same_tau = np.array_equal(tau, grid[0])
    left_out = []
    for name, coordinate in ds.coords.items():
        if name not in out.coords and not set(coordinate.dims) & set(GRID):
            out.coords[name] = coordinate
    for suffix in ("", "0"):
        names = [f"{base}{suffix}" for base in ("forward", "discount_factor")]
        held = [name for name in names if name in ds and "tau" in ds[name].dims]
        if held and not same_tau:
            _carry_rates(ds, out, names, f"spot{suffix}", grid[0], tau)
    for name, variable in ds.data_vars.items():
        if name in out:
            continue
        if not set(variable.dims) & set(GRID) or (same_tau and "moneyness" not in variable.dims):
            out[name] = variable
        else:
            left_out.append(str(name))
    if left_out:
        out.attrs["regrid_left_out"] = ", ".join(filter(None, [out.attrs.get("regrid_left_out"), *left_out]))
    if "extrapolated_share" in ds:
        share = (flags == EXTRAPOLATED).mean(["tau", columns.name])
        out["extrapolated_share"] = share.broadcast_like(ds["extrapolated_share"]).assign_attrs(
            ds["extrapolated_share"].attrs
        )
    if "arbitrage_penalty" not in ds:
        return
    if columns.product:
        kind = ds["arbitrage_penalty"].dtype
        (penalty,) = map_surfaces(
            # In double precision, in which surfaces without arbitrage have none.
            lambda vol: (arbitrage.penalty(vol.astype(np.float64), tau, columns.values, num_threads=num_threads),),
            out["implied_vol"],
            [()],
            [np.dtype(np.float64)],
        )
        penalty = penalty.astype(kind)
        out["arbitrage_penalty"] = penalty.assign_attrs(ds["arbitrage_penalty"].attrs)
    else:
        out["arbitrage_penalty"] = ds["arbitrage_penalty"].copy(deep=False)  # its name is about to change


def _carry_rates(
    ds: xr.Dataset, out: xr.Dataset, names: list[str], spot: str, grid_tau: FloatArray, tau: FloatArray
) -> None:
    """Forward and discount factor at the new times; only what ``ds`` has."""
    import xarray as xr

    known = [ds[name].transpose(..., "tau") if name in ds else None for name in names]
    like = next(array for array in known if array is not None)
    price = ds.get(spot)
    if known[0] is not None and price is None:
        raise InputError(f"ds holds {names[0]} and no {spot}, which is today's forward; drop the one or add the other")
    forward, discount = (xr.ones_like(like, dtype=np.float64) if array is None else array for array in known)
    for name, array in zip((*names, spot), (*known, price), strict=True):
        if array is not None and not bool(((array > 0) & np.isfinite(array)).all()):
            raise InputError(f"{name} must be positive and finite; mend it, or drop {' and '.join(names)}")
    start = xr.ones_like(like.isel(tau=0), dtype=np.float64) if price is None else price
    start = start.broadcast_like(forward.isel(tau=0, drop=True)).transpose(*forward.dims[:-1])
    values = carry_at(tau, grid_tau, forward.values, discount.values, start.values)
    for name, array, value in zip(names, known, values, strict=True):
        if array is not None:
            out[name] = (array.dims, value, array.attrs)

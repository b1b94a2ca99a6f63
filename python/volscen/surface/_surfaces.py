"""Reading the surfaces of a dataset: a history, a scenario cube, one surface, or a variable of one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from volscen._array import surfaces_array
from volscen.errors import InputError
from volscen.schema import check_grid

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["GRID", "in_blocks", "map_surfaces", "surfaces_of"]

GRID = ("tau", "moneyness")

#: Surfaces worked on at once: enough to amortise calls, few enough that intermediate arrays stay in memory.
_BLOCK = 1024


def surfaces_of(source: Any, what: str) -> xr.DataArray:
    """Surfaces of a dataset (its ``implied_vol``) or a variable, dimensions (..., tau, moneyness), grid checked.

    Raises
    ------
    InputError
        If there are none, or the grid is not positive and increasing.
    """
    import xarray as xr

    if isinstance(source, xr.Dataset):
        if "implied_vol" not in source:
            raise InputError(f"{what} holds no variable implied_vol, only {', '.join(map(str, source.data_vars))}")
        source = source["implied_vol"]
    if not isinstance(source, xr.DataArray):
        raise InputError(
            f"{what} must be a dataset with implied_vol(..., tau, moneyness) or such a variable, "
            f"not {type(source).__name__}"
        )
    if "moneyness" in source.coords and source["moneyness"].ndim > 1:
        raise InputError(
            f"{what} has other strikes at every time ({', '.join(map(str, source.dims))}); bring it to one set of them "
            "first: volscen.surface.regrid(..., moneyness=[...])"
        )
    lacking = [name for name in GRID if name not in source.dims or name not in source.coords]
    if lacking:
        raise InputError(f"{what} lacks the dimension and coordinate {' and '.join(lacking)}; it has {source.dims}")
    for name in GRID:
        try:
            check_grid(source[name].values, name)
        except (TypeError, ValueError) as error:
            raise InputError(f"{what}: {error}") from None
    if source.size == 0:
        raise InputError(f"{what} holds no surface: {dict(source.sizes)}")
    return source.transpose(..., *GRID)


def map_surfaces(
    function: Callable[[npt.NDArray[Any]], tuple[npt.NDArray[Any], ...]],
    surfaces: xr.DataArray,
    dims: Sequence[Sequence[str]],
    dtypes: Sequence[npt.DTypeLike],
    sizes: dict[str, int] | None = None,
) -> tuple[xr.DataArray, ...]:
    """Apply a function of arrays (n, tau, moneyness) to all surfaces; chunks of a lazy dataset stay lazy.

    Parameters
    ----------
    function : callable
        Takes surfaces of shape (n, J, I) and gives a tuple of arrays whose first axis is n.
    surfaces : xarray.DataArray
        From :func:`surfaces_of`.
    dims : sequence of sequence of str
        Dimensions of each result behind the leading ones of the surfaces.
    dtypes : sequence of dtype
        Of each result.
    sizes : dict, optional
        Sizes of dimensions that the surfaces do not have.
    """
    import xarray as xr

    grid = (surfaces.sizes["tau"], surfaces.sizes["moneyness"])
    if surfaces.chunks is not None:
        surfaces = surfaces.chunk(dict.fromkeys(GRID, -1))  # a surface is judged whole

    def on_array(values: npt.NDArray[Any]) -> Any:
        lead = values.shape[:-2]
        flat = surfaces_array("implied_vol", values, grid).reshape(-1, *grid)
        found = tuple(result.reshape((*lead, *result.shape[1:])) for result in in_blocks(function, flat))
        return found if len(found) > 1 else found[0]

    results = xr.apply_ufunc(
        on_array,
        surfaces,
        input_core_dims=[GRID],
        output_core_dims=dims,
        dask="parallelized",
        output_dtypes=list(dtypes),
        dask_gufunc_kwargs={"output_sizes": sizes} if sizes else None,
    )
    return results if isinstance(results, tuple) else (results,)


def in_blocks(
    function: Callable[[npt.NDArray[Any]], tuple[npt.NDArray[Any], ...]], surfaces: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], ...]:
    """Results of a function of surfaces (n, J, I), taken in blocks so that intermediate arrays stay small."""
    n = surfaces.shape[0]
    if n <= _BLOCK:
        return function(surfaces)
    parts = [function(surfaces[start : start + _BLOCK]) for start in range(0, n, _BLOCK)]
    return tuple(np.concatenate(pieces) for pieces in zip(*parts, strict=True))

"""Which exchange calendar a dataset goes by, several assets' or one's taken out of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["calendar_coordinate", "calendar_of", "calendar_problems", "split_assets"]


def calendar_of(ds: xr.Dataset) -> str:
    """Exchange calendar of a dataset of one asset.

    That is its attribute ``calendar``. Where the asset was selected from several on different exchanges, whose
    attribute names them all (``"A: XNYS; B: XSHG"``), it is the coordinate ``calendar``, or in files without it the
    asset's part of the attribute.

    Examples
    --------
    >>> import xarray as xr
    >>> from volscen.schema import calendar_of
    >>> both = xr.Dataset(coords={"asset": ["A", "B"], "calendar": ("asset", ["XNYS", "XSHG"])},
    ...                   attrs={"calendar": "A: XNYS; B: XSHG"})
    >>> calendar_of(both.sel(asset="B")), calendar_of(both.drop_vars("calendar").sel(asset="B"))
    ('XSHG', 'XSHG')
    """
    told = str(ds.attrs.get("calendar", "unspecified"))
    if ": " not in told:
        return told
    for name in ("calendar", "asset"):
        if name in ds.coords and ds[name].size == 1:
            own = str(ds[name].values.reshape(-1)[0])
            if name == "calendar":
                return own
            found = re.search(rf"(?:^|; ){re.escape(own)}: ([^;]*)(?:; |$)", told)
            if found:
                return found.group(1)
    return told


def split_assets(ds: xr.Dataset) -> dict[str, xr.Dataset]:
    """Datasets of the assets of one with a dimension ``asset``, each with its own calendar for an attribute."""
    parts = {str(name): ds.sel(asset=name) for name in ds["asset"].values}
    return {name: part.assign_attrs(calendar=calendar_of(part)) for name, part in parts.items()}


def calendar_coordinate(parts: Mapping[str, xr.Dataset]) -> tuple[str, np.ndarray[Any, Any]]:
    """Coordinate ``calendar`` along ``asset`` of datasets of one asset each."""
    return "asset", np.array([calendar_of(part) for part in parts.values()], dtype=str)


def calendar_problems(ds: xr.Dataset) -> list[str]:
    """A coordinate ``calendar`` must name one for each asset."""
    if "calendar" not in ds.coords:
        return []
    held = ds["calendar"]
    dims = ("asset",) if "asset" in ds.dims else ()
    if held.dims != dims or not all(isinstance(code, str) and code for code in held.values.reshape(-1).tolist()):
        return [f"coordinate calendar must hold the code of a calendar for each asset, in dimensions {dims}"]
    return []

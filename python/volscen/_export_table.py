"""Scenario cubes as plain tables: one row per number, or one per scenario and step; streamed to Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from volscen import schema
from volscen._files import atomic_path
from volscen.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["to_long_table"]

#: Rows of a Parquet row group, about: what is in memory at a time.
_ROWS = 1_000_000

_PER_STEP = ("log_return", "spot", "arbitrage_penalty", "arbitrage_penalty_raw", "projection_status")


def to_long_table(ds: xr.Dataset, path: str | Path | None = None, *, wide: bool = False) -> pd.DataFrame | Path:
    """Lay out scenarios as a table for tools that know no arrays.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios (``volscen/scenarios/1``). Lazy cubes are computed a part at a time.
    path : str or Path, optional
        Ends in ``.parquet``. The table is written there in row groups of about a million rows, whole or not at all,
        with the dataset's attributes as JSON under the key ``volscen`` of the file's metadata. Without a path the table
        is returned.
    wide : bool
        One row per scenario and step, with a column for each point of the surface, ``iv_<days>d_<moneyness>``, in place
        of one row per scenario, step, tau and moneyness.

    Returns
    -------
    pandas.DataFrame or Path
        Columns ``as_of``, ``scenario``, ``step``, (``tau``, ``moneyness``, ``implied_vol``) ``weight``, ``log_return``,
        ``spot``, ``arbitrage_penalty`` and others that the cube has; of a long table the last repeat over the surface.
        Rows are ordered by the first columns, ascending.

    Raises
    ------
    InputError
        If the path does not end in ``.parquet`` or cannot be written to.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=100, horizon=2, seed=1)
    >>> table = volscen.to_long_table(cube)
    >>> table.shape, list(table.columns[:6])
    ((16000, 10), ['as_of', 'scenario', 'step', 'tau', 'moneyness', 'implied_vol'])
    >>> volscen.to_long_table(cube, wide=True).columns[-1]
    'iv_365d_1.4'
    """
    if not isinstance(ds, xr.Dataset):
        raise InputError(f"ds must be a scenario dataset such as volscen.generate() returns, not {type(ds).__name__}")
    schema.validate(ds, schema=schema.SCENARIOS)
    if not isinstance(wide, (bool, np.bool_)):
        raise InputError(f"wide must be True or False, not {wide!r}")
    if path is None:
        import pandas as pd

        return pd.concat([pd.DataFrame(part) for part in _parts(ds, bool(wide))], ignore_index=True)
    if not isinstance(path, (str, Path)):
        raise InputError(f"path must be a file name, not {path!r}")
    if Path(path).suffix != ".parquet":
        raise InputError(f"cannot write to {path}: the name must end in .parquet")
    return _write(ds, Path(path), bool(wide))


def _write(ds: xr.Dataset, path: Path, wide: bool) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    attributes = json.dumps({str(k): np.asarray(v).tolist() for k, v in ds.attrs.items()})
    writer: Any = None
    with atomic_path(path) as temporary:
        try:
            for part in _parts(ds, wide):
                table = pa.table(part).replace_schema_metadata({"volscen": attributes})
                if writer is None:
                    writer = pq.ParquetWriter(temporary, table.schema)
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()
    return path


def _parts(ds: xr.Dataset, wide: bool) -> Iterator[dict[str, Any]]:
    """Columns of consecutive blocks of scenarios."""
    cells = 1 if wide else ds.sizes["tau"] * ds.sizes["moneyness"]
    block = max(_ROWS // (ds.sizes["step"] * cells), 1)
    dates = [ds.isel(as_of=row) for row in range(ds.sizes["as_of"])] if "as_of" in ds.dims else [ds]
    for date in dates:
        for start in range(0, ds.sizes["scenario"], block):
            yield _columns(date.isel(scenario=slice(start, start + block)).compute(), wide)


def _columns(ds: xr.Dataset, wide: bool) -> dict[str, Any]:
    n, steps, tau, moneyness = (ds.sizes[d] for d in ("scenario", "step", "tau", "moneyness"))
    shape = (n, steps) if wide else (n, steps, tau, moneyness)

    def column(values: Any, *dims: str) -> Any:
        array = np.asarray(values)
        axes = ("scenario", "step", "tau", "moneyness")[: len(shape)]
        index = tuple(slice(None) if d in dims else None for d in axes)
        return np.ascontiguousarray(np.broadcast_to(array[index] if dims else array, shape)).ravel()

    out: dict[str, Any] = {}
    if "as_of" in ds.coords:
        out["as_of"] = column(ds["as_of"].values.astype("datetime64[ms]"))
    out["scenario"] = column(ds["scenario"].values, "scenario")
    out["step"] = column(ds["step"].values, "step")
    surface = ds["implied_vol"].transpose("scenario", "step", "tau", "moneyness").values
    if not wide:
        out["tau"] = column(ds["tau"].values, "tau")
        out["moneyness"] = column(ds["moneyness"].values, "moneyness")
        out["implied_vol"] = surface.ravel()
    out["weight"] = column(ds["weight"].values, "scenario")
    for name in _PER_STEP:
        if name in ds:
            out[name] = column(ds[name].transpose("scenario", "step").values, "scenario", "step")
    if "source_scenario" in ds.coords:
        out["source_scenario"] = column(ds["source_scenario"].values, "scenario")
    if wide:
        for j, years in enumerate(ds["tau"].values):
            for i, m in enumerate(ds["moneyness"].values):
                out[f"iv_{365 * years:.6g}d_{m:.6g}"] = np.ascontiguousarray(surface[:, :, j, i]).ravel()
    return out

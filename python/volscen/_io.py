"""Reading and writing files: NetCDF and zarr for histories, scenarios and results; tables of quotes."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from volscen import schema
from volscen._files import atomic_path, cannot_write, check_name, check_writable, interrupt_deferred, size_text
from volscen._reweight import weighing_penalty, weight_attributes
from volscen._zarr import check_store, read_zarr, write_zarr
from volscen.errors import FileFormatError, InputError, MissingExtraError, VolscenError
from volscen.scenarios._stream import is_streamed, stream

__all__ = ["check_output", "read", "read_dataset", "write"]

_NETCDF = (".nc", ".nc4", ".netcdf")
_ZARR = ".zarr"
_TABLES = (".csv", ".parquet", ".pq")

#: Bytes without which the NetCDF library finds any file unreadable.
_NEEDED_TO_READ = 100_000_000


def write(ds: xr.Dataset, path: str | Path, *, compression: int = 0, resume: bool = False) -> Path:
    """Write a history, surface, scenario or hedge dataset to NetCDF or zarr, whole or not at all.

    Parameters
    ----------
    ds : xarray.Dataset
        Validated first (:func:`volscen.validate`). A lazy cube is written chunk by chunk as it is drawn: by threads,
        or by the cluster whose client is active, whose workers must see the folder of a zarr store. Memory holds
        the chunks in work and about 50 bytes a scenario.
    path : str or Path
        Ends in ``.nc`` or ``.zarr`` (a folder; needs ``volscen[distributed]``); what is there is replaced only
        when the new one is complete.
    compression : int
        Level, 0 (none, fastest) to 9, of zlib in NetCDF and of Zstandard in zarr.
    resume : bool
        Of a lazy cube: go on from what a write of it to this path has left when it was stopped, to the same bits; and
        leave it there if this one is stopped by an error or Ctrl-C (a process that is killed leaves it in any case).
        What was begun with other arguments is refused. Needs ``compression=0`` in NetCDF.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the path cannot be written to, or another process is writing it; or what is to be resumed is of other
        arguments.
    FileFormatError
        If the dataset breaks its schema.

    Notes
    -----
    A lazy cube's weights need all penalties: they are written last, with the attributes ``beta``, ``ess_fraction`` and,
    of a cube with ``given``, ``distinct_scenarios``. They are those of the cube in memory, to the bit.

    Examples
    --------
    >>> import tempfile, volscen
    >>> cube = volscen.generate(n_scenarios=100, seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = volscen.read(volscen.write(cube, folder + "/scenarios.nc"))
    >>> bool((again.implied_vol == cube.implied_vol).all())
    True
    """
    path = check_output(path, compression)
    if not isinstance(resume, (bool, np.bool_)):
        raise InputError(f"resume must be True or False, not {resume!r}")
    schema.validate(ds)
    try:
        if is_streamed(ds):
            if path.suffix != _ZARR:
                check_writable(path)
            _check_space(path, ds, compression)
            stream(ds, path, compression=compression, resume=bool(resume))
            return path
        if "beta_requested" in ds.attrs:  # of a lazy cube, computed since
            beta, ess = weight_attributes(
                ds[weighing_penalty(ds)].values, ds["weight"].values, ds.attrs["beta_requested"]
            )
            ds = ds.assign_attrs(beta=beta, ess_fraction=ess)
            del ds.attrs["beta_requested"]
        if path.suffix == _ZARR:
            write_zarr(ds, path, compression)
            return path
        packed = {"zlib": True, "complevel": compression}
        encoding = {str(v): packed for v in ds.data_vars if ds[v].ndim} if compression else None
        with atomic_path(path) as temporary, interrupt_deferred():
            ds.to_netcdf(temporary, engine="netcdf4", format="NETCDF4", encoding=encoding)
    except (OSError, RuntimeError) as error:  # the NetCDF library knows both
        raise cannot_write(path, error, n_bytes=ds.nbytes) from None
    return path


def _check_space(path: Path, ds: xr.Dataset, compression: int) -> None:
    """Refuse, before hours of work, what the disk has no room for."""
    free = shutil.disk_usage(Path(os.path.realpath(path)).parent).free
    if not compression and ds.nbytes > free:
        raise InputError(
            f"cannot write to {path}: it takes {size_text(ds.nbytes)}, and {size_text(free)} are free on the disk"
        )


def check_output(path: str | Path, compression: int = 0) -> Path:
    """Refuse a path or a compression level that cannot be right, before any work."""
    if not isinstance(path, (str, Path)):
        raise InputError(f"path must be a file name, not {path!r}")
    if Path(path).suffix not in (*_NETCDF, _ZARR):
        tables = Path(path).suffix in (".csv", ".parquet", ".xlsx", ".feather")
        hint = "; volscen.to_long_table(ds) makes a pandas table of scenarios, which writes others" if tables else ""
        raise InputError(f"cannot write to {path}: the name must end in .nc or .zarr{hint}")
    if isinstance(compression, bool) or not isinstance(compression, int) or not 0 <= compression <= 9:
        raise InputError(f"compression must be a zlib level from 0 to 9, not {compression!r}")
    check_name(path)
    if Path(path).suffix == _ZARR:
        check_store(Path(path))
    else:
        _check_encoding(path)
    return Path(path)


def _check_encoding(path: str | Path) -> None:
    """Refuse what the NetCDF library cannot be told: names that are no text in the encoding of this process."""
    encoding = sys.getfilesystemencoding()
    for name in (str(path), os.path.realpath(path)):
        try:
            name.encode(encoding)
        except UnicodeEncodeError:
            raise InputError(
                f"cannot write to {path!r}: the name is no text in {encoding}; rename the file or its folder"
                + ("" if encoding == "utf-8" else ", or set PYTHONUTF8=1")
            ) from None


def read(
    path: str | Path, *, chunks: int | None = None, **options: Any
) -> xr.Dataset | tuple[pd.DataFrame, pd.Series[int]]:
    """Read a file of ours, or a table of option quotes.

    Parameters
    ----------
    path : str or Path
        ``.nc`` or ``.zarr``: history, scenarios or hedge result, validated and loaded into memory.
        ``.csv`` or ``.parquet``: option quotes; see :func:`volscen.sources.read_table`.
    chunks : int, optional
        Scenarios per chunk of a lazy, dask-backed cube, for what is larger than memory; needs ``volscen[distributed]``.
        Only its shape is validated then. A multiple of the chunks it was written in is fastest.
    **options
        Passed to :func:`volscen.sources.read_table` for tables (for instance ``columns``).

    Returns
    -------
    xarray.Dataset, or (quotes, dropped)
        The dataset; or the tidy quotes and the count of dropped rows by reason.

    Raises
    ------
    FileFormatError
        If the file is missing, truncated, foreign, or breaks its schema.

    Examples
    --------
    >>> import tempfile, volscen
    >>> history = volscen.datasets.sample_history()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = volscen.read(volscen.write(history, folder + "/history.nc"))
    >>> again.equals(history)
    True
    """
    if not isinstance(path, (str, Path)):
        raise InputError(f"path must be a file name, not {path!r}")
    path = Path(path)
    _check_there(path)
    if path.suffix in _TABLES:
        from volscen.sources import read_table

        if chunks is not None:
            raise InputError(f"{path}: chunks is of NetCDF files and zarr stores of scenarios, not of tables")
        return read_table(path, **options)
    if path.suffix not in (*_NETCDF, _ZARR):
        raise FileFormatError(f"{path}: unknown kind of file; known are {', '.join((*_NETCDF, _ZARR, *_TABLES))}")
    if options:
        raise InputError(f"{path}: a NetCDF file or a zarr store takes no options, got {sorted(options)}")
    return read_dataset(path, chunks=chunks)


def _check_there(path: Path) -> None:
    if not os.path.exists(path):
        raise FileFormatError(f"{path}: no such file")
    if not (os.path.isfile(path) or os.path.isdir(path)):
        raise FileFormatError(f"{path}: no ordinary file; what comes through a pipe must be kept in one first")


def read_dataset(path: str | Path, *, kind: str | None = None, chunks: int | None = None) -> xr.Dataset:
    """Read and validate a NetCDF file or a zarr store, optionally of a given schema, or lazily."""
    path = Path(path)
    size = None if chunks is None else _chunk_length(chunks)
    _check_there(path)
    if path.suffix not in (*_NETCDF, _ZARR):
        raise FileFormatError(f"{path}: not a NetCDF file (.nc) or zarr store of volscen{_remedy(path)}")
    try:
        if path.suffix == _ZARR:
            loaded = read_zarr(path, lambda ds: _loaded(ds, size))
        elif size is None:
            with xr.open_dataset(path, engine="netcdf4") as ds:
                loaded = ds.load()
        else:
            loaded = _loaded(xr.open_dataset(path, engine="netcdf4"), size)
    except (VolscenError, MemoryError):
        raise
    except Exception as error:  # the libraries below raise whatever a corrupt file makes them stumble over
        np.empty(_NEEDED_TO_READ, dtype=np.uint8)  # what looks like a bad file may be a lack of memory
        raise FileFormatError(f"{path}: not a readable NetCDF file ({str(error)[:300]})") from None
    if size is not None and "scenario" not in loaded.dims:
        raise InputError(f"{path}: chunks is of scenarios, and there are none in it; leave it out")
    try:
        return schema.validate(loaded, schema=kind)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from None


def _loaded(ds: xr.Dataset, size: int | None) -> xr.Dataset:
    """What was opened, in memory; or, with a size, in chunks of so many scenarios where there are scenarios."""
    if size is None:
        return ds.load()
    parts = {"as_of": 1, "scenario": size}
    lazy = {
        name: v.chunk({dim: parts.get(str(dim), -1) for dim in v.dims}) if "scenario" in v.dims else v.load()
        for name, v in ds.data_vars.items()
    }
    return ds.assign(lazy).assign_coords({name: coordinate.load() for name, coordinate in ds.coords.items()})


def _chunk_length(chunks: Any) -> int:
    if isinstance(chunks, bool) or not isinstance(chunks, (int, np.integer)) or chunks < 1:
        raise InputError(f"chunks must be a positive number of scenarios, not {chunks!r}")
    try:
        import dask.array  # noqa: F401
    except ImportError:
        raise MissingExtraError("chunks=", "distributed") from None
    return int(chunks)


def _remedy(path: Path) -> str:
    if path.suffix in _TABLES:
        return "; quotes become a history with volscen history build"
    return "; it is a fitted model, for volscen info, card or generate" if path.suffix == ".safetensors" else ""

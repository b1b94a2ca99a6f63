"""Reading and writing files: NetCDF and zarr for histories, scenarios and results; tables of quotes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from volscen import schema
from volscen._files import atomic_path, cannot_write
from volscen._reweight import weighing_penalty, weight_attributes
from volscen._zarr import check_store, read_zarr, write_zarr
from volscen.errors import FileFormatError, InputError, VolscenError

__all__ = ["check_output", "read", "read_dataset", "write"]

_NETCDF = (".nc", ".nc4", ".netcdf")
_ZARR = ".zarr"
_TABLES = (".csv", ".parquet", ".pq")


def write(ds: xr.Dataset, path: str | Path, *, compression: int = 0) -> Path:
    """Write a history, surface, scenario or hedge dataset to NetCDF or zarr, whole or not at all.

    Parameters
    ----------
    ds : xarray.Dataset
        Validated first (:func:`volscen.validate`). A lazy cube is computed and written chunk by chunk.
    path : str or Path
        Ends in ``.nc`` or ``.zarr`` (a folder; needs ``volscen[distributed]``); what is there is replaced only
        when the new one is complete.
    compression : int
        zlib level, 0 (none, fastest) to 9, of NetCDF; zarr compresses by a method of its own.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the path cannot be written to.
    FileFormatError
        If the dataset breaks its schema.

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
    schema.validate(ds)
    if path.suffix == _ZARR:
        try:
            write_zarr(ds, path)
        except OSError as error:
            raise cannot_write(path, error, n_bytes=ds.nbytes) from None
        return path
    lazy = any(not isinstance(ds[name].data, np.ndarray) for name in ds.data_vars)
    encoding = (
        {str(v): {"zlib": True, "complevel": compression} for v in ds.data_vars if ds[v].ndim} if compression else None
    )
    with atomic_path(path) as temporary, nullcontext() if lazy else _interrupt_deferred():
        try:
            ds.to_netcdf(temporary, engine="netcdf4", format="NETCDF4", encoding=encoding)
            if "beta_requested" in ds.attrs:
                _complete_attributes(temporary)
        except (OSError, RuntimeError) as error:  # the NetCDF library knows both
            raise cannot_write(path, error, n_bytes=ds.nbytes) from None
    return path


def check_output(path: str | Path, compression: int = 0) -> Path:
    """Refuse a path or a compression level that cannot be right, before any work."""
    if not isinstance(path, (str, Path)):
        raise InputError(f"path must be a file name, not {path!r}")
    if Path(path).suffix not in (*_NETCDF, _ZARR):
        raise InputError(f"cannot write to {path}: the name must end in .nc or .zarr")
    if isinstance(compression, bool) or not isinstance(compression, int) or not 0 <= compression <= 9:
        raise InputError(f"compression must be a zlib level from 0 to 9, not {compression!r}")
    if Path(path).suffix == _ZARR:
        check_store(Path(path))
        if compression:
            raise InputError("compression is of NetCDF; leave it out for a zarr store, which compresses by itself")
    return Path(path)


@contextmanager
def _interrupt_deferred() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends: one inside the NetCDF layer leaves its lock taken for ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if received:
        raise KeyboardInterrupt


def _complete_attributes(path: Path) -> None:
    """Set ``beta`` and ``ess_fraction``, which a lazy cube could not know before it was written."""
    import netCDF4

    with netCDF4.Dataset(path, "a") as file:
        penalty = np.asarray(file[weighing_penalty(file.variables)][:])
        beta, ess = weight_attributes(penalty, np.asarray(file["weight"][:]), file.getncattr("beta_requested"))
        file.setncattr("beta", beta)
        file.setncattr("ess_fraction", ess)
        file.delncattr("beta_requested")


def read(path: str | Path, **options: Any) -> xr.Dataset | tuple[pd.DataFrame, pd.Series[int]]:
    """Read a file of ours, or a table of option quotes.

    Parameters
    ----------
    path : str or Path
        ``.nc`` or ``.zarr``: history, scenarios or hedge result, validated and loaded into memory.
        ``.csv`` or ``.parquet``: option quotes; see :func:`volscen.sources.read_table`.
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
    if not path.exists():
        raise FileFormatError(f"{path}: no such file")
    if path.suffix in _TABLES:
        from volscen.sources import read_table

        return read_table(path, **options)
    if path.suffix not in (*_NETCDF, _ZARR):
        raise FileFormatError(f"{path}: unknown kind of file; known are {', '.join((*_NETCDF, _ZARR, *_TABLES))}")
    if options:
        raise InputError(f"{path}: a NetCDF file or a zarr store takes no options, got {sorted(options)}")
    return read_dataset(path)


def read_dataset(path: str | Path, *, kind: str | None = None) -> xr.Dataset:
    """Read and validate a NetCDF file or a zarr store, optionally of a given schema."""
    path = Path(path)
    if not path.exists():
        raise FileFormatError(f"{path}: no such file")
    if path.suffix not in (*_NETCDF, _ZARR):
        raise FileFormatError(f"{path}: not a NetCDF file (.nc) or zarr store of volscen{_remedy(path)}")
    try:
        if path.suffix == _ZARR:
            loaded = read_zarr(path)
        else:
            with xr.open_dataset(path, engine="netcdf4") as ds:
                loaded = ds.load()
    except VolscenError:
        raise
    except Exception as error:  # the libraries below raise whatever a corrupt file makes them stumble over
        raise FileFormatError(f"{path}: not a readable NetCDF file ({str(error)[:300]})") from None
    try:
        return schema.validate(loaded, schema=kind)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from None


def _remedy(path: Path) -> str:
    if path.suffix in _TABLES:
        return "; quotes become a history with volscen history build"
    return "; it is a fitted model, for volscen info, card or generate" if path.suffix == ".safetensors" else ""

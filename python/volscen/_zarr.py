"""Zarr stores: folders that are written whole or not at all."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xarray as xr

from volscen._reweight import weighing_penalty, weight_attributes
from volscen.errors import FileFormatError, InputError, MissingExtraError

__all__ = ["check_store", "read_zarr", "write_zarr"]


def _need_zarr() -> None:
    try:
        import zarr  # noqa: F401
    except ImportError:
        raise MissingExtraError("a zarr store", "distributed") from None


def check_store(path: Path) -> None:
    """Refuse, before any work, a zarr store that could not be written after it."""
    _need_zarr()
    target = Path(os.path.realpath(path))
    if target.exists() and not _is_store(target):
        raise InputError(f"cannot write to {path}: it exists and is no zarr store")
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise InputError(f"cannot write to {path}: the folder {target.parent} does not exist or cannot be written to")


def _is_store(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup"))


def write_zarr(ds: xr.Dataset, path: Path) -> None:
    """Write a dataset to a new store, and put it in the place of an old one when it is complete."""
    check_store(path)
    with _atomic_folder(path) as temporary:
        # Chunks that a NetCDF file left behind would be taken for wishes.
        # Format 2: texts, such as names of assets, have no settled form in format 3 yet.
        ds.drop_encoding().to_zarr(temporary, mode="w", consolidated=False, zarr_format=2)
        if "beta_requested" in ds.attrs:
            _complete(temporary)


def _complete(path: Path) -> None:
    """Set the attributes that a lazy cube could not know before it was written."""
    import zarr

    group = zarr.open_group(str(path), mode="r+")
    penalty = np.asarray(group[weighing_penalty(set(group.array_keys()))][:])
    beta, ess = weight_attributes(penalty, np.asarray(group["weight"][:]), group.attrs["beta_requested"])
    attributes = dict(group.attrs) | {"beta": np.asarray(beta).tolist(), "ess_fraction": np.asarray(ess).tolist()}
    del attributes["beta_requested"]
    group.attrs.put(attributes)


def read_zarr(path: Path) -> xr.Dataset:
    """Read a store into memory.

    Raises
    ------
    FileFormatError
        If it is no readable zarr store.
    """
    _need_zarr()
    try:
        with xr.open_zarr(path, consolidated=False, chunks=None) as ds:
            loaded: xr.Dataset = ds.load()
            return loaded
    except Exception as error:  # the libraries below raise whatever a corrupt store makes them stumble over
        raise FileFormatError(f"{path}: not a readable zarr store ({str(error)[:300]})") from None


@contextmanager
def _atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that takes the place of ``path`` when the block succeeds, and vanishes when it fails."""
    target = Path(os.path.realpath(path))
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)  # mkdtemp makes it private to the user
        if not target.exists():
            os.replace(temporary, target)
        elif not _exchange(temporary, target):
            aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
            os.replace(target, aside)  # onto an empty folder
            try:
                os.replace(temporary, target)
            except BaseException:
                os.replace(aside, target)
                raise
            shutil.rmtree(aside, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # after an exchange, the old store


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step, where the system can: Linux, on most file systems."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    at_cwd, exchange = -100, 2
    return bool(renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0)

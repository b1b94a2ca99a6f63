"""Zarr stores: folders that are written whole or not at all."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr

from volscen._files import check_name, remove_folder, remove_leftovers
from volscen.errors import FileFormatError, InputError, MissingExtraError

__all__ = ["check_store", "put_folder_in_place", "read_zarr", "write_zarr", "zarr_encoding"]


def _need_zarr() -> None:
    try:
        import zarr  # noqa: F401
    except ImportError:
        raise MissingExtraError("a zarr store", "distributed") from None


def check_store(path: Path) -> None:
    """Refuse, before any work, a zarr store that could not be written after it."""
    _need_zarr()
    check_name(path)
    target = Path(os.path.realpath(path))
    if os.path.exists(target) and not _is_store(target):
        raise InputError(f"cannot write to {path}: it exists and is no zarr store")
    if not os.path.isdir(target.parent) or not os.access(target.parent, os.W_OK):
        raise InputError(f"cannot write to {path}: the folder {target.parent} does not exist or cannot be written to")


def _is_store(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup"))


def write_zarr(ds: xr.Dataset, path: Path, compression: int = 0) -> None:
    """Write a dataset to a new store, and put it in the place of an old one when it is complete."""
    check_store(path)
    with _atomic_folder(path) as temporary:
        # Chunks that a NetCDF file left behind would be taken for wishes.
        plain = ds.drop_encoding()
        # Format 2: texts, such as names of assets, have no settled form in format 3 yet.
        plain.to_zarr(
            temporary, mode="w", consolidated=False, zarr_format=2, encoding=zarr_encoding(plain, compression)
        )


def zarr_encoding(ds: xr.Dataset, compression: int) -> dict[str, dict[str, Any]]:
    """How numbers are compressed: Blosc's Zstandard at a level, or not at all."""
    import zarr

    compressor = None
    key = "compressor" if zarr.__version__.startswith("2.") else "compressors"
    if compression:
        from numcodecs import Blosc

        compressor = Blosc(cname="zstd", clevel=compression, shuffle=Blosc.SHUFFLE)
    return {str(name): {key: compressor} for name, v in ds.data_vars.items() if v.dtype.kind in "iuf"}


def read_zarr(path: Path, load: Callable[[xr.Dataset], xr.Dataset]) -> xr.Dataset:
    """Read a store, of which ``load`` takes into memory what it wants.

    Raises
    ------
    FileFormatError
        If it is no readable zarr store.
    """
    _need_zarr()
    try:
        return load(xr.open_zarr(path, consolidated=False, chunks=None))
    except Exception as error:  # the libraries below raise whatever a corrupt store makes them stumble over
        raise FileFormatError(f"{path}: not a readable zarr store ({str(error)[:300]})") from None


@contextmanager
def _atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that takes the place of ``path`` when the block succeeds, and vanishes when it fails."""
    target = Path(os.path.realpath(path))
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    remove_leftovers(temporary, target)
    try:
        yield temporary
        put_folder_in_place(temporary, target)
    finally:
        remove_folder(temporary)  # after an exchange, the old store


def put_folder_in_place(temporary: Path, path: Path) -> None:
    """Put a finished store in the place of an old one, which is left at ``temporary`` or gone."""
    target = Path(os.path.realpath(path))
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

"""Atomic writing: a file appears whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

__all__ = ["atomic_path", "cannot_write", "check_writable", "put_file_in_place", "write_safetensors"]

#: With less than this left on the disk, a failed write is put down to it.
_HARDLY_ANY = 1_000_000


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that is moved onto it when the block succeeds.

    The temporary file is removed when the block fails, so neither an exception nor Ctrl-C leaves a
    half-written file, and an existing file survives a failed overwrite. A symbolic link is followed.

    Raises
    ------
    InputError
        If the folder does not exist or cannot be written to, something other than a file bears the name, or
        the disk is full.
    """
    target = Path(os.path.realpath(path))
    temporary = _temporary_beside(target, path)
    try:
        yield temporary
        put_file_in_place(temporary, target)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def put_file_in_place(temporary: Path, path: Path) -> None:
    """Move a finished file onto a path of the same file system, with the permissions of any new file."""
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)  # mkstemp makes it private to the user
    os.replace(temporary, os.path.realpath(path))


def check_writable(path: str | Path) -> None:
    """Raise :class:`InputError` now if ``path`` could not be written later; leaves nothing behind."""
    _temporary_beside(Path(os.path.realpath(path)), path).unlink()


def cannot_write(path: str | Path, error: Exception, *, n_bytes: int = 0) -> InputError:
    """Error for a failed write; libraries seldom say that the disk is full, so its free space is looked at."""
    free = shutil.disk_usage(Path(os.path.realpath(path)).parent).free
    full = getattr(error, "errno", None) == errno.ENOSPC or free < max(n_bytes, _HARDLY_ANY)
    why = "no space left on the disk" if full else getattr(error, "strerror", None) or str(error)
    return InputError(f"cannot write to {path}: {why}")


def write_safetensors(path: str | Path, arrays: Mapping[str, npt.NDArray[Any]], metadata: str) -> None:
    """Write arrays and a JSON text (under the key ``volscen`` of the header) to one safetensors file, atomically."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata={"volscen": metadata})
        except SafetensorError as error:
            raise cannot_write(path, error, n_bytes=sum(a.nbytes for a in contiguous.values())) from None


def _temporary_beside(target: Path, path: str | Path) -> Path:
    if target.is_dir():
        raise InputError(f"cannot write to {path}: it is a folder; give a file name")
    if target.exists() and not target.is_file():
        raise InputError(f"cannot write to {path}: it is no ordinary file")
    if not target.parent.exists():
        raise InputError(f"cannot write to {path}: there is no folder {Path(path).parent}; make it first")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise InputError(f"cannot write to {path}: {error.strerror}") from None
    os.close(descriptor)
    return Path(name)

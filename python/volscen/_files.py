"""Atomic writing: a file appears whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from volscen.errors import InputError

__all__ = ["atomic_path", "check_writable"]


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that is moved onto it when the block succeeds.

    The temporary file is removed when the block fails, so neither an exception nor Ctrl-C leaves a
    half-written file, and an existing file survives a failed overwrite.

    Raises
    ------
    InputError
        If the folder does not exist or cannot be written to.
    """
    path = Path(path)
    temporary = _temporary_beside(path)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes it private to the user
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Raise :class:`InputError` now if ``path`` could not be written later; leaves nothing behind."""
    _temporary_beside(Path(path)).unlink()


def _temporary_beside(path: Path) -> Path:
    if path.is_dir():
        raise InputError(f"cannot write to {path}: it is a folder; give a file name")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise InputError(f"cannot write to {path}: {error.strerror}") from None
    os.close(descriptor)
    return Path(name)

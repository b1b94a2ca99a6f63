"""Atomic writing: a file appears whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

__all__ = [
    "atomic_path",
    "cannot_write",
    "check_name",
    "check_writable",
    "interrupt_deferred",
    "put_file_in_place",
    "remove_folder",
    "remove_leftovers",
    "size_text",
    "write_safetensors",
]

#: With less than this left on the disk, a failed write is put down to it.
_HARDLY_ANY = 1_000_000

#: A temporary file or folder that was not written to for so long (12 hours) is of a process that was killed.
_DEAD_NS = 12 * 3600 * 10**9


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that is moved onto it when the block succeeds.

    The temporary file is removed when the block fails, so neither an exception nor Ctrl-C leaves a
    half-written file, and an existing file survives a failed overwrite. A symbolic link is followed. What a process
    that was killed has left is removed by a later write of the same path, half a day after it.

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
    """Move a finished file onto a path of the same file system, with the permissions of any new file.

    What it replaces goes only when the new one is on the disk: a machine that dies leaves the one or the other.
    """
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)  # mkstemp makes it private to the user
    target = os.path.realpath(path)
    if os.path.exists(target):
        descriptor = os.open(temporary, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    os.replace(temporary, target)


def remove_leftovers(temporary: Path, target: Path) -> None:
    """Remove temporary files and folders of a target that killed processes left; those of living ones are young.

    Their age is by the clock of the file system, which has stamped the one just made too, whatever this machine's says.
    """
    now, kind = temporary.stat().st_mtime_ns, temporary.is_dir()
    own = re.compile(re.escape(f".{target.name}.") + r"\w{8}\.part")  # as tempfile names them
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if not own.fullmatch(entry.name) or entry.is_dir(follow_symlinks=False) != kind:
                continue
            with suppress(OSError):
                if now - entry.stat(follow_symlinks=False).st_mtime_ns > _DEAD_NS:
                    shutil.rmtree(entry.path) if kind else os.unlink(entry.path)


def remove_folder(folder: Path) -> None:
    """Remove a folder into which threads of a library may go on writing for a moment after Ctrl-C."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)


def check_writable(path: str | Path) -> None:
    """Raise :class:`InputError` now if ``path`` could not be written later; leaves nothing behind."""
    _temporary_beside(Path(os.path.realpath(path)), path).unlink()


def cannot_write(path: str | Path, error: Exception, *, n_bytes: int = 0) -> InputError:
    """Error for a failed write; libraries seldom say that the disk is full, so its free space is looked at."""
    free = shutil.disk_usage(Path(os.path.realpath(path)).parent).free
    said = getattr(error, "strerror", None) or str(error)
    full = getattr(error, "errno", None) == errno.ENOSPC or free < max(n_bytes, _HARDLY_ANY)
    why = "no space left on the disk" if full else said
    if not full and "HDF error" in said:  # all that the NetCDF library says, whatever the system said to it
        why = f"{said}; look for a quota, a limit on the size of files (ulimit -f) or a failing disk"
    elif "can't start new thread" in said:
        why = "the system lets no further thread start: too little memory, or too many processes (ulimit -u)"
    return InputError(f"cannot write to {path}: {why}")


def size_text(n_bytes: int) -> str:
    """Size in a unit that leaves digits to compare."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size / 10:
            return f"{n_bytes / size:,.1f} {unit}"
    return f"{n_bytes} bytes"


def write_safetensors(path: str | Path, arrays: Mapping[str, npt.NDArray[Any]], metadata: str) -> None:
    """Write arrays and a JSON text (under the key ``volscen`` of the header) to one safetensors file, atomically."""
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with atomic_path(path) as temporary:
        # Not by its save_file, whose temporary file has a name that nobody knows after a kill.
        temporary.write_bytes(save(contiguous, metadata={"volscen": metadata}))


def check_name(path: str | Path) -> None:
    """Raise :class:`InputError` where no system takes a name, or it leads in a circle."""
    if "\0" in str(path):
        raise InputError(f"{str(path)!r} is no file name: it holds a null character")
    target = os.path.realpath(path)
    if os.path.islink(target):
        raise InputError(f"cannot write to {path}: symbolic links lead in a circle from there; give another name")


def _temporary_beside(target: Path, path: str | Path) -> Path:
    check_name(path)
    if os.path.isdir(target):
        raise InputError(f"cannot write to {path}: it is a folder; give a file name")
    if os.path.exists(target) and not os.path.isfile(target):
        raise InputError(f"cannot write to {path}: it is no ordinary file")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except FileNotFoundError:
        folder = target.parent if Path(path).parent.exists() else Path(path).parent  # the former behind a link
        raise InputError(f"cannot write to {path}: there is no folder {folder}; make it first") from None
    except OSError as error:
        raise InputError(f"cannot write to {path}: {error.strerror}") from None
    os.close(descriptor)
    remove_leftovers(Path(name), target)
    return Path(name)


@contextmanager
def interrupt_deferred() -> Iterator[None]:
    """Hold Ctrl-C and the like back until the block ends, where it would leave a lock taken or half a folder."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
    for known in {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:
        handler = signal.getsignal(known)
        if callable(handler):  # the system's own action interrupts nothing of Python
            handlers[int(known)] = handler
            signal.signal(known, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if received:
        handlers[received[0]](received[0], None)

"""Beside a path, the folder in which a streamed write grows: what is being written, and which blocks are done."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from volscen._files import atomic_path, remove_folder
from volscen.errors import FileFormatError, InputError, VolscenError

__all__ = ["NOTES", "Unfinished"]

#: Folder beside that of finished blocks, of what is noted of each.
NOTES = "notes"
_RECORD = "record.json"


class Unfinished:
    """Folder of an unfinished write; one process holds it at a time.

    Parameters
    ----------
    path : Path
        What is to be written in the end.
    record : dict
        All that decides the bits.
    """

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        target = Path(os.path.realpath(path))
        self.folder = target.parent / f".{target.name}.unfinished"
        self._path, self._record = path, json.loads(json.dumps(record))
        self._lock: IO[str] | None = None
        self.goes_on = False

    def open(self, *, resume: bool) -> None:
        """Make the folder, or go on with what is there.

        Parameters
        ----------
        resume : bool
            Go on, instead of starting anew.

        Raises
        ------
        InputError
            If another process holds it, or what is there was begun with other arguments.
        FileFormatError
            If its record is damaged.
        """
        self.folder.mkdir(exist_ok=True)
        self._lock = _locked(self.folder / "lock", self._path)
        try:
            self.goes_on = resume and self._holds_the_same()
        except VolscenError:  # what is there may yet be resumed
            self.close(keep=True)
            raise
        if not self.goes_on:
            for part in self.folder.iterdir():
                if part.name != "lock":
                    shutil.rmtree(part) if part.is_dir() else part.unlink()
            self.done_folder.mkdir()
            (self.folder / NOTES).mkdir()

    @property
    def done_folder(self) -> Path:
        """Holds a file for each finished block."""
        return self.folder / "done"

    def begun(self) -> None:
        """Say that the store is there and blocks may be written: what follows can be resumed."""
        with atomic_path(self.folder / _RECORD) as temporary:
            temporary.write_text(json.dumps(self._record, indent=1, sort_keys=True))

    def ended(self) -> None:
        """Say that the store is complete and may be put in its place: what is here then is no part of it."""
        (self.folder / _RECORD).unlink()

    def done(self) -> dict[str, int]:
        """Finished blocks, and the checksum of each."""
        found = {}
        for path in self.done_folder.iterdir():
            with suppress(ValueError):  # killed between opening and writing: not done
                found[path.name] = int(path.read_text())
        return found

    def close(self, *, keep: bool) -> None:
        """Let go of the folder, and remove it unless it is kept to be resumed."""
        if self._lock is None:  # never ours, or no more: nothing is taken away but what was brought
            with suppress(OSError):
                self.folder.rmdir()
            return
        if not keep:
            remove_folder(self.folder)
        self._lock.close()
        self._lock = None

    def _holds_the_same(self) -> bool:
        path = self.folder / _RECORD
        if not path.exists():
            return False
        try:
            held = dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            raise FileFormatError(
                f"{path}: not a readable record of an unfinished write; start anew, without resume"
            ) from None
        differing = sorted(name for name in {*held, *self._record} if held.get(name) != self._record.get(name))
        # What is drawn differs whenever anything else does, and says less.
        told = [name for name in differing if name != "drawing"] or differing
        if told:
            raise InputError(
                f"resume: what is unfinished of {self._path} was begun with other arguments ({', '.join(told)} "
                "differ); give those, or start anew, without resume"
            )
        return True


def _locked(lock: Path, path: Path) -> IO[str]:
    file = lock.open("w")
    try:
        import fcntl
    except ImportError:  # not on Windows, where the open file itself is in the way of a second writer
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise InputError(f"cannot write to {path}: another process is writing it now") from None
    return file

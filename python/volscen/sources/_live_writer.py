"""A file of a live session that grows by whole compressed frames, so that it is sound wherever writing stops."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Literal

from volscen._files import cannot_write, check_writable
from volscen.errors import FileFormatError, InputError
from volscen.sources._dbn import LIVE, read_header
from volscen.sources._live_file import open_live

__all__ = ["LiveWriter"]

_READ = 1 << 20


class LiveWriter:
    """Writes to a file, or goes on with one; one process at a time.

    Attributes
    ----------
    path : Path
    counts : Counter
        Records written, by kind.
    last_quote : int
        Time of the latest quote in the file (ns UTC); 0 where there is none.

    Raises
    ------
    InputError
        On entering, if it cannot be written to, or is being written.
    FileFormatError
        On entering, if it is there and is no file of a live session.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.last_quote = 0
        self._file: IO[bytes] | None = None
        self._header = b""
        self._is_new = not path.exists()

    def __enter__(self) -> LiveWriter:
        if self._is_new:
            check_writable(self.path)  # it is made with the first records: an empty file would be in readers' way
            return self
        self._open("r+b")
        try:
            self._header = self._go_on()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:
            return
        with suppress(OSError):  # what is written is written
            self._file.flush()
            os.fsync(self._file.fileno())
        self._close()
        if self._is_new and not self.last_quote:
            self.path.unlink()  # a recording without a quote is none

    def write(self, header: bytes, records: bytes, counts: Counter[str], last_quote: int) -> None:
        """Append records, the header before the first.

        Raises
        ------
        InputError
            If that cannot be written.
        FileFormatError
            If what comes is encoded otherwise than what is there.
        """
        import zstandard

        if not records:
            return
        if self._file is None:
            self._open("x+b")
        if not self._header:
            records, self._header = header + records, header
        elif header[:4] != self._header[:4]:
            raise FileFormatError(f"{self.path}: is of another version of the encoding; move it away to begin anew")
        file = self._opened
        try:
            file.write(zstandard.compress(records))
            file.flush()
        except OSError as error:
            raise cannot_write(self.path, error) from None
        self.counts.update(counts)
        self.last_quote = max(self.last_quote, last_quote)

    @property
    def _opened(self) -> IO[bytes]:
        assert self._file is not None
        return self._file

    def _open(self, mode: Literal["r+b", "x+b"]) -> None:
        """Open and lock the file."""
        busy = InputError(f"{self.path} is being recorded already, by another process")
        try:
            self._file = self.path.open(mode)
        except FileExistsError:
            raise busy from None
        except OSError as error:
            raise InputError(f"cannot write to {self.path}: {error.strerror}") from None
        try:
            import fcntl
        except ImportError:  # not on Windows
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._close()
            raise busy from None

    def _close(self) -> None:
        self._opened.close()
        self._file = None

    def _go_on(self) -> bytes:
        """Header of the file that is there, which is cut back to its last whole frame; empty if there is none."""
        end = _whole_frames(self.path)
        self._opened.truncate(end)
        self._opened.seek(end)
        if not end:
            return b""
        header = read_header(self.path)
        if header.schema != LIVE or header.metadata.ts_out:
            raise FileFormatError(f"{self.path}: is no recording of a live session; move it away to begin anew")
        self.last_quote = open_live(self.path, header).last_quote
        return bytes(header.metadata.encode())


def _whole_frames(path: Path) -> int:
    """Bytes of the whole zstd frames that a file begins with."""
    import zstandard

    end = done = 0
    frame = zstandard.ZstdDecompressor().decompressobj()
    try:
        with path.open("rb") as file:
            while data := file.read(_READ):
                done += len(data)
                while data:
                    frame.decompress(data)
                    data = b""
                    if frame.eof:
                        data = frame.unused_data
                        end = done - len(data)
                        frame = zstandard.ZstdDecompressor().decompressobj()
    except zstandard.ZstdError as error:
        raise FileFormatError(f"{path}: damaged zstd stream ({error}); move it away to begin anew") from None
    return end

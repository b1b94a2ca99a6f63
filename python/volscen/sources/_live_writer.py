"""A file of a live session that grows by whole compressed frames, so that it is sound wherever writing stops."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from types import TracebackType

from volscen._files import cannot_write
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

    def __enter__(self) -> LiveWriter:
        try:
            self._file = self.path.open("r+b" if self.path.exists() else "x+b")
        except OSError as error:
            raise InputError(f"cannot write to {self.path}: {error.strerror}") from None
        try:
            self._lock()
            self._header = self._go_on()
        except BaseException:
            self._file.close()
            raise
        self._begun = self._file.tell()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        empty = self._begun == 0 and not self.last_quote
        if not empty:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()
        if empty:
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
        if not self._header:
            records, self._header = header + records, header
        elif header[:4] != self._header[:4]:
            raise FileFormatError(f"{self.path}: is of another version of the encoding; move it away to begin anew")
        try:
            self._file.write(zstandard.compress(records))
            self._file.flush()
        except OSError as error:
            raise cannot_write(self.path, error) from None
        self.counts.update(counts)
        self.last_quote = max(self.last_quote, last_quote)

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # not on Windows
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{self.path} is being recorded already, by another process") from None

    def _go_on(self) -> bytes:
        """Header of the file that is there, which is cut back to its last whole frame; empty if there is none."""
        end = _whole_frames(self.path)
        self._file.truncate(end)
        self._file.seek(end)
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

"""Databento binary files (DBN), plain or zstd, read in blocks of bounded size.

Only the decoder package is imported: the client, which is slow to load, is needed for downloads alone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen.errors import FileFormatError, MissingExtraError

__all__ = [
    "DATASET",
    "DAY_NS",
    "LIVE",
    "UNDEFINED_PRICE",
    "DbnFile",
    "Header",
    "chunks",
    "layout",
    "open_dbn",
    "read_header",
    "rebuffered",
]

#: What the schema of a live session's file is called here: such a file mixes schemas and its header names none.
LIVE = "live"

#: The consolidated feed of United States options.
DATASET = "OPRA.PILLAR"

DAY_NS = 86_400 * 10**9
UNDEFINED_PRICE = np.iinfo(np.int64).max

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

#: Bytes taken from the file at once. A block of compressed quotes seldom grows by more than a hundred.
_READ = 1 << 17

#: Records handed on at once: some 20 MB of quotes.
BLOCK_RECORDS = 1 << 18

#: Header ("DBN", version, length of the metadata) and the most metadata believed: symbol mappings of a whole year.
_HEADER = 8
_METADATA_LIMIT = 1 << 30


@dataclass(frozen=True)
class DbnFile:
    """One file: its metadata, and its records block by block.

    Attributes
    ----------
    path : Path
    schema : str
        Such as ``"cbbo-1m"``.
    metadata : databento_dbn.Metadata
    dtype : numpy.dtype
        Layout of a record.
    """

    path: Path
    schema: str
    metadata: Any
    dtype: np.dtype[np.void]
    _offset: int

    def blocks(self) -> Iterator[npt.NDArray[np.void]]:
        """Yield the records in order, at most ``BLOCK_RECORDS`` at once.

        Raises
        ------
        FileFormatError
            If the file ends early or holds records of another kind.
        """
        size = self.dtype.itemsize
        for data in rebuffered(chunks(self.path), self._offset, BLOCK_RECORDS * size):
            if len(data) % size:
                raise FileFormatError(f"{self.path}: ends in the middle of a record; fetch it again")
            block = np.frombuffer(data, dtype=self.dtype)
            if np.any(block["length"] != size // 4):
                raise FileFormatError(
                    f"{self.path}: holds records that are not of its schema {self.schema}; fetch it again"
                )
            yield block

    def covered(self, instants: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether the file was asked for instants (ns UTC): one of the morning says nothing about the afternoon."""
        return np.asarray((instants >= self.metadata.start) & (instants <= (self.metadata.end or np.inf)))


@dataclass(frozen=True)
class Header:
    """What stands before the records of a file.

    Attributes
    ----------
    schema : str
        Such as ``"cbbo-1m"``; ``"live"`` where the header names none.
    metadata : databento_dbn.Metadata
    version : int
        Of the encoding, which decides the layout of some records.
    offset : int
        Where the records begin, in the decompressed file.
    """

    schema: str
    metadata: Any
    version: int
    offset: int


def open_dbn(path: str | Path, schemas: tuple[str, ...], what: str) -> DbnFile:
    """Open a file and judge its header.

    Parameters
    ----------
    path : str or Path
    schemas : tuple of str
        Schemas that will do.
    what : str
        What they are needed for, for the error.

    Raises
    ------
    MissingExtraError
        If the decoder is not installed.
    FileFormatError
        If the file is missing, no DBN file, truncated, of another dataset, or of another schema.
    """
    path = Path(path)
    head = read_header(path)
    if head.schema not in schemas:
        held = "the mixed schemas of a live session" if head.schema == LIVE else head.schema
        raise FileFormatError(f"{path}: holds {held}; {what} needs {_listed(schemas)}")
    dtype = layout(head.schema, head.version, head.metadata.ts_out)
    return DbnFile(path, head.schema, head.metadata, dtype, head.offset)


def read_header(path: Path) -> Header:
    """Read what stands before the records.

    Raises
    ------
    MissingExtraError
        If the decoder is not installed.
    FileFormatError
        If the file is missing, no DBN file, truncated in its header, or of another dataset.
    """
    decoder = _decoder()
    stream = chunks(path)
    head = _take(stream, b"", _HEADER)
    if len(head) < _HEADER or head[:3] != b"DBN":
        raise FileFormatError(
            f"{path}: no DBN file; give one written by databento, plain (.dbn) or zstd (.dbn.zst)"
            if len(head) >= _HEADER
            else f"{path}: too short for a DBN file; fetch it again"
        )
    length = int.from_bytes(head[4:_HEADER], "little")
    if length > _METADATA_LIMIT:
        raise FileFormatError(f"{path}: its header is damaged; fetch it again")
    head = _take(stream, head, _HEADER + length)
    if len(head) < _HEADER + length:
        raise FileFormatError(f"{path}: ends in the middle of its header; fetch it again")
    stream.close()
    try:
        metadata = decoder.Metadata.decode(head[: _HEADER + length])
    except Exception as error:  # what a decoder in another language raises is not ours to list
        raise FileFormatError(f"{path}: its header cannot be decoded ({error}); fetch it again") from None
    if metadata.dataset != DATASET:
        raise FileFormatError(f"{path}: is of the dataset {metadata.dataset}; options are read from {DATASET} only")
    return Header(str(metadata.schema or LIVE), metadata, head[3], _HEADER + length)


def _listed(names: tuple[str, ...]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _decoder() -> Any:
    try:
        import databento_dbn
        import zstandard  # noqa: F401
    except ImportError:
        raise MissingExtraError("reading DBN files", "databento") from None
    return databento_dbn


def layout(schema: str, version: int, ts_out: bool) -> np.dtype[np.void]:
    """Layout of a record; the one place that touches the decoder's private tables."""
    decoder = _decoder()
    names = {
        "definition": {1: "InstrumentDefMsgV1", 2: "InstrumentDefMsgV2"}.get(version, "InstrumentDefMsg"),
        "statistics": {1: "StatMsgV1", 2: "StatMsgV1"}.get(version, "StatMsg"),
        "cmbp-1": "CMBP1Msg",
        "tcbbo": "CMBP1Msg",
        "mbp-1": "MBP1Msg",
        "symbol-mapping": "SymbolMappingMsgV1" if version == 1 else "SymbolMappingMsg",
    }
    fields = list(getattr(decoder, names.get(schema, "CBBOMsg"))._dtypes)
    return np.dtype([*fields, ("ts_out", "u8")] if ts_out else fields)


def chunks(path: Path, *, whole: bool = True) -> Generator[bytes, None, None]:
    """Yield the bytes of a file, decompressed; an incomplete frame at the end is an error unless ``whole`` is False."""
    import zstandard

    try:
        with path.open("rb") as file:
            first = file.read(4)
            file.seek(0)
            if first != _ZSTD_MAGIC:
                while data := file.read(_READ):
                    yield data
                return
            frame, begun = zstandard.ZstdDecompressor().decompressobj(), False
            while data := file.read(_READ):
                while data:
                    begun = True
                    yield frame.decompress(data)
                    data = b""
                    if frame.eof:
                        data, begun = frame.unused_data, False
                        frame = zstandard.ZstdDecompressor().decompressobj()
            if begun and whole:
                raise FileFormatError(f"{path}: the zstd stream ends early: the file is truncated; fetch it again")
    except FileNotFoundError:
        raise FileFormatError(f"{path}: no such file") from None
    except zstandard.ZstdError as error:
        raise FileFormatError(f"{path}: damaged zstd stream ({error}); fetch it again") from None
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror})") from None


def _take(stream: Iterator[bytes], have: bytes, n: int) -> bytes:
    """At least ``n`` bytes, where there are as many."""
    parts, total = [have], len(have)
    while total < n and (data := next(stream, None)) is not None:
        parts.append(data)
        total += len(data)
    return b"".join(parts)


def rebuffered(stream: Iterator[bytes], skip: int, size: int) -> Iterator[bytes]:
    """Yield the stream after ``skip`` bytes in pieces of ``size``, the last one shorter."""
    buffer = bytearray()
    for data in stream:
        if skip:
            data, skip = data[skip:], max(skip - len(data), 0)
        buffer += data
        while len(buffer) >= size:
            yield bytes(memoryview(buffer)[:size])
            del buffer[:size]
    if buffer:
        yield bytes(buffer)

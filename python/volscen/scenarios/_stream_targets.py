"""Where streamed blocks go: a zarr store, which many processes may write at once, or a NetCDF file, which one may."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK

from volscen._zarr import zarr_encoding

__all__ = ["Block", "NetcdfTarget", "Target", "ZarrTarget", "checksum"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Block:
    """Scenarios [start, stop) of one date (``row`` of ``as_of``), the ``number``-th of that date."""

    row: int
    number: int
    start: int
    stop: int

    @property
    def label(self) -> str:
        """Name of the file that says it is done."""
        return f"{self.row}-{self.number}"

    def region(self, dims: Sequence[str]) -> tuple[slice, ...]:
        """Place in an array."""
        own = {"as_of": slice(self.row, self.row + 1), "scenario": slice(self.start, self.stop)}
        return tuple(own.get(dim, slice(None)) for dim in dims)


class Target(Protocol):
    """What a streamed write goes to."""

    def create(self, ds: xr.Dataset, streamed: Sequence[str], blocks: int, compression: int) -> None:
        """Make it, with all but the values of the streamed variables; ``blocks`` is the scenarios of one."""

    def put(self, dims: Mapping[str, tuple[str, ...]], block: Block, values: Mapping[str, Array]) -> None:
        """Write a block of some variables."""

    def get(self, name: str, dims: tuple[str, ...], block: Block) -> Array:
        """Read a block of one variable."""

    def finish(self, attributes: Mapping[str, Any], dropped: Sequence[str]) -> None:
        """Set and drop global attributes, and close it."""

    def close(self) -> None:
        """Leave it as it is, also in the middle of work."""


def checksum(values: Mapping[str, Array]) -> int:
    """CRC-32 of the values of several variables, in the order of their names."""
    found = 0
    for name in sorted(values):
        found = zlib.crc32(np.ascontiguousarray(values[name]).reshape(-1).view(np.uint8).data, found)
    return found


@dataclass(frozen=True)
class ZarrTarget:
    """A zarr store whose chunks are the blocks; known by its path, so that workers of a cluster can write to it."""

    path: Path

    def create(self, ds: xr.Dataset, streamed: Sequence[str], blocks: int, compression: int) -> None:
        """See :class:`Target`."""
        import dask.array as da

        template = ds.drop_encoding()
        encoding = zarr_encoding(template, compression)
        for name in streamed:
            variable = ds[name]
            own = {"as_of": 1, "scenario": blocks}
            chunks = tuple(min(own.get(str(d), s), s) for d, s in variable.sizes.items())
            zeros = da.zeros(variable.shape, dtype=variable.dtype, chunks=chunks)
            template[name] = variable.dims, zeros, variable.attrs
            encoding[name]["chunks"] = chunks
        # Format 2: texts, such as names of assets, have no settled form in format 3 yet.
        template.to_zarr(self.path, mode="w", consolidated=False, zarr_format=2, compute=False, encoding=encoding)

    def put(self, dims: Mapping[str, tuple[str, ...]], block: Block, values: Mapping[str, Array]) -> None:
        """See :class:`Target`."""
        group = self._group()
        for name, value in values.items():
            array, region = group[name], block.region(dims[name])
            array[region] = value.reshape(_shape(region, array.shape))

    def get(self, name: str, dims: tuple[str, ...], block: Block) -> Array:
        """See :class:`Target`."""
        return np.asarray(self._group()[name][block.region(dims)])

    def finish(self, attributes: Mapping[str, Any], dropped: Sequence[str]) -> None:
        """See :class:`Target`."""
        group = self._group()
        kept = {key: value for key, value in dict(group.attrs).items() if key not in dropped}
        group.attrs.put(kept | {key: np.asarray(value).tolist() for key, value in attributes.items()})

    def close(self) -> None:
        """See :class:`Target`."""

    def _group(self) -> Any:
        import zarr

        return zarr.open_group(str(self.path), mode="r+")


@dataclass
class NetcdfTarget:
    """A NetCDF-4 file, written by one process.

    Uncompressed variables are contiguous and have their place in the file before the first block comes, so that nothing
    but values changes from then on and a killed write leaves a file that can be opened. The lock is xarray's own: the
    library beneath bears one thread at a time, and blocks may be read from another file of its meanwhile.
    """

    path: Path
    _file: Any = None
    _closed: bool = False
    _lock: Any = NETCDF4_PYTHON_LOCK

    def create(self, ds: xr.Dataset, streamed: Sequence[str], blocks: int, compression: int) -> None:
        """See :class:`Target`."""
        import netCDF4

        rest = ds.drop_vars(list(streamed))
        packed: dict[str, Any] = {"zlib": True, "complevel": compression} if compression else {}
        encoding = {str(name): packed for name, v in rest.data_vars.items() if v.ndim and packed}
        rest.to_netcdf(self.path, engine="netcdf4", format="NETCDF4", encoding=encoding or None)
        with self._lock, netCDF4.Dataset(self.path, "a") as file:
            file.set_fill_off()  # every value will be written: none is filled in before
            for dim, length in ds.sizes.items():
                if dim not in file.dimensions:
                    file.createDimension(str(dim), length)
            for name in streamed:
                source = ds[name]
                own = {"as_of": 1, "scenario": blocks}
                chunks = [min(own.get(str(d), s), s) for d, s in source.sizes.items()]
                missing = source.dtype.type(np.nan) if source.dtype.kind == "f" else None  # as xarray marks floats
                variable = file.createVariable(
                    name, source.dtype, tuple(map(str, source.dims)), fill_value=missing, **packed,
                    **({"chunksizes": chunks} if packed else {"contiguous": True}),
                )  # fmt: skip
                beside = [str(c) for c in ds.coords if c not in ds.dims and set(ds[c].dims) <= set(source.dims)]
                variable.setncatts(source.attrs | ({"coordinates": " ".join(sorted(beside))} if beside else {}))
                if not packed:
                    variable[tuple(slice(s - 1, s) for s in source.shape)] = np.zeros((1,) * source.ndim, source.dtype)

    def put(self, dims: Mapping[str, tuple[str, ...]], block: Block, values: Mapping[str, Array]) -> None:
        """See :class:`Target`."""
        with self._lock:
            file = self._open()
            for name, value in values.items():
                variable, region = file.variables[name], block.region(dims[name])
                variable[region] = value.reshape(_shape(region, variable.shape))
            file.sync()

    def get(self, name: str, dims: tuple[str, ...], block: Block) -> Array:
        """See :class:`Target`."""
        with self._lock:
            return np.asarray(self._open().variables[name][block.region(dims)])

    def finish(self, attributes: Mapping[str, Any], dropped: Sequence[str]) -> None:
        """See :class:`Target`."""
        with self._lock:
            file = self._open()
            for key, value in attributes.items():
                file.setncattr(key, value)
            for key in dropped:
                if key in file.ncattrs():
                    file.delncattr(key)
        self.close()

    def close(self) -> None:
        """See :class:`Target`."""
        with self._lock:
            self._closed = True
            if self._file is not None:
                self._file.close()
                self._file = None

    def _open(self) -> Any:
        if self._closed:  # by the main thread, after an error or Ctrl-C
            raise RuntimeError("the file is closed")
        if self._file is None:
            import netCDF4

            self._file = netCDF4.Dataset(self.path, "a")
            self._file.set_auto_maskandscale(False)
        return self._file


def _shape(region: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(len(range(*part.indices(length))) for part, length in zip(region, shape, strict=True))

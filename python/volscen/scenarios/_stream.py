"""Writing a lazy cube in bounded memory: blocks as they are drawn, then the weights, which need all penalties.

Memory holds the blocks in work and, of each scenario and date, its path penalty and its weight.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from tqdm import tqdm

from volscen._files import interrupt_deferred, put_file_in_place
from volscen._reweight import warn_of_few_effective, weighing_penalty, weight_attributes, weight_dataset
from volscen._threads import resolve_num_threads
from volscen._version import __version__
from volscen._workers import active_client
from volscen._zarr import put_folder_in_place
from volscen.errors import InputError
from volscen.scenarios._blocks import Plan
from volscen.scenarios._given import count_distinct, path_keys, warn_of_few
from volscen.scenarios._lazy import Drawing, draw_chunk
from volscen.scenarios._stream_notes import BlockNote, found_in_notes
from volscen.scenarios._stream_targets import Block, NetcdfTarget, Target, ZarrTarget, checksum
from volscen.scenarios._unfinished import NOTES, Unfinished
from volscen.schema import SCENARIOS

__all__ = ["is_streamed", "stream"]

Array = npt.NDArray[Any]
Dims = Mapping[str, tuple[str, ...]]

#: Blocks that a cluster is given ahead of the writer of a NetCDF file, for each of its threads.
_AHEAD = 2


def is_streamed(ds: xr.Dataset) -> bool:
    """Whether a dataset is a lazy cube, to be written block by block."""
    return ds.attrs.get("schema") == SCENARIOS and bool(_lazy(ds))


def _lazy(ds: xr.Dataset) -> list[str]:
    return [str(name) for name, v in ds.data_vars.items() if v.chunks is not None and "scenario" in v.dims]


def stream(ds: xr.Dataset, path: Path, *, compression: int, resume: bool) -> None:
    """Write a lazy cube; see :func:`volscen.write`."""
    ds, drawing = _aligned(ds)
    names = [name for name in _lazy(ds) if name != "weight"]
    blocks = _blocks(ds, names)
    netcdf = path.suffix != ".zarr"
    if resume and netcdf and compression:
        raise InputError("resume: a compressed NetCDF file cannot be resumed; leave compression out, or write a .zarr")
    unfinished = Unfinished(path, _record(ds, drawing, blocks, path.suffix, compression))
    kept, doubts = resume, None
    try:
        with interrupt_deferred():  # before the folder is known as ours nobody would remove it
            unfinished.open(resume=resume)
        store = unfinished.folder / f"store{path.suffix}"
        with closing((NetcdfTarget if netcdf else ZarrTarget)(store)) as target:
            if not unfinished.goes_on:
                with interrupt_deferred():  # zarr's own thread would go on writing to a folder that is being removed
                    target.create(ds, _lazy(ds), blocks[0].stop, compression)
                unfinished.begun()
            dims = {name: tuple(map(str, ds[name].dims)) for name in [*names, "weight"]}
            todo = _not_done(unfinished, target, dims, names, blocks)
            bar = tqdm(total=len(blocks), desc="write", unit="block", disable=None, delay=1.0, leave=False)
            with bar:
                bar.update(len(blocks) - len(todo))
                work = _Work(ds, drawing, names, dims, target, unfinished.done_folder)
                _write(work, todo, bar.update)
            found, weight, dropped = _weigh(ds, dims, target, blocks, names)
            if work.plan is not None:
                weighed = bool(np.any(np.asarray(found.get("beta", ds.attrs.get("beta", 0.0))) > 0))
                attributes, doubts = found_in_notes(
                    ds, work.plan, unfinished.folder / NOTES, blocks, weight, weighed=weighed
                )
                found |= attributes
            with interrupt_deferred():
                target.finish(found, dropped)
            unfinished.ended()
            (put_file_in_place if netcdf else put_folder_in_place)(store, path)
        kept = False
    finally:
        with interrupt_deferred():
            unfinished.close(keep=kept)
    # Once the file is there: warnings may be errors.
    if "distinct_scenarios" in found:
        counts = np.atleast_1d(found["distinct_scenarios"])
        warn_of_few(counts, ds.sizes["scenario"], ds.attrs["given"], ds.attrs["generator"], stacklevel=3)
    if doubts is not None:
        doubts.tell(stacklevel=3)
    if "ess_fraction" in found:
        warn_of_few_effective(ds.assign_attrs(ess_fraction=found["ess_fraction"]), stacklevel=3)


# -------------------------------------------------------------------------------------------- what is written
def _aligned(ds: xr.Dataset) -> tuple[xr.Dataset, Drawing | None]:
    """The dataset in chunks of dates and scenarios alone, and the drawing that its lazy variables are, if of one."""
    lazy = _lazy(ds)
    small = [str(name) for name, v in ds.data_vars.items() if v.chunks is not None and name not in lazy]
    ds = ds.assign({name: ds[name].compute() for name in small})
    drawing = Drawing.of(ds, lazy) if "beta_requested" in ds.attrs and "weight" in lazy else None
    if drawing is not None:
        return ds, drawing
    drawn = [name for name in lazy if name != "weight"] or lazy
    together = ds[drawn].unify_chunks()
    size = max(together.chunksizes["scenario"])
    wanted = {dim: 1 if dim == "as_of" else size if dim == "scenario" else -1 for dim in together.dims}
    ds = ds.assign({name: together[name].chunk({d: wanted[d] for d in together[name].dims}) for name in drawn})
    if "weight" in lazy:  # of all penalties, or whatever the user made of them
        ds = ds.assign(weight=ds["weight"].compute())
    return ds, Drawing.of(ds, drawn)


def _blocks(ds: xr.Dataset, names: Sequence[str]) -> list[Block]:
    size = max(ds[names].chunksizes["scenario"])
    n = ds.sizes["scenario"]
    return [
        Block(row, i, start, min(start + size, n))
        for row in range(ds.sizes.get("as_of", 1))
        for i, start in enumerate(range(0, n, size))
    ]


def _record(
    ds: xr.Dataset, drawing: Drawing | None, blocks: Sequence[Block], suffix: str, compression: int
) -> dict[str, Any]:
    """All that decides the bits of the file."""
    digest = hashlib.sha256()
    for name, variable in sorted(ds.variables.items(), key=lambda pair: str(pair[0])):
        if variable.chunks is None:
            digest.update(f"{name} {variable.dims} {variable.dtype} {variable.shape}".encode())
            values = np.ascontiguousarray(variable.values)
            digest.update(values.tobytes() if values.dtype.hasobject else values.reshape(-1).view(np.uint8).data)
    attributes = {str(key): np.asarray(value).tolist() for key, value in ds.attrs.items()}
    del attributes["history"]  # bears the time of the call
    lazy = {name: ds[name].data.name for name in _lazy(ds)}
    return attributes | {
        "volscen_version": __version__,
        "format": suffix,
        "compression": compression,
        "sizes": {str(dim): length for dim, length in ds.sizes.items()},
        "dtype": str(ds["implied_vol"].dtype),
        "chunks": blocks[0].stop,
        "variables": sorted(map(str, ds.variables)),
        "variables_in_memory": digest.hexdigest(),
        "drawing": lazy if drawing is None else drawing.token,
    }


def _not_done(
    unfinished: Unfinished, target: Target, dims: Dims, names: Sequence[str], blocks: Sequence[Block]
) -> list[Block]:
    """Blocks that are not in the store yet, as they were written."""
    done = unfinished.done()

    def is_missing(block: Block) -> bool:
        if block.label not in done:
            return True
        try:
            held = {name: target.get(name, dims[name], block) for name in _of(block, dims, names)}
        except Exception:  # the libraries below raise whatever a damaged chunk makes them stumble over
            return True
        return checksum(held) != done[block.label]

    with ThreadPoolExecutor(resolve_num_threads(None)) as pool:
        return [block for block, missing in zip(blocks, pool.map(is_missing, blocks), strict=True) if missing]


def _of(block: Block, dims: Dims, names: Sequence[str]) -> list[str]:
    """Variables that a block writes: those without dates once."""
    return [name for name in names if "as_of" in dims[name] or block.row == 0]


# ------------------------------------------------------------------------------------------------- the blocks
class _Work:
    """Tasks that draw and write blocks."""

    def __init__(
        self,
        ds: xr.Dataset,
        drawing: Drawing | None,
        names: Sequence[str],
        dims: Dims,
        target: Target,
        done: Path,
    ) -> None:
        self._ds, self._drawing, self._names, self._dims = ds, drawing, names, dims
        self.target, self.done = target, done
        self._run = uuid.uuid4().hex  # writing is never the same task twice
        self._graph: dict[Any, Any] = {}
        self.plan: Plan | None = None
        if drawing is None:
            for name in names:
                self._graph |= dict(ds[name].data.__dask_graph__())
        else:  # the model and the states alone: what is drawn is written by the same task
            layer = ds[names[0]].data.__dask_graph__().layers[drawing.name]
            self._graph = {key: layer[key] for key in layer if key[0] != drawing.name}
            self.plan = layer[drawing.plan] if _is_judged(names) else None

    def key(self, block: Block) -> str:
        """Name of a block's task."""
        return f"volscen-write-{self._run}-{block.label}"

    def delayed(self, blocks: Sequence[Block], *, put: bool) -> list[Any]:
        """Blocks as dask objects: written where they are drawn, or handed back with their values."""
        from dask.delayed import Delayed
        from dask.highlevelgraph import HighLevelGraph

        graph = dict(self._graph)
        target, done = (self.target, self.done) if put else (None, None)
        for block in blocks:
            names = _of(block, self._dims, self._names)
            dims = {name: self._dims[name] for name in names}
            if self._drawing is not None:
                model = self._drawing.plan, self._drawing.state(block.row)
                graph[self.key(block)] = (_draw, target, done, dims, block, *model)
            else:
                parts = [self._part(name, block) for name in names]
                graph[self.key(block)] = (_gather, target, done, dims, block, parts)
        layered = HighLevelGraph({self._run: graph}, {self._run: set()})
        return [Delayed(self.key(block), layered, layer=self._run) for block in blocks]

    def put(self, block: Block, values: dict[str, Array]) -> None:
        """Write a block that was drawn elsewhere."""
        _put(self.target, self.done, {name: self._dims[name] for name in values}, block, values, self.plan)

    def _part(self, name: str, block: Block) -> tuple[Any, ...]:
        places = {"as_of": block.row, "scenario": block.number}
        return self._ds[name].data.name, *(places.get(dim, 0) for dim in self._dims[name])


def _is_judged(names: Collection[str]) -> bool:
    """Whether the returns and surfaces written are those drawn; where the user put others in place, nothing is said."""
    return {"log_return", "implied_vol"} <= set(names)


def _draw(
    target: Target | None, done: Path | None, dims: Dims, block: Block, plan: Any, state: Any
) -> dict[str, Array] | None:
    drawn = draw_chunk(plan, state, block.start, block.stop)
    return _put(target, done, dims, block, {name: drawn[name] for name in dims}, plan if _is_judged(dims) else None)


def _gather(
    target: Target | None, done: Path | None, dims: Dims, block: Block, parts: list[Array]
) -> dict[str, Array] | None:
    return _put(target, done, dims, block, dict(zip(dims, map(np.asarray, parts), strict=True)))


def _put(
    target: Target | None,
    done: Path | None,
    dims: Dims,
    block: Block,
    values: dict[str, Array],
    plan: Plan | None = None,
) -> dict[str, Array] | None:
    if target is None or done is None:
        return values
    if not done.is_dir():  # the writer has given up, and this worker was not told in time
        raise InputError(f"{done}: no such folder; workers must see the file system that is written to")
    target.put(dims, block, values)
    if plan is not None:  # before the block counts as done
        BlockNote.of(plan, block, values).write(done.parent / NOTES, block)
    (done / block.label).write_text(str(checksum(values)))
    return None


def _write(work: _Work, blocks: Sequence[Block], tick: Callable[[], Any]) -> None:
    """Write blocks, by the cluster where one is active, else by dask's scheduler of this machine."""
    if not blocks:
        return
    client = active_client()
    if client is None:
        _write_here(work, blocks, tick)
    else:
        _write_on_cluster(work, blocks, tick, client)


def _write_here(work: _Work, blocks: Sequence[Block], tick: Callable[[], Any]) -> None:
    import dask
    from dask.callbacks import Callback

    keys = {work.key(block) for block in blocks}

    def posted(key: Any, *_: Any) -> None:
        if key in keys:
            tick()

    with ExitStack() as stack:
        stack.enter_context(Callback(posttask=posted))
        if isinstance(work.target, NetcdfTarget) or dask.config.get("scheduler", None) in (None, "threads"):
            # A pool of its own ends with the block: after an error nobody writes any more.
            threads = dask.config.get("num_workers", None) or resolve_num_threads(None)
            pool = stack.enter_context(ThreadPoolExecutor(threads))
            stack.enter_context(dask.config.set(pool=pool, scheduler="threads"))
        dask.compute(*work.delayed(blocks, put=True))


def _write_on_cluster(work: _Work, blocks: Sequence[Block], tick: Callable[[], Any], client: Any) -> None:
    from dask import config
    from distributed import as_completed

    shared = isinstance(work.target, ZarrTarget)
    # Workers write zarr themselves. What a NetCDF file takes comes here, and may not come faster than it is written.
    ahead = len(blocks) if shared else max(1, _AHEAD * sum(client.nthreads().values()))
    batches = deque(blocks[start : start + ahead] for start in range(0, len(blocks), ahead))
    pending: deque[dict[str, tuple[Block, Any]]] = deque()
    try:
        while batches or pending:
            while batches and len(pending) < 2:
                batch = batches.popleft()
                with config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}):
                    futures = client.compute(work.delayed(batch, put=shared))
                pending.append({f.key: (block, f) for block, f in zip(batch, futures, strict=True)})
                del futures
            waiting = pending[0]
            for future, values in as_completed([future for _, future in waiting.values()], with_results=True):
                block = waiting.pop(future.key)[0]
                if values is not None:
                    work.put(block, values)
                tick()
            pending.popleft()
    finally:
        client.cancel([future for waiting in pending for _, future in waiting.values()])


# ------------------------------------------------------------------------------------------------ the weights
def _weigh(
    ds: xr.Dataset, dims: Dims, target: Target, blocks: Sequence[Block], names: Sequence[str]
) -> tuple[dict[str, Any], Array, list[str]]:
    """Global attributes to set, the weights, which are written where they were waiting, and attributes to drop."""
    found: dict[str, Any] = {}
    rows, n = ds.sizes.get("as_of", 1), ds.sizes["scenario"]
    if ds.attrs.get("given") is not None and {"log_return", "implied_vol"} <= set(names):
        parts: list[list[Array]] = [[] for _ in range(rows)]
        for block in blocks:
            log_return, implied_vol = (target.get(v, dims[v], block) for v in ("log_return", "implied_vol"))
            parts[block.row].append(path_keys(log_return, implied_vol).reshape(block.stop - block.start, -1))
        counts = np.array([count_distinct(part) for part in parts])
        found["distinct_scenarios"] = counts if rows > 1 else int(counts[0])
    if "beta_requested" not in ds.attrs:
        return found, ds["weight"].values, []
    name, beta = weighing_penalty(ds), ds.attrs["beta_requested"]
    dims = {**dims, name: tuple(map(str, ds[name].dims))}  # which may not be among those written, but in memory
    penalty = np.empty((rows, n))
    for block in blocks:
        values = target.get(name, dims[name], block) if name in names else ds[name].values[block.region(dims[name])]
        penalty[block.row, block.start : block.stop] = values.astype(np.float64, copy=False).sum(axis=-1).reshape(-1)
    path = penalty if "as_of" in dims[name] else penalty[0]  # no copy: it has the size of all scenarios
    if ds["weight"].chunks is None:
        weight = ds["weight"].values
        found["beta"], found["ess_fraction"] = weight_attributes(path[..., None], weight, beta)
    else:
        small = xr.Dataset({name: (dims[name], path[..., None])})
        weight_dataset(small, beta)
        weight = small["weight"].values
        for block in blocks:
            region = block.region(dims["weight"])
            target.put(dims, block, {"weight": weight[region]})
        found |= {key: small.attrs[key] for key in ("beta", "ess_fraction", "beta_note") if key in small.attrs}
    return found, weight, ["beta_requested"]

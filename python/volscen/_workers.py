"""One way to map work over dates: in this process, in processes of this machine, or on a cluster."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

from volscen._numbers import whole_number
from volscen._threads import single_threaded_blas
from volscen.errors import InputError, MissingExtraError

__all__ = ["active_client", "check_workers", "map_in_order"]

Result = TypeVar("Result")

#: Tasks that each thread of a cluster, or each process, is given ahead.
_AHEAD = 2

#: Arguments below this many bytes, or of plain types, travel with every task.
_PLAIN = (int, float, str, bytes, bool, type(None), np.generic)


def active_client(client: Any = None) -> Any:
    """The client given, else the one that is active in this process, else None.

    Raises
    ------
    InputError
        If what is given is no client of ``dask.distributed``.
    """
    if client is None:
        distributed = sys.modules.get("distributed")
        if distributed is None:
            return None
        try:
            return distributed.default_client()
        except ValueError:  # there is none
            return None
    try:
        from distributed import Client
    except ImportError:
        raise MissingExtraError("client=", "distributed") from None
    if not isinstance(client, Client):
        raise InputError(f"client must be a dask.distributed.Client, not {client!r}; Client(address) makes one")
    return client


def check_workers(num_workers: Any, client: Any = None, *, otherwise: int = 1) -> tuple[int, Any]:
    """Number of processes and cluster's client, of which the latter goes before where it is not None.

    Parameters
    ----------
    num_workers : int or None
        Processes of this machine; None for an active cluster, else ``otherwise``.
    client : distributed.Client or None
    otherwise : int
        Processes where neither is given and no cluster is active.
    """
    if num_workers is None:
        return otherwise, active_client(client)
    if client is not None:
        raise InputError("give client, for a cluster, or num_workers, for processes of this machine; not both")
    return whole_number("num_workers", num_workers), None


def map_in_order(
    function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], *, num_workers: int = 1, client: Any = None
) -> Iterator[Result]:
    """Results of a function of each task's arguments, in the order of the tasks.

    Parameters
    ----------
    function : callable
        Known by name to other processes. It runs with one BLAS thread everywhere, so that bits do not depend on where.
    tasks : iterable of tuple
        Arguments. Taken a few ahead of the results, in this process. An argument that is the same object as the
        last task's is sent to a cluster once.
    num_workers : int
        Processes of this machine; one is this one.
    client : distributed.Client, optional
        Of the cluster to use in their place. Tasks of a worker that dies are done by others.
    """
    if client is not None:
        yield from _on_cluster(function, tasks, client)
    elif num_workers <= 1:
        for task in tasks:
            yield _call(function, *task)
    else:
        # loky starts clean interpreters that do not run the user's script again, and leaves none behind on Ctrl-C.
        from joblib import Parallel, delayed

        yield from Parallel(n_jobs=num_workers, return_as="generator", pre_dispatch=f"{1 + _AHEAD} * n_jobs")(
            delayed(_call)(function, *task) for task in tasks
        )


def _call(function: Callable[..., Result], *arguments: Any) -> Result:
    with single_threaded_blas():
        return function(*arguments)


def _same(value: Any) -> Any:
    return value


def _on_cluster(function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], client: Any) -> Iterator[Result]:
    from dask import config

    ahead = max(1, (1 + _AHEAD) * sum(client.nthreads().values()))
    held: dict[int, tuple[Any, Any]] = {}
    pending: deque[Any] = deque()

    def sent(place: int, value: Any) -> Any:
        if isinstance(value, _PLAIN):
            return value
        if place not in held or held[place][0] is not value:
            # A task rather than scattered data: it can be run again should the workers that hold the result die.
            held[place] = value, client.submit(_same, value, pure=False)
        return held[place][1]

    def submit(task: tuple[Any, ...]) -> None:
        with config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}):
            arguments = [sent(place, value) for place, value in enumerate(task)]
            pending.append(client.submit(_call, function, *arguments, pure=False))

    try:
        for task in tasks:
            submit(task)
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        client.cancel(list(pending))

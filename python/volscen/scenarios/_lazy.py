"""Lazy cubes: the draws of a plan described as a dask graph, one task for each date and chunk of scenarios."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._reweight import Beta, arbitrage_weights, weighing_penalty
from volscen._threads import single_threaded_blas
from volscen.errors import MissingExtraError
from volscen.generators import REGISTRY, Generator, generator_class
from volscen.history import State
from volscen.scenarios._blocks import Plan, draw_block, pieces

__all__ = ["Drawing", "draw_chunk", "fill_lazily", "generator_fingerprint"]

Array = npt.NDArray[Any]

_PREFIX = "volscen"


def draw_chunk(plan: Plan, state: State, start: int, stop: int) -> dict[str, Array]:
    """Scenarios [start, stop) of one date, by name of the variable."""
    drawn = {name: np.empty((stop - start, *tail), kind) for name, (tail, kind) in plan.variables.items()}
    with single_threaded_blas():
        for block, part, place in pieces(start, stop):
            for name, values in draw_block(plan, state, block, part).items():
                drawn[name][place] = values
    # As set_draws compounds whole cubes; every path on its own, so that chunks change nothing.
    drawn["spot"] = state.spot * np.exp(np.cumsum(drawn["log_return"], axis=-1))
    return drawn


def fill_lazily(ds: xr.Dataset, plan: Plan, states: Sequence[State], size: int, beta: Beta) -> None:
    """Set the drawn variables, ``spot`` and ``weight`` of a dataset, in place, as arrays of dask.

    Parameters
    ----------
    ds : xarray.Dataset
        With the dimension ``as_of``, or of one date without it.
    plan : Plan
    states : sequence of State
        One per date.
    size : int
        Scenarios per chunk.
    beta : float, "auto" or "paper"
        Strength of the weights, recorded as the attribute ``beta_requested``.
    """
    try:
        import dask.array as da
        from dask.highlevelgraph import HighLevelGraph
    except ImportError:
        raise MissingExtraError("chunks=", "distributed") from None
    n, many = plan.n_scenarios, "as_of" in ds.dims
    starts = range(0, n, size)
    drawing = Drawing(_token(plan, states, size))
    # The model and each state are keys of the graph of their own: a cluster sends each once to each worker.
    layer: dict[Any, Any] = {drawing.plan: plan}
    for row, state in enumerate(states):
        layer[drawing.state(row)] = state
        for i, start in enumerate(starts):
            bounds = (start, min(start + size, n))
            layer[drawing.block(row, i)] = (draw_chunk, drawing.plan, drawing.state(row), *bounds)
    places = {(row, i): (row, i) if many else (i,) for row in range(len(states)) for i in range(len(starts))}

    def array(name: str, tasks: dict[Any, Any], tail: tuple[int, ...], kind: Any, **before: dict[Any, Any]) -> Any:
        key = drawing.variable(name)
        layers = {drawing.name: layer, **before, key: tasks}
        graph = HighLevelGraph(layers, dict(zip(layers, [set(), *({one} for one in list(layers)[:-1])], strict=True)))
        lengths = (n,) if name == "weight" else tuple(min(size, n - start) for start in starts)
        chunks = ((1,) * len(states),) * many + (lengths, *((length,) for length in tail))
        dims = ("as_of",) * many + ("scenario", "step", "tau", "moneyness")[: 1 + len(tail)]
        ds[name] = dims, da.Array(graph, key, chunks, dtype=kind)
        return tasks

    made = {}
    for name, (tail, kind) in (plan.variables | {"spot": plan.variables["log_return"]}).items():
        tasks = {
            (drawing.variable(name), *place, *(0 for _ in tail)): (_pick, drawing.block(*block), name, many)
            for block, place in places.items()
        }
        made[name] = array(name, tasks, tail, kind)
    penalty = weighing_penalty(plan.variables)
    weights = {
        (drawing.variable("weight"), *place[:-1], 0): (
            _weigh,
            [(drawing.variable(penalty), *place[:-1], i, 0) for i in range(len(starts))],
            beta,
            many,
        )
        for (_, i), place in places.items()
        if i == 0
    }
    array("weight", weights, (), np.dtype(np.float64), **{drawing.variable(penalty): made[penalty]})
    ds.attrs["beta_requested"] = beta


def _pick(drawn: dict[str, Array], name: str, many: bool) -> Array:
    return drawn[name][None] if many else drawn[name]


def _weigh(penalties: list[Array], beta: Beta, many: bool) -> Array:
    weight = arbitrage_weights(np.concatenate(penalties, axis=-2).sum(axis=-1).reshape(-1), beta)[0]
    return weight[None] if many else weight


@dataclass(frozen=True)
class Drawing:
    """Names of the parts of a graph: they tell what is drawn, so that two cubes of one name hold the same bits."""

    token: str

    @classmethod
    def of(cls, ds: xr.Dataset, names: Sequence[str]) -> Self | None:
        """The drawing that all these variables are of, unchanged; None where one is something else."""
        found = {name: str(getattr(ds[name].data, "name", "")) for name in names}
        tokens = {key.rpartition("-")[2] for key in found.values()}
        if len(tokens) != 1:
            return None
        drawing = cls(tokens.pop())
        whole = all(key == drawing.variable(name) for name, key in found.items())
        # Of what was persisted or optimised the names are left, and the plan is not.
        return drawing if whole and drawing.name in ds[names[0]].data.__dask_graph__().layers else None

    @property
    def name(self) -> str:
        """Layer of the draws."""
        return f"{_PREFIX}-draw-{self.token}"

    @property
    def plan(self) -> str:
        """Key of the plan."""
        return f"{_PREFIX}-plan-{self.token}"

    def state(self, row: int) -> tuple[str, int]:
        """Key of a starting state."""
        return f"{_PREFIX}-state-{self.token}", row

    def block(self, row: int, i: int) -> tuple[str, int, int]:
        """Key of a chunk of one date, all variables."""
        return self.name, row, i

    def variable(self, name: str) -> str:
        """Name of the array of one variable."""
        return f"{_PREFIX}-{name}-{self.token}"


def generator_fingerprint(generator: Generator) -> str:
    """SHA-256 (hex) of what a fitted generator holds; of a class of the user's own, of the object as it is pickled."""
    digest = hashlib.sha256(f"{generator.name} {generator.parameters()} {generator.fingerprint_}".encode())
    if generator._device is not None:  # the same up to rounding is not the same
        digest.update(f"on {generator._device}".encode())
    arrays: Mapping[str, Array] = {"tau": generator.tau_, "moneyness": generator.moneyness_}
    if generator.name in REGISTRY and generator_class(generator.name) is type(generator):
        arrays = {**arrays, **generator.arrays()}
    else:  # whose arrays nothing was ever loaded from
        digest.update(_pickled(generator).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _pickled(what: Any) -> str:
    """Hash of an object; one of its own for what cannot be pickled, which is then like nothing else."""
    import joblib

    try:
        return str(joblib.hash(what))
    except Exception:  # pickle raises whatever it stumbles over
        return uuid.uuid4().hex


def _token(plan: Plan, states: Sequence[State], size: int) -> str:
    """Name that is the same for the same draws, in any process, and for no others."""
    given = "" if plan.given is None else _pickled(plan.given)
    digest = hashlib.sha256(
        repr((plan.seed, plan.n_scenarios, plan.horizon, plan.dtype.str, plan.project, given, size)).encode()
    )
    digest.update(generator_fingerprint(plan.generator).encode())
    for state in states:
        digest.update(f"{state.as_of} {state.spot!r}".encode())
        for known in (state.log_return, state.log_iv, state.forward, state.discount_factor):
            digest.update(np.ascontiguousarray(known).tobytes())
    return digest.hexdigest()[:32]

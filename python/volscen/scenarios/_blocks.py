"""Drawing scenarios block by block, each from random numbers of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen import arbitrage
from volscen.errors import FitError
from volscen.generators import BLOCK_SIZE, Generator
from volscen.history import State
from volscen.scenarios._given import Given
from volscen.scenarios._implausible import Known

__all__ = ["Plan", "block_rng", "draw_block", "finish_block", "pieces"]

Array = npt.NDArray[Any]

#: Beyond this a spot price of any size leaves float64.
_LARGEST_LOG_GROWTH = 600.0


@dataclass(frozen=True)
class Plan:
    """All that the draws of one call share."""

    generator: Generator
    seed: int
    n_scenarios: int
    horizon: int
    dtype: np.dtype[Any]
    project: bool
    given: Given | None = None
    #: What is known at each date, nothing where too little is; decides no bit of the draws.
    known: tuple[Known, ...] = ()

    @property
    def variables(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """What is drawn of each scenario: shape and type."""
        real = np.dtype(np.float64)
        surface = (self.horizon, self.generator.tau_.size, self.generator.moneyness_.size)
        drawn = {
            "log_return": ((self.horizon,), real),
            "implied_vol": (surface, self.dtype),
            "arbitrage_penalty": ((self.horizon,), real),
        }
        if self.project:
            drawn["arbitrage_penalty_raw"] = ((self.horizon,), real)
            drawn["projection_status"] = ((self.horizon,), np.dtype(np.int8))
        return drawn


def draw_block(plan: Plan, state: State, block: int, part: slice) -> dict[str, Array]:
    """Part of one block, drawn whole from random numbers of its own."""
    rng = block_rng(plan.seed, state.as_of, block)
    if plan.given is None:
        log_return, implied_vol = plan.generator.sample(state, BLOCK_SIZE, plan.horizon, rng)
    else:
        log_return, implied_vol = plan.generator.sample_given(state, BLOCK_SIZE, plan.horizon, rng, plan.given)
    return finish_block(plan, state, log_return, implied_vol, part)


def block_rng(seed: int, as_of: np.datetime64, block: int) -> np.random.Generator:
    """Random numbers of one block."""
    # Days since 1900, because a spawn key cannot be negative.
    day = int((as_of - np.datetime64("1900-01-01", "D")).astype(int))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(day, block))))


def finish_block(plan: Plan, state: State, log_return: Array, implied_vol: Array, part: slice) -> dict[str, Array]:
    """Part of what a generator drew, checked, rounded, judged and, if so planned, projected."""
    with np.errstate(over="ignore", under="ignore"):  # judged on the next line
        implied_vol = implied_vol.astype(plan.dtype)
    finite = np.isfinite(implied_vol).all() and (implied_vol > 0).all()
    # A path's spot is the exponential of its summed returns, which must stay a number.
    if not (finite and np.abs(log_return).sum(axis=1).max() < _LARGEST_LOG_GROWTH):
        raise FitError(
            f"generator {plan.generator.name!r} drew a return or surface that is not finite and positive at "
            f"{state.as_of}; its law explodes from this state: refit it, or shorten the horizon"
        )
    # Each surface is judged and projected on its own: the part that is wanted is enough.
    log_return, implied_vol = log_return[part], implied_vol[part]
    penalty = _penalty(plan, implied_vol)
    drawn = {"log_return": log_return, "implied_vol": implied_vol, "arbitrage_penalty": penalty}
    if plan.project:
        projected, status = arbitrage.project(
            implied_vol, plan.generator.tau_, plan.generator.moneyness_, num_threads=1
        )
        lost = int((status >= arbitrage.ProjectionStatus.FAILED).sum())
        if lost:
            raise FitError(
                f"{lost} surfaces drawn by generator {plan.generator.name!r} at {state.as_of} could not be projected: "
                "no surface without arbitrage was found near them; use project=False and the weights, or refit it"
            )
        drawn |= {
            "implied_vol": projected,
            "arbitrage_penalty": _penalty(plan, projected),
            "arbitrage_penalty_raw": penalty,
            "projection_status": status,
        }
    return drawn


def _penalty(plan: Plan, implied_vol: Array) -> Array:
    generator = plan.generator
    return np.asarray(
        arbitrage.penalty(implied_vol.astype(np.float64), generator.tau_, generator.moneyness_, num_threads=1)
    )


def pieces(start: int, stop: int) -> Iterator[tuple[int, slice, slice]]:
    """Blocks that cover scenarios [start, stop): number, part of the block, place in the output."""
    for block in range(start // BLOCK_SIZE, -(-stop // BLOCK_SIZE)):
        first = block * BLOCK_SIZE
        low, high = max(start, first), min(stop, first + BLOCK_SIZE)
        yield block, slice(low - first, high - first), slice(low - start, high - start)

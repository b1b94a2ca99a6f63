"""What is noted of each block of a streamed write, so that the whole can be judged without being read again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.generators import BLOCK_SIZE
from volscen.scenarios._blocks import Plan
from volscen.scenarios._given import few_moves, few_of, warn_of_few_moves
from volscen.scenarios._implausible import Beyond, Tally, beyond, judge, tell
from volscen.scenarios._stream_targets import Block

__all__ = ["BlockNote", "Doubts", "found_in_notes"]


@dataclass(frozen=True)
class BlockNote:
    """What a block holds that is worth a word.

    Attributes
    ----------
    far : Beyond
        Its scenarios beyond what is known, numbered as in the cube.
    moves : ndarray, shape (k, 2), or None
        What tells its first steps apart; None where they are many.
    """

    far: Beyond
    moves: npt.NDArray[np.float64] | None

    @classmethod
    def of(cls, plan: Plan, block: Block, values: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Look at the values of a block."""
        log_return, implied_vol = values["log_return"], values["implied_vol"]
        parts = [np.empty((0, 5))]
        for known in plan.known[block.row : block.row + 1]:
            # Blocks of a user's size would take several times their own memory at once.
            for start in range(0, len(log_return), BLOCK_SIZE):
                part = slice(start, start + BLOCK_SIZE)
                parts.append(beyond(known, log_return[part], implied_vol[part]).moved(block.start + start).rows)
        keys = None if plan.given is not None else few_moves(log_return, implied_vol, few_of(plan.n_scenarios))
        return cls(Beyond(np.concatenate(parts)), keys)

    def write(self, folder: Path, block: Block) -> None:
        """Leave it beside what says that the block is done."""
        with _path(folder, block).open("wb") as file:
            np.save(file, self.far.rows)
            if self.moves is not None:
                np.save(file, self.moves)

    @classmethod
    def read(cls, folder: Path, block: Block) -> Self:
        """Read what :meth:`write` left."""
        with _path(folder, block).open("rb") as file:
            far = np.load(file)
            return cls(Beyond(far), np.load(file) if file.peek(1) else None)


def _path(folder: Path, block: Block) -> Path:
    return folder / f"{block.label}.npy"


@dataclass(frozen=True)
class Doubts:
    """What is to be told of a cube once it is written."""

    text: str | None
    few: list[int | None]
    n_scenarios: int
    generator: str

    def tell(self, *, stacklevel: int) -> None:
        """Warn."""
        tell(self.text, stacklevel=stacklevel + 1)
        warn_of_few_moves(self.few, self.n_scenarios, self.generator, stacklevel=stacklevel + 1)


def found_in_notes(
    ds: xr.Dataset, plan: Plan, folder: Path, blocks: Sequence[Block], weight: npt.NDArray[np.float64], *, weighed: bool
) -> tuple[dict[str, Any], Doubts]:
    """Attributes that the notes of all blocks give, and what to tell; one note after the other is in memory."""
    rows: list[list[Block]] = [[] for _ in range(max(block.row for block in blocks) + 1)]
    for block in blocks:
        rows[block.row].append(block)
    text: str | None = None
    attributes: dict[str, Any] = {}
    if plan.known:
        pairs = zip(rows, np.atleast_2d(weight), strict=True)
        tallies = [Tally.of((BlockNote.read(folder, block).far for block in row), own) for row, own in pairs]
        attributes, text = judge(ds, plan.known, tallies, weighed=weighed)
    few = [_few((BlockNote.read(folder, block).moves for block in row), plan.n_scenarios) for row in rows]
    return attributes, Doubts(text, few, plan.n_scenarios, repr(plan.generator.name))


def _few(moves: Iterable[npt.NDArray[np.float64] | None], n: int) -> int | None:
    """Different first steps of all blocks, where they are few."""
    found = np.empty((0, 2))
    for some in moves:
        if some is None:
            return None
        found = np.unique(np.concatenate([found, some]), axis=0)
        if len(found) >= few_of(n):
            return None
    return len(found)

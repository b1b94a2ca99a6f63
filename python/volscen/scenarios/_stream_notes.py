"""What is noted of each block of a streamed write, so that the whole can be judged without being read again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.scenarios._blocks import Plan
from volscen.scenarios._given import few_moves, few_of, warn_of_few_moves
from volscen.scenarios._implausible import Beyond, beyond, judge, tell
from volscen.scenarios._stream_targets import Block

__all__ = ["BlockNote", "Doubts", "found_in_notes"]


@dataclass(frozen=True)
class BlockNote:
    """What a block holds that is worth a word.

    Attributes
    ----------
    far : Beyond
        Its scenarios beyond what is known, numbered as in the cube.
    moves : list of list of float, or None
        What tells its first steps apart; None where they are many.
    """

    far: Beyond
    moves: list[list[float]] | None

    @classmethod
    def of(cls, plan: Plan, block: Block, values: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Look at the values of a block."""
        log_return, implied_vol = values["log_return"], values["implied_vol"]
        far = Beyond.of([beyond(known, log_return, implied_vol) for known in plan.known[block.row : block.row + 1]])
        keys = None if plan.given is not None else few_moves(log_return, implied_vol, few_of(plan.n_scenarios))
        return cls(far.moved(block.start), None if keys is None else keys.tolist())

    def write(self, folder: Path, block: Block) -> None:
        """Leave it beside what says that the block is done."""
        _path(folder, block).write_text(json.dumps({"far": self.far.rows.tolist(), "moves": self.moves}))

    @classmethod
    def read(cls, folder: Path, block: Block) -> Self:
        """Read what :meth:`write` left."""
        held = json.loads(_path(folder, block).read_text())
        return cls(Beyond.of([Beyond(np.array(held["far"], dtype=np.float64).reshape(-1, 5))]), held["moves"])


def _path(folder: Path, block: Block) -> Path:
    return folder / f"{block.label}.json"


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
    """Attributes that the notes of all blocks give, and what to tell."""
    rows = max(block.row for block in blocks) + 1
    notes: list[list[BlockNote]] = [[] for _ in range(rows)]
    for block in blocks:
        notes[block.row].append(BlockNote.read(folder, block))
    text: str | None = None
    attributes: dict[str, Any] = {}
    if plan.known:
        far = [Beyond.of([note.far for note in row]) for row in notes]
        attributes, text = judge(ds, plan.known, far, weight, weighed=weighed)
    few = [_few(row, plan.n_scenarios) for row in notes]
    return attributes, Doubts(text, few, plan.n_scenarios, repr(plan.generator.name))


def _few(notes: Sequence[BlockNote], n: int) -> int | None:
    """Different first steps of all blocks, where they are few."""
    keys = [np.array(note.moves) for note in notes if note.moves is not None]
    if len(keys) < len(notes):
        return None
    count = len(np.unique(np.concatenate(keys), axis=0))
    return count if count < few_of(n) else None

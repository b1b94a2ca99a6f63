"""What a part of the benchmark hands back, and how it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pagetables

__all__ = ["Options", "Part", "cell_of", "figure", "page_of", "text_of"]


@dataclass(frozen=True)
class Options:
    """How much work a run does."""

    quick: bool
    seconds: float  # spent on each interleaved comparison

    def count(self, full: int, quick: int) -> int:
        """Size of a workload."""
        return quick if self.quick else full


@dataclass
class Part:
    """Tables of one kernel, each a list of rows with the same keys, and the checks that held."""

    name: str
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    checks: list[str] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)

    def check(self, statement: str, holds: bool) -> None:
        """Record that a statement about correctness holds; without it nothing is worth timing."""
        if not holds:
            raise SystemExit(f"{self.name}: NOT TRUE: {statement}")
        self.checks.append(statement)

    def target(self, statement: str, value: float, met: bool) -> None:
        """Record a figure beside what is aimed at; a target missed is reported and fails nothing."""
        self.targets.append({"target": statement, "measured": value, "met": bool(met)})

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return asdict(self)


def cell_of(value: Any) -> str:
    """Figure as it is printed: three digits, or tenths of what is larger."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value != value:
            return "-"
        return f"{value:.3g}" if abs(value) < 10 else (f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}")
    return "-" if value is None else str(value)


def figure(part: Part, title: str, row: str, column: str) -> float:
    """Figure of the row that begins so, in the table whose title has a text; NaN where it was not measured."""
    rows = next(rows for name, rows in part.tables.items() if title in name)
    return next((float(one[column]) for one in rows if str(next(iter(one.values()))).startswith(row)
                 and one.get(column) is not None), float("nan"))  # fmt: skip


def _table(rows: list[dict[str, Any]]) -> list[str]:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [keys, *([cell_of(row.get(key)) for key in keys] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(keys))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return lines


def text_of(part: Part) -> str:
    """Markdown of a part for reading: its tables, its targets and its checks."""
    lines = [f"## {part.name}", ""]
    for title, rows in part.tables.items():
        lines += [f"{title}:", "", *_table(rows), ""]
    if part.targets:
        lines += ["Targets:", "", *_table(part.targets), ""]
    lines += [f"- {statement}" for statement in part.checks]
    return "\n".join(lines) + "\n"


def page_of(part: Part, headers: Sequence[Sequence[str]]) -> str:
    """The same for the page, below the part's heading, with the columns that the page has."""
    tables = dict(part.tables) | ({"Targets": part.targets} if part.targets else {})
    lines = []
    for header, (title, rows) in zip(headers, tables.items(), strict=True):
        unknown = {key for row in rows for key in row} - set(header)
        if unknown:
            raise ValueError(f"{part.name}, {title}: the page has no column {', '.join(sorted(unknown))}")
        lines += [
            f"{title}:",
            "",
            pagetables.table(header, [[cell_of(r.get(key)) for key in header] for r in rows]),
            "",
        ]
    return "\n".join([*lines, *(f"- {statement}" for statement in part.checks)])

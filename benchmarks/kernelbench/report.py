"""What a part of the benchmark hands back, and how it is printed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Options", "Part", "text_of"]


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


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if value != value:
            return "-"
        return f"{value:.3g}" if abs(value) < 10 else (f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}")
    return "-" if value is None else str(value)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [keys, *([_cell(row.get(key)) for key in keys] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(keys))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return lines


def text_of(part: Part) -> str:
    """Markdown of a part: its tables, its targets and its checks."""
    lines = [f"## {part.name}", ""]
    for title, rows in part.tables.items():
        lines += [f"{title}:", "", *_table(rows), ""]
    if part.targets:
        lines += ["Targets:", "", *_table(part.targets), ""]
    lines += [f"- {statement}" for statement in part.checks]
    return "\n".join(lines) + "\n"

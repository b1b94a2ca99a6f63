"""What the pages show of the kernels: header rows of each part's tables, and rows of docs/results.md."""

from __future__ import annotations

from collections.abc import Mapping

from .report import Part, cell_of, figure

__all__ = ["HEADERS", "SPEED", "speed"]

TARGETS = ["target", "measured", "met"]
#: Header rows of the tables, by part.
HEADERS: dict[str, list[list[str]]] = {
    "black": [["set", "largest", "scipy ndtr"], ["by", "ns/option, minimum", "median", "times ours"]],
    "implied_vol": [
        ["by", "main", "failures", "deep out of the money", "near intrinsic", "tiny tau", "vol to 5", "wings"],
        ["by", "ns/option, minimum", "median", "times ours", "note"],
        ["set", "ns/option"],
        ["options", "ns, one thread", "wall ns, 1", "wall ns, 2 threads"],
        TARGETS,
    ],
    "bachelier": [
        ["by", "ns/option, minimum", "median", "times ours"],
        ["by", "ns/option, minimum"],
        ["normal vol", "total vol"],
        TARGETS,
    ],
    "svi": [
        [
            "by",
            "mean RMSE, bp",
            "99th percentile",
            "within 1% of the best peer, %",
            "beyond twice it",
            "butterfly arbitrage, slices",
        ],
        ["by", "us/slice, minimum", "median", "times ours", "note"],
        ["threads", "us/slice"],
        TARGETS,
    ],
    "ssvi": [
        ["by", "mean RMSE, bp", "surfaces with arbitrage", "of"],
        ["by", "us/surface, minimum", "median", "times ours"],
        TARGETS,
    ],
    "penalty": [
        ["by", "ns/surface, minimum", "median", "times ours"],
        ["by", "ns/surface, minimum", "median", "times ours"],
        ["by", "ns/surface, minimum", "median", "times ours"],
        ["threads", "ns/surface"],
        ["surfaces", "ns/surface"],
        TARGETS,
    ],
    "projection": [
        [
            "noise",
            "surfaces",
            "penalty, median",
            "mean",
            "us, one thread",
            "wall us, 2 threads",
            "clarabel, us",
            "surfaces for clarabel",
            "its failures",
            "objective over its, median",
            "largest",
        ],
        TARGETS,
    ],
    "revaluation": [["by", "ns/price, minimum", "median", "times ours"], ["threads", "ns/price", "s"], TARGETS],
}
#: Of the table of times in docs/results.md.
SPEED = ["job", "volscen", "beside it, same run"]


def _short(value: float, unit: str) -> str:
    """Time without tenths where it has two digits before them."""
    return f"{cell_of(value) if value < 10 or value != value else f'{value:,.0f}'} {unit}"


def speed(parts: Mapping[str, Part]) -> list[list[str]]:
    """Rows of docs/results.md, of the parts that were measured."""
    rows = []
    if "penalty" in parts:
        ours, torch, numpy = (figure(parts["penalty"], "float64, ", one, "ns/surface, minimum")
                              for one in ("volscen", "torch", "NumPy"))  # fmt: skip
        rows.append(["arbitrage penalty of a 10 x 8 surface, one thread", _short(ours, "ns"),
                     f"torch: {_short(torch, 'ns')}; NumPy and scipy: {_short(numpy, 'ns')}"])  # fmt: skip
    if "projection" in parts:
        ours, theirs = (figure(parts["projection"], "Violated", "2%", one)
                        for one in ("wall us, 2 threads", "clarabel, us"))  # fmt: skip
        rows.append(["projection of such a surface, penalty .01, onto those free of arbitrage, two threads",
                     _short(ours, "us"),
                     f"clarabel, sequential quadratic programmes, one thread: {_short(theirs, 'us')}"])  # fmt: skip
    if "svi" in parts:
        ours, theirs = (figure(parts["svi"], "Cold", one, "us/slice, minimum") for one in ("volscen, no", "QuantLib"))
        rows.append(["raw-SVI slice without butterfly arbitrage, one thread", _short(ours, "us"),
                     f"QuantLib, without that condition: {_short(theirs, 'us')}"])  # fmt: skip
    if "ssvi" in parts:
        ours, theirs = (figure(parts["ssvi"], "Cold", one, "us/surface, minimum") for one in ("volscen essvi", "scipy"))
        rows.append(["eSSVI surface of 12 maturities, one thread", _short(ours, "us"),
                     f"scipy, from the true parameters: {_short(theirs, 'us')}"])  # fmt: skip
    if "implied_vol" in parts:
        ours, *others = (figure(parts["implied_vol"], "Main set", one, "ns/option, minimum")
                         for one in ("volscen", "pyfeng", "fast-vollib", "py_vollib"))  # fmt: skip
        pyfeng, fast, vollib = (_short(one, "ns") for one in others)
        worst = parts["implied_vol"].targets[0]["measured"]
        rows.append(["implied vol, one thread", f"{_short(ours, 'ns')}, at most {worst:.1f} times the attainable error",
                     f"pyfeng: {pyfeng}; fast-vollib: {fast}; py_vollib_vectorized: {vollib}"])  # fmt: skip
    if "revaluation" in parts:
        ours = figure(parts["revaluation"], "Threads", "2", "ns/price")
        theirs = figure(parts["revaluation"], "one thread", "NumPy", "ns/price, minimum")
        rows.append(["one option on one scenario: interpolated and priced, two threads", f"{ours:.1f} ns",
                     f"NumPy and scipy, one thread: {_short(theirs, 'ns')}"])  # fmt: skip
    return rows

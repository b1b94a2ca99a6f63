"""Tables that the pages show, written by the commands that measure them.

A benchmark says which pieces of Markdown a run gives, by name, with the header rows of their tables, before it works:

    pages = Pages(given, {"speed": [["job", "seconds"]]}, kind="timing", minutes=2, needs=["QuantLib"])
    ...
    pages.add("speed", table(["job", "seconds"], [["one", "0.1"]]))
    pages.write()

``--markdown FILE`` then writes the pieces, ``--describe`` prints what they would be, and what the run needs, instead of
working. ``tools/refresh_pages.py`` reads both.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

Headers = Sequence[Sequence[str]]
MARKET_DATA = "VOLSCEN_DATA"
_HEADER = re.compile(r"^(\|.*\|)\n\|[ :|-]+\|$", re.MULTILINE)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a benchmark the options that all have."""
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables of the pages to this file")
    parser.add_argument("--describe", action="store_true", help="say which tables, and what they need; do nothing")


def market_data() -> Path:
    """Folder of market data; ends the run where none is named."""
    folder = os.environ.get(MARKET_DATA)
    if not folder:
        raise SystemExit(f"set {MARKET_DATA} to the folder of market data")
    return Path(folder)


def cells(line: str) -> list[str]:
    """Cells of a line of a table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def headers(text: str) -> list[list[str]]:
    """Header rows of the tables in a text."""
    return [cells(line) for line in _HEADER.findall(text)]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Table in Markdown."""
    lines = [header, *rows]
    wrong = [row for row in lines if len(row) != len(header) or any("|" in cell or "\n" in cell for cell in row)]
    if wrong:
        raise ValueError(f"not a row of {len(header)} cells: {wrong[0]}")
    texts = [("| " + " | ".join(row) + " |").replace("|  |", "| |").replace("|  |", "| |") for row in lines]
    return "\n".join([texts[0], "|" + "---|" * len(header), *texts[1:]])


def plain(value: float, digits: int) -> str:
    """Number without the zero before its point; -0 is 0."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.replace("-", "")
    return re.sub(r"^(-?)0\.", r"\1.", text)


def signed(value: float, digits: int) -> str:
    """The same with its sign; 0 has none."""
    text = plain(value, digits)
    return f"+{text}" if float(text) > 0 else text


def best_bold(texts: Sequence[str], values: Sequence[float]) -> list[str]:
    """Cells of a column with the least in bold, and what ties with it as shown."""
    shown = [text.split(" ")[0] for text in texts]
    least = shown[min(range(len(values)), key=lambda i: values[i])]
    return [f"**{text}**" if one == least else text for text, one in zip(texts, shown, strict=True)]


class Pages:
    """Pieces of Markdown that a run gives to the pages.

    Parameters
    ----------
    given
        Options, with those of :func:`add_options`.
    pieces
        Name -> header rows of the tables in it, in order.
    kind
        ``"timing"``: figures of an idle machine; ``"scores"``: the same on every machine.
    minutes
        Processor time of the run, about.
    needs
        ``VOLSCEN_DATA``, or distributions that the run measures beside ours.
    """

    def __init__(
        self,
        given: argparse.Namespace,
        pieces: Mapping[str, Headers],
        *,
        kind: str,
        minutes: float,
        needs: Iterable[str] = (),
    ) -> None:
        self.file: Path | None = given.markdown
        self.expected = {name: [list(header) for header in one] for name, one in pieces.items()}
        self.texts: dict[str, str] = {}
        if kind not in ("timing", "scores"):
            raise ValueError(f"kind is {kind!r}, not timing or scores")
        if given.describe:
            json.dump({"pieces": self.expected, "kind": kind, "minutes": minutes, "needs": list(needs)}, sys.stdout)
            print()
            raise SystemExit(0)

    def add(self, name: str, text: str) -> None:
        """Hand in a piece, which must have the tables that were announced."""
        if headers(text) != self.expected[name]:
            raise ValueError(f"{name} has the headers {headers(text)}, announced were {self.expected[name]}")
        self.texts[name] = text.strip("\n")

    def write(self) -> None:
        """Write all pieces, if a file was asked for."""
        if self.file is None:
            return
        absent = self.expected.keys() - self.texts.keys()
        if absent:
            raise ValueError(f"announced and not handed in: {', '.join(sorted(absent))}")
        pieces = (f"<!-- piece {name} -->\n{text}\n" for name, text in self.texts.items())
        self.file.write_text("\n".join(pieces), encoding="utf-8")

"""Menus from lists of links: pages named ``index`` list their pages as plain Markdown, which GitHub shows too.

Every heading over such a list is a part of the menu, every link to a page an entry, under the link's own words.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

ENTRY = re.compile(r"^- \[([^\]]+)\]\(([\w/]+)\.md\)")
AFTER = re.compile(r"^(- \[[^\]]+\]\([\w/.]+\.md\)):\s", flags=re.MULTILINE)


def menus(text: str) -> str:
    """Toctrees, hidden, of the lists in a page."""
    parts: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("## "):
            parts.append((line[3:].strip(), []))
        elif found := ENTRY.match(line):
            if not parts:
                parts.append(("", []))
            parts[-1][1].append(f"{found[1].replace('`', '')} <{found[2]}>")
    blocks = []
    for caption, entries in parts:
        if entries:
            options = [":hidden:", f":caption: {caption}"] if caption else [":hidden:"]
            blocks.append("\n".join(["```{toctree}", *options, "", *entries, "```"]))
    return "\n\n".join(blocks)


def _add(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname.rpartition("/")[2] == "index":
        tables = menus(source[0])
        source[0] = AFTER.sub(r"\1 ", source[0]) + f"\n\n{tables}\n"  # cards: a name, and under it what it is


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the menus as pages are read."""
    app.connect("source-read", _add)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

"""The model card as HTML: headings, tables and paragraphs of the Markdown that volscen.model_card writes."""

from __future__ import annotations

import html
import re
from typing import Any

from volscen._report._html import escape

__all__ = ["card", "markdown"]


def card(model: Any, history: Any, evaluation: Any) -> str:
    """Model card of a fitted generator."""
    from volscen._model_card import model_card

    head, *sections = re.split(r"^(?=## )", model_card(model, history=history, evaluation=evaluation), flags=re.M)
    boxes = "".join(f'<div class="card">{markdown(section)}</div>' for section in sections)
    return f'<div class="model-card">{markdown(head)}<div class="cards">{boxes}</div></div>'


def markdown(text: str) -> str:
    """Headings one level down, pipe tables, paragraphs and code spans; anything else is text."""
    out: list[str] = []
    rows: list[list[str]] = []

    def flush() -> None:
        if rows:
            out.append(_table(rows))
            rows.clear()

    for line in text.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
            if not all(re.fullmatch(r":?-{3,}:?", cell) for cell in cells):
                rows.append(cells)
            continue
        flush()
        if heading := re.match(r"(#{1,3}) (.*)", line):
            level = len(heading[1]) + 2
            out.append(f"<h{level}>{_inline(heading[2])}</h{level}>")
        elif line.strip():
            out.append(f"<p>{_inline(line)}</p>")
    flush()
    return "".join(out)


def _table(rows: list[list[str]]) -> str:
    head, *body = rows
    top = (
        ""
        if not any(head)
        else "<thead><tr>" + "".join(f'<th scope="col">{_inline(c)}</th>' for c in head) + "</tr></thead>"
    )
    lines = "".join(
        f'<tr><th scope="row">{_inline(row[0])}</th>' + "".join(f"<td>{_inline(c)}</td>" for c in row[1:]) + "</tr>"
        for row in body
    )
    box = '<div class="scroll" tabindex="0" role="region" aria-label="Table of the model card">'
    return f"{box}<table>{top}<tbody>{lines}</tbody></table></div>"


def _inline(text: str) -> str:
    # The card writes &lt; for a bracket and \| for a bar: back to what they are, then escaped as everything else.
    plain = html.unescape(text.replace("\\|", "|"))
    parts = re.split(r"`([^`]*)`", plain)
    return "".join(f"<code>{escape(part)}</code>" if i % 2 else escape(part) for i, part in enumerate(parts))

"""Pieces of HTML: escaped text, formatted numbers, tables. Whatever comes from files passes through here."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = [
    "Number",
    "attributes",
    "caution",
    "escape",
    "figure",
    "legend",
    "number",
    "panel",
    "per_cent",
    "plain",
    "points",
    "table",
]


def escape(text: object) -> str:
    """Text as it reads, with nothing left that a browser could take for markup."""
    # Control characters, which XML parsers of the page would refuse, and surrogates, which no encoding has.
    shown = "".join(c if c.isprintable() or c in "\n\t" else "�" for c in str(text))
    return html.escape(shown, quote=True)


def attributes(**values: object) -> str:
    """Attributes of a tag, in the order given; ``class_`` is class, and underscores are hyphens."""
    return "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in values.items()
        if value is not None
    )


@dataclass(frozen=True)
class Number:
    """A number as it is shown, and as it is."""

    value: float
    text: str


def number(value: float, digits: int = 4, *, sign: bool = False) -> Number:
    """Four digits or so, thousands apart, no exponent where it can be avoided."""
    value = float(value)
    if not math.isfinite(value):
        return Number(value, "–" if math.isnan(value) else ("∞" if value > 0 else "−∞"))
    plus = "+" if sign else ""
    size = abs(value)
    if size == 0:
        text = "0"
    elif size >= 1e7 or size < 1e-4:
        text = f"{value:{plus}.{max(digits - 2, 1)}e}"
    else:
        decimals = max(digits - 1 - math.floor(math.log10(size)), 0)
        text = f"{value:{plus},.{min(decimals, 6)}f}"
    return Number(value, text.replace("-", "−"))


def plain(value: float) -> Number:
    """A count or a quantity, without zeros at its end."""
    return Number(float(value), f"{float(value):,.6g}".replace("-", "−"))


def per_cent(value: float, decimals: int = 2, *, sign: bool = False) -> Number:
    """A share as per cent."""
    value = float(value)
    if not math.isfinite(value):
        return number(value)
    return Number(value, f"{100 * value:{'+' if sign else ''}.{decimals}f}%".replace("-", "−"))


def points(value: float, *, sign: bool = True) -> Number:
    """A difference of volatilities, in vol points."""
    return Number(float(value), f"{100 * float(value):{'+' if sign else ''}.2f}".replace("-", "−"))


Cell = str | Number


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    caption: str,
    id: str | None = None,
    raw_last: bool = False,
    wrap: bool = False,
) -> str:
    """A table that scrolls within itself where the page is narrow; the first cell of a row is its header.

    Parameters
    ----------
    head : sequence of str
        Of the columns.
    rows : iterable of sequences
        Texts, which are escaped, and numbers, whose full value the cell keeps in ``data-v``.
    caption : str
        What the table shows, for screen readers: the title above says it to everyone else.
    id : str, optional
        Of the table.
    raw_last : bool
        Whether the last cell of each row is markup already.
    wrap : bool
        Whether texts may take several lines.
    """
    heads = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    lines = []
    for row in rows:
        cells = [_cell(cell, first=i == 0) for i, cell in enumerate(row[:-1] if raw_last else row)]
        if raw_last:
            cells.append(f"<td>{row[-1]}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table{attributes(id=id, class_='wrap' if wrap else None)}>"
        f'<caption class="unseen">{escape(caption)}</caption>'
        f"{f'<thead><tr>{heads}</tr></thead>' if any(head) else ''}\n<tbody>{chr(10).join(lines)}</tbody></table></div>"
    )


def _cell(cell: Cell, *, first: bool) -> str:
    if first:
        text = cell.text if isinstance(cell, Number) else cell
        return f'<th scope="row">{escape(text)}</th>'
    if isinstance(cell, Number):
        return f'<td class="n" data-v="{cell.value:.12g}">{escape(cell.text)}</td>'
    return f"<td>{escape(cell)}</td>"


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """What the marks of a figure mean: (class of the mark, text)."""
    keys = "".join(
        f'<li><svg class="key" viewBox="0 0 26 12" aria-hidden="true">{_key(mark)}</svg>{escape(text)}</li>'
        for mark, text in entries
    )
    return f'<ul class="legend">{keys}</ul>'


def _key(mark: str) -> str:
    kind, _, colour = mark.partition(" ")
    if kind == "line":
        return f'<path class="line {colour}" d="M1 6H25"/>'
    if kind == "dot":
        return f'<circle class="dot {colour}" cx="13" cy="6" r="4"/>'
    # Bands lie on one another in a fan, and so in its key.
    under = {"c1b": ("c1a", "c1b"), "c1c": ("c1a", "c1b", "c1c")}.get(colour, (colour,))
    return "".join(f'<rect class="{kind} {c}" x="1" y="1" width="24" height="10"/>' for c in under)


def figure(title: str, about: str, drawing: str, *, key: str = "", numbers: str = "", wide: bool = False) -> str:
    """A figure with its title, what it shows, its key, and its numbers folded away."""
    folded = f"<details><summary>Numbers</summary>{numbers}</details>" if numbers else ""
    return (
        f'<figure class="card{" wide" if wide else ""}"><figcaption><h3>{escape(title)}</h3><p>{escape(about)}</p>'
        f"</figcaption>{key}{drawing}{folded}</figure>"
    )


def panel(title: str, about: str, body: str, *, wide: bool = False) -> str:
    """A table, or anything else that is no drawing, under a title."""
    text = f"<p>{escape(about)}</p>" if about else ""
    return f'<div class="card{" wide" if wide else ""}"><h3>{escape(title)}</h3>{text}{body}</div>'


def caution(texts: Sequence[str]) -> str:
    """What the reader must beware of, one line each."""
    if not texts:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul class="caution" aria-label="Cautions">{items}</ul>'

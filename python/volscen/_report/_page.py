"""The page put together: head, way through, sections, and the data of the sliders."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from volscen._report._assets import asset, fill
from volscen._report._html import escape
from volscen._report._subject import Subject

__all__ = ["Section", "page"]


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes
    ----------
    id : str
        Anchor.
    title : str
        Heading.
    body : str
        Markup.
    grid : bool
        Whether figures stand side by side.
    """

    id: str
    title: str
    body: str
    grid: bool = False


def page(subject: Subject, sections: Sequence[Section], data: dict[str, Any], title: str | None) -> str:
    """The whole document."""
    script = asset("page.js")
    a = subject.ds.attrs
    heading = str(a["title"]) if title is None else title.strip()
    about = (
        f"{subject.weight.size:,} weighted scenarios of the surface and the index over {subject.horizon} from "
        f"{subject.day}, drawn by {a['generator']}."
    )
    links = "".join(f'<li><a href="#{s.id}">{escape(s.title)}</a></li>' for s in sections)
    body = "\n".join(
        f'<section id="{s.id}" aria-labelledby="{s.id}-title"><h2 id="{s.id}-title">{escape(s.title)}</h2>'
        f'{f"""<div class="cards">{s.body}</div>""" if s.grid else s.body}</section>'
        for s in sections
    )
    # A closing tag within the data would end it for the browser.
    numbers = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    slots = {
        "policy": f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'",
        "title": escape(heading),
        "about": escape(about),
        "style": asset("page.css"),
        "links": links,
        "sections": body,
        "data": numbers,
        "script": script,
    }
    return fill("page.html", slots)

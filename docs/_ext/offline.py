"""Refuse a site that loads anything from elsewhere when it is read: scripts, styles, fonts or pictures."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.typing import ExtensionMetadata

ELSEWHERE = r"""=["'](?:https?:)?//[^"']*"""
LOADED = re.compile(rf"<(?:script|img|iframe|source)\b[^>]*\ssrc{ELSEWHERE}|<link\b[^>]*\shref{ELSEWHERE}")
IN_STYLES = re.compile(r"""(?:@import\s+|url\()["']?(?:https?:)?//[^"')]*""")


def _check(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    found = []
    for path in sorted(Path(app.outdir).rglob("*")):
        pattern = {".html": LOADED, ".css": IN_STYLES}.get(path.suffix)
        if pattern is not None and (match := pattern.search(path.read_text(encoding="utf-8"))):
            found.append(f"{path.relative_to(app.outdir)}: {match[0]}")
    if found:
        raise SphinxError("pages load from elsewhere:\n" + "\n".join(found[:20]))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Look at every page once all are written."""
    app.connect("build-finished", _check)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

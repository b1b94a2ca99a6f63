"""Formulas as MathML, which browsers draw by themselves: no script, no font and no network where pages are read."""

from __future__ import annotations

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator

#: Symbols that the converter takes for operators, which browsers set with space around.
_OPERANDS = re.compile(r"<mo[^>]*>(&#x0007C;|&#x0221E;|\||\u221e)</mo>")
#: Functions after an operand need a little space that the converter leaves out.
_FUNCTIONS = re.compile(r"(?<=[\w})])\s*\\(ln|exp|max|min)\b")


def _mathml(node: nodes.Element, display: str) -> str:
    text = node.astext()
    if "&" in text or r"\\" in text:
        text = rf"\begin{{aligned}}{text}\end{{aligned}}"
    text = re.sub(r"\\ln\s*\\frac", r"\\ln \\, \\frac", _FUNCTIONS.sub(r"\\,\\\1", text))
    try:
        return _OPERANDS.sub(r"<mi>\1</mi>", str(convert(text, display=display)))
    except Exception as error:
        raise SphinxError(f"{node.source}: cannot set the formula {node.astext()!r}: {error}") from error


def _inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(_mathml(node, "inline"))
    raise nodes.SkipNode


def _block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{_mathml(node, "block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register as the renderer of formulas."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

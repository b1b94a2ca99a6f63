"""What the tests of the report share: a reader of its page, scenarios with unequal weights, a book."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import xarray as xr

import volscen
from volscen import Option, Portfolio, Underlying
from volscen._reweight import weight_dataset

VOID = {"meta", "input", "br", "hr", "img", "link"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.cells: dict[str, dict[str, list[str]]] = {}
        self._table: str | None = None
        self._row: list[str] | None = None
        self._value: str | None = None
        self._buffer: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._table = found.get("id")
            self.cells[self._table] = {}
        elif tag == "tr":
            self._row = []
        elif tag in ("td", "th"):
            self._value, self._buffer = found.get("data-v"), []

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in ("td", "th") and self._row is not None:
            self._row.append(self._value or "".join(self._buffer))
        elif tag == "tr" and self._row:
            self.cells[self._table][self._row[0]] = self._row[1:]
            self._row = None

    def handle_data(self, data):
        self.text.append(data)
        self._buffer.append(data)

    def numbers(self, id: str, row: str) -> list[float]:
        return [float(value) for value in self.cells[id][row]]


def weighted(n: int = 800, horizon: int = 5, **options) -> xr.Dataset:
    """Scenarios with unequal weights, from penalties drawn at random: none for three paths in ten."""
    cube = volscen.generate(n_scenarios=n, horizon=horizon, seed=3, **options)
    rng = np.random.default_rng(0)
    penalty = rng.gamma(0.3, 1e-3, size=(n, horizon)) * (rng.random((n, 1)) > 0.3)
    cube["arbitrage_penalty"] = (("scenario", "step"), penalty, cube["arbitrage_penalty"].attrs)
    return weight_dataset(cube, 300.0)


BOOK = Portfolio(
    [
        (Option("call", moneyness=1.0, tau=0.25), -10),
        (Option("put", moneyness=0.9, tau=0.25), -25),
        (Option("put", moneyness=0.95, tau=60 / 365), 12),
        (Underlying(), 5),
    ],
    groups=["calls", "puts", "puts", "delta"],
)


def explored(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="explorer-data">(.*?)</script>', text, flags=re.S)[1])

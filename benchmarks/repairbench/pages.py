"""Tables of repairs that the pages show, from scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pagetables
from pagetables import plain
from repairbench.scores import Score

__all__ = ["HEADERS", "LABELS", "family_header", "peers_table", "simulated_table", "verb_table"]

CELLS = ("ssvi regular", "ssvi adversarial", "event regular", "event adversarial")
REGIMES = ("regimes regular", "regimes adversarial")
MASKS = {"regular": "half", "adversarial": "a fifth"}
HEADERS = {
    "library": ["method", "half of the points quoted", "coverage 80 / 95%", "a fifth, one wing empty",
                "coverage 80 / 95%"],
    "verb": ["cell", "RMSE, vol points", "coverage 80 / 95%", "area under the curve of stale scores", "median misfit",
             "raised the alarm"],
    "peers": ["method", "SSVI, half", "a fifth", "event, half", "a fifth", "regimes, half", "a fifth", "ms a surface"],
    "quotes": ["dates", "quotes seen", "`default`", "`analogues`", "`global`", "`essvi`", "`svi`", "`linear`",
               "80 / 95% of `default`"],
}  # fmt: skip
#: What the pages call methods, in their order.
LABELS = {
    "volscen.repair": "**`volscen.repair`**",
    "default": "`default`, not projected",
    "analogues": "`analogues`, not projected",
    "global": "`global`, not projected",
    "robust eSSVI": "robust eSSVI",
    "svi": "`svi`",
    "interpolation": "linear interpolation, running maximum",
    "cnn": "CNN",
    "vae": "conditional VAE",
}
FAMILY_LABELS = {
    "default": "`default`", "analogues": "`analogues`", "global": "`global`", "interpolation": "linear interpolation",
    "robust eSSVI": "robust eSSVI", "cnn": "CNN", "vae": "VAE",
}  # fmt: skip
VERB_LABELS = dict(
    zip(
        CELLS, ("SSVI, half quoted", "SSVI, a fifth", "event family, half quoted", "event family, a fifth"), strict=True
    )
)

Rows = Mapping[tuple[str, str], Score]


def cover(score: Score) -> str:
    """Coverage of intervals of 80 and 95%."""
    return f"{plain(score.cover80, 2)} / {plain(score.cover95, 2)}"


def points(score: Score, method: str) -> str:
    """RMSE in vol points; the library's own in bold."""
    text = f"{100 * score.rmse:.2f}"
    return f"**{text}**" if method in ("volscen.repair", "default, projected") else text


def milliseconds(least: float, most: float) -> str:
    """Times of the quickest and slowest cell."""
    low, high = (f"{x:.0f}" if x >= 1 else f"{x:.1g}" for x in (least, most))
    return low if low == high else f"{low} to {high}"


def peers_table(rows: Rows) -> str:
    """Every method on the published cells and on the regimes."""
    lines = []
    for method, label in LABELS.items():
        some = [rows[cell, method] for cell in (*CELLS, *REGIMES)]
        times = [one.milliseconds for one in some]
        lines.append([label, *(points(one, method) for one in some), milliseconds(min(times), max(times))])
    return pagetables.table(HEADERS["peers"], lines)


def verb_table(rows: Rows) -> str:
    """The verb on the published cells."""
    lines = []
    for cell, label in VERB_LABELS.items():
        one = rows[cell, "volscen.repair"]
        lines.append([label, f"{100 * one.rmse:.2f}", cover(one), plain(one.auc, 2), f"{one.misfit:.2f}",
                      f"{100 * one.alarm:.0f}%"])  # fmt: skip
    return pagetables.table(HEADERS["verb"], lines)


def simulated_table(rows: Rows, methods: Sequence[str]) -> str:
    """Every method of the package, projected, on surfaces of the library's families."""
    lines = []
    for method in methods:
        half, fifth = (rows[mask, method] for mask in MASKS)
        name = f"**`{method}`**" if method == "default" else f"`{method}`"
        key = "default, projected" if method == "default" else method
        lines.append([name, points(half, key), cover(half), points(fifth, key), cover(fifth)])
    return pagetables.table(HEADERS["library"], lines)


def family_header() -> list[str]:
    """Header of the table of families left out."""
    return ["left out", "mask", *FAMILY_LABELS.values()]

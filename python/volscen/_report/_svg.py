"""Small vector charts: lines, bands, bars, points and cells, written as SVG that style sheets colour."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from volscen._report._html import escape

__all__ = ["Chart", "bounds", "ticks"]

FloatArray = npt.NDArray[np.float64]
Pair = tuple[float, float]


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """Round numbers within [low, high], about n of them."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / max(n, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def bounds(*values: npt.ArrayLike, margin: float = 0.04, least: float = 1e-9) -> Pair:
    """Smallest and largest of all values, with a margin; never empty."""
    every = np.concatenate([np.ravel(np.asarray(v, dtype=np.float64)) for v in values])
    low, high = float(every.min()), float(every.max())
    pad = max((high - low) * margin, least, 1e-6 * max(abs(low), abs(high)))
    return low - pad, high + pad


class Chart:
    """One pair of axes.

    Parameters
    ----------
    x, y : (float, float)
        Ranges of the axes.
    x_label, y_label : str
        What they show.
    x_log : bool
        Whether the horizontal axis is logarithmic.
    x_ticks : sequence of (float, str), optional
        In place of round numbers.
    unit : (str, str)
        Put behind the numbers of the axes.
    size : (int, int)
        Width and height in units of which text is 12 high.
    """

    right, top, bottom = 12.0, 10.0, 38.0

    def __init__(
        self,
        x: Pair,
        y: Pair,
        *,
        x_label: str,
        y_label: str,
        x_log: bool = False,
        x_ticks: Sequence[tuple[float, str]] | None = None,
        y_ticks: Sequence[tuple[float, str]] | None = None,
        unit: tuple[str, str] = ("", ""),
        size: tuple[int, int] = (400, 260),
        left: float | None = None,
    ) -> None:
        self.x, self.y, self.x_log = x, y, x_log
        self.width, self.height = size
        self._labels = (x_label, y_label)
        self._x_ticks = list(x_ticks) if x_ticks is not None else self._round(x, unit[0], log=x_log)
        self._y_ticks = list(y_ticks) if y_ticks is not None else self._round(y, unit[1], log=False)
        # Room for the longest number and, turned by a quarter, the label.
        widest = max((len(text) for _, text in self._y_ticks), default=0)
        self.left = 12.0 + 7.6 * widest + (16 if y_label else 0) if left is None else left
        self._marks: list[str] = []
        self._over: list[str] = []

    @staticmethod
    def _round(span: Pair, unit: str, *, log: bool) -> list[tuple[float, str]]:
        if log:
            low, high = math.ceil(math.log10(span[0])), math.floor(math.log10(span[1]))
            every = max(1, math.ceil((high - low) / 5))
            return [(10.0**k, f"1e{k}".replace("-", "−")) for k in range(low, high + 1, every)]
        found = ticks(*span)
        step = found[1] - found[0] if len(found) > 1 else abs(found[0]) or 1.0
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        decimals += round(step * 10**decimals, 6) % 1 != 0
        return [(v, f"{v:,.{decimals}f}{unit}".replace("-", "−")) for v in found]

    # ------------------------------------------------------------------------------------------- coordinates
    def px(self, x: npt.ArrayLike) -> FloatArray:
        """Horizontal position of values."""
        low, high = self.x
        v = np.asarray(x, dtype=np.float64)
        share = np.log(v / low) / math.log(high / low) if self.x_log else (v - low) / (high - low)
        return np.asarray(self.left + np.clip(share, -0.01, 1.01) * (self.width - self.left - self.right))

    def py(self, y: npt.ArrayLike) -> FloatArray:
        """Vertical position of values."""
        low, high = self.y
        share = (np.asarray(y, dtype=np.float64) - low) / (high - low)
        return np.asarray(
            self.height - self.bottom - np.clip(share, -0.01, 1.01) * (self.height - self.top - self.bottom)
        )

    def _path(self, x: npt.ArrayLike, y: npt.ArrayLike) -> str:
        return "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(self.px(x), self.py(y), strict=True))

    # ------------------------------------------------------------------------------------------------- marks
    def line(self, x: npt.ArrayLike, y: npt.ArrayLike, colour: str) -> None:
        """A line through points."""
        self._marks.append(f'<path class="line {colour}" d="M{self._path(x, y)}"/>')

    def steps(self, x: npt.ArrayLike, y: npt.ArrayLike, colour: str) -> None:
        """A line of steps: the value holds from its x to the next."""
        a, b = np.repeat(np.asarray(x, dtype=np.float64), 2)[1:], np.repeat(np.asarray(y, dtype=np.float64), 2)[:-1]
        self.line(a, b, colour)

    def band(self, x: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike, colour: str) -> None:
        """The area between two lines."""
        back = self._path(np.asarray(x)[::-1], np.asarray(high)[::-1])
        self._marks.append(f'<path class="band {colour}" d="M{self._path(x, low)}L{back}Z"/>')

    def bars(self, edges: npt.ArrayLike, heights: npt.ArrayLike, colour: str) -> None:
        """Bars that stand on zero, each between two edges."""
        at, top, base = self.px(edges), self.py(heights), float(self.py(0.0))
        for a, b, t in zip(at[:-1], at[1:], top, strict=True):
            if abs(base - t) > 0.05:
                self._marks.append(
                    f'<rect class="bar {colour}" x="{a + 0.4:.1f}" y="{min(t, base):.1f}" '
                    f'width="{max(b - a - 0.8, 0.5):.1f}" height="{abs(base - t):.1f}"/>'
                )

    def cells(self, x_edges: npt.ArrayLike, y_edges: npt.ArrayLike, colours: Sequence[Sequence[str]]) -> None:
        """A picture: colours (row, column), the first row between the first two ``y_edges``."""
        at, up = self.px(x_edges), self.py(y_edges)
        for j, row in enumerate(colours):
            for i, colour in enumerate(row):
                self._marks.append(
                    f'<rect class="cell" x="{at[i]:.1f}" y="{up[j + 1]:.1f}" width="{at[i + 1] - at[i]:.1f}" '
                    f'height="{up[j] - up[j + 1]:.1f}" fill="{colour}"/>'
                )

    def horizontal_bars(self, values: npt.ArrayLike, colours: Sequence[str], labels: Sequence[str]) -> None:
        """Bars from zero, one below the other, with their labels at the left; the vertical axis counts them."""
        zero = float(self.px(0.0))
        for i, (value, colour, label) in enumerate(zip(self.px(values), colours, labels, strict=True)):
            top, middle, low = (float(self.py(-i - share)) for share in (0.18, 0.5, 0.82))
            self._marks.append(
                f'<rect class="bar {colour}" x="{min(zero, value):.1f}" y="{top:.1f}" '
                f'width="{max(abs(value - zero), 0.5):.1f}" height="{low - top:.1f}"/>'
                f'<text class="name end" x="{self.left - 6:.1f}" y="{middle + 4:.1f}">{escape(label)}</text>'
            )

    def dots(self, x: npt.ArrayLike, y: npt.ArrayLike, colour: str, radius: float = 3.0) -> None:
        """Points."""
        for a, b in zip(self.px(x), self.py(y), strict=True):
            self._marks.append(f'<circle class="dot {colour}" cx="{a:.1f}" cy="{b:.1f}" r="{radius:g}"/>')

    def upright(self, x: float, colour: str, text: str, *, level: int = 0, before: bool | None = None) -> None:
        """A vertical line with a text at its head; ``level`` keeps texts of neighbours apart."""
        at = float(self.px(x))
        end = " end" if (at > 0.6 * self.width if before is None else before) else ""
        self._over.append(
            f'<path class="line {colour}" d="M{at:.1f} {self.height - self.bottom:.1f}V{self.top:.1f}"/>'
            f'<text class="note{end}" x="{at + (-4 if end else 4):.1f}" y="{self.top + 11 + 14 * level:.1f}">'
            f"{escape(text)}</text>"
        )

    def level(self, y: float, colour: str) -> None:
        """A horizontal line across."""
        at = float(self.py(y))
        self._marks.append(f'<path class="line {colour}" d="M{self.left:.1f} {at:.1f}H{self.width - self.right:.1f}"/>')

    def hints(self, x: npt.ArrayLike, texts: Sequence[str]) -> None:
        """What to show while the pointer is near each x."""
        at = self.px(x)
        order = np.argsort(at, kind="stable")
        middle = (at[order][1:] + at[order][:-1]) / 2
        edges = np.concatenate([[self.left], middle, [self.width - self.right]])
        self._over += [
            f'<rect class="hit" x="{edges[i]:.1f}" y="{self.top:.1f}" width="{max(edges[i + 1] - edges[i], 0.1):.1f}" '
            f'height="{self.height - self.top - self.bottom:.1f}" data-t="{escape(texts[k])}"/>'
            for i, k in enumerate(order)
        ]

    # ------------------------------------------------------------------------------------------------- whole
    def svg(self, description: str) -> str:
        """The chart; ``description`` is what a reader hears who cannot see it."""
        right, low = self.width - self.right, self.height - self.bottom
        parts = []
        for value, text in self._y_ticks:
            y = float(self.py(value))
            parts.append(
                f'<path class="grid" d="M{self.left:.1f} {y:.1f}H{right:.1f}"/>'
                f'<text class="tick end" x="{self.left - 6:.1f}" y="{y + 4:.1f}">{escape(text)}</text>'
            )
        for value, text in self._x_ticks:
            x = float(self.px(value))
            parts.append(
                f'<path class="grid" d="M{x:.1f} {low:.1f}v4"/>'
                f'<text class="tick middle" x="{x:.1f}" y="{low + 16:.1f}">{escape(text)}</text>'
            )
        x_label, y_label = self._labels
        parts += self._marks
        parts.append(f'<path class="axis" d="M{self.left:.1f} {low:.1f}H{right:.1f}"/>')
        parts += self._over
        parts.append(
            f'<text class="label middle" x="{(self.left + right) / 2:.1f}" y="{self.height - 4}">'
            f"{escape(x_label)}</text>"
        )
        if y_label:
            parts.append(
                f'<text class="label middle aside" transform="translate(11 {(self.top + low) / 2:.1f}) rotate(-90)">'
                f"{escape(y_label)}</text>"
            )
        return (
            f'<svg class="chart" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{escape(description)}">' + "".join(parts) + "</svg>"
        )

"""Colours that people with any colour vision tell apart: cividis, and a scale from blue over white to orange."""

from __future__ import annotations

__all__ = ["CIVIDIS", "diverging", "shade"]

#: Ten colours of the cividis map (Nunez, Anderton and Renslow 2018), dark to light.
CIVIDIS = ("#00204d", "#00336f", "#39486b", "#575d6d", "#707173", "#8a8779", "#a69d75", "#c4b56c", "#e4cf5b", "#ffea46")

#: Ends of the scale: blue and vermilion of Okabe and Ito (2008).
_LOW, _MIDDLE, _HIGH = (0, 90, 150), (247, 247, 245), (196, 82, 0)


def shade(value: float) -> str:
    """Colour of cividis at a value in [0, 1]."""
    at = min(max(float(value), 0.0), 1.0) * (len(CIVIDIS) - 1)
    i = min(int(at), len(CIVIDIS) - 2)
    low, high = ([int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in CIVIDIS[i : i + 2])
    return "#" + "".join(f"{round(a + (b - a) * (at - i)):02x}" for a, b in zip(low, high, strict=True))


def diverging(value: float) -> str:
    """Colour of a value in [-1, 1]."""
    v = min(max(float(value), -1.0), 1.0)
    end = _LOW if v < 0 else _HIGH
    mixed = (round(m + (e - m) * abs(v) ** 0.8) for m, e in zip(_MIDDLE, end, strict=True))
    return "#" + "".join(f"{c:02x}" for c in mixed)

"""Maps of the surface: a coloured cell for each point of its grid."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen._report._palette import diverging
from volscen._report._svg import Chart

__all__ = ["scale", "surface_map"]

FloatArray = npt.NDArray[np.float64]

_MOST = 40


def _edges(values: FloatArray) -> FloatArray:
    """Borders between cells, halfway between their centres."""
    if values.size == 1:
        return np.array([values[0] - 0.5, values[0] + 0.5])
    middle = (values[1:] + values[:-1]) / 2
    return np.concatenate([[2 * values[0] - middle[0]], middle, [2 * values[-1] - middle[-1]]])


def _some(n: int) -> npt.NDArray[np.intp]:
    """Points of a large grid, evenly spaced and the ends among them: more no picture of this size shows."""
    return np.unique(np.linspace(0, n - 1, min(n, _MOST)).round().astype(np.intp))


def surface_map(
    shape: FloatArray,
    tau: FloatArray,
    moneyness: FloatArray,
    limit: float,
    text: str,
    *,
    size: tuple[int, int] = (210, 190),
) -> str:
    """A number for each cell of the grid (tau, moneyness), from -limit in blue over white to limit in orange."""
    rows, columns = _some(tau.size), _some(moneyness.size)
    shape, tau, moneyness = shape[np.ix_(rows, columns)], tau[rows], moneyness[columns]
    x, y = _edges(moneyness), _edges(np.log(tau))
    marks: list[tuple[float, str]] = []
    for t in tau:  # labels that have room
        if not marks or np.log(t) - marks[-1][0] > 0.11 * (y[-1] - y[0]):
            marks.append((float(np.log(t)), f"{365 * t:.0f}d"))
    chart = Chart(
        (float(x[0]), float(x[-1])), (float(y[0]), float(y[-1])), x_label="moneyness K/F", y_label="", y_ticks=marks,
        size=size, left=42,
    )  # fmt: skip
    chart.cells(x, y, [[diverging(v / limit) for v in row] for row in shape])
    return chart.svg(f"{text}, from {shape.min():.2f} to {shape.max():.2f}.")


def scale(limit: float, what: str) -> str:
    """What the colours of a map mean."""
    chart = Chart(
        (-limit, limit), (0.0, 1.0), x_label=what, y_label="", y_ticks=[], size=(400, 58), left=12,
    )  # fmt: skip
    edges = np.linspace(-limit, limit, 41)
    chart.cells(edges, [0.0, 1.0], [[diverging(v / limit) for v in (edges[1:] + edges[:-1]) / 2]])
    return chart.svg(f"Scale: blue is negative, white zero, orange positive; up to {limit:.2f}.")

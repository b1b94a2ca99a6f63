"""The worst scenarios: what happens in them, and the past days most like them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import risk
from volscen._report._html import Cell, escape, figure, legend, number, panel, per_cent, points, table
from volscen._report._maps import scale, surface_map
from volscen._report._subject import Subject
from volscen._report._svg import Chart, bounds
from volscen.surface import interpolate_vol

__all__ = ["tail"]

_SHOWN = 10
#: Moneyness between which skew is measured, as volscen.risk.tail does.
_WINGS = (0.95, 1.05)
#: Least number of past stretches to choose from.
_STRETCHES = 30


def tail(subject: Subject) -> str:
    """Table of the worst scenarios, and where they lie among all."""
    found = subject.tail
    positions = _positions(subject)
    n = min(_SHOWN, positions.size)
    like = _most_like(subject, found.isel(rank=slice(n)))
    book = subject.book is not None
    days = 365 * found.attrs["tau"]
    head = ["scenario", "P&L", "index", f"{days:.0f}-day vol", "vol change", "skew", "skew change", "penalty",
            "weight × N", "most like", ""]  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for i, row in enumerate(positions[:n]):
        one = {name: float(found[name][i]) for name in found.data_vars if found[name].dims == ("rank",)}
        name = subject.names[row]
        cells: list[Cell] = [
            name, number(one["pnl"]), per_cent(np.expm1(one["log_return"]), sign=True), per_cent(one["atm_vol"]),
            points(one["atm_change"]), points(one["skew"], sign=False),
            points(one["skew_change"]),
            number(one["arbitrage_penalty"], 3), number(one["weight"] * subject.weight.size, 3),
            like[i] if like else "",
            f'<button type="button" data-row="{row}" aria-label="Show scenario {escape(name)}">show</button>',
        ]  # fmt: skip
        rows.append(tuple(cells))
    left_out = {head.index(name) for name, kept in (("P&L", book), ("most like", bool(like))) if not kept}
    head = [text for i, text in enumerate(head) if i not in left_out]
    kept = [[cell for i, cell in enumerate(row) if i not in left_out] for row in rows]
    what = "the book loses most" if book else "the index falls most"
    about = (
        f"The {n} scenarios in which {what} over {subject.horizon}, of {positions.size:,} that make up the worst "
        f"{100 * found.attrs['alpha']:g}% of the probability. Volatility is at the money, skew the volatility at K/F "
        f"{_WINGS[0]:g} less that at {_WINGS[1]:g}, in vol points."
    )
    if like:
        stretch = f"{subject.labels[-1]}-{subject.unit} stretch"
        about += (
            f" “Most like” is the end of the {stretch} of the history nearest in return and in changes of volatility "
            "and skew, each in its own standard deviations; the number is that distance."
        )
    shown = table(head, kept, caption="The worst scenarios", id="tail-table", raw_last=True)
    return panel("The worst", about, shown, wide=True) + _cloud(subject, positions) + _mean_surface(subject, positions)


def _positions(subject: Subject) -> npt.NDArray[np.intp]:
    """Positions in the cube of the scenarios that risk.tail lists, in its order."""
    rows = np.flatnonzero(risk.tail_weight(subject.judged, subject.weight, alpha=subject.levels[-1]))
    return rows[np.argsort(subject.judged[rows], kind="stable")]


def _most_like(subject: Subject, worst: xr.Dataset) -> list[str]:
    """For each scenario the past stretch most like it; none without a history of some length."""
    history, last = subject.history, subject.labels[-1]
    if history is None or history.sizes["date"] < last + _STRETCHES:
        return []
    asked = (subject.start.tau, subject.start.moneyness, float(worst.attrs["tau"]), np.array([1.0, *_WINGS]))
    vols = interpolate_vol(history["implied_vol"].values, *asked)
    level = np.column_stack([subject.past_index, vols[:, 0], vols[:, 1] - vols[:, 2]])
    moves = level[last:] - level[:-last]
    scale = moves.std(axis=0)
    if not np.all(scale > 0):
        return []
    ends = history["date"].values[last:].astype("datetime64[D]")
    out = []
    for move in np.column_stack([worst[name].values for name in ("log_return", "atm_change", "skew_change")]):
        distance = np.sqrt(np.square((moves - move) / scale).sum(axis=1))
        nearest = int(np.argmin(distance))
        out.append(f"{ends[nearest]} ({distance[nearest]:.1f})")
    return out


def _cloud(subject: Subject, positions: npt.NDArray[np.intp]) -> str:
    """Return against the change of volatility; the tail stands out."""
    x, y = 100 * subject.growth[:, -1], 100 * (subject.atm[:, -1, 0] - subject.atm0[0])
    held = np.flatnonzero(subject.weight > 0)
    # So many dots at most, evenly through the scenarios, which are exchangeable; the tail is drawn in full.
    shown = held[np.linspace(0, held.size - 1, min(held.size, 600)).round().astype(int)]
    worst = positions[:300]
    chart = Chart(
        bounds(x[shown], x[worst]), bounds(y[shown], y[worst]), x_label=f"index return over {subject.horizon}",
        y_label="change of volatility, points", unit=("%", ""),
    )  # fmt: skip
    chart.dots(x[shown], y[shown], "c1 faint", 2.2)
    chart.dots(x[worst], y[worst], "c3", 3.2)
    days = 365 * subject.tenors[0]
    text = (
        f"Scenarios by index return and change of the {days:.0f}-day volatility; the worst lie at returns of "
        f"{x[worst].min():+.1f} to {x[worst].max():+.1f}%."
    )
    return figure(
        "Where the tail lies",
        f"Each dot is a scenario: {shown.size:,} evenly chosen of {held.size:,}, and the tail.",
        chart.svg(text),
        key=legend([("dot c1", "scenarios"), ("dot c3", f"worst {100 * subject.levels[-1]:g}%")]),
    )


def _mean_surface(subject: Subject, positions: npt.NDArray[np.intp]) -> str:
    """How the surface moves where the worst happens: the mean over the tail, cell by cell."""
    worst = risk.tail_weight(subject.judged, subject.weight, alpha=subject.levels[-1])[positions]
    change = subject.surfaces[positions, -1].astype(np.float64) - subject.start.implied_vol
    mean = 100 * np.tensordot(worst, change, axes=1)
    limit = max(float(np.abs(mean).max()), 1e-6)
    drawing = surface_map(
        mean, subject.start.tau, subject.start.moneyness, limit, "Mean change of volatility in the tail, points",
        size=(400, 250),
    )  # fmt: skip
    return figure(
        "The surface in the tail",
        f"Mean change of volatility over the worst {100 * subject.levels[-1]:g}%, in vol points: moneyness across, "
        "maturity upwards.",
        drawing + scale(limit, "vol points"),
    )

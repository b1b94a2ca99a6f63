"""Where the index and the volatilities go: fans along the path, and where they stand at its end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen._report._html import Cell, figure, legend, per_cent, table
from volscen._report._subject import Subject
from volscen._report._svg import Chart, bounds
from volscen._statistics import quantile
from volscen.surface import interpolate_vol

__all__ = ["fans"]

FloatArray = npt.NDArray[np.float64]

#: Levels of a fan: two bands about a median.
LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_LEAD = 60
_KEY = [("band c1a", "1–99%"), ("band c1b", "5–95%"), ("band c1c", "25–75%"), ("line c1", "median")]


def fans(subject: Subject) -> str:
    """Figures of the return path and of at-the-money volatilities."""
    several = len(subject.labels) > 1
    parts = [_index_fan(subject)] if several else []
    parts.append(_histogram(subject))
    if several:
        parts += [_vol_fan(subject, i) for i in range(len(subject.tenors))]
    parts.append(_term_structure(subject))
    return "".join(parts)


def _fan(chart: Chart, x: npt.ArrayLike, q: FloatArray) -> None:
    for low, high, colour in ((0, 6, "c1a"), (1, 5, "c1b"), (2, 4, "c1c")):
        chart.band(x, q[low], q[high], colour)
    chart.line(x, q[3], "c1")


def _past_length(days: int) -> int:
    """A fan of a few days is not to be dwarfed by what went before."""
    return min(_LEAD, max(10, 3 * days))


def _fan_chart(
    subject: Subject, x: FloatArray, q: FloatArray, before: tuple[FloatArray, FloatArray], *, y_label: str,
    sign: bool = False,
) -> tuple[Chart, list[tuple[str, str]], list[tuple[Cell, ...]]]:  # fmt: skip
    """A fan in per cent with what went before it, its key, and a table's rows of its quantiles by step."""
    past_x, past = before
    chart = Chart(
        (float(past_x[0]), float(x[-1])), bounds(q, past), x_label=f"{subject.period}s from the start",
        y_label=y_label, unit=("", "%"),
    )  # fmt: skip
    _fan(chart, x, q)
    key = list(_KEY)
    if past.size > 1:
        chart.line(past_x, past, "c0")
        key.append(("line c0", "history"))
    form = "+.2f" if sign else ".2f"
    steps = list(zip(subject.labels, q.T[1:], strict=True))
    chart.hints(
        x[1:], [f"{subject.unit} {d}: median {v[3]:{form}}%, 5–95% {v[1]:{form}} to {v[5]:{form}}%" for d, v in steps]
    )
    return chart, key, [(f"{subject.unit} {d}", *(per_cent(v / 100, sign=sign) for v in column)) for d, column in steps]


def _index_fan(subject: Subject) -> str:
    x = np.array([0, *subject.labels], dtype=np.float64)
    q = np.column_stack([np.zeros(len(LEVELS)), quantile(subject.growth, subject.weight, LEVELS)]) * 100
    past_x, past = np.zeros(1), np.zeros(1)
    if subject.history is not None:
        index = subject.past_index[-_past_length(subject.labels[-1]) :]
        past = 100 * np.expm1(index - index[-1])
        past_x = np.arange(1 - past.size, 1, dtype=np.float64)
    chart, key, rows = _fan_chart(subject, x, q, (past_x, past), y_label="index against today", sign=True)
    last = q[:, -1]
    about = f"Weighted quantiles of the return since {subject.day}, along the path."
    text = f"Fan of the index: after {subject.horizon} 90% lie between {last[1]:+.1f}% and {last[5]:+.1f}%."
    numbers = table(("", *_heads()), rows, caption="Index against today", id="index-fan")
    return figure("The index", about, chart.svg(text), key=legend(key), numbers=numbers)


def _heads() -> list[str]:
    return [f"q{100 * level:g}" for level in LEVELS]


def _histogram(subject: Subject) -> str:
    returns = 100 * subject.growth[:, -1]
    w = subject.weight
    low, high = quantile(returns, w, [0.001, 0.999])
    pad = 0.05 * max(high - low, 1e-6)
    edges = np.linspace(low - pad, high + pad, 42)
    # What lies beyond the frame is counted in its outermost bars.
    inside = np.clip(returns, edges[0], edges[-1])
    share, _ = np.histogram(inside, edges, weights=w)
    equal, _ = np.histogram(inside, edges, weights=np.full(w.size, 1 / w.size))
    q = quantile(returns, w, LEVELS)
    chart = Chart(
        (float(edges[0]), float(edges[-1])), (0.0, 108.0 * float(max(share.max(), equal.max()))),
        x_label=f"index return over {subject.horizon}", y_label="probability", unit=("%", "%"),
    )  # fmt: skip
    chart.bars(edges, 100 * share, "c1")
    chart.steps(edges, 100 * np.append(equal, equal[-1]), "c2")
    chart.upright(float(q[1]), "c0 dash", "5%")
    chart.upright(float(q[5]), "c0 dash", "95%")
    centres = (edges[1:] + edges[:-1]) / 2
    chart.hints(
        centres,
        [f"{a:+.2f} to {b:+.2f}%: {100 * s:.2f}%, with equal weights {100 * e:.2f}%"
         for a, b, s, e in zip(edges[:-1], edges[1:], share, equal, strict=True)],
    )  # fmt: skip
    mean = float(w @ returns)
    flat = np.full(w.size, 1 / w.size)
    rows: list[tuple[Cell, ...]] = [
        (name, *(per_cent(v / 100, sign=True) for v in (float(u @ returns), *quantile(returns, u, LEVELS))))
        for name, u in (("weighted", w), ("equal weights", flat))
    ]
    return figure(
        "Return of the index",
        f"Probability of returns over {subject.horizon}, by the weights; the outermost bars hold what lies beyond.",
        chart.svg(f"Histogram of the index return: mean {mean:+.2f}%, 90% between {q[1]:+.2f}% and {q[5]:+.2f}%."),
        key=legend([("bar c1", "weighted"), ("line c2", "equal weights")]),
        numbers=table(("", "mean", *_heads()), rows, caption="Return of the index", id="index-return"),
    )


def _vol_fan(subject: Subject, tenor: int) -> str:
    days = 365 * subject.tenors[tenor]
    now = 100 * subject.atm0[tenor]
    x = np.array([0, *subject.labels], dtype=np.float64)
    q = np.column_stack([np.full(len(LEVELS), now), 100 * quantile(subject.atm[:, :, tenor], subject.weight, LEVELS)])
    past_x, past = np.zeros(1), np.full(1, now)
    if subject.history is not None:
        n = _past_length(subject.labels[-1])
        past = 100 * subject.at_the_money(subject.history["implied_vol"].values[-n:])[:, tenor]
        past_x = np.arange(1 - past.size, 1, dtype=np.float64)
    chart, key, rows = _fan_chart(subject, x, q, (past_x, past), y_label="implied volatility")
    text = (
        f"Fan of the {days:.0f}-day volatility: {now:.1f}% now, after {subject.horizon} 90% between "
        f"{q[1, -1]:.1f}% and {q[5, -1]:.1f}%."
    )
    return figure(
        f"At-the-money volatility, {days:.0f} days",
        "Weighted quantiles along the path, at K/F = 1 and a constant time to expiry.",
        chart.svg(text),
        key=legend(key),
        numbers=table(("", *_heads()), rows, caption=f"Volatility of {days:.0f} days", id=f"vol-fan-{days:.0f}"),
    )


def _term_structure(subject: Subject) -> str:
    tau = subject.start.tau
    grid = (tau, subject.start.moneyness, tau, np.ones(tau.size))
    now = 100 * interpolate_vol(subject.start.implied_vol, *grid)
    q = 100 * quantile(interpolate_vol(subject.surfaces[:, -1], *grid), subject.weight, LEVELS)
    days = 365 * tau
    chart = Chart(
        (float(days[0]), max(float(days[-1]), float(days[0]) * 1.01)), bounds(q, now), x_label="days to expiry",
        y_label="implied volatility", unit=("", "%"), x_log=True, x_ticks=_day_ticks(days),
    )  # fmt: skip
    _fan(chart, days, q)
    chart.line(days, now, "c0")
    chart.hints(
        days,
        [f"{d:.0f} days: now {n:.2f}%, median {v[3]:.2f}%, 5–95% {v[1]:.2f} to {v[5]:.2f}%"
         for d, n, v in zip(days, now, q.T, strict=True)],
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = [
        (f"{d:.4g} days", per_cent(n / 100), *(per_cent(v / 100) for v in column))
        for d, n, column in zip(days, now, q.T, strict=True)
    ]
    return figure(
        "Term structure at the end",
        f"Volatility at K/F = 1 by time to expiry: today, and weighted quantiles after {subject.horizon}.",
        chart.svg(f"Term structure of volatility at K/F 1 now and its quantiles after {subject.horizon}."),
        key=legend([*_KEY, ("line c0", "today")]),
        numbers=table(("", "today", *_heads()), rows, caption="Term structure at the end", id="term-structure"),
    )


def _day_ticks(days: FloatArray) -> list[tuple[float, str]]:
    """Maturities of the grid, as many as fit beside each other on a logarithmic axis."""
    kept: list[float] = []
    span = np.log(max(days[-1] / days[0], 1.01))
    for day in days:
        if not kept or np.log(day / kept[-1]) > 0.1 * span:
            kept.append(float(day))
    return [(day, f"{day:.0f}") for day in kept]

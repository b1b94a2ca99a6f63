"""What the book may lose: distribution, measures with intervals, horizon, contributions, explanation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen import risk
from volscen._report._html import Cell, Number, figure, legend, number, panel, per_cent, plain, table
from volscen._report._subject import Subject
from volscen._report._svg import Chart, bounds
from volscen._statistics import quantile
from volscen.errors import InputError
from volscen.portfolio import explain

__all__ = ["book_risk", "interval_text"]

FloatArray = npt.NDArray[np.float64]

_MEASURES = (("value_at_risk", "VaR"), ("expected_shortfall", "ES"))
#: Lines of a book that a page lists one by one.
_LINES = 25


def book_risk(subject: Subject) -> str:
    """Everything about the book's profit and loss at the last step, and its tails on the way there."""
    parts = [_measures(subject), _distribution(subject)]
    if len(subject.labels) > 1:
        parts.append(_horizon(subject))
    parts += [_contributions(subject), _explained(subject)]
    return "".join(parts)


def _interval(values: FloatArray, weight: FloatArray, measure: str, alpha: float) -> risk.Interval | None:
    """Estimate and ends of its interval, or None where the scenarios are too few for one."""
    try:
        return risk.confidence_interval(values, weight, measure=measure, alpha=alpha)  # type: ignore[arg-type]
    except InputError:
        return None


def interval_text(subject: Subject, measure: str, alpha: float) -> tuple[Number, str]:
    """A measure of the book and its interval as text."""
    value = float(getattr(risk, measure)(subject.judged, subject.weight, alpha=alpha))
    found = _interval(subject.judged, subject.weight, measure, alpha)
    return number(value), "" if found is None else f"{number(found[1]).text} to {number(found[2]).text}"


def _measures(subject: Subject) -> str:
    profit, w = subject.judged, subject.weight
    flat = np.full(w.size, 1 / w.size)
    rows: list[tuple[Cell, ...]] = []
    for alpha in subject.levels:
        for measure, short in _MEASURES:
            found = _interval(profit, w, measure, alpha)
            function = getattr(risk, measure)
            ends: tuple[Cell, Cell] = ("too few", "too few") if found is None else (number(found[1]), number(found[2]))
            rows.append(
                (
                    f"{short} {100 * (1 - alpha):g}%",
                    number(float(function(profit, w, alpha=alpha))),
                    *ends,
                    number(float(function(profit, flat, alpha=alpha))),
                )
            )
    mean, spread = float(w @ profit), float(np.sqrt(w @ np.square(profit - w @ profit)))
    rows.append(("mean P&L", number(mean), "", "", number(float(profit.mean()))))
    rows.append(("standard deviation", number(spread), "", "", number(float(profit.std()))))
    return panel(
        "Measures",
        f"Over {subject.horizon}, in currency, losses positive. From and to enclose a measure with 95% confidence, for "
        "the finite number of scenarios.",
        table(("", "weighted", "from", "to", "equal weights"), rows, caption="Risk of the book", id="risk-table"),
    )


def _distribution(subject: Subject) -> str:
    profit, w = subject.judged, subject.weight
    low, high = quantile(profit, w, [0.001, 0.999])
    pad = 0.05 * max(high - low, 1e-9 * max(abs(low), abs(high), 1.0))
    edges = np.linspace(low - pad, high + pad, 46)
    share, _ = np.histogram(np.clip(profit, edges[0], edges[-1]), edges, weights=w)
    alpha = subject.levels[-1]
    var, es = (float(getattr(risk, m)(profit, w, alpha=alpha)) for m, _ in _MEASURES)
    chart = Chart(
        (float(edges[0]), float(edges[-1])), (0.0, 108.0 * float(share.max())), x_label="profit and loss, currency",
        y_label="probability", unit=("", "%"),
    )  # fmt: skip
    bad = edges[:-1] < -var
    chart.bars(edges, np.where(bad, 0, 100 * share), "c1")
    chart.bars(edges, np.where(bad, 100 * share, 0), "c3")
    chart.upright(-es, "c3", f"ES {100 * (1 - alpha):g}%", before=True)
    chart.upright(-var, "c0 dash", f"VaR {100 * (1 - alpha):g}%", before=False)
    chart.hints(
        (edges[1:] + edges[:-1]) / 2,
        [
            f"{number(a).text} to {number(b).text}: {100 * s:.2f}%"
            for a, b, s in zip(edges[:-1], edges[1:], share, strict=True)
        ],
    )
    return figure(
        "Profit and loss",
        f"Distribution over {subject.horizon} by the weights; the outermost bars hold what lies beyond.",
        chart.svg(
            f"Histogram of the book's profit and loss; VaR {number(var).text} and ES {number(es).text} at "
            f"{100 * (1 - alpha):g}%."
        ),
        key=legend([("bar c1", "P&L"), ("bar c3", f"beyond the VaR {100 * (1 - alpha):g}%")]),
    )


def _horizon(subject: Subject) -> str:
    found = risk.horizon(subject.profit, alpha=list(subject.levels))
    unit, days = subject.unit, np.array(subject.labels, dtype=np.float64)
    last = found.isel(tail=-1)
    alpha = subject.levels[-1]
    lines = (
        ("expected_shortfall", "c3", "ES on the paths"),
        ("expected_shortfall_sqrt", "c3 dash", f"ES of the first {unit} × √{unit}s"),
        ("value_at_risk", "c1", "VaR on the paths"),
        ("value_at_risk_sqrt", "c1 dash", f"VaR of the first {unit} × √{unit}s"),
    )
    values = {name: last[name].values for name, _, _ in lines}
    chart = Chart(
        (float(days[0]), float(days[-1])), bounds(0.0, *values.values()), x_label=f"{subject.period}s",
        y_label="loss, currency",
    )  # fmt: skip
    for name, colour, _ in lines:
        chart.line(days, values[name], colour)
    chart.hints(
        days,
        [f"{unit} {d:g}: VaR {number(v).text}, ES {number(e).text}"
         for d, v, e in zip(days, values["value_at_risk"], values["expected_shortfall"], strict=True)],
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = [
        (f"{unit} {d:g}", *(number(float(values[name][i])) for name, _, _ in lines)) for i, d in enumerate(days)
    ]
    return figure(
        "Risk along the path",
        f"Losses at {100 * (1 - alpha):g}% after each {unit}, beside the square-root-of-time rule.",
        chart.svg(
            f"VaR and ES at {100 * (1 - alpha):g}% after each of {days.size} {unit}s, and scaled up from the first."
        ),
        key=legend([(f"line {colour}", text) for _, colour, text in lines]),
        numbers=table(("", *(text for _, _, text in lines)), rows, caption="Risk along the path", id="horizon-table"),
    )


def _contributions(subject: Subject) -> str:
    alpha = subject.levels[-1]
    groups = "group" if subject.book is not None and subject.book.groups is not None else None
    found = risk.contributions(subject.profit, alpha=alpha, groups=groups)
    es, var = found["component_es"].values, found["component_var"].values
    order = np.argsort(-np.abs(es), kind="stable")
    shown = order[:_LINES]
    labels = [str(v) for v in found["line"].values]
    whole = float(found["expected_shortfall"])
    profit = subject.profit

    def share(value: float) -> Cell:
        return per_cent(value / whole, 1) if whole != 0 else "–"

    rows: list[tuple[Cell, ...]] = [
        (labels[i], plain(float(profit["quantity"][i])), number(float(profit["value0"][i])), number(float(var[i])),
         number(float(es[i])), share(float(es[i])), "off the grid" if bool(profit["extrapolated"][i]) else "")
        for i in shown
    ]  # fmt: skip
    rest = order[_LINES:]
    if rest.size:
        rows.append((f"{rest.size:,} other lines", "", number(float(profit["value0"].values[rest].sum())),
                     number(float(var[rest].sum())), number(float(es[rest].sum())), share(float(es[rest].sum())),
                     ""))  # fmt: skip
    rows.append(("whole book", "", number(float(profit["value0"].sum())), number(float(found["value_at_risk"])),
                 number(whole), share(whole), ""))  # fmt: skip
    few = shown[:12]
    size = (400, int(52 + 24 * few.size))
    chart = Chart(
        bounds(0.0, es[few], margin=0.06), (-float(few.size), 0.0), x_label="contribution, currency", y_label="",
        y_ticks=[], size=size, left=160,
    )  # fmt: skip
    chart.horizontal_bars(es[few], ["c3" if es[i] > 0 else "c2" for i in few], [_short(labels[i]) for i in few])
    lines = table(
        ("", "units", "value", f"VaR {100 * (1 - alpha):g}%", f"ES {100 * (1 - alpha):g}%", "share of ES", ""),
        rows,
        caption="Contributions by line",
        id="contributions-table",
    )
    by_group = ""
    if groups:
        by_group = panel("By group", "Sums over the lines of a group.", table(
            ("group", "VaR", "ES", "share of ES"),
            [
                (str(g) or "none", number(float(v)), number(float(e)), share(float(e)))
                for g, v, e in zip(*(found[name].values for name in ("group", "group_var", "group_es")), strict=True)
            ],
            caption="Contributions by group",
            id="groups-table",
        ))  # fmt: skip
    return (
        figure(
            "What the loss is made of",
            f"Contribution of the largest lines to the expected shortfall at {100 * (1 - alpha):g}%; below zero a line "
            "hedges.",
            chart.svg("Contributions to expected shortfall, largest first: "
                      + ", ".join(f"{labels[i]} {number(float(es[i])).text}" for i in few[:4]) + "."),
            key=legend([("bar c3", "adds to the loss"), ("bar c2", "hedges")]),
        )
        + panel("By line", "Contributions, which sum to the book's; losses are positive.", lines, wide=True)
        + by_group
    )  # fmt: skip


def _short(label: str) -> str:
    return label if len(label) <= 22 else label[:21] + "…"


def _explained(subject: Subject) -> str:
    alpha = subject.levels[-1]
    found = explain(subject.ds, subject.book, alpha=alpha, elapsed_days=subject.elapsed_days)  # type: ignore[arg-type]
    spread = found["std"].values
    spread = np.where(spread > 1e-12 * spread.max(initial=0.0), spread, 0.0)  # what is certain moves by rounding alone
    rows: list[tuple[Cell, ...]] = [
        (str(name), number(float(found["mean"][i])), number(spread[i]), number(-float(found["tail_mean"][i])))
        for i, name in enumerate(found["component"].values)
    ]
    known = f", which explain {100 * float(found['r_squared']):.1f}% of the variance" if "r_squared" in found else ""
    return panel(
        "Why",
        f"Profit and loss by the sensitivities at the start{known}. The last column sums to the expected shortfall, "
        "losses positive.",
        table(
            ("", "mean", "standard deviation", f"in the ES {100 * (1 - alpha):g}%"),
            rows,
            caption="Profit and loss explained",
            id="explained-table",
        ),
    )

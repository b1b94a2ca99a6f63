"""How the probability is spread over the scenarios, and what the weights did to the arbitrage penalty."""

from __future__ import annotations

import numpy as np

from volscen._figures import by_date
from volscen._report._html import Cell, figure, legend, number, panel, per_cent, plain, table
from volscen._report._subject import Subject
from volscen._report._svg import Chart
from volscen._reweight import effective_sample_size, weighing_penalty
from volscen._statistics import quantile

__all__ = ["weights"]

_LEVELS = (0.5, 0.95, 0.99)
#: A penalty above this is arbitrage, below it rounding.
_ARBITRAGE = 1e-6


def weights(subject: Subject) -> str:
    """Concentration of the weights, the penalty before and after them, and what they are made of."""
    return _concentration(subject) + _penalty(subject)


def _concentration(subject: Subject) -> str:
    w = subject.weight
    n = w.size
    ess = float(effective_sample_size(w))
    mass = np.concatenate([[0.0], np.cumsum(np.sort(w)[::-1])])
    # The curve is concave: few of its points draw it.
    at = np.unique(np.concatenate([[0, n], np.geomspace(1, n, 60), np.linspace(0, n, 60)]).astype(int))
    chart = Chart(
        (0.0, 100.0), (0.0, 100.0), x_label="share of the scenarios, heaviest first",
        y_label="share of the probability", unit=("%", "%"),
    )  # fmt: skip
    chart.line([0, 100], [0, 100], "c0 dash")
    chart.line(100 * at / n, 100 * mass[at], "c1")
    chart.hints(
        100 * at[1:] / n,
        [f"heaviest {100 * k / n:.1f}% of the scenarios: {100 * mass[k]:.1f}% of the probability" for k in at[1:]],
    )
    rows: list[tuple[Cell, ...]] = [
        ("scenarios", plain(n)),
        ("effective sample size", number(ess, 6)),
        ("effective share", per_cent(ess / n, 1)),
        ("largest weight over an equal one", number(n * float(w.max()))),
        ("smallest weight over an equal one", number(n * float(w.min()))),
        ("scenarios without weight", plain(int((w == 0).sum()))),
    ]
    beta = by_date(subject.ds, "beta")
    if beta is not None:
        rows.append(("beta of the arbitrage weights", number(float(beta[0]))))
    rows += [
        (text, str(subject.ds.attrs[name])) for name, text in _ABOUT.items() if by_date(subject.ds, name) is not None
    ]
    return figure(
        "Weights",
        f"{ess:,.0f} of {n:,} scenarios are effective. A straight line is equal weights.",
        chart.svg(f"Concentration of the weights: effective sample size {ess:,.0f} of {n:,} scenarios."),
        key=legend([("line c1", "weights"), ("line c0 dash", "equal weights")]),
        numbers=table(("", ""), rows, caption="Weights", id="weights-table", wrap=True),
    )


#: Attributes of weights that did not come from the penalty alone.
_ABOUT = {
    "views": "views",
    "kl_divergence": "relative entropy to the prior, nats",
    "view_confidence": "confidence in the views",
    "weight_prior": "prior",
    "condition": "condition",
    "resampled": "resampled by",
    "resampled_from": "resampled from so many",
    "distinct_scenarios": "different scenarios",
    "beta_note": "note",
}


def _penalty(subject: Subject) -> str:
    name = weighing_penalty(subject.ds)
    phi = subject.ds[name].sum("step").values.astype(np.float64)
    w = subject.weight
    flat = np.full(w.size, 1 / w.size)
    arms = (("before", flat, "c2"), ("after", w, "c1"))
    rows: list[tuple[Cell, ...]] = [
        (
            f"{arm} weighting",
            number(float(u @ phi), 3),
            *(number(v, 3) for v in quantile(phi, u, _LEVELS)),
            number(float(phi[u > 0].max()), 3),
            per_cent(float(u[phi > _ARBITRAGE].sum())),
        )
        for arm, u, _ in arms
    ]
    numbers = table(
        ("", "mean", *(f"q{100 * q:g}" for q in _LEVELS), "largest", "above 1e−6"),
        rows,
        caption="Arbitrage penalty of a path",
        id="penalty-table",
    )
    before, after = float(phi.mean()), float(w @ phi)
    projected = " The surfaces were projected; this is the penalty before that." if name.endswith("_raw") else ""
    if not phi.max() > 0:
        return panel(
            "Static arbitrage", f"No surface of any path has any: the penalty is 0 throughout.{projected}", numbers
        )
    low, high = 1e-9, max(float(phi.max()) * 2, 1e-7)
    chart = Chart(
        (low, high), (0.0, 100.0), x_label="penalty of the path, logarithmic", y_label="probability of more",
        x_log=True, unit=("", "%"),
    )  # fmt: skip
    x = np.geomspace(low, high, 90)
    order = np.argsort(phi, kind="stable")
    curves = []
    for _, u, colour in arms:
        mass = np.concatenate([[0.0], np.cumsum(u[order])])
        above = 100 * np.clip(1 - mass[np.searchsorted(phi[order], x, side="right")], 0, 1)
        chart.line(x, above, colour + ("" if colour == "c1" else " dash"))
        curves.append(above)
    chart.hints(x, [f"above {p:.1e}: {b:.2f}% before, {a:.2f}% after" for p, b, a in zip(x, *curves, strict=True)])
    return figure(
        "Static arbitrage",
        f"Penalty of calendar, butterfly and call-spread arbitrage, summed over the path: mean {before:.3g} before "
        f"weighting, {after:.3g} after.{projected}",
        chart.svg(f"Share of paths above each penalty before and after weighting; means {before:.3g} and {after:.3g}."),
        key=legend([("line c2 dash", "before (equal weights)"), ("line c1", "after (weighted)")]),
        numbers=numbers,
    )

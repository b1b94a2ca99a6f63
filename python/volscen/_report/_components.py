"""Principal components of one-step moves of the surface: the scenarios' beside the history's."""

from __future__ import annotations

import numpy as np

from volscen._report._html import Cell, figure, number, panel, per_cent, table
from volscen._report._maps import scale, surface_map
from volscen._report._subject import Subject
from volscen.evaluation._structure import N_COMPONENTS, principal_components

__all__ = ["components"]

_SHAPES = ("first", "second", "third")


def components(subject: Subject) -> str:
    """A figure for each component, and a table of their shares."""
    tau, moneyness = subject.start.tau, subject.start.moneyness
    first = np.log(subject.surfaces[:, 0].astype(np.float64)) - np.log(subject.start.implied_vol)
    moves = first.reshape(first.shape[0], -1)
    held = subject.weight > 0
    if not np.ptp(moves[held], axis=0).max() > 0:
        return "<p>The surfaces of the scenarios do not differ: they have no components.</p>"
    vectors, shares = principal_components(moves, subject.weight)
    n = shares.size
    past_vectors, past_shares = None, None
    if subject.history is not None:
        log_vol = np.log(subject.history["implied_vol"].values.astype(np.float64)).reshape(
            subject.history.sizes["date"], -1
        )
        past = log_vol[subject.labels[0] :] - log_vol[: -subject.labels[0]]
        if len(past) > 2 and np.ptp(past, axis=0).max() > 0:
            past_vectors, past_shares = principal_components(past)
    arms = [("Scenarios", vectors)] + ([] if past_vectors is None else [("History", past_vectors)])
    limit = max(float(np.abs(v).max()) for _, v in arms)
    parts = []
    for k in range(n):
        pictures, inner = [], None
        if past_vectors is not None and past_shares is not None:
            inner = float(vectors[:, k] @ past_vectors[:, k])
        for arm, v in arms:
            # A component has no sign of its own: the history's is turned towards the scenarios'.
            sign = -1.0 if arm == "History" and inner is not None and inner < 0 else 1.0
            shape = (sign * v[:, k]).reshape(tau.size, moneyness.size)
            share = shares[k] if arm == "Scenarios" else float(np.asarray(past_shares)[k])
            pictures.append(
                f'<div class="pane"><p class="pane-title">{arm}, {100 * share:.1f}% of the variance</p>'
                + surface_map(shape, tau, moneyness, limit, f"{arm}: {_SHAPES[k]} component, loadings")
                + "</div>"
            )
        agrees = "" if inner is None else f" Inner product with the history's: {abs(inner):.3f}."
        parts.append(
            figure(
                f"{_SHAPES[k].capitalize()} component",
                f"Loading of each cell of the surface, moneyness across, maturity upwards.{agrees}",
                f'<div class="panes">{"".join(pictures)}</div>',
            )
        )
    rows: list[list[Cell]] = []
    for k in range(n):
        row: list[Cell] = [f"PC{k + 1}", per_cent(shares[k], 1)]
        if past_vectors is not None and past_shares is not None:
            row += [per_cent(past_shares[k], 1), number(abs(float(vectors[:, k] @ past_vectors[:, k])), 3)]
        rows.append(row)
    head = (
        "",
        "share of the scenarios",
        *(("share of the history", "inner product") if past_vectors is not None else ()),
    )
    shares_table = table(head, rows, caption="Share of the variance of log-volatility moves", id="components-table")
    about = (
        "Of moves of log volatility in the first step"
        + ("" if past_vectors is None else ", beside those of the history")
        + "."
    )
    return "".join(parts) + panel("Share of the variance", about, shares_table + scale(limit, "loading"))


assert len(_SHAPES) == N_COMPONENTS

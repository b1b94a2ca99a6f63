"""Hedge ratios of the book, and what each way of hedging leaves."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from volscen._report._html import Cell, Number, caution, figure, number, panel, per_cent, table
from volscen._report._subject import Subject
from volscen._report._svg import Chart, bounds
from volscen.errors import InputError
from volscen.hedging import hedge
from volscen.portfolio._instruments import Option, Underlying

__all__ = ["hedges"]

#: An option this close in time to one of the book would replicate it by put-call parity.
_APART = 1.5 / 365


def hedges(subject: Subject, instruments: Any, method: str) -> str:
    """Table of ratios by the method asked for, and what simpler hedges leave."""
    given = instruments is not None
    traded = _given(instruments) if given else _usual(subject)
    doubts: list[str] = []
    try:
        found = _hedge(subject, traded, method, doubts)
    except InputError as error:
        if given or method != "auto":
            raise
        return caution([f"no hedge: {error}"])
    rivals: list[tuple[str, xr.Dataset]] = []
    for label, rival in (("Black delta, underlying alone", "delta"), ("regression, underlying alone", "regression")):
        try:
            rivals.append((label, _hedge(subject, [Underlying()], rival, [])))
        except InputError as error:
            doubts.append(f"{label}: {error}")
    alpha = found["tail"].values
    chosen = f"{found.attrs['method']}, these instruments"
    head = (
        "",
        "standard deviation",
        "of no hedge",
        *(f"ES {100 * (1 - a):g}%" for a in alpha),
        "net delta",
        "net vega",
    )
    profit, w = subject.judged, subject.weight
    from volscen import risk

    spread = float(np.sqrt(w @ np.square(profit - w @ profit)))
    none: tuple[Cell, ...] = (
        "no hedge", number(spread), per_cent(1.0, 1),
        *(number(float(v)) for v in risk.expected_shortfall(profit, w, alpha=alpha)),
        number(float(found["portfolio_delta"])), number(float(found["portfolio_vega"])),
    )  # fmt: skip
    rows = [none]
    for label, one in [*rivals, (chosen, found)]:
        rows.append(
            (label, number(float(one["residual_std"])), per_cent(float(one["residual_std"]) / spread, 1),
             *(number(float(v)) for v in one["residual_es"].values), number(float(one["net_delta"])),
             number(float(one["net_vega"])))
        )  # fmt: skip
    ratios: list[tuple[Cell, ...]] = [
        (str(name), number(float(found["ratio"][i]), 5), number(float(found["value0"][i])),
         number(float(found["delta"][i])), number(float(found["vega"][i])),
         "off the grid" if bool(found["extrapolated"][i]) else "")
        for i, name in enumerate(found["instrument"].values)
    ]  # fmt: skip
    about = "Units that replicate the book: sell them against it."
    if not given:
        about += (
            " No instruments were named; these are the underlying and at-the-money options of maturities that the book "
            "does not hold."
        )
    return (
        (f'<div class="wide">{caution(doubts)}</div>' if doubts else "")
        + panel(
            f"Hedge ratios by {found.attrs['method']}",
            f"{about} They hedge {100 * float(found['r_squared']):.1f}% of the variance.",
            table(
                ("instrument", "units", "value of one", "delta", "vega", ""),
                ratios,
                caption="Hedge ratios",
                id="hedge-table",
            ),
        )
        + _what_is_left(rows, float(alpha[-1]))
        + panel(
            "What is left",
            f"Profit and loss of the book less its hedge over {subject.horizon}, in currency.",
            table(head, rows, caption="What hedges leave", id="residual-table"),
            wide=True,
        )
    )


def _what_is_left(rows: list[tuple[Cell, ...]], alpha: float) -> str:
    """Expected shortfall by way of hedging: the last of those in the rows."""
    labels = [str(row[0]) for row in rows]
    left = [row[-3].value for row in rows if isinstance(row[-3], Number)]
    chart = Chart(
        bounds(0.0, left, margin=0.05), (-float(len(left)), 0.0), x_label="expected shortfall, currency", y_label="",
        y_ticks=[], size=(400, 52 + 34 * len(left)), left=110,
    )  # fmt: skip
    chart.horizontal_bars(left, ["c2", *["c1"] * (len(left) - 1)], [label.partition(",")[0] for label in labels])
    return figure(
        f"Expected shortfall at {100 * (1 - alpha):g}%",
        "Of the book alone, of the book less a hedge by the underlying, and less the hedge beside.",
        chart.svg(
            "Expected shortfall: " + ", ".join(f"{a} {number(v).text}" for a, v in zip(labels, left, strict=True)) + "."
        ),
    )


def _hedge(subject: Subject, traded: Sequence[Any], method: str, doubts: list[str]) -> xr.Dataset:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = hedge(subject.ds, subject.book, traded, method=method, elapsed_days=subject.elapsed_days)  # type: ignore[arg-type]
    doubts += [str(warning.message) for warning in caught]
    return found


def _given(instruments: Any) -> Any:
    from pathlib import Path

    from volscen.portfolio import instruments_from_table

    if isinstance(instruments, (str, Path)) or hasattr(instruments, "columns"):
        return instruments_from_table(instruments)
    return instruments


def _usual(subject: Subject) -> list[Any]:
    """The underlying, and at-the-money calls of one or two maturities of the grid that the book does not hold."""
    from volscen.portfolio import resolve

    assert subject.book is not None
    held = []
    for instrument in subject.book.instruments:
        tau = getattr(resolve(instrument, subject.ds), "tau", None)
        if isinstance(tau, float):
            held.append(tau)
    last = 0.0 if subject.calendar_days is None else float(subject.calendar_days[-1]) / 365
    free = [t for t in subject.start.tau if t > last + _APART and all(abs(t - h) > _APART for h in held)]
    wanted = []
    for aim in (30 / 365, 91 / 365):
        near = min(free, key=lambda t, aim=aim: abs(np.log(t / aim)), default=None)  # type: ignore[misc]
        if near is not None and near not in wanted:
            wanted.append(near)
    return [Underlying(), *(Option("call", moneyness=1.0, tau=float(t)) for t in wanted)]

"""Surfaces to leaf through: some scenarios, chosen by the probability of the index return, and the tail."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen._report._assets import fill
from volscen._report._html import escape, legend
from volscen._report._palette import CIVIDIS, shade
from volscen._report._subject import Subject
from volscen._statistics import quantile
from volscen.errors import InputError

__all__ = ["check_shown", "explorer"]

FloatArray = npt.NDArray[np.float64]

#: Volatilities that a page holds at most, so that it stays light.
_BUDGET = 220_000
_MOST_CELLS = 40_000
_TAIL = 10


def check_shown(n_shown: Any) -> int:
    """Number of scenarios to leaf through."""
    if isinstance(n_shown, bool) or not isinstance(n_shown, (int, np.integer)) or not 3 <= n_shown <= 200:
        raise InputError(f"n_shown must be a whole number from 3 to 200, not {n_shown!r}")
    return int(n_shown)


def explorer(subject: Subject, n_shown: int) -> tuple[str, dict[str, Any]]:
    """Markup of the explorer, and the data that its sliders show."""
    cells = subject.start.tau.size * subject.start.moneyness.size
    if cells > _MOST_CELLS:
        raise InputError(f"the grid has {cells:,} points, too many for a page; thin it with volscen.surface.regrid")
    steps = subject.chosen_steps()
    while len(steps) > 1 and (n_shown + _TAIL + 3) * len(steps) * cells > _BUDGET:
        steps = sorted({steps[-1], *steps[: len(steps) - 2]})
    room = _BUDGET // (len(steps) * cells) - 3
    tail_rows = _tail_rows(subject)[: max(min(_TAIL, room // 3), 1)]
    n = int(np.clip(room - len(tail_rows), 3, n_shown))
    rows, share = _chosen(subject, n, tail_rows)
    data = _data(subject, rows, share, steps)
    at = int(np.argmin(np.abs(share - 0.5)))
    every = (
        "" if len(steps) == len(subject.labels) else f" Of {len(subject.labels)} {subject.unit}s {len(steps)} are here."
    )
    whose = " for the book" if subject.book is not None else ""
    text = (
        f"{len(rows)} of {subject.weight.size:,} scenarios, in the order of the index return over {subject.horizon}: "
        f"those at {n} evenly spaced quantiles of it by weight, and the {len(tail_rows)} worst{whose}.{every} Bands "
        "are of all scenarios."
    )
    tau = subject.start.tau
    tenor = int(np.argmin(np.abs(np.log(tau) - np.log(subject.tenors[0]))))
    sliders = [
        _slider("x-scenario", "Scenario", len(rows) - 1, at),
        *([_slider("x-step", subject.unit.capitalize(), len(steps) - 1, len(steps) - 1)] if len(steps) > 1 else []),
        _slider("x-tenor", "Maturity of the smile", tau.size - 1, tenor) if tau.size > 1 else "",
        _slider("x-turn", "Turn the surface", 359, 330),
    ]
    picks = "".join(
        f'<button type="button" data-go="{int(np.argmin(np.abs(share - q)))}">{name}</button>'
        for q, name in ((0.0, "worst return"), (0.05, "5%"), (0.5, "median"), (0.95, "95%"), (1.0, "best return"))
    )
    key = legend([("line c3", "scenario"), ("line c0", "today"), ("band c1s", "5–95% of all")])
    slots = {"text": escape(text), "sliders": "".join(sliders), "picks": picks, "scale": _scale(data), "legend": key}
    return fill("explorer.html", slots), data


def _tail_rows(subject: Subject) -> list[int]:
    """Positions of the worst scenarios, worst first."""
    profit = np.where(subject.weight > 0, subject.judged, np.inf)
    return [int(i) for i in np.argsort(profit, kind="stable")[:_TAIL] if np.isfinite(profit[i])]


def _chosen(subject: Subject, n: int, tail: list[int]) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Positions of the scenarios to show in the order of their returns, and the probability at or below each."""
    returns, w = subject.growth[:, -1], subject.weight
    order = np.argsort(returns, kind="stable")
    mass = np.cumsum(w[order])
    wanted = quantile(returns, w, (np.arange(n) + 0.5) / n)
    # The scenario that a quantile is: the first in order that has this return, and weight.
    weighty = order[w[order] > 0]
    found = weighty[np.minimum(np.searchsorted(returns[weighty], wanted, side="left"), weighty.size - 1)]
    place = np.empty(order.size, dtype=np.intp)
    place[order] = np.arange(order.size)
    at = np.unique(place[np.concatenate([found, np.array(tail, dtype=np.intp)])])
    return order[at], np.asarray(np.minimum(mass[at], 1.0))


def _data(subject: Subject, rows: npt.NDArray[np.intp], share: FloatArray, steps: list[int]) -> dict[str, Any]:
    """Everything that the script draws; volatilities in hundredths of a point."""
    held = np.ix_(rows, np.array(steps))
    shown = _whole(subject.surfaces[held])
    band = np.stack([quantile(subject.surfaces[:, s], subject.weight, [0.05, 0.5, 0.95]) for s in steps])
    money = subject.start.moneyness
    atm = subject.atm[held][:, :, 0]
    penalty = subject.ds["arbitrage_penalty"].transpose("scenario", "step").values[held]
    return {
        "tau": [round(float(t), 8) for t in subject.start.tau],
        "money": [round(float(m), 6) for m in money],
        "day": [f"{subject.unit} {subject.labels[s]}" for s in steps],
        "tenor": round(365 * subject.tenors[0]),
        "now": _whole(subject.start.implied_vol).tolist(),
        "now_atm": round(1e4 * float(subject.atm0[0])),
        "band": _whole(band).tolist(),
        "name": [subject.names[i] for i in rows],
        "row": [int(i) for i in rows],
        "share": [round(float(p), 5) for p in share],
        "weight": [float(f"{w:.4g}") for w in subject.weight[rows] * subject.weight.size],
        "growth": [[round(float(g), 6) for g in line] for line in subject.growth[held]],
        "atm": _whole(atm).tolist(),
        "penalty": [[float(f"{p:.3g}") for p in line] for line in penalty],
        "vol": shown.tolist(),
        "range": [int(min(shown.min(), _whole(subject.start.implied_vol).min())),
                  int(max(shown.max(), _whole(subject.start.implied_vol).max()))],
        "colours": list(CIVIDIS),
    }  # fmt: skip


def _whole(vol: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    return np.rint(1e4 * vol.astype(np.float64)).astype(np.int64)


def _slider(id: str, label: str, top: int, value: int) -> str:
    return (
        f'<label for="{id}"><span>{escape(label)}</span><output id="{id}-out" for="{id}"></output></label>'
        f'<input type="range" id="{id}" min="0" max="{top}" value="{value}" step="1" autocomplete="off">'
    )


def _scale(data: dict[str, Any]) -> str:
    low, high = (v / 100 for v in data["range"])
    n = 60
    # As in the script: colours run with the square root of the height, as the many low volatilities need most of them.
    edges = [60 + 300 * (i / n) ** 2 for i in range(n + 1)]
    boxes = "".join(
        f'<rect x="{a:.1f}" y="4" width="{b - a + 0.4:.1f}" height="10" fill="{shade(i / (n - 1))}"/>'
        for i, (a, b) in enumerate(pairwise(edges))
    )
    return (
        f'<svg class="chart" viewBox="0 0 420 20" role="img" aria-label="Colours from {low:.1f}% dark to {high:.1f}% '
        f'light"><text class="tick end" x="54" y="13">{low:.1f}%</text>{boxes}<text class="tick" x="366" '
        f'y="13">{high:.1f}%</text></svg>'
    )

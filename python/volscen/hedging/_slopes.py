"""How far a contract's volatility moves when the spot does, over scenarios."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError
from volscen.hedging._base import HedgeProblem, VolSlope
from volscen.portfolio._revalue import Revaluation

__all__ = ["problem_slopes", "scenario_slopes"]

FloatArray = npt.NDArray[np.float64]

#: Numbers interpolated at a time; bounds the memory that a large book takes.
_BLOCK = 2_000_000


def scenario_slopes(work: Revaluation, step: int) -> FloatArray:
    """Weighted least-squares slope of every contract's volatility on the spot; 0 for what has none; shape (n,).

    A contract's volatility changes by that of the surface between where it lay and where it now lies. What has expired
    by then has no slope.
    """
    spot, weight = work.spot[:, step], work.weight
    moved = spot - weight @ spot
    variance = float(weight @ (moved * moved))
    if variance <= (1e-12 * work.start.spot) ** 2:
        raise InputError("the spot is the same in every scenario, so volatility has no slope on it; give vol_slope")
    start = np.nan_to_num(work.contracts.implied_vol)
    total = np.zeros(start.size)
    size = max(1, _BLOCK // start.size)
    for first in range(0, spot.size, size):
        rows = slice(first, first + size)
        total += (weight * moved)[rows] @ (work.vols(step, rows) - start)  # differences: moves may be tiny
    return np.asarray(total / variance)


def problem_slopes(problem: HedgeProblem, given: VolSlope) -> tuple[FloatArray, FloatArray]:
    """Change in volatility per unit of spot of the book's contracts and of the instruments."""
    if given is None:
        return problem.vol_slopes()
    out = []
    for positions in (problem.book, problem.traded):
        slope = np.zeros(len(positions.labels))
        o = positions.has_vega
        if callable(given):
            value = np.asarray(given(positions.tau[o], np.nan_to_num(positions.log_moneyness[o])), dtype=np.float64)
            if value.shape not in ((), (int(o.sum()),)) or not np.all(np.isfinite(value)):
                raise InputError(
                    "vol_slope(tau, log_moneyness) must return one finite number for each option, not "
                    f"shape {value.shape}"
                )
        else:
            value = np.asarray(given, dtype=np.float64)
        slope[o] = value / problem.spot
        out.append(slope)
    return out[0], out[1]

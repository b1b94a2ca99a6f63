"""How far a contract's volatility moves when the spot does, over scenarios."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen._contracts import DAYS_PER_YEAR, Contracts, StartingState
from volscen.errors import InputError
from volscen.hedging._base import HedgeProblem, VolSlope
from volscen.surface import interpolate_vol

__all__ = ["problem_slopes", "scenario_slopes"]

FloatArray = npt.NDArray[np.float64]

#: Numbers interpolated at a time; bounds the memory that a large book takes.
_BLOCK = 2_000_000


def scenario_slopes(
    start: StartingState,
    contracts: Contracts,
    surfaces: npt.NDArray[np.floating],
    spot: FloatArray,
    weight: FloatArray,
    elapsed_days: float,
    *,
    extrapolation: str,
    num_threads: int | None,
) -> FloatArray:
    """Weighted least-squares slope of every contract's volatility on the spot, 0 for the underlying; shape (n,).

    A contract's volatility changes by that of the surface between where it lay and where it now lies; its level at
    the start is a constant and moves no slope. What expires on the way is followed at its time to expiry at the start.
    """
    moved = spot - weight @ spot
    variance = float(weight @ (moved * moved))
    if variance <= (1e-12 * start.spot) ** 2:
        raise InputError(
            "the spot is the same in every scenario, so no slope of volatility on it exists; give vol_slope"
        )
    slope = np.zeros(contracts.tau.size)
    columns = np.flatnonzero(contracts.is_option)
    remaining = contracts.tau - elapsed_days / DAYS_PER_YEAR
    remaining = np.where(remaining > 1e-8, remaining, contracts.tau)
    size = max(1, _BLOCK // spot.size)
    for block in (columns[i : i + size] for i in range(0, columns.size, size)):
        moneyness = contracts.strike[block] / (spot[:, None] * start.carry(remaining[block]))
        vol = interpolate_vol(
            surfaces,
            start.tau,
            start.moneyness,
            remaining[block],
            moneyness,
            extrapolation=extrapolation,
            num_threads=num_threads,
        )
        slope[block] = (weight * moved) @ (vol - vol[0]) / variance  # differences: moves may be tiny beside levels
    return slope


def problem_slopes(problem: HedgeProblem, given: VolSlope) -> tuple[FloatArray, FloatArray]:
    """Change in volatility per unit of spot of the book's contracts and of the instruments."""
    if given is None:
        return problem.vol_slopes()
    out = []
    for positions in (problem.book, problem.traded):
        slope = np.zeros(len(positions.labels))
        o = positions.is_option
        if callable(given):
            value = np.asarray(given(positions.tau[o], positions.log_moneyness[o]), dtype=np.float64)
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

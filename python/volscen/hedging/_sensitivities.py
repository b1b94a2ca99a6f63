"""What hedges from sensitivities share: options first, within limits and lots, then the delta that is left."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError
from volscen.hedging._base import HedgeOptions, HedgeProblem, HedgeSolution, Trading

__all__ = ["admissible", "check_vega", "finish"]

FloatArray = npt.NDArray[np.float64]

#: Vega of a hedging option, relative to spot, below which it hedges no volatility.
_NO_VEGA = 1e-10


def finish(
    problem: HedgeProblem,
    options: HedgeOptions,
    ratio: FloatArray,
    book_delta: FloatArray,
    traded_delta: FloatArray,
) -> HedgeSolution:
    """Bring the options to admissible numbers and hold the delta that they leave in the underlying."""
    underlying = problem.underlying()
    out = admissible(ratio, options.trading)
    out[underlying] = 0.0
    wanted = float(problem.book.quantity @ book_delta - out @ traded_delta)
    out[underlying] = wanted
    out = admissible(out, options.trading)
    wished = ratio.copy()
    wished[underlying] = wanted
    limited = np.flatnonzero((wished < options.trading.lower) | (wished > options.trading.upper))
    doubts = []
    if limited.size:
        names = ", ".join(problem.labels[i] for i in limited)
        doubts.append(
            f"limits keep {names} from the sensitivities to be matched; net_delta and net_vega of the result say what "
            "is left"
        )
    selected = (ratio != 0) | (out != 0)
    selected[underlying] = True
    return HedgeSolution(out, selected=selected, doubts=doubts)


def admissible(ratio: FloatArray, trading: Trading) -> FloatArray:
    """Nearest numbers of units within limits and in whole lots."""
    lots = trading.lot_size > 0
    size = np.where(lots, trading.lot_size, 1.0)
    out = np.clip(ratio, trading.lower, trading.upper)
    whole = np.clip(np.round(out / size), np.ceil(trading.lower / size - 1e-9), np.floor(trading.upper / size + 1e-9))
    return np.asarray(np.where(lots, whole * size, out))


def check_vega(problem: HedgeProblem, option: int) -> None:
    """Refuse a hedging option without vega."""
    vega = problem.traded.vega[option]
    if vega <= _NO_VEGA * problem.spot:
        raise InputError(
            f"{problem.labels[option]} has no vega ({vega:.3g}), so it cannot hedge volatility; choose an option "
            "nearer the money"
        )

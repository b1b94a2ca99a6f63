"""Returns of a history: of the spot, or of the forwards of expiries listed on both days; and jumps that are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from volscen.history._corporate_actions import CorporateAction, find_corporate_action
from volscen.history._listing import Listing

__all__ = ["JUMP_FLAGS", "RETURNS", "DayReturn", "day_return"]

#: What returns may be of.
RETURNS = ("auto", "forward", "spot")

#: Values of ``jump_flag``.
JUMP_FLAGS = {"": 0, "scaled": 1, "shifted": 1, "suspect": 2}

#: Forwards of expiries nearer than this are not used: their noise is that of a few ticks over little carry.
_MIN_TAU = 5 / 365

#: Standard errors of log forwards are not believed below this.
_ERROR_FLOOR = 1e-5


@dataclass(frozen=True)
class DayReturn:
    """Log return into a day.

    Attributes
    ----------
    log_return : float
        Free of corporate actions that are understood.
    basis : {"forward", "spot"}
        What it is of; the spot where no expiry has a forward on both days.
    action : CorporateAction
    adjustment : float
        What the corporate action added.
    """

    log_return: float
    basis: str
    action: CorporateAction
    adjustment: float


def day_return(before: Listing, after: Listing, returns: str) -> DayReturn:
    """Return between two days.

    Notes
    -----
    Of forwards it is the mean of ln F(t, T) - ln F(t-1, T) over the expiries T of at least five days that have a
    forward on both days, weighted by inverse variances: squared standard errors of the two log forwards, from
    the parity fits. Expiries without standard errors count where no other does.
    """
    of_spot = float(np.log(after.spot / before.spot))
    of_forward = _of_forwards(before, after)
    raw = of_forward if returns == "forward" and of_forward is not None else of_spot
    basis = "forward" if returns == "forward" and of_forward is not None else "spot"
    action = find_corporate_action(before, after, of_forward if of_forward is not None else of_spot)
    # Forwards tell what kind of spot a table has: one adjusted already did not move with the contracts.
    adjustment = action.adjustment(after.spot)
    if basis == "spot" and of_forward is not None and abs(raw - of_forward) > abs(raw - of_forward - adjustment):
        adjustment = 0.0
    return DayReturn(raw + adjustment, basis, action, adjustment)


def _of_forwards(before: Listing, after: Listing) -> float | None:
    moves: list[float] = []
    variances: list[float] = []
    for expiry, (tau, level, error) in after.forward.items():
        if expiry in before.forward and tau >= _MIN_TAU:
            _, level0, error0 = before.forward[expiry]
            moves.append(float(np.log(level / level0)))
            variances.append(max(error / level, _ERROR_FLOOR) ** 2 + max(error0 / level0, _ERROR_FLOOR) ** 2)
    if not moves:
        return None
    weight = _weights(variances)
    return float(sum(w * move for w, move in zip(weight, moves, strict=True)) / sum(weight))


def _weights(variances: Sequence[float]) -> list[float]:
    if not any(np.isfinite(variances)):
        return [1.0] * len(variances)
    return [1 / variance if np.isfinite(variance) else 0.0 for variance in variances]

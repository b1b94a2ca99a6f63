"""Which of several quotes of one expiry and side contradict each other, and checks of a chain's units and spot."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen.chain._parity import Parity
from volscen.errors import InputError

__all__ = ["check_units", "not_monotone", "pick_spot"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: By how large a factor call minus put may fail to fall by one per unit of strike before its unit is doubted.
_SLOPE_SLACK = 4.0

#: A spot from the table may differ from the nearest forward, in logarithms, by prices taken at other times and by
#: carry a year. Beyond both it is another unit or another underlying.
_SPOT_SLACK = 0.1
_CARRY_BOUND = 0.5


def not_monotone(
    slice_: npt.NDArray[np.int64], strike: FloatArray, rising: BoolArray, bid: FloatArray, ask: FloatArray
) -> BoolArray:
    """Quotes to leave out so that in every slice no call can be sold above the ask of one with a lower strike, nor put.

    Parameters
    ----------
    slice_ : ndarray of int, shape (n,)
        Expiry and side; quotes of different slices are not compared.
    strike : ndarray, shape (n,)
    rising : ndarray of bool, shape (n,)
        True for puts, whose prices rise with the strike.
    bid, ask : ndarray, shape (n,)
        Equal where there is one price.

    Returns
    -------
    ndarray of bool, shape (n,)
        Of contradicting quotes the one with the most contradictions goes first, of equals the one with the wider
        spread, then the one farther out of the money (the cheaper).
    """
    bad = np.zeros(strike.shape, dtype=bool)
    for one in np.unique(slice_):
        rows = np.flatnonzero(slice_ == one)
        rows = rows[np.argsort(np.where(rising[rows], -strike[rows], strike[rows]), kind="stable")]
        # From the dearest to the cheapest by strike: no later bid may exceed an earlier ask.
        if not np.any(bid[rows][1:] > np.minimum.accumulate(ask[rows])[:-1]):
            continue
        against = np.triu(bid[rows][None, :] > ask[rows][:, None], 1)
        against &= strike[rows][None, :] != strike[rows][:, None]
        against |= against.T
        left = np.ones(rows.size, dtype=bool)
        while (number := against[:, left].sum(axis=1) * left).any():
            worst = np.lexsort((-ask[rows], (ask - bid)[rows], number))[-1]
            left[worst] = False
        bad[rows[~left]] = True
    return bad


def check_units(slope: float) -> None:
    """Refuse prices in another unit than strikes, and calls taken for puts: parity holds for neither.

    Parameters
    ----------
    slope : float
        See :func:`volscen.chain._parity.parity_slope`.
    """
    size = abs(slope)
    if size == 0:
        raise InputError(
            "call minus put is the same at every strike: column price (bid, ask) holds no option prices; volatilities "
            "become prices by volscen.black.price, and a grid of them a history by volscen.make_history"
        )
    if size > _SLOPE_SLACK or size < 1 / _SLOPE_SLACK:
        raise InputError(
            f"call minus put changes by {slope:.3g} per unit of strike where parity has -1: prices and strikes are in "
            f"different units; {'divide' if size > 1 else 'multiply'} column price (bid, ask) by about "
            f"{max(size, 1 / size):.2g}"
        )
    if slope > 0:
        raise InputError(
            "call minus put rises with the strike: calls and puts are swapped; exchange C and P in column option_type"
        )


def pick_spot(quoted: FloatArray, parity: Parity, tau: FloatArray, date: np.datetime64) -> float:
    """Median of the table's spots, if it agrees with the nearest forward.

    Parameters
    ----------
    quoted : ndarray, shape (n,)
        Column ``spot``.
    parity : Parity
    tau : ndarray, shape (E,)
    date : numpy.datetime64
        For errors.
    """
    nearest = int(np.flatnonzero(np.isfinite(parity.forward))[0])
    forward = float(parity.forward[nearest])
    values = quoted[np.isfinite(quoted) & (quoted > 0)]
    if not values.size:
        raise InputError(f"column spot holds no positive number on {date}; fill it in or leave the column out")
    spot = float(np.median(values))
    if abs(np.log(forward / spot)) > _SPOT_SLACK + _CARRY_BOUND * float(tau[nearest]):
        raise InputError(
            f"column spot is {spot:g} on {date}, where put-call parity gives a forward of {forward:g} to the nearest "
            "expiry: no carry explains that; correct its unit or leave the column out"
        )
    return spot

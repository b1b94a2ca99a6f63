"""Strikes by delta: labels of the wings, and the strike of a smile at which a delta is met."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from volscen.errors import InputError

__all__ = ["Roots", "delta_labels", "quantile_of_call_delta", "read_deltas", "solve_rising"]

FloatArray = npt.NDArray[np.float64]

_LABEL = re.compile(r"(\d+(?:\.\d+)?)\s*(?:D|Δ)?\s*([PC])", re.IGNORECASE)

#: Farthest log-moneyness at which a delta is looked for.
_FARTHEST = 60.0


def read_deltas(values: Any) -> FloatArray:
    """Deltas of calls, decreasing, so that strikes increase.

    Parameters
    ----------
    values : sequence of str or float
        Labels "10P", "25P", "ATM", "25C", or numbers: of a call in (0, 1), of a put in (-1, 0), in any order.

    Raises
    ------
    InputError
        If one is no delta, or two are the same.
    """
    try:
        entries = [values] if isinstance(values, str) else list(values)
    except TypeError:
        raise InputError(f"delta must be a list of labels such as '25P' or of numbers, not {values!r}") from None
    if not entries:
        raise InputError("delta must hold at least one label or number")
    calls = np.array([_call_delta(entry) for entry in entries])
    calls = np.sort(calls)[::-1]
    if np.any(np.diff(calls) > -1e-9):
        twice = delta_labels(calls[:-1][np.diff(calls) > -1e-9])[0]
        raise InputError(f"delta holds {twice} twice (a put of delta -d and the call of delta 1 - d are one strike)")
    return calls


def _call_delta(entry: object) -> float:
    if isinstance(entry, str):
        text = entry.strip()
        if text.upper() in ("ATM", "DNS"):
            return 0.5
        match = _LABEL.fullmatch(text)
        size = float(match[1]) / 100 if match else np.nan
        if match is None or not 0 < size < 1:
            raise InputError(f"delta: {entry!r} is no label; write '25P', 'ATM' (delta-neutral) or '10C'")
        return 1 - size if match[2].upper() == "P" else size
    if isinstance(entry, bool) or not isinstance(entry, int | float | np.number):
        raise InputError(f"delta must hold labels such as '25P' or numbers, not {entry!r}")
    number = float(entry)
    if not 0 < abs(number) < 1:
        raise InputError(
            f"delta {number:g} is not within (0, 1) for a call or (-1, 0) for a put; per cent go in labels"
        )
    return number if number > 0 else 1 + number


def delta_labels(call_delta: FloatArray) -> npt.NDArray[np.str_]:
    """Label of each delta of a call: puts where it is above one half."""
    out = []
    for value in np.round(100 * call_delta, 8):
        out.append("ATM" if value == 50 else f"{round(100 - value, 8):g}P" if value > 50 else f"{value:g}C")
    return np.array(out)


def quantile_of_call_delta(call_delta: FloatArray) -> FloatArray:
    """d1 of a call with this undiscounted forward delta N(d1)."""
    return np.asarray(ndtri(call_delta))


class Roots:
    """Strikes found, and where there was not exactly one.

    Attributes
    ----------
    k : ndarray, shape (R, n)
        Log-moneyness; NaN where there is none.
    count : ndarray of int, shape (R, n)
        How many of the scanned intervals hold one.
    """

    def __init__(self, k: FloatArray, count: npt.NDArray[np.intp]) -> None:
        self.k = k
        self.count = count


def solve_rising(total_vol: Callable[[FloatArray], FloatArray], d1: FloatArray, scan: FloatArray) -> Roots:
    """Log-moneyness at which smiles have given d1 = -k / s(k) + s(k) / 2, s being volatility times the root of tau.

    Parameters
    ----------
    total_vol : callable
        s at log-moneyness of shape (R, n) or (1, n), for R smiles: shape (R, n).
    d1 : ndarray, shape (n,)
    scan : ndarray, shape (S,) or (R, S)
        Non-decreasing log-moneyness between which signs are compared, the same at both ends for all smiles; extended
        outwards as far as needed.

    Notes
    -----
    On a smile without butterfly arbitrage d1 falls in the strike (M. Fukasawa, 2012), so that there is one strike; of
    several the one nearest the money is returned. Each is bracketed between scanned points, then found by the
    Illinois variant of false position with bisection where that is slow.
    """

    def excess(k: FloatArray) -> FloatArray:
        s = total_vol(k)
        return k / s - s / 2

    target = -d1
    points = [np.atleast_2d(scan)]
    low, high = float(points[0][0, 0]), float(points[0][0, -1])
    for outward in (-1.0, 1.0):
        end, step = (low if outward < 0 else high), max(high - low, 1e-3)
        at_end = excess(np.array([[end]]))
        while abs(end) < _FARTHEST and np.any(at_end >= target.min() if outward < 0 else at_end <= target.max()):
            step *= 2
            end += outward * step
            points.insert(0 if outward < 0 else len(points), np.full((1, 1), end))
            at_end = excess(np.array([[end]]))
    rows = max(len(part) for part in points)
    places = np.concatenate([np.broadcast_to(part, (rows, part.shape[1])) for part in points], axis=1)
    values = excess(places)[:, None, :] - target[:, None]  # (R, n, S)
    places = np.broadcast_to(places, (values.shape[0], places.shape[1]))
    crossing = (values[..., :-1] < 0) & (values[..., 1:] >= 0)
    falling = (values[..., :-1] >= 0) & (values[..., 1:] < 0)
    count = crossing.sum(axis=-1) + falling.sum(axis=-1)
    middle = np.abs(places[:, None, :-1] + places[:, None, 1:])
    at = np.argmin(np.where(crossing, middle, np.inf), axis=-1)
    found = crossing.any(axis=-1)
    a, b = (np.take_along_axis(places, at + shift, axis=1) for shift in (0, 1))
    fa, fb = (np.take_along_axis(values, (at + shift)[..., None], axis=-1)[..., 0] for shift in (0, 1))
    k = _refine(lambda x: excess(x) - target, a, b, np.where(found, fa, -1.0), np.where(found, fb, 1.0))
    return Roots(np.where(found, k, np.nan), count)


def _refine(
    f: Callable[[FloatArray], FloatArray], a: FloatArray, b: FloatArray, fa: FloatArray, fb: FloatArray
) -> FloatArray:
    """Roots of rising functions between a and b, to rounding."""
    side = np.zeros(a.shape, dtype=int)
    for turn in range(200):
        width = b - a
        if np.all(width <= 1e-15 + 4e-16 * np.abs(a)):
            break
        secant = b - fb * width / (fb - fa)
        inside = (secant > a) & (secant < b) & (turn % 4 != 3)
        x = np.where(inside, secant, a + width / 2)
        fx = f(x)
        exact = fx == 0
        left = fx < 0
        # Illinois: the end that stays twice has its value halved, so that the other moves too.
        fb = np.where(left, np.where(side == -1, fb / 2, fb), fx)
        fa = np.where(left, fx, np.where(side == 1, fa / 2, fa))
        side = np.where(left, -1, 1)
        a, b = np.where(left | exact, x, a), np.where(left & ~exact, b, x)
        fa, fb = np.where(exact, -1.0, fa), np.where(exact, 1.0, fb)
    return a + (b - a) / 2

"""Splits, reverse splits and special dividends, read from what they do to the contracts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

from volscen.history._listing import Listing

__all__ = ["JUMP", "CorporateAction", "find_corporate_action"]

FloatArray = npt.NDArray[np.float64]
_Pairs = list[tuple[FloatArray, FloatArray]]
_Change = Callable[[FloatArray, float], FloatArray]

#: A log return beyond this that the contracts do not explain is suspect.
JUMP = 0.2

#: Newly adjusted contracts that make an event: at least so many, and this share of the old strikes.
_NEW_CONTRACTS = 3
_NEW_SHARE = 0.5

#: Strikes looked at per expiry, nearest the forward; how many there must be in all, and the share that must be gone
#: for an event where neither marks nor the price tell of one.
_NEAR = 21
_ENOUGH = 8
_GONE = 0.75
_ALL_BUT_GONE = 0.9

#: Share of the old strikes that must be found again for a change to be understood; more where the strikes alone
#: tell of it, as thinly quoted ones come and go.
_FOUND = 0.75
_FOUND_BY_STRIKES_ALONE = 0.9

#: The part of a price ratio that may be a day's own move, in logarithms: it bounds the changes tried.
_OWN_MOVE = 0.25

#: Strikes closer than this part of the price are told apart, however coarsely they are written.
_FINEST = 2e-3

#: A factor that rounds to a fraction of numbers up to this is that fraction.
_LARGEST_TERM = 30


@dataclass(frozen=True)
class CorporateAction:
    """What happened between two days.

    Attributes
    ----------
    kind : {"", "scaled", "shifted", "suspect"}
        Nothing; strikes were multiplied by ``size``; strikes were lowered by ``size``; the price jumped or the
        contracts changed in a way that is not understood.
    size : float
    """

    kind: Literal["", "scaled", "shifted", "suspect"]
    size: float = 0.0

    def adjustment(self, price: float) -> float:
        """What is added to the log return into a day whose price is given."""
        if self.kind == "scaled":
            return -float(np.log(self.size))
        if self.kind == "shifted":
            return float(np.log1p(self.size / price))
        return 0.0


def find_corporate_action(before: Listing, after: Listing, log_return: float) -> CorporateAction:
    """Compare the contracts of two days.

    Parameters
    ----------
    before, after : Listing
    log_return : float
        Of prices as they stand.

    Notes
    -----
    An exchange keeps the holders of options whole: in a split each strike is multiplied by the factor of the price,
    in a special dividend either likewise (as in Shanghai) or lowered by the dividend (as in the United States).
    Three things tell of it, in this order. Contracts: at least three marked as adjusted, and half as many as there were
    strikes, are new in the expiries of both days. The price: the log return is beyond :data:`JUMP`. The strikes: three
    quarters of the 21 nearest the forward are gone, of eight or more. The change is then the factor, or the amount,
    that carries the largest share of old strikes onto new ones (onto marked ones, where there are marks) within what
    rounding leaves: three quarters of those that fall into the range of the new, nine tenths where the strikes alone
    tell of it. Where the price alone tells of it, it must be a factor, and more strikes must follow it than stayed
    where they were: a crash leaves the strikes where they are. A factor goes before an amount, since amounts also
    carry a ladder onto a finer one. What is left must be a log return within :data:`JUMP`. Strikes that are gone and
    not understood are suspect where nine tenths are: thinly quoted ones come and go.
    """
    old, marked, everything, gone, looked_at = _compare(before, after)
    newly = sum(a.size for a in marked)
    jumped = abs(log_return) > JUMP
    vanished = looked_at >= _ENOUGH and gone >= _GONE * looked_at
    if newly >= max(_NEW_CONTRACTS, _NEW_SHARE * sum(u.size for u in old)):
        found, _ = _explain(old, marked, before, log_return, _FOUND)
    elif jumped:
        found, share = _explain(old, everything, before, log_return, _FOUND)
        if found.kind == "shifted" or share * looked_at <= looked_at - gone:
            found = CorporateAction("suspect")
    elif vanished:
        found, _ = _explain(old, everything, before, log_return, _FOUND_BY_STRIKES_ALONE)
        if found.kind == "suspect" and gone < _ALL_BUT_GONE * looked_at:
            return CorporateAction("")
    else:
        return CorporateAction("")
    if abs(log_return + found.adjustment(_level(before) * float(np.exp(log_return)))) > JUMP:
        return CorporateAction("suspect")
    return found


def _level(listing: Listing) -> float:
    """Price level that strikes are near."""
    return next((level for _, level, _ in listing.forward.values()), listing.spot)


def _compare(before: Listing, after: Listing) -> tuple[list[FloatArray], list[FloatArray], list[FloatArray], int, int]:
    """By expiry of both days: old strikes, newly adjusted ones, all new ones.

    And of the old strikes nearest the forward, how many are gone, and how many were looked at.
    """
    old, marked, everything, gone, looked_at = [], [], [], 0, 0
    for expiry in before.contracts:
        if expiry not in after.contracts:
            continue
        was = np.union1d(*map(np.asarray, before.contracts[expiry]))
        standard, adjusted = (np.asarray(part, dtype=np.float64) for part in after.contracts[expiry])
        now = np.union1d(standard, adjusted)
        old.append(was)
        marked.append(np.setdiff1d(adjusted, was))
        everything.append(now)
        near = was[np.argsort(np.abs(was - before.forward[expiry][1]), kind="stable")[:_NEAR]]
        gone += int(np.count_nonzero(~np.isin(near, now)))
        looked_at += near.size
    return old, marked, everything, gone, looked_at


def _explain(
    old: list[FloatArray], new: list[FloatArray], before: Listing, log_return: float, needed: float
) -> tuple[CorporateAction, float]:
    """The factor or the amount that carries old strikes onto new ones, and the share of them; suspect if too few."""
    pairs = [(u, a) for u, a in zip(old, new, strict=True) if u.size and a.size]
    if not pairs:
        return CorporateAction("suspect"), 0.0
    level = _level(before)
    tick = 10.0 ** -_decimals(np.concatenate([a for _, a in pairs]))
    # Both the strike and the ratio that is tried come from rounded strikes.
    tolerance = min(1.05 * tick, _FINEST * level)
    ratios = np.unique(np.concatenate([np.ravel(a[None, :] / u[:, None]) for u, a in pairs]).round(12))
    ratios = ratios[(np.abs(np.log(ratios) - log_return) <= _OWN_MOVE) & (np.abs(ratios - 1) > 1e-6)]
    amounts = np.unique(np.concatenate([np.ravel(u[:, None] - a[None, :]) for u, a in pairs]).round(9))
    with np.errstate(invalid="ignore", divide="ignore"):
        moves = np.log1p(-amounts / level)
    amounts = amounts[(amounts > 2 * tolerance) & (np.abs(moves - log_return) <= _OWN_MOVE)]
    factor, factor_share = _best(ratios, pairs, tolerance, np.multiply)
    amount, amount_share = _best(amounts, pairs, tolerance, np.subtract)
    if factor_share >= needed:
        return CorporateAction("scaled", _refined(factor, pairs, tolerance, tick)), factor_share
    if amount_share >= needed:
        return CorporateAction("shifted", amount), amount_share
    return CorporateAction("suspect"), 0.0


def _best(sizes: FloatArray, pairs: _Pairs, tolerance: float, change: _Change) -> tuple[float, float]:
    """Size whose change carries the largest share of old strikes onto new ones, and that share.

    Of equals the one with more strikes found, then with the smaller distances.
    """
    best, key = 0.0, (0.0, 0, -np.inf)
    for size in sizes.tolist():
        seen = hits = 0
        misses = 0.0
        for u, a in pairs:
            image = change(u, size)
            image = image[(image >= a[0] - tolerance) & (image <= a[-1] + tolerance)]
            distance = _to_nearest(image, a)
            seen += image.size
            hits += int(np.count_nonzero(distance <= tolerance))
            misses += float(distance[distance <= tolerance].sum())
        # A size that carries but a few strikes into the range may find those by chance.
        if 2 * hits >= sum(min(u.size, a.size) for u, a in pairs) and hits >= _NEW_CONTRACTS:
            best, key = max((best, key), (size, (hits / seen, hits, -misses)), key=lambda pair: pair[1])
    return best, key[0]


def _to_nearest(image: FloatArray, a: FloatArray) -> FloatArray:
    right = np.clip(np.searchsorted(a, image), 0, a.size - 1)
    left = np.maximum(right - 1, 0)
    return np.asarray(np.minimum(np.abs(image - a[left]), np.abs(image - a[right])))


def _refined(factor: float, pairs: _Pairs, tolerance: float, tick: float) -> float:
    """The factor by least squares over the strikes it carries; a fraction of small numbers where it rounds to one."""
    product = square = 0.0
    for u, a in pairs:
        image = u * factor
        right = np.clip(np.searchsorted(a, image), 0, a.size - 1)
        left = np.maximum(right - 1, 0)
        nearest = np.where(np.abs(image - a[left]) < np.abs(image - a[right]), a[left], a[right])
        found = np.abs(image - nearest) <= tolerance
        product += float((u[found] * nearest[found]).sum())
        square += float((u[found] ** 2).sum())
    fitted = product / square
    # Rounding to a tick has a standard error of .29 ticks; the bound is about three of the fit's.
    simple = Fraction(fitted).limit_denominator(_LARGEST_TERM)
    if simple.numerator <= _LARGEST_TERM and abs(float(simple) - fitted) <= tick / np.sqrt(square):
        return float(simple)
    return fitted


def _decimals(strikes: FloatArray) -> int:
    """Decimals that the strikes are written with, at most four."""
    return next((n for n in range(4) if np.allclose(strikes, np.round(strikes, n), rtol=0, atol=1e-9)), 4)

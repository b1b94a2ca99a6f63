"""Ratios of a regression under trading costs, position limits and lots.

With e the error of the hedge, the noise of quotes included, what is minimised is

    sqrt(sum_j w_j e_j^2) + cost_weight x sum_i cost_i |phi_i - current_i|,

risk and cost in the same currency, so that no number in it depends on the size of the portfolio. An instrument is
traded only where the risk saved pays for the trade: within a band about the best ratio the holding stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

from volscen.hedging._base import Trading
from volscen.hedging._moments import Design
from volscen.hedging._quadratic import Kinks, Optimum, minimise

__all__ = ["constrained", "in_lots", "scaled"]

FloatArray = npt.NDArray[np.float64]
#: Best numbers within limits, and the objective there.
Solve = Callable[[FloatArray, FloatArray], tuple[FloatArray, float]]

#: Smallest risk, as a share of the portfolio's, that costs are weighed against: below it a hedge is perfect.
_PERFECT = 1e-9

#: Rounds of single lots more or less. Mostly one or two suffice; instruments that move nearly together could go on for
#: long.
_ROUNDS = 20


def scaled(trading: Trading, scale: FloatArray, columns: npt.NDArray[np.intp], y_scale: float) -> Trading:
    """Trading in some instruments, in units of standardised ratios; costs in units of the portfolio's deviation."""
    unit = scale[columns] / y_scale
    return replace(
        trading,
        current=trading.current[columns] * unit,
        cost=trading.cost[columns] / (unit * y_scale),
        lower=trading.lower[columns] * unit,
        upper=trading.upper[columns] * unit,
        lot_size=trading.lot_size[columns] * unit,
    )


def constrained(design: Design, trading: Trading) -> FloatArray:
    """Standardised ratios that minimise risk plus weighted cost within limits and in whole lots."""
    work = _Work(design, trading)
    if not trading.has_lots:
        return work.solve(trading.lower, trading.upper)[0]
    return in_lots(work.solve, trading)


def in_lots(solve: Solve, trading: Trading) -> FloatArray:
    """Whole lots: one instrument after the other is rounded, or all at once, and then moved by single lots.

    One after the other, the instruments whose lots weigh most go first, each to the better of its two neighbours, and
    those still free make up for what rounding cost; now and then rounding them all alike does better. From the better
    of the two, holdings change by a lot as long as that improves, for _ROUNDS rounds at most. The best of all
    combinations may be better still.
    """
    lots = np.flatnonzero(trading.lot_size)
    lots = lots[np.argsort(-trading.lot_size[lots], kind="stable")]
    size = trading.lot_size[lots]
    least = np.ceil(trading.lower[lots] / size - 1e-9)
    most = np.floor(trading.upper[lots] / size + 1e-9)
    known: dict[bytes, tuple[float, FloatArray]] = {}

    def fixed(count: FloatArray) -> tuple[float, FloatArray]:
        """Objective and ratios with the first of the lots at these counts."""
        count = count + 0.0  # no negative zeros among the keys
        if count.tobytes() not in known:
            lower, upper = trading.lower.copy(), trading.upper.copy()
            lower[lots[: count.size]] = upper[lots[: count.size]] = count * size[: count.size]
            known[count.tobytes()] = solve(lower, upper)[::-1]
        return known[count.tobytes()]

    start = solve(trading.lower, trading.upper)[0]
    one_by_one, z = np.empty(0), start
    for i, column in enumerate(lots):
        near = z[column] / size[i]
        choices = np.unique(np.clip([np.floor(near), np.ceil(near)], least[i], most[i]))
        one_by_one = min((np.append(one_by_one, c) for c in choices), key=lambda each: fixed(each)[0])
        z = fixed(one_by_one)[1]
    together = np.clip(np.round(start[lots] / size), least, most)
    best = min((one_by_one, together), key=lambda each: fixed(each)[0])
    for _ in range(_ROUNDS):
        improved = False
        for i in range(lots.size):
            for change in (-1.0, 1.0):
                other = best.copy()
                other[i] += change
                if least[i] <= other[i] <= most[i] and fixed(other)[0] < fixed(best)[0] * (1 - 1e-12):
                    best, improved = other, True
        if not improved:
            break
    return fixed(best)[1]


@dataclass(frozen=True)
class _Work:
    design: Design
    trading: Trading

    @property
    def price(self) -> FloatArray:
        return self.trading.cost_weight * self.trading.cost

    def solve(self, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, float]:
        design, trading = self.design, self.trading
        if np.array_equal(lower, upper):
            return lower.copy(), self._risk(lower) + float(self.price @ np.abs(lower - trading.current))
        if not trading.costs_matter:
            start = np.clip(trading.current, lower, upper)
            z = minimise(design.root, design.target, Kinks.of(lower, upper), start).z
            return z, self._risk(z)
        z = self._weighed(lower, upper, self.price)
        return z, self._risk(z) + float(self.price @ np.abs(z - trading.current))

    def _risk(self, z: FloatArray) -> float:
        error = self.design.root @ z - self.design.target
        return float(np.sqrt(error @ error + self.design.rest))

    def _weighed(self, lower: FloatArray, upper: FloatArray, price: FloatArray) -> FloatArray:
        """Minimise risk + price, by the root in s of risk(s) = s.

        For s > 0 let z(s) minimise risk(z)^2 / (2 s) + price(z), a quadratic problem. As risk + price is the least of
        risk^2 / (2 s) + s / 2 + price over s, jointly convex in z and s, its minimum is where the risk of z(s) is s.
        As long as the same numbers are free, risk^2 = a + q s^2, which gives the next s; a bracket keeps it honest.
        """
        z = np.clip(self.trading.current, lower, upper)
        high = max(self._risk(z), _PERFECT)
        low = _PERFECT
        s = high
        for _ in range(200):
            kinks = Kinks.of(lower, upper, (self.trading.current, s * price))
            optimum = minimise(self.design.root, self.design.target, kinks, z)
            z = optimum.z
            risk = self._risk(z)
            if risk > s:
                low = s
            else:
                high = s
            following = self._next(optimum, risk, s, price)
            if not low < following < high:
                following = risk if low < risk < high else float(np.sqrt(low * high))
            if abs(following - s) <= 1e-12 * s or high <= low * (1 + 1e-12):
                break
            s = following
        return z

    def _next(self, optimum: Optimum, risk: float, s: float, price: FloatArray) -> float:
        if optimum.free.size == 0:
            return risk
        factor = np.linalg.qr(self.design.root[:, optimum.free], mode="r")
        shift = solve_triangular(factor, optimum.slope / s, trans="T", check_finite=False)
        q = float(shift @ shift)
        least = risk * risk - q * s * s
        return float(np.sqrt(max(least, 0.0) / (1 - q))) if q < 1 else np.inf

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

from volscen.errors import InputError
from volscen.hedging._base import Trading
from volscen.hedging._moments import Design
from volscen.hedging._quadratic import Kinks, Optimum, minimise

__all__ = ["constrained", "in_lots", "scaled"]

FloatArray = npt.NDArray[np.float64]
#: Best numbers within limits, and the objective there.
Solve = Callable[[FloatArray, FloatArray], tuple[FloatArray, float]]

#: Smallest risk, as a share of the portfolio's, that costs are weighed against: below it a hedge is perfect.
_PERFECT = 1e-9


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
    """Whole lots, one instrument after the other; those still free make up for what rounding cost.

    The instruments whose lots weigh most go first, each to the better of the two neighbouring multiples.
    """
    lower, upper = trading.lower.copy(), trading.upper.copy()
    z, _ = solve(lower, upper)
    lots = np.flatnonzero(trading.lot_size)
    for i in lots[np.argsort(-trading.lot_size[lots], kind="stable")]:
        size = trading.lot_size[i]
        least, most = np.ceil(lower[i] / size - 1e-9), np.floor(upper[i] / size + 1e-9)
        if least > most:
            raise InputError("no whole number of lots lies between lower and upper of an instrument; widen them")
        whole = np.unique(np.clip([np.floor(z[i] / size), np.ceil(z[i] / size)], least, most))
        found = []
        for count in whole:
            lower[i] = upper[i] = count * size
            found.append((solve(lower, upper)[::-1], float(count)))
        (_, z), count = min(found, key=lambda each: each[0][0])
        lower[i] = upper[i] = count * size
    return z


@dataclass(frozen=True)
class _Work:
    design: Design
    trading: Trading

    def solve(self, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, float]:
        design, trading = self.design, self.trading
        if not trading.costs_matter:
            start = np.clip(trading.current, lower, upper)
            z = minimise(design.root, design.target, Kinks.of(lower, upper), start).z
            return z, self._risk(z)
        price = trading.cost_weight * trading.cost
        z = self._weighed(lower, upper, price)
        return z, self._risk(z) + float(price @ np.abs(z - trading.current))

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

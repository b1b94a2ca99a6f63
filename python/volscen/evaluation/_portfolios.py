"""The option portfolios on which scenarios are judged as a risk manager would: by their one-day profit and loss.

Long and short, on an index worth 1 without carry, held for one calendar day: a 91-day at-the-money straddle, a
91-day out-of-the-money put, a risk reversal, a butterfly, a calendar spread, the straddle with its Black delta sold,
and the index. Volatility is read off the surfaces: total variance linear in time, then volatility linear in
log-moneyness, flat outside the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volscen import revaluation

__all__ = ["StandardPortfolios"]

FloatArray = npt.NDArray[np.float64]

_QUARTER = 91 / 365
_HALF_YEAR = 182 / 365


@dataclass(frozen=True)
class StandardPortfolios:
    """Linear combinations of calls and the index; puts are calls less the index, by parity.

    Attributes
    ----------
    names : tuple of str
        Of the portfolios held long.
    strike, tau : ndarray, shape (C,)
        Of the calls; strikes relative to today's index.
    units : ndarray, shape (P, C)
        Calls in each portfolio.
    index : ndarray, shape (P,)
        Units of the index in each portfolio.
    delta_hedged : ndarray of bool, shape (P,)
        Whether the calls' and index' Black delta at the start is sold besides.
    days : float
        Calendar days held.
    """

    names: tuple[str, ...]
    strike: FloatArray
    tau: FloatArray
    units: FloatArray
    index: FloatArray
    delta_hedged: npt.NDArray[np.bool_]
    days: float = 1.0

    @classmethod
    def on_grid(cls, tau: FloatArray, moneyness: FloatArray) -> StandardPortfolios:
        """Portfolios for surfaces on a grid; the wing strike and the far maturity follow what it reaches."""
        low = 0.9 if moneyness.min() <= 0.9001 else 0.95
        far = _HALF_YEAR if tau.max() >= 0.49 else float(tau.max())
        contracts = [
            (1.0, _QUARTER),
            (low, _QUARTER),
            (1.05, _QUARTER),
            (0.95, _QUARTER),
            (1.0, far),
            (1.0, float(tau.min())),
        ]
        distinct = list(dict.fromkeys(contracts))
        atm, wing, above, below, long, short = (distinct.index(c) for c in contracts)
        # name -> calls by position, units of the index, delta hedged
        book: dict[str, tuple[list[tuple[int, float]], float, bool]] = {
            "straddle": ([(atm, 2.0)], -1.0, False),
            f"put{low}": ([(wing, 1.0)], -1.0, False),
            f"riskrev{low}/1.05": ([(above, 1.0), (wing, -1.0)], 1.0, False),
            "butterfly": ([(below, 1.0), (atm, -2.0), (above, 1.0)], 0.0, False),
            "calendar": ([(long, 1.0), (short, -1.0)], 0.0, False),
            "dh_straddle": ([(atm, 2.0)], -1.0, True),
            "index": ([], 1.0, False),
        }
        units = np.zeros((len(book), len(distinct)))
        for row, (calls, _, _) in enumerate(book.values()):
            for position, quantity in calls:
                units[row, position] += quantity
        strike, maturity = np.array(distinct).T
        return cls(
            tuple(book),
            strike,
            maturity,
            units,
            np.array([index for _, index, _ in book.values()]),
            np.array([hedged for _, _, hedged in book.values()]),
        )

    def profit(
        self,
        start: FloatArray,
        implied_vol: FloatArray,
        log_return: FloatArray,
        tau: FloatArray,
        moneyness: FloatArray,
    ) -> FloatArray:
        """Profit and loss (n, P) of moving from surface (J, I) to surfaces (n, J, I) with the returns (n,)."""
        left = self.tau - self.days / 365
        today = revaluation.price(start[None], tau, moneyness, [1.0], self.strike, self.tau, greeks=True)
        then = revaluation.price(implied_vol, tau, moneyness, np.exp(log_return), self.strike, left)
        assert today.delta is not None
        index = np.where(self.delta_hedged, -(self.units @ today.delta[0]), self.index)
        return np.asarray((then.price - today.price) @ self.units.T + np.expm1(log_return)[:, None] * index)

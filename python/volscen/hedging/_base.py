"""What every hedging method is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError, VolscenWarning

__all__ = [
    "SAME_EXPIRY",
    "SAME_STRIKE",
    "Alpha",
    "HedgeOptions",
    "HedgeProblem",
    "HedgeSolution",
    "HedgeWarning",
    "Method",
    "Positions",
    "Trading",
    "VolSlope",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Alpha = float | str | None
VolSlope = float | Callable[[FloatArray, FloatArray], npt.ArrayLike] | None


#: Maturities this close, in years, are the same expiry (a minute), and log strikes this close the same strike.
SAME_EXPIRY = 2e-6
SAME_STRIKE = 1e-9


class HedgeWarning(VolscenWarning):
    """Hedge ratios exist but deserve distrust; the message says why."""


@dataclass(frozen=True)
class Positions:
    """Contracts at the start; arrays of shape (n,), NaN where the underlying has no number.

    Attributes
    ----------
    labels : tuple of str
    quantity : ndarray
        Units held; zeros for hedging instruments.
    is_option : ndarray of bool
    strike, tau, log_moneyness : ndarray
        Currency; years; ln(K/F).
    value, delta, vega : ndarray
        Of one unit: currency, per unit of spot, per 1.00 of volatility.
    """

    labels: tuple[str, ...]
    quantity: FloatArray
    is_option: BoolArray
    strike: FloatArray
    tau: FloatArray
    log_moneyness: FloatArray
    value: FloatArray
    delta: FloatArray
    vega: FloatArray

    @property
    def has_vega(self) -> BoolArray:
        """Which of them gain or lose with volatility: options that are not worthless, and variance."""
        return np.asarray(self.is_option | (self.vega != 0))

    def total(self, name: str) -> float:
        """Sum over the positions of quantity times a number of one unit."""
        return float(self.quantity @ getattr(self, name))


@dataclass(frozen=True)
class HedgeProblem:
    """Changes in value over one step, and sensitivities at the start.

    Attributes
    ----------
    book : Positions
        What is hedged.
    traded : Positions
        The n hedging instruments.
    portfolio_change : ndarray, shape (N,)
        V_j - V_t per scenario.
    instrument_change : ndarray, shape (N, n)
        H_ij - H_it per scenario and instrument, one unit each.
    weight : ndarray, shape (N,)
        Scenario weights, summing to 1.
    spot : float
        At the start; rounding errors of values are judged against it.
    vol_slopes : callable
        Change in volatility per unit of spot of every contract of ``book`` and of ``traded`` over the scenarios;
        computed when asked, because few methods do.
    """

    book: Positions
    traded: Positions
    portfolio_change: FloatArray
    instrument_change: FloatArray
    weight: FloatArray
    spot: float
    vol_slopes: Callable[[], tuple[FloatArray, FloatArray]]

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the hedging instruments."""
        return self.traded.labels

    @property
    def options(self) -> npt.NDArray[np.intp]:
        """Positions, among the hedging instruments, of the options and of whatever else has vega."""
        return np.flatnonzero(self.traded.has_vega)

    def underlying(self) -> int:
        """Position of the underlying among the instruments."""
        # Forwards, cash and swaps are no options either.
        traded = self.traded
        positions = np.flatnonzero(~traded.is_option & np.isnan(traded.tau) & (traded.delta == 1))
        if positions.size != 1:
            raise InputError(
                f"instruments must hold volscen.Underlying() exactly once for this method, not {positions.size} times"
            )
        return int(positions[0])


@dataclass(frozen=True)
class Trading:
    """What is held, what trading costs, and what may be held; arrays of shape (n,).

    Attributes
    ----------
    current : ndarray
        Units held before the trade.
    cost : ndarray
        Currency per unit traded.
    cost_weight : float
        Risk, in currency, that one unit of cost must save to be worth it.
    lower, upper : ndarray
        Bounds on the units held; infinite where there are none.
    lot_size : ndarray
        Units traded together; 0 where any fraction may be.
    """

    current: FloatArray
    cost: FloatArray
    cost_weight: float
    lower: FloatArray
    upper: FloatArray
    lot_size: FloatArray

    @classmethod
    def free(cls, n: int) -> Trading:
        """Nothing held, no costs, no limits."""
        zero, infinite = np.zeros(n), np.full(n, np.inf)
        return cls(zero, zero, 0.0, -infinite, infinite, zero)

    @property
    def costs_matter(self) -> bool:
        """Whether costs enter the choice of the ratios."""
        return self.cost_weight > 0 and bool(self.cost.any())

    @property
    def is_limited(self) -> bool:
        """Whether any bound is finite."""
        return bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())

    @property
    def has_lots(self) -> bool:
        """Whether any instrument trades in lots."""
        return bool(self.lot_size.any())

    @property
    def is_free(self) -> bool:
        """Whether nothing constrains the ratios."""
        return not (self.costs_matter or self.is_limited or self.has_lots)


@dataclass(frozen=True)
class HedgeOptions:
    """Settings of the methods; each uses its own.

    Attributes
    ----------
    trading : Trading
    alpha : float or str, optional
        LASSO penalty.
    noise : ndarray, shape (n,)
        Error, in currency, of the price of one unit of each instrument (ridge).
    tail : float
        Tail probability of expected shortfall.
    centre : bool
        Whether expected shortfall is taken about the mean.
    vol_slope : float or callable, optional
        Change in volatility per unit of return, in place of the scenarios'.
    """

    trading: Trading
    noise: FloatArray
    alpha: Alpha = None
    tail: float = 0.05
    centre: bool = True
    vol_slope: VolSlope = None

    @classmethod
    def of(cls, n: int, **given: Any) -> HedgeOptions:
        """Defaults for n instruments, with what is given in their place."""
        settings: dict[str, Any] = {"trading": Trading.free(n), "noise": np.zeros(n)} | given
        return cls(**settings)


@dataclass(frozen=True)
class HedgeSolution:
    """Hedge ratios and how they were found.

    Attributes
    ----------
    ratio : ndarray, shape (n,)
        Units of each instrument that replicate the portfolio; 0 where not selected.
    selected : ndarray of bool, shape (n,)
    constant : float
        Intercept of a regression, which no instrument earns; 0 for the others.
    alpha : float, optional
        Penalty used.
    design : dict
        Diagnostics of the instruments used: ``condition_number``, ``effective_rank``.
    doubts : list of str
        What the user is warned about.
    """

    ratio: FloatArray
    selected: BoolArray
    constant: float = 0.0
    alpha: float | None = None
    design: dict[str, float] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)


class Method(Protocol):
    """A hedging method: one function in one private file, and a line in the registry."""

    def __call__(self, problem: HedgeProblem, options: HedgeOptions) -> HedgeSolution:
        """Find the hedge ratios."""
        ...

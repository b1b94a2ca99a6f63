"""What every hedging method is given and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

__all__ = ["Alpha", "HedgeProblem", "HedgeSolution", "HedgeWarning", "Method", "no_alpha"]

FloatArray = npt.NDArray[np.float64]
Alpha = float | str | None


class HedgeWarning(UserWarning):
    """Hedge ratios exist but deserve distrust; the message says why."""


@dataclass(frozen=True)
class HedgeProblem:
    """Changes in value over one step, and sensitivities at the start.

    Attributes
    ----------
    labels : tuple of str
        Names of the n instruments.
    is_underlying : ndarray of bool, shape (n,)
    portfolio_change : ndarray, shape (N,)
        V_j - V_t per scenario.
    instrument_change : ndarray, shape (N, n)
        H_ij - H_it per scenario and instrument, one unit each.
    weight : ndarray, shape (N,)
        Scenario weights, summing to 1.
    portfolio_delta, portfolio_vega : float
        Per unit of spot; per 1.00 of volatility.
    delta, vega : ndarray, shape (n,)
        The same, of one unit of each instrument.
    value_scale : float
        Spot price, against which rounding errors of values are judged.
    """

    labels: tuple[str, ...]
    is_underlying: npt.NDArray[np.bool_]
    portfolio_change: FloatArray
    instrument_change: FloatArray
    weight: FloatArray
    portfolio_delta: float
    portfolio_vega: float
    delta: FloatArray
    vega: FloatArray
    value_scale: float

    def underlying(self) -> int:
        """Position of the underlying among the instruments."""
        positions = np.flatnonzero(self.is_underlying)
        if positions.size != 1:
            raise InputError(
                f"instruments must hold volscen.Underlying() exactly once for this method, not {positions.size} times"
            )
        return int(positions[0])


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
    condition_number : float, optional
        Of the selected instruments' standardised changes.
    """

    ratio: FloatArray
    selected: npt.NDArray[np.bool_]
    constant: float = 0.0
    alpha: float | None = None
    condition_number: float | None = None


class Method(Protocol):
    """A hedging method: one function in one private file, and a line in the registry."""

    def __call__(self, problem: HedgeProblem, alpha: Alpha) -> HedgeSolution:
        """Find the hedge ratios."""
        ...


def no_alpha(alpha: Alpha, method: str) -> None:
    """Refuse a penalty where the method has none."""
    if alpha is not None:
        raise InputError(f"alpha applies to method='lasso', not to {method!r}; drop it")

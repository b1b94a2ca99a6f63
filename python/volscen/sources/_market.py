"""What every simulated market is: a state that moves by a known law, and surfaces read off it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

__all__ = ["DAYS_A_YEAR", "Market"]

FloatArray = npt.NDArray[np.float64]

DAYS_A_YEAR = 252


@dataclass(frozen=True)
class Market(ABC):
    """Market whose next day has a law given by its state: a concrete one writes ``surface`` and ``step``.

    Attributes
    ----------
    tau : tuple of float
        Times to expiry in years.
    moneyness : tuple of float
        K/F.
    noise : float
        Standard deviation of the observation noise of each cell's log implied vol.
    name : str
        As in :data:`MARKETS`.
    """

    tau: tuple[float, ...]
    moneyness: tuple[float, ...]
    noise: float
    name: str = "custom"

    #: What it is, for the history's attributes.
    description: ClassVar[str]
    factors: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def initial_state(self) -> tuple[float, ...]:
        """State of the first date."""

    @abstractmethod
    def surface(self, state: FloatArray) -> FloatArray:
        """Implied vols (n, tau, moneyness) of states (n, factors), without noise."""

    @abstractmethod
    def step(self, state: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw the next day from the true law: log returns (n,) and states (n, factors) from states (n, factors)."""

    def observe(self, state: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Surfaces of states with observation noise, shape (n, tau, moneyness)."""
        clean = self.surface(state)
        return np.asarray(clean * np.exp(self.noise * rng.standard_normal(clean.shape)))

    def sample(self, state: npt.ArrayLike, n: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw n outcomes of the next day given the true state: the oracle.

        Returns
        -------
        log_return : ndarray, shape (n,)
        implied_vol : ndarray, shape (n, tau, moneyness)
        """
        start = np.broadcast_to(np.asarray(state, dtype=np.float64), (n, len(self.factors)))
        log_return, after = self.step(start, rng)
        return log_return, self.observe(after, rng)

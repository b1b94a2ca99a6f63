"""Rules that say at every close how much of the underlying to hold, and how much of that to hedge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

__all__ = ["AlwaysHedged", "BuyAndHold", "Policy", "RiskLevel", "RiskVelocity", "VolatilityTarget"]

FloatArray = npt.NDArray[np.float64]
Seen = Mapping[str, FloatArray]


class Policy(ABC):
    """A rule without memory of its own: what it may remember is the hedge it holds."""

    @abstractmethod
    def decide(self, seen: Seen, hedged: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Choose positions at one close.

        Parameters
        ----------
        seen : mapping of str to ndarray, shape (path,)
            The observations of :func:`volscen.agent.option_market`.
        hedged : ndarray, shape (path,)
            Hedges held until now per unit of the underlying; zero at first.

        Returns
        -------
        exposure : ndarray, shape (path,)
            Share of wealth in the underlying.
        hedge : ndarray, shape (path,)
            Hedges to hold per unit of the underlying.
        """


class BuyAndHold(Policy):
    """The underlying, never hedged."""

    def decide(self, seen: Seen, hedged: FloatArray) -> tuple[FloatArray, FloatArray]:
        """All in the underlying."""
        return np.ones_like(hedged), np.zeros_like(hedged)


class AlwaysHedged(Policy):
    """The underlying with one hedge for every unit."""

    def decide(self, seen: Seen, hedged: FloatArray) -> tuple[FloatArray, FloatArray]:
        """All in the underlying and hedged."""
        return np.ones_like(hedged), np.ones_like(hedged)


@dataclass(frozen=True)
class RiskLevel(Policy):
    """Hedged while the risk signal is above ``level``."""

    level: float

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        _finite("level", self.level)

    @classmethod
    def calibrate(cls, risk: npt.ArrayLike, *, quantile: float = 0.9) -> Self:
        """Take the level from a quantile of the signal on past days."""
        return cls(float(np.quantile(_past(risk), _probability("quantile", quantile))))

    def decide(self, seen: Seen, hedged: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Hedge by the level."""
        return np.ones_like(hedged), (seen["risk"] > self.level).astype(np.float64)


@dataclass(frozen=True)
class RiskVelocity(Policy):
    """Hedged from the close on which the risk signal jumps by more than ``engage``, until it is back at ``release``.

    Attributes
    ----------
    engage : float
        One-step rise that starts a hedge.
    release : float
        Level at or below which a hedge ends, unless the signal jumps again.
    """

    engage: float = 0.03
    release: float = 0.20

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        _finite("engage", self.engage)
        _finite("release", self.release)

    @classmethod
    def calibrate(cls, risk: npt.ArrayLike, *, engage: float = 0.98, release: float = 0.5) -> Self:
        """Take both thresholds from quantiles on past days: of the signal's one-step changes, and of the signal."""
        past = _past(risk)
        steps = np.quantile(np.diff(past), _probability("engage", engage))
        return cls(float(steps), float(np.quantile(past, _probability("release", release))))

    def decide(self, seen: Seen, hedged: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Engage on a jump, keep while the signal is elevated."""
        engage = seen["risk_change"] > self.engage
        keep = (hedged > 0) & (seen["risk"] > self.release)
        return np.ones_like(hedged), (engage | keep).astype(np.float64)


@dataclass(frozen=True)
class VolatilityTarget(Policy):
    """Never hedged; holds as much of the underlying as keeps its volatility at ``target``.

    Attributes
    ----------
    target : float
        Annual volatility, a decimal.
    greatest : float
        Largest share of wealth in the underlying.
    measure : {"realised_vol", "atm_vol"}
        Volatility looked at.
    """

    target: float = 0.15
    greatest: float = 1.0
    measure: str = "realised_vol"

    def __post_init__(self) -> None:
        """Refuse targets out of range."""
        for name in ("target", "greatest"):
            _finite(name, getattr(self, name))
            if getattr(self, name) <= 0:
                raise InputError(f"{name} must be positive, not {getattr(self, name)!r}")
        if self.target > 3:
            raise InputError(f"target is a volatility as a decimal, 0.15 for 15%, not {self.target!r}")
        if self.measure not in ("realised_vol", "atm_vol"):
            raise InputError(f"measure must be 'realised_vol' or 'atm_vol', not {self.measure!r}")

    def decide(self, seen: Seen, hedged: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Scale the exposure."""
        vol = np.maximum(seen[self.measure], 1e-6)
        return np.minimum(self.target / vol, self.greatest), np.zeros_like(hedged)


def _finite(name: str, value: float) -> None:
    if not (isinstance(value, float | int) and np.isfinite(value)):
        raise InputError(f"{name} must be a finite number, not {value!r}")


def _probability(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise InputError(f"{name} must be a quantile between 0 and 1, not {value!r}")
    return value


def _past(risk: npt.ArrayLike) -> FloatArray:
    past = np.asarray(risk, dtype=np.float64)
    if past.ndim != 1 or past.size < 2 or not np.all(np.isfinite(past)):
        raise InputError("risk must hold the signal on two or more past days, in order and finite")
    return past

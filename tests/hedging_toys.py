"""Hedging problems made of arrays, for tests of methods without scenarios."""

from __future__ import annotations

import numpy as np

from volscen.hedging._base import HedgeProblem, Positions


def positions(n: int, *, quantity: np.ndarray | float = 0.0, underlying: int | None = 0, label: str = "H") -> Positions:
    """Contracts of which one is the underlying and the others carry numbers of no meaning."""
    is_option = np.arange(n) != (-1 if underlying is None else underlying)
    option = np.where(is_option, 1.0, np.nan)
    return Positions(
        labels=tuple(f"{label}{i}" for i in range(n)),
        quantity=np.broadcast_to(np.asarray(quantity, dtype=float), (n,)).copy(),
        is_option=is_option,
        strike=option,
        tau=option,
        log_moneyness=option - 1,
        value=np.ones(n),
        delta=np.where(is_option, 0.5, 1.0),
        vega=np.where(is_option, 0.1, 0.0),
    )


def problem(x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> HedgeProblem:
    """Regression of y on x."""
    n, count = x.shape
    return HedgeProblem(
        book=positions(1, quantity=1.0, underlying=None, label="B"),
        traded=positions(count),
        portfolio_change=y,
        instrument_change=x,
        weight=np.full(n, 1 / n) if weight is None else weight,
        spot=1.0,
        vol_slopes=lambda: (np.zeros(1), np.zeros(count)),
    )

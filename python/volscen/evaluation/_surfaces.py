"""What is measured on surfaces when they are judged: the 30-day strip volatility, and two signs of arbitrage."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen.surface import interpolate_vol
from volscen.surface._derivatives import durrleman_on_grid
from volscen.surface._strip import options_over_strike

__all__ = ["falling_variance", "negative_density", "strip_volatility"]

FloatArray = npt.NDArray[np.float64]

_MONTH = 30 / 365
#: Log-moneyness of the strip of out-of-the-money options.
_STRIP = np.linspace(-0.5, 0.2, 57)
#: Surfaces are delivered in single precision: a fall of total variance below this share is rounding.
_ROUNDING = 1e-6


def strip_volatility(implied_vol: FloatArray, tau: FloatArray, moneyness: FloatArray) -> FloatArray:
    """Volatility (n,) of a 30-day variance swap replicated on log-moneyness -0.5 to 0.2, from surfaces (n, J, I).

    sqrt(2/tau int e^-k Q(k) dk) with Q the out-of-the-money price per unit of forward, by trapezoids; volatility is
    flat outside the grid. The range is cut the same way for scenarios and data: what is judged is a move of the index,
    not its level.
    """
    vol = interpolate_vol(implied_vol, tau, moneyness, _MONTH, np.exp(_STRIP))
    area = np.trapezoid(options_over_strike(vol, _STRIP, _MONTH), _STRIP, axis=1)
    return np.asarray(np.sqrt(2 / _MONTH * area))


def negative_density(implied_vol: FloatArray, tau: FloatArray, moneyness: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether Durrleman's g is negative at some inner grid point of surfaces (n, J, I)."""
    if moneyness.size < 3:
        return np.zeros(implied_vol.shape[0], dtype=bool)
    g, _ = durrleman_on_grid(np.log(moneyness), implied_vol**2 * tau[:, None])
    return np.asarray((g[..., 1:-1] < 0).any(axis=(1, 2)))


def falling_variance(implied_vol: FloatArray, tau: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether total variance falls with maturity at some moneyness of surfaces (n, J, I): calendar arbitrage."""
    w = implied_vol**2 * tau[:, None]
    return np.asarray((w[:, 1:] < w[:, :-1] * (1 - _ROUNDING)).any(axis=(1, 2)))

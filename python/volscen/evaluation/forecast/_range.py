"""Range of prices to a horizon if they are a geometric Brownian motion."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr, ndtri

from volscen._numbers import bounded_number, finite_number, positive_number
from volscen.errors import InputError

__all__ = ["RangeForecast", "range_forecast"]

FloatArray = npt.NDArray[np.float64]


class RangeForecast(NamedTuple):
    """Prices, as multiples of the last one unless ``spot`` was given."""

    close_low: float
    close_high: float
    """The price at the horizon lies between them with probability ``level``."""
    lowest: float
    """The price stays above it until the horizon with probability (1 + level) / 2."""
    highest: float
    """The price stays below it until the horizon with probability (1 + level) / 2."""


def range_forecast(
    sigma: float, years: float, *, mu: float = 0.0, level: float = 0.9, spot: float = 1.0
) -> RangeForecast:
    """Where prices end, and how far they stray on the way, for a geometric Brownian motion.

    Parameters
    ----------
    sigma : float
        Annual volatility, positive: estimated from returns, or implied.
    years : float
        Horizon, positive.
    mu : float
        Annual growth rate of the mean price. An estimate from a few years of returns is mostly noise.
    level : float
        Between 0 and 1.
    spot : float
        Last price, positive.

    Returns
    -------
    RangeForecast

    Raises
    ------
    InputError
        If an argument is out of range.

    Notes
    -----
    With nu = mu - sigma^2 / 2 the log price at T is normal (nu T, sigma^2 T), and its running maximum M has
    P(M <= x) = N((x - nu T) / (sigma sqrt T)) - exp(2 nu x / sigma^2) N((-x - nu T) / (sigma sqrt T)) by the reflection
    principle (Harrison 1985). Watched continuously: daily highs stray a little less.

    Examples
    --------
    >>> from volscen.evaluation.forecast import range_forecast
    >>> month = range_forecast(0.2, 21 / 252, spot=100)
    >>> [round(price, 1) for price in month]
    [90.8, 109.8, 89.2, 111.8]
    """
    sigma, years, spot = (
        positive_number(name, value) for name, value in (("sigma", sigma), ("years", years), ("spot", spot))
    )
    if sigma > 5:
        raise InputError(f"sigma is a volatility as a decimal, 0.2 for 20%, not {sigma!r}")
    mu = finite_number("mu", mu)
    share = (1 + bounded_number("level", level, 0, 1)) / 2
    nu, sd = (mu - sigma * sigma / 2) * years, sigma * np.sqrt(years)
    reach = sd * ndtri(share)
    low, high = np.exp(nu - reach), np.exp(nu + reach)
    highest = np.exp(_extreme(nu, sd, share))
    lowest = np.exp(-_extreme(-nu, sd, share))
    return RangeForecast(*(float(spot * price) for price in (low, high, lowest, highest)))


def _extreme(nu: float, sd: float, share: float) -> float:
    """Quantile of the running maximum of a Brownian motion with drift nu and standard deviation sd at the end."""

    def gap(x: float) -> float:
        reflected = np.exp(2 * nu * x / sd**2 + log_ndtr((-x - nu) / sd))
        return float(ndtr((x - nu) / sd) - reflected - share)

    return float(brentq(gap, 0.0, abs(nu) + 40 * sd, xtol=1e-14))

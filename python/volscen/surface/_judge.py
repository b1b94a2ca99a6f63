"""How a fitted surface stands to its quotes and to arbitrage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from volscen import black
from volscen.errors import InputError
from volscen.surface._rows import SPREAD_FLOOR

if TYPE_CHECKING:
    from volscen.chain import Chain
    from volscen.surface._smoothers import FittedSurface

__all__ = ["FIGURES", "arbitrage_figures", "durrleman", "fit_figures"]

FloatArray = npt.NDArray[np.float64]

#: Strikes between the ends of the grid at which Durrleman's function is looked at, for every time.
_STRIKES = 101

#: Relative rounding of total variance and of prices.
_ROUNDING = 1e-12


#: Figures beside the fit errors in vol and the penalty.
FIGURES: dict[str, str] = {
    "fit_share_in_spread": "share of the quotes whose bid and ask hold the surface's price; NaN without bid and ask",
    "fit_rms_half_spreads": "root mean square of error over half-spread, both in vol, the half-spread with five basis "
    "points added in quadrature; NaN without bid and ask",
    "durrleman_g_min": "smallest value of Durrleman's function at the grid's times, between its first and last strike",
    "durrleman_g_min_tau": "where: time",
    "durrleman_g_min_moneyness": "where: K/F",
    "calendar_violations": "neighbouring times of the grid and K/F at which total variance falls",
}


def fit_figures(chain: Chain, fitted: FittedSurface) -> tuple[float, float, dict[str, float]]:
    """Root mean square and largest absolute error of vol at the quotes, and the errors in spreads."""
    quotes = chain.quotes
    tau, vol = quotes["tau"].to_numpy(), quotes["implied_vol"].to_numpy()
    model = fitted.implied_vol(tau, quotes["log_moneyness"].to_numpy())
    error = model - vol
    inside = ratio = np.nan
    if "half_spread" in quotes and np.all(np.isfinite(model) & (model > 0)):
        forward, strike = quotes["forward"].to_numpy(), quotes["strike"].to_numpy()
        is_call, discount = quotes["is_call"].to_numpy(), quotes["discount_factor"].to_numpy()
        miss = np.abs(black.price(forward, strike, tau, model, is_call, discount) - quotes["price"].to_numpy())
        inside = float(np.mean(miss <= quotes["half_spread"].to_numpy() + _ROUNDING * forward))
        half_spread = np.hypot(quotes["half_spread_vol"].to_numpy(), SPREAD_FLOOR)
        ratio = float(np.sqrt(np.mean((error / half_spread) ** 2)))
    figures = {"fit_share_in_spread": inside, "fit_rms_half_spreads": ratio}
    return float(np.sqrt(np.mean(error**2))), float(np.abs(error).max()), figures


def arbitrage_figures(
    fitted: FittedSurface, vol: FloatArray, tau: FloatArray, low: FloatArray, high: FloatArray
) -> dict[str, float]:
    """Durrleman's function and total variance in time.

    Parameters
    ----------
    fitted : FittedSurface
    vol : ndarray, shape (J, I)
        Its volatilities at the times ``tau`` (J,) and at the same K/F at all of them.
    low, high : ndarray, shape (J,)
        Log-moneyness between which Durrleman's function is looked at, for each time.
    """
    w = vol**2 * tau[:, None]
    k = low[:, None] + (high - low)[:, None] * np.linspace(0.0, 1.0, _STRIKES if np.any(high > low) else 1)
    g = durrleman(k, *fitted.variance_terms(tau[:, None], k))
    if not np.all(np.isfinite(g)):
        raise InputError("the smoother gives no finite slopes of total variance everywhere on the grid")
    j, i = np.unravel_index(int(np.argmin(g)), g.shape)
    return {
        "durrleman_g_min": float(g[j, i]),
        "durrleman_g_min_tau": float(tau[j]),
        "durrleman_g_min_moneyness": float(np.exp(k[j, i])),
        "calendar_violations": int(np.count_nonzero(w[1:] < w[:-1] * (1 - _ROUNDING))),
    }


def durrleman(k: FloatArray, w: FloatArray, slope: FloatArray, bend: FloatArray) -> FloatArray:
    """Durrleman's function of total variance w(k): negative where there is butterfly arbitrage.

    Notes
    -----
    J. Gatheral and A. Jacquier (2014), "Arbitrage-free SVI volatility surfaces", Quantitative Finance 14, eq. (2.1).
    """
    return np.asarray((1 - k * slope / (2 * w)) ** 2 - slope**2 / 4 * (1 / w + 0.25) + bend / 2)

"""Put prices from characteristic functions by Fourier-cosine series, for the simulated markets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from volscen import black
from volscen.errors import InputError

__all__ = ["implied_vols", "put_prices"]

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]

_TERMS = 4096
_DEVIATIONS = 20.0


def put_prices(
    characteristic: Callable[[FloatArray], ComplexArray], deviation: FloatArray, moneyness: FloatArray
) -> FloatArray:
    """Undiscounted puts per unit of forward, (n, I), for n laws of ln(S_T/F).

    Parameters
    ----------
    characteristic : callable
        From frequencies (terms,) to E exp(i u ln(S_T/F)), (n, terms).
    deviation : ndarray, shape (n,)
        Upper estimate of the standard deviation of ln(S_T/F), fat tails included: the series covers 20 of the largest.
    moneyness : ndarray, shape (I,)
        K/F.

    Notes
    -----
    Fang and Oosterlee (2008), with the interval centred at the strikes' middle and shared by all laws.
    """
    half = _DEVIATIONS * float(deviation.max()) + float(np.abs(np.log(moneyness)).max())
    a, width = -half, 2 * half
    u: FloatArray = np.arange(_TERMS, dtype=np.float64) * (np.pi / width)
    phi = characteristic(u) * np.exp(-1j * u * a)
    phi[:, 0] *= 0.5
    out = np.empty((phi.shape[0], moneyness.size))
    for i, m in enumerate(moneyness):
        k = np.log(m)  # payoff (m - e^x)+ on [a, k]
        angle = u * (k - a)
        chi = (np.cos(angle) * m - np.exp(a) + u * np.sin(angle) * m) / (1 + u**2)
        psi = np.empty_like(u)
        psi[0], psi[1:] = k - a, np.sin(angle[1:]) / u[1:]
        out[:, i] = (phi * (2 / width * (m * psi - chi))).real.sum(axis=1)
    return out


def implied_vols(put: FloatArray, tau: float, moneyness: FloatArray, what: str) -> FloatArray:
    """Black implied vols (n, I) of put prices, inverted from the out-of-the-money side.

    Raises
    ------
    InputError
        If a price is too small to carry a volatility: the grid reaches too far out for the maturity.
    """
    is_call = moneyness > 1
    price = np.where(is_call, put + 1 - moneyness, put)
    vol, status = black.implied_vol(price, 1.0, moneyness, tau, is_call)
    # The series is exact to about 1e-14; below a thousand times that the volatility is rounding.
    bad = (status != black.ImpliedVolStatus.OK) | (price < 1e-11)
    if bad.any():
        worst = moneyness[bad.any(axis=0)]
        raise InputError(
            f"{what}: options at {365 * tau:.3g} days and K/F {', '.join(f'{m:.4g}' for m in worst)} are worth too "
            "little to have a volatility; narrow the moneyness of the market or drop its shortest maturity"
        )
    return np.asarray(vol)

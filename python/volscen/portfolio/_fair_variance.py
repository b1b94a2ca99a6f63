"""Fair variance of surfaces: what a log contract, or the strip of options that replicates it, pays for variance.

The strip 2 exp(r t) [integral of P/K^2 dK below the forward + integral of C/K^2 dK above] is integrated by parts, which
leaves an integral over the smile itself without prices: W = integral of w(k) phi(d2(k)) (-d2'(k)) dk with w = sigma^2 t
(Gatheral 2006, "The Volatility Surface", chapter 11). Outside the grid of moneyness volatility is flat, and both wings
have closed forms there. The index's own strip (``volscen.surface._strip``) sums prices and cuts its wings, as an index
does: where vol sqrt(t) is large that loses per cents, and this nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.special import ndtr

from volscen import _core
from volscen.surface._vix import vix

__all__ = ["VIX_YEARS", "fair_vol", "vix_vol"]

FloatArray = npt.NDArray[np.float64]

#: Horizon of the volatility index.
VIX_YEARS = 30 / 365

#: Gauss-Legendre points between two neighbouring moneyness points: exact to 1e-9 where these lie up to 12 standard
#: deviations of the return apart.
_POINTS = 32

#: Surfaces integrated at once; bounds the memory, never changes a value.
_BLOCK = 2048


def fair_vol(
    surfaces: npt.NDArray[np.floating],
    tau: FloatArray,
    moneyness: FloatArray,
    remaining: float,
    *,
    extrapolation: int = 0,
    num_threads: int = 1,
) -> FloatArray:
    """Square root of the annualised fair variance of n surfaces (n, J, I) over ``remaining`` years, shape (n,).

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.portfolio._fair_variance import fair_vol
    >>> smile = np.array([[[0.22, 0.20, 0.19]], [[0.3, 0.3, 0.3]]])
    >>> fair_vol(smile, np.array([0.25]), np.array([0.9, 1.0, 1.1]), 0.25).round(6)
    array([0.203988, 0.3     ])
    """
    n = surfaces.shape[0]
    out = np.empty(n)
    k = np.log(moneyness)
    t = np.full(k.size, remaining)
    for start in range(0, n, _BLOCK):
        part = slice(start, min(start + _BLOCK, n))
        vol = _core.interpolate_vol(surfaces[part], tau, moneyness, t, moneyness[None], extrapolation, num_threads)
        out[part] = np.sqrt(_total_variance(vol * np.sqrt(remaining), k) / remaining)
    return out


def vix_vol(
    surfaces: npt.NDArray[np.floating], tau: FloatArray, moneyness: FloatArray, *, num_threads: int = 1
) -> FloatArray:
    """Volatility index of n surfaces (n, J, I) as a decimal, shape (n,); see :func:`volscen.vix`.

    Where 30 days lie outside the maturities, the nearest is used at any distance: the caller says so.
    """
    labelled = xr.DataArray(
        surfaces, dims=("scenario", "tau", "moneyness"), coords={"tau": tau, "moneyness": moneyness}, name="implied_vol"
    )
    return np.asarray(vix(labelled, max_tau_ratio=1e9, num_threads=num_threads).values / 100)


def _total_variance(s: FloatArray, k: FloatArray) -> FloatArray:
    """Fair total variance of slices of s = sigma sqrt(t), shape (n, I), linear in k between the points."""
    d2 = -k / s - s / 2
    total = np.square(s[:, 0]) * ndtr(-d2[:, 0]) + np.square(s[:, -1]) * ndtr(d2[:, -1])
    points, weights = np.polynomial.legendre.leggauss(_POINTS)
    share = (points + 1) / 2
    for i in range(k.size - 1):
        width = k[i + 1] - k[i]
        slope = ((s[:, i + 1] - s[:, i]) / width)[:, None]
        here = s[:, i, None] + slope * (width * share)
        at = k[i] + width * share
        z = at / here + here / 2  # -d2
        density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
        turn = (1 - at * slope / here) / here + slope / 2  # its derivative in k
        total += (np.square(here) * density * turn) @ (weights * width / 2)
    return np.asarray(total)

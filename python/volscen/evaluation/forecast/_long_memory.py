"""Memory parameter of a series from its lowest frequencies, and fractional differences."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from volscen._numbers import bounded_number, whole_number
from volscen.errors import InputError
from volscen.evaluation.forecast._series import series

__all__ = ["LongMemory", "fractional_difference", "long_memory", "memory_by_segment"]

FloatArray = npt.NDArray[np.float64]

#: The objective is flat far outside this range, and no series of volatility lies there.
_LOWEST, _HIGHEST = -1.0, 2.0


class LongMemory(NamedTuple):
    """Estimate of the memory parameter d: 0 short memory, below 1/2 stationary long memory, 1 a random walk."""

    d: float
    standard_error: float
    n_frequencies: int

    @property
    def hurst(self) -> float:
        """Hurst exponent d + 1/2 of the sums of the series, for a stationary series."""
        return self.d + 0.5


def long_memory(values: npt.ArrayLike, *, method: str = "exact_whittle", power: float = 0.65) -> LongMemory:
    """Estimate d of a fractionally integrated series.

    Parameters
    ----------
    values : array_like, shape (T,)
        At least 50, equally spaced, such as log realised volatilities.
    method : {"exact_whittle", "local_whittle", "gph"}
        Shimotsu and Phillips (2005), also where the series is not stationary; Robinson (1995), for d below 3/4; the
        log periodogram regression of Geweke and Porter-Hudak (1983), likewise.
    power : float
        The m = T^power lowest frequencies are used, between 0.2 and 0.8. More make the estimate sharper and let short
        memory into it.

    Returns
    -------
    LongMemory
        The standard error is the asymptotic one: 1 / (2 sqrt(m)), and pi / sqrt(24 m) of the regression.

    Raises
    ------
    InputError
        If the series is short, constant or not finite, or an argument is out of range.

    Notes
    -----
    With Fourier frequencies l_j = 2 pi j / T and periodogram I_j, local Whittle minimises
    log(mean I_j l_j^(2d)) - 2 d mean(log l_j); the exact form takes the periodogram of the d-th difference of the
    series less its average up to d = 1/2, less its first value from d = 3/4 on, and between in between (Shimotsu 2010).
    A shift in the mean looks like long memory: test for breaks (:func:`breaks_in_variance`) and estimate again on each
    side.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.evaluation.forecast import fractional_difference, long_memory
    >>> noise = np.random.default_rng(1).normal(size=4000)
    >>> found = long_memory(fractional_difference(noise, -0.4))
    >>> bool(abs(found.d - 0.4) < 2 * found.standard_error)
    True
    """
    x = series("values", values, 50)
    m = int(x.size ** bounded_number("power", power, 0.2, 0.8))
    frequency = 2 * np.pi * np.arange(1, m + 1) / x.size
    if method == "gph":
        regressor = -2 * np.log(2 * np.sin(frequency / 2))
        regressor = regressor - regressor.mean()
        d = float(regressor @ np.log(_periodogram(x, m)) / (regressor @ regressor))
        # The finite-sample form of pi / sqrt(24 m), with the regressor's own sum of squares.
        return LongMemory(d, float(np.pi / np.sqrt(6 * (regressor @ regressor))), m)
    mean_log = float(np.log(frequency).mean())
    if method == "local_whittle":
        spectrum = _periodogram(x, m)

        def objective(d: float) -> float:
            return float(np.log(np.mean(spectrum * frequency ** (2 * d))) - 2 * d * mean_log)

    elif method == "exact_whittle":

        def objective(d: float) -> float:
            difference = fractional_difference(x - _mean_for(x, d), d)
            return float(np.log(np.mean(_periodogram(difference, m))) - 2 * d * mean_log)

    else:
        raise InputError(f"method must be 'exact_whittle', 'local_whittle' or 'gph', not {method!r}")
    # The objective may have a second, shallow minimum: look everywhere first.
    grid = np.linspace(_LOWEST, _HIGHEST, 61)
    at = int(np.argmin([objective(d) for d in grid]))
    bounds = (grid[max(at - 1, 0)], grid[min(at + 1, grid.size - 1)])
    d = float(minimize_scalar(objective, bounds=bounds, method="bounded", options={"xatol": 1e-7}).x)
    return LongMemory(d, float(0.5 / np.sqrt(m)), m)


def memory_by_segment(
    values: npt.ArrayLike,
    breaks: npt.ArrayLike,
    *,
    min_segment: int = 250,
    method: str = "exact_whittle",
    power: float = 0.65,
) -> pd.DataFrame:
    """Estimate the memory of a series anew between its breaks: shifts of the mean pass for long memory.

    Parameters
    ----------
    values : array_like, shape (T,)
    breaks : array_like of int, shape (n,)
        First value of each new segment, increasing: ``breaks_in_variance(...).position``, shifted where the series
        begins on another day than that of the breaks.
    min_segment : int
        Shorter segments are listed without an estimate, at least 50.
    method, power
        As of :func:`long_memory`.

    Returns
    -------
    pandas.DataFrame
        A row a segment: ``first`` and ``last`` (positions), ``n``, ``d``, ``standard_error``, and ``p``, of the test
        that d is 0 against long memory, one-sided and normal; NaN where a segment is too short.

    Raises
    ------
    InputError
        If the series is not finite, breaks lie outside it or do not increase, or an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.evaluation.forecast import breaks_in_variance, long_memory, memory_by_segment
    >>> noise = np.random.default_rng(0).normal(size=2000)
    >>> level = noise + 3 * (np.arange(2000) >= 1000)
    >>> bool(long_memory(level).d > 0.3), (memory_by_segment(level, [1000]).d.abs() < 0.2).tolist()
    (True, [True, True])
    """
    x = series("values", values, 50)
    shortest = whole_number("min_segment", min_segment, least=50)
    at = np.asarray(breaks)
    if at.ndim != 1 or (at.size and not np.issubdtype(at.dtype, np.integer)):
        raise InputError(f"breaks must be whole positions, not {breaks!r}")
    bounds = np.r_[0, at.astype(np.intp), x.size]
    if np.any(np.diff(bounds) <= 0):
        raise InputError(f"breaks must increase and lie between 1 and {x.size - 1}, not {at.tolist()}")
    rows = []
    for first, stop in pairwise(bounds.tolist()):
        d = error = p = np.nan
        if stop - first >= shortest:
            found = long_memory(x[first:stop], method=method, power=power)
            d, error = found.d, found.standard_error
            p = float(norm.sf(d / error))
        rows.append((first, stop - 1, stop - first, d, error, p))
    return pd.DataFrame(rows, columns=["first", "last", "n", "d", "standard_error", "p"])


def fractional_difference(values: npt.ArrayLike, d: float) -> FloatArray:
    """Apply (1 - L)^d to a series that is zero before its first value.

    Parameters
    ----------
    values : array_like, shape (T,)
    d : float
        Any number; negative values integrate.

    Returns
    -------
    ndarray, shape (T,)

    Raises
    ------
    InputError
        If the series or d is not finite.

    Notes
    -----
    Weights are 1, then w_j = w_(j-1) (j - 1 - d) / j; the sums are taken by FFT (Jensen and Nielsen 2014).

    Examples
    --------
    >>> from volscen.evaluation.forecast import fractional_difference
    >>> fractional_difference([1.0, 2.0, 4.0], 1.0).round(12).tolist()
    [1.0, 1.0, 2.0]
    """
    from scipy.signal import fftconvolve

    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or not np.all(np.isfinite(x)):
        raise InputError("values must be a finite series")
    if not np.isfinite(d):
        raise InputError(f"d must be finite, not {d!r}")
    j = np.arange(1, x.size)
    weights = np.concatenate([[1.0], np.cumprod((j - 1 - d) / j)])
    return np.asarray(fftconvolve(x, weights)[: x.size])


def _periodogram(x: FloatArray, m: int) -> FloatArray:
    return np.asarray(np.abs(np.fft.rfft(x)[1 : m + 1]) ** 2 / (2 * np.pi * x.size))


def _mean_for(x: FloatArray, d: float) -> float:
    share = np.clip((d - 0.5) / 0.25, 0, 1)
    share = (1 - np.cos(np.pi * share)) / 2
    return float((1 - share) * x.mean() + share * x[0])

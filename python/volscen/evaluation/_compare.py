"""Is one model better than another: Diebold-Mariano, Holm, and block bootstrap intervals on paired daily scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from volscen.errors import InputError

__all__ = ["DieboldMariano", "bootstrap_interval", "diebold_mariano", "holm", "pooled_diebold_mariano"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DieboldMariano:
    """Result of a paired comparison of two series of losses.

    Attributes
    ----------
    mean_difference : float
        Mean of loss - baseline; negative when the first is better.
    t : float
        Its ratio to the HAC standard error; 0 where the two are the same every day.
    p_value : float
        Two-sided, Student-t with T - 1 degrees of freedom.
    lags : int
        Of the Newey-West variance; of several series, the most.
    days : int
    """

    mean_difference: float
    t: float
    p_value: float
    lags: int
    days: int


def diebold_mariano(loss: npt.ArrayLike, baseline: npt.ArrayLike, *, lags: int | None = None) -> DieboldMariano:
    """Test whether two forecasts have the same expected loss.

    Parameters
    ----------
    loss, baseline : array_like, shape (T,)
        Losses of the same days, at least 10.
    lags : int, optional
        Of the Newey-West variance with Bartlett weights; floor(4 (T/100)^(2/9)) + 1 when omitted.

    Returns
    -------
    DieboldMariano

    Raises
    ------
    InputError
        If the series differ in length, are short or hold what is not finite.

    Notes
    -----
    Diebold and Mariano (1995); Newey and West (1987, 1994).

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.evaluation import diebold_mariano
    >>> rng = np.random.default_rng(0)
    >>> worse = rng.standard_normal(500) ** 2
    >>> diebold_mariano(worse - 0.2 + 0.1 * rng.standard_normal(500), worse).t < -10
    True
    """
    x, y = np.asarray(loss, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or x.size < 10:
        raise InputError(
            f"loss and baseline must be series of the same days, at least 10; they have shapes {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("loss and baseline must be finite; drop the days that are not from both")
    n = x.size
    if lags is None:
        lags = int(np.floor(4 * (n / 100) ** (2 / 9))) + 1
    if isinstance(lags, bool) or not isinstance(lags, (int, np.integer)) or not 0 <= lags < n:
        raise InputError(f"lags must be an integer from 0 to {n - 1}, not {lags!r}")
    d = x - y
    mean = float(np.mean(d))
    if np.abs(d).max() == 0:
        return DieboldMariano(0.0, 0.0, 1.0, int(lags), n)
    # A difference that never varies is as sure as can be.
    ratio = mean / np.sqrt(max(_long_run_variance(d, int(lags)), 1e-300) / n)
    return DieboldMariano(mean, float(ratio), float(2 * student.sf(abs(ratio), n - 1)), int(lags), n)


def pooled_diebold_mariano(
    losses: Sequence[npt.ArrayLike], baselines: Sequence[npt.ArrayLike], *, lags: int | None = None
) -> DieboldMariano:
    """Test whether two forecasts have the same expected loss over several markets together.

    Parameters
    ----------
    losses, baselines : sequence of array_like, shapes (T_m,)
        Of every market, losses of the same days, at least 10.
    lags : int, optional
        As for :func:`diebold_mariano`, in every market.

    Returns
    -------
    DieboldMariano
        ``mean_difference`` is relative: the mean, over all days of all markets, of the differences divided by the
        market's mean baseline loss, so that no market counts for its units.

    Raises
    ------
    InputError
        If markets or series do not fit, or a baseline's mean loss is not positive.

    Notes
    -----
    Days of one market are correlated up to the lags, markets are taken as independent of one another: variances of
    their sums add.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.evaluation import pooled_diebold_mariano
    >>> rng = np.random.default_rng(0)
    >>> worse = [rng.uniform(1, 3, 500), rng.uniform(10, 30, 250)]
    >>> better = [0.97 * loss + 0.1 * rng.standard_normal(loss.size) for loss in worse]
    >>> round(pooled_diebold_mariano(better, worse).mean_difference, 2)
    -0.03
    """
    if len(losses) == 0 or len(losses) != len(baselines):
        raise InputError(f"losses and baselines must be of the same markets, not {len(losses)} and {len(baselines)}")
    total, variance, days, most = 0.0, 0.0, 0, 0
    for loss, baseline in zip(losses, baselines, strict=True):
        one = diebold_mariano(loss, baseline, lags=lags)
        unit = float(np.mean(np.asarray(baseline, dtype=np.float64)))
        if unit <= 0:
            raise InputError(f"baselines must have positive mean losses to be set in relation to, not {unit:g}")
        d = (np.asarray(loss, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)) / unit
        total += float(d.sum())
        variance += one.days * _long_run_variance(d, one.lags)
        days, most = days + one.days, max(most, one.lags)
    if variance == 0 and total == 0:
        return DieboldMariano(0.0, 0.0, 1.0, most, days)
    ratio = total / float(np.sqrt(max(variance, 1e-300)))
    return DieboldMariano(total / days, ratio, float(2 * student.sf(abs(ratio), days - 1)), most, days)


def _long_run_variance(d: FloatArray, lags: int) -> float:
    """Newey and West's, of the daily values."""
    u = d - d.mean()
    variance = float(u @ u)
    for k in range(1, lags + 1):
        variance += 2 * (1 - k / (lags + 1)) * float(u[k:] @ u[:-k])
    return max(variance, 0.0) / d.size


def holm(p_value: npt.ArrayLike) -> FloatArray:
    """p-values adjusted for the number of comparisons.

    Parameters
    ----------
    p_value : array_like, shape (k,)
        In [0, 1].

    Returns
    -------
    ndarray, shape (k,)
        Rejecting where the adjusted value is below a level keeps the chance of any false rejection below that level.

    Raises
    ------
    InputError
        If a value is no probability.

    Notes
    -----
    Holm (1979).

    Examples
    --------
    >>> from volscen.evaluation import holm
    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_value, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise InputError("p_value must be a one-dimensional array of numbers in [0, 1]")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(stepped, 1)
    return out


def bootstrap_interval(
    statistic: Any,
    *series: npt.ArrayLike,
    level: float = 0.95,
    block: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic of daily series, by resampling blocks of days.

    Parameters
    ----------
    statistic : callable
        From the means over days of the series, arrays of shape (resamples,), to the statistic, of that shape.
    *series : array_like, shape (T,)
        Of the same days, at least 10; resampled together.
    level : float
        In (0, 1).
    block : int, optional
        Days of a block; the cube root of T, rounded up, when omitted.
    resamples : int
    seed : int

    Returns
    -------
    low, high : float

    Raises
    ------
    InputError
        If series do not fit, or an argument is out of range.

    Notes
    -----
    Circular block bootstrap of Politis and Romano (1992), percentile interval.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.evaluation import bootstrap_interval
    >>> rng = np.random.default_rng(0)
    >>> a, b = 0.9 + 0.1 * rng.standard_normal(500), 1.0 + 0.1 * rng.standard_normal(500)
    >>> low, high = bootstrap_interval(lambda mean_a, mean_b: 1 - mean_a / mean_b, a, b)
    >>> 0.08 < low < 0.1 < high < 0.12
    True
    """
    data = [np.asarray(one, dtype=np.float64) for one in series]
    if not data or data[0].ndim != 1 or data[0].size < 10 or any(one.shape != data[0].shape for one in data):
        raise InputError("series must be one-dimensional, of the same days, at least 10")
    if not all(np.isfinite(one).all() for one in data):
        raise InputError("series must be finite; drop the days that are not from all")
    n = data[0].size
    length = int(np.ceil(n ** (1 / 3))) if block is None else block
    if not 0 < level < 1 or not 1 <= length <= n or resamples < 1:
        raise InputError(
            f"level must lie in (0, 1), block between 1 and {n} and resamples be positive; got {level}, {block}, "
            f"{resamples}"
        )
    rng = np.random.default_rng(seed)
    starts = rng.integers(n, size=(resamples, -(-n // length)))
    days = ((starts[..., None] + np.arange(length)) % n).reshape(resamples, -1)[:, :n]
    values = np.asarray(statistic(*(one[days].mean(axis=1) for one in data)), dtype=np.float64)
    if values.shape != (resamples,) or not np.isfinite(values).all():
        raise InputError("statistic must give one finite number for every resample")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

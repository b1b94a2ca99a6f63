"""Breaks in the variance of a series by iterated cumulative sums of squares, and regimes from them."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._numbers import whole_number
from volscen.errors import InputError
from volscen.evaluation.forecast._series import series

__all__ = ["Breaks", "breaks_in_variance", "regime_state"]

FloatArray = npt.NDArray[np.float64]

#: Quantiles of the largest absolute value of a Brownian bridge (Kolmogorov's distribution): 90, 95 and 99%.
_CRITICAL = {0.10: 1.2238478, 0.05: 1.3580986, 0.01: 1.6276236}

#: Passes after which breaks that come and go are left as they are.
_MOST_PASSES = 50


class Breaks(NamedTuple):
    """Breaks in variance of a series."""

    position: npt.NDArray[np.intp]
    """First value of each new segment, shape (n,), increasing."""
    statistic: FloatArray
    """Test statistic of each break between its neighbours, shape (n,)."""
    variance: FloatArray
    """Mean square in each segment, shape (n + 1,)."""


def breaks_in_variance(
    values: npt.ArrayLike, *, significance: float = 0.05, method: str = "kappa2", min_segment: int = 20
) -> Breaks:
    """Find where the variance of a series changes, by iterated cumulative sums of squares.

    Parameters
    ----------
    values : array_like, shape (T,)
        Of mean zero, such as daily log returns; at least twice ``min_segment``.
    significance : {0.05, 0.1, 0.01}
        Probability of a break in a stretch without one.
    method : {"kappa2", "inclan_tiao"}
        "inclan_tiao" assumes independent normal values: on returns with heavy tails and volatility clusters it
        finds breaks where there are none. "kappa2" (Sanso, Arago and Carrion 2004) divides by the long-run standard
        deviation of the squares instead of what normality says it is.
    min_segment : int
        Values between two breaks, at least 2.

    Returns
    -------
    Breaks

    Raises
    ------
    InputError
        If the series is short or not finite, or an argument is out of range.

    Notes
    -----
    With C_k the sum of the first k squares and D_k = C_k / C_T - k / T the statistic is sqrt(T / 2) max abs(D_k)
    (Inclan and Tiao 1994); kappa2 is C_T / sqrt(T omega) max abs(D_k), omega the long-run variance of the squares by
    Bartlett's kernel with 4 (T / 100)^(2/9) lags. Segments are split where the statistic exceeds its quantile; then
    every break is tested again between its neighbours until all stay.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.evaluation.forecast import breaks_in_variance
    >>> noise = np.random.default_rng(3).normal(size=1000)
    >>> noise[600:] *= 2
    >>> found = breaks_in_variance(noise)
    >>> len(found.position), bool(abs(found.position[0] - 600) < 25)
    (1, True)
    """
    least = whole_number("min_segment", min_segment, least=2)
    x = series("values", values, 2 * least)
    if significance not in _CRITICAL:
        raise InputError(f"significance must be one of {', '.join(map(str, _CRITICAL))}, not {significance!r}")
    if method not in ("kappa2", "inclan_tiao"):
        raise InputError(f"method must be 'kappa2' or 'inclan_tiao', not {method!r}")
    squares = x * x
    found: list[int] = []
    open_segments = [(0, x.size)]
    while open_segments:
        start, stop = open_segments.pop()
        at, statistic = _largest(squares[start:stop], method, least)
        if statistic > _CRITICAL[significance]:
            found.append(start + at)
            open_segments += [(start, start + at), (start + at, stop)]
    found.sort()
    for _ in range(_MOST_PASSES):
        kept = []
        bounds = [0, *found, x.size]
        for i in range(1, len(bounds) - 1):
            at, statistic = _largest(squares[bounds[i - 1] : bounds[i + 1]], method, least)
            if statistic > _CRITICAL[significance]:
                kept.append(bounds[i - 1] + at)
        kept = sorted(set(kept))
        if kept == found:
            break
        found = kept
    bounds = [0, *found, x.size]
    statistics = [_largest(squares[bounds[i - 1] : bounds[i + 1]], method, least)[1] for i in range(1, len(bounds) - 1)]
    variance = np.array([squares[a:b].mean() for a, b in pairwise(bounds)])
    return Breaks(np.array(found, dtype=np.intp), np.array(statistics), variance)


def regime_state(history: xr.Dataset, *, min_days: int = 250, every: int = 5, significance: float = 0.05) -> xr.Dataset:
    """What is known each day of the current variance regime: when it began, and its volatility, from the past only.

    Breaks are looked for anew every ``every`` days in all returns up to that day, so that no day knows of a later
    break; between, the last break found stands.

    Parameters
    ----------
    history : xarray.Dataset
        Following ``volscen/history/1``, of one asset.
    min_days : int
        Returns before the first search, at least 60; earlier days are left out.
    every : int
        Days between searches.
    significance : {0.05, 0.1, 0.01}
        As in :func:`breaks_in_variance`, whose "kappa2" is used.

    Returns
    -------
    xarray.Dataset
        Over ``date``: ``regime_days`` since the current regime began, ``regime_vol`` (annualised root mean square of
        its returns) and ``regime_ratio`` to that of all returns before. Usable as extra features or to condition on.

    Raises
    ------
    InputError
        If the history is shorter than ``min_days``, holds several assets, or an argument is out of range.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation.forecast import regime_state
    >>> state = regime_state(volscen.datasets.sample_history(), every=100)
    >>> list(state.data_vars), bool((state.regime_vol > 0).all())
    (['regime_days', 'regime_vol', 'regime_ratio'], True)
    """
    schema.validate(history, schema=schema.HISTORY)
    if "asset" in history.dims:
        raise InputError("history holds several assets; choose one with history.sel(asset=...)")
    first, step = whole_number("min_days", min_days, least=60), whole_number("every", every, least=1)
    x = series("history's log_return", history["log_return"].values[1:], first)
    sums = np.concatenate([[0.0], np.cumsum(x * x)])
    start = 0
    rows = []
    for t in range(first, x.size + 1):
        if (t - first) % step == 0:
            found = breaks_in_variance(x[:t], significance=significance).position
            start = int(found[-1]) if found.size else 0
        mean, whole_mean = (sums[t] - sums[start]) / (t - start), sums[t] / t
        rows.append((t - start, mean, mean / whole_mean))
    days, mean_square, ratio = np.array(rows).T
    state = xr.Dataset(
        {
            "regime_days": ("date", days.astype(np.int64), {"long_name": "days since the last break in variance"}),
            "regime_vol": ("date", np.sqrt(mean_square * float(history.attrs["periods_per_year"])), {"units": "1"}),
            "regime_ratio": ("date", np.sqrt(ratio), {"long_name": "volatility over that of all days before"}),
        },
        coords={"date": history["date"].values[first:]},
    )
    return state


def _largest(squares: FloatArray, method: str, least: int) -> tuple[int, float]:
    """Where the centred sum of squares is farthest from zero, as the first value after it, and the statistic there."""
    n = squares.size
    if n < 2 * least:
        return 0, 0.0
    total = squares.sum()
    if total == 0:
        return 0, 0.0
    inner = slice(least - 1, n - least)
    centred = (np.cumsum(squares) - np.arange(1, n + 1) / n * total)[inner]
    at = int(np.argmax(np.abs(centred)))
    size = abs(centred[at])
    if method == "inclan_tiao":
        statistic = np.sqrt(n / 2) * size / total
    else:
        deviation = squares - total / n
        lags = min(int(4 * (n / 100) ** (2 / 9)), n - 1)
        omega = deviation @ deviation / n
        for lag in range(1, lags + 1):
            omega += 2 * (1 - lag / (lags + 1)) * (deviation[lag:] @ deviation[:-lag]) / n
        statistic = size / np.sqrt(n * omega) if omega > 0 else 0.0
    return at + least, float(statistic)

"""What is known at a close, for the HAR generator: moving averages of levels, squares and errors.

The same functions serve the days of a history, the last days of a state, and paths that are being simulated.
Every average looks back ``WINDOW`` days with weights that sum to 1, so that a state gives what the
history it was cut from gives; along a path it goes on without dropping its oldest days.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from volscen.generators._har_calendar import N_SCALE_CALENDAR

__all__ = [
    "LEVEL_HALF_LIVES",
    "SQUARE_FLOOR",
    "SQUARE_HALF_LIVES",
    "WINDOW",
    "Known",
    "average",
    "forward",
    "mean_features",
    "news",
    "scale_features",
]

FloatArray = npt.NDArray[np.float64]

WINDOW = 252
LEVEL_HALF_LIVES = (5, 22, 130)
SQUARE_HALF_LIVES = (3, 10, 40)
#: Averages of squares are of standardised factors: 1e-4 is a hundredth of their standard deviation.
SQUARE_FLOOR = 1e-4


def average(x: FloatArray, half_life: float, window: int | None = WINDOW) -> FloatArray:
    """Exponentially weighted average of each row and the ``window`` - 1 rows before it.

    Parameters
    ----------
    x : ndarray, shape (n, ...)
        Oldest first.
    half_life : float
        In rows.
    window : int or None
        None looks back to the first row. Rows with fewer before them average what there is.

    Returns
    -------
    ndarray, shape (n, ...)

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.generators._har_features import average
    >>> average(np.array([1.0, 4.0]), half_life=1.0)
    array([1., 3.])
    """
    from scipy.signal import lfilter  # here: it brings scipy.stats, which workers that draw can do without

    decay = 0.5 ** (1 / half_life)
    total = lfilter([1.0], [1.0, -decay], x, axis=0)
    if window is not None and x.shape[0] > window:
        total = total.copy()
        total[window:] -= decay**window * lfilter([1.0], [1.0, -decay], x[:-window], axis=0)
    weight = _weights(decay, np.arange(1, x.shape[0] + 1), window)
    return np.asarray(total / weight.reshape(-1, *[1] * (x.ndim - 1)))


def _weights(decay: float, count: npt.NDArray[np.int64], window: int | None) -> FloatArray:
    length = count if window is None else np.minimum(count, window)
    return np.asarray((1 - decay**length) / (1 - decay))


def forward(mean: FloatArray, x: FloatArray, half_life: float, count: int) -> FloatArray:
    """The average one row later, when ``count`` rows stand behind it."""
    return np.asarray(mean + (x - mean) * news(half_life, count))


def news(half_life: float, count: int) -> float:
    """Weight of the next row in the average, when ``count`` rows stand behind it."""
    decay = 0.5 ** (1 / half_life)
    return float((1 - decay) / (1 - decay ** (count + 1)))


@dataclass(frozen=True)
class Known:
    """Known at n closes: consecutive days of a history, or one day of n paths.

    Attributes
    ----------
    level : ndarray, shape (n, k)
        Level scores.
    slow : ndarray, shape (3, n, k)
        Their averages over ``LEVEL_HALF_LIVES``.
    factor : ndarray, shape (n, 1 + k)
        The day's standardised factors, the return first.
    square : ndarray, shape (3, n, 1 + k)
        Averages of their squares over ``SQUARE_HALF_LIVES``.
    trend : ndarray, shape (3, n)
        Averages of the return over the same.
    mean_log_iv : ndarray, shape (n,)
        Mean over the cells.
    count : int
        Days behind the averages of the last row.
    """

    level: FloatArray
    slow: FloatArray
    factor: FloatArray
    square: FloatArray
    trend: FloatArray
    mean_log_iv: FloatArray
    count: int

    @classmethod
    def of_days(cls, level: FloatArray, factor: FloatArray, mean_log_iv: FloatArray) -> Self:
        """From consecutive days, oldest first."""
        slow = np.stack([average(level, h) for h in LEVEL_HALF_LIVES])
        square = np.stack([average(factor**2, h) for h in SQUARE_HALF_LIVES])
        trend = np.stack([average(factor[:, 0], h) for h in SQUARE_HALF_LIVES])
        return cls(level, slow, factor, square, trend, mean_log_iv, min(level.shape[0], WINDOW))

    def rows(self, which: slice) -> Known:
        """Some of the rows."""
        return Known(
            self.level[which],
            self.slow[:, which],
            self.factor[which],
            self.square[:, which],
            self.trend[:, which],
            self.mean_log_iv[which],
            self.count,
        )

    def after(self, level: FloatArray, factor: FloatArray, mean_log_iv: FloatArray) -> Known:
        """One day later on every path."""
        slow = [forward(m, level, h, self.count) for m, h in zip(self.slow, LEVEL_HALF_LIVES, strict=True)]
        square = [forward(m, factor**2, h, self.count) for m, h in zip(self.square, SQUARE_HALF_LIVES, strict=True)]
        trend = [forward(m, factor[:, 0], h, self.count) for m, h in zip(self.trend, SQUARE_HALF_LIVES, strict=True)]
        return Known(level, np.stack(slow), factor, np.stack(square), np.stack(trend), mean_log_iv, self.count + 1)


def mean_features(known: Known, calendar: FloatArray, log_return_sd: float) -> FloatArray:
    """Inputs of the means, without the constant: (n, p), the calendar's last.

    Level scores; level less its averages; the day's return and first components; realised volatility less
    implied; averages of the return. Only the first four components enter, besides all levels. ``log_return_sd`` is
    the logarithm of the annualised standard deviation that the factor of the return is divided by.
    """
    m = min(4, known.level.shape[1])
    realised = 0.5 * np.log(np.maximum(known.square[:, :, 0], SQUARE_FLOOR)) + log_return_sd
    return np.column_stack(
        [
            known.level,
            *(known.level[:, :m] - slow[:, :m] for slow in known.slow),
            known.factor[:, : m + 1],
            (realised - known.mean_log_iv).T,
            known.trend.T,
            np.broadcast_to(calendar, (known.level.shape[0], calendar.shape[1])),
        ]
    )


def scale_features(known: Known, calendar: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Inputs of the log scales, without the constant: shared (n, p), and each factor's own (n, 3, 1 + k).

    ``calendar`` are the features of the date, of which the first serve scales. Own: log realised volatility of the
    factor itself. Shared: that of the return, of the first component and of the mean over the first four; level
    scores; the return, its negative part, the first component and its absolute value; the calendar, last.
    """
    m = min(4, known.level.shape[1])
    # Each average on its own floor: (3, n, factors).
    own = 0.5 * np.log(np.maximum(known.square, SQUARE_FLOOR))
    several = 0.5 * np.log(np.maximum(known.square[:, :, 1 : m + 1].mean(axis=2), SQUARE_FLOOR))
    ret, first = known.factor[:, 0], known.factor[:, 1]
    shared = np.column_stack(
        [
            own[:, :, 0].T,
            own[:, :, 1].T,
            several.T,
            known.level[:, :m],
            ret,
            np.minimum(ret, 0),
            first,
            np.abs(first),
            np.broadcast_to(calendar[:, :N_SCALE_CALENDAR], (known.level.shape[0], N_SCALE_CALENDAR)),
        ]
    )
    return shared, own.transpose(1, 0, 2)

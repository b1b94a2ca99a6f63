"""What the VAE-LSTM knows of a day besides its surface: engineered features, from that day and those before.

The same functions serve whole histories and simulated paths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["LOOK_BACK", "N_FEATURES", "Points", "day_features", "history_features"]

FloatArray = npt.NDArray[np.float64]

#: Days before the day itself that its features look at.
LOOK_BACK = 22
_LAGS = (1, 5, LOOK_BACK)
#: Return, skew, slope, curvature, level, realised vol of 22 days, change of the short at-the-money vol over the lags.
N_FEATURES = 6 + len(_LAGS)
_PUT, _CALL = 0.9, 1.1


@dataclass(frozen=True)
class Points:
    """Cells of the surface that features read: short and long at the money, the put and the call beside the short."""

    atm: int
    far: int
    put: int
    call: int

    @classmethod
    def of(cls, tau: FloatArray, moneyness: FloatArray) -> Points:
        """Cells nearest to 30 days and the longest time, at K/F of 1, .9 and 1.1."""
        row, m = int(np.argmin(np.abs(tau - 30 / 365))), moneyness.size

        def cell(i: int, at: float) -> int:
            return i * m + int(np.argmin(np.abs(np.log(moneyness / at))))

        return cls(cell(row, 1.0), cell(tau.size - 1, 1.0), cell(row, _PUT), cell(row, _CALL))


def day_features(logs: FloatArray, returns: FloatArray, points: Points) -> FloatArray:
    """Features (n, features) of the last day.

    Parameters
    ----------
    logs : ndarray, shape (n, at least 23, cells)
        Log vols, the last day last.
    returns : ndarray, shape (n, at least 22)
        Annualised returns, sqrt(P) r, into these days.
    """
    now = logs[:, -1]
    atm = now[:, points.atm]
    realised = np.log(np.sqrt(np.mean(returns[:, -LOOK_BACK:] ** 2, axis=1)) + 1e-3)
    return np.column_stack(
        [
            returns[:, -1],
            now[:, points.put] - now[:, points.call],
            now[:, points.far] - atm,
            now[:, points.put] + now[:, points.call] - 2 * atm,
            now.mean(axis=1),
            realised,
            *(atm - logs[:, -1 - lag, points.atm] for lag in _LAGS),
        ]
    )


def history_features(logs: FloatArray, returns: FloatArray, points: Points) -> FloatArray:
    """Features (T, features) of all days; of the first 22 as if the first day had lasted that long before."""
    long = np.concatenate([np.repeat(logs[:1], LOOK_BACK, axis=0), logs])
    before = np.concatenate([np.zeros(LOOK_BACK), returns])
    days = np.lib.stride_tricks.sliding_window_view(long, LOOK_BACK + 1, axis=0).transpose(0, 2, 1)
    moves = np.lib.stride_tricks.sliding_window_view(before, LOOK_BACK, axis=0)[1:]
    return day_features(days, moves, points)

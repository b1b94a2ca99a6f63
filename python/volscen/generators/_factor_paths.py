"""What the factor laws work on: series of a history, states of paths, moves of one step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["N_RETURNS", "Moves", "Path", "Series", "windows"]

FloatArray = npt.NDArray[np.float64]

#: Returns that realised volatility looks back on.
N_RETURNS = 21


@dataclass(frozen=True)
class Series:
    """What moved on the days of a history.

    Attributes
    ----------
    log_return : ndarray, shape (T - 1,)
        Return t leads into row t + 1 of the others.
    coordinate : ndarray, shape (T, C)
    remainder : ndarray, shape (T, cells) or (T, 0)
        Log vols less those that the coordinates stand for; no columns where they stand for all.
    """

    log_return: FloatArray
    coordinate: FloatArray
    remainder: FloatArray


@dataclass(frozen=True)
class Path:
    """State of n paths: last returns (n, 21), last two coordinates (n, 2, C), remainder, variances (n, factors)."""

    log_return: FloatArray
    coordinate: FloatArray
    remainder: FloatArray
    variance: FloatArray


@dataclass(frozen=True)
class Moves:
    """One step of n paths: returns (n,), coordinates (n, C), remainders, surfaces (n, cells), shocks (n, factors)."""

    log_return: FloatArray
    coordinate: FloatArray
    remainder: FloatArray
    implied_vol: FloatArray
    shock: FloatArray

    def take(self, row: npt.NDArray[np.int64]) -> Moves:
        """Rows of every array."""
        return Moves(*(getattr(self, name)[row] for name in self.__dataclass_fields__))


def windows(log_return: FloatArray, coordinate: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What is known the day before each target: (n, 21) returns and (n, 2, C) coordinates.

    The last return leads into the last row of the coordinates; targets are as many as both reach back for.
    """
    n = min(len(log_return) - N_RETURNS, len(coordinate) - 2)
    returns = np.lib.stride_tricks.sliding_window_view(log_return, N_RETURNS)[-n - 1 : -1]
    surfaces = np.stack([coordinate[-n - 2 : -2], coordinate[-n - 1 : -1]], axis=1)
    return returns, surfaces

"""What the HAR generator makes of the remainder of a surface outside its principal components.

Part of a close is noise of that day: quotes that were late, fits that wobble. It is gone the next day, so that the
remainder's distance from its own recent averages says which way it will move. Where the state explains everything
but noise, this halves the variance of the remainder's next move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from volscen.generators._har_features import WINDOW, average, forward

__all__ = ["REST_HALF_LIVES", "Outside", "Reversion"]

FloatArray = npt.NDArray[np.float64]

#: One day filters the noise, a month tells a lasting change of shape.
REST_HALF_LIVES = (1, 5, 22)
# Days of no reversion at all that the estimates are shrunk by.
_PRIOR_DAYS = 50.0


@dataclass(frozen=True)
class Outside:
    """Levels outside the components known at n closes: consecutive days of a history, or one day of n paths.

    Attributes
    ----------
    level : ndarray, shape (n, r)
        Of the standardised log surface in each direction outside the components.
    slow : ndarray, shape (3, n, r)
        Their averages over ``REST_HALF_LIVES``.
    count : int
        Days behind the averages of the last row.
    """

    level: FloatArray
    slow: FloatArray
    count: int

    @classmethod
    def of_days(cls, level: FloatArray) -> Self:
        """From consecutive days, oldest first."""
        return cls(level, np.stack([average(level, h) for h in REST_HALF_LIVES]), min(level.shape[0], WINDOW))

    def rows(self, which: slice) -> Outside:
        """Some of the rows."""
        return Outside(self.level[which], self.slow[:, which], self.count)

    def after(self, level: FloatArray) -> Outside:
        """One day later on every path."""
        slow = [forward(m, level, h, self.count) for m, h in zip(self.slow, REST_HALF_LIVES, strict=True)]
        return Outside(level, np.stack(slow), self.count + 1)


@dataclass(frozen=True)
class Reversion:
    """Expected next move in each direction outside the components, linear in its distances from its averages.

    Attributes
    ----------
    reversion_coef : ndarray, shape (3, r)
        One for each of ``REST_HALF_LIVES``.
    reversion_range : ndarray, shape (2, 3, r)
        Smallest and largest distance fitted on; beyond, they count as that.
    """

    reversion_coef: FloatArray
    reversion_range: FloatArray

    @classmethod
    def fit(cls, known: Outside, move: FloatArray, half_lives: tuple[float, ...]) -> Self:
        """Weighted ridge in every direction by itself, averaged over the half-lives of the days' weights.

        Parameters
        ----------
        known : Outside
            Of n days.
        move : ndarray, shape (n, r)
            Of the day after each.
        half_lives : tuple of float
            In days; infinity weighs all days equally.
        """
        x = known.level - known.slow
        bounds = np.stack([x.min(axis=1), x.max(axis=1)])
        width = x.std(axis=1)
        # A direction that never moves has no width and expects nothing.
        width = np.where(width > 1e-12, width, 1.0)
        x = x / width[:, None]
        age = np.arange(move.shape[0] - 1, -1, -1.0)
        coef = np.zeros_like(width)
        for half_life in half_lives:
            xw = x * (0.5 ** (age / half_life))[:, None]
            gram = np.einsum("inr,jnr->rij", xw, x) + _PRIOR_DAYS * np.eye(len(REST_HALF_LIVES))
            right = np.einsum("inr,nr->ri", xw, move)
            coef += np.linalg.solve(gram, right[..., None])[..., 0].T / len(half_lives)
        return cls(coef / width, bounds)

    def expected(self, known: Outside) -> FloatArray:
        """Expected move of the day after: (n, r)."""
        low, high = self.reversion_range[:, :, None]
        distance = np.clip(known.level - known.slow, low, high)
        return np.asarray(np.einsum("inr,ir->nr", distance, self.reversion_coef))

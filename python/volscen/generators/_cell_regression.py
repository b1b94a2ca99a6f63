"""Regressions of every cell's log vol on its own past: today, the means of 5 and 22 days (Corsi 2009)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["MONTH", "WEEK", "CellRegression"]

FloatArray = npt.NDArray[np.float64]

WEEK, MONTH = 5, 22
#: Outcomes that a regression needs; with fewer it foresees no change.
_FEWEST = 50
#: Columns of (one, today, week, month) that a kind uses.
_USED = {"har": (0, 1, 2, 3), "mean_reversion": (0, 1), "no_change": ()}


@dataclass(frozen=True)
class CellRegression:
    """Changes of each cell's log vol over some horizons, by direct regressions.

    Attributes
    ----------
    coefficients : ndarray, shape (horizon, cells, 4)
        Of one, today's log vol and its means over a week and a month.
    """

    coefficients: FloatArray

    @classmethod
    def fit(
        cls, logs: FloatArray, rows: npt.NDArray[np.intp], horizons: tuple[int, ...], kind: str = "har",
        seen: npt.NDArray[np.bool_] | None = None,
    ) -> CellRegression:  # fmt: skip
        """Fit on the days ``rows`` whose outcome is one of them or comes no later than the last, and was seen."""
        out = np.zeros((len(horizons), logs.shape[1], 4))
        used = _USED[kind]
        x = cls.inputs(logs, rows)[..., used]
        for i, h in enumerate(horizons if used else ()):
            whole = rows + h <= rows[-1]
            if seen is not None:
                whole &= seen[np.minimum(rows + h, len(logs) - 1)]
            if whole.sum() < _FEWEST:
                continue
            change = logs[rows[whole] + h] - logs[rows[whole]]
            for cell in range(logs.shape[1]):
                out[i, cell, used] = np.linalg.lstsq(x[whole, cell], change[:, cell])[0]
        return cls(out)

    @staticmethod
    def inputs(logs: FloatArray, rows: npt.NDArray[np.intp]) -> FloatArray:
        """Regressors (n, cells, 4) of days with at least 21 before them."""
        sums = np.concatenate([np.zeros((1, logs.shape[1])), np.cumsum(logs, axis=0)])
        week, month = ((sums[rows + 1] - sums[rows + 1 - n]) / n for n in (WEEK, MONTH))
        return np.stack([np.ones_like(week), logs[rows], week, month], axis=-1)

    def change(self, inputs: FloatArray) -> FloatArray:
        """Changes (n, horizon, cells) from regressors (n, cells, 4)."""
        return np.asarray(np.einsum("nck,hck->nhc", inputs, self.coefficients))

    def next_change(self, logs: FloatArray) -> FloatArray:
        """Change (n, cells) over the first horizon, of paths that end in log surfaces (n, at least 22 days, cells)."""
        now, week, month = logs[:, -1], logs[:, -WEEK:].mean(axis=1), logs[:, -MONTH:].mean(axis=1)
        a, b, c, d = np.moveaxis(self.coefficients[0], 1, 0)
        return np.asarray(a + b * now + c * week + d * month)

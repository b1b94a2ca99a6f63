"""Scale of the moves of latents and the return, log-linear in past moves; what a network's word is worth.

Shared by the generators that draw past residuals in a latent space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from volscen.generators._factor_fit import fit_log_scale

__all__ = ["FILTER", "HALF_LIVES", "N_OWN", "N_SHARED", "MoveScale", "borne_out", "filter_weights", "filtered"]

FloatArray = npt.NDArray[np.float64]

#: Days of squared moves that the scale of the next one looks back on.
FILTER = 63
HALF_LIVES = (5.0, 20.0)
N_OWN, N_SHARED = 2, 4
_FLOOR = 1e-4


@dataclass(frozen=True)
class MoveScale:
    """Standard deviation of every move given averages of past squared moves and the level; return first.

    Moves are in units of their standard deviation. Inputs and result stay in the range of the days fitted on.
    """

    own_mean: FloatArray
    own_sd: FloatArray
    own_low: FloatArray
    own_high: FloatArray
    shared_mean: FloatArray
    shared_sd: FloatArray
    shared_low: FloatArray
    shared_high: FloatArray
    scale_coef: FloatArray
    log_scale_low: FloatArray
    log_scale_high: FloatArray

    @staticmethod
    def neutral(n: int) -> dict[str, FloatArray]:
        """Fields of a scale of one for n moves, which stays so until fitted."""
        return {
            "own_mean": np.zeros((N_OWN, n)), "own_sd": np.ones((N_OWN, n)), "own_low": np.zeros((N_OWN, n)),
            "own_high": np.zeros((N_OWN, n)), "shared_mean": np.zeros(N_SHARED), "shared_sd": np.ones(N_SHARED),
            "shared_low": np.zeros(N_SHARED), "shared_high": np.zeros(N_SHARED),
            "scale_coef": np.zeros((1 + N_OWN + N_SHARED, n)), "log_scale_low": np.zeros(n),
            "log_scale_high": np.zeros(n),
        }  # fmt: skip

    @staticmethod
    def scale_shapes(n: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the fields for n moves."""
        return {name: array.shape for name, array in MoveScale.neutral(n).items()}

    def with_scale(self, moves: FloatArray, mean: FloatArray, own: FloatArray, shared: FloatArray, kind: str) -> Self:
        """Fit the scale of every move around its mean; a row each day, features known the day before."""
        out = replace(
            self,
            own_mean=own.mean(axis=0), own_sd=np.maximum(own.std(axis=0), 1e-8),
            own_low=own.min(axis=0), own_high=own.max(axis=0),
            shared_mean=shared.mean(axis=0), shared_sd=np.maximum(shared.std(axis=0), 1e-8),
            shared_low=shared.min(axis=0), shared_high=shared.max(axis=0),
        )  # fmt: skip
        design = out._design(own, shared)
        error = moves - mean
        coefficients = np.zeros_like(self.scale_coef)
        for j in range(moves.shape[1]):
            if kind == "fitted":
                coefficients[:, j] = fit_log_scale(design[:, :, j], error[:, j])
            elif kind == "ewma":  # the average with the longer half-life itself
                coefficients[0, j], coefficients[2, j] = out.own_mean[1, j], out.own_sd[1, j]
        log_scale = np.einsum("tfj,fj->tj", design, coefficients)
        return replace(
            out, scale_coef=coefficients, log_scale_low=log_scale.min(axis=0), log_scale_high=log_scale.max(axis=0)
        )

    def scale(self, own: FloatArray, shared: FloatArray) -> FloatArray:
        """Standard deviations of the moves; inputs and result stay in the range of the training days."""
        log_scale = np.einsum("tfj,fj->tj", self._design(own, shared), self.scale_coef)
        return np.asarray(np.exp(np.clip(log_scale, self.log_scale_low, self.log_scale_high)))

    @staticmethod
    def features(variance: FloatArray, level: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Inputs of the scale, of each move and shared, from average squares (n, 2, moves) and mean log vols (n,)."""
        own = 0.5 * np.log(np.maximum(variance, _FLOOR))
        together = 0.5 * np.log(np.maximum(variance[:, -1, 1:].mean(axis=1), _FLOOR))
        return own, np.column_stack([own[:, 0, 0], own[:, 1, 0], together, level])

    def _design(self, own: FloatArray, shared: FloatArray) -> FloatArray:
        """(n, features, moves): one, the move's own averages, those shared by all."""
        own = (np.clip(own, self.own_low, self.own_high) - self.own_mean) / self.own_sd
        shared = (np.clip(shared, self.shared_low, self.shared_high) - self.shared_mean) / self.shared_sd
        n, _, m = own.shape
        spread = np.broadcast_to(shared[:, :, None], (n, N_SHARED, m))
        return np.concatenate([np.ones((n, 1, m)), own, spread], axis=1)


def filter_weights(half_life: float) -> FloatArray:
    """Weights of the last ``FILTER`` squared moves, oldest first."""
    weight = 0.5 ** (np.arange(FILTER)[::-1] / half_life)
    return np.asarray(weight / weight.sum())


def filtered(moves: FloatArray) -> FloatArray:
    """Average squares (T - FILTER, 2, moves) known the day before each move from the one after the filter's days."""
    squares = np.lib.stride_tricks.sliding_window_view(moves[:-1] ** 2, FILTER, axis=0)
    return np.stack([squares @ filter_weights(h) for h in HALF_LIVES], axis=1)


def borne_out(said: npt.NDArray[Any], came: npt.NDArray[Any]) -> float:
    """Share of what a network said to believe: its slope in a regression of what came on it, less the slope's error.

    The positive part of James and Stein: a slope b with standard error e counts as b (1 - e^2 / b^2), within [0, 1].
    """
    size, agreement = np.sum(said**2, axis=1), np.sum(said * came, axis=1)
    total = float(size.sum())
    if total <= 0 or agreement.sum() <= 0:
        return 0.0
    slope = float(agreement.sum()) / total
    error = math.sqrt(float(np.sum((agreement - slope * size) ** 2))) / total
    return min(slope, 1.0) * max(0.0, 1 - (error / slope) ** 2)

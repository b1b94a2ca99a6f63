"""The law of one step in the world model's latent space: mean reversion, the network, fitted scales, past residuals."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen.errors import FitError
from volscen.generators._move_scale import FILTER, HALF_LIVES, MoveScale, filter_weights, filtered
from volscen.generators._stillness import STILL
from volscen.generators._world_numpy import Recurrence

__all__ = ["FILTER", "LatentLaw", "Path", "Series"]

FloatArray = npt.NDArray[np.float64]

# The slowest mean reversion of a latent, a day: without any a shocked path would never come back.
_SLOWEST = 1e-3


@dataclass(frozen=True)
class Series:
    """A history as the law sees it.

    Attributes
    ----------
    latent, latent_sd : ndarray, shape (T, L)
        Posterior means and standard deviations.
    log_return : ndarray, shape (T,)
        Annualised, sqrt(P) r; the first may be anything.
    level : ndarray, shape (T,)
        Mean log vol.
    rest : ndarray, shape (T, cells)
        Log surface less the decoded one.
    """

    latent: FloatArray
    latent_sd: FloatArray
    log_return: FloatArray
    level: FloatArray
    rest: FloatArray


@dataclass
class Path:
    """State of n paths."""

    window: FloatArray  # (n, window, 1 + L): inputs of the network, oldest first
    latent: FloatArray  # (n, L)
    variance: FloatArray  # (n, 2, 1 + L): of the moves in units of their standard deviation, by half-life
    level: FloatArray  # (n,)
    rest: FloatArray  # (n, cells)


@dataclass(frozen=True)
class LatentLaw(MoveScale):
    """Next move of the return and the latents, and next remainder, given the past.

    Moves are in units of their standard deviation over the training days (``move_sd``), return first.
    """

    latent_mean: FloatArray
    latent_sd: FloatArray
    input_low: FloatArray
    input_high: FloatArray
    move_sd: FloatArray
    reversion: FloatArray
    shrink: FloatArray
    rest_mean: FloatArray
    rest_memory: FloatArray
    residual: FloatArray
    rest_shock: FloatArray

    # ------------------------------------------------------------------------------------------ fitting
    @classmethod
    def begin(cls, series: Series, n_train: int) -> LatentLaw:
        """Units, ranges and mean reversion, from the first ``n_train`` days; scales and residuals are still to fit."""
        z = series.latent[:n_train]
        mean, sd = z.mean(axis=0), z.std(axis=0)
        moves = np.column_stack([series.log_return[1:n_train], np.diff(z, axis=0)])
        move_sd = moves.std(axis=0)
        if np.any(move_sd <= STILL):
            raise FitError("the return or a latent never moves in the training days; train longer or use fewer latents")
        x = z[:-1] - mean
        slope = -np.sum(x * np.diff(z, axis=0), axis=0) / np.sum(x**2, axis=0)
        inputs = np.column_stack([series.log_return[1:n_train] / move_sd[0], (z[1:] - mean) / sd])
        u = series.rest[:n_train]
        rest_mean = u.mean(axis=0)
        d = u - rest_mean
        memory = np.sum(d[1:] * d[:-1], axis=0) / np.maximum(np.sum(d[:-1] ** 2, axis=0), 1e-300)
        n, nothing = len(move_sd), np.zeros(0)
        return cls(
            latent_mean=mean, latent_sd=sd, input_low=inputs.min(axis=0), input_high=inputs.max(axis=0),
            move_sd=move_sd, reversion=np.clip(slope, _SLOWEST, 1.0), shrink=np.ones(2),
            rest_mean=rest_mean, rest_memory=np.clip(memory, 0.0, 1.0), residual=nothing, rest_shock=nothing,
            **MoveScale.neutral(n),
        )  # fmt: skip

    def examples(self, series: Series, window: int, direct: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Windows, the network's targets and the posterior's spread of the inputs: rows for days ``window`` + 1 on."""
        inputs, spread = self._inputs(series)
        moves = self._moves(series)
        windows = np.lib.stride_tricks.sliding_window_view(inputs[:-1], window, axis=0).transpose(0, 2, 1)
        spreads = np.lib.stride_tricks.sliding_window_view(spread[:-1], window, axis=0).transpose(0, 2, 1)
        start = window  # the last day of the first window: inputs begin on the second date
        target = inputs[window:].copy() if direct else moves[window:] - self.drift(series.latent[start:-1])
        return windows.copy(), target, spreads.copy()

    def fit_scales(self, moves: FloatArray, mean: FloatArray, series: Series, kind: str) -> LatentLaw:
        """Fit the scale of every move around its mean; rows are the last ``len(moves)`` dates of the series."""
        own, shared = self._scale_features(series)
        return self.with_scale(moves, mean, own[-len(moves) :], shared[-len(moves) :], kind)

    def pooled(self, moves: FloatArray, mean: FloatArray, series: Series, days: int) -> LatentLaw:
        """Renew the pool of standardised residuals and of shocks to the remainder with the last days."""
        n = len(moves)
        own, shared = self._scale_features(series)
        scale = self.scale(own[-n:], shared[-n:])
        deviation = series.rest - self.rest_mean
        shock = deviation[1:] - self.rest_memory * deviation[:-1]
        # Half the size on disk; the rounding is far below sampling noise.
        return replace(
            self,
            residual=((moves - mean) / scale)[-days:],
            rest_shock=shock[-n:][-days:].astype(np.float32),
        )

    def known_moves(
        self, series: Series, network: Recurrence | None, window: int, direct: bool
    ) -> tuple[FloatArray, FloatArray]:
        """Moves and their means on all dates after the filter's days."""
        start = max(FILTER, window)
        windows = self.examples(series, window, direct)[0][start - window :]
        mean = self.mean(windows, series.latent[start:-1], network, direct)
        return self._moves(series)[start:], mean

    # ----------------------------------------------------------------------------------------- the law
    def drift(self, latent: FloatArray) -> FloatArray:
        """Mean reversion of each latent by itself, in units of moves; none of the return."""
        back = -self.reversion * (latent - self.latent_mean) / self.move_sd[1:]
        return np.concatenate([np.zeros((*latent.shape[:-1], 1)), back], axis=-1)

    def mean(self, window: FloatArray, latent: FloatArray, network: Recurrence | None, direct: bool) -> FloatArray:
        """Mean move: what the network says of the window, besides mean reversion unless ``direct``."""
        if network is None:
            return self.drift(latent)
        found = network(window)
        shrink = np.r_[self.shrink[0], np.full(found.shape[1] - 1, self.shrink[1])]
        if direct:
            target = self.latent_mean + self.latent_sd * found[:, 1:]
            return np.column_stack([found[:, 0], (target - latent) / self.move_sd[1:]])
        return np.asarray(self.drift(latent) + shrink * found)

    def start(self, series: Series, n: int, window: int) -> Path:
        """State of n paths at the end of a series."""
        inputs, _ = self._inputs(series)
        moves = self._moves(series)
        own = np.stack([filter_weights(h) @ moves[-FILTER:] ** 2 for h in HALF_LIVES])
        return Path(
            *(
                np.repeat(a[None], n, axis=0)
                for a in (inputs[-window:], series.latent[-1], own, series.level[-1], series.rest[-1])
            )
        )

    def blur(self, path: Path, series: Series, rng: np.random.Generator) -> FloatArray:
        """Windows with the posterior's noise: each path believes in other latents of the past days."""
        window = path.window.shape[1]
        spread = self._inputs(series)[1][-window:]
        return path.window + spread * rng.standard_normal(path.window.shape)

    def step(
        self,
        path: Path,
        window: FloatArray,
        network: Recurrence | None,
        rng: np.random.Generator | None,
        direct: bool,
    ) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Draw the next moves; ``rng=None`` takes their mean. Returns annualised returns and the days drawn (-1: none).

        Latents and variances of the path move on; window and remainder follow with :meth:`arrive`.
        """
        mean = self.mean(window, path.latent, network, direct)
        n = len(mean)
        if rng is None:
            day = np.full(n, -1)
            move = mean
        else:
            own, shared = self.features(path.variance, path.level)
            day = rng.integers(len(self.residual), size=n)
            move = mean + self.scale(own, shared) * self.residual[day]
        path.latent = path.latent + self.move_sd[1:] * move[:, 1:]
        keep = np.array([0.5 ** (1 / h) for h in HALF_LIVES])[None, :, None]
        path.variance = keep * path.variance + (1 - keep) * move[:, None] ** 2
        return self.move_sd[0] * move[:, 0], day

    def arrive(self, path: Path, window: FloatArray, log_return: FloatArray, day: npt.NDArray[np.int64]) -> FloatArray:
        """Move the remainders on and return the next windows."""
        rest = self.rest_mean + self.rest_memory * (path.rest - self.rest_mean)
        path.rest = rest + np.where(day[:, None] >= 0, self.rest_shock[day], 0.0)
        newest = np.column_stack([log_return / self.move_sd[0], (path.latent - self.latent_mean) / self.latent_sd])
        newest = np.clip(newest, self.input_low, self.input_high)
        return np.concatenate([window[:, 1:], newest[:, None]], axis=1)

    def is_outside(self, series: Series) -> bool:
        """Whether a latent or an input of the scales at the end of a series lies outside the training days' range."""
        raw = (series.latent[-1] - self.latent_mean) / self.latent_sd
        slack = 1e-6 * (1 + np.abs(raw))  # rasters are encoded in float32
        low, high = self.input_low[1:] - slack, self.input_high[1:] + slack
        path = self.start(series, 1, 1)
        own, shared = self.features(path.variance, path.level)
        outside = np.any((raw < low) | (raw > high))
        outside |= np.any(own[0] > self.own_high + 1e-6) or np.any(shared[0] > self.shared_high + 1e-6)
        return bool(outside)

    # ---------------------------------------------------------------------------------------- the parts
    def _inputs(self, series: Series) -> tuple[FloatArray, FloatArray]:
        """Inputs of the network on every date but the first, and the posterior's spread of them."""
        latent = (series.latent[1:] - self.latent_mean) / self.latent_sd
        raw = np.column_stack([series.log_return[1:] / self.move_sd[0], latent])
        spread = np.column_stack([np.zeros(len(raw)), series.latent_sd[1:] / self.latent_sd])
        return np.clip(raw, self.input_low, self.input_high), spread

    def _moves(self, series: Series) -> FloatArray:
        return np.column_stack([series.log_return[1:], np.diff(series.latent, axis=0)]) / self.move_sd

    def _scale_features(self, series: Series) -> tuple[FloatArray, FloatArray]:
        """Features of the scale known on the day before each date from ``FILTER`` + 1 on."""
        return self.features(filtered(self._moves(series)), series.level[FILTER:-1])

    # ------------------------------------------------------------------------------------------- keeping
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything fitted."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def restore(cls, arrays: dict[str, npt.NDArray[Any]], n_latents: int, n_cells: int) -> LatentLaw:
        """Rebuild from :meth:`arrays`; a wrong shape raises ValueError."""
        m, days = n_latents + 1, len(arrays["residual"])
        shapes: dict[str, tuple[int, ...]] = {
            **dict.fromkeys(("latent_mean", "latent_sd", "reversion"), (n_latents,)),
            **dict.fromkeys(("input_low", "input_high", "move_sd"), (m,)),
            **MoveScale.scale_shapes(m),
            **dict.fromkeys(("rest_mean", "rest_memory"), (n_cells,)),
            "shrink": (2,), "residual": (days, m),
            "rest_shock": (days, n_cells),
        }  # fmt: skip
        for name, shape in shapes.items():
            if arrays[name].shape != shape or arrays[name].dtype.kind != "f" or days == 0:
                raise ValueError(f"array {name} of shape {arrays[name].shape} does not fit the grid and parameters")
        return cls(**{name: arrays[name] for name in shapes})

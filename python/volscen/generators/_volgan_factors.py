"""What the improved VolGAN sees: factors of the move, each divided by its recent scale, given standardised levels.

The published network speaks of every cell in raw units. On a real surface the cells move along a handful of
directions, so that its discriminator looks at noise and the small directions collapse. Here the network speaks of
the return and of the leading principal components, all of one size; what they leave out is drawn from the past.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.errors import InputError
from volscen.generators._volgan_data import WINDOW, TrainingData, condition, moving_scale, n_training
from volscen.history import State

__all__ = ["FILTER_WINDOW", "Factors", "Moves"]

FloatArray = npt.NDArray[np.float64]

#: Decay of the exponentially weighted variances (RiskMetrics' for daily data).
_DECAY = 0.94

#: Days that a starting state's variances are filtered over; what is left of their beginning is 4e-4.
FILTER_WINDOW = 126

#: First days of a history, whose filtered variances still lean on where the filter began.
_BURN_IN = 60

#: Largest number of days kept of what the factors leave out.
_REST_DAYS = 1000

#: Realised volatilities below this share of the sample's are taken for it, so that their logarithm is finite.
_LEAST_VOL = 0.01


@dataclass(frozen=True)
class Moves:
    """Moves of a history in factors, and what is known before each: one row a day.

    Attributes
    ----------
    day : ndarray of int, shape (n,)
        Row of the history.
    factor : ndarray, shape (n, 1 + k)
        Return and component scores, each divided by its standard deviation.
    scale : ndarray, shape (n, 1 + k)
        Their scale the evening before, clipped to the range fitted on.
    condition : ndarray, shape (n, n_condition)
        Raw: neither standardised nor clipped.
    rest : ndarray, shape (n, cells)
        What the components leave out of the cells' standardised moves.
    """

    day: npt.NDArray[np.int64]
    factor: FloatArray
    scale: FloatArray
    condition: FloatArray
    rest: FloatArray


@dataclass(frozen=True)
class Factors:
    """Coordinates of the improved network, fitted on the training days.

    Attributes
    ----------
    annualise : ndarray, shape (1,)
        Root of the number of periods a year.
    cell_mean, cell_sd : ndarray, shape (cells,)
        Mean log vol, and standard deviation of its increments.
    components : ndarray, shape (cells, k)
        Principal axes of the standardised increments.
    factor_sd : ndarray, shape (1 + k,)
        Standard deviation of the annualised return and of the scores.
    log_scale_range : ndarray, shape (2, 1 + k)
    condition_mean, condition_sd : ndarray, shape (n_condition,)
    condition_range : ndarray, shape (2, n_condition)
        Of the standardised condition.
    rest : ndarray, shape (days, cells)
        Pool of what the components leave out.
    """

    annualise: FloatArray
    cell_mean: FloatArray
    cell_sd: FloatArray
    components: FloatArray
    factor_sd: FloatArray
    log_scale_range: FloatArray
    condition_mean: FloatArray
    condition_sd: FloatArray
    condition_range: FloatArray
    rest: FloatArray

    # --------------------------------------------------------------------------------------------- fitting
    @classmethod
    def fit(
        cls, history: xr.Dataset, n_components: int, validation_days: int | float, n_min: int
    ) -> tuple[Self, TrainingData]:
        """Fit the coordinates on the training days and lay out what the networks train on.

        Raises
        ------
        InputError
            If too few training days remain, the return or a cell never moves over them, or there are fewer cells
            than ``n_components``.
        """
        log_return, log_iv = _series(history)
        n = n_training(len(log_return) - 1 - _BURN_IN, validation_days, n_min)
        last = _BURN_IN + n  # training moves lead into days 1 .. last
        annual = float(np.sqrt(history.attrs["periods_per_year"]))
        moves = np.column_stack([annual * log_return[1:], np.diff(log_iv, axis=0)])
        scale = moving_scale(moves[:last])
        cell_sd = scale[1:]
        standard = moves[:last, 1:] / cell_sd
        if n_components > cell_sd.size:
            raise InputError(
                f"n_components {n_components} is more than the {cell_sd.size} cells of the grid; pass at most "
                f"n_components={cell_sd.size}"
            )
        k = n_components
        _, axes = np.linalg.eigh(np.cov(standard.T).reshape(cell_sd.size, -1))
        components = axes[:, ::-1][:, :k]
        components = components * np.sign(components.sum(axis=0))  # an axis has no sign of its own: fix one
        factor_sd = np.r_[scale[0], (standard @ components).std(axis=0)]
        wide = np.array([[-np.inf], [np.inf]])
        draft = cls(
            np.array([annual]), log_iv[:last].mean(axis=0), cell_sd, components, factor_sd,
            wide * np.ones(1 + k), np.zeros(0), np.zeros(0), np.zeros((2, 0)), np.zeros((0, cell_sd.size)),
        )  # fmt: skip
        rows = draft.moves(history)
        known = rows.condition
        mean, sd = known[:n].mean(axis=0), known[:n].std(axis=0)
        sd = np.where(sd > 0, sd, 1.0)
        standardised = (known[:n] - mean) / sd
        log_scale = np.log(rows.scale[:n])
        fitted = cls(
            draft.annualise, draft.cell_mean, cell_sd, components, factor_sd,
            np.stack([log_scale.min(axis=0), log_scale.max(axis=0)]), mean, sd,
            np.stack([standardised.min(axis=0), standardised.max(axis=0)]), rows.rest[:n][-_REST_DAYS:],
        )  # fmt: skip
        rows = fitted.moves(history)
        inputs, _ = fitted.standardised(rows.condition)
        to_cells = np.zeros((1 + k, 1 + cell_sd.size))
        to_cells[0, 0] = 1.0
        to_cells[1:, 1:] = factor_sd[1:, None] * components.T
        return fitted, TrainingData(
            target=(rows.factor / rows.scale)[:n],
            condition=inputs[:n],
            validation_condition=inputs[n:],
            outcome=(moves / scale)[_BURN_IN:][n:],
            validation_scale=rows.scale[n:] if len(rows.scale) > n else np.ones((1, 1 + k)),
            along_moneyness=np.zeros((0, k)),
            along_tau=np.zeros((0, k)),
            components=to_cells,
            rest=np.column_stack([np.zeros(n), rows.rest[:n]]),
        )

    def refreshed(self, history: xr.Dataset) -> Self:
        """Return the same coordinates with the pool of what they leave out taken from a history's last days."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return type(self)(**(values | {"rest": self.moves(history).rest[-_REST_DAYS:]}))

    # --------------------------------------------------------------------------------------------- the data
    def moves(self, history: xr.Dataset) -> Moves:
        """Express every day of a history, after the first ones, in factors."""
        log_return, log_iv = _series(history)
        factor, rest = self._factors(log_return[1:], np.diff(log_iv, axis=0))
        variance = _filter(factor)[:-1]  # the last one is of the day after the history
        scale = self._scale(variance)
        windows = np.lib.stride_tricks.sliding_window_view(log_return[1:], WINDOW)
        day = np.arange(_BURN_IN + 1, len(log_return))
        known = self.raw_condition(windows[day - 1 - WINDOW], log_iv[day - 1], scale[day - 1])
        return Moves(day, factor[day - 1], scale[day - 1], known, rest[day - 1])

    def _factors(self, log_return: FloatArray, increment: FloatArray) -> tuple[FloatArray, FloatArray]:
        standard = increment / self.cell_sd
        scores = standard @ self.components
        factor = np.column_stack([self.annualise * log_return, scores]) / self.factor_sd
        return factor, standard - scores @ self.components.T

    def _scale(self, variance: FloatArray) -> FloatArray:
        low, high = self.log_scale_range
        return np.asarray(np.exp(np.clip(0.5 * np.log(variance), low, high)))

    def raw_condition(self, log_return: FloatArray, log_iv: FloatArray, scale: FloatArray) -> FloatArray:
        """Last two returns, log realised volatility, level scores and log scales.

        Parameters
        ----------
        log_return : ndarray, shape (n, 21)
        log_iv : ndarray, shape (n, cells)
        scale : ndarray, shape (n, 1 + k)

        Returns
        -------
        ndarray, shape (n, 4 + 2 k)
        """
        level = (log_iv - self.cell_mean) / self.cell_sd @ self.components
        known = condition(log_return, level, float(self.annualise[0] ** 2))
        known[:, 2] = np.log(np.maximum(known[:, 2], _LEAST_VOL * self.factor_sd[0]))
        return np.column_stack([known, np.log(scale)])

    def standardised(self, known: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Standardise conditions and clip them to the training days'; tell which rows were clipped."""
        x = (known - self.condition_mean) / self.condition_sd
        low, high = self.condition_range
        slack = 1e-9 * (1 + np.abs(x))  # the order of a sum may differ from that in training
        outside = ((x < low - slack) | (x > high + slack)).any(axis=1)
        return np.clip(x, low, high), outside

    # --------------------------------------------------------------------------------------------- sampling
    def paths(
        self,
        state: State,
        n: int,
        horizon: int,
        rng: np.random.Generator,
        network: Callable[[FloatArray], FloatArray],
    ) -> tuple[FloatArray, FloatArray]:
        """Draw n paths from a state, the variances carried along each.

        Parameters
        ----------
        network : callable
            Takes standardised conditions (1 or n, n_condition) to n draws of (1 + k) scaled factors.

        Returns
        -------
        log_return : ndarray, shape (n, horizon)
        log_iv : ndarray, shape (n, horizon, cells)
        """
        log_return = np.empty((n, horizon))
        log_iv = np.empty((n, horizon, self.cell_sd.size))
        returns, level, variance = self._start(state)  # one row, which all paths share at the first step
        for step in range(horizon):
            scale = self._scale(variance)
            known, _ = self.standardised(self.raw_condition(returns, level, scale))
            factor = scale * network(known)
            rest = self.rest[rng.integers(len(self.rest), size=n)]
            move = factor * self.factor_sd
            log_return[:, step] = move[:, 0] / self.annualise
            log_iv[:, step] = level + self.cell_sd * (move[:, 1:] @ self.components.T + rest)
            past = np.broadcast_to(returns[:, 1:], (n, WINDOW - 1))
            returns = np.concatenate([past, log_return[:, step, None]], axis=1)
            level = log_iv[:, step]
            variance = _DECAY * variance + (1 - _DECAY) * factor**2
        return log_return, log_iv

    def _start(self, state: State) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Last 21 returns, last log surface and variances of a state, one row each."""
        log_iv = state.log_iv[-(FILTER_WINDOW + 1) :].reshape(FILTER_WINDOW + 1, -1)
        factor, _ = self._factors(state.log_return[-FILTER_WINDOW:], np.diff(log_iv, axis=0))
        return state.log_return[None, -WINDOW:], log_iv[-1:], _filter(factor)[-1:]

    def is_outside(self, state: State) -> bool:
        """Whether anything known at a state lies outside the training days and is clipped."""
        returns, level, variance = self._start(state)
        log_scale = 0.5 * np.log(variance)
        low, high = self.log_scale_range
        _, outside = self.standardised(self.raw_condition(returns, level, np.exp(log_scale)))
        return bool(outside[0] or np.any((log_scale < low - 1e-3) | (log_scale > high + 1e-3)))

    # --------------------------------------------------------------------------------------------- keeping
    def arrays(self) -> dict[str, FloatArray]:
        """Everything fitted."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def restore(cls, arrays: Mapping[str, npt.NDArray[Any]], cells: int) -> Self:
        """Rebuild from arrays; ValueError where their shapes do not fit."""
        k = arrays["components"].shape[-1]
        n_known = 4 + 2 * k
        shapes: dict[str, tuple[int, ...]] = {
            "annualise": (1,),
            "cell_mean": (cells,),
            "cell_sd": (cells,),
            "components": (cells, k),
            "factor_sd": (1 + k,),
            "log_scale_range": (2, 1 + k),
            "condition_mean": (n_known,),
            "condition_sd": (n_known,),
            "condition_range": (2, n_known),
            "rest": (len(arrays["rest"]), cells),
        }
        for name, shape in shapes.items():
            if arrays[name].shape != shape or arrays[name].dtype.kind != "f" or 0 in shape:
                raise ValueError(f"factors.{name} must be of shape {shape}, not {arrays[name].shape}")
        return cls(**{name: arrays[name] for name in shapes})


def _series(history: xr.Dataset) -> tuple[FloatArray, FloatArray]:
    log_return = history["log_return"].values.astype(np.float64)
    return log_return, np.log(history["implied_vol"].values.astype(np.float64)).reshape(log_return.size, -1)


def _filter(factor: FloatArray) -> FloatArray:
    """Variance of each row given the rows before, one row more than ``factor``, beginning at 1."""
    from scipy.signal import lfilter  # here: it brings scipy.stats, which workers that draw can do without

    news = (1 - _DECAY) * factor**2
    start = np.full((1, factor.shape[1]), _DECAY)
    filtered, _ = lfilter([1.0], [1.0, -_DECAY], news, axis=0, zi=start)
    return np.vstack([np.ones((1, factor.shape[1])), filtered])

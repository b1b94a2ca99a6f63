"""What the residual network needs of the statistical model under it: laws of the past, and steps along paths.

Adding a base means adding a class here and a line to :data:`BASES`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._sessions import sessions
from volscen._threads import single_threaded_blas
from volscen.generators import _har, _pca
from volscen.generators._factor_fit import fit_mean_and_scale
from volscen.generators._factor_paths import windows
from volscen.generators._har_adapt import ERROR_CUT, SHORT, choose, rescale
from volscen.generators._har_calendar import calendar_features
from volscen.generators._har_fit import Law, join
from volscen.history import State

__all__ = ["BASES", "Base", "Days", "HarBase", "Past", "PcaBase", "Step"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Days:
    """Consecutive days of a history in the base's factors, oldest first.

    Attributes
    ----------
    level : ndarray, shape (n, k)
        Level scores the evening before.
    last : ndarray, shape (n, f)
        Standardised factors of the evening before.
    factor : ndarray, shape (n, f)
        Standardised factors of the day itself.
    rest : ndarray, shape (n,)
        Length of what the factors leave out of its standardised increments.
    inputs : tuple
        What the base fits its law on.
    surface : ndarray, shape (n, cells)
        Log vols the evening before, with what is expected of them outside the factors.
    outside : ndarray, shape (n, cells)
        What the factors leave out, of length ``rest``.
    """

    level: FloatArray
    last: FloatArray
    factor: FloatArray
    rest: FloatArray
    inputs: tuple[Any, ...]
    surface: FloatArray
    outside: FloatArray


@dataclass(frozen=True)
class Past:
    """The law as it was after ``cut`` days, and what it said of those days and of the ones that followed.

    Attributes
    ----------
    cut : int
    mean, scale : ndarray, shape (n, f)
        Of every day's factors, given the evening before.
    error : ndarray, shape (n, f)
        (factor - mean) / scale.
    rest_scale : ndarray, shape (n,)
        Scale of what the factors leave out.
    inflation : float
        Size of errors out of sample over that in sample, for the days before ``cut``.
    """

    cut: int
    mean: FloatArray
    scale: FloatArray
    error: FloatArray
    rest_scale: FloatArray
    inflation: float


@dataclass(frozen=True)
class Step:
    """Law of the next step on n paths, or one row that all of them share.

    Attributes
    ----------
    mean, scale : ndarray, shape (n, f)
        Of the factors.
    level : ndarray, shape (n, k)
    last : ndarray, shape (n, f)
    carried : Any
        The base's own.
    """

    mean: FloatArray
    scale: FloatArray
    level: FloatArray
    last: FloatArray
    carried: Any


class Base(ABC):
    """A fitted statistical model seen as mean + scale * residual in standardised factors."""

    model: Any

    @abstractmethod
    def days(self, history: xr.Dataset) -> Days:
        """Express the days of a history in the model's factors."""

    @abstractmethod
    def past(self, days: Days, cut: int, stop: int) -> Past:
        """Refit the law, in the model's factors, to the first ``cut`` days; judge the days up to ``stop``."""

    @abstractmethod
    def start(self, state: State) -> Step:
        """Law of the first step from a state: one row."""

    @abstractmethod
    def move(self, step: Step, residual: FloatArray, rest: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray, Any]:
        """Take a step.

        Parameters
        ----------
        step : Step
        residual : ndarray, shape (n, f)
            Standardised.
        rest : ndarray, shape (n, cells)
            From the pool.

        Returns
        -------
        log_return : ndarray, shape (n,)
        implied_vol : ndarray, shape (n, cells)
        moved : Any
            For :meth:`after`.
        """

    @abstractmethod
    def after(self, moved: Any) -> Step:
        """Law of the step after one that was taken."""

    @property
    def pool(self) -> tuple[FloatArray, npt.NDArray[Any]]:
        """Standardised residuals (m, f) of past days, inflated, and the rest (m, cells) of the same days."""
        return self.model.residual_, self.model.rest_

    @property
    def decoder(self) -> tuple[FloatArray, FloatArray]:
        """What a unit of each standardised factor adds to the log vols (f, cells), and a unit of the rest (cells,)."""
        m = self.model
        loads = np.vstack([np.zeros(len(m.cell_sd_)), m.factor_sd_[1:, None] * m.components_.T * m.cell_sd_])
        return loads, m.cell_sd_

    @property
    def unit(self) -> FloatArray:
        """What a unit of each standardised factor moves: standard deviations of the return, and of all cells."""
        return np.append(1.0, self.model.factor_sd_[1:])


class HarBase(Base):
    """Robust HAR: the scale carries the adaptation to recent errors."""

    model: _har.RobustHAR

    def __init__(self, model: _har.RobustHAR) -> None:
        self.model = model

    def days(self, history: xr.Dataset) -> Days:
        model = self.model
        log_return, log_iv = _har._series(history)
        known, factor = model._pairs(log_return, log_iv)
        outside, move = model._outside_pairs(log_iv)
        dates = _har._dates(history)[-len(factor) - 1 : -1]
        calendar = calendar_features(dates, sessions(model.calendar_))
        expected = model.reversion_.expected(outside)
        surprise = move - expected
        surface = log_iv[-len(factor) - 1 : -1] + model.cell_sd_ * (expected @ model.outside_.T)
        return Days(
            known.level, known.factor, factor, _har._size(surprise), model._inputs(known, calendar), surface,
            surprise @ model.outside_.T,
        )  # fmt: skip

    def past(self, days: Days, cut: int, stop: int) -> Past:
        mean_raw, shared, own = (x[:stop] for x in days.inputs)
        y = days.factor[:stop]
        half_lives = tuple(np.inf if h is None else float(h) for h in self.model.half_lives)
        known = (mean_raw[:cut], shared[:cut], own[:cut])
        with single_threaded_blas():
            known, inflation = choose(known, y[:cut], sorted(half_lives)[len(half_lives) // 2])
            law = Law.fit(*known, y[:cut], half_lives)
        mean, scale = law.moments(mean_raw, join(shared, own))
        error = (y - mean) / scale
        whole = np.column_stack([error, days.rest[:stop] / self.model.rest_unit_])
        adaptation = rescale(whole, *self.model._adaptation)
        factors = adaptation[:, :-1]
        return Past(cut, mean, scale * factors, error / factors, adaptation[:, -1], inflation)

    def start(self, state: State) -> Step:
        return self._step(self.model._first_step(state), state.log_iv[-1].reshape(1, -1))

    @staticmethod
    def _step(law: _har._Step, surface: FloatArray) -> Step:
        scale = law.scale * law.adaptation[:, :-1]
        return Step(law.mean, scale, law.known.level, law.known.factor, (law, surface))

    def move(self, step: Step, residual: FloatArray, rest: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray, Any]:
        law, surface = step.carried
        m = self.model
        factor = step.mean + step.scale * residual
        rest = law.adaptation[:, -1:] * rest
        move = (factor[:, 1:] * m.factor_sd_[1:]) @ m.components_.T + rest + law.expected_rest
        surface = surface + m.cell_sd_ * move
        error = law.adaptation[:, :-1] * residual
        return factor[:, 0] * m.factor_sd_[0] / m.annualise_, np.exp(surface), (law, factor, error, rest, surface)

    def after(self, moved: Any) -> Step:
        law, factor, error, rest, surface = moved
        m = self.model
        known = law.known.after(m._level(surface), factor, surface.mean(axis=1))
        outside = law.outside.after((surface - m.cell_mean_) / m.cell_sd_ @ m.outside_)
        size = np.column_stack([np.abs(error), _har._size(rest) / m.rest_unit_])
        decay = 0.5 ** (1 / SHORT)
        short = decay * law.short + (1 - decay) * np.minimum(size, ERROR_CUT)
        return self._step(m._step(law.target, known, outside, short), surface)


class PcaBase(Base):
    """Scaled PCA-VAR."""

    model: _pca.ScaledPCA

    def __init__(self, model: _pca.ScaledPCA) -> None:
        self.model = model

    def days(self, history: xr.Dataset) -> Days:
        m = self.model
        series = m._history_series(history)
        raw = m._raw_features(*windows(series.log_return, series.coordinate))
        n, k = len(raw), m.n_components
        standard = np.diff(series.coordinate, axis=0)[-n:] / m.cell_sd_
        scores = standard @ m.components_
        factor = np.column_stack([m.annualise_ * series.log_return[-n:], scores]) / m.factor_sd_
        outside = standard - scores @ m.components_.T
        rest = np.linalg.norm(outside, axis=1)
        surface = series.coordinate[-n - 1 : -1]
        return Days(raw[:, :k], raw[:, k : 2 * k + 1] / m.factor_sd_, factor, rest, (raw,), surface, outside)

    def past(self, days: Days, cut: int, stop: int) -> Past:
        raw, y = days.inputs[0][:stop], days.factor[:stop]
        law = copy.copy(self.model)
        law.feature_mean_, law.feature_sd_ = raw[:cut].mean(axis=0), raw[:cut].std(axis=0)
        law.feature_low_, law.feature_high_ = raw[:cut].min(axis=0), raw[:cut].max(axis=0)
        mean_x, scale_x = law._features(raw)
        with single_threaded_blas():
            mean_coef, scale_coef = fit_mean_and_scale(mean_x[:cut], scale_x[:cut], y[:cut])
        log_scale = scale_x @ scale_coef
        mean, scale = (
            mean_x @ mean_coef,
            np.exp(np.clip(log_scale, log_scale[:cut].min(axis=0), log_scale[:cut].max(axis=0))),
        )
        # The model does not inflate its own pool; nor is this one.
        return Past(cut, mean, scale, (y - mean) / scale, np.ones(stop), 1.0)

    def start(self, state: State) -> Step:
        return self._step(self.model._start(state)[0])

    def _step(self, path: Any) -> Step:
        m, k = self.model, self.model.n_components
        mean, scale = m._moments(path.log_return, path.coordinate)
        raw = m._raw_features(path.log_return, path.coordinate)
        return Step(mean, scale, raw[:, :k], raw[:, k : 2 * k + 1] / m.factor_sd_, path)

    def move(self, step: Step, residual: FloatArray, rest: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray, Any]:
        moves = self.model._move(step.carried, residual, rest)
        return moves.log_return, moves.implied_vol, (step.carried, moves)

    def after(self, moved: Any) -> Step:
        return self._step(self.model._onwards(*moved))


#: Base models by their names in the registry.
BASES: dict[str, type[Any]] = {"har": HarBase, "pca": PcaBase}

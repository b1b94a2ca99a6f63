"""Robust HAR: means and scales heterogeneous-autoregressive in the state and the calendar, joint residuals.

Factors are the return and the first principal components of the log-vol increments. Each has a mean and a log
scale linear in averages over short, middle and long memories, and in the scheduled date of the next session;
the standardised residuals of one past day are drawn jointly, with what that day moved outside the components
beyond the expected reversal of noise.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._numbers import positive_number, whole_number
from volscen._sessions import Days, next_session, past_sessions, sessions
from volscen._threads import single_threaded_blas
from volscen.errors import FitError, InputError
from volscen.generators._base import FloatArray, Generator
from volscen.generators._har_adapt import (
    ERROR_CUT,
    ERROR_DAYS,
    LIMIT,
    LONG,
    POWER,
    REST_LIMIT,
    REST_POWER,
    SHORT,
    Inputs,
    adapt,
    choose,
    rescale,
)
from volscen.generators._har_calendar import N_CALENDAR, N_SCALE_CALENDAR, calendar_features
from volscen.generators._har_features import WINDOW, Known, average, mean_features, scale_features
from volscen.generators._har_fit import Law, join
from volscen.generators._har_paths import FirstDay, Walk
from volscen.generators._har_rest import Outside, Reversion
from volscen.generators._stillness import STILL
from volscen.history._history import State, check_daily

__all__ = ["RobustHAR"]

_BURN_IN = 60  # days at the start of the sample whose averages rest on too little
_N_MIN = WINDOW + ERROR_DAYS + 50
_VARIANCE_FLOOR = 1e-12
# What clipping must take from a mean, in scales, or from a log scale, for a state to count as outside.
_MATTERS = 0.1


@dataclass(frozen=True)
class _Step:
    """Law of one session, on one path or on n, and what it follows from."""

    known: Known
    outside: Outside
    short: FloatArray  # average of the errors
    target: Days
    mean: FloatArray
    scale: FloatArray
    adaptation: FloatArray  # of the scale, the remainder's last
    expected_rest: FloatArray


class RobustHAR(Generator):
    """Robust HAR of means and scales, on the scheduled calendar, with a joint residual bootstrap.

    Parameters
    ----------
    n_components : int
        Principal components of the log-vol increments that are modelled, at least 1; of the rest only the
        reversal of the day's noise is, and what that leaves is drawn from the same past day.
    residual_days : int
        Residuals are drawn from the last ``residual_days`` days fitted on or updated with.
    half_lives : sequence of float or None
        The model is fitted once for each, weighing a day by 0.5^(age in days / half-life), and the forecasts
        are averaged; None weighs all days equally.

    Notes
    -----
    The date of the next session comes from the exchange calendar of the history fitted on, as it was scheduled
    (attribute ``calendar``: a code of the package ``exchange_calendars``; "weekdays" and
    "unspecified" are Monday to Friday), never from the history's own later dates. Dates of past sessions are
    taken from the calendar too where only a state is known.

    The form follows the heterogeneous autoregression of Corsi (2009). See the page on generators for the inputs.

    References
    ----------
    Corsi, F. (2009). A simple approximate long-memory model of realized volatility. Journal of Financial
    Econometrics 7(2), 174-196.

    Examples
    --------
    >>> import volscen
    >>> model = volscen.fit(volscen.datasets.sample_history(), "har")
    >>> model.arrays()["residual"].shape
    (1000, 6)
    """

    name: ClassVar[str] = "har"
    _SCALES_DAYS: ClassVar[bool] = True
    n_returns: int = WINDOW + ERROR_DAYS
    n_surfaces: int = WINDOW + ERROR_DAYS + 1

    def __init__(
        self,
        n_components: int = 5,
        residual_days: int = 1000,
        half_lives: tuple[float | None, ...] | list[float | None] = (500, 1500, None),
    ) -> None:
        n_components = whole_number("n_components", n_components)
        residual_days = whole_number("residual_days", residual_days, least=50)
        if not isinstance(half_lives, (list, tuple)) or not half_lives:
            raise InputError(f"half_lives must be positive numbers of days, or None, not {half_lives!r}")
        self.n_components = n_components
        self.residual_days = residual_days
        for i, days in enumerate(half_lives):
            if days is not None:
                positive_number(f"half_lives[{i}]", days)
        self.half_lives = list(half_lives)
        self._kept: tuple[State, _Step] | None = None
        # Power and limit for every factor, and the remainder last.
        self._adaptation = (
            np.r_[np.full(n_components + 1, POWER), REST_POWER],
            np.r_[np.full(n_components + 1, LIMIT), REST_LIMIT],
        )

    # ------------------------------------------------------------------------------------------ fitting
    def fit(self, history: xr.Dataset) -> Self:
        """Fit components, means, scales, the inflation of residuals and the pool of them."""
        k, n_cells = self.n_components, history.sizes["tau"] * history.sizes["moneyness"]
        if k > n_cells:
            raise InputError(
                f"n_components is {k} but the grid has only {n_cells} cells; give fewer, such as n_components={n_cells}"
            )
        self._check_history(history, _N_MIN)
        calendar = sessions(schema.calendar_of(history))
        log_return, log_iv = _series(history)
        increment = np.diff(log_iv, axis=0)
        self.cell_mean_, self.cell_sd_ = log_iv.mean(axis=0), increment.std(axis=0)
        self.annualise_ = np.array(np.sqrt(float(history.attrs["periods_per_year"])))
        if np.any(self.cell_sd_ <= STILL) or log_return.std() <= STILL:
            raise FitError("history has a cell or return that never changes; HAR needs every series to vary")
        standard = increment / self.cell_sd_
        variance, vectors = np.linalg.eigh(np.atleast_2d(np.cov(standard.T)))
        if variance[-k] <= _VARIANCE_FLOOR:
            raise FitError(f"the increments span fewer than {k} components; choose a smaller n_components")
        # The sign of an eigenvector is arbitrary: fix it, so that a refit does not flip it.
        vectors = vectors[:, ::-1] * np.where(vectors[:, ::-1].sum(axis=0) < 0, -1.0, 1.0)
        self.components_, self.outside_ = vectors[:, :k], vectors[:, k:]
        self.factor_sd_ = np.column_stack([self.annualise_ * log_return, standard @ self.components_]).std(axis=0)
        known, y = self._pairs(log_return, log_iv)
        dates = _dates(history)[1:][_BURN_IN:-1]
        inputs = self._inputs(known, calendar_features(dates, calendar))
        half_lives = tuple(np.inf if h is None else float(h) for h in self.half_lives)
        # Hundreds of products of thin matrices: threads only get in each other's way, fifty times slower.
        with single_threaded_blas():
            inputs, inflation = choose(inputs, y, sorted(half_lives)[len(half_lives) // 2])
            self.law_, self.inflation_ = Law.fit(*inputs, y, half_lives), np.array(inflation)
            outside, move = self._outside_pairs(log_iv)
            self.reversion_ = Reversion.fit(outside, move, half_lives)
        self.rest_unit_ = np.array(max(float(_size(move - self.reversion_.expected(outside)).mean()), 1e-12))
        self._remember(history)
        return self.update(history)

    def update(self, history: xr.Dataset) -> Self:
        """Renew the pool of residuals and the long average of errors from ``history``; nothing is refitted.

        Days after the period fitted on enter without inflation: their errors are out of sample already.
        """
        self._check_update(history, _N_MIN)
        log_return, log_iv = _series(history)
        known, y = self._pairs(log_return, log_iv)
        dates = _dates(history)[1:][_BURN_IN:]
        features = calendar_features(dates[:-1], sessions(self.calendar_))
        mean, scale = self._moments(known, features)
        outside, move = self._outside_pairs(log_iv)
        surprise = move - self.reversion_.expected(outside)
        error = np.column_stack([(y - mean) / scale, _size(surprise) / self.rest_unit_])
        size = np.minimum(np.abs(error), ERROR_CUT)
        self._kept = None
        self.long_error_ = average(size, LONG, window=None)[-1]
        inside = dates[1:] <= np.datetime64(self.period_[1])
        inflation = np.where(inside, self.inflation_, 1.0)[:, None]
        g = rescale(error, *self._adaptation)
        self.residual_ = (inflation * error[:, :-1] / g[:, :-1])[-self.residual_days :]
        rest = (surprise / g[:, -1:])[-self.residual_days :] @ self.outside_.T
        # Half the size on disk; the rounding is far below the noise of the remainder itself.
        self.rest_ = rest.astype(np.float32)
        return self

    # ----------------------------------------------------------------------------------------- the law
    def _level(self, log_iv: FloatArray) -> FloatArray:
        return np.asarray((log_iv - self.cell_mean_) / self.cell_sd_ @ self.components_)

    def _known(self, log_return: FloatArray, log_iv: FloatArray) -> Known:
        """Known at the close of every day but the first surface's: returns (T - 1,), surfaces (T, cells)."""
        scores = np.diff(log_iv, axis=0) / self.cell_sd_ @ self.components_
        factor = np.column_stack([self.annualise_ * log_return, scores]) / self.factor_sd_
        return Known.of_days(self._level(log_iv[1:]), factor, log_iv[1:].mean(axis=1))

    def _pairs(self, log_return: FloatArray, log_iv: FloatArray) -> tuple[Known, FloatArray]:
        """Known at each close after the burn-in, and the factors of the day after."""
        known = self._known(log_return, log_iv)
        return known.rows(slice(_BURN_IN, -1)), known.factor[_BURN_IN + 1 :]

    def _outside(self, log_iv: FloatArray) -> Outside:
        """Known outside the components at the close of every day but the first surface's."""
        return Outside.of_days((log_iv[1:] - self.cell_mean_) / self.cell_sd_ @ self.outside_)

    def _outside_pairs(self, log_iv: FloatArray) -> tuple[Outside, FloatArray]:
        """The same after the burn-in, and the moves of the day after."""
        move = np.diff(log_iv[_BURN_IN + 1 :], axis=0) / self.cell_sd_ @ self.outside_
        return self._outside(log_iv).rows(slice(_BURN_IN, -1)), move

    def _inputs(self, known: Known, calendar: FloatArray) -> Inputs:
        return (mean_features(known, calendar, float(np.log(self.factor_sd_[0]))), *scale_features(known, calendar))

    def _moments(self, known: Known, calendar: FloatArray) -> tuple[FloatArray, FloatArray]:
        mean_raw, shared, own = self._inputs(known, calendar)
        return self.law_.moments(mean_raw, join(shared, own))

    def _start(self, state: State) -> tuple[Known, Outside, FloatArray]:
        """Known at the state, one row each, and the short average of the errors up to it: (1, factors + 1)."""
        log_iv = state.log_iv[-self.n_surfaces :].reshape(self.n_surfaces, -1)
        known = self._known(state.log_return[-self.n_returns :], log_iv)
        outside = self._outside(log_iv)
        before = slice(WINDOW - 1, -1)
        dates = past_sessions(state.as_of, ERROR_DAYS + 1, sessions(self.calendar_))
        mean, scale = self._moments(
            known.rows(before), calendar_features(dates[:-1], sessions(self.calendar_), dates[1:])
        )
        move = np.diff(log_iv[WINDOW:], axis=0) / self.cell_sd_ @ self.outside_
        surprise = move - self.reversion_.expected(outside.rows(before))
        error = np.column_stack([(known.factor[WINDOW:] - mean) / scale, _size(surprise) / self.rest_unit_])
        short = average(np.minimum(np.abs(error), ERROR_CUT), SHORT)[-1:]
        return known.rows(slice(-1, None)), outside.rows(slice(-1, None)), short

    def _step(self, today: Days, known: Known, outside: Outside, short: FloatArray) -> _Step:
        """Law of the session after ``today``."""
        target = next_session(today, sessions(self.calendar_))
        mean, scale = self._moments(known, calendar_features(today, sessions(self.calendar_), target))
        adaptation = adapt(short, self.long_error_, *self._adaptation)
        expected_rest = self.reversion_.expected(outside) @ self.outside_.T
        return _Step(known, outside, short, target, mean, scale, adaptation, expected_rest)

    def _first_step(self, state: State) -> _Step:
        """Law of the session after a state; kept, as every block of scenarios starts from the same."""
        kept = self._kept
        if kept is None or kept[0] is not state:
            today = np.array([state.as_of], dtype="datetime64[D]")
            with single_threaded_blas():  # thin matrices; and bits that no number of threads changes
                kept = self._kept = state, self._step(today, *self._start(state))
        return kept[1]

    def sample(self, state: State, n: int, horizon: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw n paths; averages of levels, squares and errors are carried on along each path.

        Each step's date is the next scheduled session. See :meth:`Generator.sample`.
        """
        n_cells = self.tau_.size * self.moneyness_.size
        log_return = np.empty((n, horizon))
        log_iv = np.empty((n, horizon, n_cells))
        step = self._first_step(state)
        drawn = [rng.integers(self.residual_.shape[0], size=n) for _ in range(horizon)]
        error = step.adaptation[:, :-1] * self.residual_[drawn[0]]
        factor = step.mean + step.scale * error
        rest = step.adaptation[:, -1:] * self.rest_[drawn[0]]
        move = (factor[:, 1:] * self.factor_sd_[1:]) @ self.components_.T
        move += rest
        move += step.expected_rest
        move *= self.cell_sd_
        before = state.log_iv[-1].reshape(1, n_cells)
        surface = np.add(before, move, out=log_iv[:, 0])
        log_return[:, 0] = factor[:, 0] * self.factor_sd_[0] / self.annualise_
        if horizon > 1:
            first = FirstDay(step, factor, error, _size(rest) / self.rest_unit_, before, surface)
            walk = Walk.of(self, step.target, horizon - 1, sessions(self.calendar_))
            walk.go(first, drawn[1:], log_return, log_iv)
        np.exp(log_iv, out=log_iv)
        return log_return, log_iv.reshape(n, horizon, self.tau_.size, self.moneyness_.size)

    def is_outside(self, state: State) -> bool:
        """Whether inputs beyond what was fitted on are clipped, and it matters.

        It does where the scale of a factor would be larger by a tenth, or its mean be moved by a tenth of a scale, if
        they were not. Days calmer than any before are common, and being clipped they only come out less calm.
        """
        known = self._first_step(state).known
        mean_raw, shared, own = self._inputs(known, np.zeros((1, N_CALENDAR)))
        # The calendar is never unseen: its inputs count as average.
        mean_raw[:, -N_CALENDAR:] = self.law_.mean_range[0, -N_CALENDAR:]
        end = shared.shape[1]
        shared[:, -N_SCALE_CALENDAR:] = self.law_.scale_range[0, end - N_SCALE_CALENDAR : end]
        mean, log_scale = self.law_.lost(mean_raw, join(shared, own))
        return bool(np.any(np.abs(mean) > _MATTERS) or np.any(log_scale > _MATTERS))

    # ----------------------------------------------------------------------------------------- keeping
    def parameters(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            "n_components": self.n_components,
            "residual_days": self.residual_days,
            "half_lives": self.half_lives,
        }

    _ARRAYS = (
        "annualise",
        "cell_mean",
        "cell_sd",
        "components",
        "factor_sd",
        "inflation",
        "long_error",
        "outside",
        "residual",
        "rest",
        "rest_unit",
    )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything fitted: attributes without the trailing underscore, and the parts of the law."""
        own = {name: getattr(self, f"{name}_") for name in self._ARRAYS}
        parts = (self.law_, self.reversion_)
        return own | {field.name: getattr(part, field.name) for part in parts for field in fields(part)}

    def _restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        for name in self._ARRAYS:
            setattr(self, f"{name}_", arrays[name])
        self.law_ = Law(**{field.name: arrays[field.name] for field in fields(Law)})
        self.reversion_ = Reversion(**{field.name: arrays[field.name] for field in fields(Reversion)})
        n_cells = self.tau_.size * self.moneyness_.size
        if self.components_.shape != (n_cells, self.n_components) or self.rest_.shape[1] != n_cells:
            raise ValueError("components, rest and the grid do not fit together")


def _series(history: xr.Dataset) -> tuple[FloatArray, FloatArray]:
    """Returns (T - 1,) and log surfaces (T, cells); row t of the returns leads into surface t + 1."""
    log_iv = np.log(history["implied_vol"].values.astype(np.float64)).reshape(history.sizes["date"], -1)
    return history["log_return"].values[1:].astype(np.float64), log_iv


def _dates(history: xr.Dataset) -> npt.NDArray[np.datetime64]:
    check_daily(history, "generator 'har'")  # its features and calendars are of trading days
    return np.asarray(history["date"].values.astype("datetime64[D]"))


def _size(rest: FloatArray) -> FloatArray:
    """Length of each row."""
    return np.asarray(np.sqrt(np.einsum("nr,nr->n", rest, rest)), dtype=np.float64)

"""Law of the return and of the factors of what moves a surface, shared by the generators built on it.

What moves is called the coordinates of a surface: its log vols, or the parameters of a model calibrated to it. Factors
are the annualised return and the first principal components of the coordinates' increments. Each factor has a mean
linear, and a scale log-linear, in what is known the day before; the scale may be multiplied by a variance filter of
the factor's own shocks. Standardised residuals are drawn jointly, with what the components leave out.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._numbers import bounded_number, whole_number
from volscen.errors import FitError, InputError
from volscen.generators._base import FloatArray, Generator
from volscen.generators._factor_fit import fit_mean_and_scale
from volscen.generators._factor_paths import N_RETURNS, Moves, Path, Series, windows
from volscen.generators._stillness import STILL
from volscen.generators._variance_filter import (
    CAP,
    FILTER_WINDOW,
    FLOOR,
    ewma_coefficients,
    filter_variance,
    fit_garch,
    next_variance,
)
from volscen.history import State

__all__ = ["FactorLaw"]

_VARIANCE_FLOOR = 1e-12
_STUDENT_NU = 5.0
#: Starting states whose first step is kept, for the blocks of scenarios that share it.
_KEPT = 4
_LOCK = threading.Lock()

Scale = Literal["log-linear", "constant"]
Filter = Literal["ewma", "garch"]
Residuals = Literal["bootstrap", "gaussian", "t"]


class FactorLaw(Generator):
    """Base of generators that move the coordinates of a surface by a factor law.

    Parameters
    ----------
    n_components : int
        Principal components of the coordinates' increments that are modelled; the rest of each increment is drawn
        with the residuals, unscaled.
    residual_days : int
        Residuals are those of the last ``residual_days`` days fitted on or updated with.
    scale, filter, residuals, decay
        See :class:`~volscen.generators._pca.ScaledPCA`.
    """

    coordinates: ClassVar[str]
    _SCALES_DAYS: ClassVar[bool] = True

    cell_mean_: FloatArray
    cell_sd_: FloatArray
    residual_: FloatArray
    rest_: npt.NDArray[np.float32]

    _kept: list[tuple[State, Path, Moves | None]]
    _law: tuple[FloatArray, FloatArray] | None

    def __init__(
        self,
        n_components: int,
        residual_days: int,
        scale: Scale,
        filter: Filter | None,
        residuals: Residuals,
        decay: float,
    ) -> None:
        n_components = whole_number("n_components", n_components)
        residual_days = whole_number("residual_days", residual_days, least=50)
        if scale not in ("log-linear", "constant"):
            raise InputError(f"scale must be 'log-linear' or 'constant', not {scale!r}")
        if filter not in (None, "ewma", "garch"):
            raise InputError(f"filter must be None, 'ewma' or 'garch', not {filter!r}")
        if residuals not in ("bootstrap", "gaussian", "t"):
            raise InputError(f"residuals must be 'bootstrap', 'gaussian' or 't', not {residuals!r}")
        decay = bounded_number("decay", decay, 0, 1)
        self.n_components = n_components
        self.residual_days = residual_days
        self.scale = scale
        self.filter = filter
        self.residuals = residuals
        self.decay = decay
        self._past = FILTER_WINDOW if filter else 0
        self.n_returns = N_RETURNS + self._past
        self.n_surfaces = 2 + self._past
        self._forget()

    # ---------------------------------------------------------------------------------- what a concrete one writes
    @abstractmethod
    def _series(self, log_return: FloatArray, log_iv: FloatArray) -> Series:
        """Coordinates and remainders of surfaces (T, cells) with the returns into the last of them."""

    @abstractmethod
    def _log_surface(self, coordinate: FloatArray) -> FloatArray:
        """Log vols (n, cells) that coordinates (n, C) stand for."""

    @abstractmethod
    def _bounded(self, coordinate: FloatArray) -> FloatArray:
        """Coordinates within what they may be."""

    def _next_remainder(self, remainder: FloatArray, innovation: FloatArray) -> FloatArray:
        """Remainder of the next day; a random walk by default."""
        return remainder + innovation

    def _remainder_innovation(self, remainder: FloatArray) -> FloatArray:
        """Innovations (T - 1, cells) of remainders (T, cells)."""
        return np.diff(remainder, axis=0)

    def _never_changes(self, series: Series) -> str:
        """Say what does not vary over the history."""
        return f"history has {self.coordinates} or a return that never changes; every series must vary"

    # ------------------------------------------------------------------------------------------ fitting
    def fit(self, history: xr.Dataset) -> Self:
        """Fit components, means, scales and the pool of residuals; a failure leaves the model as it was."""
        before = dict(self.__dict__)
        try:
            return self._learn(history)
        except Exception:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _learn(self, history: xr.Dataset) -> Self:
        k = self.n_components
        n_coordinates = self._n_coordinates(history)
        if k > n_coordinates:
            raise InputError(
                f"n_components is {k} but there are only {n_coordinates} {self.coordinates}; give fewer, such as "
                f"n_components={n_coordinates}"
            )
        self._check_history(history, self._least_dates())
        self._forget()
        self._prepare(history)
        series = self._history_series(history)
        increment = np.diff(series.coordinate, axis=0)
        self.cell_mean_ = series.coordinate.mean(axis=0)
        self.cell_sd_ = increment.std(axis=0)
        self.annualise_ = np.sqrt([float(history.attrs["periods_per_year"])])
        if np.any(self.cell_sd_ <= STILL) or series.log_return.std() <= STILL:
            raise FitError(self._never_changes(series))
        standard = increment / self.cell_sd_
        variance, vectors = np.linalg.eigh(np.atleast_2d(np.cov(standard.T)))
        # The sign of an eigenvector is arbitrary: fix it, so that a refit does not flip it.
        vectors = vectors[:, ::-1][:, :k]
        self.components_ = vectors * np.where(vectors.sum(axis=0) < 0, -1.0, 1.0)
        if variance[-k] <= _VARIANCE_FLOOR:
            raise FitError(f"the increments span fewer than {k} components; choose a smaller n_components")
        factors = np.column_stack([self.annualise_ * series.log_return, standard @ self.components_])
        self.factor_sd_ = factors.std(axis=0)
        # Features need N_RETURNS returns and two surfaces up to the day before the target.
        raw = self._raw_features(*windows(series.log_return, series.coordinate))
        target = (factors / self.factor_sd_)[N_RETURNS:]
        self.feature_mean_, self.feature_sd_ = raw.mean(axis=0), raw.std(axis=0)
        self.feature_low_, self.feature_high_ = raw.min(axis=0), raw.max(axis=0)
        mean_x, scale_x = self._features(raw)
        if self.scale == "constant":
            self.mean_coef_, intercept = fit_mean_and_scale(mean_x, scale_x[:, :1], target)
            self.scale_coef_ = np.zeros((scale_x.shape[1], k + 1))
            self.scale_coef_[0] = intercept
        else:
            self.mean_coef_, self.scale_coef_ = fit_mean_and_scale(mean_x, scale_x, target)
        log_scale = scale_x @ self.scale_coef_
        self.log_scale_low_, self.log_scale_high_ = log_scale.min(axis=0), log_scale.max(axis=0)
        self._fit_filter((target - mean_x @ self.mean_coef_) / np.exp(log_scale))
        self._fit_remainder(series)
        self._remember(history)
        return self._renew(history)

    def update(self, history: xr.Dataset) -> Self:
        """Take the residual pool from the last ``residual_days`` days of ``history``; nothing is refitted."""
        self._check_update(history, N_RETURNS + 50 + self._past)
        return self._renew(history)

    def _renew(self, history: xr.Dataset) -> Self:
        n_dates = self.residual_days + N_RETURNS + self._past + 1
        series = self._history_series(history.isel(date=slice(-n_dates, None)))
        standard = np.diff(series.coordinate, axis=0) / self.cell_sd_
        scores = standard @ self.components_
        shock = self._shocks(series)
        if self.filter:
            shock = (shock / np.sqrt(self._filtered(shock)[:-1]))[self._past :]
        self.residual_ = shock[-self.residual_days :]
        outside = np.hstack([standard - scores @ self.components_.T, self._remainder_innovation(series.remainder)])
        # Half the size on disk; the rounding is far below the noise of the remainder itself.
        self.rest_ = outside[-len(self.residual_) :].astype(np.float32)
        self._forget()
        return self

    def _prepare(self, history: xr.Dataset) -> None:
        """Set up what the coordinates of a new grid need; nothing by default."""

    def _fit_remainder(self, series: Series) -> None:
        """Fit the law of the remainder; nothing by default."""

    def _n_coordinates(self, history: xr.Dataset) -> int:
        return int(history.sizes["tau"] * history.sizes["moneyness"])

    def _least_dates(self) -> int:
        return N_RETURNS + 10 * (2 * self.n_components + 3) + self._past

    def _history_series(self, history: xr.Dataset) -> Series:
        log_iv = np.log(history["implied_vol"].values.astype(np.float64)).reshape(history.sizes["date"], -1)
        return self._series(history["log_return"].values[1:].astype(np.float64), log_iv)

    # ------------------------------------------------------------------------------------------ variances
    def _fit_filter(self, shock: FloatArray) -> None:
        if self.filter is None:
            return
        self.shock_variance_ = np.mean(shock**2, axis=0)
        if self.filter == "ewma":
            self.filter_coef_ = ewma_coefficients(shock.shape[1], self.decay)
        else:
            self.filter_coef_ = fit_garch(shock, self.shock_variance_)

    def _filtered(self, shock: FloatArray) -> FloatArray:
        return filter_variance(shock, self.shock_variance_, self.filter_coef_)

    def _shocks(self, series: Series) -> FloatArray:
        """Factors less their mean, divided by their scale, on all days whose features are known."""
        past_returns, past = windows(series.log_return, series.coordinate)
        n = len(past)
        mean, scale = self._moments(past_returns, past)
        scores = np.diff(series.coordinate[-n - 1 :], axis=0) / self.cell_sd_ @ self.components_
        factors = np.column_stack([self.annualise_ * series.log_return[-n:], scores]) / self.factor_sd_
        return np.asarray((factors - mean) / scale)

    # ------------------------------------------------------------------------------------------ features
    def _raw_features(self, log_return: FloatArray, coordinate: FloatArray) -> FloatArray:
        """Level scores, last factors, log realised vols: (n, 2 k + 3)."""
        level = (coordinate[:, -1] - self.cell_mean_) / self.cell_sd_ @ self.components_
        last = (coordinate[:, -1] - coordinate[:, -2]) / self.cell_sd_ @ self.components_
        squared = (self.annualise_ * log_return) ** 2
        floor = (1e-3 * self.factor_sd_[0]) ** 2
        realised = [0.5 * np.log(np.maximum(squared[:, -days:].mean(axis=1), floor)) for days in (5, N_RETURNS)]
        return np.column_stack([level, self.annualise_ * log_return[:, -1], last, *realised])

    def _features(self, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        # Clipped at the range they had in the sample, so that nothing is extrapolated.
        clipped = np.clip(raw, self.feature_low_, self.feature_high_)
        standard = (clipped - self.feature_mean_) / self.feature_sd_
        one = np.ones((len(raw), 1))
        k = self.n_components
        return np.hstack([one, standard[:, : 2 * k + 1]]), np.hstack([one, standard[:, :k], standard[:, -2:]])

    def _moments(self, log_return: FloatArray, coordinate: FloatArray) -> tuple[FloatArray, FloatArray]:
        mean_x, scale_x = self._features(self._raw_features(log_return, coordinate))
        # Each feature may lie in its range and their combination still be unseen: the scale is bounded too.
        log_scale = np.clip(scale_x @ self.scale_coef_, self.log_scale_low_, self.log_scale_high_)
        return mean_x @ self.mean_coef_, np.exp(log_scale)

    # ------------------------------------------------------------------------------------------ drawing
    def sample(self, state: State, n: int, horizon: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw n paths; see :meth:`Generator.sample`."""
        log_return = np.empty((n, horizon))
        implied_vol = np.empty((n, horizon, self.tau_.size * self.moneyness_.size))
        path, outcomes = self._start(state)
        for step in range(horizon):
            if self.residuals == "bootstrap":
                day = rng.integers(len(self.residual_), size=n)
                # All paths start from one state, where a day drawn twice moves both alike.
                moves = outcomes.take(day) if outcomes else self._move(path, self.residual_[day], self.rest_[day])
            else:
                moves = self._move(path, *self._draw(n, rng))
            log_return[:, step], implied_vol[:, step] = moves.log_return, moves.implied_vol
            if step + 1 < horizon:
                path, outcomes = self._onwards(path, moves), None
        return log_return, implied_vol.reshape(n, horizon, self.tau_.size, self.moneyness_.size)

    def _start(self, state: State) -> tuple[Path, Moves | None]:
        """Path of one row that a state begins, and where every day of the pool leads from it."""
        with _LOCK:  # blocks of scenarios of one state come at the same time
            for known, path, outcomes in self._kept:
                if known is state:
                    return path, outcomes
            log_iv = state.log_iv[-self.n_surfaces :].reshape(self.n_surfaces, -1)
            series = self._series(state.log_return[-self.n_returns :], log_iv)
            variance = np.ones((1, self.n_components + 1))
            if self.filter:
                variance = self._filtered(self._shocks(series))[-1:]
            path = Path(
                state.log_return[None, -N_RETURNS:], series.coordinate[None, -2:], series.remainder[-1:], variance
            )
            outcomes = self._move(path, self.residual_, self.rest_) if self.residuals == "bootstrap" else None
            self._kept = [*self._kept, (state, path, outcomes)][-_KEPT:]
        return path, outcomes

    def _forget(self) -> None:
        self._kept = []
        self._law = None

    def __getstate__(self) -> dict[str, Any]:
        """Copies and processes start without what can be computed again."""
        return self.__dict__ | {"_kept": [], "_law": None}

    def _move(self, path: Path, residual: FloatArray, rest: npt.NDArray[Any]) -> Moves:
        mean, scale = self._moments(path.log_return, path.coordinate)
        shock = np.sqrt(path.variance) * residual
        factors = (mean + scale * shock) * self.factor_sd_
        n_coordinates = self.cell_sd_.size
        standard = factors[:, 1:] @ self.components_.T
        standard += rest[:, :n_coordinates]
        standard *= self.cell_sd_
        standard += path.coordinate[:, -1]
        coordinate = self._bounded(standard)
        remainder = self._next_remainder(path.remainder, rest[:, n_coordinates:])
        log_iv = self._log_surface(coordinate)
        implied_vol = np.exp(log_iv + remainder) if remainder.shape[1] else np.exp(log_iv)
        return Moves(factors[:, 0] / self.annualise_, coordinate, remainder, implied_vol, shock)

    def _onwards(self, path: Path, moves: Moves) -> Path:
        n = moves.log_return.size
        returns = np.broadcast_to(path.log_return[:, 1:], (n, N_RETURNS - 1))
        previous = np.broadcast_to(path.coordinate[:, -1], moves.coordinate.shape)
        variance = path.variance
        if self.filter:
            variance = next_variance(moves.shock, variance, self.shock_variance_, self.filter_coef_)
        return Path(
            np.column_stack([returns, moves.log_return]),
            np.stack([previous, moves.coordinate], axis=1),
            moves.remainder,
            variance,
        )

    def _draw(self, n: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Residuals and the rest from the normal, or Student-t, law with the pool's mean and covariance."""
        if self._law is None:
            pool = np.hstack([self.residual_, self.rest_])
            value, vector = np.linalg.eigh(np.cov(pool.T))
            keep = value > _VARIANCE_FLOOR * value[-1]
            self._law = pool.mean(axis=0), (vector[:, keep] * np.sqrt(value[keep])).T
        mean, root = self._law
        z = rng.standard_normal((n, len(root)))
        if self.residuals == "t":
            z *= np.sqrt((_STUDENT_NU - 2) / rng.chisquare(_STUDENT_NU, n))[:, None]
        drawn = mean + z @ root
        return drawn[:, : self.n_components + 1], drawn[:, self.n_components + 1 :]

    def is_outside(self, state: State) -> bool:
        """Whether a feature lies outside the range fitted on, or a filtered variance at its bounds, and is clipped."""
        path, _ = self._start(state)
        raw = self._raw_features(path.log_return, path.coordinate)
        outside = bool(np.any((raw < self.feature_low_) | (raw > self.feature_high_)))
        if self.filter:
            v = path.variance / self.shock_variance_
            outside = outside or bool(np.any((v <= FLOOR) | (v >= CAP)))
        return outside

    # ------------------------------------------------------------------------------------------ keeping
    def parameters(self) -> dict[str, Any]:
        """Constructor arguments."""
        names = ("n_components", "residual_days", "scale", "filter", "residuals", "decay")
        return {name: getattr(self, name) for name in names}

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every array kept, by the name of its attribute; -1 for the days of the pool."""
        k = self.n_components
        cells = self.tau_.size * self.moneyness_.size
        width = self._width()
        shapes: dict[str, tuple[int, ...]] = {
            "annualise": (1,),
            "cell_mean": (width,),
            "cell_sd": (width,),
            "components": (width, k),
            "mean_coef": (2 * k + 2, k + 1),
            "scale_coef": (k + 3, k + 1),
            "residual": (-1, k + 1),
            "rest": (-1, width + (cells if self._has_remainder else 0)),
            **dict.fromkeys(("factor_sd", "log_scale_low", "log_scale_high"), (k + 1,)),
            **dict.fromkeys(("feature_mean", "feature_sd", "feature_low", "feature_high"), (2 * k + 3,)),
        }
        if self.filter:
            shapes |= {"shock_variance": (k + 1,), "filter_coef": (k + 1, 3)}
        return shapes

    _has_remainder: ClassVar[bool] = False

    def _width(self) -> int:
        """Number of coordinates on the grid fitted on."""
        return self.tau_.size * self.moneyness_.size

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything fitted, under the names of the attributes without the trailing underscore."""
        return {name: getattr(self, f"{name}_") for name in self._shapes()}

    def _restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        days = len(arrays["residual"])
        for name, shape in self._shapes().items():
            wanted = tuple(days if size < 0 else size for size in shape)
            if arrays[name].shape != wanted or arrays[name].dtype.kind != "f" or days == 0:
                raise ValueError(f"array {name} of shape {arrays[name].shape} does not fit the grid and parameters")
            setattr(self, f"{name}_", arrays[name])
        self._forget()

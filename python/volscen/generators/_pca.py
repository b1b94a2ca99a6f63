"""Scaled PCA-VAR with bootstrapped residuals: the strong simple model that every network must beat.

Factors are the annualised return and the first principal components of the log-vol increments. Each factor
has a mean linear, and a scale log-linear, in what is known the day before; the standardised residuals of one
past day, with that day's remainder outside the principal components, are drawn jointly.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.optimize import minimize

from volscen.errors import FitError, InputError
from volscen.generators._base import FloatArray, StepGenerator
from volscen.history import State

__all__ = ["ScaledPCA"]

_N_RETURNS = 21
# Features are clipped at the range they had in the sample, so that nothing is extrapolated; the ridge keeps
# the mean from chasing noise: one day ahead nearly all of it is noise.
_MEAN_PENALTY = 1 / 0.04**2
_SCALE_PENALTY = 1 / 0.3**2
_STUDENT_NU = 5.0
_VARIANCE_FLOOR = 1e-12


class ScaledPCA(StepGenerator):
    """PCA-VAR of log-vol increments and return, with state-dependent scale and bootstrapped residuals.

    Parameters
    ----------
    n_components : int
        Principal components of the log-vol increments that are modelled; the rest of each increment is drawn
        from the same past day unscaled.
    residual_days : int
        Residuals are drawn from the last ``residual_days`` days fitted on or updated with.

    Notes
    -----
    Mean: ridge regression of each factor on the level scores of the surface and on the last day's factors.
    Scale: log s = V b with V the log realised volatilities (5 and 21 days) and the level scores, by penalised
    Student-t (5 degrees of freedom) likelihood. Inputs and log scales are clipped to the range they had when
    fitted.

    Examples
    --------
    >>> import volscen
    >>> model = volscen.fit(volscen.datasets.sample_history(), "pca", residual_days=500)
    >>> model.arrays()["residual"].shape
    (500, 6)
    """

    name: ClassVar[str] = "pca"
    n_returns: int = _N_RETURNS
    n_surfaces: int = 2

    def __init__(self, n_components: int = 5, residual_days: int = 1000) -> None:
        if n_components < 1:
            raise InputError(f"n_components must be at least 1, not {n_components}")
        if residual_days < 50:
            raise InputError(f"residual_days must be at least 50, not {residual_days}")
        self.n_components = n_components
        self.residual_days = residual_days

    # ------------------------------------------------------------------------------------------ fitting
    def fit(self, history: xr.Dataset) -> Self:
        """Fit components, means, scales and the pool of residuals."""
        n_cells = history.sizes["tau"] * history.sizes["moneyness"]
        k = self.n_components
        if k > n_cells:
            raise InputError(f"n_components is {k} but the grid has only {n_cells} cells")
        self._check_history(history, _N_RETURNS + 10 * (2 * k + 3))
        log_return, log_iv = _series(history)
        increment = np.diff(log_iv, axis=0)
        self.cell_mean_ = log_iv.mean(axis=0)
        self.cell_sd_ = increment.std(axis=0)
        self.annualise_ = np.sqrt([float(history.attrs["periods_per_year"])])
        if np.any(self.cell_sd_ <= 0) or log_return.std() <= 0:
            raise FitError("history has a cell or return that never changes; PCA needs every series to vary")
        standard = increment / self.cell_sd_
        variance, vectors = np.linalg.eigh(np.cov(standard.T))
        # The sign of an eigenvector is arbitrary: fix it, so that a refit does not flip it.
        vectors = vectors[:, ::-1][:, :k]
        self.components_ = vectors * np.where(vectors.sum(axis=0) < 0, -1.0, 1.0)
        if variance[-k] <= _VARIANCE_FLOOR:
            raise FitError(f"the increments span fewer than {k} components; choose a smaller n_components")
        factors = np.column_stack([self.annualise_ * log_return, standard @ self.components_])
        self.factor_sd_ = factors.std(axis=0)
        # Features need _N_RETURNS returns and two surfaces up to the day before the target.
        raw = self._raw_features(*_windows(log_return, log_iv))
        target = (factors / self.factor_sd_)[_N_RETURNS:]
        self.feature_mean_, self.feature_sd_ = raw.mean(axis=0), raw.std(axis=0)
        self.feature_low_, self.feature_high_ = raw.min(axis=0), raw.max(axis=0)
        mean_x, scale_x = self._features(raw)
        self._fit_mean_and_scale(mean_x, scale_x, target)
        self._remember(history)
        return self.update(history)

    def _fit_mean_and_scale(self, mean_x: FloatArray, scale_x: FloatArray, target: FloatArray) -> None:
        n_factors = target.shape[1]
        self.mean_coef_ = np.zeros((mean_x.shape[1], n_factors))
        self.scale_coef_ = np.zeros((scale_x.shape[1], n_factors))
        for f in range(n_factors):
            scale = np.ones(target.shape[0])
            for _ in range(2):  # the mean weighted by the scale, the scale around the mean, twice
                self.mean_coef_[:, f] = _ridge(mean_x, target[:, f], 1 / scale**2)
                error = target[:, f] - mean_x @ self.mean_coef_[:, f]
                self.scale_coef_[:, f] = _fit_log_scale(scale_x, error)
                scale = np.exp(scale_x @ self.scale_coef_[:, f])
        log_scale = scale_x @ self.scale_coef_
        self.log_scale_low_, self.log_scale_high_ = log_scale.min(axis=0), log_scale.max(axis=0)

    def update(self, history: xr.Dataset) -> Self:
        """Take the residual pool from the last ``residual_days`` days of ``history``; nothing is refitted."""
        self._check_update(history, _N_RETURNS + 50)
        recent = history.isel(date=slice(-(self.residual_days + _N_RETURNS + 1), None))
        log_return, log_iv = _series(recent)
        standard = np.diff(log_iv, axis=0) / self.cell_sd_
        scores = standard @ self.components_
        factors = np.column_stack([self.annualise_ * log_return, scores]) / self.factor_sd_
        mean, scale = self._moments(*_windows(log_return, log_iv))
        self.residual_ = ((factors[_N_RETURNS:] - mean) / scale)[-self.residual_days :]
        rest = (standard - scores @ self.components_.T)[_N_RETURNS:][-self.residual_days :]
        # Half the size on disk; the rounding is far below the noise of the remainder itself.
        self.rest_ = rest.astype(np.float32)
        return self

    # ----------------------------------------------------------------------------------------- the law
    def _raw_features(self, log_return: FloatArray, log_iv: FloatArray) -> FloatArray:
        """Level scores, last factors, log realised vols: (n, 2 k + 3)."""
        level = (log_iv[:, -1] - self.cell_mean_) / self.cell_sd_ @ self.components_
        last = (log_iv[:, -1] - log_iv[:, -2]) / self.cell_sd_ @ self.components_
        squared = (self.annualise_ * log_return) ** 2
        floor = (1e-3 * self.factor_sd_[0]) ** 2
        realised = [0.5 * np.log(np.maximum(squared[:, -days:].mean(axis=1), floor)) for days in (5, _N_RETURNS)]
        return np.column_stack([level, self.annualise_ * log_return[:, -1], last, *realised])

    def _features(self, raw: FloatArray) -> tuple[FloatArray, FloatArray]:
        clipped = np.clip(raw, self.feature_low_, self.feature_high_)
        standard = (clipped - self.feature_mean_) / self.feature_sd_
        one = np.ones((len(raw), 1))
        k = self.n_components
        return np.hstack([one, standard[:, : 2 * k + 1]]), np.hstack([one, standard[:, :k], standard[:, -2:]])

    def _moments(self, log_return: FloatArray, log_iv: FloatArray) -> tuple[FloatArray, FloatArray]:
        mean_x, scale_x = self._features(self._raw_features(log_return, log_iv))
        # Each feature may lie in its range and their combination still be unseen: the scale is bounded too.
        log_scale = np.clip(scale_x @ self.scale_coef_, self.log_scale_low_, self.log_scale_high_)
        return mean_x @ self.mean_coef_, np.exp(log_scale)

    def _step(
        self, log_return: FloatArray, log_iv: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        mean, scale = self._moments(log_return, log_iv)
        day = rng.integers(self.residual_.shape[0], size=log_return.shape[0])
        factors = (mean + scale * self.residual_[day]) * self.factor_sd_
        increment = self.cell_sd_ * (factors[:, 1:] @ self.components_.T + self.rest_[day])
        return factors[:, 0] / self.annualise_, log_iv[:, -1] + increment

    def is_outside(self, state: State) -> bool:
        """Whether a level score or realised volatility lies outside the range fitted on, and is clipped."""
        raw = self._raw_features(
            state.log_return[None, -_N_RETURNS:], state.log_iv[-2:].reshape(1, 2, self.cell_sd_.size)
        )
        return bool(np.any((raw < self.feature_low_) | (raw > self.feature_high_)))

    # ----------------------------------------------------------------------------------------- keeping
    def parameters(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"n_components": self.n_components, "residual_days": self.residual_days}

    _ARRAYS = (
        "annualise",
        "cell_mean",
        "cell_sd",
        "components",
        "factor_sd",
        "feature_mean",
        "feature_sd",
        "feature_low",
        "feature_high",
        "mean_coef",
        "scale_coef",
        "log_scale_low",
        "log_scale_high",
        "residual",
        "rest",
    )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything fitted, under the names of the attributes without the trailing underscore."""
        return {name: getattr(self, f"{name}_") for name in self._ARRAYS}

    def _restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        cells, k = self.tau_.size * self.moneyness_.size, self.n_components
        days = len(arrays["residual"])
        shapes: dict[str, tuple[int, ...]] = {
            "annualise": (1,),
            "cell_mean": (cells,),
            "cell_sd": (cells,),
            "components": (cells, k),
            "mean_coef": (2 * k + 2, k + 1),
            "scale_coef": (k + 3, k + 1),
            "residual": (days, k + 1),
            "rest": (days, cells),
            **dict.fromkeys(("factor_sd", "log_scale_low", "log_scale_high"), (k + 1,)),
            **dict.fromkeys(("feature_mean", "feature_sd", "feature_low", "feature_high"), (2 * k + 3,)),
        }
        for name in self._ARRAYS:
            if arrays[name].shape != shapes[name] or arrays[name].dtype.kind != "f" or days == 0:
                raise ValueError(f"array {name} of shape {arrays[name].shape} does not fit the grid and parameters")
            setattr(self, f"{name}_", arrays[name])


def _series(history: xr.Dataset) -> tuple[FloatArray, FloatArray]:
    """Returns (T - 1,) and log surfaces (T, cells); row t of the returns leads into surface t + 1."""
    log_iv = np.log(history["implied_vol"].values.astype(np.float64)).reshape(history.sizes["date"], -1)
    return history["log_return"].values[1:].astype(np.float64), log_iv


def _windows(log_return: FloatArray, log_iv: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What is known the day before each target: (n, 21) returns and (n, 2, cells) surfaces."""
    returns = np.lib.stride_tricks.sliding_window_view(log_return, _N_RETURNS)[:-1]
    surfaces = np.stack([log_iv[_N_RETURNS - 1 : -2], log_iv[_N_RETURNS:-1]], axis=1)
    return returns, surfaces


def _ridge(x: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
    """Weighted ridge regression with an unpenalised intercept in column 0."""
    penalty = np.diag(np.r_[0.0, np.full(x.shape[1] - 1, _MEAN_PENALTY)])
    # With weights of mean 1 the penalty means the same whatever the scale.
    xw = x * (weight / weight.mean())[:, None]
    return np.asarray(np.linalg.solve(xw.T @ x + penalty, xw.T @ y))


def _fit_log_scale(v: FloatArray, error: FloatArray) -> FloatArray:
    """Coefficients b of log s = V b by penalised Student-t likelihood, unpenalised intercept in column 0."""
    nu = _STUDENT_NU
    penalty = np.r_[0.0, np.full(v.shape[1] - 1, _SCALE_PENALTY)]

    def objective(b: FloatArray) -> tuple[float, FloatArray]:
        log_scale = v @ b
        x2 = (error * np.exp(-log_scale)) ** 2
        value = np.sum(log_scale + 0.5 * (nu + 1) * np.log1p(x2 / (nu - 2))) + 0.5 * np.sum(penalty * b**2)
        slope = 1 - (nu + 1) * x2 / (nu - 2 + x2)
        return float(value), v.T @ slope + penalty * b

    start = np.zeros(v.shape[1])
    start[0] = np.log(max(error.std(), 1e-8))
    solution = minimize(objective, start, jac=True, method="L-BFGS-B")
    if not np.all(np.isfinite(solution.x)):
        raise FitError("the scale of a factor could not be fitted; look for constant or infinite series")
    return np.asarray(solution.x)

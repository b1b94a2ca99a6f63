"""Mean and scale of a factor: ridge regression, and a log-linear scale by penalised Student-t likelihood."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from volscen.errors import FitError

__all__ = ["fit_log_scale", "fit_mean_and_scale", "ridge"]

FloatArray = npt.NDArray[np.float64]

# The ridge keeps the mean from chasing noise: one day ahead nearly all of it is noise.
_MEAN_PENALTY = 1 / 0.04**2
_SCALE_PENALTY = 1 / 0.3**2
_STUDENT_NU = 5.0


def ridge(x: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
    """Weighted ridge regression with an unpenalised intercept in column 0."""
    penalty = np.diag(np.r_[0.0, np.full(x.shape[1] - 1, _MEAN_PENALTY)])
    # With weights of mean 1 the penalty means the same whatever the scale.
    xw = x * (weight / weight.mean())[:, None]
    return np.asarray(np.linalg.solve(xw.T @ x + penalty, xw.T @ y))


def fit_log_scale(v: FloatArray, error: FloatArray) -> FloatArray:
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


def fit_mean_and_scale(mean_x: FloatArray, scale_x: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Coefficients of the mean and of the log scale of every factor (column of the target)."""
    n_factors = target.shape[1]
    mean_coef = np.zeros((mean_x.shape[1], n_factors))
    scale_coef = np.zeros((scale_x.shape[1], n_factors))
    for f in range(n_factors):
        scale = np.ones(target.shape[0])
        for _ in range(2):  # the mean weighted by the scale, the scale around the mean, twice
            mean_coef[:, f] = ridge(mean_x, target[:, f], 1 / scale**2)
            error = target[:, f] - mean_x @ mean_coef[:, f]
            scale_coef[:, f] = fit_log_scale(scale_x, error)
            scale = np.exp(scale_x @ scale_coef[:, f])
    return mean_coef, scale_coef

"""Implied vols of the SABR model by Hagan's expansion, and their fit to smiles, many at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volscen.generators._batch_fit import fit_batch

__all__ = ["HIGH", "LOW", "fit_smiles", "log_vols"]

FloatArray = npt.NDArray[np.float64]

#: Limits of (log alpha sqrt(tau), atanh rho, log nu sqrt(tau)). The expansion is one in nu^2 tau and alpha nu tau, and
#: within these its factor in tau stays positive: 1 - nu^2 tau / 24 - rho nu alpha tau / 4 is at least 0.23.
LOW = np.array([np.log(1e-4), -3.0, np.log(0.02)])
HIGH = np.array([np.log(1.2), 3.0, np.log(2.0)])
#: A weak prior, a hundredth of the vol for one standard deviation of each: few strikes near the money say
#: little about nu, and nothing about rho when nu is small.
_PRIOR_MEAN = np.array([0.0, -0.5, np.log(0.5)])
_PRIOR_WEIGHT = 0.01 * np.array([0.0, 1.0, 1.0])
_LEAST_TIME_FACTOR = 0.05
_BUMP = 1e-5


def log_vols(parameters: FloatArray, tau: FloatArray, moneyness: FloatArray, beta: float) -> FloatArray:
    """Log Black vols (..., I) of smiles with parameters (..., 3), times (...,) and K/F (I,).

    Parameters
    ----------
    parameters : ndarray, shape (..., 3)
        log(alpha sqrt(tau)), atanh(rho), log(nu sqrt(tau)), alpha for a forward of 1.
    tau : ndarray
        Years, broadcast against the leading dimensions.
    moneyness : ndarray, shape (I,)
    beta : float
        In [0, 1].

    Notes
    -----
    Hagan, Kumar, Lesniewski and Woodward (2002), equation (2.17), with F = 1.
    """
    root = np.sqrt(tau)[..., None]
    alpha = np.exp(parameters[..., 0:1]) / root
    rho = np.tanh(parameters[..., 1:2])
    nu = np.exp(parameters[..., 2:3]) / root
    x = -np.log(moneyness)
    middle = moneyness ** ((1 - beta) / 2)
    z = nu / alpha * middle * x
    # log((sqrt(1 - 2 rho z + z^2) + z - rho) / (1 - rho)) without its cancellation at large negative z
    cosine = np.sqrt(1 - rho**2)
    chi = np.arcsinh((z - rho) / cosine) + np.arcsinh(rho / cosine)
    near = np.abs(z) < 1e-7
    ratio = np.where(near, 1 - 0.5 * rho * z, z / np.where(near, 1.0, chi))
    u = (1 - beta) ** 2
    strike = middle * (1 + u / 24 * x**2 + u**2 / 1920 * x**4)
    rate = u / 24 * alpha**2 / middle**2 + 0.25 * rho * beta * nu * alpha / middle + (2 - 3 * rho**2) / 24 * nu**2
    time = np.maximum(1 + rate * root**2, _LEAST_TIME_FACTOR)
    return np.asarray(np.log(alpha * ratio * time / strike))


def fit_smiles(log_iv: FloatArray, tau: FloatArray, moneyness: FloatArray, beta: float) -> FloatArray:
    """Parameters (n, 3) of smiles (n, I) with times (n,), by least squares in log vols with a weak prior."""
    nearest = int(np.argmin(np.abs(np.log(moneyness))))
    start = np.column_stack(
        [
            log_iv[:, nearest] + 0.5 * np.log(tau) + (1 - beta) * np.log(moneyness[nearest]),
            np.broadcast_to(_PRIOR_MEAN[1:], (len(log_iv), 2)),
        ]
    )
    prior = np.diag(_PRIOR_WEIGHT)[1:]

    def evaluate(x: FloatArray, rows: npt.NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
        times = tau[rows]
        base = log_vols(x, times, moneyness, beta)
        slope = np.empty((*base.shape, 3))
        for p in range(3):
            bumped = x.copy()
            bumped[:, p] += _BUMP
            slope[..., p] = (log_vols(bumped, times, moneyness, beta) - base) / _BUMP
        residual = np.hstack([base - log_iv[rows], (x - _PRIOR_MEAN) @ prior.T])
        return residual, np.concatenate([slope, np.broadcast_to(prior, (len(x), 2, 3))], axis=1)

    return fit_batch(evaluate, start, LOW, HIGH)

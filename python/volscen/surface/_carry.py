"""Forwards and discount factors at times between and beyond those where they are known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["carry_at"]

FloatArray = npt.NDArray[np.float64]


def carry_at(
    tau: FloatArray, known_tau: FloatArray, forward: FloatArray, discount_factor: FloatArray, spot: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Forward and discount factor at times: log-linear between today (the spot, 1) and the times that have them.

    Beyond the last the carry of the last segment and the last zero rate go on.

    Parameters
    ----------
    tau : ndarray, shape (n,)
    known_tau : ndarray, shape (J,)
        Positive, increasing.
    forward, discount_factor : ndarray, shape (..., J)
    spot : ndarray, shape (...)
    """
    times = np.concatenate([[0.0], known_tau])
    log_forward = np.log(np.concatenate([np.asarray(spot)[..., None], forward], axis=-1))
    log_discount = np.log(np.concatenate([np.ones((*discount_factor.shape[:-1], 1)), discount_factor], axis=-1))
    right = np.clip(np.searchsorted(times, tau), 1, known_tau.size)
    gap = times[right] - times[right - 1]
    # Beyond the last time the share goes past one, which carries the last segment on.
    share = (tau - times[right - 1]) / gap
    log_f = log_forward[..., right - 1] + share * (log_forward[..., right] - log_forward[..., right - 1])
    log_d = log_discount[..., right - 1] + share * (log_discount[..., right] - log_discount[..., right - 1])
    rate = log_discount[..., -1:] / times[-1]
    return np.exp(log_f), np.exp(np.where(tau > times[-1], rate * tau, log_d))

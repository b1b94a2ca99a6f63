"""What VolGAN learns from: targets, conditions and the smoothness penalties (Vuletic and Cont 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.errors import InputError

__all__ = [
    "WINDOW",
    "TrainingData",
    "condition",
    "moving_scale",
    "n_training",
    "smoothness",
    "targets_and_conditions",
    "training_data",
]

FloatArray = npt.NDArray[np.float64]

#: Number of returns in the realised volatility of the condition.
WINDOW = 21


def condition(log_return: FloatArray, log_iv: FloatArray, periods_per_year: float) -> FloatArray:
    """Condition of one step: the last two returns, realised volatility and the last surface.

    Parameters
    ----------
    log_return : ndarray, shape (n, 21)
        Returns up to and including the last known one, oldest first.
    log_iv : ndarray, shape (n, cells)
        Log surface of the last known date.
    periods_per_year : float
        For annualising.

    Returns
    -------
    ndarray, shape (n, 3 + cells)
        (sqrt(P) R_{t-1}, sqrt(P) R_{t-2}, rv_{t-1}, g_{t-1}), with P periods a year and
        rv^2 = P / 21 times the sum of the 21 squared returns.

    Examples
    --------
    >>> import numpy as np
    >>> condition(np.full((1, 21), 0.01), np.log([[0.2]]), 252).round(4)
    array([[ 0.1587,  0.1587,  0.1587, -1.6094]])
    """
    annual = float(np.sqrt(periods_per_year))
    realised = annual * np.sqrt(np.mean(log_return[:, -WINDOW:] ** 2, axis=1))
    return np.column_stack([annual * log_return[:, -1], annual * log_return[:, -2], realised, log_iv])


def targets_and_conditions(history: xr.Dataset) -> tuple[FloatArray, FloatArray]:
    """Pair every day that has 21 returns before it with what was known the evening before.

    Parameters
    ----------
    history : xarray.Dataset
        Following ``volscen/history/1``, T dates.

    Returns
    -------
    target : ndarray, shape (T - 22, 1 + cells)
        Row k is day t = 22 + k: (sqrt(P) R_t, g_t - g_{t-1}).
    conditions : ndarray, shape (T - 22, 3 + cells)
        :func:`condition` of day t - 1; nothing of day t enters it.
    """
    log_return = history["log_return"].values.astype(np.float64)
    log_iv = np.log(history["implied_vol"].values.astype(np.float64)).reshape(log_return.size, -1)
    per_year = float(history.attrs["periods_per_year"])
    # The first return of a history is NaN by definition: the first whole window starts at row 1.
    windows = np.lib.stride_tricks.sliding_window_view(log_return, WINDOW)[1:-1]
    known = condition(windows, log_iv[WINDOW:-1], per_year)
    today = slice(WINDOW + 1, None)
    target = np.column_stack([np.sqrt(per_year) * log_return[today], np.diff(log_iv, axis=0)[WINDOW:]])
    return target, known


def smoothness(tau: FloatArray, moneyness: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Difference operators of the two smoothness penalties, L = |D g|^2 for a flattened log surface g.

    Parameters
    ----------
    tau : ndarray, shape (J,)
    moneyness : ndarray, shape (I,)

    Returns
    -------
    along_moneyness : ndarray, shape (J (I-1), J I)
        (g_{i+1,j} - g_{i,j}) / (m_{i+1} - m_i).
    along_tau : ndarray, shape ((J-1) I, J I)
        (g_{i,j+1} - g_{i,j}) / (tau_{j+1} - tau_j).

    Examples
    --------
    >>> import numpy as np
    >>> m, t = smoothness(np.array([0.5, 1.0]), np.array([0.9, 1.0]))
    >>> g = np.array([0.0, 0.1, 0.5, 0.5])  # moneyness runs fastest
    >>> round(float((m @ g) @ (m @ g)), 6), round(float((t @ g) @ (t @ g)), 6)
    (1.0, 1.64)
    """
    n_tau, n_moneyness = np.eye(tau.size), np.eye(moneyness.size)
    along_moneyness = np.kron(n_tau, np.diff(n_moneyness, axis=0) / np.diff(moneyness)[:, None])
    along_tau = np.kron(np.diff(n_tau, axis=0) / np.diff(tau)[:, None], n_moneyness)
    return np.asarray(along_moneyness, dtype=np.float64), np.asarray(along_tau, dtype=np.float64)


@dataclass(frozen=True)
class TrainingData:
    """Training rows, the days held out after them, and the penalties of the grid.

    Attributes
    ----------
    target : ndarray, shape (n, n_target)
    condition : ndarray, shape (n, n_condition)
    validation_condition : ndarray, shape (days, n_condition)
        Of the last days; empty when none are held out.
    outcome : ndarray, shape (days, 1 + cells)
        Returns and increments of these days, each divided by its standard deviation over the training days.
    validation_scale : ndarray, shape (1, n_target) or (days, n_target)
        Takes the network's outputs to the units of ``outcome``, after ``components`` where there are any.
    components : ndarray, shape (n_target, 1 + cells), optional
        Of a network that speaks of factors.
    rest : ndarray, shape (n, 1 + cells), optional
        What the components leave out of the training days.
    along_moneyness, along_tau : ndarray, shape (differences, cells)
        As returned by :func:`smoothness`; without rows where nothing is penalised.
    """

    target: FloatArray
    condition: FloatArray
    validation_condition: FloatArray
    outcome: FloatArray
    validation_scale: FloatArray
    along_moneyness: FloatArray
    along_tau: FloatArray
    components: FloatArray | None = None
    rest: FloatArray | None = None


def training_data(history: xr.Dataset, validation_days: int | float, n_min: int) -> TrainingData:
    """Split a history into training and validation rows.

    Parameters
    ----------
    history : xarray.Dataset
        Following ``volscen/history/1``.
    validation_days : int or float
        Number of last days held out, or their share of all days when it is a fraction below 1.
    n_min : int
        Number of training rows that must remain.

    Raises
    ------
    InputError
        If too few rows remain, or a target never moves.
    """
    target, known = targets_and_conditions(history)
    n = n_training(len(target), validation_days, n_min)
    scale = moving_scale(target[:n])
    along_moneyness, along_tau = smoothness(
        history["tau"].values.astype(np.float64), history["moneyness"].values.astype(np.float64)
    )
    return TrainingData(
        target[:n], known[:n], known[n:], target[n:] / scale, 1 / scale[None], along_moneyness, along_tau
    )


def n_training(n: int, validation_days: int | float, n_min: int) -> int:
    """Number of rows left for training after the last ones are held out; too few are refused."""
    n_held = int(validation_days)
    if 0 < validation_days < 1:
        n_held = max(1, round(validation_days * n))
    if n - n_held < n_min:
        raise InputError(
            f"validation_days = {validation_days} leaves {max(n - n_held, 0)} of {n} days for training, "
            f"fewer than the {n_min} needed; hold out fewer days or pass a longer history"
        )
    return n - n_held


def moving_scale(target: FloatArray) -> FloatArray:
    """Standard deviation of every column (return, cells); a column that never moves is refused."""
    scale = target.std(axis=0)
    # A column that repeats one value has a standard deviation of rounding errors only.
    still = scale <= 1e-12 * (1 + np.abs(target).max(axis=0))
    if np.any(still):
        what = "the return" if still[0] else f"{int(still.sum())} cells of the surface"
        raise InputError(f"history: {what} never moves over the {len(target)} training days; there is no law to learn")
    return np.asarray(scale)

"""A sequential test of calibration: bets against the uniformity of PITs, whose winnings are the evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from volscen.errors import InputError

__all__ = ["BETS", "CalibrationEvidence", "calibration_evidence"]

FloatArray = npt.NDArray[np.float64]

#: What is bet on: mean and standard deviation of normalised PITs, which are (0, 1) under a calibrated law.
BETS: tuple[tuple[str, float, float], ...] = (
    ("calibrated", 0.0, 1.0),
    ("higher", 0.25, 1.0),
    ("higher", 0.5, 1.0),
    ("lower", -0.25, 1.0),
    ("lower", -0.5, 1.0),
    ("wider", 0.0, 1.25),
    ("wider", 0.0, 1.6),
    ("narrower", 0.0, 0.8),
    ("narrower", 0.0, 0.6),
)


@dataclass(frozen=True)
class CalibrationEvidence:
    """Evidence against a forecast's calibration, day by day.

    Attributes
    ----------
    log_capital : ndarray, shape (T, ...)
        Natural logarithm of what one unit of money has become by the end of each day.
    share : ndarray, shape (T, ..., 9)
        Share of the money that is on each of :data:`BETS` after the day's winnings.
    """

    log_capital: FloatArray
    share: FloatArray

    def alarm(self, significance: float) -> npt.NDArray[np.intp]:
        """First row at which the capital reaches ``1 / significance``, -1 where it never does."""
        over = self.log_capital >= -np.log(significance)
        return np.where(over.any(axis=0), over.argmax(axis=0), -1)


def calibration_evidence(pit: npt.ArrayLike, *, jump_rate: float = 0.01) -> CalibrationEvidence:
    """Bet on the PITs of consecutive days, as they come, against their being independent and uniform.

    Parameters
    ----------
    pit : array_like, shape (T, ...)
        Strictly between 0 and 1, days first; every further index is a series of its own.
    jump_rate : float
        In [0, 1): share of the money that is spread evenly over all bets every evening, so that a change is found that
        comes late. 0 lets every bet run.

    Returns
    -------
    CalibrationEvidence
        Under a calibrated law the capital is a martingale from 1: whatever is done on the way, and however long it
        goes on, the probability that it ever reaches 1/p is at most p (Ville 1939).

    Raises
    ------
    InputError
        If a PIT is not strictly inside (0, 1), or ``jump_rate`` is out of range.

    Notes
    -----
    The money is on densities of the PIT under which its normal score (Berkowitz 2001) is normal with another mean or
    standard deviation (:data:`BETS`); each day a bet pays its density at the PIT that came. Money moves between bets as
    in the simple jumper of Vovk et al. (2021, "Retrain or not retrain"). Tests of forecasts that are valid at any time:
    Henzi and Ziegel (2022), Arnold, Henzi and Ziegel (2023). Means of the capital over several series are again
    martingales, dependent as the series may be.

    Examples
    --------
    >>> import numpy as np
    >>> from volscen.evaluation import calibration_evidence
    >>> pit = np.random.default_rng(0).random((250, 2))
    >>> pit[:, 1] = 0.5 + 0.4 * (pit[:, 1] - 0.5)  # outcomes spread less than the law says
    >>> calibration_evidence(pit).alarm(0.01).tolist()
    [-1, 16]
    """
    u = np.asarray(pit, dtype=np.float64)
    if u.ndim < 1 or not np.all((u > 0) & (u < 1)):
        raise InputError("pit must be numbers strictly between 0 and 1, days along the first axis")
    if not 0 <= jump_rate < 1:
        raise InputError(f"jump_rate must lie in [0, 1), not {jump_rate!r}")
    z = ndtri(u)[..., None]
    mean, sd = np.array([bet[1] for bet in BETS]), np.array([bet[2] for bet in BETS])
    log_price = 0.5 * z * z - 0.5 * ((z - mean) / sd) ** 2 - np.log(sd)
    share = np.full((*u.shape[1:], len(BETS)), 1 / len(BETS))
    total = np.zeros(u.shape[1:])
    capital, shares = np.empty(u.shape), np.empty((*u.shape, len(BETS)))
    for day, gains in enumerate(np.exp(log_price)):
        share = (1 - jump_rate) * share + jump_rate / len(BETS)
        won = share * gains
        growth = won.sum(axis=-1)
        total = total + np.log(growth)
        share = won / growth[..., None]
        capital[day], shares[day] = total, share
    return CalibrationEvidence(capital, shares)

"""A Gaussian law of the surfaces that resemble the quotes most, conditioned on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volscen._repair._base import Observations, Prediction
from volscen._repair._gaussian import condition
from volscen._repair._prior import LEVEL_SD, Place, Prior, packaged_prior
from volscen._threads import single_threaded_blas

__all__ = ["Analogues", "make_analogues"]

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]

#: Members kept, the part of them that weights must be worth, and how closely a member must follow a quote.
MEMBERS, LEAST_WORTH, CLOSENESS = 500, 0.25, 0.06

#: Surfaces compared with the library at once (always so many, so that their number changes no bit), and members.
_SURFACES, _BLOCK = 32, 4096

#: Points up to which all that may be quoted take part in comparisons.
_MANY = 1000


@dataclass(frozen=True)
class Analogues:
    """Conditional mean under the law of the library's members nearest to the quotes."""

    prior: Prior

    def predict(self, observed: Observations) -> Prediction:
        """Predict."""
        place = self.prior.at(observed.tau, observed.log_moneyness)
        parts = []
        with single_threaded_blas():
            for start in range(0, len(observed.log_vol), _SURFACES):
                parts.append(self._block(observed.part(slice(start, start + _SURFACES)), place))
        mean, sd, z, misfit = (np.concatenate(piece) for piece in zip(*parts, strict=True))
        return Prediction(mean, sd, z, misfit)

    def _block(self, observed: Observations, place: Place) -> tuple[FloatArray, ...]:
        cost, shift = self._compare(observed, place)
        mean, sd = np.empty(observed.log_vol.shape), np.empty(observed.log_vol.shape)
        z, misfit = np.full(mean.shape, np.nan), np.empty(len(mean))
        for i, (y, noise) in enumerate(zip(observed.log_vol, observed.noise, strict=True)):
            at = np.flatnonzero(~np.isnan(y))
            centre, moments = self._law(cost[i], shift[i])
            law = condition(place, place.mean + centre @ place.basis, moments, at, y[at], noise[at] ** 2)
            mean[i], sd[i], z[i, at], misfit[i] = law.mean, np.sqrt(law.variance), law.z, law.misfit
        return mean, sd, z, misfit

    def _compare(self, observed: Observations, place: Place) -> tuple[SingleArray, SingleArray]:
        """Cost of every member to every surface (n, M), and the shift of its level that makes it least.

        The cost is the sum of w (y - Y - d)^2 plus d^2 over the variance of shifts, w being the inverse of the quote's
        variance plus that of the closeness wanted. Points beyond the library's nodes do not count.
        """
        n, scores = len(observed.log_vol), self.prior.scores
        # All points where a quote may lie: were it those where one does, the surfaces beside one would change its bits.
        may = np.arange(observed.tau.size) >= (observed.tau.size - observed.off_grid if observed.off_grid else 0)
        used = np.flatnonzero((may if may.sum() <= _MANY else observed.mask.any(axis=0)) & place.inside)
        w = np.zeros((_SURFACES, used.size))
        w[:n] = np.where(observed.mask[:, used], 1 / (observed.noise[:, used] ** 2 + CLOSENESS**2), 0)
        y = np.zeros(w.shape)
        y[:n] = np.where(observed.mask[:, used], observed.log_vol[:, used] - place.mean[used], 0)
        total = w.sum(axis=1)
        level = (w * y).sum(axis=1) / np.maximum(total, 1e-300)
        y -= level[:, None]  # single precision is enough for what is left
        left = np.column_stack([w.T, (w * y).T]).astype(np.float32)
        square = (w * y * y).sum(axis=1).astype(np.float32)
        wide, level32 = total.astype(np.float32), level.astype(np.float32)
        ridge = np.float32(1 / LEVEL_SD**2)
        cost = np.empty((len(scores), _SURFACES), dtype=np.float32)
        shift = np.empty_like(cost)
        basis = place.single[:, used]
        for start in range(0, len(scores), _BLOCK):
            part = slice(start, start + _BLOCK)
            member = scores[part] @ basis
            cross = member @ left
            plain, weighted = cross[:, :_SURFACES], cross[:, _SURFACES:]
            fit = (member * member) @ left[:, :_SURFACES]
            # Residuals r = y + level - Y: their weighted sum and sum of squares.
            first = wide * level32 - plain
            second = square - 2 * weighted + fit + level32 * (wide * level32 - 2 * plain)
            shift[part] = first / (wide + ridge)
            cost[part] = second - first * shift[part]
        return cost[:, :n].T, shift[:, :n].T

    def _law(self, cost: SingleArray, shift: SingleArray) -> tuple[FloatArray, FloatArray]:
        """Mean and covariance of the nearest members' components, the shift last."""
        kept = min(MEMBERS, cost.size)
        nearest = np.sort(np.argpartition(cost, kept - 1)[:kept])
        excess = cost[nearest].astype(np.float64)
        weight = _weights(excess - excess.min(), LEAST_WORTH * kept)
        members = np.column_stack([self.prior.scores[nearest], shift[nearest]]).astype(np.float64)
        centre = weight @ members
        spread = (members - centre) * np.sqrt(weight)[:, None]
        return centre, spread.T @ spread


def _weights(excess: FloatArray, worth: float) -> FloatArray:
    """Weights exp(-excess / 2t), with the smallest t >= 1 at which they are worth so many equal ones."""

    def at(temperature: float) -> tuple[FloatArray, float]:
        weight = np.exp(-excess / (2 * temperature))
        total = weight.sum()
        return weight / total, float(total**2 / (weight @ weight))

    low = high = 1.0
    while at(high)[1] < worth:
        low, high = high, 2 * high
    for _ in range(20 if high > 1 else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle)[1] < worth else (low, middle)
    return at(high)[0]


def make_analogues() -> Analogues:
    """Predictor with the packaged prior."""
    return Analogues(packaged_prior())

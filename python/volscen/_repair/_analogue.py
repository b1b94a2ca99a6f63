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

#: Members whose cost is computed exactly, over those kept: what single precision rounds, which depends on the other
#: surfaces compared at once, then decides nothing.
_WIDER = 1.3


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
        cost = self._compare(observed, place)
        mean, sd = np.empty(observed.log_vol.shape), np.empty(observed.log_vol.shape)
        z, misfit = np.full(mean.shape, np.nan), np.empty(len(mean))
        for i, (y, noise) in enumerate(zip(observed.log_vol, observed.noise, strict=True)):
            at = np.flatnonzero(~np.isnan(y))
            centre, moments = self._law(cost[i], y, noise, place)
            law = condition(place, place.mean + centre @ place.basis, moments, at, y[at], noise[at] ** 2)
            mean[i], sd[i], z[i, at], misfit[i] = law.mean, np.sqrt(law.variance), law.z, law.misfit
        return mean, sd, z, misfit

    def _compare(self, observed: Observations, place: Place) -> SingleArray:
        """Cost of every member to every surface (n, M), but for what is the same for all members.

        The cost is the sum of w (y - Y - d)^2 plus d^2 over the variance of shifts d, which make it least, w being the
        inverse of the quote's variance plus that of the closeness wanted. Points beyond the library's nodes do not
        count.
        """
        n, scores = len(observed.log_vol), self.prior.scores
        used = np.flatnonzero(observed.mask.any(axis=0) & place.inside)
        w = np.zeros((_SURFACES, used.size))
        w[:n] = np.where(observed.mask[:, used], _weight(observed.noise[:, used]), 0)
        y = np.zeros(w.shape)
        y[:n] = np.where(observed.mask[:, used], observed.log_vol[:, used] - place.mean[used], 0)
        total = w.sum(axis=1)
        level = (w * y).sum(axis=1) / np.maximum(total, 1e-300)
        y -= level[:, None]  # single precision is enough for what is left
        left = np.column_stack([w.T, (w * y).T]).astype(np.float32)
        # With r = y - Y it is sum w r^2 - (sum w r)^2 / (sum w + 1/v): here without the terms in y alone.
        pull = 1 / (total + 1 / LEVEL_SD**2)
        ridge, lean = pull.astype(np.float32), (2 * pull * level / LEVEL_SD**2).astype(np.float32)
        cost = np.empty((len(scores), _SURFACES), dtype=np.float32)
        basis = place.single[:, used]
        for start in range(0, len(scores), _BLOCK):
            part = slice(start, start + _BLOCK)
            member = scores[part] @ basis
            cross = member @ left
            plain, weighted = cross[:, :_SURFACES], cross[:, _SURFACES:]
            cost[part] = (member * member) @ left[:, :_SURFACES] - 2 * weighted - plain * (ridge * plain + lean)
        return cost[:, :n].T

    def _law(self, cost: SingleArray, y: FloatArray, noise: FloatArray, place: Place) -> tuple[FloatArray, FloatArray]:
        """Mean and covariance of the nearest members' components, the shift last.

        Parameters
        ----------
        cost : ndarray, shape (M,)
            In single precision, which only says which members may be among the nearest.
        y, noise : ndarray, shape (P,)
        """
        kept = min(MEMBERS, cost.size)
        wider = min(int(_WIDER * kept), cost.size)
        likely = np.sort(np.argpartition(cost, wider - 1)[:wider])
        exact, shift = self._exact(likely, y, noise, place)
        nearest = np.sort(np.argsort(exact, kind="stable")[:kept])
        excess = exact[nearest]
        weight = _weights(excess - excess.min(), LEAST_WORTH * kept)
        members = np.column_stack([self.prior.scores[likely[nearest]].astype(np.float64), shift[nearest]])
        centre = weight @ members
        spread = (members - centre) * np.sqrt(weight)[:, None]
        return centre, spread.T @ spread

    def _exact(
        self, members: npt.NDArray[np.intp], y: FloatArray, noise: FloatArray, place: Place
    ) -> tuple[FloatArray, FloatArray]:
        """Costs of some members, and the shifts of level that make them least."""
        used = np.flatnonzero(~np.isnan(y) & place.inside)
        w = _weight(noise[used])
        residual = y[used] - place.mean[used] - self.prior.scores[members].astype(np.float64) @ place.basis[:-1, used]
        first = residual @ w
        shift = first / (w.sum() + 1 / LEVEL_SD**2)
        return (residual * residual) @ w - first * shift, shift


def _weight(noise: FloatArray) -> FloatArray:
    return np.asarray(1 / (noise**2 + CLOSENESS**2))


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

"""A Gaussian law of surfaces, conditioned on the quotes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from volscen._repair._base import Observations, Prediction
from volscen._repair._gaussian import condition
from volscen._repair._prior import Prior, packaged_prior
from volscen._threads import single_threaded_blas

__all__ = ["GaussianProcess", "make_global"]


@dataclass(frozen=True)
class GaussianProcess:
    """Conditional mean under the mean and covariance of the whole library."""

    prior: Prior

    def predict(self, observed: Observations) -> Prediction:
        """Predict."""
        place = self.prior.at(observed.tau, observed.log_moneyness)
        mean, sd = np.empty(observed.log_vol.shape), np.empty(observed.log_vol.shape)
        z, misfit = np.full(mean.shape, np.nan), np.empty(len(mean))
        with single_threaded_blas():
            for i, (y, noise) in enumerate(zip(observed.log_vol, observed.noise, strict=True)):
                at = np.flatnonzero(~np.isnan(y))
                law = condition(place, place.mean, place.moments, at, y[at], noise[at] ** 2)
                mean[i], sd[i], z[i, at], misfit[i] = law.mean, np.sqrt(law.variance), law.z, law.misfit
        return Prediction(mean, sd, z, misfit)


def make_global() -> GaussianProcess:
    """Predictor with the packaged prior."""
    return GaussianProcess(packaged_prior())

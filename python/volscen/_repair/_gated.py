"""The default: analogues where they fit, the whole library's law where they do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from volscen._repair._analogue import Analogues
from volscen._repair._base import Observations, Prediction
from volscen._repair._global import GaussianProcess
from volscen._repair._prior import Prior, packaged_prior

__all__ = ["Gated", "make_gated"]

#: Slope and centre of the gate in the logarithm of the analogues' misfit.
GATE_SLOPE, GATE_CENTRE = 8.0, 0.2


@dataclass(frozen=True)
class Gated:
    """Mixture of the two predictors, by how well the analogues predict each quote from the others."""

    prior: Prior

    def predict(self, observed: Observations) -> Prediction:
        """Predict."""
        a, b = GaussianProcess(self.prior).predict(observed), Analogues(self.prior).predict(observed)
        assert a.z is not None
        assert b.z is not None
        assert b.misfit is not None
        share = 1 / (1 + np.exp(GATE_SLOPE * (np.log(np.maximum(b.misfit, 1e-12)) - GATE_CENTRE)))[:, None]
        mean = share * b.mean + (1 - share) * a.mean
        variance = share * (b.sd**2 + (b.mean - mean) ** 2) + (1 - share) * (a.sd**2 + (a.mean - mean) ** 2)
        z = np.sign(a.z + b.z) * (np.abs(a.z) + np.abs(b.z)) / 2
        return Prediction(mean, np.sqrt(variance), z, b.misfit)


def make_gated() -> Gated:
    """Predictor with the packaged prior."""
    return Gated(packaged_prior())

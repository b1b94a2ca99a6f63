"""The nearest surfaces without static arbitrage, measured in what is not known of each point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from volscen import arbitrage
from volscen._projection import ProjectionStatus
from volscen.errors import FitError
from volscen.surface._sqp import LEAST_G, project_with_density, smallest_g

__all__ = ["Projected", "project_surfaces"]

FloatArray = npt.NDArray[np.float64]

#: No point is held more than so many times (in variance) as firmly as another: quotes bear noise.
_FIRMEST = 1e4


@dataclass(frozen=True)
class Projected:
    """Surfaces (n, J, I) and what became of each: its status and smallest g."""

    implied_vol: FloatArray
    status: npt.NDArray[np.int8]
    least_g: FloatArray


def project_surfaces(
    implied_vol: FloatArray, sd: FloatArray, tau: FloatArray, moneyness: FloatArray, conditions: str
) -> Projected:
    """Project surfaces.

    Parameters
    ----------
    implied_vol : ndarray, shape (n, J, I)
    sd : ndarray, shape (n, J, I)
        Standard deviation of every volatility: a change counts in units of it. NaN weighs by vega.
    tau, moneyness : ndarray
    conditions : {"density", "prices", "none"}
        What must hold: prices without arbitrage, and Durrleman's g above its least value at inner points.
    """
    g = smallest_g(implied_vol, tau, moneyness)
    if conditions == "none":
        return Projected(implied_vol, np.full(len(g), ProjectionStatus.INVALID, dtype=np.int8), g)
    found, status = arbitrage.project(implied_vol, tau, moneyness)
    if conditions == "density":
        for i in np.flatnonzero((status != ProjectionStatus.FREE) | ~(g >= LEAST_G)):
            found[i], status[i] = project_with_density(
                implied_vol[i], tau, moneyness, single=False, vega_floor=1e-3, weight=_firmness(sd[i])
            )
    lost = np.flatnonzero(status >= ProjectionStatus.FAILED)
    if lost.size:
        raise FitError(
            f"{lost.size} surfaces could not be projected: none without arbitrage was found near them; give "
            "free='density', or free='none' and look at them with volscen.surface.diagnose"
        )
    return Projected(found, status, smallest_g(found, tau, moneyness))


def _firmness(sd: FloatArray) -> FloatArray | None:
    if not np.all(np.isfinite(sd)):
        return None
    weight: npt.NDArray[Any] = 1 / sd**2
    return np.asarray(np.maximum(weight, weight.max() / _FIRMEST))

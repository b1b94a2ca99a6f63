"""Networks fitted from several seeds, whose forecasts are averaged."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.errors import FitError, InputError
from volscen.evaluation.forecast._protocol import SurfaceForecaster

__all__ = ["SeedEnsemble", "is_network"]

FloatArray = npt.NDArray[np.float64]


class SeedEnsemble(SurfaceForecaster):
    """Mean log surface of one network fitted from several seeds.

    Single networks differ by their seed as much as by their kind; the mean of several is better than most of them.

    Parameters
    ----------
    network : SurfaceForecaster
        With the attribute ``seed``; it is copied, and stays as it is.
    seeds : int or sequence of int
        How many, from 0 on; or which.

    Attributes
    ----------
    members_ : list of SurfaceForecaster
        As fitted.

    Raises
    ------
    InputError
        If the network has no seed, or the seeds are not whole numbers, each once.

    Examples
    --------
    >>> import numpy as np, volscen
    >>> from volscen.evaluation import forecast
    >>> history = volscen.datasets.sample_history()
    >>> model = forecast.SeedEnsemble(forecast.Lstm(hidden=4, epochs=1), seeds=2).fit(history, (1, 5))
    >>> model.forecast(history, np.array([500])).shape
    (1, 2, 8, 10)
    """

    members_: list[SurfaceForecaster]

    def __init__(self, network: SurfaceForecaster, seeds: int | Sequence[int] = 5) -> None:
        if not isinstance(network, SurfaceForecaster) or not hasattr(network, "seed"):
            raise InputError(f"network must be a forecaster with a seed, such as forecast.Lstm(), not {network!r}")
        self.network = network
        self.seeds = _seeds(seeds)
        self.name = network.name  # type: ignore[misc]
        self.n_past = network.n_past
        self.uses_exogenous = network.uses_exogenous  # type: ignore[misc]

    def fit(self, history: xr.Dataset, horizons: tuple[int, ...]) -> Self:
        """Fit a copy of the network from each seed."""
        members = []
        for seed in self.seeds:
            member: Any = copy.deepcopy(self.network)
            member.seed = seed
            members.append(member.fit(history, horizons))
        self.members_ = members
        return self

    def forecast(self, history: xr.Dataset, rows: npt.NDArray[np.intp]) -> FloatArray:
        """Mean of the members' log surfaces, as vols (n, horizon, tau, moneyness)."""
        if not hasattr(self, "members_"):
            raise FitError("the ensemble has not been fitted; call fit first")
        logs = [np.log(member.forecast(history, rows)) for member in self.members_]
        return np.asarray(np.exp(np.mean(logs, axis=0)))


def is_network(model: SurfaceForecaster) -> bool:
    """Whether a forecaster's fit depends on a seed."""
    return hasattr(model, "seed") and hasattr(model, "epochs")


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    if isinstance(seeds, int | np.integer) and not isinstance(seeds, bool):
        if seeds < 1:
            raise InputError(f"seeds must be at least 1, not {seeds!r}")
        return tuple(range(int(seeds)))
    given = tuple(seeds) if isinstance(seeds, Sequence | np.ndarray) and not isinstance(seeds, str) else (seeds,)
    if not given or any(isinstance(s, bool) or not isinstance(s, int | np.integer) or s < 0 for s in given):
        raise InputError(f"seeds must be a number of seeds, or whole numbers of at least 0, not {seeds!r}")
    if len(set(given)) < len(given):
        raise InputError(f"seeds must each be named once, not {seeds!r}")
    return tuple(int(s) for s in given)

"""What makes scenarios of several assets move together: common past days, drawn together or matched by rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.optimize import linear_sum_assignment
from scipy.special import ndtri

from volscen.errors import FitError, InputError
from volscen.generators._base import Generator
from volscen.generators._stillness import STILL
from volscen.history import State

__all__ = ["Dependence", "common_rows", "draws_of"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: The return and this many principal components of the log-vol moves are matched.
_COMPONENTS = 2
_DECAY, _BURN_IN = 0.94, 60
_LONGEST_GAP = np.timedelta64(14, "D")


def common_rows(
    dates: Mapping[str, npt.NDArray[np.datetime64]], lag: Mapping[str, int], fewest: int
) -> dict[str, IntArray]:
    """Rows of each asset's dates that belong together, oldest first.

    Assets without a lag are joined on equal dates; one with a lag on its first date after each, which belongs to the
    last of those before it. A gap of more than two weeks is no next day.

    Raises
    ------
    InputError
        If fewer than ``fewest`` are left.
    """
    common: npt.NDArray[np.datetime64] | None = None
    for name, own in dates.items():
        if not lag[name]:
            common = own if common is None else np.intersect1d(common, own)
    assert common is not None  # one asset at least has no lag
    keep = np.ones(common.size, dtype=bool)
    following: dict[str, IntArray] = {}
    for name, own in dates.items():
        if lag[name]:
            row = np.searchsorted(own, common, side="right")
            known = row < own.size
            near = np.zeros(common.size, dtype=bool)
            near[known] = own[row[known]] - common[known] <= _LONGEST_GAP
            keep &= near & np.append(row[1:] != row[:-1], True)
            following[name] = row
    if keep.sum() < fewest:
        raise InputError(
            f"the assets share {int(keep.sum())} days of those drawn from and {fewest} are needed; give histories that "
            "overlap more, or larger pools (residual_days, window)"
        )
    return {
        name: (following[name][keep] if lag[name] else np.searchsorted(own, common[keep])).astype(np.int64)
        for name, own in dates.items()
    }


# --------------------------------------------------------------------------------------------- by dates
class _Recorder(np.random.Generator):
    """Remembers what was drawn; anything but numbers of days and uniform numbers spoils the record."""

    log: list[Any]
    spoilt: bool

    def integers(self, *args: Any, **options: Any) -> Any:
        drawn = super().integers(*args, **options)
        self.log.append(np.array(drawn).tolist())
        return drawn

    def random(self, *args: Any, **options: Any) -> Any:
        drawn = super().random(*args, **options)
        self.log.append(np.array(drawn).tolist())
        return drawn


def _spoiling(name: str) -> Any:
    def method(self: _Recorder, *args: Any, **options: Any) -> Any:
        self.spoilt = True
        return getattr(np.random.Generator, name)(self, *args, **options)

    return method


for _name in dir(np.random.Generator):
    if not _name.startswith("_") and _name not in ("integers", "random", "bit_generator", "spawn"):
        setattr(_Recorder, _name, _spoiling(_name))


def draws_of(model: Generator, state: State) -> list[Any] | None:
    """Days drawn for 16 paths of three steps from fixed random numbers; None where other numbers are drawn too."""
    rng = _Recorder(np.random.PCG64(0))
    rng.log, rng.spoilt = [], False
    model.sample(state, 16, 3, rng)
    return None if rng.spoilt else rng.log


# --------------------------------------------------------------------------------------------- by ranks
@dataclass(frozen=True)
class Dependence:
    """Normal scores of the moves of common past days, and how moves are read off scenarios.

    Attributes
    ----------
    loadings : dict of str to ndarray, shape (cells, components)
        From log-vol moves to the factors that are matched besides the return.
    scores : dict of str to ndarray, shape (days, 1 + components)
        Of each asset on the common days.
    """

    loadings: dict[str, FloatArray]
    scores: dict[str, FloatArray]

    @property
    def n_days(self) -> int:
        """Common days."""
        return len(next(iter(self.scores.values())))

    @classmethod
    def of(cls, histories: Mapping[str, xr.Dataset], lag: Mapping[str, int], fewest: int) -> Self:
        """Read the dependence off the histories' common days."""
        from scipy.signal import lfilter  # here: it brings scipy.stats, which workers that draw can do without

        loadings, moves, dates = {}, {}, {}
        for name, history in histories.items():
            log_iv = np.log(history["implied_vol"].values.astype(np.float64)).reshape(history.sizes["date"], -1)
            increment = np.diff(log_iv, axis=0)
            sd = increment.std(axis=0)
            if len(increment) <= _BURN_IN or np.any(sd <= STILL):
                raise FitError(f"{name}: history is too short or has a cell that never changes")
            axes = np.linalg.eigh(np.atleast_2d(np.cov((increment / sd).T)))[1]
            vectors = axes[:, ::-1][:, : min(_COMPONENTS, sd.size)]
            loadings[name] = vectors * np.where(vectors.sum(axis=0) < 0, -1.0, 1.0) / sd[:, None]
            x = np.column_stack([history["log_return"].values[1:].astype(np.float64), increment @ loadings[name]])
            start = np.mean(x**2, axis=0)
            smooth = lfilter([1 - _DECAY], [1, -_DECAY], x**2, axis=0, zi=_DECAY * start[None])[0]
            moves[name] = (x[1:] / np.sqrt(np.maximum(smooth[:-1], 1e-4 * start)))[_BURN_IN:]
            dates[name] = history["date"].values.astype("datetime64[D]")[2 + _BURN_IN :]
        rows = common_rows(dates, lag, fewest)
        return cls(loadings, {name: normal_scores(moves[name][rows[name]]) for name in moves})

    def order(
        self, name: str, state: State, log_return: FloatArray, implied_vol: FloatArray, chosen: IntArray
    ) -> IntArray:
        """For each of the days chosen the scenario that is matched with it: a permutation of the scenarios."""
        last = np.log(implied_vol[:, -1]).reshape(len(log_return), -1) - state.log_iv[-1].ravel()
        own = normal_scores(np.column_stack([log_return.sum(axis=1), last @ self.loadings[name]]))
        days = self.scores[name][chosen]
        cost = (own**2).sum(axis=1)[None, :] + (days**2).sum(axis=1)[:, None] - 2 * days @ own.T
        return np.asarray(linear_sum_assignment(cost)[1], dtype=np.int64)

    def arrays(self, names: list[str]) -> dict[str, npt.NDArray[Any]]:
        """Arrays for the model file."""
        return {f"coupling/loadings{i}": self.loadings[name] for i, name in enumerate(names)} | {
            f"coupling/scores{i}": self.scores[name] for i, name in enumerate(names)
        }

    @classmethod
    def restore(cls, arrays: Mapping[str, Any], names: list[str], models: Mapping[str, Generator]) -> Self:
        """From the model file's arrays; ValueError where they do not fit."""
        loadings = {name: arrays[f"coupling/loadings{i}"] for i, name in enumerate(names)}
        scores = {name: arrays[f"coupling/scores{i}"] for i, name in enumerate(names)}
        for name in names:
            cells = models[name].tau_.size * models[name].moneyness_.size
            fits = loadings[name].shape == (cells, scores[name].shape[1] - 1)
            if not (fits and np.isfinite(loadings[name]).all() and np.isfinite(scores[name]).all()):
                raise ValueError("coupling and the grid do not fit together")
        if len({len(score) for score in scores.values()}) != 1:
            raise ValueError("coupling has days that are not common")
        return cls(loadings, scores)


def normal_scores(x: FloatArray) -> FloatArray:
    """Ranks of each column, through the normal quantile function; ties in order."""
    rank = np.argsort(np.argsort(x, axis=0, kind="stable"), axis=0, kind="stable")
    return np.asarray(ndtri((rank + 0.5) / len(x)))

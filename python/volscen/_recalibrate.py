"""Correcting what past ranks show: every quantity's law bent as its outcomes fell, the scenarios' dependence kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.special import ndtri

from volscen import arbitrage, schema
from volscen._reweight import Beta, forget_projection, reweight
from volscen.errors import InputError
from volscen.portfolio._contracts import one_date

__all__ = ["Recalibration", "recalibrate"]

FloatArray = npt.NDArray[np.float64]

#: A rank of 0 or 1 has no normal score: ranks are kept this far from the ends, half a scenario of a thousand.
_END = 5e-4

#: Widths are corrected by at most this factor, and centres by as many standard deviations.
_WIDEST, _FARTHEST = 1.5, 0.5

#: Share of the scenarios on either side whose slope carries a law on beyond its outermost scenarios.
_TAIL = 0.05


@dataclass(frozen=True)
class Recalibration:
    """How the outcomes of past days fell within their scenarios, for each quantity.

    With Phi^-1 of the rank of an outcome among its scenarios as its normal score, outcomes of a calibrated law have
    scores of mean 0 and standard deviation 1.

    Attributes
    ----------
    tau, moneyness : ndarray
        Grid of the cells.
    centre, width : ndarray, shape (1 + cells,)
        Mean and standard deviation of the scores, shrunk: of the return, then of every cell in order (tau, moneyness).
    days : int
        How many were seen.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import walk_forward
    >>> history = volscen.datasets.sample_history()
    >>> past, later = history.date.values[[1000, 1060]]
    >>> walk = walk_forward("bootstrap", history, first=past, last=later, n_scenarios=200, measures=())
    >>> volscen.Recalibration.fit(walk).width.shape
    (81,)
    """

    tau: FloatArray
    moneyness: FloatArray
    centre: FloatArray
    width: FloatArray
    days: int

    @classmethod
    def fit(cls, walk: xr.Dataset, *, arm: str = "weighted", prior_days: float = 250) -> Self:
        """Learn from days that a generator was walked through.

        Parameters
        ----------
        walk : xarray.Dataset
            From :func:`volscen.evaluation.walk_forward` or :func:`volscen.evaluation.score_scenarios`; days that are
            over when the recalibration is used.
        arm : {"weighted", "raw"}
            Ranks by the arbitrage weights, or without.
        prior_days : float
            Means and log standard deviations are shrunk by n / (n + prior_days): with few days little is changed.

        Raises
        ------
        InputError
            If the walk holds no ranks, fewer than 20 days, or an argument is out of range.
        """
        if "pit" not in walk or "cell_tau" not in walk.coords:
            raise InputError("walk holds no ranks (pit); pass what volscen.evaluation.walk_forward returned")
        if arm not in walk["arm"].values:
            raise InputError(f"arm must be one of {', '.join(map(str, walk['arm'].values))}, not {arm!r}")
        if not (np.isfinite(prior_days) and prior_days >= 0):
            raise InputError(f"prior_days must be finite and not negative, not {prior_days!r}")
        n = walk.sizes["date"]
        if n < 20:
            raise InputError(f"walk holds {n} days; at least 20 are needed")
        cells = np.isfinite(walk["cell_tau"].values)
        chosen = np.concatenate([np.flatnonzero(walk["variable"].values == "return"), np.flatnonzero(cells)])
        rank = walk["pit"].sel(arm=arm).transpose("date", "variable").values[:, chosen]
        score = ndtri(np.clip(rank, _END, 1 - _END))
        share = n / (n + prior_days)
        centre = np.clip(share * score.mean(axis=0), -_FARTHEST, _FARTHEST)
        width = np.exp(np.clip(share * np.log(score.std(axis=0)), -np.log(_WIDEST), np.log(_WIDEST)))
        tau, moneyness = (np.unique(walk[name].values[cells]) for name in ("cell_tau", "cell_moneyness"))
        return cls(tau, moneyness, centre, width, n)


def recalibrate(cube: xr.Dataset, recalibration: Recalibration, *, beta: Beta = "auto") -> xr.Dataset:
    """Bend the law of the return and of every cell as a recalibration says; every scenario keeps its rank in each.

    Parameters
    ----------
    cube : xarray.Dataset
        One-step scenarios of one date, with their weights.
    recalibration : Recalibration
        Fitted on one-day-ahead scenarios of the same generator, on the same grid.
    beta : float, "auto" or "paper"
        Strength of the arbitrage weights of the surfaces as they are then; weights of the cube are used for the ranks.

    Returns
    -------
    xarray.Dataset
        With new ``log_return``, ``spot``, ``implied_vol``, ``arbitrage_penalty`` and ``weight``; the attribute
        ``recalibrated`` is the number of days learned from. The whole set enters every value: fewer scenarios are no
        prefix of more.

    Raises
    ------
    InputError
        If the cube has several steps or dates, or another grid.

    Notes
    -----
    A scenario at normal score z among the scenarios moves to where the law is at centre + width z: a correction of the
    quantile function (Gneiting and Ranjan 2013), with the dependence kept as the Schaake shuffle keeps it (Clark et al.
    2004; Schefzik, Thorarinsdottir and Gneiting 2013). Between scenarios the law is linear in the score, beyond the
    outermost it goes on with the slope of the 5% nearest the end. Vols are bent in logarithms.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import walk_forward
    >>> history = volscen.datasets.sample_history()
    >>> past, later = history.date.values[[1000, 1060]]
    >>> walk = walk_forward("bootstrap", history, first=past, last=later, n_scenarios=200, measures=())
    >>> learned = volscen.Recalibration.fit(walk)
    >>> model = volscen.fit(history, "bootstrap")
    >>> cube = volscen.recalibrate(volscen.generate(model, history, n_scenarios=1000, seed=1), learned)
    >>> cube.attrs["recalibrated"]
    61
    """
    schema.validate(cube, schema=schema.SCENARIOS)
    cube = one_date(cube)
    if cube.sizes["step"] != 1 or int(cube["step"].values[0]) != 1:
        raise InputError("cube must have one step, the first: ranks of later steps were not seen")
    schema.check_same_grid(recalibration.tau, recalibration.moneyness, cube, "the recalibration")
    weight = schema.check_weights(cube["weight"].values, cube.sizes["scenario"])
    vol = cube["implied_vol"].transpose("scenario", "step", "tau", "moneyness")
    n = vol.sizes["scenario"]
    values = np.column_stack(
        [cube["log_return"].values.reshape(n), np.log(vol.values.astype(np.float64)).reshape(n, -1)]
    )
    for column in range(values.shape[1]):
        values[:, column] = _bent(
            values[:, column], weight, float(recalibration.centre[column]), float(recalibration.width[column])
        )
    surfaces = np.exp(values[:, 1:]).reshape(vol.shape).astype(vol.dtype)
    penalty = arbitrage.penalty(surfaces.astype(np.float64), cube["tau"].values, cube["moneyness"].values)
    out = (
        forget_projection(cube)
        .drop_vars("arbitrage_penalty_raw", errors="ignore")
        .assign(
            implied_vol=(vol.dims, surfaces, vol.attrs),
            log_return=cube["log_return"].copy(data=values[:, 0].reshape(cube["log_return"].shape)),
            arbitrage_penalty=(("scenario", "step"), penalty, cube["arbitrage_penalty"].attrs),
        )
    )
    if "spot" in cube:
        out["spot"] = cube["spot"].copy(data=float(cube["spot0"]) * np.exp(out["log_return"].values))
    out.attrs["recalibrated"] = recalibration.days
    return reweight(out, beta=beta)


def _bent(values: FloatArray, weight: FloatArray, centre: float, width: float) -> FloatArray:
    """Values moved along their own law from score z to centre + width z; equal ones stay equal."""
    own, which = np.unique(values, return_inverse=True)
    if own.size == 1 or (centre == 0 and width == 1):
        return values
    w = np.bincount(which, weights=weight)
    total = np.cumsum(w)
    # The middle of each value's own share of the weight; without weight it has its neighbour's place.
    score = ndtri(np.clip(total - w / 2, 1e-9, 1 - 1e-9))
    target = centre + width * score
    bent = np.interp(target, score, own)
    for end, share, beyond in ((0, _TAIL, target < score[0]), (-1, 1 - _TAIL, target > score[-1])):
        inner = min(int(np.searchsorted(total, share)), own.size - 1)
        run = score[inner] - score[end]
        slope = (own[inner] - own[end]) / run if run else 0.0
        bent[beyond] = own[end] + slope * (target[beyond] - score[end])
    return np.asarray(bent[which])

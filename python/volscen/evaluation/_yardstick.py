"""What scenarios of one history are measured with: scales, components, named variables, portfolios.

All of it is fixed by the days before ``train_end``: nothing of the period to be judged enters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._dates import to_day
from volscen.errors import InputError
from volscen.evaluation._portfolios import StandardPortfolios
from volscen.evaluation._surfaces import strip_volatility

__all__ = ["NAMED_CELLS", "Yardstick"]

FloatArray = npt.NDArray[np.float64]

#: Cells reported by name: the nearest grid point to (days, K/F).
NAMED_CELLS: dict[str, tuple[float, float]] = {
    "atm30": (30, 1.0),
    "atm91": (91, 1.0),
    "atm365": (365, 1.0),
    "put.8_30": (30, 0.8),
    "put.8_91": (91, 0.8),
}
_N_COMPONENTS = 5
_TAILS = (0.1, 0.9)
_TRAIN_MIN = 30


@dataclass(frozen=True)
class Yardstick:
    """Moves of a history and what they are divided by.

    Attributes
    ----------
    date : ndarray of datetime64[D], shape (T,)
    tau, moneyness : ndarray
    implied_vol : ndarray, shape (T, tau, moneyness)
    move : ndarray, shape (T - 1, 2 + cells)
        Annualised return, log-vol increments, log change of the 30-day strip volatility; row t leads to ``date[t +
        1]``.
    annualise : float
        Square root of the periods a year.
    scale : ndarray, shape (2 + cells,)
        Standard deviations of the moves before ``train_end``.
    component : ndarray, shape (cells, k)
        First principal components of the increments before ``train_end``.
    component_scale : ndarray, shape (k,)
        Standard deviations of their scores.
    threshold : ndarray, shape (2, 2 + cells)
        10% and 90% quantiles of the moves before ``train_end``.
    variable : tuple of str
        Names of the moves.
    named : dict of str to int
        Position of the named cells among the moves.
    variogram : ndarray of int
        Moves that enter the variogram score: the return and 12 cells spread over the grid.
    portfolios : StandardPortfolios
    """

    date: npt.NDArray[np.datetime64]
    tau: FloatArray
    moneyness: FloatArray
    implied_vol: FloatArray
    move: FloatArray
    annualise: float
    scale: FloatArray
    component: FloatArray
    component_scale: FloatArray
    threshold: FloatArray
    variable: tuple[str, ...]
    named: dict[str, int]
    variogram: npt.NDArray[np.intp]
    portfolios: StandardPortfolios

    @classmethod
    def of(cls, history: xr.Dataset, train_end: object) -> Yardstick:
        """Measure a history.

        Raises
        ------
        InputError
            If ``history`` is none, fewer than 30 moves precede ``train_end``, or a series does not move before it.
        """
        schema.validate(history, schema=schema.HISTORY)
        date = history["date"].values.astype("datetime64[D]")
        tau, moneyness = history["tau"].values.astype(np.float64), history["moneyness"].values.astype(np.float64)
        implied_vol = history["implied_vol"].values.astype(np.float64)
        annualise = float(np.sqrt(float(history.attrs["periods_per_year"])))
        log_iv = np.log(implied_vol).reshape(date.size, -1)
        strip = np.log(strip_volatility(implied_vol, tau, moneyness))
        move = np.column_stack(
            [annualise * history["log_return"].values[1:], np.diff(log_iv, axis=0), np.diff(strip)]
        ).astype(np.float64)
        end = to_day(train_end, "train_end")
        train = move[date[1:] < end]
        if len(train) < _TRAIN_MIN:
            raise InputError(
                f"train_end {end} leaves {len(train)} moves before it (the history begins on {date[0]}); scales need "
                f"at least {_TRAIN_MIN}"
            )
        scale = train.std(axis=0)
        variable = _names(tau, moneyness)
        if np.any(scale <= 0):
            still = ", ".join(variable[i] for i in np.flatnonzero(scale <= 0)[:5])
            raise InputError(f"history does not move before train_end in: {still}; scores have no scale there")
        vectors = np.linalg.eigh(np.cov(train[:, 1:-1].T, ddof=1).reshape(scale.size - 2, -1))[1]
        component = np.ascontiguousarray(vectors[:, ::-1][:, :_N_COMPONENTS])
        return cls(
            date=date,
            tau=tau,
            moneyness=moneyness,
            implied_vol=implied_vol,
            move=move,
            annualise=annualise,
            scale=scale,
            component=component,
            component_scale=(train[:, 1:-1] @ component).std(axis=0),
            threshold=np.quantile(train, _TAILS, axis=0),
            variable=variable,
            named={name: 1 + _nearest(tau, moneyness, *place) for name, place in NAMED_CELLS.items()},
            variogram=_spread(tau.size, moneyness.size),
            portfolios=StandardPortfolios.on_grid(tau, moneyness),
        )

    def moves(self, row: int, implied_vol: FloatArray, log_return: FloatArray) -> FloatArray:
        """Moves (n, 2 + cells) that scenarios issued at ``date[row]`` make, in the order of ``variable``."""
        known = self.implied_vol[row]
        increments = np.log(implied_vol).reshape(log_return.size, -1) - np.log(known).ravel()
        strip = np.log(strip_volatility(implied_vol, self.tau, self.moneyness))
        strip -= np.log(strip_volatility(known[None], self.tau, self.moneyness))
        return np.column_stack([self.annualise * log_return, increments, strip])

    def cell_coordinates(self) -> tuple[FloatArray, FloatArray]:
        """Time to expiry and moneyness of every move; NaN where it is no cell."""
        outer = np.full(1, np.nan)
        tau, moneyness = np.repeat(self.tau, self.moneyness.size), np.tile(self.moneyness, self.tau.size)
        return np.concatenate([outer, tau, outer]), np.concatenate([outer, moneyness, outer])


def _names(tau: FloatArray, moneyness: FloatArray) -> tuple[str, ...]:
    cells = [f"{365 * t:.3g}d K/F={m:.4g}" for t in tau for m in moneyness]
    return ("return", *cells, "vix30")


def _nearest(tau: FloatArray, moneyness: FloatArray, days: float, m: float) -> int:
    return int(np.argmin(np.abs(tau - days / 365))) * moneyness.size + int(np.argmin(np.abs(moneyness - m)))


def _spread(n_tau: int, n_moneyness: int) -> npt.NDArray[np.intp]:
    """The return and the cells of three maturities by four moneyness points, ends included."""
    rows = sorted({round(float(q)) for q in np.linspace(0, n_tau - 1, 3)})
    columns = sorted({round(float(q)) for q in np.linspace(0, n_moneyness - 1, 4)})
    return np.array([0, *(1 + j * n_moneyness + i for j in rows for i in columns)], dtype=np.intp)

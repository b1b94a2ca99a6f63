"""What is read off paths: sums from which autocorrelations, leverage, persistence and variance ratios follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.surface._interpolate import interpolate_vol

__all__ = ["FEWEST_STEPS", "Figures", "Paths", "paths_of", "windows_of"]

FloatArray = npt.NDArray[np.float64]

FEWEST_STEPS = 10
_TENORS = (30, 91, 365)
_SKEW = (0.9, 1.05)
_LAGS = (1, 2, 3, 5, 10)
_PERSISTENCE_LAG = 5
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Paths:
    """Series of paths: returns (n, H), and levels with the start, (n, H + 1) each."""

    log_return: FloatArray
    levels: dict[str, FloatArray]
    periods_per_year: float

    def rows(self, keep: slice) -> Paths:
        """Some of the paths."""
        return Paths(self.log_return[keep], {k: v[keep] for k, v in self.levels.items()}, self.periods_per_year)


def paths_of(cube: xr.Dataset) -> Paths:
    """Paths of a scenario cube of one date."""
    surfaces = cube["implied_vol"].transpose("scenario", "step", "tau", "moneyness").values
    n = len(surfaces)
    after = _levels(surfaces, cube)
    before = _levels(cube["implied_vol0"].transpose("tau", "moneyness").values[None], cube)
    levels = {name: np.column_stack([np.full(n, before[name][0]), after[name]]) for name in after}
    r = cube["log_return"].transpose("scenario", "step").values.astype(np.float64)
    return Paths(r, levels, float(cube.attrs["periods_per_year"]))


def windows_of(history: xr.Dataset, starts: npt.NDArray[np.int64], horizon: int) -> Paths:
    """The paths that a history took from some of its rows."""
    rows = starts[:, None] + np.arange(horizon + 1)
    levels = _levels(history["implied_vol"].transpose("date", "tau", "moneyness").values, history)
    r = history["log_return"].values.astype(np.float64)[rows[:, 1:]]
    return Paths(r, {name: level[rows] for name, level in levels.items()}, float(history.attrs["periods_per_year"]))


def _levels(surfaces: npt.NDArray[np.floating], ds: xr.Dataset) -> dict[str, FloatArray]:
    """At-the-money log vols, term slope and skew, the points moved onto the grid where they lie beyond it."""
    tau, moneyness = ds["tau"].values.astype(np.float64), ds["moneyness"].values.astype(np.float64)

    def vol(days: float, m: float) -> FloatArray:
        t = float(np.clip(days / 365, tau[0], tau[-1]))
        return np.asarray(
            interpolate_vol(surfaces, tau, moneyness, t, float(np.clip(m, moneyness[0], moneyness[-1]))),
            dtype=np.float64,
        )

    atm = {days: vol(days, 1.0) for days in _TENORS}
    return {
        **{f"atm{days}": np.log(level) for days, level in atm.items()},
        "slope": atm[_TENORS[-1]] - atm[_TENORS[0]],
        "skew": vol(_TENORS[1], _SKEW[0]) - vol(_TENORS[1], _SKEW[1]),
    }


class Figures:
    """Figures of paths of one length, as functions of weighted sums over paths.

    ``moments`` gives the summands of each path and ``values`` the figures of their weighted sums, so that a resample of
    data is a row of weights and the paths of many dates need not be held at once. Quantiles come from ``features``.
    """

    def __init__(self, horizon: int) -> None:
        lags = [lag for lag in _LAGS if 2 * lag <= horizon]
        near = [lag for lag in lags if lag <= 5]
        spans = [span for span in (5, 10, 21) if span <= horizon]
        self.correlations = [
            *(("return autocorrelation", "r", "r", lag) for lag in near),
            *(("clustering, absolute", "abs", "abs", lag) for lag in lags),
            *(("clustering, squared", "square", "square", lag) for lag in near),
            *(("leverage on absolute return", "r", "abs", lag) for lag in near),
            *(("leverage on volatility", "r", "vol", lag) for lag in (0, *near)),
            *(("volatility autocorrelation", "vol", "vol", lag) for lag in near),
        ]
        self.levels = ["atm30", "atm91", "atm365", "slope", "skew"]
        self.ratios = [(name, span) for name in ("r", "vol") for span in spans]
        self.means = [
            ("daily return, std", "r2"),
            ("daily volatility move, std", "v2"),
            ("volatility drift over the path", "drift"),
            ("volatility move over the path, std", "drift2"),
            ("log of realised over implied, mean", "premium"),
            ("log of realised over implied, std", "premium2"),
            ("maximum drawdown, mean", "drawdown"),
        ]
        self.features = ["return over the path", "volatility move over the path", "maximum drawdown"]
        self.names: list[tuple[str, float]] = [
            *((name, float(lag)) for name, _, _, lag in self.correlations),
            *((f"persistence of {name}", float(_PERSISTENCE_LAG)) for name in self.levels),
            *(
                ({"r": "variance ratio, return", "vol": "variance ratio, volatility"}[n], float(s))
                for n, s in self.ratios
            ),
            *((name, np.nan) for name, _ in self.means),
            *((f"quantile of {name}", q) for name in self.features for q in _QUANTILES),
        ]

    def moments(self, paths: Paths) -> tuple[FloatArray, FloatArray]:
        """Summands of each path (n, m), and what quantiles are taken of (n, f)."""
        r, vol = paths.log_return, np.diff(paths.levels["atm30"], axis=1)
        series = {"r": r, "abs": np.abs(r), "square": r**2, "vol": vol}
        parts: list[FloatArray] = []

        def pair(x: FloatArray, y: FloatArray) -> None:
            n = np.full(len(x), float(x.shape[1]))
            parts.append(np.column_stack([n, x.sum(1), y.sum(1), (x * x).sum(1), (y * y).sum(1), (x * y).sum(1)]))

        for _, a, b, lag in self.correlations:
            x, y = series[a], series[b]
            pair(x[:, : x.shape[1] - lag], y[:, lag:])
        for name in self.levels:
            level = paths.levels[name]
            pair(level[:, :-_PERSISTENCE_LAG], level[:, _PERSISTENCE_LAG:])
        for name, span in self.ratios:
            x = series[name]
            total = np.cumsum(np.column_stack([np.zeros(len(x)), x]), axis=1)
            y = total[:, span:] - total[:, :-span]
            for z in (x, y):
                parts.append(np.column_stack([np.full(len(z), float(z.shape[1])), z.sum(1), (z * z).sum(1)]))
        move = vol.sum(axis=1)
        realised = np.sqrt(paths.periods_per_year * np.mean(r**2, axis=1))
        premium = np.log(np.maximum(realised, 1e-12)) - paths.levels["atm30"][:, 0]
        value = np.cumsum(np.column_stack([np.zeros(len(r)), r]), axis=1)
        drawdown = -np.expm1(np.min(value - np.maximum.accumulate(value, axis=1), axis=1))
        one, of_days = np.ones(len(r)), [r.mean(1), (r * r).mean(1), vol.mean(1), (vol * vol).mean(1)]
        parts.append(np.column_stack([one, *of_days, move, move**2, premium, premium**2, drawdown]))
        return np.hstack(parts), np.column_stack([r.sum(axis=1), move, drawdown])

    def values(self, sums: FloatArray) -> FloatArray:
        """Figures that are functions of weighted sums: (B, figures) of (B, m)."""
        with np.errstate(invalid="ignore", divide="ignore"):  # what never moves has no correlation: NaN, judged later
            return self._values(sums)

    def _values(self, sums: FloatArray) -> FloatArray:
        out = []
        n_pairs = len(self.correlations) + len(self.levels)
        for k in range(n_pairs):
            n, x, y, xx, yy, xy = sums[:, 6 * k : 6 * k + 6].T
            covariance, var_x, var_y = xy / n - x * y / n**2, xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
            scale = np.sqrt(var_x * var_y) if k < len(self.correlations) else var_x
            out.append(covariance / scale)
        for k, (_, span) in enumerate(self.ratios, start=n_pairs):
            n, x, xx, m, y, yy = sums[:, 6 * k : 6 * k + 6].T
            out.append((yy / m - (y / m) ** 2) / (span * (xx / n - (x / n) ** 2)))
        n, r, r2, v, v2, move, move2, premium, premium2, drawdown = sums[:, 6 * (n_pairs + len(self.ratios)) :].T

        def std(first: FloatArray, second: FloatArray) -> FloatArray:
            return np.asarray(np.sqrt(np.maximum(second / n - (first / n) ** 2, 0.0)))

        out += [std(r, r2), std(v, v2), move / n, std(move, move2), premium / n, std(premium, premium2), drawdown / n]
        return np.stack(out, axis=1)

    def quantiles(self, features: FloatArray, weight: FloatArray) -> FloatArray:
        """Weighted quantiles of the features: (B, features * levels), of values (n, f) under weights (B, n)."""
        out = []
        for column in features.T:
            order = np.argsort(column, kind="stable")
            reached = np.cumsum(weight[:, order], axis=1)
            for q in _QUANTILES:
                first = (reached < q * reached[:, -1:] - 1e-12).sum(axis=1)
                out.append(column[order][np.minimum(first, len(column) - 1)])
        return np.stack(out, axis=1)

    def panel_quantiles(self, features: FloatArray) -> FloatArray:
        """The same of panels of equal weights: (B, features * levels), of values (B, n, f)."""
        n = features.shape[1]
        ordered = np.sort(features, axis=1)
        rows = [min(max(int(np.ceil(q * n - 1e-9)) - 1, 0), n - 1) for q in _QUANTILES]
        return np.asarray(ordered[:, rows].transpose(0, 2, 1).reshape(len(features), -1))

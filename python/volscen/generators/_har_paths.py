"""Paths of the HAR generator beyond their first day, many at once.

The law of :class:`volscen.generators._har.RobustHAR`, arranged for speed. Paths lie along the last axis, so that what
belongs to a direction or an input is one number for a whole row of them; surfaces are carried in coordinates of the
components and of the directions outside, so that one product a day gives the surface; averages are carried as
distances from them, as only those enter; clipped inputs are never standardised, the coefficients are instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from scipy.linalg import block_diag

from volscen._sessions import Days, next_session
from volscen.generators._har_adapt import ERROR_CUT, SHORT, adapt
from volscen.generators._har_calendar import N_CALENDAR, N_SCALE_CALENDAR, calendar_features
from volscen.generators._har_features import LEVEL_HALF_LIVES, SQUARE_FLOOR, SQUARE_HALF_LIVES, news
from volscen.generators._har_fit import on_raw
from volscen.generators._har_rest import REST_HALF_LIVES

if TYPE_CHECKING:
    from volscen.generators._har import RobustHAR, _Step

__all__ = ["FirstDay", "Walk"]

FloatArray = npt.NDArray[np.float64]

_N_SCALES = len(SQUARE_HALF_LIVES)


@dataclass(frozen=True)
class FirstDay:
    """What the first day of n paths came out at.

    Attributes
    ----------
    step : _Step
        Law that all paths shared.
    factor, error : ndarray, shapes (n, f), (n, f)
        Standardised factors, and residuals with the adaptation of the scale.
    rest_size : ndarray, shape (n,)
        Length of the remainder, in units of its usual one.
    before, surface : ndarray, shapes (1, cells), (n, cells)
        Log surfaces of the day before and of the day.
    """

    step: _Step
    factor: FloatArray
    error: FloatArray
    rest_size: FloatArray
    before: FloatArray
    surface: FloatArray


@dataclass(frozen=True)
class Walk:
    """Tables of one model and the dates of one call, and the walk along them.

    Attributes
    ----------
    constant : ndarray, shape (days, 2 f, 1)
        Of means and log scales on each day, with all that its date says.
    slope : ndarray, shape (2 f, inputs)
    low, high : ndarray, shape (inputs, 1)
        Of the inputs, the scheduled date's left out.
    residual, rest : ndarray, shapes (f, pool), (cells, pool)
        Of the past days, the remainder in all directions.
    rest_size : ndarray, shape (pool,)
    rotation, to_surface : ndarray, shapes (cells, cells), (cells + 1, cells)
        From standardised log surfaces to coordinates, and from these and a constant to log surfaces.
    """

    model: RobustHAR
    constant: FloatArray
    slope: FloatArray
    low: FloatArray
    high: FloatArray
    residual: FloatArray
    rest: FloatArray
    rest_size: FloatArray
    rotation: FloatArray
    to_surface: FloatArray

    @classmethod
    def of(cls, model: RobustHAR, target: Days, n_days: int, calendar: np.busdaycalendar) -> Self:
        """Tables for ``n_days`` sessions after ``target``."""
        dates = [target]
        for _ in range(n_days):
            dates.append(next_session(dates[-1], calendar))
        today, following = np.concatenate(dates[:-1]), np.concatenate(dates[1:])
        features = calendar_features(today, calendar, following)
        law, m = model.law_, model
        n_factors = law.mean_coef.shape[1]
        mean, scale = on_raw(law.mean_coef, law.mean_range), on_raw(law.scale_coef, law.scale_range)
        at_mean = np.arange(law.mean_range.shape[1])
        end = law.scale_range.shape[1] - _N_SCALES * n_factors  # the factors' own come last
        at_scale = np.arange(law.scale_range.shape[1])
        free_mean = at_mean < at_mean.size - N_CALENDAR
        free_scale = (at_scale < end - N_SCALE_CALENDAR) | (at_scale >= end)
        constant = np.hstack(
            [
                mean.constant + mean.of(features, ~free_mean),
                scale.constant + scale.of(features[:, :N_SCALE_CALENDAR], ~free_scale),
            ]
        )
        slope = block_diag(mean.slope[free_mean].T, scale.slope[free_scale].T)
        rotation = np.hstack([m.components_, m.outside_])
        rest = m.rest_.astype(np.float64)
        return cls(
            model=model,
            constant=constant[:, :, None],
            slope=slope,
            low=np.r_[mean.low[free_mean], scale.low[free_scale]][:, None],
            high=np.r_[mean.high[free_mean], scale.high[free_scale]][:, None],
            residual=np.ascontiguousarray(m.residual_.T),
            rest=rotation.T @ rest.T,
            rest_size=np.sqrt(np.einsum("nr,nr->n", rest, rest)) / m.rest_unit_,
            rotation=rotation,
            to_surface=np.vstack([rotation.T * m.cell_sd_, m.cell_mean_]),
        )

    def go(
        self, first: FirstDay, drawn: list[npt.NDArray[np.int64]], log_return: FloatArray, log_iv: FloatArray
    ) -> None:
        """Walk on from the first day, on past days drawn; fill days 1 and later of the returns and log surfaces.

        Parameters
        ----------
        first : FirstDay
            Of n paths.
        drawn : list of ndarray, shape (n,)
            Place in the pool, for every day after the first.
        log_return, log_iv : ndarray, shapes (n, 1 + days), (n, 1 + days, cells)
        """
        paths = _Paths(self, first)
        for t, day in enumerate(drawn):
            if t:
                paths.close()
            log_return[:, t + 1] = paths.draw(self.constant[t], day)
            np.matmul(paths.place.T, self.to_surface, out=log_iv[:, t + 1])


class _Paths:
    """Paths: everything known at the close of their day, one column each."""

    def __init__(self, walk: Walk, first: FirstDay) -> None:
        self.walk = walk
        self.m = m = walk.model
        known, outside = first.step.known, first.step.outside
        n, self.k = first.factor.shape[0], m.n_components
        cells = walk.rotation.shape[0]
        self.n_levels = min(4, self.k)

        def along(x: Any, *shape: int) -> FloatArray:
            """A column of its own for every path."""
            return np.array(np.broadcast_to(x, (*shape, n)))

        self.place = np.ones((cells + 1, n))
        self.place[:-1] = ((first.surface - m.cell_mean_) / m.cell_sd_ @ walk.rotation).T
        self.move = self.place[:-1] - ((first.before - m.cell_mean_) / m.cell_sd_ @ walk.rotation).T
        self.factor = np.ascontiguousarray(first.factor.T)
        self.size = np.vstack([np.abs(first.error.T), first.rest_size])
        self.count, self.outside_count = known.count, outside.count
        level, slow = known.level[0], known.slow[:, 0]
        self.from_slow = along((level - slow)[:, : self.n_levels, None], _N_SCALES, self.n_levels)
        self.square = along(known.square[:, 0, :, None], _N_SCALES, self.k + 1)
        self.trend = along(known.trend, _N_SCALES)
        self.from_rest = along(
            (outside.level[0] - outside.slow[:, 0])[:, :, None], len(REST_HALF_LIVES), cells - self.k
        )
        self.short = along(first.step.short[0][:, None], self.k + 2)
        self.x = np.empty((walk.low.shape[0], n))
        self.cut = np.empty_like(self.from_rest[0])
        self.mean_row = walk.to_surface.mean(axis=1)
        self.log_unit = float(np.log(m.factor_sd_[0]))
        self.close()

    def close(self) -> None:
        """Take the day that was drawn into all averages."""

        def gains(half_lives: tuple[int, ...], count: int) -> FloatArray:
            return np.array([news(h, count) for h in half_lives])[:, None, None]

        # An average moves by gain (x - average): the distance x - average is what is left of it and of the move.
        gain = gains(LEVEL_HALF_LIVES, self.count)
        self.from_slow += self.move[: self.n_levels]
        self.from_slow *= 1 - gain
        gain = gains(SQUARE_HALF_LIVES, self.count)
        self.square *= 1 - gain
        self.square += gain * self.factor**2
        self.trend *= 1 - gain[:, 0]
        self.trend += gain[:, 0] * self.factor[0]
        self.from_rest += self.move[self.k :]
        self.from_rest *= 1 - gains(REST_HALF_LIVES, self.outside_count)
        decay = 0.5 ** (1 / SHORT)
        self.short *= decay
        self.short += (1 - decay) * np.minimum(self.size, ERROR_CUT)
        self.count += 1
        self.outside_count += 1

    def draw(self, constant: FloatArray, day: npt.NDArray[np.int64]) -> FloatArray:
        """Draw the next day, given the constant of its law and places in the pool; returns its log returns."""
        walk, m, k = self.walk, self.m, self.k
        self._inputs()
        moments = walk.slope @ self.x
        moments += constant
        mean, log_scale = moments[: k + 1], moments[k + 1 :]
        low, high = m.law_.log_scale_bounds[:, :, None]
        np.minimum(np.maximum(log_scale, low, out=log_scale), high, out=log_scale)
        power, limit = (of[:, None] for of in m._adaptation)
        adaptation = adapt(self.short, m.long_error_[:, None], power, limit)
        error = np.take(walk.residual, day, axis=1)
        error *= adaptation[:-1]
        self.factor = mean + np.exp(log_scale, out=log_scale) * error
        self.size[:-1] = np.abs(error)
        self.size[-1] = adaptation[-1] * walk.rest_size[day]
        np.take(walk.rest, day, axis=1, out=self.move, mode="clip")  # the other modes copy
        self.move *= adaptation[-1]
        self.move[:k] += self.factor[1:] * m.factor_sd_[1:, None]
        self._revert()
        self.place[:-1] += self.move
        return np.asarray(self.factor[0] * (m.factor_sd_[0] / m.annualise_))

    def _revert(self) -> None:
        """Add the expected move outside the components."""
        low, high = self.m.reversion_.reversion_range[:, :, :, None]
        coef = self.m.reversion_.reversion_coef[:, :, None]
        for i, distance in enumerate(self.from_rest):
            np.maximum(distance, low[i], out=self.cut)
            np.minimum(self.cut, high[i], out=self.cut)
            self.cut *= coef[i]
            self.move[self.k :] += self.cut

    def _inputs(self) -> None:
        """Inputs of means and scales, in the order of the law, within their ranges."""
        k, m, n = self.k, self.n_levels, self.place.shape[1]
        level, ret, first = self.place[:k], self.factor[0], self.factor[1]
        own = np.maximum(self.square, SQUARE_FLOOR)
        several = np.maximum(self.square[:, 1 : m + 1].mean(axis=1), SQUARE_FLOOR)
        own, several = 0.5 * np.log(own, out=own), 0.5 * np.log(several, out=several)
        parts = [
            level,
            self.from_slow.reshape(-1, n),
            self.factor[: m + 1],
            own[:, 0] + (self.log_unit - self.mean_row @ self.place),
            self.trend,
            own[:, 0],
            own[:, 1],
            several,
            level[:m],
            np.stack([ret, np.minimum(ret, 0), first, np.abs(first)]),
            own.reshape(-1, n),
        ]
        np.concatenate(parts, out=self.x)
        np.maximum(self.x, self.walk.low, out=self.x)
        np.minimum(self.x, self.walk.high, out=self.x)

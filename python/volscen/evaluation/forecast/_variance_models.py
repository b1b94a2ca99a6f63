"""Forecasts of variance from returns and daily ranges."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_discrete_are
from scipy.optimize import minimize
from scipy.signal import lfilter

from volscen._threads import single_threaded_blas
from volscen.errors import FitError, InputError, MissingExtraError
from volscen.evaluation.forecast._exogenous import Scaling, check_columns
from volscen.evaluation.forecast._long_memory import long_memory

__all__ = ["VARIANCE_MODELS", "Days", "VarianceForecaster"]

FloatArray = npt.NDArray[np.float64]

#: Mean and standard deviation of the log range of a Brownian motion over a day less its log volatility (Alizadeh,
#: Brandt and Diebold 2002, table I).
_LOG_RANGE = (0.43, 0.29)

#: Where no ranges are known: the log absolute move, made bearable near zero by Fuller's device (Breidt and Carriquiry
#: 1996), (log(r^2 + c) - c / (r^2 + c)) / 2 with c this share of the mean square; its mean and standard deviation for
#: a standard normal move.
_FULLER = 0.02
_LOG_MOVE = (-0.546823296737, 0.884729609410)

#: Forecasts stay within these multiples of the smallest and largest proxy averaged over the horizon.
_FLOOR, _CEILING = 0.25, 4.0


@dataclass(frozen=True)
class Days:
    """What is known of each day, arrays (T,)."""

    log_return: FloatArray
    log_range: FloatArray | None
    #: Series from outside as known at each close, (T, columns).
    outside: FloatArray | None = None

    @property
    def proxy(self) -> FloatArray:
        """Of the day's variance without drift: Parkinson's (1980) where ranges are known, else squared returns."""
        if self.log_range is None:
            return np.square(self.log_return)
        return np.asarray(np.square(self.log_range) / (4 * np.log(2)))

    def log_vol(self, mean_square: float) -> tuple[FloatArray, float]:
        """Noisy daily log volatility, and the standard deviation of its noise.

        ``mean_square`` is that of the moves fitted on, and says which are close to zero.
        """
        if self.log_range is not None:
            return np.log(self.log_range) - _LOG_RANGE[0], _LOG_RANGE[1]
        c = _FULLER * mean_square
        square = np.square(self.log_return) + c
        return (np.log(square) - c / square) / 2 - _LOG_MOVE[0], _LOG_MOVE[1]

    def until(self, row: int) -> Days:
        """The days before a row."""
        ranges, outside = (None if one is None else one[:row] for one in (self.log_range, self.outside))
        return Days(self.log_return[:row], ranges, outside)


class VarianceForecaster(ABC):
    """Forecasts of the mean daily variance of the next h days."""

    name: ClassVar[str]

    #: Whether series from outside are among its inputs.
    uses_exogenous: ClassVar[bool] = False

    def fit(self, days: Days, horizons: tuple[int, ...]) -> Self:
        """Learn from all days given."""
        self.horizons_ = horizons
        proxy = days.proxy
        means = [np.convolve(proxy, np.full(h, 1 / h), "valid") for h in horizons]
        self.low_ = np.array([_FLOOR * np.quantile(one, 0.005) for one in means])
        self.high_ = np.array([_CEILING * one.max() for one in means])
        self.mean_square_ = float(np.mean(np.square(days.log_return)))
        self._learn(days)
        return self

    def forecast(self, days: Days, rows: npt.NDArray[np.intp]) -> FloatArray:
        """Variance a day over the h days after each row, shape (n, horizon)."""
        return np.clip(self._ahead(days, rows), self.low_, self.high_)

    @abstractmethod
    def _learn(self, days: Days) -> None: ...

    @abstractmethod
    def _ahead(self, days: Days, rows: npt.NDArray[np.intp]) -> FloatArray: ...


class _LastMonth(VarianceForecaster):
    """The mean proxy of the last 22 days goes on: no change."""

    name: ClassVar[str] = "no_change"

    def _learn(self, days: Days) -> None:
        pass

    def _ahead(self, days: Days, rows: npt.NDArray[np.intp]) -> FloatArray:
        return np.repeat(_mean_of_last(days.proxy, 22)[rows][:, None], len(self.horizons_), axis=1)


class _Ewma(VarianceForecaster):
    """Exponentially weighted squared returns, decay 0.94 (RiskMetrics)."""

    name: ClassVar[str] = "ewma"

    def _learn(self, days: Days) -> None:
        self.start_ = float(np.mean(np.square(days.log_return)))

    def _ahead(self, days: Days, rows: npt.NDArray[np.intp]) -> FloatArray:
        squared = np.square(days.log_return)
        variance = lfilter([0.06], [1, -0.94], squared, zi=[0.94 * self.start_])[0]
        return np.repeat(variance[rows][:, None], len(self.horizons_), axis=1)


class _HarRv(VarianceForecaster):
    """HAR of the proxy (Corsi 2009): a regression for each horizon on means over 1, 5 and 22 days.

    Series from outside, standardised, multiply it by exp of a linear form, fitted by QLIKE after the regression (its
    first-order condition is that of a gamma law with a log link) and kept within the range of the days fitted on.
    """

    name: ClassVar[str] = "har"
    uses_exogenous = True
    factors_: list[tuple[FloatArray, float, float]]

    def _learn(self, days: Days) -> None:
        x, proxy = self._inputs(days), days.proxy
        z, self.factors_ = None, []
        if days.outside is not None:
            self.scaling_ = Scaling(days.outside)
            check_columns(self.name, days.outside.shape[1], proxy.size - 21 - max(self.horizons_))
            z = np.column_stack([np.ones(proxy.size), self.scaling_(days.outside)])
        self.coefficients_ = []
        for h in self.horizons_:
            ahead = np.convolve(proxy, np.full(h, 1 / h), "valid")[1:]  # the h days after row 0, 1, ...
            rows = np.arange(21, ahead.size)
            # Errors grow with the variance: weigh by it, as the loss does.
            weight = 1 / x[rows, 3]
            self.coefficients_.append(np.linalg.lstsq(x[rows] * weight[:, None], ahead[rows] * weight)[0])
            if z is not None:
                plain = np.maximum(x[rows] @ self.coefficients_[-1], 0.1 * x[rows, 3])
                factor = _log_factor(ahead[rows] / plain, z[rows])
                reach = z[rows] @ factor
                self.factors_.append((factor, float(reach.min()), float(reach.max())))

    def _ahead(self, days: Days, rows: npt.NDArray[np.intp]) -> FloatArray:
        found = np.asarray(self._inputs(days)[rows] @ np.array(self.coefficients_).T)
        if days.outside is None:
            return found
        z = np.column_stack([np.ones(rows.size), self.scaling_(days.outside[rows])])
        # A line through means may fall below zero, which a factor would not mend.
        found = np.maximum(found, 0.1 * self._inputs(days)[rows, 3:])
        factors = np.column_stack([np.exp(np.clip(z @ b, low, high)) for b, low, high in self.factors_])
        return np.asarray(found * factors)

    def _inputs(self, days: Days) -> FloatArray:
        proxy = days.proxy
        return np.column_stack([np.ones(proxy.size), *(_mean_of_last(proxy, n) for n in (1, 5, 22))])


class _Arch(VarianceForecaster):
    """A model of the package arch with a zero mean, by Gaussian likelihood."""

    volatility: ClassVar[dict[str, Any]]
    method: ClassVar[str] = "analytic"

    def _learn(self, days: Days) -> None:
        try:
            from arch import arch_model
        except ImportError:
            raise MissingExtraError(f"forecaster {self.name!r}", "forecast") from None
        self.scale_ = float(days.log_return.std())
        model = arch_model(days.log_return / self.scale_, mean="Zero", rescale=False, **self.volatility)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # starting values of some days warn; the result is checked below
            self.parameters_ = model.fit(disp="off", show_warning=False).params.to_numpy()
        if not np.all(np.isfinite(self.parameters_)):
            raise FitError(f"forecaster {self.name!r} found no parameters")

    def _ahead(self, days: Days, rows: npt.NDArray[np.intp]) -> FloatArray:
        from arch import arch_model

        known = days.log_return[: rows.max() + 1] / self.scale_
        model = arch_model(known, mean="Zero", rescale=False, **self.volatility)
        options: dict[str, Any] = {"method": self.method}
        if self.method == "simulation":
            rng = np.random.default_rng(0)
            options |= {"simulations": 500, "rng": rng.standard_normal}
        found = model.forecast(
            self.parameters_, horizon=max(self.horizons_), start=int(rows.min()), reindex=False, **options
        )
        daily = found.variance.to_numpy()[rows - rows.min()] * self.scale_**2
        sums = np.cumsum(daily, axis=1)
        return np.column_stack([sums[:, h - 1] / h for h in self.horizons_])


class _Garch(_Arch):
    """GARCH(1,1), Bollerslev (1986)."""

    name: ClassVar[str] = "garch"
    volatility: ClassVar[dict[str, Any]] = {"vol": "GARCH", "p": 1, "q": 1}


class _Egarch(_Arch):
    """EGARCH(1,1,1), Nelson (1991); several days ahead by simulation."""

    name: ClassVar[str] = "egarch"
    volatility: ClassVar[dict[str, Any]] = {"vol": "EGARCH", "p": 1, "o": 1, "q": 1}
    method: ClassVar[str] = "simulation"


class _Figarch(_Arch):
    """FIGARCH(1,d,1), Baillie, Bollerslev and Mikkelsen (1996)."""

    name: ClassVar[str] = "figarch"
    volatility: ClassVar[dict[str, Any]] = {"vol": "FIGARCH", "p": 1, "q": 1}


class _RangeFactors(VarianceForecaster):
    """Stochastic log volatility from daily log ranges, by Gaussian quasi-likelihood of the Kalman filter.

    Alizadeh, Brandt and Diebold (2002): log range = mean + factors + noise of known size, each factor an
    autoregression. Where no ranges are known the log absolute return takes their place, nine times as noisy.
    """

    n_factors: ClassVar[int]

    def _learn(self, days: Days) -> None:
        observed, noise = days.log_vol(self.mean_square_)
        mean, sd = observed.mean(), observed.std()
        slopes = np.array([0.97]) if self.n_factors == 1 else np.array([0.985, 0.6])
        # logit of the slope, log of the innovation's standard deviation, for each factor; and the mean.
        start = np.concatenate([np.log(slopes / (1 - slopes)), np.log(np.full(self.n_factors, 0.3 * sd)), [mean]])

        def objective(p: FloatArray) -> float:
            return -_filter(self._unpack(p), observed, noise)[0]

        # Where the data have one factor, the likelihood of two is flat: an answer is enough.
        with single_threaded_blas():  # tiny matrices: threads only get in each other's way
            found = minimize(objective, start, method="L-BFGS-B", options={"maxiter": 60})
        if not np.isfinite(found.fun):
            raise FitError(f"forecaster {self.name!r} found no parameters")
        self.parameters_ = self._unpack(found.x)

    def _ahead(self, days: Days, rows: npt.NDArray[np.intp]) -> FloatArray:
        observed, noise = days.log_vol(self.mean_square_)
        _, states, spread = _filter(self.parameters_, observed[: rows.max() + 1], noise)
        slope, innovation, mean = self.parameters_
        x, p = states[rows], spread
        daily = []
        for _ in range(max(self.horizons_)):
            x = x * slope
            p = p * np.outer(slope, slope) + np.diag(innovation**2)
            # Mean of exp(2 log vol) for a normal log vol.
            daily.append(np.exp(2 * (mean + x.sum(axis=1)) + 2 * p.sum()))
        sums = np.cumsum(daily, axis=0)
        return np.column_stack([sums[h - 1] / h for h in self.horizons_])

    def _unpack(self, p: FloatArray) -> tuple[FloatArray, FloatArray, float]:
        k = self.n_factors
        slope = np.minimum(1 / (1 + np.exp(-p[:k])), 0.9999)
        return slope, np.exp(np.clip(p[k : 2 * k], -12, 2)), float(p[-1])


class _RangeOne(_RangeFactors):
    """One factor."""

    name: ClassVar[str] = "range_one_factor"
    n_factors: ClassVar[int] = 1


class _RangeTwo(_RangeFactors):
    """Two factors: one slow, one fast."""

    name: ClassVar[str] = "range_two_factors"
    n_factors: ClassVar[int] = 2


class _LongMemory(VarianceForecaster):
    """Fractional noise in the daily log volatility: d by exact local Whittle, forecasts by its autoregression."""

    name: ClassVar[str] = "long_memory"
    n_lags: ClassVar[int] = 500

    def _learn(self, days: Days) -> None:
        observed, _ = days.log_vol(self.mean_square_)
        # A predictor needs a stationary or at most slightly nonstationary series.
        self.d_ = float(np.clip(long_memory(observed).d, 0.0, 0.9))
        self.mean_ = float(observed.mean())
        # Converts exp(2 forecast) to a mean of the proxy, noise and Jensen's inequality included, horizon by horizon.
        rows = np.arange(min(self.n_lags, observed.size // 2), observed.size)
        raw = self._raw(observed, rows)
        proxy = days.proxy
        self.ratio_ = np.empty(len(self.horizons_))
        for j, h in enumerate(self.horizons_):
            ahead = np.convolve(proxy, np.full(h, 1 / h), "valid")[1:]
            inside = rows < ahead.size
            self.ratio_[j] = np.mean(ahead[rows[inside]] / raw[inside, j])

    def _ahead(self, days: Days, rows: npt.NDArray[np.intp]) -> FloatArray:
        return self._raw(days.log_vol(self.mean_square_)[0], rows) * self.ratio_

    def _raw(self, observed: FloatArray, rows: npt.NDArray[np.intp]) -> FloatArray:
        j = np.arange(1, self.n_lags + 1)
        pi = -np.cumprod((j - 1 - self.d_) / j)  # x(t) = sum of pi_j x(t - j) + noise
        lags = np.concatenate([np.zeros(self.n_lags), observed - self.mean_])
        past = np.lib.stride_tricks.sliding_window_view(lags, self.n_lags)[rows + 1][:, ::-1]  # newest first
        found = np.empty((rows.size, max(self.horizons_)))
        for step in range(found.shape[1]):
            made = found[:, :step][:, ::-1]
            found[:, step] = made @ pi[:step] + past[:, : self.n_lags - step] @ pi[step:]
        sums = np.cumsum(np.exp(2 * (self.mean_ + found)), axis=1)
        return np.column_stack([sums[:, h - 1] / h for h in self.horizons_])


def _log_factor(ratio: FloatArray, z: FloatArray) -> FloatArray:
    """Coefficients b of least mean of ratio exp(-z b) + z b, by Newton's method; convex, a little ridge for ties."""
    b = np.zeros(z.shape[1])
    ridge = np.full(b.size, 1 / ratio.size)

    def loss(b: FloatArray) -> float:
        return float(np.mean(ratio * np.exp(-z @ b) + z @ b) + 0.5 * ridge @ b**2)

    now = loss(b)
    for _ in range(50):
        u = ratio * np.exp(-z @ b)
        gradient = z.T @ (1 - u) / ratio.size + ridge * b
        step = np.linalg.solve((z.T * u) @ z / ratio.size + np.diag(ridge), gradient)
        share = 1.0
        while share > 1e-6 and not (after := loss(b - share * step)) <= now:
            share /= 2
        if share <= 1e-6 or now - after < 1e-12:
            break
        b, now = b - share * step, after
    return b


def _filter(
    parameters: tuple[FloatArray, FloatArray, float], observed: FloatArray, noise: float
) -> tuple[float, FloatArray, FloatArray]:
    """Kalman filter in its steady state: log likelihood, means (T, k) and covariance (k, k) of the factors each day.

    The covariance settles within some tens of days; taking it as settled from the first makes the filter linear, and
    its recursion one of independent modes.
    """
    slope, innovation, mean = parameters
    ones = np.ones((1, slope.size))
    before = solve_discrete_are(np.diag(slope), ones.T, np.diag(innovation**2), np.array([[noise**2]]))
    variance = float(before.sum()) + noise**2
    gain = before.sum(axis=1) / variance
    after = before - np.outer(gain, before.sum(axis=0))
    # x(t) = (I - gain 1') diag(slope) x(t-1) + gain y(t)
    values, vectors = np.linalg.eig((np.eye(slope.size) - gain[:, None] * ones) * slope)
    y = observed - mean
    into = np.linalg.solve(vectors, gain)
    modes = np.stack([lfilter([b], [1, -a], y.astype(complex)) for a, b in zip(values, into, strict=True)])
    states = np.real(vectors @ modes).T
    predicted = np.concatenate([[0.0], states[:-1] @ slope])
    error = y - predicted
    likelihood = -0.5 * (y.size * np.log(variance) + float(error @ error) / variance)
    return likelihood, states, after


def _mean_of_last(values: FloatArray, n: int) -> FloatArray:
    """Mean of each day and the n - 1 before it; of fewer at the start."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, values.size + 1)
    starts = np.maximum(ends - n, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


#: Forecasters of variance by name.
VARIANCE_MODELS: dict[str, type[VarianceForecaster]] = {
    model.name: model
    for model in (_LastMonth, _Ewma, _HarRv, _Garch, _Egarch, _Figarch, _RangeOne, _RangeTwo, _LongMemory)
}


def check_model(name: str) -> str:
    """A name of the table."""
    if name not in VARIANCE_MODELS:
        raise InputError(f"models: {name!r} is none of {', '.join(VARIANCE_MODELS)}")
    return name

"""Simple forecasts of surfaces: what every network must beat."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._threads import single_threaded_blas
from volscen.errors import FitError, InputError, MissingExtraError
from volscen.evaluation.forecast._exogenous import Scaling, check_columns, exogenous_values
from volscen.evaluation.forecast._protocol import SurfaceForecaster, log_surfaces
from volscen.generators import Generator, generator_class
from volscen.generators._cell_regression import MONTH, CellRegression
from volscen.generators._neural_options import CPU, check_device
from volscen.generators._placement import look_for, put_on
from volscen.history import state_at

__all__ = ["MODELS", "Garch", "GeneratorMean", "Har", "MeanReversion", "NoChange", "Var", "make_forecaster"]

FloatArray = npt.NDArray[np.float64]

#: A forecast never leaves the range of the days fitted on by more than this, in log volatility.
_BEYOND = 0.5


class _InLogs(SurfaceForecaster):
    """Forecasts of log volatilities, kept within reach of what was seen."""

    horizons_: tuple[int, ...]
    low_: FloatArray
    high_: FloatArray

    def fit(self, history: xr.Dataset, horizons: tuple[int, ...]) -> Self:
        """Fit on all dates of the history."""
        logs = log_surfaces(history)
        if len(logs) < self.n_past + max(horizons) + 50:
            raise InputError(
                f"history holds {len(logs)} dates; forecaster {self.name!r} needs {self.n_past + max(horizons) + 50}"
            )
        self.horizons_ = horizons
        self.low_, self.high_ = logs.min(axis=0) - _BEYOND, logs.max(axis=0) + _BEYOND
        with single_threaded_blas():
            self._learn(logs, history)
        return self

    def forecast(self, history: xr.Dataset, rows: npt.NDArray[np.intp]) -> FloatArray:
        """Forecast from the closes of some dates."""
        if not hasattr(self, "horizons_"):
            raise FitError(f"forecaster {self.name!r} has not been fitted; call fit first")
        logs = log_surfaces(history)
        if rows.size and rows.min() < self.n_past - 1:
            raise InputError(f"rows: forecaster {self.name!r} needs {self.n_past - 1} dates before the first")
        with single_threaded_blas():
            out = np.clip(self._ahead(logs, history, rows), self.low_, self.high_)
        shape = (rows.size, len(self.horizons_), history.sizes["tau"], history.sizes["moneyness"])
        return np.asarray(np.exp(out).reshape(shape))

    def _learn(self, logs: FloatArray, history: xr.Dataset) -> None:
        """Fit on log volatilities (date, cells)."""

    @abstractmethod
    def _ahead(self, logs: FloatArray, history: xr.Dataset, rows: npt.NDArray[np.intp]) -> FloatArray:
        """Log volatilities (n, horizon, cells)."""


class NoChange(_InLogs):
    """Tomorrow's surface is today's."""

    name: ClassVar[str] = "no_change"

    def _ahead(self, logs: FloatArray, history: xr.Dataset, rows: npt.NDArray[np.intp]) -> FloatArray:
        return np.repeat(logs[rows][:, None], len(self.horizons_), axis=1)


class MeanReversion(_InLogs):
    """Each cell's log volatility returns to its mean: direct regressions on today's, one for each horizon."""

    name: ClassVar[str] = "mean_reversion"

    def _learn(self, logs: FloatArray, history: xr.Dataset) -> None:
        self.mean_ = logs.mean(axis=0)
        x = logs - self.mean_
        self.slope_ = np.stack([(x[h:] * x[:-h]).sum(axis=0) / (x[:-h] ** 2).sum(axis=0) for h in self.horizons_])

    def _ahead(self, logs: FloatArray, history: xr.Dataset, rows: npt.NDArray[np.intp]) -> FloatArray:
        return np.asarray(self.mean_ + self.slope_ * (logs[rows] - self.mean_)[:, None])


class Har(_InLogs):
    """Heterogeneous autoregression of each cell (Corsi 2009): today, and averages of 5 and 22 days.

    Series from outside (:func:`add_exogenous`), standardised, are further regressors.
    """

    name: ClassVar[str] = "har"
    n_past = MONTH
    uses_exogenous = True

    def _learn(self, logs: FloatArray, history: xr.Dataset) -> None:
        rows = np.arange(self.n_past - 1, len(logs))
        outside = exogenous_values(history)
        self.scaling_ = Scaling(outside)
        check_columns(self.name, outside.shape[1], len(rows) - max(self.horizons_))
        x = self._inputs(logs, rows, outside)  # (n, cells, 4 and columns)
        self.coefficients_ = np.empty((len(self.horizons_), logs.shape[1], x.shape[2]))
        for i, h in enumerate(self.horizons_):
            known, change = x[:-h], logs[rows[h:]] - logs[rows[:-h]]
            for cell in range(logs.shape[1]):
                self.coefficients_[i, cell] = np.linalg.lstsq(known[:, cell], change[:, cell])[0]

    def _ahead(self, logs: FloatArray, history: xr.Dataset, rows: npt.NDArray[np.intp]) -> FloatArray:
        x = self._inputs(logs, rows, exogenous_values(history))
        return np.asarray(logs[rows][:, None] + np.einsum("nck,hck->nhc", x, self.coefficients_))

    def _inputs(self, logs: FloatArray, rows: npt.NDArray[np.intp], outside: FloatArray) -> FloatArray:
        own = CellRegression.inputs(logs, rows)
        more = self.scaling_(outside[rows])[:, None]
        return np.concatenate([own, np.broadcast_to(more, (*own.shape[:2], more.shape[2]))], axis=-1)


class Var(_InLogs):
    """Vector autoregression of order one of principal components and the return, iterated; the rest reverts by itself.

    Series from outside (:func:`add_exogenous`), standardised, are variables of the autoregression, which so forecasts
    them as well.

    Parameters
    ----------
    n_components : int
    """

    name: ClassVar[str] = "var"
    n_past = 2
    uses_exogenous = True

    def __init__(self, n_components: int = 5) -> None:
        self.n_components = n_components

    def _learn(self, logs: FloatArray, history: xr.Dataset) -> None:
        if not 1 <= self.n_components <= logs.shape[1]:
            raise InputError(f"n_components must be between 1 and {logs.shape[1]}, not {self.n_components}")
        self.mean_ = logs.mean(axis=0)
        self.axes_ = np.linalg.svd(logs - self.mean_, full_matrices=False)[2][: self.n_components]
        if self.uses_exogenous:
            outside = exogenous_values(history)
            self.scaling_ = Scaling(outside)
            check_columns(self.name, outside.shape[1], len(logs) - 2)
        state, rest = self._state(logs, history, np.arange(1, len(logs)))
        x = np.column_stack([np.ones(len(state) - 1), state[:-1]])
        coefficients = np.linalg.lstsq(x, state[1:])[0]
        constant, matrix = coefficients[0], coefficients[1:].T
        # An explosive root would run away over thirty days: shrink it onto the unit circle's inside.
        radius = np.abs(np.linalg.eigvals(matrix)).max()
        matrix = matrix * min(1.0, 0.9999 / radius)
        decay = (rest[1:] * rest[:-1]).sum(axis=0) / np.maximum((rest[:-1] ** 2).sum(axis=0), 1e-30)
        self.steps_ = (constant, matrix, np.clip(decay, 0, 1))

    def _ahead(self, logs: FloatArray, history: xr.Dataset, rows: npt.NDArray[np.intp]) -> FloatArray:
        state, rest = self._state(logs, history, rows)
        constant, matrix, decay = self.steps_
        out = []
        for step in range(1, max(self.horizons_) + 1):
            state, rest = constant + state @ matrix.T, rest * decay
            if step in self.horizons_:
                out.append(self.mean_ + state[:, 1 : 1 + len(self.axes_)] @ self.axes_ + rest)
        return np.stack([out[sorted(self.horizons_).index(h)] for h in self.horizons_], axis=1)

    def _state(
        self, logs: FloatArray, history: xr.Dataset, rows: npt.NDArray[np.intp]
    ) -> tuple[FloatArray, FloatArray]:
        """Return, scores and series from outside; and what the components miss."""
        deviation = logs[rows] - self.mean_
        scores = deviation @ self.axes_.T
        outside = self.scaling_(exogenous_values(history)[rows]) if self.uses_exogenous else np.empty((rows.size, 0))
        state = np.column_stack([history["log_return"].values[rows], scores, outside])
        return state, deviation - scores @ self.axes_


class Garch(Var):
    """An autoregression with GARCH(1,1) errors for each principal component, by likelihood; the rest as in ``var``.

    The mean is what a point forecast takes from it; the variances weigh the days when it is fitted. Needs the extra
    ``forecast``.
    """

    name: ClassVar[str] = "garch"
    uses_exogenous = False

    def _learn(self, logs: FloatArray, history: xr.Dataset) -> None:
        try:
            from arch import arch_model
        except ImportError:
            raise MissingExtraError("forecaster 'garch'", "forecast") from None
        super()._learn(logs, history)
        state, _ = self._state(logs, history, np.arange(1, len(logs)))
        constant, matrix = np.zeros(state.shape[1]), np.zeros((state.shape[1],) * 2)
        for i in range(1, state.shape[1]):
            sd = state[:, i].std()
            model = arch_model(state[:, i] / sd, mean="AR", lags=1, vol="GARCH", p=1, q=1, rescale=False)
            a, b = model.fit(disp="off", show_warning=False).params.to_numpy()[:2]
            constant[i], matrix[i, i] = a * sd, min(b, 0.9999)
        self.steps_ = (constant, matrix, self.steps_[2])


class GeneratorMean(_InLogs):
    """Mean log surface over the paths that a scenario generator draws.

    Parameters
    ----------
    generator : str or Generator
        Name in the registry, or a generator as constructed; it is fitted with the forecaster.
    n_scenarios : int
        Paths a date; the mean's noise falls with their root.
    seed : int
    device : str
        Where the generator's networks are evaluated when it is drawn from; as for :func:`volscen.generate`.
    """

    name: ClassVar[str] = "generator"

    def __init__(self, generator: str | Generator, *, n_scenarios: int = 512, seed: int = 0, device: str = CPU) -> None:
        self.generator = generator_class(generator)() if isinstance(generator, str) else generator
        look_for(check_device(device), self.generator)
        self.device = device
        self.n_scenarios = n_scenarios
        self.seed = seed

    def _learn(self, logs: FloatArray, history: xr.Dataset) -> None:
        self.generator.fit(history)
        self.n_past = max(self.generator.n_returns + 1, self.generator.n_surfaces)

    def _ahead(self, logs: FloatArray, history: xr.Dataset, rows: npt.NDArray[np.intp]) -> FloatArray:
        out = np.empty((rows.size, len(self.horizons_), logs.shape[1]))
        take = [h - 1 for h in self.horizons_]
        model = put_on(self.generator, self.device)
        for i, day in enumerate(history["date"].values[rows]):
            state = state_at(history, day, n_returns=model.n_returns, n_surfaces=model.n_surfaces)
            rng = np.random.default_rng([self.seed, int(state.as_of.astype(np.int64))])
            vol = model.sample(state, self.n_scenarios, max(self.horizons_), rng)[1][:, take]
            out[i] = np.log(vol.astype(np.float64)).mean(axis=0).reshape(len(take), -1)
        return out


def _network(name: str, module: str = "_networks") -> Callable[[], SurfaceForecaster]:
    """Makes a network; its module, and torch, are imported no sooner."""

    def make() -> SurfaceForecaster:
        made: SurfaceForecaster = getattr(import_module(f"volscen.evaluation.forecast.{module}"), name)()
        return made

    return make


#: Forecasters by name; a generator's name makes its :class:`GeneratorMean`.
MODELS: dict[str, Callable[[], SurfaceForecaster]] = {
    **{model.name: model for model in (NoChange, MeanReversion, Har, Var, Garch)},
    "lstm": _network("Lstm"),
    "ae_lstm": _network("AutoencoderLstm"),
    "vae": _network("Vae"),
    "vae_lstm": _network("VaeLstm", "_vae_lstm"),
}


def make_forecaster(model: str | SurfaceForecaster) -> tuple[str, SurfaceForecaster]:
    """A forecaster and its name; names ``generator:pca`` are the mean paths of a generator."""
    if isinstance(model, SurfaceForecaster):
        generator: Any = getattr(model, "generator", None)
        return (f"generator:{generator.name}" if generator is not None else model.name), model
    if isinstance(model, str) and model.startswith("generator:"):
        return model, GeneratorMean(model.removeprefix("generator:"))
    if model not in MODELS:
        raise InputError(f"models: {model!r} is none of {', '.join(MODELS)}, nor generator:NAME")
    return model, MODELS[model]()

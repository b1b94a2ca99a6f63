"""Generators that move the parameters of an option-pricing model calibrated to every day's surface."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen.errors import FitError, InputError
from volscen.generators._base import FloatArray
from volscen.generators._factor_law import FactorLaw
from volscen.generators._factor_paths import Series
from volscen.generators._stillness import STILL
from volscen.history import State

__all__ = ["CalibratedModel"]

# A remainder is never carried on as a random walk, which would wander off the model along long paths.
_LARGEST_PERSISTENCE = 0.999


class CalibratedModel(FactorLaw):
    """Base of generators whose coordinates are a model's parameters.

    A day's log vols are those of the model at the calibrated parameters, plus a remainder. The parameters move by the
    factor law; the remainder reverts to its mean, cell by cell, with an innovation of the day whose residuals are
    drawn. A concrete one writes ``_calibrate``, ``_log_surface``, ``_natural``, ``_limits`` and ``_width``; calibration
    depends on the surface alone, so that what was calibrated once is known.
    """

    coordinates: ClassVar[str] = "parameters"
    _has_remainder: ClassVar[bool] = True

    remainder_mean_: FloatArray
    remainder_persistence_: FloatArray
    calibrated_log_iv_: FloatArray
    calibrated_: FloatArray
    calibrated_model_: FloatArray

    @abstractmethod
    def _calibrate(self, log_iv: FloatArray) -> FloatArray:
        """Parameters (T, C) of log surfaces (T, cells), within their limits."""

    @abstractmethod
    def _natural(self, coordinate: FloatArray) -> dict[str, FloatArray]:
        """Parameters as the model names them, (T,) or (T, tau) each, of coordinates (T, C)."""

    @abstractmethod
    def _limits(self) -> tuple[FloatArray, FloatArray]:
        """Least and largest values of the parameters, (C,) each."""

    def calibrate(self, implied_vol: xr.DataArray) -> xr.Dataset:
        """Calibrate the model to surfaces.

        Parameters
        ----------
        implied_vol : xarray.DataArray
            Surfaces (..., tau, moneyness) on the grid fitted on: positive, finite.

        Returns
        -------
        xarray.Dataset
            The model's parameters under their own names, over the leading dimensions (and ``tau`` where each maturity
            has its own), and ``implied_vol``, the model's surfaces.

        Raises
        ------
        FitError
            If the generator has not been fitted, which sets the grid.
        InputError
            If the surfaces lie on another grid, or hold vols that are not positive and finite.
        """
        if not self.is_fitted:
            raise FitError(f"generator {self.name!r} has not been fitted; call fit(history) before calibrate")
        if not isinstance(implied_vol, xr.DataArray) or implied_vol.dims[-2:] != ("tau", "moneyness"):
            raise InputError(
                "implied_vol must be a DataArray whose last dimensions are tau and moneyness; transpose it"
            )
        schema.check_same_grid(self.tau_, self.moneyness_, implied_vol.to_dataset(name="v"), f"generator {self.name!r}")
        vols = implied_vol.values.astype(np.float64)
        if not (np.isfinite(vols).all() and (vols > 0).all()):
            raise InputError("implied_vol holds vols that are not positive and finite; drop those surfaces")
        lead, shape = implied_vol.dims[:-2], vols.shape[:-2]
        coordinate, model = self._calibrated(np.log(vols).reshape(-1, self.tau_.size * self.moneyness_.size))
        found = {
            name: ((*lead, *(("tau",) if values.ndim == 2 else ())), values.reshape((*shape, *values.shape[1:])))
            for name, values in self._natural(coordinate).items()
        }
        found["implied_vol"] = (implied_vol.dims, np.exp(model).reshape(vols.shape))
        return xr.Dataset(found, coords=implied_vol.coords, attrs={"title": f"{self.name} calibrated to surfaces"})

    def _prepare(self, history: xr.Dataset) -> None:
        self.tau_ = history["tau"].values.astype(np.float64)
        self.moneyness_ = history["moneyness"].values.astype(np.float64)
        self._known: dict[bytes, tuple[FloatArray, FloatArray]] = {}

    def _series(self, log_return: FloatArray, log_iv: FloatArray) -> Series:
        coordinate, model = self._calibrated(log_iv)
        return Series(log_return, coordinate, log_iv - model)

    def _calibrated(self, log_iv: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Parameters and the model's log vols of surfaces, calibrated where they are not known."""
        keys = [row.tobytes() for row in log_iv]
        new = {key: i for i, key in enumerate(keys) if key not in self._known}
        if new:
            rows = log_iv[list(new.values())]
            parameters = self._calibrate(rows)
            for key, one, model in zip(new, parameters, self._log_surface(parameters), strict=True):
                self._known[key] = one, model
        found = [self._known[key] for key in keys]
        return np.array([one for one, _ in found]), np.array([model for _, model in found])

    def _renew(self, history: xr.Dataset) -> Any:
        super()._renew(history)
        log_iv = np.log(history["implied_vol"].values.astype(np.float64)).reshape(history.sizes["date"], -1)
        recent = log_iv[-(self.residual_days + 1) - self._past :]
        self.calibrated_log_iv_ = recent
        self.calibrated_, self.calibrated_model_ = self._calibrated(recent)
        return self

    def _bounded(self, coordinate: FloatArray) -> FloatArray:
        return np.clip(coordinate, *self._limits())

    def _never_changes(self, series: Series) -> str:
        constant = np.flatnonzero(np.diff(series.coordinate, axis=0).std(axis=0) <= STILL)
        if constant.size == 0:
            return super()._never_changes(series)
        low, high = self._limits()
        natural = self._natural(series.coordinate[:1])
        found = []
        for i in constant:
            maturity, which = divmod(int(i), len(natural))
            name, values = list(natural.items())[which]
            at = f"{name} at {365 * self.tau_[maturity]:.4g} days" if values.ndim == 2 else name
            value, today = values.reshape(-1)[maturity], series.coordinate[0, i]
            limit = "its lower limit" if today <= low[i] else "its upper limit" if today >= high[i] else "one value"
            found.append(f"{at} stays at {limit} {value:.4g}")
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        return (
            f"calibrated to every day of the history, {'; '.join(found[:3])}{more}: {self.name!r} cannot follow these "
            "surfaces there; leave out those maturities, check that vols are decimals and moneyness is K/F, or fit "
            "'har' or 'pca', which need no parameters"
        )

    def is_outside(self, state: State) -> bool:
        """Whether today's parameters lie at a limit, or a feature outside the range fitted on, and is clipped."""
        path, _ = self._start(state)
        low, high = self._limits()
        today = path.coordinate[0, -1]
        return bool(np.any((today <= low) | (today >= high))) or super().is_outside(state)

    # ------------------------------------------------------------------------------------------ remainder
    def _fit_remainder(self, series: Series) -> None:
        remainder = series.remainder
        self.remainder_mean_ = remainder.mean(axis=0)
        x = remainder - self.remainder_mean_
        variance = np.maximum((x[:-1] ** 2).sum(axis=0), np.finfo(np.float64).tiny)
        persistence = (x[:-1] * x[1:]).sum(axis=0) / variance
        self.remainder_persistence_ = np.clip(persistence, 0.0, _LARGEST_PERSISTENCE)

    def _expected_remainder(self, remainder: FloatArray) -> FloatArray:
        return self.remainder_mean_ + self.remainder_persistence_ * (remainder - self.remainder_mean_)

    def _next_remainder(self, remainder: FloatArray, innovation: FloatArray) -> FloatArray:
        return self._expected_remainder(remainder) + innovation

    def _remainder_innovation(self, remainder: FloatArray) -> FloatArray:
        return remainder[1:] - self._expected_remainder(remainder[:-1])

    # ------------------------------------------------------------------------------------------ keeping
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        cells = self.tau_.size * self.moneyness_.size
        return super()._shapes() | {"remainder_mean": (cells,), "remainder_persistence": (cells,)}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything fitted, and the recent days' surfaces with their calibrated parameters and model surfaces."""
        kept = ("calibrated_log_iv", "calibrated", "calibrated_model")
        return super().arrays() | {name: getattr(self, f"{name}_") for name in kept}

    def _restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        cells = self.tau_.size * self.moneyness_.size
        days = len(arrays["calibrated"])
        shapes = {
            "calibrated_log_iv": (days, cells),
            "calibrated": (days, self._width()),
            "calibrated_model": (days, cells),
        }
        for name, shape in shapes.items():
            if arrays[name].shape != shape or arrays[name].dtype != np.float64 or days == 0:
                raise ValueError(f"array {name} of shape {arrays[name].shape} does not fit the grid and parameters")
            setattr(self, f"{name}_", arrays[name])
        self._known = {
            row.tobytes(): (one, model)
            for row, one, model in zip(self.calibrated_log_iv_, self.calibrated_, self.calibrated_model_, strict=True)
        }
        super()._restore(arrays)

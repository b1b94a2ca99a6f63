"""The protocol every generator follows: fit, update, sample, save, load.

A generator learns the law of (return, next surface) given what is known, and draws paths on which every step's
outcome is the state of the next. Concrete generators write one file: ``fit``, ``update``, the arrays they keep,
and ``sample``, or just ``_step`` where the last returns and surfaces are all that a step needs.
"""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._files import write_safetensors
from volscen._version import __version__
from volscen.errors import FileFormatError, FitError, InputError
from volscen.generators._gaps import warn_of_gaps
from volscen.generators._record import FitRecord, TrainingCurve
from volscen.generators._stillness import refuse_filled
from volscen.history import State

if TYPE_CHECKING:
    from volscen.scenarios._given import Given

__all__ = ["BLOCK_SIZE", "MODEL_FORMAT", "Generator", "StepGenerator"]

FloatArray = npt.NDArray[np.float64]

#: Scenarios are always drawn in whole blocks of this size, each with random numbers of its own, so that the
#: number asked for, chunks and threads never change a bit. Changing it changes every seeded result.
BLOCK_SIZE = 1024

MODEL_FORMAT = "volscen/generator/1"


class Generator(ABC):
    """Law of the next return and the next surface, given the past.

    Attributes
    ----------
    name : str
        Name in the registry.
    n_returns, n_surfaces : int
        How many of the last returns and surfaces the law depends on.
    tau_, moneyness_ : ndarray
        Grid of the surfaces it was fitted on.
    fingerprint_ : str
        Hash of the history it was fitted on.
    period_ : tuple of str
        First and last date it was fitted on.
    record_ : FitRecord or None
        Outline of that history, and the versions fitted with; None from a file of an early version.
    curve_ : TrainingCurve or None
        Losses and validation scores by epoch, where fitting trains; set by ``fit``, saved and loaded with the model.
    """

    name: ClassVar[str]
    n_returns: int = 1
    n_surfaces: int = 1

    #: Saved arrays whose NaN means something, such as a score that was never taken.
    _MAY_HOLD_NAN: ClassVar[tuple[str, ...]] = ()

    #: Packages besides volscen whose versions belong to a fit.
    _PACKAGES: ClassVar[tuple[str, ...]] = ("numpy",)
    # Whether days are divided by a scale read off the days before them.
    _SCALES_DAYS: ClassVar[bool] = False

    tau_: FloatArray
    moneyness_: FloatArray
    fingerprint_: str
    period_: tuple[str, str]
    calendar_: str
    periods_per_year_: float
    record_: FitRecord | None = None
    curve_: TrainingCurve | None = None

    #: Of a copy made by :meth:`_on`: the device, and the generator that it is a copy of.
    _device: str | None = None
    _plain: Self | None = None

    @abstractmethod
    def fit(self, history: xr.Dataset) -> Self:
        """Learn from a history; return self."""

    @abstractmethod
    def update(self, history: xr.Dataset) -> Self:
        """Adapt scales and residual pools to the recent days of a history without refitting; return self."""

    @abstractmethod
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Fitted arrays, enough to rebuild the generator together with :meth:`parameters`."""

    @abstractmethod
    def _restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Set the fitted arrays; a missing one raises KeyError."""

    def parameters(self) -> dict[str, Any]:
        """Constructor arguments, JSON-serialisable."""
        return {}

    def is_outside(self, state: State) -> bool:
        """Whether a starting state lies outside what was fitted on, so that it is clipped."""
        return False

    @property
    def is_fitted(self) -> bool:
        """Whether :meth:`fit` (or a load) has run."""
        return hasattr(self, "fingerprint_")

    @abstractmethod
    def sample(self, state: State, n: int, horizon: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw n paths of ``horizon`` steps from a state.

        Parameters
        ----------
        state : State
            Starting state, with at least ``n_returns`` returns and ``n_surfaces`` surfaces.
        n : int
            Number of paths.
        horizon : int
            Number of steps; the simulated return and surface of each step are the state of the next.
        rng : numpy.random.Generator
            The only source of randomness.

        Returns
        -------
        log_return : ndarray, shape (n, horizon)
        implied_vol : ndarray, shape (n, horizon, tau, moneyness)
        """

    def sample_given(
        self, state: State, n: int, horizon: int, rng: np.random.Generator, given: Given
    ) -> tuple[FloatArray, FloatArray]:
        """Draw n paths given what quantities of them come out at; see ``given`` of :func:`volscen.generate`.

        Bands are met by rejection, values by local linear regression, both from :meth:`sample` with bounded work. A
        generator that knows its conditional law overrides this.

        Raises
        ------
        InputError
            If the law hardly ever draws what is given.
        """
        from volscen.scenarios._given import draw_given

        return draw_given(self, state, n, horizon, rng, given)

    def _twins(self, device: str) -> dict[str, Any]:
        """What evaluates the networks by torch on a device, by the attribute whose place it takes in :meth:`sample`.

        Values of :class:`volscen.generators._device.Twin`, which equal NumPy up to rounding. None, unless overridden.
        """
        return {}

    @classmethod
    def _has_networks(cls) -> bool:
        """Whether :meth:`sample` evaluates networks, which a device can."""
        return cls._twins is not Generator._twins

    @classmethod
    def _need_networks(cls, device: str) -> None:
        if not cls._has_networks():
            raise InputError(
                f"generator {cls.name!r} has no network to evaluate on device={device!r}; leave device= out"
            )

    def _on(self, device: str) -> Self:
        """Copy of a fitted generator whose networks torch evaluates on a device; the rest of its law stays in NumPy.

        Tensors are made when it first samples. It goes to other processes as arrays and the device's name.

        Raises
        ------
        InputError
            If the generator has no networks.
        """
        self._need_networks(device)
        plain = self._plain or self
        out = copy.copy(plain)
        out.__dict__.update(plain._twins(device), _device=device, _plain=plain)
        return out

    def __repr__(self) -> str:
        if not self.is_fitted:
            return f"<generator {self.name!r}, not fitted>"
        return (
            f"<generator {self.name!r} fitted on {self.period_[0]} to {self.period_[1]}, {self.tau_.size} maturities x "
            f"{self.moneyness_.size} moneyness points>"
        )

    def _remember(self, history: xr.Dataset) -> None:
        """Record grid, period, fingerprint and outline of the history fitted on; say where dates are missing."""
        warn_of_gaps(history)
        self.tau_ = history["tau"].values.astype(np.float64)
        self.moneyness_ = history["moneyness"].values.astype(np.float64)
        dates = history["date"].values.astype("datetime64[D]").astype(str)
        self.period_ = (str(dates[0]), str(dates[-1]))
        self.calendar_ = schema.calendar_of(history)
        self.periods_per_year_ = float(history.attrs["periods_per_year"])
        self.fingerprint_ = schema.fingerprint(history)
        self.record_ = FitRecord.of(history, self._PACKAGES)

    def _check_history(self, history: xr.Dataset, n_min: int) -> None:
        """Refuse what is no history, or one too short."""
        schema.validate(history, schema=schema.HISTORY)
        n = history.sizes["date"]
        if n < n_min:
            # The needs of the two with the shortest memories; each refuses a history that is too short for it.
            others = [name for name, least in (("pca", 151), ("bootstrap", 2)) if least <= n and name != self.name]
            shorter = (
                f", or take a generator that needs less: volscen.fit(history, {others[0]!r}), on the command line "
                f"--generator {others[0]}" + (f" (or {others[1]!r})" if len(others) > 1 else "")
                if others
                else ""
            )
            raise InputError(
                f"history holds {n} dates; generator {self.name!r} needs at least {n_min}: lengthen it{shorter}"
            )
        if self._SCALES_DAYS:
            refuse_filled(history, f"generator {self.name!r}")

    def _check_update(self, history: xr.Dataset, n_min: int) -> None:
        """Refuse, besides, an update of what is not fitted, or with a history on another grid."""
        self._check_history(history, n_min)
        if not self.is_fitted:
            raise FitError(f"generator {self.name!r} has not been fitted; call fit(history) before update")
        schema.check_same_grid(self.tau_, self.moneyness_, history, f"generator {self.name!r}")
        per_year = float(history.attrs["periods_per_year"])
        if per_year != self.periods_per_year_:
            raise InputError(
                f"history has {per_year:g} periods a year, the model was fitted with "
                f"{self.periods_per_year_:g}; resample the history or refit"
            )

    def save(self, path: str | Path) -> Path:
        """Write the fitted generator to one safetensors file: arrays, and JSON metadata in its header.

        The file is written under a temporary name and moved into place, so that no half-written model is left.

        Raises
        ------
        FitError
            If the generator has not been fitted.
        """
        metadata, arrays = self._pack()
        write_safetensors(path, arrays, json.dumps(metadata, sort_keys=True))
        return Path(path)

    def _pack(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Metadata and arrays of the model file, as :meth:`_from_file` takes them."""
        if not self.is_fitted:
            raise FitError(f"generator {self.name!r} has not been fitted; call fit(history) before save")
        metadata: dict[str, Any] = {
            "format": MODEL_FORMAT,
            "generator": self.name,
            "parameters": self.parameters(),
            "period": list(self.period_),
            "calendar": self.calendar_,
            "periods_per_year": self.periods_per_year_,
            "data_fingerprint": self.fingerprint_,
            "volscen_version": __version__,
        }
        arrays = {"tau": self.tau_, "moneyness": self.moneyness_, **self.arrays()}
        if self.record_ is not None:
            metadata["record"] = self.record_.metadata()
        if self.curve_ is not None:
            metadata["curve"] = self.curve_.metadata()
            arrays |= self.curve_.arrays()
        return metadata, arrays

    @classmethod
    def _from_file(cls, metadata: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], path: Path) -> Self:
        try:
            for name, array in arrays.items():
                if array.dtype.kind == "f" and name not in cls._MAY_HOLD_NAN and not np.isfinite(array).all():
                    raise ValueError(f"array {name} holds values that are not finite")
            generator = cls(**metadata["parameters"])
            generator.tau_ = schema.check_grid(arrays.pop("tau"), "tau")
            generator.moneyness_ = schema.check_grid(arrays.pop("moneyness"), "moneyness")
            generator.record_ = FitRecord.restore(metadata.get("record"))
            generator.curve_ = TrainingCurve.take(arrays, metadata.get("curve"))
            generator._restore(arrays)
            generator.period_ = (str(metadata["period"][0]), str(metadata["period"][1]))
            generator.calendar_ = str(metadata["calendar"])
            generator.periods_per_year_ = float(metadata["periods_per_year"])
            generator.fingerprint_ = str(metadata["data_fingerprint"])
        except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
            raise FileFormatError(
                f"{path}: the model file is incomplete or inconsistent ({repr(error)[:300]})"
            ) from None
        return generator


class StepGenerator(Generator):
    """Generator whose law of one step needs the last returns and surfaces only.

    :meth:`sample` feeds every step's outcome back as the state of the next; a concrete class writes ``_step``.
    """

    @abstractmethod
    def _step(
        self, log_return: FloatArray, log_iv: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        """Draw one step for n paths at once.

        Parameters
        ----------
        log_return : ndarray, shape (n, n_returns)
            Last returns of each path, oldest first.
        log_iv : ndarray, shape (n, n_surfaces, tau * moneyness)
            Last log surfaces of each path, oldest first.
        rng : numpy.random.Generator
            The only source of randomness.

        Returns
        -------
        next_return : ndarray, shape (n,)
        next_log_iv : ndarray, shape (n, tau * moneyness)
        """

    def sample(self, state: State, n: int, horizon: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw n paths of ``horizon`` steps from a state; see :meth:`Generator.sample`."""
        n_cells = self.tau_.size * self.moneyness_.size
        returns = np.broadcast_to(state.log_return[-self.n_returns :], (n, self.n_returns))
        past = state.log_iv[-self.n_surfaces :].reshape(1, self.n_surfaces, n_cells)
        surfaces = np.broadcast_to(past, (n, self.n_surfaces, n_cells))
        log_return = np.empty((n, horizon))
        log_iv = np.empty((n, horizon, n_cells))
        for step in range(horizon):
            log_return[:, step], log_iv[:, step] = self._step(returns, surfaces, rng)
            if step + 1 < horizon:
                returns = np.concatenate([returns[:, 1:], log_return[:, step, None]], axis=1)
                surfaces = np.concatenate([surfaces[:, 1:], log_iv[:, step, None]], axis=1)
        np.exp(log_iv, out=log_iv)
        return log_return, log_iv.reshape(n, horizon, self.tau_.size, self.moneyness_.size)

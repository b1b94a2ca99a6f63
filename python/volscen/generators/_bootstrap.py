"""Historical simulation: tomorrow is one of the days that were."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.errors import InputError
from volscen.generators._base import FloatArray, StepGenerator

__all__ = ["Bootstrap"]


class Bootstrap(StepGenerator):
    """Historical simulation: past days' (return, log-vol increments) are drawn with replacement.

    The increments of the whole surface and the return of one day stay together, so that their dependence is
    the data's; several steps are drawn independently.

    Parameters
    ----------
    window : int, optional
        Draw from the last ``window`` days only; all days when omitted.

    Examples
    --------
    >>> import volscen
    >>> model = volscen.fit(volscen.datasets.sample_history(), "bootstrap", window=250)
    >>> model.arrays()["log_return"].shape
    (250,)
    """

    name: ClassVar[str] = "bootstrap"

    log_return_: FloatArray
    increment_: FloatArray

    def __init__(self, window: int | None = None) -> None:
        if window is not None and window < 2:
            raise InputError(f"window must be at least 2 days, not {window}")
        self.window = window

    def fit(self, history: xr.Dataset) -> Self:
        """Collect the days to draw from."""
        self._check_history(history, (self.window or 2) + 1)
        days = slice(-self.window if self.window else 1, None)
        log_iv = np.log(history["implied_vol"].values.astype(np.float64)).reshape(history.sizes["date"], -1)
        self.increment_ = np.diff(log_iv, axis=0)[days if self.window else slice(None)]
        self.log_return_ = history["log_return"].values[days].astype(np.float64)
        self._remember(history)
        return self

    def update(self, history: xr.Dataset) -> Self:
        """Draw from the days of ``history`` from now on; the same as :meth:`fit`, which costs nothing."""
        self._check_update(history, 2)
        return self.fit(history)

    def _step(
        self, log_return: FloatArray, log_iv: FloatArray, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        day = rng.integers(self.log_return_.size, size=log_return.shape[0])
        return self.log_return_[day], log_iv[:, -1] + self.increment_[day]

    def parameters(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {"window": self.window}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Returns and log-vol increments of the days drawn from."""
        return {"log_return": self.log_return_, "increment": self.increment_}

    def _restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        self.log_return_ = arrays["log_return"]
        self.increment_ = arrays["increment"]
        shape = (self.log_return_.size, self.tau_.size * self.moneyness_.size)
        if self.log_return_.ndim != 1 or self.increment_.shape != shape or self.log_return_.size == 0:
            raise ValueError("log_return, increment and the grid do not fit together")

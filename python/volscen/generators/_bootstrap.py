"""Historical simulation: tomorrow is one of the days that were."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._numbers import finite_number, whole_number
from volscen.errors import InputError
from volscen.generators._base import FloatArray, Generator
from volscen.history import State

__all__ = ["Bootstrap"]

IntArray = npt.NDArray[np.int64]


class Bootstrap(Generator):
    """Historical simulation: past days' (return, log-vol increments) are drawn with replacement.

    The increments of the whole surface and the return of one day stay together, so that their dependence is
    the data's. Nothing depends on the state.

    Parameters
    ----------
    window : int, optional
        Draw from the last ``window`` days only, at least 2; all days when omitted.
    method : {"iid", "stationary", "circular"}
        How days follow one another along a path: independently; in blocks of consecutive days of random
        (geometric) length; or in blocks of fixed length. One day ahead all three are the same law.
    block_size : int
        Days of a block, at least 1, its mean with ``"stationary"``; not used with ``"iid"``.
        :func:`arch.bootstrap.optimal_block_length` suggests one for a series.
    half_life : float, optional
        A day ``half_life`` days older than another is half as likely to be drawn; all days are equally likely when
        omitted. At least 1.

    Notes
    -----
    Blocks run on from the newest day to the oldest, as on a circle, so that every day is equally likely at every
    step. With ``half_life`` they do not: the newest day ends its block, and the first day of every block is drawn by
    weight; the days after it are younger than it, so that later steps favour recent days slightly more.

    References
    ----------
    Boudoukh, J., Richardson, M. and Whitelaw, R. (1998). The best of both worlds. Risk 11(5), 64-67.
    Politis, D. and Romano, J. (1992). A circular block-resampling procedure for stationary data.
    Politis, D. and Romano, J. (1994). The stationary bootstrap. JASA 89(428), 1303-1313.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> volscen.fit(history, "bootstrap", window=250).arrays()["log_return"].shape
    (250,)
    >>> blocks = volscen.fit(history, "bootstrap", method="stationary", block_size=10, half_life=250)
    >>> volscen.generate(blocks, history, n_scenarios=100, horizon=21, seed=1).sizes["step"]
    21
    """

    name: ClassVar[str] = "bootstrap"

    log_return_: FloatArray
    increment_: FloatArray

    def __init__(
        self,
        window: int | None = None,
        *,
        method: Literal["iid", "stationary", "circular"] = "iid",
        block_size: int = 10,
        half_life: float | None = None,
    ) -> None:
        if method not in ("iid", "stationary", "circular"):
            raise InputError(f"method must be 'iid', 'stationary' or 'circular', not {method!r}")
        self.window = None if window is None else whole_number("window", window, least=2)
        self.method = method
        self.block_size = whole_number("block_size", block_size)
        self.half_life = None if half_life is None else finite_number("half_life", half_life, least=1)

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

    # ----------------------------------------------------------------------------------------- the law
    def sample(self, state: State, n: int, horizon: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw n paths; see :meth:`Generator.sample`."""
        cumulative = self._cumulative()
        level: FloatArray = state.log_iv[-1].ravel()
        log_return = np.empty((n, horizon))
        implied_vol = np.empty((n, horizon, level.size))
        day = np.empty(n, dtype=np.int64)
        for step in range(horizon):
            day = self._next_days(day, step, cumulative, rng)
            log_return[:, step] = self.log_return_[day]
            level = level + self.increment_[day]
            np.exp(level, out=implied_vol[:, step])
        return log_return, implied_vol.reshape(n, horizon, self.tau_.size, self.moneyness_.size)

    def _cumulative(self) -> FloatArray | None:
        """Distribution function over the days, oldest first; None where all are equally likely."""
        if self.half_life is None:
            return None
        age = np.arange(self.log_return_.size - 1, -1, -1.0)
        total = np.cumsum(0.5 ** (age / self.half_life))
        return np.asarray(total / total[-1])

    def _next_days(self, day: IntArray, step: int, cumulative: FloatArray | None, rng: np.random.Generator) -> IntArray:
        """Days drawn for a step, given those of the step before."""
        n, size = day.size, self.log_return_.size
        if cumulative is None:
            fresh = rng.integers(size, size=n)
        else:
            fresh = np.searchsorted(cumulative, rng.random(n), side="right").astype(np.int64)
        if step == 0 or self.method == "iid":
            return fresh
        if self.method == "stationary":
            ends = rng.random(n) < 1 / self.block_size
        else:
            ends = np.full(n, step % self.block_size == 0)
        if cumulative is not None:
            ends |= day == size - 1
        return np.where(ends, fresh, (day + 1) % size)

    # ----------------------------------------------------------------------------------------- keeping
    def parameters(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            "window": self.window,
            "method": self.method,
            "block_size": self.block_size,
            "half_life": self.half_life,
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Returns and log-vol increments of the days drawn from."""
        return {"log_return": self.log_return_, "increment": self.increment_}

    def _restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        self.log_return_ = arrays["log_return"]
        self.increment_ = arrays["increment"]
        shape = (self.log_return_.size, self.tau_.size * self.moneyness_.size)
        if self.log_return_.ndim != 1 or self.increment_.shape != shape or self.log_return_.size == 0:
            raise ValueError("log_return, increment and the grid do not fit together")

"""Time along the steps of scenarios: their labels, the calendar days to each, and the variance realised on the way."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._sessions import sessions
from volscen.errors import InputError
from volscen.schema import calendar_of

__all__ = ["elapsed_days_of", "squared_returns", "step_labels", "step_position"]

FloatArray = npt.NDArray[np.float64]


def elapsed_days_of(ds: xr.Dataset, as_of: np.datetime64 | None, elapsed_days: npt.ArrayLike | None) -> FloatArray:
    """Calendar days from ``as_of`` to each step, given or those of the sessions of the dataset's ``calendar``."""
    n = ds.sizes["step"]
    if elapsed_days is not None:
        try:
            days = np.atleast_1d(np.asarray(elapsed_days, dtype=np.float64))
        except (TypeError, ValueError):
            raise InputError(f"elapsed_days must be numbers of days, not {elapsed_days!r}") from None
        if days.shape != (n,):
            raise InputError(f"elapsed_days must give one number for each of the {n} steps, not shape {days.shape}")
        if not np.all(np.isfinite(days)) or np.any(days < 0) or np.any(np.diff(days) < 0):
            raise InputError("elapsed_days must be finite, non-negative and not decreasing")
        return days
    steps = np.array(step_labels(ds))
    per_year = float(ds.attrs["periods_per_year"])
    if per_year == 365:
        return steps.astype(np.float64)
    if not 240 <= per_year <= 262:
        raise InputError(
            f"the scenarios take {per_year:g} steps a year, which are no trading days; give elapsed_days, "
            "calendar days from as_of to each step"
        )
    if as_of is None:
        raise InputError("ds has no coordinate as_of to count days from; assign it or give elapsed_days")
    try:
        calendar = sessions(calendar_of(ds))
    except InputError as error:
        raise InputError(f"{error}; or give elapsed_days, calendar days from as_of to each step") from None
    ends = np.busday_offset(as_of, steps, roll="backward", busdaycal=calendar)
    return (ends - as_of).astype(np.float64)


def squared_returns(ds: xr.Dataset) -> FloatArray:
    """Sum of squared log returns from the start to each step, shape (N, steps)."""
    if step_labels(ds) != list(range(1, ds.sizes["step"] + 1)):
        raise InputError("a variance swap accrues every return: pass the scenarios with all steps from the first")
    returns = ds["log_return"].transpose("scenario", "step").values.astype(np.float64)
    return np.asarray(np.cumsum(returns * returns, axis=1))


def step_labels(ds: xr.Dataset) -> list[int]:
    """Trading days ahead of each step; 1, 2, ... where the dataset does not say."""
    return [int(step) for step in ds["step"].values] if "step" in ds.coords else list(range(1, ds.sizes["step"] + 1))


def step_position(ds: xr.Dataset, step: int | None) -> int:
    """Position of a step by its label; the last when None."""
    labels = step_labels(ds)
    if step is None:
        return len(labels) - 1
    if np.ndim(step) or step not in labels:
        raise InputError(f"step {step!r} is not one of the scenarios' steps {labels[0]} to {labels[-1]}")
    return labels.index(step)

"""Days on which nothing moved: data filled in from the day before, which no filter of scales survives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.errors import FitError

__all__ = ["STILL", "refuse_filled"]

#: A standard deviation of log moves below this is rounding: the series is constant.
STILL = 1e-10

#: Days in a row without any move. Of ten, scales fall to half or less, and the first move after them becomes a
#: residual many times too large.
_RUN = 10


def refuse_filled(history: xr.Dataset, what: str) -> None:
    """Refuse a history that holds ten days in a row without a return, or without a change of the surface.

    Examples
    --------
    >>> import volscen
    >>> from volscen.generators._stillness import refuse_filled
    >>> refuse_filled(volscen.datasets.sample_history(), "generator 'har'")
    """
    surfaces = history["implied_vol"].values.reshape(history.sizes["date"], -1)
    still = {
        "the spot": history["log_return"].values[1:] == 0,
        "the surface": np.all(surfaces[1:] == surfaces[:-1], axis=1),
    }
    dates = history["date"].values.astype("datetime64[D]")
    for name, days in still.items():
        if days.all():  # a constant series, which is named as such where it cannot be fitted
            continue
        first, last = _longest(days)
        if last - first >= _RUN:
            raise FitError(
                f"{name} does not move on {last - first} dates in a row ({dates[first + 1]} to {dates[last]}), as "
                f"where data are filled in from the day before: {what} scales days by those before them, and the first "
                "move after would come out many times too large. Drop such dates with volscen.select_dates, or take "
                "generator 'bootstrap'"
            )


def _longest(days: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """First and last, exclusive, of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.r_[0, days.astype(np.int8), 0]))
    if edges.size == 0:
        return 0, 0
    starts, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - starts))
    return int(starts[longest]), int(ends[longest])

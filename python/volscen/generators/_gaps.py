"""Dates missing from a history for weeks: what moved over such a gap is no day's move."""

from __future__ import annotations

import warnings

import numpy as np
import xarray as xr

from volscen._doubts import callers_level
from volscen.errors import HistoryWarning

__all__ = ["warn_of_gaps"]

#: Calendar days without a date that no exchange's holidays explain: Shanghai's longest were 11, New York's 7.
_HOLIDAYS = 14
#: Periods of a history of fewer dates a year, such as a weekly one, that may be missing.
_PERIODS = 4


def warn_of_gaps(history: xr.Dataset) -> None:
    """Warn of gaps in a history's dates that are longer than holidays.

    Examples
    --------
    >>> import volscen
    >>> from volscen.generators._gaps import warn_of_gaps
    >>> warn_of_gaps(volscen.datasets.sample_history())
    """
    days = history["date"].values.astype("datetime64[D]")
    apart = np.diff(days).astype(int)
    allowed = max(_HOLIDAYS, _PERIODS * 365 / float(history.attrs["periods_per_year"]))
    gaps = np.flatnonzero(apart > allowed)
    if gaps.size:
        first, widest = gaps[0], gaps[np.argmax(apart[gaps])]
        others = f", and {gaps.size - 1} more gaps of up to {apart[widest]} days" if gaps.size > 1 else ""
        warnings.warn(
            f"the history has no date between {days[first]} and {days[first + 1]} ({apart[first]} days{others}): what "
            "moved meanwhile counts as one step's move, in residuals, scales and tails; get the missing dates, or fit "
            f"on those from {days[gaps[-1] + 1]} on",
            HistoryWarning,
            stacklevel=callers_level(),
        )

"""Whether spot and returns of a dataset tell the same story, also over dates that were dropped."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.schema._calendars import calendar_of
from volscen.schema._contract import HISTORY, SCENARIOS

__all__ = ["dates_after_gaps", "spot_problems"]

#: With fewer returns of forwards than this the basis may explain any difference from those of the spot.
_FEW = 10

#: A return over a gap this far from that of the spot is not of the whole gap: of spots, and of forwards.
_LOST, _LOST_FORWARD = 1e-4, 0.02


def dates_after_gaps(ds: xr.Dataset) -> npt.NDArray[np.datetime64]:
    """Dates that follow skipped weekdays and whose returns are not of the spot over the gap.

    Over holidays the two agree; a date dropped by hand takes its own return with it. Where returns leave out what the
    spot does, on dates of dividends, there is no gap as a rule.
    """
    days = ds["date"].values.astype("datetime64[D]")
    if days.size < 2 or np.any(days[1:] == days[:-1]):  # several rows a day: no telling which are missing
        return days[:0]
    apart = np.diff(days).astype(int) if calendar_of(ds) == "24/7" else np.busday_count(days[:-1], days[1:])
    skipped = apart > max(1, np.median(apart))  # rows of every week are a week apart
    of_spot = np.diff(np.log(np.atleast_2d(ds["spot"].values)), axis=-1)
    gap = np.abs(np.atleast_2d(ds["log_return"].values)[:, 1:] - of_spot)
    if "jump_flag" in ds:
        skipped = skipped & ~np.any(np.atleast_2d(ds["jump_flag"].values)[:, 1:] == 1, axis=0)
    # Spots read off the nearest forward jump by the basis where it rolls.
    most = _LOST_FORWARD if ds.attrs.get("return_source") == "forward" else _LOST
    return np.asarray(days[1:][skipped & np.any(gap > most, axis=0)])


def spot_problems(ds: xr.Dataset, schema: str) -> list[str]:
    """Spot and returns must tell the same story; dividends may part them on a few dates."""
    if schema == HISTORY:
        of_spot = np.atleast_2d(np.diff(np.log(ds["spot"].values)))
        gap = np.abs(np.atleast_2d(ds["log_return"].values[..., 1:]) - of_spot)
        compared = np.ones(gap.shape, dtype=bool)
        if "jump_flag" in ds:  # where a corporate action was taken out they do differ
            compared = np.atleast_2d(ds["jump_flag"].values[..., 1:]) != 1
        of_forwards = ds.attrs.get("return_source") == "forward"
        for own, theirs, use in zip(gap, np.abs(of_spot), compared, strict=True):
            # Returns of forwards differ from those of the spot by carry and noise, but not as a rule by as much as
            # the returns.
            if use.any() and (not of_forwards or use.sum() >= _FEW):
                allowed = 0.25 * np.median(theirs[use]) + 1e-3 if of_forwards else 1e-5
                if np.median(own[use]) > allowed:
                    return [
                        "log_return is not the return between neighbouring dates; take a subset of the dates with "
                        "volscen.select_dates"
                    ]
    whole = schema == SCENARIOS and np.array_equal(ds["step"].values, np.arange(1, ds.sizes["step"] + 1))
    if whole and all(isinstance(ds[name].data, np.ndarray) for name in ("spot", "spot0", "log_return")):
        growth = np.exp(ds["log_return"].values.astype(np.float64).cumsum(axis=-1))
        if not np.allclose(ds["spot"].values, ds["spot0"].values[..., None, None] * growth, rtol=1e-4, atol=0):
            return ["spot is not spot0 compounded by log_return"]
    return []

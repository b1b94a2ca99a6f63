"""Weights to start from, for scenarios that are past days: recent days, or days that began like today, count more.

Historical simulation (the generator ``"bootstrap"``) draws past days. :func:`source_dates` says which day stands
behind each scenario; :func:`time_decay` and :func:`similarity` weigh the days; :func:`combine` multiplies such
weights. All go to ``prior=`` of :func:`volscen.reweight` and :func:`volscen.entropy_pool`.

>>> import volscen
>>> history = volscen.datasets.sample_history()
>>> cube = volscen.generate(volscen.fit(history, "bootstrap"), history, n_scenarios=2000, seed=1)
>>> cube = volscen.priors.source_dates(cube, history)
>>> recent = volscen.priors.time_decay(cube, half_life=500)
>>> weighted = volscen.reweight(cube, beta=0.0, prior=recent)
>>> 0.4 < weighted.attrs["ess_fraction"] < 1
True
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._numbers import positive_number, whole_number
from volscen._tenors import to_years
from volscen.errors import InputError
from volscen.surface._interpolate import interpolate_vol

__all__ = ["combine", "market_state", "similarity", "source_dates", "time_decay"]

FloatArray = npt.NDArray[np.float64]


def source_dates(ds: xr.Dataset, history: xr.Dataset) -> xr.Dataset:
    """Find the past day behind every scenario and step of a historical simulation.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios whose returns are returns of ``history``.
    history : xarray.Dataset
        What was drawn from.

    Returns
    -------
    xarray.Dataset
        A copy with the coordinate ``source_date(scenario, step)``, with a leading ``as_of`` where there are several.

    Raises
    ------
    InputError
        If a return is none of the history's: the generator does not draw whole past days (``"fhs"``, ``"pca"`` and
        ``"har"`` rescale them), or drew from another history.

    Notes
    -----
    A day is recognised by its return, to the last bit; among days of equal returns by the move of the surface.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> cube = volscen.generate(volscen.fit(history, "bootstrap"), history, n_scenarios=5, horizon=3, seed=1)
    >>> volscen.priors.source_dates(cube, history).source_date.shape
    (5, 3)
    """
    _check(ds)
    schema.validate(history, schema=schema.HISTORY)
    past, dates = history["log_return"].values[1:], history["date"].values[1:]
    order = np.argsort(past, kind="stable")
    ordered = past[order]
    returns = ds["log_return"].transpose(..., "scenario", "step").values
    first = np.searchsorted(ordered, returns, side="left")
    found = ordered[np.minimum(first, ordered.size - 1)] == returns
    if not np.all(found):
        raise InputError(
            f"{np.mean(~found):.1%} of the returns are none of the history's: only scenarios of historical simulation "
            "(generator 'bootstrap'), drawn from this history, have source dates"
        )
    day = order[first]
    ties = np.searchsorted(ordered, returns, side="right") - first > 1
    if ties.any():
        schema.check_same_grid(ds["tau"].values, ds["moneyness"].values, history, "the scenarios")
        move = np.diff(np.log(history["implied_vol"].values.astype(np.float64)), axis=0)
        surfaces = ds["implied_vol"].transpose(..., "scenario", "step", "tau", "moneyness")
        start = ds["implied_vol0"].transpose(..., "tau", "moneyness").values
        for place in map(tuple, np.argwhere(ties)):
            before = start[place[:-2]] if place[-1] == 0 else surfaces[(*place[:-1], place[-1] - 1)].values
            moved = np.log(surfaces[place].values.astype(np.float64)) - np.log(np.asarray(before, dtype=np.float64))
            same = np.flatnonzero(past == returns[place])
            day[place] = same[np.argmin([np.max(np.abs(moved - move[k])) for k in same])]
    dims = ("as_of", "scenario", "step") if "as_of" in ds.dims else ("scenario", "step")
    return ds.assign_coords(source_date=(dims, dates[day], {"long_name": "past day that was drawn"}))


def time_decay(ds: xr.Dataset, half_life: float) -> xr.DataArray:
    """Weights that halve with every half-life between the day drawn and ``as_of``.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios with ``source_date`` (see :func:`source_dates`).
    half_life : float
        Calendar days, positive.

    Returns
    -------
    xarray.DataArray, dims (scenario,) or (as_of, scenario)
        Summing to 1 per date.

    Notes
    -----
    Drawing days with probabilities q instead of equal ones multiplies the likelihood of a path by the product of q
    over its steps, and so does this weight: with many steps few paths keep weight. Boudoukh, Richardson and Whitelaw
    (1998).

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> cube = volscen.generate(volscen.fit(history, "bootstrap"), history, n_scenarios=1000, seed=1)
    >>> weight = volscen.priors.time_decay(volscen.priors.source_dates(cube, history), half_life=250)
    >>> weight.dims, round(float(weight.sum()), 12)
    (('scenario',), 1.0)
    """
    life = positive_number("half_life", half_life)
    source = _source(ds)
    age = (ds["as_of"] - source) / np.timedelta64(1, "D")
    if bool((age < 0).any()):
        raise InputError("a source_date lies after as_of: the scenarios were drawn from days not known then")
    return _normalised(-np.log(2) * age.sum("step") / life)


def market_state(history: xr.Dataset, *, tau: float | str | None = None, window: int = 21) -> xr.DataArray:
    """State of the market at each close: the level of volatility and what has been realised of it.

    Parameters
    ----------
    history : xarray.Dataset
        Following ``volscen/history/1``.
    tau : float or str, optional
        Time to expiry of the at-the-money volatility, in years, or a tenor such as "3M"; the shortest of the grid when
        omitted.
    window : int
        Days of realised volatility, at least 2.

    Returns
    -------
    xarray.DataArray, dims (date, feature)
        Natural logarithms of the at-the-money volatility and of the root mean square return, annualised; NaN until
        there are ``window`` returns.

    Examples
    --------
    >>> import volscen
    >>> volscen.priors.market_state(volscen.datasets.sample_history()).dims
    ('date', 'feature')
    """
    schema.validate(history, schema=schema.HISTORY)
    days = whole_number("window", window, least=2)
    grid, moneyness = history["tau"].values, history["moneyness"].values
    tenor = float(grid[0]) if tau is None else positive_number("tau", to_years("tau", tau))
    atm = interpolate_vol(history["implied_vol"].values, grid, moneyness, tenor, 1.0)
    square = np.concatenate([[0.0], np.cumsum(np.square(history["log_return"].values[1:]))])
    realised = np.full(atm.size, np.nan)
    mean = np.maximum(square[days:] - square[:-days], 0.0) / days
    # A market that has not moved has no logarithm: the smallest move there is stands in.
    realised[days:] = np.sqrt(np.maximum(mean, 1e-12) * float(history.attrs["periods_per_year"]))
    return xr.DataArray(
        np.stack([np.log(atm), np.log(realised)], axis=1),
        dims=("date", "feature"),
        coords={"date": history["date"].values, "feature": ["log_atm_vol", "log_realised_vol"]},
        name="market_state",
    )


def similarity(
    ds: xr.Dataset, history: xr.Dataset, *, bandwidth: float = 1.0, state: xr.DataArray | None = None
) -> xr.DataArray:
    """Weights of past days by how like today's the state of the market was at the close before them.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios with ``source_date`` (see :func:`source_dates`).
    history : xarray.Dataset
        With the days drawn and ``as_of``; nothing after ``as_of`` is used.
    bandwidth : float
        Of a Gaussian kernel, in standard deviations of each feature up to ``as_of``. Small: few days like today; large:
        equal weights.
    state : xarray.DataArray, dims (date, feature), optional
        Features at each close of ``history``; :func:`market_state` when omitted. NaN: that day is not like any.

    Returns
    -------
    xarray.DataArray, dims (scenario,) or (as_of, scenario)
        Summing to 1 per date.

    Raises
    ------
    InputError
        If today's state is unknown, or no day drawn has a known state.

    Notes
    -----
    With several steps the weight is the product over the steps, each compared with the state at ``as_of``: for horizons
    over which the state hardly changes.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> cube = volscen.generate(volscen.fit(history, "bootstrap"), history, n_scenarios=2000, seed=1)
    >>> cube = volscen.priors.source_dates(cube, history)
    >>> like = volscen.priors.similarity(cube, history, bandwidth=0.5)
    >>> both = volscen.priors.combine(like, volscen.priors.time_decay(cube, half_life=1000))
    >>> round(float(both.sum()), 12)
    1.0
    """
    width = positive_number("bandwidth", bandwidth)
    source = _source(ds)
    features = market_state(history) if state is None else state
    if not isinstance(features, xr.DataArray) or features.dims != ("date", "feature"):
        raise InputError("state must be an xarray.DataArray with the dimensions date and feature")
    if not np.array_equal(features["date"].values, history["date"].values):
        raise InputError("state must have the dates of the history")
    values, dates = features.values.astype(np.float64), history["date"].values
    if "as_of" in ds.dims:
        rows = [
            _log_kernel(source.isel(as_of=i).values, ds["as_of"].values[i], values, dates, width)
            for i in range(ds.sizes["as_of"])
        ]
        return _normalised(xr.DataArray(np.stack(rows), dims=("as_of", "scenario")))
    return _normalised(
        xr.DataArray(_log_kernel(source.values, ds["as_of"].values, values, dates, width), dims="scenario")
    )


def _log_kernel(
    source: npt.NDArray[Any], as_of: Any, values: FloatArray, dates: npt.NDArray[Any], width: float
) -> FloatArray:
    today = int(np.searchsorted(dates, as_of, side="right")) - 1
    day = np.datetime_as_string(as_of, unit="D")
    if today < 0 or dates[today].astype("datetime64[D]") != as_of.astype("datetime64[D]"):
        raise InputError(f"the history does not hold as_of {day}")
    if not np.all(np.isfinite(values[today])):
        raise InputError(f"the state at as_of {day} is not known; give a history that begins earlier")
    scale = np.nanstd(values[: today + 1], axis=0)
    if np.any(scale == 0):
        raise InputError("a feature of state is the same on all days; leave it out")
    position = np.searchsorted(dates, source)
    if np.any(position > today) or np.any(dates[np.minimum(position, dates.size - 1)] != source):
        raise InputError("a source_date is not in the history, or lies after as_of")
    # The move into a day began at the close before it.
    distance = np.sum(np.square((values[position - 1] - values[today]) / (width * scale)), axis=-1)
    return np.asarray(np.where(position > 0, -0.5 * distance, np.nan).sum(axis=-1))


def combine(*weights: xr.DataArray) -> xr.DataArray:
    """Multiply weights of the same scenarios and make them sum to 1 again.

    Raises
    ------
    InputError
        If they are of different scenarios, or no scenario has weight in all of them.

    Examples
    --------
    >>> import xarray as xr, volscen
    >>> a = xr.DataArray([0.5, 0.5, 0.0], dims="scenario")
    >>> b = xr.DataArray([0.2, 0.6, 0.2], dims="scenario")
    >>> volscen.priors.combine(a, b).values
    array([0.25, 0.75, 0.  ])
    """
    if not weights or not all(isinstance(w, xr.DataArray) and "scenario" in w.dims for w in weights):
        raise InputError("combine takes weights as the functions of volscen.priors return them")
    if len({w.sizes["scenario"] for w in weights}) > 1:
        raise InputError("combine takes weights of the same scenarios")
    with np.errstate(divide="ignore"):
        total = sum(xr.DataArray(np.log(w.values), dims=w.dims) for w in weights)
    assert isinstance(total, xr.DataArray)
    return _normalised(total)


def _normalised(log_weight: xr.DataArray) -> xr.DataArray:
    """Weights from their logarithms; NaN and minus infinity are none."""
    array = log_weight.transpose(..., "scenario").values.astype(np.float64)
    array = np.where(np.isnan(array), -np.inf, array)
    top = array.max(axis=-1, keepdims=True)
    if np.any(top == -np.inf):
        raise InputError("no scenario has any weight; widen the bandwidth or lengthen the history")
    weight = np.exp(array - top)
    dims = tuple(d for d in ("as_of", "scenario") if d in log_weight.dims)
    return xr.DataArray(weight / weight.sum(axis=-1, keepdims=True), dims=dims, name="prior")


def _source(ds: xr.Dataset) -> xr.DataArray:
    _check(ds)
    if "source_date" not in ds.coords:
        raise InputError("ds has no coordinate source_date; find it with volscen.priors.source_dates(ds, history)")
    return ds["source_date"].transpose(..., "scenario", "step")


def _check(ds: object) -> None:
    if not isinstance(ds, xr.Dataset):
        raise InputError(f"ds must be a scenario dataset such as volscen.generate() returns, not {type(ds).__name__}")
    schema.validate(ds, schema=schema.SCENARIOS)

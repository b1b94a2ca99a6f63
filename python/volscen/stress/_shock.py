"""Shocks to the level, skew, curvature and term structure of a surface, by tenor and delta."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.special import ndtr

from volscen._numbers import finite_number, positive_number
from volscen._tenors import to_years
from volscen.errors import InputError
from volscen.stress._assemble import Start, assemble, start_of

__all__ = ["shock"]

FloatArray = npt.NDArray[np.float64]

#: Tenors between which ``term`` is measured.
_SHORT, _LONG = 30 / 365, 1.0

#: Beyond these a size is taken for per cent: a fall by 95%, 300 vol points, a tenfold volatility.
_LARGEST_RETURN, _LARGEST_MOVE, _LARGEST_SHARE = 3.0, 3.0, 10.0

#: One size, one for each scenario, or one for each tenor.
Size = float | Sequence[float] | npt.NDArray[Any] | Mapping[float | str, float]


def shock(
    start: xr.Dataset,
    *,
    log_return: float | npt.ArrayLike = 0.0,
    level: Size = 0.0,
    skew: Size = 0.0,
    curvature: Size = 0.0,
    term: float | npt.ArrayLike = 0.0,
    relative: bool = False,
    tau: float | str | None = None,
    delta: float | None = None,
    tau_width: float = 0.7,
    delta_width: float = 0.15,
    name: str | Sequence[str] = "shock",
    as_of: Any = None,
    weight: npt.ArrayLike | None = None,
    project: bool = False,
) -> xr.Dataset:
    """Move the spot and the shape of the surface by hand.

    Parameters
    ----------
    start : xarray.Dataset
        The state that is stressed: a history (its last date, or ``as_of``), a surface, or scenarios (their start).
    log_return : float or array_like, shape (n,)
        Log return of the underlying.
    level : float, array_like of shape (n,), or mapping of tenor to float
        Added to all volatilities, 0.05 for 5 points.
    skew : float, array_like, or mapping of tenor to float
        Change of the volatility of the 25-delta put less that of the 25-delta call.
    curvature : float, array_like, or mapping of tenor to float
        Change of the mean of those two less the 50-delta volatility.
    term : float or array_like, shape (n,)
        Change of the volatility at 30 days less that at one year.
    relative : bool
        Sizes are shares of each volatility: a level of 0.2 makes 20% of 24%.
    tau : float or str, optional
        Years, or a tenor such as "3M", around which the shock is localised; everywhere when omitted.
    delta : float, optional
        Delta around which it is localised: between 0 and 1 of a call, negative of a put; everywhere when omitted.
    tau_width : float
        Standard deviation of the weight around ``tau``, in log time; 0.7 is a factor of two.
    delta_width : float
        Standard deviation of the weight around ``delta``.
    name : str or sequence of str
        Of the scenarios; one name for several is numbered.
    as_of : date, optional
        Of the state, where ``start`` is a history.
    weight : array_like, shape (n,), optional
        Summing to 1; equal when omitted.
    project : bool
        Replace every surface by the nearest one without static arbitrage on the grid.

    Returns
    -------
    xarray.Dataset
        Following ``volscen/scenarios/1``, one step, one scenario for each entry of the arrays given (scalars hold for
        all), with the coordinate ``name``. ``arbitrage_penalty`` is the shocked surface's; with ``project`` it is zero
        and ``arbitrage_penalty_raw`` keeps what it was.

    Raises
    ------
    InputError
        If sizes are not finite or do not fit together, or a volatility would not stay positive.
    FitError
        With ``project``, if no surface without arbitrage is found near a shocked one.

    Notes
    -----
    With D the delta of a call at each grid point on the starting surface, N(d1), the shape of ``skew`` is
    (D - 1/2)/(1/2), of ``curvature`` ((D - 1/2)/(1/4))^2, which are bounded in the wings, and of ``term``
    ln(t_mid/t)/ln(365/30) with t_mid the geometric mean of the two tenors. A mapping gives sizes at tenors (years or
    "3M"), between which they are linear in log time and outside which they are flat. A localised shock has the weight
    exp(-ln(t/tau)^2/(2 tau_width^2)) exp(-(D - delta)^2/(2 delta_width^2)).

    Examples
    --------
    >>> import numpy as np, volscen
    >>> cube = volscen.generate(n_scenarios=1000, seed=1)
    >>> ladder = volscen.stress.shock(cube, log_return=np.log([0.9, 0.95, 1.0]), level=[0.1, 0.04, 0.0])
    >>> ladder.name.values.tolist()
    ['shock 1', 'shock 2', 'shock 3']
    >>> front = volscen.stress.shock(cube, level={30 / 365: 0.06, 1.0: 0.01}, name="front end")
    >>> moved = (front.implied_vol[0, 0] - front.implied_vol0).values
    >>> round(float(moved[-1, 0]), 12)  # at one year
    0.01
    """
    state = start_of(start, as_of)
    sizes = {"log_return": log_return, "level": level, "skew": skew, "curvature": curvature, "term": term}
    arrays = {key: _size(key, value, state) for key, value in sizes.items()}
    _check_units(arrays, bool(relative))
    counts = {array.shape[0] for array in arrays.values()} - {1}
    if len(counts) > 1:
        raise InputError(f"the sizes must be single numbers or lists of one length, not of {sorted(counts)}")
    n = counts.pop() if counts else 1
    if not isinstance(relative, bool | np.bool_):
        raise InputError(f"relative must be True or False, not {relative!r}")
    d = _call_delta(state)
    time = np.log(np.sqrt(_SHORT * _LONG) / state.tau) / np.log(_LONG / _SHORT)
    move = (
        arrays["level"][..., None]
        + arrays["skew"][..., None] * (d - 0.5) / 0.5
        + arrays["curvature"][..., None] * np.square((d - 0.5) / 0.25)
        + (arrays["term"] * time)[..., None]
    ) * _local(state, d, tau, delta, tau_width, delta_width)
    vol = np.broadcast_to(
        state.implied_vol * (1 + move) if relative else state.implied_vol + move, (n, *state.implied_vol.shape)
    )
    if np.any(vol <= 0):
        i, row, column = (int(index) for index in np.argwhere(vol <= 0)[0])
        raise InputError(
            f"the shock leaves no positive volatility at tau {state.tau[row]:.4g} and moneyness "
            f"{state.moneyness[column]:.4g} (scenario {i}); make it smaller, or relative=True"
        )
    returns = np.broadcast_to(arrays["log_return"][:, :1], (n, 1))
    return assemble(
        state, _names(name, n), returns.copy(), vol[:, None].copy(), kind="shock", weight=weight, project=project
    )


def _check_units(arrays: Mapping[str, FloatArray], relative: bool) -> None:
    """Refuse per cent: eight times the volatility, or a spot of nothing, would be answered without a word."""
    for name, array in arrays.items():
        limit = _LARGEST_RETURN if name == "log_return" else _LARGEST_SHARE if relative else _LARGEST_MOVE
        size = float(array.flat[np.abs(array).argmax()])
        if abs(size) <= limit:
            continue
        if name == "log_return":
            what = f"{size:g} takes the spot to {np.exp(min(size, 99.0)):.3g} times what it is"
        else:
            what = f"{size:g} is {100 * size:g}{'%' if relative else ' vol points'}"
        raise InputError(f"{name} is a decimal, and {what}; was {size / 100:g} meant?")


def _size(name: str, value: Any, start: Start) -> FloatArray:
    """Size of a shock by scenario and tenor, of shape (1 or n, 1 or J)."""
    if isinstance(value, Mapping):
        if name in ("log_return", "term"):
            raise InputError(f"{name} must be a number or a list of numbers, one for each scenario")
        if not value:
            raise InputError(f"{name} is an empty mapping; give sizes by tenor")
        at = _numbers(f"the tenors of {name}", to_years(f"the tenors of {name}", list(value)))
        sizes = _numbers(name, list(value.values()))
        if np.any(at <= 0):
            raise InputError(f"the tenors of {name} must be positive")
        if np.unique(at).size < at.size:
            raise InputError(f"{name} gives a tenor twice")
        order = np.argsort(at)
        return np.interp(np.log(start.tau), np.log(at[order]), sizes[order])[None]
    return _numbers(name, value)[:, None]


def _numbers(name: str, value: Any) -> FloatArray:
    try:
        array = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        raise InputError(f"{name} must be numbers, not {value!r}") from None
    if array.ndim != 1 or not array.size or not np.all(np.isfinite(array)):
        raise InputError(f"{name} must be a finite number or a list of finite numbers")
    return array


def _call_delta(start: Start) -> FloatArray:
    s = start.implied_vol * np.sqrt(start.tau)[:, None]
    return np.asarray(ndtr(-np.log(start.moneyness) / s + s / 2))


def _local(
    start: Start, d: FloatArray, tau: float | str | None, delta: float | None, tau_width: float, delta_width: float
) -> FloatArray:
    weight = np.ones_like(d)
    for name, value in (("tau_width", tau_width), ("delta_width", delta_width)):
        positive_number(name, value)
    if tau is not None:
        centre = positive_number("tau", to_years("tau", tau))
        weight *= np.exp(-np.square(np.log(start.tau / centre) / tau_width) / 2)[:, None]
    if delta is not None:
        if not 0 < abs(finite_number("delta", delta)) < 1:
            raise InputError(f"delta must lie between 0 and 1 in size, not {delta!r}")
        weight *= np.exp(-np.square((d - (delta if delta > 0 else 1 + delta)) / delta_width) / 2)
    return weight


def _names(name: str | Sequence[str], n: int) -> list[str]:
    if isinstance(name, str):
        return [name] if n == 1 else [f"{name} {i}" for i in range(1, n + 1)]
    names = [str(each) for each in name] if isinstance(name, Iterable) else []
    if len(names) != n:
        raise InputError(f"name must be one text, or a list of {n}, not {name!r}")
    return names

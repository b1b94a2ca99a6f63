"""Crises of the past, replayed on the surface of another day."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._dates import to_day
from volscen.errors import InputError
from volscen.stress._assemble import Start, assemble, start_of

__all__ = ["WINDOWS", "replay"]

FloatArray = npt.NDArray[np.float64]

#: Falls of the S&P 500, from the close of the first date to that of the second.
WINDOWS: dict[str, tuple[str, str]] = {
    "1998 Russia and LTCM": ("1998-07-17", "1998-08-31"),
    "2008 Lehman": ("2008-09-12", "2008-10-10"),
    "2011 euro and US rating": ("2011-07-22", "2011-08-08"),
    "2015 China": ("2015-08-17", "2015-08-24"),
    "2018 volatility": ("2018-01-26", "2018-02-08"),
    "2018 December": ("2018-12-03", "2018-12-24"),
    "2020 pandemic": ("2020-02-19", "2020-03-16"),
}


def replay(
    start: xr.Dataset,
    history: xr.Dataset,
    windows: Mapping[str, tuple[Any, Any]] | None = None,
    *,
    horizon: int | None = None,
    as_of: Any = None,
    weight: Mapping[str, float] | npt.ArrayLike | None = None,
    project: bool = False,
) -> xr.Dataset:
    """Apply what returns and surfaces did in past crises to another day's state.

    Parameters
    ----------
    start : xarray.Dataset
        The state that is stressed: a history (its last date, or ``as_of``), a surface, or scenarios (their start).
    history : xarray.Dataset
        Holds the crises; its grid may differ from the start's.
    windows : mapping of name to (first date, last date), optional
        A crisis goes from the close of the first date to that of the last. Those of :data:`WINDOWS` that the history
        contains when omitted.
    horizon : int, optional
        When omitted every window is one scenario of one step, its whole move at once. Otherwise every run of so many
        trading days within a window is a scenario of so many steps, day by day, named by window and last date.
    as_of : date, optional
        Of the state, where ``start`` is a history.
    weight : mapping of window to weight, or array_like of shape (n,), optional
        Summing to 1; a window's weight is shared equally by its scenarios. Equal for all scenarios when omitted.
    project : bool
        Replace every surface by the nearest one without static arbitrage on the grid.

    Returns
    -------
    xarray.Dataset
        Following ``volscen/scenarios/1``, with the coordinates ``name`` and ``window`` of each scenario and the
        ``arbitrage_penalty`` of each surface (``arbitrage_penalty_raw`` before projection). The attribute
        ``extrapolated_cells`` is the share of the start's grid that lies outside the history's.

    Raises
    ------
    InputError
        If the history does not contain a window, a window is shorter than the horizon, or weights do not fit.
    FitError
        With ``project``, if no surface without arbitrage is found near one.

    Notes
    -----
    Returns are applied as log returns, surfaces as increments of log volatility at the same time to expiry and K/F:
    log sigma(t) = log sigma_start + log sigma_crisis(t) - log sigma_crisis(0). Between grids increments are
    interpolated linearly in time and log-moneyness, flat outside. A crisis of many days in one step is a sudden move:
    revaluation takes a day off the time to expiry, or what ``elapsed_days`` says.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> first, last = history.date.values[[100, 110]]
    >>> ds = volscen.stress.replay(history, history, {"simulated": (first, last)})
    >>> ds.name.values.tolist(), dict(ds.sizes)["step"]
    (['simulated'], 1)
    >>> volscen.stress.replay(history, history, {"simulated": (first, last)}, horizon=5).sizes["scenario"]
    6
    """
    schema.validate(history, schema=schema.HISTORY)
    state = start_of(start, as_of)
    dates = history["date"].values.astype("datetime64[D]")
    if horizon is not None and (isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 1):
        raise InputError(f"horizon must be a positive number of days or None, not {horizon!r}")
    # The history's own returns, which know dividends and splits where the source does; the first has no day before.
    log_spot = np.cumsum(np.r_[0.0, history["log_return"].values[1:].astype(np.float64)])
    runs: list[tuple[str, str, list[int]]] = []
    for window, (first, last) in _rows(dates, windows).items():
        if horizon is None:
            runs.append((window, window, [first, last]))
            continue
        if last - first < horizon:
            raise InputError(f"the window {window!r} has {last - first} trading days, fewer than the horizon {horizon}")
        runs += [
            (f"{window} {dates[end]}", window, list(range(end - horizon, end + 1)))
            for end in range(first + horizon, last + 1)
        ]
    rows = np.array([days for _, _, days in runs])
    used, where = np.unique(rows, return_inverse=True)
    surfaces = np.log(history["implied_vol"].transpose("date", ...).values[used].astype(np.float64))
    outside, on_grid = _regrid(surfaces, history, state)
    paths = on_grid[where.reshape(rows.shape)]
    ds = assemble(
        state,
        [name for name, _, _ in runs],
        np.diff(log_spot[rows], axis=1),
        state.implied_vol * np.exp(paths[:, 1:] - paths[:, :1]),
        kind="replay",
        weight=_weights([window for _, window, _ in runs], weight),
        project=project,
    )
    ds.attrs["extrapolated_cells"] = outside
    windows_of = np.array([window for _, window, _ in runs], dtype=object)
    return ds.assign_coords(window=("scenario", windows_of, {"long_name": "crisis that is replayed"}))


def _rows(
    dates: npt.NDArray[np.datetime64], windows: Mapping[str, tuple[Any, Any]] | None
) -> dict[str, tuple[int, int]]:
    """First and last row of each window; the last trading date on or before each date given."""
    chosen = WINDOWS if windows is None else windows
    if not isinstance(chosen, Mapping) or not chosen:
        raise InputError("windows must be a mapping of names to (first date, last date)")
    out = {}
    for name, ends in chosen.items():
        if isinstance(ends, str) or np.shape(ends) != (2,):
            raise InputError(f"the window {name!r} must be (first date, last date), not {ends!r}")
        first, last = (to_day(day, f"the window {name!r}") for day in ends)
        if first < dates[0] or last > dates[-1]:
            if windows is None:
                continue
            raise InputError(
                f"the window {name!r} ({first} to {last}) is not in the history ({dates[0]} to {dates[-1]})"
            )
        low, high = (int(np.searchsorted(dates, day, side="right")) - 1 for day in (first, last))
        # A gap of the history would make a window of one date out of a crisis.
        if high <= low:
            raise InputError(f"the window {name!r} ({first} to {last}) holds fewer than two dates of the history")
        out[str(name)] = (low, high)
    if not out:
        raise InputError(
            f"the history ({dates[0]} to {dates[-1]}) contains no window of volscen.stress.WINDOWS; give windows"
        )
    return out


def _regrid(surfaces: FloatArray, history: xr.Dataset, start: Start) -> tuple[float, FloatArray]:
    """Log surfaces (n, J, I) of the history on the start's grid, linear in tau and log-moneyness, flat outside.

    Also the share of the cells that lie outside. Increments of what is linear in the surfaces are linear too.
    """
    tau, moneyness = (history[name].values.astype(np.float64) for name in ("tau", "moneyness"))
    rows, columns = _hat(start.tau, tau), _hat(np.log(start.moneyness), np.log(moneyness))
    inside = [
        (own >= other[0] * (1 - 1e-9)) & (own <= other[-1] * (1 + 1e-9))
        for own, other in ((start.tau, tau), (start.moneyness, moneyness))
    ]
    return 1 - float(np.outer(*inside).mean()), np.asarray(rows @ surfaces @ columns.T)


def _hat(query: FloatArray, grid: FloatArray) -> FloatArray:
    """Matrix of linear interpolation from a grid to query points, flat outside."""
    return np.stack([np.interp(query, grid, unit) for unit in np.eye(grid.size)], axis=1)


def _weights(windows: list[str], weight: Mapping[str, float] | npt.ArrayLike | None) -> npt.ArrayLike | None:
    if not isinstance(weight, Mapping):
        return weight
    counts = {window: windows.count(window) for window in dict.fromkeys(windows)}
    if set(weight) != set(counts):
        raise InputError(f"weight must name the windows {', '.join(counts)}, not {', '.join(map(str, weight))}")
    try:
        return [float(weight[window]) / counts[window] for window in windows]
    except (TypeError, ValueError):
        raise InputError("weight must map windows to numbers") from None

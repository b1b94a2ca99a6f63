"""Scoring scenario cubes that exist already, ours or another system's, against a history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from volscen import schema
from volscen._dates import to_day
from volscen._threads import single_threaded_blas
from volscen.errors import FileFormatError, InputError
from volscen.evaluation._day import MEASURES, collect_days, score_day
from volscen.evaluation._walk import check_measures
from volscen.evaluation._yardstick import Yardstick

__all__ = ["score_scenarios"]


def score_scenarios(
    scenarios: xr.Dataset | str | Path | Iterable[xr.Dataset | str | Path],
    history: xr.Dataset,
    *,
    train_end: Any,
    first: Any = None,
    last: Any = None,
    seed: int = 0,
    measures: tuple[str, ...] = MEASURES,
) -> xr.Dataset:
    """Score the first step of scenario cubes against what happened next.

    Parameters
    ----------
    scenarios : xarray.Dataset, path or iterable of either
        With ``implied_vol`` over scenario, tau and moneyness, ``log_return`` over scenario (both with or without
        ``step``) and ``weight`` where there is one; ``as_of``, a dimension, coordinate or attribute, is the last
        date known. A folder stands for its ``.nc`` files in the order of their names.
    history : xarray.Dataset
        Holds the dates and, after each, the one to score against.
    train_end : date
        Moves are divided by their standard deviation over dates before this one.
    first, last : date, optional
        Score realised dates of this period only.
    seed : int
        Of the scenarios kept for the structure.
    measures : tuple of str
        See :func:`walk_forward`.

    Returns
    -------
    xarray.Dataset
        As :func:`walk_forward` returns, without ``state_clipped`` where the cubes have none; the attribute
        ``skipped`` counts cubes whose realised date is not in the history or the period.

    Raises
    ------
    InputError
        If no cube can be scored, two have the same date, or a grid is not the history's.

    Examples
    --------
    >>> import volscen
    >>> from volscen.evaluation import score_scenarios
    >>> history = volscen.datasets.sample_history()
    >>> dates = history.date.values[[1400, 1401]]
    >>> cube = volscen.generate(volscen.fit(history.isel(date=slice(0, 1400)), "pca"), history, as_of=dates, seed=1,
    ...                         n_scenarios=200)
    >>> score_scenarios(cube, history, train_end=dates[0]).sizes["date"]
    2
    """
    chosen = check_measures(measures)
    yard = Yardstick.of(history, train_end)
    low = yard.date[0] if first is None else to_day(first, "first")
    high = yard.date[-1] if last is None else to_day(last, "last")
    position = {date: row for row, date in enumerate(yard.date[:-1])}
    scored: dict[int, dict[str, Any]] = {}
    skipped = 0
    names: set[str] = set()
    with single_threaded_blas():
        for as_of, cube in _one_date_each(scenarios):
            row = position.get(as_of)
            if row is None or not low <= yard.date[row + 1] <= high:
                skipped += 1
                continue
            if row in scored:
                raise InputError(f"scenarios hold two cubes of {as_of}; give one for every date")
            schema.check_same_grid(yard.tau, yard.moneyness, cube, "the scenarios")
            implied_vol = cube["implied_vol"].transpose("scenario", "tau", "moneyness").values.astype(np.float64)
            log_return = cube["log_return"].values.astype(np.float64)
            n = log_return.size
            weight = schema.check_weights(cube["weight"].values, n) if "weight" in cube else np.full(n, 1 / n)
            day = score_day(yard, row, implied_vol, log_return, weight / weight.sum(), measures=chosen, seed=seed)
            scored[row] = day | ({"state_clipped": cube["state_clipped"].values} if "state_clipped" in cube else {})
            names.add(str(cube.attrs.get("generator", "unknown")))
    if not scored:
        raise InputError(f"no cube's next date lies in the history between {low} and {high}; {skipped} were skipped")
    if len({day["weight"].size for day in scored.values() if "weight" in day}) > 1:
        raise InputError("scenarios differ in number between dates; score cubes of one size")
    rows = sorted(scored)
    attributes = {
        "title": "daily scores of one-day-ahead scenarios",
        "generator": ",".join(sorted(names)),
        "first": str(yard.date[rows[0] + 1]),
        "last": str(yard.date[rows[-1] + 1]),
        "train_end": str(to_day(train_end, "train_end")),
        "skipped": skipped,
        "seed": seed,
        "measures": ",".join(chosen),
    }
    return collect_days([scored[row] for row in rows], yard, rows, attributes)


def _one_date_each(scenarios: Any) -> Iterator[tuple[np.datetime64, xr.Dataset]]:
    """First steps of every date in cubes, files and folders."""
    if isinstance(scenarios, (xr.Dataset, str, Path)):
        scenarios = [scenarios]
    for item in scenarios:
        if isinstance(item, xr.Dataset):
            yield from _dates(item, "scenarios")
            continue
        path = Path(item)
        files = sorted(path.glob("*.nc")) if path.is_dir() else [path]
        if not files:
            raise InputError(f"folder {path} holds no .nc file")
        for file in files:
            try:
                with xr.open_dataset(file, engine="netcdf4") as cube:
                    yield from _dates(cube, str(file))
            except OSError as error:
                raise FileFormatError(f"{file}: not a readable NetCDF file ({str(error)[:200]})") from None


def _dates(cube: xr.Dataset, where: str) -> Iterator[tuple[np.datetime64, xr.Dataset]]:
    missing = [name for name in ("implied_vol", "log_return") if name not in cube]
    if missing:
        raise InputError(
            f"{where}: no variable {' nor '.join(missing)}; pass scenarios such as volscen.generate() makes"
        )
    if "step" in cube.dims:
        if "step" in cube.coords and 1 not in cube["step"].values:
            raise InputError(f"{where}: no step 1, which is the one that is scored")
        cube = cube.sel(step=1) if "step" in cube.coords else cube.isel(step=0)
    if "as_of" in cube.dims:
        for i, date in enumerate(cube["as_of"].values):
            yield to_day(date, "as_of"), cube.isel(as_of=i).load()
    elif "as_of" in cube.coords or "as_of" in cube.attrs:
        date = cube["as_of"].values if "as_of" in cube.coords else str(cube.attrs["as_of"])[:10]
        yield to_day(date, "as_of"), cube.load()
    else:
        raise InputError(f"{where}: no as_of, which says when the scenarios were made")

"""Datasets held against their schemas: every problem found, in one message."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import xarray as xr

from volscen._doubts import callers_level
from volscen._version import is_other_number, other_number
from volscen.errors import FileFormatError, HistoryWarning, InputError
from volscen.schema._calendars import calendar_problems
from volscen.schema._checks import check_grid, check_weights
from volscen.schema._contract import (
    ATTRIBUTES,
    DIMS,
    HEDGE,
    HISTORY,
    REPAIR,
    SCENARIO_ATTRIBUTES,
    SCENARIOS,
    SMILE_DIMS,
    SMILES,
)
from volscen.schema._returns import dates_after_gaps, spot_problems

__all__ = ["validate"]

#: Median volatility of all dates, and of one, beyond which it was not given in decimals. Wings alone may lie higher.
_HIGH_VOL = (2.0, 5.0)

#: Numeric attributes and the open interval that each must lie in.
_NUMBERS: dict[str, tuple[float, float]] = {
    "periods_per_year": (0, np.inf),
    "seed": (-1, 2.0**63),
    "beta": (-1e-12, np.inf),
    "ess_fraction": (0, 1 + 1e-9),
}


def validate(ds: xr.Dataset, *, schema: str | None = None) -> xr.Dataset:
    """Check a history, surface, scenario or hedge dataset against its schema and return it unchanged.

    Parameters
    ----------
    ds : xarray.Dataset
        What to check. Dask-backed variables are checked for shape only, not computed.
    schema : str, optional
        Schema it must follow; read from ``ds.attrs["schema"]`` when omitted. A history, or scenarios, must
        then be of one asset, as the verbs take it.

    Raises
    ------
    FileFormatError
        Lists every problem found, in one message.
    InputError
        If one asset is asked for and there are several.

    Warns
    -----
    HistoryWarning
        If a history skips weekdays and the returns over the gaps are not the spot's: dates were dropped by hand.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> volscen.validate(history) is history
    True
    """
    if not isinstance(ds, xr.Dataset):
        hint = "; volscen.read(path) reads one from a file" if isinstance(ds, (str, os.PathLike)) else ""
        raise InputError(f"an xarray.Dataset of volscen is needed, not {type(ds).__name__}{hint}")
    found = str(ds.attrs.get("schema", ""))
    wanted = schema or found
    for known in DIMS:
        if is_other_number(found, known):
            written_by = ds.attrs.get("volscen_version")
            raise FileFormatError(f"a dataset of {other_number(found, known, written_by, 'make it again')}")
    if wanted not in DIMS:
        raise FileFormatError(f"not a volscen dataset: attribute schema is {found!r}, known schemas are {sorted(DIMS)}")
    if found != wanted:
        remedy = (
            "; put repaired surfaces into their history: history.assign(implied_vol=whole.implied_vol)"
            if (wanted, found) == (HISTORY, REPAIR)
            else ""
        )
        raise FileFormatError(f"not a dataset of schema {wanted!r}: its attribute schema is {found!r}{remedy}")
    if schema in (HISTORY, SCENARIOS) and "asset" in ds.dims:
        names = [str(name) for name in ds["asset"].values]
        what, variable = ("history", "history") if schema == HISTORY else ("scenario dataset", "ds")
        raise InputError(
            f"the {what} holds {len(names)} assets ({', '.join(names[:5])}) and one is needed; choose it with "
            f"{variable}.sel(asset={names[0] if names else ''!r})"
        )
    problems = [*_attribute_problems(ds, wanted), *_grid_problems(ds, wanted)]
    for name, (dims, required) in DIMS[wanted].items():
        if name in ds:
            problems += _variable_problems(ds, name, dims, wanted)
        elif required:
            problems.append(f"variable {name} is missing")
    if not problems:
        problems = spot_problems(ds, wanted)
    if problems:
        raise FileFormatError(f"dataset breaks {wanted}: " + "; ".join(problems))
    if wanted == HISTORY and (lost := dates_after_gaps(ds)).size:
        warnings.warn(
            f"log_return into {lost.size} date(s), the first {lost[0]}, is not the return since the previous date "
            "held: were dates dropped by hand? volscen.select_dates drops them and adds up the returns",
            HistoryWarning,
            stacklevel=callers_level(),  # every verb validates: one line of the user's says it once
        )
    return ds


def _attribute_problems(ds: xr.Dataset, schema: str) -> list[str]:
    own = {SCENARIOS: SCENARIO_ATTRIBUTES, HEDGE: ("method", "ess_fraction"), REPAIR: ("method", "projected")}
    names = ATTRIBUTES + own.get(schema, ())
    problems = [f"attribute {name} is missing" for name in names if name not in ds.attrs]
    # The weights of a lazy cube are unknown until computed, and so are these two: writing sets them.
    if schema == SCENARIOS and "beta_requested" not in ds.attrs:
        problems += [f"attribute {name} is missing" for name in ("beta", "ess_fraction") if name not in ds.attrs]
    if ds.attrs.get("day_count", "ACT/365") != "ACT/365":
        problems.append(f"attribute day_count must be 'ACT/365', the only one known, not {ds.attrs['day_count']!r}")
    for name, (low, high) in _NUMBERS.items():
        if name in ds.attrs:
            values = np.asarray(ds.attrs[name])
            if values.dtype.kind not in "iuf" or not np.all((values > low) & (values < high)):
                problems.append(f"attribute {name} must lie between {low:g} and {high:g}, not {ds.attrs[name]!r}")
    return problems


def _grid_problems(ds: xr.Dataset, schema: str) -> list[str]:
    problems: list[str] = []
    if schema == HEDGE:
        return problems
    for name in ("tau",) if schema == SMILES else ("tau", "moneyness"):
        if name not in ds.coords:
            problems.append(f"coordinate {name} is missing")
            continue
        try:
            check_grid(ds[name].values, name)
        except InputError as error:
            problems.append(str(error))
    if schema in (HISTORY, SCENARIOS) and "asset" in ds.dims:
        assets = ds["asset"].values.tolist() if "asset" in ds.coords else []
        if not assets or len(set(assets)) < len(assets) or not all(isinstance(a, str) and a for a in assets):
            problems.append("coordinate asset must hold a name for each asset, without duplicates")
    for name in ("date",) if schema == HISTORY or "date" in ds.dims else ("as_of",) if "as_of" in ds.dims else ():
        if name not in ds.coords or not np.issubdtype(ds[name].dtype, np.datetime64):
            problems.append(f"coordinate {name} must hold datetime64 dates")
        elif np.any(np.isnat(ds[name].values)):
            problems.append(f"{name} holds NaT")
        elif np.any(np.diff(ds[name].values) <= np.timedelta64(0, "D")):
            problems.append(f"{name} must be strictly increasing, without duplicates")
    if schema in (HISTORY, SCENARIOS):
        problems += calendar_problems(ds)
    if schema == SCENARIOS:
        problems += _label_problems(ds)
    if schema == SMILES:
        problems += _smile_problems(ds)
    return problems


def _label_problems(ds: xr.Dataset) -> list[str]:
    """Steps and the date of scenarios, by which time is counted."""
    problems = []
    if "step" in ds.coords:
        steps = ds["step"].values
        whole = steps.dtype.kind in "iuf" and np.array_equal(steps, np.floor(steps))
        if not whole or np.any(steps < 1) or np.any(np.diff(steps) <= 0):
            problems.append("coordinate step must hold trading days ahead: whole numbers from 1 that increase")
    if "as_of" in ds.coords and "as_of" not in ds.dims:
        day = ds["as_of"].values
        if not np.issubdtype(day.dtype, np.datetime64) or np.any(np.isnat(day)):
            problems.append("coordinate as_of must be a datetime64 date")
    return problems


def _smile_problems(ds: xr.Dataset) -> list[str]:
    """Strikes that differ from time to time must be given, and increase."""
    if "moneyness" not in ds.coords:
        return ["coordinate moneyness is missing"]
    array = ds["moneyness"]
    if array.dims[-2:-1] != ("tau",) or array.dims[-1] not in SMILE_DIMS or array.dims[-1] not in ds.coords:
        return [f"moneyness must end in dimensions tau and one of {', '.join(SMILE_DIMS)}, not {array.dims}"]
    if isinstance(array.data, np.ndarray):
        values = array.values
        if not (np.all(np.isfinite(values)) and np.all(values > 0) and np.all(np.diff(values, axis=-1) > 0)):
            return [f"moneyness must be positive, finite and strictly increasing along {array.dims[-1]}"]
    return []


def _variable_problems(ds: xr.Dataset, name: str, dims: tuple[str, ...], schema: str) -> list[str]:
    array = ds[name]
    if "asset" in ds.dims and (schema == HISTORY or (schema == SCENARIOS and name != "weight")):
        dims = ("asset", *dims)
    allowed: set[Any] = {dims, ("as_of", *dims)} if schema == SCENARIOS else {dims}
    if schema == SMILES:
        allowed = {array.dims} if array.dims[-2:-1] == ("tau",) and array.dims[-1] in SMILE_DIMS else set()
    if schema == REPAIR:
        lead = ds["implied_vol"].dims[:-2]
        allowed = {tuple(part for name in dims for part in (lead if name == "..." else (name,)))}
    if array.dims not in allowed:
        ordered = next((want for want in allowed if set(want) == set(array.dims)), None)
        remedy = "" if ordered is None else f" (put them in order: ds.transpose({', '.join(map(repr, ordered))}, ...))"
        return [f"{name} has dimensions {array.dims}, not {dims}{remedy}"]
    if array.size == 0:
        return [f"{name} is empty: {dict(array.sizes)}"]
    if array.dtype.kind not in "biuf":
        return [f"{name} must hold numbers, not {array.dtype}"]
    if not isinstance(array.data, np.ndarray):
        return []
    values = array.values
    if name == "weight":
        try:
            check_weights(values)
        except InputError as error:
            return [str(error)]
        return []
    if schema == HISTORY and name == "log_return":
        values = values[..., 1:]  # the first return is NaN by definition
    if not np.all(np.isfinite(values)):
        remedy = " (volscen.repair fills holes)" if name == "implied_vol" and schema == HISTORY else ""
        return [f"{name} holds NaN or infinite values{remedy}"]
    if name.startswith(("implied_vol", "spot", "forward", "discount_factor")) and np.any(values <= 0):
        return [f"{name} holds values that are not positive"]
    if schema == HISTORY and name == "implied_vol":
        middle = np.median(values, axis=(-2, -1))
        if np.median(middle) > _HIGH_VOL[0] or np.any(middle > _HIGH_VOL[1]):
            return [
                f"implied_vol is {middle.max():.3g} in the middle of a date's surface; decimals are needed (0.2 is "
                "20%): is it given in per cent? divide by 100"
            ]
    if name.startswith("arbitrage_penalty") and np.any(values < 0):
        return [f"{name} holds negative values"]
    return []

"""New days onto the end of a history that exists."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from volscen import schema
from volscen._io import read_dataset, write
from volscen._version import __version__
from volscen.errors import FileFormatError, InputError
from volscen.history._build import run_days
from volscen.history._day import Day, Settings, read_settings, split_days
from volscen.history._parts import Recorded, append, assemble, dropped_days, last_listing
from volscen.surface._points import read_grid, read_product_columns

__all__ = ["update_history"]

_NAMED = ("tau", "moneyness", "method", "max_extrapolation", "max_tau_ratio", "intraday")


def update_history(
    store: str | Path | xr.Dataset,
    quotes: pd.DataFrame,
    *,
    num_workers: int | None = None,
    client: Any = None,
    progress: bool | Literal["auto"] = "auto",
    resume: str | Path | None = None,
    **settings: Any,
) -> tuple[xr.Dataset, pd.DataFrame]:
    """Append the new days of a table of quotes to a history, without building the old ones again.

    Parameters
    ----------
    store : path or xarray.Dataset
        History that :func:`volscen.build_history` made: a NetCDF file or a zarr store, which is replaced when the
        new one is complete, and stays as it is where anything fails; or a dataset, which is not altered.
    quotes : pandas.DataFrame
        As for :func:`volscen.build_history`. Days that the history holds, or dropped, are skipped.
    num_workers, client, progress, resume
        See :func:`volscen.build_history`.
    **settings
        Grid, method and options are those that the history recorded. Any given here (``tau``, ``moneyness``,
        ``method``, ``returns``, ``min_price``, ...) must equal them.

    Returns
    -------
    history : xarray.Dataset
        Old days as they were, then the new: the same numbers, to the last bit, as of a build of all days.
    report : pandas.DataFrame
        Of the new days; see :func:`volscen.build_history`. ``report.attrs["days_skipped"]`` counts the others. It has
        no rows where no day is new; the store is then left alone.

    Raises
    ------
    InputError
        If the history did not record its settings or was cut, a setting differs, the quotes are of another underlying
        or of another kind, or one of their days lies before the last of the history and is not in it: a day cannot
        be put in, as the next return would change. Build anew then, with ``resume``.
    FileFormatError
        If the store is unreadable or no history.

    Examples
    --------
    >>> import numpy as np, pandas as pd, volscen
    >>> strike, is_call = np.repeat(np.arange(80.0, 125, 5), 2), np.tile([True, False], 9)
    >>> tables = [pd.DataFrame({
    ...     "date": date, "expiry": "2024-04-02", "strike": strike, "option_type": np.tile(["C", "P"], 9),
    ...     "price": volscen.black.price(100.0, strike, days / 365, 0.2, is_call)})
    ...     for date, days in (("2024-01-02", 91), ("2024-01-03", 90))]
    >>> history, _ = volscen.build_history(tables[0], tau=[0.2, 0.25], moneyness=[0.9, 1.0, 1.1])
    >>> longer, report = volscen.update_history(history, pd.concat(tables))
    >>> longer.sizes["date"], len(report), report.attrs["days_skipped"]
    (2, 1, 1)
    """
    return extend(store, quotes, settings, num_workers=num_workers, client=client, progress=progress, resume=resume)


def extend(
    store: str | Path | xr.Dataset,
    quotes: pd.DataFrame,
    settings: dict[str, Any],
    *,
    num_workers: int | None = None,
    client: Any = None,
    progress: bool | Literal["auto"] = "auto",
    resume: str | Path | None = None,
    keep_report: Callable[[pd.DataFrame], Any] | None = None,
) -> tuple[xr.Dataset, pd.DataFrame]:
    """:func:`update_history`, whose report may be kept before the store is replaced: afterwards its days are old."""
    if not isinstance(store, xr.Dataset | str | Path):
        raise InputError(f"store must be a file name or a dataset, not {type(store).__name__}")
    if isinstance(store, xr.Dataset):
        history, name = schema.validate(store, schema=schema.HISTORY), "the history"
    else:
        seen = _stamp(store)
        history, name = read_dataset(store, kind=schema.HISTORY), str(store)
    recorded = Recorded.of(history, name)
    before = last_listing(history, name)
    own = _own_settings(recorded, name)
    _check_given(settings, recorded, own, name)
    days, rows_without_date, kind = split_days(quotes, own)
    _check_kind(kind, recorded.quotes, name)
    new = _new_days(days, history, name)
    report = pd.DataFrame()
    if new:
        part, report = assemble(
            run_days(new, own, num_workers, progress, resume, client),
            own,
            recorded,
            before,
            title=str(history.attrs["title"]),
            source=str(history.attrs["source"]),
            calendar=str(history.attrs["calendar"]),
            periods_per_year=float(history.attrs["periods_per_year"]),
        )
        history = append(history, part, report)
        if part is not None:
            line = str(part.attrs["history"]).replace("created", f"{part.sizes['date']} dates appended")
            history.attrs["history"] = f"{history.attrs['history']}\n{line}"
            history.attrs["volscen_version"] = __version__
        if not isinstance(store, xr.Dataset):
            if _stamp(store) != seen:
                raise InputError(f"{name} was changed by something else while the days were fitted; update it again")
            if keep_report is not None:
                keep_report(report)
            write(history, store)
    report.attrs.update(
        rows_without_date=rows_without_date,
        days_skipped=len(days) - len(new),
        exercise_assumed="exercise" not in quotes,
    )
    return history, report


def _stamp(store: str | Path) -> tuple[int, ...] | None:
    """What changes when a file, or the folder of a store, is replaced."""
    try:
        found = os.stat(store)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _own_settings(recorded: Recorded, name: str) -> Settings:
    options = {key: value for key, value in recorded.settings.items() if key not in _NAMED}
    try:
        return read_settings(**{key: recorded.settings[key] for key in _NAMED}, options=options)
    except (KeyError, InputError) as error:
        raise FileFormatError(f"{name}: the attribute build_settings is damaged ({error}); build it anew") from None


def _check_given(given: dict[str, Any], recorded: Recorded, own: Settings, name: str) -> None:
    """Refuse settings that differ from those of the history."""
    known = {**own.record(), "returns": recorded.returns}
    if given.get("tau") is not None:
        given = given | {"tau": read_grid(given["tau"], "tau")}
    if given.get("log_moneyness") is not None or given.get("moneyness") is not None:
        columns = read_product_columns(given.get("moneyness"), given.get("log_moneyness"), {})
        given = {name: value for name, value in given.items() if name != "log_moneyness"} | {"moneyness": columns}
    for key, value in given.items():
        if key not in known:
            raise InputError(f"unknown setting {key!r}; {name} was built with {', '.join(sorted(known))}")
        held = known.get(key)
        if not _equal(value, held) and not (key == "returns" and value == "auto"):
            raise InputError(
                f"{key} is {_short(held)} in {name}, not {_short(value)}; leave it out, or build anew with the other"
            )


def _equal(value: Any, held: Any) -> bool:
    if isinstance(held, list | tuple | int | float) and not isinstance(held, bool):
        try:
            numbers: npt.NDArray[np.float64] = np.asarray(value, dtype=np.float64)
            return numbers.shape == np.shape(held) and bool(np.allclose(numbers, held, rtol=1e-12, atol=0))
        except (TypeError, ValueError):
            return list(value) == list(held) if isinstance(value, list | tuple) and isinstance(held, list) else False
    return bool(value == held)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _check_kind(kind: dict[str, Any], held: dict[str, Any], name: str) -> None:
    """Refuse quotes that make other numbers than those of the history: another underlying, other columns."""
    if kind["underlying"] != held.get("underlying"):
        raise InputError(
            f"the quotes are of underlying {kind['underlying']}, {name} of {held.get('underlying')}; give quotes of "
            "that"
        )
    for key, what in (
        ("bid_ask", "bid and ask"),
        ("spot", "a column spot"),
        ("timed", "columns quote_time and expiry_time"),
    ):
        if bool(kind[key]) != bool(held.get(key)):
            raise InputError(
                f"{name} was built from quotes {'with' if held.get(key) else 'without'} {what}, these are "
                f"{'with' if kind[key] else 'without'}; give the same columns, or build anew"
            )


def _new_days(days: list[Day], history: xr.Dataset, name: str) -> list[Day]:
    """Days after the last that the history knows; others must be known to it."""
    dates = history["date"].values.astype("datetime64[ns]")
    gone = np.array([date for date, _ in dropped_days(history)], dtype="datetime64[ns]")
    known = set(np.concatenate([dates, gone]).tolist())
    last = max(known)
    of = [day.date.astype("datetime64[ns]").item() for day in days]
    strange = [day for day, date in zip(days, of, strict=True) if date < last and date not in known]
    if strange:
        raise InputError(
            f"the quotes hold {len(strange)} day(s) before the last of {name} that it lacks (such as "
            f"{strange[0].date}); a day cannot be put in, as the next return would change: leave out what lies before, "
            "or build anew with resume="
        )
    return [day for day, date in zip(days, of, strict=True) if date > last]

"""The tidy quotes table: one row per option and date, and the check that every source passes through.

The columns are described in ``docs/quotes.md``. :func:`check_quotes` is the only judge of raw rows: whatever
it keeps is complete, positive and unique, and whatever it drops is counted under exactly one reason.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from volscen._dates import to_day
from volscen._duplicate_quotes import repeated_rows
from volscen._quote_dates import read_days
from volscen.errors import InputError

__all__ = ["OPTIONAL_COLUMNS", "REASONS", "REQUIRED_COLUMNS", "check_quotes"]

#: Needed in every table, besides ``price`` or the pair ``bid``, ``ask``.
REQUIRED_COLUMNS = ("date", "expiry", "strike", "option_type")

#: Understood where present; further columns are carried along untouched.
OPTIONAL_COLUMNS = (
    "bid",
    "ask",
    "price",
    "underlying",
    "spot",
    "volume",
    "adjusted",
    "quote_time",
    "expiry_time",
    "age",
    "exercise",
)

#: Instants; both or neither.
_TIMES = ("quote_time", "expiry_time")

#: Why a row is dropped, in the order in which rows are judged: the first that applies is the one counted.
REASONS: dict[str, str] = {
    "missing_date": "date is absent or not a date",
    "missing_expiry": "expiry is absent or not a date",
    "unknown_option_type": "option_type is neither call nor put",
    "missing_strike": "strike is absent, not a number or infinite",
    "nonpositive_strike": "strike is zero or negative",
    "missing_price": "bid, ask or price is absent, not a number or infinite",
    "negative_price": "bid, ask or price is negative",
    "zero_bid": "bid is zero: nobody stands ready to buy",
    "zero_price": "price is zero",
    "crossed": "bid is above ask",
    "unsound_time": "quote_time or expiry_time is absent, unreadable, or beyond a day from date or expiry",
    "expired": "expiry is on or before date; where instants are given, expiry_time is not after quote_time",
    "duplicate": "another row of the same contract and date is kept",
}

#: Reasons that can be switched off: such rows have a price all the same.
KEEPABLE = ("zero_bid", "crossed")

#: A time of day with a time zone at the end of a text.
ZONE = re.compile(r"[T ]\d{2}.*(?:[Zz]|[+-]\d{2}(?::?\d{2})?)\s*$")

_OPTION_TYPES = {"C": "C", "CALL": "C", "P": "P", "PUT": "P"}
_EXERCISE_STYLES = {"E": "European", "EUROPEAN": "European", "A": "American", "AMERICAN": "American"}

#: What tells one quote from another, in the order of sorting.
_KEYS = ("underlying", "date", "quote_time", "expiry", "expiry_time", "strike", "option_type", "adjusted")

_DAY = np.timedelta64(1, "D")


def check_quotes(quotes: pd.DataFrame, *, keep: Collection[str] = ()) -> tuple[pd.DataFrame, pd.Series[int]]:
    """Bring a quotes table into its tidy form and drop the rows that cannot be used, counting why.

    Parameters
    ----------
    quotes : pandas.DataFrame
        Columns ``date``, ``expiry``, ``strike`` (currency), ``option_type`` (call or put; ``C``, ``P``,
        ``call``, ``put`` in any case) and either ``bid`` and ``ask`` or ``price`` (currency per unit of the
        underlying). Optional: ``underlying``, ``spot``, ``volume``, ``adjusted`` (True for a contract altered
        by a corporate action), ``age`` (seconds for which the quote has stood), ``exercise`` ("European" or
        "American"), and together ``quote_time`` and ``expiry_time``: the instants of the quotes and of the payoff, in
        UTC or with a time zone, to which times to expiry are then exact. Dates may be datetimes without a time zone,
        ISO 8601 text, or integers such as 20240131. Further columns are carried along. The table is not altered.
    keep : sequence of str
        Filters to switch off, of "zero_bid" and "crossed".

    Returns
    -------
    clean : pandas.DataFrame
        The rows kept, sorted by underlying, date, quote time, expiry, expiry time, strike and option type. ``date``
        and ``expiry`` are datetime64 at midnight, ``quote_time`` and ``expiry_time`` datetime64 in UTC,
        ``option_type`` is ``"C"`` or ``"P"``, ``exercise`` "European" or "American", ``price`` is the middle of bid
        and ask where these are given.
    dropped : pandas.Series
        Number of rows dropped for each reason of :data:`REASONS`, zeros included;
        ``len(clean) + dropped.sum() == len(quotes)``.

    Raises
    ------
    InputError
        If a column is missing, a date column bears a time zone, one day holds several times of day, or only one
        of ``quote_time`` and ``expiry_time`` is there.

    Examples
    --------
    >>> import pandas as pd
    >>> from volscen.quotes import check_quotes
    >>> table = pd.DataFrame({
    ...     "date": ["2024-01-02"] * 3, "expiry": ["2024-03-15"] * 3, "strike": [100.0, 100.0, 105.0],
    ...     "option_type": ["call", "put", "call"], "bid": [4.0, 3.0, 0.0], "ask": [4.2, 3.3, 0.1]})
    >>> clean, dropped = check_quotes(table)
    >>> clean[["strike", "option_type", "price"]].values.tolist()
    [[100.0, 'C', 4.1], [100.0, 'P', 3.15]]
    >>> dropped[dropped > 0].to_dict()
    {'zero_bid': 1}
    """
    clean, verdict, _ = judge_quotes(quotes, keep=keep)
    return clean, count_reasons(verdict)


def judge_quotes(
    quotes: pd.DataFrame, *, keep: Collection[str] = ()
) -> tuple[pd.DataFrame, npt.NDArray[np.int64], npt.NDArray[np.datetime64]]:
    """Do the work of :func:`check_quotes`, telling the verdict and the day of every row.

    Returns
    -------
    clean : pandas.DataFrame
    verdict : ndarray of int, shape (n,)
        Position in :data:`REASONS`, or -1 for a row kept.
    date : ndarray of datetime64[D], shape (n,)
    """
    two_sided = _check_columns(quotes)
    date = read_days(quotes["date"], "date", one_time_a_day=True)
    expiry = read_days(quotes["expiry"], "expiry")
    option_type = _option_types(quotes["option_type"])
    strike = _numbers(quotes["strike"])
    sides = {name: _numbers(quotes[name]) for name in (("bid", "ask") if two_sided else ("price",))}
    times = {name: instants_of(quotes[name]) for name in _TIMES if name in quotes}

    values = list(sides.values())
    price = (values[0] + values[1]) / 2 if two_sided else values[0]
    nothing = np.zeros(len(quotes), dtype=bool)
    bad: dict[str, npt.NDArray[np.bool_]] = {
        "missing_date": np.isnat(date),
        "missing_expiry": np.isnat(expiry),
        "unknown_option_type": option_type == "",
        "missing_strike": ~np.isfinite(strike),
        "nonpositive_strike": ~(strike > 0),
        "missing_price": ~np.logical_and.reduce([np.isfinite(v) for v in values]),
        "negative_price": np.logical_or.reduce([v < 0 for v in values]),
        "zero_bid": sides["bid"] == 0 if two_sided else nothing,
        "zero_price": price == 0,
        "crossed": sides["bid"] > sides["ask"] if two_sided else nothing,
        "unsound_time": _far_apart(times, date, expiry) if times else nothing,
        "expired": times["expiry_time"] <= times["quote_time"] if times else expiry <= date,
    }
    verdict = np.full(len(quotes), -1, dtype=np.int64)
    kept = filter_names("keep", keep, KEEPABLE)
    for position, reason in enumerate(REASONS):
        if reason in bad and reason not in kept:
            verdict[(verdict < 0) & bad[reason]] = position

    columns: dict[str, Any] = {
        "date": date.astype("datetime64[s]"),
        "expiry": expiry.astype("datetime64[s]"),
        "strike": strike,
        "option_type": option_type,
        **sides,
        "price": price,
        **times,
    }
    for name in quotes.columns:
        if name == "adjusted":
            columns[name] = _flags(quotes[name])
        elif name == "exercise":
            columns[name] = _exercise_styles(quotes[name])
        elif name not in columns:
            columns[name] = _numbers(quotes[name]) if name in ("spot", "volume", "age") else quotes[name].array
    keys = [name for name in _KEYS if name in columns]
    order, alone = _sorted_rows([columns[name] for name in keys], np.flatnonzero(verdict < 0))
    clean = pd.DataFrame({name: values[order] for name, values in columns.items()})
    if alone:
        return clean, verdict, date
    repeated = repeated_rows(clean, keys, two_sided)
    verdict[order[repeated]] = list(REASONS).index("duplicate")
    return clean[~repeated].reset_index(drop=True), verdict, date


def _sorted_rows(keys: list[Any], rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], bool]:
    """Rows sorted by keys, the first counting most; and whether no two agree in all of them."""
    codes = []
    for values in keys:
        held = values[rows]
        if not isinstance(held, np.ndarray) or held.dtype == object:
            held, labels = pd.factorize(pd.Index(held), sort=True)  # pandas 2.2 warns of its own arrays
            held = np.where(held < 0, len(labels), held)  # absent values come last
        codes.append(held)
    order = np.lexsort(codes[::-1])
    same = np.ones(max(len(rows) - 1, 0), dtype=bool)
    for code in codes:
        held = code[order]
        same &= held[1:] == held[:-1]
    return rows[order], not same.any()


def filter_names(name: str, given: Collection[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Names of filters, checked; a lone text counts as one name."""
    names = (given,) if isinstance(given, str) else tuple(given)
    for one in names:
        if one not in known:
            raise InputError(f"{name} may name {', '.join(known)}, and {one!r} is none of them")
    return names


def count_reasons(verdict: npt.NDArray[np.int64]) -> pd.Series[int]:
    """Rows dropped for each reason, from the verdicts of :func:`judge_quotes`."""
    counts = np.bincount(verdict[verdict >= 0], minlength=len(REASONS))
    return pd.Series(counts, index=pd.Index(REASONS, name="reason"), name="rows")


def rows_of_day(quotes: pd.DataFrame, date: object = None) -> tuple[pd.DataFrame, np.datetime64]:
    """Rows of one day, unchecked, and that day.

    Parameters
    ----------
    quotes : pandas.DataFrame
        As for :func:`check_quotes`.
    date : str, datetime64 or datetime.date, optional
        May be omitted when the table holds one day only; rows without a date then belong to it.

    Raises
    ------
    InputError
        If the date is unreadable or absent from the table, or omitted where there are several.
    """
    _check_columns(quotes)
    days = read_days(quotes["date"], "date", one_time_a_day=True)
    if date is None:
        held = np.unique(days[~np.isnat(days)])
        if held.size != 1:
            what = f"{held.size} dates" if held.size else "no row with a date"
            raise InputError(
                f"quotes hold {what}; say which day is meant with date="
                if held.size
                else f"the chain is empty: quotes hold {what}"
            )
        return quotes, held[0]
    day = to_day(date, "date")
    rows = quotes[days == day]
    if not len(rows):
        raise InputError(f"the chain of {day} is empty: quotes hold no row of that date")
    return rows, day


def _check_columns(quotes: pd.DataFrame) -> bool:
    """Refuse a table that lacks a column; tell whether it quotes both sides."""
    if not isinstance(quotes, pd.DataFrame):
        kind = f"{type(quotes).__module__.partition('.')[0]}.{type(quotes).__name__}"
        raise InputError(
            f"quotes must be a pandas DataFrame, not {kind.removeprefix('builtins.')}; read_table reads "
            "files and polars frames (volscen.sources)"
        )
    missing = [name for name in REQUIRED_COLUMNS if name not in quotes]
    two_sided = "bid" in quotes and "ask" in quotes
    if not two_sided and "price" not in quotes:
        missing.append("price (or bid and ask)")
    if missing:
        found = ", ".join(map(str, quotes.columns)) or "none"
        raise InputError(f"quotes lack the column {', '.join(missing)}; rename yours, which are: {found}")
    held = [name for name in _TIMES if name in quotes]
    if len(held) == 1:
        other = "quote_time" if held[0] == "expiry_time" else "expiry_time"
        raise InputError(f"quotes hold {held[0]} and no {other}; times to expiry need both: add it, or drop {held[0]}")
    repeated = quotes.columns[quotes.columns.duplicated()]
    if len(repeated):
        raise InputError(f"quotes hold the column {repeated[0]!r} twice; drop one")
    return two_sided


def _numbers(column: pd.Series[Any]) -> npt.NDArray[np.float64]:
    """Float64 values; whatever is no number becomes NaN, which the caller counts."""
    if column.dtype == bool:
        raise InputError(f"column {column.name} holds True and False where numbers are needed")
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _flags(column: pd.Series[Any]) -> npt.NDArray[np.bool_]:
    values = _numbers(column.astype(np.float64) if column.dtype == bool else column)
    if not np.all(np.isin(values, (0.0, 1.0))):
        raise InputError(f"column {column.name} must hold True or False in every row")
    return np.asarray(values == 1.0)


def _option_types(column: pd.Series[Any]) -> npt.NDArray[np.object_]:
    """``"C"``, ``"P"``, or an empty text where it is neither."""
    codes, labels = pd.factorize(column.astype(object))  # absent values get the code -1
    known = [_OPTION_TYPES.get(str(label).strip().upper(), "") for label in labels]
    return np.array([*known, ""], dtype=object)[codes]


def _exercise_styles(column: pd.Series[Any]) -> npt.NDArray[np.object_]:
    """``"European"`` or ``"American"``; a style that is neither cannot be treated rightly, so it is an error."""
    codes, labels = pd.factorize(column.astype(object))  # absent values get the code -1
    known = [_EXERCISE_STYLES.get(str(label).strip().upper(), "") for label in labels]
    if "" in known or np.any(codes < 0):
        example = labels[known.index("")] if "" in known else None
        raise InputError(f"column exercise must hold European or American in every row, not {example!r}")
    return np.array([*known, ""], dtype=object)[codes]


def instants_of(column: pd.Series[Any]) -> npt.NDArray[np.datetime64]:
    """Instants in UTC as datetime64[ns], NaT where unreadable; those without a time zone are in UTC."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        raise InputError(f"column {column.name} holds numbers; convert them with pandas.to_datetime(..., unit=...)")
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        stamps = column.dt.tz_convert("UTC").dt.tz_localize(None)
    elif pd.api.types.is_datetime64_dtype(column.dtype):
        stamps = column
    else:
        # Apart: pandas before 3 gives texts without a time zone that of the text before them.
        zoned = column.astype(str).str.contains(ZONE).to_numpy(dtype=bool)
        instants = np.full(len(column), np.datetime64("NaT", "ns"))
        for rows in (zoned, ~zoned):
            found = pd.to_datetime(column[rows], utc=True, errors="coerce", format="ISO8601").dt.tz_localize(None)
            instants[rows] = found.to_numpy().astype("datetime64[ns]")
        return instants
    return np.asarray(stamps.to_numpy().astype("datetime64[ns]"))


def _far_apart(
    times: dict[str, npt.NDArray[np.datetime64]],
    date: npt.NDArray[np.datetime64],
    expiry: npt.NDArray[np.datetime64],
) -> npt.NDArray[np.bool_]:
    """Whether an instant is absent or cannot be on its date anywhere on Earth."""
    bad = np.zeros(len(date), dtype=bool)
    for instant, day in ((times["quote_time"], date), (times["expiry_time"], expiry)):
        bad |= np.isnat(instant) | (instant < day - _DAY) | (instant > day + 2 * _DAY)
    return bad

"""The last step of every source: the tidy check, one report, and an error that names the source."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from volscen.errors import InputError
from volscen.quotes import check_quotes

__all__ = ["finish"]


def finish(
    table: pd.DataFrame, counts: Mapping[str, int], name: str, keep: Collection[str] = ()
) -> tuple[pd.DataFrame, pd.Series[int]]:
    """Check a table and put the counts of what the source dropped itself before those of the check.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns named as the tidy table names them.
    counts : mapping of str to int
        Rows or records dropped so far, by reason.
    name : str
        What errors call the source: the file.
    keep : sequence of str
        See :func:`volscen.quotes.check_quotes`.

    Raises
    ------
    InputError
        If the table cannot be read or not one row is left.
    """
    try:
        quotes, dropped = check_quotes(table, keep=keep)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    before = pd.Series(dict(counts), name="rows", dtype="int64")
    every = pd.concat([before, dropped]).astype("int64").rename("rows").rename_axis("reason")
    if not len(quotes):
        why = ", ".join(f"{reason} {count}" for reason, count in every[every > 0].items())
        what = f"{name}: no usable row among {len(table) + before.sum()} ({why or 'the table is empty'})"
        raise InputError(what + _remedy(table, every))
    return quotes, every


#: Columns at fault and what to do, for reasons that mostly mean a table written in another way.
_REMEDIES: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown_option_type": (("option_type",), "write C and P, or call and put"),
    "missing_strike": (
        ("strike",),
        "write plain numbers with a decimal point, or read them with decimal=',' or thousands=','",
    ),
    "missing_price": (
        ("price", "bid", "ask"),
        "write plain numbers with a decimal point, or read them with decimal=',' or thousands=','",
    ),
    "missing_expiry": (("expiry",), "write dates as 2024-01-31"),
    "expired": (("expiry",), "look whether date and expiry are exchanged"),
}


def _remedy(table: pd.DataFrame, counts: pd.Series[int]) -> str:
    """What the column behind the commonest reason holds, and what it should hold."""
    if not len(table) or not counts.max():
        return ""
    names, remedy = _REMEDIES.get(str(counts.idxmax()), ((), ""))
    held = next((name for name in names if name in table), None)
    if not held:
        return ""
    value = table[held].iloc[0]
    value = value.item() if isinstance(value, np.generic) else value  # "np.int64(1)" says less
    return f"; column {held} holds values such as {value!r}: {remedy}"

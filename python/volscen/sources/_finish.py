"""The last step of every source: the tidy check, one report, and an error that names the source."""

from __future__ import annotations

from collections.abc import Collection, Mapping

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
        raise InputError(f"{name}: no usable row among {len(table) + before.sum()} ({why or 'the table is empty'})")
    return quotes, every

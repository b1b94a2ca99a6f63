"""Tables of quotes that seem to hold several underlyings in a column that nobody called so."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from volscen._names import shown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["underlyings_unread", "warn_of_underlyings"]

#: Names of columns that often tell underlyings apart, without case and signs.
_UNDERLYINGS = ("underlying", "root", "ticker", "underlyingsymbol", "underlyingticker", "rootsymbol", "undsymbol")


def underlyings_unread(quotes: pd.DataFrame, whole: Callable[[], pd.DataFrame] | None = None) -> tuple[str, str] | None:
    """Column that seems to tell underlyings apart where none is called ``underlying``, and what it holds, in words.

    A column with about as many names as there are contracts names the contracts.

    Parameters
    ----------
    quotes : pandas.DataFrame
        Checked, or with the columns of a table that can be.
    whole : callable, optional
        Gives the table that they were taken from: names count whose quotes were dropped as duplicates of another's.

    Examples
    --------
    >>> import pandas as pd
    >>> from volscen._underlyings import underlyings_unread
    >>> rows = [(root, strike, kind) for root in ("SPY", "QQQ") for strike in range(90, 110) for kind in "CP"]
    >>> table = pd.DataFrame(rows, columns=["Root", "strike", "option_type"]).assign(expiry="2024-03-15")
    >>> underlyings_unread(table)
    ('Root', "column 'Root' holds 2 names (QQQ, SPY)")
    """
    if "underlying" in quotes:
        return None
    for column in quotes.columns:
        if re.sub(r"[^a-z]", "", str(column).lower()) not in _UNDERLYINGS:
            continue
        held = quotes if whole is None else whole()
        names = sorted(map(str, held[column].dropna().unique()))
        if len(names) < 2:
            continue
        contracts = len(quotes[["expiry", "strike", "option_type"]].drop_duplicates())
        if len(names) <= contracts / 2:
            return str(column), f"column {column!r} holds {len(names)} names ({shown(names)})"
    return None


def warn_of_underlyings(quotes: pd.DataFrame, *, stacklevel: int = 2) -> None:
    """Warn where quotes of several underlyings seem to be about to enter one surface.

    Parameters
    ----------
    quotes : pandas.DataFrame
        Checked, or with the columns of a table that can be.
    stacklevel : int
        Of the warning, seen from the caller.
    """
    if (doubt := underlyings_unread(quotes)) is not None:
        column, held = doubt
        warnings.warn(
            f"quotes: {held}; if they are underlyings, call it underlying and keep one, such as "
            f"quotes.rename(columns={{{column!r}: 'underlying'}}): quotes of several make no surface. Else drop it",
            stacklevel=stacklevel + 1,
        )

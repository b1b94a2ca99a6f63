"""Tables of quotes that seem to hold several underlyings in a column that nobody called so."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from volscen._names import shown
from volscen.errors import InputError, QuotesWarning

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["refuse_mixed_spots", "underlyings_unread", "warn_of_underlyings"]

#: Spots of one underlying stay within this of each other, in logarithms, on one day or at one time of day.
_ONE_SPOT = 0.2

#: Share of the rows of a day at each end that may hold slips.
_SLIPS = 0.1

#: Names of columns that often tell underlyings apart, without case and signs.
UNDERLYINGS = ("underlying", "root", "ticker", "underlyingsymbol", "underlyingticker", "rootsymbol", "undsymbol")


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
        if re.sub(r"[^a-z]", "", str(column).lower()) not in UNDERLYINGS:
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
            QuotesWarning,
            stacklevel=stacklevel + 1,
        )


def refuse_mixed_spots(clean: pd.DataFrame) -> None:
    """Refuse quotes whose spots on one day cannot be of one underlying.

    Parameters
    ----------
    clean : pandas.DataFrame
        Checked quotes.

    Raises
    ------
    InputError
        If on some day (or at some ``quote_time``) a tenth of the spots lie more than 20% above another tenth.
    """
    if "spot" not in clean or "underlying" in clean:
        return
    known = clean[np.isfinite(clean["spot"]) & (clean["spot"] > 0)]
    keys = ["date", "quote_time"] if "quote_time" in clean else ["date"]
    wide = known.groupby(keys)["spot"].agg(["min", "max"])
    wide = wide[np.log(wide["max"] / wide["min"]) > _ONE_SPOT]  # quantiles are dear, and most days need none
    for day in wide.index:
        rows = known.loc[np.logical_and.reduce([known[key] == value for key, value in _parts(keys, day)]), "spot"]
        low, high = np.quantile(rows, [_SLIPS, 1 - _SLIPS])
        if np.log(high / low) > _ONE_SPOT:
            date = f"{(day[0] if isinstance(day, tuple) else day):%Y-%m-%d}"
            raise InputError(
                f"column spot runs from {low:g} to {high:g} on {date}: these are quotes of several underlyings. Name "
                "the column that tells them apart underlying (--columns underlying=..., or "
                "quotes.rename(columns={...: 'underlying'})) and keep one (--underlying); without such a column, split "
                "the table by spot before, or, if it is one underlying that moved so far, give it a column underlying"
            )


def _parts(keys: list[str], day: Any) -> list[tuple[str, Any]]:
    return list(zip(keys, day if isinstance(day, tuple) else (day,), strict=True))

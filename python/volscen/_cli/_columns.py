"""Names of columns that people give to quotes: what ``--columns`` might say, where the tidy names are not there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from volscen._names import shown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["guess_columns", "underlyings_unread"]

#: Tidy name -> names that mean it, without case and signs.
_NAMES = {
    "date": "date day quotedate tradedate tradeday tradingdate tradingday businessdate asof asofdate datadate time",
    "expiry": "expiry expiration expires exdate expirydate expirationdate maturity maturitydate expire",
    "strike": "strike k strikeprice exerciseprice exercise strk",
    "option_type": "optiontype type cp cpflag callput putcall right pc kind",
    "bid": "bid bestbid bidprice closebid",
    "ask": "ask offer bestask bestoffer askprice offerprice closeask",
    "price": "price close last mid midprice settle settlement settlementprice closeprice lastprice mark premium",
    "spot": "spot underlyinglast underlyingprice spotprice stockprice underlyingclose undprice s",
}

#: Names of columns that often tell underlyings apart.
_UNDERLYINGS = "underlying root ticker underlyingsymbol underlyingticker rootsymbol undsymbol"


def guess_columns(path: Path, given: Mapping[str, str] | None = None) -> str:
    """Hint for an error: a mapping to try, where the header of a table allows a guess; nothing is taken silently.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from volscen._cli._columns import guess_columns
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "q.csv")
    ...     _ = path.write_text("Quote Date,Expiration,K,CP_Flag,best_bid,best_offer,volume")
    ...     print(guess_columns(path))
    ; perhaps --columns 'date=Quote Date,expiry=Expiration,strike=K,option_type=CP_Flag,bid=best_bid,ask=best_offer'
    """
    from volscen.sources.table import load_frame

    frame, _ = load_frame(path)
    mapping = dict(given or {})
    taken = {*mapping.values()}
    for tidy, names in _NAMES.items():
        if tidy in mapping or tidy in frame.columns:
            continue
        for column in map(str, frame.columns):
            if column not in taken and re.sub(r"[^a-z]", "", column.lower()) in names.split():
                mapping[tidy] = column
                taken.add(column)
                break
    if "bid" in mapping and "ask" in mapping:
        mapping.pop("price", None)  # their middle serves
    if mapping == dict(given or {}):
        return "; say which is which with --columns"
    said = ",".join(f"{tidy}={column}" for tidy, column in mapping.items())
    return f"; perhaps --columns {shlex.quote(said)}"


def underlyings_unread(path: Path, table: pd.DataFrame) -> str | None:
    """Warning where a file seems to hold several underlyings in a column that nobody called so.

    Their quotes would enter one surface. A column with about as many names as there are contracts names the contracts.

    Parameters
    ----------
    path : Path
        File: what was dropped as a duplicate counts too.
    table : pandas.DataFrame
        What was read of it.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import pandas as pd
    >>> from volscen._cli._columns import underlyings_unread
    >>> rows = [(root, strike, kind) for root in ("SPY", "QQQ") for strike in range(90, 110) for kind in "CP"]
    >>> table = pd.DataFrame(rows, columns=["Root", "strike", "option_type"]).assign(expiry="2024-03-15")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "q.csv")
    ...     table.to_csv(path)
    ...     print(underlyings_unread(path, table).split(";")[0])
    column 'Root' holds 2 names (QQQ, SPY)
    """
    from volscen.sources.table import load_frame

    if "underlying" in table:
        return None
    contracts = len(table[["expiry", "strike", "option_type"]].drop_duplicates())
    for column in map(str, table.columns):
        if re.sub(r"[^a-z]", "", column.lower()) in _UNDERLYINGS.split():
            names = sorted(map(str, load_frame(path)[0][column].dropna().unique()))
            if 1 < len(names) <= contracts / 2:
                return (
                    f"column {column!r} holds {len(names)} names ({shown(names)}); if they are underlyings, add "
                    f"underlying={column} to --columns and choose one with --underlying"
                )
    return None

"""Names of columns that people give to quotes: what ``--columns`` might say, where the tidy names are not there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["guess_columns"]

#: Tidy name -> names that mean it, without case and signs.
_NAMES = {
    "date": "date day quotedate tradedate tradeday tradingdate tradingday businessdate asof asofdate datadate time",
    "expiry": "expiry expiration expires exdate expirydate expirationdate maturity maturitydate expire",
    "strike": "strike k strikeprice exerciseprice exercise strk",
    "option_type": "optiontype type cp cpflag callput putcall right pc kind",
    "bid": "bid bestbid bidprice closebid bidpx bideod pxbid",
    "ask": "ask offer bestask bestoffer askprice offerprice closeask askpx askeod pxask",
    "price": "price close last mid midprice settle settlement settlementprice closeprice lastprice mark premium "
    "pxlast pxmid",
    "spot": "spot underlyinglast underlyingprice spotprice stockprice underlyingclose undprice s spotclose spotpx",
}


#: What the reader has to know to find the columns of a file at all.
_SIGNS = ("separator", "decimal", "thousands")


def guess_columns(path: Path, given: Mapping[str, str] | None = None, options: Mapping[str, Any] | None = None) -> str:
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
    from volscen._contract_names import osi_contract
    from volscen._underlyings import UNDERLYINGS
    from volscen.sources.table import load_frame

    frame, _ = load_frame(path, **{sign: value for sign, value in (options or {}).items() if sign in _SIGNS})
    mapping = dict(given or {})
    taken = {*mapping.values()}
    meant = dict(_NAMES)
    if not {"expiry", "strike", "option_type", "symbol"} & {*mapping, *map(str, frame.columns)}:
        for column in map(str, frame.columns):
            first = frame[column].dropna().iloc[:1]
            if len(first) and column not in taken and osi_contract(first.iloc[0]):
                mapping["symbol"] = column
                taken.add(column)
                for tidy in ("expiry", "strike", "option_type"):
                    meant.pop(tidy)
                break
    held = [name for name in map(str, frame.columns) if re.sub(r"[^a-z]", "", name.lower()) in UNDERLYINGS]
    if len(held) == 1 and held[0] not in taken and frame[held[0]].nunique() > 1:
        meant["underlying"] = re.sub(r"[^a-z]", "", held[0].lower())
    for tidy, names in meant.items():
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

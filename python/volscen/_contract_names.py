"""Contracts by their names: OSI symbols of option feeds, and what desks write, such as "SPX 20DEC24 5800 C"."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

__all__ = ["Contract", "osi_contract", "written_contract"]

#: Root (a digit at its end marks an altered contract), yymmdd, C or P, strike in thousandths; padded or not.
_OSI = re.compile(r"(?:O:)?([A-Z]{1,6})(\d?)[ _-]*(\d{6})([CP])(\d{8})")

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_KINDS = {"C": "call", "CALL": "call", "P": "put", "PUT": "put"}
_DAY_FIRST = re.compile(rf"(\d{{1,2}})-?({'|'.join(_MONTHS)})-?(\d{{2}}|\d{{4}})")
_YEAR_FIRST = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")


@dataclass(frozen=True)
class Contract:
    """What the name of an option says.

    Attributes
    ----------
    root : str
        Of the underlying; empty where the name has none.
    adjusted : bool
        Whether a corporate action altered the contract (a digit after the root).
    expiry : datetime.date
    option_type : {"call", "put"}
    strike : float
        Currency.
    """

    root: str
    adjusted: bool
    expiry: datetime.date
    option_type: str
    strike: float


def osi_contract(name: object) -> Contract | None:
    """Contract of an OSI symbol, padded to 21 characters or not; None where it is no such symbol.

    Examples
    --------
    >>> from volscen._contract_names import osi_contract
    >>> contract = osi_contract("SPXW  241220C05800000")
    >>> contract.root, str(contract.expiry), contract.option_type, contract.strike
    ('SPXW', '2024-12-20', 'call', 5800.0)
    """
    found = _OSI.fullmatch(str(name).strip())
    if found is None:
        return None
    root, digit, day, kind, thousandths = found.groups()
    try:
        expiry = datetime.date(2000 + int(day[:2]), int(day[2:4]), int(day[4:]))
    except ValueError:  # the 31st of a month that has 30
        return None
    return Contract(root, bool(digit), expiry, _KINDS[kind], int(thousandths) / 1000)


def written_contract(name: object) -> Contract | None:
    """Contract as written on a desk: an expiry, a strike, call or put, in any order after the root; or an OSI symbol.

    Days are "20DEC24", "20-Dec-2024", "2024-12-20" or "20241220"; nothing whose day and month could be exchanged. None
    where it is not one contract without doubt.

    Examples
    --------
    >>> from volscen._contract_names import written_contract
    >>> contract = written_contract("SPX 20DEC24 5800 C")
    >>> contract.root, str(contract.expiry), contract.option_type, contract.strike
    ('SPX', '2024-12-20', 'call', 5800.0)
    """
    if (symbol := osi_contract(name)) is not None:
        return symbol
    words = str(name).upper().split()
    root = ""
    if words and re.fullmatch(r"[A-Z][A-Z./]*", words[0]) and words[0] not in _KINDS:
        root, words = words[0], words[1:]
        while words and words[0] in ("INDEX", "EQUITY", "US"):
            words = words[1:]
    expiry, kind, strike = [], [], []
    for word in words:
        if (day := written_day(word)) is not None:
            expiry.append(day)
        elif word in _KINDS:
            kind.append(_KINDS[word])
        elif (both := re.fullmatch(r"([CP])?(\d+(?:\.\d+)?)([CP])?", word)) and (both[1] is None or both[3] is None):
            strike.append(float(both[2]))
            kind.extend(_KINDS[letter] for letter in (both[1], both[3]) if letter)
        else:
            return None
    if len(expiry) != 1 or len(kind) != 1 or len(strike) != 1 or not strike[0] > 0:
        return None
    return Contract(root, False, expiry[0], kind[0], strike[0])


def written_day(word: str) -> datetime.date | None:
    """Day of "20DEC24", "20-Dec-2024", "2024-12-20" or "20241220"; None where it is none of these."""
    text = word.strip().upper()
    if (found := _DAY_FIRST.fullmatch(text)) is not None:
        day, month, year = int(found[1]), _MONTHS.index(found[2]) + 1, int(found[3])
        year += 2000 if year < 100 else 0
    elif (found := _YEAR_FIRST.fullmatch(text)) is not None:
        year, month, day = (int(part) for part in found.groups())
        if not 1900 <= year <= 2200:
            return None
    else:
        return None
    try:
        return datetime.date(year, month, day)
    except ValueError:
        return None

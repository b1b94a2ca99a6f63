"""United States listed options: symbols, the rules of each root, and the instants at which contracts settle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError

__all__ = [
    "ROOT_RULES",
    "RootRule",
    "closing_instants",
    "closing_times",
    "last_trading_days",
    "osi_parts",
    "rules_of_roots",
    "settlement_instants",
    "to_utc",
]

Days = npt.NDArray[np.datetime64]

NEW_YORK = "America/New_York"
_MINUTE = np.timedelta64(1, "m")

#: Regular close, close of a half-day, and opening, in minutes after midnight.
_CLOSE, _EARLY_CLOSE, _OPEN = 16 * 60, 13 * 60, 9 * 60 + 30

#: The rule of half-days below holds from here; the consolidated option feed's history begins later.
_FIRST_YEAR = 2013

#: Until then monthly contracts expired on the Saturday after their last trading day.
_LAST_SATURDAY_LISTING = np.datetime64("2015-02-01")


@dataclass(frozen=True)
class RootRule:
    """What the root of an option symbol says about its contracts.

    Attributes
    ----------
    underlying : str
        Name of the underlying, as the tidy table has it.
    exercise : {"European", "American"}
        Exercise style.
    settlement : {"AM", "PM"}
        Payoff fixed at the opening (09:30 New York) or at the close of the expiry date (16:00, on a half-day
        13:00).
    multiplier : float
        Units of the underlying per contract.
    """

    underlying: str
    exercise: Literal["European", "American"]
    settlement: Literal["AM", "PM"]
    multiplier: float = 100.0

    def __post_init__(self) -> None:
        if self.exercise not in ("European", "American"):
            raise InputError(f"exercise must be 'European' or 'American', not {self.exercise!r}")
        if self.settlement not in ("AM", "PM"):
            raise InputError(f"settlement must be 'AM' or 'PM', not {self.settlement!r}")
        if not self.multiplier > 0:
            raise InputError(f"multiplier must be positive, not {self.multiplier!r}")


def _index(underlying: str, settlement: Literal["AM", "PM"]) -> RootRule:
    return RootRule(underlying, "European", settlement)


#: Index options, whose rules differ from those of shares and funds (American, settled at the close).
ROOT_RULES: dict[str, RootRule] = {
    "SPX": _index("SPX", "AM"),
    "SPXW": _index("SPX", "PM"),
    "XSP": _index("XSP", "PM"),
    "NDX": _index("NDX", "AM"),
    "NDXP": _index("NDX", "PM"),
    "XND": _index("XND", "PM"),
    "RUT": _index("RUT", "AM"),
    "RUTW": _index("RUT", "PM"),
    "MRUT": _index("MRUT", "PM"),
    "RUI": _index("RUI", "AM"),
    "DJX": _index("DJX", "AM"),
    "VIX": _index("VIX", "AM"),
    "VIXW": _index("VIX", "AM"),
    "XEO": _index("XEO", "PM"),
    "OEX": RootRule("OEX", "American", "PM"),
}


def rules_of_roots(
    roots: npt.NDArray[np.str_], rules: Mapping[str, RootRule] | None = None
) -> tuple[list[RootRule], list[str]]:
    """Rule of every root, and the roots that no table names, which are taken for shares or funds.

    A digit at the end marks a contract altered by a corporate action; its rule is that of the root without.
    """
    known = {**ROOT_RULES, **(rules or {})}
    for root, own in (rules or {}).items():
        if not isinstance(own, RootRule):
            raise InputError(f"rules must map roots to RootRule, and {root!r} maps to {type(own).__name__}")
    found: list[RootRule] = []
    assumed: list[str] = []
    for root in roots.tolist():
        base = root.rstrip("0123456789")
        if (rule := known.get(root, known.get(base))) is not None:
            found.append(rule)
        else:
            assumed.append(root)
            found.append(RootRule(base, "American", "PM"))
    return found, assumed


@dataclass(frozen=True)
class OsiParts:
    """Parts of OSI symbols; where ``ok`` is False the rest has no meaning."""

    ok: npt.NDArray[np.bool_]
    root: npt.NDArray[np.str_]
    expiry: Days
    option_type: npt.NDArray[np.str_]
    strike: npt.NDArray[np.float64]


def osi_parts(symbols: npt.ArrayLike) -> OsiParts:
    """Take OSI symbols apart: root padded to six, yymmdd, C or P, strike in thousandths, 21 characters in all.

    Examples
    --------
    >>> from volscen.sources._opra import osi_parts
    >>> parts = osi_parts(["SPXW  240119P04750000", "SPY"])
    >>> parts.ok.tolist(), parts.root.tolist()[0], str(parts.expiry[0]), parts.option_type.tolist()[0], parts.strike[0]
    ([True, False], 'SPXW', '2024-01-19', 'P', np.float64(4750.0))
    """
    text = np.asarray(symbols, dtype="U22").reshape(-1)
    right_length = np.strings.str_len(text) == 21
    raw = text.astype("U21").view(np.uint32).reshape(len(text), 21) if len(text) else np.zeros((0, 21), np.uint32)
    digit = raw.astype(np.int64) - ord("0")
    numeric = ((digit >= 0) & (digit <= 9))[:, [*range(6, 12), *range(13, 21)]].all(axis=1)
    padded = np.ascontiguousarray(raw[:, :6]).view("U6").reshape(len(text))
    root = np.strings.rstrip(padded)
    letters = np.strings.rstrip(root, "0123456789")
    # Padding only at the end, capitals, and at most one digit after them (an altered contract).
    sound = (np.strings.str_len(letters) >= 1) & np.strings.isalpha(letters) & (np.strings.upper(letters) == letters)
    sound &= (np.strings.str_len(root) - np.strings.str_len(letters) <= 1) & (raw < 128).all(axis=1)
    kind = raw[:, 12]
    ok = right_length & numeric & sound & ((kind == ord("C")) | (kind == ord("P")))
    digit = np.where(ok[:, None], digit, 1)
    year, month, day = (10 * digit[:, i] + digit[:, i + 1] for i in (6, 8, 10))
    ok &= (month >= 1) & (month <= 12) & (day >= 1)
    january = (year + 2000 - 1970).astype("datetime64[Y]").astype("datetime64[M]")
    first = january + (np.clip(month, 1, 12) - 1).astype("timedelta64[M]")
    expiry = first.astype("datetime64[D]") + (day - 1).astype("timedelta64[D]")
    ok &= expiry.astype("datetime64[M]") == first  # no 31st of February
    strike = digit[:, 13:21] @ 10 ** np.arange(7, -1, -1) / 1000
    return OsiParts(ok, root, expiry, np.where(kind == ord("C"), "C", "P"), strike)


def last_trading_days(expiry: Days, listed: Days) -> tuple[Days, npt.NDArray[np.bool_]]:
    """Last trading day of every contract, and whether there is one.

    Contracts quoted before February 2015 may bear the Saturday after it; any other weekend date is no expiry.

    Parameters
    ----------
    expiry, listed : ndarray of datetime64[D], shape (n,)
        Date in the symbol, and a date on which the contract was quoted.
    """
    weekday = (expiry.astype("datetime64[D]").astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    old = (weekday == 5) & (listed < _LAST_SATURDAY_LISTING)
    return np.where(old, expiry - np.timedelta64(1, "D"), expiry), (weekday < 5) | old


def closing_times(days: Days) -> npt.NDArray[np.timedelta64]:
    """Time of the close after midnight in New York: 16:00, on half-days 13:00.

    Half-days are 3 July where it and the 4th are weekdays, the day after Thanksgiving, and 24 December from
    Monday to Thursday; the rule holds since 2013. Days of mourning and storms are not in it.
    """
    days = days.astype("datetime64[D]")
    month = days.astype("datetime64[M]")
    of_year = month.astype(np.int64) % 12 + 1
    day = (days - month.astype("datetime64[D]")).astype(np.int64) + 1
    weekday = (days.astype(np.int64) + 3) % 7
    july = (of_year == 7) & (day == 3) & (weekday < 4)
    thanksgiving = (of_year == 11) & (day >= 23) & (day <= 29) & (weekday == 4)
    christmas = (of_year == 12) & (day == 24) & (weekday < 4)
    half = (july | thanksgiving | christmas) & (days >= np.datetime64(f"{_FIRST_YEAR}-01-01"))
    return np.where(half, _EARLY_CLOSE, _CLOSE) * _MINUTE


def settlement_instants(expiry: Days, at_open: npt.NDArray[np.bool_]) -> npt.NDArray[np.datetime64]:
    """Instants in UTC (datetime64[ns]) at which the payoff of contracts is fixed."""
    after = np.where(at_open, _OPEN * _MINUTE, closing_times(expiry))
    return to_utc(expiry.astype("datetime64[m]") + after)


def closing_instants(days: Days) -> npt.NDArray[np.datetime64]:
    """Instants in UTC (datetime64[ns]) of the close of days."""
    return settlement_instants(days, np.zeros(len(days), dtype=bool))


def to_utc(wall: npt.NDArray[np.datetime64]) -> npt.NDArray[np.datetime64]:
    """Instants of wall-clock times in New York, as datetime64[ns] in UTC."""
    import pandas as pd

    times, where = np.unique(wall, return_inverse=True)
    instants = (
        pd.DatetimeIndex(times.astype("datetime64[ns]")).tz_localize(NEW_YORK).tz_convert("UTC").tz_localize(None)
    )
    result: npt.NDArray[Any] = instants.to_numpy().astype("datetime64[ns]")[where]
    return result

"""Option-chain snapshots of Deribit, whose options on coins are quoted in the coin itself."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from volscen.errors import FileFormatError, InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_deribit"]

DERIBIT_REASONS: dict[str, str] = {
    "not_an_option": "its instrument name is none of an option: a future, a perpetual, a combination",
    "other_currency": "it is not of the currency asked for",
    "no_underlying_price": "the price of the underlying future, which turns coins into dollars, is absent",
}

#: BTC-27DEC24-100000-C is quoted in bitcoin, SOL_USDC-27DEC24-180-P in dollars; strikes write a point as d.
_NAME = re.compile(
    r"(?P<coin>[A-Z0-9]+)(?:_(?P<paid>USD[CT]))?-(?P<day>\d{1,2})(?P<month>[A-Z]{3})(?P<year>\d{2})-"
    r"(?P<strike>\d+(?:d\d+)?)-(?P<kind>[CP])"
)
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

#: Options expire at this hour, UTC.
_EXPIRY_HOUR = 8


def read_deribit(
    source: str | Path | dict[str, Any] | list[Any],
    *,
    currency: str | None = None,
    quote_time: object = None,
    keep: Collection[str] = (),
) -> tuple[pd.DataFrame, pd.Series[int]]:
    """Read a snapshot of Deribit's option book, as its public interface answers.

    Parameters
    ----------
    source : path, dict or list
        JSON file, or what it holds: the answer of ``public/get_book_summary_by_currency``, or a list of answers of
        ``public/ticker``, with or without their envelopes.
    currency : str, optional
        Keep the options on this coin, such as ``"BTC"``; may be omitted where there is one.
    quote_time : str or datetime, optional
        Instant of the snapshot (UTC, or with a time zone); the latest time in the answer when omitted.
    keep : sequence of str
        Filters of :func:`volscen.quotes.check_quotes` to switch off, of "zero_bid" and "crossed".

    Returns
    -------
    quotes : pandas.DataFrame
        See :func:`volscen.quotes.check_quotes`; prices in dollars, ``spot`` (the index) where the answer has it,
        ``bid_coin`` and ``ask_coin`` as quoted (NaN for options quoted in dollars), ``symbol``, ``volume``,
        ``open_interest`` and ``mark_vol`` (Deribit's own, decimal).
    dropped : pandas.Series
        Rows not used, by reason; ``len(quotes) + dropped.sum() == dropped.attrs["rows"]``.

    Raises
    ------
    FileFormatError
        If the file is missing, no JSON, or of another shape.
    InputError
        If several coins are held and none is named, no time is known, or not one row is left.

    Notes
    -----
    Inverse options pay max(S - K, 0) / S coins, so a price of c coins is worth c times the future's price F of that
    expiry in dollars at expiry: put-call parity 1 - K/F = C - P in coins becomes F - K, with a discount factor of
    one, and Black's formula gives the same volatility as Deribit's own. Expiry is 08:00 UTC.

    Examples
    --------
    >>> from volscen.sources import read_deribit
    >>> answer = {"usOut": 1719921600000000, "result": [{
    ...     "instrument_name": "BTC-27SEP24-60000-C", "bid_price": 0.1, "ask_price": 0.11,
    ...     "underlying_price": 62000.0, "estimated_delivery_price": 61000.0}]}
    >>> quotes, dropped = read_deribit(answer)
    >>> quotes[["underlying", "strike", "bid", "ask", "spot"]].values.tolist()
    [['BTC', 60000.0, 6200.0, 6820.0, 61000.0]]
    >>> str(quotes["expiry_time"][0])
    '2024-09-27 08:00:00'
    """
    import pandas as pd

    from volscen.sources._finish import finish

    content, name = _load(source)
    rows, stamp = _rows(content, name)
    instant = _instant(quote_time, stamp, name)
    counts = dict.fromkeys(DERIBIT_REASONS, 0)
    matches = [_NAME.fullmatch(str(row.get("instrument_name", ""))) for row in rows]
    coins = sorted({match["coin"] for match in matches if match is not None})
    if currency is None:
        if len(coins) > 1:
            raise InputError(f"{name}: holds options on {', '.join(coins)}; choose one with currency=")
        currency = coins[0] if coins else ""
    elif currency not in coins:
        raise InputError(f"{name}: holds no option on {currency!r}; it has {', '.join(coins) or 'none at all'}")
    kept: list[dict[str, Any]] = []
    for row, match in zip(rows, matches, strict=True):
        expiry = None if match is None else _expiry(match)
        if match is None or expiry is None:
            counts["not_an_option"] += 1
            continue
        if match["coin"] != currency:
            counts["other_currency"] += 1
            continue
        forward = _number(row, "underlying_price")
        inverse = match["paid"] is None
        if inverse and not forward > 0:
            counts["no_underlying_price"] += 1
            continue
        bid, ask = _number(row, "bid_price", "best_bid_price"), _number(row, "ask_price", "best_ask_price")
        unit = forward if inverse else 1.0
        kept.append(
            {
                "date": instant.normalize(),
                "quote_time": instant,
                "underlying": currency,
                "expiry": expiry.normalize(),
                "expiry_time": expiry,
                "strike": float(match["strike"].replace("d", ".")),
                "option_type": match["kind"],
                "bid": 0.0 if np.isnan(bid) else bid * unit,  # null: nobody bids
                "ask": ask * unit if ask > 0 else np.nan,
                "spot": _number(row, "index_price", "estimated_delivery_price"),
                "exercise": "European",
                "bid_coin": bid if inverse else np.nan,
                "ask_coin": ask if inverse else np.nan,
                "symbol": match[0],
                "volume": _number(row, "volume"),
                "open_interest": _number(row, "open_interest"),
                "mark_vol": _number(row, "mark_iv") / 100,
            }
        )
    if not kept:
        why = ", ".join(f"{reason} {count}" for reason, count in counts.items() if count)
        raise InputError(f"{name}: no usable row among {len(rows)} ({why or 'the snapshot is empty'})")
    table = pd.DataFrame(kept)
    if table["spot"].isna().all():
        table = table.drop(columns="spot")
    quotes, dropped = finish(table, counts, name, keep)
    dropped.attrs["rows"] = len(rows)
    return quotes, dropped


def _load(source: Any) -> tuple[Any, str]:
    if isinstance(source, dict | list):
        return source, "the snapshot"
    if not isinstance(source, str | Path):
        raise InputError(f"source must be a path, a dict or a list, not {type(source).__name__}")
    try:
        return json.loads(Path(source).read_text(encoding="utf-8")), str(source)
    except FileNotFoundError:
        raise FileFormatError(f"{source}: no such file") from None
    except OSError as error:
        raise FileFormatError(f"{source}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise FileFormatError(f"{source}: no JSON, or truncated ({error}); fetch it again") from None


def _rows(content: Any, name: str) -> tuple[list[dict[str, Any]], float]:
    """Rows of the answer, and its latest time in seconds since 1970 (NaN where it has none)."""
    envelopes = content if isinstance(content, list) else [content]
    rows: list[dict[str, Any]] = []
    stamps: list[float] = []
    for envelope in envelopes:
        if isinstance(envelope, dict) and "error" in envelope:
            raise FileFormatError(f"{name}: is an error that Deribit answered: {envelope['error']}")
        result = envelope.get("result", envelope) if isinstance(envelope, dict) else None
        for row in result if isinstance(result, list) else [result]:
            if not isinstance(row, dict) or "instrument_name" not in row:
                raise FileFormatError(
                    f"{name}: a row has no instrument_name; give the answer of public/get_book_summary_by_currency or "
                    "a list of answers of public/ticker"
                )
            rows.append(row)
            stamps += [_number(row, key) / 1e3 for key in ("timestamp", "creation_timestamp") if key in row]
        if isinstance(envelope, dict) and "usOut" in envelope:
            stamps.append(_number(envelope, "usOut") / 1e6)
    known = [stamp for stamp in stamps if np.isfinite(stamp)]
    return rows, max(known) if known else np.nan


def _instant(given: object, stamp: float, name: str) -> pd.Timestamp:
    import pandas as pd

    if given is None:
        if not np.isfinite(stamp):
            raise InputError(f"{name}: bears no time; say when it was taken with quote_time=")
        return pd.Timestamp(round(stamp * 1000), unit="ms")
    try:
        instant = pd.Timestamp(given)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise InputError(f"quote_time must be an instant such as '2024-07-02T12:00', not {given!r}") from None
    if pd.isna(instant):
        raise InputError("quote_time must be an instant, not NaT")
    return instant if instant.tz is None else instant.tz_convert("UTC").tz_localize(None)


def _expiry(match: re.Match[str]) -> pd.Timestamp | None:
    import pandas as pd

    if match["month"] not in _MONTHS:
        return None
    try:
        return pd.Timestamp(
            2000 + int(match["year"]), _MONTHS.index(match["month"]) + 1, int(match["day"]), _EXPIRY_HOUR
        )
    except ValueError:
        return None


def _number(row: dict[str, Any], *names: str) -> float:
    """The first of the fields that is a number; NaN where there is none."""
    for name in names:
        value = row.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return float("nan")

"""Quotes from CSV and Parquet files and from data frames, with a mapping of column names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from volscen.errors import FileFormatError, InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_table"]


def read_table(
    source: str | Path | pd.DataFrame,
    *,
    columns: Mapping[str, str] | None = None,
    scale: Mapping[str, float] | None = None,
    keep: Collection[str] = (),
    date_format: str | None = None,
    timezone: str | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
) -> tuple[pd.DataFrame, pd.Series[int]]:
    """Read a table of option quotes and bring it into the tidy form.

    Parameters
    ----------
    source : path or pandas.DataFrame
        A ``.csv`` (also compressed: ``.csv.gz``, ``.csv.zip``, ``.csv.bz2``, ``.csv.xz``), ``.parquet`` or
        ``.pq`` file, a pandas DataFrame, a polars DataFrame or LazyFrame, or any frame with a ``to_pandas`` method.
    columns : mapping of str to str, optional
        Name in the tidy table -> name in the source, for those that differ:
        ``{"option_type": "cp_flag", "price": "close"}``. Columns not named keep their names; a column of the
        source that already bears a tidy name given to another one is left out. ``symbol`` names a column of OSI
        symbols (``SPXW  241220C05800000``, padded or not) from which expiry, strike and type are read where the
        table has none of the three, and the root as ``underlying`` where it has no such column.
    scale : mapping of str to float, optional
        Factor by tidy name, where the source has another unit: ``{"strike": 1e-3, "price": 1e-4}``.
    keep : sequence of str
        Filters of :func:`volscen.quotes.check_quotes` to switch off, of "zero_bid" and "crossed".
    date_format : str, optional
        Form of the texts in ``date`` and ``expiry`` where they are not ISO 8601: ``"%d/%m/%Y"`` for 31/01/2024,
        ``"%m/%d/%Y"`` for 01/31/2024. What is not of that form counts as missing.
    timezone : str, optional
        Of the exchange, such as ``"America/New_York"``, where times in ``date`` or ``expiry`` bear a time zone: they
        become the exchange's own dates.
    separator, decimal, thousands : str, optional
        Of a CSV file: what stands between columns ("," unless given), before decimals (".") and between thousands
        (nothing). ``separator=";", decimal=","`` reads what spreadsheets of continental Europe write.

    Returns
    -------
    quotes : pandas.DataFrame
        See :func:`volscen.quotes.check_quotes`.
    dropped : pandas.Series
        Number of rows dropped for each reason.

    Raises
    ------
    InputError
        If a column is missing or not one row is usable; the file and the remedy are named.
    FileFormatError
        If the file is missing, of an unknown kind, empty, or unreadable.

    Examples
    --------
    >>> import pandas as pd
    >>> from volscen.sources import read_table
    >>> closes = pd.DataFrame({
    ...     "date": [20240102, 20240102], "expiry": [20240315, 20240315], "strike": [100.0, 105.0],
    ...     "cp_flag": ["P", "C"], "close": [3.1, 0.0]})
    >>> quotes, dropped = read_table(closes, columns={"option_type": "cp_flag", "price": "close"})
    >>> len(quotes), int(dropped["zero_price"])
    (1, 1)
    """
    from volscen.sources._finish import finish

    frame, name = load_frame(source, separator=separator, decimal=decimal, thousands=thousands)
    try:
        table = _scale(_read_symbols(_rename(frame, columns or {})), scale or {})
        table = _to_exchange(read_dates(table, date_format, timezone), timezone)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    return finish(table, {}, name, keep)


def load_frame(
    source: Any, *, separator: str | None = None, decimal: str | None = None, thousands: str | None = None
) -> tuple[pd.DataFrame, str]:
    """Frame of a file, or of whatever turns into one, and what errors call it."""
    import pandas as pd

    signs = {"separator": separator, "decimal": decimal, "thousands": thousands}
    for argument, sign in signs.items():
        if sign is not None and (not isinstance(sign, str) or len(sign) != 1):
            raise InputError(f"{argument} must be one character, not {sign!r}")
    given = [argument for argument, sign in signs.items() if sign is not None]
    if given and not (isinstance(source, str | Path) and ".csv" in [s.lower() for s in Path(source).suffixes][-2:]):
        raise InputError(f"{given[0]} is for CSV files alone")
    if isinstance(source, pd.DataFrame):
        return source, "the data frame"
    if hasattr(source, "collect"):  # polars' LazyFrame
        source = source.collect()
    if hasattr(source, "to_pandas"):
        return source.to_pandas(), "the data frame"
    if not isinstance(source, str | Path):
        raise InputError(f"source must be a path or a data frame, not {type(source).__name__}")
    path = Path(source)
    kinds = [suffix.lower() for suffix in path.suffixes]
    try:
        if kinds and kinds[-1] in (".parquet", ".pq"):
            return pd.read_parquet(path), str(path)
        if ".csv" in kinds[-2:]:
            frame = pd.read_csv(
                path, low_memory=False, sep=separator or ",", decimal=decimal or ".", thousands=thousands
            )
            if separator is None and frame.shape[1] == 1:
                mark = next((mark for mark in (";", "\t", "|") if mark in str(frame.columns[0])), None)
                if mark:
                    also = ", and decimal=',' if its numbers have commas" if mark == ";" else ""
                    raise InputError(f"{path}: columns stand between {mark!r}: read it with separator={mark!r}{also}")
            return frame, str(path)
    except FileNotFoundError:
        raise FileFormatError(f"{path}: no such file") from None
    except InputError:
        raise
    except (OSError, ValueError, EOFError) as error:  # what pandas, pyarrow and the decompressors raise
        raise FileFormatError(f"{path}: not a readable table ({str(error).splitlines()[0]})") from None
    other = {".dbn": "read_databento", ".zip": "read_lean", ".json": "read_deribit"}
    hint = next((f"; for this one there is {reader}" for suffix, reader in other.items() if suffix in kinds), "")
    raise FileFormatError(f"{path}: unknown kind of table; give a .csv, .csv.gz, .parquet or .pq file{hint}")


def _read_symbols(table: pd.DataFrame) -> pd.DataFrame:
    """Expiry, strike and type from a column ``symbol``, where the table has none of them."""
    import numpy as np
    import pandas as pd

    from volscen._contract_names import osi_contract

    if "symbol" not in table or any(name in table for name in ("expiry", "strike", "option_type")):
        return table
    codes, labels = pd.factorize(table["symbol"].astype(object))  # absent values get the code -1
    found = [osi_contract(label) for label in labels]
    if len(found) and not any(found):
        raise InputError(
            f"column symbol holds no OSI symbol, such as SPXW  241220C05800000, but {labels[0]!r}: root, yymmdd, "
            "C or P, strike in thousandths. Give columns expiry, strike and option_type instead"
        )
    known = [*found, None]
    table["expiry"] = pd.Series([one and one.expiry.isoformat() for one in known], dtype=object).iloc[codes].array
    table["strike"] = np.array([one.strike if one else np.nan for one in known])[codes]
    table["option_type"] = pd.Series([one and one.option_type for one in known], dtype=object).iloc[codes].array
    if "underlying" not in table:
        table["underlying"] = pd.Series([one.root if one else "" for one in known], dtype=object).iloc[codes].array
    if "adjusted" not in table and any(one.adjusted for one in found if one):
        table["adjusted"] = np.array([one is not None and one.adjusted for one in known])[codes]
    return table


def _to_exchange(table: pd.DataFrame, timezone: str | None) -> pd.DataFrame:
    """Times of ``date`` and ``expiry`` that bear a time zone as the exchange's own."""
    import pandas as pd

    from volscen.quotes import ZONE

    if timezone is None:
        return table
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, TypeError, AttributeError, OSError):
        raise InputError(f"timezone must be a name such as 'America/New_York', not {timezone!r}") from None
    moved = False
    for name in ("date", "expiry"):
        if name not in table or pd.api.types.is_numeric_dtype(table[name].dtype):
            continue
        stamps = table[name]
        if isinstance(stamps.dtype, pd.DatetimeTZDtype):
            stated = stamps.dt.tz_localize(None)
        else:
            texts = stamps.astype(str).str.strip()
            zoned = texts.str.contains(ZONE)
            if not zoned.any():
                continue
            if not (zoned | stamps.isna()).all():
                raise InputError(
                    f"column {name} bears a time zone in some rows and in others, such as {texts[~zoned].iloc[0]!r}, "
                    "none; write all alike"
                )
            stamps = pd.to_datetime(texts.where(zoned), utc=True, errors="coerce", format="ISO8601")
            plain = texts.str.replace(r"(?:[Zz]|[+-]\d{2}(?::?\d{2})?)$", "", regex=True)
            stated = pd.to_datetime(plain.where(zoned), errors="coerce", format="ISO8601")
        own = stamps.dt.tz_convert(zone).dt.tz_localize(None)
        day = stated.dt.normalize()
        if (stated.isna() | (stated == day)).all() and not day[stated.notna()].equals(
            own.dt.normalize()[stated.notna()]
        ):
            if name == "date":
                raise InputError(
                    f"column date is at midnight in every row, which timezone={timezone!r} would move to another day; "
                    "write the days without a time"
                )
            own = day  # an expiry is a day, whatever zone its midnight bears
        table[name] = own
        moved = True
    if not moved:
        raise InputError("timezone is for times that bear a time zone, and neither date nor expiry does; leave it out")
    return table


def read_dates(table: pd.DataFrame, date_format: str | None, timezone: str | None) -> pd.DataFrame:
    """Texts of ``date`` and ``expiry`` by their form; other kinds of columns are left to the check."""
    import pandas as pd

    if date_format is None:
        return table
    if not isinstance(date_format, str) or "%" not in date_format:
        raise InputError(f"date_format must be a form such as '%d/%m/%Y', not {date_format!r}")
    for name in ("date", "expiry"):
        if name not in table or pd.api.types.is_datetime64_any_dtype(table[name].dtype):
            continue
        given = table[name]
        codes, labels = pd.factorize(given.astype(object))  # absent values get the code -1
        texts = pd.Series([str(label).strip() for label in labels] + [None], dtype=object)
        if "%z" in date_format and timezone is None:
            raise InputError(
                f"date_format={date_format!r} reads a time zone; say the exchange's, timezone='America/New_York', to "
                "have its own dates"
            )
        days = pd.to_datetime(texts, format=date_format, errors="coerce", utc="%z" in date_format)
        if date_format.endswith("%z"):
            # As ISO texts, which keep the day that was written: in UTC midnight may be the evening before.
            zone = texts.str.extract(r"([Zz]|[+-]\d{2}:?\d{2})$", expand=False)
            clock = texts.str.replace(r"([Zz]|[+-]\d{2}:?\d{2})$", "", regex=True).str.rstrip()
            stated = pd.to_datetime(clock, format=date_format.removesuffix("%z").rstrip(), errors="coerce")
            days = stated.dt.strftime("%Y-%m-%dT%H:%M:%S.%f").where(days.notna()) + zone
        if days.notna().any():  # else its form is another, which the check knows or refuses
            table[name] = days.iloc[codes].array
    return table


#: Columns that have a unit.
_WITH_UNIT = ("strike", "bid", "ask", "price", "spot")


def _scale(table: pd.DataFrame, scale: Mapping[str, float]) -> pd.DataFrame:
    import pandas as pd

    for name, factor in scale.items():
        if name not in _WITH_UNIT:
            raise InputError(f"scale names {name!r}; it may name {', '.join(_WITH_UNIT)}")
        if name not in table:
            raise InputError(f"scale names {name}, which the table lacks")
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < float("inf"):
            raise InputError(f"scale of {name} must be a positive number, not {factor!r}")
        table[name] = pd.to_numeric(table[name], errors="coerce") * factor
    return table


def _rename(frame: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    from volscen.quotes import OPTIONAL_COLUMNS, REQUIRED_COLUMNS

    known = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS, "symbol")
    for tidy, own in columns.items():
        if tidy not in known:
            raise InputError(f"columns maps the names {', '.join(known)} to the source's, and {tidy!r} is none of them")
        if own not in frame:
            raise InputError(
                f"columns names {own!r} for {tidy}, which the table lacks; it has {', '.join(map(str, frame.columns))}"
            )
    used = set(columns.values())
    out: dict[Any, Any] = {name: frame[name] for name in frame.columns if name not in used and name not in columns}
    out.update({tidy: frame[own] for tidy, own in columns.items()})
    import pandas as pd

    return pd.DataFrame(out, index=frame.index)

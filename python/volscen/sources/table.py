"""Quotes from CSV and Parquet files and from data frames, with a mapping of column names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volscen.errors import FileFormatError, InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_table"]


def read_table(
    source: str | Path | pd.DataFrame, *, columns: Mapping[str, str] | None = None
) -> tuple[pd.DataFrame, pd.Series[int]]:
    """Read a table of option quotes and bring it into the tidy form.

    Parameters
    ----------
    source : path or pandas.DataFrame
        A ``.csv`` (also compressed: ``.csv.gz``, ``.csv.zip``, ``.csv.bz2``, ``.csv.xz``), ``.parquet`` or
        ``.pq`` file, a pandas DataFrame, or any frame with a ``to_pandas`` method, such as polars'.
    columns : mapping of str to str, optional
        Name in the tidy table -> name in the source, for those that differ:
        ``{"option_type": "cp_flag", "price": "close"}``. Columns not named keep their names; a column of the
        source that already bears a tidy name given to another one is left out.

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
    from volscen.quotes import check_quotes

    frame, name = _load(source)
    try:
        quotes, dropped = check_quotes(_rename(frame, columns or {}))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    if not len(quotes):
        why = ", ".join(f"{reason} {count}" for reason, count in dropped[dropped > 0].items())
        raise InputError(f"{name}: no usable row among {len(frame)} ({why or 'the table is empty'})")
    return quotes, dropped


def _load(source: str | Path | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    import pandas as pd

    if isinstance(source, pd.DataFrame):
        return source, "the data frame"
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
            return pd.read_csv(path, low_memory=False), str(path)
    except FileNotFoundError:
        raise FileFormatError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:  # what pandas, pyarrow and the decompressors raise
        raise FileFormatError(f"{path}: not a readable table ({str(error).splitlines()[0]})") from None
    raise FileFormatError(f"{path}: unknown kind of table; give a .csv, .csv.gz, .parquet or .pq file")


def _rename(frame: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    from volscen.quotes import OPTIONAL_COLUMNS, REQUIRED_COLUMNS

    known = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
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

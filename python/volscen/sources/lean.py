"""Option quotes in QuantConnect's LEAN layout: quote archives by contract, and chain snapshots."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from volscen.errors import FileFormatError, InputError

if TYPE_CHECKING:
    import pandas as pd

    from volscen.sources._opra import RootRule

__all__ = ["read_lean"]

#: Prices, and strikes in the names of entries, are stored times this.
SCALE = 10_000

LEAN_REASONS: dict[str, str] = {
    "weekend_expiry": "it expires on a weekend, when no option does",
    "after_snapshot": "the minute ends after the snapshot, or another one ends nearer to it",
    "no_quote_yet": "neither side has been quoted",
}

_CONTRACT = r"(american|european)_(call|put)_(\d+)_(\d{8})\.csv"
_DAILY = re.compile(rf"(?P<root>[a-z0-9.]+)_quote_{_CONTRACT}")
_MINUTE = re.compile(rf"(?P<day>\d{{8}})_(?P<root>[a-z0-9.]+)_minute_quote_{_CONTRACT}")
_SNAPSHOT = re.compile(r"(?:(?P<root>[A-Za-z0-9.]+)__)?(?P<day>\d{8})\.csv")

#: Columns of a row of quotes: time, bid open to close, bid size, ask open to close, ask size.
_FIELDS = ("time", "_1", "_2", "_3", "bid", "bid_size", "_4", "_5", "_6", "ask", "ask_size")


def read_lean(
    source: str | Path | Iterable[str | Path],
    *,
    times: str | Sequence[str] = "close-15min",
    keep: Collection[str] = (),
) -> tuple[pd.DataFrame, pd.Series[int]]:
    """Read option quotes from LEAN's files.

    Parameters
    ----------
    source : path or several
        Quote archives, daily (``aapl_2014_quote_american.zip``) or by minute
        (``20210106_quote_european.zip``), and chain snapshots (``spx/20151222.csv``), of one or several underlyings.
    times : str or sequence of str
        When to look at quotes by minute, as for :func:`volscen.sources.read_databento`; daily archives hold the last
        bid and ask of the day.
    keep : sequence of str
        Filters of :func:`volscen.quotes.check_quotes` to switch off, of "zero_bid" and "crossed".

    Returns
    -------
    quotes : pandas.DataFrame
        See :func:`volscen.quotes.check_quotes`; with ``underlying``, ``root``, ``exercise``, ``quote_time`` and
        ``expiry_time``, and ``bid_size``, ``ask_size`` of archives, ``spot``, ``volume``, ``open_interest`` of
        snapshots.
    dropped : pandas.Series
        Rows not used, by reason; ``len(quotes) + dropped.sum() == dropped.attrs["rows"]``.

    Raises
    ------
    FileFormatError
        If a file is missing, damaged, or holds no option quotes.
    InputError
        If ``times`` is wrong, archives and snapshots are mixed, or not one row is left.

    Notes
    -----
    Prices and strikes of archives are divided by 10,000. A side that is empty has no quote. A snapshot gives the
    closing price. Exercise is what an archive's name says; of a snapshot, and for the hour of settlement, the rule of
    the root holds (:data:`volscen.sources.ROOT_RULES`; others are taken for shares: American, settled at the close).
    Strikes and prices are as traded: a split of the shares between two days shows in both.

    Examples
    --------
    >>> import pathlib, tempfile, zipfile
    >>> from volscen.sources import read_lean
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "aapl_2014_quote_american.zip")
    ...     with zipfile.ZipFile(path, "w") as archive:
    ...         row = "20140606 00:00,14900,15900,10400,12100,30,16300,19500,12500,13300,6"
    ...         archive.writestr("aapl_quote_american_call_10000000_20150117.csv", row)
    ...     quotes, dropped = read_lean(path)
    >>> quotes[["underlying", "strike", "option_type", "bid", "ask"]].values.tolist()
    [['AAPL', 1000.0, 'C', 1.21, 1.33]]
    >>> str(quotes["expiry_time"][0])  # the symbol's date was the Saturday after the last trading day
    '2015-01-16 21:00:00'
    """
    import pandas as pd

    from volscen.sources._finish import finish
    from volscen.sources._snapshots import Schedule

    schedule = Schedule(times)
    paths = [Path(one) for one in ([source] if isinstance(source, str | Path) else source)]
    if not paths:
        raise InputError("source names no file")
    kinds = {path.suffix.lower() == ".csv" for path in paths}
    if len(kinds) > 1:
        raise InputError(
            "source mixes archives (.zip), which have bids and asks, with snapshots (.csv), which have prices"
        )
    counts = dict.fromkeys(LEAN_REASONS, 0)
    tables = [_snapshot(path) if path.suffix.lower() == ".csv" else _archive(path, schedule, counts) for path in paths]
    table = pd.concat(tables, ignore_index=True)
    rows = len(table) + counts["after_snapshot"]
    table, counts["weekend_expiry"] = _with_rules(table)
    if "bid" in table:
        silent = (table["bid"].isna() & table["ask"].isna()).to_numpy()
        counts["no_quote_yet"] = int(silent.sum())
        table = table[~silent]
        # Of the two sides an empty bid is a bid of nothing, which the tidy check counts as such.
        table["bid"] = table["bid"].fillna(0.0)
    name = str(paths[0]) if len(paths) == 1 else f"{len(paths)} files from {paths[0]}"
    quotes, dropped = finish(table, counts, name, keep)
    dropped.attrs["rows"] = rows
    return quotes, dropped


def _archive(path: Path, schedule: Any, counts: dict[str, int]) -> pd.DataFrame:
    """Rows of all contracts of an archive, with what their entries' names say."""
    import pandas as pd

    rows: list[list[str]] = []
    meta: list[tuple[Any, ...]] = []
    of_row: list[int] = []
    minutes = 0
    for name, text in _entries(path):
        daily, by_minute = _DAILY.fullmatch(name), _MINUTE.fullmatch(name)
        match = daily or by_minute
        if match is None:
            raise FileFormatError(
                f"{path}: its entry {name!r} holds no daily or minute quotes of an option; give archives named "
                "like aapl_2014_quote_american.zip"
            )
        held = [row.split(",") for row in text.splitlines() if row]
        if any(len(row) != len(_FIELDS) for row in held):
            raise FileFormatError(f"{path}: entry {name!r} has a row that is not of {len(_FIELDS)} fields")
        style, right, strike, expiry = match.groups()[-4:]
        day = match["day"] if by_minute else ""
        minutes += bool(by_minute)
        of_row += [len(meta)] * len(held)
        meta.append((match["root"].upper(), style.capitalize(), right, int(strike) / SCALE, expiry, day))
        rows += held
    if not rows:
        raise FileFormatError(f"{path}: the archive is empty")
    if 0 < minutes < len(meta):
        raise FileFormatError(f"{path}: mixes daily and minute quotes; give archives of one kind each")
    table = pd.DataFrame(rows, columns=list(_FIELDS))[["time", "bid", "bid_size", "ask", "ask_size"]]
    names = ["root", "exercise", "option_type", "strike", "expiry", "day"]
    table[names] = pd.DataFrame(meta, columns=names).iloc[of_row].to_numpy()
    table["strike"] = table["strike"].astype(np.float64)
    for side in ("bid", "ask"):
        table[side] = pd.to_numeric(table[side], errors="coerce") / SCALE
        table[f"{side}_size"] = pd.to_numeric(table[f"{side}_size"], errors="coerce")
    return _minute_times(path, table, schedule, counts) if minutes else _daily_times(path, table)


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                yield name, archive.read(name).decode("ascii")
    except FileNotFoundError:
        raise FileFormatError(f"{path}: no such file") from None
    except (zipfile.BadZipFile, EOFError, ValueError, OSError) as error:
        raise FileFormatError(f"{path}: not a readable zip archive ({error}); fetch it again") from None


def _daily_times(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Bars of whole days: as of the close."""
    import pandas as pd

    from volscen.sources._opra import closing_instants

    days = pd.to_datetime(table["time"].str.slice(0, 8), format="%Y%m%d", errors="coerce")
    if days.isna().any():
        raise FileFormatError(f"{path}: {table['time'][days.isna()].iloc[0]!r} is no date of a daily row")
    date = days.to_numpy().astype("datetime64[D]")
    table["date"] = days.dt.normalize()
    table["quote_time"] = closing_instants(date)
    return table.drop(columns=["time", "day"])


def _minute_times(path: Path, table: pd.DataFrame, schedule: Any, counts: dict[str, int]) -> pd.DataFrame:
    """Bars of a minute, named by their start in milliseconds after midnight: the last that ends by each snapshot."""
    import pandas as pd

    from volscen.sources._opra import to_utc

    start = pd.to_numeric(table["time"], errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(start).all():
        raise FileFormatError(f"{path}: {table['time'][~np.isfinite(start)].iloc[0]!r} is no time of a minute")
    date = pd.to_datetime(table["day"], format="%Y%m%d").to_numpy().astype("datetime64[D]")
    minutes = np.floor(start / 60_000).astype(np.int64) + 1
    end = to_utc(date.astype("datetime64[m]") + minutes.astype("timedelta64[m]")).astype(np.int64)
    table = table.drop(columns=["time", "day"]).assign(date=date.astype("datetime64[s]"), end=end)
    contract = ["root", "exercise", "expiry", "strike", "option_type"]
    taken, used = [], np.zeros(len(table), dtype=bool)
    for day in np.unique(date):
        today = table[date == day].sort_values("end", kind="stable")
        for instant in schedule.instants(int(day.astype(np.int64))).tolist():
            held = today[today["end"] <= instant].drop_duplicates(contract, keep="last")
            used[held.index] = True
            taken.append(held.assign(quote_time=np.datetime64(instant, "ns"), age=(instant - held["end"]) / 1e9))
    if not any(map(len, taken)):
        raise InputError(f"{path}: no quote at the times asked for; choose others with times=")
    counts["after_snapshot"] += int(np.count_nonzero(~used))
    snapshots: pd.DataFrame = pd.concat(taken, ignore_index=True).drop(columns="end")
    return snapshots


def _snapshot(path: Path) -> pd.DataFrame:
    """One chain snapshot; its first row, without an expiry, is the underlying."""
    import pandas as pd

    match = _SNAPSHOT.search(path.name)
    if match is None:
        raise FileFormatError(f"{path}: the name of a chain snapshot is its date, such as spx/20151222.csv")
    try:
        table = pd.read_csv(path, dtype=str)
    except FileNotFoundError:
        raise FileFormatError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path}: not a readable CSV file ({str(error).splitlines()[0]})") from None
    table.columns = table.columns.str.lstrip("#")
    missing = [name for name in ("expiry", "strike", "right", "close") if name not in table]
    if missing:
        raise FileFormatError(f"{path}: a chain snapshot has the column {', '.join(missing)}, which this one lacks")
    of_underlying = table["expiry"].isna()
    spot = pd.to_numeric(table.loc[of_underlying, "close"], errors="coerce")
    options = table[~of_underlying]
    root = (match["root"] or path.resolve().parent.name).upper()
    day = pd.Timestamp(match["day"])
    out = pd.DataFrame(
        {
            "date": day,
            "root": root,
            "expiry": options["expiry"],
            "option_type": options["right"],
            **{name: pd.to_numeric(options[name], errors="coerce") for name in ("strike", "close")},
        }
    ).rename(columns={"close": "price"})
    for name in ("volume", "open_interest"):
        if name in options:
            out[name] = pd.to_numeric(options[name], errors="coerce")
    if len(spot):
        out["spot"] = float(spot.iloc[0])
    from volscen.sources._opra import closing_instants

    date = np.array([day], dtype="datetime64[D]")
    out["quote_time"] = closing_instants(date)[0]
    return out.reset_index(drop=True)


def _with_rules(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Add underlying, exercise and instant of settlement by root; rows that expire on a weekend are dropped."""
    import pandas as pd

    from volscen.sources._opra import last_trading_days, rules_of_roots, settlement_instants

    roots, of_root = np.unique(table["root"].to_numpy(dtype="U"), return_inverse=True)
    rules: list[RootRule] = rules_of_roots(roots)[0]
    expiry = pd.to_datetime(table["expiry"], format="%Y%m%d", errors="coerce").to_numpy().astype("datetime64[D]")
    date = table["date"].to_numpy().astype("datetime64[D]")
    known = ~np.isnat(expiry)
    traded, real = last_trading_days(np.where(known, expiry, date), date)
    at_open = np.array([rule.settlement == "AM" for rule in rules])[of_root]
    table = table.assign(
        underlying=np.array([rule.underlying for rule in rules], dtype=object)[of_root],
        expiry=np.where(known, traded, np.datetime64("NaT", "D")).astype("datetime64[s]"),
        expiry_time=np.where(known, settlement_instants(traded, at_open), np.datetime64("NaT", "D")),
    )
    if "exercise" not in table:
        table["exercise"] = np.array([rule.exercise for rule in rules], dtype=object)[of_root]
    return table[real | ~known], int(np.count_nonzero(~real & known))

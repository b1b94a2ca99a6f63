"""Option quotes from Databento: files of the consolidated United States feed, and their download."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from volscen.errors import InputError
from volscen.sources._databento_download import download_databento
from volscen.sources._databento_live import LiveRecording, record_databento
from volscen.sources._opra import ROOT_RULES, RootRule

if TYPE_CHECKING:
    import pandas as pd

    from volscen.sources._dbn import DbnFile
    from volscen.sources._live_file import LiveFile

    PathLike = str | Path

__all__ = [
    "ROOT_RULES",
    "LiveRecording",
    "RootRule",
    "download_databento",
    "read_databento",
    "read_opra_contracts",
    "record_databento",
]

#: Schemas with a consolidated quote.
QUOTE_SCHEMAS = ("cbbo-1m", "cbbo-1s", "cmbp-1", "tcbbo", "mbp-1")

#: Schemas whose header says which contract an instrument number stands for.
_MAPPED_SCHEMAS = (
    *QUOTE_SCHEMAS,
    "tbbo",
    "trades",
    "statistics",
    "status",
    "ohlcv-1s",
    "ohlcv-1m",
    "ohlcv-1h",
    "ohlcv-1d",
)

_OPEN_INTEREST = 9

_COLUMNS = (
    "date",
    "quote_time",
    "underlying",
    "root",
    "expiry",
    "expiry_time",
    "strike",
    "option_type",
    "bid",
    "ask",
    "bid_size",
    "ask_size",
    "age",
    "exercise",
    "multiplier",
    "adjusted",
    "symbol",
)


def read_databento(
    source: PathLike | Iterable[PathLike],
    *,
    times: str | Sequence[str] = "close-15min",
    definitions: PathLike | Iterable[PathLike] | None = None,
    statistics: PathLike | Iterable[PathLike] | None = None,
    roots: str | Iterable[str] | None = None,
    rules: Mapping[str, RootRule] | None = None,
    keep: Collection[str] = (),
) -> tuple[pd.DataFrame, pd.Series[int]]:
    """Read snapshots of option quotes from Databento files (DBN) of the dataset OPRA.PILLAR.

    The files are streamed: memory holds one block of records and the snapshots, however long the files are.

    Parameters
    ----------
    source : path or several
        Files, plain (``.dbn``) or zstd (``.dbn.zst``), of a schema with consolidated quotes: ``cbbo-1m``,
        ``cbbo-1s``, ``cmbp-1``, ``tcbbo``, or ``mbp-1`` (of which the consolidated publisher is kept); or of live
        sessions (:func:`record_databento`, or the stream of a live client). A folder stands for the DBN files in it:
        those of definitions and statistics serve as such unless others are given.
    times : str or sequence of str
        When to look: a time of day in New York (``"15:45"``), ``"close"``, ``"close-15min"`` (which follows the
        early close of half-days), a step (``"30min"``: every 30 minutes after the opening, up to the close), or
        ``"last"``: of the last record of each file and day, at most a quarter of an hour after the close. Of every
        contract the last quote at or before that instant is taken, of the same day.
    definitions : path or several, optional
        Files of the schema ``definition`` of the same days. When omitted, the symbols in the header of each
        file say what its instruments are, and in a live session's the definitions and symbols among its records.
    statistics : path or several, optional
        Files of the schema ``statistics``; they give the column ``open_interest``.
    roots : str or several, optional
        Keep these symbol roots only, such as ``["SPX", "SPXW"]``.
    rules : mapping of str to RootRule, optional
        Exercise, settlement and multiplier of roots that :data:`ROOT_RULES` lacks or has otherwise. A root found in
        neither is taken for a share or fund: American, settled at the close, 100 a contract;
        ``dropped.attrs["assumed_roots"]`` names those.
    keep : sequence of str
        Filters of :func:`volscen.quotes.check_quotes` to switch off, of "zero_bid" and "crossed".

    Returns
    -------
    quotes : pandas.DataFrame
        See :func:`volscen.quotes.check_quotes`; with ``quote_time`` (of the snapshot) and ``expiry_time`` (when the
        payoff is fixed), both UTC, ``root``, ``bid_size``, ``ask_size``, ``age`` (seconds since the quote was sent),
        ``exercise`` ("European" or "American"), ``multiplier``, ``adjusted``, ``symbol``.
    dropped : pandas.Series
        Records and rows not used, by reason. ``dropped.attrs`` has ``records`` (read), ``carried`` (rows whose record
        stands in an earlier snapshot too), ``contracts`` (instruments that cannot be used, by reason),
        ``assumed_roots``, ``days_without_snapshot``, and ``other_records`` (of live sessions, that are no quotes, by
        kind); ``len(quotes) + dropped.sum() == records + carried``.

    Raises
    ------
    MissingExtraError
        Without the extra ``volscen[databento]``.
    FileFormatError
        If a file is missing, truncated, of another dataset or schema, or out of order.
    InputError
        If an argument is wrong, or not one quote is left.

    Notes
    -----
    Contracts settle by the rule of their root: SPX, NDX, RUT, VIX, DJX, RUI at the opening (09:30 New York) of the
    expiry date, the others at the close: 16:00, on half-days 13:00. The date in a symbol is the last trading day;
    before February 2015 it may be the Saturday after, which becomes the Friday. The multiplier is the definition's
    where it has one, else 100.

    Examples
    --------
    >>> from volscen.sources import read_databento
    >>> quotes, dropped = read_databento("opra.cbbo-1m.dbn.zst", times="30min")  # doctest: +SKIP
    >>> half_past_two = quotes[quotes["quote_time"] == "2024-01-19 19:30"]  # doctest: +SKIP
    """
    import pandas as pd

    from volscen.sources._finish import finish
    from volscen.sources._live_file import LiveFile
    from volscen.sources._opra_contracts import contracts_of, paths_of, read_definitions
    from volscen.sources._snapshots import SNAPSHOT_REASONS, Schedule, Snapshots

    schedule = Schedule(times)
    paths = paths_of(source, "source")
    wanted = None if roots is None else _roots(roots)
    own = definitions is None  # a live session brings its own, whatever else is in the folder
    if isinstance(source, str | Path) and Path(source).is_dir():
        paths, definitions, statistics = _sorted_out(paths, definitions, statistics)
    files = [_open(path) for path in paths]  # before any work on the first
    given = None if definitions is None else read_definitions(paths_of(definitions, "definitions"), rules)
    snapshots = Snapshots(schedule)
    others: Counter[str] = Counter()
    unusable: pd.Series[Any] | int = 0
    assumed: set[str] = set()
    found: set[str] = set()
    for file in files:
        if given is not None and not (own and isinstance(file, LiveFile)):
            contracts = given
        else:
            contracts = file.contracts(rules) if isinstance(file, LiveFile) else contracts_of(file, rules)
        unusable = contracts.loc[contracts["reason"] != "", "reason"].value_counts().add(unusable, fill_value=0)
        found.update(contracts["root"])
        usable = contracts[contracts["reason"] == ""]
        if wanted is not None:
            usable = usable[usable["root"].isin(wanted)]
        assumed.update(set(contracts.attrs["assumed_roots"]) & set(usable["root"]))
        snapshots.read(file, usable)
        if isinstance(file, LiveFile):
            others.update(file.other_records)
    name = str(paths[0]) if len(paths) == 1 else f"{len(paths)} files from {paths[0]}"
    if wanted is not None and not wanted & found:
        raise InputError(f"{name}: no root of {sorted(wanted)} among {', '.join(sorted(found - {''})[:10]) or 'none'}")
    table = snapshots.table()
    if table is None:
        raise InputError(
            f"{name}: no quote at the times asked for among {snapshots.records:,} records; choose others with times="
        )
    table = table[list(_COLUMNS)]
    if statistics is not None:
        table = _with_open_interest(table, paths_of(statistics, "statistics"))
    counts = {reason: snapshots.counts[reason] for reason in SNAPSHOT_REASONS}
    quotes, dropped = finish(table, counts, name, keep)
    dropped.attrs.update(
        records=snapshots.records,
        carried=snapshots.carried,
        contracts={str(reason): int(count) for reason, count in pd.Series(unusable).items()},
        assumed_roots=sorted(assumed),
        days_without_snapshot=snapshots.days_without,
        other_records=dict(others),
    )
    return quotes, dropped


def read_opra_contracts(
    source: PathLike | Iterable[PathLike], *, rules: Mapping[str, RootRule] | None = None
) -> pd.DataFrame:
    """Read which contracts the instruments of Databento files stand for.

    Parameters
    ----------
    source : path or several
        Files of the dataset OPRA.PILLAR: of the schema ``definition``, of live sessions, or of any other whose header
        maps instruments to symbols.
    rules : mapping of str to RootRule, optional
        See :func:`read_databento`.

    Returns
    -------
    pandas.DataFrame
        One row per instrument and interval of days (numbers change hands from day to day): ``instrument_id``,
        ``start``, ``end`` (exclusive), ``symbol``, ``root``, ``underlying``, ``exercise``, ``adjusted``, ``expiry``
        (last trading day), ``expiry_time`` (UTC), ``strike``, ``option_type``, ``multiplier``, and ``reason``, empty or
        why it cannot be used ("not_an_option", "unknown_symbol", "weekend_expiry").

    Raises
    ------
    MissingExtraError, FileFormatError
        See :func:`read_databento`.

    Examples
    --------
    >>> from volscen.sources import read_opra_contracts
    >>> contracts = read_opra_contracts("opra.definition.dbn.zst")  # doctest: +SKIP
    """
    import pandas as pd

    from volscen.sources._dbn import LIVE, open_dbn, read_header
    from volscen.sources._live_file import open_live
    from volscen.sources._opra_contracts import contracts_of, paths_of, read_definitions

    tables = []
    for path in paths_of(source, "source"):
        if (header := read_header(path)).schema == LIVE:
            tables.append(open_live(path, header).contracts(rules))
            continue
        file = open_dbn(path, ("definition", *_MAPPED_SCHEMAS), "reading contracts")
        tables.append(read_definitions([path], rules) if file.schema == "definition" else contracts_of(file, rules))
    return pd.concat(tables, ignore_index=True)


def _open(path: Path) -> DbnFile | LiveFile:
    from volscen.sources._dbn import LIVE, open_dbn, read_header
    from volscen.sources._live_file import open_live

    header = read_header(path)
    return open_live(path, header) if header.schema == LIVE else open_dbn(path, QUOTE_SCHEMAS, "reading quotes")


def _sorted_out(paths: list[Path], definitions: Any, statistics: Any) -> tuple[list[Path], Any, Any]:
    """Of a folder, the files of quotes, of definitions and of statistics, where those are not given otherwise."""
    from volscen.sources._dbn import read_header

    schemas = {path: read_header(path).schema for path in paths}
    quotes = [path for path in paths if schemas[path] not in ("definition", "statistics")]
    if not quotes:
        return paths, definitions, statistics  # which is an error, and says of what schema they are
    if definitions is None:
        definitions = [path for path in paths if schemas[path] == "definition"] or None
    if statistics is None:
        statistics = [path for path in paths if schemas[path] == "statistics"] or None
    return quotes, definitions, statistics


def _roots(roots: str | Iterable[str]) -> set[str]:
    wanted = {roots} if isinstance(roots, str) else set(roots)
    bad = [root for root in wanted if not isinstance(root, str) or not root.isalnum() or root != root.upper()]
    if bad or not wanted:
        raise InputError(
            f"roots must be symbol roots such as 'SPXW', not {bad[0]!r}"
            if bad
            else "roots is empty; leave it out for all"
        )
    return wanted


def _with_open_interest(table: pd.DataFrame, paths: list[Path]) -> pd.DataFrame:
    """Add the open interest published on the day of each row; NaN where there is none."""
    import pandas as pd

    from volscen.sources._dbn import DAY_NS, open_dbn
    from volscen.sources._opra_contracts import contracts_of

    parts = []
    for path in paths:
        file = open_dbn(path, ("statistics",), "statistics=")
        contracts = contracts_of(file)
        for block in file.blocks():
            block = block[block["stat_type"] == _OPEN_INTEREST]
            day = (block["ts_recv"] // DAY_NS).astype(np.int64).astype("datetime64[D]").astype("datetime64[s]")
            part = pd.DataFrame(
                {
                    "instrument_id": block["instrument_id"].astype(np.int64),
                    "date": day,
                    "open_interest": block["quantity"].astype(np.float64),
                }
            )
            part = part.drop_duplicates(["instrument_id", "date"], keep="last")  # every exchange publishes the same
            part = part.merge(contracts[["instrument_id", "start", "end", "symbol"]], on="instrument_id")
            parts.append(part[(part["start"] <= part["date"]) & (part["date"] < part["end"])])
    held = pd.concat(parts) if parts else pd.DataFrame({"date": [], "symbol": [], "open_interest": []})
    held = held.drop_duplicates(["symbol", "date"], keep="last")[["date", "symbol", "open_interest"]]
    held["date"] = held["date"].astype(table["date"].dtype)
    return table.merge(held, on=["date", "symbol"], how="left")

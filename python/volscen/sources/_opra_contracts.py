"""Which contract an instrument number of an OPRA file stands for, day by day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from volscen.errors import FileFormatError, InputError
from volscen.sources._dbn import DAY_NS, UNDEFINED_PRICE, DbnFile, open_dbn
from volscen.sources._opra import RootRule, last_trading_days, osi_parts, rules_of_roots, settlement_instants

__all__ = [
    "CONTRACT_REASONS",
    "PathLike",
    "contracts_of",
    "defined_contracts",
    "describe",
    "paths_of",
    "read_definitions",
]

PathLike = str | Path

#: Why an instrument is no contract that can be used.
CONTRACT_REASONS: dict[str, str] = {
    "not_an_option": "its definition is of no call or put",
    "unknown_symbol": "its symbol is no OSI symbol, or its root is none that options bear",
    "weekend_expiry": "it expires on a weekend, when no option does",
}

#: What the decoder writes for a multiplier that the exchange does not give.
_UNDEFINED_INT = np.iinfo(np.int32).max


def paths_of(source: PathLike | Iterable[PathLike], name: str) -> list[Path]:
    """Files named by one path or several; a folder stands for the DBN files in it, sorted by name."""
    given = [source] if isinstance(source, str | Path) else list(source)
    paths: list[Path] = []
    for one in given:
        if not isinstance(one, str | Path):
            raise InputError(f"{name} must be a path or several, not {type(one).__name__}")
        path = Path(one)
        if path.is_dir():
            held = sorted([*path.glob("*.dbn"), *path.glob("*.dbn.zst")])
            if not held:
                raise InputError(f"{name}: {path} holds no .dbn or .dbn.zst file")
            paths += held
        else:
            paths.append(path)
    if not paths:
        raise InputError(f"{name} names no file")
    return paths


def contracts_of(file: DbnFile, rules: Mapping[str, RootRule] | None = None) -> pd.DataFrame:
    """Contracts by the symbol mappings in the header of a file.

    Returns
    -------
    pandas.DataFrame
        One row per instrument and interval of days: ``instrument_id``, ``start``, ``end`` (first day, and the
        day after the last), ``symbol``, and what :func:`describe` adds.
    """
    metadata = file.metadata
    inward = str(metadata.stype_out) == "instrument_id"
    rows: list[tuple[str, str, Any, Any]] = []
    for key, intervals in sorted(metadata.mappings.items()):  # the decoder's order changes from run to run
        for interval in intervals:
            symbol, number = (key, interval["symbol"]) if inward else (interval["symbol"], key)
            if symbol and number:
                rows.append((symbol, number, interval["start_date"], interval["end_date"]))
    if not rows:
        raise FileFormatError(
            f"{file.path}: its header maps no instrument to a symbol; give the day's definitions with definitions="
        )
    try:
        number = np.array([int(row[1]) for row in rows], dtype=np.int64)
    except ValueError:
        raise FileFormatError(
            f"{file.path}: its header maps to {metadata.stype_out} rather than to instrument numbers; "
            "fetch it with stype_out='instrument_id' or give definitions="
        ) from None
    return describe(
        number,
        np.array([row[0] for row in rows]),
        np.array([row[2] for row in rows], dtype="datetime64[D]"),
        np.array([row[3] for row in rows], dtype="datetime64[D]"),
        rules,
    )


def read_definitions(paths: Sequence[Path], rules: Mapping[str, RootRule] | None = None) -> pd.DataFrame:
    """Contracts by records of the schema definition, which hold for the day on which they were sent.

    Strike, expiry and class are the definition's; the root is that of its symbol. Of several records of one day the
    last one counts.
    """
    blocks = (block for path in paths for block in open_dbn(path, ("definition",), "definitions=").blocks())
    table = defined_contracts(blocks, rules)
    if table is None:
        raise FileFormatError(f"{paths[0]}: holds no definition")
    return table


def defined_contracts(
    blocks: Iterable[npt.NDArray[np.void]], rules: Mapping[str, RootRule] | None = None
) -> pd.DataFrame | None:
    """Contracts by records of the schema definition; None if there is no record."""
    wanted = ("instrument_id", "ts_recv", "expiration", "strike_price", "contract_multiplier")
    parts: list[pd.DataFrame] = []
    for block in blocks:
        part = pd.DataFrame({name: np.ascontiguousarray(block[name]) for name in wanted})
        part["symbol"] = np.char.decode(np.ascontiguousarray(block["raw_symbol"]), "ascii", "replace")
        part["kind"] = np.char.decode(np.ascontiguousarray(block["instrument_class"]), "ascii", "replace")
        parts.append(part)
    if not parts:
        return None
    table = pd.concat(parts, ignore_index=True)
    day = (table["ts_recv"].to_numpy() // DAY_NS).astype(np.int64).astype("datetime64[D]")
    last = ~pd.DataFrame({"day": day, "id": table["instrument_id"]}).duplicated(keep="last").to_numpy()
    table, day = table[last], day[last]
    strike = table["strike_price"].to_numpy(dtype=np.int64)
    expiration = table["expiration"].to_numpy(dtype=np.uint64)
    multiplier = table["contract_multiplier"].to_numpy(dtype=np.int64)
    kind = table["kind"].to_numpy(dtype="U1")
    defined = (strike != UNDEFINED_PRICE) & (expiration != np.iinfo(np.uint64).max)
    return describe(
        table["instrument_id"].to_numpy(dtype=np.int64),
        table["symbol"].to_numpy(dtype="U71"),
        day,
        day + np.timedelta64(1, "D"),
        rules,
        is_option=((kind == "C") | (kind == "P")) & defined,
        option_type=kind,
        strike=strike / 1e9,
        expiry=(np.where(defined, expiration, 0) // DAY_NS).astype(np.int64).astype("datetime64[D]"),
        multiplier=np.where((multiplier == _UNDEFINED_INT) | (multiplier <= 0), np.nan, multiplier),
    )


def describe(
    number: npt.NDArray[np.int64],
    symbol: npt.NDArray[np.str_],
    start: npt.NDArray[np.datetime64],
    end: npt.NDArray[np.datetime64],
    rules: Mapping[str, RootRule] | None,
    *,
    is_option: npt.NDArray[np.bool_] | None = None,
    option_type: npt.NDArray[np.str_] | None = None,
    strike: npt.NDArray[np.float64] | None = None,
    expiry: npt.NDArray[np.datetime64] | None = None,
    multiplier: npt.NDArray[np.float64] | None = None,
) -> pd.DataFrame:
    """Table of contracts; ``reason`` is empty for those that can be used."""
    parts = osi_parts(symbol)
    expiry = parts.expiry if expiry is None else expiry
    traded, real = last_trading_days(expiry, start)
    reason = np.full(len(symbol), "", dtype=object)
    reason[~real] = "weekend_expiry"
    reason[~parts.ok] = "unknown_symbol"
    if is_option is not None:
        reason[~is_option] = "not_an_option"
    roots, of_root = np.unique(np.where(parts.ok, parts.root, ""), return_inverse=True)
    found, assumed = rules_of_roots(roots, rules)
    by_rule = pd.DataFrame(
        {
            "root": roots.astype(object),
            "underlying": [rule.underlying for rule in found],
            "exercise": [rule.exercise for rule in found],
            "at_open": [rule.settlement == "AM" for rule in found],
            "multiplier": [rule.multiplier for rule in found],
            "adjusted": [root[-1:].isdigit() for root in roots.tolist()],
        }
    ).iloc[of_root]
    table = pd.DataFrame(
        {
            "instrument_id": number,
            "start": start.astype("datetime64[s]"),
            "end": end.astype("datetime64[s]"),
            "symbol": symbol,
            **{name: by_rule[name].to_numpy() for name in ("root", "underlying", "exercise", "adjusted")},
            "expiry": traded.astype("datetime64[s]"),
            "expiry_time": settlement_instants(traded, by_rule["at_open"].to_numpy(dtype=bool)),
            "strike": parts.strike if strike is None else strike,
            "option_type": parts.option_type if option_type is None else option_type,
            "multiplier": by_rule["multiplier"].to_numpy(dtype=np.float64),
            "reason": reason,
        }
    )
    if multiplier is not None:
        table["multiplier"] = np.where(np.isnan(multiplier), table["multiplier"], multiplier)
    table.attrs["assumed_roots"] = [root for root in assumed if root]
    return table

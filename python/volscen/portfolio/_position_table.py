"""Positions read from tables: CSV and Parquet files, and data frames."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volscen._contract_names import written_contract, written_day
from volscen._numbers import finite_number, positive_number
from volscen.errors import InputError
from volscen.portfolio._instruments import Cash, Forward, Instrument, Option, Underlying, VarianceSwap, VixPayoff

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_lines"]

#: What the column ``type`` may say: the instrument and its first argument.
_TYPES: dict[str, tuple[type[Instrument], tuple[Any, ...]]] = {
    "call": (Option, ("call",)),
    "c": (Option, ("call",)),
    "put": (Option, ("put",)),
    "p": (Option, ("put",)),
    "underlying": (Underlying, ()),
    "u": (Underlying, ()),
    "forward": (Forward, ()),
    "f": (Forward, ()),
    "cash": (Cash, ()),
    "variance_swap": (VarianceSwap, ()),
    "vix": (VixPayoff, ()),
    "vix_call": (VixPayoff, ("call",)),
    "vix_put": (VixPayoff, ("put",)),
}
_NAMES = "call, put, underlying, forward, cash, variance_swap, vix, vix_call or vix_put"
_FIRST = {"option_type"}
_ARTICLES = {
    Option: "an option",
    Underlying: "the underlying",
    Forward: "a forward",
    Cash: "cash",
    VarianceSwap: "a variance swap",
    VixPayoff: "the volatility index",
}

#: Lines of a table: name for error messages, and the cells filled in.
_Records = Iterator[tuple[str, dict[str, Any]]]

#: What a position has and an instrument to hedge with has not.
_OF_POSITIONS = ("quantity", "multiplier", "group")

#: What the column ``contract`` says in one text.
_IN_CONTRACT = ("type", "strike", "expiry")

_COLUMNS = (
    "type",
    "contract",
    *_OF_POSITIONS,
    *(n for n in dict.fromkeys(f.name for c in _ARTICLES for f in fields(c)) if n not in _FIRST),
)

#: Names that people give to columns, for errors.
_MEANT = {
    "quantity": "qty amount size lots contracts pos net",
    "contract": "position symbol instrument description security product option name",
    "type": "kind cp right putcall callput optiontype",
    "strike": "k strikeprice",
    "expiry": "expiration maturity expirydate expirationdate expires",
}

#: An underlying, as desks name it: "SPX", "BRK.B", "SPX Index".
_LONE_NAME = re.compile(r"([A-Z][A-Z./]*)(?: (?:INDEX|US|EQUITY))*")

#: "1,250", but not "0,950".
_ONE_OR_A_THOUSAND = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+")


def _records(table: str | Path | pd.DataFrame, *, quantities: bool) -> _Records:
    """Cells that are filled in of every line, with the line's name for error messages."""
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        return _frame_records(table, "the table", quantities)
    if not isinstance(table, str | Path):
        raise InputError(f"table must be a path or a pandas DataFrame, not {type(table).__name__}")
    path = Path(table)
    try:
        if path.suffix.lower() == ".csv":
            # As text, cell by cell: guessing types turns dates into numbers, and a surplus cell shifts the columns.
            with path.open(newline="", encoding="utf-8-sig") as file:
                header = file.readline()
                mark = next((mark for mark in (";", "\t") if mark in header and "," not in header), ",")
                file.seek(0)
                lines = list(_csv_lines(csv.reader(file, strict=True, delimiter=mark)))
                return _csv_records(lines, path, quantities, decimal_comma=mark != ",")
        if path.suffix.lower() == ".parquet":
            return _frame_records(pd.read_parquet(path), str(path), quantities)
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read positions from {path}: {error}") from None
    raise InputError(f"cannot read positions from {path}: the name must end in .csv or .parquet")


def _csv_lines(reader: Any) -> Iterator[tuple[int, list[str]]]:
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield reader.line_num, [cell.strip() for cell in cells]


def _csv_records(lines: list[tuple[int, list[str]]], path: Path, quantities: bool, *, decimal_comma: bool) -> _Records:
    if not lines:
        raise InputError(f"cannot read positions from {path}: the file is empty")
    names = [_plain(name) for name in lines[0][1]]
    _check_columns(names, len(lines) - 1, quantities)
    records = []
    for number, cells in lines[1:]:
        if len(cells) != len(names):
            raise InputError(f"line {number} of {path} has {len(cells)} cells where the header has {len(names)}")
        line = f"line {number} of {path}"
        given = {name: cell for name, cell in zip(names, cells, strict=True) if cell.lower() not in ("", "nan", "na")}
        for name, cell in given.items():
            if _ONE_OR_A_THOUSAND.fullmatch(cell) and name not in ("type", "contract", "group", "expiry"):
                raise InputError(f"{line}: {name} {cell!r} may have a comma of thousands or of decimals: write none")
            if decimal_comma and re.fullmatch(r"[-+]?\d+,\d+", cell):
                given[name] = cell.replace(",", ".")
        records.append((line, given))
    return iter(records)


def _frame_records(frame: pd.DataFrame, what: str, quantities: bool) -> _Records:
    import pandas as pd

    frame = frame.rename(columns={name: _plain(name) for name in frame.columns})
    _check_columns(list(frame.columns), len(frame), quantities)
    records = []
    for number, row in enumerate(frame.to_dict("records"), start=1):
        given = {str(name): value for name, value in row.items() if not pd.isna(value)}
        expiry = given.get("expiry")
        if isinstance(expiry, float) and expiry.is_integer():  # an empty cell makes floats of a column of integers
            given["expiry"] = int(expiry)
        records.append((f"line {number} of {what}", given))
    return iter(records)


def _plain(name: Any) -> str:
    """Name of a column without case, and with underscores for spaces."""
    return re.sub(r"\s+", "_", str(name).strip().lower())


def _check_columns(names: list[Any], n_lines: int, quantities: bool) -> None:
    known = _COLUMNS if quantities else tuple(name for name in _COLUMNS if name not in _OF_POSITIONS)
    unknown = [str(name) for name in names if name not in _COLUMNS]
    if unknown:
        meant = [
            f"{name} is {ours}"
            for name in unknown
            for ours, theirs in _MEANT.items()
            if name.replace("_", "") in theirs.split() and ours in known and ours not in names
        ]
        hint = f"; perhaps {', '.join(meant)}: rename" if meant else ""
        raise InputError(f"unknown columns {', '.join(unknown)}; the table may have {', '.join(known)}{hint}")
    repeated = [name for name in _COLUMNS if names.count(name) > 1]
    if repeated:
        raise InputError(f"the table has the column {repeated[0]} twice; drop one")
    if "type" not in names and "contract" not in names:
        raise InputError(f"the table has no column type ({_NAMES}), nor contract ('SPX 20DEC24 5800 C')")
    if not quantities and (beside := [name for name in _OF_POSITIONS if name in names]):
        raise InputError(
            f"instruments to hedge with have no {' and no '.join(beside)}: a hedge finds how much of each to hold; "
            f"drop the column{'s' * (len(beside) > 1)}, or give the table as a portfolio"
        )
    if quantities and "quantity" not in names:
        raise InputError("the table has no column quantity; add it, 1 for one unit, negative for short")
    if not n_lines:
        raise InputError("the table has no lines; give at least one position")


def read_lines(table: str | Path | pd.DataFrame, *, quantities: bool) -> Iterator[tuple[Instrument, float, str]]:
    """Instrument, quantity and group of every line of a table; the line is named where it is wrong."""
    roots: dict[str, str] = {}
    for line, given in _records(table, quantities=quantities):
        try:
            if "contract" in given:
                _take_apart(given, roots)
            elif isinstance(given.get("expiry"), str):
                given["expiry"] = written_day(given["expiry"]) or given["expiry"]
            if "type" not in given:
                raise InputError(f"type is empty; it must be {_NAMES}")
            name = given.pop("type")
            kind = _TYPES.get(str(name).strip().lower())
            if kind is None:
                raise InputError(f"type must be {_NAMES}, not {name!r}")
            if quantities and "quantity" not in given:
                raise InputError("quantity is empty; give a number, negative for short")
            quantity = finite_number("quantity", given.pop("quantity")) if quantities else 1.0
            multiplier = positive_number("multiplier", given.pop("multiplier", 1.0))
            group = str(given.pop("group", ""))
            cls, first = kind
            foreign = [column for column in given if column not in {field.name for field in fields(cls)} - _FIRST]
            if foreign:
                raise InputError(f"{_ARTICLES[cls]} takes no {', '.join(foreign)}")
            yield cls(*first, **given), quantity * multiplier, group
        except InputError as error:
            raise InputError(f"{line}: {error}") from None


def _take_apart(given: dict[str, Any], roots: dict[str, str]) -> None:
    """Replace the cell ``contract`` by type, strike and expiry; all contracts of a table are of one underlying."""
    from volscen.sources._opra import ROOT_RULES

    name = str(given.pop("contract")).strip()
    if beside := [cell for cell in _IN_CONTRACT if cell in given]:
        raise InputError(f"contract {name!r} says {', '.join(beside)} already; leave one of the two empty")
    found = written_contract(name)
    alone = _LONE_NAME.fullmatch(name.upper())
    if found is None and (alone is None or name.upper() == "CASH"):
        raise InputError(
            f"contract {name!r} is not read without doubt; write it as 'SPX 20DEC24 5800 C', as an OSI symbol, or the "
            "underlying by its name alone; anything else by columns type, strike and expiry"
        )
    if found is not None and found.adjusted:
        raise InputError(f"contract {name!r} was altered by a corporate action; its payoff is not in its name")
    root = found.root if found else str(alone and alone[1])
    if root and root != "UNDERLYING":
        rule = ROOT_RULES.get(root)
        underlying = rule.underlying if rule is not None else root
        other = next((text for held, text in roots.items() if held != underlying), None)
        if other is not None:
            raise InputError(
                f"contract {name!r} is of another underlying than {other!r}; scenarios are of one: split the table"
            )
        roots[underlying] = name
    if found is None:
        given["type"] = "underlying"
    else:
        given.update(type=found.option_type, strike=found.strike, expiry=found.expiry)

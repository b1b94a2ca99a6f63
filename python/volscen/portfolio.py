"""Portfolios of options and their underlying, and their revaluation on scenarios."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volscen._contracts import resolve
from volscen._instruments import OPTION_FIELDS, Instrument, Option, Underlying, _number
from volscen._revalue import RevaluationWarning, revalue
from volscen.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Instrument",
    "Option",
    "Portfolio",
    "RevaluationWarning",
    "Underlying",
    "instruments_from_table",
    "resolve",
    "revalue",
]

_TYPES = {
    "call": "call",
    "c": "call",
    "put": "put",
    "p": "put",
    "underlying": "underlying",
    "u": "underlying",
}
#: Lines of a table: name for error messages, and the cells filled in.
_Records = Iterator[tuple[str, dict[str, Any]]]

_COLUMNS = ("type", "quantity", *OPTION_FIELDS[1:])


@dataclass(frozen=True, init=False)
class Portfolio:
    """Quantities of instruments; negative quantities are short.

    Parameters
    ----------
    positions : iterable of (instrument, quantity), or of instruments
        An instrument without a quantity counts once.

    Raises
    ------
    InputError
        If it is empty, an entry is no instrument, or a quantity is not a finite number.

    Examples
    --------
    >>> from volscen import Option, Portfolio, Underlying
    >>> book = Portfolio([(Option("put", moneyness=0.9, tau=0.25), -10), (Underlying(), 4)])
    >>> book.quantities
    (-10.0, 4.0)
    >>> len(book + Portfolio.straddle(moneyness=1.0, tau=0.25))
    4
    """

    positions: tuple[tuple[Instrument, float], ...]

    def __init__(self, positions: Iterable[Instrument | tuple[Instrument, float]]) -> None:
        if isinstance(positions, Option | Underlying):
            positions = [positions]
        if isinstance(positions, Mapping):  # iterating over it would lose the quantities
            raise InputError("positions must be a list of (instrument, quantity), not a mapping; pass list(m.items())")
        try:
            entries = list(positions)
        except TypeError:
            raise InputError(
                f"positions must be a list of (instrument, quantity), not {type(positions).__name__}"
            ) from None
        if not entries:
            raise InputError("positions is empty; give at least one (instrument, quantity)")
        object.__setattr__(self, "positions", tuple(_position(entry) for entry in entries))

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """The instruments, in order."""
        return tuple(instrument for instrument, _ in self.positions)

    @property
    def quantities(self) -> tuple[float, ...]:
        """The quantities, in order."""
        return tuple(quantity for _, quantity in self.positions)

    def __len__(self) -> int:
        return len(self.positions)

    def __add__(self, other: Portfolio) -> Portfolio:
        if not isinstance(other, Portfolio):
            return NotImplemented
        return Portfolio([*self.positions, *other.positions])

    @classmethod
    def straddle(cls, *, quantity: float = 1.0, **contract: Any) -> Portfolio:
        """One call and one put of the same strike and maturity.

        Parameters
        ----------
        quantity : float
            Number of straddles.
        **contract
            Strike, maturity and volatility as for :class:`Option` (not ``delta``, at which call and put
            differ).

        Examples
        --------
        >>> from volscen import Portfolio
        >>> [i.label for i in Portfolio.straddle(strike=100, tau=30 / 365).instruments]
        ['call K=100 30d', 'put K=100 30d']
        """
        if contract.get("delta") is not None:
            raise InputError("a straddle has one strike: give strike, moneyness or strike_over_spot, not delta")
        try:
            return cls([(Option("call", **contract), quantity), (Option("put", **contract), quantity)])
        except TypeError as error:
            raise InputError(f"straddle: {error}") from None

    @classmethod
    def from_table(cls, table: str | Path | pd.DataFrame) -> Portfolio:
        """Read positions from a CSV or Parquet file, or a data frame.

        Parameters
        ----------
        table : path or pandas.DataFrame
            One line a position. Columns ``type`` (call, put, underlying; C, P, U for short), ``quantity``,
            one of ``strike``, ``moneyness``, ``strike_over_spot``, ``delta``, one of ``expiry``, ``tau``, and
            optionally ``implied_vol``; see :class:`Option`. Empty cells are not given; lines may be specified
            differently.

        Raises
        ------
        InputError
            If the file cannot be read, a column is unknown or missing, or a line is wrong; the line is named.

        Examples
        --------
        >>> import pandas as pd
        >>> from volscen import Portfolio
        >>> book = Portfolio.from_table(
        ...     pd.DataFrame({"type": ["P", "C"], "delta": [-0.25, 0.25], "tau": 0.25, "quantity": [-1, 1]}))
        >>> [i.label for i in book.instruments]
        ['put delta=-0.25 91.25d', 'call delta=0.25 91.25d']
        """
        return cls(list(_lines(_records(table, quantities=True), quantities=True)))


def instruments_from_table(table: str | Path | pd.DataFrame) -> list[Instrument]:
    """Read hedging instruments from a table as for :meth:`Portfolio.from_table`; ``quantity`` is not needed.

    Examples
    --------
    >>> import pandas as pd
    >>> from volscen.portfolio import instruments_from_table
    >>> table = pd.DataFrame({"type": ["underlying", "call"], "moneyness": [None, 1.0], "tau": [None, 0.25]})
    >>> [i.label for i in instruments_from_table(table)]
    ['underlying', 'call K/F=1 91.25d']
    """
    return [instrument for instrument, _ in _lines(_records(table, quantities=False), quantities=False)]


def as_portfolio(
    portfolio: Portfolio | Instrument | Sequence[Instrument | tuple[Instrument, float]],
) -> Portfolio:
    """Return the portfolio itself, or one made of a bare list or a single instrument."""
    return portfolio if isinstance(portfolio, Portfolio) else Portfolio(portfolio)  # type: ignore[arg-type]


def _position(entry: object) -> tuple[Instrument, float]:
    if isinstance(entry, Option | Underlying):
        return entry, 1.0
    if isinstance(entry, tuple | list) and len(entry) == 2 and isinstance(entry[0], Option | Underlying):
        return entry[0], _number(f"quantity of {entry[0].label}", entry[1])
    raise InputError(f"each position must be an instrument or (instrument, quantity), not {entry!r}")


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
                return _csv_records(list(_csv_lines(csv.reader(file, strict=True))), path, quantities)
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


def _csv_records(lines: list[tuple[int, list[str]]], path: Path, quantities: bool) -> _Records:
    if not lines:
        raise InputError(f"cannot read positions from {path}: the file is empty")
    names = lines[0][1]
    _check_columns(names, len(lines) - 1, quantities)
    records = []
    for number, cells in lines[1:]:
        if len(cells) != len(names):
            raise InputError(f"line {number} of {path} has {len(cells)} cells where the header has {len(names)}")
        given = {name: cell for name, cell in zip(names, cells, strict=True) if cell.lower() not in ("", "nan", "na")}
        records.append((f"line {number} of {path}", given))
    return iter(records)


def _frame_records(frame: pd.DataFrame, what: str, quantities: bool) -> _Records:
    import pandas as pd

    _check_columns(list(frame.columns), len(frame), quantities)
    records = []
    for number, row in enumerate(frame.to_dict("records"), start=1):
        given = {str(name): value for name, value in row.items() if not pd.isna(value)}
        expiry = given.get("expiry")
        if isinstance(expiry, float) and expiry.is_integer():  # an empty cell makes floats of a column of integers
            given["expiry"] = int(expiry)
        records.append((f"line {number} of {what}", given))
    return iter(records)


def _check_columns(names: list[Any], n_lines: int, quantities: bool) -> None:
    unknown = [str(name) for name in names if name not in _COLUMNS]
    if unknown:
        raise InputError(f"unknown columns {', '.join(unknown)}; the table may have {', '.join(_COLUMNS)}")
    repeated = [name for name in _COLUMNS if names.count(name) > 1]
    if repeated:
        raise InputError(f"the table has the column {repeated[0]} twice; drop one")
    if "type" not in names:
        raise InputError("the table has no column type (call, put or underlying)")
    if quantities and "quantity" not in names:
        raise InputError("the table has no column quantity; add it, 1 for one unit, negative for short")
    if not n_lines:
        raise InputError("the table has no lines; give at least one position")


def _lines(records: _Records, *, quantities: bool) -> Iterator[tuple[Instrument, float]]:
    for line, given in records:
        try:
            if "type" not in given:
                raise InputError("type is empty; it must be call, put or underlying")
            name = given.pop("type")
            kind = _TYPES.get(str(name).strip().lower())
            if kind is None:
                raise InputError(f"type must be call, put or underlying, not {name!r}")
            if quantities and "quantity" not in given:
                raise InputError("quantity is empty; give a number, negative for short")
            quantity = _number("quantity", given.pop("quantity")) if quantities else 1.0
            given.pop("quantity", None)
            if kind != "underlying":
                yield Option(kind, **given), quantity  # type: ignore[arg-type]
            elif given:
                raise InputError(f"the underlying takes no {', '.join(given)}")
            else:
                yield Underlying(), quantity
        except InputError as error:
            raise InputError(f"{line}: {error}") from None

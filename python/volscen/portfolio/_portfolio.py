"""Portfolios of options and their underlying, and their revaluation on scenarios."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from volscen._numbers import finite_number
from volscen.errors import InputError
from volscen.portfolio._instruments import Instrument, Option
from volscen.portfolio._position_table import read_lines

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Maturity", "Portfolio", "as_portfolio", "instruments_from_table"]

_STRIKES = ("moneyness", "strike", "strike_over_spot", "delta")


#: Positions that are shown in full.
_SHOWN = 20

#: Years, a tenor or a date.
Maturity = float | str | date | np.datetime64


@dataclass(frozen=True, init=False)
class Portfolio:
    """Quantities of instruments; negative quantities are short.

    Parameters
    ----------
    positions : iterable of (instrument, quantity), or of instruments
        An instrument without a quantity counts once.
    groups : iterable of str, optional
        A label of each position, such as a desk or a strategy, by which risk may be summed.

    Raises
    ------
    InputError
        If it is empty, an entry is no instrument, a quantity is not a finite number, or groups do not fit.

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
    groups: tuple[str, ...] | None

    def __init__(
        self,
        positions: Iterable[Instrument | tuple[Instrument, float]],
        groups: Iterable[str] | None = None,
    ) -> None:
        if isinstance(positions, Instrument):
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
        labels = None if groups is None else tuple(str(group) for group in groups)
        if labels is not None and (isinstance(groups, str) or len(labels) != len(entries)):
            raise InputError(f"groups must give one label for each of the {len(entries)} positions")
        object.__setattr__(self, "groups", labels)

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """The instruments, in order."""
        return tuple(instrument for instrument, _ in self.positions)

    @property
    def quantities(self) -> tuple[float, ...]:
        """The quantities, in order."""
        return tuple(quantity for _, quantity in self.positions)

    def __repr__(self) -> str:
        lines = [f"<Portfolio of {len(self)} position{'' if len(self) == 1 else 's'}>"]
        groups = self.groups or ("",) * len(self)
        for (instrument, quantity), group in list(zip(self.positions, groups, strict=True))[:_SHOWN]:
            lines.append(f"{quantity:>14,.10g}  {instrument.label}" + (f"  [{group}]" if group else ""))
        if len(self) > _SHOWN:
            lines.append(f"{'...':>14}  {len(self) - _SHOWN:,} more")
        return "\n".join(lines)

    def __len__(self) -> int:
        return len(self.positions)

    def __add__(self, other: Portfolio) -> Portfolio:
        if not isinstance(other, Portfolio):
            return NotImplemented
        groups = None
        if self.groups is not None or other.groups is not None:
            groups = [*(self.groups or [""] * len(self)), *(other.groups or [""] * len(other))]
        return Portfolio([*self.positions, *other.positions], groups)

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
    def strangle(
        cls,
        put: float,
        call: float,
        *,
        by: str = "moneyness",
        quantity: float = 1.0,
        implied_vol: tuple[float, float] | None = None,
        **maturity: Any,
    ) -> Portfolio:
        """One put of a low strike and one call of a high one.

        Parameters
        ----------
        put, call : float
            Strikes, in the terms of ``by``.
        by : {"moneyness", "strike", "strike_over_spot", "delta"}
            What the numbers are, as for :class:`Option`.
        quantity : float
            Number of strangles.
        implied_vol : (float, float), optional
            Market volatilities of the put and the call.
        **maturity
            ``tau`` or ``expiry``.

        Examples
        --------
        >>> from volscen import Portfolio
        >>> [i.label for i in Portfolio.strangle(-0.25, 0.25, by="delta", tau=30 / 365).instruments]
        ['put delta=-0.25 30d', 'call delta=0.25 30d']
        """
        _ordered("strangle", by, put, call)
        low, high = _vols("strangle", implied_vol, 2)
        legs = [("put", put, low, quantity), ("call", call, high, quantity)]
        return cls(_legs("strangle", by, legs, maturity))

    @classmethod
    def risk_reversal(
        cls,
        put: float,
        call: float,
        *,
        by: str = "moneyness",
        quantity: float = 1.0,
        implied_vol: tuple[float, float] | None = None,
        **maturity: Any,
    ) -> Portfolio:
        """One call of a high strike bought and one put of a low strike sold; arguments as of :meth:`strangle`.

        Examples
        --------
        >>> from volscen import Portfolio
        >>> Portfolio.risk_reversal(0.9, 1.05, tau=0.25).quantities
        (1.0, -1.0)
        """
        _ordered("risk_reversal", by, put, call)
        low, high = _vols("risk_reversal", implied_vol, 2)
        legs = [("call", call, high, quantity), ("put", put, low, -_quantity("risk_reversal", quantity))]
        return cls(_legs("risk_reversal", by, legs, maturity))

    @classmethod
    def butterfly(
        cls,
        low: float,
        middle: float,
        high: float,
        *,
        by: str = "moneyness",
        option_type: Literal["call", "put"] = "call",
        quantity: float = 1.0,
        implied_vol: tuple[float, float, float] | None = None,
        **maturity: Any,
    ) -> Portfolio:
        """One option each of a low and a high strike bought, two between them sold.

        Parameters
        ----------
        low, middle, high : float
            Strikes in the terms of ``by``. By delta of calls they fall (.75, .5, .25), by delta of puts they grow in
            size.
        by, quantity, implied_vol, **maturity
            As for :meth:`strangle`.
        option_type : {"call", "put"}
            Of all three strikes.

        Examples
        --------
        >>> from volscen import Portfolio
        >>> Portfolio.butterfly(0.95, 1, 1.05, tau=0.25).quantities
        (1.0, -2.0, 1.0)
        """
        _ordered("butterfly", by, low, middle, high, option_type=option_type)
        vols, n = _vols("butterfly", implied_vol, 3), _quantity("butterfly", quantity)
        strikes = zip((low, middle, high), vols, (n, -2 * n, n), strict=True)
        return cls(_legs("butterfly", by, [(option_type, *leg) for leg in strikes], maturity))

    @classmethod
    def calendar(
        cls,
        near: Maturity,
        far: Maturity,
        *,
        option_type: Literal["call", "put"] = "call",
        quantity: float = 1.0,
        implied_vol: tuple[float, float] | None = None,
        **strike: Any,
    ) -> Portfolio:
        """One option of a far maturity bought and one of a near maturity sold.

        Parameters
        ----------
        near, far : float, str or date
            Years or tenors; or both dates, ``"2024-06-21"`` or 20240621.
        option_type : {"call", "put"}
            Of both.
        quantity : float
            Number of calendars.
        implied_vol : (float, float), optional
            Market volatilities of the near and the far option.
        **strike
            One strike of :class:`Option` for both.

        Examples
        --------
        >>> from volscen import Portfolio
        >>> [i.label for i in Portfolio.calendar(30 / 365, 0.5, moneyness=1).instruments]
        ['call K/F=1 182.5d', 'call K/F=1 30d']
        """
        first, second = _maturity("near", near), _maturity("far", far)
        vols, n = _vols("calendar", implied_vol, 2), _quantity("calendar", quantity)
        legs = []
        for maturity, vol, units in ((second, vols[1], n), (first, vols[0], -n)):
            try:
                legs.append((Option(option_type, implied_vol=vol, **maturity, **strike), units))
            except TypeError as error:
                raise InputError(f"calendar: {error}") from None
        if first.keys() == second.keys() and not _when(legs[1][0]) < _when(legs[0][0]):
            raise InputError(f"near must come before far: {near!r} is not before {far!r}")
        return cls(legs)

    @classmethod
    def from_table(cls, table: str | Path | pd.DataFrame) -> Portfolio:
        """Read positions from a CSV or Parquet file, or a data frame.

        Parameters
        ----------
        table : path or pandas.DataFrame
            One line a position. Columns ``type`` (call, put, underlying, forward, or C, P, U, F for short; cash,
            variance_swap, vix, vix_call, vix_put), ``quantity``, one of ``strike``, ``moneyness``,
            ``strike_over_spot``, ``delta``, one of ``expiry``, ``tau``, and optionally ``implied_vol`` and ``group``;
            for variance swaps ``strike_vol``, ``accrued_variance`` and ``elapsed_years``. See :class:`Option`,
            :class:`Forward`, :class:`VarianceSwap`, :class:`VixPayoff`. Empty cells are not given; lines may be
            specified differently. In place of type, strike and expiry a column ``contract`` may say
            "SPX 20DEC24 5800 C", an OSI symbol, or the underlying by its name. ``quantity`` counts units of the
            underlying, or contracts where a column ``multiplier`` says how many units one is of. Names of columns count
            without case; a CSV file may have semicolons, and then decimal commas.

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
        lines = list(read_lines(table, quantities=True))
        groups = [group for _, _, group in lines]
        return cls([(instrument, n) for instrument, n, _ in lines], groups if any(groups) else None)


def instruments_from_table(table: str | Path | pd.DataFrame) -> list[Instrument]:
    """Read hedging instruments from a table as for :meth:`Portfolio.from_table`, without ``quantity`` and ``group``.

    Raises
    ------
    InputError
        As :meth:`Portfolio.from_table`, and if the table has one of those columns, which a hedge would pass over.

    Examples
    --------
    >>> import pandas as pd
    >>> from volscen.portfolio import instruments_from_table
    >>> table = pd.DataFrame({"type": ["underlying", "call"], "moneyness": [None, 1.0], "tau": [None, 0.25]})
    >>> [i.label for i in instruments_from_table(table)]
    ['underlying', 'call K/F=1 91.25d']
    """
    return [instrument for instrument, _, _ in read_lines(table, quantities=False)]


def as_portfolio(
    portfolio: Portfolio | Instrument | Sequence[Instrument | tuple[Instrument, float]],
) -> Portfolio:
    """Return the portfolio itself, or one made of a bare list or a single instrument."""
    return portfolio if isinstance(portfolio, Portfolio) else Portfolio(portfolio)  # type: ignore[arg-type]


def _position(entry: object) -> tuple[Instrument, float]:
    if isinstance(entry, Instrument):
        return entry, 1.0
    if isinstance(entry, tuple | list) and len(entry) == 2 and isinstance(entry[0], Instrument):
        return entry[0], finite_number(f"quantity of {entry[0].label}", entry[1])
    raise InputError(f"each position must be an instrument or (instrument, quantity), not {entry!r}")


def _quantity(what: str, quantity: float) -> float:
    return finite_number(f"quantity of the {what}", quantity)


def _legs(
    what: str, by: str, legs: list[tuple[Any, float, float | None, float]], maturity: dict[str, Any]
) -> list[tuple[Instrument, float]]:
    positions: list[tuple[Instrument, float]] = []
    for kind, strike, vol, quantity in legs:
        contract: dict[str, Any] = {by: strike, "implied_vol": vol, **maturity}
        try:
            positions.append((Option(kind, **contract), quantity))
        except TypeError as error:
            raise InputError(f"{what}: {error}") from None
    return positions


def _vols(what: str, implied_vol: Sequence[float] | None, n: int) -> Sequence[float | None]:
    if implied_vol is None:
        return [None] * n
    if np.ndim(implied_vol) != 1 or len(implied_vol) != n:
        raise InputError(f"implied_vol of a {what} must give {n} volatilities, in the order of its strikes")
    return implied_vol


def _ordered(what: str, by: str, *strikes: float, option_type: str | None = None) -> None:
    if by not in _STRIKES:
        raise InputError(f"by must be one of {', '.join(_STRIKES)}, not {by!r}")
    values = np.array([finite_number(f"a strike of the {what}", strike) for strike in strikes])
    if by == "delta":
        if option_type is None:  # a put and a call: any two deltas whose strikes do not cross
            values = np.array([abs(values[0]), 1 - values[1]])
        else:
            values = np.abs(values) if option_type == "put" else -values
    if not np.all(np.diff(values) > 0):
        raise InputError(f"the strikes of a {what} must rise from the first to the last, not {strikes}")


def _maturity(name: str, value: Maturity) -> dict[str, Any]:
    """``tau`` or ``expiry``, by what the value is: dates as numbers are of eight digits."""
    if isinstance(value, str):
        text = value.strip()
        return {"expiry" if "-" in text or (text.isdigit() and len(text) == 8) else "tau": value}
    if isinstance(value, date | np.datetime64):
        return {"expiry": value}
    return {"expiry": value} if finite_number(name, value) >= 1e7 else {"tau": value}


def _when(option: Option) -> Any:
    return option.tau if option.tau is not None else option.expiry

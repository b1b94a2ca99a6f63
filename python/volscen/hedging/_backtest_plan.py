"""What a hedging backtest is told: the position that is rolled, the arms that hedge it, what trading costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from volscen._numbers import finite_number
from volscen.errors import InputError
from volscen.hedging._arguments import METHOD_OPTIONS
from volscen.hedging._backtest_market import MarketDay, Valuation, key_of
from volscen.portfolio._instruments import Instrument, Option
from volscen.portfolio._portfolio import Portfolio, as_portfolio

__all__ = ["Costs", "HedgeArm", "HedgeInstruments", "OpenPosition", "RolledPosition", "described"]

FloatArray = npt.NDArray[np.float64]

#: Arguments of :func:`volscen.hedge` that an arm may set.
ARM_OPTIONS = (*METHOD_OPTIONS, "lower", "upper", "lot_size")


@dataclass(frozen=True)
class Costs:
    """What trading one unit costs, paid on every change of what is held, at opening and at closing.

    Parameters
    ----------
    half_spread_vol : float
        Half the bid-ask spread of an option in units of volatility (.002 is .2 vol points), times its vega.
    minimum : float
        Least half-spread of an option, in currency per unit.
    underlying : float
        Cost of trading the underlying, as a share of its price.

    Examples
    --------
    >>> from volscen.hedging import Costs
    >>> Costs(half_spread_vol=0.002, underlying=1e-4)
    Costs(half_spread_vol=0.002, minimum=0.0, underlying=0.0001)
    """

    half_spread_vol: float = 0.002
    minimum: float = 0.0
    underlying: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("half_spread_vol", "minimum", "underlying"):
            value = finite_number(name, getattr(self, name))
            if value < 0:
                raise InputError(f"{name} must not be negative, not {value!r}")
            object.__setattr__(self, name, value)

    def of(self, instruments: Sequence[Instrument], values: Valuation) -> FloatArray:
        """Cost of trading one unit of each instrument, in currency; shape (n,)."""
        option = np.array([isinstance(i, Option) for i in instruments], dtype=bool)
        spread = np.maximum(self.half_spread_vol * values.vega, self.minimum)
        return np.where(option, spread, self.underlying * values.value)


@dataclass(frozen=True)
class OpenPosition:
    """A position as opened: what rules that choose its hedging instruments are told.

    Attributes
    ----------
    portfolio : Portfolio
        Its fixed contracts: absolute strikes, expiry dates.
    opened : numpy.datetime64
        Date of opening.
    spot : float
        Price of the underlying on that date.
    """

    portfolio: Portfolio
    opened: np.datetime64
    spot: float

    @property
    def expiry(self) -> np.datetime64:
        """First expiry among its options."""
        return min(key[0] for key in map(key_of, self.portfolio.instruments) if key is not None)


#: Opens a position on an evening; None waits for the next.
PortfolioRule = Callable[[MarketDay], Portfolio | None]
#: Chooses instruments on an evening, for a position.
InstrumentRule = Callable[[MarketDay, OpenPosition], Sequence[Instrument]]


@dataclass(frozen=True)
class RolledPosition:
    """A portfolio that is opened, held, closed and opened anew, without overlap.

    Parameters
    ----------
    portfolio : Portfolio, or callable
        Fixed to contracts at each opening: strikes by ``moneyness`` or ``strike_over_spot`` and maturities by
        ``tau`` refer to the evening of opening. On real contracts the nearest expiry and strike are taken. A
        callable is given the :class:`MarketDay` of the evening and returns a portfolio, or None to wait.
    until_days : int
        Closed, and opened anew, on the first date with at most so many calendar days to its first expiry; with 0 it
        is held to expiry.

    Examples
    --------
    >>> from volscen import Portfolio
    >>> from volscen.hedging import RolledPosition
    >>> RolledPosition(Portfolio.straddle(strike_over_spot=1.0, tau=91 / 365), until_days=60).until_days
    60
    """

    portfolio: Portfolio | PortfolioRule
    until_days: int = 0

    def __post_init__(self) -> None:
        if (
            isinstance(self.until_days, bool)
            or not isinstance(self.until_days, (int, np.integer))
            or self.until_days < 0
        ):
            raise InputError(f"until_days must be a non-negative integer, not {self.until_days!r}")
        if not callable(self.portfolio):
            object.__setattr__(self, "portfolio", as_portfolio(self.portfolio))

    def open(self, day: MarketDay) -> OpenPosition | None:
        """Open it on an evening; None where its rule waits, or it would be closed at once."""
        chosen = self.portfolio(day) if callable(self.portfolio) else self.portfolio
        if chosen is None:
            return None
        named = as_portfolio(chosen)
        fixed = [day.fix([instrument]) for instrument in named.instruments]
        if not all(fixed):
            return None  # nothing of the kind can be had this evening
        book = Portfolio([(one[0], quantity) for one, quantity in zip(fixed, named.quantities, strict=True)])
        if not any(isinstance(i, Option) for i in book.instruments):
            raise InputError("the position holds no option, so that nothing says when it is rolled")
        position = OpenPosition(book, day.as_of, day.spot)
        return position if self.remaining(position, day.as_of) > self.until_days else None

    @staticmethod
    def remaining(position: OpenPosition, date: np.datetime64) -> int:
        """Calendar days to the first expiry."""
        return int((position.expiry - date).astype(int))


@dataclass(frozen=True)
class HedgeInstruments:
    """Instruments that an arm may trade.

    Parameters
    ----------
    instruments : sequence of Option or Underlying, or callable
        As for :class:`RolledPosition`; a callable is given the :class:`MarketDay` and the :class:`OpenPosition`.
    renew : {"position", "day"}
        Fixed to contracts when the position is opened, and held; or chosen anew every evening.
    exclude_held : bool
        Leave out options of a strike and expiry that the position holds: put-call parity would hedge it with
        itself.

    Examples
    --------
    >>> from volscen import Option, Underlying
    >>> from volscen.hedging import HedgeInstruments
    >>> HedgeInstruments([Underlying(), Option("call", strike_over_spot=1.0, tau=61 / 365)]).renew
    'position'
    """

    instruments: Sequence[Instrument] | InstrumentRule
    renew: Literal["position", "day"] = "position"
    exclude_held: bool = True

    def __post_init__(self) -> None:
        if self.renew not in ("position", "day"):
            raise InputError(f"renew must be 'position' or 'day', not {self.renew!r}")
        if not callable(self.instruments):
            if isinstance(self.instruments, str) or not isinstance(self.instruments, Sequence) or not self.instruments:
                raise InputError("instruments must be a list of volscen.Option and volscen.Underlying, or a callable")
            object.__setattr__(self, "instruments", tuple(self.instruments))

    def choose(self, day: MarketDay, position: OpenPosition) -> list[Instrument]:
        """Contracts of an evening, each once."""
        named = self.instruments(day, position) if callable(self.instruments) else self.instruments
        if isinstance(named, str) or not isinstance(named, Sequence):
            raise InputError(f"the rule of instruments must return a list of them on {day.as_of}, not {named!r}")
        held = {_pair(i) for i in position.portfolio.instruments if isinstance(i, Option)}
        out: dict[Any, Instrument] = {}
        for instrument in day.fix(list(named)):
            if isinstance(instrument, Option) and self.exclude_held and _pair(instrument) in held:
                continue
            out.setdefault(instrument, instrument)
        return list(out)


def described(rule: Any) -> str:
    """Text of a rule that is the same in every process: callables by their names."""
    if callable(rule):
        return f"{getattr(rule, '__module__', '')}.{getattr(rule, '__qualname__', type(rule).__qualname__)}"
    parts = [
        f"{f.name}={described(value) if callable(value) else value!r}"
        for f in fields(rule)
        for value in [getattr(rule, f.name)]
    ]
    return f"{type(rule).__name__}({', '.join(parts)})"


def _pair(option: Option) -> tuple[Any, Any]:
    return option.expiry, option.strike


@dataclass(frozen=True)
class HedgeArm:
    """One way to hedge: a method, the scenarios it sees, the instruments it may trade.

    Parameters
    ----------
    method : str
        As for :func:`volscen.hedge`, or ``"none"`` for no hedge.
    generator : str or sequence of str, optional
        Label of the generator whose scenarios it sees, or of several whose scenarios are pooled, equal in mass; the
        first when omitted, which methods that look at no scenario do not notice.
    instruments : str, optional
        Label of the instruments; the first when omitted.
    options : mapping
        Further arguments of :func:`volscen.hedge`.
    select : str, optional
        Method that chooses among the instruments when the position is opened (``"lasso"`` in Vuletic and Cont,
        2024); ``method`` then trades those it selected, every day.
    select_options : mapping
        Arguments of :func:`volscen.hedge` for that choice.
    weighted : bool
        Use the arbitrage weights of the scenarios; equal weights when False.
    cost_aware : bool
        Tell the method what is held (``current``) and what trading costs (``half_spread``).

    Examples
    --------
    >>> from volscen.hedging import HedgeArm
    >>> HedgeArm("regression", select="lasso", select_options={"alpha": "grid"}).weighted
    False
    """

    method: str
    generator: str | Sequence[str] | None = None
    instruments: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    select: str | None = None
    select_options: Mapping[str, Any] = field(default_factory=dict)
    weighted: bool = False
    cost_aware: bool = False

    def __post_init__(self) -> None:
        if self.generator is not None and not self.generators:
            raise InputError("generator must be a label or several, not empty")
        if self.select == "none":
            raise InputError("select='none' chooses nothing; leave it out")
        for options in (self.options, self.select_options):
            unknown = sorted(set(options) - set(ARM_OPTIONS))
            if unknown:
                raise InputError(
                    f"options may hold {', '.join(ARM_OPTIONS)}, not {', '.join(unknown)}; cost_aware=True gives "
                    "what is held and what trading costs"
                )

    @property
    def generators(self) -> tuple[str, ...]:
        """Labels of its generators; empty for the first of the backtest."""
        if self.generator is None:
            return ()
        return (self.generator,) if isinstance(self.generator, str) else tuple(self.generator)

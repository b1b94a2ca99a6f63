"""Instruments as a user names them: options by strike, moneyness or delta, by expiry or tenor; the index and others."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from datetime import date
from typing import Any, Literal

import numpy as np

from volscen._dates import to_day
from volscen._numbers import finite_number, positive_number
from volscen._tenors import to_years
from volscen.errors import InputError

__all__ = ["Cash", "Forward", "Instrument", "Option", "Underlying", "VarianceSwap", "VixPayoff"]

_STRIKES = ("strike", "moneyness", "strike_over_spot", "delta")
_SYMBOLS = {"strike": "K", "moneyness": "K/F", "strike_over_spot": "K/S", "delta": "delta"}
_MATURITIES = ("expiry", "tau")


@dataclass(frozen=True)
class Underlying:
    """One unit of the underlying: worth its spot price, delta 1, vega 0.

    Examples
    --------
    >>> import volscen
    >>> volscen.Underlying().label
    'underlying'
    """

    @property
    def label(self) -> str:
        """Name in tables."""
        return "underlying"


@dataclass(frozen=True)
class Option:
    """A European option on one unit of the underlying.

    Parameters
    ----------
    option_type : {"call", "put"}
        Right to buy or to sell.
    strike : float
        Absolute strike, in the currency of the spot.
    moneyness : float
        Strike over today's forward for the option's maturity, K/F.
    strike_over_spot : float
        Strike over today's spot, K/S.
    delta : float
        Undiscounted forward delta, N(d1) for a call and -N(-d1) for a put, between 0 and 1 in size. A put's
        may be given as -.25 or .25, meaning the same; a call's is positive. The strike is solved for on
        today's surface, or at ``implied_vol`` when that is given.
    expiry : datetime.date, numpy.datetime64, str or int
        Calendar date on which the option settles: "2020-06-19" or 20200619, without a time zone.
    tau : float or str
        Time to expiry in years of 365 calendar days, or a tenor such as "3M" (a quarter of a year), which is kept as
        years.
    implied_vol : float, optional
        The contract's own market volatility today; read off the surface when omitted.

    Raises
    ------
    InputError
        Unless exactly one strike and one maturity are given, all numbers positive and finite.

    Examples
    --------
    >>> import volscen
    >>> volscen.Option("put", moneyness=0.95, tau=91 / 365).label
    'put K/F=0.95 91d'
    >>> volscen.Option("put", delta=-0.25, tau="6M").label
    'put delta=-0.25 182.5d'
    >>> volscen.Option("call", strike=3000, expiry="2020-06-19", implied_vol=0.31).label
    'call K=3000 2020-06-19'
    """

    option_type: Literal["call", "put"]
    _: KW_ONLY
    strike: float | None = None
    moneyness: float | None = None
    strike_over_spot: float | None = None
    delta: float | None = None
    expiry: date | np.datetime64 | str | int | None = None
    tau: float | str | None = None  # a float once made
    implied_vol: float | None = None

    def __post_init__(self) -> None:
        if self.option_type not in ("call", "put"):
            raise InputError(f"option_type must be 'call' or 'put', not {self.option_type!r}")
        _exactly_one(self, "an option", _STRIKES)
        _exactly_one(self, "an option", _MATURITIES)
        _set_positive(self, "strike", "moneyness", "strike_over_spot", "tau", "implied_vol")
        if self.delta is not None:
            delta = finite_number("delta", self.delta)
            if not 0 < abs(delta) < 1 or (delta < 0 and self.option_type == "call"):
                raise InputError(f"delta of a {self.option_type} must lie between 0 and 1 in size, not {self.delta!r}")
            object.__setattr__(self, "delta", abs(delta) if self.option_type == "call" else -abs(delta))
        _set_expiry(self)

    @property
    def is_call(self) -> bool:
        """Whether it is a call."""
        return self.option_type == "call"

    @property
    def label(self) -> str:
        """Name in tables, as specified."""
        name = _given_of(self, _STRIKES)
        return f"{self.option_type} {_SYMBOLS[name]}={getattr(self, name):.6g} {_when(self)}"


@dataclass(frozen=True)
class Forward:
    """A contract to buy one unit of the underlying at a fixed price.

    Parameters
    ----------
    strike, moneyness, strike_over_spot : float
        The price agreed, exactly one of the three: absolute, over today's forward, or over today's spot.
    expiry, tau
        When it is delivered, as for :class:`Option`.

    Raises
    ------
    InputError
        Unless exactly one strike and one maturity are given, all numbers positive and finite.

    Notes
    -----
    Worth D(t) (F(t) - K); at delivery S - K.

    Examples
    --------
    >>> import volscen
    >>> volscen.Forward(moneyness=1, tau=0.25).label
    'forward K/F=1 91.25d'
    """

    _: KW_ONLY
    strike: float | None = None
    moneyness: float | None = None
    strike_over_spot: float | None = None
    expiry: date | np.datetime64 | str | int | None = None
    tau: float | str | None = None  # a float once made

    def __post_init__(self) -> None:
        _exactly_one(self, "a forward", _STRIKES[:3])
        _exactly_one(self, "a forward", _MATURITIES)
        _set_positive(self, "strike", "moneyness", "strike_over_spot", "tau")
        _set_expiry(self)

    @property
    def label(self) -> str:
        """Name in tables, as specified."""
        name = _given_of(self, _STRIKES[:3])
        return f"forward {_SYMBOLS[name]}={getattr(self, name):.6g} {_when(self)}"


@dataclass(frozen=True)
class Cash:
    """One unit of currency on account today; it earns the forward rates of the starting curve.

    Examples
    --------
    >>> import volscen
    >>> volscen.Cash().label
    'cash'
    """

    @property
    def label(self) -> str:
        """Name in tables."""
        return "cash"


@dataclass(frozen=True)
class VarianceSwap:
    """Pays realised variance less the square of a strike, one unit of currency per 1.00 of variance.

    Parameters
    ----------
    expiry, tau
        When it settles, as for :class:`Option`; exactly one.
    strike_vol : float, optional
        Strike as a volatility in decimals, 0.2 for 20%; the fair one today when omitted, which makes the swap
        worth nothing at the start.
    accrued_variance : float
        Annualised variance realised so far: sum of squared log returns since inception over ``elapsed_years``.
    elapsed_years : float
        Years (of 365 days) since inception; 0 for a swap that starts today.
    implied_vol : float, optional
        The contract's own fair volatility today for the time that remains; the surface's when omitted.

    Raises
    ------
    InputError
        If no maturity or two are given, a number is out of range, or variance has accrued in no time.

    Notes
    -----
    With T the whole term, t what remains and R the sum of squared returns so far, worth
    D(t) [(R + sigma_fair(t)^2 t) / T - K^2]. Realised variance is annualised by calendar time (365 days) and takes
    means as zero. The fair variance is that of the log-contract strip on the surface, with flat volatility beyond its
    moneyness grid (Demeterfi, Derman, Kamal and Zou 1999). A vega notional N per vol point is a
    quantity of 100 N / (2 K).

    Examples
    --------
    >>> import volscen
    >>> volscen.VarianceSwap(tau=0.25, strike_vol=0.2).label
    'variance swap K=0.2 91.25d'
    """

    _: KW_ONLY
    expiry: date | np.datetime64 | str | int | None = None
    tau: float | str | None = None  # a float once made
    strike_vol: float | None = None
    accrued_variance: float = 0.0
    elapsed_years: float = 0.0
    implied_vol: float | None = None

    def __post_init__(self) -> None:
        _exactly_one(self, "a variance swap", _MATURITIES)
        _set_positive(self, "tau", "strike_vol", "implied_vol")
        _set_expiry(self)
        for name in ("accrued_variance", "elapsed_years"):
            value = finite_number(name, getattr(self, name))
            if value < 0:
                raise InputError(f"{name} must not be negative, not {value!r}")
            object.__setattr__(self, name, value)
        if self.accrued_variance > 0 and self.elapsed_years == 0:
            raise InputError("accrued_variance needs elapsed_years, the time since inception in which it accrued")

    @property
    def label(self) -> str:
        """Name in tables, as specified."""
        strike = "fair" if self.strike_vol is None else f"{self.strike_vol:.6g}"
        return f"variance swap K={strike} {_when(self)}"


@dataclass(frozen=True)
class VixPayoff:
    """A payoff on the volatility index of the surface, settled at its level on each date: index, call or put.

    Parameters
    ----------
    option_type : {"index", "call", "put"}
        ``"index"`` is worth the index itself, in points (100 x volatility); ``"call"`` and ``"put"`` what they would
        pay if they settled on that date. Neither is a price of a future or an option that settles later.
    strike : float, optional
        In points; for a call or put.

    Raises
    ------
    InputError
        If ``option_type`` is none of the three, or the strike does not fit it.

    Examples
    --------
    >>> import volscen
    >>> volscen.VixPayoff("call", strike=25).label
    'vix call K=25'
    """

    option_type: Literal["index", "call", "put"] = "index"
    _: KW_ONLY
    strike: float | None = None

    def __post_init__(self) -> None:
        if self.option_type not in ("index", "call", "put"):
            raise InputError(f"option_type must be 'index', 'call' or 'put', not {self.option_type!r}")
        if (self.strike is None) != (self.option_type == "index"):
            raise InputError("a payoff on the volatility index needs strike for a call or put, and none for the index")
        _set_positive(self, "strike")

    @property
    def label(self) -> str:
        """Name in tables."""
        return "vix" if self.strike is None else f"vix {self.option_type} K={self.strike:.6g}"


Instrument = Option | Underlying | Forward | Cash | VarianceSwap | VixPayoff


def _exactly_one(instrument: object, what: str, names: tuple[str, ...]) -> None:
    given = [name for name in names if getattr(instrument, name) is not None]
    if len(given) != 1:
        raise InputError(f"{what} needs exactly one of {', '.join(names)}; given: {', '.join(given) or 'none'}")


def _given_of(instrument: object, names: tuple[str, ...]) -> str:
    return next(name for name in names if getattr(instrument, name) is not None)


def _set_positive(instrument: object, *names: str) -> None:
    for name in names:
        value = getattr(instrument, name)
        if value is not None:
            number = positive_number(name, years(name, value) if name == "tau" else value)
            if not isinstance(value, str):  # a tenor bears its unit
                _check_unit(name, number)
            object.__setattr__(instrument, name, number)


def _check_unit(name: str, number: float) -> None:
    """Refuse percent and days, whose options are worth nothing, or nothing but intrinsic value, without a word."""
    if name in ("moneyness", "strike_over_spot") and number > 20:
        of = "forward" if name == "moneyness" else "spot"
        raise InputError(f"{name} is the strike over the {of}, 1 at the money, not {number:g}; a price is a strike")
    if name == "tau" and number >= 20:
        raise InputError(
            f"tau is in years, and {number:g} look like days: give {number / 365:.4g}, or a tenor: '{number:g}D', "
            f"'{number:g}Y'"
        )
    if name in ("implied_vol", "strike_vol") and number > 7:
        raise InputError(f"{name} is a decimal, and {number:g} is {100 * number:g}%: give {number / 100:.4g}")


def _set_expiry(instrument: Option | Forward | VarianceSwap) -> None:
    if instrument.expiry is not None:
        object.__setattr__(instrument, "expiry", to_day(instrument.expiry, "expiry"))


def _when(instrument: Option | Forward | VarianceSwap) -> str:
    return f"{instrument.tau * 365:.6g}d" if instrument.tau is not None else str(instrument.expiry)


def years(name: str, value: Any) -> Any:
    """Replace a tenor such as "3M" by years; numbers, also written out as in files, stay as they are."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return to_years(name, value)
    return value

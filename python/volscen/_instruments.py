"""Instruments as a user names them: options by strike, moneyness or delta, by expiry or tenor; the index."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, fields
from datetime import date
from typing import Literal

import numpy as np

from volscen._dates import to_day
from volscen.errors import InputError

__all__ = ["Instrument", "Option", "Underlying"]

_STRIKES = ("strike", "moneyness", "strike_over_spot", "delta")
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
    tau : float
        Time to expiry in years of 365 calendar days.
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
    tau: float | None = None
    implied_vol: float | None = None

    def __post_init__(self) -> None:
        if self.option_type not in ("call", "put"):
            raise InputError(f"option_type must be 'call' or 'put', not {self.option_type!r}")
        self._exactly_one(_STRIKES)
        self._exactly_one(_MATURITIES)
        for name in ("strike", "moneyness", "strike_over_spot", "tau", "implied_vol"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _positive(name, value))
        if self.delta is not None:
            delta = _number("delta", self.delta)
            if not 0 < abs(delta) < 1 or (delta < 0 and self.option_type == "call"):
                raise InputError(f"delta of a {self.option_type} must lie between 0 and 1 in size, not {self.delta!r}")
            object.__setattr__(self, "delta", abs(delta) if self.option_type == "call" else -abs(delta))
        if self.expiry is not None:
            object.__setattr__(self, "expiry", to_day(self.expiry, "expiry"))

    def _exactly_one(self, names: tuple[str, ...]) -> None:
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            raise InputError(f"an option needs exactly one of {', '.join(names)}; given: {', '.join(given) or 'none'}")

    @property
    def is_call(self) -> bool:
        """Whether it is a call."""
        return self.option_type == "call"

    @property
    def label(self) -> str:
        """Name in tables, as specified."""
        symbols = {"strike": "K", "moneyness": "K/F", "strike_over_spot": "K/S", "delta": "delta"}
        name = next(name for name in _STRIKES if getattr(self, name) is not None)
        when = f"{self.tau * 365:.6g}d" if self.tau is not None else str(self.expiry)
        return f"{self.option_type} {symbols[name]}={getattr(self, name):.6g} {when}"


Instrument = Option | Underlying

OPTION_FIELDS = tuple(f.name for f in fields(Option))


def _number(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a number, not {value!r}") from None
    if not math.isfinite(number):
        raise InputError(f"{name} must be finite, not {value!r}")
    return number


def _positive(name: str, value: object) -> float:
    number = _number(name, value)
    if number <= 0:
        raise InputError(f"{name} must be positive, not {value!r}")
    return number

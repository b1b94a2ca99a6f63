"""Markets that hedges are tested on: contracts priced off surfaces, or real contracts' closing prices.

A :class:`MarketDay` is all that an evening knows. Rules that choose contracts are given one, and nothing later.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import black
from volscen._dates import to_day
from volscen.errors import InputError
from volscen.history import state_at
from volscen.portfolio._contracts import DAYS_PER_YEAR, Contracts, StartingState
from volscen.portfolio._instruments import Instrument, Option, Underlying
from volscen.portfolio._revalue import VOL_FLOOR
from volscen.surface._interpolate import interpolate_vol

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Key", "MarketDay", "QuoteDay", "QuoteTape", "SurfaceDay", "Valuation", "VolFunction", "key_of"]

FloatArray = npt.NDArray[np.float64]
Day = np.datetime64

#: ``f(date, tau, moneyness)``: volatility of contracts at the close of a date, arrays of one length.
VolFunction = Callable[[np.datetime64, FloatArray, FloatArray], npt.ArrayLike]

#: A contract: expiry, strike, is_call. None is the underlying.
OptionKey = tuple[Any, float, bool]
Key = OptionKey | None


def key_of(instrument: Instrument) -> Key:
    """Identity of a fixed contract."""
    if isinstance(instrument, Underlying):
        return None
    if not isinstance(instrument, Option):
        raise InputError(f"a backtest takes volscen.Option and volscen.Underlying, not {instrument!r}")
    if instrument.expiry is None or instrument.strike is None:
        raise InputError(f"{instrument.label} is not fixed: it needs a strike and an expiry")
    return to_day(instrument.expiry, "expiry"), float(instrument.strike), instrument.is_call


@dataclass(frozen=True)
class Valuation:
    """Contracts at one close: value and vega per 1.00 of volatility in currency, delta, volatility; shape (n,)."""

    value: FloatArray
    delta: FloatArray
    vega: FloatArray
    implied_vol: FloatArray


class MarketDay(ABC):
    """One evening of a market, and nothing later.

    Attributes
    ----------
    as_of : numpy.datetime64
        The date.
    spot : float
        Price of the underlying.
    """

    def __init__(self, start: StartingState, extrapolation: str) -> None:
        if start.as_of is None:
            raise InputError("a market day needs its date")
        self.as_of: np.datetime64 = start.as_of
        self.spot = start.spot
        self._start = start
        self._extrapolation = extrapolation

    @property
    def expiries(self) -> npt.NDArray[np.datetime64]:
        """Expiries with quotes, ascending; empty where every contract can be had."""
        return np.array([], dtype="datetime64[D]")

    def strikes(self, expiry: np.datetime64) -> FloatArray:
        """Strikes of an expiry with quotes, ascending; empty where every contract can be had."""
        return np.array([])

    def growth(self, days: int) -> float:
        """What one unit of cash becomes in so many calendar days, at the curve of this evening."""
        return self._start.growth(0.0, days / DAYS_PER_YEAR)

    @abstractmethod
    def fix(self, instruments: Sequence[Instrument]) -> list[Instrument]:
        """Fix options to an absolute strike and an expiry date, those that can be had nearest to what was named."""

    @abstractmethod
    def value(self, instruments: Sequence[Instrument]) -> Valuation:
        """Value fixed contracts; one that has expired is worth its payoff at the spot of this date."""

    def _named(self, instruments: Sequence[Instrument]) -> list[Instrument]:
        """Absolute strikes and expiry dates of what was named relative to this evening."""
        contracts = Contracts.of(instruments, self._start, extrapolation=self._extrapolation)
        out: list[Instrument] = []
        for i, instrument in enumerate(instruments):
            if isinstance(instrument, Underlying):
                out.append(instrument)
                continue
            if not isinstance(instrument, Option):
                raise InputError(f"a backtest takes volscen.Option and volscen.Underlying, not {instrument!r}")
            days = max(round(float(contracts.tau[i]) * DAYS_PER_YEAR), 1)
            expiry = self.as_of + np.timedelta64(days, "D")
            out.append(Option(instrument.option_type, strike=float(contracts.strike[i]), expiry=expiry))
        return out

    def _valuation(self, instruments: Sequence[Instrument], vol: FloatArray, price: FloatArray) -> Valuation:
        """Greeks at given volatilities; prices too, where none are given (NaN)."""
        keys = [key_of(i) for i in instruments]
        n = len(keys)
        option = np.array([k is not None for k in keys], dtype=bool)
        value, delta, vega = np.full(n, self.spot), np.ones(n), np.zeros(n)
        strike = np.array([k[1] for k in keys if k is not None])
        is_call = np.array([k[2] for k in keys if k is not None], dtype=bool)
        tau = self._years([k[0] for k in keys if k is not None])
        live = tau > 0
        payoff = np.maximum(np.where(is_call, self.spot - strike, strike - self.spot), 0.0)
        t = np.where(live, tau, 1.0)
        carry, discount = self._start.carry(t), self._start.discount_factor(t)
        # An expired contract is cash; its volatility means nothing.
        sigma = np.where(live, vol[option], 1.0)
        arguments = (self.spot * carry, strike, t, sigma)
        if strike.size:
            own = np.where(np.isnan(price[option]), black.price(*arguments, is_call, discount), price[option])
            value[option] = np.where(live, own, payoff)
            delta[option] = np.where(live, carry * black.delta(*arguments, is_call, discount), 0.0)
            vega[option] = np.where(live, black.vega(*arguments, discount_factor=discount), 0.0)
        return Valuation(value, delta, vega, vol)

    def _years(self, expiry: Sequence[np.datetime64]) -> FloatArray:
        days = np.array([(e - self.as_of).astype(int) for e in expiry], dtype=np.float64)
        return days / DAYS_PER_YEAR


class SurfaceDay(MarketDay):
    """An evening on which every contract can be had at the volatility of the surface."""

    def __init__(
        self, history: xr.Dataset, date: np.datetime64, extrapolation: str, vol: VolFunction | None = None
    ) -> None:
        super().__init__(starting_state(history, date), extrapolation)
        self._vol = vol

    def fix(self, instruments: Sequence[Instrument]) -> list[Instrument]:
        """Fix options to the strike and the date named."""
        return self._named(instruments)

    def value(self, instruments: Sequence[Instrument]) -> Valuation:
        """Value fixed contracts off the surface."""
        keys = [key_of(i) for i in instruments]
        vol = np.full(len(keys), np.nan)
        options = [(i, k) for i, k in enumerate(keys) if k is not None and k[0] > self.as_of]
        if options:
            where = np.array([i for i, _ in options])
            tau = self._years([k[0] for _, k in options])
            strike = np.array([k[1] for _, k in options])
            moneyness = strike / (self.spot * self._start.carry(tau))
            vol[where] = np.maximum(self._surface(tau, moneyness), VOL_FLOOR)
        return self._valuation(instruments, vol, np.full(len(keys), np.nan))

    def _surface(self, tau: FloatArray, moneyness: FloatArray) -> FloatArray:
        start = self._start
        if self._vol is None:
            return np.asarray(
                interpolate_vol(
                    start.implied_vol, start.tau, start.moneyness, tau, moneyness, extrapolation=self._extrapolation
                )
            )
        vol = np.asarray(self._vol(self.as_of, tau, moneyness), dtype=np.float64)
        if vol.shape != tau.shape or not np.isfinite(vol).all():
            raise InputError(
                f"market must return one finite volatility for each of the {tau.size} contracts of {self.as_of}, not "
                f"{'shape ' + str(vol.shape) if vol.shape != tau.shape else 'NaN or infinity'}"
            )
        return vol


class QuoteDay(MarketDay):
    """An evening of real contracts; ``quotes`` is the day's table, ``followed`` what the next date quotes too."""

    def __init__(
        self,
        history: xr.Dataset,
        date: np.datetime64,
        extrapolation: str,
        quotes: pd.DataFrame,
        followed: set[Key] | None = None,
    ) -> None:
        super().__init__(starting_state(history, date), extrapolation)
        self._quotes, self._followed = quotes, followed

    @cached_property
    def closes(self) -> dict[Key, float]:
        """Closing price of every contract quoted, adjusted ones left out."""
        return dict(zip(quote_keys(self._quotes), self._quotes["price"].to_numpy(np.float64).tolist(), strict=True))

    @cached_property
    def _vols(self) -> dict[tuple[np.datetime64, float], float]:
        """Volatility of each expiry and strike, of its out-of-the-money side; without it a contract has no greeks."""
        from volscen.chain import Chain

        used = Chain(self._quotes, self.as_of).quotes
        expiry = used["expiry"].to_numpy().astype("datetime64[D]")
        columns = expiry, used["strike"].to_numpy(np.float64), used["implied_vol"].to_numpy(np.float64)
        return {(e, float(k)): float(v) for e, k, v in zip(*columns, strict=True)}

    @cached_property
    def _strikes(self) -> dict[np.datetime64, FloatArray]:
        """Strikes of which call and put have a close, now and on the next date, and the volatility is known."""
        out: dict[np.datetime64, list[float]] = {}
        for e, k in sorted(self._vols):
            pair = (e, k, True), (e, k, False)
            if all(key in self.closes and (self._followed is None or key in self._followed) for key in pair):
                out.setdefault(e, []).append(k)
        return {e: np.array(strikes) for e, strikes in out.items()}

    @property
    def expiries(self) -> npt.NDArray[np.datetime64]:
        """Expiries with quotes, ascending."""
        return np.array(sorted(self._strikes), dtype="datetime64[D]")

    def strikes(self, expiry: np.datetime64) -> FloatArray:
        """Strikes of an expiry with quotes of call and put, ascending."""
        return self._strikes.get(to_day(expiry, "expiry"), np.array([]))

    def has(self, instrument: Instrument) -> bool:
        """Whether a fixed contract has a close, and a volatility, on this evening."""
        key = key_of(instrument)
        return key is None or (key in self.closes and key[:2] in self._vols)

    def fix(self, instruments: Sequence[Instrument]) -> list[Instrument]:
        """Fix options to the nearest expiry with quotes, then to its nearest strike; each contract once.

        Where nothing can be had, as on the evening before a dividend alters all contracts, options are left out.
        """
        out: dict[Key, Instrument] = {}
        for named in self._named(instruments):
            key = key_of(named)
            if key is not None and isinstance(named, Option):
                if self.expiries.size == 0:
                    continue
                expiry = self.expiries[np.argmin(np.abs((self.expiries - key[0]).astype(int)))]
                strikes = self.strikes(expiry)
                named = replace(named, strike=float(strikes[np.argmin(np.abs(strikes - key[1]))]), expiry=expiry)
            out.setdefault(key_of(named), named)
        return list(out.values())

    def value(self, instruments: Sequence[Instrument]) -> Valuation:
        """Value fixed contracts at their closes, their greeks at their own volatility (NaN where it is not known)."""
        keys = [key_of(i) for i in instruments]
        missing = [
            i.label for i, k in zip(instruments, keys, strict=True) if k and k[0] > self.as_of and k not in self.closes
        ]
        if missing:
            raise InputError(f"no close on {self.as_of} of {', '.join(missing)}")
        price = np.array([self.closes.get(k, np.nan) if k else np.nan for k in keys])
        vol = np.array([self._vols.get(k[:2], np.nan) if k else np.nan for k in keys])
        return self._valuation(instruments, vol, price)


def starting_state(history: xr.Dataset, date: np.datetime64) -> StartingState:
    """Spot, surface and curves at the close of a date of a history."""
    state = state_at(history, date)
    return StartingState(
        as_of=to_day(state.as_of, "date"),
        spot=state.spot,
        tau=history["tau"].values.astype(np.float64),
        moneyness=history["moneyness"].values.astype(np.float64),
        implied_vol=np.exp(state.log_iv[-1]),
        log_carry=np.log(np.asarray(state.forward, dtype=np.float64) / state.spot),
        log_discount=np.log(np.asarray(state.discount_factor, dtype=np.float64)),
    )


def quote_keys(quotes: pd.DataFrame) -> list[Key]:
    """Identity of the contract of every row."""
    expiry = quotes["expiry"].to_numpy().astype("datetime64[D]")
    is_call = quotes["option_type"].astype(str).str.upper().str.startswith("C").to_numpy()
    return [
        (e, float(k), bool(c)) for e, k, c in zip(expiry, quotes["strike"].to_numpy(np.float64), is_call, strict=True)
    ]


class QuoteTape:
    """Days of a table of closes, and which contracts can be followed from one date to the next.

    Parameters
    ----------
    quotes : pandas.DataFrame
        As :func:`volscen.quotes.check_quotes` takes it, one underlying, one quote a contract and date.
    """

    def __init__(self, quotes: pd.DataFrame) -> None:
        import pandas as pd

        from volscen._underlyings import warn_of_underlyings
        from volscen.quotes import check_quotes

        clean, dropped = check_quotes(quotes)
        warn_of_underlyings(quotes)
        self.dropped = ", ".join(f"{count} {reason}" for reason, count in dropped[dropped > 0].items()) or "none"
        if "underlying" in clean and clean["underlying"].nunique() > 1:
            raise InputError("market holds several underlyings; select one")
        contents = clean[["date", "expiry", "strike", "option_type", "price"]]
        self.fingerprint = hashlib.sha256(
            pd.util.hash_pandas_object(contents, index=False).to_numpy().tobytes()
        ).hexdigest()
        altered = clean["adjusted"].to_numpy(bool) if "adjusted" in clean else np.zeros(len(clean), dtype=bool)
        self._days = self._by_day(clean[~altered])
        self._altered = {d: set(quote_keys(t)) for d, t in self._by_day(clean[altered]).items()}
        for date, table in self._days.items():
            keys = quote_keys(table)
            if len(set(keys)) != len(keys):
                raise InputError(f"market holds a contract twice on {date}; give one closing price a day")

    @staticmethod
    def _by_day(table: pd.DataFrame) -> dict[np.datetime64, pd.DataFrame]:
        days = table["date"].to_numpy().astype("datetime64[D]")
        return {np.datetime64(day, "D"): table[days == day] for day in np.unique(days)}

    def __contains__(self, date: np.datetime64) -> bool:
        return date in self._days

    def table(self, date: np.datetime64) -> pd.DataFrame:
        """Quotes of a date."""
        if date not in self._days:
            raise InputError(f"market has no quotes on {date}, a date of the history")
        return self._days[date]

    def followed(self, today: np.datetime64, tomorrow: np.datetime64) -> set[Key]:
        """Contracts of which the next date quotes the same contract.

        Where the contracts of an expiry have been altered since (a dividend), a strike of that expiry may be listed
        anew for another contract: none of it is followed. Altered strikes are then new, all of them; one that is new
        among old ones has merely not been quoted the day before.
        """
        before, after = (self._altered.get(date, set()) for date in (today, tomorrow))
        altered = set()
        for expiry in {k[0] for k in after if k}:
            keys = {k for k in after if k and k[0] == expiry}
            if 2 * len(keys - before) > len(keys):
                altered.add(expiry)
        now, then = set(quote_keys(self.table(today))), set(quote_keys(self.table(tomorrow)))
        return {k for k in now if k and k[0] not in altered and (k in then or k[0] <= tomorrow)}

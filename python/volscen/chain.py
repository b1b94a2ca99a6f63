"""The option chain of one day: forwards from put-call parity, out-of-the-money quotes, what was dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from volscen import black
from volscen._chain_options import ChainOptions
from volscen._parity import RATE_SOURCES, Parity, fit_parity, parity_slope
from volscen.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CHAIN_REASONS", "Chain", "ChainOptions"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Why a sound row is not used, in the order in which rows are judged; see also
#: :data:`volscen.quotes.REASONS`.
CHAIN_REASONS: dict[str, str] = {
    "adjusted_contract": "the contract was altered by a corporate action",
    "low_price": "price is below min_price",
    "wide_spread": "(ask - bid) / mid is above max_spread",
    "no_forward": "no pair of call and put gives the expiry a forward",
    "short_expiry": "time to expiry is below min_tau",
    "below_intrinsic": "price is below the discounted intrinsic value",
    "above_maximum": "price is above the discounted forward (call) or strike (put)",
    "in_the_money": "the out-of-the-money option of the strike carries the information",
    "no_implied_vol": "no volatility reproduces the price",
    "vol_out_of_range": "implied volatility is outside vol_bounds",
    "too_few_strikes": "the expiry has fewer than min_strikes usable quotes",
}

#: Part of the strike added in quadrature to the half-spreads that weigh parity pairs, so that a locked market
#: does not get infinite weight.
_SPREAD_FLOOR = 1e-4

#: A spot from the table may differ from the nearest forward, in logarithms, by prices taken at other times and by
#: carry a year. Beyond both it is another unit or another underlying.
_SPOT_SLACK = 0.1

#: By how large a factor call minus put may fail to fall by one per unit of strike before its unit is doubted.
_SLOPE_SLACK = 4.0

_YEAR = np.timedelta64(365, "D")
_CARRY_BOUND = 0.5


class Chain:
    """European options on one underlying, quoted on one day.

    Parameters
    ----------
    quotes : pandas.DataFrame
        A quotes table as :func:`volscen.quotes.check_quotes` takes it, raw or clean, of one underlying.
    date : str, datetime64 or datetime.date, optional
        The day; may be omitted when the table holds one day only.
    min_tau : float
        Years to expiry below which quotes are not used (their parity still informs the spot).
    min_price : float
        Price in currency below which a quote is not used; a few ticks where prices are coarse.
    max_spread : float, optional
        Largest (ask - bid) / mid; needs ``bid`` and ``ask``.
    vol_bounds : tuple of float
        Implied volatilities outside are not used.
    min_strikes : int
        An expiry with fewer usable quotes is not used.
    adjusted : {"drop", "keep"}
        What to do with contracts marked ``adjusted``. Keep them only where price and strike are per unit of
        the underlying after the adjustment; at equal strikes the standard contract goes before.
    rate : float, optional
        Continuously compounded annual rate; read from put-call parity when omitted.
    rate_bounds, rate_tolerance, parity_window : optional
        Believable rates; the standard error of the rate up to which an expiry keeps its own slope;
        abs(ln(K/F)) within which pairs inform parity. See Notes.

    Attributes
    ----------
    date : numpy.datetime64
        The day.
    underlying : str or None
        From the table.
    spot : float
        Median of the table's ``spot`` where it has that column (refused where it is farther from the nearest
        forward, in logarithms, than 0.1 plus 0.5 a year), else the discounted forward of the nearest
        expiry (the spot less dividends paid before that expiry).
    spot_source : {"quotes", "parity"}
        Which of the two.
    forwards : pandas.DataFrame
        One row per expiry: ``expiry`` (the instant in UTC where the table has ``quote_time`` and ``expiry_time``, to
        which ``tau`` is then exact), ``tau`` (years, ACT/365), ``forward``, ``forward_error`` (standard
        error), ``discount_factor``, ``rate_source``, ``n_pairs``, ``residual_mad``, ``residual_max`` (of C -
        P, currency), ``n_used`` (quotes used).
    quotes : pandas.DataFrame
        The out-of-the-money quotes used, sorted by expiry and strike: ``expiry``, ``strike``,
        ``option_type``, ``price``, ``is_call``, ``tau``, ``forward``, ``discount_factor``, ``moneyness``
        (K/F), ``log_moneyness``, ``implied_vol``, ``vega`` (currency per unit of vol), and
        ``half_spread_vol`` (half the spread in units of vol) where bid and ask are given.
    dropped : pandas.Series
        Number of the day's rows not used, by reason; ``len(quotes) + dropped.sum() == n_rows``.
    n_rows : int
        Rows of the day.

    Raises
    ------
    InputError
        If the table has no row for the day, several underlyings, calls or puts only, or nothing usable is
        left; the message names the day and the reasons.

    Notes
    -----
    Put-call parity C - P = D (F - K) is fitted per expiry by an MM-estimate (Theil-Sen start, bisquare
    refinement; Yohai, 1987), weighted by inverse squared spreads where there are any. An expiry keeps its own D
    when its rate is inside ``rate_bounds`` with a standard error of at most ``rate_tolerance`` (``rate_source`` is
    "parity"); otherwise D comes from the one rate that fits the parity lines of all the day's expiries best
    ("pooled", or "bounded" where that rate was moved to a bound). F is then the robust mean of K + (C - P)/D.
    Dividends stay implicit in F. American options break parity: use European ones.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from volscen import Chain, black
    >>> strike, is_call = np.repeat([90.0, 95, 100, 105, 110], 2), np.tile([True, False], 5)
    >>> table = pd.DataFrame({
    ...     "date": "2024-01-02", "expiry": "2024-07-02", "strike": strike,
    ...     "option_type": np.where(is_call, "C", "P"),
    ...     "price": black.price(101.0, strike, 182 / 365, 0.2, is_call, 0.98)})
    >>> chain = Chain(table)
    >>> chain.forwards[["forward", "discount_factor"]].round(6).values.tolist()
    [[101.0, 0.98]]
    >>> chain.quotes["implied_vol"].round(6).tolist()
    [0.2, 0.2, 0.2, 0.2, 0.2]
    >>> chain.dropped[chain.dropped > 0].to_dict()
    {'in_the_money': 5}
    """

    date: np.datetime64
    underlying: str | None
    spot: float
    spot_source: Literal["quotes", "parity"]
    forwards: pd.DataFrame
    quotes: pd.DataFrame
    dropped: pd.Series[int]
    n_rows: int

    def __init__(
        self,
        quotes: pd.DataFrame,
        date: object = None,
        *,
        min_tau: float = 5 / 365,
        min_price: float = 0.0,
        max_spread: float | None = None,
        vol_bounds: tuple[float, float] = (0.01, 5.0),
        min_strikes: int = 4,
        adjusted: Literal["drop", "keep"] = "drop",
        rate: float | None = None,
        rate_bounds: tuple[float, float] = (-0.02, 0.15),
        rate_tolerance: float = 0.001,
        parity_window: float = 0.2,
    ) -> None:
        from volscen.quotes import check_quotes, rows_of_day

        options = ChainOptions(
            min_tau=min_tau,
            min_price=min_price,
            max_spread=max_spread,
            vol_bounds=vol_bounds,
            min_strikes=min_strikes,
            adjusted=adjusted,
            rate=rate,
            rate_bounds=rate_bounds,
            rate_tolerance=rate_tolerance,
            parity_window=parity_window,
        )
        rows, day = rows_of_day(quotes, date)
        clean, dropped = check_quotes(rows)
        self._build(clean, day, dropped, options)

    @classmethod
    def from_clean(
        cls, clean: pd.DataFrame, date: np.datetime64, dropped: pd.Series[int], options: ChainOptions
    ) -> Chain:
        """Make the chain of rows that passed :func:`volscen.quotes.check_quotes` already, with its counts."""
        chain = cls.__new__(cls)
        chain._build(clean, date, dropped, options)
        return chain

    def _build(self, clean: pd.DataFrame, date: np.datetime64, dropped: pd.Series[int], options: ChainOptions) -> None:
        import pandas as pd

        self.date = date
        self.n_rows = len(clean) + int(dropped.sum())
        self.underlying = _one_underlying(clean, date)
        day = _Day(clean, options)
        if not len(clean):
            raise InputError(f"the chain of {date} is empty: {_why(dropped)}")
        if "quote_time" in clean and (n_times := clean["quote_time"].nunique()) > 1:
            raise InputError(
                f"quotes of {date} hold {n_times} snapshots; keep one a day, such as "
                f"quotes[quotes['quote_time'] == {str(clean['quote_time'].max())!r}]"
            )
        day.judge_rows()
        parity = day.fit_parity()
        counts = day.judge_prices(parity)
        all_counts = pd.Series([*dropped, *counts.values()], index=[*dropped.index, *counts], name="rows")
        self.dropped = all_counts.astype(np.int64).rename_axis("reason")
        if not day.kept.any():
            raise InputError(f"the chain of {date} has no usable quote: {day.one_sided()}{_why(self.dropped)}")
        self.forwards = day.forwards_table(parity)
        self.quotes = day.quotes_table()
        self.spot, self.spot_source = _spot(clean, parity, day.tau, date)

    def __repr__(self) -> str:
        name = f" {self.underlying}" if self.underlying else ""
        return (
            f"<Chain{name} {self.date}: {len(self.quotes)} of {self.n_rows} rows used, "
            f"{self.quotes['expiry'].nunique()} expiries>"
        )


class _Day:
    """Arrays of one day on their way through the filters; sorted by expiry, strike, call before put."""

    def __init__(self, clean: pd.DataFrame, options: ChainOptions) -> None:
        self.options = options
        self.clean = clean
        timed = "expiry_time" in clean
        instants = clean["expiry_time" if timed else "expiry"].to_numpy()
        self.expiry, self.of_expiry = np.unique(instants, return_inverse=True)
        self.strike = clean["strike"].to_numpy()
        self.is_call: BoolArray = np.asarray(clean["option_type"].to_numpy() == "C", dtype=bool)
        self.price = clean["price"].to_numpy()
        self.two_sided = "bid" in clean and "ask" in clean
        self.half_spread = (
            (clean["ask"].to_numpy() - clean["bid"].to_numpy()) / 2 if self.two_sided else np.zeros(len(clean))
        )
        self.kept: BoolArray = np.ones(len(clean), dtype=bool)
        self.counts = dict.fromkeys(CHAIN_REASONS, 0)
        if timed:
            now = clean["quote_time"].to_numpy()[:1]
            self.tau = (self.expiry - now) / _YEAR
        else:
            day = clean["date"].to_numpy()[:1].astype("datetime64[D]")
            self.tau = (self.expiry.astype("datetime64[D]") - day).astype(np.float64) / 365

    def drop(self, reason: str, bad: BoolArray) -> None:
        """Count and drop the rows that are bad and not dropped yet."""
        self.counts[reason] = int(np.count_nonzero(self.kept & bad))
        self.kept &= ~bad

    def judge_rows(self) -> None:
        """Apply the filters that need no forward."""
        options = self.options
        adjusted = self.clean["adjusted"].to_numpy() if "adjusted" in self.clean else np.zeros(len(self.kept), bool)
        if options.adjusted == "keep":
            # Sorted, so an adjusted contract follows the standard one of the same strike and type.
            same = np.zeros(len(adjusted), dtype=bool)
            same[1:] = (
                (self.of_expiry[1:] == self.of_expiry[:-1])
                & (self.strike[1:] == self.strike[:-1])
                & (self.is_call[1:] == self.is_call[:-1])
            )
            adjusted = adjusted & same
        self.drop("adjusted_contract", adjusted)
        self.drop("low_price", self.price < options.min_price)
        if options.max_spread is not None:
            if not self.two_sided:
                raise InputError("max_spread needs quotes with bid and ask; these have prices only")
            self.drop("wide_spread", 2 * self.half_spread > options.max_spread * self.price)

    def fit_parity(self) -> Parity:
        """Forward and discount factor of every expiry."""
        rows = np.flatnonzero(self.kept)
        first, second = rows[:-1], rows[1:]
        pair = (
            (self.of_expiry[first] == self.of_expiry[second])
            & (self.strike[first] == self.strike[second])
            & (self.is_call[first] & ~self.is_call[second])
        )
        call, put = first[pair], second[pair]
        row = self.of_expiry[call]
        width = np.bincount(row, minlength=len(self.expiry))
        column = np.arange(len(call)) - np.repeat(np.cumsum(width) - width, width)
        shape = (len(self.expiry), max(int(width.max(initial=0)), 1))
        strike, difference, weight = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        strike[row, column] = self.strike[call]
        difference[row, column] = self.price[call] - self.price[put]
        weight[row, column] = 1.0
        if self.two_sided:
            noise = self.half_spread[call] ** 2 + self.half_spread[put] ** 2
            weight[row, column] = 1 / (noise + (_SPREAD_FLOOR * self.strike[call]) ** 2)
        _check_units(parity_slope(strike, difference, weight))
        options = self.options
        return fit_parity(
            strike,
            difference,
            weight,
            self.tau,
            rate=options.rate,
            rate_bounds=options.rate_bounds,
            rate_tolerance=options.rate_tolerance,
            window=options.parity_window,
        )

    def judge_prices(self, parity: Parity) -> dict[str, int]:
        """Apply the filters that need the forward, implied volatility among them; return all counts."""
        options = self.options
        forward, discount = parity.forward[self.of_expiry], parity.discount_factor[self.of_expiry]
        tau = self.tau[self.of_expiry]
        unknown = np.isnan(forward)
        self.drop("no_forward", unknown)
        forward, discount = np.where(unknown, 1.0, forward), np.where(unknown, 1.0, discount)
        self.drop("short_expiry", tau < options.min_tau)
        sign = np.where(self.is_call, 1.0, -1.0)
        self.drop("below_intrinsic", self.price < discount * sign * (forward - self.strike))
        self.drop("above_maximum", self.price >= discount * np.where(self.is_call, forward, self.strike))
        self.drop("in_the_money", np.where(self.is_call, self.strike < forward, self.strike >= forward))
        use = self.kept
        vol, vega = np.full(len(use), np.nan), np.full(len(use), np.nan)
        vol[use], status = black.implied_vol(
            self.price[use], forward[use], self.strike[use], tau[use], self.is_call[use], discount[use]
        )
        failed = np.zeros(len(use), dtype=bool)
        failed[use] = (status != black.ImpliedVolStatus.OK) | ~np.isfinite(vol[use])
        self.drop("no_implied_vol", failed)
        self.drop("vol_out_of_range", ~((vol >= options.vol_bounds[0]) & (vol <= options.vol_bounds[1])))
        per_expiry = np.bincount(self.of_expiry[self.kept], minlength=len(self.expiry))
        self.drop("too_few_strikes", per_expiry[self.of_expiry] < options.min_strikes)
        use = self.kept
        vega[use] = black.vega(forward[use], self.strike[use], tau[use], vol[use], self.is_call[use], discount[use])
        self.forward, self.discount, self.vol, self.vega = forward, discount, vol, vega
        return self.counts

    def one_sided(self) -> str:
        """Say so if there are calls only or puts only."""
        if self.is_call.all() or not self.is_call.any():
            side, other = ("calls", "puts") if self.is_call[0] else ("puts", "calls")
            return f"it holds {side} only, and put-call parity needs {other} too; "
        return ""

    def forwards_table(self, parity: Parity) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(
            {
                "expiry": self.expiry,
                "tau": self.tau,
                "forward": parity.forward,
                "forward_error": parity.forward_error,
                "discount_factor": parity.discount_factor,
                "rate_source": np.array(RATE_SOURCES)[parity.rate_source],
                "n_pairs": parity.n_pairs,
                "residual_mad": parity.residual_mad,
                "residual_max": parity.residual_max,
                "n_used": np.bincount(self.of_expiry[self.kept], minlength=len(self.expiry)),
            }
        )

    def quotes_table(self) -> pd.DataFrame:
        import pandas as pd

        use, forward = self.kept, self.forward[self.kept]
        moneyness = self.strike[use] / forward
        columns: dict[str, Any] = {
            "expiry": self.expiry[self.of_expiry[use]],
            "strike": self.strike[use],
            "option_type": np.where(self.is_call[use], "C", "P"),
            "price": self.price[use],
            "is_call": self.is_call[use],
            "tau": self.tau[self.of_expiry[use]],
            "forward": forward,
            "discount_factor": self.discount[use],
            "moneyness": moneyness,
            "log_moneyness": np.log(moneyness),
            "implied_vol": self.vol[use],
            "vega": self.vega[use],
        }
        if self.two_sided:
            vega = np.maximum(columns["vega"], np.finfo(float).tiny)
            columns["half_spread_vol"] = np.minimum(self.half_spread[use] / vega, self.options.vol_bounds[1])
        return pd.DataFrame(columns)


def _check_units(slope: float) -> None:
    """Refuse prices in another unit than strikes, and calls taken for puts: parity holds for neither."""
    size = abs(slope)
    if size == 0:
        raise InputError("call minus put is the same at every strike: column price (bid, ask) holds no option prices")
    if size > _SLOPE_SLACK or size < 1 / _SLOPE_SLACK:
        raise InputError(
            f"call minus put changes by {slope:.3g} per unit of strike where parity has -1: prices and strikes are in "
            f"different units; {'divide' if size > 1 else 'multiply'} column price (bid, ask) by about "
            f"{max(size, 1 / size):.2g}"
        )
    if slope > 0:
        raise InputError(
            "call minus put rises with the strike: calls and puts are swapped; exchange C and P in column option_type"
        )


def _one_underlying(clean: pd.DataFrame, date: np.datetime64) -> str | None:
    if "underlying" not in clean or not len(clean):
        return None
    names = clean["underlying"].unique()
    if len(names) > 1:
        raise InputError(f"quotes of {date} hold {len(names)} underlyings ({names[0]}, {names[1]}, ...); keep one")
    return str(names[0])


def _spot(
    clean: pd.DataFrame, parity: Parity, tau: FloatArray, date: np.datetime64
) -> tuple[float, Literal["quotes", "parity"]]:
    nearest = int(np.flatnonzero(np.isfinite(parity.forward))[0])
    forward = float(parity.forward[nearest])
    if "spot" not in clean:
        return forward * float(parity.discount_factor[nearest]), "parity"
    values = clean["spot"].to_numpy(dtype=np.float64)
    values = values[np.isfinite(values) & (values > 0)]
    if not values.size:
        raise InputError(f"column spot holds no positive number on {date}; fill it in or leave the column out")
    spot = float(np.median(values))
    if abs(np.log(forward / spot)) > _SPOT_SLACK + _CARRY_BOUND * float(tau[nearest]):
        raise InputError(
            f"column spot is {spot:g} on {date}, where put-call parity gives a forward of {forward:g} to the nearest "
            "expiry: no carry explains that; correct its unit or leave the column out"
        )
    return spot, "quotes"


def _why(dropped: pd.Series[int]) -> str:
    reasons = ", ".join(f"{reason} {count}" for reason, count in dropped[dropped > 0].items())
    return f"rows dropped: {reasons}" if reasons else "the table has no row for it"

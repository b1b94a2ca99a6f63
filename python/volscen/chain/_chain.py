"""The option chain of one day: forwards from put-call parity, out-of-the-money quotes, what was dropped."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

import numpy as np

from volscen._names import shown
from volscen.chain._day import CHAIN_REASONS, ChainDay
from volscen.chain._options import ChainOptions
from volscen.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CHAIN_REASONS", "Chain", "ChainOptions"]


class Chain:
    """Options on one underlying, quoted on one day.

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
    max_age : float, optional
        Longest time in seconds for which a quote may have stood; needs ``age``.
    keep : sequence of str
        Filters to switch off, of "zero_bid" (the price is then half the ask) and "crossed".
    drop : sequence of str
        Filters to switch on, of "locked" (bid equals ask) and "not_monotone" (a call that could be sold above the ask
        of one with a lower strike, a put above that of a higher one; with prices only, any that rises or falls the
        wrong way; of contradicting quotes the one with the most contradictions goes first).
    american : {"convert", "otm"}
        What to do with rows whose ``exercise`` is American: turn them into European prices of the same volatility
        (see Notes), or take those out of the money, and parity, as they are.
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
        which ``tau`` is then exact), ``tau`` (years, ACT/365), ``forward``, ``forward_error``, ``discount_factor``,
        ``discount_factor_error`` (standard errors; see Notes), ``rate_source``, ``n_pairs``, ``residual_mad``,
        ``residual_max`` (of C - P, currency), ``n_used`` (quotes used).
    quotes : pandas.DataFrame
        The out-of-the-money quotes used, sorted by expiry and strike: ``expiry``, ``strike``,
        ``option_type``, ``price``, ``is_call``, ``tau``, ``forward``, ``discount_factor``, ``moneyness``
        (K/F), ``log_moneyness``, ``implied_vol``, ``vega`` (currency per unit of vol), ``half_spread`` (currency) and
        ``half_spread_vol`` (in units of vol) where bid and ask are given, and ``quoted_price`` where American prices
        were turned into European ones (which ``price`` then is).
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
    ("pooled", or "bounded" where that rate was moved to a bound). F is then the robust mean of K + (C - P)/D. Standard
    errors are Huber's (1981) for a bisquare fit, that of D counted in that of F.
    Dividends stay implicit in F.

    American options break parity. Their early-exercise premiums are computed for a continuous yield (Kim, 1990, by the
    collocation of Andersen, Lake and Offengenden, 2016) at the volatility that reproduces the out-of-the-money option
    of a strike, and taken off both its options; forwards and rates are fitted anew, until they agree. A known dividend
    is thereby spread over the life of the option.

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
    _rows: pd.DataFrame

    def __init__(
        self,
        quotes: pd.DataFrame,
        date: object = None,
        *,
        min_tau: float = 5 / 365,
        min_price: float = 0.0,
        max_spread: float | None = None,
        max_age: float | None = None,
        keep: Collection[str] = (),
        drop: Collection[str] = (),
        american: Literal["convert", "otm"] = "convert",
        vol_bounds: tuple[float, float] = (0.01, 5.0),
        min_strikes: int = 4,
        adjusted: Literal["drop", "keep"] = "drop",
        rate: float | None = None,
        rate_bounds: tuple[float, float] = (-0.02, 0.15),
        rate_tolerance: float = 0.001,
        parity_window: float = 0.2,
    ) -> None:
        from volscen._underlyings import refuse_mixed_spots, warn_of_underlyings
        from volscen.quotes import check_quotes, rows_of_day

        options = ChainOptions(
            min_tau=min_tau,
            min_price=min_price,
            max_spread=max_spread,
            max_age=max_age,
            keep=keep,
            drop=drop,
            american=american,
            vol_bounds=vol_bounds,
            min_strikes=min_strikes,
            adjusted=adjusted,
            rate=rate,
            rate_bounds=rate_bounds,
            rate_tolerance=rate_tolerance,
            parity_window=parity_window,
        )
        rows, day = rows_of_day(quotes, date)
        clean, dropped = check_quotes(rows, keep=options.keep)
        warn_of_underlyings(rows)
        refuse_mixed_spots(clean)
        self._rows = rows
        self._build(clean, day, dropped, options)

    @classmethod
    def from_clean(
        cls, clean: pd.DataFrame, date: np.datetime64, dropped: pd.Series[int], options: ChainOptions
    ) -> Chain:
        """Make the chain of rows that passed :func:`volscen.quotes.check_quotes` already, with its counts."""
        chain = cls.__new__(cls)
        chain._rows = clean
        chain._build(clean, date, dropped, options)
        return chain

    def _build(self, clean: pd.DataFrame, date: np.datetime64, dropped: pd.Series[int], options: ChainOptions) -> None:
        import pandas as pd

        self.date = date
        self.n_rows = len(clean) + int(dropped.sum())
        self.underlying = _one_underlying(clean, date)
        day = ChainDay(clean, options)
        if not len(clean):
            raise InputError(f"the chain of {date} is empty: {_why(dropped)}")
        if "quote_time" in clean and (n_times := clean["quote_time"].nunique()) > 1:
            raise InputError(
                f"quotes of {date} hold {n_times} snapshots; keep one a day, such as "
                f"quotes[quotes['quote_time'] == {str(clean['quote_time'].max())!r}]"
            )
        day.judge_rows()
        parity = day.parity()
        counts = day.judge_prices(parity)
        all_counts = pd.Series([*dropped, *counts.values()], index=[*dropped.index, *counts], name="rows")
        self.dropped = all_counts.astype(np.int64).rename_axis("reason")
        if not day.kept.any():
            raise InputError(f"the chain of {date} has no usable quote: {day.one_sided()}{_why(self.dropped)}")
        self.forwards = day.forwards_table(parity)
        self.quotes = day.quotes_table()
        self.spot, self.spot_source = day.spot(parity)

    def listed(self, expiry: object) -> pd.DataFrame:
        """Sound rows of one expiry of :attr:`forwards` whatever the filters, those without a bid among them.

        Contracts marked ``adjusted`` are left out.
        """
        from volscen.quotes import check_quotes

        clean, _ = check_quotes(self._rows, keep=("zero_bid",))
        wanted = clean["expiry_time" if "expiry_time" in clean else "expiry"] == expiry
        if "adjusted" in clean:
            wanted &= ~clean["adjusted"]
        return clean[wanted]

    def __repr__(self) -> str:
        name = f" {self.underlying}" if self.underlying else ""
        return (
            f"<Chain{name} {self.date}: {len(self.quotes)} of {self.n_rows} rows used, "
            f"{self.quotes['expiry'].nunique()} expiries>"
        )


def _one_underlying(clean: pd.DataFrame, date: np.datetime64) -> str | None:
    if "underlying" not in clean or not len(clean):
        return None
    names = clean["underlying"].unique()
    if len(names) > 1:
        raise InputError(
            f"quotes of {date} hold {len(names)} underlyings ({shown(names)}); keep one "
            f"(on the command line, --underlying {names[0]})"
        )
    return str(names[0])


def _why(dropped: pd.Series[int]) -> str:
    reasons = ", ".join(f"{reason} {count}" for reason, count in dropped[dropped > 0].items())
    return f"rows dropped: {reasons}" if reasons else "the table has no row for it"

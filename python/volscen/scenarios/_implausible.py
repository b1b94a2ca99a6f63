"""Scenarios beyond anything known: vols far outside their range in the data, daily returns far larger than any.

Laws that feed on what they draw have no ceiling, and from a storm they may draw what no day bears out. Every cube is
held against the data here, by weight, since a share of weight is what tails and expected shortfalls are taken of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._doubts import warn_of_scenarios
from volscen.generators import Generator

__all__ = ["Beyond", "Known", "Tally", "beyond", "hold_against", "judge", "known_of", "tell", "warn_of_long"]

FloatArray = npt.NDArray[np.float64]

#: What counts as beyond: this many times the highest vol known at a point of the surface or the largest known return,
#: or the lowest vol over it. On the S&P 500 (1996-2018) and the SSE 50 ETF (2015-22) no vol went there within 21 days
#: of any of 6,861 days with 402 or more before them, 2008 included, and one return did (27 October 1997: 2.3 times).
FACTOR = 2.0
#: Shares of weight that are told: all of the tail of a 99% value at risk, and a tenth of it of what is as far again.
_SHARE, _FAR, _FAR_SHARE = 1e-2, FACTOR**2, 1e-3
#: Less than this of an equal weight is none; and no smaller share of all weight than this is spelt out.
_HEAVY, _SPELT = 1e-3, 5e-5
#: Fewer dates than this, a year of trading days, know no range that could be doubled.
_LEAST_DATES = 252

#: Weights are added up as whole numbers of this, exactly: no digit depends on how a cube was cut into blocks.
_UNIT = 2.0**-60

_COLUMNS = ("scenario", "high", "low", "log_return", "atm")


@dataclass(frozen=True)
class Known:
    """What is known up to one date: of the history given, and of that fitted on.

    Attributes
    ----------
    log_return : float
        Largest size of one day's return.
    highest, lowest : ndarray, shape (tau, moneyness)
    atm : pair of int
        Point nearest to 30 days and K/F = 1.
    atm_days : int
        Its maturity in days.
    n_dates : int
        The longer of the two.
    """

    log_return: float
    highest: FloatArray
    lowest: FloatArray
    atm: tuple[int, int]
    atm_days: int
    n_dates: int


@dataclass(frozen=True)
class Beyond:
    """Scenarios of a part of a cube that go beyond what is known.

    Attributes
    ----------
    rows : ndarray, shape (k, 5)
        Number of the scenario, then how many times beyond: the highest vols, the lowest (the lowest over the vol), the
        largest return, the highest vol at the money. What is within :data:`FACTOR` may stand as 0.
    """

    rows: FloatArray

    def moved(self, start: int) -> Self:
        """The same, where the part's first scenario has number ``start``."""
        return type(self)(self.rows + np.array([start, 0, 0, 0, 0]))


@dataclass(frozen=True)
class Tally:
    """Weights and extremes of what lies beyond, all that is kept of a part once the weights are known.

    Attributes
    ----------
    weight : ndarray of int64, shape (6,)
        In units of :data:`_UNIT`: of all, of what is as far again, and of each column of :class:`Beyond`.
    largest : ndarray, shape (4,)
        Of each column.
    """

    weight: npt.NDArray[np.int64]
    largest: FloatArray

    @classmethod
    def of(cls, parts: Iterable[Beyond], weight: FloatArray) -> Self:
        """Add up parts of one date, whose scenarios have these weights; one part after the other is in memory."""
        total, largest = np.zeros(2 + len(_COLUMNS[1:]), dtype=np.int64), np.zeros(len(_COLUMNS[1:]))
        for far in parts:
            own = weight[far.rows[:, 0].astype(np.intp)]
            # What has next to no weight is no news, however far it went.
            heavy = own >= _HEAVY / weight.size
            ratio, units = far.rows[heavy, 1:], np.rint(own[heavy] / _UNIT).astype(np.int64)
            farther = ratio[:, :3].max(axis=1, initial=0.0) > _FAR
            total += [units.sum(), units[farther].sum(), *(units[r > FACTOR].sum() for r in ratio.T)]
            largest = np.maximum(largest, ratio.max(axis=0, initial=0.0))
        return cls(total, largest)

    @property
    def shares(self) -> list[float]:
        """The weights as shares of all."""
        return [float(units * _UNIT) for units in self.weight]


def known_of(generator: Generator, history: xr.Dataset, rows: Sequence[int]) -> tuple[Known, ...]:
    """What is known at each row of a history; nothing where the dates are too few to judge by."""
    fit = generator.record_
    vol = history["implied_vol"].transpose("date", "tau", "moneyness").values
    returns = np.abs(history["log_return"].values)
    tau, moneyness = generator.tau_, generator.moneyness_
    atm = int(np.argmin(np.abs(tau - 30 / 365))), int(np.argmin(np.abs(moneyness - 1)))
    fitted = 0 if fit is None else fit.n_dates
    if max(fitted, min(rows) + 1) < _LEAST_DATES:
        return ()
    largest = 0.0 if fit is None else max(map(abs, fit.log_return))
    shape = (2, tau.size, moneyness.size)
    if fit is not None and len(fit.highest) == tau.size * moneyness.size:
        high, low = np.array([fit.highest, fit.lowest]).reshape(shape)
    else:  # a file of an early version knows the whole surface's range, which is wider than any point's
        high, low = np.zeros(shape[1:]), np.full(shape[1:], np.inf)
        if fit is not None:
            high[...], low[...] = fit.implied_vol[1], fit.implied_vol[0]
    out, start = [], 0
    for row in rows:
        # Dates rise: each adds the days since the one before.
        part = slice(start, row + 1)
        high = np.maximum(high, vol[part].max(axis=0))
        low = np.minimum(low, vol[part].min(axis=0))
        largest = max(largest, float(np.max(returns[part], initial=0.0, where=np.isfinite(returns[part]))))
        days = round(365 * float(tau[atm[0]]))
        out.append(Known(largest, high, low, atm, days, max(fitted, row + 1)))
        start = row + 1
    return tuple(out)


def beyond(known: Known, log_return: npt.NDArray[Any], implied_vol: npt.NDArray[Any]) -> Beyond:
    """Which of some scenarios, (n, step) and (n, step, tau, moneyness), go beyond what is known, and how far."""
    cells = implied_vol.reshape(len(log_return), -1, known.highest.size)
    flat = cells.reshape(-1, known.highest.size)
    highest, lowest = known.highest.ravel(), known.lowest.ravel()
    high = np.flatnonzero(flat.max(axis=0) > FACTOR * highest)
    low = np.flatnonzero(flat.min(axis=0) < lowest / FACTOR)
    far = np.zeros((len(cells), len(_COLUMNS)))
    far[:, 0] = np.arange(len(cells))
    if known.log_return > 0:
        far[:, 3] = np.abs(log_return).max(axis=1) / known.log_return
    if high.size:
        ratio = (cells[..., high] / highest[high]).max(axis=1)
        far[:, 1] = ratio.max(axis=1)
        money = np.flatnonzero(high == known.atm[0] * known.highest.shape[1] + known.atm[1])
        far[:, 4] = ratio[:, money].max(axis=1, initial=0.0)
    if low.size:
        far[:, 2] = (lowest[low] / cells[..., low]).max(axis=(1, 2))
    return Beyond(far[(far[:, 1:] > FACTOR).any(axis=1)])


def hold_against(
    ds: xr.Dataset, known: Sequence[Known], found: Sequence[Sequence[Beyond]], *, weighed: bool
) -> str | None:
    """Set a weighed cube's attributes of what lies beyond, from the parts of each date; what to tell of it."""
    if not known:
        return None
    rows = zip(found, np.atleast_2d(ds["weight"].values), strict=True)
    attributes, text = judge(ds, known, [Tally.of(parts, weight) for parts, weight in rows], weighed=weighed)
    ds.attrs |= attributes
    return text


def judge(
    ds: xr.Dataset, known: Sequence[Known], found: Sequence[Tally], *, weighed: bool
) -> tuple[dict[str, Any], str | None]:
    """Attributes of a cube that say what lies beyond, and what to tell of it, if anything.

    Parameters
    ----------
    ds : xarray.Dataset
        The cube; of its variables only those of the start are read.
    known, found : sequences, one for each date
    weighed : bool
        Whether the weights are by arbitrage.
    """
    shares, told = [], []
    for row, (one, far) in enumerate(zip(known, found, strict=True)):
        share, farther, *_ = far.shares
        shares.append(share)
        # What was asked for by a condition may lie anywhere.
        if "given" not in ds.attrs and (share >= _SHARE or farther >= _FAR_SHARE):
            told.append((row, _sentence(one, far)))
    attributes: dict[str, Any] = {"implausible_share": np.array(shares) if len(shares) > 1 else shares[0]}
    if not told:
        return attributes, None
    days = np.atleast_1d(ds["as_of"].values).astype("datetime64[D]").astype(str)
    attributes["implausible"] = "; ".join(f"{days[row]}: {text}" for row, text in told) if len(days) > 1 else told[0][1]
    row, text = max(told, key=lambda pair: shares[pair[0]])
    others = f" (and {len(told) - 1} more of the {len(days)} dates)" if len(told) > 1 else ""
    remedy = _remedy(ds, bool(np.atleast_1d(ds["state_clipped"].values)[row]), weighed)
    return attributes, (
        f"scenarios from {days[row]}{others}: {text}. Nothing in the {known[row].n_dates:,} known dates supports "
        f"tails of this weight: {remedy}"
    )


def _sentence(known: Known, far: Tally) -> str:
    above, below, large, money = far.shares[2:]
    high, _, returns, atm = far.largest
    maturity, parts = f"at the money at {known.atm_days} days", []
    if above >= _SPELT:
        top = known.highest[known.atm]
        drawn = f"{_percent(money)}, up to {atm * top:.0%}" if money >= _SPELT else "none"
        parts.append(
            f"{_percent(above)} of the weight has vols above twice the highest known at their point of the surface, up "
            f"to {high:.3g} times it ({maturity} {drawn}; the highest known is {top:.1%})"
        )
    if below >= _SPELT:
        parts.append(
            f"{_percent(below)} of the weight has vols below half the lowest known at their point of the surface "
            f"({maturity} the lowest known is {known.lowest[known.atm]:.1%})"
        )
    if large >= _SPELT:
        parts.append(
            f"{_percent(large)} of the weight has a daily return larger than twice the largest known "
            f"(up to {returns * known.log_return:.0%}; the largest known is {known.log_return:.1%})"
        )
    return ", ".join(parts)


def _percent(share: float) -> str:
    return f"{share:.2%}" if share < 0.01 else f"{share:.1%}"


def _remedy(ds: xr.Dataset, clipped: bool, weighed: bool) -> str:
    name, horizon = ds.attrs["generator"], ds.sizes["step"]
    ways = []
    if clipped:
        ways.append(f"refit generator {name!r}, which was fitted on nothing like the starting state")
    if not weighed:
        ways.append("weigh by arbitrage, which most such surfaces violate")
    if horizon > 1:
        ways.append(f"shorten the horizon of {horizon} steps")
    if name != "bootstrap":
        ways.append("hold it against generator 'bootstrap', whose moves are days that were")
    return ", or ".join(ways or ["fit on a longer history"])


def tell(text: str | None, *, stacklevel: int) -> None:
    """Warn, where there is something to tell."""
    if text is not None:
        warn_of_scenarios(text, stacklevel=stacklevel + 1)


def warn_of_long(horizon: int, known: Sequence[Known], *, stacklevel: int) -> None:
    """Warn of paths longer than half of what is known, which holds no two of that length."""
    if known and horizon > known[0].n_dates / 2:
        warn_of_scenarios(
            f"paths of {horizon} steps are drawn from {known[0].n_dates} known dates, which hold no two such spans: "
            "nothing says where paths of that length end; shorten the horizon, or fit on a longer history",
            stacklevel=stacklevel + 1,
        )

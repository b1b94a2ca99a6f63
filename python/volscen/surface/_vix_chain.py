"""The volatility index of a chain: which options count, the forward, and the sum over strikes, as Cboe does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from volscen.errors import InputError
from volscen.surface._vix import blend, check_reach

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from volscen.chain import Chain

__all__ = ["chain_index"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Expiries nearer than this share of the horizon, a week of 30 days and never more than a week, are not used.
_MIN_SHARE, _WEEK = 7 / 30, 7 / 365
_SAME = 1e-6


@dataclass(frozen=True)
class _Strip:
    """Options of one expiry that count: strikes, undiscounted prices, and what the sum needs."""

    strike: FloatArray
    price: FloatArray
    forward: float
    first_strike: float

    def variance(self, tau: float) -> float:
        """Annual variance (2/T) sum dK/K^2 Q - (1/T) (F/K0 - 1)^2."""
        gap = np.diff(self.strike)
        width = np.concatenate([gap[:1], (gap[1:] + gap[:-1]) / 2, gap[-1:]])
        area = float((width / self.strike**2 * self.price).sum())
        return (2 * area - (self.forward / self.first_strike - 1) ** 2) / tau


def chain_index(chain: Chain, horizon: float, rules: str, ratio: float) -> xr.Dataset:
    """Do the work of :func:`volscen.vix` for a chain."""
    import xarray as xr

    table = chain.forwards
    least = min(_MIN_SHARE * horizon, _WEEK)
    usable = np.isfinite(table["forward"].to_numpy()) & (table["tau"].to_numpy() >= least * (1 - 1e-9))
    if rules == "chain":
        usable &= table["n_used"].to_numpy() > 0
    table = table[usable]
    if not len(table):
        raise InputError(f"the chain of {chain.date} has no expiry of {365 * least:.3g} days or more with a forward")
    tau = table["tau"].to_numpy()
    if not tau[0] <= horizon <= tau[-1]:
        check_reach(float(tau[0] if horizon < tau[0] else tau[-1]), horizon, ratio, f"the chain of {chain.date}")
    rows = _terms(tau, horizon)
    strips = [_strip(chain, table.iloc[row], rules) for row in rows]
    variance = np.array([strip.variance(t) for strip, t in zip(strips, tau[rows], strict=True)])
    weight = blend(tau[rows], horizon)
    total = float((weight * tau[rows] * variance).sum())
    if not (np.all(variance > 0) and total > 0):
        raise InputError(
            f"the strip of options of {chain.date} has no positive variance "
            f"({', '.join(f'{v:.4g} at {365 * t:.4g} days' for v, t in zip(variance, tau[rows], strict=True))}); "
            "its prices contradict each other"
        )
    ds = xr.Dataset(
        {
            "vix": ((), 100 * np.sqrt(total / horizon)),
            "term_tau": ("term", tau[rows]),
            "term_variance": ("term", variance),
            "term_weight": ("term", weight),
            "forward": ("term", [strip.forward for strip in strips]),
            "first_strike": ("term", [strip.first_strike for strip in strips]),
            "discount_factor": ("term", table["discount_factor"].to_numpy()[rows]),
            "n_puts": ("term", [int((strip.strike < strip.first_strike).sum()) for strip in strips]),
            "n_calls": ("term", [int((strip.strike > strip.first_strike).sum()) for strip in strips]),
        },
        coords={
            "date": chain.date.astype("datetime64[ns]"),
            "expiry": ("term", table["expiry"].to_numpy()[rows].astype("datetime64[ns]")),
        },
    )
    for name, text, units in (
        ("forward", "forward price", "currency"),
        ("first_strike", "strike at or below the forward, K0", "currency"),
        ("discount_factor", "discount factor to expiry", "1"),
        ("n_puts", "puts below K0", "1"),
        ("n_calls", "calls above K0", "1"),
    ):
        ds[name].attrs = {"long_name": text, "units": units}
    return ds


def _terms(tau: FloatArray, horizon: float) -> list[int]:
    """Positions of the expiries around the horizon, or of the two nearest where all lie on one side."""
    same = np.flatnonzero(np.abs(tau / horizon - 1) <= _SAME)
    if same.size or tau.size == 1:
        return [int(same[0]) if same.size else 0]
    after = int(np.clip(np.searchsorted(tau, horizon), 1, tau.size - 1))
    return [after - 1, after]


def _strip(chain: Chain, expiry: pd.Series, rules: str) -> _Strip:
    discount, day = float(expiry["discount_factor"]), str(expiry["expiry"])[:10]
    strip = (_chain_strip if rules == "chain" else _cboe_strip)(chain, expiry, discount)
    if strip is None or strip.strike[0] == strip.first_strike or strip.strike[-1] == strip.first_strike:
        raise InputError(
            f"the expiry {day} in the chain of {chain.date} lacks options on one side of its forward that can be used"
            + ("" if rules == "chain" else ", or a call and a put with bids at the strike below it; try rules='chain'")
        )
    return strip


def _chain_strip(chain: Chain, expiry: pd.Series, discount: float) -> _Strip | None:
    """Options that the chain uses, each out of the money at its own forward."""
    rows = chain.quotes[chain.quotes["expiry"] == expiry["expiry"]]
    strike, forward = rows["strike"].to_numpy(), float(expiry["forward"])
    price = rows["price"].to_numpy() / discount
    below = np.flatnonzero(strike <= forward)
    if not below.size:
        return None
    # By parity the mean of put and call lies half of F - K above the put.
    price[below[-1]] += (forward - strike[below[-1]]) / 2
    return _Strip(strike, price, forward, float(strike[below[-1]]))


def _cboe_strip(chain: Chain, expiry: pd.Series, discount: float) -> _Strip | None:
    """Options that Cboe's rules pick from the quotes."""
    strike, price, bid = _listed(chain, expiry["expiry"])
    both = np.flatnonzero(bid.all(axis=1))
    if not both.size:
        return None
    call, put = price[:, 0], price[:, 1]
    nearest = both[np.argmin(np.abs(call[both] - put[both]))]
    forward = float(strike[nearest] + (call[nearest] - put[nearest]) / discount)
    middle = int(np.searchsorted(strike, forward, side="right")) - 1
    if middle < 0 or not bid[middle].all():
        return None
    puts = _counted(np.arange(middle - 1, -1, -1), put, bid[:, 1])[::-1]
    calls = _counted(np.arange(middle + 1, strike.size), call, bid[:, 0])
    used = np.concatenate([puts, [middle], calls])
    at = np.concatenate([put[puts], [(call[middle] + put[middle]) / 2], call[calls]])
    return _Strip(strike[used], at / discount, forward, float(strike[middle]))


def _counted(rows: npt.NDArray[np.int64], price: FloatArray, bid: BoolArray) -> npt.NDArray[np.int64]:
    """Rows of the options that count, going outwards: those with a bid, up to the first two in a row without."""
    rows = rows[np.isfinite(price[rows])]
    gone = np.flatnonzero(~bid[rows[:-1]] & ~bid[rows[1:]])
    rows = rows[: gone[0]] if gone.size else rows
    return rows[bid[rows]]


def _listed(chain: Chain, expiry: object) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Strikes of an expiry, prices (call, put) and whether each has a bid; a side that is not listed is NaN."""
    rows = chain.listed(expiry)
    strike, row = np.unique(rows["strike"].to_numpy(), return_inverse=True)
    side = np.where(rows["option_type"].to_numpy() == "C", 0, 1)
    price, bid = np.full((strike.size, 2), np.nan), np.zeros((strike.size, 2), dtype=bool)
    price[row, side] = rows["price"].to_numpy()
    bid[row, side] = rows["bid"].to_numpy() > 0 if "bid" in rows and "ask" in rows else True
    return strike, price, bid

"""The rows of one day on their way through the filters of a chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from volscen import black
from volscen.chain._filters import check_units, not_monotone, pick_spot
from volscen.chain._options import ChainOptions
from volscen.chain._parity import RATE_SOURCES, Parity, fit_parity, parity_slope
from volscen.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CHAIN_REASONS", "ChainDay"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Why a sound row is not used, in the order in which rows are judged; see also
#: :data:`volscen.quotes.REASONS`.
CHAIN_REASONS: dict[str, str] = {
    "adjusted_contract": "the contract was altered by a corporate action",
    "locked": "bid equals ask; counted with drop=['locked']",
    "stale": "the quote has stood for longer than max_age",
    "low_price": "price is below min_price",
    "wide_spread": "(ask - bid) / mid is above max_spread",
    "not_monotone": "it contradicts the price of another strike; counted with drop=['not_monotone']",
    "no_forward": "no pair of call and put gives the expiry a forward",
    "short_expiry": "time to expiry is below min_tau",
    "below_intrinsic": "price is below the discounted intrinsic value",
    "above_maximum": "price is above the discounted forward (call) or strike (put)",
    "in_the_money": "the out-of-the-money option of the strike carries the information",
    "no_implied_vol": "no volatility reproduces the price, or an American one is not above its value under exercise",
    "vol_out_of_range": "implied volatility is outside vol_bounds",
    "too_few_strikes": "the expiry has fewer than min_strikes usable quotes",
}

#: Part of the strike added in quadrature to the half-spreads that weigh parity pairs, so that a locked market
#: does not get infinite weight.
_SPREAD_FLOOR = 1e-4

_YEAR = np.timedelta64(365, "D")
_CARRY_BOUND = 0.5


class ChainDay:
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
            np.abs(clean["ask"].to_numpy() - clean["bid"].to_numpy()) / 2 if self.two_sided else np.zeros(len(clean))
        )
        self.american: BoolArray = np.zeros(len(clean), dtype=bool)
        if "exercise" in clean and options.american == "convert":
            self.american = np.asarray(clean["exercise"].to_numpy() == "American", dtype=bool)
        self.quoted = self.price
        self.units_checked = False
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
        if "locked" in options.drop:
            self._need("bid and ask", "drop=['locked']", present=self.two_sided)
            self.drop("locked", self.half_spread == 0)
        if options.max_age is not None:
            self._need("the column age", "max_age", present="age" in self.clean)
            age = self.clean["age"].to_numpy(dtype=np.float64)
            self.drop("stale", ~(age <= options.max_age))
        self.drop("low_price", self.price < options.min_price)
        if options.max_spread is not None:
            self._need("bid and ask", "max_spread", present=self.two_sided)
            self.drop("wide_spread", 2 * self.half_spread > options.max_spread * self.price)
        if "not_monotone" in options.drop:
            use = np.flatnonzero(self.kept)
            bad = np.zeros(len(self.kept), dtype=bool)
            low, high = self.price[use] - self.half_spread[use], self.price[use] + self.half_spread[use]
            sides = 2 * self.of_expiry[use] + self.is_call[use]
            bad[use] = not_monotone(sides, self.strike[use], ~self.is_call[use], low, high)
            self.drop("not_monotone", bad)

    @staticmethod
    def _need(column: str, option: str, *, present: bool) -> None:
        if not present:
            raise InputError(f"{option} needs quotes with {column}; these have none")

    def parity(self) -> Parity:
        """Forward and discount factor of every expiry; American prices become European ones."""
        parity = self._fit_parity(self.price)
        american = self.kept & self.american
        if not american.any() or not np.isfinite(parity.forward).any():
            return parity
        from volscen.chain._deamericanise import remove_early_exercise

        rows = np.flatnonzero(self.kept)

        def refit(price: FloatArray) -> Parity:
            every = np.full(len(self.kept), np.nan)
            every[rows] = price
            return self._fit_parity(every)

        european, parity = remove_early_exercise(
            self.price[rows],
            self.strike[rows],
            self.is_call[rows],
            self.of_expiry[rows],
            self.american[rows],
            parity=parity,
            tau=self.tau,
            spot=self.spot(parity)[0] if "spot" in self.clean else None,
            window=self.options.parity_window,
            refit=refit,
        )
        in_the_money = self.is_call[rows] == (self.strike[rows] < parity.forward[self.of_expiry[rows]])
        # One in the money that says nothing is not used anyway; its price stays, to be judged as such.
        self.price = self.price.copy()
        self.price[rows] = np.where(np.isnan(european) & in_the_money, self.price[rows], european)
        return parity

    def spot(self, parity: Parity) -> tuple[float, Literal["quotes", "parity"]]:
        """Price of the underlying, and whether the table or parity gives it."""
        if "spot" in self.clean:
            date = self.clean["date"].to_numpy()[0].astype("datetime64[D]")
            return pick_spot(self.clean["spot"].to_numpy(dtype=np.float64), parity, self.tau, date), "quotes"
        nearest = int(np.flatnonzero(np.isfinite(parity.forward))[0])
        return float(parity.forward[nearest] * parity.discount_factor[nearest]), "parity"

    def _fit_parity(self, price: FloatArray) -> Parity:
        rows = np.flatnonzero(self.kept & np.isfinite(price))
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
        difference[row, column] = price[call] - price[put]
        weight[row, column] = 1.0
        if self.two_sided:
            noise = self.half_spread[call] ** 2 + self.half_spread[put] ** 2
            weight[row, column] = 1 / (noise + (_SPREAD_FLOOR * self.strike[call]) ** 2)
        if not self.units_checked:
            check_units(parity_slope(strike, difference, weight))
            self.units_checked = True
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
        failed[use] = np.isnan(self.price[use]) | (status != black.ImpliedVolStatus.OK) | ~np.isfinite(vol[use])
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
                "discount_factor_error": parity.discount_factor_error,
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
            **({"quoted_price": self.quoted[use]} if self.american.any() else {}),
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
            columns["half_spread"] = self.half_spread[use]
            columns["half_spread_vol"] = np.minimum(self.half_spread[use] / vega, self.options.vol_bounds[1])
        return pd.DataFrame(columns)

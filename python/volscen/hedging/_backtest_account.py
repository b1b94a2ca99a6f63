"""One position from opening to closing: every evening's hedges, and the accounts they make."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._instruments import Instrument, Option
from volscen._threads import single_threaded_blas
from volscen.errors import VolscenError
from volscen.generators import Generator
from volscen.hedging import HedgeWarning, hedge
from volscen.hedging._backtest_market import Key, MarketDay, QuoteDay, Valuation, key_of
from volscen.hedging._backtest_plan import Costs, HedgeArm, HedgeInstruments, OpenPosition
from volscen.hedging._backtest_result import Ledger
from volscen.portfolio import Portfolio
from volscen.scenarios import generate

__all__ = ["Account", "Block", "run_block"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Block:
    """All that one position's hedging needs; ``days`` has one evening more than ``rows``."""

    number: int
    position: OpenPosition
    rows: npt.NDArray[np.intp]
    days: Sequence[MarketDay]
    followed: Sequence[set[Key] | None]
    generators: Mapping[str, Generator]
    arms: Mapping[str, HedgeArm]
    sets: Mapping[str, HedgeInstruments]
    costs: Costs
    history: xr.Dataset
    update_every: int | None
    n_scenarios: int
    seed: int
    extrapolation: str


class Account:
    """What one arm holds from evening to evening, and what trading it costs."""

    def __init__(self) -> None:
        self._units: dict[Key, float] = {}
        self._unit_cost: dict[Key, float] = {}
        self._price: dict[Key, float] = {}

    def holding(self, keys: Sequence[Key]) -> FloatArray:
        """Units held of these contracts, in the sign of the ratios."""
        return np.array([self._units.get(key, 0.0) for key in keys])

    def trade(
        self, keys: Sequence[Key], ratio: FloatArray, unit_cost: FloatArray, price: FloatArray
    ) -> tuple[float, float, float]:
        """Hold ``ratio`` of these contracts and nothing else; what it cost, value traded, that of options."""
        for key, cost, value in zip(keys, unit_cost, price, strict=True):
            # A contract that is not quoted any more is sold at what it last cost to trade.
            self._unit_cost[key], self._price[key] = float(cost), float(value)
        target = dict(zip(keys, ratio.tolist(), strict=True))
        cost = turnover = option_turnover = 0.0
        for key in [*target, *(k for k in self._units if k not in target)]:
            units = abs(target.get(key, 0.0) - self._units.get(key, 0.0))
            cost += units * self._unit_cost[key]
            turnover += units * self._price[key]
            option_turnover += units * self._price[key] if key is not None else 0.0
        self._units = {key: units for key, units in target.items() if units != 0.0}
        return cost, turnover, option_turnover


def run_block(block: Block) -> xr.Dataset:
    """Hedge one position by every arm."""
    generators = {label: copy.deepcopy(one) for label, one in block.generators.items()}
    ledger = Ledger(list(block.arms), list(block.sets), block.number, block.position)
    accounts = {label: Account() for label in block.arms}
    fixed: dict[str, list[Instrument]] = {}
    selected: dict[str, set[Key]] = {}
    with single_threaded_blas(), warnings.catch_warnings():
        warnings.simplefilter("ignore", HedgeWarning)  # every method is given its chance; the table judges
        for count, row in enumerate(block.rows.tolist()):
            today, tomorrow = block.days[count], block.days[count + 1]
            days = int((tomorrow.as_of - today.as_of).astype(int))
            growth = today.growth(days)
            book = _Book(block.position.portfolio, today, tomorrow)
            evening = _Evening(block, count, today, tomorrow, fixed)
            cubes = _Cubes(block, generators, count, row)
            closing = count == block.rows.size - 1
            ledger.open_day(
                today, tomorrow, book.value, book.change, {k: v.instruments for k, v in evening.sets.items()}
            )
            for label, arm in block.arms.items():
                offered = evening.sets[arm.instruments or next(iter(block.sets))]
                traded, found = _solve(label, arm, book, offered, cubes, accounts[label], selected, days, block)
                ratio = traded.spread(found)
                cost, turnover, options = accounts[label].trade(
                    offered.keys, ratio, offered.unit_cost, offered.today.value
                )
                carried = growth * cost
                if closing:
                    unwound = accounts[label].trade(
                        offered.keys, np.zeros(ratio.size), offered.closing_cost, offered.tomorrow.value
                    )
                    carried, turnover, options = carried + unwound[0], turnover + unwound[1], options + unwound[2]
                gain = offered.tomorrow.value - growth * offered.today.value
                error = book.value + book.change - growth * book.value - float(ratio @ gain)
                ledger.enter(
                    label, error=error, cost=carried, turnover=turnover, option_turnover=options, growth=growth,
                    ratio=ratio, is_option=offered.is_option,
                    r_squared=np.nan if found is None else float(found["r_squared"]),
                )  # fmt: skip
    return ledger.close()


class _Book:
    """The position on one evening, at its contracts' own volatilities, and what it makes by the next."""

    def __init__(self, portfolio: Portfolio, today: MarketDay, tomorrow: MarketDay) -> None:
        quantity = np.asarray(portfolio.quantities)
        now, then = today.value(portfolio.instruments), tomorrow.value(portfolio.instruments)
        self.value = float(quantity @ now.value)
        self.change = float(quantity @ (then.value - now.value))
        self.portfolio = Portfolio(list(zip(_at_market(portfolio.instruments, now), portfolio.quantities, strict=True)))


class _Offered:
    """Contracts that arms may trade on one evening, or some of them."""

    def __init__(self, instruments: list[Instrument], today: MarketDay, tomorrow: MarketDay, costs: Costs) -> None:
        self.keys = [key_of(i) for i in instruments]
        self.is_option = np.array([k is not None for k in self.keys], dtype=bool)
        self.today, self.tomorrow = today.value(instruments), tomorrow.value(instruments)
        self.instruments = _at_market(instruments, self.today)
        self.unit_cost = costs.of(instruments, self.today)
        closing = costs.of(instruments, self.tomorrow)
        # The next close may come without a volatility, and so without a vega. What has expired is paid out.
        expired = np.array([k is not None and k[0] <= tomorrow.as_of for k in self.keys], dtype=bool)
        self.closing_cost = np.where(expired, 0.0, np.where(np.isfinite(closing), closing, self.unit_cost))


class _Evening:
    """The offered sets of one evening."""

    def __init__(
        self, block: Block, count: int, today: MarketDay, tomorrow: MarketDay, fixed: dict[str, list[Instrument]]
    ) -> None:
        self.sets: dict[str, _Offered] = {}
        followed = block.followed[count]
        for label, rule in block.sets.items():
            if rule.renew == "day":
                chosen = rule.choose(today, block.position)
            else:
                chosen = fixed.setdefault(label, rule.choose(today, block.position) if count == 0 else [])
            usable = [i for i in chosen if _is_usable(i, today, followed)]
            self.sets[label] = _Offered(usable, today, tomorrow, block.costs)


def _is_usable(instrument: Instrument, today: MarketDay, followed: set[Key] | None) -> bool:
    key = key_of(instrument)
    if key is None:
        return True
    if key[0] <= today.as_of:
        return False
    return followed is None or (key in followed and (not isinstance(today, QuoteDay) or today.has(instrument)))


def _at_market(instruments: Sequence[Instrument], values: Valuation) -> list[Instrument]:
    """Contracts with their own market volatility."""
    return [
        Option(i.option_type, strike=i.strike, expiry=i.expiry, implied_vol=float(vol)) if isinstance(i, Option) else i
        for i, vol in zip(instruments, values.implied_vol, strict=True)
    ]


class _Cubes:
    """Scenario cubes of one evening, drawn when an arm asks for them."""

    def __init__(self, block: Block, generators: dict[str, Generator], count: int, row: int) -> None:
        self._block, self._generators, self._row = block, generators, row
        self._as_of = block.history["date"].values[row]
        every = block.update_every
        self._update = every is not None and count % every == 0
        self._known: xr.Dataset | None = None
        self._drawn: dict[tuple[str, bool], xr.Dataset] = {}
        for label, one in generators.items():
            if self._update and np.datetime64(one.period_[1], "D") != self._as_of.astype("datetime64[D]"):
                self._learn(label)

    def _learn(self, label: str) -> None:
        if self._known is None:
            self._known = self._block.history.isel(date=slice(0, self._row + 1))
        self._generators[label].update(self._known)

    def of(self, arm: HedgeArm) -> xr.Dataset:
        """Scenarios that an arm sees."""
        label = arm.generator or next(iter(self._generators))
        key = label, arm.weighted
        if key not in self._drawn:
            self._drawn[key] = generate(
                self._generators[label], self._block.history, as_of=self._as_of, n_scenarios=self._block.n_scenarios,
                seed=self._block.seed, reweight="arbitrage" if arm.weighted else None, dtype="float64", num_threads=1,
            )  # fmt: skip
        return self._drawn[key]


class _Traded:
    """Positions among the offered that a method was given."""

    def __init__(self, size: int, columns: npt.NDArray[np.intp]) -> None:
        self._size, self._columns = size, columns

    def spread(self, found: xr.Dataset | None) -> FloatArray:
        """Ratios over all that was offered."""
        ratio = np.zeros(self._size)
        if found is not None:
            ratio[self._columns] = found["ratio"].values
        return ratio


def _solve(
    label: str,
    arm: HedgeArm,
    book: _Book,
    offered: _Offered,
    cubes: _Cubes,
    account: Account,
    selected: dict[str, set[Key]],
    days: int,
    block: Block,
) -> tuple[_Traded, xr.Dataset | None]:
    """Ratios of one arm on one evening."""
    size = len(offered.instruments)
    nothing = _Traded(size, np.array([], dtype=np.intp)), None
    if arm.method == "none" or size == 0:
        return nothing
    columns = np.arange(size)

    def call(method: str, options: Mapping[str, Any]) -> xr.Dataset:
        extra: dict[str, Any] = {}
        if arm.cost_aware:
            keys = [offered.keys[i] for i in columns]
            extra = {"current": account.holding(keys), "half_spread": offered.unit_cost[columns]}
        try:
            return hedge(
                cubes.of(arm), book.portfolio, [offered.instruments[i] for i in columns], method=method,
                elapsed_days=days, extrapolation=block.extrapolation, num_threads=1, **extra, **options,
            )  # fmt: skip
        except VolscenError as error:
            as_of = str(cubes.of(arm)["as_of"].values)[:10]
            raise type(error)(f"arm {label!r} on {as_of}: {error}") from None

    if arm.select is not None:
        if label not in selected:
            found = call(arm.select, arm.select_options)
            selected[label] = {offered.keys[i] for i in np.flatnonzero(found["selected"].values)}
        columns = np.array([i for i in columns if offered.keys[i] in selected[label]], dtype=np.intp)
        if columns.size == 0:
            return nothing
    return _Traded(size, columns), call(arm.method, arm.options)

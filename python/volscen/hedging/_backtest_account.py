"""One position from opening to closing: every evening's hedges, and the accounts they make."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._doubts import told_together
from volscen._threads import single_threaded_blas
from volscen.errors import VolscenError
from volscen.generators import Generator
from volscen.generators._neural_options import CPU
from volscen.hedging._arguments import METHOD_OPTIONS, build_options, check_applies
from volscen.hedging._backtest_market import Key, MarketDay, QuoteDay, Valuation, key_of
from volscen.hedging._backtest_plan import ARM_OPTIONS, Costs, HedgeArm, HedgeInstruments, OpenPosition
from volscen.hedging._backtest_result import Ledger
from volscen.hedging._base import HedgeProblem, HedgeSolution
from volscen.hedging._problem import Valued
from volscen.hedging._registry import chosen_method, method_function
from volscen.portfolio import Portfolio
from volscen.portfolio._instruments import Instrument, Option
from volscen.scenarios import generate

__all__ = ["Account", "Block", "part", "pooled", "ratios", "run_block"]

FloatArray = npt.NDArray[np.float64]

_NOT_GIVEN = dict.fromkeys((*ARM_OPTIONS, "current", "half_spread", "half_spread_vol", "proportional_cost"))


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
    #: Of the generators whose networks are not evaluated on the CPU.
    devices: Mapping[str, str]


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
    with single_threaded_blas(), told_together():  # which is this position's alone in a process of its own
        for count in range(block.rows.size):
            today, tomorrow = block.days[count], block.days[count + 1]
            days = int((tomorrow.as_of - today.as_of).astype(int))
            growth = today.growth(days)
            book = _Book(block.position.portfolio, today, tomorrow)
            evening = _Evening(block, count, today, tomorrow, fixed)
            problems = _Problems(block, generators, count, book.portfolio, days)
            closing = count == block.rows.size - 1
            ledger.open_day(
                today, tomorrow, book.value, book.change, {k: v.instruments for k, v in evening.sets.items()}
            )
            for label, arm in block.arms.items():
                offered = evening.sets[arm.instruments or next(iter(block.sets))]
                ratio, r_squared = _solve(label, arm, offered, problems, accounts[label], selected)
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
                    r_squared=r_squared,
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


class _Problems:
    """Hedging problems of one evening, each made when the first arm asks for it and shared by the others."""

    def __init__(self, block: Block, generators: dict[str, Generator], count: int, book: Portfolio, days: int) -> None:
        self._block, self._generators, self._book, self._days = block, generators, book, days
        row = int(block.rows[count])
        self.as_of = block.history["date"].values[row].astype("datetime64[D]")
        every = block.update_every
        if every is not None and count % every == 0:
            known = block.history.isel(date=slice(0, row + 1))
            for one in generators.values():
                if np.datetime64(one.period_[1], "D") != self.as_of:
                    one.update(known)
        self._cubes: dict[tuple[str, bool], xr.Dataset] = {}
        self._made: dict[tuple[str, bool, int], HedgeProblem] = {}

    def of(self, arm: HedgeArm, offered: _Offered) -> HedgeProblem:
        """Problem of an arm over all that it is offered."""
        labels = arm.generators or (next(iter(self._generators)),)
        problems = [self._problem(label, arm.weighted, offered) for label in labels]
        return problems[0] if len(problems) == 1 else pooled(problems)

    def _problem(self, label: str, weighted: bool, offered: _Offered) -> HedgeProblem:
        key = label, weighted, id(offered)
        if key not in self._made:
            valued = Valued(
                self._cube(label, weighted), self._book, offered.instruments, step=None, elapsed_days=self._days,
                extrapolation=self._block.extrapolation, num_threads=1,
            )  # fmt: skip
            self._made[key] = replace(valued.problem, vol_slopes=cache(valued.problem.vol_slopes))
        return self._made[key]

    def _cube(self, label: str, weighted: bool) -> xr.Dataset:
        if (label, weighted) not in self._cubes:
            cube = generate(
                self._generators[label], self._block.history, as_of=self.as_of, n_scenarios=self._block.n_scenarios,
                seed=self._block.seed, reweight="arbitrage" if weighted else None, dtype="float64", num_threads=1,
                device=self._block.devices.get(label, CPU),
            )  # fmt: skip
            self._cubes[label, weighted] = cube
        return self._cubes[label, weighted]


def ratios(
    problem: HedgeProblem, method: str, options: Mapping[str, Any], held: FloatArray | None, unit_cost: FloatArray
) -> HedgeSolution:
    """Solve a problem as :func:`volscen.hedge` does; what is held and what trading costs where ``held`` is given."""
    chosen = chosen_method(method, problem.traded)
    given = _NOT_GIVEN | dict(options)
    check_applies(chosen, {name: value for name, value in given.items() if name in METHOD_OPTIONS})
    if held is not None:
        given |= {"current": held, "half_spread": unit_cost}
    return method_function(chosen)(problem, build_options(problem.traded, problem.spot, given))


def pooled(problems: Sequence[HedgeProblem]) -> HedgeProblem:
    """Scenarios of several generators together, equal in mass; slopes of volatility are averaged."""

    def slopes() -> tuple[FloatArray, FloatArray]:
        each = [problem.vol_slopes() for problem in problems]
        return np.mean([book for book, _ in each], axis=0), np.mean([traded for _, traded in each], axis=0)

    return replace(
        problems[0],
        portfolio_change=np.concatenate([problem.portfolio_change for problem in problems]),
        instrument_change=np.concatenate([problem.instrument_change for problem in problems]),
        weight=np.concatenate([problem.weight for problem in problems]) / len(problems),
        vol_slopes=slopes,
    )


def part(problem: HedgeProblem, columns: npt.NDArray[np.intp]) -> HedgeProblem:
    """The same with some of the instruments."""
    if columns.size == len(problem.labels):
        return problem
    traded = problem.traded
    kept = {
        f.name: getattr(traded, f.name)[columns]
        for f in fields(traded)
        if isinstance(getattr(traded, f.name), np.ndarray)
    }
    return replace(
        problem,
        traded=replace(traded, labels=tuple(traded.labels[i] for i in columns), **kept),
        instrument_change=problem.instrument_change[:, columns],
        vol_slopes=lambda: (problem.vol_slopes()[0], problem.vol_slopes()[1][columns]),
    )


def _solve(
    label: str,
    arm: HedgeArm,
    offered: _Offered,
    problems: _Problems,
    account: Account,
    selected: dict[str, set[Key]],
) -> tuple[FloatArray, float]:
    """Ratios of one arm on one evening over all that it was offered, and the R-squared in sample."""
    ratio = np.zeros(len(offered.instruments))
    if arm.method == "none" or ratio.size == 0:
        return ratio, 0.0
    try:
        problem = problems.of(arm, offered)
        columns = np.arange(ratio.size)
        held = account.holding(offered.keys) if arm.cost_aware else None
        if arm.select is not None:
            if label not in selected:
                found = ratios(problem, arm.select, arm.select_options, None, offered.unit_cost)
                selected[label] = {offered.keys[i] for i in np.flatnonzero(found.selected)}
            columns = np.array([i for i in columns if offered.keys[i] in selected[label]], dtype=np.intp)
            problem = part(problem, columns)
        if columns.size:
            held = None if held is None else held[columns]
            solution = ratios(problem, arm.method, arm.options, held, offered.unit_cost[columns])
            ratio[columns] = solution.ratio
    except VolscenError as error:
        raise type(error)(f"arm {label!r} on {problems.as_of}: {error}") from None
    y, w = problem.portfolio_change, problem.weight
    left = y - problem.instrument_change @ ratio[columns]
    return ratio, 1 - float(w @ np.square(left - w @ left)) / float(w @ np.square(y - w @ y))

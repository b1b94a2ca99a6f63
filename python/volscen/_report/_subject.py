"""What a page is about: the scenarios of one date and what goes with them, checked once and read once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import risk, schema
from volscen._elapsed import elapsed_days_of, step_labels
from volscen.errors import InputError
from volscen.portfolio import Portfolio, pnl
from volscen.portfolio._contracts import StartingState, one_date
from volscen.portfolio._portfolio import as_portfolio
from volscen.surface import interpolate_vol

__all__ = ["Subject"]

FloatArray = npt.NDArray[np.float64]

#: Tenors that figures follow, days, where the grid holds them.
_TENORS = (30, 91, 365)


@dataclass
class Subject:
    """Scenarios of one date, and the history and the book beside them.

    Attributes
    ----------
    ds : xarray.Dataset
        In memory, validated.
    history : xarray.Dataset or None
        On the same grid, cut at the date the scenarios start from.
    book : Portfolio or None
    levels : tuple of float
        Tail probabilities, largest first.
    elapsed_days : array_like or None
        As given.
    cautions : list of str
        What the reader must beware of, collected on the way.
    """

    ds: xr.Dataset
    history: xr.Dataset | None
    book: Portfolio | None
    levels: tuple[float, ...]
    elapsed_days: Any
    cautions: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, scenarios: Any, history: Any, portfolio: Any, alpha: Any, elapsed_days: Any) -> Subject:
        """Read and check everything."""
        ds = one_date(_read(scenarios, "scenarios", schema.SCENARIOS), load=False)
        if "beta" not in ds.attrs:
            raise InputError(
                "the weights of a lazy cube are not known yet; pass volscen.reweight(ds) or a computed cube"
            )
        ds = one_date(ds)
        if "as_of" not in ds.coords:
            raise InputError("scenarios have no coordinate as_of; assign the date they start from")
        past = None
        if history is not None:
            past = schema.validate(_read(history, "history", schema.HISTORY), schema=schema.HISTORY)
            schema.check_same_grid(ds["tau"].values, ds["moneyness"].values, past, "the scenarios")
            past = past.isel(date=past["date"].values <= ds["as_of"].values)
            if past.sizes["date"] < 2:
                raise InputError(
                    f"history begins after {_day(ds)}, the date the scenarios start from; pass the days before it"
                )
            past = past.compute()
        book = None
        if portfolio is not None:
            book = (
                Portfolio.from_table(portfolio)
                if isinstance(portfolio, (str, Path)) or hasattr(portfolio, "columns")
                else as_portfolio(portfolio)
            )
        return cls(ds, past, book, _levels(alpha), elapsed_days)

    # ------------------------------------------------------------------------------------------------- scenarios
    @cached_property
    def weight(self) -> FloatArray:
        """Weights of the scenarios."""
        return schema.check_weights(self.ds["weight"].values)

    @cached_property
    def surfaces(self) -> npt.NDArray[Any]:
        """Implied volatilities (scenario, step, tau, moneyness)."""
        return np.asarray(self.ds["implied_vol"].transpose("scenario", "step", "tau", "moneyness").values)

    @cached_property
    def start(self) -> StartingState:
        """Prices and curves that the scenarios start from."""
        return StartingState.of(self.ds)

    @cached_property
    def growth(self) -> FloatArray:
        """Spot of each scenario and step over that at the start, less 1."""
        spot = self.ds["spot"].transpose("scenario", "step").values.astype(np.float64)
        return np.asarray(spot / self.start.spot - 1)

    @cached_property
    def labels(self) -> list[int]:
        """Trading days ahead of each step."""
        return step_labels(self.ds)

    @cached_property
    def names(self) -> list[str]:
        """What each scenario is called: its number, or its name where the scenarios have names."""
        named = "name" in self.ds.coords and self.ds["name"].dims == ("scenario",)
        numbers = self.ds["scenario"].values if "scenario" in self.ds.coords else np.arange(self.weight.size)
        return [str(v) for v in (self.ds["name"].values if named else numbers)]

    @property
    def day(self) -> str:
        """Date the scenarios start from."""
        return _day(self.ds)

    @cached_property
    def tenors(self) -> list[float]:
        """Years of the tenors that figures follow; the first of the grid where it holds none of the usual ones."""
        tau = self.start.tau
        inside = [d / 365 for d in _TENORS if tau[0] <= d / 365 * (1 + 1e-9) and d / 365 <= tau[-1] * (1 + 1e-9)]
        return inside or [float(tau[0])]

    @cached_property
    def atm(self) -> FloatArray:
        """At-the-money volatility (scenario, step, tenor)."""
        return self.at_the_money(self.surfaces)

    @cached_property
    def atm0(self) -> FloatArray:
        """At-the-money volatility of each tenor at the start."""
        return self.at_the_money(self.start.implied_vol)

    def at_the_money(self, surfaces: npt.NDArray[Any]) -> FloatArray:
        """Volatility at K/F = 1 and the tenors, of surfaces on the grid: (..., tenor)."""
        tenors = np.array(self.tenors)
        return interpolate_vol(surfaces, self.start.tau, self.start.moneyness, tenors, np.ones(tenors.size))

    def chosen_steps(self, most: int = 6) -> list[int]:
        """Positions of some steps, the first and the last among them."""
        n = len(self.labels)
        return sorted({int(i) for i in np.linspace(0, n - 1, min(n, most)).round()} | {n - 1})

    @property
    def horizon(self) -> str:
        """How far the scenarios look, in words."""
        return f"{self.labels[-1]} {self.period}{'' if self.labels[-1] == 1 else 's'}"

    @cached_property
    def period(self) -> str:
        """What a step is."""
        per_year = float(self.ds.attrs["periods_per_year"])
        return "trading day" if 240 <= per_year <= 262 else "day" if per_year == 365 else "step"

    @property
    def unit(self) -> str:
        """What a step is, in a word."""
        return self.period.rpartition(" ")[2]

    @cached_property
    def past_index(self) -> FloatArray:
        """Log of the index on the dates of the history, 0 on the first."""
        assert self.history is not None
        # Not of the spot: corporate actions are taken out of the returns.
        return np.concatenate([[0.0], np.cumsum(self.history["log_return"].values[1:].astype(np.float64))])

    # ------------------------------------------------------------------------------------------------------ book
    @cached_property
    def profit(self) -> xr.Dataset:
        """Profit and loss of the book, by line."""
        return pnl(self.ds, self.book, elapsed_days=self.elapsed_days)  # type: ignore[arg-type]

    @cached_property
    def judged(self) -> FloatArray:
        """What tails are of, per scenario: the book's profit at the last step, or else that of one unit of spot."""
        if self.book is None:
            return np.asarray(self.growth[:, -1] * self.start.spot)
        return np.asarray(self.profit["total"].isel(step=-1).values)

    @cached_property
    def tail(self) -> xr.Dataset:
        """The worst scenarios, at the smallest of the levels that holds some of them."""
        source = self.judged if self.book is None else self.profit
        return risk.tail(self.ds, source, alpha=self.levels[-1], tau=self.tenors[0])

    @cached_property
    def calendar_days(self) -> FloatArray | None:
        """Calendar days to each step, where they can be counted."""
        try:
            return elapsed_days_of(self.ds, self.start.as_of, self.elapsed_days)
        except InputError:
            if self.elapsed_days is not None:
                raise
            return None


def _read(value: Any, name: str, kind: str) -> Any:
    if isinstance(value, (str, Path)):
        from volscen._io import read_dataset

        return read_dataset(value, kind=kind)
    if not isinstance(value, xr.Dataset):
        raise InputError(f"{name} must be a dataset of volscen or the path of one, not {type(value).__name__}")
    return value


def _day(ds: xr.Dataset) -> str:
    return str(ds["as_of"].values.astype("datetime64[D]"))


def _levels(alpha: Any) -> tuple[float, ...]:
    try:
        levels = np.unique(np.asarray(alpha, dtype=np.float64))
    except (TypeError, ValueError):
        raise InputError(f"alpha must be tail probabilities in (0, 1), not {alpha!r}") from None
    if not levels.size or not np.all((levels > 0) & (levels < 1)):
        raise InputError(f"alpha must be tail probabilities in (0, 1), not {alpha!r}")
    return tuple(float(a) for a in levels[::-1])

"""A hedging problem from scenarios: values, sensitivities and slopes of the book and of the instruments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.errors import InputError
from volscen.hedging._base import HedgeProblem, Positions
from volscen.hedging._slopes import scenario_slopes
from volscen.portfolio import Portfolio
from volscen.portfolio._instruments import Instrument
from volscen.portfolio._revalue import Revaluation, step_labels, warn_floored

__all__ = ["Valued"]

FloatArray = npt.NDArray[np.float64]

#: A portfolio whose changes have a standard deviation below this share of the spot price does not move.
_NO_MOVE = 1e-12


class Valued:
    """The problem, and what the result says beside its solution."""

    def __init__(
        self,
        ds: xr.Dataset,
        book: Portfolio,
        instruments: Sequence[Instrument],
        *,
        step: int | None,
        elapsed_days: npt.ArrayLike | None,
        extrapolation: str,
        num_threads: int | None,
    ) -> None:
        labels = step_labels(ds)
        position = _position(labels, step)
        self.step = labels[position]
        own, other = (
            Revaluation(ds, held, elapsed_days=elapsed_days, extrapolation=extrapolation, num_threads=num_threads)
            for held in (book.instruments, instruments)
        )
        self.start = own.start
        self.contracts = other.contracts
        self.elapsed_days = float(own.elapsed[position])
        quantity = np.asarray(book.quantities, dtype=np.float64)
        held = _positions(own, quantity)
        traded = _positions(other, np.zeros(len(instruments)))
        total, floored = own.total(position, quantity)
        warn_floored(own.contracts, floored, stacklevel=4)
        values, floored = other.values(position)
        warn_floored(other.contracts, floored, stacklevel=4)
        self.extrapolated_weight = np.where(other.contracts.off_grid, 1.0, other.off_grid_weight(position))
        self.extrapolated = self.extrapolated_weight > 0

        def slopes() -> tuple[FloatArray, FloatArray]:
            return scenario_slopes(own, position), scenario_slopes(other, position)

        values -= traded.value
        self.problem = HedgeProblem(
            book=held,
            traded=traded,
            portfolio_change=total - held.total("value"),
            instrument_change=values,
            weight=own.weight,
            spot=own.start.spot,
            vol_slopes=slopes,
        )
        y, w = self.problem.portfolio_change, self.problem.weight
        self.variance = float(w @ np.square(y - w @ y))
        if self.variance <= (_NO_MOVE * own.start.spot) ** 2:
            raise InputError("the portfolio is worth the same in every scenario; there is nothing to hedge")


def _position(labels: list[int], step: int | None) -> int:
    if step is None:
        return len(labels) - 1
    if np.ndim(step) or step not in labels:
        raise InputError(f"step {step!r} is not one of the scenarios' steps {labels[0]} to {labels[-1]}")
    return labels.index(step)


def _positions(work: Revaluation, quantity: FloatArray) -> Positions:
    value0, delta, vega = work.at_start()
    c = work.contracts
    return Positions(
        labels=c.labels,
        quantity=quantity,
        is_option=c.is_option,
        strike=c.strike,
        tau=c.tau,
        log_moneyness=np.log(c.moneyness),
        value=value0,
        delta=delta,
        vega=vega,
    )

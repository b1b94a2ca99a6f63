"""Revaluation of instruments on every scenario: remaining time, carried forward, discounting, volatility.

A contract keeps its own market volatility. What a scenario changes is the surface under it, so the
difference between the contract's volatility and the surface is fixed at the start and added to the scenario's
surface where the contract then lies.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from copy import copy

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import _core
from volscen._array import extrapolation_code
from volscen._elapsed import elapsed_days_of, squared_returns, step_labels
from volscen._threads import resolve_num_threads
from volscen.errors import InputError, VolscenWarning
from volscen.portfolio._contracts import DAYS_PER_YEAR, Contracts, StartingState, one_date
from volscen.portfolio._fair_variance import VIX_YEARS, fair_vol, vix_vol
from volscen.portfolio._greeks import Greeks, greeks_at_start, vix_payoff, vix_sign
from volscen.portfolio._instruments import Cash, Forward, Instrument, VarianceSwap, VixPayoff
from volscen.surface._interpolate import EDGE_RTOL, is_off_grid

__all__ = ["VOL_FLOOR", "Revaluation", "RevaluationWarning", "revalue", "step_labels"]

FloatArray = npt.NDArray[np.float64]

#: Lowest volatility a contract is valued at; scenarios that would fall below are counted and warned about.
VOL_FLOOR = 1e-3

#: Meaning and unit of what is computed on every scenario.
_CUBES = {
    "value": ("value of one unit", "currency"),
    "scenario_delta": ("change in value per unit of spot, on the scenario", "1"),
    "scenario_vega": ("change in value per 1.00 of volatility, on the scenario", "currency"),
}

#: Meaning and unit of what is computed at the start.
_AT_START = {
    "value": ("value of one unit at the start", "currency"),
    "delta": ("change in value per unit of spot", "1"),
    "gamma": ("change in delta per unit of spot", "1/currency"),
    "vega": ("change in value per 1.00 of volatility", "currency"),
    "theta": ("change in value per year, spot and volatility fixed", "currency/year"),
    "vanna": ("change in delta per 1.00 of volatility", "1"),
    "volga": ("change in vega per 1.00 of volatility", "currency"),
}

#: Remaining years below which an option counts as expired (under a second: rounding of day counts).
_EXPIRED = 1e-8


class RevaluationWarning(VolscenWarning):
    """A valuation had to be bounded; the message counts where."""


class Revaluation:
    """Values of instruments at the start and on the scenarios of a dataset, one step after the other."""

    def __init__(
        self,
        ds: xr.Dataset,
        instruments: Sequence[Instrument],
        *,
        elapsed_days: npt.ArrayLike | None = None,
        extrapolation: str = "flat_vol",
        num_threads: int | None = None,
    ) -> None:
        self.start = StartingState.of(ds)
        self.contracts = Contracts.of(instruments, self.start, extrapolation=extrapolation)
        self.spot = ds["spot"].transpose("scenario", "step").values.astype(np.float64)
        self.weight = ds["weight"].values.astype(np.float64)
        self.elapsed = elapsed_days_of(ds, self.start.as_of, elapsed_days)
        surfaces = ds["implied_vol"].transpose("scenario", "step", "tau", "moneyness").values
        single = surfaces.dtype == np.float32
        self._surfaces = surfaces if single else surfaces.astype(np.float64, copy=False)
        self._extrapolation = extrapolation_code(extrapolation)
        self._threads = resolve_num_threads(num_threads)
        c = self.contracts
        self._by_kernel = c.is_option | c.is_underlying
        self._squares = squared_returns(ds) if c.which(VarianceSwap).size else np.empty(0)

    def at_start(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Value, spot delta and vega of one unit of each instrument at ``as_of``, each of shape (n,)."""
        greeks = self.greeks_at_start()
        return greeks.value, greeks.delta, greeks.vega

    def greeks_at_start(self) -> Greeks:
        """Value and sensitivities of one unit of each instrument at ``as_of``."""
        return greeks_at_start(self.start, self.contracts)

    def values(self, step: int) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Value of one unit of each instrument on each scenario of a step (position, not label), shape (N, n).

        Also, per instrument, the number of scenarios kept at the volatility floor.
        """
        out = np.empty((self.spot.shape[0], self.contracts.tau.size))
        return out, self.write(step, (out,))

    def write(self, step: int, out: tuple[FloatArray, ...]) -> npt.NDArray[np.int64]:
        """Write the values of a step to the first array, delta and vega to two others if there are three.

        Each is of shape (N, n) with contiguous instruments. Returns the count of :meth:`values`.
        """
        floored = self._evaluate(step, out, np.empty(0))
        for column, found, low in self._others(step):
            floored[column] = low
            for cube, values in zip(out, found, strict=False):
                cube[:, column] = values
        return floored

    def total(self, step: int, quantity: FloatArray) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Value of quantities of the instruments on each scenario of a step, shape (N,), and floored as above."""
        out = np.empty(self.spot.shape[0])
        others = list(self._others(step))
        live = quantity.copy()
        live[[column for column, _, _ in others]] = 0
        floored = self._evaluate(step, (out,), live)
        for column, (value, *_), low in others:
            floored[column] = low
            out += quantity[column] * value
        return out, floored

    def vols(self, step: int, rows: slice = slice(None)) -> FloatArray:
        """Volatility of each contract on each scenario of a step, shape (N, n); its own at the start once it expired.

        Fair volatility for variance swaps and the volatility index; zero for what has none. ``rows`` selects scenarios.
        """
        c, spot, surfaces = self.contracts, self.spot[rows, step], self._surfaces[rows, step]
        remaining = self._remaining(step)
        live = np.flatnonzero(c.is_option & (remaining > 0))
        t = remaining[live]
        out = np.empty((spot.size, 0))
        if live.size:
            grid = (self.start.tau, self.start.moneyness)
            moneyness = c.strike[live] / self.start.carry(t) / spot[:, None]
            out = _core.interpolate_vol(surfaces, *grid, t, moneyness, self._extrapolation, self._threads)
            out += c.basis[live]
            np.maximum(out, VOL_FLOOR, out=out)
        if live.size < c.tau.size:
            found = out
            out = np.tile(np.where(np.isnan(c.implied_vol), 0.0, c.implied_vol), (spot.size, 1))
            out[:, live] = found
        for column in map(int, np.flatnonzero(~self._by_kernel)):
            if isinstance(c.instruments[column], VixPayoff):
                out[:, column] = self._vix_vol(surfaces)
            elif isinstance(c.instruments[column], VarianceSwap) and remaining[column] > 0:
                out[:, column] = self._fair_vol(surfaces, column, float(remaining[column]))[0]
        return out

    def on(self, step: int, spot: FloatArray, surfaces: FloatArray) -> Revaluation:
        """Return the same contracts on other scenarios (N,), (N, J, I) of one step, reached at once from the start."""
        other = copy(self)
        other.spot, other._surfaces = spot[:, None], surfaces[:, None]
        other.elapsed = self.elapsed[step : step + 1]
        other.weight = np.full(spot.size, 1 / spot.size)
        other._squares = np.square(np.log(spot / self.start.spot))[:, None]
        return other

    def off_grid_weight(self, step: int) -> FloatArray:
        """Weight of the scenarios of a step in which each live option lies off the surface's grid, shape (n,)."""
        start, c = self.start, self.contracts
        remaining = self._remaining(step)
        live = c.is_option & (remaining > 0)
        # Moneyness falls with the spot: off the grid are the spots below one bound and above another.
        order = np.argsort(self.spot[:, step])
        spot, weight = self.spot[order, step], self.weight[order]
        below, above = (np.concatenate([[0.0], np.cumsum(w)]) for w in (weight, weight[::-1]))
        scale = c.strike[live] / start.carry(remaining[live])
        low = np.searchsorted(spot, scale / start.moneyness[-1] * (1 - EDGE_RTOL), side="left")
        high = np.searchsorted(spot, scale / start.moneyness[0] * (1 + EDGE_RTOL), side="right")
        outside = below[low] + above[spot.size - high]
        off_tau = is_off_grid(start.tau, start.moneyness, remaining[live], start.moneyness[0])
        out = np.zeros(c.tau.size)
        out[live] = np.where(off_tau, below[-1], outside)
        for column in np.flatnonzero(~self._by_kernel):
            instrument = c.instruments[column]
            swap_lives = isinstance(instrument, VarianceSwap) and remaining[column] > 0
            if swap_lives or isinstance(instrument, VixPayoff):
                years = remaining[column] if swap_lives else VIX_YEARS
                out[column] = below[-1] * is_off_grid(start.tau, start.moneyness, years, start.moneyness[0])
        return out

    def _remaining(self, step: int) -> FloatArray:
        """Years left to each option; zero for one that has expired, and for the underlying."""
        remaining = self.contracts.tau - self.elapsed[step] / DAYS_PER_YEAR
        return np.where(remaining > _EXPIRED, remaining, 0.0)

    def _evaluate(self, step: int, out: tuple[FloatArray, ...], quantity: FloatArray) -> npt.NDArray[np.int64]:
        c = self.contracts
        remaining = self._remaining(step)
        # The underlying is a call struck at nothing that pays at once. Forwards, cash, swaps and payoffs on the index
        # hold their place in the same way; callers put the values of :meth:`_others` over it.
        remaining = np.where(c.is_option, remaining, 0.0)
        return _core.revalue(
            self._surfaces[:, step],
            self.start.tau,
            self.start.moneyness,
            self.spot[:, step],
            np.where(c.is_option, c.strike, 0.0),
            remaining,
            c.is_call | ~c.is_option,
            self.start.carry(remaining),
            self.start.discount_factor(remaining),
            np.where(c.is_option, c.basis, 0.0),
            quantity,
            VOL_FLOOR,
            self._extrapolation,
            out,
            self._threads,
        )

    def _others(self, step: int) -> Iterator[tuple[int, tuple[FloatArray | float, ...], int]]:
        """Column, (value, delta, vega) and floored scenarios of what the kernel does not value on a step."""
        c, start, spot = self.contracts, self.start, self.spot[:, step]
        remaining = self._remaining(step)
        expired = remaining == 0
        for column in map(int, np.flatnonzero(expired & ~np.isnan(c.tau))):
            settled = int(np.argmax(self.elapsed / DAYS_PER_YEAR >= c.tau[column] - _EXPIRED))
            if settled < step or not c.is_option[column]:
                slope = float(settled == step and isinstance(c.instruments[column], Forward))
                yield column, (self._payoff(column, settled) * self._interest(settled, step), slope, 0.0), 0
        for column in map(int, np.flatnonzero(~self._by_kernel)):
            instrument, t = c.instruments[column], float(remaining[column])
            if isinstance(instrument, Cash):
                yield column, (np.full(spot.size, self._interest(None, step)), 0.0, 0.0), 0
            elif isinstance(instrument, VixPayoff):
                sign = vix_sign(instrument.option_type)
                value = vix_payoff(sign, 100 * self._vix_vol(self._surfaces[:, step]), float(c.strike[column]))
                yield column, (value, 0.0, np.where(value > 0, 100 * sign, 0.0)), 0
            elif not expired[column]:
                discount = float(start.discount_factor(np.array(t)))
                if isinstance(instrument, Forward):
                    carry = float(start.carry(np.array(t)))
                    value = np.asarray(discount * (carry * spot - c.strike[column]))
                    yield column, (value, discount * carry, 0.0), 0
                else:
                    vol, low = self._fair_vol(self._surfaces[:, step], column, t)
                    variance = c.realised[column] + self._squares[:, step] + vol**2 * t
                    value = np.asarray(discount * (variance / c.term[column] - c.strike[column]))
                    yield column, (value, 0.0, np.asarray(discount * 2 * vol * t / c.term[column])), low

    def _vix_vol(self, surfaces: npt.NDArray[np.floating]) -> FloatArray:
        return vix_vol(surfaces, self.start.tau, self.start.moneyness, num_threads=self._threads)

    def _fair_vol(self, surfaces: npt.NDArray[np.floating], column: int, years: float) -> tuple[FloatArray, int]:
        """Fair volatility that a contract has on each scenario of a step, and how many were bounded."""
        found = fair_vol(
            surfaces,
            self.start.tau,
            self.start.moneyness,
            years,
            extrapolation=self._extrapolation,
            num_threads=self._threads,
        )
        vol = found + self.contracts.basis[column]
        return np.maximum(vol, VOL_FLOOR), int(np.count_nonzero(vol < VOL_FLOOR))

    def _payoff(self, column: int, settled: int) -> FloatArray:
        """What an instrument pays on each scenario at the step on which it settles."""
        c = self.contracts
        if isinstance(c.instruments[column], VarianceSwap):
            return np.asarray((c.realised[column] + self._squares[:, settled]) / c.term[column] - c.strike[column])
        paid = self.spot[:, settled] - c.strike[column]
        if not c.is_option[column]:
            return np.asarray(paid)
        return np.asarray(np.maximum(paid if c.is_call[column] else -paid, 0.0))

    def _interest(self, since: int | None, step: int) -> float:
        """Growth of money on account from a step (from the start when None) to another, at the curve's forwards."""
        ends = np.array([0.0 if since is None else self.elapsed[since], self.elapsed[step]]) / DAYS_PER_YEAR
        return self.start.growth(*ends)


def revalue(
    ds: xr.Dataset,
    instruments: Sequence[Instrument],
    *,
    elapsed_days: npt.ArrayLike | None = None,
    extrapolation: str = "flat_vol",
    greeks: bool = False,
    num_threads: int | None = None,
) -> xr.Dataset:
    """Value one unit of each instrument at the start and on every scenario and step.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios of one date, following ``volscen/scenarios/1``.
    instruments : sequence of Option, Underlying, and others of :mod:`volscen.portfolio`
        What to value.
    elapsed_days : float or array_like, shape (step,), optional
        Calendar days from ``as_of`` to each step. Default: to the sessions of the exchange that the dataset's attribute
        ``calendar`` names, so that a Friday's next step lies 3 days ahead, or 4 where Monday is a holiday.
    extrapolation : {"flat_vol", "flat_total_variance", "linear"}
        What holds outside the surface's grid, as for :func:`volscen.surface.interpolate_vol`.
    greeks : bool
        Whether to return delta and vega on the scenarios as well.
    num_threads : int, optional
        Threads to use, all available by default. The result is the same for any number.

    Returns
    -------
    xarray.Dataset
        ``value(scenario, step, instrument)``; at the start, per instrument, ``value0``, ``delta`` and ``gamma``
        (derivatives in the spot), ``vega`` and ``volga`` (in the contract's volatility, per 1.00), ``vanna`` (in
        both) and ``theta`` (in calendar time, per year, spot and volatility fixed); ``extrapolated_weight(step,
        instrument)``, the weight of the scenarios in which the contract lies off the surface's grid;
        ``vol_floored(step, instrument)``, the number of scenarios bounded at ``VOL_FLOOR``; ``weight``. With
        ``greeks``, ``scenario_delta`` and ``scenario_vega`` with the dimensions of ``value``: like ``delta`` and
        ``vega``, at the volatility that the contract has there; zero for what has been paid out before.
        Coordinates of ``instrument``: its label, ``strike``, ``tau`` and ``contract_vol`` as fixed against
        the start (NaN for what has none; fair volatility of variance swaps and the volatility index), and
        ``extrapolated``, whether it lies off the grid at the start or in any scenario that has weight.

    Warns
    -----
    RevaluationWarning
        If volatilities fell below the floor, which a contract's volatility far below the surface can cause.

    Raises
    ------
    InputError
        If ``ds`` holds several dates, an option has expired at ``as_of``, ``elapsed_days`` does not fit, or
        ``extrapolation`` names no rule.

    Notes
    -----
    With t the remaining time and S the scenario's spot: forward F = S * F0(t)/S0 and discount factor D(t),
    both log-linear in t through 1 at t = 0; after the last maturity the carry of the last segment and the last zero
    rate go on, as in :func:`volscen.build_surface`. Volatility is the contract's own at the start plus the change of
    the surface between where the contract lay and where it now lies, sigma0 + [surface(t, K/F) - surface0(t0, K/F0)],
    by the rule of :func:`volscen.surface.interpolate_vol`. The price is Black (1976), by the kernel of
    :func:`volscen.revaluation.price`. An option that expires within the horizon settles at its intrinsic value
    at the spot of the first step on or after the expiry. What was paid is carried on as :class:`Cash`, at the forward
    rates of the starting curve; so are the payments of forwards and variance swaps.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=1000, seed=1)
    >>> call = volscen.Option("call", moneyness=1, tau=0.25)
    >>> volscen.portfolio.revalue(cube, [volscen.Underlying(), call]).value.dims
    ('scenario', 'step', 'instrument')
    """
    if isinstance(instruments, str) or not isinstance(instruments, Sequence):
        raise InputError("instruments must be a list of volscen.Option and volscen.Underlying")
    if not instruments:
        raise InputError("instruments is empty; give at least one")
    work = Revaluation(
        one_date(ds), instruments, elapsed_days=elapsed_days, extrapolation=extrapolation, num_threads=num_threads
    )
    c = work.contracts
    n_scenarios, n_steps = work.spot.shape
    n = c.tau.size
    names = ("value", "scenario_delta", "scenario_vega") if greeks else ("value",)
    cubes = {name: np.empty((n_scenarios, n_steps, n)) for name in names}
    extrapolated_weight, floored = np.empty((n_steps, n)), np.empty((n_steps, n), dtype=np.int64)
    for step in range(n_steps):
        floored[step] = work.write(step, tuple(cube[:, step] for cube in cubes.values()))
        extrapolated_weight[step] = work.off_grid_weight(step)
    warn_floored(c, floored.sum(axis=0))
    greeks0 = work.greeks_at_start()
    out = xr.Dataset(
        {
            **{name: (("scenario", "step", "instrument"), cubes[name], _units(*_CUBES[name])) for name in cubes},
            **{
                "value0" if name == "value" else name: ("instrument", getattr(greeks0, name), _units(*text))
                for name, text in _AT_START.items()
            },
            "extrapolated_weight": (
                ("step", "instrument"),
                extrapolated_weight,
                _units("weight of the scenarios valued off the surface's grid", "1"),
            ),
            "vol_floored": (
                ("step", "instrument"),
                floored,
                _units("scenarios bounded at the volatility floor", "1"),
            ),
            "weight": ("scenario", work.weight, dict(ds["weight"].attrs)),
        },
        coords={
            **contract_coordinates(c),
            "elapsed_days": ("step", work.elapsed, _units("calendar days since as_of", "day")),
            "extrapolated": ("instrument", c.off_grid | (extrapolated_weight > 0).any(axis=0)),
            **{name: ds[name] for name in ("scenario", "step", "as_of") if name in ds.coords},
        },
    )
    return out


def contract_coordinates(c: Contracts) -> dict[str, tuple[str, npt.ArrayLike, dict[str, str]]]:
    """Coordinates that say what each instrument is."""
    strike = np.where([isinstance(i, VarianceSwap | VixPayoff) for i in c.instruments], np.nan, c.strike)
    return {
        "instrument": ("instrument", np.array(c.labels, dtype=object), {"long_name": "instrument"}),
        "strike": ("instrument", strike, _units("strike; NaN for what has none in currency", "currency")),
        "tau": ("instrument", c.tau, _units("time to expiry at the start; NaN for what has none", "year")),
        "contract_vol": (
            "instrument",
            c.implied_vol,
            _units("volatility at the start; NaN for what has none", "1"),
        ),
    }


def warn_floored(c: Contracts, floored: npt.NDArray[np.int64], *, stacklevel: int = 3) -> None:
    """Warn when volatilities were bounded, naming the instruments and counting scenarios."""
    if floored.any():
        counts = ", ".join(f"{c.labels[i]} ({floored[i]})" for i in np.flatnonzero(floored)[:5])
        warnings.warn(
            f"volatility fell below {VOL_FLOOR} and was kept there, in scenarios of: {counts}; the "
            "implied_vol of these contracts lies far below the surface",
            RevaluationWarning,
            stacklevel=stacklevel,
        )


def _units(long_name: str, units: str) -> dict[str, str]:
    return {"long_name": long_name, "units": units}

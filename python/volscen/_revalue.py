"""Revaluation of instruments on every scenario: remaining time, carried forward, discounting, volatility.

A contract keeps its own market volatility. What a scenario changes is the surface under it, so the
difference between the contract's volatility and the surface is fixed at the start and added to the scenario's
surface where the contract then lies.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import _core, black
from volscen._array import extrapolation_code
from volscen._contracts import DAYS_PER_YEAR, Contracts, StartingState, one_date
from volscen._instruments import Instrument
from volscen._threads import resolve_num_threads
from volscen.errors import InputError
from volscen.surface._interpolate import EDGE_RTOL, is_off_grid

__all__ = ["VOL_FLOOR", "Revaluation", "RevaluationWarning", "revalue"]

FloatArray = npt.NDArray[np.float64]

#: Lowest volatility a contract is valued at; scenarios that would fall below are counted and warned about.
VOL_FLOOR = 1e-3

#: Meaning and unit of what is computed on every scenario.
_CUBES = {
    "value": ("value of one unit", "currency"),
    "scenario_delta": ("change in value per unit of spot, on the scenario", "1"),
    "scenario_vega": ("change in value per 1.00 of volatility, on the scenario", "currency"),
}

#: Remaining years below which an option counts as expired (under a second: rounding of day counts).
_EXPIRED = 1e-8


class RevaluationWarning(UserWarning):
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

    def at_start(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Value, spot delta and vega of one unit of each instrument at ``as_of``, each of shape (n,)."""
        c = self.contracts
        value, delta, vega = np.full(c.tau.size, self.start.spot), np.ones(c.tau.size), np.zeros(c.tau.size)
        o = c.is_option
        carry, discount = self.start.carry(c.tau[o]), self.start.discount_factor(c.tau[o])
        arguments = (self.start.spot * carry, c.strike[o], c.tau[o], c.implied_vol[o])
        value[o] = black.price(*arguments, c.is_call[o], discount)
        delta[o] = carry * black.delta(*arguments, c.is_call[o], discount)  # the forward moves with the spot
        vega[o] = black.vega(*arguments, discount_factor=discount)
        return value, delta, vega

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
        for column, payoff in self._settled_before(step):
            out[0][:, column] = payoff
            for greek in out[1:]:
                greek[:, column] = 0.0
        return floored

    def total(self, step: int, quantity: FloatArray) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Value of quantities of the instruments on each scenario of a step, shape (N,), and floored as above."""
        out = np.empty(self.spot.shape[0])
        settled = list(self._settled_before(step))
        live = quantity.copy()
        live[[column for column, _ in settled]] = 0
        floored = self._evaluate(step, (out,), live)
        for column, payoff in settled:
            out += quantity[column] * payoff
        return out, floored

    def off_grid_weight(self, step: int) -> FloatArray:
        """Weight of the scenarios of a step in which each live option lies off the surface's grid, shape (n,)."""
        start, c = self.start, self.contracts
        remaining = self._remaining(step)
        live = remaining > 0
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
        return out

    def _remaining(self, step: int) -> FloatArray:
        """Years left to each option; zero for one that has expired, and for the underlying."""
        remaining = self.contracts.tau - self.elapsed[step] / DAYS_PER_YEAR
        return np.where(remaining > _EXPIRED, remaining, 0.0)

    def _evaluate(self, step: int, out: tuple[FloatArray, ...], quantity: FloatArray) -> npt.NDArray[np.int64]:
        c = self.contracts
        remaining = self._remaining(step)
        # The underlying is a call struck at nothing that pays at once.
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
            c.basis,
            quantity,
            VOL_FLOOR,
            self._extrapolation,
            out,
            self._threads,
        )

    def _settled_before(self, step: int) -> Iterator[tuple[int, FloatArray]]:
        # Settled at the first step on or after the expiry, and kept as cash without interest from there.
        c = self.contracts
        for column in np.flatnonzero(c.is_option & (self._remaining(step) == 0)):
            settled = int(np.argmax(self.elapsed / DAYS_PER_YEAR >= c.tau[column] - _EXPIRED))
            if settled < step:
                payoff = self.spot[:, settled] - c.strike[column]
                yield int(column), np.asarray(np.maximum(payoff if c.is_call[column] else -payoff, 0.0))


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
    instruments : sequence of Option or Underlying
        What to value.
    elapsed_days : float or array_like, shape (step,), optional
        Calendar days from ``as_of`` to each step. Default: weekdays are counted from ``as_of`` (exchange
        holidays are not known), so that a Friday's next step lies 3 days ahead.
    extrapolation : {"flat_vol", "flat_total_variance", "linear"}
        What holds outside the surface's grid, as for :func:`volscen.surface.interpolate_vol`.
    greeks : bool
        Whether to return delta and vega on the scenarios as well.
    num_threads : int, optional
        Threads to use, all available by default. The result is the same for any number.

    Returns
    -------
    xarray.Dataset
        ``value(scenario, step, instrument)``; at the start ``value0(instrument)``, ``delta(instrument)`` (per
        unit of spot) and ``vega(instrument)`` (per 1.00 of volatility); ``extrapolated_weight(step,
        instrument)``, the weight of the scenarios in which the contract lies off the surface's grid;
        ``vol_floored(step, instrument)``, the number of scenarios bounded at ``VOL_FLOOR``; ``weight``. With
        ``greeks``, ``scenario_delta`` and ``scenario_vega`` with the dimensions of ``value``: like ``delta`` and
        ``vega``, at the volatility that the contract has there; zero for what has been paid out before.
        Coordinates of ``instrument``: its label, ``strike``, ``tau`` and ``contract_vol`` as fixed against
        the start (NaN for the underlying), and ``extrapolated``, whether it lies off the grid at the start or
        in any scenario that has weight.

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
    both log-linear in t through 1 at t = 0, with a constant average rate after the last maturity. Volatility
    is the contract's own at the start plus the change of the surface between where the contract lay and where
    it now lies, sigma0 + [surface(t, K/F) - surface0(t0, K/F0)], by the rule of
    :func:`volscen.surface.interpolate_vol`. The price is Black (1976), by the kernel of
    :func:`volscen.revaluation.price`. An option that expires within the horizon settles at its intrinsic value
    at the spot of the first step on or after the expiry and stays at that value.

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
    value0, delta, vega = work.at_start()
    out = xr.Dataset(
        {
            **{name: (("scenario", "step", "instrument"), cubes[name], _units(*_CUBES[name])) for name in cubes},
            "value0": ("instrument", value0, _units("value of one unit at the start", "currency")),
            "delta": ("instrument", delta, _units("change in value per unit of spot", "1")),
            "vega": ("instrument", vega, _units("change in value per 1.00 of volatility", "currency")),
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
    return {
        "instrument": ("instrument", np.array(c.labels, dtype=object), {"long_name": "instrument"}),
        "strike": ("instrument", c.strike, _units("strike; NaN for the underlying", "currency")),
        "tau": ("instrument", c.tau, _units("time to expiry at the start; NaN for the underlying", "year")),
        "contract_vol": (
            "instrument",
            c.implied_vol,
            _units("volatility at the start; NaN for the underlying", "1"),
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


def elapsed_days_of(ds: xr.Dataset, as_of: np.datetime64 | None, elapsed_days: npt.ArrayLike | None) -> FloatArray:
    """Calendar days from ``as_of`` to each step, given or counted in weekdays."""
    n = ds.sizes["step"]
    if elapsed_days is not None:
        try:
            days = np.atleast_1d(np.asarray(elapsed_days, dtype=np.float64))
        except (TypeError, ValueError):
            raise InputError(f"elapsed_days must be numbers of days, not {elapsed_days!r}") from None
        if days.shape != (n,):
            raise InputError(f"elapsed_days must give one number for each of the {n} steps, not shape {days.shape}")
        if not np.all(np.isfinite(days)) or np.any(days < 0) or np.any(np.diff(days) < 0):
            raise InputError("elapsed_days must be finite, non-negative and not decreasing")
        return days
    steps = np.array(step_labels(ds))
    per_year = float(ds.attrs["periods_per_year"])
    if per_year == 365:
        return steps.astype(np.float64)
    if not 240 <= per_year <= 262:
        raise InputError(
            f"the scenarios take {per_year:g} steps a year, which are no trading days; give elapsed_days, "
            "calendar days from as_of to each step"
        )
    if as_of is None:
        raise InputError("ds has no coordinate as_of to count days from; assign it or give elapsed_days")
    ends = np.busday_offset(as_of, steps, roll="backward")
    return (ends - as_of).astype(np.float64)


def step_labels(ds: xr.Dataset) -> list[int]:
    """Trading days ahead of each step; 1, 2, ... where the dataset does not say."""
    return [int(step) for step in ds["step"].values] if "step" in ds.coords else list(range(1, ds.sizes["step"] + 1))


def _units(long_name: str, units: str) -> dict[str, str]:
    return {"long_name": long_name, "units": units}

"""Contracts: what instruments are against the starting state of a scenario dataset.

Strikes by moneyness or delta, tenors and expiries become numbers here, once, and nowhere else.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.special import ndtri

from volscen import schema
from volscen._array import extrapolation_code
from volscen.errors import InputError, VolscenWarning
from volscen.portfolio._fair_variance import VIX_YEARS, fair_vol, vix_vol
from volscen.portfolio._instruments import Forward, Instrument, Option, Underlying, VarianceSwap, VixPayoff
from volscen.surface._carry import carry_at
from volscen.surface._interpolate import interpolate_vol, is_off_grid

__all__ = ["DAYS_PER_YEAR", "Contracts", "StartingState", "one_date", "resolve"]

FloatArray = npt.NDArray[np.float64]

DAYS_PER_YEAR = 365.0

#: Log-moneyness that no option has; beyond it the search for a strike by delta asks no surface.
_FARTHEST = 300.0


#: A strike that is so many times the forward, or that part of it, is in another unit.
_FAR = 20.0


@dataclass(frozen=True)
class StartingState:
    """Prices and curves at ``as_of``, as a scenario dataset carries them."""

    as_of: np.datetime64 | None
    spot: float
    tau: FloatArray
    moneyness: FloatArray
    implied_vol: FloatArray
    log_carry: FloatArray
    log_discount: FloatArray

    @classmethod
    def of(cls, ds: xr.Dataset) -> Self:
        """Read the starting state of a dataset of one date."""
        spot = float(ds["spot0"])
        return cls(
            as_of=_day(ds["as_of"]) if "as_of" in ds.coords else None,
            spot=spot,
            tau=ds["tau"].values.astype(np.float64),
            moneyness=ds["moneyness"].values.astype(np.float64),
            implied_vol=ds["implied_vol0"].transpose("tau", "moneyness").values.astype(np.float64),
            log_carry=np.log(ds["forward0"].values.astype(np.float64) / spot),
            log_discount=np.log(ds["discount_factor0"].values.astype(np.float64)),
        )

    def fair_vol(self, remaining: float, extrapolation: str) -> float:
        """Fair volatility of the starting surface over ``remaining`` years."""
        code = extrapolation_code(extrapolation)
        return float(fair_vol(self.implied_vol[None], self.tau, self.moneyness, remaining, extrapolation=code)[0])

    @property
    def short_rate(self) -> float:
        """Continuous rate to the shortest maturity, which cash earns until then."""
        return float(-self.log_discount[0] / self.tau[0])

    def growth(self, since: float, until: float) -> float:
        """What one unit on account becomes between two times in years, at the forward rates of the curve."""
        first, last = self.discount_factor(np.array([since, until]))
        return float(first / last)

    def slopes(self, tau: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Derivatives of the log carry and the log discount factor in tau, from below."""
        segment = np.clip(np.searchsorted(self._knots, tau, side="left") - 1, 0, self.tau.size - 1)
        gaps = np.diff(self._knots)
        carry, discount = (np.diff(self._from_today(x)) / gaps for x in (self.log_carry, self.log_discount))
        zero_rate = self.log_discount[-1] / self.tau[-1]
        return carry[segment], np.where(tau > self.tau[-1], zero_rate, discount[segment])

    def carry(self, tau: FloatArray) -> FloatArray:
        """Forward over spot, F/S."""
        return self._at(tau)[0]

    def discount_factor(self, tau: FloatArray) -> FloatArray:
        """Price of one unit paid after ``tau`` years."""
        return self._at(tau)[1]

    def _at(self, tau: FloatArray) -> tuple[FloatArray, FloatArray]:
        # The curves of surfaces (build_surface, regrid), so that a grid that reaches further changes no price.
        times = np.asarray(tau, dtype=np.float64)
        found = carry_at(times.ravel(), self.tau, np.exp(self.log_carry), np.exp(self.log_discount), 1.0)
        return found[0].reshape(times.shape), found[1].reshape(times.shape)

    @property
    def _knots(self) -> FloatArray:
        return self._from_today(self.tau)

    @staticmethod
    def _from_today(values: FloatArray) -> FloatArray:
        return np.concatenate([[0.0], values])


@dataclass(frozen=True)
class Contracts:
    """Instruments with strike, maturity and volatility fixed against a starting state; arrays of shape (n,).

    What an instrument has not is NaN, except ``basis`` and ``realised`` (0): the underlying and cash have nothing but
    a label. ``implied_vol`` is Black's for options and fair volatility for variance swaps and the volatility index,
    ``basis`` how far it lies above the surface's. ``strike`` of a variance swap is its variance, of a payoff on the
    volatility index its points (0 for the index). ``realised`` is the sum of squared returns so far, ``term`` the
    whole term of a variance swap.
    """

    instruments: tuple[Instrument, ...]
    labels: tuple[str, ...]
    is_option: npt.NDArray[np.bool_]
    is_call: npt.NDArray[np.bool_]
    strike: FloatArray
    tau: FloatArray
    moneyness: FloatArray
    implied_vol: FloatArray
    basis: FloatArray
    off_grid: npt.NDArray[np.bool_]
    realised: FloatArray
    term: FloatArray

    @classmethod
    def of(cls, instruments: Sequence[Instrument], start: StartingState, *, extrapolation: str = "flat_vol") -> Self:
        """Fix every instrument against a starting state."""
        for instrument in instruments:
            if not isinstance(instrument, Instrument):
                raise InputError(
                    "instruments must be volscen.Option or volscen.Underlying (or others of volscen.portfolio), not "
                    f"{instrument!r}"
                )
        n = len(instruments)
        is_option = np.array([isinstance(i, Option) for i in instruments])
        dated = np.array([isinstance(i, Option | Forward) for i in instruments])
        is_call = np.zeros(n, dtype=bool)
        tau, strike, moneyness, vol, delta, forward, surface, term = (np.full(n, np.nan) for _ in range(8))
        basis, realised = np.zeros(n), np.zeros(n)
        for i, instrument in enumerate(instruments):
            if isinstance(instrument, Option | Forward | VarianceSwap):
                tau[i] = _years(instrument, start)
            if isinstance(instrument, Option | Forward):
                strike[i] = _given_strike(instrument, start)
                moneyness[i] = np.nan if instrument.moneyness is None else instrument.moneyness
            if isinstance(instrument, Option):
                is_call[i] = instrument.is_call
                vol[i] = np.nan if instrument.implied_vol is None else instrument.implied_vol
                delta[i] = np.nan if instrument.delta is None else abs(instrument.delta)
        forward[dated] = start.spot * start.carry(tau[dated])
        strike = np.where(np.isnan(moneyness), strike, moneyness * forward)
        by_delta = np.flatnonzero(~np.isnan(delta))
        strike[by_delta] = forward[by_delta] * _delta_moneyness(
            delta[by_delta], is_call[by_delta], tau[by_delta], vol[by_delta], start, extrapolation
        )
        moneyness = np.where(is_option, strike / forward, np.nan)
        given = np.array([isinstance(one, Option) and one.strike is not None for one in instruments], dtype=bool)
        far = np.flatnonzero(given & ~((moneyness > 1 / _FAR) & (moneyness < _FAR)))
        if far.size:
            warnings.warn(
                f"{instruments[far[0]].label}: its strike is {moneyness[far[0]]:.3g} times the forward of "
                f"{forward[far[0]]:.6g}; are both in one unit?",
                VolscenWarning,
                stacklevel=5,
            )
        options = np.flatnonzero(is_option)
        surface[options] = interpolate_vol(
            start.implied_vol,
            start.tau,
            start.moneyness,
            tau[options],
            moneyness[options],
            extrapolation=extrapolation,
        )
        off_grid = is_option & is_off_grid(start.tau, start.moneyness, tau, moneyness)
        for i, instrument in enumerate(instruments):
            if isinstance(instrument, VarianceSwap):
                surface[i] = start.fair_vol(tau[i], extrapolation)
                vol[i] = surface[i] if instrument.implied_vol is None else instrument.implied_vol
                term[i] = instrument.elapsed_years + tau[i]
                realised[i] = instrument.accrued_variance * instrument.elapsed_years
                fair = (realised[i] + vol[i] ** 2 * tau[i]) / term[i]
                strike[i] = fair if instrument.strike_vol is None else instrument.strike_vol**2
                off_grid[i] = is_off_grid(start.tau, start.moneyness, tau[i], start.moneyness[0])
            elif isinstance(instrument, VixPayoff):
                vol[i] = surface[i] = vix_vol(start.implied_vol[None], start.tau, start.moneyness)[0]
                strike[i] = 0.0 if instrument.strike is None else instrument.strike
                off_grid[i] = is_off_grid(start.tau, start.moneyness, VIX_YEARS, start.moneyness[0])
        vol = np.where(np.isnan(vol), surface, vol)
        np.subtract(vol, surface, out=basis, where=~np.isnan(surface))
        return cls(
            instruments=tuple(instruments),
            labels=_unique([i.label for i in instruments]),
            is_option=is_option,
            is_call=is_call,
            strike=strike,
            tau=tau,
            moneyness=moneyness,
            implied_vol=vol,
            basis=basis,
            off_grid=off_grid,
            realised=realised,
            term=term,
        )

    def which(self, kind: type[Instrument]) -> npt.NDArray[np.intp]:
        """Positions of the instruments of a kind."""
        return np.flatnonzero([isinstance(i, kind) for i in self.instruments])

    @property
    def is_underlying(self) -> npt.NDArray[np.bool_]:
        """Whether each is the underlying itself."""
        return np.array([isinstance(i, Underlying) for i in self.instruments])


def resolve(instrument: Instrument, ds: xr.Dataset, *, extrapolation: str = "flat_vol") -> Instrument:
    """Fix an instrument's strike, time to expiry and volatility against the starting state of a scenario dataset.

    Parameters
    ----------
    instrument : Option, Underlying, or another of :mod:`volscen.portfolio`
        As the user names it.
    ds : xarray.Dataset
        Scenarios of one date.
    extrapolation : {"flat_vol", "flat_total_variance", "linear"}
        What holds outside the surface's grid, as for :func:`volscen.surface.interpolate_vol`.

    Returns
    -------
    Instrument
        An option with ``strike``, ``tau`` and ``implied_vol`` and nothing else; a forward with ``strike`` and ``tau``;
        a variance swap with ``tau``, ``strike_vol`` and ``implied_vol``; anything else unchanged.

    Raises
    ------
    InputError
        If the option has expired at ``as_of``, or ``ds`` holds several dates.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=1000, seed=1)
    >>> option = volscen.portfolio.resolve(volscen.Option("put", delta=-0.25, tau=0.25), cube)
    >>> option.strike < float(cube.spot0)
    True
    """
    contract = Contracts.of([instrument], StartingState.of(one_date(ds, load=False)), extrapolation=extrapolation)
    strike, tau, vol = (float(x[0]) for x in (contract.strike, contract.tau, contract.implied_vol))
    nothing: dict[str, Any] = {"moneyness": None, "strike_over_spot": None, "expiry": None}
    if isinstance(instrument, Option):
        return replace(instrument, strike=strike, tau=tau, implied_vol=vol, delta=None, **nothing)
    if isinstance(instrument, Forward):
        return replace(instrument, strike=strike, tau=tau, **nothing)
    if isinstance(instrument, VarianceSwap):
        return replace(instrument, strike_vol=strike**0.5, tau=tau, implied_vol=vol, expiry=None)
    return instrument


def one_date(ds: xr.Dataset, *, load: bool = True) -> xr.Dataset:
    """Refuse what is not a scenario dataset of one date; bring a lazy one into memory, unless told not to."""
    if not isinstance(ds, xr.Dataset):
        raise InputError(
            f"ds must be a scenario dataset such as volscen.generate() returns, not {type(ds).__name__}; files are "
            "read with volscen.read"
        )
    if "as_of" in ds.dims:
        raise InputError(f"ds holds {ds.sizes['as_of']} dates; pass one of them: ds.isel(as_of=0) or ds.sel(as_of=...)")
    schema.validate(ds, schema=schema.SCENARIOS)
    # Not ds.chunks, which fails where variables have different chunks, as weights and surfaces do.
    if load and any(variable.chunks for variable in ds.variables.values()):
        ds = schema.validate(ds.compute())
    return ds


def _day(date: xr.DataArray) -> np.datetime64:
    return np.datetime64(date.values.astype("datetime64[D]").item(), "D")


def _unique(labels: list[str]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    out = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        out.append(label if seen[label] == 1 else f"{label} #{seen[label]}")
    return tuple(out)


def _years(option: Option | Forward | VarianceSwap, start: StartingState) -> float:
    if option.tau is not None:
        return float(option.tau)
    if start.as_of is None:
        raise InputError(f"{option.label}: ds has no coordinate as_of to count days from; assign it or give tau")
    expiry = np.asarray(option.expiry, dtype="datetime64[D]")
    days = float((expiry - start.as_of).astype(np.int64))
    if days <= 0:
        raise InputError(f"{option.label} has expired at as_of {start.as_of}; drop it")
    return days / DAYS_PER_YEAR


def _given_strike(option: Option | Forward, start: StartingState) -> float:
    if option.strike is not None:
        return option.strike
    if option.strike_over_spot is not None:
        return option.strike_over_spot * start.spot
    return np.nan  # by moneyness or delta: found for all at once


def _delta_moneyness(
    delta: FloatArray,
    is_call: npt.NDArray[np.bool_],
    tau: FloatArray,
    vol: FloatArray,
    start: StartingState,
    extrapolation: str,
) -> FloatArray:
    """K/F at which the forward delta is ``delta`` in size, on the starting surface or at a volatility given.

    d1 = -k/s + s/2 with s = sigma sqrt(tau), so a root of d1(k) = x satisfies k = s^2/2 - x s. The largest
    volatility of the grid bounds k on both sides, unless the surface is extrapolated to higher ones: the bounds then
    move out until they hold. Bisection needs nothing else.
    """
    if delta.size == 0:
        return delta
    x = np.where(is_call, ndtri(delta), -ndtri(delta))

    def excess(k: FloatArray) -> FloatArray:
        surface = interpolate_vol(
            start.implied_vol,
            start.tau,
            start.moneyness,
            tau,
            np.exp(np.clip(k, -_FARTHEST, _FARTHEST)),
            extrapolation=extrapolation,
        )
        s = np.where(np.isnan(vol), surface, vol) * np.sqrt(tau)
        return np.asarray(s * s / 2 - x * s - k)

    high_vol = np.where(np.isnan(vol), start.implied_vol.max(), vol)
    s = high_vol * np.sqrt(tau)
    low, high = -np.abs(x) * s, s * s / 2 + np.abs(x) * s
    below, above = excess(low) < 0, excess(high) > 0
    while below.any() or above.any():
        width = high - low + 0.01
        low, high = np.where(below, low - width, low), np.where(above, high + width, high)
        below, above = excess(low) < 0, excess(high) > 0
    for _ in range(60):
        k = (low + high) / 2
        too_low = excess(k) > 0
        low, high = np.where(too_low, k, low), np.where(too_low, high, k)
    k = (low + high) / 2
    beyond = np.isnan(vol) & (np.abs(k) > _FARTHEST)
    if beyond.any():
        raise InputError(
            f"no strike has the delta {delta[beyond][0]:.4g}: extrapolated, the surface rises too steeply; give the "
            "strike, or extrapolation='flat_vol'"
        )
    return np.asarray(np.exp(k))

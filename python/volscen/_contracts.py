"""Contracts: what instruments are against the starting state of a scenario dataset.

Strikes by moneyness or delta, tenors and expiries become numbers here, once, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.special import ndtri

from volscen import schema
from volscen._instruments import Instrument, Option, Underlying
from volscen.errors import InputError
from volscen.surface._interpolate import interpolate_vol, is_off_grid

__all__ = ["DAYS_PER_YEAR", "Contracts", "StartingState", "one_date", "resolve"]

FloatArray = npt.NDArray[np.float64]

DAYS_PER_YEAR = 365.0

#: Log-moneyness that no option has; beyond it the search for a strike by delta asks no surface.
_FARTHEST = 300.0


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

    def carry(self, tau: FloatArray) -> FloatArray:
        """Forward over spot, F/S."""
        return np.asarray(np.exp(self._curve(self.log_carry, tau)))

    def discount_factor(self, tau: FloatArray) -> FloatArray:
        """Price of one unit paid after ``tau`` years."""
        return np.asarray(np.exp(self._curve(self.log_discount, tau)))

    def _curve(self, log_values: FloatArray, tau: FloatArray) -> FloatArray:
        # Linear in tau from (0, 0); after the last maturity the average rate to it goes on.
        inside = np.interp(tau, np.concatenate([[0.0], self.tau]), np.concatenate([[0.0], log_values]))
        return np.asarray(np.where(tau > self.tau[-1], log_values[-1] * tau / self.tau[-1], inside))


@dataclass(frozen=True)
class Contracts:
    """Instruments with strike, maturity and volatility fixed against a starting state; arrays of shape (n,).

    For the underlying every number is NaN except ``basis`` (0), and ``is_option`` is False.
    """

    labels: tuple[str, ...]
    is_option: npt.NDArray[np.bool_]
    is_call: npt.NDArray[np.bool_]
    strike: FloatArray
    tau: FloatArray
    moneyness: FloatArray
    implied_vol: FloatArray
    basis: FloatArray
    off_grid: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, instruments: Sequence[Instrument], start: StartingState, *, extrapolation: str = "flat_vol") -> Self:
        """Fix every instrument against a starting state."""
        for instrument in instruments:
            if not isinstance(instrument, Option | Underlying):
                raise InputError(f"instruments must be volscen.Option or volscen.Underlying, not {instrument!r}")
        n = len(instruments)
        is_option = np.array([isinstance(i, Option) for i in instruments])
        is_call = np.zeros(n, dtype=bool)
        tau, strike, moneyness, vol, delta = (np.full(n, np.nan) for _ in range(5))
        for i, instrument in enumerate(instruments):
            if isinstance(instrument, Option):
                is_call[i] = instrument.is_call
                tau[i] = _years(instrument, start)
                vol[i] = np.nan if instrument.implied_vol is None else instrument.implied_vol
                delta[i] = np.nan if instrument.delta is None else abs(instrument.delta)
                strike[i] = _given_strike(instrument, start)
                moneyness[i] = np.nan if instrument.moneyness is None else instrument.moneyness
        forward = np.full(n, np.nan)
        forward[is_option] = start.spot * start.carry(tau[is_option])
        strike = np.where(np.isnan(moneyness), strike, moneyness * forward)
        by_delta = np.flatnonzero(~np.isnan(delta))
        strike[by_delta] = forward[by_delta] * _delta_moneyness(
            delta[by_delta], is_call[by_delta], tau[by_delta], vol[by_delta], start, extrapolation
        )
        moneyness = strike / forward
        options = np.flatnonzero(is_option)
        surface = np.full(n, np.nan)
        surface[options] = interpolate_vol(
            start.implied_vol,
            start.tau,
            start.moneyness,
            tau[options],
            moneyness[options],
            extrapolation=extrapolation,
        )
        vol = np.where(np.isnan(vol), surface, vol)
        return cls(
            labels=_unique([i.label for i in instruments]),
            is_option=is_option,
            is_call=is_call,
            strike=strike,
            tau=tau,
            moneyness=moneyness,
            implied_vol=vol,
            basis=np.where(is_option, vol - surface, 0.0),
            off_grid=is_option & is_off_grid(start.tau, start.moneyness, tau, moneyness),
        )


def resolve(instrument: Instrument, ds: xr.Dataset, *, extrapolation: str = "flat_vol") -> Instrument:
    """Fix an option's strike, time to expiry and volatility against the starting state of a scenario dataset.

    Parameters
    ----------
    instrument : Option or Underlying
        As the user names it.
    ds : xarray.Dataset
        Scenarios of one date.
    extrapolation : {"flat_vol", "flat_total_variance", "linear"}
        What holds outside the surface's grid, as for :func:`volscen.surface.interpolate_vol`.

    Returns
    -------
    Option or Underlying
        An option with ``strike``, ``tau`` and ``implied_vol`` and nothing else; the underlying unchanged.

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
    if isinstance(instrument, Underlying):
        return instrument
    return replace(
        instrument,
        strike=float(contract.strike[0]),
        tau=float(contract.tau[0]),
        implied_vol=float(contract.implied_vol[0]),
        moneyness=None,
        strike_over_spot=None,
        delta=None,
        expiry=None,
    )


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


def _years(option: Option, start: StartingState) -> float:
    if option.tau is not None:
        return option.tau
    if start.as_of is None:
        raise InputError(f"{option.label}: ds has no coordinate as_of to count days from; assign it or give tau")
    expiry = np.asarray(option.expiry, dtype="datetime64[D]")
    days = float((expiry - start.as_of).astype(np.int64))
    if days <= 0:
        raise InputError(f"{option.label} has expired at as_of {start.as_of}; drop it")
    return days / DAYS_PER_YEAR


def _given_strike(option: Option, start: StartingState) -> float:
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

"""Arguments of a hedge: numbers by instrument, and which method takes which setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen.errors import InputError
from volscen.hedging._base import HedgeOptions, Positions, Trading

__all__ = ["METHOD_OPTIONS", "PerInstrument", "build_options", "check_applies", "per_instrument"]

FloatArray = npt.NDArray[np.float64]
PerInstrument = float | npt.ArrayLike | Mapping[str, float] | xr.DataArray | None

_REGRESSIONS = ("regression", "ridge", "lasso", "min-es")

#: Settings that only some methods know.
METHOD_OPTIONS: dict[str, tuple[str, ...]] = {
    "alpha": ("lasso",),
    "noise": ("ridge",),
    "noise_floor": ("ridge",),
    "vol_slope": ("min-variance-delta", "delta-vega-sqrt", "neighbours", "vega-buckets"),
    "tail": ("min-es",),
    "centre": ("min-es",),
    "cost_weight": _REGRESSIONS,
}

#: Error of a quoted volatility, and the least error of a quoted price as a share of the spot: half a tick or so.
NOISE = 0.002
NOISE_FLOOR = 2e-5

#: What one unit of cost must save in risk: of .1 to .5 the best net of costs on S&P 500 surfaces of 2014.
COST_WEIGHT = 0.2
TAIL = 0.05


def check_applies(method: str, given: Mapping[str, Any]) -> None:
    """Refuse settings that the method does not know."""
    for name, value in given.items():
        if value is not None and method not in METHOD_OPTIONS[name]:
            methods = " and ".join(f"method={m!r}" for m in METHOD_OPTIONS[name])
            raise InputError(f"{name} applies to {methods}, not to {method!r}; drop it")


def per_instrument(
    name: str,
    given: PerInstrument,
    labels: tuple[str, ...],
    default: float,
    *,
    valid: Callable[[FloatArray], npt.NDArray[np.bool_]] = np.isfinite,
    what: str = "finite",
) -> FloatArray:
    """One number for each instrument, from a number, a sequence, or numbers by the instrument's name."""
    n = len(labels)
    if given is None:
        return np.full(n, default)
    if isinstance(given, xr.DataArray) and given.dims == ("instrument",) and "instrument" in given.coords:
        given = dict(zip(map(str, given["instrument"].values), given.values.tolist(), strict=True))
    if isinstance(given, Mapping):
        unknown = [str(key) for key in given if key not in labels]
        if unknown:
            raise InputError(
                f"{name} names {', '.join(unknown[:3])}, which {'is' if len(unknown) == 1 else 'are'} not among "
                f"instruments ({', '.join(labels[:5])}{', ...' if n > 5 else ''}); add or drop them"
            )
        given = [given.get(label, default) for label in labels]
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a number, or one for each instrument, not {given!r}") from None
    if values.shape not in ((), (n,)):
        raise InputError(f"{name} must be one number or one for each of the {n} instruments, not shape {values.shape}")
    values = np.broadcast_to(values, (n,)).copy()
    bad = np.flatnonzero(~valid(values))
    if bad.size:
        raise InputError(f"{name} of {labels[bad[0]]} must be {what}, not {values[bad[0]]:g}")
    return values


def _not_negative(values: FloatArray) -> npt.NDArray[np.bool_]:
    return np.isfinite(values) & (values >= 0)


def build_options(traded: Positions, spot: float, given: Mapping[str, Any]) -> HedgeOptions:
    """Settings in the units of the problem, after checking them."""
    labels = traded.labels

    def positive(name: str) -> FloatArray:
        return per_instrument(
            name, given[name], labels, 0.0, valid=_not_negative, what="a finite number that is not negative"
        )

    cost = (
        positive("half_spread")
        + positive("half_spread_vol") * np.abs(traded.vega)
        + positive("proportional_cost") * np.abs(traded.value)
    )
    lower = per_instrument("lower", given["lower"], labels, -np.inf, valid=lambda v: v < np.inf, what="a number")
    upper = per_instrument("upper", given["upper"], labels, np.inf, valid=lambda v: v > -np.inf, what="a number")
    crossed = np.flatnonzero(lower > upper)
    if crossed.size:
        i = int(crossed[0])
        raise InputError(f"lower ({lower[i]:g}) of {labels[i]} lies above upper ({upper[i]:g}); swap or widen them")
    lot_size = positive("lot_size")
    lots = np.flatnonzero(lot_size)
    empty = lots[np.ceil(lower[lots] / lot_size[lots] - 1e-9) > np.floor(upper[lots] / lot_size[lots] + 1e-9)]
    if empty.size:
        raise InputError(
            f"no multiple of lot_size lies between lower and upper of {labels[int(empty[0])]}; widen them or make the "
            "lots smaller"
        )
    trading = Trading(
        current=per_instrument("current", given["current"], labels, 0.0),
        cost=cost,
        cost_weight=_number("cost_weight", given["cost_weight"], COST_WEIGHT),
        lower=lower,
        upper=upper,
        lot_size=lot_size,
    )
    vol_noise = per_instrument(
        "noise", given["noise"], labels, NOISE, valid=_not_negative, what="a finite number that is not negative"
    )
    # The floor is one of option prices; a variance swap's unit of value is another.
    floor = _number("noise_floor", given["noise_floor"], NOISE_FLOOR) * spot * traded.is_option
    noise = np.where(vol_noise > 0, np.maximum(vol_noise * np.abs(traded.vega), floor), 0.0)
    return HedgeOptions(
        trading=trading,
        noise=noise,
        alpha=given["alpha"],
        tail=_tail(given["tail"]),
        centre=_flag("centre", given["centre"]),
        vol_slope=_slope(given["vol_slope"]),
    )


def _number(name: str, value: Any, default: float) -> float:
    if value is None:
        return default
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not 0 <= number < np.inf:
        raise InputError(f"{name} must be a finite number that is not negative, not {value!r}")
    return number


def _tail(value: Any) -> float:
    if value is None:
        return TAIL
    number = value if isinstance(value, int | float | np.floating) else np.nan
    if not 0 < number < 1:
        raise InputError(f"tail must lie between 0 and 1: .05 asks for the worst 5%; not {value!r}")
    return float(number)


def _flag(name: str, value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def _slope(value: Any) -> Any:
    if value is None or callable(value):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise InputError(
            "vol_slope must be a finite number, change in volatility per unit of return, or a function of (tau, "
            f"log_moneyness), not {value!r}"
        )
    return number

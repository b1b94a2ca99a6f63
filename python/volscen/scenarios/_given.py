"""Scenarios given what a quantity of them comes out at: in a band by rejection, at a value by local regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema
from volscen._doubts import warn_of_scenarios
from volscen.errors import InputError
from volscen.history import State
from volscen.views._quantities import Quantity, as_quantity

if TYPE_CHECKING:
    from volscen.generators import Generator

__all__ = ["Given", "draw_given"]

FloatArray = npt.NDArray[np.float64]

# Rejection: a block of n is filled from at most _MOST x n draws, and given up after _TRIAL x n without n / 16 of them.
_MOST, _TRIAL = 1024, 64
# Regression: the n nearest of _NEAREST x n draws are moved onto the value, which may lie at most _REACH of their
# standard deviations from their mean. With exponential tails that is about the eighth most extreme of 1,024.
_NEAREST, _REACH = 8, 4.0
# A band met by a pool of past days: this many different scenarios are few, once each was seen about _SEEN times.
FEW_DISTINCT, _SEEN = 50, 4
# Without a condition: below _FEW equally likely moves a tail of 1% is a single one of them, and value at risk equals
# expected shortfall. Few are a matter of concern once each was drawn _REDRAWN times on average; whether there may be
# few is looked at among the first _PROBE scenarios, which costs nothing beside drawing them.
_FEW, _REDRAWN, _PROBE = 100, 10, 1024
REMEDY = "Widen the band, give a value in its place, or fit with more past days (residual_days, window)"
_ITERATIONS, _TOLERANCE = 30, 1e-9


@dataclass(frozen=True)
class Given:
    """What is given of a scenario: quantities, and the band or the value of each.

    Attributes
    ----------
    quantities : tuple of Quantity
    low, high : ndarray, shape (q,)
        Equal where a value is given.
    """

    quantities: tuple[Quantity, ...]
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, given: Any) -> Self:
        """Read and check what a user gives: a mapping from quantities to numbers or pairs.

        Raises
        ------
        InputError
            If it is no such mapping, or a band is empty or NaN.
        """
        if isinstance(given, cls):
            return given
        if not isinstance(given, Mapping) or not given:
            raise InputError(
                "given must map quantities (a variable's name or one of volscen.views) to a number or a pair "
                "(low, high), such as {'log_return': (-0.06, -0.04)}"
            )
        quantities = tuple(as_quantity(key) for key in given)
        bands = [_band(value, q.label) for q, value in zip(quantities, given.values(), strict=True)]
        return cls(quantities, np.array([b[0] for b in bands]), np.array([b[1] for b in bands]))

    @property
    def is_value(self) -> npt.NDArray[np.bool_]:
        """Which quantities are given as a value, shape (q,)."""
        return np.asarray(self.low == self.high)

    def __str__(self) -> str:
        parts = []
        for quantity, low, high in zip(self.quantities, self.low, self.high, strict=True):
            if low == high:
                parts.append(f"{quantity.label} = {low:.6g}")
            else:
                left = "" if low == -np.inf else f"{low:.6g} <= "
                right = "" if high == np.inf else f" <= {high:.6g}"
                parts.append(f"{left}{quantity.label}{right}")
        return "; ".join(parts)

    def values(self, ds: xr.Dataset, row: int = 0) -> FloatArray:
        """Quantities of the scenarios of one date: (scenario, q)."""
        return np.column_stack([quantity.values(ds, row) for quantity in self.quantities])


def path_keys(log_return: FloatArray, implied_vol: npt.NDArray[Any]) -> FloatArray:
    """What tells paths apart: the returns and a corner of the surfaces, up to rounding."""
    corner = np.log(implied_vol[..., 0, 0].astype(np.float64))
    return np.asarray(np.concatenate([log_return, corner], axis=-1).round(6))


def count_distinct(keys: Sequence[FloatArray]) -> int:
    """Different paths among several parts of a cube, from their keys."""
    return len(np.unique(np.concatenate([np.unique(part, axis=0) for part in keys]), axis=0))


def warn_of_few(counts: npt.NDArray[np.intp], n: int, given: Any, name: str, *, stacklevel: int) -> None:
    """Warn where few of n scenarios of a date differ."""
    least = int(counts.min())
    if least < max(FEW_DISTINCT, n / 100) and least < n / 2:
        warn_of_scenarios(
            f"{least} of the {n} scenarios with {given} differ: generator {name!r} redraws the "
            f"same past days, which ess_fraction does not see. {REMEDY}",
            stacklevel=stacklevel + 1,
        )


def few_of(n: int) -> float:
    """Fewer different first steps than this are few among n scenarios."""
    return min(_FEW, n / _REDRAWN)


def few_moves(log_return: FloatArray, implied_vol: npt.NDArray[Any], few: float) -> FloatArray | None:
    """What tells the first steps of a date's scenarios apart, (n, step) and (n, step, tau, moneyness), if few do."""
    if len(np.unique(log_return[:_PROBE, 0])) >= few:
        return None
    keys = np.unique(path_keys(log_return[:, :1], implied_vol[:, :1]), axis=0)
    return keys if len(keys) < few else None


def count_few_moves(log_return: FloatArray, implied_vol: npt.NDArray[Any]) -> int | None:
    """Different first steps of the scenarios of a date, (n, step) and (n, step, tau, moneyness), where they are few."""
    keys = few_moves(log_return, implied_vol, few_of(len(log_return)))
    return None if keys is None else len(keys)


def warn_of_few_moves(counts: Sequence[int | None], n: int, name: str, *, stacklevel: int) -> None:
    """Warn where the first steps of n scenarios are a few moves redrawn."""
    found = [count for count in counts if count is not None]
    if found:
        warn_of_scenarios(
            f"the {n:,} scenarios take {min(found)} different first steps: generator {name} redraws as many moves, "
            "and the tail of 1% rests on one of them, or little more, which ess_fraction does not see. Fit with more "
            "past days, or a generator whose law is no list of them (pca with residuals='t')",
            stacklevel=stacklevel + 1,
        )


def _band(value: Any, label: str) -> tuple[float, float]:
    try:
        ends = np.asarray([np.nan if v is None else v for v in value] if np.ndim(value) else [value], dtype=np.float64)
        one_sided = [v is None for v in value] if np.ndim(value) else [False]
    except (TypeError, ValueError):
        ends, one_sided = np.empty(0), []
    if ends.shape == (1,) and np.ndim(value) == 0 and np.isfinite(ends[0]) and not isinstance(value, (bool, np.bool_)):
        return float(ends[0]), float(ends[0])
    if ends.shape == (2,):
        low = -np.inf if one_sided[0] else float(ends[0])
        high = np.inf if one_sided[1] else float(ends[1])
        if low < high and (np.isfinite(low) or np.isfinite(high)):
            return low, high
    raise InputError(
        f"{label} must be given as a finite number or a pair (low, high) with low < high, None for an open end, "
        f"not {value!r}"
    )


def draw_given(
    generator: Generator, state: State, n: int, horizon: int, rng: np.random.Generator, given: Given
) -> tuple[FloatArray, FloatArray]:
    """Draw n paths from a generator's law given bands, exactly, or given values, by local linear regression.

    Parameters
    ----------
    generator : Generator
    state, n, horizon, rng
        As in :meth:`volscen.generators.Generator.sample`.
    given : Given

    Returns
    -------
    log_return : ndarray, shape (n, horizon)
    implied_vol : ndarray, shape (n, horizon, tau, moneyness)

    Raises
    ------
    InputError
        If the law hardly ever draws what is given, or bands and values are mixed.

    Notes
    -----
    Work is bounded: 1,024 n draws for bands, 64 n where few different ones are among them, 8 n for values.
    """
    if given.is_value.all():
        return _at_value(generator, state, n, horizon, rng, given)
    if given.is_value.any():
        raise InputError("given mixes numbers and bands; give all as numbers, or narrow bands in their place")
    return _in_band(generator, state, n, horizon, rng, given)


# ------------------------------------------------------------------------------------------------- bands
def _in_band(
    generator: Generator, state: State, n: int, horizon: int, rng: np.random.Generator, given: Given
) -> tuple[FloatArray, FloatArray]:
    """Rejection: the generator's own law given the bands."""
    kept: list[tuple[FloatArray, FloatArray]] = []
    found, lowest, highest = 0, np.full(given.low.size, np.inf), np.full(given.low.size, -np.inf)
    for attempt in range(1, _MOST + 1):
        log_return, implied_vol = generator.sample(state, n, horizon, rng)
        x = given.values(_frame(generator, state, log_return, implied_vol))
        inside = np.flatnonzero(((x >= given.low) & (x <= given.high)).all(axis=1))[: n - found]
        if inside.size:
            kept.append((log_return[inside], implied_vol[inside]))
            found += inside.size
        if found == n:
            return np.concatenate([r for r, _ in kept]), np.concatenate([v for _, v in kept])
        lowest, highest = np.minimum(lowest, x.min(axis=0)), np.maximum(highest, x.max(axis=0))
        if attempt == _TRIAL:
            if found < n / 16:
                break
            different = count_distinct([path_keys(*pair) for pair in kept])
            # Each came up several times by now: the generator resamples a pool, and more draws bring few others.
            if different < FEW_DISTINCT and found > _SEEN * different:
                raise InputError(
                    f"generator {generator.name!r} at {state.as_of} drew {given} in {found} of {attempt * n} "
                    f"scenarios, of which {different} differ: it redraws the same past days. {REMEDY}"
                )
    seen = ", ".join(
        f"{q.label} from {low:.4g} to {high:.4g}"
        for q, low, high in zip(given.quantities, lowest, highest, strict=True)
    )
    raise InputError(
        f"generator {generator.name!r} at {state.as_of} drew {given} in {found} of {attempt * n} scenarios, too seldom "
        f"to fill {n}; its draws had {seen}. Widen the band; what the law never reaches is for volscen.stress"
    )


# ------------------------------------------------------------------------------------------------ values
def _at_value(
    generator: Generator, state: State, n: int, horizon: int, rng: np.random.Generator, given: Given
) -> tuple[FloatArray, FloatArray]:
    """The nearest draws, moved onto the value along their regression on the quantities.

    Local linear regression adjustment of Beaumont, Zhang and Balding (2002), of returns and log vols of all steps.
    """
    near, x, scale = _nearest(generator, state, n, horizon, rng, given)
    centre = x.mean(axis=0)
    centred = x - centre
    covariance = centred.T @ centred / n
    away = given.low - centre
    if np.linalg.cond(covariance / np.outer(scale, scale)) > 1e12:
        raise InputError(
            f"the draws of generator {generator.name!r} near {given} at {state.as_of} do not vary, or what is given "
            "says the same thing twice; give a band"
        )
    distance = float(np.sqrt(away @ np.linalg.solve(covariance, away)))
    if distance > _REACH:
        raise InputError(
            f"{given} lies beyond what generator {generator.name!r} draws at {state.as_of}: {distance:.1f} standard "
            f"deviations from the nearest {n} of {_NEAREST * n} draws, whose mean is "
            + ", ".join(f"{q.label} {c:.4g}" for q, c in zip(given.quantities, centre, strict=True))
            + "; what the law never reaches is for volscen.stress"
        )
    slope = np.linalg.solve(covariance, centred.T @ (near - near.mean(axis=0)) / n)
    shape = (n, horizon, generator.tau_.size, generator.moneyness_.size)

    def moved(shift: FloatArray) -> tuple[FloatArray, FloatArray]:
        y = near + shift @ slope
        return y[:, :horizon], np.exp(y[:, horizon:]).reshape(shape)

    def quantities(shift: FloatArray) -> FloatArray:
        return given.values(_frame(generator, state, *moved(shift)))

    shift = given.low - x
    for _ in range(_ITERATIONS):
        at = quantities(shift)
        gap = given.low - at
        if np.all(np.abs(gap) <= _TOLERANCE * scale):
            return moved(shift)
        jacobian = np.empty((n, scale.size, scale.size))
        for k, step in enumerate(1e-4 * np.diag(scale)):
            jacobian[:, :, k] = (quantities(shift + step) - at) / step[k]
        # The slope is that of the quantities on themselves: where a step finds otherwise, something is not smooth.
        flat = np.abs(np.linalg.det(jacobian / scale[:, None] * scale)) < 1e-3
        jacobian[flat] = np.eye(scale.size)
        shift = shift + np.clip(np.linalg.solve(jacobian, gap[:, :, None])[:, :, 0], -2 * scale, 2 * scale)
    raise InputError(
        f"no move of the draws of generator {generator.name!r} at {state.as_of} along their regression gives {given}; "
        "give a band for a quantity that jumps or has a bound"
    )


def _nearest(
    generator: Generator, state: State, n: int, horizon: int, rng: np.random.Generator, given: Given
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns and log vols (n, variables) of the nearest of many draws, their quantities, and these quantities' scale.

    Nearness is judged in the metric of the first n draws' covariance.
    """

    def draw() -> tuple[FloatArray, FloatArray]:
        log_return, implied_vol = generator.sample(state, n, horizon, rng)
        quantities = given.values(_frame(generator, state, log_return, implied_vol))
        return np.hstack([log_return, np.log(implied_vol).reshape(n, -1)]), quantities

    y, x = draw()
    covariance = np.atleast_2d(np.cov(x.T))
    scale = np.sqrt(np.diag(covariance))
    if np.any(scale <= 0):
        raise InputError(f"generator {generator.name!r} draws {given} without any variation; give a band")
    metric = np.linalg.pinv(covariance)
    for _ in range(_NEAREST - 1):
        y, x = (np.concatenate(pair) for pair in zip((y, x), draw(), strict=True))
        away = x - given.low
        # Stable, so that ties go to the draw that came first on every machine.
        order = np.sort(np.argsort(((away @ metric) * away).sum(axis=1), kind="stable")[:n])
        y, x = y[order], x[order]
    return y, x, scale


def _frame(generator: Generator, state: State, log_return: FloatArray, implied_vol: FloatArray) -> xr.Dataset:
    """Draws as a scenario dataset, equally weighted, for quantities to be read off."""
    n, horizon = log_return.shape
    attributes = schema.base_attributes(
        schema.SCENARIOS,
        title="draws",
        source=f"generator {generator.name}",
        calendar=generator.calendar_,
        periods_per_year=generator.periods_per_year_,
    ) | {"generator": generator.name, "seed": 0, "projected": 0, "beta": 0.0, "ess_fraction": 1.0}
    path = ("scenario", "step")
    return xr.Dataset(
        {
            "implied_vol": ((*path, "tau", "moneyness"), implied_vol),
            "log_return": (path, log_return),
            "spot": (path, state.spot * np.exp(np.cumsum(log_return, axis=1))),
            "weight": ("scenario", np.full(n, 1 / n)),
            "arbitrage_penalty": (path, np.zeros((n, horizon))),
            "spot0": ((), state.spot),
            "implied_vol0": (("tau", "moneyness"), np.exp(state.log_iv[-1])),
            "forward0": ("tau", state.forward),
            "discount_factor0": ("tau", state.discount_factor),
            "state_clipped": ((), np.int8(0)),
        },
        coords={
            "as_of": state.as_of.astype("datetime64[ns]"),
            "scenario": np.arange(n),
            "step": np.arange(1, horizon + 1),
            "tau": generator.tau_,
            "moneyness": generator.moneyness_,
        },
        attrs=attributes | {"data_fingerprint": generator.fingerprint_},
    )

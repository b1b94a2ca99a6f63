"""Scenarios that exist, weighed by how near they come to what is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import schema, views
from volscen._numbers import bounded_number
from volscen._reweight import (
    OTHER_WEIGHTS,
    effective_sample_size,
    prior_weights,
    set_weights,
    weighing_penalty,
    weight_attributes,
)
from volscen.errors import InputError
from volscen.scenarios._given import Given
from volscen.views._entropy_pool import entropy_pool

__all__ = ["condition"]

FloatArray = npt.NDArray[np.float64]

#: Exponents below this are no weight at all.
_NOTHING = -700.0


def condition(
    ds: xr.Dataset,
    given: Mapping[Any, Any],
    *,
    bandwidth: float | Mapping[Any, float] | None = None,
    exact: bool = True,
    ess_floor: float = 0.01,
) -> xr.Dataset:
    """Weigh the scenarios of a cube by how near they come to what is given; nothing is drawn.

    Parameters
    ----------
    ds : xarray.Dataset
        Scenarios (``volscen/scenarios/1``), of one date or several.
    given : mapping
        From a variable's name or a quantity of :mod:`volscen.views` (the last step's, where it names none) to a pair
        ``(low, high)``, None for an open end, whose outside gets no weight; or to a number, about which a Gaussian
        kernel weighs.
    bandwidth : float or mapping, optional
        Standard deviation of the kernel in the quantity's unit, one for all or by quantity. When omitted Silverman's
        for d numbers: standard deviation of the quantity x (4 / (d + 2) / ESS)^(1 / (d + 4)).
    exact : bool
        Tilt the kernel's weights so that the weighted mean of every quantity given as a number is that number
        (:func:`volscen.entropy_pool`): a kernel alone leans to where there are more scenarios.
    ess_floor : float
        In (0, 1). Least effective sample size over N that is accepted.

    Returns
    -------
    xarray.Dataset
        A copy with new ``weight`` (those of ``ds`` times the kernel), ``ess_fraction``, and the
        attribute ``condition``.

    Raises
    ------
    InputError
        If nothing lies in a band, a number lies beyond the scenarios, or the floor is not kept.

    Notes
    -----
    A weighted cube is the law given the band, exactly, and the law given a number up to the kernel's width. To have
    all scenarios meet the condition, draw them so: ``given=`` of :func:`volscen.generate`.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=5000, horizon=5, seed=1)
    >>> fall = volscen.condition(cube, {volscen.views.total_log_return(): -0.02})
    >>> float((fall.weight * volscen.views.total_log_return().values(fall)).sum().round(9))
    -0.02
    """
    if not isinstance(ds, xr.Dataset):
        raise InputError(f"ds must be a scenario dataset such as volscen.generate() returns, not {type(ds).__name__}")
    schema.validate(ds, schema=schema.SCENARIOS)
    known = Given.of(given)
    ess_floor = bounded_number("ess_floor", ess_floor, 0, 1)
    if not isinstance(exact, (bool, np.bool_)):
        raise InputError(f"exact must be True or False, not {exact!r}")
    widths = _widths(bandwidth, given, known)
    rows = prior_weights(ds, "current").copy()
    n = ds.sizes["scenario"]
    for row, prior in enumerate(rows):
        date = ds.isel(as_of=row) if "as_of" in ds.dims else ds
        try:
            rows[row] = _weigh(date, row, known, prior, widths, bool(exact))
            fraction = float(effective_sample_size(rows[row])) / n
            if fraction < ess_floor:
                raise InputError(
                    f"{known} leaves an effective sample size of {fraction:.2g} of the {n} scenarios "
                    f"({fraction * n:.1f}), below ess_floor {ess_floor:g}; widen it, raise bandwidth, draw more "
                    "scenarios, or draw them so with volscen.generate(..., given=...)"
                )
        except InputError as error:
            if "as_of" in ds.dims:
                day = np.datetime_as_string(date["as_of"].values, unit="D")
                raise InputError(f"as_of {day}: {error}") from None
            raise
    out = ds.copy()
    if "beta_requested" in out.attrs:  # of a lazy cube: the prior's weights are known by now
        penalty = ds[weighing_penalty(ds)].transpose(..., "scenario", "step").values
        out.attrs["beta"] = weight_attributes(penalty, ds["weight"].values, out.attrs["beta_requested"])[0]
    out.attrs["condition"] = f"{out.attrs['condition']}; then {known}" if "condition" in out.attrs else str(known)
    set_weights(out, rows)
    return out


def _widths(bandwidth: Any, given: Mapping[Any, Any], known: Given) -> FloatArray:
    """Bandwidth of each quantity, NaN where it is to be chosen."""
    if isinstance(bandwidth, Mapping):
        missing = [str(key) for key in bandwidth if key not in given]
        if missing:
            raise InputError(f"bandwidth names {missing[0]}, which is not given")
        found = [bandwidth.get(key) for key in given]
    else:
        found = [bandwidth] * len(known.quantities)
    for value in found:
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.bool_))
        if value is not None and not (number and 0 < value < np.inf):
            raise InputError(f"bandwidth must be a positive number or a mapping to such, not {bandwidth!r}")
    return np.array([np.nan if value is None else float(value) for value in found])


def _weigh(date: xr.Dataset, row: int, known: Given, prior: FloatArray, widths: FloatArray, exact: bool) -> FloatArray:
    x = known.values(date, row)
    value = known.is_value
    inside = ((x >= known.low) & (x <= known.high))[:, ~value].all(axis=1)
    weight = np.where(inside, prior, 0.0)
    if not weight.sum() > 0:
        raise InputError(f"no scenario with weight has {known}; widen it, or draw such with volscen.generate(given=)")
    weight /= weight.sum()
    if not value.any():
        return np.asarray(weight)
    x, centre = x[:, value], known.low[value]
    mean = weight @ x
    spread = np.sqrt(weight @ (x - mean) ** 2)
    power = -1 / (4 + centre.size)
    silverman = (4 / (2 + centre.size)) ** -power * spread * float(effective_sample_size(weight)) ** power
    width = np.where(np.isnan(widths[value]), silverman, widths[value])
    if np.any(width <= 0):
        raise InputError(f"the scenarios do not vary in what is given ({known}); give a band or a bandwidth")
    exponent = -0.5 * np.square((x - centre) / width).sum(axis=1)
    best = exponent[weight > 0].max()
    if best < _NOTHING:
        raise InputError(
            f"{known} lies {np.sqrt(-2 * best):.0f} bandwidths from the nearest scenario; raise bandwidth, or draw "
            "scenarios there with volscen.generate(given=)"
        )
    weight = weight * np.exp(np.minimum(exponent - best, 0.0))
    weight /= weight.sum()
    if not exact:
        return np.asarray(weight)
    held = [
        views.mean(views.array(column, quantity.label), equals=float(target))
        for column, quantity, target in zip(
            x.T, (q for q, v in zip(known.quantities, value, strict=True) if v), centre, strict=True
        )
    ]
    one = date.drop_vars("as_of", errors="ignore").copy()
    for name in OTHER_WEIGHTS:
        one.attrs.pop(name, None)
    return np.asarray(entropy_pool(one, held, prior=weight, ess_floor=0.0)["weight"].values)

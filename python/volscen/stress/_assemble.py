"""The state that is stressed, and the scenario dataset that stresses of it make."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import arbitrage, schema
from volscen.errors import FitError, InputError
from volscen.history._history import position
from volscen.portfolio._contracts import one_date
from volscen.schema import check_weights

__all__ = ["Start", "assemble", "combine", "start_of"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Start:
    """What is known on the day that is stressed."""

    spot: float
    tau: FloatArray
    moneyness: FloatArray
    implied_vol: FloatArray
    forward: FloatArray
    discount_factor: FloatArray
    as_of: np.datetime64 | None
    attrs: dict[str, Any]


def start_of(start: xr.Dataset, as_of: Any = None) -> Start:
    """Read the state from a history (at a date, its last by default), a surface, or a scenario cube."""
    kind = start.attrs.get("schema") if isinstance(start, xr.Dataset) else None
    if kind not in (schema.HISTORY, schema.SURFACE, schema.SCENARIOS):
        raise InputError(
            "start must be a history, a surface of volscen.build_surface, or scenarios, whose starting state is taken"
        )
    if as_of is not None and kind != schema.HISTORY:
        raise InputError("as_of chooses a date of a history; this start has one date only")
    if kind == schema.SCENARIOS:
        ds, suffix = one_date(start, load=False), "0"
        day = ds["as_of"].values if "as_of" in ds.coords else None
    else:
        schema.validate(start, schema=kind)
        suffix, ds = "", start
        if kind == schema.HISTORY:
            row = start.sizes["date"] - 1 if as_of is None else position(start, as_of)
            ds = start.isel(date=row)
        day = ds["date"].values if "date" in ds.coords else None
    spot = float(ds[f"spot{suffix}"])
    n_tau = ds.sizes["tau"]
    flat = {"forward": np.full(n_tau, spot), "discount_factor": np.ones(n_tau)}
    curves = {
        name: ds[name + suffix].values.astype(np.float64) if name + suffix in ds else default
        for name, default in flat.items()
    }
    return Start(
        spot=spot,
        tau=ds["tau"].values.astype(np.float64),
        moneyness=ds["moneyness"].values.astype(np.float64),
        implied_vol=ds[f"implied_vol{suffix}"].transpose("tau", "moneyness").values.astype(np.float64),
        as_of=None if day is None else np.datetime64(int(day.astype("datetime64[ns]").astype(np.int64)), "ns"),
        attrs=dict(start.attrs) | {"calendar": schema.calendar_of(start)},
        **curves,
    )


def assemble(
    start: Start,
    names: Sequence[str],
    log_return: FloatArray,
    implied_vol: FloatArray,
    *,
    kind: str,
    weight: npt.ArrayLike | None = None,
    project: bool = False,
    steps: Sequence[int] | None = None,
) -> xr.Dataset:
    """Scenario dataset of returns (n, steps) and surfaces (n, steps, tau, moneyness) from a start."""
    if not isinstance(project, bool | np.bool_):
        raise InputError(f"project must be True or False, not {project!r}")
    n, horizon = log_return.shape
    w = np.full(n, 1 / n) if weight is None else check_weights(weight, n)
    if w.shape != (n,):
        raise InputError(f"weight must give one number for each of the {n} scenarios, not shape {w.shape}")
    spot = start.spot * np.exp(np.cumsum(log_return, axis=1))
    if not (np.all(np.isfinite(implied_vol)) and np.all(np.isfinite(spot)) and np.all(spot > 0)):
        raise InputError("a shock leaves no finite, positive spot and volatility; make it smaller")
    grid = (start.tau, start.moneyness)
    penalty = np.asarray(arbitrage.penalty(implied_vol, *grid))
    drawn: dict[str, Any] = {"arbitrage_penalty": (("scenario", "step"), penalty)}
    if project:
        implied_vol, status = arbitrage.project(implied_vol, *grid)
        if np.any(status >= arbitrage.ProjectionStatus.FAILED):
            bad = names[int(np.argwhere(status >= arbitrage.ProjectionStatus.FAILED)[0, 0])]
            raise FitError(f"no surface without arbitrage was found near that of {bad!r}; make the shock smaller")
        drawn = {
            "arbitrage_penalty": (("scenario", "step"), np.asarray(arbitrage.penalty(implied_vol, *grid))),
            "arbitrage_penalty_raw": (("scenario", "step"), penalty),
            "projection_status": (("scenario", "step"), status),
        }
    attributes = schema.base_attributes(
        schema.SCENARIOS,
        title=f"Stress scenarios ({kind})",
        source=f"{kind}; start: {start.attrs.get('source', 'unknown')}",
        calendar=str(start.attrs["calendar"]),
        periods_per_year=float(start.attrs.get("periods_per_year", 252)),
    )
    attributes |= {"generator": f"stress-{kind}", "seed": 0, "projected": int(project), "beta": 0.0}
    attributes |= {"ess_fraction": min(float(1 / (n * (w @ w))), 1.0), "data_fingerprint": _fingerprint(start)}
    day = {} if start.as_of is None else {"as_of": start.as_of}
    ds = xr.Dataset(
        {
            "implied_vol": (("scenario", "step", "tau", "moneyness"), implied_vol),
            "log_return": (("scenario", "step"), log_return),
            "spot": (("scenario", "step"), spot),
            "weight": ("scenario", w),
            **drawn,
            "spot0": start.spot,
            "implied_vol0": (("tau", "moneyness"), start.implied_vol),
            "forward0": ("tau", start.forward),
            "discount_factor0": ("tau", start.discount_factor),
            "state_clipped": np.int8(0),
        },
        coords={
            "scenario": np.arange(n),
            "step": np.arange(1, horizon + 1) if steps is None else np.asarray(steps),
            "tau": start.tau,
            "moneyness": start.moneyness,
            "name": ("scenario", np.array(names, dtype=object), {"long_name": "name of the scenario"}),
            **day,
        },
        attrs=attributes,
    )
    return schema.validate(schema.arrange(ds))


def combine(*scenarios: xr.Dataset, weight: npt.ArrayLike | None = None) -> xr.Dataset:
    """Put stress scenarios of the same start into one dataset.

    Parameters
    ----------
    *scenarios : xarray.Dataset
        With the same starting state, grid and steps, from :func:`shock`, :func:`replay` or :func:`reverse`.
    weight : array_like, shape (n,), optional
        Of all scenarios together, summing to 1; equal when omitted.

    Returns
    -------
    xarray.Dataset
        Following ``volscen/scenarios/1``, with the coordinate ``name``.

    Raises
    ------
    InputError
        If there are none, or they do not start from the same state.

    Examples
    --------
    >>> import volscen
    >>> cube = volscen.generate(n_scenarios=1000, seed=1)
    >>> up, down = (volscen.stress.shock(cube, level=size) for size in (0.05, -0.05))
    >>> volscen.stress.combine(up, down).sizes["scenario"]
    2
    """
    if not scenarios:
        raise InputError("combine needs at least one set of stress scenarios")
    starts = [start_of(ds) for ds in scenarios]
    first = starts[0]
    for ds, other in zip(scenarios, starts, strict=True):
        if "name" not in ds.coords or ds["name"].dims != ("scenario",):
            raise InputError("combine takes the stress scenarios of shock, replay and reverse, which have names")
        same = all(
            np.array_equal(getattr(first, name), getattr(other, name))
            for name in ("spot", "tau", "moneyness", "implied_vol", "forward", "discount_factor", "as_of")
        )
        if not same or not np.array_equal(ds["step"], scenarios[0]["step"]):
            raise InputError("scenarios to combine must share their starting state, their grid and their steps")
    parts = [
        (ds["log_return"].transpose("scenario", "step"), ds["implied_vol"].transpose("scenario", "step", ...))
        for ds in scenarios
    ]
    return assemble(
        first,
        [str(name) for ds in scenarios for name in ds["name"].values],
        np.concatenate([part[0].values for part in parts]),
        np.concatenate([part[1].values.astype(np.float64) for part in parts]),
        kind="combined",
        weight=weight,
        steps=scenarios[0]["step"].values.tolist(),
    )


def _fingerprint(start: Start) -> str:
    digest = hashlib.sha256()
    for array in (start.spot, start.tau, start.moneyness, start.implied_vol, start.forward, start.discount_factor):
        digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return digest.hexdigest()

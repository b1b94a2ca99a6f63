"""The dataset contracts: names, dimensions, attributes, and the checks that enforce them.

The contracts themselves are described in ``docs/schema.md``.
"""

from __future__ import annotations

import hashlib
import warnings
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen._version import __version__
from volscen.errors import FileFormatError, InputError

__all__ = [
    "HEDGE",
    "HISTORY",
    "REPAIR",
    "SCENARIOS",
    "SMILES",
    "SURFACE",
    "check_grid",
    "check_weights",
    "fingerprint",
    "validate",
]

HISTORY = "volscen/history/1"
SCENARIOS = "volscen/scenarios/1"
HEDGE = "volscen/hedge/1"
SURFACE = "volscen/surface/1"
SMILES = "volscen/smiles/1"
REPAIR = "volscen/repair/1"

#: Dimensions of strikes that differ from time to time, in place of moneyness.
SMILE_DIMS = ("delta", "normalised_moneyness", "standardised_moneyness")

#: Relative tolerance within which two grid coordinates are the same point.
GRID_RTOL = 1e-6

#: Median volatility of all dates, and of one, beyond which it was not given in decimals. Wings alone may lie higher.
_HIGH_VOL = (2.0, 5.0)

#: With fewer returns of forwards than this the basis may explain any difference from those of the spot.
_FEW = 10

#: A return over a gap this far from that of the spot is not of the whole gap: of spots, and of forwards.
_LOST, _LOST_FORWARD = 1e-4, 0.02

VARIABLES: dict[str, dict[str, Any]] = {
    "tau": {"long_name": "time to expiry", "units": "year"},
    "moneyness": {"long_name": "strike over forward, K/F", "units": "1"},
    "delta": {"long_name": "undiscounted forward delta of the call, N(d1)", "units": "1"},
    "delta_label": {"long_name": "delta in per cent by wing: P a put's, C a call's, ATM delta-neutral", "units": "1"},
    "normalised_moneyness": {"long_name": "ln(K/F) over the root of time to expiry", "units": "year-0.5"},
    "standardised_moneyness": {"long_name": "ln(K/F) over at-the-money vol and the root of time", "units": "1"},
    "asset": {"long_name": "name of the underlying", "units_note": "text"},
    "days_lost": {"long_name": "dates of this asset that another one lacks", "units": "1"},
    "date": {"long_name": "trading date", "units_note": "calendar date"},
    "as_of": {"long_name": "last date known to the scenario", "units_note": "calendar date"},
    "scenario": {"long_name": "scenario number", "units": "1"},
    "step": {"long_name": "trading days ahead", "units": "day"},
    "implied_vol": {"long_name": "Black-76 implied volatility", "units": "1"},
    "implied_vol0": {"long_name": "implied volatility at the starting state", "units": "1"},
    "spot": {"long_name": "price of the underlying", "units": "currency"},
    "spot0": {"long_name": "price of the underlying at the starting state", "units": "currency"},
    "log_return": {"long_name": "one-step log return of the underlying", "units": "1"},
    "forward": {"long_name": "forward price", "units": "currency"},
    "forward0": {"long_name": "forward price at the starting state", "units": "currency"},
    "discount_factor": {"long_name": "discount factor to expiry", "units": "1"},
    "discount_factor0": {"long_name": "discount factor to expiry at the starting state", "units": "1"},
    "quality": {
        "long_name": "origin of each surface cell",
        "units": "1",
        "flag_values": np.array([0, 1, 2], dtype=np.int8),
        "flag_meanings": "observed interpolated extrapolated",
    },
    "n_quotes": {"long_name": "quotes that the surface was fitted to", "units": "1"},
    "fit_rmse": {"long_name": "root mean square error of volatility against the quotes used", "units": "1"},
    "fit_max": {"long_name": "largest absolute error of volatility against the quotes used", "units": "1"},
    "extrapolated_share": {"long_name": "share of the cells beyond the quotes", "units": "1"},
    "jump_flag": {
        "long_name": "corporate actions between the previous date and this",
        "units": "1",
        "flag_values": np.array([0, 1, 2], dtype=np.int8),
        "flag_meanings": "none removed_from_log_return suspect",
    },
    "weight": {"long_name": "scenario weight, summing to 1 per as_of", "units": "1"},
    "arbitrage_penalty": {"long_name": "Cont-Vuletic static-arbitrage penalty", "units": "1"},
    "arbitrage_penalty_raw": {"long_name": "static-arbitrage penalty before projection", "units": "1"},
    "projection_status": {
        "long_name": "what the projection made of each surface",
        "units": "1",
        "flag_values": np.array([0, 1, 2], dtype=np.int8),
        "flag_meanings": "free projected not_converged",
    },
    "level": {"long_name": "probability of the interval", "units": "1"},
    "total_variance": {"long_name": "total implied variance, vol^2 tau", "units": "1"},
    "implied_vol_sd": {"long_name": "standard deviation of the implied volatility", "units": "1"},
    "lower": {"long_name": "lower end of the interval of implied volatility", "units": "1"},
    "upper": {"long_name": "upper end of the interval of implied volatility", "units": "1"},
    "out_of_range": {"long_name": "1 beyond the times and strikes of the library", "units": "1"},
    "misfit": {"long_name": "root mean square of leave-one-out differences; near 1 for usual surfaces", "units": "1"},
    "surface_flag": {
        "long_name": "what to beware of",
        "units": "1",
        "flag_masks": np.array([1, 2, 4, 8, 16], dtype=np.int8),
        "flag_meanings": "few_quotes out_of_distribution out_of_range rescaled mistaken_quotes",
    },
    "wing_slope_max": {"long_name": "largest outward slope of total variance in ln(K/F) at the ends", "units": "1"},
    "projection_change_rms": {
        "long_name": "root mean square change of volatility by projection",
        "units": "vol point",
    },
    "durrleman_g_min": {"long_name": "smallest Durrleman's g at inner grid points", "units": "1"},
    "stale_score": {"long_name": "distance of a quote from what the others say, in standard deviations", "units": "1"},
    "repaired_at_quote": {"long_name": "implied volatility predicted where a quote lies", "units": "1"},
    "quoted_vol": {"long_name": "implied volatility quoted", "units": "1"},
    "quote_tau": {"long_name": "time to expiry of the quote", "units": "year"},
    "quote_moneyness": {"long_name": "strike over forward of the quote, K/F", "units": "1"},
    "quote_date": {"long_name": "trading date of the quote", "units_note": "calendar date"},
    "state_clipped": {
        "long_name": "1 where the starting state lay outside what the generator was fitted on",
        "units": "1",
    },
}

_DIMS: dict[str, dict[str, tuple[tuple[str, ...], bool]]] = {
    HISTORY: {
        "implied_vol": (("date", "tau", "moneyness"), True),
        "spot": (("date",), True),
        "log_return": (("date",), True),
        "forward": (("date", "tau"), False),
        "discount_factor": (("date", "tau"), False),
        "quality": (("date", "tau", "moneyness"), False),
        **dict.fromkeys(
            ("n_quotes", "fit_rmse", "fit_max", "arbitrage_penalty", "extrapolated_share", "jump_flag"),
            (("date",), False),
        ),
    },
    SCENARIOS: {
        "implied_vol": (("scenario", "step", "tau", "moneyness"), True),
        "log_return": (("scenario", "step"), True),
        "spot": (("scenario", "step"), True),
        "weight": (("scenario",), True),
        "arbitrage_penalty": (("scenario", "step"), True),
        "arbitrage_penalty_raw": (("scenario", "step"), False),
        "projection_status": (("scenario", "step"), False),
        "spot0": ((), True),
        "implied_vol0": (("tau", "moneyness"), True),
        "forward0": (("tau",), True),
        "discount_factor0": (("tau",), True),
        "state_clipped": ((), True),
    },
    SURFACE: {
        "implied_vol": (("tau", "moneyness"), True),
        "forward": (("tau",), True),
        "discount_factor": (("tau",), True),
        "quality": (("tau", "moneyness"), True),
        "spot": ((), True),
        "arbitrage_penalty": ((), True),
    },
    SMILES: {
        "implied_vol": (("...", "tau", "one of " + ", ".join(SMILE_DIMS)), True),
        "quality": (("...", "tau", "one of " + ", ".join(SMILE_DIMS)), False),
    },
    REPAIR: {
        **{
            name: (("...", "tau", "moneyness"), True)
            for name in ("implied_vol", "total_variance", "implied_vol_sd", "quality", "out_of_range")
        },
        "lower": (("level", "...", "tau", "moneyness"), True),
        "upper": (("level", "...", "tau", "moneyness"), True),
        **dict.fromkeys(("misfit", "surface_flag", "n_quotes"), (("...",), True)),
        "projection_status": (("...",), False),
    },
    HEDGE: {
        "ratio": (("instrument",), True),
        "selected": (("instrument",), True),
        "value0": (("instrument",), True),
        "r_squared": ((), True),
        "residual_mean": ((), True),
        "residual_std": ((), True),
        "residual_var": (("tail",), True),
        "residual_es": (("tail",), True),
    },
}

_ATTRIBUTES = (
    "Conventions",
    "title",
    "source",
    "history",
    "volscen_version",
    "schema",
    "calendar",
    "day_count",
)
_SCENARIO_ATTRIBUTES = ("generator", "seed", "projected", "periods_per_year", "data_fingerprint")


def base_attributes(schema: str, *, title: str, source: str, calendar: str, periods_per_year: float) -> dict[str, Any]:
    """Global attributes that every dataset of ours carries."""
    return {
        "Conventions": "CF-1.11",
        "title": title,
        "source": source,
        "history": f"{datetime.now(UTC).isoformat(timespec='seconds')} created by volscen {__version__}",
        "volscen_version": __version__,
        "schema": schema,
        "calendar": calendar,
        "periods_per_year": float(periods_per_year),
        "day_count": "ACT/365",
    }


def arrange(ds: xr.Dataset) -> xr.Dataset:
    """Annotate a dataset and put its variables in the order of its schema."""
    known = [name for name in _DIMS[str(ds.attrs["schema"])] if name in ds]
    return annotate(ds[[*known, *(name for name in ds.data_vars if name not in known)]])


def annotate(ds: xr.Dataset) -> xr.Dataset:
    """Attach ``long_name`` and ``units`` to every known variable, in place."""
    for name, attributes in VARIABLES.items():
        if name in ds.variables:
            ds[name].attrs.update({k: v for k, v in attributes.items() if k != "units_note"})
    return ds


def fingerprint(history: xr.Dataset) -> str:
    """SHA-256 (hex) of the dates, grid, surfaces and returns of a history."""
    digest = hashlib.sha256()
    digest.update(history["date"].values.astype("datetime64[ns]").astype("<i8").tobytes())
    for name in ("tau", "moneyness", "implied_vol", "log_return"):
        digest.update(np.ascontiguousarray(history[name].values, dtype="<f8").tobytes())
    return digest.hexdigest()


def check_grid(values: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    """Return a grid coordinate as float64 after checking it.

    Raises
    ------
    InputError
        If it is not one-dimensional, positive, finite and strictly increasing.
    """
    if np.ma.is_masked(values):
        raise InputError(f"{name} is a masked array with masked elements; drop them first")
    grid = np.asarray(values, dtype=np.float64)
    if grid.ndim != 1 or grid.size == 0:
        raise InputError(f"{name} must be a non-empty one-dimensional array, not shape {grid.shape}")
    if not np.all(np.isfinite(grid)) or np.any(grid <= 0):
        raise InputError(f"{name} must hold positive finite numbers; drop the others")
    if np.any(np.diff(grid) <= 0):
        raise InputError(f"{name} must be strictly increasing; sort it and drop duplicates")
    return grid


def check_same_grid(tau: npt.ArrayLike, moneyness: npt.ArrayLike, like: xr.Dataset, what: str) -> None:
    """Raise :class:`InputError` unless ``like`` lies on the grid (tau, moneyness)."""
    for name, values in (("tau", tau), ("moneyness", moneyness)):
        own, other = np.asarray(values, dtype=np.float64), np.asarray(like[name].values, dtype=np.float64)
        if own.shape != other.shape or not np.allclose(own, other, rtol=GRID_RTOL, atol=0):
            raise InputError(
                f"{name} of the history ({other.size} points from {other[0]:.4g} to {other[-1]:.4g}) differs from "
                f"{what}'s ({own.size} points from {own[0]:.4g} to {own[-1]:.4g}); "
                "rebuild the history on that grid or refit"
            )


def check_weights(weight: npt.ArrayLike, n: int | None = None, *, atol: float = 1e-6) -> npt.NDArray[np.float64]:
    """Return scenario weights as float64 after checking them; the one place where weights are judged.

    Parameters
    ----------
    weight : array_like, shape (..., n)
        Finite, non-negative, summing to 1 over the last axis.
    n : int, optional
        Length that the last axis must have.
    atol : float
        How far from 1 a sum may lie.

    Raises
    ------
    InputError
        If the shape is wrong, a weight is negative or not finite, or a sum differs from 1.
    """
    try:
        w = np.asarray(weight, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("weight must be an array of numbers") from None
    if w.ndim == 0 or (n is not None and w.shape[-1] != n):
        raise InputError(f"weight must have {n} entries on its last axis, not shape {w.shape}")
    if not np.all(np.isfinite(w)) or np.any(w < 0):
        raise InputError("weight must be finite and non-negative")
    total = w.sum(axis=-1)
    if np.any(np.abs(total - 1) > atol):
        raise InputError(f"weight must sum to 1 (a sum is {np.ravel(total)[0]:.9g}); divide by the sum")
    return w


def validate(ds: xr.Dataset, *, schema: str | None = None) -> xr.Dataset:
    """Check a history, surface, scenario or hedge dataset against its schema and return it unchanged.

    Parameters
    ----------
    ds : xarray.Dataset
        What to check. Dask-backed variables are checked for shape only, not computed.
    schema : str, optional
        Schema it must follow; read from ``ds.attrs["schema"]`` when omitted. A history, or scenarios, must
        then be of one asset, as the verbs take it.

    Raises
    ------
    FileFormatError
        Lists every problem found, in one message.
    InputError
        If one asset is asked for and there are several.

    Warns
    -----
    UserWarning
        If a history skips weekdays and the returns over the gaps are not the spot's: dates were dropped by hand.

    Examples
    --------
    >>> import volscen
    >>> history = volscen.datasets.sample_history()
    >>> volscen.validate(history) is history
    True
    """
    if not isinstance(ds, xr.Dataset):
        raise InputError(f"an xarray.Dataset of volscen is needed, not {type(ds).__name__}")
    found = str(ds.attrs.get("schema", ""))
    wanted = schema or found
    if wanted not in _DIMS:
        raise FileFormatError(
            f"not a volscen dataset: attribute schema is {found!r}, known schemas are {sorted(_DIMS)}"
        )
    if found != wanted:
        remedy = (
            "; put repaired surfaces into their history: history.assign(implied_vol=whole.implied_vol)"
            if (wanted, found) == (HISTORY, REPAIR)
            else ""
        )
        raise FileFormatError(f"not a dataset of schema {wanted!r}: its attribute schema is {found!r}{remedy}")
    if schema in (HISTORY, SCENARIOS) and "asset" in ds.dims:
        names = [str(name) for name in ds["asset"].values]
        what, variable = ("history", "history") if schema == HISTORY else ("scenario dataset", "ds")
        raise InputError(
            f"the {what} holds {len(names)} assets ({', '.join(names[:5])}) and one is needed; choose it with "
            f"{variable}.sel(asset={names[0] if names else ''!r})"
        )
    problems = [*_attribute_problems(ds, wanted), *_grid_problems(ds, wanted)]
    for name, (dims, required) in _DIMS[wanted].items():
        if name in ds:
            problems += _variable_problems(ds, name, dims, wanted)
        elif required:
            problems.append(f"variable {name} is missing")
    if not problems:
        problems = _spot_problems(ds, wanted)
    if problems:
        raise FileFormatError(f"dataset breaks {wanted}: " + "; ".join(problems))
    if wanted == HISTORY and (lost := _dates_after_gaps(ds)).size:
        warnings.warn(
            f"log_return into {lost.size} date(s), the first {lost[0]}, is not the return since the previous date "
            "held: were dates dropped by hand? volscen.select_dates drops them and adds up the returns",
            stacklevel=2,
        )
    return ds


def _attribute_problems(ds: xr.Dataset, schema: str) -> list[str]:
    own = {SCENARIOS: _SCENARIO_ATTRIBUTES, HEDGE: ("method", "ess_fraction"), REPAIR: ("method", "projected")}
    names = _ATTRIBUTES + own.get(schema, ())
    problems = [f"attribute {name} is missing" for name in names if name not in ds.attrs]
    # The weights of a lazy cube are unknown until computed, and so are these two: writing sets them.
    if schema == SCENARIOS and "beta_requested" not in ds.attrs:
        problems += [f"attribute {name} is missing" for name in ("beta", "ess_fraction") if name not in ds.attrs]
    for name, (low, high) in _NUMBERS.items():
        if name in ds.attrs:
            values = np.asarray(ds.attrs[name])
            if values.dtype.kind not in "iuf" or not np.all((values > low) & (values < high)):
                problems.append(f"attribute {name} must lie between {low:g} and {high:g}, not {ds.attrs[name]!r}")
    return problems


#: Numeric attributes and the open interval that each must lie in.
_NUMBERS: dict[str, tuple[float, float]] = {
    "periods_per_year": (0, np.inf),
    "seed": (-1, 2.0**63),
    "beta": (-1e-12, np.inf),
    "ess_fraction": (0, 1 + 1e-9),
}


def _grid_problems(ds: xr.Dataset, schema: str) -> list[str]:
    problems: list[str] = []
    if schema == HEDGE:
        return problems
    for name in ("tau",) if schema == SMILES else ("tau", "moneyness"):
        if name not in ds.coords:
            problems.append(f"coordinate {name} is missing")
            continue
        try:
            check_grid(ds[name].values, name)
        except InputError as error:
            problems.append(str(error))
    if schema in (HISTORY, SCENARIOS) and "asset" in ds.dims:
        assets = ds["asset"].values.tolist() if "asset" in ds.coords else []
        if not assets or len(set(assets)) < len(assets) or not all(isinstance(a, str) and a for a in assets):
            problems.append("coordinate asset must hold a name for each asset, without duplicates")
    for name in ("date",) if schema == HISTORY or "date" in ds.dims else ("as_of",) if "as_of" in ds.dims else ():
        if name not in ds.coords or not np.issubdtype(ds[name].dtype, np.datetime64):
            problems.append(f"coordinate {name} must hold datetime64 dates")
        elif np.any(np.isnat(ds[name].values)):
            problems.append(f"{name} holds NaT")
        elif np.any(np.diff(ds[name].values) <= np.timedelta64(0)):
            problems.append(f"{name} must be strictly increasing, without duplicates")
    if schema == SMILES:
        problems += _smile_problems(ds)
    return problems


def _smile_problems(ds: xr.Dataset) -> list[str]:
    """Strikes that differ from time to time must be given, and increase."""
    if "moneyness" not in ds.coords:
        return ["coordinate moneyness is missing"]
    array = ds["moneyness"]
    if array.dims[-2:-1] != ("tau",) or array.dims[-1] not in SMILE_DIMS or array.dims[-1] not in ds.coords:
        return [f"moneyness must end in dimensions tau and one of {', '.join(SMILE_DIMS)}, not {array.dims}"]
    if isinstance(array.data, np.ndarray):
        values = array.values
        if not (np.all(np.isfinite(values)) and np.all(values > 0) and np.all(np.diff(values, axis=-1) > 0)):
            return [f"moneyness must be positive, finite and strictly increasing along {array.dims[-1]}"]
    return []


def _variable_problems(ds: xr.Dataset, name: str, dims: tuple[str, ...], schema: str) -> list[str]:
    array = ds[name]
    if "asset" in ds.dims and (schema == HISTORY or (schema == SCENARIOS and name != "weight")):
        dims = ("asset", *dims)
    allowed: set[Any] = {dims, ("as_of", *dims)} if schema == SCENARIOS else {dims}
    if schema == SMILES:
        allowed = {array.dims} if array.dims[-2:-1] == ("tau",) and array.dims[-1] in SMILE_DIMS else set()
    if schema == REPAIR:
        lead = ds["implied_vol"].dims[:-2]
        allowed = {tuple(part for name in dims for part in (lead if name == "..." else (name,)))}
    if array.dims not in allowed:
        return [f"{name} has dimensions {array.dims}, not {dims}"]
    if array.size == 0:
        return [f"{name} is empty: {dict(array.sizes)}"]
    if array.dtype.kind not in "biuf":
        return [f"{name} must hold numbers, not {array.dtype}"]
    if not isinstance(array.data, np.ndarray):
        return []
    values = array.values
    if name == "weight":
        try:
            check_weights(values)
        except InputError as error:
            return [str(error)]
        return []
    if schema == HISTORY and name == "log_return":
        values = values[..., 1:]  # the first return is NaN by definition
    if not np.all(np.isfinite(values)):
        remedy = " (volscen.repair fills holes)" if name == "implied_vol" and schema == HISTORY else ""
        return [f"{name} holds NaN or infinite values{remedy}"]
    if name.startswith(("implied_vol", "spot", "forward", "discount_factor")) and np.any(values <= 0):
        return [f"{name} holds values that are not positive"]
    if schema == HISTORY and name == "implied_vol":
        middle = np.median(values, axis=(-2, -1))
        if np.median(middle) > _HIGH_VOL[0] or np.any(middle > _HIGH_VOL[1]):
            return [
                f"implied_vol is {middle.max():.3g} in the middle of a date's surface; decimals are needed (0.2 is "
                "20%): is it given in per cent? divide by 100"
            ]
    if name.startswith("arbitrage_penalty") and np.any(values < 0):
        return [f"{name} holds negative values"]
    return []


def _dates_after_gaps(ds: xr.Dataset) -> npt.NDArray[np.datetime64]:
    """Dates that follow skipped weekdays and whose returns are not of the spot over the gap.

    Over holidays the two agree; a date dropped by hand takes its own return with it. Where returns leave out what the
    spot does, on dates of dividends, there is no gap as a rule.
    """
    days = ds["date"].values.astype("datetime64[D]")
    if days.size < 2 or np.any(days[1:] == days[:-1]):  # several rows a day: no telling which are missing
        return days[:0]
    apart = np.diff(days).astype(int) if ds.attrs.get("calendar") == "24/7" else np.busday_count(days[:-1], days[1:])
    skipped = apart > max(1, np.median(apart))  # rows of every week are a week apart
    of_spot = np.diff(np.log(np.atleast_2d(ds["spot"].values)), axis=-1)
    gap = np.abs(np.atleast_2d(ds["log_return"].values)[:, 1:] - of_spot)
    if "jump_flag" in ds:
        skipped = skipped & ~np.any(np.atleast_2d(ds["jump_flag"].values)[:, 1:] == 1, axis=0)
    # Spots read off the nearest forward jump by the basis where it rolls.
    most = _LOST_FORWARD if ds.attrs.get("return_source") == "forward" else _LOST
    return np.asarray(days[1:][skipped & np.any(gap > most, axis=0)])


def _spot_problems(ds: xr.Dataset, schema: str) -> list[str]:
    """Spot and returns must tell the same story; dividends may part them on a few dates."""
    if schema == HISTORY:
        of_spot = np.atleast_2d(np.diff(np.log(ds["spot"].values)))
        gap = np.abs(np.atleast_2d(ds["log_return"].values[..., 1:]) - of_spot)
        compared = np.ones(gap.shape, dtype=bool)
        if "jump_flag" in ds:  # where a corporate action was taken out they do differ
            compared = np.atleast_2d(ds["jump_flag"].values[..., 1:]) != 1
        of_forwards = ds.attrs.get("return_source") == "forward"
        for own, theirs, use in zip(gap, np.abs(of_spot), compared, strict=True):
            # Returns of forwards differ from those of the spot by carry and noise, but not as a rule by as much as
            # the returns.
            if use.any() and (not of_forwards or use.sum() >= _FEW):
                allowed = 0.25 * np.median(theirs[use]) + 1e-3 if of_forwards else 1e-5
                if np.median(own[use]) > allowed:
                    return [
                        "log_return is not the return between neighbouring dates; take a subset of the dates with "
                        "volscen.select_dates"
                    ]
    whole = schema == SCENARIOS and np.array_equal(ds["step"].values, np.arange(1, ds.sizes["step"] + 1))
    if whole and all(isinstance(ds[name].data, np.ndarray) for name in ("spot", "spot0", "log_return")):
        growth = np.exp(ds["log_return"].values.astype(np.float64).cumsum(axis=-1))
        if not np.allclose(ds["spot"].values, ds["spot0"].values[..., None, None] * growth, rtol=1e-4, atol=0):
            return ["spot is not spot0 compounded by log_return"]
    return []

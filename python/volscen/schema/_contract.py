"""What datasets promise: names, dimensions and attributes, as ``docs/schema.md`` describes them, and their making."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import numpy as np
import xarray as xr

from volscen._version import __version__

__all__ = [
    "ATTRIBUTES",
    "DIMS",
    "HEDGE",
    "HISTORY",
    "REPAIR",
    "SCENARIOS",
    "SCENARIO_ATTRIBUTES",
    "SMILES",
    "SMILE_DIMS",
    "SURFACE",
    "VARIABLES",
    "annotate",
    "arrange",
    "base_attributes",
    "fingerprint",
]

HISTORY = "volscen/history/1"
SCENARIOS = "volscen/scenarios/1"
HEDGE = "volscen/hedge/1"
SURFACE = "volscen/surface/1"
SMILES = "volscen/smiles/1"
REPAIR = "volscen/repair/1"

#: Dimensions of strikes that differ from time to time, in place of moneyness.
SMILE_DIMS = ("delta", "normalised_moneyness", "standardised_moneyness")


VARIABLES: dict[str, dict[str, Any]] = {
    "tau": {"long_name": "time to expiry", "units": "year"},
    "moneyness": {"long_name": "strike over forward, K/F", "units": "1"},
    "delta": {"long_name": "undiscounted forward delta of the call, N(d1)", "units": "1"},
    "delta_label": {"long_name": "delta in per cent by wing: P a put's, C a call's, ATM delta-neutral", "units": "1"},
    "normalised_moneyness": {"long_name": "ln(K/F) over the root of time to expiry", "units": "year-0.5"},
    "standardised_moneyness": {"long_name": "ln(K/F) over at-the-money vol and the root of time", "units": "1"},
    "asset": {"long_name": "name of the underlying", "units_note": "text"},
    "calendar": {"long_name": "exchange calendar of the asset", "units_note": "text"},
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

DIMS: dict[str, dict[str, tuple[tuple[str, ...], bool]]] = {
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

ATTRIBUTES = (
    "Conventions",
    "title",
    "source",
    "history",
    "volscen_version",
    "schema",
    "calendar",
    "day_count",
)
SCENARIO_ATTRIBUTES = ("generator", "seed", "projected", "periods_per_year", "data_fingerprint")


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
    known = [name for name in DIMS[str(ds.attrs["schema"])] if name in ds]
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

"""What datasets and models say in numbers, unrounded: what ``--json`` prints and summaries are made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from volscen import risk, schema
from volscen._elapsed import step_labels
from volscen._reweight import effective_sample_size, weighing_penalty
from volscen._statistics import quantile
from volscen.errors import FileFormatError
from volscen.surface._interpolate import interpolate_vol

__all__ = [
    "QUANTILES",
    "file_figures",
    "hedge_figures",
    "history_figures",
    "model_figures",
    "scenario_figures",
    "streamed_figures",
]

#: Tail probabilities of the index loss, quantiles and tenors of the at-the-money volatility.
LEVELS = (0.05, 0.01)
QUANTILES = (0.01, 0.05, 0.5, 0.95, 0.99)
_TENOR_DAYS = (30, 91, 365)

#: A grid's first or last tenor stands for one of these if it differs by this share at most.
_SAME_TENOR = 0.05

#: Attributes that later builds read, too long for people.
_FOR_MACHINES = ("build_settings", "last_day", "dropped_days")


def by_date(cube: xr.Dataset, name: str) -> npt.NDArray[Any] | None:
    """An attribute that has a number for each date; None where it is of other dates than the cube's.

    Attributes stay whole when one of several dates is chosen.
    """
    values = np.atleast_1d(cube.attrs.get(name, []))
    return values if values.size == cube.sizes.get("as_of", 1) else None


def scenario_figures(cube: xr.Dataset) -> dict[str, Any]:
    """Index VaR and ES, vol quantiles, penalties and effective sample size, per as-of date."""
    beta, distinct = by_date(cube, "beta"), by_date(cube, "distinct_scenarios")
    beyond = by_date(cube, "implausible_share")
    fraction = np.atleast_1d(effective_sample_size(cube["weight"].transpose(..., "scenario").values))
    fraction = fraction / cube.sizes["scenario"]
    dates = [cube.isel(as_of=i) for i in range(cube.sizes["as_of"])] if "as_of" in cube.dims else [cube]
    return {
        "title": cube.attrs["title"],
        "generator": cube.attrs["generator"],
        "seed": int(cube.attrs["seed"]),
        "n_scenarios": cube.sizes["scenario"],
        "horizon": step_labels(cube)[-1],
        "dates": [
            {
                **_date_figures(date),
                "beta": None if beta is None else float(beta[i]),
                "ess_fraction": float(fraction[i]),
                "distinct_scenarios": None if distinct is None else int(distinct[i]),
                "implausible_share": None if beyond is None else float(beyond[i]),
            }
            for i, date in enumerate(dates)
        ],
    }


def streamed_figures(cube: xr.Dataset) -> dict[str, Any]:
    """What is known of a cube without reading it: that of :func:`scenario_figures` that its attributes hold."""
    beta, fraction = np.atleast_1d(cube.attrs["beta"]), np.atleast_1d(cube.attrs["ess_fraction"])
    distinct = np.atleast_1d(cube.attrs.get("distinct_scenarios", []))
    beyond = np.atleast_1d(cube.attrs.get("implausible_share", []))
    days = np.atleast_1d(cube["as_of"].values)
    return {
        "title": cube.attrs["title"],
        "generator": cube.attrs["generator"],
        "seed": int(cube.attrs["seed"]),
        "n_scenarios": cube.sizes["scenario"],
        "horizon": step_labels(cube)[-1],
        "dates": [
            {
                "as_of": day,
                "beta": float(beta[i]),
                "ess_fraction": float(fraction[i]),
                "distinct_scenarios": int(distinct[i]) if len(distinct) == len(days) else None,
                "implausible_share": float(beyond[i]) if len(beyond) == len(days) else None,
            }
            for i, day in enumerate(days)
        ],
    }


def _date_figures(cube: xr.Dataset) -> dict[str, Any]:
    weight = cube["weight"].values
    profit = cube["spot"].isel(step=-1).values.astype(np.float64) / float(cube["spot0"]) - 1
    penalty = cube[weighing_penalty(cube)].sum("step").values
    out: dict[str, Any] = {
        "as_of": cube["as_of"].values,
        "state_clipped": bool(cube["state_clipped"]),
        "index_loss": [
            {
                "alpha": level,
                "value_at_risk": float(risk.value_at_risk(profit, weight, alpha=level)),
                "expected_shortfall": float(risk.expected_shortfall(profit, weight, alpha=level)),
            }
            for level in LEVELS
        ],
        "atm_vol": _atm_vols(cube, weight),
        "arbitrage_penalty": {"mean": float(penalty.mean()), "weighted_mean": float(weight @ penalty)},
    }
    if "projection_status" in cube:
        status = cube["projection_status"].values
        out["projected"] = {
            "surfaces": int(status.size),
            "changed": int((status > 0).sum()),
            "unsure": int((status > 1).sum()),
        }
    return out


def _atm_vols(cube: xr.Dataset, weight: Any) -> list[dict[str, Any]]:
    tau, moneyness = cube["tau"].values, cube["moneyness"].values
    reached = []
    for d in _TENOR_DAYS:  # a month of 30.4 days, at the edge of a grid, is the one of 30
        nearest = float(tau[np.abs(tau - d / 365).argmin()])
        if tau[0] <= d / 365 * (1 + 1e-9) and d / 365 <= tau[-1] * (1 + 1e-9):
            reached.append(d / 365)
        elif abs(365 * nearest - d) <= _SAME_TENOR * d:
            reached.append(nearest)
    out = []
    for tenor in reached or [float(tau[0])]:
        values = interpolate_vol(cube["implied_vol"].values[:, -1], tau, moneyness, tenor, 1.0)
        out.append(
            {
                "days": 365 * tenor,
                "now": float(interpolate_vol(cube["implied_vol0"].values, tau, moneyness, tenor, 1.0)),
                "quantiles": dict(zip(QUANTILES, quantile(values, weight, QUANTILES), strict=True)),
            }
        )
    return out


def hedge_figures(result: xr.Dataset) -> dict[str, Any]:
    """Hedge ratios, their fit and the tracking error."""
    lines = zip(
        result["instrument"].values, result["ratio"].values, result["value0"].values, off_grid(result), strict=True
    )
    tails = zip(result["tail"].values, result["residual_var"].values, result["residual_es"].values, strict=True)
    return {
        "method": result.attrs["method"],
        "alpha": result.attrs.get("alpha"),
        "ess_fraction": float(result.attrs["ess_fraction"]),
        "instruments": [
            {"instrument": str(name), "ratio": float(ratio), "value": float(value), "extrapolated_weight": float(off)}
            for name, ratio, value, off in lines
        ],
        "r_squared": float(result["r_squared"]),
        "residual_mean": float(result["residual_mean"]),
        "residual_std": float(result["residual_std"]),
        "cost": float(result["cost"]) if "cost" in result else None,
        "residual_tails": [
            {"alpha": float(t), "value_at_risk": float(v), "expected_shortfall": float(e)} for t, v, e in tails
        ],
    }


def off_grid(result: xr.Dataset) -> np.typing.NDArray[np.float64]:
    """Weight of the scenarios off the grid, by instrument; results of early versions say less, or nothing."""
    for name in ("extrapolated_weight", "extrapolated"):
        if name in result.coords:
            return result[name].values.astype(np.float64)
    return np.zeros(result["ratio"].shape)


def history_figures(history: xr.Dataset) -> dict[str, Any]:
    """Period and grid of a history, and figures over its days, of those that it holds."""
    dates = history["date"].values
    out: dict[str, Any] = {
        "n_dates": int(dates.size),
        "first": dates[0],
        "last": dates[-1],
        "days": 365 * history["tau"].values,
        "moneyness": history["moneyness"].values,
    }
    if "asset" in history.dims:
        out["assets"] = [str(asset) for asset in history["asset"].values]
    if "n_quotes" in history:
        n = history["n_quotes"].values
        out["quotes_per_date"] = {"median": float(np.median(n)), "least": int(n.min())}
    if "fit_rmse" in history:
        error = history["fit_rmse"].values
        out["fit_rmse"] = {"median": float(np.median(error)), "largest": float(error.max())}
    if "jump_flag" in history:
        flag = history["jump_flag"].values
        out["corporate_actions"] = {
            "removed": int(np.count_nonzero(flag == 1)),
            "suspect": int(np.count_nonzero(flag == 2)),
        }
    return out


def model_figures(model: Any) -> dict[str, Any]:
    """Generator, period, grid and parameters of a fitted model."""
    record = model.record_
    return {
        "generator": model.name,
        "fitted_on": list(model.period_),
        "n_dates": None if record is None else record.n_dates,
        "data_fingerprint": model.fingerprint_,
        "days": 365 * model.tau_,
        "moneyness": model.moneyness_,
        "n_returns": model.n_returns,
        "n_surfaces": model.n_surfaces,
        "calendar": model.calendar_,
        "periods_per_year": model.periods_per_year_,
        "parameters": model.parameters(),
    }


def file_figures(path: str | Path) -> dict[str, Any]:
    """What a dataset or model file of ours holds; validated on the way."""
    path = Path(path)
    if path.suffix == ".safetensors":
        from volscen.generators import load

        if not path.exists():
            raise FileFormatError(f"{path}: no such file")
        return {"file": path, "kind": "model", **model_figures(load(path))}
    from volscen._io import read_dataset

    ds = read_dataset(path)
    return {"file": path, **dataset_figures(ds)}


def dataset_figures(ds: xr.Dataset) -> dict[str, Any]:
    """Schema, sizes and attributes of a dataset, and what belongs to its kind."""
    name = str(ds.attrs.get("schema"))
    kind: Mapping[str, Any] = {
        schema.HEDGE: hedge_figures,
        schema.HISTORY: history_figures,
        schema.SCENARIOS: scenario_figures,
    }
    if name == schema.SCENARIOS and "asset" in ds.dims and _complete(ds):
        own = {"assets": {one: scenario_figures(ds.sel(asset=one)) for one in map(str, ds["asset"].values)}}
    else:
        own = kind[name](ds) if name in kind and _complete(ds) else {}
    return {
        "schema": name,
        "sizes": {str(key): value for key, value in ds.sizes.items()},
        "variables": [str(key) for key in ds.data_vars],
        "attributes": {str(key): value for key, value in ds.attrs.items() if key not in _FOR_MACHINES},
        **own,
    }


def _complete(ds: xr.Dataset) -> bool:
    """Whether it bears the figures that a summary needs: stresses and foreign scenarios may not."""
    needed = {schema.SCENARIOS: ("generator", "seed", "beta", "ess_fraction")}
    return all(key in ds.attrs for key in needed.get(str(ds.attrs.get("schema")), ()))

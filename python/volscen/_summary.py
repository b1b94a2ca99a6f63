"""Short plain-text summaries of datasets and models, for the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from volscen import risk, schema
from volscen._reweight import weighing_penalty
from volscen._statistics import quantile
from volscen.errors import FileFormatError
from volscen.surface._interpolate import interpolate_vol

__all__ = ["describe_file", "hedge_summary", "scenario_summary"]

_LEVELS = (0.05, 0.01)
_QUANTILES = (0.01, 0.05, 0.5, 0.95, 0.99)
_TENOR_DAYS = (30, 91, 365)

#: Weight of the scenarios off the grid above which an instrument's hedge ratio is starred.
_OFF_GRID = 0.01

#: Attributes that later builds read, too long for people.
_FOR_MACHINES = ("build_settings", "last_day", "dropped_days")


def scenario_summary(cube: xr.Dataset) -> str:
    """Table of index VaR and ES, ATM vol quantiles, penalties and effective sample size, per as-of date."""
    header = (
        f"{cube.attrs['title']}\n"
        f"generator {cube.attrs['generator']}, {cube.sizes['scenario']:,} scenarios, {cube.sizes['step']} "
        f"step(s), seed {cube.attrs['seed']}"
    )
    if "as_of" not in cube.dims:
        return header + "\n" + _one_date(cube, cube.attrs["beta"], cube.attrs["ess_fraction"], _distinct(cube, 0))
    betas, fractions = np.atleast_1d(cube.attrs["beta"]), np.atleast_1d(cube.attrs["ess_fraction"])
    parts = [
        _one_date(cube.isel(as_of=i), betas[i], fractions[i], _distinct(cube, i)) for i in range(cube.sizes["as_of"])
    ]
    return "\n".join([header, *parts])


def _distinct(cube: xr.Dataset, row: int) -> int | None:
    """How many different scenarios there are of a date, where a cube says."""
    counts = np.atleast_1d(cube.attrs.get("distinct_scenarios", []))
    return int(counts[row]) if len(counts) == cube.sizes.get("as_of", 1) else None


def _one_date(cube: xr.Dataset, beta: float, ess_fraction: float, distinct: int | None = None) -> str:
    weight = cube["weight"].values
    horizon = cube.sizes["step"]
    loss = 100 * (1 - cube["spot"].isel(step=-1).values / float(cube["spot0"]))
    lines = [f"as of {np.datetime_as_string(cube['as_of'].values, unit='D')}, over {horizon} trading day(s)"]
    if bool(cube["state_clipped"]):
        lines.append("  warning: the starting state lies outside what the generator was fitted on")
    lines.append(
        "  index loss, % of spot      " + "".join(f"{f'VaR {1 - a:.0%}':>10}{f'ES {1 - a:.0%}':>10}" for a in _LEVELS)
    )
    figures = [
        f"{risk.value_at_risk(-loss, weight, alpha=a):>10.3f}{risk.expected_shortfall(-loss, weight, alpha=a):>10.3f}"
        for a in _LEVELS
    ]
    lines.append(" " * 29 + "".join(figures))
    lines.append("  at-the-money vol, %     now" + "".join(f"{f'q{100 * q:.0f}':>10}" for q in _QUANTILES))
    tau, moneyness = cube["tau"].values, cube["moneyness"].values
    tenors = [d / 365 for d in _TENOR_DAYS if tau[0] <= d / 365 * (1 + 1e-9) and d / 365 <= tau[-1] * (1 + 1e-9)]
    for tenor in tenors or [float(tau[0])]:
        now = 100 * interpolate_vol(cube["implied_vol0"].values, tau, moneyness, tenor, 1.0)
        values = 100 * interpolate_vol(cube["implied_vol"].values[:, -1], tau, moneyness, tenor, 1.0)
        quantiles = "".join(f"{v:>10.2f}" for v in quantile(values, weight, _QUANTILES))
        lines.append(f"    {f'{365 * tenor:.0f} days':<14}{float(now):>9.2f}{quantiles}")
    penalty = cube[weighing_penalty(cube)].sum("step").values
    lines.append(
        f"  arbitrage penalty          mean {penalty.mean():.3g}, weighted mean {weight @ penalty:.3g} "
        f"(beta {beta:.4g})"
    )
    if "projection_status" in cube:
        status = cube["projection_status"].values
        changed, unsure = int((status > 0).sum()), int((status > 1).sum())
        lines.append(
            f"  projected surfaces         {changed:,} of {status.size:,}; the penalty is that before"
            + (f"; {unsure:,} may not be the nearest" if unsure else "")
        )
    different = "" if distinct is None else f", of which {distinct:,} differ"
    lines.append(f"  effective sample size      {ess_fraction:.1%} of the scenarios{different}")
    return "\n".join(lines)


def hedge_summary(result: xr.Dataset) -> str:
    """Table of hedge ratios with the fit and the tracking error."""
    alpha = f", alpha {result.attrs['alpha']:.4g}" if "alpha" in result.attrs else ""
    lines = [
        f"hedge by {result.attrs['method']}{alpha}, effective sample size {result.attrs['ess_fraction']:.1%} "
        "of the scenarios",
        f"  {'instrument':<40}{'ratio':>12}{'value':>12}",
    ]
    off_grid = _off_grid(result)
    for name, ratio, value, off in zip(
        result["instrument"].values, result["ratio"].values, result["value0"].values, off_grid, strict=True
    ):
        lines.append(f"  {name:<40}{ratio:>12.5f}{value:>12.5f}" + (f" * {off:.1%}" if off > _OFF_GRID else ""))
    if (off_grid > _OFF_GRID).any():
        lines.append(
            "  * weight of the scenarios in which it lies off the surface's grid, where volatility is flat: distrust "
            "its value and ratio"
        )
    lines.append(
        f"  R-squared {float(result['r_squared']):.4f}; tracking error mean {float(result['residual_mean']):.4g}, "
        f"standard deviation {float(result['residual_std']):.4g}"
    )
    if "cost" in result and float(result["cost"]) > 0:
        lines.append(f"  cost of the trades {float(result['cost']):.4g}")
    tails = zip(result["tail"].values, result["residual_var"].values, result["residual_es"].values, strict=True)
    lines.append("  tracking loss " + "; ".join(f"VaR {1 - t:.1%} {v:.4g}, ES {e:.4g}" for t, v, e in tails))
    return "\n".join(lines)


def _off_grid(result: xr.Dataset) -> np.typing.NDArray[np.float64]:
    """Weight of the scenarios off the grid, by instrument; results of early versions say less, or nothing."""
    for name in ("extrapolated_weight", "extrapolated"):
        if name in result.coords:
            return result[name].values.astype(np.float64)
    return np.zeros(result["ratio"].shape)


def describe_file(path: str | Path) -> str:
    """What a NetCDF dataset or a model file of ours holds; the file is validated on the way."""
    path = Path(path)
    if path.suffix == ".safetensors":
        return _describe_model(path)
    from volscen._io import read_dataset

    ds = read_dataset(path)
    name = str(ds.attrs.get("schema"))
    lines = [f"{path}: {name}", "  dimensions  " + ", ".join(f"{k} {v}" for k, v in ds.sizes.items())]
    lines += _pairs({key: ds.attrs[key] for key in sorted(ds.attrs) if key not in ("schema", *_FOR_MACHINES)})
    if name == schema.HEDGE:
        lines.append(hedge_summary(ds))
    if name == schema.HISTORY:
        dates = np.datetime_as_string(ds["date"].values[[0, -1]], unit="D")
        lines.append(f"  period            {dates[0]} to {dates[1]}")
        lines += _pairs(_history_figures(ds))
    lines.append("  variables   " + ", ".join(map(str, ds.data_vars)))
    if name == schema.SCENARIOS:
        lines.append(scenario_summary(ds))
    return "\n".join(lines)


def _history_figures(history: xr.Dataset) -> dict[str, object]:
    """Figures over the days of a history, of those that it holds."""
    out: dict[str, object] = {}
    if "asset" in history.dims:
        out["assets"] = ", ".join(map(str, history["asset"].values))
    if "n_quotes" in history:
        n = history["n_quotes"].values
        out["quotes per date"] = f"median {np.median(n):g}, least {n.min():,}"
    if "fit_rmse" in history:
        error = 100 * history["fit_rmse"].values
        out["fit, vol points"] = f"median {np.median(error):.2f}, largest {error.max():.2f}"
    if "jump_flag" in history:
        flag = history["jump_flag"].values
        out["corporate actions"] = f"{np.count_nonzero(flag == 1)} removed, {np.count_nonzero(flag == 2)} suspect"
    return out


def _pairs(pairs: Mapping[str, object]) -> list[str]:
    width = max(17, *map(len, pairs)) if pairs else 17
    return [f"  {key:<{width}} {value}" for key, value in pairs.items()]


def _describe_model(path: Path) -> str:
    from volscen._model_card import training_summary
    from volscen.generators import load

    if not path.exists():
        raise FileFormatError(f"{path}: no such file")
    model = load(path)
    record = model.record_
    days = "" if record is None else f", {record.n_dates:,} dates"
    lines = [
        f"{path}: generator {model.name}",
        f"  fitted on         {model.period_[0]} to {model.period_[1]}{days} (data {model.fingerprint_[:12]})",
        f"  grid              {model.tau_.size} maturities from {365 * model.tau_[0]:.0f} to "
        f"{365 * model.tau_[-1]:.0f} days, {model.moneyness_.size} moneyness points from {model.moneyness_[0]:.3g} to "
        f"{model.moneyness_[-1]:.3g}",
        f"  needs             {model.n_returns} returns and {model.n_surfaces} surfaces of state",
    ]
    about: dict[str, object] = {"calendar": f"{model.calendar_}, {model.periods_per_year_:g} periods a year"}
    if record is not None:
        about |= {"source": record.source, "versions": ", ".join(f"{k} {v}" for k, v in record.versions.items())}
    lines += _pairs(about | dict(training_summary(model)) | model.parameters())
    return "\n".join(lines)

"""Short plain-text summaries of datasets and models, for the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from volscen import schema
from volscen._figures import QUANTILES, off_grid, scenario_figures
from volscen.errors import FileFormatError

__all__ = ["describe_file", "hedge_summary", "scenario_summary", "scenario_text", "streamed_text"]

#: Weight of the scenarios off the grid above which an instrument's hedge ratio is starred.
_OFF_GRID = 0.01

#: Attributes that later builds read, too long for people.
_FOR_MACHINES = ("build_settings", "last_day", "dropped_days")


def scenario_summary(cube: xr.Dataset) -> str:
    """Table of index VaR and ES, ATM vol quantiles, penalties and effective sample size, per as-of date."""
    return scenario_text(scenario_figures(cube))


def scenario_text(figures: Mapping[str, Any]) -> str:
    """The figures of :func:`volscen._figures.scenario_figures` as a table."""
    header = (
        f"{figures['title']}\n"
        f"generator {figures['generator']}, {figures['n_scenarios']:,} scenarios, {figures['horizon']} "
        f"step(s), seed {figures['seed']}"
    )
    return "\n".join([header, *(_one_date(date, figures["horizon"]) for date in figures["dates"])])


def streamed_text(figures: Mapping[str, Any]) -> str:
    """The figures of :func:`volscen._figures.streamed_figures` as text."""
    lines = [
        figures["title"],
        f"generator {figures['generator']}, {figures['n_scenarios']:,} scenarios, {figures['horizon']} step(s), seed "
        f"{figures['seed']}",
    ]
    for one in figures["dates"]:
        day = np.datetime_as_string(one["as_of"], unit="D")
        lines.append(f"as of {day}: beta {one['beta']:.4g}, effective sample size {one['ess_fraction']:.1%}")
        lines += _beyond(one)
    return "\n".join(lines)


def _one_date(figures: Mapping[str, Any], horizon: int) -> str:
    lines = [f"as of {np.datetime_as_string(figures['as_of'], unit='D')}, over {horizon} trading day(s)"]
    if figures["state_clipped"]:
        lines.append("  warning: the starting state lies outside what the generator was fitted on")
    losses = figures["index_loss"]
    levels = [f"{100 * (1 - one['alpha']):.4g}%" for one in losses]
    heads = [(f"VaR {level}", f"ES {level}") for level in levels]
    lines.append("  index loss, % of spot      " + "".join(f"{var:>10}{es:>10}" for var, es in heads))
    lines.append(
        " " * 29
        + "".join(f"{100 * one['value_at_risk']:>10.3f}{100 * one['expected_shortfall']:>10.3f}" for one in losses)
    )
    lines.append("  at-the-money vol, %     now" + "".join(f"{f'q{100 * q:.0f}':>10}" for q in QUANTILES))
    for vol in figures["atm_vol"]:
        days = f"{vol['days']:.0f} days"
        quantiles = "".join(f"{100 * value:>10.2f}" for value in vol["quantiles"].values())
        lines.append(f"    {days:<14}{100 * vol['now']:>9.2f}{quantiles}")
    penalty = figures["arbitrage_penalty"]
    lines.append(
        f"  arbitrage penalty          mean {penalty['mean']:.3g}, weighted mean {penalty['weighted_mean']:.3g}"
        + ("" if figures["beta"] is None else f" (beta {figures['beta']:.4g})")
    )
    if "projected" in figures:
        done = figures["projected"]
        lines.append(
            f"  projected surfaces         {done['changed']:,} of {done['surfaces']:,}; the penalty is that before"
            + (f"; {done['unsure']:,} may not be the nearest" if done["unsure"] else "")
        )
    distinct = figures["distinct_scenarios"]
    different = "" if distinct is None else f", of which {distinct:,} differ"
    lines.append(f"  effective sample size      {figures['ess_fraction']:.1%} of the scenarios{different}")
    lines += _beyond(figures)
    return "\n".join(lines)


def _beyond(figures: Mapping[str, Any]) -> list[str]:
    """A line, where more than rounding lies beyond what is known."""
    share = figures["implausible_share"]
    if share is None or share < 1e-4:
        return []
    return [
        f"  beyond what is known       {share:.2%} of the weight as drawn: vols or returns outside twice their range"
    ]


def hedge_summary(result: xr.Dataset) -> str:
    """Table of hedge ratios with the fit and the tracking error."""
    alpha = f", alpha {result.attrs['alpha']:.4g}" if "alpha" in result.attrs else ""
    lines = [
        f"hedge by {result.attrs['method']}{alpha}, effective sample size {result.attrs['ess_fraction']:.1%} "
        "of the scenarios" + _when(result),
        "  ratio: units that replicate the book; a book that is held is hedged by trading the opposite",
        f"  {'instrument':<40}{'ratio':>12}{'hedge':>12}{'value':>12}",
    ]
    off = off_grid(result)
    for name, ratio, value, share in zip(
        result["instrument"].values, result["ratio"].values, result["value0"].values, off, strict=True
    ):
        act = "sell" if ratio > 0 else "buy" if ratio < 0 else ""
        lines.append(
            f"  {name:<40}{ratio:>12.5f}{act:>12}{value:>12.5f}" + (f" * {share:.1%}" if share > _OFF_GRID else "")
        )
    if (off > _OFF_GRID).any():
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


def _when(result: xr.Dataset) -> str:
    """Start and horizon of a hedge; results of early versions do not say."""
    if "as_of" not in result.coords or "elapsed_days" not in result.attrs:
        return ""
    day = np.datetime_as_string(result["as_of"].values, unit="D")
    step, days = int(result.attrs["step"]), float(result.attrs["elapsed_days"])
    return (
        f", as of {day}, over {step} step{'' if step == 1 else 's'} ({days:g} calendar day{'' if days == 1 else 's'})"
    )


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
        if "asset" in ds.dims:
            lines += [f"{one}: {scenario_summary(ds.sel(asset=one))}" for one in map(str, ds["asset"].values)]
        else:
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

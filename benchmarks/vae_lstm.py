"""What the VAE-LSTM forecasts and draws, beside regressions, other networks, historical simulation and scaled PCA.

    VOLSCEN_DATA=/path/to/data python benchmarks/vae_lstm.py [--period validation|test] [--markets spx_factors,sse50etf]
    python benchmarks/vae_lstm.py --quick                      # a simulated market: a check that it runs

All models are fitted once, on the days up to the first of the period. Forecasts: mean absolute error in vol points by
horizon, with Diebold and Mariano's t against no change in brackets (negative is better) and, for the VAE-LSTM, against
the best of the others. Then its other figures by region, violations of arbitrage with and without the penalties and
after projection, where attention lies, how training went. Scenarios are drawn one day ahead; skill is of the fair
energy score against historical simulation.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np
import xarray as xr

import pagetables
import volscen
from forecasts import HORIZONS, error_table
from generators import REAL, load_real
from pagetables import plain, signed
from volscen.evaluation import diebold_mariano, forecast
from volscen.sources.simulate import simulate_market
from world import UPDATE_EVERY, score

RIVALS = ["no_change", "mean_reversion", "har", "var", "lstm", "ae_lstm", "vae"]
QUICK: dict[str, Any] = {"latent_dim": 4, "hidden": (16,), "lstm_hidden": (16,), "vae_epochs": 4, "epochs": 4}
#: The paper's own form is "decoded": the forecast is the decoded surface itself.
FORMS: dict[str, dict[str, Any]] = {
    "vae_lstm": {},
    "vae_lstm, no penalty": {"penalty": 0.0},
    "decoded": {"base": "none"},
    "decoded, no penalty": {"base": "none", "penalty": 0.0},
}
MENDS: dict[str, dict[str, Any]] = {
    "on no change": {"base": "no_change"},
    "iterated": {"dynamics": "iterated"},
    "larger": {"lstm_hidden": (64, 32)},
}
#: What the pages call markets, periods and models.
TITLES = {
    ("spx_factors", "test"): "S&P 500, 2016-18 (test)",
    ("sse50etf", "test"): "SSE 50 ETF, 2022 (test)",
    ("spx_factors", "validation"): "S&P 500, 2014-15 (validation)",
    ("sse50etf", "validation"): "SSE 50 ETF, 2021 (validation)",
}
LABELS = {
    "no_change": "no change",
    "har": "HAR",
    "var": "VAR of components",
    "lstm": "LSTM of cells",
    "ae_lstm": "autoencoder and LSTM",
    "vae": "VAE alone",
    "decoded": 'decoded surface alone (`base="none"`)',
    "vae_lstm": "**VAE-LSTM**",
}
SCENARIOS = ["", "dates", "skill [t]", "scaled PCA", "t against it", "90% coverage of cells (scaled PCA)"]
STEPS = {1: "all", 2: "every 2nd", 3: "every 3rd"}


def forecasts(history: xr.Dataset, first: str, last: str, given: dict[str, Any], forms: Any, seeds: int) -> Any:
    """Forecasts of all models, and the VAE-LSTM of the first form as fitted."""
    models: dict[str, Any] = {name: name for name in RIVALS}
    made = {name: forecast.VaeLstm(**options | given) for name, options in forms.items()}
    if seeds > 1:
        made[f"vae_lstm x {seeds}"] = forecast.SeedEnsemble(forecast.VaeLstm(**given), seeds=seeds)
    started = time.process_time()
    found = forecast.forecast_surfaces(models | made, history, first=first, last=last, refit_every=None, progress=False)
    print(f"all fits and forecasts: {time.process_time() - started:.0f} s of processor time")
    return found, made


def print_forecasts(found: xr.Dataset) -> xr.Dataset:
    """Errors by horizon; figures of the VAE-LSTM by region; tests against the best of the others. Returns the first."""
    table = forecast.judge_surfaces(found)
    print(forecast.format_judgement(table))
    rivals = table.mae.sel(model=RIVALS, region="all")
    for horizon in found["horizon"].values:
        best = RIVALS[int(np.argmin(rivals.sel(horizon=horizon).values))]
        against = forecast.judge_surfaces(found, baseline=best).sel(horizon=horizon, region="all")
        own = [name for name in table["model"].values if name not in RIVALS]
        told = ", ".join(f"{name} {float(against.dm_t.sel(model=name)):+.1f}" for name in own)
        print(f"{horizon} d, t against the best of the others ({best}): {told}")
    one = table.sel(model="vae_lstm")
    for figure in ("mae", "rmse", "mape", "r_squared"):
        print(f"vae_lstm, {figure}\n{one[figure].to_pandas().round(3).to_string()}")
    return table


def print_violations(found: xr.Dataset) -> None:
    """Violations with and without penalties, before and after projection, and what projection costs."""
    own = [name for name in found["model"].values if name not in RIVALS]
    some = found.sel(model=["no_change", *own])
    projected = some.copy()
    vol = some["forecast"].values.astype(np.float64)
    flat = xr.Dataset(
        {"implied_vol": (("surface", "tau", "moneyness"), vol.reshape(-1, *vol.shape[-2:]))},
        coords={name: some[name].values for name in ("tau", "moneyness")},
    )
    free = volscen.project_arbitrage(flat)["implied_vol"].values.reshape(vol.shape)
    projected["forecast"] = some["forecast"].copy(data=free)
    for name, made in (("as forecast", some), ("projected", projected)):
        rates = forecast.violation_rates(made).mean("horizon")
        mae = forecast.judge_surfaces(made).mae.sel(region="all").mean("horizon").to_pandas()
        print(
            f"violations {name}, percent of points and mean size in vol points, mean of all horizons\n"
            f"{rates.to_dataframe().assign(mae=mae).round(3).to_string()}"
        )


def penalties(n: int, given: dict[str, Any]) -> None:
    """What the penalties do where surfaces are noisy enough to hold arbitrage: a simulated market with 3% of noise."""
    history = simulate_market("A", n, seed=1)
    noise = np.random.default_rng(0).normal(size=history["implied_vol"].shape)
    history["implied_vol"] = history["implied_vol"] * np.exp(0.03 * noise)
    days = history["date"].values
    models: dict[str, Any] = {"no_change": "no_change", "har": "har"}
    for form, options in (("vae_lstm", {}), ("decoded", {"base": "none"})):
        for weight in (0.0, 10.0, 300.0):
            models[f"{form}, penalty {weight:g}"] = forecast.VaeLstm(**options | given, penalty=weight)
    found = forecast.forecast_surfaces(
        models, history, first=days[int(0.77 * n)], last=days[-1], refit_every=None, progress=False
    )
    print("\na noisy simulated market\n" + forecast.format_judgement(forecast.judge_surfaces(found)))
    print_violations(found)


def print_training(model: Any, history: xr.Dataset, first: str, last: str) -> None:
    """How training went, and where attention lies on calm and stressed days."""
    curve = model.curve_
    print(
        f"active latents {model.active_units_} of {model.options.latent_dim}; epochs kept {model.epochs_kept_}; word "
        f"believed {model.trust_.round(2).tolist()} by horizon, {model.shrink_.round(2).tolist()} (return, latents) in "
        f"scenarios; residuals widened by {model.spread_.round(2).tolist()}"
    )
    print("autoencoder, validation loss:", " ".join(f"{x:.3f}" for x in model.vae_curve_[:, 1]))
    print("all, training loss:", " ".join(f"{x:.3f}" for x in curve.losses["training_loss"]))
    print("all, validation loss:", " ".join(f"{x:.4f}" for x in curve.scores["validation_loss"]))
    dates = history["date"].sel(date=slice(first, last)).values
    weights = model.attention(history, dates=dates)
    level = history["implied_vol"].sel(date=dates).mean(("tau", "moneyness"))
    low, high = np.quantile(level, [1 / 3, 2 / 3])
    last_week = weights.sel(lag=slice(0, 4)).sum("lag").mean("head")
    print(
        f"attention on the last five of {weights.sizes['lag']} days: {float(last_week[level <= low].mean()):.3f} "
        f"in the calmest third of the period, {float(last_week[level >= high].mean()):.3f} in the wildest"
    )


def print_scenarios(history: xr.Dataset, model: Any, first: str, last: str, n: int, step: int) -> list[str]:
    """Energy scores and coverage, beside historical simulation and scaled PCA; returns the cells of the page."""
    dates = history["date"].values
    start, stop = np.searchsorted(dates, np.datetime64(first)), np.sum(dates <= np.datetime64(last))
    rows = range(int(start) - 1, int(stop) - 1, step)
    train = history.isel(date=slice(0, int(start) + 1))
    every = max(1, UPDATE_EVERY // step)
    rivals: dict[str, Any] = {
        "bootstrap": (1, volscen.fit(train, "bootstrap")),
        "pca": (every, volscen.fit(train, "pca")),
        "vae_lstm": (every, model),
    }
    found, told, covered = {}, {}, {}
    for name, (often, generator) in rivals.items():
        scores, ranks = found[name] = score(generator, history, rows, n, often)
        base = found["bootstrap"][0]
        cover = [((ranks > (1 - p) / 2) & (ranks < (1 + p) / 2)) for p in (0.5, 0.9)]
        told[name] = (f"{100 * (1 - scores.mean() / base.mean()):.1f}% "
                      f"[{signed(diebold_mariano(scores, base).t, 1)}]")  # fmt: skip
        covered[name] = plain(cover[1][:, 1:].mean(), 3)
        against = f", against pca t {diebold_mariano(scores, found['pca'][0]).t:+.1f}" if name == "vae_lstm" else ""
        print(
            f"{name:<10} ES {scores.mean():.3f}, skill {100 * (1 - scores.mean() / base.mean()):5.2f}% "
            f"[t {diebold_mariano(scores, base).t:+.1f}]{against}; 50% and 90% coverage: return "
            f"{cover[0][:, 0].mean():.3f} {cover[1][:, 0].mean():.3f}, cells "
            f"{cover[0][:, 1:].mean():.3f} {cover[1][:, 1:].mean():.3f}",
            flush=True,
        )
    t = signed(diebold_mariano(found["vae_lstm"][0], found["pca"][0]).t, 1)
    dates_used = STEPS.get(step, f"every {step}th")
    return [dates_used, told["vae_lstm"], told["pca"], t, f"{covered['vae_lstm']} ({covered['pca']})"]


def judge(
    history: xr.Dataset, first: str, last: str, given: dict[str, Any], arguments: argparse.Namespace
) -> tuple[xr.Dataset, list[str]]:
    """Print all figures of one market and period; returns errors of forecasts, and cells on scenarios."""
    forms = FORMS | (MENDS if arguments.mends else {})
    found, made = forecasts(history, first, last, given, forms, arguments.seeds)
    judged = print_forecasts(found)
    print_violations(found)
    model = made["vae_lstm"].model_
    print_training(model, history, first, last)
    sys.stdout.flush()
    return judged, print_scenarios(history, model, first, last, arguments.n_scenarios, arguments.step)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markets", default="sse50etf,spx_factors")
    parser.add_argument("--period", choices=("validation", "test"), default="validation")
    parser.add_argument("-n", "--n-scenarios", type=int, default=200)
    parser.add_argument("--step", type=int, default=1, help="draw scenarios from every so many dates")
    parser.add_argument("--seeds", type=int, default=1, help="above 1, the mean of so many seeds as well")
    parser.add_argument("--mends", action="store_true", help="other forms that were tried as well")
    parser.add_argument("--quick", action="store_true")
    pagetables.add_options(parser)
    arguments = parser.parse_args()
    markets = [] if arguments.quick else arguments.markets.split(",")
    pieces = {name: [[TITLES[name, arguments.period], *HORIZONS]] for name in markets}
    if markets:
        pieces["scenarios"] = [SCENARIOS]
    pages = pagetables.Pages(
        arguments, pieces, kind="scores", minutes=10 * len(markets) or 1,
        needs=[pagetables.MARKET_DATA] if markets else [],
    )  # fmt: skip
    if arguments.quick:
        history = simulate_market("A", 700, seed=1)
        days = history["date"].values.astype("datetime64[D]").astype(str)
        arguments.n_scenarios, arguments.step = 50, 4
        judge(history, days[600], days[-1], QUICK, arguments)
        penalties(500, QUICK)
        return 0
    data, rows = pagetables.market_data(), []
    for name in markets:
        first, last = REAL[name][arguments.period]
        print(f"\n{name}, {arguments.period} {first} to {last}", flush=True)
        judged, cells = judge(load_real(name, data), first, last, {}, arguments)
        pages.add(name, error_table(TITLES[name, arguments.period], judged, LABELS))
        rows.append([TITLES[name, arguments.period], *cells])
    pages.add("scenarios", pagetables.table(SCENARIOS, rows))
    pages.write()
    penalties(1300, {})
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the world model sees, foresees and draws, beside principal components, autoregressions and scaled PCA.

    VOLSCEN_DATA=/path/to/data python benchmarks/world.py --out world_runs
    VOLSCEN_DATA=/path/to/data python benchmarks/world.py --out world_runs --period test
    python benchmarks/world.py --quick            # a simulated market: a check that it runs

Trained once on all days before the validation years (checkpoints in the folder, so that a stopped run goes on), never
retrained; historical simulation learns every day, the others' residuals every 21 days. Scenarios are drawn one day
ahead; skill is of the fair energy score of the return and all log-vol moves against historical simulation.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr

import pagetables
import volscen
from generators import REAL, load_real
from pagetables import plain
from volscen.evaluation import diebold_mariano, energy_score
from volscen.generators import Generator
from volscen.history import state_at
from volscen.sources.simulate import simulate_market

QUICK = {"raster_size": 16, "channels": (4, 8, 16), "latent_dim": 8, "epochs": 4, "dynamics_epochs": 4}
UPDATE_EVERY = 21
#: Columns and rows of the page's table.
PERIODS = {
    ("spx_factors", "validation"): "spx_factors 2014-15",
    ("sse50etf", "validation"): "sse50etf 2021",
    ("sse50etf", "test"): "sse50etf 2022 (test)",
    ("spx_factors", "test"): "spx_factors 2016-18 (test)",
}
ROWS = (
    "SSIM of reconstructions, over that of PCA",
    "root mean squared error, vol points (PCA: below .01)",
    "active latents; effective dimension",
    "latents one day ahead, MSE over no change [t]",
    "the same, each latent's mean reversion alone",
    "the same, ridge VAR",
    "log vols one day ahead, MSE over no change [t]",
    "the same, scaled PCA",
    "scenarios: skill against historical simulation [t]",
    "the same of scaled PCA",
    "90% coverage, mean over cells (scaled PCA)",
)


def fitted(train: xr.Dataset, options: dict[str, object], checkpoint: Path) -> Generator:
    """Train the world model, or take up where a run stopped."""
    started, cpu = time.perf_counter(), time.process_time()
    model = volscen.fit(train, "world", checkpoint=checkpoint, progress=True, **options)
    days = train.sizes["date"]
    print(
        f"trained on {days} days to {model.period_[1]} in {time.perf_counter() - started:.0f} s (processor "
        f"{time.process_time() - cpu:.0f} s, less where a checkpoint was taken up); epochs kept {model.epochs_kept_}, "
        f"network believed {model.law.shrink.round(2).tolist()} (return, latents)"
    )
    return model


def score(generator: Generator, history: xr.Dataset, rows: range, n: int, every: int) -> tuple[np.ndarray, np.ndarray]:
    """Daily energy scores, and shares of draws below what came: (days,) and (days, 1 + cells)."""
    log_vol = np.log(history["implied_vol"].values).reshape(history.sizes["date"], -1)
    move = np.column_stack([np.sqrt(252) * history["log_return"].values[1:], np.diff(log_vol, axis=0)])
    unit = move[: rows[0]].std(axis=0)
    scores, ranks = [], []
    for i, row in enumerate(rows):
        if i % every == 0:
            generator.update(history.isel(date=slice(0, row + 1)))
        date = history["date"].values[row]
        state = state_at(history, date, n_returns=generator.n_returns, n_surfaces=generator.n_surfaces)
        log_return, vol = generator.sample(state, n, 1, np.random.default_rng([row, n]))
        drawn = np.column_stack([np.sqrt(252) * log_return[:, 0], np.log(vol[:, 0]).reshape(n, -1) - log_vol[row]])
        scores.append(energy_score(drawn / unit, move[row] / unit))
        ranks.append((drawn < move[row]).mean(axis=0))
    return np.array(scores), np.array(ranks)


def judge(history: xr.Dataset, train: xr.Dataset, first: str, last: str, model: Generator, n: int) -> list[str]:
    """Print all figures of one market and period, and return those of the page."""
    seen = volscen.world.reconstruction_figures(model, history, first=first, last=last)
    print(
        "reconstruction: SSIM {ssim:.5f} against {ssim_pca:.5f} of PCA (ratio {ratio:.5f}), MSE {mse:.4f} against "
        "{mse_pca:.2g} squared vol points; active latents {active_share:.0%}, effective dimension "
        "{effective_dimension:.1f}; roughness {roughness:.4f} against {roughness_pca:.4f}".format(
            ratio=seen["ssim"] / seen["ssim_pca"], **seen
        )
    )
    rivals = {"bootstrap": (1, volscen.fit(train, "bootstrap")), "pca": (UPDATE_EVERY, volscen.fit(train, "pca"))}
    foreseen = volscen.world.dynamics_figures(model, history, first=first, last=last, rival=rivals["pca"][1])
    print(foreseen.to_string(float_format="{:.4g}".format), flush=True)
    dates = history["date"].values
    start, stop = np.searchsorted(dates, np.datetime64(first)), np.sum(dates <= np.datetime64(last))
    rows = range(int(start) - 1, int(stop) - 1)
    found, skill, covered = {}, {}, {}
    for name, (every, generator) in (rivals | {"world": (UPDATE_EVERY, model)}).items():
        scores, ranks = found[name] = score(generator, history, rows, n, every)
        base = found["bootstrap"][0]
        cover = (ranks > 0.05) & (ranks < 0.95)
        atm = 1 + int(np.argmin(np.abs(history["moneyness"].values - 1)))
        skill[name] = f"{100 * (1 - scores.mean() / base.mean()):.1f}% [{diebold_mariano(scores, base).t:.1f}]"
        covered[name] = plain(cover[:, 1:].mean(), 3)
        against = "" if name != "world" else f", against pca t {diebold_mariano(scores, found['pca'][0]).t:+.1f}"
        print(
            f"{name:<10} ES {scores.mean():.3f}, skill {100 * (1 - scores.mean() / base.mean()):5.2f}% "
            f"[t {diebold_mariano(scores, base).t:+.1f}]{against}; 90% coverage: return {cover[:, 0].mean():.3f}, "
            f"shortest ATM {cover[:, atm].mean():.3f}, cells {cover[:, 1:].mean():.3f}",
            flush=True,
        )

    def ahead(space: str, model_: str) -> str:
        row = foreseen.loc[(space, model_)]
        return f"{plain(row['ratio'], 3)} [{row['t']:.1f}]"

    active = "100%" if seen["active_share"] == 1 else f"{seen['active_share']:.0%}"
    return [
        plain(seen["ssim"] / seen["ssim_pca"], 4),
        plain(float(np.sqrt(seen["mse"])), 2),
        f"{active}; {seen['effective_dimension']:.1f}",
        ahead("latent", "world"),
        ahead("latent", "ar1"),
        ahead("latent", "var"),
        ahead("surface", "world"),
        ahead("surface", "pca"),
        skill["world"],
        skill["pca"],
        f"{covered['world']} ({covered['pca']})",
    ]


def stressed(history: xr.Dataset, model: Generator, last: str) -> None:
    """Print what stresses in latent space do, from the last day of the period."""
    for direction, factor in (("worst_day", 1.0), ("worst_day", 5.0), ("skew", 3.0), ("term", 3.0)):
        cube = volscen.world.stress(model, history.sel(date=slice(None, last)), direction=direction, factor=factor)
        atm = cube["implied_vol"].sel(moneyness=1.0, method="nearest").isel(scenario=1, tau=0)
        print(
            f"stress {direction} x {factor:g}: ATM vol {float(atm[0]):.3g} after the shock, {float(atm[-1]):.3g} "
            f"after {cube.sizes['step'] - 1} steps; half-life {cube.attrs['half_life_steps']:.3g} steps; "
            f"decoder out of range on {int(cube['decoder_outside'].isel(scenario=1).sum())} of {cube.sizes['step']}",
            flush=True,
        )


def main() -> None:
    """Train, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markets", default="sse50etf,spx_factors")
    parser.add_argument("--period", default="validation", choices=["validation", "test"])
    parser.add_argument("-n", "--n-scenarios", type=int, default=200)
    parser.add_argument("--out", type=Path, help="folder for checkpoints")
    parser.add_argument("--option", action="append", default=[], help="constructor option, such as decoder=pca+conv")
    parser.add_argument("--quick", action="store_true", help="a small model of a simulated market")
    pagetables.add_options(parser)
    arguments = parser.parse_args()
    names = [] if arguments.quick else arguments.markets.split(",")
    header = ["", *(PERIODS[name, arguments.period] for name in names)]
    pages = pagetables.Pages(
        arguments, {"figures": [header]} if names else {}, kind="scores", minutes=8 * len(names) or 0.5,
        needs=[pagetables.MARKET_DATA] if names else [],
    )  # fmt: skip
    options: dict[str, object] = dict(item.split("=", 1) for item in arguments.option)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.quick:
            history = simulate_market("A", 700, seed=1)
            train, days = history.isel(date=slice(0, 600)), history["date"].values.astype("datetime64[D]").astype(str)
            model = fitted(train, QUICK | options, folder / "quick.safetensors")
            judge(history, train, days[600], days[-1], model, 100)
            stressed(history, model, days[-1])
            return
        data, columns = pagetables.market_data(), []
        for name in names:
            history = load_real(name, data)
            end = np.datetime64(REAL[name]["validation"][0]) - np.timedelta64(1, "D")
            first, last = REAL[name][arguments.period]
            train = history.sel(date=slice(None, end))
            print(
                f"\n{name}, {arguments.period} {first} to {last}, {arguments.n_scenarios} scenarios a day", flush=True
            )
            label = "-".join([name, *arguments.option]).replace("=", "")
            model = fitted(train, options, folder / f"{label}.safetensors")
            columns.append(judge(history, train, first, last, model, arguments.n_scenarios))
            stressed(history, model, last)
        pages.add("figures", pagetables.table(header, list(zip(ROWS, *columns, strict=True))))
        pages.write()


if __name__ == "__main__":
    main()

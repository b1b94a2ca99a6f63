"""Draw the pictures of docs/gallery.md from the embedded, simulated history and the default generator.

python tools/make_gallery.py [NAME ...]

The same versions of volscen, matplotlib and torch draw the same bytes. Takes a minute, nearly all of it the training of
two small networks.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from PIL import Image

import volscen
from volscen import agent, arbitrage, plot, views

OUT = Path(__file__).parents[1] / "docs" / "pictures"
LARGEST = 80_000


@cache
def history() -> xr.Dataset:
    """The embedded, simulated history."""
    return volscen.datasets.sample_history()


@cache
def cube() -> xr.Dataset:
    """Scenarios of the default generator."""
    return volscen.generate(n_scenarios=10_000, horizon=21, seed=7)


@cache
def crisis() -> xr.Dataset:
    """The same under the view that three-month vol will be higher."""
    return volscen.entropy_pool(cube(), [views.mean(views.atm_vol(0.25), equals=0.155)])


@cache
def hedge() -> xr.Dataset:
    """A three-month straddle hedged with the underlying and two options."""
    straddle = volscen.Portfolio.straddle(moneyness=1.0, tau=91 / 365)
    options = [
        volscen.Option("put", moneyness=0.95, tau=60 / 365),
        volscen.Option("call", moneyness=1.0, tau=182 / 365),
    ]
    return volscen.hedge(cube().isel(step=[0]), straddle, [volscen.Underlying(), *options])


@cache
def world() -> Any:
    """A world model small enough to train here."""
    options = {"raster_size": 32, "channels": (8, 16, 32), "latent_dim": 8, "epochs": 30, "dynamics_epochs": 5}
    return volscen.fit(history(), "world", **options, progress=False)


@cache
def attention() -> xr.DataArray:
    """What an LSTM with attention looks back at, in the last year."""
    model = volscen.fit(history(), "vae_lstm", epochs=15, horizons=(1, 5), progress=False)
    return model.attention(history().isel(date=slice(-330, None)))


@cache
def noisy() -> xr.Dataset:
    """Scenarios as a careless system might send them: noise on every vol, of one scenario more than of another."""
    ds = cube().isel(step=[0])
    rng = np.random.default_rng(1)
    scale = rng.uniform(0, 0.06, (ds.sizes["scenario"], 1, 1, 1))
    vol = ds["implied_vol"] * np.exp(scale * rng.standard_normal(ds["implied_vol"].shape))
    penalty = arbitrage.penalty(vol.values, ds["tau"].values, ds["moneyness"].values)
    ds = ds.assign(implied_vol=vol, arbitrage_penalty=ds["arbitrage_penalty"].copy(data=penalty))
    return volscen.reweight(ds)


@cache
def policies() -> xr.Dataset:
    """Policies that learnt from the first half of the history, in the second."""
    past, rest = history().isel(date=slice(0, 751)), history().isel(date=slice(750, None))
    signal = agent.RiskSignal.fit(past)
    chosen = {
        "buy and hold": agent.BuyAndHold(),
        "always hedged": agent.AlwaysHedged(),
        "risk velocity": agent.RiskVelocity.calibrate(signal(past["implied_vol"]).values),
    }
    return agent.simulate(agent.option_market(rest, signal), chosen)


def arbitrage_pair() -> Any:
    """Violations before and after the weights, in the same colours."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.6), sharey=True, layout="constrained")
    before = plot.arbitrage(noisy(), weighted=False, ax=axes[0], add_colorbar=False)
    plot.arbitrage(noisy(), ax=axes[1], vmax=before.collections[0].get_clim()[1])
    for ax, name in zip(axes, ("before weights", "after"), strict=True):
        ax.set_title(f"{name}: mean penalty {ax.collections[0].get_array().sum():.1g}", fontsize="medium")
    axes[1].set_ylabel("")
    return figure


def hedge_pair() -> Any:
    """Ratios, and what they leave."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.4), layout="constrained")
    hedge().volscen.plot_hedge_ratios(ax=axes[0])
    hedge().volscen.plot_hedge_ratios(kind="residuals", ax=axes[1])
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def stress() -> Image.Image:
    """Calm and shocked: the first step of an animation."""
    found = volscen.world.stress(world(), history(), factor=1.2, steps=1)
    with tempfile.TemporaryDirectory() as folder:
        movie = plot.animate_stress(found, Path(folder) / "stress.gif")
        with Image.open(movie) as frames:
            return frames.convert("RGB")


PICTURES: dict[str, Callable[[], Any]] = {
    "surface": lambda: history().isel(date=-1).volscen.plot_surface(),
    "quantile": lambda: cube().isel(step=-1).volscen.plot_surface(kind="heatmap", q=0.95),
    "smiles": lambda: history().isel(date=-1).volscen.plot_smile(),
    "smile": lambda: cube().isel(step=-1).volscen.plot_smile(tau=["1M", "1Y"]),
    "fan": lambda: cube().volscen.plot_fan("atm_vol", tau="3M", n_paths=5),
    "returns": lambda: cube().volscen.plot_fan("total_log_return"),
    "components": lambda: cube().isel(step=0).volscen.plot_pca(history=history(), tau="3M"),
    "component": lambda: history().volscen.plot_pca(component=2),
    "weights": lambda: crisis().volscen.plot_weights(),
    "arbitrage": arbitrage_pair,
    "hedge": hedge_pair,
    "wealth": lambda: plot.wealth(policies(), hedged="risk velocity"),
    "latent_path": lambda: plot.latent_path(volscen.world.latents(world(), history())),
    "reconstruction": lambda: plot.reconstruction(
        volscen.world.reconstruct(world(), volscen.select_dates(history(), history().date.values[::749])), n=3
    ),
    "stress": stress,
    "attention": lambda: plot.attention_map(attention(), head=0),
}


def save(name: str, drawn: Any) -> None:
    """Write one picture, with no more colours than a picture needs."""
    target = OUT / f"{name}.png"
    for dpi in (110, 90, 75):
        if isinstance(drawn, Image.Image):
            whole = drawn
        else:
            canvas = io.BytesIO()
            getattr(drawn, "figure", drawn).savefig(canvas, dpi=dpi)
            whole = Image.open(canvas).convert("RGB")
        whole.quantize(255, kmeans=2, dither=Image.Dither.NONE).save(target, optimize=True)
        if target.stat().st_size < LARGEST:
            break
    plt.close("all")
    size = target.stat().st_size
    print(f"{target.name}: {size / 1e3:.0f} kB")
    if size >= LARGEST:
        raise SystemExit(f"{target.name} is too large for the repository: {size / 1e3:.0f} kB")


def main() -> None:
    """Draw those named, or all."""
    OUT.mkdir(exist_ok=True)
    for name in sys.argv[1:] or PICTURES:
        save(name, PICTURES[name]())


if __name__ == "__main__":
    main()

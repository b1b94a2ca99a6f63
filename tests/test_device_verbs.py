"""Verbs that draw from generators, or look at them, on a device: the networks there, all else as ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import volscen
from cli_runner import volscen_command
from volscen import Option, Portfolio, Underlying, world
from volscen.errors import InputError
from volscen.evaluation import monitor_drift
from volscen.evaluation.forecast._surface_models import GeneratorMean
from volscen.generators import Generator, _device, generator_class
from volscen.hedging import HedgeArm, RolledPosition, stability
from volscen.sources.simulate import simulate_market

WORLD = {"raster_size": 16, "channels": (4, 3, 5), "latent_dim": 4, "epochs": 1, "dynamics_epochs": 1, "hidden": 8}
DDPM = {"epochs": 1, "hidden": (8, 6), "diffusion_steps": 6, "validate_every": 1}


@pytest.fixture(scope="module")
def history() -> xr.Dataset:
    return simulate_market("A", 460, seed=11)


@pytest.fixture(scope="module")
def models(history: xr.Dataset) -> dict[str, Generator]:
    known = history.isel(date=slice(0, 420))
    return {
        name: volscen.fit(known, name, **options, progress=False)
        for name, options in {"ddpm": DDPM, "world": WORLD}.items()
    } | {"pca": volscen.fit(known, "pca")}


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Torch's CPU stands where a GPU would be; the names looked for."""
    seen: list[str] = []

    def find(name: str) -> torch.device:
        seen.append(name)
        return torch.device("cpu")

    monkeypatch.setattr(_device, "find_device", find)
    return seen


def close(there: Any, plain: Any, most: float) -> None:
    """Nearly the same; that it was evaluated elsewhere, the names looked for say."""
    there, plain = np.asarray(there, dtype=np.float64), np.asarray(plain, dtype=np.float64)
    assert there.shape == plain.shape
    np.testing.assert_array_equal(np.isfinite(there), np.isfinite(plain))
    assert np.nanmax(np.abs(there - plain)) < most


def monitored(models: dict[str, Generator], history: xr.Dataset, name: str, **options: Any) -> xr.Dataset:
    return monitor_drift(models[name], history, last=history.date.values[440], window=10, n_scenarios=100, **options)


def hedged(history: xr.Dataset, generators: Any, **options: Any) -> xr.Dataset:
    days = history.date.values
    return volscen.backtest_hedge(
        history,
        RolledPosition(Portfolio.straddle(strike_over_spot=1.0, tau=91 / 365), until_days=60),
        {label: HedgeArm("regression", generator=label) for label in generators},
        instruments=[Underlying(), Option("call", strike_over_spot=1.0, tau=61 / 365)],
        first=days[430], last=days[436], generators=generators, n_scenarios=100, **options,
    )  # fmt: skip


def test_monitor(models: dict[str, Generator], history: xr.Dataset, cuda: list[str]) -> None:
    plain = monitored(models, history, "ddpm", update_every=7)
    assert not cuda
    there = monitored(models, history, "ddpm", update_every=7, device="cuda:1")
    assert set(cuda) == {"cuda:1"}
    assert "device" not in plain.attrs
    assert there.attrs["device"] == "cuda:1"
    close(there.energy_score, plain.energy_score, 1e-5)
    np.testing.assert_array_equal(there.date, plain.date)
    assert models["ddpm"]._device is None


def test_hedging_backtests(models: dict[str, Generator], history: xr.Dataset, cuda: list[str], tmp_path: Any) -> None:
    """Those with networks are drawn from there, the others not; a folder holds one of the two; processes agree."""
    generators = {"d": models["ddpm"], "b": models["pca"]}
    plain = hedged(history, generators, folder=tmp_path)
    assert not cuda
    there = hedged(history, generators, device="cuda")
    assert cuda
    assert "device" not in plain.attrs
    assert there.attrs["device"] == "cuda"
    close(there.error.sel(arm="d"), plain.error.sel(arm="d"), 1e-2)
    np.testing.assert_array_equal(there.error.sel(arm="b"), plain.error.sel(arm="b"))
    with pytest.raises(InputError, match="device"):
        hedged(history, generators, device="cuda", folder=tmp_path)
    with pytest.raises(InputError, match="none of the generators has a network to evaluate on device='cuda'"):
        hedged(history, {"b": models["pca"]}, device="cuda")


def test_stability_and_mean_forecasts(models: dict[str, Generator], history: xr.Dataset, cuda: list[str]) -> None:
    book, traded = Portfolio.straddle(moneyness=1.0, tau=91 / 365), [Underlying()]
    ratio = [
        stability(models["ddpm"], book, traded, seeds=(1, 2), history=history, generate={"n_scenarios": 100, **where})
        for where in ({}, {"device": "cuda"})
    ]
    close(ratio[1].ratio, ratio[0].ratio, 1e-4)
    assert set(cuda) == {"cuda"}
    cuda.clear()
    made = [
        GeneratorMean(generator_class("ddpm")(**DDPM, progress=False), n_scenarios=50, device=where)
        for where in ("cpu", "cuda")
    ]
    known, rows = history.isel(date=slice(0, 450)), np.arange(450, 456)
    found = [one.fit(known, (1, 3)).forecast(history, rows) for one in made]
    close(found[1], found[0], 1e-5)
    assert set(cuda) == {"cuda"}


VIEWS: dict[str, Callable[..., list[Any]]] = {
    "latents": lambda model, history, **where: [
        (found := world.latents(model, history, **where)).attrs, found.latent_mean, found.latent_sd,
    ],
    "reconstruct": lambda model, history, **where: [
        (found := world.reconstruct(model, history, **where)).attrs, found.reconstruction,
    ],
    "reconstruction_figures": lambda model, history, **where: [
        {}, list(world.reconstruction_figures(model, history, first=history.date.values[430], **where).values()),
    ],
    "dynamics_figures": lambda model, history, **where: [
        {}, world.dynamics_figures(model, history, first=history.date.values[430], **where).loc[
            [("latent", "world"), ("surface", "world")], "mse"],
    ],
    "stress": lambda model, history, **where: [
        (found := world.stress(model, history, direction="skew", factor=2, steps=4, n_paths=3, rescale=1.1,
                               **where)).attrs, found.implied_vol,
    ],
}  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
def test_views_of_world_models(view: str, models: dict[str, Generator], history: xr.Dataset, cuda: list[str]) -> None:
    said, *plain = VIEWS[view](models["world"], history)
    assert not cuda
    where, *there = VIEWS[view](models["world"], history, device="cuda")
    assert set(cuda) == {"cuda"}
    assert "device" not in said
    assert view.endswith("figures") or where["device"] == "cuda"
    for one, other in zip(there, plain, strict=True):
        close(one, other, 1e-4)


def test_a_rival_with_networks_is_drawn_there_too(
    models: dict[str, Generator], history: xr.Dataset, cuda: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volscen.world._dynamics._DRAWS", 64)
    first = history.date.values[448]
    for name in ("ddpm", "pca"):
        plain, there = (
            world.dynamics_figures(models["world"], history, first=first, rival=models[name], device=where).loc[
                ("surface", name), "mse"
            ]
            for where in ("cpu", "cuda")
        )
        assert (plain == there) == (name == "pca")


def test_refusals(models: dict[str, Generator], history: xr.Dataset) -> None:
    calls: dict[str, Callable[..., Any]] = {
        "monitor": lambda name, **where: monitored(models, history, name, **where),
        "backtest": lambda name, **where: hedged(history, {"a": models[name]}, **where),
        "mean": lambda name, **where: GeneratorMean(name, **where),
    }
    for verb, call in calls.items():
        with pytest.raises(InputError, match=r"network to evaluate on device='cuda'; leave device="):
            call("pca", device="cuda")
        with pytest.raises(InputError, match="device must be 'cpu' or 'cuda'"):
            call("ddpm", device="gpu")
        if not torch.cuda.is_available():
            with pytest.raises(InputError, match=r"device='cuda:1' is not there: .*; use device='cpu'"):
                call("ddpm", device="cuda:1")
        assert verb == "mean" or call("pca", device="cpu") is not None
    for view, look in VIEWS.items():
        with pytest.raises(InputError, match="device must be 'cpu' or 'cuda'"):
            look(models["world"], history, device=None)
        if not torch.cuda.is_available():
            with pytest.raises(InputError, match="device='cuda' is not there"):
                look(models["world"], history, device="cuda")
        assert view


def test_the_command_line(models: dict[str, Generator], history: xr.Dataset, cuda: list[str], tmp_path: Any) -> None:
    models["ddpm"].save(tmp_path / "model.safetensors")
    volscen.write(history.isel(date=slice(0, 441)), tmp_path / "history.nc")
    files = ("model.safetensors", "history.nc", "--window", 10, "--n-scenarios", 100, "--out", "drift.nc")
    done = volscen_command("monitor", *files, "--device", "gpu", cwd=tmp_path)
    assert done.returncode not in (0, 3)
    assert "device must be 'cpu' or 'cuda'" in done.stderr
    done = volscen_command("monitor", *files, "--device", "cuda:1", cwd=tmp_path)
    assert done.returncode in (0, 3), done.stderr
    assert set(cuda) == {"cuda:1"}
    expected = monitored(models, history, "ddpm", device="cuda:1")
    with xr.open_dataset(tmp_path / "drift.nc") as found:
        assert found.attrs["device"] == "cuda:1"
        np.testing.assert_array_equal(found.energy_score, expected.energy_score)
    (tmp_path / "night.toml").write_text(
        '[run]\nhistory = "history.nc"\nmodel = "model.safetensors"\n'
        '[monitor]\nwindow = 10\nn_scenarios = 100\ndevice = "cuda:2"\nout = "night.nc"\n'
    )
    done = volscen_command("run", "night.toml", cwd=tmp_path)
    assert done.returncode in (0, 3), done.stderr
    with xr.open_dataset(tmp_path / "night.nc") as found:
        assert found.attrs["device"] == "cuda:2"

"""Make small files of every format that volscen writes, for the tests that they keep opening.

Run from the repository root, with the dependencies of the tests:

    python tools/make_format_files.py              # files of this version, which no release holds yet
    python tools/make_format_files.py --draws      # only record anew what models draw, after a change of generators
    python tools/make_format_files.py --freeze     # at a release: these files stay for ever

Everything is simulated. Files of a released version are never written again: a folder that is frozen is refused. What
models draw may change between versions where the changelog says so, and is then recorded anew; their files are not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import volscen
from format_figures import (
    ARCHIVE,
    FOLDER,
    MANIFEST,
    array_figures,
    dataset_figures,
    draw,
    draw_figures,
    draw_joint,
    model_figures,
    pack,
    unpack,
)
from volscen import agent, evaluation, views
from volscen._model_card import read_evaluation
from volscen.generators import REGISTRY
from volscen.sources.simulate import simulate_market, simulate_quotes

#: Trained in seconds; what they draw is worth nothing.
OPTIONS: dict[str, dict[str, Any]] = {
    "bootstrap": {"window": 60},
    "ddpm": {"n_components": 2, "epochs": 2, "hidden": (4,), "diffusion_steps": 5, "validate_every": 2},
    "fhs": {"residual_days": 60},
    "har": {"n_components": 2, "residual_days": 60},
    "heston": {"n_components": 2, "residual_days": 60},
    "pca": {"n_components": 2, "residual_days": 60},
    "residual_net": {
        "base": "pca",
        "n_components": 2,
        "residual_days": 60,
        "hidden": (4,),
        "epochs": 2,
        "refits": 2,
        "members": 1,
        "draws": 4,
    },
    "sabr": {"n_components": 2, "residual_days": 60},
    "vae_lstm": {
        "latent_dim": 2,
        "hidden": (4,),
        "lstm_hidden": (4,),
        "heads": 2,
        "window": 5,
        "vae_epochs": 1,
        "epochs": 1,
        "horizons": (1, 5),
        "residual_days": 60,
    },
    "volgan": {"epochs": 3, "hidden": (4, 4), "noise_dim": 4},
    "world": {
        "raster_size": 16,
        "channels": (2, 2, 4),
        "latent_dim": 2,
        "hidden": 4,
        "epochs": 2,
        "dynamics_epochs": 2,
        "residual_days": 60,
    },
}
#: Modes of generators whose files hold other arrays than those above.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bootstrap-blocks": ("bootstrap", {"window": 60, "method": "stationary", "block_size": 5}),
    "fhs-garch": ("fhs", {"residual_days": 60, "scale": "garch"}),
    "pca-filter": ("pca", {"n_components": 2, "residual_days": 60, "filter": "ewma"}),
    "residual_net-har": ("residual_net", {**OPTIONS["residual_net"], "base": "har", "hidden": (4,)}),
    "volgan-improved": ("volgan", {**OPTIONS["volgan"], "mode": "improved", "n_components": 2, "keep": "last"}),
    "world-components": ("world", {**OPTIONS["world"], "decoder": "pca+conv"}),
}
#: Days fitted on, where calibrating them takes time.
DAYS = {"heston": 120, "sabr": 160, "world": 160}


def the_history() -> xr.Dataset:
    """420 days on 3 times and 5 strikes; vols to 2^-14, which files hold in little space."""
    history = simulate_market("A", 420, seed=5, start="2021-01-04").isel(tau=[0, 2, 4], moneyness=[2, 3, 4, 5, 6])
    history = history.drop_dims("factor")
    history["implied_vol"] = history["implied_vol"].copy(data=np.round(history["implied_vol"].values * 2**14) / 2**14)
    return history


def datasets(history: xr.Dataset) -> dict[str, Callable[[], xr.Dataset]]:
    """Each dataset by the name of its file."""
    recent = history.isel(date=slice(-30, None))
    model = volscen.fit(history, "pca", **OPTIONS["pca"])
    like = {"n_scenarios": 16, "horizon": 2, "seed": 7}
    cube = volscen.generate(model, history, **like)
    joint = joint_model(history, "pca")
    quotes = simulate_quotes(recent.isel(date=slice(-3, None)), seed=5)
    first_two = quotes[quotes["date"] < quotes["date"].max()]
    built = volscen.build_history(
        first_two, tau=[30 / 365, 60 / 365, 91 / 365], moneyness=[0.9, 1.0, 1.1], calendar="weekdays", progress=False
    )[0]
    options = [volscen.Underlying(), volscen.Option("call", moneyness=1.0, tau=0.25)]
    straddle = volscen.Portfolio.straddle(moneyness=1.0, tau=0.2)
    surface = recent["implied_vol"].values[-1]
    holes = np.where(np.arange(surface.size).reshape(surface.shape) % 3, surface, np.nan)
    bent = recent.isel(date=slice(0, 3)).copy(deep=True)
    bent["implied_vol"][1, 0, 2] *= 1.3
    return {
        "history.nc": lambda: history,
        "history.zarr": lambda: recent,
        "history-built.nc": lambda: built,
        "history-assets.nc": lambda: volscen.align_histories({"A": recent, "B": recent.isel(date=slice(5, None))}),
        "history-projected.nc": lambda: volscen.project_arbitrage(bent),
        "surface.nc": lambda: one_surface(first_two),
        "smiles.nc": lambda: volscen.surface.regrid(recent.isel(date=slice(0, 3)), delta=["25P", "ATM", "25C"]),
        "repair.nc": lambda: volscen.repair(holes, tau=recent["tau"].values, moneyness=recent["moneyness"].values),
        "scenarios.nc": lambda: cube,
        "scenarios.zarr": lambda: cube,
        "scenarios-dates.nc": lambda: volscen.generate(
            model, history, as_of=history["date"].values[-3:], project=True, **like
        ),
        "scenarios-assets.nc": lambda: volscen.stack_assets(draw_joint(joint, history)).isel(scenario=slice(0, 64)),
        "scenarios-views.nc": lambda: volscen.entropy_pool(cube, [views.mean("log_return", equals=0.0)]),
        "scenarios-resampled.nc": lambda: volscen.resample(cube, 8, seed=7),
        "scenarios-stress.nc": lambda: volscen.stress.shock(cube, log_return=-0.1, level=0.08, name="crash"),
        "hedge.nc": lambda: volscen.hedge(cube, straddle, options),
    }


def one_surface(quotes: Any) -> xr.Dataset:
    """Surface of the first day of some quotes."""
    day = quotes[quotes["date"] == quotes["date"].min()]
    return volscen.build_surface(volscen.Chain(day), [30 / 365, 60 / 365, 91 / 365], [0.9, 1.0, 1.1])


def joint_model(history: xr.Dataset, generator: str, **options: Any) -> Any:
    """Two assets: the history, and its later part."""
    own = OPTIONS[generator]
    histories = {"A": history, "B": history.isel(date=slice(30, None))}
    return volscen.fit_joint(histories, generator, options={"A": own, "B": own}, **options)


def write_datasets(folder: Path, history: xr.Dataset) -> dict[str, Any]:
    """Write all datasets; return the figures of what they read as."""
    found = {}
    for name, make in datasets(history).items():
        read = volscen.read(volscen.write(make(), folder / name, compression=9))
        found[name] = {"kind": "dataset", "schema": read.attrs["schema"], **dataset_figures(read)}
    path = folder / "evaluation.nc"
    dates = history["date"].values
    judged = volscen.evaluate(["pca"], history, first=dates[-25], last=dates[-1], n_scenarios=50)
    evaluation.write_evaluation(judged, path)
    found[path.name] = {"kind": "evaluation", **dataset_figures(read_evaluation(path))}
    return found


def write_models(folder: Path, history: xr.Dataset) -> dict[str, Any]:
    """Write a model of every registered generator, joint models and a policy."""
    found = {}
    for label, (name, options) in ({name: (name, OPTIONS[name]) for name in REGISTRY} | VARIANTS).items():
        days = history.isel(date=slice(-DAYS.get(name, history.sizes["date"]), None))
        path = volscen.fit(days, name, **options).save(folder / f"{label}.safetensors")
        found[path.name] = {"kind": "model", **model_figures(volscen.load(path))}
    for coupling, name in (("dates", "pca"), ("ranks", "bootstrap")):
        joint = joint_model(history, name, coupling=coupling)
        path = joint.save(folder / f"joint-{coupling}.safetensors")
        parts = {asset: model_figures(model) for asset, model in volscen.load_joint(path).models.items()}
        found[path.name] = {"kind": "joint", "coupling": coupling, "days": joint.days_, "assets": parts}
    signal = agent.RiskSignal.fit(history)
    paths = volscen.generate(volscen.load(folder / "pca.safetensors"), history, n_scenarios=32, horizon=4, seed=7)
    policy = agent.LearnedPolicy.fit(agent.simplified_market(paths, signal), hidden=4, iterations=2)
    path = policy.save(folder / "policy.safetensors")
    arrays = {f"layer {i}": array_figures(weight) for i, (weight, _) in enumerate(policy.layers)}
    found[path.name] = {"kind": "policy", "arrays": arrays}
    return found


def drawn(folder: Path, files: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of what today's code draws from each model."""
    history = volscen.read(folder / "history.nc")
    found: dict[str, Any] = {}
    for name, entry in files.items():
        if entry["kind"] == "model":
            found[name] = draw_figures(draw(volscen.load(folder / name), history))
        elif entry["kind"] == "joint":
            cubes = draw_joint(volscen.load_joint(folder / name), history)
            found[name] = {asset: draw_figures(cube) for asset, cube in cubes.items()}
    return found


def main() -> None:
    """Write the files of this version, record what their models draw, or freeze them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", action="store_true", help="record the draws of all versions' models anew")
    parser.add_argument("--freeze", action="store_true", help="mark this version's files as released")
    given = parser.parse_args()
    folder = FOLDER / volscen.__version__
    manifest = folder / MANIFEST
    old = json.loads(manifest.read_text()) if manifest.exists() else None
    if given.freeze:
        if old is None:
            raise SystemExit(f"{folder} holds no files; make them first")
        write_json(manifest, {**old, "frozen": True})
        return
    if not given.draws:
        if old is not None and old["frozen"]:
            raise SystemExit(f"{folder} holds files of a released version, which stay as they are; raise the version")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            history = the_history()
            files = write_datasets(Path(scratch), history) | write_models(Path(scratch), history)
            pack(Path(scratch), folder / ARCHIVE)
        digest = hashlib.sha256((folder / ARCHIVE).read_bytes()).hexdigest()
        write_json(manifest, {"frozen": False, "sha256": digest, "files": files})
        print(f"{folder / ARCHIVE}: {(folder / ARCHIVE).stat().st_size / 1e3:.0f} kB")
    found = {}
    for path in sorted(FOLDER.glob(f"*/{MANIFEST}")):
        with tempfile.TemporaryDirectory() as scratch:
            unpacked = unpack(path.parent.name, Path(scratch))
            found[path.parent.name] = drawn(unpacked, json.loads(path.read_text())["files"])
    write_json(FOLDER / "draws.json", found)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON in a settled order, a line for each entry of the second level."""
    parts = []
    for name, entry in sorted(value.items()):
        text = json.dumps(entry, sort_keys=True)
        if isinstance(entry, dict):
            lines = [f"  {json.dumps(key)}: {json.dumps(one, sort_keys=True)}" for key, one in sorted(entry.items())]
            text = "{\n" + ",\n".join(lines) + "\n }"
        parts.append(f" {json.dumps(name)}: {text}")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()

"""Files that released versions wrote: they open, hold what they held, and can be gone on with.

``tools/make_format_files.py`` makes them. What they hold must be read exactly; what is drawn from an old model may be
off by what platforms round differently, and is recorded anew (``--draws``) where the changelog says that it changed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import volscen
from format_figures import (
    ARCHIVE,
    DRAWS_RTOL,
    FOLDER,
    MANIFEST,
    NETWORK_RTOL,
    NETWORKS,
    array_figures,
    dataset_figures,
    draw,
    draw_figures,
    draw_joint,
    model_figures,
    unpack,
)
from volscen import agent, schema
from volscen._model_card import read_evaluation
from volscen.errors import FileFormatError
from volscen.generators import REGISTRY

ROOT = Path(__file__).parents[1]
MANIFESTS = {path.parent.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob(f"*/{MANIFEST}"))}
DRAWS = json.loads((FOLDER / "draws.json").read_text())
SCHEMAS = sorted(value for name, value in vars(schema).items() if name.isupper() and str(value).startswith("volscen/"))


def files(kind: str) -> list[Any]:
    """Versions and names of all files of a kind."""
    return [
        pytest.param(version, name, id=f"{version}-{name}")
        for version, manifest in MANIFESTS.items()
        for name, entry in manifest["files"].items()
        if entry["kind"] == kind
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {version: unpack(version, tmp_path_factory.mktemp(version)) for version in MANIFESTS}


@pytest.fixture(scope="module")
def histories(folders: dict[str, Path]) -> dict[str, xr.Dataset]:
    return {version: volscen.read(folder / "history.nc") for version, folder in folders.items()}


def expect(found: Any, recorded: Any, *, rel: float = 1e-12, where: str = "") -> None:
    """Compare figures, and name the first that differs."""
    if isinstance(recorded, dict):
        assert set(found) == set(recorded), where
        for name, value in recorded.items():
            expect(found[name], value, rel=rel, where=f"{where}/{name}")
    elif isinstance(recorded, list) and len(np.shape(recorded)) == 1 and len(found) == len(recorded):
        for i, value in enumerate(recorded):
            expect(found[i], value, rel=rel, where=f"{where}[{i}]")
    elif isinstance(recorded, float):
        assert found == pytest.approx(recorded, rel=rel, abs=rel), where
    else:
        assert found == recorded, where


# ------------------------------------------------------------------------------------------ what files hold
@pytest.mark.parametrize(("version", "name"), files("dataset"))
def test_datasets_hold_what_they_held(folders: dict[str, Path], version: str, name: str) -> None:
    recorded = MANIFESTS[version]["files"][name]
    found = volscen.read(folders[version] / name)
    assert found.attrs["schema"] == recorded["schema"]
    figures = dataset_figures(found)
    for part in ("variables", "attributes"):
        expect(figures[part], recorded[part], where=part)


@pytest.mark.parametrize(("version", "name"), files("model"))
def test_models_hold_what_they_held_and_draw(
    folders: dict[str, Path], histories: dict[str, xr.Dataset], version: str, name: str
) -> None:
    recorded, model = MANIFESTS[version]["files"][name], volscen.load(folders[version] / name)
    found = model_figures(model)
    expect(found, {key: recorded[key] for key in found}, where=name)
    fitted_on = histories[version].sel(date=slice(*model.period_))
    assert schema.fingerprint(fitted_on) == model.fingerprint_
    rel = NETWORK_RTOL if model.name in NETWORKS else DRAWS_RTOL
    expect(draw_figures(draw(model, histories[version])), DRAWS[version][name], rel=rel, where=name)


@pytest.mark.parametrize(("version", "name"), files("joint"))
def test_joint_models_hold_what_they_held_and_draw(
    folders: dict[str, Path], histories: dict[str, xr.Dataset], version: str, name: str
) -> None:
    recorded, joint = MANIFESTS[version]["files"][name], volscen.load_joint(folders[version] / name)
    assert (joint.coupling, joint.days_) == (recorded["coupling"], recorded["days"])
    expect({asset: model_figures(model) for asset, model in joint.models.items()}, recorded["assets"])
    cubes = draw_joint(joint, histories[version])
    expect({asset: draw_figures(cube) for asset, cube in cubes.items()}, DRAWS[version][name], rel=DRAWS_RTOL)


@pytest.mark.parametrize(("version", "name"), files("policy"))
def test_policies_hold_what_they_held(folders: dict[str, Path], version: str, name: str) -> None:
    policy = agent.LearnedPolicy.load(folders[version] / name)
    found = {f"layer {i}": array_figures(weight) for i, (weight, _) in enumerate(policy.layers)}
    expect(found, MANIFESTS[version]["files"][name]["arrays"])


@pytest.mark.parametrize(("version", "name"), files("evaluation"))
def test_evaluations_hold_what_they_held(folders: dict[str, Path], version: str, name: str) -> None:
    recorded, found = MANIFESTS[version]["files"][name], read_evaluation(folders[version] / name)
    figures = dataset_figures(found)
    for part in ("variables", "attributes"):
        expect(figures[part], recorded[part], where=part)
    card = volscen.model_card(folders[version] / "pca.safetensors", evaluation=folders[version] / name)
    assert f"{volscen.evaluation.table(found).loc[('pca', 'weighted'), 'energy_score']:.4g}"[:4] in card


# -------------------------------------------------------------------------------------- going on with them
@pytest.mark.parametrize("version", MANIFESTS)
def test_histories_built_by_old_versions_are_gone_on_with(folders: dict[str, Path], version: str) -> None:
    """The settings that an update reads are in the file: one more day of quotes is appended to the old ones."""
    old = volscen.read(folders[version] / "history-built.nc")
    day = volscen.read(folders[version] / "history.nc").isel(date=slice(-1, None))
    assert day["date"].values[0] > old["date"].values[-1]
    quotes = volscen.sources.simulate.simulate_quotes(day, seed=1)
    new, report = volscen.update_history(folders[version] / "history-built.nc", quotes, progress=False)
    assert len(report) == 1
    assert new.sizes["date"] == old.sizes["date"] + 1
    np.testing.assert_array_equal(new["implied_vol"].values[:-1], old["implied_vol"].values)
    assert np.log(new["spot"][-1] / new["spot"][-2]) == pytest.approx(float(new["log_return"][-1]), abs=1e-6)


@pytest.mark.parametrize("version", MANIFESTS)
def test_old_scenarios_are_weighed_hedged_and_reported(folders: dict[str, Path], version: str) -> None:
    cube = volscen.read(folders[version] / "scenarios.nc")
    np.testing.assert_allclose(volscen.reweight(cube).weight, cube.weight, rtol=1e-9)
    straddle = volscen.Portfolio.straddle(moneyness=1.0, tau=0.2)
    again = volscen.hedge(cube, straddle, [volscen.Underlying(), volscen.Option("call", moneyness=1.0, tau=0.25)])
    np.testing.assert_allclose(again.ratio, volscen.read(folders[version] / "hedge.nc").ratio, rtol=1e-6)
    assert "VaR" in volscen.report_text(cube)
    assert volscen.read(folders[version] / "scenarios.zarr").identical(cube)


# ---------------------------------------------------------------------------------- what must have its file
def test_every_format_has_a_file() -> None:
    """What fails here was added since: python tools/make_format_files.py."""
    entries = [entry for manifest in MANIFESTS.values() for entry in manifest["files"].values()]
    assert {entry["schema"] for entry in entries if entry["kind"] == "dataset"} >= set(SCHEMAS)
    assert {entry["generator"] for entry in entries if entry["kind"] == "model"} >= set(REGISTRY)
    assert {entry["coupling"] for entry in entries if entry["kind"] == "joint"} >= {"dates", "ranks"}


@pytest.mark.parametrize("version", MANIFESTS)
def test_files_are_those_recorded(version: str) -> None:
    assert hashlib.sha256((FOLDER / version / ARCHIVE).read_bytes()).hexdigest() == MANIFESTS[version]["sha256"]


def test_files_of_released_versions_are_frozen() -> None:
    """The changelog gives a version its number when it is released: python tools/make_format_files.py --freeze."""
    released = re.findall(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    for version, manifest in MANIFESTS.items():
        assert manifest["frozen"] == (version in released), version


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script that makes the files, at work in a folder of its own."""
    spec = importlib.util.spec_from_file_location("make_format_files", ROOT / "tools" / "make_format_files.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    return module


def test_files_of_a_released_version_are_never_written_again(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = tmp_path / volscen.__version__
    own.mkdir()
    (own / MANIFEST).write_text(json.dumps({"frozen": False, "sha256": "", "files": {}}))
    (own / ARCHIVE).write_bytes(b"released")
    monkeypatch.setattr("sys.argv", ["make_format_files.py", "--freeze"])
    tool.main()
    monkeypatch.setattr("sys.argv", ["make_format_files.py"])
    with pytest.raises(SystemExit, match="released version"):
        tool.main()
    assert (own / ARCHIVE).read_bytes() == b"released"


# ------------------------------------------------------------------------------------------- newer formats
@pytest.mark.parametrize("known", SCHEMAS)
@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_datasets_of_newer_formats_name_the_version_that_wrote_them(tmp_path: Path, known: str, suffix: str) -> None:
    """Whatever they hold: nothing of it is looked at."""
    newer = known.rpartition("/")[0] + "/12"
    ds = xr.Dataset({"unheard_of": ("x", [1.0, 2.0])}, attrs={"schema": newer, "volscen_version": "7.1.0"})
    path = tmp_path / f"newer{suffix}"
    ds.to_netcdf(path) if suffix == ".nc" else ds.to_zarr(path, zarr_format=2, consolidated=False)
    said = (
        rf"format {newer}, written by volscen 7\.1\.0; this version \({re.escape(volscen.__version__)}\) reads {known}"
    )
    with pytest.raises(FileFormatError, match=said) as raised:
        volscen.read(path)
    assert str(path) in str(raised.value)
    with pytest.raises(FileFormatError, match=said):
        volscen.validate(ds, schema=known)
    with pytest.raises(FileFormatError, match="unknown version"):
        volscen.validate(ds.drop_attrs().assign_attrs(schema=newer))


def test_a_newer_history_stops_an_update(folders: dict[str, Path], tmp_path: Path) -> None:
    newer = volscen.read(folders[volscen.__version__] / "history-built.nc")
    newer.attrs |= {"schema": "volscen/history/2", "volscen_version": "7.1.0"}
    with pytest.raises(FileFormatError, match=r"written by volscen 7\.1\.0"):
        volscen.update_history(newer, pd.DataFrame(), progress=False)


@pytest.mark.parametrize(
    ("name", "load"), [("pca", volscen.load), ("joint-dates", volscen.load_joint), ("policy", agent.LearnedPolicy.load)]
)
def test_newer_models_name_the_version_that_wrote_them(
    folders: dict[str, Path], tmp_path: Path, name: str, load: Any
) -> None:
    """Of what this version wrote, with the number alone another."""
    path = folders[volscen.__version__] / f"{name}.safetensors"
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["volscen"])
    assert header["volscen_version"] == volscen.__version__
    known = header["format"]
    header |= {"format": known[:-1] + "2", "volscen_version": "7.1.0"}
    save_file(load_file(path), tmp_path / "newer.safetensors", metadata={"volscen": json.dumps(header)})
    with pytest.raises(FileFormatError, match=rf"format {known[:-1]}2, written by volscen 7\.1\.0; .* reads {known}"):
        load(tmp_path / "newer.safetensors")


@pytest.mark.parametrize("header", ["[]", "3", "[" * 100_000, '{"format": 3}', '{"format": "volscen/policy/1"}', ""])
def test_hostile_headers_of_policies(tmp_path: Path, header: str) -> None:
    save_file({"a": np.ones(3)}, tmp_path / "p.safetensors", metadata={"volscen": header})
    with pytest.raises(FileFormatError):
        agent.LearnedPolicy.load(tmp_path / "p.safetensors")

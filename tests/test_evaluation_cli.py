"""``volscen evaluate``, as a user runs it."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import xarray as xr

import volscen
from cli_runner import volscen_command
from evaluation_makers import small_cube, small_history
from volscen.sources.simulate import simulate_market


def command(*arguments):
    return volscen_command("evaluate", *arguments)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    history = simulate_market("A", 330, seed=1)
    volscen.write(history, folder / "history.nc")
    volscen.fit(history.isel(date=slice(0, 295)), "bootstrap").save(folder / "model.safetensors")
    volscen.write(small_history(), folder / "small.nc")
    small_cube(small_history()).to_netcdf(folder / "cube.nc")
    return folder, str(history.date.values[300])[:10]


def test_generators_print_one_table_and_write_it(files):
    folder, first = files
    done = command(
        folder / "history.nc", "-g", "short=pca", "-g", folder / "model.safetensors", "--option",
        "short.residual_days=60", "--first", first, "-n", 80, "--oracle", "A", "--seed", 3, "--refit", "20",
        "--checkpoint", folder / "kept", "--out", folder / "all.nc",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[2:10:2]] == ["bootstrap", "short", "model", "oracle"]
    with xr.open_dataset(folder / "all.nc") as found:
        assert float(found.skill.sel(generator="oracle", arm="raw", score="energy_score")[0]) == 1
        assert found.seed.values.tolist() == [3]
    settings = json.loads((folder / "kept" / "short-3" / "settings.json").read_text())
    assert json.loads(settings["parameters"])["residual_days"] == 60
    again = command(folder / "history.nc", "-g", "bootstrap", "--first", first, "-n", 80, "--out", folder / "table.csv")
    assert again.returncode == 0, again.stderr
    frame = pd.read_csv(folder / "table.csv", index_col=["generator", "arm"])
    assert f"{frame.loc[('bootstrap', 'raw'), 'energy_score']:.3f}" in again.stdout


def test_scenarios_of_other_systems(files):
    folder, _ = files
    done = command(
        folder / "small.nc", "--scenarios", f"a={folder / 'cube.nc'}", "--scenarios", f"b={folder / 'cube.nc'}",
        "--baseline", "a", "--train-end", "2020-03-13", "--out", folder / "table.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder / "table.json").read_text())["rows"]
    assert [(row["generator"], row["arm"]) for row in rows] == [(g, a) for g in "ab" for a in ("weighted", "raw")]
    assert rows[1]["skill"] == rows[3]["skill"] == 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--first", "2001-01-01"], "--generator or --scenarios"),
        (["-g", "pca"], "--first is needed"),
        (["-g", "pca", "-g", "pca", "--first", "2001-02-26"], "given twice"),
        (["-g", "pca", "--option", "x.a=1", "--first", "2001-02-26"], "names x"),
        (["-g", "pca", "--option", "a=1", "--first", "2001-02-26"], "label.name=value"),
        (["-g", "pca", "--first", "2001-02-26", "--refit", "week"], "refit_every"),
        (["-g", "pca", "--first", "2001-02-26", "--out", "table.txt"], "must end in"),
        (["--scenarios", "a=b.nc"], "--train-end"),
    ],
)
def test_mistakes_are_one_sentence(files, arguments, word):
    done = command(files[0] / "history.nc", *arguments)
    assert done.returncode == 1
    assert word in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1

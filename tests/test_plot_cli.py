"""``volscen plot``: files to pictures, whole or not at all."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import xarray as xr

import volscen
from volscen.cli import main
from volscen.generators import generator_class
from volscen.sources.simulate import simulate_market

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")

WORLD = {
    "raster_size": 16, "channels": (2, 2, 4), "latent_dim": 2, "hidden": 4, "progress": False, "epochs": 1,
    "dynamics_epochs": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plots")
    history = simulate_market("A", 260, seed=11)
    volscen.write(history, folder / "history.nc")
    model = volscen.fit(history, "pca")
    dates = history.date.values[[-5, -1]]
    both = volscen.generate(model, history, as_of=dates, n_scenarios=60, horizon=3, seed=1)
    volscen.write(both, folder / "both.nc")
    cube = both.isel(as_of=1)
    cube.attrs |= {"beta": float(both.beta[1]), "ess_fraction": float(both.ess_fraction[1])}
    volscen.write(cube, folder / "cube.nc")
    straddle = volscen.Portfolio.straddle(moneyness=1.0, tau=0.25)
    volscen.write(volscen.hedge(cube, straddle, [volscen.Underlying()]), folder / "hedge.nc")
    volscen.fit(history, "world", **WORLD).save(folder / "world.safetensors")
    model.save(folder / "pca.safetensors")
    return folder


@pytest.fixture
def command(files, tmp_path, monkeypatch, capsys):
    """Runs the command in the folder of the files; pictures go to ``tmp_path``."""

    def run(kind, file, out, *arguments):
        monkeypatch.chdir(files)
        monkeypatch.setattr(
            sys, "argv", ["volscen", "plot", kind, file, "-o", str(tmp_path / out), *map(str, arguments)]
        )
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ("surface", "history.nc", "a.png"),
        ("surface", "cube.nc", "a.png", "--step", 2, "--option", "kind=heatmap", "--option", "q=0.95"),
        ("smile", "history.nc", "a.jpg", "--date", "DATE"),
        ("smile", "both.nc", "a.png", "--as-of", "DATE", "--option", "tau=3M"),
        ("fan", "cube.nc", "a.png", "--option", "of=log_return", "--option", "levels=[0.1,0.5,0.9]"),
        ("pca", "cube.nc", "a.png", "--step", 1, "--history", "history.nc"),
        ("pca", "history.nc", "a.png", "--option", "component=1"),
        ("weights", "cube.nc", "a.png"),
        ("arbitrage", "cube.nc", "a.png", "--option", "weighted=false"),
        ("hedge", "hedge.nc", "a.png", "--option", "kind=residuals"),
        ("reconstruction", "history.nc", "a.png", "--model", "world.safetensors", "--option", "n=2"),
        ("latent-path", "history.nc", "a.png", "--model", "world.safetensors"),
        ("stress", "history.nc", "a.gif", "--model", "world.safetensors", "--option", "steps=2"),
        ("portfolio", "history.nc", "a.png", "--option", "hedged=risk velocity"),
    ],
    ids=lambda arguments: "-".join(arguments[:1]),
)  # fmt: skip
def test_every_kind_becomes_a_picture(command, files, tmp_path, arguments):
    day = str(volscen.read(files / "both.nc").as_of.values[0].astype("datetime64[D]"))
    code, out, err = command(*(day if one == "DATE" else one for one in arguments), "--dpi", 40)
    assert code == 0, err
    assert out.startswith("wrote ")
    (path,) = tmp_path.iterdir()
    with Image.open(path) as picture:
        assert np.asarray(picture.convert("L")).std() > 10


def test_vector_pictures_are_the_same_bytes_again(command, tmp_path):
    for name in ("a.svg", "b.svg"):
        assert command("weights", "cube.nc", name)[0] == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert command("weights", "cube.nc", "a.pdf")[0] == 0
    assert (tmp_path / "a.pdf").read_bytes()[:4] == b"%PDF"


def test_the_date_and_the_step_asked_for_are_drawn(command, tmp_path):
    assert command("smile", "cube.nc", "a.svg", "--step", "2")[0] == 0
    assert "step 2, weighted median" in (tmp_path / "a.svg").read_text()
    date = str(volscen.read("history.nc").date.values[7].astype("datetime64[D]"))
    assert command("smile", "history.nc", "b.svg", "--date", date)[0] == 0
    assert f"<!-- {date} -->" in (tmp_path / "b.svg").read_text()


def test_attention_is_asked_of_the_model(command, monkeypatch, tmp_path):
    def attention(self, history):
        shape = (history.sizes["date"], 2, 4)
        return xr.DataArray(np.full(shape, 0.25), dims=("date", "head", "lag"), coords={"date": history.date})

    code, _, err = command("attention", "history.nc", "a.png", "--model", "pca.safetensors")
    assert (code, "no attention" in err) == (1, True)
    monkeypatch.setattr(generator_class("pca"), "attention", attention, raising=False)
    assert command("attention", "history.nc", "a.png", "--model", "pca.safetensors")[0] == 0
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cloud", "cube.nc", "a.png"), "KIND must be one of surface"),
        (("fan", "cube.nc", "a.xyz"), "must end in"),
        (("fan", "cube.nc", "a"), "must end in"),
        (("stress", "history.nc", "a.png", "--model", "world.safetensors"), "must end in .gif"),
        (("fan", "cube.nc", "no/a.png"), "cannot write"),
        (("fan", "none.nc", "a.png"), "no such file"),
        (("fan", "history.nc", "a.png"), "no dimension scenario"),
        (("fan", "both.nc", "a.png"), "--as-of"),
        (("fan", "both.nc", "a.png", "--as-of", "1999-01-01"), "--as-of 1999-01-01"),
        (("fan", "cube.nc", "a.png", "--step", "1"), "--step is not for fan"),
        (("smile", "cube.nc", "a.png", "--step", "9"), "--step 9: the file holds 1 to 3"),
        (("smile", "cube.nc", "a.png", "--date", "2020-01-01"), "--date is not for this file"),
        (("smile", "history.nc", "a.png", "--date", "2020-02-30"), "--date 2020-02-30"),
        (("smile", "history.nc", "a.png", "--model", "world.safetensors"), "--model is for"),
        (("fan", "cube.nc", "a.png", "--history", "history.nc"), "--history is for pca"),
        (("latent-path", "history.nc", "a.png"), "--model is needed"),
        (("latent-path", "history.nc", "a.png", "--model", "pca.safetensors"), "world"),
        (("portfolio", "history.nc", "a.png", "--until", "1990-01-01"), "--until"),
        (("portfolio", "cube.nc", "a.png"), "history"),
        (("fan", "cube.nc", "a.png", "--option", "colour=red"), "--option: .*colour"),
        (("smile", "cube.nc", "a.png", "--option", "color=notacolour"), "--option: .*notacolour"),
        (("fan", "cube.nc", "a.png", "--option", "levels"), "name=value"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(command, tmp_path, arguments, message):
    code, _, err = command(*arguments)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert re.search(message, err), err
    assert list(tmp_path.iterdir()) == []

"""Zarr stores: the same datasets as in NetCDF, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import volscen
from volscen import _zarr
from volscen.errors import FileFormatError, InputError, MissingExtraError


@pytest.fixture
def history() -> xr.Dataset:
    return volscen.datasets.sample_history().isel(date=slice(40))


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "renames"])
def test_a_store_is_replaced(
    exchange: bool, history: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(_zarr, "_exchange", lambda one, other: False)
    path = tmp_path / "h.zarr"
    for part in (history.isel(date=slice(10)), history):
        assert volscen.write(part, path) == path
        xr.testing.assert_equal(volscen.read(path), part)
        assert volscen.read(path).attrs == part.attrs
    assert [p.name for p in tmp_path.iterdir()] == ["h.zarr"]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o777 & ~umask
    link = tmp_path / "link.zarr"
    link.symlink_to(path)
    volscen.write(history.isel(date=slice(5)), link)
    assert link.is_symlink()
    assert volscen.read(path).sizes["date"] == 5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="renameat2 is Linux's")
def test_folders_are_exchanged_in_one_step(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / folder.name).touch()
    if not _zarr._exchange(one, other):
        pytest.skip("this file system cannot")
    assert [p.name for p in one.iterdir()] == ["other"]


def test_a_failed_second_rename_is_undone(history: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = volscen.write(history, tmp_path / "h.zarr")
    monkeypatch.setattr(_zarr, "_exchange", lambda one, other: False)
    real = os.replace

    def second_fails(source: Path, target: Path) -> None:
        if Path(source).suffix == ".part" and Path(target) == path:
            raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(_zarr.os, "replace", second_fails)
    with pytest.raises(InputError, match=r"cannot write to .*h\.zarr: Input/output error"):
        volscen.write(history.isel(date=slice(5)), path)
    monkeypatch.undo()
    assert volscen.read(path).sizes["date"] == 40
    assert [p.name for p in tmp_path.iterdir()] == ["h.zarr"]


@pytest.mark.parametrize("dates", ["2024-06-03", ["2024-06-03", "2024-06-04"]], ids=["one", "two"])
@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
def test_cubes(dates: object, lazy: bool, tmp_path: Path) -> None:
    chunks = {"chunks": 40} if lazy else {}
    cube = volscen.generate(None, as_of=dates, n_scenarios=100, seed=3, **chunks)
    stores = [volscen.read(volscen.write(cube, tmp_path / name)) for name in ("c.zarr", "c.nc")]
    xr.testing.assert_equal(*stores)
    for name in ("beta", "ess_fraction"):
        np.testing.assert_array_equal(stores[0].attrs[name], stores[1].attrs[name])
    assert set(stores[0].attrs) == set(stores[1].attrs)


def test_what_is_no_store(history: xr.Dataset, tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "precious").touch()
    (tmp_path / "b.zarr").touch()
    for name in ("a.zarr", "b.zarr"):
        with pytest.raises(InputError, match="it exists and is no zarr store"):
            volscen.write(history, tmp_path / name)
        with pytest.raises(FileFormatError, match=f"{name}: not a readable zarr store"):
            volscen.read(tmp_path / name)
    assert (tmp_path / "a.zarr" / "precious").exists()
    with pytest.raises(InputError, match="does not exist or cannot be written to"):
        volscen.write(history, tmp_path / "no" / "h.zarr")
    with pytest.raises(FileFormatError, match="no such file"):
        volscen.read(tmp_path / "h.zarr")
    path = volscen.write(history, tmp_path / "h.zarr")
    with pytest.raises(InputError, match="takes no options"):
        volscen.read(path, columns={})
    broken = json.loads((path / ".zattrs").read_text())
    (path / ".zattrs").write_text(json.dumps({k: v for k, v in broken.items() if k != "calendar"}))
    with pytest.raises(FileFormatError, match="attribute calendar is missing"):
        volscen.read(path)
    shutil.rmtree(path / "implied_vol")
    with pytest.raises(FileFormatError, match="implied_vol is missing"):
        volscen.read(path)


def test_without_the_extra(history: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = volscen.write(history, tmp_path / "h.zarr")
    monkeypatch.setitem(sys.modules, "zarr", None)
    for call in (lambda: volscen.read(path), lambda: volscen.write(history, path)):
        with pytest.raises(MissingExtraError, match=r"pip install 'volscen\[distributed\]'"):
            call()

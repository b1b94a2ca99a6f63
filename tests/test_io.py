"""Files: round trips, schema checks, truncation, atomic writing."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import volscen
from volscen._files import atomic_path, cannot_write
from volscen._io import read_dataset
from volscen.errors import FileFormatError, InputError
from volscen.scenarios import _unfinished


@pytest.fixture(scope="module")
def cube():
    return volscen.generate(n_scenarios=400, horizon=2, seed=1)


def test_round_trip_is_exact(cube, tmp_path):
    again = volscen.read(volscen.write(cube, tmp_path / "s.nc"))
    for name in cube.variables:
        np.testing.assert_array_equal(again[name].values, cube[name].values)
        assert again[name].dtype == cube[name].dtype, name
    assert {k: str(v) for k, v in again.attrs.items()} == {k: str(v) for k, v in cube.attrs.items()}
    assert os.listdir(tmp_path) == ["s.nc"]


def test_a_file_read_can_be_used_like_a_new_one(cube, tmp_path):
    again = volscen.read(volscen.write(cube, tmp_path / "s.nc", compression=4))
    xr.testing.assert_identical(volscen.reweight(again, beta=3.0).weight, volscen.reweight(cube, beta=3.0).weight)


def test_history_round_trip(tmp_path):
    history = volscen.datasets.sample_history()
    again = volscen.read(volscen.write(history, tmp_path / "h.nc"))
    np.testing.assert_array_equal(again.implied_vol, history.implied_vol)
    assert np.isnan(again.log_return[0])


def test_surface_round_trip(tmp_path):
    strike, is_call = np.repeat(np.arange(80.0, 121.0, 5.0), 2), np.tile([True, False], 9)
    table = pd.DataFrame(
        {
            "date": "2024-01-02",
            "expiry": "2024-07-02",
            "strike": strike,
            "option_type": np.where(is_call, "C", "P"),
            "price": volscen.black.price(100.0, strike, 182 / 365, 0.2, is_call),
        }
    )
    surface = volscen.build_surface(volscen.Chain(table), [182 / 365], [0.95, 1.0, 1.05])
    again = volscen.read(volscen.write(surface, tmp_path / "surface.nc"))
    np.testing.assert_allclose(again.implied_vol, 0.2, atol=1e-6)


@pytest.mark.parametrize("keep", [0, 100, 5000, 0.5, 0.95])
def test_truncated_files(cube, tmp_path, keep):
    path = volscen.write(cube, tmp_path / "s.nc")
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(FileFormatError, match=r"s\.nc"):
        volscen.read(path)


def test_foreign_and_missing_files(tmp_path):
    (tmp_path / "text.nc").write_text("not a NetCDF file")
    with pytest.raises(FileFormatError, match="not a readable"):
        volscen.read(tmp_path / "text.nc")
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "foreign.nc")
    with pytest.raises(FileFormatError, match="not a volscen dataset"):
        volscen.read(tmp_path / "foreign.nc")
    with pytest.raises(FileFormatError, match="no such file"):
        volscen.read(tmp_path / "absent.nc")
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(FileFormatError, match="unknown kind"):
        volscen.read(tmp_path / "x.txt")


def test_the_wrong_kind_is_named(cube, tmp_path):
    path = volscen.write(cube, tmp_path / "s.nc")
    with pytest.raises(FileFormatError, match="volscen/history/1"):
        read_dataset(path, kind="volscen/history/1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.drop_vars("weight"), "weight is missing"),
        (lambda d: d.assign(weight=d.weight * 2), "sum to 1"),
        (lambda d: d.assign(weight=d.weight * np.nan), "finite"),
        (
            lambda d: d.assign(implied_vol=d.implied_vol * -1),
            "implied_vol holds values that are not positive",
        ),
        (lambda d: d.assign(implied_vol=d.implied_vol.where(d.scenario != 3)), "NaN"),
        (lambda d: d.assign(arbitrage_penalty=d.arbitrage_penalty - 1), "negative"),
        (lambda d: d.isel(tau=[1, 0]), "tau must be strictly increasing"),
        (lambda d: d.assign(spot=d.spot.isel(step=0)), "dimensions"),
        (lambda d: d.drop_attrs(), "not a volscen dataset"),
        (lambda d: _without(d, "seed"), "attribute seed is missing"),
        (lambda d: _without(d, "ess_fraction"), "attribute ess_fraction is missing"),
    ],
)
def test_validate_names_the_problem(cube, change, message):
    with pytest.raises(FileFormatError, match=message):
        volscen.validate(change(cube))


def _without(ds, name):
    ds = ds.copy()
    ds.attrs = {k: v for k, v in ds.attrs.items() if k != name}
    return ds


def test_every_problem_is_in_one_message(cube):
    broken = cube.drop_vars(["weight", "spot0"]).assign(log_return=cube.log_return * np.nan)
    with pytest.raises(FileFormatError, match=r"(?s)log_return.*weight.*spot0|log_return.*spot0.*weight"):
        volscen.validate(broken)


def test_history_validation():
    history = volscen.datasets.sample_history()
    twice = xr.concat([history.isel(date=[0, 1]), history.isel(date=[1])], dim="date")
    with pytest.raises(FileFormatError, match="date must be strictly increasing"):
        volscen.validate(twice)
    with pytest.raises(FileFormatError, match="log_return"):
        volscen.validate(history.assign(log_return=history.log_return.where(history.date != history.date[5])))


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent/s.nc", "there is no folder"), ("", "must end in .nc"), ("s.txt", "must end in .nc")],
)
def test_unwritable_paths(cube, tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        volscen.write(cube, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way(cube, tmp_path):
    (tmp_path / "s.nc").mkdir()
    with pytest.raises(InputError, match="folder"):
        volscen.write(cube, tmp_path / "s.nc")


def test_compression_range(cube, tmp_path):
    with pytest.raises(InputError, match="compression"):
        volscen.write(cube, tmp_path / "s.nc", compression=11)


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file(tmp_path, failure):
    path = tmp_path / "f"
    path.write_text("old")

    def write():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["f"]


def test_written_files_have_ordinary_permissions(cube, tmp_path):
    umask = os.umask(0o022)
    try:
        assert volscen.write(cube, tmp_path / "s.nc").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(umask)


def test_a_link_is_followed_and_a_device_left_alone(cube, tmp_path):
    (tmp_path / "real.nc").write_text("old")
    (tmp_path / "link.nc").symlink_to(tmp_path / "real.nc")
    volscen.write(cube, tmp_path / "link.nc")
    assert (tmp_path / "link.nc").is_symlink()
    assert volscen.read(tmp_path / "real.nc").sizes["scenario"] == 400
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no ordinary file"), atomic_path(tmp_path / "pipe"):
        pass


def test_a_full_disk_is_named(tmp_path):
    def write():
        with atomic_path(tmp_path / "f"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match=r"cannot write to .*f: no space left on the disk"):
        write()
    assert "no space left" in str(cannot_write(tmp_path / "f", RuntimeError("NetCDF: HDF error"), n_bytes=2**60))
    assert "HDF error" in str(cannot_write(tmp_path / "f", RuntimeError("NetCDF: HDF error")))
    assert os.listdir(tmp_path) == []


def test_ctrl_c_while_writing_is_obeyed_after_the_block(cube, tmp_path, monkeypatch):
    """An interrupt inside the NetCDF layer would leave its lock taken and hang the process."""
    plain, reached = xr.Dataset.to_netcdf, []

    def interrupted(self, *arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        plain(self, *arguments, **options)
        reached.append(True)

    monkeypatch.setattr(xr.Dataset, "to_netcdf", interrupted)
    with pytest.raises(KeyboardInterrupt):
        volscen.write(cube, tmp_path / "s.nc")
    assert reached
    assert os.listdir(tmp_path) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_ctrl_c_while_a_streamed_write_begins_leaves_nothing(tmp_path, monkeypatch, suffix):
    """However early: before the lock is noted it would not be known whose the folder is."""
    plain = _unfinished._locked

    def interrupted(lock, path):
        taken = plain(lock, path)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        return taken

    monkeypatch.setattr(_unfinished, "_locked", interrupted)
    lazy = volscen.generate(n_scenarios=2048, seed=1, chunks=1024)
    with pytest.raises(KeyboardInterrupt):
        volscen.write(lazy, tmp_path / f"s.{suffix}")
    assert os.listdir(tmp_path) == []


def test_flipped_bytes_are_refused_or_harmless(cube, tmp_path):
    """Corrupt files raise FileFormatError or, where a flip hits a number, still follow the schema."""
    path = volscen.write(cube, tmp_path / "s.nc")
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(25):
        bad = bytearray(good)
        for place in rng.integers(0, min(len(bad), 20_000), 20):
            bad[place] ^= int(rng.integers(1, 256))
        other = tmp_path / "bad.nc"
        other.write_bytes(bad)
        with contextlib.suppress(FileFormatError):
            volscen.validate(volscen.read(other))
        other.unlink()


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("beta", "x"), ("beta", -1.0), ("ess_fraction", 5.0), ("ess_fraction", np.nan), ("seed", [1.5, -2.0])],
)
def test_attributes_are_numbers_in_range(cube, attribute, value):
    wrong = cube.copy()
    wrong.attrs[attribute] = value
    with pytest.raises(FileFormatError, match=attribute):
        volscen.validate(wrong)


def test_spot_must_follow_from_the_returns(cube):
    with pytest.raises(FileFormatError, match="compounded"):
        volscen.validate(cube.assign(spot=cube.spot * 2))
    volscen.validate(cube.isel(step=[1]))  # the last step alone is still a cube


@pytest.mark.parametrize("call", [lambda: volscen.read(None), lambda: volscen.write(None, "x.nc")])
def test_none_is_refused(call):
    with pytest.raises(InputError):
        call()

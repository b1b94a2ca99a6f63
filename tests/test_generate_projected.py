"""Scenario cubes of projected surfaces: nothing to arbitrage, the same draws, weights, laziness, files."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

import volscen
from volscen import arbitrage
from volscen.arbitrage import ProjectionStatus as Status
from volscen.cli import app
from volscen.errors import FitError
from volscen.generators import BLOCK_SIZE
from volscen.sources.simulate import simulate_market

NAMES = ("log_return", "implied_vol", "spot", "weight")
NAMES += ("arbitrage_penalty", "arbitrage_penalty_raw", "projection_status")


@pytest.fixture(scope="module")
def history():
    return simulate_market("B", 700, seed=2)


@pytest.fixture(scope="module")
def model(history):
    return volscen.fit(history.isel(date=slice(0, 600)), "pca")


@pytest.fixture(scope="module")
def cubes(model, history):
    arguments = {"n_scenarios": 1500, "horizon": 2, "seed": 8}
    return (
        volscen.generate(model, history, **arguments),
        volscen.generate(model, history, project=True, **arguments),
    )


def assert_same(a, b, names=NAMES):
    for name in names:
        np.testing.assert_array_equal(a[name].values, b[name].values, err_msg=name)


def test_nothing_is_left_to_arbitrage(cubes):
    raw, projected = cubes
    assert (raw.arbitrage_penalty.values > 0).mean() > 0.01
    np.testing.assert_array_equal(projected.arbitrage_penalty, 0.0)
    vol = projected.implied_vol.values
    assert vol.dtype == np.float32
    phi = arbitrage.penalty(vol.astype(np.float64), projected.tau.values, projected.moneyness.values)
    np.testing.assert_array_equal(phi, 0.0)
    assert projected.attrs["projected"] == 1
    assert raw.attrs["projected"] == 0
    volscen.validate(projected)


def test_the_draws_are_the_same(cubes):
    raw, projected = cubes
    assert_same(raw, projected, ("log_return", "spot"))
    np.testing.assert_array_equal(projected.arbitrage_penalty_raw, raw.arbitrage_penalty)
    free = projected.projection_status.values == Status.FREE
    assert 0 < free.sum() < free.size
    np.testing.assert_array_equal(projected.implied_vol.values[free], raw.implied_vol.values[free])
    np.testing.assert_array_less(
        0, projected.arbitrage_penalty_raw.values[projected.projection_status.values > 0] + 1e-300
    )
    # Small violations are mended by small changes.
    change = np.abs(projected.implied_vol.values - raw.implied_vol.values)
    assert np.median(change[~free].max(axis=(1, 2))) < 0.02


def test_weights_go_by_the_penalty_before(cubes):
    raw, projected = cubes
    np.testing.assert_array_equal(projected.weight, raw.weight)
    assert projected.attrs["beta"] == raw.attrs["beta"]
    again = volscen.reweight(projected, beta=3.0)
    np.testing.assert_array_equal(again.weight, volscen.reweight(raw, beta=3.0).weight)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_either_type(model, history, dtype):
    cube = volscen.generate(model, history, n_scenarios=300, seed=3, project=True, dtype=dtype)
    assert cube.implied_vol.dtype == dtype
    np.testing.assert_array_equal(cube.arbitrage_penalty, 0.0)
    assert (cube.projection_status > 0).any()


def test_threads_chunks_and_numbers_do_not_matter(model, history, cubes):
    _, whole = cubes
    arguments = {"horizon": 2, "seed": 8, "project": True}
    assert_same(whole, volscen.generate(model, history, n_scenarios=1500, num_threads=1, **arguments))
    for chunks in (BLOCK_SIZE, 700):
        lazy = volscen.generate(model, history, n_scenarios=1500, chunks=chunks, **arguments)
        volscen.validate(lazy)
        assert_same(whole, lazy.compute())
    few = volscen.generate(model, history, n_scenarios=77, **arguments)
    prefix = tuple(name for name in NAMES if name != "weight")
    assert_same(whole.isel(scenario=slice(0, 77)), few, prefix)


def test_a_file_keeps_it_all(model, history, tmp_path):
    dates = history.date.values[[610, 640]]
    arguments = {"as_of": dates, "n_scenarios": 400, "seed": 8, "project": True}
    eager = volscen.generate(model, history, **arguments)
    volscen.write(volscen.generate(model, history, chunks=128, **arguments), tmp_path / "lazy.nc")
    again = volscen.read(tmp_path / "lazy.nc")
    assert_same(eager, again)
    np.testing.assert_allclose(again.attrs["beta"], eager.attrs["beta"])
    assert again.projection_status.dtype == np.int8
    assert again.attrs["projected"] == 1


def test_a_surface_that_cannot_be_projected_is_an_error(model, history, monkeypatch):
    def lose(vol, *args, **options):
        return vol, np.full(vol.shape[:-2], Status.FAILED, dtype=np.int8)

    monkeypatch.setattr(arbitrage, "project", lose)
    with pytest.raises(FitError, match="could not be projected"):
        volscen.generate(model, history, n_scenarios=10, seed=0, project=True)


def test_command_line(tmp_path):
    out = tmp_path / "scenarios.nc"
    done = CliRunner().invoke(app, ["generate", "--project", "-n", "300", "--seed", "1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "projected surfaces" in done.output
    assert volscen.read(out).attrs["projected"] == 1

"""The scenario cube: determinism, alignment, feedback, weights, laziness, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import volscen
from volscen import schema
from volscen.errors import FitError, InputError
from volscen.generators import BLOCK_SIZE, StepGenerator
from volscen.sources.simulate import simulate_market


@pytest.fixture(scope="module")
def history():
    return simulate_market("B", 700, seed=2)


@pytest.fixture(scope="module")
def model(history):
    return volscen.fit(history.isel(date=slice(0, 600)), "pca")


VARIABLES = ("log_return", "implied_vol", "spot", "arbitrage_penalty", "weight")


def assert_same(a, b, names=VARIABLES):
    for name in names:
        np.testing.assert_array_equal(a[name].values, b[name].values, err_msg=name)


# -------------------------------------------------------------------------------------------- the contract
def test_bare_call_follows_the_schema():
    cube = volscen.generate()
    assert volscen.validate(cube) is cube
    assert cube.sizes["scenario"] == 10_000
    assert cube.implied_vol.dtype == np.float32
    assert cube.title.startswith("SIMULATED")
    assert "simulated" in cube.source


def test_attributes(model, history):
    cube = volscen.generate(model, history, as_of="2002-05-01", n_scenarios=100, seed=9)
    expected = {"generator": "pca", "seed": 9, "projected": 0, "calendar": "weekdays", "day_count": "ACT/365"}
    assert {k: cube.attrs[k] for k in expected} == expected
    assert cube.attrs["data_fingerprint"] == schema.fingerprint(history.isel(date=slice(0, 600)))
    assert cube.as_of.values == np.datetime64("2002-05-01")
    for name in cube.variables:
        if name != "as_of":
            assert cube[name].attrs["long_name"]
            assert cube[name].attrs["units"]


def test_starting_state_and_spot(model, history):
    row = 650
    cube = volscen.generate(model, history, as_of=history.date.values[row], n_scenarios=50, horizon=3, seed=1)
    np.testing.assert_allclose(cube.implied_vol0, history.implied_vol[row], rtol=1e-14)
    assert float(cube.spot0) == float(history.spot[row])
    growth = np.exp(cube.log_return.values.cumsum(axis=1))
    np.testing.assert_allclose(cube.spot, float(history.spot[row]) * growth, rtol=1e-14)
    np.testing.assert_array_equal(cube.forward0, float(history.spot[row]))  # the market has no carry
    np.testing.assert_array_equal(cube.discount_factor0, 1.0)


def test_penalty_is_of_the_surfaces_delivered(model, history):
    cube = volscen.generate(model, history, n_scenarios=300, horizon=2, seed=1)
    expected = volscen.arbitrage.penalty(cube.implied_vol.values.astype(float), cube.tau.values, cube.moneyness.values)
    np.testing.assert_array_equal(cube.arbitrage_penalty.values, expected)
    assert expected.max() > 0


def test_weights_are_the_penalty_weights(model, history):
    cube = volscen.generate(model, history, n_scenarios=2000, horizon=2, seed=1)
    path = cube.arbitrage_penalty.values.sum(axis=1)
    tilted = np.exp(-cube.attrs["beta"] * (path - path.min()))
    np.testing.assert_allclose(cube.weight, tilted / tilted.sum(), rtol=1e-9)
    assert cube.attrs["ess_fraction"] >= 0.5 - 1e-9
    assert cube.weight.values @ path < path.mean()
    equal = volscen.generate(model, history, n_scenarios=2000, horizon=2, seed=1, reweight=None)
    np.testing.assert_array_equal(equal.weight, 1 / 2000)
    assert_same(cube, equal, ("log_return", "implied_vol", "arbitrage_penalty"))


# --------------------------------------------------------------------------------------------- determinism
def test_same_seed_same_bits_whatever_the_threads(model, history):
    one = volscen.generate(model, history, n_scenarios=5000, seed=4, num_threads=1)
    for threads in (2, 7):
        assert_same(one, volscen.generate(model, history, n_scenarios=5000, seed=4, num_threads=threads))
    other = volscen.generate(model, history, n_scenarios=5000, seed=5)
    assert not np.array_equal(one.log_return, other.log_return)


def test_fewer_scenarios_are_a_prefix(model, history):
    many = volscen.generate(model, history, n_scenarios=3 * BLOCK_SIZE + 7, seed=4)
    few = volscen.generate(model, history, n_scenarios=BLOCK_SIZE + 5, seed=4)
    assert_same(many.isel(scenario=slice(0, BLOCK_SIZE + 5)), few, ("log_return", "implied_vol", "arbitrage_penalty"))


def test_shorter_paths_are_a_prefix(model, history):
    long = volscen.generate(model, history, n_scenarios=500, horizon=4, seed=4)
    short = volscen.generate(model, history, n_scenarios=500, horizon=2, seed=4)
    assert_same(long.isel(step=slice(0, 2)), short, ("log_return", "implied_vol"))


def test_blocks_have_numbers_of_their_own(model, history):
    cube = volscen.generate(model, history, n_scenarios=2 * BLOCK_SIZE, seed=4)
    r = cube.log_return.values[:, 0]
    assert not np.array_equal(r[:BLOCK_SIZE], r[BLOCK_SIZE:])


def test_dates_have_numbers_of_their_own(history):
    model = volscen.fit(history.isel(date=slice(0, 600)), "bootstrap")  # its draws do not depend on the state
    cube = volscen.generate(model, history, as_of=history.date.values[[610, 640]], n_scenarios=500, seed=4)
    assert not np.array_equal(cube.log_return[0], cube.log_return[1])


def test_dates_together_equal_dates_alone(model, history):
    dates = history.date.values[[610, 640, 699]]
    together = volscen.generate(model, history, as_of=dates, n_scenarios=1500, seed=4)
    assert together.implied_vol.dims == ("as_of", "scenario", "step", "tau", "moneyness")
    volscen.validate(together)
    for i, date in enumerate(dates):
        alone = volscen.generate(model, history, as_of=date, n_scenarios=1500, seed=4)
        assert_same(together.isel(as_of=i), alone)
        assert together.attrs["beta"][i] == alone.attrs["beta"]
        assert together.attrs["ess_fraction"][i] == alone.attrs["ess_fraction"]
    assert not np.array_equal(together.log_return[0], together.log_return[1])


def test_dates_in_several_forms(model, history):
    dates = history.date.values[[610, 640]]
    expected = volscen.generate(model, history, as_of=dates, n_scenarios=10, seed=4)
    for form in (
        pd.DatetimeIndex(dates),
        list(dates),
        history.date[[610, 640]],
        [str(d)[:10] for d in dates],
    ):
        assert_same(expected, volscen.generate(model, history, as_of=form, n_scenarios=10, seed=4))


def test_seed_forms(model, history):
    def drawn(seed):
        return volscen.generate(model, history, n_scenarios=10, seed=seed)

    assert_same(drawn(np.random.default_rng(3)), drawn(np.random.default_rng(3)))
    unseeded = drawn(None)
    assert_same(unseeded, drawn(unseeded.attrs["seed"]))  # the seed drawn is recorded
    assert drawn(None).attrs["seed"] != unseeded.attrs["seed"]


# ---------------------------------------------------------------------------------- no look-ahead, feedback
def test_nothing_after_as_of_enters(model, history):
    date = history.date.values[620]
    changed = history.copy(deep=True)
    changed.implied_vol[621:] *= 2
    changed.log_return[621:] = 0.2
    changed.spot[621:] *= 3
    assert_same(
        volscen.generate(model, history, as_of=date, n_scenarios=100, seed=1),
        volscen.generate(model, changed, as_of=date, n_scenarios=100, seed=1),
    )


def test_default_fit_stops_at_the_first_as_of(history):
    dates = history.date.values[[500, 650]]
    changed = history.copy(deep=True)
    changed.implied_vol[501:650] *= 1.3
    a = volscen.generate(None, history, as_of=dates, n_scenarios=100, seed=1)
    b = volscen.generate(None, changed, as_of=dates, n_scenarios=100, seed=1)
    assert_same(a.isel(as_of=0), b.isel(as_of=0))
    assert str(history.date.values[500])[:10] in a.source


class Recorder(StepGenerator):
    """Deterministic law that exposes the state of each step: r = 2 r_last, ln iv = ln iv_last + r_last."""

    name = "recorder"

    def fit(self, history):
        self._remember(history)
        return self

    update = fit

    def _step(self, log_return, log_iv, rng):
        return 2 * log_return[:, -1], log_iv[:, -1] + log_return[:, -1:]

    def arrays(self):
        return {}

    def _restore(self, arrays):
        pass


def test_each_steps_outcome_is_the_state_of_the_next(history):
    cube = volscen.generate(Recorder().fit(history), history, n_scenarios=3, horizon=4, seed=0, dtype="float64")
    r0 = float(history.log_return[-1])
    np.testing.assert_allclose(cube.log_return[0], r0 * np.array([2, 4, 8, 16]), rtol=1e-14)
    shift = np.log(cube.implied_vol[0] / cube.implied_vol0).isel(tau=0, moneyness=0)
    np.testing.assert_allclose(shift, r0 * np.array([1, 3, 7, 15]), rtol=1e-10)


def test_the_second_steps_law_depends_on_the_first_steps_surface(monkeypatch):
    """Raise the surface after step 1 and compare step 2's moves drawn with the same random numbers."""
    history = simulate_market("A", 1500, seed=2)
    model = volscen.fit(history, "pca")
    plain = volscen.generate(model, history, n_scenarios=2000, horizon=2, seed=1, dtype="float64")
    onwards = type(model)._onwards

    def altered(self, path, moves):
        after = onwards(self, path, moves)
        return replace(after, coordinate=after.coordinate + np.log(1.2))

    monkeypatch.setattr(type(model), "_onwards", altered)
    raised = volscen.generate(model, history, n_scenarios=2000, horizon=2, seed=1, num_threads=1, dtype="float64")
    np.testing.assert_array_equal(plain.log_return[:, 0], raised.log_return[:, 0])
    # The return's standard deviation grows with the level in this market.
    assert float(raised.log_return[:, 1].std() / plain.log_return[:, 1].std()) > 1.1


# ------------------------------------------------------------------------------------------------ laziness
@pytest.mark.parametrize("chunks", [BLOCK_SIZE, 700, 100_000, {"scenario": 2000}, -1])
def test_lazy_cube_has_the_same_bits(model, history, chunks):
    arguments = {"n_scenarios": 2500, "horizon": 2, "seed": 8}
    eager = volscen.generate(model, history, **arguments)
    lazy = volscen.generate(model, history, chunks=chunks, **arguments)
    assert all(lazy[name].chunks is not None for name in VARIABLES)
    volscen.validate(lazy)
    assert_same(eager, lazy.compute())


def test_lazy_cube_of_several_dates_is_written_complete(model, history, tmp_path):
    dates = history.date.values[[610, 640]]
    arguments = {"as_of": dates, "n_scenarios": 1500, "seed": 8}
    eager = volscen.generate(model, history, **arguments)
    volscen.write(volscen.generate(model, history, chunks=1024, **arguments), tmp_path / "lazy.nc")
    again = volscen.read(tmp_path / "lazy.nc")
    assert_same(eager, again)
    np.testing.assert_allclose(again.attrs["beta"], eager.attrs["beta"])
    np.testing.assert_allclose(again.attrs["ess_fraction"], eager.attrs["ess_fraction"])
    assert "beta_requested" not in again.attrs


def test_reweighting_a_lazy_cube_completes_its_attributes(model, history):
    lazy = volscen.generate(model, history, n_scenarios=100, seed=8, chunks=50)
    done = volscen.reweight(lazy)
    assert done.attrs["ess_fraction"] >= 0.5
    assert "beta_requested" not in done.attrs
    volscen.validate(done)


# ----------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_scenarios": 0}, "n_scenarios"),
        ({"n_scenarios": 2.5}, "n_scenarios"),
        ({"n_scenarios": True}, "n_scenarios"),
        ({"horizon": 0}, "horizon"),
        ({"seed": -1}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"seed": 1.0}, "seed"),
        ({"dtype": "int32"}, "dtype"),
        ({"dtype": "float16"}, "dtype"),
        ({"reweight": "magic"}, "reweight"),
        ({"beta": -3}, "beta"),
        ({"num_threads": 0}, "num_threads"),
        ({"project": "yes"}, "project"),
        ({"chunks": 0}, "chunks"),
        ({"chunks": {"step": 1}}, "chunks"),
        ({"as_of": "2002-05-04"}, "nearest date it holds is 2002-05-03"),  # a Saturday
        ({"as_of": "yesterday"}, "as_of"),
        ({"as_of": []}, "as_of"),
        ({"as_of": ["2002-05-02", "2002-05-01"]}, "increasing"),
        ({"as_of": ["2002-05-01", "2002-05-01"]}, "increasing"),
        ({"as_of": "2000-01-10"}, "needs 21"),
    ],
)
def test_bad_arguments(model, history, arguments, message):
    with pytest.raises(InputError, match=message):
        volscen.generate(model, history, **{"n_scenarios": 10, **arguments})


def test_generator_without_history(model):
    with pytest.raises(InputError, match="history is needed"):
        volscen.generate(model)


def test_unfitted_generator(history):
    from volscen.generators._pca import ScaledPCA

    with pytest.raises(InputError, match="not fitted"):
        volscen.generate(ScaledPCA(), history)


def test_grids_that_differ(model, history):
    with pytest.raises(InputError, match="tau of the history"):
        volscen.generate(model, history.isel(tau=slice(1, None)))
    shifted = history.assign_coords(moneyness=history.moneyness * 1.01)
    with pytest.raises(InputError, match="moneyness of the history"):
        volscen.generate(model, shifted)


def test_history_that_is_none(model):
    with pytest.raises(volscen.errors.FileFormatError, match="not a dataset of schema 'volscen/history/1'"):
        volscen.generate(model, xr.Dataset())


class Exploding(Recorder):
    def _step(self, log_return, log_iv, rng):
        return log_return[:, -1], log_iv[:, -1] * np.nan


def test_a_law_that_explodes_is_an_error_not_a_nan(history):
    with pytest.raises(FitError, match="explodes"):
        volscen.generate(Exploding().fit(history), history, n_scenarios=10, seed=0)


def test_returns_that_overflow_the_spot_are_an_error(history):
    wild = volscen.fit(history, "bootstrap")
    wild.log_return_ = wild.log_return_ * 1e6
    with pytest.raises(FitError, match="explodes"):
        volscen.generate(wild, history, n_scenarios=10, seed=0)


def test_a_cube_beyond_all_memory_is_refused_at_once(model, history):
    with pytest.raises(InputError, match="GB"):
        volscen.generate(model, history, n_scenarios=10**13)


@pytest.mark.parametrize("generator", [5, Recorder])
def test_what_is_no_generator(history, generator):
    with pytest.raises(InputError, match="generator"):
        volscen.generate(generator, history, n_scenarios=10)


def test_a_computed_lazy_cube_is_a_cube(model, history, tmp_path):
    computed = volscen.generate(model, history, n_scenarios=1500, seed=8, chunks=700).compute()
    eager = volscen.generate(model, history, n_scenarios=1500, seed=8)
    volscen.validate(computed)
    again = volscen.read(volscen.write(computed, tmp_path / "cube.nc"))
    assert_same(eager, again)
    assert again.attrs["ess_fraction"] == pytest.approx(eager.attrs["ess_fraction"], rel=1e-12)
    assert "beta_requested" not in again.attrs


def few_moves(days: int) -> volscen.generators.Generator:
    return volscen.fit(volscen.datasets.sample_history().isel(date=slice(0, days + 1)), "bootstrap")


@pytest.mark.parametrize(("days", "n", "horizon"), [(41, 1000, 1), (41, 5000, 3), (90, 5000, 1), (20, 250, 1)])
def test_a_few_moves_redrawn_are_said(days: int, n: int, horizon: int) -> None:
    history = volscen.datasets.sample_history()
    with pytest.warns(UserWarning, match=rf"the {n:,} scenarios take {days} different first steps: .*'bootstrap'"):
        volscen.generate(few_moves(days), history, n_scenarios=n, horizon=horizon, seed=1)


@pytest.mark.parametrize(("days", "n"), [(150, 5000), (41, 300), (1000, 200_000)])
def test_enough_moves_are_no_matter(days: int, n: int) -> None:
    history = volscen.datasets.sample_history()
    volscen.generate(few_moves(days), history, n_scenarios=n, seed=1)


def test_the_ordinary_is_no_matter() -> None:
    volscen.generate(n_scenarios=100_000, seed=1)
    history = volscen.datasets.sample_history()
    volscen.generate(volscen.fit(history, "har"), history, n_scenarios=100_000, seed=1)


def test_continuous_surfaces_are_not_few_moves() -> None:
    from volscen.scenarios._given import count_few_moves

    rng = np.random.default_rng(1)
    returns = np.repeat([[0.01], [0.0]], 1000, axis=0)  # of a market that hardly trades
    assert count_few_moves(returns, rng.uniform(0.1, 0.2, (2000, 1, 3, 4))) is None
    assert count_few_moves(returns, np.full((2000, 1, 3, 4), 0.2)) == 2

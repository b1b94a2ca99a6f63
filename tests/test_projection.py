"""Projection onto surfaces without static arbitrage: feasibility, optimality, identity, statuses, bad input."""

from __future__ import annotations

import itertools

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projection_reference import objective, sequential_clarabel
from volscen import arbitrage
from volscen.arbitrage import ProjectionStatus as Status
from volscen.errors import InputError

TAU = np.array([30, 60, 91, 122, 152, 182, 273, 365]) / 365
MONEYNESS = np.linspace(0.6, 1.4, 10)
GRIDS = {
    "10 x 8": (TAU, MONEYNESS),
    "3 x 2": (np.array([0.1, 0.5]), np.array([0.9, 1.0, 1.1])),
    "2 x 3": (np.array([0.1, 0.3, 0.5]), np.array([0.9, 1.1])),
    "1 x 5": (np.linspace(0.1, 1, 5), np.array([1.1])),
    "5 x 1": (np.array([0.25]), np.array([0.8, 0.9, 1.0, 1.1, 1.2])),
    "20 x 12": (np.linspace(0.05, 2, 12), np.linspace(0.5, 1.6, 20)),
    "far wings": (np.array([1 / 52, 2 / 52, 1 / 12, 0.25, 0.5, 1]), np.linspace(0.5, 2, 13)),
    "uneven": (np.array([1, 7, 30, 91, 182, 365]) / 365, np.array([0.2, 0.5, 0.7, 0.9, 0.99, 1, 1.01, 1.1, 1.4, 2, 5])),
    "calls only": (np.array([1 / 52, 1 / 12, 0.25, 1]), np.linspace(1.05, 2, 9)),
    "puts only": (np.array([1 / 52, 1 / 12, 0.25, 1]), np.linspace(0.3, 0.97, 9)),
}


def surfaces(n: int, seed: int = 0, noise: float = 0.05, tau=TAU, moneyness=MONEYNESS) -> np.ndarray:
    """A smile with noise that breaks every condition."""
    rng = np.random.default_rng(seed)
    smile = 0.2 + 0.15 * np.log(moneyness) ** 2 - 0.08 * np.log(moneyness) / np.sqrt(tau)[:, np.newaxis] ** 0.5
    return np.maximum(smile, 0.06) * np.exp(noise * rng.normal(size=(n, tau.size, moneyness.size)))


def exact_violation(vol: np.ndarray, tau: np.ndarray, moneyness: np.ndarray) -> float:
    """Largest violation of any condition on calls, to some 60 digits; at most 0 where there is none."""
    with mp.workdps(60):
        m = [mp.mpf(float(x)) for x in moneyness]
        call = []
        for t, row in zip(tau, vol, strict=True):
            s = [mp.mpf(float(v)) * mp.sqrt(mp.mpf(float(t))) for v in row]
            d1 = [-mp.log(x) / y + y / 2 for x, y in zip(m, s, strict=True)]
            call.append([mp.ncdf(d) - x * mp.ncdf(d - y) for d, x, y in zip(d1, m, s, strict=True)])
        worst = [early[i] - late[i] for early, late in itertools.pairwise(call) for i in range(len(m))]
        for row in call:
            slope = [(row[i + 1] - row[i]) / (m[i + 1] - m[i]) for i in range(len(m) - 1)]
            worst += [-1 - s for s in slope] + slope
            worst += [a - b for a, b in itertools.pairwise(slope)]
            worst += [max(1 - x, mp.mpf(0)) - c for c, x in zip(row, m, strict=True)] + [c - 1 for c in row]
        return float(max(worst))


# --------------------------------------------------------------------------------------------- feasibility
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_nothing_is_left_to_arbitrage(grid, noise):
    tau, moneyness = GRIDS[grid]
    vol = surfaces(60, 1, noise, tau, moneyness)
    projected, status = arbitrage.project(vol, tau, moneyness)
    assert set(status) <= {Status.FREE, Status.PROJECTED, Status.NOT_CONVERGED}
    assert np.mean(status == Status.NOT_CONVERGED) < 0.05
    np.testing.assert_array_equal(arbitrage.penalty(projected, tau, moneyness), 0.0)


@pytest.mark.parametrize("grid", GRIDS)
def test_nothing_is_left_in_exact_arithmetic(grid):
    tau, moneyness = GRIDS[grid]
    for dtype in (np.float64, np.float32):
        vol = surfaces(3, 2, 0.3, tau, moneyness).astype(dtype)
        projected, _ = arbitrage.project(vol, tau, moneyness)
        assert projected.dtype == dtype
        assert max(exact_violation(surface, tau, moneyness) for surface in projected) <= 1e-50


def test_very_bad_surfaces():
    tau, moneyness = GRIDS["20 x 12"]
    vol = surfaces(30, 3, 0.5, tau, moneyness)
    assert arbitrage.penalty(vol, tau, moneyness).max() > 100
    projected, status = arbitrage.project(vol, tau, moneyness)
    assert (status == Status.PROJECTED).all()
    np.testing.assert_array_equal(arbitrage.penalty(projected, tau, moneyness), 0.0)


def test_a_fine_grid():
    tau, moneyness = np.linspace(0.05, 2, 40), np.linspace(0.6, 1.5, 40)
    vol = surfaces(2, 4, 0.05, tau, moneyness)
    projected, status = arbitrage.project(vol, tau, moneyness)
    assert (status == Status.PROJECTED).all()
    np.testing.assert_array_equal(arbitrage.penalty(projected, tau, moneyness), 0.0)


def test_the_first_slope_counts_although_the_penalty_does_not_see_it():
    tau, moneyness = [0.5], [0.5, 0.6, 0.7]
    vol = np.array([[0.9, 0.5, 0.45]])  # the put at 0.5 is dearer than that at 0.6
    assert exact_violation(vol, tau, moneyness) > 0
    only_spread = np.array([[0.9, 0.55, 0.52]])
    for v in (vol, only_spread):
        projected, status = arbitrage.project(v, tau, moneyness)
        assert status == Status.PROJECTED
        assert exact_violation(projected, tau, moneyness) <= 0


# -------------------------------------------------------------------------------------------- the minimum
def test_hand_worked_calendar_spread():
    # One strike, two maturities: with the weights of s = sigma sqrt(tau) the violators meet at their weighted mean.
    tau, moneyness = np.array([0.25, 1.0]), np.array([1.0])
    s = np.array([0.12, 0.10])
    weight = np.exp(-((s / 2) ** 2))  # squared standard normal density of d1 = s/2, less constants
    meeting = (weight * s).sum() / weight.sum()
    projected, status = arbitrage.project((s / np.sqrt(tau))[:, None], tau, moneyness)
    assert status == Status.PROJECTED
    np.testing.assert_allclose(projected[:, 0] * np.sqrt(tau), meeting, rtol=1e-8)


@pytest.mark.parametrize(("noise", "seed"), [(0.05, 5), (0.1, 6), (0.2, 7)])
def test_the_objective_is_that_of_clarabel(noise, seed):
    for vol in surfaces(12, seed, noise):
        projected, status = arbitrage.project(vol, TAU, MONEYNESS)
        if status == Status.FREE:
            continue
        reference = sequential_clarabel(vol, TAU, MONEYNESS)
        best = objective(reference, vol, TAU, MONEYNESS)
        assert objective(projected, vol, TAU, MONEYNESS) == pytest.approx(best, rel=1e-4, abs=1e-12)
        weight = np.sqrt(objective(reference, vol, TAU, MONEYNESS, each=True))
        np.testing.assert_allclose(
            np.sqrt(objective(projected, vol, TAU, MONEYNESS, each=True)), weight, atol=2e-2 * weight.max()
        )


@pytest.mark.parametrize("floor", [1e-2, 1.0])
def test_the_floor_of_the_weights(floor):
    vol = surfaces(6, 8, 0.1)
    projected, _ = arbitrage.project(vol, TAU, MONEYNESS, vega_floor=floor)
    for before, after in zip(vol, projected, strict=True):
        reference = sequential_clarabel(before, TAU, MONEYNESS, floor)
        best = objective(reference, before, TAU, MONEYNESS, floor)
        assert objective(after, before, TAU, MONEYNESS, floor) == pytest.approx(best, rel=1e-3)


# ----------------------------------------------------------------------------------------------- identity
def test_a_free_surface_is_returned_bit_for_bit():
    vol = surfaces(400, 9, 0.03)
    free = arbitrage.penalty(vol, TAU, MONEYNESS) == 0
    assert 0 < free.sum() < free.size
    projected, status = arbitrage.project(vol, TAU, MONEYNESS)
    assert ((status == Status.FREE) == free).all()
    np.testing.assert_array_equal(projected[free], vol[free])
    assert (projected[~free] != vol[~free]).any(axis=(1, 2)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("grid", GRIDS)
def test_a_projected_surface_is_free(grid, dtype):
    tau, moneyness = GRIDS[grid]
    once, _ = arbitrage.project(surfaces(60, 10, 0.3, tau, moneyness).astype(dtype), tau, moneyness)
    twice, status = arbitrage.project(once, tau, moneyness)
    assert (status == Status.FREE).all()
    np.testing.assert_array_equal(once, twice)


def test_a_result_does_not_depend_on_its_neighbours_or_on_threads():
    vol = np.concatenate([surfaces(13, 11, 0.1), surfaces(5, 12, 0.7), surfaces(3, 13, 0.01)])
    vol[4] = np.nan
    whole, status = arbitrage.project(vol, TAU, MONEYNESS)
    for threads in (2, 5):
        again, same = arbitrage.project(vol, TAU, MONEYNESS, num_threads=threads)
        np.testing.assert_array_equal(whole, again)
        np.testing.assert_array_equal(status, same)
    for i in (0, 3, 12, 15, 17, 20):
        alone, own = arbitrage.project(vol[i], TAU, MONEYNESS)
        np.testing.assert_array_equal(alone, whole[i])
        assert own == status[i]
    order = np.random.default_rng(0).permutation(len(vol))
    np.testing.assert_array_equal(arbitrage.project(vol[order], TAU, MONEYNESS)[0], whole[order])


def test_shapes_and_the_input_left_alone():
    vol = surfaces(6, 14, 0.2).reshape(2, 3, 8, 10)
    copy = vol.copy()
    projected, status = arbitrage.project(vol[:, ::-1], TAU, MONEYNESS)
    assert projected.shape == (2, 3, 8, 10)
    assert status.shape == (2, 3)
    np.testing.assert_array_equal(vol, copy)
    np.testing.assert_array_equal(projected[1, 0], arbitrage.project(vol[1, 2], TAU, MONEYNESS)[0])
    empty, none = arbitrage.project(vol[:0], TAU, MONEYNESS)
    assert empty.shape == (0, 3, 8, 10)
    assert none.shape == (0, 3)


# ----------------------------------------------------------------------------------------------- statuses
def test_bad_vols_spoil_their_own_surface_only():
    vol = surfaces(10, 15, 0.1)
    good, _ = arbitrage.project(vol, TAU, MONEYNESS)
    for i, bad in enumerate((np.nan, 0.0, -0.2, np.inf)):
        vol[i, 3, 4] = bad
    projected, status = arbitrage.project(vol, TAU, MONEYNESS)
    assert (status[:4] == Status.INVALID).all()
    assert np.isnan(projected[:4]).all()
    np.testing.assert_array_equal(projected[4:], good[4:])


def test_too_few_programmes():
    vol = surfaces(20, 16, 0.4)
    projected, status = arbitrage.project(vol, TAU, MONEYNESS, max_iterations=9)
    assert (status == Status.NOT_CONVERGED).any()
    np.testing.assert_array_equal(arbitrage.penalty(projected[status < Status.FAILED], TAU, MONEYNESS), 0.0)
    assert np.isnan(projected[status == Status.FAILED]).all()


def test_vols_beyond_all_prices():
    vol = surfaces(3, 17, 0.2)
    vol[1, 0, 4] = 80.0  # sigma sqrt(tau) of 23
    vol[2] *= 100
    projected, status = arbitrage.project(vol, TAU, MONEYNESS)
    assert (status[:2] == Status.PROJECTED).all()
    done = status < Status.FAILED
    np.testing.assert_array_equal(arbitrage.penalty(projected[done], TAU, MONEYNESS), 0.0)
    assert np.isnan(projected[~done]).all()


# ---------------------------------------------------------------------------------------------- properties
@given(st.integers(0, 2**32 - 1), st.floats(0.005, 0.8), st.integers(1, 6), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_any_grid_any_noise(seed, noise, rows, columns):
    rng = np.random.default_rng(seed)
    tau = np.cumsum(rng.uniform(0.01, 0.5, rows))
    moneyness = rng.uniform(0.4, 1.2) * np.exp(np.cumsum(rng.uniform(0.02, 0.3, columns)) - 0.02)
    vol = surfaces(4, seed, noise, tau, moneyness)
    projected, status = arbitrage.project(vol, tau, moneyness)
    assert (status < Status.FAILED).all()
    np.testing.assert_array_equal(arbitrage.penalty(projected, tau, moneyness), 0.0)
    # No shift of the whole surface's calls towards the start, nor any scaling of vols, is free and nearer.
    for before, after, own in zip(vol, projected, status, strict=True):
        if own != Status.PROJECTED:
            continue
        reached = objective(after, before, tau, moneyness)
        for share in (0.05, 0.5):
            between = after + share * (before - after)
            nearer = objective(between, before, tau, moneyness) < reached * (1 - 1e-9)
            assert not nearer or arbitrage.project(between, tau, moneyness)[1] != Status.FREE


# ----------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"implied_vol": np.ones((3, 3))}, "implied_vol must end in the axes"),
        ({"implied_vol": "x"}, "implied_vol"),
        ({"tau": [0.5, 0.5]}, "tau"),
        ({"moneyness": [1.0, -1.0, 2.0]}, "moneyness"),
        ({"vega_floor": 0.0}, "vega_floor"),
        ({"vega_floor": 1.5}, "vega_floor"),
        ({"vega_floor": True}, "vega_floor"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"max_iterations": 2.5}, "max_iterations"),
        ({"num_threads": 0}, "num_threads"),
    ],
)
def test_bad_arguments(arguments, message):
    good = {"implied_vol": np.full((2, 3), 0.2), "tau": [0.5, 1.0], "moneyness": [0.9, 1.0, 1.1]}
    with pytest.raises(InputError, match=message):
        arbitrage.project(**{**good, **arguments})

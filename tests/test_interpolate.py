"""Interpolation of surfaces: hand-worked values, an independent implementation, and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volscen.errors import InputError
from volscen.surface._interpolate import interpolate_vol, is_off_grid, slice_at, vol_on_slice

TAU = np.array([30, 91, 182, 365]) / 365
MONEYNESS = np.array([0.8, 0.9, 1.0, 1.1, 1.3])


def surfaces(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 0.5, (n, TAU.size, MONEYNESS.size))


def one_at_a_time(surface, tau, moneyness, t, m):
    """The rule written with scalars and np.interp, which is flat outside."""
    node = [
        np.sqrt(np.interp(t, tau, surface[:, i] ** 2 * tau) / t)
        if tau[0] < t < tau[-1]
        else surface[0 if t <= tau[0] else -1, i]
        for i in range(moneyness.size)
    ]
    return np.interp(np.log(m), np.log(moneyness), node)


def test_hand_worked():
    # Halfway in tau between 1 and 2: w = (0.04 + 2 * 0.09) / 2 = 0.11, vol = sqrt(0.11 / 1.5) at moneyness 1,
    # and w = (0.01 + 2 * 0.04) / 2 = 0.045, vol = sqrt(0.03) at moneyness e; a quarter of the way in
    # log-moneyness.
    surface = [[0.2, 0.1], [0.3, 0.2]]
    expected = 0.75 * np.sqrt(0.11 / 1.5) + 0.25 * np.sqrt(0.03)
    found = interpolate_vol(surface, [1.0, 2.0], [1.0, np.e], 1.5, np.exp(0.25))
    assert found == pytest.approx(expected, rel=1e-14)


def test_grid_points_are_returned_exactly():
    surface = surfaces(3)
    for j, t in enumerate(TAU):
        np.testing.assert_allclose(
            interpolate_vol(surface, TAU, MONEYNESS, t, MONEYNESS), surface[:, j], rtol=1e-14, atol=0
        )


def test_flat_outside_the_grid():
    surface = surfaces(1)[0]
    corners = interpolate_vol(surface, TAU, MONEYNESS, [1e-3, 1e-3, 9.0, 9.0], [0.01, 50.0, 0.01, 50.0])
    np.testing.assert_array_equal(corners, [surface[0, 0], surface[0, -1], surface[-1, 0], surface[-1, -1]])


@given(
    seed=st.integers(0, 2**32 - 1),
    t=st.lists(st.floats(0.001, 3.0), min_size=1, max_size=6),
    m=st.floats(0.2, 3.0),
)
def test_agrees_with_the_scalar_rule(seed, t, m):
    surface = surfaces(4, seed)
    query = np.full(len(t), m) * np.linspace(0.9, 1.1, len(t))
    found = interpolate_vol(surface, TAU, MONEYNESS, t, query)
    expected = [[one_at_a_time(s, TAU, MONEYNESS, a, b) for a, b in zip(t, query, strict=True)] for s in surface]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@given(t=st.floats(0.01, 2.0), m=st.floats(0.3, 3.0), level=st.floats(0.01, 2.0))
def test_flat_surface_stays_flat(t, m, level):
    assert interpolate_vol(np.full((4, 5), level), TAU, MONEYNESS, t, m) == pytest.approx(level, rel=1e-12)


def test_total_variance_is_linear_in_tau():
    surface = surfaces(1, 5)[0]
    t = np.linspace(TAU[1], TAU[2], 7)
    w = interpolate_vol(surface, TAU, MONEYNESS, t, MONEYNESS[3]) ** 2 * t
    np.testing.assert_allclose(np.diff(w, 2), 0, atol=1e-15)


def test_every_surface_at_points_of_its_own():
    surface = surfaces(3)
    query = np.array([[0.85, 1.0], [0.95, 1.2], [1.05, 0.7]])
    found = interpolate_vol(surface, TAU, MONEYNESS, 0.3, query)
    for i in range(3):
        np.testing.assert_array_equal(found[i], interpolate_vol(surface[i], TAU, MONEYNESS, 0.3, query[i]))


def test_shapes_and_one_point_grids():
    surface = surfaces(6).reshape(2, 3, TAU.size, MONEYNESS.size)
    assert interpolate_vol(surface, TAU, MONEYNESS, 0.2, 1.0).shape == (2, 3)
    assert interpolate_vol(surface, TAU, MONEYNESS, [0.2], 1.0).shape == (2, 3, 1)
    assert interpolate_vol(surface, TAU, MONEYNESS, 0.2, [1.0, 1.1]).shape == (2, 3, 2)
    assert interpolate_vol(surface.astype(np.float32), TAU, MONEYNESS, 0.2, 1.0).dtype == np.float64
    np.testing.assert_array_equal(interpolate_vol([[0.3]], [0.5], [1.0], [0.1, 2.0], [0.5, 2.0]), [0.3, 0.3])


def test_strides_threads_and_types():
    cube = surfaces(4000).reshape(2000, 2, TAU.size, MONEYNESS.size)
    view = cube[:, 1]
    query = np.random.default_rng(1).uniform(0.5, 1.5, (2000, 7))
    t = np.linspace(0.01, 1.5, 7)
    whole = interpolate_vol(view.copy(), TAU, MONEYNESS, t, query)
    np.testing.assert_array_equal(interpolate_vol(view, TAU, MONEYNESS, t, query), whole)
    np.testing.assert_array_equal(interpolate_vol(view, TAU, MONEYNESS, t, query, num_threads=3), whole)
    single = view.astype(np.float32)
    np.testing.assert_array_equal(
        interpolate_vol(single, TAU, MONEYNESS, t, query),
        interpolate_vol(single.astype(float), TAU, MONEYNESS, t, query),
    )
    assert interpolate_vol(view[:0], TAU, MONEYNESS, t, 1.0).shape == (0, 7)


@pytest.mark.parametrize("t", [0.0, 0.01, TAU[1], 0.3, 2.0])
def test_slices_first(t):
    surface = surfaces(3)
    k = np.array([[-1.0, 0.01], [np.log(0.9), 0.1], [0.0, 0.5]])
    found = vol_on_slice(slice_at(surface, TAU, t), np.log(MONEYNESS), k)
    expected = interpolate_vol(surface, TAU, MONEYNESS, max(t, 1e-9), np.exp(k))
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_off_grid_is_flagged():
    flags = is_off_grid(TAU, MONEYNESS, [0.01, 0.2, 0.2, 2.0, TAU[0]], [1.0, 1.0, 0.7999, 1.0, 1.3])
    np.testing.assert_array_equal(flags, [True, False, True, True, False])


def test_a_quarter_is_on_a_grid_of_91_days():
    grid = np.array([30.0, 91.0]) / 365
    flags = is_off_grid(grid, MONEYNESS, [0.25, 91.5 / 365, 92.0 / 365, 29.5 / 365, 29.0 / 365], 1.0)
    np.testing.assert_array_equal(flags, [False, False, True, False, True])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau_query": 0.0}, "tau_query"),
        ({"tau_query": np.nan}, "tau_query"),
        ({"tau_query": [[0.1, 0.2]]}, "one-dimensional"),
        ({"moneyness_query": -1.0}, "moneyness_query"),
        ({"moneyness_query": np.inf}, "moneyness_query"),
        ({"moneyness_query": np.ones((5, 2))}, "do not fit"),
        ({"implied_vol": np.ones((5, 4))}, "tau, moneyness"),
        ({"tau": TAU[::-1]}, "increasing"),
        ({"implied_vol": np.where(np.eye(4, 5) > 0, np.nan, 0.2)}, r"4 are not, the first at \[0, 0\] \(nan\)"),
        ({"implied_vol": -surfaces(1)}, "positive finite"),
        ({"extrapolation": "spline"}, "extrapolation must be one of flat_vol"),
        ({"num_threads": -1}, "num_threads"),
    ],
)
def test_bad_input(change, message):
    arguments = {
        "implied_vol": surfaces(2),
        "tau": TAU,
        "moneyness": MONEYNESS,
        "tau_query": 0.2,
        "moneyness_query": 1.0,
    } | change
    with pytest.raises(InputError, match=message):
        interpolate_vol(**arguments)

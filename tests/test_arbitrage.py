"""Cont and Vuletic's penalty: hand-worked values, a NumPy twin, the authors' figures, gradients."""

from __future__ import annotations

from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
import torch

from twins import penalty as twin
from volscen import arbitrage
from volscen.errors import InputError

TAU = np.array([30, 60, 91, 122, 152, 182, 273, 365]) / 365
MONEYNESS = np.linspace(0.6, 1.4, 10)


def surfaces(n: int, seed: int = 0, noise: float = 0.05, tau=TAU, moneyness=MONEYNESS) -> np.ndarray:
    """A smile with noise that breaks every condition."""
    rng = np.random.default_rng(seed)
    smile = 0.2 + 0.15 * np.log(moneyness) ** 2 - 0.08 * np.log(moneyness) / np.sqrt(tau)[:, np.newaxis] ** 0.5
    return smile * np.exp(noise * rng.normal(size=(n, tau.size, moneyness.size)))


def exact_call(m: float, tau: float, vol: float):
    s = mp.mpf(vol) * mp.sqrt(mp.mpf(tau))
    d1 = -mp.log(mp.mpf(m)) / s + s / 2
    return mp.ncdf(d1) - mp.mpf(m) * mp.ncdf(d1 - s)


def test_hand_worked_two_by_three():
    tau, m = [0.5, 1.0], [0.9, 1.0, 1.1]
    vol = [[0.2, 0.2, 0.3], [0.2, 0.3, 0.2]]
    with mp.workdps(40):
        c = [[exact_call(x, t, v) for x, v in zip(m, row, strict=True)] for t, row in zip(tau, vol, strict=True)]
        # Only at m = 1.1 does the call fall in tau: weight 0.5/(1 - 0.5) = 1.
        p1 = [max(c[0][i] - c[1][i], mp.mpf(0)) for i in range(3)]
        assert p1[0] == p1[1] == 0 < p1[2]
        step = [mp.mpf(m[1]) - mp.mpf(m[0]), mp.mpf(m[2]) - mp.mpf(m[1])]
        slope = [[(row[i + 1] - row[i]) / step[i] for i in range(2)] for row in c]
        p2 = sum(max(x, mp.mpf(0)) for row in slope for x in row)
        p3 = sum(max(row[0] - row[1], mp.mpf(0)) for row in slope)
        expected = [float(p1[2]), float(p2), float(p3)]
    assert expected[2] > 0
    got = arbitrage.penalty(vol, tau, m, parts=True)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-15)
    assert arbitrage.penalty(vol, tau, m) == pytest.approx(sum(expected), abs=3e-15)


def test_each_part_answers_to_its_own_violation():
    tau, m = [0.5, 1.0], [0.8, 0.9, 1.0, 1.1, 1.2]
    flat = np.full((2, 5), 0.2)
    calendar = flat.copy()
    calendar[0] = 0.35  # 0.35^2 * 0.5 > 0.2^2 * 1
    butterfly = flat.copy()
    butterfly[1, 2] = 0.24
    spread = flat.copy()
    spread[1, 4] = 0.6
    p = arbitrage.penalty([flat, calendar, butterfly, spread], tau, m, parts=True)
    assert (p[0] == 0).all()
    assert p[1, 0] > 0.05
    assert p[1, 1] == p[1, 2] == 0
    assert p[2, 0] == 0
    assert p[2, 2] > 0.01
    assert p[3, 1] > 0.1


@pytest.mark.parametrize(
    ("nt", "nm"), [(8, 10), (1, 1), (1, 7), (5, 1), (2, 3), (1, 2), (3, 16), (13, 17), (4, 33), (64, 64)]
)
def test_matches_the_twin_on_any_grid(nt: int, nm: int):
    rng = np.random.default_rng(nt * 100 + nm)
    tau = np.cumsum(rng.uniform(0.02, 0.5, nt))
    moneyness = 0.5 + np.cumsum(rng.uniform(0.01, 0.2, nm))
    vol = np.exp(rng.normal(-1.3, 0.4, (50, nt, nm)))
    expected = twin(vol, tau, moneyness)
    got = arbitrage.penalty(vol, tau, moneyness, parts=True)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(arbitrage.penalty(vol, tau, moneyness), expected.sum(-1), rtol=1e-12, atol=1e-13)
    phi, gradient = arbitrage.penalty_gradient(vol, tau, moneyness)
    np.testing.assert_array_equal(phi, arbitrage.penalty(vol, tau, moneyness))
    assert gradient.shape == vol.shape


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 2e-15), (np.float32, 4e-7)])
def test_every_call_price_is_exact_to_rounding(dtype, bound):
    # At tau 1 and 2 with one moneyness the first part is c(1) - c(2); with a vol that leaves no time value at
    # tau = 2 that is the time value at tau = 1 alone, of one cell.
    rng = np.random.default_rng(11)
    for m in (0.05, 0.6, 0.999, 1.0, 1.001, 1.4, 8.0):
        vol = np.full((60, 2, 1), 1e-30, dtype)
        vol[:, 0, 0] = 10 ** rng.uniform(-2.5, 1, 60)
        got = arbitrage.penalty(vol, [1.0, 2.0], [m], parts=True)[:, 0]
        with mp.workdps(30):
            exact = [exact_call(float(np.float64(m)), 1.0, float(v)) - max(1 - mp.mpf(m), 0) for v in vol[:, 0, 0]]
            error = max(abs(float(mp.mpf(float(a)) - b)) for a, b in zip(got, exact, strict=True))
        assert error < bound, (m, error)


@pytest.mark.real
def test_matches_the_authors_figures(market_data: Path):
    with np.load(market_data / "parity" / "volgan_public_code.npz") as file:
        vol, tau, m = np.swapaxes(file["surfaces_m_tau"], 1, 2), file["tau"], file["m"]
        expected = file["penalty_p1_p2_p3_total"]
    got = arbitrage.penalty(vol, tau, m, parts=True)
    np.testing.assert_allclose(got, expected[:, :3], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(arbitrage.penalty(vol, tau, m), expected[:, 3], rtol=1e-12, atol=1e-13)


def test_surfaces_free_of_arbitrage_have_exactly_none():
    fine = np.linspace(0.4, 2.0, 33)
    for vol in (0.02, 0.1, 0.2, 0.5, 1.0, 3.0):
        assert arbitrage.penalty(np.full((8, 10), vol), TAU, MONEYNESS) == 0
        # Deep wings, where call prices round to their intrinsic value.
        assert arbitrage.penalty(np.full((8, 33), vol), TAU, fine) == 0
        assert arbitrage.penalty(np.full((8, 10), vol, np.float32), TAU, MONEYNESS) <= 1e-5
    # SSVI (Gatheral and Jacquier 2014, theorem 4.2) with theta phi (1 + |rho|) < 4 and theta phi^2 (1 + |rho|) <= 4.
    theta, rho, phi, k = 0.04 * TAU[:, np.newaxis], -0.6, 1.5, np.log(fine)
    w = theta / 2 * (1 + rho * phi * k + np.sqrt((phi * k + rho) ** 2 + 1 - rho**2))
    assert arbitrage.penalty(np.sqrt(w / TAU[:, np.newaxis]), TAU, fine) == 0


def test_gradient_matches_central_differences():
    vol = surfaces(20, seed=1, noise=0.1)
    phi, gradient = arbitrage.penalty_gradient(vol, TAU, MONEYNESS)
    np.testing.assert_allclose(phi, twin(vol, TAU, MONEYNESS).sum(-1), rtol=1e-12)
    direction = np.random.default_rng(2).normal(size=vol.shape)
    for h in (1e-6,):
        up, down = (twin(vol + sign * h * direction, TAU, MONEYNESS).sum(-1) for sign in (1, -1))
        np.testing.assert_allclose((gradient * direction).sum((1, 2)), (up - down) / (2 * h), rtol=1e-5, atol=1e-5)


def test_gradient_matches_automatic_differentiation():
    vol = surfaces(10, seed=3, noise=0.1)
    x = torch.tensor(vol, requires_grad=True)
    tau, m = torch.tensor(TAU)[:, None], torch.tensor(MONEYNESS)
    s = x * torch.sqrt(tau)
    d1 = (-torch.log(m) + s**2 / 2) / s
    call = torch.special.ndtr(d1) - m * torch.special.ndtr(d1 - s)
    slope = torch.diff(call, dim=-1) / torch.diff(m)
    phi = (
        torch.relu(tau[:-1] * (call[:, :-1] - call[:, 1:]) / torch.diff(tau, dim=0)).sum((1, 2))
        + torch.relu(slope).sum((1, 2))
        + torch.relu(slope[..., :-1] - slope[..., 1:]).sum((1, 2))
    )
    phi.sum().backward()
    value, gradient = arbitrage.penalty_gradient(vol, TAU, MONEYNESS)
    np.testing.assert_allclose(value, phi.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=1e-9, atol=1e-9)


def test_float32_is_computed_and_returned_in_float32():
    vol = surfaces(200, seed=4)
    small = vol.astype(np.float32)
    parts = arbitrage.penalty(small, TAU, MONEYNESS, parts=True)
    assert parts.dtype == np.float32
    # A call price is good to about 1e-7, and is divided by steps of 0.09 and 0.08.
    np.testing.assert_allclose(parts, twin(small.astype(float), TAU, MONEYNESS), atol=3e-5)
    phi, gradient = arbitrage.penalty_gradient(small, TAU, MONEYNESS)
    assert phi.dtype == gradient.dtype == np.float32
    expected = arbitrage.penalty_gradient(small.astype(float), TAU, MONEYNESS)[1]
    # Terms within rounding of zero may fall on the other side; all others agree.
    assert (np.abs(gradient - expected) < 1e-3 * (1 + np.abs(expected))).mean() > 0.999


def test_shapes_strides_and_threads():
    vol = surfaces(300, seed=5)
    whole = arbitrage.penalty(vol, TAU, MONEYNESS)
    assert isinstance(arbitrage.penalty(vol[0], TAU, MONEYNESS), np.float64)
    cube = arbitrage.penalty(vol.reshape(10, 30, 8, 10), TAU, MONEYNESS, parts=True)
    assert cube.shape == (10, 30, 3)
    np.testing.assert_array_equal(cube.reshape(300, 3).sum(-1), whole)
    strided = np.asfortranarray(vol)[::-2]
    np.testing.assert_array_equal(arbitrage.penalty(strided, TAU, MONEYNESS), whole[::-2])
    swapped = vol.astype(vol.dtype.newbyteorder())
    np.testing.assert_array_equal(arbitrage.penalty(swapped, TAU, MONEYNESS), whole)
    small = vol.astype(np.float32)
    np.testing.assert_array_equal(
        arbitrage.penalty(small.astype(small.dtype.newbyteorder()), TAU, MONEYNESS),
        arbitrage.penalty(small, TAU, MONEYNESS),
    )
    for threads in (2, 5):
        np.testing.assert_array_equal(arbitrage.penalty(vol, TAU, MONEYNESS, num_threads=threads), whole)
        np.testing.assert_array_equal(
            arbitrage.penalty_gradient(vol, TAU, MONEYNESS, num_threads=threads)[1],
            arbitrage.penalty_gradient(vol, TAU, MONEYNESS)[1],
        )
    assert arbitrage.penalty(np.empty((0, 8, 10)), TAU, MONEYNESS).shape == (0,)
    assert arbitrage.penalty_gradient(np.empty((2, 0, 8, 10)), TAU, MONEYNESS)[1].shape == (2, 0, 8, 10)
    # Surfaces do not see each other.
    np.testing.assert_array_equal([arbitrage.penalty(v, TAU, MONEYNESS) for v in vol], whole)


@pytest.mark.parametrize("bad", [np.nan, 0.0, -0.2, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("cell", [(0, 0), (3, 4), (7, 9), (0, 9), (7, 0)])
def test_no_bad_vol_slips_through(bad, dtype, cell):
    vol = surfaces(70).astype(dtype)
    vol[(66, *cell)] = bad
    for function in (arbitrage.penalty, arbitrage.penalty_gradient):
        with pytest.raises(InputError, match=r"implied_vol.*\(66,\)"):
            function(vol, TAU, MONEYNESS)
    with pytest.raises(InputError, match="implied_vol"):
        arbitrage.penalty(
            vol[66:67, :1, :1] if cell == (0, 0) else vol[66],
            TAU[:1] if cell == (0, 0) else TAU,
            MONEYNESS[:1] if cell == (0, 0) else MONEYNESS,
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": TAU[::-1]}, "tau"),
        ({"tau": np.r_[0.0, TAU[1:]]}, "tau"),
        ({"tau": np.r_[np.nan, TAU[1:]]}, "tau"),
        ({"tau": TAU[:-1]}, "implied_vol must end"),
        ({"moneyness": np.r_[MONEYNESS[:-1], MONEYNESS[-2]]}, "moneyness"),
        ({"moneyness": -MONEYNESS[::-1]}, "moneyness"),
        ({"moneyness": MONEYNESS[:, np.newaxis]}, "moneyness"),
        ({"moneyness": []}, "moneyness"),
        ({"implied_vol": np.full((10, 8), 0.2)}, "implied_vol must end"),
        ({"implied_vol": np.full(80, 0.2)}, "implied_vol must end"),
        ({"implied_vol": "flat"}, "implied_vol"),
        ({"num_threads": 0}, "num_threads"),
    ],
)
def test_bad_arguments_are_named(change, message):
    good = {"implied_vol": np.full((8, 10), 0.2), "tau": TAU, "moneyness": MONEYNESS}
    for function in (arbitrage.penalty, arbitrage.penalty_gradient):
        with pytest.raises(InputError, match=message):
            function(**{**good, **change})

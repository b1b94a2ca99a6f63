"""Densities, local volatility and counts of violations, against closed forms, high precision and Fourier integrals."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import lognorm, norm

import volscen
from volscen import black
from volscen.errors import InputError
from volscen.surface import diagnose
from volscen.surface._derivatives import parabola_slopes


def surface(vol, tau, moneyness):
    vol = np.broadcast_to(np.asarray(vol), (len(tau), len(moneyness)))
    return xr.DataArray(vol, dims=("tau", "moneyness"), coords={"tau": tau, "moneyness": moneyness})


def test_parabolas_are_exact():
    x = np.array([-0.7, -0.2, 0.1, 0.15, 0.9])
    first, second = parabola_slopes(x, np.stack([3 * x**2 - 2 * x + 1, x]))
    np.testing.assert_allclose(first, [6 * x - 2, np.ones(5)], rtol=1e-12)
    np.testing.assert_allclose(second, [np.full(5, 6.0), np.zeros(5)], atol=1e-12)
    first, second = parabola_slopes(np.array([1.0, 3.0]), np.array([2.0, 8.0]))
    assert first.tolist() == [3, 3]
    assert second.tolist() == [0, 0]


def test_a_flat_surface_is_lognormal():
    tau, m = [0.25, 1.0], np.exp(np.linspace(-1.5, 1.5, 601))
    found = diagnose(surface(0.3, tau, m))
    np.testing.assert_allclose(found.durrleman_g, 1, atol=1e-9)
    np.testing.assert_allclose(found.local_vol, 0.3, rtol=1e-9)
    np.testing.assert_allclose(found.forward_variance, 0.09, rtol=1e-12)
    for j, t in enumerate(tau):
        law = lognorm(s=0.3 * np.sqrt(t), scale=np.exp(-0.045 * t))
        np.testing.assert_allclose(found.density[j], law.pdf(m), rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(found.probability_below[j], law.cdf(m), rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(found.density_mass, 1, atol=1e-4)
    assert all(int(found[name]) == 0 for name in found if str(name).endswith("violations"))


def test_volatility_that_depends_on_time_is_its_own_local_volatility():
    tau = np.array([0.1, 0.25, 0.7, 1.5])
    vol = np.sqrt((0.04 * tau + 0.05 * tau**2 / 2) / tau)  # of sigma^2 = .04 + .05 t
    found = diagnose(surface(vol[:, None], tau, [0.8, 1.0, 1.3]))
    np.testing.assert_allclose(found.local_vol, np.sqrt(0.04 + 0.05 * tau)[:, None] * np.ones(3), rtol=1e-12)
    # the mean over each step, from today on
    np.testing.assert_allclose(found.forward_variance[:, 0], 0.04 + 0.025 * (np.r_[0, tau[:-1]] + tau), rtol=1e-12)
    one = diagnose(surface([[0.2, 0.2, 0.2]], [0.5], [0.8, 1.0, 1.3]))
    np.testing.assert_allclose(one.local_vol, 0.2, rtol=1e-12)


def ssvi(k, t, theta=lambda t: 0.03 * t + 0.02 * t**1.3):
    """SSVI (Gatheral and Jacquier 2014) with a power law."""
    th, rho = theta(t), mpmath.mpf("-0.6")
    phi = 1.1 / th**0.45 / (1 + th) ** 0.55
    return th / 2 * (1 + rho * phi * k + mpmath.sqrt((phi * k + rho) ** 2 + 1 - rho**2))


def exact(w, k, t):
    """Durrleman's g and local variance by differentiation in 40 digits."""
    mpmath.mp.dps = 40
    k, t = mpmath.mpf(k), mpmath.mpf(t)
    v, d1, d2 = (mpmath.diff(lambda x: w(x, t), k, n) for n in range(3))
    g = (1 - k * d1 / (2 * v)) ** 2 - d1**2 / 4 * (1 / v + mpmath.mpf(1) / 4) + d2 / 2
    return float(g), float(mpmath.diff(lambda x: w(k, x), t) / g)


def errors_of_ssvi(n):
    k, tau = np.linspace(-0.4, 0.4, n), np.linspace(0.2, 1.0, n)
    vol = np.array([[float(mpmath.sqrt(ssvi(x, t) / t)) for x in k] for t in tau])
    found = diagnose(surface(vol, tau, np.exp(k)))
    inner = [(j, i) for j in (n // 4, n // 2) for i in (n // 4, n // 2, 3 * n // 4)]
    truth = np.array([exact(ssvi, float(k[i]), float(tau[j])) for j, i in inner])
    ours = np.array([[found.durrleman_g.values[c], found.local_vol.values[c] ** 2] for c in inner])
    return np.abs(ours - truth).max(axis=0)


def test_ssvi_to_second_order():
    coarse, fine = errors_of_ssvi(17), errors_of_ssvi(33)
    assert np.all(coarse < [0.03, 0.004])
    assert np.all(fine < 0.3 * coarse)
    assert np.all(fine > 0.2 * coarse)


P, S = np.array([0.6, 0.4]), np.array([0.15, 0.4])


def mixture(k, tau):
    """Vols of a mixture of two driftless lognormal laws."""
    price = black.price(1.0, np.exp(k)[..., None], tau, S, (k >= 0)[..., None])
    return black.implied_vol((P * price).sum(axis=-1), 1.0, np.exp(k), tau, k >= 0)[0]


def test_a_mixture_of_lognormals():
    """Its local variance is the mean of both, weighted by the densities (Brigo and Mercurio 2002)."""
    k, tau = np.linspace(-1.0, 1.0, 201), np.linspace(0.4, 0.6, 11)
    found = diagnose(surface(np.array([mixture(k, t) for t in tau]), tau, np.exp(k)))
    for j in (3, 5):
        root = S * np.sqrt(tau[j])
        each = P * lognorm(s=root, scale=np.exp(-(root**2) / 2)).pdf(np.exp(k)[:, None])
        below = P * lognorm(s=root, scale=np.exp(-(root**2) / 2)).cdf(np.exp(k)[:, None])
        inner = slice(1, -1)
        np.testing.assert_allclose(found.density[j, inner], each.sum(axis=1)[inner], rtol=3e-3, atol=1e-5)
        np.testing.assert_allclose(found.probability_below[j], below.sum(axis=1), atol=2e-4)
        local = (each * S**2).sum(axis=1) / each.sum(axis=1)
        np.testing.assert_allclose(found.local_vol[j, inner], np.sqrt(local)[inner], rtol=2e-3)
    np.testing.assert_allclose(found.density_mass, 1, atol=5e-4)


def heston(u, tau, kappa=1.5, theta=0.05, nu=0.5, rho=-0.7, v0=0.04):
    """Characteristic function of ln(S/F) (Albrecher et al. 2007)."""
    b = kappa - rho * nu * 1j * u
    d = np.sqrt(b**2 + nu**2 * (1j * u + u**2))
    g = (b - d) / (b + d)
    e = np.exp(-d * tau)
    return np.exp(
        kappa * theta / nu**2 * ((b - d) * tau - 2 * np.log((1 - g * e) / (1 - g)))
        + v0 / nu**2 * (b - d) * (1 - e) / (1 - g * e)
    )


def test_heston_s_density():
    tau, k = 0.5, np.linspace(-0.7, 0.5, 121)

    def fourier(function):
        return np.array([quad(function, 0, 150, args=(x,), limit=400, epsabs=1e-11)[0] for x in k]) / np.pi

    # Lewis (2001): call = 1 - sqrt(m)/pi int Re[e^(-iuk) phi(u - i/2)] / (u^2 + 1/4) du, forward 1
    area = fourier(lambda u, x: (np.exp(-1j * u * x) * heston(u - 0.5j, tau)).real / (u * u + 0.25))
    call = 1 - np.exp(k / 2) * area
    vol, status = black.implied_vol(call - np.where(k < 0, 1 - np.exp(k), 0), 1.0, np.exp(k), tau, k >= 0)
    assert np.all(status == 0)
    found = diagnose(surface(vol[None], [tau], np.exp(k)))
    density = fourier(lambda u, x: (np.exp(-1j * u * x) * heston(u, tau)).real) / np.exp(k)
    np.testing.assert_allclose(found.density[0, 1:-1], density[1:-1], rtol=0.01, atol=2e-3)
    assert float(found.density_mass[0]) == pytest.approx(1, abs=1e-3)
    assert int(found.durrleman_violations) == 0


# ------------------------------------------------------------------------------------------------- counts
def counted(vol, tau, m):
    """The same counts by loops over cells, with calls from the textbook."""
    w = vol**2 * np.asarray(tau)[:, None]
    root = np.sqrt(w)
    d1 = -np.log(m) / root + root / 2
    call = norm.cdf(d1) - m * norm.cdf(d1 - root)
    calendar = spread = butterfly = 0
    for j in range(len(tau)):
        calendar += sum(w[j, i] < w[j - 1, i] * (1 - 1e-12) for i in range(len(m)) if j)
        slope = [(call[j, i + 1] - call[j, i]) / (m[i + 1] - m[i]) for i in range(len(m) - 1)]
        spread += sum(not -1 - 1e-12 <= x <= 1e-12 for x in slope)
        butterfly += sum(slope[i + 1] < slope[i] - 1e-12 for i in range(len(slope) - 1))
    return calendar, spread, butterfly


@given(st.lists(st.floats(0.1, 0.9), min_size=15, max_size=15), st.floats(0.0, 1.0))
def test_counts_are_those_of_loops(values, roughness):
    tau, m = [0.25, 0.5, 1.0], np.array([0.8, 0.9, 1.0, 1.05, 1.2])
    vol = 0.3 * (np.array(values).reshape(3, 5) / 0.3) ** roughness
    found = diagnose(surface(vol, tau, m))
    ours = [int(found[f"{n}_violations"]) for n in ("calendar", "call_spread", "butterfly")]
    assert ours == list(counted(vol, tau, m))
    assert float(found.arbitrage_penalty) == 0 or sum(ours) > 0
    for name in found:
        assert np.all(np.isfinite(found[name])), name
    flag = found.local_vol_flag.values
    np.testing.assert_array_equal(found.local_vol.values > 0, flag == 0)
    assert int(found.local_vol_violations) == np.count_nonzero(flag)
    # at the ends g rests on one side alone: shown, not counted
    assert int(found.durrleman_violations) == np.count_nonzero(found.durrleman_g[:, 1:-1] < 0)
    assert set(np.unique(flag)) <= {0, 1, 2, 3}
    np.testing.assert_array_equal(flag >= 2, found.durrleman_g.values <= 0)


def test_flags_say_what_is_wrong():
    tau, m = [0.25, 0.5, 1.0], np.linspace(0.7, 1.3, 13)
    vol = np.full((3, 13), 0.2)
    vol[1, 4] = 0.35  # a peak: dear at that strike, and total variance falls after it
    found = diagnose(surface(vol, tau, m))
    assert int(found.durrleman_violations) == 1
    assert float(found.durrleman_g[1, 4]) < 0
    assert int(found.calendar_violations) == 1
    assert float(found.forward_variance[2, 4]) < 0
    assert int(found.local_vol_flag[1, 4]) == 2  # total variance still rises through the peak
    assert int(found.local_vol_flag[2, 4]) == 1
    assert float(found.local_vol[2, 4]) == 0
    assert found.local_vol_flag.attrs["flag_meanings"].split()[2] == "density_negative"


def test_dimensions_and_types():
    cube = volscen.generate(n_scenarios=1500, horizon=2, seed=5)
    found = diagnose(cube)
    assert found.durrleman_g.dims == ("scenario", "step", "tau", "moneyness")
    assert found.butterfly_violations.dims == ("scenario", "step")
    assert found.density_mass.dims == ("scenario", "step", "tau")
    np.testing.assert_allclose(found.arbitrage_penalty, cube.arbitrage_penalty, atol=1e-12)
    counts = diagnose(cube, cells=False)
    assert set(found) - set(counts) == {
        "durrleman_g", "density", "probability_below", "forward_variance", "local_vol", "local_vol_flag",
    }  # fmt: skip
    one = diagnose(cube.isel(scenario=1234, step=1)["implied_vol"])
    np.testing.assert_array_equal(one.durrleman_g, found.durrleman_g[1234, 1])
    lazy = diagnose(cube.chunk(scenario=500))
    assert lazy.density.chunks is not None
    xr.testing.assert_equal(lazy.compute(), found)
    # single precision: equal total variances are no fall
    tau = np.array([0.3, 0.7])
    level = np.sqrt(0.02 / tau).astype(np.float32)
    assert int(diagnose(surface(level[:, None], tau, [0.9, 1.0, 1.1])).calendar_violations) == 0
    for name, variable in found.variables.items():
        assert name in found.coords or {"long_name", "units"} <= set(variable.attrs), name


@pytest.mark.parametrize("level", [1e-45, 1e-6, 1e3])
def test_extremes_are_numbers(level):
    found = diagnose(surface(level * np.linspace(1.0, 1.2, 7), [0.01, 1.0, 5.0], np.linspace(0.2, 5.0, 7)))
    for name in found:
        assert np.all(np.isfinite(found[name])), name


def test_what_cannot_be_used_is_refused():
    good = surface(0.2, [0.5], [0.9, 1.0, 1.1])
    for source, match in (
        (good.isel(moneyness=[0, 1]), "at least 3"),
        (good.where(good.moneyness > 1), "positive finite"),
        (good.values, "must be a dataset"),
        (good * 1e-60, "repair those"),
        (good * 1e6, "repair those"),
    ):
        with pytest.raises(InputError, match=match):
            diagnose(source)
    with pytest.raises(InputError, match="cells"):
        diagnose(good, cells="no")

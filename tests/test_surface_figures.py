"""What a surface says of itself: errors in spreads, Durrleman's function, calendar violations; one wild quote."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from chain_makers import black_price, make_chain
from volscen import Chain, build_surface, svi
from volscen.surface import REGISTRY
from volscen.surface._cubic import fit_cubic
from volscen.surface._judge import durrleman
from volscen.surface._ssvi import fit_essvi
from volscen.surface._svi import SVISurface, fit_svi

TAU = np.array([30, 91, 182]) / 365
MONEYNESS = np.array([0.85, 0.9, 0.95, 1.0, 1.05, 1.1])


def test_errors_in_spreads_counted_by_hand() -> None:
    chain = Chain(make_chain(spread=0.04))
    q = chain.quotes
    surface = build_surface(chain, TAU, MONEYNESS, method="kernel")
    fitted = build_surface(chain, TAU, MONEYNESS, method="kernel").attrs  # the same again
    inside, ratios = [], []
    for row in q.itertuples():
        top = bottom = 0.0
        for other in q.itertuples():
            w = other.vega * np.exp(
                -((other.moneyness - row.moneyness) ** 2) / 0.004 - (other.tau - row.tau) ** 2 / 0.092
            )
            top, bottom = top + w * other.implied_vol, bottom + w
        model = top / bottom
        price = black_price(row.forward, row.strike, row.tau, model, row.is_call, row.discount_factor)
        inside.append(row.price - 0.02 <= price <= row.price + 0.02)
        ratios.append((model - row.implied_vol) ** 2 / (row.half_spread_vol**2 + 5e-4**2))
    assert 0.05 < np.mean(inside) < 0.95
    assert surface.attrs["fit_share_in_spread"] == pytest.approx(np.mean(inside), abs=1e-12)
    assert surface.attrs["fit_rms_half_spreads"] == pytest.approx(np.sqrt(np.mean(ratios)), rel=1e-9)
    assert fitted["fit_share_in_spread"] == surface.attrs["fit_share_in_spread"]


def test_a_perfect_fit_lies_within_the_tightest_spread() -> None:
    surface = build_surface(Chain(make_chain(spread=1e-5)), TAU, MONEYNESS)
    assert surface.attrs["fit_share_in_spread"] == 1.0
    assert surface.attrs["fit_rms_half_spreads"] < 0.01
    assert "fit_share_in_spread" not in build_surface(Chain(make_chain()), TAU, MONEYNESS).attrs


def density(fitted, tau: float, k: np.ndarray) -> np.ndarray:
    """g from prices: the density of K/F is the call's second derivative, which is phi(d2) g / (K/F sqrt(w))."""
    h = 2e-3

    def call(x):
        return black_price(1.0, np.exp(x), tau, fitted.implied_vol(np.full(x.shape, tau), x), True)

    first = (call(k + h) - call(k - h)) / (2 * h)
    second = (call(k + h) - 2 * call(k) + call(k - h)) / h**2
    w = fitted.implied_vol(np.full(k.shape, tau), k) ** 2 * tau
    d2 = -k / np.sqrt(w) - np.sqrt(w) / 2
    return (second - first) * np.exp(-k) * np.sqrt(w) / norm.pdf(d2)  # in K/F: e^-2k (second - first), times K/F


@pytest.mark.parametrize("method", sorted(REGISTRY))
def test_durrleman_is_the_density_of_the_surface(method: str) -> None:
    chain = Chain(make_chain())
    surface = build_surface(chain, [0.2], MONEYNESS, method=method)
    from importlib import import_module

    module, name = REGISTRY[method]
    fitted = getattr(import_module(module), name)(chain, np.array([0.2]), MONEYNESS)
    k = np.linspace(np.log(0.85), np.log(1.1), 101)
    g = durrleman(k, *fitted.variance_terms(np.array([0.2]), k))
    np.testing.assert_allclose(g, density(fitted, 0.2, k), rtol=2e-3, atol=2e-3)
    assert surface.attrs["durrleman_g_min"] == pytest.approx(g.min(), abs=1e-12)
    assert surface.attrs["durrleman_g_min_tau"] == 0.2
    assert np.log(surface.attrs["durrleman_g_min_moneyness"]) == pytest.approx(k[g.argmin()], abs=1e-12)


def test_durrleman_of_a_slice_with_butterfly_arbitrage() -> None:
    """Axel Vogt's slice (Gatheral and Jacquier, 2014, section 3.1)."""
    vogt = np.array([-0.0410, 0.1331, 0.3060, 0.3586, 0.4153])
    k = np.linspace(-1.5, 1.5, 61)
    g = durrleman(k, *(term[0] for term in SVISurface(np.ones(1), vogt[None]).own_terms(k)))
    np.testing.assert_allclose(g, svi.durrleman_g(vogt, k), rtol=1e-12)
    assert g.min() < 0
    # Quotes on that slice, fitted without and with the condition.
    quotes = make_chain(days=[365], forward=[100.0], rate=[0.0], log_moneyness=np.linspace(-1.2, 1.2, 25),
                        vol=lambda k, tau: np.sqrt(svi.total_variance(vogt, k)))  # fmt: skip
    chain, moneyness = Chain(quotes), np.exp(np.linspace(-1, 1, 11))
    free, bound = (build_surface(chain, [1.0], moneyness, butterfly=b) for b in (False, True))
    inside = svi.durrleman_g(vogt, np.linspace(-1, 1, 101))
    assert free.attrs["durrleman_g_min"] == pytest.approx(inside.min(), abs=1e-3)
    assert bound.attrs["durrleman_g_min"] >= 0
    cubic = build_surface(chain, [1.0], moneyness, method="cubic")
    assert cubic.attrs["durrleman_g_min"] < 0


@pytest.mark.parametrize("fit", [fit_svi, fit_essvi, fit_cubic])
def test_variance_terms_are_derivatives(fit) -> None:
    fitted = fit(Chain(make_chain()), TAU, MONEYNESS)
    # Before the first expiry, at it, between, and after the last; crossings are left out.
    k, tau, h = np.linspace(-0.25, 0.15, 9) + 1e-3, np.array([0.05, TAU[0], 0.17, 0.6])[:, None], 1e-4
    w, slope, bend = fitted.variance_terms(tau, k)
    before, after = (fitted.implied_vol(tau, k + step) ** 2 * tau for step in (-h, h))
    np.testing.assert_allclose(w, fitted.implied_vol(tau, k) ** 2 * tau, rtol=1e-13)
    np.testing.assert_allclose(slope, (after - before) / (2 * h), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bend, (after - 2 * w + before) / h**2, rtol=2e-2, atol=2e-5)


def test_lifted_slices_have_the_slopes_of_the_slice_lifted_to() -> None:
    own = np.array([0.005, 0.12, -0.5, 0.0, 0.1])
    slices = SVISurface(tau=np.array([0.2, 0.5]), parameters=np.array([own, [0.03, 0.05, 0.0, 0.0, 0.1]]))
    k = np.array([-0.6, 0.0, 0.1])  # lifted, not, not
    w, slope, _ = slices.variance_terms(np.array([0.5]), k)
    alone = [svi.total_variance(p, k) for p in slices.parameters]
    assert (alone[0] > alone[1]).tolist() == [True, False, False]
    later = (svi.total_variance(slices.parameters, k + 1e-6) - svi.total_variance(slices.parameters, k - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope, [later[0, 0], later[1, 1], later[1, 2]], rtol=1e-6)
    np.testing.assert_allclose(w, np.maximum(*alone), rtol=1e-4)


def test_calendar_violations_are_counted() -> None:
    chain = Chain(make_chain(vol=lambda k, tau: np.where(tau < 0.1, 0.5, 0.2) * np.sqrt(1 + k**2)))
    surface = build_surface(chain, TAU, MONEYNESS, method="kernel", bandwidth=(0.002, 0.002))
    w = surface["implied_vol"].values ** 2 * TAU[:, None]
    count = sum(w[j + 1, i] < w[j, i] for j in range(2) for i in range(6))
    assert surface.attrs["calendar_violations"] == count > 0
    assert build_surface(chain, TAU, MONEYNESS).attrs["calendar_violations"] == 0


@pytest.mark.parametrize("spread", [None, 0.02])
@pytest.mark.parametrize("place", [0, 4, 10])
@pytest.mark.parametrize("method", sorted(REGISTRY))
def test_one_wild_quote_does_not_bend_a_surface(method: str, place: int, spread: float | None) -> None:
    """40 points of vol too high, in a wing, below the money or at it, among quotes with noise of .2."""

    def largest_move(**options: object) -> float:
        grids = []
        for wild in (0.0, 0.4):
            chain = Chain(make_chain(spread=spread))
            noise = 0.002 * np.random.default_rng(3).standard_normal(len(chain.quotes))
            vol = chain.quotes["implied_vol"].to_numpy() + noise
            vol[place] += wild
            chain.quotes["implied_vol"] = vol
            grids.append(build_surface(chain, TAU, MONEYNESS, method=method, **options)["implied_vol"].values)
        return float(np.abs(grids[1] - grids[0]).max())

    robust = largest_move(robust=True)
    assert robust < 0.012
    if place == 10 and method != "ssvi":  # at the money SSVI has hardly the freedom to follow it
        assert largest_move(robust=False) > 1.5 * robust

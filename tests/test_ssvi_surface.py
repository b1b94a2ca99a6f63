"""The smoothers "ssvi" and "essvi": chains to surfaces free of static arbitrage on the grid and off it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from chain_makers import black_price, make_chain
from volscen import arbitrage, ssvi
from volscen.chain import Chain
from volscen.errors import InputError
from volscen.surface import build_surface
from volscen.surface._ssvi import fit_essvi, fit_ssvi

TAU = np.array([20, 30, 60, 91, 122, 182, 250]) / 365
MONEYNESS = np.array([0.85, 0.9, 0.95, 1.0, 1.05, 1.1])
DAYS = np.array([30, 91, 182])
TRUTH = np.array([[0.0035, -0.6, 0.045], [0.0105, -0.5, 0.09], [0.023, -0.4, 0.13]])


def essvi_vol(k, tau):
    """Smiles of the three expiries that chain_makers lists, by name of their times."""
    slices = TRUTH[np.argmin(np.abs(DAYS - np.atleast_1d(365 * tau)[:, None]), axis=1)]
    theta, rho, phi = slices[:, 0], slices[:, 1], slices[:, 2] / slices[:, 0]
    w = theta / 2 * (1 + rho * phi * k + np.sqrt((phi * k + rho) ** 2 + 1 - rho**2))
    return np.sqrt(w / tau)


def assert_free(vol: np.ndarray, tau: np.ndarray, moneyness: np.ndarray) -> None:
    assert np.all(np.diff(vol**2 * tau[:, None], axis=0) > 0)
    call = black_price(1.0, moneyness, tau[:, None], vol, True)
    slope = np.diff(call, axis=1) / np.diff(moneyness)
    assert np.all(slope >= -1 - 1e-12)
    assert np.all(slope <= 1e-12)
    assert np.all(np.diff(slope, axis=1) >= -1e-12)


def test_essvi_recovers_the_surface_that_made_the_prices() -> None:
    chain = Chain(make_chain(vol=essvi_vol))
    surface = build_surface(chain, DAYS / 365, MONEYNESS, method="essvi")
    expected = [essvi_vol(np.log(MONEYNESS), np.array([t])) for t in DAYS / 365]
    np.testing.assert_allclose(surface["implied_vol"], expected, atol=2e-6)
    assert surface.attrs["method"] == "essvi"
    assert surface.attrs["fit_converged"] == 1
    assert surface.attrs["slices_reduced"] == 0
    assert surface.attrs["fit_rmse_vol_points"] < 1e-3
    assert float(surface["arbitrage_penalty"]) == 0
    fitted = fit_essvi(chain, TAU, MONEYNESS)
    np.testing.assert_allclose(fitted.parameters, TRUTH, rtol=1e-4)
    between = fitted.implied_vol(np.array([[40], [100]]) / 365, np.log(MONEYNESS))
    slices = ssvi.at(fitted.parameters, DAYS / 365, [40 / 365, 100 / 365])
    np.testing.assert_allclose(
        between**2 * np.array([[40], [100]]) / 365, ssvi.total_variance(slices, np.log(MONEYNESS))
    )


def test_ssvi_reports_its_law() -> None:
    surface = build_surface(Chain(make_chain(vol=essvi_vol)), TAU, MONEYNESS, method="ssvi")
    assert 0 < surface.attrs["power_law_gamma"] < 1
    theta, eta = TRUTH[1, 0], surface.attrs["power_law_eta"]
    psi = eta * (theta / (1 + theta)) ** (1 - surface.attrs["power_law_gamma"])
    assert psi == pytest.approx(TRUTH[1, 2], rel=0.15)
    rho = fit_ssvi(Chain(make_chain(vol=essvi_vol)), TAU, MONEYNESS).parameters[:, 1]
    assert np.ptp(rho) == 0
    assert -0.6 < rho[0] < -0.4


@pytest.mark.parametrize("method", ["ssvi", "essvi"])
def test_expiries_that_cross_give_a_surface_free_of_arbitrage(method: str) -> None:
    def vol(k, tau):
        level = np.where(np.isclose(tau, 91 / 365), 0.45, 0.2)
        return level * np.sqrt(1 + np.exp(-3 * k) * k**2)

    tau, moneyness = np.linspace(20, 260, 41) / 365, np.linspace(0.6, 1.5, 61)
    surface = build_surface(Chain(make_chain(vol=vol)), tau, moneyness, method=method, max_extrapolation=9)
    assert_free(surface["implied_vol"].values, tau, moneyness)
    assert (arbitrage.penalty(surface["implied_vol"].values, tau, moneyness, parts=True) == 0).all()
    assert surface.attrs["fit_converged"] == 1


@pytest.mark.parametrize("method", ["ssvi", "essvi"])
def test_stale_quotes_do_not_bend_the_surface(method: str) -> None:
    quotes = make_chain(vol=essvi_vol)
    chain = Chain(quotes)
    # One out-of-the-money put at five times its price, of which parity sees nothing.
    stale = chain.quotes.iloc[4]
    rows = (
        (quotes["strike"] == stale["strike"]) & (quotes["expiry"] == stale["expiry"]) & (quotes["option_type"] == "P")
    )
    assert rows.sum() == 1
    spoiled = quotes.assign(price=np.where(rows, 5 * quotes["price"], quotes["price"]))
    clean, bent, robust = (
        build_surface(c, TAU, MONEYNESS, method=method, **options)["implied_vol"].values
        for c, options in ((chain, {}), (Chain(spoiled), {"robust": False}), (Chain(spoiled), {}))
    )
    assert np.abs(robust - clean).max() < 0.6 * np.abs(bent - clean).max()


def test_weights_are_those_of_method_svi() -> None:
    chain = Chain(make_chain(vol=essvi_vol, spread=0.02))
    closes = Chain(make_chain())  # of raw SVI, which eSSVI does not hit
    plain = fit_essvi(closes, TAU, MONEYNESS, weights="uniform", robust=False)
    k, vol = (closes.quotes[name].to_numpy().reshape(3, -1) for name in ("log_moneyness", "implied_vol"))
    tau = np.unique(closes.quotes["tau"])[:, None]
    # Errors of vol count alike: those of total variance are 2 sigma tau times them.
    by_hand = ssvi.fit(k, vol**2 * tau, (vol * tau) ** -2.0)
    np.testing.assert_allclose(plain.parameters, by_hand.parameters, rtol=1e-8)
    surfaces = {
        weights: build_surface(chain, TAU, MONEYNESS, method="ssvi", weights=weights)["implied_vol"].values
        for weights in ("auto", "vega", "spread", "uniform")
    }
    np.testing.assert_array_equal(surfaces["auto"], surfaces["spread"])
    assert np.abs(surfaces["vega"] - surfaces["uniform"]).max() > 1e-6
    with pytest.raises(InputError, match="needs quotes with bid and ask"):
        build_surface(Chain(make_chain()), TAU, MONEYNESS, method="essvi", weights="spread")
    with pytest.raises(InputError, match="unknown option 'butterfly'; method 'essvi' knows"):
        build_surface(chain, TAU, MONEYNESS, method="essvi", butterfly=False)


def test_an_expiry_of_two_strikes_takes_its_smile_from_the_others() -> None:
    quotes = make_chain(vol=essvi_vol)
    middle = quotes["expiry"] == quotes["expiry"].unique()[1]
    listed = quotes.loc[middle, "strike"].unique()
    near = listed[np.argsort(np.abs(listed / 101 - 1))[:2]]
    chain = Chain(pd.concat([quotes[~middle], quotes[middle & quotes["strike"].isin(near)]]), min_strikes=2)
    surface = build_surface(chain, TAU, MONEYNESS, method="essvi", max_extrapolation=9)
    assert surface.attrs["slices_reduced"] == 1
    full = build_surface(Chain(quotes), TAU, MONEYNESS, method="essvi")
    assert np.abs(surface["implied_vol"] - full["implied_vol"]).max() < 0.01
    assert float(surface["arbitrage_penalty"]) == 0

"""The kernel smoother: loops, derivatives by differences, and the search for bandwidths."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from chain_makers import make_chain
from volscen import Chain, build_surface
from volscen.errors import InputError
from volscen.surface import search_bandwidth
from volscen.surface._bandwidth import BANDWIDTHS
from volscen.surface._kernel import fit_kernel

TAU = np.array([30, 91, 182]) / 365
MONEYNESS = np.linspace(0.8, 1.15, 8)


def dear_month(level: float = 0.5) -> Chain:
    """The first month is so dear that total variance falls after it: only smoothing in time can hide that."""
    table = make_chain(vol=lambda k, tau: np.where(tau < 0.1, level, 0.2) * np.sqrt(1 + k**2), spread=0.01)
    return Chain(table)


def nadaraya_watson(quotes: pd.DataFrame, weight: np.ndarray, tau: float, m: float, h1: float, h2: float) -> float:
    top = bottom = 0.0
    for q, own in zip(quotes.itertuples(), weight, strict=True):
        w = own * math.exp(-((q.moneyness - m) ** 2) / (2 * h1) - (q.tau - tau) ** 2 / (2 * h2))
        top, bottom = top + w * q.implied_vol, bottom + w
    return top / bottom


@pytest.mark.parametrize("weights", ["vega", "uniform", "auto"])
def test_the_mean_written_as_a_loop(weights: str) -> None:
    chain = dear_month()
    q = chain.quotes
    own = {"vega": q["vega"], "uniform": q["vega"] * 0 + 1, "auto": 1 / (q["half_spread_vol"] ** 2 + 5e-4**2)}[weights]
    fitted = fit_kernel(chain, TAU, MONEYNESS, bandwidth=(0.003, 0.02), weights=weights)  # type: ignore[arg-type]
    for tau, m in ((0.1, 0.9), (0.3, 1.02), (1.0, 1.3)):
        expected = nadaraya_watson(q, own.to_numpy(), tau, m, 0.003, 0.02)
        assert fitted.implied_vol(np.array(tau), np.log(m)) == pytest.approx(expected, rel=1e-12)


def test_variance_terms_are_derivatives() -> None:
    fitted = fit_kernel(dear_month(), TAU, MONEYNESS, bandwidth=(0.004, 0.02))
    k, tau, h = np.linspace(-0.2, 0.15, 9), np.array([0.1, 0.3])[:, None], 1e-4
    w, slope, bend = fitted.variance_terms(tau, k)
    before, after = (fitted.implied_vol(tau, k + step) ** 2 * tau for step in (-h, h))
    np.testing.assert_allclose(w, fitted.implied_vol(tau, k) ** 2 * tau, rtol=1e-13)
    np.testing.assert_allclose(slope, (after - before) / (2 * h), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(bend, (after - 2 * w + before) / h**2, rtol=1e-4, atol=1e-5)


def test_variance_terms_of_a_kernel_narrower_than_any_gap() -> None:
    """It is a step function: nothing but rounding may tilt a step."""
    fitted = fit_kernel(dear_month(), TAU, MONEYNESS, bandwidth=(1e-12, 1e-12))
    w, slope, bend = fitted.variance_terms(TAU[:, None], np.linspace(-0.2, 0.15, 9))
    assert np.all(w > 0)
    assert np.all(slope == 0)
    assert np.all(bend == 0)


def test_search_judges_every_pair_as_the_surface_itself() -> None:
    chain = dear_month()
    found = search_bandwidth(chain, TAU, MONEYNESS)
    assert found["penalty"].sizes == {"bandwidth_tau": 50, "bandwidth_moneyness": 50}
    np.testing.assert_allclose(found["bandwidth_tau"], np.arange(2, 101, 2) / 1000, rtol=1e-12)
    for h1, h2 in ((0.002, 0.002), (0.002, 0.1), (0.05, 0.03), (0.1, 0.1)):
        surface = build_surface(chain, TAU, MONEYNESS, method="kernel", bandwidth=(h1, h2), max_extrapolation=9)
        penalty = found["penalty"].sel(bandwidth_moneyness=h1, bandwidth_tau=h2, method="nearest")
        assert float(penalty) == pytest.approx(float(surface["arbitrage_penalty"]), rel=1e-9, abs=1e-13)
    h1, h2 = found.attrs["bandwidth"]
    best = found["penalty"].sel(bandwidth_moneyness=h1, bandwidth_tau=h2, method="nearest")
    assert float(best) <= float(found["penalty"].min()) + 1e-12
    assert found.attrs["smallest_penalty"] == float(found["penalty"].min())
    surface = build_surface(chain, TAU, MONEYNESS, method="kernel", bandwidth="search", max_extrapolation=9)
    assert (surface.attrs["bandwidth_moneyness"], surface.attrs["bandwidth_tau"]) == (h1, h2)
    assert surface.attrs["bandwidth_on_border"] == found.attrs["bandwidth_on_border"]
    again = search_bandwidth(chain, TAU, MONEYNESS)
    assert again.identical(found)


def test_search_over_days_takes_the_mean() -> None:
    chains = [dear_month(level) for level in (0.5, 0.3)]
    one, two = (search_bandwidth(c, TAU, MONEYNESS) for c in chains)
    both = search_bandwidth(iter(chains), TAU, MONEYNESS)
    np.testing.assert_allclose(both["penalty"], (one["penalty"] + two["penalty"]) / 2, rtol=1e-13)
    assert both.attrs["n_days"] == 2
    penalty = both["penalty"].values.round(12)
    rows, columns = np.nonzero(penalty == penalty.min())
    assert both.attrs["n_equal"] == rows.size
    products = BANDWIDTHS[rows] * BANDWIDTHS[columns]
    h1, h2 = both.attrs["bandwidth"]
    assert h1 * h2 == pytest.approx(products.min())


@pytest.mark.parametrize(
    ("h1", "h2", "border"), [(0, 0, "both"), (0, 7, "moneyness"), (49, 7, "moneyness"), (7, 49, "tau"), (3, 9, "none")]
)
def test_the_border_is_named(h1: int, h2: int, border: str) -> None:
    from volscen.surface._bandwidth import border as name
    from volscen.surface._bandwidth import smallest

    penalty = np.ones((50, 50))
    penalty[h2, h1] = 0.5
    pair = smallest(penalty, "")
    assert pair == (BANDWIDTHS[h1], BANDWIDTHS[h2])
    assert name(pair) == border


def test_a_pair_that_fails_on_one_day_is_out() -> None:
    from volscen.surface._bandwidth import smallest

    penalty = np.ones((50, 50))
    penalty[3, 4] = np.nan
    penalty[5, 6] = 0.5
    assert smallest(penalty, "") == (BANDWIDTHS[6], BANDWIDTHS[5])
    with pytest.raises(InputError, match=r"no bandwidth up to 0\.1 reaches"):
        smallest(np.full((50, 50), np.nan), "2 days")


@pytest.mark.parametrize(
    ("chains", "message"),
    [([], "chains holds none"), (3, "chains must be"), ([3], "chains must hold volscen.Chain")],
)
def test_no_chains(chains: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        search_bandwidth(chains, TAU, MONEYNESS)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="weights must be"):
        search_bandwidth(dear_month(), TAU, MONEYNESS, weights="size")  # type: ignore[arg-type]


def test_the_least_smoothing_among_equals() -> None:
    from volscen.surface._bandwidth import smallest

    penalty = np.ones((50, 50))
    assert smallest(penalty, "") == (BANDWIDTHS[0], BANDWIDTHS[0])
    penalty[49, 0] = penalty[0, 24] = 0.5  # .002 x .1 and .05 x .002
    assert smallest(penalty, "") == (BANDWIDTHS[24], BANDWIDTHS[0])
    penalty[0, 24] += 1e-14  # rounding does not choose
    assert smallest(penalty, "") == (BANDWIDTHS[24], BANDWIDTHS[0])

"""The volatility index of surfaces and chains, against integrals, hand-worked strips and published arithmetic."""

from __future__ import annotations

import mpmath
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import volscen
from chain_makers import black_price, make_chain, svi_vol
from volscen import Chain
from volscen.errors import InputError
from volscen.surface._vix import blend

MONEYNESS = np.linspace(0.6, 1.4, 10)


def surface(vol, tau, moneyness=MONEYNESS):
    vol = np.broadcast_to(np.asarray(vol, dtype=float), (len(tau), len(moneyness)))
    return xr.DataArray(vol, dims=("tau", "moneyness"), coords={"tau": tau, "moneyness": moneyness})


def log_contract(sigma, tau, ends, kinks):
    """Variance 2/tau int Q(K)/K^2 dK, F = 1, with 30 digits."""
    mpmath.mp.dps = 30

    def integrand(k):
        s = sigma(k) * mpmath.sqrt(tau)
        d1 = -k / s + s / 2
        call = mpmath.ncdf(d1) - mpmath.exp(k) * mpmath.ncdf(d1 - s)
        return (call if k >= 0 else call - 1 + mpmath.exp(k)) * mpmath.exp(-k)

    marks = sorted({mpmath.mpf(p) for p in [*ends, 0, *kinks, *np.linspace(*ends, 9)]})
    return 2 / mpmath.mpf(tau) * mpmath.quad(integrand, marks)


@pytest.mark.parametrize("vol", [0.05, 0.2, 0.8])
@pytest.mark.parametrize("tau", [[20 / 365, 50 / 365], [30 / 365, 60 / 365], [30 / 365], [1 / 12, 0.5]])
def test_a_flat_surface_gives_its_volatility(vol, tau):
    assert float(volscen.vix(surface(vol, tau))) == pytest.approx(100 * vol, abs=1e-5)
    one_strike = surface(vol, tau, [1.0])
    assert float(volscen.vix(one_strike)) == pytest.approx(100 * vol, abs=1e-5)


def test_a_smile_gives_the_log_contract():
    tau, k = 30 / 365, np.log(MONEYNESS)
    vol = 0.2 - 0.35 * k + 0.6 * k**2
    expected = log_contract(lambda x: mpmath.mpf(float(np.interp(float(x), k, vol))), tau, (k[0], k[-1]), k)
    ds = volscen.vix(surface(vol, [tau]), details=True)
    # Beyond the grid: flat, and with 1e-4 of the whole all but negligible.
    assert 1e-6 < float(ds.beyond_grid[0]) < 1e-3
    inside = ds.term_variance[0] * (1 - ds.beyond_grid[0])
    assert float(inside) == pytest.approx(float(expected), rel=1e-9)


def test_wings_are_flat_in_volatility_out_to_five_deviations():
    tau, vol = 30 / 365, 0.4
    narrow = volscen.vix(surface([[vol, vol]], [tau], [0.97, 1.02]), details=True)
    assert float(narrow.vix) == pytest.approx(40, abs=1e-5)
    part = float(log_contract(lambda _: mpmath.mpf(vol), tau, np.log([0.97, 1.02]), []))
    assert float(narrow.beyond_grid[0]) == pytest.approx(1 - part / vol**2, abs=1e-7)
    # the wings take the volatility of their own end
    tilted = [[0.6, 0.2, 0.1]]
    k = np.log([0.9, 1.0, 1.1])
    root = np.sqrt(tau)
    ends = (-5 * 0.6 * root, max(5 * 0.1 * root, k[2]))
    sigma = lambda x: mpmath.mpf(float(np.interp(float(x), k, tilted[0])))  # noqa: E731
    expected = 100 * mpmath.sqrt(log_contract(sigma, tau, ends, k))
    assert float(volscen.vix(surface(tilted, [tau], np.exp(k)))) == pytest.approx(float(expected), abs=1e-6)


def test_two_maturities_meet_in_total_variance():
    t1, t2, h = 20 / 365, 50 / 365, 30 / 365
    vol = [[0.3] * 10, [0.2] * 10]
    ds = volscen.vix(surface(vol, [t1, t2]), details=True)
    total = 0.09 * t1 + (0.04 * t2 - 0.09 * t1) * (h - t1) / (t2 - t1)
    assert float(ds.vix) == pytest.approx(100 * np.sqrt(total / h), abs=1e-4)
    np.testing.assert_allclose(ds.term_variance, [0.09, 0.04], rtol=1e-6)
    # a maturity of exactly 30 days is used alone
    vol = [[0.9] * 10, [0.2] * 10, [0.9] * 10]
    alone = volscen.vix(surface(vol, [t1, h, t2]), details=True)
    assert alone.sizes["term"] == 1
    assert float(alone.vix) == pytest.approx(20, abs=1e-5)


def test_the_published_example_of_the_interpolation():
    """Cboe's white paper: 35,924 and 46,394 minutes, variances .01846292 and .01882101, and a VIX of 13.69."""
    year = 525_600
    tau = np.array([35_924, 46_394]) / year
    total = (blend(tau, 43_200 / year) * tau * [0.01846292, 0.01882101]).sum()
    assert round(100 * np.sqrt(total * year / 43_200), 2) == 13.69


def test_other_horizons_and_reach():
    term = surface([[0.3] * 10, [0.25] * 10, [0.2] * 10], [9 / 365, 30 / 365, 93 / 365])
    for days, vol in ((9, 30), (30, 25), (93, 20)):
        index = volscen.vix(term, days=days)
        assert float(index) == pytest.approx(vol, abs=1e-4)
        assert index.attrs == {"long_name": f"volatility index of {days} days", "units": "vol point", "days": days}
    assert float(volscen.vix(term, days=120)) == pytest.approx(20, abs=1e-4)  # flat beyond the last
    with pytest.raises(InputError, match="max_tau_ratio"):
        volscen.vix(term, days=183)
    assert float(volscen.vix(term, days=183, max_tau_ratio=2)) == pytest.approx(20, abs=1e-4)


def test_histories_and_cubes_keep_their_dimensions():
    history = volscen.datasets.sample_history().isel(date=slice(0, 4))
    index = volscen.vix(history)
    assert index.dims == ("date",)
    for i in range(4):
        assert float(index[i]) == float(volscen.vix(history.isel(date=i)["implied_vol"]))
    cube = volscen.generate(n_scenarios=2100, horizon=2, seed=3)
    index = volscen.vix(cube)
    assert index.dims == ("scenario", "step")
    np.testing.assert_array_equal(index, volscen.vix(cube, num_threads=1))
    picked = volscen.vix(cube.isel(scenario=[0, 1500, 2099]))
    np.testing.assert_array_equal(index[[0, 1500, 2099]], picked)
    assert float(volscen.vix(cube["implied_vol0"])) == pytest.approx(float(index.mean()), rel=0.1)
    lazy = volscen.vix(cube.chunk(scenario=1000), details=True)
    np.testing.assert_array_equal(lazy.vix.compute(), index)
    assert lazy.vix.chunks is not None


def test_forward_and_discount_factor_cancel():
    history = volscen.datasets.sample_history().isel(date=slice(0, 2))
    moved = history.assign(forward=history.implied_vol[..., 0] * 0 + 7.0, discount_factor=history.implied_vol[..., 0])
    np.testing.assert_array_equal(volscen.vix(moved), volscen.vix(history))


@given(
    st.lists(st.floats(0.05, 1.0), min_size=10, max_size=10),
    st.floats(1.01, 1.5),
    st.sampled_from([[30 / 365], [10 / 365, 40 / 365]]),
)
def test_the_index_scales_and_lies_between_the_volatilities(vols, factor, tau):
    low, high = (float(volscen.vix(surface(v, tau))) for v in (np.array(vols), factor * np.array(vols)))
    assert low < high
    assert 100 * min(vols) * (1 - 1e-6) <= low <= 100 * max(vols) * (1 + 1e-6)


# ------------------------------------------------------------------------------------------------- chains
def quoted(days, rows, date="2024-01-02"):
    """Table of (strike, call bid, call ask, put bid, put ask)."""
    out = []
    for strike, *sides in rows:
        for i, kind in enumerate("CP"):
            if sides[2 * i] is not None:
                expiry = pd.Timestamp(date) + pd.Timedelta(days=days)
                out.append((pd.Timestamp(date), expiry, strike, kind, sides[2 * i], sides[2 * i + 1]))
    return pd.DataFrame(out, columns=["date", "expiry", "strike", "option_type", "bid", "ask"])


ROWS = [
    (70.0, 30.4, 30.6, 0.0, 0.1),
    (75.0, 25.4, 25.6, 0.1, 0.2),  # beyond two puts in a row without a bid: does not count
    (80.0, 20.4, 20.6, 0.0, 0.1),
    (85.0, 15.6, 15.8, 0.0, 0.2),
    (90.0, 11.0, 11.2, 0.4, 0.6),
    (95.0, 6.8, 7.0, 1.2, 1.4),
    (100.0, 3.6, 3.8, 3.0, 3.2),
    (105.0, 1.5, 1.7, 5.8, 6.2),
    (110.0, 0.0, 0.6, 9.6, 10.0),  # no bid: left out, but what follows counts
    (115.0, 0.1, 0.3, 14.4, 14.6),
    (120.0, 0.0, 0.1, 19.3, 19.5),
]


def test_a_strip_worked_by_hand():
    chain = Chain(quoted(30, ROWS), rate=0.05, keep=["zero_bid"])
    growth = np.exp(0.05 * 30 / 365)
    forward = 100 + growth * (3.7 - 3.1)  # call and put differ least at 100
    parts = [  # strike, width, price
        (90, 5, 0.5),
        (95, 5, 1.3),
        (100, 5, (3.7 + 3.1) / 2),
        (105, 7.5, 1.6),
        (115, 10, 0.2),
    ]
    area = sum(width / strike**2 * growth * price for strike, width, price in parts)
    variance = (2 * area - (forward / 100 - 1) ** 2) / (30 / 365)
    ds = volscen.vix(chain, details=True)
    assert float(ds.vix) == pytest.approx(100 * np.sqrt(variance), rel=1e-12)
    assert float(ds.forward[0]) == pytest.approx(forward, rel=1e-12)
    assert (int(ds.n_puts[0]), int(ds.n_calls[0]), float(ds.first_strike[0])) == (2, 2, 100.0)
    # whatever the chain drops, Cboe's rules see the quotes
    assert float(volscen.vix(Chain(quoted(30, ROWS), rate=0.05))) == float(ds.vix)
    # before the second gap: the put of 75 counts once the one of 80 has a bid
    mended = [(80.0, 20.4, 20.6, 0.05, 0.1) if row[0] == 80 else row for row in ROWS]
    assert int(volscen.vix(Chain(quoted(30, mended), rate=0.05), details=True).n_puts[0]) == 4


def test_chains_of_one_surface_give_what_the_surface_gives():
    """Many strikes of a known smile: Cboe's sum, the chain's quotes and the surface's integral agree."""
    k = np.linspace(-0.6, 0.4, 401)
    table = make_chain((20, 50), (100.3, 101.0), (0.03, 0.035), k)
    chain = Chain(table)
    tau = np.array([20, 50]) / 365
    expected = volscen.vix(surface(svi_vol(k, tau[:, None]), tau, np.exp(k)))
    for rules in ("cboe", "chain"):
        ds = volscen.vix(chain, rules=rules, details=True)
        assert float(ds.vix) == pytest.approx(float(expected), abs=0.01)
        np.testing.assert_allclose(ds.forward, [100.3, 101.0], rtol=1e-6)
        assert ds.vix.attrs["units"] == "vol point"


def test_the_missing_option_at_the_first_strike_follows_from_parity():
    """Coarse strikes, the forward well above one: the mean at K0 counts both options."""
    strike, tau, rate = np.arange(70.0, 141, 5), 30 / 365, 0.05
    growth = np.exp(rate * tau)
    call, put = (black_price(102.3, strike, tau, 0.2, kind, 1 / growth) for kind in (True, False))
    sides = {kind: {"strike": strike, "option_type": kind, "price": p} for kind, p in (("C", call), ("P", put))}
    table = pd.concat([pd.DataFrame(side) for side in sides.values()])
    table = table.assign(date=pd.Timestamp("2024-01-02"), expiry=pd.Timestamp("2024-02-01"))
    chain = Chain(table, rate=rate, vol_bounds=(0.01, 5))
    used = np.isin(strike, chain.quotes["strike"])
    middle = np.where(strike < 100, put, np.where(strike > 100, call, (call + put) / 2))
    area = (np.where(used, 5 / strike**2 * middle, 0)).sum() * growth
    expected = 100 * np.sqrt((2 * area - (102.3 / 100 - 1) ** 2) / tau)
    assert float(volscen.vix(chain, rules="chain")) == pytest.approx(expected, rel=1e-9)


def test_terms_of_a_chain():
    k = np.linspace(-0.4, 0.3, 71)

    def index(*days, **options):
        n = len(days)
        return volscen.vix(Chain(make_chain(days, (100.0,) * n, (0.0,) * n, k), rate=0.0), details=True, **options)

    assert index(10, 24, 37, 80).term_tau.values * 365 == pytest.approx([24, 37])
    assert index(24, 30, 37).term_tau.values * 365 == pytest.approx([30])
    assert index(6, 37, 65).term_tau.values * 365 == pytest.approx([37, 65])  # six days are too few
    assert index(3, 6, 10, days=9).term_tau.values * 365 == pytest.approx([6, 10])
    assert index(37).term_tau.values * 365 == pytest.approx([37])
    # total variance of this smile grows in proportion to time: also on a line through 37 and 65 days
    for rules in ("cboe", "chain"):
        assert float(index(37, 65, rules=rules).vix) == pytest.approx(float(index(30, rules=rules).vix), abs=0.15)
    with pytest.raises(InputError, match="lies too far from the nearest maturity of the chain of 2024-01-02, 80 days"):
        index(80, 120)


def test_times_to_the_minute():
    table = make_chain((30,), (100.0,), (0.0,))
    timed = table.assign(
        quote_time=pd.Timestamp("2024-01-02 15:00"), expiry_time=table["expiry"] + pd.Timedelta(hours=21)
    )
    ds = volscen.vix(Chain(timed, rate=0.0), details=True)
    assert float(ds.term_tau[0]) * 365 * 24 == pytest.approx(30 * 24 + 6)
    assert str(ds.expiry.values[0])[:16] == "2024-02-01T21:00"
    assert float(ds.term_variance[0]) * (30 * 24 + 6) == pytest.approx(
        float(volscen.vix(Chain(table, rate=0.0), details=True).term_variance[0]) * 30 * 24
    )


def test_what_cannot_be_used_is_refused():
    good = surface(0.2, [30 / 365])
    for change, match in (
        (good.rename("x").to_dataset(), "no variable implied_vol"),
        (good.isel(tau=0), "lacks the dimension and coordinate tau"),
        (good.assign_coords(moneyness=MONEYNESS[::-1]), "increasing"),
        (good.where(good.moneyness < 1.3), "must hold positive finite numbers"),
        (good * 0, "must hold positive finite numbers"),
        (good * 1e4, "too large"),
        (good.isel(moneyness=slice(0, 0)), "moneyness"),
        (good.values, "must be a dataset"),
        (make_chain(), "must be a dataset"),
    ):
        with pytest.raises(InputError, match=match):
            volscen.vix(change)
    for options, match in (
        ({"days": 0}, "days"), ({"days": np.nan}, "days"), ({"days": "30"}, "days"), ({"days": True}, "days"),
        ({"rules": "vix"}, "rules"), ({"max_tau_ratio": 0.5}, "max_tau_ratio"), ({"details": 1}, "details"),
        ({"num_threads": 0}, "num_threads"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=match):
            volscen.vix(good, **options)
    sides = make_chain((30,), (100.0,), (0.0,), np.linspace(0.05, 0.3, 10))
    with pytest.raises(InputError, match="one side"):
        volscen.vix(Chain(sides, rate=0.0))
    # next to the forward a call without its put: the mean at K0 is not quoted
    table = make_chain((30,), (100.0,), (0.0,), np.linspace(-0.3, 0.3, 25))
    hole = table[~((table["strike"] == 100) & (table["option_type"] == "P"))]
    with pytest.raises(InputError, match="rules='chain'"):
        volscen.vix(Chain(hole, rate=0.0))
    whole, mended = (float(volscen.vix(Chain(t, rate=0.0), rules="chain")) for t in (table, hole))
    assert mended == pytest.approx(whole, abs=1e-6)


def test_a_maturity_that_is_nearly_the_horizon_is_not_it():
    """A hundredth of a day off, the neighbour still enters, by its share of the time between."""
    flat = np.stack([np.full(5, 0.2), np.full(5, 0.6)])
    tau = np.array([29.99, 40]) / 365
    surface = xr.DataArray(
        flat, dims=("tau", "moneyness"), coords={"tau": tau, "moneyness": np.linspace(0.4, 1.6, 5)}, name="implied_vol"
    )
    share = (30 / 365 - tau[0]) / (tau[1] - tau[0])
    total = (1 - share) * 0.04 * tau[0] + share * 0.36 * tau[1]
    assert float(volscen.vix(surface)) == pytest.approx(100 * np.sqrt(total * 365 / 30), rel=1e-5)

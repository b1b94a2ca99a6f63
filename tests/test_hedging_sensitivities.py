"""Hedges from sensitivities: exact in the worlds that they assume."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

import volscen
from scenario_toys import MONEYNESS, TAU, make_scenarios, skewed_surface
from volscen import Option, Portfolio, Underlying, hedge
from volscen.errors import InputError
from volscen.portfolio import revalue

STRADDLE = Portfolio.straddle(moneyness=1.0, tau=91 / 365)
ATM = Option("call", moneyness=1.0, tau=61 / 365)


def greeks(spot, strike, tau, vol):
    d1 = np.log(spot / strike) / (vol * np.sqrt(tau)) + vol * np.sqrt(tau) / 2
    return norm.cdf(d1), spot * np.sqrt(tau) * norm.pdf(d1)


def small_world(move, n=4000, size=1e-6, correlation=-0.7, seed=0):
    """Tiny moves of the spot, and of a flat surface of 20% by ``move(tau, k)`` times a factor correlated with it."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, 2))
    z = (z - z.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T, bias=True))).T
    factor = correlation * z[:, 0] + np.sqrt(1 - correlation**2) * z[:, 1]
    shape = move(TAU[:, None], np.log(MONEYNESS)[None]) * np.ones((TAU.size, MONEYNESS.size))
    return make_scenarios(
        n,
        log_return=np.log1p(size * z[:, :1]),
        surface0=np.full(shape.shape, 0.2),
        implied_vol=0.2 + size * factor[:, None, None, None] * shape,
    )


# ---------------------------------------------------------------------------------------------- minimum-variance delta
def test_minimum_variance_delta_in_closed_form():
    ds = small_world(lambda tau, k: 1.0)
    out = hedge(ds, [(Option("call", strike=103, tau=0.5), 2.0)], [Underlying()], method="min-variance-delta")
    delta, vega = greeks(100, 103, 0.5, 0.2)
    # d sigma / dS = -.7 size / (100 size)
    assert float(out.ratio[0]) == pytest.approx(2 * (delta - 0.7 / 100 * vega), rel=1e-6)


def test_minimum_variance_delta_is_the_regression_on_small_moves():
    for seed in range(3):
        ds = small_world(lambda tau, k: 0.3 / np.sqrt(tau) - k, seed=seed)
        book = STRADDLE + Portfolio([(Option("put", strike=88, tau=0.7), -3.0), (Underlying(), 0.4)])
        slope = hedge(ds, book, [Underlying()], method="min-variance-delta", elapsed_days=0)
        fit = hedge(ds, book, [Underlying()], method="regression", elapsed_days=0)
        assert float(slope.ratio[0]) == pytest.approx(float(fit.ratio[0]), rel=1e-4)


def test_slopes_are_weighted_and_follow_the_strike():
    # Surfaces that keep to moneyness: a fixed strike slides along the skew when the spot moves.
    surface = skewed_surface()
    n = 400
    weight = np.random.default_rng(1).dirichlet(np.ones(n))
    ds = make_scenarios(n, seed=3, surface0=surface, implied_vol=np.tile(surface, (n, 1, 1, 1)), weight=weight)
    strike, tau = 95.0, TAU[1]
    out = hedge(
        ds, [Option("put", strike=strike, tau=tau)], [Underlying()], method="min-variance-delta", elapsed_days=0
    )
    spot = ds.spot.values[:, 0]
    vol = np.interp(np.log(strike / spot), np.log(MONEYNESS), surface[1])
    slope = np.polyfit(spot, vol, 1, w=np.sqrt(weight))[0]
    delta, vega = greeks(100, strike, tau, np.interp(np.log(0.95), np.log(MONEYNESS), surface[1]))
    assert slope > 0
    assert float(out.ratio[0]) == pytest.approx(delta - 1 + vega * slope, rel=1e-10)


def test_slopes_given():
    ds = make_scenarios(100, seed=1)
    plain = hedge(ds, STRADDLE, [Underlying()], method="delta")
    vega = float(plain.portfolio_vega)
    flat = hedge(ds, STRADDLE, [Underlying()], method="min-variance-delta", vol_slope=0)
    np.testing.assert_array_equal(flat.ratio, plain.ratio)
    number = hedge(ds, STRADDLE, [Underlying()], method="min-variance-delta", vol_slope=-0.8)
    assert float(number.ratio[0]) == pytest.approx(float(plain.ratio[0]) - 0.8 / 100 * vega, rel=1e-12)
    curve = hedge(
        ds, STRADDLE, [Underlying()], method="min-variance-delta", vol_slope=lambda tau, k: -0.4 / np.sqrt(tau)
    )
    expected = float(plain.ratio[0]) - 0.4 / np.sqrt(91 / 365) / 100 * vega
    assert float(curve.ratio[0]) == pytest.approx(expected, rel=1e-12)
    seen = []
    hedge(
        ds, [Option("put", moneyness=0.9, tau=0.25), Underlying()], [Underlying()], method="min-variance-delta",
        vol_slope=lambda tau, k: seen.append((tau, k)) or 0.0,
    )  # fmt: skip
    np.testing.assert_allclose(seen[0], [[0.25], [np.log(0.9)]], rtol=1e-12)


def test_what_expires_on_the_way_has_no_slope():
    ds = make_scenarios(300, seed=1)
    brief = Option("call", strike=100.5, tau=0.5 / 365)
    found = [hedge(ds, [brief], [Underlying()], method=method) for method in ("min-variance-delta", "delta")]
    assert float(found[0].ratio[0]) == float(found[1].ratio[0])


def test_a_spot_that_does_not_move_has_no_slope():
    ds = make_scenarios(100, seed=1, log_return=np.zeros((100, 1)))
    with pytest.raises(InputError, match=r"spot is the same in every scenario.*vol_slope"):
        hedge(ds, STRADDLE, [Underlying()], method="min-variance-delta")
    assert float(hedge(ds, STRADDLE, [Underlying()], method="min-variance-delta", vol_slope=-1).r_squared) < 1


# ---------------------------------------------------------------------------------------------------------- with vega
def test_square_root_scaling_hedges_its_own_world_exactly():
    # Contracts on the grid's maturities, where its interpolation is exact.
    ds = small_world(lambda tau, k: 0.1 / np.sqrt(tau))
    book = Portfolio([(Option("call", strike=100, tau=TAU[2]), 1.0), (Option("put", strike=92, tau=TAU[3]), -2.0)])
    option = Option("call", strike=101, tau=TAU[1])
    found = {
        method: hedge(ds, book, [Underlying(), option], method=method, elapsed_days=0)
        for method in ("delta-vega", "delta-vega-sqrt", "regression")
    }
    unhedged = float(hedge(ds, book, [Underlying()], method="delta", elapsed_days=0).residual_std)
    assert float(found["delta-vega-sqrt"].residual_std) < 1e-4 * unhedged
    assert float(found["delta-vega"].residual_std) > 0.1 * unhedged
    np.testing.assert_allclose(found["delta-vega-sqrt"].ratio, found["regression"].ratio, rtol=1e-3)
    scaled = [q * greeks(100, k, t, 0.2)[1] / np.sqrt(t) for q, k, t in ((1, 100, TAU[2]), (-2, 92, TAU[3]))]
    expected = sum(scaled) / (greeks(100, 101, TAU[1], 0.2)[1] / np.sqrt(TAU[1]))
    assert float(found["delta-vega-sqrt"].ratio[1]) == pytest.approx(expected, rel=1e-12)


def test_buckets_hedge_any_move_of_their_maturities():
    # Pillars and contracts on the grid: every pillar moves on its own, and what lies between moves with both.
    rng = np.random.default_rng(0)
    n, size = 500, 1e-6
    pillar = rng.standard_normal((n, 2)) * size
    share = (TAU[2] - TAU[1]) / (TAU[3] - TAU[1])
    moves = np.column_stack(
        [
            pillar[:, 0] * np.sqrt(TAU[1] / TAU[0]),
            pillar[:, 0],
            (1 - share) * pillar[:, 0] + share * pillar[:, 1],
            pillar[:, 1],
        ]
    )
    ds = make_scenarios(
        n,
        log_return=np.log1p(size * rng.standard_normal((n, 1))),
        surface0=np.full((4, 7), 0.2),
        implied_vol=0.2 + moves[:, None, :, None] * np.ones(7),
    )
    book = Portfolio([(Option("call", strike=98, tau=t), q) for t, q in zip(TAU, (1.0, -2.0, 3.0, 0.5), strict=True)])
    pillars = [Option("call", strike=101, tau=TAU[3]), Underlying(), Option("put", strike=99, tau=TAU[1])]
    out = hedge(ds, book, pillars, method="vega-buckets", elapsed_days=0)
    unhedged = float(hedge(ds, book, [Underlying()], method="delta", elapsed_days=0).residual_std)
    assert float(out.residual_std) < 1e-4 * unhedged
    one = hedge(ds, book, [Underlying(), ATM], method="vega-buckets")
    np.testing.assert_allclose(
        one.ratio, hedge(ds, book, [Underlying(), ATM], method="delta-vega-sqrt").ratio, rtol=1e-12
    )


def test_after_the_last_pillar_moves_fall_with_the_root_of_time():
    ds = make_scenarios(100, seed=1)
    option = Option("call", strike=100, tau=TAU[1])
    out = hedge(ds, [Option("call", strike=100, tau=TAU[3])], [Underlying(), option], method="vega-buckets")
    vega = [float(revalue(ds, [o]).vega[0]) for o in (Option("call", strike=100, tau=TAU[3]), option)]
    assert float(out.ratio[1]) == pytest.approx(vega[0] / vega[1] * np.sqrt(TAU[1] / TAU[3]), rel=1e-12)


def test_neighbours_hedge_volatility_that_is_linear_between_them():
    rng = np.random.default_rng(2)
    n, size = 500, 1e-6
    level, skew = size * rng.standard_normal((2, n))
    ds = make_scenarios(
        n,
        log_return=np.log1p(size * rng.standard_normal((n, 1))),
        surface0=np.full((4, 7), 0.2),
        implied_vol=(0.2 + level[:, None] + skew[:, None] * np.log(MONEYNESS))[:, None, None, :] * np.ones((4, 1)),
    )
    book = Portfolio([(Option("call", strike=98, tau=0.4), 3.0), (Option("put", strike=104, tau=0.4), -1.0)])
    wings = [
        Option("put", strike=90, tau=0.4),
        Option("call", strike=100, tau=0.4),
        Option("call", strike=110, tau=0.4),
    ]
    other = Option("call", strike=99, tau=0.6)
    out = hedge(ds, book, [*wings, Underlying(), other], method="neighbours", elapsed_days=0)
    unhedged = float(hedge(ds, book, [Underlying()], method="delta", elapsed_days=0).residual_std)
    assert float(out.residual_std) < 1e-4 * unhedged
    assert out.selected.values.tolist() == [True, True, True, True, False]
    # By hand: 98 lies ln(98/90)/ln(100/90) of the way from 90 to 100, 104 ln(1.04)/ln(1.1) of that from 100 to 110.
    share, next_share = np.log(98 / 90) / np.log(100 / 90), np.log(1.04) / np.log(1.1)
    vega = {k: greeks(100, k, 0.4, 0.2)[1] for k in (90, 98, 100, 104, 110)}
    expected = [
        3 * (1 - share) * vega[98] / vega[90],
        (3 * share * vega[98] - (1 - next_share) * vega[104]) / vega[100],
        -next_share * vega[104] / vega[110],
    ]
    np.testing.assert_allclose(out.ratio[:3], expected, rtol=1e-12)


def test_neighbours_pass_over_the_own_strike():
    ds = make_scenarios(100, seed=1)
    strikes = [Option("call", strike=k, tau=91 / 365) for k in (95, 100, 105)]
    book = Portfolio.straddle(strike=100, tau=91 / 365)
    out = hedge(ds, book, [Underlying(), *strikes], method="neighbours")  # no warning of parity
    assert float(out.ratio[2]) == 0
    assert not bool(out.selected[2])
    assert np.all(out.ratio.values[[1, 3]] > 0)


@pytest.mark.parametrize(
    ("method", "instruments", "message"),
    [
        ("min-variance-delta", [ATM], r"Underlying\(\) exactly once"),
        ("delta-vega-sqrt", [Underlying()], "exactly one option .*method='delta-vega-sqrt', not 0"),
        ("vega-buckets", [Underlying()], "at least one option for method='vega-buckets'"),
        ("vega-buckets", [Underlying(), ATM, Option("put", moneyness=0.9, tau=61 / 365)], "same maturity"),
        ("vega-buckets", [Underlying(), Option("call", strike=1e4, tau=0.1)], "has no vega"),
        ("neighbours", [Underlying(), ATM], "no option of the expiry of call K/F=1 91d with a strike below"),
        (
            "neighbours",
            [Underlying(), Option("call", moneyness=0.9, tau=91 / 365), Option("call", moneyness=1.0, tau=91 / 365)],
            "with a strike above its own",
        ),
        ("neighbours", [Option("call", moneyness=m, tau=91 / 365) for m in (0.9, 1.1)], "exactly once"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*are both in one unit")
def test_what_a_method_needs(method, instruments, message):
    with pytest.raises(InputError, match=message):
        hedge(make_scenarios(60), STRADDLE, instruments, method=method)


def test_a_variance_swap_hedges_volatility():
    ds = make_scenarios(300, seed=1)
    swap = volscen.VarianceSwap(tau=TAU[1])
    greek = revalue(ds, [swap, *STRADDLE.instruments])
    vega, option_vega = float(greek.vega[0]), float(greek.vega[1:].sum())
    out = hedge(ds, STRADDLE, [Underlying(), swap], method="delta-vega")
    assert float(out.ratio[1]) == pytest.approx(option_vega / vega, rel=1e-12)
    root = hedge(ds, [swap], [Underlying(), ATM], method="delta-vega-sqrt")
    expected = vega * np.sqrt(61 / 365 / TAU[1]) / float(revalue(ds, [ATM]).vega[0])
    assert float(root.ratio[1]) == pytest.approx(expected, rel=1e-12)
    chain = [Underlying(), swap, ATM]
    assert hedge(ds, STRADDLE, chain).attrs["method"] == "ridge"
    # The floor of option prices is none for a unit of variance: a swap of small vega stays in use.
    assert abs(float(hedge(ds, [(swap, 1000.0)], chain, method="ridge").ratio[1])) > 1


def test_what_has_no_maturity_or_strike_is_refused():
    ds = make_scenarios(100, seed=1)
    vix, swap = volscen.VixPayoff(), volscen.VarianceSwap(tau=TAU[1])
    with pytest.raises(InputError, match="vix has vega of no one maturity"):
        hedge(ds, [vix], [Underlying(), ATM], method="delta-vega-sqrt")
    with pytest.raises(InputError, match=r"hedges options; variance.* has no strike"):
        hedge(ds, [swap], [Underlying(), ATM], method="neighbours")

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from chain_makers import DATE, black_price, make_chain, svi_vol
from volscen import arbitrage, black
from volscen.chain import Chain
from volscen.errors import InputError
from volscen.surface import REGISTRY, build_surface
from volscen.surface._bandwidth import BANDWIDTHS
from volscen.surface._isotonic import isotonic
from volscen.surface._kernel import DEFAULT_BANDWIDTH, fit_kernel
from volscen.surface._svi import SVISurface, fit_svi

TAU = np.array([30, 60, 91, 122, 182]) / 365
MONEYNESS = np.array([0.85, 0.9, 0.95, 1.0, 1.05, 1.1])


@pytest.fixture(scope="module")
def chain() -> Chain:
    return Chain(make_chain())


def test_svi_recovers_the_surface_that_made_the_prices(chain: Chain) -> None:
    surface = build_surface(chain, TAU, MONEYNESS)
    expected = svi_vol(np.log(MONEYNESS)[None, :], TAU[:, None])  # total variance linear in tau, so exact between
    np.testing.assert_allclose(surface["implied_vol"], expected, atol=2e-6)
    assert surface["implied_vol"].dims == ("tau", "moneyness")
    assert surface.attrs["fit_rmse_vol_points"] < 1e-4
    assert surface.attrs["n_quotes"] == 63
    assert surface.attrs["n_expiries"] == 3
    assert surface.attrs["method"] == "svi"
    assert float(surface["arbitrage_penalty"]) == 0.0
    assert surface["implied_vol"].attrs["units"] == "1"


def test_forwards_and_discount_factors_are_log_linear_between_expiries(chain: Chain) -> None:
    surface = build_surface(chain, [15 / 365, 30 / 365, 60 / 365, 182 / 365, 200 / 365], [0.95, 1.0], max_tau_ratio=2)
    days, forward = np.array([30, 91, 182]), np.array([100.5, 101.0, 102.0])
    zero = np.array([0.03, 0.035, 0.04]) * days / 365  # minus the logarithm of the discount factors
    spot = 100.5 * np.exp(-zero[0])
    np.testing.assert_allclose(surface["spot"], spot, rtol=1e-10)
    between = np.exp(np.log(100.5) + (60 - 30) / (91 - 30) * np.log(101.0 / 100.5))
    after = 102.0 * (102.0 / 101.0) ** ((200 - 182) / (182 - 91))
    np.testing.assert_allclose(surface["forward"], [np.sqrt(spot * 100.5), 100.5, between, 102.0, after], rtol=1e-9)
    np.testing.assert_allclose(forward, chain.forwards["forward"], rtol=1e-10)
    expected = [zero[0] / 2, zero[0], zero[0] + 30 / 61 * (zero[1] - zero[0]), zero[2], 0.04 * 200 / 365]
    np.testing.assert_allclose(surface["discount_factor"], np.exp(-np.array(expected)), rtol=1e-9)


def test_volatility_is_flat_in_tau_beyond_the_expiries(chain: Chain) -> None:
    fitted = fit_svi(chain, TAU, MONEYNESS)
    k = np.log(MONEYNESS)
    first, before = fitted.implied_vol(np.array([[30], [10]]) / 365, k)
    last, after = fitted.implied_vol(np.array([[182], [300]]) / 365, k)
    np.testing.assert_allclose(before, first, rtol=1e-14)
    np.testing.assert_allclose(after, last, rtol=1e-14)


def crossing_chain() -> Chain:
    """Three expiries, the middle one so dear that the last has less total variance at every strike."""

    def vol(k, tau):
        level = np.where(np.isclose(tau, 91 / 365), 0.45, 0.2)
        return level * np.sqrt(1 + k**2)

    return Chain(make_chain(vol=vol))


def assert_free_of_arbitrage(vol: np.ndarray, tau: np.ndarray, moneyness: np.ndarray) -> None:
    """Total variance increases; calls fall with the strike, no faster than it rises, and are convex."""
    assert np.all(np.diff(vol**2 * tau[:, None], axis=0) > 0)
    call = black_price(1.0, moneyness, tau[:, None], vol, True)
    slope = np.diff(call, axis=1) / np.diff(moneyness)
    assert np.all(slope >= -1 - 1e-12)
    assert np.all(slope <= 1e-12)
    assert np.all(np.diff(slope, axis=1) >= -1e-12)


def test_expiries_that_cross_meet_where_both_can_agree() -> None:
    chain = crossing_chain()
    tau, moneyness = np.linspace(20, 220, 41) / 365, np.linspace(0.75, 1.2, 31)
    surface = build_surface(chain, tau, moneyness)
    assert_free_of_arbitrage(surface["implied_vol"].values, tau, moneyness)
    assert (arbitrage.penalty(surface["implied_vol"].values, tau, moneyness, parts=True) == 0).all()
    # Weighed by the inverse of tau, as price errors are.
    at_the_money = build_surface(chain, [91 / 365, 182 / 365], [1.0])["implied_vol"].values
    w91, w182 = 0.45**2 * 91 / 365, 0.2**2 * 182 / 365
    agreed = (w91 / 91 + w182 / 182) / (1 / 91 + 1 / 182)
    np.testing.assert_allclose(at_the_money[:, 0] ** 2 * np.array([91, 182]) / 365, agreed, rtol=0.03)
    assert surface.attrs["uncrossing_passes"] > 0


def test_expiries_that_do_not_cross_are_left_alone(chain: Chain) -> None:
    assert build_surface(chain, TAU, MONEYNESS).attrs["uncrossing_passes"] == 0


def test_what_is_left_of_a_crossing_is_lifted_and_stays_free_of_arbitrage() -> None:
    """The larger of two arbitrage-free call prices is one: the maximum of convex functions is convex."""
    own = np.array([0.005, 0.12, -0.5, 0.0, 0.1])
    slices = SVISurface(tau=np.array([0.2, 0.5]), parameters=np.array([own, [0.03, 0.05, 0.0, 0.0, 0.1]]))
    moneyness, tau = np.linspace(0.5, 1.5, 101), np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    first, second = slices.slices(np.log(moneyness))
    assert np.all(second > first)
    k = np.log(moneyness)
    np.testing.assert_allclose(first, own[0] + own[1] * (own[2] * k + np.hypot(k, own[4])), rtol=1e-14)
    assert np.any(second < 1.00001 * first)  # they do cross
    assert_free_of_arbitrage(slices.implied_vol(tau[:, None], k), tau, moneyness)


def test_a_guess_beyond_its_quotes_does_not_bend_slices_that_have_quotes() -> None:
    # A steep month quoted near the money, whose wings would rise above the half year, quoted far out.
    near = make_chain(
        days=[30], forward=[100.0], rate=[0.0], log_moneyness=np.linspace(-0.05, 0.05, 11),
        vol=lambda k, tau: np.sqrt(0.01 + 0.5 * np.hypot(k, 0.03)),
    )  # fmt: skip
    far = make_chain(
        days=[182], forward=[100.0], rate=[0.0], log_moneyness=np.linspace(-0.45, 0.3, 16),
        vol=lambda k, tau: 0.16 + 0 * k,
    )  # fmt: skip
    alone = fit_svi(Chain(near), TAU, MONEYNESS).implied_vol(np.array([30 / 365]), np.array([-0.4]))
    assert alone**2 * 30 > 1.2 * 0.16**2 * 182
    both = fit_svi(Chain(pd.concat([near, far])), TAU, MONEYNESS)
    wing = both.implied_vol(np.array([30, 182])[:, None] / 365, np.linspace(-0.4, 0.25, 14))
    np.testing.assert_allclose(wing[1], 0.16, rtol=0.02)
    at_the_money = both.implied_vol(np.array([30 / 365]), np.linspace(-0.05, 0.05, 11))
    np.testing.assert_allclose(
        at_the_money, np.sqrt(0.01 + 0.5 * np.hypot(np.linspace(-0.05, 0.05, 11), 0.03)), rtol=0.03
    )


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_isotonic_equals_scikit_learn(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, weight = rng.standard_normal((n, 3)), rng.uniform(0.1, 5, (n, 3))
    expected = [
        IsotonicRegression().fit_transform(np.arange(n), values[:, i], sample_weight=weight[:, i]) for i in range(3)
    ]
    np.testing.assert_allclose(isotonic(values, weight), np.transpose(expected), atol=1e-12)


def test_isotonic_leaves_ordered_columns_bit_for_bit() -> None:
    values = np.array([[0.1, 0.3], [0.2, 0.1]]) / 3
    out = isotonic(values, np.full((2, 2), 0.7))
    assert np.array_equal(out[:, 0], values[:, 0])
    assert out[0, 1] == pytest.approx(out[1, 1])


def test_quality_tells_where_the_quotes_are() -> None:
    table = make_chain(days=(30, 91, 182), log_moneyness=np.linspace(-0.12, 0.06, 10))
    surface = build_surface(
        Chain(table), np.array([25, 30, 60, 91, 182, 200]) / 365, [0.85, 0.9, 1.0, 1.05, 1.1], max_extrapolation=5
    )
    quality = surface["quality"].values
    # Quotes span K/F of .887 to 1.062: .9, 1 and 1.05 lie within, .85 and 1.1 beyond, but .887 is in .9's cell
    # and 1.062 in 1.05's; no expiry lies near 60 days; 25 and 200 days are beyond the expiries, though the
    # quotes of 30 and 182 days lie in the cells of 30 and 182 only.
    expected = [
        [2, 2, 2, 2, 2],
        [2, 0, 0, 0, 2],
        [2, 1, 1, 1, 2],
        [2, 0, 0, 0, 2],
        [2, 0, 0, 0, 2],
        [2, 2, 2, 2, 2],
    ]
    assert quality.tolist() == expected
    assert surface["quality"].attrs["flag_meanings"] == "observed interpolated extrapolated"


def test_how_far_a_grid_may_reach() -> None:
    chain = Chain(make_chain(log_moneyness=np.linspace(-0.1, 0.1, 11)))
    with pytest.raises(InputError, match=r"quotes of 2024-01-02: tau 0.0137 lies beyond the usable expiries"):
        build_surface(chain, [5 / 365], [1.0])
    assert build_surface(chain, [21 / 365], [1.0]).sizes["tau"] == 1  # a ratio of 30/21 < 1.5
    # At 30 days a vol of .2 has a standard deviation of .057: .8 lies (.223 - .1) / .057 = 2.1 beyond.
    with pytest.raises(InputError, match=r"tau 0.08219 moneyness 0.8 lies 2.\d? standard deviations beyond"):
        build_surface(chain, [30 / 365], [0.8, 1.0], max_extrapolation=2)
    build_surface(chain, [30 / 365], [0.8, 1.0])
    build_surface(chain, [182 / 365], [0.8, 1.0])


def test_a_stale_quote_does_not_bend_a_slice() -> None:
    table = make_chain()
    strikes = table.loc[table["expiry"] == table["expiry"].iloc[0], "strike"].unique()
    row = table.index[(table["strike"] == strikes[10]) & (table["option_type"] == "P")]
    table.loc[row, "price"] *= 1.3
    chain = Chain(table, vol_bounds=(0.01, 5))
    expected = svi_vol(np.log(MONEYNESS)[None, :], TAU[:1, None])
    robust = build_surface(chain, TAU[:1], MONEYNESS)["implied_vol"].values
    plain = build_surface(chain, TAU[:1], MONEYNESS, robust=False)["implied_vol"].values
    assert np.abs(robust - expected).max() < 0.3 * np.abs(plain - expected).max()


def test_weights_follow_the_spread() -> None:
    # Every other quote is wrong by 3 points of vol and says so by its spread.
    table = make_chain(days=[91], forward=[101.0], rate=[0.03])
    wrong = np.arange(len(table)) // 2 % 2 == 1
    k = np.log(table["strike"] / 101.0).to_numpy()
    vol = svi_vol(k, 91 / 365) + np.where(wrong, 0.03, 0.0)
    price = black_price(101.0, table["strike"], 91 / 365, vol, table["option_type"] == "C", np.exp(-0.03 * 91 / 365))
    half = np.where(wrong, 0.5 * price, 1e-4)
    chain = Chain(table.assign(bid=price - half, ask=price + half).drop(columns="price"), rate=0.03)
    expected = svi_vol(np.log(MONEYNESS), 91 / 365)

    def error(weights: str) -> float:
        grid = build_surface(chain, [91 / 365], MONEYNESS, weights=weights, robust=False)["implied_vol"].values
        return float(np.abs(grid - expected).max())

    assert error("spread") < 2e-3
    assert error("auto") == error("spread")
    assert error("uniform") > 8e-3
    assert error("vega") > 8e-3


@pytest.mark.parametrize("weights", ["vega", "uniform", "spread"])
def test_errors_of_volatility_are_weighed_as_asked(weights: str) -> None:
    rng = np.random.default_rng(4)
    table = make_chain(days=[30], forward=[100.5], rate=[0.03], spread=0.002)
    noise = np.exp(0.05 * rng.standard_normal(len(table)))
    chain = Chain(table.assign(bid=table["bid"] * noise, ask=table["ask"] * noise * 1.001).query("bid > 0"), rate=0.03)
    q = chain.quotes
    fitted = fit_svi(chain, TAU, MONEYNESS, weights=weights, robust=False, butterfly=False)
    w, tau = q["implied_vol"] ** 2 * q["tau"], q["tau"].to_numpy()
    model = fitted.implied_vol(tau, q["log_moneyness"].to_numpy()) ** 2 * tau
    asked = {"vega": q["vega"], "uniform": 1.0, "spread": 1 / (q["half_spread_vol"] ** 2 + 5e-4**2)}[weights]
    # The level of a slice is free, so at the optimum the errors of total variance balance, each with its weight:
    # an error of volatility is one of total variance over 2 vol tau.
    balance = asked / (2 * q["implied_vol"] * tau) ** 2 * (model - w)
    assert abs(balance.sum()) < 1e-6 * balance.abs().sum()
    assert balance.abs().sum() > 0


def test_fit_error_is_that_of_the_finished_surface() -> None:
    chain = crossing_chain()  # pooling moves the surface away from the quotes
    q = chain.quotes
    fitted = fit_svi(chain, TAU, MONEYNESS).implied_vol(q["tau"].to_numpy(), q["log_moneyness"].to_numpy())
    error = 100 * (fitted - q["implied_vol"].to_numpy())
    surface = build_surface(chain, TAU, MONEYNESS)
    assert surface.attrs["fit_rmse_vol_points"] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert surface.attrs["fit_max_vol_points"] == pytest.approx(np.abs(error).max())
    assert surface.attrs["fit_rmse_vol_points"] > 2


def test_between_expiries_both_must_bracket_the_strike() -> None:
    wide = make_chain(days=[91], forward=[100.0], rate=[0.0], log_moneyness=np.linspace(-0.4, 0.2, 13))
    narrow = make_chain(days=[182], forward=[100.0], rate=[0.0], log_moneyness=np.linspace(-0.1, 0.1, 13))
    chain = Chain(pd.concat([wide, narrow]))
    tau = np.array([91, 120, 150, 182]) / 365
    surface = build_surface(chain, tau, [0.8, 1.0], max_extrapolation=5)
    assert surface["quality"][:, 0].values.tolist() == [0, 2, 2, 2]
    # At 182 days .8 lies (.2231 - .1) / sd beyond the strikes, half-way between the expiries half as far.
    deviation = float(svi_vol(0.0, 0.5)) * np.sqrt(182 / 365)
    limit = (-np.log(0.8) - 0.1) / deviation
    build_surface(chain, [182 / 365], [0.8, 1.0], max_extrapolation=1.01 * limit)
    with pytest.raises(InputError, match=r"beyond the quoted strikes"):
        build_surface(chain, [182 / 365], [0.8, 1.0], max_extrapolation=0.99 * limit)
    half = (91 + 182) / 2 / 365
    build_surface(chain, [half], [0.8, 1.0], max_extrapolation=0.51 * limit)
    with pytest.raises(InputError, match=r"beyond the quoted strikes"):
        build_surface(chain, [half], [0.8, 1.0], max_extrapolation=0.49 * limit)


def test_kernel_is_the_weighted_mean_written_out(chain: Chain) -> None:
    surface = build_surface(chain, TAU, MONEYNESS, method="kernel", bandwidth=(0.003, 0.02))
    q = chain.quotes
    for j, i in ((0, 0), (2, 3), (4, 5)):
        weight = q["vega"] * np.exp(
            -((q["moneyness"] - MONEYNESS[i]) ** 2) / (2 * 0.003) - (q["tau"] - TAU[j]) ** 2 / (2 * 0.02)
        )
        expected = (weight * q["implied_vol"]).sum() / weight.sum()
        assert float(surface["implied_vol"][j, i]) == pytest.approx(expected, rel=1e-12)
    assert surface.attrs["bandwidth_moneyness"] == 0.003


def test_kernel_of_flat_quotes_is_flat_however_far(chain: Chain) -> None:
    flat = Chain(make_chain(vol=lambda k, tau: 0.25 + 0 * k * tau))
    surface = build_surface(flat, TAU, [0.3, 1.0, 3.0], method="kernel", bandwidth=(1e-4, 1e-4), max_extrapolation=50)
    np.testing.assert_allclose(surface["implied_vol"], 0.25, rtol=1e-6)
    assert tuple(fit_kernel(flat, TAU, MONEYNESS).bandwidth) == DEFAULT_BANDWIDTH


def test_bandwidth_search_finds_the_smallest_penalty() -> None:
    # The first month is so dear that total variance falls after it: only smoothing in time can hide that.
    chain = Chain(make_chain(vol=lambda k, tau: np.where(tau < 0.1, 0.5, 0.2) * np.sqrt(1 + k**2)))
    moneyness, tau = np.linspace(0.8, 1.15, 8), np.array([30, 91, 182]) / 365
    found = fit_kernel(chain, tau, moneyness, bandwidth="search").bandwidth

    def penalty(h1: float, h2: float) -> float:
        grid = build_surface(chain, tau, moneyness, method="kernel", bandwidth=(h1, h2), max_extrapolation=9)
        return float(grid["arbitrage_penalty"])

    coarse = BANDWIDTHS[[0, 4, 12, 24, 49]]
    everywhere = np.array([[penalty(a, b) for b in coarse] for a in coarse])
    best = penalty(*found)
    assert best <= everywhere.min() + 1e-12
    assert everywhere.max() > 0.01  # there is something to find
    ties = [
        (a, b) for a, row in zip(coarse, everywhere, strict=True) for b, p in zip(coarse, row, strict=True) if p <= best
    ]
    assert all(found[0] * found[1] <= a * b + 1e-12 for a, b in ties)


def test_bandwidth_search_that_cannot_reach() -> None:
    # Twenty years at the money lie 20 years from the quotes at the money, and far in moneyness from those of 20 years.
    far = make_chain(days=[7300], forward=[100.0], rate=[0.0], log_moneyness=np.log(np.linspace(16, 20, 8)))
    near = make_chain(days=[30], forward=[100.0], rate=[0.0])
    with pytest.raises(InputError, match=r"no bandwidth up to 0.1 reaches every grid point"):
        fit_kernel(Chain(pd.concat([near, far])), np.array([20.0]), np.array([1.0]), bandwidth="search")


@pytest.mark.parametrize(
    ("tau", "moneyness", "options", "message"),
    [
        ([0.2, 0.1], MONEYNESS, {}, "tau must be strictly increasing"),
        (TAU, [1.0, 0.9], {}, "moneyness must be strictly increasing"),
        (TAU, [0.9, np.nan], {}, "moneyness must hold positive finite"),
        ([0.1, 0.1], MONEYNESS, {}, "tau must be strictly increasing"),
        ([], MONEYNESS, {}, "tau must be a non-empty"),
        (TAU, MONEYNESS, {"method": "spline"}, r"unknown method 'spline'; the registered smoothers are \['cubic'"),
        (TAU, MONEYNESS, {"bandwidth": (1, 1)}, "unknown option 'bandwidth'; method 'svi' knows"),
        (TAU, MONEYNESS, {"method": "kernel", "butterfly": True}, "unknown option 'butterfly'; method 'kernel' knows"),
        (TAU, MONEYNESS, {"weights": "size"}, "weights must be 'auto'"),
        (TAU, MONEYNESS, {"weights": "spread"}, "weights='spread' needs quotes with bid and ask"),
        (TAU, MONEYNESS, {"method": "kernel", "bandwidth": (0.1, 0.0)}, "two positive numbers"),
        (TAU, MONEYNESS, {"method": "kernel", "bandwidth": (0.1, np.nan)}, "two positive numbers"),
        (TAU, MONEYNESS, {"method": "kernel", "bandwidth": "best"}, "pair of numbers or 'search'"),
        (TAU, MONEYNESS, {"method": "kernel", "bandwidth": 3}, "pair of numbers or 'search'"),
        (TAU, MONEYNESS, {"max_extrapolation": -1}, "max_extrapolation"),
        (TAU, MONEYNESS, {"max_tau_ratio": 0.5}, "max_tau_ratio"),
        ("x", MONEYNESS, {}, "tau must be"),
        (TAU, ["a", "b"], {}, "moneyness must be"),
        (TAU, MONEYNESS, {"max_extrapolation": "x"}, "max_extrapolation must be a number"),
        (TAU, MONEYNESS, {"max_tau_ratio": None}, "max_tau_ratio must be a number"),
        (TAU, MONEYNESS, {"method": ["svi"]}, "unknown method"),
    ],
)
def test_bad_arguments(chain: Chain, tau: object, moneyness: object, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_surface(chain, tau, moneyness, **options)


def test_a_table_is_no_chain() -> None:
    with pytest.raises(InputError, match=r"chain must be a volscen\.Chain, not DataFrame"):
        build_surface(make_chain(), TAU, MONEYNESS)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", sorted(REGISTRY))
def test_a_single_expiry_and_a_single_point_suffice(method: str) -> None:
    chain = Chain(make_chain(days=[91], forward=[101.0], rate=[0.03]))
    surface = build_surface(chain, [91 / 365], [1.0], method=method)
    assert surface["implied_vol"].shape == (1, 1)
    assert surface["quality"].values.tolist() == [[0]]
    assert float(surface["implied_vol"][0, 0]) == pytest.approx(float(svi_vol(0.0, 91 / 365)), abs=0.02)
    assert float(surface["forward"][0]) == pytest.approx(101.0, rel=1e-9)


@pytest.mark.parametrize("n", [4, 5])
def test_few_strikes_give_a_surface_free_of_arbitrage(n: int) -> None:
    chain = Chain(make_chain(log_moneyness=np.linspace(-0.1, 0.06, n)))
    surface = build_surface(chain, TAU, MONEYNESS, max_extrapolation=5)
    expected = svi_vol(np.log(MONEYNESS)[None, 1:], TAU[:, None])
    assert np.abs(surface["implied_vol"].values[:, 1:] - expected).max() < 0.02
    assert float(surface["arbitrage_penalty"]) == 0


def test_quotes_on_a_name_are_named() -> None:
    surface = build_surface(Chain(make_chain().assign(underlying="SX5E", spot=99.5)), TAU, MONEYNESS)
    assert surface.attrs["source"] == "option quotes on SX5E"
    assert float(surface["spot"]) == 99.5
    assert surface.attrs["spot_source"] == "quotes"
    assert pd.Timestamp(surface["date"].values) == DATE


@pytest.mark.parametrize("slopes", [(1.3, 0.6), (1.4, 0.7)])
def test_far_wings_that_cross_do_not_bend_the_middle(slopes: tuple[float, float]) -> None:
    """Slices that cross at strikes of next to no vega are lifted there; they once left their middle by 9 vol points."""
    tables = []
    for days, slope, low, deepest in ((24, slopes[0], 0.115, -0.76), (59, slopes[1], 0.105, -1.14)):
        k = np.unique(np.r_[np.linspace(-0.3, 0.07, 18), np.linspace(deepest, -0.35, 4)])
        strike, tau = np.repeat(np.round(2000 * np.exp(k), 1), 2), days / 365
        x = np.log(strike / 2000) - 0.05
        is_call = np.tile([True, False], k.size)
        price = black.price(2000.0, strike, tau, low + slope * np.where(x < 0, -x, 0.7 * x), is_call)
        expiry = np.datetime64("2024-01-02") + np.timedelta64(days, "D")
        tables.append(pd.DataFrame({"expiry": expiry, "strike": strike, "is_call": is_call, "price": price}))
    quotes = pd.concat(tables).assign(date="2024-01-02")
    chain = Chain(quotes.assign(option_type=np.where(quotes.pop("is_call"), "C", "P")))
    fitted = fit_svi(chain, np.array([30, 45]) / 365, np.exp(np.linspace(-0.3, 0.05, 8)))
    table = chain.quotes
    error = fitted.implied_vol(table["tau"].to_numpy(), table["log_moneyness"].to_numpy()) - table["implied_vol"]
    assert fitted.details["uncrossing_passes"] > 0
    assert np.abs(error)[table["log_moneyness"] > -0.3].max() < 0.045

"""American options: premiums, volatilities and whole chains against QuantLib's high-precision engine."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import QuantLib as ql

import volscen
from volscen import black
from volscen._american import Market, american_implied_vol, early_exercise_premium
from volscen.errors import InputError

DATE = pd.Timestamp("2024-01-02")


def quantlib(market: Market, strike: float, vol: float, is_call: bool) -> float:
    today = ql.Date(2, 1, 2024)
    ql.Settings.instance().evaluationDate = today
    count = ql.Actual365Fixed()
    process = ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(market.spot)),
        ql.YieldTermStructureHandle(ql.FlatForward(today, market.dividend_yield, count)),
        ql.YieldTermStructureHandle(ql.FlatForward(today, market.rate, count)),
        ql.BlackVolTermStructureHandle(ql.BlackConstantVol(today, ql.NullCalendar(), vol, count)),
    )
    option = ql.VanillaOption(
        ql.PlainVanillaPayoff(ql.Option.Call if is_call else ql.Option.Put, strike),
        ql.AmericanExercise(today, today + round(market.tau * 365)),
    )
    option.setPricingEngine(ql.QdFpAmericanEngine(process, ql.QdFpAmericanEngine.highPrecisionScheme()))
    return float(option.NPV())


def smile(k: np.ndarray) -> np.ndarray:
    return np.clip(0.25 - 0.3 * k + 0.4 * k**2, 0.1, 1.0)


CARRIES = [(0.05, 0.01), (0.01, 0.03), (0.05, 0.0), (0.03, 0.03), (0.08, 0.0001), (0.0005, 0.0)]


@pytest.mark.parametrize("days", [7, 91, 730])
@pytest.mark.parametrize(("rate", "dividend_yield"), CARRIES)
def test_prices_within_a_tenth_of_a_basis_point_of_vol(days: int, rate: float, dividend_yield: float) -> None:
    market = Market(100.0, days / 365, rate, dividend_yield)
    strike = np.array([70.0, 85.0, 95.0, 100.0, 105.0, 115.0, 140.0])
    vol = np.array([0.1, 0.3, 0.8])
    for is_call in (True, False):
        plain = black.price(market.forward, strike, market.tau, vol[:, None], is_call, market.discount_factor)
        ours = plain + early_exercise_premium(strike, vol, is_call=is_call, market=market)
        theirs = np.array([[quantlib(market, k, v, is_call) for k in strike] for v in vol])
        vega = black.vega(market.forward, strike, market.tau, vol[:, None], is_call, market.discount_factor)
        out = (strike >= market.forward) == is_call
        assert np.max(np.abs(ours - theirs)[:, out] / np.maximum(vega[:, out], 1e-3)) < 1e-5
        np.testing.assert_allclose(ours, theirs, atol=1.5e-3)  # of a spot of 100, far in the money too


def test_no_premium_where_waiting_costs_nothing() -> None:
    strike, vol = np.array([80.0, 100.0, 120.0]), np.array([0.2])
    for rate in (0.0, -0.01):
        market = Market(100.0, 1.0, rate, 0.02)
        assert np.all(early_exercise_premium(strike, vol, is_call=False, market=market) == 0)
    assert np.all(early_exercise_premium(strike, vol, is_call=True, market=Market(100.0, 1.0, 0.05, 0.0)) == 0)


def test_at_once_where_the_put_is_deep() -> None:
    market = Market(60.0, 1.0, 0.08, 0.0)
    strike = np.array([100.0])
    plain = black.price(market.forward, strike, 1.0, 0.15, False, market.discount_factor)
    premium = early_exercise_premium(strike, np.array([0.15]), is_call=False, market=market)[0]
    np.testing.assert_allclose(plain + premium, 40.0, rtol=1e-14)


@pytest.mark.parametrize("days", [7, 91, 730])
@pytest.mark.parametrize(("rate", "dividend_yield"), CARRIES[:3])
def test_volatilities_of_liquid_strikes(days: int, rate: float, dividend_yield: float) -> None:
    market = Market(100.0, days / 365, rate, dividend_yield)
    for is_call in (True, False):
        strike = np.linspace(70.0, 140.0, 29)
        strike = strike[(strike >= market.forward) == is_call]
        vol = smile(np.log(strike / market.forward))
        price = np.array([quantlib(market, k, v, is_call) for k, v in zip(strike, vol, strict=True)])
        liquid = black.vega(market.forward, strike, market.tau, vol, is_call, market.discount_factor) > 0.5
        found = american_implied_vol(price, strike, is_call=is_call, market=market)
        assert np.max(np.abs(found - vol)[liquid]) < 0.5e-4


def test_prices_of_no_volatility() -> None:
    market = Market(100.0, 0.5, 0.05, 0.0)
    strike = np.array([130.0, 130.0, 90.0, 90.0])
    price = np.array([30.0, 29.0, 95.0, np.nan])  # the value under exercise, less, above the strike, none
    assert np.isnan(american_implied_vol(price, strike, is_call=False, market=market)).all()


def chain(rate: float, dividend_yield: float, days: tuple[int, ...] = (30, 182, 365)) -> pd.DataFrame:
    tables = []
    for n in days:
        market = Market(100.0, n / 365, rate, dividend_yield)
        strike = np.round(100 * np.exp(np.linspace(-0.35, 0.3, 27) * max(np.sqrt(n / 365), 0.4)), 1)
        strike, is_call = np.repeat(strike, 2), np.tile([True, False], 27)
        vol = smile(np.log(strike / market.forward))
        price = [quantlib(market, k, v, bool(c)) for k, v, c in zip(strike, vol, is_call, strict=True)]
        tables.append(
            pd.DataFrame(
                {
                    "date": DATE,
                    "expiry": DATE + pd.Timedelta(days=n),
                    "strike": strike,
                    "option_type": np.where(is_call, "C", "P"),
                    "price": price,
                    "exercise": "American",
                    "spot": 100.0,
                    "truth": vol,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def worst(quotes: pd.DataFrame, **options: object) -> tuple[float, volscen.Chain]:
    """Largest error of a volatility of the chain, and the chain."""
    day = volscen.Chain(quotes.drop(columns="truth"), **options)  # type: ignore[arg-type]
    both = day.quotes.merge(quotes[["expiry", "strike", "option_type", "truth"]], how="left")
    return float(np.abs(both["implied_vol"] - both["truth"]).max()), day


@pytest.mark.parametrize(("rate", "dividend_yield"), [(0.05, 0.0), (0.08, 0.02), (0.0, 0.03)])
def test_chain_finds_vols_forwards_and_rates(rate: float, dividend_yield: float) -> None:
    """With neither rates nor yields told; taken as European the same chain is 30 to 500 basis points off."""
    quotes = chain(rate, dividend_yield)
    error, day = worst(quotes)
    assert error < 0.5e-4
    tau = day.forwards["tau"]
    np.testing.assert_allclose(day.forwards["forward"], 100 * np.exp((rate - dividend_yield) * tau), rtol=5e-5)
    np.testing.assert_allclose(-np.log(day.forwards["discount_factor"]) / tau, rate, atol=2e-4)
    assert len(day.quotes) == 81
    assert worst(quotes, american="otm")[0] > 0.002
    without = quotes.drop(columns="spot")
    error, day = worst(without)
    assert error < 5e-4
    assert abs(day.spot / 100 - 1) < 0.01


def test_prices_of_the_chain_are_european_ones() -> None:
    quotes = chain(0.05, 0.0, (182,))
    _, day = worst(quotes)
    market = Market(100.0, 182 / 365, 0.05, 0.0)
    rows = day.quotes
    expected = black.price(
        market.forward, rows["strike"], market.tau, rows["implied_vol"], rows["is_call"], market.discount_factor
    )
    np.testing.assert_allclose(rows["price"], expected, atol=2e-4)
    put = ~rows["is_call"].to_numpy()
    assert (rows["quoted_price"] - rows["price"])[put].max() > 0.1
    np.testing.assert_allclose(rows["quoted_price"][~put], rows["price"][~put], atol=1e-9)  # no dividends


def test_european_rows_are_left_alone() -> None:
    quotes = chain(0.01, 0.03, (182,)).assign(exercise="European")
    treated = volscen.Chain(quotes)
    plain = volscen.Chain(quotes.drop(columns="exercise"))
    pd.testing.assert_frame_equal(treated.quotes, plain.quotes)
    assert "quoted_price" not in treated.quotes
    with pytest.raises(InputError, match="american must be 'convert' or 'otm', not 'guess'"):
        volscen.Chain(quotes, american="guess")  # type: ignore[arg-type]


def test_a_chain_of_noisy_american_quotes() -> None:
    quotes = chain(0.05, 0.0)
    rng = np.random.default_rng(1)
    noisy = quotes.assign(price=np.maximum(quotes["price"] + 0.01 * rng.standard_normal(len(quotes)), 0.01))
    _, day = worst(noisy)
    tau = day.forwards["tau"]
    np.testing.assert_allclose(day.forwards["forward"], 100 * np.exp(0.05 * tau), rtol=4e-4)
    near = day.quotes[np.abs(day.quotes["log_moneyness"]) < 0.1].merge(
        quotes[["expiry", "strike", "option_type", "truth"]]
    )
    assert np.sqrt(np.mean((near["implied_vol"] - near["truth"]) ** 2)) < 0.002

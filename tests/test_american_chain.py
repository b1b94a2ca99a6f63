"""Chains of American options, simulated by QuantLib's high-precision engine, with neither rates nor yields told."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import volscen
from test_american import quantlib
from volscen import black
from volscen.errors import InputError

DATE = pd.Timestamp("2024-01-02")


def smile(k: np.ndarray) -> np.ndarray:
    return np.clip(0.25 - 0.3 * k + 0.4 * k**2, 0.1, 1.0)


def chain(rate: float, dividend_yield: float, days: tuple[int, ...] = (30, 182, 365)) -> pd.DataFrame:
    tables = []
    for n in days:
        forward = 100 * np.exp((rate - dividend_yield) * n / 365)
        strike = np.round(100 * np.exp(np.linspace(-0.35, 0.3, 27) * max(np.sqrt(n / 365), 0.4)), 1)
        strike, is_call = np.repeat(strike, 2), np.tile([True, False], 27)
        vol = smile(np.log(strike / forward))
        price = [
            quantlib(100.0, k, n, v, bool(c), rate, dividend_yield)
            for k, v, c in zip(strike, vol, is_call, strict=True)
        ]
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
    rows, tau = day.quotes, 182 / 365
    expected = black.price(
        100 * np.exp(0.05 * tau), rows["strike"], tau, rows["implied_vol"], rows["is_call"], np.exp(-0.05 * tau)
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

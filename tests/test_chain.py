from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain_makers import DATE, black_price, make_chain, svi_vol
from volscen.chain import CHAIN_REASONS, Chain
from volscen.errors import InputError
from volscen.quotes import REASONS

FORWARD, RATE, DAYS = np.array([100.5, 101.0, 102.0]), np.array([0.03, 0.035, 0.04]), np.array([30, 91, 182])
DISCOUNT = np.exp(-RATE * DAYS / 365)


def used(chain: Chain) -> dict[str, int]:
    return {str(k): int(v) for k, v in chain.dropped.items() if v}


def test_exact_prices_give_exact_forwards_and_vols() -> None:
    chain = Chain(make_chain())
    np.testing.assert_allclose(chain.forwards["tau"], DAYS / 365, rtol=1e-15)
    np.testing.assert_allclose(chain.forwards["forward"], FORWARD, rtol=1e-10)
    np.testing.assert_allclose(chain.forwards["discount_factor"], DISCOUNT, rtol=1e-10)
    assert chain.forwards["rate_source"].tolist() == ["parity"] * 3
    assert chain.forwards["residual_max"].max() < 1e-10
    assert chain.forwards["n_used"].tolist() == [21] * 3
    quotes = chain.quotes
    # The prices of options far out of the money hold few digits of the vol.
    np.testing.assert_allclose(quotes["implied_vol"], svi_vol(quotes["log_moneyness"], quotes["tau"]), atol=1e-7)
    assert np.all(quotes["is_call"] == (quotes["strike"] >= quotes["forward"]))
    np.testing.assert_allclose(quotes["moneyness"], quotes["strike"] / quotes["forward"])
    np.testing.assert_allclose(quotes["log_moneyness"], np.log(quotes["moneyness"]))
    assert used(chain) == {"in_the_money": 63}
    assert chain.n_rows == 126
    assert "63 of 126 rows used, 3 expiries" in repr(chain)


def test_vega_is_the_slope_of_the_price() -> None:
    quotes = Chain(make_chain()).quotes
    forward, strike, tau, vol = (quotes[name].to_numpy() for name in ("forward", "strike", "tau", "implied_vol"))
    is_call, discount = quotes["is_call"].to_numpy(), quotes["discount_factor"].to_numpy()
    step = 1e-5
    up, down = (black_price(forward, strike, tau, vol + d, is_call, discount) for d in (step, -step))
    np.testing.assert_allclose(quotes["vega"], (up - down) / (2 * step), rtol=1e-5, atol=1e-7)


def test_order_of_rows_means_nothing() -> None:
    table = make_chain()
    pd.testing.assert_frame_equal(Chain(table.sample(frac=1, random_state=1)).quotes, Chain(table).quotes)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_bad_prices_do_not_move_the_forward(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = make_chain()
    # Four pairs of each expiry have one price that is plainly wrong: 19% of the pairs.
    for expiry in table["expiry"].unique():
        strikes = rng.choice(table.loc[table["expiry"] == expiry, "strike"].unique(), 4, replace=False)
        for strike in strikes:
            rows = table.index[(table["expiry"] == expiry) & (table["strike"] == strike)]
            table.loc[rng.choice(rows), "price"] += rng.uniform(0.5, 20)
    chain = Chain(table)
    np.testing.assert_allclose(chain.forwards["forward"], FORWARD, rtol=1e-10)
    np.testing.assert_allclose(chain.forwards["discount_factor"], DISCOUNT, rtol=1e-10)
    assert chain.forwards["residual_max"].max() > 0.4  # the residuals tell, within the window


def test_noise_is_averaged_and_its_size_reported() -> None:
    rng = np.random.default_rng(0)
    errors, ratios, mads = [], [], []
    for _ in range(40):
        table = make_chain(days=[182], forward=[102.0], rate=[0.04])
        table["price"] += 0.02 * rng.standard_normal(len(table))
        row = Chain(table[table["price"] > 0], rate=0.04).forwards.iloc[0]
        errors.append(row["forward"] - 102.0)
        ratios.append(errors[-1] / row["forward_error"])
        mads.append(row["residual_mad"])
    # 21 pairs, each with noise of .02 sqrt(2): the mean is good to about .0066 (1/sqrt(.95) for robustness).
    assert 0.004 < np.std(errors) < 0.0095
    assert 0.7 < np.std(ratios) < 1.5
    assert np.median(mads) == pytest.approx(0.02 * np.sqrt(2) * 0.6745, rel=0.2)


def test_an_imprecise_slope_gives_way_to_the_common_rate() -> None:
    rng = np.random.default_rng(3)
    table = make_chain(rate=(0.04, 0.04, 0.04))
    table["price"] += 0.01 * rng.standard_normal(len(table))
    chain = Chain(table[table["price"] > 0])
    forwards = chain.forwards.set_index("expiry")
    assert forwards["rate_source"].iloc[0] == "pooled"
    rates = -np.log(forwards["discount_factor"]) / forwards["tau"]
    # One month alone would have a rate error of .009 / sqrt(21) / .15 / (30 / 365), about 15%.
    assert abs(rates.iloc[0] - 0.04) < 0.01
    np.testing.assert_allclose(forwards["forward"], FORWARD, atol=0.02)


def test_the_rate_may_be_given_or_bounded() -> None:
    given = Chain(make_chain(), rate=0.03).forwards
    np.testing.assert_allclose(given["discount_factor"], np.exp(-0.03 * DAYS / 365), rtol=1e-14)
    assert given["rate_source"].tolist() == ["given"] * 3
    bounded = Chain(make_chain(), rate_bounds=(0.0, 0.01)).forwards
    assert bounded["rate_source"].tolist() == ["bounded"] * 3
    np.testing.assert_allclose(bounded["discount_factor"], np.exp(-0.01 * DAYS / 365), rtol=1e-14)


def test_two_pairs_still_give_a_forward() -> None:
    table = make_chain(days=[182], forward=[102.0], rate=[0.04], log_moneyness=(-0.05, 0.05))
    chain = Chain(table, min_strikes=2)
    np.testing.assert_allclose(chain.forwards["forward"], 102.0, rtol=1e-12)
    np.testing.assert_allclose(chain.forwards["discount_factor"], np.exp(-0.04 * 182 / 365), rtol=1e-12)
    assert np.isnan(chain.forwards["forward_error"]).all()


def test_one_pair_needs_a_rate() -> None:
    table = make_chain(days=[182], forward=[102.0], rate=[0.04], log_moneyness=(0.01,))
    with pytest.raises(InputError, match=r"2024-01-02 has no usable quote.*no_forward 2"):
        Chain(table, min_strikes=1)
    assert Chain(table, min_strikes=1, rate=0.04).forwards["forward"].iloc[0] == pytest.approx(102.0, rel=1e-12)


def test_tight_quotes_weigh_more_in_parity() -> None:
    table = make_chain(days=[182], forward=[102.0], rate=[0.04], spread=0.02)
    rng = np.random.default_rng(5)
    wide = rng.random(len(table)) < 0.5
    shift = np.where(wide, 0.4 * rng.standard_normal(len(table)), 0.0)
    table["bid"] += shift - np.where(wide, 0.6, 0)
    table["ask"] += shift + np.where(wide, 0.6, 0)
    sound = table[table["bid"] > 0]
    with_spreads = Chain(sound, rate=0.04).forwards["forward"].iloc[0]
    mids = sound.assign(price=(sound["bid"] + sound["ask"]) / 2).drop(columns=["bid", "ask"])
    without = Chain(mids, rate=0.04).forwards["forward"].iloc[0]
    assert abs(with_spreads - 102.0) < 0.02
    assert abs(with_spreads - 102.0) < abs(without - 102.0)


def test_tight_quotes_weigh_more_in_the_rate() -> None:
    table = make_chain(days=[182], forward=[102.0], rate=[0.04], spread=0.02)
    # Two thirds of the strikes are quoted wide, and their mids lean: dear calls above the money, dear puts below.
    row = np.arange(len(table)) // 2
    wide = row % 3 != 0
    lean = np.where(wide, 0.1 * (table["strike"] - 102) * np.where(table["option_type"] == "C", 1, -1), 0.0)
    half = np.where(wide, 8.0, 0.01)
    middle = (table["bid"] + table["ask"]) / 2 + lean
    sound = table.assign(bid=middle - half, ask=middle + half, price=np.nan)
    sound["bid"] = sound["bid"].clip(lower=1e-6)
    sound["ask"] = 2 * middle - sound["bid"]
    chain = Chain(sound[middle > 2e-6], parity_window=1.0)
    assert chain.forwards["discount_factor"].iloc[0] == pytest.approx(np.exp(-0.04 * 182 / 365), abs=2e-3)


def test_spread_in_vol_units() -> None:
    quotes = Chain(make_chain(spread=0.02)).quotes
    np.testing.assert_allclose(quotes["half_spread_vol"], 0.01 / quotes["vega"], rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        ({}, {"min_tau": 31 / 365}, {"short_expiry": 42, "in_the_money": 42}),
        ({}, {"vol_bounds": (0.1, 0.2)}, None),
        ({}, {"min_price": 0.5}, None),
        ({}, {"min_strikes": 22}, "no usable quote.*too_few_strikes 63"),
    ],
)
def test_filters(change: dict, options: dict, expected: object) -> None:
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            Chain(make_chain(), **options)
        return
    chain = Chain(make_chain(), **options)
    assert len(chain.quotes) + chain.dropped.sum() == chain.n_rows
    if expected is not None:
        assert used(chain) == expected
    quotes = chain.quotes
    low, high = options.get("vol_bounds", (0, 9))
    assert quotes["implied_vol"].between(low, high).all()
    assert (quotes["price"] >= options.get("min_price", 0)).all()
    assert set(quotes["tau"]) == set(chain.forwards.loc[chain.forwards["n_used"] > 0, "tau"])


def test_short_expiries_keep_their_forward() -> None:
    chain = Chain(make_chain(), min_tau=31 / 365)
    np.testing.assert_allclose(chain.forwards["forward"], FORWARD, rtol=1e-10)
    assert chain.forwards["n_used"].tolist() == [0, 21, 21]
    assert chain.spot == pytest.approx(100.5 * DISCOUNT[0], rel=1e-10)
    assert chain.spot_source == "parity"


def test_impossible_prices_are_counted() -> None:
    table = make_chain(days=[182], forward=[102.0], rate=[0.04])
    discount = float(np.exp(-0.04 * 182 / 365))
    is_call = table["option_type"] == "C"
    deep_call = table.index[is_call & (table["strike"] < 80)][0]
    table.loc[deep_call, "price"] = 0.5 * discount * (102.0 - table.loc[deep_call, "strike"])
    dear_put = table.index[~is_call & (table["strike"] < 85)][-1]
    table.loc[dear_put, "price"] = table.loc[dear_put, "strike"]  # more than the strike's present value
    chain = Chain(table)
    assert used(chain) == {"below_intrinsic": 1, "above_maximum": 1, "in_the_money": 20}
    assert chain.forwards["forward"].iloc[0] == pytest.approx(102.0, rel=1e-10)


def test_wide_spreads_go_when_asked() -> None:
    table = make_chain(spread=0.02)
    sound = table[table["bid"] > 0]
    chain = Chain(sound, max_spread=0.1)
    wide = 0.1 * (sound["bid"] + sound["ask"]) / 2 < 0.02
    assert chain.dropped["wide_spread"] == wide.sum() > 0
    assert (0.1 * chain.quotes["price"] * (1 + 1e-12) >= 0.02).all()
    with pytest.raises(InputError, match="max_spread needs quotes with bid and ask"):
        Chain(make_chain(), max_spread=0.1)


def test_adjusted_contracts_go_unless_kept() -> None:
    table = make_chain()
    extra = table[::7].assign(adjusted=True)
    extra["strike"] += 0.011
    clash = table[:2].assign(adjusted=True, price=1.0)
    both = pd.concat([table.assign(adjusted=False), extra, clash])
    chain = Chain(both)
    assert chain.dropped["adjusted_contract"] == len(extra) + 2
    pd.testing.assert_frame_equal(chain.quotes, Chain(table).quotes)
    kept = Chain(both, adjusted="keep")
    assert kept.dropped["adjusted_contract"] == 2  # those whose strike a standard contract has
    assert len(kept.quotes) > len(chain.quotes)


def test_every_row_is_used_or_counted() -> None:
    table = make_chain()
    table.loc[::5, "price"] = np.nan
    table.loc[1::11, "strike"] *= -1
    table = pd.concat([table, table.iloc[:9]])
    chain = Chain(table)
    assert len(chain.quotes) + chain.dropped.sum() == chain.n_rows == len(table)
    assert list(chain.dropped.index) == [*REASONS, *CHAIN_REASONS]


def test_spot_comes_from_the_table_where_it_is_there() -> None:
    chain = Chain(make_chain().assign(spot=99.0))
    assert (chain.spot, chain.spot_source) == (99.0, "quotes")
    # The nearest forward is 100.5, 30 days ahead: 0.1 + 0.5 x 30/365 = 0.1411 in logarithms, 87.28 or 115.73.
    for spot in (87.3, 115.7):
        assert Chain(make_chain().assign(spot=spot)).spot == spot
    for spot in (87.2, 115.8, 0.001, 1e6):
        with pytest.raises(
            InputError, match=r"column spot is .* on 2024-01-02, where put-call parity gives a forward of"
        ):
            Chain(make_chain().assign(spot=spot))
    with pytest.raises(InputError, match="column spot holds no positive number on 2024-01-02"):
        Chain(make_chain().assign(spot=np.nan))


def test_one_day_of_several() -> None:
    later = make_chain(date=DATE + pd.Timedelta(days=1), forward=(90.0, 91.0, 92.0))
    both = pd.concat([make_chain(), later])
    chain = Chain(both, "2024-01-03")
    assert chain.date == np.datetime64("2024-01-03")
    np.testing.assert_allclose(chain.forwards["forward"], [90.0, 91.0, 92.0], rtol=1e-10)
    with pytest.raises(InputError, match="hold 2 dates"):
        Chain(both)


def test_a_bid_without_an_ask_is_no_market() -> None:
    """A table of prices that carries bids along: the prices count."""
    plain, carrying = Chain(make_chain()), Chain(make_chain().assign(bid=0.0))
    pd.testing.assert_frame_equal(carrying.quotes, plain.quotes)
    with pytest.raises(InputError, match="max_spread needs quotes with bid and ask"):
        Chain(make_chain().assign(bid=0.0), max_spread=0.1)


def test_one_sided_and_empty_chains() -> None:
    table = make_chain()
    with pytest.raises(InputError, match=r"2024-01-02 has no usable quote: it holds calls only.*needs puts"):
        Chain(table[table["option_type"] == "C"])
    with pytest.raises(InputError, match="it holds puts only"):
        Chain(table[table["option_type"] == "P"])
    with pytest.raises(InputError, match="chain of 2024-01-02 is empty: rows dropped: zero_price 126"):
        Chain(table.assign(price=0.0))
    with pytest.raises(InputError, match="empty"):
        Chain(table.head(0))
    # One expiry without puts goes alone.
    lame = table[(table["option_type"] == "C") | (table["expiry"] != table["expiry"].max())]
    chain = Chain(lame)
    assert chain.dropped["no_forward"] == 21
    assert np.isnan(chain.forwards["forward"].iloc[-1])


def test_underlyings() -> None:
    assert Chain(make_chain().assign(underlying="SPX")).underlying == "SPX"
    mixed = make_chain()
    mixed["underlying"] = np.where(mixed.index % 2, "A", "B")
    with pytest.raises(InputError, match="hold 2 underlyings"):
        Chain(mixed)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"min_tau": -1.0}, "min_tau"),
        ({"min_price": np.nan}, "min_price"),
        ({"max_spread": 0.0}, "max_spread"),
        ({"vol_bounds": (0.5, 0.1)}, "vol_bounds"),
        ({"vol_bounds": (-0.5, 0.1)}, "vol_bounds"),
        ({"rate_bounds": (0.1, 0.1)}, "rate_bounds"),
        ({"min_strikes": 0}, "min_strikes"),
        ({"adjusted": "maybe"}, "adjusted"),
        ({"rate": np.inf}, "rate"),
        ({"rate_tolerance": 0.0}, "rate_tolerance"),
        ({"parity_window": -0.1}, "parity_window"),
        ({"min_tau": "x"}, "min_tau must be a number"),
        ({"min_price": None}, "min_price must be a number"),
        ({"max_spread": "x"}, "max_spread must be a number"),
        ({"vol_bounds": 5}, "vol_bounds must be two increasing numbers"),
        ({"vol_bounds": (0.1, 0.2, 0.3)}, "vol_bounds must be two increasing numbers"),
        ({"vol_bounds": ("a", "b")}, "vol_bounds must be two increasing numbers"),
        ({"vol_bounds": None}, "vol_bounds must be two increasing numbers"),
        ({"rate": "x"}, "rate must be a number"),
        ({"rate_bounds": (0,)}, "rate_bounds must be two increasing numbers"),
        ({"min_strikes": "x"}, "min_strikes must be a whole number"),
        ({"min_strikes": 4.5}, "min_strikes must be a whole number"),
        ({"date": "2024"}, "date must be a date"),
    ],
)
def test_options_are_checked(options: dict, name: str) -> None:
    with pytest.raises(InputError, match=name):
        Chain(make_chain(), **options)


@pytest.mark.parametrize(
    ("factor", "message"), [(1e4, "divide .* by about 9.9e\\+03"), (1e-4, "multiply .* by about 1e\\+04")]
)
def test_prices_in_another_unit_are_refused(factor: float, message: str) -> None:
    quotes = make_chain(days=(30, 91), forward=(100.5, 101.0), rate=(0.03, 0.035))
    with pytest.raises(InputError, match=f"prices and strikes are in different units; {message}"):
        Chain(quotes.assign(price=factor * quotes["price"]))


def test_swapped_calls_and_puts_are_refused() -> None:
    quotes = make_chain()
    with pytest.raises(InputError, match="calls and puts are swapped; exchange C and P"):
        Chain(quotes.assign(option_type=quotes["option_type"].map({"C": "P", "P": "C"})))
    with pytest.raises(InputError, match="is the same at every strike"):
        Chain(quotes.assign(price=1.0))


def test_noise_between_neighbours_is_no_wrong_unit() -> None:
    quotes = make_chain(log_moneyness=np.linspace(-0.1, 0.1, 41), spread=1.0)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, len(quotes))  # as large as the strikes are apart
    noisy = quotes.assign(bid=np.maximum(quotes["bid"] + noise, 0.01), ask=quotes["ask"] + noise + 0.6)
    assert abs(Chain(noisy).forwards["forward"].iloc[0] / 100.5 - 1) < 0.01


def test_locked_stale_and_kept_quotes() -> None:
    table = make_chain(spread=0.02)
    n = len(table)
    table["age"] = 0.0
    out = table.index[(table["option_type"] == "P") & (table["strike"] > 88) & (table["strike"] < 100)]
    table.loc[out[0], ["bid", "ask"]] = table.loc[out[0], ["bid", "ask"]].mean()
    table.loc[out[1], "age"] = 3600.0
    table.loc[out[2], "age"] = np.nan
    table.loc[out[3], "bid"] = 0.0
    table.loc[out[4], ["bid", "ask"]] = table.loc[out[4], ["ask", "bid"]].to_numpy()
    plain = Chain(table)
    assert (plain.dropped["zero_bid"], plain.dropped["crossed"]) == (1, 1)
    assert (plain.dropped["locked"], plain.dropped["stale"]) == (0, 0)
    strict = Chain(table, drop=["locked"], max_age=600)
    assert (strict.dropped["locked"], strict.dropped["stale"]) == (1, 2)
    assert len(strict.quotes) == len(plain.quotes) - 3
    loose = Chain(table, keep=["zero_bid", "crossed"])
    assert (loose.dropped["zero_bid"], loose.dropped["crossed"]) == (0, 0)
    assert len(loose.quotes) == len(plain.quotes) + 2
    for chain in (plain, strict, loose):
        assert len(chain.quotes) + chain.dropped.sum() == chain.n_rows == n
    assert Chain(table, keep="zero_bid").dropped["zero_bid"] == 0
    assert (loose.quotes["half_spread_vol"] >= 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": ["expired"]}, "keep may name zero_bid, crossed, and 'expired' is none of them"),
        ({"drop": "stale"}, "drop may name locked, not_monotone, and 'stale' is none of them"),
        ({"max_age": 0}, "max_age must be positive"),
        ({"max_age": 60}, "max_age needs quotes with the column age; these have none"),
        ({"drop": ["locked"]}, r"drop=\['locked'\] needs quotes with bid and ask; these have none"),
    ],
)
def test_filters_that_cannot_be_applied(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Chain(make_chain(), **options)  # type: ignore[arg-type]


def test_prices_that_contradict_their_neighbours_go_when_asked() -> None:
    table = make_chain()
    first = table["expiry"] == table["expiry"].min()
    puts = table.index[first & (table["option_type"] == "P") & (table["strike"] < 95)]
    calls = table.index[first & (table["option_type"] == "C") & (table["strike"] > 105)]
    table.loc[puts[2], "price"] = table.loc[puts[6], "price"]  # above four puts of higher strikes
    table.loc[calls[3], "price"] = table.loc[calls[0], "price"] + 0.01
    assert Chain(table).dropped["not_monotone"] == 0
    chain = Chain(table, drop=["not_monotone"])
    assert chain.dropped["not_monotone"] == 2
    left = set(zip(chain.quotes["expiry"], chain.quotes["strike"], strict=True))
    for row in (puts[2], calls[3]):
        assert (table.loc[row, "expiry"], table.loc[row, "strike"]) not in left
    assert Chain(make_chain(), drop=["not_monotone"]).dropped["not_monotone"] == 0


def test_spreads_forgive_what_nobody_can_trade_on() -> None:
    table = make_chain(spread=0.02)
    first = table["expiry"] == table["expiry"].min()
    puts = table.index[first & (table["option_type"] == "P") & (table["strike"] > 88)]
    higher = table.loc[puts[4], ["bid", "ask"]].to_numpy(dtype=float)
    table.loc[puts[3], ["bid", "ask"]] = higher + 0.015  # the middle is above, the bid is not above the ask
    assert Chain(table, drop=["not_monotone"]).dropped["not_monotone"] == 0
    table.loc[puts[3], ["bid", "ask"]] = higher + 0.025
    assert Chain(table, drop=["not_monotone"]).dropped["not_monotone"] == 1

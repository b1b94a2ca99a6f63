"""Backtests of hedges: the account by hand, replication, no look-ahead, real contracts, costs, restarts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import norm

import volscen
from volscen import Option, Portfolio, Underlying
from volscen.errors import InputError
from volscen.hedging import Costs, HedgeArm, HedgeInstruments, OpenPosition, RolledPosition, backtest_table
from volscen.hedging._backtest_account import Account

TAU = np.array([30, 60, 91, 122, 182]) / 365
MONEYNESS = np.array([0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2])
FREE = Costs(half_spread_vol=0.0, underlying=0.0)
STRADDLE = RolledPosition(Portfolio.straddle(strike_over_spot=1.0, tau=91 / 365), until_days=80)
CALL = Option("call", strike_over_spot=1.0, tau=61 / 365)
DAY = np.timedelta64(1, "D")


def make_history(days: int = 60, *, rate: float = 0.0, seed: int = 3, flat: bool = False) -> xr.Dataset:
    """Weekdays of a lognormal index whose surface moves against it; forward = S exp(rate tau)."""
    rng = np.random.default_rng(seed)
    date = pd.bdate_range("2022-01-03", periods=days).to_numpy()
    step = 0.01 * rng.standard_normal(days)
    spot = 100 * np.exp(np.cumsum(step))
    level = 0.2 * np.exp(np.cumsum(-3 * step + 0.02 * rng.standard_normal(days)))
    smile = 1 + 0.3 * np.log(MONEYNESS) ** 2 - 0.4 * np.log(MONEYNESS) / (1 + 5 * TAU[:, None])
    vol = level[:, None, None] * (np.ones_like(smile) if flat else smile)
    curve = np.exp(rate * TAU)
    return volscen.make_history(
        date, TAU, MONEYNESS, vol, spot=spot, forward=spot[:, None] * curve,
        discount_factor=np.broadcast_to(1 / curve, (days, TAU.size)),
    )  # fmt: skip


def run(history: xr.Dataset, arms: Mapping[str, HedgeArm], instruments: Any, **options: Any) -> xr.Dataset:
    dates = history["date"].values
    options = {"first": dates[30], "last": dates[-1], "n_scenarios": 64, "costs": FREE} | options
    return volscen.backtest_hedge(history, options.pop("position", STRADDLE), arms, instruments=instruments, **options)


def black(spot: float, strike: float, tau: float, vol: float, rate: float, is_call: bool) -> tuple[float, float, float]:
    """Price, delta and vega from the textbook, with scipy's normal law."""
    d1 = (np.log(spot / strike) + (rate + vol**2 / 2) * tau) / (vol * np.sqrt(tau))
    d2 = d1 - vol * np.sqrt(tau)
    sign = 1 if is_call else -1
    price = sign * (spot * norm.cdf(sign * d1) - strike * np.exp(-rate * tau) * norm.cdf(sign * d2))
    return price, sign * norm.cdf(sign * d1), spot * norm.pdf(d1) * np.sqrt(tau)


# ------------------------------------------------------------------------------------------------ the account
@pytest.fixture(scope="module")
def flat() -> xr.Dataset:
    return make_history(rate=0.05, flat=True)


def test_the_account_is_the_one_worked_by_hand(flat: xr.Dataset) -> None:
    costs = Costs(half_spread_vol=0.003, underlying=2e-4)
    found = run(flat, {"delta-vega": HedgeArm("delta-vega")}, [Underlying(), CALL], costs=costs)
    one = found.sel(arm="delta-vega").isel(date=found["position"].values == 0)
    rows = [int(np.flatnonzero(flat["date"].values == as_of)[0]) for as_of in one["as_of"].values]
    rows.append(rows[-1] + 1)
    date = flat["date"].values.astype("datetime64[D]")
    spot, vol = flat["spot"].values, flat["implied_vol"].values[:, 0, 0]
    strike, expiry = spot[rows[0]], {"position": date[rows[0]] + 91 * DAY, "hedge": date[rows[0]] + 61 * DAY}

    def call(row: int, which: str, is_call: bool = True) -> tuple[float, float, float]:
        tau = (expiry[which] - date[row]).astype(int) / 365
        return black(spot[row], strike, tau, vol[row], 0.05, is_call)

    # An account A of cash alone, and what it holds beside: -V at the start, so that position and account are worth 0.
    held = np.zeros(2)  # underlying, option
    straddle = {row: np.add(call(row, "position"), call(row, "position", False)) for row in rows}
    cash = -straddle[rows[0]][0]
    for i, (row, following) in enumerate(pairwise(rows)):
        price, delta, vega = call(row, "hedge")
        ratio = straddle[row][2] / vega
        wanted = np.array([-(straddle[row][1] - ratio * delta), -ratio])
        unit = np.array([spot[row], price])
        cost = np.abs(wanted - held) @ np.array([2e-4 * spot[row], 0.003 * vega])
        cash -= (wanted - held) @ unit + cost
        held = wanted
        cash *= np.exp(0.05 * (date[following] - date[row]).astype(int) / 365)
        then = call(following, "hedge")
        worth = straddle[following][0] + cash + held @ np.array([spot[following], then[0]])
        if following == rows[-1]:
            worth -= np.abs(held) @ np.array([2e-4 * spot[following], 0.003 * then[2]])
        np.testing.assert_allclose(one["net_cumulative_error"][i], 1e4 * worth / strike, rtol=1e-9, atol=1e-8)
    assert len(rows) > 5
    assert float(one["cost"].sum()) > 0


def test_gross_net_and_cumulative_errors_are_of_one_account() -> None:
    history = make_history(rate=0.3)
    found = run(history, {"one": HedgeArm("regression"), "none": HedgeArm("none")}, [Underlying(), CALL], costs=Costs())
    np.testing.assert_allclose(found["net_error"], found["error"] - found["cost"])
    days = (found["date"].values - found["as_of"].values) / DAY
    growth = np.exp(0.3 * days / 365)
    new = np.append(True, np.diff(found["position"].values) != 0)
    for name in ("error", "net_error"):
        total = found[name.replace("error", "cumulative_error")]
        before = np.where(new, 0.0, total.shift(date=1))
        np.testing.assert_allclose(found[name], total - growth * before, atol=1e-9)


def test_cash_earns_interest_over_weekends() -> None:
    history = make_history(rate=0.3)
    found = run(history, {"none": HedgeArm("none")}, [Underlying()]).sel(arm="none")
    days = (found["date"].values - found["as_of"].values) / DAY
    assert set(days) == {1.0, 3.0}
    financed = found["portfolio_change"] - (np.exp(0.3 * days / 365) - 1) * found["portfolio_value"]
    np.testing.assert_allclose(found["error"], 1e4 * financed / found["entry_spot"], rtol=1e-10)


@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_a_position_in_its_own_instruments_is_replicated_without_error(rate: float) -> None:
    history = make_history(rate=rate)
    position = RolledPosition(Portfolio([(CALL, 2.0), (Underlying(), -3.0)]), until_days=40)
    offered = HedgeInstruments([Underlying(), CALL], exclude_held=False)
    found = run(history, {"regression": HedgeArm("regression")}, offered, position=position)
    np.testing.assert_allclose(found["ratio"].sel(arm="regression"), [[-3.0, 2.0]] * found.sizes["date"], atol=1e-8)
    assert np.abs(found["error"]).max() < 1e-6  # basis points
    assert np.abs(found["cumulative_error"]).max() < 1e-6


def test_trading_costs_are_paid_on_changes_only_and_on_what_is_dropped() -> None:
    account = Account()
    a, b = (np.datetime64("2022-05-02"), 100.0, True), (np.datetime64("2022-05-02"), 110.0, True)
    unit = np.array([0.5, 0.25])
    assert account.trade([None, a], np.array([2.0, -4.0]), unit, np.array([100.0, 3.0])) == (2.0, 212.0, 12.0)
    assert account.holding([a, b, None]).tolist() == [-4.0, 0.0, 2.0]
    assert account.trade([None, a], np.array([2.0, -4.0]), unit, np.array([90.0, 4.0])) == (0.0, 0.0, 0.0)
    # a is no longer offered: its 4 units are sold at the last known 0.25; 1 unit of b is bought at 0.1
    cost, turnover, options = account.trade(
        [None, b], np.array([2.0, 1.0]), np.array([0.5, 0.1]), np.array([90.0, 2.0])
    )
    assert (cost, turnover, options) == pytest.approx((1.1, 18.0, 18.0))
    assert account.holding([a, b]).tolist() == [0.0, 1.0]


# ---------------------------------------------------------------------------------------------- no look-ahead
@pytest.mark.parametrize("known", [62, 63])  # two, so that learning a day ahead every other evening is seen
def test_nothing_later_enters_a_hedge(known: int) -> None:
    history = make_history(75)
    arms = {
        "ridge": HedgeArm("ridge", "learning", "several"),
        "chosen": HedgeArm("regression", "learning", "several", select="lasso"),
        "sqrt": HedgeArm("delta-vega-sqrt", "historical", "one"),
        "aware": HedgeArm("ridge", "historical", "several", cost_aware=True, weighted=True),
    }
    sets = {
        "one": HedgeInstruments([Underlying(), CALL]),
        "several": HedgeInstruments(
            lambda day, _: [
                Underlying(), *(Option("put", strike=k * day.spot, tau=61 / 365) for k in (0.9, 0.95, 1.0)),
            ],
            renew="day",
        ),
    }  # fmt: skip
    options = {
        "generators": {"historical": "bootstrap", "learning": ("bootstrap", {"window": 25})}, "refit_every": "month",
        "update_every": 1, "costs": Costs(),
    }  # fmt: skip
    options["first"] = history["date"].values[56]
    base = run(history, arms, sets, **options)
    rng = np.random.default_rng(0)
    later = history.copy(deep=True)
    later["implied_vol"][known + 1 :] *= np.exp(0.3 * rng.standard_normal((75 - known - 1, TAU.size, 1)))
    later["spot"][known + 1 :] *= np.exp(0.1 * rng.standard_normal(75 - known - 1))
    later["log_return"][known + 1 :] = np.diff(np.log(later["spot"].values))[known:]
    later["forward"][known + 1 :] = later["spot"].values[known + 1 :, None]
    changed = run(later, arms, sets, **options)
    as_of = history["date"].values[known]
    for name in ("ratio", "n_options", "r_squared", "strike", "portfolio_value"):
        before = [one[name].isel(date=one["as_of"].values <= as_of) for one in (base, changed)]
        xr.testing.assert_identical(*(x.drop_vars([c for c in x.coords if c == "entry_spot"]) for x in before))
    past = [one["error"].isel(date=one["date"].values <= as_of).values for one in (base, changed)]
    np.testing.assert_array_equal(*past)
    after = [one["ratio"].isel(date=one["as_of"].values > as_of).values for one in (base, changed)]
    assert not np.allclose(*after, equal_nan=True)


def test_the_ratios_are_those_of_the_verb_on_the_same_evening() -> None:
    history = make_history()
    costs = Costs(half_spread_vol=0.002, underlying=1e-4)
    arms = {
        "ridge": HedgeArm("ridge", options={"noise": 0.004}, weighted=True),
        "delta-vega": HedgeArm("vega-buckets"),
        "aware": HedgeArm("ridge", options={"cost_weight": 0.2}, cost_aware=True),
    }
    offered = [Underlying(), CALL, Option("put", strike_over_spot=0.9, tau=91 / 365)]
    found = run(history, arms, offered, costs=costs, update_every=None)
    day = found.isel(date=[0, 1])
    as_of = day["as_of"].values
    model = volscen.fit(history.sel(date=slice(None, as_of[0])), "bootstrap")
    book = Portfolio.straddle(strike=float(day["entry_spot"][0]), expiry=as_of[0].astype("datetime64[D]") + 91 * DAY)
    instruments = [
        Underlying(),
        *(
            Option(kind, strike=float(k), expiry=e.astype("datetime64[D]"))
            for kind, k, e in zip(
                ("call", "put"), day["strike"][0, 0, 1:].values, day["expiry"][0, 0, 1:].values, strict=True
            )
        ),
    ]
    held = None
    for i in range(2):
        for weighted, (label, arm) in zip((True, False, False), arms.items(), strict=True):
            cube = volscen.generate(
                model, history, as_of=as_of[i], n_scenarios=64, seed=0, dtype="float64",
                reweight="arbitrage" if weighted else None,
            )  # fmt: skip
            extra = dict(arm.options)
            if label == "aware":
                extra |= {"current": held, "half_spread_vol": [0, 0.002, 0.002], "proportional_cost": [1e-4, 0, 0]}
            elapsed = float((day["date"].values[i] - as_of[i]) / DAY)
            result = volscen.hedge(cube, book, instruments, method=arm.method, elapsed_days=elapsed, **extra)
            np.testing.assert_allclose(day["ratio"].sel(arm=label)[i], result["ratio"], rtol=1e-7, atol=1e-9)
        held = day["ratio"].sel(arm="aware")[i].values
    # the holding matters: without it the second evening's ratios differ
    free = volscen.hedge(
        cube, book, instruments, method="ridge", elapsed_days=elapsed, half_spread_vol=[0, 0.002, 0.002],
        proportional_cost=[1e-4, 0, 0], cost_weight=0.2,
    )  # fmt: skip
    assert not np.allclose(day["ratio"].sel(arm="aware")[1], free["ratio"], rtol=1e-3)


def test_pooled_scenarios_weigh_generators_equally() -> None:
    history = make_history()
    generators = {"all": "bootstrap", "recent": ("bootstrap", {"window": 20})}
    arms = {
        "pool": HedgeArm("regression", ("all", "recent")),
        "one": HedgeArm("regression", "all"),
        "other": HedgeArm("regression", "recent"),
        "twice": HedgeArm("regression", ("all", "all")),
        "slope": HedgeArm("min-variance-delta", ("all", "recent")),
    }
    found = run(history, arms, [Underlying()], generators=generators)
    phi = found["ratio"].isel(slot=0)
    np.testing.assert_allclose(phi.sel(arm="twice"), phi.sel(arm="one"), rtol=1e-9)
    low, high = (f(phi.sel(arm="one"), phi.sel(arm="other")) for f in (np.minimum, np.maximum))
    pool = phi.sel(arm="pool")
    assert ((pool > low - 0.05) & (pool < high + 0.05)).all()  # means of the two differ a little
    assert (np.abs(pool - phi.sel(arm="one")) > 1e-6).any()
    assert np.isfinite(phi.sel(arm="slope")).all()


# ------------------------------------------------------------------------------------------- rolling, selecting
def test_positions_are_rolled_without_overlap() -> None:
    history = make_history()
    found = run(history, {"none": HedgeArm("none")}, [Underlying()])
    assert found["date"].values.tolist() == history["date"].values[30:].tolist()
    for number in np.unique(found["position"].values):
        one = found.isel(date=found["position"].values == number)
        opened = one["as_of"].values[0]
        spot = history["spot"].sel(date=opened)
        assert float(one["entry_spot"][0]) == float(spot)
        remaining = 91 - (one["as_of"].values - opened) / DAY
        assert remaining.min() > 80
    assert np.unique(found["position"].values).size > 2


def test_an_option_held_to_expiry_pays_out() -> None:
    history = make_history(60)
    position = RolledPosition(Portfolio([Option("call", strike_over_spot=0.9, tau=12 / 365)]), until_days=0)
    found = run(history, {"none": HedgeArm("none")}, [Underlying()], position=position)
    one = found.isel(date=found["position"].values == 0)
    opened, last = one["as_of"].values[0], one["date"].values[-1]
    assert (last - opened) / DAY in (12, 13, 14)  # the first date on or after the expiry
    final = float(one["portfolio_value"][-1] + one["portfolio_change"][-1])
    strike = 0.9 * float(history["spot"].sel(date=opened))
    assert final == pytest.approx(max(float(history["spot"].sel(date=last)) - strike, 0))


def test_selection_is_made_at_opening_and_kept() -> None:
    history = make_history()
    strikes = [Option("put", strike_over_spot=k, tau=61 / 365) for k in (0.85, 0.9, 0.95, 1.0, 1.05)]
    arm = HedgeArm("regression", select="lasso", select_options={"alpha": 0.05})
    found = run(history, {"once": arm}, [Underlying(), *strikes])
    used = found["ratio"].sel(arm="once").values != 0
    for number in np.unique(found["position"].values):
        of_position = used[found["position"].values == number]
        assert (of_position == of_position[0]).all()
        assert 0 < of_position[0].sum() < 6
    assert found["n_options"].max() < 5


def test_options_that_the_position_holds_are_not_offered() -> None:
    same = HedgeInstruments([Underlying(), Option("call", strike_over_spot=1.0, tau=91 / 365), CALL])
    found = run(make_history(), {"a": HedgeArm("ridge")}, same)
    assert (found["kind"].values == [[[0, 1]]]).all()  # one call is left
    assert ((found["expiry"][0, :, 1] - found["as_of"]) < np.timedelta64(62, "D")).all()


def test_other_surfaces_or_a_function_price_the_contracts() -> None:
    history = make_history(flat=True)
    arms, offered = {"delta-vega": HedgeArm("delta-vega")}, [Underlying(), CALL]
    base = run(history, arms, offered)
    level = dict(
        zip(history["date"].values.astype("datetime64[D]"), history["implied_vol"].values[:, 0, 0], strict=True)
    )
    by_function = run(history, arms, offered, market=lambda date, tau, moneyness: np.full(tau.shape, level[date]))
    by_history = run(history, arms, offered, market=history.isel(tau=[0, 2, 4], moneyness=[0, 3, 6]))
    for other in (by_function, by_history):
        np.testing.assert_allclose(other["error"], base["error"], atol=1e-8)
    shifted = run(history, arms, offered, market=lambda date, tau, moneyness: np.full(tau.shape, level[date] + 0.05))
    assert (shifted["portfolio_value"] > base["portfolio_value"]).all()


# --------------------------------------------------------------------------------------------- real contracts
def make_quotes(history: xr.Dataset, *, noise: float = 0.0) -> pd.DataFrame:
    """Closing prices of four expiries by eleven strikes, off the surface with errors of their own."""
    from volscen.surface import interpolate_vol

    rng = np.random.default_rng(5)
    rows = []
    expiries = pd.to_datetime(["2022-03-16", "2022-04-20", "2022-05-18", "2022-06-15"])
    for i, date in enumerate(history["date"].values):
        spot = float(history["spot"][i])
        for expiry in expiries:
            tau = (expiry - pd.Timestamp(date)).days / 365
            if tau <= 6 / 365:
                continue
            for strike in np.arange(80.0, 121.0, 4.0):
                vol = interpolate_vol(
                    history["implied_vol"].values[i], TAU, MONEYNESS, np.array([tau]), np.array([strike / spot])
                )
                vol = float(vol[0]) * np.exp(noise * rng.standard_normal())
                for kind in "CP":
                    price = float(volscen.black.price(spot, strike, tau, vol, kind == "C"))
                    rows.append((date, expiry, strike, kind, price, False))
    return pd.DataFrame(rows, columns=["date", "expiry", "strike", "option_type", "price", "adjusted"])


@pytest.fixture(scope="module")
def market() -> tuple[xr.Dataset, pd.DataFrame]:
    history = make_history(50)
    return history, make_quotes(history, noise=0.01)


def second_expiry(day: Any) -> Portfolio | None:
    if day.expiries.size < 2:
        return None
    strikes = day.strikes(day.expiries[1])
    strike = float(strikes[np.argmin(np.abs(strikes - day.spot))])
    return Portfolio.straddle(strike=strike, expiry=day.expiries[1])


def next_expiry(day: Any, position: OpenPosition) -> list[Any]:
    later = day.expiries[day.expiries > position.expiry][0]
    strikes = sorted(day.strikes(later), key=lambda k: abs(k - day.spot))[:3]
    return [Underlying(), *(Option("call", strike=k, expiry=later) for k in strikes)]


def test_real_contracts_are_followed_at_their_closes(market: tuple[xr.Dataset, pd.DataFrame]) -> None:
    history, quotes = market
    position = RolledPosition(second_expiry, until_days=40)
    sets = {"next": HedgeInstruments(next_expiry, renew="day")}
    found = run(history, {"ridge": HedgeArm("ridge"), "none": HedgeArm("none")}, sets, position=position, market=quotes)
    close = quotes.set_index(["date", "expiry", "strike", "option_type"])["price"]
    for i in range(found.sizes["date"]):
        day = found.isel(date=i)
        now, then = day["as_of"].values, day["date"].values
        ratio, kind = day["ratio"].sel(arm="ridge").values, day["kind"][0].values
        gain = 0.0
        for slot in range(4):
            if kind[slot] == 0:
                gain += ratio[slot] * float(history["spot"].sel(date=then) - history["spot"].sel(date=now))
            else:
                key = pd.Timestamp(day["expiry"][0].values[slot]), float(day["strike"][0].values[slot]), "C"
                gain += ratio[slot] * (close[(then, *key)] - close[(now, *key)])
        left = float(day["portfolio_change"]) - gain
        assert float(day["error"].sel(arm="ridge")) == pytest.approx(1e4 * left / float(day["entry_spot"]), abs=1e-8)
    assert found.sizes["date"] == 20
    assert found.attrs["market"].endswith("rows dropped: none")
    assert float((found["error"] ** 2).mean("date")[0]) < 0.4 * float((found["error"] ** 2).mean("date")[1])


def test_contracts_named_relatively_are_the_nearest_listed(market: tuple[xr.Dataset, pd.DataFrame]) -> None:
    history, quotes = market
    offered = [Underlying(), Option("put", strike_over_spot=0.951, tau=61 / 365)]
    found = run(history, {"a": HedgeArm("delta-vega")}, offered, position=STRADDLE, market=quotes)
    listed = np.arange(80.0, 121.0, 4.0)
    spot = float(history["spot"].sel(date=found["as_of"].values[0]))
    assert float(found["strike"][0, 0, 1]) == listed[np.argmin(np.abs(listed - 0.951 * spot))]
    assert found["kind"][0, 0].values.tolist() == [0, 2]


def test_a_contract_the_next_date_does_not_quote_is_not_traded(market: tuple[xr.Dataset, pd.DataFrame]) -> None:
    history, quotes = market
    position = RolledPosition(second_expiry, until_days=40)
    sets = {"next": HedgeInstruments(next_expiry)}
    arms = {"ridge": HedgeArm("ridge")}
    base = run(history, arms, sets, position=position, market=quotes)
    missing = base["date"].values[3]
    gone = float(base["strike"][0, 3, 1]), base["expiry"][0, 3, 1].values
    hole = (quotes["date"] == missing) & (quotes["strike"] == gone[0]) & (quotes["expiry"] == gone[1])
    found = run(history, arms, sets, position=position, market=quotes[~hole])
    assert gone[0] in base["strike"][0, 3].values
    assert gone[0] not in found["strike"][0, 3].values
    held = float(base["portfolio_value"][3])
    assert float(found["portfolio_value"][3]) == pytest.approx(held)
    # without quotes of the position itself, the position is closed and another is opened
    own = (quotes["date"] == missing) & (quotes["expiry"] == pd.Timestamp("2022-04-20"))
    rolled = run(history, arms, sets, position=position, market=quotes[~own])
    assert rolled["position"].values[3] != rolled["position"].values[2] or rolled.sizes["date"] < base.sizes["date"]


def test_a_strike_listed_anew_after_a_dividend_is_another_contract(market: tuple[xr.Dataset, pd.DataFrame]) -> None:
    history, quotes = market
    position = RolledPosition(second_expiry, until_days=40)
    arms, sets = {"none": HedgeArm("none")}, [Underlying()]
    base = run(history, arms, sets, position=position, market=quotes)
    ex_date = base["date"].values[5]
    before = quotes["date"] < ex_date
    altered = quotes[~before].assign(strike=lambda q: 0.98 * q["strike"], adjusted=True)
    anew = quotes[~before]  # the round strikes are listed again
    found = run(history, arms, sets, position=position, market=pd.concat([quotes[before], altered, anew]))
    assert ex_date not in found["date"].values
    assert base["date"].values[4] in found["date"].values
    assert base["date"].values[6] in found["date"].values
    assert found.attrs["days_without_position"] == 1
    # an altered contract without a quote on one date, quoted again on the next, is no other dividend
    later = base["date"].values[7]
    hole = (altered["date"] == later) & (altered["strike"] == altered["strike"].min())
    again = run(history, arms, sets, position=position, market=pd.concat([quotes[before], altered[~hole], anew]))
    np.testing.assert_array_equal(again["date"], found["date"])
    named = run(history, arms, sets, market=pd.concat([quotes[before], altered, anew]))
    assert ex_date not in named["date"].values


# -------------------------------------------------------------------------------------------- runs and results
def test_workers_and_restarts_change_no_bit(tmp_path: Any) -> None:
    history = make_history()
    arms = {"ridge": HedgeArm("ridge"), "delta": HedgeArm("delta")}
    offered = [Underlying(), CALL, Option("put", strike_over_spot=0.9, tau=91 / 365)]
    options: dict[str, Any] = {
        "generators": {"recent": ("bootstrap", {"window": 25})},
        "refit_every": "month",
        "costs": Costs(),
    }
    base = run(history, arms, offered, **options)
    xr.testing.assert_identical(base, run(history, arms, offered, num_workers=2, **options))
    run(history, arms, offered, folder=tmp_path, **options)
    kept = sorted(tmp_path.glob("block-*.nc"))
    kept[0].unlink()
    again = run(history, arms, offered, folder=tmp_path, **options)
    xr.testing.assert_allclose(base, again, rtol=1e-14)
    with pytest.raises(InputError, match="another walk: costs"):
        run(history, arms, offered, folder=tmp_path, **(options | {"costs": FREE}))


def test_rules_and_markets_are_told_apart_when_a_run_goes_on(
    tmp_path: Any, market: tuple[xr.Dataset, pd.DataFrame]
) -> None:
    history, quotes = market
    dates = history["date"].values
    position = RolledPosition(second_expiry, until_days=40)
    options: dict[str, Any] = {"position": position, "first": dates[30], "last": dates[32], "folder": tmp_path}

    def offering(count: int) -> Any:
        return HedgeInstruments(lambda day, held: next_expiry(day, held)[:count], renew="day")

    arms = {"a": HedgeArm("ridge")}
    base = run(history, arms, offering(3), market=quotes, **options)
    assert " at 0x" not in str(base.attrs)
    xr.testing.assert_allclose(base, run(history, arms, offering(3), market=quotes, **options))
    with pytest.raises(InputError, match="another walk: instruments_first"):
        run(history, arms, offering(2), market=quotes, **options)
    with pytest.raises(InputError, match="another walk: market"):
        run(history, arms, offering(3), market=quotes.assign(price=quotes["price"] * (1 + 1e-9)), **options)


def test_the_table_compares_with_a_baseline() -> None:
    history = make_history(60)
    arms = {"none": HedgeArm("none"), "delta-vega": HedgeArm("delta-vega")}
    found = run(history, arms, [Underlying(), CALL], costs=Costs())
    gross, net = (backtest_table(found, baseline="none", net=net) for net in (False, True))
    error = found["error"].sel(arm="delta-vega").values
    assert gross.loc["delta-vega", "rmse"] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert gross.loc["delta-vega", "rmse_ratio"] < 0.6
    assert net.loc["delta-vega", "mean"] == pytest.approx(
        error.mean() - float(found["cost"].sel(arm="delta-vega").mean())
    )
    assert net.loc["none", "cost"] == 0
    assert gross.loc["delta-vega", "largest_ratio"] == float(found["largest_ratio"].sel(arm="delta-vega").max())
    with pytest.raises(InputError, match="at least 20"):
        backtest_table(found, baseline="none", by="position")
    with pytest.raises(InputError, match="by must be"):
        backtest_table(found, baseline="none", by="week")  # type: ignore[arg-type]


def test_results_can_be_written_and_read(tmp_path: Any) -> None:
    found = run(make_history(), {"none": HedgeArm("none")}, [Underlying(), CALL])
    found.to_netcdf(tmp_path / "found.nc")
    with xr.open_dataset(tmp_path / "found.nc") as read:
        np.testing.assert_array_equal(read["error"], found["error"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": {"a": HedgeArm("delta", "nobody")}}, "no generator 'nobody'"),
        ({"arms": {"a": HedgeArm("delta", None, "nothing")}}, "no instruments 'nothing'"),
        ({"arms": {"a": HedgeArm("magic")}}, "unknown method 'magic'"),
        ({"arms": {}}, "arms must be"),
        ({"arms": {"a": "delta"}}, "must be a HedgeArm"),
        ({"arms": {"a": HedgeArm("delta-vega", options={"noise": 0.1})}}, "noise applies to"),
        ({"instruments": {}}, "instruments is empty"),
        ({"instruments": [volscen.portfolio.Forward(moneyness=1.0, tau=0.25)]}, "a backtest takes"),
        ({"position": Portfolio.straddle(moneyness=1.0, tau=0.2)}, "RolledPosition"),
        ({"position": RolledPosition(lambda day: None)}, "no position could be opened"),
        ({"generators": ()}, "generators is empty"),
        ({"generators": {"b": ("bootstrap", {}, 1)}}, "generator 'b' must be"),
        ({"costs": 0.1}, "costs must be"),
        ({"instruments": HedgeInstruments(lambda day, position: 5)}, "must return a list"),
        ({"market": 3}, "market must be"),
        ({"market": lambda date, tau, moneyness: np.full(tau.shape, np.nan)}, "one finite volatility"),
        ({"n_scenarios": 1}, "n_scenarios"),
        ({"num_workers": 0}, "num_workers"),
        ({"first": "2031-01-01", "last": "2031-02-01"}, "no date"),
    ],
)
def test_bad_input_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"arms": {"a": HedgeArm("delta-vega")}, "instruments": [Underlying(), CALL]} | change
    with pytest.raises(InputError, match=message):
        run(make_history(35), given.pop("arms"), given.pop("instruments"), **given)


def test_bad_plans_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="half_spread_vol"):
        Costs(half_spread_vol=-0.1)
    with pytest.raises(InputError, match="until_days"):
        RolledPosition(Portfolio.straddle(moneyness=1.0, tau=0.2), until_days=-1)
    with pytest.raises(InputError, match="renew"):
        HedgeInstruments([Underlying()], renew="hour")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="instruments must be a list"):
        HedgeInstruments([])
    with pytest.raises(InputError, match="options may hold"):
        HedgeArm("ridge", options={"half_spread": 0.1})
    with pytest.raises(InputError, match="holds no option"):
        run(
            make_history(35),
            {"a": HedgeArm("none")},
            [Underlying()],
            position=RolledPosition(Portfolio([Underlying()])),
        )

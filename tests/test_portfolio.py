"""Instruments, portfolios and their revaluation against QuantLib, closed forms and hand-worked cases."""

from __future__ import annotations

import re
from datetime import date

import numpy as np
import pandas as pd
import pytest
import QuantLib as ql
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from scenario_toys import MONEYNESS, TAU, make_scenarios, skewed_surface
from volscen import Forward, Option, Portfolio, Underlying
from volscen.errors import InputError
from volscen.portfolio import RevaluationWarning, instruments_from_table, resolve, revalue
from volscen.portfolio._revalue import VOL_FLOOR
from volscen.surface import interpolate_vol, regrid


def black_price(forward, strike, tau, vol, is_call=True, discount=1.0):
    kind = ql.Option.Call if is_call else ql.Option.Put
    return ql.blackFormula(kind, float(strike), float(forward), float(vol * np.sqrt(tau)), float(discount))


def surface_vol(surface, tau, moneyness):
    """Independent statement of the interpolation rule."""
    if tau <= TAU[0] or tau >= TAU[-1]:
        node = surface[0 if tau <= TAU[0] else -1]
    else:
        node = [np.sqrt(np.interp(tau, TAU, surface[:, i] ** 2 * TAU) / tau) for i in range(MONEYNESS.size)]
    return np.interp(np.log(moneyness), np.log(MONEYNESS), node)


# ------------------------------------------------------------------------------------------- instruments
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"option_type": "straddle", "strike": 1, "tau": 1}, "option_type"),
        ({"tau": 1}, "exactly one of strike.*given: none"),
        ({"strike": 1, "moneyness": 1, "tau": 1}, "given: strike, moneyness"),
        ({"strike": 1}, "exactly one of expiry, tau"),
        ({"strike": 1, "tau": 1, "expiry": "2024-03-01"}, "given: expiry, tau"),
        ({"strike": -1, "tau": 1}, "strike must be positive"),
        ({"strike": np.nan, "tau": 1}, "strike must be finite"),
        ({"strike": "x", "tau": 1}, "strike must be a number"),
        ({"moneyness": 0, "tau": 1}, "moneyness"),
        ({"strike": 1, "tau": 0}, "tau must be positive"),
        ({"strike": 1, "tau": np.inf}, "tau must be finite"),
        ({"strike": 1, "tau": 1, "implied_vol": -0.2}, "implied_vol"),
        ({"strike": 1, "expiry": "tomorrow"}, "expiry"),
        ({"strike": 1, "expiry": "2025"}, "expiry must be a date"),
        ({"strike": 1, "expiry": 20240}, "expiry must be a date"),
        ({"strike": 1, "expiry": pd.Timestamp("2024-06-21 23:00", tz="America/New_York")}, "expiry bears a time zone"),
        ({"strike": 1, "expiry": np.datetime64("NaT", "D")}, "NaT"),
        ({"delta": -0.25, "tau": 1}, "delta of a call"),
        ({"delta": 25, "tau": 1}, "delta"),
        ({"option_type": "put", "delta": 0, "tau": 1}, "delta of a put"),
    ],
)
def test_bad_option(arguments, message):
    arguments = {"option_type": "call"} | arguments
    with pytest.raises(InputError, match=message):
        Option(arguments.pop("option_type"), **arguments)


def test_expiry_in_any_form_is_the_same_contract():
    forms = (
        "2024-03-15",
        20240315,
        "20240315",
        np.int64(20240315),
        date(2024, 3, 15),
        np.datetime64("2024-03-15"),
        pd.Timestamp("2024-03-15"),
    )
    assert len({Option("call", strike=100, expiry=form) for form in forms}) == 1


def test_strikes_and_maturities_resolve_against_the_start():
    ds = make_scenarios(5, spot0=250.0, rate=0.03, dividend=0.01)
    tau = 121 / 365
    forward = 250 * np.exp(0.02 * tau)
    by_strike = resolve(Option("put", strike=230, expiry="2024-05-10"), ds)  # 121 days after 2024-01-10
    assert by_strike.tau == pytest.approx(tau, rel=1e-15)
    assert by_strike.strike == 230
    assert by_strike.implied_vol == pytest.approx(surface_vol(skewed_surface(), tau, 230 / forward), rel=1e-12)
    assert resolve(Option("put", moneyness=0.95, tau=tau), ds).strike == pytest.approx(0.95 * forward, rel=1e-12)
    assert resolve(Option("put", strike_over_spot=0.95, tau=tau), ds).strike == pytest.approx(0.95 * 250, rel=1e-15)
    own = resolve(Option("put", strike=230, tau=tau, implied_vol=0.33), ds)
    assert own.implied_vol == 0.33
    assert resolve(own, ds) == own
    assert resolve(Underlying(), ds) == Underlying()


@settings(max_examples=30)
@given(
    size=st.floats(0.01, 0.99),
    tau=st.floats(0.02, 1.5),
    call=st.booleans(),
    own=st.none() | st.floats(0.05, 0.9),
    skew=st.floats(-0.4, 0.4),
)
def test_strike_by_delta(size, tau, call, own, skew):
    ds = make_scenarios(2, rate=0.04, surface0=skewed_surface(skew=skew))
    option = Option("call" if call else "put", delta=size, tau=tau, implied_vol=own)
    found = resolve(option, ds)
    forward = 100 * np.exp(0.04 * tau)
    vol = surface_vol(skewed_surface(skew=skew), tau, found.strike / forward) if own is None else own
    d1 = np.log(forward / found.strike) / (vol * np.sqrt(tau)) + vol * np.sqrt(tau) / 2
    assert norm.cdf(d1 if call else -d1) == pytest.approx(size, abs=1e-9)


def test_delta_of_a_put_has_one_meaning_with_either_sign():
    assert Option("put", delta=0.25, tau=1) == Option("put", delta=-0.25, tau=1)


def test_expired_option_is_refused():
    with pytest.raises(InputError, match="expired at as_of 2024-01-10"):
        resolve(Option("call", strike=100, expiry="2024-01-10"), make_scenarios(5))


# -------------------------------------------------------------------------------------------- portfolios
def test_portfolio_holds_quantities():
    put = Option("put", strike=90, tau=0.5)
    book = Portfolio([put, (Underlying(), -3)]) + Portfolio.straddle(strike=100, tau=0.5, quantity=2)
    assert book.quantities == (1.0, -3.0, 2.0, 2.0)
    assert book.instruments[:2] == (put, Underlying())
    assert [i.option_type for i in book.instruments[2:]] == ["call", "put"]
    assert len(Portfolio(put)) == 1


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([], "empty"),
        (5, "must be a list"),
        ({Underlying(): 5.0}, "not a mapping"),
        ([("call", 1)], "each position"),
        ([(Underlying(), np.nan)], "quantity of underlying must be finite"),
        ([(Underlying(), "many")], "quantity of underlying must be a number"),
        ([(Underlying(), 1, 2)], "each position"),
    ],
)
def test_bad_portfolio(positions, message):
    with pytest.raises(InputError, match=message):
        Portfolio(positions)


def test_bad_straddle():
    with pytest.raises(InputError, match="one strike"):
        Portfolio.straddle(delta=0.25, tau=1)
    with pytest.raises(InputError, match="straddle"):
        Portfolio.straddle(strikes=100, tau=1)


def test_tables(tmp_path):
    frame = pd.DataFrame(
        {
            "type": ["call", "P", "underlying"],
            "strike": [100.0, np.nan, np.nan],
            "delta": [np.nan, -0.25, np.nan],
            "expiry": [None, "2024-06-21", None],
            "tau": [0.5, np.nan, np.nan],
            "quantity": [1, -2, 0.5],
            "implied_vol": [0.2, np.nan, np.nan],
        }
    )
    expected = Portfolio(
        [
            (Option("call", strike=100, tau=0.5, implied_vol=0.2), 1),
            (Option("put", delta=-0.25, expiry="2024-06-21"), -2),
            (Underlying(), 0.5),
        ]
    )
    frame.to_csv(tmp_path / "book.csv", index=False)
    frame.assign(expiry=pd.to_datetime(frame["expiry"])).to_parquet(tmp_path / "book.parquet")
    assert Portfolio.from_table(frame) == expected
    assert Portfolio.from_table(tmp_path / "book.csv") == expected
    assert Portfolio.from_table(str(tmp_path / "book.parquet")) == expected
    assert tuple(instruments_from_table(frame.drop(columns="quantity"))) == expected.instruments


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantity": None}, "no column quantity"),
        ({"type": None}, "no column type"),
        ({"price": [1.0, 2.0]}, "unknown columns price"),
        ({"type": ["call", "swap"]}, "line 2.*'swap'"),
        ({"type": ["call", None]}, "line 2.*type is empty"),
        ({"type": ["underlying", "call"]}, "line 1.*takes no strike, tau"),
        ({"quantity": [1.0, np.nan]}, "line 2.*quantity is empty"),
        ({"quantity": [1.0, "two"]}, "line 2.*quantity must be a number"),
        ({"strike": [100.0, np.nan]}, "line 2.*exactly one of strike"),
        ({"tau": [-1.0, 1.0]}, "line 1.*tau must be positive"),
    ],
)
def test_bad_table(change, message):
    columns = {
        "type": ["call", "put"],
        "strike": [100.0, 90.0],
        "tau": [0.5, 0.5],
        "quantity": [1.0, 2.0],
    } | change
    frame = pd.DataFrame({name: values for name, values in columns.items() if values is not None})
    with pytest.raises(InputError, match=message):
        Portfolio.from_table(frame)


def test_dates_as_integers_in_tables(tmp_path):
    """A column of integers, of floats because a cell is empty, and text: never days since 1970."""
    (tmp_path / "book.csv").write_text("type,strike,expiry,quantity\nput,90,20250601,1\n\nunderlying,,,2\n")
    expected = Portfolio([(Option("put", strike=90, expiry="2025-06-01"), 1), (Underlying(), 2)])
    assert Portfolio.from_table(tmp_path / "book.csv") == expected
    frame = pd.DataFrame(
        {"type": ["put", "u"], "strike": [90, np.nan], "expiry": [20250601, np.nan], "quantity": [1, 2]}
    )
    assert Portfolio.from_table(frame) == expected
    frame.to_parquet(tmp_path / "book.parquet")
    assert Portfolio.from_table(tmp_path / "book.parquet") == expected
    with pytest.raises(InputError, match=r"line 1.*expiry bears a time zone"):
        Portfolio.from_table(frame.assign(expiry=pd.Timestamp("2025-06-01", tz="UTC")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("put,90,.25,1,7\n", "line 2 of .*5 cells where the header has 4"),
        ("put,90,.25\n", "line 2 of .*3 cells where the header has 4"),
        ("put,90,.25,1\n\nput,-1,.25,1\n", "line 4 of .*strike must be positive"),
        ("put,90,.25,\n", "line 2 of .*quantity is empty"),
        (",90,.25,1\n", "line 2 of .*type is empty"),
        ("", "no lines"),
    ],
)
def test_lines_of_a_file_count_its_header(tmp_path, text, message):
    (tmp_path / "book.csv").write_text("type,strike,tau,quantity\n" + text)
    with pytest.raises(InputError, match=message):
        Portfolio.from_table(tmp_path / "book.csv")


def test_unreadable_table(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "twice.csv").write_text("type,tau,tau\n")
    for table, message in (
        (tmp_path / "empty.csv", "is empty"),
        (tmp_path / "twice.csv", "column tau twice"),
        (None, "table must be a path or a pandas DataFrame, not NoneType"),
    ):
        with pytest.raises(InputError, match=message):
            Portfolio.from_table(table)
    (tmp_path / "bad.parquet").write_text("no parquet")
    for path, message in (("no.csv", "no.csv"), ("bad.parquet", "bad.parquet"), ("book.xlsx", "must end in")):
        with pytest.raises(InputError, match=message):
            Portfolio.from_table(tmp_path / path)
    with pytest.raises(InputError, match="no lines"):
        Portfolio.from_table(pd.DataFrame({"type": [], "quantity": []}))


# ------------------------------------------------------------------------------------------- revaluation
@pytest.fixture
def evaluation_date():
    settings_ = ql.Settings.instance()
    before = settings_.evaluationDate
    yield settings_
    settings_.evaluationDate = before


def quantlib_option(option, spot, vol, today, rate_nodes, dividend_nodes):
    """Analytic European engine on log-linear discount curves with nodes at days after today."""
    day_count = ql.Actual365Fixed()

    def curve(nodes):
        dates = [today + int(d) for d in nodes]
        return ql.YieldTermStructureHandle(ql.DiscountCurve(dates, list(nodes.values()), day_count))

    process = ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(spot)),
        curve(dividend_nodes),
        curve(rate_nodes),
        ql.BlackVolTermStructureHandle(ql.BlackConstantVol(today, ql.NullCalendar(), vol, day_count)),
    )
    kind = ql.Option.Call if option.is_call else ql.Option.Put
    found = ql.VanillaOption(
        ql.PlainVanillaPayoff(kind, option.strike),
        ql.EuropeanExercise(today + round(option.tau * 365)),
    )
    found.setPricingEngine(ql.AnalyticEuropeanEngine(process))
    return found


def test_values_and_greeks_against_quantlib(evaluation_date):
    rates, dividends = np.array([0.01, 0.02, 0.035, 0.05]), np.array([0.0, 0.04, 0.01, 0.02])
    ds = make_scenarios(12, steps=2, seed=5)
    discount, payout = np.exp(-rates * TAU), np.exp(-dividends * TAU)
    ds["discount_factor0"][:] = discount
    ds["forward0"][:] = 100 * payout / discount
    days = np.r_[0, np.round(TAU * 365)]
    rate_nodes, dividend_nodes = (
        dict(zip(days, np.r_[1, discount], strict=True)),
        dict(zip(days, np.r_[1, payout], strict=True)),
    )
    options = [
        Option("call", strike=95, tau=61 / 365, implied_vol=0.3),
        Option("put", strike=104, tau=150 / 365),
        Option("call", strike=120, tau=300 / 365),
        Option("put", strike=90, tau=20 / 365, implied_vol=0.18),
    ]
    out = revalue(ds, options)
    assert list(out.elapsed_days.values) == [1, 2]
    surface0 = ds.implied_vol0.values

    def forward_over_spot(tau):
        return np.exp(np.interp(tau, np.r_[0, TAU], np.r_[0, np.log(payout / discount)]))

    today = ql.Date(10, 1, 2024)
    for i, option in enumerate(options):
        m0 = option.strike / (100 * forward_over_spot(option.tau))
        before = surface_vol(surface0, option.tau, m0)
        vol0 = option.implied_vol or before
        evaluation_date.evaluationDate = today
        reference = quantlib_option(option, 100.0, vol0, today, rate_nodes, dividend_nodes)
        assert float(out.value0[i]) == pytest.approx(reference.NPV(), rel=1e-10)
        assert float(out.delta[i]) == pytest.approx(reference.delta(), rel=1e-10)
        assert float(out.vega[i]) == pytest.approx(reference.vega(), rel=1e-10)
        for step in (0, 1):
            later = today + step + 1
            evaluation_date.evaluationDate = later
            rest = option.tau - (step + 1) / 365
            for scenario in range(12):
                spot = float(ds.spot[scenario, step])
                surface = ds.implied_vol.values[scenario, step]
                vol = vol0 + surface_vol(surface, rest, option.strike / (spot * forward_over_spot(rest))) - before
                live = Option(option.option_type, strike=option.strike, tau=rest)
                reference = quantlib_option(live, spot, vol, later, rate_nodes, dividend_nodes)
                assert float(out.value[scenario, step, i]) == pytest.approx(reference.NPV(), rel=1e-9)


def test_increments_are_interpolated_and_levels_kept():
    # A surface moved in parallel by 2 points moves a contract at its own volatility by 2 points.
    surface0 = np.full((4, 7), 0.2)
    ds = make_scenarios(1, surface0=surface0, implied_vol=np.full((1, 1, 4, 7), 0.22), log_return=np.zeros((1, 1)))
    out = revalue(ds, [Option("put", strike=97, tau=0.4, implied_vol=0.35)], elapsed_days=0)
    assert out.value.item() == pytest.approx(black_price(100, 97, 0.4, 0.37, is_call=False), rel=1e-12)
    assert out.value0.item() == pytest.approx(black_price(100, 97, 0.4, 0.35, is_call=False), rel=1e-12)


def test_nothing_happens_when_nothing_happens():
    surface0 = skewed_surface()
    ds = make_scenarios(3, rate=0.05, implied_vol=np.broadcast_to(surface0, (3, 1, 4, 7)), log_return=np.zeros((3, 1)))
    instruments = [
        Option("call", moneyness=0.93, tau=0.3, implied_vol=0.25),
        Option("put", delta=0.1, tau=0.7),
    ]
    out = revalue(ds, [Underlying(), *instruments], elapsed_days=0)
    np.testing.assert_allclose(out.value[:, 0], np.broadcast_to(out.value0, (3, 3)), rtol=1e-13)


@settings(max_examples=25)
@given(strike=st.floats(60, 160), tau=st.floats(0.01, 2), rate=st.floats(-0.05, 0.1), dividend=st.floats(0, 0.08))
def test_put_call_parity_on_every_scenario(strike, tau, rate, dividend):
    ds = make_scenarios(20, rate=rate, dividend=dividend, seed=4)
    out = revalue(ds, [Option("call", strike=strike, tau=tau), Option("put", strike=strike, tau=tau)])
    rest = max(tau - 1 / 365, 0.0)
    forward = ds.spot.values * np.exp((rate - dividend) * rest)
    np.testing.assert_allclose(
        out.value[..., 0] - out.value[..., 1], np.exp(-rate * rest) * (forward - strike), rtol=1e-9, atol=1e-9
    )


def test_curves_keep_their_last_rate_beyond_the_grid():
    ds = make_scenarios(3, rate=0.04, dividend=0.01)
    forward = 100 * np.exp(0.03 * 3.0)
    out = revalue(ds, [Option("call", strike=110, tau=3.0, implied_vol=0.2)])
    assert out.value0.item() == pytest.approx(black_price(forward, 110, 3.0, 0.2, True, np.exp(-0.12)), rel=1e-12)
    assert out.extrapolated.item()


@pytest.mark.parametrize(
    ("as_of", "periods_per_year", "days"),
    [
        ("2024-01-10", 252, [1, 2, 5]),  # Wednesday: Thursday, Friday, Monday
        ("2024-01-12", 252, [3, 4, 5]),  # Friday: Monday, Tuesday, Wednesday
        ("2024-01-13", 252, [2, 3, 4]),  # Saturday counts as Friday's close
        ("2024-01-12", 365, [1, 2, 3]),  # a market that never closes
    ],
)
def test_elapsed_calendar_days(as_of, periods_per_year, days):
    ds = make_scenarios(2, steps=3, as_of=as_of, periods_per_year=periods_per_year)
    out = revalue(ds, [Underlying()])
    assert list(out.elapsed_days.values) == days
    assert list(revalue(ds.isel(step=[2]), [Underlying()]).elapsed_days.values) == days[2:]


@pytest.mark.parametrize(
    ("calendar", "as_of", "days"),
    [
        ("XNYS", "2024-01-12", [4, 5, 6]),  # Friday before Martin Luther King's day
        ("XNYS", "2024-07-03", [2, 5, 6]),  # Wednesday before Independence Day
        ("XSHG", "2024-02-08", [11, 12, 13]),  # Thursday before the new year's holidays: Monday the 19th
        ("weekdays", "2024-01-12", [3, 4, 5]),
        ("unspecified", "2024-01-12", [3, 4, 5]),
    ],
)
def test_elapsed_days_are_those_to_the_exchange_s_sessions(calendar, as_of, days):
    ds = make_scenarios(2, steps=3, as_of=as_of).assign_attrs(calendar=calendar)
    assert list(revalue(ds, [Underlying()]).elapsed_days.values) == days


def test_an_unknown_exchange_is_named():
    ds = make_scenarios(2).assign_attrs(calendar="the moon's")
    with pytest.raises(InputError, match=r"attribute calendar is .the moon's.*elapsed_days"):
        revalue(ds, [Underlying()])
    assert list(revalue(ds, [Underlying()], elapsed_days=1).elapsed_days.values) == [1]


@pytest.mark.parametrize("instruments", [Underlying(), None, "underlying", {Underlying(): 1.0}])
def test_instruments_are_a_list(instruments):
    with pytest.raises(InputError, match="instruments must be a list"):
        revalue(make_scenarios(2), instruments)


def test_intraday_steps_need_elapsed_days():
    ds = make_scenarios(2, periods_per_year=252 * 13)
    with pytest.raises(InputError, match="elapsed_days"):
        revalue(ds, [Underlying()])
    option = Option("call", strike=100, tau=0.5)
    out = revalue(ds, [option], elapsed_days=0.1)
    assert float(out.elapsed_days[0]) == 0.1


@pytest.mark.parametrize("days", [[1.0, 2.0], np.nan, -1.0])
def test_bad_elapsed_days(days):
    with pytest.raises(InputError, match="elapsed_days"):
        revalue(make_scenarios(2), [Underlying()], elapsed_days=days)
    with pytest.raises(InputError, match="not decreasing"):
        revalue(make_scenarios(2, steps=2), [Underlying()], elapsed_days=[2, 1])


def test_options_that_expire_settle_at_the_spot_of_the_first_step_after():
    ds = make_scenarios(50, steps=3, seed=9, volatility=0.6)
    call = Option("call", strike=100, expiry="2024-01-11")  # the first step
    put = Option("put", strike=100, expiry="2024-01-14")  # a Sunday: settles on Monday, the third step
    out = revalue(ds, [call, put])
    spot = ds.spot.values
    for step in range(3):
        np.testing.assert_allclose(out.value[:, step, 0], np.maximum(spot[:, 0] - 100, 0), rtol=1e-15)
    np.testing.assert_allclose(out.value[:, 2, 1], np.maximum(100 - spot[:, 2], 0), rtol=1e-15)
    assert not np.allclose(out.value[:, 1, 1], np.maximum(100 - spot[:, 1], 0))
    assert np.all(np.isfinite(out.value))


def test_extrapolation_is_flagged():
    ds = make_scenarios(200, seed=2)
    weight = np.zeros(200)
    lowest = int(np.argmin(ds.spot.values[:, 0]))
    weight[lowest] = 1
    options = [
        Option("call", moneyness=1.0, tau=0.5),
        Option("call", moneyness=1.5, tau=0.5),
        Option("call", moneyness=1.3, tau=0.5),  # on the edge: off the grid where the spot falls
        Option("call", moneyness=1.0, tau=30.25 / 365),  # shorter than the grid a day later
        Option("call", moneyness=1.0, tau=1.2),
    ]
    out = revalue(ds, [Underlying(), *options])
    assert list(out.extrapolated.values) == [False, False, True, True, True, True]
    down = np.mean(ds.spot.values < 100)
    np.testing.assert_allclose(out.extrapolated_weight[0], [0, 0, 1, down, 1, 1], atol=1e-12)
    only = ds.assign(weight=("scenario", weight))
    assert revalue(only, [options[2]]).extrapolated_weight.item() == pytest.approx(1)


def test_the_weight_off_the_grid_is_on_both_sides_of_it():
    """A call low on the grid leaves it where the spot rises, and one high on it where the spot falls."""
    ds = make_scenarios(300, seed=4)
    weight = np.random.default_rng(0).dirichlet(np.ones(300))
    ds = ds.assign(weight=("scenario", weight))
    low, high = ds.moneyness.values[[0, -1]]
    options = [Option("put", moneyness=low * 1.002, tau=0.5), Option("call", moneyness=high * 0.998, tau=0.5)]
    out = revalue(ds, options)
    at = out.strike.values / ds.spot.values[:, :1]  # rates are zero
    outside = (at < low) | (at > high)
    np.testing.assert_allclose(out.extrapolated_weight[0], weight @ outside, rtol=1e-9)
    assert np.all((weight @ outside > 0.1) & (weight @ outside < 0.9))


def test_curves_beyond_the_grid_are_those_of_regridded_surfaces():
    """An option, a forward and their greeks are the same on the same surface on a grid that reaches further."""
    ds = make_scenarios(50, seed=4)
    tau, spot = ds.tau.values, float(ds.spot0)
    kinked = np.r_[0.03 * tau[:-1], 0.03 * tau[-2] - 0.05 * (tau[-1] - tau[-2])]  # carry turns in the last segment
    ds = ds.assign(
        forward0=("tau", spot * np.exp(kinked)), discount_factor0=("tau", np.exp(-0.02 * tau - 0.01 * tau**2))
    )
    far = regrid(ds, tau=np.r_[tau, 1.7 * tau[-1]])
    held = [Option("call", strike=1.05 * spot, tau=1.5 * tau[-1]), Forward(strike=spot, tau=1.6 * tau[-1])]
    held += [Option("put", delta=-0.3, tau=1.7 * tau[-1])]
    near, further = (revalue(x, held, greeks=True) for x in (ds, far))
    for name in ("value0", "delta", "gamma", "vega", "theta", "value", "scenario_delta", "strike"):
        np.testing.assert_allclose(near[name], further[name], rtol=1e-9, atol=1e-12, err_msg=name)
    # The forward by hand: the last segment's carry goes on.
    forward = spot * np.exp(kinked[-1] - 0.05 * 0.6 * tau[-1])
    discount = np.exp((-0.02 - 0.01 * tau[-1]) * 1.6 * tau[-1])
    assert float(near.value0[1]) == pytest.approx(discount * (forward - spot), rel=1e-12)


def test_volatility_floor_is_counted_and_warned_about():
    surface0 = np.full((4, 7), 0.3)
    moved = np.full((4, 1, 4, 7), 0.3)
    moved[:2] = 0.2
    ds = make_scenarios(4, surface0=surface0, implied_vol=moved, log_return=np.zeros((4, 1)))
    low = Option("call", strike=100, tau=0.5, implied_vol=0.05)
    with pytest.warns(RevaluationWarning, match=r"call K=100 182.5d \(2\)") as record:
        out = revalue(ds, [Underlying(), low], elapsed_days=0)
    assert record[0].filename == __file__
    np.testing.assert_array_equal(out.vol_floored, [[0, 2]])
    expected = [black_price(100, 100, 0.5, VOL_FLOOR)] * 2 + [black_price(100, 100, 0.5, 0.05)] * 2
    np.testing.assert_allclose(out.value[:, 0, 1], expected, rtol=1e-10)


def test_threads_and_company_do_not_matter():
    ds = make_scenarios(300, steps=2, seed=8, rate=0.02)
    rng = np.random.default_rng(0)
    instruments = [Underlying()] + [
        Option(
            "call" if rng.random() < 0.5 else "put",
            moneyness=rng.uniform(0.8, 1.2),
            tau=rng.choice([0.1, 0.3, 0.5]),
        )
        for _ in range(30)
    ]
    whole = revalue(ds, instruments).value.values
    for i, instrument in enumerate(instruments[::7]):
        np.testing.assert_array_equal(revalue(ds, [instrument]).value.values[..., 0], whole[..., 7 * i])
    for threads in (1, 3):
        np.testing.assert_array_equal(revalue(ds, instruments, num_threads=threads).value.values, whole)
    with pytest.raises(InputError, match="num_threads"):
        revalue(ds, instruments, num_threads=0)


@pytest.mark.parametrize("rule", ["flat_vol", "flat_total_variance", "linear"])
def test_extrapolation_is_chosen_at_the_start_and_on_the_scenarios(rule):
    surface0 = skewed_surface()
    ds = make_scenarios(2, implied_vol=np.broadcast_to(surface0, (2, 1, 4, 7)), log_return=np.zeros((2, 1)))
    options = [
        Option("put", moneyness=0.5, tau=0.5),
        Option("call", moneyness=1.0, tau=2.0),
        Option("put", delta=-0.001, tau=1.4),
    ]
    out = revalue(ds, options, elapsed_days=0, extrapolation=rule)
    vol = interpolate_vol(surface0, TAU, MONEYNESS, [0.5, 2.0], [0.5, 1.0], extrapolation=rule)
    np.testing.assert_allclose(out.contract_vol[:2], vol, rtol=1e-14)
    np.testing.assert_allclose(out.value[:, 0], np.broadcast_to(out.value0, (2, 3)), rtol=1e-12)
    found = resolve(options[2], ds, extrapolation=rule)
    assert found.implied_vol == float(out.contract_vol[2])
    s = found.implied_vol * np.sqrt(1.4)
    assert norm.cdf(np.log(found.strike / 100) / s - s / 2) == pytest.approx(0.001, abs=1e-9)
    assert out.extrapolated.all()
    with pytest.raises(InputError, match="extrapolation"):
        revalue(ds, options, extrapolation="none")


def test_greeks_on_the_scenarios():
    ds = make_scenarios(30, steps=3, seed=5, rate=0.04, dividend=0.01)
    put, soon = Option("put", strike=98, tau=0.5, implied_vol=0.3), Option("call", strike=90, expiry="2024-01-11")
    out = revalue(ds, [Underlying(), put, soon], greeks=True)
    np.testing.assert_array_equal(out.value, revalue(ds, [Underlying(), put, soon]).value)
    np.testing.assert_array_equal(out.scenario_delta[..., 0], 1)
    np.testing.assert_array_equal(out.scenario_vega[..., [0, 2]], 0)
    np.testing.assert_array_equal(out.scenario_delta[:, 0, 2], ds.spot[:, 0] > 90)
    np.testing.assert_array_equal(out.scenario_delta[:, 1:, 2], 0)  # paid out
    for scenario, step in ((0, 0), (7, 1), (29, 2)):
        rest = 0.5 - float(out.elapsed_days[step]) / 365
        forward = float(ds.spot[scenario, step]) * np.exp(0.03 * rest)
        vol = ql.blackFormulaImpliedStdDev(
            ql.Option.Put, 98.0, forward, float(out.value[scenario, step, 1]), np.exp(-0.04 * rest), 0.0, 0.2, 1e-14
        )
        black = ql.BlackCalculator(ql.PlainVanillaPayoff(ql.Option.Put, 98.0), forward, vol, np.exp(-0.04 * rest))
        assert float(out.scenario_delta[scenario, step, 1]) == pytest.approx(
            black.delta(float(ds.spot[scenario, step])), rel=1e-8
        )
        assert float(out.scenario_vega[scenario, step, 1]) == pytest.approx(black.vega(rest), rel=1e-8)


def test_a_delta_that_no_strike_has():
    steep = np.broadcast_to(np.linspace(0.2, 6.0, 7), (4, 7))
    ds = make_scenarios(2, surface0=steep, implied_vol=np.broadcast_to(steep, (2, 1, 4, 7)))
    with pytest.raises(InputError, match="no strike has the delta"):
        resolve(Option("call", delta=0.01, tau=1.0), ds, extrapolation="linear")
    assert resolve(Option("call", delta=0.01, tau=1.0), ds).strike > 100


def test_single_precision_and_lazy_cubes():
    ds = make_scenarios(64, steps=2, seed=1)
    option = Option("put", moneyness=0.95, tau=0.25)
    exact = revalue(ds, [option]).value
    single = ds.assign(implied_vol=ds.implied_vol.astype("float32"))
    np.testing.assert_allclose(revalue(single, [option]).value, exact, rtol=1e-5)
    lazy = ds.chunk(scenario=16)
    lazy["weight"] = lazy["weight"].chunk(scenario=-1)  # as generate() makes it: chunks differ between variables
    np.testing.assert_array_equal(revalue(lazy, [option]).value, exact)
    assert resolve(option, lazy) == resolve(option, ds)


def test_result_is_labelled():
    ds = make_scenarios(5, steps=2)
    option = Option("put", moneyness=0.95, tau=0.25)
    out = revalue(ds, [Underlying(), option, option])
    assert list(out.instrument.values) == ["underlying", "put K/F=0.95 91.25d", "put K/F=0.95 91.25d #2"]
    assert dict(out.sizes) == {"scenario": 5, "step": 2, "instrument": 3}
    assert np.isnan(out.strike[0])
    assert float(out.strike[1]) == pytest.approx(95)
    assert out.as_of == ds.as_of
    assert float(out.delta[0]) == 1
    assert float(out.vega[0]) == 0
    np.testing.assert_array_equal(out.value[..., 0], ds.spot)


def test_bad_datasets():
    import xarray as xr

    ds = make_scenarios(5)
    two = xr.concat(
        [ds, make_scenarios(5, as_of="2024-01-11")],
        dim="as_of",
        data_vars="all",
        coords="minimal",
        compat="override",
        join="exact",
    )
    with pytest.raises(InputError, match=r"isel\(as_of=0\)"):
        revalue(two, [Underlying()])
    with pytest.raises(InputError, match="instruments is empty"):
        revalue(ds, [])
    with pytest.raises(InputError, match=r"volscen\.Option"):
        revalue(ds, ["underlying"])
    undated = ds.drop_vars("as_of")
    with pytest.raises(InputError, match="no coordinate as_of"):
        revalue(undated, [Option("call", strike=1, expiry="2030-01-01")], elapsed_days=1)
    with pytest.raises(InputError, match="no coordinate as_of"):
        revalue(undated, [Underlying()])


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"moneyness": 105, "tau": 0.25}, "moneyness is the strike over the forward, 1 at the money, not 105"),
        ({"strike_over_spot": 95, "tau": 0.25}, "strike_over_spot is the strike over the spot"),
        ({"moneyness": 1.0, "tau": 91}, "tau is in years, and 91 look like days: give 0.2493, or a tenor: '91D'"),
    ],
)
def test_other_units_are_refused(terms: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Option("call", **terms)


def test_a_tenor_bears_its_unit() -> None:
    assert Option("call", moneyness=1.0, tau="40Y").tau == 40


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ""])
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"quantity": [1.0, 2.0]},
            "have no quantity: a hedge finds how much of each to hold; drop the column, or give",
        ),
        ({"group": ["a", "b"]}, "have no group: a hedge"),
        ({"quantity": [1.0, 1.0], "group": ["a", "b"]}, "have no quantity and no group: .* drop the columns, or"),
        ({"limit": [1.0, 2.0]}, r"unknown columns limit; the table may have type, (?!quantity)"),
    ],
)
def test_instruments_to_hedge_with_have_no_quantities(tmp_path, columns, message, suffix):
    frame = pd.DataFrame({"type": ["underlying", "call"], "moneyness": [np.nan, 1.0], "tau": [np.nan, 0.25]})
    wrong = frame.assign(**columns)
    table = wrong if not suffix else tmp_path / f"i{suffix}"
    if suffix == ".csv":
        wrong.to_csv(table, index=False)
    elif suffix:
        wrong.to_parquet(table)
    with pytest.raises(InputError, match=message):
        instruments_from_table(table)
    assert len(instruments_from_table(frame)) == 2

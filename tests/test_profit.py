"""Profit and loss by line, and what explains it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenario_toys import make_scenarios, skewed_surface
from volscen import Cash, Forward, Option, Portfolio, Underlying, VarianceSwap, VixPayoff, risk
from volscen.errors import InputError
from volscen.portfolio import RevaluationWarning, explain, pnl, revalue

BOOK = Portfolio(
    [
        (Option("call", strike=104, tau=0.3, implied_vol=0.25), -3),
        (Option("put", moneyness=0.9, tau=0.7), 5),
        (Forward(strike=100, tau=0.5), 2),
        (Cash(), 100),
        (VarianceSwap(tau=0.4), 50),
        (VixPayoff(), 0.2),
        (Underlying(), -1),
        (Option("put", strike=98, expiry="2024-01-11"), 4),  # expires on the first step
    ],
    ["a", "b", "a", "b", "c", "c", "a", "b"],
)


def test_profit_is_quantity_times_change_in_value():
    ds = make_scenarios(150, steps=3, seed=1, rate=0.03)
    out = pnl(ds, BOOK)
    values = revalue(ds, BOOK.instruments)
    quantity = np.array(BOOK.quantities)
    np.testing.assert_allclose(out.pnl, quantity * (values.value.values - values.value0.values), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(out.pnl.sum("line"), out.total, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(pnl(ds, BOOK, lines=False).total, out.total, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(out.value0, quantity * values.value0.values)
    assert list(out.group.values) == list(BOOK.groups)
    assert list(out.line.values) == list(values.instrument.values)
    assert "pnl" not in pnl(ds, BOOK, lines=False)
    far = [Option("put", strike=60, tau=0.3), Option("put", strike=99, tau=0.3)]
    assert pnl(ds, far).extrapolated.values.tolist() == [True, False]


def test_profit_counts_bounded_volatilities():
    moved = np.full((4, 2, 4, 7), 0.3)
    moved[:2] = 0.2
    ds = make_scenarios(4, steps=2, surface0=np.full((4, 7), 0.3), implied_vol=moved, log_return=np.zeros((4, 2)))
    for lines in (True, False):
        with pytest.warns(RevaluationWarning, match=r"\(4\)") as record:
            pnl(ds, Option("call", strike=100, tau=0.5, implied_vol=0.05), lines=lines)
        assert record[0].filename == __file__


def test_explained_by_hand():
    """One option, one scenario: every component from its own formula, with QuantLib's greeks tested elsewhere."""
    surface0 = np.full((4, 7), 0.2)
    ds = make_scenarios(
        1, surface0=surface0, implied_vol=np.full((1, 1, 4, 7), 0.23), log_return=np.full((1, 1), np.log(0.98))
    )
    option = Option("put", strike=97, tau=0.4)
    start = revalue(ds, [option]).isel(instrument=0)
    out = explain(ds, [(option, -10)], second_order=True, elapsed_days=3)
    profit = -10 * (revalue(ds, [option], elapsed_days=3).value.item() - float(start.value0))
    expected = {
        "delta": -10 * float(start.delta) * -2,
        "gamma": -10 * float(start.gamma) * 4 / 2,
        "vega": -10 * float(start.vega) * 0.03,
        "vanna": -10 * float(start.vanna) * -2 * 0.03,
        "volga": -10 * float(start.volga) * 0.03**2 / 2,
        "theta": -10 * float(start.theta) * 3 / 365,
    }
    for name, value in expected.items():
        assert float(out.explained.sel(component=name)[0]) == pytest.approx(value, rel=1e-9), name
    rest = profit - sum(expected.values())
    assert float(out.explained.sel(component="residual")[0]) == pytest.approx(rest, abs=1e-12)
    assert abs(rest) < 0.02 * abs(profit)
    assert float(out.book_vega) == -10 * float(start.vega)


@settings(max_examples=15)
@given(seed=st.integers(0, 99), second_order=st.booleans(), step=st.integers(1, 3), split=st.booleans())
def test_components_sum_to_the_profit(seed, second_order, step, split):
    ds = make_scenarios(60, steps=3, seed=seed, rate=0.03)
    tenors = [0.1, 0.4] if split else None
    out = explain(ds, BOOK, step=step, tenors=tenors, second_order=second_order)
    expected = pnl(ds, BOOK).total.sel(step=step)
    np.testing.assert_allclose(out.pnl, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(out.explained.sum("component"), out.pnl, rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose(out["mean"].sum(), out.weight @ out.pnl, rtol=1e-9, atol=1e-10)
    shortfall = risk.expected_shortfall(out.pnl.values, out.weight.values)
    assert -float(out.tail_mean.sum()) == pytest.approx(float(shortfall), rel=1e-9)


def test_vega_by_tenor_sums_to_vega():
    ds = make_scenarios(50, seed=4)
    whole = explain(ds, BOOK)
    parts = explain(ds, BOOK, tenors=["30D", 0.3])
    names = ["vega to 30d", "vega to 109.5d", "vega beyond 109.5d"]
    assert list(parts.component.values) == ["delta", "gamma", *names, "theta", "residual"]
    np.testing.assert_allclose(
        parts.explained.sel(component=names).sum("component"), whole.explained.sel(component="vega"), rtol=1e-10
    )
    only = Portfolio([position for position in BOOK.positions if position[0] == BOOK.instruments[0]])  # .3 years
    alone = explain(ds, only).explained.sel(component="vega")
    np.testing.assert_allclose(parts.explained.sel(component=names[1]), alone, rtol=1e-10)
    index = explain(ds, VixPayoff(), tenors=[0.05])  # its volatility is of 30 days
    assert float(abs(index.explained.sel(component="vega to 18.25d")).max()) == 0


def test_weights_enter_the_summary():
    weight = np.random.default_rng(0).random(80)
    ds = make_scenarios(80, seed=4, weight=weight / weight.sum())
    out = explain(ds, BOOK, alpha=0.1)
    w = ds.weight.values
    values = out.explained.values
    np.testing.assert_allclose(out["mean"], values @ w)
    np.testing.assert_allclose(out["std"], np.sqrt((values - (values @ w)[:, None]) ** 2 @ w))
    residual, profit = out.explained.sel(component="residual").values, out.pnl.values
    variance = [w @ (x - w @ x) ** 2 for x in (residual, profit)]
    assert float(out.r_squared) == pytest.approx(1 - variance[0] / variance[1])


def test_second_order_explains_more():
    ds = make_scenarios(2000, seed=8)
    short = Portfolio.risk_reversal(0.9, 1.05, tau=0.25)
    first, second = explain(ds, short), explain(ds, short, second_order=True)
    assert first.r_squared > 0.99
    assert 1 - float(second.r_squared) < 0.3 * (1 - float(first.r_squared))


def test_nothing_moves_nothing_to_explain():
    still = make_scenarios(
        3,
        surface0=skewed_surface(),
        implied_vol=np.broadcast_to(skewed_surface(), (3, 1, 4, 7)),
        log_return=np.zeros((3, 1)),
    )
    out = explain(still, Cash())
    assert "r_squared" not in out
    assert float(abs(out.explained).max()) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 4}, "step 4 is not one of"),
        ({"tenors": [0.5, 0.1]}, "tenors must increase"),
        ({"tenors": ["soon"]}, "tenors such as"),
        ({"tenors": []}, "tenors must be positive"),
        ({"tenors": [np.nan]}, "tenors must be positive"),
        ({"tenors": {"a": 1}}, "tenors must be numbers"),
        ({"alpha": 0}, "alpha"),
        ({"alpha": [0.1, 0.2]}, "alpha must be one number"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(InputError, match=message):
        explain(make_scenarios(5, steps=3), BOOK, **options)
    with pytest.raises(InputError, match="quantity of underlying must be finite"):
        pnl(make_scenarios(5), [(Underlying(), np.nan)])

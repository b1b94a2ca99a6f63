"""Stress scenarios: replays and shocks by hand, reverse stresses against closed forms and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, norm

import volscen
from chain_makers import DATE, make_chain
from scenario_toys import AS_OF, MONEYNESS, TAU, make_scenarios, skewed_surface
from volscen import Option, Portfolio, Underlying, VarianceSwap, risk, stress
from volscen.errors import InputError
from volscen.portfolio import pnl
from volscen.surface import interpolate_vol


def make_history(n: int = 40, *, tau=TAU, moneyness=MONEYNESS, seed: int = 0) -> xr.Dataset:
    """Surfaces exp(a + b ln m + c tau) whose logarithms are linear in both coordinates, daily from 2008-09-01."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=(3, n, 1, 1)).cumsum(axis=1) * np.array([0.05, 0.05, 0.02])[:, None, None, None]
    vol = 0.2 * np.exp(a + b * np.log(moneyness) + c * np.asarray(tau)[:, None])
    dates = np.busday_offset("2008-09-01", np.arange(n))
    return volscen.make_history(dates, tau, moneyness, vol, spot=100 * np.exp(rng.normal(size=n).cumsum() * 0.01))


CUBE = make_scenarios(4, rate=0.03, dividend=0.01)


# --------------------------------------------------------------------------------------------------- replays
def test_replay_by_hand():
    history = make_history()
    ds = stress.replay(CUBE, history, {"fall": ("2008-09-12", "2008-10-10"), "day": ("2008-09-15", "2008-09-16")})
    day = {str(d)[:10]: i for i, d in enumerate(history.date.values.astype("datetime64[D]"))}
    for i, (first, last) in enumerate((("2008-09-12", "2008-10-10"), ("2008-09-15", "2008-09-16"))):
        old, new = history.isel(date=day[first]), history.isel(date=day[last])
        assert float(ds.log_return[i, 0]) == pytest.approx(float(np.log(new.spot / old.spot)), rel=1e-12)
        ratio = new.implied_vol.values / old.implied_vol.values
        np.testing.assert_allclose(ds.implied_vol[i, 0], CUBE.implied_vol0.values * ratio, rtol=1e-12)
    assert ds.name.values.tolist() == ["fall", "day"]
    np.testing.assert_array_equal(ds.weight, 0.5)
    np.testing.assert_array_equal(ds.forward0, CUBE.forward0)
    np.testing.assert_allclose(
        ds.arbitrage_penalty[:, 0], volscen.arbitrage.penalty(ds.implied_vol.values[:, 0], TAU, MONEYNESS)
    )
    assert str(ds.as_of.values)[:10] == AS_OF
    assert ds.attrs["extrapolated_cells"] == 0


def test_replay_between_grids():
    """Log surfaces linear in tau and log-moneyness are interpolated exactly; flat outside."""
    inner = make_history(tau=np.array([60, 365]) / 365, moneyness=np.array([0.7, 0.8, 1.25]))
    full = make_history()  # the same factors on the start's own grid
    window = {"w": ("2008-09-05", "2008-09-25")}
    fine, coarse = stress.replay(CUBE, full, window), stress.replay(CUBE, inner, window)
    expected = np.log(fine.implied_vol / fine.implied_vol0).values[0, 0]
    found = np.log(coarse.implied_vol / coarse.implied_vol0).values[0, 0]
    np.testing.assert_allclose(found[1:, :-1], expected[1:, :-1], atol=1e-12)
    at_60 = expected[0, 0] + (expected[1, 0] - expected[0, 0]) * (60 - 30) / (91 - 30)
    assert found[0, 0] == pytest.approx(at_60, abs=1e-12)  # 30 days takes what 60 days did
    assert found[-1, -1] != pytest.approx(expected[-1, -1], abs=1e-6)
    assert coarse.attrs["extrapolated_cells"] == pytest.approx(1 - 3 * 6 / 28)


def test_replayed_paths():
    history = make_history()
    ds = stress.replay(CUBE, history, {"w": ("2008-09-12", "2008-09-22")}, horizon=3)  # six days of moves
    assert dict(ds.sizes) == {"scenario": 4, "step": 3, "tau": 4, "moneyness": 7}
    assert ds.name.values.tolist()[0] == "w 2008-09-17"
    row = int(np.flatnonzero(history.date.values.astype("datetime64[D]") == np.datetime64("2008-09-12"))[0])
    np.testing.assert_allclose(ds.log_return[1], history.log_return.values[row + 2 : row + 5], rtol=1e-9)
    ratio = history.implied_vol.values[row + 4] / history.implied_vol.values[row + 1]
    np.testing.assert_allclose(ds.implied_vol[1, 2], CUBE.implied_vol0.values * ratio, rtol=1e-12)
    one = stress.replay(
        CUBE, history, {"w": ("2008-09-12", "2008-09-22"), "x": ("2008-09-22", "2008-09-23")}, horizon=1
    )
    weighted = stress.replay(
        CUBE,
        history,
        {"w": ("2008-09-12", "2008-09-22"), "x": ("2008-09-22", "2008-09-23")},
        horizon=1,
        weight={"x": 0.7, "w": 0.3},
    )
    np.testing.assert_allclose(weighted.weight, [0.05] * 6 + [0.7])
    np.testing.assert_array_equal(weighted.implied_vol, one.implied_vol)
    assert weighted.window.values.tolist() == ["w"] * 6 + ["x"]


def test_replays_on_other_starts():
    history = make_history()
    window = {"w": ("2008-09-12", "2008-09-22")}
    at = stress.replay(history, history, window, as_of="2008-09-30")
    state = history.sel(date="2008-09-30")
    assert float(at.spot0) == float(state.spot)
    np.testing.assert_array_equal(at.implied_vol0, state.implied_vol)
    np.testing.assert_array_equal(at.forward0, float(state.spot))
    last = stress.replay(history, history, window)
    np.testing.assert_array_equal(last.implied_vol0, history.implied_vol[-1])
    chain_free = volscen.datasets.sample_history()
    simulated = stress.replay(chain_free, chain_free, {"w": tuple(chain_free.date.values[[10, 20]])}, project=True)
    assert float(simulated.arbitrage_penalty.max()) == 0
    assert "arbitrage_penalty_raw" in simulated


def test_default_windows_are_those_contained():
    long = make_history(n=60)
    ds = stress.replay(CUBE, long)
    assert ds.name.values.tolist() == ["2008 Lehman"]
    with pytest.raises(InputError, match="contains no window"):
        stress.replay(CUBE, make_history(n=5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"windows": {"w": ("1999-01-01", "1999-02-01")}}, "not in the history"),
        ({"windows": {"w": "2008"}}, "first date, last date"),
        ({"windows": {"w": ("2008-09-13", "2008-09-14")}}, "fewer than two dates"),
        ({"windows": {"w": ("2008-09-22", "2008-09-12")}}, "fewer than two dates"),
        ({"windows": {"w": ("2008-09-12", "soon")}}, "must be a date"),
        ({"windows": {}}, "mapping"),
        ({"windows": ["w"]}, "mapping"),
        ({"horizon": 0}, "horizon"),
        ({"horizon": 100}, "fewer than the horizon"),
        ({"weight": {"x": 1.0}}, "weight must name"),
        ({"weight": {"w": "x"}}, "weight must map"),
        ({"weight": {"w": 0.5}}, "sum to 1"),
        ({"weight": [0.5, 0.5]}, "1 entries"),
        ({"project": 1}, "project"),
        ({"as_of": "2008-09-12"}, "as_of"),
    ],
)
def test_bad_replays(options, message):
    arguments = {"windows": {"w": ("2008-09-12", "2008-09-22")}} | options
    with pytest.raises(InputError, match=message):
        stress.replay(CUBE, make_history(), **arguments)


# ---------------------------------------------------------------------------------------------------- shocks
def vol_at_call_delta(surface, tau, target):
    """Volatility where a call's forward delta on the starting surface is the target, by a fine search in K/F."""
    m = np.exp(np.linspace(-0.35, 0.25, 200_001))
    vol = interpolate_vol(skewed_surface(), TAU, MONEYNESS, tau, m)
    s = vol * np.sqrt(tau)
    i = np.argmin(np.abs(norm.cdf(-np.log(m) / s + s / 2) - target))
    return float(interpolate_vol(surface, TAU, MONEYNESS, tau, m[i]))


def test_level_and_term():
    ds = stress.shock(CUBE, level=[0.0, 0.05], log_return=-0.1)
    move = ds.implied_vol.values[:, 0] - CUBE.implied_vol0.values
    np.testing.assert_allclose(move, np.broadcast_to(np.array([0, 0.05])[:, None, None], move.shape), atol=1e-15)
    np.testing.assert_allclose(ds.spot, 100 * np.exp(-0.1))
    assert ds.name.values.tolist() == ["shock 1", "shock 2"]
    term = stress.shock(CUBE, term=0.04).implied_vol.values[0, 0] - CUBE.implied_vol0.values
    np.testing.assert_allclose(term[0] - term[-1], 0.04, rtol=1e-12)  # 30 days less 365
    np.testing.assert_allclose(term[0], 0.02, rtol=1e-12)
    share = stress.shock(CUBE, level=0.5, relative=True).implied_vol.values[0, 0] / CUBE.implied_vol0.values
    np.testing.assert_allclose(share, 1.5)


def test_skew_and_curvature_are_those_of_25_deltas():
    """On a grid fine in moneyness, so that interpolating the shocked surface adds nothing."""
    fine = np.exp(np.linspace(-0.3, 0.25, 200))
    history = volscen.make_history(
        ["2024-01-09", "2024-01-10"], TAU, fine, np.full((2, 4, 200), 0.2), spot=[100.0, 100.0]
    )
    for name, size in (("skew", 0.03), ("curvature", 0.02), ("level", 0.01)):
        ds = stress.shock(history, **{name: size})
        for j, tau in enumerate(TAU[:3]):
            s = 0.2 * np.sqrt(tau)
            at = {d: np.exp(s * s / 2 - norm.ppf(d) * s) for d in (0.25, 0.5, 0.75)}
            call, mid, put = (
                float(np.interp(np.log(m), np.log(fine), ds.implied_vol.values[0, 0, j])) - 0.2 for m in at.values()
            )
            expected = {"skew": (size, 0, 0), "curvature": (0, size, 0), "level": (0, 0, size)}[name]
            found = (put - call, (put + call) / 2 - mid, mid)
            np.testing.assert_allclose(found, expected, atol=2e-5)


def test_sizes_by_tenor():
    ds = stress.shock(CUBE, level={"3M": 0.01, 30 / 365: 0.05}, skew={1.0: 0.02})
    d = norm.cdf(
        -np.log(MONEYNESS) / (skewed_surface() * np.sqrt(TAU)[:, None]) + skewed_surface() * np.sqrt(TAU)[:, None] / 2
    )
    move = ds.implied_vol.values[0, 0] - CUBE.implied_vol0.values - 0.02 * (d - 0.5) / 0.5
    expected = np.interp(np.log(TAU), np.log([30 / 365, 0.25]), [0.05, 0.01])
    np.testing.assert_allclose(move, np.broadcast_to(expected[:, None], (4, 7)), atol=1e-12)


def test_localised_shock():
    move = stress.shock(CUBE, level=0.03, tau=91 / 365, delta=-0.5).implied_vol.values[0, 0] - CUBE.implied_vol0.values
    assert move.max() <= 0.03
    assert np.unravel_index(move.argmax(), move.shape) == (1, 3)  # 91 days, at the money
    s = skewed_surface() * np.sqrt(TAU)[:, None]
    d = norm.cdf(-np.log(MONEYNESS) / s + s / 2)
    expected = (
        0.03 * np.exp(-(np.log(TAU / (91 / 365))[:, None] ** 2) / (2 * 0.7**2)) * np.exp(-((d - 0.5) ** 2) / 0.045)
    )
    np.testing.assert_allclose(move, expected, atol=1e-12)
    call = stress.shock(CUBE, level=0.03, delta=0.25).implied_vol.values
    np.testing.assert_allclose(stress.shock(CUBE, level=0.03, delta=-0.75).implied_vol, call, rtol=1e-14)


def test_penalty_and_projection():
    wild = stress.shock(CUBE, level=0.5, tau=30 / 365, tau_width=0.1)  # the front above the back
    assert float(wild.arbitrage_penalty[0, 0]) > 0.05
    tame = stress.shock(CUBE, level=0.5, tau=30 / 365, tau_width=0.1, project=True)
    assert float(tame.arbitrage_penalty[0, 0]) == 0
    np.testing.assert_array_equal(tame.arbitrage_penalty_raw, wild.arbitrage_penalty)
    assert tame.attrs["projected"] == 1


def test_stresses_go_through_everything():
    ds = stress.combine(
        stress.shock(CUBE, log_return=np.linspace(-0.1, 0.1, 9), level=np.linspace(0.08, -0.03, 9), name="ladder"),
        stress.replay(CUBE, make_history(), {"w": ("2008-09-12", "2008-10-10")}),
        weight=[0.05] * 9 + [0.55],
    )
    assert ds.name.values.tolist()[-2:] == ["ladder 9", "w"]
    book = Portfolio.straddle(moneyness=1, tau=0.25)
    profit = pnl(ds, book)
    assert volscen.risk.tail(ds, profit, alpha=0.5).name.dims == ("rank",)
    assert float(risk.contributions(profit).component_es.sum()) == pytest.approx(
        float(risk.expected_shortfall(profit.total.values[:, 0], ds.weight.values))
    )
    assert volscen.hedge(ds, book, [Underlying()], method="delta").ratio.dims == ("instrument",)


def test_written_and_read(tmp_path):
    ds = stress.shock(CUBE, level=[0.01, 0.02], name=["one", "two"])
    again = volscen.read(volscen.write(ds, tmp_path / "stress.nc"))
    assert again.name.values.tolist() == ["one", "two"]
    assert again.equals(ds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": np.nan}, "level must be a finite"),
        ({"level": "up"}, "level must be numbers"),
        ({"level": [0.1, 0.2], "skew": [0.1, 0.2, 0.3]}, "lists of one length"),
        ({"level": []}, "level must be a finite"),
        ({"level": {}}, "empty mapping"),
        ({"level": {0.0: 0.1}}, "tenors of level must be positive"),
        ({"term": {0.5: 0.1}}, "term must be a number"),
        ({"level": -0.3}, "no positive volatility"),
        ({"level": -1.0, "relative": True}, "no positive volatility"),
        ({"log_return": np.inf}, "log_return"),
        ({"log_return": 1e4}, r"takes the spot to 9\.89e\+42 times"),
        ({"tau": 0}, "tau"),
        ({"tau": "soon"}, "tenors such as"),
        ({"delta": 25}, "delta"),
        ({"delta_width": 0}, "delta_width"),
        ({"delta_width": "x"}, "delta_width"),
        ({"name": 5}, "name must be one text"),
        ({"level": {"1Y": 0.1, 1.0: 0.2}}, "level gives a tenor twice"),
        ({"tau_width": np.nan}, "tau_width"),
        ({"name": ["a", "b"]}, "name must be one text"),
        ({"relative": 1}, "relative"),
        ({"weight": [0.5]}, "sum to 1"),
        ({"as_of": "2024-01-10"}, "as_of"),
    ],
)
def test_bad_shocks(options, message):
    with pytest.raises(InputError, match=message), np.errstate(over="ignore"):
        stress.shock(CUBE, **options)


def test_bad_starts_and_combinations():
    for bad in (None, volscen.hedge(make_scenarios(50), Option("call", strike=100, tau=0.5), [Underlying()])):
        with pytest.raises(InputError, match="start must be"):
            stress.shock(bad)
    with pytest.raises(InputError, match="at least one"):
        stress.combine()
    with pytest.raises(InputError, match="have names"):
        stress.combine(CUBE)
    one = stress.shock(CUBE)
    with pytest.raises(InputError, match="share their starting state"):
        stress.combine(one, stress.shock(make_scenarios(2, spot0=101.0)))
    with pytest.raises(InputError, match="share their starting state"):
        stress.combine(one, stress.replay(CUBE, make_history(), {"w": ("2008-09-12", "2008-09-22")}, horizon=2))


# -------------------------------------------------------------------------------------------- reverse stress
def factors_of(ds, n_factors=3):
    """Return and principal-component scores with their weighted mean and covariance, by an independent route."""
    w = ds.weight.values
    moves = np.log(ds.implied_vol.values[:, -1] / ds.implied_vol0.values).reshape(len(w), -1)
    centre = w @ moves
    covariance = np.cov(moves.T, aweights=w, bias=True)
    vectors = np.linalg.eigh(covariance)[1]
    scores = (moves - centre) @ vectors[:, ::-1][:, :n_factors]
    x = np.column_stack([np.log(ds.spot.values[:, -1] / float(ds.spot0)), scores])
    return x, w @ x, np.cov(x.T, aweights=w, bias=True)


@settings(max_examples=6)
@given(seed=st.integers(0, 50), loss=st.floats(1.0, 6.0))
def test_reverse_of_a_linear_book_is_the_conditional_mean(seed, loss):
    """For the index alone: the return that loses it, and everything else where the regression on it says."""
    weight = np.random.default_rng(seed).dirichlet(np.ones(300))
    ds = make_scenarios(300, seed=seed, weight=weight)
    out = stress.reverse(ds, Underlying(), loss)
    x, mean, covariance = factors_of(ds)
    fall = np.log1p(-loss / 100)
    assert float(out.log_return[0, 0]) == pytest.approx(fall, rel=1e-5)
    slope = (fall - mean[0]) / covariance[0, 0]
    expected = slope * covariance[0] / np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(np.abs(out.score), np.abs(expected), atol=2e-4)
    distance = abs(fall - mean[0]) / np.sqrt(covariance[0, 0])
    assert float(out.distance) == pytest.approx(distance, rel=1e-4)
    assert float(out.tail_probability) == pytest.approx(chi2.sf(distance**2, 4), rel=1e-3)
    atm = np.log(ds.implied_vol.values[:, 0, 1, 3] / ds.implied_vol0.values[1, 3])
    w = ds.weight.values
    beta = (w * (x[:, 0] - mean[0])) @ atm / covariance[0, 0]
    assert float(np.log(out.implied_vol[0, 0, 1, 3] / out.implied_vol0[1, 3])) == pytest.approx(
        w @ atm + beta * (fall - mean[0]), abs=2e-3
    )


@pytest.mark.parametrize("density", ["gaussian", "kernel"])
def test_reverse_beats_brute_force(density):
    """A short strangle loses on both sides and by volatility: no random losing point is likelier."""
    ds = make_scenarios(600, seed=3)
    book = Portfolio.strangle(0.95, 1.05, tau=0.25, quantity=-10)
    loss = 25.0
    out = stress.reverse(ds, book, loss, density=density)
    assert float(out.profit) == pytest.approx(-loss, rel=1e-4)
    assert pnl(out, book).total.item() == pytest.approx(float(out.profit), rel=1e-12)
    x, mean, covariance = factors_of(ds)
    root = np.linalg.cholesky(covariance)
    rng = np.random.default_rng(0)
    u = rng.normal(size=(20_000, 4))
    u *= (rng.uniform(0.8, 1.4, size=20_000) * float(out.distance) / np.linalg.norm(u, axis=1))[:, None]
    found = np.linalg.solve(root, factors_of_scenario(out, ds) - mean)
    u[:10_000] = found + 0.1 * float(out.distance) * rng.normal(size=(10_000, 4))
    trial = mean + u @ root.T
    moves = np.log(ds.implied_vol.values[:, -1] / ds.implied_vol0.values).reshape(600, -1)
    centre = moves.mean(axis=0)
    vectors = np.linalg.eigh(np.cov(moves.T, bias=True))[1][:, ::-1][:, :3]
    surfaces = ds.implied_vol0.values * np.exp((centre + trial[:, 1:] @ vectors.T).reshape(-1, 4, 7))
    spots = 100 * np.exp(trial[:, :1])
    many = make_scenarios(20_000, log_return=trial[:, :1], implied_vol=surfaces[:, None])
    assert np.allclose(many.spot.values, spots)
    losing = pnl(many, book, lines=False).total.values[:, 0] <= -loss
    assert losing[:10_000].sum() > 1000
    assert losing[10_000:].sum() > 20
    if density == "gaussian":
        assert np.linalg.norm(u[losing], axis=1).min(initial=np.inf) >= float(out.distance) * (1 - 1e-3)
    else:
        points = np.linalg.solve(root, (x - mean).T).T
        width = 600 ** (-1 / 8)

        def value(p):
            return np.log(np.mean(np.exp(-np.sum((points - p) ** 2, axis=1) / (2 * width**2))))

        best = max(value(p) for p in u[losing][:600]) if losing.any() else -np.inf
        assert value(found) >= best - 1e-3
        assert float(out.log_density) == pytest.approx(value(found), abs=1e-4)


def factors_of_scenario(out, ds):
    moves = np.log(ds.implied_vol.values[:, -1] / ds.implied_vol0.values).reshape(ds.sizes["scenario"], -1)
    centre = moves.mean(axis=0)
    vectors = np.linalg.eigh(np.cov(moves.T, bias=True))[1][:, ::-1][:, :3]
    move = np.log(out.implied_vol.values[0, 0] / out.implied_vol0.values).ravel()
    return np.r_[float(out.log_return[0, 0]), (move - centre) @ vectors]


@pytest.mark.parametrize("density", ["gaussian", "kernel"])
def test_reverse_among_the_scenarios(density):
    ds = make_scenarios(500, steps=2, seed=5)
    book = Portfolio.risk_reversal(0.95, 1.05, tau=0.25, quantity=10)
    profit = pnl(ds, book).total.values[:, 1]
    loss = -np.quantile(profit, 0.02)
    out = stress.reverse(ds, book, loss, search="scenarios", density=density)
    x, mean, covariance = factors_of(ds)
    points = np.linalg.solve(np.linalg.cholesky(covariance), (x - mean).T).T
    if density == "gaussian":
        score = -np.sum(points**2, axis=1) / 2
    else:
        width = 500 ** (-1 / 8)
        gaps = np.sum((points[:, None] - points[None]) ** 2, axis=2)
        score = np.log(np.mean(np.exp(-gaps / (2 * width**2)), axis=1))
    best = np.argmax(np.where(profit <= -loss, score, -np.inf))
    np.testing.assert_array_equal(out.implied_vol[0, 0], ds.implied_vol[best, 1])
    assert float(out.profit) == pytest.approx(profit[best], rel=1e-12)
    assert out.step.values.tolist() == [2]
    assert float(out.log_density) == pytest.approx(score[best], rel=1e-9)


def test_reverse_with_steps_swaps_and_projection():
    ds = make_scenarios(300, steps=3, seed=5)
    book = Portfolio([(VarianceSwap(tau=0.25), -1000), (Option("put", strike=98, tau=0.3), -2)])
    out = stress.reverse(ds, book, 40.0, step=2, project=True)
    assert out.arbitrage_penalty.item() == 0
    assert out.attrs["elapsed_days"] == 2
    assert float(out.profit) == pytest.approx(-40, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": 0}, "loss must be"),
        ({"loss": np.nan}, "loss must be"),
        ({"loss": [1.0]}, "loss must be"),
        ({"loss": "x"}, "loss must be"),
        ({"loss": 1e6}, "largest loss"),
        ({"loss": 1e6, "search": "scenarios"}, "no scenario loses"),
        ({"density": "uniform"}, "density"),
        ({"search": "all"}, "search"),
        ({"n_factors": 0}, "n_factors"),
        ({"n_factors": 29}, "n_factors"),
        ({"n_factors": 20}, "independent ways"),
        ({"step": 7}, "step 7"),
    ],
)
def test_bad_reverse(options, message):
    arguments = {"loss": 1.0} | options
    with pytest.raises(InputError, match=message):
        stress.reverse(
            make_scenarios(50, seed=1), Option("call", strike=100, tau=0.2), arguments.pop("loss"), **arguments
        )


def test_a_long_option_cannot_lose_more_than_it_cost():
    ds = make_scenarios(200, seed=1)
    option = Option("put", strike=95, tau=0.1)
    cost = float(volscen.portfolio.revalue(ds, [option]).value0[0])
    with pytest.raises(InputError, match="largest loss found is"):
        stress.reverse(ds, option, cost * 1.01)


def test_a_surface_of_quotes_is_a_start():
    chain = volscen.Chain(make_chain(), DATE)
    surface = volscen.build_surface(chain, tau=[0.1, 0.25, 0.4], moneyness=[0.9, 1.0, 1.1])
    ds = stress.shock(surface, level=0.05)
    np.testing.assert_allclose(ds.implied_vol[0, 0], surface.implied_vol + 0.05, rtol=1e-12)
    np.testing.assert_array_equal(ds.forward0, surface.forward)
    np.testing.assert_array_equal(ds.discount_factor0, surface.discount_factor)
    assert float(ds.spot0) == float(surface.spot)
    assert ds.as_of.values == np.datetime64(DATE, "ns")
    assert pnl(ds, Option("call", moneyness=1, tau=0.3)).total.item() > 0
